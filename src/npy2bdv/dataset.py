"""Open a dataset and read it lazily: `Dataset` -> `View` -> `Level` -> numpy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import numpy as np

from npy2bdv import xml
from npy2bdv.errors import FormatError, InvalidInputError, MissingKeyError, NotFoundError, OutOfRangeError
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import ATTRIBUTES, Hdf5Loader, ViewId
from npy2bdv.storage import FORMATS, open_container

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from types import EllipsisType, TracebackType
    from typing import Self, TypeAlias

    from numpy.typing import DTypeLike, NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import Camera, SpimData, Triple, ViewSetup, ViewTransform
    from npy2bdv.storage.base import Container, LevelArray

    Index: TypeAlias = int | slice | EllipsisType


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
    return Dataset(path_xml, read_xml(path_xml))


def find_xml(path: Path) -> Path:
    """Return the XML of a dataset that is named by its XML or its pixels.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If the name has another suffix.
    """
    suffix = path.suffix.lower()
    if suffix != ".xml" and not any(suffix in card.suffixes for card in FORMATS.values()):
        raise InvalidInputError(
            f"{path.name!r} names no dataset: give its XML (NAME.xml) or its pixels (NAME.h5)"
        )
    path_xml = path if suffix == ".xml" else path.with_suffix(".xml")
    if not path_xml.is_file():
        beside = "" if suffix == ".xml" else f" beside {path.name}"
        raise NotFoundError(f"there is no XML {path_xml}{beside}; a dataset is opened by its XML")
    return path_xml


def read_xml(path_xml: Path) -> SpimData:
    """Return what an XML file says."""
    return xml.parse(path_xml.read_bytes(), source=str(path_xml))


def pixel_path(path_xml: Path, data: SpimData) -> Path:
    """Return the file that an XML names for its pixels.

    Raises
    ------
    FormatError
        If the XML names no loader that this version reads.
    NotFoundError
        If the file is not there.
    """
    loader = data.loader
    if not isinstance(loader, Hdf5Loader):
        named = "no image loader" if loader is None else f"the image loader {loader.format!r}"
        raise FormatError(
            f"{path_xml} names {named}; pixels are read from "
            + ", ".join(repr(card.loader) for card in FORMATS.values())
        )
    base = data.base_path.text
    for text in (unquote(base), base):  # a URI, so perhaps percent-encoded (formats.md 1.3)
        path = _resolve(_resolve(path_xml.parent, text), loader.path.text)
        if path.is_file():
            return path
    raise NotFoundError(
        f"{path_xml} names the pixel file {path}, which is not there; put it there, or correct "
        "<hdf5> in the XML"
    )


def _resolve(folder: Path, text: str) -> Path:
    """Return a path that an XML names. One without a type counts as relative, though not for Java."""
    is_uri = text.startswith("file:")
    return Path(url2pathname(urlsplit(text).path)) if is_uri else folder / text.replace("\\", "/")


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
        if isinstance(spimdata.loader, Hdf5Loader):
            self._container = open_container("hdf5", pixel_path(path, spimdata))

    @property
    def container(self) -> Container:
        """The pixels.

        Raises
        ------
        FormatError
            If they lie where this version does not read.
        """
        if self._container is None:
            pixel_path(self.path, self.spimdata)
            raise FormatError(f"{self.path} has no pixels that can be read")
        return self._container

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
        """Return the labels of an attribute ("channel", "tile" ...) by id."""
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
            If there is no such view, or it is listed as missing.
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
        if setup is None:
            setup = self._find_setup(given)
        elif given:
            raise InvalidInputError(f"give either setup={setup} or attributes ({_pairs(given)}), not both")
        self.spimdata.setup(setup)
        if time not in self.spimdata.timepoints.ids:
            raise MissingKeyError(
                f"there is no time point {time} in this dataset; it has {_range(self.times)}"
            )
        view = ViewId(time, setup)
        if view in (self.spimdata.missing or ()):
            raise MissingKeyError(
                f"time point {time} of setup {setup} is a missing view: it was never recorded"
            )
        return View(self, view)

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
        self.factors = factors
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
        region, inner = _region(index, array.shape)
        return array.read(region)[inner]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole level."""
        return np.asarray(self[...], dtype=dtype)

    def __repr__(self) -> str:
        """Show where it belongs."""
        return f"<Level {self.index} of {self.view!r}, factors zyx {self.factors}>"


def _region(index: Index | tuple[Index, ...], shape: Zyx) -> tuple[Region, tuple[int | slice, ...]]:
    """Return the box to read, and the index that picks from the box what was asked for."""
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [place for place, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > 3:
        raise OutOfRangeError(
            f"an array (z, y, x) takes at most three indices and one ellipsis; found {index!r}"
        )
    place = dots[0] if dots else len(parts)
    parts[place : place + 1] = [slice(None)] * (3 + len(dots) - len(parts))
    box: list[slice] = []
    inner: list[int | slice] = []
    for axis, part, size in zip("zyx", parts, shape, strict=True):
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            count = len(range(start, stop, step))
            low = min(start, start + (count - 1) * step) if count else 0
            high = max(start, start + (count - 1) * step) + 1 if count else 0
            box.append(slice(low, high))
            inner.append(slice(None, None, step) if step != 1 else slice(None))
        elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
            if not -size <= part < size:
                raise OutOfRangeError(f"{axis} = {part} is outside of the level, which has {size} ({axis})")
            part = int(part) % size
            box.append(slice(part, part + 1))
            inner.append(0)
        else:
            raise InvalidInputError(f"levels are read by integers and slices; found {part!r} for {axis}")
    return (box[0], box[1], box[2]), tuple(inner)


def _pairs(attributes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={label!r}" for name, label in attributes.items())


def _range(ids: Sequence[int]) -> str:
    return (
        "none" if not ids else f"{ids[0]}" if len(ids) == 1 else f"{ids[0]} to {ids[-1]} ({len(ids)} in all)"
    )
