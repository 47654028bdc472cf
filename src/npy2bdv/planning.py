"""The plan of a resave: which views, how they are read, into which files, by which tasks. Nothing is written."""

from __future__ import annotations

import hashlib
import logging
import math
import operator
import os
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npy2bdv import dataset
from npy2bdv.draft import Draft
from npy2bdv.errors import InvalidInputError
from npy2bdv.given import GivenDataset, GivenSource, cropped, moved
from npy2bdv.location import dataset_paths, suffix_of
from npy2bdv.model.spimdata import GeneratedBy, SpimData, ViewId
from npy2bdv.reading import (
    Conversion,
    Reading,
    SourceOrigin,
    fingerprint,
)
from npy2bdv.setups import pixel_type
from npy2bdv.sources import names_dataset, open_source
from npy2bdv.storage import count_files, create_container
from npy2bdv.storage.servers import RemotePath, place_of
from npy2bdv.tasks import Slab, Target, Task, carry_out, slabs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import DTypeLike

    from npy2bdv.reading import Casting, Opened
    from npy2bdv.setups import Chunks, Levels
    from npy2bdv.sources.arrays import ArrayLike
    from npy2bdv.storage.base import FormatCard, FormatName, ImageNote
    from npy2bdv.writer import Compression

logger = logging.getLogger(__name__)

TASK_BYTES = 256 * 2**20
_SAMPLE_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """A file of a partitioned dataset: its final name, and the views in it."""

    path: Path
    views: tuple[ViewId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResavePlan:
    """What a resave will do.

    Attributes
    ----------
    path_xml, path_pixels
        What it writes.
    card
        The format.
    described
        What the XML will say, but for where the pixels lie.
    views
        What is written of each view, whole.
    notes
        What the format says of the images of each setup.
    tasks
        The pieces of work.
    partitions
        The files of a partitioned dataset; none where it is not.
    identity
        Tells whether a resave that was begun was this one.
    """

    path_xml: Path
    path_pixels: Path
    card: FormatCard
    described: SpimData
    views: tuple[Slab, ...]
    notes: Mapping[int, ImageNote]
    tasks: tuple[Task, ...]
    partitions: tuple[PartFile, ...]
    identity: str

    @property
    def part_xml(self) -> Path:
        """Name of the XML until all is complete."""
        return self.path_xml.with_name(f"{self.path_xml.stem}.part.xml")

    @property
    def part_pixels(self) -> Path:
        """Name of the pixels until all is complete."""
        return part_of(self.path_pixels)

    @property
    def bytes_in(self) -> int:
        """Bytes of pixels that are read: full resolution."""
        return sum(slab.nbytes // slab.dtype.itemsize * slab.reading.itemsize for slab in self.views)

    @property
    def nbytes(self) -> int:
        """Bytes of full resolution that are written, before compression."""
        return sum(slab.nbytes for slab in self.views)

    @property
    def bytes_out(self) -> int:
        """Bytes that are written of all levels, before compression."""
        return sum(slab.nbytes_of_levels for slab in self.views)

    @property
    def n_files(self) -> int:
        """How many files of pixels there will be; fewer where blocks of zeros need none."""
        if not self.card.concurrent:
            return len(self.partitions) + 1
        known: dict[tuple[Any, ...], int] = {}
        total = 0
        for slab in self.views:
            key = (slab.pyramid, slab.dtype)
            if key not in known:
                known[key] = count_files(self.card, *key, self.tasks[0].target.codec)
            total += known[key]
        return total


def part_of(path: Path) -> Path:
    """Return the name of a file or folder of pixels until all is complete.

    On a server, where nothing gets another name, it is the final one: the XML, which comes last, makes a dataset of it.
    """
    if isinstance(path, RemotePath):
        return path
    _, suffix = suffix_of(path)
    stem = path.name[: -len(suffix)]
    return path.with_name(f"{stem}.part{path.name[len(stem) :]}")


@contextmanager
def planned(
    source: str | os.PathLike[str] | ArrayLike,
    out: str | os.PathLike[str],
    *,
    format: FormatName | None,  # noqa: A002
    zarr_version: int | None,
    levels: Levels,
    chunks: Chunks | None,
    compression: Compression,
    axes: str | None,
    voxel_size_xyz: Iterable[float] | None,
    unit: str | None,
    dtype: DTypeLike | None,
    casting: Casting,
    value_range: tuple[float, float] | None,
    crop: Sequence[Any] | None,
    partition: tuple[int, int] | None,
    skip_zeros: bool,
    task_bytes: int,
    max_memory: int,
    where: Mapping[str, Any],
    pixels: str | os.PathLike[str] | None = None,
) -> Iterator[tuple[ResavePlan, Opened]]:
    """Make the plan of a resave, and give it together with the open source. Parameters are those of `resave`."""
    path_xml, path_pixels, card = _places(out, pixels, format, zarr_version)
    codec = card.codec(compression)
    _check_numbers(task_bytes=task_bytes, max_memory=max_memory)
    sizes = _partition_sizes(partition, card)
    if skip_zeros and card.name == "hdf5":
        raise InvalidInputError(
            "skip_zeros=True is for the formats 'n5' and 'omezarr': HDF5 gives each block its place; leave it out, or "
            "compress: zeros then take next to nothing"
        )
    kind = None if dtype is None else pixel_type(dtype)
    with ExitStack() as stack:
        given: GivenDataset | GivenSource
        if isinstance(source, (str, os.PathLike)) and names_dataset(place_of(source)):
            if axes is not None or voxel_size_xyz is not None or unit is not None:
                raise InvalidInputError(
                    f"{source} is a dataset, which says itself what its axes and voxel sizes are; leave out "
                    "axes, voxel_size_xyz and unit"
                )
            given = GivenDataset(stack.enter_context(dataset.open(source)))
            given.refuse_to_overwrite(path_xml, path_pixels)
        else:
            named = Path(source) if isinstance(source, os.PathLike) else source
            opened = stack.enter_context(
                open_source(named, axes=axes, voxel_size_xyz=voxel_size_xyz, unit=unit)
            )
            given = GivenSource(opened, SourceOrigin(source=_absolute(named), axes=axes))
        draft = Draft(
            card, levels=levels, chunks=chunks, generated_by=GeneratedBy(library_version=version("npy2bdv"))
        )
        slabs, crops = [], {}
        for each in given.stacks(where):
            region = cropped(crop, each)
            conversion = None
            if kind is not None:
                conversion = Conversion.between(each.dtype, kind, casting, value_range)
            elif value_range is not None or casting != "refuse":
                raise InvalidInputError(
                    "casting= and value_range= are for another pixel type: give dtype=, too"
                )
            reading = Reading(
                origin=given.origin,
                key=each.key,
                region=region,
                conversion=conversion,
                what=each.what,
                itemsize=each.dtype.itemsize,
            )
            id_ = given.add_to(
                draft, each, reading.shape, each.dtype if conversion is None else conversion.dtype
            )
            known = draft.setups[id_.setup]
            draft.views[id_] = None
            crops[id_] = region
            slabs.append(
                Slab(
                    id=id_,
                    reading=reading,
                    pyramid=known.pyramid,
                    dtype=known.dtype,
                    start=0,
                    stop=reading.shape[0],
                )
            )
        described = (
            moved(given.described(draft, slabs), crops, slabs)
            if crop is not None
            else given.described(draft, slabs)
        )
        notes = {setup: given.note(draft, setup) for setup in {slab.id.setup for slab in slabs}}
        target = Target(
            path=part_of(path_pixels).absolute(),
            format=card.name,
            zarr_version=card.zarr_version,
            codec=codec,
            skip_zeros=skip_zeros,
        )
        files = _partitions(path_pixels, slabs, described, sizes)
        tasks = _tasks(card, target, slabs, described, files, task_bytes, max_memory)
        said = [fingerprint(source), axes, path_xml.name, path_pixels.name, [_said(task) for task in tasks]]
        yield (
            ResavePlan(
                path_xml=path_xml,
                path_pixels=path_pixels,
                card=card,
                described=described,
                views=tuple(slabs),
                notes=notes,
                tasks=tasks,
                partitions=files,
                identity=hashlib.sha256(repr(said).encode()).hexdigest(),
            ),
            given.opened,
        )


def _places(
    out: str | os.PathLike[str],
    pixels: str | os.PathLike[str] | None,
    format: FormatName | None,  # noqa: A002
    zarr_version: int | None,
) -> tuple[Path, Path, FormatCard]:
    """Return XML, pixels and format; the pixels may lie on a server while the XML lies here."""
    if pixels is None:
        return dataset_paths(out, format, zarr_version, remote=True)
    path_xml = place_of(out)
    _, path_pixels, card = dataset_paths(pixels, format, zarr_version, remote=True)
    if (
        path_xml.suffix.lower() != ".xml"
        or isinstance(path_xml, RemotePath)
        or not isinstance(path_pixels, RemotePath)
        or path_pixels.suffix.lower() == ".xml"
    ):
        raise InvalidInputError(
            f"pixels={str(pixels)!r} is for an XML on this machine (NAME.xml) whose pixels lie on a server "
            f"(s3://bucket/NAME.ome.zarr); out is {str(out)!r}: else pixels lie beside their XML, leave it out"
        )
    return path_xml, path_pixels, card


def _said(task: Task) -> Any:
    """Say all of a task that decides what it writes."""
    target = task.target
    slabs = [
        (
            *(slab.id, slab.reading.key, slab.reading.region, slab.reading.conversion),
            *(slab.pyramid, slab.dtype.str, slab.start, slab.stop),
        )
        for slab in task.slabs
    ]
    return (target.path.name, target.format, target.zarr_version, target.codec, target.skip_zeros, slabs)


def _absolute(source: Any) -> Any:
    """Return a source as it is found from other processes; a path may be relative to another folder there."""
    if isinstance(source, (str, Path)) and "://" not in str(source):
        return Path(os.path.abspath(source)) if isinstance(source, Path) else os.path.abspath(source)
    return source


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InvalidInputError(f"{name}={number!r} cannot be: give bytes, at least 1")


def _partition_sizes(partition: Any, card: FormatCard) -> tuple[int, int] | None:
    if partition is None:
        return None
    if card.name != "hdf5":
        raise InvalidInputError(
            f"partition={partition!r} is for HDF5; {card.name} is written by many workers as it is: leave it out"
        )
    try:
        times, setups = map(operator.index, partition)
    except (TypeError, ValueError):
        times = setups = -1
    if times < 0 or setups < 0:
        raise InvalidInputError(
            f"partition={partition!r} is not understood; give how many time points and how many setups go into one "
            "file, such as (10, 1); 0 means all"
        )
    return times, setups


def _partitions(
    path: Path, slabs: Sequence[Slab], described: SpimData, sizes: tuple[int, int] | None
) -> tuple[PartFile, ...]:
    """Return the files of a partitioned dataset, called as BigDataViewer calls them (formats.md 2.6)."""
    if sizes is None:
        return ()
    times = {time: place for place, time in enumerate(described.timepoints.ids)}
    setups = {setup: place for place, setup in enumerate(sorted(described.setups))}

    def place(slab: Slab) -> tuple[int, int]:
        return times[slab.id.time] // (sizes[0] or len(times)), setups[slab.id.setup] // (
            sizes[1] or len(setups)
        )

    return tuple(
        PartFile(
            path=path.with_name(f"{path.stem}-{time:02d}-{setup:02d}{path.suffix}"),
            views=tuple(slab.id for slab in some),
        )
        for (time, setup), some in groupby(sorted(slabs, key=place), place)
    )


def _tasks(
    card: FormatCard,
    target: Target,
    slabs: Sequence[Slab],
    described: SpimData,
    files: Sequence[PartFile],
    task_bytes: int,
    max_memory: int,
) -> tuple[Task, ...]:
    make = partial(Task, max_memory=max_memory)
    if card.concurrent:
        pieces = [
            replace(slab, start=start, stop=stop)
            for slab in slabs
            for start, stop in slabs_of(slab.pyramid, slab.dtype, task_bytes)
        ]
        return tuple(make(number=n, target=target, slabs=(slab,)) for n, slab in enumerate(pieces))
    if not files:
        return (make(number=0, target=target, slabs=tuple(slabs), times=described.timepoints.ids),)
    by_id = {slab.id: slab for slab in slabs}
    return tuple(
        make(
            number=n,
            target=replace(target, path=part_of(file.path).absolute()),
            slabs=tuple(by_id[view] for view in file.views),
            times=tuple(sorted({view.time for view in file.views})),
        )
        for n, file in enumerate(files)
    )


# -- estimate --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a resave is likely to take, by a sample of `sample_bytes`, written by one process to a temporary folder."""

    sample_bytes: int
    seconds: float
    bytes_out: int


def estimated(plan: ResavePlan, opened: Opened) -> Estimate:
    """Write the first planes of the first view to a temporary folder, and extrapolate time and bytes on disk."""
    slab = plan.views[0]
    plane = slab.nbytes // max(1, slab.stop)
    unit = slabs_of(slab.pyramid, slab.dtype, 1)[0][1]
    stop = min(slab.stop, unit * max(1, _SAMPLE_BYTES // max(1, unit * plane)))
    z, y, x = slab.reading.region
    pyramid = replace(slab.pyramid, shape=(stop, *slab.pyramid.shape[1:]))
    region = (slice(z.start, z.start + stop), y, x)
    sample = replace(slab, pyramid=pyramid, stop=stop, reading=replace(slab.reading, region=region))
    task = plan.tasks[0]
    with tempfile.TemporaryDirectory(prefix="npy2bdv-") as folder:
        path = Path(folder) / plan.part_pixels.name
        task = replace(task, slabs=(sample,), target=replace(task.target, path=path), times=(slab.id.time,))
        if plan.card.concurrent:
            with create_container(plan.card, path) as container:
                container.declare(slab.id, pyramid, slab.dtype, task.target.codec)
        begun = time.perf_counter()
        done = carry_out(task, opened=opened)
        seconds = time.perf_counter() - begun
    share = plan.nbytes / sample.nbytes
    return Estimate(
        sample_bytes=sample.nbytes, seconds=seconds * share, bytes_out=math.ceil(done.nbytes * share)
    )
