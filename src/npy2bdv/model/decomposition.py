"""An affine in parts that a person can read: scale, shear, rotation, translation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.affine import Affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from npy2bdv.model.spimdata import Triple


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """The parts of an affine, in the order in which they are applied: scale, shear, rotation, translation.

    Parameters
    ----------
    scale_xyz
        Factors along the axes; one of them is negative (or all three) where the image is mirrored.
    shear_xy, shear_xz, shear_yz
        ``x += shear_xy * y + shear_xz * z`` and ``y += shear_yz * z``, after the scale.
    axis_xyz, degrees
        The rotation: a vector of length 1, and a right-handed angle from 0 to 180.
    translation_xyz
        Where pixel (0, 0, 0) goes.
    """

    scale_xyz: Triple
    shear_xy: float
    shear_xz: float
    shear_yz: float
    axis_xyz: Triple
    degrees: float
    translation_xyz: Triple

    @classmethod
    def of(cls, affine: Affine) -> Decomposition:
        """Take an affine apart.

        Parameters
        ----------
        affine
            Any that has an inverse.

        Raises
        ------
        InvalidInputError
            If it is singular, or a value is not finite.
        """
        if not affine.is_finite or affine.is_singular:
            raise InvalidInputError(
                f"the affine {affine.values} has no parts: it flattens the image or is not finite"
            )
        # columns first of about one length, so that neither unit nor anisotropy costs digits
        sizes = np.linalg.norm(affine.linear, axis=0)
        rotation, upper = np.linalg.qr(affine.linear / sizes)
        signs = np.sign(np.diag(upper))
        rotation, upper = rotation * signs, upper * signs[:, np.newaxis]
        mirror = np.ones(3)
        if np.linalg.det(rotation) < 0:  # the mirror that leaves the smallest rotation
            mirrors = [np.array(each, float) for each in _MIRRORS]
            mirror = max(mirrors, key=lambda each: float(np.trace(rotation * each)))
        lengths = np.diag(upper)
        shear = mirror[:, np.newaxis] * (upper / lengths) * mirror
        axis, degrees = _axis_and_angle(rotation * mirror)
        x, y, z = (float(value) for value in mirror * lengths * sizes)
        return cls(
            scale_xyz=(x, y, z),
            shear_xy=float(shear[0, 1]) + 0.0,
            shear_xz=float(shear[0, 2]) + 0.0,
            shear_yz=float(shear[1, 2]) + 0.0,
            axis_xyz=axis,
            degrees=degrees,
            translation_xyz=affine.translation_xyz,
        )

    @property
    def rotation(self) -> NDArray[np.float64]:
        """The rotation as a 3x3 matrix."""
        x, y, z = self.axis_xyz
        angle = math.radians(self.degrees)
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], float)
        turned: NDArray[np.float64] = (
            np.eye(3) + math.sin(angle) * cross + 2 * math.sin(angle / 2) ** 2 * cross @ cross
        )
        return turned

    def compose(self) -> Affine:
        """Return the affine of these parts."""
        shear = np.array([[1, self.shear_xy, self.shear_xz], [0, 1, self.shear_yz], [0, 0, 1]], float)
        linear = self.rotation @ shear * np.array(self.scale_xyz)
        return Affine.from_array(np.column_stack((linear, np.array(self.translation_xyz))))

    def __str__(self) -> str:
        """Name the parts that do something."""
        parts = []
        if any(abs(each - 1) > _NOTHING for each in self.scale_xyz):
            parts.append(f"scale {_numbers(self.scale_xyz)}")
        shears = {"xy": self.shear_xy, "xz": self.shear_xz, "yz": self.shear_yz}
        parts += [f"shear {name} {each:.6g}" for name, each in shears.items() if abs(each) > _NOTHING]
        if self.degrees > 1e-6:
            parts.append(f"rotation {self.degrees:.6g} degrees about {_numbers(self.axis_xyz)}")
        if any(self.translation_xyz):
            parts.append(f"translation {_numbers(self.translation_xyz)}")
        return ", ".join(parts) or "nothing"


_MIRRORS = ((-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1))
_NOTHING = 1e-9


def _axis_and_angle(rotation: NDArray[np.float64]) -> tuple[Triple, float]:
    """Return the axis and the angle of a rotation, by the quaternion, which is safe near 0 and 180 degrees."""
    trace = float(np.trace(rotation))
    # four times the squares of its parts; by the largest the others are found
    squares = np.array([1 + trace, *(1 - trace + 2 * np.diag(rotation))])
    differences = [
        float(rotation[2, 1] - rotation[1, 2]),
        float(rotation[0, 2] - rotation[2, 0]),
        float(rotation[1, 0] - rotation[0, 1]),
    ]
    largest = int(np.argmax(squares))
    quaternion = np.zeros(4)
    if largest == 0:
        quaternion[:] = [squares[0], *differences]
    else:
        k = largest - 1
        quaternion[0] = differences[k]
        quaternion[1:] = rotation[k] + rotation[:, k]
        quaternion[largest] = squares[largest]
    vector = quaternion[1:] * (1 if quaternion[0] >= 0 else -1)
    length = float(np.linalg.norm(vector))
    if length <= 1e-15 * abs(quaternion[0]):
        return (0.0, 0.0, 1.0), 0.0
    degrees = 2 * math.degrees(math.atan2(length, abs(float(quaternion[0]))))
    x, y, z = (vector / length + 0.0).tolist()
    return (x, y, z), degrees


def _numbers(values: Triple) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
