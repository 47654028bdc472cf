"""What a numpy index of an array (z, y, x) reads: boxes of pixels, and what to pick from them.

An index is cut into boxes, so that a few planes that lie far apart are read alone, and one pixel of each
hundred takes little memory. What is picked is decided by numpy itself, from an array that holds no pixel
twice; so its rules hold, whatever is combined.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise, product
from operator import index as as_integer
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from npy2bdv.errors import InvalidInputError, OutOfRangeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import EllipsisType

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx

    Index: TypeAlias = (
        int | slice | EllipsisType | Sequence[int] | Sequence[bool] | NDArray[np.integer | np.bool_] | None
    )
    _Wanted: TypeAlias = tuple[slice | NDArray[np.intp], slice | NDArray[np.intp], slice | NDArray[np.intp]]

_ALL = slice(None)

_ROWS = 8
"""A box spans at most so many chunks along an axis that is not read pixel by pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of one axis: the pixels `box`; of these `source` are wanted, and are put at `target`."""

    box: slice
    source: slice | NDArray[np.intp]
    target: slice


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What an index reads. `shape` is that of the array that collects the boxes, `pick` the index into it."""

    shape: Zyx
    parts: tuple[tuple[_Part, ...], ...]
    pick: tuple[Any, ...]

    @property
    def is_one_box(self) -> bool:
        """Whether the pixels of one box are all that is wanted."""
        return all(len(axis) == 1 and axis[0].source is _ALL for axis in self.parts)

    def boxes(self) -> Iterator[tuple[Region, _Wanted, Region]]:
        """Iterate over the boxes: where they lie, what is wanted of each, and where to put that."""
        for z, y, x in product(*self.parts):
            yield (z.box, y.box, x.box), (z.source, y.source, x.source), (z.target, y.target, x.target)


def take(pixels: NDArray[Any], wanted: _Wanted) -> NDArray[Any]:
    """Return what is wanted of a box, axis by axis (numpy's own index would combine arrays)."""
    z, y, x = wanted
    return pixels[z][:, y][:, :, x]


def select(index: Index | tuple[Index, ...], shape: Zyx, chunks: Zyx) -> Selection:
    """Return what an index reads from an array of this shape.

    Integers, slices with steps, an ellipsis, ``np.newaxis``, arrays (or lists) of integers and of booleans
    are taken in any combination that numpy takes.

    Raises
    ------
    OutOfRangeError
        If a pixel lies outside, a mask does not fit, or there are more indices than axes.
    InvalidInputError
        If the index is of another kind.

    Examples
    --------
    >>> selection = select((slice(None, None, -1), [0, 90], 5), shape=(3, 100, 8), chunks=(1, 16, 8))
    >>> [box[1] for box, _, _ in selection.boxes()]
    [slice(0, 1, None), slice(90, 91, None)]
    >>> selection.shape, selection.pick
    ((3, 2, 1), (slice(None, None, -1), array([0, 1]), 0))
    """
    wanted: list[NDArray[np.intp] | range] = []
    pick: list[Any] = []
    for part in _complete(index, shape):
        if part is None or part is Ellipsis:
            pick.append(part)
            continue
        axis, size = "zyx"[len(wanted)], shape[len(wanted)]
        if isinstance(part, slice):
            pixels = range(size)[part]
            wanted.append(pixels if pixels.step > 0 else pixels[::-1])
            pick.append(slice(None, None, -1 if pixels.step < 0 else None))
        elif isinstance(part, int):
            pixel = int(_inside(part, axis, size))
            wanted.append(range(pixel, pixel + 1))
            pick.append(0)
        else:
            unique, places = np.unique(_inside(part, axis, size), return_inverse=True)
            wanted.append(unique)
            pick.append(places.reshape(part.shape))
    parts = tuple(tuple(_parts(pixels, chunk)) for pixels, chunk in zip(wanted, chunks, strict=True))
    z, y, x = map(len, wanted)
    return Selection(shape=(z, y, x), parts=parts, pick=tuple(pick))


def _complete(
    index: Index | tuple[Index, ...], shape: Zyx
) -> list[int | slice | NDArray[Any] | EllipsisType | None]:
    """Return the parts of an index: one for each axis, and None for each new one.

    An ellipsis that was given stays before the slices that it stands for, as it separates arrays and integers
    even where it stands for none.
    """
    given = [_known(part) for part in (index if isinstance(index, tuple) else (index,))]
    if len(given) == 3 and all(isinstance(part, int | slice) for part in given):
        return given  # by far the most frequent
    lengths = [
        part.ndim if _is_mask(part) else int(part is not None and part is not Ellipsis) for part in given
    ]
    dots = sum(part is Ellipsis for part in given)
    if dots > 1 or sum(lengths) > 3:
        raise OutOfRangeError(
            f"an array (z, y, x) takes at most three indices and one ellipsis; found {index!r}"
        )
    rest = [slice(None)] * (3 - sum(lengths))
    parts: list[Any] = []
    for part in given if dots else [*given, Ellipsis]:
        if part is Ellipsis:
            parts += [Ellipsis, *rest] if dots else rest
        elif _is_mask(part):
            start = sum(each is not None and each is not Ellipsis for each in parts)
            parts += _true_pixels(part, shape, start=start)
        else:
            parts.append(part)
    return parts


def _known(part: Any) -> Any:
    """Return a part of an index with its numbers as an integer or an array; an error if it is no such part."""
    if isinstance(part, slice) or part is None or part is Ellipsis:
        return part
    if not isinstance(part, (bool, np.bool_)):
        with suppress(TypeError):
            return as_integer(part)
    if isinstance(part, (list, np.ndarray)):
        array = np.asarray(part)
        if not array.size and isinstance(part, list):
            return array.astype(np.intp)
        if array.dtype.kind in "iu":
            return array.astype(np.intp)
        if array.dtype == bool and array.ndim:
            return array
    raise InvalidInputError(
        f"levels are read by integers, slices, and arrays of integers or booleans; found {part!r}"
    )


def _is_mask(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype == bool


def _true_pixels(mask: NDArray[np.bool_], shape: Zyx, start: int) -> tuple[NDArray[np.intp], ...]:
    """Return where a mask is true: for numpy that is the same index."""
    size = shape[start : start + mask.ndim]
    if mask.shape != size:
        raise OutOfRangeError(
            f"a mask of the shape {mask.shape} does not fit the axes {'zyx'[start : start + mask.ndim]} of the "
            f"level, which have the sizes {size}"
        )
    return mask.nonzero()


def _inside(pixels: Any, axis: str, size: int) -> Any:
    """Return pixels, one or an array, counted from 0; an error if one lies outside."""
    outside = np.extract((pixels < -size) | (pixels >= size), pixels)
    if outside.size:
        raise OutOfRangeError(f"{axis} = {outside[0]} is outside of the level, which has {size} ({axis})")
    return np.where(pixels < 0, pixels + size, pixels)


def _parts(pixels: NDArray[np.intp] | range, chunk: int) -> Iterator[_Part]:
    """Cut the wanted pixels of an axis, in rising order, into parts that are read at once."""
    if not len(pixels):
        yield _Part(box=slice(0, 0), source=_ALL, target=slice(0, 0))
    elif pixels[-1] - pixels[0] + 1 == len(pixels):
        box = slice(int(pixels[0]), int(pixels[-1]) + 1)
        yield _Part(box=box, source=_ALL, target=slice(0, len(pixels)))
    else:
        found = np.asarray(pixels)
        row = found // (chunk * _ROWS)
        new = (np.diff(found) > chunk) | (np.diff(row) > 0)
        bounds = [0, *(np.flatnonzero(new) + 1).tolist(), len(found)]
        for start, stop in pairwise(bounds):
            first, last = int(found[start]), int(found[stop - 1])
            source = found[start:stop] - first
            steps = {int(step) for step in np.diff(source)}
            yield _Part(
                box=slice(first, last + 1),
                source=slice(None, None, min(steps, default=1)) if len(steps) < 2 else source,
                target=slice(start, stop),
            )


def chunks_of(region: Region, shape: Zyx, chunk: Zyx) -> int:
    """Return how many chunks a region touches."""
    touched = 1
    for part, size, length in zip(region, shape, chunk, strict=True):
        start, stop, _ = part.indices(size)
        touched *= -(-stop // length) - start // length if stop > start else 0
    return touched
