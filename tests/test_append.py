"""Appending to datasets that are there: further views, and nothing of what was there lost."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore
from numpy.typing import NDArray

import npy2bdv
from npy2bdv import BdvWriter, xml
from npy2bdv.errors import ExistsError, FormatError, InUseError, InvalidInputError, NotFoundError
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import Element, SpimData, ViewId, ViewTransform

SHAPE = (6, 22, 31)
LEVELS = ((1, 1, 1), (1, 2, 2), (2, 4, 4))
CHUNK = (2, 16, 16)
VOXEL = (0.4, 0.4, 1.0)
SHIFT = Affine.translation((10.0, -2.5, 0.125))
FORMATS: dict[str, dict[str, Any]] = {
    "hdf5": {},
    "hdf5 gzip": {"compression": "gzip"},
    "n5": {"format": "n5"},
    "zarr 2": {"format": "omezarr"},
    "zarr 3": {"format": "omezarr", "zarr_version": 3},
}


def stack(view: ViewId, shape: tuple[int, int, int] = SHAPE, dtype: str = "uint16") -> NDArray[Any]:
    rng = np.random.default_rng(1000 * view.time + view.setup)
    return rng.integers(0, min(np.iinfo(dtype).max, 65535), shape, dtype=dtype, endpoint=True)


def described(path: Path) -> SpimData:
    return xml.parse(path.read_bytes())


def contents(folder: Path) -> dict[str, str]:
    return {
        each.relative_to(folder).as_posix(): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


def make(path: Path, channels: int = 2, times: int = 1, **options: Any) -> Path:
    """A small dataset, whose setup 1 is moved at each time point by another way."""
    with npy2bdv.create(path, levels=LEVELS, chunks=CHUNK, microscope="Mesoscope", **options) as writer:
        for channel in range(channels):
            setup = writer.add_setup(shape=SHAPE, channel=str(488 + channel), voxel_size_xyz=VOXEL)
            for time in range(times):
                shift = Affine.translation((time, 0, 0)) if setup == 1 else None
                writer.write(stack(ViewId(time, setup)), setup=setup, time=time, transform=shift)
    return path


def check(path: Path, views: set[tuple[int, int]]) -> None:
    """Each view holds its pixels, at each level; no other view is there."""
    with npy2bdv.open(path) as dataset:
        assert {view.id for view in dataset} == views
        for view in dataset:
            np.testing.assert_array_equal(view[...], stack(view.id, view.shape, str(view.dtype)))
            for level, factors in zip(view.levels(), LEVELS, strict=True):
                expected = npy2bdv.downsample(stack(view.id, view.shape, str(view.dtype)), factors)
                np.testing.assert_array_equal(level[...], expected)


# ------------------------------------------------------------------------------- what can be appended


@pytest.mark.parametrize("how", FORMATS)
def test_time_points_setups_and_missing_views_are_added(how: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", **FORMATS[how])
    before = described(path)
    with npy2bdv.create(path, mode="a") as writer:
        second = writer.add_setup(shape=SHAPE, channel="489", voxel_size_xyz=VOXEL)
        assert second == 1, "the same attributes are the same setup"
        writer.write(stack(ViewId(1, 1)), setup=second, time=1)
        tile = writer.add_setup(
            shape=SHAPE, channel="488", tile="right", voxel_size_xyz=VOXEL, transform=SHIFT
        )
        writer.write(stack(ViewId(1, tile)), setup=tile, time=1)
    check(path, {(0, 0), (0, 1), (1, 1), (1, 2)})
    data = described(path)
    assert data.setups[0] == before.setups[0]
    assert data.setups[1] == before.setups[1]
    assert data.registrations.items() >= before.registrations.items()
    assert data.generated_by == before.generated_by
    assert data.missing == frozenset({ViewId(0, 2), ViewId(1, 0)})
    assert data.timepoints.ids == (0, 1)
    assert {e.name for e in data.attributes["tile"].entities.values()} == {"0", "right"}
    with npy2bdv.create(path, mode="a") as writer:  # fill what is missing
        writer.write(stack(ViewId(0, 2)), setup=2, time=0)
        writer.write(stack(ViewId(1, 0)), setup=0, time=1)
    check(path, {(t, s) for t in range(2) for s in range(3)})
    with npy2bdv.open(path) as dataset:
        for view in dataset:
            assert view.level(1).compression == dataset.view(time=0, setup=0).level(1).compression
            assert view.chunks == CHUNK
    assert described(path.with_name("a.xml~2")) == before
    assert not [each for each in tmp_path.iterdir() if "journal" in each.name or "lock" in each.name]


@pytest.mark.parametrize("how", FORMATS)
def test_a_session_that_adds_nothing_changes_nothing(how: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", **FORMATS[how])
    before = contents(tmp_path)
    npy2bdv.create(path, mode="a").close()
    with npy2bdv.create(path, mode="a") as writer:
        writer.add_setup(shape=SHAPE, channel="640")
        with pytest.raises(ExistsError, match=r"written already.*replace_view=True"):
            writer.stream(setup=0)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("how", FORMATS)
def test_a_view_that_is_given_up_leaves_the_description_and_all_views(how: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", **FORMATS[how])
    before = path.read_bytes()
    with npy2bdv.create(path, mode="a") as writer:
        view = writer.stream(setup=0, time=1)
        view.append(stack(ViewId(1, 0))[0])
        writer.checkpoint()
        assert path.read_bytes() == before, "the XML stays as it was until the end"
        assert (1, 0) in described(tmp_path / "a.recording.xml").registrations
        view.abort()
    assert path.read_bytes() == before
    assert not (tmp_path / "a.recording.xml").exists()
    assert not (tmp_path / "a.xml~1").exists()
    check(path, {(0, 0), (0, 1)})


def test_where_there_is_nothing_a_dataset_is_made(tmp_path: Path) -> None:
    for time in range(3):
        with npy2bdv.create(tmp_path / "a.n5", mode="a", levels=LEVELS, chunks=CHUNK) as writer:
            setup = writer.add_setup(shape=SHAPE)
            writer.write(stack(ViewId(time, setup)), setup=setup, time=time)
    check(tmp_path / "a.xml", {(0, 0), (1, 0), (2, 0)})


@pytest.mark.parametrize("how", FORMATS)
def test_a_view_is_replaced_where_that_is_asked_for(how: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", times=2, **FORMATS[how])
    before = described(path)
    new = stack(ViewId(7, 7))
    with npy2bdv.create(path, mode="a") as writer, writer.stream(setup=1, time=1, replace_view=True) as view:
        view.put(new, 0)
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=1, time=1)[...], new)
        np.testing.assert_array_equal(dataset.view(setup=1, time=0)[...], stack(ViewId(0, 1)))
        np.testing.assert_array_equal(dataset.view(setup=0, time=1)[...], stack(ViewId(1, 0)))
    assert described(path).registrations == before.registrations


def test_transforms_of_new_time_points_are_those_of_the_last_one_or_those_given(tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", times=3)
    calibration = ViewTransform(affine=Affine.scale((1, 1, 2.5)), name="calibration")
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack(ViewId(3, 1)), setup=1, time=3)
        writer.write(stack(ViewId(4, 1)), setup=1, time=4, transform=SHIFT)
        again = writer.add_setup(
            shape=SHAPE, channel="489", transform=(ViewTransform(affine=SHIFT, name="stage"),)
        )
        writer.write(stack(ViewId(5, 1)), setup=again, time=5)
        with pytest.raises(InvalidInputError, match=r"calibration .* stays"):
            writer.add_setup(shape=SHAPE, channel="489", calibration=None, transform=SHIFT)
        writer.write(stack(ViewId(6, 1)), setup=again, time=6)
    found = described(path).registrations
    assert found[ViewId(3, 1)].transforms == (
        ViewTransform(affine=Affine.translation((2, 0, 0)), name="manually defined"),
        calibration,
    )
    assert found[ViewId(4, 1)].transforms == (
        ViewTransform(affine=SHIFT, name="manually defined"),
        calibration,
    )
    assert found[ViewId(5, 1)].transforms == (ViewTransform(affine=SHIFT, name="stage"), calibration)
    assert found[ViewId(6, 1)] == found[ViewId(5, 1)]


def test_the_world_keeps_its_unit(tmp_path: Path) -> None:
    """A new setup with smaller voxels is calibrated in the unit that the older views have."""
    path = make(tmp_path / "a.xml")
    with npy2bdv.create(path, mode="a") as writer:
        fine = writer.add_setup(shape=SHAPE, channel="fine", voxel_size_xyz=(0.1, 0.2, 0.4))
        writer.write(stack(ViewId(0, fine)), setup=fine)
    (calibration,) = described(path).registrations[ViewId(0, 2)].transforms
    np.testing.assert_allclose(np.asarray(calibration.affine)[:, :3], np.diag([0.25, 0.5, 1.0]))


def test_what_other_programs_put_into_the_xml_stays(tmp_path: Path) -> None:
    """Unknown elements, sections of BigStitcher, time points as a pattern, dangling attributes, paths as text."""
    path = make(tmp_path / "a.xml", times=3)
    text = path.read_text()
    start, end = text.index("<Timepoints"), text.index("</Timepoints>") + len("</Timepoints>")
    text = (
        text[:start]
        + ('<Timepoints type="pattern"><integerpattern>0-2</integerpattern></Timepoints>')
        + text[end:]
    )
    text = text.replace("<ViewSetups>", "<ViewSetups><lab note='1'>dark room</lab>", 1)
    text = text.replace("<channel>1</channel>", "<channel>1</channel><objective>4</objective>")
    text = text.replace(
        '<Attributes name="tile">', '<Attributes name="objective"></Attributes><Attributes name="tile">'
    )
    text = text.replace(
        "</SpimData>",
        "<BoundingBoxes><BoundingBoxDefinition name='All'><min>0 0 0</min><max>9 9 9</max></BoundingBoxDefinition>"
        "</BoundingBoxes><StitchingResults/></SpimData>",
    )
    text = text.replace(">a.h5<", ">./a.h5<")
    path.write_text(text)
    before = described(path)
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack(ViewId(1, 0)), setup=0, time=3)
    data = described(path)
    assert data.sections == before.sections
    assert len(data.sections) == 2
    assert data.kept == before.kept
    assert data.loader == before.loader
    assert data.setups == before.setups
    assert data.setups[1].attributes["objective"] == 4
    assert (data.timepoints.type, data.timepoints.ids) == ("range", (0, 1, 2, 3))
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack(ViewId(1, 0)), setup=0, time=9)
    data = described(path)
    assert data.timepoints.ids == tuple(range(10)), "a range stays one, which all programs read"
    assert ViewId(7, 1) in (data.missing or ())
    assert Element(tag="lab", attributes=(("note", "1"),), text="dark room") in [
        kept.element for kept in data.kept["ViewSetups"]
    ]


def test_a_list_of_time_points_stays_a_list(tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml")
    text = path.read_text()
    start, end = text.index("<Timepoints"), text.index("</Timepoints>") + len("</Timepoints>")
    path.write_text(
        text[:start]
        + '<Timepoints type="list"><Timepoint><id>0</id></Timepoint><Timepoint><id>5</id></Timepoint></Timepoints>'
        + text[end:]
    )
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack(ViewId(5, 0)), setup=0, time=5)
        writer.write(stack(ViewId(9, 0)), setup=0, time=9)
    data = described(path)
    assert (data.timepoints.type, data.timepoints.ids) == ("list", (0, 5, 9))
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=0, time=9)[...], stack(ViewId(9, 0)))


def test_a_setup_without_images_takes_them(tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", channels=1)
    text = path.read_text()
    start, end = text.index("<ViewSetup>"), text.index("</ViewSetup>") + len("</ViewSetup>")
    other = text[start:end].replace("<id>0</id>", "<id>7</id>").replace("<tile>0</tile>", "<tile>3</tile>")
    text = text[:end] + other.replace("setup 0", "the other") + text[end:]
    text = text.replace(
        "<MissingViews/>", '<MissingViews><MissingView timepoint="0" setup="7"/></MissingViews>'
    )
    path.write_text(text)
    assert (0, 7) in (described(path).missing or ())
    with npy2bdv.create(path, mode="a") as writer:
        with pytest.raises(InvalidInputError, match="has the same attributes, and the size"):
            writer.add_setup(shape=(5, 5, 5), tile=3)
        setup = writer.add_setup(shape=SHAPE, tile=3)
        assert setup == 7
        writer.write(stack(ViewId(0, 7)), setup=setup)
        assert writer.add_setup(shape=SHAPE, tile=4) == 8
    check(path, {(0, 0), (0, 7)})
    assert described(path).setups[7].name == "the other"


def test_a_table_of_frames_goes_on(tmp_path: Path) -> None:
    for time in range(2):
        with npy2bdv.create(tmp_path / "a.xml", mode="a") as writer:
            setup = writer.add_setup(shape=(2, 8, 8))
            with writer.stream(setup=setup, time=time) as view:
                for z in range(2):
                    view.append(
                        np.zeros((8, 8), "uint16"), meta={"frame": z, "um": 0.5, **({"t": 1} if time else {})}
                    )
    rows = (tmp_path / "a.frames.csv").read_text().splitlines()
    assert rows == [
        "time,setup,z,frame,um,more",
        "0,0,0,0,0.5,",
        "0,0,1,1,0.5,",
        '1,0,0,0,0.5,"{""t"": 1}"',
        '1,0,1,1,0.5,"{""t"": 1}"',
    ]


@pytest.mark.parametrize("how", FORMATS)
def test_what_a_kill_leaves_of_a_new_setup_is_missing_at_earlier_time_points(
    how: str, tmp_path: Path
) -> None:
    """The files as they lie in the middle of a session, whose XML does not name the new setup yet."""
    (tmp_path / "now").mkdir()
    path = make(tmp_path / "now" / "a.xml", **FORMATS[how])
    writer = npy2bdv.create(path, mode="a")
    writer.write(stack(ViewId(1, 0)), setup=0, time=1)
    setup = writer.add_setup(shape=SHAPE, channel="640", voxel_size_xyz=VOXEL)
    writer.write(stack(ViewId(1, setup)), setup=setup, time=1)
    writer.checkpoint()
    shutil.copytree(path.parent, tmp_path / "then", ignore=shutil.ignore_patterns("*.lock"))
    writer.close()
    left = tmp_path / "then" / "a.xml"
    shutil.copy(left, tmp_path / "then" / "a.recording.xml")  # as it was before the checkpoint
    npy2bdv.recover(left)
    check(left, {(0, 0), (0, 1), (1, 0), (1, 2)})
    assert described(left).missing == frozenset({ViewId(0, 2), ViewId(1, 1)})
    assert described(left) == described(path)


# ------------------------------------------------------------------------------- several XMLs, other folders


def test_pixels_of_another_xml_are_not_overwritten(tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", channels=1)
    shutil.copy(path, tmp_path / "b.xml")
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack(ViewId(1, 0)), setup=0, time=1)
        tile = writer.add_setup(shape=SHAPE, tile=1)
        writer.write(stack(ViewId(0, tile)), setup=tile)
    with npy2bdv.create(tmp_path / "b.xml", mode="a") as writer:
        with pytest.raises(ExistsError, match="time point 1 of setup 0 was written already"):
            writer.stream(setup=0, time=1)
        with pytest.raises(InvalidInputError, match="setup id 1 is taken"):
            writer.add_setup(shape=SHAPE, tile=2, id=1)
        setup = writer.add_setup(shape=SHAPE, tile=2)
        assert setup == 2, "setup 1 is in the pixels, though not in this XML"
        writer.write(stack(ViewId(0, 2)), setup=setup)
    check(path, {(0, 0), (1, 0), (0, 1)})
    check(tmp_path / "b.xml", {(0, 0), (0, 2)})


def test_pixels_in_another_folder(tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", channels=1)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    far = tmp_path / "deep" / "er" / "far.xml"
    far.write_text(path.read_text().replace(">a.h5<", ">../../a.h5<"))
    path.unlink()
    before = contents(tmp_path)
    with pytest.raises(FormatError, match=r"lie in another folder, .*, where nothing is written or removed"):
        npy2bdv.create(far, mode="a")
    assert contents(tmp_path) == before


# ------------------------------------------------------------------------------------------- refusals


def refused(path: Path, match: str, kind: type[Exception] = InvalidInputError, **options: Any) -> None:
    before = contents(path.parent)
    with pytest.raises(kind, match=match):
        npy2bdv.create(path, mode="a", **options)
    assert contents(path.parent) == before


def options(wrong: dict[str, Any]) -> dict[str, Any]:
    return {"shape": SHAPE, "channel": "488", **wrong}


def test_setups_that_differ_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml")
    before = contents(tmp_path)
    wrongs: tuple[tuple[dict[str, Any], str], ...] = (
        ({"shape": (6, 22, 30)}, r"the shape \(z, y, x\) \(6, 22, 31\), not \(6, 22, 30\)"),
        ({"dtype": "float32"}, "pixels of uint16, not float32"),
        ({"levels": ((1, 1, 1),)}, "the levels"),
        ({"voxel_size_xyz": (1, 1, 2)}, "voxels"),
        ({"id": 5}, "id=5 cannot be"),
    )
    with npy2bdv.create(path, mode="a") as writer:
        for wrong, message in wrongs:
            with pytest.raises(InvalidInputError, match=message):
                writer.add_setup(**options(wrong))
        with pytest.raises(InvalidInputError, match="setup id 1 is taken"):
            writer.add_setup(shape=SHAPE, channel="new", id=1)
        assert writer.add_setup(shape=(None, *SHAPE[1:]), channel="488", levels=LEVELS) == 0
        with pytest.raises(InvalidInputError, match="levels are added to a whole dataset"):
            list(writer.add_levels(((4, 8, 8),), (1, 1, 1), writer.card.codec(None)))
    assert contents(tmp_path) == before


def test_datasets_that_cannot_be_appended_to(tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml")
    refused(path, "format='n5' was asked for, and .* has its pixels in 'hdf5'", format="n5")
    refused(path, "is not known; there are mode=", overwrite=True)
    with pytest.raises(InvalidInputError, match="is not known; there are mode="):
        npy2bdv.create(path, mode="r")  # type: ignore[arg-type]
    text = path.read_text()
    path.write_text(text.replace("bdv.hdf5", "bdv.remote"))
    refused(path, "names the image loader 'bdv.remote', to whose pixels nothing can be added", FormatError)
    path.write_text(text.replace(">a.h5<", ">gone.h5<"))
    refused(path, "gone.h5, which is not there", NotFoundError)
    path.unlink()
    refused(path, "there are pixels a.h5, and no a.xml", NotFoundError)
    refused(tmp_path / "a.h5", "there is no XML", NotFoundError)


def test_a_recording_that_runs_or_was_interrupted(tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml")
    writer = npy2bdv.create(path, mode="a")
    with pytest.raises(InUseError, match="is being written"):
        npy2bdv.create(path, mode="a")
    writer.close()
    (tmp_path / "a.h5.journal").write_bytes(b"npy2bdv journal 1\n")
    refused(path, "was interrupted .* npy2bdv recover", FormatError)
    (tmp_path / "a.h5.journal").rename(tmp_path / "a.h5.edit")
    refused(path, "an edit of a.h5 was interrupted", FormatError)


def test_levels_that_cannot_be_continued(tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        table = file["s01/resolutions"][()]
        table[1] = 1.5, 1.5, 1
        file["s01/resolutions"][...] = table
    with npy2bdv.create(path, mode="a") as writer:
        with pytest.raises(
            InvalidInputError, match=r"setup 1 takes no further time points: .* no whole numbers"
        ):
            writer.stream(setup=1, time=1)
        with pytest.raises(InvalidInputError, match="setup 1 takes no further time points"):
            writer.add_setup(shape=SHAPE, channel="489")
        writer.write(stack(ViewId(1, 0)), setup=0, time=1)
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=0, time=1)[...], stack(ViewId(1, 0)))


# ------------------------------------------------------------------------------------- outside judges


@pytest.mark.parametrize("how", ["hdf5", "hdf5 gzip"])
def test_plain_h5py_finds_all_views_alike(how: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", **FORMATS[how])
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack(ViewId(1, 0)), setup=0, time=1)
    with h5py.File(tmp_path / "a.h5") as file:
        for k in range(3):
            old, new = file[f"t00000/s00/{k}/cells"], file[f"t00001/s00/{k}/cells"]
            assert (old.shape, old.dtype, old.chunks, old.compression, old.shuffle, old.maxshape) == (
                new.shape,
                new.dtype,
                new.chunks,
                new.compression,
                new.shuffle,
                new.maxshape,
            )
        np.testing.assert_array_equal(file["t00001/s00/0/cells"][()].view("uint16"), stack(ViewId(1, 0)))
        assert "dataType" not in file["s00"].attrs


@pytest.mark.parametrize("attribute", [True, False])
def test_pixel_types_stay_as_the_setup_says(attribute: bool, tmp_path: Path) -> None:
    """BDV fails on uint16 in a setup without its name, and on int16 bits in one with it (formats.md 2.4)."""
    path = make(tmp_path / "a.xml", channels=1)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        if attribute:
            file["s00"].attrs["dataType"] = np.bytes_("uint16")
            for k in range(3):
                pixels = file[f"t00000/s00/{k}/cells"][()].view("uint16")
                del file[f"t00000/s00/{k}/cells"]
                file.create_dataset(f"t00000/s00/{k}/cells", data=pixels, chunks=(2, 4, 4))
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack(ViewId(1, 0)), setup=0, time=1)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["s00"].attrs.get("dataType") == (np.bytes_("uint16") if attribute else None)
        assert file["t00001/s00/0/cells"].dtype == ("uint16" if attribute else "int16")
    check(path, {(0, 0), (1, 0)})


@pytest.mark.parametrize("how", ["n5", "zarr 2", "zarr 3"])
def test_tensorstore_reads_what_was_appended(how: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.xml", **FORMATS[how])
    if how == "n5":
        (tmp_path / "a.n5" / "attributes_cache.json").write_text("{}")
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack(ViewId(1, 0)), setup=0, time=1)
    if how == "n5":
        assert not (tmp_path / "a.n5" / "attributes_cache.json").exists()
        driver, key = "n5", "a.n5/setup0/timepoint1/s0"
    else:
        driver, key = (
            ("zarr", "a.ome.zarr/s0-t1.zarr/0") if how == "zarr 2" else ("zarr3", "a.ome.zarr/s0-t1.zarr/0")
        )
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(tmp_path / key)}}
    found = tensorstore.open(spec, open=True, read=True).result().read().result()
    found = found.T if how == "n5" else found[0, 0]
    np.testing.assert_array_equal(found, stack(ViewId(1, 0)))


@pytest.mark.parametrize("name", ["A_hdf5", "C_n5", "D_hdf5_float32", "G_hdf5_loopback", "H_n5_types"])
def test_datasets_written_by_java(name: str, real_data: Path, tmp_path: Path) -> None:
    """What BigDataViewer wrote is appended to: each setup gets a time point, and one is made like the first."""
    shutil.copytree(real_data / "java" / name, tmp_path / "copy")
    path = tmp_path / "copy" / "dataset.xml"
    before = described(path)
    with npy2bdv.open(path) as dataset:
        old = {view.id: view[...] for view in dataset}
        levels = {view.id.setup: [level.shape for level in view.levels()] for view in dataset}
    time = max(before.timepoints.ids) + 1
    new: dict[ViewId, NDArray[Any]] = {}
    with npy2bdv.create(path, mode="a") as writer:
        for setup in sorted({view.setup for view in old}):
            pixels = old[next(view for view in old if view.setup == setup)][::-1]
            new[ViewId(time, setup)] = pixels
            writer.write(pixels, setup=setup, time=time)
        added = writer.add_setup(shape=pixels.shape, dtype=pixels.dtype, channel="another", tile=77)
        new[ViewId(time, added)] = pixels
        writer.write(pixels, setup=added, time=time)
    with npy2bdv.open(path) as dataset:
        for view, pixels in {**old, **new}.items():
            np.testing.assert_array_equal(dataset.view(time=view.time, setup=view.setup)[...], pixels)
            if view.setup in levels:
                found = [level.shape for level in dataset.view(time=view.time, setup=view.setup).levels()]
                assert len(found) == len(levels[view.setup])
    data = described(path)
    assert data.setups.items() >= before.setups.items()
    assert data.registrations.items() >= before.registrations.items()
    assert data.sections == before.sections
    assert data.loader == before.loader


def test_a_bigstitcher_project_keeps_its_sections(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "java" / "C_n5", tmp_path / "copy")
    path = tmp_path / "copy" / "bigstitcher.xml"
    before = described(path)
    with npy2bdv.open(path) as dataset:
        first = next(iter(dataset))
        pixels, setup = first[...], first.id.setup
    time = max(before.timepoints.ids) + 1
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(pixels, setup=setup, time=time)
    data = described(path)
    assert data.sections == before.sections
    assert len(data.sections) == 5
    assert (
        data.registrations[ViewId(time, setup)]
        == (before.registrations[max(v for v in before.registrations if v.setup == setup)])
    )


# ------------------------------------------------------------------------------ the established interface


def classic(path: Path, times: range, channels: int = 2, count: int | None = None, **options: Any) -> None:
    writer = npy2bdv.BdvWriter(path, nchannels=count or channels, **options)
    for t in times:
        for channel in range(channels):
            pixels = stack(ViewId(t, channel))
            writer.append_view(pixels, time=t, channel=channel, voxel_size_xyz=VOXEL, calibration=(1, 1, 2.5))
    writer.write_xml(camera_name="Flash", microscope_name="Mesoscope")
    writer.close()


CLASSIC: dict[str, Any] = {"subsamp": LEVELS, "blockdim": (CHUNK,)}


@pytest.mark.parametrize("name", ["a.h5", "a.n5", "a.ome.zarr", "a.xml"])
def test_classic_time_points_and_channels_are_added(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    classic(path, range(2), **CLASSIC)
    before = described(tmp_path / "a.xml")
    with pytest.raises(FileExistsError, match="already exists"):
        npy2bdv.BdvWriter(path, nchannels=2)
    writer = npy2bdv.BdvWriter(path, nchannels=3, mode="a")
    assert writer.ntimes == 2
    for channel in range(3):
        writer.append_view(stack(ViewId(2, channel)), time=2, channel=channel, voxel_size_xyz=VOXEL)
    writer.append_view(stack(ViewId(3, 0)), time=3, m_affine=SHIFT, name_affine="stage")
    writer.append_view(stack(ViewId(4, 0)), time=4, calibration=(1, 1, 5))
    with pytest.raises(FileExistsError, match="was written in an earlier session"):
        writer.append_view(stack(ViewId(0, 1)), time=0, channel=1)
    with pytest.raises(ValueError, match="differs from shape"):
        writer.append_view(stack(ViewId(9, 1), (4, 5, 6)), time=9, channel=1)
    assert writer.read_affine(time=0, channel=1).tolist() == np.diag([1, 1, 2.5, 1])[:3].tolist()
    writer.write_xml()
    writer.close()
    check(
        tmp_path / "a.xml",
        {(t, s) for t in range(2) for s in range(2)} | {(2, 0), (2, 1), (2, 2), (3, 0), (4, 0)},
    )
    data = described(tmp_path / "a.xml")
    assert data.registrations.items() >= before.registrations.items()
    assert data.generated_by == before.generated_by
    assert data.setups.items() >= before.setups.items()
    calibration = ViewTransform(affine=Affine.scale((1, 1, 2.5)), name="calibration")
    assert data.registrations[ViewId(2, 1)].transforms == (calibration,)
    assert data.registrations[ViewId(3, 0)].transforms == (
        ViewTransform(affine=SHIFT, name="stage"),
        calibration,
    )
    assert data.registrations[ViewId(4, 0)].transforms == (
        ViewTransform(affine=SHIFT, name="stage"),
        ViewTransform(affine=Affine.scale((1, 1, 5)), name="calibration"),
    )
    assert [e.name for e in data.attributes["channel"].entities.values()] == ["0", "1", "2"]


def test_classic_session_without_views_changes_nothing(tmp_path: Path) -> None:
    classic(tmp_path / "a.h5", range(2), **CLASSIC)
    before = contents(tmp_path)
    npy2bdv.BdvWriter(tmp_path / "a.h5", nchannels=2, mode="a").close()
    assert contents(tmp_path) == before


def test_classic_counts_that_would_change_ids_are_refused(tmp_path: Path) -> None:
    classic(tmp_path / "a.h5", range(1), **CLASSIC)
    before = contents(tmp_path)
    wrongs: tuple[tuple[dict[str, Any], str], ...] = (
        ({"nchannels": 1}, "the dataset has channel 1 .* nchannels=1 was given"),
        (
            {"nchannels": 2, "ntiles": 2},
            "setup 1 of the dataset .* would be setup 2 .* ids of setups do not change",
        ),
        ({"nchannels": 2, "subsamp": ((1, 1, 1), (2, 2, 2))}, "leave subsamp out"),
        ({"nchannels": 2, "overwrite": True}, "is not known; there are mode"),
    )
    for wrong, message in wrongs:
        with pytest.raises(InvalidInputError, match=message):
            npy2bdv.BdvWriter(tmp_path / "a.h5", mode="a", **wrong)
    writer = npy2bdv.BdvWriter(tmp_path / "a.h5", mode="a", nchannels=2, nilluminations=2, dtype="uint8")
    with pytest.raises(InvalidInputError, match="has pixels of uint16, not uint8"):
        writer.append_view(np.ones(SHAPE, "uint8"), time=1)
    writer.close()
    assert contents(tmp_path) == before


def test_classic_makes_what_is_not_there(tmp_path: Path) -> None:
    for t in range(2):
        classic(tmp_path / "a.h5", range(t, t + 1), **{**CLASSIC, "mode": "a"})
    check(tmp_path / "a.xml", {(t, s) for t in range(2) for s in range(2)})


def test_a_transform_on_a_view_of_an_earlier_session(tmp_path: Path) -> None:
    """The established interface, which writes it at once; what was there stays beneath it."""
    shift = np.array([[1, 0, 0, 7], [0, 1, 0, 8], [0, 0, 1, 9.5]])
    stack = np.ones((4, 6, 8), "uint16")
    with BdvWriter(str(tmp_path / "a.h5"), nchannels=2) as writer:
        writer.append_view(stack, channel=1, m_affine=np.eye(4)[:3], name_affine="first")
        writer.write_xml()
    with BdvWriter(str(tmp_path / "a.h5"), nchannels=2, mode="a") as writer:
        writer.append_affine(shift, "drift", channel=1)
        with npy2bdv.open(tmp_path / "a.xml") as dataset:
            names = [each.name for each in dataset.view(time=0, channel=1).transforms]
            assert names == ["drift", "first", "calibration"]
        writer.append_view(2 * stack, time=1, channel=1)
        writer.write_xml()
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        view = dataset.view(time=0, channel=1)
        np.testing.assert_array_equal(np.asarray(view.transforms[0].affine), shift)
        np.testing.assert_array_equal(view[...], stack)
        assert [each.name for each in view.transforms] == names
        np.testing.assert_array_equal(dataset.view(time=1, channel=1)[...], 2 * stack)


def test_a_master_of_links_is_appended_to(tmp_path: Path) -> None:
    """New images go into the master; the recordings it links to stay as they are."""
    parts = [tmp_path / f"{tile}.xml" for tile in range(2)]
    stacks = [np.full((4, 6, 8), tile + 1, "uint16") for tile in range(3)]
    for path, stack in zip(parts, stacks[:2], strict=True):
        with npy2bdv.create(path) as writer:
            writer.write(stack, setup=writer.add_setup(shape=stack.shape))
    npy2bdv.merge(parts, tmp_path / "all.xml", along="tile")
    before = [path.with_suffix(".h5").read_bytes() for path in parts]
    with npy2bdv.create(tmp_path / "all.xml", mode="a") as writer:
        writer.write(stacks[2], setup=0, time=1)
        writer.write(stacks[2], setup=writer.add_setup(shape=stacks[2].shape, tile="2"))
    assert [path.with_suffix(".h5").read_bytes() for path in parts] == before
    with npy2bdv.open(tmp_path / "all.xml") as dataset:
        for (time, setup), value in {(0, 0): 1, (0, 1): 2, (1, 0): 3, (0, 2): 3}.items():
            np.testing.assert_array_equal(dataset.view(time=time, setup=setup)[...], stacks[value - 1])
