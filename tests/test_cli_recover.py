"""``npy2bdv recover``: what it shows of an interrupted recording, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import npy2bdv
from npy2bdv.cli import main
from npy2bdv.storage import pending

STACK = np.arange(8 * 12 * 15, dtype="uint16").reshape(8, 12, 15)
COMPRESSION = pytest.mark.parametrize("compression", [None, "gzip"])


class Shown(NamedTuple):
    status: int
    out: str
    err: str

    def rows(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]


Command = Callable[..., Shown]


@pytest.fixture
def recover(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(path: Path, *options: str) -> Shown:
        status = main(["recover", str(path), *options])
        return Shown(status, *capsys.readouterr())

    return run


def interrupted(
    folder: Path, *, channels: int = 3, compression: str | None = None, overwrite: bool = False
) -> Path:
    """Leave what a kill leaves after a checkpoint: channel 488 is whole, 561 has some planes, 640 none, others all."""
    names = ("488", "561", "640", *map(str, range(channels - 3)))
    running = folder / "running"
    running.mkdir(exist_ok=overwrite)
    with npy2bdv.create(running / "scan.xml", compression=compression, overwrite=overwrite) as writer:
        for name in names[:channels]:
            tile = "left" if name == "488" else "right"
            view = writer.stream(setup=writer.add_setup(shape=STACK.shape, channel=name, tile=tile), time=2)
            planes = {"561": (0, 1, 5), "640": ()}.get(name, range(8))
            for z in planes:
                view.put(STACK[z : z + 1], z)
        writer.checkpoint()
        killed = folder / "killed"
        shutil.copytree(running, killed, ignore=shutil.ignore_patterns("*.lock"))
    return killed / "scan.xml"


@COMPRESSION
def test_views_are_listed_with_their_planes(
    recover: Command, tmp_path: Path, compression: str | None
) -> None:
    path = interrupted(tmp_path, compression=compression)
    shown = recover(path)
    assert (shown.status, shown.err) == (0, "")
    rows = shown.rows()
    assert ["3", "views:", "1", "whole,", "2", "in", "part", "or", "missing"] in rows
    (head,) = (row for row in rows if row[:2] == ["time", "setup"])
    channel, tile = head.index("channel"), head.index("tile")
    views = {row[channel]: row for row in rows if row[:1] == ["2"]}
    assert [views[name][tile] for name in ("488", "561", "640")] == ["left", "right", "right"]
    assert "angle" not in head  # all have the same
    assert views["488"][1] == "0"
    assert views["488"][-4:] == ["8", "of", "8", "whole"]
    assert " ".join(views["561"]).endswith("3 of 8 without 2 to 4, 6 to 7")
    assert " ".join(views["640"]).endswith("0 of 8 nothing was safe: a missing view")
    assert "Planes that are missing are zeros" in shown.out
    assert f"Dataset: {path}" in shown.out
    assert "Plugins > BigDataViewer > Open XML/HDF5" in shown.out
    assert {each.name for each in path.parent.iterdir()} == {"scan.xml", "scan.h5"}
    with npy2bdv.open(path) as dataset:
        assert [view for view in dataset.missing_views if view.time == 2] == [(2, 2)]
        np.testing.assert_array_equal(dataset.view(time=2, channel="488")[...], STACK)
        planes = dataset.view(time=2, channel="561")
        for z in (0, 1, 5):
            np.testing.assert_array_equal(planes[z], STACK[z])


@pytest.mark.parametrize("name", ["scan.h5", "scan.recording.xml", "scan.xml"])
def test_a_recording_in_place_of_an_older_dataset(recover: Command, tmp_path: Path, name: str) -> None:
    older = tmp_path / "running" / "scan.xml"
    older.parent.mkdir()
    npy2bdv.resave(STACK + 1, older)
    before = older.read_bytes()
    path = interrupted(tmp_path, overwrite=True)
    assert path.with_name("scan.recording.xml").is_file()
    shown = recover(path.with_name(name))
    assert (shown.status, shown.err) == (0, "")
    assert f"Dataset: {path}\n" in shown.out
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(time=2, channel="488")[...], STACK)
    assert path.with_name("scan.xml~1").read_bytes() == before


def test_of_very_many_views_those_in_part_are_listed(recover: Command, tmp_path: Path) -> None:
    shown = recover(interrupted(tmp_path, channels=50))
    rows = [row for row in shown.rows() if row[:1] == ["2"]]
    assert [row[1] for row in rows] == ["1", "2"]
    assert "50 views: 48 whole, 2 in part or missing" in shown.out


def test_nothing_was_safe(recover: Command, tmp_path: Path) -> None:
    running = tmp_path / "running"
    running.mkdir()
    with npy2bdv.create(running / "scan.xml") as writer:
        writer.stream(setup=writer.add_setup(shape=STACK.shape))
        shutil.copytree(running, tmp_path / "killed", ignore=shutil.ignore_patterns("*.lock"))
    shown = recover(tmp_path / "killed" / "scan.xml")
    assert (shown.status, shown.err) == (0, "")
    assert "Not one plane was safe: it was interrupted before the first checkpoint." in shown.out
    assert "Open XML/HDF5" not in shown.out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(shown: Shown, message: str) -> None:
    assert (shown.status, shown.out) == (1, "")
    assert shown.err.startswith("npy2bdv: ")
    assert shown.err.count("\n") == 1
    assert message in shown.err


def test_refusals(recover: Command, tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    refused(recover(path.with_name("nix.xml")), "nix.xml; give the XML or the pixel file of the recording")
    refused(recover(path.parent), "give the XML or the pixel file")

    whole = tmp_path / "running" / "scan.xml"
    before = contents(whole.parent)
    refused(recover(whole), "it was closed cleanly")
    assert contents(whole.parent) == before


def test_a_damaged_file_and_its_status(recover: Command, tmp_path: Path) -> None:
    path = interrupted(tmp_path, compression="gzip")
    pixels = path.with_suffix(".h5")
    whole = pixels.read_bytes()
    pixels.write_bytes(bytes(96) + whole[96:])
    before = contents(path.parent)
    shown = recover(path)
    assert (shown.status, shown.err) == (0, "")
    assert "scan.xml was damaged (" in shown.out
    assert "The original is as it was: remove it with its journal" in shown.out
    assert f"Dataset: {path.with_name('scan-recovered.xml')}\n" in shown.out
    assert before.items() <= contents(path.parent).items()

    pixels.write_bytes(whole[:1000])
    shown = recover(path, "--out", str(tmp_path / "left.xml"))
    assert (shown.status, shown.err) == (2, "")
    assert "0 of 8  lost: 0 to 7" in shown.out
    refused(recover(path), "scan-recovered.xml already exists")


def test_as_json(recover: Command, tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    shown = recover(path, "--json")
    said = json.loads(shown.out)
    assert (shown.status, said["xml"], said["damage"]) == (0, str(path), None)
    assert said["views"][1] == {
        "time": 2, "setup": 1, "planes": 3, "depth": 8, "missing": [[2, 5], [6, 8]], "unconfirmed": [], "damaged": []
    }  # fmt: skip


def test_a_running_recording_is_left_alone(recover: Command, tmp_path: Path) -> None:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path) as writer:
        view = writer.stream(setup=writer.add_setup(shape=STACK.shape))
        view.append(STACK[0])
        refused(recover(path), "is being written by process")
        view.append(STACK[1])
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view()[:2], STACK[:2])


@pytest.mark.parametrize("at", ["undone", "finished"])
@pytest.mark.parametrize("name", ["scan.h5", "scan.n5", "scan.ome.zarr"])
def test_a_killed_crop(
    name: str, at: str, recover: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command, crop and recovery; a program that is ended tidies nothing up, as after a kill."""
    path = tmp_path / "scan.xml"
    npy2bdv.resave(STACK, tmp_path / name)
    call = pending.PendingEdit.commit

    def killed(*given: Any, **options: Any) -> None:
        if at == "finished":
            call(*given, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pending.PendingEdit, "commit", killed)
        patch.setattr(pending.PendingEdit, "undo", lambda self: self._journal.close(remove=False))
        with suppress(KeyboardInterrupt):
            assert main(["crop", str(path), "--x", "2:-3"]) != 0
    assert (tmp_path / f"{name}.edit").is_file()
    shown = recover(path)
    assert shown.status == 0
    assert ("has been finished" if at == "finished" else "has been undone") in shown.out
    with npy2bdv.open(path) as dataset:
        expected = STACK[..., 2:-3] if at == "finished" else STACK
        np.testing.assert_array_equal(dataset.view(time=0, setup=0)[...], expected)
    assert not [each.name for each in tmp_path.iterdir() if "edit" in each.name]
    assert recover(path).status == 1
