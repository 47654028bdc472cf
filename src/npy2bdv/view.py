"""Views and their levels: arrays (z, y, x) that are read when they are asked for, and know where they lie."""

from __future__ import annotations

import logging
import math
import pickle
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.errors import InvalidInputError, MissingKeyError, OutOfRangeError
from npy2bdv.model.affine import Affine
from npy2bdv.model.box import Box, box_of
from npy2bdv.model.placement import POSITIONS, length_of, to_stage, world_unit
from npy2bdv.model.slicing import select, take
from npy2bdv.model.spimdata import Tile
from npy2bdv.storage.base import KnowsMissingPlanes, OpensInTensorstore
from npy2bdv.storage.remote import stamp_of
from npy2bdv.storage.servers import RemotePath

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dask.array
    import xarray
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from npy2bdv.dataset import Dataset
    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.slicing import Index
    from npy2bdv.model.spimdata import Camera, Triple, ViewId, ViewSetup, ViewTransform
    from npy2bdv.storage.base import LevelPixels, Pixels

logger = logging.getLogger(__name__)

_READ_BYTES = 2**26
"""What `read` holds beside the array that it fills, if chunks are not larger."""


class _Image:
    """What views and levels have in common: an array (z, y, x) in the world."""

    @property
    def _level(self) -> Level:
        raise NotImplementedError

    @property
    def transform(self) -> Affine:
        """The transform from pixels (x, y, z) to the world."""
        raise NotImplementedError

    @property
    def _to_full(self) -> Affine:
        """The transform to pixels of full resolution."""
        return Affine.identity()

    # -- an array -----------------------------------------------------------------------------------------

    @property
    def shape(self) -> Zyx:
        """Size (z, y, x), in pixels."""
        return self._level._array.shape

    @property
    def ndim(self) -> int:
        """Three."""
        return 3

    @property
    def size(self) -> int:
        """How many pixels there are."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        return np.dtype(self._level._array.dtype)

    @property
    def chunks(self) -> Zyx:
        """Size of a chunk (z, y, x), in pixels."""
        return self._level._array.chunk

    @property
    def nbytes(self) -> int:
        """How many bytes the pixels take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        """How many planes there are."""
        return self.shape[0]

    def __getitem__(self, index: Index | tuple[Index, ...]) -> NDArray[Any]:
        """Read pixels, as numpy would index an array (z, y, x) that holds them all.

        Only the chunks that hold wanted pixels are read.

        Raises
        ------
        OutOfRangeError
            If a pixel lies outside.
        InvalidInputError
            If the index is none of numpy's.
        """
        level = self._level
        return _read_index(level._array, index, level.view.id, level.view.dataset.noted)

    def read(self, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read all pixels.

        Parameters
        ----------
        out
            An array (z, y, x) to be filled in place of a new one; of the same shape, and of a type that
            holds the pixels.

        Raises
        ------
        InvalidInputError
            If `out` does not fit.
        """
        if out is None:
            return self[...]
        if out.shape != self.shape or not np.can_cast(self.dtype, out.dtype):
            raise InvalidInputError(
                f"out has the shape {out.shape} and the type {out.dtype}; {self!r} has {self.shape}, {self.dtype}"
            )
        row = self.chunks[0]
        planes = max(1, _READ_BYTES * row // max(1, row * self.nbytes // len(self)) // row) * row
        for z in range(0, len(self), planes):
            out[z : z + planes] = self[z : z + planes]
        return out

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all pixels."""
        if copy is False:
            raise ValueError("pixels that lie in a file are copied into memory")
        return np.asarray(self[...], dtype=dtype)

    # -- other libraries ----------------------------------------------------------------------------------

    def to_dask(self, chunks: Any = "auto") -> dask.array.Array:
        """Return a dask array (z, y, x), which reads the pixels when it is computed.

        It stays valid when the dataset is closed, and in other processes: it opens the files by itself.

        Parameters
        ----------
        chunks
            As dask takes them; by itself it takes multiples of the chunks on disk.

        Examples
        --------
        >>> import numpy as np, npy2bdv, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     xml = npy2bdv.resave(np.ones((3, 4, 5), "uint16"), f"{folder}/scan.xml")
        ...     with npy2bdv.open(xml) as dataset:
        ...         lazy = dataset.view().to_dask()
        ...     int(lazy.sum().compute())
        60
        """
        try:
            import dask.array
            from dask.base import tokenize
        except ImportError as error:
            raise _lacks("to_dask()", "dask") from error
        level = self._level
        pixels = _Reopened(level)
        dataset = level.view.dataset
        place = dataset.container.path
        said = dataset.path if isinstance(place, RemotePath) else place  # on a server a folder has no time
        token = tokenize(stamp_of(said), *pixels.__getstate__())
        name = f"npy2bdv-{token}"
        meta = np.empty((0, 0, 0), self.dtype)
        array: dask.array.Array = dask.array.from_array(  # type: ignore[no-untyped-call]
            pixels, chunks=chunks, name=name, meta=meta
        )
        return array

    def to_xarray(self, chunks: Any = "auto") -> xarray.DataArray:
        """Return a labelled dask array: coordinates are the centres of the pixels in `unit`, without the transform.

        Attributes hold the transform (a list of three rows, world <- pixel of this level), the factors,
        unit and name; the time point, the setup and the labels are coordinates, so that views can be put together.

        Parameters
        ----------
        chunks
            Of the dask array, as `to_dask` takes them.
        """
        try:
            import xarray
        except ImportError as error:
            raise _lacks("to_xarray()", "xarray") from error
        level, view = self._level, self._level.view
        sizes, factors = view.voxel_size_xyz[::-1], level.factors
        coordinates = {
            axis: (axis, size * (factor * np.arange(n) + (factor - 1) / 2), {"units": view.unit or "pixel"})
            for axis, size, factor, n in zip("zyx", sizes, factors, self.shape, strict=True)
        }
        labels = {"time": view.id.time, "setup": view.id.setup, **view.attributes}
        return xarray.DataArray(
            self.to_dask(chunks),
            dims=("z", "y", "x"),
            coords={**{name: label for name, label in labels.items() if name not in "zyx"}, **coordinates},
            name=view.name,
            attrs={
                "transform": np.asarray(self.transform).tolist(),
                "factors": list(factors),
                "unit": view.unit or "pixel",
                "voxel_size_xyz": list(level.voxel_size_xyz),
            },
        )

    def to_tensorstore(self) -> Any:
        """Return a ``tensorstore.TensorStore`` (z, y, x) for reading; of N5 and OME-Zarr.

        Raises
        ------
        InvalidInputError
            If tensorstore does not read the format.
        """
        array = self._level._array
        if not isinstance(array, OpensInTensorstore):
            card = self._level.view.dataset.container.card
            raise InvalidInputError(f"tensorstore does not read {card.name}; to_dask() reads every format")
        return array.to_tensorstore()

    # -- the world ----------------------------------------------------------------------------------------

    @property
    def stage_position_xyz(self) -> Triple | None:
        """Where the stage was, in `View.unit`; None where no transform is named "stage position" or "Translation"."""
        view = self._level.view
        found = to_stage(view.transforms)
        if found is None:
            return None
        moved, unit = found[0].translation_xyz, view._world_unit
        tile = view.dataset.spimdata.entity("tile", view.setup) if "tile" in view.setup.attributes else None
        location = tile.location_xyz if isinstance(tile, Tile) else None
        if location is not None and tuple(value / unit for value in location) == moved:
            return location
        x, y, z = (length_of(value, unit) for value in moved)
        return x, y, z

    def pixel_to_stage(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return where to drive the stage, for pixels: its coordinates at them.

        Transforms outside of "stage position" (registration, rotation of the sample) play no part.

        Parameters
        ----------
        points_xyz
            One point (x, y, z) or an array of them (..., 3), in pixels; whole numbers are centres of pixels.

        Returns
        -------
        :
            Coordinates of the stage, in `View.unit`.

        Raises
        ------
        MissingKeyError
            If the view has no stage position.
        """
        return self._stage.apply(points_xyz) * self._level.view._world_unit

    def stage_to_pixel(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return which pixels (x, y, z) coordinates of the stage (..., 3) are, with fractions: see `pixel_to_stage`.

        Parameters
        ----------
        points_xyz
            Coordinates (x, y, z) in the last axis, in `View.unit`.

        Raises
        ------
        MissingKeyError
            If no transform of the view says where the stage was.
        InvalidInputError
            If the last axis does not have the length 3.
        """
        return self._stage.inverse().apply(np.asarray(points_xyz, float) / self._level.view._world_unit)

    @property
    def _stage(self) -> Affine:
        """The transform from pixels to coordinates of the stage, in units of the world."""
        view = self._level.view
        found = to_stage(view.transforms)
        if found is None:
            raise MissingKeyError(
                f"{view!r} has no transform named {' or '.join(map(repr, POSITIONS))}, so that it is not known where "
                "the stage was; pixel_to_world() gives the place in the world"
            )
        return found[1] @ self._to_full

    def pixel_to_world(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return where pixels lie in the world.

        Parameters
        ----------
        points_xyz
            One point (x, y, z) or an array of them (..., 3), in pixels; whole numbers are centres of pixels.
        """
        return self.transform.apply(points_xyz)

    def world_to_pixel(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return which pixels (x, y, z) points (..., 3) of the world are, with fractions.

        Parameters
        ----------
        points_xyz
            Coordinates (x, y, z) in the last axis, in the unit of the world.

        Raises
        ------
        InvalidInputError
            If the transform of the view has no inverse, or the last axis does not have the length 3.
        """
        return self.transform.inverse().apply(points_xyz)

    def bounding_box(self, region: Region | None = None) -> Box:
        """Return the box in the world around the image, or around a region of it (slices z, y, x).

        Parameters
        ----------
        region
            Slices of pixels; by default the whole image.
        """
        whole = (slice(None), slice(None), slice(None))
        return Box.of_pixels(region or whole, self.shape).moved_by(self.transform)

    def region(self, box: Box | tuple[Triple, Triple]) -> Region:
        """Return the slices (z, y, x) of the pixels that a box in the world touches: ``view[view.region(box)]``.

        Under a rotation these are the pixels around it. They are empty where the box lies outside.

        Parameters
        ----------
        box
            A `Box`, or its two corners (x, y, z), in the unit of the world.

        Raises
        ------
        InvalidInputError
            If the corners are not (x, y, z) in finite numbers, the smallest first.
        """
        return box_of(box).moved_by(self.transform.inverse()).pixels(self.shape)


class View(_Image):
    """One view of a `Dataset`: one setup at one time point. ``view[z0:z1]`` reads full resolution; see `level`.

    Attributes
    ----------
    dataset
        The dataset that it belongs to.
    id
        Its time point and setup.
    setup
        What the XML says of its setup.
    """

    def __init__(self, dataset: Dataset, id: ViewId) -> None:  # noqa: A002
        self.dataset = dataset
        self.id = id
        self.setup: ViewSetup = dataset.spimdata.setup(id.setup)

    @property
    def _level(self) -> Level:
        return self.level(0)

    @property
    def n_levels(self) -> int:
        """How many levels the pyramid has."""
        return len(self.dataset.container.factors(self.id.setup))

    def level(self, level: int = 0) -> Level:
        """Return a level of the pyramid.

        Parameters
        ----------
        level
            Its number; 0 is the full resolution.

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
    def factors(self) -> tuple[float, ...]:
        """How many pixels of full resolution one pixel of `level(0)` spans (z, y, x): 1, but in odd files."""
        return self.level(0).factors

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
    def missing_planes(self) -> tuple[tuple[int, int], ...]:
        """Runs of planes (start, stop) that never came while it was recorded, as npy2bdv notes them: they are zeros."""
        pixels = self.dataset.container
        return pixels.missing_planes(self.id) if isinstance(pixels, KnowsMissingPlanes) else ()

    @property
    def attributes(self) -> dict[str, str]:
        """Labels of the view's attributes: channel, tile, angle, illumination and any other."""
        return self.dataset.spimdata.labels_of(self.setup)

    @property
    def _world_unit(self) -> float:
        """How large a unit of the world is, in `unit`."""
        setups = self.dataset.spimdata.setups.values()
        return world_unit(self.transforms, self.setup.voxel_size, (setup.voxel_size for setup in setups))

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

    @property
    def nbytes_on_disk(self) -> int | None:
        """How many bytes all levels take on disk; None where a server does not tell."""
        sizes = [level.nbytes_on_disk for level in self.levels()]
        return None if None in sizes else sum(filter(None, sizes))

    def __repr__(self) -> str:
        """Show ids and attributes."""
        labels = ", ".join(f"{name}={label!r}" for name, label in self.attributes.items())
        return f"<View time={self.id.time} setup={self.id.setup} ({labels})>"


class Level(_Image):
    """One level of a `View`: an array (z, y, x) that is read by slices. ``level[z]`` is one plane.

    Attributes
    ----------
    view
        The view that it belongs to.
    index
        Its number; 0 is full resolution.
    factors
        How many pixels of full resolution one pixel spans (z, y, x).
    """

    def __init__(self, view: View, level: int, factors: tuple[float, float, float]) -> None:
        self.view = view
        self.index = level
        self.factors = tuple(int(factor) if float(factor).is_integer() else factor for factor in factors)

    @property
    def _level(self) -> Level:
        return self

    @property
    def _array(self) -> LevelPixels:
        return self.view.dataset.container.level(self.view.id, self.index)

    @property
    def nbytes_on_disk(self) -> int | None:
        """How many bytes the pixels take on disk; None where a server does not tell."""
        return self._array.nbytes_on_disk

    @property
    def compression(self) -> str:
        """How chunks are compressed, in words: "none", "gzip 1 + shuffle", "lzf" ..."""
        return self._array.compression

    @property
    def voxel_size_xyz(self) -> Triple:
        """Size of a pixel (x, y, z) in `unit`: that of the view, times the factors."""
        x, y, z = (
            size * factor for size, factor in zip(self.view.voxel_size_xyz, self.factors[::-1], strict=True)
        )
        return x, y, z

    @property
    def unit(self) -> str | None:
        """Unit of the voxel size."""
        return self.view.unit

    @property
    def transform(self) -> Affine:
        """The transform from pixels of this level (x, y, z) to the world (formats.md 6.5)."""
        return self.view.transform @ self._to_full

    @property
    def _to_full(self) -> Affine:
        z, y, x = self.factors  # may be fractions, in files of other programs
        return Affine.translation(((x - 1) / 2, (y - 1) / 2, (z - 1) / 2)) @ Affine.scale((x, y, z))

    def __repr__(self) -> str:
        """Show where it belongs."""
        return f"<Level {self.index} of {self.view!r}, factors zyx {self.factors}>"


class _Reopened:
    """The pixels of a level without its dataset: the files are open for as long as somebody reads."""

    ndim = 3

    def __init__(self, level: Level) -> None:
        # a copy of its own: that of the dataset may be closed any time
        self._container = pickle.dumps(level.view.dataset.container)
        self._id = level.view.id
        self._index = level.index
        self.shape, self.dtype, self.chunks = level.shape, level.dtype, level.chunks
        self._start()

    def _start(self) -> None:
        self._guard = threading.Lock()
        self._readers = 0
        self._opened: Pixels | None = None
        self._noted: dict[ViewId, object] = {}

    def __getstate__(self) -> tuple[Any, ...]:
        return self._container, self._id, self._index, self.shape, self.dtype, self.chunks

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._container, self._id, self._index, self.shape, self.dtype, self.chunks = state
        self._start()

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        with self._open() as container:
            return _read_index(container.level(self._id, self._index), index, self._id, self._noted)

    @contextmanager
    def _open(self) -> Iterator[Pixels]:
        with self._guard:
            if self._opened is None:
                self._opened = pickle.loads(self._container)
            container = self._opened
            self._readers += 1
        try:
            yield container
        finally:
            with self._guard:
                self._readers -= 1
                if not self._readers:
                    container.close()
                    self._opened = None


def _read_index(
    array: LevelPixels, index: Index | tuple[Index, ...], view: ViewId, noted: dict[ViewId, object]
) -> NDArray[Any]:
    """Return the pixels of an index. What is not stored is said once of a view; `noted` are those done."""
    selection = select(index, array.shape, array.chunk)
    boxes = list(selection.boxes())
    # not by isinstance, which takes as long as reading a small box
    count_absent = None if view in noted else getattr(array, "count_absent", None)
    absent = sum(count_absent(box) for box, _, _ in boxes) if count_absent else 0
    mark = object()
    if absent and noted.setdefault(view, mark) is mark:  # of several threads one
        logger.warning(
            "time point %d of setup %d is not complete: %d of the chunks asked for are absent, and read as zeros",
            *view,
            absent,
        )
    if selection.is_one_box:
        ((box, _, _),) = boxes
        pixels = array.read(box)
    else:
        pixels = np.empty(selection.shape, array.dtype)
        for box, wanted, target in boxes:
            pixels[target] = take(array.read(box), wanted)
    found: NDArray[Any] = pixels[selection.pick]
    return found


def _lacks(what: str, library: str) -> InvalidInputError:
    return InvalidInputError(f'{what} needs {library}, which is not installed: pip install "npy2bdv[lazy]"')
