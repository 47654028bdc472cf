"""Reading gzip-compressed HDF5: h5py's slices beside npy2bdv's own way, all candidates taking turns.

python benchmarks/read_gzip.py [--size 1024] [--planes 64] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from data import camera
from npy2bdv.storage.codecs import FAST_LEVEL, deflate, shuffle
from npy2bdv.storage.direct import DecodedChunks, needs_no_cache, read_region

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Region

CHUNK = (4, 256, 256)
CACHE = 64 * 2**20  # what npy2bdv opens its files with


def save(pixels: NDArray[np.uint16], path: Path) -> None:
    """Save the view as the published npy2bdv does through h5py, and as ours does."""
    words = pixels.view("<i2")
    with h5py.File(path, "w", libver="earliest") as file:
        file.create_dataset("gzip 4", data=words, chunks=CHUNK, compression="gzip")
        options = {"compression": "gzip", "compression_opts": FAST_LEVEL, "shuffle": True}
        ours = file.create_dataset("shuffle, gzip 1", words.shape, "<i2", chunks=CHUNK, **options)
        for z, y, x in np.ndindex(*(n // c for n, c in zip(words.shape, CHUNK, strict=True))):
            start = (z * CHUNK[0], y * CHUNK[1], x * CHUNK[2])
            block = words[tuple(slice(at, at + n) for at, n in zip(start, CHUNK, strict=True))]
            ours.id.write_direct_chunk(start, deflate(shuffle(np.ascontiguousarray(block)), FAST_LEVEL))


def measure(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return (seconds, seconds of processor) of each round; each round begins with another job."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    names = list(jobs)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter(), time.process_time()
            jobs[name]()
            times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return times


def report(title: str, nbytes: int, times: dict[str, list[tuple[float, float]]]) -> None:
    """One table; the first job is the reference."""
    print(f"\n| {title} | MB/s | times as fast (min - max) | less processor time |")
    print("|---|---|---|---|")
    reference = next(iter(times.values()))
    for name, rounds in times.items():
        faster, lighter = (
            [a[kind] / b[kind] for a, b in zip(reference, rounds, strict=True)] for kind in (0, 1)
        )
        speed = nbytes / 1e6 / statistics.median(seconds for seconds, _ in rounds)
        print(
            f"| {name} | {speed:.0f} | {statistics.median(faster):.2f} ({min(faster):.2f} - {max(faster):.2f}) "
            f"| {statistics.median(lighter):.2f} |"
        )


def by_cache(file: h5py.File, name: str, regions: list[Region]) -> None:
    cells = file[name]  # one dataset for all of them: its cache goes with it
    for region in regions:
        cells[region]


def directly(file: h5py.File, name: str, regions: list[Region], threads: int | None = None) -> None:
    cells = file[name]
    for region in regions:
        read_region(cells, region, threads=threads)


def kept(file: h5py.File, name: str, regions: Sequence[Region]) -> None:
    cache = DecodedChunks(CACHE)
    for region in regions:
        read_region(file[name], region, cache=cache)


def ways(shape: tuple[int, int, int]) -> dict[str, list[Region]]:
    """What users read: boxes here and there, and slices one after the other."""
    rng = np.random.default_rng(0)

    def boxes(size: tuple[int, int, int], grid: tuple[int, int, int]) -> list[Region]:
        """Boxes that begin anywhere on a grid."""

        def side(axis: int) -> slice:
            length = min(size[axis], shape[axis])
            start = int(rng.integers((shape[axis] - length) // grid[axis] + 1)) * grid[axis]
            return slice(start, start + length)

        return [(side(0), side(1), side(2)) for _ in range(8)]

    full = slice(None)
    planes = range(min(shape[0], 16))
    return {
        "8 boxes of one chunk": boxes(CHUNK, CHUNK),
        "8 boxes of 4 chunks": boxes((4, 512, 512), CHUNK),
        "8 boxes of 16 chunks": boxes((4, 1024, 1024), CHUNK),
        "8 boxes of 64 x 64 x 64 pixels": boxes((64, 64, 64), (1, 1, 1)),
        "planes": [(slice(z, z + 1), full, full) for z in planes],
        "2 planes at a time": [(slice(z, z + 2), full, full) for z in planes[::2]],
        "4 planes at a time": [(slice(z, z + 4), full, full) for z in planes[::4]],
        "8 planes at a time": [(slice(z, z + 8), full, full) for z in planes[::8]],
        "8 sections (z, x)": [(full, slice(y, y + 1), full) for y in range(8)],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print Markdown tables; ratios are medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="pixels along y and x, a multiple of 256")
    parser.add_argument("--planes", type=int, default=64, help="a multiple of 4")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)

    shape = (options.planes, options.size, options.size)
    pixels = camera(shape)
    whole: list[Region] = [(slice(None), slice(None), slice(None))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.h5"
        save(pixels, path)
        with h5py.File(path, "r", rdcc_nbytes=CACHE, rdcc_nslots=100_003) as file:
            jobs: dict[str, Callable[[], object]] = {}
            for name in file:
                assert np.array_equal(read_region(file[name], whole[0]), pixels.view("<i2"))
                size = file[name].id.get_storage_size() / 1e6
                print(f"{name}: {size:.1f} MB of {pixels.nbytes / 1e6:.1f}")
                jobs[f"h5py, {name}"] = partial(by_cache, file, name, whole)
                jobs[f"direct, {name}, 1 thread"] = partial(directly, file, name, whole, 1)
                jobs[f"direct, {name}"] = partial(directly, file, name, whole)
            report("whole view", pixels.nbytes, measure(jobs, options.rounds))

            name = "shuffle, gzip 1"
            for title, regions in ways(shape).items():
                chosen = "nothing" if needs_no_cache(file[name], regions[0]) else "chunks"
                nbytes = sum(pixels[region].nbytes for region in regions)
                jobs = {
                    "h5py and its cache": partial(by_cache, file, name, regions),
                    "direct": partial(directly, file, name, regions),
                    "direct and its cache": partial(kept, file, name, regions),
                }
                report(f"{title} (npy2bdv keeps {chosen})", nbytes, measure(jobs, options.rounds))


if __name__ == "__main__":
    main()
