"""Edits of pixels that are killed, or run out of disk: each view is as it was or as it was to be, with its XML."""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.downsample import downsample
from npy2bdv.editor import edit
from npy2bdv.errors import WriteError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage import files, journal, pending, redo
from npy2bdv.storage.pending import record_path

SHAPE = (13, 40, 37)
LEVELS = ((1, 1, 1), (2, 2, 2))
EDITED = 1
"""The setup that is edited."""


class Format(NamedTuple):
    """How the pixels are stored."""

    name: str
    options: dict[str, Any]
    suffix: str

    def __str__(self) -> str:
        return self.name


FORMATS = (
    Format("raw HDF5", {"format": "hdf5"}, ".h5"),
    Format("gzip HDF5", {"format": "hdf5", "compression": "gzip"}, ".h5"),
    Format("N5", {"format": "n5"}, ".n5"),
    Format("Zarr 2", {"format": "omezarr"}, ".ome.zarr"),
    Format("Zarr 3", {"format": "omezarr", "zarr_version": 3}, ".ome.zarr"),
)


def stack(view: ViewId) -> NDArray[np.uint16]:
    rng = np.random.default_rng(10 * view.time + view.setup)
    return rng.integers(1, 60_000, SHAPE).astype("uint16")


def cropped(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[2:-1, 3:, :-5]


def crop(path: Path, after: Callable[[], None] = lambda: None) -> None:
    """The edit that is interrupted."""
    with edit(path) as editor:
        editor.crop(zyx=((2, -1), (3, None), (None, -5)), setup=EDITED)
        after()


def make(path: Path, options: dict[str, Any]) -> None:
    with npy2bdv.create(path, levels=LEVELS, chunks=(8, 32, 32), **options) as writer:
        setups = [writer.add_setup(shape=SHAPE, channel=channel) for channel in range(2)]
        for time_ in range(2):
            for setup in setups:
                writer.write(stack(ViewId(time_, setup)), setup=setup, time=time_)


@pytest.fixture(scope="module", params=FORMATS, ids=str)
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    make(folder / "scan.xml", request.param.options)
    return folder


def pixels_of(folder: Path) -> Path:
    (found,) = (each for each in folder.iterdir() if each.suffix in (".h5", ".n5", ".zarr"))
    return found


def state(path: Path) -> str:
    """Tell whether a dataset is as it was ("old") or as it was to be ("new"); anything else is an error."""
    states = set()
    with npy2bdv.open(path) as dataset:
        assert len(dataset) == 4
        for view in dataset:
            size = view.setup.size_xyz
            assert size is not None
            is_new = len(view.transforms) == 2
            assert is_new == (size[::-1] != SHAPE)
            expected = cropped(stack(view.id)) if is_new else stack(view.id)
            assert size[::-1] == expected.shape
            assert view.n_levels == len(LEVELS)
            for level in view.levels():
                np.testing.assert_array_equal(level[...], downsample(expected, LEVELS[level.index]))
            if view.id.setup == EDITED:
                states.add("new" if is_new else "old")
            else:
                assert not is_new
    (found,) = states
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file() and not each.name.endswith(".lock")
    }


def check(folder: Path, original: Path) -> str:
    """Check what an interrupted edit left, bring it to its end, and check that. Return what it was."""
    path, pixels = folder / "scan.xml", pixels_of(folder)
    left = pending.pending(pixels)
    if left != "committed":
        found = state(path)
        assert found == "old" or left == ""
    if left:
        assert npy2bdv.recover(path).edit == {"begun": "undone", "committed": "finished"}[left]
    found = state(path)
    assert found == {"": found, "begun": "old", "committed": "new"}[left]
    assert not record_path(pixels).exists()
    if found == "old":
        assert contents(folder) == contents(original)
    else:
        litter = [name for name in contents(folder) if "edit" in name or "part" in name or "1000001" in name]
        assert litter == []
        assert (folder / "scan.xml~1").read_bytes() == (original / "scan.xml").read_bytes()
        assert not (folder / "scan.xml~2").exists()
    return f"{left or 'closed'} {found}"


# ---------------------------------------------------------------------------------------------- kills


class Server:
    """A program that has everything imported and starts children for edits, so that each takes no time to begin."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def start(self, path: Path, kill_at: int = 0) -> int:
        """Start an edit, which kills itself at its n-th step on the disk; return the child's id."""
        print(json.dumps([str(path), kill_at]), file=self._in, flush=True)
        return int(self._out.readline())

    def finish(self) -> int:
        """Wait for the child; return how many steps it took, 0 if it was killed."""
        steps = int(self._out.readline())
        assert steps >= 0, "the edit failed"
        return steps

    def close(self) -> None:
        self._in.close()
        self._process.wait()
        self._out.close()


def serve() -> None:
    """What the program does."""
    import tensorstore  # noqa: F401 - to have it imported

    for line in sys.stdin:
        path, kill_at = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            with contextlib.suppress(BaseException):
                steps = count_steps(Path(path), kill_at)
                os.write(writing, str(steps).encode())
                status = 0
            os._exit(status)
        os.close(writing)
        print(child, flush=True)
        counted = os.read(reading, 100).decode()
        os.close(reading)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(counted or (0 if killed else -1), flush=True)


def count_steps(path: Path, kill_at: int) -> int:
    """Run the edit; kill this process at a step on the disk. Return how many there were."""
    steps = 0

    def step(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        known = event in (
            "open", "os.rename", "os.remove", "os.truncate", "os.mkdir", "os.rmdir", "shutil.rmtree", "page"
        )  # fmt: skip
        if known and str(path.parent) in str(arguments[0]):
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    write = journal.Journal.add

    def add(self: journal.Journal, *arguments: Any) -> None:
        sys.audit("page", self.path)
        write(self, *arguments)

    journal.Journal.add = add  # type: ignore[method-assign, assignment]
    sys.addaudithook(step)
    crop(path)
    return steps


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def kill_at_random(server: Server, original: Path, tmp_path: Path, times: int) -> set[str]:
    for name in ("first", "timed"):  # the server has to start first
        folder = tmp_path / name
        shutil.copytree(original, folder)
        begun = time.monotonic()
        server.start(folder / "scan.xml")
        assert server.finish()
        lasts = time.monotonic() - begun
        assert check(folder, original) == "closed new"
    rng = random.Random(0)
    seen = set()
    for number in range(times):
        folder = tmp_path / str(number)
        shutil.copytree(original, folder)
        child = server.start(folder / "scan.xml")
        time.sleep(rng.uniform(0, lasts))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        server.finish()
        seen.add(check(folder, original))
        shutil.rmtree(folder)
    return seen


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_kills_at_random_instants(server: Server, original: Path, tmp_path: Path) -> None:
    assert kill_at_random(server, original, tmp_path, 20) >= {"begun old"}


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_many_kills_at_random_instants(server: Server, original: Path, tmp_path: Path) -> None:
    assert kill_at_random(server, original, tmp_path, 300) >= {"begun old", "committed new", "closed old"}


def kill_at_steps(server: Server, original: Path, tmp_path: Path, stride: int) -> set[str]:
    folder = tmp_path / "whole"
    shutil.copytree(original, folder)
    server.start(folder / "scan.xml")
    n_steps = server.finish()
    seen = set()
    # the end is where images take their places: every step of it
    for number in (*range(1, n_steps - 24, stride), *range(max(1, n_steps - 24), n_steps + 1)):
        folder = tmp_path / str(number)
        shutil.copytree(original, folder)
        server.start(folder / "scan.xml", number)
        server.finish()  # threads do not always take the same steps: one in excess is not there at times
        seen.add(check(folder, original))
        shutil.rmtree(folder)
    return seen


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_kills_at_steps(server: Server, original: Path, tmp_path: Path) -> None:
    assert kill_at_steps(server, original, tmp_path, 40) >= {"begun old", "committed new"}


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_kills_at_all_steps(server: Server, original: Path, tmp_path: Path) -> None:
    assert kill_at_steps(server, original, tmp_path, 1) >= {"begun old", "committed new"}


# ------------------------------------------------------------------------------- full disks, user's errors


def test_a_full_disk_at_each_write_changes_nothing(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 0

    def counted(function: Any) -> Any:
        def write(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **options)

        return write

    # all ways by which anything reaches the disk before the edit has happened
    monkeypatch.setattr(redo, "_write_fully", counted(redo._write_fully))
    monkeypatch.setattr(journal.Journal, "_append", counted(journal.Journal._append))
    monkeypatch.setattr(files.FileStore, "put", counted(files.FileStore.put))
    folder = tmp_path / "full"
    shutil.copytree(original, folder)
    before = contents(folder)
    failures = 0
    for number in range(100_000):
        left, failures = number, number
        try:
            crop(folder / "scan.xml")
            break
        except WriteError as error:
            said = str(error)
        assert "No space left" in said
        assert contents(folder) == before
    assert failures > 10
    assert state(folder / "scan.xml") == "new"


def test_an_exception_in_the_block_changes_nothing(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "same"
    shutil.copytree(original, folder)

    def fail() -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        crop(folder / "scan.xml", fail)
    assert contents(folder) == contents(original)
    assert state(folder / "scan.xml") == "old"


def test_an_exception_while_pixels_are_written_changes_nothing(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "same"
    shutil.copytree(original, folder)
    calls = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with edit(folder / "scan.xml") as editor:
        editor.progress = progress
        editor.crop(zyx=((2, -1), None, None), setup=EDITED)
        with pytest.raises(KeyboardInterrupt):
            editor.commit()
        assert contents(folder) == contents(original)
        editor.discard()


if __name__ == "__main__":
    serve()
