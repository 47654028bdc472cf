"""The file under HDF5 while it is written: what a flush writes reaches it all at once.

HDF5 writes its own description of a file (which chunk lies where) by many separate writes. A kill between two of
them would leave a file that cannot be opened. So those of a flush are gathered, written as one checksummed record
into ``NAME.h5.redo``, then into the file, and the record is emptied. Whenever the process ends, the file is as it was
before the flush, or the record says what is still to be written; see `replay`.

After an error of the disk nothing more is written: HDF5 is told that all went well, and can close. The file stays as
the last flush left it, with the chunks that came since.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
from h5py._objects import phil  # h5py's lock around the library

from npy2bdv.storage.journal import Journal, read_records, redo_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from npy2bdv.storage.base import Payload
    from npy2bdv.storage.redo import RedoFile

Patch = tuple[int, bytes]
"""Bytes, and where in the file they go."""


_pwrite = getattr(os, "pwrite", None)
"""Writes without moving the file's place; Windows has none, and writes one at a time."""


class FlushedFile:
    """A file object for h5py whose flushes are whole or not there.

    Attributes
    ----------
    error
        The first error of the disk, None while there was none. Nothing is written after it.
    """

    def __init__(self, path: Path, mode: Literal["r+", "x"]) -> None:
        self.path = path
        self.error: OSError | None = None
        self._file = path.open("r+b" if mode == "r+" else "x+b", buffering=0)
        self._end = os.fstat(self._file.fileno()).st_size
        self._place = 0
        self.wrote_at = 0
        """Where the last bytes went: the place of a chunk that HDF5 has just stored."""
        self._guard = threading.Lock()
        """Held while the place in the file is one's own."""
        self._held: list[Patch] | None = None
        self._redo: Journal | None = None

    # -- for HDF5, whose driver hides exceptions: errors are kept for `check` ----------------------------

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._place = offset + (self._end if whence == os.SEEK_END else 0)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        """Read what the file holds, or will hold; zeros beyond its end."""
        target = memoryview(buffer).cast("B")
        done = 0
        try:
            with self._guard:
                self._file.seek(self._place)
                while done < len(target) and (count := self._file.readinto(target[done:])):
                    done += count
        except OSError as error:
            self.error = self.error or error
        target[done:] = bytes(len(target) - done)
        for patch in self._held or ():
            lay_over(target, self._place, patch)
        return len(target)

    def write(self, data: memoryview) -> int:
        """Write, or hold back while the file is flushed."""
        part = memoryview(data).cast("B")
        if self._held is not None:
            self._held.append((self._place, bytes(part)))
        else:
            self._try_put(self._place, part)
            self.wrote_at = self._place
        self._end = max(self._end, self._place + len(part))
        return len(part)

    def truncate(self, size: int) -> int:
        """Give the file another length."""
        if size != self._end:
            self._end = size
            if self._held is None:
                self._try_resize(size)
        return size

    def flush(self) -> None:
        """Nothing: writes are not buffered."""

    # -- for the container -------------------------------------------------------------------------------

    @contextmanager
    def flushing(self, *, sync: bool = False) -> Iterator[None]:
        """Hold back what is written meanwhile, then write it all at once; with `sync` wait until it is on the disk.

        Raises
        ------
        OSError
            The first error of the disk.
        """
        with phil:
            collects = gc.isenabled()
            gc.disable()  # it might close an object of h5py while HDF5 is in the middle of its cache
            self._held = []
            try:
                yield
            finally:
                held, self._held = self._held, None
                if collects:
                    gc.enable()
            self.check()
            try:
                self._settle(held, sync=sync)
            except OSError as error:
                self.error = self.error or error
            self.check()

    def _settle(self, held: list[Patch], *, sync: bool) -> None:
        grown = self._end != os.fstat(self._file.fileno()).st_size
        if held or grown:
            if self._redo is None:
                self._redo = Journal(redo_path(self.path))
            write_redo(self._redo, held, self._end)
            if sync:
                self._redo.sync()
            for offset, data in held:
                self._put(offset, data)
            self._file.truncate(self._end)
        if sync:
            os.fsync(self._file.fileno())
        if held or grown:
            assert self._redo is not None
            self._redo.clear()

    def put_chunk(self, offset: int, data: Payload) -> None:
        """Write a chunk to the place that HDF5 gave it, past HDF5: two threads are then not in each other's way.

        Only for places that the last flush made known, in images without filters: HDF5 keeps nothing of their
        pixels (its cache of chunks has no room).

        Raises
        ------
        OSError
            The first error of the disk.
        """
        self.check()
        try:
            self._put(offset, data)
        except OSError as error:
            self.error = self.error or error
        self.check()

    def check(self) -> None:
        """Raise the first error of the disk."""
        if self.error is not None:
            raise OSError(
                self.error.errno or errno.EIO, self.error.strerror or str(self.error), str(self.path)
            )

    def close(self) -> None:
        """Close the file; the record goes if the file needs it no more."""
        self._file.close()
        if self._redo is not None:
            done = self._redo.is_empty
            with contextlib.suppress(OSError):
                self._redo.close(remove=done)
            self._redo = None

    def _try_put(self, offset: int, data: memoryview) -> None:
        if self.error is None:
            try:
                self._put(offset, data)
            except OSError as error:
                self.error = error

    def _try_resize(self, size: int) -> None:
        if self.error is None:
            try:
                self._file.truncate(size)
            except OSError as error:
                self.error = error

    def _put(self, offset: int, data: memoryview | bytes) -> None:
        """Write to the disk; all bytes go through here."""
        left = memoryview(data)
        if _pwrite is not None:  # two threads write at once
            while left:
                count = _pwrite(self._file.fileno(), left, offset)
                left, offset = left[count:], offset + count
            return
        with self._guard:
            self._file.seek(offset)
            while left:
                left = left[self._file.write(left) :]


class OverlaidFile(io.RawIOBase):
    """A file object for h5py: a file as it will be when a flush has been completed. For reading."""

    def __init__(self, path: Path, patches: list[Patch], size: int | None) -> None:
        self._file = path.open("rb", buffering=0)
        self._patches = patches
        self._size = os.fstat(self._file.fileno()).st_size if size is None else size
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._place = offset + (self._size if whence == os.SEEK_END else 0)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read what the file will hold; zeros beyond its end."""
        target = memoryview(buffer).cast("B")
        self._file.seek(self._place)
        done = 0
        while done < len(target) and (count := self._file.readinto(target[done:])):
            done += count
        target[done:] = bytes(len(target) - done)
        for patch in self._patches:
            lay_over(target, self._place, patch)
        return len(target)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def lay_over(target: memoryview, place: int, patch: Patch) -> None:
    """Put what a patch says of a part of a file, which begins at `place`, over what was read of it."""
    offset, data = patch
    start, stop = max(offset, place), min(offset + len(data), place + len(target))
    if start < stop:
        target[start - place : stop - place] = data[start - offset : stop - offset]


def write_redo(redo: Journal, held: list[Patch], end: int) -> None:
    """Write what a flush will write, and the length of the file after it, as one record in place of the last."""
    redo.clear()
    redo.add(
        "redo",
        {"size": end, "writes": [(offset, len(data)) for offset, data in held]},
        b"".join(data for _, data in held),
    )


def pending_flush(path: Path) -> tuple[list[Patch], int] | None:
    """Return what a flush was about to write when its process ended, and the length that the file was to have."""
    for kind, text, data in read_records(redo_path(path)):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            size, writes = (
                int(text["size"]),
                [(int(offset), int(length)) for offset, length in text["writes"]],
            )
            if (
                kind == "redo"
                and size >= 0
                and all(0 <= offset <= offset + length <= size for offset, length in writes)
            ):
                ends = np.cumsum([0, *(length for _, length in writes)]).tolist()
                return [
                    (offset, data[start : start + length])
                    for start, (offset, length) in zip(ends, writes, strict=False)
                ], size
    return None


def complete_flush(path: Path, pending: tuple[list[Patch], int]) -> None:
    """Write what a flush was about to write. May be repeated."""
    patches, size = pending
    with path.open("r+b", buffering=0) as file:
        for offset, data in patches:
            file.seek(offset)
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
        file.truncate(size)
        os.fsync(file.fileno())


def open_file(medium: FlushedFile | RedoFile, mode: Literal["r+", "x"]) -> h5py.File:
    """Open a file of HDF5's earliest format through a file object.

    By h5py's lower layer, so that HDF5 knows the name of the file, from which links to other files are resolved.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    # who writes hands over whole chunks: a cache for each image would only take memory
    access.set_cache(0, 0, 0, 0.0)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, medium)
    name: Any = os.fsencode(medium.path)
    if mode == "x":
        made = h5py.h5p.create(h5py.h5p.FILE_CREATE)
        made.set_link_creation_order(0)
        return h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, fcpl=made, fapl=access))
    return h5py.File(h5py.h5f.open(name, h5py.h5f.ACC_RDWR, fapl=access))
