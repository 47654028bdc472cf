"""Edits of what is said of a dataset beside transforms: labels, voxel sizes, places, who recorded it with what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from npy2bdv import xml
from npy2bdv.editor.annotations import ANNOTATIONS, AnnotationWork, both
from npy2bdv.editor.session import Session
from npy2bdv.errors import InvalidInputError
from npy2bdv.location import pixel_path
from npy2bdv.model.spimdata import (
    ATTRIBUTES,
    ENTITY_TYPES,
    Angle,
    AttributeGroup,
    Camera,
    Entity,
    GeneratedBy,
    N5Loader,
    OmeZarrLoader,
    PathRef,
    SpimData,
    Tile,
    VoxelSize,
)
from npy2bdv.storage import READABLE
from npy2bdv.storage.base import Annotation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from npy2bdv.model.spimdata import Triple, ViewSetup


class MetadataEdits(Session):
    """The part of `Editor` that is about metadata. Physical quantities are (x, y, z)."""

    # -- attributes --------------------------------------------------------------------------------------

    def set_labels(self, attribute: str, labels: Mapping[int | str, str]) -> None:
        """Give values of an attribute other labels; a channel's label is changed in OME-Zarr images, too.

        Parameters
        ----------
        attribute
            "channel", "tile", "angle", "illumination", or another that the dataset has.
        labels
            New labels, by id or by the label that they had: ``{"488": "GFP"}``.

        Raises
        ------
        MissingKeyError
            If there is no such attribute, id or label.
        InvalidInputError
            If two would have the same label, or a label cannot stand in XML.
        """
        data = self.data
        if not isinstance(labels, Mapping):
            raise InvalidInputError(
                f'the labels are given by id or earlier label, {{"488": "GFP"}}; found {labels!r}'
            )
        given = {self._only_id(attribute, which): label for which, label in labels.items()}
        if not given or len(given) < len(labels):
            raise InvalidInputError(
                f"give one label for each {attribute} that is to be renamed; found {labels!r}"
            )
        for label in given.values():
            _check_text(label, f"the label of {attribute}")
            if not label.strip():
                raise InvalidInputError(f"the label of {attribute} is empty; give a text")
        known = {id_: entity.name or str(id_) for id_, entity in _entities(data, attribute).items()} | given
        for id_, label in given.items():
            twin = next((other for other, name in known.items() if name == label and other != id_), None)
            if twin is not None:
                raise InvalidInputError(
                    f"{attribute} {id_} and {twin} would both be called {label!r}; choose different labels"
                )
        changed = self._with_entities(
            data, attribute, given, lambda entity, label: replace(entity, name=label)
        )
        annotations = {
            setup.id: Annotation(channel=given[entity.id])
            for setup in data.setups.values()
            if attribute == "channel"
            and (entity := data.entity(attribute, setup)) is not None
            and entity.id in given
        }
        words = ", ".join(f"{id_} {label!r}" for id_, label in given.items())
        self._stage_annotated(changed, f"call {attribute} {words}", annotations)

    def set_location(self, tile: int | str, location_xyz: Sequence[float] | None) -> None:
        """Note where a tile lies, or forget it with None; images do not move.

        Programs use it only when they build transforms, as BigStitcher does if asked to.

        Parameters
        ----------
        tile
            Its id or label.
        location_xyz
            The place (x, y, z), in the unit of the voxel size.

        Raises
        ------
        MissingKeyError
            If there is no such tile.
        InvalidInputError
            If these are no three finite numbers.
        """
        place = None if location_xyz is None else _three(location_xyz, "a location")
        id_ = self._only_id("tile", tile)

        def put(entity: Entity, value: Triple | None) -> Entity:
            assert isinstance(entity, Tile)
            return replace(entity, location_xyz=value)

        changed = self._with_entities(self.data, "tile", {id_: place}, put)
        self._stage(changed, f"tile {id_}: location {'none' if place is None else _numbers(place)}")

    def set_angle(
        self,
        angle: int | str,
        *,
        degrees: float | None = None,
        axis_xyz: Sequence[float] | None = None,
    ) -> None:
        """Note how the sample was turned; images do not turn. What is not given stays.

        Parameters
        ----------
        angle
            Its id or label.
        degrees
            By how much.
        axis_xyz
            About which axis (x, y, z).

        Raises
        ------
        MissingKeyError
            If there is no such angle.
        InvalidInputError
            If nothing is given, or a number is not finite.
        """
        if degrees is None and axis_xyz is None:
            raise InvalidInputError("give degrees=, axis_xyz= or both")
        if degrees is not None:
            degrees = _finite(degrees, "degrees")
        axis = None if axis_xyz is None else _three(axis_xyz, "an axis")
        if axis is not None and not any(axis):
            raise InvalidInputError("axis_xyz=(0, 0, 0) is no axis; give a direction")
        id_ = self._only_id("angle", angle)

        def turn(entity: Entity, _: None) -> Entity:
            assert isinstance(entity, Angle)
            return replace(
                entity,
                degrees=entity.degrees if degrees is None else degrees,
                axis_xyz=axis or entity.axis_xyz,
            )

        changed = self._with_entities(self.data, "angle", {id_: None}, turn)
        words = [f"{degrees:g} degrees"] if degrees is not None else []
        words += [f"axis {_numbers(axis)}"] if axis is not None else []
        self._stage(changed, f"angle {id_}: {', '.join(words)}")

    # -- setups ------------------------------------------------------------------------------------------

    def rename_setup(self, setup: int, name: str) -> None:
        """Give a setup another name; that of its images in OME-Zarr is changed, too.

        Parameters
        ----------
        setup
            Its id.
        name
            The new name.

        Raises
        ------
        MissingKeyError
            If there is no such setup.
        InvalidInputError
            If the name cannot stand in XML.
        """
        _check_text(name, "the name of a setup")
        data = self.data
        known = data.setup(setup)
        changed = replace(data, setups={**data.setups, setup: replace(known, name=name)})
        self._stage_annotated(changed, f"setup {setup}: name {name!r}", {setup: Annotation(name=name)})

    def set_voxel_size(
        self, size_xyz: Sequence[float] | None = None, unit: str | None = None, **where: Any
    ) -> None:
        """Correct the voxel size, its unit, or both; what N5 and OME-Zarr say of it is changed, too.

        It is metadata: images are shown by their transforms, which stay. Where a transform was made from the wrong
        size, replace it, too (`replace_transform("calibration", ...)`).

        Parameters
        ----------
        size_xyz
            Size of a voxel (x, y, z).
        unit
            Its unit, e.g. "µm".
        **where
            Which setups, by ``setup=`` or attributes; see `Editor`.

        Raises
        ------
        InvalidInputError
            If nothing is given, or these are no three finite sizes above 0.
        MissingKeyError
            If no setup is selected.
        """
        if size_xyz is None and unit is None:
            raise InvalidInputError("give size_xyz=, unit= or both")
        size = None if size_xyz is None else _three(size_xyz, "a voxel size")
        if size is not None and min(size) <= 0:
            raise InvalidInputError(f"a voxel has three sizes above 0 (x, y, z); found {_numbers(size)}")
        if unit is not None:
            _check_text(unit, "a unit")
        setups = self._select_setups(where)

        def correct(setup: ViewSetup) -> ViewSetup:
            known = setup.voxel_size or VoxelSize(size_xyz=(1.0, 1.0, 1.0))
            corrected = VoxelSize(size_xyz=size or known.size_xyz, unit=known.unit if unit is None else unit)
            return replace(setup, voxel_size=corrected)

        annotation = Annotation(voxel_size_xyz=size, unit=unit)
        words = [_numbers(size)] if size is not None else []
        words += [f"unit {unit!r}"] if unit is not None else []
        self._stage_annotated(
            self._with_setups(setups, correct),
            f"voxel size {', '.join(words)}: {_setups(setups)}",
            dict.fromkeys(setups, annotation),
        )

    def set_camera(
        self,
        *,
        name: str | None = None,
        exposure_time: float | None = None,
        exposure_unit: str | None = None,
        **where: Any,
    ) -> None:
        """Note the camera and its exposure; what is not given stays.

        Parameters
        ----------
        name, exposure_time, exposure_unit
            The camera, how long it exposed, and the unit of this time, "s" by default.
        **where
            Which setups, by ``setup=`` or attributes; see `Editor`.

        Raises
        ------
        InvalidInputError
            If nothing is given, the time is no finite number, or the XML has a camera of another form, which is kept.
        MissingKeyError
            If no setup is selected.
        """
        changes: dict[str, Any] = {}
        for key, text in (("name", name), ("exposure_unit", exposure_unit)):
            if text is not None:
                _check_text(text, f"the {key} of a camera")
                changes[key] = text
        if exposure_time is not None:
            changes["exposure_time"] = _finite(exposure_time, "exposure_time")
            if changes["exposure_time"] < 0:
                raise InvalidInputError(f"exposure_time={exposure_time} is no finite time of 0 or more")
        if not changes:
            raise InvalidInputError("give name=, exposure_time= or exposure_unit=")
        setups = self._select_setups(where)

        def note(setup: ViewSetup) -> ViewSetup:
            if any(kept.element.tag == "camera" for kept in setup.kept):
                raise InvalidInputError(
                    f"setup {setup.id} has a camera in a form of another program, which is kept as it is"
                )
            return replace(setup, camera=replace(setup.camera or Camera(), **changes))

        words = ", ".join(f"{key} {each!r}" for key, each in changes.items())
        self._stage(self._with_setups(setups, note), f"camera: {words}: {_setups(setups)}")

    # -- the dataset -------------------------------------------------------------------------------------

    def set_microscope(
        self, *, name: str | None = None, version: str | None = None, user: str | None = None
    ) -> None:
        """Note the microscope, the version of its software, and the user; what is not given stays.

        Parameters
        ----------
        name
            Of the microscope.
        version
            Of its software.
        user
            Who recorded.

        Raises
        ------
        InvalidInputError
            If nothing is given, a text cannot stand in XML, or the XML has this in another form, which is kept.
        """
        given = {"microscope": name, "microscope_version": version, "user": user}
        changes = {key: text for key, text in given.items() if text is not None}
        if not changes:
            raise InvalidInputError("give name=, version= or user=")
        for key, text in changes.items():
            _check_text(text, f"the {key.replace('_', ' ')}")
        data = self.data
        if any(kept.element.tag == "generatedBy" for kept in data.kept.get("SpimData", ())):
            raise InvalidInputError(
                f"{self.path} says who made it in a form of another program, which is kept as it is"
            )
        known = data.generated_by or GeneratedBy(library_version=metadata.version("npy2bdv"))
        words = ", ".join(f"{key.replace('_', ' ')} {text!r}" for key, text in changes.items())
        self._stage(replace(data, generated_by=replace(known, **changes)), words)

    def set_base_path(self, folder: str) -> None:
        """Change the folder against which paths in the XML are resolved; "." is that of the XML.

        Pixels, and interest points of BigStitcher, must lie there. Some programs (Bio-Formats, npy2bdv 1.x) take it
        for ".", whatever it is.

        Parameters
        ----------
        folder
            Relative to the XML, with forward slashes.

        Raises
        ------
        NotFoundError
            If the pixels are not there.
        InvalidInputError
            If it is no relative path, or leads out of the folder.
        """
        _check_text(folder, "a base path")
        parts = folder.replace("\\", "/").split("/")
        if not folder or folder.startswith(("/", "\\")) or ":" in folder or ".." in parts:
            raise InvalidInputError(
                f"{folder!r} is no folder below that of the XML; give a relative path such as 'pixels'"
            )
        inner = "/".join(part for part in parts if part not in ("", "."))
        # a URI, whose last part is only a folder where a slash follows (formats.md 1.3)
        text = f"{quote(inner)}/" if inner else "."
        changed = replace(self.data, base_path=PathRef(text=text))
        if isinstance(changed.loader, READABLE):
            pixel_path(self.path, changed)
        self._stage(changed, f"base path {text!r}")

    # -- how ---------------------------------------------------------------------------------------------

    def _only_id(self, attribute: str, which: int | str) -> int:
        """Return the one id that an id or a label names."""
        self._check_open()
        found = self._selector.ids(self._data, attribute, which)
        if len(found) > 1:
            raise InvalidInputError(
                f"{attribute} {which!r} is the label of several: {found}; give the id in place of the label"
            )
        return found[0]

    def _with_entities(
        self,
        data: SpimData,
        attribute: str,
        values: Mapping[int, Any],
        change: Callable[[Entity, Any], Entity],
    ) -> SpimData:
        """Return the dataset with changed values of an attribute; those that had no entry get one."""
        group = data.attributes.get(attribute) or AttributeGroup(name=attribute, entities={})
        known = _entities(data, attribute)
        changed = {id_: change(known[id_], value) for id_, value in values.items()}
        group = replace(group, entities={**group.entities, **changed})
        setups = data.setups
        if 0 in values and attribute in ATTRIBUTES:
            # a setup without the attribute has its id 0 (formats.md 1.5), and has to say so once more is known of it
            setups = {
                id_: setup
                if attribute in setup.attributes
                else replace(setup, attributes={**setup.attributes, attribute: 0})
                for id_, setup in setups.items()
            }
        return replace(data, attributes={**data.attributes, attribute: group}, setups=setups)

    def _with_setups(self, ids: Iterable[int], change: Callable[[ViewSetup], ViewSetup]) -> SpimData:
        data = self.data
        return replace(data, setups={**data.setups, **{id_: change(data.setups[id_]) for id_ in ids}})

    def _stage_annotated(self, data: SpimData, line: str, setups: Mapping[int, Annotation]) -> None:
        """Take an edit that the pixels' own metadata have to follow."""
        path = self._own_pixels()
        if not isinstance(data.loader, N5Loader | OmeZarrLoader) or not setups:
            self._stage(data, line)
            return
        if path is None:
            self._stage(data, f"{line} (in the XML only: the pixels are not there, or not below its folder)")
            return
        earlier = self._works.get(ANNOTATIONS)
        said = dict(earlier.setups) if isinstance(earlier, AnnotationWork) else {}
        said |= {setup: both(said.get(setup), annotation) for setup, annotation in setups.items()}
        work = AnnotationWork(path, said, lambda: self._data)
        self._stage(data, line, works={ANNOTATIONS: work})


def _entities(data: SpimData, attribute: str) -> dict[int, Entity]:
    """Return the values of an attribute by id, also those that setups have and nobody has described."""
    group = data.attributes.get(attribute)
    kind = ENTITY_TYPES.get(attribute, Entity)
    default = {0} if attribute in ATTRIBUTES else set()
    used = {setup.attributes[attribute] for setup in data.setups.values() if attribute in setup.attributes}
    return {id_: kind(id=id_, name=str(id_)) for id_ in used | default} | dict(
        group.entities if group else {}
    )


def _check_text(text: str, what: str) -> None:
    """Refuse what XML cannot hold when it is given, not when the dataset is saved."""
    if not isinstance(text, str):
        raise InvalidInputError(f"{what} is a text; found {text!r}")
    try:
        xml.serialise(SpimData(base_path=PathRef(text=text)))
    except InvalidInputError:
        raise InvalidInputError(f"{what} cannot be {text!r}: XML holds no control characters") from None


def _finite(number: float, what: str) -> float:
    try:
        found = float(number)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise InvalidInputError(f"{what} is a finite number; found {number!r}")
    return found


def _three(numbers: Sequence[float], what: str) -> Triple:
    try:
        found = tuple(float(number) for number in numbers)
    except (TypeError, ValueError):
        found = ()
    if len(found) != 3 or not all(map(math.isfinite, found)):
        raise InvalidInputError(f"{what} takes three finite numbers (x, y, z); found {numbers!r}")
    x, y, z = found
    return x, y, z


def _numbers(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


def _setups(ids: Sequence[int]) -> str:
    return f"setup {ids[0]}" if len(ids) == 1 else f"{len(ids)} setups, {ids[0]} to {ids[-1]}"
