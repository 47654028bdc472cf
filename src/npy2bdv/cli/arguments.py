"""What is typed on the command line, as values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from npy2bdv.errors import InvalidInputError

Number = TypeVar("Number", int, float)

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
        (r"\bresume=True", "--resume"),
        (r"\bskip_zeros=True", "--skip-zeros"),
        (r"\bexecutor='(\S+://\S+)'", r"--dask \1"),
        (r"\bcasting='(\w+)'", r"--casting \1"),
        (r"\bvalue_range=\(low, high\)", "--value-range LOW,HIGH"),
        (r"\bvalue_range=", "--value-range "),
        (r"\b(dtype|crop|partition|workers)=(?=\W|\d)", r"--\1 "),
        (r"\baxes='(\w+)'", r"--axes \1"),
        (r"\bformat='(\w+)'", r"--format \1"),
        (r"\bzarr_version=(\d+)", r"--zarr-version \1"),
        (r"\baxes=(?=\W)", "--axes"),
        (r"\bvoxel_size_xyz\b=?", "--voxel-size"),
    ):
        message = re.sub(pattern, option, message)
    return message


def ranges(text: str, option: str) -> list[slice]:
    """Read START:STOP of z,y,x, each of which may be absent."""
    found = []
    try:
        for part in text.split(","):
            start, stop = (int(each) if each.strip() else None for each in part.split(":"))
            found.append(slice(start, stop))
    except ValueError:
        found = []
    if len(found) != 3:
        raise InvalidInputError(
            f'{option} {text!r} is not understood; write START:STOP of z,y,x: "10:-10,:,0:512"'
        )
    return found


def pair(text: str, option: str, kind: type[Number]) -> tuple[Number, Number]:
    """Read two numbers."""
    try:
        first, second = (kind(each) for each in text.split(","))
    except ValueError:
        raise InvalidInputError(f'{option} {text!r} is not understood; write two numbers: "10,1"') from None
    return first, second


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
