"""What an interrupted recording left -> a dataset that opens, with every acknowledged plane."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from npy2bdv import xml
from npy2bdv.engine import Engine
from npy2bdv.errors import ExistsError, FormatError, InvalidInputError, NotFoundError
from npy2bdv.location import suffix_of
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.model.spimdata import (
    ContainerLoader,
    Hdf5Loader,
    N5Loader,
    OmeZarrLoader,
    PathRef,
    SpimData,
    Timepoints,
    ViewId,
)
from npy2bdv.rows import runs
from npy2bdv.salvage import salvage, size_of
from npy2bdv.storage import FORMATS, card_of, open_container, remove_container, replace_container
from npy2bdv.storage.disk import bytes_on_disk, check_room, copy_sparse, explained
from npy2bdv.storage.files import PART
from npy2bdv.storage.flushes import complete_flush, pending_flush
from npy2bdv.storage.hdf5 import Hdf5Container
from npy2bdv.storage.journal import Lock, journal_path, redo_path, remove_leftovers
from npy2bdv.storage.recorded import Recorded
from npy2bdv.storage.save import keep_backup, remove_temporaries, replace_file
from npy2bdv.storage.soundness import can_be_walked, what_is_damaged
from npy2bdv.stream import ViewStream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import ImageLoader
    from npy2bdv.storage.base import Container, LevelArray


logger = logging.getLogger(__name__)

_LOADERS = {"hdf5": Hdf5Loader, "n5": N5Loader, "omezarr": OmeZarrLoader}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredView:
    """What there is of a view.

    Attributes
    ----------
    view
        Time point and setup.
    planes
        How many planes there are.
    depth
        How many planes the view has.
    missing
        Planes (start, stop) that are not there.
    unconfirmed
        Planes (start, stop) among those there that no checkpoint had acknowledged before the kill. They hold
        pixels as far as those came.
    damaged
        Planes (start, stop) that a checkpoint had acknowledged, and that are not whole any more, since the file
        was damaged. Those of which nothing is left are `missing`, too.
    """

    view: ViewId
    planes: int
    depth: int
    missing: tuple[tuple[int, int], ...]
    unconfirmed: tuple[tuple[int, int], ...] = ()
    damaged: tuple[tuple[int, int], ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all planes are there, and none is damaged."""
        return not self.missing and not self.damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery(Sequence[RecoveredView]):
    """What became of a recording: a sequence of what there is of its views.

    Attributes
    ----------
    views
        What there is of each view.
    path_xml, path_pixels
        The dataset: where it was, or beside it, as `recover` says.
    damage
        What was wrong with the pixel file, so that a new one was made; None if it was mended as it lies.
    """

    views: tuple[RecoveredView, ...]
    path_xml: Path
    path_pixels: Path
    damage: str | None = None

    @overload
    def __getitem__(self, index: int) -> RecoveredView: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[RecoveredView, ...]: ...

    def __getitem__(self, index: int | slice) -> RecoveredView | tuple[RecoveredView, ...]:
        """Return one view, or some."""
        return self.views[index]

    def __len__(self) -> int:
        """Return how many views there are."""
        return len(self.views)


def recover(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Recovery:
    """Bring an interrupted recording into order.

    Planes that the journal holds are written where they belong, all levels are made complete, the XML is written
    under its final name, and the journal is removed: in place, for nothing need be copied. Where the pixel file is
    damaged so that HDF5 does not find what is in it, a new one is made of its chunks, by the journal:
    ``NAME-recovered.h5`` with ``NAME-recovered.xml`` beside the original, which stays as it is.

    Parameters
    ----------
    path
        The XML or the pixel file.
    out
        The XML of the result (``NAME.xml``); the pixels lie beside it. The original stays as it is then, in any
        case. By default as said above.

    Returns
    -------
    recovery
        What there is of each view, and where the dataset lies.

    Raises
    ------
    NotFoundError
        If there is no journal: the recording was closed cleanly, or made by another program.
    InUseError
        If the recording is still running.
    ExistsError
        If there is something under the name of the result already.
    FormatError
        If the pixels are damaged, and the journal does not tell enough to make new ones. Nothing has been changed.
    WriteError
        If the disk has no room, or fails. The journal is still there: `recover` may be called again.
    """
    pixels = _pixels_of(Path(path)).absolute()
    if not journal_path(pixels).is_file():
        raise NotFoundError(
            f"there is no journal {journal_path(pixels).name} beside {pixels}: it was closed cleanly, or not "
            "recorded by npy2bdv 2; open it as it is"
        )
    lock = Lock(pixels)
    try:
        recorded = Recorded.of(pixels)
        if not recorded.xml_name:
            raise FormatError(
                f"the journal {journal_path(pixels)} holds not one whole record; without it nothing is known of "
                f"{pixels.name}. Nothing has been changed"
            )
        data = _described(pixels, recorded)
        damage = what_is_damaged(pixels, recorded) if recorded.format == "hdf5" else _damage_of_folder(pixels)
        with explained(
            f"recovering {pixels}",
            pixels.parent,
            "the original and its journal are as they were: run it again",
        ):
            if damage is None and out is None:
                return _in_place(pixels, recorded, data)
            return _beside(pixels, recorded, data, damage, None if out is None else Path(out).absolute())
    finally:
        lock.release()


def _in_place(pixels: Path, recorded: Recorded, data: SpimData) -> Recovery:
    """Mend a recording as it lies. May be repeated, wherever it was interrupted."""
    pending = pending_flush(pixels)
    if pending is not None:
        complete_flush(pixels, pending)
    redo_path(pixels).unlink(missing_ok=True)
    assert isinstance(data.loader, ContainerLoader)  # we wrote it
    is_hdf5 = recorded.format == "hdf5"
    damage = None
    try:
        with open_container(data.loader, pixels, "r+") as container:
            views, mended = _mend(container, recorded, data)
    except (FormatError, RuntimeError, KeyError) as error:
        if not is_hdf5:
            raise
        damage = str(error)
    if is_hdf5 and (damage or not can_be_walked(pixels)):
        # damaged in a way that showed in changing it only; the chunks and the journal are still what they were
        damage = damage or "HDF5 cannot read all of its description"
        return _beside(pixels, Recorded.of(pixels), data, damage, None)
    final, source = _sources(pixels, recorded)
    if source != final:
        keep_backup(final)
    for path in (final, source):
        remove_temporaries(path)
    replace_file(final, xml.serialise(mended))
    if source != final:
        source.unlink()
    remove_leftovers(pixels)
    return Recovery(views=views, path_xml=final, path_pixels=pixels)


def _beside(
    pixels: Path, recorded: Recorded, data: SpimData, damage: str | None, out: Path | None
) -> Recovery:
    """Make a new dataset of a recording, which stays as it is."""
    final = out or pixels.with_name(f"{Path(recorded.xml_name).stem}-recovered.xml")
    if final.suffix.lower() != ".xml":
        raise InvalidInputError(f"{final.name!r} is no name for an XML; write NAME.xml")
    if not final.parent.is_dir():
        raise NotFoundError(f"the folder {final.parent} does not exist; create it first")
    target = final.with_name(final.name[:-4] + suffix_of(pixels)[1])
    for path in (final, target):
        if path.exists():
            raise ExistsError(
                f"{path} already exists, where what is recovered of {pixels.name} is to be; move it away, or "
                "choose another name (out=, --out)"
            )
    card = card_of(recorded.format)
    part = target.with_name(target.name + PART)
    assert isinstance(data.loader, ContainerLoader)  # we wrote it
    data = replace(
        data, loader=replace(data.loader, path=PathRef(text=target.name)), base_path=PathRef(text=".")
    )
    remove_container(card, part)
    redo_path(part).unlink(missing_ok=True)
    check_room(target.parent, _nbytes(pixels), f"a copy of {pixels.name}")
    try:
        with _copied(pixels, recorded, data, part, damage) as container:
            views, data = _mend(container, recorded, data)
        _verify(part, data, views)
        replace_container(card, part, target)
    except BaseException:
        remove_container(card, part)
        redo_path(part).unlink(missing_ok=True)
        raise
    replace_file(final, xml.serialise(data))
    return Recovery(views=views, path_xml=final, path_pixels=target, damage=damage)


def _copied(pixels: Path, recorded: Recorded, data: SpimData, part: Path, damage: str | None) -> Container:
    """Copy the pixels, from a damaged file by the journal, and open the copy for writing."""
    if damage is not None and recorded.format == "hdf5":
        container = Hdf5Container(part, "x")
        try:
            salvage(pixels, recorded, container)
        except BaseException:
            container.close()
            raise
        return container
    if pixels.is_dir():
        shutil.copytree(pixels, part, symlinks=True)
    else:
        copy_sparse(pixels, part)
        pending = pending_flush(pixels)
        if pending is not None:
            complete_flush(part, pending)
    assert isinstance(data.loader, ContainerLoader)
    return open_container(data.loader, part, "r+")


def _mend(
    container: Container, recorded: Recorded, data: SpimData
) -> tuple[tuple[RecoveredView, ...], SpimData]:
    """Complete all views; return what there is of them, and what the XML says of them."""
    engine = Engine(concurrent=container.card.concurrent)
    try:
        found = tuple(_complete(view, recorded, container, engine) for view in sorted(recorded.depths))
        engine.drain()
    finally:
        engine.close()
    kept = [each.view for each in found if each.planes]
    earlier = {*data.views()} - recorded.depths.keys() - recorded.gone if recorded.appending else set()
    others = {view for view in earlier if container.has(view)}
    found += tuple(_lost(view, data) for view in sorted(earlier - others))
    for view in kept:
        container.complete(view)
    for view in [*container.views()]:
        is_ours = not recorded.appending or view in recorded.depths or view in recorded.gone
        if is_ours and view not in kept and (view in recorded.gone or _is_empty(view, container)):
            container.remove(view)
    container.flush(sync=True)
    return found, _description(
        recorded, found, replace(data, loader=_loader(container, recorded, data, kept))
    )


def _loader(container: Container, recorded: Recorded, data: SpimData, kept: list[ViewId]) -> ImageLoader:
    """Return how the XML names the pixels; those of earlier sessions as it did before."""
    before = data.loader
    assert isinstance(before, ContainerLoader)  # we wrote it
    loader = container.loader(before.path, kept)
    if recorded.appending and isinstance(before, OmeZarrLoader) and isinstance(loader, OmeZarrLoader):
        return replace(before, groups={**before.groups, **loader.groups})
    return before if recorded.appending else loader


def _lost(view: ViewId, data: SpimData) -> RecoveredView:
    """Return that nothing is left of a view of which the journal does not know."""
    size = data.setups[view.setup].size_xyz
    depth = 0 if size is None else size[2]
    return RecoveredView(view=view, planes=0, depth=depth, missing=((0, depth),))


def _verify(pixels: Path, data: SpimData, views: Iterable[RecoveredView]) -> None:
    """See to it that a new dataset has what is said of it.

    Raises
    ------
    FormatError
        If it has not.
    """
    assert isinstance(data.loader, ContainerLoader)
    with open_container(data.loader, pixels) as container:
        for each in views:
            if each.planes and (
                not container.has(each.view) or container.level(each.view, 0).shape[0] < 1
            ):  # pragma: no cover
                raise FormatError(f"{pixels} does not hold {each.view}; the original is as it was")


def _nbytes(pixels: Path) -> int:
    if pixels.is_file():
        return bytes_on_disk(pixels)
    return sum(path.stat().st_size for path in pixels.rglob("*") if path.is_file())


def _damage_of_folder(pixels: Path) -> str | None:
    """Say that a folder of blocks is not there at all; its files are whole or not there, one by one."""
    if pixels.is_dir():
        return None
    raise NotFoundError(f"the pixels {pixels} are not there; only their journal is left")


def _pixels_of(path: Path) -> Path:
    """Return the pixels of a recording: those named, or those beside the XML that have a journal."""
    if suffix_of(path)[0] is not None:
        return path
    stem = path.name.removesuffix(".xml").removesuffix(".recording")
    named = [path.with_name(stem + suffix) for card in FORMATS.values() for suffix in card.suffixes]
    return next((each for each in named if journal_path(each).is_file()), named[0])


def _complete(view: ViewId, journal: Recorded, container: Container, engine: Engine) -> RecoveredView:
    """Write the planes that wait in the journal, and make the lower levels from what there is."""
    depth = journal.depths[view]
    if not container.has(view):  # declared just before the kill
        return RecoveredView(view=view, planes=0, depth=depth, missing=((0, depth),))
    factors = [(int(z), int(y), int(x)) for z, y, x in container.factors(view.setup)]
    arrays = [container.level(view, level) for level in range(len(factors)) if container.has(view, level)]
    full = arrays[factors.index((1, 1, 1))] if (1, 1, 1) in factors[: len(arrays)] else None
    was_adding = len(arrays) < len(factors)
    if was_adding and full is not None:
        arrays += _add_levels(view, factors, arrays, journal, container)
    if full is not None:
        depth = full.shape[0]
    elif (size := size_of(view, journal)) is not None:
        depth = size[0]
    safe = journal.there(view, depth)
    planes = {z: plane for (other, z), plane in journal.planes.items() if other == view and z < depth}
    if full is not None and not full.in_place:  # what is said to wait in the journal must be there
        waiting = journal.waiting(view, depth)
        for z, plane in [*planes.items()]:
            if plane.shape == full.shape[1:] and plane.dtype == full.dtype:
                waiting[z] = False
            else:
                del planes[z]
        safe &= ~waiting
    is_done = view in journal.complete and journal.levels_complete and not was_adding
    there = safe if full is None or is_done else safe | _with_pixels(full, ~safe)
    if full is not None and not is_done and there.any():
        shape = (None if view in journal.open_ended else depth, *full.shape[1:])
        levels: Any = list(zip(factors, arrays, strict=True))
        stream = ViewStream(engine, shape, full.dtype, levels, there=there)
        for z, plane in sorted(planes.items()):
            stream.put(plane[np.newaxis], z)
        stream.make_again()
        stream.close()
        depth = stream.shape[0]
        safe, there = safe[:depth], there[:depth]
    missing = tuple(runs(~there))
    if missing and there.any():
        container.note_missing_planes(view, list(missing))
    damaged = np.zeros(depth, bool)
    lost = journal.damaged.get(view, damaged)[:depth]
    damaged[: len(lost)] = lost
    return RecoveredView(
        view=view,
        planes=int((there & ~damaged).sum()),
        depth=depth,
        missing=missing,
        unconfirmed=tuple(runs(there & ~safe & ~damaged)),
        damaged=tuple(runs(damaged)),
    )


def _add_levels(
    view: ViewId,
    factors: list[Zyx],
    arrays: list[LevelArray],
    journal: Recorded,
    container: Container,
) -> tuple[LevelArray, ...]:
    """Add the levels that a view lacks, since the process was killed while it added them to one after another."""
    chunks = [array.chunk for array in arrays]
    for level in range(len(arrays), len(factors)):
        alike = (
            other for other in journal.depths if other.setup == view.setup and container.has(other, level)
        )
        other = next(alike, None)
        chunks.append(chunks[-1] if other is None else container.level(other, level).chunk)
    pyramid = Pyramid(shape=arrays[0].shape, factors=tuple(factors), chunks=tuple(chunks))
    codec = container.card.codec("default")
    return container.add_levels(view, pyramid, len(arrays), np.dtype(arrays[0].dtype), codec)


def _is_empty(view: ViewId, container: Container) -> bool:
    """Tell whether nothing of a view but zeros is stored: it was declared just before the kill."""
    if not container.has(view):
        return True
    image = container.level(view, 0)
    starts = range(0, image.shape[0], image.chunk[0])
    return not any(image.read(_planes(z, min(z + image.chunk[0], image.shape[0]))).any() for z in starts)


def _with_pixels(image: LevelArray, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which of the wanted planes hold anything but zeros."""
    found = np.zeros_like(wanted)
    for start, stop in runs(wanted):
        for z in range(start, stop, image.chunk[0]):
            end = min(z + image.chunk[0], stop)
            found[z:end] = image.read(_planes(z, end)).any(axis=(1, 2))
    return found


def _planes(start: int, stop: int) -> Region:
    return slice(start, stop), slice(None), slice(None)


def _sources(pixels: Path, journal: Recorded) -> tuple[Path, Path]:
    """Return where the XML is to be, and where the recording left it."""
    final = Path(os.path.normpath(pixels.parent / journal.xml_name))
    early = Path(os.path.normpath(pixels.parent / journal.recording_name))
    if {final.parent, early.parent} != {pixels.parent} and not final.is_file():
        # only an XML that was there may lie elsewhere: a journal is no reason to write outside of the folder
        raise FormatError(
            f"the journal of {pixels} names the XML {final}, which is not there; put it there, or give out="
        )
    return final, early if early.is_file() else final


def _described(pixels: Path, journal: Recorded) -> SpimData:
    """Return what the recording said of itself; hardly anything where it did not get to its first view."""
    source = _sources(pixels, journal)[1]
    if source.is_file():
        try:
            return xml.parse(source.read_bytes(), str(source))
        except FormatError:
            if journal.earlier or not journal.depths.keys() <= journal.described.keys():
                raise
            logger.warning("%s is damaged; it is made again by the journal", source)
    return SpimData(loader=_LOADERS[journal.format](path=PathRef(text=pixels.name)))


def _description(recorded: Recorded, found: tuple[RecoveredView, ...], data: SpimData) -> SpimData:
    """Return what the XML says of every view of which there are planes; the others are missing."""
    for each in found:
        if each.planes and each.view in recorded.described:
            data = _with_view(data, each, xml.parse(recorded.described[each.view], "the journal"))
    lost = recorded.gone | {each.view for each in found if not each.planes}
    registrations = {view: kept for view, kept in data.registrations.items() if view not in lost}
    setups = {*data.setups, *(view.setup for view in registrations)}
    present = {*registrations}
    ids = {view.time for view in registrations}
    if recorded.appending:
        present |= {*data.views()} - lost
        ids |= set(data.timepoints.ids)
    else:
        ids = set(range(max(ids, default=-1) + 1))
    missing = {view for time in ids for setup in setups if (view := ViewId(time, setup)) not in present}
    timepoints = data.timepoints if ids == set(data.timepoints.ids) else Timepoints.of(sorted(ids))
    return replace(
        data,
        setups=dict(sorted(data.setups.items())),
        timepoints=timepoints,
        missing=None if recorded.appending and data.missing is None and not missing else frozenset(missing),
        registrations=registrations,
    )


def _with_view(data: SpimData, each: RecoveredView, alone: SpimData) -> SpimData:
    """Return a description with one view more, or with its length as it turned out."""
    view = each.view
    setup = data.setups.get(view.setup, alone.setups[view.setup])
    if setup.size_xyz is not None:
        setup = replace(setup, size_xyz=(*setup.size_xyz[:2], each.depth))
    groups = dict(data.attributes)
    for name, group in alone.attributes.items():
        known = groups.get(name, group)
        entities = {**group.entities, **known.entities}
        groups[name] = replace(known, entities=dict(sorted(entities.items())))
    return replace(
        data,
        generated_by=data.generated_by or alone.generated_by,
        setups={**data.setups, view.setup: setup},
        attributes=groups,
        registrations={view: next(iter(alone.registrations.values())), **data.registrations},
    )
