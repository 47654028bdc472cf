"""HDF5 files whose description was torn, by a kill within a flush or worse: nothing acknowledged is lost.

Each write by which a flush or the closing of a file reaches the disk is recorded, and the files are looked at as they
were after each of them: as a kill at that instant would have left them.
"""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.flushes import FlushedFile, pending_flush
from npy2bdv.storage.journal import Journal, journal_path, redo_path

SHAPE = (14, 20, 24)
CHUNK = (4, 16, 16)
LEVELS = ((1, 1, 1), (2, 2, 2))
KINDS = pytest.mark.parametrize("compression", [None, "gzip"])


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(1, 60000, shape, "uint16")


STACKS = [noise(seed) for seed in range(8)]

Acknowledged = dict[ViewId, int]
"""Of each view how many of its first planes are safe."""


@dataclass
class Disk:
    """Every write to disk of a recording passes here; it keeps what the files were like before each."""

    folder: Path
    keep: Path
    acknowledged: Acknowledged
    said: list[Acknowledged] = field(default_factory=list)
    guard: Any = field(default_factory=threading.Lock)

    def note(self) -> None:
        """Keep the files as they are now."""
        with self.guard:
            copy = self.keep / f"{len(self.said):04d}"
            copy.mkdir(parents=True)
            for path in self.folder.glob("a.*"):
                if path.suffix != ".lock":
                    shutil.copy(path, copy)
            self.said.append(dict(self.acknowledged))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Records writes of flushes: those into the HDF5 file, and those of the record before it."""
    (tmp_path / "now").mkdir()
    found = Disk(folder=tmp_path / "now", keep=tmp_path / "states", acknowledged={})
    put, add, settle = FlushedFile._put, Journal.add, FlushedFile._settle
    flushing: list[bool] = []

    def spied_put(self: FlushedFile, offset: int, data: Any) -> None:
        if flushing:
            found.note()
            if len(data) > 1:  # a write that was half done
                put(self, offset, data[: len(data) // 2])
                found.note()
        put(self, offset, data)

    def spied_add(self: Journal, kind: str, *rest: Any) -> None:
        found.note()
        add(self, kind, *rest)

    def spied_settle(self: FlushedFile, *rest: Any, **more: Any) -> None:
        flushing.append(True)
        try:
            settle(self, *rest, **more)
            found.note()
        finally:
            flushing.pop()

    monkeypatch.setattr(FlushedFile, "_put", spied_put)
    monkeypatch.setattr(FlushedFile, "_settle", spied_settle)
    monkeypatch.setattr(Journal, "add", spied_add)
    yield found


def record(folder: Path, compression: Any, acknowledged: Acknowledged) -> None:
    """Two channels, two time points, one view of which planes are missing, one that is replaced."""
    with npy2bdv.create(
        folder / "a.xml", levels=LEVELS, chunks=CHUNK, compression=compression, checkpoint_seconds=1000
    ) as writer:
        setups = [writer.add_setup(shape=SHAPE, channel=i) for i in range(2)]
        views = [writer.stream(setup=setup) for setup in setups]
        for stop in (3, 9, 14):
            for number, view in enumerate(views):
                start = view.planes_there
                view.put(STACKS[number][start:stop], start)
            acknowledged |= writer.checkpoint()
        with writer.stream(setup=setups[0], time=1) as view:
            view.put(STACKS[2][:6], 0)
        acknowledged |= writer.checkpoint()


def check(path_xml: Path, acknowledged: Acknowledged, report: npy2bdv.Recovery) -> None:
    """Compare with what was acknowledged, and all levels with the full resolution."""
    known = {each.view: each for each in report}
    with npy2bdv.open(path_xml) as dataset, h5py.File(report.path_pixels) as file:
        for id_, planes in acknowledged.items():
            if not planes:
                continue
            stack = STACKS[id_.setup if id_.time == 0 else 2]
            assert known[id_].planes >= planes
            assert not known[id_].damaged
            np.testing.assert_array_equal(dataset.view(time=id_.time, setup=id_.setup)[:planes], stack[:planes])
            cells = file[f"t{id_.time:05d}/s{id_.setup:02d}/0/cells"]  # and by plain h5py
            np.testing.assert_array_equal(cells[:planes].view("uint16"), stack[:planes])
        for view in dataset.views():
            pixels = view[...]
            for level, factors in enumerate(LEVELS):
                np.testing.assert_array_equal(view.level(level)[...], npy2bdv.downsample(pixels, factors))


def fingerprint(folder: Path) -> dict[str, str]:
    files = (path for path in folder.iterdir() if path.suffix != ".lock")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@KINDS
def test_a_kill_at_each_write_of_each_flush(disk: Disk, compression: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the record of the flush, the file itself is put in order."""
    record(disk.folder, compression, disk.acknowledged)
    monkeypatch.undo()
    torn = 0
    for number, acknowledged in enumerate(disk.said):
        path = disk.keep / f"{number:04d}" / "a.xml"
        if not journal_path(path.with_suffix(".h5")).exists():
            assert not acknowledged or number == len(disk.said) - 1
            continue
        torn += pending_flush(path.with_suffix(".h5")) is not None
        if not path.is_file() and not acknowledged:
            continue
        report = npy2bdv.recover(path)
        assert report.damage is None
        assert report.path_xml == path
        check(path, acknowledged, report)
    assert torn > 20


@KINDS
def test_the_same_without_that_record(disk: Disk, compression: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file is made of the chunks, by the journal, where HDF5 does not find all; the original stays."""
    record(disk.folder, compression, disk.acknowledged)
    monkeypatch.undo()
    made = 0
    for number, acknowledged in enumerate(disk.said):
        path = disk.keep / f"{number:04d}" / "a.xml"
        pixels = path.with_suffix(".h5")
        if not path.is_file() or not redo_path(pixels).exists() or pending_flush(pixels) is None:
            continue
        redo_path(pixels).unlink()
        before = fingerprint(path.parent)
        report = npy2bdv.recover(path)
        check(report.path_xml, acknowledged, report)
        if report.damage is not None:
            made += 1
            assert report.path_xml == path.with_name("a-recovered.xml")
            assert {name: fingerprint(path.parent)[name] for name in before} == before
    assert made > 5
