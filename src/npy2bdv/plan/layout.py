"""Which tiles are next to each other, how far they overlap, and what looks wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.model.box import Box

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from npy2bdv.model.spimdata import Triple

_ALIGNED = 0.5  # tiles of one row cover each other by this part along the other axes, at least
_LITTLE = 1.0  # percent
_MUCH = 50.0
_NAMED = 3  # examples in a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A stack in the world; `group` is what it has in common with tiles that it is compared to."""

    setup: int
    name: str
    group: tuple[tuple[str, str], ...]
    box: Box
    voxel_size_xyz: Triple
    is_placed: bool
    is_flipped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Two tiles next to each other along an axis of the world.

    Attributes
    ----------
    first, second
        Setups; the second lies behind the first.
    axis
        "x", "y" or "z".
    length, pixels, percent
        How far they overlap along it: in the unit of the plan, in pixels, and of the size of the smaller one. Below 0
        where there is a gap.
    """

    first: int
    second: int
    axis: str
    length: float
    pixels: float
    percent: float

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "axis": self.axis,
            "length": self.length,
            "pixels": self.pixels,
            "percent": self.percent,
        }


def neighbours(tiles: Sequence[Tile]) -> list[Neighbours]:
    """Return for each tile the next one along each axis, of those that lie in one row with it."""
    found = []
    for group in dict.fromkeys(tile.group for tile in tiles):
        members = [tile for tile in tiles if tile.group == group]
        low = np.array([tile.box.min_xyz for tile in members])
        high = np.array([tile.box.max_xyz for tile in members])
        size = high - low
        for k, tile in enumerate(members):
            smaller = np.minimum(size, size[k])
            shared = np.minimum(high, high[k]) - np.maximum(low, low[k])
            ahead = (low + high - low[k] - high[k]) / 2
            in_row = shared >= _ALIGNED * smaller
            for axis in range(3):
                others = [other for other in range(3) if other != axis]
                candidates = in_row[:, others].all(axis=1) & (ahead[:, axis] > 1e-9 * size[k, axis])
                # what is nearer along another axis is a neighbour along that one
                candidates &= np.abs(ahead[:, axis]) / smaller[:, axis] >= (np.abs(ahead) / smaller).max(
                    axis=1
                )
                if not candidates.any():
                    continue
                places = np.where(candidates, ahead[:, axis], np.inf)
                nearest = int(np.argmin(places))
                length = float(shared[nearest, axis])
                found.append(
                    Neighbours(
                        first=tile.setup,
                        second=members[nearest].setup,
                        axis="xyz"[axis],
                        length=length,
                        pixels=length / tile.voxel_size_xyz[axis],
                        percent=100 * length / float(smaller[nearest, axis]),
                    )
                )
    return found


def suspicions(tiles: Sequence[Tile], pairs: Sequence[Neighbours], unit: str) -> Iterator[str]:
    """Say what looks wrong."""
    names = {tile.setup: tile.name for tile in tiles}
    yield from _same_place(tiles)
    far_off = yield from _wrong_unit(tiles, pairs, unit)
    gaps = [pair for pair in pairs if pair.percent < 0]
    if not far_off:
        if gaps and _fits_swapped(tiles):
            yield (
                "x and y of the positions look swapped: as they are there are gaps between tiles, with x and y "
                "exchanged they overlap evenly"
            )
        yield from _listed("there is a gap", gaps, names)
        little = [pair for pair in pairs if 0 <= pair.percent < _LITTLE]
        yield from _listed(
            f"tiles overlap by less than {_LITTLE:g} percent, too little to stitch", little, names
        )
        much = [pair for pair in pairs if pair.percent > _MUCH]
        yield from _listed(f"tiles overlap by more than {_MUCH:g} percent", much, names)
        beside = {setup for pair in pairs for setup in (pair.first, pair.second)}
        alone = [t for t in tiles if t.setup not in beside and sum(o.group == t.group for o in tiles) > 1]
        if alone and not all(t.box == alone[0].box for t in tiles):
            named = ", ".join(repr(tile.name) for tile in alone[:_NAMED])
            yield f"{len(alone)} tiles have no neighbour in a row with them: {named}"
    yield from _runs_back(tiles)


def _same_place(tiles: Sequence[Tile]) -> Iterator[str]:
    seen: dict[tuple[object, Box], Tile] = {}
    twice = []
    for tile in tiles:
        other = seen.setdefault((tile.group, tile.box), tile)
        if other is not tile:
            twice.append((other.name, tile.name))
    if twice:
        named = ", ".join(f"{a!r} and {b!r}" for a, b in twice[:_NAMED])
        unplaced = "" if all(tile.is_placed for tile in tiles) else "; some have no stage position"
        yield f"{len(twice)} tiles lie exactly on another one: {named}{unplaced}"


def _wrong_unit(tiles: Sequence[Tile], pairs: Sequence[Neighbours], unit: str) -> Any:
    """Say whether positions look as if they were in another unit than sizes; return whether they do."""
    centres = np.array([np.add(tile.box.min_xyz, tile.box.max_xyz) / 2 for tile in tiles])
    size = np.array([tile.box.size_xyz for tile in tiles]).min(axis=0)
    spread = float(((centres.max(axis=0) - centres.min(axis=0)) / size).max())
    if len({tile.box for tile in tiles}) > 1 and 0 < spread < 0.02:
        yield (
            f"all tiles lie on top of each other, within {100 * spread:.2g} percent of their size: are the "
            f"positions in millimeters, and the sizes in {unit!r}? Say so by stage_unit='mm'"
        )
        return True
    gaps = [pair.percent for pair in pairs]
    if gaps and max(gaps) < -2000:
        yield (
            f"all tiles are more than 20 times their size away from each other: are the positions in a smaller "
            f"unit than {unit!r}, such as nanometers, or in pixels? Say so by stage_unit="
        )
        return True
    return False


def _fits_swapped(tiles: Sequence[Tile]) -> bool:
    """Tell whether tiles overlap evenly when x and y of their positions are exchanged."""
    swapped = []
    for tile in tiles:
        x, y, z = tile.box.min_xyz
        width, height, depth = tile.box.size_xyz
        swapped.append(replace(tile, box=Box((y, x, z), (y + width, x + height, z + depth))))
    pairs = neighbours(swapped)
    return bool(pairs) and all(0 <= pair.percent <= _MUCH for pair in pairs)


def _listed(what: str, pairs: Sequence[Neighbours], names: dict[int, str]) -> Iterator[str]:
    if pairs:
        named = ", ".join(
            f"{names[pair.first]!r} and {names[pair.second]!r} ({pair.pixels:.0f} pixels along {pair.axis})"
            for pair in pairs[:_NAMED]
        )
        more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
        yield f"{what}: {named}{more}"


def _runs_back(tiles: Sequence[Tile]) -> Iterator[str]:
    """Ask about axes along which the first tile is the last one, as where stage and camera run against each other."""
    members = [tile for tile in tiles if tile.group == tiles[0].group and not tile.is_flipped]
    if not members:
        return
    low = np.array([tile.box.min_xyz for tile in members])
    for axis in range(2):
        spread = low[:, axis].max() - low[:, axis].min()
        if spread > 0.1 * members[0].box.size_xyz[axis] and low[0, axis] == low[:, axis].max():
            yield (
                f"the first tile lies at the high end of {'xyz'[axis]}: if the images would fit the other way round, "
                f"the camera's axis runs against the stage's: flip_xyz="
            )
