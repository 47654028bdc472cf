"""Speed of block means on camera-like data, beside scikit-image, all candidates taking turns.

python benchmarks/downsample.py [--size 2048] [--planes 8] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

from npy2bdv.downsample import Cascade, downsample

Image = NDArray[np.generic]
Levels = Sequence[tuple[int, int, int]]


def camera(planes: int, size: int) -> NDArray[np.uint16]:
    """Offset and shot noise, as an sCMOS camera gives them."""
    return (np.random.default_rng(0).poisson(300, (planes, size, size)) + 100).astype(np.uint16)


def stream(image: Image, levels: Levels, depth: int) -> None:
    cascade = Cascade(image.shape, image.dtype, levels)
    for z in range(0, len(image), depth):
        cascade.push(z, image[z : z + depth])


def seconds(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time the jobs in turns; each round begins with another one."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    names = list(jobs)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            jobs[name]()
            times[name].append(time.perf_counter() - start)
    return times


def main(argv: Sequence[str] | None = None) -> None:
    """Print a Markdown table; 'vs' columns are medians of the ratios of each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="pixels along y and x")
    parser.add_argument("--planes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)

    pixels = camera(options.planes, options.size)
    images: dict[str, Image] = {
        "uint16": pixels,
        "uint8": (pixels >> 2).astype(np.uint8),
        "float32": pixels.astype(np.float32),
    }
    print(f"{options.planes} planes of {options.size} x {options.size}, {options.rounds} rounds\n")
    print("| job | GB/s of input | times as fast as scikit-image | as downsample |")
    print("|---|---|---|---|")
    for kind, image in images.items():
        for factors in [(2, 2, 2), (1, 2, 2), (1, 4, 4), (2, 4, 4)]:
            report(f"{kind} {factors}", image, factors, options.rounds)


def report(name: str, image: Image, factors: tuple[int, int, int], rounds: int) -> None:
    """One row for downsample, and for the stream of this level and one twice as coarse."""
    z, y, x = factors
    levels = [factors, (2 * z, 2 * y, 2 * x)]
    jobs: dict[str, Callable[[], object]] = {
        "skimage": lambda: downscale_local_mean(image, factors),  # type: ignore[no-untyped-call]
        name: lambda: downsample(image, factors),
        f"{name} and its double, slabs of 4 planes": lambda: stream(image, levels, 4),
        f"{name} and its double, single planes": lambda: stream(image, levels, 1),
    }
    times = seconds(jobs, rounds)

    def median_ratio(reference: str, job: str) -> float:
        return statistics.median(a / b for a, b in zip(times[reference], times[job], strict=True))

    for job in list(jobs)[1:]:
        speed = image.nbytes / statistics.median(times[job]) / 1e9
        print(f"| {job} | {speed:.2f} | {median_ratio('skimage', job):.1f} | {median_ratio(name, job):.2f} |")


if __name__ == "__main__":
    main()
