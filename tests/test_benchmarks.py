"""Each benchmark runs once, as small as it goes. Nothing is timed here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.benchmark


def run(*arguments: str | Path | float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)


def test_every_kind_of_job_is_measured_and_reported(tmp_path: Path) -> None:
    names = "planes,stack-gzip,series-levels,channels-2,read-boxes-gzip,open-xml,long"
    options = ("--size", "small", "--rounds", "2", "--long", "0.002", "--jobs", names, "--out", tmp_path)
    done = run(BENCHMARKS / "write.py", *options)
    assert done.returncode == 0, done.stderr
    results = {
        entry["job"]["name"]: entry for entry in json.loads((tmp_path / "benchmark.json").read_bytes())
    }
    assert list(results) == names.split(",")
    for name, result in results.items():
        runs: list[dict[str, Any]] = result["outcomes"]["ours"]["runs"]
        assert len(runs) == (1 if name == "long" else 2)
        assert all(run["seconds"] > 0 for run in runs)
    raw, ours = (results["planes"]["outcomes"][name]["runs"][0] for name in ("raw", "ours"))
    assert raw["size"] == 8 * 128 * 128 * 2
    assert ours["size"] > raw["size"]
    assert ours["seconds_synced"] > ours["seconds"]
    assert results["stack-gzip"]["outcomes"]["h5py_alone"] == {"runs": [], "absent": "has no levels"}
    table = (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert "| ours | 0." in table
    assert "failed" not in table
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"benchmark.{s}" for s in ("json", "md", "png")
    ]


def test_absent_peers_say_so(tmp_path: Path) -> None:
    options = ("--size", "small", "--rounds", "1", "--jobs", "stack", "--peers", tmp_path, "--out", tmp_path)
    done = run(BENCHMARKS / "write.py", *options)
    assert done.returncode == 0, done.stderr
    assert "| npy2bdv 1.1.0 | not installed (see --peers) |" in done.stdout
    assert "| pybdv 0.6.0 | not installed (see --peers) |" in done.stdout


def test_an_unknown_job_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = run(BENCHMARKS / "write.py", "--jobs", "stack,fly", "--out", tmp_path / "out")
    assert done.returncode != 0
    assert "no job fly; there are stack, planes," in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("cells[3, 0, 0] ^= 1", "plane 3 of 0 is wrong"),
        ("del file['t00000/s00/1']", "wrong number of levels"),
    ],
)
def test_a_candidate_that_writes_wrong_pixels_fails(tmp_path: Path, damage: str, complaint: str) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import h5py, numpy as np
from candidates import ours
from jobs import jobs
from pathlib import Path
from worker import Task

class Wrong:
    @staticmethod
    def stacks(job, data, folder, mark):
        ours.stacks(job, data, folder, mark)
        with h5py.File(folder / "ours.h5", "r+") as file:
            cells = file["t00000/s00/0/cells"]
            {damage}

(job,) = [job for job in jobs("small") if job.name == "stack-levels"]
data = np.ones(job.shape, np.uint16)
Task(job=job, candidate=Wrong, input=data, folder=Path({str(tmp_path)!r})).run(check=True)
"""
    done = run("-c", script)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_checkpoints() -> None:
    done = run(BENCHMARKS / "checkpoints.py", "--gb", 0.002, "--side", 64, "--rounds", 2, "--every", 0.0005)
    assert done.returncode == 0, done.stderr
    assert "streams of 244 planes of 64 x 64 pixels, 2 rounds" in done.stdout
    assert done.stdout.count("\n| ") == 4
