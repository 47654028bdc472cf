"""Reading all pixels, to find what cannot be read: in threads, in bounded memory."""

from __future__ import annotations

import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from npy2bdv.check.views import name_of
from npy2bdv.errors import BdvError
from npy2bdv.model.findings import finding
from npy2bdv.storage.base import CountsAbsent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from npy2bdv.model.findings import Finding
    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import ViewId
    from npy2bdv.storage.base import LevelPixels, Pixels

PIECE_BYTES = 32 * 2**20
"""What is read at once, in each thread, if a chunk is not larger."""

MAX_CHUNK_BYTES = 2**31
_HUGE = 2**30
_EMPTY = 1_000_000
"""No compression of camera images reaches this."""
_MANY_CHUNKS = 100_000
_MANY = 20
_TRAP = 32767


@dataclass(slots=True)
class PixelAudit:
    """What came out of reading."""

    findings: list[Finding] = field(default_factory=list)
    chunks: int = 0
    nbytes: int = 0
    brightest: dict[int, int] = field(default_factory=dict)
    """Of the setups whose maximum is asked for, as far as they were read."""


def read_all(
    pixels: Pixels,
    present: Iterable[tuple[ViewId, int]],
    *,
    unsigned: Iterable[int] = (),
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PixelAudit:
    """Read every chunk of these levels.

    Parameters
    ----------
    pixels
        Where they lie.
    present
        Views and levels.
    unsigned
        Setups of which the largest value is wanted.
    workers
        Threads; by default one for each processor, at most 8.
    progress
        Called as ``progress(done, total)`` with bytes.
    """
    workers = workers or min(8, os.cpu_count() or 1)
    result, wanted, levels = PixelAudit(), frozenset(unsigned), list(present)
    total = sum(_nbytes(array) for each in levels if not _cannot_be_meant(array := pixels.level(*each)))
    waiting: deque[tuple[ViewId, int, Region, Future[tuple[int, int, list[str]]]]] = deque()
    unreadable: dict[tuple[ViewId, int], int] = {}

    def take() -> None:
        view, level, _, future = waiting.popleft()
        nbytes, brightest, problems = future.result()
        result.nbytes += nbytes
        if view.setup in wanted:
            result.brightest[view.setup] = max(brightest, result.brightest.get(view.setup, 0))
        for problem in problems:
            number = unreadable[view, level] = unreadable.get((view, level), 0) + 1
            if number <= _MANY:
                place = f"{pixels.path.name}, {name_of(view)}, level {level}"
                result.findings.append(finding("P01", place, problem))
        if progress is not None:
            progress(min(result.nbytes, total), total)

    with ThreadPoolExecutor(workers) as pool:
        try:
            for view, level in levels:
                array = pixels.level(view, level)
                place = f"{pixels.path.name}, {name_of(view)}, level {level}"
                problem = _cannot_be_meant(array)
                if problem:
                    result.findings.append(finding("L04", place, f"{problem}: it is not read"))
                    continue
                result.chunks += math.prod(-(-n // c) for n, c in zip(array.shape, array.chunk, strict=True))
                for region in pieces(array):
                    largest = view.setup in wanted
                    waiting.append((view, level, region, pool.submit(_read, array, region, largest=largest)))
                    if len(waiting) > 2 * workers:
                        take()
            while waiting:
                take()
        finally:
            pool.shutdown(cancel_futures=True)
    for (view, level), number in unreadable.items():
        if number > _MANY:
            place = f"{pixels.path.name}, {name_of(view)}, level {level}"
            result.findings.append(finding("P01", place, f"{number - _MANY} more chunks cannot be read"))
    return result


def _cannot_be_meant(array: LevelPixels) -> str:
    """Say why a level is not to be read: it would take all memory, or all time for nothing."""
    if math.prod(array.chunk) * np.dtype(array.dtype).itemsize > MAX_CHUNK_BYTES:
        return f"its chunks of {array.chunk} pixels (z, y, x) are too large"
    nbytes = _nbytes(array)
    there = array.nbytes_on_disk
    if there is not None and nbytes > _HUGE and nbytes > _EMPTY * there:
        return f"it claims {nbytes} bytes, of which {there} are there"
    chunks = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunk, strict=True))
    if chunks > _MANY_CHUNKS and isinstance(array, CountsAbsent):
        absent = array.count_absent(
            (slice(0, array.shape[0]), slice(0, array.shape[1]), slice(0, array.shape[2]))
        )
        if absent > 0.99 * chunks:
            return f"of {chunks} chunks {absent} are absent"
    return ""


def _nbytes(array: LevelPixels) -> int:
    return math.prod(array.shape) * np.dtype(array.dtype).itemsize


def pieces(array: LevelPixels) -> Iterator[Region]:
    """Cut a level into boxes of whole chunks, of about `PIECE_BYTES` at most."""
    side = list(array.chunk)
    room = PIECE_BYTES // max(1, math.prod(side) * np.dtype(array.dtype).itemsize)
    for axis in (2, 1, 0):
        times = max(1, min(room, -(-array.shape[axis] // side[axis])))
        side[axis] *= times
        room //= times
    yield from _boxes((slice(0, array.shape[0]), slice(0, array.shape[1]), slice(0, array.shape[2])), side)


def _boxes(region: Region, side: Iterable[int]) -> Iterator[Region]:
    starts = (range(part.start, part.stop, step) for part, step in zip(region, side, strict=True))
    sides = tuple(side)
    for z, y, x in product(*starts):
        a, b, c = (
            slice(start, min(start + step, part.stop))
            for start, step, part in zip((z, y, x), sides, region, strict=True)
        )
        yield a, b, c


def _read(array: LevelPixels, region: Region, *, largest: bool) -> tuple[int, int, list[str]]:
    """Read a box; where that fails, each of its chunks. Return bytes, the largest value, and what went wrong."""
    nbytes = math.prod(part.stop - part.start for part in region) * np.dtype(array.dtype).itemsize
    try:
        return nbytes, _largest(array, region) if largest else _touch(array, region), []
    except (BdvError, OSError, MemoryError, RuntimeError) as error:
        problems = []
        for box in _boxes(region, array.chunk):
            try:
                array.read(box)
            except (BdvError, OSError, MemoryError, RuntimeError) as inner:
                place: Zyx = (box[0].start, box[1].start, box[2].start)
                problems.append(f"the chunk at {place} (z, y, x): {inner}")
        return nbytes, 0, problems or [str(error)]


def _touch(array: LevelPixels, region: Region) -> int:
    array.read(region)
    return 0


def _largest(array: LevelPixels, region: Region) -> int:
    found = array.read(region)
    return int(found.max()) if found.size else 0


def sampled_maximum(pixels: Pixels, present: Iterable[tuple[ViewId, int]], setup: int) -> int:
    """Return the largest value in the coarsest level of the first views of a setup; a quick look."""
    first: dict[ViewId, int] = {}
    for view, level in present:
        if view.setup == setup and (view in first or len(first) < 3):
            first[view] = level
    largest = 0
    for view, level in first.items():
        array = pixels.level(view, level)
        if _cannot_be_meant(array):
            continue
        if _nbytes(array) > PIECE_BYTES:
            region = next(pieces(array))
        else:
            region = slice(0, array.shape[0]), slice(0, array.shape[1]), slice(0, array.shape[2])
        try:
            largest = max(largest, _largest(array, region))
        except (BdvError, OSError, MemoryError, RuntimeError):
            continue  # of this, reading all pixels tells
    return largest


def is_trap(largest: int) -> bool:
    """Tell whether a value of uint16 is lost where it is read as int16."""
    return largest > _TRAP
