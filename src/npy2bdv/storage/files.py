"""Containers that are folders of small files (N5, Zarr): each file is written whole, under a temporary name first."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import uuid
from typing import TYPE_CHECKING

from npy2bdv.storage.save import move, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from npy2bdv.storage.base import Payload

_TEMPORARY = ".npy2bdv-part"


class FileStore:
    """Files below one folder, by keys with slashes. Safe for use by several threads.

    A kill leaves each file as it was or as it was to be; what it may leave beside them is removed by `clean`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: set[Path] = set()
        """Folders that are known to be there."""
        self._unsynced: set[str] = set()
        """What was put since the last `sync`."""
        self._guard = threading.Lock()

    def put(self, key: str, parts: Iterable[Payload]) -> None:
        """Write a file, given in parts, in place of the one that was there."""
        path = self.root / key
        self._make_folder(path.parent)
        temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{_TEMPORARY}")
        try:
            with temporary.open("wb", buffering=0) as file:
                for part in parts:
                    left = memoryview(part).cast("B")
                    while left:
                        left = left[file.write(left) :]
            move(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        with self._guard:
            self._unsynced.add(key)

    def get(self, key: str) -> bytes | None:
        """Return what is in a file; None if there is none."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self, key: str) -> None:
        """Remove a file or a folder with all that is in it; nothing if there is none."""
        path = self.root / key
        assert path != self.root
        if path.is_dir():
            with self._guard:
                self._folders = {folder for folder in self._folders if not folder.is_relative_to(path)}
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)

    def files(self, key: str = "") -> Iterator[Path]:
        """Iterate over the files below a folder, temporary ones left out."""
        for folder, _, names in os.walk(self.root / key):
            for name in names:
                if not name.endswith(_TEMPORARY):
                    yield self.root / folder / name

    def clean(self) -> None:
        """Remove files that a kill left half written."""
        for left in list(self.root.rglob(f"*{_TEMPORARY}")):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)

    def sync(self) -> None:
        """Wait until all that was put is on the disk."""
        with self._guard:
            keys, self._unsynced = self._unsynced, set()
        folders: set[Path] = set()
        for key in sorted(keys):
            path = self.root / key
            with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:  # removed meanwhile
                os.fsync(file.fileno())
            folders.update((path.parent, *path.parent.parents))
        for folder in folders:
            if folder.is_relative_to(self.root.parent) and folder.is_dir():
                sync_folder(folder)

    def _make_folder(self, folder: Path) -> None:
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            with self._guard:
                self._folders.add(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; it gets another name first, so that no part of it is met meanwhile."""
    going = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{_TEMPORARY}")
    move(folder, going)
    shutil.rmtree(going)
