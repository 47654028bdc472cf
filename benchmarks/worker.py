"""One candidate doing one job, in a process and environment of its own.

    python worker.py CANDIDATE JOB.json INPUT FOLDER

INPUT is the array to write (.npy) or the folder to read; FOLDER takes what is written. The process prepares, says
so in a line of JSON, and then does the job once for every line on its standard input, answering with a line
of JSON each. A job asked for with "check" is compared with the input afterwards.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import memory
import written
from jobs import CHUNK, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE = 8 * 2**20
SCRATCH = 4 * 2**30  # at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A job, the candidate's functions, what goes in, and where it is written."""

    job: Job
    candidate: Any
    input: Any
    folder: Path
    finished: Any = None
    """What goes in instead, for candidates that make no levels: the arrays of all of them."""

    def run(self, *, check: bool) -> dict[str, Any]:
        """Do the job once and measure it."""
        marks: list[float] = []
        self._fill_page_cache()
        gc.collect()
        memory.reset_peak()
        before = memory.peak()
        processor = time.process_time()
        start = time.perf_counter()
        result = self._work(self.job, lambda: marks.append(time.perf_counter()))
        done = time.perf_counter()
        processor = time.process_time() - processor
        peak = memory.peak()
        sync(self.folder)
        synced = time.perf_counter()
        sizes = [path.stat().st_size for path in files(self.folder)]
        described = sum(written.is_metadata(path) for path in files(self.folder))
        folders = sum(path.is_dir() for path in self.folder.rglob("*"))
        if check:
            self._check(result)
        self._clear()
        steps = np.diff([start, *marks])
        tenth = min(10, len(steps) // 2)
        return {
            "seconds": done - start,
            "seconds_synced": synced - start if self.job.is_write else None,
            "processor": processor,
            "peak": peak - before,
            "size": sum(sizes) if self.job.is_write else None,
            "files": len(sizes) if self.job.is_write else None,
            "metadata_files": described if self.job.is_write else None,
            "folders": folders if self.job.is_write else None,
            "longest_call": steps.max() if len(steps) else None,
            "pace": steps[:tenth].sum() / steps[-tenth:].sum() if tenth else None,
        }

    def rehearse(self) -> None:
        """Do a small part of the job, so that imports and first calls are not measured."""
        job = self.job
        if job.is_write:
            z, y, x = map(min, job.shape, (8, 256, 256))
            job = replace(job, shape=(z, y, x), count=1, held=0)
            part = np.ascontiguousarray(self.input[:z, :y, :x])
            part_levels = finished_levels(self.candidate, job, part)
            replace(self, input=part, finished=part_levels)._work(job, lambda: None)
        else:
            self._work(job, lambda: None)
        self._clear()

    def _work(self, job: Job, mark: Callable[[], None]) -> Any:
        work = getattr(self.candidate, job.kind)
        given = self.input if self.finished is None else self.finished
        return work(job, given, self.folder, mark) if job.is_write else work(job, given, mark)

    def _clear(self) -> None:
        """Put away what was written, without its content. Nothing is removed before the end of all jobs.

        Where thousands of files were removed a moment ago, ext4 looks at each of them before it makes a new one.
        """
        used = self.folder.with_name(f"{self.folder.name}-used-{time.monotonic_ns()}")
        for path in files(self.folder):
            os.truncate(path, 0)
        self.folder.rename(used)
        self.folder.mkdir()

    def _fill_page_cache(self) -> None:
        """Fill the page cache: with what will be read, or with a file of the size that will be written.

        A virtual machine that gave free pages back to its host gets them again at a tenth of the speed; the
        scratch file takes that cost before the clock starts.
        """
        if not self.job.is_write:
            for path in files(self.input):
                with path.open("rb") as file:
                    while file.read(PIECE):
                        pass
            return
        scratch = self.folder / "scratch.bin"
        piece = memoryview(self.input.reshape(-1)[: PIECE // 2]).cast("B")
        with scratch.open("wb") as file:
            for _ in range(0, min(SCRATCH, self.job.nbytes * 3 // 2), len(piece)):
                file.write(piece)
        scratch.unlink()

    def _check(self, result: Any) -> None:
        """Compare what was written or read with what it should be."""
        job = self.job
        if job.is_write:
            raw = self.folder / "raw.bin"
            if raw.exists():
                assert raw.stat().st_size == job.nbytes, "wrong size"
            else:
                self._check_pixels()
            return
        if job.kind == "open_xml":
            expected = np.eye(3, 4)
            expected[0, 3] = job.shape[0] + job.count - 2
        else:
            pixels = np.memmap(self.input / "raw.bin", np.uint16, "r", shape=job.shape)
            place: Any = ...
            if job.kind == "read_planes":
                place = job.planes_to_read()[-1]
            elif job.kind == "read_boxes":
                place = job.boxes_to_read()[-1]
            expected = pixels[place]
        if result.dtype == np.int16:
            result = result.view(np.uint16)
        assert np.array_equal(result, expected), "what was read is wrong"

    def _check_pixels(self) -> None:
        """Check that every plane is there, and every level."""
        job, depth = self.job, CHUNK[0]
        for index, levels in enumerate(written.views(job, self.folder)):
            assert len(levels) == len(job.levels), "wrong number of levels"
            for z in range(0, job.shape[0], depth):
                pixels = np.asarray(levels[0][z : z + depth]).view(np.uint16)
                for plane, frame in enumerate(pixels, z):
                    expected = (
                        job.stack(self.input, index)[plane]
                        if job.kind == "stacks"
                        else job.frame(self.input, plane, index)
                    )
                    assert np.array_equal(frame, expected), f"plane {plane} of {index} is wrong"


def finished_levels(candidate: Any, job: Job, pixels: Any) -> Any:
    """Return the arrays of all levels for a candidate that takes them finished (`FINISHED`), else None."""
    if not (job.is_write and getattr(candidate, "FINISHED", False)):
        return None
    import data

    return data.finished_levels(pixels, job.levels)


def files(folder: Path) -> Iterator[Path]:
    return (path for path in list(folder.rglob("*")) if path.is_file())


def sync(folder: Path) -> None:
    """Wait until every file is on the disk."""
    for path in files(folder):
        file = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        os.fsync(file)
        os.close(file)


def prepare(name: str, job_file: str, source: str, folder: str) -> tuple[dict[str, Any], Task | None]:
    """Return what to say first, and the task unless the candidate cannot do the job."""
    job = read_job(Path(job_file))
    candidate = importlib.import_module(f"candidates.{name}")
    said = {"versions": {package: importlib.metadata.version(package) for package in candidate.PACKAGES}}
    if reason := candidate.cannot(job):
        return said | {"cannot": reason}, None
    given = np.load(source) if job.is_write else Path(source)
    finished = finished_levels(candidate, job, given)
    return said, Task(job=job, candidate=candidate, input=given, folder=Path(folder), finished=finished)


def read_job(path: Path) -> Job:
    """Read a job from JSON, which knows no tuples."""
    fields = json.loads(path.read_bytes())
    fields["shape"] = tuple(fields["shape"])
    fields["levels"] = tuple(map(tuple, fields["levels"]))
    return Job(**fields)


def main(arguments: list[str]) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr  # the candidates print

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        said, task = prepare(*arguments)
        if task is not None:
            task.rehearse()
        answer(said)
        if task is None:
            return
        for request in sys.stdin:
            answer(task.run(check=request.strip() == "check"))
    except Exception:
        answer({"error": traceback.format_exc()})


if __name__ == "__main__":
    main(sys.argv[1:])
