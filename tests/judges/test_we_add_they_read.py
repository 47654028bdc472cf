"""What was appended, merged or repacked is read by Bio-Formats and the published npy2bdv."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

import npy2bdv

if TYPE_CHECKING:
    from pathlib import Path

    from judges.conftest import Judge, Script
    from numpy.typing import NDArray

SHAPE = (5, 14, 18)
VOXEL_SIZE_XYZ = (0.4, 0.5, 2.0)
SHIFT = np.array([[1, 0.25, 0, 12.5], [0, 1, 0, 1.2e-7], [0, 0, 1, 1 / 3]])


def stack(seed: int) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 2**16, SHAPE, "uint16")


def record(path: Path, tiles: range, times: range, **options: Any) -> None:
    """A recording whose stacks are known by tile and time point."""
    with npy2bdv.create(path, levels=((1, 1, 1), (1, 2, 2)), compression="gzip", **options) as writer:
        for tile in tiles:
            setup = writer.add_setup(shape=SHAPE, tile=tile, voxel_size_xyz=VOXEL_SIZE_XYZ, transform=SHIFT)
            for time in times:
                writer.write(stack(10 * time + tile), setup=setup, time=time)


def check_series(path: Path, bioformats: Judge, tiles: int, times: int) -> None:
    series = bioformats.read(path)["series"]
    assert len(series) == tiles
    for tile, entry in enumerate(series):
        assert entry["voxel_size_xyz"] == list(VOXEL_SIZE_XYZ)
        assert entry["unreadable"] == []
        for time in range(times):
            pixels = entry["levels"][0][time, 0]
            np.testing.assert_array_equal(pixels, stack(10 * time + tile))
            coarse = npy2bdv.downsample(stack(10 * time + tile), (1, 2, 2))
            np.testing.assert_array_equal(entry["levels"][1][time, 0], coarse)


def append(path: Path) -> None:
    record(path, range(2), range(2))
    record(path, range(2), range(2, 3), mode="a")
    record(path, range(2, 3), range(3), mode="a")


def test_bioformats_reads_what_was_appended(bioformats: Judge, tmp_path: Path) -> None:
    append(tmp_path / "a.xml")
    check_series(tmp_path / "a.xml", bioformats, tiles=3, times=3)


def test_the_published_npy2bdv_reads_what_was_appended(published: Judge, tmp_path: Path) -> None:
    append(tmp_path / "a.xml")
    seen = published.read(tmp_path / "a.xml")
    assert seen["counts"] == [3, 1, 1, 3, 1]
    assert len(seen["views"]) == 9
    for view in seen["views"]:
        expected = stack(10 * view["time"] + view["tile"])
        np.testing.assert_array_equal(view["levels"][0].view("uint16"), expected)
        assert view["transforms"][0] == SHIFT.tolist()


def test_bioformats_reads_merged_recordings(bioformats: Judge, tmp_path: Path) -> None:
    """A recording for each tile, which all call it tile 0, in folders of their own; linked by the master."""
    for tile in range(3):
        folder = tmp_path / f"tile {tile}"
        folder.mkdir()
        record(folder / "a.xml", range(tile, tile + 1), range(2))
        (folder / "a.xml").rename(folder / f"{tile}.xml")
    paths = [tmp_path / f"tile {tile}" / f"{tile}.xml" for tile in range(3)]
    npy2bdv.merge(paths, tmp_path / "all.xml", along="tile")
    check_series(tmp_path / "all.xml", bioformats, tiles=3, times=2)


def test_bioformats_reads_a_repacked_file(bioformats: Judge, tmp_path: Path) -> None:
    append(tmp_path / "a.xml")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["removed"] = stack(0)
        file["last"] = 1
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["removed"]
    assert npy2bdv.repack(tmp_path / "a.xml").saved > 0
    check_series(tmp_path / "a.xml", bioformats, tiles=3, times=3)


@pytest.mark.parametrize("name", ["kidney", "kidney_v1"])
def test_an_export_of_fiji_is_appended_to(
    name: str, published: Judge, real_data: Path, tmp_path: Path
) -> None:
    for each in (f"{name}.xml", "kidney.h5"):
        shutil.copy(real_data / "kidney" / each, tmp_path)
    path = tmp_path / f"{name}.xml"
    before = published.read(path)
    with npy2bdv.open(path) as dataset:
        setup, time = dataset.setups[0], max(dataset.times) + 1
        pixels = dataset.view(setup=setup, time=dataset.times[0])[...][:, ::-1]
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(pixels, setup=setup, time=time)
    after = published.read(path)
    for old, new in zip(before["views"], after["views"], strict=False):
        for was, is_ in zip(old["levels"], new["levels"], strict=True):
            np.testing.assert_array_equal(was, is_)
    assert after["counts"][0] == 2, "a range now; of the pattern before it knows nothing (0)"
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=setup, time=time)[...], pixels)


@pytest.mark.parametrize("suffix", [".h5", ".n5"])
def test_what_pybdv_wrote_is_appended_to(suffix: str, pybdv: Judge, script: Script, tmp_path: Path) -> None:
    """Its image stays, byte by byte as it is read; a time point and a setup come to it."""
    script.make_bdv(
        data=stack(0), output_path=f"a{suffix}", downscale_factors=[[1, 2, 2]], setup_name="theirs"
    )
    pybdv.write(script, tmp_path)
    path = tmp_path / "a.xml"
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack(10), setup=0, time=1)
        writer.write(stack(1), setup=writer.add_setup(shape=SHAPE, tile=1))
    with npy2bdv.open(path) as dataset:
        for time, setup in ((0, 0), (1, 0), (0, 1)):
            pixels = stack(10 * time + setup)
            np.testing.assert_array_equal(dataset.view(time=time, setup=setup)[...], pixels)
        assert dataset.view(time=0, setup=0).setup.name == "theirs"
        assert dataset.view(time=1, setup=0).n_levels == 2
