"""One level of one view in HDF5: a dataset of chunks (formats.md 2), read, encoded and stored."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py._objects import phil  # h5py's lock around the library

from npy2bdv.errors import BdvError, FormatError
from npy2bdv.storage.cells import CellsReader
from npy2bdv.storage.codecs import FAST_LEVEL, deflate, shuffle
from npy2bdv.storage.flushes import FlushedFile
from npy2bdv.storage.recorded import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.storage.base import Codec, Payload
    from npy2bdv.storage.redo import RedoFile

DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
"""What h5py raises where a file is damaged."""

_PIECE_BYTES = 2 * 2**20  # measured: 1 MiB and 4 MiB are slower


@contextlib.contextmanager
def told(where: object) -> Iterator[None]:
    """Tell of damage that h5py met by an error of ours; HDF5 finds it wherever it looks, whatever the call."""
    try:
        yield
    except BdvError:
        raise
    except DAMAGED as error:
        raise FormatError(
            f"{where} cannot be read ({error}); the file is damaged: copy it again if you can"
        ) from error


def set_filters(properties: h5py.h5p.PropDCID, codec: Codec, dtype: np.dtype[Any]) -> None:
    """Let chunks be compressed as a codec says."""
    if codec.name == "gzip":
        if dtype.itemsize > 1:
            properties.set_shuffle()
        properties.set_deflate(FAST_LEVEL if codec.level is None else codec.level)
    elif codec.name == "lzf":
        properties.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL)


def _filters_of(properties: h5py.h5p.PropDCID) -> frozenset[str]:
    names = {h5py.h5z.FILTER_DEFLATE: "deflate", h5py.h5z.FILTER_SHUFFLE: "shuffle"}
    codes = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    return frozenset(names.get(code, str(code)) for code in codes)


@dataclass(slots=True)
class Space:
    """The space of a file: whether images may get some that others had, where it holds their pixels."""

    reused: bool
    medium: FlushedFile | RedoFile | None = None

    def check(self) -> None:
        """Raise an error of the disk that HDF5 has not been told of."""
        if self.medium is not None:
            self.medium.check()


class Hdf5Level:
    """One level of one view: a 3-D dataset (z, y, x)."""

    def __init__(
        self, cells: h5py.Dataset, dtype: np.dtype[Any], file: h5py.h5f.FileID, space: Space
    ) -> None:
        self._cells = cells
        self._file = file
        self._space = space
        properties = cells.id.get_create_plist()
        self._filters = _filters_of(properties)
        self._early = properties.get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY
        self.dtype = dtype
        self.shape: Zyx = cells.shape
        z, y, x = cells.chunks or cells.shape
        self.chunk: Zyx = (max(1, z), max(1, y), max(1, x))
        self._places: NDArray[np.uint64] | None = None
        """Where chunks lie, as far as a flush made it known; kept by `layout`."""

    @cached_property
    def _reader(self) -> CellsReader:
        return CellsReader(self._cells)

    def unmap(self) -> None:
        """Let go of the file's memory map, where it has one."""
        if "_reader" in self.__dict__:
            self._reader.unmap()

    @property
    def _name(self) -> str:
        return f"{self._cells.file.filename}{self._cells.name}"

    @property
    def nbytes_on_disk(self) -> int:
        """How many bytes the chunks take."""
        with told(self._name):
            return int(self._cells.id.get_storage_size())

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        try:
            pixels = self._reader.read(region)
        except BdvError:
            raise
        except (*DAMAGED, ArithmeticError) as error:
            raise FormatError(
                f"{self._name} cannot be read ({error}); the file is "
                "damaged, or it was compressed with a filter that is not installed"
            ) from error
        self._space.check()
        if pixels.dtype == np.int16 and self.dtype == np.uint16:
            return pixels.view(np.uint16) if pixels.dtype.isnative else pixels.astype("=i2").view(np.uint16)
        return pixels.astype(self.dtype, copy=False)

    def count_absent(self, region: Region) -> int:
        """Return how many chunks of a region are not stored."""
        with told(self._name):
            return self._reader.count_absent(region)

    @property
    def piece(self) -> tuple[int, int]:
        """How many chunks (y, x) are stored together: so many that they are still in the processor's cache then."""
        fitting = _PIECE_BYTES // (math.prod(self.chunk) * self.dtype.itemsize)
        return 1, max(1, min(fitting, -(-self.shape[2] // self.chunk[2])))

    @property
    def takes_parts(self) -> bool:
        """Whether `encode` takes parts of chunks: it does not."""
        return False

    def encode(self, block: NDArray[Any], place: Zyx) -> Payload:
        """Return one whole, contiguous chunk as it lies on disk."""
        if not np.little_endian:  # files are little-endian
            block = block.byteswap()
        if "deflate" not in self._filters:
            return block.reshape(-1).view(np.uint8).data
        raw = shuffle(block) if "shuffle" in self._filters else block.reshape(-1).view(np.uint8)
        return deflate(raw, self._cells.compression_opts)

    @property
    def in_place(self) -> bool:
        """Whether all chunks got their places at once."""
        return not self._filters and self._early

    @property
    def is_scattered(self) -> bool:
        """Whether chunks are placed as they come."""
        return not self.in_place

    @property
    def compression(self) -> str:
        """How chunks are compressed, in words: "none", "gzip 1 + shuffle", "lzf", "filter 32015" ..."""
        names = {
            "deflate": f"gzip {self._cells.compression_opts}",
            str(h5py.h5z.FILTER_LZF): "lzf",
            str(h5py.h5z.FILTER_SCALEOFFSET): "scale-offset",
        }
        words = [
            names.get(name, name if name == "shuffle" else f"filter {name}") for name in sorted(self._filters)
        ]
        return " + ".join(words) or "none"

    def layout(self) -> tuple[dict[str, Any], bytes]:
        """Return how the image lies in the file: a description, and the offsets of chunks that have a place."""
        described = {
            "path": self._cells.name,
            "shape": self.shape,
            "chunk": self.chunk,
            "dtype": self._cells.dtype.str,
            "filters": sorted(self._filters),
            "filter_level": self._cells.compression_opts,
        }
        with phil:  # it may be growing
            described["shape"] = self._cells.shape
            offsets = np.array(self._offsets(), "<u8")
            whole = self.in_place and offsets.size == math.prod(self.grid)
            self._places = offsets.reshape(self.grid) if whole else None
            return described, offsets.tobytes()

    def drop(self, place: Zyx) -> None:
        """Nothing: chunks are no files here."""

    @property
    def lies_in_common_file(self) -> bool:
        """Whether its chunks lie in this file, and in no partition to which it links."""
        own = h5py.h5i.get_file_id(self._cells.id)
        return bool(self._cells.chunks) and own.fileno == self._file.fileno

    def whole_layout(self) -> tuple[dict[str, Any], bytes]:
        """Return how the image lies in the file, with place and size of every chunk it has by now."""
        offsets = np.full(self.grid, NOWHERE, "<u8")
        nbytes = np.zeros(self.grid, "<u4")

        def look(chunk: Any) -> None:
            place = tuple(start // size for start, size in zip(chunk.chunk_offset, self.chunk, strict=True))
            offsets[place], nbytes[place] = chunk.byte_offset, chunk.size

        with phil:
            described, _ = self.layout()
            self._cells.id.chunk_iter(look)
        return {**described, "sized": True}, offsets.tobytes() + nbytes.tobytes()

    @property
    def grid(self) -> Zyx:
        """How many chunks there are (z, y, x)."""
        z, y, x = (-(-size // chunk) for size, chunk in zip(self.shape, self.chunk, strict=True))
        return z, y, x

    def _offsets(self) -> list[int]:
        """Return the offsets of all chunks that have space, in the order of the grid. One pass: O(n)."""
        found: list[tuple[tuple[int, ...], int]] = []
        self._cells.id.chunk_iter(lambda info: found.append((info.chunk_offset, info.byte_offset)))
        return [offset for _, offset in sorted(found)]

    def clear_used_space(self, end: int, first_plane: int = 0) -> None:
        """Write zeros into chunks that were placed before `end`, where the file may hold older pixels."""
        if not self._early:
            return
        used: list[tuple[int, ...]] = []

        def look(chunk: Any) -> None:
            if chunk.byte_offset < end and chunk.chunk_offset[0] >= first_plane:
                used.append(chunk.chunk_offset)

        self._cells.id.chunk_iter(look)
        zeros = bytes(math.prod(self.chunk) * self.dtype.itemsize if used else 0)
        for start in used:
            self._cells.id.write_direct_chunk(start, zeros)
        self._space.check()

    def resize(self, planes: int) -> None:
        """Give the level another number of planes."""
        end = self._file.get_filesize()
        rows = -(-self.shape[0] // self.chunk[0])
        before = self.shape[0]
        self._cells.resize(planes, axis=0)
        self.shape = self._cells.shape
        if planes < before:
            self._space.reused, self._places = True, None
        if planes > rows * self.chunk[0] and self._space.reused:
            self.clear_used_space(end, rows * self.chunk[0])

    def store(self, chunks: Sequence[tuple[Zyx, Payload]]) -> list[int] | None:
        """Store chunks; return where each lies in the file, where they have no fixed place."""
        if self.in_place:
            for place, payload in chunks:
                self.put_chunk(place, payload)
            self._space.check()
            return None
        ends = []
        for place, payload in chunks:
            self.put_chunk(place, payload)
            assert self._space.medium is not None
            ends.append(self._space.medium.wrote_at)
        self._space.check()
        return ends

    def stored_chunk(self, place: Zyx) -> bytes:
        """Return a chunk as it lies on disk."""
        start = tuple(index * size for index, size in zip(place, self.chunk, strict=True))
        _, data = self._cells.id.read_direct_chunk(start)
        return bytes(data)

    def is_placed(self, row: int) -> bool:
        """Whether the chunks of a row have places that a flush made known: they are stored past HDF5."""
        return (
            self._places is not None
            and row < len(self._places)
            and isinstance(self._space.medium, FlushedFile)
        )

    def put_chunk(self, place: Zyx, payload: Payload) -> None:
        """Store one chunk at a place (z, y, x) of the chunk grid."""
        places, medium = self._places, self._space.medium
        if places is not None and place[0] < len(places) and isinstance(medium, FlushedFile):
            medium.put_chunk(int(places[place]), payload)
            return
        start = tuple(index * size for index, size in zip(place, self.chunk, strict=True))
        if not self._filters <= {"shuffle", "deflate"}:  # lzf, or a filter of another program
            block = np.frombuffer(payload, self._cells.dtype).reshape(self.chunk)
            stop = tuple(min(a + b, n) for a, b, n in zip(start, self.chunk, self.shape, strict=True))
            inside = tuple(slice(0, b - a) for a, b in zip(start, stop, strict=True))
            self._cells[tuple(map(slice, start, stop))] = block[inside]
        else:
            self._cells.id.write_direct_chunk(start, payload)
