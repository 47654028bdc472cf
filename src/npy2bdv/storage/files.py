"""Containers that are folders of small files (N5, Zarr): each file is written whole, under a temporary name first."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import stat
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv.errors import ExistsError, FormatError, NotFoundError
from npy2bdv.storage.save import move, sync_folder
from npy2bdv.storage.servers import RemotePath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from npy2bdv.storage.base import Payload

_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what systems leave in folders that were looked at
PART = ".npy2bdv-part"
"""How names end of what is not whole yet, or is being removed."""
_MANY = 20_000


MAX_METADATA_BYTES = 2**26
"""No file that describes pixels is larger."""


def look(path: Path) -> os.stat_result | None:
    """Return what the system says of a path; None where nothing can be there: names too long, loops of links ..."""
    try:
        return path.stat()
    except (OSError, ValueError):  # a name with a null
        return None


def is_there(path: Path) -> bool:
    """Tell whether a file or folder is there, whatever a path may be made of."""
    if isinstance(path, RemotePath):
        return path.exists()
    return look(path) is not None


def is_file(path: Path) -> bool:
    """Tell whether this is a file, whatever a path may be made of: no pipe and no device."""
    state = look(path)
    return state is not None and stat.S_ISREG(state.st_mode)


def is_folder(path: Path) -> bool:
    """Tell whether this is a folder, whatever a path may be made of."""
    if isinstance(path, RemotePath):
        return path.is_dir()
    state = look(path)
    return state is not None and stat.S_ISDIR(state.st_mode)


def names_in(folder: Path) -> set[str]:
    """Return what lies in a folder; nothing of what a kill left half written or removed, or the system by itself."""
    return {each.name for each in folder.iterdir() if not is_temporary(each)} - _LITTER


def is_real_folder(path: Path) -> bool:
    """Tell whether this is a folder, and no link to one elsewhere."""
    return path.is_dir() and not path.is_symlink()


def is_temporary(path: Path) -> bool:
    """Tell whether a kill left this half written, or half removed."""
    return path.name.endswith(PART)


class FileStore:
    """Files below one folder, by keys with slashes. Safe for use by several threads.

    A kill leaves each file as it was or as it was to be; what it may leave beside them is removed by `clean`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: set[str] = set()
        """Folders that are known to be there."""
        self._unsynced: set[str] = set()
        """Folders into which something was put since the last `sync`."""
        self._is_begun = False
        """Whether a folder was made, or found, so that the root is there."""
        self._all_unsynced = False
        """Whether there were too many of them to remember."""
        self._guard = threading.Lock()

    def put(self, key: str, parts: Iterable[Payload]) -> None:
        """Write a file, given in parts, in place of the one that was there."""
        folder = key.rpartition("/")[0]
        self._make_folder(folder)
        mark = f"{os.getpid():x}-{threading.get_ident():x}"
        target = f"{self.root}/{key}".replace("/", os.sep)  # no Path: there are thousands a second
        temporary = f"{target}.{mark}{PART}"
        try:
            with open(temporary, "wb", buffering=0) as file:
                for part in parts:
                    left = memoryview(part).cast("B")
                    while left:
                        left = left[file.write(left) :]
            move(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if folder not in self._unsynced:
            with self._guard:
                self._all_unsynced |= _remember(folder, self._unsynced)

    def get(self, key: str) -> bytes | None:
        """Return what is in a file of metadata; None if there is none.

        Raises
        ------
        FormatError
            If it is no file (a pipe would wait for ever), or a very large one.
        """
        path = self.root / key
        state = look(path)
        if state is None:
            return None
        if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_METADATA_BYTES:
            raise FormatError(
                f"{path} should be a small file of metadata; it is {_what(state)}: the container is damaged"
            )
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, key: str) -> None:
        """Remove a file or a folder with all that is in it; nothing if there is none."""
        path = self.root / key
        assert path != self.root
        self._check_inside(key.rpartition("/")[0])
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            with self._guard:
                self._folders.clear()
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)

    def files(self, key: str = "") -> Iterator[Path]:
        """Iterate over the files below a folder, temporary ones left out."""
        for folder, _, names in os.walk(self.root / key):
            for name in names:
                path = Path(folder, name)
                if not is_temporary(path):
                    yield path

    def has(self, key: str) -> bool:
        """Tell whether there is a file."""
        return is_file(self.root / key)

    def folders(self, key: str = "") -> list[str]:
        """Return the names of the folders in a folder."""
        return [each.name for each in (self.root / key).iterdir() if each.is_dir()]

    @property
    def counts(self) -> bool:
        """Whether it takes little time to look at all files of a level."""
        return True

    @property
    def lists(self) -> bool:
        """Whether `files` and `folders` know what there is."""
        return True

    def nbytes(self, paths: Iterable[Path]) -> int | None:
        """Return how many bytes some of its files take; None where that is not known."""
        return sum(path.stat().st_size for path in paths)

    def begin(self) -> None:
        """Refuse to begin where something is already, or there is no place.

        Raises
        ------
        NotFoundError, ExistsError
            In these cases.
        """
        if not self.root.parent.is_dir():
            raise NotFoundError(f"the folder {self.root.parent} does not exist; create it first")
        if self.root.exists():
            raise ExistsError(f"{self.root} already exists; choose another name")

    def check(self, kind: str) -> None:
        """Refuse what is not there, or no folder.

        Raises
        ------
        NotFoundError, FormatError
            In these cases.
        """
        if not self.root.is_dir():
            if self.root.exists():
                raise FormatError(f"{self.root} is a file; {kind} is a folder")
            raise NotFoundError(f"there is no {kind.removeprefix('an ')} {self.root}")

    def clean(self) -> None:
        """Remove files that a kill left half written."""
        for left in list(self.root.rglob(f"*{PART}")):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)

    def sync(self) -> None:
        """Wait until all that was put is on the disk."""
        with self._guard:
            keys, self._unsynced = self._unsynced, set()
            everything, self._all_unsynced = self._all_unsynced, False
        try:
            folders = {self.root / key for key in keys}
            if everything:
                folders = {Path(folder) for folder, _, _ in os.walk(self.root)}
            for folder in folders:
                _sync_files(folder)
            above = {parent for folder in folders for parent in folder.parents}
            for folder in folders | above:
                if folder.is_relative_to(self.root.parent) and folder.is_dir():
                    sync_folder(folder)
        except BaseException:
            self._all_unsynced = True
            raise

    def _check_inside(self, folder: str) -> None:
        """Refuse to write or remove where a link leads out of the container."""
        path = self.root / folder
        if folder and not path.resolve().is_relative_to(self.root.resolve()):
            raise FormatError(
                f"{path} leads out of the container, to {path.resolve()}, where nothing is written or removed; put "
                "what lies there into the container"
            )

    def _make_folder(self, folder: str) -> None:
        if folder not in self._folders:
            if (
                self._is_begun and not self.root.is_dir()
            ):  # a drive that is gone must not come back as a folder
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root))
            self._check_inside(folder)
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            self._is_begun = True
            with self._guard:
                _remember(folder, self._folders)


def _what(state: os.stat_result) -> str:
    return f"a file of {state.st_size} bytes" if stat.S_ISREG(state.st_mode) else "no file at all"


def _remember(folder: str, folders: set[str]) -> bool:
    """Add a folder; where there are too many for a long recording, forget them first and return True."""
    many = len(folders) >= _MANY
    if many:
        folders.clear()
    folders.add(folder)
    return many


def _sync_files(folder: Path) -> None:
    """Wait until the files of a folder are on the disk; it may be gone."""
    paths = list(folder.iterdir()) if folder.is_dir() else []
    for path in paths:
        if path.is_file():
            with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:  # removed meanwhile
                os.fsync(file.fileno())


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, and what a kill within this left of an earlier one.

    It gets another name first, so that no part of it is met meanwhile.
    """
    if folder.is_symlink():  # what it leads to stays
        folder.unlink()
    elif folder.exists():
        move(folder, _going(folder))
    for left in folder.parent.glob(f"{glob.escape(folder.name)}.*{PART}"):
        if is_real_folder(left):
            shutil.rmtree(left)


def replace_folder(source: Path, target: Path) -> None:
    """Give a folder the name of another, which is removed; if that fails both stay as they are."""
    going = _going(target)
    if target.exists():
        move(target, going)
    try:
        move(source, target)
    except BaseException:
        if going.exists():
            move(going, target)
        raise
    if going.exists():
        shutil.rmtree(going)


def _going(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{PART}")
