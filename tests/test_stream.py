"""The stream: whatever comes in whatever order, every level equals `downsample` of the whole, bit for bit.

Pixels go to arrays in memory here (`MemoryLevel`), which are stricter than HDF5: they refuse what does not
belong in the chunk grid, and what comes from two threads at once.
"""

import itertools
import math
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npy2bdv.downsample import downsample
from npy2bdv.engine import DEFAULT_MEMORY, Engine
from npy2bdv.errors import ClosedError, InvalidInputError, InvalidTypeError, OutOfRangeError, WriteError
from npy2bdv.model.pyramid import Pyramid, Region, Zyx
from npy2bdv.storage.base import LevelArray, Payload
from npy2bdv.stream import ViewStream, make_levels

Array = NDArray[Any]
FULL = (1, 1, 1)
TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


class MemoryLevel:
    """A level in memory. Its pixels are stored as bytes of whole chunks, as a file would have them."""

    def __init__(
        self,
        shape: Zyx,
        chunk: Zyx,
        dtype: np.dtype[Any],
        *,
        takes_parts: bool = False,
        placed: bool = False,
    ) -> None:
        self.shape = shape
        self.takes_parts = takes_parts
        self.placed = placed
        self.chunk = chunk
        self.dtype = dtype
        self.nbytes_on_disk = 0
        self.puts = 0
        self.in_place = True
        self.is_scattered = False
        self.piece = (1, -(-shape[2] // chunk[2]))
        self.compression = "none"
        self._grid = tuple(-(-n // c) for n, c in zip(shape, chunk, strict=True))
        self._pixels = np.zeros([n * c for n, c in zip(self._grid, chunk, strict=True)], dtype)
        self._busy = threading.Lock()

    def read(self, region: Region) -> Array:
        return self._pixels[tuple(map(slice, self.shape))][region].copy()

    def encode(self, block: Array, place: Zyx) -> Payload:
        assert all(0 <= index < n for index, n in zip(place, self._grid, strict=True))
        assert block.dtype == self.dtype
        if self.takes_parts:
            whole = np.zeros(self.chunk, self.dtype)
            whole[tuple(map(slice, block.shape))] = block
            block = whole
        assert block.shape == self.chunk
        assert block.flags.c_contiguous
        return block.reshape(-1).view(np.uint8).data  # shares memory, as the protocol allows

    def is_placed(self, row: int) -> bool:
        return self.placed

    def store(self, chunks: Sequence[tuple[Zyx, Payload]]) -> list[int] | None:
        if self.placed:  # several threads at once, each at places of its own
            self._lay(chunks)
            return None
        assert self._busy.acquire(blocking=False), "two threads at once"
        try:
            self._lay(chunks)
        finally:
            self._busy.release()
        return None

    def _lay(self, chunks: Sequence[tuple[Zyx, Payload]]) -> None:
        for place, payload in chunks:
            assert all(0 <= index < n for index, n in zip(place, self._grid, strict=True))
            box = tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, self.chunk, strict=True))
            self._pixels[box] = np.frombuffer(payload, self.dtype).reshape(self.chunk)
            self.puts += 1

    lies_in_common_file = False

    def layout(self) -> tuple[dict[str, Any], bytes]:
        raise NotImplementedError

    def whole_layout(self) -> tuple[dict[str, Any], bytes]:
        raise NotImplementedError

    def drop(self, place: Zyx) -> None:
        raise NotImplementedError

    def resize(self, planes: int) -> None:
        grown = np.zeros((-(-planes // self.chunk[0]) * self.chunk[0], *self._pixels.shape[1:]), self.dtype)
        shared = min(len(grown), len(self._pixels))
        grown[:shared] = self._pixels[:shared]
        self._pixels = grown
        self.shape = (planes, *self.shape[1:])
        self._grid = (len(grown) // self.chunk[0], *self._grid[1:])

    @property
    def whole(self) -> Array:
        return self.read((slice(None), slice(None), slice(None)))


@dataclass
class Recording:
    """A view that is being filled, and the array that it should become."""

    engine: Engine
    stream: ViewStream
    pyramid: Pyramid
    levels: list[MemoryLevel]
    expected: Array

    def put(self, block: Array, z: int, y: int = 0, x: int = 0, *, copy: bool = True) -> None:
        """Give pixels; where they were not handed over spoil their memory, as a camera does."""
        depth, height, width = block.shape
        self.expected[z : z + depth, y : y + height, x : x + width] = block
        self.stream.put(block, z, y, x, copy=copy)
        if copy and block.flags.writeable:
            block[...] = 77

    def check(self) -> None:
        self.engine.drain()
        for level, factors in zip(self.levels, self.pyramid.factors, strict=True):
            wanted = downsample(self.expected, factors)
            assert level.whole.dtype == wanted.dtype
            np.testing.assert_array_equal(level.whole, wanted, err_msg=f"factors {factors}")


def paired(factors: Sequence[Zyx], levels: Sequence[LevelArray]) -> list[tuple[Zyx, LevelArray]]:
    return list(zip(factors, levels, strict=True))


def recording(
    engine: Engine,
    shape: Zyx,
    dtype: str,
    factors: Sequence[Zyx],
    chunk: Zyx | Sequence[Zyx] = (2, 3, 4),
    *,
    takes_parts: bool = False,
    placed: bool = False,
) -> Recording:
    chunks = (chunk,) if isinstance(chunk[0], int) else tuple(chunk)
    pyramid = Pyramid(shape=shape, factors=tuple(factors), chunks=chunks)  # type: ignore[arg-type]
    kind = np.dtype(dtype)
    levels = [
        MemoryLevel(pyramid.level_shape(k), pyramid.chunks[k], kind, takes_parts=takes_parts, placed=placed)
        for k in range(pyramid.n_levels)
    ]
    stream = ViewStream(engine, shape, kind, paired(pyramid.factors, levels))
    return Recording(engine, stream, pyramid, levels, np.zeros(shape, kind))


@contextmanager
def engine_of(max_memory: int = DEFAULT_MEMORY, *, workers: int = 2) -> Iterator[Engine]:
    engine = Engine(max_memory, workers=workers)
    try:
        yield engine
    finally:
        engine.close()


def noise(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (rng.standard_normal(shape) * 1e3).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, kind, endpoint=True)


# ---------------------------------------------------------------------------------- anything in any order

_SIZES = st.integers(1, 9)
_SHAPES = st.tuples(st.integers(1, 13), _SIZES, _SIZES)
_FACTORS = st.tuples(*[st.sampled_from([1, 1, 2, 2, 3, 4, 5, 8])] * 3)
_CHUNKS = st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(1, 12))


@st.composite
def _spans(draw: st.DrawFn, size: int) -> tuple[int, int]:
    start = draw(st.integers(0, size - 1))
    return start, draw(st.integers(start + 1, size))


@st.composite
def _steps(draw: st.DrawFn, shape: Zyx) -> tuple[Any, ...]:
    kind = draw(st.sampled_from(["planes", "planes", "planes", "block", "store", "settle"]))
    if kind == "planes":
        return ("put", draw(_spans(shape[0])), (0, shape[1]), (0, shape[2]))
    if kind == "block":
        return ("put", *(draw(_spans(size)) for size in shape))
    return (kind,)


@st.composite
def _plans(draw: st.DrawFn) -> tuple[Zyx, list[Zyx], list[Zyx], list[tuple[Any, ...]]]:
    shape = draw(_SHAPES)
    lower = draw(st.lists(_FACTORS.filter(lambda f: f != FULL), unique=True, max_size=3))
    factors = draw(st.permutations([FULL, *lower])) if draw(st.booleans()) else [FULL, *lower]
    chunks = [draw(_CHUNKS) for _ in factors]
    steps = draw(st.lists(_steps(shape), max_size=8))
    return shape, factors, chunks, steps


_FORMS = ("plain", "big-endian", "fortran", "reversed", "strided", "read-only")


def formed(pixels: Array, form: str) -> Array:
    """Return an array of the same pixels in another form of memory."""
    if form == "big-endian":
        return pixels.astype(pixels.dtype.newbyteorder(">"))
    if form == "fortran":
        return np.asfortranarray(pixels)
    if form == "reversed":
        return pixels[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
    if form == "strided":
        return np.repeat(pixels, 2, axis=2)[:, :, ::2]
    if form == "read-only":
        pixels.flags.writeable = False
    return pixels


def perform(
    view: Recording, steps: Sequence[tuple[Any, ...]], seed: int, dtype: str, form: str
) -> Iterator[None]:
    """Do the steps on a view, one at a time."""
    rng = np.random.default_rng(seed)
    for step in steps:
        if step[0] == "put":
            (z, z1), (y, y1), (x, x1) = step[1:]
            block = formed(noise(rng, (z1 - z, y1 - y, x1 - x), dtype), form)
            view.put(block, z, y, x, copy=bool(rng.integers(2)))
        else:
            getattr(view.stream, step[0])()
        yield


_MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(
    plan=_plans(),
    dtype=st.sampled_from(TYPES),
    form=st.sampled_from(_FORMS),
    memory=st.sampled_from([1, 2000, DEFAULT_MEMORY]),
    seed=st.integers(0, 999),
)
@_MANY
def test_any_order_of_planes_and_blocks(plan: Any, dtype: str, form: str, memory: int, seed: int) -> None:
    shape, factors, chunks, steps = plan
    with engine_of(memory) as engine:
        view = recording(
            engine, shape, dtype, factors, chunks, takes_parts=seed % 2 == 1, placed=seed % 4 > 1
        )
        for _ in perform(view, steps, seed, dtype, form):
            pass
        view.stream.close()
        view.check()


@st.composite
def _even_plans(draw: st.DrawFn) -> tuple[Zyx, Zyx, list[tuple[Any, ...]]]:
    """One level whose planes are whole chunks: rows are kept in the order of chunks while only planes come."""
    chunk = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)))
    depth, high, wide = draw(st.tuples(st.integers(1, 13), st.integers(1, 3), st.integers(1, 3)))
    shape = depth, high * chunk[1], wide * chunk[2]
    return shape, chunk, draw(st.lists(_steps(shape) | st.just(("checkpoint",)), max_size=10))


@given(
    plan=_even_plans(),
    dtype=st.sampled_from(["uint16", "uint8", "float32"]),
    form=st.sampled_from(_FORMS),
    memory=st.sampled_from([1, 300, DEFAULT_MEMORY]),
    in_place=st.booleans(),
)
@_MANY
def test_any_order_in_planes_of_whole_chunks(
    plan: Any, dtype: str, form: str, memory: int, in_place: bool
) -> None:
    shape, chunk, steps = plan
    with engine_of(memory) as engine:
        view = recording(engine, shape, dtype, [FULL], chunk)
        for index, step in enumerate(steps):
            if step != ("checkpoint",):
                for _ in perform(view, [step], index, dtype, form):
                    pass
                continue
            with engine.door():
                checkpoint = view.stream.begin_checkpoint(in_place=in_place, log_all=True)
            for z, plane in checkpoint.planes:
                assert np.array_equal(plane, view.expected[z])
            for work in checkpoint.work:
                work.result()
            for row in checkpoint.rows:
                row.release()
        view.stream.close()
        view.check()


@given(
    plans=st.lists(_plans(), min_size=2, max_size=3),
    turns=st.lists(st.integers(0, 2), max_size=24),
    memory=st.sampled_from([1, 1500, DEFAULT_MEMORY]),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_interleaved_views(plans: list[Any], turns: list[int], memory: int) -> None:
    with engine_of(memory) as engine:
        views = [recording(engine, shape, "uint16", factors, chunks) for shape, factors, chunks, _ in plans]
        work = [
            perform(view, plan[3], seed, "uint16", "plain")
            for seed, (view, plan) in enumerate(zip(views, plans, strict=True))
        ]
        for turn in turns:
            next(work[turn % len(work)], None)
        for rest in work:
            for _ in rest:
                pass
        for view in views:
            view.stream.close()
        for view in views:
            view.check()


@given(
    shape=_SHAPES,
    factors=st.lists(_FACTORS, min_size=1, max_size=3, unique=True),
    memory=st.sampled_from([1, 1500, DEFAULT_MEMORY]),
    data=st.data(),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_planes_in_any_order_without_a_stored_full_resolution(
    shape: Zyx, factors: list[Zyx], memory: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(shape[0])))
    order = order[: data.draw(st.integers(0, len(order)))]
    lower = [each for each in factors if each != FULL] or [(2, 1, 2)]
    note(f"planes {order}, factors {lower}")
    with engine_of(memory) as engine:
        view = recording(engine, shape, "uint16", lower, (2, 4, 5))
        rng = np.random.default_rng(1)
        for z in order:
            view.put(noise(rng, (1, *shape[1:]), "uint16"), z)
        view.stream.close()
        view.check()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "factors", [(1, 2, 2), (2, 2, 2), (3, 2, 1), (1, 1, 5), (8, 8, 8), (1, 16, 1), (7, 3, 2)]
)
def test_each_type_and_factor_as_one_stack(dtype: str, factors: Zyx) -> None:
    with engine_of() as engine:
        view = recording(engine, (11, 10, 9), dtype, [FULL, factors], (3, 4, 5))
        view.put(noise(np.random.default_rng(3), (11, 10, 9), dtype), 0)
        view.stream.close()
        view.check()


def test_no_pixel_passes_as_another_nan_and_infinity_pass_through() -> None:
    with engine_of() as engine:
        view = recording(engine, (5, 4, 4), "float32", [FULL, (2, 2, 2), (4, 4, 4)])
        pixels = noise(np.random.default_rng(0), (5, 4, 4), "float32")
        pixels[0, 0, 0], pixels[4, 3, 3] = np.nan, np.inf
        view.put(pixels, 0)
        view.stream.close()
        view.check()
        assert np.isnan(view.levels[1].whole[0, 0, 0])
        assert np.isinf(view.levels[2].whole[1, 0, 0])


def test_more_may_come_after_settling() -> None:
    """Planes that had not come counted as zero; when they come, the cells over them are made again."""
    rng = np.random.default_rng(5)
    with engine_of() as engine:
        view = recording(engine, (8, 5, 5), "uint16", [FULL, (2, 2, 2), (4, 4, 4)])
        view.put(noise(rng, (3, 5, 5), "uint16"), 0)
        view.stream.settle()
        view.check()
        view.put(noise(rng, (5, 5, 5), "uint16"), 3)
        view.stream.settle()
        view.check()
        view.put(noise(rng, (1, 2, 2), "uint16"), 7, 1, 1)
        view.stream.close()
        view.check()


def test_view_reopened_as_complete_is_rewritten_in_part() -> None:
    rng = np.random.default_rng(6)
    with engine_of() as engine:
        view = recording(engine, (8, 5, 6), "int16", [FULL, (3, 2, 2)], (3, 2, 4))
        view.put(noise(rng, (8, 5, 6), "int16"), 0)
        view.stream.close()
        engine.drain()  # as the writer does before it opens a view again
        levels = paired(view.pyramid.factors, view.levels)
        view.stream = ViewStream(engine, (8, 5, 6), np.dtype("int16"), levels, there=np.ones(8, bool))
        view.put(noise(rng, (1, 5, 6), "int16"), 4)
        view.put(noise(rng, (2, 1, 1), "int16"), 6, 4, 5)
        view.stream.close()
        view.check()


@given(
    shape=_SHAPES,
    factors=st.lists(_FACTORS.filter(lambda f: f != FULL), min_size=1, max_size=3, unique=True),
    chunks=st.tuples(_CHUNKS, _CHUNKS),
)
@settings(max_examples=40, deadline=None)
def test_levels_made_afterwards(shape: Zyx, factors: list[Zyx], chunks: tuple[Zyx, Zyx]) -> None:
    kind = np.dtype("uint16")
    source = MemoryLevel(shape, chunks[0], kind)
    with engine_of() as engine:
        first = ViewStream(engine, shape, kind, [(FULL, source)])
        pixels = noise(np.random.default_rng(2), shape, "uint16")
        first.put(pixels, 0)
        first.close()
        engine.drain()
        pyramid = Pyramid(shape=shape, factors=tuple(factors), chunks=(chunks[1],))
        levels = [MemoryLevel(pyramid.level_shape(k), chunks[1], kind) for k in range(len(factors))]
        seen = list(make_levels(engine, source, paired(factors, levels)))
        engine.drain()
        assert seen == [*range(chunks[0][0], shape[0], chunks[0][0]), shape[0]]
        for level, each in zip(levels, factors, strict=True):
            np.testing.assert_array_equal(level.whole, downsample(pixels, each))


def test_each_chunk_is_stored_once_when_planes_come_in_order() -> None:
    with engine_of() as engine:
        view = recording(engine, (10, 8, 9), "uint16", [FULL, (2, 2, 2)], (4, 4, 4))
        for z in range(10):
            view.put(noise(np.random.default_rng(z), (1, 8, 9), "uint16"), z)
        view.stream.close()
        view.check()
        for index, level in enumerate(view.levels):
            assert level.puts == math.prod(view.pyramid.grid(index))


# ------------------------------------------------------------------------------------------- interface


def test_append_counts_on_from_the_last_plane_given() -> None:
    with engine_of() as engine:
        view = recording(engine, (4, 3, 3), "uint16", [FULL])
        for value in (1, 2):
            view.stream.append(np.full((3, 3), value, "uint16"))
        view.stream.put(np.full((1, 3, 3), 9, "uint16"), 2)
        view.stream.append(np.full((3, 3), 4, "uint16"))
        assert view.stream.is_full
        with pytest.raises(OutOfRangeError, match="z = 4 is outside of the view, which has 4"):
            view.stream.append(np.zeros((3, 3), "uint16"))
        view.stream.close()
        engine.drain()
        assert view.levels[0].whole[:, 0, 0].tolist() == [1, 2, 9, 4]


def test_counts_of_planes() -> None:
    with engine_of() as engine:
        view = recording(engine, (4, 3, 3), "uint16", [FULL])
        assert (view.stream.planes_there, view.stream.is_full) == (0, False)
        view.put(np.ones((2, 3, 3), "uint16"), 1)
        assert view.stream.planes_there == 2
        view.put(np.ones((1, 1, 1), "uint16"), 3)
        assert (view.stream.planes_there, view.stream.is_full) == (3, False)
        view.stream.close()


@pytest.mark.parametrize(
    ("shape", "place", "error", "says"),
    [
        ((2, 3), (0, 0, 0), InvalidInputError, r"3-D \(z, y, x\) and not empty; found shape \(2, 3\)"),
        ((0, 3, 3), (0, 0, 0), InvalidInputError, r"not empty; found shape \(0, 3, 3\)"),
        ((1, 3, 3), (-1, 0, 0), OutOfRangeError, "z = -1 is outside of the view, which has 4"),
        ((1, 3, 3), (4, 0, 0), OutOfRangeError, "z = 4 is outside of the view, which has 4"),
        ((1, 1, 1), (0, -1, 0), OutOfRangeError, "y = -1 is outside"),
        ((1, 1, 1), (0, 0, 3), OutOfRangeError, "x = 3 is outside"),
        ((1, 3, 3), (0.5, 0, 0), OutOfRangeError, "z = 0.5 is outside"),
        (
            (2, 3, 3),
            (3, 0, 0),
            InvalidInputError,
            r"shape \(2, 3, 3\) at z = 3 ends at z = 5, beyond the view of",
        ),
        ((1, 4, 3), (0, 0, 0), InvalidInputError, "ends at y = 4, beyond"),
        ((1, 3, 2), (0, 0, 2), InvalidInputError, "at x = 2 ends at x = 4, beyond"),
    ],
)
def test_blocks_that_do_not_belong_are_refused(
    shape: tuple[int, ...], place: Any, error: type[Exception], says: str
) -> None:
    with engine_of() as engine:
        view = recording(engine, (4, 3, 3), "uint16", [FULL])
        with pytest.raises(error, match=says):
            view.stream.put(np.ones(shape, "uint16"), *place)
        assert view.stream.planes_there == 0
        view.stream.close()
        view.check()


@pytest.mark.parametrize("dtype", ["int16", "uint32", "float32", "complex64", "O", "bool"])
def test_pixels_that_would_lose_are_refused(dtype: str) -> None:
    with engine_of() as engine:
        view = recording(engine, (4, 3, 3), "uint16", [FULL])
        if dtype == "bool":  # fits
            view.stream.put(np.ones((1, 3, 3), dtype), 0)
            view.expected[0] = 1
        else:
            with pytest.raises(InvalidTypeError, match=r"do not all fit into uint16.*astype\('uint16'\)"):
                view.stream.put(np.ones((1, 3, 3), dtype), 0)
        view.stream.close()
        view.check()


def test_frames_are_planes() -> None:
    with engine_of() as engine:
        view = recording(engine, (4, 3, 3), "uint16", [FULL])
        for shape in ((1, 3, 3), (9,)):
            with pytest.raises(InvalidInputError, match=r"a plane is 2-D \(y, x\); found an array of shape"):
                view.stream.append(np.ones(shape, "uint16"))
        view.stream.close()


def test_smaller_types_are_widened() -> None:
    with engine_of() as engine:
        view = recording(engine, (4, 3, 3), "float32", [FULL, (2, 1, 1)])
        view.put(np.full((4, 3, 3), 200, "uint8"), 0)
        view.stream.close()
        view.check()


def test_after_close_nothing_is_taken_and_close_may_come_again() -> None:
    with engine_of() as engine:
        view = recording(engine, (2, 3, 3), "uint16", [FULL])
        with view.stream:
            view.put(np.ones((2, 3, 3), "uint16"), 0)
        view.stream.close()
        with pytest.raises(ClosedError, match="completed"):
            view.stream.put(np.ones((1, 3, 3), "uint16"), 0)
        view.check()


def test_without_full_resolution_planes_come_once_and_whole() -> None:
    with engine_of() as engine:
        view = recording(engine, (4, 4, 4), "uint16", [(2, 2, 2)])
        view.put(np.full((1, 4, 4), 8, "uint16"), 1)
        with pytest.raises(
            InvalidInputError, match="plane 1 came before; to replace planes the full resolution"
        ):
            view.stream.put(np.ones((2, 4, 4), "uint16"), 0)
        with pytest.raises(
            InvalidInputError, match=r"covers planes of .* in part; that needs the full resolution"
        ):
            view.stream.put(np.ones((1, 2, 4), "uint16"), 2)
        view.put(np.full((1, 4, 4), 4, "uint16"), 0)
        view.stream.close()
        view.check()


# ------------------------------------------------------------------------------------ threads and memory


def test_several_threads_fill_one_view_and_several_views() -> None:
    rng = np.random.default_rng(4)
    with engine_of(20_000, workers=3) as engine:
        views = [
            recording(engine, (24, 17, 19), "uint16", [FULL, (2, 2, 2), (4, 4, 4)], (4, 8, 8))
            for _ in range(3)
        ]
        stacks = [noise(rng, (24, 17, 19), "uint16") for _ in views]
        planes = list(itertools.product(range(3), range(24)))
        rng.shuffle(planes)

        def give(which: int, z: int) -> None:
            views[which].stream.put(stacks[which][z : z + 1], z)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda job: give(*job), planes))
        for view, stack in zip(views, stacks, strict=True):
            view.stream.close()
            view.expected[...] = stack
            view.check()


def test_memory_is_bounded() -> None:
    """40 views are open at once, each with a row that waits for planes; a row has 0.5 MB."""
    limit = 4 * 2**20
    with engine_of(limit) as engine:
        views = [recording(engine, (8, 256, 256), "uint16", [FULL], (4, 64, 64)) for _ in range(40)]
        tracemalloc.start()
        try:
            for z in (0, 1, 4):
                for view in views:
                    view.put(np.full((1, 256, 256), z + 1, "uint16"), z)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2 * limit
        for view in views:
            view.stream.close()
            view.check()


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("failing", ["encode", "store"])
def test_error_of_a_thread_surfaces_and_nothing_hangs(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with engine_of() as engine:
        view = recording(engine, (40, 8, 8), "uint16", [FULL, (2, 2, 2)], (2, 4, 4))
        view.put(np.ones((2, 8, 8), "uint16"), 0)
        engine.drain()
        monkeypatch.setattr(view.levels[0], failing, full_disk)

        def go_on() -> None:
            for z in range(2, 40):
                view.put(np.ones((1, 8, 8), "uint16"), z)
            engine.drain()

        with pytest.raises(WriteError, match="No space left on device") as caught:
            go_on()
        assert isinstance(caught.value, OSError)
        assert isinstance(caught.value.__cause__, OSError)
        with pytest.raises(WriteError, match="No space left on device"):
            view.stream.append(np.ones((8, 8), "uint16"))
        with pytest.raises(WriteError, match="No space left on device"):
            view.stream.close()
        view.stream.close()  # closed all the same
        assert view.levels[0].whole[:2].all()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("npy2bdv")]
