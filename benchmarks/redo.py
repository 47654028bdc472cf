"""What it costs that a flush of HDF5 is whole or not there: HDF5 writes itself, through a file object, with the record.

python benchmarks/redo.py [--gb 2] [--side 2048] [--views 200] [--rounds 5] [--out DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

import npy2bdv
from data import camera
from npy2bdv.storage import flushes, hdf5

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

KINDS = ("HDF5 writes itself", "file object", "file object and record")


class _Itself:
    """In place of the file object: HDF5 writes as it likes, but for chunks that go past it anyway."""

    wrote_at = 0

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path

    def put_chunk(self, offset: int, data: Any) -> None:
        with self.path.open("r+b", buffering=0) as file:
            file.seek(offset)
            file.write(data)

    @contextlib.contextmanager
    def flushing(self, *, sync: bool = False) -> Iterator[None]:
        yield

    def check(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@contextlib.contextmanager
def written(kind: str) -> Iterator[None]:
    """Write HDF5 files so."""
    rooms: tuple[Any, Any] = flushes, hdf5  # whose names are put in place of others
    records, files = rooms
    before = records.write_redo, files.FlushedFile, files.open_file
    try:
        if kind == KINDS[0]:
            files.FlushedFile = _Itself
            files.open_file = lambda medium, mode: h5py.File(
                medium.path, mode, libver="earliest", locking=False, rdcc_nbytes=0
            )
        elif kind == KINDS[1]:
            records.write_redo = lambda redo, held, end: None
        yield
    finally:
        records.write_redo, files.FlushedFile, files.open_file = before


def stream(folder: Path, frames: NDArray[Any], planes: int) -> float:
    """Return bytes a second of one stack of uncompressed frames, with a checkpoint every 64 of them."""
    begun = time.perf_counter()
    with (
        npy2bdv.create(folder / "a.xml", overwrite=True, checkpoint_seconds=1e6) as writer,
        writer.stream(setup=writer.add_setup(shape=(planes, *frames.shape[1:]))) as view,
    ):
        for z in range(planes):
            view.append(frames[z % len(frames)])
            if z % 64 == 63:
                writer.checkpoint()
    return float(planes * frames[0].nbytes / (time.perf_counter() - begun))


def time_lapse(folder: Path, views: int) -> float:
    """Return seconds a view of many small ones, three levels each: each is declared, which flushes."""
    stack = np.ones((4, 64, 64), "uint16")
    levels = ((1, 1, 1), (1, 2, 2), (1, 4, 4))
    begun = time.perf_counter()
    with npy2bdv.create(folder / "a.xml", levels=levels, overwrite=True, checkpoint_seconds=1e6) as writer:
        setup = writer.add_setup(shape=stack.shape)
        for number in range(views):
            writer.write(stack, setup=setup, time=number)
    return (time.perf_counter() - begun) / views


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=2)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--views", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    frames = camera((8, options.side, options.side))
    planes = max(8, int(options.gb * 1e9 / frames[0].nbytes))
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        for turn in range(options.rounds):
            for kind in (*KINDS[turn % 3 :], *KINDS[: turn % 3]):  # none always comes first
                with written(kind):
                    speeds[kind].append(stream(Path(name), frames, planes))
                    seconds[kind].append(time_lapse(Path(name), options.views))
    for kind in KINDS:
        print(
            f"{kind:<24} stream {statistics.median(speeds[kind]) / 1e6:6.0f} MB/s"
            f"   a small view {statistics.median(seconds[kind]) * 1e3:6.2f} ms"
        )


if __name__ == "__main__":
    main()
