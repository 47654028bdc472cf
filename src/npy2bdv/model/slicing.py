"""What a numpy index of an array (z, y, x) reads: a box, and what to pick from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from npy2bdv.errors import InvalidInputError, OutOfRangeError

if TYPE_CHECKING:
    from types import EllipsisType

    from npy2bdv.model.pyramid import Region, Zyx

    Index: TypeAlias = int | slice | EllipsisType


def read_box(index: Index | tuple[Index, ...], shape: Zyx) -> tuple[Region, tuple[int | slice, ...]]:
    """Return the box to read, and the index that picks from the box what was asked for."""
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [place for place, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > 3:
        raise OutOfRangeError(
            f"an array (z, y, x) takes at most three indices and one ellipsis; found {index!r}"
        )
    place = dots[0] if dots else len(parts)
    parts[place : place + 1] = [slice(None)] * (3 + len(dots) - len(parts))
    box: list[slice] = []
    inner: list[int | slice] = []
    for axis, part, size in zip("zyx", parts, shape, strict=True):
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            count = len(range(start, stop, step))
            low = min(start, start + (count - 1) * step) if count else 0
            high = max(start, start + (count - 1) * step) + 1 if count else 0
            box.append(slice(low, high))
            inner.append(slice(None, None, step) if step != 1 else slice(None))
        elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
            if not -size <= part < size:
                raise OutOfRangeError(f"{axis} = {part} is outside of the level, which has {size} ({axis})")
            part = int(part) % size
            box.append(slice(part, part + 1))
            inner.append(0)
        else:
            raise InvalidInputError(f"levels are read by integers and slices; found {part!r} for {axis}")
    return (box[0], box[1], box[2]), tuple(inner)
