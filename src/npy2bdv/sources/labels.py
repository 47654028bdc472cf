"""What metadata say of an image, and lengths in several units."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from npy2bdv.model.units import ratio


class Labels(NamedTuple):
    """What the metadata of an image say about it."""

    voxel_size_xyz: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: str = "px"
    channels: tuple[str, ...] = ()
    position_xyz: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()


def one_unit(sizes: Iterable[float | None], units: list[str]) -> Labels:
    """Bring the sizes of x, y and z into the unit of x."""
    known = [s if s and math.isfinite(s) and s > 0 else None for s in sizes]
    if known[0] is None or known[1] is None:
        return Labels()
    result = []
    for size, unit in zip(known, units, strict=True):
        scale = factor(unit, units[0])
        if size is not None and scale is None:
            note = (
                f"The file gives sizes in different units, {units}; they are not used: give the voxel size."
            )
            return Labels(notes=(note,))
        result.append(1.0 if size is None else size * (scale or 1.0))
    return Labels(voxel_size_xyz=(result[0], result[1], result[2]), unit=units[0])


def placed(labels: Labels, places: list[float], units: list[str]) -> Labels:
    """Add a position (x, y, z), each number in a unit of its own, in the unit of the sizes."""
    factors = [factor(unit, labels.unit) for unit in units]
    if not all(map(math.isfinite, places)) or None in factors:
        note = f"The position of an image, {places} in {units}, is not used: sizes are in {labels.unit}."
        return labels._replace(notes=(*labels.notes, note))
    x, y, z = (place * (scale or 1.0) for place, scale in zip(places, factors, strict=True))
    return labels._replace(position_xyz=(x, y, z))


def factor(unit: str, wanted: str) -> float | None:
    """Return what lengths are multiplied by to be in another unit; None if that is not known.

    Examples
    --------
    >>> factor("nanometer", "nanometer"), factor("furlong", "meter"), factor("furlong", "furlong")
    (1.0, None, 1.0)
    """
    found = ratio(unit, wanted)
    return None if found is None else float(found)
