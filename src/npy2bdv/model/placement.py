"""From what a microscope knows of a stack (stage, camera, sheet, sample) to named transforms. Values only.

Innermost first: "calibration" (from pixels to units of the world), "deskew", "transposition", "flip",
"camera rotation", "centre", "stage position", "sample rotation", "upright". Those that do nothing are left out. The
unit of the world is that of BigStitcher (formats.md 1.9): the smallest voxel size of the dataset.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.affine import Affine, Axis
from npy2bdv.model.spimdata import ViewTransform
from npy2bdv.model.units import convert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from npy2bdv.model.spimdata import Triple, VoxelSize

Anchor = Literal["corner", "centre"]
"""What of an image lies at the stage position."""

CALIBRATION = "calibration"
STAGE_POSITION = "stage position"
POSITIONS = (STAGE_POSITION, "Translation")
"""Names of transforms that move an image to its place; the second is BigStitcher's."""

_SMALLEST_ANGLE = 1.0  # degrees between sheet and scan; with less the planes lie in each other
_STEP_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Deskew:
    """The shear of a stack whose planes are tilted against the direction in which it is scanned (OPM, diSPIM).

    Parameters
    ----------
    angle
        Between the light sheet (which is the plane of the camera's images) and the direction of the scan, in
        degrees: above 0 and below 180. 45 for diSPIM, about 30 for OPM.
    step
        How far the scan moves from plane to plane, along its direction, in the unit of the voxel size. By default what
        follows from the voxel size: z / sin(angle).
    axis
        The axis of the image along which the planes shift: the direction of the scan as the camera sees it.
    direction
        1 where the planes shift to larger ``axis`` as the scan goes on, -1 where they shift to smaller.
    turn
        Turn the stack, so that the direction of the scan becomes ``axis`` of the world, and z stands upright on it.
        Without it z stays the axis of detection.

    Notes
    -----
    Planes lie step * sin(angle) apart; this is the voxel size along z that `add_setup` takes. They shift by
    step * cos(angle) along ``axis``.
    """

    angle: float
    step: float | None = None
    axis: Literal["x", "y"] = "y"
    direction: Literal[1, -1] = 1
    turn: bool = True

    def __post_init__(self) -> None:
        angle = _number(self.angle, "the deskew angle")
        if not _SMALLEST_ANGLE <= angle <= 180 - _SMALLEST_ANGLE:
            raise InvalidInputError(
                f"the deskew angle is {angle:g} degrees; it is that between sheet and scan, from "
                f"{_SMALLEST_ANGLE:g} to {180 - _SMALLEST_ANGLE:g} (90: no deskew is needed)"
            )
        if self.axis not in ("x", "y") or self.direction not in (1, -1):
            raise InvalidInputError(
                f"deskew axis={self.axis!r}, direction={self.direction!r} is not known; give 'x' or 'y', and 1 or -1"
            )
        if self.step is not None and not _number(self.step, "the deskew step") > 0:
            raise InvalidInputError(
                f"the deskew step is {self.step}; give a length above 0 (direction=-1 turns the scan round)"
            )

    @property
    def plane_distance(self) -> float | None:
        """Distance of the planes, which is the voxel size along z; None where no step is given."""
        return None if self.step is None else self.step * math.sin(math.radians(self.angle))

    @property
    def shear(self) -> Affine:
        """The shear alone: from a straight stack to the tilted one, in equal units along all axes."""
        cotangent = math.tan(math.radians(90 - self.angle))
        return Affine.shear(self.axis, by="z", factor=self.direction * cotangent)

    @property
    def affine(self) -> Affine:
        """The shear, and then the turn where it is asked for."""
        if not self.turn:
            return self.shear
        # z towards the axis: about x from y to -z, about y from z to x
        sign = -1 if self.axis == "y" else 1
        angle = self.angle if self.angle <= 90 else self.angle - 180
        return Affine.rotation("x" if self.axis == "y" else "y", sign * self.direction * angle) @ self.shear


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRotation:
    """How far the sample was turned when a stack was taken. The view is turned back by as much.

    Parameters
    ----------
    axis
        The axis about which the sample turns.
    degrees
        The angle; right-handed, see `Affine.rotation`.
    about_xyz
        A point of the axis of rotation, in coordinates of the stage and in its unit. By default the centre of the
        view, as BigStitcher has it when it applies angles.
    """

    axis: Axis
    degrees: float
    about_xyz: Triple | None = None

    def __post_init__(self) -> None:
        Affine.rotation(self.axis, _number(self.degrees, "the sample rotation"))
        if self.about_xyz is not None:
            object.__setattr__(self, "about_xyz", three(self.about_xyz, "about_xyz"))

    @property
    def axis_xyz(self) -> Triple:
        """The axis as a vector, as the XML has it."""
        x, y, z = (float(each == self.axis) for each in "xyz")
        return x, y, z


Turn: TypeAlias = "SampleRotation | tuple[Axis, float]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a stack lies, in the terms of the microscope. See `place`, which makes it from what a user gives.

    Parameters
    ----------
    voxel_size_xyz, unit
        Size of a voxel; `stage_position_xyz` and all other lengths are in the same unit.
    stage_position_xyz
        Where the stage says that the stack is, in that unit.
    stage_position_of
        What lies there. "corner": the centre of the first pixel of the image as it lies after transposition and flip
        (they keep the image within its sides); of a deskewed or turned one that of pixel (0, 0, 0), but see
        `camera_rotation`. "centre": the centre of the stack.
    deskew
        The shear of a stack with tilted planes; in axes of the camera.
    transpose_xy
        The camera's x runs along y of the stage, and its y along x.
    flip_xyz
        Which axes of the image (after transposition) run against those of the stage.
    camera_rotation
        How far the camera is turned against the stage, in degrees about z from x to y: its x axis lies at this angle to
        that of the stage. The image turns about its centre.
    sample_rotation
        How far the sample was turned.
    upright
        Show the images as the camera took them: the world is turned as a whole, so that transposition, flip and camera
        rotation are undone, while tiles keep their places to each other.
    """

    voxel_size_xyz: Triple
    unit: str = "micrometer"
    stage_position_xyz: Triple | None = None
    stage_position_of: Anchor = "corner"
    deskew: Deskew | None = None
    transpose_xy: bool = False
    flip_xyz: tuple[bool, bool, bool] = (False, False, False)
    camera_rotation: float = 0.0
    sample_rotation: SampleRotation | None = None
    upright: bool = False

    def at(self, stage_position_xyz: Triple) -> Placement:
        """Return the same of a stack at another position, as at another time point.

        Parameters
        ----------
        stage_position_xyz
            In the unit of this placement.
        """
        return replace(self, stage_position_xyz=stage_position_xyz)

    def transforms(self, size_xyz: Sequence[int], world_unit: float) -> tuple[ViewTransform, ...]:
        """Return the transforms, outermost first, as the XML lists them.

        Parameters
        ----------
        size_xyz
            Size of the stack, in pixels.
        world_unit
            How large a unit of the world is, in `unit`.
        """
        x, y, z = (size / world_unit for size in self.voxel_size_xyz)
        steps = _Steps(size_xyz, Affine.scale((x, y, z)))
        if self.deskew is not None:
            steps.add("deskew", self.deskew.affine)
        turned = Affine.identity()  # how the axes of the camera lie in those of the stage
        if self.transpose_xy:
            swap = Affine(values=(0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0))
            steps.add("transposition", steps.keeping_low(swap))
            turned = swap @ turned
        if any(self.flip_xyz):
            mirror = Affine.scale([-1 if flip else 1 for flip in self.flip_xyz])
            steps.add("flip", steps.keeping_low(mirror))
            turned = mirror @ turned
        if self.camera_rotation:
            steps.add("camera rotation", Affine.rotation("z", self.camera_rotation, about_xyz=steps.centre()))
            turned = Affine.rotation("z", self.camera_rotation) @ turned
        if self.stage_position_xyz is not None:
            if self.stage_position_of == "centre":
                steps.add("centre", Affine.translation(-value for value in steps.centre()))
            steps.add(
                STAGE_POSITION, Affine.translation(value / world_unit for value in self.stage_position_xyz)
            )
        turn = self.sample_rotation
        if turn is not None and turn.degrees:
            about = steps.centre() if turn.about_xyz is None else [v / world_unit for v in turn.about_xyz]
            steps.add("sample rotation", Affine.rotation(turn.axis, -turn.degrees, about_xyz=about))
        if self.upright and turned != Affine.identity():
            steps.add("upright", turned.inverse())
        return tuple(reversed(steps.transforms))

    @property
    def location_xyz(self) -> Triple | None:
        """What the XML says of the tile: its place along the axes of the world, in the unit of the voxel size."""
        position = self.stage_position_xyz
        if position is None or not self.upright:
            return position
        turned = Affine.scale([-1 if flip else 1 for flip in self.flip_xyz])
        if self.transpose_xy:
            turned = turned @ Affine(values=(0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0))
        if self.camera_rotation:
            turned = Affine.rotation("z", self.camera_rotation) @ turned
        x, y, z = (turned.inverse().apply(position) + 0.0).tolist()
        return x, y, z


class _Steps:
    """Transforms that are added one by one, innermost first, and where the image lies by them."""

    def __init__(self, size_xyz: Sequence[int], calibration: Affine) -> None:
        self.transforms = [ViewTransform(affine=calibration, name=CALIBRATION)]
        self._total = calibration
        self._corners = np.array(list(itertools.product(*((0, size - 1) for size in size_xyz))), float)

    def add(self, name: str, affine: Affine) -> None:
        self.transforms.append(ViewTransform(affine=affine, name=name))
        self._total = affine @ self._total

    def centre(self) -> list[float]:
        middle: list[float] = self._total.apply((self._corners[0] + self._corners[-1]) / 2).tolist()
        return middle

    def keeping_low(self, linear: Affine) -> Affine:
        """Return a transform and then the shift that brings the low corner of the image back to where it was."""
        before = self._total.apply(self._corners).min(axis=0)
        after = (linear @ self._total).apply(self._corners).min(axis=0)
        return Affine.translation(before - after) @ linear


def place(
    *,
    voxel_size_xyz: Triple,
    unit: str,
    stage_position_xyz: Sequence[float] | None = None,
    stage_unit: str | None = None,
    stage_position_of: Anchor = "corner",
    deskew: Deskew | None = None,
    transpose_xy: bool = False,
    flip_xyz: Sequence[bool] | bool = False,
    camera_rotation: float = 0.0,
    sample_rotation: Turn | None = None,
    upright: bool = False,
) -> Placement | None:
    """Return what a user says of the place of a stack; None where nothing is said.

    Raises
    ------
    InvalidInputError
        If a number cannot be, or the step of a deskew contradicts the voxel size.
    """
    if stage_position_of not in ("corner", "centre"):
        raise InvalidInputError(
            f"stage_position_of={stage_position_of!r} is not known; give 'corner' or 'centre'"
        )
    if isinstance(flip_xyz, bool):
        if flip_xyz:
            raise InvalidInputError("flip_xyz=True does not say which axes; give three (x, y, z)")
        flip_xyz = (False, False, False)
    flips = tuple(flip_xyz)
    if len(flips) != 3 or not all(flip in (0, 1) for flip in flips):
        raise InvalidInputError(f"flip_xyz takes three of True and False (x, y, z); found {flip_xyz!r}")
    if deskew is not None and not isinstance(deskew, Deskew):
        raise InvalidInputError(f"deskew={deskew!r} is none; give npy2bdv.Deskew(angle=..., step=...)")
    turn = _turn(sample_rotation)
    to_unit: Callable[[float], float] = lambda value: convert(value, stage_unit or unit, unit)  # noqa: E731
    if turn is not None and turn.about_xyz is not None:
        x, y, z = map(to_unit, turn.about_xyz)
        turn = replace(turn, about_xyz=(x, y, z))
    position = None
    if stage_position_xyz is not None:
        x, y, z = map(to_unit, three(stage_position_xyz, "stage_position_xyz"))
        position = x, y, z
    if deskew is not None:
        _check_step(deskew, voxel_size_xyz[2], unit)
    placement = Placement(
        voxel_size_xyz=voxel_size_xyz,
        unit=unit,
        stage_position_xyz=position,
        stage_position_of=stage_position_of,
        deskew=deskew,
        transpose_xy=bool(transpose_xy),
        flip_xyz=(bool(flips[0]), bool(flips[1]), bool(flips[2])),
        camera_rotation=_number(camera_rotation, "camera_rotation"),
        sample_rotation=turn,
        upright=bool(upright),
    )
    nothing = Placement(
        voxel_size_xyz=voxel_size_xyz, unit=unit, stage_position_of=stage_position_of, upright=bool(upright)
    )
    return None if placement == nothing else placement


def three(values: Any, what: str) -> Triple:
    """Return three finite numbers (x, y, z) that a user gave.

    Raises
    ------
    InvalidInputError
        If it is something else.
    """
    try:
        found = tuple(map(float, values))
    except (TypeError, ValueError):
        found = ()
    if len(found) != 3 or not all(map(math.isfinite, found)):
        raise InvalidInputError(f"{what} takes three finite numbers (x, y, z); found {values!r}")
    return found[0], found[1], found[2]


def moved_to(transforms: Sequence[ViewTransform], position_xyz: Triple) -> tuple[ViewTransform, ...] | None:
    """Return transforms with another position, in units of the world; None where none of them is one."""
    if not any(each.name in POSITIONS for each in transforms):
        return None
    return tuple(
        replace(each, affine=Affine.translation(position_xyz)) if each.name in POSITIONS else each
        for each in transforms
    )


def to_stage(transforms: Sequence[ViewTransform]) -> tuple[Affine, Affine] | None:
    """Return what moves an image to its place on the stage, and all from pixels to there, in units of the world.

    None where no transform has the name of a position, or one up to it is not an affine.
    """
    total = Affine.identity()
    for each in reversed(transforms):
        if each.affine is None:
            return None
        total = each.affine @ total
        if each.name in POSITIONS:
            return each.affine, total
    return None


def world_unit(
    transforms: Sequence[ViewTransform], voxel_size: VoxelSize | None, others: Iterable[VoxelSize | None]
) -> float:
    """Return how large a unit of the world is, in the unit of voxel sizes: what the calibration of a view says.

    `others` are the voxel sizes of all setups. The smallest of them is taken where it is what the calibration says, but
    for rounding, or where there is no calibration that fits to the voxel size (formats.md 1.9).
    """
    smallest = min((min(size.size_xyz) for size in others if size is not None), default=1.0)
    calibrations = [each.affine for each in transforms if (each.name or "").lower() == CALIBRATION]
    if voxel_size is None or not calibrations or calibrations[-1] is None:
        return smallest
    scale = np.diag(calibrations[-1].linear)
    if not (scale > 0).all():
        return smallest
    units = np.array(voxel_size.size_xyz) / scale
    if not np.allclose(units, units[0], rtol=1e-6) or np.allclose(units, smallest, rtol=1e-12, atol=0):
        return smallest
    return float(units[int(np.argmin(voxel_size.size_xyz))])


def length_of(in_world: float, world_unit: float) -> float:
    """Return the length that was divided by the unit of the world: of those that can be, the one spelt shortest.

    Examples
    --------
    >>> length_of(1234.567 / 0.406, 0.406)
    1234.567
    """
    found = in_world * world_unit
    candidates, low, high = [found], found, found
    for _ in range(3):
        low, high = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
        candidates += [low, high]
    fitting = [each for each in candidates if each / world_unit == in_world] or [found]
    return min(fitting, key=lambda each: (len(repr(each)), abs(each - found)))


def _turn(given: Any) -> SampleRotation | None:
    if given is None or isinstance(given, SampleRotation):
        return given
    try:
        axis, degrees = given
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"sample_rotation={given!r} is none; give an axis and degrees, ('y', 90), or npy2bdv.SampleRotation(...)"
        ) from None
    return SampleRotation(axis=axis, degrees=degrees)


def _check_step(deskew: Deskew, distance: float, unit: str) -> None:
    """Refuse a step that would give other distances between planes than the voxel size does."""
    wanted = deskew.plane_distance
    if wanted is not None and abs(wanted - distance) > _STEP_TOLERANCE * wanted:
        raise InvalidInputError(
            f"with a step of {deskew.step:g} {unit} at {deskew.angle:g} degrees the planes lie {wanted:.6g} {unit} "
            f"apart, but the voxel size along z is {distance:g}; give step * sin(angle) = {wanted:.6g} as voxel size, "
            "or leave the step out"
        )


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInputError(f"{what} takes a finite number; found {value!r}")
    return number
