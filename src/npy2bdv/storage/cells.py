"""Reading one HDF5 image in the way that is fastest, and what is not in it."""

from __future__ import annotations

import math
import threading
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from npy2bdv.model.slicing import chunks_of
from npy2bdv.storage.direct import DecodedChunks, can_read, needs_no_cache, read_region
from npy2bdv.storage.mapped import ChunkMap, can_map, is_worth_it

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx


class CellsReader:
    """Reads a dataset (z, y, x): through threads that inflate, a memory map, or HDF5 alone."""

    def __init__(self, cells: h5py.Dataset) -> None:
        self._cells = cells
        self._map: ChunkMap | None = None
        self._may_map = True
        self._fetched = 0
        """Chunks that HDF5 has fetched of an image that can be mapped."""
        self._is_whole: bool | None = None
        self._present: frozenset[Zyx] = frozenset()
        """Places of the chunks that are there, where some are not."""
        self._guard = threading.Lock()

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region, of the type that they have in the file."""
        if self._direct:
            cache = None if needs_no_cache(self._cells, region) else self._cache
            return read_region(self._cells, region, cache=cache)
        if (
            self._may_map
            and self._can_map
            and self._is_part(region)
            and (mapped := self._mapped(region)) is not None
        ):
            return mapped.read(region)
        pixels: NDArray[Any] = self._cells[region]
        return pixels

    # asked for when something is read: writers make thousands of these

    @cached_property
    def _direct(self) -> bool:
        return can_read(self._cells)

    @cached_property
    def _cache(self) -> DecodedChunks | None:
        """As large as HDF5's own, which stays empty; none where chunks may be written."""
        limit = self._cells.id.get_access_plist().get_chunk_cache()[1]
        return DecodedChunks(limit) if self._cells.file.mode == "r" else None

    @cached_property
    def _can_map(self) -> bool:
        return can_map(self._cells)

    @cached_property
    def _shape(self) -> Zyx:
        shape: Zyx = self._cells.shape
        return shape

    @cached_property
    def _chunk(self) -> Zyx:
        z, y, x = self._cells.chunks or self._shape
        return max(1, z), max(1, y), max(1, x)

    def _is_part(self, region: Region) -> bool:
        """Tell whether less than half of the touched chunks is wanted; else HDF5's own way is as good."""
        wanted = math.prod(len(range(n)[part]) for part, n in zip(region, self._shape, strict=True))
        return 2 * wanted < chunks_of(region, self._shape, self._chunk) * math.prod(self._chunk)

    def _mapped(self, region: Region) -> ChunkMap | None:
        """Return a map, which is made when it pays. A file that is being written is never mapped."""
        with self._guard:
            if self._map is None:
                self._fetched += chunks_of(region, self._shape, self._chunk)
                nbytes = math.prod(self._chunk) * self._cells.dtype.itemsize
                if is_worth_it(self._fetched, nbytes, self._grid_size()):
                    self._map = ChunkMap.of(self._cells)
                    self._may_map = self._map is not None
            elif not self._map.is_current:
                self._map = None
                self._may_map = False
            return self._map

    def unmap(self) -> None:
        """Let go of the file's memory map: Windows does not replace, shorten or remove what is mapped."""
        with self._guard:
            self._map = None
            self._may_map = False

    def _grid_size(self) -> int:
        whole = (slice(None), slice(None), slice(None))
        return chunks_of(whole, self._shape, self._chunk)

    def count_absent(self, region: Region) -> int:
        """Return how many chunks of a region are not stored."""
        with self._guard:
            if self._is_whole is None:
                self._find_present()
        if self._is_whole:
            return 0
        z, y, x = (
            range(low // size, -(-high // size))
            for (low, high, _), size in zip(
                (part.indices(n) for part, n in zip(region, self._shape, strict=True)),
                self._chunk,
                strict=True,
            )
        )
        places = math.prod(
            max(0, part.stop - part.start) for part in (z, y, x)
        )  # too many for len(), perhaps
        if places <= len(self._present):
            return sum(place not in self._present for place in product(z, y, x))
        return places - sum(a in z and b in y and c in x for a, b, c in self._present)

    def _find_present(self) -> None:
        """Count the chunks, which is quick, and look where they are only if some are absent."""
        properties = self._cells.id.get_create_plist()
        if properties.get_layout() != h5py.h5d.CHUNKED:
            contiguous = (
                properties.get_layout() == h5py.h5d.CONTIGUOUS and not properties.get_external_count()
            )
            self._is_whole = not contiguous or self._cells.id.get_offset() is not None
            return
        count = self._cells.id.get_num_chunks()
        self._is_whole = count == self._grid_size()
        if count and not self._is_whole:
            starts: list[tuple[int, ...]] = []
            self._cells.id.chunk_iter(lambda info: starts.append(info.chunk_offset))
            places = (np.array(starts) // self._chunk).tolist()
            self._present = frozenset((z, y, x) for z, y, x in places)


def files_beside(cells: h5py.Dataset, path: Path) -> Iterator[Path]:
    """Iterate over the files that hold a dataset of the file `path`, where that is another one: a partition, say."""
    file = Path(cells.file.filename)
    if file != path:
        yield file
    properties = cells.id.get_create_plist()
    names = [properties.get_external(index)[0] for index in range(properties.get_external_count())]
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        names += [properties.get_virtual_filename(index) for index in range(properties.get_virtual_count())]
    for name in names:
        yield file.parent / (name.decode() if isinstance(name, bytes) else name)
