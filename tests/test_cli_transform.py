"""``npy2bdv transform``: what it lists and changes, and how it says what it cannot do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

import npy2bdv
from npy2bdv import ViewId
from npy2bdv.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Three time points, two channels; one view is missing."""
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path) as writer:
        setups = [writer.add_setup(shape=(2, 3, 4), channel=channel) for channel in ("488", "GFP, 2nd")]
        for time in range(3):
            for setup in setups[: 2 - (time == 2)]:
                writer.write(np.ones((2, 3, 4), "uint16"), setup=setup, time=time)
    return path


def names(path: Path) -> dict[ViewId, list[str | None]]:
    return {
        ViewId(int(node.attrib["timepoint"]), int(node.attrib["setup"])): [
            each.findtext("Name") for each in node
        ]
        for node in ElementTree.parse(path).iter("ViewRegistration")
    }


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def listed(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["transform", "list", str(path), "--json", *options]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_a_life_of_a_transform(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    xml = str(scan)
    where = ["--channel", "GFP, 2nd", "--time", "1-9"]
    assert main(["transform", "insert", xml, "--translation", "-5,0.1,1e-7", "--name", "drift", *where]) == 0
    assert "insert transform 'drift' outermost, [1 0 0 -5 " in capsys.readouterr().out
    assert names(scan) == {view: ["calibration"] for view in ((0, 0), (1, 0), (2, 0), (0, 1))} | {
        (1, 1): ["drift", "calibration"]
    }
    (view,) = listed(scan, capsys, *where)
    assert (view["time"], view["setup"]) == (1, 1)
    assert view["transforms"][0] == {
        "name": "drift",
        "matrix": [[1, 0, 0, -5], [0, 1, 0, 0.1], [0, 0, 1, 1e-7]],
    }
    assert view["total"] == [[1, 0, 0, -5], [0, 1, 0, 0.1], [0, 0, 1, 1e-7]]
    assert (
        main(
            ["transform", "insert", xml, "--rotation", "z,90", "--name", "turn", "--before", "drift", *where]
        )
        == 0
    )
    assert main(["transform", "insert", xml, "--scale", "1,1,-2", "--name", "in", "--at", "innermost"]) == 0
    assert names(scan)[ViewId(1, 1)] == ["turn", "drift", "calibration", "in"]
    assert main(["transform", "rename", xml, "place:-1", "flip", "--setup", "0,1"]) == 0
    assert (
        main(["transform", "replace", xml, "drift", "--matrix", "1 0 0 7, 0 1 0 8, 0 0 1 9", "--name", "x"])
        == 0
    )
    assert main(["transform", "remove", xml, "turn"]) == 0
    assert names(scan)[ViewId(1, 1)] == ["x", "calibration", "flip"]
    assert names(scan)[ViewId(0, 0)] == ["calibration", "flip"]
    before = listed(scan, capsys)
    assert main(["transform", "compose", xml, "--name", "all"]) == 0
    after = listed(scan, capsys)
    assert [view["total"] for view in after] == [view["total"] for view in before]
    assert set(map(tuple, names(scan).values())) == {("all",)}


def test_views_with_the_same_transforms_are_listed_once(
    scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with npy2bdv.edit(scan) as editor:
        editor.insert_transform(np.eye(4), view=(0, 1), name="alone")
        editor.remove_transform("calibration", view=(1, 0))
    before = snapshot(scan.parent)
    assert main(["transform", "list", str(scan)]) == 0
    assert snapshot(scan.parent) == before
    out = capsys.readouterr().out
    assert "time 0, setup 0 and 2 more with the same, up to time 2, setup 0\n  calibration\n" in out
    assert "time 0, setup 1\n  alone\n    " in out
    assert "time 1, setup 0\n  no transform\n" in out
    assert out.count("calibration") == 2


def test_a_long_list_is_cut(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with npy2bdv.create(scan, overwrite=True) as writer:
        for tile in range(45):
            shift = npy2bdv.Affine.translation((tile, 0, 0))
            setup = writer.add_setup(shape=(1, 1, 1), tile=tile, transform=shift)
            writer.write(np.ones((1, 1, 1), "uint16"), setup=setup)
    assert main(["transform", "list", str(scan)]) == 0
    assert capsys.readouterr().out.endswith("... and 5 more; --all lists them\n")
    assert main(["transform", "list", str(scan), "--all"]) == 0
    assert "time 0, setup 44\n" in capsys.readouterr().out


def test_a_dry_run_changes_nothing(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(scan.parent)
    for command in (
        ["insert", "--translation", "1,2,3"],
        ["replace", "calibration", "--scale", "1,1,2"],
        ["remove", "calibration"],
        ["rename", "calibration", "x"],
        ["compose"],
    ):
        assert main(["transform", command[0], str(scan), *command[1:], "--dry-run"]) == 0
        out = capsys.readouterr().out
        assert "5 views, time 0, setup 0 to time 2, setup 0\n" in out
        assert " bytes of XML" in out
    assert snapshot(scan.parent) == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["insert"], "give one of --matrix, --translation, --scale, --rotation; found none"),
        (["insert", "--scale", "1,1,1", "--translation", "1,1,1"], "found --translation and --scale"),
        (["insert", "--translation", "1,2"], "--translation '1,2' is not understood"),
        (["insert", "--matrix", "1 2 3"], "--matrix '1 2 3' is not understood; write 12 numbers"),
        (["insert", "--matrix", "0 " * 12], "the matrix is singular"),
        (["insert", "--matrix", "1 0 0 nan 0 1 0 0 0 0 1 0"], "holds nan in row 0, column 3"),
        (["insert", "--rotation", "q,90"], "there is no axis 'q'"),
        (["insert", "--rotation", "z"], "--rotation 'z' is not understood"),
        (["insert", "--scale", "1,0,1"], "a scale of 0"),
        (["insert", "--scale", "1,1,2", "--at", "innermost", "--before", "calibration"], "give one place"),
        (
            ["insert", "--scale", "1,1,2", "--after", "nobody"],
            "has no transform 'nobody'; it has 'calibration'",
        ),
        (
            ["remove", "nobody"],
            "none of the 5 selected views has a transform 'nobody'; they have 'calibration'",
        ),
        (["remove", "place:1"], "none of the 5 selected views has a transform at place 1"),
        (
            ["remove", "calibration", "--channel", "561"],
            "channel=561 selects nothing; the dataset has channel: 0 '488'",
        ),
        (["remove", "calibration", "--time", "a-b"], "--time 'a-b' is not understood"),
        (["remove", "calibration", "--time", "4-9"], "time=range(4, 10) selects nothing"),
        (["remove", "calibration", "--attribute", "camera"], "--attribute 'camera' is not understood"),
        (["remove", "calibration", "--attribute", "lens=0"], "there is no attribute 'lens'"),
    ],
)
def test_an_error_is_one_line_and_nothing_changes(
    command: list[str], message: str, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(scan.parent)
    assert main(["transform", command[0], str(scan), *command[1:]]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("npy2bdv: ")
    assert told.err.count("\n") == 1
    assert message in told.err
    assert snapshot(scan.parent) == before


def test_errors_of_files(tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["list"], ["compose"]):
        assert main(["transform", *command, str(tmp_path / "no.xml")]) == 1
        assert "there is no XML" in capsys.readouterr().err
    with npy2bdv.edit(scan):
        assert main(["transform", "compose", str(scan)]) == 1
        assert "is being edited by process" in capsys.readouterr().err
        assert main(["transform", "list", str(scan)]) == 0  # reading needs no lock
    capsys.readouterr()


def test_matrices_that_json_cannot_say(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = scan.read_text(encoding="utf-8")
    generic = '<ViewTransform type="generic" class="x.Y"><Name>spline</Name></ViewTransform>'
    text = text.replace("<affine>1.0 ", "<affine>NaN ", 1)
    head, tail = text.rsplit("</ViewRegistration>", 1)
    scan.write_text(f"{head}{generic}</ViewRegistration>{tail}", encoding="utf-8")
    views = listed(scan, capsys)
    assert views[0]["transforms"][0]["matrix"][0][0] is None
    assert views[-1]["transforms"][-1] == {"name": "spline", "matrix": None}
    assert views[-1]["total"] is None
    assert main(["transform", "list", str(scan)]) == 0
    assert "spline\n    not an affine: a Java class\n" in capsys.readouterr().out
