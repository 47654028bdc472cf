"""One script, run with the published npy2bdv and with ours: same datasets, and each reads the other's."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from judges.conftest import Judge, Script

SHAPE = (7, 19, 26)
FACTS = ("time", "illumination", "channel", "tile", "angle", "voxel_size_xyz", "shape_xyz")
SHIFT = np.array([[1, 0.25, 0, 12.5], [0, 1, 0, -3], [0, 0, 1, 1000.125]])


def random_stack(seed: int, dtype: str = "uint16") -> Any:
    return (np.random.default_rng(seed).random(SHAPE) * 200).astype(dtype)


def stacks(script: Script) -> None:
    """Stacks with everything that append_view takes, a view missing."""
    script.BdvWriter(
        filename="data.h5",
        nilluminations=2,
        nchannels=2,
        nangles=2,
        subsamp=[[1, 1, 1], [1, 2, 2], [2, 4, 4]],
        blockdim=[[4, 16, 16], [4, 8, 8], [2, 8, 8]],
        compression="gzip",
    )
    script.set_attribute_labels(attribute="channel", labels=["488", "561"])
    for time, where in itertools.product(range(2), np.ndindex(2, 2, 2)):
        if (time, where) != (1, (1, 0, 1)):
            script.append_view(
                stack=random_stack(time + sum(where)),
                time=time,
                illumination=where[0],
                channel=where[1],
                angle=where[2],
                m_affine=SHIFT + where[1],
                name_affine="stage",
                voxel_size_xyz=(0.5, 0.4, 2),
                voxel_units="um",
                calibration=(1, 1, 4),
                exposure_time=0.02,
                exposure_units="s",
            )
    script.write_xml(camera_name="Flash4", microscope_name="SPIM", microscope_version="3.1", user_name="me")
    script.append_affine(m_affine=SHIFT, name_affine="drift", time=1, channel=1)
    script.close()


def defaults(script: Script) -> None:
    """As few arguments as possible; a gap in time; a setup that never comes (the last one)."""
    script.BdvWriter(filename="data.h5", nchannels=3)
    script.append_view(stack=random_stack(1))
    script.append_view(stack=random_stack(2), channel=1, time=2)
    script.write_xml()
    script.close()


def virtual_stacks(script: Script) -> None:
    """Planes and substacks, in any order, some never written."""
    script.BdvWriter(filename="data.h5", ntiles=2, subsamp=[[1, 1, 1], [1, 2, 2]], blockdim=[[1, 16, 16]] * 2)
    for tile in range(2):
        script.append_view(stack=None, virtual_stack_dim=SHAPE, tile=tile)
    for z in (5, 0, 2):
        script.append_plane(plane=random_stack(1)[z], z=z)
    script.append_substack(substack=random_stack(2)[2:6, :9, 6:20], z_start=2, y_start=4, x_start=6, tile=1)
    script.write_xml()
    script.close()


def pyramids_afterwards(script: Script) -> None:
    """Raw stacks first, coarse levels later."""
    script.BdvWriter(filename="data.h5", nchannels=2, dtype="uint8")
    for channel in range(2):
        script.append_view(stack=random_stack(channel, "uint8"), channel=channel)
    script.create_pyramids(subsamp=[[2, 4, 4], [4, 8, 8]], blockdim=[[4, 16, 16]] * 2, compression="gzip")
    script.write_xml()
    script.close()


def floats(script: Script) -> None:
    """Pixels as float32, xml name given, labels set late."""
    script.BdvWriter(filename="data.xml", nangles=2, dtype="float32")
    for angle in range(2):
        script.append_view(stack=random_stack(angle, "float32"), angle=angle)
    script.write_xml()
    script.set_attribute_labels(attribute="angle", labels=["0", "90"])
    script.write_xml()
    script.close()


@pytest.mark.parametrize("recipe", [stacks, defaults, virtual_stacks, pyramids_afterwards, floats])
def test_same_script_same_dataset(
    recipe: Any, published: Judge, ours: Judge, script: Script, tmp_path: Path
) -> None:
    recipe(script)
    theirs_folder, ours_folder = tmp_path / "theirs", tmp_path / "ours"
    theirs_folder.mkdir()
    ours_folder.mkdir()

    assert ours.write(script, ours_folder) == published.write(script, theirs_folder)
    assert described(ours_folder / "data.xml") == described(theirs_folder / "data.xml")
    assert stored(ours_folder / "data.h5") == stored(theirs_folder / "data.h5")

    # all four pairs of writer and reader see the same
    pairs = itertools.product((theirs_folder, ours_folder), (published, ours))
    seen = [reader.read(folder / "data.xml") for folder, reader in pairs]
    for other in seen[1:]:
        assert_same_views(seen[0], other)


def described(xml: Path) -> list[Any]:
    """Return an XML as nested lists, numbers as numbers, without the library's version."""

    def plain(node: ElementTree.Element) -> list[Any]:
        attributes = {name: value for name, value in node.attrib.items() if name != "version"}
        return [node.tag, attributes, words(node.text or ""), *map(plain, node)]

    return plain(ElementTree.parse(xml).getroot())


def words(text: str) -> list[Any]:
    """Return the words of a text, numbers rounded to the six decimals that the published package keeps."""
    found: list[Any] = []
    for word in text.split():
        try:
            found.append(round(float(word), 6))
        except ValueError:
            found.append(word)
    return found


def stored(path: Path) -> dict[str, Any]:
    """Return what an HDF5 file holds of setups that have pixels: types, shapes, factors, attributes.

    Blocks may be clipped at the image, and subdivisions with them.
    """
    found: dict[str, Any] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and name.endswith("/cells"):
            setup = name.split("/")[1]
            group = item.file[setup]
            attributes = {key: np.asarray(value).tolist() for key, value in group.attrs.items()}
            found[name] = (item.dtype, item.shape, item.maxshape, item.compression)
            found[setup] = (group["resolutions"].dtype, group["resolutions"][()].tolist(), attributes)

    with h5py.File(path) as file:
        file.visititems(visit)
    assert found
    return found


def assert_same_views(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Check all views; lower levels may differ by rounding, and at borders, which the peer darkens."""
    assert ours["counts"] == theirs["counts"]
    assert len(ours["views"]) == len(theirs["views"])
    for one, other in zip(ours["views"], theirs["views"], strict=True):
        assert {name: one[name] for name in FACTS} == {name: other[name] for name in FACTS}
        np.testing.assert_allclose(one["transforms"], other["transforms"], atol=5e-7)
        np.testing.assert_array_equal(one["levels"][0], other["levels"][0], strict=True)
        for level, other_level in zip(one["levels"][1:], other["levels"][1:], strict=True):
            inner = tuple(slice(0, size - 1) for size in level.shape)
            assert (level.dtype, level.shape) == (other_level.dtype, other_level.shape)
            assert np.abs(level[inner].astype(float) - other_level[inner]).max() <= 1


def small_dataset(script: Script) -> None:
    script.BdvWriter(filename="data.h5", nchannels=2)
    script.append_view(stack=random_stack(1))
    script.append_view(stack=random_stack(2), channel=1, time=1)


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("append_view", {"stack": random_stack(1), "channel": 2}, "IndexError"),
        ("append_view", {"stack": random_stack(1)[:-1], "time": 1}, "ValueError"),
        ("append_view", {"stack": random_stack(1)[0]}, None),
        ("append_plane", {"plane": random_stack(1)[0], "z": 0}, None),
        ("append_substack", {"substack": random_stack(1), "z_start": 0}, None),
        ("create_pyramids", {"compression": "zstd"}, None),
        ("set_attribute_labels", {"attribute": "channel", "labels": ["488"]}, None),
        ("set_attribute_labels", {"attribute": "colour", "labels": ["488"]}, None),
    ],
)
def test_writer_refuses_what_the_published_one_refuses(
    method: str,
    arguments: dict[str, Any],
    error: str | None,
    published: Judge,
    ours: Judge,
    script: Script,
    tmp_path: Path,
) -> None:
    small_dataset(script)
    getattr(script, method)(**arguments)
    check_refusal(published, script, tmp_path / "theirs", error)
    assert "BdvError" in check_refusal(ours, script, tmp_path / "ours", error)


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("read_view", {"time": 1}, "KeyError"),
        ("read_view", {"time": 7}, "KeyError"),
        ("read_view", {"ilevel": 1}, "KeyError"),
        ("read_view", {"channel": 2}, "IndexError"),
        ("read_view", {"z": -1}, "ValueError"),
        ("read_view", {"z": SHAPE[0]}, "IndexError"),
        ("get_view_property", {"key": "colour"}, None),
        ("get_view_property", {"key": "voxel_size", "channel": 2}, "IndexError"),
        ("read_affine", {"time": 1}, None),
        ("read_affine", {"index": 1}, None),
        ("append_affine", {"m_affine": SHIFT[:, :3]}, None),
    ],
)
def test_editor_refuses_what_the_published_one_refuses(
    method: str,
    arguments: dict[str, Any],
    error: str | None,
    published: Judge,
    ours: Judge,
    script: Script,
    tmp_path: Path,
) -> None:
    small_dataset(script)
    script.write_xml()
    script.close()
    published.write(script, tmp_path)
    script.calls.clear()
    script.BdvEditor(filename="data.xml")
    getattr(script, method)(**arguments)
    check_refusal(published, script, tmp_path, error)
    assert "BdvError" in check_refusal(ours, script, tmp_path, error)


def check_refusal(judge: Judge, script: Script, folder: Path, error: str | None) -> list[str]:
    """Check that a script fails, and with the built-in that it could catch (None: the peer merely asserts)."""
    folder.mkdir(exist_ok=True)
    types = judge.refuse(script, folder)
    assert "Exception" in types
    assert error is None or error in types
    return types
