"""Disks that are full, gone, broken or not to be written: one clear error, and what was safe stays safe."""

import contextlib
import errno
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import BdvError, WriteError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.disk import copy_sparse, why
from npy2bdv.storage.files import FileStore
from npy2bdv.storage.flushes import FlushedFile
from npy2bdv.storage.journal import Journal, journal_path

SHAPE = (20, 24, 40)
CHUNK = (4, 16, 16)
LEVELS = ((1, 1, 1), (2, 2, 2))
FORMATS = [
    {"compression": None},
    {"compression": "gzip"},
    {"format": "n5", "compression": "gzip"},
    {"zarr_version": 2},
    {"zarr_version": 3},
]
KINDS = pytest.mark.parametrize("options", FORMATS, ids=str)

Told = list[dict[ViewId, int]]


def plane(view: int, z: int) -> NDArray[np.uint16]:
    return np.random.default_rng(1000 * view + z).integers(1, 60000, SHAPE[1:], "uint16")


def record(path: Path, told: Told, shape: tuple[int, int, int] = SHAPE, **options: Any) -> None:
    """Two views, with checkpoints; what they return goes into `told`."""
    with npy2bdv.create(path, levels=LEVELS, chunks=CHUNK, checkpoint_seconds=1000, **options) as writer:
        views = [writer.stream(setup=writer.add_setup(shape=shape, channel=i)) for i in range(2)]
        for z in range(shape[0]):
            for number, view in enumerate(views):
                view.append(plane(number, z))
            if z % 7 == 2:
                told.append(writer.checkpoint())


def check(path_xml: Path, safe: dict[ViewId, int]) -> None:
    with npy2bdv.open(path_xml) as dataset:
        for id_, planes in safe.items():
            if planes:
                view = dataset.view(time=id_.time, setup=id_.setup)
                expected = np.stack([plane(id_.setup, z) for z in range(planes)])
                np.testing.assert_array_equal(view[:planes], expected)
        for view in dataset.views():
            np.testing.assert_array_equal(view.level(1)[...], npy2bdv.downsample(view[...], LEVELS[1]))


def no_threads_are_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("npy2bdv")]


class Failing:
    """Every write to disk passes here, and fails from one on, as on a full disk; a half of it may be written."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.writes = 0
        self.last = sys.maxsize
        self.number = errno.ENOSPC
        self._guard = threading.Lock()
        put, append, store = FlushedFile._put, Journal._append, FileStore.put
        replace_file = importlib.import_module("npy2bdv.storage.save").replace_file

        def spied_put(file: FlushedFile, offset: int, data: Any) -> None:
            if self.is_full():
                put(file, offset, memoryview(data)[: len(data) // 2])
                raise OSError(self.number, os.strerror(self.number))
            put(file, offset, data)

        def spied_append(journal: Journal, record: bytes) -> None:
            if self.is_full():
                raise OSError(self.number, os.strerror(self.number))
            append(journal, record)

        def spied_store(files: FileStore, key: str, parts: Any) -> None:
            if self.is_full():
                raise OSError(self.number, os.strerror(self.number))
            store(files, key, parts)

        def spied_replace(path: Path, text: bytes) -> Path:
            if self.is_full():
                raise OSError(self.number, os.strerror(self.number))
            found: Path = replace_file(path, text)
            return found

        patch.setattr(FlushedFile, "_put", spied_put)
        patch.setattr(Journal, "_append", spied_append)
        patch.setattr(FileStore, "put", spied_store)
        for room in ("writer", "recover"):
            patch.setattr(importlib.import_module(f"npy2bdv.{room}"), "replace_file", spied_replace)

    def is_full(self) -> bool:
        with self._guard:
            self.writes += 1
            return self.writes > self.last


@contextlib.contextmanager
def failing(after: int = sys.maxsize, number: int = errno.ENOSPC) -> Iterator[Failing]:
    with pytest.MonkeyPatch.context() as patch:
        found = Failing(patch)
        found.last, found.number = after, number
        yield found


@KINDS
def test_a_full_disk_at_each_write(tmp_path: Path, options: dict[str, Any]) -> None:
    """What was acknowledged is there, as it lies or after `recover`; there is one clear error; nothing stays open."""
    shape = (11, *SHAPE[1:])
    with failing() as counted:
        record(tmp_path / "all.xml", [], shape, **options)
    for after in range(counted.writes):
        folder = tmp_path / f"{after}"
        folder.mkdir()
        path = folder / "a.xml"
        told: Told = []
        error = None
        with failing(after) as disk:
            try:
                record(path, told, shape, **options)
            except WriteError as raised:
                error = raised
        if error is None:  # the order of writes, and so their number, is not always the same
            assert disk.writes <= after
        else:
            assert f"the disk of {folder} is full" in str(error)
            assert "Make room on it" in str(error)
        if told and error is not None:
            assert f"{sum(told[-1].values())} planes of 2 views are safe" in str(error)
        assert no_threads_are_left()
        if not told:
            shutil.rmtree(folder)
            continue
        pixels = next(each for each in folder.iterdir() if each.suffix in (".h5", ".n5", ".zarr"))
        if journal_path(pixels).exists():
            assert npy2bdv.recover(path).damage is None
        check(path, told[-1])
        with npy2bdv.create(path, mode="a") as writer:  # and it goes on
            setup = writer.add_setup(shape=shape, channel=0)
            writer.write(np.stack([plane(0, z) for z in range(shape[0])]), setup=setup, time=1)
        shutil.rmtree(folder)


def most_writes(folder: Path, options: dict[str, Any]) -> int:
    """How many writes lead to about the middle of a recording."""
    (folder / "whole").mkdir()
    with failing() as counted:
        record(folder / "whole" / "a.xml", [], **options)
    shutil.rmtree(folder / "whole")
    return counted.writes * 6 // 10


@pytest.mark.parametrize("options", FORMATS[:3], ids=str)
def test_a_disk_that_fills_up_while_it_is_recovered(tmp_path: Path, options: dict[str, Any]) -> None:
    """It may be called again."""
    told: Told = []
    with contextlib.suppress(WriteError), failing(most_writes(tmp_path, options)):
        record(tmp_path / "a.xml", told, **options)
    assert told
    after = 0
    while True:
        folder = tmp_path / f"{after}"
        folder.mkdir()
        for each in tmp_path.glob("a.*"):
            (shutil.copytree if each.is_dir() else shutil.copy)(each, folder / each.name)
        error = None
        with failing(after):
            try:
                npy2bdv.recover(folder / "a.xml")
            except WriteError as raised:
                error = raised
        if error is None:
            break
        assert "is full" in str(error)
        npy2bdv.recover(folder / "a.xml")
        check(folder / "a.xml", told[-1])
        after += 2
    check(folder / "a.xml", told[-1])


CHILD = """
import json, resource, sys, numpy as np, npy2bdv
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import test_disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
told = []
try:
    test_disk.record(Path(sys.argv[2]), told, **json.loads(sys.argv[4]))
except npy2bdv.BdvError as error:
    print(json.dumps([[[*view, planes] for view, planes in (told or [{}])[-1].items()], str(error)]))
else:
    print(json.dumps([[[*view, planes] for view, planes in told[-1].items()], ""]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("options", FORMATS[:2], ids=str)
@pytest.mark.parametrize("limit", [40_000, 60_000, 75_000])
def test_files_that_may_not_become_larger(tmp_path: Path, options: dict[str, Any], limit: int) -> None:
    """The limit of the system on a process: it says what is wrong, closes, and ends."""
    path = tmp_path / "a.xml"
    words = [sys.executable, "-c", CHILD, __file__, str(path), str(limit), json.dumps(options)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    views, error = json.loads(ended.stdout)
    if error:
        assert "is full (or a quota, or the largest file that it takes, is reached)" in error
        if journal_path(path.with_suffix(".h5")).exists():
            npy2bdv.recover(path)
    if views:
        check(path, {ViewId(time, setup): planes for time, setup, planes in views})


# ------------------------------------------------------------------------------------- what is said of it


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, r"the disk of .* is full: .*No space left.*Make room on it"),
        (errno.EDQUOT, r"the disk of .* is full \(or a quota.*Make room on it"),
        (errno.EIO, r"the disk of .*, or its connection, is broken: .*Copy what is on it to another"),
        (errno.ESTALE, r"the folder .* is gone, or its drive is not connected any more: .*Connect it again"),
        (errno.ENODEV, r"the folder .* is gone, or its drive is not connected any more"),
        (errno.EROFS, r".* cannot be written to: .*Read-only file system.*See to its permissions"),
    ],
)
@pytest.mark.parametrize("options", FORMATS[:3], ids=str)
def test_each_fault_has_its_words(tmp_path: Path, options: dict[str, Any], number: int, said: str) -> None:
    """In the next call, in close, and with how many planes are safe; then the rest is there."""
    path = tmp_path / "a.xml"
    told: Told = []
    most = most_writes(tmp_path, options)
    with failing(most, number), pytest.raises(WriteError, match=said) as caught:
        record(path, told, **options)
    assert "planes of 2 views are safe" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == number
    npy2bdv.recover(path)
    check(path, told[-1])


def test_hdf5_tells_by_text() -> None:
    error = RuntimeError(
        "Can't write data (file write failed: time = now, errno = 28, error message = '...')"
    )
    assert why(error, Path("here")).startswith("the disk of here is full: [Errno 28] No space left")


@pytest.mark.posix
def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    """A network drive that is gone: the error says so, the writer closes, nothing hangs."""
    folder = tmp_path / "drive"
    folder.mkdir()
    writer = npy2bdv.create(folder / "a.n5", chunks=CHUNK, checkpoint_seconds=1000)
    view = writer.stream(setup=writer.add_setup(shape=SHAPE))
    view.append(plane(0, 0))
    writer.checkpoint()
    folder.rename(tmp_path / "elsewhere")

    def go_on() -> None:
        for z in range(1, SHAPE[0]):
            view.append(plane(0, z))
            writer.checkpoint()

    with pytest.raises(
        WriteError, match=r"the folder .*drive is gone, or its drive is not connected any more"
    ):
        go_on()
    with pytest.raises(WriteError, match=r"drive is gone, .* planes of 1 views are safe"):
        writer.close()
    assert writer.closed
    assert no_threads_are_left()
    (tmp_path / "elsewhere").rename(folder)
    npy2bdv.recover(folder / "a.xml")
    check_first(folder / "a.xml")


def check_first(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view()[0], plane(0, 0))


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.name != "nt" and os.geteuid():  # a superuser may write everywhere
        tmp_path.chmod(0o500)
    else:

        def refuse(*_: Any, **__: Any) -> Any:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(
        WriteError, match=r"the folder .* cannot be written to .*Permission denied.*choose another"
    ):
        npy2bdv.create(tmp_path / "a.xml")
    tmp_path.chmod(0o700)
    assert not [*tmp_path.iterdir()]


# --------------------------------------------------------------------------------------------------- room


def free(monkeypatch: pytest.MonkeyPatch, nbytes: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=int(nbytes), total=10**15))


@KINDS
def test_room_is_looked_up_before_a_view_is_declared(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.xml"
    nbytes = 2 * 20 * 24 * 40 * (1 + 1 / 8)
    share = 1 if options == FORMATS[0] else 0.1
    with npy2bdv.create(path, levels=LEVELS, **options) as writer:
        setups = [writer.add_setup(shape=SHAPE, channel=i) for i in range(2)]
        free(monkeypatch, nbytes * share - 10)
        before = [*path.parent.rglob("*")]
        with pytest.raises(
            WriteError, match=r"time point 0 of setup 0 takes .* GB, levels included, and .* GB are free in"
        ):
            writer.stream(setup=setups[0])
        assert [*path.parent.rglob("*")] == before
        free(monkeypatch, 1.5 * nbytes * share)
        view = writer.stream(setup=setups[0])
        with pytest.raises(WriteError, match=r"beside .* GB that open views will need"):
            writer.stream(setup=setups[1])
        view.put(np.ones(SHAPE, "uint16"), 0)
        view.close()
        writer.stream(setup=setups[1])


def test_a_view_of_unknown_length_needs_room_for_its_first_planes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with npy2bdv.create(tmp_path / "a.xml", chunks=CHUNK) as writer:
        setup = writer.add_setup(shape=(None, 24, 40))
        free(monkeypatch, 4 * 24 * 40 * 2 - 1)
        with pytest.raises(WriteError, match="GB are free in"):
            writer.stream(setup=setup)
        free(monkeypatch, 4 * 24 * 40 * 2)
        writer.stream(setup=setup)


def test_a_disk_that_will_be_full_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with npy2bdv.create(tmp_path / "a.xml", chunks=CHUNK, checkpoint_seconds=1000) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        free(monkeypatch, 1000)
        with caplog.at_level(logging.WARNING):
            for z in range(8):
                view.append(plane(0, z))
                writer.checkpoint()
    said = [each for each in caplog.messages if "will be full in about" in each]
    assert len(said) == 1


def test_room_for_a_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = np.ones((2, 20, 24, 40), "uint16")
    free(monkeypatch, 1.5 * stack[0].nbytes)
    with pytest.raises(
        WriteError, match=r"the new dataset b\.h5 takes .* GB are free in .*: make room, or compress"
    ):
        npy2bdv.resave(stack, tmp_path / "b.xml", axes="czyx")
    assert not [*tmp_path.iterdir()]
    npy2bdv.resave(stack[0], tmp_path / "b.xml", axes="zyx", levels=((1, 1, 1),))


def test_room_for_a_copy_that_is_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.suppress(BdvError), failing(most_writes(tmp_path, {"compression": "gzip"})):
        record(tmp_path / "a.xml", [], compression="gzip")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    free(monkeypatch, 1000)
    with pytest.raises(WriteError, match=r"a copy of a\.h5 takes .* GB are free in .*: make room"):
        npy2bdv.recover(tmp_path / "a.xml", tmp_path / "b.xml")
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if name.startswith("b.")]


def test_a_copy_takes_no_space_for_zeros(tmp_path: Path) -> None:
    data = bytes(2**20) + b"x" + bytes(3 * 2**20) + b"y" + bytes(100)
    (tmp_path / "a").write_bytes(data)
    copy_sparse(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == data
    if os.name != "nt":
        assert (tmp_path / "b").stat().st_blocks * 512 < 3 * 2**20


def test_pixels_that_cannot_be_read_while_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is read again to be completed must not turn into zeros."""
    path = tmp_path / "a.xml"
    writer = npy2bdv.create(path, chunks=CHUNK, checkpoint_seconds=1000)
    view = writer.stream(setup=writer.add_setup(shape=SHAPE))
    view.put(np.stack([plane(0, z) for z in range(4)]), 0)
    writer.checkpoint()
    writer._engine.drain()

    class Broken:
        def __init__(self, file: Any) -> None:
            self._file = file

        def readinto(self, _: Any) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    medium = writer.container._medium  # type: ignore[attr-defined]
    monkeypatch.setattr(medium, "_file", Broken(medium._file))
    with pytest.raises((WriteError, OSError), match="Input/output error"):
        view.put(plane(1, 0)[np.newaxis, :5], 1)
    with pytest.raises(WriteError, match="is broken"):
        writer.close()
    npy2bdv.recover(path)
    with h5py.File(path.with_suffix(".h5")) as file:
        found = file["t00000/s00/0/cells"][:4].view("uint16")
    np.testing.assert_array_equal(found, np.stack([plane(0, z) for z in range(4)]))
