"""Several recordings become one dataset, without copying pixels."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import quote

from npy2bdv import xml
from npy2bdv.beside import PSFS, copy_group, groups_to_copy, seen_from
from npy2bdv.errors import ExistsError, InvalidInputError, NotFoundError
from npy2bdv.existing import refuse_unfinished, world_unit
from npy2bdv.joining import ImageKind, Joined, Recording, join
from npy2bdv.location import dataset_paths, find_xml, pixel_path, read_xml
from npy2bdv.model.spimdata import (
    ContainerLoader,
    Hdf5Loader,
    OmeZarrLoader,
    Partition,
    PathRef,
    ViewId,
    ZarrGroup,
)
from npy2bdv.moving import Move, begin, check_can_move, finish, plan_path
from npy2bdv.storage import folder_loader, folders_of, mark_as_group, open_container
from npy2bdv.storage.files import PART
from npy2bdv.storage.hdf5 import Hdf5Container
from npy2bdv.storage.journal import Lock
from npy2bdv.storage.save import keep_backup, move, replace_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.storage.base import Container

Along = Literal["time", "channel", "tile", "angle", "illumination"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What came of it, or will come (``dry_run=True``).

    Attributes
    ----------
    path_xml
        The dataset.
    path_pixels
        Its pixels: an HDF5 file of links, or a folder.
    data
        What its XML says.
    sources
        For each view the XML of the recording that it comes from, and its ids there.
    """

    path_xml: Path
    path_pixels: Path
    data: SpimData
    sources: dict[ViewId, tuple[Path, ViewId]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    recording: Recording
    pixels: Path
    container: Container

    @property
    def loader(self) -> ContainerLoader:
        assert isinstance(self.recording.data.loader, ContainerLoader)
        return self.recording.data.loader

    @property
    def folder(self) -> Path:
        return self.recording.path_xml.parent


def merge(
    recordings: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    along: Along | None = None,
    labels: Sequence[str] | None = None,
    move: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Merged:
    """Make one dataset of several recordings (one for each tile, time point or process, say), without copying pixels.

    Channels, tiles, angles and illuminations of the same label are the same; what has the same of them all is one
    setup, whose time points come from all recordings. Setups are numbered anew; transforms, metadata of cameras and the
    sections of BigStitcher go with them (interest points and point spread functions are copied: they are small).
    The recordings stay as they are, and must stay where they are: the new dataset refers to their pixels.

    HDF5: the new file holds links to the images (a partitioned dataset, as BigDataViewer writes them), by paths
    relative to it. OME-Zarr: the XML names the images where they lie; all must lie in the folder of the new XML, or
    deeper. N5 has no such references: its images can be moved only (`move`).

    Parameters
    ----------
    recordings
        Their XMLs or pixels; all of one format.
    out
        The XML to write (``NAME.xml``).
    along
        What tells the recordings apart where their own labels do not: "tile" (or "channel", "angle", "illumination")
        makes each recording another one, "time" puts their time points one after the other.
    labels
        What each recording is called then; by default its file name without ``.xml``. Where it has several tiles
        (channels ...) itself, their labels are added.
    move
        Move the images of N5 or OME-Zarr into a new container beside `out`, by renaming folders: nothing is copied, all
        must lie on one volume. The recordings are gone then; their XMLs are kept as ``NAME.xml.merged``. After a crash
        call it again with the same `out`: it finishes what was begun, which ``OUT.xml.moving`` tells.
    overwrite
        Replace a dataset of the name `out`; its XML is kept as ``NAME.xml~1``.
    dry_run
        Find out what would be made, or why it cannot be, and change nothing.

    Returns
    -------
    merged
        Where it is, and where each view comes from.

    Raises
    ------
    InvalidInputError
        If they cannot be one dataset without copying pixels: a view that two of them have, setups of one label with
        other sizes, levels or pixel types, other formats, folders that cannot be referred to. Nothing was changed.
    ExistsError
        If there is something under the name `out`.
    InUseError
        If one is being recorded.
    NotFoundError, FormatError
        If one of them is not there, or damaged, or its recording was interrupted.
    """
    if along is not None and along not in get_args(Along):
        raise InvalidInputError(f"along={along!r} is not known; there are {', '.join(get_args(Along))}")
    if isinstance(recordings, (str, Path)):
        raise InvalidInputError(
            f"merge takes a list of recordings, then the name of the result; found {str(recordings)!r}"
        )
    out_xml = dataset_paths(out)[0].absolute()
    if plan_path(out_xml).is_file():
        if dry_run:
            raise InvalidInputError(f"a merge was interrupted; merge again into {out_xml} to finish it")
        return _finished(out_xml)
    paths = [find_xml(Path(each)).absolute() for each in recordings]
    names = _labels(paths, labels, along)
    if not out_xml.parent.is_dir():
        raise NotFoundError(f"the folder {out_xml.parent} does not exist; create it first")
    inputs: list[_Input] = []
    try:
        for path, name in zip(paths, names, strict=True):
            inputs.append(_opened(path, name, out_xml))
        if move:
            return _moved(inputs, out_xml, along, dry_run=dry_run)
        return _merged(inputs, out_xml, along, overwrite=overwrite, dry_run=dry_run)
    finally:
        for each in inputs:
            each.container.close()


def _labels(paths: Sequence[Path], labels: Sequence[str] | None, along: str | None) -> list[str]:
    if not paths:
        raise InvalidInputError("no recording is given")
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice:
        raise InvalidInputError(f"a recording is given twice: {', '.join(twice)}")
    if labels is not None and along in (None, "time"):
        raise InvalidInputError(
            "labels say what each recording is called along an attribute: give along=, too"
        )
    names = [path.stem for path in paths] if labels is None else [str(label).strip() for label in labels]
    if len(names) != len(paths):
        raise InvalidInputError(f"{len(paths)} recordings need as many labels; found {len(names)}")
    if along not in (None, "time") and len(set(names)) < len(names):
        raise InvalidInputError(f"two recordings have the same label: {names}; give each its own (labels=)")
    return names


def _opened(path_xml: Path, label: str, out_xml: Path) -> _Input:
    """Read what has to be known of a recording; its container stays open."""
    data = read_xml(path_xml)
    if path_xml == out_xml:
        raise InvalidInputError(f"{out_xml} is one of the recordings; give the merged dataset another name")
    if not isinstance(data.loader, ContainerLoader):
        named = f"the image loader {data.loader.format!r}" if data.loader else "no image loader"
        raise InvalidInputError(
            f"{path_xml} names {named}; merged are datasets in HDF5, N5 or OME-Zarr: convert it first (npy2bdv.resave)"
        )
    pixels = pixel_path(path_xml, data).absolute()
    refuse_unfinished(pixels)
    container = open_container(data.loader, pixels)
    try:
        images = dict(_images(data, container))
    except BaseException:
        container.close()
        raise

    def from_out(text: str) -> str | None:
        if (path_xml.parent / PSFS / text).is_dir():  # a group, which is copied
            return None
        return (
            text
            if not text or Path(text).is_absolute()
            else seen_from(path_xml.parent / text, out_xml.parent)
        )

    recording = Recording(
        path_xml=path_xml,
        label=label,
        data=data,
        images=images,
        world_unit=world_unit(data),
        path=from_out,
    )
    return _Input(recording=recording, pixels=pixels, container=container)


def _images(data: SpimData, container: Container) -> Iterator[tuple[int, ImageKind]]:
    """Iterate over the setups of which something is stored, and what their images are."""
    missing = data.missing or frozenset()
    for setup in data.setups:
        views = (ViewId(time, setup) for time in data.timepoints.ids)
        view = next((view for view in views if view not in missing and container.has(view)), None)
        if view is not None:
            stored = container.stored_as(view) if isinstance(container, Hdf5Container) else ""
            dtype = container.level(view, 0).dtype.name
            yield setup, ImageKind(dtype=dtype, factors=container.factors(setup), stored=stored)


def _check_formats(inputs: Sequence[_Input]) -> None:
    loaders = {each.loader.format: each for each in inputs}
    if len(loaders) > 1:
        told = ", ".join(f"{each.recording.path_xml.name} has {name}" for name, each in loaders.items())
        raise InvalidInputError(
            f"the recordings have their pixels in different formats ({told}); convert some first (npy2bdv.resave)"
        )
    versions = {each.container.card.zarr_version: each for each in inputs}
    if len(versions) > 1:
        raise InvalidInputError(
            "the recordings are in different versions of Zarr ("
            + ", ".join(f"{each.recording.path_xml.name}: {version}" for version, each in versions.items())
            + "); convert some first (npy2bdv.resave)"
        )


def _merged(
    inputs: Sequence[_Input], out_xml: Path, along: str | None, *, overwrite: bool, dry_run: bool
) -> Merged:
    _check_formats(inputs)
    joined = join([each.recording for each in inputs], along)
    if isinstance(inputs[0].loader, Hdf5Loader):
        pixels: Path = out_xml.with_suffix(".h5")
        loader: ContainerLoader = _linking_loader(inputs, joined, pixels)
    elif isinstance(inputs[0].loader, OmeZarrLoader):
        pixels, loader = _referring_loader(inputs, joined, out_xml)
    else:
        raise InvalidInputError(
            "N5 names its images by fixed paths, so that a dataset cannot refer to those of others; move them "
            "(move=True), or convert the recordings (npy2bdv.resave) to HDF5 or OME-Zarr"
        )
    data = replace(joined.data, loader=loader)
    copies = _copies(inputs, joined, out_xml.parent)
    is_new = isinstance(loader, Hdf5Loader)
    taken = [path for path in (out_xml, *([pixels] if is_new else [])) if path.exists()]
    if is_new and pixels in {each.pixels for each in inputs}:
        raise InvalidInputError(f"{pixels} is the file of a recording; give the merged dataset another name")
    if taken and not overwrite:
        raise ExistsError(
            f"{taken[0]} already exists; choose another name, or replace it with overwrite=True"
        )
    merged = Merged(
        path_xml=out_xml,
        path_pixels=pixels,
        data=data,
        sources={
            view: (inputs[number].recording.path_xml, old) for view, (number, old) in joined.sources.items()
        },
    )
    if dry_run:
        return merged
    text = xml.serialise(data)
    lock = Lock(out_xml)
    try:
        if isinstance(loader, Hdf5Loader):
            _write_master(inputs, joined, pixels)
        elif isinstance(loader, OmeZarrLoader):
            mark_as_group(pixels, loader.zarr_version or 2)
        for source, target, renamed in copies:
            copy_group(source, target, renamed)
        keep_backup(out_xml)
        replace_file(out_xml, text)
        sync_folder(out_xml.parent)
    finally:
        lock.release()
    return merged


def _copies(
    inputs: Sequence[_Input], joined: Joined, folder: Path
) -> list[tuple[Path, Path, dict[str, str]]]:
    homes = (each.folder for each in inputs)
    return [*groups_to_copy(zip(homes, joined.numbering, strict=True), folder)]


# ------------------------------------------------------------------------------------------------- HDF5


def _linking_loader(inputs: Sequence[_Input], joined: Joined, pixels: Path) -> Hdf5Loader:
    """Return how the XML names the file of links, and what it says of the files that hold pixels (formats.md 2.6)."""
    partitions: list[Partition] = []
    for each, ids in zip(inputs, joined.numbering, strict=True):
        assert isinstance(each.loader, Hdf5Loader)
        found = each.loader.partitions or (
            Partition(
                path=PathRef(text=each.pixels.name),
                timepoints=each.recording.data.timepoints.ids,
                setups=tuple(sorted(each.recording.data.setups)),
            ),
        )
        for part in found:
            path = each.pixels.parent / part.path.text
            if path.absolute() == pixels:
                raise InvalidInputError(
                    f"{pixels} holds images of {each.recording.path_xml}; give the merged dataset another name"
                )
            times = [time for time in part.timepoints if time in ids.times]
            setups = [setup for setup in part.setups if setup in ids.setups]
            mapped = dict(zip(part.timepoints, part.timepoints_mapped or part.timepoints, strict=False))
            old = dict(zip(part.setups, part.setups_mapped or part.setups, strict=False))
            new_times, new_setups = [ids.times[time] for time in times], [ids.setups[id_] for id_ in setups]
            times_there, setups_there = [mapped[time] for time in times], [old[id_] for id_ in setups]
            partitions.append(
                Partition(
                    path=PathRef(text=seen_from(path, pixels.parent)),
                    timepoints=tuple(new_times),
                    setups=tuple(new_setups),
                    timepoints_mapped=None if times_there == new_times else tuple(times_there),
                    setups_mapped=None if setups_there == new_setups else tuple(setups_there),
                )
            )
    return Hdf5Loader(path=PathRef(text=pixels.name), partitions=tuple(partitions))


def _write_master(inputs: Sequence[_Input], joined: Joined, pixels: Path) -> None:
    """Write the file of links under another name, then give it its own."""
    part = pixels.with_name(f"{pixels.name}.merging{PART}")
    part.unlink(missing_ok=True)
    try:
        with Hdf5Container(part, "x") as master:
            for each, ids in zip(inputs, joined.numbering, strict=True):
                assert isinstance(each.container, Hdf5Container)
                for there, setup in ids.setups.items():
                    master.describe_like(setup, each.container, there)
            for view, (number, old) in sorted(joined.sources.items()):
                source = inputs[number].container
                assert isinstance(source, Hdf5Container)
                master.link(view, source, old)
            master.note_times(joined.data.timepoints.ids)
            master.flush(sync=True)
        move(part, pixels)
    finally:
        part.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------- OME-Zarr


def _referring_loader(inputs: Sequence[_Input], joined: Joined, out_xml: Path) -> tuple[Path, OmeZarrLoader]:
    """Return the folder in which all images lie, and how the XML names them there."""
    places = {each.pixels for each in inputs}
    root = next(iter(places)) if len(places) == 1 else Path(os.path.commonpath([*places]))
    if not root.is_relative_to(out_xml.parent):
        raise InvalidInputError(
            f"the recordings lie in {root}, the new XML in {out_xml.parent}: OME-Zarr images are referred to from a "
            f"folder above them. Write the XML into {root if len(places) > 1 else root.parent} or a folder above"
        )
    groups: dict[ViewId, ZarrGroup] = {}
    for view, (number, old) in sorted(joined.sources.items()):
        each = inputs[number]
        assert isinstance(each.loader, OmeZarrLoader)
        group = each.loader.groups.get(old)
        if group is None:
            continue
        path = seen_from(each.pixels / group.path, root)
        if "%" in path:
            raise InvalidInputError(
                f"BigStitcher opens no image whose path holds a %: {path}; rename the folder"
            )
        indices = () if group.indices is None else group.indices
        groups[view] = ZarrGroup(path="" if path == "." else path, indices=indices)
    version = inputs[0].container.card.zarr_version or 2
    loader = OmeZarrLoader(
        path=PathRef(text=quote(seen_from(root, out_xml.parent))),
        groups=groups,
        version="3.0" if version == 2 else "3.1",
        zarr_version=None if version == 2 else 3,
    )
    return root, loader


# ----------------------------------------------------------------------------------------------- moving


def _moved(inputs: Sequence[_Input], out_xml: Path, along: str | None, *, dry_run: bool) -> Merged:
    """Move the images of all recordings into one container."""
    _check_formats(inputs)
    card = inputs[0].container.card
    if card.name == "hdf5":
        raise InvalidInputError(
            "images in HDF5 need not be moved: leave move= out, and the new file links to them"
        )
    joined = join([each.recording for each in inputs], along)
    pixels = out_xml.with_suffix(card.suffixes[0])
    for path in (out_xml, pixels):
        if path.exists():
            raise ExistsError(
                f"{path} already exists, and images are moved into a new dataset; choose another name"
            )
    retired = [(each.recording.path_xml, _retired(each.recording.path_xml)) for each in inputs]
    for _, path in retired:
        if path.exists():
            raise ExistsError(
                f"{path} already exists, where the XML of a recording is to be kept; move it away"
            )
    check_can_move([each.pixels for each in inputs], out_xml.parent)
    folders: list[tuple[Path, Path]] = []
    files: dict[Path, str] = {}
    for view, (number, old) in sorted(joined.sources.items()):
        each = inputs[number]
        if not each.container.has(old):
            continue
        source, target, described = folders_of(each.container, old, view)
        folders.append((each.pixels / source, pixels / target))
        files.update((pixels / name, text) for name, text in described.items())
    if len({source for source, _ in folders}) < len(folders):
        raise InvalidInputError(
            "one image holds several views; it cannot be moved to several places: convert it first"
        )
    loader = folder_loader(card, pixels, joined.sources)
    data = replace(joined.data, loader=loader)
    copies = _copies(inputs, joined, out_xml.parent)
    sources = {
        view: (inputs[number].recording.path_xml, old) for view, (number, old) in joined.sources.items()
    }
    merged = Merged(path_xml=out_xml, path_pixels=pixels, data=data, sources=sources)
    if dry_run:
        return merged
    text = xml.serialise(data).decode()
    with ExitStack() as stack:
        for path in dict.fromkeys([pixels, *(each.pixels for each in inputs)]):
            stack.callback(Lock(path).release)
        for group, copy, renamed in copies:
            copy_group(group, copy, renamed)
        begin(
            Move(
                folders=tuple(folders),
                files=tuple(files.items()),
                xml=(out_xml, text),
                retired=tuple(retired),
                emptied=tuple(each.pixels for each in inputs),
                notes={
                    "pixels": pixels.name,
                    "sources": [[*view, str(path), *old] for view, (path, old) in sources.items()],
                },
            )
        )
    return merged


def _retired(path_xml: Path) -> Path:
    return path_xml.with_name(f"{path_xml.name}.merged")


def _finished(out_xml: Path) -> Merged:
    """Finish a merge that was interrupted while images were moved."""
    lock = Lock(out_xml)
    try:
        notes: Any = finish(out_xml)
    finally:
        lock.release()
    sources = {
        ViewId(time, setup): (Path(path), ViewId(old_time, old_setup))
        for time, setup, path, old_time, old_setup in notes["sources"]
    }
    return Merged(
        path_xml=out_xml,
        path_pixels=out_xml.with_name(notes["pixels"]),
        data=read_xml(out_xml),
        sources=sources,
    )
