"""The rules that other tests rely on are kept."""

import os
from pathlib import Path

import pytest
import windows_rules

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are not known here")


def test_what_is_open_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path, other = tmp_path / "folder/a", tmp_path / "b"
    other.write_bytes(b"b")
    with path.open("w") as file:
        file.write("a")
        for change in (path.unlink, lambda: path.rename(other), lambda: other.replace(path)):
            with pytest.raises(windows_rules.SharingViolationError):
                change()
        with pytest.raises(windows_rules.SharingViolationError):
            (tmp_path / "folder").rename(tmp_path / "elsewhere")
    assert other.replace(path).read_bytes() == b"b"


@pytest.mark.posix
def test_where_it_may_go(tmp_path: Path) -> None:
    with (tmp_path / "a:b").open("w"):
        os.unlink(tmp_path / "a:b")


@pytest.mark.parametrize("name", ["a:b", "a?", "a.", "a ", "<a>"])
def test_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="no such name"):
        (tmp_path / name).mkdir()
    with pytest.raises(OSError, match="no such name"):
        (tmp_path / name).write_bytes(b"")
