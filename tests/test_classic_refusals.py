"""`BdvWriter`: what is refused, with which error, and that what is there stays as it was."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

from npy2bdv import BdvError, BdvWriter

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (5, 6, 7)
SHIFT = np.array([[1.0, 0, 0, 1.5], [0, 1, 0, 0], [0, 0, 1, 3]])


def short(value: Any) -> str:
    """Return what names a test."""
    return "-".join(value) if isinstance(value, dict) else getattr(value, "__name__", str(value))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"filename": "a"}, ValueError, "names no dataset"),
        ({"filename": "a.tif"}, ValueError, "names no dataset"),
        pytest.param({"filename": "C:\\data\\a.h5"}, ValueError, "has a backslash", marks=pytest.mark.posix),
        ({"filename": "absent/a.h5"}, FileNotFoundError, "does not exist"),
        ({"compression": "zstd"}, ValueError, "'zstd' is not known"),
        ({"compression": ("gzip", 10)}, ValueError, "level 10 is not known"),
        ({"subsamp": ((1, 1, 1), (0, 1, 1))}, ValueError, r"at least 1.*\(0, 1, 1\)"),
        ({"subsamp": ((1, 1.5, 1),)}, ValueError, r"1\.5"),
        ({"subsamp": ((1, 1),)}, ValueError, r"\(1, 1\)"),
        ({"subsamp": ()}, ValueError, "no level is given"),
        ({"subsamp": ((1, 1, 1), (1, 1, 1))}, ValueError, "same factors"),
        ({"blockdim": ((4, 0, 256),)}, ValueError, r"\(4, 0, 256\)"),
        ({"blockdim": ((2**11, 2**10, 2**10),)}, ValueError, "4294967296 bytes.*smaller one"),
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
    stack = np.arange(5 * 6 * 7, dtype="uint16").reshape(SHAPE)
    with BdvWriter(tmp_path / "a.h5", nchannels=2) as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE)
        writer.append_substack(stack, 0)
        writer.append_view(stack, channel=1)
        with pytest.raises(BdvError, match=text) as caught:
            getattr(writer, method)(**arguments)
        assert isinstance(caught.value, error)
        writer.write_xml()
    # and what is there stays as it was
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert [node.text for node in root.findall(".//ViewSetup/size")] == ["7 6 5"] * 2
    assert root.find(".//MissingView") is None
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["s00/resolutions"][()].tolist() == [[1, 1, 1]]
        for setup in ("s00", "s01"):
            assert list(file["t00000"][setup]) == ["0"]
            np.testing.assert_array_equal(file[f"t00000/{setup}/0/cells"], stack)


def test_planes_of_a_view_that_is_no_longer_virtual_are_refused(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE)
        writer.append_view(STACK)
        with pytest.raises(KeyError, match="declare it first"):
            writer.append_plane(PLANE, 0)


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
