"""The table of frames beside a dataset: ``NAME.frames.csv``."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

    from npy2bdv.model.spimdata import ViewId

logger = logging.getLogger(__name__)

_OWN = ("time", "setup", "z")


def check_meta(meta: Mapping[str, Any]) -> None:
    """Refuse metadata that no row can be made of.

    Raises
    ------
    InvalidInputError
        If it is no mapping, or its "frame" is no whole number.
    """
    if not isinstance(meta, Mapping):
        raise InvalidInputError(f"meta is a mapping of names to values, e.g. {{'frame': 12}}; found {meta!r}")
    if "frame" in meta:
        try:
            int(meta["frame"])
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"meta['frame'] is the camera's frame number; found {meta['frame']!r}"
            ) from error


class Gap(NamedTuple):
    """Frames that a camera counted and that never came: the view, the plane after them, first and last number."""

    view: ViewId
    z: int
    first: int
    last: int


class FrameTable:
    """One row for each frame that came with metadata.

    The columns are ``time``, ``setup``, ``z`` (the plane that the frame became), the names that came with the
    first frame, and ``more``: what came under other names later, as JSON. The name ``frame`` is the camera's
    frame number; where it jumps, the gap is logged and counted.

    Parameters
    ----------
    path
        The file.
    go_on
        Append to a table that is there.
    """

    def __init__(self, path: Path, *, go_on: bool = False) -> None:
        self.gaps: list[Gap] = []
        self._names = _names_in(path) if go_on and path.is_file() else None
        torn = self._names is not None and not path.read_bytes().endswith(b"\n")  # by a kill
        self._file = path.open("w" if self._names is None else "a", newline="", encoding="utf-8")
        if torn:
            self._file.write("\r\n")
        self._writer = csv.writer(self._file)
        self._last: dict[ViewId, int] = {}

    def note(self, view: ViewId, z: int, meta: Mapping[str, Any]) -> None:
        """Write the row of a frame."""
        if self._names is None:
            self._names = tuple(name for name in meta if name not in _OWN)
            self._writer.writerow((*_OWN, *self._names, "more"))
        more = {name: value for name, value in meta.items() if name not in self._names}
        known = (meta.get(name, "") for name in self._names)
        self._writer.writerow((*view, z, *known, json.dumps(more, default=str) if more else ""))
        if "frame" in meta:
            self._count(view, z, int(meta["frame"]))

    def _count(self, view: ViewId, z: int, frame: int) -> None:
        last = self._last.get(view)
        self._last[view] = frame
        if last is not None and frame > last + 1:
            gap = Gap(view, z, last + 1, frame - 1)
            self.gaps.append(gap)
            logger.warning(
                "frames %d to %d never came (before plane %d of time point %d, setup %d)", *gap[2:], z, *view
            )

    def begin_anew(self, view: ViewId) -> None:
        """Expect any number next: the view was given up. Its rows stay."""
        self._last.pop(view, None)

    def flush(self) -> None:
        """Hand all rows to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _names_in(path: Path) -> tuple[str, ...] | None:
    """Return the names of metadata that a table has columns for; None where it is no table of ours."""
    with path.open(newline="", encoding="utf-8") as file:
        columns = tuple(next(csv.reader(file), ()))
    return columns[len(_OWN) : -1] if columns[: len(_OWN)] == _OWN and columns[-1] == "more" else None
