"""Block means for the levels of a resolution pyramid: arrays in, arrays out.

`downsample` makes one level of a whole array. `Cascade` makes all levels of an image while its planes pass
by, and gives the same bits.

The rules are those of BigDataViewer >= 10.6.2: a level has ceil(size / factor) cells per axis, and where a
block reaches beyond the image, the edge pixel is repeated.

Integers are floor(mean + 0.5) of the exact mean of the pixels, rounded once. Sums take the smallest type that
holds them; pixels of 64 bits are summed as two words of 32 bits.

Floats are summed in float64 in one fixed order: within a plane along x, then along y, then plane after plane
along z, always from low to high index. An edge pixel that counts n times is added once, multiplied by n. NaN
and infinity pass through; a sum beyond the range of float64 becomes infinity.
"""

from __future__ import annotations

import math
import operator
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npy2bdv.errors import InvalidInputError, InvalidTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, DTypeLike

__all__ = ["Cascade", "Finished", "downsample"]

Array: TypeAlias = NDArray[Any]

# Bytes of source that are summed at a time, so that sums stay in the L2 cache until they are done.
_STRIP = 1024 * 1024

# Pixels in one block. Up to here sums of 32-bit words fit in 63 bits.
_MAX_COUNT = 2**31


def downsample(array: ArrayLike, factors: Sequence[int]) -> Array:
    """Return the mean over blocks of pixels; the rules stand at the head of this module.

    Parameters
    ----------
    array
        Image of axes (z, y, x), or (y, x); signed or unsigned integers of 8 to 64 bits, float32 or float64;
        any strides and byte order.
    factors
        Size of a block in pixels, one number >= 1 per axis, in the order of the axes. Blocks may exceed the
        image, up to 2**31 pixels.

    Returns
    -------
    ndarray
        New array of ceil(size / factor) cells per axis; same pixel type, native byte order.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        If the factors do not suit the array, if it holds no pixel, or pixels of another type.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[1, 2, 3, 4, 10], [0, 1, 0, 1, 20], [7, 8, 9, 10, 30]], dtype="uint16")
    >>> downsample(image, (2, 2))
    array([[ 1,  2, 15],
           [ 8, 10, 30]], dtype=uint16)
    """
    image = np.asarray(array)
    shape = _checked_shape(image.shape, {2, 3})
    dtype = _checked_dtype(image.dtype)
    block = _checked_factors(factors, image.ndim)
    if math.prod(block) == 1:
        return image.astype(dtype)
    if image.ndim == 2:
        image, shape, block = image[np.newaxis], (1, *shape), (1, *block)
    (level,) = _plan(shape, dtype, [block])
    result = np.empty(level.shape, dtype)
    sums = level.new_sums()
    with np.errstate(all="ignore"):
        for z, plane in enumerate(result):
            members = level.members(z)
            level.add(image[members.start : members.stop], sums, fresh=True, weight=level.weight(members))
            level.round(sums, plane)
    return result.reshape(result.shape[-np.ndim(array) :])


class Finished(NamedTuple):
    """A complete plane of a level: `pixels` (y, x) at index `z` of the level that has this index."""

    level: int
    z: int
    pixels: Array


class Cascade:
    """All levels of one image, made while its planes pass by in any order.

    Every level equals `downsample` of the whole image to the last bit. Integer levels are made of the
    unrounded sums of the nearest earlier level whose factors divide theirs, or else of the pixels; float
    levels of the pixels, as the order of summation matters. Planes in order need memory for a plane of sums
    per level; out of order, more cells are open at a time (`open_bytes`). One thread at a time may use it.

    A *group* is the shortest run of planes that no cell of any level straddles: as many as the least common
    multiple of the z factors. Groups do not depend on each other.

    Parameters
    ----------
    shape
        Size of the image, (z, y, x).
    dtype
        Pixel type, as in `downsample`.
    factors
        Factors (z, y, x) of each level against the image. Levels of factors (1, 1, 1) are not produced.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        As in `downsample`.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(3 * 4 * 4, dtype="uint16").reshape(3, 4, 4)
    >>> cascade = Cascade(image.shape, image.dtype, [(1, 1, 1), (1, 2, 2), (2, 4, 4)])
    >>> for z in range(3):
    ...     for level, z_there, pixels in cascade.push(z, image[z : z + 1]):
    ...         print(level, z_there, pixels.tolist())
    1 0 [[3, 5], [11, 13]]
    1 1 [[19, 21], [27, 29]]
    2 0 [[16]]
    1 2 [[35, 37], [43, 45]]
    2 1 [[40]]
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike, factors: Iterable[Sequence[int]]) -> None:
        self._shape = _checked_shape(shape, {3})
        self._dtype = _checked_dtype(np.dtype(dtype))
        checked = [_checked_factors(each, 3) for each in factors]
        self._levels = _plan(self._shape, self._dtype, checked)
        self._depths = [each[0] for each in checked]
        self._group = min(math.lcm(*self._depths), self._shape[0])
        self._came = np.zeros(self._shape[0], bool)
        self._cells: dict[tuple[int, int], _Cell] = {}  # by level and z
        self._spare: dict[int, Array] = {}  # by level: sums to be used again, because fresh memory is slow

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the image, (z, y, x)."""
        return self._shape

    @property
    def open_bytes(self) -> int:
        """Memory held by the sums of unfinished cells, in bytes."""
        cells = self._cells.values()
        return sum(each.nbytes for cell in cells for each in (cell.sums, *cell.held.values()))

    @property
    def open_ranges(self) -> list[tuple[int, int]]:
        """Planes (start, stop) of each group with unfinished cells, in ascending order."""
        starts = sorted({self._group_of(*key) * self._group for key in self._cells})
        return [(start, min(start + self._group, self._shape[0])) for start in starts]

    def push(self, z: int, slab: ArrayLike) -> list[Finished]:
        """Take planes of the image and return the planes of the levels that they complete.

        Parameters
        ----------
        z
            Index of the first plane.
        slab
            Planes z, z + 1, ... of the image, (n, y, x), in its pixel type. No reference to it is kept.

        Raises
        ------
        InvalidInputError
            If the slab is not a part of this image, or one of its planes came before. Nothing is taken then.
        """
        planes = np.asarray(slab)
        stop = z + len(planes) if planes.ndim == 3 else z
        if planes.shape[1:] != self._shape[1:] or not 0 <= z < stop <= self._shape[0]:
            raise InvalidInputError(
                f"a slab must hold whole planes (n, y, x) inside the image of shape {self._shape}; "
                f"got an array of shape {planes.shape} to begin at plane {z}"
            )
        if planes.dtype.newbyteorder("=") != self._dtype:
            raise InvalidInputError(f"the image is of type {self._dtype}; got planes of type {planes.dtype}")
        if self._came[z:stop].any():
            again = z + int(self._came[z:stop].argmax())
            raise InvalidInputError(f"plane {again} came before; call forget() first to replace its group")
        self._came[z:stop] = True
        finished: list[Finished] = []
        with np.errstate(all="ignore"):
            self._feed(None, z, planes, finished)
        return finished

    def finish(self) -> list[Finished]:
        """Return the planes of cells that were fed in part, as if the planes that never came were zero.

        Cells of which no plane came are not returned. Afterwards nothing is open, and all planes of a group
        that was fed in part count as given.
        """
        finished: list[Finished] = []
        zeros = np.zeros((1, *self._shape[1:]), self._dtype)
        with np.errstate(all="ignore"):
            for level in self._levels:  # a source comes before the levels that take the rest of its sums
                for z in sorted(z for index, z in self._cells if index == level.index):
                    if not level.ordered:
                        self._complete(level, z, finished)
                        continue
                    cell = self._cells[level.index, z]
                    for k in sorted(set(range(cell.turn, level.members(z).stop)) - cell.held.keys()):
                        self._add(level, z, k, zeros, finished)
        touched = np.logical_or.reduceat(self._came, np.arange(0, len(self._came), self._group))
        self._came = np.repeat(touched, self._group)[: len(self._came)]
        return finished

    def forget(self, start: int, stop: int) -> tuple[int, int]:
        """Drop all that is known of the groups of planes start .. stop - 1; return their (start, stop).

        This bounds memory, and lets planes be replaced. To make the levels right, push all planes of the
        returned range again; level planes that were finished there are then returned once more.
        """
        depth = self._shape[0]
        if not 0 <= start < stop <= depth:
            raise InvalidInputError(f"the image has planes 0 .. {depth - 1}; got {start} .. {stop - 1}")
        groups = range(start // self._group, (stop - 1) // self._group + 1)
        for key in [key for key in self._cells if self._group_of(*key) in groups]:
            del self._cells[key]
        begin, end = groups.start * self._group, min(groups.stop * self._group, depth)
        self._came[begin:end] = False
        return begin, end

    def _group_of(self, level: int, z: int) -> int:
        return z * self._depths[level] // self._group

    def _feed(self, source: int | None, z: int, planes: Array, finished: list[Finished]) -> None:
        """Give planes z, z + 1, ... of a source (a level; None: the image) to the levels made of it."""
        for level in self._levels:
            if level.source == source:
                for cell in level.cells_over(z, z + len(planes)):
                    members = level.members(cell)
                    start, stop = max(z, members.start), min(z + len(planes), members.stop)
                    self._add(level, cell, start, planes[start - z : stop - z], finished)

    def _add(self, level: _Level, z: int, start: int, planes: Array, finished: list[Finished]) -> None:
        """Add planes of the source, the first of index `start`, to the cells in plane z of a level."""
        members = level.members(z)
        cell = self._cells.get((level.index, z))
        if cell is None:
            sums = self._spare.pop(level.index) if level.index in self._spare else level.new_sums()
            cell = _Cell(sums=sums, due=len(members), turn=members.start)
            self._cells[level.index, z] = cell
        if level.ordered and start != cell.turn:
            for k in range(len(planes)):
                cell.held[start + k] = level.new_sums()
                level.add(planes[k : k + 1], cell.held[start + k], fresh=True)
        else:
            cell.turn = start + len(planes)
            weight = level.weight(members)
            level.add(planes, cell.sums, fresh=cell.fresh, weight=weight if cell.turn == members.stop else 1)
            cell.fresh = False
            while cell.turn in cell.held:
                part = cell.held.pop(cell.turn)
                cell.turn += 1
                cell.sums += part * weight if cell.turn == members.stop else part
        cell.due -= len(planes)
        if not cell.due:
            self._complete(level, z, finished)

    def _complete(self, level: _Level, z: int, finished: list[Finished]) -> None:
        """Round the cells in plane z of a level, and pass their sums on to the levels made of them."""
        sums = self._cells.pop((level.index, z)).sums
        if z < level.shape[0]:
            pixels = np.empty(level.shape[1:], self._dtype)
            level.round(sums, pixels)
            finished.append(Finished(level.index, z, pixels))
        self._feed(level.index, z, sums[np.newaxis], finished)
        self._spare[level.index] = sums


@dataclass(slots=True, kw_only=True)
class _Cell:
    """The unfinished cells in one plane of a level: `due` planes of the source are still to come.

    Where the order counts, planes that come before their `turn` are held back, summed along x and y already.
    """

    sums: Array
    due: int
    turn: int
    fresh: bool = True  # nothing was added to the sums yet: they hold anything
    held: dict[int, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """How the sums of one level are made of a source: of the pixels, or of the sums of an earlier level.

    Sums have the axes (word, y, x). "The last element is repeated" is right for pixels, but not for sums, as
    the last cell may hold more than the edge pixel. Where the image is not a whole number of blocks, a level
    that others are made of therefore carries one more cell per axis, which lies wholly beyond the edge.
    """

    index: int
    source: int | None  # a level; None: the pixels
    factors: tuple[int, ...]  # against the source
    length: tuple[int, ...]  # size of the source
    shape: tuple[int, ...]  # size of this level
    cells: tuple[int, ...]  # the same with the cells carried
    count: int  # pixels in a cell
    words: int  # arrays that make up the sums
    sums: np.dtype[Any]

    @property
    def ordered(self) -> bool:
        """Whether the order of summation matters."""
        return self.sums.kind == "f"

    def new_sums(self) -> Array:
        return np.empty((self.words, *self.cells[1:]), self.sums)

    def members(self, z: int) -> range:
        """Return the planes of the source in plane z of this level."""
        return _members(z, self.factors[0], self.length[0])

    def weight(self, members: range) -> int:
        """Return how often the last of these planes counts."""
        return self.factors[0] - len(members) + 1

    def cells_over(self, start: int, stop: int) -> range:
        """Return the planes of this level in which planes start .. stop - 1 of the source have a part."""
        factor, length, cells = self.factors[0], self.length[0], self.cells[0]
        return range(start // factor, cells if stop == length else min(-(-stop // factor), cells))

    def add(self, planes: Array, sums: Array, *, fresh: bool, weight: int = 1) -> None:
        """Add planes of the source to sums (if `fresh`, in place of them); the last counts `weight` times."""
        (_, factor_y, factor_x), (_, length_y, length_x) = self.factors, self.length
        _, cells_y, cells_x = self.cells
        paired = weight == 1 and factor_x % 2 == 0 and factor_x <= length_x and _has_pairs(planes)
        together = len(planes) if paired else 1
        step = min(cells_y, max(1, _STRIP // (together * factor_y * length_x * planes.itemsize)))
        rows = max(step, min(step * factor_y, length_y))
        scratch = _scratch(together * rows * max(length_x, 2 * cells_x), self.sums)
        part = _shaped(_scratch(step * cells_x, self.sums, "part"), step, cells_x)
        for top in range(0, cells_y, step):
            strip = sums[:, top : top + step]
            band = slice(min(top * factor_y, length_y - 1), min((top + step) * factor_y, length_y))
            if paired:
                here = strip[0] if fresh else part[: strip.shape[1]]
                _sum_paired(planes[:, band], factor_y, factor_x, here, scratch)
                if not fresh:
                    np.add(strip[0], here, out=strip[0])
                continue
            for k, plane in enumerate(planes):
                for total, source in zip(strip, _words(plane[..., band, :]), strict=True):
                    first = fresh and k == 0
                    here = total if first else part[: len(total)]
                    _sum_plane(source, factor_y, factor_x, here, scratch)
                    if weight > 1 and k == len(planes) - 1:
                        here *= weight
                    if not first:
                        np.add(total, here, out=total)

    def round(self, sums: Array, pixels: Array) -> None:
        """Write the means of the cells inside the image to `pixels`, (y, x)."""
        step = max(1, _STRIP // (pixels.shape[1] * sums.itemsize))
        for top in range(0, len(pixels), step):
            strip = pixels[top : top + step]
            _round(sums[:, top : top + len(strip), : strip.shape[1]], self.count, strip)


def _plan(shape: tuple[int, ...], dtype: np.dtype[Any], factors: list[tuple[int, ...]]) -> list[_Level]:
    """Choose what each level is made of, and which must carry cells for others."""
    sources = [None if dtype.kind == "f" else _source(factors, k) for k in range(len(factors))]
    ragged = [any(n % each[axis] for each in factors) for axis, n in enumerate(shape)]
    levels: dict[int | None, _Level] = {}
    for k, (each, source) in enumerate(zip(factors, sources, strict=True)):
        if math.prod(each) == 1:
            continue
        base = (1, 1, 1) if source is None else factors[source]
        size = tuple(-(-n // f) for n, f in zip(shape, each, strict=True))
        words, sums = _sum_type(dtype, math.prod(each))
        levels[k] = _Level(
            index=k,
            source=source,
            factors=tuple(f // g for f, g in zip(each, base, strict=True)),
            length=shape if source is None else levels[source].cells,
            shape=size,
            cells=tuple(n + (more and k in sources) for n, more in zip(size, ragged, strict=True)),
            count=math.prod(each),
            words=words,
            sums=sums,
        )
    return list(levels.values())


def _source(factors: list[tuple[int, ...]], k: int) -> int | None:
    """Return the level nearest before k whose factors divide those of level k, or None."""
    for j in reversed(range(k)):
        if math.prod(factors[j]) > 1 and not any(f % g for f, g in zip(factors[k], factors[j], strict=True)):
            return j
    return None


def _sum_type(dtype: np.dtype[Any], count: int) -> tuple[int, np.dtype[Any]]:
    """Return the number of words and the smallest type in which `count` pixels and half of `count` add up."""
    if dtype.kind == "f":
        return 1, np.dtype(np.float64)
    if dtype.itemsize == 8:
        return 2, np.dtype(np.int64)
    pixel = np.iinfo(dtype)
    for bits in (16, 32):
        sums = np.iinfo(f"{dtype.kind}{bits // 8}")
        if sums.min <= count * pixel.min and count * pixel.max + count // 2 <= sums.max:
            return 1, sums.dtype
    return 1, np.dtype(f"{dtype.kind}8")


def _words(source: Array) -> Array | tuple[Array, ...]:
    """Return what is summed one by one: words of sums, the high and low words of 64-bit pixels, or pixels."""
    if source.ndim == 3:
        return source
    if source.dtype.kind in "iu" and source.dtype.itemsize == 8:
        return (source >> 32).astype(np.int64), (source & 0xFFFFFFFF).astype(np.int64)
    return (source,)


def _sum_plane(source: Array, factor_y: int, factor_x: int, sums: Array, scratch: Array) -> None:
    """Sum the blocks of a plane. Floats along x first, as promised; integers along y first, it is faster.

    `scratch` is memory in one row for what is half way.
    """
    if sums.dtype.kind == "f":
        half_way = _shaped(scratch, len(source), sums.shape[1])
        _sum_cells(source, factor_x, half_way)
        _sum_cells(half_way.T, factor_y, sums.T)
    else:
        half_way = _shaped(scratch, len(sums), source.shape[1])
        _sum_cells(source.T, factor_y, half_way.T)
        _sum_cells(half_way, factor_x, sums)


def _has_pairs(planes: Array) -> bool:
    """Tell whether two neighbours along x can be seen as one word of twice the size."""
    if planes.ndim != 3 or planes.dtype not in (np.uint8, np.uint16) or not planes.dtype.isnative:
        return False
    word = 2 * planes.itemsize
    *others, along_x = planes.strides
    return along_x == planes.itemsize and not any(n % word for n in (*others, planes.ctypes.data))


def _sum_paired(planes: Array, factor_y: int, factor_x: int, sums: Array, scratch: Array) -> None:
    """Sum the blocks of planes of small unsigned integers, planes together, pairs of neighbours along x first.

    A word as wide as two pixels holds the sum of both: no strides, and no casts where sums are that wide.
    """
    inside = min(planes.shape[-1] // factor_x, sums.shape[-1])
    bits = 8 * planes.itemsize
    words = planes[..., : inside * factor_x].view(f"u{2 * planes.itemsize}")
    pairs = scratch[: words.size].reshape(words.shape)
    other = scratch[words.size : 2 * words.size].reshape(words.shape)
    np.bitwise_and(words, 2**bits - 1, out=pairs)
    np.right_shift(words, bits, out=other)
    np.add(pairs, other, out=pairs)
    rows = sums[:, :inside]
    if factor_x > 2:
        rows = _shaped(scratch[words.size :], len(sums), words.shape[-1])
    _sum_cells(pairs[0].T, factor_y, rows.T)
    for plane in pairs[1:]:
        if len(plane) == factor_y * len(rows):
            for k in range(factor_y):
                np.add(rows, plane[k::factor_y], out=rows)
        else:
            more = np.empty_like(rows)
            _sum_cells(plane.T, factor_y, more.T)
            np.add(rows, more, out=rows)
    if factor_x > 2:
        _sum_cells(rows, factor_x // 2, sums[:, :inside])
    if inside < sums.shape[1]:  # with the last whole block, which they may repeat
        edge = np.empty((len(sums), sums.shape[1] - inside + 1), sums.dtype)
        sums[:, inside:] = 0
        for plane in planes[..., (inside - 1) * factor_x :]:
            _sum_plane(plane, factor_y, factor_x, edge, scratch)
            np.add(sums[:, inside:], edge[:, 1:], out=sums[:, inside:])


_KEPT = threading.local()


def _scratch(size: int, dtype: np.dtype[Any], use: str = "half way") -> Array:
    """Return memory of this thread in one row, the same at each call: fresh memory is slow."""
    nbytes = size * dtype.itemsize
    kept: Array | None = getattr(_KEPT, use, None)
    if kept is None or kept.nbytes < nbytes:
        kept = np.empty(nbytes, np.uint8)
        if nbytes <= 8 * _STRIP:
            setattr(_KEPT, use, kept)
    return kept[:nbytes].view(dtype)


def _shaped(scratch: Array, rows: int, columns: int) -> Array:
    return scratch[: rows * columns].reshape(rows, columns)


def _sum_cells(source: Array, factor: int, sums: Array) -> None:
    """Sum `factor` neighbours along the last axis, from low to high index; the last element is repeated."""
    length, cells = source.shape[-1], sums.shape[-1]
    inside = min(length // factor, cells)
    if inside:
        blocks, total = source[..., : inside * factor], sums[..., :inside]
        if factor == 1:
            np.copyto(total, blocks)
        else:
            np.add(blocks[..., 0::factor], blocks[..., 1::factor], out=total, dtype=total.dtype)
        for k in range(2, factor):
            np.add(total, blocks[..., k::factor], out=total)
    for cell in range(inside, cells):
        members = _members(cell, factor, length)
        total = sums[..., cell]
        total[...] = 0
        for k in members[:-1]:
            np.add(total, source[..., k], out=total)
        last = np.multiply(source[..., -1], factor - len(members) + 1, dtype=total.dtype)
        np.add(total, last, out=total)


def _members(cell: int, factor: int, length: int) -> range:
    """Return the elements of a cell: `factor` of them, or fewer where the last one is repeated."""
    return range(min(cell * factor, length - 1), min((cell + 1) * factor, length))


def _round(sums: Array, count: int, pixels: Array) -> None:
    """Write floor(sum / count + 0.5), or sum / count for floats."""
    half = count // 2  # added before a floor division, it does for even and odd counts
    if sums.dtype.kind == "f":
        np.divide(sums[0], count, out=pixels, casting="same_kind")
    elif len(sums) == 2:
        low = sums[1] + half
        high, rest = np.divmod(sums[0] + (low >> 32), count)
        np.add(high << 32, ((rest << 32) + (low & 0xFFFFFFFF)) // count, out=pixels, casting="unsafe")
    elif count & (count - 1):
        np.floor_divide(sums[0] + half, count, out=pixels, casting="unsafe")
    else:
        rounded = _shaped(_scratch(pixels.size, sums.dtype), *pixels.shape)
        np.add(sums[0], half, out=rounded)
        np.right_shift(rounded, count.bit_length() - 1, out=pixels, casting="unsafe")


def _checked_shape(shape: Sequence[int], axes: set[int]) -> tuple[int, ...]:
    if len(shape) not in axes or min(shape) < 1:
        allowed = " or ".join(map(str, sorted(axes)))
        raise InvalidInputError(f"an image has {allowed} axes, none of them empty; got shape {tuple(shape)}")
    return tuple(shape)


def _checked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype.name == "float16":
        raise InvalidTypeError(
            f"pixels of type {dtype} cannot be averaged; convert them to an integer type, float32 or float64"
        )
    return dtype.newbyteorder("=")


def _checked_factors(factors: Sequence[int], axes: int) -> tuple[int, ...]:
    try:
        checked = tuple(operator.index(each) for each in factors)
    except TypeError:
        raise InvalidInputError(f"downsampling factors must be whole numbers; got {factors}") from None
    if len(checked) != axes or min(checked) < 1:
        raise InvalidInputError(f"{axes} downsampling factors of 1 or more are needed; got {checked}")
    if math.prod(checked) > _MAX_COUNT:
        raise InvalidInputError(f"a block holds at most 2**31 pixels; the factors {checked} ask for more")
    return checked
