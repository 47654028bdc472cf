"""``npy2bdv convert``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (the command line is read by these annotations)
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from npy2bdv.cli import arguments
from npy2bdv.cli.info import in_fiji
from npy2bdv.cli.progress import Bar
from npy2bdv.cli.selecting import Where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from npy2bdv.planning import Estimate, ResavePlan
    from npy2bdv.reading import Casting
    from npy2bdv.resave import PlanOptions
    from npy2bdv.storage.base import FormatName

_EVERYTHING = Where()


def convert(
    source: Path,
    out: Path,
    /,
    *,
    pixels: str | None = None,
    format: str | None = None,  # noqa: A002
    zarr_version: int | None = None,
    levels: str = "auto",
    chunks: str | None = None,
    compression: str = "default",
    axes: str | None = None,
    voxel_size: Annotated[str | None, Parameter(name=("--voxel-size-xyz", "--voxel-size"))] = None,
    unit: str | None = None,
    where: Where = _EVERYTHING,
    crop: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    dtype: str | None = None,
    casting: str = "refuse",
    value_range: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    partition: str | None = None,
    skip_zeros: Annotated[bool, Parameter(negative="")] = False,
    workers: int | None = None,
    dask: str | None = None,
    max_memory: int | None = None,
    task_bytes: int | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
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
        names, which then says the format. n5 and omezarr may go to a server: s3://BUCKET/NAME.xml.
    pixels
        For an XML on this machine: where on a server the pixels go, s3://BUCKET/NAME.ome.zarr or .n5.
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
    where
        Which views; by default all.
    crop
        What of each stack is taken, pixels START:STOP of z,y,x, as in "10:-10,:,0:512"; it stays where it was.
    dtype
        Another pixel type: uint8, uint16, float32 ...
    casting
        What becomes of values that it does not have: refuse (an error when one is met), clip (the nearest), scale
        (the whole range of the old type, or --value-range, onto that of the new one).
    value_range
        For scale: LOW,HIGH become the least and the greatest value.
    partition
        For hdf5: how many time points and setups go into one file, as in "10,1"; 0 means all. The files NAME-TT-SS.h5
        are written at the same time with --workers or --dask.
    skip_zeros
        For omezarr: no files for blocks of zeros.
    workers
        Processes that do the work; by default the threads of this one.
    dask
        Address of the scheduler of a cluster that does it, as in tcp://host:8786; its workers must see the same paths.
    max_memory
        Bytes that buffers of pixels may take in each process, by default 256 MiB.
    task_bytes
        About how many bytes one task of n5 and omezarr writes, by default 256 MiB.
    resume
        Go on with a conversion by the same options that was interrupted. What was finished is checked and kept.
    dry_run
        Say what would be done, how large it would be, and how long it would take; nothing is written beside OUT.
    overwrite
        Replace a dataset of the same name; its XML is kept as NAME.xml~1.
    """
    import time

    from rich.console import Console

    from npy2bdv.resave import plan_resave, resave

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    options: PlanOptions = {
        "pixels": pixels,
        "format": cast("FormatName | None", format),
        "zarr_version": zarr_version,
        "levels": arguments.levels(levels),
        "chunks": arguments.chunks(chunks),
        "compression": arguments.compression(compression),
        "axes": axes,
        "voxel_size_xyz": None if voxel_size is None else arguments.numbers(voxel_size, "--voxel-size"),
        "unit": unit,
        "views": _views(source, where),
        "crop": None if crop is None else arguments.ranges(crop, "--crop"),
        "dtype": dtype,
        "casting": cast("Casting", casting),
        "value_range": None if value_range is None else arguments.pair(value_range, "--value-range", float),
        "partition": None if partition is None else arguments.pair(partition, "--partition", int),
        "skip_zeros": skip_zeros,
    }
    if max_memory is not None:
        options["max_memory"] = max_memory
    if task_bytes is not None:
        options["task_bytes"] = task_bytes
    if dry_run:
        plan, estimate = plan_resave(source, out, estimate=True, **options)
        assert estimate is not None
        console.print("\n".join(_in_words(plan, estimate)))
        return
    begun = time.perf_counter()
    with Bar() as bar:
        path = resave(
            source,
            out,
            executor=dask,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            progress=bar,
            **options,
        )
    seconds = time.perf_counter() - begun
    console.print(f"{path}: {bar.total / 1e6:.1f} MB of pixels in {seconds:.1f} s")
    _tell_what_was_understood(console, path)


def _views(source: Path, where: Where) -> dict[str, Any] | None:
    """Return the selection as the library takes it. Labels of a dataset are looked up; files have labels only."""
    from npy2bdv.location import find_xml, read_xml
    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.sources import names_dataset

    if where == _EVERYTHING:
        return None
    if names_dataset(source):
        return where.of(read_xml(find_xml(source)))
    found = where.of(SpimData())
    return {
        name: value if name in ("time", "setup") else [str(each) for each in value]
        for name, value in found.items()
    }


def _in_words(plan: ResavePlan, estimate: Estimate) -> Iterator[str]:
    """Say what a plan does."""
    codec = plan.tasks[0].target.codec
    version = f" (Zarr v{plan.card.zarr_version})" if plan.card.zarr_version else ""
    level = "" if codec.level is None else f" {codec.level}"
    yield f"{plan.path_xml}: nothing was written; this would be"
    yield f"Views: {len(plan.views)}; format: {plan.card.name}{version}, {codec.name}{level}"
    yield f"Tasks: {len(plan.tasks)}; files of pixels: {plan.n_files}"
    yield (
        f"Read: {plan.bytes_in / 1e6:.1f} MB; written: {plan.bytes_out / 1e6:.1f} MB of pixels with all levels, about "
        f"{estimate.bytes_out / 1e6:.1f} MB on disk"
    )
    yield (
        f"Time: about {estimate.seconds:.1f} s by the threads of one process (from a sample of "
        f"{estimate.sample_bytes / 1e6:.1f} MB, read and written to a temporary folder; the disk of the dataset may be "
        "slower, and workers share the time)"
    )


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
