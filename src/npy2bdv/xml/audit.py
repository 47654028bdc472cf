"""What of an XML text is not as Java parses it: the raw text, with all that `parse` makes regular.

Every problem is found in one pass; places are lines. Rules: formats.md 1 and 4.1.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import unquote

from lxml import etree

from npy2bdv.errors import FormatError
from npy2bdv.model.findings import Finding, finding
from npy2bdv.model.spimdata import ATTRIBUTES, ENTITY_TYPES
from npy2bdv.xml.elements import entity_tag, root_of, shortened
from npy2bdv.xml.loaders import PIXEL_TAGS, SPLIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lxml.etree import _Element

_INT = re.compile(r"[+-]?[0-9]{1,10}")
_DOUBLE = re.compile(r"[+-]?(?:NaN|Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[dDfF]?)")
_PATTERN = re.compile(r"[0-9]+\s*(?:-\s*[0-9]+\s*(?::\s*[0-9]+)?)?")
_MAX_INT = 2**31 - 1
_NOT_IN_URI = re.compile(r"[^A-Za-z0-9_.~!$&'()*+,;=:@/%\x80-\U0010ffff-]|%(?![0-9A-Fa-f]{2})")
_SECTIONS = (
    "ViewInterestPoints",
    "BoundingBoxes",
    "PointSpreadFunctions",
    "StitchingResults",
    "IntensityAdjustments",
)
_ROOT_WITHIN = 100
_MAX_TIMES = 1_000_000


class _Audit:
    """Collects what is found."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[Finding] = []

    def note(self, code: str, node: _Element | None, message: str, remedy: str = "") -> None:
        place = self.source if node is None else f"{self.source}, line {node.sourceline}, <{_tag(node)}>"
        self.found.append(finding(code, place, message, remedy))

    # -- numbers -----------------------------------------------------------------------------------------

    def whole(self, node: _Element | None, what: str, parent: _Element) -> int | None:
        """Look at a leaf that holds one whole number, which Java does not trim."""
        if node is None:
            self.note("X04", parent, f"it has no {what}")
            return None
        return self.number(node.text or "", node, what, code="X31")

    def number(
        self, text: str, node: _Element, what: str, *, code: str = "X03", trimmed: bool = False
    ) -> int | None:
        """Look at one whole number."""
        inner = text.strip()
        if not _INT.fullmatch(inner) or abs(int(inner)) > _MAX_INT:
            self.note("X04", node, f"{what} should be a whole number of 32 bits, found {shortened(text)}")
            return int(inner) if _INT.fullmatch(inner) else None
        if inner != text and not trimmed:
            self.note(code, node, f"{what} is {shortened(text)}: Java takes no white space around it")
        return int(inner)

    def attribute(self, node: _Element, name: str) -> int | None:
        """Look at a whole number in an XML attribute."""
        text = node.get(name)
        if text is None:
            self.note("X04", node, f"it has no {name}=")
            return None
        return self.number(text, node, f"{name}=")

    def numbers(self, node: _Element, *, whole: bool = False, count: int | None = None) -> list[float]:
        """Look at numbers with blanks in between."""
        text = node.text or ""
        tokens = text.split()
        kind = _INT if whole else _DOUBLE
        wrong = [token for token in tokens if not kind.fullmatch(token)]
        if wrong or not tokens:
            kinds = "whole numbers (Java takes no 8.0 here)" if whole else "numbers"
            self.note("X04", node, f"it should hold {kinds}, found {shortened(text)}")
            return []
        if text[0].isspace():
            self.note("X03", node, f"it begins with white space: {shortened(text)}")
        found = [float(token.rstrip("dDfF") if "Infinity" not in token else token) for token in tokens]
        if count is not None and len(found) != count:
            self.note("X04", node, f"it should hold {count} numbers, found {len(found)}")
        return found

    def whole_list(self, node: _Element) -> None:
        """Look at whole numbers as partitions and bounding boxes have them: single blanks, no line breaks."""
        text = node.text or ""
        if not text.strip() or not all(_INT.fullmatch(token) for token in text.split()):
            self.note("X04", node, f"it should hold whole numbers, found {shortened(text)}")
        elif re.search(r"[^\S ]", text):
            self.note("X03", node, f"it holds a line break or tab: {shortened(text)}")

    def one_of(self, parent: _Element, tag: str, *, required: bool = False) -> _Element | None:
        """Return the first child of a name; say where there are several, or none of those that Java needs."""
        nodes = parent.findall(tag)
        if required and not nodes:
            self.note("X02", parent, f"it has no <{tag}>")
        if len(nodes) > 1:
            self.note("X28", nodes[1], f"there are {len(nodes)} <{tag}>; the first counts")
        return nodes[0] if nodes else None

    def twice(self, ids: Iterable[tuple[object, _Element]], what: str) -> None:
        """Say which ids are given more than once."""
        seen: set[object] = set()
        for id_, node in ids:
            if id_ is not None and id_ in seen:
                self.note("X06", node, f"{what} {id_} is given once more")
            seen.add(id_)


def audit(text: bytes, source: str = "the XML") -> tuple[Finding, ...]:
    """Return what of an XML text Java, or another program, does not take as it is.

    Parameters
    ----------
    text
        The XML.
    source
        How places name it.
    """
    audited = _Audit(source)
    try:
        root = root_of(text)
    except (etree.XMLSyntaxError, FormatError) as error:
        is_typed = isinstance(error, FormatError) and "document type declaration" in str(error)
        audited.note("X30" if is_typed else "X01", None, str(error))
        return tuple(audited.found)
    end = text.find(b"SpimData") + len(b"SpimData")
    if end > _ROOT_WITHIN:
        audited.note(
            "X19",
            root,
            f"the word SpimData ends at byte {end}; Bio-Formats looks at the first {_ROOT_WITHIN} only",
        )
    _base_path(audited, root)
    sequence = audited.one_of(root, "SequenceDescription", required=True)
    if sequence is not None:
        _sequence(audited, sequence, outermost=True)
    registrations = audited.one_of(root, "ViewRegistrations", required=True)
    if registrations is not None:
        _registrations(audited, registrations)
    for tag in _SECTIONS:
        section = audited.one_of(root, tag)
        if section is not None:
            _SECTION[tag](audited, section)
    return tuple(audited.found)


def _tag(node: _Element) -> str:
    return str(node.tag)


# ------------------------------------------------------------------------------------------------ paths


def _base_path(audited: _Audit, root: _Element) -> None:
    node = audited.one_of(root, "BasePath")
    if node is None:
        return
    _typed(audited, node)
    text = (node.text or "").strip()
    if text not in (".", "./", ""):
        ends = "" if text.endswith("/") else "; without / at its end Java drops its last part for N5 and Zarr"
        audited.note(
            "X13", node, f"it is {shortened(text)}, which npy2bdv 1.x, pybdv and Bio-Formats ignore{ends}"
        )


def _typed(audited: _Audit, node: _Element) -> None:
    """Look at a path: it must say that it is relative, and white space is part of it."""
    text, type_ = node.text or "", node.get("type")
    inner = text.strip()
    if type_ != "relative" and not _is_absolute(inner):
        audited.note(
            "X05", node, f"{shortened(inner)} has type={type_!r}, so that Java looks for it in its own folder"
        )
    if inner != text:
        audited.note("X29", node, f"the path is {shortened(text)}")


def _is_absolute(text: str) -> bool:
    return text.startswith(("/", "\\")) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text) is not None


def _loader(audited: _Audit, node: _Element) -> None:
    format_ = node.get("format") or ""
    if format_ in SPLIT:
        inner = node.find("SequenceDescription")
        if inner is not None:
            _sequence(audited, inner)
        for part in node.iterfind("SetupIds/SetupIdDefinition"):
            for tag in ("NewId", "OldId"):
                audited.whole(part.find(tag), f"<{tag}>", part)
            for corner in (*part.findall("min"), *part.findall("max")):
                audited.numbers(corner, whole=True, count=3)
    if format_ not in PIXEL_TAGS:
        return
    path = audited.one_of(node, PIXEL_TAGS[format_], required=True)
    if path is not None:
        _typed(audited, path)
        _encoded(audited, path, is_uri=format_ != "bdv.hdf5")
    for partition in node.findall("partition"):
        for child in partition:
            if child.tag == "path":
                _typed(audited, child)
            elif child.tag in ("timepoints", "timepointsMapped", "setups", "setupsMapped"):
                audited.whole_list(child)
    if format_ == "bdv.multimg.zarr":
        for groups in node.findall("zgroups"):
            for group in groups.findall("zgroup"):
                _zarr_group(audited, group, node.get("version"))


def _encoded(audited: _Audit, node: _Element, *, is_uri: bool) -> None:
    text = (node.text or "").strip()
    if is_uri and node.get("type") == "relative":
        wrong = _NOT_IN_URI.search(text)
        if wrong:
            audited.note("X11", node, f"{shortened(text)} holds {wrong[0]!r}, which Java takes for no URI")
    elif not is_uri and re.search("%[0-9A-Fa-f]{2}", text):
        audited.note("X12", node, f"{shortened(text)} is looked for as it stands, not as {unquote(text)!r}")


def _zarr_group(audited: _Audit, node: _Element, version: str | None) -> None:
    """Look at a <zgroup>: what its version's readers expect (formats.md 4.1)."""
    time = "tp" if "tp" in node.attrib else "timepoint"
    for name in ("setup", time):
        audited.attribute(node, name)
    path = node.get("path", (node.findtext("path") or "").strip())
    if "%" in path:
        audited.note("Z16", node, f"its path is {path!r}")
    if version == "1.0":
        return
    wanted = ("setup", "tp", "path", *(["indicies"] if version == "3.0" else []))
    lacking = [name for name in wanted if name not in node.attrib]
    if lacking:
        audited.note(
            "X17", node, f"of version {version} it needs the attributes {', '.join(lacking)}, which it lacks"
        )
    indices = node.get("indicies")
    if indices is not None and not re.fullmatch(r"\[\]|\s*|\d+( \d+)*", indices):
        audited.note("X17", node, f"indicies={indices!r} should be numbers with single blanks, or []")


# --------------------------------------------------------------------------------------------- sequence


def _sequence(audited: _Audit, sequence: _Element, *, outermost: bool = False) -> None:
    loader = audited.one_of(sequence, "ImageLoader", required=outermost)
    if loader is not None:
        _loader(audited, loader)
    setups = audited.one_of(sequence, "ViewSetups", required=True)
    if setups is not None:
        _setups(audited, setups)
    timepoints = audited.one_of(sequence, "Timepoints", required=True)
    if timepoints is not None:
        _timepoints(audited, timepoints)
    missing = audited.one_of(sequence, "MissingViews")
    for view in [] if missing is None else missing.findall("MissingView"):
        audited.attribute(view, "timepoint")
        audited.attribute(view, "setup")


def _setups(audited: _Audit, setups: _Element) -> None:
    blocks: dict[str, set[int | None]] = {}
    names = []
    for block in setups.findall("Attributes"):
        name = block.get("name") or ""
        names.append((f"the attribute {name!r}", block))
        blocks[name] = _entities(audited, block, name)
    audited.twice(names, "the block of")
    nodes = setups.findall("ViewSetup")
    if not nodes:
        audited.note("X02", setups, "it has no <ViewSetup>")
    ids = [(_setup(audited, node, blocks), node) for node in nodes]
    audited.twice(ids, "the setup")
    known = sorted({id_ for id_, _ in ids if id_ is not None})
    if known and known != list(range(len(known))):
        audited.note("X25", setups, f"there are {len(known)} setups, with ids from {known[0]} to {known[-1]}")
    wanting = Counter(
        name for node in nodes for name in ATTRIBUTES if node.find(f"attributes/{name}") is None
    )
    if wanting:
        listed = ", ".join(f"{name} in {count}" for name, count in wanting.items())
        audited.note("X20", setups, f"of {len(nodes)} setups these lack an attribute: {listed}")


def _setup(audited: _Audit, node: _Element, blocks: dict[str, set[int | None]]) -> int | None:
    id_ = audited.whole(audited.one_of(node, "id"), "<id>", node)
    size = audited.one_of(node, "size")
    if size is None:
        audited.note("X21", node, f"setup {id_} has no <size>")
    else:
        numbers = audited.numbers(size, whole=True, count=3)
        if any(number < 1 for number in numbers):
            audited.note("X04", size, f"a size is above 0, found {shortened(size.text)}")
    voxel_size = audited.one_of(node, "voxelSize")
    inner = None if voxel_size is None else audited.one_of(voxel_size, "size")
    if inner is None:
        audited.note("X22", node, f"setup {id_} has no <voxelSize> with a <size>")
    else:
        numbers = audited.numbers(inner, count=3)
        if numbers and not all(0 < number < float("inf") for number in numbers):
            audited.note("X22", inner, f"the voxel size of setup {id_} is {shortened(inner.text)}")
    attributes = audited.one_of(node, "attributes")
    for child in [] if attributes is None else attributes:
        name = str(child.tag)
        value = audited.number(child.text or "", child, f"the {name} of setup {id_}", trimmed=True)
        if name not in blocks:
            audited.note(
                "X07", child, f'setup {id_} has a {name}, but there is no <Attributes name="{name}">'
            )
        elif value is not None and value not in blocks[name]:
            audited.note("X08", child, f"setup {id_} has the {name} {value}, which its block does not list")
    return id_


def _entities(audited: _Audit, block: _Element, name: str) -> set[int | None]:
    """Look at the entities of an attribute; return their ids."""
    tag = entity_tag(name)
    ids = []
    for node in block:
        if node.tag != tag:
            if name not in ENTITY_TYPES and node.find("id") is not None:
                audited.note("X23", node, f"an entity of the attribute {name!r} should be called <{tag}>")
                ids.append((_whole_or_none(node.findtext("id")), node))
            continue
        id_ = audited.whole(audited.one_of(node, "id"), "<id>", node)
        ids.append((id_, node))
        if name in ENTITY_TYPES and node.find("name") is None:
            audited.note("X26", node, f"{tag} {id_} has no <name>")
        locations = node.findall("location")
        if name == "tile" and len(locations) > 1:
            audited.note("X14", node, f"tile {id_} has {len(locations)} <location>; Java reads the first")
        for child in (*locations[:1], *node.findall("axis")) if name in ("tile", "angle") else ():
            audited.numbers(child, count=3)
        degrees = node.findtext("degrees") if name == "angle" else None
        if degrees is not None and not _DOUBLE.fullmatch(degrees.strip()):
            audited.note("X04", node, f"<degrees> should be a number, found {shortened(degrees)}")
    audited.twice(ids, f"the {name}")
    return {id_ for id_, _ in ids}


def _whole_or_none(text: str | None) -> int | None:
    inner = (text or "").strip()
    return int(inner) if _INT.fullmatch(inner) else None


def _timepoints(audited: _Audit, node: _Element) -> None:
    type_ = node.get("type")
    if type_ == "range":
        bounds = [audited.whole(audited.one_of(node, tag), f"<{tag}>", node) for tag in ("first", "last")]
        first, last = bounds
        if first is not None and last is not None and not 0 < last - first + 1 <= _MAX_TIMES:
            audited.note("X24", node, f"the range from {first} to {last} is empty, or cannot be meant")
    elif type_ == "list":
        points = node.findall("Timepoint")
        audited.twice(
            [(audited.whole(audited.one_of(each, "id"), "<id>", each), each) for each in points],
            "the time point",
        )
    elif type_ == "pattern":
        for item in (node.findtext("integerpattern") or "").split(","):
            inner = item.strip()
            match = _PATTERN.fullmatch(inner) if len(inner) < 100 else None
            if inner and (match is None or re.search(r":\s*0+$", inner)):
                audited.note("X24", node, f"{shortened(item)} is not of the form N, A-B or A-B:STEP")
    else:
        audited.note("X24", node, f"type={type_!r}; there are range, list and pattern")


# ---------------------------------------------------------------------------------------- registrations


def _registrations(audited: _Audit, registrations: _Element) -> None:
    views = []
    for node in registrations.findall("ViewRegistration"):
        view = audited.attribute(node, "timepoint"), audited.attribute(node, "setup")
        views.append((None if None in view else f"of time {view[0]}, setup {view[1]}", node))
        for transform in node.findall("ViewTransform"):
            _transform(audited, transform)
    audited.twice(views, "the registration")


def _transform(audited: _Audit, node: _Element) -> None:
    type_ = node.get("type")
    if type_ != "affine":
        if type_ != "generic" or not node.get("class"):
            audited.note("X18", node, f"type={type_!r}; Java knows 'affine', and 'generic' with a class")
        return
    affine = audited.one_of(node, "affine")
    if affine is None:
        audited.note("X18", node, "it has no <affine>")
    else:
        numbers = audited.numbers(affine)
        if numbers and len(numbers) != 12:
            audited.note("X09", affine, f"it has {len(numbers)} numbers; 12 make a 3x4 matrix")
    name = node.find("name")
    if name is not None:
        audited.note("X10", name, f"{shortened(name.text)} should stand in <Name>")


# ---------------------------------------------------------------------------- BigStitcher's five sections


def _interest_points(audited: _Audit, section: _Element) -> None:
    for node in section:
        if (node.text or "").strip().startswith("interestpoints/"):
            audited.note("X16", node, f"it names {shortened(node.text)}")
        if node.get("params") is None:
            audited.note("X27", node, "it has no params=, without which BigStitcher does not save it")


def _boxes(audited: _Audit, section: _Element) -> None:
    for node in section:
        for corner in (*node.findall("min"), *node.findall("max")):
            audited.whole_list(corner)


def _nothing(audited: _Audit, section: _Element) -> None:
    """Nothing is known to go wrong there."""


def _stitching(audited: _Audit, section: _Element) -> None:
    pairs: Counter[frozenset[tuple[str, str]]] = Counter()
    for node in section.findall("PairwiseResult"):
        pair = frozenset((str(key), str(value)) for key, value in node.attrib.items())
        pairs[pair] += 1
        if pairs[pair] == 2:
            audited.note("X15", node, f"the result of {dict(sorted(pair))} is there more than once")
        shift = node.find("shift")
        if shift is not None and len(audited.numbers(shift)) not in (0, 3, 12):
            audited.note("X04", shift, "it should hold 12 or 3 numbers")
        if node.find("overlap_boundingbox") is None:
            audited.note(
                "X27", node, "it has no <overlap_boundingbox>, without which BigStitcher does not save it"
            )


_SECTION = {
    "ViewInterestPoints": _interest_points,
    "BoundingBoxes": _boxes,
    "PointSpreadFunctions": _nothing,
    "StitchingResults": _stitching,
    "IntensityAdjustments": _nothing,
}
