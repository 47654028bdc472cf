"""`BdvEditor` on datasets that were made without us: by h5py and text here, by Fiji in the real data."""

from __future__ import annotations

import inspect
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

import npy2bdv
from npy2bdv import BdvEditor, BdvError
from npy2bdv.storage.journal import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

WHERE = {"illumination": 0, "channel": 0, "tile": 0, "angle": 0}

SIGNATURES: dict[str, dict[str, Any]] = {  # names, order and defaults of the published package
    "__init__": {"filename": ..., "mode": "r+"},
    "get_attribute_count": {},
    "read_view": {"time": 0, **WHERE, "ilevel": 0, "z": None},
    "get_view_property": {"key": ..., **WHERE},
    "finalize": {},
    "read_affine": {"time": 0, **WHERE, "index": 0},
    "append_affine": {
        "m_affine": ...,
        "name_affine": "Appended affine transformation using npy2bdv.",
        "time": 0,
        **WHERE,
    },
}

# Setups out of order, with attributes that say otherwise than their ids; setups 1 and 4 are missing.
SETUPS = {
    5: {"illumination": 0, "channel": 0, "tile": 0, "angle": 0},
    0: {"illumination": 0, "channel": 1, "tile": 1, "angle": 0},
    3: {"illumination": 0, "channel": 0, "tile": 1, "angle": 0},
    2: {"illumination": 0, "channel": 1, "tile": 0, "angle": 0},
}
RANGE = '<Timepoints type="range"><first>7</first><last>9</last></Timepoints>'
SHIFT = np.array([[1, 0, 0, 1.2e-7], [0, 1, 0, 1 / 3], [0, 0, 1, -4e5]])
ORIGIN = "1 0 0 0 0 1 0 0 0 0 1 0"


def shape_of(setup: int) -> tuple[int, int, int]:
    return 5 + setup, 6, 7


def pixels_of(time: int, setup: int, level: int = 0) -> NDArray[np.uint16]:
    z, y, x = shape_of(setup)
    shape = (z, y, x) if level == 0 else (-(-z // 2), y // 2, -(-x // 2))
    return np.random.default_rng((time, setup, level)).integers(0, 65536, shape, dtype="uint16")


def make(
    folder: Path,
    *,
    timepoints: str = RANGE,
    times: tuple[int, ...] = (7, 8, 9),
    setups: dict[int, dict[str, int]] = SETUPS,
    groups: bool = True,
    missing: tuple[tuple[int, int], ...] = (),
) -> Path:
    """Make a dataset ``pixels.h5`` + ``data.xml``, as another program would; return the XML."""
    with h5py.File(folder / "pixels.h5", "w") as file:
        for setup in setups:
            file[f"s{setup:02d}/resolutions"] = np.array([[1.0, 1, 1], [2, 2, 2]])
            file[f"s{setup:02d}/subdivisions"] = np.array([[4, 4, 4], [4, 4, 4]], "int32")
            for time in times:
                if (time, setup) not in missing:
                    for level in range(2):
                        cells = pixels_of(time, setup, level).view("int16")
                        file.create_dataset(
                            f"t{time:05d}/s{setup:02d}/{level}/cells", data=cells, chunks=(2, 3, 4)
                        )
    view_setups = "".join(
        f"<ViewSetup><id>{setup}</id><name>n{setup}</name><size>7 6 {shape_of(setup)[0]}</size>"
        f"<voxelSize><unit>um</unit><size>0.5 0.25 {setup + 1}</size></voxelSize><laser>on</laser><attributes>"
        + "".join(f"<{name}>{id_}</{name}>" for name, id_ in attributes.items())
        + "</attributes></ViewSetup>"
        for setup, attributes in setups.items()
    )
    for name in next(iter(setups.values())) if groups else ():
        ids = sorted({attributes[name] for attributes in setups.values()})
        tag = name.capitalize()
        entities = "".join(f"<{tag}><id>{id_}</id><name>{name} {id_}</name></{tag}>" for id_ in ids)
        view_setups += f'<Attributes name="{name}">{entities}</Attributes>'
    gone = "".join(f'<MissingView timepoint="{time}" setup="{setup}"/>' for time, setup in missing)
    registrations = "".join(
        f'<ViewRegistration timepoint="{time}" setup="{setup}"><ViewTransform type="affine"><Name>stage</Name>'
        f"<affine>1 0 0 {time} 0 1 0 {setup} 0 0 1 0.1</affine></ViewTransform>"
        f'<ViewTransform type="affine"><affine>{ORIGIN}</affine></ViewTransform></ViewRegistration>'
        for time in times
        for setup in setups
        if (time, setup) not in missing
    )
    text = (
        '<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription>'
        '<ImageLoader format="bdv.hdf5"><hdf5 type="relative">pixels.h5</hdf5></ImageLoader>'
        f"<ViewSetups>{view_setups}</ViewSetups>{timepoints}<MissingViews>{gone}</MissingViews>"
        f"</SequenceDescription><ViewRegistrations>{registrations}</ViewRegistrations>"
        "<BoundingBoxes/><Notes>keep me</Notes></SpimData>"
    )
    path = folder / "data.xml"
    path.write_text(text, encoding="utf-8")
    return path


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def short(value: Any) -> str:
    """Return what names a test."""
    return "-".join(value) if isinstance(value, dict) else getattr(value, "__name__", str(value))


def signature(method: Callable[..., Any]) -> list[tuple[str, Any]]:
    _, *parameters = inspect.signature(method).parameters.values()
    return [(each.name, ... if each.default is each.empty else each.default) for each in parameters]


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[BdvEditor]:
    with BdvEditor(make(tmp_path, missing=((8, 3),))) as editor:
        yield editor


@pytest.mark.parametrize("method", SIGNATURES)
def test_signature(method: str) -> None:
    assert signature(getattr(BdvEditor, method)) == list(SIGNATURES[method].items())


# -- finding views ---------------------------------------------------------------------------------------


def test_views_are_found_by_attributes_and_time_points_by_id(editor: BdvEditor) -> None:
    for time in (7, 8, 9):
        for setup, attributes in SETUPS.items():
            if (time, setup) == (8, 3):
                continue
            np.testing.assert_array_equal(
                editor.read_view(time, **attributes), pixels_of(time, setup), strict=True
            )
            np.testing.assert_array_equal(
                editor.read_view(time, **attributes, ilevel=1), pixels_of(time, setup, 1), strict=True
            )
            matrix = editor.read_affine(time, **attributes)
            assert matrix.dtype == np.float64
            assert matrix.tolist() == [[1, 0, 0, time], [0, 1, 0, setup], [0, 0, 1, 0.1]]
            assert editor.read_affine(time, **attributes, index=1).tolist() == np.eye(4)[:3].tolist()


def test_properties_belong_to_the_setup_that_has_the_attributes(editor: BdvEditor) -> None:
    for setup, attributes in SETUPS.items():
        assert editor.get_view_property("voxel_size", **attributes) == (0.5, 0.25, setup + 1)
        assert editor.get_view_property("view_shape", **attributes) == (7, 6, 5 + setup)
    size, shape = editor.get_view_property("voxel_size"), editor.get_view_property("view_shape")
    assert {type(each) for each in size} == {float}
    assert {type(each) for each in shape} == {int}


def test_planes(editor: BdvEditor) -> None:
    for level in range(2):
        stack = pixels_of(7, 5, level)
        for z in (0, 2, len(stack) - 1):
            np.testing.assert_array_equal(editor.read_view(7, ilevel=level, z=z), stack[z], strict=True)
        with pytest.raises(IndexError, match=f"plane {len(stack)} .* {len(stack)} planes"):
            editor.read_view(7, ilevel=level, z=len(stack))


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("<Timepoints type='pattern'><integerpattern>2-8:3, 30</integerpattern></Timepoints>", (2, 5, 8, 30)),
        ("<Timepoints type='pattern'><integerpattern></integerpattern></Timepoints>", (0,)),
        (
            "<Timepoints type='list'><Timepoint><id>4</id></Timepoint><Timepoint><id>11</id></Timepoint></Timepoints>",
            (4, 11),
        ),
        ("<Timepoints type='range'><first>3</first><last>3</last></Timepoints>", (3,)),
    ],
)
def test_time_points_of_all_kinds(text: str, times: tuple[int, ...], tmp_path: Path) -> None:
    with BdvEditor(make(tmp_path, timepoints=text, times=times)) as editor:
        assert editor.ntimes == len(times)
        for time in times:
            np.testing.assert_array_equal(editor.read_view(time, channel=1), pixels_of(time, 2))
        with pytest.raises(KeyError, match=r"time point 1\b"):
            editor.read_view(1)
        editor.append_affine(SHIFT, time=times[-1])
    with BdvEditor(tmp_path / "data.xml") as editor:
        assert editor.read_affine(times[-1]).tolist() == SHIFT.tolist()


def test_absent_attributes_count_as_one(tmp_path: Path) -> None:
    setups = {0: {"channel": 1}, 1: {"channel": 4}}
    with BdvEditor(make(tmp_path, setups=setups)) as editor:
        assert editor.get_attribute_count() == (3, 1, 2, 1, 1)
        np.testing.assert_array_equal(editor.read_view(7, channel=4), pixels_of(7, 1))
        with pytest.raises(IndexError, match=r"channel 0 .* \[1, 4\]"):
            editor.read_view(7)


def test_a_setup_without_attributes_and_groups(tmp_path: Path) -> None:
    with BdvEditor(make(tmp_path, setups={0: {}}, groups=False)) as editor:
        assert editor.get_attribute_count() == (3, 1, 1, 1, 1)
        np.testing.assert_array_equal(editor.read_view(9), pixels_of(9, 0))
        assert editor.get_view_property("view_shape") == (7, 6, 5)


def test_attributes_without_their_groups(tmp_path: Path) -> None:
    with BdvEditor(make(tmp_path, groups=False)) as editor:
        assert editor.get_attribute_count() == (3, 1, 2, 2, 1)
        for setup, attributes in SETUPS.items():
            np.testing.assert_array_equal(editor.read_view(9, **attributes), pixels_of(9, setup))


def test_attributes_that_people_read(editor: BdvEditor, tmp_path: Path) -> None:
    assert editor.filename_xml == str(tmp_path / "data.xml")
    assert Path(editor.filename_h5) == tmp_path / "pixels.h5"
    assert editor.mode == "r+"
    counts = editor.ntimes, editor.nilluminations, editor.nchannels, editor.ntiles, editor.nangles
    assert counts == editor.get_attribute_count() == (3, 1, 2, 2, 1)
    assert {type(count) for count in counts} == {int}
    assert editor.nsetups == 4
    assert editor.dtype == np.dtype("uint16")
    assert isinstance(editor._file_object_h5["s00"], h5py.Group)
    editor.finalize()
    assert editor._file_object_h5 is None


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32"])
def test_pixel_types_that_the_attribute_names(dtype: str, tmp_path: Path) -> None:
    make(tmp_path, setups={0: {}}, groups=False)
    stack = np.arange(5 * 6 * 7).reshape(5, 6, 7).astype(dtype)
    with h5py.File(tmp_path / "pixels.h5", "r+") as file:
        del file["t00007/s00/0/cells"]
        file["t00007/s00/0/cells"] = stack
        file["s00"].attrs["dataType"] = dtype
    with BdvEditor(tmp_path / "data.xml") as editor:
        assert editor.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(editor.read_view(7), stack, strict=True)


# -- reading changes nothing, editing only what was asked ------------------------------------------------


def test_mode_r_changes_no_byte(tmp_path: Path) -> None:
    make(tmp_path)
    before = snapshot(tmp_path)
    editor = BdvEditor(tmp_path / "data.xml", mode="r")
    editor.read_view(7)
    editor.read_affine(7)
    editor.get_view_property("voxel_size")
    with pytest.raises(ValueError, match="open in mode 'r'"):
        editor.append_affine(SHIFT, time=7)
    editor.finalize()
    assert snapshot(tmp_path) == before


def test_reading_in_mode_r_plus_changes_no_byte_either(editor: BdvEditor, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    editor.read_view(7)
    editor.read_affine(7)
    editor.finalize()
    assert snapshot(tmp_path) == before


def test_append_affine_goes_on_top_and_is_written_at_once(editor: BdvEditor, tmp_path: Path) -> None:
    path = tmp_path / "data.xml"
    before, was = path.read_bytes(), ElementTree.parse(path).getroot()
    editor.append_affine(SHIFT, "drift", time=8, channel=1, tile=1)  # setup 0

    assert (tmp_path / "data.xml~1").read_bytes() == before
    root = ElementTree.parse(path).getroot()
    for time in (7, 8, 9):
        for setup in SETUPS:
            place = f".//ViewRegistration[@timepoint='{time}'][@setup='{setup}']/ViewTransform"
            names = [each.findtext("Name") for each in root.findall(place)]
            if (time, setup) == (8, 0):
                assert names == ["drift", "stage", None]
                words = root.findall(place)[0].findtext("affine", "").split()
                assert [float(word) for word in words] == SHIFT.ravel().tolist()
            else:
                assert names == [each.findtext("Name") for each in was.findall(place)]
    assert [each.text for each in root.findall(".//laser")] == ["on"] * 4  # what we do not know stays
    assert root.findtext("Notes") == "keep me"
    assert root.find("BoundingBoxes") is not None

    assert editor.read_affine(8, channel=1, tile=1).tolist() == SHIFT.tolist()
    editor.append_affine(np.vstack([SHIFT, [0, 0, 0, 1]]), time=7)
    editor.finalize()
    assert (tmp_path / "data.xml~1").read_bytes() == before  # one backup a session
    with BdvEditor(path) as again:
        assert again.read_affine(8, channel=1, tile=1).tolist() == SHIFT.tolist()
        assert again.read_affine(7).tolist() == SHIFT.tolist()
        np.testing.assert_array_equal(again.read_view(8, channel=1, tile=1), pixels_of(8, 0))
        again.append_affine(SHIFT, time=7)
    assert (tmp_path / "data.xml~2").read_bytes() == before


def test_several_xml_over_one_h5(tmp_path: Path) -> None:
    text = make(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "other.xml").write_text(text.replace("<channel>1", "<channel>2"), encoding="utf-8")
    (tmp_path / "pixels.xml").write_text(text, encoding="utf-8")
    with BdvEditor(str(tmp_path / "other.xml")) as editor, BdvEditor(tmp_path / "pixels.h5") as by_h5:
        np.testing.assert_array_equal(by_h5.read_view(7), pixels_of(7, 5))
        np.testing.assert_array_equal(editor.read_view(7), pixels_of(7, 5))
        assert by_h5.filename_xml == str(tmp_path / "pixels.xml")
        editor.append_affine(SHIFT, time=7)
        assert len(by_h5.read_affine(7)) == 3
    assert (tmp_path / "pixels.xml").read_text(encoding="utf-8") == text


def test_finalize_twice_and_use_afterwards(tmp_path: Path) -> None:
    with BdvEditor(make(tmp_path)) as editor:
        pass
    editor.finalize()
    editor.close()
    for call in (editor.read_view, editor.read_affine, editor.get_attribute_count):
        with pytest.raises(RuntimeError, match="has been finalized"):
            call()
    (tmp_path / "pixels.h5").unlink()  # Windows refuses where it is open


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments", "error", "text"),
    [
        ("read_view", {}, KeyError, "time point 0 .* 7 to 9"),
        ("read_view", {"time": -1}, KeyError, "time point -1"),
        ("read_view", {"time": 8, "tile": 1}, KeyError, "missing view"),
        ("read_view", {"time": 7, "ilevel": 2}, KeyError, "no level 2"),
        ("read_view", {"time": 7, "ilevel": -1}, KeyError, "no level -1"),
        ("read_view", {"time": 7, "channel": 2}, IndexError, r"channel 2 .* \[0, 1\]"),
        ("read_view", {"time": 7, "channel": -1}, IndexError, "channel -1"),
        ("read_view", {"time": 7, "angle": 1}, IndexError, "angle 1"),
        ("read_view", {"time": 7, "z": -1}, ValueError, "plane -1"),
        ("read_view", {"time": 7, "z": 10}, IndexError, "plane 10 .* 10 planes"),
        ("get_view_property", {"key": "colour"}, ValueError, "'voxel_size' or 'view_shape'"),
        ("get_view_property", {"key": "voxel_size", "tile": 2}, IndexError, "tile 2"),
        ("read_affine", {"time": 7, "index": 2}, IndexError, "no transform 2"),
        ("read_affine", {"time": 7, "index": -1}, IndexError, "no transform -1"),
        ("read_affine", {"time": 8, "tile": 1}, KeyError, "missing view"),
        ("append_affine", {"m_affine": np.eye(3), "time": 7}, ValueError, r"\(3, 3\)"),
        ("append_affine", {"m_affine": SHIFT * np.nan, "time": 7}, ValueError, "nan"),
        ("append_affine", {"m_affine": SHIFT * 0, "time": 7}, ValueError, "singular"),
        ("append_affine", {"m_affine": SHIFT}, KeyError, "time point 0"),
        ("append_affine", {"m_affine": SHIFT, "time": 8, "tile": 1}, KeyError, "missing view"),
    ],
    ids=short,
)
def test_calls_that_cannot_be(
    method: str,
    arguments: dict[str, Any],
    error: type[Exception],
    text: str,
    editor: BdvEditor,
    tmp_path: Path,
) -> None:
    before = snapshot(tmp_path)
    with pytest.raises(BdvError, match=text) as caught:
        getattr(editor, method)(**arguments)
    assert isinstance(caught.value, error)
    assert snapshot(tmp_path) == before


def test_a_combination_that_was_never_recorded(tmp_path: Path) -> None:
    setups = {setup: SETUPS[setup] for setup in (5, 0)}
    with BdvEditor(make(tmp_path, setups=setups)) as editor:
        assert editor.get_attribute_count() == (3, 1, 2, 2, 1)
        for call in (editor.read_view, editor.read_affine):
            with pytest.raises(KeyError, match=r"no setup has .*channel 0, tile 1"):
                call(time=7, tile=1)
        with pytest.raises(KeyError, match="no setup has"):
            editor.get_view_property("view_shape", tile=1)
        assert editor.get_view_property("view_shape", tile=1, channel=1) == (7, 6, 5)


def truncate(folder: Path) -> None:
    path = folder / "pixels.h5"
    path.write_bytes(path.read_bytes()[:1000])


def replace_in_xml(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "data.xml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("name", "damage", "error", "text"),
    [
        ("absent.xml", None, FileNotFoundError, r"absent\.xml"),
        ("absent.h5", None, FileNotFoundError, r"absent\.xml"),
        (
            "pixels.h5",
            lambda folder: (folder / "data.xml").unlink(),
            FileNotFoundError,
            r"pixels\.xml",
        ),  # nothing names it
        ("data.tif", None, ValueError, "names no dataset"),
        ("data.xml", lambda folder: (folder / "pixels.h5").unlink(), FileNotFoundError, r"pixels\.h5"),
        ("data.xml", lambda folder: (folder / "pixels.h5").write_bytes(b"text"), ValueError, "HDF5"),
        ("data.xml", truncate, ValueError, "truncated"),
        (
            "data.xml",
            lambda folder: (folder / "data.xml").write_bytes(b"<SpimData>"),
            ValueError,
            r"data\.xml",
        ),
        ("data.xml", lambda folder: (folder / "data.xml").write_bytes(b"<Svg/>"), ValueError, r"data\.xml"),
        ("data.xml", replace_in_xml("bdv.hdf5", "spimreconstruction.filelist"), ValueError, "filelist"),
    ],
)
def test_files_that_cannot_be_opened(
    name: str, damage: Callable[[Path], Any] | None, error: type[Exception], text: str, tmp_path: Path
) -> None:
    make(tmp_path)
    if damage is not None:
        damage(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(BdvError, match=text) as caught:
        BdvEditor(tmp_path / name)
    assert isinstance(caught.value, error)
    assert snapshot(tmp_path) == before


def test_another_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode 'w' is not known"):
        BdvEditor(make(tmp_path), mode="w")  # type: ignore[arg-type]


# -- what others made ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["A_hdf5", "D_hdf5_float32", "G_hdf5_loopback"])
def test_datasets_that_java_wrote(name: str, real_data: Path) -> None:
    folder = real_data / "java" / name
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    attributes = {
        setup["id"]: {key: entity["id"] for key, entity in setup["attributes"].items()}
        for setup in expected["setups"]
    }
    with BdvEditor(folder / "dataset.xml", mode="r") as editor:
        assert editor.ntimes == len(expected["timepoints"])
        for setup in expected["setups"]:
            where = attributes[setup["id"]]
            assert editor.get_view_property("view_shape", **where) == tuple(setup["size_xyz"])
            assert editor.get_view_property("voxel_size", **where) == tuple(setup["voxel_size"])
        present = [view for view in expected["views"] if not view["missing"]]
        assert present
        for view in present:
            where = {"time": view["timepoint"], **attributes[view["setup"]]}
            for index, transform in enumerate(view["transforms_outermost_first"]):
                assert editor.read_affine(**where, index=index).ravel().tolist() == transform["affine"]
            for level in view["levels"]:
                stack = editor.read_view(**where, ilevel=level["level"])
                assert (stack.shape[::-1], stack.dtype.name) == (tuple(level["dims_xyz"]), level["dtype"])
                assert f"{zlib.crc32(np.ascontiguousarray(stack).tobytes()):08x}" == level["crc32"]


@pytest.mark.parametrize("name", ["kidney.xml", "kidney_v1.xml"])
def test_dataset_that_fiji_exported(name: str, real_data: Path) -> None:
    folder = real_data / "kidney"
    with (
        npy2bdv.npy2bdv.BdvEditor(folder / name, mode="r") as editor,
        h5py.File(folder / "kidney.h5") as file,
    ):
        assert editor.get_attribute_count() == (1, 1, 3, 1, 1)
        for channel in range(3):
            cells = file[f"t00000/s{channel:02d}/0/cells"][()].view("uint16")
            np.testing.assert_array_equal(editor.read_view(channel=channel), cells)
            np.testing.assert_array_equal(editor.read_view(channel=channel, z=7), cells[7])
            assert editor.get_view_property("view_shape", channel=channel) == cells.shape[::-1]


def test_a_transform_of_a_dataset_that_is_being_recorded_is_refused(tmp_path: Path) -> None:
    """The writer would overwrite the XML at its end."""
    path = tmp_path / "scan.h5"
    stack = np.zeros((3, 8, 9), "uint16")
    with npy2bdv.BdvWriter(path) as writer:
        writer.append_view(stack)
    before = path.with_suffix(".xml").read_bytes()
    with BdvEditor(path) as editor:
        lock = Lock(path)  # as its writer holds it
        with pytest.raises(PermissionError, match="is being written by"):
            editor.append_affine(SHIFT)
        assert [file.name for file in tmp_path.glob("*.xml*")] == ["scan.xml"]
        assert path.with_suffix(".xml").read_bytes() == before
        assert editor.read_affine().tolist() == np.eye(3, 4).tolist()
        lock.release()
        editor.append_affine(SHIFT)
        assert not (tmp_path / "scan.h5.lock").exists()
        assert editor.read_affine().tolist() == SHIFT.tolist()


def test_a_time_point_that_is_not_there_is_said_first(tmp_path: Path) -> None:
    with npy2bdv.BdvWriter(tmp_path / "scan.h5") as writer:
        writer.append_view(np.zeros((3, 8, 9), "uint16"))
    with BdvEditor(tmp_path / "scan.h5") as editor, pytest.raises(KeyError, match="no time point 7 in this"):
        editor.read_view(time=7, channel=5)
