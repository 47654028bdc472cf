"""Outside judges: programs by other people that read what we write, and write what we read.

Each runs in an environment of its own, as a subprocess of the scripts beside this file. The environments
are made by `.ci/prepare_judges.py` and found by the variable NPY2BDV_JUDGES; without them these tests skip,
or fail where NPY2BDV_REQUIRE_JUDGES is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

collect_ignore_glob = ["read_*.py", "write_*.py"]  # scripts for other environments, not tests

SCRIPTS = Path(__file__).parent
ABSENT = (
    "the outside judges are absent: run `python .ci/prepare_judges.py FOLDER` (downloads about 300 MB), "
    "then set NPY2BDV_JUDGES=FOLDER"
)


class Script:
    """A script for another interpreter: every method called here is called there, in the same order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda **arguments: self.calls.append((method, arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A program in an environment of its own; its scripts are `read_NAME.py` and `write_NAME.py`."""

    name: str
    python: Path
    arguments: tuple[Path, ...] = ()

    def read(self, xml: Path) -> dict[str, Any]:
        """Let it read a dataset; return what it saw, with arrays under "levels"."""

        def load(entry: dict[str, Any]) -> dict[str, Any]:
            levels = [np.load(folder / name) for name in entry.get("levels", [])]
            return entry | {"levels": levels} if levels else entry

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._run(f"read_{self.name}.py", xml, folder, *self.arguments, cwd=folder)
            seen: dict[str, Any] = json.loads((folder / "seen.json").read_bytes(), object_hook=load)
        return seen

    def write(self, script: Script, folder: Path) -> dict[str, Any]:
        """Let it run a script with `folder` as the current one; return the attributes of its writer."""
        outcome = self._outcome(script, folder)
        if "error" in outcome:
            pytest.fail(f"{self.python}: {outcome['error'][0]}: {outcome['message']}")
        attributes: dict[str, Any] = outcome.get("attributes", {})
        return attributes

    def refuse(self, script: Script, folder: Path) -> list[str]:
        """Let it run a script that fails at its last call; return the types that the error is of."""
        types: list[str] = self._outcome(script, folder).get("error", [])
        return types

    def _outcome(self, script: Script, folder: Path) -> dict[str, Any]:
        def save(array: NDArray[Any]) -> str:
            path = exchange / f"{len(list(exchange.iterdir()))}.npy"
            np.save(path, array)
            return str(path)

        with tempfile.TemporaryDirectory() as name:
            exchange = Path(name)
            text = json.dumps(script.calls, default=save)
            (exchange / "calls.json").write_text(text, encoding="utf-8")
            self._run(f"write_{self.name}.py", exchange / "calls.json", cwd=folder)
            told = exchange / "outcome.json"
            outcome: dict[str, Any] = json.loads(told.read_bytes()) if told.is_file() else {}
        return outcome

    def _run(self, script: str, *arguments: Path, cwd: Path) -> None:
        command = [str(self.python), "-I", str(SCRIPTS / script), *map(str, arguments)]
        run = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if run.returncode:
            error = run.stderr.strip().splitlines() or ["(no message)"]
            pytest.fail(f"{script} in {self.python}: exit code {run.returncode}: {error[-1]}")


@pytest.fixture(scope="session")
def judges() -> Path:
    """Return the folder of the judges' environments."""
    folder = os.environ.get("NPY2BDV_JUDGES")
    names = ("bioformats", "npy2bdv", "pybdv")
    if folder and all((Path(folder) / name / "ready.txt").is_file() for name in names):
        return Path(folder).resolve()
    if os.environ.get("NPY2BDV_REQUIRE_JUDGES"):
        pytest.fail(ABSENT)
    pytest.skip(ABSENT)


@pytest.fixture
def script() -> Script:
    """Return an empty script."""
    return Script()


def python_of(home: Path) -> Path:
    return home / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


@pytest.fixture(scope="session")
def bioformats(judges: Path) -> Judge:
    """Return Bio-Formats' BDVReader, the Java program that most image software reads BDV data through."""
    home = judges / "bioformats"
    return Judge(name="bioformats", python=python_of(home), arguments=(home / "bioformats_package.jar",))


@pytest.fixture(scope="session")
def published(judges: Path) -> Judge:
    """Return the published npy2bdv."""
    return Judge(name="npy2bdv", python=python_of(judges / "npy2bdv"))


@pytest.fixture(scope="session")
def pybdv(judges: Path) -> Judge:
    """Return pybdv."""
    return Judge(name="pybdv", python=python_of(judges / "pybdv"))


@pytest.fixture(scope="session")
def ours() -> Judge:
    """Return our own classic interface, run by the scripts that the published package runs."""
    return Judge(name="npy2bdv", python=Path(sys.executable))
