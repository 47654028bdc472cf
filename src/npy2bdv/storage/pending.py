"""The pending-edit record: one file in which an edit of a dataset is stated as a whole before it happens.

Beside ``NAME.h5`` (``NAME.n5``, ``NAME.ome.zarr``) lies, while pixels are edited, ``NAME.h5.edit``: records as in
`storage.journal`. It begins with what has to be taken back if the edit comes to nothing: how long the file was,
and what lies beside the images in use. New images are written there, where nothing points to them. Then everything
that has to change is added to the record, and its last line; from that instant the edit has happened, and has
only to be carried out, which may be begun again as often as it takes. Without the last line it never happened.

All paths in the record are relative to the folder of the XML; none leads out of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from npy2bdv.errors import FormatError, InvalidInputError, WriteError
from npy2bdv.storage.files import PART, remove_folder
from npy2bdv.storage.journal import Journal, edit_path, read_records
from npy2bdv.storage.save import keep_backup, move, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger(__name__)

VERSION = 1


def record_path(pixels: Path) -> Path:
    """Return where the record of a pixel file or folder lies."""
    return edit_path(pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file that gets new content. With `backup` the old one is kept as ``NAME~1``."""

    path: Path
    content: bytes
    backup: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an edit changes in folders.

    Attributes
    ----------
    swaps
        A file or folder that was written beside (source), and the one whose place it takes (target).
    files
        Small files that get new content.
    removed
        Files and folders that go.
    """

    swaps: tuple[tuple[Path, Path], ...] = ()
    files: tuple[NewFile, ...] = ()
    removed: tuple[Path, ...] = ()

    def __add__(self, other: Change) -> Change:
        return Change(
            swaps=self.swaps + other.swaps,
            files=self.files + other.files,
            removed=self.removed + other.removed,
        )


class PendingEdit:
    """The record of one edit, while it is made. The caller holds the lock of the dataset.

    Parameters
    ----------
    pixels
        The pixel file or folder.
    root
        The folder of the XML, in which all lies that is changed.
    size
        How long the pixel file is; None where it is a folder.
    beside
        What will be written beside, and goes again if the edit comes to nothing.

    Raises
    ------
    InvalidInputError
        If something lies outside of `root`.
    WriteError
        If an earlier edit left its record: finish or undo it first.
    """

    def __init__(
        self, pixels: Path, root: Path, *, size: int | None = None, beside: Iterable[Path] = ()
    ) -> None:
        self.path = record_path(pixels)
        if self.path.exists():
            raise WriteError(
                f"an earlier edit of {pixels} was interrupted; finish or undo it first: npy2bdv recover {pixels}"
            )
        self._root = root.resolve()
        text = {
            "version": VERSION,
            "pixels": self._inside(pixels),
            "size": size,
            "beside": [self._inside(each) for each in beside],
            "host": platform.node(),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._pixels = pixels
        try:
            self._journal = Journal(self.path)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        try:
            self._journal.add("edit", text)
            self._journal.sync()
            sync_folder(self.path.parent)
        except BaseException:
            self._journal.close(remove=True)
            raise

    def _inside(self, path: Path) -> str:
        return _inside(path, self._root)

    def commit(
        self,
        change: Change,
        *,
        pages: Iterable[tuple[int, bytes]] = (),
        size: int | None = None,
    ) -> None:
        """Make the record complete: from now on the edit has happened. All that lies beside must be on the disk.

        Parameters
        ----------
        change
            What changes in folders.
        pages
            What is to be written into the pixel file, and where.
        size
            How long the pixel file will be.
        """
        count = 0
        for count, (place, page) in enumerate(pages, 1):  # noqa: B007 - the last one is wanted
            self._journal.add("page", {"at": place}, page)
        for source, target in change.swaps:
            self._journal.add("swap", {"source": self._inside(source), "target": self._inside(target)})
        for file in change.files:
            self._journal.add("file", {"path": self._inside(file.path), "backup": file.backup}, file.content)
        for path in change.removed:
            self._journal.add("gone", {"path": self._inside(path)})
        self._journal.sync()
        before = self._journal.nbytes
        try:
            self._journal.add("done", {"size": size, "pages": count})
            self._journal.sync()
        except BaseException:
            os.truncate(self.path, before)  # it has not happened, whatever part of this line is there
            raise
        self._journal.close(remove=False)

    def finish(self) -> None:
        """Carry out a complete record, and remove it."""
        finish_or_undo(self._pixels)

    def undo(self) -> None:
        """Take back all that was begun. A record that is complete is finished instead: it has happened."""
        self._journal.close(remove=False)
        finish_or_undo(self._pixels)


State = Literal["", "begun", "committed"]


def pending(pixels: Path) -> State:
    """Tell whether an edit was interrupted: before or after the instant at which it happened."""
    path = record_path(pixels)
    if not path.is_file():
        return ""
    last = ""
    for record in read_records(path):
        last = record.kind
    return "committed" if last == "done" else "begun"


def finish_or_undo(pixels: Path) -> Literal["", "finished", "undone"]:
    """Finish an edit that was interrupted after it was committed; undo one that was not.

    To be called with the lock of the dataset held. Calling it again, after a kill within, goes on.

    Returns
    -------
    done
        Which of both; empty where there was no record.

    Raises
    ------
    FormatError
        If the record is of a later version, belongs to another dataset, or names something outside of the
        dataset's folder. Nothing has been changed.
    WriteError
        If it cannot be carried out; the record stays, and this may be called again.
    """
    state = pending(pixels)
    if not state:
        return ""
    path = record_path(pixels)
    record = _Record(path, pixels)
    try:
        if state == "committed":
            record.finish()
        else:
            record.undo()
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise WriteError(
            f"an edit of {pixels} has {'happened, but is' if state == 'committed' else 'not happened, but is'} not "
            f"carried to its end ({error}); make room, or close the programs that hold its files; then: "
            f"npy2bdv recover {pixels}"
        ) from error
    return "finished" if state == "committed" else "undone"


@dataclass(slots=True)
class _Record:
    """What a record says, except for the pages, of which there may be many."""

    path: Path
    pixels: Path
    size: int | None = None
    former_size: int | None = None
    root: Path = Path()
    beside: list[Path] = field(default_factory=list)
    swaps: list[tuple[Path, Path]] = field(default_factory=list)
    files: list[NewFile] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        for kind, text, data in read_records(self.path):
            if kind == "edit":
                self._begin(text)
            elif kind == "swap":
                self.swaps.append((self._place(text["source"]), self._place(text["target"])))
            elif kind == "file":
                path = self._place(text["path"])
                self.files.append(NewFile(path=path, content=data, backup=text["backup"]))
            elif kind == "gone":
                self.removed.append(self._place(text["path"]))
            elif kind == "done":
                self.size = text["size"]

    def _begin(self, text: dict[str, Any]) -> None:
        if text["version"] != VERSION:
            raise FormatError(
                f"{self.path} was written by another version of npy2bdv (record version {text['version']}, this one "
                f"knows {VERSION}); use that version to finish or undo the edit"
            )
        named = PurePosixPath(text["pixels"])
        if named.parts[-1:] != (self.pixels.name,) or ".." in named.parts:
            raise FormatError(f"{self.path} belongs to {named}, not to {self.pixels.name}")
        self.root = self.pixels.resolve().parents[len(named.parts) - 1]
        self.former_size = text["size"]
        self.beside = [self._place(each) for each in text["beside"]]

    def _place(self, text: str) -> Path:
        path = self.root / PurePosixPath(text)
        _inside(path, self.root)
        return path

    def finish(self) -> None:
        """Carry it out; each step may have been done before, wholly or in part."""
        if self.size is not None:
            self._write_pages()
        parents = set()
        for source, target in self.swaps:
            if os.path.lexists(source):
                if os.path.lexists(target):
                    move(target, _trash(target))
                target.parent.mkdir(parents=True, exist_ok=True)
                move(source, target)
                parents |= {source.parent, target.parent}
        for parent in parents:
            sync_folder(parent)
        for file in self.files:
            _put(file)
        for path in (*self.removed, *(_trash(target) for _, target in self.swaps), *self.beside):
            _remove(path)

    def undo(self) -> None:
        """Take back what was begun."""
        for path in self.beside:
            _remove(path)
        if self.former_size is not None and self.pixels.stat().st_size > self.former_size:
            if hdf5_end(self.pixels) > self.former_size:
                logger.warning("%s was changed by another program since; it stays as it is", self.pixels)
                return
            with self.pixels.open("r+b") as file:
                file.truncate(self.former_size)
                os.fsync(file.fileno())

    def _write_pages(self) -> None:
        with self.pixels.open("r+b", buffering=0) as file:
            for kind, text, data in read_records(self.path):
                if kind == "page":
                    file.seek(text["at"])
                    left = memoryview(data)
                    while left:
                        left = left[file.write(left) :]
            assert self.size is not None
            file.truncate(self.size)
            os.fsync(file.fileno())


def hdf5_end(path: Path) -> int:
    """Return where the content of an HDF5 file ends, as its superblock says; 0 where there is none."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head.startswith(b"\x89HDF\r\n\x1a\n") or len(head) < 64:
        return 0
    place = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8], 0)
    return int.from_bytes(head[place : place + 8], "little") if place else 0


def _inside(path: Path, root: Path) -> str:
    """Return a path relative to the folder of the dataset.

    Raises
    ------
    InvalidInputError
        If it lies outside, or a link leads there.
    """
    whole = path.parent.resolve() / path.name
    if not path.resolve().is_relative_to(root) or whole == root:
        raise InvalidInputError(
            f"{path} lies outside of the dataset's folder {root}, where nothing is written or removed; put pixels "
            "and XML into one folder, or edit a copy (npy2bdv convert)"
        )
    return whole.relative_to(root).as_posix()


def _trash(target: Path) -> Path:
    """Return where something goes whose place is taken; one name, so that a second run finds it."""
    return target.with_name(f"{target.name}.replaced{PART}")


def _remove(path: Path) -> None:
    if path.is_file() or path.is_symlink():
        path.unlink()
    else:
        remove_folder(path)  # or what a kill left of it


def _put(file: NewFile) -> None:
    """Give a file its new content at once; a second run changes nothing more."""
    if file.path.is_file() and file.path.read_bytes() == file.content:
        return
    if file.backup:
        newest = file.path.with_name(f"{file.path.name}~1")
        if not (file.path.is_file() and newest.is_file() and newest.read_bytes() == file.path.read_bytes()):
            keep_backup(file.path)
    temporary = file.path.with_name(f"{file.path.name}.edit.tmp")
    try:
        with temporary.open("wb") as opened:
            opened.write(file.content)
            opened.flush()
            os.fsync(opened.fileno())
        move(temporary, file.path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    sync_folder(file.path.parent)
