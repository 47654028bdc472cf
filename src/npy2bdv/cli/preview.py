"""``npy2bdv preview``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from npy2bdv.cli import arguments
from npy2bdv.cli.selecting import Where

_EVERYWHERE = Where()


def preview(
    dataset: Path,
    /,
    *,
    where: Where = _EVERYWHERE,
    projections: bool = True,
    layout: bool = True,
    color_by: str | None = None,
    percentiles: str | None = None,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Draw where the views of a dataset lie, and maximum projections of each channel and time point.

    Coarse levels are read only, so that a dataset of terabytes takes seconds. Needs the extra npy2bdv[preview].

    Parameters
    ----------
    dataset
        The XML of a dataset, or its pixels.
    where
        Which views. Without --time up to three time points are shown.
    projections
        Draw maximum projections: from above, from below, from the right.
    layout
        Draw the outlines of all views in the world.
    color_by
        The attribute whose labels have a colour each in the layout: tile, channel, angle ...
    percentiles
        Which of the projected pixels are black, and which have the full colour: LOW,HIGH; by default 1,99.5.
    out
        The picture: NAME.png, NAME.svg or NAME.pdf; by default NAME-preview.png in this folder. It is replaced.
    as_json
        Write as JSON what was drawn.
    """
    from rich.console import Console

    from npy2bdv.dataset import open as open_dataset
    from npy2bdv.views.layout import load_figure
    from npy2bdv.views.preview import preview as draw

    limits = (
        {} if percentiles is None else {"percentiles": arguments.pair(percentiles, "--percentiles", float)}
    )
    path = Path(f"{dataset.stem}-preview.png") if out is None else out
    load_figure().check_suffix(path)
    with open_dataset(dataset) as opened:
        picture = draw(
            opened,
            projections=projections,
            layout=layout,
            color_by=color_by,
            **limits,
            **where.of(opened.spimdata),
        )
        picture.write(path)
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if as_json:
        console.print(json.dumps({"picture": str(path), **picture.facts}, indent=2))
    else:
        missing = len(picture.facts["missing"])
        console.print(f"{path}: {picture.facts['views']} views" + (f", {missing} missing" if missing else ""))
