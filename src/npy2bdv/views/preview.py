"""A preview of a dataset: maximum projections from three sides, for each channel and time point; and its layout."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.dataset import Dataset
from npy2bdv.editor.selection import Selector
from npy2bdv.errors import InvalidInputError, MissingKeyError
from npy2bdv.location import why_not_read
from npy2bdv.model.box import Box
from npy2bdv.view import View
from npy2bdv.views import layout as layouts
from npy2bdv.views.layout import Scene
from npy2bdv.views.stitched import PLANES, Canvas, Reading, limits, project

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from npy2bdv.model.outline import Outline, Plane
    from npy2bdv.model.spimdata import SpimData, ViewId
    from npy2bdv.views.figure import Picture

_PERCENTILES = (1.0, 99.5)
_MOST_TIMES = 3
_MOST_PIXELS = 2**25
"""Pixels that are read for one picture, where this is not less than a few for each view."""
_CANVAS = 640
_COLOURS = ("#00e600", "#ff00ff", "#00e5ff", "#ffee00", "#ff4040", "#4d7dff")  # as napari_layers has them

_SIDE, _SIDES = (
    0.15,
    (5.6, 4.6, 3.6, 2.9),
)  # inches: around blocks, and of a block where there are 1, 2, 3, more in a row
_GAP, _BETWEEN, _HEAD, _TITLE = 0.06, 0.25, 0.62, 0.68


def preview(
    dataset: Dataset,
    *,
    projections: bool = True,
    layout: bool = True,
    percentiles: tuple[float, float] = _PERCENTILES,
    color_by: str | None = None,
    **where: Any,
) -> Picture:
    """Draw what a dataset holds: its layout, and maximum projections xy, xz and zy of each channel and time point.

    All views of a channel and time point are put together in the world, under their full transforms. Each is read from
    the coarsest level that serves, so that a dataset of terabytes takes seconds; where views have no coarse level, only
    planes spread over z are read.

    Parameters
    ----------
    dataset
        The dataset.
    projections, layout
        Which of the two are drawn.
    percentiles
        Which of the projected pixels are black, and which have the full colour; over all time points of a channel.
    color_by
        As in `npy2bdv.layout`.
    **where
        Which views: ``time`` and ``setup`` (an id, or several), ``channel``, ``tile``, ``angle``, ``illumination`` and
        any other attribute (an id or label, or several). Without ``time`` up to three time points are shown: the
        first, one in the middle, the last.

    Returns
    -------
    :
        A figure of matplotlib, which shows itself in a notebook; ``savefig("preview.png")`` writes it.

    Raises
    ------
    InvalidInputError
        If matplotlib is not installed, or an argument cannot be right.
    MissingKeyError
        If no view is selected.
    FormatError
        If projections are asked for, and the pixels cannot be read.

    Examples
    --------
    >>> import numpy as np, npy2bdv, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xml = npy2bdv.resave(np.ones((3, 40, 50), "uint16"), f"{folder}/scan.xml")
    ...     with npy2bdv.open(xml) as dataset:
    ...         npy2bdv.preview(dataset).savefig(f"{folder}/preview.png")
    """
    if not isinstance(dataset, Dataset):
        raise InvalidInputError(f"a preview is that of a dataset, npy2bdv.open(...); found {dataset!r}")
    if not (projections or layout):
        raise InvalidInputError("neither projections nor the layout are to be drawn; leave one of them True")
    return draw(
        dataset, where, projections=projections, layout=layout, percentiles=percentiles, color_by=color_by
    )


def draw(
    dataset: Dataset,
    where: Mapping[str, Any],
    *,
    projections: bool,
    layout: bool,
    percentiles: tuple[float, float] = _PERCENTILES,
    color_by: str | None = None,
    pixels: bool = True,
) -> Picture:
    """Draw projections, layout, or both."""
    figure = layouts.load_figure()
    _check_percentiles(percentiles)
    if projections and not dataset.has_pixels:
        raise why_not_read(dataset.path, dataset.spimdata)
    chosen = _choose(dataset, where)
    outlines, unit = layouts.outlines(dataset, chosen.views)
    scene = Scene(outlines=outlines, unit=unit, name=dataset.path.name)
    if not outlines:
        raise MissingKeyError(
            f"there is nothing to draw: neither {dataset.path.name} nor its pixels say how large views are"
        )
    canvas = Canvas.over(scene.box, _CANVAS)
    blocks: list[Block] = []
    if dataset.has_pixels and (projections or pixels):
        blocks = _project(dataset, chosen, canvas, outlines, every_time=projections)
    contrasts = _contrasts(blocks, percentiles)
    width, top = 0.0, 0.0
    if layout:
        width, top = layouts.layout_paper(canvas)
    arranged = _Arranged.of(blocks, canvas, chosen) if projections else None
    height = top
    if arranged is not None:
        width, height = max(width, arranged.width), top + arranged.height
    paper: Picture = figure.Picture(width, height)
    if layout:
        below = _composite(blocks, contrasts, chosen) if pixels else None
        layouts.draw_layout(scene, color_by=color_by, below=below, canvas=canvas, paper=paper)
    if arranged is not None:
        _draw_blocks(paper, arranged, scene, blocks, contrasts, chosen, canvas, top)
    paper.facts = _facts(scene, blocks, contrasts, chosen)
    return paper


def _facts(
    scene: Scene,
    blocks: Sequence[Block],
    contrasts: Mapping[str, tuple[float, float] | None],
    chosen: Chosen,
) -> dict[str, Any]:
    """Return what was drawn, as plain values."""
    box = Box.around(outline.box for outline in scene.outlines)
    return {
        "views": sum(not outline.missing for outline in scene.outlines),
        "missing": [[outline.time, outline.label] for outline in scene.outlines if outline.missing],
        "unit": scene.unit,
        "min_xyz": list(box.min_xyz),
        "max_xyz": list(box.max_xyz),
        "times": list(chosen.times),
        "contrasts": {channel: limits and list(limits) for channel, limits in contrasts.items()},
        "read": [
            {
                "time": reading.level.view.id.time,
                "setup": reading.level.view.id.setup,
                "level": reading.level.index,
                "step": reading.step,
            }
            for block in blocks
            for reading in block.readings
        ],
    }


def _check_percentiles(percentiles: tuple[float, float]) -> None:
    try:
        low, high = map(float, percentiles)
    except (TypeError, ValueError):
        low = high = math.nan
    if not 0 <= low < high <= 100:
        raise InvalidInputError(
            f"percentiles={percentiles!r} cannot be; give two numbers from 0 to 100, the smaller first: (1, 99.5)"
        )


# -- what is shown ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is shown: views with those that are missing, time points, and the channel of each setup."""

    views: tuple[ViewId, ...]
    times: tuple[int, ...]
    all_times: int
    channels: tuple[str, ...]
    channel_of: Mapping[int, str]
    places: Mapping[str, int]

    def colour(self, channel: str) -> str:
        """Return the colour of a channel: grey where the dataset has one only."""
        return "#ffffff" if len(self.places) < 2 else _COLOURS[self.places[channel] % len(_COLOURS)]


def _choose(dataset: Dataset, where: Mapping[str, Any]) -> Chosen:
    data = dataset.spimdata
    given = {name: value for name, value in where.items() if value is not None}
    # views that are missing are to be seen, too
    views = Selector().views(_with_missing(data), given)
    all_times = sorted({view.time for view in views})
    times = all_times
    if not {"time", "view"} & given.keys() and len(all_times) > _MOST_TIMES:
        picks = np.linspace(0, len(all_times) - 1, _MOST_TIMES).round().astype(int)
        times = [all_times[pick] for pick in picks]
    missing = data.missing or frozenset()
    channel_of = {
        number: data.labels_of(setup).get("channel", "") for number, setup in sorted(data.setups.items())
    }
    shown = [view for view in views if view.time in set(times) or view in missing]
    return Chosen(
        views=tuple(shown),
        times=tuple(times),
        all_times=len(all_times),
        channels=tuple(dict.fromkeys(channel_of[setup] for setup in sorted({view.setup for view in shown}))),
        channel_of=channel_of,
        places={channel: number for number, channel in enumerate(dict.fromkeys(channel_of.values()))},
    )


def _with_missing(data: SpimData) -> SpimData:
    return replace(data, missing=None)


# -- projections -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The projections of one channel at one time point."""

    channel: str
    time: int
    pictures: Mapping[Plane, NDArray[np.float32]]
    readings: tuple[Reading, ...]
    missing: tuple[Outline, ...] = field(default=())


def _project(
    dataset: Dataset, chosen: Chosen, canvas: Canvas, outlines: Iterable[Outline], *, every_time: bool
) -> list[Block]:
    missing = dataset.spimdata.missing or frozenset()
    blocks = []
    times = chosen.times if every_time else chosen.times[:1]
    n_blocks = max(1, len(times) * len(chosen.channels))
    for time in times:
        for channel in chosen.channels:
            its = [
                view
                for view in chosen.views
                if view.time == time and chosen.channel_of[view.setup] == channel
            ]
            if not its:
                continue
            there = [
                View(dataset, view) for view in its if view not in missing and dataset.container.has(view)
            ]
            scale = there[0]._world_unit if there else 1.0
            pictures, readings = project(there, canvas, scale, _MOST_PIXELS // n_blocks)
            blocks.append(
                Block(
                    channel=channel,
                    time=time,
                    pictures=pictures,
                    readings=tuple(readings),
                    missing=tuple(
                        o for o in outlines if o.missing and o.time == time and o.channel == channel
                    ),
                )
            )
    return blocks


def _contrasts(
    blocks: Sequence[Block], percentiles: tuple[float, float]
) -> dict[str, tuple[float, float] | None]:
    channels = dict.fromkeys(block.channel for block in blocks)
    return {
        channel: limits(
            (picture for block in blocks if block.channel == channel for picture in block.pictures.values()),
            percentiles,
        )
        for channel in channels
    }


def _scaled(picture: NDArray[np.float32], contrast: tuple[float, float] | None) -> NDArray[np.float32]:
    """Return a picture from 0 to 1, NaN where no view is."""
    low, high = contrast or (0.0, 1.0)
    found: NDArray[np.float32] = np.clip((picture - low) / (high - low), 0, 1)
    return found


def _composite(
    blocks: Sequence[Block], contrasts: Mapping[str, tuple[float, float] | None], chosen: Chosen
) -> dict[Plane, NDArray[np.float32]] | None:
    """Return what lies under the layout: the brightest of all channels at the first time point."""
    first = [block for block in blocks if block.time == chosen.times[0]]
    if not any(contrasts[block.channel] for block in first):
        return None
    return {
        plane: np.fmax.reduce([_scaled(block.pictures[plane], contrasts[block.channel]) for block in first])
        for plane in PLANES
    }


# -- drawing ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arranged:
    """Where blocks stand."""

    columns: int
    rows: int
    inches: tuple[float, float, float]

    @classmethod
    def of(cls, blocks: Sequence[Block], canvas: Canvas, chosen: Chosen) -> _Arranged:
        columns = len(chosen.channels) if len(chosen.times) > 1 else min(len(blocks), 4)
        columns = max(1, min(columns, 6))
        side = _SIDES[min(columns, len(_SIDES)) - 1]
        inches = layouts.load_figure().sides(canvas, (side, side), _GAP)
        return cls(columns=columns, rows=-(-len(blocks) // columns), inches=inches)

    @property
    def block(self) -> tuple[float, float]:
        width, height, depth = self.inches
        return max(width + depth + _GAP, 1.8), height + depth + _GAP

    @property
    def width(self) -> float:
        return max(3.4, 2 * _SIDE + self.columns * (self.block[0] + _BETWEEN) - _BETWEEN)

    @property
    def height(self) -> float:
        return _TITLE + self.rows * (self.block[1] + _HEAD) + _SIDE


def _draw_blocks(
    paper: Picture,
    arranged: _Arranged,
    scene: Scene,
    blocks: Sequence[Block],
    contrasts: Mapping[str, tuple[float, float] | None],
    chosen: Chosen,
    canvas: Canvas,
    top: float,
) -> None:
    figure = layouts.load_figure()
    paper.say(
        _SIDE, top + 0.14, f"{scene.name}: maximum projections", fontsize=figure.LARGE, fontweight="bold"
    )
    paper.say(_SIDE, top + 0.36, _from_what(blocks, chosen), fontsize=figure.SMALL, color=figure.GREY)
    across, down = arranged.block
    for number, block in enumerate(blocks):
        row, column = divmod(number, arranged.columns)
        left = _SIDE + column * (across + _BETWEEN)
        above = top + _TITLE + row * (down + _HEAD)
        contrast = contrasts[block.channel]
        named = [f"channel {block.channel}"] if block.channel and len(chosen.places) > 1 else []
        named += [f"time point {block.time}"] if chosen.all_times > 1 else []
        paper.say(left, above, ", ".join(named) or "all views")
        words = "no pixels" if contrast is None else f"{contrast[0]:.5g} to {contrast[1]:.5g}"
        if contrast is not None and not block.readings:
            words = "missing"
        paper.say(left, above + 0.19, words, fontsize=figure.SMALL, color=figure.GREY)
        panels = figure.three_panels(paper, left, above + 0.42, arranged.inches, _GAP)
        colours = figure.ramp(chosen.colour(block.channel))
        for plane, axes in panels.items():
            axes.set_facecolor("#2a2a2a")
            figure.show(axes, plane, canvas, _scaled(block.pictures[plane], contrast), colours)
            axes.set(xticks=[], yticks=[])
            for outline in block.missing:
                axes.fill(
                    *zip(*outline.polygon(plane), strict=True),
                    fill=False,
                    edgecolor="#bbbbbb",
                    linestyle=(0, (3, 2)),
                    lw=1,
                )
        figure.scale_bar(panels["xy"], canvas.box.size_xyz[0], scene.unit)


def _from_what(blocks: Sequence[Block], chosen: Chosen) -> str:
    """Say what was read."""
    readings = [reading for block in blocks for reading in block.readings]
    levels = sorted({reading.level.index for reading in readings})
    said = []
    if levels:
        said.append(f"level {levels[0]}" if len(levels) == 1 else f"levels {levels[0]} to {levels[-1]}")
    steps = sorted({reading.step for reading in readings if reading.step > 1})
    if steps:
        said.append(f"of some views each {steps[-1]}th plane only")
    if len(chosen.times) < chosen.all_times:
        said.append(f"{len(chosen.times)} of {chosen.all_times} time points")
    missing = sum(len(block.missing) for block in blocks)
    if missing:
        said.append(f"dashed: {missing} missing view{'s' if missing > 1 else ''}")
    return "; ".join(said) or "nothing was recorded"
