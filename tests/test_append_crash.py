"""Sessions that append and are killed: what lay there before is there, and so is what a checkpoint acknowledged.

Each test starts this file as a program that appends and tells of its checkpoints, and kills it at some instant.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv import xml
from npy2bdv.errors import FormatError
from npy2bdv.model.spimdata import ViewId

SHAPE = (20, 40, 50)
CHUNK = (4, 16, 32)
LEVELS = ((1, 1, 1), (2, 2, 2))
FORMATS: dict[str, dict[str, Any]] = {
    "hdf5": {},
    "hdf5 gzip": {"compression": "gzip"},
    "n5": {"format": "n5"},
    "zarr 3": {"format": "omezarr", "zarr_version": 3},
}
BEFORE = {ViewId(time, setup) for time in range(2) for setup in range(2)}
NEW = 2
"""The setup that is added. Where time points of others end."""
TIMES = 40
KILLS = 6


def stack(view: ViewId) -> NDArray[np.uint16]:
    return np.random.default_rng(view.time * 10 + view.setup).integers(1, 3000, SHAPE, "uint16")


def make(path: Path, how: str) -> None:
    with npy2bdv.create(path, levels=LEVELS, chunks=CHUNK, **FORMATS[how]) as writer:
        for setup in range(2):
            writer.add_setup(shape=SHAPE, channel=setup, voxel_size_xyz=(0.5, 0.5, 1))
            for t in range(2):
                writer.write(stack(ViewId(t, setup)), setup=setup, time=t)


def append(path: Path) -> None:
    """Add time points to the setups that are there, and a further setup, plane by plane, until killed."""
    rng = random.Random(time.time())
    with npy2bdv.create(path, mode="a", checkpoint_seconds=1000) as writer:
        print("ready", flush=True)
        new = writer.add_setup(shape=SHAPE, channel=NEW, voxel_size_xyz=(0.5, 0.5, 1))
        first = max(writer.describe().timepoints.ids) + 1
        for t in range(first, first + TIMES):
            for setup in (0, 1, new):
                pixels = stack(ViewId(t, setup))
                with writer.stream(setup=setup, time=t) as view:
                    for z in range(SHAPE[0]):
                        view.append(pixels[z])
                        if rng.random() < 0.1:
                            safe = writer.checkpoint()
                            print(json.dumps([[*id_, count] for id_, count in safe.items()]), flush=True)
    print("done", flush=True)


def killed(path: Path, after: float) -> dict[ViewId, int]:
    """Let a process append for some time, and kill it; return what it was told to be safe."""
    with subprocess.Popen(
        [sys.executable, __file__, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        process.kill()
        lines = process.stdout.read().splitlines()
    safe: dict[ViewId, int] = {}
    for line in lines:
        if line.startswith("[") and line.endswith("]]"):  # the last one may be torn
            safe.update({ViewId(t, setup): count for t, setup, count in json.loads(line)})
    return safe


def check(path: Path, safe: dict[ViewId, int], before: set[ViewId]) -> None:
    """Earlier views are whole, at all levels; of new ones there are the planes that were said to be safe."""
    with npy2bdv.open(path) as dataset:
        there = {view.id for view in dataset}
        assert there >= before
        assert there >= {view for view, planes in safe.items() if planes}
        for view in dataset:
            expected = stack(view.id)
            if view.id in before:
                for level, factors in zip(view.levels(), LEVELS, strict=True):
                    np.testing.assert_array_equal(level[...], npy2bdv.downsample(expected, factors))
            else:
                planes = safe.get(view.id, 0)
                np.testing.assert_array_equal(view[:planes], expected[:planes])


@pytest.mark.parametrize("how", FORMATS)
def test_kills_while_something_is_appended(how: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    make(path, how)
    rng = random.Random(how)
    before = set(BEFORE)
    recovered = told = 0
    for number in range(KILLS):
        text = path.read_bytes()
        safe = killed(path, 0.0 if not number else rng.uniform(0.005, 0.25))
        told += len(safe)
        journals = [*tmp_path.glob("a.*.journal")]
        assert path.read_bytes() == text, "the XML stays as it was until the session ends"
        if journals:
            with pytest.raises(FormatError, match="was interrupted"):
                npy2bdv.create(path, mode="a")
            found = npy2bdv.recover(path)
            assert found.path_xml == path
            assert found.damage is None
            assert not any(view.damaged for view in found)
            recovered += 1
        else:
            assert not safe
        check(path, safe, before)
        with npy2bdv.open(path) as dataset:
            whole = {
                view.id
                for view in dataset
                if all((plane == other).all() for plane, other in zip(view[...], stack(view.id), strict=True))
            }
        assert before <= whole
        before = whole
        assert [
            each.name for each in tmp_path.iterdir() if "journal" in each.name or "redo" in each.name
        ] == []
    assert recovered >= KILLS // 2
    assert told
    with npy2bdv.create(path, mode="a") as writer:  # and it goes on
        t = max(xml.parse(path.read_bytes()).timepoints.ids) + 1
        writer.write(stack(ViewId(t, 0)), setup=0, time=t)
    check(path, {}, before | {ViewId(t, 0)})


if __name__ == "__main__":
    append(Path(sys.argv[1]))
