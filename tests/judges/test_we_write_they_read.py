"""What we write is read by Bio-Formats, the published npy2bdv and pybdv, within their limits."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

import npy2bdv

if TYPE_CHECKING:
    from pathlib import Path

    from judges.conftest import Judge
    from numpy.typing import NDArray

    from npy2bdv.storage.base import FormatName

SHAPE = (11, 23, 37)  # odd, so that every level has a border of its own
PIXEL_TYPES = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64",
)  # fmt: skip
LEVELS = ((1, 1, 1), (1, 2, 2), (2, 4, 6))
CHUNKS = ((4, 16, 32), (4, 16, 16), (2, 8, 8))
VOXEL_SIZE_XYZ = (0.4, 0.5, 2.0)
CALIBRATION = np.diag([1, 1.25, 5, 1])[:3]  # in voxels of the smallest size
SHIFT = np.array([[1, 0.25, 0, 12.5], [0, 1, 0, 1.2e-7], [0, 0, 1, 1 / 3]])


def random_stack(seed: int, dtype: str = "uint16", highest: int | None = None) -> NDArray[Any]:
    numbers = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return numbers.normal(100, 1000, SHAPE).astype(dtype)
    limits = np.iinfo(dtype)
    return numbers.integers(limits.min, highest or limits.max, SHAPE, dtype, endpoint=True)


def block_mean(stack: NDArray[Any], factors: tuple[int, ...]) -> NDArray[Any]:
    """Return the mean of blocks, the edge pixel repeated; integers exactly, rounded half up."""
    pairs = list(zip(stack.shape, factors, strict=True))
    padded = np.pad(stack, [(0, -size % factor) for size, factor in pairs], mode="edge")
    split = [n for size, factor in pairs for n in (-(-size // factor), factor)]
    if stack.dtype.kind == "f":
        means = padded.reshape(split).mean(axis=(1, 3, 5), dtype=np.float64)
    else:
        count = int(np.prod(factors))
        sums = padded.astype(object).reshape(split).sum(axis=(1, 3, 5))  # Python's own integers
        means = (2 * sums + count) // (2 * count)
    return np.asarray(means, stack.dtype)


def assert_levels_equal(seen: list[NDArray[Any]], stack: NDArray[Any]) -> None:
    """Check what a judge saw of a view, bit for bit (floats of lower levels: to the last few bits)."""
    assert len(seen) == len(LEVELS)
    for pixels, factors in zip(seen, LEVELS, strict=True):
        expected = block_mean(stack, factors)
        found = pixels.view(stack.dtype) if pixels.dtype.itemsize == stack.dtype.itemsize else pixels
        if stack.dtype.kind == "f" and factors != (1, 1, 1):
            tolerance = 1e-6 if stack.dtype == np.float32 else 1e-12
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
        else:
            np.testing.assert_array_equal(found, expected)


# --------------------------------------------------------------------------------------------- Bio-Formats


@pytest.mark.parametrize(
    ("dtype", "highest", "compression"),
    [
        # Bio-Formats knows the size of a pixel only: int8 and int16 are shown without sign, uint32 as int32
        ("uint8", None, "gzip"),
        ("int8", None, "gzip"),
        ("uint16", None, "gzip"),
        ("uint16", None, ("gzip", 6)),
        ("uint16", None, None),
        ("int16", None, "gzip"),
        ("uint32", 2**31 - 1, "gzip"),
        ("int32", None, "gzip"),
    ],
)
def test_bioformats_reads_tiles_and_time_points(
    dtype: str,
    highest: int | None,
    compression: Any,
    bioformats: Judge,
    tmp_path: Path,
) -> None:
    views = itertools.product(range(2), range(3))
    stacks = {view: random_stack(sum(view), dtype, highest) for view in views if view != (1, 1)}
    xml = tmp_path / "tiles.xml"
    with npy2bdv.create(xml, levels=LEVELS, chunks=CHUNKS, compression=compression) as writer:
        setups = [
            writer.add_setup(shape=SHAPE, dtype=dtype, tile=tile, voxel_size_xyz=VOXEL_SIZE_XYZ)
            for tile in range(3)
        ]
        for (time, tile), stack in stacks.items():
            writer.write(stack, setup=setups[tile], time=time)

    series = bioformats.read(xml)["series"]
    assert len(series) == 3
    for tile, entry in enumerate(series):
        assert entry["voxel_size_xyz"] == list(VOXEL_SIZE_XYZ)
        assert entry["unreadable"] == ([[1, 0]] if tile == 1 else [])
        for time in range(2):
            if (time, tile) in stacks:
                seen = [level[time, 0] for level in entry["levels"]]
                assert_levels_equal(seen, stacks[time, tile])


def test_bioformats_reads_channels_and_an_empty_time_point(bioformats: Judge, tmp_path: Path) -> None:
    stacks = {(time, channel): random_stack(time + channel) for time in (0, 2) for channel in range(2)}
    xml = tmp_path / "channels.xml"
    with npy2bdv.create(xml, levels=LEVELS, chunks=CHUNKS, compression="gzip") as writer:
        setups = [writer.add_setup(shape=SHAPE, dtype="uint16", channel=name) for name in ("488", "561")]
        for (time, channel), stack in stacks.items():
            writer.write(stack, setup=setups[channel], time=time)

    (series,) = bioformats.read(xml)["series"]
    assert series["unreadable"] == [[1, 0], [1, 1]]
    for (time, channel), stack in stacks.items():
        assert_levels_equal([level[time, channel] for level in series["levels"]], stack)


def test_the_judge_reads_the_file(bioformats: Judge, tmp_path: Path) -> None:
    stack = random_stack(1)
    xml = tmp_path / "altered.xml"
    with npy2bdv.create(xml, levels=LEVELS, chunks=CHUNKS, compression="gzip") as writer:
        writer.write(stack, setup=writer.add_setup(shape=SHAPE, dtype="uint16"), time=0)
    with h5py.File(tmp_path / "altered.h5", "r+") as file:
        file["t00000/s00/0/cells"][7, 20, 31] ^= 1

    (series,) = bioformats.read(xml)["series"]
    different = np.argwhere(series["levels"][0][0, 0] != stack)
    assert different.tolist() == [[7, 20, 31]]
    with pytest.raises(AssertionError):
        assert_levels_equal([level[0, 0] for level in series["levels"]], stack)


# ----------------------------------------------------------------------------------- the published npy2bdv


@pytest.mark.parametrize(
    ("dtype", "compression"),
    [*((dtype, "gzip") for dtype in PIXEL_TYPES), ("uint16", None)],
)
def test_published_editor_reads_a_full_factorial(
    dtype: str, compression: str | None, published: Judge, tmp_path: Path
) -> None:
    names = ("illumination", "channel", "tile", "angle")
    places = [dict(zip(names, where, strict=True)) for where in np.ndindex(2, 2, 3, 1)]
    stacks = {
        (time, place): random_stack(time + place, dtype)
        for time, place in itertools.product(range(2), range(len(places)))
        if (time, place) != (1, 5)
    }
    xml = tmp_path / "full.xml"
    with npy2bdv.create(xml, levels=LEVELS, chunks=CHUNKS, compression=compression) as writer:
        setups = [
            writer.add_setup(shape=SHAPE, dtype=dtype, voxel_size_xyz=VOXEL_SIZE_XYZ, **place)
            for place in places
        ]
        for (time, place), stack in stacks.items():
            writer.write(stack, setup=setups[place], time=time, transform=SHIFT + time)

    seen = published.read(xml)
    assert seen["counts"] == [2, 2, 2, 3, 1]
    assert len(seen["views"]) == len(stacks)
    for view in seen["views"]:
        place = places.index({name: view[name] for name in names})
        assert_levels_equal(view["levels"], stacks[view["time"], place])
        assert all(level.dtype == dtype for level in view["levels"])
        assert view["voxel_size_xyz"] == list(VOXEL_SIZE_XYZ)
        assert view["shape_xyz"] == list(SHAPE[::-1])
        np.testing.assert_array_equal(view["transforms"][0], SHIFT + view["time"])
        np.testing.assert_allclose(view["transforms"][1:], [CALIBRATION], rtol=1e-15)


def test_the_published_package_finds_points_of_the_stage(published: Judge, tmp_path: Path) -> None:
    """Bio-Formats tells no positions of BDV datasets; the published package tells all transforms."""
    places = [(100.25, -20.5, 3.125), (140.0, -20.5, 3.125)]
    with npy2bdv.create(tmp_path / "stage.xml") as writer:
        for tile, place in enumerate(places):
            setup = writer.add_setup(
                shape=SHAPE,
                tile=tile,
                voxel_size_xyz=VOXEL_SIZE_XYZ,
                stage_position_xyz=place,
                flip_xyz=(True, False, False),
            )
            writer.write(random_stack(tile, "uint16"), setup=setup)
    views = published.read(tmp_path / "stage.xml")["views"]
    assert len(views) == 2
    for view in views:
        total = np.eye(4)
        for matrix in view["transforms"]:
            total = total @ np.vstack([matrix, [0, 0, 0, 1]])
        last, first = total @ (SHAPE[2] - 1, 0, 0, 1), total @ (0, 0, 0, 1)
        width = (SHAPE[2] - 1) * VOXEL_SIZE_XYZ[0]
        x, y, z = places[view["tile"]]
        np.testing.assert_allclose(last[:3] * 0.4, (x, y, z), atol=1e-9)
        np.testing.assert_allclose(first[:3] * 0.4, (x + width, y, z), atol=1e-9)


# --------------------------------------------------------------------------------------------------- pybdv


@pytest.mark.parametrize("form", ["hdf5", "n5"])
@pytest.mark.parametrize("dtype", PIXEL_TYPES)
def test_pybdv_reads_all_pixel_types(dtype: str, form: FormatName, pybdv: Judge, tmp_path: Path) -> None:
    stacks = {view: random_stack(sum(view), dtype) for view in ((0, 0), (1, 0), (0, 1))}
    xml = tmp_path / "types.xml"
    with npy2bdv.create(xml, format=form, levels=LEVELS, chunks=CHUNKS, compression="gzip") as writer:
        for channel in range(2):
            setup = writer.add_setup(
                shape=SHAPE,
                dtype=dtype,
                channel=channel,
                voxel_size_xyz=VOXEL_SIZE_XYZ,
                unit="micrometer",
                name=f"channel {channel}",
            )
            for time in range(2):
                if (time, channel) in stacks:
                    writer.write(stacks[time, channel], setup=setup, time=time, transform=SHIFT + time)

    seen = pybdv.read(xml)
    assert seen["format"] == f"bdv.{form}"
    assert {(view["time"], view["setup"]) for view in seen["views"]} == set(stacks)
    for view in seen["views"]:
        assert_levels_equal(view["levels"], stacks[view["time"], view["setup"]])
        assert view["levels"][0].dtype == ("int16" if (form, dtype) == ("hdf5", "uint16") else dtype)
        assert view["factors"] == [list(map(float, factors)) for factors in LEVELS]
        assert view["voxel_size"] == list(VOXEL_SIZE_XYZ[::-1])
        assert view["shape"] == list(SHAPE)
        assert (view["unit"], view["name"]) == ("micrometer", f"channel {view['setup']}")
        assert view["attributes"]["channel"]["id"] == view["setup"]
        transforms = np.reshape(view["transforms"], (-1, 3, 4))
        np.testing.assert_array_equal(transforms[0], SHIFT + view["time"])
        np.testing.assert_allclose(transforms[1:], [CALIBRATION], rtol=1e-15)


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", "float64"])
def test_bioformats_reads_exported_tiff(
    bioformats: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, is_big: bool
) -> None:
    if is_big:
        monkeypatch.setattr("npy2bdv.storage.stacks._CLASSIC_BYTES", 0)
    stack = np.arange(4 * 9 * 11).reshape(4, 9, 11).astype(dtype)
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        known = {"voxel_size_xyz": (0.65, 0.25, 2.0), "unit": "um"}
        writer.write(stack, setup=writer.add_setup(shape=stack.shape, dtype=dtype, **known))  # type: ignore[arg-type]
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        path = npy2bdv.export(dataset.view(), tmp_path / "one.tif")
    assert path.read_bytes()[2] == (43 if is_big else 42)
    (series,) = bioformats.read(path)["series"]
    (level,) = series["levels"]
    assert level.dtype == dtype
    np.testing.assert_array_equal(level, stack[None, None])
    assert series["voxel_size_xyz"] == pytest.approx([0.65, 0.25, 2.0])
