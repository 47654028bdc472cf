"""One view out of a dataset, as an OME-Zarr image that other programs open by itself."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import yaozarrs
import zarr
from numpy.typing import NDArray

import npy2bdv
from npy2bdv import export as export_function
from npy2bdv.errors import ExistsError, InvalidInputError, NotFoundError

LEVELS = ((1, 1, 1), (1, 2, 2), (2, 4, 8))
both_versions = pytest.mark.parametrize("version", [2, 3])


@pytest.fixture
def pixels() -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 65535, (19, 35, 45)).astype("uint16")


@pytest.fixture
def scan(tmp_path: Path, pixels: NDArray[Any]) -> Path:
    with npy2bdv.create(tmp_path / "scan.xml", levels=LEVELS, chunks=(7, 16, 16)) as writer:
        for channel in ("488", "561"):
            setup = writer.add_setup(
                shape=pixels.shape, channel=channel, voxel_size_xyz=(0.5, 0.25, 2.0), unit="um", name=channel
            )
            writer.write(pixels + setup, setup=setup, time=3)
    return tmp_path / "scan.xml"


def export(scan: Path, path: Path, **how: Any) -> Path:
    with npy2bdv.open(scan) as dataset:
        return npy2bdv.export(dataset.view(time=3, channel="561"), path, **how)


@both_versions
@pytest.mark.parametrize("compression", ["default", None, ("gzip", 6)])
def test_other_programs_read_the_image(
    tmp_path: Path, scan: Path, pixels: NDArray[Any], version: int, compression: Any
) -> None:
    path = export(scan, tmp_path / "one.ome.zarr", zarr_version=version, compression=compression)
    group = zarr.open_group(path, mode="r")
    attributes: Any = group.attrs.asdict()
    if version == 2:
        yaozarrs.validate_ome_object(attributes, yaozarrs.v04.Image)
    else:
        attributes = attributes["ome"]
        yaozarrs.validate_ome_object(attributes, yaozarrs.v05.Image)
    (image,) = attributes["multiscales"]
    assert image["name"] == "561"
    assert attributes["omero"]["channels"][0]["label"] == "561"
    assert [row["coordinateTransformations"][0]["scale"][2:] for row in image["datasets"]] == [
        [2.0, 0.25, 0.5],
        [2.0, 0.5, 1.0],
        [4.0, 1.0, 4.0],
    ]
    driver = "zarr" if version == 2 else "zarr3"
    for level, factors in enumerate(LEVELS):
        expected = npy2bdv.downsample(pixels + 1, factors)
        np.testing.assert_array_equal(np.asarray(group[str(level)])[0, 0], expected)
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path / str(level))}}
        np.testing.assert_array_equal(ts.open(spec).result()[0, 0].read().result(), expected)


def test_levels_are_kept_as_they_are(tmp_path: Path, pixels: NDArray[Any]) -> None:
    """Levels of other programs have sizes and values of their own, and the first need not be the full one."""
    with npy2bdv.create(tmp_path / "scan.ome.zarr") as writer:
        writer.write(pixels, setup=writer.add_setup(shape=pixels.shape))
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        container: Any = dataset.container
        container.factors = lambda setup: ((1.0, 1.0, 1.0), (1.0, 2.0, 2.5))
        whole = container.level((0, 0), 0)

        class Smaller:
            shape, chunk, dtype = (19, 17, 18), (7, 16, 16), whole.dtype

            def read(self, region: Any) -> Any:
                return pixels[:, :17, :18][region]

        container.level = lambda view, level: Smaller() if level else whole
        path = npy2bdv.export(dataset.view(), tmp_path / "one.ome.zarr")
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(np.asarray(group["1"])[0, 0], pixels[:, :17, :18])
    attributes: Any = group.attrs.asdict()
    assert attributes["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"] == [
        1,
        1,
        1,
        2,
        2.5,
    ]


def test_a_deep_source_is_copied_in_parts(
    tmp_path: Path, scan: Path, pixels: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[export_function.__module__], "_SLAB_BYTES", 8 * 35 * 45 * 2)
    asked: list[slice] = []
    with npy2bdv.open(scan) as dataset:
        view = dataset.view(time=3, channel="561")
        full: Any = dataset.container.level(view.id, 0)
        read = full.read

        def noting(region: Any) -> Any:
            asked.append(region[0])
            return read(region)

        full.read = noting
        path = npy2bdv.export(view, tmp_path / "one.ome.zarr")
    assert asked == [slice(0, 8), slice(8, 16), slice(16, 19)]
    np.testing.assert_array_equal(np.asarray(zarr.open_group(path, mode="r")["0"])[0, 0], pixels + 1)


@both_versions
def test_an_image_is_replaced_only_when_asked(tmp_path: Path, scan: Path, version: int) -> None:
    path = export(scan, tmp_path / "one.ome.zarr", zarr_version=5 - version)
    with pytest.raises(ExistsError, match="replace the image with overwrite=True"):
        export(scan, path)
    export(scan, path, zarr_version=version, overwrite=True)
    assert (path / ".zgroup").exists() == (version == 2)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one.ome.zarr", "scan.h5", "scan.xml"]


@pytest.mark.parametrize("what", ["a dataset", "a folder", "a file", "an image with more in it"])
def test_nothing_else_is_replaced(tmp_path: Path, scan: Path, what: str) -> None:
    path = tmp_path / "one.ome.zarr"
    if what == "a dataset":
        npy2bdv.resave(scan, tmp_path / "one.xml", format="omezarr")
    elif what == "a folder":
        path.mkdir()
    elif what == "a file":
        path.write_text("")
    else:
        export(scan, path)
        (path / "notes.txt").write_text("")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExistsError, match="choose another name"):
        export(scan, path, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "how", "error", "message"),
    [
        (
            "one.h5",
            {},
            InvalidInputError,
            "'one.h5' is no name for an image: give NAME.ome.zarr, or NAME.tif",
        ),
        ("gone/one.ome.zarr", {}, NotFoundError, "does not exist; create it first"),
        ("one.ome.zarr", {"zarr_version": 1}, InvalidInputError, "zarr_version=1 is not known"),
        ("one.ome.zarr", {"compression": "lzf"}, InvalidInputError, "'lzf' is not known to omezarr"),
    ],
)
def test_arguments_that_cannot_be(
    tmp_path: Path, scan: Path, name: str, how: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        export(scan, tmp_path / name, **how)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["scan.ome.zarr", "scan.ome.zarr/one.ome.zarr"])
def test_the_dataset_that_is_read_is_safe(tmp_path: Path, pixels: NDArray[Any], name: str) -> None:
    npy2bdv.resave(pixels, tmp_path / "scan.xml", axes="zyx", format="omezarr")
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        with pytest.raises(InvalidInputError, match="lies in the dataset that is read"):
            npy2bdv.export(dataset.view(), tmp_path / name, overwrite=True)
        np.testing.assert_array_equal(dataset.view()[:], pixels)


def test_what_failed_leaves_nothing(tmp_path: Path, scan: Path) -> None:
    path = export(scan, tmp_path / "one.ome.zarr")
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    with npy2bdv.open(scan) as dataset:
        view = dataset.view(time=3, channel="561")
        full: Any = dataset.container.level(view.id, 0)

        def fails(_: Any) -> None:
            raise OSError("the disk is gone")

        full.read = fails
        with pytest.raises(OSError, match="the disk is gone"):
            npy2bdv.export(view, path, overwrite=True)
    assert {each: each.read_bytes() for each in path.rglob("*") if each.is_file()} == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one.ome.zarr", "scan.h5", "scan.xml"]
