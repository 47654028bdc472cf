"""The jobs, as values that travel to the candidates. Runs in every candidate's environment: numpy only."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Kind: TypeAlias = Literal["stacks", "planes", "read_whole", "read_planes", "read_boxes", "open_xml"]
Format: TypeAlias = Literal["hdf5", "n5", "zarr2", "zarr3"]
Size: TypeAlias = Literal["small", "normal", "large"]
Zyx: TypeAlias = tuple[int, int, int]

CHUNK: Zyx = (4, 256, 256)
SHARD: Zyx = (4, 1024, 1024)
"""What lies in one file of Zarr v3, as ours has it by default; smaller images have less."""
THREADS = min(4, os.cpu_count() or 1)
"""For candidates that ask how many; as many as ours has by default."""
PIXEL = np.dtype(np.uint16)
ONE_LEVEL: tuple[Zyx, ...] = ((1, 1, 1),)
LEVELS: tuple[Zyx, ...] = ((1, 1, 1), (2, 2, 2), (4, 4, 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One thing that all candidates do.

    `count` is the number of stacks (time points) written one after the other, of streams open at once that get
    planes in turn, of planes or boxes read, or of setups in an XML (where the shape's z is its time points).
    """

    name: str
    title: str
    kind: Kind
    shape: Zyx
    count: int = 1
    levels: tuple[Zyx, ...] = ONE_LEVEL
    format: Format = "hdf5"
    compression: str | None = None
    source: str = "plain"
    """The dataset that is read."""
    held: int = 0
    """Planes in memory, of which a longer view is a repetition; 0: all."""

    @property
    def is_write(self) -> bool:
        return self.kind in ("stacks", "planes")

    @property
    def data_shape(self) -> Zyx:
        """Shape of the array that is made beforehand."""
        return (self.held or self.shape[0], *self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of pixels that go in or come out; 0 where it is not about pixels."""
        pixels = {
            "stacks": self.count * math.prod(self.shape),
            "planes": self.count * math.prod(self.shape),
            "read_whole": math.prod(self.shape),
            "read_planes": self.count * math.prod(self.shape[1:]),
            "read_boxes": self.count * self.edge**3,
            "open_xml": 0,
        }
        return pixels[self.kind] * PIXEL.itemsize

    def file_block(self, shape: Zyx) -> Zyx:
        """Return how many pixels of a level of this shape lie in one file, where there is one for each block."""
        if self.format != "zarr3":
            return CHUNK
        counts = [
            min(shard // chunk, -(-n // chunk)) for shard, chunk, n in zip(SHARD, CHUNK, shape, strict=True)
        ]
        z, y, x = (count * chunk for count, chunk in zip(counts, CHUNK, strict=True))
        return z, y, x

    @property
    def edge(self) -> int:
        """Edge of the boxes that are read."""
        return min(64, *self.shape)

    def stack(self, data: NDArray[np.uint16], index: int) -> NDArray[np.uint16]:
        """Return the pixels of a stack."""
        start = index * self.shape[0] % len(data)
        return data[start : start + self.shape[0]]

    def frame(self, data: NDArray[np.uint16], z: int, stream: int) -> NDArray[np.uint16]:
        """Return a plane of a stream."""
        frame: NDArray[np.uint16] = data[(z + 3 * stream) % len(data)]
        return frame

    def frames(self, data: NDArray[np.uint16]) -> Iterator[tuple[int, int, NDArray[np.uint16]]]:
        """Iterate over (z, stream, plane) as a microscope delivers them: all streams in turn."""
        for z in range(self.shape[0]):
            for stream in range(self.count):
                yield z, stream, self.frame(data, z, stream)

    def planes_to_read(self) -> list[int]:
        """Return random planes, for every candidate the same."""
        planes: list[int] = np.random.default_rng(1).integers(0, self.shape[0], self.count).tolist()
        return planes

    def boxes_to_read(self) -> list[tuple[slice, slice, slice]]:
        """Return random boxes, for every candidate the same."""
        room = np.subtract(self.shape, self.edge) + 1
        corners = np.random.default_rng(1).integers(0, room, (self.count, 3)).tolist()
        return [
            (slice(z, z + self.edge), slice(y, y + self.edge), slice(x, x + self.edge)) for z, y, x in corners
        ]


def jobs(size: Size, long_gigabytes: float = 0) -> list[Job]:
    """Return all jobs, the slow ones on fewer planes, and the runs past the page cache if they are asked for."""
    shapes = _SHAPES[size]
    count = shapes.stacks
    whole = Job(name="stack", title="whole stack", kind="stacks", shape=shapes.stack)
    planes = Job(name="planes", title="plane by plane", kind="planes", shape=shapes.stack)
    series = Job(
        name="series",
        title=f"{count} small stacks",
        kind="stacks",
        shape=shapes.small,
        count=count,
        held=4 * shapes.small[0],
    )
    result = [whole, planes, with_levels(whole), with_levels(planes)]
    result += [with_gzip(replace(job, shape=shapes.packed)) for job in (whole, planes)]
    result += [series, with_levels(series), channels(planes, 2), channels(planes, 4)]
    result += n5(whole, shapes.packed) + zarr(planes)
    result += [job for source in _SOURCES for job in reads(shapes.read, shapes.reads, source)]
    result.append(open_xml(*shapes.views))
    if long_gigabytes:
        result += long(planes, long_gigabytes)
    return result


def with_levels(job: Job) -> Job:
    return replace(job, name=f"{job.name}-levels", title=f"{job.title}, 3 levels", levels=LEVELS)


def with_gzip(job: Job) -> Job:
    title = f"{job.title}, gzip, 3 levels"
    return replace(job, name=f"{job.name}-gzip", title=title, levels=LEVELS, compression="gzip")


def n5(whole: Job, packed: Zyx) -> list[Job]:
    plain = replace(whole, name="n5", title="N5, whole stack", format="n5")
    gzip = replace(plain, name="n5-gzip", title="N5, whole stack, gzip, 3 levels", shape=packed)
    return [plain, replace(gzip, levels=LEVELS, compression="gzip")]


def zarr(planes: Job) -> list[Job]:
    """Return sharded streams, uncompressed, and streams of one file per chunk, compressed."""
    sharded = replace(planes, name="zarr3", title="OME-Zarr v3 sharded, plane by plane", format="zarr3")
    packed = [
        replace(
            planes,
            name=f"zarr2-{codec}",
            title=f"OME-Zarr v2, plane by plane, {codec}, 3 levels",
            format="zarr2",
            levels=LEVELS,
            compression=codec,
        )
        for codec in ("zstd", "blosc")
    ]
    return [sharded, with_levels(sharded), *packed]


def channels(job: Job, count: int) -> Job:
    """Share the planes out to streams that are open at once."""
    shape = (job.shape[0] // count, *job.shape[1:])
    title = f"{count} channels, planes in turn"
    return replace(job, name=f"channels-{count}", title=title, shape=shape, count=count)


def long(job: Job, gigabytes: float) -> list[Job]:
    """Repeat the planes of a stream, at most 1 GiB of them, to a length that leaves the page cache."""
    plane = math.prod(job.shape[1:]) * PIXEL.itemsize
    shape = (math.ceil(gigabytes * 1e9 / plane), *job.shape[1:])
    held = min(job.shape[0], 2**30 // plane)
    title = f"{job.title}, {gigabytes:g} GB"
    base = replace(job, name="long", title=title, shape=shape, held=held)
    return [base, with_levels(base), with_gzip(base)]


def reads(shape: Zyx, count: int, source: str) -> list[Job]:
    """Return the ways to read a source."""
    what = _SOURCES[source]
    titles: dict[Kind, str] = {
        "read_whole": f"read a whole view, {what}",
        "read_planes": f"read {count} random planes, {what}",
        "read_boxes": f"read {count} random boxes of 64³, {what}",
    }
    suffix = "" if source == "plain" else f"-{source}"
    return [
        Job(
            name=kind.replace("_", "-") + suffix,
            title=title,
            kind=kind,
            shape=shape,
            count=count,
            source=source,
        )
        for kind, title in titles.items()
    ]


def open_xml(times: int, setups: int) -> Job:
    title = f"open an XML of {times * setups} views, read one transform"
    return Job(name="open-xml", title=title, kind="open_xml", shape=(times, 2, 2), count=setups)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shapes:
    """How much is done: shapes (z, y, x) and counts."""

    stack: Zyx
    packed: Zyx
    """Less than `stack`: the peers write it at 20 MB/s."""
    small: Zyx
    stacks: int
    read: Zyx
    reads: int
    views: tuple[int, int]


_SMALL = _Shapes(
    stack=(8, 128, 128),
    packed=(8, 128, 128),
    small=(4, 64, 64),
    stacks=12,
    read=(8, 128, 128),
    reads=4,
    views=(10, 10),
)
_NORMAL = _Shapes(
    stack=(64, 2048, 2048),
    packed=(16, 2048, 2048),
    small=(16, 512, 512),
    stacks=100,
    read=(64, 1024, 1024),
    reads=64,
    views=(1000, 100),
)
_LARGE = replace(
    _NORMAL, stack=(256, 2048, 2048), packed=(64, 2048, 2048), small=(16, 1024, 1024), read=(64, 2048, 2048)
)
_SHAPES: dict[Size, _Shapes] = {"small": _SMALL, "normal": _NORMAL, "large": _LARGE}
_SOURCES = {"plain": "uncompressed", "gzip": "our gzip", "h5py": "gzip as h5py writes it"}
