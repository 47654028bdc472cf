"""What keeps a recording safe while it runs: lock, journal, and a clock for checkpoints."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

from npy2bdv.rows import runs
from npy2bdv.storage.journal import Journal, Lock, planes_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from weakref import WeakMethod

    import numpy as np
    from numpy.typing import NDArray

    from npy2bdv.engine import Engine, Stats
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.model.spimdata import ViewId
    from npy2bdv.rows import ChunkNote
    from npy2bdv.storage.base import LevelArray
    from npy2bdv.stream import Checkpoint

logger = logging.getLogger(__name__)

_LOG_LIMIT = 64 * 2**20


class Safety:
    """Lock and journal of one recording; both go when it is closed cleanly.

    Raises
    ------
    InUseError
        If another process is writing the file.
    """

    def __init__(self, pixels: Path) -> None:
        self._pixels = pixels
        self._lock = Lock(pixels)
        self._journal: Journal | None = None
        self._planes: Journal | None = None

    def begin(self, described: Mapping[str, Any]) -> None:
        """Start the journal, after the pixel file has been created."""
        self._journal = Journal.of(self._pixels)  # closed by `end`
        self._journal.add("data", dict(described))

    @property
    def log_is_long(self) -> bool:
        """Whether the log of planes holds much that is in the container by now."""
        return self._planes is not None and self._planes.nbytes > _LOG_LIMIT

    def described(self, view: ViewId, text: bytes) -> None:
        """Note what the XML would say of a view: the XML itself is brought up to date at checkpoints only."""
        assert self._journal is not None
        self._journal.add("xml ", {"view": view}, text)

    def described_as(self, view: ViewId, other: ViewId) -> None:
        """Note that the XML would say of a view what it says of another one."""
        assert self._journal is not None
        self._journal.add("like", {"view": view, "other": other})

    def declared(self, view: ViewId, levels: Iterable[tuple[Zyx, LevelArray]], *, open_ended: bool) -> None:
        """Note a view and how the images of its levels, given with their factors, lie in the file."""
        for level, (factors, array) in enumerate(levels):
            self._note_image("view", view, level, factors, array, {"open": open_ended})

    def added(self, view: ViewId, first: int, levels: Iterable[tuple[Zyx, LevelArray]]) -> None:
        """Note levels that a view got beside those that it had."""
        for level, (factors, array) in enumerate(levels, first):
            self._note_image("levl", view, level, factors, array, {})

    def _note_image(
        self, kind: str, view: ViewId, level: int, factors: Zyx, array: LevelArray, more: dict[str, Any]
    ) -> None:
        assert self._journal is not None
        layout, offsets = array.layout()
        known = {"view": view, "level": level, "factors": factors, "pixels": array.dtype.name}
        self._journal.add(kind, {**layout, **known, **more}, offsets)

    def earlier(
        self, view: ViewId, levels: Iterable[tuple[Zyx, LevelArray]], there: NDArray[np.bool_]
    ) -> None:
        """Note a view that was there before this session, so that it can be rescued from a damaged file."""
        assert self._journal is not None
        for level, (factors, array) in enumerate(levels):
            layout, places = array.whole_layout()
            known = {"view": view, "level": level, "factors": factors, "pixels": array.dtype.name}
            self._journal.add("old ", {**layout, **known, "there": runs(there)}, places)

    def grew(self, view: ViewId, levels: Iterable[LevelArray]) -> None:
        """Note where the chunks of a view lie that has become longer."""
        assert self._journal is not None
        for level, array in enumerate(levels):
            if array.in_place:
                layout, offsets = array.layout()
                self._journal.add("grew", {"view": view, "level": level, "shape": layout["shape"]}, offsets)

    def forgot(self, view: ViewId) -> None:
        """Note that a view was given up."""
        assert self._journal is not None
        self._journal.add("gone", {"view": view})

    def replacing(self, view: ViewId) -> None:
        """Note that a view is about to be replaced: what was said of its planes may not be true any more."""
        assert self._journal is not None
        self._journal.add("repl", {"view": view})

    def completed(self, view: ViewId, there: NDArray[np.bool_]) -> None:
        """Note that a view is complete; it is safe after the next checkpoint."""
        assert self._journal is not None
        self._journal.add("full", {"view": view, "there": runs(there)})

    def levels(self, *, complete: bool) -> None:
        """Note that levels are being added to all views, or that they are complete."""
        assert self._journal is not None
        self._journal.add("lvls", {"complete": complete})

    def begun(self) -> None:
        """Note that a checkpoint begins: what is complete by now is safe when it is done."""
        assert self._journal is not None
        self._journal.add("mark", {})

    def stored(self, view: ViewId, notes: list[ChunkNote]) -> None:
        """Note where compressed chunks went."""
        assert self._journal is not None
        self._journal.add("chnk", {"view": view, "chunks": notes})

    def keep(self, parts: Mapping[ViewId, Checkpoint], *, log_all: bool) -> None:
        """Keep the planes that a checkpoint returned, and let go of their rows."""
        records = [
            ("plne", {"view": view, "z": z, "shape": plane.shape, "dtype": plane.dtype.str}, plane.data)
            for view, part in parts.items()
            for z, plane in part.planes
        ]
        if self._planes is None and records:
            self._planes = Journal(planes_path(self._pixels))
        if self._planes is not None:
            if log_all:
                self._planes.replace((kind, text, data.cast("B")) for kind, text, data in records)
            else:
                for kind, text, data in records:
                    self._planes.add(kind, text, data.cast("B"))

    def acknowledge(self, parts: Mapping[ViewId, Checkpoint], *, sync: bool) -> None:
        """Note which planes are safe."""
        assert self._journal is not None
        there = [(view, runs(part.planes_there), runs(part.unfinished)) for view, part in parts.items()]
        self._journal.add("done", {"views": there})
        if sync:
            self._journal.sync()
            if self._planes is not None:
                self._planes.sync()

    def end(self, *, clean: bool) -> None:
        """Close the journal (and remove it after a `clean` end), let go of the lock."""
        try:
            for journal in (self._journal, self._planes):
                if journal is not None:
                    journal.close(remove=clean)
        finally:
            self._journal = self._planes = None
            self._lock.release()


class Clock:
    """Calls for checkpoints by time, and for a look at the figures, from a thread of its own."""

    def __init__(
        self,
        engine: Engine,
        seconds: float,
        checkpoint: WeakMethod[Callable[[], object]],
        on_stats: Callable[[Stats], None] | None = None,
    ) -> None:
        self._engine = engine
        self._on_stats = on_stats
        self._seconds = seconds
        self._checkpoint = checkpoint
        self._asked = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="npy2bdv-clock", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last, seen = time.monotonic(), 0
        while True:
            asked = self._asked.wait(min(0.5, self._seconds))
            if self._over:
                return
            self._asked.clear()
            stats = self._engine.stats()
            self._show(stats)
            if asked or (time.monotonic() - last >= self._seconds and stats.frames != seen):
                checkpoint = self._checkpoint()
                if checkpoint is None:
                    return
                try:
                    checkpoint()
                except Exception:  # recording goes on; errors of threads surface in the caller's next call
                    logger.warning("a checkpoint failed", exc_info=True)
                last, seen = time.monotonic(), stats.frames

    def _show(self, stats: Stats) -> None:
        if self._on_stats is not None:
            try:
                self._on_stats(stats)
            except Exception:
                logger.exception("on_stats failed; it is not called again")
                self._on_stats = None

    def hurry(self) -> None:
        """Ask for a checkpoint now. Returns at once."""
        self._asked.set()

    def stop(self) -> None:
        """End the thread."""
        self._over = True
        self._asked.set()
        self._thread.join()


def wait_for(parts: Iterable[Checkpoint], engine: Engine) -> None:
    """Wait until what views held when a checkpoint began is in the container."""
    for part in parts:
        wait(part.work)
    engine.check()
