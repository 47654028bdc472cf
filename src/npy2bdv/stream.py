"""Planes and blocks in any order -> chunks of every level.

A `ViewStream` fills one view. Per level a *row* of chunks (one chunk deep in z, all of y and x) is the unit:
planes are copied into the open row; a full row goes to the encoders of the `Engine`, which cut it into chunks
and compress them.

Lower levels come from exact sums carried along while planes pass (`carry`). Where a caller rewrites planes, or
gives parts of planes, the planes are marked dirty and the cells over them are made again from the stored full
resolution when the view is settled.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.carry import LowerLevels
from npy2bdv.errors import ClosedError, InvalidInputError, InvalidTypeError, OutOfRangeError
from npy2bdv.handle import Handle
from npy2bdv.rows import Cutter, LevelRows, Row, runs
from npy2bdv.storage.frames import check_meta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from npy2bdv.engine import Engine
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.rows import ChunkNote
    from npy2bdv.storage.base import LevelArray


logger = logging.getLogger(__name__)

_GROWTH = 8  # an open-ended view grows by this fraction of itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a view held when a checkpoint began: wait for `work`, keep `planes`, then release `rows`."""

    planes_there: NDArray[np.bool_]
    unfinished: NDArray[np.bool_]
    work: tuple[Future[None], ...]
    planes: tuple[tuple[int, NDArray[Any]], ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a stream tells its writer."""

    chunks: Callable[[list[ChunkNote]], None] | None = None
    frame: Callable[[int, Mapping[str, Any]], None] | None = None
    taken: Callable[[], None] | None = None
    closed: Callable[[ViewStream], None] | None = None


class ViewStream(Handle):
    """Fills one view with planes, blocks or stacks, in any order; made by `DatasetWriter.stream`. Threads may share it.

    Arrays are (z, y, x) in full resolution and may be reused by the caller when a call
    returns. Use as a context manager: leaving it completes the view; planes that never came are zeros.

    Parameters
    ----------
    engine
        Threads and memory.
    shape
        Size of the full image (z, y, x); z is None where it is not known before the end.
    dtype
        Pixel type.
    levels
        The stored levels with their factors (z, y, x). They may lack the full resolution; then planes can
        neither be given in parts nor twice.
    source
        Where the full resolution is stored already, if only lower levels are to be made.
    there
        Planes that were written before; those that come now replace them.
    hooks
        What to tell the writer.
    """

    def __init__(
        self,
        engine: Engine,
        shape: tuple[int | None, int, int],
        dtype: np.dtype[Any],
        levels: Sequence[tuple[Zyx, LevelArray]],
        *,
        source: LevelArray | None = None,
        there: NDArray[np.bool_] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        rows = [(factors, LevelRows(index, array)) for index, (factors, array) in enumerate(levels)]
        self._full = next((level for factors, level in rows if factors == (1, 1, 1)), None)
        lower = [(factors, level) for factors, level in rows if level is not self._full]
        self._source = source if self._full is None else self._full.array
        self._open_ended = shape[0] is None
        self.dtype = dtype
        self.jobs = 0
        """Pieces of work under way; the engine counts."""
        self._engine = engine
        self._hooks = hooks or Hooks()
        self._cutter = Cutter(engine, dtype, self._hooks.chunks)
        self._lower = LowerLevels(self._cutter, shape, lower)
        depth = shape[0] if shape[0] is not None else rows[0][1].array.shape[0] * rows[0][0][0]
        self.shape: Zyx = (depth, shape[1], shape[2])
        self._depth = min(4, depth) if self._full is None else self._full.depth
        self._rows: dict[int, Row] = {}
        self._there = np.zeros(depth, bool) if there is None else there.copy()
        self._summed = np.full(depth, there is not None)  # in the sums, or too late for them
        self._dirty = np.zeros(depth, bool)  # lower levels over it must be made again
        self._under_way: deque[Future[None]] = deque()
        """Rows that encoders have, or had."""
        self._next = 0
        self._closed = False
        self._left = False
        self._settled = threading.Event()

    # -- for users ---------------------------------------------------------------------------------------

    @property
    def planes_there(self) -> int:
        """How many planes have come, wholly or in part."""
        return int(self._there.sum())

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which planes have come, wholly or in part."""
        return self._there.copy()

    @property
    def is_full(self) -> bool:
        """Whether all planes have come."""
        return not self._open_ended and bool(self._there.all())

    @property
    def is_closed(self) -> bool:
        """Whether the view has been completed or given up."""
        return self._closed

    @property
    def is_left(self) -> bool:
        """Whether nothing more is taken, and it is to be completed by `close`, now or later."""
        return self._left

    @property
    def is_settled(self) -> bool:
        """Whether it has been closed, and is done with what that took."""
        return self._settled.is_set()

    @property
    def missing_planes(self) -> list[tuple[int, int]]:
        """Planes that have not come, as (start, stop)."""
        return runs(~self._there)

    def append(
        self,
        frame: NDArray[Any],
        *,
        timeout: float | None = None,
        copy: bool = True,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the next plane.

        Parameters
        ----------
        frame
            Pixels (y, x), of the view's type or one that it holds without loss.
        timeout
            Seconds to wait for room in the buffers (0: not at all); by default as long as it takes.
        copy
            False: the caller hands the array over and does not touch it again.
        meta
            What belongs to the frame (camera time stamp, frame number, stage position ...): a row of the table
            ``NAME.frames.csv``. Under the key "frame" its number is expected, and gaps are reported.

        Raises
        ------
        QueueFull
            If there is no room in time. The frame was not taken.
        InvalidInputError, OutOfRangeError, InvalidTypeError
            As in `put`.
        """
        frame = np.asarray(frame)
        if frame.ndim != 2:
            raise InvalidInputError(f"a plane is 2-D (y, x); found an array of shape {frame.shape}")
        if frame.shape != self.shape[1:]:
            raise InvalidInputError(
                f"the plane has the shape {frame.shape}; this view has {self.shape[1:]} (y, x)"
            )
        if meta is not None:
            check_meta(meta)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._engine.door(deadline):
            z = self._next
            self._begin(frame[None], z, 0, 0, deadline)
            self._take(frame[None], z, 0, 0, copy=copy)
            if meta is not None and self._hooks.frame is not None:
                self._hooks.frame(z, meta)
        if self._hooks.taken is not None:
            self._hooks.taken()

    def put(
        self,
        block: NDArray[Any],
        z: int,
        y: int = 0,
        x: int = 0,
        *,
        timeout: float | None = None,
        copy: bool = True,
    ) -> None:
        """Take a block of pixels.

        Parameters
        ----------
        block
            Pixels (z, y, x), of the view's type or one that it holds without loss.
        z, y, x
            Where its first pixel lies. A block that spans all of y and x is written fastest.
        timeout, copy
            As in `append`.

        Raises
        ------
        InvalidInputError
            If the block is not 3-D or empty, or reaches beyond the view.
        OutOfRangeError
            If z, y or x is negative or beyond the view.
        InvalidTypeError
            If its pixel type cannot be held without loss.
        QueueFull
            If there is no room in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        block = np.asarray(block)
        with self._engine.door(deadline):
            z = self._begin(block, z, y, x, deadline)
            if deadline is not None:  # all of it or nothing, and at once
                for start, part in self._by_rows(block, z):
                    self._take(part, start, y, x, copy=copy)
        if deadline is None:
            self._put_patiently(block, z, y, x, copy=copy)
        if self._hooks.taken is not None:
            self._hooks.taken()

    def check_place(self, block: NDArray[Any], start: Zyx) -> None:
        """Refuse a block that is not 3-D or does not lie in the view; see `put`.

        Parameters
        ----------
        block
            Pixels (z, y, x).
        start
            Where its first pixel lies in the view (z, y, x).

        Raises
        ------
        InvalidInputError
            If it is not 3-D, is empty, or reaches beyond the view.
        OutOfRangeError
            If it starts outside of the view.
        """
        if block.ndim != 3 or 0 in block.shape:
            raise InvalidInputError(f"a block is 3-D (z, y, x) and not empty; found shape {block.shape}")
        for axis, first, length, size in zip("zyx", start, block.shape, self.shape, strict=True):
            if axis == "z" and self._open_ended and first == int(first) and first >= 0:
                continue
            if first != int(first) or not 0 <= first < size:
                raise OutOfRangeError(
                    f"{axis} = {first} is outside of the view, which has {size} ({axis}), counted from 0"
                )
            if first + length > size:
                raise InvalidInputError(
                    f"the block of shape {block.shape} at {axis} = {first} ends at {axis} = {first + length}, "
                    f"beyond the view of shape {self.shape}"
                )

    def store(self) -> None:
        """Store the rows that are open, as far as they are filled. Levels are complete after `settle` only."""
        with self._engine.door():
            for row in sorted(self._rows):
                self._send_row(row)
            self._engine.drain(self)

    def settle(self) -> None:
        """Complete all levels of what has come; missing planes are zeros. More may come later."""
        with self._engine.door():
            self._send_all()
            self._complete()

    def _send_all(self) -> None:
        for row in sorted(self._rows):
            self._send_row(row)

    def _complete(self) -> None:
        """Complete all levels of what was sent. Called with the door held, or when nothing more is taken."""
        self._wait_for_encoders()
        open_ranges = self._lower.finish()
        if self._dirty.any():
            assert self._source is not None
            self._engine.drain(self)
            self._lower.rebuild(self._dirty, self._source)
        # more planes of these groups come too late for the sums
        group = self._lower.group
        for start, stop in (*open_ranges, *runs(self._dirty)):
            self._summed[start - start % group : stop + -stop % group] = True
        self._dirty[:] = False

    def make_again(self) -> None:
        """Make all lower levels again from the stored full resolution, when the view is settled."""
        with self._engine.door():
            self._dirty[:] = True

    def leave(self) -> None:
        """Take nothing more, and go on: `close` completes the view, best when its work is done (`jobs`)."""
        with self._engine.door():
            if not self._closed:
                self._closed = self._left = True
                self._engine.carrying.pop(id(self), None)
                self._trim()
                self._send_all()

    def close(self) -> None:
        """Complete the view. A second call does nothing."""
        with self._engine.door():
            self.leave()
            before, self._left = not self._left, False
        if before:
            self._settled.wait()
            return
        try:
            self._complete()  # the door is open: other views go on meanwhile
        finally:
            self._settled.set()
        if self._hooks.closed is not None:
            self._hooks.closed(self)

    def abort(self) -> None:
        """Give the view up (a stage error, say): it becomes a missing view, and may be declared again."""
        with self._engine.door():
            before, self._closed, self._left = self._closed and not self._left, True, False
            self._engine.carrying.pop(id(self), None)
            if not before:
                for row in list(self._rows):
                    self._engine.open_rows.pop((id(self), row), None)
                    self._rows.pop(row).release()
        if before:
            self._settled.wait()
            return
        try:
            self._engine.drain(self)
            self._lower.wipe()
            if self._full is not None:
                self._cutter.wipe(self._full)
            self._engine.check()
            self._there[:] = False
        finally:
            self._settled.set()
        if self._hooks.closed is not None:
            self._hooks.closed(self)

    # -- full resolution: the caller's thread, with the engine's door held -------------------------------

    def _begin(self, block: NDArray[Any], z: int, y: int, x: int, deadline: float | None) -> int:
        """Refuse a block that cannot be taken; see to it that there is room for it. Return z as a whole number."""
        if self._closed:
            raise ClosedError("this view has been completed; open a new stream")
        self._engine.check()
        self.check_place(block, (z, y, x))
        if block.shape[1:] != self.shape[1:] and self._source is None:
            raise InvalidInputError(
                f"a block of shape {block.shape} covers planes of {self.shape[1:]} in part; that needs the "
                "full resolution stored: add a level with factors 1, 1, 1 or give whole planes"
            )
        if block.dtype != self.dtype and not np.can_cast(block.dtype, self.dtype, "safe"):
            raise InvalidTypeError(
                f"pixels of {block.dtype} do not all fit into {self.dtype}, the type of this view; convert them "
                f"first, e.g. block.astype({self.dtype.name!r}), or declare the setup with another dtype"
            )
        z, stop = int(z), int(z) + len(block)
        if self._source is None and self._there[z:stop].any():
            again = z + int(self._there[z:stop].argmax())
            raise InvalidInputError(
                f"plane {again} came before; to replace planes the full resolution must be stored: add a "
                "level with factors 1, 1, 1"
            )
        if stop > self.shape[0]:
            self._grow(stop)
        if deadline is not None:
            self._make_room(z, stop, deadline)
        self._next = stop
        return z

    def _put_patiently(self, block: NDArray[Any], z: int, y: int, x: int, *, copy: bool) -> None:
        """Take a block row by row; others may come in between, and go on while this waits."""
        whole = block.shape[1:] == self.shape[1:]
        sent: deque[Future[None]] = deque()
        try:
            for start, part in self._by_rows(block, z):
                with self._engine.door():
                    if self._closed:
                        raise ClosedError("this view was completed before all of the block was taken")
                    if whole and self._is_fresh(start, start + len(part)):
                        sent.append(self._send_slab(start, part))
                    else:
                        self._take(part, start, y, x, copy=copy)
                if len(sent) > self._engine.rows_ahead:
                    sent.popleft().result()
        finally:
            wait(sent)  # then the caller may reuse its memory
        self._engine.check()

    def _by_rows(self, block: NDArray[Any], z: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Iterate over the parts of a block that lie in one row each, with the first plane of each."""
        stop = z + len(block)
        for row in range(z // self._depth, (stop - 1) // self._depth + 1):
            start, end = max(z, row * self._depth), min(stop, (row + 1) * self._depth)
            yield start, block[start - z : end - z]

    def _take(self, part: NDArray[Any], z: int, y: int, x: int, *, copy: bool) -> None:
        """Take a part of a row."""
        row = z // self._depth
        whole = part.shape[1:] == self.shape[1:]
        state = self._open(row)
        if self._lower:
            self._engine.carrying[id(self)] = self
            self._engine.carrying.move_to_end(id(self))
        self._fill(row, state, part, (z, y, x), whole=whole, copy=copy)
        self._engine.took(len(part), part.nbytes)

    def _send_slab(self, z: int, slab: NDArray[Any]) -> Future[None]:
        """Send a whole row straight from the caller's memory; the result is there when that is free again."""
        planes = slice(z, z + len(slab))
        self._there[planes] = self._summed[planes] = True
        self._engine.took(len(slab), slab.nbytes)
        free: Future[None] = Future()
        self._encode(partial(self._process_slab, z // self._depth, slab, free))
        return free

    def _planes(self, row: int) -> slice:
        return slice(row * self._depth, min((row + 1) * self._depth, self.shape[0]))

    def _is_fresh(self, start: int, stop: int) -> bool:
        """Tell whether planes make up whole rows of which nothing has come."""
        ends = stop % self._depth == 0 or (stop == self.shape[0] and not self._open_ended)
        come = self._there[start:stop] | self._summed[start:stop]
        return start % self._depth == 0 and ends and not come.any()

    def _fill(self, row: int, state: Row, part: NDArray[Any], start: Zyx, *, whole: bool, copy: bool) -> None:
        """Put a part of a row, given by where it starts in the image, in its place; send the row if it is full."""
        z, y, x = start
        planes = slice(z, z + len(part))
        inside = slice(z - row * self._depth, z - row * self._depth + len(part))
        if whole:
            self._dirty[planes] |= self._summed[planes]
            if copy:
                state.gather()  # an earlier plane that was handed over must not come after this one
                state.put(inside, part)
            else:
                for index, frame in enumerate(part, inside.start):
                    state.hand_over(index, frame)
        else:
            state.gather()
            self._dirty[planes] = True
            state.held = True
            pixels = state.pixels[inside]
            pixels[~state.there[inside]] = 0
            pixels[:, y : y + part.shape[1], x : x + part.shape[2]] = part
        state.there[inside] = True
        state.logged[inside] = False
        self._there[planes] = True
        if not state.held and self._there[self._planes(row)].all():
            self._send_row(row)

    def _make_room(self, z: int, stop: int, deadline: float) -> None:
        """See to it that planes can be taken without waiting, before any of them is."""
        rows = range(z // self._depth, (stop - 1) // self._depth + 1)
        fresh = [row for row in rows if row not in self._rows]
        self._engine.wait_for_room(len(fresh) * self._row_bytes, deadline, self)
        if self._full is not None and any(self._there[self._planes(row)].any() for row in fresh):
            self._engine.drain(self, deadline)

    @property
    def _row_bytes(self) -> int:
        return self._depth * math.prod(self.shape[1:]) * self.dtype.itemsize

    def _open(self, row: int) -> Row:
        key = (id(self), row)
        state = self._rows.get(row)
        if state is None:
            self._engine.wait_for_room(self._row_bytes, client=self)
            state = self._rows[row] = self._new_row(row)
            if self._full is not None and self._there[self._planes(row)].any():
                self._engine.drain(self)
                self._full.reload(row, state)
            self._engine.open_rows[key] = (self, row)
        self._engine.open_rows.move_to_end(key)
        return state

    def _new_row(self, row: int) -> Row:
        planes = self._planes(row)
        chunk = None
        if self._full is not None and not self._lower and planes.stop - planes.start == self._depth:
            height, width = self._full.array.chunk[1:]
            if self.shape[1] % height == self.shape[2] % width == 0:
                chunk = height, width
        return Row(self._engine, self._depth, self.shape[1:], self.dtype, chunk)

    def put_aside(self, row: int) -> None:
        """Store an open row as far as it is filled, and all that is carried, to free their memory.

        Parameters
        ----------
        row
            Number of the row of chunks, counted from 0 along z.
        """
        self._send_row(row)
        self.put_sums_aside()

    def put_sums_aside(self) -> None:
        """Store open rows of lower levels, and forget sums, to free their memory."""
        if self._source is not None:  # else there is nothing to make lower levels from again
            for start, stop in self._lower.put_aside():
                self._dirty[start:stop] = self._summed[start:stop] = True

    def _send_row(self, row: int) -> None:
        self._engine.open_rows.pop((id(self), row), None)
        state = self._rows.pop(row)
        planes = self._planes(row)
        there = state.there[: planes.stop - planes.start]
        new = there & ~self._summed[planes] & ~self._dirty[planes]
        self._summed[planes] |= new
        fed = [(planes.start + start, planes.start + stop) for start, stop in runs(new)]
        self._encode(partial(self._process_row, row, state, fed))

    def _encode(self, job: Callable[[], None]) -> Future[None]:
        while self._under_way and self._under_way[0].done():
            self._under_way.popleft()
        self._under_way.append(self._engine.encode(self, job))
        return self._under_way[-1]

    def _wait_for_encoders(self) -> None:
        wait(self._under_way)
        self._under_way.clear()
        self._engine.check()

    def _grow(self, planes: int) -> None:
        """Make room for planes of a view whose length is not known, by whole rows."""
        planes = max(planes, self.shape[0] + self.shape[0] // _GROWTH)
        self._resize(self._depth * -(-planes // self._depth))

    def _trim(self) -> None:
        """Give a view of unknown length the planes that came. Its last group of sums had no end: make it again."""
        if not self._open_ended or not self.planes_there:
            return
        planes = int(np.flatnonzero(self._there)[-1]) + 1
        self._engine.drain(self)
        self._resize(planes)
        self._open_ended = False
        self._dirty[planes - planes % self._lower.group :] = True

    def _resize(self, planes: int) -> None:
        more = max(0, planes - self.shape[0])
        for name in ("_there", "_summed", "_dirty"):
            setattr(self, name, np.pad(getattr(self, name), (0, more))[:planes])
        if self._full is not None:
            self._full.array.resize(planes)
        self._lower.resize(planes)
        self.shape = (planes, *self.shape[1:])

    # -- checkpoints -------------------------------------------------------------------------------------

    def begin_checkpoint(self, *, in_place: bool, log_all: bool) -> Checkpoint:
        """Tell what has come, and see to it that it can be kept. Called with the engine's door held.

        Parameters
        ----------
        in_place
            Store open rows as far as they are filled. Else their planes are returned, to be kept elsewhere.
        log_all
            Return also the planes that an earlier checkpoint returned.
        """
        planes: list[tuple[int, NDArray[Any]]] = []
        unfinished = np.zeros_like(self._there)
        for row, state in self._rows.items():
            state.retain()
            state.gather()
            pixels = state.pixels  # in this order from now on: others may not change it
            unfinished[self._planes(row)] = self._there[self._planes(row)]
            if in_place:
                state.kept = self._engine.encode(
                    self, partial(self._store_open, row, pixels, state.there.copy())
                )
            else:
                wanted = state.there & (log_all | ~state.logged)
                state.logged |= state.there
                planes += [(row * self._depth + i, pixels[i]) for i in np.flatnonzero(wanted).tolist()]
        kept = [state.kept for state in self._rows.values() if state.kept is not None]
        return Checkpoint(
            planes_there=self._there.copy(),
            unfinished=unfinished,
            work=(*self._under_way, *kept),
            planes=tuple(planes),
            rows=tuple(self._rows.values()),
        )

    def _store_open(self, row: int, pixels: NDArray[Any], there: NDArray[np.bool_]) -> None:
        planes = self._planes(row)
        if self._full is not None:
            self._cutter.cut(self._full, row, pixels[: planes.stop - planes.start], there)

    # -- encoders ----------------------------------------------------------------------------------------

    def _process_row(self, row: int, state: Row, fed: list[tuple[int, int]]) -> None:
        """Store a row that was filled by planes, and give back its memory; see `_process`."""
        if state.kept is not None:
            state.kept.result()  # what a checkpoint stores of it must not come later than the whole
        state.gather()
        if self._full is not None and state.chunks is not None and state.there.all():
            self._cutter.cut_chunks(self._full, row, state.chunks)
        else:
            planes = self._planes(row)
            self._process(row, state.pixels[: planes.stop - planes.start], fed, state.there)
        state.release()

    def _process_slab(self, row: int, slab: NDArray[Any], free: Future[None]) -> None:
        """Store a whole row of the caller's; see `_send_slab`."""
        try:
            slab = slab.astype(self.dtype, copy=False)
            self._lower.push(row * self._depth, slab)
            if self._full is not None:
                all_there = np.ones(len(slab), bool)
                self._cutter.cut(self._full, row, slab, all_there, copied=partial(free.set_result, None))
        finally:
            if not free.done():
                free.set_result(None)

    def _process(
        self, row: int, slab: NDArray[Any], fed: list[tuple[int, int]], there: NDArray[np.bool_]
    ) -> None:
        """Store a row, and add the planes in `fed` (start, stop) to the sums."""
        if self._full is not None:
            self._cutter.cut(self._full, row, slab, there)
        first = row * self._depth
        for start, stop in fed:
            self._lower.push(start, slab[start - first : stop - first])


def make_levels(
    engine: Engine, source: LevelArray, levels: Sequence[tuple[Zyx, LevelArray]]
) -> Iterator[int]:
    """Fill levels from a stored one; yield after each slab how many of its planes have been read.

    `levels` come with their factors (z, y, x) against the source.
    """
    depth = source.chunk[0]
    with ViewStream(engine, source.shape, source.dtype, levels, source=source) as stream:
        for z in range(0, source.shape[0], depth):
            stop = min(z + depth, source.shape[0])
            stream.put(source.read((slice(z, stop), slice(None), slice(None))), z)
            yield stop
