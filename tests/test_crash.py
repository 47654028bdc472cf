"""Recordings that are killed: what a checkpoint acknowledged is there, as the file lies or after `recover`.

Each test starts this file as a program that records and tells of its checkpoints, and kills it at some instant.

``python tests/test_crash.py --kills 300`` kills that many, and reports planes that were acknowledged and planes lost.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
import tensorstore
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import NotFoundError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.flushes import pending_flush
from npy2bdv.storage.journal import journal_path, read_records

HEIGHT, WIDTH = 50, 70
CHUNK = (4, 32, 32)
DEPTH = 150
SHORT = 10
"""Planes of the stacks of a time lapse."""
LEVELS = ((1, 1, 1), (2, 2, 2), (4, 4, 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is recorded, and how."""

    how: Literal["planes", "blocks", "unknown length", "time lapse", "classic", "given up", "replaced"]
    compression: Literal["gzip", "zstd"] | None = None
    format: Literal["hdf5", "n5", "zarr 2", "zarr 3"] = "hdf5"
    levels: int = 1
    views: int = 1
    clock: bool = False
    """Checkpoints come by time alone."""
    existing: bool = False
    """A dataset of the same name is being replaced."""
    closing: bool = False
    """The kill comes while the recording is closed, or after that."""

    def __str__(self) -> str:
        words = [self.how, self.compression or "raw", f"{self.levels} levels", f"{self.views} views"]
        words = words if self.format == "hdf5" else [self.format, *words]
        return ", ".join(
            words + ["by time"] * self.clock + ["replacing"] * self.existing + ["closing"] * self.closing
        )

    @property
    def in_place(self) -> bool:
        """Whether rows in part are stored where they belong."""
        return self.format == "hdf5" and self.compression is None

    def pixels(self, path: Path) -> Path:
        """Where the pixels lie."""
        return path.with_suffix({"hdf5": ".h5", "n5": ".n5"}.get(self.format, ".ome.zarr"))

    @property
    def stored_as(self) -> dict[str, Any]:
        """The format, as writers are told of it."""
        name, _, version = self.format.partition(" ")
        return {"format": "omezarr", "zarr_version": int(version)} if version else {"format": name}


@cache
def plane(view: ViewId, z: int) -> NDArray[np.uint16]:
    seed = z * 131 + view.setup * 17 + view.time * 7919
    pixels = (np.arange(HEIGHT * WIDTH) * 40503 + seed * 257) % 65521 % (1000 + seed % 1000)
    return pixels.reshape(HEIGHT, WIDTH).astype("uint16") + np.uint16(1)


def sequence(job: Job) -> list[int]:
    """The planes of each view in the order in which they come."""
    if job.how in ("time lapse", "classic"):
        return list(range(SHORT))
    if job.how != "blocks":
        return list(range(DEPTH))
    rng = random.Random(0)
    starts = [0, *sorted(rng.sample(range(1, DEPTH), DEPTH // 3)), DEPTH]
    blocks = [list(range(a, b)) for a, b in pairwise(starts)]
    rng.shuffle(blocks)
    return [z for block in blocks for z in block]


# ------------------------------------------------------------------------------------- the killed program


def record(path: Path, job: Job) -> None:
    options: dict[str, Any] = {"compression": job.compression, "overwrite": job.existing}
    if job.how == "classic":
        record_classic(path, job)
        return
    writer = npy2bdv.create(
        path,
        **job.stored_as,
        levels=LEVELS[: job.levels],
        chunks=CHUNK,
        checkpoint_seconds=0.02 if job.clock else 1000,
        **options,
    )
    depth = SHORT if job.how == "time lapse" else None if job.how == "unknown length" else DEPTH
    setups = [writer.add_setup(shape=(depth, HEIGHT, WIDTH), channel=i) for i in range(job.views)]
    if job.how == "time lapse":
        for t in range(60):
            for setup in setups:
                with writer.stream(setup=setup, time=t) as view:
                    for z in range(SHORT):
                        view.append(plane(ViewId(t, setup), z))
                        tell(writer, job, 7 * t + 3 * setup + z, every=4)
        return
    if job.how in ("given up", "replaced"):
        for setup in setups:
            with writer.stream(setup=setup) as view:
                for z in range(DEPTH if job.how == "replaced" else 30):
                    view.append(plane(ViewId(9, 9), z))
                if job.how == "given up":
                    writer.checkpoint()
                    view.abort()
        writer.checkpoint()
    views = [writer.stream(setup=setup, replace_view=job.how == "replaced") for setup in setups]
    order = sequence(job)
    done = 0
    while done < DEPTH:
        step = run_length(order, done) if job.how == "blocks" else 1
        for view, setup in zip(views, setups, strict=True):
            id_ = ViewId(0, setup)
            if job.how == "blocks":
                view.put(np.stack([plane(id_, z) for z in order[done : done + step]]), order[done])
            else:
                view.append(plane(id_, order[done]))
        done += step
        tell(writer, job, done, every=3 if not job.closing else 50)
    if job.closing:
        print("closing", flush=True)
        writer.close()
        print("closed", flush=True)


def run_length(order: Sequence[int], start: int) -> int:
    """How many planes from `start` on follow one another."""
    run = 1
    while start + run < len(order) and order[start + run] == order[start] + run:
        run += 1
    return run


def record_classic(path: Path, job: Job) -> None:
    writer = npy2bdv.BdvWriter(
        str(job.pixels(path)),
        **job.stored_as,
        subsamp=LEVELS[: job.levels],
        blockdim=(CHUNK,),
        compression=job.compression,
        nchannels=job.views,
        overwrite=job.existing,
    )
    for t in range(60):
        for setup in range(job.views):
            id_ = ViewId(t, setup)
            if t % 2:
                stack = np.stack([plane(id_, z) for z in range(SHORT)])
                writer.append_view(stack, time=t, channel=setup)
                tell(writer, job, t, every=1)
                continue
            writer.append_view(None, virtual_stack_dim=(SHORT, HEIGHT, WIDTH), time=t, channel=setup)
            for z in range(SHORT):
                writer.append_plane(plane(id_, z), z=z, time=t, channel=setup)
                tell(writer, job, z, every=3)


def tell(writer: npy2bdv.DatasetWriter | npy2bdv.BdvWriter, job: Job, count: int, *, every: int) -> None:
    """Make a checkpoint now and then, and say so before and after."""
    if count % every:
        return
    print("going on", flush=True)
    if job.clock:
        time.sleep(0.002)
    else:
        acknowledged = writer.checkpoint()
        print(json.dumps([[*view, planes] for view, planes in acknowledged.items()]), flush=True)


# ----------------------------------------------------------------------------------------------- the tests

JOBS = (
    Job(how="planes"),
    Job(how="planes", levels=3, views=3),
    Job(how="planes", levels=2, clock=True),
    Job(how="planes", compression="gzip", levels=3, views=2),
    Job(how="planes", compression="gzip", levels=2, clock=True, existing=True),
    Job(how="blocks", levels=2, views=2),
    Job(how="blocks", compression="gzip", levels=3),
    Job(how="unknown length", levels=3),
    Job(how="unknown length", compression="gzip", levels=2),
    Job(how="time lapse", levels=2, views=2, existing=True),
    Job(how="time lapse", compression="gzip", levels=2, views=2),
    Job(how="classic", levels=2, views=2),
    Job(how="classic", compression="gzip", levels=3),
    Job(how="given up", levels=2),
    Job(how="given up", compression="gzip"),
    Job(how="replaced", compression="gzip", levels=2, views=2),
    Job(how="planes", format="n5", levels=3, views=2),
    Job(how="classic", format="n5", compression="gzip", levels=2, views=2),
    Job(how="planes", format="zarr 2", compression="zstd", levels=3, views=2),
    Job(how="unknown length", format="zarr 2", levels=2),
    Job(how="classic", format="zarr 2", levels=2, views=2),
    Job(how="planes", format="zarr 3", compression="zstd", levels=2, clock=True, existing=True),
    Job(how="blocks", format="zarr 3", levels=2),
    Job(how="classic", format="zarr 3", compression="zstd", levels=3),
    Job(how="replaced", format="zarr 3", compression="gzip", levels=2, views=2),
    Job(how="planes", format="n5", compression="gzip", levels=2, clock=True, existing=True),
    Job(how="blocks", format="n5", compression="gzip", levels=2),
    Job(how="unknown length", format="n5", levels=2),
    Job(how="given up", format="n5", levels=2),
    Job(how="replaced", format="n5", compression="gzip", levels=2, views=2),
)


CLOSING = (
    Job(how="planes", levels=3, views=2, closing=True, existing=True),
    Job(how="planes", compression="gzip", levels=3, views=2, closing=True),
    Job(how="unknown length", compression="gzip", levels=2, closing=True),
    Job(how="planes", format="n5", compression="gzip", levels=3, views=2, closing=True),
    Job(how="planes", format="zarr 2", compression="zstd", levels=2, views=2, closing=True),
    Job(how="planes", format="zarr 3", levels=3, closing=True, existing=True),
)


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)


def killed(path: Path, job: Job, seed: int) -> dict[ViewId, set[int]]:
    """Start a recording, kill it at some instant; return the planes that it said were safe."""
    rng = random.Random(f"{job} {seed}")
    process = started("--record", str(path), json.dumps(asdict(job)))
    assert process.stdout is not None
    lines: list[str] = []
    if job.closing:
        while not lines or (lines[-1] and lines[-1] != "closing\n"):
            lines.append(process.stdout.readline())
        time.sleep(rng.random() * rng.choice((0.002, 0.02, 0.05)))
    else:
        lines += [process.stdout.readline() for _ in range(rng.randrange(1, 40))]
        time.sleep(rng.random() * rng.choice((0.001, 0.01)))
    process.kill()
    lines += process.communicate()[0].splitlines()
    assert process.returncode != 1, "the recording itself failed"
    if job.clock:
        done = [
            each.text["views"] for each in read_records(journal_path(job.pixels(path))) if each.kind == "done"
        ]
        last = [(view, sum(stop - start for start, stop in there)) for view, there, _ in (done or [[]])[-1]]
    else:
        said = [line for line in lines if line.startswith("[") and line.strip().endswith("]]")]
        last = [(view, planes) for *view, planes in (json.loads(said[-1]) if said else [])]
    order = sequence(job)
    return {ViewId(*view): set(order[:planes]) for view, planes in last}


def full_rows(planes: Iterable[int], depth: int) -> set[int]:
    there = set(planes)
    rows = (range(start, min(start + CHUNK[0], depth)) for start in range(0, depth, CHUNK[0]))
    return {z for row in rows if there.issuperset(row) for z in row}


def planes_of(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {z for start, stop in ranges for z in range(start, stop)}


def left_there_before(path_xml: Path, job: Job) -> None:
    if job.existing:
        with npy2bdv.create(path_xml, **job.stored_as) as writer:
            writer.write(np.ones((1, 2, 3), "uint16"), setup=writer.add_setup(shape=(1, 2, 3)))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("job", JOBS, ids=str)
def test_acknowledged_planes_survive_a_kill(job: Job, seed: int, tmp_path: Path) -> None:
    path_xml = tmp_path / "a.xml"
    left_there_before(path_xml, job)
    survives(path_xml, job, killed(path_xml, job, seed))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("job", CLOSING, ids=str)
def test_a_kill_while_it_is_closed(job: Job, seed: int, tmp_path: Path) -> None:
    path_xml = tmp_path / "a.xml"
    left_there_before(path_xml, job)
    survives(path_xml, job, killed(path_xml, job, seed))


@pytest.mark.parametrize("job", [JOBS[number] for number in (1, 3, 8, 16, 18, 22)], ids=str)
def test_kills_of_recover_itself(job: Job, tmp_path: Path) -> None:
    """Again and again, each time a little later; the last time it is left alone."""
    path_xml = tmp_path / "a.xml"
    acknowledged = killed(path_xml, job, seed=100)
    kills_of_recover(path_xml, job, random.Random(str(job)), 4)
    survives(path_xml, job, acknowledged)


def kills_of_recover(path_xml: Path, job: Job, rng: random.Random, kills: int) -> None:
    for _ in range(kills):
        if not journal_path(job.pixels(path_xml)).exists():
            return
        process = started("--recover", str(path_xml))
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * 0.06)
        process.kill()
        process.communicate()
        assert process.returncode != 1, "recovering itself failed"


def survives(path_xml: Path, job: Job, acknowledged: dict[ViewId, set[int]]) -> None:
    """Look at what is there, as it lies and after `recover`."""
    pixels_path = job.pixels(path_xml)
    tmp_path = path_xml.parent
    early_xml = tmp_path / "a.recording.xml"
    if not journal_path(pixels_path).exists():  # it was complete before the kill came
        check_acknowledged(path_xml, acknowledged)
        return
    torn = job.format == "hdf5" and pending_flush(pixels_path) is not None
    if not torn:  # else it was killed within a flush, which `recover` completes
        safe_as_it_lies(pixels_path, job, acknowledged)
    if acknowledged:
        check_acknowledged(early_xml if early_xml.is_file() else path_xml, acknowledged)
    recovery = npy2bdv.recover(path_xml)
    assert recovery.damage is None
    report = {each.view: each for each in recovery}
    assert {path.name for path in tmp_path.iterdir()} <= {"a.xml", "a.xml~1", pixels_path.name}
    assert not list(tmp_path.rglob("*.npy2bdv-part"))
    with npy2bdv.open(path_xml) as dataset:
        for id_, planes in acknowledged.items():
            view = dataset.view(time=id_.time, setup=id_.setup)
            assert report[id_].planes >= len(planes)
            pixels = view[...]
            for z in planes:
                np.testing.assert_array_equal(pixels[z], plane(id_, z))
        for view in dataset.views():
            pixels = view[...]
            for level, factors in enumerate(LEVELS[: job.levels]):
                np.testing.assert_array_equal(
                    view.level(level)[...], npy2bdv.downsample(pixels, factors), err_msg=f"{view}, {factors}"
                )
            missing = planes_of(report[view.id].missing)
            unconfirmed = planes_of(report[view.id].unconfirmed)
            assert report[view.id].planes == len(pixels) - len(missing)
            for z in range(len(pixels)):
                expected = plane(view.id, z)
                if z in unconfirmed:  # as far as it came; never older pixels
                    expected = np.where(pixels[z] == 0, 0, expected)
                np.testing.assert_array_equal(pixels[z], 0 if z in missing else expected)
    with pytest.raises(NotFoundError, match=r"no journal .* closed cleanly"):
        npy2bdv.recover(path_xml)


def check_acknowledged(path_xml: Path, acknowledged: dict[ViewId, set[int]]) -> None:
    with npy2bdv.open(path_xml) as dataset:
        for id_, planes in acknowledged.items():
            view = dataset.view(time=id_.time, setup=id_.setup)
            for z in planes:
                np.testing.assert_array_equal(view[z], plane(id_, z))


def opened(path: Path, job: Job, view: ViewId) -> Any:
    """The full resolution of a view, by tensorstore."""
    driver = {"n5": "n5", "zarr 2": "zarr", "zarr 3": "zarr3"}[job.format]
    inside = (
        f"setup{view.setup}/timepoint{view.time}/s0"
        if job.format == "n5"
        else f"s{view.setup}-t{view.time}.zarr/0"
    )
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/{inside}/"}}
    found = tensorstore.open(spec, read=True).result()
    return found.T if job.format == "n5" else found[0, 0]


def safe_as_it_lies(path: Path, job: Job, acknowledged: dict[ViewId, set[int]]) -> None:
    """Look with h5py or tensorstore alone."""
    if job.format != "hdf5":
        for id_, planes in acknowledged.items():
            blocks = opened(path, job, id_)
            for z in full_rows(planes, blocks.shape[0]):
                np.testing.assert_array_equal(blocks[z].read().result(), plane(id_, z))
        return
    with h5py.File(path, "r") as file:
        for id_, planes in acknowledged.items():
            cells = file[f"t{id_.time:05d}/s{id_.setup:02d}/0/cells"]
            for z in planes if job.in_place else full_rows(planes, len(cells)):
                np.testing.assert_array_equal(cells[z].view("uint16"), plane(id_, z))


def soak(kills: int) -> None:
    """Kill recordings, closing ones and `recover`, in turn, and report."""
    done = safe = failed = 0
    for seed in count(1000):
        for job in (*JOBS, *CLOSING):
            with tempfile.TemporaryDirectory() as folder:
                path_xml = Path(folder) / "a.xml"
                left_there_before(path_xml, job)
                acknowledged = killed(path_xml, job, seed)
                done += 1
                if seed % 2:
                    kills_of_recover(path_xml, job, random.Random(f"{job} {seed}"), 2)
                    done += 2
                safe += sum(map(len, acknowledged.values()))
                try:
                    survives(path_xml, job, acknowledged)
                except (AssertionError, npy2bdv.BdvError, OSError, LookupError) as error:
                    failed += 1
                    print(f"LOST: {job}, seed {seed}: {error!r}")
            if done >= kills:
                print(f"{done} kills, {safe} planes acknowledged, {failed} recordings of which any was lost")
                sys.exit(bool(failed))


if __name__ == "__main__":
    if sys.argv[1] == "--kills":
        soak(int(sys.argv[2]))
    elif sys.argv[1] == "--recover":
        print("recovering", flush=True)
        npy2bdv.recover(sys.argv[2])
    else:
        record(Path(sys.argv[2]), Job(**json.loads(sys.argv[3])))
        time.sleep(60)  # until it is killed
