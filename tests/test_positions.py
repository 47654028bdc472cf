"""Positions of the stage in OME-TIFF: where tiles lie in a converted dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import npy2bdv
from npy2bdv.sources import open_source

STACK = np.arange(3 * 8 * 9, dtype="uint16").reshape(3, 8, 9)
SIZES = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}


def write(path: Path, *images: dict[str, Any]) -> Path:
    """Write one image for each set of metadata."""
    with tifffile.TiffWriter(path) as file:
        for k, metadata in enumerate(images):
            file.write(STACK + k, metadata={"axes": "ZYX", **metadata})
    return path


def at(x: float, y: float, z: float, unit: str | None = None) -> dict[str, Any]:
    """Metadata of planes: the stage moves in z while a stack is taken."""
    planes: dict[str, Any] = {
        "PositionX": [x] * 3,
        "PositionY": [y] * 3,
        "PositionZ": [z, z + 2, z + 4],
    }
    if unit is not None:
        planes |= {f"Position{axis}Unit": [unit] * 3 for axis in "XYZ"}
    return SIZES | {"Plane": planes}


@pytest.mark.parametrize(("unit", "factor"), [("µm", 1), ("mm", 1e-3), ("reference frame", 1), (None, 1)])
def test_tiles_lie_where_the_stage_was(tmp_path: Path, unit: str | None, factor: float) -> None:
    places = [(100.0, -20.0, 7.0), (460.5, -20.0, 9.0)]
    given = [at(x * factor, y * factor, z * factor, unit) for x, y, z in places]
    path = write(tmp_path / "a.ome.tif", *given)
    npy2bdv.resave(path, tmp_path / "scan.xml")
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        for tile, place in enumerate(places):
            view = dataset.view(tile=tile)
            np.testing.assert_array_equal(view[:], STACK + tile)
            entity: Any = dataset.spimdata.attributes["tile"].entities[tile]
            assert entity.location_xyz == pytest.approx(place)
            # the world is in pixels of 0.5 um, the smallest voxel size
            moved = [[2 * place[0]], [2 * place[1]], [2 * place[2]]]
            expected = np.hstack([np.diag([1.0, 1.0, 4.0]), moved])
            np.testing.assert_allclose(np.asarray(view.transform)[:3], expected)
            names = [each.name for each in dataset.spimdata.registrations[view.id].transforms]
            assert names == ["Translation", "calibration"]


def test_a_file_without_positions_has_none(tmp_path: Path) -> None:
    npy2bdv.resave(write(tmp_path / "a.ome.tif", SIZES, SIZES), tmp_path / "scan.xml")
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        assert len(dataset.spimdata.registrations[dataset.view(tile=1).id].transforms) == 1
        tile: Any = dataset.spimdata.attributes["tile"].entities[1]
        assert tile.location_xyz is None


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        (
            at(1, 2, 3, "furlong"),
            "in ['furlong', 'furlong', 'furlong'], is not used: sizes are in micrometer",
        ),
        (at(float("nan"), 2, 3), "is not used"),
        ({"Plane": at(1, 2, 3, "µm")["Plane"]}, "is not used: sizes are in px"),
    ],
)
def test_positions_that_cannot_be_used_are_told(tmp_path: Path, metadata: dict[str, Any], told: str) -> None:
    path = tmp_path / "a.ome.tif"
    if "furlong" not in told:
        write(path, metadata)
    else:  # tifffile writes units of the schema only
        write(path, at(1, 2, 3, "µm"))
        with tifffile.TiffFile(path) as file:
            text = file.ome_metadata or ""
        for axis in "XYZ":
            text = text.replace(f'Position{axis}Unit="µm"', f'Position{axis}Unit="furlong"')
        options: dict[str, Any] = {"description": text.encode(), "metadata": None}
        tifffile.imwrite(path, STACK, photometric="minisblack", **options)
    with open_source(path) as source:
        assert source.views[0].position_xyz is None
        assert [told in note for note in source.notes] == [True]


def test_images_in_several_units_are_brought_into_one(tmp_path: Path) -> None:
    nanometers = {f"PhysicalSize{axis}": 500.0 for axis in "XYZ"} | {
        f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"
    }
    npy2bdv.resave(write(tmp_path / "a.ome.tif", SIZES, nanometers), tmp_path / "scan.xml")
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        found = [(view.voxel_size_xyz, view.unit) for view in dataset]
    assert found == [((0.5, 0.5, 2.0), "micrometer"), ((0.5, 0.5, 0.5), "micrometer")]


def test_images_of_which_one_has_no_unit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", SIZES, {})
    with pytest.raises(npy2bdv.BdvError, match="a dataset has one unit; give voxel_size_xyz= and unit="):
        npy2bdv.resave(path, tmp_path / "scan.xml")
    assert [each.name for each in tmp_path.iterdir()] == ["a.ome.tif"]
    npy2bdv.resave(path, tmp_path / "scan.xml", voxel_size_xyz=(1, 1, 2), unit="um")
