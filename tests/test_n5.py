"""N5 containers: what lies on disk when we write, what we make of what others wrote. Facts: formats.md 3."""

import gzip
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import (
    ClosedError,
    ExistsError,
    FormatError,
    InvalidInputError,
    MissingKeyError,
    NotFoundError,
    ReadOnlyError,
)
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.model.spimdata import N5Loader, PathRef, ViewId
from npy2bdv.storage.base import RAW, Codec, ImageNote
from npy2bdv.storage.n5 import N5Container, N5Level, is_container

SHAPE = (7, 20, 33)
FACTORS = ((1, 1, 1), (1, 2, 4))
CHUNK = (4, 8, 16)
VIEW = ViewId(3, 12)
GZIP = Codec(name="gzip")


def pixels_of(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(1, 60000, shape, "uint16")


def attributes(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "attributes.json").read_bytes())
    return found


def pyramid(depth: int = SHAPE[0]) -> Pyramid:
    return Pyramid(shape=(depth, *SHAPE[1:]), factors=FACTORS, chunks=(CHUNK,))


def everything(level: N5Level) -> NDArray[Any]:
    z, y, x = level.shape
    return level.read((slice(0, z), slice(0, y), slice(0, x)))


def fill(level: N5Level, pixels: NDArray[Any]) -> None:
    """Write an image block by block, in whole blocks as streams hand them over."""
    grid = [-(-n // size) for n, size in zip(level.shape, level.chunk, strict=True)]
    for place in np.ndindex(*grid):
        z, y, x = (index * size for index, size in zip(place, level.chunk, strict=True))
        part = pixels[z : z + level.chunk[0], y : y + level.chunk[1], x : x + level.chunk[2]]
        block = np.zeros(level.chunk, pixels.dtype)
        block[tuple(map(slice, part.shape))] = part
        at = (place[0], place[1], place[2])
        level.store([(at, level.encode(block, at))])


@pytest.fixture
def container(tmp_path: Path) -> N5Container:
    return N5Container(tmp_path / "a.n5", "x")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A dataset of one view; the path of its container."""
    with npy2bdv.create(tmp_path / "scan.n5", levels=FACTORS, chunks=CHUNK) as writer:
        writer.write(pixels_of(), setup=writer.add_setup(shape=SHAPE, voxel_size_xyz=(0.5, 0.5, 2.0)))
    return tmp_path / "scan.n5"


# ------------------------------------------------------------------------------------------- on disk


def test_attributes_are_those_that_java_writes(container: N5Container) -> None:
    note = ImageNote(voxel_size_xyz=(0.5, 0.5, 2.0), unit="micrometer")
    container.declare(VIEW, pyramid(), np.dtype("uint16"), GZIP, note)
    root = container.path
    assert attributes(root) == {"n5": "4.0.0"}
    assert attributes(root / "setup12") == {
        "downsamplingFactors": [[1, 1, 1], [4, 2, 1]],
        "dataType": "uint16",
    }
    assert attributes(root / "setup12/timepoint3") == {
        "multiScale": True,
        "resolution": [0.5, 0.5, 2.0],
        "units": ["um", "um", "um"],
    }
    assert attributes(root / "setup12/timepoint3/s1") == {
        "dimensions": [9, 10, 7],
        "blockSize": [9, 8, 4],
        "dataType": "uint16",
        "compression": {"type": "gzip", "level": 1, "useZlib": False},
        "downsamplingFactors": [4, 2, 1],
    }
    text = (root / "setup12/attributes.json").read_text("utf-8")
    assert "1.0" not in text  # Java reads factors as integers


@pytest.mark.parametrize(
    ("unit", "units"), [("µm", ["um"] * 3), ("px", [""] * 3), ("nanometer", ["nm"] * 3), ("furlong", None)]
)
def test_units_as_neuroglancer_knows_them(container: N5Container, unit: str, units: list[str] | None) -> None:
    container.declare(VIEW, pyramid(), np.dtype("uint16"), GZIP, ImageNote(unit=unit))
    assert attributes(container.path / "setup12/timepoint3").get("units") == units


def test_a_block_is_a_header_and_big_endian_pixels(container: N5Container) -> None:
    pixels = pixels_of()
    for codec in (RAW, GZIP):
        level = container.declare(VIEW, pyramid(), np.dtype("uint16"), codec)[0]
        fill(level, pixels)
        file = (container.path / "setup12/timepoint3/s0/2/1/1").read_bytes()
        assert file[:16] == struct.pack(">HHIII", 0, 3, 1, 8, 3)  # cut at the ends of x and z
        data = gzip.decompress(file[16:]) if codec == GZIP else file[16:]
        assert data == pixels[4:, 8:16, 32:].astype(">u2").tobytes()


def test_blocks_of_zeros_have_no_file(container: N5Container) -> None:
    level = container.declare(VIEW, pyramid(), np.dtype("float32"), RAW)[0]
    pixels = np.zeros(SHAPE, "float32")
    pixels[0, 0, 0] = -0.0
    pixels[0, 9, 0] = np.nan
    fill(level, pixels)
    folder = container.path / "setup12/timepoint3/s0"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*/*")) == ["0/0/0", "0/1/0"]
    assert everything(level).tobytes() == pixels.tobytes()
    fill(level, np.zeros(SHAPE, "float32"))
    assert not list(folder.glob("*/*/*"))
    assert not everything(level).any()


@pytest.mark.parametrize(
    ("codec", "told"),
    [
        (Codec(name="gzip", level=7), {"type": "gzip", "level": 7, "useZlib": False}),
        (Codec(name="gzip", level=0), {"type": "gzip", "level": 0, "useZlib": False}),
        (Codec(name="zstd"), {"type": "zstd", "level": 3}),
        (Codec(name="zstd", level=19), {"type": "zstd", "level": 19}),
        (
            Codec(name="blosc", level=9),
            {"type": "blosc", "cname": "lz4", "clevel": 9, "shuffle": 1, "blocksize": 0},
        ),
    ],
)
def test_levels_of_compression(container: N5Container, codec: Codec, told: dict[str, Any]) -> None:
    level = container.declare(VIEW, pyramid(), np.dtype("uint16"), codec)[0]
    assert attributes(container.path / "setup12/timepoint3/s0")["compression"] == told
    fill(level, pixels_of())
    np.testing.assert_array_equal(everything(level), pixels_of())
    again = N5Container(container.path, "r+").level(VIEW, 0)  # encodes alike
    assert again.encode(np.full(CHUNK, 7, "uint16"), (0, 0, 0)) == level.encode(
        np.full(CHUNK, 7, "uint16"), (0, 0, 0)
    )


def test_descriptions_in_words(container: N5Container) -> None:
    wanted = {"none": "none", "gzip": "gzip 1", "zstd": "zstd 3", "blosc": "blosc lz4 5"}
    for name, words in wanted.items():
        level = container.declare(VIEW, pyramid(), np.dtype("uint16"), Codec(name=name))[0]
        assert level.compression == words
        assert level.nbytes_on_disk == 0
    level.store([((0, 0, 0), b"12345")])
    assert level.nbytes_on_disk == 5
    assert json.loads(json.dumps(level.layout()[0])) == {
        "path": "setup12/timepoint3/s0", "shape": [7, 20, 33], "chunk": [4, 8, 16], "dtype": "uint16",
    }  # fmt: skip


def test_attributes_of_other_programs_stay(scan: Path) -> None:
    folder = scan / "setup0"
    (folder / "attributes.json").write_text(json.dumps({**attributes(folder), "paintera": {"a": [1]}}))
    (scan / "attributes_cache.json").write_text("{}")
    with N5Container(scan, "r+") as container:
        container.add_levels(ViewId(0, 0), pyramid(), 1, np.dtype("uint16"), RAW)
        assert attributes(folder)["paintera"] == {"a": [1]}
        assert not (scan / "attributes_cache.json").exists()
        (scan / "attributes_cache.json").write_text("{}")
        container.remove(ViewId(0, 0))
        assert not (scan / "attributes_cache.json").exists()
        assert list(container.views()) == []
        assert not container.has(ViewId(0, 0))


def test_missing_planes_are_noted(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.n5", chunks=CHUNK) as writer:
        setup = writer.add_setup(shape=SHAPE)
        with writer.stream(setup=setup) as view:
            view.put(pixels_of()[2:5], 2)
    assert attributes(tmp_path / "a.n5/setup0/timepoint0")["npy2bdv_missing_planes"] == [[0, 2], [5, 7]]


# -------------------------------------------------------------------------------------------- growth


@settings(max_examples=25, deadline=None)
@given(depths=st.lists(st.integers(1, 19), min_size=1, max_size=6), raw=st.booleans())
def test_planes_that_were_cut_off_do_not_come_back(
    tmp_path_factory: pytest.TempPathFactory, depths: list[int], raw: bool
) -> None:
    container = N5Container(tmp_path_factory.mktemp("n5") / "a.n5", "x")
    depth = 19
    level = container.declare(VIEW, pyramid(depth), np.dtype("uint16"), RAW if raw else GZIP)[0]
    expected = pixels_of((depth, *SHAPE[1:]))
    fill(level, expected)
    for planes in depths:
        kept = expected[:planes]
        level.resize(planes)
        expected = np.zeros((planes, *SHAPE[1:]), "uint16")
        expected[: len(kept)] = kept
        assert level.shape == expected.shape
        for same in (level, container.level(VIEW, 0)):
            np.testing.assert_array_equal(everything(same), expected)
        for file in (container.path / "setup12/timepoint3/s0").glob("*/*/*"):
            _, _, _, _, length = struct.unpack(">HHIII", file.read_bytes()[:16])
            assert int(file.name) * CHUNK[0] + length <= max(planes, len(kept))


# -------------------------------------------------------------------------- what other programs write


@pytest.mark.parametrize(
    "compression",
    [
        {"type": "raw"},
        {"type": "gzip"},
        {"type": "gzip", "level": -1, "useZlib": True},
        {"type": "bzip2", "blockSize": 9},
        {"type": "xz", "preset": 6},
        {"type": "zstd", "level": 3},
        {"type": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 2},
    ],
    ids=str,
)
def test_codecs_that_tensorstore_wrote(scan: Path, compression: dict[str, Any]) -> None:
    rewritten(scan, compression)
    with npy2bdv.open(scan) as dataset:
        np.testing.assert_array_equal(dataset.view(time=0)[...], pixels_of())


def rewritten(scan: Path, compression: dict[str, Any]) -> Path:
    """Let tensorstore write the full resolution anew; return its folder."""
    spec = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": f"{scan}/setup0/timepoint0/s0/"},
        "metadata": {
            "dimensions": SHAPE[::-1],
            "blockSize": CHUNK[::-1],
            "dataType": "uint16",
            "compression": compression,
        },
    }
    tensorstore.open(spec, create=True, delete_existing=True).result().T[...].write(pixels_of()).result()
    return scan / "setup0/timepoint0/s0"


def changed(folder: Path, **changes: Any) -> None:
    """Change attributes; None takes one away."""
    told = {name: value for name, value in {**attributes(folder), **changes}.items() if value is not None}
    (folder / "attributes.json").write_text(json.dumps(told))


def test_parameters_that_java_and_z5py_write(scan: Path) -> None:
    """Java names the size of elements and threads, which tensorstore by itself takes for an error."""
    folder = rewritten(scan, {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1})
    told = {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "typesize": 2, "nthreads": 1}
    for compression in (told, {"type": "blosc"}):
        changed(folder, compression=compression)
        with npy2bdv.open(scan) as dataset:
            np.testing.assert_array_equal(dataset.view(time=0)[...], pixels_of())


def test_blocks_that_are_padded_or_short(scan: Path) -> None:
    """As zarr-python and others write them (formats.md 3.2)."""
    folder = rewritten(scan, {"type": "raw"})
    padded = np.full(CHUNK, 9, ">u2")
    (folder / "2/2/1").write_bytes(struct.pack(">HHIII", 0, 3, 16, 8, 4) + padded.tobytes())
    (folder / "0/0/0").write_bytes(struct.pack(">HHIII", 0, 3, 2, 1, 1) + bytes((0, 5, 1, 6)))
    expected = pixels_of()
    expected[4:, 16:, 32:] = 9
    expected[:4, :8, :16] = 0
    expected[0, 0, :2] = 5, 262
    with npy2bdv.open(scan) as dataset:
        np.testing.assert_array_equal(dataset.view(time=0)[...], expected)


def test_extras_of_bigstitcher(scan: Path) -> None:
    """It writes what belongs to the image into the setup, too, which then looks like an image itself."""
    told = attributes(scan / "setup0/timepoint0/s0")
    changed(scan / "setup0", dimensions=told["dimensions"], compression=told["compression"])
    changed(scan / "setup0/timepoint0", saved_completely=True, resolution=[1, 1, 1])
    changed(scan, n5="2.0.0")
    with npy2bdv.open(scan) as dataset:
        np.testing.assert_array_equal(dataset.view(time=0)[...], pixels_of())


def test_level_that_is_listed_but_not_there(scan: Path) -> None:
    (scan / "setup0/timepoint0/s1/attributes.json").unlink()
    with N5Container(scan) as container:
        assert not container.has(ViewId(0, 0), 1)
        with pytest.raises(MissingKeyError, match=r"time point 0, setup 0, level 1 .*s1/attributes\.json"):
            container.level(ViewId(0, 0), 1)


def test_reading_sees_what_is_written_meanwhile(container: N5Container) -> None:
    level = container.declare(VIEW, pyramid(), np.dtype("uint16"), RAW)[0]
    with N5Container(container.path) as reader:
        seen = reader.level(VIEW, 0)
        assert not everything(seen).any()
        for add in (0, 1):
            fill(level, pixels_of() + np.uint16(add))
            np.testing.assert_array_equal(everything(seen), pixels_of() + np.uint16(add))


# ------------------------------------------------------------------------------------------ bad input


def test_path_that_is_no_container(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no N5 container .*a\.n5"):
        N5Container(tmp_path / "a.n5")
    (tmp_path / "a.n5").write_text("x")
    with pytest.raises(FormatError, match=r"a\.n5 is a file"):
        N5Container(tmp_path / "a.n5")
    with pytest.raises(ExistsError, match=r"a\.n5 already exists"):
        N5Container(tmp_path / "a.n5", "x")
    with pytest.raises(NotFoundError, match="create it first"):
        N5Container(tmp_path / "no/a.n5", "x")
    (tmp_path / "b.n5").mkdir()
    with N5Container(tmp_path / "b.n5") as container:
        assert list(container.views()) == []
        with pytest.raises(MissingKeyError, match="does not describe setup 0"):
            container.factors(0)
    assert list((tmp_path / "b.n5").iterdir()) == []


@pytest.mark.parametrize("text", [b'{"dimensions": [1', b"\xff\xfe", b"[1, 2]", b"7", b""])
def test_attributes_that_are_none(scan: Path, text: bytes) -> None:
    for folder in ("setup0", "setup0/timepoint0/s0"):
        before = (scan / folder / "attributes.json").read_bytes()
        (scan / folder / "attributes.json").write_bytes(text)
        with (
            pytest.raises(FormatError, match=rf"{folder}.attributes\.json .*the container is damaged"),
            npy2bdv.open(scan) as dataset,
        ):
            dataset.view(time=0)[0]
        (scan / folder / "attributes.json").write_bytes(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"dimensions": [1, 2]},
        {"dimensions": 3},
        {"blockSize": None},
        {"dataType": "string"},
        {"dataType": None},
        {"compression": None},
        {"compression": {}},
    ],
    ids=str,
)
def test_attributes_of_no_image(scan: Path, changes: dict[str, Any]) -> None:
    changed(scan / "setup0/timepoint0/s0", **changes)
    with N5Container(scan) as container, pytest.raises(FormatError, match="does not describe an image"):
        container.level(ViewId(0, 0), 0)


def test_factors_of_another_kind(scan: Path) -> None:
    changed(scan / "setup0", downsamplingFactors=[[1, 1]])
    with (
        N5Container(scan) as container,
        pytest.raises(FormatError, match=r"downsamplingFactors .*\[\[1, 1\]\]"),
    ):
        container.factors(0)


def test_codec_that_cannot_be_read(scan: Path) -> None:
    changed(scan / "setup0/timepoint0/s0", compression={"type": "lz4", "blockSize": 65536})
    with npy2bdv.open(scan) as dataset:
        with pytest.raises(FormatError, match="compressed with 'lz4', which cannot be read; 'raw', 'gzip'"):
            dataset.view(time=0)[0]
        assert dataset.view(time=0).level(0).compression == "lz4"


@pytest.mark.parametrize("content", [b"", b"short", struct.pack(">HHIII", 0, 3, 16, 8, 4) + b"no gzip"])
def test_damaged_block_names_the_image(scan: Path, content: bytes) -> None:
    (scan / "setup0/timepoint0/s0/0/0/0").write_bytes(content)
    with npy2bdv.open(scan) as dataset, pytest.raises(FormatError, match=r"timepoint0/s0 cannot be read"):
        dataset.view(time=0)[0]


def test_a_block_of_2_gib_is_refused(tmp_path: Path) -> None:
    with (
        npy2bdv.create(tmp_path / "a.n5", chunks=(1024, 1024, 1024)) as writer,
        pytest.raises(InvalidInputError, match="n5 holds blocks below 2147483648 bytes"),
    ):
        writer.add_setup(shape=(1024, 1024, 1024))


def test_open_for_reading_changes_nothing(scan: Path) -> None:
    left = scan / "setup0/x.1-2.npy2bdv-part"
    left.write_bytes(b"half")
    before = {path: path.read_bytes() for path in scan.rglob("*") if path.is_file()}
    with N5Container(scan) as container:
        everything(container.level(ViewId(0, 0), 0))
        for change in (
            lambda: container.remove(ViewId(0, 0)),
            lambda: container.note_missing_planes(ViewId(0, 0), []),
            lambda: container.declare(ViewId(0, 1), pyramid(), np.dtype("uint16"), RAW),
        ):
            with pytest.raises(ReadOnlyError, match="open for reading only"):
                change()
    assert {path: path.read_bytes() for path in scan.rglob("*") if path.is_file()} == before
    N5Container(scan, "r+").close()
    assert not left.exists()


def test_closed_container(container: N5Container) -> None:
    container.close()
    container.close()
    for use in (lambda: container.factors(0), lambda: list(container.views()), container.flush):
        with pytest.raises(ClosedError, match=r"a\.n5 is closed"):
            use()


# --------------------------------------------------------------------------------- what may be replaced


def test_containers_of_ours_and_java_may_be_replaced(scan: Path, real_data: Path) -> None:
    assert is_container(scan)
    assert is_container(real_data / "java/C_n5/dataset.n5")
    (scan / ".DS_Store").write_bytes(b"1")
    (scan / "setup3.12ab.npy2bdv-part").mkdir()
    assert is_container(scan)
    (scan / "attributes.json").unlink()
    assert is_container(scan)


def test_other_folders_may_not(scan: Path, tmp_path: Path, real_data: Path) -> None:
    assert not is_container(real_data / "java/C_n5/interestpoints.n5")
    assert not is_container(tmp_path / "absent")
    for name in ("notes.txt", "setup", "setup0 copy"):
        (scan / name).write_text("mine")
        assert not is_container(scan)
        (scan / name).unlink()
    for name in ("setup0/labels", "setup0/timepoint0/masks", "setup0/timepoint0/s0.old"):
        (scan / name).mkdir()  # what somebody keeps beside the pixels
        assert not is_container(scan)
        (scan / name).rmdir()
    assert is_container(scan)
    (tmp_path / "other").mkdir()
    assert not is_container(tmp_path / "other")
    (tmp_path / "other/setup0").mkdir()
    assert not is_container(tmp_path / "other")
    (tmp_path / "other/attributes.json").write_text("no JSON")
    assert not is_container(tmp_path / "other")
    link = tmp_path / "link.n5"
    try:
        link.symlink_to(scan, target_is_directory=True)
    except OSError:  # Windows, for a common user
        return
    assert not is_container(link)


def test_a_folder_of_another_kind_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.n5").write_text("a file")
    with pytest.raises(ExistsError, match="is a file, where a folder of pixels is to be"):
        npy2bdv.create(tmp_path / "a.xml", format="n5", overwrite=True)
    assert (tmp_path / "a.n5").read_text() == "a file"


# ------------------------------------------------------------------------------------- names, libraries


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("embryo day2.n5", "embryo%20day2.n5"),
        ("a#b.n5", "a%23b.n5"),
        ("ä.n5", "%C3%A4.n5"),
        ("50%.n5", "50%25.n5"),
        ("sub/a:b.n5", "sub/a%3Ab.n5"),
    ],
)
def test_the_xml_names_it_by_a_uri(container: N5Container, name: str, text: str) -> None:
    assert container.loader(PathRef(text=name), []) == N5Loader(path=PathRef(text=text))


@pytest.mark.parametrize("spelling", ["a%20b.n5", "a b.n5", "./a%20b.n5/", ".\\a b.n5"])
def test_spellings_that_are_read(tmp_path: Path, spelling: str) -> None:
    with npy2bdv.create(tmp_path / "a b.n5") as writer:
        writer.write(pixels_of(), setup=writer.add_setup(shape=SHAPE))
    xml = tmp_path / "a b.xml"
    text = xml.read_text("utf-8")
    assert ">a%20b.n5<" in text
    xml.write_text(text.replace(">a%20b.n5<", f">{spelling}<"), "utf-8")
    with npy2bdv.open(xml) as dataset:
        np.testing.assert_array_equal(dataset.view(time=0)[...], pixels_of())


def test_a_name_that_is_literally_percent_encoded(tmp_path: Path) -> None:
    """Decoded first, then as it stands."""
    with npy2bdv.create(tmp_path / "a%20b.n5") as writer:
        writer.write(pixels_of(), setup=writer.add_setup(shape=SHAPE))
    xml = tmp_path / "a%20b.xml"
    text = xml.read_text("utf-8")
    for spelling in ("a%2520b.n5", "a%20b.n5"):
        xml.write_text(text.replace(">a%2520b.n5<", f">{spelling}<"), "utf-8")
        with npy2bdv.open(xml) as dataset:
            np.testing.assert_array_equal(dataset.view(time=0)[...], pixels_of())


@pytest.mark.parametrize(("library", "codec"), [("tensorstore", "gzip"), ("numcodecs", "zstd")])
def test_a_library_that_is_not_installed(
    scan: Path, monkeypatch: pytest.MonkeyPatch, library: str, codec: str
) -> None:
    before = sorted(scan.parent.rglob("*"))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InvalidInputError, match=rf'{library}, .*pip install "npy2bdv\[zarr\]"'):
        npy2bdv.create(scan, compression=codec, overwrite=True)
    assert sorted(scan.parent.rglob("*")) == before


def test_gzip_is_a_gzip_stream() -> None:
    from npy2bdv.storage.codecs import deflate
    from npy2bdv.storage.codecs import gzip as packed

    data = np.arange(1000, dtype="uint8")
    for level in (None, 0, 1, 3, 4, 9, -1):
        assert gzip.decompress(packed(data, level)) == data.tobytes()
        assert zlib.decompress(deflate(data, level)) == data.tobytes()
