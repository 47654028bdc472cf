"""``npy2bdv demo``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv.errors import BdvError, ExistsError, WriteError

if TYPE_CHECKING:
    from typing import BinaryIO

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from npy2bdv.sample import Recording, SampleView
    from npy2bdv.writer import DatasetWriter

_LEVELS = ((1, 1, 1), (1, 2, 2), (2, 4, 4))
_MICROSCOPE = "npy2bdv demo"  # by which the demo knows its own dataset again


def demo(folder: Path = Path("npy2bdv-demo"), /) -> None:
    """Make a synthetic light-sheet recording, write it, read it back, check every pixel.

    A small embryo and beads in 2 channels, 2 x 2 overlapping tiles and 2 time points, of which one view is
    missing. About 80 MB; it takes a few seconds.

    Parameters
    ----------
    folder
        Where it is written: demo.xml and demo.h5. An earlier demo there is replaced.
    """
    from rich.console import Console

    from npy2bdv.sample import Recording

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.xml"
    _make_room(path)
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print("Making a recording ...")
    recording = Recording()
    views = list(recording.views())
    console.print("Writing and reading it ...")
    speed = _write(path, recording, views)
    _check(path, views)
    _report(console, path, recording, views, speed)


def _make_room(path: Path) -> None:
    """Delete the demo's own dataset; refuse where there is another."""
    from npy2bdv.location import read_xml

    pixels = path.with_suffix(".h5")
    if not path.exists() and not pixels.exists():
        return
    try:
        made = read_xml(path).generated_by
    except (BdvError, OSError):
        made = None
    if made is None or made.microscope != _MICROSCOPE:
        raise ExistsError(
            f"{path} or {pixels.name} is there already and not of this demo; give another folder: npy2bdv demo DIR"
        )
    pixels.unlink(missing_ok=True)
    path.unlink()


@dataclass(slots=True)
class _Speed:
    """Seconds that each view took: as a dataset, and as a raw file of the same bytes."""

    nbytes: list[int] = field(default_factory=list)
    dataset: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)

    def rates(self) -> tuple[float, float]:
        """Return MB/s of both, without the first view, which warms up threads, buffers and files."""
        megabytes = sum(self.nbytes[1:]) / 1e6
        return megabytes / sum(self.dataset[1:]), megabytes / sum(self.raw[1:])


def _write(path: Path, recording: Recording, views: list[SampleView]) -> _Speed:
    """Write all views, those of the first time point as stacks, later ones plane by plane."""
    from npy2bdv.create import create

    speed = _Speed()
    raw_path = path.with_name("raw-write.tmp")
    try:
        with (
            raw_path.open("wb", buffering=0) as raw,
            create(path, levels=_LEVELS, microscope=_MICROSCOPE, user="demo") as writer,
        ):
            setups = _add_setups(writer, recording)
            for view in views:
                begun = time.perf_counter()
                _write_raw(raw, view.stack)
                between = time.perf_counter()
                setup = setups[view.channel, view.tile]
                if view.time == 0:
                    writer.write(view.stack, setup=setup, time=view.time)
                else:
                    with writer.stream(setup=setup, time=view.time) as stream:
                        for plane in view.stack:
                            stream.append(plane)
                writer.store()
                speed.nbytes.append(view.stack.nbytes)
                speed.raw.append(between - begun)
                speed.dataset.append(time.perf_counter() - between)
    finally:
        raw_path.unlink(missing_ok=True)
    return speed


def _write_raw(file: BinaryIO, stack: NDArray[np.uint16]) -> None:
    rest = memoryview(stack.data).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


def _add_setups(writer: DatasetWriter, recording: Recording) -> dict[tuple[str, int], int]:
    """Add a setup for each channel and tile, placed where the tile belongs."""
    from npy2bdv.model.affine import Affine
    from npy2bdv.model.spimdata import ViewTransform

    # world units of BigStitcher: pixels of the smallest voxel size
    x, y, z = (size / min(recording.voxel_size_xyz) for size in recording.voxel_size_xyz)
    setups = {}
    for channel in recording.channels:
        for tile in range(recording.n_tiles):
            left, top, front = recording.tile_origin_xyz(tile)
            place = Affine.translation((left * x, top * y, front * z))
            setups[channel, tile] = writer.add_setup(
                shape=recording.shape,
                channel=channel,
                tile=tile,
                voxel_size_xyz=recording.voxel_size_xyz,
                unit=recording.unit,
                camera="simulated sCMOS",
                exposure_time=10,
                exposure_unit="ms",
                transform=[ViewTransform(affine=place, name="Translation to Regular Grid")],
            )
    return setups


def _check(path: Path, views: list[SampleView]) -> None:
    """Compare every pixel of every level with what was recorded."""
    import numpy as np

    from npy2bdv.dataset import open as open_dataset
    from npy2bdv.downsample import downsample

    with open_dataset(path) as dataset:
        for view in views:
            stored = dataset.view(time=view.time, channel=view.channel, tile=view.tile)
            for level, factors in zip(stored.levels(), _LEVELS, strict=True):
                if not np.array_equal(level[...], downsample(view.stack, factors)):
                    raise WriteError(f"{level!r} of {path} is not what was written; please report this")


def _report(
    console: Console, path: Path, recording: Recording, views: list[SampleView], speed: _Speed
) -> None:
    from rich.table import Table

    z, y, x = recording.shape
    pixels = sum(view.stack.nbytes for view in views)
    on_disk = path.with_suffix(".h5").stat().st_size
    dataset, raw = speed.rates()
    absent = "; ".join(f"time {t}, channel {c}, tile {n}" for t, c, n in recording.missing)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, text in (
        ("views", f"{len(views)}: {recording.n_times} times x {len(recording.channels)} channels x "
                  f"{recording.n_tiles} tiles, less the missing"),
        ("missing", absent),
        ("pixels", f"{x} x {y} x {z} (x, y, z) in each view, uint16"),
        ("voxels", " x ".join(map(str, recording.voxel_size_xyz)) + f" {recording.unit}"),
        ("levels", f"{len(_LEVELS)}: factors " + "; ".join(",".join(map(str, f)) for f in _LEVELS) + " (z,y,x)"),
        ("size", f"{pixels / 1e6:.0f} MB of pixels, {on_disk / 1e6:.0f} MB on disk with all levels"),
        ("written", f"{dataset:.0f} MB/s, all levels made on the way"),
        ("raw file", f"{raw:.0f} MB/s, the same bytes as a plain file without levels"),
        ("checked", "every pixel of every level"),
    ):  # fmt: skip
        table.add_row(name, text)
    console.print(table)
    console.print(
        "The raw file shows the file cache of this machine, not its disk; the dataset makes all levels as well.\n"
        "Whether your disk keeps up with your camera: npy2bdv speedtest"
    )
    console.print(f"\nDataset: {path}")
    console.print("Look at it in Fiji: Plugins > BigDataViewer > Open XML/HDF5.")
    console.print("In BigStitcher (Plugins > BigStitcher > BigStitcher) the tiles lie where they belong.")
