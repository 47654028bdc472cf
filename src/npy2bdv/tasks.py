"""The tasks of a resave: small values that pickle, and one function that carries one out, wherever that is.

A task of N5 or OME-Zarr writes a slab of one view: whole rows of chunks of every level, so that no two tasks write
into one file, and every cell of a lower level has all its pixels in one slab. A task of HDF5 writes a whole file.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from npy2bdv.engine import DEFAULT_MEMORY, Engine
from npy2bdv.storage import card_of, create_container, files_of, remove_container, share_container
from npy2bdv.storage.disk import why
from npy2bdv.storage.journal import remove_leftovers
from npy2bdv.storage.servers import RemotePath
from npy2bdv.storage.tensors import list_keys
from npy2bdv.stream import ViewStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Pyramid, Region, Zyx
    from npy2bdv.model.spimdata import ViewId
    from npy2bdv.reading import Opened, Reading
    from npy2bdv.storage.base import Codec, Container, FormatName, LevelArray, Payload


_CALLS = 8
"""How many things are put on a server at a time, by each process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where pixels are written, and how."""

    path: Path
    format: FormatName
    zarr_version: int | None
    codec: Codec
    skip_zeros: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """Planes start to stop of one view."""

    id: ViewId
    reading: Reading
    pyramid: Pyramid
    dtype: np.dtype[Any]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes of pixels of full resolution, as they are written."""
        return (self.stop - self.start) * math.prod(self.pyramid.shape[1:]) * self.dtype.itemsize

    @property
    def nbytes_of_levels(self) -> int:
        """Bytes of pixels of all levels."""
        shapes = (
            (-(-self.stop // factors[0]) - self.start // factors[0], *self.pyramid.level_shape(level)[1:])
            for level, factors in enumerate(self.pyramid.factors)
        )
        return sum(map(math.prod, shapes)) * self.dtype.itemsize

    def rows(self, level: int) -> range:
        """Return which rows of chunks of a level it fills."""
        depth = self.pyramid.factors[level][0] * self.pyramid.chunks[level][0]
        return range(self.start // depth, -(-self.stop // depth))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One piece of work. It may be done again at any time, and then gives the same files."""

    number: int
    target: Target
    slabs: tuple[Slab, ...]
    times: tuple[int, ...] = ()
    max_memory: int = DEFAULT_MEMORY
    threads: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of pixels of full resolution."""
        return sum(slab.nbytes for slab in self.slabs)

    def travelling(self) -> Task:
        """Return the task as another process gets it."""
        slabs = (replace(slab, reading=slab.reading.travelling(slab.start, slab.stop)) for slab in self.slabs)
        return replace(self, slabs=tuple(slabs), threads=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a task has written: how many files, of how many bytes together."""

    number: int
    files: int
    nbytes: int


def slabs_of(pyramid: Pyramid, dtype: np.dtype[Any], task_bytes: int) -> list[tuple[int, int]]:
    """Cut a view into planes (start, stop) that tasks can write without knowing of each other.

    Boundaries are multiples of the least common multiple of what a chunk of each level spans in z.
    """
    deep = pyramid.shape[0]
    unit = math.lcm(
        *(factors[0] * chunk[0] for factors, chunk in zip(pyramid.factors, pyramid.chunks, strict=True))
    )
    plane = math.prod(pyramid.shape[1:]) * dtype.itemsize
    step = unit * max(1, task_bytes // (unit * plane))
    return [(start, min(start + step, deep)) for start in range(0, deep, step)]


class _Window:
    """Rows of chunks of a level, seen as a level of its own. What is stored goes where it belongs."""

    def __init__(self, level: LevelArray, rows: range, *, skip_zeros: bool) -> None:
        self._level = level
        self._first = rows.start
        self._skip_zeros = skip_zeros
        depth = level.chunk[0]
        stop = min(rows.stop * depth, level.shape[0])
        self.shape: Zyx = (stop - rows.start * depth, *level.shape[1:])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._level, name)

    def read(self, region: Region) -> NDArray[Any]:
        z, y, x = region
        above = self._first * self._level.chunk[0]
        return self._level.read((slice(z.start + above, z.stop + above), y, x))

    def encode(self, block: NDArray[Any], place: Zyx) -> Payload:
        if self._skip_zeros and not block.view(f"u{block.itemsize}").any():
            return b""
        return self._level.encode(block, (place[0] + self._first, *place[1:]))

    def store(self, chunks: Sequence[tuple[Zyx, Payload]]) -> list[int] | None:
        moved = [((z + self._first, y, x), payload) for (z, y, x), payload in chunks]
        if self._skip_zeros:
            moved = [each for each in moved if len(each[1])]
        return self._level.store(moved) if moved else None


def carry_out(
    task: Task,
    before: Done | None = None,
    *,
    opened: Opened | None = None,
    engine: Engine | None = None,
    told: Callable[[int], None] | None = None,
) -> Done:
    """Carry out a task.

    Parameters
    ----------
    task
        What to do.
    before
        What it had written when it was done before: if that is still there nothing is done.
    opened
        Where the pixels come from, if it is open already.
    engine
        Threads and memory, if there are any already.
    told
        Called with bytes of full resolution, as they are taken.

    Returns
    -------
    done
        What was written.
    """
    if before is not None and found(task) == before:
        if told is not None:
            told(task.nbytes)
        return before
    with contextlib.ExitStack() as stack:
        if opened is None:
            opened = stack.enter_context(task.slabs[0].reading.origin.open())
        card = card_of(task.target.format, task.target.zarr_version)
        if engine is None:
            engine = Engine(
                task.max_memory,
                concurrent=card.concurrent,
                workers=threads_for(task.target.path, task.threads),
            )
            stack.callback(engine.close)
        folder = task.target.path.parent
        engine.explain = lambda error: f"writing failed: {why(error, folder)}"
        if card.concurrent:
            with share_container(card, task.target.path) as container:
                for slab in task.slabs:
                    _write_slab(task, slab, container, opened, engine, told)
        else:
            _write_file(task, opened, engine, told)
    return found(task)


def threads_for(path: Path, threads: int | None = None) -> int | None:
    """Return how many threads write; on a server each waits most of its time, so there are more of them.

    What they have under way are pieces of rows that are counted in `max_memory`.
    """
    return _CALLS if isinstance(path, RemotePath) else threads


def _write_slab(
    task: Task,
    slab: Slab,
    container: Container,
    opened: Opened,
    engine: Engine,
    told: Callable[[int], None] | None,
) -> None:
    windows = [
        _Window(container.level(slab.id, level), slab.rows(level), skip_zeros=task.target.skip_zeros)
        for level in range(slab.pyramid.n_levels)
    ]
    _fill(slab, windows, opened, engine, told)
    engine.drain()


def _write_file(task: Task, opened: Opened, engine: Engine, told: Callable[[int], None] | None) -> None:
    target = task.target
    card = card_of(target.format, target.zarr_version)
    remove_leftovers(target.path)
    remove_container(card, target.path)
    with create_container(card, target.path) as container:
        for slab in task.slabs:
            arrays = container.declare(slab.id, slab.pyramid, slab.dtype, target.codec)
            _fill(slab, arrays, opened, engine, told)
            engine.drain()
            container.flush()
        container.note_times(task.times)
        container.flush()
    remove_leftovers(target.path)


def _fill(
    slab: Slab,
    arrays: Sequence[Any],
    opened: Opened,
    engine: Engine,
    told: Callable[[int], None] | None,
) -> None:
    """Fill the levels of a slab, a row of blocks at a time."""
    pyramid = slab.pyramid
    shape = (slab.stop - slab.start, *pyramid.shape[1:])
    step = pyramid.chunks[0][0]
    stream = ViewStream(engine, shape, slab.dtype, list(zip(pyramid.factors, arrays, strict=True)))
    with stream:
        for z in range(slab.start, slab.stop, step):
            planes = slab.reading.planes(opened, z, min(z + step, slab.stop))
            stream.put(planes, z - slab.start)
            if told is not None:
                told(planes.nbytes)


def found(task: Task) -> Done:
    """Return what is there of what a task writes."""
    if isinstance(task.target.path, RemotePath):
        return Done(number=task.number, files=_count_objects(task), nbytes=0)
    files = nbytes = 0
    for path in _paths(task):
        try:
            nbytes += path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
        files += 1
    return Done(number=task.number, files=files, nbytes=nbytes)


def _count_objects(task: Task) -> int:
    """Return how many objects of a task are on a server: there each is whole, or not there at all."""
    root = task.target.path
    wanted = {str(path.relative_to(root)) for path in _paths(task)}
    beginnings = {key.rpartition("/")[0].partition("/s")[0] for key in wanted}
    there = {f"{beginning}/{key}" for beginning in beginnings for key in list_keys(root / beginning)}
    return len(wanted & there)


def _paths(task: Task) -> Iterator[Path]:
    card = card_of(task.target.format, task.target.zarr_version)
    if not card.concurrent:
        yield task.target.path
        return
    with share_container(card, task.target.path) as container:
        for slab in task.slabs:
            for level in range(slab.pyramid.n_levels):
                yield from files_of(container, container.level(slab.id, level), slab.rows(level))
