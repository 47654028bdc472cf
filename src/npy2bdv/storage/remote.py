"""Containers of small files, here or on a server: one interface, so that formats do not know where they lie."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING

from npy2bdv.errors import ExistsError, FormatError, NotFoundError
from npy2bdv.storage.files import MAX_METADATA_BYTES, FileStore
from npy2bdv.storage.servers import RemotePath, refuse_unwritable
from npy2bdv.storage.tensors import list_keys, read_key, remove_keys, write_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from npy2bdv.storage.base import Payload


class RemoteStore(FileStore):
    """Objects on a server below one address, by keys with slashes: what `FileStore` is on a disk.

    Each is put whole, and is there when the call returns: nothing is left half written, and there is nothing to
    be synced. Safe for use by several threads.
    """

    def put(self, key: str, parts: Iterable[Payload]) -> None:
        """Write an object, given in parts, in place of the one that was there."""
        write_key(self.root, key, b"".join(parts))

    def get(self, key: str) -> bytes | None:
        """Return a small object of metadata; None if there is none.

        Raises
        ------
        FormatError
            If it is a very large one.
        """
        text = read_key(self.root, key)
        if text is not None and len(text) > MAX_METADATA_BYTES:
            raise FormatError(
                f"{self.root / key} should be a small file of metadata; it has {len(text)} bytes: it is damaged"
            )
        return text

    def has(self, key: str) -> bool:
        """Tell whether there is an object."""
        return read_key(self.root, key) is not None

    def remove(self, key: str) -> None:
        """Remove an object, and all whose keys go on behind it with a slash."""
        remove_keys(self.root, [key, *list_keys(self.root, f"{key}/")])

    def remove_all(self) -> None:
        """Remove all objects."""
        remove_keys(self.root, list_keys(self.root))

    def files(self, key: str = "") -> Iterator[Path]:
        """Iterate over the objects below a key; over none where a server does not list them."""
        if not self.lists:
            return
        for each in list_keys(self.root, f"{key}/" if key else ""):
            yield self.root / each

    def folders(self, key: str = "") -> list[str]:
        """Return what comes next behind a key, where there is more behind it."""
        beginning = f"{key}/" if key else ""
        keys = (each.removeprefix(beginning) for each in list_keys(self.root, beginning))
        return sorted({each.partition("/")[0] for each in keys if "/" in each})

    @property
    def counts(self) -> bool:
        """No: listing goes by the thousand."""
        return False

    @property
    def lists(self) -> bool:
        """Whether the server says what there is: http does not."""
        return not (isinstance(self.root, RemotePath) and self.root.readable_only)

    def nbytes(self, paths: Iterable[Path]) -> int | None:
        """Return None: the engine does not tell the size of an object."""
        return None

    def begin(self) -> None:
        """Refuse to begin where something is already, or nothing can be written."""
        refuse_unwritable(self.root)
        if self.root.exists():
            raise ExistsError(f"{self.root} already exists; choose another name")

    def check(self, kind: str) -> None:
        """Refuse what is not there."""
        if self.lists and not self.root.is_dir():
            raise NotFoundError(f"there is no {kind.removeprefix('an ')} {self.root}; check its name")

    def clean(self) -> None:
        """Nothing: no object is ever half written."""

    def sync(self) -> None:
        """Nothing: what was put is there."""


def store_of(path: Path) -> FileStore:
    """Return the files of a container that lies on this machine or on a server."""
    return RemoteStore(path) if isinstance(path, RemotePath) else FileStore(path)


def stamp_of(path: Path) -> tuple[int, int]:
    """Return two numbers that change when a file does: of the system, or of its content on a server."""
    if isinstance(path, RemotePath):
        import zlib

        text = path.read_bytes()
        return zlib.crc32(text), len(text)
    about = path.stat()
    return about.st_mtime_ns, about.st_size


class Lines:
    """A list of lines that grows, and outlives a kill: a file, or on a server an object for each line.

    Safe for one writer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._objects = RemoteStore(path) if isinstance(path, RemotePath) else None
        self._guard = threading.Lock()

    def exists(self) -> bool:
        """Tell whether it was begun."""
        return self._path.is_file() if self._objects is None else self._objects.has(_FIRST)

    def begin(self, first: str) -> None:
        """Begin with a first line, in place of what was there."""
        if self._objects is None:
            self._path.write_text(first + "\n", encoding="utf-8")
        else:
            self._objects.remove_all()
            self._objects.put(_FIRST, [first.encode()])

    def read(self) -> list[str]:
        """Return the first line, then the others in any order; of a kill, a line may be torn."""
        if self._objects is None:
            return self._path.read_text(encoding="utf-8").split("\n")
        keys = [key for key in list_keys(self._path) if key != _FIRST]
        texts = (self._objects.get(key) for key in [_FIRST, *keys])
        return [text.decode(errors="replace") for text in texts if text is not None]

    def add(self, line: str) -> None:
        """Add a line."""
        if self._objects is not None:
            self._objects.put(uuid.uuid4().hex, [line.encode()])
            return
        with self._guard, self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + line)

    def remove(self) -> None:
        """Forget it."""
        if self._objects is None:
            self._path.unlink(missing_ok=True)
        else:
            self._objects.remove_all()


_FIRST = "plan"
