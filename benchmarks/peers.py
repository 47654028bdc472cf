"""The candidates: who they are, and one process each that waits until it is its turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from jobs import Format, Job

WORKER = Path(__file__).with_name("worker.py")


class WorkerError(Exception):
    """A candidate failed; the message holds its traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A module of `candidates/`, and the environment that it runs in (None: it is not there)."""

    name: str
    label: str
    python: Path | None
    formats: frozenset[Format] = field(default=frozenset({"hdf5"}))
    """Jobs in other formats are not its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was measured in one round. Memory and sizes in bytes; what a job does not have is None."""

    seconds: float
    seconds_synced: float | None
    """Until everything was on the disk (fsync)."""
    processor: float
    """Seconds that its threads had a processor, in the system included; hardly depends on the neighbours."""
    peak: int
    """Peak memory above what was resident before the job."""
    size: int | None
    files: int | None
    metadata_files: int | None
    folders: int | None
    longest_call: float | None
    """The longest time that one plane, stack or box took, in seconds."""
    pace: float | None
    """Time of the first ten against the last ten."""


def candidates(peers: Path | None) -> list[Candidate]:
    """Return all candidates; the published ones have environments in `peers` (see .ci/prepare_judges.py)."""
    here = Path(sys.executable)

    def peer(name: str) -> Path | None:
        script = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
        ready = peers is not None and (peers / name / "ready.txt").is_file()
        return peers / name / "venv" / script if peers and ready else None

    def library(name: str) -> Path | None:
        return here if find_spec(name) else None

    everything: frozenset[Format] = frozenset({"hdf5", "n5", "zarr2", "zarr3"})
    folders = everything - {"hdf5"}
    return [
        Candidate(name="raw", label="raw file", python=here, formats=everything),
        Candidate(name="ours", label="ours", python=here, formats=everything),
        Candidate(name="h5py_alone", label="h5py alone", python=here),
        Candidate(name="npy2bdv_published", label="npy2bdv 1.1.0", python=peer("npy2bdv")),
        Candidate(
            name="pybdv_published",
            label="pybdv 0.6.0",
            python=peer("pybdv"),
            formats=frozenset({"hdf5", "n5"}),
        ),
        Candidate(
            name="tensorstore_alone",
            label="tensorstore",
            python=library("tensorstore"),
            formats=folders,
        ),
        Candidate(
            name="z5py_alone",
            label="z5py",
            python=library("z5py"),
            formats=frozenset({"n5"}),
        ),
        Candidate(
            name="zarr_python",
            label="zarr-python",
            python=library("zarr"),
            formats=folders - {"n5"},
        ),
        Candidate(
            name="acquire_zarr_published",
            label="acquire-zarr 0.10.0",
            python=peer("acquire-zarr"),
            formats=frozenset({"zarr3"}),
        ),
    ]


class Worker:
    """A process with its data in memory, which does the job whenever it is told to. Use as a context manager."""

    def __init__(self, candidate: Candidate, job: Job, source: Path, folder: Path) -> None:
        if candidate.python is None:
            raise WorkerError(f"{candidate.label} has no environment")
        folder.mkdir()
        job_file = folder.with_suffix(".json")
        job_file.write_text(json.dumps(asdict(job)), encoding="utf-8")
        environment = dict(os.environ)
        if candidate.python != Path(sys.executable):  # nothing of this environment reaches the other's
            environment = {
                name: value for name, value in environment.items() if not name.startswith("PYTHON")
            }
        self._label = f"{candidate.label}, {job.name}"
        self._errors = folder.with_suffix(".txt").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [candidate.python, "-s", WORKER, candidate.name, job_file, source, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=environment,
        )

    def wait(self) -> tuple[dict[str, str], str]:
        """Wait until it is ready; return the versions of its packages, and why it cannot do the job, or ""."""
        said = self._hear()
        return said["versions"], said.get("cannot", "")

    def run(self, *, check: bool) -> Run:
        """Let it do the job once; `check` compares the outcome with the input, off the clock."""
        assert self._process.stdin is not None
        self._process.stdin.write("check\n" if check else "go\n")
        self._process.stdin.flush()
        return Run(**self._hear())

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise WorkerError(f"{self._label}: exit code {self._process.returncode}\n{self._errors.read()}")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise WorkerError(f"{self._label}: {said['error']}")
        return said

    def close(self) -> None:
        """End the process."""
        with self._process, self._errors:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
