"""Reading: views by labels and ids, levels by slices as numpy, nothing on disk touched."""

import hashlib
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import npy2bdv
from npy2bdv import xml
from npy2bdv.errors import (
    ClosedError,
    FormatError,
    InvalidInputError,
    MissingKeyError,
    NotFoundError,
    OutOfRangeError,
)
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.journal import Lock

SHAPE = (5, 6, 7)
STACK = np.arange(5 * 6 * 7, dtype="uint16").reshape(SHAPE)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels of two tiles at two times; the last view is missing."""
    path = tmp_path_factory.mktemp("set") / "scan.xml"
    with npy2bdv.create(
        path, levels=((1, 1, 1), (2, 2, 2)), microscope="SPIM-1", user="me", compression="gzip"
    ) as writer:
        for tile in (0, 1):
            for channel in ("488", "grün"):
                setup = writer.add_setup(
                    shape=SHAPE,
                    channel=channel,
                    tile=f"tile {tile}",
                    attributes={"well": "A1"},
                    voxel_size_xyz=(0.5, 0.25, 1.0),
                    camera="Flash",
                    exposure_time=0.01,
                    exposure_unit="s",
                )
                for time in (0, 1):
                    if (time, setup) != (1, 3):
                        writer.write(STACK + 1000 * time + 100 * setup, setup=setup, time=time)
    return path


@pytest.fixture
def dataset(path: Path) -> Iterator[npy2bdv.Dataset]:
    with npy2bdv.open(path) as opened:
        yield opened


def test_what_is_in_it(dataset: npy2bdv.Dataset) -> None:
    assert dataset.times == (0, 1)
    assert dataset.setups == (0, 1, 2, 3)
    assert dataset.missing_views == (ViewId(1, 3),)
    assert len(dataset) == len(list(dataset.views())) == 7
    assert (dataset.microscope, dataset.user) == ("SPIM-1", "me")
    assert dataset.labels("channel") == {0: "488", 1: "grün"}
    assert dataset.labels("well") == {0: "A1"}
    with pytest.raises(
        MissingKeyError, match=r"no attribute 'colour' in this dataset; it has .*channel.*well"
    ):
        dataset.labels("colour")
    assert repr(dataset) == "<Dataset scan.xml: 2 time points x 4 setups, 1 views missing>"


def test_a_view(dataset: npy2bdv.Dataset) -> None:
    view = dataset.view(time=1, setup=2)
    assert (view.shape, view.dtype, view.n_levels) == (SHAPE, np.dtype("uint16"), 2)
    assert (view.voxel_size_xyz, view.unit, view.name) == ((0.5, 0.25, 1.0), "micrometer", "setup 2")
    assert view.camera is not None
    assert (view.camera.name, view.camera.exposure_time, view.camera.exposure_unit) == ("Flash", 0.01, "s")
    assert view.attributes == {
        "illumination": "0",
        "channel": "488",
        "tile": "tile 1",
        "angle": "0",
        "well": "A1",
    }
    assert view.transform == Affine.scale((2.0, 1.0, 4.0))
    assert [transform.name for transform in view.transforms] == ["calibration"]
    np.testing.assert_array_equal(np.asarray(view), STACK + 1200)
    np.testing.assert_array_equal(view[1:3, ..., 0], (STACK + 1200)[1:3, ..., 0])
    level = view.level(1)
    assert (level.shape, level.factors, level.nbytes) == ((3, 3, 4), (2.0, 2.0, 2.0), 72)
    assert level.nbytes_on_disk
    np.testing.assert_array_equal(np.asarray(level), npy2bdv.downsample(STACK + 1200, (2, 2, 2)))
    assert level.transform == view.transform @ Affine.binning((2, 2, 2))
    assert "time=1 setup=2" in repr(level)


@pytest.mark.parametrize(
    ("asked", "setup"),
    [
        ({"setup": 3}, 3),
        ({"channel": "grün", "tile": "tile 0"}, 1),
        ({"channel": 1, "tile": 1}, 3),
        ({"channel": "488", "tile": 1, "angle": 0, "illumination": "0", "well": "A1"}, 2),
    ],
)
def test_views_by_labels_and_ids(dataset: npy2bdv.Dataset, asked: dict[str, Any], setup: int) -> None:
    assert dataset.view(time=0, **asked).id == ViewId(0, setup)
    assert dataset.view(**asked).id == ViewId(0, setup)


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"setup": 9}, MissingKeyError, "no setup 9 in this dataset; its setups are 0, 1, 2, 3"),
        ({"setup": -1}, MissingKeyError, "no setup -1"),
        (
            {"time": 2, "setup": 0},
            MissingKeyError,
            r"no time point 2 in this dataset; it has 0 to 1 \(2 in all\)",
        ),
        ({"time": -1, "setup": 0}, MissingKeyError, "no time point -1"),
        ({"time": 1, "setup": 3}, MissingKeyError, "time point 1 of setup 3 is a missing view"),
        ({"channel": "561", "tile": 0}, MissingKeyError, "no setup has channel='561', tile=0; .*488.*grün"),
        ({"colour": "red"}, MissingKeyError, "no attribute 'colour' in this dataset; it has .*channel.*well"),
        ({"setup": 0, "channel": 0}, InvalidInputError, "either setup=0 or attributes"),
    ],
)
def test_views_that_are_not_there(
    dataset: npy2bdv.Dataset, asked: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        dataset.view(**asked)


def test_ambiguity_lists_the_candidates(dataset: npy2bdv.Dataset) -> None:
    with pytest.raises(InvalidInputError, match="2 setups fit channel='488'; give more attributes") as caught:
        dataset.view(channel="488")
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["setup 0", "setup 2"]
    assert "tile='tile 0'" in lines[0]
    assert "tile='tile 1'" in lines[1]
    with pytest.raises(InvalidInputError, match="4 setups fit no attribute"):
        dataset.view()


@pytest.mark.parametrize("level", [2, -1, 100])
def test_levels_that_are_not_there(dataset: npy2bdv.Dataset, level: int) -> None:
    with pytest.raises(OutOfRangeError, match=f"no level {level} in setup 0; it has the levels 0 to 1"):
        dataset.view(setup=0).level(level)


_BOUNDS = st.none() | st.integers(-12, 12)
_SLICES = st.builds(slice, _BOUNDS, _BOUNDS, st.none() | st.sampled_from([-3, -2, -1, 1, 2, 5]))
_INDICES = st.one_of(_SLICES, st.integers(-9, 9), st.just(Ellipsis))


_ARRAYS = hnp.arrays(np.int64, st.integers(0, 5), elements=st.integers(-6, 5))
_MASKS = st.sampled_from([5, 6, 7]).flatmap(lambda n: hnp.arrays(bool, n))
_PARTS = st.one_of(_INDICES, _ARRAYS, _MASKS, st.none())


@given(st.lists(_PARTS, max_size=4).map(tuple) | _PARTS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_indices_are_those_of_numpy(dataset: npy2bdv.Dataset, index: Any) -> None:
    level = dataset.view(setup=0).level(0)
    try:
        wanted = STACK[index]
    except IndexError:
        with pytest.raises(IndexError):
            level[index]
        return
    found = level[index]
    assert np.shape(found) == wanted.shape
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("index", [True, 1.0, "z", (0, [0.5])])
def test_indices_that_are_not_taken(dataset: npy2bdv.Dataset, index: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"read by integers, slices, and arrays .*; found"):
        dataset.view(setup=0)[index]


def test_numpy_integers_as_indices(dataset: npy2bdv.Dataset) -> None:
    view: Any = dataset.view(setup=0)
    assert view[np.int64(1), np.uint8(2), np.int32(-1)] == STACK[1, 2, -1]


def test_a_view_is_a_sequence_of_planes(dataset: npy2bdv.Dataset) -> None:
    planes: Any = dataset.view(setup=0)
    np.testing.assert_array_equal(np.stack([*planes]), STACK)


# ------------------------------------------------------------------------------------------------ life


def state(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        entry.relative_to(folder).as_posix(): (
            hashlib.sha256(entry.read_bytes()).hexdigest(),
            entry.stat().st_mtime_ns,
        )
        for entry in sorted(folder.rglob("*"))
        if entry.is_file()
    }


def test_reading_changes_no_byte(path: Path) -> None:
    before = state(path.parent)
    with npy2bdv.open(path) as dataset:
        for view in dataset.views():
            for level in view.levels():
                level[...]
        pickle.loads(pickle.dumps(dataset)).close()
    assert state(path.parent) == before


def test_read_only_files_and_folders_are_read(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    for name in ("scan.xml", "scan.h5"):
        (folder / name).write_bytes((path.parent / name).read_bytes())
        (folder / name).chmod(0o444)
    folder.chmod(0o555)
    try:
        with npy2bdv.open(folder / "scan.xml") as dataset:
            np.testing.assert_array_equal(dataset.view(setup=0)[0], STACK[0])
    finally:
        folder.chmod(0o755)


def test_opened_by_xml_or_pixels_by_text_or_path(path: Path) -> None:
    for name in (path, str(path), path.with_suffix(".h5"), str(path.with_suffix(".h5"))):
        with npy2bdv.open(name) as dataset:
            assert dataset.path == path


def test_pickles_with_views_and_levels(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        text = pickle.dumps((dataset, dataset.view(setup=1), dataset.view(setup=1).level(1)))
    assert len(text) < 20_000
    again, view, level = pickle.loads(text)
    with again:
        assert again.spimdata == dataset.spimdata
        np.testing.assert_array_equal(view[...], STACK + 100)
        np.testing.assert_array_equal(level[...], npy2bdv.downsample(STACK + 100, (2, 2, 2)))
        assert view.dataset is again


def test_read_by_several_threads(dataset: npy2bdv.Dataset) -> None:
    views = list(dataset.views())
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda view: int(view[...].sum(dtype="int64")), views * 3))
    assert sums == [int((STACK + 1000 * v.id.time + 100 * v.id.setup).sum(dtype="int64")) for v in views] * 3


def test_closed_dataset(path: Path) -> None:
    dataset = npy2bdv.open(path)
    view = dataset.view(setup=0)
    dataset.close()
    dataset.close()
    with pytest.raises(ClosedError, match="is closed"):
        view[0]


# ------------------------------------------------------------------------------------- paths in the XML


def moved(path: Path, folder: Path, pixels: str, **replaced: str) -> Path:
    """Copy the dataset, with its pixels elsewhere and parts of the XML replaced."""
    text = path.read_text(encoding="utf-8")
    for old, new in replaced.items():
        found = {
            "hdf5": '<hdf5 type="relative">scan.h5</hdf5>',
            "base": '<BasePath type="relative">.</BasePath>',
        }
        assert found[old] in text
        text = text.replace(found[old], new)
    target = folder / pixels
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.with_suffix(".h5").read_bytes())
    (folder / "x").mkdir(exist_ok=True)
    (folder / "x" / "scan.xml").write_text(text, encoding="utf-8")
    return folder / "x" / "scan.xml"


@pytest.mark.parametrize(
    ("pixels", "hdf5", "base"),
    [
        ("x/scan.h5", "<hdf5>scan.h5</hdf5>", '<BasePath type="relative">.</BasePath>'),
        ("x/scan.h5", "<hdf5>scan.h5</hdf5>", "<BasePath>.</BasePath>"),
        ("x/scan.h5", '<hdf5 type="relative">./scan.h5</hdf5>', ""),
        ("x/ä b#1.h5", '<hdf5 type="relative">ä b#1.h5</hdf5>', ""),
        ("other/scan.h5", '<hdf5 type="relative">../other/scan.h5</hdf5>', ""),
        ("x/sub/scan.h5", '<hdf5 type="relative">sub\\scan.h5</hdf5>', ""),
        (
            "x/sub/scan.h5",
            '<hdf5 type="relative">scan.h5</hdf5>',
            '<BasePath type="relative">sub/</BasePath>',
        ),
        (
            "x/s b/scan.h5",
            '<hdf5 type="relative">scan.h5</hdf5>',
            '<BasePath type="relative">s%20b/</BasePath>',
        ),
        (
            "x/s%20b/scan.h5",
            '<hdf5 type="relative">scan.h5</hdf5>',
            '<BasePath type="relative">s%20b/</BasePath>',
        ),
    ],
)
def test_where_the_xml_says(path: Path, tmp_path: Path, pixels: str, hdf5: str, base: str) -> None:
    with npy2bdv.open(moved(path, tmp_path, pixels, hdf5=hdf5, base=base)) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=0)[0], STACK[0])


def test_absolute_path(path: Path, tmp_path: Path) -> None:
    target = (tmp_path / "far" / "scan.h5").as_posix()
    for text in (target, f"file:{target}", f"file://{target}"):
        named = moved(path, tmp_path, "far/scan.h5", hdf5=f'<hdf5 type="absolute">{text}</hdf5>')
        with npy2bdv.open(named) as dataset:
            assert len(dataset) == 7


def test_pixels_that_are_not_there(path: Path, tmp_path: Path) -> None:
    named = moved(path, tmp_path, "x/elsewhere.h5")
    with pytest.raises(
        NotFoundError, match=r"names the pixel file .*scan\.h5, which is not there; put it there"
    ):
        npy2bdv.open(named)


def test_loader_that_is_not_read_yet_still_shows_its_setups(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace('format="bdv.hdf5"', 'format="bdv.ims"')
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view(setup=0).attributes["channel"] == "488"
        with pytest.raises(
            FormatError, match=r"names the image loader 'bdv\.ims'; pixels are read from 'bdv\.hdf5'"
        ):
            dataset.view(setup=0)[0]


def test_sparse_ids_are_ids_not_positions(path: Path, tmp_path: Path) -> None:
    """Setup 3 and time point 7 alone, among gaps."""
    data = xml.parse(path.read_bytes())
    assert set(data.setups) == {0, 1, 2, 3}
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.add_setup(shape=SHAPE, channel="c", id=30)
        writer.write(STACK, setup=30, time=7)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.setups == (30,)
        assert [view.id for view in dataset.views()] == [ViewId(7, 30)]
        np.testing.assert_array_equal(dataset.view(time=7, channel="c")[...], STACK)


def test_a_recording_that_goes_on_or_was_interrupted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "scan.xml"
    journal = tmp_path / "scan.h5.journal"
    npy2bdv.resave(STACK, path)
    with npy2bdv.open(path) as dataset:
        assert dataset.unfinished == ""
    assert caplog.text == ""
    journal.write_bytes(b"left by a kill")
    lock = Lock(tmp_path / "scan.h5")
    with npy2bdv.open(path) as dataset:
        assert "is being recorded" in dataset.unfinished
    assert "is being recorded" in caplog.text
    caplog.clear()
    lock.release()
    with npy2bdv.open(path) as dataset:
        assert "was interrupted; to mend it: npy2bdv recover" in dataset.unfinished
    assert "was interrupted" in caplog.text
    assert not (tmp_path / "scan.h5.lock").exists()


def test_closed_datasets_say_what_to_do(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        view = dataset.view(setup=0)
    with pytest.raises(ClosedError, match="is closed; open it again"):
        view[0]


def test_factors_are_whole_numbers_where_they_are(dataset: npy2bdv.Dataset) -> None:
    assert repr(dataset.view(setup=0).level(1)).endswith("factors zyx (2, 2, 2)>")
