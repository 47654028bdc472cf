"""Block means for the levels of a resolution pyramid: arrays in, arrays out.

`downsample` makes one level of a whole array. `Cascade` makes all levels of an image while its planes pass by, and
gives the same bits.

The rules are those of BigDataViewer >= 10.6.2: a level has ceil(size / factor) cells per axis, and where a block
reaches beyond the image, the edge pixel is repeated.

Integers are floor(mean + 0.5) of the exact mean of the pixels, rounded once. Sums take the smallest type that holds
them; pixels of 64 bits are summed as two words of 32 bits.

Floats are summed in float64 in one fixed order: within a plane along x, then along y, then plane after plane along z,
always from low to high index. An edge pixel that counts n times is added once, multiplied by n. NaN and infinity
pass through; a sum beyond the range of float64 becomes infinity.
"""

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from npy2bdv.errors import InvalidInputError, InvalidTypeError

__all__ = ["Cascade", "Finished", "downsample"]

Array: TypeAlias = NDArray[Any]
Triple: TypeAlias = tuple[int, int, int]

# Bytes of source that are summed at a time, so that the sums stay in the L2 cache until they are done.
_STRIP = 512 * 1024

# Pixels in one block. Up to here sums of 32-bit words fit in 63 bits.
_MAX_COUNT = 2**31


def downsample(array: ArrayLike, factors: Sequence[int]) -> Array:
    """Return the mean over blocks of pixels.

    Parameters
    ----------
    array
        Image of axes (z, y, x), or (y, x); signed or unsigned integers of 8 to 64 bits, float32 or float64;
        any strides and byte order.
    factors
        Size of a block in pixels, one number >= 1 per axis, in the order of the axes.

    Returns
    -------
    ndarray
        New array of ceil(size / factor) cells per axis; same pixel type, native byte order.

    Raises
    ------
    InvalidInputError
        If the factors do not suit the array, or the array holds no pixel.
    InvalidTypeError
        If the pixels are of another type.

    Notes
    -----
    A block that reaches beyond the image sees its edge pixel repeated, as in BigDataViewer >= 10.6.2. Integers are
    floor(mean + 0.5) of the exact mean. The order in which floats are summed is given at the head of this module.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[[1, 2, 3, 4, 10], [0, 1, 0, 1, 20], [7, 8, 9, 10, 30]]], dtype="uint16")
    >>> downsample(image, (1, 2, 2))
    array([[[ 1,  2, 15],
            [ 8, 10, 30]]], dtype=uint16)
    """
    image = np.asarray(array)
    if image.ndim not in (2, 3):
        raise InvalidInputError(f"an image has axes (z, y, x) or (y, x); this array has shape {image.shape}")
    block = _checked_factors(factors, image.ndim)
    dtype = _checked_dtype(image.dtype)
    shape = _checked_shape(image.shape)
    if math.prod(block) == 1:
        return image.astype(dtype)
    if image.ndim == 2:
        return _block_means(image[np.newaxis], (1, *shape), dtype, (1, *block))[0]
    return _block_means(image, shape, dtype, block)


def _block_means(
    image: Array, shape: tuple[int, ...], dtype: np.dtype[Any], factors: tuple[int, ...]
) -> Array:
    (level,) = _plan(shape, dtype, [factors])
    result = np.empty(level.shape, dtype)
    sums = level.new_sums()
    with np.errstate(all="ignore"):
        for cell, plane in enumerate(result):
            members = level.members(cell)
            level.add(image[members.start : members.stop], sums, fresh=True, weight=level.weight(members))
            level.round(sums, plane)
    return result


class Finished(NamedTuple):
    """A plane of a level that is complete.

    Attributes
    ----------
    level
        Index of the level in the factors that the cascade was given.
    z
        Index of the plane in that level.
    pixels
        Array of axes (y, x) in the pixel type of the image. The cascade keeps no reference to it.
    """

    level: int
    z: int
    pixels: Array


class Cascade:
    """All levels of one image, made while its planes pass by in any order.

    Every level equals `downsample` of the whole image to the last bit. Integer levels are made of the unrounded sums
    of an earlier level where its factors divide theirs, so that each pixel is read once; float levels are each made
    of the pixels, because the order of summation matters there. Planes in order need memory for a few planes of
    sums; planes out of order keep more cells open, see `open_bytes`.

    A *group* is the shortest run of planes that no cell of any level leaves: the least common multiple of the
    z factors. Groups do not depend on each other. Not safe for use by several threads at once.

    Parameters
    ----------
    shape
        Size of the image, (z, y, x).
    dtype
        Pixel type, as in `downsample`.
    factors
        Factors (z, y, x) of each level against the image. Levels of factors (1, 1, 1) are the image itself and are
        not produced.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        As in `downsample`.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(3 * 4 * 4, dtype="uint16").reshape(3, 4, 4)
    >>> cascade = Cascade(image.shape, image.dtype, [(1, 1, 1), (1, 2, 2), (2, 4, 4)])
    >>> for z, plane in enumerate(image):
    ...     for finished in cascade.push(z, plane[np.newaxis]):
    ...         print(z, finished.level, finished.z, finished.pixels.tolist())
    0 1 0 [[3, 5], [11, 13]]
    1 1 1 [[19, 21], [27, 29]]
    1 2 0 [[16]]
    2 1 2 [[35, 37], [43, 45]]
    2 2 1 [[40]]
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike, factors: Iterable[Sequence[int]]) -> None:
        if len(shape) != 3:
            raise InvalidInputError(f"an image has axes (z, y, x); this shape is {tuple(shape)}")
        self._shape = _checked_shape(shape)
        self._dtype = _checked_dtype(np.dtype(dtype))
        checked = [_checked_factors(each, 3) for each in factors]
        self._levels = _plan(self._shape, self._dtype, checked)
        self._depths = [each[0] for each in checked]
        self._group = math.lcm(*self._depths)
        self._came = np.zeros(self._shape[0], bool)
        self._cells: dict[tuple[int, int], _Cell] = {}  # by level and z
        self._spare: dict[int, Array] = {}  # one plane of sums per level, kept because fresh memory is slow

    def push(self, z: int, slab: ArrayLike) -> list[Finished]:
        """Take planes of the image and return the planes of the levels that they complete.

        Parameters
        ----------
        z
            Index of the first plane.
        slab
            Planes z, z + 1, ... of the image, (n, y, x). Nothing of it is referred to afterwards.

        Returns
        -------
        list of Finished
            For each level in ascending order of z.

        Raises
        ------
        InvalidInputError
            If the slab does not fit in the image, or one of its planes came before.
        """
        planes = np.asarray(slab)
        stop = z + len(planes) if planes.ndim == 3 else z
        if planes.shape[1:] != self._shape[1:] or not 0 <= z < stop <= self._shape[0]:
            raise InvalidInputError(
                f"planes for an image of shape {self._shape} must have shape (n, {self._shape[1]}, {self._shape[2]}) "
                f"and lie inside it; got an array of shape {planes.shape} at plane {z}"
            )
        if planes.dtype.newbyteorder("=") != self._dtype:
            raise InvalidInputError(f"the image is of type {self._dtype}; got planes of type {planes.dtype}")
        if self._came[z:stop].any():
            again = z + int(self._came[z:stop].argmax())
            raise InvalidInputError(f"plane {again} came before; to give it anew, forget() it first")
        self._came[z:stop] = True
        finished: list[Finished] = []
        with np.errstate(all="ignore"):
            self._feed(None, z, planes, finished)
        return finished

    def finish(self) -> list[Finished]:
        """Return the planes of cells that were fed in part, as if the planes that never came were zero.

        Afterwards nothing is open, and every plane of a group that was fed in part counts as given. Cells of which
        no plane came are not returned.
        """
        finished: list[Finished] = []
        with np.errstate(all="ignore"):
            for level in self._levels:  # a level comes after its source and takes what that one still had
                for z in sorted(z for index, z in self._cells if index == level.index):
                    if level.ordered:
                        self._hold_zeros(level, z)
                    self._complete(level, z, finished)
        touched = np.logical_or.reduceat(self._came, np.arange(0, len(self._came), self._group))
        self._came = np.repeat(touched, self._group)[: len(self._came)]
        return finished

    def forget(self, start: int, stop: int) -> tuple[int, int]:
        """Drop what is known of the groups that hold the planes start .. stop - 1.

        To bound memory, or before planes are replaced. To make the levels right, all planes of the range returned
        must be pushed again; the planes of levels that were finished there are then returned once more.

        Returns
        -------
        tuple of int
            First plane, and the plane after the last, of the groups.

        Raises
        ------
        InvalidInputError
            If there are no such planes.
        """
        if not 0 <= start < stop <= self._shape[0]:
            raise InvalidInputError(
                f"the image has planes 0 .. {self._shape[0] - 1}; got {start} .. {stop - 1}"
            )
        first = start // self._group
        last = (stop - 1) // self._group
        for key in [key for key in self._cells if first <= self._group_of(*key) <= last]:
            del self._cells[key]
        begin, end = first * self._group, min((last + 1) * self._group, self._shape[0])
        self._came[begin:end] = False
        return begin, end

    @property
    def open_bytes(self) -> int:
        """Memory of the sums of unfinished cells, in bytes."""
        return sum(cell.nbytes for cell in self._cells.values())

    @property
    def open_ranges(self) -> list[tuple[int, int]]:
        """Planes of the image, as (start, stop) in ascending order, of each group with unfinished cells."""
        groups = sorted({self._group_of(*key) for key in self._cells})
        return [(group * self._group, min((group + 1) * self._group, self._shape[0])) for group in groups]

    def _group_of(self, level: int, z: int) -> int:
        return z * self._depths[level] // self._group

    def _feed(self, source: int | None, z: int, planes: Array, finished: list[Finished]) -> None:
        """Give planes z, z + 1, ... of a source (level, or None for the image) to the levels that are made of it."""
        for level in self._levels:
            if level.source == source:
                for cell in level.cells_over(z, z + len(planes)):
                    members = level.members(cell)
                    start, stop = max(z, members.start), min(z + len(planes), members.stop)
                    self._add(level, cell, start, planes[start - z : stop - z], finished)

    def _add(self, level: "_Level", z: int, start: int, planes: Array, finished: list[Finished]) -> None:
        """Add planes of the source, from index `start` on, to the cells in plane z of a level."""
        members = level.members(z)
        cell = self._cells.setdefault((level.index, z), _Cell(due=len(members), turn=members.start))
        if level.ordered and start != cell.turn:
            for index in range(len(planes)):
                cell.held[start + index] = level.new_sums()
                level.add(planes[index : index + 1], cell.held[start + index], fresh=True)
        else:
            fresh = cell.sums is None
            if cell.sums is None:
                cell.sums = self._spare.pop(level.index, None)
            if cell.sums is None:
                cell.sums = level.new_sums()
            cell.turn = start + len(planes)
            weight = level.weight(members) if cell.turn == members.stop else 1
            level.add(planes, cell.sums, fresh=fresh, weight=weight)
            cell.take_held(members, level.weight(members))
        cell.due -= len(planes)
        if not cell.due:
            self._complete(level, z, finished)

    def _hold_zeros(self, level: "_Level", z: int) -> None:
        """Let zeros stand for the planes of an ordered cell that never came."""
        cell = self._cells[level.index, z]
        members = level.members(z)
        zeros = np.zeros_like(level.new_sums())
        if cell.sums is None:
            cell.sums = zeros.copy()
        for index in range(cell.turn, members.stop):
            cell.held.setdefault(index, zeros)
        cell.take_held(members, level.weight(members))

    def _complete(self, level: "_Level", z: int, finished: list[Finished]) -> None:
        """Round the cells in plane z of a level, and pass their sums on to the levels that are made of them."""
        sums = self._cells.pop((level.index, z)).sums
        assert sums is not None
        if z < level.shape[0]:
            pixels = np.empty(level.shape[1:], self._dtype)
            level.round(sums, pixels)
            finished.append(Finished(level.index, z, pixels))
        self._feed(level.index, z, sums[np.newaxis], finished)
        self._spare[level.index] = sums


@dataclass(slots=True, kw_only=True)
class _Cell:
    """The unfinished cells in one plane of a level: `due` planes of the source are still to come.

    Where the order counts, planes that came before their `turn` are held back, each already summed along x and y.
    """

    due: int
    turn: int
    sums: Array | None = None
    held: dict[int, Array] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.held.values()) + (
            0 if self.sums is None else self.sums.nbytes
        )

    def take_held(self, members: range, weight: int) -> None:
        """Add the planes whose turn has come; the last member counts `weight` times."""
        while self.turn in self.held and self.sums is not None:
            part = self.held.pop(self.turn)
            self.turn += 1
            self.sums += part * weight if self.turn == members.stop else part


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """How the sums of one level are made of a source: of the pixels, or of the sums of an earlier level.

    Triples are (z, y, x). Sums have the axes (word, y, x). Where a later level needs sums beyond the border, one
    more cell is carried along that axis: it lies wholly beyond the border, and so does every cell after it. With it
    the rule for pixels, "the last element is repeated", holds for sums as well.
    """

    index: int
    source: int | None  # level; None: the pixels
    factors: Triple  # against the source
    length: Triple  # of the source
    cells: Triple  # of this level, with those carried
    shape: Triple  # of this level
    count: int  # pixels in a cell
    words: int
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
        """Return the planes of this level that planes start .. stop - 1 of the source have a part in."""
        factor, length, cells = self.factors[0], self.length[0], self.cells[0]
        return range(start // factor, cells if stop == length else min(-(-stop // factor), cells))

    def add(self, planes: Array, sums: Array, *, fresh: bool, weight: int = 1) -> None:
        """Add planes of the source to sums, or set sums to them if `fresh`; the last plane counts `weight` times."""
        _, factor_y, factor_x = self.factors
        _, length_y, length_x = self.length
        _, cells_y, cells_x = self.cells
        step = min(cells_y, max(1, _STRIP // (factor_y * length_x * planes.itemsize)))
        part = np.empty((step, cells_x), self.sums)
        scratch = np.empty(
            (min(step * factor_y, length_y), cells_x) if self.ordered else (step, length_x), self.sums
        )
        for top in range(0, cells_y, step):
            strip = sums[:, top : top + step]
            rows = slice(min(top * factor_y, length_y - 1), min((top + step) * factor_y, length_y))
            for index, plane in enumerate(planes):
                for total, source in zip(strip, _words(plane[..., rows, :]), strict=True):
                    first = fresh and index == 0
                    here = total if first else part[: len(total)]
                    _sum_plane(source, factor_y, factor_x, here, scratch)
                    if weight > 1 and index == len(planes) - 1:
                        here *= weight
                    if not first:
                        np.add(total, here, out=total)

    def round(self, sums: Array, pixels: Array) -> None:
        """Write the means of the cells inside the image to `pixels`, (y, x)."""
        height, width = pixels.shape
        step = max(1, _STRIP // (width * sums.itemsize))
        for top in range(0, height, step):
            bottom = min(top + step, height)
            _round(sums[:, top:bottom, :width], self.count, pixels[top:bottom])


def _plan(shape: Sequence[int], dtype: np.dtype[Any], factors: Sequence[Sequence[int]]) -> list[_Level]:
    """Choose where the sums of each level come from, and what each must carry for the later ones."""
    sources = [None if dtype.kind == "f" else _source(factors[:k], each) for k, each in enumerate(factors)]
    shapes = [[-(-n // f) for n, f in zip(shape, each, strict=True)] for each in factors]
    relative = [
        list(each) if source is None else [f // g for f, g in zip(each, factors[source], strict=True)]
        for source, each in zip(sources, factors, strict=True)
    ]
    cells = [list(each) for each in shapes]
    for k in reversed(range(len(factors))):
        if (source := sources[k]) is not None:
            for axis in range(3):
                needed = cells[k][axis] * relative[k][axis]
                cells[source][axis] = max(cells[source][axis], min(needed, shapes[source][axis] + 1))
    levels = []
    for k, source in enumerate(sources):
        count = math.prod(factors[k])
        if count > 1:
            words, sums = _sum_type(dtype, count)
            levels.append(
                _Level(
                    index=k,
                    source=source,
                    factors=_triple(relative[k]),
                    length=_triple(shape if source is None else cells[source]),
                    cells=_triple(cells[k]),
                    shape=_triple(shapes[k]),
                    count=count,
                    words=words,
                    sums=sums,
                )
            )
    return levels


def _source(earlier: Sequence[Sequence[int]], factors: Sequence[int]) -> int | None:
    """Return the last of the earlier levels whose factors divide these, or None."""
    for k in reversed(range(len(earlier))):
        if math.prod(earlier[k]) > 1 and all(f % g == 0 for f, g in zip(factors, earlier[k], strict=True)):
            return k
    return None


def _sum_type(dtype: np.dtype[Any], count: int) -> tuple[int, np.dtype[Any]]:
    """Return the number of words and the smallest type in which `count` pixels, and half of `count`, add up."""
    if dtype.kind == "f":
        return 1, np.dtype(np.float64)
    if dtype.itemsize == 8:
        return 2, np.dtype(np.int64)
    pixel = np.iinfo(dtype)
    for size in (2, 4):
        sums = np.dtype(f"{dtype.kind}{size}")
        limit = np.iinfo(sums)
        if int(limit.min) <= count * int(pixel.min) and count * int(pixel.max) + count // 2 <= int(limit.max):
            return 1, sums
    return 1, np.dtype(f"{dtype.kind}8")


def _words(source: Array) -> Sequence[Array] | Array:
    """Return what is summed one by one: the words of sums, the two words of 64-bit pixels, or the pixels."""
    if source.ndim == 3:
        return source
    if source.dtype.kind in "iu" and source.dtype.itemsize == 8:
        return (source >> 32).astype(np.int64), (source & 0xFFFFFFFF).astype(np.int64)
    return (source,)


def _sum_plane(source: Array, factor_y: int, factor_x: int, sums: Array, scratch: Array) -> None:
    """Sum blocks of a plane. Floats along x first, as promised; integers along y first, which is faster."""
    if sums.dtype.kind == "f":
        middle = scratch[: len(source)]
        _sum_cells(source, factor_x, middle)
        _sum_cells(middle.T, factor_y, sums.T)
    else:
        middle = scratch[: len(sums)]
        _sum_cells(source.T, factor_y, middle.T)
        _sum_cells(middle, factor_x, sums)


def _sum_cells(source: Array, factor: int, sums: Array) -> None:
    """Sum `factor` neighbours along the last axis, from low to high index; beyond the end the last one is repeated."""
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
        np.add(total, np.multiply(source[..., -1], factor - len(members) + 1, dtype=total.dtype), out=total)


def _members(cell: int, factor: int, length: int) -> range:
    """Return the elements that a cell consists of: `factor` of them, or fewer, the last repeated to make up for it."""
    return range(min(cell * factor, length - 1), min((cell + 1) * factor, length))


def _round(sums: Array, count: int, pixels: Array) -> None:
    """Write floor(sum / count + 0.5), or sum / count for floats."""
    if sums.dtype.kind == "f":
        np.divide(sums[0], count, out=pixels, casting="same_kind")
    elif len(sums) == 1:
        total = sums[0] + sums.dtype.type(count // 2)  # then the floor is the same for even and odd counts
        if count & (count - 1):
            np.floor_divide(total, count, out=pixels, casting="unsafe")
        else:
            np.right_shift(total, count.bit_length() - 1, out=pixels, casting="unsafe")
    else:
        low = sums[1] + count // 2
        high, rest = np.divmod(sums[0] + (low >> 32), count)
        np.add(high << 32, ((rest << 32) + (low & 0xFFFFFFFF)) // count, out=pixels, casting="unsafe")


def _triple(numbers: Sequence[int]) -> Triple:
    z, y, x = numbers
    return z, y, x


def _checked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype == np.float16:
        raise InvalidTypeError(
            f"cannot average pixels of type {dtype}; convert them to an integer of 8 to 64 bits, float32 or float64"
        )
    return dtype.newbyteorder("=")


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if min(shape) < 1:
        raise InvalidInputError(
            f"an image needs at least one pixel along each axis; this shape is {tuple(shape)}"
        )
    return tuple(int(n) for n in shape)


def _checked_factors(factors: Sequence[int], axes: int) -> tuple[int, ...]:
    try:
        checked = tuple(operator.index(each) for each in factors)
    except TypeError:
        raise InvalidInputError(f"downsampling factors must be whole numbers; got {factors}") from None
    if len(checked) != axes:
        raise InvalidInputError(f"{axes} downsampling factors are needed, one per axis; got {checked}")
    if min(checked) < 1:
        raise InvalidInputError(f"downsampling factors must be 1 or more; got {checked}")
    if math.prod(checked) > _MAX_COUNT:
        raise InvalidInputError(f"a block may hold at most 2**31 pixels; the factors {checked} ask for more")
    return checked
