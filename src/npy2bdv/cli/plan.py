"""``npy2bdv plan``."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.filesize import decimal

from npy2bdv.cli import arguments
from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.console import Console

    from npy2bdv.plan import Plan

_ROWS = 40
_FLIPS = {"x": 0, "y": 1, "z": 2}


def plan(
    positions: Path,
    /,
    *,
    shape: str | None = None,
    voxel_size: str | None = None,
    unit: str | None = None,
    stage_unit: str | None = None,
    dtype: str = "uint16",
    flip: str = "",
    transpose_xy: Annotated[bool, Parameter(negative="")] = False,
    times: int = 1,
    rate: str | None = None,
    levels: str = "none",
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    disk: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Lay out a recording before it is made: overlaps, bytes, time, and what looks wrong.

    POSITIONS is a table (CSV) with a header line. Its columns: x, y, z of the stage, with their unit as "x [um]" or
    x_mm; tile, channel, angle, illumination; voxel_x, voxel_y, voxel_z; size_z, size_y, size_x in pixels; dtype. What
    is the same in all lines may be given as an option. Ends with 2 where there are warnings.

    Parameters
    ----------
    positions
        The table.
    shape
        Size of the stacks, in pixels: Z,Y,X.
    voxel_size
        Size of a voxel: X,Y,Z.
    unit
        Unit of the voxel size (um, nm, mm, inch, px ...); by default um.
    stage_unit
        Unit of the positions, where the table does not say it; by default that of the voxel size.
    dtype
        Pixel type.
    flip
        Axes of the image that run against the stage: x, xy ...
    transpose_xy
        The camera's x runs along the stage's y.
    times
        How many time points there will be.
    rate
        How fast the camera is: "40" or "40 frames/s", or "800 MB/s".
    levels
        none (the full resolution only), auto, or factors such as "1,1,1 1,2,2".
    out
        Draw the layout into a file: NAME.png, NAME.svg or NAME.pdf (needs the extra npy2bdv[preview]).
    disk
        A folder on the disk that the recording is to go to: is there room?
    as_json
        Write all of it as JSON.
    """
    from rich.console import Console

    from npy2bdv.plan import plan as make
    from npy2bdv.plan.table import read_positions
    from npy2bdv.storage.disk import free_bytes
    from npy2bdv.views.layout import layout, load_figure

    common: dict[str, Any] = {"dtype": dtype, "transpose_xy": transpose_xy, "unit": unit}
    if not set(flip) <= _FLIPS.keys():
        raise InvalidInputError(f"--flip {flip!r} is not known; write axes: x, y, xy ...")
    common["flip_xyz"] = tuple(axis in flip for axis in "xyz")
    if shape is not None:
        common["shape"] = tuple(int(size) for size in arguments.numbers(shape, "--shape"))
    if voxel_size is not None:
        common["voxel_size_xyz"] = arguments.numbers(voxel_size, "--voxel-size")
    if stage_unit is not None:
        common["stage_unit"] = stage_unit
    rows = [{**common, **row} for row in read_positions(positions)]
    if any("shape" not in row for row in rows):
        raise InvalidInputError(
            f"the size of stacks is not known: give --shape Z,Y,X, or columns size_z, size_y, size_x in {positions}"
        )
    if any("voxel_size_xyz" not in row for row in rows):
        raise InvalidInputError(
            f"the size of voxels is not known: give --voxel-size X,Y,Z, or columns voxel_x, voxel_y, voxel_z in "
            f"{positions}"
        )
    if out is not None:
        load_figure().check_suffix(out)
    found = make(rows, times, _number(rate), levels=arguments.levels(levels))
    free = None if disk is None else free_bytes(disk)
    full = []
    if free is not None and free < max(found.nbytes_by_format.values()):
        full = [
            f"{disk} has {decimal(free)} free, and the recording takes up to "
            f"{decimal(max(found.nbytes_by_format.values()))} without compression"
        ]
    if out is not None:
        layout(found).write(out)
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    warnings = [*found.warnings, *full]
    if as_json:
        facts = found.to_json() | {"warnings": warnings, "free_bytes": free}
        console.print(json.dumps(facts, indent=2))
    else:
        _show(console, found, free)
        for warning in warnings:
            console.print(f"warning: {warning}")
    return 2 if warnings else 0


def _number(rate: str | None) -> float | str | None:
    try:
        return None if rate is None else float(rate)
    except ValueError:
        return rate


def _show(console: Console, plan: Plan, free: int | None) -> None:
    from rich.table import Table

    size = " x ".join(f"{length:.6g}" for length in plan.box.size_xyz)
    console.print(f"{len(plan.setups)} setups, {plan.times} time points; {size} {plan.unit} (x, y, z)")
    if plan.neighbours:
        names = {setup.id: setup.labels.get("tile", str(setup.id)) for setup in plan.setups}
        table = Table("tiles", "along", "overlap", "pixels", "percent", box=None, padding=(0, 2, 0, 0))
        for pair in plan.neighbours[:_ROWS]:
            table.add_row(
                f"{names[pair.first]}, {names[pair.second]}",
                pair.axis,
                f"{pair.length:.6g} {plan.unit}",
                f"{pair.pixels:.1f}",
                f"{pair.percent:.1f}",
            )
        console.print(table)
        if len(plan.neighbours) > _ROWS:
            console.print(f"... and {len(plan.neighbours) - _ROWS} more; --json lists them")
    formats = ", ".join(f"{decimal(each)} as {name}" for name, each in plan.nbytes_by_format.items())
    console.print(f"{decimal(plan.nbytes)} of pixels; with levels and without compression {formats}")
    if plan.seconds is not None and plan.bytes_per_second is not None:
        minutes, seconds = divmod(plan.seconds, 60)
        hours, minutes = divmod(int(minutes), 60)
        console.print(
            f"takes {hours}:{minutes:02}:{seconds:04.1f} at this rate; the disk has to take "
            f"{decimal(int(plan.bytes_per_second))}/s"
        )
    if free is not None:
        console.print(f"{decimal(free)} are free on the disk")
