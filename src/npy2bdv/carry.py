"""Sums carried for stacks of any length, known or not: cascades for one segment of planes after another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from npy2bdv.downsample import Cascade, Finished

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Zyx

_SEGMENT = 1024


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

    def push(self, z: int, slab: NDArray[Any]) -> Iterator[Finished]:
        """Take planes z, z + 1, ... and return the planes of levels that they complete."""
        if not self._factors:
            return
        stop = z + len(slab)
        for segment in range(z // self._segment, (stop - 1) // self._segment + 1):
            first = segment * self._segment
            begin, end = max(z, first), min(stop, first + self._segment)
            yield from self._moved(segment, self._of(segment).push(begin - first, slab[begin - z : end - z]))
            self._due[segment] -= end - begin
            if not self._due[segment]:
                del self._cascades[segment], self._due[segment]

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
            left = self._segment if self._depth is None else self._depth - segment * self._segment
            depth = min(self._segment, left)
            cascade = Cascade((depth, *self._plane), self._dtype, self._factors)
            self._cascades[segment] = cascade
            self._due[segment] = depth
        return cascade

    def _moved(self, segment: int, finished: list[Finished]) -> Iterator[Finished]:
        for level, z, pixels in finished:
            yield Finished(level, segment * self._segment // self._factors[level][0] + z, pixels)
