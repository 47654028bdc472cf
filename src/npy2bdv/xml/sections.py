"""BigStitcher's sections of the XML, which are kept whole: what to leave out when views are gone (formats.md 1.11)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from npy2bdv.model.spimdata import Element, ViewId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def without_views(sections: Iterable[Element], gone: Callable[[ViewId], bool]) -> tuple[Element, ...]:
    """Return the sections without what belongs to views that are gone.

    These are interest points, point spread functions and intensities of a view, and the shift between two (groups of)
    views of which one is gone. Bounding boxes belong to none.
    """
    kept = []
    for section in sections:
        children = tuple(
            child for child in section.children if not any(gone(view) for view in _views_of(child))
        )
        kept.append(
            section if len(children) == len(section.children) else replace(section, children=children)
        )
    return tuple(kept)


def _views_of(entry: Element) -> list[ViewId]:
    """Return the views that an entry of a section names; none where it does not, or not by numbers."""
    named = dict(entry.attributes)
    pairs = (("timepoint", "setup"), ("tp_a", "view_setup_a"), ("tp_b", "view_setup_b"))
    try:
        return [
            ViewId(int(time), int(setup))
            for times, setups in pairs
            if times in named and setups in named
            for time, setup in zip(named[times].split(","), named[setups].split(","), strict=False)
        ]
    except ValueError:
        return []
