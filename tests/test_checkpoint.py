"""Checkpoints: what they count, what they write, and that frames go on coming meanwhile."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npy2bdv
from npy2bdv.engine import Stats
from npy2bdv.errors import ClosedError, ExistsError, InUseError, WriteError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.hdf5 import Hdf5Container
from npy2bdv.storage.hdf5level import Hdf5Level
from npy2bdv.storage.journal import Journal, journal_path, planes_path, read_records
from npy2bdv.stream import ViewStream

SHAPE = (12, 20, 30)
FRAME = np.full(SHAPE[1:], 7, "uint16")
KINDS = pytest.mark.parametrize("compression", [None, "gzip"])


def wait_until(condition: Any, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def as_it_lies(folder: Path) -> Path:
    """Copy the files of a recording, as a kill would leave them; HDF5 would know the open one again."""
    copy = folder / "copy"
    copy.mkdir()
    for path in folder.glob("a.*"):
        if path.suffix != ".lock":
            shutil.copy(path, copy)
    return copy


def checkpoints_in(path_xml: Path) -> int:
    records = read_records(journal_path(path_xml.with_suffix(".h5")))
    return sum(record.kind == "done" for record in records)


@KINDS
def test_counts_of_each_view(tmp_path: Path, compression: str | None) -> None:
    with npy2bdv.create(tmp_path / "a.xml", chunks=(4, 16, 16), compression=compression) as writer:
        setups = [writer.add_setup(shape=SHAPE, channel=i) for i in range(3)]
        assert writer.checkpoint() == {}
        writer.write(np.ones(SHAPE, "uint16"), setup=setups[0])
        with writer.stream(setup=setups[0], time=1) as short:
            short.put(FRAME[None], 2)
            short.put(FRAME[None], 9)
        views = [writer.stream(setup=setup) for setup in setups[1:]]
        for _ in range(5):
            views[0].append(FRAME)
        assert writer.checkpoint() == {
            ViewId(0, 0): 12,
            ViewId(1, 0): 2,  # complete, and let go of, with planes that never came
            ViewId(0, 1): 5,
            ViewId(0, 2): 0,
        }
    with pytest.raises(ClosedError, match="is closed"):
        writer.checkpoint()


@KINDS
def test_all_is_in_the_file_while_it_is_written(tmp_path: Path, compression: str | None) -> None:
    """The XML names all views; a reader finds full rows, and without compression every plane."""
    path = tmp_path / "a.xml"
    with npy2bdv.create(path, chunks=(4, 16, 16), compression=compression) as writer:
        setups = [writer.add_setup(shape=SHAPE, channel=i) for i in range(2)]
        first = writer.stream(setup=setups[0])
        assert path.is_file()  # from the first view on
        for z in range(6):
            first.append(FRAME + np.uint16(z))
        writer.stream(setup=setups[1])
        writer.checkpoint()
        copy = as_it_lies(tmp_path)
        with npy2bdv.open(copy / "a.xml") as dataset:
            assert [view.id for view in dataset.views()] == [(0, 0), (0, 1)]
        with h5py.File(copy / "a.h5") as file:
            found = file["t00000/s00/0/cells"][:, 3, 5].tolist()
        assert found == [7, 8, 9, 10, *((11, 12) if compression is None else (0, 0)), *[0] * 6]
        assert planes_path(path.with_suffix(".h5")).exists() == (compression is not None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.xml", "copy"]


def test_an_older_xml_stays_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    with npy2bdv.create(path) as writer:
        writer.write(np.ones((1, 2, 3), "uint16"), setup=writer.add_setup(shape=(1, 2, 3)))
    old = path.read_bytes()
    with npy2bdv.create(path, overwrite=True) as writer:
        writer.write(np.ones(SHAPE, "uint16"), setup=writer.add_setup(shape=SHAPE))
        for _ in range(3):
            writer.checkpoint()
        assert path.read_bytes() == old
        with npy2bdv.open(as_it_lies(tmp_path) / "a.recording.xml") as dataset:
            assert dataset.view()[...].all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.xml", "a.xml~1", "copy"]
    assert (tmp_path / "a.xml~1").read_bytes() == old


def test_by_time(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    with npy2bdv.create(path, checkpoint_seconds=0.01) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        time.sleep(0.05)
        assert not checkpoints_in(path), "nothing came, there is nothing to do"
        view.append(FRAME)
        wait_until(lambda: checkpoints_in(path) == 1)
        time.sleep(0.05)
        assert checkpoints_in(path) == 1
        view.append(FRAME)
        wait_until(lambda: checkpoints_in(path) == 2)


def test_by_bytes_and_not_in_the_callers_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.xml"
    threads: set[str] = set()
    flush = Hdf5Container.flush

    def watched(self: Hdf5Container, *, sync: bool = False) -> None:
        threads.add(threading.current_thread().name)
        flush(self, sync=sync)

    with npy2bdv.create(path, checkpoint_bytes=4 * FRAME.nbytes, checkpoint_seconds=1000) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        monkeypatch.setattr(Hdf5Container, "flush", watched)
        for _ in range(3):
            view.append(FRAME)
        time.sleep(0.05)
        assert not checkpoints_in(path)
        view.append(FRAME)
        wait_until(lambda: checkpoints_in(path) == 1)
        assert threads == {"npy2bdv-clock"}
        monkeypatch.undo()


def test_few_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each view that is declared, one for each checkpoint; none for a plane or a row."""
    flushes: list[bool] = []
    flush = Hdf5Container.flush

    def counted(self: Hdf5Container, *, sync: bool = False) -> None:
        flushes.append(sync)
        flush(self, sync=sync)

    monkeypatch.setattr(Hdf5Container, "flush", counted)
    with npy2bdv.create(tmp_path / "a.xml", chunks=(4, 16, 16), compression="gzip") as writer:
        setup = writer.add_setup(shape=SHAPE)
        for t in range(3):
            writer.write(np.ones(SHAPE, "uint16"), setup=setup, time=t)
        assert flushes == [False] * 3
        view = writer.stream(setup=setup, time=3)
        for _ in range(SHAPE[0]):
            view.append(FRAME)
        assert flushes == [False] * 4
        writer.checkpoint()
        writer.checkpoint(sync=True)
        assert flushes == [False] * 5 + [True]


def test_sync_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def counted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    pixels = tmp_path / "a.h5"
    with npy2bdv.create(pixels, compression="gzip") as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.append(FRAME)
        monkeypatch.setattr(os, "fsync", counted)
        writer.checkpoint()
        assert not synced
        writer.checkpoint(sync=True)
        files = (pixels, journal_path(pixels), planes_path(pixels))
        assert {path.stat().st_ino for path in files} <= set(synced)
        monkeypatch.undo()


def test_the_pixels_are_synced_before_the_journal_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    flush, add = Hdf5Container.flush, Journal.add

    def flushed(self: Hdf5Container, *, sync: bool = False) -> None:
        order.append("pixels")
        flush(self, sync=sync)

    def added(self: Journal, kind: str, *rest: Any) -> None:
        order.append(kind)
        add(self, kind, *rest)

    with npy2bdv.create(tmp_path / "a.xml", compression="gzip") as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.append(FRAME)
        monkeypatch.setattr(Hdf5Container, "flush", flushed)
        monkeypatch.setattr(Journal, "add", added)
        writer.checkpoint()
        assert order == ["mark", "pixels", "plne", "done"]
        monkeypatch.undo()


@KINDS
def test_frames_come_while_a_checkpoint_waits(
    tmp_path: Path, compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk stands still, a checkpoint waits for it; frames are taken at once as long as there is room."""
    gate, put = threading.Event(), Hdf5Level.put_chunk

    def held_up(self: Hdf5Level, *rest: Any) -> None:
        assert gate.wait(20)
        put(self, *rest)

    monkeypatch.setattr(Hdf5Level, "put_chunk", held_up)
    with npy2bdv.create(tmp_path / "a.xml", chunks=(4, 16, 16), compression=compression) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(40, *SHAPE[1:])))
        for _ in range(6):
            view.append(FRAME)
        counts: list[dict[ViewId, int]] = []
        checkpoint = threading.Thread(target=lambda: counts.append(writer.checkpoint()))
        checkpoint.start()
        time.sleep(0.05)
        for z in range(6, 11):
            begun = time.monotonic()
            view.append(FRAME, timeout=0)
            assert time.monotonic() - begun < 1
            assert view.planes_there == z + 1
        assert checkpoint.is_alive()
        gate.set()
        checkpoint.join()
        assert counts == [{ViewId(0, 0): 6}]
        assert writer.checkpoint() == {ViewId(0, 0): 11}
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view()[:, 3, 3].tolist() == [7] * 11 + [0] * 29


def test_a_row_that_is_stored_in_part_comes_before_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint stores an open row, slowly; meanwhile it becomes full."""
    begun, store = threading.Event(), ViewStream._store_open

    def slowly(self: ViewStream, *rest: Any) -> None:
        begun.set()
        time.sleep(0.1)
        store(self, *rest)

    with npy2bdv.create(tmp_path / "a.xml", chunks=(4, 16, 16)) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.append(FRAME)
        monkeypatch.setattr(ViewStream, "_store_open", slowly)
        checkpoint = threading.Thread(target=writer.checkpoint)
        checkpoint.start()
        assert begun.wait(10)
        for _ in range(3):
            view.append(FRAME)
        checkpoint.join()
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view()[:, 3, 3].tolist() == [7] * 4 + [0] * 8


@KINDS
def test_planes_that_are_replaced_in_an_open_row(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.xml"
    with npy2bdv.create(path, chunks=(4, 16, 16), compression=compression) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        for value in (1, 2, 3):
            view.put(FRAME[None] + np.uint16(value), 1)
            assert writer.checkpoint() == {ViewId(0, 0): 1}
    with npy2bdv.open(path) as dataset:
        assert dataset.view()[:3, 0, 0].tolist() == [0, 10, 0]


def test_checkpoints_from_several_threads(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml", chunks=(4, 16, 16), compression="gzip") as writer:
        view = writer.stream(setup=writer.add_setup(shape=(100, *SHAPE[1:])))
        counts: list[list[int]] = [[], [], []]

        def ask(found: list[int]) -> None:
            while not found or found[-1] < 100:
                found += writer.checkpoint().values()

        threads = [threading.Thread(target=ask, args=(found,)) for found in counts]
        for thread in threads:
            thread.start()
        for _ in range(100):
            view.append(FRAME)
        for thread in threads:
            thread.join()
        assert all(found == sorted(found) and found[-1] == 100 for found in counts)


# ------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("failing", ["put_chunk", "encode"])
@KINDS
def test_a_full_disk(
    tmp_path: Path, compression: str | None, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It surfaces in the next call, and at the end; what was acknowledged before is there."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.xml"
    options: Any = {"chunks": (4, 16, 16), "levels": ((1, 1, 1), (2, 2, 2)), "compression": compression}
    writer = npy2bdv.create(path, **options)
    view = writer.stream(setup=writer.add_setup(shape=(100, *SHAPE[1:])))
    for z in range(9):
        view.append(FRAME + np.uint16(z))
    assert writer.checkpoint() == {ViewId(0, 0): 9}
    monkeypatch.setattr(Hdf5Level, failing, full)

    def go_on() -> None:
        while True:
            view.append(FRAME)
            time.sleep(0.001)

    with pytest.raises(WriteError, match="No space left on device") as caught:
        go_on()
    assert isinstance(caught.value.__cause__, OSError)
    assert view.planes_there < 100
    for call in (lambda: view.append(FRAME), writer.checkpoint, writer.close):
        with pytest.raises(WriteError, match="No space left on device"):
            call()
    monkeypatch.undo()
    writer.close()  # nothing more happens
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("npy2bdv")]
    path.with_suffix(".h5").rename(tmp_path / "b.h5")  # where it is still open, Windows refuses
    (tmp_path / "b.h5").rename(path.with_suffix(".h5"))

    (report,) = npy2bdv.recover(path)
    assert (report.planes, report.missing) == (9, ((9, 100),))
    with npy2bdv.open(path) as dataset:
        pixels = dataset.view()[...]
        assert pixels[:9, 0, 0].tolist() == list(range(7, 16))
        assert (dataset.view().level(1)[...] == npy2bdv.downsample(pixels, (2, 2, 2))).all()


def test_the_callers_own_error_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def record() -> None:
        with npy2bdv.create(tmp_path / "a.xml") as writer:
            setup = writer.add_setup(shape=SHAPE)
            monkeypatch.setattr(Hdf5Level, "put_chunk", full)
            with writer.stream(setup=setup) as view:
                view.append(FRAME)
                raise ZeroDivisionError("the stage is stuck")

    with pytest.raises(ZeroDivisionError, match="the stage is stuck"):
        record()
    assert "No space left on device" in caplog.text


def test_a_checkpoint_that_fails_is_logged_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(self: Journal, kind: str, *rest: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.xml"
    with npy2bdv.create(path, checkpoint_seconds=0.01) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        monkeypatch.setattr(Journal, "add", failing)
        view.append(FRAME)
        wait_until(lambda: "a checkpoint failed" in caplog.text)
        with pytest.raises(OSError, match="No space left"):
            writer.checkpoint()
        monkeypatch.undo()
        view.append(FRAME)
        assert writer.checkpoint() == {ViewId(0, 0): 2}


def test_figures_are_shown_and_a_failing_display_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[Stats] = []
    path = tmp_path / "a.xml"

    def show(stats: Stats) -> None:
        shown.append(stats)
        if len(shown) == 3:
            raise ZeroDivisionError("the window is gone")

    with npy2bdv.create(path, checkpoint_seconds=0.02, on_stats=show) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        for _ in range(3):
            view.append(FRAME)
        wait_until(lambda: "the window is gone" in caplog.text)
        assert len(shown) == 3
        assert shown[-1].frames == 3
        view.append(FRAME)
        before = checkpoints_in(path)
        view.append(FRAME)
        wait_until(lambda: checkpoints_in(path) > before)
        assert len(shown) == 3


def test_figures(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml", levels=((1, 1, 1), (2, 2, 2))) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        for _ in range(5):
            view.append(FRAME)
        view.put(np.stack([FRAME] * 7), 5)
        view.close()
        writer.store()
        stats = writer.stats()
        assert (stats.frames, stats.bytes_in) == (12, 12 * FRAME.nbytes)
        # whole chunks are stored: 3 of depth 4, and 2 (6 planes of half the size)
        assert stats.bytes_out == 3 * 4 * FRAME.nbytes + 2 * 4 * FRAME.nbytes // 4
        assert 0 <= stats.bytes_queued <= stats.max_memory == 256 * 2**20
        assert stats.seconds > 0
        assert stats.headroom_seconds > 0
        assert stats.rate >= 0


# ------------------------------------------------------------------------------------------------- the lock

_HOLD = """
import sys, npy2bdv, numpy as np
writer = npy2bdv.create(sys.argv[1])
view = writer.stream(setup=writer.add_setup(shape=(2, 3, 4)))
view.append(np.ones((3, 4), "uint16"))
writer.checkpoint()
print("recording", flush=True)
sys.stdin.read()
"""


def test_one_writer_for_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    words = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "recording\n"
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.suffix != ".lock"}
        with pytest.raises(InUseError, match=rf"is being written by process {other.pid} on .* since 20"):
            npy2bdv.create(path, overwrite=True)
        with pytest.raises(InUseError, match=rf"process {other.pid} "):
            npy2bdv.recover(path)
        with pytest.raises(ExistsError, match="already exists"):
            npy2bdv.create(path)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.suffix != ".lock"} == before
        with npy2bdv.open(path) as dataset:  # reading is no obstacle
            assert dataset.view()[0, 0, 0] == 1
        other.kill()
    with pytest.raises(ExistsError, match="already exists"):
        npy2bdv.create(path)
    with npy2bdv.create(path, overwrite=True) as writer:  # in spite of the journal and the lock file
        writer.write(np.ones((1, 2, 3), "uint16"), setup=writer.add_setup(shape=(1, 2, 3)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.xml", "a.xml~1"]


def test_one_writer_within_a_process(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml"), pytest.raises(InUseError, match=f"process {os.getpid()} "):
        npy2bdv.create(tmp_path / "a.xml", overwrite=True)


def test_checks_remain_without_assertions(tmp_path: Path) -> None:
    """Under ``python -O``."""
    code = """
import sys, numpy as np, npy2bdv
assert False, "not optimised"
def refused(error, call):
    try:
        call()
    except error:
        return
    sys.exit(f"{error} was not raised")
writer = npy2bdv.create(sys.argv[1], checkpoint_seconds=0.01)
setup = writer.add_setup(shape=(2, 3, 4))
view = writer.stream(setup=setup)
plane = np.ones((3, 4), "uint16")
refused(ValueError, lambda: view.append(plane[None]))
refused(TypeError, lambda: view.append(plane * 1.5))
refused(IndexError, lambda: view.put(plane[None], 2))
refused(IndexError, lambda: view.put(plane[None], -1))
refused(ValueError, lambda: view.put(np.ones((3, 3, 4), "uint16"), 0))
refused(FileExistsError, lambda: writer.stream(setup=setup))
refused(KeyError, lambda: writer.stream(setup=9))
view.append(plane)
view.append(plane)
refused(IndexError, lambda: view.append(plane))
if writer.checkpoint() != {(0, 0): 2}:
    sys.exit("wrong count")
writer.close()
refused(RuntimeError, writer.checkpoint)
refused(RuntimeError, lambda: view.append(plane))
"""
    words = [sys.executable, "-O", "-W", "error", "-c", code, str(tmp_path / "a.xml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
