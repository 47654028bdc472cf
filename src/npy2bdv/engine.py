"""The threads and the memory with which all views of one writer are written.

Encoders cut rows of chunks, compress them, and hand them to the container, one at a time where it is HDF5: a
thread that writes what it has just cut finds it in the processor's cache. Memory is reused (fresh memory is slow)
and bounded: whoever feeds a view waits for room.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from npy2bdv.errors import QueueFull, WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

DEFAULT_MEMORY = 256 * 2**20


class Client(Protocol):
    """A view that is being filled."""

    jobs: int

    def put_aside(self, row: int) -> None:
        """Store an open row as far as it is filled, to free its memory. Called with the door held."""

    def put_sums_aside(self) -> None:
        """Store open rows of lower levels, and forget sums. Called with the door held, and no work under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How a recording goes.

    Attributes
    ----------
    frames
        Planes taken (a block counts as many as it has).
    bytes_in, bytes_out
        Pixels taken; bytes handed to the container, levels included.
    bytes_queued, max_memory
        Memory that buffers take, and its bound.
    seconds
        Since the writer was made.
    rate
        Bytes taken a second, over the last seconds.
    headroom_seconds
        How long the buffers would last at this rate if nothing more were written.
    """

    frames: int
    bytes_in: int
    bytes_out: int
    bytes_queued: int
    max_memory: int
    seconds: float
    rate: float
    headroom_seconds: float


class Engine:
    """The threads and the memory that all views of a writer share.

    Parameters
    ----------
    max_memory
        Bytes that buffers of pixels may take together. Never less than a row of chunks of each level of the
        view being written is used.
    concurrent
        Whether the container takes chunks from several threads at once.
    workers
        Encoder threads; by default as many as there are processors, at most 4.
    """

    def __init__(
        self, max_memory: int = DEFAULT_MEMORY, *, concurrent: bool = False, workers: int | None = None
    ) -> None:
        workers = workers or min(4, os.cpu_count() or 1)
        self.max_memory = max_memory
        self.rows_ahead = 2 * workers
        """How many rows a caller may hand over before it waits for the first."""
        self.open_rows: OrderedDict[tuple[int, int], tuple[Client, int]] = OrderedDict()
        """Rows of full resolution that wait for planes, least recently touched first."""
        self.carrying: OrderedDict[int, Client] = OrderedDict()
        """Views that may hold sums and open rows of lower levels, least recently touched first."""
        self._door = threading.RLock()
        self._concurrent = concurrent
        self._encoders = ThreadPoolExecutor(workers, "npy2bdv-encode")
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._jobs = 0
        self._used = 0
        self._spare: dict[int, list[NDArray[np.uint8]]] = {}
        self._spare_bytes = 0
        self._error: BaseException | None = None
        self.explain: Callable[[BaseException], str] = "writing failed: {}".format
        """What `check` says of an error."""
        self._closed = False
        self._begun = time.monotonic()
        self._frames = self._bytes_in = self._bytes_out = 0
        self._marks: list[tuple[float, int]] = [(self._begun, 0)]

    # -- callers -----------------------------------------------------------------------------------------

    @contextmanager
    def door(self, deadline: float | None = None) -> Iterator[None]:
        """Hold the door through which views are fed; encoders never take it.

        Raises
        ------
        QueueFull
            If it is not free before the deadline.
        """
        patience = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._door.acquire(timeout=patience):
            raise QueueFull("the writer is busy with another frame; this one was not taken")
        try:
            yield
        finally:
            self._door.release()

    def took(self, frames: int, nbytes: int) -> None:
        """Count what was taken."""
        self._frames += frames
        self._bytes_in += nbytes
        now = time.monotonic()
        if now - self._marks[-1][0] > 0.5:
            self._marks = [*self._marks[-8:], (now, self._bytes_in)]

    def wrote(self, nbytes: int) -> None:
        """Count what was handed to the container."""
        with self._changed:
            self._bytes_out += nbytes

    def stats(self) -> Stats:
        """Return how it goes."""
        now = time.monotonic()
        since, before = self._marks[0]
        rate = (self._bytes_in - before) / max(now - since, 1e-9)
        room = max(0, self.max_memory - self._used)
        return Stats(
            frames=self._frames,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            bytes_queued=self._used,
            max_memory=self.max_memory,
            seconds=now - self._begun,
            rate=rate,
            headroom_seconds=room / rate if rate else float("inf"),
        )

    # -- memory ------------------------------------------------------------------------------------------

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array from reused memory (its content is whatever was there). Never waits."""
        nbytes = int(np.prod(shape)) * dtype.itemsize
        with self._changed:
            self._used += nbytes
            spare = self._spare.get(nbytes)
            if spare:
                raw = spare.pop()
                self._spare_bytes -= nbytes
            else:
                self._keep_spare_within(self.max_memory - self._used)
                raw = np.empty(nbytes, np.uint8)
        return raw.view(dtype).reshape(shape)

    def give(self, array: NDArray[Any]) -> None:
        """Take an array back for reuse; the caller must not touch it again."""
        raw = array.reshape(-1).view(np.uint8)
        with self._changed:
            self._used -= raw.nbytes
            self._keep_spare_within(self.max_memory - self._used - raw.nbytes)
            self._spare.setdefault(raw.nbytes, []).append(raw)
            self._spare_bytes += raw.nbytes
            self._changed.notify_all()

    def _keep_spare_within(self, nbytes: int) -> None:
        if self._spare_bytes > nbytes:
            self._spare.clear()
            self._spare_bytes = 0

    def hold(self, nbytes: int) -> None:
        """Count memory of the caller that is kept for now (negative: let go)."""
        with self._changed:
            self._used += nbytes
            self._changed.notify_all()

    def wait_for_room(self, nbytes: int, deadline: float | None = None, client: Client | None = None) -> None:
        """Wait until `nbytes` more fit, putting rows aside, and sums of other views than `client`, where it must be.

        Raises
        ------
        QueueFull
            If they do not fit before the deadline.
        """
        while True:
            self.check()
            with self._changed:
                if self._used + nbytes <= self.max_memory:
                    return
                if self._jobs:
                    patience = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                    if patience <= 0:
                        raise QueueFull(
                            f"the buffers are full ({self._used + nbytes} of {self.max_memory} bytes needed, "
                            f"{self._jobs} pieces being written); this frame was not taken, {self._frames} were: "
                            "wait longer, raise max_memory, or write less (fewer levels, no compression)"
                        )
                    self._changed.wait(patience)
                    continue
            if self.open_rows:
                _, (stream, row) = self.open_rows.popitem(last=False)
                stream.put_aside(row)
                continue
            others = (key for key, each in self.carrying.items() if each is not client)
            if (oldest := next(others, None)) is None:
                return
            self.carrying.pop(oldest).put_sums_aside()

    # -- work --------------------------------------------------------------------------------------------

    def encode(self, stream: Client, job: Callable[[], None]) -> Future[None]:
        """Run a job in an encoder thread."""
        with self._changed:
            self._jobs += 1
            stream.jobs += 1

        def guarded() -> None:
            try:
                job()
            except BaseException as error:  # it is raised again in the caller's thread
                self._error = self._error or error
            finally:
                with self._changed:
                    self._jobs -= 1
                    stream.jobs -= 1
                    self._changed.notify_all()

        try:
            return self._encoders.submit(guarded)
        except RuntimeError:  # the interpreter is going down: a forgotten writer is closed in this thread
            guarded()
            done: Future[None] = Future()
            done.set_result(None)
            return done

    def put(self, job: Callable[[], None], *, aside: bool = False) -> None:
        """Run a job that stores a piece of a row, in its turn where the container takes one at a time.

        Not in its turn where it stores aside of the container: chunks that have a place of their own.

        After an error nothing more is stored: a gap in the middle would look like a whole.
        """
        with contextlib.nullcontext() if self._concurrent or aside else self._turn:
            if self._error is None:
                try:
                    job()
                except BaseException as error:  # raised by the next `check`, whichever thread this is
                    self._error = error

    def drain(self, stream: Client | None = None, deadline: float | None = None) -> None:
        """Wait until everything handed over (for one view, or all) is in the container.

        Raises
        ------
        QueueFull
            If it is not before the deadline.
        """
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        with self._changed:
            idle = self._changed.wait_for(
                lambda: (self._jobs if stream is None else stream.jobs) == 0, patience
            )
        self.check()
        if not idle:
            raise QueueFull(
                "the plane belongs to a row that is being written; this frame was not taken: wait longer, "
                "raise max_memory, or give planes in order"
            )

    def check(self) -> None:
        """Raise what went wrong in a thread.

        Raises
        ------
        WriteError
            With the error of the thread as its cause.
        """
        if self._error is not None:
            raise WriteError(self.explain(self._error)) from self._error

    def close(self) -> None:
        """End the threads, after all work has been done."""
        if not self._closed:
            self._closed = True
            self._encoders.shutdown()
            self._spare.clear()
