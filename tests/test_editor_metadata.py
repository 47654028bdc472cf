"""Edits of labels, voxel sizes, places and people; of what N5 and OME-Zarr say of these; removal; what is mended."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import tensorstore
import yaozarrs

import npy2bdv
from npy2bdv import ViewId
from npy2bdv.editor import session as session_module
from npy2bdv.errors import (
    ExistsError,
    FormatError,
    InUseError,
    InvalidInputError,
    MissingKeyError,
    NotFoundError,
    WriteError,
)
from npy2bdv.storage import pending, save
from npy2bdv.storage.pending import PendingEdit, record_path

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (4, 6, 8)
FORMATS: dict[str, dict[str, Any]] = {
    "hdf5": {},
    "n5": {"format": "n5"},
    "zarr2": {"format": "omezarr", "zarr_version": 2},
    "zarr3": {"format": "omezarr", "zarr_version": 3},
}

SUFFIXES = {"hdf5": ".h5", "n5": ".n5", "zarr2": ".ome.zarr", "zarr3": ".ome.zarr"}


def record(folder: Path, **format: Any) -> Path:  # noqa: A002
    """Two channels of two tiles, two time points; one view is missing."""
    path = folder / "scan.xml"
    with npy2bdv.create(path, levels=((1, 1, 1), (1, 2, 2)), **format) as writer:
        setups = [
            writer.add_setup(
                shape=SHAPE, channel=channel, tile=tile, voxel_size_xyz=(0.4, 0.5, 2.0), unit="µm"
            )
            for channel in ("488", "561")
            for tile in ("left", "right")
        ]
        for time in range(2):
            for setup in setups:
                if (time, setup) != (1, 3):
                    writer.write(np.full(SHAPE, setup + 1, np.uint16), setup=setup, time=time)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return record(tmp_path)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def setup_node(path: Path, setup: int) -> ElementTree.Element:
    (node,) = [
        each for each in ElementTree.parse(path).iter("ViewSetup") if each.findtext("id") == str(setup)
    ]
    return node


def entity_node(path: Path, attribute: str, id_: int) -> ElementTree.Element:
    (group,) = ElementTree.parse(path).findall(f".//Attributes[@name='{attribute}']")
    (node,) = [each for each in group if each.findtext("id") == str(id_)]
    return node


# -- what the XML says -----------------------------------------------------------------------------------


def test_every_edit_of_metadata_is_in_the_xml(scan: Path) -> None:
    with npy2bdv.edit(scan) as editor:
        editor.set_labels("channel", {"488": "GFP", 1: "RFP"})
        editor.set_location("left", (1.5, -2, 1 / 3))
        editor.set_angle(0, degrees=60, axis_xyz=(0, 1, 0))
        editor.rename_setup(2, "red left")
        editor.set_voxel_size((0.3, 0.3, 1.1), "nm", channel="RFP")
        editor.set_voxel_size(unit="mm", setup=0)
        editor.set_camera(name="Kinetix", exposure_time=0.01, tile="right")
        editor.set_camera(exposure_unit="ms", tile="right")
        editor.set_microscope(name="SPIM-1", version="3.2", user="me & you")
    assert [entity_node(scan, "channel", id_).findtext("name") for id_ in (0, 1)] == ["GFP", "RFP"]
    assert entity_node(scan, "tile", 0).findtext("location") == f"1.5 -2.0 {1 / 3!r}"
    angle = entity_node(scan, "angle", 0)
    assert (angle.findtext("axis"), angle.findtext("degrees")) == ("0.0 1.0 0.0", "60.0")
    assert setup_node(scan, 2).findtext("name") == "red left"
    voxels = [
        (node.findtext("size"), node.findtext("unit")) for node in ElementTree.parse(scan).iter("voxelSize")
    ]
    assert voxels == [("0.4 0.5 2.0", "mm"), ("0.4 0.5 2.0", "µm"), *[("0.3 0.3 1.1", "nm")] * 2]
    for setup, camera in ((1, ["Kinetix", "0.01", "ms"]), (3, ["Kinetix", "0.01", "ms"])):
        node = setup_node(scan, setup).find("camera")
        assert node is not None
        assert [each.text for each in node] == camera
    made = ElementTree.parse(scan).find("generatedBy/microscope")
    assert made is not None
    assert [each.text for each in made] == ["SPIM-1", "3.2", "me & you"]
    with npy2bdv.open(scan) as dataset:
        assert dataset.view(time=1, channel="RFP", tile="left").voxel_size_xyz == (0.3, 0.3, 1.1)


def test_a_location_is_forgotten_and_an_angle_changed_in_part(scan: Path) -> None:
    with npy2bdv.edit(scan) as editor:
        editor.set_location(1, (1, 2, 3))
        editor.set_angle(0, axis_xyz=(1, 0, 0))
        editor.set_angle(0, degrees=-5.5)
        editor.set_location(1, None)
    assert entity_node(scan, "tile", 1).find("location") is None
    assert entity_node(scan, "angle", 0).findtext("axis") == "1.0 0.0 0.0"
    assert entity_node(scan, "angle", 0).findtext("degrees") == "-5.5"


def test_attributes_that_setups_do_not_have_are_id_0(scan: Path) -> None:
    """BigStitcher supplies them, so that they can be described; then setups have to say so."""
    tree = ElementTree.parse(scan)
    for parent in tree.iter():
        for child in list(parent):
            if child.tag == "angle" or child.attrib.get("name") == "angle":
                parent.remove(child)
    tree.write(scan, encoding="utf-8")
    with npy2bdv.edit(scan) as editor:
        editor.set_angle(0, degrees=90)
    assert entity_node(scan, "angle", 0).findtext("degrees") == "90.0"
    assert [node.findtext("attributes/angle") for node in ElementTree.parse(scan).iter("ViewSetup")] == [
        "0"
    ] * 4


REFUSALS: dict[str, tuple[type[Exception], Callable[[npy2bdv.Editor], object]]] = {
    "channel 0 and 1 would both be called '561'": (
        InvalidInputError,
        lambda e: e.set_labels("channel", {"488": "561"}),
    ),
    "tile='up' selects nothing; the dataset has tile: 0 'left', 1 'right'": (
        MissingKeyError,
        lambda e: e.set_labels("tile", {"up": "x"}),
    ),
    "there is no attribute 'lens'": (MissingKeyError, lambda e: e.set_labels("lens", {0: "x"})),
    "the label of channel cannot be 'a.x00'": (
        InvalidInputError,
        lambda e: e.set_labels("channel", {0: "a\x00"}),
    ),
    "the label of channel is a text; found 488": (
        InvalidInputError,
        lambda e: e.set_labels("channel", {0: 488}),  # type: ignore[dict-item]
    ),
    "the label of tile is empty": (InvalidInputError, lambda e: e.set_labels("tile", {0: " "})),
    "give one label for each channel that is to be renamed; found {}": (
        InvalidInputError,
        lambda e: e.set_labels("channel", {}),
    ),
    "give one label for each channel that is": (
        InvalidInputError,
        lambda e: e.set_labels("channel", {"488": "a", 0: "b"}),
    ),
    "a location takes three finite numbers": (InvalidInputError, lambda e: e.set_location(0, (1, 2))),
    "a location takes three finite numbers .*'abc'": (
        InvalidInputError,
        lambda e: e.set_location(0, "abc"),  # type: ignore[arg-type]
    ),
    "three finite numbers .*nan": (InvalidInputError, lambda e: e.set_location(0, (1, 2, float("nan")))),
    "give degrees=, axis_xyz= or both": (InvalidInputError, lambda e: e.set_angle(0)),
    "degrees is a finite number; found inf": (
        InvalidInputError,
        lambda e: e.set_angle(0, degrees=float("inf")),
    ),
    "is no axis": (InvalidInputError, lambda e: e.set_angle(0, axis_xyz=(0, 0, 0))),
    "no setup 9": (MissingKeyError, lambda e: e.rename_setup(9, "x")),
    "give size_xyz=, unit= or both": (InvalidInputError, lambda e: e.set_voxel_size()),
    "three sizes above 0": (InvalidInputError, lambda e: e.set_voxel_size((1, 1, 0))),
    "time=1 selects views, but this is one of all time points": (
        InvalidInputError,
        lambda e: e.set_voxel_size((1, 1, 1), time=1),
    ),
    "no finite time of 0 or more": (InvalidInputError, lambda e: e.set_camera(exposure_time=-1)),
    "give name=, exposure_time= or exposure_unit=": (InvalidInputError, lambda e: e.set_camera()),
    "give name=, version= or user=": (InvalidInputError, lambda e: e.set_microscope()),
    "is no folder below that of the XML": (InvalidInputError, lambda e: e.set_base_path("../elsewhere")),
    "is no folder below": (InvalidInputError, lambda e: e.set_base_path("C:\\pixels")),
    "pixel file .*inner.scan.h5, which is not there": (NotFoundError, lambda e: e.set_base_path("inner")),
    "these are all views": (InvalidInputError, lambda e: e.remove_views()),
    "these are all setups": (InvalidInputError, lambda e: e.remove_setups()),
    "setup=9 selects nothing": (MissingKeyError, lambda e: e.remove_setups(setup=9)),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_bad_input_says_what_is_wrong_and_changes_nothing(message: str, scan: Path) -> None:
    kind, refused = REFUSALS[message]
    before = snapshot(scan.parent)
    with npy2bdv.edit(scan) as editor:
        with pytest.raises(kind, match=message):
            refused(editor)
        assert not editor.changed
    assert snapshot(scan.parent) == before


def test_metadata_in_a_form_of_other_programs_are_kept_and_not_doubled(scan: Path) -> None:
    text = scan.read_text(encoding="utf-8")
    text = text.replace("<camera>", "<camera><pixels>6.5 um</pixels>").replace(
        "<generatedBy>", "<generatedBy><program>X</program>"
    )
    scan.write_text(text, encoding="utf-8")
    with npy2bdv.edit(scan) as editor:
        with pytest.raises(InvalidInputError, match="form of another program"):
            editor.set_camera(name="x")
        with pytest.raises(InvalidInputError, match="form of another program"):
            editor.set_microscope(user="x")
        editor.rename_setup(0, "x")
    assert len(ElementTree.parse(scan).findall("generatedBy/program")) == 1
    assert len(ElementTree.parse(scan).findall(".//ViewSetup/camera/pixels")) == text.count("<pixels>")


def test_the_base_path(scan: Path) -> None:
    inner = scan.parent / "pixels of 1#2"
    inner.mkdir()
    shutil.move(scan.with_suffix(".h5"), inner)
    with npy2bdv.edit(scan) as editor:
        editor.set_base_path("pixels of 1#2/")
    base = ElementTree.parse(scan).find("BasePath")
    assert base is not None
    assert (base.text, base.attrib) == ("pixels%20of%201%232/", {"type": "relative"})
    with npy2bdv.open(scan) as dataset:
        assert dataset.view(setup=1)[0, 0, 0] == 2
    shutil.move(inner / "scan.h5", scan.parent)
    with npy2bdv.edit(scan) as editor:
        editor.set_base_path(".")
    with npy2bdv.open(scan) as dataset:
        assert dataset.view(setup=1)[0, 0, 0] == 2


# -- what pixels say of themselves -----------------------------------------------------------------------


def attributes_of(image: Path) -> dict[str, Any]:
    """Return what NGFF says of an image, in either version."""
    if (image / "zarr.json").is_file():
        found: dict[str, Any] = json.loads((image / "zarr.json").read_bytes())["attributes"]["ome"]
    else:
        found = json.loads((image / ".zattrs").read_bytes())
    return found


def levels_of(image: Path) -> list[tuple[list[float], list[float]]]:
    """Return scale and translation (z, y, x) of each level."""
    return [
        tuple(step[step["type"]][-3:] for step in each["coordinateTransformations"])
        for each in attributes_of(image)["multiscales"][0]["datasets"]
    ]


@pytest.mark.parametrize("format", ["zarr2", "zarr3"])
def test_ome_zarr_follows_voxel_size_unit_and_channel(format: str, tmp_path: Path) -> None:  # noqa: A002
    path = record(tmp_path, **FORMATS[format])
    container = tmp_path / "scan.ome.zarr"
    before = snapshot(container)
    with npy2bdv.edit(path) as editor:
        editor.set_voxel_size((0.3, 0.7, 1.1), channel="488")
        editor.set_voxel_size(unit="nm", channel="488")
        editor.set_labels("channel", {"488": "640 nm"})
        n_bytes = editor.preview().pixel_nbytes
        assert snapshot(container) == before
    after = snapshot(container)
    changed = {name for name in after if after[name] != before.get(name)}
    metadata = "zarr.json" if format == "zarr3" else ".zattrs"
    assert changed == {
        os.path.join(f"s{setup}-t{time}.zarr", metadata) for time in (0, 1) for setup in (0, 1)
    }
    assert after.keys() == before.keys()
    assert n_bytes == sum(len(after[name]) for name in changed)
    for setup in (0, 1):
        image = container / f"s{setup}-t1.zarr"
        assert levels_of(image) == [
            ([1.1, 0.7, 0.3], [0, 0, 0]),
            ([1.1, 1.4, 0.6], [0, 0.35, 0.15]),
        ]
        said = attributes_of(image)
        assert [axis.get("unit") for axis in said["multiscales"][0]["axes"]] == [
            None,
            None,
            *["nanometer"] * 3,
        ]
        assert [(each["label"], each["color"]) for each in said["omero"]["channels"]] == [
            ("640 nm", "FF00FF")
        ]
        kind = yaozarrs.v05.Image if format == "zarr3" else yaozarrs.v04.Image
        yaozarrs.validate_ome_object(said, kind)
    assert attributes_of(container / "s2-t0.zarr")["omero"]["channels"][0]["label"] == "561"
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(time=1, setup=1)[...], 2)
        assert dataset.view(setup=1).level(1).factors == (1, 2, 2)


def test_ome_zarr_of_bigstitcher_keeps_what_is_not_ours(tmp_path: Path) -> None:
    """Its scales and translations are in pixels of the full resolution; it gives no channels; keys are its own."""
    path = record(tmp_path, **FORMATS["zarr2"])
    image = tmp_path / "scan.ome.zarr/s0-t0.zarr"
    said = {
        "multiscales": [
            {
                "name": "/",
                "version": "0.4",
                "axes": [
                    {"name": name, "type": kind, "discrete": False, **unit}
                    for name, kind, unit in [
                        ("t", "time", {"unit": "millisecond"}),
                        ("c", "channel", {}),
                        *[(axis, "space", {"unit": "micrometer"}) for axis in "zyx"],
                    ]
                ],
                "datasets": [
                    {
                        "path": str(level),
                        "coordinateTransformations": [
                            {"scale": [1.0, 1.0, 1.0, f, f], "type": "scale"},
                            {"translation": [0.0, 0.0, 0.0, (f - 1) / 2, (f - 1) / 2], "type": "translation"},
                        ],
                    }
                    for level, f in enumerate((1.0, 2.0))
                ],
                "coordinateTransformations": [{"scale": [1.0] * 5, "type": "scale"}],
                "basePath": "",
                "paths": ["0", "1"],
            },
            {"name": "another"},
        ],
        "Bigstitcher-Spark": {"x": [1, 2]},
    }
    (image / ".zattrs").write_text(json.dumps(said))
    (tmp_path / "scan.ome.zarr/.zmetadata").write_text(
        "{}"
    )  # a copy of all metadata, which would be outdated
    with npy2bdv.edit(path) as editor:
        editor.set_voxel_size((0.3, 0.7, 1.1), "px")
        editor.set_labels("channel", {0: "GFP"})
    assert levels_of(image) == [([1.1, 0.7, 0.3], [0, 0, 0]), ([1.1, 1.4, 0.6], [0, 0.35, 0.15])]
    after = json.loads((image / ".zattrs").read_bytes())
    assert [axis.get("unit") for axis in after["multiscales"][0]["axes"]] == ["millisecond", *[None] * 4]
    for each in (said, after):  # the rest is equal
        for dataset in each["multiscales"][0]["datasets"]:  # type: ignore[index]
            dataset["coordinateTransformations"] = None
        for axis in each["multiscales"][0]["axes"][2:]:  # type: ignore[index]
            axis.pop("unit", None)
    assert after == said
    assert not (tmp_path / "scan.ome.zarr/.zmetadata").exists()


@pytest.mark.parametrize(
    ("damage", "refused"),
    [
        ({}, False),
        ({"multiscales": []}, False),
        ({"multiscales": [{"datasets": [{"path": "0"}]}]}, False),
        ({"omero": {"channels": "?"}}, False),
        ({"multiscales": [{"datasets": [{"path": "0", "coordinateTransformations": [1]}]}]}, True),
        ({"omero": 5}, True),
    ],
)
def test_images_that_describe_themselves_badly(damage: dict[str, Any], refused: bool, tmp_path: Path) -> None:
    """What says nothing has nothing to change; what is damaged is refused before anything is written."""
    path = record(tmp_path, **FORMATS["zarr2"])
    (tmp_path / "scan.ome.zarr/s0-t0.zarr/.zattrs").write_text(json.dumps(damage))
    before = snapshot(tmp_path)
    with npy2bdv.edit(path) as editor:
        editor.set_voxel_size((1, 1, 1), "nm")
        editor.set_labels("channel", {0: "GFP"})
        if refused:
            with pytest.raises(
                FormatError, match=r"s0-t0\.zarr: what it says of voxels and channels is damaged"
            ):
                editor.commit()
            editor.discard()
    after = snapshot(tmp_path)
    name = str(Path("scan.ome.zarr/s0-t0.zarr/.zattrs"))
    assert after[name] == before[name]
    assert (after == before) == refused


def test_views_that_share_an_image_have_a_channel_each(tmp_path: Path) -> None:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path, **FORMATS["zarr2"]) as writer:
        for channel in ("a", "b"):
            writer.write(np.ones(SHAPE, "uint16"), setup=writer.add_setup(shape=SHAPE, channel=channel))
    image = tmp_path / "scan.ome.zarr/s0-t0.zarr"
    said = json.loads((image / ".zattrs").read_bytes())
    (channel,) = said["omero"]["channels"]
    said["omero"]["channels"] = [{**channel, "label": name} for name in "ab"]
    (image / ".zattrs").write_text(json.dumps(said))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('path="s1-t0.zarr" indicies="0 0"', 'path="s0-t0.zarr" indicies="1 0"'))
    with npy2bdv.edit(path) as editor:
        editor.set_labels("channel", {"a": "A", "b": "B"})
    after = json.loads((image / ".zattrs").read_bytes())
    assert [each["label"] for each in after["omero"]["channels"]] == ["A", "B"]


def test_n5_follows_the_voxel_size_and_its_cache_goes(tmp_path: Path) -> None:
    path = record(tmp_path, **FORMATS["n5"])
    container = tmp_path / "scan.n5"
    view = container / "setup0/timepoint1/attributes.json"
    view.write_text(json.dumps({**json.loads(view.read_bytes()), "saved_completely": True}))
    cache = container / "attributes_cache.json"
    cache.write_text("{}")
    with npy2bdv.edit(path) as editor:  # nothing that N5 says
        editor.set_labels("channel", {"488": "GFP"})
        editor.insert_transform(np.eye(4))
    assert cache.exists()
    before = snapshot(container)
    with npy2bdv.edit(path) as editor:
        editor.set_voxel_size((0.3, 0.7, 1.1), "nm", setup=0)
    after = snapshot(container)
    assert not cache.exists()
    changed = {name.replace(os.sep, "/") for name in after if after[name] != before[name]}
    assert changed == {f"setup0/timepoint{time}/attributes.json" for time in (0, 1)}
    assert json.loads(view.read_bytes()) == {
        "multiScale": True,
        "resolution": [0.3, 0.7, 1.1],
        "units": ["nm"] * 3,
        "saved_completely": True,
    }
    store = tensorstore.open(
        {"driver": "n5", "kvstore": {"driver": "file", "path": str(view.parent / "s1")}}, read=True
    ).result()
    assert store.shape == (4, 3, 4)


def test_pixels_in_another_folder_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "pixels").mkdir()
    (tmp_path / "here").mkdir()
    path = Path(shutil.move(record(tmp_path / "pixels", **FORMATS["n5"]), tmp_path / "here"))
    text = path.read_text(encoding="utf-8").replace(">scan.n5<", ">../pixels/scan.n5<")
    path.write_text(text, encoding="utf-8")
    before = snapshot(tmp_path / "pixels")
    with npy2bdv.edit(path) as editor:
        editor.set_voxel_size((1, 1, 1))
        assert "in the XML only: the pixels are" in str(editor.preview())
        assert snapshot(tmp_path / "pixels") == before
    assert snapshot(tmp_path / "pixels") == before
    assert ElementTree.parse(path).findtext(".//n5") == "../pixels/scan.n5"
    with npy2bdv.open(path) as dataset:
        assert dataset.view(setup=0).voxel_size_xyz == (1, 1, 1)


# -- removal ---------------------------------------------------------------------------------------------

SECTIONS = """
<ViewInterestPoints>
  <ViewInterestPointsFile timepoint="0" setup="0" label="beads" params="a">tpId_0_viewSetupId_0/beads</ViewInterestPointsFile>
  <ViewInterestPointsFile timepoint="1" setup="1" label="beads" params="b">tpId_1_viewSetupId_1/beads</ViewInterestPointsFile>
</ViewInterestPoints>
<BoundingBoxes><BoundingBoxDefinition name="box"><min>0 0 0</min><max>9 9 9</max></BoundingBoxDefinition></BoundingBoxes>
<PointSpreadFunctions>
  <BoundingBoxDefinition timepoint="0" setup="1"><File>psf.tif</File></BoundingBoxDefinition>
</PointSpreadFunctions>
<StitchingResults>
  <PairwiseResult view_setup_a="0" view_setup_b="1" tp_a="0" tp_b="0"><shift>1 0 0 1 0 1 0 2 0 0 1 3</shift></PairwiseResult>
  <PairwiseResult view_setup_a="0,2" view_setup_b="1,3" tp_a="0,0" tp_b="0,0"><shift>9 9 9</shift></PairwiseResult>
  <PairwiseResult view_setup_a="0" view_setup_b="2" tp_a="0" tp_b="0"><shift>4 5 6</shift><hash>0.1</hash></PairwiseResult>
</StitchingResults>
<IntensityAdjustments>
  <IntensityAdjustments timepoint="1" setup="2"><model>1.0 2.0</model></IntensityAdjustments>
</IntensityAdjustments>
"""  # noqa: E501


def with_sections(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("</SpimData>", f"{SECTIONS}</SpimData>"), encoding="utf-8")


def entries(path: Path) -> list[str]:
    """Return what BigStitcher's sections hold, each in a word."""
    words = {
        "ViewInterestPointsFile": "points {timepoint} {setup}",
        "PairwiseResult": "pair {view_setup_a}-{view_setup_b}",
        "IntensityAdjustments": "intensity {timepoint} {setup}",
    }
    found = []
    for section in list(ElementTree.parse(path).getroot())[-5:]:
        for child in section:
            word = words.get(child.tag, "box" if "name" in child.attrib else "psf {timepoint} {setup}")
            found.append(word.format(**child.attrib))
    return found


def pairs_of(path: Path, tag: str) -> set[tuple[str, str]]:
    return {(node.attrib["timepoint"], node.attrib["setup"]) for node in ElementTree.parse(path).iter(tag)}


def test_a_removed_view_is_a_missing_view(scan: Path) -> None:
    with_sections(scan)
    with npy2bdv.edit(scan) as editor:
        editor.remove_views(time=0, setup=1)
        with pytest.raises(MissingKeyError, match="missing"):
            editor.remove_views(view=(0, 1))
        assert ViewId(0, 1) not in editor.transforms()
    assert pairs_of(scan, "MissingView") == {("1", "3"), ("0", "1")}
    assert ("0", "1") not in pairs_of(scan, "ViewRegistration")
    assert len(pairs_of(scan, "ViewRegistration")) == 6
    assert entries(scan) == ["points 0 0", "points 1 1", "box", "pair 0-2", "intensity 1 2"]
    with npy2bdv.open(scan) as dataset:
        assert len(dataset) == 6
        with pytest.raises(MissingKeyError, match="missing view"):
            dataset.view(time=0, setup=1)


def test_a_removed_setup_leaves_no_trace_in_the_xml(scan: Path) -> None:
    with_sections(scan)
    before = scan.with_suffix(".h5").read_bytes()
    with npy2bdv.edit(scan) as editor:
        editor.remove_setups(setup=[1, 3], keep_pixels=True)
        assert "in the XML only" in str(editor.preview())
    assert [node.findtext("id") for node in ElementTree.parse(scan).iter("ViewSetup")] == ["0", "2"]
    assert pairs_of(scan, "MissingView") == set()
    assert pairs_of(scan, "ViewRegistration") == {(time, setup) for time in "01" for setup in "02"}
    assert entries(scan) == ["points 0 0", "box", "pair 0-2", "intensity 1 2"]
    root = ElementTree.parse(scan)
    assert [node.text for node in root.findall(".//Tile/name")] == ["left"]  # no setup is called otherwise
    assert [node.text for node in root.findall(".//Channel/name")] == ["488", "561"]
    assert scan.with_suffix(".h5").read_bytes() == before
    with npy2bdv.open(scan) as dataset:
        assert dataset.view(time=1, channel="561")[0, 0, 0] == 3


def stored(path: Path) -> set[ViewId]:
    """Return the views that have files, or groups in a file, whatever the XML says; -1 for what describes a setup."""
    if path.with_suffix(".h5").is_file():
        with h5py.File(path.with_suffix(".h5")) as file:
            found = {f"{time}/{setup}" for time in file if time[0] == "t" for setup in file[time]}
            setups = {int(name[1:]) for name in file if name[0] == "s"}
        views = {ViewId(int(name[1:6]), int(name[8:])) for name in found}
        return views | {ViewId(-1, setup) for setup in setups}
    if path.with_suffix(".n5").is_dir():
        root = path.with_suffix(".n5")
        pairs = [each.relative_to(root).parts for each in root.glob("setup*/timepoint*")]
        views = {ViewId(int(time[9:]), int(setup[5:])) for setup, time in pairs}
        return views | {ViewId(-1, int(each.name[5:])) for each in root.glob("setup*")}
    images = [
        re.fullmatch(r"s(\d+)-t(\d+)\.zarr", each.name) for each in path.with_suffix(".ome.zarr").iterdir()
    ]
    return {ViewId(int(each[2]), int(each[1])) for each in images if each}


@pytest.mark.parametrize("format", FORMATS)
def test_pixels_go_with_what_is_removed(format: str, tmp_path: Path) -> None:  # noqa: A002
    path = record(tmp_path, **FORMATS[format])
    before = stored(path)
    with npy2bdv.open(path) as dataset:
        kept = {view.id: view[...] for view in dataset}
    with npy2bdv.edit(path) as editor:
        editor.remove_setups(setup=1)
        editor.remove_views(view=(0, 2))
        editor.set_labels("channel", {"488": "GFP"})  # in the same commit, of views that go and of others
        editor.crop(zyx=(None, None, (2, None)), setup=3)
        assert stored(path) == before
    assert stored(path) == {view for view in before if view.setup != 1 and view != (0, 2)}
    with npy2bdv.open(path) as dataset:
        assert {view.id for view in dataset} == {view for view in kept if view.setup != 1 and view != (0, 2)}
        for view in dataset:
            expected = kept[view.id]
            np.testing.assert_array_equal(view[...], expected[..., 2:] if view.id.setup == 3 else expected)
    assert not [each.name for each in tmp_path.iterdir() if "edit" in each.name]


@pytest.mark.parametrize("format", FORMATS)
def test_pixels_stay_where_that_is_asked_for(format: str, tmp_path: Path) -> None:  # noqa: A002
    path = record(tmp_path, **FORMATS[format])
    before = snapshot(tmp_path)
    with npy2bdv.edit(path) as editor:
        editor.remove_setups(setup=1, keep_pixels=True)
        editor.remove_views(view=(0, 2), keep_pixels=True)
        assert str(editor.preview()).count("(in the XML only)") == 2
    changed = {name for name, each in snapshot(tmp_path).items() if before.get(name) != each}
    assert changed - {f"{each.name}.lock" for each in tmp_path.iterdir()} == {"scan.xml", "scan.xml~1"}


def test_a_removed_setup_goes_from_loaders_that_list_it(tmp_path: Path) -> None:
    path = record(tmp_path, **FORMATS["zarr2"])
    with npy2bdv.edit(path) as editor:
        editor.remove_setups(channel="561")
        editor.remove_views(view=(1, 0))
    groups = {(node.attrib["tp"], node.attrib["setup"]) for node in ElementTree.parse(path).iter("zgroup")}
    assert groups == {("0", "0"), ("0", "1"), ("1", "1")}


def test_a_removed_setup_goes_from_partitions(scan: Path) -> None:
    text = scan.read_text(encoding="utf-8")
    parts = "".join(
        f'<partition><path type="relative">{name}.h5</path><timepoints>0 1</timepoints><setups>{setups}</setups>'
        f"<setupsMapped>{mapped}</setupsMapped></partition>"
        for name, setups, mapped in (("a", "0 1 2", "5 6 7"), ("b", "3", "0"))
    )
    scan.write_text(text.replace("</ImageLoader>", f"{parts}</ImageLoader>"), encoding="utf-8")
    with npy2bdv.edit(scan) as editor:
        editor.remove_setups(setup=[1, 3])
    (part,) = ElementTree.parse(scan).iter("partition")
    assert [part.findtext(tag) for tag in ("path", "setups", "setupsMapped", "timepoints")] == [
        "a.h5",
        "0 2",
        "5 7",
        "0 1",
    ]


# -- saving ----------------------------------------------------------------------------------------------


def test_what_bigstitcher_multiplies_is_mended(scan: Path) -> None:
    with_sections(scan)
    text = scan.read_text(encoding="utf-8")
    tile = "<name>left</name>"
    assert text.count(tile) == 1
    text = text.replace(tile, f"{tile}<location>1.0 2.0 3.0</location><location>7.0 8.0 9.0</location>")
    pair = '<PairwiseResult view_setup_a="0" view_setup_b="2" tp_a="0" tp_b="0"><shift>{}</shift></PairwiseResult>'
    old, new = pair.format("0 0 0"), pair.format("7 7 7")
    text = text.replace("<StitchingResults>", f"<StitchingResults>{old}{old}").replace(
        "</StitchingResults>", f"{new}</StitchingResults>"
    )
    scan.write_text(text, encoding="utf-8")
    with npy2bdv.edit(scan) as editor:
        editor.rename_setup(0, "x")
    assert [node.text for node in ElementTree.parse(scan).findall(".//Tile/location")] == ["1.0 2.0 3.0"]
    results = ElementTree.parse(scan).findall("StitchingResults/PairwiseResult")
    assert sorted((node.attrib["view_setup_b"], node.findtext("shift")) for node in results) == [
        ("1", "1 0 0 1 0 1 0 2 0 0 1 3"),
        ("1,3", "9 9 9"),
        ("2", "7 7 7"),
    ]


def test_unknown_elements_survive_every_edit(scan: Path) -> None:
    with_sections(scan)
    text = scan.read_text(encoding="utf-8")
    marks = 0
    for place in (
        "<SequenceDescription>", "<ViewSetups>", "<name>setup 0</name>", "<name>488</name>", "<name>left</name>",
        '<Attributes name="tile">', "</Timepoints>", "<MissingViews>", "<ViewRegistrations>",
        '<ViewRegistration timepoint="0" setup="0">', "<StitchingResults>", "</SpimData>",
    ):  # fmt: skip
        assert text.count(place) == 1, place
        mark = f'<unknown{marks} kind="a &amp; b"><inner>{marks}</inner></unknown{marks}>'
        text = text.replace(place, mark + place if place.startswith("</") else place + mark)
        marks += 1
    scan.write_text(text, encoding="utf-8")
    with npy2bdv.edit(scan) as editor:
        editor.set_labels("channel", {"488": "GFP"})
        editor.set_location("left", (1, 2, 3))
        editor.set_voxel_size((1, 1, 1), "mm")
        editor.set_camera(name="x")
        editor.set_microscope(user="x")
        editor.rename_setup(0, "zero")
        editor.insert_transform(np.eye(4))
        editor.compose_transforms()
        editor.remove_views(view=(1, 0))
        editor.remove_setups(setup=3)
    root = ElementTree.parse(scan).getroot()
    for number in range(marks):
        (node,) = root.iter(f"unknown{number}")
        assert (node.attrib, node.findtext("inner")) == ({"kind": "a & b"}, str(number))
    parents = {child.tag: parent.tag for parent in root.iter() for child in parent if "unknown" in child.tag}
    original = ElementTree.fromstring(text)
    assert parents == {
        child.tag: parent.tag for parent in original.iter() for child in parent if "unknown" in child.tag
    }


def test_backups_are_rotated_once_a_session(scan: Path) -> None:
    texts = [scan.read_bytes()]
    for session in range(7):
        with npy2bdv.edit(scan) as editor:
            for number in range(3):
                editor.rename_setup(0, f"{session} {number}")
                editor.commit()
        texts.append(scan.read_bytes())
    kept = [scan.with_name(f"scan.xml~{number}").read_bytes() for number in range(1, 6)]
    assert kept == texts[-2:-7:-1]
    assert not scan.with_name("scan.xml~6").exists()


def test_a_change_by_another_program_is_not_overwritten(scan: Path) -> None:
    with npy2bdv.edit(scan) as editor:
        editor.rename_setup(0, "ours")
        theirs = scan.read_text(encoding="utf-8").replace("<name>setup 1</name>", "<name>theirs</name>")
        assert "theirs" in theirs
        scan.write_text(theirs, encoding="utf-8")
        with pytest.raises(
            InUseError, match="changed by another program since it was opened; nothing was written"
        ):
            editor.commit()
        scan.unlink()
        with pytest.raises(NotFoundError, match="has been removed"):
            editor.commit()
        scan.write_text(theirs, encoding="utf-8")
        editor.discard()
    assert scan.read_text(encoding="utf-8") == theirs
    assert not scan.with_name("scan.xml~1").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_leaves_everything_as_it_was(
    format: str,  # noqa: A002
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = record(tmp_path, **FORMATS[format])
    before = snapshot(tmp_path)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with npy2bdv.edit(path) as editor:
        editor.set_voxel_size((9, 9, 9))
        editor.set_labels("channel", {"488": "GFP"})
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(WriteError, match=r"No space left.*as it was, and the edits are kept"):
                editor.commit()
        found = snapshot(tmp_path)
        if format == "hdf5":  # all else is in the record, which comes before
            assert found.pop("scan.xml~1") == before["scan.xml"]
        assert {name: each for name, each in found.items() if not name.endswith(".lock")} == before
        editor.commit()
    assert "GFP" in path.read_text(encoding="utf-8")
    with npy2bdv.open(path) as dataset:
        assert dataset.view(channel="GFP", tile="left").voxel_size_xyz == (9, 9, 9)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("where", ["before", "after"])
def test_ctrl_c_at_the_instant_of_the_commit(
    where: str,
    format: str,  # noqa: A002
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has happened or not, the session knows which, and goes on."""
    path = record(tmp_path, **FORMATS[format])
    before = path.read_bytes()
    module, name = (session_module, "replace_file") if format == "hdf5" else (PendingEdit, "commit")
    call = getattr(module, name)

    def interrupted(*given: Any, **options: Any) -> None:
        if where == "after":
            call(*given, **options)
        raise KeyboardInterrupt

    with npy2bdv.edit(path) as editor:
        editor.set_voxel_size((9, 9, 9))
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                editor.commit()
        assert editor.changed == (where == "before")
        assert (path.read_bytes() == before) == (where == "before")
        editor.rename_setup(0, "green")
        editor.commit()
        assert not record_path(tmp_path / ("scan" + SUFFIXES[format])).exists()
    with npy2bdv.open(path) as dataset:
        assert dataset.view(time=0, setup=0).setup.name == "green"
        assert dataset.view(time=0, setup=0).voxel_size_xyz == (9, 9, 9)


@pytest.mark.parametrize("format", FORMATS)
def test_an_error_of_undoing_does_not_hide_the_first(
    format: str,  # noqa: A002
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = record(tmp_path, **FORMATS[format])

    def fail(*_: object) -> None:
        raise RuntimeError("second")

    with npy2bdv.edit(path) as editor:
        editor.remove_setups(setup=1)
        with monkeypatch.context() as patch:
            patch.setattr(PendingEdit, "commit", lambda *_, **__: 1 / 0)
            patch.setattr(pending, "finish_or_undo", fail)
            with pytest.raises(ZeroDivisionError) as raised:
                editor.commit()
        assert "not removed yet (second): npy2bdv recover" in raised.value.__notes__[0]
        editor.discard()
    assert npy2bdv.recover(path).edit == "undone"


def test_the_name_of_a_setup_reaches_its_images(tmp_path: Path) -> None:
    for format_ in ("zarr2", "zarr3"):
        (tmp_path / format_).mkdir()
        path = record(tmp_path / format_, **FORMATS[format_])
        with npy2bdv.edit(path) as editor:
            editor.rename_setup(2, "red, left")
        names = {}
        for each in path.with_suffix(".ome.zarr").glob("s*.zarr"):
            text = (each / (".zattrs" if format_ == "zarr2" else "zarr.json")).read_text("utf-8")
            said = json.loads(text)
            said = said if format_ == "zarr2" else said["attributes"]["ome"]
            names[each.name] = said["multiscales"][0]["name"]
        assert {name for name, called in names.items() if called == "red, left"} == {
            "s2-t0.zarr",
            "s2-t1.zarr",
        }


def test_an_xml_that_windows_does_not_let_go(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Fiji holds it; acted out by a rename that is refused."""
    before = scan.read_bytes()

    def held(*_: object) -> None:
        raise PermissionError("another program holds it")

    with npy2bdv.edit(scan) as editor:
        editor.rename_setup(0, "ours")
        with monkeypatch.context() as patch:
            patch.setattr(save, "move", held)
            with pytest.raises(WriteError, match=r"held by another program.*lies in scan\.xml\.new"):
                editor.commit()
        assert scan.read_bytes() == before
        assert editor.changed
        assert b"ours" in scan.with_name("scan.xml.new").read_bytes()
    assert setup_node(scan, 0).findtext("name") == "ours"
    assert not scan.with_name("scan.xml.new").exists()


def test_an_xml_with_a_newer_one_beside_it_is_not_edited(scan: Path) -> None:
    newer = scan.with_name("scan.xml.new")
    newer.write_bytes(scan.read_bytes())
    os.utime(scan, ns=(1, 1))
    before = snapshot(scan.parent)
    with pytest.raises(FormatError, match=r"scan\.xml\.new beside .* is newer.*rename it"):
        npy2bdv.edit(scan)
    assert snapshot(scan.parent) == before
    os.utime(newer, ns=(0, 0))  # overtaken long ago
    npy2bdv.edit(scan).close()


# -- several XMLs ----------------------------------------------------------------------------------------


def test_another_xml_over_the_same_pixels(scan: Path) -> None:
    before = snapshot(scan.parent)
    with npy2bdv.edit(scan) as editor:
        editor.insert_transform(npy2bdv.Affine.translation((5, 0, 0)), name="moved")
        other = editor.save_as("moved.xml")
        assert not editor.changed
        with pytest.raises(ExistsError, match=r"moved\.xml already exists"):
            editor.save_as(other)
    assert other == scan.with_name("moved.xml")
    assert {name: each for name, each in snapshot(scan.parent).items() if name != "moved.xml"} == before
    with npy2bdv.open(scan) as dataset, npy2bdv.open(other) as moved:
        here, there = dataset.view(setup=2), moved.view(setup=2)
        np.testing.assert_array_equal(here[...], there[...])
        assert [each.name for each in here.transforms] == ["calibration"]
        assert [each.name for each in there.transforms] == ["moved", "calibration"]
    with npy2bdv.edit(scan), pytest.raises(InUseError):
        npy2bdv.edit(other)  # the pixels are those of both


def test_another_xml_lies_beside_and_shares_what_is_stored_with_pixels(tmp_path: Path) -> None:
    path = record(tmp_path, **FORMATS["zarr2"])
    (tmp_path / "inner").mkdir()
    before = snapshot(tmp_path)
    with npy2bdv.edit(path) as editor:
        for name in ("inner/other.xml", str(tmp_path / "inner/other.xml"), "other.h5"):
            with pytest.raises(InvalidInputError, match="is no XML beside"):
                editor.save_as(name)
        editor.set_voxel_size((1, 1, 1))
        with pytest.raises(InvalidInputError, match="which both XMLs would share; commit them first"):
            editor.save_as("other.xml")
        editor.discard()
    assert snapshot(tmp_path) == before


# -- datasets that are not ours --------------------------------------------------------------------------


def test_a_project_whose_pixels_are_not_read_can_be_edited(tmp_path: Path) -> None:
    path = tmp_path / "project.xml"
    path.write_text(
        '<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription>'
        '<ImageLoader format="spimreconstruction.lightsheetz1"><imagedirectory type="relative">a b</imagedirectory>'
        "<masterfile>x.czi</masterfile></ImageLoader><ViewSetups><ViewSetup><id>3</id><size>1 2 3</size>"
        "<attributes><angle>0</angle></attributes></ViewSetup></ViewSetups>"
        '<Timepoints type="pattern"><integerpattern>0-4:2</integerpattern></Timepoints>'
        "</SequenceDescription><ViewRegistrations/></SpimData>",
        encoding="utf-8",
    )
    loader = ElementTree.tostring(next(ElementTree.parse(path).iter("ImageLoader")))
    with npy2bdv.edit(path) as editor:
        assert (tmp_path / "project.xml.lock").is_file()
        with pytest.raises(InUseError):
            npy2bdv.edit(path)
        editor.insert_transform(np.eye(4), time=range(1, 9))
        editor.set_voxel_size((1, 1, 2), "um")
    assert pairs_of(path, "ViewRegistration") == {("2", "3"), ("4", "3")}
    (after,) = ElementTree.parse(path).iter("ImageLoader")
    for node in after.iter():
        node.text = (node.text or "").strip() or None
        node.tail = None
    assert ElementTree.tostring(after) == loader
    assert ElementTree.parse(path).findtext(".//integerpattern") == "0-4:2"
    assert not (tmp_path / "project.xml.lock").exists()


def test_labels_without_ids_are_refused(tmp_path: Path) -> None:
    path = record(tmp_path)
    before = path.read_bytes()
    labels: Any = ["GFP", "RFP"]
    with pytest.raises(InvalidInputError, match="by id or earlier label"), npy2bdv.edit(path) as editor:
        editor.set_labels("channel", labels)
    assert path.read_bytes() == before


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.write(np.ones((2, 4, 4), "uint16"), setup=writer.add_setup(shape=(2, 4, 4)))
    with npy2bdv.edit(tmp_path / "a.xml") as editor:
        with pytest.raises(InvalidInputError, match="degrees is a finite number; found 'a'"):
            editor.set_angle(0, degrees="a")  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="exposure_time is a finite number; found 'x'"):
            editor.set_camera(exposure_time="x")  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="exposure_time=-1 is no finite time"):
            editor.set_camera(exposure_time=-1)
        assert not editor.changed
    with pytest.raises(InvalidInputError, match="cannot turn by 'a' degrees"):
        npy2bdv.Affine.rotation("z", "a")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"merge takes a list of recordings.* found 'a\.xml'"):
        npy2bdv.merge("a.xml", tmp_path / "q.xml")
