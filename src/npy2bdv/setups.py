"""What is said of one setup, and whether it can be: sizes, pixel type, transforms as users give them."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from npy2bdv.errors import InvalidInputError, InvalidTypeError
from npy2bdv.model.affine import Affine, usable
from npy2bdv.model.placement import Placement, moved_to, place, three
from npy2bdv.model.pyramid import Pyramid, propose
from npy2bdv.model.spimdata import Angle, Tile, ViewSetup, ViewTransform, VoxelSize
from npy2bdv.model.units import convert, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, DTypeLike

    Levels: TypeAlias = Literal["auto"] | Sequence[Sequence[int]]
    Chunks: TypeAlias = Sequence[int] | Sequence[Sequence[int]]
    Transforms: TypeAlias = ArrayLike | Affine | Sequence[ViewTransform]

Place: TypeAlias = "tuple[ViewTransform, ...] | Placement"
"""What places a view: transforms that were given, or what they follow from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftSetup:
    """What was said of a setup when it was added. `transforms` serve all time points without their own."""

    value: ViewSetup
    pyramid: Pyramid
    dtype: np.dtype[Any]
    transforms: tuple[ViewTransform, ...]
    calibration: Affine | Literal["bigstitcher"] | None
    placement: Placement | None = None
    """What transforms follow from, calibration included, in place of both."""
    open_ended: bool = False
    """The number of planes is not known before the first view has been recorded."""
    length_was_open: bool = False

    @property
    def place(self) -> Place:
        """What places the views that have nothing of their own."""
        return self.transforms if self.placement is None else self.placement

    @property
    def shape(self) -> tuple[int | None, int, int]:
        """Size of a stack (z, y, x), as far as it is known."""
        return (None if self.open_ended else self.pyramid.shape[0], *self.pyramid.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels of a view, of all levels; while its length is not known, of its first planes."""
        pyramid = self.pyramid
        shapes = [pyramid.level_shape(level) for level in range(pyramid.n_levels)]
        if self.open_ended:
            shapes = [(chunk[0], *shape[1:]) for chunk, shape in zip(pyramid.chunks, shapes, strict=True)]
        return sum(map(math.prod, shapes)) * self.dtype.itemsize

    def with_length(self, planes: int) -> DraftSetup:
        """Return the setup with the number of planes that its first view turned out to have."""
        pyramid = replace(self.pyramid, shape=(planes, *self.pyramid.shape[1:]))
        value = replace(self.value, size_xyz=pyramid.shape[::-1])
        return replace(self, value=value, pyramid=pyramid, open_ended=False, length_was_open=True)


def pyramid_of(shape: Sequence[int], voxel_size: VoxelSize | None, levels: Levels, chunks: Chunks) -> Pyramid:
    """Return the pyramid of an image (z, y, x) with given factors, or "auto": those that BDV proposes."""
    if isinstance(levels, str):
        if levels != "auto":
            raise InvalidInputError(f"levels={levels!r} is not known; give factors (z, y, x) or 'auto'")
        levels = propose(_shape(shape), (1, 1, 1) if voxel_size is None else voxel_size.size_xyz)[0]
    factors, rows = _rows(levels), _rows(chunks)
    if len(set(factors)) != len(factors):
        raise InvalidInputError(f"two levels have the same factors: {factors}")
    # as ever in this package: too few blocks mean the first for all, further ones are not used
    rows = rows[: len(factors)] if len(rows) >= len(factors) else rows[:1]
    return Pyramid(shape=_shape(shape), factors=factors, chunks=rows)


def innermost(calibration: ArrayLike | Affine | str | None) -> Affine | Literal["bigstitcher"] | None:
    """Return a calibration that a user gave."""
    if calibration is None:
        return None
    if isinstance(calibration, str):
        if calibration != "bigstitcher":
            raise InvalidInputError(
                f"calibration={calibration!r} is not known; give a matrix, 'bigstitcher' or None"
            )
        return "bigstitcher"
    return usable(calibration)


def pixel_type(dtype: DTypeLike) -> np.dtype[Any]:
    """Return a pixel type that a user gave, in the machine's byte order."""
    try:
        return np.dtype(dtype).newbyteorder("=")
    except TypeError as error:
        raise InvalidTypeError(
            f"dtype={dtype!r} is no pixel type ({error}); give one like 'uint16'"
        ) from None


def voxel_size_of(size_xyz: Sequence[float], unit: str) -> VoxelSize:
    """Return a voxel size (x, y, z) that a user gave."""
    sizes = tuple(float(size) for size in size_xyz)
    if len(sizes) != 3 or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise InvalidInputError(f"a voxel has three finite sizes above 0 (x, y, z); found {tuple(size_xyz)}")
    return VoxelSize(size_xyz=(sizes[0], sizes[1], sizes[2]), unit=str(unit))


def _shape(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise InvalidInputError(f"a stack has three sizes (z, y, x); found the shape {tuple(shape)}")
    z, y, x = shape
    return z, y, x


def _rows(values: Any) -> tuple[Any, ...]:
    """Return one triple, or several, as a tuple of triples; what is in them is judged by `Pyramid`."""
    rows = tuple(tuple(row) if np.ndim(row) else row for row in values)
    return rows if rows and isinstance(rows[0], tuple) else (rows,)


def view_transforms(given: Transforms) -> tuple[ViewTransform, ...]:
    """Return transforms that a user gave: one matrix, or named ones, outermost first.

    Raises
    ------
    InvalidInputError
        If a matrix is not 3x4 (or 4x4 with the last row 0 0 0 1), holds NaN, or is singular.
    """
    if isinstance(given, Sequence):
        named = [each for each in given if isinstance(each, ViewTransform)]
        if len(named) == len(given):
            for each in named:
                if each.affine is not None:
                    usable(each.affine)
            return tuple(named)
    return (ViewTransform(affine=usable(given), name="manually defined"),)  # type: ignore[arg-type]


def whole_number(value: object, what: str) -> int:
    """Return an id that a user gave; `what` names it where it is none."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidTypeError(
            f"{what} must be a whole number, or a label as text; found {value!r}"
        ) from None


def with_size(there: ViewSetup, value: ViewSetup) -> ViewSetup:
    """Return a setup that an XML has and of which no image is stored, with the size that its images get."""
    if there.size_xyz not in (None, value.size_xyz):
        raise InvalidInputError(
            f"setup {there.id} of the dataset has the same attributes, and the size (x, y, z) {there.size_xyz}, not "
            f"{value.size_xyz}; give what it has, or another channel, tile, angle or illumination for a new setup"
        )
    return replace(there, size_xyz=value.size_xyz)


def pairs(attributes: Mapping[str, object]) -> str:
    """Write attributes as in a call."""
    return ", ".join(f"{name}={label!r}" for name, label in attributes.items())


def times_of(used: set[int], first: int = 0) -> tuple[int, ...]:
    """Return the time points of a dataset: gaps are time points with missing views, unless they are absurd."""
    last = max(used, default=-1)
    first = min(first, *used) if used else 0
    return tuple(range(first, last + 1)) if last - first < 1000 + 10 * len(used) else tuple(sorted(used))


def in_unit_of(voxel_size: VoxelSize, others: Iterable[VoxelSize | None]) -> VoxelSize:
    """Return a voxel size in the unit that the others have: there is one unit of the world.

    Raises
    ------
    InvalidInputError
        If it cannot be brought into it.
    """
    unit = voxel_size.unit or "px"
    there = next((other.unit for other in others if other is not None and other.unit is not None), unit)
    factor = ratio(unit, there)
    if factor is None:
        raise InvalidInputError(
            f"the voxel size is in {unit!r}, other setups of the dataset have theirs in {there!r}; give all in one "
            "unit, or in units that can be converted (um, nm, mm, inch ...)"
        )
    if factor == 1:
        return voxel_size
    x, y, z = (convert(size, unit, there) for size in voxel_size.size_xyz)
    return VoxelSize(size_xyz=(x, y, z), unit=there)


def placed(
    voxel_size: VoxelSize,
    unit: str,
    given: Mapping[str, Any],
    *,
    transform: object,
    calibration: object,
) -> Placement | None:
    """Return what is said of the place of a setup, in the unit of its voxel size; `unit` is that of the call.

    Raises
    ------
    InvalidInputError
        If it cannot be, or contradicts the transforms that are given beside it.
    """
    terms = {**given, "stage_unit": given.get("stage_unit") or unit}
    placement = place(voxel_size_xyz=voxel_size.size_xyz, unit=voxel_size.unit or "px", **terms)
    if placement is None:
        return None
    if transform is not None:
        raise InvalidInputError(
            "a setup is placed by transform= or by what the microscope knows (stage_position_xyz=, flip_xyz= ...), not "
            "by both: which goes first? Leave one out; npy2bdv.edit(...).insert_transform adds one later"
        )
    if not isinstance(calibration, str):
        raise InvalidInputError(
            "calibration= and what the microscope knows (stage_position_xyz=, flip_xyz= ...) contradict each other: "
            "the calibration follows from the voxel size; leave it out"
        )
    return placement


def placed_at(
    known: DraftSetup, position_xyz: Sequence[float], stage_unit: str | None, smallest: float
) -> Place:
    """Return what places a view of a setup whose stage position is its own.

    Raises
    ------
    InvalidInputError
        If the setup is placed by transforms among which none is a position.
    """
    size = known.value.voxel_size
    unit = (None if size is None else size.unit) or "px"
    x, y, z = (
        convert(value, stage_unit or unit, unit) for value in three(position_xyz, "stage_position_xyz")
    )
    if known.placement is not None:
        return known.placement.at((x, y, z))
    if known.transforms:  # of an earlier session, or given as they are
        moved = moved_to(known.transforms, (x / smallest, y / smallest, z / smallest))
        if moved is None or known.calibration is None:
            raise InvalidInputError(
                f"setup {known.value.id} is placed by the transforms that it was given; give this view its own by "
                "transform=, or give the setup a stage_position_xyz in place of transform="
            )
        return moved
    if known.calibration is None:
        raise InvalidInputError(
            f"setup {known.value.id} has no calibration, so that a stage position has no unit; leave calibration= out"
        )
    assert size is not None
    return Placement(voxel_size_xyz=size.size_xyz, unit=unit, stage_position_xyz=(x, y, z))


def located(tile: Tile, placement: Placement, *, is_new: bool) -> Tile:
    """Return a tile with its place. Setups that put it to several leave it without: none of them would be right."""
    location = placement.location_xyz
    if is_new:
        return replace(tile, location_xyz=location)
    return tile if location in (None, tile.location_xyz) else replace(tile, location_xyz=None)


def turned(angle: Angle, placement: Placement) -> Angle:
    """Return an angle with the rotation of the sample.

    Raises
    ------
    InvalidInputError
        If it has another one.
    """
    rotation = placement.sample_rotation
    if rotation is None:
        return angle
    wanted = rotation.axis_xyz, float(rotation.degrees)
    if angle.degrees is not None and (angle.axis_xyz, angle.degrees) != wanted:
        raise InvalidInputError(
            f"angle {angle.name or angle.id!r} has {angle.degrees:g} degrees about {angle.axis_xyz}, and now "
            f"sample_rotation=({rotation.axis!r}, {rotation.degrees:g}); give each rotation an angle= of its own"
        )
    return replace(angle, axis_xyz=wanted[0], degrees=wanted[1])
