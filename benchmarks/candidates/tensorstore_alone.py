"""tensorstore, writing finished arrays whole: no levels of its own, no XML, nothing synced or locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorstore

from jobs import CHUNK, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jobs import Job, Zyx

PACKAGES = ("tensorstore",)
FINISHED = True
DRIVERS = {"n5": "n5", "zarr2": "zarr", "zarr3": "zarr3"}
CONTEXT = {
    "file_io_sync": False,
    "file_io_locking": {"mode": "none"},
    "data_copy_concurrency": {"limit": THREADS},
    "file_io_concurrency": {"limit": THREADS},
}


def cannot(job: Job) -> str | None:
    return None


def metadata(job: Job, shape: Zyx) -> dict[str, Any]:
    """Return how an array lies on disk, in the words of its format."""
    if job.format == "n5":
        codec = {"type": "gzip", "level": 1} if job.compression else {"type": "raw"}
        return {
            "dimensions": shape[::-1],
            "blockSize": CHUNK[::-1],
            "dataType": "uint16",
            "compression": codec,
        }
    if job.format == "zarr2":
        codecs = {
            "zstd": {"id": "zstd", "level": 1},
            "blosc": {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0},
        }
        return {
            "shape": shape,
            "chunks": CHUNK,
            "dtype": "<u2",
            "dimension_separator": "/",
            "compressor": codecs[job.compression] if job.compression else None,
        }
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    shards = {"chunk_shape": CHUNK, "codecs": [little], "index_codecs": [little, {"name": "crc32c"}]}
    return {
        "shape": shape,
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": job.file_block(shape)}},
        "codecs": [{"name": "sharding_indexed", "configuration": shards}],
    }


def stacks(job: Job, levels: Sequence[NDArray[np.uint16]], folder: Path, mark: Callable[[], None]) -> None:
    context = tensorstore.Context(CONTEXT)
    writes = []
    for index, array in enumerate(levels):
        spec = {
            "driver": DRIVERS[job.format],
            "kvstore": {"driver": "file", "path": f"{folder.as_posix()}/s{index}/"},
            "metadata": metadata(job, array.shape),
        }
        store = tensorstore.open(spec, create=True, context=context).result()
        writes.append(store.write(array.T if job.format == "n5" else array))
    for write in writes:
        write.result()
    mark()


planes = stacks  # it has no stream
