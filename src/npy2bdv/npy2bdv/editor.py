"""`BdvEditor`: read and crop views, read and append transforms."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from npy2bdv.dataset import Dataset
from npy2bdv.editor import Editor
from npy2bdv.errors import (
    ClosedError,
    InvalidInputError,
    MissingKeyError,
    OutOfRangeError,
    ReadOnlyError,
)
from npy2bdv.location import find_xml, pixel_path, read_xml
from npy2bdv.model.spimdata import ATTRIBUTES
from npy2bdv.npy2bdv.base import BdvBase, matrix_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from npy2bdv.dataset import View
    from npy2bdv.model.affine import Affine
    from npy2bdv.model.spimdata import SpimData, ViewSetup


class BdvEditor(BdvBase):
    """Read and crop views of a dataset, read and append transforms.

    Views are found by the ids of their attributes in the XML, time points by their ids.

    Parameters
    ----------
    filename
        The HDF5 file, whose XML has the same stem, or the XML, which names its HDF5 file.
    mode
        "r+", or "r": then no byte on disk changes.

    Raises
    ------
    NotFoundError
        If the XML or the HDF5 file is not there.
    FormatError
        If they are not what they should be.
    """

    def __init__(self, filename: str | os.PathLike[str], mode: Literal["r", "r+"] = "r+") -> None:
        if mode not in ("r", "r+"):
            raise InvalidInputError(f"mode {mode!r} is not known; it is 'r' (read only) or 'r+'")
        path_xml = find_xml(Path(filename))
        data = read_xml(path_xml)
        self.filename_xml = str(path_xml)
        self.filename_h5 = str(pixel_path(path_xml, data))
        self.mode = mode
        self._dataset: Dataset | None = Dataset(path_xml, data)
        self._session: Editor | None = None
        counts = self.get_attribute_count()
        self.ntimes, self.nilluminations, self.nchannels, self.ntiles, self.nangles = counts
        self.nsetups = len(data.setups)
        self.compression = None
        self.dtypes_supported = self._open.container.card.pixel_types

    @property
    def _open(self) -> Dataset:
        if self._dataset is None:
            raise ClosedError(f"the editor of {self.filename_xml} has been finalized; open a new one")
        return self._dataset

    @property
    def _file_object_h5(self) -> Any:
        if self._dataset is None:
            return None
        return getattr(self._dataset.container, "file", None)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type of the first view."""
        return next(self._open.views()).dtype

    @property
    def nlevels(self) -> int:
        """How many levels the first setup has."""
        return len(self._open.container.factors(self._open.setups[0]))

    def get_attribute_count(self) -> tuple[int, int, int, int, int]:
        """Return how many (time points, illuminations, channels, tiles, angles) there are."""
        data = self._open.spimdata
        illuminations, channels, tiles, angles = (len(_attribute_ids(data, name)) for name in ATTRIBUTES)
        return len(data.timepoints.ids), illuminations, channels, tiles, angles

    def read_view(
        self,
        time: int = 0,
        illumination: int = 0,
        channel: int = 0,
        tile: int = 0,
        angle: int = 0,
        ilevel: int = 0,
        z: int | None = None,
    ) -> NDArray[Any]:
        """Return the pixels of a view (z, y, x), or of one of its planes (y, x).

        Parameters
        ----------
        time, illumination, channel, tile, angle
            Ids, as the XML has them.
        ilevel
            Level of the pyramid; 0 is the full resolution.
        z
            One plane of the level, counted from 0.

        Raises
        ------
        MissingKeyError
            If the view is missing, or has no such level.
        OutOfRangeError
            If there is no such time point, attribute id or plane.
        """
        view = self._view(time, illumination, channel, tile, angle)
        if not 0 <= ilevel < view.n_levels:
            raise MissingKeyError(
                f"there is no level {ilevel}; the view has the levels 0 to {view.n_levels - 1}"
            )
        level = view.level(ilevel)
        if z is None:
            return level[...]
        if not 0 <= z < level.shape[0]:
            raise _plane_error(z, level.shape[0])
        return level[int(z)]

    def get_view_property(
        self,
        key: Literal["voxel_size", "view_shape"],
        illumination: int = 0,
        channel: int = 0,
        tile: int = 0,
        angle: int = 0,
    ) -> tuple[float, ...]:
        """Return the voxel size or the shape of a setup, (x, y, z).

        Parameters
        ----------
        key
            "voxel_size", in the unit of the dataset, or "view_shape", in pixels.
        illumination, channel, tile, angle
            Ids of the setup, counted from 0.

        Raises
        ------
        InvalidInputError
            If another key is asked for.
        OutOfRangeError
            If there is no such attribute id.
        MissingKeyError
            If no setup has these attributes.
        """
        if key not in ("voxel_size", "view_shape"):
            raise InvalidInputError(f"{key!r} is not known; ask for 'voxel_size' or 'view_shape'")
        setup = self._setup(illumination, channel, tile, angle)
        if key == "voxel_size":
            return (1.0, 1.0, 1.0) if setup.voxel_size is None else setup.voxel_size.size_xyz
        if setup.size_xyz is None:
            raise MissingKeyError(
                f"the XML gives no <size> for setup {setup.id}; read_view(...).shape has it"
            )
        return setup.size_xyz

    def read_affine(
        self,
        time: int = 0,
        illumination: int = 0,
        channel: int = 0,
        tile: int = 0,
        angle: int = 0,
        index: int = 0,
    ) -> NDArray[np.float64]:
        """Return a transform of a view as a 3x4 matrix; see `BdvWriter.read_affine`.

        Parameters
        ----------
        time, illumination, channel, tile, angle
            Its ids, counted from 0.
        index
            Which one: 0 is the outermost, -1 the calibration.
        """
        view = self._view(time, illumination, channel, tile, angle)
        return matrix_of(view.transforms, index, view.id)

    def append_affine(
        self,
        m_affine: ArrayLike | Affine,
        name_affine: str = "Appended affine transformation using npy2bdv.",
        time: int = 0,
        illumination: int = 0,
        channel: int = 0,
        tile: int = 0,
        angle: int = 0,
    ) -> None:
        """Put a transform outermost and write the XML at once; see `BdvWriter.append_affine`.

        The first time, the XML as it was is kept as ``NAME.xml~1``.

        Parameters
        ----------
        m_affine
            3x4, or 4x4 with the last row 0 0 0 1: from pixels of the full resolution to the world.
        name_affine
            Its name in the XML.
        time, illumination, channel, tile, angle
            Its ids, counted from 0.

        Raises
        ------
        ReadOnlyError
            In mode "r".
        InvalidInputError
            If the matrix is not 3x4 (or 4x4 with the last row 0 0 0 1), holds NaN, or is singular.
        InUseError
            If the dataset is being recorded or edited.
        """
        view = self._view(time, illumination, channel, tile, angle).id
        with self._editing() as editor:
            editor.insert_transform(m_affine, name=name_affine, view=view)

    def crop_view(
        self,
        bbox_xyz: Sequence[tuple[int | None, int | None] | None] = ((1, -1), (1, -1), None),
        illumination: int = 0,
        channel: int = 0,
        tile: int = 0,
        angle: int = 0,
        ilevel: int | None = None,
        keep_position: bool = True,
    ) -> None:
        """Crop a view at all time points, and write that at once: pixels of all levels, and the XML.

        Levels are made again from the cropped full resolution. Time points without the view are passed over. The
        XML as it was is kept as ``NAME.xml~1``; the space of the old images is given back by `npy2bdv.repack`.

        Parameters
        ----------
        bbox_xyz
            For each axis (x, y, z) None (all of it), or (start, stop) in pixels, the end left out; each may be None,
            or negative, which counts from the end.
        illumination, channel, tile, angle
            Ids, as the XML has them.
        ilevel
            None or 0. A single level of the others cannot be cropped: it would no longer show what the first shows.
        keep_position
            Let the image stay where it is in the world, by a transform that is applied first. Without, its first
            pixel comes to lie where that of the whole image was, as with npy2bdv 1.x.

        Raises
        ------
        ReadOnlyError
            In mode "r".
        InvalidInputError
            If the box keeps nothing, reaches beyond the image, or another level is asked for.
        OutOfRangeError
            If there is no such attribute id.
        MissingKeyError
            If no setup has these attributes, or it has no pixels.
        WriteError
            If the disk has no room. Nothing has changed then.
        """
        setup = self._setup(illumination, channel, tile, angle)
        if self.mode == "r":
            raise ReadOnlyError(f"{self.filename_xml} is open in mode 'r', read only; open it with mode='r+'")
        if ilevel not in (None, 0):
            raise InvalidInputError(
                f"ilevel={ilevel!r}: one level alone is not cropped, since all levels show the same image; leave "
                "ilevel out, and all of them are made again from the cropped full resolution"
            )
        boxes = tuple(bbox_xyz) if isinstance(bbox_xyz, (tuple, list)) else ()
        if len(boxes) != 3:
            raise InvalidInputError(
                f"bbox_xyz holds three ranges (x, y, z), each None or (start, stop); found {bbox_xyz!r}"
            )
        with self._editing(pixels=True) as editor:
            editor.crop(zyx=boxes[::-1], setup=setup.id, keep_position=keep_position)

    @contextmanager
    def _editing(self, *, pixels: bool = False) -> Iterator[Editor]:
        """Edit in a block, at whose end everything is written; what is read after it is what was written.

        `pixels` says that pixels change: they are closed before and opened again after it.
        """
        dataset = self._open
        if self.mode == "r":
            raise ReadOnlyError(f"{self.filename_xml} is open in mode 'r', read only; open it with mode='r+'")
        if pixels:
            dataset.close()
        try:
            with Editor(dataset.path, after=self._session) as editor:
                yield editor
                editor.commit()
                dataset.spimdata = editor.data
                self._session = editor
        finally:
            if pixels:
                self._dataset = Dataset(dataset.path, dataset.spimdata)

    def finalize(self) -> None:
        """Close the files; a second call does nothing."""
        if self._dataset is not None:
            self._dataset.close()
            self._dataset = None

    def close(self) -> None:
        """Close the files; the same as `finalize`."""
        self.finalize()

    def _setup(self, illumination: int, channel: int, tile: int, angle: int) -> ViewSetup:
        data = self._open.spimdata
        wanted = {"illumination": illumination, "channel": channel, "tile": tile, "angle": angle}
        for name, id_ in wanted.items():
            known = _attribute_ids(data, name)
            if id_ not in known:
                raise OutOfRangeError(f"{name} {id_} is not in this dataset; it has the ids {known}")
        for setup in data.setups.values():
            if all(setup.attributes.get(name, 0) == id_ for name, id_ in wanted.items()):
                return setup
        raise MissingKeyError(
            "no setup has "
            + ", ".join(f"{name} {id_}" for name, id_ in wanted.items())
            + "; it was never recorded"
        )

    def _view(self, time: int, illumination: int, channel: int, tile: int, angle: int) -> View:
        self._open.check_time(time)
        setup = self._setup(illumination, channel, tile, angle)
        return self._open.view(time=int(time), setup=setup.id)


def _attribute_ids(data: SpimData, name: str) -> list[int]:
    """Return the ids of an attribute; setups that do not have it count as 0."""
    group = data.attributes.get(name)
    used = {setup.attributes.get(name, 0) for setup in data.setups.values()}
    return sorted(used.union(group.entities if group else ())) or [0]


def _plane_error(z: int, size: int) -> Exception:
    text = f"plane {z} is outside of the level, which has {size} planes, counted from 0"
    return InvalidInputError(text) if z < 0 else OutOfRangeError(text)
