"""Reading gzip-compressed HDF5 images past the library's filters, several chunks at a time.

HDF5 inflates one chunk after the other, with zlib. Here it only hands over the chunks as they lie in the
file; isal inflates them in threads. Whatever is unusual about a chunk is left to HDF5.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from npy2bdv.errors import FormatError
from npy2bdv.storage.codecs import inflate, unshuffle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx

_SHUFFLE, _DEFLATE = h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE

MOST_THREADS = 4
"""More gain little: fetching and pasting share the memory's bandwidth."""

_TASK_BYTES = 2**19
"""Small chunks travel together, so that handing them to a thread costs little beside the work."""

_MANY_CHUNKS = 4
"""Fewer may be asked for again soon, and are not worth threads."""

_THICK = 16
"""So many pixels are no slice, however large the chunks are. Thinner ones are if they take less than half of
their chunks."""


def can_read(cells: h5py.Dataset) -> bool:
    """Tell whether `read_region` can read a dataset.

    It must be three-dimensional, of plain numbers, and compressed by deflate, or by shuffle and deflate.
    """
    return (
        cells.ndim == 3
        and cells.dtype.kind in "iuf"
        and _filters(cells) in ([_DEFLATE], [_SHUFFLE, _DEFLATE])
        # numbers with unused bits, say, need HDF5's own conversion
        and bool(cells.id.get_type().equal(h5py.h5t.py_create(cells.dtype)))
    )


class DecodedChunks:
    """Chunks that were decoded last, by where they begin; at most so many bytes of them. For several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._nbytes = 0
        self._blocks: OrderedDict[Zyx, NDArray[Any]] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, start: Zyx) -> NDArray[Any] | None:
        """Return a chunk, if it is still there."""
        with self._guard:
            block = self._blocks.get(start)
            if block is not None:
                self._blocks.move_to_end(start)
            return block

    def put(self, start: Zyx, block: NDArray[Any]) -> None:
        """Keep a chunk; those asked for longest ago go."""
        with self._guard:
            if start not in self._blocks:
                self._nbytes += block.nbytes
            self._blocks[start] = block
            while self._nbytes > self._max_bytes:
                self._nbytes -= self._blocks.popitem(last=False)[1].nbytes


def needs_no_cache(cells: h5py.Dataset, region: Region) -> bool:
    """Tell whether `read_region` had better keep nothing of a region.

    Who walks through an image slice by slice is served better by a cache, if it holds the chunks that a slice
    touches, and so is who reads the same few chunks again. Else it would only take memory.
    """
    touched = 1
    slice_of_walk = False
    for part, chunk, size in zip(region, cells.chunks, cells.shape, strict=True):
        start, stop, _ = part.indices(size)
        touched *= max(0, -(-stop // chunk) - start // chunk)
        slice_of_walk |= 2 * (stop - start) < min(chunk, size, 2 * _THICK)
    nbytes = touched * math.prod(cells.chunks) * cells.dtype.itemsize
    if nbytes > cells.id.get_access_plist().get_chunk_cache()[1]:
        return True
    return not slice_of_walk and touched >= _MANY_CHUNKS


def _filters(cells: h5py.Dataset) -> list[int]:
    properties = cells.id.get_create_plist()
    return [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]


def read_region(
    cells: h5py.Dataset,
    region: Region,
    *,
    threads: int | None = None,
    cache: DecodedChunks | None = None,
) -> NDArray[Any]:
    """Return the pixels of a region, equal to ``cells[region]``.

    Holds beside the result a few chunks for each thread.

    Parameters
    ----------
    cells
        A dataset (z, y, x) of which `can_read` is true.
    region
        Slices (z, y, x) of step 1.
    threads
        How many threads inflate; by default one for each processor, up to four. HDF5 itself is called by
        the calling thread alone.
    cache
        Where chunks are looked for, and kept.

    Raises
    ------
    FormatError
        If a chunk is damaged.
    """
    assert all(part.step in (None, 1) for part in region), region
    reader = _Reader(cells, region, cache)
    if threads is None:
        threads = min(MOST_THREADS, os.cpu_count() or 1)
    tasks = reader.tasks()
    if threads == 1 or reader.one_task:
        for task in tasks:
            reader.paste(task)
        return reader.pixels
    with ThreadPoolExecutor(threads, thread_name_prefix="npy2bdv-inflate") as pool:
        pending: deque[Future[None]] = deque()
        for task in tasks:
            pending.append(pool.submit(reader.paste, task))
            if len(pending) > 2 * threads:
                pending.popleft().result()
        for future in pending:
            future.result()
    return reader.pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """A chunk as it lies in the file, and where its pixels belong."""

    start: Zyx
    skipped: int
    payload: bytes
    source: Region
    target: Region


class _Reader:
    """One region being read. `paste` may run in any thread, all else in one."""

    def __init__(self, cells: h5py.Dataset, region: Region, cache: DecodedChunks | None) -> None:
        self._cells = cells
        self._cache = cache
        self._dtype: np.dtype[Any] = cells.dtype
        self._shape: Zyx = cells.chunks
        self._nbytes: int = math.prod(self._shape) * self._dtype.itemsize
        # a set bit of a chunk's filter mask says that the filter at this place of the row was skipped
        self._bits = {code: 1 << place for place, code in enumerate(_filters(cells))}
        never = cells.id.get_create_plist().get_fill_time() == h5py.h5d.FILL_TIME_NEVER
        self._fill = 0 if never else cells.fillvalue

        bounds = [part.indices(size)[:2] for part, size in zip(region, cells.shape, strict=True)]
        self._axes = [
            [
                (
                    at,
                    slice(max(start - at, 0), min(stop - at, size)),
                    slice(max(at - start, 0), min(at + size, stop) - start),
                )
                for at in range(start // size * size, stop, size)
            ]
            for (start, stop), size in zip(bounds, self._shape, strict=True)
        ]
        self._per_task: int = max(1, _TASK_BYTES // self._nbytes)
        self.pixels: NDArray[Any] = np.empty([max(0, stop - start) for start, stop in bounds], self._dtype)

    @property
    def one_task(self) -> bool:
        """Whether there is too little to do for more than one thread: to start them takes a while, too."""
        return math.prod(len(axis) for axis in self._axes) < max(self._per_task + 1, _MANY_CHUNKS)

    def tasks(self) -> Iterator[list[_Chunk]]:
        """Fetch the chunks from the file."""
        chunks = self._chunks()
        while task := list(islice(chunks, self._per_task)):
            yield task

    def _chunks(self) -> Iterator[_Chunk]:
        if self._cells.id.chunk_iter(lambda _: True) is None:
            # h5py takes the length of a chunk from memory that nobody set where no chunk at all was written
            self.pixels[...] = self._fill
            return
        for parts in product(*self._axes):
            start, source, target = zip(*parts, strict=True)
            if self._cache is not None and (block := self._cache.get(start)) is not None:
                self.pixels[target] = block[source]
                continue
            try:
                skipped, payload = self._cells.id.read_direct_chunk(start)
            except (RuntimeError, OSError) as error:
                if "not allocated" in str(error):  # asking beforehand takes longer the more chunks there are
                    self.pixels[target] = self._fill
                else:
                    self._ask_hdf5(start, source, target)
                continue
            if not skipped and len(payload) == self._nbytes:
                # chunks on the border may be stored as they are, and their masks do not tell
                self._ask_hdf5(start, source, target)
            else:
                yield _Chunk(start=start, skipped=skipped, payload=payload, source=source, target=target)

    def _ask_hdf5(self, start: Zyx, source: Region, target: Region) -> None:
        box = tuple(slice(at + s.start, at + s.stop) for at, s in zip(start, source, strict=True))
        try:
            self.pixels[target] = self._cells[box]
        except OSError as error:
            raise self._damaged(start, error) from error

    def _damaged(self, start: Zyx, error: Exception) -> FormatError:
        return FormatError(
            f"{self._cells.file.filename}{self._cells.name} cannot be read: the chunk that begins at "
            f"(z, y, x) = {start} is damaged ({error}); what lies outside of it can still be read"
        )

    def paste(self, task: list[_Chunk]) -> None:
        """Decode chunks and copy what the region takes of them."""
        for chunk in task:
            try:
                block = self._decoded(chunk).reshape(self._shape)
            except FormatError as error:
                raise self._damaged(chunk.start, error) from error
            if self._cache is not None:
                self._cache.put(chunk.start, block)
            self.pixels[chunk.target] = block[chunk.source]

    def _decoded(self, chunk: _Chunk) -> NDArray[Any]:
        applied = [code for code, bit in self._bits.items() if not chunk.skipped & bit]
        data = chunk.payload
        if _DEFLATE in applied:
            data = inflate(data, self._nbytes)
        elif len(data) != self._nbytes:
            raise FormatError(f"it has {len(data)} bytes, not {self._nbytes}")
        return unshuffle(data, self._dtype) if _SHUFFLE in applied else np.frombuffer(data, self._dtype)
