"""The room that a recording has on its disk: what it needs, what is free, how long that will do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from npy2bdv.errors import WriteError
from npy2bdv.storage.disk import free_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from npy2bdv.engine import Engine

logger = logging.getLogger(__name__)

_ENOUGH_TO_ESTIMATE = 2**24
_SECONDS_LEFT = 60.0


class Room:
    """The room on a disk.

    Parameters
    ----------
    folder
        Where pixels are written.
    engine
        Knows how many bytes have come, and how many went to the disk.
    is_raw
        Whether pixels are stored as they are. What compression will save is estimated by what it has saved so far;
        at first a tenth must fit.
    """

    def __init__(self, folder: Path, engine: Engine, *, is_raw: bool) -> None:
        self._folder = folder
        self._engine = engine
        self._is_raw = is_raw
        self._warned = False

    def check(self, what: str, needed: float, to_come: float = 0, levels: float = 1) -> None:
        """Refuse pixels for which there is no room.

        Parameters
        ----------
        what
            What is to be written.
        needed, to_come
            Bytes of its pixels, and of those that open views will need, of all levels.
        levels
            How many times the pixels of full resolution all levels are.

        Raises
        ------
        WriteError
            If they do not fit.
        """
        share = self._share(levels)
        open_views = f", beside {share * to_come / 1e9:.3g} GB that open views will need" if to_come else ""
        free = free_bytes(self._folder)
        if free is not None and free < share * (needed + to_come):
            raise WriteError(
                f"{what} takes {share * needed / 1e9:.3g} GB, levels included{open_views}, and {free / 1e9:.3g} GB "
                f"are free in {self._folder}: make room, or compress"
            )

    def _share(self, levels: float) -> float:
        """Return what part of the bytes of pixels reaches the disk, as far as is known."""
        if self._is_raw:
            return 1.0
        stats = self._engine.stats()
        if stats.bytes_in < _ENOUGH_TO_ESTIMATE:
            return 0.1
        return min(1.0, stats.bytes_out / (stats.bytes_in * levels))

    def warn_when_short(self) -> None:
        """Say in the log that the disk will soon be full, once."""
        stats = self._engine.stats()
        free = free_bytes(self._folder)
        if self._warned or free is None or not stats.bytes_in:
            return
        rate = stats.rate * stats.bytes_out / stats.bytes_in
        if free < _SECONDS_LEFT * rate:
            self._warned = True
            logger.warning(
                "the disk of %s will be full in about %.0f s: %.3g GB are free, and %.3g GB/s are written",
                self._folder, free / rate, free / 1e9, rate / 1e9,
            )  # fmt: skip
