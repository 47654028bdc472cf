"""Units, grids, parts of an affine: properties."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npy2bdv
from npy2bdv.errors import InvalidInputError
from npy2bdv.model import units
from npy2bdv.model.placement import length_of

NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)
LENGTHS = st.sampled_from(["angstrom", "nm", "µm", "mm", "cm", "m", "inch"])
SIZES = st.floats(1e-3, 1e3)
ANGLES = st.floats(-360, 360)


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        *((each, "micrometer") for each in ("um", "µm", "μm", "micron", "Microns", "micrometre", " Micrometers ")),
        *((each, "nanometer") for each in ("nm", "nanometre", "nanometers")),
        *((each, "millimeter") for each in ("mm", "millimetre")),
        *((each, "inch") for each in ("in", "inch", "inches", '"')),
        *((each, "px") for each in ("px", "pixel", "pixels", "")),
        ("furlong", "furlong"),
    ],
)  # fmt: skip
def test_spellings(spelt: str, name: str) -> None:
    assert units.unit_name(spelt) == name
    assert units.length_name(spelt) == (None if name in ("px", "furlong") else name)


@given(NUMBERS, LENGTHS, LENGTHS)
def test_a_length_comes_back_from_another_unit(length: float, unit: str, other: str) -> None:
    there = units.convert(length, unit, other)
    assert units.convert(there, other, unit) == pytest.approx(length, rel=1e-15, abs=0)
    ratio, back = units.ratio(unit, other), units.ratio(other, unit)
    assert ratio is not None
    assert ratio * (back or 0) == 1
    assert there == pytest.approx(float(Fraction(length) * ratio), rel=1e-15)


@given(NUMBERS, LENGTHS)
def test_the_same_unit_changes_nothing(length: float, unit: str) -> None:
    assert units.convert(length, unit, unit) == length


def test_what_is_no_length_is_not_converted() -> None:
    with pytest.raises(InvalidInputError, match="'px' cannot be brought into 'um'"):
        units.convert(1, "px", "um")
    assert units.convert(3, "furlong", "furlong") == 3


@given(
    st.decimals(-100000, 100000, places=4).map(float),
    st.sampled_from([0.406, 0.2, 0.1083, 1.0, 4.0, 0.0065, 6.5, 1 / 3]),
)
def test_a_position_is_read_as_it_was_given(position: float, unit: float) -> None:
    assert length_of(position / unit, unit) == position


@given(
    st.tuples(SIZES, SIZES, SIZES),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.lists(st.tuples(st.sampled_from("xyz"), ANGLES), max_size=3),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.tuples(NUMBERS, NUMBERS, NUMBERS),
)
def test_parts_make_up_the_affine(
    scale: Any, flips: Any, turns: list[tuple[Any, float]], shears: Any, offset: Any
) -> None:
    affine = npy2bdv.Affine.scale([-s if flip else s for s, flip in zip(scale, flips, strict=True)])
    for (axis, by), factor in zip((("x", "y"), ("x", "z"), ("y", "z")), shears, strict=True):
        affine = npy2bdv.Affine.shear(axis, by=by, factor=factor) @ affine  # type: ignore[arg-type]
    for axis, degrees in turns:
        affine = npy2bdv.Affine.rotation(axis, degrees) @ affine
    affine = npy2bdv.Affine.translation(offset) @ affine
    parts = affine.decompose()
    back = parts.compose()
    assert back.translation_xyz == affine.translation_xyz
    columns = np.linalg.norm(affine.linear, axis=0)
    np.testing.assert_allclose(back.linear / columns, affine.linear / columns, atol=1e-12)
    np.testing.assert_allclose(parts.rotation @ parts.rotation.T, np.eye(3), atol=1e-13)
    assert np.linalg.det(parts.rotation) == pytest.approx(1)
    assert math.prod(np.sign(parts.scale_xyz)) == np.sign(np.linalg.det(affine.linear))
    assert 0 <= parts.degrees <= 180 + 1e-12


@given(st.tuples(SIZES, SIZES, SIZES), st.sampled_from("xyz"), st.floats(0.01, 179.99))
def test_parts_that_a_person_put_in_come_out(scale: Any, axis: Any, degrees: float) -> None:
    parts = (npy2bdv.Affine.rotation(axis, degrees) @ npy2bdv.Affine.scale(scale)).decompose()
    assert parts.scale_xyz == pytest.approx(scale)
    assert parts.degrees == pytest.approx(degrees)
    assert parts.axis_xyz == pytest.approx([float(each == axis) for each in "xyz"], abs=1e-9)
    assert (parts.shear_xy, parts.shear_xz, parts.shear_yz) == pytest.approx((0, 0, 0), abs=1e-9)


def test_parts_are_written_for_people() -> None:
    mirrored = npy2bdv.Affine.flip("x", 100) @ npy2bdv.Affine.scale((1, 1, 2.5))
    assert str(mirrored.decompose()) == "scale (-1, 1, 2.5), translation (99, 0, 0)"
    assert str(npy2bdv.Deskew(angle=45).shear.decompose()) == "shear yz 1"
    assert str(npy2bdv.Affine.identity().decompose()) == "nothing"
    with pytest.raises(InvalidInputError, match="has no parts"):
        npy2bdv.Affine(values=(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)).decompose()


ORDERS = {
    "rows": [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)],
    "snake-by-rows": [(0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1)],
    "columns": [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)],
    "snake-by-columns": [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)],
}


@pytest.mark.parametrize("order", ORDERS)
def test_orders_of_a_grid(order: Any) -> None:
    found = npy2bdv.grid(3, 2, shape=(1, 10, 20), voxel_size_xyz=(0.5, 2, 1), overlap=0, order=order)
    assert [(x / 10, y / 20) for x, y, _ in found] == ORDERS[order]


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.floats(0, 0.9),
    st.sampled_from(sorted(ORDERS)),
)
def test_neighbours_in_a_grid_overlap_as_asked(nx: int, ny: int, nz: int, overlap: float, order: Any) -> None:
    shape, voxel = (30, 40, 50), (0.4, 0.5, 2.0)
    places = list(
        npy2bdv.grid(nx, ny, nz=nz, shape=shape, voxel_size_xyz=voxel, overlap=overlap, order=order)
    )
    assert len(set(places)) == nx * ny * nz
    size = np.array(shape[::-1]) * voxel
    for axis, count in enumerate((nx, ny, nz)):
        along = sorted({place[axis] for place in places})
        assert len(along) == count
        np.testing.assert_allclose(1 - np.diff(along) / size[axis], overlap, atol=1e-12)
    if order.startswith("snake"):  # each tile is a neighbour of the one before, within a layer
        layers = [places[start : start + nx * ny] for start in range(0, len(places), nx * ny)]
        for layer in layers:
            moves = np.abs(np.diff(np.array(layer), axis=0)) > 1e-9
            assert (moves.sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"nx": 0}, "nx=0 cannot be"),
        ({"overlap": 1}, "from 0 to less than 1"),
        ({"overlap": 10}, "0.1 for 10 percent"),
        ({"order": "spiral"}, "snake-by-rows, rows"),
        ({"shape": (10, 10)}, "three sizes above 0"),
        ({"voxel_size_xyz": (1, 1, 0)}, "three finite sizes above 0"),
    ],
)
def test_grids_that_cannot_be(terms: dict[str, Any], message: str) -> None:
    given_terms: dict[str, Any] = {
        "nx": 2,
        "ny": 2,
        "shape": (1, 10, 10),
        "voxel_size_xyz": (1, 1, 1),
        **terms,
    }
    with pytest.raises(InvalidInputError, match=message):
        npy2bdv.grid(**given_terms)
