"""Edits of the pixels of an image: crop, flip, bin; what each does to sizes, places and planes."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.affine import Affine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from npy2bdv.model.affine import Axis
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.model.spimdata import Triple

Ranges = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """Keep the pixels from `start` to `stop` (z, y, x), the latter left out."""

    start: Zyx
    stop: Zyx
    name: str = "crop"

    def shape_after(self, shape: Zyx) -> Zyx:
        """Return the size that an image of this size gets."""
        z, y, x = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return z, y, x

    def transform(self, shape: Zyx) -> Affine:
        """Return where the new pixels (x, y, z) lie among the old ones (formats.md 7)."""
        return Affine.crop(self.start[::-1])

    def voxel_size(self, size_xyz: Triple) -> Triple:
        """Return the size that a voxel gets."""
        return size_xyz

    def planes(self, ranges: Ranges, depth: int) -> Ranges:
        """Return which new planes (start, stop) lie in runs of old ones."""
        low, high = self.start[0], self.stop[0]
        kept = ((max(start, low) - low, min(stop, high) - low) for start, stop in ranges)
        return [(start, stop) for start, stop in kept if start < stop]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """Turn the order of pixels along an axis round."""

    axis: Axis

    @property
    def name(self) -> str:
        """How the transform is called that keeps the image in its place."""
        return f"flip {self.axis}"

    @property
    def number(self) -> int:
        """Which axis of an array (z, y, x) it is."""
        return "zyx".index(self.axis)

    def shape_after(self, shape: Zyx) -> Zyx:
        """Return the size that an image of this size gets."""
        return shape

    def transform(self, shape: Zyx) -> Affine:
        """Return where the new pixels (x, y, z) lie among the old ones (formats.md 7)."""
        return Affine.flip(self.axis, shape[self.number])

    def voxel_size(self, size_xyz: Triple) -> Triple:
        """Return the size that a voxel gets."""
        return size_xyz

    def planes(self, ranges: Ranges, depth: int) -> Ranges:
        """Return which new planes (start, stop) lie in runs of old ones."""
        if self.axis != "z":
            return ranges
        return [(depth - stop, depth - start) for start, stop in reversed(ranges)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Take the mean of blocks of pixels, as levels are made."""

    factors: Zyx
    name: str = "bin"

    def shape_after(self, shape: Zyx) -> Zyx:
        """Return the size that an image of this size gets."""
        z, y, x = (-(-size // factor) for size, factor in zip(shape, self.factors, strict=True))
        return z, y, x

    def transform(self, shape: Zyx) -> Affine:
        """Return where the new pixels (x, y, z) lie among the old ones (formats.md 7)."""
        return Affine.binning(self.factors[::-1])

    def voxel_size(self, size_xyz: Triple) -> Triple:
        """Return the size that a voxel gets."""
        x, y, z = (size * factor for size, factor in zip(size_xyz, self.factors[::-1], strict=True))
        return x, y, z

    def planes(self, ranges: Ranges, depth: int) -> Ranges:
        """Return the new planes (start, stop) of which all pixels lie in runs of old ones."""
        factor = self.factors[0]
        whole = ((-(-start // factor), depth if stop == depth else stop) for start, stop in ranges)
        kept = ((start, -(-stop // factor) if stop == depth else stop // factor) for start, stop in whole)
        return [(start, stop) for start, stop in kept if start < stop]


PixelEdit = Crop | Flip | Bin


def crop_of(ranges: Sequence[Any], shape: Zyx, axes: str = "zyx") -> Crop:
    """Return the crop of an image of a size (z, y, x) that ranges ask for.

    Parameters
    ----------
    ranges
        For each axis None (all of it), a slice, or a pair (start, stop), whose ends count from the end where
        they are negative, and may be None.
    shape
        Size of the image (z, y, x).
    axes
        In which order the ranges are.

    Raises
    ------
    InvalidInputError
        If they are no such ranges, reach beyond the image, or keep nothing.

    Examples
    --------
    >>> crop_of((None, (1, -1), slice(2, None)), (5, 6, 7))
    Crop(start=(0, 1, 2), stop=(5, 5, 7), name='crop')
    """
    wanted = tuple(ranges) if isinstance(ranges, (tuple, list)) else ()
    if len(wanted) != 3:
        raise InvalidInputError(
            f"a crop takes three ranges ({', '.join(axes)}), each None, a slice or (start, stop); found {ranges!r}"
        )
    bounds = {
        axis: _bounds(each, shape["zyx".index(axis)], axis) for axis, each in zip(axes, wanted, strict=True)
    }
    z, y, x = (bounds[axis] for axis in "zyx")
    return Crop(start=(z[0], y[0], x[0]), stop=(z[1], y[1], x[1]))


def _bounds(given: Any, size: int, axis: str) -> tuple[int, int]:
    if isinstance(given, slice) and given.step not in (None, 1):
        raise InvalidInputError(f"a crop has no steps; found {given} along {axis}: use bin for fewer pixels")
    pair = (given.start, given.stop) if isinstance(given, slice) else (None, None) if given is None else given
    try:
        first, last = pair
        start = 0 if first is None else index(first)
        stop = size if last is None else index(last)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"a crop along {axis} is None, a slice or a pair (start, stop) of integers; found {given!r}"
        ) from None
    start, stop = start + size * (start < 0), stop + size * (stop < 0)
    if not 0 <= start < stop <= size:
        raise InvalidInputError(
            f"a crop along {axis} from {first} to {last} keeps no pixels, or ones that are not there: the image has "
            f"{size} along {axis}, counted from 0 (the end is left out; negative numbers count from the end)"
        )
    return start, stop


def bin_of(factors: Sequence[Any]) -> Bin:
    """Return the binning by factors (z, y, x).

    Raises
    ------
    InvalidInputError
        If they are not three integers of at least 1.
    """
    try:
        z, y, x = map(index, factors)
    except (TypeError, ValueError):
        raise InvalidInputError(f"bin takes three integers (z, y, x); found {factors!r}") from None
    if min(z, y, x) < 1:
        raise InvalidInputError(f"bin takes factors of at least 1 (z, y, x); found {factors!r}")
    return Bin(factors=(z, y, x))


def flip_of(axis: str) -> Flip:
    """Return the flip of an axis.

    Raises
    ------
    InvalidInputError
        If there is no such axis.
    """
    if axis not in ("x", "y", "z"):
        raise InvalidInputError(f"there is no axis {axis!r}; give 'x', 'y' or 'z'")
    return Flip(axis=axis)  # type: ignore[arg-type]  # it was looked at
