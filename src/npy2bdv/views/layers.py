"""Layers for napari, made without napari: what `viewer.add_image` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.views.shown import all_shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from npy2bdv.dataset import Dataset
    from npy2bdv.model.affine import Affine
    from npy2bdv.view import View

LayerData = tuple[list["TimeSeries"], dict[str, Any], str]


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
    return [
        (
            [TimeSeries(each.views, level) for level in range(each.view.n_levels)],
            {
                "name": each.name,
                "multiscale": True,
                "affine": _matrix(each.transform, each.first_time),
                "axis_labels": ("t", "z", "y", "x"),
                "units": ("pixel", each.unit, each.unit, each.unit),
                "colormap": each.color,
                "blending": "additive",
                "contrast_limits": each.contrast,
                "metadata": {
                    "setup": each.setup,
                    "first_time": each.first_time,
                    "attributes": each.view.attributes,
                },
            },
            "image",
        )
        for each in all_shown(dataset)
    ]


def _matrix(transform: Affine, start: int) -> NDArray[np.float64]:
    """Return the affine over (t, z, y, x, 1)."""
    matrix = np.eye(5)
    xyz = np.asarray(transform)
    matrix[1:4, 1:4] = xyz[::-1, 2::-1]
    matrix[1:4, 4] = xyz[::-1, 3]
    matrix[0, 4] = start
    return matrix
