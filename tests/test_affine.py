"""Affine: the 3x4 value, its algebra, its constructors."""

import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.affine import Affine, Axis, centre_xyz

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
affines = st.tuples(*[numbers] * 12).map(lambda v: Affine(values=v))
sides = st.floats(1e-9, 1e9)


def homogeneous(affine: Affine) -> np.ndarray[Any, Any]:
    return np.vstack([np.asarray(affine), [0, 0, 0, 1]])


@pytest.mark.parametrize("dataset", ["A_hdf5", "C_n5", "D_hdf5_float32", "G_hdf5_loopback", "H_n5_types"])
def test_the_original_reader_composes_transforms_in_the_same_way(real_data: Path, dataset: str) -> None:
    expected = json.loads((real_data / "java" / dataset / "expected.json").read_text())
    compared = 0
    for view in expected["views"]:
        listed = [Affine.from_array(rows_of(t)) for t in view["transforms_outermost_first"]]
        total = Affine.identity()
        for transform in listed:
            total = total @ transform
        np.testing.assert_allclose(np.asarray(total), rows_of(view["affine"]), rtol=1e-12, atol=1e-12)
        for level in view.get("levels", []):
            down = Affine.binning(level["factors_xyz"])
            np.testing.assert_array_equal(np.asarray(down), rows_of(level["mipmap_transform"]))
            np.testing.assert_allclose(
                np.asarray(total @ down), rows_of(level["affine"]), rtol=1e-12, atol=1e-12
            )
            compared += 1
    assert compared


def rows_of(entry: Any) -> np.ndarray[Any, Any]:
    """Read a 3x4 matrix, however expected.json nests it."""
    numbers = entry["affine"] if isinstance(entry, dict) else entry
    return np.array(numbers, dtype=float).reshape(3, 4)


def test_its_array_is_fresh_and_has_the_type_asked_for() -> None:
    affine = Affine(values=tuple(range(12)))
    array = np.asarray(affine)
    assert array.shape == (3, 4)
    assert array.dtype == np.float64
    assert array.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    array[:] = 0
    assert affine.values == tuple(range(12))
    assert np.array(affine, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="fresh"):
        np.asarray(affine, copy=False)


@given(affines)
def test_it_is_a_value(affine: Affine) -> None:
    again = pickle.loads(pickle.dumps(affine))
    assert again == affine
    assert hash(again) == hash(affine)
    assert Affine.from_array(np.asarray(affine)).values == affine.values
    assert Affine.from_array(homogeneous(affine)).values == affine.values
    assert Affine.from_array(affine) == affine


def test_the_plain_constructor_judges_no_value_but_their_number() -> None:
    odd = Affine(values=(math.nan, math.inf) + (0.0,) * 10)
    assert not odd.is_finite
    assert odd.is_singular
    assert all(type(v) is float for v in Affine(values=tuple(np.arange(12, dtype=np.float32))).values)
    with pytest.raises(InvalidInputError, match="12 numbers, row by row; found 16"):
        Affine(values=(0.0,) * 16)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(12), "shape (12,)"),
        (np.zeros((4, 3)), "shape (4, 3)"),
        (np.eye(3), "shape (3, 3)"),
        (np.zeros((1, 3, 4)), "shape (1, 3, 4)"),
        (7, "shape ()"),
        ([[1, 0, 0, 0], [0, 1, 0], [0, 0, 1, 0]], "ragged"),
        (np.zeros((4, 4)), "last row of the 4x4 affine is [0.0, 0.0, 0.0, 0.0]"),
        (np.eye(4)[[0, 1, 3, 2]], "last row of the 4x4 affine is [0.0, 0.0, 1.0, 0.0]"),
        ([[1, 0, 0, 0], [0, 1, 0, math.nan], [0, 0, 1, 0]], "nan in row 1, column 3"),
        ([[1, 0, -math.inf, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "-inf in row 0, column 2"),
        (np.eye(3, 4, dtype=complex), "complex128"),
        (np.full((3, 4), "1"), "<U1"),
        (np.full((3, 4), None), "object"),
    ],
)
def test_from_array_refuses_what_cannot_be_an_affine(array: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)) as caught:
        Affine.from_array(array)
    assert re.search("give|must be", str(caught.value))


def test_from_array_refuses_an_affine_read_with_nan() -> None:
    with pytest.raises(InvalidInputError, match="nan"):
        Affine.from_array(Affine(values=(math.nan,) * 12))


@given(affines, affines)
def test_composition_is_the_matrix_product(a: Affine, b: Affine) -> None:
    expected = (homogeneous(a) @ homogeneous(b))[:3]
    size = (np.abs(homogeneous(a)) @ np.abs(homogeneous(b)))[:3]
    assert (np.abs(np.asarray(a @ b) - expected) <= 1e-14 * size).all()


@given(affines)
def test_composition_with_the_identity_keeps_every_bit(a: Affine) -> None:
    assert a @ Affine.identity() == a
    assert Affine.identity() @ a == a


def test_the_right_one_touches_pixels_first() -> None:
    after = Affine.scale((2, 3, 4)) @ Affine.translation((1, 1, 1))
    assert after.apply((0, 0, 0)).tolist() == [2, 3, 4]
    assert after.translation_xyz == (2.0, 3.0, 4.0)
    assert after.linear.tolist() == np.diag([2, 3, 4]).tolist()


@given(affines, st.tuples(numbers, numbers, numbers))
def test_apply_moves_points_of_any_arrangement(affine: Affine, point: tuple[float, float, float]) -> None:
    points = np.tile(point, (2, 5, 1))
    moved = affine.apply(points)
    assert moved.shape == (2, 5, 3)
    expected = (homogeneous(affine) @ [*point, 1])[:3]
    size = (np.abs(homogeneous(affine)) @ np.abs([*point, 1]))[:3]
    assert (np.abs(moved - expected) <= 1e-14 * size).all()


def test_apply_takes_integers_and_refuses_other_shapes() -> None:
    assert Affine.scale((0.5, 1, 1)).apply(np.array([1, 2, 3])).tolist() == [0.5, 2, 3]
    with pytest.raises(InvalidInputError, match=re.escape("shape (3, 2)")):
        Affine.identity().apply(np.zeros((3, 2)))


def assert_inverse(affine: Affine) -> None:
    """Entry by entry, measured by the size of the numbers that cancel there."""
    there, back = homogeneous(affine), homogeneous(affine.inverse())
    # what is below 1e-300 are subnormal numbers, which have fewer digits
    assert (np.abs(back @ there - np.eye(4)) <= 1e-14 * (np.abs(back) @ np.abs(there)) + 1e-300).all()


@given(
    sides, sides, sides, st.sampled_from("xyz"), st.floats(-720, 720), st.tuples(numbers, numbers, numbers)
)
def test_inverse_of_what_a_microscope_does(
    x: float, y: float, z: float, axis: Axis, degrees: float, shift: tuple[float, float, float]
) -> None:
    """Also with voxel sides that differ by 18 orders of magnitude."""
    turn = Affine.rotation(axis, degrees) @ Affine.shear("x", by="z", factor=0.7)
    affine = turn @ Affine.scale((x, y, z)) @ Affine.translation(shift)
    assert not affine.is_singular
    assert_inverse(affine)


def test_inverse_of_powers_of_two_is_exact() -> None:
    affine = Affine.scale((0.5, 4, 0.25)) @ Affine.translation((1, 2, 3))
    assert affine.inverse() == Affine.translation((-1, -2, -3)) @ Affine.scale((2, 0.25, 4))
    assert "-0.0" not in repr(Affine.scale((0.4, 0.4, 1.2)).inverse())


@pytest.mark.parametrize(
    "linear",
    [
        np.zeros((3, 3)),
        np.diag([1, 0, 1]),
        [[1, 2, 3], [2, 4, 6], [0, 0, 1]],
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        [[1e-7, 1e-7, 0], [1e-7, 1e-7 * (1 + 1e-14), 0], [0, 0, 1e-7]],
        np.diag([1, math.inf, 1]),
        np.diag([1, math.nan, 1]),
    ],
)
def test_singular(linear: Any) -> None:
    affine = Affine(values=tuple(np.column_stack([linear, [1, 2, 3]]).ravel()))
    assert affine.is_singular
    with pytest.raises(InvalidInputError, match="no inverse"):
        affine.inverse()


@pytest.mark.parametrize(
    "affine",
    [
        Affine.scale((4e-7, 4e-7, 1.2e-6)),
        Affine.scale((1e-30, 1, 1e30)),
        Affine.shear("x", by="z", factor=1e9),
        Affine.rotation("y", 33) @ Affine.scale((1e-9, 1e-9, 1)),
        Affine.scale((1e-9, 1e-9, 1)) @ Affine.rotation("y", 33),
    ],
)
def test_small_or_stretched_voxels_are_not_singular(affine: Affine) -> None:
    assert not affine.is_singular
    assert_inverse(affine)


def test_a_translation_that_is_not_finite_has_no_inverse() -> None:
    affine = Affine(values=(1, 0, 0, math.nan, 0, 1, 0, 0, 0, 0, 1, 0))
    assert not affine.is_singular
    with pytest.raises(InvalidInputError, match="not finite"):
        affine.inverse()


@pytest.mark.parametrize(
    ("affine", "rows"),
    [
        (Affine.identity(), "1 0 0 0  0 1 0 0  0 0 1 0"),
        (Affine.translation((5, 6, 7)), "1 0 0 5  0 1 0 6  0 0 1 7"),
        (Affine.scale((2, 3, 4)), "2 0 0 0  0 3 0 0  0 0 4 0"),
        (Affine.crop((5, -6, 7)), "1 0 0 5  0 1 0 -6  0 0 1 7"),
        (Affine.binning((2, 3, 1)), "2 0 0 0.5  0 3 0 1  0 0 1 0"),
        (Affine.flip("x", 10), "-1 0 0 9  0 1 0 0  0 0 1 0"),
        (Affine.flip("y", 10), "1 0 0 0  0 -1 0 9  0 0 1 0"),
        (Affine.flip("z", 10), "1 0 0 0  0 1 0 0  0 0 -1 9"),
        (Affine.rotation("x", 90), "1 0 0 0  0 0 -1 0  0 1 0 0"),
        (Affine.rotation("y", 90), "0 0 1 0  0 1 0 0  -1 0 0 0"),
        (Affine.rotation("z", 90), "0 -1 0 0  1 0 0 0  0 0 1 0"),
        (Affine.rotation("z", -90), "0 1 0 0  -1 0 0 0  0 0 1 0"),
        (Affine.rotation("z", 180, about_xyz=(1, 2, 3)), "-1 0 0 2  0 -1 0 4  0 0 1 0"),
        (Affine.rotation("z", 360 * 7), "1 0 0 0  0 1 0 0  0 0 1 0"),
        (Affine.shear("x", by="z", factor=0.5), "1 0 0.5 0  0 1 0 0  0 0 1 0"),
        (Affine.shear("z", by="y", factor=2), "1 0 0 0  0 1 0 0  0 2 1 0"),
    ],
)
def test_constructors(affine: Affine, rows: str) -> None:
    """The matrices of formats.md 7, written out."""
    assert affine.values == tuple(map(float, rows.split()))
    assert "-0.0" not in repr(affine)


def test_constructors_keep_every_bit() -> None:
    odd = (0.1, 1 / 3, 65.62110374696502)
    assert Affine.scale(odd).values[::5] == odd
    assert Affine.translation(odd).translation_xyz == odd
    single = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    assert Affine.crop(single).translation_xyz == tuple(single.tolist())


@given(st.sampled_from("xyz"), st.floats(-1000, 1000), st.tuples(numbers, numbers, numbers))
def test_rotation_about_a_point(axis: Axis, degrees: float, about: tuple[float, float, float]) -> None:
    affine = Affine.rotation(axis, degrees, about_xyz=about)
    scale = 1 + max(map(abs, about))
    np.testing.assert_allclose(affine.apply(about), about, atol=1e-14 * scale)
    np.testing.assert_allclose(affine.linear @ affine.linear.T, np.eye(3), atol=1e-14)
    k = "xyz".index(axis)
    i, j = (k + 1) % 3, (k + 2) % 3
    assert affine.linear[k, k] == 1
    assert affine.linear[i, i] == pytest.approx(math.cos(math.radians(degrees)), abs=1e-12)
    assert affine.linear[j, i] == pytest.approx(math.sin(math.radians(degrees)), abs=1e-12)


def test_flip_and_turn_about_the_centre_of_a_volume_keep_its_corners() -> None:
    size = (5, 7, 9)
    corners = [(x, y, z) for x in (0, 4) for y in (0, 6) for z in (0, 8)]
    turned = Affine.rotation("y", 180, about_xyz=centre_xyz(size)).apply(corners)
    flipped = (Affine.flip("x", 5) @ Affine.flip("z", 9)).apply(corners)
    assert turned.tolist() == flipped.tolist()
    assert sorted(map(tuple, turned.tolist())) == corners


def test_binning_puts_a_block_at_the_mean_of_its_pixels() -> None:
    block = np.array([(x, y, z) for x in (6, 7) for y in (9, 10, 11) for z in (4,)])
    assert Affine.binning((2, 3, 1)).apply((3, 3, 4)).tolist() == block.mean(axis=0).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Affine.translation((1, 2)), "offset takes three finite numbers (x, y, z); found (1.0, 2.0)"),
        (lambda: Affine.crop((1, 2, math.nan)), "first kept pixel takes three finite numbers"),
        (lambda: Affine.scale((1, math.inf, 1)), "scale takes three finite numbers"),
        (lambda: Affine.scale((1, 0, 1)), "scale of 0 flattens"),
        (lambda: Affine.binning((1, 0, 1)), "at least 1 (x, y, z); found (1, 0, 1)"),
        (lambda: Affine.binning((1, 2.0, 1)), "three integers"),  # type: ignore[arg-type]
        (lambda: Affine.binning((2, 2)), "found (2, 2)"),
        (lambda: Affine.flip("w", 3), "no axis 'w'"),  # type: ignore[arg-type]
        (lambda: Affine.flip("xy", 3), "no axis 'xy'"),  # type: ignore[arg-type]
        (lambda: Affine.flip("x", 0), "0 pixels cannot be flipped"),
        (lambda: Affine.rotation("x", math.nan), "nan degrees"),
        (lambda: Affine.rotation("x", 10, about_xyz=(1, 2)), "point to turn about"),
        (lambda: Affine.shear("x", by="x", factor=2), "two axes"),
        (lambda: Affine.shear("x", by="y", factor=math.inf), "finite factor"),
        (lambda: centre_xyz((1, 2, 0)), "size of a volume"),
    ],
)
def test_constructors_refuse(call: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        call()


def test_only_affines_compose() -> None:
    with pytest.raises(TypeError):
        Affine.identity() @ "identity"  # type: ignore[operator]


@pytest.mark.parametrize("wrong", [2, "abc", None])
def test_what_is_no_three_numbers_is_refused(wrong: Any) -> None:
    for make in (Affine.translation, Affine.scale):
        with pytest.raises(InvalidInputError, match=r"three finite numbers \(x, y, z\); found"):
            make(wrong)
