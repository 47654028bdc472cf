"""Real light-sheet data: a TIFF, and the dataset that Fiji's BigStitcher exported from it."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

import npy2bdv
from npy2bdv.cli import main


@pytest.fixture(scope="session")
def kidney(real_data: Path) -> Path:
    return real_data / "kidney"


@pytest.fixture(scope="session")
def tiff(kidney: Path) -> Path:
    (found,) = kidney.glob("*.tif")
    return found


@pytest.fixture(scope="session")
def converted(tiff: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kidney") / "converted.xml"
    assert main(["convert", str(tiff), str(out), "--levels", "1,1,1 1,2,2", "--compression", "gzip"]) == 0
    return out


def test_level_0_equals_the_tiff(tiff: Path, converted: Path) -> None:
    pixels = tifffile.imread(tiff)  # z, c, y, x
    assert pixels.shape == (32, 3, 172, 111)
    with npy2bdv.open(converted) as dataset:
        assert len(dataset) == 3
        for channel in range(3):
            np.testing.assert_array_equal(dataset.view(channel=channel)[...], pixels[:, channel])
    with h5py.File(converted.with_suffix(".h5")) as file:
        for channel in range(3):
            stored = file[f"t00000/s{channel:02d}/0/cells"][()]
            np.testing.assert_array_equal(stored.view("uint16"), pixels[:, channel])


def test_lower_level_is_the_mean_of_the_tiff(tiff: Path, converted: Path) -> None:
    pixels = tifffile.imread(tiff)[:, 1].astype(float)
    columns = np.pad(pixels, ((0, 0), (0, 0), (0, 1)), mode="edge")  # 111 is odd
    means = columns.reshape(32, 86, 2, 56, 2).mean(axis=(2, 4))
    with npy2bdv.open(converted) as dataset:
        np.testing.assert_array_equal(dataset.view(channel=1).level(1)[...], np.floor(means + 0.5))


@pytest.mark.parametrize("name", ["kidney.xml", "kidney_v1.xml"])
def test_views_equal_those_that_fiji_exported(kidney: Path, converted: Path, name: str) -> None:
    with npy2bdv.open(kidney / name) as fiji, npy2bdv.open(converted) as ours:
        assert [view.id for view in fiji.views()] == [view.id for view in ours.views()]
        for view, same in zip(fiji.views(), ours.views(), strict=True):
            with h5py.File(kidney / "kidney.h5") as file:
                stored = file[f"t00000/s{view.id.setup:02d}/0/cells"][()].view("uint16")
            np.testing.assert_array_equal(view[...], stored)
            np.testing.assert_array_equal(same[...], stored)
            assert same.voxel_size_xyz == pytest.approx(view.voxel_size_xyz, rel=1e-12)
            np.testing.assert_allclose(same.transform, view.transform, rtol=1e-12)
            assert [each.name for each in same.transforms] == [each.name for each in view.transforms]


def test_both_xmls_name_the_views_their_way(kidney: Path) -> None:
    with npy2bdv.open(kidney / "kidney_v1.xml") as labelled, npy2bdv.open(kidney / "kidney.xml") as plain:
        assert labelled.labels("channel") == {0: "561", 1: "1", 2: "2"}
        assert labelled.labels("illumination") == {0: "Left"}
        assert plain.labels("channel") == {0: "0", 1: "1", 2: "2"}
        np.testing.assert_array_equal(
            labelled.view(channel="561", illumination="Left")[...], plain.view(channel=0)[...]
        )


def test_resaving_fijis_dataset_keeps_pixels_and_labels(kidney: Path, tmp_path: Path) -> None:
    out = npy2bdv.resave(kidney / "kidney_v1.xml", tmp_path / "again.xml", compression="gzip")
    with npy2bdv.open(kidney / "kidney_v1.xml") as old, npy2bdv.open(out) as new:
        for part in ("setups", "attributes", "timepoints", "missing", "registrations", "sections"):
            assert getattr(new.spimdata, part) == getattr(old.spimdata, part), part
        for view, same in zip(old.views(), new.views(), strict=True):
            np.testing.assert_array_equal(view[...], same[...])


def test_info_of_fijis_dataset(kidney: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(kidney / "kidney_v1.xml")]) == 0
    shown = capsys.readouterr().out
    for text in (
        "bdv.hdf5 (kidney.h5",
        "Left",
        "561",
        "32,172,111",
        "65.6211,65.6039,160 µm",
        "8,16,32",
        "gzip 6",
        "2.43888",
    ):
        assert text in shown
