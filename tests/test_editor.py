"""Sessions of edits: collected, shown, committed at once or not at all."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import npy2bdv
from npy2bdv.errors import ClosedError, FormatError, InUseError, MissingKeyError
from npy2bdv.storage.journal import journal_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHIFT = npy2bdv.Affine.translation((1, 2, 3))


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return what lies in a folder: bytes and time of change of each file."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Two time points of two channels and two tiles; one view is missing."""
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path) as writer:
        setups = [
            writer.add_setup(shape=(3, 4, 5), channel=channel, tile=tile)
            for channel in ("488", "561")
            for tile in ("left", "right")
        ]
        for time in range(2):
            for setup in setups:
                if (time, setup) != (1, 3):
                    writer.write(np.full((3, 4, 5), setup, np.uint16), setup=setup, time=time)
    return path


@pytest.fixture
def editor(scan: Path) -> Iterator[npy2bdv.Editor]:
    with npy2bdv.edit(scan) as editor:
        yield editor
        editor.discard()


def names(path: Path, time: int, setup: int) -> list[str | None]:
    with npy2bdv.open(path) as dataset:
        return [transform.name for transform in dataset.view(time=time, setup=setup).transforms]


def test_nothing_on_disk_changes_before_the_commit_but_the_lock(scan: Path) -> None:
    before = snapshot(scan.parent)
    with npy2bdv.edit(scan) as editor:
        editor.insert_transform(SHIFT, name="drift")
        assert editor.preview().nbytes > len(before["scan.xml"][0])
        assert {
            name: each for name, each in snapshot(scan.parent).items() if name != "scan.h5.lock"
        } == before
        editor.discard()
    assert snapshot(scan.parent) == before


def test_the_end_of_the_block_commits(scan: Path) -> None:
    before = snapshot(scan.parent)
    with npy2bdv.edit(scan) as editor:
        editor.insert_transform(SHIFT, name="drift", time=1, channel="488")
    after = snapshot(scan.parent)
    assert after.keys() == {*before, "scan.xml~1"}
    assert after["scan.xml~1"][0] == before["scan.xml"][0]
    assert after["scan.h5"] == before["scan.h5"]
    assert names(scan, 1, 0) == names(scan, 1, 1) == ["drift", "calibration"]
    assert names(scan, 0, 0) == names(scan, 1, 2) == ["calibration"]


def test_an_exception_discards(scan: Path) -> None:
    before = snapshot(scan.parent)
    with pytest.raises(ZeroDivisionError), npy2bdv.edit(scan) as editor:  # noqa: PT012
        editor.insert_transform(SHIFT)
        raise ZeroDivisionError
    assert snapshot(scan.parent) == before


def test_a_second_editor_is_refused(scan: Path, editor: npy2bdv.Editor) -> None:
    with pytest.raises(InUseError, match=r"scan\.h5 is being"):
        npy2bdv.edit(scan)


def test_an_editor_in_another_program_is_refused(scan: Path, editor: npy2bdv.Editor) -> None:
    before = scan.read_bytes()
    code = "import sys, npy2bdv; npy2bdv.edit(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, scan], capture_output=True, text=True, check=False)
    assert re.search(rf"InUseError: .*scan\.h5 is being edited by process {os.getpid()} on ", done.stderr)
    with pytest.raises(InUseError, match="is being edited by process"):
        npy2bdv.create(scan, overwrite=True)
    assert scan.read_bytes() == before
    editor.insert_transform(SHIFT)


def test_a_recording_is_not_edited(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.write(np.ones((1, 2, 3), "uint16"), setup=writer.add_setup(shape=(1, 2, 3)))
        writer.checkpoint()
        with pytest.raises(InUseError, match="is being written by process"):
            npy2bdv.edit(tmp_path / "a.xml")


def test_a_stale_lock_is_no_obstacle(scan: Path) -> None:
    scan.with_name("scan.h5.lock").write_text("left by a kill")
    with npy2bdv.edit(scan) as editor:
        editor.insert_transform(SHIFT, name="drift")
    assert names(scan, 0, 0) == ["drift", "calibration"]


def test_an_interrupted_recording_is_refused(scan: Path) -> None:
    journal_path(scan.with_suffix(".h5")).write_bytes(b"npy2bdv journal 1\n")
    before = snapshot(scan.parent)
    with pytest.raises(FormatError, match=r"interrupted.*npy2bdv recover"):
        npy2bdv.edit(scan)
    assert snapshot(scan.parent) == before


def test_closed(scan: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = snapshot(scan.parent)
    editor = npy2bdv.edit(scan)
    editor.insert_transform(SHIFT)
    with caplog.at_level(logging.WARNING):
        editor.close()
    editor.close()
    assert "1 edits were not committed" in caplog.text
    with pytest.raises(ClosedError, match=r"npy2bdv\.edit"):
        editor.insert_transform(SHIFT)
    assert snapshot(scan.parent) == before


def test_what_selects_nothing_says_what_there_is(scan: Path, editor: npy2bdv.Editor) -> None:
    for where, said in (
        ({"channel": "405"}, "channel: 0 '488', 1 '561'"),
        ({"time": 7}, "0, 1 as time points"),
        ({"setup": [1, 9]}, "0 to 3 as setups"),
        ({"camera": 1}, "illumination, channel, tile, angle"),
        ({"time": 1, "setup": 3}, "1 missing views"),
    ):
        with pytest.raises(MissingKeyError, match=said):
            editor.insert_transform(SHIFT, **where)
    assert not editor.changed
