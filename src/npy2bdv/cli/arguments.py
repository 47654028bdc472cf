"""What is typed on the command line, as values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from typing import Literal

    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.writer import Compression


def levels(text: str) -> tuple[Zyx, ...] | Literal["auto"]:
    """Read "auto", "none" (the full resolution only) or factors such as "1,1,1 1,2,2"."""
    if text == "none":
        return ((1, 1, 1),)
    return "auto" if text == "auto" else _triples(text, "--levels")


def chunks(text: str | None) -> tuple[Zyx, ...] | None:
    """Read blocks such as "4,256,256", one or several; None is that of the format."""
    return None if text is None else _triples(text, "--chunks")


def compression(text: str) -> Compression:
    """Read "none", "default", or a codec with or without its level: "gzip", "gzip:6"."""
    name, colon, level = text.partition(":")
    if colon and not level.isdecimal():
        raise InvalidInputError(
            f"--compression {text!r} is not known; write none, gzip, gzip:6 or lzf; zstd or blosc for n5 and omezarr"
        )
    return (name, int(level)) if colon else None if name == "none" else name


def as_options(message: str) -> str:
    """Name options of the command in a message that names parameters of the library.

    Examples
    --------
    >>> as_options("pass axes='czyx' or overwrite=True")
    'pass --axes czyx or --overwrite'
    """
    for pattern, option in (
        (r"\boverwrite=True", "--overwrite"),
        (r"\baxes='(\w+)'", r"--axes \1"),
        (r"\bformat='(\w+)'", r"--format \1"),
        (r"\bzarr_version=(\d+)", r"--zarr-version \1"),
        (r"\baxes=(?=\W)", "--axes"),
        (r"\bvoxel_size_xyz\b=?", "--voxel-size"),
    ):
        message = re.sub(pattern, option, message)
    return message


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Read three numbers x,y,z."""
    try:
        found = tuple(float(number) for number in text.split(","))
    except ValueError:
        found = ()
    if len(found) != 3:
        raise InvalidInputError(
            f'{option} {text!r} is not understood; write three numbers x,y,z: "0.4,0.4,1.2"'
        )
    return found


def _triples(text: str, option: str) -> tuple[Zyx, ...]:
    try:
        rows = tuple(_triple(row) for row in text.split())
    except ValueError:
        rows = ()
    if not rows:
        raise InvalidInputError(
            f'{option} {text!r} is not understood; write integers z,y,x for each level: "1,1,1 1,2,2"'
        )
    return rows


def _triple(text: str) -> Zyx:
    z, y, x = map(int, text.split(","))
    return z, y, x
