"""Open a dataset and read it lazily: `Dataset` -> `View` -> `Level` -> numpy."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.errors import (
    ClosedError,
    FormatError,
    InUseError,
    InvalidInputError,
    MissingKeyError,
    OutOfRangeError,
    WriteError,
)
from npy2bdv.location import find_xml, pixel_path, read_xml
from npy2bdv.model.affine import Affine
from npy2bdv.model.slicing import read_box
from npy2bdv.model.spimdata import ATTRIBUTES, ViewId
from npy2bdv.storage import READABLE, open_container
from npy2bdv.storage.journal import Lock, journal_path

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from numpy.typing import DTypeLike, NDArray

    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.model.slicing import Index
    from npy2bdv.model.spimdata import Camera, SpimData, Triple, ViewSetup, ViewTransform
    from npy2bdv.storage.base import Container, LevelArray


logger = logging.getLogger(__name__)


def open(path: str | os.PathLike[str]) -> Dataset:  # noqa: A001
    """Open a dataset for reading. No byte on disk changes.

    Parameters
    ----------
    path
        The XML, or the pixel file (``NAME.h5``) beside it.

    Raises
    ------
    NotFoundError
        If the XML or the pixels are not there.
    FormatError
        If they are not what they should be.
    """
    path_xml = find_xml(Path(path))
    dataset = Dataset(path_xml, read_xml(path_xml))
    if dataset.unfinished:
        logger.warning("%s: %s", path_xml, dataset.unfinished)
    return dataset


class Dataset:
    """A dataset opened for reading. Pickles without its open files. Use as a context manager.

    Attributes
    ----------
    path
        The XML.
    spimdata
        All that the XML says.
    """

    def __init__(self, path: Path, spimdata: SpimData) -> None:
        self.path = path
        self.spimdata = spimdata
        self._container: Container | None = None
        self._closed = False
        if isinstance(spimdata.loader, READABLE):
            self._container = open_container(spimdata.loader, pixel_path(path, spimdata))

    @property
    def container(self) -> Container:
        """The pixels.

        Raises
        ------
        ClosedError
            If the dataset has been closed.
        FormatError
            If they lie where this version does not read.
        """
        if self._closed:
            raise ClosedError(f"{self.path} is closed; open it again: npy2bdv.open(...)")
        if self._container is None:
            pixel_path(self.path, self.spimdata)
            raise FormatError(f"{self.path} has no pixels that can be read")
        return self._container

    @property
    def unfinished(self) -> str:
        """What is to be said of a recording that goes on or was interrupted; empty where it was closed."""
        if self._container is None or not journal_path(self._container.path).is_file():
            return ""
        try:
            Lock(self._container.path).release()
        except InUseError:
            return "is being recorded; its last planes and levels are still to come"
        except WriteError:  # nothing can be locked in a folder that is read only
            return f"is being recorded, or its recording was interrupted: npy2bdv recover {self.path}"
        return f"its recording was interrupted; to mend it: npy2bdv recover {self.path}"

    # -- what is in it -----------------------------------------------------------------------------------

    @property
    def times(self) -> tuple[int, ...]:
        """Ids of the time points."""
        return self.spimdata.timepoints.ids

    @property
    def setups(self) -> tuple[int, ...]:
        """Ids of the setups."""
        return tuple(sorted(self.spimdata.setups))

    @property
    def missing_views(self) -> tuple[ViewId, ...]:
        """Views that the XML lists as missing, by time, then setup."""
        return tuple(sorted(self.spimdata.missing or ()))

    @property
    def microscope(self) -> str | None:
        """Name of the microscope, where the XML has it."""
        return self.spimdata.generated_by.microscope if self.spimdata.generated_by else None

    @property
    def user(self) -> str | None:
        """Who recorded it, where the XML has it."""
        return self.spimdata.generated_by.user if self.spimdata.generated_by else None

    def labels(self, attribute: str) -> dict[int, str]:
        """Return the labels of an attribute ("channel", "tile" ...) by id.

        Raises
        ------
        MissingKeyError
            If the dataset has no such attribute.
        """
        self._check_attributes([attribute])
        group = self.spimdata.attributes.get(attribute)
        entities = group.entities.values() if group else ()
        return {entity.id: str(entity.id) if entity.name is None else entity.name for entity in entities}

    def views(self) -> Iterator[View]:
        """Iterate over the views that are there, by time, then setup."""
        for view in self.spimdata.views():
            yield View(self, view)

    def __len__(self) -> int:
        """How many views there are."""
        return sum(1 for _ in self.spimdata.views())

    def view(
        self,
        *,
        time: int = 0,
        setup: int | None = None,
        channel: int | str | None = None,
        tile: int | str | None = None,
        angle: int | str | None = None,
        illumination: int | str | None = None,
        **attributes: int | str,
    ) -> View:
        """Return one view.

        Parameters
        ----------
        time
            Id of the time point.
        setup
            Id of the setup; or leave it out and give attributes.
        channel, tile, angle, illumination, **attributes
            A label (text) or an id (integer) each; those not given may be anything.

        Raises
        ------
        MissingKeyError
            If there is no such view or attribute, or the view is listed as missing.
        InvalidInputError
            If several setups fit; the message lists them.
        """
        wanted = {
            "channel": channel,
            "tile": tile,
            "angle": angle,
            "illumination": illumination,
            **attributes,
        }
        given = {name: label for name, label in wanted.items() if label is not None}
        self._check_attributes(given)
        if setup is None:
            setup = self._find_setup(given)
        elif given:
            raise InvalidInputError(f"give either setup={setup} or attributes ({_pairs(given)}), not both")
        self.spimdata.setup(setup)
        self.check_time(time)
        view = ViewId(time, setup)
        if view in (self.spimdata.missing or ()):
            raise MissingKeyError(
                f"time point {time} of setup {setup} is a missing view: it was never recorded"
            )
        return View(self, view)

    def check_time(self, time: int) -> None:
        """Refuse a time point that the dataset does not have.

        Raises
        ------
        MissingKeyError
            If there is none of this id.
        """
        if time not in self.times:
            raise MissingKeyError(
                f"there is no time point {time} in this dataset; it has {_range(self.times)}"
            )

    def _check_attributes(self, names: Iterable[str]) -> None:
        known = dict.fromkeys((*ATTRIBUTES, *self.spimdata.attributes))
        for name in names:
            if name not in known:
                raise MissingKeyError(
                    f"there is no attribute {name!r} in this dataset; it has {', '.join(known)}"
                )

    def _find_setup(self, given: dict[str, int | str]) -> int:
        fitting = [
            setup
            for setup in self.setups
            if all(self._fits(self.spimdata.setups[setup], name, label) for name, label in given.items())
        ]
        if len(fitting) == 1:
            return fitting[0]
        asked = _pairs(given) or "no attribute"
        if not fitting:
            known = "; ".join(f"{name}: {self.labels(name)}" for name in given)
            raise MissingKeyError(f"no setup has {asked}; this dataset has {known or 'no setups'}")
        lines = [f"  setup {setup}: {self._describe(self.spimdata.setups[setup])}" for setup in fitting[:20]]
        raise InvalidInputError(
            f"{len(fitting)} setups fit {asked}; give more attributes, or setup=:\n" + "\n".join(lines)
        )

    def _fits(self, setup: ViewSetup, attribute: str, label: int | str) -> bool:
        entity = self.spimdata.entity(attribute, setup)
        return entity is not None and label == (entity.name if isinstance(label, str) else entity.id)

    def _describe(self, setup: ViewSetup) -> str:
        entities = {name: self.spimdata.entity(name, setup) for name in (*ATTRIBUTES, *setup.attributes)}
        return _pairs({name: entity.name for name, entity in entities.items() if entity is not None})

    # -- life --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        self._closed = True
        if self._container is not None:
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Show path and counts."""
        missing = len(self.missing_views)
        return (
            f"<Dataset {self.path.name}: {len(self.times)} time points x {len(self.setups)} setups"
            f"{f', {missing} views missing' if missing else ''}>"
        )


class View:
    """One view: one setup at one time point. ``view[z0:z1]`` reads full resolution; see `level`."""

    def __init__(self, dataset: Dataset, id: ViewId) -> None:  # noqa: A002
        self.dataset = dataset
        self.id = id
        self.setup: ViewSetup = dataset.spimdata.setup(id.setup)

    @property
    def n_levels(self) -> int:
        """How many levels the pyramid has."""
        return len(self.dataset.container.factors(self.id.setup))

    def level(self, level: int = 0) -> Level:
        """Return a level of the pyramid.

        Raises
        ------
        OutOfRangeError
            If the setup has no such level.
        MissingKeyError
            If its pixels are not there.
        """
        factors = self.dataset.container.factors(self.id.setup)
        if not 0 <= level < len(factors):
            raise OutOfRangeError(
                f"there is no level {level} in setup {self.id.setup}; it has the levels 0 to {len(factors) - 1}"
            )
        return Level(self, level, factors[level])

    def levels(self) -> Iterator[Level]:
        """Iterate over the levels, full resolution first."""
        for level in range(self.n_levels):
            yield self.level(level)

    @property
    def shape(self) -> Zyx:
        """Size of level 0 (z, y, x), in pixels."""
        return self.level(0).shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        return self.level(0).dtype

    @property
    def voxel_size_xyz(self) -> Triple:
        """Size of a voxel (x, y, z) in `unit`; 1 where the XML has none."""
        return (1.0, 1.0, 1.0) if self.setup.voxel_size is None else self.setup.voxel_size.size_xyz

    @property
    def unit(self) -> str | None:
        """Unit of the voxel size."""
        return None if self.setup.voxel_size is None else self.setup.voxel_size.unit

    @property
    def camera(self) -> Camera | None:
        """Camera, exposure time and its unit, where the XML has them."""
        return self.setup.camera

    @property
    def name(self) -> str | None:
        """Name of the setup."""
        return self.setup.name

    @property
    def attributes(self) -> dict[str, str]:
        """Labels of the view's attributes: channel, tile, angle, illumination and any other."""
        named = {name: self.dataset.spimdata.entity(name, self.setup) for name in self.setup.attributes}
        return {name: entity.name or str(entity.id) for name, entity in named.items() if entity is not None}

    @property
    def transforms(self) -> tuple[ViewTransform, ...]:
        """Named transforms, outermost first (the last touches pixels first)."""
        registration = self.dataset.spimdata.registrations.get(self.id)
        return () if registration is None else registration.transforms

    @property
    def transform(self) -> Affine:
        """The transform from pixels of full resolution (x, y, z) to the world."""
        registration = self.dataset.spimdata.registrations.get(self.id)
        return Affine.identity() if registration is None else registration.total

    def __getitem__(self, index: Index | tuple[Index, ...]) -> NDArray[Any]:
        """Read pixels of level 0, as numpy would index an array (z, y, x)."""
        return self.level(0)[index]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole view."""
        return np.asarray(self[...], dtype=dtype)

    def __repr__(self) -> str:
        """Show ids and attributes."""
        return f"<View time={self.id.time} setup={self.id.setup} ({_pairs(self.attributes)})>"


class Level:
    """One level of a view: an array (z, y, x) that is read by slices. ``level[z]`` is one plane."""

    def __init__(self, view: View, level: int, factors: tuple[float, float, float]) -> None:
        self.view = view
        self.index = level
        self.factors = tuple(int(factor) if factor == int(factor) else factor for factor in factors)
        """How many pixels of full resolution one pixel spans (z, y, x)."""

    @property
    def _array(self) -> LevelArray:
        return self.view.dataset.container.level(self.view.id, self.index)

    @property
    def shape(self) -> Zyx:
        """Size (z, y, x), in pixels."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        return np.dtype(self._array.dtype)

    @property
    def chunk(self) -> Zyx:
        """Size of a chunk (z, y, x)."""
        return self._array.chunk

    @property
    def nbytes(self) -> int:
        """How many bytes the pixels take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def nbytes_on_disk(self) -> int:
        """How many bytes the pixels take on disk."""
        return self._array.nbytes_on_disk

    @property
    def compression(self) -> str:
        """How chunks are compressed, in words: "none", "gzip 1 + shuffle", "lzf" ..."""
        return self._array.compression

    @property
    def transform(self) -> Affine:
        """The transform from pixels of this level (x, y, z) to the world (formats.md 6.5)."""
        z, y, x = self.factors  # may be fractions, in files of other programs
        centre = Affine.translation(((x - 1) / 2, (y - 1) / 2, (z - 1) / 2))
        return self.view.transform @ centre @ Affine.scale((x, y, z))

    def __getitem__(self, index: Index | tuple[Index, ...]) -> NDArray[Any]:
        """Read pixels, as numpy would index an array (z, y, x) with integers and slices.

        Raises
        ------
        OutOfRangeError
            If an integer lies outside.
        """
        array = self._array
        region, inner = read_box(index, array.shape)
        return array.read(region)[inner]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole level."""
        return np.asarray(self[...], dtype=dtype)

    def __repr__(self) -> str:
        """Show where it belongs."""
        return f"<Level {self.index} of {self.view!r}, factors zyx {self.factors}>"


def _pairs(attributes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={label!r}" for name, label in attributes.items())


def _range(ids: Sequence[int]) -> str:
    return (
        "none" if not ids else f"{ids[0]}" if len(ids) == 1 else f"{ids[0]} to {ids[-1]} ({len(ids)} in all)"
    )
