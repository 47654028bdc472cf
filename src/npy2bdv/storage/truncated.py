"""What can still be said of an HDF5 file that was cut short, which HDF5 itself refuses to open."""

from __future__ import annotations

import io
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import h5py

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UNREADABLE = (OSError, RuntimeError, KeyError, AttributeError, TypeError)


class PaddedFile(io.RawIOBase):
    """A file that seems to be as long as it should be: zeros stand for what is gone. For h5py, to read from."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = path.open("rb")
        self._size = size

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it has a position."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, from the start or from the end that it should have."""
        return self._file.seek(self._size + offset if whence == io.SEEK_END else offset, whence % io.SEEK_END)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer."""
        there = self._file.readinto(buffer)
        buffer[there:] = bytes(len(buffer) - there)
        self._file.seek(len(buffer) - there, io.SEEK_CUR)
        return len(buffer)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def what_is_whole(path: Path, error: str, view: re.Pattern[str]) -> str:
    """Return a sentence, for an error of HDF5 that a file was cut short, that names the views that are whole.

    `view` matches the path of a view: its time point and its setup are the groups. Empty for other errors.
    """
    stored = re.search(r"truncated file.*stored_eof = (\d+)", error)
    if not stored:
        return ""
    size, whole = path.stat().st_size, []
    with (
        suppress(*_UNREADABLE, ValueError, OverflowError),
        PaddedFile(path, int(stored[1])) as padded,
        h5py.File(padded) as file,
    ):
        for match in filter(None, map(view.fullmatch, _groups_in_groups(file))):
            if _is_whole(file, f"{match[0]}/0/cells", size):
                whole.append(f"time {int(match[1])} of setup {int(match[2])}")  # noqa: PERF401 - may end early
    listed = ", ".join([*whole[:12], f"... ({len(whole)} in all)"] if whole[12:] else whole) or "none"
    return f". It has {size} of {stored[1]} bytes; views that are whole: {listed}. Copy it again if you can"


def _groups_in_groups(file: h5py.File) -> Iterator[str]:
    """Iterate over the names of groups in groups, as far as they can be read."""
    for outer in file:
        with suppress(*_UNREADABLE):
            yield from [f"{outer}/{inner}" for inner in file[outer]]


def _is_whole(file: h5py.File, name: str, size: int) -> bool:
    """Tell whether a dataset and all its chunks lie in the first `size` bytes of its file."""
    ends = [0]
    try:
        cells = file[name]
        if cells.chunks is None:
            offset = cells.id.get_offset()
            return offset is not None and offset + cells.id.get_storage_size() <= size
        if cells.id.get_num_chunks():
            cells.id.chunk_iter(lambda info: ends.append(info.byte_offset + info.size))
    except _UNREADABLE:
        return False
    return max(ends) <= size
