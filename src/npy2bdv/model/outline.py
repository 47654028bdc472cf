"""Where a stack lies in the world: its box, and its outline as seen along an axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.box import Box

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from npy2bdv.model.affine import Affine
    from npy2bdv.model.spimdata import Triple

Plane = Literal["xy", "xz", "yz", "zy"]
"""What of the world is seen: the first axis runs to the right, the second downwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A stack in the world, without its pixels: of a dataset, or of a plan.

    Attributes
    ----------
    label
        What a person calls it.
    attributes
        Its labels by attribute: channel, tile, angle, illumination and any other.
    time
        Its time point.
    shape_xyz
        Size of the image (x, y, z), in pixels: it reaches from -0.5 to the size less 0.5 (formats.md 1.9).
    transform
        World <- pixel, in whatever unit the world is wanted.
    missing
        Whether it was never recorded.

    Examples
    --------
    >>> from npy2bdv.model.affine import Affine
    >>> outline = Outline(label="0", shape_xyz=(4, 2, 1), attributes={}, transform=Affine.rotation("z", 45))
    >>> len(outline.polygon("xy")), outline.box.size_xyz[2]
    (4, 1.0)
    """

    label: str
    shape_xyz: tuple[int, int, int]
    transform: Affine
    attributes: Mapping[str, str]
    time: int = 0
    missing: bool = False

    def __post_init__(self) -> None:
        if min(self.shape_xyz) < 1 or not self.transform.is_finite:
            raise InvalidInputError(
                f"{self.label!r} has no outline: its size (x, y, z) is {self.shape_xyz} and its transform "
                f"{self.transform.values}; sizes are at least 1, and numbers finite"
            )

    @property
    def channel(self) -> str:
        """Label of its channel; empty where it has none."""
        return self.attributes.get("channel", "")

    @property
    def tile(self) -> str:
        """Label of its tile; empty where it has none."""
        return self.attributes.get("tile", "")

    @property
    def corners_xyz(self) -> tuple[Triple, ...]:
        """The eight corners in the world: x of the image fastest, then y, then z."""
        x, y, z = self.shape_xyz
        ends = [(i, j, k) for k in (-0.5, z - 0.5) for j in (-0.5, y - 0.5) for i in (-0.5, x - 0.5)]
        return tuple((a, b, c) for a, b, c in self.transform.apply(ends).tolist())

    @property
    def box(self) -> Box:
        """The box in the world around it."""
        corners = list(zip(*self.corners_xyz, strict=True))
        (x0, y0, z0), (x1, y1, z1) = (tuple(map(end, corners)) for end in (min, max))
        return Box((x0, y0, z0), (x1, y1, z1))

    def polygon(self, plane: Plane) -> tuple[tuple[float, float], ...]:
        """Return the outline as seen along an axis: the corners of the convex polygon around it, in order."""
        first, second = ("xyz".index(axis) for axis in plane)
        return hull((corner[first], corner[second]) for corner in self.corners_xyz)


def hull(points: Iterable[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    """Return the convex polygon around points, without corners that lie on a side (Andrew's monotone chain).

    Examples
    --------
    >>> hull([(0, 0), (2, 0), (1, 1), (2, 2), (0, 2), (1, 0)])
    ((0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0))
    """
    exact = [(float(x), float(y)) for x, y in points]
    # what differs by rounding only is one corner
    span = max(max(each) - min(each) for each in zip(*exact, strict=True))
    grain = span * 1e-9 or 1.0
    known: dict[tuple[int, int], tuple[float, float]] = {}
    for x, y in exact:
        known.setdefault((math.floor(x / grain + 0.5), math.floor(y / grain + 0.5)), (x, y))
    ordered = sorted(known.values())
    if len(ordered) < 3:
        return tuple(ordered)
    outline: list[tuple[float, float]] = []
    for pass_ in (ordered, ordered[::-1]):
        start = len(outline)
        for point in pass_:
            while len(outline) - start >= 2 and _turn(outline[-2], outline[-1], point) <= grain * span:
                outline.pop()
            outline.append(point)
        outline.pop()
    return tuple(outline)


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
