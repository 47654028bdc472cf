"""BigStitcher's links between views (``StitchingResults``, formats.md 1.11), where views are edited."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from npy2bdv.errors import FormatError
from npy2bdv.model.spimdata import ViewId, ViewRegistration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from npy2bdv.model.affine import Affine
    from npy2bdv.model.spimdata import Element, SpimData


def follow_pixels(before: SpimData, after: SpimData, *, moved: AbstractSet[ViewId]) -> SpimData:
    """Return a dataset whose links are as true as they were, after pixels were edited.

    A link holds a shift in the world and a hash of the transforms with which it was found; BigStitcher takes it for
    outdated where the hash no longer fits. An edit that leaves the image in its place appends a transform, and
    changes the hash though the shift is as true as before: a hash that did fit is made to fit again, one that
    did not is left alone. Links of views whose image has `moved` are removed, since their hash would not show it.

    Parameters
    ----------
    before, after
        The dataset before and after the edit.
    moved
        Views whose pixels lie elsewhere in the world than before.
    """
    sections = tuple(
        replace(section, children=tuple(_links(section, before, after, moved)))
        if section.tag == "StitchingResults"
        else section
        for section in after.sections
    )
    return replace(after, sections=sections)


def _links(
    section: Element, before: SpimData, after: SpimData, moved: AbstractSet[ViewId]
) -> Iterator[Element]:
    for link in section.children:
        pair = _views(link) if link.tag == "PairwiseResult" else None
        if pair is None:
            yield link
            continue
        a, b = pair
        if moved.isdisjoint(a) and moved.isdisjoint(b):
            yield _refreshed(link, (a[0], b[0]), before, after)


def _views(link: Element) -> tuple[list[ViewId], list[ViewId]] | None:
    """Return the views of both sides, in groups; None where they cannot be read."""
    said = dict(link.attributes)
    try:
        sides = [
            [
                ViewId(int(time), int(setup))
                for time, setup in zip(
                    said[f"tp_{side}"].split(","), said[f"view_setup_{side}"].split(","), strict=True
                )
            ]
            for side in "ab"
        ]
    except (KeyError, ValueError):
        return None
    return sides[0], sides[1]


def _refreshed(link: Element, pair: tuple[ViewId, ViewId], before: SpimData, after: SpimData) -> Element:
    children = []
    for child in link.children:
        if child.tag == "hash":
            try:
                known = float(child.text)
                old, new = (_hash(data, pair) for data in (before, after))
            except (FormatError, ValueError):
                return link
            if known == old and new != old:
                child = replace(child, text=repr(new))
        children.append(child)
    return replace(link, children=tuple(children))


def _hash(data: SpimData, pair: tuple[ViewId, ViewId]) -> float:
    a, b = (_total(data, view) for view in pair)
    total = 0.0
    for first, second in zip(a.values, b.values, strict=True):
        total += first + 13 * second
    return total


def _total(data: SpimData, view: ViewId) -> Affine:
    return data.registrations.get(view, ViewRegistration()).total
