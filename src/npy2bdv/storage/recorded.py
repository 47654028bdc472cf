"""What the journal of a recording says: which planes are safe, where chunks lie, how images are laid out.

For recovery, and for those who look at a recording while it runs. Journals come from disks that failed: records that
make no sense are passed over, and nothing is kept that is larger than the files that say it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.journal import journal_path, planes_path, read_records

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.storage.journal import Record

logger = logging.getLogger(__name__)

NOWHERE = 2**64 - 1
"""The offset of a chunk that has none."""

Runs: TypeAlias = list[tuple[int, int]]
"""Planes as (start, stop)."""

_MOST_PLANES = 10_000_000
_MOST_PIXELS = 2**24
_MOST_IN_PLANE = 2**31
_UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the chunks of an image lie, as arrays over its grid of chunks (z, y, x).

    Attributes
    ----------
    offsets
        Where in the file they begin; `NOWHERE` if they were not stored.
    nbytes
        How many bytes they take.
    sums
        Their CRC-32, -1 where it is not known.
    """

    offsets: NDArray[np.uint64]
    nbytes: NDArray[np.int64]
    sums: NDArray[np.int64]


@dataclass(slots=True, kw_only=True)
class Image:
    """One level of one view as it was declared. `dtype` is the pixel type, `codec` as in a writer's `compression`."""

    view: ViewId
    level: int
    path: str
    factors: Zyx | None
    shape: Zyx
    chunk: Zyx
    dtype: np.dtype[Any]
    filters: tuple[str, ...]
    filter_level: int | None
    offsets: NDArray[np.uint64]
    """As of the declaration, in the order of the grid; empty if chunks are placed as they come."""
    lengths: NDArray[np.int64]
    """Bytes of chunks, where they were known at once."""
    notes: list[NDArray[np.int64]] = field(default_factory=list)
    """Rows of place (z, y, x), bytes, CRC-32, offset."""

    @property
    def in_place(self) -> bool:
        """Whether all chunks got their places when the image was declared."""
        return not self.filters and bool(self.offsets.size)

    @property
    def chunk_bytes(self) -> int:
        """How many bytes a chunk has when it is not compressed."""
        return math.prod(self.chunk) * self.dtype.itemsize

    @property
    def row(self) -> tuple[int, int]:
        """How many chunks there are in a row of chunks (y, x)."""
        y, x = (-(-size // chunk) for size, chunk in zip(self.shape[1:], self.chunk[1:], strict=True))
        return y, x

    def places(self, depth: int | None = None) -> Places:
        """Return where its chunks lie; of those that were stored several times, where they were last.

        Of all rows of chunks of which anything is known, or of those of the first planes.
        """
        rows = self._rows_known()
        if depth is not None:
            rows = min(rows, -(-depth // self.chunk[0]))
        known = (rows, *self.row)
        count = math.prod(known)
        offsets = np.full(count, NOWHERE, np.uint64)
        given = self.offsets[:count]
        offsets[: len(given)] = given
        nbytes = np.full(count, self.chunk_bytes, np.int64)
        lengths = self.lengths[:count]
        nbytes[: len(lengths)] = lengths
        sums = np.full(count, _UNKNOWN, np.int64)
        for notes in self.notes:
            inside = (notes[:, :3] >= 0).all(1) & (notes[:, :3] < known).all(1)
            z, y, x, length, crc, offset = notes[inside].T
            index = (z * known[1] + y) * known[2] + x
            offsets[index], nbytes[index], sums[index] = offset.astype(np.uint64), length, crc
        return Places(offsets=offsets.reshape(known), nbytes=nbytes.reshape(known), sums=sums.reshape(known))

    def is_possible(self, depth: int) -> bool:
        """Tell whether an image of so many planes is not absurdly larger than what is known of its chunks."""
        said = self.offsets.size + sum(len(notes) for notes in self.notes)
        return -(-depth // self.chunk[0]) * math.prod(self.row) <= 2**20 + 64 * said

    def _rows_known(self) -> int:
        """Return how many rows of chunks anything is known of, and no more than could be true of them."""
        row = math.prod(self.row)
        noted = max((int(notes[:, 0].max()) + 1 for notes in self.notes if len(notes)), default=0)
        said = self.offsets.size + sum(len(notes) for notes in self.notes)
        return min(max(-(-self.offsets.size // row), noted), (2**22 + 64 * said) // row)


class Recorded:
    """What the journal says of the last checkpoint.

    Attributes
    ----------
    is_there
        Whether there is a journal at all.
    format, xml_name, recording_name
        As the writer noted them: the format, and how the XML is called at the end and until then.
    depths
        Planes that each view was declared with.
    complete
        Views of which all levels are complete.
    open_ended
        Views whose number of planes was not known.
    described
        For each view an XML that describes it alone.
    gone
        Views that were given up.
    earlier
        Views that were there before the session that was interrupted.
    images
        How each level of each view lies in the file.
    damaged
        Planes that were safe, and of which pixels turned out to be lost; see `lose`.
    appending
        Whether the dataset was there before the session that was interrupted.
    levels_complete
        False while levels were being added to all views.
    """

    def __init__(self, records: Iterable[Record], planes: Iterable[Record] = ()) -> None:
        self.is_there = False
        self.format = "hdf5"
        self.xml_name = self.recording_name = ""
        self.levels_complete = True
        self.appending = False
        self.depths: dict[ViewId, int] = {}
        self.complete: set[ViewId] = set()
        self.open_ended: set[ViewId] = set()
        self.described: dict[ViewId, bytes] = {}
        self.gone: set[ViewId] = set()
        self.earlier: set[ViewId] = set()
        self.images: dict[ViewId, list[Image]] = {}
        self.damaged: dict[ViewId, NDArray[np.bool_]] = {}
        self._there: dict[ViewId, Runs] = {}
        self._waiting: dict[ViewId, Runs] = {}
        self._ended: dict[ViewId, Runs] = {}
        self._settled: dict[ViewId, Runs] = {}
        self._log: Iterable[Record] = planes
        for record in records:
            self.is_there = True
            try:
                self._take(*record)
            except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
                logger.warning("a record %r of the journal makes no sense (%r)", record.kind, error)

    @classmethod
    def of(cls, pixels: Path) -> Recorded:
        """Read the journal of a pixel file or folder."""
        return cls(read_records(journal_path(pixels)), read_records(planes_path(pixels)))

    def lose(self, view: ViewId, planes: NDArray[np.bool_]) -> None:
        """Take back that planes are safe: their pixels turned out to be damaged, or those of lower levels."""
        self.complete.discard(view)
        self.damaged[view] = planes
        self._there[view] = runs_of(self.there(view, len(planes)) & ~planes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "planes": self.planes, "_log": ()}

    def there(self, view: ViewId, depth: int) -> NDArray[np.bool_]:
        """Return which planes of a view of this depth are safe."""
        return flags(self._there.get(view, []), depth)

    def length(self, view: ViewId) -> int:
        """Return one more than the last plane of a view that is safe."""
        return max((stop for _, stop in self._there.get(view, [])), default=0)

    def waiting(self, view: ViewId, depth: int) -> NDArray[np.bool_]:
        """Return which of them are in the log of planes, where chunks are not written in place."""
        return flags(self._waiting.get(view, []), depth)

    def all_waiting(self) -> Iterable[Runs]:
        """Return the planes of each view that are in the log."""
        return self._waiting.values()

    @cached_property
    def planes(self) -> dict[tuple[ViewId, int], NDArray[Any]]:
        """The latest of each plane (y, x) in the log that is waiting."""
        found: dict[tuple[ViewId, int], NDArray[Any]] = {}
        for kind, text, data in self._log:
            if kind != "plne":
                continue
            try:
                view, z = view_id(text["view"]), int(text["z"])
                if not any(start <= z < stop for start, stop in self._waiting.get(view, [])):
                    continue
                plane = np.frombuffer(data, np.dtype(text["dtype"])).reshape(text["shape"])
                if plane.ndim == 2 and plane.dtype.kind in "iuf":
                    found[view, z] = plane
            except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
                logger.warning("a plane in the log makes no sense (%r)", error)
        return found

    # -- records -----------------------------------------------------------------------------------------

    def _take(self, kind: str, text: dict[str, Any], data: bytes) -> None:
        if kind == "data":
            said = text["format"], text["xml"], text["recording"]
            if text["format"] not in ("hdf5", "n5", "omezarr") or not all(
                isinstance(each, str) and each.endswith(".xml") for each in said[1:]
            ):
                raise ValueError(said)
            self.format, self.xml_name, self.recording_name = said
            self.appending = bool(text.get("appending"))
        elif kind == "lvls":
            self.levels_complete = bool(text["complete"])
        elif kind == "mark":  # what has ended by now is safe when this checkpoint is done
            self._settled.update(self._ended)
            self._ended.clear()
        elif kind == "done":
            self._done(text)
        elif "view" in text:
            self._take_of_view(kind, view_id(text["view"]), text, data)

    def _take_of_view(self, kind: str, view: ViewId, text: dict[str, Any], data: bytes) -> None:
        if kind == "view":
            image = _image(view, text, data)
            if text["level"] == 0:
                self._begin(view)
                self.depths[view] = image.shape[0]
            self.depths[view] = max(image.shape[0], self.depths.get(view, 0))
            (self.open_ended.add if text["open"] else self.open_ended.discard)(view)
            self._add(image)
        elif kind == "levl":  # added to a view that is there
            self._add(_image(view, text, data))
        elif kind == "grew":
            image = self.images[view][text["level"]]
            shape = _triple(text["shape"], _MOST_PLANES)
            image.shape = (shape[0], *image.shape[1:])
            image.offsets = np.frombuffer(data, "<u8")
            self.depths[view] = max(shape[0], self.depths[view])
        elif kind == "old ":
            image = _image(view, text, data)
            if text["level"] == 0:
                self._begin(view)
                self.depths[view] = image.shape[0]
                self.earlier.add(view)
                self.complete.add(view)
                self._there[view] = _runs(text["there"])
            self._add(image)
        elif kind == "chnk":
            self._note_chunks(view, text["chunks"])
        elif kind == "xml ":
            self.described[view] = data
        elif kind == "like":
            self.described[view] = self.described[view_id(text["other"])]
        elif kind == "repl":  # an instant later there is another image, or still the old one
            self.complete.discard(view)
            for known in (self._there, self._waiting, self._ended, self._settled):
                known.pop(view, None)
        elif kind == "gone":
            self.depths.pop(view, None)
            self.images.pop(view, None)
            self.gone.add(view)
        elif kind == "full":
            self._ended[view] = _runs(text["there"])

    def _begin(self, view: ViewId) -> None:
        """Forget what was said of an earlier image of this view."""
        self.gone.discard(view)
        self.earlier.discard(view)
        self.complete.discard(view)
        for known in (self._there, self._waiting, self._ended, self._settled):
            known.pop(view, None)
        self.images[view] = []

    def _add(self, image: Image) -> None:
        levels = self.images.setdefault(image.view, [])
        if image.level != len(levels):
            raise ValueError(f"level {image.level} after {len(levels)}")
        levels.append(image)

    def _note_chunks(self, view: ViewId, chunks: Any) -> None:
        notes = np.array(chunks, np.int64)
        if notes.ndim != 2 or notes.shape[1] != 7:
            raise ValueError(notes.shape)
        levels = self.images[view]
        for level in np.unique(notes[:, 0]).tolist():
            levels[level].notes.append(notes[notes[:, 0] == level, 1:])

    def _done(self, text: dict[str, Any]) -> None:
        parts = [
            (view_id(view), _runs(there), _runs(unfinished)) for view, there, unfinished in text["views"]
        ]
        self.complete |= self._settled.keys()
        self._there.update(self._settled)
        self._settled.clear()
        self._waiting = {}
        for view, there, unfinished in parts:
            self.complete.discard(view)
            self._there[view] = there
            self._waiting[view] = unfinished


def view_id(pair: Any) -> ViewId:
    """Return a view's id as records have it."""
    time, setup = pair
    if not (isinstance(time, int) and isinstance(setup, int) and 0 <= time < 2**31 and 0 <= setup < 2**31):
        raise ValueError(pair)
    return ViewId(time, setup)


def flags(ranges: Runs, depth: int) -> NDArray[np.bool_]:
    """Return runs as one flag for each plane of a view of this depth."""
    found = np.zeros(depth, bool)
    for start, stop in ranges:
        found[start:stop] = True
    return found


def runs_of(found: NDArray[np.bool_]) -> Runs:
    """Return the runs of true values."""
    edges = np.flatnonzero(np.diff(found, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _runs(ranges: Any) -> Runs:
    found = [(int(start), int(stop)) for start, stop in ranges]
    if any(not 0 <= start < stop <= _MOST_PLANES for start, stop in found):
        raise ValueError(ranges)
    return found


def _image(view: ViewId, text: dict[str, Any], data: bytes) -> Image:
    shape, chunk = _triple(text["shape"], _MOST_PLANES), _triple(text["chunk"], _MOST_PIXELS)
    if math.prod(shape[1:]) > _MOST_IN_PLANE or math.prod(chunk) > 2**32:
        raise ValueError(text)
    dtype = np.dtype(text.get("pixels", text["dtype"])).newbyteorder("=")
    if dtype.kind not in "iuf":
        raise ValueError(text)
    factors = text.get("factors")
    sized = bool(text.get("sized"))
    count = len(data) // (12 if sized else 8)
    level = text["level"]
    if not isinstance(level, int) or not 0 <= level < 64:
        raise ValueError(text)
    filter_level = text.get("filter_level")
    if filter_level is not None and filter_level not in range(10):
        filter_level = None
    return Image(
        view=view,
        level=level,
        path=str(text.get("path", "")),
        factors=None if factors is None else _triple(factors, 2**20),
        shape=shape,
        chunk=chunk,
        dtype=dtype,
        filters=tuple(map(str, text.get("filters", ()))),
        filter_level=filter_level,
        offsets=np.frombuffer(data, "<u8", count),
        lengths=np.frombuffer(data, "<u4", count if sized else 0, 8 * count if sized else 0).astype(np.int64),
    )


def _triple(values: Any, most: int) -> Zyx:
    z, y, x = values
    if not all(isinstance(each, int) and 1 <= each <= most for each in (z, y, x)):
        raise ValueError(values)
    return z, y, x
