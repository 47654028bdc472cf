"""Journals that are damaged or made up: recovered, or refused by an error of ours; never a hang, nor much memory."""

import copy
import shutil
import tempfile
import time
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import npy2bdv
from npy2bdv.errors import BdvError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.journal import Journal, Record, journal_path, planes_path, read_records, redo_path
from npy2bdv.storage.recorded import Recorded

SHAPE = (14, 20, 24)
STACKS = [np.random.default_rng(seed).integers(1, 60000, SHAPE, "uint16") for seed in range(2)]
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def left_by_a_kill(compression: str | None) -> dict[str, bytes]:
    """The files of a recording that was killed after a checkpoint: one view whole, one in part."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.xml"
        with npy2bdv.create(
            path,
            compression=compression,
            levels=((1, 1, 1), (2, 2, 2)),
            chunks=(4, 16, 16),
            checkpoint_seconds=1000,
        ) as writer:
            setups = [writer.add_setup(shape=SHAPE, channel=i) for i in range(2)]
            writer.write(STACKS[0], setup=setups[0])
            view = writer.stream(setup=setups[1])
            view.put(STACKS[1][:6], 0)
            writer.checkpoint()
            view.put(STACKS[1][6:9], 6)
            writer.checkpoint()
            files = [each for each in path.parent.iterdir() if each.suffix != ".lock"]
            return {each.name: each.read_bytes() for each in files}


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "a.xml"


def recovered(path: Path) -> npy2bdv.Recovery | None:
    """Recover, or see it refused; what comes out opens."""
    begun = time.monotonic()
    try:
        found = npy2bdv.recover(path)
    except BdvError:
        found = None
    assert time.monotonic() - begun < 20
    if found is not None:
        with npy2bdv.open(found.path_xml) as dataset:
            for view in dataset.views():
                view[...]
    return found


@pytest.mark.parametrize("compression", [None, "gzip"])
@given(data=st.data())
@MANY
def test_bytes_that_flip_or_are_cut_off(compression: str | None, data: st.DataObject) -> None:
    """Planes that are said to be there are those that came: each record has its checksum."""
    files = dict(left_by_a_kill(compression))
    names = [name for name in ("a.h5.journal", "a.h5.planes") if name in files]
    name = data.draw(st.sampled_from(names))
    damaged = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    files[name] = bytes(damaged[: data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))])
    with tempfile.TemporaryDirectory() as folder:
        found = recovered(laid_out(Path(folder), files))
        if found is None:
            return
        with npy2bdv.open(found.path_xml) as dataset:
            for each in found:
                if not each.planes:
                    continue
                pixels = dataset.view(time=each.view.time, setup=each.view.setup)[...]
                gone = {z for a, b in (*each.missing, *each.damaged, *each.unconfirmed) for z in range(a, b)}
                for z in set(range(len(pixels))) - gone:
                    np.testing.assert_array_equal(pixels[z], STACKS[each.view.setup][z])


odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([0, 1, 2**31, 2**62, 10**7, [0, 10**7], [[0, 10**7]], "u2", "O", "../../x.xml"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


def records(compression: str | None) -> list[Record]:
    with tempfile.TemporaryDirectory() as folder:
        path = laid_out(Path(folder), left_by_a_kill(compression))
        return [*read_records(journal_path(path.with_suffix(".h5")))]


def made_up(data: st.DataObject, compression: str | None) -> list[Record]:
    """Records in another order, several times or not at all, with values that make no sense; whole checksums."""
    known = records(compression)
    chosen = data.draw(st.permutations(range(len(known))) | st.just([*range(len(known))]))
    chosen = chosen[: data.draw(st.integers(1, len(known)))] if data.draw(st.booleans()) else chosen
    found = [copy.deepcopy(known[index]) for index in chosen]
    for _ in range(data.draw(st.integers(0, 3))):
        index = data.draw(st.integers(0, len(found) - 1))
        record = found[index]
        if record.text:
            record.text[data.draw(st.sampled_from(sorted(record.text)))] = data.draw(odd)
        if data.draw(st.integers(0, 4)) == 0:
            found[index] = record._replace(data=data.draw(st.binary(max_size=40)))
    return found


@pytest.mark.parametrize("compression", [None, "gzip"])
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_records_that_are_made_up(compression: str | None, data: st.DataObject) -> None:
    """Reading them takes no more memory than a small multiple of what they are."""
    found = made_up(data, compression)
    tracemalloc.start()
    try:
        recorded = Recorded(found, [])
        for view in [*recorded.depths][:5]:
            for image in recorded.images.get(view, []):
                image.places()
            recorded.there(view, recorded.length(view))
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("torn", [False, True])
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_recover_by_records_that_are_made_up(
    torn: bool, compression: str | None, data: st.DataObject
) -> None:
    files = dict(left_by_a_kill(compression))
    if torn:
        files["a.h5"] = bytes(96) + files["a.h5"][96:]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        path = laid_out(Path(folder) / "in", files)
        try:
            journal = Journal(journal_path(path.with_suffix(".h5")))
            for record in made_up(data, compression):
                journal.add(record.kind, record.text, record.data)
        finally:
            journal.close(remove=False)
        recovered(path)
        assert [each.name for each in Path(folder).iterdir()] == ["in"]  # nothing was written outside


@given(text=st.dictionaries(st.sampled_from(["size", "writes"]), odd), data=st.binary(max_size=50))
@MANY
def test_a_record_of_a_flush_that_is_made_up(text: dict[str, Any], data: bytes) -> None:
    """It is none, and the file is as it lies."""
    with tempfile.TemporaryDirectory() as folder:
        path = laid_out(Path(folder), left_by_a_kill(None))
        redo = Journal(redo_path(path.with_suffix(".h5")))
        try:
            redo.add("redo", text, data)
        finally:
            redo.close(remove=False)
        found = recovered(path)
        assert found is not None
        assert [each.planes for each in found] == [14, 9]


def test_nesting_that_is_too_deep(tmp_path: Path) -> None:
    path = laid_out(tmp_path, left_by_a_kill(None))
    journal = journal_path(path.with_suffix(".h5"))
    whole = journal.read_bytes()
    fresh = Journal(tmp_path / "deep")
    words = b"[" * 100_000 + b"]" * 100_000
    fresh._append(record_of(b"done", words))
    fresh.close(remove=False)
    title, _, deep = (tmp_path / "deep").read_bytes().partition(b"\n")
    journal.write_bytes(whole + deep)
    (tmp_path / "deep").unlink()
    assert title
    found = npy2bdv.recover(path)
    assert {each.view: each.planes for each in found} == {ViewId(0, 0): 14, ViewId(0, 1): 9}


def record_of(kind: bytes, words: bytes) -> bytes:
    import struct
    import zlib

    return struct.pack("<4sIQI", kind, len(words), 0, zlib.crc32(words)) + words


def test_planes_in_the_log_of_another_size(tmp_path: Path) -> None:
    path = laid_out(tmp_path, left_by_a_kill("gzip"))
    log = planes_path(path.with_suffix(".h5"))
    log.unlink()
    made = Journal(log)
    for z, shape in ((4, (3, 3)), (5, (20, 24)), (8, (20,))):
        plane = np.ones(shape, "uint16")
        made.add("plne", {"view": [0, 1], "z": z, "shape": shape, "dtype": "<u2"}, plane.tobytes())
    made.close(remove=False)
    shutil.copy(log, tmp_path / "kept")
    found = npy2bdv.recover(path)
    assert found[1].planes == 8  # rows that were full
    assert found[1].missing == ((8, 14),)
