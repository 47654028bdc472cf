"""Whether a recording can be written as fast as a camera delivers it; found out by making one."""

from __future__ import annotations

import math
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.create import create
from npy2bdv.engine import DEFAULT_MEMORY
from npy2bdv.errors import InvalidInputError, NotFoundError, QueueFull, WriteError
from npy2bdv.sample import Recording
from npy2bdv.setups import pyramid_of
from npy2bdv.storage import card_of
from npy2bdv.storage.base import RAW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Literal

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Pyramid, Zyx
    from npy2bdv.storage.base import FormatCard, FormatName
    from npy2bdv.stream import ViewStream
    from npy2bdv.writer import Compression, DatasetWriter

    Frames = Sequence[NDArray[np.uint16]]

_CAMERA_SECONDS = 1.0
"""Frames of how many seconds a camera (its driver) keeps while nobody takes them."""
_SHORTEST, _LONGEST = 5.0, 60.0
"""Bounds for the length of a recording that is not given, in seconds."""
_UNKNOWN_LIMIT = 2 * 2**30
_BRIEF_MEMORIES = 6
"""Length of recordings with cheaper settings: so often the memory of the buffers, which is slow at first."""
_PREFIX = "npy2bdv-speedtest-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A recording that is planned.

    Attributes
    ----------
    frame_shape
        Size of a frame (y, x), in pixels; they are uint16.
    rate
        Frames a second, of all channels together.
    n_channels
        Frames go to so many channels in turn; each is a view of its own.
    format, zarr_version, levels, chunks, compression
        As in `npy2bdv.create`.

    Raises
    ------
    InvalidInputError
        If a value cannot be right.
    """

    frame_shape: tuple[int, int]
    rate: float
    n_channels: int = 1
    format: FormatName = "hdf5"
    zarr_version: int | None = None
    levels: tuple[Zyx, ...] | Literal["auto"] = ((1, 1, 1),)
    chunks: tuple[Zyx, ...] | None = None
    compression: Compression = "default"

    def __post_init__(self) -> None:
        if min(self.frame_shape) < 1:
            raise InvalidInputError(f"a frame has a size y,x of at least 1; found {self.frame_shape}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise InvalidInputError(f"a camera delivers more than 0 frames a second; found {self.rate}")
        if self.n_channels < 1:
            raise InvalidInputError(f"there is at least 1 channel; found {self.n_channels}")
        self.card.codec(self.compression)
        self.card.check(self.pyramid(1), np.dtype(np.uint16))

    @property
    def card(self) -> FormatCard:
        """What the format can do."""
        return card_of(self.format, self.zarr_version)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return 2 * math.prod(self.frame_shape)

    @property
    def byte_rate(self) -> float:
        """Bytes a second that the camera delivers."""
        return self.rate * self.frame_bytes

    def pyramid(self, n_planes: int) -> Pyramid:
        """Return the levels of a view of so many planes."""
        chunks = self.card.default_chunk if self.chunks is None else self.chunks
        return pyramid_of((n_planes, *self.frame_shape), None, self.levels, chunks)

    def with_levels(self, n_frames: int) -> Settings:
        """Return the settings with the levels that "auto" means for a recording of so many frames."""
        return replace(self, levels=self.pyramid(n_frames // self.n_channels).factors)

    def stored_bytes(self, n_frames: int) -> int:
        """Return how many bytes all levels of so many frames take on disk, before compression."""
        pyramid = self.pyramid(n_frames // self.n_channels)
        pixels = sum(
            math.prod(pyramid.grid(level)) * math.prod(chunk) for level, chunk in enumerate(pyramid.chunks)
        )
        return 2 * self.n_channels * pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One recording that was made, or a plain file.

    Attributes
    ----------
    frames, dropped
        Frames that were taken, and those for which there was no room.
    bytes_in, bytes_on_disk
        Bytes of the frames taken, and of all files.
    queue_peak
        Most bytes that buffers took at any time.
    seconds, seconds_synced
        From the first frame until the operating system had everything, and until the disk had it.
    """

    frames: int
    dropped: int = 0
    bytes_in: int
    bytes_on_disk: int
    queue_peak: int = 0
    seconds: float
    seconds_synced: float

    @property
    def byte_rate(self) -> float:
        """Bytes of frames a second, to the operating system."""
        return self.bytes_in / self.seconds

    @property
    def byte_rate_synced(self) -> float:
        """Bytes of frames a second, to the disk."""
        return self.bytes_in / self.seconds_synced

    @property
    def disk_rate(self) -> float:
        """Bytes a second that the disk took, levels included."""
        return self.bytes_on_disk / self.seconds_synced

    @property
    def frame_rate_synced(self) -> float:
        """Frames a second, to the disk."""
        return self.frames / self.seconds_synced


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of some settings: recorded at the rate of the camera, and as fast as possible."""

    settings: Settings
    paced: Run
    fastest: Run

    @property
    def headroom(self) -> float:
        """How much faster the camera could be, as a fraction of its rate; negative if it is too fast."""
        return self.fastest.frame_rate_synced / self.settings.rate - 1

    @property
    def holds(self) -> bool:
        """Whether no frame was dropped and the disk keeps up."""
        return not self.paced.dropped and self.headroom >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedTest:
    """The answer: what came of the settings asked for, of a plain file, and of cheaper settings."""

    asked: Trial
    raw: Run
    cheaper: tuple[Trial, ...] = ()

    @property
    def disk_rate(self) -> float:
        """Most bytes a second that the disk took."""
        return max(self.raw.disk_rate, self.asked.fastest.disk_rate)

    @property
    def disk_is_too_slow(self) -> bool:
        """Whether the disk takes bytes more slowly than the camera delivers them."""
        return self.disk_rate < self.asked.settings.byte_rate


def number_of_frames(settings: Settings, seconds: float | None = None) -> int:
    """Return how many frames a recording has; by default so many that the disk must take them as they come.

    The operating system keeps what is written in memory up to a limit, behind which a slow disk hides. So a recording
    has twice as many bytes as that, but lasts 5 seconds at least and 60 at most.
    """
    if seconds is None:
        wanted = 2 * _page_cache_limit() / settings.byte_rate
        seconds = min(max(wanted, _SHORTEST), _LONGEST)
    elif not (math.isfinite(seconds) and seconds > 0):
        raise InvalidInputError(f"a recording lasts more than 0 seconds; found {seconds}")
    channels = settings.n_channels
    return channels * max(1, round(seconds * settings.rate / channels))


def measure(
    folder: Path, settings: Settings, *, n_frames: int, say: Callable[[str], None] = lambda text: None
) -> SpeedTest:
    """Make recordings in a folder, each in a folder of its own that is removed afterwards.

    Parameters
    ----------
    folder
        Where recordings will go: the disk that is to be tested.
    settings
        The recording that is planned. Where this does not hold, cheaper settings are tried.
    n_frames
        Length of a recording, see `number_of_frames`.
    say
        Told what is being done.

    Raises
    ------
    NotFoundError
        If the folder is not there.
    WriteError
        If there is too little space; nothing has been written. Or if writing fails.
    """
    settings = settings.with_levels(n_frames)
    _check_space(folder, settings, n_frames)
    say("Making frames ...")
    frames = camera_frames(settings.frame_shape)
    asked = _try(folder, settings, frames, n_frames, say)
    say("Writing a plain file of the same frames ...")
    raw = _write_plain(folder, frames, n_frames)
    if asked.holds:
        return SpeedTest(asked=asked, raw=raw)
    planes = -(-_BRIEF_MEMORIES * DEFAULT_MEMORY // settings.frame_bytes // settings.n_channels)
    brief = min(n_frames, settings.n_channels * planes)
    say("These settings do not hold; trying cheaper ones, briefly.")
    return SpeedTest(
        asked=asked,
        raw=raw,
        cheaper=tuple(_try(folder, each, frames, brief, say) for each in cheaper(settings)),
    )


def cheaper(settings: Settings) -> Iterator[Settings]:
    """Give settings that may be faster, those first that change the dataset least.

    Compression is both: work for the processor, and relief for the disk. So it is tried the other way round.
    """
    z, y, x = settings.card.default_chunk
    compressed = settings.card.codec(settings.compression) != RAW
    larger: dict[str, Any] = {"chunks": ((z, 2 * y, 2 * x),)}
    other: dict[str, Any] = {"compression": None if compressed else "gzip"}
    bare: dict[str, Any] = {"levels": ((1, 1, 1),)}
    changes = (larger, other, bare, bare | other, bare | larger)
    yield from dict.fromkeys(each for change in changes if (each := replace(settings, **change)) != settings)


def camera_frames(shape: tuple[int, int]) -> Frames:
    """Make a few frames as a camera sees them: nuclei, haze, and noise on an offset."""
    recording = Recording(shape=(4, *shape), grid=(1, 1), n_times=1, missing=())
    stack = recording.view(0, recording.channels[0], 0).stack
    return [*stack, *np.ascontiguousarray(stack[..., ::-1])]


def _page_cache_limit() -> int:
    """Return how many bytes the operating system holds back before a writer must wait for the disk."""
    system = Path("/proc/sys/vm")  # Linux; other systems do not say
    try:
        fixed = int((system / "dirty_bytes").read_text("ascii"))
        share = int((system / "dirty_ratio").read_text("ascii")) / 100
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        return fixed or int(share * 1024 * int(facts["MemAvailable"].split()[0]))
    except (OSError, ValueError, KeyError):
        return _UNKNOWN_LIMIT


def _check_space(folder: Path, settings: Settings, n_frames: int) -> None:
    if not folder.is_dir():
        raise NotFoundError(f"the folder {folder} does not exist; create it first")
    needed = settings.stored_bytes(n_frames) + DEFAULT_MEMORY  # journals lie beside the pixels
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WriteError(
            f"the test needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free; make room, "
            f"or write less: --seconds {n_frames / settings.rate * free / needed / 2:.2g}"
        )


def _try(
    folder: Path, settings: Settings, frames: Frames, n_frames: int, say: Callable[[str], None]
) -> Trial:
    say(f"Recording {n_frames} frames at {settings.rate:g} frames/s ...")
    paced = _record(folder, settings, frames, n_frames, settings.rate)
    say("Recording them as fast as possible ...")
    return Trial(settings=settings, paced=paced, fastest=_record(folder, settings, frames, n_frames, None))


def _record(folder: Path, settings: Settings, frames: Frames, n_frames: int, rate: float | None) -> Run:
    """Make a recording and remove it."""
    n_planes = n_frames // settings.n_channels
    with TemporaryDirectory(prefix=_PREFIX, dir=folder) as place:
        with create(
            Path(place, "speedtest.xml"),
            format=settings.format,
            zarr_version=settings.zarr_version,
            levels=settings.levels,
            chunks=settings.chunks,
            compression=settings.compression,
            microscope="npy2bdv speedtest",
        ) as writer:
            shape = (n_planes, *settings.frame_shape)
            setups = [writer.add_setup(shape=shape, channel=n) for n in range(settings.n_channels)]
            views = [writer.stream(setup=setup) for setup in setups]
            begun = time.perf_counter()
            dropped, queue_peak = _feed(writer, views, frames, n_frames, rate)
            for view in views:
                view.close()
            writer.checkpoint()
            seconds = time.perf_counter() - begun
            writer.checkpoint(sync=True)
            seconds_synced = time.perf_counter() - begun
        on_disk = sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
    taken = n_frames - dropped
    return Run(
        frames=taken,
        dropped=dropped,
        bytes_in=taken * settings.frame_bytes,
        bytes_on_disk=on_disk,
        queue_peak=queue_peak,
        seconds=seconds,
        seconds_synced=seconds_synced,
    )


def _feed(
    writer: DatasetWriter, views: Sequence[ViewStream], frames: Frames, n_frames: int, rate: float | None
) -> tuple[int, int]:
    """Deliver frames as a camera does, or as fast as they are taken; return frames dropped and peak of the queue."""
    dropped = peak = 0
    begun = time.perf_counter()
    for n in range(n_frames):
        view, frame = views[n % len(views)], frames[n % len(frames)]
        if rate is None:
            view.append(frame)
        elif not _deliver(view, frame, begun + n / rate):
            dropped += 1
        peak = max(peak, writer.stats().bytes_queued)
    return dropped, peak


def _deliver(view: ViewStream, frame: NDArray[np.uint16], due: float) -> bool:
    """Give a frame to a view when the camera has it; tell whether it was taken."""
    early = due - time.perf_counter()
    if early > 0:
        time.sleep(early)
    elif early < -_CAMERA_SECONDS:  # the call before took so long that the camera needed the place
        return False
    try:
        view.append(frame, timeout=0)
    except QueueFull:
        return False
    return True


def _write_plain(folder: Path, frames: Frames, n_frames: int) -> Run:
    """Write the frames to a plain file and remove it."""
    with TemporaryDirectory(prefix=_PREFIX, dir=folder) as place, Path(place, "plain").open("wb") as file:
        begun = time.perf_counter()
        for n in range(n_frames):
            file.write(frames[n % len(frames)].data)
        file.flush()
        seconds = time.perf_counter() - begun
        os.fsync(file.fileno())
        seconds_synced = time.perf_counter() - begun
        size = file.tell()
    return Run(
        frames=n_frames, bytes_in=size, bytes_on_disk=size, seconds=seconds, seconds_synced=seconds_synced
    )
