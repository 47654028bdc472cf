"""`BdvWriter`: write stacks, planes and blocks as acquisition scripts do."""

from __future__ import annotations

import logging
import warnings
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from npy2bdv.engine import DEFAULT_MEMORY
from npy2bdv.errors import (
    InvalidInputError,
    InvalidTypeError,
    MissingKeyError,
    NotFoundError,
    OutOfRangeError,
)
from npy2bdv.existing import check_mode, find_existing
from npy2bdv.location import dataset_paths, pixel_path, read_xml
from npy2bdv.model.affine import usable
from npy2bdv.model.spimdata import GeneratedBy, ViewId, ViewTransform
from npy2bdv.npy2bdv.base import BdvBase, matrix_of
from npy2bdv.npy2bdv.grid import check_grid
from npy2bdv.npy2bdv.recording import ClassicDataset, FileProxy
from npy2bdv.storage import READABLE

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from npy2bdv.engine import Stats
    from npy2bdv.existing import Existing
    from npy2bdv.model.affine import Affine
    from npy2bdv.model.placement import Anchor, Deskew, Turn
    from npy2bdv.storage.base import Codec, FormatCard, FormatName
    from npy2bdv.stream import ViewStream
    from npy2bdv.writer import Compression

logger = logging.getLogger(__name__)

PUBLISHED_LEVELS = ((1, 1, 1),)
PUBLISHED_BLOCKS = ((4, 256, 256),)
"""The default of the published package. Where it is not given, it is the format that decides."""

_COUNT_ORDER = ("illumination", "channel", "angle", "tile")  # of the attribute_counts that scripts read


class BdvWriter(BdvBase):
    """Write stacks to a BigDataViewer / BigStitcher dataset: pixels in HDF5 (or N5, OME-Zarr), and an XML.

    Parameters
    ----------
    filename
        The pixels (``NAME.h5``, ``NAME.n5``, ``NAME.ome.zarr``), whose XML gets the same stem, or the XML. An
        existing XML names its pixels; so several XML may describe the same pixels.
    subsamp
        Downsampling factors (z, y, x) of each level.
    blockdim
        Block size (z, y, x) of each level. If there are fewer than levels, the first serves all. By default that
        of the format; (4, 256, 256) for HDF5.
    compression
        None, "gzip", "lzf" (HDF5 only; Fiji cannot read it), "zstd" or "blosc" (N5 and OME-Zarr). By default none for
        HDF5, "gzip" for N5, "zstd" for OME-Zarr.
    nilluminations, nchannels, ntiles, nangles
        How many there are of each. The setup id counts them in this order, the angle fastest.
    mode
        "a" appends to a dataset that is there: further time points, and further setups (see `check_grid`). Its metadata
        and transforms stay; a view that was written is not replaced. Levels, blocks and compression are those that it
        has; a `calibration` of (1, 1, 1), and a matrix that is not given, mean those of the setup's last time point.
        "w" is the same as ``overwrite=True``.
    overwrite
        Delete existing pixels of this name. Their XML stays until `write_xml`, which keeps it as ``NAME.xml~1``.
    dtype
        Pixel type: one of the ten that BigDataViewer has.
    format, zarr_version
        How pixels are stored, where the name does not say it: "hdf5", "n5", or "omezarr" in version 2 or 3 of Zarr;
        see `create`.
    max_memory
        Bytes that buffers of pixels may take.

    Raises
    ------
    ExistsError
        If the pixels exist and `overwrite` is not set.
    NotFoundError
        If the folder does not exist.
    InvalidInputError
        If a factor, block, count, compression or pixel type cannot be right.
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        subsamp: Sequence[Sequence[int]] = PUBLISHED_LEVELS,
        blockdim: Sequence[Sequence[int]] = PUBLISHED_BLOCKS,
        compression: Compression = "default",
        nilluminations: int = 1,
        nchannels: int = 1,
        ntiles: int = 1,
        nangles: int = 1,
        overwrite: bool = False,
        dtype: Any = "uint16",
        *,
        format: FormatName | None = None,  # noqa: A002
        zarr_version: int | None = None,
        mode: Literal["w-", "w", "a"] | None = None,
        max_memory: int = DEFAULT_MEMORY,
    ) -> None:
        check_mode(mode, overwrite=overwrite)
        existing = find_existing(filename, format, zarr_version) if mode == "a" else None
        path_xml, path_h5, card = dataset_paths(filename, format, zarr_version)
        if existing is not None:
            path_xml, path_h5, card = _as_given(existing, Path(filename))
        elif path_xml == Path(filename) and path_xml.is_file() and format is None and zarr_version is None:
            path_h5 = _named_pixels(path_xml)
            card = dataset_paths(path_h5)[2]
        counts = {
            "illumination": nilluminations,
            "channel": nchannels,
            "tile": ntiles,
            "angle": nangles,
        }
        for name, count in counts.items():
            if count != int(count) or count < 1:
                raise InvalidInputError(f"the number of {name}s is {count}; it must be 1 or more")
        levels: tuple[tuple[Any, ...], ...] = _triples(subsamp)
        blocks: tuple[tuple[Any, ...], ...] = (
            (card.default_chunk,) if blockdim is PUBLISHED_BLOCKS else _triples(blockdim)
        )
        chosen: Compression | Codec = compression
        if existing is not None:
            check_grid(existing, {name: int(count) for name, count in counts.items()})
            last = existing.last_setup
            if last is not None:
                if subsamp is not PUBLISHED_LEVELS and levels != last.pyramid.factors:
                    raise InvalidInputError(
                        f"the dataset has the levels {last.pyramid.factors} (z, y, x), not {levels}; leave subsamp out"
                    )
                levels = last.pyramid.factors
                blocks = last.pyramid.chunks if blockdim is PUBLISHED_BLOCKS else blocks
            chosen = existing.codec if compression == "default" else compression
        if len(blocks) < len(levels):
            logger.info("%d blocks for %d levels: the first serves all", len(blocks), len(levels))
        self._first_xml = str(path_xml), path_xml.absolute()
        self._writer = ClassicDataset(
            path_xml.absolute(),
            path_h5.absolute(),
            card=card,
            levels=levels,
            chunks=blocks,
            compression=chosen,
            overwrite=overwrite or mode == "w",
            dtype=_pixel_type(dtype),
            counts=counts,
            max_memory=max_memory,
            existing=existing,
        )
        self.filename_h5 = str(path_h5)
        self.filename_xml = str(path_xml)
        self.nilluminations, self.nchannels, self.ntiles, self.nangles = map(int, counts.values())
        self.nsetups = self.nilluminations * self.nchannels * self.ntiles * self.nangles
        self.ntimes = 0 if existing is None else max(existing.data.timepoints.ids, default=-1) + 1
        self.subsamp = np.array(levels, dtype=np.int64)
        self.nlevels = len(self.subsamp)
        self.chunks: Any = _blocks(blocks, self.nlevels)
        codec = card.codec(chosen)
        self.compression = (
            (None if codec.name == "none" else codec.name) if compression == "default" else compression
        )
        self.dtype = _pixel_type(dtype)
        self.dtypes_supported = card.pixel_types
        self.compressions_supported = tuple(None if name == "none" else name for name in card.codecs)
        self.virtual_stacks = False
        self.attribute_labels: dict[str, Sequence[object]] = {}
        self.attribute_counts = {name: int(counts[name]) for name in _COUNT_ORDER}
        self.stack_shapes: dict[int, tuple[int, int, int]] = {}
        self.affine_matrices: dict[int, NDArray[np.float64]] = {}
        self.affine_names: dict[int, str] = {}
        self.calibrations: dict[int, Sequence[float]] = {}
        self.voxel_size_xyz: dict[int, Sequence[float]] = {}
        self.voxel_units: dict[int, str] = {}
        self.exposure_time: dict[int, float] = {}
        self.exposure_units: dict[int, str] = {}
        self._virtual: set[ViewId] = set()
        self._file_object_h5 = FileProxy(self._writer)

    # -- pixels ------------------------------------------------------------------------------------------

    def append_view(
        self,
        stack: NDArray[Any] | None,
        virtual_stack_dim: Sequence[int] | None = None,
        time: int = 0,
        illumination: int = 0,
        channel: int = 0,
        tile: int = 0,
        angle: int = 0,
        m_affine: ArrayLike | Affine | None = None,
        name_affine: str = "manually defined",
        voxel_size_xyz: Sequence[float] = (1, 1, 1),
        voxel_units: str = "px",
        calibration: Sequence[float] = (1, 1, 1),
        exposure_time: float = 0,
        exposure_units: str = "s",
        *,
        stage_position_xyz: Sequence[float] | None = None,
        stage_unit: str | None = None,
        stage_position_of: Anchor = "corner",
        deskew: Deskew | None = None,
        transpose_xy: bool = False,
        flip_xyz: Sequence[bool] | bool = False,
        camera_rotation: float = 0.0,
        sample_rotation: Turn | None = None,
        upright: bool = False,
    ) -> None:
        """Write a stack, or declare a virtual one that planes and substacks fill.

        A view that was written before is replaced.

        Parameters
        ----------
        stack
            Pixels (z, y, x), or None for a virtual stack.
        virtual_stack_dim
            Size (z, y, x) of a virtual stack.
        time, illumination, channel, tile, angle
            Which view it is; all count from 0.
        m_affine
            3x4 matrix (or 4x4 with the last row 0 0 0 1) from calibrated pixels to the world. A time point that
            is given none takes the last one given for its setup.
        name_affine
            Name of the matrix.
        voxel_size_xyz, voxel_units
            Size of a voxel (x, y, z); metadata, of the setup.
        calibration
            Scale (x, y, z) of the innermost transform, e.g. (1, 1, voxel_z / voxel_x).
        exposure_time, exposure_units
            Metadata of the camera, of the setup.
        stage_position_xyz, stage_unit, stage_position_of
            Where the stage says that the stack is, by default in `voxel_units`, and whether that is its "corner" or
            "centre". In place of `m_affine`; also of time points that are given nothing. `calibration` then follows
            from the voxel size: the first view that is placed so says what a unit of the world is.
        deskew, transpose_xy, flip_xyz, camera_rotation, sample_rotation, upright
            How planes are tilted, and how camera and sample are turned against the stage: see `Placement`.

        Raises
        ------
        InvalidTypeError
            If the stack holds no integers or real numbers.
        InvalidInputError
            If the stack is not 3-D or is empty, its shape differs from other time points of the setup, or a
            matrix, voxel size or calibration cannot be right.
        OutOfRangeError
            If an index is negative or too large.
        """
        view = self._view(time, illumination, channel, tile, angle)
        pixels = None if stack is None else _numbers(stack)
        if pixels is None and virtual_stack_dim is None:
            raise InvalidInputError("give a stack, or for a virtual one its size virtual_stack_dim=(z, y, x)")
        shape = _stack_shape(virtual_stack_dim if pixels is None else pixels.shape)
        stream = self._writer.declare(
            view,
            shape,
            attributes={"illumination": illumination, "channel": channel, "tile": tile, "angle": angle},
            affine=None if m_affine is None else ViewTransform(affine=usable(m_affine), name=name_affine),
            calibration_xyz=calibration,
            voxel_size_xyz=voxel_size_xyz,
            unit=voxel_units,
            exposure_time=exposure_time,
            exposure_unit=exposure_units,
            placing={
                "stage_position_xyz": stage_position_xyz,
                "stage_unit": stage_unit,
                "stage_position_of": stage_position_of,
                "deskew": deskew,
                "transpose_xy": transpose_xy,
                "flip_xyz": flip_xyz,
                "camera_rotation": camera_rotation,
                "sample_rotation": sample_rotation,
                "upright": upright,
            },
        )
        setup = view.setup
        self.ntimes = max(self.ntimes, view.time + 1)
        self.stack_shapes[setup] = shape
        self.calibrations[setup] = calibration
        self.voxel_size_xyz[setup] = voxel_size_xyz
        self.voxel_units[setup] = voxel_units
        self.exposure_time[setup] = exposure_time
        self.exposure_units[setup] = exposure_units
        if m_affine is not None:
            self.affine_matrices[setup] = np.asarray(usable(m_affine))
            self.affine_names[setup] = name_affine
        if pixels is None:
            self.virtual_stacks = True
            self._virtual.add(view)
        else:
            self._virtual.discard(view)
            self._put(stream, pixels, (0, 0, 0))

    def append_plane(
        self,
        plane: NDArray[Any],
        z: int,
        time: int = 0,
        illumination: int = 0,
        channel: int = 0,
        tile: int = 0,
        angle: int = 0,
    ) -> None:
        """Write a plane (y, x) of a virtual stack. Planes may come in any order.

        Parameters
        ----------
        plane
            Pixels (y, x) of the size of the stack.
        z
            Which plane it is, counted from 0.
        time, illumination, channel, tile, angle
            Its ids, counted from 0.

        Raises
        ------
        InvalidInputError
            If its shape is not that of the stack.
        OutOfRangeError
            If z or an index is outside.
        MissingKeyError
            If the virtual stack has not been declared.
        """
        stream = self._virtual_stream(time, illumination, channel, tile, angle)
        plane = _numbers(plane)
        if plane.shape != stream.shape[1:]:
            raise InvalidInputError(
                f"the plane has the shape {plane.shape}; planes of this virtual stack have {stream.shape[1:]} (y, x)"
            )
        self._put(stream, plane[np.newaxis], (z, 0, 0))

    def append_substack(
        self,
        substack: NDArray[Any],
        z_start: int,
        y_start: int = 0,
        x_start: int = 0,
        time: int = 0,
        illumination: int = 0,
        channel: int = 0,
        tile: int = 0,
        angle: int = 0,
    ) -> None:
        """Write a block (z, y, x) of a virtual stack. Blocks may come in any order.

        Parameters
        ----------
        substack
            Pixels (z, y, x).
        z_start, y_start, x_start
            Where its first pixel lies in the stack.
        time, illumination, channel, tile, angle
            Its ids, counted from 0.

        Raises
        ------
        InvalidInputError
            If it is not 3-D or reaches beyond the stack.
        OutOfRangeError
            If a start or an index is outside.
        MissingKeyError
            If the virtual stack has not been declared.
        """
        stream = self._virtual_stream(time, illumination, channel, tile, angle)
        self._put(stream, _numbers(substack), (z_start, y_start, x_start))

    def _put(self, stream: ViewStream, block: NDArray[Any], start: tuple[int, int, int]) -> None:
        """Write a block; one of another pixel type is converted a few planes at a time."""
        stream.check_place(block, start)
        start = (int(start[0]), int(start[1]), int(start[2]))  # 1.0 is a number of a plane too
        if np.can_cast(block.dtype, self.dtype, "safe"):
            stream.put(block, *start)
            return
        changed = False
        step = max(1, 16 * 2**20 // block[0].nbytes)
        for z in range(0, len(block), step):
            part = block[z : z + step]
            with np.errstate(invalid="ignore"):
                cast = part.astype(self.dtype)
            changed = changed or not np.array_equal(cast, part)
            stream.put(cast, start[0] + z, *start[1:])
        if changed:
            warnings.warn(
                f"Values of {block.dtype} data change when cast to {self.dtype} (out of range or not integer). "
                "Rescale the data, or create BdvWriter with a matching dtype.",
                UserWarning,
                stacklevel=3,
            )

    def _virtual_stream(
        self, time: int, illumination: int, channel: int, tile: int, angle: int
    ) -> ViewStream:
        view = self._view(time, illumination, channel, tile, angle)
        if view not in self._virtual:
            raise MissingKeyError(
                f"time {time}, illumination {illumination}, channel {channel}, tile {tile}, angle {angle} is no "
                "virtual stack; declare it first: append_view(stack=None, virtual_stack_dim=(z, y, x), ...)"
            )
        return self._writer.stream_of(view)

    def create_pyramids(
        self,
        subsamp: Sequence[Sequence[int]] = ((4, 8, 8),),
        blockdim: Sequence[Sequence[int]] = ((8, 128, 128),),
        compression: Compression = "default",
    ) -> None:
        """Add levels to all views written so far, which must have one level.

        Parameters
        ----------
        subsamp, blockdim, compression
            As in `BdvWriter`, for the new levels.

        Raises
        ------
        InvalidInputError
            If there are several levels already, or a factor, block or compression cannot be right.
        """
        if self.nlevels != 1:
            raise InvalidInputError(f"create_pyramids adds to one level; there are {self.nlevels} already")
        codec = self._writer.card.codec(compression)
        levels, more = _triples(subsamp), _triples(blockdim)
        _run_with_bar(self._writer.add_levels(levels, more, codec), "pyramids")
        blocks = [*_blocks(self.chunks, 1), *_blocks(more, len(levels))]
        self._writer.set_defaults(levels=[*self.subsamp.tolist(), *levels], chunks=blocks)
        self.subsamp = np.concatenate([self.subsamp, np.array(levels, dtype=np.int64)])
        self.chunks = np.array(blocks, dtype=np.int64)
        self.nlevels = len(self.subsamp)

    # -- XML ---------------------------------------------------------------------------------------------

    def set_attribute_labels(self, attribute: str, labels: Sequence[object]) -> None:
        """Name the values of an attribute ("illumination", "channel", "tile", "angle"), e.g. ("488", "561").

        Parameters
        ----------
        attribute
            One of the four.
        labels
            As many as the writer was made for, in the order of the ids.

        Raises
        ------
        InvalidInputError
            If there are not as many labels as values.
        MissingKeyError
            If the attribute is another.
        """
        if attribute not in self.attribute_counts:
            raise MissingKeyError(
                f"{attribute!r} is no attribute; they are {', '.join(self.attribute_counts)}"
            )
        count = self.attribute_counts[attribute]
        if isinstance(labels, str) or len(labels) != count:
            raise InvalidInputError(
                f"{attribute} has {count} values and needs as many labels; found {labels!r}"
            )
        self.attribute_labels[attribute] = labels
        self._writer.set_labels(attribute, {id_: str(label) for id_, label in enumerate(labels)})

    def write_xml(
        self,
        camera_name: str = "default",
        microscope_name: str = "default",
        microscope_version: str = "0.0",
        user_name: str = "user",
    ) -> None:
        """Write the XML, with what has been appended so far. May be called again, also after `close`.

        Parameters
        ----------
        camera_name
            Of all setups.
        microscope_name, microscope_version
            What recorded, and by which version of its software.
        user_name
            Who recorded.

        Raises
        ------
        InvalidInputError
            If nothing has been appended.
        """
        if not self._writer.views and self._writer.existing is None:
            raise InvalidInputError("nothing has been appended yet; call append_view before write_xml")
        self._writer.camera_name = camera_name
        self._writer.generated_by = GeneratedBy(
            library_version=version("npy2bdv"),
            microscope=microscope_name,
            microscope_version=microscope_version,
            user=user_name,
        )
        self._save()

    def _xml_now(self) -> Path:
        """Where the XML goes; the program's folder may have changed since the writer was made."""
        given, place = self._first_xml
        return place if self.filename_xml == given else Path(self.filename_xml).absolute()

    def _save(self) -> None:
        self._writer.path_xml = self._xml_now()  # scripts set it, to write another XML over one HDF5
        self._writer.save()

    def read_affine(
        self,
        time: int = 0,
        illumination: int = 0,
        channel: int = 0,
        tile: int = 0,
        angle: int = 0,
        index: int = 0,
    ) -> NDArray[np.float64]:
        """Return a transform of a view as a 3x4 matrix.

        Parameters
        ----------
        time, illumination, channel, tile, angle
            Which view.
        index
            0 is the outermost transform (applied last); the calibration comes last.

        Raises
        ------
        OutOfRangeError
            If there is no such transform.
        MissingKeyError
            If the view was not appended.
        """
        view = self._view(time, illumination, channel, tile, angle)
        return matrix_of(self._writer.transforms(view), index, view)

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
        """Put a transform outermost (it is applied last) and write the XML at once.

        Parameters
        ----------
        m_affine
            3x4, or 4x4 with the last row 0 0 0 1: from what the other transforms give to the world.
        name_affine
            Its name in the XML.
        time, illumination, channel, tile, angle
            Its ids, counted from 0.

        Raises
        ------
        InvalidInputError
            If the matrix is not 3x4 (or 4x4 with the last row 0 0 0 1), holds NaN, or is singular.
        MissingKeyError
            If the view was not appended.
        """
        view = self._view(time, illumination, channel, tile, angle)
        transform = ViewTransform(affine=usable(m_affine), name=name_affine)
        self._writer.set_transforms(view, (transform, *self._writer.transforms(view)))
        self._save()

    # -- life --------------------------------------------------------------------------------------------

    def checkpoint(self, *, sync: bool = False) -> dict[ViewId, int]:
        """Make all planes taken so far safe against a kill of the process; see `DatasetWriter.checkpoint`.

        Parameters
        ----------
        sync
            Against a power cut, too: wait until the disk has it.
        """
        return self._writer.checkpoint(sync=sync)

    def stats(self) -> Stats:
        """Return how the recording goes: frames, bytes, rate, how full the buffers are."""
        return self._writer.stats()

    def close(self) -> None:
        """Complete all views and close the pixels; a second call does nothing.

        What was appended since the last `write_xml` (or all, if it was forgotten) is brought into the XML.
        """
        self._writer.path_xml = self._xml_now()
        self._writer.close()

    @property
    def setup_id_present(self) -> list[list[bool]]:
        """For each time point and setup whether the view was appended."""
        return [
            [ViewId(time, setup) in self._writer.views for setup in range(self.nsetups)]
            for time in range(max(1, self.ntimes))
        ]

    def _view(self, time: int, illumination: int, channel: int, tile: int, angle: int) -> ViewId:
        indices = {"illumination": illumination, "channel": channel, "tile": tile, "angle": angle}
        setup = 0
        for name, index in indices.items():
            count = self.attribute_counts[name]
            if index != int(index) or not 0 <= index < count:
                raise OutOfRangeError(f"{name} {index} is out of range: there are {count}, counted from 0")
            setup = setup * count + int(index)
        if time != int(time) or time < 0:
            raise OutOfRangeError(f"time {time} is out of range: time points are whole numbers from 0 on")
        return ViewId(int(time), setup)


def _numbers(pixels: Any) -> NDArray[Any]:
    array = np.asarray(pixels)
    if array.dtype.kind not in "biuf":
        raise InvalidTypeError(
            f"pixels are integers or real numbers; found an array of {array.dtype} of shape {array.shape}"
        )
    return array


def _stack_shape(shape: Any) -> tuple[int, int, int]:
    if len(shape) != 3 or any(size != int(size) or size < 1 for size in shape):
        raise InvalidInputError(f"a stack has three sizes (z, y, x), each at least 1; found {tuple(shape)}")
    z, y, x = map(int, shape)
    return z, y, x


def _triples(rows: Any) -> tuple[tuple[Any, ...], ...]:
    """Return factors or blocks as tuples; one triple alone is one level. What is in them is judged later."""
    given = tuple(tuple(row) if np.ndim(row) else row for row in rows)
    if not given:
        raise InvalidInputError(f"no level is given: {rows!r}; give a triple (z, y, x) for each")
    return given if isinstance(given[0], tuple) else (given,)


def _blocks(blocks: Any, n_levels: int) -> tuple[tuple[int, ...], ...]:
    """Return a block for each level: the first for all where there are too few."""
    whole = tuple(tuple(int(size) for size in block) for block in blocks)
    return whole if len(whole) >= n_levels else whole[:1] * n_levels


def _pixel_type(dtype: Any) -> np.dtype[Any]:
    try:
        kind: np.dtype[Any] = np.dtype("" if dtype is None else dtype)  # numpy takes None for float64
    except TypeError:
        raise InvalidInputError(
            f"{dtype!r} is no pixel type; give a name as numpy has it, e.g. 'uint16'"
        ) from None
    return kind


def _as_given(existing: Existing, filename: Path) -> tuple[Path, Path, FormatCard]:
    """Return the paths of a dataset that is there, relative where the given one is."""
    paths = [existing.path_xml, existing.path_pixels]
    if not filename.is_absolute():
        paths = [
            filename.parent / path.name if path.parent == filename.parent.absolute() else path
            for path in paths
        ]
    return paths[0], paths[1], existing.card


def _named_pixels(path_xml: Path) -> Path:
    """Return the pixels that an existing XML names; they may have gone."""
    data = read_xml(path_xml)
    try:
        path_h5 = pixel_path(path_xml, data)
    except NotFoundError:
        assert isinstance(data.loader, READABLE)
        return path_xml.with_name(PureWindowsPath(data.loader.path.text).name)
    if not path_h5.resolve().is_relative_to(path_xml.parent.resolve()):
        raise InvalidInputError(
            f"{path_xml} names the pixel file {path_h5}, in another folder, where nothing is written or "
            "replaced; choose another name for the new dataset"
        )
    return path_h5


def _run_with_bar(steps: Iterator[tuple[int, int]], what: str) -> None:
    """Run a job that yields (done, total) planes, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        for done, total in steps:
            bar.update(task, completed=done, total=total)
