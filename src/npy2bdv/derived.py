"""Images that are made of another one while they are read: cropped, flipped, binned, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from npy2bdv.downsample import downsample
from npy2bdv.model.pixeledits import Bin, Crop

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import NDArray

    from npy2bdv.model.pixeledits import Flip, PixelEdit
    from npy2bdv.model.pyramid import Region, Zyx


class Image(Protocol):
    """An image (z, y, x) that is read region by region."""

    @property
    def shape(self) -> Zyx:
        """Size (z, y, x)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        ...

    @property
    def rows(self) -> tuple[int, int]:
        """Where slabs that are read at little cost begin: a first plane, which may be negative, and their depth."""
        ...

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region inside the image."""
        ...

    def cost(self, shape: Zyx) -> int:
        """How many pixels are held while a region of a shape is read, at most."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored level as an image."""

    level: Any

    @property
    def shape(self) -> Zyx:
        """Size (z, y, x)."""
        shape: Zyx = self.level.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        dtype: np.dtype[Any] = self.level.dtype
        return dtype

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of chunks."""
        return 0, self.level.chunk[0]

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        pixels: NDArray[Any] = self.level.read(region)
        return pixels

    def cost(self, shape: Zyx) -> int:
        """The region itself."""
        return int(np.prod(shape))


@dataclass(frozen=True, slots=True)
class Cropped:
    """A part of an image."""

    image: Image
    crop: Crop

    @property
    def shape(self) -> Zyx:
        """Size (z, y, x)."""
        return self.crop.shape_after(self.image.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        return self.image.dtype

    @property
    def rows(self) -> tuple[int, int]:
        """As those of the whole image lie."""
        first, depth = self.image.rows
        return (first - self.crop.start[0]) % depth - depth, depth

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        z, y, x = (
            slice(part.start + start, part.stop + start)
            for part, start in zip(_whole(region, self.shape), self.crop.start, strict=True)
        )
        return self.image.read((z, y, x))

    def cost(self, shape: Zyx) -> int:
        """As that of the whole image."""
        return self.image.cost(shape)


@dataclass(frozen=True, slots=True)
class Flipped:
    """An image whose pixels are turned round along an axis."""

    image: Image
    flip: Flip

    @property
    def shape(self) -> Zyx:
        """Size (z, y, x)."""
        return self.image.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        return self.image.dtype

    @property
    def rows(self) -> tuple[int, int]:
        """As those of the image lie, seen from its end."""
        first, depth = self.image.rows
        return ((self.shape[0] - first) % depth - depth, depth) if self.flip.axis == "z" else (first, depth)

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        number = self.flip.number
        size = self.shape[number]
        parts = _whole(region, self.shape)
        turned = [*parts]
        turned[number] = slice(size - parts[number].stop, size - parts[number].start)
        z, y, x = turned
        return np.ascontiguousarray(np.flip(self.image.read((z, y, x)), number))

    def cost(self, shape: Zyx) -> int:
        """It is read once, and copied once."""
        return max(self.image.cost(shape), 2 * int(np.prod(shape)))


@dataclass(frozen=True, slots=True)
class Binned:
    """An image of means over blocks, exactly as `downsample` of the whole image makes it."""

    image: Image
    bin: Bin

    @property
    def shape(self) -> Zyx:
        """Size (z, y, x)."""
        return self.bin.shape_after(self.image.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        return self.image.dtype

    @property
    def rows(self) -> tuple[int, int]:
        """As those of the image lie, where factors divide them."""
        first, depth = self.image.rows
        factor = self.bin.factors[0]
        return (first // factor, depth // factor) if depth % factor == first % factor == 0 else (0, 1)

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region."""
        parts = zip(_whole(region, self.shape), self.bin.factors, self.image.shape, strict=True)
        z, y, x = (slice(part.start * f, min(part.stop * f, size)) for part, f, size in parts)
        return downsample(self.image.read((z, y, x)), self.bin.factors)

    def cost(self, shape: Zyx) -> int:
        """What it is made of, and itself."""
        z, y, x = (size * factor for size, factor in zip(shape, self.bin.factors, strict=True))
        return self.image.cost((z, y, x)) + int(np.prod(shape))


def derived(image: Image, edits: Iterable[PixelEdit]) -> Image:
    """Return what edits, one after the other, make of an image."""
    for edit in edits:
        if isinstance(edit, Crop):
            image = Cropped(image, edit)
        elif isinstance(edit, Bin):
            image = Binned(image, edit)
        else:
            image = Flipped(image, edit)
    return image


def _whole(region: Region, shape: Zyx) -> tuple[slice, slice, slice]:
    """Return a region with both bounds."""
    z, y, x = (slice(*part.indices(size)[:2]) for part, size in zip(region, shape, strict=True))
    return z, y, x
