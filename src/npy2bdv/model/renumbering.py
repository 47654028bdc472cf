"""Another numbering of the setups and time points of a dataset, in all that its XML says (formats.md 7)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from npy2bdv.model.spimdata import Element, SpimData, Timepoints, ViewId

_SETUPS = ("setup", "view_setup_a", "view_setup_b")
_TIMES = ("timepoint", "tp_a", "tp_b")
_GROUP = re.compile(r"(tpId_|psf_t)(\d+)(_viewSetupId_|_v)(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renumbering:
    """New ids of setups and time points, by the old ones.

    Parameters
    ----------
    setups, times
        The new ids.
    path
        How a file that a section names by a relative path is named from now on; None for what is the name of a
        group, which has new ids in it.
    """

    setups: Mapping[int, int]
    times: Mapping[int, int]
    path: Callable[[str], str | None] = field(default=lambda text: text)

    def knows(self, view: ViewId) -> bool:
        """Tell whether a view has new ids."""
        return view.time in self.times and view.setup in self.setups

    def view(self, view: ViewId) -> ViewId:
        """Return the new ids of a view."""
        return ViewId(self.times[view.time], self.setups[view.setup])

    def of(self, data: SpimData) -> SpimData:
        """Return what an XML says, with the new ids. What it says of views that have none is left out.

        The loader and the attributes of setups stay as they are.
        """
        missing = None
        if data.missing is not None:
            missing = frozenset(self.view(view) for view in data.missing if self.knows(view))
        return replace(
            data,
            setups={
                self.setups[id_]: replace(setup, id=self.setups[id_])
                for id_, setup in data.setups.items()
                if id_ in self.setups
            },
            timepoints=Timepoints.of(self.times[time] for time in data.timepoints.ids if time in self.times),
            missing=missing,
            registrations={
                self.view(view): known for view, known in data.registrations.items() if self.knows(view)
            },
            sections=tuple(self.section(section) for section in data.sections),
        )

    def section(self, section: Element) -> Element:
        """Return a section of BigStitcher with the new ids, without entries of views that have none."""
        entries = (self._entry(entry, section.tag) for entry in section.children)
        return replace(section, children=tuple(entry for entry in entries if entry is not None))

    def _entry(self, entry: Element, section: str) -> Element | None:
        attributes = []
        for name, text in entry.attributes:
            ids = self.setups if name in _SETUPS else self.times if name in _TIMES else None
            if ids is not None:
                old = [int(part) for part in text.split(",")]
                if any(id_ not in ids for id_ in old):
                    return None
                text = ",".join(str(ids[id_]) for id_ in old)
            attributes.append((name, text))
        children = tuple(
            replace(child, text=self.path(child.text) or self.group(child.text))
            if section == "PointSpreadFunctions" and child.tag == "File"
            else child
            for child in entry.children
        )
        text = self.group(entry.text) if section == "ViewInterestPoints" else entry.text
        return replace(entry, attributes=tuple(attributes), children=children, text=text)

    def group(self, text: str) -> str:
        """Return the name of a group with the new ids (``tpId_0_viewSetupId_0/beads``, ``psf_t0_v0``)."""

        def new(found: re.Match[str]) -> str:
            view = ViewId(int(found[2]), int(found[4]))
            if not self.knows(view):
                return found[0]
            time, setup = self.view(view)
            return f"{found[1]}{time}{found[3]}{setup}"

        return _GROUP.sub(new, text)
