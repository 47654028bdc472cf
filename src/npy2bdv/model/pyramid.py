"""Resolution pyramids: sizes, chunks and places of the levels of one image."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import index

from npy2bdv.errors import InvalidInputError, OutOfRangeError
from npy2bdv.model.affine import Affine

Zyx = tuple[int, int, int]
Region = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pyramid:
    """The levels of an image of one shape.

    A region is three slices (z, y, x), counted from 0, without steps. Those given may leave out bounds or
    reach beyond the image, which clips them; those returned have both bounds and lie inside the image.

    Parameters
    ----------
    shape
        Size of the full image (z, y, x), in pixels.
    factors
        For each level how many pixels of the full image one of its pixels spans (z, y, x), in any order of
        levels; the first need not be the full image.
    chunks
        Chunk shapes (z, y, x): one for each level, or one that serves all. A chunk may exceed its level.

    Raises
    ------
    InvalidInputError
        If a number is below 1 or no integer, or if there are not as many chunks as levels.

    Examples
    --------
    >>> pyramid = Pyramid(shape=(101, 800, 1023), factors=((1, 1, 1), (1, 2, 2)), chunks=((4, 256, 256),))
    >>> pyramid.level_shape(1)
    (101, 400, 512)
    >>> pyramid.grid(1)
    (26, 2, 2)
    """

    shape: Zyx
    factors: tuple[Zyx, ...]
    chunks: tuple[Zyx, ...]

    def __post_init__(self) -> None:
        factors = _triples(self.factors, "factors")
        chunks = _triples(self.chunks, "chunks")
        if len(chunks) == 1:
            chunks *= len(factors)
        if len(chunks) != len(factors):
            raise InvalidInputError(
                f"{len(factors)} levels need as many chunk shapes, or one for all; found {len(chunks)}"
            )
        object.__setattr__(self, "shape", _triple(self.shape, "shape"))
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "chunks", chunks)

    @property
    def n_levels(self) -> int:
        """How many levels there are."""
        return len(self.factors)

    def level_shape(self, level: int) -> Zyx:
        """Size of a level (z, y, x): the full image by the factors, rounded up, as BDV >= 10.6.2 does."""
        return _ceil_div(self.shape, self.factors[self._checked(level)])

    def level_transform(self, level: int) -> Affine:
        """Map pixels of a level to pixels of the full image (``MipmapTransforms`` of bigdataviewer-core)."""
        return Affine.binning(self.factors[self._checked(level)][::-1])

    def grid(self, level: int) -> Zyx:
        """How many chunks a level has along each axis (z, y, x)."""
        return _ceil_div(self.level_shape(level), self.chunks[level])

    def rows(self, level: int) -> int:
        """How many rows of chunks a level has: a row is one chunk deep in z and spans all of y and x."""
        return self.grid(level)[0]

    def footprint(self, level: int, region: Region) -> Region:
        """Give the pixels of the full image that are averaged into a region of a level."""
        factors = self.factors[self._checked(level)]
        bounds = zip(_bounds(region, self.level_shape(level)), factors, self.shape, strict=True)
        z, y, x = (slice(min(start * f, size), min(stop * f, size)) for (start, stop), f, size in bounds)
        return z, y, x

    def covering(self, level: int, region: Region) -> Region:
        """Give the pixels of a level into which a region of the full image goes, wholly or in part."""
        factors = self.factors[self._checked(level)]
        bounds = zip(_bounds(region, self.shape), factors, strict=True)
        z, y, x = (
            slice(start // f, -(-stop // f) if stop > start else start // f) for (start, stop), f in bounds
        )
        return z, y, x

    def _checked(self, level: int) -> int:
        if not 0 <= level < self.n_levels:
            raise OutOfRangeError(
                f"there is no level {level}; this image has the levels 0 to {self.n_levels - 1}"
            )
        return level


def propose(
    shape: Iterable[int], voxel_size_xyz: Iterable[float], max_elements: int = 4096
) -> tuple[tuple[Zyx, ...], tuple[Zyx, ...]]:
    """Propose factors and chunks, as BigDataViewer does (``ProposeMipmaps`` of bigdataviewer-core).

    Axes with small voxels are halved until the voxels are about cubic, then all axes, until no side is longer
    than 256 pixels. Chunks are about cubic in the world and sides are powers of two.

    Parameters
    ----------
    shape
        Size of the image (z, y, x), in pixels.
    voxel_size_xyz
        Size of a voxel (x, y, z), in any unit.
    max_elements
        How many pixels a chunk should hold (BDV leaves more where voxels are very unequal). BDV takes 4096,
        which suits its display; larger chunks write faster.

    Returns
    -------
    factors, chunks
        One triple (z, y, x) for each level.

    Examples
    --------
    >>> factors, chunks = propose((100, 2048, 2048), (0.406, 0.406, 2))
    >>> factors
    ((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8))
    >>> chunks
    ((4, 32, 32), (8, 16, 32), (16, 16, 16), (16, 16, 16))
    """
    full = _triple(shape, "shape")[::-1]
    voxel = tuple(map(float, voxel_size_xyz))
    if len(voxel) != 3 or not all(math.isfinite(v) and v > 0 for v in voxel):
        raise InvalidInputError(f"a voxel has three finite sizes above 0 (x, y, z); found {voxel}")
    if index(max_elements) < 1:
        raise InvalidInputError(f"a chunk holds at least 1 pixel; found max_elements={max_elements}")

    levels = list(_proposed_levels(full, voxel, max_elements))
    return tuple(f[::-1] for f, _ in levels), tuple(c[::-1] for _, c in levels)


# Below, as in BDV, all triples are (x, y, z): where axes tie, x comes first.


def _proposed_levels(full: Zyx, voxel: Iterable[float], max_elements: int) -> Iterator[tuple[Zyx, Zyx]]:
    scale = _relative(voxel)
    factors = [1, 1, 1]
    while True:
        size = [max(1, n // f) for n, f in zip(full, factors, strict=True)]
        yield (factors[0], factors[1], factors[2]), _proposed_chunk(scale, size, max_elements)
        if max(size) <= 256:
            return
        halved = [d for d in range(3) if scale[d] <= 2 and size[d] > 1]
        for d in halved or range(3):
            factors[d] *= 2
        for d in halved:
            scale[d] *= 2
        scale = _relative(scale)


def _proposed_chunk(scale: list[float], size: list[int], max_elements: int) -> Zyx:
    """Find the powers of two whose product is max_elements and whose lengths in the world differ least."""
    sides = [1 / s for s in scale]
    stretch = (max_elements / math.prod(sides)) ** (1 / 3)
    bits = [math.log2(stretch * side) for side in sides]
    cap = [(n - 1).bit_length() for n in size]
    n_bits = [min(max(0, int(b)), c) for b, c in zip(bits, cap, strict=True)]
    while sum(n_bits) + 1 <= math.log2(max_elements):
        longer = [d for d in range(3) if n_bits[d] < cap[d]]
        n_bits[max(longer, key=lambda d: bits[d] - n_bits[d] + 0.01 * (3 - d), default=0)] += 1
    return 2 ** n_bits[0], 2 ** n_bits[1], 2 ** n_bits[2]


def _relative(voxel: Iterable[float]) -> list[float]:
    sizes = list(voxel)
    return [v / min(sizes) for v in sizes]


def _ceil_div(sizes: Zyx, by: Zyx) -> Zyx:
    z, y, x = (-(-n // f) for n, f in zip(sizes, by, strict=True))
    return z, y, x


def _bounds(region: Region, shape: Zyx) -> Iterator[tuple[int, int]]:
    """Read the slices of a region as (start, stop) inside a shape."""
    if len(region) != 3:
        raise InvalidInputError(f"a region is three slices (z, y, x); found {len(region)}")
    for s, size in zip(region, shape, strict=True):
        if (s.start or 0) < 0 or (s.stop or 0) < 0 or s.step not in (None, 1):
            raise InvalidInputError(f"a region is counted from 0 and has no steps; found {s}")
        start, stop, _ = s.indices(size)
        yield start, max(start, stop)


def _triples(found: Iterable[Iterable[int]], what: str) -> tuple[Zyx, ...]:
    try:
        triples = tuple(_triple(t, what) for t in found)
    except TypeError:
        raise InvalidInputError(
            f"{what} are triples of integers (z, y, x), one for each level; found {found!r}"
        ) from None
    if not triples:
        raise InvalidInputError(f"{what} are triples of integers (z, y, x), one for each level; found none")
    return triples


def _triple(found: Iterable[int], what: str) -> Zyx:
    try:
        numbers = tuple(map(index, found))
    except TypeError:
        raise InvalidInputError(f"{what}: three integers (z, y, x) are needed; found {found!r}") from None
    if len(numbers) != 3 or min(numbers) < 1:
        raise InvalidInputError(f"{what}: three integers of at least 1 (z, y, x) are needed; found {numbers}")
    return numbers[0], numbers[1], numbers[2]
