"""TIFF files as the pixels of a dataset that BigStitcher defined without resaving: read only, page by page."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from npy2bdv.errors import ClosedError, FormatError, MissingKeyError, NotFoundError
from npy2bdv.handle import Handle
from npy2bdv.storage.base import FormatCard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import ViewId

CARD = FormatCard(
    name="tiff",
    loader="spimreconstruction.filemap2",
    suffixes=(".tif", ".tiff"),
    pixel_types=("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"),
    codecs={"none": None},
    default_codec="none",
    default_chunk=(1, 256, 256),
    max_chunk_bytes=2**32,
    concurrent=False,
    opens="BigStitcher, through Bio-Formats; only read here",
)

_FILES_KEPT = 8
"""Files stay open until so many others have been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffImage:
    """Where the image of a view lies: a file, and numbers inside of it, counted from 0.

    `shape` (z, y, x) is what the XML says, if it does; the file has to agree.
    """

    path: Path
    series: int = 0
    channel: int = 0
    time: int = 0
    shape: Zyx | None = None


class TiffContainer(Handle):
    """The TIFF files of a dataset. May be read from several threads, which then take turns."""

    card = CARD

    def __init__(self, path: Path, images: Mapping[ViewId, TiffImage]) -> None:
        self.path = path
        self._images = images
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._files: OrderedDict[Path, tifffile.TiffFile] = OrderedDict()
        self._guard = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_images": self._images, "_closed": self._closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        """Return the factors of the one level there is."""
        return ((1.0, 1.0, 1.0),)

    def views(self) -> Iterator[ViewId]:
        """Iterate over the views that have a file, by time, then setup."""
        return (view for view in sorted(self._images) if self.has(view))

    def has(self, view: ViewId, level: int = 0) -> bool:
        """Tell whether the file of a view is there."""
        image = self._images.get(view)
        return level == 0 and image is not None and image.path.is_file()

    def level(self, view: ViewId, level: int) -> TiffLevel:
        """Return the full resolution of a view."""
        image = self._images.get(view)
        if image is None or level:
            raise MissingKeyError(
                f"the XML names no file for time point {view.time}, setup {view.setup}, level {level}"
            )
        with self._guard:
            return TiffLevel(self, image)

    def read(self, image: TiffImage, planes: list[int], box: tuple[slice, slice]) -> NDArray[Any]:
        """Return a box (y, x) of pages of a file, given by their numbers."""
        with self._guard:
            series = self.series(image)
            first = read_plane(series, planes[0])[box]
            pixels = np.empty((len(planes), *first.shape), series.dtype.newbyteorder("="))
            pixels[0] = first
            for z, number in enumerate(planes[1:], 1):
                pixels[z] = read_plane(series, number)[box]
        return pixels

    def series(self, image: TiffImage) -> tifffile.TiffPageSeries:
        """Return the image of a file, which is opened if need be."""
        if self._closed:
            raise ClosedError(f"the files in {self.path} are closed")
        file = self._files.get(image.path)
        if file is None:
            file = self._files[image.path] = _opened(image.path)
            if len(self._files) > _FILES_KEPT:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(image.path)
        try:
            found = file.series
        except (tifffile.TiffFileError, ValueError, IndexError) as error:
            raise FormatError(
                f"{image.path} is damaged, or was cut short ({error}); copy it again"
            ) from error
        if image.series >= len(found):
            raise FormatError(
                f"{image.path} has {len(found)} images; the XML asks for number {image.series}, counted from 0"
            )
        return found[image.series]

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        with self._guard:
            self._closed = True
            while self._files:
                self._files.popitem()[1].close()


class TiffLevel:
    """The image of a view: some pages of a file. A chunk is a page."""

    def __init__(self, container: TiffContainer, image: TiffImage) -> None:
        self._container = container
        self._image = image
        series = container.series(image)
        self._planes = _planes(series, image)
        y, x = series.shape[-2:]
        self.shape: Zyx = (len(self._planes), y, x)
        self.chunk: Zyx = (1, y, x)
        self.dtype: np.dtype[Any] = series.dtype.newbyteorder("=")
        self.compression = tifffile.COMPRESSION(series.keyframe.compression).name.lower()
        self._dataoffset = series.dataoffset
        if image.shape is not None and image.shape != self.shape:
            raise FormatError(
                f"{image.path} holds an image of {self.shape} pixels (z, y, x), the XML describes {image.shape}: "
                "it was cut short, is not the file that was meant, or BigStitcher puts the stack together from "
                "several files: resave the dataset there"
            )

    @property
    def nbytes_on_disk(self) -> int:
        """How many bytes the pages take."""
        if self._dataoffset is not None:
            return math.prod(self.shape) * self.dtype.itemsize
        with self._container._guard:
            pages: Any = self._container.series(self._image).pages
            return sum(
                sum(pages[number].databytecounts) for number in self._planes if pages[number] is not None
            )

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        planes = self._planes[region[0]]
        if not planes:
            y, x = (len(range(size)[part]) for part, size in zip(region[1:], self.shape[1:], strict=True))
            return np.empty((0, y, x), self.dtype)
        return self._container.read(self._image, planes, region[1:])


def _opened(path: Path) -> tifffile.TiffFile:
    if not path.is_file():
        raise NotFoundError(f"the XML names the file {path}, which is not there; put it there")
    try:
        return tifffile.TiffFile(path)
    except (tifffile.TiffFileError, ValueError) as error:
        raise FormatError(
            f"{path} cannot be read as TIFF ({error}); files that BigStitcher reads through Bio-Formats are "
            "read here only if they are TIFF: resave the dataset there"
        ) from error


def _planes(series: tifffile.TiffPageSeries, image: TiffImage) -> list[int]:
    """Return the numbers of the pages of a stack."""
    names, sizes = series.axes[:-2], series.shape[:-2]
    if series.axes[-2:] != "YX" or any(a not in "TCZIQ" and n > 1 for a, n in zip(names, sizes, strict=True)):
        raise FormatError(
            f"{image.path} has the axes {series.axes} {series.shape}; z, y, x of one colour are read"
        )
    lengths = dict(zip(names, sizes, strict=True))
    depth = None if image.shape is None else image.shape[0]
    # pages of which the file says nothing, or what is called time by a program that knows no z
    others = [a for a in names if a in "TIQ" and lengths[a] > 1 and depth in (None, lengths[a])]
    z = others[0] if lengths.get("Z", 1) == 1 and depth != 1 and len(others) == 1 else "Z"
    at = {"C": image.channel, "T": image.time}
    for axis, name in (("C", "channel"), ("T", "time point")):
        if axis != z and at[axis] >= lengths.get(axis, 1):
            raise FormatError(
                f"{image.path} has {lengths.get(axis, 1)} {name}s; the XML asks for number {at[axis]}, counted from 0"
            )
    planes = []
    for number in range(lengths.get(z, 1)):
        at[z] = number
        planes.append(int(np.ravel_multi_index([at.get(a, 0) for a in names], sizes)) if names else 0)
    return planes


def read_plane(series: tifffile.TiffPageSeries, number: int) -> NDArray[Any]:
    """Return one plane (y, x): where all lies in a row, not by page, since ImageJ files beyond 4 GB have one page.

    Raises
    ------
    FormatError
        If the file ends before it, or is compressed in a way that cannot be read here.
    """
    shape = series.shape[-2:]
    offset = series.dataoffset
    file = series.keyframe.parent.filehandle
    try:
        if offset is not None and not file.closed:
            size = math.prod(shape)
            dtype = series.dtype.newbyteorder(series.keyframe.parent.byteorder)
            plane: NDArray[Any] = file.read_array(dtype, size, offset + number * size * dtype.itemsize)
        else:
            plane = _page(series.pages[number], shape, series.dtype)
    except (ValueError, IndexError, OSError) as error:
        raise FormatError(
            f"page {number} of {file.path} cannot be read: {error}. If a codec is missing: pip install imagecodecs"
        ) from error
    if plane.size != math.prod(shape):
        raise FormatError(f"page {number} has {plane.size} pixels in place of {shape[0]} x {shape[1]}")
    return plane.reshape(shape)


def _page(
    page: tifffile.TiffPage | tifffile.TiffFrame | None, shape: tuple[int, ...], dtype: Any
) -> NDArray[Any]:
    if page is None:
        return np.zeros(shape, dtype)
    file = page.parent.filehandle
    if not file.closed:
        return page.asarray()
    file.open()  # one of the other files of an OME-TIFF, of which there may be thousands
    try:
        return page.asarray()
    finally:
        file.close()
