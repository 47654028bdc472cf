"""Replace a whole file at once, and keep what was there before."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0
_BACKUPS = 5


def replace_file(path: Path, text: bytes) -> Path:
    """Write a file under a temporary name and rename it: readers see the old or the new one, never a part.

    On Windows the target may be held by another program (Fiji, a virus scanner): the rename is tried for two
    seconds; then the text stays beside it as ``NAME.new`` and a warning is logged, since a recording must
    not stop for that.

    Returns
    -------
    path
        Where the text lies now: `path`, or ``NAME.new`` beside it.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(PermissionError):
            move(temporary, path)
            return path
        waiting = path.with_name(f"{path.name}.new")
        temporary.replace(waiting)
        logger.warning("%s is held by another program; its new text lies in %s", path, waiting)
        return waiting
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def remove_temporaries(path: Path) -> None:
    """Remove what a kill within `replace_file` left."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        left.unlink(missing_ok=True)


def move(source: Path | str, target: Path | str) -> None:
    """Rename a file over another, or a folder; where that is held by another program (Windows), try for two seconds."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            os.replace(source, target)
        except PermissionError as error:
            if (
                getattr(error, "winerror", None) is None or time.monotonic() > deadline
            ):  # only Windows has these
                raise
            time.sleep(0.05)
        else:
            return


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Windows has no such call, and keeps them in its log."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def keep_backup(path: Path) -> None:
    """Copy a file to ``NAME~1`` and move the earlier ones up, to ``NAME~5``, as BigStitcher does.

    Nothing happens where there is no such file.
    """
    if not path.is_file():
        return
    names = [path.with_name(f"{path.name}~{number}") for number in range(1, _BACKUPS + 1)]
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(path.read_bytes())  # first, so that a full disk costs no older one
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.is_file():
                newer.replace(older)
        temporary.replace(names[0])
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
