"""``npy2bdv speedtest``: the recordings it makes, what it answers, what it leaves behind."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import npy2bdv
from npy2bdv.cli import main, speed
from npy2bdv.cli.speed import Run, Settings, SpeedTest, Trial, cheaper, measure, number_of_frames
from npy2bdv.errors import InvalidInputError, QueueFull
from npy2bdv.storage.hdf5level import Hdf5Level
from npy2bdv.stream import ViewStream
from npy2bdv.writer import DatasetWriter

SMALL = Settings(frame_shape=(48, 64), rate=10)


class Shown(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Shown]


@pytest.fixture
def speedtest(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*argv: object) -> Shown:
        status = main(["speedtest", *map(str, argv)])
        return Shown(status, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers must not depend on what else the disk has to do."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def made(frames: int = 100, dropped: int = 0, seconds: float = 1.0) -> Run:
    """A run, with frames of 1 MB that take 1.5 MB on disk."""
    return Run(
        frames=frames,
        dropped=dropped,
        bytes_in=frames * 10**6,
        bytes_on_disk=frames * 1_500_000,
        queue_peak=30_000_000,
        seconds=seconds / 2,
        seconds_synced=seconds,
    )


# -- the whole command -----------------------------------------------------------------------------------


def test_yes(speedtest: Command, tmp_path: Path) -> None:
    options = ("--shape", "48,64", "--rate", 10, "--seconds", 0.4, "--channels", 2, "--levels", "1,1,1 2,2,2")
    shown = speedtest(tmp_path, *options)
    assert (shown.status, shown.err) == (0, "")
    (answer,) = (line for line in shown.out.splitlines() if line.startswith(("Yes:", "No:")))
    assert answer.startswith("Yes: 10 frames/s hold, ")
    assert "headroom); no frame dropped; buffers held 0 of 268 MB at most." in answer
    assert "Camera: 48 x 64 pixels (y, x), uint16, 10 frames/s, 0 MB/s" in shown.out
    assert "hdf5, levels 1,1,1 2,2,2, blocks 4,256,256, compression none, channels 2" in shown.out
    assert f"three times into {tmp_path}" in shown.out
    rows = [line.split()[:-3] for line in shown.out.splitlines() if line.endswith(" ")]
    for row in ("at 10 frames/s", "as fast as possible", "plain file of the frames"):
        assert row.split() in rows
    assert "A frame of 0.00614 MB takes" in shown.out
    assert "tried" not in shown.out
    assert list(tmp_path.iterdir()) == []


def test_no(speedtest: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Hdf5Level.put_chunk

    def slow(self: Hdf5Level, *chunk: Any) -> None:
        time.sleep(0.15)
        put(self, *chunk)

    monkeypatch.setattr(Hdf5Level, "put_chunk", slow)
    shown = speedtest(tmp_path, "--shape", "48,64", "--rate", 80, "--seconds", 0.1, "--levels", "none")
    assert (shown.status, shown.err) == (2, "")  # 8 frames are 2 chunks, stored by two threads
    (answer,) = (line for line in shown.out.splitlines() if line.startswith(("Yes:", "No:")))
    assert "less than the 80 of the camera; no frame dropped" in answer
    for tried in ("--chunks 4,512,512", "--compression gzip"):
        assert f"{tried} " in shown.out
    assert "None of these holds. Use a faster disk" in shown.out
    assert "The disk is too slow" not in shown.out  # the plain file is not slowed down
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--shape", "2048", "--shape '2048' is not understood; write integers y,x: \"2048,2048\""),
        ("--shape", "2048,0", "a frame has a size y,x of at least 1; found (2048, 0)"),
        ("--rate", "0", "a camera delivers more than 0 frames a second; found 0.0"),
        ("--rate", "nan", "found nan"),
        ("--seconds", "-1", "a recording lasts more than 0 seconds; found -1.0"),
        ("--channels", "0", "there is at least 1 channel; found 0"),
        ("--format", "tiff", "format 'tiff' is not known; there is 'hdf5'"),
        ("--levels", "2,2", "write integers z,y,x"),
        ("--levels", "0,1,1", "at least 1"),
        ("--compression", "zip", "compression 'zip' is not known"),
        ("--chunks", "4,65536,65536", "choose a smaller one"),
    ],
)
def test_bad_options_are_refused(
    speedtest: Command, tmp_path: Path, option: str, value: str, message: str
) -> None:
    shown = speedtest(tmp_path, option, value)
    assert (shown.status, shown.out) == (1, "")
    assert shown.err.startswith("npy2bdv: ")
    assert message in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(speedtest: Command, tmp_path: Path) -> None:
    shown = speedtest(tmp_path / "nix")
    assert shown.status == 1
    assert f"the folder {tmp_path / 'nix'} does not exist; create it first" in shown.err
    assert not (tmp_path / "nix").exists()


def test_too_little_space_is_refused(
    speedtest: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * 10**9))
    monkeypatch.setattr(speed, "camera_frames", lambda shape: pytest.fail("it goes on"))
    shown = speedtest(tmp_path, "--levels", "none", "--seconds", 10)
    assert shown.status == 1
    assert f"needs 8.7 GB in {tmp_path}, where 2.0 GB are free; make room, or write less" in shown.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
@pytest.mark.parametrize(
    "where", [(Hdf5Level, "put_chunk"), (ViewStream, "append"), (DatasetWriter, "checkpoint")]
)
def test_nothing_is_left_after_an_error(
    speedtest: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    message: str,
    where: tuple[type, str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        assert any(tmp_path.iterdir())
        raise error

    monkeypatch.setattr(*where, fail)
    shown = speedtest(tmp_path, "--shape", "48,64", "--rate", 100, "--seconds", 0.1)
    if where == (Hdf5Level, "put_chunk"):
        status = 1  # of a thread of its own, where there is no Ctrl-C
    assert shown.status == status
    assert shown.err.count("\n") == 1
    if shown.status != 1 or isinstance(error, OSError):
        assert message in shown.err
    assert list(tmp_path.iterdir()) == []


# -- what is recorded ------------------------------------------------------------------------------------


def test_the_recording_is_a_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SMALL, rate=1000, n_channels=2, levels=((1, 1, 1), (1, 2, 2)), compression="gzip")
    found: list[list[tuple[str, Any]]] = []
    close = DatasetWriter.close

    def look(self: DatasetWriter) -> None:
        close(self)
        if len(found) < 2:  # as the camera delivers, and as fast as possible
            with npy2bdv.open(self.path_xml) as dataset:
                found.append([(view.level(1).compression, view[...]) for view in dataset.views()])

    monkeypatch.setattr(DatasetWriter, "close", look)
    frames = speed.camera_frames((48, 64))
    measure(tmp_path, settings, n_frames=20)
    assert len(found) == 2
    for views in found:
        for channel, (compression, pixels) in enumerate(views):
            assert "gzip" in compression
            np.testing.assert_array_equal(pixels, [frames[n % len(frames)] for n in range(channel, 20, 2)])


def test_frames_are_those_of_a_camera() -> None:
    frames = speed.camera_frames((48, 64))
    assert len({frame.tobytes() for frame in frames}) == len(frames) >= 4
    for frame in frames:
        assert (frame.shape, frame.dtype) == ((48, 64), np.dtype("uint16"))
        assert frame.flags.c_contiguous
        assert frame.min() > 0  # an offset
        assert np.std(np.diff(frame.astype(float))) > 3  # noise


def test_frames_come_at_the_rate_of_the_camera(tmp_path: Path) -> None:
    test = measure(tmp_path, replace(SMALL, rate=20), n_frames=6)
    paced, fastest = test.asked.paced, test.asked.fastest
    assert paced.seconds >= 5 / 20
    assert fastest.seconds < 5 / 20
    assert (paced.frames, fastest.frames, test.raw.frames) == (6, 6, 6)
    assert (
        paced.bytes_in == fastest.bytes_in == test.raw.bytes_in == test.raw.bytes_on_disk == 6 * 48 * 64 * 2
    )
    assert paced.queue_peak >= 48 * 64 * 2
    assert 0 < paced.seconds <= paced.seconds_synced


@pytest.mark.parametrize("levels", [((1, 1, 1),), ((1, 1, 1), (2, 2, 2)), "auto"])
def test_the_space_needed_is_known_before(tmp_path: Path, levels: Any) -> None:
    settings = replace(SMALL, levels=levels, n_channels=2, chunks=((3, 32, 40),))
    test = measure(tmp_path, replace(settings, rate=1000), n_frames=8)
    metadata = test.asked.fastest.bytes_on_disk - settings.stored_bytes(8)
    assert 0 < metadata < 50_000


def test_a_frame_without_room_is_dropped(
    speedtest: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    append = ViewStream.append

    def sometimes(self: ViewStream, frame: Any, *, timeout: float | None = None) -> None:
        nonlocal calls
        calls += 1
        if timeout == 0 and calls % 3 == 0:
            raise QueueFull("no room")
        append(self, frame, timeout=timeout)

    monkeypatch.setattr(ViewStream, "append", sometimes)
    shown = speedtest(tmp_path, "--shape", "48,64", "--rate", 10, "--seconds", 0.6, "--levels", "none")
    assert shown.status == 2
    assert "No: 2 of 6 frames dropped, though " in shown.out
    assert list(tmp_path.iterdir()) == []


def test_frames_that_a_camera_cannot_keep_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = ViewStream.append

    def pause(self: ViewStream, frame: Any, *, timeout: float | None = None) -> None:
        if timeout == 0 and not self.planes_there:
            time.sleep(0.2)
        append(self, frame, timeout=timeout)

    monkeypatch.setattr(ViewStream, "append", pause)
    monkeypatch.setattr(speed, "_CAMERA_SECONDS", 0.05)
    run = measure(tmp_path, replace(SMALL, rate=100), n_frames=30).asked.paced
    assert run.dropped >= 14  # those due from 0.01 s to 0.15 s, when 0.2 s are over
    assert run.frames + run.dropped == 30
    monkeypatch.setattr(speed, "_CAMERA_SECONDS", 60.0)
    assert measure(tmp_path, replace(SMALL, rate=100), n_frames=30).asked.paced.dropped == 0


# -- how much is recorded, what is tried -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "rate", "channels", "expected"),
    [
        (10**9, 100, 1, 2000),  # 2 GB of frames of 1 MB
        (10**9, 1, 1, 60),  # a minute at most
        (10**6, 100, 1, 500),  # five seconds at least
        (10**9, 100, 3, 2001),  # as many for each channel
    ],
)
def test_length_without_wish(
    monkeypatch: pytest.MonkeyPatch, limit: int, rate: float, channels: int, expected: int
) -> None:
    monkeypatch.setattr(speed, "_page_cache_limit", lambda: limit)
    settings = Settings(frame_shape=(500, 1000), rate=rate, n_channels=channels)
    assert number_of_frames(settings) == expected


def test_length_as_wished() -> None:
    assert number_of_frames(SMALL, 2.5) == 25
    assert number_of_frames(SMALL, 0.001) == 1
    assert number_of_frames(replace(SMALL, n_channels=4), 0.001) == 4
    with pytest.raises(InvalidInputError, match="more than 0 seconds; found inf"):
        number_of_frames(SMALL, float("inf"))


def test_the_limit_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/sys/vm/dirty_bytes": "0\n",
        "/proc/sys/vm/dirty_ratio": "20\n",
        "/proc/meminfo": "MemTotal: 20 kB\nMemAvailable:   1000 kB\n",
    }

    def read(path: Path, *_: object, **__: object) -> str:
        try:
            return files[path.as_posix()]
        except KeyError:
            raise FileNotFoundError(path) from None

    monkeypatch.setattr(Path, "read_text", read)
    assert speed._page_cache_limit() == 204_800
    files["/proc/sys/vm/dirty_bytes"] = "123456\n"
    assert speed._page_cache_limit() == 123_456
    files.clear()
    assert speed._page_cache_limit() == 2 * 2**30


def test_cheaper_settings() -> None:
    full = replace(SMALL, levels=((1, 1, 1), (2, 2, 2)), compression="gzip")
    tried = list(cheaper(full))
    assert len({*tried, full}) == 6
    assert tried[0] == replace(full, chunks=((4, 512, 512),))
    assert replace(full, compression=None) in tried
    assert replace(full, levels=((1, 1, 1),), compression=None) in tried
    # for a disk that is too slow compression is worth a try
    assert list(cheaper(SMALL)) == [
        replace(SMALL, chunks=((4, 512, 512),)),
        replace(SMALL, compression="gzip"),
    ]


# -- what is said ----------------------------------------------------------------------------------------

PLAN = Settings(frame_shape=(500, 1000), rate=100, levels=((1, 1, 1), (1, 2, 2)))


def trial(settings: Settings = PLAN, *, seconds: float, dropped: int = 0) -> Trial:
    """Of 100 frames a second."""
    return Trial(settings=settings, paced=made(100 - dropped, dropped), fastest=made(seconds=seconds))


@pytest.mark.parametrize(
    ("seconds", "dropped", "holds", "headroom"),
    [(0.5, 0, True, 1.0), (1.0, 0, True, 0.0), (2.0, 0, False, -0.5), (0.5, 1, False, 1.0)],
)
def test_what_holds(seconds: float, dropped: int, holds: bool, headroom: float) -> None:
    found = trial(seconds=seconds, dropped=dropped)
    assert found.holds == holds
    assert found.headroom == pytest.approx(headroom)


@pytest.mark.parametrize(
    ("asked", "raw", "others", "texts"),
    [
        (
            trial(seconds=0.8),
            made(seconds=0.5),
            [],
            [
                "Yes: 100 frames/s hold, 125 frames/s would (25% headroom); no frame dropped; "
                "buffers held 30 of 268 MB at most.",
                "as fast as possible 250 125 125",
                "A frame of 1 MB takes 1.5 MB on disk, levels included.",
            ],
        ),
        (
            trial(seconds=2.0, dropped=40),
            made(seconds=0.5),
            [
                trial(replace(PLAN, compression="gzip"), seconds=4.0, dropped=70),
                trial(replace(PLAN, levels=((1, 1, 1),)), seconds=0.8),
            ],
            [
                "No: 50 frames/s hold, 50% less than the 100 of the camera; 40 of 100 frames dropped; buffers",
                "--compression gzip does not hold 25 70",
                "--levels none holds 125 0",
                "Levels can be made afterwards: npy2bdv convert SCAN.xml WITH-LEVELS.xml --levels auto",
            ],
        ),
        (
            trial(seconds=2.0),
            made(seconds=1.6),
            [trial(replace(PLAN, compression=("gzip", 3), chunks=((8, 64, 64),)), seconds=0.9)],
            [
                "The disk is too slow: it took 94 MB/s at best, the camera delivers 100 MB/s.",
                "--compression gzip:3 --chunks 8,64,64 holds 111 0",
            ],
        ),
        (
            trial(seconds=0.8, dropped=3),
            made(seconds=0.5),
            [trial(replace(PLAN, compression="gzip"), seconds=0.8, dropped=1)],
            [
                "No: 3 of 100 frames dropped, though 125 frames/s hold on average (the disk or the computer pauses)",
                "None of these holds.",
            ],
        ),
    ],
)
def test_answers(
    speedtest: Command,
    monkeypatch: pytest.MonkeyPatch,
    asked: Trial,
    raw: Run,
    others: list[Trial],
    texts: list[str],
) -> None:
    test = SpeedTest(asked=asked, raw=raw, cheaper=tuple(others))
    monkeypatch.setattr(speed, "measure", lambda *_, **__: test)
    shown = speedtest("there", "--shape", "500,1000")
    assert shown.status == (0 if asked.holds else 2)
    out = "\n".join(" ".join(line.split()) for line in shown.out.splitlines())
    for text in texts:
        assert text in out
    for text in ("The disk is too slow", "None of these", "Levels can be made"):
        assert (text in out) == any(text in expected for expected in texts)
