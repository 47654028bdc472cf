"""OME-Zarr as it lies on disk, judged by zarr-python, tensorstore and yaozarrs; images of other programs."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import yaozarrs
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import npy2bdv
from npy2bdv import xml
from npy2bdv.cli import main
from npy2bdv.errors import ExistsError, FormatError, InvalidInputError, MissingKeyError, NotFoundError
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.model.spimdata import OmeZarrLoader, PathRef, ViewId, ZarrGroup
from npy2bdv.storage.base import RAW, Codec, ImageNote
from npy2bdv.storage.omezarr import CARDS, OmeZarrContainer, is_container

LEVELS = ((1, 1, 1), (1, 2, 2), (2, 4, 8))
SHAPE = (11, 35, 45)
FIRST = ViewId(0, 0)
both_versions = pytest.mark.parametrize("version", [2, 3])
pytestmark = pytest.mark.filterwarnings("ignore:compression 'blosc' can be read by Fiji only:UserWarning")


def stack_of(dtype: str = "uint16", shape: tuple[int, ...] = SHAPE, seed: int = 0) -> NDArray[Any]:
    """Pixels that use the whole range of a type, low bytes and high ones."""
    kind = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if kind.kind == "f":
        return rng.normal(0, 1000, shape).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, kind, endpoint=True)


def record(
    folder: Path,
    pixels: NDArray[Any],
    version: int,
    compression: Any = "default",
    chunks: tuple[int, int, int] = (4, 16, 16),
    levels: Any = LEVELS,
) -> Path:
    with npy2bdv.create(
        folder / "scan.ome.zarr", zarr_version=version, compression=compression, chunks=chunks, levels=levels
    ) as writer:
        setup = writer.add_setup(
            shape=pixels.shape,
            dtype=pixels.dtype,
            channel="488 GFP",
            voxel_size_xyz=(0.5, 0.25, 2.0),
            unit="µm",
            name="brain",
        )
        writer.write(pixels, setup=setup)
    return folder / "scan.ome.zarr"


def by_tensorstore(path: Path, version: int) -> Any:
    driver = "zarr" if version == 2 else "zarr3"
    return ts.open({"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}, read=True).result()


def json_of(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def image_of(container: Path, version: int, group: str = "s0-t0.zarr") -> Any:
    """What the image group says in the words of NGFF."""
    if version == 2:
        return json_of(container / group / ".zattrs")
    return json_of(container / group / "zarr.json")["attributes"]["ome"]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


# -- what we write ---------------------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize(
    "compression", ["none", "gzip", "zstd", "blosc", ("gzip", 5), ("zstd", 7), ("blosc", 9)]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_other_libraries_read_every_codec(tmp_path: Path, version: int, compression: Any, dtype: str) -> None:
    pixels = stack_of(dtype)
    image = record(tmp_path, pixels, version, compression) / "s0-t0.zarr"
    group = zarr.open_group(image, mode="r")
    for level, factors in enumerate(LEVELS):
        expected = npy2bdv.downsample(pixels, factors)
        array = group[str(level)]
        assert isinstance(array, zarr.Array)
        assert array.dtype == expected.dtype
        assert array.shape == (1, 1, *expected.shape)
        np.testing.assert_array_equal(array[0, 0], expected)
        np.testing.assert_array_equal(
            by_tensorstore(image / str(level), version)[0, 0].read().result(), expected
        )


@both_versions
@pytest.mark.parametrize("dtype", CARDS[2].pixel_types)
def test_every_pixel_type_comes_back(tmp_path: Path, version: int, dtype: str) -> None:
    pixels = stack_of(dtype)
    path = record(tmp_path, pixels, version)
    np.testing.assert_array_equal(
        by_tensorstore(path / "s0-t0.zarr/0", version)[0, 0].read().result(), pixels
    )
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        view = dataset.view()
        assert view.dtype == pixels.dtype
        np.testing.assert_array_equal(view[:], pixels)
        np.testing.assert_array_equal(view.level(2)[:], npy2bdv.downsample(pixels, LEVELS[2]))


def test_metadata_of_zarr_v2(tmp_path: Path) -> None:
    path = record(tmp_path, stack_of(), 2)
    assert json_of(path / ".zgroup") == json_of(path / "s0-t0.zarr/.zgroup") == {"zarr_format": 2}
    assert json_of(path / "s0-t0.zarr/0/.zarray") == {
        "zarr_format": 2,
        "shape": [1, 1, *SHAPE],
        "chunks": [1, 1, 4, 16, 16],
        "dtype": "<u2",
        "order": "C",
        "fill_value": 0,
        "filters": None,
        "dimension_separator": "/",
        "compressor": {"id": "zstd", "level": 1},
    }
    assert not (path / "s0-t0.zarr/0/.zattrs").exists()
    assert json_of(path / "s0-t0.zarr/2/.zattrs") == {"downsamplingFactors": [8, 4, 2, 1, 1]}
    chunks = {
        each.relative_to(path).as_posix() for each in (path / "s0-t0.zarr/0/0").rglob("*") if each.is_file()
    }
    assert chunks == {f"s0-t0.zarr/0/0/0/{z}/{y}/{x}" for z in range(3) for y in range(3) for x in range(3)}


def test_metadata_of_zarr_v3(tmp_path: Path) -> None:
    path = record(tmp_path, stack_of(), 3)
    said = json_of(path / "s0-t0.zarr/2/zarr.json")
    assert json_of(path / "zarr.json")["node_type"] == "group"
    assert said["attributes"] == {"downsamplingFactors": [8, 4, 2, 1, 1]}
    assert said["dimension_names"] == ["t", "c", "z", "y", "x"]
    assert said["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
    (sharding,) = json_of(path / "s0-t0.zarr/0/zarr.json")["codecs"]
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["chunk_shape"] == [1, 1, 4, 16, 16]
    shards = [
        each.relative_to(path).as_posix() for each in (path / "s0-t0.zarr/0/c").rglob("*") if each.is_file()
    ]
    assert sorted(shards) == [f"s0-t0.zarr/0/c/0/0/{z}/0/0" for z in range(3)]


@pytest.mark.parametrize(
    ("shape", "chunk", "dtype", "shard"),
    [
        ((100, 2048, 2048), (8, 256, 256), "uint16", [8, 1024, 1024]),
        ((100, 2304, 300), (8, 256, 256), "uint16", [8, 1024, 512]),
        ((100, 100, 90), (8, 256, 256), "uint16", [8, 100, 90]),
        ((100, 2048, 2048), (64, 256, 256), "uint16", [64, 512, 1024]),
        ((100, 2048, 2048), (16, 2048, 2048), "float64", [16, 2048, 2048]),
        ((100, 2048, 2048), (8, 300, 300), "uint16", [8, 900, 900]),
    ],
)
def test_a_shard_is_as_deep_as_a_chunk_and_of_a_bounded_size(
    tmp_path: Path, shape: tuple[int, int, int], chunk: tuple[int, int, int], dtype: str, shard: list[int]
) -> None:
    with OmeZarrContainer(tmp_path / "a.ome.zarr", "x", zarr_version=3) as container:
        pyramid = Pyramid(shape=shape, factors=((1, 1, 1),), chunks=(chunk,))
        (level,) = container.declare(FIRST, pyramid, np.dtype(dtype), RAW)
        said = json_of(tmp_path / "a.ome.zarr/s0-t0.zarr/0/zarr.json")
        assert said["chunk_grid"]["configuration"]["chunk_shape"][2:] == shard
        assert level.piece == (shard[1] // level.chunk[1], shard[2] // level.chunk[2])


@both_versions
def test_ngff_is_valid_and_says_where_pixels_are(tmp_path: Path, version: int) -> None:
    path = record(tmp_path, stack_of(), version)
    said = image_of(path, version)
    if version == 2:
        yaozarrs.validate_ome_object(said, yaozarrs.v04.Image)
    else:
        yaozarrs.validate_ome_object(said, yaozarrs.v05.Image)
        yaozarrs.validate_zarr_store(str(path / "s0-t0.zarr"))
    (image,) = said["multiscales"]
    assert (said if version == 3 else image)["version"] == ("0.5" if version == 3 else "0.4")
    assert image["name"] == "brain"
    assert [axis["name"] for axis in image["axes"]] == ["t", "c", "z", "y", "x"]
    assert [axis.get("unit") for axis in image["axes"]] == [None, None, *["micrometer"] * 3]
    placed = [[each[each["type"]] for each in row["coordinateTransformations"]] for row in image["datasets"]]
    assert placed == [
        [[1, 1, 2.0, 0.25, 0.5], [0, 0, 0, 0, 0]],
        [[1, 1, 2.0, 0.5, 1.0], [0, 0, 0, 0.125, 0.25]],
        [[1, 1, 4.0, 1.0, 4.0], [0, 0, 1.0, 0.375, 1.75]],
    ]


@both_versions
def test_contrast_follows_the_pixels(tmp_path: Path, version: int) -> None:
    pixels = np.random.default_rng(0).integers(90, 200, SHAPE).astype("uint16")
    (channel,) = image_of(record(tmp_path, pixels, version), version)["omero"]["channels"]
    assert channel["label"] == "488 GFP"
    assert channel["color"] == "00FF00"
    window = channel["window"]
    assert (window["min"], window["max"]) == (0, 65535)
    assert 90 <= window["start"] < window["end"] <= 200


def test_contrast_of_pixels_that_are_no_numbers_stays(tmp_path: Path) -> None:
    pixels = np.full(SHAPE, np.nan, "float32")
    (channel,) = image_of(record(tmp_path, pixels, 2), 2)["omero"]["channels"]
    assert channel["window"] == {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}


def test_xml_for_zarr_v2_serves_both_generations_of_bigstitcher(tmp_path: Path) -> None:
    record(tmp_path, stack_of(), 2)
    text = (tmp_path / "scan.xml").read_text("utf-8")
    assert '<ImageLoader format="bdv.multimg.zarr" version="3.0">' in text
    assert '<zarr type="relative">scan.ome.zarr</zarr>' in text
    assert '<zgroup setup="0" tp="0" path="s0-t0.zarr" indicies="0 0"/>' in text


def test_xml_for_zarr_v3_says_so(tmp_path: Path) -> None:
    record(tmp_path, stack_of(), 3)
    text = (tmp_path / "scan.xml").read_text("utf-8")
    assert '<ImageLoader format="bdv.multimg.zarr" version="3.1" zarr.version="ZarrV3">' in text


@both_versions
@pytest.mark.parametrize("name", ["embryo day 2", "Zähler #3", "50% off", "a%20b"])
def test_names_with_blanks_and_signs(tmp_path: Path, version: int, name: str) -> None:
    folder = tmp_path / f"in {name}"
    folder.mkdir()
    pixels = stack_of()
    with npy2bdv.create(folder / f"{name}.xml", format="omezarr", zarr_version=version) as writer:
        writer.write(pixels, setup=writer.add_setup(shape=SHAPE))
    text = (folder / f"{name}.xml").read_text("utf-8")
    encoded = text.partition('<zarr type="relative">')[2].partition("</zarr>")[0]
    assert encoded.isascii()
    assert not set(encoded) & set(" #")
    with npy2bdv.open(folder / f"{name}.xml") as dataset:
        np.testing.assert_array_equal(dataset.view()[:], pixels)


# -- recordings ------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    version=st.sampled_from([2, 3]),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40)),
    chunk=st.tuples(st.integers(1, 5), st.integers(3, 17), st.integers(3, 17)),
    order=st.randoms(use_true_random=False),
)
def test_planes_in_any_order_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    version: int,
    shape: tuple[int, int, int],
    chunk: tuple[int, int, int],
    order: Any,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    pixels = stack_of(shape=shape)
    planes = list(range(shape[0]))
    order.shuffle(planes)
    with (
        npy2bdv.create(folder / "scan.ome.zarr", zarr_version=version, chunks=chunk, levels=LEVELS) as writer,
        writer.stream(setup=writer.add_setup(shape=shape)) as stream,
    ):
        for z in planes:
            stream.put(pixels[z : z + 1], z)
    image = zarr.open_group(folder / "scan.ome.zarr/s0-t0.zarr", mode="r")
    for level, factors in enumerate(LEVELS):
        np.testing.assert_array_equal(
            np.asarray(image[str(level)])[0, 0],
            npy2bdv.downsample(pixels, factors),
        )


@both_versions
def test_a_view_of_unknown_length_is_cut_to_what_came(tmp_path: Path, version: int) -> None:
    pixels = stack_of(shape=(131, 20, 20))
    with (
        npy2bdv.create(
            tmp_path / "scan.ome.zarr", zarr_version=version, chunks=(4, 16, 16), levels=LEVELS
        ) as writer,
        writer.stream(setup=writer.add_setup(shape=(None, 20, 20))) as stream,
    ):
        for plane in pixels:
            stream.append(plane)
    image = zarr.open_group(tmp_path / "scan.ome.zarr/s0-t0.zarr", mode="r")
    for level, factors in enumerate(LEVELS):
        np.testing.assert_array_equal(
            np.asarray(image[str(level)])[0, 0],
            npy2bdv.downsample(pixels, factors),
        )


@both_versions
@pytest.mark.parametrize("kept", [8, 6, 1])
def test_pixels_that_were_cut_off_do_not_come_back(tmp_path: Path, version: int, kept: int) -> None:
    pixels = stack_of(shape=(12, 20, 40))
    record(tmp_path, pixels, version, levels=((1, 1, 1),))
    with OmeZarrContainer(tmp_path / "scan.ome.zarr", "r+") as container:
        level = container.level(FIRST, 0)
        level.resize(kept)
        assert level.shape == (kept, 20, 40)
        level.resize(20)
    found = np.asarray(zarr.open_group(tmp_path / "scan.ome.zarr/s0-t0.zarr", mode="r")["0"])[0, 0]
    np.testing.assert_array_equal(found[:kept], pixels[:kept])
    assert found.shape == (20, 20, 40)
    assert not found[kept:].any()


@both_versions
def test_missing_planes_and_views_given_up(tmp_path: Path, version: int) -> None:
    pixels = stack_of()
    with npy2bdv.create(tmp_path / "scan.ome.zarr", zarr_version=version, chunks=(4, 16, 16)) as writer:
        setup = writer.add_setup(shape=SHAPE)
        given_up, partly = writer.stream(setup=setup, time=0), writer.stream(setup=setup, time=1)
        given_up.put(pixels[:6], 0)
        partly.put(pixels[:6], 0)
        given_up.abort()
        partly.close()
        writer.write(pixels, setup=setup, time=3)
    assert sorted(each.name for each in (tmp_path / "scan.ome.zarr").glob("s*")) == [
        "s0-t1.zarr",
        "s0-t3.zarr",
    ]
    attributes = zarr.open_group(tmp_path / "scan.ome.zarr/s0-t1.zarr", mode="r").attrs
    assert attributes["npy2bdv"] == {"missing_planes": [[6, 11]]}
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        assert dataset.missing_views == (ViewId(0, 0), ViewId(2, 0))
        np.testing.assert_array_equal(dataset.view(time=3)[:], pixels)
        with pytest.raises(LookupError):
            dataset.view(time=0)


@both_versions
def test_levels_that_are_added_later(tmp_path: Path, version: int) -> None:
    pixels = stack_of()
    with npy2bdv.create(tmp_path / "scan.ome.zarr", zarr_version=version, chunks=(4, 16, 16)) as writer:
        setup = writer.add_setup(shape=SHAPE, voxel_size_xyz=(0.5, 0.25, 2.0))
        writer.write(pixels, setup=setup)
        for _ in writer.add_levels(LEVELS[1:], (4, 16, 16), Codec(name="gzip", level=1)):
            pass
    (image,) = image_of(tmp_path / "scan.ome.zarr", version)["multiscales"]
    scales = [row["coordinateTransformations"][0]["scale"][2:] for row in image["datasets"]]
    assert scales == [[2.0, 0.25, 0.5], [2.0, 0.5, 1.0], [4.0, 1.0, 4.0]]
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        for level, factors in zip(dataset.view().levels(), LEVELS, strict=True):
            assert level.factors == factors
            np.testing.assert_array_equal(level[:], npy2bdv.downsample(pixels, factors))


KILLED = """
import os, sys
import numpy as np, npy2bdv
pixels = np.random.default_rng(0).integers(0, 65535, (11, 35, 45), "uint16", endpoint=True)
writer = npy2bdv.create("scan.ome.zarr", zarr_version=int(sys.argv[1]), chunks=(4, 16, 16),
                        levels=((1, 1, 1), (1, 2, 2), (2, 4, 8)), checkpoint_seconds=1000)
setup = writer.add_setup(shape=pixels.shape)
writer.write(pixels, setup=setup, time=0)
stream = writer.stream(setup=setup, time=1)
stream.put(pixels[:7], 0)
print(*writer.checkpoint().values(), flush=True)
stream.put(pixels[7:9], 7)
writer.stream(setup=setup, time=2)
os._exit(9)
"""


@both_versions
def test_a_recording_that_was_killed(tmp_path: Path, version: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(version)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["11", "7"], done.stderr
    litter = tmp_path / "scan.ome.zarr/s0-t1.zarr/0/5.1-2.npy2bdv-part"
    litter.write_bytes(b"half a chunk")
    found = {each.view: each for each in npy2bdv.recover(tmp_path / "scan.ome.zarr")}
    assert found[ViewId(0, 0)].planes == 11
    assert found[ViewId(1, 0)].planes >= 7
    assert found[ViewId(2, 0)].planes == 0
    assert not litter.exists()
    assert not (tmp_path / "scan.ome.zarr.journal").exists()
    pixels = stack_of()
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        np.testing.assert_array_equal(dataset.view(time=0)[:], pixels)
        view = dataset.view(time=1)
        np.testing.assert_array_equal(view[:7], pixels[:7])
        for level in view.levels():
            np.testing.assert_array_equal(level[:], npy2bdv.downsample(view[:], level.factors))  # type: ignore[arg-type]
        assert dataset.times == (0, 1)


@both_versions
def test_the_command_takes_the_folder(
    tmp_path: Path, version: int, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(
        [sys.executable, "-c", KILLED, str(version)],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert main(["recover", str(tmp_path / "scan.ome.zarr")]) == 0
    assert main(["info", str(tmp_path / "scan.ome.zarr")]) == 0
    shown = capsys.readouterr().out
    assert "3 views: 1 whole, 2 in part or missing" in shown
    assert "bdv.multimg.zarr (scan.ome.zarr)" in shown
    assert "zstd 1" in shown


@both_versions
def test_from_hdf5_and_back(tmp_path: Path, version: int) -> None:
    pixels = stack_of("int16")
    npy2bdv.resave(pixels, tmp_path / "a.xml", axes="zyx", levels=LEVELS, voxel_size_xyz=(0.5, 0.25, 2))
    npy2bdv.resave(
        tmp_path / "a.xml", tmp_path / "b.xml", format="omezarr", zarr_version=version, levels=LEVELS
    )
    npy2bdv.resave(
        tmp_path / "a.xml", tmp_path / "b.xml", zarr_version=version, levels=LEVELS, overwrite=True
    )
    npy2bdv.resave(tmp_path / "b.xml", tmp_path / "c.xml", format="hdf5", levels=LEVELS)
    for name in ("b.xml", "c.xml"):
        with npy2bdv.open(tmp_path / name) as dataset:
            assert dataset.view().voxel_size_xyz == (0.5, 0.25, 2)
            np.testing.assert_array_equal(dataset.view()[:], pixels)
    left = sorted(each.name for each in tmp_path.iterdir())
    assert left == ["a.h5", "a.xml", "b.ome.zarr", "b.xml", "b.xml~1", "c.h5", "c.xml"]


# -- reading ---------------------------------------------------------------------------------------------


@both_versions
def test_reading_changes_nothing_and_pickles(tmp_path: Path, version: int) -> None:
    pixels = stack_of()
    record(tmp_path, pixels, version)
    before = everything(tmp_path)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        dataset.view()[3:5, ::2, -7:]
        with pickle.loads(pickle.dumps(dataset)) as again:
            np.testing.assert_array_equal(again.view()[2:9, 5:, :40], pixels[2:9, 5:, :40])
            assert again.view().level(1).nbytes_on_disk == dataset.view().level(1).nbytes_on_disk
    assert everything(tmp_path) == before


@both_versions
def test_what_is_said_of_a_level(tmp_path: Path, version: int) -> None:
    path = record(tmp_path, stack_of(), version, ("zstd", 3))
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        level = dataset.view().level(0)
        assert level.chunks == (4, 16, 16)
        assert level.compression == "zstd 3"
        array = path / "s0-t0.zarr/0"
        files = [
            each for each in array.rglob("*") if each.is_file() and each.name[0] != "." and each.suffix == ""
        ]
        assert level.nbytes_on_disk == sum(each.stat().st_size for each in files)


@both_versions
def test_bytes_of_a_level_that_is_named_from_here(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, stack_of(), version)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        there = dataset.view().level(0).nbytes_on_disk
    monkeypatch.chdir(tmp_path)
    with npy2bdv.open("scan.xml") as dataset:
        assert dataset.view().level(0).nbytes_on_disk == there
        assert there


@both_versions
def test_chunks_that_are_absent_are_zero(tmp_path: Path, version: int) -> None:
    pixels = stack_of()
    path = (
        record(tmp_path, pixels, version) / "s0-t0.zarr/0" / ("0/0/1/0/0" if version == 2 else "c/0/0/1/0/0")
    )
    path.unlink()
    gone = (slice(4, 8), slice(0, 16 if version == 2 else 35), slice(0, 16 if version == 2 else 45))
    pixels[gone] = 0
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        np.testing.assert_array_equal(dataset.view()[:], pixels)


@both_versions
def test_bytes_on_disk_by_a_relative_path(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, stack_of(), version)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        known = [level.nbytes_on_disk for level in dataset.view().levels()]
    assert all(known)
    monkeypatch.chdir(tmp_path)
    with npy2bdv.open("scan.xml") as dataset:
        assert [level.nbytes_on_disk for level in dataset.view().levels()] == known


Foreign = Callable[..., OmeZarrContainer]


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Foreign]:
    """Makes a container of another program: arrays by zarr-python, attributes by hand."""
    opened: list[OmeZarrContainer] = []

    def make(
        arrays: dict[str, NDArray[Any]],
        scales: list[list[float]] | None,
        groups: dict[ViewId, ZarrGroup],
        *,
        image: str = "",
        version: int = 2,
        **how: Any,
    ) -> OmeZarrContainer:
        root = zarr.open_group(tmp_path / "other.zarr", mode="w", zarr_format=version)  # type: ignore[arg-type]
        group = root.require_group(image) if image else root
        for name, pixels in arrays.items():
            array = group.create_array(name, shape=pixels.shape, dtype=pixels.dtype, **how)
            array[...] = pixels
        datasets: list[dict[str, Any]] = [{"path": name} for name in arrays]
        for each, scale in zip(datasets, scales or [], strict=bool(scales)):
            each["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
        said: dict[str, Any] = {"multiscales": [{"version": "0.4", "datasets": datasets}]}
        group.attrs.update(said if version == 2 else {"ome": {"version": "0.5", **said}})
        opened.append(OmeZarrContainer(tmp_path / "other.zarr", groups=groups))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


WHOLE = (slice(0, 5), slice(0, 6), slice(0, 7))


@pytest.mark.parametrize(
    ("shape", "indices", "where"),
    [
        ((5, 6, 7), None, ()),
        ((5, 6, 7), (), ()),
        ((5, 6, 7), (0, 0), ()),
        ((3, 5, 6, 7), (2,), (2,)),
        ((1, 5, 6, 7), None, (0,)),
        ((4, 3, 5, 6, 7), (2, 1), (1, 2)),
        ((1, 3, 5, 6, 7), (2,), (0, 2)),
        ((1, 1, 5, 6, 7), None, (0, 0)),
    ],
)
def test_images_of_three_to_five_axes(
    foreign: Foreign, shape: tuple[int, ...], indices: tuple[int, ...] | None, where: tuple[int, ...]
) -> None:
    pixels = stack_of(shape=shape)
    container = foreign({"0": pixels}, [[1.0] * len(shape)], {FIRST: ZarrGroup(path="", indices=indices)})
    level = container.level(FIRST, 0)
    assert level.shape == (5, 6, 7)
    np.testing.assert_array_equal(level.read(WHOLE), pixels[where])


@pytest.mark.parametrize(
    ("shape", "indices"),
    [((3, 5, 6, 7), None), ((3, 5, 6, 7), (3,)), ((2, 3, 5, 6, 7), (2,)), ((6, 7), (0, 0))],
)
def test_indices_that_do_not_fit(
    foreign: Foreign, shape: tuple[int, ...], indices: tuple[int, ...] | None
) -> None:
    container = foreign(
        {"0": stack_of(shape=shape)}, [[1.0] * 3], {FIRST: ZarrGroup(path="", indices=indices)}
    )
    with pytest.raises(FormatError, match="indices"):
        container.level(FIRST, 0)


@pytest.mark.parametrize(
    ("version", "how"),
    [
        (2, {"chunk_key_encoding": {"name": "v2", "separator": "."}}),
        (2, {"chunk_key_encoding": {"name": "v2", "separator": "/"}}),
        (2, {"order": "F"}),
        (3, {"chunks": (2, 3, 4)}),
        (3, {"chunks": (1, 3, 4), "shards": (2, 6, 4)}),
        (3, {"chunk_key_encoding": {"name": "v2", "separator": "."}}),
    ],
)
@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">f4", "|u1"])
def test_images_of_every_spelling(foreign: Foreign, version: int, how: dict[str, Any], dtype: str) -> None:
    pixels = stack_of(np.dtype(dtype).name, (5, 6, 7)).astype(dtype)
    if version == 3:
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    groups = {FIRST: ZarrGroup(path="tile.zarr")}
    container = foreign({"0": pixels}, [[1, 1, 1]], groups, image="tile.zarr", version=version, **how)
    assert container.card is CARDS[version]
    level = container.level(FIRST, 0)
    assert level.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(level.read(WHOLE), pixels)
    assert level.nbytes_on_disk


@pytest.mark.parametrize(
    ("version", "how"),
    [(2, {}), (2, {"order": "F"}), (3, {}), (3, {"chunks": (1, 3, 4), "shards": (2, 6, 4)})],
)
@pytest.mark.parametrize(("dtype", "fill"), [("uint16", 7), ("float32", float("nan")), ("float64", -1.5)])
def test_chunks_that_are_absent_are_zero_whatever_fills_them(
    foreign: Foreign, version: int, how: dict[str, Any], dtype: str, fill: float
) -> None:
    """As BigDataViewer shows them (formats.md 4.2)."""
    how = {"chunks": (2, 3, 4), "fill_value": fill, **how}
    pixels = np.full((5, 6, 7), fill, dtype)
    pixels[:2] = stack_of(dtype, (2, 6, 7))
    container = foreign({"0": pixels}, [[1, 1, 1]], {FIRST: ZarrGroup(path="")}, version=version, **how)
    read = container.level(FIRST, 0).read(WHOLE)
    np.testing.assert_array_equal(read[:2], pixels[:2])
    assert not read[2:].any()


@pytest.mark.parametrize("separator", [".", "/"])
def test_views_that_share_an_image_each_have_their_bytes(foreign: Foreign, separator: str) -> None:
    pixels = stack_of(shape=(12, 1, 5, 6, 7))
    groups = {ViewId(time, 0): ZarrGroup(path="", indices=(0, time)) for time in range(12)}
    how: dict[str, Any] = {"chunks": (1, 1, 5, 6, 7), "compressors": None}
    how["chunk_key_encoding"] = {"name": "v2", "separator": separator}
    container = foreign({"0": pixels}, [[1.0] * 5], groups, **how)
    assert [container.level(ViewId(time, 0), 0).nbytes_on_disk for time in (0, 1, 11)] == [420] * 3


def test_factors_are_ratios_of_scales(foreign: Foreign) -> None:
    arrays = {"s0": stack_of(shape=(5, 6, 7)), "deeper/s1": stack_of(shape=(5, 3, 4))}
    container = foreign(arrays, [[1, 0.7, 0.1, 0.1], [1, 0.7, 0.2, 0.30000001]], {FIRST: ZarrGroup(path="")})
    assert container.factors(0) == ((1, 1, 1), (1, 2, 3))
    np.testing.assert_array_equal(
        container.level(FIRST, 1).read((slice(0, 5), slice(0, 3), slice(0, 4))), arrays["deeper/s1"]
    )


def test_factors_without_scales_come_from_sizes(foreign: Foreign) -> None:
    arrays = {
        "0": stack_of(shape=(5, 16, 17)),
        "1": stack_of(shape=(5, 8, 9)),
        "2": stack_of(shape=(3, 4, 5)),
    }
    container = foreign(arrays, None, {FIRST: ZarrGroup(path="")})
    assert container.factors(0) == ((1, 1, 1), (1, 2, 2), (2, 4, 3))


def test_pixels_of_a_filter_that_is_not_known(foreign: Foreign, tmp_path: Path) -> None:
    container = foreign({"0": stack_of(shape=(5, 6, 7))}, [[1, 1, 1]], {FIRST: ZarrGroup(path="")})
    path = tmp_path / "other.zarr/0/.zarray"
    path.write_text(json.dumps({**json_of(path), "compressor": {"id": "lz77", "level": 3}}))
    level = container.level(FIRST, 0)
    assert level.compression == "lz77 3"
    with pytest.raises(FormatError, match=r"cannot be read .*lz77"):
        level.read(WHOLE)


@pytest.mark.parametrize(
    "spelling",
    [
        '<zgroup setup="0" tp="0" path="tile.zarr" indicies="2 1"/>',
        '<zgroup setup="0" tp="0" path="tile.zarr" indicies="[2, 1]"/>',
        '<zgroup setup="0" timepoint="0"><path>tile.zarr</path></zgroup>',
    ],
)
def test_an_xml_in_every_spelling_leads_to_the_pixels(
    foreign: Foreign, tmp_path: Path, spelling: str
) -> None:
    five = "indicies" in spelling
    pixels = stack_of(shape=(4, 3, 5, 6, 7) if five else (1, 1, 5, 6, 7))
    foreign({"0": pixels}, [[1.0] * 5], {FIRST: ZarrGroup(path="tile.zarr")}, image="tile.zarr")
    record(tmp_path, pixels[0, 0], 2)
    written = (tmp_path / "scan.xml").read_text("utf-8")
    (start, _), (_, end) = (written.partition(tag)[::2] for tag in ("<zarr type", "</ImageLoader>"))
    loader = f'<zarr type="relative">other.zarr/</zarr><zgroups>{spelling}</zgroups></ImageLoader>'
    (tmp_path / "other.xml").write_text(f"{start}{loader}{end}", "utf-8")
    with npy2bdv.open(tmp_path / "other.xml") as dataset:
        np.testing.assert_array_equal(dataset.view()[:], pixels[1, 2] if five else pixels[0, 0])


def test_an_xml_that_bigstitcher_saved(real_data: Path) -> None:
    loader = xml.parse((real_data / "bigstitcher/bigstitcher_1.xml").read_bytes()).loader
    assert isinstance(loader, OmeZarrLoader)
    assert loader.groups[ViewId(0, 2)] == ZarrGroup(path="tile_x_0000_y_0002_z_0000_ch_488.zarr")


# -- what cannot be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda path: [each.unlink() for each in path.rglob(".z*")], FormatError, "is no OME-Zarr container"),
        (lambda path: (path / "zarr.json").write_text('{"zarr_format": 4}'), FormatError, "zarr_format 4"),
        (lambda path: (path / "s0-t0.zarr/.zattrs").write_text("{"), FormatError, "should be JSON"),
        (lambda path: (path / "s0-t0.zarr/.zattrs").write_text("[]"), FormatError, "a JSON object"),
        (lambda path: (path / "s0-t0.zarr/.zattrs").write_text("{}"), FormatError, "no multiscales"),
        (
            lambda path: (path / "s0-t0.zarr/0/.zarray").write_text("{}"),
            FormatError,
            "does not describe an array",
        ),
        (
            lambda path: (path / "s0-t0.zarr/0/.zarray").unlink(),
            MissingKeyError,
            "has no pixels of time point 0",
        ),
        (
            lambda path: (path / "s0-t0.zarr/0/0/0/0/0/0").write_bytes(b"no zstd"),
            FormatError,
            "cannot be read",
        ),
    ],
)
def test_damaged_containers(
    tmp_path: Path, damage: Callable[[Path], Any], error: type[Exception], message: str
) -> None:
    damage(record(tmp_path, stack_of(), 2))
    with pytest.raises(error, match=message), npy2bdv.open(tmp_path / "scan.xml") as dataset:
        dataset.view()[:]


def test_places_that_are_no_container(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no OME-Zarr container"):
        OmeZarrContainer(tmp_path / "gone.ome.zarr")
    (tmp_path / "file.ome.zarr").write_bytes(b"")
    with pytest.raises(FormatError, match="is a file"):
        OmeZarrContainer(tmp_path / "file.ome.zarr")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: (path / "photos").mkdir(parents=True),
        lambda path: path.write_text("a file"),
        lambda path: (zarr.open_group(path, mode="w", zarr_format=2), (path / "thesis.docx").write_text("")),
    ],
)
def test_nothing_else_is_ever_replaced(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "scan.ome.zarr")
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(ExistsError, match="choose another name"):
        npy2bdv.create(tmp_path / "scan.xml", format="omezarr", overwrite=True)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


@both_versions
@pytest.mark.parametrize(
    "place",
    [
        "",  # in a store of other data
        "tile.zarr",  # beside the levels of an image: labels
        "s0-t0.zarr",
    ],
)
def test_other_arrays_are_never_removed(tmp_path: Path, version: int, place: str) -> None:
    path = tmp_path / "scan.ome.zarr"
    if place:
        image = record(tmp_path, stack_of(), version) / "s0-t0.zarr"
        image.rename(path / place)
        assert is_container(path)
    root = zarr.open_group(path, mode="a", zarr_format=version)  # type: ignore[arg-type]
    where = root[place] if place else root
    assert isinstance(where, zarr.Group)
    where.create_group("labels").create_array("counts", shape=(3,), dtype="i4")
    before = everything(tmp_path)
    for zarr_version in (2, 3):
        with pytest.raises(ExistsError, match="no dataset that could be replaced"):
            npy2bdv.create(tmp_path / "scan.xml", zarr_version=zarr_version, overwrite=True)
    assert everything(tmp_path) == before


@both_versions
def test_what_may_be_replaced(tmp_path: Path, version: int) -> None:
    """A container without a view, one of a view that a kill left in part, images of BigStitcher."""
    path = record(tmp_path, stack_of(), version)
    (path / ".DS_Store").write_bytes(b"1")
    assert is_container(path)
    (path / "s0-t0.zarr").rename(path / "tile_x_0000_y_0002_z_0000_ch_488.zarr")
    assert is_container(path)
    half = path / "s0-t1.zarr/0"
    half.mkdir(parents=True)
    (half / "zarr.json.1-2.npy2bdv-part").write_bytes(b"{")
    assert is_container(path)
    OmeZarrContainer(tmp_path / "empty.ome.zarr", "x", zarr_version=version).close()
    assert is_container(tmp_path / "empty.ome.zarr")
    zarr.create_array(tmp_path / "array.zarr", shape=(3,), dtype="i4", zarr_format=version)  # type: ignore[arg-type]
    assert not is_container(tmp_path / "array.zarr")
    try:
        (tmp_path / "link.ome.zarr").symlink_to(path, target_is_directory=True)
    except OSError:  # Windows, for a common user
        return
    assert not is_container(tmp_path / "link.ome.zarr")


@both_versions
@pytest.mark.parametrize(
    "levels", [((1, 2, 2),), ((1, 1, 1), (2, 2, 2), (1, 4, 4))], ids=["no full resolution", "not coarser"]
)
def test_levels_that_cannot_be_are_refused_before_the_older_dataset_goes(
    tmp_path: Path, version: int, levels: Any
) -> None:
    path = record(tmp_path, stack_of(), version)
    before = everything(tmp_path)
    with pytest.raises(InvalidInputError, match="keeps the full resolution first"):
        npy2bdv.create(path, zarr_version=version, levels=levels, overwrite=True)
    with pytest.raises(InvalidInputError, match="keeps the full resolution first"):
        npy2bdv.BdvWriter(path, zarr_version=version, subsamp=levels, overwrite=True)
    with pytest.raises(InvalidInputError, match="omezarr holds blocks below"):
        npy2bdv.BdvWriter(path, zarr_version=version, blockdim=((2**10, 2**10, 2**10),), overwrite=True)
    assert everything(tmp_path) == before


@both_versions
def test_an_older_dataset_is_replaced_as_a_whole(tmp_path: Path, version: int) -> None:
    record(tmp_path, stack_of(), 5 - version)
    with pytest.raises(ExistsError, match="overwrite=True"):
        npy2bdv.create(tmp_path / "scan.ome.zarr", zarr_version=version)
    with npy2bdv.create(tmp_path / "scan.ome.zarr", zarr_version=version, overwrite=True) as writer:
        writer.write(stack_of(seed=1), setup=writer.add_setup(shape=SHAPE), time=1)
    assert [each.name for each in (tmp_path / "scan.ome.zarr").glob("s*")] == ["s0-t1.zarr"]
    assert (tmp_path / "scan.ome.zarr/.zgroup").exists() == (version == 2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"zarr_version": 4}, "zarr_version=4 is not known; there are 2 and 3"),
        ({"compression": "lz4"}, "compression 'lz4' is not known to omezarr; it has 'none', 'gzip'"),
        ({"compression": ("zstd", 30)}, "zstd has the levels 1 to 22"),
        ({"format": "hdf5", "zarr_version": 3}, "zarr_version=3 is for the format 'omezarr'"),
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        npy2bdv.create(tmp_path / "scan.xml", **{"format": "omezarr", **asked})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        ({"chunks": (1024, 1024, 1024)}, "omezarr holds blocks below 2147483648 bytes"),
        ({"levels": ((1, 2, 2), (1, 1, 1))}, r"give them in this order, \(1, 1, 1\) first"),
        ({"levels": ((1, 1, 1), (1, 4, 4), (2, 2, 2))}, "coarser and coarser"),
        ({"dtype": "complex64"}, "complex64"),
    ],
)
def test_setups_that_cannot_be(tmp_path: Path, setup: dict[str, Any], message: str) -> None:
    kind = TypeError if "dtype" in setup else InvalidInputError
    with npy2bdv.create(tmp_path / "scan.ome.zarr") as writer, pytest.raises(kind, match=message):
        writer.add_setup(shape=(2000, 2000, 2000), **setup)


@pytest.mark.parametrize("library", ["tensorstore", "numcodecs"])
def test_without_its_libraries_nothing_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    record(tmp_path, stack_of(), 2)
    before = everything(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        InvalidInputError, match=rf'{library}, which is not installed: pip install "npy2bdv\[zarr\]"'
    ):
        npy2bdv.create(tmp_path / "scan.ome.zarr", overwrite=True)
    assert everything(tmp_path) == before


def test_a_write_that_fails_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, stack_of(), 2)
    before = everything(tmp_path)

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    with OmeZarrContainer(tmp_path / "scan.ome.zarr", "r+") as container:
        level = container.level(FIRST, 0)
        monkeypatch.setattr(os, "replace", fails)
        monkeypatch.setattr(Path, "replace", fails)
        with pytest.raises(OSError, match="no space left"):
            level.store([((0, 0, 0), b"other")])
    assert everything(tmp_path) == before


def test_images_of_a_view_are_described_without_a_note(tmp_path: Path) -> None:
    with OmeZarrContainer(tmp_path / "a.ome.zarr", "x") as container:
        pyramid = Pyramid(shape=(5, 6, 7), factors=((1, 1, 1),), chunks=((4, 4, 4),))
        container.declare(FIRST, pyramid, np.dtype("uint8"), RAW, ImageNote(unit="px"))
        assert list(container.views()) == [FIRST]
        loader = container.loader(PathRef(text="a b.ome.zarr"), [FIRST])
    assert loader.path.text == "a%20b.ome.zarr"
    said = image_of(tmp_path / "a.ome.zarr", 2)
    yaozarrs.validate_ome_object(said, yaozarrs.v04.Image)
    assert all("unit" not in axis for axis in said["multiscales"][0]["axes"])
