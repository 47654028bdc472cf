"""Writing and reading, beside a raw file and other libraries, all candidates taking turns.

python benchmarks/write.py [--size small|normal|large] [--rounds N] [--jobs stack,planes] [--peers DIR] [--out DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import data
import report
from jobs import jobs
from peers import Candidate, Worker, WorkerError, candidates
from report import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs import Job


def main(argv: Sequence[str] | None = None) -> int:
    """Run the jobs; write benchmark.md, .json and .png; return 1 if one of our own failed."""
    options = parse(argv)
    known = jobs(options.size, options.long)
    chosen = select(known, options.jobs)
    everyone = candidates(options.peers and options.peers.resolve())
    options.out.mkdir(parents=True, exist_ok=True)
    begun, load = time.strftime("%Y-%m-%d %H:%M"), load_average()
    versions: dict[str, dict[str, str]] = {}
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=options.out, prefix="scratch-") as scratch:
        for job in chosen:
            results.append(compare(job, everyone, options.rounds, Path(scratch), versions))
            print(summary(results[-1]), file=sys.stderr, flush=True)
            save(results, options.out / "benchmark.json")
    load += f" when it began, {load_average()} when it ended"
    head = conditions(options, begun, load, versions)
    targets = options.size != "small"  # that size only shows that everything runs
    text = f"{head}\n{report.tables(results, everyone, targets=targets)}"
    (options.out / "benchmark.md").write_text(text, encoding="utf-8")
    title = (
        f"npy2bdv benchmark, {begun}, {platform.machine()}, {os.cpu_count()} processors, size {options.size}"
    )
    report.plot(results, everyone, options.out / "benchmark.png", title)
    print(text)
    return 0 if all(result.outcomes["ours"].runs for result in results) else 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("small", "normal", "large"), default="normal")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", default="", help="names, separated by commas; default: all")
    parser.add_argument(
        "--long",
        type=float,
        default=0,
        metavar="GB",
        help="also streams of this length; 10 leaves the page cache",
    )
    peers = os.environ.get("NPY2BDV_JUDGES")
    parser.add_argument(
        "--peers",
        type=Path,
        default=Path(peers) if peers else None,
        help="made by .ci/prepare_judges.py; default: $NPY2BDV_JUDGES",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("benchmark-results"),
        help="for the report; the disk it is on is measured",
    )
    return parser.parse_args(argv)


def select(known: Sequence[Job], names: str) -> list[Job]:
    """Return the jobs of these names, or all."""
    if not names:
        return list(known)
    by_name = {job.name: job for job in known}
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in by_name]:
        sys.exit(f"no job {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def compare(
    job: Job, everyone: Sequence[Candidate], rounds: int, scratch: Path, versions: dict[str, dict[str, str]]
) -> Result:
    """Let all candidates do a job in turns; each round begins with another one."""
    everyone = [candidate for candidate in everyone if job.format in candidate.formats]
    outcomes = {candidate.name: Outcome() for candidate in everyone}
    folder = scratch / job.name
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        source = prepare(job, folder, scratch)
        workers: dict[str, Worker] = {}
        for candidate in everyone:
            if candidate.python is None:
                outcomes[candidate.name].absent = "not installed (see --peers)"
            else:
                worker = Worker(candidate, job, source, folder / candidate.name)
                workers[candidate.name] = stack.enter_context(worker)
        for candidate in everyone:
            if candidate.name in workers:
                outcome = outcomes[candidate.name]
                try:
                    versions[candidate.label], outcome.absent = workers[candidate.name].wait()
                except WorkerError as error:
                    outcome.absent = failed(error)
        names = [name for name in workers if not outcomes[name].absent]
        long = job.name.startswith("long")  # once, and not read back: the same path is checked on less
        for turn in range(1 if long else rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                if outcomes[name].absent:
                    continue
                try:
                    outcomes[name].runs.append(workers[name].run(check=turn == 0 and not long))
                except WorkerError as error:
                    outcomes[name] = Outcome(absent=failed(error))
    return Result(job=job, outcomes=outcomes)


def failed(error: WorkerError) -> str:
    """Report a failure in full; return a line for the table."""
    print(error, file=sys.stderr)
    return f"failed: {str(error).strip().splitlines()[-1]}".replace("|", "/")


def prepare(job: Job, folder: Path, scratch: Path) -> Path:
    """Return what the candidates start from: an array of camera-like pixels, or a folder to read from."""
    if job.kind == "open_xml":
        data.save_many_views(job.shape[0], job.count, folder / "source")
        return folder / "source"
    shape = "x".join(map(str, job.data_shape))
    path = scratch / f"pixels-{shape}.npy"
    if not path.exists():
        np.save(path, data.camera(job.data_shape))
    if job.is_write:
        return path
    source = scratch / f"source-{shape}"
    if not source.exists():
        data.save_sources(np.load(path), source)
    return source


def summary(result: Result) -> str:
    """Return one line while the others are running."""
    parts = [
        f"{name} {report.spread([run.seconds for run in outcome.runs])} s"
        for name, outcome in result.outcomes.items()
        if outcome.runs
    ]
    return f"{result.job.name}: " + ", ".join(parts)


def save(results: Sequence[Result], path: Path) -> None:
    """Save every single measurement."""
    path.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")


def load_average() -> str:
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def conditions(
    options: argparse.Namespace, begun: str, load: str, versions: dict[str, dict[str, str]]
) -> str:
    """Say where, when and how it was measured."""
    packages = "; ".join(
        f"{label}: " + ", ".join(f"{name} {number}" for name, number in pairs.items())
        for label, pairs in versions.items()
        if pairs
    )
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    lines = [
        f"## {begun}, {options.size}",
        "",
        f"- Machine: {processor()}, {os.cpu_count()} processors, {memory_size()}, {system}",
        f"- Disk: {disk(options.out)}",
        f"- Load average: {load}",
        "- Data: uint16 as an sCMOS camera gives them (offset, shot and read noise, drifting nuclei), in memory",
        f"- {options.rounds} rounds (one for `long`), candidates in turns, order rotated; figures are medians "
        "(min to max) over the rounds; ratios are made round by round",
        f"- {packages}",
        "",
    ]
    return "\n".join(lines)


def processor() -> str:
    """Return the processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_size() -> str:
    """Return how much memory the machine has, where the system tells it."""
    if sys.platform == "win32" or "SC_PHYS_PAGES" not in os.sysconf_names:
        return "memory unknown"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"


def disk(folder: Path) -> str:
    """Return the kind of file system that a folder is on, where the system tells it."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    entries = [line.split()[:3] for line in mounts.read_text(encoding="utf-8").splitlines()]
    inside = [
        entry
        for entry in entries
        if folder.resolve().is_relative_to(entry[1].encode().decode("unicode_escape"))
    ]
    device, _, kind = max(inside, key=lambda entry: len(entry[1]))
    return f"{kind} on {device}"


if __name__ == "__main__":
    sys.exit(main())
