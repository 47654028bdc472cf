"""The table of frames beside a dataset."""

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npy2bdv
from npy2bdv.errors import InvalidInputError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.frames import Gap

FRAME = np.ones((4, 5), "uint16")


def table(folder: Path) -> list[list[str]]:
    with (folder / "a.frames.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_columns(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        setup = writer.add_setup(shape=(9, 4, 5))
        view = writer.stream(setup=setup, time=3)
        view.append(FRAME)  # a frame without has no row
        view.append(FRAME, meta={"frame": 7, "stamp": 0.1, "stage, z": 'a "b"\nµm'})
        view.put(FRAME[None], 4)
        view.append(FRAME, meta={"stamp": 0.2, "laser": 488, "frame": 8, "when": (1, 2)})
        view.append(FRAME, meta={})
    assert table(tmp_path) == [
        ["time", "setup", "z", "frame", "stamp", "stage, z", "more"],
        ["3", "0", "1", "7", "0.1", 'a "b"\nµm', ""],
        ["3", "0", "5", "8", "0.2", "", '{"laser": 488, "when": [1, 2]}'],
        ["3", "0", "6", "", "", "", ""],
    ]


def test_names_of_our_own_columns_are_not_taken_twice(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        view = writer.stream(setup=writer.add_setup(shape=(2, 4, 5)))
        view.append(FRAME, meta={"z": 12.5, "frame": 1})
    assert table(tmp_path) == [
        ["time", "setup", "z", "frame", "more"],
        ["0", "0", "0", "1", '{"z": 12.5}'],
    ]


def test_without_metadata_there_is_no_table(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.stream(setup=writer.add_setup(shape=(2, 4, 5))).append(FRAME)
        assert writer.frame_gaps == ()
    assert not (tmp_path / "a.frames.csv").exists()


def test_gaps_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each view counts for itself, and from where its camera begins."""
    numbers = {0: [5, 6, 8, 9, 13], 1: [0, 1, 2, 3, 4]}
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        setups = [writer.add_setup(shape=(9, 4, 5), channel=i) for i in range(2)]
        views = [writer.stream(setup=setup) for setup in setups]
        for k in range(5):
            for i, view in enumerate(views):
                view.append(FRAME, meta={"frame": np.uint32(numbers[i][k])})
        assert writer.frame_gaps == (Gap(ViewId(0, 0), 2, 7, 7), Gap(ViewId(0, 0), 4, 10, 12))
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [
        "frames 7 to 7 never came (before plane 2 of time point 0, setup 0)",
        "frames 10 to 12 never came (before plane 4 of time point 0, setup 0)",
    ]
    assert len(table(tmp_path)) == 11


def test_a_camera_that_starts_anew_leaves_no_gap(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        view = writer.stream(setup=writer.add_setup(shape=(9, 4, 5)))
        for number in (65534, 65535, 0, 1):
            view.append(FRAME, meta={"frame": number})
        view.abort()
        view = writer.stream(setup=0)
        for number in (50, 51):  # another recording of the view
            view.append(FRAME, meta={"frame": number})
        assert writer.frame_gaps == ()


@pytest.mark.parametrize("number", ["first", None])
def test_numbers_that_are_none_are_refused_with_their_frame(tmp_path: Path, number: Any) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        view = writer.stream(setup=writer.add_setup(shape=(9, 4, 5)))
        with pytest.raises(InvalidInputError, match=r"meta\['frame'\] is the camera's frame number; found"):
            view.append(FRAME, meta={"frame": number})
        assert view.planes_there == 0
        view.append(FRAME, meta={"frame": 3})
    assert len(table(tmp_path)) == 2


def test_rows_are_there_at_a_checkpoint(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        view = writer.stream(setup=writer.add_setup(shape=(9, 4, 5)))
        for number in range(4):
            view.append(FRAME, meta={"frame": number})
        writer.checkpoint()
        assert len(table(tmp_path)) == 5


def test_a_new_recording_has_no_old_table(tmp_path: Path) -> None:
    for meta in ({"frame": 1}, None):
        with npy2bdv.create(tmp_path / "a.xml", overwrite=True) as writer:
            view = writer.stream(setup=writer.add_setup(shape=(9, 4, 5)))
            view.append(FRAME, meta=meta)
    assert not (tmp_path / "a.frames.csv").exists()
