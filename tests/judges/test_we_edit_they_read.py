"""What we edited is read by the published npy2bdv, pybdv and Bio-Formats: pixels as they were, transforms as edited."""

from __future__ import annotations

import itertools
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import npy2bdv

if TYPE_CHECKING:
    from pathlib import Path

    from judges.conftest import Judge, Script
    from numpy.typing import NDArray

SHAPE = (5, 14, 18)
VOXEL_SIZE_XYZ = (0.4, 0.5, 2.0)
CALIBRATION = np.diag([1, 1.25, 5, 1])[:3]
SHIFT = np.array([[1, 0.25, 0, 12.5], [0, 1, 0, 1.2e-7], [0, 0, 1, 1 / 3]])
TURN = np.asarray(npy2bdv.Affine.rotation("z", 30))


def stack(seed: int) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 2**16, SHAPE, "uint16")


def times(*matrices: NDArray[Any]) -> NDArray[Any]:
    """Return a product of 3x4 matrices."""
    product = np.eye(4)
    for matrix in matrices:
        product = product @ np.vstack((matrix, (0, 0, 0, 1)))
    return product[:3]


def edit(path: Path) -> None:
    with npy2bdv.edit(path) as editor:
        editor.insert_transform(SHIFT, name="drift", time=1)
        editor.insert_transform(TURN, name="turn", at="outermost", channel="561")
        editor.set_labels("channel", {"488": "GFP & more"})
        editor.set_labels("tile", {0: "left", 1: "right"})
        editor.set_voxel_size((0.25, 0.5, 3), "nm")
        editor.set_location(1, (9, 0, 0))
        editor.set_camera(name="Kinetix")
        editor.set_microscope(user="somebody else")


def test_the_published_npy2bdv_reads_an_edited_dataset(published: Judge, tmp_path: Path) -> None:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path, levels=((1, 1, 1), (1, 2, 2)), compression="gzip") as writer:
        for channel, tile in itertools.product(("488", "561"), range(2)):
            setup = writer.add_setup(shape=SHAPE, channel=channel, tile=tile, voxel_size_xyz=VOXEL_SIZE_XYZ)
            for time in range(2):
                writer.write(stack(10 * time + setup), setup=setup, time=time)
    edit(path)
    seen = published.read(path)
    assert seen["counts"] == [2, 1, 2, 2, 1]
    assert len(seen["views"]) == 8
    for view in seen["views"]:
        setup = 2 * view["channel"] + view["tile"]
        np.testing.assert_array_equal(view["levels"][0].view("uint16"), stack(10 * view["time"] + setup))
        assert view["voxel_size_xyz"] == [0.25, 0.5, 3]
        expected = [CALIBRATION]
        expected = [SHIFT, *expected] if view["time"] == 1 else expected
        expected = [TURN, *expected] if view["channel"] == 1 else expected
        assert np.array(view["transforms"]).tolist() == np.array(expected).tolist()


def test_bioformats_reads_an_edited_dataset(bioformats: Judge, tmp_path: Path) -> None:
    """One channel: with several, and several setups of each, it shows wrong pixels of any dataset."""
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path, levels=((1, 1, 1), (1, 2, 2)), compression="gzip") as writer:
        for tile in range(2):
            setup = writer.add_setup(shape=SHAPE, channel="488", tile=tile, voxel_size_xyz=VOXEL_SIZE_XYZ)
            for time in range(2):
                writer.write(stack(10 * time + setup), setup=setup, time=time)
    with npy2bdv.edit(path) as editor:
        editor.insert_transform(SHIFT, name="drift", time=1)
        editor.set_labels("channel", {"488": "GFP"})
        editor.set_voxel_size((0.25, 0.5, 3), "µm")
    series = bioformats.read(path)["series"]
    assert len(series) == 2
    for setup, entry in enumerate(series):
        assert entry["voxel_size_xyz"] == [0.25, 0.5, 3]
        assert entry["unreadable"] == []
        for time in range(2):
            np.testing.assert_array_equal(entry["levels"][0][time, 0], stack(10 * time + setup))


@pytest.mark.parametrize("name", ["kidney", "kidney_v1"])
def test_an_edited_export_of_fiji_is_read_as_before(
    name: str, bioformats: Judge, published: Judge, real_data: Path, tmp_path: Path
) -> None:
    for each in (f"{name}.xml", "kidney.h5"):
        shutil.copy(real_data / "kidney" / each, tmp_path)
    path = tmp_path / f"{name}.xml"
    before = published.read(path), bioformats.read(path)
    with npy2bdv.edit(path) as editor:
        editor.insert_transform(SHIFT, name="drift")
        editor.compose_transforms(channel=1)
    after = published.read(path), bioformats.read(path)
    for old, new in zip(before[0]["views"], after[0]["views"], strict=True):
        for was, is_ in zip(old["levels"], new["levels"], strict=True):
            np.testing.assert_array_equal(was, is_)
        if new["channel"] == 1:
            (matrix,) = new["transforms"]
            np.testing.assert_allclose(matrix, times(SHIFT, *map(np.array, old["transforms"])), rtol=1e-12)
        else:
            assert new["transforms"] == [SHIFT.tolist(), *old["transforms"]]
    for old, new in zip(before[1]["series"], after[1]["series"], strict=True):
        assert new["voxel_size_xyz"] == old["voxel_size_xyz"]
        for was, is_ in zip(old["levels"], new["levels"], strict=True):
            np.testing.assert_array_equal(was, is_)


def test_they_write_we_edit_they_read(published: Judge, script: Script, tmp_path: Path) -> None:
    script.BdvWriter(filename="scan.h5", nchannels=2)
    for channel in range(2):
        script.append_view(stack=stack(channel), channel=channel, calibration=(1, 1, 4))
    script.write_xml(camera_name="Flash4", user_name="me")
    script.close()
    published.write(script, tmp_path)
    path = tmp_path / "scan.xml"
    text = path.read_text(encoding="utf-8")
    with npy2bdv.edit(path) as editor:
        editor.insert_transform(SHIFT, name="drift", channel=1)
    for view in published.read(path)["views"]:
        np.testing.assert_array_equal(view["levels"][0].view("uint16"), stack(view["channel"]))
        assert len(view["transforms"]) == 1 + view["channel"]
        assert view["transforms"][-1] == np.diag([1.0, 1, 4, 1])[:3].tolist()
    for word in ("Flash4", "<user>me</user>", '<hdf5 type="relative">scan.h5</hdf5>'):
        assert word in text
        assert word in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_cropped_dataset_is_read(
    compression: str | None, bioformats: Judge, published: Judge, tmp_path: Path
) -> None:
    path = tmp_path / "scan.xml"
    levels = ((1, 1, 1), (1, 2, 2))
    with npy2bdv.create(path, levels=levels, compression=compression) as writer:
        for tile in range(2):
            setup = writer.add_setup(shape=SHAPE, tile=tile, voxel_size_xyz=VOXEL_SIZE_XYZ)
            for time in range(2):
                writer.write(stack(10 * time + setup), setup=setup, time=time)
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=((1, None), (2, -1), (None, -3)), tile=1)
    cropped = {setup: stack(setup)[1:, 2:-1, :-3] if setup else stack(setup) for setup in range(2)}
    for view in published.read(path)["views"]:
        if view["time"] == 0:
            expected = cropped[view["tile"]]
            np.testing.assert_array_equal(view["levels"][0].view("uint16"), expected)
            means = npy2bdv.downsample(expected, levels[1])
            np.testing.assert_array_equal(view["levels"][1].view("uint16"), means)
    for setup, series in enumerate(bioformats.read(path)["series"]):
        np.testing.assert_array_equal(series["levels"][0][0, 0], cropped[setup])
        np.testing.assert_array_equal(
            series["levels"][1][0, 0], npy2bdv.downsample(cropped[setup], levels[1])
        )


def test_bioformats_lists_no_series_of_a_removed_setup(bioformats: Judge, tmp_path: Path) -> None:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path) as writer:
        for tile in range(3):
            writer.write(stack(tile), setup=writer.add_setup(shape=SHAPE, channel="488", tile=tile))
    with npy2bdv.edit(path) as editor:
        editor.remove_setups(tile="2")
    series = bioformats.read(path)["series"]
    assert len(series) == 2
    for tile, entry in enumerate(series):
        assert entry["unreadable"] == []
        np.testing.assert_array_equal(entry["levels"][0][0, 0], stack(tile))
