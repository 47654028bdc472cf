"""Pyramid: sizes, chunks, places; and BDV's own proposal."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npy2bdv.errors import InvalidInputError, OutOfRangeError
from npy2bdv.model.affine import Affine
from npy2bdv.model.pyramid import Pyramid, Region, propose

triples = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


@st.composite
def pyramids(draw: st.DrawFn) -> Pyramid:
    factors = tuple(draw(st.lists(triples, min_size=1, max_size=3)))
    shape = draw(st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)))
    return Pyramid(shape=shape, factors=factors, chunks=tuple(draw(triples) for _ in factors))


@st.composite
def regions(draw: st.DrawFn, shape: tuple[int, int, int]) -> Region:
    z, y, x = (slice(*sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in shape)
    return z, y, x


# shape and voxel size in xyz, factors, chunks in xyz: from running ProposeMipmaps of bigdataviewer-core
PROPOSALS: list[tuple[str, str, int, str, str]] = [
    ("2048 2048 100", ".406 .406 2", 4096, "1 1 1/2 2 1/4 4 1/8 8 2", "32 32 4/32 16 8/16 16 16/16 16 16"),
    ("2048 2048 100", "1 1 1", 4096, "1 1 1/2 2 2/4 4 4/8 8 8", "/".join(["16 16 16"] * 4)),
    ("1920 1920 1", ".1 .1 1", 4096, "1 1 1/2 2 1/4 4 1/8 8 1", "/".join(["64 64 1"] * 4)),
    ("256 256 256", "1 1 1", 4096, "1 1 1", "16 16 16"),
    ("2000 2000 500", ".3 .3 1.2", 4096, "1 1 1/2 2 1/4 4 2/8 8 4", "32 32 4/32 16 8/32 16 8/32 16 8"),
    (
        "10240 1000 3",
        "1 1 4",
        4096,
        "1 1 1/2 2 1/4 4 2/8 8 2/16 16 2/32 32 2/64 64 4",
        "32 32 4/32 32 4/64 64 1/64 64 1/64 64 1/128 32 1/256 16 1",
    ),
    (
        "2048 2048 100",
        ".406 .406 2",
        262144,
        "1 1 1/2 2 1/4 4 1/8 8 2",
        "128 128 16/128 64 32/64 64 64/64 64 64",
    ),
]


@pytest.mark.parametrize(("size", "voxel", "max_elements", "factors", "chunks"), PROPOSALS)
def test_proposal_equals_bdv(size: str, voxel: str, max_elements: int, factors: str, chunks: str) -> None:
    def zyx(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split()))[::-1]

    proposed = propose(zyx(size), tuple(map(float, voxel.split())), max_elements)
    assert proposed == (tuple(map(zyx, factors.split("/"))), tuple(map(zyx, chunks.split("/"))))


def test_proposal_equals_every_recorded_one(real_data: Path) -> None:
    recorded = json.loads((real_data / "java" / "propose_mipmaps.json").read_text())
    assert recorded
    for case in recorded:
        factors, chunks = propose(case["size"][::-1], case["voxel_size"], case["max_num_elements"])
        assert [list(f[::-1]) for f in factors] == case["resolutions"], case
        assert [list(c[::-1]) for c in chunks] == case["subdivisions"], case


@given(
    st.tuples(*[st.integers(1, 100_000)] * 3), st.tuples(*[st.floats(1e-9, 1e3)] * 3), st.integers(1, 2**22)
)
def test_a_proposal_is_a_pyramid(
    shape: tuple[int, int, int], voxel_size_xyz: tuple[float, float, float], max_elements: int
) -> None:
    factors, chunks = propose(shape, voxel_size_xyz, max_elements)
    pyramid = Pyramid(shape=shape, factors=factors, chunks=chunks)
    assert factors[0] == (1, 1, 1)
    assert max(pyramid.level_shape(pyramid.n_levels - 1)) <= 257  # BDV stops by the floor of the size
    assert all(b >= a for low, high in pairwise(factors) for a, b in zip(low, high, strict=True))
    assert all(math.log2(c).is_integer() for chunk in chunks for c in chunk)


@pytest.mark.parametrize(
    ("shape", "voxel", "max_elements", "message"),
    [
        ((1, 2), (1, 1, 1), 4096, "shape: three integers of at least 1 (z, y, x) are needed; found (1, 2)"),
        ((0, 2, 2), (1, 1, 1), 4096, "found (0, 2, 2)"),
        ((2, 2, 2), (1, 0, 1), 4096, "three finite sizes above 0 (x, y, z); found (1.0, 0.0, 1.0)"),
        ((2, 2, 2), (1, math.nan, 1), 4096, "found (1.0, nan, 1.0)"),
        ((2, 2, 2), (1, 1), 4096, "found (1.0, 1.0)"),
        ((2, 2, 2), (1, 1, 1), 0, "max_elements=0"),
    ],
)
def test_propose_refuses(shape: Any, voxel: Any, max_elements: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        propose(shape, voxel, max_elements)


@pytest.mark.parametrize("dataset", ["A_hdf5", "C_n5", "D_hdf5_float32", "G_hdf5_loopback", "H_n5_types"])
def test_levels_of_the_original_exporter(real_data: Path, dataset: str) -> None:
    compared = 0
    for view in json.loads((real_data / "java" / dataset / "expected.json").read_text())["views"]:
        levels = view.get("levels", [])
        if not levels:
            continue
        pyramid = Pyramid(
            shape=tuple(levels[0]["dims_xyz"][::-1]),
            factors=tuple(tuple(level["factors_xyz"][::-1]) for level in levels),
            chunks=((4, 256, 256),),
        )
        for k, level in enumerate(levels):
            assert list(pyramid.level_shape(k)[::-1]) == level["dims_xyz"]
            down = np.asarray(pyramid.level_transform(k)).ravel().tolist()
            assert down == np.ravel(level["mipmap_transform"]).tolist()
            compared += 1
    assert compared


def test_a_pyramid_is_a_value_that_takes_any_integers() -> None:
    plain = Pyramid(shape=(5, 6, 7), factors=((1, 1, 1), (1, 2, 3)), chunks=((4, 8, 16), (4, 8, 16)))
    loose = Pyramid(
        shape=np.array([5, 6, 7]),  # type: ignore[arg-type]
        factors=np.array([[1, 1, 1], [1, 2, 3]], dtype=np.uint8),  # type: ignore[arg-type]
        chunks=[[4, 8, 16]],  # type: ignore[arg-type]
    )
    assert plain == loose
    assert hash(plain) == hash(loose)
    assert type(loose.shape[0]) is int
    assert loose.n_levels == 2


@pytest.mark.parametrize(
    ("shape", "factors", "chunks", "message"),
    [
        (
            (5, 6),
            ((1, 1, 1),),
            ((1, 1, 1),),
            "shape: three integers of at least 1 (z, y, x) are needed; found (5, 6)",
        ),
        ((5, 0, 7), ((1, 1, 1),), ((1, 1, 1),), "shape: three integers of at least 1"),
        (
            (5, 6.5, 7),
            ((1, 1, 1),),
            ((1, 1, 1),),
            "shape: three integers (z, y, x) are needed; found (5, 6.5, 7)",
        ),
        ((5, 6, 7), ((1, 1, 1), (1, 0, 1)), ((1, 1, 1),), "factors: three integers of at least 1"),
        ((5, 6, 7), ((1, 1, 1), (2, 2)), ((1, 1, 1),), "factors: three integers of at least 1"),
        ((5, 6, 7), (1, 2, 2), ((1, 1, 1),), "factors: three integers (z, y, x) are needed; found 1"),
        (
            (5, 6, 7),
            (),
            ((1, 1, 1),),
            "factors are triples of integers (z, y, x), one for each level; found none",
        ),
        (
            (5, 6, 7),
            2,
            ((1, 1, 1),),
            "factors are triples of integers (z, y, x), one for each level; found 2",
        ),
        ((5, 6, 7), ((1, 1, 1),), ((0, 1, 1),), "chunks: three integers of at least 1"),
        (
            (5, 6, 7),
            ((1, 1, 1),) * 3,
            ((4, 4, 4),) * 2,
            "3 levels need as many chunk shapes, or one for all; found 2",
        ),
        ((5, 6, 7), ((1, 1, 1),), ((4, 4, 4),) * 2, "1 levels need as many chunk shapes"),
    ],
)
def test_a_pyramid_refuses(shape: Any, factors: Any, chunks: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        Pyramid(shape=shape, factors=factors, chunks=chunks)


def test_sizes_and_grids() -> None:
    pyramid = Pyramid(
        shape=(101, 800, 1023),
        factors=((1, 1, 1), (1, 2, 2), (3, 5, 1)),
        chunks=((4, 256, 256), (8, 32, 64), (50, 1, 2048)),
    )
    assert [pyramid.level_shape(k) for k in range(3)] == [(101, 800, 1023), (101, 400, 512), (34, 160, 1023)]
    assert [pyramid.grid(k) for k in range(3)] == [(26, 4, 4), (13, 13, 8), (1, 160, 1)]
    assert [pyramid.rows(k) for k in range(3)] == [26, 13, 1]
    assert pyramid.level_transform(2) == Affine.binning((1, 5, 3))


def test_factors_beyond_the_size_leave_one_pixel() -> None:
    assert Pyramid(shape=(3, 9, 9), factors=((4, 2, 2),), chunks=((1, 1, 1),)).level_shape(0) == (1, 5, 5)


@pytest.mark.parametrize("level", [-1, 2])
def test_a_level_that_is_not_there(level: int) -> None:
    pyramid = Pyramid(shape=(5, 6, 7), factors=((1, 1, 1), (2, 2, 2)), chunks=((4, 8, 16),))
    whole = (slice(None),) * 3
    for call in (
        lambda: pyramid.level_shape(level),
        lambda: pyramid.level_transform(level),
        lambda: pyramid.grid(level),
        lambda: pyramid.rows(level),
        lambda: pyramid.footprint(level, whole),
        lambda: pyramid.covering(level, whole),
    ):
        with pytest.raises(OutOfRangeError, match=f"no level {level}; this image has the levels 0 to 1"):
            call()


@given(pyramids(), st.data())
def test_regions_against_a_count_of_pixels(pyramid: Pyramid, data: st.DataObject) -> None:
    """Pixel p of the full image is averaged into pixel p // f of a level."""
    level = data.draw(st.integers(0, pyramid.n_levels - 1))
    cells = [np.arange(n) // f for n, f in zip(pyramid.shape, pyramid.factors[level], strict=True)]

    low = data.draw(regions(pyramid.level_shape(level)))
    for kept, wanted, cell in zip(pyramid.footprint(level, low), low, cells, strict=True):
        inside = np.flatnonzero((cell >= wanted.start) & (cell < wanted.stop))
        assert np.arange(len(cell))[kept].tolist() == inside.tolist()
        assert 0 <= kept.start <= kept.stop <= len(cell)

    full = data.draw(regions(pyramid.shape))
    for kept, wanted, cell in zip(pyramid.covering(level, full), full, cells, strict=True):
        assert list(range(kept.start, kept.stop)) == np.unique(cell[wanted]).tolist()


def test_regions_may_be_open_or_reach_beyond_the_image() -> None:
    pyramid = Pyramid(shape=(5, 6, 7), factors=((1, 1, 1), (2, 2, 2)), chunks=((4, 8, 16),))
    whole = (slice(0, 5), slice(0, 6), slice(0, 7))
    assert pyramid.footprint(1, (slice(None), slice(99), slice(0, None))) == whole
    assert pyramid.covering(1, whole) == (slice(0, 3), slice(0, 3), slice(0, 4))
    assert pyramid.footprint(1, (slice(2, 99), slice(7, 9), slice(0, 1))) == (
        slice(4, 5),
        slice(6, 6),
        slice(0, 2),
    )


@pytest.mark.parametrize("bad", [slice(-1, None), slice(0, -1), slice(0, 4, 2)])
def test_regions_refuse_steps_and_counts_from_the_end(bad: slice) -> None:
    pyramid = Pyramid(shape=(5, 6, 7), factors=((1, 1, 1),), chunks=((4, 8, 16),))
    with pytest.raises(InvalidInputError, match=re.escape(f"no steps; found {bad}")):
        pyramid.footprint(0, (slice(None), bad, slice(None)))
    with pytest.raises(InvalidInputError, match="found 2"):
        pyramid.covering(0, (slice(None), slice(None)))  # type: ignore[arg-type]
