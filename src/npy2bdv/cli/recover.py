"""``npy2bdv recover``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)
from typing import TYPE_CHECKING

from npy2bdv.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from rich.console import Console

    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.recover import RecoveredView

_ROWS = 40


def recover(recording: Path, /) -> None:
    """Bring a recording into order that was interrupted: by a kill, a crash, a power cut.

    Planes that wait in the journal are written where they belong, all levels are made complete, and the XML gets
    its final name. Works in place; to keep what there is, copy all files of the recording first.

    Parameters
    ----------
    recording
        The XML or the pixels of the recording. The journal, NAME.h5.journal or the like, lies beside them.
    """
    from rich.console import Console

    from npy2bdv.location import find_xml, read_xml, suffix_of
    from npy2bdv.recover import recover as bring_into_order

    if not (recording.is_file() or (recording.is_dir() and suffix_of(recording)[0])):
        raise NotFoundError(f"there is no file {recording}; give the XML or the pixel file of the recording")
    views = bring_into_order(recording)
    path = find_xml(_final_name(recording))
    console = Console(highlight=False, markup=False, emoji=False)
    _show(console, read_xml(path), views)
    console.print(f"\nDataset: {path}", soft_wrap=True)
    if any(view.planes for view in views):
        console.print(
            "Look at it in Fiji: Plugins > BigDataViewer > Open XML/HDF5. What it holds: npy2bdv info"
        )
    else:
        console.print("Not one plane was safe: it was interrupted before the first checkpoint.")


def _final_name(recording: Path) -> Path:
    """Return the name of the dataset: its XML has another one while it is recorded over an older one."""
    stem = recording.name.removesuffix(".recording.xml")
    return recording if stem == recording.name else recording.with_name(f"{stem}.xml")


def _show(console: Console, data: SpimData, views: Sequence[RecoveredView]) -> None:
    """List the views; of very many only those that are not whole."""
    from rich.table import Table

    partial = [view for view in views if view.missing]
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
    if not view.missing:
        return "whole"
    if not view.planes:
        return "nothing was safe: a missing view"
    runs = [str(start) if stop == start + 1 else f"{start} to {stop - 1}" for start, stop in view.missing]
    return "without " + ", ".join([*runs[:8], "..."] if runs[8:] else runs)
