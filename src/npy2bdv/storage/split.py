"""Datasets that BigStitcher split: each setup is a box of a setup of another container (formats.md 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npy2bdv.errors import FormatError, MissingKeyError
from npy2bdv.handle import Handle
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.base import CountsAbsent, OpensInTensorstore
from npy2bdv.storage.tensors import tensorstore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region, Zyx
    from npy2bdv.model.spimdata import SplitPart
    from npy2bdv.storage.base import FormatCard, LevelPixels, Pixels


class SplitContainer(Handle):
    """Boxes of the images of another container, which it owns.

    A level is there if the box begins at one of its pixels; others would be displaced by a part of a pixel.
    """

    def __init__(self, inner: Pixels, parts: Mapping[int, SplitPart]) -> None:
        self._inner = inner
        self._parts = parts

    @property
    def inner(self) -> Pixels:
        """The container whose images were split."""
        return self._inner

    @property
    def path(self) -> Path:
        """Where the pixels lie."""
        return self._inner.path

    @property
    def card(self) -> FormatCard:
        """What their format can do."""
        return self._inner.card

    def factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        """Return the factors (z, y, x) of the levels, up to the last that fits the box."""
        part = self._part(setup)
        found = []
        for factors in self._inner.factors(part.setup):
            if any(first % factor for first, factor in zip(part.first_xyz[::-1], factors, strict=True)):
                break
            found.append(factors)
        return tuple(found)

    def views(self) -> Iterator[ViewId]:
        """Iterate over the views of which something is stored, by time, then setup."""
        stored = set(self._inner.views())
        found = {
            ViewId(time, new)
            for time, old in stored
            for new, part in self._parts.items()
            if part.setup == old
        }
        yield from sorted(found)

    def has(self, view: ViewId, level: int = 0) -> bool:
        """Tell whether a level of a view is stored."""
        part = self._parts.get(view.setup)
        return (
            part is not None
            and self._inner.has(ViewId(view.time, part.setup), level)
            and level < len(self.factors(view.setup))
        )

    def level(self, view: ViewId, level: int) -> SplitLevel:
        """Return one level of a view."""
        part = self._part(view.setup)
        whole = self._inner.level(ViewId(view.time, part.setup), level)
        kind = SplitTensor if isinstance(whole, OpensInTensorstore) else SplitLevel
        return kind(whole, part, self.factors(view.setup)[level])

    def _part(self, setup: int) -> SplitPart:
        try:
            return self._parts[setup]
        except KeyError:
            raise MissingKeyError(
                f"the XML does not say which part of the split images setup {setup} is"
            ) from None

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        self._inner.close()


class SplitLevel:
    """A box of a level."""

    def __init__(self, whole: LevelPixels, part: SplitPart, factors: tuple[float, float, float]) -> None:
        self._whole = whole
        firsts, lasts = part.first_xyz[::-1], part.last_xyz[::-1]
        self._start = tuple(int(first // factor) for first, factor in zip(firsts, factors, strict=True))
        stop = [
            min(size, int(-(-(last + 1) // factor)))
            for last, factor, size in zip(lasts, factors, whole.shape, strict=True)
        ]
        z, y, x = (max(0, b - a) for a, b in zip(self._start, stop, strict=True))
        if not z * y * x:
            raise FormatError(
                f"the XML takes the pixels {part.first_xyz} to {part.last_xyz} (x, y, z) of setup {part.setup}, "
                f"of which a level has {whole.shape} (z, y, x)"
            )
        self.shape: Zyx = (z, y, x)

    @property
    def chunk(self) -> Zyx:
        """Size of a chunk of the whole image (z, y, x)."""
        return self._whole.chunk

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        return self._whole.dtype

    @property
    def nbytes_on_disk(self) -> int | None:
        """How many bytes the whole image takes, of which this is a part."""
        return self._whole.nbytes_on_disk

    @property
    def compression(self) -> str:
        """How chunks are compressed, in words."""
        return self._whole.compression

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        return self._whole.read(self._moved(region))

    def count_absent(self, region: Region) -> int:
        """Return how many chunks of a region are not stored."""
        return self._whole.count_absent(self._moved(region)) if isinstance(self._whole, CountsAbsent) else 0

    def _moved(self, region: Region) -> Region:
        z, y, x = (
            slice(start + low, start + high)
            for start, (low, high, _) in zip(
                self._start,
                (part.indices(size) for part, size in zip(region, self.shape, strict=True)),
                strict=True,
            )
        )
        return z, y, x


class SplitTensor(SplitLevel):
    """A box of a level that tensorstore can open."""

    def to_tensorstore(self) -> Any:
        """Return the box (z, y, x) as a ``tensorstore.TensorStore`` for reading; its first pixel is (0, 0, 0)."""
        assert isinstance(self._whole, OpensInTensorstore)
        whole = (slice(None), slice(None), slice(None))
        return self._whole.to_tensorstore()[self._moved(whole)][tensorstore().d[:].translate_to[0]]
