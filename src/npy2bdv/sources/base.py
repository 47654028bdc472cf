"""What a source of pixels is: views to choose from, planes to read."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npy2bdv.errors import ClosedError, InvalidInputError, InvalidTypeError, MissingKeyError, OutOfRangeError
from npy2bdv.handle import Handle
from npy2bdv.model.pyramid import Zyx
from npy2bdv.model.units import unit_name

_INTEGERS = [f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)]
_PIXEL_TYPES = (*_INTEGERS, "float32", "float64")
_INSTEAD = {"bool": "uint8", "float16": "float32", "float128": "float64", "longdouble": "float64"}
_WITHOUT_AXES = {2: "yx", 3: "zyx", 5: "tczyx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceView:
    """One stack that can be read from a source.

    Parameters
    ----------
    time, channel, tile, angle, illumination
        Which stack this is: labels (text), or ids (integers). Channels are named as in the file, or "0", "1", ...
        if names lack or repeat.
    shape
        Size (z, y, x), in pixels.
    dtype
        Pixel type, in the byte order of this machine.
    voxel_size_xyz
        Size of a voxel (x, y, z); (1, 1, 1) where the source does not say.
    unit
        Unit of the voxel size; "px" where the source does not say.
    position_xyz
        Where the stack lies (x, y, z), in `unit`, as the stage or the file has it; None where the source does not
        say.
    """

    time: int
    channel: int | str
    tile: int | str
    angle: int | str = 0
    illumination: int | str = 0
    shape: Zyx
    dtype: np.dtype[Any]
    voxel_size_xyz: tuple[float, float, float]
    unit: str
    position_xyz: tuple[float, float, float] | None = None

    @property
    def setup(self) -> tuple[int | str, ...]:
        """What it has in common with the stacks of other time points."""
        return self.tile, self.channel, self.angle, self.illumination


class Source(Handle):
    """Stacks that can be read plane by plane; a context manager. Use it from one thread at a time.

    Attributes
    ----------
    views
        The stacks there are: by tile, then time, then channel.
    notes
        What a person should know of how the source was understood, in sentences.
    """

    def __init__(self, places: Mapping[SourceView, Any], notes: Iterable[str] = ()) -> None:
        self.views = tuple(places)
        self.notes = tuple(notes)
        self._places = dict(places)
        self._closed = False

    def read(self, view: SourceView, z0: int = 0, z1: int | None = None) -> NDArray[Any]:
        """Read planes of a view.

        Parameters
        ----------
        view
            One of `views`.
        z0, z1
            The first plane, and the one after the last; all planes if not given. Only these take memory.

        Returns
        -------
        :
            The pixels (z, y, x). They may be those of the source itself: do not write to them.
        """
        if self._closed:
            raise ClosedError("the source has been closed; open it again to read")
        if view not in self._places:
            raise MissingKeyError(f"the source has no {view}; its views are listed in .views")
        z1 = view.shape[0] if z1 is None else z1
        if not 0 <= z0 < z1 <= view.shape[0]:
            raise OutOfRangeError(f"cannot read the planes {z0} to {z1} (excluded) of {view.shape[0]}")
        return self._planes(self._places[view], z0, z1)

    def calibrate(self, voxel_size_xyz: Iterable[float] | None = None, unit: str | None = None) -> None:
        """Put another voxel size or unit in place of what the source says, in all views.

        A voxel size without a unit is in that of the source, or in micrometers where it has none.
        """
        if voxel_size_xyz is None and unit is None:
            return
        size = None if voxel_size_xyz is None else _voxel_size(voxel_size_xyz)
        self._places = {
            replace(
                view,
                voxel_size_xyz=size or view.voxel_size_xyz,
                unit=unit_name(unit) if unit else "micrometer" if size and view.unit == "px" else view.unit,
            ): place
            for view, place in self._places.items()
        }
        self.views = tuple(self._places)

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._close()

    @abstractmethod
    def _planes(self, place: Any, z0: int, z1: int) -> NDArray[Any]: ...

    @abstractmethod
    def _close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """The meaning of the axes of an array: letters of "tczyx" in any order; others where the length is 1.

    Parameters
    ----------
    names
        One letter for each axis.
    shape
        Their lengths.
    """

    names: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        names = self.names.lower()
        if len(names) != len(self.shape):
            raise InvalidInputError(
                f"axes={self.names!r} names {len(names)} axes, the array has {len(self.shape)}: {self.shape}"
            )
        if 0 in self.shape:
            raise InvalidInputError(f"the array is empty, its shape is {self.shape}; give at least one pixel")
        unknown = [a for a, n in zip(names, self.shape, strict=True) if a not in "tczyx" and n > 1]
        known = [a for a in names if a in "tczyx"]
        if unknown or len(set(known)) < len(known) or not {"y", "x"} <= set(known):
            raise InvalidInputError(
                f"the axes {self.names!r} of the shape {self.shape} are not understood: pass axes= with one "
                "letter for each axis, of t (time), c (channel), z, y, x, each at most once, y and x always"
            )
        object.__setattr__(self, "names", names)

    @classmethod
    def guess(cls, shape: tuple[int, ...]) -> Self:
        """Take 2 axes for yx, 3 for zyx, 5 for tczyx."""
        if len(shape) == 4:
            raise InvalidInputError(
                f"an array of 4 axes, {shape}, may be channels or times: pass axes='czyx' or axes='tzyx'"
            )
        if len(shape) not in _WITHOUT_AXES:
            raise InvalidInputError(
                f"an array of {len(shape)} axes, {shape}, is not understood: "
                "give 2 (yx), 3 (zyx) or 5 (tczyx) axes, or pass axes="
            )
        return cls(names=_WITHOUT_AXES[len(shape)], shape=shape)

    def length(self, name: str) -> int:
        """Length of an axis; 1 if there is none of that name."""
        return self.shape[self.names.index(name)] if name in self.names else 1

    @property
    def stack_shape(self) -> Zyx:
        """Size of one stack (z, y, x)."""
        return self.length("z"), self.length("y"), self.length("x")


def make_views(
    axes: Axes,
    *,
    dtype: DTypeLike,
    tile: int = 0,
    channels: Iterable[str] = (),
    voxel_size_xyz: tuple[float, float, float] = (1.0, 1.0, 1.0),
    unit: str = "px",
    position_xyz: tuple[float, float, float] | None = None,
) -> dict[SourceView, tuple[int, int]]:
    """List the stacks of an array, each with its place (time, channel).

    Parameters
    ----------
    axes
        Axes of the array.
    dtype
        Its type, in any byte order.
    tile
        Number of the tile that all of it belongs to.
    channels
        Names of the channels; numbers are taken if there are not as many different names as channels.
    voxel_size_xyz, unit
        Size of a voxel (x, y, z).
    position_xyz
        Where all of it lies (x, y, z), in that unit.
    """
    names = list(channels)
    if len(set(names)) != axes.length("c") or len(names) != axes.length("c"):
        names = [str(c) for c in range(axes.length("c"))]
    pixel_type = _pixel_type(dtype)
    return {
        SourceView(
            time=t,
            channel=name,
            tile=tile,
            shape=axes.stack_shape,
            dtype=pixel_type,
            voxel_size_xyz=voxel_size_xyz,
            unit=unit,
            position_xyz=position_xyz,
        ): (t, c)
        for t in range(axes.length("t"))
        for c, name in enumerate(names)
    }


def _voxel_size(given: Any) -> tuple[float, float, float]:
    try:
        sizes = tuple(map(float, given))
    except (TypeError, ValueError):
        sizes = ()
    if len(sizes) != 3 or not all(math.isfinite(s) and s > 0 for s in sizes):
        raise InvalidInputError(f"voxel_size_xyz takes three finite sizes above 0 (x, y, z); found {given!r}")
    return sizes[0], sizes[1], sizes[2]


def _pixel_type(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise InvalidTypeError(
            f"{dtype!r} is no numpy pixel type; give a numpy array: np.asarray(...)"
        ) from None
    if found.name not in _PIXEL_TYPES:
        instead = _INSTEAD.get(found.name)
        advice = (
            f"cast to {instead} first: .astype({instead!r})"
            if instead
            else f"give one of {', '.join(_PIXEL_TYPES)}"
        )
        raise InvalidTypeError(f"pixels of type {found.name} cannot be written; {advice}")
    return found.newbyteorder("=")
