"""What survives a kill: the lock that marks a dataset as being written, and the journal of a recording.

Beside ``NAME.h5`` lie, while it is written,

``NAME.h5.lock``
    Held through the operating system for as long as the process lives, so that a left-over one is no obstacle.
``NAME.h5.journal``
    What recovery trusts: who writes, the layout of each image, where compressed chunks went, which planes are
    there. It goes when the file is closed cleanly.
``NAME.h5.redo``
    What a flush of HDF5 is about to write; see storage/flushes.py.
``NAME.h5.planes``
    Raw planes of rows of chunks that are not full yet, where they cannot be written in place.

Both files are a line of text, then records: a header (kind, length of the text, length of the data, CRC-32 of
both; little-endian), a JSON text, binary data. A record that was torn by a kill fails its checksum and ends the
file.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from filelock import FileLock, Timeout
from isal import isal_zlib

from npy2bdv.errors import InUseError, WriteError
from npy2bdv.storage.save import move

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from npy2bdv.storage.base import Payload

_TITLE = b"npy2bdv journal 1\n"
_HEADER = struct.Struct("<4sIQI")  # kind, bytes of text, bytes of data, CRC-32


class Record(NamedTuple):
    """A record: its kind (four letters), what its text says, and its data."""

    kind: str
    text: dict[str, Any]
    data: bytes


def journal_path(pixels: Path) -> Path:
    """Return where the journal of a pixel file lies."""
    return pixels.with_name(pixels.name + ".journal")


def planes_path(pixels: Path) -> Path:
    """Return where the raw planes of unfinished rows lie."""
    return pixels.with_name(pixels.name + ".planes")


def redo_path(pixels: Path) -> Path:
    """Return where a flush of an HDF5 file is noted before it is made."""
    return pixels.with_name(pixels.name + ".redo")


def edit_path(pixels: Path) -> Path:
    """Return where the record of an edit of pixels lies; see `storage.pending`."""
    return pixels.with_name(pixels.name + ".edit")


def remove_leftovers(pixels: Path) -> None:
    """Remove the journal of an earlier recording of this name, and the record of an edit of what was there."""
    planes = planes_path(pixels)
    edit = edit_path(pixels)
    pages = edit.with_name(f"{edit.name}.pages")
    for path in (planes, _fresh(planes), redo_path(pixels), journal_path(pixels), pages, edit):
        path.unlink(missing_ok=True)


def _fresh(path: Path) -> Path:
    return path.with_name(path.name + ".new")


class Lock:
    """Marks a dataset as being written by this process, which the lock file names.

    Parameters
    ----------
    pixels
        The file or folder beside which the lock file lies.
    doing
        What is done with it, for the error that others get.

    Raises
    ------
    InUseError
        If another process is writing it.
    WriteError
        If the folder cannot be written to.
    """

    def __init__(self, pixels: Path, doing: Literal["written", "edited"] = "written") -> None:
        path = pixels.with_name(pixels.name + ".lock")
        self._lock = FileLock(path)
        try:
            self._lock.acquire(blocking=False)
        except (Timeout, OSError) as error:
            if path.is_file():
                raise InUseError(
                    f"{pixels} is being {_owner(path, pixels)}; wait until it has finished, or end it"
                ) from None
            raise WriteError(
                f"the folder {pixels.parent} cannot be written to ({error}); choose another"
            ) from error
        with contextlib.suppress(OSError):  # who it is is of use, no more
            path.write_text(json.dumps({"doing": doing, **_this_process()}), encoding="utf-8")

    def release(self) -> None:
        """Remove the lock file and let go."""
        path = Path(self._lock.lock_file)
        is_held = False
        try:
            path.unlink()
        except OSError as error:  # Windows does not remove what is open
            is_held = getattr(error, "winerror", None) is not None
        self._lock.release()
        if is_held:
            with contextlib.suppress(OSError):  # gone, or taken by the next process
                path.unlink()


def _this_process() -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _owner(lock: Path, pixels: Path) -> str:
    """Say who holds a lock: by the lock file, which Windows does not let others read, or by the journal."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return "{doing} by process {pid} on {host} since {since}".format(
            **json.loads(lock.read_text(encoding="utf-8"))
        )
    for record in read_records(journal_path(pixels)):
        if record.kind == "open":
            return "written by process {pid} on {host} since {since}".format(**record.text)
    return "written or edited by another process"


class Journal:
    """A file of records that is appended to. Safe for use by several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()
        self._file = path.open("wb", buffering=0)
        self._end = 0
        self._broken: OSError | None = None
        try:
            self._append(_TITLE)
        except OSError:
            self._file.close()
            raise

    @classmethod
    def of(cls, pixels: Path) -> Journal:
        """Start the journal of a pixel file."""
        journal = cls(journal_path(pixels))
        try:
            journal.add("open", {**_this_process(), "file": pixels.name})
        except OSError:
            journal.close(remove=True)
            raise
        return journal

    def add(self, kind: str, text: dict[str, Any], data: Payload = b"") -> None:
        """Append a record and hand it to the operating system."""
        words = json.dumps(text, separators=(",", ":")).encode()
        crc = isal_zlib.crc32(data, isal_zlib.crc32(words))
        header = _HEADER.pack(kind.encode(), len(words), len(data), crc)
        with self._guard:
            # in one call, so that a kill leaves a whole record or a torn end
            self._append(b"".join((header, words, data)))

    def _append(self, record: bytes) -> None:
        """Write a record, or nothing: what follows a part of one would never be found (a full disk may take a part)."""
        if self._broken is not None:
            raise OSError(self._broken.errno, self._broken.strerror, str(self.path))
        try:
            left = memoryview(record)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            try:
                self._file.truncate(self._end)
                self._file.seek(self._end)
            except OSError:
                self._broken = error
            raise
        self._end += len(record)

    def replace(self, records: Iterable[tuple[str, dict[str, Any], Payload]]) -> None:
        """Write other records in place of all, so that a kill leaves the old or the new ones."""
        with self._guard:
            fresh = Journal(_fresh(self.path))
            for kind, text, data in records:
                fresh.add(kind, text, data)
            fresh.close(remove=False)
            self._file.close()
            move(fresh.path, self.path)
            self._file = self.path.open("ab", buffering=0)
            self._end = fresh._end

    def clear(self) -> None:
        """Forget all records."""
        with self._guard:
            self._file.truncate(len(_TITLE))
            self._file.seek(len(_TITLE))
            self._end = len(_TITLE)

    @property
    def is_empty(self) -> bool:
        """Whether there is no record."""
        return self.nbytes <= len(_TITLE)

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return self._end

    def sync(self) -> None:
        """Wait until the records are on the disk."""
        os.fsync(self._file.fileno())

    def close(self, *, remove: bool) -> None:
        """Close the file; `remove` it if it has served its purpose."""
        self._file.close()
        if remove:
            self.path.unlink(missing_ok=True)


def read_records(path: Path) -> Iterator[Record]:
    """Iterate over the records of a file up to the first torn one; nothing where there is no such file."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        if file.read(len(_TITLE)) != _TITLE:
            return
        while len(head := file.read(_HEADER.size)) == _HEADER.size:
            kind, n_words, n_data, crc = _HEADER.unpack(head)
            if not n_words or n_words + n_data > path.stat().st_size:  # zeros, after a power cut, or nonsense
                return
            words, data = file.read(n_words), file.read(n_data)
            if len(data) < n_data or isal_zlib.crc32(data, isal_zlib.crc32(words)) != crc:
                return
            try:
                text = json.loads(words)
            except (ValueError, RecursionError):
                return
            if not isinstance(text, dict):
                return
            yield Record(kind.decode("ascii", "replace"), text, data)
