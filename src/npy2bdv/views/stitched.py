"""Maximum projections of many views in the world, from coarse levels: arrays only, nothing is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.model.affine import Affine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from npy2bdv.model.box import Box
    from npy2bdv.model.outline import Plane
    from npy2bdv.view import Level, View

PLANES: tuple[Plane, ...] = ("xy", "xz", "zy")
"""Seen along z; from below, and from the right, with the axis that they share with xy beside its own."""

# A pixel of a level may be as large as this many of the picture: coarser looks like mosaic.
_COARSEST = 2.0
_FEWEST_PIXELS = 2**20
_EDGE_ON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """What of the world is projected, and into pixels of which size.

    Attributes
    ----------
    box
        The part of the world.
    pixel
        Size of a pixel of the projections, in the unit of the world.
    """

    box: Box
    pixel: float

    @classmethod
    def over(cls, box: Box, pixels: int) -> Canvas:
        """Return a canvas over a box, whose longest edge has so many pixels."""
        return cls(box=box, pixel=max(box.size_xyz) / pixels)

    def shape(self, plane: Plane) -> tuple[int, int]:
        """Return rows and columns of a projection."""
        columns, rows = (max(1, round(self.box.size_xyz["xyz".index(a)] / self.pixel)) for a in plane)
        return rows, columns

    def new(self) -> dict[Plane, NDArray[np.float32]]:
        """Return projections of nothing: NaN."""
        return {plane: np.full(self.shape(plane), np.nan, np.float32) for plane in PLANES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is read of a view.

    Attributes
    ----------
    level
        The level.
    step
        Each which plane of it; 1 is all.
    """

    level: Level
    step: int

    @property
    def first(self) -> int:
        """The first plane that is read."""
        return min(self.step // 2, self.level.shape[0] - 1)

    def pixels(self) -> NDArray[Any]:
        """Read (z, y, x)."""
        if self.step == 1:
            return self.level[...]
        return np.stack([self.level[z] for z in range(self.first, self.level.shape[0], self.step)])

    @property
    def transform(self) -> Affine:
        """World <- pixel of what was read."""
        return self.level.transform @ Affine.translation((0, 0, self.first)) @ Affine.scale((1, 1, self.step))


def choose(view: View, pixel: float, most_pixels: int) -> Reading:
    """Choose the coarsest level that serves pictures with pixels of this size.

    Where even the coarsest level has more than `most_pixels`, only planes spread over it are read.
    """
    levels = list(view.levels())
    finest = _steps(levels[0])
    served = [
        number
        for number, level in enumerate(levels)
        if (_steps(level) <= np.maximum(_COARSEST * pixel, finest * (1 + 1e-9))).all()
    ]
    best = max(served, default=0)
    while levels[best].size > most_pixels and best + 1 < len(levels):
        best += 1
    depth, *plane = levels[best].shape
    planes = max(1, most_pixels // max(1, math.prod(plane)))
    return Reading(level=levels[best], step=-(-depth // planes))


def _steps(level: Level) -> NDArray[np.float64]:
    """Return how far one pixel is from the next along x, y, z of the image, in the world."""
    lengths: NDArray[np.float64] = np.linalg.norm(level.transform.linear, axis=0)
    return lengths


def project(
    views: Iterable[View], canvas: Canvas, scale: float, most_pixels: int
) -> tuple[dict[Plane, NDArray[np.float32]], list[Reading]]:
    """Project views onto a canvas, the largest value of all that lie behind each other.

    Parameters
    ----------
    views
        The views; their pixels are there.
    canvas
        Where to.
    scale
        What lengths of the dataset's world are multiplied by for those of the canvas.
    most_pixels
        How many pixels may be read of all of them together.

    Returns
    -------
    projections
        For each plane an array (rows, columns): x or z to the right, y or z down. NaN where no view is.
    readings
        What was read.
    """
    some = list(views)
    found, readings = canvas.new(), []
    for view in some:
        reading = choose(view, canvas.pixel / scale, max(_FEWEST_PIXELS, most_pixels // max(1, len(some))))
        readings.append(reading)
        transform = Affine.scale([scale] * 3) @ reading.transform
        pixels, transform = _binned(reading.pixels(), transform, canvas.pixel)
        for plane in PLANES:
            add(found[plane], pixels, _onto(canvas, plane, transform))
    return found, readings


def _binned(pixels: NDArray[Any], transform: Affine, pixel: float) -> tuple[NDArray[np.float32], Affine]:
    """Take the largest of neighbours that fall into one pixel of the picture."""
    found = pixels.astype(np.float32, copy=False)
    found = np.where(np.isfinite(found), found, np.nan) if pixels.dtype.kind == "f" else found
    steps = np.linalg.norm(transform.linear, axis=0)
    factors = [max(1, int(pixel / step)) if step else 1 for step in steps]
    for axis, factor in enumerate(factors[::-1]):
        if factor > 1:
            found = np.fmax.reduceat(found, np.arange(0, found.shape[axis], factor), axis=axis)
    half = [(factor - 1) / 2 for factor in factors]
    return found, transform @ Affine.translation(half) @ Affine.scale(factors)


def _onto(canvas: Canvas, plane: Plane, transform: Affine) -> NDArray[np.float64]:
    """Return the map (column, row) <- pixel (x, y, z) as 2 x 4 numbers; whole numbers are centres of pixels."""
    rows, columns = canvas.shape(plane)
    axes = ["xyz".index(axis) for axis in plane]
    low, size = np.array(canvas.box.min_xyz)[axes], np.array(canvas.box.size_xyz)[axes]
    per_unit = np.array([columns, rows]) / np.where(size > 0, size, 1)
    matrix = np.asarray(transform)[axes]
    matrix[:, 3] -= low
    matrix *= per_unit[:, None]
    matrix[:, 3] -= 0.5
    return matrix


def add(picture: NDArray[np.float32], pixels: NDArray[np.float32], matrix: NDArray[np.float64]) -> None:
    """Add an image (z, y, x) to a projection by the map (column, row) <- (x, y, z).

    The image is cut into slices along that of its axes that is seen most from the front; each is put where it is seen,
    by the nearest pixel, and the largest stays. Under a rotation a stack is so seen as what it is, a pile of slices.
    """
    areas = [abs(np.linalg.det(matrix[:, [other for other in range(3) if other != k]])) for k in range(3)]
    along = int(np.argmax(areas))
    if areas[along] < _EDGE_ON:  # nothing of it is to be seen
        return
    slices = np.moveaxis(pixels, 2 - along, 0)
    step = matrix[:, along]
    if np.abs(step).max() * len(slices) < 0.5:
        slices, step = np.fmax.reduce(slices, axis=0)[None], step * 0
    others = [other for other in range(3) if other != along]
    height, width = slices.shape[1:]
    ends = np.array(
        [(i, j, k) for i in (-0.5, width - 0.5) for j in (-0.5, height - 0.5) for k in (0, len(slices) - 1)]
    )
    places = ends @ np.stack([matrix[:, others[0]], matrix[:, others[1]], step]) + matrix[:, 3]
    first = np.maximum(np.ceil(places.min(axis=0) - 1e-6), 0).astype(int)
    last = np.minimum(np.floor(places.max(axis=0) + 1e-6), np.array(picture.shape[::-1]) - 1).astype(int)
    if (first > last).any():
        return
    part = picture[first[1] : last[1] + 1, first[0] : last[0] + 1]
    inverse = np.linalg.inv(matrix[:, others])
    columns, rows = np.arange(first[0], last[0] + 1), np.arange(first[1], last[1] + 1)
    grid = np.stack(np.broadcast_arrays(columns[None, :], rows[:, None])) - matrix[:, 3][:, None, None]
    base = np.tensordot(inverse, grid, 1)
    shift = inverse @ step
    for number, one in enumerate(slices):
        # an edge belongs to the pixel behind it
        u, v = (np.floor(base[k] - number * shift[k] + 0.5 + 1e-9).astype(np.int64) for k in range(2))
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        if inside.any():
            part[inside] = np.fmax(part[inside], one[v[inside], u[inside]])


def limits(
    pictures: Iterable[NDArray[np.float32]], percentiles: tuple[float, float]
) -> tuple[float, float] | None:
    """Return the percentiles of projections together, a little apart where they are one; None where nothing is."""
    values = [picture[np.isfinite(picture)] for picture in pictures]
    together = np.concatenate(values) if values else np.empty(0, np.float32)
    if not together.size:
        return None
    low, high = map(float, np.percentile(together, percentiles))
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))
