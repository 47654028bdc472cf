"""What the checkpoints that happen by themselves cost: the same stream with them and without, taking turns.

python benchmarks/checkpoints.py [--gb 9] [--side 2048] [--rounds 3] [--every 4] [--out DIR]
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import npy2bdv
from data import camera

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

KINDS: dict[str, tuple[tuple[tuple[int, int, int], ...], str | None]] = {
    "1 level": (((1, 1, 1),), None),
    "3 levels": (((1, 1, 1), (2, 2, 2), (4, 4, 4)), None),
    "gzip, 3 levels": (((1, 1, 1), (2, 2, 2), (4, 4, 4)), "gzip"),
}


def stream(folder: Path, frames: NDArray, planes: int, kind: str, every: float | None) -> float:  # type: ignore[type-arg]
    """Return the seconds that a stream takes, with checkpoints every so many GiB (None: without)."""
    levels, compression = KINDS[kind]
    seconds, nbytes = (math.inf, sys.maxsize) if every is None else (10.0, int(every * 2**30))
    begun = time.perf_counter()
    with (
        npy2bdv.create(
            folder / "a.xml",
            levels=levels,
            compression=compression,
            overwrite=True,
            checkpoint_seconds=seconds,
            checkpoint_bytes=nbytes,
        ) as writer,
        writer.stream(setup=writer.add_setup(shape=(planes, *frames.shape[1:]))) as view,
    ):
        for z in range(planes):
            view.append(frames[z % len(frames)])
    return time.perf_counter() - begun


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=9)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=float, default=4, help="GiB; 4 is the default of npy2bdv")
    parser.add_argument("--out", type=Path, help="a folder on the disk to be measured")
    given = parser.parse_args(arguments)
    frames = camera((64, given.side, given.side))
    planes = max(1, round(given.gb * 1e9 / frames[0].nbytes))
    print(f"streams of {planes} planes of {given.side} x {given.side} pixels, {given.rounds} rounds\n")
    print("| stream | MB/s with checkpoints | without | time with / without, median (min to max) |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=given.out) as folder:
        for kind in KINDS:
            stream(
                Path(folder), frames, min(planes, 16), kind, None
            )  # so that nothing is done first in a timed run
            times: dict[float | None, list[float]] = {given.every: [], None: []}
            for turn in range(given.rounds):
                for every in list(times)[:: 1 if turn % 2 else -1]:
                    times[every].append(stream(Path(folder), frames, planes, kind, every))
            ratios = [a / b for a, b in zip(times[given.every], times[None], strict=True)]
            speeds = [planes * frames[0].nbytes / statistics.median(each) / 1e6 for each in times.values()]
            middle = statistics.median(ratios)
            print(
                f"| {kind} | {speeds[0]:.0f} | {speeds[1]:.0f} | "
                f"{middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
