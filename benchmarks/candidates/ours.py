"""The npy2bdv of the environment that runs the benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import npy2bdv
from jobs import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from jobs import Job

PACKAGES = ("npy2bdv", "h5py", "numpy", "isal")
FORMATS: dict[str, dict[str, Any]] = {
    "hdf5": {},
    "n5": {"format": "n5", "chunks": CHUNK},
    "zarr2": {"format": "omezarr", "zarr_version": 2, "chunks": CHUNK},
    "zarr3": {"format": "omezarr", "zarr_version": 3, "chunks": CHUNK},
}


def cannot(job: Job) -> str | None:
    return None


def create(job: Job, folder: Path) -> npy2bdv.DatasetWriter:
    compression: Any = job.compression
    return npy2bdv.create(
        folder / "ours.xml", levels=job.levels, compression=compression, **FORMATS[job.format]
    )


def stacks(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    with create(job, folder) as writer:
        setup = writer.add_setup(shape=job.shape, dtype=data.dtype)
        for time in range(job.count):
            writer.write(job.stack(data, time), setup=setup, time=time)
            mark()


def planes(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    with create(job, folder) as writer:
        setups = [
            writer.add_setup(shape=job.shape, dtype=data.dtype, channel=channel)
            for channel in range(job.count)
        ]
        streams = [writer.stream(setup=setup) for setup in setups]
        for _, channel, frame in job.frames(data):
            streams[channel].append(frame)
            mark()
        for stream in streams:
            stream.close()


def read_whole(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    with npy2bdv.open(source / f"{job.source}.xml") as dataset:
        return dataset.view()[...]


def read_planes(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    with npy2bdv.open(source / f"{job.source}.xml") as dataset:
        view = dataset.view()
        for z in job.planes_to_read():
            plane = view[z]
            mark()
    return plane


def read_boxes(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    with npy2bdv.open(source / f"{job.source}.xml") as dataset:
        view = dataset.view()
        for box in job.boxes_to_read():
            pixels = view[box]
            mark()
    return pixels


def open_xml(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    with npy2bdv.open(source / "plain.xml") as dataset:
        return np.asarray(dataset.view(time=job.shape[0] - 1, setup=job.count - 1).transform)
