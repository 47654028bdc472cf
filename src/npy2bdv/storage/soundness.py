"""Whether HDF5 finds in a file what the journal of its recording says is in it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import h5py
import numpy as np

from npy2bdv.errors import FormatError
from npy2bdv.storage.codecs import checksum, inflate
from npy2bdv.storage.flushes import OverlaidFile, pending_flush
from npy2bdv.storage.recorded import NOWHERE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from npy2bdv.storage.recorded import Image, Recorded

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DEEPEST = 4
_SUPERBLOCKS = {0: (13, 40), 1: (13, 44), 2: (9, 28), 3: (9, 28)}
"""For each version where the size of offsets is said, and the end of what is taken."""


def what_is_damaged(path: Path, recorded: Recorded) -> str | None:
    """Say what is wrong with HDF5's description of a file; None if all that is safe can be reached by it.

    Looks at the file as it will be when a flush that was interrupted has been completed. Reads no pixels.
    """
    patches, size = pending_flush(path) or ([], None)
    try:
        with OverlaidFile(path, patches, size) as medium, h5py.File(medium, "r") as file:
            _walk(file)
            for view in sorted(recorded.images):
                is_expected = bool(recorded.length(view)) or view in recorded.complete
                for image in recorded.images[view]:
                    if is_expected or image.path in file:
                        _check(image, file, recorded, medium)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        return str(error.args[0] if isinstance(error, KeyError) and error.args else error) or repr(error)
    return None


def can_be_walked(path: Path) -> bool:
    """Tell whether HDF5 can read all of its description of a file."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            _walk(file)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError):
        return False
    return True


def _walk(group: h5py.Group, depth: int = 0) -> None:
    """Look at each group, image, table and attribute."""
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):  # to other files
            continue
        item = group[name]
        dict(item.attrs)
        if isinstance(item, h5py.Group) and depth < _DEEPEST:
            _walk(item, depth + 1)
        elif isinstance(item, h5py.Dataset) and item.ndim == 2:  # factors and block sizes
            item[()]


def _end_of(medium: OverlaidFile) -> int:
    """Return where the space ends that HDF5 regards as taken: what lies beyond it may be given away again."""
    head = bytearray(64)
    medium.seek(0)
    medium.readinto(head)
    offset_size, end = _SUPERBLOCKS.get(head[8], (0, 0))
    if bytes(head[:8]) != _SIGNATURE or not end or head[offset_size] != 8:
        raise ValueError("its superblock is none of HDF5's")
    return int.from_bytes(head[end : end + 8], "little")


def _check(image: Image, file: h5py.File, recorded: Recorded, medium: OverlaidFile) -> None:
    """Raise a ValueError if the chunks of an image that are safe are not those that the file knows."""
    cells = file[image.path]
    if not isinstance(cells, h5py.Dataset) or cells.ndim != 3 or cells.chunks != image.chunk:
        raise ValueError(f"{image.path} is not the image that was recorded")
    expected = image.places(min(image.shape[0], cells.shape[0]) if image.in_place else None)
    if image.filters and not set(image.filters) <= {"shuffle", "deflate"}:
        return  # sizes and places were not noted
    found = np.full(expected.offsets.shape, NOWHERE, np.uint64)
    sizes = np.zeros(expected.offsets.shape, np.int64)

    def look(chunk: h5py.h5d.StoreInfo) -> None:
        place = tuple(start // length for start, length in zip(chunk.chunk_offset, image.chunk, strict=True))
        if place[0] < len(found):
            found[place], sizes[place] = chunk.byte_offset, chunk.size

    cells.id.chunk_iter(look)
    end = _end_of(medium)
    beyond = (found != NOWHERE) & (found + sizes.astype(np.uint64) > end)
    other = (found != expected.offsets) | ((sizes != expected.nbytes) & (found != NOWHERE))
    wanted = _rows_wanted(image, recorded, len(found))[:, np.newaxis, np.newaxis]
    wrong = (other & wanted) | beyond | (other & (found != NOWHERE))
    for place in map(tuple, np.argwhere(wrong & ~beyond & (found != NOWHERE)).tolist()):
        # stored once more after the last flush, or not noted yet: what the file points to must be whole
        if _is_whole(
            image, place, int(found[place]), int(sizes[place]), medium, noted=bool(wanted[place[0]])
        ):
            wrong[place] = False
    if wrong.any():
        row = int(np.flatnonzero(wrong.any((1, 2)))[0])
        raise ValueError(
            f"{int(wrong.sum())} of {math.prod(wrong.shape)} chunks of {image.path} are not where they were "
            f"written, the first in planes from {row * image.chunk[0]} on"
        )


def _is_whole(
    image: Image, place: tuple[int, ...], offset: int, nbytes: int, medium: OverlaidFile, *, noted: bool
) -> bool:
    """Tell whether a chunk lies at an offset: by what was `noted` some time, or else by the chunk itself."""
    data = bytearray(nbytes)
    medium.seek(offset)
    medium.readinto(data)
    for notes in image.notes:
        for crc in notes[(notes[:, [0, 1, 2, 3, 5]] == (*place, nbytes, offset)).all(1), 4].tolist():
            if checksum(memoryview(data)) == crc:
                return True
    if noted or image.in_place:
        return False
    if "deflate" not in image.filters:
        return nbytes == image.chunk_bytes
    try:
        inflate(bytes(data), image.chunk_bytes)
    except FormatError:
        return False
    return True


def _rows_wanted(image: Image, recorded: Recorded, n_rows: int) -> NDArray[np.bool_]:
    """Return of which rows of chunks all chunks must be there."""
    if image.in_place or image.view in recorded.complete:
        return np.ones(n_rows, bool)
    if image.factors != (1, 1, 1):  # lower levels lag behind, and are made again
        return np.zeros(n_rows, bool)
    depth = n_rows * image.chunk[0]
    stored = recorded.there(image.view, depth) & ~recorded.waiting(image.view, depth)
    rows: NDArray[np.bool_] = np.logical_or.reduce(stored.reshape(n_rows, image.chunk[0]), axis=1)
    return rows
