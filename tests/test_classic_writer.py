"""`BdvWriter`: the interface, files, metadata and transforms that scripts rely on.

Written files are read by h5py and ElementTree. `test_classic_pixels.py` has the pixels,
`test_classic_refusals.py` what cannot be.
"""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

import npy2bdv
from npy2bdv import BdvError, BdvWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SHAPE = (5, 6, 7)
SHIFT = np.array([[1.0, 0, 0, 1.5], [0, 1, 0, 0], [0, 0, 1, 3]])
WHERE = {"time": 0, "illumination": 0, "channel": 0, "tile": 0, "angle": 0}

# Names, order and defaults of the published package, but for the compression: "default" is what is not given, which
# for HDF5 means none as there; None is no compression in every format.
SIGNATURES: dict[str, dict[str, Any]] = {
    "__init__": {
        "filename": ...,
        "subsamp": ((1, 1, 1),),
        "blockdim": ((4, 256, 256),),
        "compression": "default",
        "nilluminations": 1,
        "nchannels": 1,
        "ntiles": 1,
        "nangles": 1,
        "overwrite": False,
        "dtype": "uint16",
    },
    "append_view": {
        "stack": ...,
        "virtual_stack_dim": None,
        **WHERE,
        "m_affine": None,
        "name_affine": "manually defined",
        "voxel_size_xyz": (1, 1, 1),
        "voxel_units": "px",
        "calibration": (1, 1, 1),
        "exposure_time": 0,
        "exposure_units": "s",
    },
    "append_plane": {"plane": ..., "z": ..., **WHERE},
    "append_substack": {"substack": ..., "z_start": ..., "y_start": 0, "x_start": 0, **WHERE},
    "create_pyramids": {"subsamp": ((4, 8, 8),), "blockdim": ((8, 128, 128),), "compression": "default"},
    "set_attribute_labels": {"attribute": ..., "labels": ...},
    "write_xml": {
        "camera_name": "default",
        "microscope_name": "default",
        "microscope_version": "0.0",
        "user_name": "user",
    },
    "close": {},
    "read_affine": {**WHERE, "index": 0},
    "append_affine": {
        "m_affine": ...,
        "name_affine": "Appended affine transformation using npy2bdv.",
        **WHERE,
    },
}


def signature(method: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Return names and defaults (... for none) of what can be given by position, in order."""
    _, *parameters = inspect.signature(method).parameters.values()
    return [
        (each.name, ... if each.default is each.empty else each.default)
        for each in parameters
        if each.kind is each.POSITIONAL_OR_KEYWORD
    ]


def noise(seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 65536, SHAPE, dtype="uint16")


def pixels(path: Path, time: int = 0, setup: int = 0) -> NDArray[Any]:
    """Return what h5py finds in a file of uint16 stacks."""
    with h5py.File(path) as file:
        cells = file[f"t{time:05d}/s{setup:02d}/0/cells"][()]
    assert cells.dtype == np.int16
    return np.asarray(cells.view(np.uint16))


def texts(path: Path, place: str) -> list[str | None]:
    return [node.text for node in ElementTree.parse(path).findall(place)]


def affines(path: Path, time: int, setup: int) -> list[tuple[str | None, list[list[float]]]]:
    """Return name and matrix of a view's transforms as they stand in the XML."""
    root = ElementTree.parse(path).getroot()
    found = root.findall(f".//ViewRegistration[@timepoint='{time}'][@setup='{setup}']/ViewTransform")
    return [
        (
            each.findtext("Name"),
            np.array(each.findtext("affine", "").split(), float).reshape(3, 4).tolist(),
        )
        for each in found
    ]


def missing(path: Path) -> list[tuple[int, int]]:
    """Return the missing views (time point, setup) that an XML lists."""
    nodes = ElementTree.parse(path).findall(".//MissingView")
    return sorted((int(node.attrib["timepoint"]), int(node.attrib["setup"])) for node in nodes)


# -- the interface ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SIGNATURES)
def test_signature(method: str) -> None:
    assert signature(getattr(BdvWriter, method)) == list(SIGNATURES[method].items())


def test_names_of_the_package() -> None:
    assert npy2bdv.npy2bdv.BdvWriter is BdvWriter
    assert npy2bdv.npy2bdv.BdvEditor is npy2bdv.BdvEditor
    assert issubclass(BdvWriter, npy2bdv.npy2bdv.BdvBase)
    assert issubclass(npy2bdv.BdvEditor, npy2bdv.npy2bdv.BdvBase)
    assert BdvWriter.__version__ == npy2bdv.__version__


def test_attributes_that_people_read(tmp_path: Path) -> None:
    levels, blocks = ((1, 1, 1), (1, 2, 2)), ((4, 8, 8), (4, 4, 4))
    with BdvWriter(
        str(tmp_path / "a.h5"), nchannels=2, nangles=3, subsamp=levels, blockdim=blocks, compression="gzip"
    ) as writer:
        assert writer.filename_h5 == str(tmp_path / "a.h5")
        assert writer.filename_xml == str(tmp_path / "a.xml")
        counts = writer.nilluminations, writer.nchannels, writer.ntiles, writer.nangles, writer.nsetups
        assert counts == (1, 2, 1, 3, 6)
        assert all(type(count) is int for count in (*counts, writer.nlevels, writer.ntimes))
        assert (writer.nlevels, writer.ntimes) == (2, 0)
        assert isinstance(writer.subsamp, np.ndarray)
        assert writer.subsamp.tolist() == [[1, 1, 1], [1, 2, 2]]
        assert writer.chunks == blocks
        assert writer.compression == "gzip"
        assert writer.compressions_supported == (None, "gzip", "lzf")
        assert {"uint16", "uint8", "float32"} <= set(writer.dtypes_supported)
        assert writer.dtype == np.dtype("uint16")
        assert list(writer.attribute_counts.items()) == [
            ("illumination", 1),
            ("channel", 2),
            ("angle", 3),
            ("tile", 1),
        ]
        assert writer.attribute_labels == {}
        assert writer.virtual_stacks is False
        assert writer.setup_id_present == [[False] * 6]

        writer.set_attribute_labels("channel", ("488", "561"))
        writer.append_view(noise(), time=2, channel=1, angle=1, m_affine=SHIFT, name_affine="stage")
        assert writer.attribute_labels == {"channel": ("488", "561")}
        assert writer.ntimes == 3
        assert writer.setup_id_present == [[False] * 6, [False] * 6, [False] * 4 + [True, False]]
        assert writer.stack_shapes == {4: SHAPE}
        assert writer.affine_names == {4: "stage"}
        np.testing.assert_array_equal(writer.affine_matrices[4], SHIFT)
        assert writer.calibrations == {4: (1, 1, 1)}
        assert writer.voxel_size_xyz == {4: (1, 1, 1)}
        assert writer.voxel_units == {4: "px"}
        assert writer.exposure_time == {4: 0}
        assert writer.exposure_units == {4: "s"}
        writer.append_view(None, virtual_stack_dim=SHAPE)
        assert (writer.virtual_stacks, writer.ntimes) == (True, 3)


def test_setups_count_illumination_channel_tile_angle_the_last_fastest(tmp_path: Path) -> None:
    shape = (2, 3, 2, 2)
    with BdvWriter(tmp_path / "a.h5", nilluminations=2, nchannels=3, ntiles=2, nangles=2) as writer:
        for where in reversed(list(np.ndindex(shape))):  # in any order
            stack = np.full(SHAPE, 1 + int(np.ravel_multi_index(where, shape)), "uint16")
            writer.append_view(stack, None, 0, *where)
        writer.write_xml()
    for setup in range(24):
        assert (pixels(tmp_path / "a.h5", setup=setup) == setup + 1).all()
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    for node in root.findall(".//ViewSetup"):
        named = [
            int(node.findtext(f"attributes/{name}", ""))
            for name in ("illumination", "channel", "tile", "angle")
        ]
        assert int(node.findtext("id", "")) == np.ravel_multi_index(named, shape)
    assert len(root.findall(".//ViewSetup")) == 24


# -- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.b.h5", "a.b.xml"])
@pytest.mark.parametrize("kind", [str, Path])
def test_h5_and_xml_are_a_pair(name: str, kind: type, tmp_path: Path) -> None:
    with BdvWriter(kind(tmp_path / name)) as writer:
        writer.append_view(noise())
        writer.write_xml()
        assert writer.filename_h5 == str(tmp_path / "a.b.h5")
        assert writer.filename_xml == str(tmp_path / "a.b.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.h5", "a.b.xml"]
    assert texts(tmp_path / "a.b.xml", ".//hdf5") == ["a.b.h5"]


def test_an_existing_xml_names_its_h5(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(noise())
        writer.write_xml()
    (tmp_path / "a.xml").rename(tmp_path / "b.xml")
    with pytest.raises(FileExistsError, match=r"a\.h5"):
        BdvWriter(tmp_path / "b.xml")
    with BdvWriter(tmp_path / "b.xml", overwrite=True) as writer:
        assert writer.filename_h5 == str(tmp_path / "a.h5")
        writer.append_view(noise(seed=1))
        writer.write_xml()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.xml", "b.xml~1"]
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), noise(seed=1))

    (tmp_path / "a.h5").unlink()
    with BdvWriter(tmp_path / "b.xml") as writer:  # named, though not there
        assert writer.filename_h5 == str(tmp_path / "a.h5")


def test_nothing_is_replaced_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "pixels").mkdir()
    (tmp_path / "texts").mkdir()
    with BdvWriter(tmp_path / "pixels" / "a.h5") as writer:
        writer.append_view(noise())
        writer.filename_xml = str(tmp_path / "texts" / "a.xml")
        writer.write_xml()
    assert texts(tmp_path / "texts" / "a.xml", ".//hdf5") == ["../pixels/a.h5"]
    with npy2bdv.BdvEditor(tmp_path / "texts" / "a.xml") as editor:
        np.testing.assert_array_equal(editor.read_view(), noise())
    before = (tmp_path / "pixels" / "a.h5").read_bytes()
    with pytest.raises(ValueError, match="another folder"):
        BdvWriter(tmp_path / "texts" / "a.xml", overwrite=True)
    assert (tmp_path / "pixels" / "a.h5").read_bytes() == before


def test_several_xml_describe_one_h5(tmp_path: Path) -> None:
    (tmp_path / "b.xml").write_text("the user's", encoding="utf-8")
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(noise())
        writer.write_xml()
        writer.filename_xml = str(tmp_path / "b.xml")
        writer.append_affine(SHIFT)
    assert len(affines(tmp_path / "a.xml", 0, 0)) == 1
    assert len(affines(tmp_path / "b.xml", 0, 0)) == 2
    assert (tmp_path / "b.xml~1").read_text(encoding="utf-8") == "the user's"
    for name in ("a.xml", "b.xml"):
        with npy2bdv.BdvEditor(tmp_path / name) as editor:
            np.testing.assert_array_equal(editor.read_view(), noise())


def test_overwrite_keeps_the_xml_until_write_xml(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(noise())
        writer.write_xml(user_name="first")
    before = (tmp_path / "a.xml").read_bytes()
    with caplog.at_level(logging.WARNING), BdvWriter(tmp_path / "a.h5", overwrite=True) as writer:
        assert "a.h5 already exists, overwriting" in caplog.text
        writer.append_view(noise(seed=1))
        assert (tmp_path / "a.xml").read_bytes() == before
        writer.write_xml(user_name="second")
        writer.write_xml(user_name="third")
    assert (tmp_path / "a.xml~1").read_bytes() == before  # one a session
    assert texts(tmp_path / "a.xml", ".//user") == ["third"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.xml", "a.xml~1"]


def test_xml_after_close_and_again(tmp_path: Path) -> None:
    writer = BdvWriter(tmp_path / "a.h5", nchannels=2)
    writer.append_view(noise())
    writer.set_attribute_labels("channel", ["488", "561"])
    writer.write_xml(camera_name="Flash4")
    assert texts(tmp_path / "a.xml", ".//Channel/name") == ["488", "561"]
    writer.set_attribute_labels("channel", (405, 640))
    writer.close()  # brings into the XML what came since
    assert texts(tmp_path / "a.xml", ".//Channel/name") == ["405", "640"]
    writer.set_attribute_labels("channel", (445, 594))
    assert texts(tmp_path / "a.xml", ".//Channel/name") == ["405", "640"]
    writer.write_xml()
    assert texts(tmp_path / "a.xml", ".//Channel/name") == ["445", "594"]
    assert texts(tmp_path / "a.xml", ".//camera/name") == ["default"]
    writer.append_affine(SHIFT)
    writer.write_xml()  # loses nothing
    assert [name for name, _ in affines(tmp_path / "a.xml", 0, 0)] == [
        "Appended affine transformation using npy2bdv.",
        "calibration",
    ]


def test_close_twice_and_use_afterwards(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(noise())
    writer.close()
    assert not writer._file_object_h5
    with pytest.raises(RuntimeError, match="closed"):
        writer.append_view(noise(), time=1)
    with pytest.raises(RuntimeError, match="closed"):
        writer.create_pyramids()
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), noise())


def test_an_error_in_the_with_block_closes_the_file(tmp_path: Path) -> None:
    with pytest.raises(IndexError), BdvWriter(tmp_path / "a.h5") as writer:  # noqa: PT012
        writer.append_view(noise())
        writer.append_view(noise(), channel=1)
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), noise())
    (tmp_path / "a.h5").unlink()  # Windows refuses where it is open


# -- metadata --------------------------------------------------------------------------------------------


def test_metadata(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(
            noise(),
            voxel_size_xyz=(0.5, 0.4, 2),
            voxel_units="um",
            calibration=(1, 1, 4),
            exposure_time=10,
            exposure_units="ms",
        )
        writer.write_xml("Flash4", "SPIM-1", "3.1", "me")
    setup = ElementTree.parse(tmp_path / "a.xml").find(".//ViewSetup")
    assert setup is not None
    found = {name: setup.findtext(name) for name in ("name", "size", "voxelSize/unit", "camera/name")}
    assert found == {"name": "setup 0", "size": "7 6 5", "voxelSize/unit": "um", "camera/name": "Flash4"}
    assert [float(word) for word in setup.findtext("voxelSize/size", "").split()] == [0.5, 0.4, 2]
    assert float(setup.findtext("camera/exposureTime", "")) == 10
    assert setup.findtext("camera/exposureUnits") == "ms"
    assert affines(tmp_path / "a.xml", 0, 0) == [("calibration", [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 4, 0]])]
    microscope = [texts(tmp_path / "a.xml", f".//microscope/{name}") for name in ("name", "version", "user")]
    assert microscope == [["SPIM-1"], ["3.1"], ["me"]]


def test_unwritten_views_are_missing_in_every_xml(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5", nchannels=3) as writer:
        writer.append_view(noise())
        writer.write_xml()
        assert missing(tmp_path / "a.xml") == [(0, 1), (0, 2)]
        writer.append_view(noise(), time=2, channel=1)
        writer.append_view(None, virtual_stack_dim=SHAPE, time=1)  # no plane ever comes
        writer.append_affine(SHIFT)
    expected = [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 2)]
    assert missing(tmp_path / "a.xml") == expected
    writer.filename_xml = str(tmp_path / "b.xml")
    writer.write_xml()
    assert missing(tmp_path / "b.xml") == expected
    assert texts(tmp_path / "b.xml", ".//ViewSetup/id") == ["0", "1"]  # the third was never there
    assert texts(tmp_path / "b.xml", ".//Timepoints/last") == ["2"]


# -- transforms ------------------------------------------------------------------------------------------


def test_affines_are_of_view_and_time_point_in_full_precision(tmp_path: Path) -> None:
    drift = SHIFT.copy()
    drift[:, 3] = 1.2e-7, 1 / 3, -123456.789012345
    with BdvWriter(tmp_path / "a.h5", nchannels=2) as writer:
        writer.append_view(noise(), m_affine=SHIFT, name_affine="stage")
        writer.append_view(noise(), time=1, m_affine=drift, name_affine="drift")
        writer.append_view(noise(), time=2)  # as the time point before
        writer.append_view(noise(), channel=1)
        drift[:] = 0  # a script reuses its matrix
        writer.write_xml()
        for time, offset in ((0, [1.5, 0, 3]), (1, [1.2e-7, 1 / 3, -123456.789012345])):
            np.testing.assert_array_equal(writer.read_affine(time=time)[:, 3], offset)
    path = tmp_path / "a.xml"
    assert [name for name, _ in affines(path, 0, 0)] == ["stage", "calibration"]
    assert [name for name, _ in affines(path, 1, 0)] == ["drift", "calibration"]
    assert [row[3] for row in affines(path, 1, 0)[0][1]] == [1.2e-7, 1 / 3, -123456.789012345]
    assert affines(path, 2, 0) == affines(path, 1, 0)
    assert [name for name, _ in affines(path, 0, 1)] == ["calibration"]


def test_append_affine_goes_on_top_and_is_written_at_once(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(noise(), m_affine=SHIFT, name_affine="stage", calibration=(1, 1, 4))
        writer.append_view(noise(), time=1, calibration=(1, 1, 4))
        writer.write_xml()
        top = np.diag([2.0, 3, 4, 1])
        writer.append_affine(top, "top", time=1)  # 4x4
        names = [[name for name, _ in affines(tmp_path / "a.xml", time, 0)] for time in (0, 1)]
        assert names == [["stage", "calibration"], ["top", "stage", "calibration"]]
        matrix = writer.read_affine(time=1)
        assert matrix.dtype == np.float64
        np.testing.assert_array_equal(matrix, top[:3])
        np.testing.assert_array_equal(writer.read_affine(time=1, index=1), SHIFT)
        np.testing.assert_array_equal(writer.read_affine(time=1, index=2), np.diag([1, 1, 4, 1])[:3])
        for index in (3, -1):
            with pytest.raises(IndexError, match=f"no transform {index}"):
                writer.read_affine(time=1, index=index)
        with pytest.raises(KeyError, match="has not been written"):
            writer.append_affine(SHIFT, time=2)
    assert not (tmp_path / "a.xml~1").exists()


@pytest.mark.parametrize("given", [np.vstack([SHIFT, [0, 0, 0, 1]]), SHIFT.tolist(), SHIFT.astype("float32")])
def test_matrices_that_are_taken(given: Any, tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(noise(), m_affine=given)
        writer.write_xml()
    assert affines(tmp_path / "a.xml", 0, 0)[0] == ("manually defined", SHIFT.tolist())


@pytest.mark.parametrize(
    "given",
    [
        np.eye(3),
        np.eye(4)[:, :3],
        np.vstack([SHIFT, [0, 0, 0, 2]]),
        np.vstack([SHIFT, [0, 0, 1, 1]]),
        SHIFT.ravel(),
        np.full((3, 4), np.nan),
        np.zeros((3, 4)),
        "shear",
    ],
    ids=str,
)
def test_matrices_that_are_refused(given: Any, tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        with pytest.raises(BdvError, match=r"affine|matrix") as caught:
            writer.append_view(noise(), m_affine=given)
        assert isinstance(caught.value, ValueError)
        assert writer.setup_id_present == [[False]]
        writer.append_view(noise())
        writer.write_xml()
        before = (tmp_path / "a.xml").read_bytes()
        with pytest.raises(BdvError, match=r"affine|matrix"):
            writer.append_affine(given)
        assert (tmp_path / "a.xml").read_bytes() == before
