"""How far a conversion is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from npy2bdv.planning import ResavePlan

_SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """Takes the progress of `resave` (stderr). Where workers do the work, the count of views is about right."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        terminal = Console(stderr=True)
        self.total = 0
        self._plain = not terminal.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=terminal,
            transient=True,
            disable=self._plain,
        )
        self._task = self._bar.add_task("")
        self._ends: list[int] = []
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def begin(self, plan: ResavePlan) -> None:
        """Take what will be done."""
        self._ends = [*accumulate(slab.nbytes for slab in plan.views)]
        self.total = plan.nbytes
        self._begun = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Show that so many bytes are done."""
        self.total = total
        views = f"views {bisect_right(self._ends, done)}/{len(self._ends)}"
        self._bar.update(self._task, description=views, completed=done, total=total)
        now = time.monotonic()
        if self._plain and now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            rate = done / max(now - self._begun, 1e-9)
            left = (total - done) / rate if rate else 0.0
            sys.stderr.write(
                f"npy2bdv: {views}, {done / 1e6:.0f} of {total / 1e6:.0f} MB, {rate / 1e6:.0f} MB/s, "
                f"{left:.0f} s left\n"
            )
