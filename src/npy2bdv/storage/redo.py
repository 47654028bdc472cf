"""A file that is changed all at once: what lay in it stays as it is until the whole change is known.

`RedoFile` stands between HDF5 and a file. What is written at or behind the former end of the file goes into it:
nothing that was there before points to it. What is written before that end (links, tables of chunks, the
superblock: little, since images are written once) is held back, page by page, and readers of the object see it.
So the file on disk is the old one with a tail that nobody knows, until the held pages are written into it; whoever
has them in a safe place may do so as often as it takes. See `storage.pending`.
"""

from __future__ import annotations

import errno
import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = 4096

_PAGES_IN_MEMORY = 16_384  # 64 MiB; a crop of thousands of views stays far below


class RedoFile(io.RawIOBase):
    """A file for reading and writing, as ``h5py.File`` takes one, whose former content stays as it is.

    One thread at a time may use it, which h5py's lock sees to. After an error of writing (a full disk) nothing
    more reaches the file, and `error` says which it was: HDF5 does not always hand errors on, and must be able
    to close what it has open.

    Parameters
    ----------
    path
        The file, which exists.
    spill
        Where pages are kept that would take too much memory; the file is removed by `close`.

    Attributes
    ----------
    former_size
        How long the file was.
    size
        How long it is to be.
    error
        What went wrong first.
    """

    def __init__(self, path: Path, spill: Path) -> None:
        self.path = path
        self.error: OSError | None = None
        self._file: BinaryIO = path.open("r+b", buffering=0)
        self.former_size = self.size = os.fstat(self._file.fileno()).st_size
        self._pages = _Pages(spill)
        self._place = 0
        self.wrote_at = 0
        """Where the last bytes went."""

    # -- as a file ---------------------------------------------------------------------------------------

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Return the place in the file."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read what the changed file holds."""
        view = memoryview(buffer).cast("B")[: max(0, self.size - self._place)]
        start, stop = self._place, self._place + len(view)
        _read_fully(self._file, start, view)
        for number in range(start // PAGE, -(-min(stop, self.former_size) // PAGE)):
            page = self._pages.get(number)
            if page is not None:
                first = number * PAGE
                low, high = max(start, first), min(stop, first + len(page))
                view[low - start : high - start] = page[low - first : high - first]
        self._place = stop
        return len(view)

    def write(self, data: Any) -> int:
        """Write behind the former end, and hold back what lies before it."""
        view = memoryview(data).cast("B")
        place, nbytes = self._place, len(view)
        held = min(max(0, self.former_size - place), nbytes)
        if self.error is None:
            try:
                self._hold(place, view[:held])
                _write_fully(self._file, place + held, view[held:])
                self.wrote_at = place
            except OSError as error:  # see the class
                self.error = error
        self._place += nbytes
        self.size = max(self.size, self._place)
        return nbytes

    def truncate(self, size: int | None = None) -> int:
        """Make the file longer or shorter; never shorter than it was, which `pages` and `size` will do."""
        self.size = self._place if size is None else size
        if self.error is None:
            try:
                self._file.truncate(max(self.size, self.former_size))
            except OSError as error:  # see the class
                self.error = error
        return self.size

    def flush(self) -> None:
        """Nothing: what is written has been handed to the system."""

    def close(self) -> None:
        """Close the file and forget the held pages. A second call does nothing."""
        if not self.closed:
            super().close()
            self._file.close()
            self._pages.close()

    # -- for the one who makes the change -----------------------------------------------------------------

    @contextmanager
    def flushing(self, *, sync: bool = False) -> Iterator[None]:
        """Let HDF5 flush: nothing more is held back for that than is anyway."""
        yield
        self.check()
        if sync:
            self.sync()

    def check(self) -> None:
        """Raise what went wrong.

        Raises
        ------
        OSError
            What the system said.
        """
        if self.error is not None:
            raise self.error

    def sync(self) -> None:
        """Wait until what was written behind the former end is on the disk."""
        os.fsync(self._file.fileno())

    @property
    def held_bytes(self) -> int:
        """How many bytes are held back."""
        return len(self._pages) * PAGE

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """Iterate over what is held back: the place in the file, and what is to be written there."""
        for number in sorted(self._pages):
            page = self._pages.get(number)
            assert page is not None
            yield number * PAGE, bytes(page)

    def _hold(self, place: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            number, inside = divmod(place + done, PAGE)
            page = self._pages.get(number)
            if page is None:
                page = bytearray(min(PAGE, self.former_size - number * PAGE))
                _read_fully(self._file, number * PAGE, memoryview(page))
            part = view[done : done + len(page) - inside]
            page[inside : inside + len(part)] = part
            self._pages.put(number, page)
            done += len(part)


class _Pages:
    """Pages by their number; many of them lie in a file."""

    def __init__(self, spill: Path) -> None:
        self._spill = spill
        self._file: BinaryIO | None = None
        self._in_memory: dict[int, bytearray] = {}
        self._slots: dict[int, int] = {}
        """Where pages lie in the file."""

    def __len__(self) -> int:
        return len(self._in_memory) + len(self._slots)

    def __iter__(self) -> Iterator[int]:
        yield from self._in_memory
        yield from self._slots

    def get(self, number: int) -> bytearray | None:
        slot = self._slots.get(number)
        if slot is None:
            return self._in_memory.get(number)
        assert self._file is not None
        self._file.seek(slot * (PAGE + 2))
        found = self._file.read(PAGE + 2)
        return bytearray(found[2 : 2 + int.from_bytes(found[:2], "little")])

    def put(self, number: int, page: bytearray) -> None:
        if number in self._in_memory or (
            number not in self._slots and len(self._in_memory) < _PAGES_IN_MEMORY
        ):
            self._in_memory[number] = page
            return
        if self._file is None:
            self._file = self._spill.open("w+b", buffering=0)
        slot = self._slots.setdefault(number, len(self._slots))
        content = len(page).to_bytes(2, "little") + page.ljust(PAGE, b"\0")
        _write_fully(self._file, slot * (PAGE + 2), memoryview(content))

    def close(self) -> None:
        self._in_memory.clear()
        self._slots.clear()
        if self._file is not None:
            self._file.close()
            self._spill.unlink(missing_ok=True)


def _read_fully(file: BinaryIO, place: int, view: memoryview) -> None:
    """Fill a buffer from a place in a file; with zeros where it ends."""
    file.seek(place)
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]  # an unbuffered file has it
        if not count:
            view[done:] = bytes(len(view) - done)
            return
        done += count


def _write_fully(file: BinaryIO, place: int, view: memoryview) -> None:
    """Write a buffer to a place in a file, all of it."""
    if view:
        file.seek(place)
    while view:
        count = file.write(view)
        if not count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[count:]
