"""The layout of a dataset or of a plan: outlines of all views in the world, from three sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.dataset import Dataset
from npy2bdv.errors import InvalidInputError, MissingKeyError
from npy2bdv.model.affine import Affine
from npy2bdv.model.box import Box
from npy2bdv.model.outline import Outline
from npy2bdv.model.spimdata import ViewId
from npy2bdv.plan import Plan
from npy2bdv.view import View
from npy2bdv.views.stitched import Canvas

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from npy2bdv.model.outline import Plane
    from npy2bdv.views.figure import Picture

_MOST_LABELS = 1500
_MOST_IN_LEGEND = 12
_SMALLEST, _LARGEST = 4.5, 10.0  # points
_MARGIN = 0.03  # of the longest edge, around all views
_DASHES = (0, (3, 2))


def layout(
    what: Dataset | Plan,
    *,
    color_by: str | None = None,
    pixels: bool = True,
    **where: Any,
) -> Picture:
    """Draw where views lie: their outlines in the world from three sides, with equal scale on all axes.

    Where views overlap, colours add up; views that are missing are dashed. Under the outlines of a dataset lies the
    maximum projection of its pixels, from coarse levels.

    Parameters
    ----------
    what
        A dataset (`npy2bdv.open`), or a plan (`npy2bdv.plan`).
    color_by
        The attribute whose labels have a colour each: "tile", "channel", "angle" or any other; by default the first of
        these that has several labels.
    pixels
        Whether pixels are shown, where there are any.
    **where
        Which views, of a dataset: time, setup, channel, tile ... as in `npy2bdv.preview`.

    Returns
    -------
    :
        A figure of matplotlib, which shows itself in a notebook; ``savefig("layout.png")`` writes it.

    Raises
    ------
    InvalidInputError
        If matplotlib is not installed, or `what` is neither dataset nor plan.
    MissingKeyError
        If there is no such view, or no such attribute.

    Examples
    --------
    >>> import npy2bdv
    >>> tile = {"shape": (100, 512, 512), "voxel_size_xyz": (0.4, 0.4, 2), "unit": "um"}
    >>> places = npy2bdv.grid(3, 3, shape=tile["shape"], voxel_size_xyz=tile["voxel_size_xyz"])
    >>> plan = npy2bdv.plan([{**tile, "tile": n, "stage_position_xyz": p} for n, p in enumerate(places)])
    >>> npy2bdv.layout(plan).savefig("layout.png")  # doctest: +SKIP
    """
    if isinstance(what, Plan):
        if any(value is not None for value in where.values()):
            raise InvalidInputError(f"views of a plan cannot be selected; leave out {', '.join(where)}")
        scene = Scene(outlines=what.outlines, unit=what.unit, name="plan")
        return draw_layout(scene, color_by=color_by)
    if not isinstance(what, Dataset):
        raise InvalidInputError(
            f"a layout is that of a dataset, npy2bdv.open(...), or of a plan; found {what!r}"
        )
    from npy2bdv.views.preview import draw

    return draw(what, where, projections=False, layout=True, color_by=color_by, pixels=pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Outlines that are drawn together, in one unit."""

    outlines: tuple[Outline, ...]
    unit: str | None
    name: str

    @property
    def box(self) -> Box:
        """The box around all, with a margin."""
        box = Box.around(outline.box for outline in self.outlines)
        margin = _MARGIN * max(box.size_xyz)
        x0, y0, z0 = (low - margin for low in box.min_xyz)
        x1, y1, z1 = (high + margin for high in box.max_xyz)
        return Box((x0, y0, z0), (x1, y1, z1))


def outlines(dataset: Dataset, views: Iterable[ViewId]) -> tuple[tuple[Outline, ...], str | None]:
    """Return the outlines of views, missing ones among them, in the unit of their voxel sizes.

    Of a missing view, size and transform are those of the XML, or those of another time point of its setup. Views of
    which neither says the size are left out.
    """
    missing = dataset.spimdata.missing or frozenset()
    found, unit = [], None
    shapes: dict[int, tuple[int, int, int] | None] = {}
    labels: dict[int, dict[str, str]] = {}
    for id_ in views:
        view = View(dataset, id_)
        if id_.setup not in shapes:
            shapes[id_.setup] = _size(dataset, id_.setup)
            labels[id_.setup] = view.attributes
        shape = shapes[id_.setup]
        registered = id_ if id_ in dataset.spimdata.registrations else _other_time(dataset, id_)
        if shape is None or registered is None:
            continue
        placed = View(dataset, registered)
        unit = unit or placed.unit
        found.append(
            Outline(
                label=view.name or f"setup {id_.setup}",
                attributes=labels[id_.setup],
                time=id_.time,
                shape_xyz=shape,
                transform=Affine.scale([placed._world_unit] * 3) @ placed.transform,
                missing=id_ in missing or (dataset.has_pixels and not dataset.container.has(id_)),
            )
        )
    return tuple(found), unit


def _size(dataset: Dataset, setup: int) -> tuple[int, int, int] | None:
    size = dataset.spimdata.setup(setup).size_xyz
    if size is not None and min(size) > 0:
        return size
    if dataset.has_pixels:
        for time in dataset.times:
            if dataset.container.has(ViewId(time, setup)):
                z, y, x = View(dataset, ViewId(time, setup)).shape
                return x, y, z
    return None


def _other_time(dataset: Dataset, view: ViewId) -> ViewId | None:
    others = (ViewId(time, view.setup) for time in dataset.times)
    return next((other for other in others if other in dataset.spimdata.registrations), None)


# -- drawing ---------------------------------------------------------------------------------------------------


def draw_layout(
    scene: Scene,
    *,
    color_by: str | None = None,
    below: Mapping[Plane, NDArray[np.float32]] | None = None,
    canvas: Canvas | None = None,
    paper: Picture | None = None,
    top: float = 0.0,
) -> Picture:
    """Draw outlines on a paper of their own, or on one that is given, from a place on.

    `below` are pictures (rows, columns), from 0 to 1, over the world that `canvas` says.
    """
    if not scene.outlines:
        raise MissingKeyError(
            f"there is nothing to draw: the sizes of the views of {scene.name} are not known"
        )
    by, colours = _colours(scene.outlines, color_by)
    figure = load_figure()
    canvas = canvas or Canvas.over(scene.box, 1000)
    inches = layout_inches(canvas)
    paper = paper or figure.Picture(*layout_paper(canvas))
    left = _LEFT
    merged = _merged(scene.outlines, by)
    title = f"{scene.name}: where the views lie"
    paper.say(0.15, top + 0.14, title, fontsize=figure.LARGE, fontweight="bold")
    panels = figure.three_panels(paper, left, top + _TOP, inches, _GAP)
    unit = figure.unit_text(scene.unit)
    for plane, axes in panels.items():
        axes.set_facecolor(figure.PAPER if below is None else figure.DARK)
        figure.show(axes, plane, canvas, None if below is None else below[plane], figure.ramp("#b0b0b0"))
        _outline(axes, plane, merged, colours, dark=below is not None)
        _ticks(axes, plane, unit, dict(zip("xyz", inches, strict=True)))
    _name(panels["xy"], scene.outlines, inches, canvas, dark=below is not None)
    _legend(paper, scene.outlines, by, colours, left, top + _TOP + inches[1] + inches[2] + _GAP + 0.55)
    return paper


_LEFT, _RIGHT, _TOP, _BELOW, _GAP = 0.75, 0.3, 0.5, 0.9, 0.35  # inches around and between panels
_MOST = (8.2, 7.6)
_NARROWEST = 4.5


def layout_inches(canvas: Canvas) -> tuple[float, float, float]:
    """Return width, height and depth of the panels."""
    inches: tuple[float, float, float] = load_figure().sides(canvas, _MOST, _GAP)
    return inches


def layout_paper(canvas: Canvas) -> tuple[float, float]:
    """Return the size of the paper."""
    width, height, depth = layout_inches(canvas)
    return (
        max(_NARROWEST, _LEFT + width + _GAP + depth + _RIGHT),
        _TOP + height + _GAP + depth + _BELOW,
    )


def load_figure() -> Any:
    """Return the room of matplotlib, or say that it is not installed."""
    try:
        from npy2bdv.views import figure
    except ImportError as error:
        raise InvalidInputError(
            'pictures need matplotlib, which is not installed: pip install "npy2bdv[preview]"'
        ) from error
    return figure


def _colours(outlines: Sequence[Outline], color_by: str | None) -> tuple[str, dict[str, str]]:
    """Return by which attribute colours are given, and the colour of each label."""
    known = dict.fromkeys(key for outline in outlines for key in outline.attributes)
    labels = {
        key: dict.fromkeys(outline.attributes.get(key, "") for outline in outlines)
        for key in ("tile", "channel", *known)
    }
    if color_by is not None and color_by not in known:
        raise MissingKeyError(
            f"there is no attribute {color_by!r} to colour by; there are {', '.join(known) or 'none'}"
        )
    by = color_by or next((key for key, its in labels.items() if len(its) > 1), "tile")
    cycle = load_figure().CYCLE
    return by, {label: cycle[number % len(cycle)] for number, label in enumerate(labels[by])}


def _merged(outlines: Sequence[Outline], by: str) -> dict[tuple[str, bool], list[Outline]]:
    """Return outlines by label and whether they are missing; of those at the same place one."""
    found: dict[tuple[str, bool], dict[Any, Outline]] = {}
    for outline in outlines:
        grain = max(outline.box.size_xyz) * 1e-6
        place = tuple(round(value / grain) for corner in outline.corners_xyz for value in corner)
        group = found.setdefault((outline.attributes.get(by, ""), outline.missing), {})
        group.setdefault(place, outline)
    return {key: list(places.values()) for key, places in found.items()}


def _outline(
    axes: Axes,
    plane: Plane,
    merged: Mapping[tuple[str, bool], Sequence[Outline]],
    colours: Mapping[str, str],
    *,
    dark: bool,
) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    # where many lie behind each other, they shall not be a wall
    drawn = [outline for (_, missing), its in merged.items() if not missing for outline in its]
    deep = len(drawn) / max(1, len({outline.polygon(plane) for outline in drawn}))
    alpha = (0.10 if dark else 0.22) / math.sqrt(max(1.0, deep))
    for (label, missing), its in sorted(merged.items(), key=lambda each: each[0][1]):
        polygons = [outline.polygon(plane) for outline in its]
        colour = ("white" if dark else load_figure().INK) if missing else colours[label]
        face = "none" if missing else to_rgba(colours[label], alpha)
        axes.add_collection(
            PolyCollection(
                polygons,
                facecolors=face,
                edgecolors=colour,
                linewidths=1.3,
                linestyles=[_DASHES] if missing else "solid",
                zorder=3 if missing else 2,
            ),
            autolim=False,
        )


def _ticks(axes: Axes, plane: Plane, unit: str, inches: Mapping[str, float]) -> None:
    """Name the axes: x below xz, y left of xy, z beside xz and below zy."""
    from matplotlib.ticker import MaxNLocator

    for which, axis, line in (("x", plane[0], axes.xaxis), ("y", plane[1], axes.yaxis)):
        line.set_major_locator(MaxNLocator(max(2, min(6, int(inches[axis] / 0.7))), min_n_ticks=2))
        if plane == "xy" and which == "x":
            line.set_tick_params(labelbottom=False)
        elif plane == "zy" and which == "y":
            line.set_tick_params(labelleft=False)
        else:
            line.set_label_text(f"{axis} ({unit})", fontsize=load_figure().SMALL)


def _name(
    axes: Axes, outlines: Sequence[Outline], inches: tuple[float, float, float], canvas: Canvas, *, dark: bool
) -> None:
    """Write on each outline what tells it from others; those at one place share a line; what does not fit is not."""
    from matplotlib.patheffects import withStroke

    figure = load_figure()
    keys = [
        key
        for key in dict.fromkeys(key for outline in outlines for key in outline.attributes)
        if key != "channel"
    ]
    differ = [key for key in keys if len({outline.attributes.get(key) for outline in outlines}) > 1]
    if not differ:
        return
    points = 72 * inches[0] / canvas.box.size_xyz[0]
    places: dict[tuple[int, int], tuple[tuple[float, float], float, dict[str, None]]] = {}
    for outline in outlines:
        (x0, y0, _), (x1, y1, _) = outline.box
        centre = (x0 + x1) / 2, (y0 + y1) / 2
        key = round(centre[0] * points / _LARGEST), round(centre[1] * points / _LARGEST)
        words = ", ".join(outline.attributes.get(each, "") for each in differ)
        room = min((x1 - x0), 1.6 * (y1 - y0)) * points
        known = places.setdefault(key, (centre, room, {}))
        known[2].setdefault(words)
    if len(places) > _MOST_LABELS:
        return
    lines = [(centre, room, _joined(list(names))) for centre, room, names in places.values()]
    sizes = [0.85 * room / (0.62 * max(1, len(text))) for _, room, text in lines]
    size = min(_LARGEST, float(np.quantile(sizes, 0.1)))
    for (centre, _, text), fits in zip(lines, sizes, strict=True):
        if min(size, fits) < _SMALLEST:
            continue
        axes.text(
            *centre,
            figure.plain(text),
            fontsize=min(size, fits),
            color="white" if dark else figure.INK,
            ha="center",
            va="center",
            zorder=4,
            clip_on=True,
            path_effects=[withStroke(linewidth=1.5, foreground="black" if dark else "white")],
        )


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}"


def _legend(
    paper: Picture, outlines: Sequence[Outline], by: str, colours: Mapping[str, str], left: float, top: float
) -> None:
    """Say what colours and dashes are, in lines below the panels."""
    from matplotlib.lines import Line2D

    figure = load_figure()
    missing = len({(o.time, tuple(sorted(o.attributes.items()))) for o in outlines if o.missing})
    handles = []
    if 1 < len(colours) <= _MOST_IN_LEGEND and by != "tile":
        handles += [
            Line2D([], [], color=colour, lw=2, label=figure.plain(f"{by} {label}"))
            for label, colour in colours.items()
        ]
    if missing:
        words = f"missing ({missing} view{'s' if missing > 1 else ''})"
        handles.append(Line2D([], [], color=figure.INK, lw=1.3, ls=_DASHES, label=words))
    if handles:
        across, down = paper.get_size_inches()
        paper.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(left / across, 1 - top / down),
            bbox_transform=paper.transFigure,
            borderaxespad=0,
            ncols=max(1, min(len(handles), math.floor((across - left) / 1.5))),
            fontsize=figure.SMALL,
            frameon=False,
        )
