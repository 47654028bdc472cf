"""Bounded memory: a disk that is too slow, callers that do not wait, arrays that are handed over."""

import gc
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import QueueFull, WriteError
from npy2bdv.storage.hdf5level import Hdf5Level

PLANE = (64, 64)
FRAME_BYTES = 64 * 64 * 2
CHUNK = (4, 32, 32)


class Gate:
    """A disk that stands still while the gate is shut, or takes its time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._open = threading.Event()
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        assert self._open.wait(20)
        time.sleep(self.seconds)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate, put = Gate(), Hdf5Level.put_chunk

    def held_up(self: Hdf5Level, *rest: Any) -> None:
        gate.pass_through()
        put(self, *rest)

    monkeypatch.setattr(Hdf5Level, "put_chunk", held_up)
    yield gate
    gate.open()


def frame(z: int, view: int = 0) -> NDArray[np.uint16]:
    return np.full(PLANE, z + 1 + 1000 * view, "uint16")


@pytest.mark.parametrize("timeout", [0, 0.05])
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("depth", [1, 4])
def test_frames_that_find_no_room(
    disk: Gate, tmp_path: Path, timeout: float, compression: str | None, depth: int
) -> None:
    """The caller drops them; they are missing planes, and the recording goes on."""
    path = tmp_path / "a.xml"
    limit = 20 * FRAME_BYTES
    with npy2bdv.create(path, max_memory=limit, chunks=(depth, 32, 32), compression=compression) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(200, *PLANE)))
        disk.shut()
        messages: list[str] = []
        taken: list[int] = []
        z = 0
        while len(messages) < 5:
            begun = time.monotonic()
            try:
                view.append(frame(z), timeout=timeout)
            except QueueFull as error:
                messages.append(str(error))
                assert timeout <= time.monotonic() - begun < timeout + 1
            else:
                taken.append(z)
                z += 1
        assert view.planes_there == len(taken) == z < 200
        assert f"of {limit} bytes needed" in messages[0]
        assert f"this frame was not taken, {z} were" in messages[0]
        assert writer.stats().frames == z
        disk.open()
        view.put(frame(z + 3)[None], z + 3)  # as the caller numbers them: three were dropped
        while z + 4 < 100:
            view.append(frame(z + 4))
            z += 1
    lost = [(len(taken), len(taken) + 3), (100, 200)]
    with npy2bdv.open(path) as dataset:
        expected = [0 if any(a <= z < b for a, b in lost) else z + 1 for z in range(200)]
        assert dataset.view()[:, 3, 60].tolist() == expected
    with h5py.File(path.with_suffix(".h5")) as file:
        assert file["t00000/s00"].attrs["npy2bdv_missing_planes"].tolist() == [list(run) for run in lost]


def test_a_complete_view_has_no_note_of_missing_planes(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.h5") as writer:
        writer.write(np.ones((5, *PLANE), "uint16"), setup=writer.add_setup(shape=(5, *PLANE)))
    with h5py.File(tmp_path / "a.h5") as file:
        assert "npy2bdv_missing_planes" not in file["t00000/s00"].attrs


def test_a_block_is_taken_whole_or_not_at_all(disk: Gate, tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml", max_memory=20 * FRAME_BYTES, chunks=CHUNK) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(100, *PLANE)))
        disk.shut()
        view.put(np.stack([frame(z) for z in range(10)]), 0, timeout=0)
        with pytest.raises(QueueFull, match="this frame was not taken, 10 were"):
            view.put(np.stack([frame(z) for z in range(10, 30)]), 10, timeout=0.01)
        assert view.planes_there == 10
        disk.open()
        view.put(np.stack([frame(z) for z in range(10, 100)]), 10, timeout=10)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view()[:, 0, 0].tolist() == list(range(1, 101))


def test_a_row_that_is_being_written_is_not_waited_for(disk: Gate, tmp_path: Path) -> None:
    """A plane that replaces an earlier one needs what is stored of its row."""
    with npy2bdv.create(tmp_path / "a.xml", chunks=CHUNK) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(8, *PLANE)))
        disk.shut()
        for z in range(4):
            view.append(frame(z))
        with pytest.raises(QueueFull, match="row that is being written; this frame was not taken"):
            view.put(frame(50)[None], 2, timeout=0)
        disk.open()
        view.put(frame(50)[None], 2, timeout=10)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view()[:4, 0, 0].tolist() == [1, 2, 51, 4]


def test_without_timeout_the_caller_waits(disk: Gate, tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml", max_memory=20 * FRAME_BYTES, chunks=CHUNK) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(100, *PLANE)))
        disk.shut()

        def record() -> None:
            for z in range(100):
                view.append(frame(z))

        camera = threading.Thread(target=record)
        camera.start()
        time.sleep(0.2)
        stuck = view.planes_there
        assert 4 <= stuck < 30
        time.sleep(0.1)
        assert view.planes_there == stuck
        with pytest.raises(QueueFull, match="the writer is busy with another frame; this one was not taken"):
            view.append(frame(0), timeout=0.01)
        disk.open()
        camera.join()
        assert view.planes_there == 100
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view()[:, 9, 9].tolist() == list(range(1, 101))


@pytest.mark.parametrize("copy", [True, False])
def test_memory_stays_within_its_bound(disk: Gate, tmp_path: Path, copy: bool) -> None:
    """Frames come faster than the disk takes them, into 8 views that are open at once."""
    limit = 2 * 2**20
    size = (256, 256)
    peak_queued = 0
    options: Any = {"levels": ((1, 1, 1), (2, 2, 2)), "chunks": (4, 64, 64), "max_memory": limit}
    disk.seconds = 0.0005
    with npy2bdv.create(tmp_path / "a.xml", **options) as writer:
        setups = [writer.add_setup(shape=(12, *size), channel=i) for i in range(8)]
        views = [writer.stream(setup=setup) for setup in setups]
        gc.collect()
        tracemalloc.start()
        try:
            for z in range(12):
                for i, view in enumerate(views):
                    view.append(np.full(size, 20 * i + z + 1, "uint16"), copy=copy)
                    peak_queued = max(peak_queued, writer.stats().bytes_queued)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    rows = 2 * 4 * 256 * 256 * 2  # of each level of the view being written, see Engine
    assert peak_queued <= limit + rows
    assert peak < 3 * limit
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        for i in range(8):
            expected = np.arange(12) + 20 * i + 1
            found = dataset.view(setup=i)
            assert found[:, 7, 7].tolist() == expected.tolist()
            whole = np.broadcast_to(expected[:, None, None], (12, 2, 2)).astype("uint16")
            assert (found.level(1)[:, :1, :1] == npy2bdv.downsample(whole, (2, 2, 2))).all()


@pytest.mark.parametrize("how", ["write", "close"])
def test_a_view_that_waits_for_the_disk_does_not_hold_up_another(
    disk: Gate, tmp_path: Path, how: str
) -> None:
    """A whole stack is being written, or a view completed: another camera's frames are taken meanwhile."""
    with npy2bdv.create(tmp_path / "a.xml", chunks=(4, 64, 64)) as writer:
        setups = [writer.add_setup(shape=(80, 64, 64), channel=i) for i in range(2)]
        live = writer.stream(setup=setups[1])
        stack = np.arange(80 * 64 * 64, dtype="uint16").reshape(80, 64, 64)
        if how == "write":
            slow = threading.Thread(target=partial(writer.write, stack, setup=setups[0]))
        else:
            view = writer.stream(setup=setups[0])
            for plane in stack[:7]:
                view.append(plane)
            slow = threading.Thread(target=view.close)
        disk.shut()
        slow.start()
        time.sleep(0.1)
        for z in range(20):
            live.append(stack[z], timeout=0.5)
        assert slow.is_alive()
        disk.open()
        slow.join()
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        there = 80 if how == "write" else 7
        assert (dataset.view(setup=0)[:there] == stack[:there]).all()
        assert (dataset.view(setup=1)[:20] == stack[:20]).all()


def test_lower_levels_of_many_views_are_put_aside(tmp_path: Path) -> None:
    """Each view has got one row: nothing of its full resolution waits, but half a row of its lower level."""
    limit, peak = 2 * 2**20, 0
    options: Any = {"levels": ((1, 1, 1), (2, 2, 2)), "chunks": (4, 64, 64), "max_memory": limit}
    rng = np.random.default_rng(0)
    stacks = rng.integers(0, 60000, (40, 8, 256, 256), "uint16")
    with npy2bdv.create(tmp_path / "a.xml", **options) as writer:
        setup = writer.add_setup(shape=(8, 256, 256))
        views = [writer.stream(setup=setup, time=time) for time in range(len(stacks))]
        for half in (slice(0, 4), slice(4, 8)):
            for view, stack in zip(views, stacks, strict=True):
                for plane in stack[half]:
                    view.append(plane)
                    peak = max(peak, writer.stats().bytes_queued)
    assert peak <= limit + 2**20
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        for time, stack in enumerate(stacks):
            assert (dataset.view(time=time)[...] == stack).all()
            assert (dataset.view(time=time).level(1)[...] == npy2bdv.downsample(stack, (2, 2, 2))).all()


def test_less_memory_than_a_row_still_works(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml", max_memory=1, chunks=CHUNK, compression="gzip") as writer:
        setups = [writer.add_setup(shape=(9, *PLANE), channel=i) for i in range(3)]
        views = [writer.stream(setup=setup) for setup in setups]
        for z in range(9):
            for i, view in enumerate(views):
                view.append(frame(z, i))
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        for i in range(3):
            assert dataset.view(setup=i)[:, 5, 5].tolist() == [z + 1 + 1000 * i for z in range(9)]


# ---------------------------------------------------------------------------------------- whose memory it is


@pytest.mark.parametrize("dtype", ["uint16", "uint8"])  # the second is widened
def test_a_ring_of_two_frames(disk: Gate, tmp_path: Path, dtype: str) -> None:
    """A camera's buffers are overwritten as soon as a call returns."""
    disk.seconds = 0.001
    ring = np.zeros((2, *PLANE), dtype)
    with npy2bdv.create(tmp_path / "a.xml", chunks=CHUNK, levels=((1, 1, 1), (2, 1, 1))) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(50, *PLANE)))
        for z in range(50):
            ring[z % 2] = z + 1
            view.append(ring[z % 2])
            ring[z % 2] = 255
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        expected = np.broadcast_to(np.arange(1, 51)[:, None, None], (50, 1, 1)).astype("uint16")
        assert (dataset.view()[...] == expected).all()
        assert (dataset.view().level(1)[...] == npy2bdv.downsample(expected, (2, 1, 1))).all()


def test_blocks_may_be_overwritten_too(disk: Gate, tmp_path: Path) -> None:
    disk.seconds = 0.001
    block = np.zeros((10, *PLANE), "uint16")
    with npy2bdv.create(tmp_path / "a.xml", chunks=CHUNK) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(50, *PLANE)))
        for z in range(0, 50, 10):
            block[:] = np.arange(z, z + 10)[:, None, None]
            view.put(block, z)
            block[:] = 999
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view()[:, 63, 63].tolist() == list(range(50))


def test_frames_handed_over_are_not_copied(tmp_path: Path) -> None:
    """They are kept, and counted, until their row is full."""
    with npy2bdv.create(tmp_path / "a.xml", chunks=CHUNK) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(8, *PLANE)))
        given = [frame(z) for z in range(3)]
        view.append(given[0], copy=False)
        row = writer.stats().bytes_queued
        assert row == 5 * FRAME_BYTES  # four planes of the row, and the frame
        given[0][:] = 77  # what nobody should do shows that it is the same memory
        for z in (1, 2):
            view.append(given[z], copy=False)
        assert writer.stats().bytes_queued == row + 2 * FRAME_BYTES
        view.put(given[2][None] + np.uint16(5), 2, copy=False)  # in place of the earlier one
        assert writer.stats().bytes_queued == row + 2 * FRAME_BYTES
        view.append(frame(3), copy=False)
        writer.store()
        assert writer.stats().bytes_queued == 0
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view()[:4, 0, 0].tolist() == [77, 2, 8, 4]


def test_several_threads_fill_one_view_and_several(disk: Gate, tmp_path: Path) -> None:
    disk.seconds = 0.0002
    options: Any = {"levels": ((1, 1, 1), (2, 2, 2)), "chunks": CHUNK, "max_memory": 60 * FRAME_BYTES}
    with npy2bdv.create(tmp_path / "a.xml", compression="gzip", **options) as writer:
        setups = [writer.add_setup(shape=(40, *PLANE), channel=i) for i in range(3)]
        views = [writer.stream(setup=setup) for setup in setups]

        def feed(part: tuple[int, int]) -> None:
            view, first = part
            for z in range(first, 40, 4):
                views[view].put(frame(z, view)[None], z)

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(feed, [(view, first) for first in range(4) for view in range(3)]))
        assert set(writer.checkpoint().values()) == {40}
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        for i in range(3):
            expected = np.stack([frame(z, i) for z in range(40)])
            assert (dataset.view(setup=i)[...] == expected).all()
            assert (dataset.view(setup=i).level(1)[...] == npy2bdv.downsample(expected, (2, 2, 2))).all()


def test_write_returns_when_the_array_is_free(disk: Gate, tmp_path: Path) -> None:
    """The last piece may still be under way; what reads the view afterwards finds all of it."""
    stacks = np.random.default_rng(1).integers(1, 999, (3, 4, *PLANE)).astype("uint16")
    camera = np.empty((4, *PLANE), "uint16")
    with npy2bdv.create(tmp_path / "a.h5", chunks=(4, 64, 64), levels=((1, 1, 1), (2, 2, 2))) as writer:
        setup = writer.add_setup(shape=camera.shape)
        for time_point, stack in enumerate(stacks):
            camera[...] = stack
            disk.shut()
            threading.Timer(0.2, disk.open).start()
            writer.write(camera, setup=setup, time=time_point)
            camera[...] = 0
        assert writer.checkpoint() == {(k, setup): 4 for k in range(3)}
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        for time_point, stack in enumerate(stacks):
            assert np.array_equal(dataset.view(time=time_point)[...], stack)
            assert np.array_equal(
                dataset.view(time=time_point).level(1)[...], npy2bdv.downsample(stack, (2, 2, 2))
            )


def test_stack_that_could_not_be_stored_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the call itself, the next one, or close."""

    def full(self: Hdf5Level, *rest: Any) -> None:
        raise OSError(28, "No space left on device")

    writer = npy2bdv.create(tmp_path / "a.h5", chunks=(4, 64, 64))
    setup = writer.add_setup(shape=(4, *PLANE))
    monkeypatch.setattr(Hdf5Level, "put_chunk", full)
    told = []
    for call in (
        partial(writer.write, np.ones((4, *PLANE), "uint16"), setup=setup),
        writer.close,
        writer.close,
    ):
        try:
            call()
        except WriteError as error:
            told.append(str(error))
    assert told
    assert all("No space left on device" in each for each in told)
    assert writer.closed
