"""What is given to a resave: its stacks, what is said of them, and what a crop or a selection leaves of that."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.draft import Draft
from npy2bdv.editor.removal import with_missing, without_setups
from npy2bdv.editor.selection import Selector
from npy2bdv.errors import InvalidInputError
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import GeneratedBy, SpimData, Timepoints, ViewId, ViewTransform
from npy2bdv.model.units import convert, ratio
from npy2bdv.reading import DatasetOrigin, OpenedDataset, OpenedSource
from npy2bdv.storage import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from npy2bdv.dataset import Dataset
    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import ViewRegistration
    from npy2bdv.reading import Opened, Origin
    from npy2bdv.sources import Source, SourceView
    from npy2bdv.storage.base import ImageNote
    from npy2bdv.tasks import Slab

logger = logging.getLogger(__name__)


# -- crop ------------------------------------------------------------------------------------------------


def cropped(crop: Sequence[Any] | None, stack: Stack) -> Region:
    """Return what of a stack (z, y, x) is taken."""
    if crop is None:
        z, y, x = (slice(0, size) for size in stack.shape)
        return z, y, x
    try:
        sides = [side if isinstance(side, slice) else slice(*_pair(side)) for side in crop]
        found = [slice(*side.indices(size)[:2]) for side, size in zip(sides, stack.shape, strict=True)]
        steps = any(side.step not in (None, 1) for side in sides)
    except (TypeError, ValueError):
        found, steps = [], True
    if steps:
        raise InvalidInputError(
            f"crop={crop!r} is not understood; give three slices or pairs (start, stop), of z, y and x in pixels, "
            "None for all of an axis"
        )
    if any(side.stop <= side.start for side in found):
        raise InvalidInputError(
            f"crop={crop!r} leaves nothing of {stack.what}, which has the shape {stack.shape} (z, y, x)"
        )
    return found[0], found[1], found[2]


def _pair(side: Any) -> tuple[Any, Any]:
    if side is None:
        return None, None
    start, stop = side
    return start, stop


def moved(data: SpimData, crops: Mapping[ViewId, Region], slabs: Sequence[Slab]) -> SpimData:
    """Return the dataset with images cropped: each stays where it was in the world (formats.md 6.5)."""
    sizes = {slab.id.setup: slab.reading.shape[::-1] for slab in slabs}
    setups = {
        id_: replace(setup, size_xyz=sizes[id_]) if id_ in sizes else setup
        for id_, setup in data.setups.items()
    }
    moved = {
        view: _behind(each, crops[view]) if view in crops else each
        for view, each in data.registrations.items()
    }
    sections = tuple(
        replace(section, children=()) if section.tag == "ViewInterestPoints" else section
        for section in data.sections
    )
    if sections != tuple(data.sections):
        logger.warning(
            "interest points lie in pixels of the whole images: they are left out of the cropped dataset"
        )
    return replace(data, setups=setups, registrations=moved, sections=sections)


def _behind(registration: ViewRegistration, region: Region) -> ViewRegistration:
    """Return the transforms of a view of which a region is left; the calibration stays innermost."""
    start = tuple(float(side.start) for side in region[::-1])
    if not any(start):
        return registration
    *outer, last = registration.transforms or (ViewTransform(affine=Affine.identity(), name="calibration"),)
    if last.affine is None:  # a Java class: the shift goes into pixels
        shift = Affine.translation(start)
        return replace(registration, transforms=(*outer, last, ViewTransform(affine=shift, name="crop")))
    matrix = np.asarray(last.affine)
    shift = Affine.translation(tuple((matrix[:, :3] @ np.array(start)).tolist()))
    return replace(registration, transforms=(*outer, ViewTransform(affine=shift, name="crop"), last))


# -- what is given ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One stack that can be read, and what it is called."""

    key: Any
    id: ViewId | None
    shape: Zyx
    dtype: np.dtype[Any]
    what: str


class GivenSource:
    """Files or an array."""

    def __init__(self, source: Source, origin: Origin) -> None:
        self._source = source
        self.origin = origin
        self.opened: Opened = OpenedSource(source)
        self._setups: dict[tuple[int | str, ...], int] = {}
        self._smallest = 1.0
        self._unit = source.views[0].unit if source.views else "px"
        self._first_time = 0
        for note in source.notes:
            logger.warning(note)

    def stacks(self, where: Mapping[str, Any]) -> Iterator[Stack]:
        """Iterate over the stacks that are selected."""
        wanted = None
        if any(value is not None for value in where.values()):
            wanted = self._selected(where)
        views = {
            number: view
            for number, view in enumerate(self._source.views)
            if wanted is None or number in wanted
        }
        self._unit = next(iter(views.values())).unit
        sizes = [_in_unit(view, self._unit).voxel_size_xyz for view in views.values()]
        self._smallest = min(map(min, sizes))  # the unit of the world
        self._first_time = min(view.time for view in views.values())
        for number, view in views.items():
            what = f"time point {view.time}, channel {view.channel!r}, tile {view.tile}"
            yield Stack(key=number, id=None, shape=view.shape, dtype=view.dtype, what=what)

    def _selected(self, where: Mapping[str, Any]) -> set[int]:
        """Return the numbers of the stacks that a selection fits, by the dataset that all of them would be."""
        made = GeneratedBy(library_version=version("npy2bdv"))
        draft = Draft(FORMATS["hdf5"], levels=((1, 1, 1),), chunks=(1, 1, 1), generated_by=made)
        ids: dict[ViewId, int] = {}
        for number, view in enumerate(self._source.views):
            stack = Stack(key=number, id=None, shape=view.shape, dtype=view.dtype, what="")
            id_ = self.add_to(draft, stack, view.shape, view.dtype)
            draft.views[id_] = None
            ids[id_] = number
        self._setups.clear()
        return {ids[view] for view in Selector().views(draft.describe(), where)}

    def add_to(self, draft: Draft, stack: Stack, shape: Zyx, dtype: np.dtype[Any]) -> ViewId:
        """Add a setup for each channel of each tile, at each angle, in each illumination."""
        view = _in_unit(self._source.views[stack.key], self._unit)
        draft.first_time = self._first_time
        if view.setup not in self._setups:
            self._setups[view.setup] = setup = draft.add_setup(
                shape=shape,
                dtype=dtype,
                channel=view.channel,
                tile=view.tile,
                angle=view.angle,
                illumination=view.illumination,
                transform=_translation(view, self._smallest),
                voxel_size_xyz=view.voxel_size_xyz,
                unit=view.unit,
            )
            if view.position_xyz is not None:
                draft.set_location(setup, view.position_xyz)
        return ViewId(view.time, self._setups[view.setup])

    def described(self, draft: Draft, slabs: Sequence[Slab]) -> SpimData:
        """Return what the XML says."""
        return draft.describe()

    def note(self, draft: Draft, setup: int) -> ImageNote:
        """Return what a format says of a setup."""
        return draft.image_note(setup)


def _in_unit(view: SourceView, unit: str) -> SourceView:
    """Return a view with its lengths in another unit.

    Raises
    ------
    InvalidInputError
        If they cannot be brought into it.
    """
    if ratio(view.unit, unit) is None:
        raise InvalidInputError(
            f"some stacks have voxel sizes in {view.unit!r}, others in {unit!r}, and a dataset has one unit; give "
            "voxel_size_xyz= and unit= for all of them"
        )
    x, y, z = (convert(size, view.unit, unit) for size in view.voxel_size_xyz)
    position = view.position_xyz
    if position is not None:
        px, py, pz = (convert(place, view.unit, unit) for place in position)
        position = px, py, pz
    return replace(view, voxel_size_xyz=(x, y, z), position_xyz=position, unit=unit)


def _translation(view: SourceView, smallest: float) -> tuple[ViewTransform, ...]:
    """Return what BigStitcher makes of the location of a tile (formats.md 1.9)."""
    if view.position_xyz is None:
        return ()
    x, y, z = (place / smallest for place in view.position_xyz)
    return (ViewTransform(affine=Affine.translation((x, y, z)), name="Translation"),)


class GivenDataset:
    """Another dataset. Views whose pixels are not there become missing ones."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.origin: Origin = DatasetOrigin.of(dataset.path)
        self.opened: Opened = OpenedDataset(dataset)
        self._selects = False

    def stacks(self, where: Mapping[str, Any]) -> Iterator[Stack]:
        """Iterate over the views that are selected and have pixels."""
        self._selects = any(value is not None for value in where.values())
        wanted = set(Selector().views(self._dataset.spimdata, where)) if self._selects else None
        none = True
        for view in self._dataset.views():
            if wanted is not None and view.id not in wanted:
                continue
            if not self._dataset.container.has(view.id):
                logger.warning("time point %d of setup %d has no pixels: it becomes a missing view", *view.id)
                continue
            if view.level(0).factors != (1, 1, 1):
                raise InvalidInputError(
                    f"{self._dataset.path} stores setup {view.id.setup} without its full resolution: its first "
                    f"level has the factors {view.level(0).factors} (z, y, x), and no larger image can be made"
                )
            none = False
            what = f"time point {view.id.time} of setup {view.id.setup}"
            yield Stack(key=tuple(view.id), id=view.id, shape=view.shape, dtype=view.dtype, what=what)
        if none:
            raise InvalidInputError(
                f"{self._dataset.path} has no view whose pixels are there; nothing can be copied"
            )

    def refuse_to_overwrite(self, path_xml: Path, path_pixels: Path) -> None:
        """Refuse to write into files that are read."""
        pixels = self._dataset.container.path
        partitions = getattr(self._dataset.spimdata.loader, "partitions", ())
        read = [self._dataset.path, pixels, *(pixels.parent / each.path.text for each in partitions)]
        for path in (path_xml, path_pixels):
            if path.resolve() in {each.resolve() for each in read}:
                raise InvalidInputError(
                    f"{path} belongs to the dataset that is read; give the new one another name"
                )

    def add_to(self, draft: Draft, stack: Stack, shape: Zyx, dtype: np.dtype[Any]) -> ViewId:
        """Add the setup of a view under its id."""
        assert stack.id is not None
        if stack.id.setup not in draft.setups:
            setup = self._dataset.spimdata.setup(stack.id.setup)
            size = setup.voxel_size
            draft.add_setup(
                id=stack.id.setup,
                shape=shape,
                dtype=dtype,
                voxel_size_xyz=(1.0, 1.0, 1.0) if size is None else size.size_xyz,
                attributes={"setup": stack.id.setup},  # what the XML says of it comes from the original
            )
        return stack.id

    def described(self, draft: Draft, slabs: Sequence[Slab]) -> SpimData:
        """Return what the XML says: as before, but for views that are not there."""
        data = self._dataset.spimdata
        there = {slab.id for slab in slabs}
        absent = frozenset(view for view in data.views() if view not in there)
        if not self._selects:
            return replace(
                data, base_path=SpimData().base_path, missing=(data.missing or frozenset()) | absent
            )
        data = replace(with_missing(data, absent), base_path=SpimData().base_path, loader=None)
        setups = {view.setup for view in there}
        data = without_setups(data, {*data.setups} - setups)
        times = sorted({view.time for view in there})
        missing = frozenset(view for view in data.missing or () if view.time in times)
        return replace(data, timepoints=Timepoints.of(tuple(times)), missing=missing)

    def note(self, draft: Draft, setup: int) -> ImageNote:
        """Return what a format says of a setup, for programs that do not read the XML."""
        value = self._dataset.spimdata.setup(setup)
        labels = self._dataset.spimdata.labels_of(value)
        unit = value.voxel_size.unit if value.voxel_size is not None else None
        return replace(
            draft.image_note(setup),
            name=value.name or f"setup {setup}",
            channel=labels.get("channel", ""),
            unit=unit or "px",
        )
