"""A file that HDF5 cannot read any more, and its journal -> a new file, chunk by chunk.

Chunks are copied as they lie, by the places and checksums that the journal has of them; nothing is decompressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from npy2bdv import xml
from npy2bdv.errors import FormatError
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.storage.base import RAW, Codec
from npy2bdv.storage.codecs import checksum, inflate
from npy2bdv.storage.recorded import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.model.spimdata import ViewId
    from npy2bdv.storage.hdf5 import Hdf5Container
    from npy2bdv.storage.hdf5level import Hdf5Level
    from npy2bdv.storage.recorded import Image, Places, Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied of an image: its chunks (z, y, x) and their checksums."""

    array: Hdf5Level
    whole: NDArray[np.bool_]
    sums: NDArray[np.int64]


def salvage(pixels: Path, recorded: Recorded, target: Hdf5Container) -> None:
    """Copy all chunks that a journal knows into a new container, and read them back.

    Planes that are said to be safe, and of which a chunk is damaged or not there, are taken back in `recorded`.

    Parameters
    ----------
    pixels
        The damaged file. It is read only.
    recorded
        What its journal says.
    target
        A new, empty container.

    Raises
    ------
    FormatError
        If the journal does not tell enough, or the new file does not hold what was written into it.
    """
    copied: list[Copied] = []
    with pixels.open("rb", buffering=0) as file:
        for view in sorted(recorded.depths):
            copied += _copy_view(view, recorded, file, target)
    target.flush()
    for each in copied:
        _check(each)


def _copy_view(view: ViewId, recorded: Recorded, file: BinaryIO, target: Hdf5Container) -> list[Copied]:
    images = recorded.images.get(view, [])
    factors = tuple(image.factors for image in images if image.factors is not None)
    if not images or len(factors) < len(images):
        raise FormatError(
            f"the journal does not say how time point {view.time} of setup {view.setup} lies in the file: it was "
            "written by an earlier version of npy2bdv, or is damaged itself"
        )
    depth = _depth(view, recorded, images)
    if not images[0].is_possible(depth):
        raise FormatError(
            f"the journal speaks of {depth} planes of time point {view.time} of setup {view.setup}, and of hardly any "
            "chunks: it is damaged itself"
        )
    pyramid = Pyramid(
        shape=(depth, *_plane(view, recorded, images)),
        factors=factors,
        chunks=tuple(image.chunk for image in images),
    )
    known = [_codec(image) for image in images]
    # an image with filters that we cannot write is there, and empty
    arrays = target.declare(view, pyramid, images[0].dtype, known[0] or RAW)
    found = []
    for image, array in zip(images, arrays, strict=True):
        if image.shape[1:] != array.shape[1:]:
            raise FormatError(f"the journal speaks of impossible sizes: {image.shape} of level {image.level}")
        places = image.places(array.shape[0])
        is_writable = _codec(image) is not None and _codec(image) == known[0]
        found.append(_copy(image, array, places, file) if is_writable else _nothing(array, places))
    _take_back(view, recorded, images, found, depth)
    return found


def _depth(view: ViewId, recorded: Recorded, images: list[Image]) -> int:
    """Return how many planes a view has, or may have as far as is known."""
    if view in recorded.open_ended and view in recorded.complete:
        return recorded.length(view)
    first = images[0]
    depth = first.shape[0]
    if view in recorded.open_ended:
        depth = max(depth, len(first.places().offsets) * first.chunk[0])
    if first.factors == (1, 1, 1):
        return max(depth, recorded.length(view)) if view in recorded.open_ended else depth
    size = size_of(view, recorded)
    return depth * (first.factors or (1, 1, 1))[0] if size is None else size[0]


def _plane(view: ViewId, recorded: Recorded, images: list[Image]) -> tuple[int, int]:
    """Return the size (y, x) of the full resolution, which need not be stored."""
    for image in images:
        if image.factors == (1, 1, 1):
            return image.shape[1:]
    if (size := size_of(view, recorded)) is not None:
        return size[1:]
    _, y, x = images[0].shape
    _, down, right = images[0].factors or (1, 1, 1)
    return y * down, x * right


def size_of(view: ViewId, recorded: Recorded) -> Zyx | None:
    """Return the size (z, y, x) of the full resolution as the XML would say it; None where it is not said."""
    if view not in recorded.described:
        return None
    setup = xml.parse(recorded.described[view], "the journal").setups.get(view.setup)
    if setup is None or setup.size_xyz is None:
        return None
    x, y, z = setup.size_xyz
    return z, y, x


def _codec(image: Image) -> Codec | None:
    """Return how chunks are compressed; None where they cannot be written as they are."""
    if not image.filters:
        return RAW
    shuffled = {"shuffle"} if image.dtype.itemsize > 1 else set()
    if set(image.filters) == {"deflate"} | shuffled:
        return Codec(name="gzip", level=image.filter_level)
    return None


def _nothing(array: Hdf5Level, places: Places) -> Copied:
    shape = places.offsets.shape
    return Copied(array=array, whole=np.zeros(shape, bool), sums=np.full(shape, -1, np.int64))


def _copy(image: Image, array: Hdf5Level, places: Places, file: BinaryIO) -> Copied:
    """Copy the chunks of an image, in the order in which they lie in the file."""
    found = _nothing(array, places)
    for place, data in _chunks(image, places, file):
        if data is not None:
            found.whole[place] = True
            if image.in_place and not np.frombuffer(data, np.uint8).any():
                continue  # never written: takes no space here, either
            found.sums[place] = checksum(data)
            array.store([(place, data)])
    return found


def _chunks(image: Image, places: Places, file: BinaryIO) -> Iterator[tuple[Zyx, bytes | None]]:
    """Iterate over the chunks that were stored; None in place of those that are damaged."""
    order = np.argsort(places.offsets, axis=None)
    file_size = file.seek(0, 2)
    for index in order.tolist():
        z, y, x = map(int, np.unravel_index(index, places.offsets.shape))
        place = z, y, x
        offset, nbytes = int(places.offsets[place]), int(places.nbytes[place])
        if offset == NOWHERE:
            return
        data = b""
        if offset + nbytes <= file_size:
            file.seek(offset)
            data = _read(file, nbytes)
        yield place, data if _is_whole(image, data, nbytes, int(places.sums[place])) else None


def _read(file: BinaryIO, nbytes: int) -> bytes:
    parts = []
    while nbytes and (part := file.read(nbytes)):
        parts.append(part)
        nbytes -= len(part)
    return b"".join(parts)


def _is_whole(image: Image, data: bytes, nbytes: int, crc: int) -> bool:
    if len(data) < nbytes or not data:
        return False
    if crc >= 0:
        return checksum(data) == crc
    if "deflate" in image.filters:  # such a stream has a checksum of its own
        try:
            inflate(data, image.chunk_bytes)
        except FormatError:
            return False
    return nbytes == image.chunk_bytes or bool(image.filters)


def _take_back(
    view: ViewId, recorded: Recorded, images: list[Image], found: list[Copied], depth: int
) -> None:
    """Take back what is said of planes whose chunks are not all there."""
    waiting = recorded.waiting(view, depth)
    for image, copied in zip(images, found, strict=True):
        if image.factors != (1, 1, 1):
            if not copied.whole.all():
                recorded.complete.discard(view)
            continue
        rows = copied.whole.all((1, 2))
        planes = np.zeros(depth, bool)
        known = np.repeat(rows, image.chunk[0])[:depth]
        planes[: len(known)] = known
        safe = recorded.there(view, depth)
        lost = safe & ~planes if image.in_place else safe & ~planes & ~waiting
        if lost.any():
            recorded.lose(view, lost)


def _check(copied: Copied) -> None:
    """Read chunks back and compare their checksums.

    Raises
    ------
    FormatError
        If one is another.
    """
    for z, y, x in np.argwhere(copied.sums >= 0).tolist():
        if checksum(copied.array.stored_chunk((z, y, x))) != copied.sums[z, y, x]:
            raise FormatError(
                f"the chunk {z, y, x} that was copied into the new file is another one there: the disk is damaged; "
                "the original is as it was"
            )
