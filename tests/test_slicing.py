"""Any index gives what numpy gives on the whole array, and reads little more than it needs."""

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from npy2bdv.errors import InvalidInputError, OutOfRangeError
from npy2bdv.model.slicing import select, take

SHAPE = (5, 7, 6)
WHOLE = np.arange(prod(SHAPE)).reshape(SHAPE)


def read(index: Any, whole: NDArray[Any] = WHOLE, chunks: tuple[int, int, int] = (2, 3, 1)) -> NDArray[Any]:
    """What a level does with an index; every pixel that is not put anywhere stays -1."""
    selection = select(index, whole.shape, chunks)
    pixels = np.full(selection.shape, -1)
    for box, wanted, target in selection.boxes():
        pixels[target] = take(whole[box], wanted)
    assert (pixels >= 0).all()
    if selection.is_one_box:
        ((box, _, _),) = selection.boxes()
        np.testing.assert_array_equal(whole[box], pixels)
    found: NDArray[Any] = pixels[selection.pick]
    return found


_BOUNDS = st.none() | st.integers(-12, 12)
_SLICES = st.builds(slice, _BOUNDS, _BOUNDS, st.none() | st.sampled_from([-4, -3, -2, -1, 1, 2, 3, 5]))
_INTEGERS = st.integers(-8, 8)
_ARRAYS = hnp.arrays(
    np.int64, hnp.array_shapes(max_dims=2, max_side=4, min_side=0), elements=st.integers(-5, 4)
)
_MASKS = st.sampled_from([(5,), (7,), (6,), (5, 7), (7, 6), SHAPE]).flatmap(lambda n: hnp.arrays(bool, n))
_LISTS = st.lists(st.integers(-5, 4), max_size=5)
_PARTS = st.one_of(_SLICES, _INTEGERS, _ARRAYS, _MASKS, _LISTS, st.just(Ellipsis), st.none())


@example((slice(None), 0, ..., np.array([], np.int64)))  # an ellipsis of no axis separates, too
@given(st.lists(_PARTS, max_size=5).map(tuple) | _PARTS)
@settings(max_examples=800, deadline=None)
def test_any_index_equals_numpy(index: Any) -> None:
    try:
        wanted = WHOLE[index]
    except IndexError:
        with pytest.raises(IndexError):
            read(index)
        return
    found = read(index)
    assert np.shape(found) == np.shape(wanted)
    np.testing.assert_array_equal(found, wanted)


@given(st.permutations([slice(None, None, 2), [0, -1], np.array([True, False] * 3)]))
def test_arrays_on_several_axes(parts: list[Any]) -> None:
    whole = np.arange(6**3).reshape(6, 6, 6)
    index = tuple([0, -1, 1] if isinstance(part, list) else part for part in parts)
    np.testing.assert_array_equal(read(index, whole), whole[index])


@pytest.mark.parametrize(
    ("index", "most"),
    [
        (np.s_[::50], 1000 // 50 * 64 * 64),
        (([0, 999],), 2 * 64 * 64),
        ((np.arange(1000) % 500 == 7,), 2 * 64 * 64),
        (np.s_[:, 5, ::-1], 1000 * 64),
        ((slice(None), [3, 60], [60, 3]), 1000 * 4),
    ],
)
def test_what_lies_between_is_not_read(index: Any, most: int) -> None:
    selection = select(index, (1000, 64, 64), (4, 16, 16))
    assert sum(prod(part.stop - part.start for part in box) for box, _, _ in selection.boxes()) <= most


def test_boxes_stay_small_however_many_pixels_are_left_out() -> None:
    selection = select(np.s_[::2], (1000, 64, 64), (4, 16, 16))
    boxes = [box for box, _, _ in selection.boxes()]
    assert max(box[0].stop - box[0].start for box in boxes) <= 32
    assert len(boxes) == 32


@pytest.mark.parametrize(
    "index", [True, np.True_, 1.0, "z", [0.5], np.array(True), (0, "x"), {0}, (0, (1, 2)), 2j]
)
def test_what_is_no_index(index: Any) -> None:
    with pytest.raises(
        InvalidInputError, match="read by integers, slices, and arrays of integers or booleans; found"
    ):
        select(index, SHAPE, (1, 1, 1))


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (5, r"z = 5 is outside of the level, which has 5 \(z\)"),
        ((0, -8), r"y = -8 is outside"),
        (np.s_[..., 10**30], r"x = 10+ is outside"),
        ([0, 4, 5, -9], r"z = 5 is outside"),
        ((0, 0, 0, 0), "at most three indices"),
        ((..., ...), "one ellipsis"),
        (
            (0, np.ones((7, 5), bool)),
            r"mask of the shape \(7, 5\) does not fit the axes yx .* sizes \(7, 6\)",
        ),
        (np.ones((1, 1, 1, 1), bool), "at most three indices"),
    ],
)
def test_what_lies_outside(index: Any, says: str) -> None:
    with pytest.raises(OutOfRangeError, match=says):
        select(index, SHAPE, (1, 1, 1))
