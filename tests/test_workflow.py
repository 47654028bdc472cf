"""The workflow for GitHub can be read, names what is there, covers what we promise, and publishes nothing."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


def jobs() -> dict[str, Any]:
    found: dict[str, Any] = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    return found


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_there_is_one_workflow_and_it_publishes_nothing() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml"]
    text = WORKFLOWS[0].read_text("utf-8")
    assert read(WORKFLOWS[0])["permissions"] == {"contents": "read"}
    assert not re.search(r"twine|publish|upload|deploy|secrets\.|write-all|: write", text)


def test_systems_and_versions_of_python() -> None:
    matrix = jobs()["tests"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    lowest = re.fullmatch(r">=(3\.\d+)", PROJECT["requires-python"])
    assert lowest
    assert matrix["python"][0] == lowest[1]
    assert jobs()["lowest"]["steps"][1]["with"]["python-version"] == lowest[1]
    assert jobs()["base"]["strategy"]["matrix"] == matrix


@pytest.mark.parametrize("name", jobs())
def test_what_is_named_is_there(name: str) -> None:
    job = jobs()[name]
    assert job["timeout-minutes"] <= 90
    assert all(set(step) & {"uses", "run"} for step in job["steps"])
    for command in commands(job):
        for word in shlex.split(command):
            if word.startswith(("tests/", ".ci/")):
                assert (ROOT / word).exists(), word
            if extras := re.fullmatch(r"\.\[(.+)\]", word):
                assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_base_install_takes_no_extra() -> None:
    installs = [command for command in commands(jobs()["base"]) if "pip install" in command]
    assert installs[0] == "python -m pip install ."
    assert not any("[" in command for command in installs)


def test_lowest_versions_come_from_the_project() -> None:
    lowest = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lowest"]
    found = dict(line.split("==") for line in lowest("zarr", "lazy"))
    assert found["numpy"] == "1.26"
    assert {"h5py", "filelock", "isal", "lxml", "tifffile", "cyclopts", "rich", "tensorstore", "dask"} <= set(
        found
    )
    assert "pytest" not in found
    assert "pytest" in dict(line.split("==") for line in lowest())
    for need in PROJECT["dependencies"]:
        assert re.match(r"[\w-]+>=[\d.]+$", need), f"{need}: of which version at least?"
