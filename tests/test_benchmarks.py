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
    names = "planes,stack-gzip,series-levels,channels-2,read-boxes-gzip,open-xml,long,n5,zarr3"
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


def test_other_formats_are_measured_beside_other_libraries(tmp_path: Path) -> None:
    names = "n5-gzip,zarr3-levels,zarr2-zstd,zarr2-blosc"
    done = run(BENCHMARKS / "write.py", "--size", "small", "--rounds", 1, "--jobs", names, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    results = {
        entry["job"]["name"]: entry["outcomes"]
        for entry in json.loads((tmp_path / "benchmark.json").read_bytes())
    }
    assert list(results) == names.split(",")
    for name, outcomes in results.items():
        zarr = {"zarr_python"} | ({"acquire_zarr_published"} if name == "zarr3-levels" else set())
        others = {"z5py_alone", "pybdv_published"} if name == "n5-gzip" else zarr
        assert set(outcomes) == {"raw", "ours", "tensorstore_alone", *others}
        (ours,), (peer,) = (outcomes[name]["runs"] for name in ("ours", "tensorstore_alone"))
        assert ours["files"] - ours["metadata_files"] == peer["files"] - peer["metadata_files"]
        assert ours["folders"] > 3
    table = (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert "| N5, whole stack, gzip, 3 levels | tensorstore | " in table.partition("### Files per GB")[2]
    assert "failed" not in table


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


@pytest.mark.parametrize(
    ("job", "damage", "complaint"),
    [
        ("n5", "blocks[0].unlink()", "plane 0 of 0 is wrong"),
        ("zarr3-levels", "shutil.rmtree(blocks[-1].parents[5])", "wrong number of levels"),
        ("zarr3-levels", "blocks[0].unlink()", "plane 0 of 0 is wrong"),
    ],
)
def test_a_folder_of_wrong_pixels_fails(tmp_path: Path, job: str, damage: str, complaint: str) -> None:
    script = f"""
import shutil, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import numpy as np
from candidates import ours
from jobs import jobs
from pathlib import Path
from worker import Task
import written

class Wrong:
    @staticmethod
    def damage(folder):
        blocks = sorted(path for path in folder.rglob("*") if path.is_file() and not written.is_metadata(path))
        {damage}

    @staticmethod
    def stacks(job, data, folder, mark):
        ours.stacks(job, data, folder, mark)
        Wrong.damage(folder)

    @staticmethod
    def planes(job, data, folder, mark):
        ours.planes(job, data, folder, mark)
        Wrong.damage(folder)

(job,) = [job for job in jobs("small") if job.name == {job!r}]
data = np.ones(job.shape, np.uint16)
Task(job=job, candidate=Wrong, input=data, folder=Path({str(tmp_path)!r})).run(check=True)
"""
    done = run("-c", script)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_layouts() -> None:
    done = run(BENCHMARKS / "layouts.py", "--planes", 8, "--side", 512)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if "4x256x256" in line]
    assert [(row[0].strip(), int(row[2])) for row in rows] == [
        (name, levels) for name in ("HDF5", "N5", "OME-Zarr v2", "OME-Zarr v3, sharded") for levels in (1, 3)
    ]
    gigabytes = 2 * 8 * 512**2 / 1e9
    files, described, operations = (
        [round(int(row[column]) * gigabytes) for row in rows] for column in (3, 4, 6)
    )
    pixel_files = [all_of_them - metadata for all_of_them, metadata in zip(files, described, strict=True)]
    assert pixel_files == [1, 1, 8, 8 + 1 + 1, 8, 8 + 1 + 1, 2, 2 + 1 + 1]
    assert all(done >= 2 * kept for done, kept in zip(operations[2:], pixel_files[2:], strict=True))


def test_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(BENCHMARKS / "choices.py", "--planes", 8, "--side", 128, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[4:]]
    assert len(rows) == 3 + 4 + 4 + 3 + 2 * 4
    assert {row[0] for row in rows} == {"HDF5", "N5", "OME-Zarr, Zarr v2", "OME-Zarr, Zarr v3"}
    assert all(float(cell) > 0 for row in rows for cell in row[3:])
    uncompressed = [float(row[4]) for row in rows if row[1] == "none"]
    compressed = [float(row[4]) for row in rows if row[1] != "none"]
    assert max(compressed) < 0.9 < min(uncompressed)
    assert not any(tmp_path.iterdir())


def test_checkpoints() -> None:
    done = run(BENCHMARKS / "checkpoints.py", "--gb", 0.002, "--side", 64, "--rounds", 2, "--every", 0.0005)
    assert done.returncode == 0, done.stderr
    assert "streams of 244 planes of 64 x 64 pixels, 2 rounds" in done.stdout
    assert done.stdout.count("\n| ") == 4


def test_edits_of_a_large_dataset() -> None:
    done = run(BENCHMARKS / "edit_100k.py", "--views", 600, "--edits", 50)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "600 views, of which one time point of 10 is missing"
    assert [line.split()[-1] for line in lines[1:]] == ["s"] * 10
    assert any(line.startswith("50 transforms, each view by its label ") for line in lines)


def test_crop() -> None:
    done = run(BENCHMARKS / "crop.py", "--gb", 0.002, "--side", 128, "--levels")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["hdf5,", "copying", "the", "memory"]


def test_flushes() -> None:
    done = run(BENCHMARKS / "redo.py", "--gb", 0.001, "--side", 64, "--views", 3, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    assert [line.split("stream")[0].strip() for line in done.stdout.splitlines()] == [
        "HDF5 writes itself",
        "file object",
        "file object and record",
    ]


def test_limits() -> None:
    done = run(BENCHMARKS / "limits.py", "--planes", 16, "--side", 512, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 11
    assert rows[5].startswith("| raw file | 8 |")
    assert all(0.2 < float(row.split("|")[-2]) < 0.7 for row in rows[6:])  # what codecs leave
