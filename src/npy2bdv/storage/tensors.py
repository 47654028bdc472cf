"""The engine: arrays that N5 and OME-Zarr share, and small things on servers, by their keys."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from npy2bdv.storage.base import missing_library
from npy2bdv.storage.servers import CONTEXT, RemotePath, failed, is_of_server, kvstore_of, patience

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

_CACHE_BYTES = 128 * 2**20  # decoded chunks of one plane's row, of all datasets together
_AT_A_TIME = 256


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
    return tensorstore().Context({"cache_pool": {"total_bytes_limit": nbytes}, **CONTEXT})


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
    RemoteError
        If its server does not answer in time, or refuses.
    """
    spec: dict[str, Any] = {"driver": driver, "kvstore": kvstore_of(path)}
    if metadata is not None:
        spec["metadata"] = metadata
    context = _context(_CACHE_BYTES if cached else 0)
    found = tensorstore().open(
        spec, read=True, open=True, assume_metadata=metadata is not None, context=context
    )
    return _answer(found, "opening", path)


def read_array(array: Any, path: Path) -> NDArray[Any]:
    """Return the pixels of (a part of) an array that lies at `path`, in C order.

    Raises
    ------
    ValueError
        If a chunk is damaged.
    RemoteError
        If its server does not answer in time, or refuses.
    """
    nbytes = math.prod(array.shape) * array.dtype.numpy_dtype.itemsize
    pixels: NDArray[Any] = _answer(array.read(order="C"), "reading", path, nbytes)
    return pixels


def _answer(future: Any, what: str, path: Path, nbytes: int = 0) -> Any:
    """Wait for the engine; for a server no longer than such a call may take."""
    if not isinstance(path, RemotePath):
        return future.result()
    seconds = patience(nbytes)
    try:
        return future.result(seconds)
    except (ValueError, TimeoutError, OSError) as error:
        future.cancel()
        if not is_of_server(error):
            raise
        # not as its cause: the engine's words may show addresses and keys
        raise failed(error, what, path, seconds) from None


def _folder(path: Path) -> Any:
    return _answer(tensorstore().KvStore.open(kvstore_of(path), context=_context(0)), "opening", path)


def _call(future: Any, what: str, path: Path, nbytes: int = 0) -> Any:
    """As `_answer`, for calls that fail for no other reason than the server."""
    try:
        return _answer(future, what, path, nbytes)
    except ValueError as error:
        raise failed(error, what, path, patience(nbytes)) from None


def read_key(folder: Path, key: str) -> bytes | None:
    """Return what lies on a server under a key; None where there is nothing."""
    found = _call(_folder(folder).read(key), "reading", folder / key)
    return bytes(found.value) if found.state == "value" else None


def write_key(folder: Path, key: str, data: bytes) -> None:
    """Put something on a server, whole, in place of what was there."""
    _call(_folder(folder).write(key, data), "writing", folder / key, len(data))


def list_keys(folder: Path, below: str = "") -> list[str]:
    """Return all keys below a folder on a server, relative to it."""
    ts = tensorstore()
    keys = (
        ts.KvStore.KeyRange(below, f"{below[:-1]}{chr(ord(below[-1]) + 1)}")
        if below
        else ts.KvStore.KeyRange()
    )
    found: Iterable[bytes] = _call(_folder(folder).list(keys), "listing", folder)
    return [key.decode(errors="replace") for key in found]


def remove_keys(folder: Path, keys: Iterable[str]) -> None:
    """Remove what lies on a server under these keys, many at a time; what is not there is no error."""
    store = _folder(folder)
    todo = list(keys)
    for start in range(0, len(todo), _AT_A_TIME):
        some = [(key, store.write(key, None)) for key in todo[start : start + _AT_A_TIME]]
        for key, future in some:
            _call(future, "removing", folder / key)
