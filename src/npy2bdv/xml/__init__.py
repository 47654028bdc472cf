"""SpimData values <-> XML text. The only room that knows a tag; it touches no disk.

Strict when writing (the shape that Java parses, formats.md 1.1 and 1.2), tolerant when reading: variants of
other programs are made regular here and never travel further. Elements that we do not know are kept where
they were. Comments, processing instructions and unknown attributes of known elements are not kept (Java
drops them too).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from lxml import etree

from npy2bdv.errors import FormatError
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import (
    ENTITY_TYPES,
    Angle,
    AttributeGroup,
    Camera,
    Element,
    Entity,
    GeneratedBy,
    Kept,
    PathRef,
    SpimData,
    Tile,
    Timepoints,
    ViewId,
    ViewRegistration,
    ViewSetup,
    ViewTransform,
    VoxelSize,
)
from npy2bdv.xml.audit import audit
from npy2bdv.xml.elements import (
    collector_off,
    entity_tag,
    first_of,
    id_of,
    numbers_of,
    path_of,
    read_element,
    root_of,
    shortened,
    split_children,
    text_of,
    triple_of,
    view_id_of,
    whole_number,
    whole_numbers_of,
)
from npy2bdv.xml.loaders import read_loader
from npy2bdv.xml.writing import serialise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml.etree import _Element

_SECTIONS = (
    "ViewInterestPoints",
    "BoundingBoxes",
    "PointSpreadFunctions",
    "StitchingResults",
    "IntensityAdjustments",
)
__all__ = ["MAX_TIMEPOINTS", "MAX_VIEWS", "audit", "parse", "salvage", "serialise"]

MAX_TIMEPOINTS = 1_000_000
"""More than these are taken for a mistake, or an attack."""
MAX_VIEWS = 20_000_000
"""More than these (1000 time points of 10 000 tiles are half of it) cannot be meant either."""
_DECLARATION = re.compile(r"\s*<\?xml.*?\?>", re.DOTALL)


def parse(text: bytes | str, source: str = "the XML") -> SpimData:
    """Return what an XML text says.

    Parameters
    ----------
    text
        The XML, with or without declaration.
    source
        How errors name it (a path).

    Raises
    ------
    FormatError
        If the text is no well-formed SpimData XML, or holds a document type declaration (entities,
        external references): no program that writes this format makes one.
    """
    try:
        with collector_off():
            root = root_of(_DECLARATION.sub("", text, count=1).encode() if isinstance(text, str) else text)
            return _spimdata(root)
    except etree.XMLSyntaxError as error:
        raise FormatError(f"{source} is not well-formed XML: {error.msg}") from error
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from error


_REMOVABLE = (
    "ViewTransform",
    "ViewRegistration",
    "MissingView",
    "ViewSetup",
    "zgroup",
    "partition",
    "generatedBy",
)
_MOST_REMOVED = 100


def salvage(text: bytes) -> SpimData | None:
    """Return what an XML says without the elements that cannot be read; None where that does not help.

    For looking at the rest of a dataset, never for writing.
    """
    try:
        with collector_off():
            root = root_of(text)
            for _ in range(_MOST_REMOVED):
                try:
                    return _spimdata(root)
                except FormatError as error:
                    if not _remove_at(root, str(error)):
                        return None
    except (etree.XMLSyntaxError, FormatError):
        return None
    return None


def _remove_at(root: _Element, message: str) -> bool:
    """Remove the smallest element around the line that an error names, if it is one that a dataset can do without."""
    named = re.match(r"line (\d+):", message)
    if named is None:
        return False
    line: object = int(named[1])
    for node in root.iter():
        if node.sourceline == line:
            for around in (*reversed([*node.iter()]), *node.iterancestors()):
                parent = around.getparent()
                if around.tag in _REMOVABLE and parent is not None:
                    parent.remove(around)
                    return True
    return False


class _Children:
    """Sorts children of elements that have no value of their own; keeps the unknown ones by the element's name."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Kept, ...]] = {}

    def of(self, parent: _Element, *known: str) -> dict[str, list[_Element]]:
        found, others = split_children(parent, known)
        if others:
            self.kept[str(parent.tag)] = others
        return found


def _spimdata(root: _Element) -> SpimData:
    children = _Children()
    top = children.of(root, "BasePath", "generatedBy", "SequenceDescription", "ViewRegistrations", *_SECTIONS)
    base = first_of(top, "BasePath")
    sequence = first_of(top, "SequenceDescription")
    if sequence is None:
        raise FormatError("it has no <SequenceDescription>")
    data = _sequence(sequence, children)

    kept = children.kept
    generated_by: GeneratedBy | None = None
    for node in top["generatedBy"]:
        generated_by = _generated_by(node)
        if generated_by is None:
            kept["SpimData"] = (*kept.get("SpimData", ()), Kept(element=read_element(node), after="BasePath"))

    registrations: dict[ViewId, ViewRegistration] = {}
    for registrations_node in top["ViewRegistrations"][:1]:
        for node in children.of(registrations_node, "ViewRegistration")["ViewRegistration"]:
            registrations[view_id_of(node)] = _registration(node)

    return replace(
        data,
        base_path=PathRef(text=".") if base is None else path_of(base),
        generated_by=generated_by,
        registrations=registrations,
        sections=tuple(
            _section(node) for node in root if node.tag in _SECTIONS and node is top[str(node.tag)][0]
        ),
        kept=kept,
    )


def _sequence(sequence: _Element, children: _Children) -> SpimData:
    """Return what a <SequenceDescription> says: setups, time points, missing views, where the pixels lie."""
    parts = children.of(sequence, "ImageLoader", "ViewSetups", "Timepoints", "MissingViews")

    setups: dict[int, ViewSetup] = {}
    groups: dict[str, AttributeGroup] = {}
    for setups_node in parts["ViewSetups"][:1]:
        for tag, nodes in children.of(setups_node, "ViewSetup", "Attributes").items():
            for node in nodes:
                if tag == "ViewSetup":
                    setup = _view_setup(node)
                    setups[setup.id] = setup
                else:
                    group = _attribute_group(node)
                    groups[group.name] = group

    timepoints = Timepoints(ids=())
    for node in parts["Timepoints"][:1]:
        known = _TIMEPOINTS_CHILDREN.get(node.get("type") or "", ())
        timepoints = _timepoints(node, children.of(node, *known))
    if len(setups) * len(timepoints.ids) > MAX_VIEWS:
        raise FormatError(
            f"{len(timepoints.ids)} time points of {len(setups)} setups are too many views (limit {MAX_VIEWS})"
        )
    missing_node = first_of(parts, "MissingViews")
    missing = None
    if missing_node is not None:
        listed = children.of(missing_node, "MissingView")["MissingView"]
        missing = frozenset(view_id_of(node) for node in listed)

    loader = first_of(parts, "ImageLoader")
    return SpimData(
        loader=None if loader is None else read_loader(loader, lambda inner: _sequence(inner, _Children())),
        setups=setups,
        attributes=groups,
        timepoints=timepoints,
        missing=missing,
    )


def _generated_by(node: _Element) -> GeneratedBy | None:
    """Return the provenance, or None where it has another shape than ours (then it is kept whole)."""
    library = node.find("library")
    microscope = node.find("microscope")
    if library is None or microscope is None or len(node) != 2:
        return None
    parts = {str(child.tag): (child.text or "").strip() for child in microscope}
    if set(parts) != {"name", "version", "user"}:
        return None
    return GeneratedBy(
        library=text_of(library) or "",
        library_version=library.get("version") or "",
        microscope=parts["name"],
        microscope_version=parts["version"],
        user=parts["user"],
    )


def _view_setup(node: _Element) -> ViewSetup:
    found, kept = split_children(node, ("id", "name", "size", "voxelSize", "camera", "attributes"))
    size = first_of(found, "size")
    camera = None
    for camera_node in found["camera"]:
        camera = _camera(camera_node)
        if camera is None:
            kept = (*kept, Kept(element=read_element(camera_node), after="voxelSize"))
    attributes = first_of(found, "attributes")
    return ViewSetup(
        id=id_of(found, node),
        name=text_of(first_of(found, "name")),
        size_xyz=None if size is None else _size(size),
        voxel_size=_voxel_size(first_of(found, "voxelSize")),
        camera=camera,
        attributes={}
        if attributes is None
        else {
            str(child.tag): whole_number(child.text, child, "the id of an attribute") for child in attributes
        },
        kept=kept,
    )


def _size(node: _Element) -> tuple[int, int, int]:
    x, y, z = (*whole_numbers_of(node), 1, 1, 1)[:3]
    return x, y, z


def _voxel_size(node: _Element | None) -> VoxelSize | None:
    if node is None:
        return None
    size = node.find("size")
    return VoxelSize(
        unit=text_of(node.find("unit")), size_xyz=(1.0, 1.0, 1.0) if size is None else triple_of(size)
    )


def _camera(node: _Element) -> Camera | None:
    """Return the camera, or None where it has another shape than ours (then it is kept whole)."""
    parts = {str(child.tag): (child.text or "").strip() for child in node}
    if set(parts) != {"name", "exposureTime", "exposureUnits"}:
        return None
    try:
        time = float(parts["exposureTime"])
    except ValueError:
        return None
    return Camera(name=parts["name"], exposure_time=time, exposure_unit=parts["exposureUnits"])


def _attribute_group(node: _Element) -> AttributeGroup:
    name = node.get("name") or ""
    tags = {entity_tag(name)}
    if name not in ENTITY_TYPES:
        # entities of other attributes should be named like the attribute, but are not always (pybdv)
        tags.update(str(child.tag) for child in node if child.find("id") is not None)
    _, kept = split_children(node, tags)
    entities = [_entity(name, child) for child in node if child.tag in tags]
    return AttributeGroup(name=name, entities={entity.id: entity for entity in entities}, kept=kept)


def _entity(attribute: str, node: _Element) -> Entity:
    if attribute == "tile":
        found, kept = split_children(node, ("id", "name", "location"))
        # Java adds one more <location> at each save and reads the first (formats.md 1.10)
        location = first_of(found, "location")
        return Tile(
            id=id_of(found, node),
            name=text_of(first_of(found, "name")),
            location_xyz=None if location is None else triple_of(location),
            kept=kept,
        )
    if attribute == "angle":
        found, kept = split_children(node, ("id", "name", "axis", "degrees"))
        axis, degrees = first_of(found, "axis"), first_of(found, "degrees")
        return Angle(
            id=id_of(found, node),
            name=text_of(first_of(found, "name")),
            axis_xyz=None if axis is None else triple_of(axis),
            degrees=None if degrees is None else next(iter(numbers_of(degrees)), None),
            kept=kept,
        )
    found, kept = split_children(node, ("id", "name"))
    type_ = ENTITY_TYPES.get(attribute, Entity)
    return type_(id=id_of(found, node), name=text_of(first_of(found, "name")), kept=kept)


_TIMEPOINTS_CHILDREN = {"range": ("first", "last"), "list": ("Timepoint",), "pattern": ("integerpattern",)}


def _timepoints(node: _Element, found: Mapping[str, list[_Element]]) -> Timepoints:
    type_ = node.get("type")
    if type_ == "range":
        first, last = (
            whole_number(text_of(first_of(found, tag)), node, f"a <{tag}>") for tag in ("first", "last")
        )
        _check_count(last - first + 1, node)
        return Timepoints(ids=tuple(range(first, last + 1)), type="range")
    if type_ == "list":
        ids = {whole_number(child.findtext("id"), child, "an <id>") for child in found["Timepoint"]}
        return Timepoints(ids=tuple(sorted(ids)), type="list")
    if type_ == "pattern":
        pattern = text_of(first_of(found, "integerpattern")) or ""
        return Timepoints(ids=_pattern_ids(pattern, node), type="pattern", pattern=pattern)
    raise FormatError(
        f"line {node.sourceline}: time points of type {type_!r}; known are 'range', 'list' and 'pattern'"
    )


_PATTERN_ITEM = re.compile(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*(?::\s*([0-9]+)\s*)?)?")


def _pattern_ids(pattern: str, node: _Element) -> tuple[int, ...]:
    """Return the ids of an integer pattern: comma list of N, A-B, A-B:STEP (formats.md 1.6)."""
    ids: set[int] = set()
    count = 0
    for item in pattern.split(","):
        if not item.strip():
            continue
        match = _PATTERN_ITEM.fullmatch(item) if len(item) < 100 else None
        step = int(match[3] or 1) if match else 0
        if not match or step == 0:
            raise FormatError(
                f"line {node.sourceline}: {shortened(item)} in <integerpattern> is not of the form N, A-B or A-B:STEP"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        direction = 1 if last >= first else -1
        count += abs(last - first) // step + 1
        _check_count(count, node)
        ids.update(range(first, last + direction, direction * step))
    return tuple(sorted(ids)) or (0,)


def _check_count(count: int, node: _Element) -> None:
    if count > MAX_TIMEPOINTS:
        raise FormatError(
            f"line {node.sourceline}: {count} time points cannot be meant (limit {MAX_TIMEPOINTS})"
        )


def _registration(node: _Element) -> ViewRegistration:
    found, kept = split_children(node, ("ViewTransform",))
    return ViewRegistration(transforms=tuple(_transform(n) for n in found["ViewTransform"]), kept=kept)


def _transform(node: _Element) -> ViewTransform:
    affine_node = name_node = None
    for child in node:
        if child.tag == "affine":
            affine_node = child
        elif child.tag in ("Name", "name"):  # pybdv writes it in lower case
            name_node = child
    name = text_of(name_node)
    if affine_node is None or node.get("type", "affine") != "affine":
        return ViewTransform(affine=None, name=name, kept=read_element(node))
    numbers = numbers_of(affine_node)
    if len(numbers) == 16 and numbers[12:] == [0.0, 0.0, 0.0, 1.0]:  # written by npy2bdv 1.x for 4x4
        numbers = numbers[:12]
    if len(numbers) != 12:
        raise FormatError(
            f"line {affine_node.sourceline}: <affine> has {len(numbers)} numbers; 12 make a 3x4 matrix"
        )
    return ViewTransform(affine=Affine(values=tuple(numbers)), name=name)


def _section(node: _Element) -> Element:
    element = read_element(node)
    if element.tag != "StitchingResults":
        return element
    # BigStitcher re-emits old results before the current ones: the last of a pair is the right one (1.10)
    last: dict[object, Element] = {}
    for child in element.children:
        is_pair = child.tag == "PairwiseResult"
        last[frozenset(child.attributes) if is_pair else id(child)] = child
    return Element(tag=element.tag, attributes=element.attributes, children=tuple(last.values()))
