"""Several recordings become one dataset; pixels are neither copied nor changed."""

import hashlib
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
from npy2bdv import xml
from npy2bdv.cli import main
from npy2bdv.errors import BdvError, ExistsError, FormatError, InUseError, InvalidInputError, NotFoundError
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import Element, Hdf5Loader, Partition, PathRef, SpimData, ViewId

SHAPE = (4, 12, 15)
LEVELS = ((1, 1, 1), (1, 2, 2))
ZARR: dict[str, dict[str, Any]] = {
    "zarr 2": {"format": "omezarr"},
    "zarr 3": {"format": "omezarr", "zarr_version": 3},
}
BY_REFERENCE: dict[str, dict[str, Any]] = {"hdf5": {}, "hdf5 gzip": {"compression": "gzip"}, **ZARR}


def pixels_of(seed: int, dtype: str = "uint16", shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def described(path: Path) -> SpimData:
    return xml.parse(path.read_bytes())


def contents(folder: Path) -> dict[str, str]:
    return {
        each.relative_to(folder).as_posix(): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


def record(
    path: Path,
    seed: int,
    channels: tuple[str, ...] = ("488", "561"),
    times: tuple[int, ...] = (0, 1),
    setup: dict[str, Any] | None = None,
    dtype: str = "uint16",
    **options: Any,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {"shape": SHAPE, "voxel_size_xyz": (0.5, 0.5, 2.0), **(setup or {})}
    with npy2bdv.create(path, levels=options.pop("levels", LEVELS), chunks=(2, 8, 8), **options) as writer:
        for number, channel in enumerate(channels):
            id_ = writer.add_setup(channel=channel, dtype=dtype, camera=f"camera {seed}", **given)
            for time in times:
                stack = pixels_of(100 * seed + 10 * number + time, dtype, given["shape"])
                shift = Affine.translation((seed, number, time))
                writer.write(stack, setup=id_, time=time, transform=shift)
    return path


def check_pixels(path: Path, merged: npy2bdv.Merged, *, cameras: bool = True) -> None:
    """Every view is that of the recording that it is said to come from: pixels, levels, transforms, camera."""
    with npy2bdv.open(path) as dataset:
        assert {view.id for view in dataset} == {*merged.sources}
        for view in dataset:
            source, old = merged.sources[view.id]
            with npy2bdv.open(source) as recording:
                other = recording.view(time=old.time, setup=old.setup)
                for one, two in zip(view.levels(), other.levels(), strict=True):
                    np.testing.assert_array_equal(one[...], two[...], strict=True)
                assert view.transform == other.transform
                assert view.voxel_size_xyz == other.voxel_size_xyz
                setup, before = dataset.spimdata.setup(view.id.setup), recording.spimdata.setup(old.setup)
                if cameras:
                    assert setup.camera == before.camera


# --------------------------------------------------------------------------------------------- together


@pytest.mark.parametrize("how", BY_REFERENCE)
def test_a_recording_per_tile(how: str, tmp_path: Path) -> None:
    """All say tile 0 of themselves; names of files tell them apart."""
    paths = [record(tmp_path / f"tile {n}" / f"run {n}.xml", n, **BY_REFERENCE[how]) for n in range(3)]
    before = {path: contents(path.parent) for path in paths}
    merged = npy2bdv.merge(paths, tmp_path / "all.xml", along="tile")
    assert {path: contents(path.parent) for path in paths} == before, "the recordings stay as they are"
    check_pixels(tmp_path / "all.xml", merged)
    data = described(tmp_path / "all.xml")
    assert data == merged.data
    labels = [data.labels_of(setup) for _, setup in sorted(data.setups.items())]
    assert [(each["tile"], each["channel"]) for each in labels] == [
        (f"run {n}", channel) for n in range(3) for channel in ("488", "561")
    ]
    assert list(data.setups) == [*range(6)]
    assert [setup.camera.name for setup in data.setups.values() if setup.camera] == [
        f"camera {n}" for n in range(3) for _ in range(2)
    ]
    assert [setup.name for setup in data.setups.values()] == [f"setup {n}" for n in range(6)]
    assert data.timepoints.ids == (0, 1)
    assert data.missing == frozenset()
    size = sum(each.stat().st_size for each in tmp_path.iterdir() if each.is_file())
    assert size < 100_000


@pytest.mark.parametrize("how", BY_REFERENCE)
def test_a_recording_per_time_point(how: str, tmp_path: Path) -> None:
    paths = [record(tmp_path / f"t{n}.xml", n, times=(0,), **BY_REFERENCE[how]) for n in range(4)]
    merged = npy2bdv.merge(paths, tmp_path / "all.xml", along="time")
    check_pixels(tmp_path / "all.xml", merged, cameras=False)
    data = described(tmp_path / "all.xml")
    assert (data.timepoints.type, data.timepoints.ids) == ("range", (0, 1, 2, 3))
    assert list(data.setups) == [0, 1]
    assert merged.sources[ViewId(2, 1)] == (paths[2], ViewId(0, 1))


def test_labels_and_time_points_say_what_belongs_together(tmp_path: Path) -> None:
    """One process wrote a channel, another one the other, and a third further time points of one."""
    a = record(tmp_path / "a.xml", 1, channels=("488",), times=(0, 1))
    b = record(tmp_path / "b.xml", 2, channels=("561",), times=(0, 1, 2))
    c = record(tmp_path / "c.xml", 3, channels=("561", "488"), times=(4,))
    merged = npy2bdv.merge([a, b, c], tmp_path / "all.xml")
    check_pixels(tmp_path / "all.xml", merged, cameras=False)
    data = described(tmp_path / "all.xml")
    assert [data.labels_of(setup)["channel"] for setup in data.setups.values()] == ["488", "561"]
    assert data.timepoints.ids == (0, 1, 2, 3, 4)
    assert data.missing == frozenset({ViewId(2, 0), ViewId(3, 0), ViewId(3, 1)})
    assert merged.sources[ViewId(4, 0)] == (c, ViewId(4, 1))


def test_labels_of_recordings_with_tiles_of_their_own(tmp_path: Path) -> None:
    paths = []
    for n in range(2):
        path = tmp_path / f"{n}.xml"
        with npy2bdv.create(path) as writer:
            for tile in ("left", "right"):
                setup = writer.add_setup(shape=SHAPE, tile=tile, attributes={"objective": "20x"})
                writer.write(pixels_of(n), setup=setup)
        paths.append(path)
    npy2bdv.merge(paths, tmp_path / "all.xml", along="tile", labels=["day 1", "day 2"])
    data = described(tmp_path / "all.xml")
    assert [data.labels_of(setup)["tile"] for setup in data.setups.values()] == [
        "day 1 left", "day 1 right", "day 2 left", "day 2 right",
    ]  # fmt: skip
    assert {data.labels_of(setup)["objective"] for setup in data.setups.values()} == {"20x"}


def test_dry_run_changes_nothing(tmp_path: Path) -> None:
    paths = [record(tmp_path / f"{n}.xml", n) for n in range(2)]
    before = contents(tmp_path)
    merged = npy2bdv.merge(paths, tmp_path / "all.xml", along="channel", dry_run=True)
    assert len(merged.sources) == 8
    assert contents(tmp_path) == before


def test_one_may_be_replaced(tmp_path: Path) -> None:
    paths = [record(tmp_path / f"{n}.xml", n) for n in range(2)]
    npy2bdv.merge(paths[:1], tmp_path / "all.xml")
    before = contents(tmp_path)
    with pytest.raises(ExistsError, match="already exists"):
        npy2bdv.merge(paths, tmp_path / "all.xml", along="tile")
    assert contents(tmp_path) == before
    merged = npy2bdv.merge(paths, tmp_path / "all.xml", along="tile", overwrite=True)
    check_pixels(tmp_path / "all.xml", merged)
    assert len(described(tmp_path / "all.xml~1").setups) == 2
    refused([tmp_path / "all.xml"], "holds images of", out="1.xml", overwrite=True)
    again = npy2bdv.merge(
        [tmp_path / "all.xml", record(tmp_path / "9.xml", 9)], tmp_path / "more.xml", along="tile"
    )
    check_pixels(tmp_path / "more.xml", again)
    with h5py.File(tmp_path / "more.h5") as file:
        assert file.get("t00000/s00/0/cells", getlink=True).filename == "0.h5", "not to the file of links"


# -------------------------------------------------------------------------------------- outside judges


def test_plain_h5py_follows_the_links(tmp_path: Path) -> None:
    """The master is as BigDataViewer writes it: links, tables of setups, partitions in the XML."""
    paths = [record(tmp_path / "raw" / f"{n}.xml", n) for n in range(2)]
    npy2bdv.merge(paths, tmp_path / "all.xml", along="tile")
    with h5py.File(tmp_path / "all.h5") as file:
        assert sorted(file) == ["s00", "s01", "s02", "s03", "t00000", "t00001"]
        link = file.get("t00001/s03/1/cells", getlink=True)
        assert (link.filename, link.path.lstrip("/")) == ("raw/1.h5", "t00001/s01/1/cells")
        np.testing.assert_array_equal(file["t00001/s03/0/cells"][()].view("uint16"), pixels_of(111))
        np.testing.assert_array_equal(file["s03/resolutions"], [[1, 1, 1], [2, 2, 1]])
        assert file["s03/subdivisions"].dtype == "i4"
    assert described(tmp_path / "all.xml").loader == Hdf5Loader(
        path=PathRef(text="all.h5"),
        partitions=(
            Partition(path=PathRef(text="raw/0.h5"), timepoints=(0, 1), setups=(0, 1)),
            Partition(path=PathRef(text="raw/1.h5"), timepoints=(0, 1), setups=(2, 3), setups_mapped=(0, 1)),
        ),
    )


def test_a_folder_of_recordings_can_be_moved(tmp_path: Path) -> None:
    paths = [record(tmp_path / "here" / f"{n}.xml", n) for n in range(2)]
    npy2bdv.merge(paths, tmp_path / "here" / "all.xml", along="tile")
    shutil.move(tmp_path / "here", tmp_path / "there")
    with npy2bdv.open(tmp_path / "there" / "all.xml") as dataset:
        np.testing.assert_array_equal(dataset.view(setup=2, time=1)[...], pixels_of(101))


@pytest.mark.parametrize("how", ZARR)
def test_tensorstore_finds_the_images_that_the_xml_names(how: str, tmp_path: Path) -> None:
    paths = [record(tmp_path / "raw data" / f"{n}.xml", n, **ZARR[how]) for n in range(2)]
    merged = npy2bdv.merge(paths, tmp_path / "all.xml", along="tile")
    data = described(tmp_path / "all.xml")
    loader: Any = data.loader
    assert loader.path.text == "raw%20data"
    assert loader.groups[ViewId(1, 3)].path == "1.ome.zarr/s1-t1.zarr"
    root = tmp_path / "raw data"
    assert merged.path_pixels == root
    assert (root / (".zgroup" if how == "zarr 2" else "zarr.json")).is_file()
    array = root / loader.groups[ViewId(1, 3)].path / "0"
    spec = {
        "driver": "zarr" if how == "zarr 2" else "zarr3",
        "kvstore": {"driver": "file", "path": str(array)},
    }
    found = tensorstore.open(spec, open=True, read=True).result().read().result()
    np.testing.assert_array_equal(found[0, 0], pixels_of(111))


def test_datasets_written_by_java(real_data: Path, tmp_path: Path) -> None:
    """A dataset of BigDataViewer and the same once more, as another angle."""
    for n in range(2):
        shutil.copytree(real_data / "java" / "A_hdf5", tmp_path / f"{n}")
    paths = [tmp_path / f"{n}" / "dataset.xml" for n in range(2)]
    merged = npy2bdv.merge(paths, tmp_path / "all.xml", along="angle", labels=["0", "90"])
    check_pixels(tmp_path / "all.xml", merged)
    with pytest.raises(InvalidInputError, match=r"time point 0 of .* is in dataset.xml and in dataset.xml"):
        npy2bdv.merge(paths, tmp_path / "other.xml")


# ---------------------------------------------------------------------------------- sections of BigStitcher


def test_sections_of_bigstitcher_follow(real_data: Path, tmp_path: Path) -> None:
    """Ids in all five sections, names of groups of interest points and point spread functions, correspondences."""
    for n in range(2):
        shutil.copytree(real_data / "java" / "C_n5", tmp_path / f"{n}")
        path = tmp_path / f"{n}" / "bigstitcher.xml"
        npy2bdv.resave(path, tmp_path / f"{n}" / "as hdf5.xml")
    paths = [tmp_path / f"{n}" / "as hdf5.xml" for n in range(2)]
    old = described(paths[0])
    assert len(old.sections) == 5
    before = contents(tmp_path / "1")
    merged = npy2bdv.merge(paths, tmp_path / "all.xml", along="tile", labels=["a", "b"])
    assert contents(tmp_path / "1") == before
    check_pixels(tmp_path / "all.xml", merged)
    new = {section.tag: section for section in described(tmp_path / "all.xml").sections}
    shift = len(old.setups)
    for section in old.sections:
        n_old, n_new = len(section.children), len(new[section.tag].children)
        assert n_new == n_old * (1 if section.tag == "BoundingBoxes" else 2), (
            "boxes of the world are the same"
        )
        assert new[section.tag].children[:n_old] == section.children
    points = [dict(each.attributes) | {"text": each.text} for each in new["ViewInterestPoints"].children]
    first, second = points[: len(points) // 2], points[len(points) // 2 :]
    for a, b in zip(first, second, strict=True):
        setup = int(a["setup"]) + shift
        assert (b["timepoint"], b["setup"], b["label"]) == (a["timepoint"], str(setup), a["label"])
        assert b["text"] == a["text"].replace(f"viewSetupId_{a['setup']}", f"viewSetupId_{setup}")
        assert (tmp_path / "interestpoints.n5" / b["text"]).is_dir()
        assert (tmp_path / "interestpoints.n5" / a["text"]).is_dir()
    key = json.loads(
        (
            tmp_path / f"interestpoints.n5/tpId_0_viewSetupId_{shift}/beads/correspondences/attributes.json"
        ).read_text()
    )["idMap"]
    was = json.loads(
        (
            tmp_path / "0/interestpoints.n5/tpId_0_viewSetupId_0/beads/correspondences/attributes.json"
        ).read_text()
    )["idMap"]
    assert key == {
        f"{k.split(',')[0]},{int(k.split(',')[1]) + shift},{k.split(',')[2]}": value
        for k, value in was.items()
    }
    pairs = [dict(each.attributes) for each in new["StitchingResults"].children]
    assert pairs[len(pairs) // 2]["view_setup_b"] == str(int(pairs[0]["view_setup_b"]) + shift)
    assert pairs[-1]["view_setup_b"] == ",".join(
        str(int(id_) + shift) for id_ in pairs[len(pairs) // 2 - 1]["view_setup_b"].split(",")
    )
    files = [child.text for each in new["PointSpreadFunctions"].children for child in each.children]
    assert len(set(files)) == len(files)
    assert all((tmp_path / "psf.n5" / file).is_dir() for file in files)
    boxes = [dict(each.attributes)["name"] for each in new["BoundingBoxes"].children]
    assert len(set(boxes)) == len(boxes)


def test_unknown_elements_follow(tmp_path: Path) -> None:
    paths = [record(tmp_path / f"{n}.xml", n) for n in range(2)]
    for n, path in enumerate(paths):
        text = path.read_text().replace(
            "<ViewSetups>", f"<ViewSetups><lab>room {n}</lab><site>here</site>", 1
        )
        path.write_text(text.replace("<attributes>", f"<laser>{n}</laser><attributes>"))
    npy2bdv.merge(paths, tmp_path / "all.xml", along="tile")
    data = described(tmp_path / "all.xml")
    assert [each.element for each in data.kept["ViewSetups"]] == [
        Element(tag="lab", text="room 0"), Element(tag="site", text="here"), Element(tag="lab", text="room 1"),
    ]  # fmt: skip
    assert [setup.kept[0].element.text for setup in data.setups.values()] == ["0", "0", "1", "1"]


# ------------------------------------------------------------------------------------------- refusals


def refused(
    paths: list[Path],
    match: str,
    kind: type[BdvError] = InvalidInputError,
    out: str = "all.xml",
    **options: Any,
) -> None:
    folder = paths[0].parent if paths else Path()
    before = contents(folder) if paths else {}
    with pytest.raises(kind, match=match):
        npy2bdv.merge(paths, folder / out, **options)
    if paths:
        assert contents(folder) == before


def test_arguments_that_cannot_be(tmp_path: Path) -> None:
    paths = [record(tmp_path / f"{n}.xml", n) for n in range(2)]
    refused([], "no recording is given")
    refused([paths[0], paths[0]], "given twice")
    refused(paths, "along='z' is not known", along="z")
    refused(paths, "give along=, too", labels=["a", "b"])
    refused(paths, "2 recordings need as many labels", labels=["a"], along="tile")
    refused(paths, "the same label", labels=["a", "a"], along="tile")
    refused(paths, "is one of the recordings", out="0.xml", along="tile")
    refused(paths, "does not exist", NotFoundError, out="gone/all.xml", along="tile")
    refused([paths[0], tmp_path / "gone.xml"], "there is no XML", NotFoundError)
    shutil.copy(paths[0], tmp_path / "other.xml")
    paths[0].unlink()
    refused([tmp_path / "other.xml", paths[1]], "holds images of", out="0.xml", along="tile")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"setup": {"shape": (4, 12, 14)}}, r"sizes \(x, y, z\) \(15, 12, 4\) and \(14, 12, 4\)"),
        ({"dtype": "float32"}, "pixels of uint16 and float32"),
        ({"levels": ((1, 1, 1),)}, "the levels"),
        ({"setup": {"voxel_size_xyz": (0.5, 0.5, 3.0)}}, "voxels"),
        ({"times": (1, 2)}, r"time point 1 of 'setup 0' is in a.xml and in b.xml. .*along=\"time\""),
        ({"setup": {"voxel_size_xyz": (0.4, 0.4, 2.0)}}, "a unit of the world is not the same"),
    ],
)
def test_what_does_not_fit_together(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    a = record(tmp_path / "a.xml", 1, times=(0, 1))
    b = record(tmp_path / "b.xml", 2, **{"times": (5,), **other})
    refused([a, b], message)


def test_pixels_stored_in_two_ways_are_not_one_setup(tmp_path: Path) -> None:
    a = record(tmp_path / "a.xml", 1, times=(0,))
    b = record(tmp_path / "b.xml", 2, times=(1,))
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        for setup in ("s00", "s01"):
            file[setup].attrs["dataType"] = np.bytes_("uint16")
            for k in range(2):
                pixels = file[f"t00001/{setup}/{k}/cells"][()].view("uint16")
                del file[f"t00001/{setup}/{k}/cells"]
                file.create_dataset(f"t00001/{setup}/{k}/cells", data=pixels)
    refused([a, b], "pixels stored as int16 without a name and as uint16 with the name 'uint16'")
    merged = npy2bdv.merge([a, b], tmp_path / "all.xml", along="tile")
    check_pixels(tmp_path / "all.xml", merged)


def test_tiles_at_other_places_are_other_tiles(tmp_path: Path) -> None:
    paths = [record(tmp_path / f"{n}.xml", n, times=(n,)) for n in range(2)]
    for n, path in enumerate(paths):
        text = path.read_text()
        start = text.index("<Tile>")
        end = text.index("</Tile>")
        path.write_text(text[:end] + f"<location>{n}.0 0.0 0.0</location>" + text[end:])
        assert start < end
    refused(paths, "tile '0' is not the same in all recordings .* along='tile'")
    npy2bdv.merge(paths, tmp_path / "all.xml", along="tile")
    tiles: Any = [*described(tmp_path / "all.xml").attributes["tile"].entities.values()]
    assert [tile.location_xyz for tile in tiles] == [(0, 0, 0), (1, 0, 0)]


def test_formats_and_folders_that_cannot_be_referred_to(tmp_path: Path) -> None:
    a = record(tmp_path / "a.xml", 1)
    b = record(tmp_path / "b.xml", 2, **ZARR["zarr 2"])
    c = record(tmp_path / "c.xml", 3, **ZARR["zarr 3"])
    refused([a, b], "different formats", along="tile")
    refused([b, c], "different versions of Zarr", along="tile")
    (tmp_path / "deeper").mkdir()
    d = record(tmp_path / "d.xml", 4, **ZARR["zarr 2"])
    refused([b, d], "referred to from a folder above", along="tile", out="deeper/all.xml")
    e = record(tmp_path / "100%" / "e.xml", 4, **ZARR["zarr 2"])
    refused([b, e], "whose path holds a %", along="tile")


def test_recordings_that_run_or_were_interrupted(tmp_path: Path) -> None:
    a, b = (record(tmp_path / f"{n}.xml", n) for n in range(2))
    with npy2bdv.create(tmp_path / "c.xml") as writer:
        writer.write(pixels_of(0), setup=writer.add_setup(shape=SHAPE))
        writer.checkpoint()  # nothing more comes
        refused([a, tmp_path / "c.xml"], "is being written", InUseError, along="tile")
    (tmp_path / "1.h5.journal").touch()
    refused([a, b], "was interrupted", FormatError, along="tile")


# --------------------------------------------------------------------------------------------- moving

MOVED: dict[str, dict[str, Any]] = {"n5": {"format": "n5"}, **ZARR}
SUFFIXES = {how: ".n5" if how == "n5" else ".ome.zarr" for how in MOVED}


def check_moved(folder: Path) -> None:
    """All images are in the new dataset, and nowhere else."""
    with npy2bdv.open(folder / "all.xml") as dataset:
        assert len(dataset) == 8
        for view in dataset:
            pixels = pixels_of(100 * (view.id.setup // 2) + 10 * (view.id.setup % 2) + view.id.time)
            for level, factors in zip(view.levels(), LEVELS, strict=True):
                np.testing.assert_array_equal(level[...], npy2bdv.downsample(pixels, factors))
            assert (
                dataset.view(
                    time=view.id.time, tile=str(view.id.setup // 2), channel=("488", "561")[view.id.setup % 2]
                ).id
                == view.id
            )
    assert sorted(each.name for each in folder.iterdir() if each.name[0] != "a") == [
        "0.xml.merged",
        "1.xml.merged",
    ]
    assert not (folder / "all.xml.moving").exists()


@pytest.mark.parametrize("how", MOVED)
def test_images_are_moved_into_one_container(how: str, tmp_path: Path) -> None:
    paths = [record(tmp_path / f"{n}.xml", n, **MOVED[how]) for n in range(2)]
    before = contents(tmp_path)
    assert len(npy2bdv.merge(paths, tmp_path / "all.xml", along="tile", move=True, dry_run=True).sources) == 8
    assert contents(tmp_path) == before
    merged = npy2bdv.merge(paths, tmp_path / "all.xml", along="tile", move=True)
    assert described(tmp_path / "all.xml") == merged.data
    check_moved(tmp_path)
    with npy2bdv.create(tmp_path / "all.xml", mode="a") as writer:
        writer.write(pixels_of(1), setup=3, time=2)


@pytest.mark.parametrize("how", MOVED)
def test_a_move_that_stops_anywhere_is_finished(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rename and each file may be the last one before the process ends; merging again goes on."""
    from npy2bdv import moving

    steps = 0
    for stop in range(1, 40):
        folder = tmp_path / str(stop)
        paths = [record(folder / f"{n}.xml", n, **MOVED[how]) for n in range(2)]
        before = contents(folder)
        count = 0

        def counted(call: Any, stop: int = stop) -> Any:
            def step(*given: Any) -> Any:
                nonlocal count
                count += 1
                if count == stop:
                    raise KeyboardInterrupt
                return call(*given)

            return step

        with monkeypatch.context() as patch:
            for name in ("move", "replace_file", "remove_folder"):
                patch.setattr(moving, name, counted(getattr(moving, name)))
            try:
                npy2bdv.merge(paths, folder / "all.xml", along="tile", move=True)
            except KeyboardInterrupt:
                pass
            else:
                break
        steps += 1
        if not (folder / "all.xml.moving").exists():
            assert contents(folder) == before
        else:
            with pytest.raises(InvalidInputError, match="was interrupted"):
                npy2bdv.merge(paths, folder / "all.xml", dry_run=True)
        if (
            stop % 2 and (folder / "all.xml.moving").exists()
        ):  # by `recover`, then there is nothing to merge again
            assert (
                npy2bdv.recover(folder / ("all.xml" if stop % 4 == 1 else f"all{SUFFIXES[how]}")).edit
                == "finished"
            )
            check_moved(folder)
            continue
        again = npy2bdv.merge(paths, folder / "all.xml", along="tile", move=True)
        assert again.sources[ViewId(1, 3)] == (paths[1], ViewId(1, 1))
        check_moved(folder)
    assert steps >= 14


def test_the_command_finishes_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from npy2bdv import moving
    from npy2bdv.cli import main

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    paths = [record(tmp_path / f"{n}.xml", n, format="n5") for n in range(2)]
    for name in ("move", "sync_folder"):  # before the XML is there; after
        with monkeypatch.context() as patch:
            patch.setattr(moving, name, stop)
            with pytest.raises(KeyboardInterrupt):
                moving.finish(tmp_path / "all.xml") if (
                    tmp_path / "all.xml.moving"
                ).exists() else npy2bdv.merge(paths, tmp_path / "all.xml", along="tile", move=True)
    assert main(["recover", str(tmp_path / "all.xml")]) == 0
    assert "has been finished" in capsys.readouterr().out
    check_moved(tmp_path)
    (tmp_path / "all.xml.moving").touch()
    assert "F04" in {each.code for each in npy2bdv.check(tmp_path / "all.xml").findings}


def test_what_cannot_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hdf5 = [record(tmp_path / "h" / f"{n}.xml", n) for n in range(2)]
    refused(hdf5, "need not be moved", along="tile", move=True)
    paths = [record(tmp_path / "n" / f"{n}.xml", n, format="n5") for n in range(2)]
    refused(paths, r"N5 names its images by fixed paths.* \(move=True\)", along="tile")
    with npy2bdv.create(paths[0], mode="a") as writer:
        writer.add_setup(shape=SHAPE, channel="new")
        refused(paths, "is being written", InUseError, along="tile", move=True)
    (tmp_path / "n" / "0.xml.merged").touch()
    refused(
        paths,
        "already exists, where the XML of a recording is to be kept",
        ExistsError,
        along="tile",
        move=True,
    )
    (tmp_path / "n" / "0.xml.merged").unlink()
    (tmp_path / "n" / "all.n5").mkdir()
    refused(paths, "images are moved into a new dataset", ExistsError, along="tile", move=True)
    (tmp_path / "n" / "all.n5").rmdir()
    whole = record(tmp_path / "z" / "a.xml", 1, channels=("488",), times=(0,), format="omezarr")
    other = record(tmp_path / "z" / "b.xml", 2, channels=("488",), times=(0,), format="omezarr")
    text = (
        whole.read_text()
        .replace('path="s0-t0.zarr"', 'path=""')
        .replace(">a.ome.zarr<", ">a.ome.zarr/s0-t0.zarr<")
    )
    whole.write_text(text)
    refused([whole, other], "is a part of another one", along="tile", move=True)


# ------------------------------------------------------------------------------------------ the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [record(tmp_path / f"{n}.xml", n) for n in range(2)]
    call = ["merge", *map(str, paths), "-o", str(tmp_path / "all.xml")]
    before = contents(tmp_path)
    assert main(call) == 1
    assert "along" in capsys.readouterr().err
    assert main([*call, "--along", "tile", "--labels", "left,right", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "2 recordings: 8 views, 4 setups, 2 time points" in said
    assert "It would be" in said
    assert contents(tmp_path) == before
    assert main([*call, "--along", "tile", "--labels", "left,right"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["3", "561", "right", "0", "to", "1", "1.xml", "1"] in rows
    with npy2bdv.open(tmp_path / "all.xml") as dataset:
        np.testing.assert_array_equal(dataset.view(tile="right", channel="561", time=1)[...], pixels_of(111))
