"""What the published npy2bdv and pybdv write is read by us: pixels, transforms, attributes, missing views."""

from __future__ import annotations

import itertools
import pickle
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

import npy2bdv

if TYPE_CHECKING:
    from pathlib import Path

    from judges.conftest import Judge, Script
    from numpy.typing import NDArray

SHAPE = (7, 19, 26)
VOXEL_SIZE_XYZ = (0.4, 0.5, 2.0)
SHIFT = np.array([[1, 0.25, 0, 12.5], [0, 1, 0, -3], [0, 0, 1, 1000.125]])


def random_stack(seed: int, dtype: str = "uint16") -> NDArray[Any]:
    numbers = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return numbers.normal(100, 1000, SHAPE).astype(dtype)
    limits = np.iinfo(dtype)
    return numbers.integers(limits.min, limits.max, SHAPE, dtype, endpoint=True)


# ----------------------------------------------------------------------------------- the published npy2bdv


def test_full_factorial_with_labels_pyramid_gzip_and_a_missing_view(
    published: Judge, script: Script, tmp_path: Path
) -> None:
    counts = {"illumination": 2, "channel": 2, "tile": 3, "angle": 2}
    setups = [dict(zip(counts, where, strict=True)) for where in np.ndindex(*counts.values())]
    stacks = {
        (time, setup): random_stack(100 * time + setup)
        for time, setup in itertools.product(range(2), range(len(setups)))
        if (time, setup) != (1, 5)
    }
    script.BdvWriter(
        filename="full.h5",
        subsamp=[[1, 1, 1], [1, 2, 2], [2, 4, 4]],
        blockdim=[[4, 16, 16]] * 3,
        compression="gzip",
        **{f"n{name}s": count for name, count in counts.items()},
    )
    script.set_attribute_labels(attribute="illumination", labels=["L", "R"])
    script.set_attribute_labels(attribute="channel", labels=["488", "561"])
    script.set_attribute_labels(attribute="angle", labels=["90", "180"])
    for (time, setup), stack in stacks.items():
        script.append_view(
            stack=stack,
            time=time,
            voxel_size_xyz=VOXEL_SIZE_XYZ,
            voxel_units="um",
            m_affine=SHIFT + setup,
            name_affine="stage",
            calibration=(1, 1, 4),
            exposure_time=10,
            exposure_units="ms",
            **setups[setup],
        )
    script.write_xml(camera_name="Flash4", user_name="me")
    script.close()
    published.write(script, tmp_path)
    xml = tmp_path / "full.xml"

    with npy2bdv.open(xml) as dataset:
        assert list(dataset.missing_views) == [(1, 5)]
        for (time, setup), stack in stacks.items():
            view = dataset.view(time=time, setup=setup)
            np.testing.assert_array_equal(view[...], stack, strict=True)
            assert (view.voxel_size_xyz, view.unit) == (VOXEL_SIZE_XYZ, "um")
            stage, calibration = view.transforms
            assert (stage.name, calibration.name) == ("stage", "calibration")
            np.testing.assert_allclose(np.asarray(stage.affine), SHIFT + setup, atol=5e-7)
            np.testing.assert_array_equal(np.asarray(calibration.affine), np.diag([1.0, 1, 4, 1])[:3])
        by_labels = dataset.view(time=1, illumination="R", channel="561", tile=2, angle="180")
        np.testing.assert_array_equal(by_labels[...], stacks[1, 23])

        seen = published.read(xml)["views"]
        assert len(seen) == len(stacks)
        for entry in seen:
            view = dataset.view(**{name: entry[name] for name in ("time", *counts)})
            assert_levels_equal(view, entry["levels"], count=3)


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pixel_types_and_codecs(
    dtype: str, compression: str | None, published: Judge, script: Script, tmp_path: Path
) -> None:
    stack = random_stack(1, dtype)
    script.BdvWriter(filename="one.h5", dtype=dtype, compression=compression)
    script.append_view(stack=stack)
    script.write_xml()
    script.close()
    published.write(script, tmp_path)
    with npy2bdv.open(tmp_path / "one.xml") as dataset:
        np.testing.assert_array_equal(dataset.view(time=0, setup=0)[...], stack, strict=True)


def test_virtual_stacks_by_plane_and_by_substack(published: Judge, script: Script, tmp_path: Path) -> None:
    by_plane, by_substack = np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.uint16)
    script.BdvWriter(
        filename="virtual.h5", ntiles=3, subsamp=[[1, 1, 1], [1, 2, 2]], blockdim=[[1, 16, 16]] * 2
    )
    script.append_view(stack=None, virtual_stack_dim=SHAPE, tile=0)
    script.append_view(stack=None, virtual_stack_dim=SHAPE, tile=2)
    for z in (5, 0, 2):
        by_plane[z] = random_stack(1)[z]
        script.append_plane(plane=by_plane[z], z=z)
    for y in (0, 10):
        part = slice(2, 6), slice(y, y + 9), slice(6, 20)
        by_substack[part] = random_stack(2)[part]
        script.append_substack(substack=by_substack[part], z_start=2, y_start=y, x_start=6, tile=2)
    script.write_xml()
    script.close()
    published.write(script, tmp_path)

    with npy2bdv.open(tmp_path / "virtual.xml") as dataset:
        assert list(dataset.missing_views) == [(0, 1)]
        np.testing.assert_array_equal(dataset.view(time=0, setup=0)[...], by_plane, strict=True)
        np.testing.assert_array_equal(dataset.view(time=0, setup=2)[...], by_substack, strict=True)
        with h5py.File(tmp_path / "virtual.h5") as file:  # their editor cannot: a setup is absent
            for setup in (0, 2):
                levels = [file[f"t00000/s0{setup}/{level}/cells"][()].view(np.uint16) for level in range(2)]
                assert_levels_equal(dataset.view(time=0, setup=setup), levels, count=2)


def test_pyramid_made_afterwards_gaps_in_time_and_an_appended_affine(
    published: Judge, script: Script, tmp_path: Path
) -> None:
    stack = random_stack(1)
    script.BdvWriter(filename="late.h5", nchannels=2)
    script.append_view(stack=stack)
    script.append_view(stack=stack[::-1], time=3, channel=1)
    script.create_pyramids(subsamp=[[2, 4, 4], [4, 8, 8]], blockdim=[[4, 16, 16]] * 2, compression="gzip")
    script.write_xml()
    script.append_affine(m_affine=SHIFT, time=3, channel=1)
    script.close()
    published.write(script, tmp_path)

    with npy2bdv.open(tmp_path / "late.xml") as dataset:
        view = dataset.view(time=3, setup=1)
        np.testing.assert_array_equal(view[...], stack[::-1], strict=True)
        np.testing.assert_allclose(np.asarray(view.transforms[0].affine), SHIFT, atol=5e-7)
        assert len(dataset.view(time=0, setup=0).transforms) == 1
        assert sorted(dataset.missing_views) == [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
        for entry in published.read(tmp_path / "late.xml")["views"]:
            view = dataset.view(time=entry["time"], setup=entry["channel"])
            assert_levels_equal(view, entry["levels"], count=3)


def test_first_level_that_is_not_full_resolution(published: Judge, script: Script, tmp_path: Path) -> None:
    script.BdvWriter(filename="coarse.h5", subsamp=[[1, 2, 2], [2, 4, 4]], blockdim=[[4, 16, 16]] * 2)
    script.append_view(stack=random_stack(1))
    script.write_xml()
    script.close()
    published.write(script, tmp_path)
    (entry,) = published.read(tmp_path / "coarse.xml")["views"]
    with npy2bdv.open(tmp_path / "coarse.xml") as dataset:
        assert_levels_equal(dataset.view(time=0, setup=0), entry["levels"], count=2)


# --------------------------------------------------------------------------------------------------- pybdv


@pytest.mark.parametrize("suffix", ["h5", "n5"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "float32", "float64"])
def test_pybdv_typical_call(dtype: str, suffix: str, pybdv: Judge, script: Script, tmp_path: Path) -> None:
    stack = random_stack(1, dtype)
    script.make_bdv(
        data=stack,
        output_path=f"one.{suffix}",
        downscale_factors=[[1, 2, 2], [2, 2, 2]],
        downscale_mode="mean",
        resolution=VOXEL_SIZE_XYZ[::-1],
        unit="micrometer",
        setup_name="one",
        affine=SHIFT.ravel().tolist(),
    )
    pybdv.write(script, tmp_path)
    (entry,) = pybdv.read(tmp_path / "one.xml")["views"]
    with npy2bdv.open(tmp_path / "one.xml") as dataset:
        view = dataset.view(time=0, setup=0)
        np.testing.assert_array_equal(view[...], stack, strict=True)
        assert (view.voxel_size_xyz, view.unit) == (VOXEL_SIZE_XYZ, "micrometer")
        np.testing.assert_array_equal(np.asarray(view.transform), SHIFT)
        assert_levels_equal(view, [level.view(dtype) for level in entry["levels"]], count=3)


@pytest.mark.parametrize("suffix", ["h5", "n5"])
def test_pybdv_lazily_and_without_its_blocks_of_zeros(
    suffix: str, pybdv: Judge, script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack = np.zeros((8, 64, 130), np.uint16)
    stack[:, 60:, 128:] = 7
    script.make_bdv(data=stack, output_path=f"one.{suffix}", downscale_factors=[[1, 2, 2]])
    pybdv.write(script, tmp_path)
    if suffix == "n5":  # 64 x 64 x 64 pixels each
        assert len(list((tmp_path / "one.n5/setup0/timepoint0/s0").glob("*/*/*"))) == 1
    with npy2bdv.open(tmp_path / f"one.{suffix}") as dataset:
        view = dataset.view()
        np.testing.assert_array_equal(view[...], stack, strict=True)
        assert caplog.text == ""
        lazy, again = view.to_dask(), pickle.loads(pickle.dumps(view))
        if suffix == "n5":
            np.testing.assert_array_equal(view.to_tensorstore().read().result(), stack, strict=True)
    np.testing.assert_array_equal(lazy, stack)
    with again.dataset:
        np.testing.assert_array_equal(again[::-2, 3, 5:], stack[::-2, 3, 5:])


def test_pybdv_setups_time_points_and_several_transforms(
    pybdv: Judge, script: Script, tmp_path: Path
) -> None:
    inner = np.diag([*VOXEL_SIZE_XYZ, 1.0])[:3]
    stacks = {
        (time, setup): random_stack(10 * time + setup)
        for time, setup in itertools.product(range(2), range(2))
    }
    for (time, setup), stack in stacks.items():
        script.make_bdv(
            data=stack,
            output_path="many.h5",
            downscale_factors=[[1, 2, 2]],
            timepoint=time,
            setup_id=setup,
            setup_name=f"setup {setup}",
            affine={"outer": SHIFT.ravel().tolist(), "inner": inner.ravel().tolist()},
            attributes={"channel": {"id": setup, "name": f"ch{setup}"}, "tile": {"id": 0}},
        )
    pybdv.write(script, tmp_path)
    with npy2bdv.open(tmp_path / "many.xml") as dataset:
        for (time, setup), stack in stacks.items():
            view = dataset.view(time=time, setup=setup)
            np.testing.assert_array_equal(view[...], stack, strict=True)
            outermost, innermost = view.transforms
            np.testing.assert_array_equal(np.asarray(outermost.affine), SHIFT)
            np.testing.assert_array_equal(np.asarray(innermost.affine), inner)
        np.testing.assert_array_equal(dataset.view(time=1, channel="ch1")[...], stacks[1, 1])


def assert_levels_equal(view: npy2bdv.View, levels: list[NDArray[Any]], count: int) -> None:
    assert len(levels) == count
    for index, pixels in enumerate(levels):
        np.testing.assert_array_equal(view.level(index)[...], pixels, strict=True)
