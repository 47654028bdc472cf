"""What is said of one setup, and whether it can be: sizes, pixel type, transforms as users give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from npy2bdv.errors import InvalidInputError, InvalidTypeError
from npy2bdv.model.affine import Affine, usable
from npy2bdv.model.pyramid import Pyramid, propose
from npy2bdv.model.spimdata import ViewSetup, ViewTransform, VoxelSize

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    Levels: TypeAlias = Literal["auto"] | Sequence[Sequence[int]]
    Chunks: TypeAlias = Sequence[int] | Sequence[Sequence[int]]
    Transforms: TypeAlias = ArrayLike | Affine | Sequence[ViewTransform]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftSetup:
    """What was said of a setup when it was added. `transforms` serve all time points without their own."""

    value: ViewSetup
    pyramid: Pyramid
    dtype: np.dtype[Any]
    transforms: tuple[ViewTransform, ...]
    calibration: Affine | Literal["bigstitcher"] | None
    open_ended: bool = False
    """The number of planes is not known before the first view has been recorded."""
    length_was_open: bool = False

    @property
    def shape(self) -> tuple[int | None, int, int]:
        """Size of a stack (z, y, x), as far as it is known."""
        return (None if self.open_ended else self.pyramid.shape[0], *self.pyramid.shape[1:])

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
