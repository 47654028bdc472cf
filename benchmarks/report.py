"""Tables and a plot from what was measured."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jobs import Job
    from peers import Candidate, Run


@dataclass(slots=True, kw_only=True)
class Outcome:
    """One candidate's rounds of one job, or why there are none."""

    runs: list[Run] = field(default_factory=list)
    absent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One job by all candidates (by their names)."""

    job: Job
    outcomes: dict[str, Outcome]

    def speeds(self, name: str, *, synced: bool) -> list[float]:
        """MB/s of each round."""
        return [self.job.nbytes / 1e6 / seconds(run, synced=synced) for run in self.outcomes[name].runs]

    def ratios(self, name: str, against: str, *, synced: bool) -> list[float]:
        """How many times as fast as another candidate, round by round."""
        pairs = zip(self.outcomes[name].runs, self.outcomes[against].runs, strict=False)
        return [seconds(b, synced=synced) / seconds(a, synced=synced) for a, b in pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a job should reach: the medians of ratios, or MB/s; `label` names what it is compared with."""

    job: str
    at_least: float
    label: str
    against: str | None = None
    synced: bool = False

    def measured(self, result: Result) -> list[float]:
        """Return what each round reached."""
        if self.label == "last ten against first ten":
            return [run.pace for run in result.outcomes["ours"].runs if run.pace is not None]
        if self.against is None:
            return result.speeds("ours", synced=self.synced)
        return result.ratios("ours", self.against, synced=self.synced)


def seconds(run: Run, *, synced: bool) -> float:
    return run.seconds_synced if synced and run.seconds_synced is not None else run.seconds


_PEERS = {
    "tensorstore_alone": "tensorstore, finished arrays",
    "z5py_alone": "z5py, finished arrays",
    "pybdv_published": "pybdv 0.6.0",
    "acquire_zarr_published": "acquire-zarr 0.10.0",
}


def _targets() -> list[Target]:
    def raw(job: str, buffered: float, synced: float | None = None) -> list[Target]:
        made = [Target(job=job, at_least=buffered, label="raw file, buffered", against="raw")]
        if synced is not None:
            made += [Target(job=job, at_least=synced, label="raw file, fsync", against="raw", synced=True)]
        return made

    def published(job: str, at_least: float) -> Target:
        return Target(job=job, at_least=at_least, label="npy2bdv 1.1.0", against="npy2bdv_published")

    def beside(job: str, peer: str, at_least: float) -> Target:
        return Target(job=job, at_least=at_least, label=_PEERS[peer], against=peer)

    def pace(job: str) -> Target:
        return Target(job=job, at_least=0.9, label="last ten against first ten")

    return [
        *raw("stack", 0.8, 0.95), published("stack", 1.7),
        *raw("planes", 0.6, 0.85), published("planes", 3),
        *raw("planes-levels", 0.25), published("planes-levels", 8),
        *raw("stack-levels", 0.25), published("stack-levels", 10),
        Target(job="planes-gzip", at_least=300, label="MB/s of input"), published("planes-gzip", 12),
        *raw("series", 0.75), pace("series"),
        *raw("series-levels", 0.3), published("series-levels", 10), pace("series-levels"),
        *raw("n5", 0.45), beside("n5", "tensorstore_alone", 1.2), beside("n5", "z5py_alone", 1.8),
        *(beside("n5-gzip", name, 2) for name in ("tensorstore_alone", "z5py_alone")),
        beside("n5-gzip", "pybdv_published", 10),
        *raw("zarr3", 0.5), beside("zarr3", "acquire_zarr_published", 2),
        *raw("zarr3-levels", 0.25), beside("zarr3-levels", "acquire_zarr_published", 2),
        *(beside(job, "tensorstore_alone", 0.9) for job in ("zarr2-zstd", "zarr2-blosc")),
        published("read-whole-gzip", 3), published("read-whole-h5py", 3),
    ]  # fmt: skip


TARGETS = _targets()
MEMORY_TARGET = 256 * 2**20 + 100e6  # max_memory as it is by default, and what the issue allows on top


def tables(results: Sequence[Result], everyone: Sequence[Candidate], *, targets: bool) -> str:
    """Return the Markdown of all tables; `targets` compares with what should be reached."""
    parts = [_reach(results)] if targets else []
    return "\n".join([*parts, *(_table(result, everyone) for result in results), _files(results, everyone)])


def _files(results: Sequence[Result], everyone: Sequence[Candidate]) -> str:
    """Return what lies on the disk afterwards, for each GB of pixels that went in."""
    lines = [
        "### Files per GB of pixels",
        "",
        "| job | candidate | files | of these with metadata | folders |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        for candidate in everyone:
            outcome = result.outcomes.get(candidate.name)
            if result.job.is_write and outcome and outcome.runs:
                run, gigabytes = outcome.runs[0], result.job.nbytes / 1e9
                counts = [(count or 0) / gigabytes for count in (run.files, run.metadata_files, run.folders)]
                cells = [result.job.title, candidate.label, *map(digits, counts)]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _reach(results: Sequence[Result]) -> str:
    lines = [
        "| job | against | target | measured: median (min to max) | |",
        "|---|---|---|---|---|",
    ]
    by_name = {result.job.name: result for result in results}
    for target in TARGETS:
        if result := by_name.get(target.job):
            measured = target.measured(result)
            verdict = "not measured"
            if measured:
                verdict = "met" if statistics.median(measured) >= target.at_least else "**missed**"
            lines.append(
                f"| {result.job.title} | {target.label} | ≥ {target.at_least:g} | {spread(measured)} | {verdict} |"
            )
    for result in results:
        if result.job.is_write and (runs := result.outcomes["ours"].runs):
            peaks = [run.peak for run in runs]
            verdict = "met" if statistics.median(peaks) <= MEMORY_TARGET else "**missed**"
            text = spread([peak / 1e6 for peak in peaks])
            lines.append(
                f"| {result.job.title} | peak memory, MB | ≤ {MEMORY_TARGET / 1e6:.0f} | {text} | {verdict} |"
            )
    return "### Targets\n\n" + "\n".join(lines) + "\n"


_COLUMNS = (
    "candidate",
    "seconds",
    "processor seconds",
    "MB/s buffered",
    "MB/s with fsync",
    "of raw, buffered",
    "of raw, fsync",
    "ours is x times as fast",
    "peak memory MB",
    "file MB",
    "longest call ms",
    "speed of last ten / first ten",
)


def _table(result: Result, everyone: Sequence[Candidate]) -> str:
    job = result.job
    what = f"{digits(job.nbytes / 1e6)} MB" if job.nbytes else "no pixels"
    shape = " x ".join(map(str, job.shape))
    lines = [
        f"### {job.title}",
        "",
        f"`{job.name}`: {what}; shape (z, y, x) {shape}"
        + (f", {job.count} of them" if job.count > 1 and job.is_write else ""),
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for candidate in everyone:
        name = candidate.name
        if name not in result.outcomes:
            continue
        outcome = result.outcomes[name]
        if not outcome.runs:
            lines.append(f"| {candidate.label} | {outcome.absent} |" + " |" * (len(_COLUMNS) - 2))
            continue
        cells = [
            candidate.label,
            spread([run.seconds for run in outcome.runs]),
            spread([run.processor for run in outcome.runs]),
            spread(result.speeds(name, synced=False)) if job.nbytes else "",
            spread(result.speeds(name, synced=True)) if job.is_write else "",
            "" if name == "raw" else spread(result.ratios(name, "raw", synced=False)),
            "" if name == "raw" or not job.is_write else spread(result.ratios(name, "raw", synced=True)),
            "" if name == "ours" else spread(result.ratios("ours", name, synced=False)),
            digits(statistics.median(run.peak for run in outcome.runs) / 1e6),
            _median([run.size for run in outcome.runs], 1e-6),
            _median([run.longest_call for run in outcome.runs], 1e3),
            _median([run.pace for run in outcome.runs]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> str:
    """Return "median (min to max)" in three digits."""
    if not values:
        return ""
    middle, low, high = (digits(f(values)) for f in (statistics.median, min, max))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


_COLOURS = ("#000000", "#0072b2", "#999999", "#d55e00", "#cc79a7", "#009e73", "#56b4e9", "#e69f00", "#f0e442")
CAMERA = 840  # MB/s: 2048 x 2048 pixels of 16 bits at 100 Hz


def digits(value: float) -> str:
    """Return a number in three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _median(values: Sequence[float | None], scale: float = 1) -> str:
    known = [value for value in values if value is not None]
    return digits(statistics.median(known) * scale) if known else ""


def plot(results: Sequence[Result], everyone: Sequence[Candidate], path: Path, title: str) -> None:
    """Draw the speed of every candidate in every job (logarithmic), with the range over the rounds."""
    from matplotlib.figure import Figure

    shown = [result for result in results if result.job.nbytes]
    colours = dict(zip([c.name for c in everyone], _COLOURS, strict=True))
    bars = sum(len(result.outcomes) for result in shown)
    figure = Figure(figsize=(9, 1.5 + 0.16 * bars), layout="constrained")
    axes = figure.add_subplot()
    y = 0.0
    ticks = []
    for result in shown:
        names = [name for name, outcome in result.outcomes.items() if outcome.runs]
        ticks.append(y + (len(names) - 1) / 2)
        for name in names:
            speeds = result.speeds(name, synced=False)
            middle = statistics.median(speeds)
            error = [[middle - min(speeds)], [max(speeds) - middle]]
            axes.barh(y, middle, 0.9, xerr=error, color=colours[name], ecolor="#666666")
            axes.annotate(f"  {digits(middle)}", (max(speeds), y), va="center", fontsize=7)
            y += 1
        y += 1
    axes.axvline(CAMERA, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yticks(ticks, [result.job.title for result in shown])
    axes.set_ylim(y - 0.5, -1)
    axes.set_xlim(right=1.5 * axes.get_xlim()[1])
    axes.set_xlabel(f"MB/s of pixels, buffered, median and range (dotted: a camera at full rate, {CAMERA})")
    handles = [axes.barh(-9, 1, color=colours[c.name], label=c.label) for c in everyone]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, title=title)
    figure.savefig(path, dpi=110)
