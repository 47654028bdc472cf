"""``npy2bdv recover``."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from npy2bdv.cli.info import in_fiji
from npy2bdv.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from rich.console import Console

    from npy2bdv.mend import RecoveredView
    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.recover import Recovery

_ROWS = 40


def recover(
    recording: Path,
    /,
    *,
    out: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Bring a recording, an edit or a merge into order that was interrupted: by a kill, a crash, a power cut.

    Planes that wait in the journal are written where they belong, all levels are made complete, and the XML gets
    its final name. Works in place. Where an HDF5 file is damaged so that HDF5 does not find what is in it, a new one is
    made of its pixels: NAME-recovered.xml, with NAME-recovered.h5; the original and its journal stay then.

    Exit status: 0 where all that was safe is there; 2 where the file was so damaged that planes are lost which were
    safe, as the list says; 1 if nothing could be done, as one line on stderr says.

    Parameters
    ----------
    recording
        The XML or the pixels of the recording. The journal, NAME.h5.journal or the like, lies beside them.
    out
        The XML of the result, with its pixels beside it; the original stays as it is. By default as said above.
    as_json
        Write what there is of each view as JSON.
    """
    from rich.console import Console

    from npy2bdv.location import read_xml, suffix_of
    from npy2bdv.moving import plan_path
    from npy2bdv.recover import recover as bring_into_order

    is_there = recording.is_file() or (recording.is_dir() and suffix_of(recording)[0])
    if not (is_there or plan_path(recording).is_file()):
        raise NotFoundError(f"there is no file {recording}; give the XML or the pixel file of the recording")
    found = bring_into_order(recording, out)
    status = 2 if any(view.damaged for view in found) else 0
    if as_json:
        sys.stdout.write(json.dumps(_as_dict(found), indent=1) + "\n")
        return status
    console = Console(highlight=False, markup=False, emoji=False)
    if found.edit:
        console.print(
            f"An edit of {recording} was interrupted. It had happened, and has been finished."
            if found.edit == "finished"
            else f"An edit of {recording} was interrupted. It had not happened, and has been undone: all is as it was.",
            soft_wrap=True,
        )
        return status
    data = read_xml(found.path_xml)
    if not found.views and {*data.views()}:
        console.print(
            f"A change that was interrupted has been completed: {found.path_pixels}", soft_wrap=True
        )
        return status
    _show(console, data, found.views)
    if found.damage is not None:
        console.print(
            f"\n{recording} was damaged ({found.damage}); a new file was made of its pixels. The original is as it "
            "was: remove it with its journal when you have looked at the new one.",
            soft_wrap=True,
        )
    shown = find_name(found.path_xml, recording)
    console.print(f"\nDataset: {shown}", soft_wrap=True)
    if any(view.planes for view in found):
        console.print(f"Look at it in Fiji: {in_fiji(data)}. What it holds: npy2bdv info", soft_wrap=True)
    else:
        console.print("Not one plane was safe: it was interrupted before the first checkpoint.")
    return status


def find_name(path: Path, recording: Path) -> Path:
    """Return a file by the path by which its folder was named."""
    return recording.parent / path.name if path.parent == recording.absolute().parent else path


def _as_dict(found: Recovery) -> dict[str, Any]:
    views = [
        {
            "time": each.view.time,
            "setup": each.view.setup,
            "planes": each.planes,
            "depth": each.depth,
            "missing": each.missing,
            "unconfirmed": each.unconfirmed,
            "damaged": each.damaged,
        }
        for each in found
    ]
    files = {"xml": str(found.path_xml), "pixels": str(found.path_pixels), "damage": found.damage}
    return {**files, "edit": found.edit, "views": views}


def _show(console: Console, data: SpimData, views: Sequence[RecoveredView]) -> None:
    """List the views; of very many only those that are not whole."""
    from rich.table import Table

    partial = [view for view in views if not view.is_whole]
    whole = len(views) - len(partial)
    console.print(f"{len(views)} views: {whole} whole, {len(partial)} in part or missing")
    shown = views if len(views) <= _ROWS else partial
    if not shown:
        return
    labels = {view.view: _labels(data, view.view.setup) for view in shown}
    names = _names(labels.values())
    table = Table("time", "setup", *names, "planes", "", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for view in shown:
        found = labels[view.view]
        table.add_row(
            str(view.view.time),
            str(view.view.setup),
            *(found.get(name, "") for name in names),
            f"{view.planes} of {view.depth}",
            _what_is_missing(view),
        )
    console.print(table)
    if any(view.planes for view in partial):
        console.print(
            "Planes that are missing are zeros; they never came, or came after the last checkpoint."
        )


def _names(labels: Collection[Mapping[str, str]]) -> list[str]:
    """Return the names of labels by which views differ."""
    names = dict.fromkeys(name for each in labels for name in each)
    return [name for name in names if len({each.get(name) for each in labels}) > 1]


def _labels(data: SpimData, setup: int) -> dict[str, str]:
    if setup not in data.setups:
        return {}
    known = data.setups[setup]
    entities = {name: data.entity(name, known) for name in known.attributes}
    return {name: entity.name or str(entity.id) for name, entity in entities.items() if entity is not None}


def _what_is_missing(view: RecoveredView) -> str:
    if view.is_whole:
        return "whole"
    if not view.planes and not view.damaged:
        return "nothing was safe: a missing view"
    gone = {z for start, stop in view.missing for z in range(start, stop)}
    lost = {z for start, stop in view.damaged for z in range(start, stop)}
    words = [
        f"{word} {_listed(planes)}"
        for word, planes in (
            ("without", gone - lost),
            ("lost:", gone & lost),
            ("damaged, in part there:", lost - gone),
        )
        if planes
    ]
    return "; ".join(words)


def _listed(planes: set[int]) -> str:
    starts = sorted(z for z in planes if z - 1 not in planes)
    stops = sorted(z for z in planes if z + 1 not in planes)
    runs = [str(a) if a == b else f"{a} to {b}" for a, b in zip(starts, stops, strict=True)]
    return ", ".join([*runs[:8], "..."] if runs[8:] else runs)
