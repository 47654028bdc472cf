"""Whether a TIFF file is whole: the pages that it names, and their pixels, lie inside it.

Layout of pages: TIFF 6.0, section 2; BigTIFF has offsets and counts of 8 bytes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from npy2bdv.errors import FormatError

_TYPES = {3: "u2", 4: "u4", 16: "u8"}  # those that offsets and counts may have
_DESCRIPTION = 270
_PLACES = ((273, 279), (324, 325))  # offsets and byte counts, of strips and of tiles


def check_whole(path: Path, promised: int | None = None) -> None:
    """Follow the pages of a file, without reading pixels.

    Parameters
    ----------
    path
        The file.
    promised
        How many planes its metadata promise, where they do.

    Raises
    ------
    FormatError
        If a page, its description or its pixels lie beyond the end of the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        for page, end in enumerate(_ends(file)):
            if end > size:
                planes = "" if promised is None else f", of {promised} planes that its metadata promise"
                raise FormatError(
                    f"{path} is cut short: it has {size} bytes; page {page} (counted from 0{planes}) reaches to "
                    f"byte {end}; copy it again"
                )


def _ends(file: BinaryIO) -> Iterator[int]:
    """For each page in turn, give the first byte after it and all that it names."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        return
    is_big = int(np.frombuffer(head, f"{order}u2", 1, 2)[0]) == 43
    word, short = (f"{order}u8", f"{order}u8") if is_big else (f"{order}u4", f"{order}u2")
    width = np.dtype(word).itemsize
    entry = np.dtype([("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", word), ("value", f"V{width}")])
    at = int(np.frombuffer(head, word, 1, width)[0])
    seen = set()
    while at and at not in seen:
        seen.add(at)
        file.seek(at)
        length = np.dtype(short).itemsize
        found = file.read(length)
        count = int(np.frombuffer(found, short)[0]) if len(found) == length else 0
        end = at + length + count * entry.itemsize + width
        page = file.read(end - at - length) if count <= 0xFFFF else b""
        if len(page) < end - at - length:
            yield end
            return
        tags = {int(each["tag"]): each for each in np.frombuffer(page, entry, count)}
        yield max(end, *_ends_of_values(file, tags, word))
        at = int(np.frombuffer(page, word, 1, len(page) - width)[0])


def _ends_of_values(file: BinaryIO, tags: dict[int, Any], word: str) -> Iterator[int]:
    """Give the first byte after the description, and after each strip or tile."""
    description = tags.get(_DESCRIPTION)
    if description is not None and description["count"] > len(description["value"]):
        yield int(np.frombuffer(description["value"], word)[0]) + int(description["count"])
    for starts, lengths in _PLACES:
        if starts in tags and lengths in tags:
            offsets, sizes = (_numbers(file, tags[each], word) for each in (starts, lengths))
            yield from (start + size for start, size in zip(offsets, sizes, strict=False))
    yield 0


def _numbers(file: BinaryIO, tag: Any, word: str) -> list[int]:
    """Return the integers of a tag; those that do not fit into it lie elsewhere."""
    dtype = np.dtype(word[0] + _TYPES.get(int(tag["type"]), "u4"))
    data, size = tag["value"].tobytes(), int(tag["count"]) * dtype.itemsize
    if size > len(data):
        file.seek(int(np.frombuffer(data, word)[0]))
        data = file.read(size)
    whole = min(size, len(data) - len(data) % dtype.itemsize)
    return [int(number) for number in np.frombuffer(data[:whole], dtype)]
