"""What will be recorded, before and while it is: setups, labels, transforms. No pixels, no files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from npy2bdv import xml
from npy2bdv.errors import InvalidInputError, MissingKeyError
from npy2bdv.existing import check_alike, combination
from npy2bdv.model.affine import Affine
from npy2bdv.model.placement import Placement
from npy2bdv.model.spimdata import (
    ATTRIBUTES,
    ENTITY_TYPES,
    Angle,
    AttributeGroup,
    Camera,
    Entity,
    GeneratedBy,
    SpimData,
    Tile,
    Timepoints,
    ViewId,
    ViewRegistration,
    ViewSetup,
    ViewTransform,
)
from npy2bdv.setups import (
    DraftSetup,
    in_unit_of,
    innermost,
    located,
    pairs,
    pixel_type,
    placed,
    placed_at,
    pyramid_of,
    times_of,
    turned,
    view_transforms,
    voxel_size_of,
    whole_number,
    with_size,
)
from npy2bdv.storage.base import ImageNote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, DTypeLike

    from npy2bdv.existing import Existing
    from npy2bdv.model.placement import Anchor, Deskew, Turn
    from npy2bdv.model.spimdata import VoxelSize
    from npy2bdv.setups import Chunks, Levels, Place, Transforms
    from npy2bdv.storage.base import FormatCard

_FIRST_PLANES = 64  # an image of unknown length begins with as many

_XML_ORDER = ("illumination", "channel", "angle", "tile")


class Draft:
    """The description of a dataset that grows while it is recorded.

    Parameters
    ----------
    card
        What the format can hold.
    levels, chunks
        Of the setups that are given none of their own.
    existing
        What is there already, and is extended.
    """

    def __init__(
        self,
        card: FormatCard,
        *,
        levels: Levels,
        chunks: Chunks | None,
        generated_by: GeneratedBy,
        existing: Existing | None = None,
    ) -> None:
        self.card = card
        self.generated_by = generated_by
        self.first_time = 0
        """Time points before it that have no view are not listed; those behind it are, with missing views."""
        self.existing = existing
        self.setups: dict[int, DraftSetup] = {}
        self.views: dict[ViewId, Place | None] = {}
        """The views declared so far, with what places each by its own (None: what places the setup)."""
        self._entities: dict[str, dict[int, Entity]] = {name: {} for name in ATTRIBUTES}
        self._labelled: dict[str, set[int]] = {}
        """Entities that were named by `set_labels`."""
        self._taken: dict[frozenset[tuple[str, int]], int] = {}
        """The setup that last had a combination of attributes."""
        if existing is not None:
            self.setups.update(existing.setups)
            self._taken.update(existing.taken)
            for key, group in existing.data.attributes.items():
                self._entities[key] = dict(group.entities)
        _check_names(SpimData(generated_by=generated_by))
        self.set_defaults(levels=levels, chunks=card.default_chunk if chunks is None else chunks)

    def set_defaults(self, *, levels: Levels, chunks: Chunks) -> None:
        """Set the levels and blocks of setups that are added from now on and given none of their own.

        Parameters
        ----------
        levels, chunks
            As `create` takes them: factors and sizes (z, y, x), in pixels.
        """
        made = pyramid_of((1, 1, 1), None, levels, chunks)  # refuses what no image could have
        self.card.check_order(made)
        self._levels = levels
        self._chunks = chunks

    def add_setup(
        self,
        *,
        shape: Sequence[int | None],
        dtype: DTypeLike = "uint16",
        channel: int | str = 0,
        tile: int | str = 0,
        angle: int | str = 0,
        illumination: int | str = 0,
        attributes: Mapping[str, int | str] | None = None,
        voxel_size_xyz: Sequence[float] = (1.0, 1.0, 1.0),
        unit: str | None = None,
        camera: str = "default",
        exposure_time: float = 0.0,
        exposure_unit: str = "s",
        name: str | None = None,
        transform: Transforms | None = None,
        calibration: ArrayLike | Affine | str | None = "bigstitcher",
        stage_position_xyz: Sequence[float] | None = None,
        stage_unit: str | None = None,
        stage_position_of: Anchor = "corner",
        deskew: Deskew | None = None,
        transpose_xy: bool = False,
        flip_xyz: Sequence[bool] | bool = False,
        camera_rotation: float = 0.0,
        sample_rotation: Turn | None = None,
        upright: bool = False,
        levels: Levels | None = None,
        chunks: Chunks | None = None,
        id: int | None = None,  # noqa: A002
    ) -> int:
        """Add a setup: one channel of one tile at one angle under one illumination, at all time points.

        Parameters
        ----------
        shape
            Size of its stacks (z, y, x), in pixels. Where z is None, the first view recorded fixes it.
        dtype
            Pixel type.
        channel, tile, angle, illumination
            A label (text) or an id (integer, whose label is the number).
        attributes
            Further attributes, by name.
        voxel_size_xyz, unit
            Size of a voxel (x, y, z), by default in the unit of the setups before, or in "micrometer". A dataset has
            one unit of length: sizes in others are converted to that of its first setup, or refused.
        camera, exposure_time, exposure_unit
            Metadata of the camera.
        name
            Name of the setup; by default "setup ID".
        transform
            From calibrated pixels to the world, for all time points that are given none of their own: a 3x4 or
            4x4 matrix, an `Affine`, or a sequence of `ViewTransform`, outermost first.
        calibration
            The innermost transform, 3x4. By default what BigStitcher writes: voxel sizes in units of the smallest one
            of the dataset. None: there is none beside `transform`.
        stage_position_xyz, stage_unit, stage_position_of
            Where the stage says that the stack is, by default in `unit`, and whether that is its "corner" or "centre".
        deskew, transpose_xy, flip_xyz, camera_rotation, sample_rotation, upright
            How planes are tilted, and how camera and sample are turned against the stage: see `Placement`. In place of
            `transform`: from all these follow named transforms, the <location> of the tile, the rotation of the angle.
        levels, chunks
            In place of those of the dataset.
        id
            Setup id; by default the next one.

        Returns
        -------
        id
            By which the other methods know it. Where a dataset that is appended to has a setup of the same
            attributes, and of the same shape, pixel type and levels, it is that one; its voxel size, camera and name
            stay as they are.

        Raises
        ------
        InvalidInputError
            If a size, voxel size, factor, block or matrix cannot be right, or the same attributes or id are taken.
        """
        wanted = {"illumination": illumination, "channel": channel, "tile": tile, "angle": angle}
        wanted.update(attributes or {})
        entities = {key: self._entity(key, label) for key, label in wanted.items()}
        ids = {key: entity.id for key, entity in entities.items()}
        others = list(self._voxel_sizes())
        if unit is None:
            unit = next((size.unit for size in others if size is not None and size.unit), "micrometer")
        voxel_size = voxel_size_of(voxel_size_xyz, unit)
        if isinstance(calibration, str):
            voxel_size = in_unit_of(voxel_size, others)
        kind = pixel_type(dtype)
        terms = {
            "stage_position_xyz": stage_position_xyz,
            "stage_unit": stage_unit,
            "stage_position_of": stage_position_of,
            "deskew": deskew,
            "transpose_xy": transpose_xy,
            "flip_xyz": flip_xyz,
            "camera_rotation": camera_rotation,
            "sample_rotation": sample_rotation,
            "upright": upright,
        }
        there = self._setup_there(ids, id)
        if there is not None:
            default = tuple(voxel_size_xyz) == (1.0, 1.0, 1.0)
            size = there.pyramid.shape
            assumed = there.value.voxel_size if default else voxel_size
            check_alike(
                there,
                shape=tuple(shape),
                dtype=kind,
                factors=None if levels is None else pyramid_of(size, assumed, levels, (1, 1, 1)).factors,
                voxel_size_xyz=None if default else voxel_size.size_xyz,
            )
            if not isinstance(calibration, str) and innermost(calibration) != there.calibration:
                raise InvalidInputError(
                    f"setup {there.value.id} of the dataset has the calibration {there.calibration}, which stays; "
                    "leave calibration= out"
                )
            placement = placed(
                assumed or voxel_size, unit, terms, transform=transform, calibration=calibration
            )
            if transform is not None or placement is not None:
                new = () if transform is None else view_transforms(transform)
                for view, own in self.views.items():
                    if view.setup == there.value.id and own is None:  # it keeps what was valid then
                        self.views[view] = there.place
                self.setups[there.value.id] = replace(there, transforms=new, placement=placement)
            return there.value.id
        setup = self._next_setup(ids) if id is None else whole_number(id, "a setup id")
        if setup in self.setups or setup < 0 or not self._is_free(setup, ids):
            raise InvalidInputError(
                f"setup id {setup} is taken or negative; leave it out for the next free one"
            )
        open_ended = len(shape) == 3 and shape[0] is None
        sizes = [_FIRST_PLANES, *shape[1:]] if open_ended else shape
        pyramid = pyramid_of(
            sizes,  # type: ignore[arg-type]
            voxel_size,
            self._levels if levels is None else levels,
            self._chunks if chunks is None else chunks,
        )
        self.card.check(pyramid, kind)
        if open_ended and (1, 1, 1) not in pyramid.factors:
            raise InvalidInputError(
                "a stack of unknown length needs the full resolution stored: level 1, 1, 1"
            )
        taken = combination(ids)
        other = self.setups.get(self._taken.get(taken, -1))
        if other is not None and combination(other.value.attributes) == taken:
            raise InvalidInputError(
                f"setup {other.value.id} has the same attributes ({pairs(wanted)}); give the new one another "
                "channel, tile, angle or illumination, or write its stacks as other time points"
            )
        value = ViewSetup(
            id=setup,
            name=f"setup {setup}" if name is None else name,
            size_xyz=pyramid.shape[::-1],
            voxel_size=voxel_size,
            camera=Camera(name=camera, exposure_time=float(exposure_time), exposure_unit=exposure_unit),
            attributes=ids,
        )
        if (
            self.existing is not None and setup in self.existing.data.setups
        ):  # one of which no image is stored
            value = with_size(self.existing.data.setups[setup], value)
            entities = {key: entity for key, entity in entities.items() if key in value.attributes}
        placement = placed(voxel_size, unit, terms, transform=transform, calibration=calibration)
        if placement is not None:
            self._note_place(entities, placement, setup)
        _check_names(SpimData(setups={setup: value}, attributes=_groups(entities)))
        known = DraftSetup(
            value=value,
            pyramid=pyramid,
            dtype=kind,
            transforms=() if transform is None else view_transforms(transform),
            calibration=innermost(calibration),
            placement=placement,
            open_ended=open_ended,
        )
        self.setups[setup] = known
        self._taken[taken] = setup
        for key, entity in entities.items():
            self._entities.setdefault(key, {})[entity.id] = entity
        return setup

    def _voxel_sizes(self) -> Iterator[VoxelSize | None]:
        """Iterate over those whose unit is that of the world."""
        if self.existing is not None:
            yield from (setup.voxel_size for setup in self.existing.data.setups.values())
        for setup in self.setups.values():
            if setup.calibration == "bigstitcher":
                yield setup.value.voxel_size

    def _note_place(self, entities: dict[str, Entity], placement: Placement, setup: int) -> None:
        """Say of tile and angle where and how they are; what an XML has said of them before stays."""
        earlier = {} if self.existing is None else self.existing.data.attributes
        tile, angle = entities.get("tile"), entities.get("angle")
        if isinstance(angle, Angle):
            entities["angle"] = turned(angle, placement)
        if isinstance(tile, Tile) and not ("tile" in earlier and tile.id in earlier["tile"].entities):
            others = (known.value for id_, known in self.setups.items() if id_ != setup)
            is_new = all(other.attributes.get("tile") != tile.id for other in others)
            entities["tile"] = located(tile, placement, is_new=is_new)

    def own_place(
        self,
        setup: int,
        transform: Transforms | None,
        stage_position_xyz: Sequence[float] | None,
        stage_unit: str | None,
    ) -> Place | None:
        """Return what places a view by its own; None where it is placed as its setup.

        Parameters
        ----------
        setup
            Id of its setup.
        transform, stage_position_xyz, stage_unit
            As `write` takes them: matrices 3x4, or where the stage was, and the unit of that.

        Raises
        ------
        InvalidInputError
            If it cannot be, or two that contradict each other are given.
        """
        known = self.known(setup)
        if stage_position_xyz is None:
            if transform is not None and known.placement is not None:
                raise InvalidInputError(
                    f"setup {setup} is placed by what the microscope knows (stage_position_xyz= ...), and transform= "
                    "would replace all of that; give stage_position_xyz= for this view, or insert one by npy2bdv.edit"
                )
            return None if transform is None else view_transforms(transform)
        if transform is not None:
            raise InvalidInputError(
                "a view is placed by transform= or by stage_position_xyz=, not by both; leave one out"
            )
        return placed_at(known, stage_position_xyz, stage_unit, self._smallest({setup}))

    def _setup_there(self, ids: Mapping[str, int], asked: int | None) -> DraftSetup | None:
        """Return the setup of a dataset that is appended to which has these attributes."""
        if self.existing is None or (setup := self.existing.taken.get(combination(ids))) is None:
            return None
        if asked not in (None, setup):
            raise InvalidInputError(
                f"setup {setup} of the dataset has the same attributes; id={asked} cannot be: leave it out"
            )
        if setup in self.existing.refusals:
            raise InvalidInputError(self.existing.refusals[setup])
        return self.setups.get(setup)

    def _next_setup(self, ids: Mapping[str, int]) -> int:
        following = max(self.setups, default=-1) + 1
        if self.existing is None:
            return following
        return self.existing.taken.get(combination(ids), max(following, self.existing.first_free))

    def _is_free(self, setup: int, ids: Mapping[str, int]) -> bool:
        """Tell whether a dataset that is appended to has no other setup of this id, in its XML or its pixels."""
        if self.existing is None or self.existing.taken.get(combination(ids)) == setup:
            return True
        return setup not in self.existing.data.setups and setup not in self.existing.foreign

    def set_labels(self, attribute: str, labels: Mapping[int, str]) -> None:
        """Name the entities of an attribute, by id; those that no setup uses yet are added.

        Parameters
        ----------
        attribute
            "channel", "tile", "angle", "illumination", or one of the dataset's own.
        labels
            A label for each id.

        Raises
        ------
        InvalidInputError
            If a label cannot be written into an XML.
        """
        entities = self._entities.get(attribute, {})
        type_ = ENTITY_TYPES.get(attribute, Entity)
        named = {
            id_: replace(entities.get(id_, type_(id=id_)), name=str(label)) for id_, label in labels.items()
        }
        _check_names(SpimData(attributes={attribute: AttributeGroup(name=attribute, entities=named)}))
        self._entities[attribute] = {**entities, **named}
        self._labelled.setdefault(attribute, set()).update(named)

    def set_location(self, setup: int, location_xyz: tuple[float, float, float]) -> None:
        """Say where the tile of a setup lies (x, y, z), in the unit of its voxel size; transforms stay.

        Parameters
        ----------
        setup
            Id of a setup.
        location_xyz
            In the unit of its voxel size.
        """
        id_ = self.known(setup).value.attributes["tile"]
        tile = self._entities["tile"][id_]
        assert isinstance(tile, Tile)
        self._entities["tile"][id_] = replace(tile, location_xyz=location_xyz)

    def _entity(self, attribute: str, label: int | str) -> Entity:
        """Return the entity with a label (text) or an id (integer), a new one where there is none."""
        known = self._entities.get(attribute, {})
        type_ = ENTITY_TYPES.get(attribute, Entity)
        if isinstance(label, str):
            label = label.strip()  # XML does not keep white space there
            for entity in known.values():
                if (entity.name or str(entity.id)) == label:
                    return entity
            return type_(id=max(known, default=-1) + 1, name=label)
        id_ = whole_number(label, f"{attribute}=")
        if id_ < 0:
            raise InvalidInputError(f"{attribute} {id_} is negative; ids count from 0")
        return known.get(id_) or type_(id=id_, name=str(id_))

    def transforms(self, view: ViewId) -> tuple[ViewTransform, ...]:
        """Return the transforms of a declared view, outermost first, the calibration last.

        Parameters
        ----------
        view
            A view that was declared, or that was there before.

        Raises
        ------
        MissingKeyError
            If it was not declared.
        """
        if view not in self.views:
            if self.existing is not None and view in self.existing.data.registrations:
                return self.existing.data.registrations[view].transforms
            raise MissingKeyError(f"time point {view.time} of setup {view.setup} has not been written")
        smallest = self._smallest({view.setup for view in dict(self.views)})
        return self._registration(view, self.views[view], smallest).transforms

    def _registration(self, view: ViewId, own: Place | None, smallest: float) -> ViewRegistration:
        if own is None and self.existing is not None and view in self.existing.data.registrations:
            return self.existing.data.registrations[view]  # of a view that was missing, or is replaced
        return ViewRegistration(transforms=self._placed(view.setup, own, smallest))

    def _placed(self, setup: int, own: Place | None, smallest: float) -> tuple[ViewTransform, ...]:
        known = self.known(setup)
        place = known.place if own is None else own
        if isinstance(place, Placement):
            assert known.value.size_xyz is not None
            return place.transforms(known.value.size_xyz, smallest)
        if known.calibration is None:
            return place
        calibration = known.calibration
        if isinstance(calibration, str):
            assert known.value.voxel_size is not None
            x, y, z = known.value.voxel_size.size_xyz
            calibration = Affine.scale((x / smallest, y / smallest, z / smallest))
        return (*place, ViewTransform(affine=calibration, name="calibration"))

    def set_transforms(self, view: ViewId, transforms: Sequence[ViewTransform]) -> None:
        """Replace the transforms of a view (outermost first); the calibration stays innermost.

        Parameters
        ----------
        view
            A declared view.
        transforms
            The outermost first, without the calibration.
        """
        self.views[view] = view_transforms(tuple(transforms))

    def _smallest(self, setups: Collection[int]) -> float:
        """Return the smallest voxel size of some setups: BigStitcher's unit of the world (formats.md 1.9).

        A dataset that is appended to has its unit already.
        """
        if self.existing is not None:
            return self.existing.world_unit
        sizes = (self.setups[setup].value.voxel_size for setup in setups)
        return min((min(size.size_xyz) for size in sizes if size is not None), default=1.0)

    def describe(self) -> SpimData:
        """Return what the XML says of the dataset as it is now."""
        views = dict(self.views)  # other threads may declare more meanwhile
        present = sorted(views)
        times = times_of({view.time for view in present}, self.first_time)
        setups = sorted({view.setup for view in present})
        here = set(present)
        smallest = self._smallest(setups)
        return SpimData(
            generated_by=self.generated_by,
            setups={id_: self.setups[id_].value for id_ in setups},
            attributes={
                name: AttributeGroup(name=name, entities=self._listed(name, setups))
                for name in (*_XML_ORDER, *(name for name in self._entities if name not in _XML_ORDER))
            },
            timepoints=Timepoints.of(times),
            missing=frozenset(
                ViewId(time, setup)
                for time in times
                for setup in dict(self.setups)
                if ViewId(time, setup) not in here
            ),
            registrations={view: self._registration(view, views[view], smallest) for view in present},
        )

    def _listed(self, attribute: str, setups: Sequence[int]) -> dict[int, Entity]:
        """Return the entities of an attribute; what is appended to gets those only that are named, or used."""
        entities = sorted(self._entities[attribute].items())
        if self.existing is None:
            return dict(entities)
        used = {self.setups[setup].value.attributes.get(attribute) for setup in setups}
        known = self.existing.data.attributes.get(attribute)
        used |= {*(known.entities if known else ()), *self._labelled.get(attribute, ())}
        return {id_: entity for id_, entity in entities if id_ in used}

    def describe_view(self, view: ViewId) -> SpimData:
        """Return what the XML would say of one view alone, for the journal.

        Parameters
        ----------
        view
            A declared view.
        """
        known = self.known(view.setup)
        smallest = self._smallest(self.setups)
        return SpimData(
            generated_by=self.generated_by,
            setups={view.setup: known.value},
            attributes={
                name: AttributeGroup(name=name, entities={id_: self._named(name, id_)})
                for name, id_ in known.value.attributes.items()
            },
            timepoints=Timepoints.of((view.time,)),
            registrations={
                view: self._registration(view, self.views[view], smallest),
            },
        )

    def _named(self, attribute: str, id_: int) -> Entity:
        """Return an entity; other programs may use some that they do not list."""
        known = self._entities.get(attribute, {}).get(id_)
        return known or ENTITY_TYPES.get(attribute, Entity)(id=id_, name=str(id_))

    def image_note(self, setup: int) -> ImageNote:
        """Return what a format may say of the images of a setup for programs that do not read the XML.

        Parameters
        ----------
        setup
            Id of a setup.
        """
        value = self.known(setup).value
        channel = (
            self._named("channel", value.attributes["channel"]) if "channel" in value.attributes else None
        )
        size = value.voxel_size
        return ImageNote(
            name=value.name or "",
            channel=(channel.name or str(channel.id)) if channel else "",
            voxel_size_xyz=size.size_xyz if size else (1.0, 1.0, 1.0),
            unit=(size.unit if size else None) or "px",
        )

    def known(self, setup: int) -> DraftSetup:
        """Return what was said of a setup.

        Parameters
        ----------
        setup
            Id of a setup, as `add_setup` returned it.

        Raises
        ------
        MissingKeyError
            If there is none with this id.
        """
        try:
            return self.setups[setup]
        except KeyError:
            if self.existing is not None and setup in self.existing.refusals:
                raise InvalidInputError(self.existing.refusals[setup]) from None
            raise MissingKeyError(
                f"there is no setup {setup}; add_setup() returned {sorted(self.setups) or 'none yet'}"
            ) from None


def _groups(entities: Mapping[str, Entity]) -> dict[str, AttributeGroup]:
    return {
        name: AttributeGroup(name=name, entities={entity.id: entity}) for name, entity in entities.items()
    }


def _check_names(part: SpimData) -> None:
    """Refuse names that XML cannot hold when they are given, not when the dataset is saved."""
    xml.serialise(part)
