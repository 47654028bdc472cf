"""What an interrupted recording left -> a dataset that opens, with every acknowledged plane.

Works on files that HDF5 can still open; those whose metadata a kill has torn are refused, unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv import xml
from npy2bdv.engine import Engine
from npy2bdv.errors import NotFoundError
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
from npy2bdv.storage import FORMATS, open_container
from npy2bdv.storage.journal import Lock, journal_path, planes_path, read_records, remove_leftovers
from npy2bdv.storage.save import keep_backup, remove_temporaries, replace_file
from npy2bdv.stream import ViewStream

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.storage.base import Container, LevelArray
    from npy2bdv.storage.journal import Record


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
    """

    view: ViewId
    planes: int
    depth: int
    missing: tuple[tuple[int, int], ...]
    unconfirmed: tuple[tuple[int, int], ...] = ()


def recover(path: str | os.PathLike[str]) -> tuple[RecoveredView, ...]:
    """Bring an interrupted recording into order, in place.

    Planes that the journal holds are written where they belong, all levels are made complete, the XML is written
    under its final name, and the journal is removed.

    Parameters
    ----------
    path
        The XML or the pixel file.

    Returns
    -------
    views
        What there is of each view.

    Raises
    ------
    NotFoundError
        If there is no journal: the recording was closed cleanly, or made by another program.
    InUseError
        If the recording is still running.
    FormatError
        If HDF5 cannot open the file any more. Nothing has been changed.
    """
    pixels = _pixels_of(Path(path))
    if not journal_path(pixels).is_file():
        raise NotFoundError(
            f"there is no journal {journal_path(pixels).name} beside {pixels}: it was closed cleanly, or not "
            "recorded by npy2bdv 2; open it as it is"
        )
    lock = Lock(pixels)
    try:
        journal = _Journal(read_records(journal_path(pixels)), read_records(planes_path(pixels)))
        data = _described(pixels, journal)
        assert data.loader is not None
        assert isinstance(data.loader, ContainerLoader)  # we wrote it
        with open_container(data.loader, pixels, "r+") as container:
            engine = Engine(concurrent=container.card.concurrent)
            try:
                found = tuple(_complete(view, journal, container, engine) for view in sorted(journal.depths))
                engine.drain()
            finally:
                engine.close()
            kept = [each.view for each in found if each.planes]
            for view in kept:
                container.complete(view)
            for view in [*container.views()]:
                if view not in kept and (view in journal.gone or _is_empty(view, container)):
                    container.remove(view)
            container.flush(sync=True)
            loader = container.loader(PathRef(text=pixels.name), kept)
        _write_xml(pixels, journal, found, replace(data, loader=loader))
        remove_leftovers(pixels)
    finally:
        lock.release()
    return found


def _pixels_of(path: Path) -> Path:
    """Return the pixels of a recording: those named, or those beside the XML that have a journal."""
    if suffix_of(path)[0] is not None:
        return path
    stem = path.name.removesuffix(".xml").removesuffix(".recording")
    named = [path.with_name(stem + suffix) for card in FORMATS.values() for suffix in card.suffixes]
    return next((each for each in named if journal_path(each).is_file()), named[0])


class _Journal:
    """What the journal says of the last checkpoint."""

    def __init__(self, records: Iterable[Record], planes: Iterable[Record]) -> None:
        self.format = "hdf5"
        self.xml_name = self.recording_name = ""
        self.levels_complete = True
        self.depths: dict[ViewId, int] = {}
        self.there: dict[ViewId, NDArray[np.bool_]] = {}
        self.complete: set[ViewId] = set()
        self.planes: dict[tuple[ViewId, int], NDArray[Any]] = {}
        self.open_ended: set[ViewId] = set()
        self.described: dict[ViewId, bytes] = {}
        self.gone: set[ViewId] = set()
        self.waiting: set[tuple[ViewId, int]] = set()
        ended: dict[ViewId, NDArray[np.bool_]] = {}
        settled: dict[ViewId, NDArray[np.bool_]] = {}
        for kind, text, data in records:
            view = ViewId(*text["view"]) if "view" in text else ViewId(0, 0)
            if kind == "data":
                self.format = text["format"]
                self.xml_name, self.recording_name = text["xml"], text["recording"]
            elif kind == "view":
                self.gone.discard(view)
                self.depths[view] = max(text["shape"][0], self.depths.get(view, 0))
                for known in (self.there, ended, settled):
                    known.pop(view, None)
                self.complete.discard(view)
                (self.open_ended.add if text["open"] else self.open_ended.discard)(view)
            elif kind == "lvls":
                self.levels_complete = text["complete"]
            elif kind == "xml ":
                self.described[view] = data
            elif kind == "like":
                self.described[view] = self.described[ViewId(*text["other"])]
            elif kind == "gone":
                self.depths.pop(view, None)
                self.gone.add(view)
            elif kind == "full":
                ended[view] = _flags(text["there"])
            elif kind == "mark":  # what has ended by now is safe when this checkpoint is done
                settled.update(ended)
                ended.clear()
            elif kind == "done":
                self.complete |= settled.keys()
                self.there.update(settled)
                settled.clear()
                self.waiting = set()
                for each, there, unfinished in text["views"]:
                    self.complete.discard(ViewId(*each))
                    self.there[ViewId(*each)] = _flags(there)
                    self.waiting.update(
                        (ViewId(*each), z) for first, last in unfinished for z in range(first, last)
                    )
        for kind, text, data in planes:
            key = ViewId(*text["view"]), int(text["z"])
            if kind == "plne" and key in self.waiting:
                self.planes[key] = np.frombuffer(data, text["dtype"]).reshape(text["shape"])


def _flags(ranges: list[list[int]]) -> NDArray[np.bool_]:
    flags = np.zeros(ranges[-1][1] if ranges else 0, bool)
    for start, stop in ranges:
        flags[start:stop] = True
    return flags


def _complete(view: ViewId, journal: _Journal, container: Container, engine: Engine) -> RecoveredView:
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
    depth = full.shape[0] if full is not None else depth
    known = journal.there.get(view, np.zeros(0, bool))[:depth]
    safe = np.pad(known, (0, depth - len(known)))
    if full is not None and not full.in_place:  # what is said to wait in the journal must be there
        for other, z in journal.waiting - journal.planes.keys():
            if other == view and z < depth:
                safe[z] = False
    is_done = view in journal.complete and journal.levels_complete and not was_adding
    there = safe if full is None or is_done else safe | _with_pixels(full, ~safe)
    if full is not None and not is_done and there.any():
        shape = (None if view in journal.open_ended else depth, *full.shape[1:])
        levels: Any = list(zip(factors, arrays, strict=True))
        stream = ViewStream(engine, shape, full.dtype, levels, there=there)
        for (other, z), plane in journal.planes.items():
            if other == view:
                stream.put(plane[np.newaxis], z)
        stream.make_again()
        stream.close()
        depth = stream.shape[0]
        safe, there = safe[:depth], there[:depth]
    missing = tuple(runs(~there))
    if missing and there.any():
        container.note_missing_planes(view, list(missing))
    return RecoveredView(
        view=view,
        planes=int(there.sum()),
        depth=depth,
        missing=missing,
        unconfirmed=tuple(runs(there & ~safe)),
    )


def _add_levels(
    view: ViewId,
    factors: list[Zyx],
    arrays: list[LevelArray],
    journal: _Journal,
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


def _sources(pixels: Path, journal: _Journal) -> tuple[Path, Path]:
    """Return where the XML is to be, and where the recording left it."""
    final = pixels.with_name(journal.xml_name)
    early = pixels.with_name(journal.recording_name)
    return final, early if early.is_file() else final


def _described(pixels: Path, journal: _Journal) -> SpimData:
    """Return what the recording said of itself; hardly anything where it did not get to its first view."""
    source = _sources(pixels, journal)[1]
    if source.is_file():
        return xml.parse(source.read_bytes(), str(source))
    return SpimData(loader=_LOADERS[journal.format](path=PathRef(text=pixels.name)))


def _write_xml(pixels: Path, journal: _Journal, found: tuple[RecoveredView, ...], data: SpimData) -> None:
    """Put the XML in its final place, with every view of which there are planes; the others are missing."""
    final, source = _sources(pixels, journal)
    for each in found:
        if each.planes and each.view in journal.described:
            data = _with_view(data, each, xml.parse(journal.described[each.view], "the journal"))
    lost = journal.gone | {each.view for each in found if not each.planes}
    registrations = {view: kept for view, kept in data.registrations.items() if view not in lost}
    times = range(max((view.time for view in registrations), default=-1) + 1)
    setups = {*data.setups, *(view.setup for view in registrations)}
    missing = frozenset(
        ViewId(time, setup) for time in times for setup in setups if (time, setup) not in registrations
    )
    data = replace(
        data,
        setups=dict(sorted(data.setups.items())),
        timepoints=Timepoints.of(tuple(times)),
        missing=missing,
        registrations=registrations,
    )
    if source != final:
        keep_backup(final)
    for path in (final, source):
        remove_temporaries(path)
    replace_file(final, xml.serialise(data))
    if source != final:
        source.unlink()


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
