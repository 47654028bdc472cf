"""Arrays in memory, or anything that slices like one, as a source."""

from bisect import bisect_right
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npy2bdv.sources.base import Axes, Source, make_views
from npy2bdv.sources.labels import Labels

_ROW_BYTES = 512 * 2**20


class ArrayLike(Protocol):
    """What is taken for an array: numpy, dask, zarr, h5py and others."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> Any:
        """Pixel type."""

    def __getitem__(self, key: tuple[int | slice, ...], /) -> Any:
        """Give a part."""


class ArraySource(Source):
    """Reads stacks from an array.

    Parameters
    ----------
    array
        The pixels; only the planes asked for are taken from it.
    axes
        One letter of "tczyx" for each axis, in any order. If not given: 2 axes are yx, 3 zyx, 5 tczyx.
    labels
        What else is known of it.

    Notes
    -----
    Where the array says what its blocks are (``chunks``: dask, zarr, h5py), as many planes as one row of blocks has
    are taken at once and kept until others are asked for, if they take at most 512 MiB: no block is computed or
    decoded twice.
    """

    def __init__(self, array: ArrayLike, *, axes: str | None = None, labels: Labels | None = None) -> None:
        shape = tuple(map(int, array.shape))
        self._axes = Axes.guess(shape) if axes is None else Axes(names=axes, shape=shape)
        self._array = array
        known = labels or Labels()
        views = make_views(
            self._axes,
            dtype=array.dtype,
            channels=known.channels,
            voxel_size_xyz=known.voxel_size_xyz,
            unit=known.unit,
            position_xyz=known.position_xyz,
        )
        self._rows = _rows(getattr(array, "chunks", None), self._axes)
        self._row: tuple[Any, int, NDArray[Any]] | None = None
        """The planes that were read last: of which stack, from which z on."""
        super().__init__(views, known.notes)

    def _planes(self, place: Any, z0: int, z1: int) -> NDArray[Any]:
        k = bisect_right(self._rows, z0) - 1
        if k < 0 or z1 > self._rows[k + 1]:
            return self._taken(place, z0, z1)
        first, last = self._rows[k : k + 2]
        _, y, x = self._axes.stack_shape
        if (first, last) == (z0, z1) or (last - first) * y * x * self._array.dtype.itemsize > _ROW_BYTES:
            return self._taken(place, z0, z1)
        if self._row is None or self._row[:2] != (place, first):
            self._row = None  # two rows are never there at once
            self._row = place, first, self._taken(place, first, last)
        return self._row[2][z0 - first : z1 - first]

    def _taken(self, place: Any, z0: int, z1: int) -> NDArray[Any]:
        """Take planes from the array."""
        time, channel = place
        wanted = {"t": time, "c": channel, "z": slice(z0, z1), "y": slice(None), "x": slice(None)}
        block = np.asarray(self._array[tuple(wanted.get(name, 0) for name in self._axes.names)])
        left = [name for name in self._axes.names if name in "zyx"]
        if "z" not in left:
            block, left = block[None], ["z", *left]
        block = block.transpose([left.index(name) for name in "zyx"])
        return np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))

    def _close(self) -> None:
        self._row = None
        del self._array


def _rows(chunks: Any, axes: Axes) -> list[int]:
    """Return where rows of blocks begin along z, and where the last one ends; nothing if that is not known."""
    if "z" not in axes.names or not isinstance(chunks, tuple) or len(chunks) != len(axes.names):
        return []
    depths, n_planes = chunks[axes.names.index("z")], axes.length("z")
    if isinstance(depths, tuple):  # dask: the length of each block
        return [0, *accumulate(map(int, depths))]
    return [*range(0, n_planes, int(depths)), n_planes] if isinstance(depths, int) and depths > 0 else []
