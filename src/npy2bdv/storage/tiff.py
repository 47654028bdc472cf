"""TIFF files as the pixels of a dataset that BigStitcher defined without resaving: read only, page by page."""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
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
    from npy2bdv.storage.fence import Fence

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

_Z_BEFORE = re.compile(r"(?:^|[^a-z])(?:z|zs|sec|fp|focal|focalplane|plane|slice)[ _-]*$", re.IGNORECASE)
"""What stands before the number of a plane, in names of files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffImage:
    """Where the image of a view lies: a file, and numbers inside of it, counted from 0.

    `further` are files of the planes behind the first; `grouped` says that there are such, which are found by
    their names if they are not listed. `shape` (z, y, x) is what the XML says, if it does; the files have to agree.
    """

    path: Path
    further: tuple[Path, ...] = ()
    grouped: bool = False
    series: int = 0
    channel: int = 0
    time: int = 0
    shape: Zyx | None = None


class TiffContainer(Handle):
    """The TIFF files of a dataset. May be read from several threads, which then take turns."""

    card = CARD

    def __init__(self, path: Path, images: Mapping[ViewId, TiffImage], *, fence: Fence | None = None) -> None:
        self.path = path
        self._images = images
        self._fence = fence
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._files: OrderedDict[Path, tifffile.TiffFile] = OrderedDict()
        self._planes: dict[TiffImage, tuple[Path, ...]] = {}
        """The files of images that are put together from several."""
        self._guard = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_images": self._images, "_fence": self._fence, "_closed": self._closed}

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
        """Tell whether the file of a view is there, or one of several."""
        image = self._images.get(view)
        return (
            level == 0 and image is not None and any(path.is_file() for path in (image.path, *image.further))
        )

    def level(self, view: ViewId, level: int) -> TiffLevel | PlanesLevel:
        """Return the full resolution of a view."""
        image = self._images.get(view)
        if image is None or level:
            raise MissingKeyError(
                f"the XML names no file for time point {view.time}, setup {view.setup}, level {level}"
            )
        with self._guard:
            if not (image.grouped or image.further):
                return TiffLevel(self, image)
            paths = self._paths(image)
            there = next((path for path in (image.path, *paths) if path.is_file()), image.path)
            first = TiffLevel(self, replace(image, path=there, shape=None))
            if (
                len(paths) > 1 and first.shape != image.shape
            ):  # else it has all planes, or knows where they are
                return PlanesLevel(self, image, paths, first)
            return TiffLevel(self, replace(image, path=there))

    def _paths(self, image: TiffImage) -> tuple[Path, ...]:
        """Return the files of the planes of an image, in their order."""
        if image not in self._planes:
            paths = (image.path, *image.further)
            if not image.further:
                paths = planes_by_name(image.path, None if image.shape is None else image.shape[0])
                if self._fence is not None and self._fence.strict:
                    for path in paths:
                        self._fence.check(path, image.path)
            self._planes[image] = paths
        return self._planes[image]

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


class PlanesLevel:
    """The image of a view that is put together from files, each of which holds a plane (or as many as the first).

    Files that are absent are zeros.
    """

    def __init__(
        self, container: TiffContainer, image: TiffImage, paths: tuple[Path, ...], first: TiffLevel
    ) -> None:
        self._container = container
        self._image = image
        self._paths = paths
        self._file_shape = first.shape
        depth, y, x = first.shape
        self.shape: Zyx = (len(paths) * depth, y, x)
        self.chunk = first.chunk
        self.dtype = first.dtype
        self.compression = first.compression
        if image.shape is not None and image.shape != self.shape:
            raise FormatError(
                f"{len(paths)} files like {image.path} make an image of {self.shape} pixels (z, y, x), the XML "
                f"describes {image.shape}: put those that are absent there"
            )

    @property
    def nbytes_on_disk(self) -> int:
        """How many bytes the files take."""
        return sum(path.stat().st_size for path in self._paths if path.is_file())

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        planes, *sides = (range(size)[part] for part, size in zip(region, self.shape, strict=True))
        pixels = np.zeros((len(planes), *map(len, sides)), self.dtype)
        for z, plane in enumerate(planes):
            number, index = divmod(plane, self._file_shape[0])
            if self._paths[number].is_file():
                box = slice(index, index + 1), region[1], region[2]
                pixels[z] = self._file(self._paths[number]).read(box)[0]
        return pixels

    def _file(self, path: Path) -> TiffLevel:
        with self._container._guard:
            level = TiffLevel(self._container, replace(self._image, path=path, shape=None))
        if (level.shape, level.dtype) != (self._file_shape, self.dtype):
            raise FormatError(
                f"{path} holds {level.shape} pixels (z, y, x) of {level.dtype}; the first file of the stack has "
                f"{self._file_shape} of {self.dtype}"
            )
        return level

    def count_absent(self, region: Region) -> int:
        """Return how many planes of a region lie in files that are absent."""
        planes = range(self.shape[0])[region[0]]
        return sum(not self._paths[plane // self._file_shape[0]].is_file() for plane in planes)


def planes_by_name(path: Path, depth: int | None = None) -> tuple[Path, ...]:
    """Return the files beside a file whose names differ from its own by the number of the plane, in its order.

    That is the number behind a "z" or a word like it; else that of which there are as many as there are planes
    (`depth`), or the only one that changes. Planes between, of which no file is there, are counted, too.

    Raises
    ------
    FormatError
        If it may be any of several numbers.
    """
    names = {each.name for each in path.parent.iterdir()} if path.parent.is_dir() else set()
    found: list[tuple[str, dict[int, str]]] = []
    for number in re.finditer(r"\d+", path.name):
        before, after = path.name[: number.start()], path.name[number.end() :]
        like = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
        files = {int(match[1]): match[0] for match in map(like.fullmatch, sorted(names)) if match}
        if set(files.values()) - {path.name}:
            files.setdefault(int(number[0]), path.name)
            if depth is not None:
                width = len(number[0])
                between = range(min(files), max(files)) if max(files) - min(files) < depth else ()
                files = {each: f"{before}{each:0{width}}{after}" for each in between} | files
            found.append((before, files))
    for chosen in (
        [files for before, files in found if _Z_BEFORE.search(before)],
        [files for _, files in found if len(files) == depth],
        [files for _, files in found],
    ):
        if len(chosen) == 1:
            return tuple(path.with_name(name) for _, name in sorted(chosen[0].items()))
    if not found:
        return (path,)
    raise FormatError(
        f"{path} is one plane of a stack, and several numbers in its name differ from those of files beside it; "
        "which is that of the plane cannot be told: resave the dataset in BigStitcher"
    )


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
    except (ValueError, IndexError, OSError, RuntimeError) as error:  # imagecodecs raises the last
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
