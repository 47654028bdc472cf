"""The same bytes through the operating system alone: the most that any format could reach in one thread."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs import PIXEL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from jobs import Job

PIECE = 8 * 2**20
PACKAGES: tuple[str, ...] = ()


def cannot(job: Job) -> str | None:
    if job.kind == "open_xml":
        return "knows no XML"
    return None if job.source == "plain" else "as uncompressed"


def stacks(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    with (folder / "raw.bin").open("wb", buffering=0) as file:
        for index in range(job.count):
            write(file.fileno(), job.stack(data, index))
            mark()


def planes(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    with (folder / "raw.bin").open("wb", buffering=0) as file:
        for _, _, frame in job.frames(data):
            write(file.fileno(), frame)
            mark()


def write(file: int, pixels: NDArray[np.uint16]) -> None:
    """Write an array in pieces."""
    rest = pixels.data.cast("B")
    while rest:
        rest = rest[os.write(file, rest[:PIECE]) :]


def read_whole(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    return np.fromfile(source / "raw.bin", PIXEL).reshape(job.shape)


def read_planes(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    pixels = np.memmap(source / "raw.bin", PIXEL, "r", shape=job.shape)
    for z in job.planes_to_read():
        plane = np.array(pixels[z])
        mark()
    return plane


def read_boxes(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    pixels = np.memmap(source / "raw.bin", PIXEL, "r", shape=job.shape)
    for box in job.boxes_to_read():
        pixel_box = np.array(pixels[box])
        mark()
    return pixel_box
