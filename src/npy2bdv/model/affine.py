"""Affine transforms: where a pixel lies in the world."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import index
from typing import TYPE_CHECKING, Literal, Protocol, Self, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from npy2bdv.model.decomposition import Decomposition

Axis = Literal["x", "y", "z"]

# Below this ratio of the smallest to the largest singular value (rows and columns scaled to 1 first) an
# inverse keeps fewer than four digits: of no use for placing pixels.
_SINGULAR = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """A 3x4 affine transform, acting on column vectors (x, y, z, 1).

    Integer coordinates are pixel centres. ``np.asarray(affine)`` is the 3x4 matrix. ``a @ b`` applies ``b``
    first, then ``a``. The constructor judges no value, since a file may hold any; `from_array` does.

    Parameters
    ----------
    values
        The 12 numbers, row by row, as BDV's XML lists them: m00 m01 m02 tx, m10 m11 m12 ty, m20 m21 m22 tz.

    Examples
    --------
    >>> calibration = Affine.scale((1, 1, 2.5))
    >>> stage = Affine.translation((100, 0, 0))
    >>> (stage @ calibration).apply((1, 2, 4))
    array([101.,   2.,  10.])
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(map(float, self.values))
        if len(values) != 12:
            raise InvalidInputError(f"an affine has 12 numbers, row by row; found {len(values)}")
        object.__setattr__(self, "values", values)

    @classmethod
    def from_array(cls, array: "AffineLike") -> Self:
        """Take a matrix that a person or a program has made, and refuse what cannot be an affine.

        Parameters
        ----------
        array
            3x4, or 4x4 with the last row 0 0 0 1, or an `Affine`, or what gives a 3x3 or 4x4 matrix by
            ``as_matrix()``, as a single rotation of ``scipy.spatial.transform`` does.

        Raises
        ------
        InvalidInputError
            If the shape or the last row is another, or a value is NaN, infinite or not a real number.
        """
        wanted = "give 3x4 numbers, or 4x4 with the last row 0 0 0 1"
        if hasattr(array, "as_matrix"):
            array = np.asarray(array.as_matrix())
            if array.shape == (3, 3):
                array = np.column_stack((array, np.zeros(3)))
        try:
            matrix = np.asarray(array)
        except ValueError:
            raise InvalidInputError(f"the affine is ragged: its rows differ in length; {wanted}") from None
        if matrix.shape not in ((3, 4), (4, 4)):
            raise InvalidInputError(f"the affine has the shape {matrix.shape}; {wanted}")
        if matrix.dtype.kind not in "iuf":
            raise InvalidInputError(f"the affine holds {matrix.dtype}, not real numbers; {wanted}")
        if not np.isfinite(matrix).all():
            row, column = np.argwhere(~np.isfinite(matrix))[0]
            found = matrix[row, column]
            raise InvalidInputError(
                f"the affine holds {found} in row {row}, column {column}; give finite numbers"
            )
        if len(matrix) == 4 and matrix[3].tolist() != [0, 0, 0, 1]:
            raise InvalidInputError(
                f"the last row of the 4x4 affine is {matrix[3].tolist()}; it must be 0 0 0 1"
            )
        return cls(values=tuple(matrix[:3].ravel().tolist()))

    @classmethod
    def identity(cls) -> Self:
        """Return the transform that moves nothing."""
        return cls._from_diagonal((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))

    @classmethod
    def translation(cls, offset_xyz: Iterable[SupportsFloat]) -> Self:
        """Move by an offset.

        Parameters
        ----------
        offset_xyz
            How far, in the unit of what is moved: pixels, or a length.

        Raises
        ------
        InvalidInputError
            If there are not three finite numbers.
        """
        return cls._from_diagonal((1.0, 1.0, 1.0), _three(offset_xyz, "offset"))

    @classmethod
    def scale(cls, factors_xyz: Iterable[SupportsFloat]) -> Self:
        """Multiply each axis, about pixel (0, 0, 0); this is what BDV calls calibration.

        Parameters
        ----------
        factors_xyz
            Three factors, of which none is 0; a negative one mirrors.

        Raises
        ------
        InvalidInputError
            If there are not three finite numbers, or one is 0.
        """
        factors = _three(factors_xyz, "scale")
        if 0.0 in factors:
            raise InvalidInputError(
                f"a scale of 0 flattens the image: found {factors}; give factors other than 0"
            )
        return cls._from_diagonal(factors, (0.0, 0.0, 0.0))

    @classmethod
    def crop(cls, start_xyz: Iterable[SupportsFloat]) -> Self:
        """Map pixels of a cropped image to pixels of the whole one.

        Parameters
        ----------
        start_xyz
            The first pixel kept, in pixels of the whole image; negative where its low side was padded.

        Raises
        ------
        InvalidInputError
            If there are not three finite numbers.
        """
        return cls._from_diagonal((1.0, 1.0, 1.0), _three(start_xyz, "first kept pixel"))

    @classmethod
    def binning(cls, factors_xyz: Iterable[SupportsIndex]) -> Self:
        """Map pixels of an image averaged over blocks to pixels of the original.

        The centre of a block of f pixels lies (f - 1) / 2 behind the centre of its first pixel. BDV places
        the levels of its pyramids in this way (``MipmapTransforms`` of bigdataviewer-core).

        Parameters
        ----------
        factors_xyz
            Block lengths, in pixels, each at least 1.

        Raises
        ------
        InvalidInputError
            If there are not three whole numbers of at least 1.
        """
        factors = _three_counts(factors_xyz, "binning")
        return cls._from_diagonal(tuple(map(float, factors)), tuple((f - 1) / 2 for f in factors))

    @classmethod
    def flip(cls, axis: Axis, size: SupportsIndex) -> Self:
        """Reverse one axis of an image.

        Parameters
        ----------
        axis
            The axis that is reversed.
        size
            Length of the image along it, in pixels: pixel 0 and pixel ``size - 1`` change places.

        Raises
        ------
        InvalidInputError
            If the size is below 1, or there is no such axis.
        """
        if index(size) < 1:
            raise InvalidInputError(
                f"an image of {size} pixels cannot be flipped; give its size along {axis}"
            )
        diagonal, offset = [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
        diagonal[_number(axis)] = -1.0
        offset[_number(axis)] = float(index(size) - 1)
        return cls._from_diagonal(diagonal, offset)

    @classmethod
    def rotation(cls, axis: Axis, degrees: float, *, about_xyz: Iterable[SupportsFloat] = (0, 0, 0)) -> Self:
        """Turn about a line that is parallel to an axis.

        Right-handed: seen from the tip of the axis, positive degrees turn counter-clockwise (z turns x to y,
        x turns y to z, y turns z to x). BDV shows y downwards and looks along z, from its tail: on the screen
        a positive turn about z is clockwise. Whole quarter turns are exact.

        Parameters
        ----------
        axis
            The axis about which to turn.
        degrees
            The angle.
        about_xyz
            A point that stays where it is, in pixels or whatever is turned. `centre_xyz` gives that of a volume.

        Raises
        ------
        InvalidInputError
            If the angle or the point is not finite, or there is no such axis.

        Examples
        --------
        >>> turn = Affine.rotation("z", 90, about_xyz=centre_xyz((101, 201, 50)))
        >>> turn.apply((100, 100, 0))
        array([ 50., 150.,   0.])

        Pixels of unequal sides are scaled first, and the centre with them:

        >>> calibration = Affine.scale((0.5, 0.5, 2))
        >>> centre = calibration.apply(centre_xyz((101, 201, 50)))
        >>> turned = Affine.rotation("y", 45, about_xyz=centre) @ calibration
        """
        try:
            finite = math.isfinite(degrees)
        except TypeError:
            finite = False
        if not finite:
            raise InvalidInputError(f"cannot turn by {degrees!r} degrees; give a finite angle")
        within = math.remainder(degrees, 360.0)
        quarters = round(within / 90.0)
        rest = math.radians(within - 90.0 * quarters)
        cos, sin = math.cos(rest), math.sin(rest)
        for _ in range(quarters % 4):
            cos, sin = -sin, cos
        k = _number(axis)
        i, j = (k + 1) % 3, (k + 2) % 3
        linear = np.eye(3)
        linear[[i, j], [i, j]] = cos
        linear[i, j], linear[j, i] = -sin, sin
        about = np.array(_three(about_xyz, "point to turn about"))
        return cls._from_parts(linear, about - linear @ about)

    @classmethod
    def shear(cls, axis: Axis, *, by: Axis, factor: SupportsFloat) -> Self:
        """Move one axis in proportion to another: ``axis += factor * by``.

        Parameters
        ----------
        axis
            The axis that is moved.
        by
            The axis on which the move depends.
        factor
            How far, in units of ``axis`` per unit of ``by``.

        Raises
        ------
        InvalidInputError
            If both axes are the same or unknown, or the factor is not finite.

        Examples
        --------
        >>> Affine.shear("x", by="z", factor=0.5).apply((10, 20, 4))
        array([12., 20.,  4.])
        """
        if axis == by:
            raise InvalidInputError(
                f"a shear needs two axes, found {axis!r} twice; use Affine.scale to stretch one"
            )
        if not math.isfinite(float(factor)):
            raise InvalidInputError(f"cannot shear by {factor}; give a finite factor")
        linear = np.eye(3)
        linear[_number(axis), _number(by)] = float(factor)
        return cls._from_parts(linear, np.zeros(3))

    @property
    def linear(self) -> NDArray[np.float64]:
        """The 3x3 part that turns, scales and shears; a fresh array."""
        return np.asarray(self)[:, :3]

    @property
    def translation_xyz(self) -> tuple[float, float, float]:
        """Where pixel (0, 0, 0) goes."""
        return self.values[3], self.values[7], self.values[11]

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        return all(map(math.isfinite, self.values))

    @property
    def is_singular(self) -> bool:
        """Whether there is no usable way back from world to pixels.

        Rows and columns are scaled to a largest value of about 1 first, so that neither unit nor anisotropy
        matters: a voxel of 4e-7 m is not singular. Singular is what then has singular values in a ratio below
        1e-12, a row or column of zeros, or a linear part that is not finite.
        """
        linear = self.linear
        if not np.isfinite(linear).all():
            return True
        return max(_condition(linear, 0), _condition(linear, 1)) < _SINGULAR

    def inverse(self) -> Self:
        """Return the way back.

        Raises
        ------
        InvalidInputError
            If the transform is singular (see `is_singular`) or a value is not finite.
        """
        if not self.is_finite or self.is_singular:
            raise InvalidInputError(
                f"the affine {self.values} has no inverse: it flattens the image or is not finite"
            )
        # exact fractions, rounded once: voxel sides may differ by many orders of magnitude
        a, b, c, tx, d, e, f, ty, g, h, i, tz = map(Fraction, self.values)
        rows = (
            (e * i - f * h, c * h - b * i, b * f - c * e),
            (f * g - d * i, a * i - c * g, c * d - a * f),
            (d * h - e * g, b * g - a * h, a * e - b * d),
        )
        whole = a * rows[0][0] + b * rows[1][0] + c * rows[2][0]
        back = [(x, y, z, -(x * tx + y * ty + z * tz)) for x, y, z in rows]
        return type(self)(values=tuple(float(value / whole) for row in back for value in row))

    def decompose(self) -> "Decomposition":
        """Take it apart into scale, shear, rotation and translation.

        Raises
        ------
        InvalidInputError
            If it is singular (see `is_singular`) or a value is not finite.

        Examples
        --------
        >>> turned = Affine.rotation("z", 30) @ Affine.scale((1, 1, 2.5))
        >>> print((Affine.translation((10, 0, 0)) @ turned).decompose())
        scale (1, 1, 2.5), rotation 30 degrees about (0, 0, 1), translation (10, 0, 0)
        """
        from npy2bdv.model.decomposition import Decomposition

        return Decomposition.of(self)

    def apply(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Move points.

        Parameters
        ----------
        points_xyz
            Coordinates (x, y, z) in the last axis: shape (3,) or (..., 3).

        Returns
        -------
        :
            The moved points, in the same shape, float64.

        Raises
        ------
        InvalidInputError
            If the last axis does not have the length 3.
        """
        points = np.asarray(points_xyz, dtype=np.float64)
        if points.shape[-1:] != (3,):
            raise InvalidInputError(f"points have the shape {points.shape}; the last axis must be (x, y, z)")
        moved: NDArray[np.float64] = points @ self.linear.T + np.array(self.translation_xyz)
        return moved

    def __matmul__(self, inner: "Affine") -> Self:
        """Return the transform that applies ``inner`` first, then this one."""
        if not isinstance(inner, Affine):
            return NotImplemented
        # Written out: on so few numbers faster than numpy, and the same to the last bit on every machine.
        v = inner.values
        result: list[float] = []
        for row in (0, 4, 8):
            a, b, c, t = self.values[row : row + 4]
            result += (
                a * v[0] + b * v[4] + c * v[8],
                a * v[1] + b * v[5] + c * v[9],
                a * v[2] + b * v[6] + c * v[10],
                a * v[3] + b * v[7] + c * v[11] + t,
            )
        return type(self)(values=tuple(result))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.float64]:
        """Return the 3x4 matrix for ``np.asarray``; always a fresh array."""
        if copy is False:
            raise ValueError("an Affine holds no array: its matrix is always a fresh one")
        return np.array(self.values, dtype=np.float64 if dtype is None else dtype).reshape(3, 4)

    @classmethod
    def _from_diagonal(cls, diagonal: Sequence[float], offset: Sequence[float]) -> Self:
        (a, b, c), (x, y, z) = diagonal, offset
        return cls(values=(a, 0.0, 0.0, x, 0.0, b, 0.0, y, 0.0, 0.0, c, z))

    @classmethod
    def _from_parts(cls, linear: NDArray[np.float64], offset: NDArray[np.float64]) -> Self:
        matrix = np.column_stack((linear, offset)) + 0.0  # no -0.0
        return cls(values=tuple(matrix.ravel().tolist()))


def _condition(linear: NDArray[np.float64], first: Literal[0, 1]) -> float:
    """Give the smallest singular value against the largest; columns (0) or rows (1) are scaled to 1 first."""
    for axis in (first, 1 - first):
        size = np.abs(linear).max(axis=axis, keepdims=True)
        if not size.all():
            return 0.0
        linear = np.ldexp(linear, -np.frexp(size)[1])  # powers of two: exact
    singular_values = np.linalg.svd(linear, compute_uv=False)
    return float(singular_values[-1] / singular_values[0])


class HasMatrix(Protocol):
    """A transform of another library, as ``scipy.spatial.transform.Rotation`` is: a 3x3 or 4x4 matrix."""

    def as_matrix(self) -> ArrayLike:
        """Return the matrix."""
        ...


AffineLike: TypeAlias = ArrayLike | Affine | HasMatrix
"""What is taken for a transform."""


def centre_xyz(size_xyz: Iterable[SupportsIndex]) -> tuple[float, float, float]:
    """Give the centre of a volume of so many pixels: (size - 1) / 2, since pixel centres are integers.

    Examples
    --------
    >>> centre_xyz((2048, 2048, 101))
    (1023.5, 1023.5, 50.0)
    """
    x, y, z = _three_counts(size_xyz, "size of a volume")
    return (x - 1) / 2, (y - 1) / 2, (z - 1) / 2


def usable(matrix: AffineLike) -> Affine:
    """Return a matrix that a user gave as a transform that places pixels.

    Raises
    ------
    InvalidInputError
        If it is not 3x4 (or 4x4 with the last row 0 0 0 1), holds NaN, or is singular.
    """
    affine = Affine.from_array(matrix)
    if affine.is_singular:
        raise InvalidInputError(
            f"the matrix is singular, it would press the image flat: {np.asarray(affine).tolist()}; "
            "check that no row or column is zero and no axis is given twice"
        )
    return affine


def _number(axis: Axis) -> int:
    if axis not in ("x", "y", "z"):
        raise InvalidInputError(f"there is no axis {axis!r}; give 'x', 'y' or 'z'")
    return "xyz".index(axis)


def _three(numbers: Iterable[SupportsFloat], what: str) -> tuple[float, ...]:
    try:
        found = tuple(map(float, numbers))
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"the {what} takes three finite numbers (x, y, z); found {numbers!r}"
        ) from None
    if len(found) != 3 or not all(map(math.isfinite, found)):
        raise InvalidInputError(f"the {what} takes three finite numbers (x, y, z); found {found}")
    return found


def _three_counts(numbers: Iterable[SupportsIndex], what: str) -> tuple[int, ...]:
    wanted = f"the {what} takes three integers of at least 1 (x, y, z)"
    try:
        found = tuple(map(index, numbers))
    except TypeError:
        raise InvalidInputError(f"{wanted}; found {numbers}") from None
    if len(found) != 3 or min(found) < 1:
        raise InvalidInputError(f"{wanted}; found {found}")
    return found
