"""No file stays open, no thread stays behind, whatever went wrong: seen through the operating system."""

import gc
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import npy2bdv

STACK = np.arange(4 * 5 * 6, dtype="uint16").reshape(4, 5, 6)


def open_files(folder: Path) -> set[str]:
    """Return the files below a folder that this process has open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = link.readlink()
        except FileNotFoundError:  # the directory listing itself
            continue
        if target.is_relative_to(folder):
            found.add(target.name)
    return found


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    if sys.platform != "linux":
        pytest.skip("open files are listed in /proc, which is Linux's")
    threads = set(threading.enumerate())
    yield
    assert open_files(tmp_path) == set()
    assert set(threading.enumerate()) <= threads


def test_the_watch_sees_an_open_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w"):
        assert open_files(tmp_path) == {"a.h5"}


def test_write_and_read(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml", levels=((1, 1, 1), (2, 2, 2)), compression="gzip") as writer:
        setup = writer.add_setup(shape=STACK.shape)
        writer.write(STACK, setup=setup)
        assert "a.h5" in open_files(tmp_path)
    assert open_files(tmp_path) == set()
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        view = dataset.view(setup=0)
        assert view[0, 0, 1] == 1
        assert open_files(tmp_path) == {"a.h5"}


def test_exception_in_the_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), npy2bdv.create(tmp_path / "a.xml") as writer:  # noqa: PT012
        setup = writer.add_setup(shape=STACK.shape)
        with writer.stream(setup=setup) as view:
            view.append(STACK[0])
            raise ZeroDivisionError


def test_error_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from npy2bdv.storage.hdf5level import Hdf5Level

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    writer = npy2bdv.create(tmp_path / "a.xml")
    setup = writer.add_setup(shape=STACK.shape)
    monkeypatch.setattr(Hdf5Level, "put_chunk", full_disk)
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        writer.write(STACK, setup=setup)
        writer.checkpoint()
    with pytest.raises(OSError, match="No space left"):
        writer.close()


def test_refusals_leave_nothing_open(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.write(STACK, setup=writer.add_setup(shape=STACK.shape))
    for path in ("a.xml", "a.h5"):
        with pytest.raises(FileExistsError):
            npy2bdv.create(tmp_path / path)
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[:100])
    with pytest.raises(npy2bdv.BdvError):
        npy2bdv.open(tmp_path / "a.xml")
    (tmp_path / "a.h5").write_bytes(whole)
    (tmp_path / "a.xml").write_text("<SpimData/>", encoding="utf-8")
    with pytest.raises(npy2bdv.BdvError):
        npy2bdv.open(tmp_path / "a.xml")


def test_edit(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.write(STACK, setup=writer.add_setup(shape=STACK.shape))
    with npy2bdv.edit(tmp_path / "a.xml") as editor:
        assert open_files(tmp_path) == {"a.h5.lock"}
        editor.insert_transform(np.eye(4))
    assert open_files(tmp_path) == set()
    with pytest.raises(npy2bdv.BdvError), npy2bdv.edit(tmp_path / "a.xml") as editor:
        editor.remove_transform("nobody")
    assert open_files(tmp_path) == set()
    (tmp_path / "a.h5.journal").touch()
    with pytest.raises(npy2bdv.BdvError):
        npy2bdv.edit(tmp_path / "a.xml")
    assert open_files(tmp_path) == set()


def test_forgotten_editor_lets_go_with_a_warning(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.write(STACK, setup=writer.add_setup(shape=STACK.shape))
    editor = npy2bdv.edit(tmp_path / "a.xml")
    with pytest.warns(ResourceWarning, match="the session that edits .* was not closed"):  # noqa: PT031
        del editor
        gc.collect()
    npy2bdv.edit(tmp_path / "a.xml").close()


def test_forgotten_dataset_is_closed_with_a_warning(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.write(STACK, setup=writer.add_setup(shape=STACK.shape))
    dataset = npy2bdv.open(tmp_path / "a.xml")
    with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031
        del dataset
        gc.collect()
