"""``npy2bdv speedtest``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (the command line is read by these annotations)
from typing import TYPE_CHECKING, cast

from npy2bdv.cli import arguments
from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.table import Table

    from npy2bdv.cli.speed import Run, Settings, SpeedTest, Trial
    from npy2bdv.storage.base import Codec, FormatName

_NO = 2


def speedtest(
    folder: Path,
    /,
    *,
    shape: str = "2048,2048",
    rate: float = 100.0,
    channels: int = 1,
    levels: str = "auto",
    chunks: str | None = None,
    compression: str = "default",
    format: str = "hdf5",  # noqa: A002
    zarr_version: int | None = None,
    seconds: float | None = None,
) -> int:
    """Find out whether this computer and this disk take a recording at the rate of the camera.

    Makes the recording that is planned, from simulated frames: once at the rate of the camera, once as fast as
    possible; and a plain file of the same frames. It ends with yes or no, and where it is no with settings that
    hold. Best in the evening before the experiment, on the disk that will be used. The status is 0 for yes, 2 for no.

    Parameters
    ----------
    folder
        Where the recording will go. What the test writes there, it removes.
    shape
        Size of a frame y,x in pixels, which are uint16.
    rate
        Frames a second, of all channels together.
    channels
        Number of channels; frames belong to them in turn.
    levels
        Downsampling factors z,y,x of each level of the pyramid, as in "1,1,1 1,2,2 2,4,4"; auto: those that
        BigDataViewer proposes; none: the full resolution only.
    chunks
        Block size z,y,x in pixels, one for all levels or one for each. By default 4,256,256 for hdf5, 8,256,256
        for n5 and omezarr.
    compression
        none, gzip (fast), gzip:1 to gzip:9, zstd or blosc (n5 and omezarr, with levels likewise), lzf (hdf5; Fiji
        cannot read it). By default none for hdf5, gzip for n5, zstd for omezarr.
    format
        How pixels are stored: hdf5 (one file), n5 or omezarr (folders).
    zarr_version
        For omezarr: 2 (the default) or 3 (with shards, which are far fewer files).
    seconds
        Length of each recording. By default so long that the memory of the system cannot hide a slow disk.
    """
    from rich.console import Console

    from npy2bdv.cli.speed import Settings, measure, number_of_frames

    settings = Settings(
        frame_shape=_frame_shape(shape),
        rate=rate,
        n_channels=channels,
        format=cast("FormatName", format),
        zarr_version=zarr_version,
        levels=arguments.levels(levels),
        chunks=arguments.chunks(chunks),
        compression=arguments.compression(compression),
    )
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    n_frames = number_of_frames(settings, seconds)
    console.print(
        f"Camera: {_by(settings.frame_shape)} pixels (y, x), uint16, {rate:g} frames/s, "
        f"{settings.byte_rate / 1e6:.0f} MB/s"
    )
    made = settings.pyramid(n_frames // channels)
    chunks_of_levels = made.chunks if len(set(made.chunks)) > 1 else made.chunks[:1]
    console.print(
        f"Recording: {format}, levels {_rows(made.factors)}, blocks {_rows(chunks_of_levels)}, "
        f"compression {_words(settings.card.codec(settings.compression))}, channels {channels}\n"
        f"Writes up to {settings.stored_bytes(n_frames) / 1e6:,.0f} MB three times into {folder}, and removes it."
    )
    test = measure(folder, settings, n_frames=n_frames, say=console.print)
    _report(console, test)
    return 0 if test.asked.holds else _NO


def _words(codec: Codec) -> str:
    return codec.name if codec.level is None else f"{codec.name}:{codec.level}"


def _report(console: Console, test: SpeedTest) -> None:
    asked = test.asked
    console.print(f"\n{_answer(asked)}\n")
    console.print(_rates(test))
    on_disk = asked.fastest.bytes_on_disk / asked.fastest.frames
    console.print(
        f"\nA frame of {asked.settings.frame_bytes / 1e6:.3g} MB takes {on_disk / 1e6:.3g} MB on disk, "
        "levels included."
    )
    if not asked.holds:
        _advise(console, test)


def _answer(asked: Trial) -> str:
    """Say yes or no in one line."""
    from npy2bdv.engine import DEFAULT_MEMORY

    rate, run = asked.settings.rate, asked.paced
    highest = f"{asked.fastest.frame_rate_synced:.3g} frames/s"
    lost = (
        f"{run.dropped} of {run.frames + run.dropped} frames dropped" if run.dropped else "no frame dropped"
    )
    queue = f"buffers held {run.queue_peak / 1e6:.0f} of {DEFAULT_MEMORY / 1e6:.0f} MB at most"
    if asked.holds:
        return (
            f"Yes: {rate:g} frames/s hold, {highest} would ({asked.headroom:.0%} headroom); {lost}; {queue}."
        )
    if asked.headroom >= 0:
        return f"No: {lost}, though {highest} hold on average (the disk or the computer pauses); {queue}."
    return f"No: {highest} hold, {-asked.headroom:.0%} less than the {rate:g} of the camera; {lost}; {queue}."


def _rates(test: SpeedTest) -> Table:
    table = _table("", "MB/s to memory", "MB/s to disk", "frames/s to disk")
    rows: tuple[tuple[str, Run], ...] = (
        (f"at {test.asked.settings.rate:g} frames/s", test.asked.paced),
        ("as fast as possible", test.asked.fastest),
        ("plain file of the frames", test.raw),
    )
    for name, run in rows:
        memory, disk = run.byte_rate / 1e6, run.byte_rate_synced / 1e6
        table.add_row(name, f"{memory:.0f}", f"{disk:.0f}", f"{run.frame_rate_synced:.3g}")
    return table


def _advise(console: Console, test: SpeedTest) -> None:
    """Name settings that hold, or say why there are none."""
    settings = test.asked.settings
    if test.disk_is_too_slow:
        console.print(
            f"The disk is too slow: it took {test.disk_rate / 1e6:.0f} MB/s at best, the camera delivers "
            f"{settings.byte_rate / 1e6:.0f} MB/s."
        )
    table = _table("tried briefly", "", "frames/s to disk", "dropped")
    for each in test.cheaper:
        holds = "holds" if each.holds else "does not hold"
        rate = f"{each.fastest.frame_rate_synced:.3g}"
        table.add_row(_changes(each.settings, settings), holds, rate, str(each.paced.dropped))
    console.print(table)
    holding = [each.settings for each in test.cheaper if each.holds]
    if not holding:
        console.print(
            "None of these holds. Use a faster disk or computer, smaller frames (a region of the camera, binning), "
            "or a lower rate."
        )
    elif all(each.levels != settings.levels for each in holding):
        console.print("Levels can be made afterwards: npy2bdv convert SCAN.xml WITH-LEVELS.xml --levels auto")


def _options(settings: Settings) -> dict[str, str]:
    """Write settings as options of the command, which are named as those of `npy2bdv.create`."""
    levels, chunks, codec = settings.levels, settings.chunks, settings.compression or "none"
    options = {
        "levels": "auto" if levels == "auto" else "none" if levels == ((1, 1, 1),) else _rows(levels),
        "compression": codec if isinstance(codec, str) else f"{codec[0]}:{codec[1]}",
    }
    return options if chunks is None else options | {"chunks": _rows(chunks)}


def _changes(settings: Settings, asked: Settings) -> str:
    """Write the options in which settings differ from those asked for."""
    before = _options(asked).items()
    changed = [each for each in _options(settings).items() if each not in before]
    return " ".join(f"--{name} {value}" for name, value in changed)


def _rows(triples: Iterable[Iterable[int]]) -> str:
    return " ".join(",".join(map(str, row)) for row in triples)


def _by(numbers: Iterable[int]) -> str:
    return " x ".join(map(str, numbers))


def _table(first: str, *others: str) -> Table:
    from rich.table import Table

    table = Table(first, box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _frame_shape(text: str) -> tuple[int, int]:
    try:
        y, x = (int(number) for number in text.split(","))
    except ValueError:
        raise InvalidInputError(
            f'--shape {text!r} is not understood; write integers y,x: "2048,2048"'
        ) from None
    return y, x
