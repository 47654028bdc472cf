"""Layers for napari, made without napari: what `viewer.add_image` takes."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.model.spimdata import ViewId
from npy2bdv.model.units import length_name
from npy2bdv.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from npy2bdv.dataset import Dataset
    from npy2bdv.model.affine import Affine

LayerData = tuple[list["TimeSeries"], dict[str, Any], str]

_COLORS = ("green", "magenta", "cyan", "yellow", "red", "blue")
# A coarsest level may still be large: of more pixels only planes spread over z are looked at.
_LOOKED_AT = 2**22
_VIEWS_LOOKED_AT = 8
_PERCENTILES = (1.0, 99.8)


class TimeSeries:
    """One level of one setup over time: an array (t, z, y, x) that is read when it is indexed.

    Views that are missing are zeros. It refers to the dataset, which so stays open while a layer lives.

    Attributes
    ----------
    shape, dtype, ndim, size
        As of an array.
    owner
        What has to live as long as this does.
    """

    ndim = 4

    def __init__(self, views: Sequence[View | None], level: int) -> None:
        first = next(view for view in views if view is not None).level(level)
        self._views, self._level = tuple(views), level
        self.owner: object = None
        self.shape = (len(views), *first.shape)
        self.dtype = first.dtype
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read (t, z, y, x) by integers and slices."""
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in index:
            at = index.index(Ellipsis)
            index = (*index[:at], *[slice(None)] * (self.ndim - len(index) + 1), *index[at + 1 :])
        first, rest = index[0], index[1:]
        if isinstance(first, slice):
            times = range(*first.indices(len(self)))
            if not times:
                return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
            return np.stack([self._read(time, rest) for time in times])
        return self._read(int(first), rest)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        whole: NDArray[Any] = self[:].astype(dtype or self.dtype, copy=False)
        return whole

    def _read(self, time: int, index: tuple[Any, ...]) -> NDArray[Any]:
        view = self._views[time]
        if view is None:
            # one number, shown as many: a missing view takes no memory
            nothing: NDArray[Any] = np.broadcast_to(np.zeros((), self.dtype), self.shape[1:])[index]
            return nothing
        pixels: NDArray[Any] = view.level(self._level)[index]
        return pixels


def napari_layers(dataset: Dataset) -> list[LayerData]:
    """Return multi-scale image layers for napari: one for each setup (channel of a tile at an angle ...).

    napari is not imported. Nothing but a coarse level is read, for the contrast. The dataset has to stay open
    while the layers are used.

    Parameters
    ----------
    dataset
        The dataset.

    Returns
    -------
    :
        For each layer its levels (t, z, y, x), the arguments of ``viewer.add_image``, and ``"image"``. The affine
        maps (t, z, y, x) to the world: t counts the dataset's time points from 0, lengths are in the unit that
        the layer names, which is that of the voxel size, or pixels where this is not a length. Views that are
        missing are zeros. Where transforms change with time, a setup has a layer for each run of time points
        with the same transform.

    Examples
    --------
    >>> import numpy as np, npy2bdv, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xml = npy2bdv.resave(np.ones((3, 4, 5), "uint16"), f"{folder}/scan.xml")
    ...     with npy2bdv.open(xml) as dataset:
    ...         ((levels, arguments, kind),) = npy2bdv.napari_layers(dataset)
    ...         levels[0].shape, arguments["axis_labels"], kind
    ((1, 3, 4, 5), ('t', 'z', 'y', 'x'), 'image')
    """
    missing = dataset.spimdata.missing or ()
    channels = list(dataset.labels("channel"))
    names, contrasts = _names(dataset), _contrasts(dataset)
    layers: list[LayerData] = []
    for number in dataset.setups:
        ids = [ViewId(time, number) for time in dataset.times]
        views = [None if each in missing else View(dataset, each) for each in ids]
        runs = list(_runs(views))
        channel = dataset.spimdata.entity("channel", dataset.spimdata.setup(number))
        place = channels.index(channel.id) if channel is not None and channel.id in channels else 0
        for start, run in runs:
            view = next(each for each in run if each is not None)
            levels = [TimeSeries(run, level) for level in range(view.n_levels)]
            unit, size = _unit(view)
            name = names[number]
            arguments = {
                "name": name if len(runs) == 1 else f"{name}, t {start} to {start + len(run) - 1}",
                "multiscale": True,
                "affine": _matrix(view.transform, start, size),
                "axis_labels": ("t", "z", "y", "x"),
                "units": ("pixel", unit, unit, unit),
                "colormap": "gray" if len(channels) < 2 else _COLORS[place % len(_COLORS)],
                "blending": "additive",
                "contrast_limits": contrasts[_channel(view)],
                "metadata": {"setup": number, "first_time": start, "attributes": view.attributes},
            }
            layers.append((levels, arguments, "image"))
    return layers


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


def _matrix(transform: Affine, start: int, size: float) -> NDArray[np.float64]:
    """Return the affine over (t, z, y, x, 1)."""
    matrix = np.eye(5)
    xyz = np.asarray(transform) * size
    matrix[1:4, 1:4] = xyz[::-1, 2::-1]
    matrix[1:4, 4] = xyz[::-1, 3]
    matrix[0, 4] = start
    return matrix


def _unit(view: View) -> tuple[str, float]:
    """Return the unit that napari is told, and how large a unit of the world is in it."""
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
