"""Convert: TIFF and .npy files, arrays and other datasets into a new dataset, a few planes at a time."""

from __future__ import annotations

import logging
import math
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npy2bdv import dataset, xml
from npy2bdv.draft import Draft
from npy2bdv.engine import DEFAULT_MEMORY
from npy2bdv.errors import InvalidInputError, WriteError
from npy2bdv.location import dataset_paths
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import GeneratedBy, PathRef, ViewId, ViewTransform
from npy2bdv.sources import names_dataset, open_source
from npy2bdv.storage import remove_container, replace_container
from npy2bdv.storage.journal import Lock, remove_leftovers
from npy2bdv.storage.save import keep_backup, replace_file
from npy2bdv.writer import DatasetWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    from npy2bdv.dataset import Dataset, View
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.setups import Chunks, Levels
    from npy2bdv.sources import Source, SourceView
    from npy2bdv.sources.arrays import ArrayLike
    from npy2bdv.storage.base import FormatName
    from npy2bdv.writer import Compression

    Progress: TypeAlias = Callable[[int, int], None]

logger = logging.getLogger(__name__)


def resave(
    source: str | os.PathLike[str] | ArrayLike,
    out: str | os.PathLike[str],
    *,
    format: FormatName | None = None,  # noqa: A002
    zarr_version: int | None = None,
    levels: Levels = "auto",
    chunks: Chunks | None = None,
    compression: Compression = "default",
    overwrite: bool = False,
    axes: str | None = None,
    voxel_size_xyz: Iterable[float] | None = None,
    unit: str | None = None,
    max_memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
) -> Path:
    """Turn a TIFF, a .npy file, an array or another dataset into a new dataset.

    Pixels are read and written a few planes at a time, so a source may be larger than memory. Channels, tiles,
    time points, voxel size and unit are taken from the source. A dataset keeps all that its XML says: labels,
    transforms, voxel sizes, missing views, the sections of BigStitcher. The new files get their names when they
    are complete: until then, and if anything fails, what was there before stays as it was.

    Parameters
    ----------
    source
        A TIFF (ImageJ hyperstack, OME-TIFF, plain stack) or .npy file, an array (anything with ``shape``,
        ``dtype`` and slicing), or the XML or pixels of a dataset: what `open` takes.
    out
        The XML to write (``NAME.xml``), or the pixels (``NAME.h5``, ``NAME.n5``, ``NAME.ome.zarr``); the other
        lies beside it.
    format, zarr_version
        How pixels are stored, as in `create`.
    levels
        Downsampling factors (z, y, x) of each level, or "auto": those that BigDataViewer proposes. An image of
        at most 256 pixels along each axis gets the full resolution only.
    chunks
        Block size (z, y, x) in pixels, one for all levels or one for each. By default that of the format.
    compression
        As in `create`. By default that of the format, whatever the source has.
    overwrite
        Replace a dataset of the same name. Its XML is kept as ``NAME.xml~1``.
    axes
        One letter for each axis of the source, of t (time), c (channel), z, y, x, where it does not say or is
        wrong.
    voxel_size_xyz, unit
        Size of a voxel (x, y, z), in place of what the source says.
    max_memory
        Bytes that buffers of pixels may take; one row of blocks of the source comes on top.
    progress
        Called as ``progress(done, total)`` with bytes of full resolution.

    Returns
    -------
    path
        The XML.

    Raises
    ------
    NotFoundError
        If the source or the folder of `out` is not there.
    ExistsError
        If the XML or the pixels exist and `overwrite` is not set.
    InUseError
        If another process is writing a dataset of the same name.
    FormatError
        If the source is of no kind that can be read, or damaged.
    InvalidInputError
        If axes, voxel size, factors, blocks or compression cannot be right, or `out` is the source itself.
    InvalidTypeError
        If the pixels are of a type that cannot be written.

    Examples
    --------
    >>> import numpy as np, npy2bdv, tempfile
    >>> two_channels = np.zeros((2, 3, 4, 5), "uint16")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = npy2bdv.resave(two_channels, f"{folder}/scan.xml", axes="czyx", voxel_size_xyz=(0.4, 0.4, 1.2))
    ...     with npy2bdv.open(path) as dataset:
    ...         len(dataset), dataset.view(channel=1).shape, dataset.view(channel=1).voxel_size_xyz
    (2, (3, 4, 5), (0.4, 0.4, 1.2))
    """
    path_xml, path_pixels, card = dataset_paths(out, format, zarr_version)
    made = GeneratedBy(library_version=version("npy2bdv"))
    with ExitStack() as stack:
        given: _Given
        if isinstance(source, (str, os.PathLike)) and names_dataset(Path(source)):
            if axes is not None or voxel_size_xyz is not None or unit is not None:
                raise InvalidInputError(
                    f"{source} is a dataset, which says itself what its axes and voxel sizes are; leave out "
                    "axes, voxel_size_xyz and unit"
                )
            given = _GivenDataset(stack.enter_context(dataset.open(source)))
            given.refuse_to_overwrite(path_xml, path_pixels)
        else:
            named = Path(source) if isinstance(source, os.PathLike) else source
            opened = open_source(named, axes=axes, voxel_size_xyz=voxel_size_xyz, unit=unit)
            given = _GivenSource(stack.enter_context(opened))
        # what cannot be stored is found before anything on disk changes
        given.add_setups(Draft(card, levels=levels, chunks=chunks, generated_by=made))
        part_xml = path_xml.with_name(f"{path_xml.stem}.part.xml")
        part_xml.unlink(missing_ok=True)
        writer = _Resaved(
            part_xml,
            path_pixels.with_name(f"{path_pixels.stem}.part{path_pixels.suffix}"),
            card=card,
            levels=levels,
            chunks=chunks,
            compression=compression,
            overwrite=overwrite,
            guarded=(path_pixels, path_xml),
            generated_by=made,
            max_memory=max_memory,
            checkpoint_seconds=math.inf,  # what is not complete is of no use
            checkpoint_bytes=sys.maxsize,
        )
        writer.original, writer.pixel_name = given.spimdata, path_pixels.name
        try:
            with writer:
                stack.callback(Lock(path_pixels).release)
                stacks = given.add_setups(writer)
                writer.check_room_for(
                    (stack.id.setup for stack in stacks), f"the new dataset {path_pixels.name}"
                )
                _copy(stacks, writer, progress)
        except BaseException:
            remove_leftovers(writer.path_pixels)
            remove_container(card, writer.path_pixels)
            part_xml.unlink(missing_ok=True)
            raise
        _put_in_place(writer, path_xml, path_pixels)
    return path_xml


class _Resaved(DatasetWriter):
    """Writes under names that are given up at the end; says what the original XML said, where there was one."""

    original: SpimData | None = None
    pixel_name = ""

    def describe(self) -> SpimData:
        """Return what the XML says of the dataset as it will be."""
        made = super().describe()
        loader = self.container.loader(PathRef(text=self.pixel_name), made.registrations)
        made = replace(made, loader=loader)
        if self.original is None:
            return made
        absent = frozenset(view for view in self.original.views() if view not in self.views)
        missing = (self.original.missing or frozenset()) | absent
        return replace(self.original, base_path=made.base_path, loader=made.loader, missing=missing)


def _put_in_place(writer: DatasetWriter, path_xml: Path, path_pixels: Path) -> None:
    remove_leftovers(path_pixels)
    try:
        replace_container(writer.card, writer.path_pixels, path_pixels)
    except PermissionError as error:  # Windows, where another program has it open
        raise WriteError(
            f"{path_pixels} cannot be replaced, another program holds it; the new dataset is complete: close that "
            f"program and rename {writer.path_pixels.name} to {path_pixels.name} and {writer.path_xml.name} to "
            f"{path_xml.name}"
        ) from error
    keep_backup(path_xml)
    replace_file(path_xml, xml.serialise(writer.describe()))
    writer.path_xml.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    """One stack to be copied, and how its planes (start, stop) are read."""

    id: ViewId
    shape: Zyx
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _copy(stacks: list[_Stack], writer: DatasetWriter, progress: Progress | None) -> None:
    done, total = 0, sum(stack.nbytes for stack in stacks)
    for stack in stacks:
        depth = writer.known(stack.id.setup).pyramid.chunks[0][0]
        with writer.stream(setup=stack.id.setup, time=stack.id.time) as stream:
            for z in range(0, stack.shape[0], depth):
                planes = stack.read(z, min(z + depth, stack.shape[0]))
                stream.put(planes, z)
                done += planes.nbytes
                if progress is not None:
                    progress(done, total)


class _GivenSource:
    """A TIFF, a .npy file or an array."""

    spimdata = None

    def __init__(self, source: Source) -> None:
        self._source = source
        for note in source.notes:
            logger.warning(note)

    def add_setups(self, draft: Draft) -> list[_Stack]:
        """Add a setup for each channel of each tile; return the stacks to be copied."""
        setups: dict[tuple[int | str, ...], int] = {}
        stacks = []
        smallest = min(min(view.voxel_size_xyz) for view in self._source.views)  # the unit of the world
        draft.first_time = min(view.time for view in self._source.views)
        for view in self._source.views:
            if view.setup not in setups:
                setups[view.setup] = setup = draft.add_setup(
                    shape=view.shape,
                    dtype=view.dtype,
                    channel=view.channel,
                    tile=view.tile,
                    angle=view.angle,
                    illumination=view.illumination,
                    transform=_translation(view, smallest),
                    voxel_size_xyz=view.voxel_size_xyz,
                    unit=view.unit,
                )
                if view.position_xyz is not None:
                    draft.set_location(setup, view.position_xyz)
            stacks.append(
                _Stack(
                    id=ViewId(view.time, setups[view.setup]),
                    shape=view.shape,
                    dtype=view.dtype,
                    read=partial(self._source.read, view),
                )
            )
        return stacks


def _translation(view: SourceView, smallest: float) -> tuple[ViewTransform, ...]:
    """Return what BigStitcher makes of the location of a tile (formats.md 1.9)."""
    if view.position_xyz is None:
        return ()
    x, y, z = (place / smallest for place in view.position_xyz)
    return (ViewTransform(affine=Affine.translation((x, y, z)), name="Translation"),)


class _GivenDataset:
    """Another dataset. Views whose pixels are not there become missing ones."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.spimdata = dataset.spimdata
        self._views = list(self._views_with_pixels())
        if not self._views:
            raise InvalidInputError(
                f"{dataset.path} has no view whose pixels are there; nothing can be copied"
            )

    def _views_with_pixels(self) -> Iterator[View]:
        for view in self._dataset.views():
            if not self._dataset.container.has(view.id):
                logger.warning("time point %d of setup %d has no pixels: it becomes a missing view", *view.id)
                continue
            if view.level(0).factors != (1, 1, 1):
                raise InvalidInputError(
                    f"{self._dataset.path} stores setup {view.id.setup} without its full resolution: its first "
                    f"level has the factors {view.level(0).factors} (z, y, x), and no larger image can be made"
                )
            yield view

    def refuse_to_overwrite(self, path_xml: Path, path_pixels: Path) -> None:
        """Refuse to write into files that are read."""
        pixels = self._dataset.container.path
        partitions = getattr(self.spimdata.loader, "partitions", ())
        read = [self._dataset.path, pixels, *(pixels.parent / each.path.text for each in partitions)]
        for path in (path_xml, path_pixels):
            if path.resolve() in {each.resolve() for each in read}:
                raise InvalidInputError(
                    f"{path} belongs to the dataset that is read; give the new one another name"
                )

    def add_setups(self, draft: Draft) -> list[_Stack]:
        """Add the setups under their ids; return the stacks to be copied."""
        for view in self._views:
            if view.id.setup not in draft.setups:
                draft.add_setup(
                    id=view.id.setup,
                    shape=view.shape,
                    dtype=view.dtype,
                    voxel_size_xyz=view.voxel_size_xyz,
                    attributes={"setup": view.id.setup},  # what the XML says of it comes from the original
                )
        return [
            _Stack(id=view.id, shape=view.shape, dtype=view.dtype, read=partial(_planes, view))
            for view in self._views
        ]


_Given = _GivenSource | _GivenDataset


def _planes(view: View, start: int, stop: int) -> NDArray[Any]:
    return view[start:stop]
