"""zarr-python, writing finished arrays whole: no levels of its own, no XML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zarr
from numcodecs import Blosc, Zstd

from jobs import CHUNK, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jobs import Job

PACKAGES = ("zarr", "numcodecs", "numpy")
FINISHED = True


def cannot(job: Job) -> str | None:
    return None


def stacks(job: Job, levels: Sequence[NDArray[np.uint16]], folder: Path, mark: Callable[[], None]) -> None:
    codecs: dict[str | None, Any] = {
        None: None,
        "zstd": Zstd(level=1),
        "blosc": Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE),
    }
    with zarr.config.set({"threading.max_workers": THREADS}):
        for index, array in enumerate(levels):
            zarr.create_array(
                folder / f"s{index}",
                data=array,
                chunks=CHUNK,
                shards=job.file_block(array.shape) if job.format == "zarr3" else None,
                compressors=codecs[job.compression],
                zarr_format=3 if job.format == "zarr3" else 2,
                chunk_key_encoding={"name": "default" if job.format == "zarr3" else "v2", "separator": "/"},
            )
    mark()


planes = stacks  # one that had a stream would rewrite a shard with every plane
