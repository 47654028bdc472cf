"""Views that are given up, and recorded again."""

import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import ClosedError, ExistsError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.hdf5 import Hdf5Container
from npy2bdv.storage.journal import journal_path, read_records

LEVELS = ((1, 1, 1), (2, 2, 2))
SHAPE = (30, 40, 50)
KINDS = pytest.mark.parametrize("compression", [None, "gzip"])


def noise(seed: int) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(1, 60000, SHAPE, "uint16")


def started(path: Path, compression: str | None, **more: Any) -> npy2bdv.DatasetWriter:
    return npy2bdv.create(path, levels=LEVELS, chunks=(4, 16, 16), compression=compression, **more)


def check(path: Path, expected: NDArray[np.uint16], *, time: int = 0) -> None:
    with npy2bdv.open(path) as dataset:
        view = dataset.view(time=time)
        for level, factors in enumerate(LEVELS):
            np.testing.assert_array_equal(view.level(level)[...], npy2bdv.downsample(expected, factors))


@KINDS
@pytest.mark.parametrize("checkpoint", [False, True])
def test_nothing_is_left(tmp_path: Path, compression: str | None, checkpoint: bool) -> None:
    stack = noise(0)
    with started(tmp_path / "a.xml", compression) as writer:
        setup = writer.add_setup(shape=SHAPE)
        writer.write(stack, setup=setup)
        view = writer.stream(setup=setup, time=1)
        for plane in stack[:17]:
            view.append(plane)
        if checkpoint:
            writer.checkpoint()
        view.abort()
        view.abort()  # once is enough
        with pytest.raises(ClosedError):
            view.append(stack[0])
        view.close()
        assert (view.planes_there, view.is_closed) == (0, True)
        assert writer.checkpoint() == {ViewId(0, 0): 30}
        writer.write(stack, setup=setup, time=2)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert [each.id for each in dataset.views()] == [(0, 0), (2, 0)]
        assert dataset.missing_views == (ViewId(1, 0),)
    with h5py.File(tmp_path / "a.h5") as file:
        assert "s00" not in file.get("t00001", {})
    check(tmp_path / "a.xml", stack, time=2)


def test_the_only_view(tmp_path: Path) -> None:
    with started(tmp_path / "a.xml", None) as writer:
        view = writer.stream(setup=writer.add_setup(shape=SHAPE))
        view.append(np.ones(SHAPE[1:], "uint16"))
        view.abort()
    with h5py.File(tmp_path / "a.h5") as file:
        assert not any(name.startswith("t") and "s00" in file[name] for name in file)
    assert not list(tmp_path.glob("*.journal"))


@KINDS
@pytest.mark.parametrize("planes", [0, 1, 5, 17, 30])
def test_recorded_again(tmp_path: Path, compression: str | None, planes: int) -> None:
    """In the same chunks; where the second recording is shorter, there is nothing of the first."""
    path = tmp_path / "a.xml"
    first, second = noise(1), noise(2)
    second[planes:] = 0
    with started(path, compression) as writer:
        setup = writer.add_setup(shape=SHAPE)
        view = writer.stream(setup=setup)
        for plane in first[:17]:
            view.append(plane)
        writer.checkpoint()
        size = path.with_suffix(".h5").stat().st_size
        view.abort()
        with writer.stream(setup=setup) as view:
            for plane in second[:planes]:
                view.append(plane)
        counts = writer.checkpoint()
        assert counts == ({ViewId(0, 0): planes} if planes else {})
        if planes <= 17:
            # compressed rows that are not full were not in the file before
            slack = 0 if compression is None else size // 10
            assert path.with_suffix(".h5").stat().st_size <= size + slack
        if not planes:
            writer.write(second, setup=setup, time=1)
    check(path, second, time=0 if planes else 1)
    with h5py.File(path.with_suffix(".h5")) as file:
        noted = file[f"t{0 if planes else 1:05d}/s00"].attrs.get("npy2bdv_missing_planes", np.empty((0, 2)))
        assert noted.tolist() == ([[planes, 30]] if 0 < planes < 30 else [])


@KINDS
def test_again_and_again_takes_no_space(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.h5"
    sizes = []
    stack = noise(3)
    with started(path, compression) as writer:
        setup = writer.add_setup(shape=SHAPE)
        for _ in range(6):
            view = writer.stream(setup=setup)
            for plane in stack[:25]:
                view.append(plane)
            writer.checkpoint()
            sizes.append(path.stat().st_size)
            view.abort()
        writer.write(stack, setup=setup)
    assert max(sizes) <= sizes[0] * (1 if compression is None else 1.05)
    check(path.with_suffix(".xml"), stack)


@KINDS
def test_while_another_view_goes_on(tmp_path: Path, compression: str | None) -> None:
    stacks = [noise(4), noise(5)]
    with started(tmp_path / "a.xml", compression) as writer:
        setups = [writer.add_setup(shape=SHAPE, channel=i) for i in range(2)]
        views = [writer.stream(setup=setup) for setup in setups]
        for z in range(13):
            for view, stack in zip(views, stacks, strict=True):
                view.append(stack[z])
        views[1].abort()
        again = writer.stream(setup=setups[1])
        for z in range(13, 30):
            views[0].append(stacks[0][z])
        again.put(stacks[1], 0)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        for i, stack in enumerate(stacks):
            np.testing.assert_array_equal(dataset.view(setup=i)[...], stack)
            found = dataset.view(setup=i).level(1)[...]
            np.testing.assert_array_equal(found, npy2bdv.downsample(stack, (2, 2, 2)))


@KINDS
def test_of_unknown_length(tmp_path: Path, compression: str | None) -> None:
    stack = noise(6)
    with started(tmp_path / "a.xml", compression) as writer:
        setup = writer.add_setup(shape=(None, *SHAPE[1:]))
        view = writer.stream(setup=setup)
        for _ in range(4):
            for plane in stack:
                view.append(plane)
        view.abort()
        with writer.stream(setup=setup) as view:
            for plane in stack[:7]:
                view.append(plane)
    check(tmp_path / "a.xml", stack[:7])


def test_a_complete_view_stays(tmp_path: Path) -> None:
    with started(tmp_path / "a.xml", None) as writer:
        setup = writer.add_setup(shape=SHAPE)
        with writer.stream(setup=setup) as view:
            view.append(np.ones(SHAPE[1:], "uint16"))
        view.abort()  # too late
        assert view.planes_there == 1
        with pytest.raises(ExistsError, match="written already"):
            writer.stream(setup=setup)


def test_a_running_checkpoint_does_not_speak_for_the_next_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counted planes of the one that was given up since; the view is declared again after its end."""
    waits, goes_on, flush = threading.Event(), threading.Event(), Hdf5Container.flush

    def held_up(self: Hdf5Container, *, sync: bool = False) -> None:
        waits.set()
        assert goes_on.wait(10)
        flush(self, sync=sync)

    with started(tmp_path / "a.xml", "gzip") as writer:
        setup = writer.add_setup(shape=SHAPE)
        view = writer.stream(setup=setup)
        view.put(noise(8)[:9], 0)
        monkeypatch.setattr(Hdf5Container, "flush", held_up)
        checkpoint = threading.Thread(target=writer.checkpoint)
        checkpoint.start()
        assert waits.wait(10)
        view.abort()
        again = threading.Thread(target=lambda: writer.stream(setup=setup))
        again.start()
        again.join(0.1)
        goes_on.set()
        checkpoint.join()
        again.join()
        kinds = [record.kind for record in read_records(journal_path(tmp_path / "a.h5"))]
    assert kinds.index("done") < len(kinds) - 1 - kinds[::-1].index("view")


def test_while_checkpoints_are_made(tmp_path: Path) -> None:
    """A checkpoint that began before speaks for nothing that came later."""
    stack = noise(7)
    over = threading.Event()
    with started(tmp_path / "a.xml", "gzip") as writer:
        setup = writer.add_setup(shape=SHAPE)
        counts: list[int] = []

        def look() -> None:
            while not over.is_set():
                counts.append(writer.checkpoint().get(ViewId(0, 0), 0))

        thread = threading.Thread(target=look)
        thread.start()
        for _ in range(10):
            view = writer.stream(setup=setup)
            for plane in stack[:9]:
                view.append(plane)
            view.abort()
        writer.write(stack, setup=setup)
        over.set()
        thread.join()
    assert counts
    check(tmp_path / "a.xml", stack)
