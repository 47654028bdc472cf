"""Datasets that were made to do harm are refused, or bounded: no hang, no other error than ours, memory within bounds.

The datasets are those of hostile.py; they are opened in a child process whose memory is limited.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("Windows has no pipes in folders, and no limits for a process", allow_module_level=True)

from hostile import HOSTILE, ODD_NAMES, QUICK

TESTS = Path(__file__).parent
Outcomes = dict[tuple[str, str], str]


def run(folder: Path, names: list[str]) -> Outcomes:
    """What came of each act on each dataset, in a child."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])}
    command = [sys.executable, str(TESTS / "hostile_child.py"), str(folder), *names]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    assert child.returncode == 0, (lines[-1:], child.stderr[-2000:])
    return {(line[0], line[1]): line[3] for line in lines if len(line) == 4}


def broken(found: Outcomes) -> Outcomes:
    return {key: text for key, text in found.items() if text.startswith(("BREAKS", "HANGS", "CHANGES"))}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return run(tmp_path_factory.mktemp("hostile"), QUICK)


def test_nothing_hangs_breaks_or_changes(quick: Outcomes) -> None:
    assert {name for name, _ in quick} == set(QUICK)
    assert len(HOSTILE) > 400
    assert broken(quick) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("billion_laughs", "amplification factor exceeded"),
        ("external_entity", "document type declaration"),
        ("external_dtd", "document type declaration"),
        ("deep_nesting", "not well-formed XML: Excessive depth"),
        ("all_time_points", "time points cannot be meant"),
        ("patterns_that_count", "time points cannot be meant"),
        ("pattern_without_step", "not of the form N, A-B or A-B:STEP"),
        ("views_without_end", "too many views"),
        ("id_of_many_digits", "an <id> that is a whole number"),
        ("large_xml", "has 8589934592 bytes"),
        ("path_with_a_null_n5", "which is not there"),
        ("path_too_long_hdf5", "names the pixel file"),
        ("path_of_a_device_hdf5", "no HDF5 file"),
        ("path_absolute_hdf5", "cannot be opened as HDF5"),
        ("path_absolute_n5", "is a file; an N5 container is a folder"),
        ("loop_of_links", "which is not there"),
        ("pipe_as_scan.h5_hdf5", "no HDF5 file"),
    ],
)
def test_the_error_says_what_is_wrong(name: str, message: str, quick: Outcomes) -> None:
    assert quick[name, "open"].startswith("refused")
    assert message in quick[name, "open"]


@pytest.mark.parametrize(
    "name", ["path_absolute_hdf5", "path_as_uri_n5", "path_of_a_device_omezarr", "zgroup_upwards"]
)
def test_what_lies_outside_is_refused_where_that_is_asked_for(name: str, quick: Outcomes) -> None:
    assert "lies outside of the dataset's folder" in quick[name, "confined"]


@pytest.mark.soak
@pytest.mark.parametrize("part", range(4))
def test_nothing_of_all_hangs_breaks_or_changes(part: int, tmp_path: Path) -> None:
    assert broken(run(tmp_path, [*ODD_NAMES, "a_million_time_points"][part::4])) == {}
