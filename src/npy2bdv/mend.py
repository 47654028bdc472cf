"""The views of an interrupted recording are completed, and described, in a container that is open for writing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv import xml
from npy2bdv.engine import Engine
from npy2bdv.errors import FormatError
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.model.spimdata import ContainerLoader, OmeZarrLoader, SpimData, Timepoints, ViewId
from npy2bdv.rows import runs
from npy2bdv.salvage import size_of
from npy2bdv.storage.disk import why
from npy2bdv.stream import ViewStream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import ImageLoader
    from npy2bdv.storage.base import Container, LevelArray
    from npy2bdv.storage.recorded import Recorded


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


def mend(
    container: Container, recorded: Recorded, data: SpimData
) -> tuple[tuple[RecoveredView, ...], SpimData]:
    """Complete all views; return what there is of them, and what the XML says of them."""
    engine = Engine(concurrent=container.card.concurrent)
    engine.explain = lambda error: (
        f"recovering failed: {why(error, container.path.parent)}; the journal is still there: run it again"
    )
    empty = container.path.is_dir() and any(
        not path.stat().st_size for path in container.path.rglob("*") if path.is_file()
    )
    try:
        found = tuple(
            _complete(view, recorded, container, engine, check_blocks=empty)  # a power cut leaves empty files
            for view in sorted(recorded.depths)
        )
        engine.drain()
    finally:
        engine.close()
    kept = [each.view for each in found if each.planes]
    unknown = (
        {*data.views()} - recorded.depths.keys() - recorded.gone
    )  # of earlier sessions, or records are lost
    others = {
        view
        for view in unknown
        if container.has(view) and (recorded.appending or not _is_empty(view, container))
    }
    found += tuple(_lost(view, data) for view in sorted(unknown - others))
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


def _complete(
    view: ViewId, recorded: Recorded, container: Container, engine: Engine, *, check_blocks: bool
) -> RecoveredView:
    """Write the planes that wait in the journal, and make the lower levels from what there is."""
    depth = recorded.depths[view]
    if not container.has(view):  # declared just before the kill
        return RecoveredView(view=view, planes=0, depth=depth, missing=((0, depth),))
    factors = [(int(z), int(y), int(x)) for z, y, x in container.factors(view.setup)]
    arrays = [container.level(view, level) for level in range(len(factors)) if container.has(view, level)]
    full = arrays[factors.index((1, 1, 1))] if (1, 1, 1) in factors[: len(arrays)] else None
    was_adding = len(arrays) < len(factors)
    if was_adding and full is not None:
        arrays += _add_levels(view, factors, arrays, recorded, container)
    if full is not None:
        depth = full.shape[0]
    elif (size := size_of(view, recorded)) is not None:
        depth = size[0]
    is_done = view in recorded.complete and recorded.levels_complete and not was_adding
    if check_blocks or (container.path.is_dir() and not is_done):
        for array in arrays:
            lost = _drop_damaged(array)
            if lost.any() and array is full:
                recorded.lose(view, lost & recorded.there(view, depth))
            is_done &= not lost.any()
    safe = recorded.there(view, depth)
    planes = {z: plane for (other, z), plane in recorded.planes.items() if other == view and z < depth}
    if full is not None and not full.in_place:  # what is said to wait in the journal must be there
        waiting = recorded.waiting(view, depth)
        for z, plane in [*planes.items()]:
            if plane.shape == full.shape[1:] and plane.dtype == full.dtype:
                waiting[z] = False
            else:
                del planes[z]
        safe &= ~waiting
    there = safe if full is None or is_done else safe | _with_pixels(full, ~safe)
    if full is not None and not is_done and there.any():
        shape = (None if view in recorded.open_ended else depth, *full.shape[1:])
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
    lost = recorded.damaged.get(view, damaged)[:depth]
    damaged[: len(lost)] = lost
    return RecoveredView(
        view=view,
        planes=int((there & ~damaged).sum()),
        depth=depth,
        missing=missing,
        unconfirmed=tuple(runs(there & ~safe & ~damaged)),
        damaged=tuple(runs(damaged)),
    )


def _drop_damaged(array: LevelArray) -> NDArray[np.bool_]:
    """Remove blocks that cannot be read, where each is a file of its own; return of which planes there were any.

    A power cut may leave such; a kill does not.
    """
    lost = np.zeros(array.shape[0], bool)
    z, y, x = (range(0, size, chunk) for size, chunk in zip(array.shape, array.chunk, strict=True))
    for start in z:
        row = slice(start, min(start + array.chunk[0], array.shape[0]))
        if _can_be_read(array, (row, slice(None), slice(None))):
            continue
        for down, right in product(y, x):
            box = (
                row,
                slice(down, min(down + array.chunk[1], array.shape[1])),
                slice(right, min(right + array.chunk[2], array.shape[2])),
            )
            if not _can_be_read(array, box):
                lost[row] = True
                array.drop((start // array.chunk[0], down // array.chunk[1], right // array.chunk[2]))
    return lost


def _can_be_read(array: LevelArray, region: Region) -> bool:
    whole = (slice(*part.indices(size)[:2]) for part, size in zip(region, array.shape, strict=True))
    try:
        z, y, x = whole
        array.read((z, y, x))
    except FormatError:
        return False
    return True


def _add_levels(
    view: ViewId,
    factors: list[Zyx],
    arrays: list[LevelArray],
    recorded: Recorded,
    container: Container,
) -> tuple[LevelArray, ...]:
    """Add the levels that a view lacks, since the process was killed while it added them to one after another."""
    chunks = [array.chunk for array in arrays]
    for level in range(len(arrays), len(factors)):
        alike = (
            other for other in recorded.depths if other.setup == view.setup and container.has(other, level)
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


def _description(recorded: Recorded, found: tuple[RecoveredView, ...], data: SpimData) -> SpimData:
    """Return what the XML says of every view of which there are planes; the others are missing."""
    earlier = {*data.views()}  # before setups are added, whose views at earlier time points are missing
    for each in found:
        if each.planes and each.view in recorded.described:
            data = _with_view(data, each, xml.parse(recorded.described[each.view], "the journal"))
    lost = recorded.gone | {each.view for each in found if not each.planes}
    registrations = {view: kept for view, kept in data.registrations.items() if view not in lost}
    setups = {*data.setups, *(view.setup for view in registrations)}
    present = {*registrations}
    ids = {view.time for view in registrations}
    if recorded.appending:
        present |= earlier - lost
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
