"""SpimData values <-> XML text. The only file that knows a tag; it touches no disk.

Strict when writing (the shape that Java parses, formats.md 1.1 and 1.2), tolerant when reading: variants of
other programs are made regular here and never travel further. Elements that we do not know are kept where
they were. Comments, processing instructions and unknown attributes of known elements are not kept (Java
drops them too).
"""

from __future__ import annotations

import gc
import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lxml import etree

from npy2bdv.errors import FormatError, InvalidInputError
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import (
    ENTITY_TYPES,
    Angle,
    AttributeGroup,
    Camera,
    Element,
    Entity,
    GeneratedBy,
    Hdf5Loader,
    ImageLoader,
    Kept,
    N5Loader,
    OmeZarrLoader,
    OtherLoader,
    Partition,
    PathRef,
    SpimData,
    Tile,
    Timepoints,
    Triple,
    ViewId,
    ViewRegistration,
    ViewSetup,
    ViewTransform,
    VoxelSize,
    ZarrGroup,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lxml.etree import _Element

_SECTIONS = (
    "ViewInterestPoints",
    "BoundingBoxes",
    "PointSpreadFunctions",
    "StitchingResults",
    "IntensityAdjustments",
)
_ENTITY_TAGS = {name: type_.__name__ for name, type_ in ENTITY_TYPES.items()}
MAX_TIMEPOINTS = 1_000_000
"""More than these are taken for a mistake, or an attack."""
_DECLARATION = re.compile(r"\s*<\?xml.*?\?>", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]+")


# ---------------------------------------------------------------------------------------------- reading


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
        with _collector_off():
            root = _root(_DECLARATION.sub("", text, count=1).encode() if isinstance(text, str) else text)
            return _spimdata(root)
    except etree.XMLSyntaxError as error:
        raise FormatError(f"{source} is not well-formed XML: {error.msg}") from error
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from error


@contextmanager
def _collector_off() -> Iterator[None]:
    """Keep the garbage collector from looking through a million new values again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _root(text: bytes) -> _Element:
    # libxml2 itself stops at a nesting depth of 256 unless huge_tree is set
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        huge_tree=False,
    )
    root = etree.fromstring(text, parser)
    if root.getroottree().docinfo.internalDTD is not None:
        raise FormatError(
            "it has a document type declaration, which a dataset never needs and which can hide other files; remove it"
        )
    if root.tag != "SpimData":
        raise FormatError(
            f"its root element is <{root.tag}>, not <SpimData>: this is no BigDataViewer dataset"
        )
    return root


def _children(parent: _Element, known: Iterable[str]) -> tuple[dict[str, list[_Element]], tuple[Kept, ...]]:
    """Sort the direct children of an element into known ones, by tag, and others, which are kept."""
    found: dict[str, list[_Element]] = {tag: [] for tag in known}
    kept: list[Kept] = []
    last: str | None = None
    for child in parent:
        tag = str(child.tag)
        if tag in found:
            found[tag].append(child)
            last = tag
        else:
            kept.append(Kept(element=_element(child), after=last))
    return found, tuple(kept)


def _element(node: _Element) -> Element:
    return Element(
        tag=str(node.tag),
        attributes=tuple((str(key), str(value)) for key, value in node.attrib.items()),
        text=(node.text or "").strip(),
        children=tuple(_element(child) for child in node),
    )


def _first(found: Mapping[str, list[_Element]], tag: str) -> _Element | None:
    nodes = found[tag]
    return nodes[0] if nodes else None


def _text(node: _Element | None) -> str | None:
    return None if node is None else (node.text or "").strip()


def _numbers(node: _Element) -> list[float]:
    text = node.text or ""
    try:
        if "_" in text:  # Python alone would read 1_000 as a number
            raise ValueError("_ in a number")
        return [float(number) for number in text.split()]
    except ValueError as error:
        raise FormatError(
            f"line {node.sourceline}: <{node.tag}> should hold numbers, but it holds {_short(text)}"
        ) from error


def _whole_numbers(node: _Element) -> list[int]:
    numbers = _numbers(node)
    if not all(map(float.is_integer, numbers)):
        raise FormatError(
            f"line {node.sourceline}: <{node.tag}> should hold whole numbers, but it holds {_short(node.text)}"
        )
    return [int(number) for number in numbers]


def _short(text: str | None) -> str:
    return repr(text if text is None or len(text) <= 80 else f"{text[:80]}...")


def _triple(node: _Element) -> Triple:
    # Java does not count them (formats.md 1.5); what is missing is 1
    x, y, z = (*_numbers(node), 1.0, 1.0, 1.0)[:3]
    return x, y, z


def _int(text: str | None, node: _Element, what: str) -> int:
    number = (text or "").strip()
    if not _INTEGER.fullmatch(number) or len(number) > 20:
        raise FormatError(
            f"line {node.sourceline}: <{node.tag}> should have {what}, but it has {_short(text)}"
        )
    return int(number)


def _id(found: Mapping[str, list[_Element]], parent: _Element) -> int:
    return _int(_text(_first(found, "id")), parent, "an <id> that is a whole number")


def _path(node: _Element) -> PathRef:
    return PathRef(text=_text(node) or "", relative=node.get("type") == "relative")


def _spimdata(root: _Element) -> SpimData:
    kept: dict[str, tuple[Kept, ...]] = {}

    def children(parent: _Element, *known: str) -> dict[str, list[_Element]]:
        found, others = _children(parent, known)
        if others:
            kept[str(parent.tag)] = others
        return found

    top = children(root, "BasePath", "generatedBy", "SequenceDescription", "ViewRegistrations", *_SECTIONS)
    base = _first(top, "BasePath")
    sequence = _first(top, "SequenceDescription")
    if sequence is None:
        raise FormatError("it has no <SequenceDescription>")
    parts = children(sequence, "ImageLoader", "ViewSetups", "Timepoints", "MissingViews")

    generated_by: GeneratedBy | None = None
    for node in top["generatedBy"]:
        generated_by = _generated_by(node)
        if generated_by is None:
            kept["SpimData"] = (*kept.get("SpimData", ()), Kept(element=_element(node), after="BasePath"))

    setups: dict[int, ViewSetup] = {}
    groups: dict[str, AttributeGroup] = {}
    for setups_node in parts["ViewSetups"][:1]:
        for tag, nodes in children(setups_node, "ViewSetup", "Attributes").items():
            for node in nodes:
                if tag == "ViewSetup":
                    setup = _view_setup(node)
                    setups[setup.id] = setup
                else:
                    group = _attribute_group(node)
                    groups[group.name] = group

    missing_node = _first(parts, "MissingViews")
    missing = None
    if missing_node is not None:
        missing = frozenset(_view_id(node) for node in children(missing_node, "MissingView")["MissingView"])

    registrations: dict[ViewId, ViewRegistration] = {}
    for registrations_node in top["ViewRegistrations"][:1]:
        for node in children(registrations_node, "ViewRegistration")["ViewRegistration"]:
            registrations[_view_id(node)] = _registration(node)

    timepoints = Timepoints(ids=())
    for node in parts["Timepoints"][:1]:
        known = _TIMEPOINTS_CHILDREN.get(node.get("type") or "", ())
        timepoints = _timepoints(node, children(node, *known))

    loader_node = _first(parts, "ImageLoader")
    return SpimData(
        base_path=PathRef(text=".") if base is None else _path(base),
        generated_by=generated_by,
        loader=None if loader_node is None else _loader(loader_node),
        setups=setups,
        attributes=groups,
        timepoints=timepoints,
        missing=missing,
        registrations=registrations,
        sections=tuple(
            _section(node) for node in root if node.tag in _SECTIONS and node is top[str(node.tag)][0]
        ),
        kept=kept,
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
        library=_text(library) or "",
        library_version=library.get("version") or "",
        microscope=parts["name"],
        microscope_version=parts["version"],
        user=parts["user"],
    )


_PIXEL_TAGS = {"bdv.hdf5": "hdf5", "bdv.n5": "n5", "bdv.multimg.zarr": "zarr"}


def _loader(node: _Element) -> ImageLoader:
    format_ = node.get("format") or ""
    tag = _PIXEL_TAGS.get(format_)
    if tag is None:
        return OtherLoader(format=format_, element=_element(node))
    found, kept = _children(node, (tag, "partition", "zgroups"))
    path = _first(found, tag)
    if path is None:
        raise FormatError(f"line {node.sourceline}: <ImageLoader> does not name its pixels (no <{tag}>)")
    version = node.get("version")
    if format_ == "bdv.n5":
        return N5Loader(path=_path(path), version=version, kept=kept)
    if format_ == "bdv.multimg.zarr":
        named = node.get("zarr.version") or ""
        return OmeZarrLoader(
            path=_path(path),
            groups=dict(
                _zarr_group(each) for parent in found["zgroups"] for each in parent.findall("zgroup")
            ),
            version=version,
            zarr_version=int(named[-1]) if named[-1:].isdigit() else None,
            kept=kept,
        )
    partitions = tuple(_partition(partition) for partition in found["partition"])
    return Hdf5Loader(path=_path(path), partitions=partitions, kept=kept)


def _zarr_group(node: _Element) -> tuple[ViewId, ZarrGroup]:
    """Return a <zgroup> in any of its spellings (formats.md 4.1)."""
    time = node.get("tp", node.get("timepoint"))
    setup = node.get("setup")
    if time is None or setup is None:
        raise FormatError(f"line {node.sourceline}: <zgroup> does not name its view (setup, tp)")
    path = node.get("path")
    child = node.find("path")
    indices = node.get("indicies", node.get("indices"))
    text = (indices or "").strip(" []").replace(",", " ")
    try:
        return ViewId(int(time), int(setup)), ZarrGroup(
            path=path if path is not None else (_text(child) or "").strip(),
            indices=None if indices is None else tuple(map(int, text.split())),
        )
    except ValueError as error:
        raise FormatError(f"line {node.sourceline}: <zgroup> holds no numbers ({error})") from error


def _partition(node: _Element) -> Partition:
    def ints(tag: str) -> tuple[int, ...] | None:
        child = node.find(tag)
        return None if child is None else tuple(_whole_numbers(child))

    path = node.find("path")
    return Partition(
        path=PathRef(text="") if path is None else _path(path),
        timepoints=ints("timepoints") or (),
        setups=ints("setups") or (),
        timepoints_mapped=ints("timepointsMapped"),
        setups_mapped=ints("setupsMapped"),
    )


def _view_setup(node: _Element) -> ViewSetup:
    found, kept = _children(node, ("id", "name", "size", "voxelSize", "camera", "attributes"))
    size = _first(found, "size")
    camera = None
    for camera_node in found["camera"]:
        camera = _camera(camera_node)
        if camera is None:
            kept = (*kept, Kept(element=_element(camera_node), after="voxelSize"))
    attributes = _first(found, "attributes")
    return ViewSetup(
        id=_id(found, node),
        name=_text(_first(found, "name")),
        size_xyz=None if size is None else _size(size),
        voxel_size=_voxel_size(_first(found, "voxelSize")),
        camera=camera,
        attributes={}
        if attributes is None
        else {str(child.tag): _int(child.text, child, "the id of an attribute") for child in attributes},
        kept=kept,
    )


def _size(node: _Element) -> tuple[int, int, int]:
    x, y, z = (*_whole_numbers(node), 1, 1, 1)[:3]
    return x, y, z


def _voxel_size(node: _Element | None) -> VoxelSize | None:
    if node is None:
        return None
    size = node.find("size")
    return VoxelSize(
        unit=_text(node.find("unit")), size_xyz=(1.0, 1.0, 1.0) if size is None else _triple(size)
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
    tags = {_ENTITY_TAGS.get(name, name)}
    if name not in _ENTITY_TAGS:
        # entities of other attributes should be named like the attribute, but are not always (pybdv)
        tags.update(str(child.tag) for child in node if child.find("id") is not None)
    _, kept = _children(node, tags)
    entities = [_entity(name, child) for child in node if child.tag in tags]
    return AttributeGroup(name=name, entities={entity.id: entity for entity in entities}, kept=kept)


def _entity(attribute: str, node: _Element) -> Entity:
    if attribute == "tile":
        found, kept = _children(node, ("id", "name", "location"))
        # Java adds one more <location> at each save and reads the first (formats.md 1.10)
        location = _first(found, "location")
        return Tile(
            id=_id(found, node),
            name=_text(_first(found, "name")),
            location_xyz=None if location is None else _triple(location),
            kept=kept,
        )
    if attribute == "angle":
        found, kept = _children(node, ("id", "name", "axis", "degrees"))
        axis, degrees = _first(found, "axis"), _first(found, "degrees")
        return Angle(
            id=_id(found, node),
            name=_text(_first(found, "name")),
            axis_xyz=None if axis is None else _triple(axis),
            degrees=None if degrees is None else next(iter(_numbers(degrees)), None),
            kept=kept,
        )
    found, kept = _children(node, ("id", "name"))
    type_ = ENTITY_TYPES.get(attribute, Entity)
    return type_(id=_id(found, node), name=_text(_first(found, "name")), kept=kept)


_TIMEPOINTS_CHILDREN = {"range": ("first", "last"), "list": ("Timepoint",), "pattern": ("integerpattern",)}


def _timepoints(node: _Element, found: Mapping[str, list[_Element]]) -> Timepoints:
    type_ = node.get("type")
    if type_ == "range":
        first, last = (_int(_text(_first(found, tag)), node, f"a <{tag}>") for tag in ("first", "last"))
        _check_count(last - first + 1, node)
        return Timepoints(ids=tuple(range(first, last + 1)), type="range")
    if type_ == "list":
        ids = {_int(child.findtext("id"), child, "an <id>") for child in found["Timepoint"]}
        return Timepoints(ids=tuple(sorted(ids)), type="list")
    if type_ == "pattern":
        pattern = _text(_first(found, "integerpattern")) or ""
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
                f"line {node.sourceline}: {_short(item)} in <integerpattern> is not of the form N, A-B or A-B:STEP"
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


def _view_id(node: _Element) -> ViewId:
    return ViewId(_int(node.get("timepoint"), node, "a timepoint"), _int(node.get("setup"), node, "a setup"))


def _registration(node: _Element) -> ViewRegistration:
    found, kept = _children(node, ("ViewTransform",))
    return ViewRegistration(transforms=tuple(_transform(n) for n in found["ViewTransform"]), kept=kept)


def _transform(node: _Element) -> ViewTransform:
    affine_node = name_node = None
    for child in node:
        if child.tag == "affine":
            affine_node = child
        elif child.tag in ("Name", "name"):  # pybdv writes it in lower case
            name_node = child
    name = _text(name_node)
    if affine_node is None or node.get("type", "affine") != "affine":
        return ViewTransform(affine=None, name=name, kept=_element(node))
    numbers = _numbers(affine_node)
    if len(numbers) == 16 and numbers[12:] == [0.0, 0.0, 0.0, 1.0]:  # written by npy2bdv 1.x for 4x4
        numbers = numbers[:12]
    if len(numbers) != 12:
        raise FormatError(
            f"line {affine_node.sourceline}: <affine> has {len(numbers)} numbers; 12 make a 3x4 matrix"
        )
    return ViewTransform(affine=Affine(values=tuple(numbers)), name=name)


def _section(node: _Element) -> Element:
    element = _element(node)
    if element.tag != "StitchingResults":
        return element
    # BigStitcher re-emits old results before the current ones: the last of a pair is the right one (1.10)
    last: dict[object, Element] = {}
    for child in element.children:
        is_pair = child.tag == "PairwiseResult"
        last[frozenset(child.attributes) if is_pair else id(child)] = child
    return Element(tag=element.tag, attributes=element.attributes, children=tuple(last.values()))


# ---------------------------------------------------------------------------------------------- writing


def serialise(data: SpimData) -> bytes:
    """Return the XML text (UTF-8, with declaration) of a dataset description.

    Numbers are written with `repr`, so that they read back exactly; leaf elements hold no white space
    around their text, which Java does not strip (formats.md 1.2).

    Raises
    ------
    InvalidInputError
        If a name holds characters that XML does not have (control characters).
    """
    try:
        root = etree.Element("SpimData", version="0.2")
        with _collector_off():
            _write_root(root, data)
    except ValueError as error:
        raise InvalidInputError(f"a name or unit of the dataset cannot be written as XML: {error}") from error
    etree.indent(root, "  ")
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8") + b"\n"


def _write_root(root: _Element, data: SpimData) -> None:
    _write_path(root, "BasePath", data.base_path)
    if data.generated_by is not None:
        _write_generated_by(root, data.generated_by)
    sequence = etree.SubElement(root, "SequenceDescription")
    if data.loader is not None:
        _write_loader(sequence, data.loader)
    setups = etree.SubElement(sequence, "ViewSetups")
    for _, setup in sorted(data.setups.items()):
        _write_setup(setups, setup)
    for group in data.attributes.values():
        _write_group(setups, group)
    timepoints = _write_timepoints(sequence, data.timepoints)
    parents = {
        "SpimData": root,
        "SequenceDescription": sequence,
        "ViewSetups": setups,
        "Timepoints": timepoints,
    }
    if data.missing is not None:
        missing = parents["MissingViews"] = etree.SubElement(sequence, "MissingViews")
        for view in sorted(data.missing):
            etree.SubElement(missing, "MissingView", _view_attributes(view))
    registrations = parents["ViewRegistrations"] = etree.SubElement(root, "ViewRegistrations")
    for view in sorted(data.registrations):
        _write_registration(registrations, view, data.registrations[view])
    for section in data.sections:
        _write_element(root, section)
    for tag, kept in data.kept.items():
        if tag in parents:
            _write_kept(parents[tag], kept)


def _leaf(parent: _Element, tag: str, text: object) -> None:
    etree.SubElement(parent, tag).text = str(text)


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _join(values: Iterable[float]) -> str:
    return " ".join(map(_number, values))


def _view_attributes(view: ViewId) -> dict[str, str]:
    return {"timepoint": str(view.time), "setup": str(view.setup)}


def _write_path(parent: _Element, tag: str, path: PathRef) -> None:
    node = etree.SubElement(parent, tag, type="relative" if path.relative else "absolute")
    node.text = path.text


def _write_element(parent: _Element, element: Element) -> _Element:
    node = etree.SubElement(parent, element.tag, dict(element.attributes))
    if element.text:
        node.text = element.text
    for child in element.children:
        _write_element(node, child)
    return node


def _write_kept(parent: _Element, kept: tuple[Kept, ...]) -> None:
    """Put kept elements back behind the sibling that they followed (at the front where there was none)."""
    if not kept:
        return
    places = {str(child.tag): index for index, child in enumerate(parent)}
    by_place: dict[int, list[Kept]] = {}
    for item in kept:
        place = -1 if item.after is None else places.get(item.after, len(parent) - 1)
        by_place.setdefault(place, []).append(item)
    for place in sorted(by_place, reverse=True):
        for item in reversed(by_place[place]):
            parent.insert(place + 1, _write_element(parent, item.element))


def _write_generated_by(root: _Element, made: GeneratedBy) -> None:
    node = etree.SubElement(root, "generatedBy")
    etree.SubElement(node, "library", version=made.library_version).text = made.library
    microscope = etree.SubElement(node, "microscope")
    _leaf(microscope, "name", made.microscope)
    _leaf(microscope, "version", made.microscope_version)
    _leaf(microscope, "user", made.user)


def _write_loader(sequence: _Element, loader: ImageLoader) -> None:
    if isinstance(loader, OtherLoader):
        _write_element(sequence, loader.element)
        return
    node = etree.SubElement(sequence, "ImageLoader", format=loader.format)
    _write_path(node, _PIXEL_TAGS[loader.format], loader.path)
    if not isinstance(loader, Hdf5Loader):
        _write_zarr_or_n5(node, loader)
        return
    for partition in loader.partitions:
        part = etree.SubElement(node, "partition")
        _write_path(part, "path", partition.path)
        for tag, ints in (
            ("timepoints", partition.timepoints),
            ("timepointsMapped", partition.timepoints_mapped),
            ("setups", partition.setups),
            ("setupsMapped", partition.setups_mapped),
        ):
            if ints is not None:
                _leaf(part, tag, " ".join(map(str, ints)))
    _write_kept(node, loader.kept)


def _write_zarr_or_n5(node: _Element, loader: N5Loader | OmeZarrLoader) -> None:
    if loader.version is not None:
        node.set("version", loader.version)
    if isinstance(loader, OmeZarrLoader):
        if loader.zarr_version is not None:
            node.set("zarr.version", f"ZarrV{loader.zarr_version}")
        parent = etree.SubElement(node, "zgroups")
        for view, group in loader.groups.items():
            _write_zarr_group(parent, view, group, loader.version)
    _write_kept(node, loader.kept)


def _write_zarr_group(parent: _Element, view: ViewId, group: ZarrGroup, version: str | None) -> None:
    """Write a <zgroup> as readers of the loader's version expect it (formats.md 4.1)."""
    if version == "1.0":
        node = etree.SubElement(parent, "zgroup", setup=str(view.setup), timepoint=str(view.time))
        _leaf(node, "path", group.path)
        return
    node = etree.SubElement(parent, "zgroup", setup=str(view.setup), tp=str(view.time), path=group.path)
    if group.indices is not None or version == "3.0":
        node.set("indicies", " ".join(map(str, group.indices or ())) or "[]")


def _write_setup(parent: _Element, setup: ViewSetup) -> None:
    node = etree.SubElement(parent, "ViewSetup")
    _leaf(node, "id", setup.id)
    if setup.name is not None:
        _leaf(node, "name", setup.name)
    if setup.size_xyz is not None:
        _leaf(node, "size", " ".join(map(str, setup.size_xyz)))
    if setup.voxel_size is not None:
        voxel_size = etree.SubElement(node, "voxelSize")
        if setup.voxel_size.unit is not None:
            _leaf(voxel_size, "unit", setup.voxel_size.unit)
        _leaf(voxel_size, "size", _join(setup.voxel_size.size_xyz))
    if setup.camera is not None:
        camera = etree.SubElement(node, "camera")
        _leaf(camera, "name", setup.camera.name)
        _leaf(camera, "exposureTime", _number(setup.camera.exposure_time))
        _leaf(camera, "exposureUnits", setup.camera.exposure_unit)
    attributes = etree.SubElement(node, "attributes")
    for name, id_ in setup.attributes.items():
        _leaf(attributes, name, id_)
    _write_kept(node, setup.kept)


def _write_group(parent: _Element, group: AttributeGroup) -> None:
    node = etree.SubElement(parent, "Attributes", name=group.name)
    tag = _ENTITY_TAGS.get(group.name, group.name)
    for entity in group.entities.values():
        child = etree.SubElement(node, tag)
        _leaf(child, "id", entity.id)
        if entity.name is not None:
            _leaf(child, "name", entity.name)
        if isinstance(entity, Tile) and entity.location_xyz is not None:
            _leaf(child, "location", _join(entity.location_xyz))
        if isinstance(entity, Angle):
            if entity.axis_xyz is not None:
                _leaf(child, "axis", _join(entity.axis_xyz))
            if entity.degrees is not None:
                _leaf(child, "degrees", _number(entity.degrees))
        _write_kept(child, entity.kept)
    _write_kept(node, group.kept)


def _write_timepoints(parent: _Element, timepoints: Timepoints) -> _Element:
    node = etree.SubElement(parent, "Timepoints", type=timepoints.type)
    if timepoints.type == "pattern":
        _leaf(node, "integerpattern", timepoints.pattern or "")
    elif timepoints.type == "range" and timepoints.ids:
        _leaf(node, "first", timepoints.ids[0])
        _leaf(node, "last", timepoints.ids[-1])
    else:
        node.set("type", "list")
        for id_ in timepoints.ids:
            _leaf(etree.SubElement(node, "Timepoint"), "id", id_)
    return node


def _write_registration(parent: _Element, view: ViewId, registration: ViewRegistration) -> None:
    node = etree.SubElement(parent, "ViewRegistration", _view_attributes(view))
    for transform in registration.transforms:
        if transform.affine is None:
            if transform.kept is not None:
                _write_element(node, transform.kept)
            continue
        child = etree.SubElement(node, "ViewTransform", type="affine")
        if transform.name is not None:
            _leaf(child, "Name", transform.name)
        _leaf(child, "affine", _join(transform.affine.values))
    _write_kept(node, registration.kept)
