"""Convert: files, arrays and other datasets into a new dataset, by tasks for threads, processes or a cluster.

The new files get their names when all of them are complete. Until then a list of finished tasks lies beside them, so
that a resave which was interrupted can go on.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from npy2bdv import xml
from npy2bdv.engine import DEFAULT_MEMORY, Engine
from npy2bdv.errors import ExistsError, NotFoundError, RemoteError, WriteError
from npy2bdv.executors import opened as opened_executor
from npy2bdv.finished import Record
from npy2bdv.model.spimdata import Hdf5Loader, Partition, PathRef
from npy2bdv.planning import TASK_BYTES, Estimate, ResavePlan, estimated, part_of, planned
from npy2bdv.storage import (
    check_installed,
    create_container,
    link_partitions,
    remove_container,
    replace_container,
    share_container,
)
from npy2bdv.storage.base import RAW
from npy2bdv.storage.disk import check_room, explained
from npy2bdv.storage.journal import Lock, remove_leftovers
from npy2bdv.storage.save import keep_backup, remove_temporaries, replace_file
from npy2bdv.storage.servers import RemotePath
from npy2bdv.taken import refuse_beside_another, refuse_to_replace
from npy2bdv.tasks import carry_out, threads_for

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from typing import TypeAlias, Unpack

    from numpy.typing import DTypeLike

    from npy2bdv.executors import Runner
    from npy2bdv.model.spimdata import ImageLoader, SpimData
    from npy2bdv.reading import Casting, Opened
    from npy2bdv.setups import Chunks, Levels
    from npy2bdv.sources.arrays import ArrayLike
    from npy2bdv.storage.base import FormatName
    from npy2bdv.tasks import Done
    from npy2bdv.writer import Compression

    Progress: TypeAlias = Callable[[int, int], None]

logger = logging.getLogger(__name__)

_PACKED = 0.1  # what compression leaves of pixels, at best


class PlanOptions(TypedDict, total=False):
    """What `resave` and `plan_resave` take alike."""

    pixels: str | os.PathLike[str] | None
    format: FormatName | None
    zarr_version: int | None
    levels: Levels
    chunks: Chunks | None
    compression: Compression
    axes: str | None
    voxel_size_xyz: Iterable[float] | None
    unit: str | None
    dtype: DTypeLike | None
    casting: Casting
    value_range: tuple[float, float] | None
    crop: Sequence[Any] | None
    partition: tuple[int, int] | None
    skip_zeros: bool
    task_bytes: int
    max_memory: int
    views: dict[str, Any] | None


def resave(
    source: str | os.PathLike[str] | ArrayLike,
    out: str | os.PathLike[str],
    *,
    pixels: str | os.PathLike[str] | None = None,
    format: FormatName | None = None,  # noqa: A002
    zarr_version: int | None = None,
    levels: Levels = "auto",
    chunks: Chunks | None = None,
    compression: Compression = "default",
    overwrite: bool = False,
    axes: str | None = None,
    voxel_size_xyz: Iterable[float] | None = None,
    unit: str | None = None,
    views: dict[str, Any] | None = None,
    crop: Sequence[Any] | None = None,
    dtype: DTypeLike | None = None,
    casting: Casting = "refuse",
    value_range: tuple[float, float] | None = None,
    partition: tuple[int, int] | None = None,
    skip_zeros: bool = False,
    executor: Runner | None = None,
    workers: int | None = None,
    resume: bool = False,
    task_bytes: int = TASK_BYTES,
    max_memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
) -> Path:
    """Turn a TIFF, a .npy file, an array or another dataset into a new dataset.

    Pixels are read and written a few planes at a time, so a source may be larger than memory. Channels, tiles,
    time points, voxel size and unit are taken from the source. A dataset keeps all that its XML says: labels,
    transforms, voxel sizes, missing views, the sections of BigStitcher. The new files get their names when they
    are complete: until then, and if anything fails, what was there before stays as it was. If some tasks are
    finished by then, what they wrote stays as ``NAME.part.*``, and `resume` goes on with it.

    Parameters
    ----------
    source
        A TIFF (ImageJ hyperstack, OME-TIFF, plain stack), .npy or .npz file; many files by a pattern such as
        ``t{time}_c{channel}_x{tile}.tif`` (also of ``angle``, ``illumination``, ``z``), or a folder of planes; an
        image of OME-Zarr, an array in Zarr, N5 or HDF5 by its path: ``scan.h5/path/in/file``; an array (anything
        with ``shape``, ``dtype`` and slicing); or the XML or pixels of a dataset: what `open` takes.
    out
        The XML to write (``NAME.xml``), or the pixels (``NAME.h5``, ``NAME.n5``, ``NAME.ome.zarr``); the other
        lies beside it. N5 and OME-Zarr may lie on a server: ``s3://bucket/scan.xml``, ``gs://``. There pixels get
        their final name at once and the XML comes last, since nothing can be renamed; nothing is replaced.
    pixels
        For an XML on this machine: where on a server the pixels are put (``s3://bucket/scan.ome.zarr``).
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
    views
        Which views, as `edit` selects them: ``{"channel": "488", "time": range(3)}``, with ``time`` and ``setup``
        (an id, a range or list of ids), attributes (an id or label, or several), or ``view`` (pairs (time, setup)).
        By default all.
    crop
        What of each stack (z, y, x) is taken, in pixels: three slices or pairs (start, stop), None for all of an
        axis. It stays where it was in the world.
    dtype
        Another pixel type.
    casting
        What becomes of values that the new type does not have: "refuse" is an error when one is met, "clip" takes
        the nearest, "scale" maps the whole range of the old type (or `value_range`) onto that of the new one.
    value_range
        For "scale": the values (low, high) that become the least and the greatest; of floats they must be given.
    partition
        For HDF5: how many time points and how many setups go into one file, such as (10, 1); 0 means all. The
        files ``NAME-TT-SS.h5`` can be written at the same time; ``NAME.h5`` links to them.
    skip_zeros
        Write no files for blocks of zeros (N5 never has any), nor room in shards; for OME-Zarr.
    executor
        Who does the work: None or "threads", this process; "processes", new ones on this machine (a script needs
        ``if __name__ == "__main__":`` then); any ``concurrent.futures.Executor``; a ``dask.distributed.Client`` or
        the address of its scheduler, whose workers must see the same paths. A task of N5 and OME-Zarr is a slab of
        a view, one of HDF5 a file: only a partitioned one is written by several.
    workers
        How many processes; more than 1 means ``executor="processes"``.
    resume
        Go on with this resave where an earlier one was interrupted. What its finished tasks wrote is checked by
        number and size of files, and written again where that is wrong.
    task_bytes
        About how many bytes of full resolution one task of N5 and OME-Zarr writes.
    max_memory
        Bytes that buffers of pixels may take, in each process; one row of blocks of the source comes on top.
    progress
        Called as ``progress(done, total)`` with bytes of full resolution. If it has a method ``begin``, that is
        called with the `ResavePlan` first.

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
        If axes, voxel size, factors, blocks, compression, crop or partition cannot be right, `out` is the source
        itself, or what is to be resumed was begun with other options.
    MissingKeyError
        If no view is selected.
    InvalidTypeError
        If the pixels are of a type that cannot be written, or a value does not fit into `dtype`.
    WriteError
        If something could not be written, or a worker died again and again.
    RemoteError
        If a server does not answer in time, or refuses.

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
    with ExitStack() as stack:
        plan, opened = stack.enter_context(
            planned(
                source,
                out,
                pixels=pixels,
                format=format,
                zarr_version=zarr_version,
                levels=levels,
                chunks=chunks,
                compression=compression,
                axes=axes,
                voxel_size_xyz=voxel_size_xyz,
                unit=unit,
                dtype=dtype,
                casting=casting,
                value_range=value_range,
                crop=crop,
                partition=partition,
                skip_zeros=skip_zeros,
                task_bytes=task_bytes,
                max_memory=max_memory,
                where=views or {},
            )
        )
        record = Record(plan)
        _check(plan, overwrite=overwrite, begun=record.is_begun)
        crew = stack.enter_context(opened_executor(executor, workers))
        if not isinstance(plan.path_pixels, RemotePath):  # there is no lock on a server
            stack.callback(Lock(plan.path_pixels).release)
        with explained(f"beginning {plan.path_pixels.name}", plan.path_pixels.parent):
            before = record.read() if resume else None
            if before is None:
                before = {}
                _begin(plan, record)
        try:
            _carry_out(plan, before, record, opened, crew, progress, max_memory)
            _complete(plan)
        except BaseException:
            _give_up(plan, record)
            raise
        _put_in_place(plan)
        record.remove()
    return plan.path_xml


def plan_resave(
    source: str | os.PathLike[str] | ArrayLike,
    out: str | os.PathLike[str],
    *,
    estimate: bool = False,
    **options: Unpack[PlanOptions],
) -> tuple[ResavePlan, Estimate | None]:
    """Say what `resave` would do with these options; nothing is written beside `out`.

    Parameters
    ----------
    source, out, **options
        As in `resave`.
    estimate
        Write a sample of some megabytes to a temporary folder, to estimate time and bytes on disk.

    Returns
    -------
    plan, estimate
        What will be done; how long it will take about, where that was asked for.
    """
    usual: dict[str, Any] = {
        "pixels": None, "format": None, "zarr_version": None, "levels": "auto", "chunks": None,
        "compression": "default", "axes": None, "voxel_size_xyz": None, "unit": None, "dtype": None,
        "casting": "refuse", "value_range": None,
        "crop": None, "partition": None, "skip_zeros": False, "task_bytes": TASK_BYTES, "max_memory": DEFAULT_MEMORY,
    }  # fmt: skip
    given: dict[str, Any] = {**options}
    where = given.pop("views", None) or {}
    with planned(source, out, where=where, **{**usual, **given}) as (plan, opened):
        return plan, estimated(plan, opened) if estimate else None


# -- before ----------------------------------------------------------------------------------------------


def _check(plan: ResavePlan, *, overwrite: bool, begun: bool) -> None:
    """Refuse what cannot be, before anything on disk changes; `begun` is whether an earlier resave left some of it."""
    folder = plan.path_pixels.parent
    codec = plan.tasks[0].target.codec
    check_installed(plan.card, codec)
    for place in (plan.path_xml.parent, folder):
        if not isinstance(place, RemotePath) and not place.is_dir():
            raise NotFoundError(f"the folder {place} does not exist; create it first")
    for path in (plan.path_pixels, plan.path_xml, *(file.path for file in plan.partitions)):
        if not isinstance(path, RemotePath):
            refuse_to_replace(path, plan.card, overwrite=overwrite)
        elif not (begun and path == plan.part_pixels) and path.exists():
            raise ExistsError(
                f"{path} already exists, and on a server nothing can be replaced at once; choose another name, or "
                "remove it there first"
            )
    if caution := plan.card.cautions.get(codec.name):
        warnings.warn(f"compression {codec.name!r} {caution}", UserWarning, stacklevel=3)
    if isinstance(folder, RemotePath):
        return
    refuse_beside_another(plan.path_xml, plan.path_pixels)
    share = 1.0 if codec == RAW else _PACKED
    check_room(
        folder, share * plan.bytes_out, f"the new dataset {plan.path_pixels.name}", "make room, or compress"
    )


def _begin(plan: ResavePlan, record: Record) -> None:
    """Remove what an earlier resave left, and create the images of a folder, before any worker fills them."""
    record.remove()
    _remove_parts(plan)
    if not isinstance(plan.path_xml, RemotePath):
        remove_temporaries(plan.path_xml)
    if isinstance(plan.path_pixels, RemotePath):
        record.begin()  # first: what lies under the final name is known to be incomplete
    if plan.card.concurrent:
        with create_container(plan.card, plan.part_pixels) as container:
            codec = plan.tasks[0].target.codec
            for slab in plan.views:
                container.declare(slab.id, slab.pyramid, slab.dtype, codec, plan.notes[slab.id.setup])
            container.note_times(plan.described.timepoints.ids)
    if not isinstance(plan.path_pixels, RemotePath):
        record.begin()


def _remove_parts(plan: ResavePlan) -> None:
    if not isinstance(plan.path_xml, RemotePath):
        plan.part_xml.unlink(missing_ok=True)
    if isinstance(plan.part_pixels, RemotePath):
        remove_container(plan.card, plan.part_pixels)
        return
    for path in (plan.part_pixels, *(part_of(file.path) for file in plan.partitions)):
        remove_leftovers(path)
        remove_container(plan.card, path)


# -- the work --------------------------------------------------------------------------------------------


def _carry_out(
    plan: ResavePlan,
    before: dict[int, Done],
    record: Record,
    opened: Opened,
    crew: Any,
    progress: Progress | None,
    max_memory: int,
) -> None:
    done, total = 0, plan.nbytes
    begin = getattr(progress, "begin", None)
    if begin is not None:
        begin(plan)

    def told(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if progress is not None:
            progress(done, total)

    def note(each: Done) -> None:
        if before.get(each.number) != each:
            record.note(each)

    if crew is not None:
        for each in crew.finished([(task, before.get(task.number)) for task in plan.tasks]):
            note(each)
            told(plan.tasks[each.number].nbytes)
        return
    engine = Engine(max_memory, concurrent=plan.card.concurrent, workers=threads_for(plan.path_pixels))
    try:
        for task in plan.tasks:
            note(carry_out(task, before.get(task.number), opened=opened, engine=engine, told=told))
    finally:
        engine.close()


def _complete(plan: ResavePlan) -> None:
    """Say in a folder what can be said when all pixels are there."""
    if plan.card.concurrent:
        with share_container(plan.card, plan.part_pixels) as container:
            for slab in plan.views:
                container.complete(slab.id)


def _give_up(plan: ResavePlan, record: Record) -> None:
    """Keep what was finished, to be resumed; if nothing was, leave nothing."""
    if record.count:
        logger.warning(
            "%d of %d tasks are finished and kept as %s: resume the same resave to go on with them",
            record.count,
            len(plan.tasks),
            plan.part_pixels.name,
        )
        return
    try:
        _remove_parts(plan)
        record.remove()
    except RemoteError:  # why it came to that is said by the error that is being raised
        logger.warning("what was begun as %s could not be removed; remove it there", plan.part_pixels)


def _loader(plan: ResavePlan) -> ImageLoader:
    """Return how the XML names the pixels."""
    beside = plan.path_pixels.parent == plan.path_xml.parent
    place = PathRef(text=plan.path_pixels.name if beside else str(plan.path_pixels), relative=beside)
    if plan.card.concurrent:
        with share_container(plan.card, plan.part_pixels) as container:
            return container.loader(place, [slab.id for slab in plan.views])
    return Hdf5Loader(
        path=place,
        partitions=tuple(
            Partition(
                path=PathRef(text=file.path.name),
                timepoints=tuple(sorted({view.time for view in file.views})),
                setups=tuple(sorted({view.setup for view in file.views})),
            )
            for file in plan.partitions
        ),
    )


def _put_in_place(plan: ResavePlan) -> None:
    """Give the new files their names, the XML last."""
    data: SpimData = replace(plan.described, loader=_loader(plan))
    text = xml.serialise(data)
    if isinstance(plan.path_xml, RemotePath):
        plan.path_xml.write_bytes(text)
        return
    if isinstance(plan.path_pixels, RemotePath):
        keep_backup(plan.path_xml)
        replace_file(plan.path_xml, text)
        return
    remove_leftovers(plan.path_pixels)
    replace_file(plan.part_xml, text)
    if plan.partitions:
        for file in plan.partitions:
            _rename(plan, part_of(file.path), file.path)
        plan.part_pixels.unlink(missing_ok=True)
        link_partitions(
            plan.part_pixels, [(file.path, file.views) for file in plan.partitions], data.timepoints.ids
        )
        remove_leftovers(plan.part_pixels)
    _rename(plan, plan.part_pixels, plan.path_pixels)
    keep_backup(plan.path_xml)
    replace_file(plan.path_xml, text)
    plan.part_xml.unlink(missing_ok=True)


def _rename(plan: ResavePlan, part: Path, path: Path) -> None:
    try:
        replace_container(plan.card, part, path)
    except PermissionError as error:  # Windows, where another program has it open
        raise WriteError(
            f"{path} cannot be replaced, another program holds it; the new dataset is complete: close that "
            f"program and rename {part.name} to {path.name} and {plan.part_xml.name} to {plan.path_xml.name}"
        ) from error
