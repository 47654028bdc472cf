"""Chunk <-> bytes. Knows no file; everything that takes time releases the GIL."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from isal import isal_zlib

from npy2bdv.errors import FormatError
from npy2bdv.storage.base import missing_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAST_LEVEL = 1
"""What "gzip" alone means: with the shuffle before it, isal's level 1 is several times faster than zlib's
and no larger (camera data)."""

ZSTD_LEVEL = 3
BLOSC_LEVEL = 5
"""What "zstd" and "blosc" alone mean: the defaults of BigStitcher and of numcodecs."""


def shuffle(block: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return the bytes of a contiguous block sorted by significance, as HDF5's shuffle filter stores them."""
    size = block.dtype.itemsize
    flat = block.reshape(-1)
    out = np.empty((size, flat.size), np.uint8)
    if size == 2 and flat.dtype.isnative and np.little_endian:
        # three times faster than strided copies: the high byte by a shift, the low byte by a narrowing copy
        words = flat.view(np.uint16)
        np.copyto(out[0], words, casting="unsafe")
        np.right_shift(words, 8, out=out[1], casting="unsafe")
    else:
        np.copyto(out, flat.view(np.uint8).reshape(flat.size, size).T)
    return out.reshape(-1)


def deflate(data: NDArray[np.uint8], level: int | None) -> bytes:
    """Return a zlib stream: levels 1 to 3 by isal, 4 to 9 by zlib (10 to 20 times slower, 1 % smaller)."""
    return _deflated(data, level, zlib.MAX_WBITS)


def gzip(data: NDArray[np.uint8], level: int | None) -> bytes:
    """Return a gzip stream; levels as in `deflate`."""
    return _deflated(data, level, zlib.MAX_WBITS + 16)


def _deflated(data: NDArray[np.uint8], level: int | None, wbits: int) -> bytes:
    level = FAST_LEVEL if level is None else level
    if 1 <= level <= 3:
        return isal_zlib.compress(data.data, level, wbits)
    return zlib.compress(data.data, level, wbits)


def zstd(data: NDArray[np.generic], level: int | None) -> bytes:
    """Return a zstd frame."""
    packed: bytes = numcodecs().zstd.compress(data, ZSTD_LEVEL if level is None else level)
    return packed


def blosc(data: NDArray[np.generic], level: int | None) -> bytes:
    """Return a blosc frame: lz4 over shuffled bytes, in this thread alone."""
    level = BLOSC_LEVEL if level is None else level
    packed: bytes = numcodecs().blosc.compress(data, b"lz4", level, 1)  # 1: shuffle by the size of an element
    return packed


def numcodecs() -> Any:
    """Return the library that has zstd and blosc.

    Raises
    ------
    InvalidInputError
        If it is not installed.
    """
    try:
        import numcodecs
        import numcodecs.blosc
        import numcodecs.zstd
    except ImportError as error:
        raise missing_library("numcodecs", "zstd and blosc are written") from error
    return numcodecs


def inflate(data: bytes, size: int) -> bytes:
    """Return the `size` bytes that a zlib stream holds.

    Raises
    ------
    FormatError
        If the stream is damaged or holds another number of bytes.
    """
    try:
        raw: bytes = isal_zlib.decompress(data, bufsize=size)
    except isal_zlib.error as error:  # type: ignore[misc]  # its stub takes the class for a value
        raise FormatError(f"the compressed data is damaged ({error})") from error
    if len(raw) != size:
        raise FormatError(f"the compressed data holds {len(raw)} bytes where {size} were expected")
    return raw


def unshuffle(data: bytes, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Return the pixels, in one row, whose bytes `shuffle` sorted."""
    planes = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    if dtype.itemsize == 2 and np.little_endian:
        words = np.left_shift(planes[1], 8, dtype=np.uint16)
        words |= planes[0]
    else:
        words = np.ascontiguousarray(planes.T).reshape(-1)
    pixels: NDArray[np.generic] = words.view(dtype)
    return pixels


def checksum(data: bytes | memoryview) -> int:
    """Return the CRC-32 of a chunk as it lies on disk."""
    return int(isal_zlib.crc32(data))
