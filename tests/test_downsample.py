"""downsample and Cascade against BigDataViewer's pyramids, scikit-image and plain Python arithmetic."""

import json
import math
import runpy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

from npy2bdv.downsample import Cascade, Finished, downsample
from npy2bdv.errors import InvalidInputError, InvalidTypeError

Array = NDArray[Any]
Factors = tuple[int, int, int]

INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
FLOATS = ["float32", "float64"]

factor = st.sampled_from([1, 1, 2, 2, 3, 4, 5, 8, 17])
block = st.tuples(factor, factor, factor)
strip = st.sampled_from([1, 100, 2**19])  # bytes; small ones cut small images into many strips


@st.composite
def images(draw: st.DrawFn, types: list[str]) -> Array:
    """Small images of any values, with a taste for the ends of the range."""
    dtype = draw(st.sampled_from(types))
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    if dtype in FLOATS:
        pixel = st.floats(-(2.0**99), 2.0**99, width=32) | st.floats(-1, 1, width=32)
    else:
        lowest, highest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        pixel = st.sampled_from([lowest, highest]) | st.integers(lowest, highest)
    image: Array = draw(arrays(dtype, shape, elements=pixel, fill=pixel))
    return image


def weights(size: int, factor: int) -> Array:
    """How often each pixel of an axis counts in each cell, as Python integers."""
    counts = np.zeros((-(-size // factor), size), dtype=object)
    for i in range(len(counts) * factor):
        counts[i // factor, min(i, size - 1)] += 1
    return counts


def exact_means(image: Array, factors: Factors) -> Array:
    """floor(mean + 0.5) in Python integers, which know no overflow."""
    total: Array = image.astype(object)
    for axis, factor in enumerate(factors):
        total = np.moveaxis(np.tensordot(weights(image.shape[axis], factor), total, axes=(1, axis)), 0, axis)
    count = math.prod(factors)
    return ((2 * total + count) // (2 * count)).astype(image.dtype)


def sum_in_order(values: list[float], factor: int) -> list[float]:
    """The documented order along one axis: from low to high, a repeated edge once, times its count."""
    cells = []
    for start in range(0, len(values), factor):
        own = values[start : start + factor]
        total = 0.0
        for value in own[:-1]:
            total += value
        cells.append(total + own[-1] * (factor - len(own) + 1))
    return cells


def means_in_order(image: Array, factors: Factors) -> Array:
    """Float means in Python floats, summed along x, then y, then z."""
    total = image.astype(np.float64)
    for axis in (2, 1, 0):
        total = np.apply_along_axis(lambda line, f=factors[axis]: sum_in_order(line.tolist(), f), axis, total)
    return (total / math.prod(factors)).astype(image.dtype)


# ---------------------------------------------------------------------------------------------- downsample


def test_vectors_of_bigdataviewer() -> None:
    image = np.array([[1, 2, 3, 4, 10], [0, 1, 0, 1, 20], [7, 8, 9, 10, 30]], "uint16")
    assert downsample(image[np.newaxis], (1, 2, 2)).tolist() == [[[1, 2, 15], [8, 10, 30]]]
    assert downsample(image, (2, 2)).tolist() == [[1, 2, 15], [8, 10, 30]]
    halves = np.array([[-1, -2, -2, -3, 7, 8, 9, 10]], "int8")
    assert downsample(halves, (1, 2)).tolist() == [[-1, -2, 8, 10]]


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 3, 2), (4, 1, 3)])
def test_agrees_with_scikit_image(factors: Factors) -> None:
    image = np.random.default_rng(1).integers(0, 65536, (8, 12, 18), dtype="uint16")
    means = downscale_local_mean(image, factors)  # type: ignore[no-untyped-call]
    assert np.array_equal(downsample(image, factors), np.floor(means + 0.5))


@given(images(INTEGERS), block, strip)
def test_integers_are_exact(image: Array, factors: Factors, strip: int) -> None:
    with patch.dict(downsample.__globals__, _STRIP=strip):
        result = downsample(image, factors)
    assert result.dtype == image.dtype
    assert np.array_equal(result, exact_means(image, factors))


@given(images(FLOATS), block, strip)
def test_floats_are_summed_in_the_documented_order(image: Array, factors: Factors, strip: int) -> None:
    with patch.dict(downsample.__globals__, _STRIP=strip):
        result = downsample(image, factors)
    assert result.dtype == image.dtype
    assert np.array_equal(result, means_in_order(image, factors))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("end", ["min", "max"])
def test_the_ends_of_the_range_survive_any_block(dtype: str, end: str) -> None:
    value = getattr(np.iinfo(dtype), end)
    for factors in [(1, 2, 2), (1, 1, 255), (1, 16, 16), (1, 1, 257), (64, 64, 64), (1, 2**15, 2**16)]:
        assert (downsample(np.full((3, 5, 70), value, dtype), factors) == value).all()


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize("factors", [(64, 64, 64), (100, 7, 33)])
def test_blocks_larger_than_the_image(dtype: str, factors: Factors) -> None:
    rng = np.random.default_rng(2)
    if dtype in FLOATS:
        image = rng.normal(size=(3, 70, 5)).astype(dtype)
        assert np.array_equal(downsample(image, factors), means_in_order(image, factors))
    else:
        ends = np.iinfo(dtype)
        image = rng.integers(ends.min, ends.max, (3, 70, 5), dtype=dtype, endpoint=True)
        assert np.array_equal(downsample(image, factors), exact_means(image, factors))


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_pass_through(dtype: str) -> None:
    image = np.ones((1, 2, 11), dtype)
    image[0, 0, 0] = np.nan
    image[0, 1, 2] = image[0, 0, 4] = np.inf
    image[0, 0, 5] = image[0, 1, 10] = -np.inf
    expected = np.array([[[np.nan, np.inf, np.nan, 1, 1, -np.inf]]], dtype)
    assert np.array_equal(downsample(image, (2, 2, 2)), expected, equal_nan=True)
    assert np.isinf(downsample(np.full((1, 1, 2), np.finfo("float64").max), (1, 1, 2))).all()


def layouts(image: Array) -> Iterator[Array]:
    """The same image in memory in other ways."""
    yield np.asfortranarray(image)
    yield np.repeat(image, 2, axis=2)[:, :, ::2]
    yield image[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    yield image.astype(image.dtype.newbyteorder("S"))
    packed = np.zeros(image.size, np.dtype([("pad", "u1"), ("pixel", image.dtype)]))
    packed["pixel"] = image.ravel()
    yield packed["pixel"].reshape(image.shape)  # strided and not aligned
    frozen = image.copy()
    frozen.flags.writeable = False
    yield frozen


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 3, 2)])
def test_any_strides_and_byte_order(dtype: str, factors: Factors) -> None:
    image = np.random.default_rng(3).integers(0, 120, (5, 6, 7)).astype(dtype)
    expected = downsample(image, factors)
    for other in layouts(image):
        result = downsample(other, factors)
        assert result.dtype == np.dtype(dtype)
        assert result.dtype.isnative
        assert np.array_equal(result, expected)
        assert not np.shares_memory(result, other)


@pytest.mark.parametrize(
    ("shape", "factors", "message"),
    [
        ((4, 4, 4), (2, 2, 0), "1 or more are needed; got \\(2, 2, 0\\)"),
        ((4, 4, 4), (2, -2, 1), "1 or more are needed; got \\(2, -2, 1\\)"),
        ((4, 4, 4), (2, 2), "3 downsampling factors .* got \\(2, 2\\)"),
        ((4, 4), (1, 2, 2), "2 downsampling factors .* got \\(1, 2, 2\\)"),
        ((4, 4, 4), (2, 2, 1.5), "whole numbers; got \\(2, 2, 1.5\\)"),
        ((4, 4, 4), (2**11, 2**11, 2**11), r"at most 2\*\*31 pixels"),
        ((4, 0, 4), (1, 2, 2), "none of them empty; got shape \\(4, 0, 4\\)"),
        ((4,), (2,), "2 or 3 axes"),
        ((2, 4, 4, 4), (1, 2, 2, 2), "2 or 3 axes"),
    ],
)
def test_factors_and_shapes_that_are_refused(shape: tuple[int, ...], factors: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        downsample(np.zeros(shape, "uint16"), factors)


@pytest.mark.parametrize("dtype", ["bool", "float16", "complex64", "U3", "object", "datetime64[s]"])
def test_pixel_types_that_are_refused(dtype: str) -> None:
    with pytest.raises(InvalidTypeError, match="cannot be averaged; convert them"):
        downsample(np.zeros((4, 4, 4), dtype), (2, 2, 2))
    with pytest.raises(InvalidTypeError, match="cannot be averaged; convert them"):
        Cascade((4, 4, 4), dtype, [(2, 2, 2)])


# ---------------------------------------------------------------------------------------------- Cascade


def gather(cascade: Cascade, image: Array, pieces: list[tuple[int, int]]) -> list[Finished]:
    """Push planes start .. stop - 1 piece by piece, from one buffer that is used again."""
    finished = []
    for start, stop in pieces:
        buffer = image[start:stop].copy()
        finished += cascade.push(start, buffer)
        buffer.fill(1)
    return finished


def assert_levels(finished: list[Finished], image: Array, levels: list[Factors]) -> None:
    """Each plane of each level came once, and is the one of downsample to the last bit."""
    expected = {
        (index, z): plane.tobytes()
        for index, factors in enumerate(levels)
        if factors != (1, 1, 1)
        for z, plane in enumerate(downsample(image, factors))
    }
    assert len(finished) == len(expected)
    assert {(each.level, each.z): each.pixels.tobytes() for each in finished} == expected
    assert all(each.pixels.dtype == image.dtype for each in finished)


@st.composite
def cuts(draw: st.DrawFn, depth: int) -> list[tuple[int, int]]:
    """Planes 0 .. depth - 1 in slabs of any thickness, in any order."""
    ends = sorted({0, depth, *draw(st.lists(st.integers(0, depth), max_size=4))})
    return list(draw(st.permutations(list(pairwise(ends)))))


@given(st.data(), images(INTEGERS + FLOATS), st.lists(block, min_size=1, max_size=4), strip)
def test_levels_equal_downsample(
    data: st.DataObject, image: Array, levels: list[Factors], strip: int
) -> None:
    with patch.dict(downsample.__globals__, _STRIP=strip):
        cascade = Cascade(image.shape, image.dtype, levels)
        finished = gather(cascade, image, data.draw(cuts(len(image))))
    assert_levels(finished, image, levels)
    assert cascade.open_bytes == 0
    assert cascade.open_ranges == []
    assert cascade.finish() == []


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize("pieces", [[(0, 17)], [(9, 17), (3, 4), (4, 9), (0, 3)]])
def test_levels_of_noise_equal_downsample(dtype: str, pieces: list[tuple[int, int]]) -> None:
    """In noise the order of summation shows in the last bits of floats, and rounding twice in integers."""
    noise = np.random.default_rng(5).normal(60, 15, (17, 21, 30))
    image = (noise if dtype in FLOATS else noise.clip(0, 127)).astype(dtype)
    levels = [(1, 2, 2), (2, 4, 4), (3, 3, 3), (8, 8, 8), (6, 6, 6)]
    assert_levels(gather(Cascade(image.shape, dtype, levels), image, pieces), image, levels)


@given(st.data(), images(INTEGERS + FLOATS), st.lists(block, min_size=1, max_size=4))
def test_planes_that_never_came_are_zero(data: st.DataObject, image: Array, levels: list[Factors]) -> None:
    pieces = data.draw(cuts(len(image)))
    came = [plane for start, stop in pieces[1:] for plane in range(start, stop)]
    cascade = Cascade(image.shape, image.dtype, levels)
    finished = gather(cascade, image, pieces[1:]) + cascade.finish()
    with_gap = image.copy()
    with_gap[slice(*pieces[0])] = 0
    expected = {
        (index, z): plane
        for index, factors in enumerate(levels)
        if factors != (1, 1, 1)
        for z, plane in enumerate(downsample(with_gap, factors))
        if any(z * factors[0] <= plane_index < (z + 1) * factors[0] for plane_index in came)
    }
    assert sorted((each.level, each.z) for each in finished) == sorted(expected)
    for each in finished:
        assert np.array_equal(each.pixels, expected[each.level, each.z])
    assert cascade.open_bytes == 0


@given(st.data(), images(INTEGERS + FLOATS), st.lists(block, min_size=1, max_size=3))
def test_forgotten_groups_can_be_rebuilt(data: st.DataObject, image: Array, levels: list[Factors]) -> None:
    depth = len(image)
    pieces = data.draw(cuts(depth))
    cascade = Cascade(image.shape, image.dtype, levels)
    first = data.draw(st.integers(0, depth - 1))
    last = data.draw(st.integers(first, depth - 1))
    planes = {(each.level, each.z): each for each in gather(cascade, image[:, ::-1], pieces[:-1])}
    start, stop = cascade.forget(first, last + 1)
    assert start <= first
    assert last < stop
    again = [(z, z + 1) for a, b in pieces[:-1] for z in range(a, b) if start <= z < stop]
    finished = gather(cascade, image, again)
    finished += gather(cascade, image, [(z, z + 1) for z in range(*pieces[-1]) if start <= z < stop])
    mixed = image[:, ::-1].copy()
    mixed[start:stop] = image[start:stop]
    finished += gather(cascade, mixed, [(z, z + 1) for z in range(*pieces[-1]) if not start <= z < stop])
    planes |= {(each.level, each.z): each for each in finished}
    assert_levels(list(planes.values()), mixed, levels)
    assert cascade.open_bytes == 0


def test_sums_of_trimmed_cells_are_not_used() -> None:
    image = np.arange(6, dtype="uint16").reshape(1, 1, 6) ** 3
    (level_1, level_2) = Cascade(image.shape, image.dtype, [(1, 1, 2), (1, 1, 4)]).push(0, image)
    assert level_1.pixels.tolist() == [[1, 18, 95]]  # 0.5, 17.5, 94.5
    assert level_2.pixels.tolist() == [[9, 110]]  # 9 and (64 + 125 + 125 + 125) / 4; from [95, 95] it were 95


def test_a_stream_in_order_holds_one_plane_of_sums_per_level() -> None:
    image = np.zeros((64, 16, 16), "uint16")
    cascade = Cascade(image.shape, image.dtype, [(2, 2, 2), (4, 4, 4), (16, 8, 8)])
    held = []
    for z in range(64):
        cascade.push(z, image[z : z + 1])
        held.append(cascade.open_bytes)
    assert max(held) == 4 * (8 * 8 + 4 * 4 + 2 * 2)
    assert held[-1] == 0


def test_open_ranges_are_whole_groups() -> None:
    image = np.zeros((20, 4, 4), "float32")
    cascade = Cascade(image.shape, image.dtype, [(2, 1, 1), (3, 2, 2)])
    cascade.push(7, image[7:8])
    cascade.push(18, image[18:19])
    assert cascade.open_ranges == [(6, 12), (18, 20)]
    assert cascade.open_bytes > 0
    assert cascade.forget(8, 9) == (6, 12)
    assert cascade.open_ranges == [(18, 20)]
    assert cascade.forget(0, 20) == (0, 20)
    assert cascade.open_bytes == 0


def test_a_z_factor_beyond_the_image_makes_one_group() -> None:
    image = np.arange(3 * 4 * 4, dtype="int64").reshape(3, 4, 4)
    levels = [(10_007, 1, 1), (10_009, 2, 2)]
    cascade = Cascade(image.shape, image.dtype, levels)
    cascade.push(1, image[1:2])
    assert cascade.open_ranges == [(0, 3)]
    assert cascade.forget(2, 3) == (0, 3)
    assert_levels(gather(cascade, image, [(2, 3), (0, 2)]), image, levels)


def test_a_plane_comes_once() -> None:
    image = np.zeros((8, 4, 4), "uint8")
    cascade = Cascade(image.shape, image.dtype, [(4, 2, 2)])
    cascade.push(0, image[0:2])
    with pytest.raises(InvalidInputError, match="plane 1 came before; call forget"):
        cascade.push(1, image[1:3])
    assert len(cascade.push(2, image[2:4])) == 1  # plane 2 was not taken by the call that failed
    cascade.push(5, image[5:6])
    assert [each.z for each in cascade.finish()] == [1]
    with pytest.raises(InvalidInputError, match="plane 4 came before"):
        cascade.push(4, image[4:5])


@pytest.mark.parametrize(
    ("z", "slab", "message"),
    [
        (-1, np.zeros((1, 4, 5), "uint8"), "at plane -1"),
        (7, np.zeros((2, 4, 5), "uint8"), r"shape \(2, 4, 5\) to begin at plane 7"),
        (0, np.zeros((0, 4, 5), "uint8"), r"shape \(0, 4, 5\)"),
        (0, np.zeros((1, 5, 4), "uint8"), r"image of shape \(8, 4, 5\)"),
        (0, np.zeros((4, 5), "uint8"), r"whole planes \(n, y, x\)"),
        (0, np.uint8(0), r"whole planes \(n, y, x\)"),
        (0, np.zeros((1, 4, 5), "uint16"), "of type uint8; got planes of type uint16"),
    ],
)
def test_slabs_that_are_refused(z: int, slab: Array, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Cascade((8, 4, 5), "uint8", [(2, 2, 2)]).push(z, slab)


def test_other_calls_that_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="3 axes"):
        Cascade((4, 4), "uint8", [(2, 2, 2)])
    with pytest.raises(InvalidInputError, match="1 or more"):
        Cascade((4, 4, 4), "uint8", [(2, 2, 0)])
    with pytest.raises(InvalidInputError, match=r"planes 0 \.\. 3; got 2 \.\. 4"):
        Cascade((4, 4, 4), "uint8", [(2, 2, 2)]).forget(2, 5)


# ---------------------------------------------------------------------------------------------- BigDataViewer


def java_levels(folder: Path) -> Iterator[tuple[list[Array], list[dict[str, Any]]]]:
    """The levels of each view of a dataset that BigDataViewer exported, and what is known of them."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    with h5py.File(folder / "dataset.h5") as file:
        for view in expected["views"]:
            if not view.get("levels"):
                continue
            levels = []
            for index, known in enumerate(view["levels"]):
                pixels = file[f"t{view['timepoint']:05d}/s{view['setup']:02d}/{index}/cells"][()]
                levels.append(pixels.view("uint16") if known["dtype"] == "uint16" else pixels)
            yield levels, view["levels"]


def relative(factors: list[int], to: list[int]) -> Factors:
    """Factors (z, y, x) of one level against another; both are given as (x, y, z)."""
    x, y, z = (f // g for f, g in zip(factors, to, strict=True))
    return z, y, x


def assert_agree(ours: Array, theirs: Array, exact: bool) -> None:
    assert ours.shape == theirs.shape
    if exact:
        assert np.array_equal(ours, theirs)
    elif ours.dtype.kind == "f":
        limit = {4: 1e-6, 8: 1e-12}[ours.dtype.itemsize] * np.abs(theirs).max()
        assert np.abs(ours.astype("f8") - theirs).max() <= limit
    else:
        assert np.abs(ours.astype("i8") - theirs).max() <= 1


@pytest.mark.parametrize(("name", "count"), [("A_hdf5", 6), ("D_hdf5_float32", 2), ("G_hdf5_loopback", 6)])
def test_bigdataviewer_makes_the_same_levels(real_data: Path, name: str, count: int) -> None:
    """Each level against the one that BigDataViewer made it of."""
    compared = 0
    for levels, known in java_levels(real_data / "java" / name):
        for theirs, here in zip(levels[1:], known[1:], strict=True):
            source = here["computed_from_level"]
            factors = relative(here["factors_xyz"], known[source]["factors_xyz"])
            exact = theirs.dtype.kind != "f" and all(f & (f - 1) == 0 for f in factors)
            assert_agree(downsample(levels[source], factors), theirs, exact)
            compared += 1
    assert compared == count


def test_levels_that_bigdataviewer_rounded_twice_differ_by_one(real_data: Path) -> None:
    """From level 0, in cells that lie wholly inside; at the high border BigDataViewer repeats cells, we pixels."""
    compared = 0
    for levels, known in java_levels(real_data / "java" / "G_hdf5_loopback"):
        for theirs, here in zip(levels[1:], known[1:], strict=True):
            factors = relative(here["factors_xyz"], [1, 1, 1])
            inside = tuple(slice(n // f) for n, f in zip(levels[0].shape, factors, strict=True))
            assert_agree(downsample(levels[0], factors)[inside], theirs[inside], exact=False)
            compared += 1
    assert compared == 6


@pytest.mark.benchmark
def test_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "downsample.py"
    runpy.run_path(str(script))["main"](["--size", "64", "--rounds", "1"])
    table = capsys.readouterr().out
    assert "| uint16 (2, 2, 2) |" in table
    assert "nan" not in table
