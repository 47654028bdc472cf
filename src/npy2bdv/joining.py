"""Several dataset descriptions become one: which setup is which, and what cannot be. No files."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.renumbering import Renumbering
from npy2bdv.model.spimdata import (
    ATTRIBUTES,
    ENTITY_TYPES,
    AttributeGroup,
    Element,
    Entity,
    PathRef,
    SpimData,
    Timepoints,
    ViewId,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from npy2bdv.model.spimdata import Kept, ViewRegistration, ViewSetup

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKind:
    """What the images of a setup are, which all of them must be.

    `stored` says more of them where the format has several ways to store one pixel type.
    """

    dtype: str
    factors: tuple[tuple[float, float, float], ...]
    stored: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One of the datasets that are joined.

    Attributes
    ----------
    path_xml
        Where its XML is.
    label
        What it is called, where recordings are told apart by one attribute.
    data
        What its XML says.
    images
        What the images of its setups are; setups of which nothing is stored are not in it.
    world_unit
        The size of a unit of its world.
    path
        How a file that a section names is named from the joined dataset.
    """

    path_xml: Path
    label: str
    data: SpimData
    images: Mapping[int, ImageKind]
    world_unit: float
    path: Callable[[str], str | None] = field(default=lambda text: text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The joined dataset.

    Attributes
    ----------
    data
        What its XML says, without a loader.
    numbering
        For each recording what its ids have become.
    sources
        For each view which recording has it (a number), and its ids there.
    """

    data: SpimData
    numbering: tuple[Renumbering, ...]
    sources: Mapping[ViewId, tuple[int, ViewId]]


def join(recordings: Sequence[Recording], along: str | None) -> Joined:
    """Join descriptions.

    Parameters
    ----------
    recordings
        At least one.
    along
        An attribute ("tile", "channel" ...): each recording is another one. "time": their time points come one after
        the other. None: labels and time points say what belongs together.

    Raises
    ------
    InvalidInputError
        If they cannot be one dataset, with the reason.
    """
    _check_units(recordings)
    times = _times(recordings, along == "time")
    entities = _Entities()
    found: dict[Labels, int] = {}
    setups: dict[int, ViewSetup] = {}
    first: dict[int, tuple[Recording, int]] = {}
    numbering = []
    for number, recording in enumerate(recordings):
        ids: dict[int, int] = {}
        for id_, setup in sorted(recording.data.setups.items()):
            named = entities.of(recording, setup, along)
            key = frozenset((name, entity.name or str(entity.id)) for name, entity in named.items())
            key = frozenset({*((name, "0") for name in ATTRIBUTES if name not in named), *key})
            if key not in found:
                found[key] = id_ if not number else max(setups) + 1
                attributes = {name: entity.id for name, entity in named.items()}
                setups[found[key]] = replace(setup, attributes=attributes)
                first[found[key]] = recording, id_
            elif found[key] in ids.values():
                raise InvalidInputError(
                    f"{recording.path_xml} has two setups of the same attributes ({_words(key)}); give them different "
                    "labels first (npy2bdv.edit)"
                )
            else:
                _check_alike(first[found[key]], (recording, id_), key)
            ids[id_] = found[key]
        numbering.append(Renumbering(setups=ids, times=times[number], path=recording.path))
    setups = {new: replace(setup, id=new, name=_name(setup, new)) for new, setup in sorted(setups.items())}
    sources = _sources(recordings, numbering, setups, entities)
    parts = [each.of(recording.data) for each, recording in zip(numbering, recordings, strict=True)]
    timepoints = Timepoints.of(time for part in parts for time in part.timepoints.ids)
    missing = frozenset(
        view for time in timepoints.ids for setup in setups if (view := ViewId(time, setup)) not in sources
    )
    registrations: dict[ViewId, ViewRegistration] = {}
    for part in reversed(parts):  # the first to have one wins, unless another has the image
        registrations.update(part.registrations)
    for view, (number, _) in sources.items():
        if view in parts[number].registrations:
            registrations[view] = parts[number].registrations[view]
    data = SpimData(
        base_path=PathRef(text="."),
        generated_by=next((part.generated_by for part in parts if part.generated_by), None),
        setups=setups,
        attributes=entities.groups(recordings),
        timepoints=timepoints,
        missing=missing,
        registrations=registrations,
        sections=_sections(parts),
        kept=_kept(parts),
    )
    return Joined(data=data, numbering=tuple(numbering), sources=sources)


def _name(setup: ViewSetup, new: int) -> str | None:
    return f"setup {new}" if setup.name == f"setup {setup.id}" else setup.name


def _check_units(recordings: Sequence[Recording]) -> None:
    """Refuse recordings whose transforms are in different units: their images would not fit together."""
    units = {recording.path_xml.name: recording.world_unit for recording in recordings}
    if any(not math.isclose(unit, recordings[0].world_unit, rel_tol=1e-6) for unit in units.values()):
        told = ", ".join(f"{unit:.6g} in {name}" for name, unit in units.items())
        raise InvalidInputError(
            f"a unit of the world is not the same in all recordings ({told}): bring them to one unit first, by a "
            "transform that scales one of them (npy2bdv.edit)"
        )


def _times(recordings: Sequence[Recording], one_after_the_other: bool) -> list[dict[int, int]]:
    following = None
    found = []
    for recording in recordings:
        ids = recording.data.timepoints.ids
        shift = 0
        if one_after_the_other and ids:
            shift = 0 if following is None else following - min(ids)
            following = max(ids) + shift + 1
        found.append({time: time + shift for time in ids})
    return found


class _Entities:
    """Channels, tiles ... of all recordings, which are one where they have one label."""

    def __init__(self) -> None:
        self._by_label: dict[str, dict[str, Entity]] = {}

    def of(self, recording: Recording, setup: ViewSetup, along: str | None) -> dict[str, Entity]:
        """Return the entities of a setup as they are in the joined dataset."""
        names = dict.fromkeys(setup.attributes)
        if along is not None and along != "time":
            names[along] = None
        return {name: self._joined(recording, setup, name, name == along) for name in names}

    def _joined(self, recording: Recording, setup: ViewSetup, name: str, tells: bool) -> Entity:
        old = recording.data.entity(name, setup) or Entity(id=0, name=None)
        label = old.name or str(old.id)
        if tells:
            used = {each.attributes.get(name, 0) for each in recording.data.setups.values()}
            label = recording.label if len(used) == 1 else f"{recording.label} {label}"
        known = self._by_label.setdefault(name, {})
        there = known.get(label)
        if there is None:
            taken = {entity.id for entity in known.values()}
            id_ = old.id if old.id not in taken else max(taken) + 1
            type_ = ENTITY_TYPES.get(name, Entity)
            entity = old if isinstance(old, type_) else type_(id=old.id)
            there = known[label] = replace(entity, id=id_, name=label)
        elif (problem := _difference(there, old)) and not tells:
            raise InvalidInputError(
                f"{name} {label!r} is not the same in all recordings ({problem} in {recording.path_xml.name}); if it "
                f"is another {name} in each, say so: along={name!r}"
            )
        return there

    def groups(self, recordings: Sequence[Recording]) -> dict[str, AttributeGroup]:
        """Return all groups, those of the four known attributes first."""
        order = dict.fromkeys(
            [
                *(name for recording in recordings for name in recording.data.attributes),
                *ATTRIBUTES,
                *self._by_label,
            ]
        )
        found = {}
        for name in order:
            kept = _once(
                each
                for recording in recordings
                if name in recording.data.attributes
                for each in recording.data.attributes[name].kept
            )
            entities = {entity.id: entity for entity in self._by_label.get(name, {}).values()}
            if entities or kept:
                found[name] = AttributeGroup(name=name, entities=dict(sorted(entities.items())), kept=kept)
        return found


def _difference(there: Entity, other: Entity) -> str:
    """Say in which a tile or angle of the same label differs; nothing where it does not."""
    for name, words in (("location_xyz", "location"), ("axis_xyz", "axis"), ("degrees", "degrees")):
        pair = getattr(there, name, None), getattr(other, name, None)
        if None not in pair and pair[0] != pair[1]:
            return f"{words} {pair[0]}, and {pair[1]}"
    return ""


def _check_alike(first: tuple[Recording, int], other: tuple[Recording, int], key: Labels) -> None:
    """Refuse setups of the same attributes whose images are of different kinds."""
    (recording, old), (another, new) = first, other
    a, b = recording.data.setups[old], another.data.setups[new]
    kinds = recording.images.get(old), another.images.get(new)
    problem = ""
    if a.size_xyz != b.size_xyz and None not in (a.size_xyz, b.size_xyz):
        problem = f"sizes (x, y, z) {a.size_xyz} and {b.size_xyz}"
    elif a.voxel_size and b.voxel_size and not _close(a.voxel_size.size_xyz, b.voxel_size.size_xyz):
        problem = f"voxels (x, y, z) of {a.voxel_size.size_xyz} and {b.voxel_size.size_xyz}"
    elif kinds[0] is not None and kinds[1] is not None and kinds[0] != kinds[1]:
        if kinds[0].dtype != kinds[1].dtype:
            problem = f"pixels of {kinds[0].dtype} and {kinds[1].dtype}"
        elif kinds[0].factors != kinds[1].factors:
            problem = f"the levels (z, y, x) {kinds[0].factors} and {kinds[1].factors}"
        else:
            problem = f"pixels stored as {kinds[0].stored} and as {kinds[1].stored}"
    if problem:
        raise InvalidInputError(
            f"{recording.path_xml.name} and {another.path_xml.name} both have a setup of {_words(key)}, with {problem}"
            ': they cannot be one. If each recording is another tile (channel ...), say so: along="tile"'
        )


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(math.isclose(one, other, rel_tol=1e-6) for one, other in zip(a, b, strict=True))


def _words(key: Labels) -> str:
    return ", ".join(f"{name} {label!r}" for name, label in sorted(key))


def _sources(
    recordings: Sequence[Recording],
    numbering: Sequence[Renumbering],
    setups: Mapping[int, ViewSetup],
    entities: _Entities,
) -> dict[ViewId, tuple[int, ViewId]]:
    """Return which recording has each view."""
    sources: dict[ViewId, tuple[int, ViewId]] = {}
    for number, (recording, ids) in enumerate(zip(recordings, numbering, strict=True)):
        for old in recording.data.views():
            view = ids.view(old)
            if view in sources:
                other = recordings[sources[view][0]].path_xml.name
                labels = setups[view.setup].name or f"setup {view.setup}"
                raise InvalidInputError(
                    f"time point {view.time} of {labels!r} is in {other} and in {recording.path_xml.name}. If the "
                    'recordings come one after the other, say along="time"; if each is another tile, along="tile" '
                    "(or channel, angle, illumination)"
                )
            sources[view] = number, old
    return sources


def _sections(parts: Sequence[SpimData]) -> tuple[Element, ...]:
    """Return the sections of BigStitcher of all parts, each once."""
    found: dict[str, Element] = {}
    for part in parts:
        for section in part.sections:
            known = found.get(section.tag)
            if known is None:
                found[section.tag] = section
                continue
            more = [each for each in section.children if each not in known.children]
            if section.tag == "BoundingBoxes":
                more = _other_names(known, more)
            found[section.tag] = replace(known, children=(*known.children, *more))
    return tuple(found.values())


def _other_names(known: Element, boxes: Sequence[Element]) -> list[Element]:
    """Return bounding boxes under names that are not taken."""
    taken = {dict(each.attributes).get("name", "") for each in known.children}
    found = []
    for box in boxes:
        name = plain = dict(box.attributes).get("name", "")
        count = 2
        while name in taken:
            name, count = f"{plain} {count}", count + 1
        taken.add(name)
        attributes = tuple((key, name if key == "name" else value) for key, value in box.attributes)
        found.append(replace(box, attributes=attributes))
    return found


def _kept(parts: Sequence[SpimData]) -> dict[str, tuple[Kept, ...]]:
    names = dict.fromkeys(name for part in parts for name in part.kept)
    return {name: _once(each for part in parts for each in part.kept.get(name, ())) for name in names}


def _once(kept: Iterator[Kept]) -> tuple[Kept, ...]:
    found: list[Kept] = []
    for each in kept:
        if each.element not in [other.element for other in found]:
            found.append(each)
    return tuple(found)
