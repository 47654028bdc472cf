"""What a choice of format, compression and blocks costs and gives: speed, size, files, and how fast it is read.

python benchmarks/choices.py [--planes 64] [--side 1024] [--rounds 3]

A stream of camera-like planes (`data.camera`) is written with the levels that BigDataViewer proposes; then parts of the
full resolution are read, from the page cache of the system, each at several places.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import npy2bdv
from data import camera
from report import digits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

FORMATS: dict[str, dict[str, Any]] = {
    "HDF5": {"format": "hdf5"},
    "N5": {"format": "n5"},
    "OME-Zarr, Zarr v2": {"format": "omezarr", "zarr_version": 2},
    "OME-Zarr, Zarr v3": {"format": "omezarr", "zarr_version": 3},
}
CODECS: dict[str, tuple[Any, ...]] = {
    "HDF5": (None, "gzip", ("gzip", 4)),
    "N5": (None, "gzip", "zstd", "blosc"),
    "OME-Zarr, Zarr v2": (None, "gzip", "zstd", "blosc"),
    "OME-Zarr, Zarr v3": (None, "zstd", "blosc"),
}
BLOCKS = ((1, 512, 512), (4, 256, 256), (16, 128, 128), (64, 64, 64))
BLOCKS_OF = (("HDF5", "gzip"), ("OME-Zarr, Zarr v3", "zstd"))
PLACES = 4


@dataclass(slots=True, kw_only=True)
class Measured:
    """One choice, and what each round gave."""

    name: str
    compression: Any
    chunks: tuple[int, int, int] | None = None
    written: list[float] = field(default_factory=list)  # seconds
    read: dict[str, list[float]] = field(default_factory=dict)  # seconds for one of each
    nbytes: int = 0
    files: int = 0

    @property
    def label(self) -> str:
        """The first columns of the table."""
        codec = self.compression
        said = "none" if codec is None else codec if isinstance(codec, str) else f"{codec[0]} {codec[1]}"
        blocks = ", ".join(map(str, self.chunks)) if self.chunks else "default"
        return f"{self.name} | {said} | {blocks}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--planes", type=int, default=64)
    parser.add_argument("--side", type=int, default=1024, help="pixels of a plane along y and x")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    pixels = camera((options.planes, options.side, options.side))
    choices = [Measured(name=name, compression=codec) for name in FORMATS for codec in CODECS[name]]
    choices += [
        Measured(name=name, compression=codec, chunks=blocks)
        for name, codec in BLOCKS_OF
        for blocks in BLOCKS
    ]
    warnings.simplefilter("ignore")  # which programs lack a codec is not the question here
    for _ in range(options.rounds):
        for choice in choices:
            with tempfile.TemporaryDirectory(prefix="choices-", dir=".") as folder:
                measure(choice, pixels, Path(folder))
    print(table(choices, pixels.nbytes, options.rounds, pixels.shape))


def measure(choice: Measured, pixels: NDArray[np.uint16], folder: Path) -> None:
    """Write once, and read its parts."""
    home = folder / "written"
    home.mkdir()
    path = home / "scan.xml"
    given: dict[str, Any] = {} if choice.chunks is None else {"chunks": choice.chunks}
    begun = time.perf_counter()
    with npy2bdv.create(
        path, levels="auto", compression=choice.compression, **FORMATS[choice.name], **given
    ) as writer:
        setup = writer.add_setup(shape=pixels.shape, dtype=pixels.dtype, voxel_size_xyz=(0.4, 0.4, 1.0))
        with writer.stream(setup=setup) as view:
            for plane in pixels:
                view.append(plane)
    choice.written.append(time.perf_counter() - begun)
    files = [file for file in home.rglob("*") if file.is_file()]
    choice.nbytes, choice.files = sum(file.stat().st_size for file in files), len(files)
    for name, read in READING.items():
        home = home.rename(folder / name)  # chunks that tensorstore holds in memory are those of another path
        with npy2bdv.open(home / "scan.xml") as dataset:
            choice.read.setdefault(name, []).append(read(dataset.view(), pixels))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if hasattr(os, "sync"):
        os.sync()  # what is still to be written must not slow down the next


def places(size: int) -> list[int]:
    """Return places along an axis, further apart than blocks are long."""
    return [size * number // PLACES for number in range(PLACES)]


def everything(view: npy2bdv.View, pixels: NDArray[np.uint16]) -> float:
    """Return the seconds of reading all, and look whether it is right."""
    begun = time.perf_counter()
    found = view[:]
    seconds = time.perf_counter() - begun
    assert (found == pixels).all()
    return seconds


def parts(read: Callable[[npy2bdv.View, int], Any]) -> Callable[[npy2bdv.View, Any], float]:
    """Return what measures the seconds of one part, at several places."""

    def measured(view: npy2bdv.View, _: Any) -> float:
        begun = time.perf_counter()
        for number in range(PLACES):
            read(view, number)
        return (time.perf_counter() - begun) / PLACES

    return measured


READING: dict[str, Callable[[npy2bdv.View, Any], float]] = {
    "everything": everything,
    "plane": parts(lambda view, n: view[places(view.shape[0])[n]]),
    "section": parts(lambda view, n: view[:, places(view.shape[1])[n]]),
    "box": parts(lambda view, n: _box(view, *(places(size)[n] for size in view.shape[1:]))),
}


def _box(view: npy2bdv.View, y: int, x: int) -> Any:
    return view[:64, y : y + 64, x : x + 64]


def table(choices: Sequence[Measured], nbytes: int, rounds: int, shape: tuple[int, ...]) -> str:
    """Return the Markdown, medians over the rounds."""
    lines = [
        f"one stream of {' x '.join(map(str, shape))} pixels of 16 bits, {digits(nbytes / 1e6)} MB, {rounds} rounds, "
        f"{os.cpu_count()} processors, npy2bdv {npy2bdv.__version__}; medians:\n",
        "| format | compression | blocks | written, MB/s | size, of the pixels | files per GB | read, MB/s "
        "| a plane, ms | a section z, x, ms | a box of 64³, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for choice in choices:
        read = {name: statistics.median(seconds) for name, seconds in choice.read.items()}
        cells = [
            choice.label,
            digits(nbytes / 1e6 / statistics.median(choice.written)),
            f"{choice.nbytes / nbytes:.2f}",
            digits(choice.files / (nbytes / 1e9)),
            digits(nbytes / 1e6 / read["everything"]),
            *(digits(read[name] * 1e3) for name in ("plane", "section", "box")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
