"""Looking at a recording that goes on, or that was interrupted: acknowledged planes, as the journal has them.

An HDF5 file is not opened by HDF5 meanwhile, which would find a description that changes under its hands: the journal
says where chunks lie. What is seen is what was safe when it was opened; whoever wants to see more opens it again.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.downsample import downsample
from npy2bdv.errors import ClosedError, FormatError, MissingKeyError
from npy2bdv.handle import Handle
from npy2bdv.storage.codecs import checksum, inflate, unshuffle
from npy2bdv.storage.journal import journal_path
from npy2bdv.storage.recorded import NOWHERE, Recorded, flags, runs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import ViewId
    from npy2bdv.storage.base import FormatCard, LevelPixels, Pixels
    from npy2bdv.storage.recorded import Image

_TRIES = 5
_FILTERS: tuple[set[str], ...] = (set(), {"deflate"}, {"deflate", "shuffle"})


def read_running(pixels: Path) -> Recorded | None:
    """Return what the journal beside pixels says; None where there is none, or it has gone meanwhile."""
    for _ in range(_TRIES):
        recorded = Recorded.of(pixels)
        if not recorded.is_there or not journal_path(pixels).is_file():
            return None
        wanted = sum(stop - start for runs in recorded.all_waiting() for start, stop in runs)
        if len(recorded.planes) >= wanted:
            break
        # the log was cut between one look and the other: what was in it is in the pixels now, and noted
    return recorded


class LivePixels(Handle):
    """Pixels that are being recorded, for reading.

    Parameters
    ----------
    path
        The file or folder.
    card
        What its format can do.
    recorded
        What its journal says.
    blocks
        The pixels as they lie, where each block is a file of its own, and may be read while others are written.
    earlier
        The same for views of which the journal does not know: those of earlier sessions.
    """

    def __init__(
        self,
        path: Path,
        card: FormatCard,
        recorded: Recorded,
        blocks: Pixels | None = None,
        earlier: Pixels | None = None,
    ) -> None:
        self.path = path
        self.card = card
        self._recorded = recorded
        self._blocks = blocks
        self._earlier = earlier
        self._file: BinaryIO | None = None
        self._closed = False
        self._guard = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_guard": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._guard = threading.Lock()

    def factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        """Return the downsampling factors (z, y, x) of the levels of a setup."""
        for view, images in self._recorded.images.items():
            known = tuple(image.factors for image in images if image.factors is not None)
            if view.setup == setup and known:
                return known
        if self._earlier is not None:
            return self._earlier.factors(setup)
        raise MissingKeyError(f"nothing of setup {setup} is recorded yet in {self.path}")

    def views(self) -> Iterator[ViewId]:
        """Iterate over the views of which planes are safe."""
        earlier = [] if self._earlier is None else [*self._earlier.views()]
        for view in sorted({*self._recorded.depths, *earlier}):
            if self.has(view):
                yield view

    def has(self, view: ViewId, level: int = 0) -> bool:
        """Tell whether planes of a level of a view are safe."""
        recorded = self._recorded
        if view not in recorded.depths:
            return self._earlier is not None and view not in recorded.gone and self._earlier.has(view, level)
        images = recorded.images.get(view, [])
        if level >= len(images) or not recorded.length(view):
            return False
        return view in recorded.complete or any(image.factors == (1, 1, 1) for image in images)

    def level(self, view: ViewId, level: int) -> LevelPixels:
        """Return one level of a view.

        Raises
        ------
        MissingKeyError
            If no plane of it is safe yet.
        """
        if not self.has(view, level):
            raise MissingKeyError(
                f"no plane of time point {view.time}, setup {view.setup}, level {level} is safe yet in {self.path}, "
                "which is being recorded, or was interrupted; open it again later"
            )
        recorded = self._recorded
        if view not in recorded.depths:
            assert self._earlier is not None
            return self._earlier.level(view, level)
        images = recorded.images[view]
        full = next((image for image in images if image.factors == (1, 1, 1)), None)
        if full is None or view in recorded.complete:  # then all levels are there
            return self._stored(images[level])
        whole = self._stored(full)
        factors = images[level].factors
        return whole if factors in (None, (1, 1, 1)) else _Coarser(whole, images[level], factors)

    def _stored(self, image: Image) -> _Stored:
        """Return a level as it is stored, without planes that are not safe."""
        view = image.view
        depth = image.shape[0]
        if view in self._recorded.open_ended:
            factor = 1 if image.factors is None else image.factors[0]
            depth = -(-self._recorded.length(view) // factor)
        there = None
        if image.factors == (1, 1, 1):
            there = self._recorded.there(view, depth)
            waiting = self._recorded.waiting(view, depth)
        if self._blocks is not None:
            read = self._blocks.level(view, image.level).read
        elif set(image.filters) not in _FILTERS:
            raise FormatError(
                f"{image.path} in {self.path} is compressed in a way that cannot be read while it is recorded "
                f"({', '.join(image.filters)}); open it when it is complete"
            )
        else:
            read = _Chunks(image, depth, self._bytes, self.path).read
        planes = {}
        if there is not None and not image.in_place:
            planes = {z: plane for (other, z), plane in self._recorded.planes.items() if other == view}
            there &= ~waiting | flags([(z, z + 1) for z in planes], depth)
        return _Stored(image, depth, read, there, planes)

    def _bytes(self, offset: int, nbytes: int) -> bytes:
        with self._guard:
            if self._closed:
                raise ClosedError(f"{self.path} is closed")
            if self._file is None:
                self._file = self.path.open("rb", buffering=0)
            self._file.seek(offset, os.SEEK_SET)
            data = b""
            while len(data) < nbytes and (part := self._file.read(nbytes - len(data))):
                data += part
            return data

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._guard:
            self._closed = True
            if self._file is not None:
                self._file.close()
                self._file = None
        for each in (self._blocks, self._earlier):
            if each is not None:
                each.close()


class _Level:
    """What all levels say of themselves."""

    def __init__(self, image: Image, shape: Zyx) -> None:
        self._image = image
        self.shape = shape
        self.chunk = image.chunk
        self.dtype = image.dtype

    @property
    def nbytes_on_disk(self) -> int:
        """How many bytes its chunks take, as far as they have a place of their own in a file."""
        places = self._image.places(self.shape[0])
        return int(places.nbytes[places.offsets != NOWHERE].sum())

    @property
    def compression(self) -> str:
        """How chunks are compressed, in words."""
        return " + ".join(self._image.filters) or "none"


class _Stored(_Level):
    """A level as it is stored. Planes that are not there are zeros; some come from the log of planes."""

    def __init__(
        self,
        image: Image,
        depth: int,
        read: Callable[[Region], NDArray[Any]],
        there: NDArray[np.bool_] | None,
        planes: dict[int, NDArray[Any]],
    ) -> None:
        super().__init__(image, (depth, *image.shape[1:]))
        self._read = read
        self._there = there
        self._planes = planes

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region inside the level."""
        if self._there is None:
            return self._read(region).astype(self.dtype, copy=False)
        parts = [part.indices(size)[:2] for part, size in zip(region, self.shape, strict=True)]
        (first, last), *rest = parts
        pixels = np.zeros([max(0, stop - start) for start, stop in parts], self.dtype)
        stored = self._there[first:last].copy()
        for z in range(first, last):
            if z in self._planes:  # where it is in the log, the row may be on its way into the pixels
                pixels[z - first] = self._planes[z][region[1:]]
                stored[z - first] = False
        y, x = (slice(start, stop) for start, stop in rest)
        for start, stop in runs_of(stored):
            pixels[start:stop] = self._read((slice(first + start, first + stop), y, x))
        return pixels


class _Coarser(_Level):
    """A lower level of a view that is not complete: made of the full resolution as it is asked for."""

    def __init__(self, full: _Stored, image: Image, factors: Zyx) -> None:
        z, y, x = (-(-size // factor) for size, factor in zip(full.shape, factors, strict=True))
        super().__init__(image, (z, y, x))
        self._full = full
        self._factors = factors

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region inside the level."""
        box = []
        for part, size, whole, factor in zip(
            region, self.shape, self._full.shape, self._factors, strict=True
        ):
            start, stop, _ = part.indices(size)
            box.append(slice(start * factor, min(stop * factor, whole)))
        z, y, x = box
        if any(part.start >= part.stop for part in box):
            return self._full.read((z, y, x))
        pixels: NDArray[Any] = downsample(self._full.read((z, y, x)), self._factors)
        return pixels


class _Chunks:
    """The chunks of an image in an HDF5 file, by where the journal says that they lie."""

    def __init__(self, image: Image, depth: int, fetch: Callable[[int, int], bytes], source: Path) -> None:
        self._image = image
        self._depth = depth
        self._places = image.places(depth)
        self._fetch = fetch
        self._source = source

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region; where nothing is stored they are zeros."""
        chunk = self._image.chunk
        z, y, x = region
        pixels = np.zeros([part.stop - part.start for part in region], self._image.dtype)
        ranges = [range(p.start // n, -(-p.stop // n)) for p, n in zip((z, y, x), chunk, strict=True)]
        for place in ((i, j, k) for i in ranges[0] for j in ranges[1] for k in ranges[2]):
            if place[0] >= len(self._places.offsets) or self._places.offsets[place] == NOWHERE:
                continue
            inside, outside = [], []
            for part, index, size in zip(region, place, chunk, strict=True):
                low, high = max(part.start, index * size), min(part.stop, (index + 1) * size)
                inside.append(slice(low - index * size, high - index * size))
                outside.append(slice(low - part.start, high - part.start))
            pixels[tuple(outside)] = self._decoded(place)[tuple(inside)]
        return pixels

    def _decoded(self, place: Zyx) -> NDArray[Any]:
        image = self._image
        stored = image.dtype.newbyteorder("<")
        data = self._whole(place)
        if data is None:  # its row has been stored once more, elsewhere
            self._look_again()
            data = self._whole(place)
        if data is None:
            raise FormatError(
                f"{self._source} has been written to since it was opened, at chunk {place} of {image.path}; open it "
                "again"
            )
        if "deflate" in image.filters:
            data = inflate(data, image.chunk_bytes)
            if "shuffle" in image.filters:
                return unshuffle(data, stored).reshape(image.chunk)
        data = data.ljust(image.chunk_bytes, b"\0")  # a file is as long as what was written last
        return np.frombuffer(data, stored).reshape(image.chunk)

    def _whole(self, place: Zyx) -> bytes | None:
        """Return a chunk as it lies in the file; None if it is another one by now."""
        data = self._fetch(int(self._places.offsets[place]), int(self._places.nbytes[place]))
        crc = int(self._places.sums[place])
        return data if crc < 0 or checksum(data) == crc else None

    def _look_again(self) -> None:
        """Take from the journal where chunks lie by now."""
        images = Recorded.of(self._source).images.get(self._image.view, [])
        for image in images[self._image.level : self._image.level + 1]:
            places = image.places(self._depth)
            if (image.shape[1:], image.chunk) == (self._image.shape[1:], self._image.chunk) and (
                places.offsets.shape[0] >= self._places.offsets.shape[0]
            ):
                self._places = places
