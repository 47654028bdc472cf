"""HDF5 files whose description was torn, by a kill within a flush or worse: nothing acknowledged is lost.

Each write by which a flush or the closing of a file reaches the disk is recorded, and the files are looked at as they
were after each of them: as a kill at that instant would have left them.
"""

import hashlib
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import ExistsError, FormatError, InvalidInputError, NotFoundError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.flushes import FlushedFile, pending_flush, write_redo
from npy2bdv.storage.journal import Journal, journal_path, redo_path
from npy2bdv.storage.recorded import Recorded

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
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
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
        if kind in ("redo", "done"):  # before the flush, and when it has been made
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
    return found


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
            np.testing.assert_array_equal(
                dataset.view(time=id_.time, setup=id_.setup)[:planes], stack[:planes]
            )
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
def test_a_kill_at_each_write_of_each_flush(
    disk: Disk, compression: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
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


# ----------------------------------------------------------------------------------------- worse damage


def left_by_a_kill(folder: Path, compression: Any, **more: Any) -> Path:
    """One view complete, one of which planes are missing, one being recorded; all levels of the first two."""
    options = {"levels": LEVELS, "chunks": CHUNK, "checkpoint_seconds": 1000, **more}
    writer = npy2bdv.create(folder / "a.xml", compression=compression, **options)
    setups = [writer.add_setup(shape=SHAPE, channel=i, voxel_size_xyz=(1, 1, 3)) for i in range(2)]
    writer.write(STACKS[0], setup=setups[0])
    with writer.stream(setup=setups[1]) as view:
        view.put(STACKS[1][:6], 0)
        view.put(STACKS[1][12:], 12)
    view = writer.stream(setup=setups[0], time=1)
    view.put(STACKS[2][:10], 0)
    writer.checkpoint()
    copy = folder / "killed"
    copy.mkdir()
    for path in folder.glob("a.*"):
        if path.suffix != ".lock":
            shutil.copy(path, copy)
    writer.close()
    return copy / "a.xml"


def expected() -> dict[tuple[int, int], NDArray[np.uint16]]:
    found = {(0, 0): STACKS[0].copy(), (0, 1): STACKS[1].copy(), (1, 0): STACKS[2].copy()}
    found[0, 1][6:12] = found[1, 0][10:] = 0
    return found


def check_all(report: npy2bdv.Recovery) -> None:
    with npy2bdv.open(report.path_xml) as dataset:
        assert [view.id for view in dataset.views()] == sorted(expected())
        for (time, setup), stack in expected().items():
            view = dataset.view(time=time, setup=setup)
            assert view.dtype == stack.dtype
            assert view.voxel_size_xyz is not None
            assert [*view.voxel_size_xyz] == [1, 1, 3]
            for level, factors in enumerate(LEVELS):
                np.testing.assert_array_equal(view.level(level)[...], npy2bdv.downsample(stack, factors))
    with h5py.File(report.path_pixels) as file:
        assert file["t00000/s01"].attrs["npy2bdv_missing_planes"].tolist() == [[6, 12]]


@KINDS
@pytest.mark.parametrize("damage", ["superblock", "tree"])
def test_a_description_that_is_lost(tmp_path: Path, compression: Any, damage: str) -> None:
    """All pixels come from the chunks; the original stays, and so does its journal."""
    path = left_by_a_kill(tmp_path, compression)
    pixels = path.with_suffix(".h5")
    if damage == "superblock":
        pixels.write_bytes(bytes(96) + pixels.read_bytes()[96:])
    else:
        data = pixels.read_bytes()
        pixels.write_bytes(data.replace(b"TREE", b"\0\0\0\0").replace(b"HEAP", b"\0\0\0\0"))
    before = fingerprint(path.parent)
    report = npy2bdv.recover(path)
    assert report.damage
    assert (report.path_xml.name, report.path_pixels.name) == ("a-recovered.xml", "a-recovered.h5")
    assert [(each.planes, each.damaged) for each in report] == [(14, ()), (8, ()), (10, ())]
    check_all(report)
    assert {name: fingerprint(path.parent)[name] for name in before} == before
    assert fingerprint(path.parent).keys() - before == {"a-recovered.xml", "a-recovered.h5"}
    with pytest.raises(ExistsError, match=r"a-recovered\.xml already exists, .* choose another name .*--out"):
        npy2bdv.recover(path)


@KINDS
def test_a_result_of_another_name(tmp_path: Path, compression: Any) -> None:
    """Of a file that is sound: it is copied, and the copy is mended."""
    path = left_by_a_kill(tmp_path, compression)
    before = fingerprint(path.parent)
    (tmp_path / "there").mkdir()
    report = npy2bdv.recover(path, tmp_path / "there" / "b.xml")
    assert report.damage is None
    assert sorted(each.name for each in (tmp_path / "there").iterdir()) == ["b.h5", "b.xml"]
    check_all(report)
    assert fingerprint(path.parent) == before


def test_a_name_that_cannot_be(tmp_path: Path) -> None:
    path = left_by_a_kill(tmp_path, None)
    before = fingerprint(path.parent)
    with pytest.raises(InvalidInputError, match=r"'b\.h5' is no name for an XML; write NAME\.xml"):
        npy2bdv.recover(path, tmp_path / "b.h5")
    with pytest.raises(NotFoundError, match=r"the folder .*nowhere does not exist"):
        npy2bdv.recover(path, tmp_path / "nowhere" / "b.xml")
    (tmp_path / "a.xml").unlink()
    with pytest.raises(ExistsError, match=r"a\.h5 already exists"):
        npy2bdv.recover(path, tmp_path / "a.xml")
    assert fingerprint(path.parent) == before


@pytest.mark.parametrize("size", [0, 1500, 0.5])
def test_a_file_that_was_cut(tmp_path: Path, size: float) -> None:
    """What is left of each view is said plane by plane, and is right."""
    path = left_by_a_kill(tmp_path, "gzip")
    pixels = path.with_suffix(".h5")
    data = pixels.read_bytes()
    pixels.write_bytes(data[: int(size if size > 1 else size * len(data))])
    report = npy2bdv.recover(path)
    assert report.damage
    assert any(each.damaged for each in report)
    there = 0
    with npy2bdv.open(report.path_xml) as dataset:
        for each in report:
            gone = {z for start, stop in (*each.missing, *each.damaged) for z in range(start, stop)}
            whole = [z for z in range(each.depth) if z not in gone]
            assert len(whole) == each.planes
            there += len(whole)
            if whole:
                view = dataset.view(time=each.view.time, setup=each.view.setup)
                np.testing.assert_array_equal(view[...][whole], expected()[each.view][whole])
    assert there if size == 0.5 else there <= 2  # rows that were not full lie in the log


@KINDS
def test_chunks_that_are_damaged(tmp_path: Path, compression: Any) -> None:
    """Of compressed chunks it is known; of others nothing but a file that is too short tells."""
    path = left_by_a_kill(tmp_path, compression)
    pixels = path.with_suffix(".h5")
    recorded = Recorded.of(pixels)
    places = recorded.images[ViewId(0, 0)][0].places()
    data = bytearray(pixels.read_bytes())
    offset = int(places.offsets[1, 1, 0])
    data[offset + 20 : offset + 30] = bytes(10)
    data[:96] = bytes(96)
    pixels.write_bytes(data)
    report = npy2bdv.recover(path)
    first = report[0]
    assert first.damaged == (((4, 8),) if compression else ())
    assert first.planes == (10 if compression else 14)
    assert not first.missing
    with npy2bdv.open(report.path_xml) as dataset:
        pixels_now = dataset.view(time=0, setup=0)[...]
        np.testing.assert_array_equal(pixels_now[:, :16], STACKS[0][:, :16])
        if compression:  # lower levels are made again, then
            level = dataset.view(time=0, setup=0).level(1)
            np.testing.assert_array_equal(level[...], npy2bdv.downsample(pixels_now, LEVELS[1]))


@KINDS
def test_levels_without_the_full_resolution(tmp_path: Path, compression: Any) -> None:
    path = left_by_a_kill_of_a_coarse_view(tmp_path, compression)
    pixels = path.with_suffix(".h5")
    pixels.write_bytes(bytes(96) + pixels.read_bytes()[96:])
    report = npy2bdv.recover(path)
    with npy2bdv.open(report.path_xml) as dataset:
        np.testing.assert_array_equal(dataset.view().level(0)[...], npy2bdv.downsample(STACKS[0], (2, 2, 2)))
        assert dataset.spimdata.setups[0].size_xyz == SHAPE[::-1]


def left_by_a_kill_of_a_coarse_view(folder: Path, compression: Any) -> Path:
    with npy2bdv.create(
        folder / "a.xml", levels=((2, 2, 2), (4, 4, 4)), chunks=CHUNK, compression=compression
    ) as writer:
        writer.write(STACKS[0], setup=writer.add_setup(shape=SHAPE))
        writer.checkpoint()
        copy = folder / "killed"
        copy.mkdir()
        for path in folder.glob("a.*"):
            if path.suffix != ".lock":
                shutil.copy(path, copy)
    return copy / "a.xml"


@KINDS
def test_a_view_of_unknown_length(tmp_path: Path, compression: Any) -> None:
    """The places of chunks that came by growing are known, too."""
    stack = noise(9, (75, 20, 24))
    with npy2bdv.create(
        tmp_path / "a.xml", levels=LEVELS, chunks=CHUNK, compression=compression, checkpoint_seconds=1000
    ) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(None, 20, 24)))
        for z, plane in enumerate(stack):
            view.append(plane)
            if z % 20 == 10:
                writer.checkpoint()
        copy = tmp_path / "killed"
        copy.mkdir()
        for path in tmp_path.glob("a.*"):
            if path.suffix != ".lock":
                shutil.copy(path, copy)
    pixels = copy / "a.h5"
    pixels.write_bytes(bytes(96) + pixels.read_bytes()[96:])
    report = npy2bdv.recover(pixels)
    assert not report[0].missing
    assert report[0].planes >= 71
    with npy2bdv.open(report.path_xml) as dataset:
        found = dataset.view()[...]
        np.testing.assert_array_equal(found[:71], stack[:71])
        assert dataset.spimdata.setups[0].size_xyz == (24, 20, len(found))
        np.testing.assert_array_equal(dataset.view().level(1)[...], npy2bdv.downsample(found, LEVELS[1]))


def test_a_journal_that_says_nothing(tmp_path: Path) -> None:
    path = left_by_a_kill(tmp_path, None)
    journal = journal_path(path.with_suffix(".h5"))
    journal.write_bytes(journal.read_bytes()[:40])
    before = fingerprint(path.parent)
    with pytest.raises(FormatError, match=r"holds not one whole record.* Nothing has been changed"):
        npy2bdv.recover(path)
    assert fingerprint(path.parent) == before


# ---------------------------------------------------------------------------------- sessions that append


def left_by_a_kill_while_appending(folder: Path, **options: Any) -> Path:
    """Two views of a session that was closed, one of which is replaced; one more of a session that is killed."""
    with npy2bdv.create(folder / "a.xml", levels=LEVELS, chunks=CHUNK, **options) as writer:
        for number in range(2):
            writer.write(STACKS[number], setup=writer.add_setup(shape=SHAPE, channel=number))
    copy = folder / "killed"
    copy.mkdir()
    with npy2bdv.create(folder / "a.xml", mode="a", checkpoint_seconds=1000) as writer:
        setup = writer.add_setup(shape=SHAPE, channel=0)
        view = writer.stream(setup=setup, time=1)
        view.put(STACKS[2][:10], 0)
        writer.checkpoint()
        for path in folder.glob("a.*"):
            if path.suffix != ".lock":
                (shutil.copytree if path.is_dir() else shutil.copy)(path, copy / path.name)
    return copy / "a.xml"


def check_appended(report: npy2bdv.Recovery) -> None:
    third = np.where(np.arange(14)[:, None, None] < 10, STACKS[2], 0)
    with npy2bdv.open(report.path_xml) as dataset:
        assert [view.id for view in dataset.views()] == [(0, 0), (0, 1), (1, 0)]
        for view, stack in zip(dataset.views(), (STACKS[0], STACKS[1], third), strict=True):
            for level, factors in enumerate(LEVELS):
                np.testing.assert_array_equal(view.level(level)[...], npy2bdv.downsample(stack, factors))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": None},
        {"compression": "gzip"},
        {"format": "n5", "compression": "gzip"},
        {"zarr_version": 2},
        {"zarr_version": 3},
    ],
    ids=str,
)
def test_a_session_that_appends(tmp_path: Path, options: Any) -> None:
    """In place; what earlier sessions wrote is as it was. Then the next session appends."""
    path = left_by_a_kill_while_appending(tmp_path, **options)
    report = npy2bdv.recover(path)
    assert report.damage is None
    check_appended(report)
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(STACKS[3], setup=writer.add_setup(shape=SHAPE, channel=0), time=2)
        writer.write(STACKS[4], setup=writer.add_setup(shape=SHAPE, channel=1), time=1)
    with npy2bdv.open(path) as dataset:
        assert len([*dataset.views()]) == 5
        np.testing.assert_array_equal(dataset.view(time=2, setup=0)[...], STACKS[3])
        np.testing.assert_array_equal(
            dataset.view(time=1, setup=1).level(1)[...], npy2bdv.downsample(STACKS[4], LEVELS[1])
        )
        np.testing.assert_array_equal(dataset.view(time=0, setup=1)[...], STACKS[1])


@KINDS
def test_a_torn_file_of_a_session_that_appends(tmp_path: Path, compression: Any) -> None:
    """The images of earlier sessions are rescued, too."""
    path = left_by_a_kill_while_appending(tmp_path, compression=compression)
    pixels = path.with_suffix(".h5")
    pixels.write_bytes(bytes(96) + pixels.read_bytes()[96:])
    report = npy2bdv.recover(path)
    assert report.damage
    assert [each.planes for each in report] == [14, 14, 10]
    check_appended(report)


@KINDS
def test_a_recovered_recording_is_appended_to(tmp_path: Path, compression: Any) -> None:
    path = left_by_a_kill(tmp_path, compression)
    npy2bdv.recover(path)
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(STACKS[5], setup=writer.add_setup(shape=SHAPE, channel=1), time=1)
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(time=1, setup=1)[...], STACKS[5])
        for (time, setup), stack in expected().items():
            np.testing.assert_array_equal(dataset.view(time=time, setup=setup)[...], stack)


def test_a_change_of_a_dataset_that_no_journal_speaks_of(tmp_path: Path) -> None:
    """Opening reads the file as it will be; `recover`, and who changes it next, complete it."""
    path = tmp_path / "a.xml"
    with npy2bdv.create(path, levels=LEVELS, chunks=CHUNK) as writer:
        for number in range(2):
            writer.write(STACKS[number], setup=writer.add_setup(shape=SHAPE, channel=number))
    pixels = path.with_suffix(".h5")
    whole = pixels.read_bytes()
    redo = Journal(redo_path(pixels))
    write_redo(redo, [(0, whole[:2000])], len(whole))
    redo.close(remove=False)
    torn = bytes(100) + whole[100:]
    pixels.write_bytes(torn)
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=1)[...], STACKS[1])
    assert pixels.read_bytes() == torn  # reading changes nothing
    report = npy2bdv.recover(path)
    assert (len(report), report.path_xml, pixels.read_bytes()) == (0, path, whole)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.h5", "a.xml"]
