"""The lower levels of a view, made while its planes pass.

`Carry` carries exact sums for stacks of any length; `LowerLevels` brings what they give into rows of chunks, and
makes cells again from stored pixels where planes were replaced.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.downsample import Cascade, Finished, downsample
from npy2bdv.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.rows import Cutter, LevelRows
    from npy2bdv.storage.base import LevelArray

_SEGMENT = 1024
_REBUILD_BYTES = 64 * 2**20


class Carry:
    """The levels of one image, made while its planes pass, in any order.

    As `downsample.Cascade`, for an image that may grow: segments that no cell of any level leaves are carried
    each by a cascade of its own, which goes when all its planes have come.

    Parameters
    ----------
    shape
        Size of the image (z, y, x); z is None where it is not known yet.
    dtype
        Pixel type.
    factors
        Factors (z, y, x) of the levels to make.
    """

    def __init__(
        self, shape: tuple[int | None, int, int], dtype: np.dtype[Any], factors: Sequence[Zyx]
    ) -> None:
        self._depth, *self._plane = shape
        self._dtype = dtype
        self._factors = factors
        self.group = math.lcm(*(each[0] for each in factors))
        """How many planes there are to the shortest run that no cell of any level leaves."""
        self._segment = self.group * -(-_SEGMENT // self.group)
        self._cascades: dict[int, Cascade] = {}
        self._due: dict[int, int] = {}
        self._spare: list[Cascade] = []
        """For whole groups: they hold nothing but memory to be used again."""

    def whole(self, z: int, slab: NDArray[Any]) -> list[Finished] | None:
        """Return what whole groups of planes give, or None where the planes z, z + 1, ... are no whole groups.

        Groups do not depend on each other, so several threads may do this at a time. Then call `passed`.
        """
        stop = z + len(slab)
        if z % self.group or (stop % self.group and stop != self._depth):
            return None
        shape = (len(slab), *self._plane)
        try:
            cascade = self._spare.pop()
        except IndexError:
            cascade = Cascade(shape, self._dtype, self._factors)
        if cascade.shape != shape:  # the last planes of all
            cascade = Cascade(shape, self._dtype, self._factors)
        finished = cascade.push(0, slab)
        cascade.forget(0, len(slab))
        self._spare.append(cascade)
        return [Finished(level, z // self._factors[level][0] + k, pixels) for level, k, pixels in finished]

    def passed(self, z: int, planes: int) -> None:
        """Note that planes z, z + 1, ... need no sums."""
        for segment, begin, end in self._parts(z, z + planes):
            self._came(segment, end - begin)

    def push(self, z: int, slab: NDArray[Any]) -> Iterator[Finished]:
        """Take planes z, z + 1, ... and return the planes of levels that they complete."""
        for segment, begin, end in self._parts(z, z + len(slab)):
            cascade = self._of(segment)
            inside = begin - segment * self._segment
            yield from self._moved(segment, cascade.push(inside, slab[begin - z : end - z]))
            self._came(segment, end - begin)

    def finish(self) -> Iterator[Finished]:
        """Return the planes of cells that were fed in part, with zeros for what never came; then start anew."""
        for segment, cascade in sorted(self._cascades.items()):
            yield from self._moved(segment, cascade.finish())
        self.drop()

    def drop(self) -> None:
        """Forget all sums."""
        self._cascades.clear()
        self._due.clear()

    @property
    def nbytes(self) -> int:
        """Memory of unfinished cells."""
        return sum(cascade.open_bytes for cascade in self._cascades.values())

    @property
    def open_ranges(self) -> list[tuple[int, int]]:
        """Planes (start, stop) of each group with unfinished cells."""
        return [
            (segment * self._segment + start, segment * self._segment + stop)
            for segment, cascade in sorted(self._cascades.items())
            for start, stop in cascade.open_ranges
        ]

    def _of(self, segment: int) -> Cascade:
        cascade = self._cascades.get(segment)
        if cascade is None:
            cascade = Cascade((self._planes(segment), *self._plane), self._dtype, self._factors)
            self._cascades[segment] = cascade
        return cascade

    def _planes(self, segment: int) -> int:
        left = self._segment if self._depth is None else self._depth - segment * self._segment
        return min(self._segment, left)

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Iterate over the segments of planes, each with the planes (start, stop) of it."""
        for segment in range(start // self._segment, (stop - 1) // self._segment + 1):
            first = segment * self._segment
            yield segment, max(start, first), min(stop, first + self._segment)

    def _came(self, segment: int, planes: int) -> None:
        due = self._due.setdefault(segment, self._planes(segment)) - planes
        self._due[segment] = due
        if not due:
            del self._due[segment]
            self._cascades.pop(segment, None)

    def _moved(self, segment: int, finished: list[Finished]) -> Iterator[Finished]:
        for level, z, pixels in finished:
            yield Finished(level, segment * self._segment // self._factors[level][0] + z, pixels)


class LowerLevels:
    """The stored lower levels of one view. Safe for use by several encoder threads.

    Parameters
    ----------
    cutter
        What stores full rows.
    shape
        Size of the full image (z, y, x); z is None where it is not known yet.
    levels
        The levels with their factors (z, y, x).
    """

    def __init__(
        self, cutter: Cutter, shape: tuple[int | None, int, int], levels: Sequence[tuple[Zyx, LevelRows]]
    ) -> None:
        self._cutter = cutter
        self._levels = levels
        self._carry = Carry(shape, cutter.dtype, [factors for factors, _ in levels])
        self._guard = threading.Lock()
        self._counted = 0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._levels)

    @property
    def group(self) -> int:
        """How many planes of the full image there are to a run that no cell of any level leaves."""
        return self._carry.group

    def push(self, z: int, slab: NDArray[Any]) -> None:
        """Take planes z, z + 1, ... of the full image, each once."""
        if not self._levels:
            return
        whole = self._carry.whole(z, slab)
        with self._guard:
            if whole is not None:
                self._carry.passed(z, len(slab))
            full = self._place(self._carry.push(z, slab) if whole is None else whole)
            self._count()
        for level, row, state in full:  # nothing more comes into them
            self._store(level, row, state)

    def finish(self) -> list[tuple[int, int]]:
        """Store all; planes that never came count as zeros.

        Returns
        -------
        ranges
            Planes (start, stop) whose cells were not complete: more of them come too late.
        """
        with self._guard:
            ranges = self._carry.open_ranges
            for level, row, state in self._place(self._carry.finish()):
                self._store(level, row, state)
            self._count()
            self._send_all()
        return ranges

    def put_aside(self) -> list[tuple[int, int]]:
        """Store open rows and forget the sums, to free memory; return the planes whose cells must be made again."""
        with self._guard:
            ranges = self._carry.open_ranges
            self._carry.drop()
            self._count()
            self._send_all()
        return ranges

    def wipe(self) -> None:
        """Forget everything, and write zeros over what was stored."""
        with self._guard:
            self._carry.drop()
            self._count()
            for _, level in self._levels:
                while level.rows:
                    level.rows.popitem()[1].release()
                self._cutter.wipe(level)

    def resize(self, planes: int) -> None:
        """Give the levels as many planes as a full image of this length has."""
        with self._guard:
            for (depth, _, _), level in self._levels:
                level.array.resize(-(-planes // depth))

    def rebuild(self, dirty: NDArray[np.bool_], source: LevelArray) -> None:
        """Make the cells over dirty planes again, from the stored full resolution."""
        with self._guard:
            for factors, level in self._levels:
                cells = np.unique(np.flatnonzero(dirty) // factors[0])
                for row in np.unique(cells // level.depth).tolist():
                    planes = level.planes(row)
                    state = level.rows[row] = self._new_row(level)
                    level.reload(row, state)
                    for z in cells[(cells >= planes.start) & (cells < planes.stop)].tolist():
                        _average(source, factors, z, state.pixels[z - planes.start])
                    self._store(level, row, level.rows.pop(row))

    def _count(self) -> None:
        """Count the memory of the sums with that of the buffers."""
        held = self._carry.nbytes
        self._cutter.engine.hold(held - self._counted)
        self._counted = held

    def _place(self, finished: Iterable[Finished]) -> list[tuple[LevelRows, int, Row]]:
        """Copy finished planes into their rows; return the rows that are full."""
        full = []
        for index, z, pixels in finished:
            level = self._levels[index][1]
            row, inside = divmod(z, level.depth)
            state = level.rows.get(row)
            if state is None:
                state = level.rows[row] = self._new_row(level)
                if row in level.stored:
                    level.reload(row, state)
            state.pixels[inside] = pixels
            state.there[inside] = True
            planes = level.planes(row)
            if not state.held and state.there[: planes.stop - planes.start].all():
                full.append((level, row, level.rows.pop(row)))
        return full

    def _new_row(self, level: LevelRows) -> Row:
        height, width = level.array.shape[1:]
        return Row(self._cutter.engine, level.depth, (height, width), self._cutter.dtype)

    def _send_all(self) -> None:
        for _, level in self._levels:
            for row in sorted(level.rows):
                self._store(level, row, level.rows.pop(row))

    def _store(self, level: LevelRows, row: int, state: Row) -> None:
        planes = level.planes(row)
        slab = state.pixels[: planes.stop - planes.start]
        self._cutter.cut(level, row, slab, state.there)
        state.release()


def _average(source: LevelArray, factors: Zyx, z: int, out: NDArray[Any]) -> None:
    """Make one plane of a lower level, in bands of y so that memory stays bounded."""
    depth, height, _ = factors
    size_z, size_y, size_x = source.shape
    planes = slice(z * depth, min((z + 1) * depth, size_z))
    band = height * max(1, _REBUILD_BYTES // (depth * height * size_x * source.dtype.itemsize))
    for y in range(0, size_y, band):
        pixels = downsample(source.read((planes, slice(y, min(y + band, size_y)), slice(0, size_x))), factors)
        out[y // height : y // height + pixels.shape[1]] = pixels[0]
