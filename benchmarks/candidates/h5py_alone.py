"""h5py used plainly, as a script without a library would: one dataset per view, no levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py

from jobs import CHUNK, PIXEL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jobs import Job

PACKAGES = ("h5py", "numpy")


def cannot(job: Job) -> str | None:
    if len(job.levels) > 1:
        return "has no levels"
    if job.kind == "open_xml":
        return "knows no XML"
    return None


def cells(file: h5py.File, job: Job, time: int, setup: int) -> h5py.Dataset:
    name = f"t{time:05d}/s{setup:02d}/0/cells"
    chunk = tuple(map(min, CHUNK, job.shape))
    return file.create_dataset(name, job.shape, PIXEL, chunks=chunk, compression=job.compression)


def stacks(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    with h5py.File(folder / "h5py.h5", "w") as file:
        for time in range(job.count):
            cells(file, job, time, 0)[...] = job.stack(data, time)
            mark()


def planes(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    with h5py.File(folder / "h5py.h5", "w") as file:
        views = [cells(file, job, 0, setup) for setup in range(job.count)]
        for z, stream, frame in job.frames(data):
            views[stream][z] = frame
            mark()


def read_whole(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    with h5py.File(source / f"{job.source}.h5") as file:
        return file["t00000/s00/0/cells"][:]


def read_planes(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    with h5py.File(source / f"{job.source}.h5") as file:
        for z in job.planes_to_read():
            plane = file["t00000/s00/0/cells"][z]
            mark()
    return plane


def read_boxes(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    with h5py.File(source / f"{job.source}.h5") as file:
        for box in job.boxes_to_read():
            pixels = file["t00000/s00/0/cells"][box]
            mark()
    return pixels
