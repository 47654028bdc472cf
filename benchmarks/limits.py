"""What this machine allows: the least that each job of write.py cannot do without, measured beside each other.

python benchmarks/limits.py [--planes 64] [--side 2048] [--rounds 7] [--out DIR]

Nothing of npy2bdv writes here, except that one HDF5 file is made first to learn where HDF5 puts its chunks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numcodecs
import numpy as np
from isal import isal_zlib

import npy2bdv
from data import camera

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CHUNK = (4, 256, 256)
THREADS = 2
_PIECE = 8 * 2**20


def raw(folder: Path, stack: NDArray[Any]) -> float:
    """One file, end to end, in pieces of 8 MiB."""
    view = stack.reshape(-1).view(np.uint8).data
    begun = time.perf_counter()
    with open(folder / "raw", "wb", buffering=0) as file:
        for start in range(0, len(view), _PIECE):
            file.write(view[start : start + _PIECE])
    return time.perf_counter() - begun


def at_places(folder: Path, stack: NDArray[Any], places: list[int]) -> float:
    """The same bytes in pieces of a chunk, where HDF5 puts them: what a file of this layout costs at least."""
    view = stack.reshape(-1).view(np.uint8).data
    size = len(view) // len(places)
    begun = time.perf_counter()
    with open(folder / "places", "wb", buffering=0) as file:
        for number, place in enumerate(places):
            file.seek(place)
            file.write(view[number * size : (number + 1) * size])
    return time.perf_counter() - begun


def cut(stack: NDArray[Any]) -> float:
    """Copies every chunk out of the planes in two threads, and writes nothing."""
    jobs = [_chunk(stack, number) for number in range(_n_chunks(stack))]

    def copy(some: list[NDArray[Any]]) -> None:
        room = np.empty(CHUNK, stack.dtype)
        for each in some:
            np.copyto(room, each)

    return _in_threads(copy, jobs)


def cut_and_write(folder: Path, stack: NDArray[Any], places: list[int]) -> float:
    """Copies every chunk, and writes it where HDF5 puts it, in two threads: the job itself, without any format."""
    jobs = [(_chunk(stack, number), place) for number, place in enumerate(places)]
    with open(folder / "cut", "wb", buffering=0) as file:
        number = file.fileno()

        def work(some: list[tuple[NDArray[Any], int]]) -> None:
            room = np.empty(CHUNK, stack.dtype)
            for each, place in some:
                np.copyto(room, each)
                os.pwrite(number, room.data.cast("B"), place)

        return _in_threads(work, jobs)


def many_files(folder: Path, stack: NDArray[Any]) -> float:
    """Each chunk a file under a temporary name, renamed when it is whole; the bytes as they lie, in two threads."""
    for row in range(stack.shape[0] // CHUNK[0]):
        (folder / f"{row}").mkdir()
    view = stack.reshape(-1).view(np.uint8).data
    count = _n_chunks(stack)
    size = len(view) // count
    names = [f"{folder}/{number * stack.shape[0] // CHUNK[0] // count}/{number}" for number in range(count)]

    def work(some: list[int]) -> None:
        for number in some:
            name = names[number]
            file = os.open(f"{name}.part", os.O_CREAT | os.O_WRONLY | os.O_EXCL)
            os.write(file, view[number * size : (number + 1) * size])
            os.close(file)
            os.rename(f"{name}.part", name)

    return _in_threads(work, list(range(count)))


def compress(stack: NDArray[Any], codec: Callable[[Any], bytes]) -> tuple[float, float]:
    """Compresses every chunk in two threads; the seconds, and which part of the bytes is left."""
    jobs = [np.ascontiguousarray(_chunk(stack, number)) for number in range(_n_chunks(stack))]
    left = sum(len(codec(each)) for each in jobs[::16]) / sum(each.nbytes for each in jobs[::16])

    def work(some: list[NDArray[Any]]) -> None:
        for each in some:
            codec(each)

    return _in_threads(work, jobs), left


def _n_chunks(stack: NDArray[Any]) -> int:
    return int(np.prod([n // size for n, size in zip(stack.shape, CHUNK, strict=True)]))


def _chunk(stack: NDArray[Any], number: int) -> NDArray[Any]:
    _, rows, columns = (n // size for n, size in zip(stack.shape, CHUNK, strict=True))
    z, rest = divmod(number, rows * columns)
    y, x = divmod(rest, columns)
    return stack[z * 4 : z * 4 + 4, y * 256 : y * 256 + 256, x * 256 : x * 256 + 256]


def _in_threads(work: Callable[[list[Any]], None], jobs: list[Any]) -> float:
    shares = [jobs[number::THREADS] for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, [share[:1] for share in shares]))  # threads have begun, buffers are there
        begun = time.perf_counter()
        list(pool.map(work, [share[1:] for share in shares]))
        return time.perf_counter() - begun


def places_of(folder: Path, stack: NDArray[Any]) -> list[int]:
    """Return where the chunks of an HDF5 file of ours lie."""
    with npy2bdv.create(folder / "a.xml", chunks=CHUNK) as writer:
        writer.write(stack, setup=writer.add_setup(shape=stack.shape))
    found: list[int] = []
    with h5py.File(folder / "a.h5") as file:
        file["t00000/s00/0/cells"].id.chunk_iter(lambda chunk: found.append(chunk.byte_offset))
    return sorted(found)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--planes", type=int, default=64)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="a folder on the disk to be measured")
    options = parser.parse_args()
    stack = np.ascontiguousarray(camera((options.planes, options.side, options.side)))
    swapped = stack.byteswap()
    part, part_swapped = stack[:16], swapped[:16]
    zstd, blosc = numcodecs.Zstd(level=1), numcodecs.Blosc("zstd", clevel=1, shuffle=1)
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        folder = Path(name)
        places = places_of(folder, stack)
        jobs: dict[str, Callable[[Path], Any]] = {
            "chunks at the places of HDF5, finished, one thread": lambda to: at_places(to, stack, places),
            "cutting chunks, two threads, nothing written": lambda to: cut(stack),
            "cutting, and writing at these places, two threads": lambda to: cut_and_write(to, stack, places),
            "a file for each chunk, finished, renamed, two threads": lambda to: many_files(to, stack),
            "raw file": lambda to: raw(to, stack),
            **{
                f"deflate (isal {level}) of big-endian chunks, two threads": lambda to, level=level: compress(  # type: ignore[misc]
                    part_swapped, lambda each: isal_zlib.compress(each, level)
                )
                for level in (0, 1, 2)
            },
            "zstd 1 of chunks, two threads": lambda to: compress(part, zstd.encode),
            "blosc (zstd 1, shuffle) of chunks, two threads": lambda to: compress(part, blosc.encode),
        }
        seconds: dict[str, list[float]] = {job: [] for job in jobs}
        left: dict[str, float] = {}
        for turn in range(options.rounds + 1):  # the first one only warms up
            for number, (job, function) in enumerate(jobs.items()):
                to = folder / f"{turn}-{number}"
                to.mkdir()
                if number == 0:  # memory that was just given back to the host comes again slowly
                    raw(to, stack)
                    os.truncate(to / "raw", 0)
                found = function(to)
                if isinstance(found, tuple):
                    found, left[job] = found
                if turn:
                    seconds[job].append(found)
                for file in to.rglob("*"):
                    if file.is_file():
                        os.truncate(file, 0)  # not removed: ext4 looks at what was just removed
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    print("| what | MB | seconds: median (min to max) | MB/s | of raw | left |\n|---|---|---|---|---|---|")
    base = statistics.median(seconds["raw file"]) / stack.nbytes
    for job, runs in seconds.items():
        nbytes = part.nbytes if job in left else stack.nbytes
        middle = statistics.median(runs)
        rest = f"{left[job]:.3f}" if job in left else ""
        ratio = "" if job in left else f"{base * nbytes / middle:.2f}"
        spread = f"{middle:.3f} ({min(runs):.3f} to {max(runs):.3f})"
        print(f"| {job} | {nbytes / 1e6:.0f} | {spread} | {nbytes / middle / 1e6:.0f} | {ratio} | {rest} |")


if __name__ == "__main__":
    main()
