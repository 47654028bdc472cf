"""Rules of Windows for files, kept in all tests on other systems: what breaks one would break on an acquisition PC.

- A file that this process has open is not removed, replaced or renamed, and neither is a folder above it: Python and
  HDF5 open files without FILE_SHARE_DELETE.
- Names hold none of ``< > : " | ? *``, and end neither with a dot nor with a blank.

With ``--as-on-windows`` the library is told that it runs there, too: there is no `os.pwrite` and its like, and where
the code asks for the name of the system it hears "nt". Tests of the mark `posix` do what Windows does not allow.

What other processes hold is not seen, nor that upper and lower case are the same there.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_FORBIDDEN = frozenset('<>:"|?*')
_POSIX_ONLY = ("pwrite", "pread", "pwritev", "preadv", "posix_fallocate", "posix_fadvise", "sync", "mkfifo")
_ASK_FOR_THE_SYSTEM = ("location", "storage.packing", "storage.save")
_DESCRIPTORS = Path("/proc/self/fd")  # Linux

_BRIEFLY_S = 0.3
"""How long threads of tensorstore may still close what they have read; on Windows it lets others remove it."""
_IN_CONTAINER = re.compile(r"\.(n5|zarr)[\\/]")

kept = False
"""Whether the rules are kept at this moment."""


class SharingViolationError(PermissionError):
    """What Windows calls WinError 32."""

    winerror = 32


def held(path: Any) -> str | None:
    """Return the path of a file at or below `path` that this process has open, None where there is none."""
    name = os.fspath(path)
    name = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(name))), os.path.basename(name))
    for descriptor in os.listdir(_DESCRIPTORS):
        try:
            opened = os.readlink(_DESCRIPTORS / descriptor)
        except OSError:
            continue
        if (opened == name or opened.startswith(name + "/")) and not os.path.isdir(opened):
            return opened
    return None


def _refusing(call: Callable[..., Any], names: int) -> Callable[..., Any]:
    def refusing(*args: Any, **options: Any) -> Any:
        if kept and not any(options.get(key) is not None for key in ("dir_fd", "src_dir_fd")):
            for path in args[:names]:
                until = time.monotonic() + (_BRIEFLY_S if _IN_CONTAINER.search(os.fspath(path)) else 0)
                while (opened := held(path)) is not None and time.monotonic() < until:
                    time.sleep(0.01)
                if opened is not None:
                    raise SharingViolationError(13, f"{call.__name__}: open in this process", opened)
        return call(*args, **options)

    return refusing


def _look_at_names(event: str, args: tuple[Any, ...]) -> None:
    if kept and event in {"open", "os.mkdir"} and isinstance(args[0], (str, bytes)):
        flags = args[2] if event == "open" else os.O_CREAT
        if isinstance(flags, int) and flags & os.O_CREAT:
            check_name(os.fsdecode(args[0]))


def check_name(path: str) -> None:
    """Raise where Windows has no such name."""
    for part in Path(path).parts[1:]:
        if _FORBIDDEN & set(part) or (part[-1] in ". " and part != ".."):
            raise OSError(22, "Windows has no such name", path)


def install() -> None:
    """Let the rules be kept whenever `kept` says so."""
    if not _DESCRIPTORS.is_dir():
        return
    for name, names in (("replace", 2), ("rename", 2), ("unlink", 1), ("remove", 1)):
        setattr(os, name, _refusing(getattr(os, name), names))
    shutil._use_fd_functions = False  # type: ignore[attr-defined] # files are removed by their paths
    sys.addaudithook(_look_at_names)


class _WindowsOs:
    """`os` as the modules see it that ask for its name."""

    name = "nt"

    def __getattr__(self, attribute: str) -> Any:
        return getattr(os, attribute)


def pretend() -> None:
    """Let the library believe that it runs on Windows."""
    for name in _POSIX_ONLY:
        if hasattr(os, name):
            delattr(os, name)
    for name in _ASK_FOR_THE_SYSTEM:
        importlib.import_module(f"npy2bdv.{name}").os = _WindowsOs()  # type: ignore[attr-defined]
