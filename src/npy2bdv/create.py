"""`create`: begin a dataset."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import numpy as np

from npy2bdv.engine import DEFAULT_MEMORY
from npy2bdv.errors import InvalidInputError
from npy2bdv.existing import check_mode, find_existing
from npy2bdv.location import dataset_paths
from npy2bdv.model.spimdata import GeneratedBy
from npy2bdv.writer import CHECKPOINT_BYTES, CHECKPOINT_SECONDS, DatasetWriter

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from npy2bdv.engine import Stats
    from npy2bdv.setups import Chunks, Levels
    from npy2bdv.storage.base import Codec, FormatName
    from npy2bdv.writer import Compression


def create(
    path: str | os.PathLike[str],
    *,
    format: FormatName | None = None,  # noqa: A002
    zarr_version: int | None = None,
    levels: Levels | None = None,
    chunks: Chunks | None = None,
    compression: Compression = "default",
    mode: Literal["w-", "w", "a"] | None = None,
    overwrite: bool = False,
    microscope: str = "default",
    microscope_version: str = "0.0",
    user: str = "user",
    max_memory: int = DEFAULT_MEMORY,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
    on_stats: Callable[[Stats], None] | None = None,
) -> DatasetWriter:
    """Start a new dataset, or go on with one that is there (``mode="a"``).

    Parameters
    ----------
    path
        The XML (``NAME.xml``) or the pixels (``NAME.h5``, ``NAME.n5``, ``NAME.ome.zarr``); the other lies beside it.
    format
        How pixels are stored: "hdf5" (one file, which every Fiji opens), "n5" or "omezarr" (folders; they need
        ``npy2bdv[zarr]``). By default what the name of the pixels says, else "hdf5".
    zarr_version
        For OME-Zarr: 2 (NGFF 0.4, for BigStitcher since April 2025; the default) or 3 (NGFF 0.5, with shards, which
        are far fewer files; for BigStitcher 3.0 or later).
    levels
        Downsampling factors (z, y, x) of each level of the pyramid, the full resolution (1, 1, 1) among them,
        or "auto": those that BigDataViewer proposes for the size and voxel size of each setup. By default the full
        resolution alone.
    chunks
        Block size (z, y, x) in pixels, one for all levels or one for each. By default that of the format:
        (4, 256, 256) for HDF5, (8, 256, 256) for N5 and OME-Zarr.
    compression
        None, "gzip" (fast), "zstd" or "blosc" (N5 and OME-Zarr), or one of these with its level: ("gzip", 6).
        By default none for HDF5, "gzip" for N5, "zstd" for OME-Zarr.
    mode
        "w-" (the default) refuses a name that is taken, "w" replaces the dataset, and "a" appends to it: further time
        points of its setups, further setups, views that are missing. All that its XML says is kept. Levels, blocks and
        compression are by default those of its last setup; microscope and user stay as they are. Where there is no
        dataset, one is made.
    overwrite
        Replace a dataset of the same name. Its XML is kept as ``NAME.xml~1``. The same as ``mode="w"``.
    microscope, microscope_version, user
        Written into the XML.
    max_memory
        Bytes that buffers of pixels may take, of all open views together.
    checkpoint_seconds, checkpoint_bytes
        How often to make what was taken safe against a kill of the process, see `DatasetWriter.checkpoint`.
    on_stats
        Called about twice a second with the figures of `DatasetWriter.stats`, in a thread of its own.

    Raises
    ------
    ExistsError
        If the XML or the pixels exist, and are neither to be replaced nor appended to.
    InUseError
        If another process is writing the dataset.
    NotFoundError
        If the folder does not exist.
    FormatError
        If something was to be appended to a dataset that cannot be written, or whose recording was interrupted.
    InvalidInputError
        If a name, factor, block or compression cannot be right, or what is appended to has another format.

    Examples
    --------
    >>> import numpy as np, npy2bdv, tempfile
    >>> stack = np.arange(24, dtype="uint16").reshape(2, 3, 4)
    >>> folder = tempfile.TemporaryDirectory()
    >>> with npy2bdv.create(folder.name + "/scan.xml") as writer:
    ...     setup = writer.add_setup(shape=(2, 3, 4), channel="488", voxel_size_xyz=(0.4, 0.4, 1.0))
    ...     writer.write(stack, setup=setup, time=0)
    >>> with npy2bdv.open(folder.name + "/scan.xml") as dataset:
    ...     dataset.view(time=0, channel="488")[1, 2].tolist()
    [20, 21, 22, 23]
    >>> folder.cleanup()
    """
    if levels is not None and not isinstance(levels, str) and np.shape(levels) == (3,):
        raise InvalidInputError(
            f"levels={levels!r} is one triple; write ((1, 1, 1), {tuple(levels)}) for two levels"
        )
    check_mode(mode, overwrite=overwrite)
    existing = find_existing(path, format, zarr_version) if mode == "a" else None
    chosen: Compression | Codec = compression
    if existing is not None:
        path_xml, path_pixels, card = existing.path_xml, existing.path_pixels, existing.card
        if existing.last_setup is not None:
            levels = existing.last_setup.pyramid.factors if levels is None else levels
            chunks = existing.last_setup.pyramid.chunks if chunks is None else chunks
        chosen = existing.codec if compression == "default" else compression
    else:
        path_xml, path_pixels, card = dataset_paths(path, format, zarr_version)
    made = GeneratedBy(
        library_version=version("npy2bdv"),
        microscope=microscope,
        microscope_version=microscope_version,
        user=user,
    )
    return DatasetWriter(
        path_xml.absolute(),
        path_pixels.absolute(),
        card=card,
        levels=((1, 1, 1),) if levels is None else levels,
        chunks=chunks,
        compression=chosen,
        overwrite=overwrite or mode == "w",
        guarded=(path_pixels.absolute(), path_xml.absolute()),
        generated_by=made,
        max_memory=max_memory,
        checkpoint_seconds=checkpoint_seconds,
        checkpoint_bytes=checkpoint_bytes,
        on_stats=on_stats,
        existing=existing,
    )
