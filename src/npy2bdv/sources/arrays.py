"""Arrays in memory, or anything that slices like one, as a source."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npy2bdv.sources.base import Axes, Source, make_views


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
    """

    def __init__(self, array: ArrayLike, *, axes: str | None = None) -> None:
        shape = tuple(map(int, array.shape))
        self._axes = Axes.guess(shape) if axes is None else Axes(names=axes, shape=shape)
        self._array = array
        super().__init__(make_views(self._axes, dtype=array.dtype))

    def _planes(self, place: Any, z0: int, z1: int) -> NDArray[Any]:
        time, channel = place
        wanted = {"t": time, "c": channel, "z": slice(z0, z1), "y": slice(None), "x": slice(None)}
        block = np.asarray(self._array[tuple(wanted.get(name, 0) for name in self._axes.names)])
        left = [name for name in self._axes.names if name in "zyx"]
        if "z" not in left:
            block, left = block[None], ["z", *left]
        block = block.transpose([left.index(name) for name in "zyx"])
        return np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))

    def _close(self) -> None:
        del self._array
