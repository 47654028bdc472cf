"""Looking at a recording that goes on: acknowledged planes, no others, and nobody is disturbed."""

import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import InUseError, MissingKeyError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.live import LivePixels

SHAPE = (26, 24, 40)
CHUNK = (4, 16, 16)
LEVELS = ((1, 1, 1), (2, 2, 2), (3, 4, 8))
FORMATS: list[dict[str, Any]] = [
    {"compression": None},
    {"compression": "gzip"},
    {"format": "n5", "compression": "gzip"},
    {"zarr_version": 2},
    {"zarr_version": 3},
]
KINDS = pytest.mark.parametrize("options", FORMATS, ids=str)


def stack(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(1, 60000, shape, "uint16")


def up_to(pixels: NDArray[np.uint16], planes: int) -> NDArray[np.uint16]:
    return np.where(np.arange(len(pixels))[:, None, None] < planes, pixels, 0).astype("uint16")


def begin(path: Path, **options: Any) -> npy2bdv.DatasetWriter:
    options = {"levels": LEVELS, "chunks": CHUNK, "checkpoint_seconds": 1000, **options}
    return npy2bdv.create(path, **options)


def check(path: Path, expected: dict[tuple[int, int], NDArray[np.uint16]]) -> None:
    with npy2bdv.open(path) as dataset:
        for (time, setup), pixels in expected.items():
            view = dataset.view(time=time, setup=setup)
            for level, factors in enumerate(LEVELS):
                wanted = npy2bdv.downsample(pixels, factors)
                np.testing.assert_array_equal(view.level(level)[...], wanted)
                np.testing.assert_array_equal(view.level(level)[2:5, 3:, 1:4], wanted[2:5, 3:, 1:4])
                np.testing.assert_array_equal(view.level(level)[-1], wanted[-1])


@KINDS
def test_what_is_safe_is_seen_and_nothing_else(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.xml"
    first, second = stack(1), stack(2)
    with begin(path, **options) as writer:
        setups = [writer.add_setup(shape=SHAPE, channel=i) for i in range(2)]
        view = writer.stream(setup=setups[0])
        with npy2bdv.open(path) as dataset:  # nothing is safe yet
            assert not dataset.container.has(ViewId(0, 0))
            with pytest.raises(
                MissingKeyError, match=r"no plane of time point 0, .* is safe yet in .*open it again later"
            ):
                dataset.view(time=0, setup=0)[0]
        view.put(first[:7], 0)
        writer.checkpoint()
        check(path, {(0, 0): up_to(first, 7)})
        view.put(first[7:15], 7)
        writer.store()  # in the file, and not acknowledged
        check(path, {(0, 0): up_to(first, 7)})
        writer.checkpoint()
        check(path, {(0, 0): up_to(first, 15)})
        with npy2bdv.open(path) as dataset:
            assert isinstance(dataset.container, LivePixels)
            view.put(first[15:], 15)
            view.close()
            other = writer.stream(setup=setups[1])
            other.put(second[20:], 20)
            writer.checkpoint()
            np.testing.assert_array_equal(dataset.view()[...], up_to(first, 15))  # as of when it was opened
            copy = pickle.loads(pickle.dumps(dataset))
            np.testing.assert_array_equal(copy.view()[...], up_to(first, 15))
            copy.close()
        rest = second.copy()
        rest[:20] = 0
        check(path, {(0, 0): first, (0, 1): rest})
    with npy2bdv.open(path) as dataset:
        assert not isinstance(dataset.container, LivePixels)
    check(path, {(0, 0): first, (0, 1): rest})


@KINDS
def test_of_unknown_length(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = stack(3, (60, 24, 40))
    with begin(tmp_path / "a.xml", **options) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(None, 24, 40)))
        for stop in (9, 21, 50):
            view.put(pixels[view.planes_there : stop], view.planes_there)
            writer.checkpoint()
            check(tmp_path / "a.xml", {(0, 0): pixels[:stop]})
        view.put(pixels[50:], 50)


@KINDS
def test_a_session_that_appends(tmp_path: Path, options: dict[str, Any]) -> None:
    """What was there before is seen all the while."""
    path = tmp_path / "a.xml"
    with begin(path, **options) as writer:
        writer.write(stack(1), setup=writer.add_setup(shape=SHAPE, channel=0))
    with npy2bdv.create(path, mode="a", checkpoint_seconds=1000) as writer:
        setup = writer.add_setup(shape=SHAPE, channel=0)
        check(path, {(0, 0): stack(1)})
        view = writer.stream(setup=setup, time=1)
        check(path, {(0, 0): stack(1)})
        view.put(stack(2)[:6], 0)
        writer.checkpoint()
        early = path.with_suffix(".recording.xml")
        check(early if early.is_file() else path, {(0, 0): stack(1), (1, 0): up_to(stack(2), 6)})


def test_planes_that_were_given_up_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    with begin(path, compression="gzip") as writer:
        setup = writer.add_setup(shape=SHAPE)
        view = writer.stream(setup=setup)
        view.put(stack(1)[:9], 0)
        writer.checkpoint()
        view.abort()
        with npy2bdv.open(path) as dataset:
            assert not [*dataset.container.views()]
        view = writer.stream(setup=setup)
        view.put(stack(2)[:3], 0)
        with npy2bdv.open(path) as dataset:
            assert not [*dataset.container.views()]
        writer.checkpoint()
        check(path, {(0, 0): up_to(stack(2), 3)})


# --------------------------------------------------------------------------------------------- others


READER = """
import sys, time, h5py
end = time.monotonic() + float(sys.argv[2])
looked = failed = 0
while time.monotonic() < end:
    try:
        with h5py.File(sys.argv[1], "r", locking=False) as file:
            for name in list(file):
                cells = file.get(f"{name}/s00/0/cells")
                if cells is not None:
                    cells[:2]
            looked += 1
    except (OSError, KeyError, RuntimeError):
        failed += 1
print(looked, failed)
"""


@pytest.mark.parametrize("options", FORMATS[:2], ids=str)
def test_programs_that_look_at_the_file_do_not_disturb_it(tmp_path: Path, options: dict[str, Any]) -> None:
    """As Fiji does: HDF5 in another process, without locks, while time points come and checkpoints are made."""
    path = tmp_path / "a.xml"
    with begin(path, **options) as writer:
        setup = writer.add_setup(shape=SHAPE)
        words = [sys.executable, "-c", READER, str(path.with_suffix(".h5")), "1.5"]
        reader = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        times = 0
        while reader.poll() is None:
            with writer.stream(setup=setup, time=times) as view:
                for plane in stack(times):
                    view.append(plane)
                    if len(plane) and view.planes_there % 5 == 0:
                        writer.checkpoint()
            times += 1
        looked, _ = map(int, reader.communicate()[0].split())
    assert looked > 5
    assert times > 2
    check(path, {(time, 0): stack(time) for time in range(times)})
    with h5py.File(path.with_suffix(".h5")) as file:
        assert len(file["t00000/s00/0/cells"]) == 26


@KINDS
def test_our_own_reader_sees_whole_acknowledged_planes_all_the_while(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.xml"
    pixels = stack(7)
    told = [0]
    errors: list[BaseException] = []
    looks = [0]

    def look() -> None:
        while not over.is_set():
            least = told[0]
            try:
                with npy2bdv.open(path) as dataset:
                    found = (
                        dataset.view()[...] if dataset.container.has(ViewId(0, 0)) else np.zeros_like(pixels)
                    )
                shown = int(found.any(axis=(1, 2)).sum())
                assert shown >= least
                np.testing.assert_array_equal(found, up_to(pixels, shown))
                looks[0] += 1
            except BaseException as error:
                errors.append(error)
                return

    over = threading.Event()
    with begin(path, **options) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        reader = threading.Thread(target=look)
        reader.start()
        for plane in pixels[:-1]:
            view.append(plane)
            time.sleep(0.002)
            told[0] = sum(writer.checkpoint().values())
        over.set()
        reader.join()
    if errors:
        raise errors[0]
    assert looks[0] > 3


WRITER = """
import sys, npy2bdv
try:
    npy2bdv.create(sys.argv[1], mode=sys.argv[2])
except npy2bdv.BdvError as error:
    print(type(error).__name__, error)
"""


@KINDS
@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_second_writer_is_refused(tmp_path: Path, options: dict[str, Any], mode: str) -> None:
    """In another process and in this one; the first goes on."""
    path = tmp_path / "a.xml"
    with begin(path, **options) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.put(stack(1)[:9], 0)
        writer.checkpoint()
        words = [sys.executable, "-c", WRITER, str(path), mode]
        said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
        assert said.startswith("InUseError"), said
        assert "is being written by process" in said
        with pytest.raises(InUseError, match="is being written by process"):
            npy2bdv.recover(path)
        view.put(stack(1)[9:], 9)
    check(path, {(0, 0): stack(1)})
