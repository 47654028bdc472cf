"""The pixels of one level of an OME-Zarr image: chunks and shards are written by us, read by tensorstore."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.errors import BdvError, FormatError
from npy2bdv.model.slicing import chunks_of
from npy2bdv.storage.tensors import open_array, read_array, tensorstore
from npy2bdv.storage.zarrays import METADATA_FILES, encode_chunk, shard_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.storage.base import Payload
    from npy2bdv.storage.zarrays import ArrayLayout
    from npy2bdv.storage.zarrfolder import ZarrFolder


class OmeZarrLevel:
    """One level of one view: an array whose axes before z, y, x are given by `lead`."""

    def __init__(
        self, folder: ZarrFolder, array: str, layout: ArrayLayout, lead: tuple[int, ...], *, cached: bool
    ) -> None:
        self._folder = folder
        self._files = folder.files
        self._array = array
        self._layout = layout
        self._lead = lead
        self._cached = cached
        self._handle: Any = None
        self._has_chunks = False
        """Whether it is known that there is one."""
        self.dtype = layout.dtype.newbyteorder("=")

    @property
    def shape(self) -> Zyx:
        """Size in pixels (z, y, x)."""
        z, y, x = self._layout.shape[-3:]
        return z, y, x

    @property
    def chunk(self) -> Zyx:
        """Size of what is compressed together (z, y, x)."""
        z, y, x = self._layout.chunk[-3:]
        return z, y, x

    @property
    def compression(self) -> str:
        """How chunks are compressed, in words: "none", "gzip 1", "zstd 1" ..."""
        return self._layout.compression

    @property
    def nbytes_on_disk(self) -> int | None:
        """How many bytes the files of chunks take; None where a server does not tell."""
        return self._files.nbytes(self._chunk_files())

    def _chunk_files(self) -> Iterator[Path]:
        layout = self._layout
        place = (index // size for index, size in zip(self._lead, layout.shard, strict=False))
        beginning = f"{self._array}/{layout.key((*place, ''))}"  # of other views, other files may lie there
        for each in self._files.files(beginning.rpartition("/")[0]):
            key = each.relative_to(self._folder.path).as_posix()
            if key.startswith(beginning) and each.name not in METADATA_FILES:
                yield each

    def count_absent(self, region: Region) -> int:
        """Return how many chunks of a region are absent: all if none is stored, else that is not looked at.

        A single chunk says nothing by its absence: many programs leave out those of zeros.
        """
        self._has_chunks = (
            self._has_chunks or not self._files.counts or any(True for _ in self._chunk_files())
        )
        return 0 if self._has_chunks else chunks_of(region, self.shape, self.chunk)

    def to_tensorstore(self) -> Any:
        """Return the level (z, y, x) as a ``tensorstore.TensorStore`` for reading."""
        self.read((slice(0, 0), slice(0, 0), slice(0, 0)))  # opens it, or says why not
        return self._handle[self._lead]

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region; chunks that are absent are zeros, as BigDataViewer shows them."""
        path = self._folder.path / self._array
        tensorstore()  # where it is not installed, nothing is damaged
        try:
            handle = self._handle  # another thread may resize meanwhile
            if handle is None:
                driver = "zarr" if self._layout.zarr_version == 2 else "zarr3"
                zero_filled = self._folder.zero_filled(self._array)
                handle = self._handle = open_array(driver, path, zero_filled, cached=self._cached)
            pixels = read_array(handle[(*self._lead, *region)], path)
        except BdvError:  # a server that does not answer, say
            raise
        except (ValueError, OSError, KeyError, NotImplementedError) as error:
            raise FormatError(
                f"{path} cannot be read ({error}); it is damaged, or compressed in a way that is not known"
            ) from error
        return pixels.astype(self.dtype, copy=False)

    @property
    def piece(self) -> tuple[int, int]:
        """How many chunks (y, x) are stored together: a shard, or those along x."""
        if self._layout.sharded:
            down, right = self._layout.per_shard[-2:]
            return down, right
        return 1, -(-self.shape[2] // self.chunk[2])

    @property
    def sharded(self) -> bool:
        """Whether a file holds several chunks."""
        return self._layout.sharded

    def is_placed(self, row: int) -> bool:
        """Whether a row is stored aside of the container: no, each block is a file."""
        return False

    @property
    def takes_parts(self) -> bool:
        """Whether `encode` takes parts of chunks: it does not."""
        return False

    def encode(self, block: NDArray[Any], place: Zyx) -> Payload:
        """Return one whole, contiguous chunk as it lies on disk."""
        return encode_chunk(self._layout, block)

    def store(self, chunks: Sequence[tuple[Zyx, Payload]]) -> None:
        """Store the chunks of a piece: a file for each, or one whole shard."""
        layout = self._layout
        if not layout.sharded:
            for place, payload in chunks:
                self._files.put(self._key(place), [payload])
            return
        z, y, x = (index // n for index, n in zip(chunks[0][0], layout.per_shard[-3:], strict=True))
        self._files.put(self._key((z, y, x)), shard_parts(layout, chunks))

    def file_of(self, place: Zyx) -> str:
        """Return the key of the file in which the chunk at a place (z, y, x) of the grid lies."""
        per_shard = self._layout.per_shard[-3:] if self._layout.sharded else (1, 1, 1)
        return self._key([index // n for index, n in zip(place, per_shard, strict=True)])

    def _key(self, place: Sequence[int]) -> str:
        """Return the file of a shard (z, y, x), or the folder of all in a row (z)."""
        return f"{self._array}/{self._layout.key((0, 0, *place))}"

    @property
    def in_place(self) -> bool:
        """Never: a file is written whole."""
        return False

    @property
    def is_scattered(self) -> bool:
        """Never: each chunk has a file of its own, or a shard."""
        return False

    def layout(self) -> tuple[dict[str, Any], bytes]:
        """Return how the image lies on disk."""
        described = {
            "path": self._array,
            "shape": self.shape,
            "chunk": self.chunk,
            "dtype": self._layout.dtype.str,
            "compression": self.compression,
        }
        return described, b""

    def drop(self, place: Zyx) -> None:
        """Remove the file of a chunk that cannot be read: a shard holds others, too."""
        if self._layout.sharded:
            z, y, x = (index // n for index, n in zip(place, self._layout.per_shard[-3:], strict=True))
            place = z, y, x
        self._files.remove(self._key(place))

    @property
    def lies_in_common_file(self) -> bool:
        """No: each block is a file of its own."""
        return False

    def whole_layout(self) -> tuple[dict[str, Any], bytes]:
        """As `layout`: each block is a file of its own."""
        return self.layout()

    def resize(self, planes: int) -> None:
        """Give the level another number of planes; pixels beyond a smaller one are gone."""
        if planes < self.shape[0]:
            for row in range(-(-planes // self.chunk[0]), -(-self.shape[0] // self.chunk[0])):
                self._files.remove(self._key((row,)))
            if planes % self.chunk[0]:
                self._wipe_behind(planes)
        self._layout = replace(self._layout, shape=(*self._layout.shape[:-3], planes, *self.shape[1:]))
        self._handle = None
        self._folder.put_array(self._array, self._layout)

    def _wipe_behind(self, planes: int) -> None:
        """Write zeros over what the last row of chunks holds behind a number of planes."""
        (depth, height, width), (_, tall, wide) = self.chunk, self.shape
        row = planes // depth
        beyond = slice(planes, min((row + 1) * depth, self.shape[0]))
        if not self.read((beyond, slice(0, tall), slice(0, wide))).any():
            return
        down, right = self.piece
        for y, x in product(range(0, tall, down * height), range(0, wide, right * width)):
            ys, xs = (
                range(y, min(y + down * height, tall), height),
                range(x, min(x + right * width, wide), width),
            )
            chunks = []
            for j, i in product(ys, xs):
                region = (
                    slice(row * depth, planes),
                    slice(j, min(j + height, tall)),
                    slice(i, min(i + width, wide)),
                )
                pixels = self.read(region)
                block = np.zeros(self.chunk, self.dtype)
                block[tuple(map(slice, pixels.shape))] = pixels
                place = row, j // height, i // width
                chunks.append((place, self.encode(block, place)))
            self.store(chunks)
