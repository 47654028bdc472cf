"""recover(): what it brings into order, and what it refuses.

The files of a running recording are copied, which is what a kill would leave of them; see `test_crash` for kills.
"""

import hashlib
import importlib
import shutil
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv import checkpoints
from npy2bdv.checkpoints import Safety
from npy2bdv.errors import NotFoundError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.journal import Journal, planes_path, read_records

SHAPE = (30, 20, 24)
LEVELS = ((1, 1, 1), (2, 2, 2))
KINDS = pytest.mark.parametrize("compression", [None, "gzip"])


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(1, 60000, shape, "uint16")


def begin(folder: Path, compression: str | None, **more: Any) -> npy2bdv.DatasetWriter:
    options = {"levels": LEVELS, "chunks": (4, 16, 16), "checkpoint_seconds": 1000, **more}
    return npy2bdv.create(folder / "a.xml", compression=compression, **options)


def left_by_a_kill(folder: Path) -> Path:
    copy = folder / "killed"
    copy.mkdir()
    for path in folder.glob("a.*"):
        shutil.copy(path, copy)
    return copy / "a.xml"


def fingerprint(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def check(path: Path, expected: NDArray[np.uint16], *, time: int = 0, setup: int = 0) -> None:
    with npy2bdv.open(path) as dataset:
        view = dataset.view(time=time, setup=setup)
        for level, factors in enumerate(LEVELS):
            np.testing.assert_array_equal(view.level(level)[...], npy2bdv.downsample(expected, factors))


@KINDS
def test_an_interrupted_view(tmp_path: Path, compression: str | None) -> None:
    """Planes of a row that is not full, planes far ahead, planes that were dropped."""
    stack = noise()
    there = [*range(11), 17, *range(24, 30)]
    with begin(tmp_path, compression) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        for z in there:
            view.put(stack[z : z + 1], z)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    (report,) = npy2bdv.recover(path)
    assert (report.view, report.depth, report.planes) == (ViewId(0, 0), 30, 18)
    assert report.missing == ((11, 17), (18, 24))
    expected = np.zeros_like(stack)
    expected[there] = stack[there]
    check(path, expected)
    with h5py.File(path.with_suffix(".h5")) as file:
        assert file["t00000/s00"].attrs["npy2bdv_missing_planes"].tolist() == [[11, 17], [18, 24]]
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.h5", "a.xml"]
    before = fingerprint(path.parent)
    with pytest.raises(NotFoundError, match=r"no journal a\.h5\.journal .* closed cleanly"):
        npy2bdv.recover(path)
    assert fingerprint(path.parent) == before


@KINDS
def test_views_in_every_state(tmp_path: Path, compression: str | None) -> None:
    stacks = [noise(seed=seed) for seed in range(5)]
    with begin(tmp_path, compression) as writer:
        setups = [writer.add_setup(shape=SHAPE, channel=i) for i in range(3)]
        writer.write(stacks[0], setup=setups[0])
        with writer.stream(setup=setups[1]) as view:  # complete, with planes that never came
            view.put(stacks[1][:9], 0)
        given_up = writer.stream(setup=setups[2])
        given_up.put(stacks[2], 0)
        given_up.abort()
        writer.write(stacks[3], setup=setups[0], time=1)
        half = writer.stream(setup=setups[1], time=1)
        half.put(stacks[4][:13], 0)
        writer.stream(setup=setups[2], time=1)  # nothing of it came
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    found = npy2bdv.recover(path)
    assert not any(each.unconfirmed for each in found)
    report = {each.view: each.planes for each in found}
    assert report == {ViewId(0, 0): 30, ViewId(0, 1): 9, ViewId(1, 0): 30, ViewId(1, 1): 13, ViewId(1, 2): 0}
    stacks[1][9:] = stacks[4][13:] = 0
    for (time, setup), stack in zip(
        ((0, 0), (0, 1), (1, 0), (1, 1)), (stacks[0], stacks[1], stacks[3], stacks[4]), strict=True
    ):
        check(path, stack, time=time, setup=setup)
    with npy2bdv.open(path) as dataset:
        assert [view.id for view in dataset.views()] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("name", ["a.xml", "a.h5", "a.recording.xml"])
def test_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    stack = noise()
    (tmp_path / "a.xml").write_text("what was there before")
    with begin(tmp_path, "gzip", overwrite=True) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.put(stack[:7], 0)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    assert path.read_text() == "what was there before"
    npy2bdv.recover(path.with_name(name))
    stack[7:] = 0
    check(path, stack)
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.h5", "a.xml", "a.xml~1"]
    assert (path.parent / "a.xml~1").read_text() == "what was there before"


@KINDS
def test_of_unknown_length(tmp_path: Path, compression: str | None) -> None:
    """The view gets the planes that came; the size in the XML and every level are of that length."""
    stack = noise((75, 20, 24))
    with begin(tmp_path, compression) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(None, 20, 24)))
        for plane in stack:
            view.append(plane)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    (report,) = npy2bdv.recover(path)
    assert (report.planes, report.depth, report.missing) == (75, 75, ())
    check(path, stack)
    with npy2bdv.open(path) as dataset:
        assert dataset.spimdata.setups[0].size_xyz == (24, 20, 75)


@KINDS
def test_the_established_interface(tmp_path: Path, compression: Literal["gzip"] | None) -> None:
    stack = noise()
    with npy2bdv.BdvWriter(
        str(tmp_path / "a.h5"), subsamp=LEVELS, blockdim=((4, 16, 16),), compression=compression
    ) as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE, calibration=(1, 1, 3))
        for z in range(10):
            writer.append_plane(stack[z], z=z)
        writer.append_substack(stack[20:25, 3:9, 4:8], z_start=20, y_start=3, x_start=4)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    (report,) = npy2bdv.recover(path)
    assert (report.planes, report.missing) == (15, ((10, 20), (25, 30)))
    expected = np.zeros_like(stack)
    expected[:10] = stack[:10]
    expected[20:25, 3:9, 4:8] = stack[20:25, 3:9, 4:8]
    check(path, expected)
    with npy2bdv.open(path) as dataset:
        assert dataset.view().transform == npy2bdv.Affine.scale((1, 1, 3))


def test_a_long_log_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planes that are in the file by now leave the log, and it stays small."""
    monkeypatch.setattr(checkpoints, "_LOG_LIMIT", 3 * 20 * 24 * 2)
    stack = noise()
    sizes = []
    with begin(tmp_path, "gzip") as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        log = planes_path(tmp_path / "a.h5")
        for z, plane in enumerate(stack[:27]):
            view.append(plane)
            writer.checkpoint()
            sizes.append(log.stat().st_size if log.exists() else 0)
            if z == 25:
                assert {record.text["z"] for record in read_records(log)} <= set(range(20, 26))
        path = left_by_a_kill(tmp_path)
    assert max(sizes) < 8 * 20 * 24 * 2
    assert npy2bdv.recover(path)[0].missing == ((27, 30),)
    stack[27:] = 0
    check(path, stack)


def test_the_latest_of_a_plane_that_came_twice(tmp_path: Path) -> None:
    stack = noise()
    with begin(tmp_path, "gzip") as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.put(stack[:2], 0)
        writer.checkpoint()
        view.put(stack[5:6], 1)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    npy2bdv.recover(path)
    expected = np.zeros_like(stack)
    expected[:2] = stack[[0, 5]]
    check(path, expected)


def test_a_recording_of_a_view_that_was_given_up(tmp_path: Path) -> None:
    """Planes of the first one that the log still holds are not those of the second."""
    first, second = noise(seed=1), noise(seed=2)
    with begin(tmp_path, "gzip") as writer:
        setup = writer.add_setup(shape=SHAPE)
        view = writer.stream(setup=setup)
        view.put(first[:7], 0)
        writer.checkpoint()
        view.abort()
        view = writer.stream(setup=setup)
        view.put(second[4:6], 4)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    (report,) = npy2bdv.recover(path)
    assert report.missing == ((0, 4), (6, 30))
    second[:4] = second[6:] = 0
    check(path, second)


@pytest.mark.parametrize("when", ["after the checkpoint", "within it"])
def test_what_came_later_than_a_checkpoint_is_not_claimed(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view is completed after a checkpoint has flushed the file; nothing of that reaches the disk."""
    stack = noise()
    keep = Safety.keep

    def complete() -> None:
        flushed.append((tmp_path / "a.h5").read_bytes())
        view.put(stack[6:], 6)
        view.close()
        writer._settle_full()  # lets go of the view, and notes that it is complete

    def keep_later(self: Safety, *rest: Any, **more: Any) -> None:
        complete()
        keep(self, *rest, **more)

    flushed: list[bytes] = []
    with begin(tmp_path, "gzip") as writer:
        setups = [writer.add_setup(shape=SHAPE, channel=i) for i in range(2)]
        writer.write(stack, setup=setups[0])
        view = writer.stream(setup=setups[1])
        view.put(stack[:6], 0)
        if when == "within it":
            monkeypatch.setattr(Safety, "keep", keep_later)
            writer.checkpoint()
        else:
            writer.checkpoint()
            complete()
        copy = left_by_a_kill(tmp_path)
        copy.with_suffix(".h5").write_bytes(flushed[0])
    report = {each.view: each for each in npy2bdv.recover(copy)}
    assert report[ViewId(0, 0)].missing == ()
    assert report[ViewId(0, 1)].missing == ((6, 30),)
    stack[6:] = 0
    check(copy, stack, setup=1)


def test_it_may_be_interrupted_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = noise()
    with begin(tmp_path, "gzip") as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.put(stack[:7], 0)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("npy2bdv.recover"), "replace_file", stop)
    with pytest.raises(KeyboardInterrupt):
        npy2bdv.recover(path)
    monkeypatch.undo()
    assert npy2bdv.recover(path)[0].missing == ((7, 30),)
    stack[7:] = 0
    check(path, stack)


def test_what_a_kill_within_a_save_left_goes(tmp_path: Path) -> None:
    with begin(tmp_path, None) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.put(noise()[:7], 0)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    (path.parent / "a.xml.123.tmp").touch()
    (path.parent / "b.xml.123.tmp").touch()
    (path.parent / "a.h5.planes.new").touch()
    npy2bdv.recover(path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.h5", "a.xml", "b.xml.123.tmp"]


# --------------------------------------------------------------------------------------------- refusals


def test_what_was_closed_or_never_was_is_refused(tmp_path: Path) -> None:
    with begin(tmp_path, None) as writer:
        writer.write(noise(), setup=writer.add_setup(shape=SHAPE))
    before = fingerprint(tmp_path)
    for name in ("a.xml", "a.h5", "none.xml"):
        with pytest.raises(NotFoundError, match="there is no journal"):
            npy2bdv.recover(tmp_path / name)
    assert fingerprint(tmp_path) == before


def test_a_journal_that_breaks_off(tmp_path: Path) -> None:
    """The planes that its whole records speak of are there."""
    stack = noise()
    with begin(tmp_path, None) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.put(stack[:7], 0)
        writer.checkpoint()
        view.put(stack[7:11], 7)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    journal = path.with_name("a.h5.journal")
    journal.write_bytes(journal.read_bytes()[:-5])
    (report,) = npy2bdv.recover(path)
    assert report.unconfirmed == ((7, 11),)
    stack[11:] = 0
    check(path, stack)


def test_kinds_of_records_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    with begin(tmp_path, None) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        assert writer._safety._journal is not None
        Journal.add(writer._safety._journal, "news", {"of": "later versions"})
        view.put(noise()[:7], 0)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
    assert npy2bdv.recover(path)[0].planes == 7


@KINDS
@pytest.mark.parametrize("steps", [0, 1, 9])
def test_levels_that_were_being_added(tmp_path: Path, compression: str | None, steps: int) -> None:
    """Every view has all levels then, those that were not reached as well, whether they were full before or not."""
    stacks = [noise(seed=seed) for seed in range(3)]
    with begin(tmp_path, compression, levels=((1, 1, 1),)) as writer:
        setup = writer.add_setup(shape=SHAPE)
        for time in range(3):
            with writer.stream(setup=setup, time=time) as view:
                view.put(stacks[time][: 30 - 2 * time], 0)
            stacks[time][30 - 2 * time :] = 0
        writer.checkpoint()
        adding = writer.add_levels([(2, 2, 2)], (4, 16, 16), writer.card.codec(compression))
        for _ in range(1 + steps):
            next(adding)
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
        list(adding)
    assert [each.planes for each in npy2bdv.recover(path)] == [30, 28, 26]
    for time, stack in enumerate(stacks):
        check(path, stack, time=time)
        check(tmp_path / "a.xml", stack, time=time)


@pytest.mark.parametrize("options", [{"format": "n5"}, {"zarr_version": 2}, {"zarr_version": 3}], ids=str)
@pytest.mark.parametrize("left", ["nothing", "half"])
def test_blocks_that_are_not_whole(tmp_path: Path, options: dict[str, Any], left: str) -> None:
    """As a power cut may leave them: they are dropped, their planes are said to be damaged, the rest is as it was."""
    stacks = [noise(seed=seed) for seed in range(2)]
    with begin(tmp_path, "gzip", **options) as writer:
        setup = writer.add_setup(shape=SHAPE)
        writer.write(stacks[0], setup=setup)
        view = writer.stream(setup=setup, time=1)
        view.put(stacks[1][:18], 0)
        writer.checkpoint()
        copy = tmp_path / "killed"
        copy.mkdir()
        for path in tmp_path.glob("a.*"):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, copy / path.name)
    pixels = next(path for path in copy.iterdir() if path.is_dir())
    inside = {
        "n5": "setup0/timepoint1/s0/0/0/2",
        "2": "s0-t1.zarr/0/0/0/2/0/0",
        "3": "s0-t1.zarr/0/c/0/0/2/0/0",
    }
    block = pixels / inside[str(options.get("zarr_version", "n5"))]
    block.write_bytes(block.read_bytes()[: 0 if left == "nothing" else block.stat().st_size // 2])
    (block.parent / f"{block.name}.1-2.npy2bdv-part").write_bytes(b"half of it")
    found = {each.view: each for each in npy2bdv.recover(copy / "a.xml")}
    assert found[ViewId(0, 0)].is_whole
    damaged = found[ViewId(1, 0)]
    assert damaged.damaged == ((8, 12),)
    assert (damaged.planes, damaged.depth) == (14, 30)
    assert not [*pixels.rglob("*npy2bdv-part")]
    check(copy / "a.xml", stacks[0])
    with npy2bdv.open(copy / "a.xml") as dataset:
        pixels_now = dataset.view(time=1)[...]
        for z in {*range(18)} - {*range(8, 12)}:
            np.testing.assert_array_equal(pixels_now[z], stacks[1][z])
        level = dataset.view(time=1).level(1)
        np.testing.assert_array_equal(level[...], npy2bdv.downsample(pixels_now, LEVELS[1]))


@KINDS
def test_positions_outlive_a_kill(tmp_path: Path, compression: str | None) -> None:
    """Those of setups and those of single time points, a deskew, and the unit: all as they were said."""
    places = [(1.25, -1234.567, 0.1), (3.5, -1234.567, 0.3), (3333.333, 7.0, 0.0)]
    deskew = npy2bdv.Deskew(angle=31.8)
    with begin(tmp_path, compression) as writer:
        setup = writer.add_setup(
            shape=SHAPE,
            voxel_size_xyz=(0.4, 0.4, 1.5),
            unit="um",
            stage_position_xyz=places[0],
            deskew=deskew,
        )
        for time, place in enumerate(places):
            view = writer.stream(setup=setup, time=time, stage_position_xyz=place if time else None)
            view.put(noise()[:5], 0)
        before = writer.describe()
        writer.checkpoint()
        path = left_by_a_kill(tmp_path)
        path.unlink()  # what the journal says suffices
    npy2bdv.recover(path.with_suffix(".h5"))
    with npy2bdv.open(path) as dataset:
        assert [view.stage_position_xyz for view in dataset.views()] == places
        assert dataset.spimdata.registrations == before.registrations
        assert dataset.view(time=1).unit == "um"
