"""Folders of small files: each is written whole or not at all."""

import os
import threading
from pathlib import Path

import pytest

from npy2bdv.storage import files, save
from npy2bdv.storage.files import FileStore, is_temporary, remove_folder, replace_folder


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "a.n5")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_was_put_is_there(store: FileStore) -> None:
    store.put("a/b/c", [b"one", memoryview(b"two"), b""])
    store.put("top", [])
    assert (store.root / "a/b/c").read_bytes() == store.get("a/b/c") == b"onetwo"
    assert store.get("top") == b""
    assert names(store.root) == {"a/b/c", "top"}
    store.put("a/b/c", [b"x"])
    assert store.get("a/b/c") == b"x"


def test_what_is_not_there(store: FileStore) -> None:
    assert store.get("a") is None
    store.remove("a/b")
    store.put("a", [b"1"])
    assert store.get("a/b") is None


def test_an_error_in_the_middle_leaves_the_old_file(store: FileStore) -> None:
    store.put("a/b", [b"old"])

    def parts() -> object:
        yield b"half of the new"
        assert any(map(is_temporary, store.root.rglob("*")))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put("a/b", parts())  # type: ignore[arg-type]
    assert store.get("a/b") == b"old"
    assert names(store.root) == {"a/b"}


def test_a_full_disk(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", [b"old"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "move", full)
    with pytest.raises(OSError, match="No space"):
        store.put("a", [b"new"])
    assert names(store.root) == {"a"}
    assert store.get("a") == b"old"


def test_readers_see_the_old_or_the_new(store: FileStore) -> None:
    both = [b"a" * 300_000, b"b" * 400_000]
    store.put("k", [both[0]])
    over = threading.Event()

    def write() -> None:
        for turn in range(200):
            store.put("k", [both[turn % 2][:100_000], both[turn % 2][100_000:]])
        over.set()

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not over.is_set():
        assert store.get("k") in both
    for thread in threads:
        thread.join()
    assert names(store.root) == {"k"}


def test_folders_that_were_removed_are_made_again(store: FileStore) -> None:
    store.put("a/b/c", [b"1"])
    store.remove("a")
    assert not (store.root / "a").exists()
    assert list(store.root.iterdir()) == []
    store.put("a/b/c", [b"2"])
    assert store.get("a/b/c") == b"2"
    store.remove("a/b/c")
    assert store.get("a/b/c") is None


def test_what_a_kill_left_is_passed_over_and_removed(store: FileStore) -> None:
    store.put("a/b", [b"1"])
    (store.root / "a/c.12-34.npy2bdv-part").write_bytes(b"half")
    gone = store.root / "old.12ab34cd.npy2bdv-part"
    gone.mkdir()
    (gone / "block").write_bytes(b"1")
    assert [path.name for path in store.files("a")] == ["b"]
    store.clean()
    assert [path.relative_to(store.root).as_posix() for path in store.root.rglob("*")] in (
        ["a", "a/b"],
        ["a/b", "a"],
    )


def test_a_folder_that_was_half_removed_goes_with_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "a[1].n5"
    left = tmp_path / f"{folder.name}.12ab34cd.npy2bdv-part"
    for each in (folder, left, tmp_path / "a1.n5.x.npy2bdv-part"):
        (each / "sub").mkdir(parents=True)
    remove_folder(folder)
    remove_folder(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["a1.n5.x.npy2bdv-part"]


def test_a_folder_takes_the_name_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = tmp_path / "new.n5", tmp_path / "old.n5"
    for each in (new, old):
        each.mkdir()
        (each / each.name).touch()
    move = save.move

    def held(source: Path, target: Path) -> None:
        if source == new:
            raise PermissionError(13, "held by another program")
        move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(files, "move", held)
        with pytest.raises(PermissionError, match="held"):
            replace_folder(new, old)
    assert names(tmp_path) == {"new.n5/new.n5", "old.n5/old.n5"}
    replace_folder(new, old)
    assert names(tmp_path) == {"old.n5/new.n5"}
    replace_folder(old, new)
    assert [path.name for path in tmp_path.iterdir()] == ["new.n5"]


@pytest.mark.posix  # Windows does not sync folders
@pytest.mark.parametrize("many", [20_000, 2])
def test_sync_reaches_all_that_was_put_since_the_last(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "_MANY", many)
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
    )
    keys = ["top", "a/x", "b/c/y", "d/z", "a/y"]
    for key in keys:
        store.put(key, [b"1"])
    store.remove("d")
    store.sync()
    there = {store.root / key for key in keys if key != "d/z"}
    assert there | {store.root, store.root / "a", store.root / "b", store.root / "b/c"} <= set(synced)
    assert store.root.parent in synced
    assert store.root.parent.parent not in synced
    synced.clear()
    store.sync()
    assert synced == []
    store.put("a/x", [b"2"])
    store.sync()
    assert store.root / "a/x" in synced
    assert store.root / "b/c/y" not in synced


def test_a_sync_that_failed_is_made_up_for(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a/x", [b"1"])

    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            store.sync()
    counted: list[int] = []
    monkeypatch.setattr(os, "fsync", counted.append)
    store.sync()
    assert counted
