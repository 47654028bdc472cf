"""What an interrupted recording left -> a dataset that opens, with every acknowledged plane."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from npy2bdv import xml
from npy2bdv.errors import BdvError, ExistsError, FormatError, InvalidInputError, NotFoundError
from npy2bdv.location import find_xml, pixel_path, read_xml, suffix_of
from npy2bdv.mend import RecoveredView, mend
from npy2bdv.model.spimdata import (
    ContainerLoader,
    Hdf5Loader,
    N5Loader,
    OmeZarrLoader,
    PathRef,
    SpimData,
)
from npy2bdv.moving import finish, plan_path
from npy2bdv.salvage import salvage
from npy2bdv.storage import (
    FORMATS,
    card_of,
    open_container,
    remove_container,
    replace_container,
)
from npy2bdv.storage.disk import bytes_on_disk, check_room, copy_sparse, explained
from npy2bdv.storage.files import PART
from npy2bdv.storage.flushes import complete_flush, pending_flush
from npy2bdv.storage.hdf5 import Hdf5Container
from npy2bdv.storage.journal import Lock, journal_path, redo_path, remove_leftovers
from npy2bdv.storage.pending import finish_or_undo, pending
from npy2bdv.storage.recorded import Recorded
from npy2bdv.storage.save import keep_backup, remove_temporaries, replace_file
from npy2bdv.storage.servers import refuse_remote
from npy2bdv.storage.soundness import can_be_walked, what_is_damaged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npy2bdv.storage.base import Container


logger = logging.getLogger(__name__)

_LOADERS = {"hdf5": Hdf5Loader, "n5": N5Loader, "omezarr": OmeZarrLoader}


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
    edit
        What became of an edit (or a merge by moving) that was interrupted: "finished" if it had happened, else
        "undone". Then there was no recording to be mended, and no views are listed.
    """

    views: tuple[RecoveredView, ...]
    path_xml: Path
    path_pixels: Path
    damage: str | None = None
    edit: Literal["", "finished", "undone"] = ""

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
    """Bring an interrupted recording into order, or an interrupted edit or merge.

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
    refuse_remote(path, "nothing is recorded there", "there is nothing to recover")
    merging = _interrupted_merge(Path(path).absolute())
    if merging is not None:
        return _after_merge(merging)
    pixels = _pixels_of(Path(path)).absolute()
    if not journal_path(pixels).is_file():
        edited = _edited_pixels(Path(path))
        if edited is not None:
            return _after_edit(edited, Path(path))
        if pending_flush(pixels) is not None:
            return _complete_change(pixels)
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
            "the journal is still there: run it again",
        ):
            if damage is None and out is None:
                return _in_place(pixels, recorded, data)
            return _beside(pixels, recorded, data, damage, None if out is None else Path(out).absolute())
    except MemoryError as error:
        raise FormatError(
            f"the journal of {pixels} speaks of images that do not fit into memory: it is damaged itself"
        ) from error
    finally:
        lock.release()


def _complete_change(pixels: Path) -> Recovery:
    """Complete a change of a dataset, not a recording, that was interrupted while HDF5 flushed it."""
    lock = Lock(pixels)
    try:
        if (pending := pending_flush(pixels)) is not None:
            complete_flush(pixels, pending)
        redo_path(pixels).unlink(missing_ok=True)
    finally:
        lock.release()
    return Recovery(views=(), path_xml=find_xml(pixels), path_pixels=pixels)


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
            views, mended = mend(container, recorded, data)
    except (FormatError, RuntimeError, KeyError) as error:
        if not is_hdf5:
            raise
        damage = str(error)
    if is_hdf5 and (damage or not can_be_walked(pixels)):
        # damaged in a way that showed in changing it only; the chunks and the journal are still what they were
        damage = damage or "HDF5 cannot read all of its description"
        return _beside(pixels, Recorded.of(pixels), data, damage, None)
    final, source = _sources(pixels, recorded)
    text = xml.serialise(mended)
    if source != final and final.is_file():
        backup = final.with_name(f"{final.name}~1")
        kept = backup.read_bytes() if backup.is_file() else None
        if final.read_bytes() not in (text, kept):  # else it was interrupted just here
            keep_backup(final)
    for path in (final, source):
        remove_temporaries(path)
    replace_file(final, text)
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
            views, data = mend(container, recorded, data)
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
        except BaseException as error:
            container.close()
            if isinstance(
                error, ValueError | TypeError | OverflowError | RuntimeError | LookupError
            ) and not (isinstance(error, BdvError)):
                raise FormatError(
                    f"what the journal of {pixels} says of its images cannot be ({error}): it is damaged itself"
                ) from error
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


def _edited_pixels(path: Path) -> Path | None:
    """Return the pixels beside which an edit has left its record."""
    try:
        path_xml = find_xml(path)
        pixels = pixel_path(path_xml, read_xml(path_xml))
    except (FormatError, NotFoundError, InvalidInputError):
        return None
    return pixels if pending(pixels) else None


def _after_edit(pixels: Path, path: Path) -> Recovery:
    """Finish an edit that had happened, undo one that had not."""
    lock = Lock(pixels)
    try:
        done = finish_or_undo(pixels)
    finally:
        lock.release()
    return Recovery(views=(), path_xml=find_xml(path), path_pixels=pixels, edit=done)


def _interrupted_merge(path: Path) -> Path | None:
    """Return the XML into which recordings were being moved, if that was interrupted; it need not be there yet."""
    suffix = suffix_of(path)[1]
    path_xml = path if not suffix else path.with_name(f"{path.name.removesuffix(suffix)}.xml")
    return path_xml if plan_path(path_xml).is_file() else None


def _after_merge(path_xml: Path) -> Recovery:
    """Finish a merge that was interrupted while images were moved: it had happened when its note was written."""
    lock = Lock(path_xml)
    try:
        notes: Any = finish(path_xml)
    finally:
        lock.release()
    return Recovery(
        views=(), path_xml=path_xml, path_pixels=path_xml.with_name(notes["pixels"]), edit="finished"
    )


def _pixels_of(path: Path) -> Path:
    """Return the pixels of a recording: those named, or those beside the XML that have a journal."""
    if suffix_of(path)[0] is not None:
        return path
    stem = path.name.removesuffix(".xml").removesuffix(".recording")
    named = [path.with_name(stem + suffix) for card in FORMATS.values() for suffix in card.suffixes]
    return next((each for each in named if journal_path(each).is_file()), named[0])


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
