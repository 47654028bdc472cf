"""acquire-zarr, a streaming writer that makes levels of its own, in an environment of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import acquire_zarr  # type: ignore[import-not-found]

from jobs import CHUNK, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jobs import Job

PACKAGES = ("acquire-zarr", "numpy")


def cannot(job: Job) -> str | None:
    return None


def planes(job: Job, data: NDArray[np.uint16], folder: Path, mark: Callable[[], None]) -> None:
    """Stream planes. It halves an image until it is as small as a chunk, so small ones get small chunks."""
    space = acquire_zarr.DimensionType.SPACE
    dimensions = [
        acquire_zarr.Dimension(
            name=name,
            kind=space,
            array_size_px=size,
            chunk_size_px=min(chunk, size // coarsest),
            shard_size_chunks=block // chunk,
        )
        for name, size, coarsest, chunk, block in zip(
            "zyx", job.shape, job.levels[-1], CHUNK, job.file_block(job.shape), strict=True
        )
    ]
    pyramid: dict[str, Any] = {}
    if len(job.levels) > 1:
        mean = acquire_zarr.DownsamplingMethod.MEAN
        pyramid = {"downsampling_method": mean, "max_levels": len(job.levels) - 1}
    array = acquire_zarr.ArraySettings(
        output_key="image", data_type=acquire_zarr.DataType.UINT16, dimensions=dimensions, **pyramid
    )
    settings = acquire_zarr.StreamSettings(
        arrays=[array], store_path=str(folder / "acquire.zarr"), overwrite=True, max_threads=THREADS
    )
    stream = acquire_zarr.ZarrStream(settings)
    for _, _, frame in job.frames(data):
        stream.append(frame)
        mark()
    stream.close()
