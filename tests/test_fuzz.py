"""Damaged XMLs, HDF5 files and attributes: no hang, no other error than ours, bounded memory. What was found stays."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faults import sound
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import npy2bdv
from npy2bdv import xml
from npy2bdv.errors import FormatError

TESTS = Path(__file__).parent
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

# --------------------------------------------------------------------------------------------- XML

SNIPPETS = [
    b"", b" ", b"\n", b"0", b"-1", b"1e308", b"NaN", b"9" * 30, b"<", b">", b"/", b'"', b"&amp;", b"&#0;", b"<a/>",
    b"<id>0</id>", b"</ViewSetup>", b"<Timepoints type='pattern'><integerpattern>0-9:0</integerpattern></Timepoints>",
    b"<!-- -->", b"<?xml version='1.0'?>", b"\xff\xfe", b"\x00", b"<![CDATA[", b"_", b"1,2", b"\xc3\xa9",
]  # fmt: skip
CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 200),
        st.one_of(st.sampled_from(SNIPPETS), st.binary(max_size=8)),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="session")
def texts(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    ours = sound(tmp_path_factory.mktemp("fuzz")).read_bytes()
    theirs = [*real_data.glob("bigstitcher/*.xml"), *real_data.glob("java/*/*.xml")]
    return [ours, *(path.read_bytes() for path in sorted(theirs) if path.stat().st_size < 30_000)]


def mutated(text: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, length, new in changes:
        start = int(place * len(text))
        text = text[:start] + new + text[start + length :]
    return text


def look_at_xml(text: bytes) -> None:
    """Whatever is wrong with it, it is told of by findings, or by one error of ours; what is read can be written."""
    found = xml.audit(text)
    try:
        data = xml.parse(text)
    except FormatError:
        xml.salvage(text)
        return
    assert not any(each.code == "X01" for each in found)
    again = xml.parse(xml.serialise(data))
    assert again.setups.keys() == data.setups.keys()


@settings(max_examples=150, deadline=5000, suppress_health_check=QUIET)
@given(which=st.integers(0, 100), changes=CHANGES)
def test_damaged_xml(which: int, changes: list[tuple[float, int, bytes]], texts: list[bytes]) -> None:
    look_at_xml(mutated(texts[which % len(texts)], changes))


@pytest.mark.soak
@settings(max_examples=10_000, deadline=5000, suppress_health_check=QUIET)
@given(which=st.integers(0, 100), changes=CHANGES)
def test_damaged_xml_for_long(
    which: int, changes: list[tuple[float, int, bytes]], texts: list[bytes]
) -> None:
    look_at_xml(mutated(texts[which % len(texts)], changes))


# ------------------------------------------------------------------------------------ N5, OME-Zarr

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["gzip", "uint16", "<u2", "raw", "0", "scale", ".."]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["type", "id", "name", "level", "path", "configuration"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)
FILES = {
    "n5": ["attributes.json", "setup1/attributes.json", "setup1/timepoint0/attributes.json",
           "setup1/timepoint0/s0/attributes.json", "setup1/timepoint0/s1/attributes.json"],
    "omezarr": [".zgroup", "s1-t0.zarr/.zattrs", "s1-t0.zarr/0/.zarray", "s1-t0.zarr/1/.zarray"],
    "omezarr3": ["zarr.json", "s1-t0.zarr/zarr.json", "s1-t0.zarr/0/zarr.json"],
}  # fmt: skip


def spots(said: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    return [path, *(spot for key, value in inner for spot in spots(value, (*path, key)))]


def changed(said: Any, spot: tuple[Any, ...], value: Any) -> Any:
    if not spot:
        return value
    key, *rest = spot
    copy = dict(said) if isinstance(said, dict) else list(said)
    copy[key] = changed(said[key], tuple(rest), value)
    return copy


def look_at_folder(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        for view in dataset:
            for level in view.levels():
                assert len(level.shape) == 3
                if max(level.shape) < 1000:
                    level[0:2, 0:2, 0:2].sum()


def damage(folder: Path, kind: str, place: float, where: float, value: Any) -> None:
    """Change one value of one file of metadata, look, and change it back."""
    path = folder / "scan.xml"
    container = folder / ("scan.n5" if kind == "n5" else "scan.ome.zarr")
    file = container / FILES[kind][int(place * len(FILES[kind]))]
    before = file.read_text("utf-8")
    said = json.loads(before)
    places = spots(said)
    file.write_text(json.dumps(changed(said, places[int(where * len(places))], value)), "utf-8")
    try:
        with suppress(npy2bdv.BdvError):
            look_at_folder(path)
        npy2bdv.check(path)
    finally:
        file.write_text(before, "utf-8")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            options: dict[str, Any] = {"zarr_version": 3} if kind == "omezarr3" else {}
            sound(made[kind], kind.removesuffix("3") if kind != "n5" else kind, **options)
        return made[kind]

    return folder


PLACES = st.floats(0, 1, exclude_max=True)


@settings(max_examples=120, deadline=10_000, suppress_health_check=QUIET)
@given(kind=st.sampled_from(list(FILES)), place=PLACES, where=PLACES, value=VALUES)
@example(kind="n5", place=0.7, where=0.99, value={"type": [1]})
@example(kind="omezarr", place=0.5, where=0.3, value=2**70)
def test_damaged_metadata(
    kind: str, place: float, where: float, value: Any, folder_of: Callable[[str], Path]
) -> None:
    damage(folder_of(kind), kind, place, where, value)


@pytest.mark.soak
@settings(max_examples=5000, deadline=10_000, suppress_health_check=QUIET)
@given(kind=st.sampled_from(list(FILES)), place=PLACES, where=PLACES, value=VALUES)
def test_damaged_metadata_for_long(
    kind: str, place: float, where: float, value: Any, folder_of: Callable[[str], Path]
) -> None:
    damage(folder_of(kind), kind, place, where, value)


# -------------------------------------------------------------------------------------------- HDF5


def flip(path: Path, seed: int, count: int) -> tuple[dict[str, int], str]:
    """Look at copies with bytes flipped, each in a process of its own; return how these ended, and what they said."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])}
    command = [sys.executable, str(TESTS / "fuzz_child.py"), str(path), str(seed), str(count)]
    child = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=3000, check=False
    )
    assert child.returncode == 0, child.stderr[-2000:]
    ends: dict[str, int] = json.loads(child.stdout)
    return ends, child.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize(
    "count", [pytest.param(40, id="few"), pytest.param(2000, id="many", marks=pytest.mark.soak)]
)
def test_flipped_bytes_of_hdf5(count: int, tmp_path: Path) -> None:
    """A crash of libhdf5 itself would be "signal 11"; in the first 500 files there was none."""
    ends, said = flip(sound(tmp_path), 1000 if count == 40 else 5000, count)
    assert ends == {"exit 0": count}, said[-3000:]
