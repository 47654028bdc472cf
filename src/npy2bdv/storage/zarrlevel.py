"""The pixels of one level of an OME-Zarr image: chunks and shards are written by us, read by tensorstore."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.errors import FormatError
from npy2bdv.storage.tensors import open_array
from npy2bdv.storage.zarrays import METADATA_FILES, encode_chunk, shard_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.storage.base import Payload
    from npy2bdv.storage.files import FileStore
    from npy2bdv.storage.zarrays import ArrayLayout


class OmeZarrLevel:
    """One level of one view: an array whose axes before z, y, x are given by `lead`."""

    def __init__(
        self, files: FileStore, array: str, layout: ArrayLayout, lead: tuple[int, ...], *, cached: bool
    ) -> None:
        self._files = files
        self._array = array
        self._layout = layout
        self._lead = lead
        self._cached = cached
        self._handle: Any = None
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
    def nbytes_on_disk(self) -> int:
        """How many bytes the files of chunks take."""
        layout, array = self._layout, (self._files.root / self._array).as_posix()
        place = (index // size for index, size in zip(self._lead, layout.shard, strict=False))
        beginning = f"{array}/{layout.key((*place, ''))}"  # of other views, other files may lie there
        return sum(
            each.stat().st_size
            for each in self._files.files(beginning.rpartition("/")[0])
            if each.as_posix().startswith(beginning) and each.name not in METADATA_FILES
        )

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        path = self._files.root / self._array
        try:
            if self._handle is None:
                driver = "zarr" if self._layout.zarr_version == 2 else "zarr3"
                self._handle = open_array(driver, path, cached=self._cached)
            pixels: NDArray[Any] = self._handle[(*self._lead, *region)].read().result()
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

    def encode(self, block: NDArray[Any], place: Zyx) -> Payload:
        """Return one whole, contiguous chunk as it lies on disk."""
        return encode_chunk(self._layout, block)

    def store(self, chunks: Sequence[tuple[Zyx, Payload]]) -> None:
        """Store the chunks of a piece: a file for each, or one whole shard."""
        layout = self._layout
        if not layout.sharded:
            for place, payload in chunks:
                self._files.put(f"{self._array}/{layout.key((0, 0, *place))}", [payload])
            return
        per_shard = layout.per_shard
        first = tuple(index // n for index, n in zip(chunks[0][0], per_shard[-3:], strict=True))
        inside = [
            ((0, 0, *(index - n * start for index, n, start in zip(place, per_shard[-3:], first, strict=True))), payload)
            for place, payload in chunks
        ]
        self._files.put(f"{self._array}/{layout.key((0, 0, *first))}", shard_parts(layout, inside))

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

    def resize(self, planes: int) -> None:
        """Give the level another number of planes; those beyond are gone for good."""
        depth, before = self.chunk[0], self.shape[0]
        if planes < before:
            for row in range(-(-planes // depth), -(-before // depth)):
                self._files.remove(f"{self._array}/{self._layout.key((0, 0, row))}")
            self._wipe_behind(planes)
        lead, (_, y, x) = self._layout.shape[:-3], self.shape
        self._layout = replace(self._layout, shape=(*lead, planes, y, x))
        self._handle = None
        key = f"{self._array}/{self._layout.metadata_file}"
        text = self._files.get(key)
        assert text is not None
        said = {**json.loads(text), "shape": list(self._layout.shape)}
        self._files.put(key, [json.dumps(said, indent=1).encode()])

    def _wipe_behind(self, planes: int) -> None:
        """Write zeros over what the last chunks hold behind a number of planes."""
        row, inside = divmod(planes, self.chunk[0])
        start, stop = row * self.chunk[0], min((row + 1) * self.chunk[0], self.shape[0])
        if not inside:
            return
        pixels = self.read((slice(start, stop), slice(0, self.shape[1]), slice(0, self.shape[2])))
        if not pixels[inside:].any():
            return
        pixels[inside:] = 0
        down, right = self.piece
        _, height, width = self.chunk
        for j in range(0, -(-self.shape[1] // height), down):
            for i in range(0, -(-self.shape[2] // width), right):
                places = [
                    (row, j + b, i + a)
                    for b in range(down)
                    for a in range(right)
                    if (j + b) * height < self.shape[1] and (i + a) * width < self.shape[2]
                ]
                self.store([(place, self.encode(self._cut(pixels, place), place)) for place in places])

    def _cut(self, row: NDArray[Any], place: Zyx) -> NDArray[Any]:
        """Return a whole chunk of a row of chunks; what lies beyond the image is zero."""
        _, height, width = self.chunk
        block = np.zeros(self.chunk, self.dtype)
        part = row[:, place[1] * height : (place[1] + 1) * height, place[2] * width : (place[2] + 1) * width]
        block[tuple(map(slice, part.shape))] = part
        return block
