"""Arrays that are read by tensorstore: what N5 and OME-Zarr share."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from npy2bdv.storage.base import missing_library

if TYPE_CHECKING:
    from pathlib import Path

_CACHE_BYTES = 128 * 2**20  # decoded chunks of one plane's row, of all datasets together


def tensorstore() -> Any:
    """Return the library.

    Raises
    ------
    InvalidInputError
        If it is not installed.
    """
    try:
        import tensorstore
    except ImportError as error:
        raise missing_library("tensorstore", "N5 and OME-Zarr are read") from error
    return tensorstore


@cache
def _context(nbytes: int) -> Any:
    return tensorstore().Context({"cache_pool": {"total_bytes_limit": nbytes}})


def open_array(
    driver: str, path: Path, metadata: dict[str, Any] | None = None, *, cached: bool = True
) -> Any:
    """Open an array in a folder for reading: a ``tensorstore.TensorStore``, its axes as the driver has them.

    Metadata that are given are taken, those on disk are not looked at. With `cached`, decoded chunks stay in
    memory; each use looks whether their files are still the same.

    Raises
    ------
    ValueError
        If tensorstore cannot make sense of it.
    """
    # without "..", which it refuses
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path.resolve().as_posix()}/"}}
    if metadata is not None:
        spec["metadata"] = metadata
    context = _context(_CACHE_BYTES if cached else 0)
    found = tensorstore().open(
        spec, read=True, open=True, assume_metadata=metadata is not None, context=context
    )
    return found.result()
