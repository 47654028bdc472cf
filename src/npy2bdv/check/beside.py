"""What lies beside a dataset: journals, pending edits, XMLs that could not take their place, the table of frames."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from npy2bdv.check.views import name_of
from npy2bdv.errors import InUseError, WriteError
from npy2bdv.model.findings import finding
from npy2bdv.model.spimdata import ViewId
from npy2bdv.moving import plan_path
from npy2bdv.storage.journal import Lock, journal_path
from npy2bdv.storage.pending import record_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from npy2bdv.model.findings import Finding

_MANY = 20
_MAX_FIELD = 100_000


def audit_beside(path_xml: Path, pixels: Path | None) -> Iterator[Finding]:
    """Look at the files whose names are made from those of the XML and the pixels."""
    waiting = path_xml.with_name(f"{path_xml.name}.new")
    if waiting.is_file():
        yield finding("F05", waiting.name, f"it was to become {path_xml.name}")
    if pixels is not None and journal_path(pixels).is_file():
        yield finding("F03", journal_path(pixels).name, f"the journal of a recording: {_state(pixels)}")
    if pixels is not None and record_path(pixels).is_file():
        yield finding("F04", record_path(pixels).name, "the record of an edit that did not come to its end")
    if plan_path(path_xml).is_file():
        yield finding("F04", plan_path(path_xml).name, "a merge by moving that did not come to its end")
    yield from audit_frames(path_xml.with_name(f"{path_xml.stem}.frames.csv"))


def _state(pixels: Path) -> str:
    try:
        Lock(pixels).release()
    except InUseError:
        return "it still goes on"
    except WriteError:
        return "it goes on, or was interrupted"
    return "it was interrupted"


def audit_frames(path: Path) -> Iterator[Finding]:
    """Look for gaps in the camera's frame numbers."""
    if not path.is_file():
        return
    last: dict[ViewId, int] = {}
    gaps = frames = 0
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            for row in csv.DictReader(file):
                try:
                    view = ViewId(int(row["time"]), int(row["setup"]))
                    frame = int(row["frame"])
                except (KeyError, TypeError, ValueError):
                    continue
                before = last.get(view)
                last[view] = frame
                if before is not None and frame > before + 1:
                    gaps += 1
                    frames += frame - before - 1
                    if gaps <= _MANY:
                        place = f"{path.name}, {name_of(view)}, before plane {str(row.get('z'))[:20]}"
                        yield finding("P04", place, f"frames {before + 1} to {frame - 1} never came")
        except csv.Error as error:
            yield finding("P04", path.name, f"the table of frames is damaged ({error})")
    if gaps > _MANY:
        yield finding("P04", path.name, f"{gaps} gaps, {frames} frames in all")
