"""Positions of the stage at which tiles cover an area or a volume."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.placement import three

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from npy2bdv.model.spimdata import Triple

Order: TypeAlias = Literal["snake-by-rows", "rows", "snake-by-columns", "columns"]
"""In which order tiles are taken: along x, then y (rows), or along y, then x; always one way, or to and fro."""


def grid(
    nx: int,
    ny: int,
    *,
    shape: Sequence[int],
    voxel_size_xyz: Sequence[float],
    overlap: float | Sequence[float] = 0.1,
    order: Order = "snake-by-rows",
    nz: int = 1,
    start_xyz: Sequence[float] = (0.0, 0.0, 0.0),
) -> Iterator[Triple]:
    """Give the positions of a grid of tiles, in the order in which they are visited.

    Parameters
    ----------
    nx, ny, nz
        How many tiles there are along each axis. Layers (nz) are taken one after the other.
    shape
        Size of a tile (z, y, x), in pixels.
    voxel_size_xyz
        Size of a voxel; positions are in the same unit.
    overlap
        Which part of a tile the next one covers again: from 0 to less than 1, for all axes or for each (x, y, z).
    order
        In which order: "rows" along x and then y, "columns" along y and then x; "snake-by-..." to and fro.
    start_xyz
        The position of the tile at the low end of all axes, in the unit of the voxel size.

    Returns
    -------
    :
        Positions (x, y, z), one for each tile.

    Raises
    ------
    InvalidInputError
        If a number cannot be, or the order is not known.

    Examples
    --------
    >>> list(grid(2, 2, shape=(50, 100, 100), voxel_size_xyz=(0.5, 0.5, 2), overlap=0.1))
    [(0.0, 0.0, 0.0), (45.0, 0.0, 0.0), (45.0, 45.0, 0.0), (0.0, 45.0, 0.0)]
    """
    if order not in get_args(Order):
        raise InvalidInputError(f"order={order!r} is not known; give one of {', '.join(get_args(Order))}")
    counts = []
    for name, count in (("nx", nx), ("ny", ny), ("nz", nz)):
        if not hasattr(count, "__index__") or count < 1:
            raise InvalidInputError(f"{name}={count!r} cannot be; give a whole number of at least 1")
        counts.append(int(count))
    sizes = tuple(shape)
    if len(sizes) != 3 or not all(size > 0 for size in sizes):
        raise InvalidInputError(f"a tile has three sizes above 0 (z, y, x), in pixels; found {shape!r}")
    voxel = three(voxel_size_xyz, "voxel_size_xyz")
    if min(voxel) <= 0:
        raise InvalidInputError(f"a voxel has three finite sizes above 0 (x, y, z); found {voxel}")
    overlaps = (overlap,) * 3 if isinstance(overlap, (int, float)) else three(overlap, "overlap")
    if not all(math.isfinite(part) and 0 <= part < 1 for part in overlaps):
        raise InvalidInputError(
            f"overlap={overlap!r} cannot be; give a part from 0 to less than 1, such as 0.1 for 10 percent"
        )
    start = three(start_xyz, "start_xyz")
    steps = [
        size * length * (1 - part) for size, length, part in zip(sizes[::-1], voxel, overlaps, strict=True)
    ]
    return _positions(counts, start, steps, order)


def _positions(counts: list[int], start: Triple, steps: list[float], order: Order) -> Iterator[Triple]:
    inner, outer = (0, 1) if order.endswith("rows") else (1, 0)
    places = [0, 0, 0]
    for layer in range(counts[2]):
        places[2] = layer
        for row in range(counts[outer]):
            places[outer] = row
            along = range(counts[inner])
            for column in reversed(along) if order.startswith("snake") and row % 2 else along:
                places[inner] = column
                x, y, z = (
                    first + place * step for first, place, step in zip(start, places, steps, strict=True)
                )
                yield x, y, z
