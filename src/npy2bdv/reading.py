"""Where the pixels of a resave come from, and what is made of them on the way: values that workers take along."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from npy2bdv.dataset import Dataset
from npy2bdv.errors import InvalidInputError, InvalidTypeError
from npy2bdv.location import read_xml
from npy2bdv.model.spimdata import ViewId
from npy2bdv.sources import open_source
from npy2bdv.storage.remote import stamp_of
from npy2bdv.storage.servers import RemotePath, place_of
from npy2bdv.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.sources import Source
    from npy2bdv.sources.arrays import ArrayLike

Casting = Literal["refuse", "clip", "scale"]
CASTINGS: tuple[Casting, ...] = ("refuse", "clip", "scale")


class Opened(Protocol):
    """What is open, and gives planes."""

    def planes(self, key: Any, start: int, stop: int, region: tuple[slice, slice]) -> NDArray[Any]:
        """Return planes start to stop of a stack, and of each the region (y, x)."""
        ...


class Origin(Protocol):
    """What can be opened wherever a task is carried out. Pickles."""

    def open(self) -> AbstractContextManager[Opened]:
        """Open it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOrigin:
    """Another dataset. `stamp` is the time of change and the size of its XML."""

    path: Path
    stamp: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> DatasetOrigin:
        """Return what is at a path, by the folder that all workers see."""
        return cls(path=path.absolute(), stamp=stamp_of(path))

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenedDataset]:
        """Open it; a worker reads its XML once."""
        with Dataset(self.path, _described(self.path, self.stamp)) as dataset:
            yield OpenedDataset(dataset)


@lru_cache(maxsize=2)
def _described(path: Path, stamp: tuple[int, int]) -> SpimData:
    return read_xml(path)


class OpenedDataset:
    """An open dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def planes(self, key: Any, start: int, stop: int, region: tuple[slice, slice]) -> NDArray[Any]:
        """Return planes of a view, whose id is the key."""
        found: NDArray[Any] = View(self._dataset, ViewId(*key))[start:stop, region[0], region[1]]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOrigin:
    """Files or an array: what `open_source` takes."""

    source: str | Path | ArrayLike
    axes: str | None

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenedSource]:
        """Open it."""
        with open_source(self.source, axes=self.axes) as source:
            yield OpenedSource(source)


class OpenedSource:
    """An open source."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def planes(self, key: Any, start: int, stop: int, region: tuple[slice, slice]) -> NDArray[Any]:
        """Return planes of a stack, whose number is the key."""
        return self._source.read(self._source.views[key], start, stop)[:, region[0], region[1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelsOrigin:
    """Planes of one stack that travel with a task; `first` is the number of the first in that stack."""

    pixels: NDArray[Any]
    first: int

    @contextlib.contextmanager
    def open(self) -> Iterator[PixelsOrigin]:
        """Nothing has to be opened."""
        yield self

    def planes(self, key: Any, start: int, stop: int, region: tuple[slice, slice]) -> NDArray[Any]:
        """Return planes of the stack."""
        found: NDArray[Any] = self.pixels[start - self.first : stop - self.first, region[0], region[1]]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How pixels get another type.

    Attributes
    ----------
    dtype
        What they become.
    casting
        "refuse": an error where a value does not fit; "clip": the nearest value that there is (not a number: 0);
        "scale": `low` to `high` become the whole range of the new type (of floats: 0 to 1), and what is beyond is
        clipped.
    """

    dtype: np.dtype[Any]
    casting: Casting
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def between(
        cls,
        source: np.dtype[Any],
        target: np.dtype[Any],
        casting: Casting,
        value_range: tuple[float, float] | None,
    ) -> Conversion | None:
        """Return how one type becomes another; None where there is nothing to do.

        Raises
        ------
        InvalidInputError
            If floats are to be scaled, and it is not said from what.
        """
        if casting not in CASTINGS:
            raise InvalidInputError(
                f"casting={casting!r} is not known; there are 'refuse', 'clip' and 'scale'"
            )
        if value_range is not None:
            if casting != "scale":
                raise InvalidInputError("value_range= is for casting='scale'; leave it out, or scale")
            low, high = map(float, value_range)
            if not (np.isfinite([low, high]).all() and low < high):
                raise InvalidInputError(
                    f"value_range={value_range!r} is no range: give (low, high), finite, low below high"
                )
            return cls(dtype=target, casting=casting, low=low, high=high)
        if source == target:
            return None
        if casting != "scale":
            return cls(dtype=target, casting=casting)
        if source.kind == "f":
            raise InvalidInputError(
                f"pixels of {source} have no range of their own that could be scaled to {target}: give "
                "value_range=(low, high)"
            )
        about = np.iinfo(source)
        return cls(dtype=target, casting=casting, low=float(about.min), high=float(about.max))

    def apply(self, pixels: NDArray[Any], where: str) -> NDArray[Any]:
        """Return pixels of the new type.

        Raises
        ------
        InvalidTypeError
            If a value does not fit and is to be refused.
        """
        if self.casting == "scale":
            pixels = (pixels.astype(np.float64) - self.low) / (self.high - self.low)
            pixels = np.clip(pixels, 0, 1)
            if self.dtype.kind == "f":
                return pixels.astype(self.dtype)
            about = np.iinfo(self.dtype)
            pixels = pixels * (float(about.max) - float(about.min)) + float(about.min)
            return _clipped(pixels, self.dtype)
        if np.can_cast(pixels.dtype, self.dtype, "safe"):
            return pixels.astype(self.dtype)
        if self.casting == "clip":
            return _clipped(pixels, self.dtype)
        with np.errstate(all="ignore"):
            cast = pixels.astype(self.dtype)
            same = cast.astype(pixels.dtype) == pixels
        if pixels.dtype.kind in "iu" and self.dtype.kind in "iu":
            same &= (cast < 0) == (pixels < 0)
        elif pixels.dtype.kind == "f" and self.dtype.kind == "f":  # rounding is no loss of what was measured
            same = np.isfinite(cast) | ~np.isfinite(pixels)
        if not same.all():
            value = pixels[~same].flat[0]
            raise InvalidTypeError(
                f"{where}: the value {value} is none of {self.dtype}; choose another dtype, or say what to do with "
                "such values: casting='clip' or casting='scale'"
            )
        return cast


def _clipped(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the nearest values that a type has."""
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        if pixels.dtype.kind == "f":
            inside = np.clip(pixels, float(limits.min), float(limits.max))
            pixels = np.where(np.isfinite(pixels), inside, pixels)
        return pixels.astype(dtype)
    about = np.iinfo(dtype)
    if pixels.dtype.kind in "iu":
        old = np.iinfo(pixels.dtype)
        low, high = max(about.min, old.min), min(about.max, old.max)
        clipped: NDArray[Any] = np.clip(pixels, pixels.dtype.type(low), pixels.dtype.type(high))
        return clipped.astype(dtype)
    rounded = np.rint(np.nan_to_num(pixels.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = (rounded > about.min) & (rounded < float(about.max))
    cast = np.where(inside, rounded, 0).astype(dtype)
    cast[rounded >= float(about.max)] = about.max
    cast[rounded <= about.min] = about.min
    return cast


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the planes of one view of the new dataset are read.

    Attributes
    ----------
    origin, key
        Where from, and which stack of it.
    region
        What of the stack (z, y, x).
    conversion
        What becomes of the pixel type.
    what
        What the stack is called in messages.
    itemsize
        Bytes of a pixel that is read.
    """

    origin: Origin
    key: Any
    region: Region
    conversion: Conversion | None
    what: str
    itemsize: int

    @property
    def shape(self) -> Zyx:
        """Size of the view (z, y, x)."""
        z, y, x = (side.stop - side.start for side in self.region)
        return z, y, x

    def planes(self, opened: Opened, start: int, stop: int) -> NDArray[Any]:
        """Return planes start to stop of the view."""
        z, y, x = self.region
        pixels = opened.planes(self.key, z.start + start, z.start + stop, (y, x))
        if self.conversion is None:
            return pixels
        return self.conversion.apply(pixels, f"{self.what}, planes {start} to {stop - 1}")

    def travelling(self, start: int, stop: int) -> Reading:
        """Return how another process reads planes start to stop: an array in memory goes with its task, in parts."""
        if not (isinstance(self.origin, SourceOrigin) and isinstance(self.origin.source, np.ndarray)):
            return self
        z = self.region[0]
        first, last = z.start + start, z.start + stop
        with self.origin.open() as opened:
            pixels = opened.planes(self.key, first, last, (slice(None), slice(None)))
        return replace(self, origin=PixelsOrigin(pixels=np.ascontiguousarray(pixels), first=first))


def fingerprint(source: str | os.PathLike[str] | ArrayLike) -> str:
    """Say of a source as much as tells whether it is the same when a resave is resumed."""
    if isinstance(source, (str, os.PathLike)):
        place = place_of(source)
        if isinstance(place, RemotePath):
            return f"{place} {stamp_of(place) if place.suffix == '.xml' else ''}"
        path = os.path.abspath(source)
        try:
            about = os.stat(path)
        except OSError:  # a pattern of files, say
            return path
        return f"{path} {about.st_size} {about.st_mtime_ns}"
    return f"{type(source).__name__} {tuple(source.shape)} {np.dtype(source.dtype).str}"
