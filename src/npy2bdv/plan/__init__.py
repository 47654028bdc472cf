"""`plan`: what a recording will be, before it is made: layout, overlaps, bytes, time, and what looks wrong."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.draft import Draft
from npy2bdv.errors import InvalidInputError
from npy2bdv.model.affine import Affine
from npy2bdv.model.box import Box
from npy2bdv.model.outline import Outline
from npy2bdv.model.spimdata import GeneratedBy, ViewId, ViewRegistration
from npy2bdv.plan.layout import Neighbours, Tile, neighbours, suspicions
from npy2bdv.storage import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from npy2bdv.model.pyramid import Pyramid, Zyx
    from npy2bdv.model.spimdata import Triple
    from npy2bdv.setups import Levels

_RATE = re.compile(r"\s*([\d.eE+]+)\s*(frames/s|fps|hz|kB/s|MB/s|GB/s)\s*", re.IGNORECASE)
_MOST_FRAMES = 1e6  # per second; who says more means bytes
_BYTES = {"kb/s": 1e3, "mb/s": 1e6, "gb/s": 1e9}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSetup:
    """One setup of a plan.

    Attributes
    ----------
    id, labels
        Its number, and the labels of channel, tile, angle and illumination.
    shape, dtype, voxel_size_xyz
        Of its stacks.
    stage_position_xyz, is_flipped
        Where the stage will be, in the unit of the plan; None where it is not said. Whether an axis runs against it.
    outline
        Where it lies in the world, in the unit of the plan.
    """

    id: int
    labels: Mapping[str, str]
    shape: Zyx
    dtype: str
    voxel_size_xyz: Triple
    stage_position_xyz: Triple | None
    is_flipped: bool
    outline: Outline

    @property
    def corners_xyz(self) -> tuple[Triple, ...]:
        """Where the corners of the image lie, in the unit of the plan: x fastest, then y, then z."""
        return self.outline.corners_xyz

    @property
    def box(self) -> Box:
        """The box around them."""
        return self.outline.box

    @property
    def nbytes(self) -> int:
        """Bytes of one stack of full resolution."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a recording will be. Lengths are in `unit`, the world as BigStitcher shows it times the smallest voxel.

    Attributes
    ----------
    setups, times, unit
        What is recorded.
    neighbours
        Tiles next to each other, and how far they overlap.
    nbytes, nbytes_by_format
        Bytes of full resolution, and those of all levels in each format, without compression.
    seconds
        How long the camera takes at the given rate; None without one.
    bytes_per_second
        What the disk has to take meanwhile, with all levels in the format that takes most.
    warnings
        What looks wrong.
    """

    setups: tuple[PlannedSetup, ...]
    times: int
    unit: str
    neighbours: tuple[Neighbours, ...]
    nbytes: int
    nbytes_by_format: Mapping[str, int]
    seconds: float | None
    warnings: tuple[str, ...]

    @property
    def bytes_per_second(self) -> float | None:
        """What the disk has to take, with all levels, in the format that takes most; None without a rate."""
        return None if not self.seconds else max(self.nbytes_by_format.values()) / self.seconds

    @property
    def box(self) -> Box:
        """The box around all setups."""
        return Box.around(setup.box for setup in self.setups)

    def __str__(self) -> str:
        """Say in a few lines what the command ``npy2bdv plan`` says of it."""
        size = " x ".join(f"{length:.6g}" for length in self.box.size_xyz)
        lines = [f"{len(self.setups)} setups, {self.times} time points; {size} {self.unit} (x, y, z)"]
        for axis in "xyz":
            overlaps = [pair.percent for pair in self.neighbours if pair.axis == axis]
            if overlaps:
                lines.append(
                    f"{len(overlaps)} overlaps along {axis}: {min(overlaps):.1f} to {max(overlaps):.1f} percent"
                )
        lines.append(f"{self.nbytes / 1e6:,.1f} MB of pixels")
        if self.seconds is not None:
            lines.append(f"takes {self.seconds:,.1f} s at this rate")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            "unit": self.unit,
            "times": self.times,
            "setups": [
                {
                    "id": setup.id,
                    "labels": dict(setup.labels),
                    "shape": list(setup.shape),
                    "dtype": setup.dtype,
                    "voxel_size_xyz": list(setup.voxel_size_xyz),
                    "stage_position_xyz": setup.stage_position_xyz and list(setup.stage_position_xyz),
                    "min_xyz": list(setup.box.min_xyz),
                    "max_xyz": list(setup.box.max_xyz),
                }
                for setup in self.setups
            ],
            "neighbours": [each.to_json() for each in self.neighbours],
            "nbytes": self.nbytes,
            "nbytes_by_format": dict(self.nbytes_by_format),
            "seconds": self.seconds,
            "bytes_per_second": self.bytes_per_second,
            "warnings": list(self.warnings),
        }

    @property
    def outlines(self) -> tuple[Outline, ...]:
        """Where the stacks lie: what `npy2bdv.layout` draws."""
        return tuple(setup.outline for setup in self.setups)


def plan(
    setups: Iterable[Mapping[str, Any]],
    times: int = 1,
    rate: float | str | None = None,
    *,
    levels: Levels = ((1, 1, 1),),
) -> Plan:
    """Lay out a recording before it is made. Nothing is written.

    Parameters
    ----------
    setups
        For each setup the arguments of `DatasetWriter.add_setup`, as a mapping.
    times
        How many time points there will be.
    rate
        How fast the camera is: frames per second as a number, or as text "40 frames/s", "800 MB/s".
    levels
        Of the setups that are given none: factors (z, y, x), or "auto".

    Raises
    ------
    InvalidInputError
        As `add_setup` does; a number says which of the setups it was.

    Examples
    --------
    >>> import npy2bdv
    >>> tile = {"shape": (100, 2048, 2048), "voxel_size_xyz": (0.4, 0.4, 2), "unit": "um"}
    >>> places = npy2bdv.grid(3, 2, shape=tile["shape"], voxel_size_xyz=tile["voxel_size_xyz"])
    >>> plan = npy2bdv.plan([{**tile, "tile": n, "stage_position_xyz": p} for n, p in enumerate(places)], rate=40)
    >>> round(plan.neighbours[0].percent, 6), plan.seconds, plan.warnings
    (10.0, 15.0, ())
    """
    if not hasattr(times, "__index__") or times < 1:
        raise InvalidInputError(f"times={times!r} cannot be; give a whole number of at least 1")
    given = [dict(each) for each in setups]
    if not given:
        raise InvalidInputError("there is no setup to plan; give the arguments of add_setup for each")
    frames_per_second, bytes_per_second = _rate(rate)
    made = GeneratedBy(library_version="plan")
    draft = Draft(FORMATS["hdf5"], levels=levels, chunks=None, generated_by=made)
    ids = []
    for number, arguments in enumerate(given):
        try:
            ids.append(draft.add_setup(**arguments))
        except (InvalidInputError, TypeError) as error:
            raise InvalidInputError(f"setup {number} of the plan: {error}") from error
        if draft.setups[ids[-1]].open_ended:
            raise InvalidInputError(
                f"setup {number} of the plan has no number of planes; give shape=(z, y, x)"
            )
        draft.views[ViewId(0, ids[-1])] = None
    said = draft.describe()
    sizes = [setup.voxel_size for setup in said.setups.values() if setup.voxel_size is not None]
    world_unit = min(min(size.size_xyz) for size in sizes)
    planned: list[PlannedSetup] = []
    for id_ in ids:
        known, placement = draft.setups[id_], draft.setups[id_].placement
        total = ViewRegistration(transforms=draft.transforms(ViewId(0, id_))).total
        labels = said.labels_of(known.value)
        z, y, x = known.pyramid.shape
        planned.append(
            PlannedSetup(
                id=id_,
                labels=labels,
                shape=known.pyramid.shape,
                dtype=known.dtype.name,
                voxel_size_xyz=sizes[len(planned)].size_xyz,
                stage_position_xyz=None if placement is None else placement.stage_position_xyz,
                is_flipped=placement is not None and any(placement.flip_xyz),
                outline=Outline(
                    label=labels.get("tile", str(id_)),
                    attributes=labels,
                    shape_xyz=(x, y, z),
                    transform=Affine.scale([world_unit] * 3) @ total,
                ),
            )
        )
    tiles = [_tile(setup) for setup in planned]
    pairs = neighbours(tiles)
    unit = sizes[0].unit or "px"
    nbytes = times * sum(setup.nbytes for setup in planned)
    frames = times * sum(setup.shape[0] for setup in planned)
    return Plan(
        setups=tuple(planned),
        times=int(times),
        unit=unit,
        neighbours=tuple(pairs),
        nbytes=nbytes,
        nbytes_by_format={
            name: times
            * sum(
                _stored(draft.setups[id_].pyramid, FORMATS[name].default_chunk, name != "n5")
                * draft.setups[id_].dtype.itemsize
                for id_ in ids
            )
            for name in FORMATS
        },
        seconds=frames / frames_per_second
        if frames_per_second
        else nbytes / bytes_per_second
        if bytes_per_second
        else None,
        warnings=tuple(suspicions(tiles, pairs, unit)),
    )


def _tile(setup: PlannedSetup) -> Tile:
    group = tuple(sorted((key, label) for key, label in setup.labels.items() if key != "tile"))
    return Tile(
        setup=setup.id,
        name=setup.labels.get("tile", str(setup.id)),
        group=group,
        box=setup.box,
        voxel_size_xyz=setup.voxel_size_xyz,
        is_flipped=setup.is_flipped,
        is_placed=setup.stage_position_xyz is not None,
    )


def _stored(pyramid: Pyramid, chunk: Zyx, whole_chunks: bool) -> int:
    """Return how many pixels all levels take; HDF5 and Zarr store whole chunks."""
    total = 0
    for level in range(pyramid.n_levels):
        shape = pyramid.level_shape(level)
        # small images get smaller chunks
        sides = (
            (-(-size // min(side, size)) * min(side, size) for size, side in zip(shape, chunk, strict=True))
            if whole_chunks
            else shape
        )
        total += math.prod(sides)
    return total


def _rate(rate: float | str | None) -> tuple[float | None, float | None]:
    """Return frames per second, or bytes per second."""
    if rate is None:
        return None, None
    unit = "fps"
    if isinstance(rate, str):
        found = _RATE.fullmatch(rate)
        text, unit = (found[1], found[2].lower()) if found else (rate, unit)
        try:
            rate = float(text)
        except ValueError:
            rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise InvalidInputError(
            f"rate={rate!r} is not known; give frames per second as a number, or '40 frames/s' or '800 MB/s'"
        )
    if unit not in _BYTES and rate > _MOST_FRAMES:
        raise InvalidInputError(
            f"rate={rate:g} frames/s is faster than any camera; for bytes per second give '{rate / 1e6:g} MB/s'"
        )
    return (None, rate * _BYTES[unit]) if unit in _BYTES else (float(rate), None)
