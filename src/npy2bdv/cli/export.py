"""``npy2bdv export``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from npy2bdv.cli import arguments
from npy2bdv.cli.selecting import Where
from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from npy2bdv.dataset import Dataset
    from npy2bdv.view import View

_EVERYWHERE = Where()
_NAMED = 5


def export(
    dataset: Path,
    out: Path,
    /,
    *,
    where: Where = _EVERYWHERE,
    level: int | None = None,
    zarr_version: int | None = None,
    compression: str = "default",
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write one view as an image that needs no XML: a TIFF, a .npy file, or an OME-Zarr image.

    A TIFF says voxel size and unit as ImageJ does, and is a BigTIFF beyond 4 GB. An OME-Zarr image has all levels
    of the view (needs the extra npy2bdv[zarr]). Transforms are in none of them.

    Parameters
    ----------
    dataset
        The XML of a dataset, or its pixels.
    out
        What to write: NAME.tif, NAME.npy or NAME.ome.zarr.
    where
        Which view; has to leave one.
    level
        For TIFF and .npy: the level, counted from 0, the full resolution (the default).
    zarr_version
        For OME-Zarr: 2 (NGFF 0.4; the default) or 3 (NGFF 0.5).
    compression
        For OME-Zarr: none, gzip, zstd (the default) or blosc.
    overwrite
        Replace a file, or an OME-Zarr image, of the same name.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from npy2bdv.dataset import open as open_dataset
    from npy2bdv.export import export as write

    codec = arguments.compression(compression)
    terminal = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    written = 0
    with open_dataset(dataset) as opened:
        view = _view(opened, where)
        with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
            task = bar.add_task("")

            def show(done: int, total: int) -> None:
                nonlocal written
                written = total
                bar.update(task, completed=done, total=total)

            path = write(
                view if level is None else view.level(level),
                out,
                zarr_version=zarr_version,
                compression=codec,
                overwrite=overwrite,
                progress=show,
            )
        shape = (view if level is None else view.level(level)).shape
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(
        f"{path}: time point {view.id.time}, setup {view.id.setup}, size z,y,x {','.join(map(str, shape))}, "
        f"{written / 1e6:.1f} MB of pixels"
    )


def _view(dataset: Dataset, where: Where) -> View:
    """Return the one view that is meant."""
    from npy2bdv.editor.selection import Selector

    found = Selector().views(dataset.spimdata, where.of(dataset.spimdata))
    if len(found) != 1:
        named = "; ".join(f"--time {time} --setup {setup}" for time, setup in found[:_NAMED])
        raise InvalidInputError(
            f"{len(found)} views are meant, and one is exported: say which"
            + (f", for example {named}" if found else "; npy2bdv info lists what there is")
        )
    return dataset.view(time=found[0].time, setup=found[0].setup)
