"""Boxes in space."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npy2bdv.model.affine import Affine
    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import Triple


class Box(NamedTuple):
    """A box along the axes: its corners with the smallest and the largest coordinates (x, y, z)."""

    min_xyz: Triple
    max_xyz: Triple

    @property
    def size_xyz(self) -> Triple:
        """Return the lengths of its edges (x, y, z), in the unit of its corners."""
        x, y, z = (high - low for low, high in zip(self.min_xyz, self.max_xyz, strict=True))
        return x, y, z

    @classmethod
    def of_pixels(cls, region: Region, shape: Zyx) -> Box:
        """Return what the pixels of a region cover: pixel 0 reaches from -0.5 to 0.5 (formats.md 1.9).

        Parameters
        ----------
        region
            Slices (z, y, x).
        shape
            Of the image (z, y, x), in pixels.

        Examples
        --------
        >>> Box.of_pixels((slice(0, 1), slice(None), slice(2, 4)), shape=(5, 6, 7))
        Box(min_xyz=(1.5, -0.5, -0.5), max_xyz=(3.5, 5.5, 0.5))
        """
        (z0, z1), (y0, y1), (x0, x1) = (
            part.indices(size)[:2] for part, size in zip(region, shape, strict=True)
        )
        return cls((x0 - 0.5, y0 - 0.5, z0 - 0.5), (x1 - 0.5, y1 - 0.5, z1 - 0.5))

    @classmethod
    def around(cls, boxes: Iterable[Box]) -> Box:
        """Return the smallest box that holds all of these, of which there is one at least.

        Parameters
        ----------
        boxes
            All in the same coordinates.
        """
        corners = np.array([*boxes], float)
        return cls(_triple(corners[:, 0].min(0)), _triple(corners[:, 1].max(0)))

    def moved_by(self, affine: Affine) -> Box:
        """Return the smallest box around what an affine makes of this one.

        Parameters
        ----------
        affine
            From the coordinates of this box to those of the result.
        """
        # without arrays, which would take most of the time: there may be a hundred thousand views
        low, high = [], []
        for row in range(3):
            *factors, offset = affine.values[4 * row : 4 * row + 4]
            ends = [
                sorted((factor * start, factor * stop))
                for factor, start, stop in zip(factors, self.min_xyz, self.max_xyz, strict=True)
            ]
            low.append(sum(first for first, _ in ends) + offset)
            high.append(sum(last for _, last in ends) + offset)
        return Box(_triple(low), _triple(high))

    def pixels(self, shape: Zyx) -> Region:
        """Return the region of an image whose pixels the box touches, clipped to the image; it may be empty.

        Parameters
        ----------
        shape
            Of the image (z, y, x), in pixels.

        Examples
        --------
        >>> Box((1.5, -9.0, 2.4), (3.5, 1.0, 2.6)).pixels(shape=(5, 6, 7))
        (slice(2, 4, None), slice(0, 2, None), slice(2, 4, None))
        """
        found = []
        for low, high, size in zip(self.min_xyz[::-1], self.max_xyz[::-1], shape, strict=True):
            # edges that come from pixels are right but for rounding
            start = min(max(math.floor(round(low + 0.5, 6)), 0), size)
            stop = min(max(math.ceil(round(high + 0.5, 6)), start), size)
            found.append(slice(start, stop))
        return found[0], found[1], found[2]


def box_of(corners: Box | tuple[Triple, Triple]) -> Box:
    """Return the box with two corners (x, y, z) that a user gave.

    Raises
    ------
    InvalidInputError
        If these are not two corners of three finite numbers, the smallest coordinates first.
    """
    asked = "a box is ((x, y, z), (x, y, z)), the smallest and the largest coordinates, in finite numbers"
    try:
        low, high = (_triple(corner) for corner in corners)
    except (TypeError, ValueError):
        raise InvalidInputError(f"{asked}; found {corners!r}") from None
    if not all(map(math.isfinite, (*low, *high))):
        raise InvalidInputError(f"{asked}; found {low} to {high}")
    for axis, first, last in zip("xyz", low, high, strict=True):
        if first > last:
            raise InvalidInputError(
                f"the box {low} to {high} (x, y, z) ends before it begins along {axis}: give the smallest "
                "coordinates first"
            )
    return Box(low, high)


def _triple(numbers: Iterable[float]) -> Triple:
    x, y, z = map(float, numbers)
    return x, y, z
