"""Threads and memory that the views of a writer share: room, turns, errors, figures."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from npy2bdv.engine import Engine
from npy2bdv.errors import QueueFull, WriteError

KB = 1024
U8 = np.dtype("uint8")


class View:
    """Stands for a view that is being filled."""

    def __init__(self, engine: Engine) -> None:
        self.jobs = 0
        self.aside: list[int] = []
        self._engine = engine

    def open_row(self, row: int, nbytes: int) -> None:
        self._engine.hold(nbytes)
        self._engine.open_rows[id(self), row] = (self, row)

    def put_aside(self, row: int) -> None:
        self.aside.append(row)
        self._engine.encode(self, lambda: self._engine.hold(-KB))

    def put_sums_aside(self) -> None:
        self.aside.append(-1)
        self._engine.hold(-KB)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(10 * KB, workers=2)
    yield engine
    engine.close()


def wait(gate: threading.Event) -> None:
    assert gate.wait(10)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


# ------------------------------------------------------------------------------------------------- memory


def test_memory_is_used_again(engine: Engine) -> None:
    first = engine.take((2, 3, 4), np.dtype("uint16"))
    assert (first.shape, first.dtype) == ((2, 3, 4), np.dtype("uint16"))
    assert engine.stats().bytes_queued == 48
    engine.give(first)
    assert engine.stats().bytes_queued == 0
    second = engine.take((6, 8), U8)
    assert np.shares_memory(first, second)
    assert not np.shares_memory(engine.take((6, 8), U8), second)


def test_spare_memory_counts_against_the_bound(engine: Engine) -> None:
    """What is kept for reuse goes where it and what is in use would take more than there may be."""
    for later, kept in ((3 * KB, True), (5 * KB, False)):
        first = engine.take((6 * KB,), U8)
        engine.give(first)
        other = engine.take((later,), U8)
        again = engine.take((6 * KB,), U8)
        assert np.shares_memory(first, again) == kept
        engine.give(again)
        engine.give(other)


def test_room_is_waited_for(engine: Engine) -> None:
    view = View(engine)
    gate = threading.Event()
    engine.hold(8 * KB)

    def job() -> None:
        gate.wait(10)
        engine.hold(-8 * KB)

    engine.encode(view, job)
    engine.wait_for_room(2 * KB)
    waiting = in_thread(lambda: engine.wait_for_room(3 * KB))
    time.sleep(0.05)
    assert waiting.is_alive()
    gate.set()
    waiting.join(5)
    assert not waiting.is_alive()


def test_no_room_in_time(engine: Engine) -> None:
    view, gate = View(engine), threading.Event()
    engine.hold(8 * KB)
    engine.encode(view, partial(wait, gate))
    for seconds in (0.0, 0.05):
        begun = time.monotonic()
        with pytest.raises(
            QueueFull, match=r"\(11264 of 10240 bytes needed, 1 pieces being written\).* raise max_memory"
        ):
            engine.wait_for_room(3 * KB, begun + seconds)
        assert seconds <= time.monotonic() - begun < seconds + 1
    gate.set()


def test_rows_least_recently_touched_are_put_aside(engine: Engine) -> None:
    view = View(engine)
    for row in range(4):
        view.open_row(row, 2 * KB)
    engine.open_rows.move_to_end((id(view), 0))
    engine.wait_for_room(3 * KB)
    assert view.aside == [1]
    engine.wait_for_room(5 * KB)
    assert view.aside == [1, 2, 3]
    assert list(engine.open_rows) == [(id(view), 0)]


def test_more_than_there_may_be_is_let_in_when_nothing_else_is_there(engine: Engine) -> None:
    """A row that alone needs more memory than the bound."""
    engine.wait_for_room(100 * KB)
    engine.wait_for_room(100 * KB, time.monotonic())


def test_the_door(engine: Engine) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with engine.door():
            inside.set()
            leave.wait(10)

    thread = in_thread(hold)
    inside.wait(10)
    begun = time.monotonic()
    with pytest.raises(QueueFull, match="busy with another frame"), engine.door(begun + 0.02):
        pass
    assert time.monotonic() - begun < 1
    leave.set()
    with engine.door(time.monotonic() + 10), engine.door():
        pass
    thread.join()


# --------------------------------------------------------------------------------------------------- work


def overlap(engine: Engine) -> int:
    """How many of twenty pieces, handed over by four threads, are being stored at a time."""
    here = most = 0
    stored: list[int] = []
    guard = threading.Lock()

    def store(number: int) -> None:
        nonlocal here, most
        with guard:
            here += 1
            most = max(most, here)
        time.sleep(0.01)
        with guard:
            here -= 1
            stored.append(number)

    def feed(first: int) -> None:
        for number in range(first, first + 5):
            engine.put(partial(store, number))

    threads = [in_thread(partial(feed, first)) for first in range(0, 20, 5)]
    for thread in threads:
        thread.join()
    assert sorted(stored) == list(range(20))
    for first in range(0, 20, 5):  # each thread's in their order
        own = [number for number in stored if first <= number < first + 5]
        assert own == sorted(own)
    return most


def test_pieces_are_stored_one_at_a_time(engine: Engine) -> None:
    assert overlap(engine) == 1


def test_containers_that_take_several_threads_get_several_pieces_at_a_time() -> None:
    engine = Engine(10 * KB, concurrent=True, workers=2)
    assert overlap(engine) > 1
    engine.close()


def test_draining_one_view_does_not_wait_for_another(engine: Engine) -> None:
    slow, fast, gate = View(engine), View(engine), threading.Event()
    engine.encode(slow, partial(wait, gate))
    engine.encode(fast, lambda: None)
    engine.drain(fast)
    with pytest.raises(QueueFull, match="a row that is being written"):
        engine.drain(slow, time.monotonic() + 0.01)
    gate.set()
    engine.drain()
    assert (slow.jobs, fast.jobs) == (0, 0)


def test_an_error_stops_what_was_to_be_stored_and_is_raised_with_its_cause(engine: Engine) -> None:
    later: list[int] = []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    engine.put(fail)
    for number in range(20):  # none is stored after it: a gap in the middle would look like a whole
        engine.put(lambda number=number: later.append(number))  # type: ignore[misc]
    for call in (engine.check, engine.drain, lambda: engine.wait_for_room(1)):
        with pytest.raises(WriteError, match=r"writing failed: .*No space left on device") as caught:
            call()
        assert isinstance(caught.value.__cause__, OSError)
    assert later == []


def test_the_first_error_counts(engine: Engine) -> None:
    view = View(engine)

    def fail(what: str) -> None:
        raise ValueError(what)

    for what in ("first", "second"):
        engine.encode(view, lambda what=what: fail(what)).result()  # type: ignore[misc]
    with pytest.raises(WriteError, match="first"):
        engine.check()


def test_close_ends_the_threads() -> None:
    engine = Engine(10 * KB, workers=3)
    for _ in range(10):
        engine.encode(View(engine), lambda: None)
    engine.close()
    engine.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("npy2bdv")]


# ------------------------------------------------------------------------------------------------ figures


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    engine = Engine(10_000, workers=1)
    stats = engine.stats()
    assert (stats.frames, stats.bytes_in, stats.bytes_out, stats.seconds) == (0, 0, 0, 0)
    assert stats.headroom_seconds == float("inf")  # nothing comes
    for _ in range(100):
        now += 0.25
        engine.took(1, 500)
    engine.wrote(123)
    engine.hold(4_000)
    stats = engine.stats()
    assert (stats.frames, stats.bytes_in, stats.bytes_out) == (100, 50_000, 123)
    assert (stats.bytes_queued, stats.max_memory, stats.seconds) == (4_000, 10_000, 25)
    assert stats.rate == pytest.approx(2_000)
    assert stats.headroom_seconds == pytest.approx(3)
    for _ in range(20):  # faster: what matters is the last seconds
        now += 0.75
        engine.took(1, 6_000)
    assert engine.stats().rate == pytest.approx(8_000)
    engine.hold(20_000)
    assert engine.stats().headroom_seconds == 0
    engine.close()
