"""Crops: the same voxels at the same places in the world, at every level, in every format."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.cli import main
from npy2bdv.downsample import downsample
from npy2bdv.errors import InvalidInputError, MissingKeyError, OutOfRangeError, ReadOnlyError, WriteError
from npy2bdv.location import read_xml
from npy2bdv.model.spimdata import Tile, ViewId
from npy2bdv.npy2bdv import BdvEditor, BdvWriter

FORMATS: dict[str, dict[str, Any]] = {
    "raw HDF5": {"format": "hdf5"},
    "gzip HDF5": {"format": "hdf5", "compression": "gzip"},
    "N5": {"format": "n5"},
    "Zarr 2": {"format": "omezarr"},
    "Zarr 3": {"format": "omezarr", "zarr_version": 3},
}
SHAPE = (11, 30, 41)
LEVELS = ((1, 1, 1), (1, 2, 2), (3, 4, 4))


def stack(view: ViewId) -> NDArray[np.uint16]:
    return np.random.default_rng(view.time * 7 + view.setup).integers(0, 65_000, SHAPE).astype("uint16")


def make(folder: Path, **options: Any) -> Path:
    path = folder / "scan.xml"
    with npy2bdv.create(path, levels=LEVELS, chunks=(4, 16, 16), **options) as writer:
        for tile in range(2):
            setup = writer.add_setup(shape=SHAPE, tile=tile, voxel_size_xyz=(0.5, 0.5, 2), unit="micrometer")
            for time in (0, 2) if tile else (0, 1, 2):  # one view is missing
                writer.write(stack(ViewId(time, setup)), setup=setup, time=time)
    return path


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(tmp_path, **FORMATS[request.param])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file() and not each.name.endswith(".lock")
    }


def test_every_level_and_place(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        before = {view.id: view.transform for view in dataset}
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=((1, -2), slice(3, None), (None, 37)), tile=1)
        assert "11 × 30 × 41 to 8 × 27 × 37" in str(editor.preview())
        assert editor.preview().pixel_nbytes > 0
    with npy2bdv.open(path) as dataset:
        assert [view.id for view in dataset] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
        for view in dataset:
            expected = stack(view.id)
            if view.id.setup == 1:
                expected = expected[1:-2, 3:, :37]
                assert [each.name for each in view.transforms][-1] == "crop"
                inner = view.transforms[-1].affine
                assert inner is not None
                assert inner.values[3::4] == (0, 3, 1)
                # pixel (0, 0, 0) now lies where (0, 3, 1) lay (x, y, z)
                np.testing.assert_allclose(view.pixel_to_world((0, 0, 0)), before[view.id].apply((0, 3, 1)))
            assert view.setup.size_xyz == expected.shape[::-1]
            for level in view.levels():
                np.testing.assert_array_equal(level[...], downsample(expected, LEVELS[level.index]))


def test_levels_of_real_data_show_the_same_at_the_same_place(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "kidney", tmp_path / "kidney")
    path = tmp_path / "kidney" / "kidney.xml"
    with npy2bdv.open(path) as dataset:
        old = {view.id: (view.transform, view[...]) for view in dataset}
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=((3, 30), (11, -9), (7, 100)))
    with npy2bdv.open(path) as dataset:
        for view in dataset:
            transform, pixels = old[view.id]
            for level in view.levels():
                factors = np.array(level.factors[::-1])
                shape = np.array(level.shape[::-1])
                inside = np.random.default_rng(0).integers(
                    0, shape - 1, (50, 3)
                )  # the last cells repeat edges
                there = transform.inverse().apply(level.pixel_to_world(inside))
                first = np.rint(there - (factors - 1) / 2).astype(int)
                np.testing.assert_allclose(there, first + (factors - 1) / 2, atol=1e-6)
                for (x, y, z), (i, j, k) in zip(inside.tolist(), first.tolist(), strict=True):
                    block = pixels[k : k + factors[2], j : j + factors[1], i : i + factors[0]]
                    assert level[z, y, x] == np.floor(block.mean() + 0.5)


JAVA = ("A_hdf5/dataset", "C_n5/bigstitcher", "D_hdf5_float32/dataset", "H_n5_types/dataset")


@pytest.mark.parametrize("name", JAVA)
def test_datasets_of_java(real_data: Path, tmp_path: Path, name: str) -> None:
    folder, _, stem = name.partition("/")
    shutil.copytree(real_data / "java" / folder, tmp_path / folder)
    path = tmp_path / folder / f"{stem}.xml"
    with npy2bdv.open(path) as dataset:
        old = {view.id: (view.transform, view[...]) for view in dataset}
        missing = dataset.missing_views
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=((1, -1), (2, None), (None, -3)))
    with npy2bdv.open(path) as dataset:
        assert dataset.missing_views == missing
        for view in dataset:
            transform, pixels = old[view.id]
            expected = pixels[1:-1, 2:, :-3]
            np.testing.assert_allclose(view.pixel_to_world((0, 0, 0)), transform.apply((0, 2, 1)))
            for level in view.levels():
                z, y, x = (int(factor) for factor in level.factors)
                np.testing.assert_array_equal(level[...], downsample(expected, (z, y, x)))


def test_plain_libraries_read_what_was_cropped(tmp_path: Path) -> None:
    path = make(tmp_path, format="hdf5", compression="gzip")
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=(None, (4, 20), None), setup=1)
    with h5py.File(path.with_suffix(".h5")) as file:
        assert sorted(file) == ["s00", "s01", "t00000", "t00001", "t00002"]
        cells = file["t00002/s01/0/cells"]
        assert cells.compression == "gzip"
        np.testing.assert_array_equal(cells[()].view("uint16"), stack(ViewId(2, 1))[:, 4:20])
    other = tmp_path / "n5"
    other.mkdir()
    path = make(other, format="n5")
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=(None, (4, 20), None), setup=1)
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{other}/scan.n5/setup1/timepoint2/s0/"}}
    pixels = tensorstore.open(spec, read=True).result().read().result()
    np.testing.assert_array_equal(pixels.T, stack(ViewId(2, 1))[:, 4:20])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (((0, 0, 0), (-1, -1, -1)), "ends before it begins along x"),
        (((0, 9, 0), (5, 8, 5)), "ends before it begins along y"),
        (((0, 0), (1, 1)), r"a box is \(\(x, y, z\), \(x, y, z\)\)"),
        (((np.nan, 0, 0), (1, 1, 1)), "in finite numbers; found"),
        (((0, 0, 0), (np.inf, 1, 1)), "in finite numbers; found"),
        (((0, 0, 0),), "the smallest and the largest coordinates"),
        (7, "found 7"),
    ],
)
def test_what_is_no_box_is_refused(tmp_path: Path, box: Any, message: str) -> None:
    path = make(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InvalidInputError, match=message), npy2bdv.edit(path) as editor:
        editor.crop(box=box)
    with npy2bdv.open(path) as dataset, pytest.raises(InvalidInputError, match=message):
        dataset.view(time=0, setup=0).region(box)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("given", [2, None])
def test_levels_and_chunks_that_are_no_rows_are_refused(tmp_path: Path, given: Any) -> None:
    path = make(tmp_path)
    before = contents(tmp_path)
    with npy2bdv.edit(path) as editor:
        with pytest.raises(InvalidInputError, match=f"three for each level.*found {given}"):
            editor.set_levels(given)
        with pytest.raises(InvalidInputError, match=f"three for each level.*found {given}"):
            editor.rechunk(given)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("box", ["30,30,4:10,10,1", "0,0,0:nan,1,1"])
def test_what_is_no_box_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], box: str
) -> None:
    path = make(tmp_path)
    before = contents(tmp_path)
    assert main(["crop", str(path), "--box", box]) == 1
    assert "box" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_box_in_the_world(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        view = dataset.view(time=0, setup=0)
        low, high = view.bounding_box((slice(2, 9), slice(5, 25), slice(1, 40)))
        wanted = view.region((low, high))
    with npy2bdv.edit(path) as editor:
        editor.crop(box=(low, high), setup=0)
        with pytest.raises(InvalidInputError, match="does not touch setup 1"):
            editor.crop(box=((1e6, 1e6, 1e6), (2e6, 2e6, 2e6)), setup=1)
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(time=0, setup=0)[...], stack(ViewId(0, 0))[wanted])


def test_locations_of_tiles_follow(tmp_path: Path) -> None:
    path = make(tmp_path, format="hdf5")
    with npy2bdv.edit(path) as editor:
        editor.set_location(1, (100.0, 50.0, 10.0))
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=((3, None), (4, None), (6, None)), tile=1)
    moved = read_xml(path).attributes["tile"].entities[1]
    assert isinstance(moved, Tile)
    assert moved.location_xyz == (100 + 6 * 0.5, 50 + 4 * 0.5, 10 + 3 * 2)


def points(folder: Path, group: str) -> tuple[NDArray[Any], NDArray[Any]]:
    found = []
    for name in ("id", "loc"):
        spec = {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": f"{folder}/{group}/interestpoints/{name}/"},
        }
        array = tensorstore.open(spec, read=True).result()
        found.append(array.read().result().T if array.size else np.empty((0, 3)))
    return found[0].reshape(-1), found[1]


def pairs(folder: Path, group: str) -> set[tuple[int, int, int]]:
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/{group}/correspondences/data/"}}
    array = tensorstore.open(spec, read=True).result()
    return set(map(tuple, array.read().result().T.tolist())) if array.size else set()


def test_interest_points_follow(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "java" / "C_n5", tmp_path / "C_n5")
    path, folder = tmp_path / "C_n5" / "bigstitcher.xml", tmp_path / "C_n5" / "interestpoints.n5"
    mine, other = "tpId_0_viewSetupId_0/beads", "tpId_0_viewSetupId_1/beads"
    ids, places = points(folder, mine)
    mine_before, other_before = pairs(folder, mine), pairs(folder, other)
    with npy2bdv.open(path) as dataset:
        shape = np.array(dataset.view(time=0, setup=0).shape[::-1])
    start = np.floor(np.sort(places, axis=0)[1] + 0.5).astype(int).clip(0, shape - 2)
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=[(int(first), None) for first in start[::-1]], setup=0)
    stays = ((places >= start - 0.5) & (places <= shape - 0.5)).all(1)
    assert 0 < stays.sum() < len(ids)
    new_ids, new_places = points(folder, mine)
    np.testing.assert_array_equal(new_ids, ids[stays])
    np.testing.assert_array_equal(new_places, places[stays] - start)
    left = set(ids[stays].tolist())
    maps = json.loads((folder / mine / "correspondences" / "attributes.json").read_bytes())["idMap"]
    there = {
        view: set(points(folder, f"tpId_{view[0]}_viewSetupId_{view[2]}/beads")[0].tolist()) for view in maps
    }
    by_number = {number: view for view, number in maps.items()}
    assert pairs(folder, mine) == {
        (a, b, k) for a, b, k in mine_before if a in left and b in there[by_number[k]]
    }
    assert pairs(folder, other) == {(a, b, k) for a, b, k in other_before if b in left}
    assert not (folder / "npy2bdv-edit").exists()
    assert [each for each in folder.rglob("*") if "npy2bdv-part" in each.name] == []


def test_interest_points_go_with_their_view(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "java" / "C_n5", tmp_path / "C_n5")
    path, folder = tmp_path / "C_n5" / "bigstitcher.xml", tmp_path / "C_n5" / "interestpoints.n5"
    other = "tpId_0_viewSetupId_1/beads"
    ids, before = set(points(folder, "tpId_0_viewSetupId_0/beads")[0].tolist()), pairs(folder, other)
    maps = json.loads((folder / other / "correspondences" / "attributes.json").read_bytes())["idMap"]
    number = maps["0,0,beads"]
    gone = {(a, b, k) for a, b, k in before if k == number and b in ids}
    assert gone
    lists = points(folder, other)
    with npy2bdv.edit(path) as editor:
        editor.remove_views(view=(0, 0))
        assert (folder / "tpId_0_viewSetupId_0").is_dir()
    assert not (folder / "tpId_0_viewSetupId_0").exists()
    assert pairs(folder, other) == before - gone
    for mine, theirs in zip(points(folder, other), lists, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not (folder / "npy2bdv-edit").exists()


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"zyx": ((0, 0), None, None)}, InvalidInputError, "keeps no pixels"),
    ({"zyx": ((0, 99), None, None)}, InvalidInputError, "the image has 11 along z"),
    ({"zyx": (None, None)}, InvalidInputError, "three ranges"),
    ({"zyx": (slice(0, 5, 2), None, None)}, InvalidInputError, "no steps"),
    ({"zyx": ((0.5, 3), None, None)}, InvalidInputError, "pair .start, stop. of integers"),
    ({}, InvalidInputError, "either ranges of pixels"),
    ({"zyx": (None, None, None), "time": 0}, InvalidInputError, "all time points of a setup"),
    ({"zyx": (None, None, None), "setup": 9}, MissingKeyError, "setup=9"),
]


@pytest.mark.parametrize(("asked", "error", "message"), BAD)
def test_what_cannot_be_is_refused(
    tmp_path: Path, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = make(tmp_path, format="hdf5")
    before = contents(tmp_path)
    with npy2bdv.edit(path) as editor, pytest.raises(error, match=message):
        editor.crop(**asked)
    assert contents(tmp_path) == before


def test_no_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(path.parent)
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=(None, (1, None), None))
        with pytest.raises(WriteError, match="make room"):
            editor.commit()
        editor.discard()
    assert contents(path.parent) == before


# ------------------------------------------------------------------------------- the established interface


def classic(folder: Path) -> Path:
    path = folder / "classic.h5"
    writer = BdvWriter(str(path), nchannels=2, subsamp=((1, 1, 1), (1, 2, 2)), blockdim=((4, 16, 16),))
    for time in range(2):
        for channel in range(2):
            if (time, channel) != (1, 1):
                writer.append_view(stack(ViewId(time, channel)), time=time, channel=channel)
    writer.write_xml()
    writer.close()
    return path


def test_crop_view(tmp_path: Path) -> None:
    path = classic(tmp_path)
    editor = BdvEditor(str(path))
    editor.crop_view(channel=1)
    expected = stack(ViewId(0, 1))[:, 1:-1, 1:-1]
    np.testing.assert_array_equal(editor.read_view(channel=1), expected)
    np.testing.assert_array_equal(editor.read_view(channel=1, ilevel=1), downsample(expected, (1, 2, 2)))
    np.testing.assert_array_equal(editor.read_view(time=1, channel=0), stack(ViewId(1, 0)))
    assert editor.get_view_property("view_shape", channel=1) == expected.shape[::-1]
    assert editor.read_affine(channel=1, index=1)[:, 3].tolist() == [1, 1, 0]
    editor.crop_view(((None, -5), None, (2, None)), channel=0, ilevel=0, keep_position=False)
    np.testing.assert_array_equal(editor.read_view(time=1, channel=0), stack(ViewId(1, 0))[2:, :, :-5])
    with pytest.raises(OutOfRangeError):
        editor.read_affine(time=1, channel=0, index=1)
    editor.finalize()


def test_crop_view_refuses(tmp_path: Path) -> None:
    path = classic(tmp_path)
    before = contents(tmp_path)
    with BdvEditor(str(path)) as editor:
        with pytest.raises(InvalidInputError, match="one level alone is not cropped"):
            editor.crop_view(ilevel=1)
        with pytest.raises(InvalidInputError, match="three ranges"):
            editor.crop_view(bbox_xyz=((1, 2),))
        with pytest.raises(InvalidInputError, match="keeps no pixels"):
            editor.crop_view(bbox_xyz=((5, 2), None, None))
        with pytest.raises(OutOfRangeError):
            editor.crop_view(channel=7)
        np.testing.assert_array_equal(editor.read_view(), stack(ViewId(0, 0)))
    with BdvEditor(str(path), mode="r") as editor, pytest.raises(ReadOnlyError, match="read only"):
        editor.crop_view()
    assert contents(tmp_path) == before


# --------------------------------------------------------------------------------------------- the command


def test_the_command(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(path.parent)
    assert main(["crop", str(path), "--x", "5:-3", "--setup", "0", "--dry-run"]) == 0
    assert "11 × 30 × 41 to 11 × 30 × 33" in capsys.readouterr().out
    assert contents(path.parent) == before
    assert main(["crop", str(path), "--x", "5:-3", "--setup", "0"]) == 0
    assert "changed" in capsys.readouterr().out
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(time=1, setup=0)[...], stack(ViewId(1, 0))[:, :, 5:-3])
    assert main(["crop", str(path)]) == 1
    assert "--box" in capsys.readouterr().err


def linked(path: Path, hash_: float) -> None:
    """Add a link between both tiles, as BigStitcher writes it."""
    link = (
        '<StitchingResults><PairwiseResult view_setup_a="0" view_setup_b="1" tp_a="0" tp_b="0">'
        "<shift>1.0 0.0 0.0 5.0 0.0 1.0 0.0 0.0 0.0 0.0 1.0 0.0</shift><correlation>0.9</correlation>"
        f"<hash>{hash_!r}</hash><overlap_boundingbox>0 0 0 1 1 1</overlap_boundingbox>"
        "</PairwiseResult></StitchingResults>"
    )
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("</SpimData>", f"{link}</SpimData>"), encoding="utf-8")


def hashes(path: Path) -> list[float]:
    (section,) = (each for each in read_xml(path).sections if each.tag == "StitchingResults")
    return [float(child.text) for link in section.children for child in link.children if child.tag == "hash"]


def current_hash(path: Path) -> float:
    with npy2bdv.open(path) as dataset:
        a, b = (np.asarray(dataset.view(time=0, setup=setup).transform).ravel() for setup in range(2))
    total = 0.0
    for first, second in zip(a.tolist(), b.tolist(), strict=True):
        total += first + 13 * second
    return total


def test_links_stay_as_true_as_they_were(tmp_path: Path) -> None:
    path = make(tmp_path, format="hdf5")
    linked(path, current_hash(path))
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=((1, None), (2, None), (3, None)), setup=1)
    assert hashes(path) == [current_hash(path)]
    with npy2bdv.edit(path) as editor:  # now it is outdated, and stays so
        editor.insert_transform(npy2bdv.Affine.translation((1, 2, 3)), setup=0)
    outdated = hashes(path)
    assert outdated != [current_hash(path)]
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=((1, None), None, None), setup=0)
    assert hashes(path) == outdated
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=((1, None), None, None), setup=0, keep_position=False)
    assert hashes(path) == []
