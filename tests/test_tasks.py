"""Resaving by tasks: the same files whoever carries them out; going on; partitions, selections, crops, pixel types."""

import itertools
import pickle
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from deadly import Deadly, Fragile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import ExistsError, InvalidInputError, InvalidTypeError, MissingKeyError, WriteError
from npy2bdv.model.affine import Affine
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.resave import plan_resave
from npy2bdv.tasks import slabs_of

LEVELS = ((1, 1, 1), (1, 2, 2), (2, 4, 4))
GZIP = b"\x1f\x8b\x08" + bytes(5)
SMALL: dict[str, Any] = {"levels": LEVELS, "chunks": (2, 8, 8), "task_bytes": 1}


def noise(*shape: int, dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def decoded(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files with what is in gzip taken out of it: isal does not always pack the same bytes the same way."""
    return {name: _decoded(data) for name, data in files.items()}


def _decoded(data: bytes) -> bytes:
    found = data.find(GZIP)
    parts = [data[: max(0, found)]]
    while found >= 0:
        stream = zlib.decompressobj(31)
        parts.append(stream.decompress(data[found:]))
        assert stream.eof  # its checksum, too, is right
        found = data.find(GZIP, len(data) - len(stream.unused_data))
    return b"".join(parts) if len(parts) > 1 else data


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiles of two channels at two time points, one view missing."""
    path = tmp_path_factory.mktemp("scan") / "scan.xml"
    with npy2bdv.create(path, levels=LEVELS, chunks=(2, 8, 8)) as writer:
        for tile, channel in itertools.product(range(2), ("488", "561")):
            setup = writer.add_setup(
                shape=(11, 19 + tile, 21),
                channel=channel,
                tile=tile,
                voxel_size_xyz=(0.25, 0.5, 2),
                transform=Affine.translation((100.125 * tile, 0, 3)),
            )
            for time in range(2):
                if (time, tile, channel) != (1, 1, "561"):
                    writer.write(noise(11, 19 + tile, 21, seed=10 * setup + time), setup=setup, time=time)
    return path


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            host="127.0.0.1",
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield client


# -- who carries them out --------------------------------------------------------------------------------

FOLDERS = [{"format": "n5"}, {"format": "omezarr"}, {"zarr_version": 3, "compression": "gzip"}]


@pytest.mark.parametrize("options", FOLDERS)
def test_all_executors_write_the_same_files(
    scan: Path, tmp_path: Path, processes: Executor, client: Any, options: dict[str, Any]
) -> None:
    plan, _ = plan_resave(scan, tmp_path / "a.xml", **SMALL, **options)
    assert len(plan.tasks) == 7 * 3  # 7 views of 11 planes, in slabs of 4
    npy2bdv.resave(scan, tmp_path / "a.xml", **SMALL, **options)
    before = contents(tmp_path)
    with npy2bdv.open(scan) as old, npy2bdv.open(tmp_path / "a.xml") as new:
        for view, same in zip(old.views(), new.views(), strict=True):
            for level, copy in zip(view.levels(), same.levels(), strict=True):
                np.testing.assert_array_equal(copy[...], level[...])
    with ThreadPoolExecutor(2) as threads:
        for executor in (threads, processes, client):
            seen: list[tuple[int, int]] = []
            npy2bdv.resave(
                scan,
                tmp_path / "a.xml",
                executor=executor,
                overwrite=True,
                progress=lambda *step: seen.append(step),  # noqa: B023
                **SMALL,
                **options,
            )
            after = contents(tmp_path)
            assert after.pop("a.xml~1")
            assert decoded(after) == decoded(before)
            (tmp_path / "a.xml~1").unlink()
            for left in tmp_path.glob("a.xml~*"):
                left.unlink()
            assert len(seen) == 21
            assert seen[-1] == (plan.nbytes, plan.nbytes)


def test_processes_and_arrays_in_memory(tmp_path: Path, processes: Executor) -> None:
    array = noise(2, 11, 19, 20)
    npy2bdv.resave(array, tmp_path / "a.n5", axes="czyx", **SMALL)
    before = contents(tmp_path / "a.n5")
    npy2bdv.resave(
        array, tmp_path / "b.n5", axes="czyx", executor=processes, crop=((3, 9), None, None), **SMALL
    )
    npy2bdv.resave(array, tmp_path / "a.n5", axes="czyx", workers=2, overwrite=True, **SMALL)
    assert decoded(contents(tmp_path / "a.n5")) == decoded(before)
    with npy2bdv.open(tmp_path / "b.xml") as new:
        np.testing.assert_array_equal(new.view(channel=1)[...], array[1, 3:9])


def test_client_by_address(scan: Path, tmp_path: Path, client: Any) -> None:
    npy2bdv.resave(scan, tmp_path / "a.n5", executor=client.scheduler.address, views={"time": 1}, **SMALL)
    with npy2bdv.open(tmp_path / "a.xml") as new:
        assert len(new) == 3


@pytest.mark.parametrize("who", ["processes", "client"])
def test_task_of_a_killed_worker_is_done_again(
    tmp_path: Path, who: str, request: pytest.FixtureRequest
) -> None:
    array = Deadly((12, 9, 10), 5, tmp_path / "marker")
    executor: Any = request.getfixturevalue("client") if who == "client" else None
    options: dict[str, Any] = {"workers": 2} if executor is None else {"executor": executor}
    npy2bdv.resave(array, tmp_path / "a.n5", **options, **SMALL)
    assert (tmp_path / "marker").exists()
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        np.testing.assert_array_equal(dataset.view()[...], array.pixels())


def test_executor_that_a_dead_worker_broke(tmp_path: Path) -> None:
    array = Deadly((12, 9, 10), 5, tmp_path / "marker")
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(WriteError, match=r"a worker died while it wrote task .*resume=True"),
    ):
        npy2bdv.resave(array, tmp_path / "a.n5", executor=pool, **SMALL)
    npy2bdv.resave(array, tmp_path / "a.n5", resume=True, **SMALL)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        np.testing.assert_array_equal(dataset.view()[...], array.pixels())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"executor": "many"}, InvalidInputError, "there are 'threads' and 'processes'"),
        ({"executor": 3}, InvalidTypeError, "a int carries out no tasks"),
        ({"workers": 0}, InvalidInputError, "at least 1"),
        ({"executor": "threads", "workers": 2}, InvalidInputError, "leave it out"),
        ({"task_bytes": 0}, InvalidInputError, "task_bytes=0 cannot be"),
        ({"partition": (1, 1)}, InvalidInputError, "is for HDF5"),
        ({"format": "hdf5", "partition": 3}, InvalidInputError, "how many time points"),
        ({"format": "hdf5", "skip_zeros": True}, InvalidInputError, "for the formats 'n5' and 'omezarr'"),
        ({"crop": ((0, 5),)}, InvalidInputError, "three slices or pairs"),
        ({"crop": ((5, 5), None, None)}, InvalidInputError, r"leaves nothing.*\(11, 19, 21\)"),
        ({"crop": (slice(0, 9, 2), None, None)}, InvalidInputError, "three slices or pairs"),
        ({"views": {"channel": "999"}}, MissingKeyError, "channel='999' selects nothing"),
        ({"casting": "clip"}, InvalidInputError, "give dtype="),
        ({"dtype": "uint8", "casting": "wrap"}, InvalidInputError, "'refuse', 'clip' and 'scale'"),
        ({"dtype": "uint8", "value_range": (0, 1)}, InvalidInputError, "is for casting='scale'"),
        (
            {"dtype": "uint8", "casting": "scale", "value_range": (1, 1)},
            InvalidInputError,
            "is no range",
        ),
        ({"dtype": "bool"}, InvalidTypeError, "cannot be stored"),
    ],
)
def test_bad_input_changes_nothing(
    scan: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        npy2bdv.resave(scan, tmp_path / "a.xml", **{"format": "n5", **options})
    assert contents(tmp_path) == {}


def test_what_does_not_pickle_is_said(tmp_path: Path, processes: Executor) -> None:
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["a"] = noise(4, 8, 8)
        with pytest.raises(InvalidInputError, match="cannot be handed to other processes"):
            npy2bdv.resave(file["a"], tmp_path / "a.n5", executor=processes)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.h5"]


@settings(max_examples=60, deadline=None)
@given(
    depth=st.integers(1, 60),
    factors=st.lists(st.integers(1, 6), max_size=3),
    chunks=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    nbytes=st.integers(1, 4000),
)
def test_slabs_share_no_chunk_and_no_cell(
    depth: int, factors: list[int], chunks: list[int], nbytes: int
) -> None:
    rows = tuple((f, 1, 1) for f in (1, *factors))
    pyramid = Pyramid(shape=(depth, 3, 4), factors=rows, chunks=tuple((c, 2, 2) for c in chunks[: len(rows)]))
    slabs = slabs_of(pyramid, np.dtype("uint16"), nbytes)
    assert slabs[0][0] == 0
    assert slabs[-1][1] == depth
    for (_, stop), (start, _) in itertools.pairwise(slabs):
        assert stop == start
        for level, (factor, _, _) in enumerate(rows):
            assert start % (factor * pyramid.chunks[level][0]) == 0


@settings(max_examples=15, deadline=None)
@given(
    depth=st.integers(1, 30),
    factors=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    skip=st.booleans(),
)
def test_levels_do_not_depend_on_slabs(
    tmp_path_factory: pytest.TempPathFactory, depth: int, factors: list[int], dtype: str, skip: bool
) -> None:
    folder = tmp_path_factory.mktemp("slabs")
    array = noise(depth, 5, 6, dtype=dtype, seed=depth)
    array[: depth // 2] = 0
    levels = (
        (1, 1, 1),
        *itertools.accumulate([(f, 2, 1) for f in factors], lambda a, b: (a[0] * b[0], 4, 1)),
    )
    levels = tuple(dict.fromkeys(levels))
    npy2bdv.resave(
        array, folder / "a.ome.zarr", levels=levels, chunks=(2, 4, 4), task_bytes=1, skip_zeros=skip
    )
    with npy2bdv.open(folder / "a.xml") as dataset:
        for level in dataset.view().levels():
            z, y, x = map(int, level.factors)
            np.testing.assert_array_equal(level[...], npy2bdv.downsample(array, (z, y, x)))


def test_tasks_are_small(scan: Path, tmp_path: Path) -> None:
    plan, _ = plan_resave(scan, tmp_path / "a.n5", **SMALL)
    assert len(pickle.dumps(plan.tasks[0].travelling())) < 3000


# -- going on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.n5", "a.ome.zarr"])
def test_what_was_interrupted_goes_on(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    array = Fragile((24, 9, 10), 13, tmp_path / "marker")
    older = npy2bdv.resave(noise(3, 4, 5), tmp_path / name)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        npy2bdv.resave(array, tmp_path / name, overwrite=True, **SMALL)
    assert "3 of 6 tasks are finished" in caplog.text
    after = contents(tmp_path)
    assert {key: after.get(key) for key in before} == before
    with pytest.raises(InvalidInputError, match="begun with other options"):
        npy2bdv.resave(array, tmp_path / name, overwrite=True, resume=True, **SMALL, compression="none")
    assert contents(tmp_path) == after
    # what a finished task wrote is damaged behind our back
    part = next(tmp_path.glob("a.part.*[n5z]*[!s]"))
    chunk = sorted(each for each in part.rglob("*") if each.is_file() and each.name.isdecimal())[0]
    chunk.unlink()
    (tmp_path / "marker").touch()
    array.read = 0
    pixels = array.pixels()
    npy2bdv.resave(array, tmp_path / name, overwrite=True, resume=True, **SMALL)
    assert array.read == 2 * (3 + 1)  # rows of two planes: three new tasks, and the damaged one
    with npy2bdv.open(older) as dataset:
        for level in dataset.view().levels():
            np.testing.assert_array_equal(
                level[...], npy2bdv.downsample(pixels, tuple(map(int, level.factors)))
            )
    assert not list(tmp_path.glob("*part*"))


def test_nothing_to_go_on_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    npy2bdv.resave(noise(3, 4, 5), tmp_path / "a.n5", resume=True)
    assert "nothing to go on with" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.n5", "a.xml"]


# -- partitions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (0, 2), (1, 0)])
def test_partitions(scan: Path, tmp_path: Path, processes: Executor, sizes: tuple[int, int]) -> None:
    executor = processes if sizes == (1, 1) else None
    path = npy2bdv.resave(scan, tmp_path / "a.xml", partition=sizes, executor=executor)
    files = {each.name for each in tmp_path.iterdir()}
    per_time, per_setup = sizes[0] or 2, sizes[1] or 4
    names = {f"a-{t:02d}-{s:02d}.h5" for t in range(2 // per_time) for s in range(4 // per_setup)}
    if sizes == (1, 1):
        names -= {"a-01-03.h5"}  # a missing view
    assert files == {"a.xml", "a.h5", *names}
    with npy2bdv.open(scan) as old, npy2bdv.open(path) as new:
        assert new.spimdata.registrations == old.spimdata.registrations
        assert {each.path.text for each in new.spimdata.loader.partitions} == names  # type: ignore[union-attr]
        with h5py.File(tmp_path / "a.h5") as master:
            for view, same in zip(old.views(), new.views(), strict=True):
                np.testing.assert_array_equal(same[...], view[...])
                link = f"t{view.id.time:05d}/s{view.id.setup:02d}/0/cells"
                assert master.get(link, getlink=True).filename in names
                np.testing.assert_array_equal(master[link][()].view("uint16"), view[...])
    assert [each for each in npy2bdv.check(path).findings if each.severity == "error"] == []


def test_a_partition_is_not_replaced_unasked(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "a-00-01.h5").write_text("mine")
    with pytest.raises(ExistsError, match=r"a-00-01\.h5 already exists"):
        npy2bdv.resave(scan, tmp_path / "a.xml", partition=(0, 1))
    assert contents(tmp_path) == {"a-00-01.h5": b"mine"}


# -- what is taken ---------------------------------------------------------------------------------------


def test_selection_of_a_dataset(scan: Path, tmp_path: Path) -> None:
    path = npy2bdv.resave(scan, tmp_path / "a.xml", views={"channel": "561", "time": 1})
    with npy2bdv.open(scan) as old, npy2bdv.open(path) as new:
        assert [view.id for view in new] == [(1, 1)]
        assert (new.times, new.setups, new.missing_views) == ((1,), (1, 3), ()) or new.setups == (1,)
        np.testing.assert_array_equal(new.view(time=1, setup=1)[...], old.view(time=1, setup=1)[...])
        assert new.channels == {1: "561"}
        assert new.view(time=1, setup=1).transform == old.view(time=1, setup=1).transform


def test_selection_of_an_array(tmp_path: Path) -> None:
    array = noise(3, 2, 4, 5, 6)
    path = npy2bdv.resave(
        array, tmp_path / "a.xml", axes="tczyx", views={"channel": "1", "view": None, "time": range(1, 3)}
    )
    with npy2bdv.open(path) as new:
        assert [view.id.time for view in new] == [1, 2]
        np.testing.assert_array_equal(new.view(time=2)[...], array[2, 1])


def test_crop_stays_where_it_was(scan: Path, tmp_path: Path) -> None:
    crop = ((2, -1), slice(3, None), (None, 20))
    path = npy2bdv.resave(scan, tmp_path / "a.xml", crop=crop, format="n5", **SMALL)
    with npy2bdv.open(scan) as old, npy2bdv.open(path) as new:
        for view, part in zip(old.views(), new.views(), strict=True):
            np.testing.assert_array_equal(part[...], view[2:-1, 3:, :20])
            assert part.setup.size_xyz == part.shape[::-1]
            np.testing.assert_allclose(
                np.asarray(part.transform), np.asarray(view.transform @ Affine.translation((0, 3, 2)))
            )
            assert [each.name for each in part.transforms][-2:] == ["crop", "calibration"]
    assert [each for each in npy2bdv.check(path).findings if each.severity == "error"] == []


# -- pixel types -----------------------------------------------------------------------------------------


def converted(folder: Path, array: NDArray[Any], **options: Any) -> NDArray[Any]:
    with npy2bdv.open(npy2bdv.resave(array, folder / "c.xml", overwrite=True, **options)) as dataset:
        return dataset.view()[...]


def test_casting(tmp_path: Path) -> None:
    array = np.array([0, 1, 255, 256, 65535], "uint16").reshape(1, 1, 5)
    with pytest.raises(InvalidTypeError, match="planes 0 to 0: the value 256 is none of uint8"):
        converted(tmp_path, array, dtype="uint8")
    assert list(tmp_path.iterdir()) == []
    fits = converted(tmp_path, array[:, :, :3], dtype="uint8")
    assert fits.dtype == "uint8"
    assert fits.ravel().tolist() == [0, 1, 255]
    assert converted(tmp_path, array, dtype="uint8", casting="clip").ravel().tolist() == [0, 1, 255, 255, 255]
    assert converted(tmp_path, array, dtype="uint8", casting="scale").ravel().tolist() == [0, 0, 1, 1, 255]
    scaled = converted(tmp_path, array, dtype="uint8", casting="scale", value_range=(0, 510))
    assert scaled.ravel().tolist() == [0, 0, 128, 128, 255]


def test_casting_of_floats(tmp_path: Path) -> None:
    array = np.array([-1.5, 0.5, 1.5, 300, np.nan, np.inf], "float32").reshape(1, 1, 6)
    with pytest.raises(InvalidTypeError, match=r"the value -1\.5 is none of uint8"):
        converted(tmp_path, array, dtype="uint8")
    assert converted(tmp_path, array, dtype="uint8", casting="clip").ravel().tolist() == [
        0,
        0,
        2,
        255,
        0,
        255,
    ]
    with pytest.raises(InvalidInputError, match="have no range of their own"):
        converted(tmp_path, array, dtype="uint8", casting="scale")


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32"]),
)
def test_clipping_takes_the_nearest(values: list[int], dtype: str) -> None:
    from npy2bdv.reading import Conversion

    about = np.iinfo(dtype)
    made = Conversion.between(np.dtype("int32"), np.dtype(dtype), "clip", None)
    assert made is not None
    expected = [min(max(value, about.min), about.max) for value in values]
    assert made.apply(np.array(values, "int32"), "").tolist() == expected
    assert made.apply(np.array(values, "float64"), "").tolist() == expected


# -- zeros, plan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_zeros_are_skipped_on_request(tmp_path: Path, version: int) -> None:
    array = noise(8, 16, 16)
    array[2:6] = 0
    array[:, :8] = 0
    sizes = {}
    for skip in (False, True):
        path = npy2bdv.resave(
            array,
            tmp_path / f"{skip}.ome.zarr",
            zarr_version=version,
            skip_zeros=skip,
            compression=None,
            **SMALL,
        )
        files = contents(tmp_path / f"{skip}.ome.zarr").items()
        sizes[skip] = sum(len(file) for name, file in files if name.rpartition("/")[2].isdecimal())
        with npy2bdv.open(path) as dataset:
            np.testing.assert_array_equal(dataset.view()[...], array)
    assert sizes[True] < 0.6 * sizes[False]


def test_plan_says_what_will_be(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    every: list[Any] = [*FOLDERS, {"partition": (1, 1)}]
    for options in every:
        plan, estimate = plan_resave(scan, out / "a.xml", estimate=True, **SMALL, **options)
        assert contents(out) == {}
        assert estimate is not None
        assert estimate.seconds > 0
        assert estimate.bytes_out > 0
        path = npy2bdv.resave(scan, out / "a.xml", **SMALL, **options)
        written = contents(out)
        pixels = [name for name in written if name.endswith(".h5") or name.rpartition("/")[2].isdecimal()]
        assert plan.n_files == len(pixels)
        with npy2bdv.open(path) as new:
            assert plan.nbytes == sum(np.prod(view.shape) * 2 for view in new)
            assert plan.bytes_out == sum(np.prod(level.shape) * 2 for view in new for level in view.levels())
        shutil.rmtree(out)
        out.mkdir()
