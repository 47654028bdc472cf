"""Rows of chunks: one chunk deep in z, all of y and x. Open ones wait for planes; full ones are cut."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.storage.codecs import checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import TypeAlias

    from numpy.typing import NDArray

    from npy2bdv.engine import Engine
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.storage.base import LevelArray, Payload

    ChunkNote: TypeAlias = tuple[int, int, int, int, int, int, int]
    """Where a compressed chunk went: level, place (z, y, x), bytes, checksum, offset."""


class Row:
    """An open row: its pixels in reused memory, and which of its planes they hold.

    Several may read a row (an encoder, a checkpoint); its memory goes back when the last has released it.

    Parameters
    ----------
    engine
        Memory.
    depth, plane, dtype
        Size (z) and (y, x) in pixels, and their type.
    chunk
        Keep pixels in the order of chunks of this size (y, x), which must divide the plane: one copy less for
        rows of which nothing is wanted but to be stored.
    """

    def __init__(
        self,
        engine: Engine,
        depth: int,
        plane: tuple[int, int],
        dtype: np.dtype[Any],
        chunk: tuple[int, int] | None = None,
    ) -> None:
        self._shape = (depth, *plane)
        self._dtype = dtype
        self._grid = None if chunk is None else (plane[0] // chunk[0], plane[1] // chunk[1])
        self._pixels: NDArray[Any]
        if chunk is None or self._grid is None:
            self._pixels = engine.take(self._shape, dtype)
        else:
            self._pixels = engine.take((*self._grid, depth, *chunk), dtype)
        self.there = np.zeros(depth, bool)
        self.logged = np.zeros(depth, bool)
        """Planes that the journal holds."""
        self.held = False
        """Not sent when full: it was sent before, or has parts of planes, and more of it may come."""
        self.kept: Future[None] | None = None
        """The work that stores it for a checkpoint, while it stays open."""
        self._handed: dict[int, NDArray[Any]] = {}
        self._engine = engine
        self._users = 1
        self._guard = threading.Lock()

    @property
    def chunks(self) -> NDArray[Any] | None:
        """The pixels as chunks (chunk in y, chunk in x, z, y, x), where they are kept so."""
        return None if self._grid is None else self._pixels

    @property
    def pixels(self) -> NDArray[Any]:
        """The pixels (z, y, x); where they were in the order of chunks, they are put in this order first."""
        if self._grid is not None:
            plain = self._engine.take(self._shape, self._dtype)
            plain.reshape(self._by_chunk.shape)[...] = self._by_chunk
            self._engine.give(self._pixels)
            self._pixels, self._grid = plain, None
        return self._pixels

    @property
    def _by_chunk(self) -> NDArray[Any]:
        """The chunks seen as planes: (z, chunk in y, y, chunk in x, x)."""
        return self._pixels.transpose(2, 0, 3, 1, 4)

    def put(self, inside: slice, part: NDArray[Any]) -> None:
        """Copy whole planes (z, y, x) to their places."""
        if self._grid is None:
            self._pixels[inside] = part
        else:
            target = self._by_chunk
            target[inside] = part.reshape(len(part), *target.shape[1:])

    def hand_over(self, inside: int, frame: NDArray[Any]) -> None:
        """Take a plane without copying it; its caller does not touch it again."""
        with self._guard:
            before = self._handed.get(inside)
            self._engine.hold(frame.nbytes - (0 if before is None else before.nbytes))
            self._handed[inside] = frame

    def gather(self) -> None:
        """Copy planes that were handed over to their places."""
        with self._guard:
            while self._handed:
                inside, frame = self._handed.popitem()
                self.put(slice(inside, inside + 1), frame[np.newaxis])
                self._engine.hold(-frame.nbytes)

    def retain(self) -> None:
        """Keep the memory until one more `release`."""
        with self._guard:
            self._users += 1

    def release(self) -> None:
        """Let go of the memory."""
        with self._guard:
            self._users -= 1
            last = not self._users
        if last:
            self.gather()
            self._engine.give(self._pixels)


class LevelRows:
    """A stored level, and its rows that are open."""

    def __init__(self, index: int, array: LevelArray) -> None:
        self.index = index
        self.array = array
        self.depth = array.chunk[0]
        self.rows: dict[int, Row] = {}
        self.stored: set[int] = set()
        """Rows of which something was stored, or is being stored."""

    def planes(self, row: int) -> slice:
        """Return the planes of the level that a row spans."""
        return slice(row * self.depth, min((row + 1) * self.depth, self.array.shape[0]))

    def reload(self, row: int, state: Row) -> None:
        """Fill an open row with what was stored of it."""
        planes = self.planes(row)
        valid = planes.stop - planes.start
        state.pixels[:valid] = self.array.read((planes, slice(None), slice(None)))
        state.there[:valid] = True
        state.held = True


class Cutter:
    """Cuts rows into chunks and hands them to the container. Runs in encoder threads.

    Parameters
    ----------
    engine
        Memory, and the turn to store.
    dtype
        Pixel type.
    note
        Told where chunks went that have no fixed place.
    """

    def __init__(
        self,
        engine: Engine,
        dtype: np.dtype[Any],
        note: Callable[[list[ChunkNote]], None] | None,
    ) -> None:
        self.engine = engine
        self.dtype = dtype
        self._note = note

    def cut(
        self,
        level: LevelRows,
        row: int,
        slab: NDArray[Any],
        there: NDArray[np.bool_],
        copied: Callable[[], None] | None = None,
    ) -> None:
        """Cut a row, encode its chunks, and store them, in pieces.

        Planes of the slab (z, y, x) that are not `there` become zero. `copied` is called when the slab is not
        needed any more, while its last piece is still to be stored.
        """
        array = level.array
        level.stored.add(row)
        height, width = (n * size for n, size in zip(array.piece, array.chunk[1:], strict=True))
        corners = [(y, x) for y in range(0, array.shape[1], height) for x in range(0, array.shape[2], width)]
        in_parts = array.takes_parts and bool(there.all())
        for y, x in corners:
            part = slab[:, y : y + height, x : x + width]
            free = copied if (y, x) == corners[-1] else None
            first = row, y // array.chunk[1], x // array.chunk[2]
            if in_parts:
                self._encode(level, first, _parts(part, array.chunk), free)
                continue
            grid = [-(-n // size) for n, size in zip(part.shape[1:], array.chunk[1:], strict=True)]
            piece = self.engine.take((*grid, *array.chunk), self.dtype)
            _fill_chunks(part, there, piece)
            if free is not None:
                free()
            self._encode(level, first, piece)
            self.engine.give(piece)

    def _encode(
        self,
        level: LevelRows,
        first: Zyx,
        piece: Sequence[Sequence[NDArray[Any]]] | NDArray[Any],
        encoded: Callable[[], None] | None = None,
    ) -> None:
        """Encode and store the chunks of a piece (chunk in y, chunk in x, z, y, x); call `encoded` in between."""
        array = level.array
        row, j, i = first
        chunks = {
            (row, j + down, i + right): chunk
            for down, band in enumerate(piece)
            for right, chunk in enumerate(band)
        }
        payloads = [array.encode(chunk, place) for place, chunk in chunks.items()]
        if encoded is not None:
            encoded()
        noted = self._note is not None and array.is_scattered
        sums = [checksum(payload) for payload in payloads] if noted else []
        self.engine.put(partial(self._store, level, [*chunks], payloads, sums), aside=array.is_placed(row))

    def cut_chunks(self, level: LevelRows, row: int, chunks: NDArray[Any]) -> None:
        """As `cut`, for a whole row that is in the order of chunks (chunk in y, chunk in x, z, y, x)."""
        level.stored.add(row)
        high, wide = level.array.piece
        for j in range(0, chunks.shape[0], high):
            for i in range(0, chunks.shape[1], wide):
                self._encode(level, (row, j, i), chunks[j : j + high, i : i + wide])

    def wipe(self, level: LevelRows) -> None:
        """Write zeros over the rows of a level that were stored."""
        for row in sorted(level.stored):
            planes = level.planes(row)
            zeros = np.zeros((planes.stop - planes.start, *level.array.shape[1:]), self.dtype)
            self.cut(level, row, zeros, np.ones(len(zeros), bool))

    def _store(self, level: LevelRows, places: list[Zyx], payloads: list[Payload], sums: list[int]) -> None:
        offsets = level.array.store(list(zip(places, payloads, strict=True)))
        self.engine.wrote(sum(map(len, payloads)))
        if self._note is not None and sums:
            assert offsets is not None
            chunks = zip(places, payloads, sums, offsets, strict=True)
            self._note(
                [(level.index, *place, len(payload), crc, offset) for place, payload, crc, offset in chunks]
            )


def _parts(part: NDArray[Any], chunk: Zyx) -> list[list[NDArray[Any]]]:
    """Return a part (z, y, x) of a row as the chunks that it is made of, which share its memory."""
    height, width = chunk[1:]
    return [
        [part[:, y : y + height, x : x + width] for x in range(0, part.shape[2], width)]
        for y in range(0, part.shape[1], height)
    ]


def _fill_chunks(part: NDArray[Any], there: NDArray[np.bool_], piece: NDArray[Any]) -> None:
    """Copy a part (z, y, x) of a row into its chunks (chunk in y, chunk in x, z, y, x).

    Planes that are not there, and what lies beyond the image, become zero.
    """
    depth, _, wide = part.shape
    height, width = piece.shape[3:]
    for j, band in enumerate(piece):
        rows = part[:, j * height : (j + 1) * height]
        inside = band[:, :depth, : rows.shape[1]]
        whole, rest = divmod(wide, width)
        inside[:whole] = (
            rows[:, :, : whole * width].reshape(depth, rows.shape[1], whole, width).transpose(2, 0, 1, 3)
        )
        if rest:
            inside[whole, :, :, :rest] = rows[:, :, whole * width :]
            band[whole, :, :, rest:] = 0
        band[:, :, rows.shape[1] :] = 0
    piece[:, :, depth:] = 0
    if not there.all():
        piece[:, :, :depth][:, :, ~there[:depth]] = 0


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs of true values as (start, stop)."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
