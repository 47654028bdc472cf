"""The images of a setup, written anew: edited, in other levels, chunks or another compression."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from npy2bdv.derived import Stored, derived
from npy2bdv.errors import FormatError
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.storage.base import RAW, Codec
from npy2bdv.stream import ViewStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np

    from npy2bdv.derived import Image
    from npy2bdv.engine import Engine
    from npy2bdv.model.pixeledits import PixelEdit
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.model.spimdata import ViewId
    from npy2bdv.storage.base import Container, FormatCard, ImageNote, LevelPixels, Pixels

_SLAB_BYTES = 64 * 2**20
"""What is read at a time, but never less than a row of chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images of one setup, and what they are to become.

    Attributes
    ----------
    setup
        Its id.
    views
        Views of which something is stored.
    stored_shape
        Size of the full resolution on disk (z, y, x).
    dtype
        Pixel type.
    factors, chunks
        Of each level that is to be (z, y, x).
    codec
        How chunks are to be compressed.
    edits
        What is done to the pixels, one after the other.
    density
        Bytes on disk for each byte of pixels, about.
    """

    setup: int
    views: tuple[ViewId, ...]
    stored_shape: Zyx
    dtype: np.dtype[Any]
    factors: tuple[Zyx, ...]
    chunks: tuple[Zyx, ...]
    codec: Codec
    edits: tuple[PixelEdit, ...] = ()
    density: float = 1.0

    @property
    def shape(self) -> Zyx:
        """Size that the full resolution gets (z, y, x)."""
        shape = self.stored_shape
        for edit in self.edits:
            shape = edit.shape_after(shape)
        return shape

    @property
    def pyramid(self) -> Pyramid:
        """The levels that are to be."""
        return Pyramid(shape=self.shape, factors=self.factors, chunks=self.chunks)

    @property
    def nbytes(self) -> int:
        """About how many bytes will be written."""
        pyramid = self.pyramid
        pixels = sum(math.prod(pyramid.level_shape(level)) for level in range(pyramid.n_levels))
        return math.ceil(pixels * self.dtype.itemsize * len(self.views) * self.density)

    def edited(self, edit: PixelEdit) -> Images:
        """Return what they become by a further edit."""
        return replace(self, edits=(*self.edits, edit))


def images_of(
    container: Pixels, setup: int, views: Iterable[ViewId], *, factors: tuple[Zyx, ...] | None = None
) -> Images:
    """Return what is stored of a setup.

    Parameters
    ----------
    container
        The pixels.
    setup
        Its id.
    views
        Views of it of which something is stored; one at least.
    factors
        Of the levels that are to be; by default those that there are.

    Raises
    ------
    FormatError
        If its images cannot be made again from their full resolution.
    """
    views = tuple(views)
    found = container.factors(setup)
    if any(factor != 1 for factor in found[0]):
        raise FormatError(
            f"the first level of setup {setup} has the factors {found[0]} (z, y, x): its full resolution is not "
            "stored, so that its pixels cannot be edited"
        )
    if factors is None:
        factors = tuple(_whole(setup, row) for row in found)
    there = [level for level in range(len(found)) if container.has(views[0], level)]
    levels = [container.level(views[0], level) for level in there]
    full = levels[0]
    for view in views[1:]:
        other = container.level(view, 0)
        if other.shape != full.shape or other.dtype != full.dtype:
            raise FormatError(
                f"setup {setup} has {full.shape} pixels of {full.dtype} (z, y, x) at time point {views[0].time} and "
                f"{other.shape} of {other.dtype} at {view.time}; all time points of a setup must be alike to be edited"
            )
    chunks = [level.chunk for level in levels][: len(factors)]
    chunks += [chunks[-1]] * (len(factors) - len(chunks))
    codec = _codec_of(full, container.card)
    raw_bytes = math.prod(full.shape) * full.dtype.itemsize
    density = 1.0 if codec == RAW else min(1.0, 1.05 * (full.nbytes_on_disk or 0) / raw_bytes)
    return Images(
        setup=setup,
        views=views,
        stored_shape=full.shape,
        dtype=full.dtype,
        factors=factors,
        chunks=tuple(chunks),
        codec=codec,
        density=density,
    )


def _whole(setup: int, row: tuple[float, float, float]) -> Zyx:
    z, y, x = (int(factor) for factor in row)
    if any(a != b or a < 1 for a, b in zip((z, y, x), row, strict=True)):
        raise FormatError(
            f"setup {setup} has a level with the factors {row} (z, y, x), which is not made here; give it other levels "
            "first (set_levels)"
        )
    return z, y, x


def _codec_of(level: LevelPixels, card: FormatCard) -> Codec:
    """Return how a level is compressed, or the nearest that we write: gzip, which every program reads."""
    words = level.compression.split()
    if words[0] == RAW.name:
        return RAW
    name = words[0] if words[0] in card.codecs else "gzip"
    levels = card.codecs[name]
    numbers = [int(word) for word in words[1:] if word.lstrip("-").isdecimal()]
    known = bool(numbers) and levels is not None and numbers[0] in levels
    return Codec(name=name, level=numbers[0] if known and name == words[0] else None)


def write_view(
    source: Container,
    view: ViewId,
    images: Images,
    target: Container,
    new: ViewId,
    engine: Engine,
    note: ImageNote,
) -> Iterator[int]:
    """Write the new images of a view, under another id; yield after each slab how many planes are done.

    Parameters
    ----------
    source, view
        Where it is read.
    images
        What it becomes.
    target, new
        Where it is written, and as which view.
    engine
        Threads and memory.
    note
        What the format may say of it.
    """
    image = derived(Stored(source.level(view, 0)), images.edits)
    pyramid = images.pyramid
    arrays = target.declare(new, pyramid, images.dtype, images.codec, note)
    levels = list(zip(pyramid.factors, arrays, strict=True))
    with ViewStream(engine, pyramid.shape, images.dtype, levels) as stream:
        for start, stop in _slabs(image):
            stream.put(image.read((slice(start, stop), slice(None), slice(None))), start)
            yield stop
    engine.drain()
    missing = list(source.missing_planes(view))
    depth = images.stored_shape
    for edit in images.edits:
        missing, depth = edit.planes(missing, depth[0]), edit.shape_after(depth)
    if missing:
        target.note_missing_planes(new, missing)
    target.complete(new)


def _slabs(image: Image) -> Iterator[tuple[int, int]]:
    """Iterate over runs of planes (start, stop) that are read at a time: whole rows of chunks of what is stored."""
    first, depth = image.rows
    _, tall, wide = image.shape
    row = image.cost((depth, tall, wide)) * image.dtype.itemsize
    step = depth * max(1, _SLAB_BYTES // max(row, 1))
    starts: Sequence[int] = range(first, image.shape[0], step)
    for start in starts:
        if start + step > 0:
            yield max(0, start), min(start + step, image.shape[0])
