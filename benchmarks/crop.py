"""Speed and memory of a crop in place, against copying the bytes that it writes.

python benchmarks/crop.py [--gb 4] [--side 2048] [--format hdf5] [--levels] [--folder DIR]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import memory
import npy2bdv

_BLOCK = 8 * 2**20


def copy(source: Path, target: Path, nbytes: int) -> float:
    """Copy so many bytes of a file or of the files of a folder; return the seconds, until they are on the disk."""
    files = [source] if source.is_file() else sorted(each for each in source.rglob("*") if each.is_file())
    start = time.perf_counter()
    left = nbytes
    with target.open("wb", buffering=0) as out:
        for path in files:
            with path.open("rb", buffering=0) as file:
                while left and (block := file.read(min(_BLOCK, left))):
                    out.write(block)
                    left -= len(block)
        os.fsync(out.fileno())
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Write a view, copy its bytes, crop it by a margin, and say what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=4)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--format", default="hdf5", choices=("hdf5", "n5", "omezarr"))
    parser.add_argument("--levels", action="store_true", help="with two lower levels")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(argv)
    depth = max(4, round(given.gb * 1e9 / (2 * given.side**2)))
    shape = (depth, given.side, given.side)
    levels = ((1, 1, 1), (1, 2, 2), (2, 4, 4)) if given.levels else ((1, 1, 1),)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "scan.xml"
        plane = np.random.default_rng(0).integers(0, 4000, shape[1:]).astype("uint16")
        with (
            npy2bdv.create(path, format=given.format, levels=levels, compression=None) as writer,
            writer.stream(setup=writer.add_setup(shape=shape)) as view,
        ):
            for z in range(depth):
                view.append(plane + np.uint16(z))
        with npy2bdv.open(path) as dataset:
            pixels = dataset.container.path
        margin = max(1, given.side // 50)
        with npy2bdv.edit(path) as editor:
            editor.crop(zyx=((1, -1), (margin, -margin), (margin, -margin)))
            nbytes = editor.preview().pixel_nbytes
            copied = copy(pixels, Path(folder) / "copy", nbytes)
            (Path(folder) / "copy").unlink()
            memory.reset_peak()
            before = memory.peak()
            start = time.perf_counter()
            editor.commit()
            cropped = time.perf_counter() - start
        taken = memory.peak() - before
        with npy2bdv.open(path) as dataset:
            assert (
                dataset.view()[5 % (depth - 2)][::97]
                == (plane + np.uint16(5 % (depth - 2) + 1))[margin:-margin, margin:-margin][::97]
            ).all()
    print(f"{given.format}, {len(levels)} levels, {shape} pixels, {nbytes / 1e9:.3g} GB written")
    print(f"copying these bytes {copied:.2f} s, {nbytes / copied / 1e6:.0f} MB/s")
    print(
        f"the crop            {cropped:.2f} s, {nbytes / cropped / 1e6:.0f} MB/s, {copied / cropped:.2f} of the copy"
    )
    print(f"memory              {taken / 1e6:.0f} MB more than before")


if __name__ == "__main__":
    main()
