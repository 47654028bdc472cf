"""What is shown of a dataset wherever it is shown: setups over time, named, coloured, with a contrast."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import ViewId
from npy2bdv.model.units import length_name
from npy2bdv.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from npy2bdv.dataset import Dataset

COLORS = ("green", "magenta", "cyan", "yellow", "red", "blue")
# A coarsest level may still be large: of more pixels only planes spread over z are looked at.
_LOOKED_AT = 2**22
_VIEWS_LOOKED_AT = 8
_PERCENTILES = (1.0, 99.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A setup over a run of time points in which its transform stays the same.

    Attributes
    ----------
    setup
        Its id.
    first_time
        Which of the dataset's time points is the first of the run, counted from 0.
    views
        The views; None where one is missing.
    name, color
        Its name; the name of its colour: "gray" where there is one channel only.
    contrast
        Which values are black and bright: the same for all tiles of a channel.
    transform
        From pixels (x, y, z), whose centres are whole numbers, to the world in `unit`.
    unit
        A length by its NGFF name, or "pixel".
    """

    setup: int
    first_time: int
    views: tuple[View | None, ...]
    name: str
    color: str
    contrast: tuple[float, float]
    transform: Affine
    unit: str

    @property
    def view(self) -> View:
        """The first view that is not missing."""
        return next(view for view in self.views if view is not None)


def all_shown(dataset: Dataset) -> list[Shown]:
    """Return what a dataset shows, in the order of setups. Coarse levels are read, for the contrast."""
    missing = dataset.spimdata.missing or ()
    channels = list(dataset.labels("channel"))
    names, contrasts = _names(dataset), _contrasts(dataset)
    found = []
    for number in dataset.setups:
        ids = [ViewId(time, number) for time in dataset.times]
        runs = list(_runs([None if each in missing else View(dataset, each) for each in ids]))
        channel = dataset.spimdata.entity("channel", dataset.spimdata.setup(number))
        place = channels.index(channel.id) if channel is not None and channel.id in channels else 0
        for start, run in runs:
            view = next(each for each in run if each is not None)
            unit, size = _unit(view)
            name = names[number]
            found.append(
                Shown(
                    setup=number,
                    first_time=start,
                    views=tuple(run),
                    name=name if len(runs) == 1 else f"{name}, t {start} to {start + len(run) - 1}",
                    color="gray" if len(channels) < 2 else COLORS[place % len(COLORS)],
                    contrast=contrasts[_channel(view)],
                    transform=Affine.scale((size, size, size)) @ view.transform,
                    unit=unit,
                )
            )
    return found


def _runs(views: Sequence[View | None]) -> Iterator[tuple[int, list[View | None]]]:
    """Cut time where the transform changes; a missing view goes with what is before it, or after it at the start."""
    known = next((view for view in views if view is not None), None)
    if known is None:
        return
    keys, last = [], known.transform
    for view in views:
        last = last if view is None else view.transform
        keys.append(last)
    for _, run in groupby(range(len(views)), key=keys.__getitem__):
        times = list(run)
        yield times[0], [views[time] for time in times]


def _unit(view: View) -> tuple[str, float]:
    """Return the unit that a viewer is told, and how large a unit of the world is in it."""
    unit = None if view.unit is None else length_name(view.unit)
    return ("pixel", 1.0) if unit is None else (unit, view._world_unit)


def _names(dataset: Dataset) -> dict[int, str]:
    """Return the name of each setup's layer: its own, or the labels in which setups differ."""
    labels = {number: dataset.spimdata.labels_of(setup) for number, setup in dataset.spimdata.setups.items()}
    keys = dict.fromkeys(key for each in labels.values() for key in each)
    differ = [key for key in keys if len({each.get(key) for each in labels.values()}) > 1]
    names = {}
    for number, setup in dataset.spimdata.setups.items():
        own = setup.name if setup.name and setup.name != f"setup {number}" else ""
        words = ", ".join(f"{key} {labels[number][key]}" for key in differ if key in labels[number])
        names[number] = own or words or f"setup {number}"
    return names


def _contrasts(dataset: Dataset) -> dict[int | None, tuple[float, float]]:
    """Return limits for each channel, the same for its tiles so that no seams appear: of a few of its views."""
    firsts: dict[int, View] = {}
    for view in dataset:
        firsts.setdefault(view.id.setup, view)
    views: dict[int | None, list[View]] = {}
    for view in firsts.values():
        views.setdefault(_channel(view), []).append(view)
    found: dict[int | None, tuple[float, float]] = {}
    for channel, its in views.items():
        some = its[:: -(-len(its) // _VIEWS_LOOKED_AT)]
        lows, highs = zip(*map(_contrast, some), strict=True)
        found[channel] = min(lows), max(highs)
    return found


def _channel(view: View) -> int | None:
    entity = view.dataset.spimdata.entity("channel", view.setup)
    return None if entity is None else entity.id


def _contrast(view: View) -> tuple[float, float]:
    """Return percentiles of the coarsest level, of which a bounded part is read."""
    level = view.level(view.n_levels - 1)
    depth, height, width = level.shape
    n = max(1, min(depth, _LOOKED_AT // max(1, height * width)))
    planes = np.unique(np.linspace(0, depth - 1, n).round().astype(int))
    pixels = np.concatenate([np.ravel(level[int(z)]) for z in planes])
    pixels = pixels[np.isfinite(pixels)]
    if not pixels.size:
        return 0.0, 1.0
    low, high = map(float, np.percentile(pixels, _PERCENTILES))
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))
