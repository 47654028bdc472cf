"""Planes and blocks in any order -> chunks of every level.

A `ViewStream` fills one view. Per level a *row* of chunks (one chunk deep in z, all of y and x) is the unit:
planes are copied into the open row; a full row goes to the encoders of the `Engine`, which cut it into chunks
and compress them.

Lower levels come from exact sums carried along while planes pass (`downsample.Cascade`). Where a caller
rewrites planes, or gives parts of planes, the planes are marked dirty and the cells over them are made again
from the stored full resolution when the view is settled.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.downsample import Cascade, downsample
from npy2bdv.errors import ClosedError, InvalidInputError, InvalidTypeError, OutOfRangeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from npy2bdv.downsample import Finished
    from npy2bdv.engine import Engine
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.storage.base import LevelArray, Payload

_REBUILD_BYTES = 64 * 2**20


class _Row:
    """An open row of chunks: its pixels, and which of its planes they hold."""

    __slots__ = ("held", "pixels", "there")

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels = pixels
        self.there = np.zeros(len(pixels), bool)
        self.held = False
        """Not sent when full: it was sent before, or has parts of planes, and more of it may come."""


class _Level:
    """A stored level, and its rows that are being filled."""

    def __init__(self, array: LevelArray) -> None:
        self.array = array
        self.depth = array.chunk[0]
        self.rows: dict[int, _Row] = {}
        self.stored: dict[int, list[Future[None] | None]] = {}
        """Rows of which something was stored, with the work that stores it."""

    def planes(self, row: int) -> slice:
        """Return the planes of the level that a row spans."""
        return slice(row * self.depth, min((row + 1) * self.depth, self.array.shape[0]))

    def reload(self, row: int, state: _Row) -> None:
        """Fill an open row with what was stored of it."""
        wait(future for future in self.stored.get(row, ()) if future is not None)
        planes = self.planes(row)
        valid = planes.stop - planes.start
        state.pixels[:valid] = self.array.read((planes, slice(None), slice(None)))
        state.there[:valid] = True
        state.held = True


class ViewStream:
    """Fills one view with planes, blocks or whole stacks, in any order.

    Made by a writer. Arrays are (z, y, x) in full resolution and may be reused by the caller when a call
    returns. Use as a context manager: leaving it completes the view; planes that never came are zeros.

    Parameters
    ----------
    engine
        Threads and memory.
    shape
        Size of the full image (z, y, x).
    dtype
        Pixel type.
    levels
        The stored levels with their factors (z, y, x). They may lack the full resolution; then planes can
        neither be given in parts nor twice.
    source
        Where the full resolution is stored already, if only lower levels are to be made.
    complete
        All planes were written before; those that come now replace them.
    """

    def __init__(
        self,
        engine: Engine,
        shape: Zyx,
        dtype: np.dtype[Any],
        levels: Sequence[tuple[Zyx, LevelArray]],
        *,
        source: LevelArray | None = None,
        complete: bool = False,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.jobs = 0
        """Pieces of work under way; the engine counts."""
        self._engine = engine
        full = next((array for factors, array in levels if factors == (1, 1, 1)), None)
        self._source = full if source is None else source
        self._full = None if full is None else _Level(full)
        self._lower = [(factors, _Level(array)) for factors, array in levels if array is not full]
        self._cascade = Cascade(shape, dtype, [factors for factors, _ in self._lower])
        self._carry = threading.Lock()
        """Guards the cascade and the rows of lower levels, which encoders fill."""
        self._depth = min(4, shape[0]) if full is None else full.chunk[0]
        self._rows: dict[int, _Row] = {}
        self._there = np.full(shape[0], complete)
        self._summed = np.full(shape[0], complete)  # in the cascade, or too late for it
        self._dirty = np.zeros(shape[0], bool)  # lower levels over it must be made again
        self._under_way: deque[Future[None]] = deque()
        """Rows that encoders have, or had."""
        self._next = 0
        self._closed = False

    # -- for users ---------------------------------------------------------------------------------------

    @property
    def planes_there(self) -> int:
        """How many planes have come, wholly or in part."""
        return int(self._there.sum())

    @property
    def is_full(self) -> bool:
        """Whether all planes have come."""
        return bool(self._there.all())

    def append(self, frame: NDArray[Any]) -> None:
        """Take the next plane.

        Parameters
        ----------
        frame
            Pixels (y, x), of the view's type or one that it holds without loss.
        """
        frame = np.asarray(frame)
        if frame.ndim != 2:
            raise InvalidInputError(f"a plane is 2-D (y, x); found an array of shape {frame.shape}")
        self.put(frame[None], self._next)

    def put(self, block: NDArray[Any], z: int, y: int = 0, x: int = 0) -> None:
        """Take a block of pixels.

        Parameters
        ----------
        block
            Pixels (z, y, x), of the view's type or one that it holds without loss.
        z, y, x
            Where its first pixel lies. A block that spans all of y and x is written fastest.

        Raises
        ------
        InvalidInputError
            If the block is not 3-D or empty, or reaches beyond the view.
        OutOfRangeError
            If z, y or x is negative or beyond the view.
        InvalidTypeError
            If its pixel type cannot be held without loss.
        """
        block = np.asarray(block)
        self.check_place(block, (z, y, x))
        whole = block.shape[1:] == self.shape[1:]
        if not whole and self._source is None:
            raise InvalidInputError(
                f"a block of shape {block.shape} covers planes of {self.shape[1:]} in part; that needs the "
                "full resolution stored: add a level with factors 1, 1, 1 or give whole planes"
            )
        if block.dtype != self.dtype and not np.can_cast(block.dtype, self.dtype, "safe"):
            raise InvalidTypeError(
                f"pixels of {block.dtype} do not all fit into {self.dtype}, the type of this view; convert them "
                f"first, e.g. block.astype({self.dtype.name!r}), or declare the setup with another dtype"
            )
        with self._engine.door:
            if self._closed:
                raise ClosedError("this view has been completed; open a new stream")
            self._engine.check()
            stop = z + len(block)
            if self._source is None and self._there[z:stop].any():
                again = z + int(self._there[z:stop].argmax())
                raise InvalidInputError(
                    f"plane {again} came before; to replace planes the full resolution must be stored: add a "
                    "level with factors 1, 1, 1"
                )
            if whole and self._is_fresh(z, stop):
                self._send_block(block, z)
            else:
                for row in range(z // self._depth, (stop - 1) // self._depth + 1):
                    start, end = max(z, row * self._depth), min(stop, (row + 1) * self._depth)
                    self._fill(row, block[start - z : end - z], (start, y, x), whole=whole)
            self._next = stop

    def check_place(self, block: NDArray[Any], start: Zyx) -> None:
        """Refuse a block that is not 3-D or does not lie in the view; see `put`."""
        if block.ndim != 3 or 0 in block.shape:
            raise InvalidInputError(f"a block is 3-D (z, y, x) and not empty; found shape {block.shape}")
        for axis, first, length, size in zip("zyx", start, block.shape, self.shape, strict=True):
            if first != int(first) or not 0 <= first < size:
                raise OutOfRangeError(f"{axis} = {first} is outside of the view, which has {size} ({axis})")
            if first + length > size:
                raise InvalidInputError(
                    f"the block of shape {block.shape} at {axis} = {first} ends at {axis} = {first + length}, "
                    f"beyond the view of shape {self.shape}"
                )

    def store(self) -> None:
        """Store the rows that are open, as far as they are filled. Levels are complete after `settle` only."""
        with self._engine.door:
            for row in sorted(self._rows):
                self._send_row(row)
            self._engine.drain(self)

    def settle(self) -> None:
        """Complete all levels of what has come; missing planes are zeros. More may come later."""
        with self._engine.door:
            for row in sorted(self._rows):
                self._send_row(row)
            self._wait_for_encoders()
            with self._carry:
                open_ranges = self._cascade.open_ranges
                self._place(self._cascade.finish())
                self._send_lower_rows()
            for start, stop in open_ranges:
                self._summed[start:stop] = True
            if self._dirty.any():
                self._engine.drain(self)
                for factors, level in self._lower:
                    self._rebuild(factors, level)
                self._dirty[:] = False

    def close(self) -> None:
        """Complete the view. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- full resolution: the caller's thread, with the engine's door held -------------------------------

    def _planes(self, row: int) -> slice:
        return slice(row * self._depth, min((row + 1) * self._depth, self.shape[0]))

    def _is_fresh(self, start: int, stop: int) -> bool:
        """Tell whether planes make up whole rows of which nothing has come."""
        ends = stop % self._depth == 0 or stop == self.shape[0]
        return start % self._depth == 0 and ends and not self._there[start:stop].any()

    def _send_block(self, block: NDArray[Any], z: int) -> None:
        """Send whole rows straight from the caller's memory."""
        for row in range(z // self._depth, (z + len(block) - 1) // self._depth + 1):
            planes = self._planes(row)
            self._there[planes] = self._summed[planes] = True
            slab = block[planes.start - z : planes.stop - z]
            runs = [(planes.start, planes.stop)]
            self._encode(partial(self._process, row, slab, runs))
            if len(self._under_way) > self._engine.rows_ahead:
                self._under_way.popleft().result()
        self._wait_for_encoders()  # then the caller may reuse its memory

    def _fill(self, row: int, part: NDArray[Any], start: Zyx, *, whole: bool) -> None:
        """Copy a part of a row, given by where it starts in the image, and send the row if it is full."""
        z, y, x = start
        planes = slice(z, z + len(part))
        state = self._open(row)
        inside = slice(z - row * self._depth, z - row * self._depth + len(part))
        if whole:
            self._dirty[planes] |= self._summed[planes]
            state.pixels[inside] = part
        else:
            self._dirty[planes] = True
            state.held = True
            pixels = state.pixels[inside]
            pixels[~state.there[inside]] = 0
            pixels[:, y : y + part.shape[1], x : x + part.shape[2]] = part
        state.there[inside] = True
        self._there[planes] = True
        if not state.held and self._there[self._planes(row)].all():
            self._send_row(row)

    def _open(self, row: int) -> _Row:
        key = (id(self), row)
        state = self._rows.get(row)
        if state is None:
            shape = (self._depth, *self.shape[1:])
            self._engine.wait_for_room(math.prod(shape) * self.dtype.itemsize)
            state = self._rows[row] = _Row(self._engine.take(shape, self.dtype))
            if self._full is not None and self._there[self._planes(row)].any():
                self._engine.drain(self)
                self._full.reload(row, state)
            self._engine.open_rows[key] = (self, row)
        self._engine.open_rows.move_to_end(key)
        return state

    def put_aside(self, row: int) -> None:
        """Store an open row as far as it is filled, and all that is carried, to free their memory."""
        self._send_row(row)
        with self._carry:
            for start, stop in self._cascade.open_ranges:
                self._cascade.forget(start, stop)
                self._dirty[start:stop] = self._summed[start:stop] = True
            self._send_lower_rows()

    def _send_row(self, row: int) -> None:
        self._engine.open_rows.pop((id(self), row), None)
        state = self._rows.pop(row)
        planes = self._planes(row)
        valid = planes.stop - planes.start
        state.pixels[:valid][~state.there[:valid]] = 0
        new = state.there[:valid] & ~self._summed[planes] & ~self._dirty[planes]
        self._summed[planes] |= new
        runs = [(planes.start + a, planes.start + b) for a, b in _runs(new)]
        self._encode(partial(self._process, row, state.pixels[:valid], runs, state.pixels))

    def _encode(self, job: Callable[[], None]) -> None:
        while self._under_way and self._under_way[0].done():
            self._under_way.popleft()
        self._under_way.append(self._engine.encode(self, job))

    def _wait_for_encoders(self) -> None:
        wait(self._under_way)
        self._under_way.clear()
        self._engine.check()

    # -- encoders ----------------------------------------------------------------------------------------

    def _process(
        self, row: int, slab: NDArray[Any], runs: list[tuple[int, int]], buffer: NDArray[Any] | None = None
    ) -> None:
        """Store a row, add the planes in `runs` (start, stop) to the sums, give back the buffer."""
        slab = slab.astype(self.dtype, copy=False)
        if self._full is not None:
            self._full.stored[row] = self._cut(self._full.array, row, slab)
        if self._lower:
            first = row * self._depth
            for start, stop in runs:
                with self._carry:
                    self._place(self._cascade.push(start, slab[start - first : stop - first]))
        if buffer is not None:
            self._engine.give(buffer)

    def _cut(self, array: LevelArray, row: int, slab: NDArray[Any]) -> list[Future[None] | None]:
        """Cut a row into chunks, encode them, and hand them over in pieces of one chunk in y."""
        height, width = array.chunk[1:]
        per_piece = -(-array.shape[2] // width)
        work = []
        for j, y in enumerate(range(0, array.shape[1], height)):
            piece = self._engine.take((per_piece, *array.chunk), self.dtype)
            _cut_piece(slab[:, y : y + height], piece)
            payloads = [array.encode(chunk) for chunk in piece]
            work.append(self._engine.put(self, partial(self._store, array, (row, j), payloads, piece)))
        return work

    def _store(
        self, array: LevelArray, place: tuple[int, int], payloads: list[Payload], piece: NDArray[Any]
    ) -> None:
        for i, payload in enumerate(payloads):
            array.put((*place, i), payload)
        self._engine.give(piece)

    # -- lower levels: with `_carry` held ----------------------------------------------------------------

    def _place(self, finished: Iterable[Finished]) -> None:
        """Copy finished planes of lower levels into their rows; send those that are full."""
        for index, z, pixels in finished:
            level = self._lower[index][1]
            row, inside = divmod(z, level.depth)
            state = level.rows.get(row)
            if state is None:
                state = level.rows[row] = _Row(self._engine.take((level.depth, *pixels.shape), self.dtype))
                if row in level.stored:
                    level.reload(row, state)
            state.pixels[inside] = pixels
            state.there[inside] = True
            planes = level.planes(row)
            if not state.held and state.there[: planes.stop - planes.start].all():
                self._send_lower(level, row)

    def _send_lower_rows(self) -> None:
        for _, level in self._lower:
            for row in sorted(level.rows):
                self._send_lower(level, row)

    def _send_lower(self, level: _Level, row: int) -> None:
        state = level.rows.pop(row)
        planes = level.planes(row)
        valid = planes.stop - planes.start
        state.pixels[:valid][~state.there[:valid]] = 0
        level.stored[row] = self._cut(level.array, row, state.pixels[:valid])
        self._engine.give(state.pixels)

    def _rebuild(self, factors: Zyx, level: _Level) -> None:
        """Make the cells over dirty planes again, from the stored full resolution."""
        depth = factors[0]
        cells = np.unique(np.flatnonzero(self._dirty) // depth)
        for row in np.unique(cells // level.depth).tolist():
            planes = level.planes(row)
            state = _Row(self._engine.take((level.depth, *level.array.shape[1:]), self.dtype))
            level.rows[row] = state
            level.reload(row, state)
            for z in cells[(cells >= planes.start) & (cells < planes.stop)].tolist():
                self._average(factors, z, state.pixels[z - planes.start])
            self._send_lower(level, row)

    def _average(self, factors: Zyx, z: int, out: NDArray[Any]) -> None:
        """Make one plane of a lower level, in bands of y so that memory stays bounded."""
        assert self._source is not None
        depth, height, _ = factors
        planes = slice(z * depth, min((z + 1) * depth, self.shape[0]))
        per_row = depth * height * self.shape[2] * self.dtype.itemsize
        band = height * max(1, _REBUILD_BYTES // per_row)
        for y in range(0, self.shape[1], band):
            rows = slice(y, min(y + band, self.shape[1]))
            pixels = downsample(self._source.read((planes, rows, slice(0, self.shape[2]))), factors)
            out[y // height : y // height + pixels.shape[1]] = pixels[0]


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


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs of true values as (start, stop)."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _cut_piece(band: NDArray[Any], piece: NDArray[Any]) -> None:
    """Copy a band (z, y, x) of a row into its chunks (chunk in x, z, y, x); beyond the image is zero."""
    depth, height, length = band.shape
    width = piece.shape[3]
    whole, rest = divmod(length, width)
    inside = piece[:, :depth, :height]
    inside[:whole] = band[:, :, : whole * width].reshape(depth, height, whole, width).transpose(2, 0, 1, 3)
    if rest:
        inside[whole, :, :, :rest] = band[:, :, whole * width :]
        piece[whole, :, :, rest:] = 0
    piece[:, depth:] = 0
    piece[:, :, height:] = 0
