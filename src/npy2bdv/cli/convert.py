"""``npy2bdv convert``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (the command line is read by these annotations)
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from npy2bdv.draft import Levels


def convert(
    source: Path,
    out: Path,
    /,
    *,
    levels: str = "auto",
    chunks: str | None = None,
    compression: str = "none",
    axes: str | None = None,
    voxel_size: str | None = None,
    unit: str | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Turn a TIFF, a .npy file or another dataset into a dataset that Fiji opens.

    Axes, channels, voxel size and unit are taken from the source where it has them.

    Parameters
    ----------
    source
        A TIFF (ImageJ hyperstack, OME-TIFF, plain stack) or .npy file, or the XML of a dataset.
    out
        The XML to write, NAME.xml; the pixels lie beside it as NAME.h5.
    levels
        Downsampling factors z,y,x of each level of the pyramid, as in "1,1,1 1,2,2 2,4,4"; auto takes those that
        BigDataViewer proposes.
    chunks
        Block size z,y,x in pixels, one for all levels or one for each. By default 4,256,256.
    compression
        none, gzip (fast), gzip:1 to gzip:9, or lzf (Fiji cannot read it).
    axes
        One letter for each axis of the source, of t, c, z, y, x, where it does not say or is wrong.
    voxel_size
        Size of a voxel x,y,z, as in "0.4,0.4,1.2".
    unit
        Unit of the voxel size.
    overwrite
        Replace a dataset of the same name; its XML is kept as NAME.xml~1.
    """
    import time

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from npy2bdv.resave import resave

    factors: Levels = "auto" if levels == "auto" else _triples(levels, "--levels")
    blocks = None if chunks is None else _triples(chunks, "--chunks")
    voxels = None if voxel_size is None else _numbers(voxel_size, "--voxel-size")
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    begun = time.perf_counter()
    written = 0
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("")

        def show(done: int, total: int) -> None:
            nonlocal written
            written = total
            bar.update(task, completed=done, total=total)

        path = resave(
            source,
            out,
            levels=factors,
            chunks=blocks,
            compression=_compression(compression),
            overwrite=overwrite,
            axes=axes,
            voxel_size_xyz=voxels,
            unit=unit,
            progress=show,
        )
    seconds = time.perf_counter() - begun
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(f"{path}: {written / 1e6:.1f} MB of pixels in {seconds:.1f} s")
    console.print("Open it in Fiji: Plugins > BigDataViewer > Open XML/HDF5. What it holds: npy2bdv info")


def _compression(text: str) -> str | tuple[str, int] | None:
    name, colon, level = text.partition(":")
    if colon and not level.isdecimal():
        raise InvalidInputError(f"--compression {text!r} is not known; write none, gzip, gzip:6 or lzf")
    return (name, int(level)) if colon else None if name == "none" else name


def _triples(text: str, option: str) -> tuple[tuple[int, ...], ...]:
    try:
        rows = tuple(tuple(int(number) for number in row.split(",")) for row in text.split())
    except ValueError:
        rows = ()
    if not rows or any(len(row) != 3 for row in rows):
        raise InvalidInputError(
            f'{option} {text!r} is not understood; write integers z,y,x for each level: "1,1,1 1,2,2"'
        )
    return rows


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        raise InvalidInputError(
            f'{option} {text!r} is not understood; write three numbers x,y,z: "0.4,0.4,1.2"'
        )
    return numbers
