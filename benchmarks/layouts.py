"""How many files a layout takes, and how many operations on them it takes us to write it, per GB of pixels.

python benchmarks/layouts.py [--planes 64] [--side 2048]

Nothing is timed. The operations are counted while Python does them (its audit events), the files afterwards.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import npy2bdv
import written
from jobs import CHUNK, LEVELS, ONE_LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs import Zyx

LAYOUTS: dict[str, dict[str, Any]] = {
    "HDF5": {"format": "hdf5"},
    "N5": {"format": "n5", "compression": None},
    "OME-Zarr v2": {"format": "omezarr", "zarr_version": 2, "compression": None},
    "OME-Zarr v3, sharded": {"format": "omezarr", "zarr_version": 3, "compression": None},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What writing one view took: what lies on the disk, and what was done."""

    files: int
    metadata_files: int
    folders: int
    operations: int
    """Files created, of which many get their name later, and files renamed; HDF5's own file is not seen."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--planes", type=int, default=64)
    parser.add_argument("--side", type=int, default=2048, help="pixels of a plane along y and x")
    options = parser.parse_args(argv)
    shape = (options.planes, options.side, options.side)
    gigabytes = 2 * options.planes * options.side**2 / 1e9
    operations: Counter[str] = Counter()
    sys.addaudithook(lambda event, arguments: count(operations, event, arguments))
    print(f"one stack of {' x '.join(map(str, shape))} pixels of 16 bits, uncompressed; per GB of pixels:\n")
    print(
        "| layout | blocks | levels | files | of these with metadata | folders | created and renamed on the way |"
    )
    print("|---" * 7 + "|")
    for name, settings in LAYOUTS.items():
        for chunks in (CHUNK, None):
            for levels in (ONE_LEVEL, LEVELS):
                spent = cost(shape, levels, {**settings, "chunks": chunks}, operations)
                counts = (spent.files, spent.metadata_files, spent.folders, spent.operations)
                blocks = "x".join(map(str, chunks)) if chunks else "default"
                figures = " | ".join(f"{value / gigabytes:.0f}" for value in counts)
                print(f"| {name} | {blocks} | {len(levels)} | {figures} |", flush=True)


def count(operations: Counter[str], event: str, arguments: tuple[Any, ...]) -> None:
    """Count an audit event if it makes or renames something."""
    if event == "os.rename":
        operations["rename"] += 1
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT:
        operations["create"] += 1


def cost(shape: Zyx, levels: tuple[Zyx, ...], settings: dict[str, Any], operations: Counter[str]) -> Cost:
    """Write a stack and count; zeros might be left out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        operations.clear()
        with npy2bdv.create(folder / "scan.xml", levels=levels, **settings) as writer:
            setup = writer.add_setup(shape=shape, dtype=np.uint16)
            writer.write(np.ones(shape, np.uint16), setup=setup)
        done = operations.copy()
        paths = list(folder.rglob("*"))
        files = [path for path in paths if path.is_file()]
        return Cost(
            files=len(files),
            metadata_files=sum(map(written.is_metadata, files)),
            folders=len(paths) - len(files),
            operations=done.total(),
        )


if __name__ == "__main__":
    main()
