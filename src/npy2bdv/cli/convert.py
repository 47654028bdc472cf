"""``npy2bdv convert``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (the command line is read by these annotations)
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter

from npy2bdv.cli import arguments
from npy2bdv.cli.info import in_fiji

if TYPE_CHECKING:
    from rich.console import Console

    from npy2bdv.storage.base import FormatName


def convert(
    source: Path,
    out: Path,
    /,
    *,
    format: str | None = None,  # noqa: A002
    zarr_version: int | None = None,
    levels: str = "auto",
    chunks: str | None = None,
    compression: str = "default",
    axes: str | None = None,
    voxel_size: str | None = None,
    unit: str | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Turn a TIFF, a .npy file or another dataset into a dataset that Fiji opens.

    Axes, channels, voxel size and unit are taken from the source where it has them. A dataset keeps its labels,
    transforms and missing views. n5 and omezarr need the extra npy2bdv[zarr].

    Parameters
    ----------
    source
        A TIFF (ImageJ hyperstack, OME-TIFF, plain stack), .npy or .npz file; many files by a pattern, in quotes,
        such as "t{time}_c{channel}_x{tile}.tif" (also of angle, illumination, z), or a folder of planes; an image
        of OME-Zarr, an array in Zarr, N5 or HDF5 by its path, as in scan.h5/path/in/file; or the XML of a dataset.
    out
        The XML to write, NAME.xml; the pixels lie beside it as NAME.h5, NAME.n5 or NAME.ome.zarr. Or one of these
        names, which then says the format.
    format
        How pixels are stored: hdf5 (one file, for every Fiji), n5 or omezarr (folders, omezarr for Fiji with
        BigStitcher). By default what the name of the pixels says, else hdf5.
    zarr_version
        For omezarr: 2 (NGFF 0.4, for BigStitcher since April 2025; the default) or 3 (NGFF 0.5, with shards, which
        are far fewer files; for BigStitcher 3.0 or later).
    levels
        Downsampling factors z,y,x of each level of the pyramid, as in "1,1,1 1,2,2 2,4,4"; auto: those that
        BigDataViewer proposes; none: the full resolution only.
    chunks
        Block size z,y,x in pixels, one for all levels or one for each. By default 4,256,256 for hdf5, 8,256,256
        for n5 and omezarr.
    compression
        none, gzip (fast), gzip:1 to gzip:9, zstd or blosc (n5 and omezarr, with levels likewise), lzf (hdf5; Fiji
        cannot read it). By default none for hdf5, gzip for n5, zstd for omezarr.
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

    factors, blocks = arguments.levels(levels), arguments.chunks(chunks)
    codec = arguments.compression(compression)
    voxels = None if voxel_size is None else arguments.numbers(voxel_size, "--voxel-size")
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
            format=cast("FormatName | None", format),
            zarr_version=zarr_version,
            levels=factors,
            chunks=blocks,
            compression=codec,
            overwrite=overwrite,
            axes=axes,
            voxel_size_xyz=voxels,
            unit=unit,
            progress=show,
        )
    seconds = time.perf_counter() - begun
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(f"{path}: {written / 1e6:.1f} MB of pixels in {seconds:.1f} s")
    _tell_what_was_understood(console, path)


def _tell_what_was_understood(console: Console, path: Path) -> None:
    """Say what the source was taken for, so that wrong axes or a missing voxel size are seen; and where it opens."""
    from npy2bdv.dataset import open as open_dataset

    with open_dataset(path) as dataset:
        views = list(dataset.views())
        sizes = dict.fromkeys(",".join(map(str, view.shape)) for view in views)
        voxels = dict.fromkeys(
            ",".join(f"{size:.6g}" for size in view.voxel_size_xyz) + f" {view.unit}"
            if view.unit not in (None, "px", "pixel")
            else "unknown; give --voxel-size x,y,z"
            for view in views
        )
        channels = (
            list(dataset.labels("channel").values()) if "channel" in dataset.spimdata.attributes else []
        )
        console.print(
            f"Views: {len(views)}; time points: {len(dataset.times)}; setups: {len(dataset.setups)}; "
            f"channels: {len(channels) or 1}{' (' + ', '.join(channels) + ')' if channels else ''}\n"
            f"Size z,y,x: {' and '.join([*sizes][:5])}; voxel size x,y,z: {' and '.join([*voxels][:5])}"
        )
        console.print(f"Open it in Fiji: {in_fiji(dataset.spimdata)}. What it holds: npy2bdv info")
