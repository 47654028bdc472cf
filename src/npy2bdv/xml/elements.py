"""Elements of an XML text: what their text and children hold, strictly when writing, tolerantly when reading."""

from __future__ import annotations

import gc
import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lxml import etree

from npy2bdv.errors import FormatError
from npy2bdv.model.spimdata import ENTITY_TYPES, Element, Kept, PathRef, Triple, ViewId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lxml.etree import _Element

_INTEGER = re.compile(r"[+-]?[0-9]+")


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector from looking through a million new values again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def root_of(text: bytes) -> _Element:
    """Return the root element of a text that cannot reach for other files, or grow."""
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


def split_children(
    parent: _Element, known: Iterable[str]
) -> tuple[dict[str, list[_Element]], tuple[Kept, ...]]:
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
            kept.append(Kept(element=read_element(child), after=last))
    return found, tuple(kept)


def read_element(node: _Element) -> Element:
    """Return an element as it is, to be kept."""
    return Element(
        tag=str(node.tag),
        attributes=tuple((str(key), str(value)) for key, value in node.attrib.items()),
        text=(node.text or "").strip(),
        children=tuple(read_element(child) for child in node),
    )


def first_of(found: Mapping[str, list[_Element]], tag: str) -> _Element | None:
    """Return the first child of a name, as Java takes it, if there is one."""
    nodes = found[tag]
    return nodes[0] if nodes else None


def text_of(node: _Element | None) -> str | None:
    """Return the text of an element without the white space around it."""
    return None if node is None else (node.text or "").strip()


def numbers_of(node: _Element) -> list[float]:
    """Return the numbers that an element holds."""
    text = node.text or ""
    try:
        if "_" in text:  # Python alone would read 1_000 as a number
            raise ValueError("_ in a number")
        return [float(number) for number in text.split()]
    except ValueError as error:
        raise FormatError(
            f"line {node.sourceline}: <{node.tag}> should hold numbers, but it holds {shortened(text)}"
        ) from error


def whole_numbers_of(node: _Element) -> list[int]:
    """Return the whole numbers that an element holds; 8.0 is one."""
    numbers = numbers_of(node)
    if not all(map(float.is_integer, numbers)):
        raise FormatError(
            f"line {node.sourceline}: <{node.tag}> should hold whole numbers, but it holds {shortened(node.text)}"
        )
    return [int(number) for number in numbers]


def shortened(text: str | None) -> str:
    """Return a text for a message, cut where it is long."""
    return repr(text if text is None or len(text) <= 80 else f"{text[:80]}...")


def triple_of(node: _Element) -> Triple:
    """Return three numbers. Java does not count them (formats.md 1.5): what is missing is 1."""
    x, y, z = (*numbers_of(node), 1.0, 1.0, 1.0)[:3]
    return x, y, z


def whole_number(text: str | None, node: _Element, what: str) -> int:
    """Return the number that a text of an element holds; the error says that there should be `what`."""
    number = (text or "").strip()
    if not _INTEGER.fullmatch(number) or len(number) > 20:
        raise FormatError(
            f"line {node.sourceline}: <{node.tag}> should have {what}, but it has {shortened(text)}"
        )
    return int(number)


def id_of(found: Mapping[str, list[_Element]], parent: _Element) -> int:
    """Return what the child <id> holds."""
    return whole_number(text_of(first_of(found, "id")), parent, "an <id> that is a whole number")


def path_of(node: _Element) -> PathRef:
    """Return the path that an element names."""
    return PathRef(text=text_of(node) or "", relative=node.get("type") == "relative")


def view_id_of(node: _Element) -> ViewId:
    """Return the view that an element names by its attributes."""
    return ViewId(
        whole_number(node.get("timepoint"), node, "a timepoint"),
        whole_number(node.get("setup"), node, "a setup"),
    )


def entity_tag(attribute: str) -> str:
    """Return how the entities of an attribute are called: "Channel", for other attributes the name itself."""
    return ENTITY_TYPES[attribute].__name__ if attribute in ENTITY_TYPES else attribute


def write_leaf(parent: _Element, tag: str, text: object) -> None:
    """Add an element with a text."""
    etree.SubElement(parent, tag).text = str(text)


def number_text(value: float) -> str:
    """Return a number as Java and Python read it back exactly."""
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def join_numbers(values: Iterable[float]) -> str:
    """Return numbers with single blanks in between."""
    return " ".join(map(number_text, values))


def view_attributes(view: ViewId) -> dict[str, str]:
    """Return the attributes that name a view."""
    return {"timepoint": str(view.time), "setup": str(view.setup)}


def write_path(parent: _Element, tag: str, path: PathRef) -> None:
    """Add an element that names a path."""
    node = etree.SubElement(parent, tag, type="relative" if path.relative else "absolute")
    node.text = path.text


def write_element(parent: _Element, element: Element) -> _Element:
    """Put back an element that was kept."""
    node = etree.SubElement(parent, element.tag, dict(element.attributes))
    if element.text:
        node.text = element.text
    for child in element.children:
        write_element(node, child)
    return node


def write_kept(parent: _Element, kept: tuple[Kept, ...]) -> None:
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
            parent.insert(place + 1, write_element(parent, item.element))
