"""Disks that are full, gone, broken or not to be written: what to say of them; room, asked for before it is needed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from npy2bdv.errors import BdvError, WriteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_GONE = {
    errno.ENODEV,
    errno.ENXIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ETIMEDOUT,
}
_GONE_ON_WINDOWS = {
    21,
    53,
    55,
    59,
    64,
    67,
    121,
    1167,
    1231,
}  # not ready, bad network path, no such device ...
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR}
_IN_HDF5 = re.compile(r"errno = (\d+)")  # how HDF5 tells of an error of the system

_BLOCK = 2**20


def why(error: BaseException, folder: Path) -> str:
    """Say in words what is wrong with the disk of a folder, by an error of the system or of HDF5, and what helps."""
    number, windows, words = _of_system(error)
    if number in _FULL:
        limit = (
            " (or a quota, or the largest file that it takes, is reached)" if number != errno.ENOSPC else ""
        )
        return f"the disk of {folder} is full{limit}: {words}. Make room on it"
    if number in _GONE or windows in _GONE_ON_WINDOWS or (number in _NOT_THERE and not _is_there(folder)):
        return (
            f"the folder {folder} is gone, or its drive is not connected any more: {words}. Connect it again"
        )
    if number in _CLOSED:
        return f"{folder} cannot be written to: {words}. See to its permissions, or choose another folder"
    if number == errno.EIO:
        return f"the disk of {folder}, or its connection, is broken: {words}. Copy what is on it to another"
    return words


def _of_system(error: BaseException) -> tuple[int | None, int | None, str]:
    """Return number, number on Windows, and text of the error that was first."""
    chain: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in chain:
        chain.append(each)
        each = each.__cause__ or each.__context__
    for each in reversed(chain):
        if isinstance(each, OSError) and each.errno is not None:
            return each.errno, getattr(each, "winerror", None), str(each)
        if found := _IN_HDF5.search(str(each)):
            number = int(found[1])
            return number, None, f"[Errno {number}] {os.strerror(number)}"
    return None, None, str(error)


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return False


@contextmanager
def explained(what: str, folder: Path, advice: str = "") -> Iterator[None]:
    """Turn errors of the system into one that says what was being done, where, why it failed, and what to do.

    Raises
    ------
    WriteError
        In their place.
    """
    try:
        yield
    except BdvError:
        raise
    except OSError as error:
        raise WriteError(f"{what} failed: {why(error, folder)}{advice and '; '}{advice}") from error


def free_bytes(folder: Path) -> int | None:
    """Return how many bytes are free on the disk of a folder; None where it does not tell, as some network drives."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return None
    return disk.free if disk.total else None


def check_room(folder: Path, nbytes: float, what: str, advice: str = "make room") -> None:
    """Refuse what does not fit.

    Raises
    ------
    WriteError
        If a disk tells that less is free.
    """
    free = free_bytes(folder)
    if free is not None and free < nbytes:
        raise WriteError(
            f"{what} takes {nbytes / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free in {folder}: {advice}"
        )


def bytes_on_disk(path: Path) -> int:
    """Return how many bytes a file takes, which are less than its length where parts of it were never written."""
    about = path.stat()
    blocks: int | None = getattr(about, "st_blocks", None)  # Windows has none
    return about.st_size if blocks is None else min(about.st_size, 512 * blocks)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file; what is zero in it takes no space, where the file system can do that."""
    with source.open("rb") as old, target.open("xb") as new:
        while block := old.read(_BLOCK):
            if block.count(0) == len(block):
                new.seek(len(block), 1)
            else:
                new.write(block)
        new.truncate()
