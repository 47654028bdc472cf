"""z5py, writing finished arrays whole: no levels of its own, no XML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import z5py

from jobs import CHUNK, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jobs import Job

PACKAGES = ("z5py", "numpy")
FINISHED = True


def cannot(job: Job) -> str | None:
    return None


def stacks(job: Job, levels: Sequence[NDArray[np.uint16]], folder: Path, mark: Callable[[], None]) -> None:
    level = {"level": 1} if job.compression else {}
    file = z5py.File(str(folder / "z5py.n5"), "w")
    for index, array in enumerate(levels):
        file.create_dataset(
            f"s{index}",
            data=array,
            chunks=CHUNK,
            compression=job.compression or "raw",
            n_threads=THREADS,
            **level,
        )
    mark()
