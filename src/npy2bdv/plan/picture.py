"""The layout of a plan as an SVG picture."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npy2bdv.model.spimdata import Triple

_SIDE = 640.0
_MARGIN = 60.0
_COLOURS = ("#3b6fb6", "#d1702a", "#3d8f5a", "#a4528f", "#8a7a2f", "#2f8a8a")


def draw(corners: Sequence[Sequence[Triple]], names: Sequence[str], unit: str) -> str:
    """Return the outlines of boxes, seen along z."""
    points = np.array(corners)[:, :, :2]
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    scale = _SIDE / float((high - low).max())
    places = (points - low) * scale + _MARGIN
    width, height = (high - low) * scale + 2 * _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for k, (outline, name) in enumerate(zip(places, names, strict=True)):
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in _hull(outline))
        colour = _COLOURS[k % len(_COLOURS)]
        x, y = outline.mean(axis=0)
        lines += [
            f'<polygon points="{text}" fill="{colour}" fill-opacity="0.2" stroke="{colour}"/>',
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(name)}</text>',
        ]
    bottom = height - _MARGIN / 3
    lines += [
        f'<text x="{_MARGIN}" y="{_MARGIN / 2}">x from {low[0]:.6g} to {high[0]:.6g}, y (down) from {low[1]:.6g} to '
        f"{high[1]:.6g} {escape(unit)}</text>",
        f'<text x="{_MARGIN}" y="{bottom:.0f}">seen along z; {len(names)} setups</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _hull(points: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[tuple[float, float]]:
    """Return the convex outline of points (Andrew's monotone chain)."""
    ordered = sorted({(round(x, 6), round(y, 6)) for x, y in points.tolist()})
    outline: list[tuple[float, float]] = []
    for pass_ in (ordered, ordered[::-1]):
        start = len(outline)
        for point in pass_:
            while len(outline) - start >= 2 and _turn(outline[-2], outline[-1], point) <= 0:
                outline.pop()
            outline.append(point)
        outline.pop()
    return outline


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
