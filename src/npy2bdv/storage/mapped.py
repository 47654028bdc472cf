"""Reading uncompressed HDF5 images through a memory map, by the offsets of their chunks.

HDF5 fetches whole chunks, however little of each is wanted; here only the wanted pixels are touched. To ask
for all offsets takes a while where there are many chunks: see `is_worth_it`. Whatever is unusual about a file
is left to HDF5.
"""

from __future__ import annotations

import math
import mmap
import os
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from npy2bdv.storage.journal import journal_path

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx

_OFFSET_BYTES = 20_000
"""To ask for the offset of a chunk takes as long as HDF5 takes to fetch so many bytes (5 us)."""


def can_map(cells: h5py.Dataset) -> bool:
    """Tell whether a dataset is of a kind that `ChunkMap` reads: three axes, plain numbers, no filter.

    And only if its file was opened for reading: what is written may not be in the file yet.
    """
    properties = cells.id.get_create_plist()
    return (
        cells.ndim == 3
        and cells.dtype.kind in "iuf"
        and not properties.get_nfilters()
        and properties.get_layout() in (h5py.h5d.CHUNKED, h5py.h5d.CONTIGUOUS)
        and not properties.get_external_count()
        and bool(cells.id.get_type().equal(h5py.h5t.py_create(cells.dtype)))
        and (cells.file.driver, cells.file.mode) == ("sec2", "r")
        and not cells.file.userblock_size
    )


def chunks_of(region: Region, shape: Zyx, chunk: Zyx) -> int:
    """Return how many chunks a region touches."""
    touched = 1
    for part, size, length in zip(region, shape, chunk, strict=True):
        start, stop, _ = part.indices(size)
        touched *= -(-stop // length) - start // length if stop > start else 0
    return touched


class ChunkMap:
    """The chunks of one dataset in the memory map of its file.

    It is of no use any more when the file has changed, which `is_current` tells: reading then would give
    wrong pixels, or end the process where the file has become shorter.
    """

    def __init__(self, path: Path, cells: h5py.Dataset, offsets: NDArray[np.int64]) -> None:
        self._name, self._journal = os.fspath(path), os.fspath(journal_path(path))
        self._state = _state(self._name)
        with path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._offsets = offsets
        self._dtype: np.dtype[Any] = cells.dtype
        self._shape: Zyx = cells.shape
        self._chunk: Zyx = cells.chunks or cells.shape
        never = cells.id.get_create_plist().get_fill_time() == h5py.h5d.FILL_TIME_NEVER
        self._fill = 0 if never else cells.fillvalue

    @classmethod
    def of(cls, cells: h5py.Dataset) -> Self | None:
        """Map the file of a dataset of which `can_map` is true; None where its chunks cannot be trusted.

        That is while the file is being written, or where it ends before its last chunk.
        """
        path = Path(cells.file.filename)
        chunk = cells.chunks or cells.shape
        offsets = np.full([-(-n // size) for n, size in zip(cells.shape, chunk, strict=True)], -1, np.int64)
        if cells.chunks is None:
            offset = cells.id.get_offset()
            offsets[...] = -1 if offset is None else offset
        elif cells.id.get_num_chunks():

            def note(info: Any) -> None:
                offsets[tuple(at // size for at, size in zip(info.chunk_offset, chunk, strict=True))] = (
                    info.byte_offset
                )

            cells.id.chunk_iter(note)
        last = int(offsets.max(initial=-1))
        end = last + math.prod(chunk) * cells.dtype.itemsize if last >= 0 else 0
        try:
            if not offsets.size or journal_path(path).exists() or path.stat().st_size < end:
                return None
            return cls(path, cells, offsets)
        except (OSError, ValueError, OverflowError):  # no memory map of this file, or of its size
            return None

    @property
    def is_current(self) -> bool:
        """Whether the file is as it was, and nobody writes it."""
        try:
            return _state(self._name) == self._state and not os.path.exists(self._journal)  # fast
        except OSError:
            return False

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        bounds = [part.indices(size)[:2] for part, size in zip(region, self._shape, strict=True)]
        pixels: NDArray[Any] = np.empty([max(0, stop - start) for start, stop in bounds], self._dtype)
        axes = [
            [
                (index, slice(max(start - at, 0), stop - at), slice(max(at - start, 0), at + size - start))
                for index, at in ((index, index * size) for index in range(start // size, -(-stop // size)))
            ]
            for (start, stop), size in zip(bounds, self._chunk, strict=True)
            if stop > start
        ]
        if len(axes) < 3:
            return pixels
        for z, y, x in product(*axes):
            offset = self._offsets[z[0], y[0], x[0]]
            if offset < 0:
                pixels[z[2], y[2], x[2]] = self._fill
            else:
                block: NDArray[Any] = np.ndarray(self._chunk, self._dtype, self._memory, offset)
                pixels[z[2], y[2], x[2]] = block[z[1], y[1], x[1]]
        return pixels


def is_worth_it(fetched: int, chunk_bytes: int, n_chunks: int) -> bool:
    """Tell whether so many chunks have been fetched through HDF5 that asking for all offsets pays."""
    return fetched * (1 + chunk_bytes / _OFFSET_BYTES) >= n_chunks


def _state(name: str) -> tuple[int, int, int]:
    found = os.stat(name)
    return found.st_size, found.st_mtime_ns, found.st_ino
