"""The file of records that recovery trusts: whole records only, whatever a kill left."""

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npy2bdv.errors import InUseError
from npy2bdv.storage.journal import (
    Journal,
    Lock,
    journal_path,
    planes_path,
    read_records,
    remove_leftovers,
)

RECORDS: list[tuple[str, dict[str, Any], bytes]] = [
    ("open", {"a": 1}, b""),
    ("view", {"view": [0, 3], "name": 'µm "quoted"\n'}, bytes(range(256))),
    ("done", {"views": []}, b"x"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "j")
    for record in RECORDS:
        journal.add(*record)
    journal.close(remove=False)
    return journal.path


def test_what_is_added_is_read(path: Path) -> None:
    assert [tuple(record) for record in read_records(path)] == RECORDS


def test_the_format_is_as_documented(path: Path) -> None:
    """A line of text; records of a little-endian header, JSON, data. Parsed here with the standard library alone."""
    data = path.read_bytes()
    title, rest = data.split(b"\n", 1)
    assert title == b"npy2bdv journal 1"
    found = []
    while rest:
        kind, n_text, n_data, crc = struct.unpack("<4sIQI", rest[:20])
        body, rest = rest[20 : 20 + n_text + n_data], rest[20 + n_text + n_data :]
        assert zlib.crc32(body) == crc
        found.append((kind.decode(), json.loads(body[:n_text]), body[n_text:]))
    assert found == RECORDS


def test_a_torn_end_is_left_out(path: Path) -> None:
    """Cut anywhere, the whole records before the cut remain."""
    data = path.read_bytes()
    ends = [18]
    for kind, text, payload in RECORDS:
        ends.append(ends[-1] + 20 + len(json.dumps(text, separators=(",", ":"))) + len(payload))
        assert len(kind) == 4
    assert ends[-1] == len(data)
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        whole = sum(end <= length for end in ends[1:])
        assert [tuple(record) for record in read_records(path)] == RECORDS[:whole], length


def test_a_changed_byte_ends_the_file(path: Path) -> None:
    data = path.read_bytes()
    first_end = 18 + 20 + len('{"a":1}')
    for place in range(first_end + 20, first_end + 20 + 256, 5):  # in text and data of the second
        changed = bytearray(data)
        changed[place] ^= 0x41
        path.write_bytes(changed)
        assert [tuple(record) for record in read_records(path)] == RECORDS[:1]


def test_zeros_at_the_end(path: Path) -> None:
    """Power cuts leave files that have their length but not their end."""
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert [tuple(record) for record in read_records(path)] == RECORDS


@given(st.binary(max_size=200))
def test_any_rubbish_is_read_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, rubbish: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "rubbish"
    for start in (b"", b"npy2bdv journal 1\n"):
        path.write_bytes(start + rubbish)
        assert list(read_records(path)) == []


def test_no_file_no_records(tmp_path: Path) -> None:
    assert list(read_records(tmp_path / "none")) == []


def test_a_record_is_handed_over_at_once(path: Path) -> None:
    """Without a flush or a close, in one write: a kill leaves all of it or a torn end."""
    journal = Journal(path)
    journal.add("plne", {"z": 5}, b"pixels")
    assert [record.text for record in read_records(path)] == [{"z": 5}]
    assert journal.nbytes == path.stat().st_size
    journal.close(remove=True)
    assert not path.exists()


def test_all_records_are_replaced_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    for record in RECORDS:
        journal.add(*record)
    seen: list[list[Any]] = []
    replace = os.replace

    def look(source: Path, target: Path) -> None:
        seen.append([tuple(record) for record in read_records(path)])
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    journal.replace([("plne", {"z": 1}, b"new")])
    assert seen == [RECORDS]  # the old ones are whole until the new ones take their place
    journal.add("plne", {"z": 2}, b"later")
    assert [record.data for record in read_records(path)] == [b"new", b"later"]
    journal.close(remove=True)
    assert list(path.parent.iterdir()) == []


def test_leftovers_go_and_nothing_else(tmp_path: Path) -> None:
    pixels = tmp_path / "a.h5"
    mine = [journal_path(pixels), planes_path(pixels), tmp_path / "a.h5.planes.new"]
    others = [pixels, tmp_path / "a.xml", tmp_path / "b.h5.journal", tmp_path / "a.h5.planes.old"]
    for path in (*mine, *others):
        path.touch()
    remove_leftovers(pixels)
    assert sorted(tmp_path.iterdir()) == sorted(others)
    remove_leftovers(pixels)


def test_the_lock_is_held_once(tmp_path: Path) -> None:
    pixels = tmp_path / "a.h5"
    (tmp_path / "a.h5.lock").write_text("left by a kill")
    lock = Lock(pixels, "edited")
    with pytest.raises(InUseError, match=rf"is being edited by process {os.getpid()} on \S+ since 2"):
        Lock(pixels)
    (tmp_path / "a.h5.lock").write_bytes(b"")  # as where Windows lets nobody read it
    with pytest.raises(InUseError, match="is being written or edited by another process; wait until"):
        Lock(pixels)
    journal = Journal.of(pixels)
    with pytest.raises(InUseError, match=rf"is being written by process {os.getpid()} on \S+ since 2"):
        Lock(pixels)
    journal.close(remove=True)
    lock.release()
    assert list(tmp_path.iterdir()) == []
    Lock(pixels).release()


def test_a_lock_file_that_was_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.h5.lock").touch()
    Lock(tmp_path / "a.h5").release()
