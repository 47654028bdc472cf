"""What pictures have in common: paper, colours, scale bars. matplotlib's room; needs no screen."""

from __future__ import annotations

import io
import math
import warnings
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.units import symbol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import NDArray

    from npy2bdv.model.outline import Plane
    from npy2bdv.views.stitched import Canvas

INK, PAPER, GREY, DARK = "#222222", "white", "#808080", "#0c0c0c"
SMALL, NORMAL, LARGE = 8.0, 9.5, 12.0  # points
# Neighbours differ, and all are seen on white and on black.
CYCLE = (
    "#4c8fd6",
    "#e8862e",
    "#4faa5f",
    "#d0578f",
    "#9a7fd1",
    "#c9a227",
    "#2fa7a0",
    "#d9534a",
    "#7f9b3a",
    "#a8776a",
)
_SUFFIXES = (".png", ".svg", ".pdf")
_DOTS = 110.0  # per inch


class Picture(Figure):
    """A figure of matplotlib that shows itself in a notebook.

    Attributes
    ----------
    facts
        What was drawn, as plain values.
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=_DOTS, facecolor=PAPER)
        FigureCanvasAgg(self)
        self.facts: dict[str, Any] = {}

    def _repr_png_(self) -> bytes:
        return self.as_png()

    def as_png(self) -> bytes:
        """Return it as a PNG."""
        paper = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph .* missing from font")  # a label may have any letters
            self.savefig(paper, format="png")
        return paper.getvalue()

    def write(self, path: Path) -> None:
        """Write it as PNG, SVG or PDF, as the name says."""
        check_suffix(path)
        if path.suffix.lower() == ".png":
            path.write_bytes(self.as_png())
        else:
            self.savefig(path)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return axes at a place in inches, from the left and from the top."""
        across, down = self.get_size_inches()
        axes = self.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
        axes.tick_params(labelsize=SMALL, colors=INK, length=3)
        for spine in axes.spines.values():
            spine.set(color=GREY, linewidth=0.6)
        return axes

    def say(self, left: float, top: float, words: str, **style: Any) -> None:
        """Write words at a place in inches, from the left and from the top."""
        across, down = self.get_size_inches()
        known = {"fontsize": NORMAL, "color": INK, "va": "top", "ha": "left", **style}
        self.text(left / across, 1 - top / down, plain(words), **known)


def plain(words: str) -> str:
    """Return words as matplotlib shows them as they are: a dollar begins a formula."""
    return words.replace("$", r"\$")


def check_suffix(path: Path) -> None:
    """Refuse the name of a picture of another kind."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidInputError(f"{path} is not known as a picture; give NAME{', NAME'.join(_SUFFIXES)}")


def show(
    axes: Axes, plane: Plane, canvas: Canvas, picture: NDArray[np.float32] | None, colours: Any = "gray"
) -> None:
    """Show a projection, or nothing, over a part of the world in equal aspect; rows go down."""
    first, second = ("xyz".index(axis) for axis in plane)
    low, high = canvas.box
    extent = (low[first], high[first], high[second], low[second])
    if picture is not None:
        shown = picture if picture.ndim == 3 else colours(picture)
        axes.imshow(shown, extent=extent, interpolation="antialiased", aspect="auto")
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="auto")


def ramp(colour: str) -> Colormap:
    """Return the colours from black; what is nowhere is a little brighter than black."""
    found = LinearSegmentedColormap.from_list(colour, [(0.0, "black"), (1.0, colour)])
    return found.with_extremes(bad="#2a2a2a")


def scale_bar(axes: Axes, width: float, unit: str | None, colour: str = "white") -> None:
    """Put a bar of a round length at the lower right of axes that span `width` in this unit."""
    length = round_length(width / 4)
    bar = AnchoredSizeBar(
        axes.transData,
        length,
        f"{length:g} {unit_text(unit)}",
        "lower right",
        pad=0.4,
        borderpad=1.0,
        sep=3,
        color=colour,
        frameon=False,
        size_vertical=0,
        fontproperties=_font(),
    )
    axes.add_artist(bar)


def _font() -> Any:
    from matplotlib.font_manager import FontProperties

    return FontProperties(size=SMALL)


def round_length(length: float) -> float:
    """Return the largest of 1, 2, 5, 10 ... that is not longer.

    Examples
    --------
    >>> round_length(37.0), round_length(0.06), round_length(1.0)
    (20.0, 0.05, 1.0)
    """
    power = 10.0 ** math.floor(math.log10(length) + 1e-9)
    return float(
        f"{max(factor for factor in (1, 2, 5) if factor * power <= length * (1 + 1e-9)) * power:.6g}"
    )


def unit_text(unit: str | None) -> str:
    """Return a unit as people write it.

    Examples
    --------
    >>> unit_text("micrometer"), unit_text(None), unit_text("furlong")
    ('µm', 'px', 'furlong')
    """
    short = symbol(unit or "px")
    return {"um": "µm", "": "px", None: unit or "px"}.get(short, short or "px")


def sides(canvas: Canvas, most: tuple[float, float], gap: float) -> tuple[float, float, float]:
    """Return width, height and depth in inches of the world seen from three sides, so that all fits.

    `most` is the room for xy with zy to its right and xz below.
    """
    x, y, z = canvas.box.size_xyz
    scale = min((most[0] - gap) / (x + z), (most[1] - gap) / (y + z))
    return x * scale, y * scale, z * scale


def three_panels(
    paper: Picture, left: float, top: float, inches: Sequence[float], gap: float
) -> dict[Plane, Axes]:
    """Return axes for xy, with xz below it and zy to its right."""
    width, height, depth = inches
    return {
        "xy": paper.panel(left, top, width, height),
        "xz": paper.panel(left, top + height + gap, width, depth),
        "zy": paper.panel(left + width + gap, top, depth, height),
    }
