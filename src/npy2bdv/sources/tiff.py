"""TIFF files as a source: ImageJ hyperstacks, OME-TIFF, plain stacks, small or big."""

import math
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from npy2bdv.errors import FormatError, InvalidInputError, InvalidTypeError
from npy2bdv.model.units import unit_name
from npy2bdv.sources.base import Axes, Source, SourceView, make_views
from npy2bdv.sources.extent import check_whole
from npy2bdv.sources.labels import Labels, one_unit, placed
from npy2bdv.storage.tiff import read_plane


class _Place(NamedTuple):
    """Where a stack lies in a file."""

    series: tifffile.TiffPageSeries
    axes: Axes
    time: int
    channel: int


class TiffSource(Source):
    """Reads stacks from a TIFF file.

    Axes, voxel size and channel names are taken from the metadata of ImageJ and of OME. A plain stack of
    pages is z; its resolution tags are not used, since they say nothing of z and often mean paper. Equal
    images of an OME-TIFF become tiles, which lie where the stage was for their first plane.

    Parameters
    ----------
    path
        The file.
    axes
        One letter for each axis, in place of what the file says.

    Raises
    ------
    FormatError
        If the file is no TIFF, is cut short, or is compressed in a way that cannot be read here.
    InvalidTypeError
        If it holds colours (RGB) or pixels of a type that cannot be written.
    InvalidInputError
        If its axes are not understood.
    """

    def __init__(self, path: Path, *, axes: str | None = None) -> None:
        try:
            self._file = tifffile.TiffFile(path)
        except tifffile.TiffFileError as error:
            raise FormatError(f"{path} cannot be read as TIFF: {error}") from error
        try:
            check_whole(path, _promised(self._file))
            notes: list[str] = []
            places: dict[SourceView, _Place] = {}
            for tile, (series, labels) in enumerate(_images(self._file, notes)):
                layout = _axes(series, axes)
                views = make_views(
                    layout,
                    dtype=series.dtype,
                    tile=tile,
                    channels=labels.channels,
                    voxel_size_xyz=labels.voxel_size_xyz,
                    unit=labels.unit,
                    position_xyz=labels.position_xyz,
                )
                places |= {
                    view: _Place(series, layout, time, channel) for view, (time, channel) in views.items()
                }
                notes += [*labels.notes, *_absent(series)]
                for other in _files(series) - {str(path.resolve())}:
                    check_whole(Path(other))
                _check_readable(series, path, _promised(self._file))
            if not places:
                raise FormatError(f"{path} holds no image; save it again")
            super().__init__(places, notes)
        except BaseException:
            self._file.close()
            raise

    def _planes(self, place: Any, z0: int, z1: int) -> NDArray[Any]:
        series, axes, time, channel = place
        coordinates = {"t": time, "c": channel}
        _, height, width = axes.stack_shape
        planes = np.empty((z1 - z0, height, width), series.dtype.newbyteorder("="))
        for z in range(z0, z1):
            coordinates["z"] = z
            number = 0
            for name, length in zip(axes.names[:-2], axes.shape[:-2], strict=True):
                number = number * length + coordinates.get(name, 0)
            planes[z - z0] = read_plane(series, number)
        return planes

    def _close(self) -> None:
        self._file.close()


def _images(file: tifffile.TiffFile, notes: list[str]) -> Iterator[tuple[tifffile.TiffPageSeries, Labels]]:
    """Choose the images to take, with what the metadata say of each."""
    images = file.series
    if file.is_ome and file.ome_metadata:
        labels = list(_ome_labels(file.ome_metadata))
    else:
        labels = [_imagej_labels(file) if file.is_imagej else Labels()]
    if len(images) > 1 and not (file.is_ome and len({(i.axes, i.dtype, i.shape) for i in images}) == 1):
        found = ", ".join(f"{i.axes} {i.shape}" for i in images)
        notes.append(
            f"Only the first of {len(images)} images is taken, since they are no equal tiles: {found}."
        )
        images = images[:1]
    yield from zip(images, chain(labels, repeat(Labels())), strict=False)


def _axes(series: tifffile.TiffPageSeries, given: str | None) -> Axes:
    if "S" in series.axes and series.shape[series.axes.index("S")] > 1:
        raise InvalidTypeError(
            f"the TIFF holds colours: axes {series.axes}, shape {series.shape}; split them into channels"
        )
    names = given or series.axes
    stacked = [a for a, n in zip(series.axes, series.shape, strict=True) if a in "IQ" and n > 1]
    if not given and len(stacked) == 1 and "Z" not in series.axes:
        names = series.axes.replace(stacked[0], "Z", 1)  # pages of which the file says nothing
    axes = Axes(names=names, shape=tuple(series.shape))
    if axes.names[-2:] != "yx":
        raise InvalidInputError(f"the axes of a TIFF end in yx, as its pages do; found {names!r}")
    return axes


def _absent(series: tifffile.TiffPageSeries) -> Iterator[str]:
    count = sum(page is None for page in series.pages) if series.kind == "ome" else 0
    if count:
        yield f"{count} of {len(series.pages)} planes are in no file and are read as zeros."


def _promised(file: tifffile.TiffFile) -> int | None:
    """Return how many planes the metadata promise, where they do."""
    images = (file.imagej_metadata or {}).get("images")
    return images if isinstance(images, int) else None


def _files(series: tifffile.TiffPageSeries) -> set[str]:
    """Return the files over which an OME-TIFF is spread."""
    pages = series.pages if series.kind == "ome" else ()
    return {str(Path(page.parent.filehandle.path).resolve()) for page in pages if page is not None}


def _check_readable(series: tifffile.TiffPageSeries, path: Path, promised: int | None) -> None:
    """Read what fails at once where a file is cut short or a codec is missing, before anything is written."""
    offset = series.dataoffset
    if offset is not None and offset + series.nbytes > series.keyframe.parent.filehandle.size:
        raise FormatError(
            f"{path} is cut short: it should hold {series.nbytes} bytes of pixels; copy it again"
        )
    n_planes = math.prod(series.shape[:-2])
    if promised is not None and n_planes < promised:
        raise FormatError(
            f"{path} is cut short: its metadata promise {promised} planes, {n_planes} are there; copy it again"
        )
    if offset is None and len(series.pages) != n_planes:
        raise FormatError(
            f"{path} has {len(series.pages)} pages in place of {n_planes}; save it page by page"
        )
    if offset is None:
        read_plane(series, 0)


def _imagej_labels(file: tifffile.TiffFile) -> Labels:
    """Read the calibration of ImageJ: x and y from the resolution tags, z and units from the description."""
    entries = file.imagej_metadata or {}
    # tifffile turns what looks like a number into one
    units = [unit_name(str(entries.get(key, entries.get("unit", "")))) for key in ("unit", "yunit", "zunit")]
    tags = file.pages.first.tags
    sizes: list[float | None] = [1.0, 1.0, abs(float(entries.get("spacing", 1.0)))]
    if units[0] != "px":
        sizes[:2] = (_pixel_size(tags.valueof(name)) for name in ("XResolution", "YResolution"))
    return one_unit(sizes, units)


def _pixel_size(resolution: tuple[int, int] | None) -> float | None:
    """Turn pixels per unit, a fraction, into the size of a pixel."""
    return resolution[1] / resolution[0] if resolution and resolution[0] else None


def _ome_labels(text: str) -> Iterator[Labels]:
    """Read sizes, units and channel names of each image from OME-XML; the schema's default unit is µm."""
    try:
        images = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        yield Labels(notes=(f"The OME metadata cannot be read ({error}): give the voxel size.",))
        return
    for pixels in images.iterfind("{*}Image/{*}Pixels"):
        sizes = [pixels.get(f"PhysicalSize{axis}") for axis in "XYZ"]
        units = [unit_name(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XYZ"]
        channels = tuple(channel.get("Name", "") for channel in pixels.iterfind("{*}Channel"))
        labels = one_unit([float(s) if s else None for s in sizes], units)
        if sizes[0] and sizes[1] and not sizes[2] and int(pixels.get("SizeZ", 1)) > 1:
            note = f"The file tells no distance of planes: 1 {labels.unit} is taken; give the voxel size."
            labels = labels._replace(notes=(*labels.notes, note))
        yield _with_position(labels._replace(channels=channels if all(channels) else ()), pixels)


def _with_position(labels: Labels, pixels: ElementTree.Element) -> Labels:
    """Add the position of the stage, which OME-XML gives for planes: that of the first one that has one."""
    for plane in pixels.iterfind("{*}Plane"):
        given = [plane.get(f"Position{axis}") for axis in "XYZ"]
        if given[0] is None or given[1] is None:
            continue
        try:
            places = [float(text or 0) for text in given]
        except ValueError:
            places = [math.nan] * 3
        # the schema's default is a "reference frame" of unknown unit: programs that leave it out mean that of sizes
        units = [unit_name(plane.get(f"Position{axis}Unit", "reference frame")) for axis in "XYZ"]
        units = [labels.unit if unit == "reference frame" else unit for unit in units]
        return placed(labels, places, units)
    return labels
