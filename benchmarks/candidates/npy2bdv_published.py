"""The published npy2bdv, in an environment of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import npy2bdv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jobs import Job, Zyx

PACKAGES = ("npy2bdv", "h5py", "numpy")


def cannot(job: Job) -> str | None:
    if job.name == "long-gzip":
        return "would take several minutes, at its speed of `planes-gzip`"
    return "reads whole views and planes only" if job.kind == "read_boxes" else None


def create(job: Job, folder: Path, levels: tuple[Zyx, ...], nchannels: int = 1) -> Any:
    compression: Any = job.compression
    return npy2bdv.BdvWriter(
        str(folder / "published.h5"), subsamp=levels, compression=compression, nchannels=nchannels
    )


def stacks(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    writer = create(job, folder, job.levels)
    for time in range(job.count):
        writer.append_view(job.stack(data, time), time=time)
        mark()
    writer.write_xml()
    writer.close()


def planes(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    """Write planes; a level with a factor in z is refused, so levels are halved in y and x only."""
    writer = create(job, folder, tuple((1, y, x) for _, y, x in job.levels), job.count)
    for channel in range(job.count):
        writer.append_view(None, virtual_stack_dim=job.shape, channel=channel)
    for z, channel, frame in job.frames(data):
        writer.append_plane(frame, z, channel=channel)
        mark()
    writer.write_xml()
    writer.close()


def read_whole(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    editor = npy2bdv.BdvEditor(str(source / f"{job.source}.xml"), mode="r")
    pixels = editor.read_view()
    editor._file_object_h5.close()  # finalize() would write beside the source even in this mode
    return pixels


def read_planes(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    editor = npy2bdv.BdvEditor(str(source / f"{job.source}.xml"), mode="r")
    for z in job.planes_to_read():
        plane = editor.read_view(z=z)
        mark()
    editor._file_object_h5.close()
    return plane


def open_xml(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    editor = npy2bdv.BdvEditor(str(source / "plain.xml"), mode="r")
    affine = editor.read_affine(time=job.shape[0] - 1, tile=job.count - 1)
    editor._file_object_h5.close()
    return affine
