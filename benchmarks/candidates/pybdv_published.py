"""pybdv, in an environment of its own."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pybdv  # type: ignore[import-not-found]

from jobs import CHUNK, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from jobs import Job

PACKAGES = ("pybdv", "h5py", "numpy")


def cannot(job: Job) -> str | None:
    if job.kind == "planes":
        return "has no stream of planes"
    if job.kind == "stacks" and job.compression is None:
        return "always compresses"
    if job.kind.startswith("read"):
        return "reads through h5py"
    if job.format == "n5" and not find_spec("z5py"):
        return "needs z5py for this, which its environment lacks"
    return None


def stacks(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    """Write whole stacks; factors are given against the level before."""
    factors = [
        [b // a for a, b in zip(*pair, strict=True)] for pair in zip(job.levels, job.levels[1:], strict=False)
    ]
    for time in range(job.count):
        pybdv.make_bdv(
            job.stack(data, time),
            str(folder / ("pybdv.n5" if job.format == "n5" else "pybdv.h5")),
            downscale_factors=factors or None,
            downscale_mode="mean",
            setup_id=0,
            timepoint=time,
            chunks=CHUNK,
            n_threads=THREADS if job.format == "n5" else 1,
        )
        mark()


def open_xml(job: Job, source: Path, mark: Callable[[], None]) -> Any:
    transforms = pybdv.metadata.get_affine(str(source / "plain.xml"), job.count - 1, job.shape[0] - 1)
    (affine,) = transforms.values()
    return np.reshape(affine, (3, 4))
