"""What will be recorded, before and while it is: setups, labels, transforms. No pixels, no files."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING

from npy2bdv import xml
from npy2bdv.errors import InvalidInputError, InvalidTypeError, MissingKeyError
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import (
    ATTRIBUTES,
    ENTITY_TYPES,
    AttributeGroup,
    Camera,
    Entity,
    GeneratedBy,
    SpimData,
    Timepoints,
    ViewId,
    ViewRegistration,
    ViewSetup,
    ViewTransform,
)
from npy2bdv.setups import DraftSetup, innermost, pixel_type, pyramid_of, view_transforms, voxel_size_of
from npy2bdv.storage.base import ImageNote

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import ArrayLike, DTypeLike

    from npy2bdv.setups import Chunks, Levels, Transforms
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
    """

    def __init__(
        self, card: FormatCard, *, levels: Levels, chunks: Chunks | None, generated_by: GeneratedBy
    ) -> None:
        self.card = card
        self.generated_by = generated_by
        self.setups: dict[int, DraftSetup] = {}
        self.views: dict[ViewId, tuple[ViewTransform, ...] | None] = {}
        """The views declared so far, with their own transforms (None: those of the setup)."""
        self._entities: dict[str, dict[int, Entity]] = {name: {} for name in ATTRIBUTES}
        self._taken: dict[frozenset[tuple[str, int]], int] = {}
        """The setup that last had a combination of attributes."""
        _check_names(SpimData(generated_by=generated_by))
        self.set_defaults(levels=levels, chunks=card.default_chunk if chunks is None else chunks)

    def set_defaults(self, *, levels: Levels, chunks: Chunks) -> None:
        """Set the levels and blocks of setups that are added from now on and given none of their own."""
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
        unit: str = "micrometer",
        camera: str = "default",
        exposure_time: float = 0.0,
        exposure_unit: str = "s",
        name: str | None = None,
        transform: Transforms | None = None,
        calibration: ArrayLike | Affine | str | None = "bigstitcher",
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
            Size of a voxel (x, y, z).
        camera, exposure_time, exposure_unit
            Metadata of the camera.
        name
            Name of the setup; by default "setup ID".
        transform
            From calibrated pixels to the world, for all time points that are given none of their own: a 3x4 or
            4x4 matrix, an `Affine`, or a sequence of `ViewTransform`, outermost first.
        calibration
            The innermost transform. By default what BigStitcher writes: voxel sizes in units of the smallest one
            of the dataset. None: there is none beside `transform`.
        levels, chunks
            In place of those of the dataset.
        id
            Setup id; by default the next one.

        Returns
        -------
        id
            By which the other methods know it.

        Raises
        ------
        InvalidInputError
            If a size, voxel size, factor, block or matrix cannot be right, or the same attributes or id are taken.
        """
        setup = max(self.setups, default=-1) + 1 if id is None else _index(id, "a setup id")
        if setup in self.setups or setup < 0:
            raise InvalidInputError(
                f"setup id {setup} is taken or negative; leave it out for the next free one"
            )
        voxel_size = voxel_size_of(voxel_size_xyz, unit)
        kind = pixel_type(dtype)
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
        wanted = {"illumination": illumination, "channel": channel, "tile": tile, "angle": angle}
        wanted.update(attributes or {})
        entities = {key: self._entity(key, label) for key, label in wanted.items()}
        ids = {key: entity.id for key, entity in entities.items()}
        taken = frozenset(ids.items())
        other = self.setups.get(self._taken.get(taken, -1))
        if other is not None and other.value.attributes == ids:
            raise InvalidInputError(
                f"setup {other.value.id} has the same attributes ({_pairs(wanted)}); give the new one another "
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
        _check_names(SpimData(setups={setup: value}, attributes=_groups(entities)))
        known = DraftSetup(
            value=value,
            pyramid=pyramid,
            dtype=kind,
            transforms=() if transform is None else view_transforms(transform),
            calibration=innermost(calibration),
            open_ended=open_ended,
        )
        self.setups[setup] = known
        self._taken[taken] = setup
        for key, entity in entities.items():
            self._entities.setdefault(key, {})[entity.id] = entity
        return setup

    def set_labels(self, attribute: str, labels: Mapping[int, str]) -> None:
        """Name the entities of an attribute, by id; those that no setup uses yet are added.

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

    def _entity(self, attribute: str, label: int | str) -> Entity:
        """Return the entity with a label (text) or an id (integer), a new one where there is none."""
        known = self._entities.get(attribute, {})
        type_ = ENTITY_TYPES.get(attribute, Entity)
        if isinstance(label, str):
            label = label.strip()  # XML does not keep white space there
            for entity in known.values():
                if entity.name == label:
                    return entity
            return type_(id=max(known, default=-1) + 1, name=label)
        id_ = _index(label, f"{attribute}=")
        if id_ < 0:
            raise InvalidInputError(f"{attribute} {id_} is negative; ids count from 0")
        return known.get(id_) or type_(id=id_, name=str(id_))

    def transforms(self, view: ViewId) -> tuple[ViewTransform, ...]:
        """Return the transforms of a declared view, outermost first, the calibration last.

        Raises
        ------
        MissingKeyError
            If it was not declared.
        """
        if view not in self.views:
            raise MissingKeyError(f"time point {view.time} of setup {view.setup} has not been written")
        return self._placed(
            view.setup, self.views[view], self._smallest({view.setup for view in dict(self.views)})
        )

    def _placed(
        self, setup: int, own: tuple[ViewTransform, ...] | None, smallest: float
    ) -> tuple[ViewTransform, ...]:
        known = self.known(setup)
        placed = known.transforms if own is None else own
        if known.calibration is None:
            return placed
        calibration = known.calibration
        if isinstance(calibration, str):
            assert known.value.voxel_size is not None
            x, y, z = known.value.voxel_size.size_xyz
            calibration = Affine.scale((x / smallest, y / smallest, z / smallest))
        return (*placed, ViewTransform(affine=calibration, name="calibration"))

    def set_transforms(self, view: ViewId, transforms: Sequence[ViewTransform]) -> None:
        """Replace the transforms of a view (outermost first); the calibration stays innermost."""
        self.views[view] = view_transforms(tuple(transforms))

    def _smallest(self, setups: Collection[int]) -> float:
        """Return the smallest voxel size of some setups: BigStitcher's unit of the world (formats.md 1.9)."""
        sizes = (self.setups[setup].value.voxel_size for setup in setups)
        return min((min(size.size_xyz) for size in sizes if size is not None), default=1.0)

    def describe(self) -> SpimData:
        """Return what the XML says of the dataset as it is now."""
        views = dict(self.views)  # other threads may declare more meanwhile
        present = sorted(views)
        times = _times({view.time for view in present})
        setups = sorted({view.setup for view in present})
        here = set(present)
        smallest = self._smallest(setups)
        return SpimData(
            generated_by=self.generated_by,
            setups={id_: self.setups[id_].value for id_ in setups},
            attributes={
                name: AttributeGroup(name=name, entities=dict(sorted(self._entities[name].items())))
                for name in (*_XML_ORDER, *(name for name in self._entities if name not in _XML_ORDER))
            },
            timepoints=Timepoints.of(times),
            missing=frozenset(
                ViewId(time, setup)
                for time in times
                for setup in dict(self.setups)
                if ViewId(time, setup) not in here
            ),
            registrations={
                view: ViewRegistration(transforms=self._placed(view.setup, views[view], smallest))
                for view in present
            },
        )

    def describe_view(self, view: ViewId) -> SpimData:
        """Return what the XML would say of one view alone, for the journal."""
        known = self.known(view.setup)
        smallest = self._smallest(self.setups)
        return SpimData(
            generated_by=self.generated_by,
            setups={view.setup: known.value},
            attributes={
                name: AttributeGroup(name=name, entities={id_: self._entities[name][id_]})
                for name, id_ in known.value.attributes.items()
            },
            timepoints=Timepoints.of((view.time,)),
            registrations={
                view: ViewRegistration(transforms=self._placed(view.setup, self.views[view], smallest))
            },
        )

    def image_note(self, setup: int) -> ImageNote:
        """Return what a format may say of the images of a setup for programs that do not read the XML."""
        value = self.known(setup).value
        channel = (
            self._entities["channel"][value.attributes["channel"]] if "channel" in value.attributes else None
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

        Raises
        ------
        MissingKeyError
            If there is none with this id.
        """
        try:
            return self.setups[setup]
        except KeyError:
            raise MissingKeyError(
                f"there is no setup {setup}; add_setup() returned {sorted(self.setups) or 'none yet'}"
            ) from None


def _index(value: object, what: str) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidTypeError(
            f"{what} must be a whole number, or a label as text; found {value!r}"
        ) from None


def _groups(entities: Mapping[str, Entity]) -> dict[str, AttributeGroup]:
    return {
        name: AttributeGroup(name=name, entities={entity.id: entity}) for name, entity in entities.items()
    }


def _check_names(part: SpimData) -> None:
    """Refuse names that XML cannot hold when they are given, not when the dataset is saved."""
    xml.serialise(part)


def _pairs(attributes: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={label!r}" for name, label in attributes.items())


def _times(used: set[int]) -> tuple[int, ...]:
    """Return the time points of a dataset: gaps are time points with missing views, unless they are absurd."""
    last = max(used, default=-1)
    return tuple(range(last + 1)) if last < 1000 + 10 * len(used) else tuple(sorted(used))
