"""`BdvWriter`: what scripts rely on, and what the published package got wrong.

Written files are read by h5py and ElementTree.
"""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
from functools import partial
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
TYPES = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64",
)  # fmt: skip
SHIFT = np.array([[1.0, 0, 0, 1.5], [0, 1, 0, 0], [0, 0, 1, 3]])
WHERE = {"time": 0, "illumination": 0, "channel": 0, "tile": 0, "angle": 0}

SIGNATURES: dict[str, dict[str, Any]] = {  # names, order and defaults of the published package
    "__init__": {
        "filename": ...,
        "subsamp": ((1, 1, 1),),
        "blockdim": ((4, 256, 256),),
        "compression": None,
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
    "create_pyramids": {"subsamp": ((4, 8, 8),), "blockdim": ((8, 128, 128),), "compression": None},
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


def short(value: Any) -> str:
    """Return what names a test."""
    return "-".join(value) if isinstance(value, dict) else getattr(value, "__name__", str(value))


def signature(method: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Return names and defaults (... for none) of what can be given by position, in order."""
    _, *parameters = inspect.signature(method).parameters.values()
    return [
        (each.name, ... if each.default is each.empty else each.default)
        for each in parameters
        if each.kind is each.POSITIONAL_OR_KEYWORD
    ]


def noise(shape: tuple[int, ...] = SHAPE, dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    """Return pixels over the whole range of a type."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return ((rng.random(shape) - 0.5) * 1e6).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def block_means(stack: NDArray[Any], factors: tuple[int, int, int]) -> NDArray[Any]:
    """Return means of unsigned pixels over blocks, edges repeated, halves rounded up: written to be obvious."""
    padding = [(0, -size % factor) for size, factor in zip(stack.shape, factors, strict=True)]
    padded = np.pad(stack, padding, mode="edge").astype(np.uint64)
    (z, y, x), (fz, fy, fx) = padded.shape, factors
    sums = padded.reshape(z // fz, fz, y // fy, fy, x // fx, fx).sum((1, 3, 5))
    count = fz * fy * fx
    return np.asarray((2 * sums + count) // (2 * count)).astype(stack.dtype)


def pixels(path: Path, time: int = 0, setup: int = 0, level: int = 0) -> NDArray[Any]:
    """Return what h5py finds in a file of uint16 stacks."""
    with h5py.File(path) as file:
        cells = file[f"t{time:05d}/s{setup:02d}/{level}/cells"][()]
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
        assert writer.virtual_stacks is True


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
    writer.close()
    assert texts(tmp_path / "a.xml", ".//Channel/name") == ["488", "561"]
    writer.write_xml()
    assert texts(tmp_path / "a.xml", ".//Channel/name") == ["405", "640"]
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


# -- pixels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("by_name", [True, False])
def test_pixel_types(dtype: str, by_name: bool, tmp_path: Path) -> None:
    stack = noise(dtype=dtype)
    given = dtype if by_name else getattr(np, dtype)
    with BdvWriter(tmp_path / "a.h5", dtype=given, compression="gzip") as writer:
        assert writer.dtype == np.dtype(dtype)
        writer.append_view(stack)
        writer.write_xml()
    with h5py.File(tmp_path / "a.h5") as file:
        cells = file["t00000/s00/0/cells"]
        np.testing.assert_array_equal(cells[()].view(dtype), stack)
        if dtype == "uint16":
            assert (cells.dtype, dict(file["s00"].attrs)) == (np.int16, {})
        else:
            assert (cells.dtype, file["s00"].attrs["dataType"]) == (np.dtype(dtype), dtype.encode())
    with npy2bdv.BdvEditor(tmp_path / "a.xml", mode="r") as editor:
        np.testing.assert_array_equal(editor.read_view(), stack, strict=True)


def test_the_same_view_twice_replaces_it(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5", subsamp=((1, 1, 1), (2, 2, 2))) as writer:
        writer.append_view(noise(seed=1))
        larger = noise((9, 11, 13), seed=2)
        writer.append_view(larger)  # the only time point: it may have another shape
        writer.append_view(larger[::-1], time=1)
        writer.append_view(larger[:, ::-1])
        writer.write_xml()
        with pytest.raises(ValueError, match=r"View shape \(5, 6, 7\) differs from shape \(9, 11, 13\)"):
            writer.append_view(noise())
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), larger[:, ::-1])
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5", time=1), larger[::-1])
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=1), block_means(larger[:, ::-1], (2, 2, 2)))
    assert texts(tmp_path / "a.xml", ".//ViewSetup/size") == ["13 11 9"]


def test_setups_may_differ_in_shape(tmp_path: Path) -> None:
    shapes = [(5, 6, 7), (1, 1, 1), (8, 3, 300)]
    with BdvWriter(tmp_path / "a.h5", ntiles=3) as writer:
        for tile, shape in enumerate(shapes):
            writer.append_view(noise(shape), tile=tile)
        writer.write_xml()
    assert texts(tmp_path / "a.xml", ".//ViewSetup/size") == ["7 6 5", "1 1 1", "300 3 8"]
    for tile, shape in enumerate(shapes):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", setup=tile), noise(shape))


def test_fewer_blocks_than_levels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    levels = ((1, 1, 1), (1, 2, 2), (2, 4, 4))
    with (
        caplog.at_level(logging.INFO),
        BdvWriter(tmp_path / "a.h5", subsamp=levels, blockdim=((2, 4, 3), (1, 1, 1))) as writer,
    ):
        assert "2 blocks for 3 levels: the first serves all" in caplog.text
        assert writer.chunks == ((2, 4, 3),) * 3
        writer.append_view(noise((5, 33, 35)))
    with h5py.File(tmp_path / "a.h5") as file:
        assert [file[f"t00000/s00/{level}/cells"].chunks for level in range(3)] == [(2, 4, 3)] * 3
        assert file["s00/subdivisions"][()].tolist() == [[3, 4, 2]] * 3
        assert file["s00/resolutions"][()].tolist() == [[1, 1, 1], [2, 2, 1], [4, 4, 2]]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_pyramids_are_bright_at_odd_edges_and_rounded(compression: Any, tmp_path: Path) -> None:
    levels = ((1, 1, 1), (2, 3, 2), (3, 4, 8))
    stack = noise((7, 11, 13))
    with BdvWriter(
        tmp_path / "a.h5", subsamp=levels, blockdim=((4, 8, 8),) * 3, compression=compression, nchannels=2
    ) as writer:
        writer.append_view(stack)
        writer.append_view(np.full_like(stack, 3464), channel=1)
    for level, factors in enumerate(levels):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=level), block_means(stack, factors))
        assert (pixels(tmp_path / "a.h5", setup=1, level=level) == 3464).all()


def test_first_level_that_is_not_the_full_resolution(tmp_path: Path) -> None:
    stack = noise((5, 7, 9))
    with BdvWriter(tmp_path / "a.h5", subsamp=((1, 2, 2), (2, 4, 4)), nchannels=2) as writer:
        writer.append_view(stack)
        writer.append_view(None, virtual_stack_dim=(5, 7, 9), channel=1)
        for z in range(5):
            writer.append_plane(stack[z], z, channel=1)
        writer.write_xml()
    for setup in (0, 1):
        for level, factors in enumerate([(1, 2, 2), (2, 4, 4)]):
            np.testing.assert_array_equal(
                pixels(tmp_path / "a.h5", setup=setup, level=level), block_means(stack, factors)
            )
    assert texts(tmp_path / "a.xml", ".//ViewSetup/size") == ["9 7 5", "9 7 5"]


@pytest.mark.parametrize(
    ("given", "kept", "warned"),
    [
        (np.array([0, 3.0, 65535]), [0, 3, 65535], False),
        (np.array([0, 3, 65535], "int64"), [0, 3, 65535], False),
        (np.array([True, False, True]), [1, 0, 1], False),
        (np.array([0, 3.5, 1]), [0, 3, 1], True),
        (np.array([0, 1, 65536], "int64"), [0, 1, 0], True),
        (np.array([0, 1, -1], "int8"), [0, 1, 65535], True),
    ],
    ids=str,
)
def test_lossy_casts_warn(given: Any, kept: list[int], warned: bool, tmp_path: Path) -> None:
    text = (
        rf"^Values of {given.dtype} data change when cast to uint16 \(out of range or not integer\)\. "
        r"Rescale the data, or create BdvWriter with a matching dtype\.$"
    )
    with BdvWriter(tmp_path / "a.h5", ntiles=3) as writer:
        writer.append_view(None, virtual_stack_dim=(1, 1, 3), tile=1)
        writer.append_view(None, virtual_stack_dim=(1, 1, 3), tile=2)
        for write in (
            partial(writer.append_view, given.reshape(1, 1, 3)),
            partial(writer.append_plane, given.reshape(1, 3), 0, tile=1),
            partial(writer.append_substack, given.reshape(1, 1, 3), 0, tile=2),
        ):
            if warned:
                with pytest.warns(UserWarning, match=text) as caught:
                    write()
                assert [Path(each.filename) for each in caught] == [Path(__file__)]  # points at the script
            else:
                write()
    for tile in range(3):
        assert pixels(tmp_path / "a.h5", setup=tile).ravel().tolist() == kept


def test_lzf_warns_and_is_written(tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="lzf.*Fiji") as caught,
        BdvWriter(tmp_path / "a.h5", compression="lzf") as writer,
    ):
        writer.append_view(noise())
    assert [Path(each.filename) for each in caught] == [Path(__file__)]
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), noise())
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["t00000/s00/0/cells"].compression == "lzf"


# -- virtual stacks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
def test_planes_stream_into_levels_with_z_factors(order: str, tmp_path: Path) -> None:
    levels = ((1, 1, 1), (2, 2, 2), (4, 2, 4))
    stack = noise((11, 13, 14))
    places = {
        "up": np.arange(11),
        "down": np.arange(11)[::-1],
        "shuffled": np.random.default_rng(1).permutation(11),
    }
    with BdvWriter(
        tmp_path / "a.h5", subsamp=levels, blockdim=((4, 8, 8), (2, 4, 4), (2, 4, 4)), compression="gzip"
    ) as writer:
        writer.append_view(None, virtual_stack_dim=(11.0, 13.0, 14.0))  # type: ignore[arg-type]
        for z in places[order]:
            writer.append_plane(stack[z], z)  # numpy's integers, as scripts have them
    for level, factors in enumerate(levels):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=level), block_means(stack, factors))


def test_an_acquisition_loop_that_flushes(tmp_path: Path) -> None:
    """As mesoSPIM records: planes in order, the private file handle flushed every few planes."""
    levels = ((1, 1, 1), (2, 2, 2), (4, 4, 4))
    stacks = [noise((13, 17, 19), seed=tile) for tile in range(2)]
    with BdvWriter(tmp_path / "a.h5", ntiles=2, subsamp=levels, blockdim=((4, 8, 8),) * 3) as writer:
        for tile in range(2):
            writer.append_view(stack=None, virtual_stack_dim=(13, 17, 19), tile=tile)
        for tile, stack in enumerate(stacks):
            for z, plane in enumerate(stack):
                writer.append_plane(plane=plane, z=z, tile=tile)
                if (z + 1) % 5 == 0:
                    writer._file_object_h5.flush()
        writer.write_xml()
    for tile, stack in enumerate(stacks):
        for level, factors in enumerate(levels):
            np.testing.assert_array_equal(
                pixels(tmp_path / "a.h5", setup=tile, level=level), block_means(stack, factors)
            )


def test_the_private_file_handle_shows_what_came(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE)
        writer.append_plane(noise()[0], 0)
        file = writer._file_object_h5
        assert file
        cells = file["t00000/s00/0/cells"]
        assert isinstance(cells, h5py.Dataset)
        np.testing.assert_array_equal(cells[0].view("uint16"), noise()[0])
        assert "t00000" in file
        assert {"t00000", "s00"} <= set(file)
        assert Path(file.filename) == tmp_path / "a.h5"


def test_substacks_in_any_order_make_the_whole(tmp_path: Path) -> None:
    levels = ((1, 1, 1), (2, 2, 4))
    stack = noise((9, 10, 11))
    with BdvWriter(tmp_path / "a.h5", subsamp=levels, blockdim=((4, 8, 8),) * 2) as writer:
        writer.append_view(None, virtual_stack_dim=stack.shape)
        corners = [(z, y, x) for z in (0, 3, 6) for y in (0, 7) for x in (0, 5)]
        for number in np.random.default_rng(2).permutation(len(corners)):
            z, y, x = corners[number]
            writer.append_substack(stack[z : z + 3, y : y + 7, x : x + 6], z, y, x)
    for level, factors in enumerate(levels):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=level), block_means(stack, factors))


def test_the_camera_may_reuse_its_buffer(tmp_path: Path) -> None:
    stack = noise()
    buffer, frame = stack.copy(), np.empty(SHAPE[1:], "uint16")
    with BdvWriter(tmp_path / "a.h5", nchannels=2, compression="gzip") as writer:
        writer.append_view(buffer)
        buffer[:] = 0
        writer.append_view(None, virtual_stack_dim=SHAPE, channel=1)
        for z, plane in enumerate(stack):
            frame[:] = plane
            writer.append_plane(frame, z, channel=1)
            frame[:] = 0
    for setup in range(2):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", setup=setup), stack)


@pytest.mark.parametrize(
    "given", [np.asfortranarray(noise()), noise()[:, ::-1, ::-1], noise().astype(">u2"), noise().tolist()]
)
def test_memory_of_any_layout(given: Any, tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(given)
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), np.asarray(given))


def test_planes_that_never_come_are_zeros(tmp_path: Path) -> None:
    stack = noise()
    with BdvWriter(tmp_path / "a.h5", subsamp=((1, 1, 1), (2, 2, 2))) as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE)
        writer.append_plane(stack[3], 3)
    stack[[0, 1, 2, 4]] = 0
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), stack)
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=1), block_means(stack, (2, 2, 2)))


def test_a_plane_may_come_again(tmp_path: Path) -> None:
    stack = noise()
    with BdvWriter(tmp_path / "a.h5", subsamp=((1, 1, 1), (2, 2, 2))) as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE)
        for z in (0, 1, 2, 3, 4):
            writer.append_plane(stack[z], z)
        stack[1] = noise(seed=1)[1]
        writer.append_plane(stack[1], 1)
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), stack)
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=1), block_means(stack, (2, 2, 2)))


def test_a_given_stack_wins_over_virtual_stack_dim(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(noise(), virtual_stack_dim=(100, 100, 100))
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), noise())


# -- levels made afterwards ------------------------------------------------------------------------------


def test_create_pyramids(tmp_path: Path) -> None:
    stacks = [noise((9, 15, 17), seed=channel) for channel in range(2)]
    with BdvWriter(tmp_path / "a.h5", nchannels=3, blockdim=((2, 8, 8),)) as writer:
        for channel, stack in enumerate(stacks):
            writer.append_view(stack, channel=channel)
        writer.create_pyramids(((2, 2, 2), (4, 4, 8)), ((4, 4, 4),), "gzip")
        assert writer.nlevels == 3
        assert writer.subsamp.tolist() == [[1, 1, 1], [2, 2, 2], [4, 4, 8]]
        assert np.asarray(writer.chunks).tolist() == [[2, 8, 8], [4, 4, 4], [4, 4, 4]]
        assert writer.compression is None
        with pytest.raises(ValueError, match="there are 3 already"):
            writer.create_pyramids(((8, 8, 8),))
        writer.append_view(stacks[0], channel=2)  # later views have all levels
        writer.append_view(None, virtual_stack_dim=(9, 15, 17), time=1)
        for z, plane in enumerate(stacks[1]):
            writer.append_plane(plane, z, time=1)
    for time, setup, stack in ((0, 0, stacks[0]), (0, 1, stacks[1]), (0, 2, stacks[0]), (1, 0, stacks[1])):
        for level, factors in enumerate([(1, 1, 1), (2, 2, 2), (4, 4, 8)]):
            np.testing.assert_array_equal(
                pixels(tmp_path / "a.h5", time, setup, level), block_means(stack, factors)
            )
    with h5py.File(tmp_path / "a.h5") as file:
        filters = [file[f"t00000/s00/{level}/cells"].compression for level in range(3)]
        assert filters == [None, "gzip", "gzip"]
        assert file["s01/resolutions"][()].tolist() == [[1, 1, 1], [2, 2, 2], [8, 4, 4]]


def test_create_pyramids_between_planes(tmp_path: Path) -> None:
    stack = noise((8, 9, 10))
    with BdvWriter(tmp_path / "a.h5", nchannels=2) as writer:
        for channel in range(2):
            writer.append_view(None, virtual_stack_dim=stack.shape, channel=channel)
        for z in range(5):
            writer.append_plane(stack[z], z)
        writer.create_pyramids(((2, 2, 2),))
        for z in range(5, 8):
            writer.append_plane(stack[z], z)
        for z in range(8):
            writer.append_plane(stack[z], z, channel=1)
    for setup in range(2):
        for level, factors in enumerate([(1, 1, 1), (2, 2, 2)]):
            np.testing.assert_array_equal(
                pixels(tmp_path / "a.h5", 0, setup, level), block_means(stack, factors)
            )


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"filename": "a"}, ValueError, "names no dataset"),
        ({"filename": "a.tif"}, ValueError, "names no dataset"),
        ({"filename": "absent/a.h5"}, FileNotFoundError, "does not exist"),
        ({"compression": "zstd"}, ValueError, "'zstd' is not known"),
        ({"compression": ("gzip", 10)}, ValueError, "level 10 is not known"),
        ({"subsamp": ((1, 1, 1), (0, 1, 1))}, ValueError, r"at least 1.*\(0, 1, 1\)"),
        ({"subsamp": ((1, 1.5, 1),)}, ValueError, r"1\.5"),
        ({"subsamp": ((1, 1),)}, ValueError, r"\(1, 1\)"),
        ({"subsamp": ()}, ValueError, "no level is given"),
        ({"subsamp": ((1, 1, 1), (1, 1, 1))}, ValueError, "same factors"),
        ({"blockdim": ((4, 0, 256),)}, ValueError, r"\(4, 0, 256\)"),
        ({"ntiles": 0}, ValueError, "number of tiles is 0"),
        ({"nchannels": 1.5}, ValueError, "number of channels is 1.5"),
        ({"dtype": "complex64"}, ValueError, "complex64"),
        ({"dtype": "colour"}, ValueError, "'colour' is no pixel type"),
        ({"dtype": None}, ValueError, "None is no pixel type"),
    ],
    ids=str,
)
def test_a_writer_that_cannot_be(
    options: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    path = tmp_path / options.pop("filename", "a.h5")
    with pytest.raises(BdvError, match=text) as caught:
        BdvWriter(path, **options)
    assert isinstance(caught.value, error)
    assert not list(tmp_path.iterdir())

    if path.suffix == ".h5" and path.parent.is_dir():  # nor is an existing file lost
        path.write_bytes(b"precious")
        with pytest.raises(BdvError, match=text):
            BdvWriter(path, overwrite=True, **options)
        assert path.read_bytes() == b"precious"


def test_an_existing_h5_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"precious")
    for name in ("a.h5", "a.xml"):
        with pytest.raises(FileExistsError, match=r"a\.h5 already exists"):
            BdvWriter(tmp_path / name)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.h5", b"precious")]


PLANE, STACK = np.zeros(SHAPE[1:], "uint16"), np.zeros(SHAPE, "uint16")


@pytest.mark.parametrize(
    ("method", "arguments", "error", "text"),
    [
        ("append_view", {"stack": None, "time": 1}, ValueError, "virtual_stack_dim="),
        (
            "append_view",
            {"stack": None, "virtual_stack_dim": (5, 0, 7), "time": 1},
            ValueError,
            r"\(5, 0, 7\)",
        ),
        ("append_view", {"stack": None, "virtual_stack_dim": (5, 6), "time": 1}, ValueError, r"\(5, 6\)"),
        ("append_view", {"stack": PLANE, "time": 1}, ValueError, r"\(6, 7\)"),
        ("append_view", {"stack": STACK[None], "time": 1}, ValueError, r"\(1, 5, 6, 7\)"),
        ("append_view", {"stack": STACK[:0], "time": 1}, ValueError, r"\(0, 6, 7\)"),
        ("append_view", {"stack": STACK[1:], "time": 1}, ValueError, r"\(4, 6, 7\) differs"),
        ("append_view", {"stack": STACK.astype(complex), "time": 1}, TypeError, "complex128"),
        ("append_view", {"stack": STACK.astype(str), "time": 1}, TypeError, "<U5"),
        ("append_view", {"stack": STACK, "channel": 2}, IndexError, "channel 2"),
        ("append_view", {"stack": STACK, "channel": -1}, IndexError, "channel -1"),
        ("append_view", {"stack": STACK, "tile": 0.5}, IndexError, "tile 0.5"),
        ("append_view", {"stack": STACK, "time": -1}, IndexError, "time -1"),
        ("append_view", {"stack": STACK, "time": 1, "voxel_size_xyz": (1, 0, 1)}, ValueError, "voxel"),
        ("append_view", {"stack": STACK, "time": 1, "calibration": (1, 0, 1)}, ValueError, "0"),
        ("append_view", {"stack": STACK, "time": 1, "calibration": (1, 1)}, ValueError, "three"),
        ("append_plane", {"plane": PLANE, "z": 5}, IndexError, "z = 5"),
        ("append_plane", {"plane": PLANE, "z": -1}, IndexError, "z = -1"),
        ("append_plane", {"plane": PLANE, "z": 0.5}, IndexError, "z = 0.5"),
        ("append_plane", {"plane": PLANE[1:], "z": 0}, ValueError, r"\(5, 7\).*\(6, 7\)"),
        ("append_plane", {"plane": None, "z": 0}, TypeError, "object"),
        ("append_plane", {"plane": STACK, "z": 0}, ValueError, r"\(5, 6, 7\).*\(6, 7\)"),
        ("append_plane", {"plane": PLANE, "z": 0, "time": 1}, KeyError, "declare it first"),
        ("append_plane", {"plane": PLANE, "z": 0, "channel": 1}, KeyError, "declare it first"),
        ("append_plane", {"plane": PLANE, "z": 0, "angle": 1}, IndexError, "angle 1"),
        ("append_substack", {"substack": STACK, "z_start": 1}, ValueError, "z = 6"),
        ("append_substack", {"substack": STACK, "z_start": -1}, IndexError, "z = -1"),
        ("append_substack", {"substack": STACK, "z_start": 0, "y_start": -1}, IndexError, "y = -1"),
        ("append_substack", {"substack": STACK, "z_start": 0, "x_start": 1}, ValueError, "x = 8"),
        ("append_substack", {"substack": STACK[:0], "z_start": 0}, ValueError, "empty"),
        ("append_substack", {"substack": PLANE, "z_start": 0}, ValueError, r"\(6, 7\)"),
        ("append_substack", {"substack": STACK, "z_start": 0, "channel": 1}, KeyError, "declare it first"),
        ("create_pyramids", {"subsamp": ((1, 1, 1),)}, ValueError, "there already"),
        ("create_pyramids", {"subsamp": ((0, 1, 1),)}, ValueError, "at least 1"),
        ("create_pyramids", {"subsamp": ()}, ValueError, "no level is given"),
        ("create_pyramids", {"compression": "zstd"}, ValueError, "'zstd' is not known"),
        ("set_attribute_labels", {"attribute": "channels", "labels": ("a", "b")}, KeyError, "'channels'"),
        ("set_attribute_labels", {"attribute": "channel", "labels": ("a",)}, ValueError, "2 values"),
        ("set_attribute_labels", {"attribute": "channel", "labels": "ab"}, ValueError, "'ab'"),
        ("read_affine", {"time": 1}, KeyError, "time point 1"),
        ("read_affine", {"index": 1}, IndexError, "no transform 1"),
        ("append_affine", {"m_affine": SHIFT, "time": 1}, KeyError, "time point 1"),
        ("append_affine", {"m_affine": SHIFT, "channel": 2}, IndexError, "channel 2"),
    ],
    ids=short,
)
def test_calls_that_cannot_be(
    method: str, arguments: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    stack = noise()
    with BdvWriter(tmp_path / "a.h5", nchannels=2) as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE)
        writer.append_substack(stack, 0)
        writer.append_view(stack, channel=1)
        with pytest.raises(BdvError, match=text) as caught:
            getattr(writer, method)(**arguments)
        assert isinstance(caught.value, error)
        writer.write_xml()
    # and what is there stays as it was
    assert missing(tmp_path / "a.xml") == []
    for setup in range(2):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", setup=setup), stack)
    assert texts(tmp_path / "a.xml", ".//ViewSetup/size") == ["7 6 5"] * 2
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["s00/resolutions"][()].tolist() == [[1, 1, 1]]
        assert list(file["t00000/s00"]) == ["0"]


def test_blocks_of_4_gib_are_refused(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5", blockdim=((2**11, 2**10, 2**10),)) as writer:
        with pytest.raises(BdvError, match=r"4294967296 bytes.*smaller one"):
            writer.append_view(noise())
        assert writer.setup_id_present == [[False]]


def test_xml_without_views_is_refused(tmp_path: Path) -> None:
    with (
        BdvWriter(tmp_path / "a.h5") as writer,
        pytest.raises(ValueError, match="append_view before write_xml"),
    ):
        writer.write_xml()
    assert not (tmp_path / "a.xml").exists()


def test_checks_hold_under_python_o(tmp_path: Path) -> None:
    """The published package checked by `assert`, which `python -O` takes out."""
    script = """
import sys, numpy as np, npy2bdv
assert False, "this line does not run under -O"
stack = np.zeros((3, 4, 5), "uint16")
writer = npy2bdv.BdvWriter(sys.argv[1], nchannels=2)
writer.append_view(None, virtual_stack_dim=(3, 4, 5))
matrix = np.zeros((3, 4))
calls = [
    (npy2bdv.BdvWriter, (sys.argv[1],)),
    (npy2bdv.BdvWriter, (sys.argv[1] + ".h5", ((0, 1, 1),))),
    (npy2bdv.BdvWriter, (sys.argv[1] + ".h5", ((1, 1, 1),), ((4, 8, 8),), "zstd")),
    (writer.append_view, (stack[0],)),
    (writer.append_view, (stack, None, 0, 0, -1)),
    (writer.append_view, (stack, None, 0, 0, 1, 0, 0, matrix)),
    (writer.append_plane, (stack[0, 1:], 0)),
    (writer.append_plane, (stack[0], 3)),
    (writer.append_plane, (stack[0], -1)),
    (writer.append_substack, (stack, 1)),
    (writer.set_attribute_labels, ("channel", ("488",))),
    (writer.set_attribute_labels, ("colour", ("488", "561"))),
    (writer.append_affine, (matrix,)),
    (writer.read_affine, (1,)),
    (npy2bdv.BdvEditor, (sys.argv[1],)),
]
for number, (call, arguments) in enumerate(calls):
    try:
        call(*arguments)
    except npy2bdv.BdvError:
        continue
    sys.exit(f"call {number} went through")
writer.close()
"""
    run = subprocess.run(
        [sys.executable, "-O", "-c", script, str(tmp_path / "a.h5")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
