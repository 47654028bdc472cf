"""Who carries out the tasks of a resave: threads of this process, processes, any executor, a cluster."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections import deque
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    wait,
)
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeAlias

from npy2bdv.errors import InvalidInputError, InvalidTypeError, WriteError
from npy2bdv.tasks import carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from npy2bdv.tasks import Done, Task

    Runner: TypeAlias = Executor | str | Any

_ATTEMPTS = 3
"""How often a task is begun whose worker dies."""
_AHEAD = 4
"""How many tasks are handed out for each worker, so that none waits."""


@contextlib.contextmanager
def opened(executor: Runner | None, workers: int | None) -> Iterator[Crew | None]:
    """Return who carries out tasks; None where this process does so by its threads.

    Parameters
    ----------
    executor
        None or "threads"; "processes"; an executor; a ``dask.distributed.Client``, or the address of its scheduler.
    workers
        How many processes.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        If it is none of these.
    """
    if workers is not None and workers < 1:
        raise InvalidInputError(f"workers={workers!r} cannot be: give how many processes, at least 1")
    if executor is None:
        executor = "threads" if workers in (None, 1) else "processes"
    elif workers is not None and executor != "processes":
        raise InvalidInputError(
            f"workers={workers} is for executor='processes'; other executors have a number of their own: leave it out"
        )
    if executor == "threads":
        yield None
    elif executor == "processes":
        count = workers or os.cpu_count() or 1

        def fresh() -> Executor:
            # spawn, on all systems: a fork would copy locks of HDF5 and tensorstore that threads hold
            return ProcessPoolExecutor(count, mp_context=get_context("spawn"))

        crew = Crew(fresh(), count, fresh)
        try:
            yield crew
        finally:
            crew.end()
    elif isinstance(executor, str):
        with _client(executor) as client:
            yield _of_client(client)
    elif hasattr(executor, "get_executor"):
        yield _of_client(executor)
    elif hasattr(executor, "submit"):
        yield Crew(executor, getattr(executor, "_max_workers", None) or os.cpu_count() or 1)
    else:
        raise InvalidTypeError(
            f"a {type(executor).__name__} carries out no tasks; give 'threads', 'processes', a "
            "concurrent.futures.Executor, a dask.distributed.Client, or the address of its scheduler"
        )


def _client(address: str) -> Any:
    if "://" not in address and ":" not in address:
        raise InvalidInputError(
            f"executor={address!r} is not known; there are 'threads' and 'processes', and addresses of a scheduler of "
            "dask like 'tcp://host:8786'"
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise InvalidInputError(
            f'executor={address!r} needs dask.distributed, which is not installed: pip install "npy2bdv[cluster]"'
        ) from error
    try:
        return Client(address, timeout=20)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"no scheduler of dask answers at {address!r} ({error}); see that it runs, and its address"
        ) from error


def _of_client(client: Any) -> Crew:
    threads = sum(client.nthreads().values()) or 1
    return Crew(client.get_executor(pure=False, retries=_ATTEMPTS - 1), threads)


class Crew:
    """Carries out tasks by an executor.

    Parameters
    ----------
    executor
        Anything with ``submit``.
    workers
        How many tasks it carries out at a time.
    fresh
        Makes another one, where a worker that dies breaks it.
    """

    def __init__(self, executor: Any, workers: int, fresh: Callable[[], Executor] | None = None) -> None:
        self._executor = executor
        self._workers = workers
        self._fresh = fresh
        self._pickles = False
        """Whether a task has been seen to pickle: as one does, so do the others."""

    def finished(self, tasks: Sequence[tuple[Task, Done | None]]) -> Iterator[Done]:
        """Carry out tasks, given with what they had written before, and iterate over them as they are finished."""
        waiting = deque((task, before, 1) for task, before in tasks)
        under_way: dict[Future[Done], tuple[Task, Done | None, int]] = {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < _AHEAD * self._workers:
                    try:
                        under_way[self._submitted(*waiting[0][:2])] = waiting[0]
                    except BrokenExecutor:
                        if not under_way:
                            self._mend()
                            continue
                        break
                    waiting.popleft()
                finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
                broken = []
                for future in finished:
                    task, before, attempt = under_way.pop(future)
                    try:
                        yield future.result()
                    except (BrokenExecutor, CancelledError) as error:
                        if self._fresh is None or attempt >= _ATTEMPTS:
                            raise WriteError(
                                f"a worker died while it wrote task {task.number} ({type(error).__name__}: {error}); "
                                "it may lack memory: give it less to do at a time (max_memory), and go on with "
                                "resume=True"
                            ) from error
                        broken.append((task, before, attempt + 1))
                if broken:
                    waiting.extendleft(reversed(broken))
                    if not under_way:
                        self._mend()
        finally:
            for future in under_way:
                future.cancel()
            with contextlib.suppress(Exception):
                wait([future for future in under_way if not future.cancelled()])

    def _submitted(self, task: Task, before: Done | None) -> Future[Done]:
        task = task.travelling()
        try:
            if not self._pickles:
                pickle.dumps(task)
                self._pickles = True
        except Exception as error:
            raise InvalidInputError(
                f"the source cannot be handed to other processes ({error}): give a path, a numpy or dask array, or "
                "leave executor= out"
            ) from error
        future: Future[Done] = self._executor.submit(carry_out, task, before)
        return future

    def _mend(self) -> None:
        """Go on with other workers."""
        if self._fresh is None:
            raise WriteError("the executor takes no tasks any more: a worker died; go on with resume=True")
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._fresh()

    def end(self) -> None:
        """End the workers, when they have done what they are doing."""
        self._executor.shutdown(wait=True, cancel_futures=True)
