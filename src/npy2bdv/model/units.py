"""Units of length: how they are spelt, and how many of one are one of another. The only place that knows."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from npy2bdv.errors import InvalidInputError


class _Unit(NamedTuple):
    meters: Fraction
    symbol: str
    spellings: tuple[str, ...] = ()


# Names as NGFF has them (and UDUNITS-2, which it refers to).
_LENGTHS = {
    "angstrom": _Unit(Fraction(1, 10**10), "Å", ("å", "ångström", "ångströms")),
    "picometer": _Unit(Fraction(1, 10**12), "pm"),
    "nanometer": _Unit(Fraction(1, 10**9), "nm"),
    "micrometer": _Unit(Fraction(1, 10**6), "um", ("µm", "μm", r"\u00b5m", "micron", "microns")),
    "millimeter": _Unit(Fraction(1, 10**3), "mm"),
    "centimeter": _Unit(Fraction(1, 10**2), "cm"),
    "meter": _Unit(Fraction(1), "m"),
    "kilometer": _Unit(Fraction(10**3), "km"),
    "inch": _Unit(Fraction(254, 10**4), "in", ("inches", '"')),
}
_PIXELS = ("px", "", "pixel", "pixels")


def _spellings() -> dict[str, str]:
    found = dict.fromkeys(_PIXELS, "px")
    for name, unit in _LENGTHS.items():
        words = [name, f"{name}s"]
        if name.endswith("meter"):
            words += [f"{name[:-5]}metre", f"{name[:-5]}metres"]
        found |= dict.fromkeys((*words, unit.symbol.lower(), *unit.spellings), name)
    return found


_SPELLINGS = _spellings()


def unit_name(unit: str) -> str:
    """Spell a unit as "micrometer", "nanometer", "millimeter", "inch", "px", ...; keep unknown ones.

    Examples
    --------
    >>> unit_name("µm"), unit_name("microns"), unit_name("pixel"), unit_name("furlong")
    ('micrometer', 'micrometer', 'px', 'furlong')
    """
    return _SPELLINGS.get(unit.strip().lower(), unit.strip())


def length_name(unit: str) -> str | None:
    """Return how NGFF names a unit of length; None for pixels, and for what it does not know.

    Examples
    --------
    >>> length_name("µm"), length_name("Metres"), length_name("px")
    ('micrometer', 'meter', None)
    """
    name = unit_name(unit)
    return name if name in _LENGTHS else None


def symbol(unit: str) -> str | None:
    """Return the short form of a unit in ASCII ("um"), "" for pixels, None for what is not known.

    Examples
    --------
    >>> symbol("micrometer"), symbol("px"), symbol("furlong")
    ('um', '', None)
    """
    name = unit_name(unit)
    return "" if name == "px" else _LENGTHS[name].symbol if name in _LENGTHS else None


def ratio(unit: str, wanted: str) -> Fraction | None:
    """Return what lengths are multiplied by to be in another unit; None if that is not known.

    Examples
    --------
    >>> ratio("mm", "µm"), ratio("inch", "millimeter"), ratio("px", "µm")
    (Fraction(1000, 1), Fraction(127, 5), None)
    """
    here, there = unit_name(unit), unit_name(wanted)
    if here == there:
        return Fraction(1)
    if here not in _LENGTHS or there not in _LENGTHS:
        return None
    return _LENGTHS[here].meters / _LENGTHS[there].meters


def convert(length: float, unit: str, wanted: str) -> float:
    """Return a length in another unit: the exact product, rounded once.

    Raises
    ------
    InvalidInputError
        If one of the units is not known, or only one of them is pixels.

    Examples
    --------
    >>> convert(1.1, "mm", "um"), convert(1, "inch", "mm")
    (1100.0, 25.4)
    """
    factor = ratio(unit, wanted)
    if factor is None:
        raise InvalidInputError(
            f"lengths in {unit!r} cannot be brought into {wanted!r}; give all in one unit, or in units of length: "
            f"{', '.join(_LENGTHS)}, or their usual spellings"
        )
    length = float(length)
    if factor == 1 or not math.isfinite(length):
        return length
    return float(Fraction(repr(length)) * factor)  # as it was written: 1.1 mm are 1100 um
