"""``npy2bdv merge``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (the command line is read by these annotations)
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from npy2bdv.merge import Merged

_ROWS = 40


def merge(
    *recordings: Path,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    along: Literal["time", "channel", "tile", "angle", "illumination"] | None = None,
    labels: str | None = None,
    move: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make one dataset of several recordings (one for each tile, time point or process), without copying pixels.

    The recordings stay as they are, and must stay where they are: the new dataset refers to their pixels, by links in
    an HDF5 file, or by an XML that names OME-Zarr images in its folder or deeper. Channels, tiles, angles and
    illuminations of the same label are the same.

    Parameters
    ----------
    recordings
        The XMLs, all with pixels in HDF5, or all in OME-Zarr of one version.
    out
        The XML to write, NAME.xml.
    along
        What tells the recordings apart, where they do not say so themselves: tile (or channel, angle, illumination)
        makes each recording another one, time puts their time points one after the other.
    labels
        What each recording is called along an attribute, as in "left,right"; by default its file name.
    move
        Move the images of N5 or OME-Zarr into a new container beside OUT, by renaming folders on one volume. The
        recordings are gone then; their XMLs are kept as NAME.xml.merged. After a crash, call it again.
    overwrite
        Replace a dataset of the same name; its XML is kept as NAME.xml~1.
    dry_run
        Show what would come of it, or why it cannot be; change nothing.
    """
    from rich.console import Console

    from npy2bdv.merge import merge as put_together

    names = None if labels is None else labels.split(",")
    merged = put_together(
        recordings, out, along=along, labels=names, move=move, overwrite=overwrite, dry_run=dry_run
    )
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    _show(console, merged, recordings)
    console.print(
        f"{'It would be' if dry_run else 'Dataset'}: {merged.path_xml}, pixels by {merged.path_pixels}"
    )


def _show(console: Console, merged: Merged, recordings: Sequence[Path]) -> None:
    """Say which setup comes from which recording."""
    from rich.table import Table

    rows: dict[tuple[int, Path, int], list[int]] = {}
    for view, (path, old) in sorted(merged.sources.items(), key=lambda each: (each[0].setup, each[0].time)):
        rows.setdefault((view.setup, path, old.setup), []).append(view.time)
    data = merged.data
    console.print(
        f"{len(recordings)} recordings: {len(merged.sources)} views, {len(data.setups)} setups, "
        f"{len(data.timepoints.ids)} time points"
    )
    labels = {setup: data.labels_of(known) for setup, known in data.setups.items()}
    names = list(dict.fromkeys(name for each in labels.values() for name in each))
    names = [name for name in names if len({each.get(name) for each in labels.values()}) > 1]
    table = Table(
        "setup", *names, "times", "from", "setup", box=None, padding=(0, 2, 0, 0), header_style="bold"
    )
    for (setup, path, there), times in [*rows.items()][:_ROWS]:
        told = str(times[0]) if len(times) == 1 else f"{times[0]} to {times[-1]}"
        table.add_row(
            str(setup), *(labels[setup].get(name, "") for name in names), told, path.name, str(there)
        )
    console.print(table)
    if len(rows) > _ROWS:
        console.print(f"... and {len(rows) - _ROWS} more")
