"""HDF5 containers beside plain h5py: what lies on disk when we write, what we make of what others wrote.

Facts: formats.md 2.
"""

import pickle
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import ClosedError, FormatError, MissingKeyError, NotFoundError
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.base import RAW, Codec
from npy2bdv.storage.flushes import FlushedFile
from npy2bdv.storage.hdf5 import CARD, PIXEL_TYPES, Hdf5Container

SHAPE = (7, 20, 33)
FACTORS = ((1, 1, 1), (1, 2, 4), (2, 4, 8))
CHUNKS = ((2, 8, 16), (3, 4, 5), (4, 6, 2))


def pixels_of(dtype: str, shape: tuple[int, int, int] = SHAPE) -> NDArray[Any]:
    kind = np.dtype(dtype)
    rng = np.random.default_rng(0)
    if kind.kind == "f":
        return rng.standard_normal(shape).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, kind, endpoint=True)


def written(path: Path, dtype: str = "uint16", *, times: tuple[int, ...] = (0,), **options: Any) -> Path:
    """Write one setup and return the pixel file."""
    options = {"levels": FACTORS, "chunks": CHUNKS, **options}
    setup_id = options.pop("id", None)
    with npy2bdv.create(path / "a.xml", **options) as writer:
        setup = writer.add_setup(shape=SHAPE, dtype=dtype, id=setup_id)
        for time in times:
            writer.write(pixels_of(dtype), setup=setup, time=time)
    return path / "a.h5"


# ------------------------------------------------------------------------------------------- on disk


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("dtype", PIXEL_TYPES)
def test_what_lies_on_disk(tmp_path: Path, dtype: str, compression: str | None) -> None:
    with h5py.File(written(tmp_path, dtype, compression=compression)) as file:
        assert set(file) == {"s00", "t00000"}
        assert set(file["t00000/s00"]) == {"0", "1", "2"}
        group = file["s00"]
        resolutions, subdivisions = group["resolutions"], group["subdivisions"]
        assert resolutions.dtype == np.dtype("<f8")
        assert resolutions[()].tolist() == [[1, 1, 1], [4, 2, 1], [8, 4, 2]]  # x, y, z
        assert subdivisions.dtype == np.dtype("<i4")
        for level, (factors, chunk) in enumerate(zip(FACTORS, CHUNKS, strict=True)):
            cells = file[f"t00000/s00/{level}/cells"]
            assert set(file[f"t00000/s00/{level}"]) == {"cells"}
            assert cells.dtype == np.dtype("<i2" if dtype == "uint16" else dtype).newbyteorder("<")
            wanted = npy2bdv.downsample(pixels_of(dtype), factors)
            np.testing.assert_array_equal(cells[()].view(dtype), wanted)
            clipped = (chunk[0], min(chunk[1], wanted.shape[1]), min(chunk[2], wanted.shape[2]))
            assert cells.chunks == clipped
            assert subdivisions[level].tolist() == list(clipped[::-1])
            assert cells.maxshape == (None, None, None)
            assert cells.fillvalue == 0
            assert cells.compression == compression
            assert cells.compression_opts == (1 if compression else None)
            assert cells.shuffle is (compression is not None and cells.dtype.itemsize > 1)
            assert not cells.fletcher32
            assert cells.scaleoffset is None
        if dtype == "uint16":
            assert dict(group.attrs) == {}
        else:
            assert dict(group.attrs) == {"dataType": dtype.encode()}
            kind = h5py.h5a.open(group.id, b"dataType").get_type()
            assert isinstance(kind, h5py.h5t.TypeStringID)
            assert not kind.is_variable_str()


@pytest.mark.parametrize(("compression", "level"), [(("gzip", 1), 1), (("gzip", 3), 3), (("gzip", 9), 9)])
def test_compression_level_on_disk(tmp_path: Path, compression: tuple[str, int], level: int) -> None:
    with h5py.File(written(tmp_path, compression=compression)) as file:
        cells = file["t00000/s00/0/cells"]
        assert cells.compression_opts == level
        np.testing.assert_array_equal(cells[()].view("uint16"), pixels_of("uint16"))


def test_lzf_is_written_by_h5py_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'lzf' can be read by h5py only: Fiji"):
        path = written(tmp_path, compression="lzf")
    with h5py.File(path) as file:
        assert file["t00000/s00/0/cells"].compression == "lzf"
        np.testing.assert_array_equal(file["t00000/s00/0/cells"][()].view("uint16"), pixels_of("uint16"))
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(time=0)[...], pixels_of("uint16"))


def test_file_format_is_the_old_one_and_closed_cleanly(tmp_path: Path) -> None:
    """'latest' bounds hide filtered images from Fiji (formats.md 2.5)."""
    path = written(tmp_path, compression="gzip")
    head = path.read_bytes()[:12]
    assert head[:8] == b"\x89HDF\r\n\x1a\n"
    assert head[8] == 0  # superblock
    with h5py.File(path) as file:
        for level in range(3):
            layout = file[f"t00000/s00/{level}/cells"].id.get_create_plist()
            assert layout.get_layout() == h5py.h5d.CHUNKED
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.h5", "a.xml"]


def test_a_chunk_may_exceed_the_image_in_z_and_is_clipped_in_y_and_x(tmp_path: Path) -> None:
    path = written(tmp_path, levels=((1, 1, 1),), chunks=(64, 256, 256))
    with h5py.File(path) as file:
        cells = file["t00000/s00/0/cells"]
        assert cells.chunks == (64, 20, 33)
        assert cells.shape == SHAPE
        np.testing.assert_array_equal(cells[()].view("uint16"), pixels_of("uint16"))


@pytest.mark.parametrize(
    ("setup", "time", "path"),
    [(99, 0, "t00000/s99"), (100, 1, "t00001/s100"), (1234, 0, "t00000/s1234"), (0, 99_999, "t99999/s00")],
)
def test_wide_ids(tmp_path: Path, setup: int, time: int, path: str) -> None:
    with Hdf5Container(tmp_path / "a.h5", "x") as container:
        pyramid = Pyramid(shape=(1, 2, 3), factors=((1, 1, 1),), chunks=((1, 2, 3),))
        container.declare(ViewId(time, setup), pyramid, np.dtype("uint16"), RAW)
        assert list(container.views()) == [ViewId(time, setup)]
        assert container.has(ViewId(time, setup))
        assert not container.has(ViewId(time, setup), 1)
        assert container.factors(setup) == ((1.0, 1.0, 1.0),)
    with h5py.File(tmp_path / "a.h5") as file:
        assert f"{path}/0/cells" in file
        assert f"s{setup:02d}/resolutions" in file


def test_more_than_99999_time_points(tmp_path: Path) -> None:
    with Hdf5Container(tmp_path / "a.h5", "x") as container:
        pyramid = Pyramid(shape=(1, 2, 3), factors=((1, 1, 1),), chunks=((1, 2, 3),))
        container.declare(ViewId(123_456, 0), pyramid, np.dtype("uint8"), RAW)
        container.note_times([100_000, 7])
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"s00", "t00007", "t100000", "t123456"}


def test_every_time_point_has_a_group_even_without_views(tmp_path: Path) -> None:
    """Bio-Formats wants them (formats.md 8.3)."""
    with h5py.File(written(tmp_path, times=(3,))) as file:
        assert [name for name in file if name.startswith("t")] == ["t00000", "t00001", "t00002", "t00003"]


def test_declaring_again_starts_anew_and_removing_forgets(tmp_path: Path) -> None:
    view, kind = ViewId(0, 0), np.dtype("uint16")
    with Hdf5Container(tmp_path / "a.h5", "x") as container:
        for shape in ((1, 2, 3), (4, 5, 6)):
            pyramid = Pyramid(shape=shape, factors=((1, 1, 1),), chunks=((4, 5, 6),))
            container.declare(view, pyramid, kind, Codec(name="gzip"))
            assert container.level(view, 0).shape == shape
        container.remove(view)
        container.remove(view)
        assert not container.has(view)


# ------------------------------------------------------------------------- what others wrote (2.4, the table)

XML = """<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription>
<ImageLoader format="bdv.hdf5"><hdf5 type="relative">a.h5</hdf5></ImageLoader><ViewSetups><ViewSetup><id>0</id>
<name>n</name><size>4 3 2</size><attributes/></ViewSetup></ViewSetups><Timepoints type="range"><first>0</first>
<last>0</last></Timepoints></SequenceDescription><ViewRegistrations/></SpimData>"""


def foreign(folder: Path, cells: NDArray[Any], data_type: object = None, **options: Any) -> Path:
    """Write a dataset of one view with plain h5py."""
    (folder / "a.xml").write_text(XML, encoding="utf-8")
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("t00000/s00/0/cells", data=cells, **options)
        file["s00/resolutions"] = np.ones((1, 3), options.pop("kind", "f8"))
        file["s00/subdivisions"] = np.array([[4, 3, 2]], "i4")
        if data_type is not None:
            file["s00"].attrs["dataType"] = data_type
    return folder / "a.xml"


VALUES = np.array([0, 1, 32767, 32768, 65535, 40000, 7, 8] * 3, "uint16").reshape(2, 3, 4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("disk", "attribute", "seen"),
    [
        ("i2", None, "uint16"),
        ("u2", None, "uint16"),
        ("u2", "uint16", "uint16"),
        ("i2", "uint16", "uint16"),
        ("i2", "int16", "int16"),
        ("u1", "uint8", "uint8"),
        ("u1", None, "uint8"),
        ("u4", "uint32", "uint32"),
        ("f4", "float32", "float32"),
        ("f4", None, "float32"),
        ("f8", "float64", "float64"),
        ("i8", "int64", "int64"),
        ("i2", "USHORT", "uint16"),  # misspelled: as if absent
        ("u1", "uint16", "uint16"),
    ],
)
def test_pixel_type_on_reading(
    tmp_path: Path, disk: str, attribute: str | None, seen: str, order: str
) -> None:
    kind = np.dtype(order + disk)
    stored = VALUES.astype(kind.newbyteorder("="), casting="unsafe").astype(kind)
    path = foreign(tmp_path, stored, attribute)
    same = disk[0] in "iu" and np.dtype(seen).kind in "iu" and np.dtype(seen).itemsize == kind.itemsize
    wanted = stored.astype(kind.newbyteorder("="))
    wanted = wanted.view(seen) if same else wanted.astype(seen)
    with npy2bdv.open(path) as dataset:
        view = dataset.view(time=0)
        assert view.dtype == np.dtype(seen)
        assert view[...].dtype == np.dtype(seen)
        assert view[...].dtype.isnative
        np.testing.assert_array_equal(view[...], wanted)
        np.testing.assert_array_equal(view[1, 1:, ::2], wanted[1, 1:, ::2])


@pytest.mark.parametrize("attribute", ["int16", b"int16", np.bytes_(b"int16"), np.array(b"int16", "S16")])
def test_attribute_as_any_kind_of_text(tmp_path: Path, attribute: object) -> None:
    with npy2bdv.open(foreign(tmp_path, VALUES.view("int16"), attribute)) as dataset:
        assert dataset.view(time=0).dtype == np.int16


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (1, 2, 3)},
        {"chunks": (2, 3, 4)},
        {"chunks": (8, 8, 8), "maxshape": (None, None, None)},
        {"chunks": (1, 3, 4), "compression": "gzip"},
        {"chunks": (1, 3, 4), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (2, 1, 4), "scaleoffset": 0},
        {"chunks": (1, 1, 1), "compression": "lzf"},
    ],
)
def test_any_layout_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    with npy2bdv.open(foreign(tmp_path, VALUES, "uint16", **options)) as dataset:
        level = dataset.view(time=0).level(0)
        np.testing.assert_array_equal(level[...], VALUES)
        assert level.chunks == options.get("chunks", (2, 3, 4))
        assert level.nbytes == VALUES.nbytes


def test_factors_of_any_number_type_and_fractions(tmp_path: Path) -> None:
    path = foreign(tmp_path, VALUES, "uint16")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["s00/resolutions"]
        file["s00/resolutions"] = np.array([[1, 1, 1], [2, 1.5, 1]], "f4")
        file["t00000/s00/1/cells"] = VALUES[:, :2, :2]
    with npy2bdv.open(path) as dataset:
        assert [level.factors for level in dataset.view(time=0).levels()] == [
            (1.0, 1.0, 1.0),
            (1.0, 1.5, 2.0),
        ]
        assert dataset.view(time=0).level(1).transform.translation_xyz == (0.5, 0.25, 0.0)


def test_groups_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    foreign(tmp_path, VALUES, "uint16")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.create_group("__DATA_TYPES__")  # JHDF5
        file.create_group("t00000/notes")
        file.create_group("table")
        file["thumbnail"] = 1
    with Hdf5Container(tmp_path / "a.h5") as container:
        assert list(container.views()) == [ViewId(0, 0)]


def test_level_that_is_listed_but_not_there(tmp_path: Path) -> None:
    path = foreign(tmp_path, VALUES, "uint16")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["t00000/s00/0/cells"]
    with npy2bdv.open(path) as dataset, pytest.raises(MissingKeyError, match="t00000/s00/0/cells"):
        _ = dataset.view(time=0).shape


# ---------------------------------------------------------------------------------------------- partitions


@pytest.fixture
def partitioned(tmp_path: Path) -> Path:
    """A master whose images are external links, as BDV's exporter makes it (formats.md 2.6)."""
    foreign(tmp_path, VALUES, "uint16")
    (tmp_path / "a.h5").rename(tmp_path / "a-00-00.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["s00/resolutions"] = np.ones((1, 3))
        file["s00/subdivisions"] = np.array([[4, 3, 2]], "i4")
        file["s00"].attrs["dataType"] = "uint16"
        file["t00000/s00/0/cells"] = h5py.ExternalLink("a-00-00.h5", "t00000/s00/0/cells")
    return tmp_path / "a.xml"


def test_partitions_are_followed(partitioned: Path) -> None:
    with npy2bdv.open(partitioned) as dataset:
        assert dataset.container.has(ViewId(0, 0))
        np.testing.assert_array_equal(dataset.view(time=0)[...], VALUES)


@pytest.mark.parametrize("damage", ["gone", "no hdf5", "empty"])
def test_partition_that_is_not_there(partitioned: Path, damage: str) -> None:
    part = partitioned.with_name("a-00-00.h5")
    part.unlink()
    if damage != "gone":
        part.write_bytes(b"" if damage == "empty" else b"no hdf5" * 100)
    with npy2bdv.open(partitioned) as dataset:
        assert not dataset.container.has(ViewId(0, 0))
        with pytest.raises(MissingKeyError, match="or the file it links to is gone"):
            dataset.view(time=0)[0]


def test_partition_that_was_cut_short_says_which_views_are_whole(partitioned: Path) -> None:
    part = partitioned.with_name("a-00-00.h5")
    with h5py.File(part, "r+") as file:
        file["t00001/s00/0/cells"] = np.ones((20, 30, 40), "i2")
        end = file["t00001/s00/0/cells"].id.get_offset() + 20 * 30 * 40 * 2
    part.write_bytes(part.read_bytes()[: end - 100])
    with npy2bdv.open(partitioned) as dataset:
        assert not dataset.container.has(ViewId(0, 0))
        with pytest.raises(
            FormatError,
            match=r"a-00-00\.h5, to which t00000/s00/0/cells in .*a\.h5 links, was cut short\. "
            r"It has \d+ of \d+ bytes; views that are whole: time 0 of setup 0\. Copy",
        ):
            dataset.view(time=0)[0]


# --------------------------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("content", [b"", b"no hdf5" * 100, b"\x89HDF\r\n\x1a\n"])
def test_file_that_is_no_hdf5(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.h5 cannot be opened as HDF5.*truncated"):
        Hdf5Container(tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == content


def test_truncated_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FormatError, match=r"cannot be opened as HDF5.*truncated"):
        npy2bdv.open(tmp_path / "a.xml")


def test_damaged_chunk_names_file_and_image(tmp_path: Path) -> None:
    path = written(tmp_path, compression="gzip", levels=((1, 1, 1),), chunks=(7, 20, 33))
    with h5py.File(path) as file:
        place = file["t00000/s00/0/cells"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place)
        raw.write(struct.pack("<Q", 0) * 20)
    with (
        npy2bdv.open(tmp_path / "a.xml") as dataset,
        pytest.raises(FormatError, match=r"a\.h5.*/t00000/s00/0/cells"),
    ):
        dataset.view(time=0)[...]


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no HDF5 file .*a\.h5"):
        Hdf5Container(tmp_path / "a.h5")
    with pytest.raises(NotFoundError, match=r"the folder .*nowhere does not exist"):
        Hdf5Container(tmp_path / "nowhere" / "a.h5", "x")
    with pytest.raises(FileExistsError):
        Hdf5Container(written(tmp_path), "x")


def test_setup_that_is_not_described(tmp_path: Path) -> None:
    with Hdf5Container(written(tmp_path)) as container, pytest.raises(MissingKeyError, match="setup 5"):
        container.factors(5)


# ---------------------------------------------------------------------------------------------- life


def test_pickles_without_its_file_and_opens_it_again(tmp_path: Path) -> None:
    with Hdf5Container(written(tmp_path)) as container:
        text = pickle.dumps(container)
    with pickle.loads(text) as again:
        np.testing.assert_array_equal(
            again.level(ViewId(0, 0), 0).read((slice(1, 2),) * 3), pixels_of("uint16")[1:2, 1:2, 1:2]
        )


def test_closed_container(tmp_path: Path) -> None:
    container = Hdf5Container(written(tmp_path))
    container.close()
    container.close()
    with pytest.raises(ClosedError, match="is closed"):
        _ = container.file
    with pytest.raises(ClosedError):
        _ = pickle.loads(pickle.dumps(container)).file


def test_forgotten_container_warns(tmp_path: Path) -> None:
    container = Hdf5Container(written(tmp_path))
    with pytest.warns(ResourceWarning, match="was not closed"):
        del container


def test_card() -> None:
    assert CARD.codec(None) == RAW
    assert CARD.codec("gzip") == Codec(name="gzip")
    assert CARD.codec(("gzip", 4)) == Codec(name="gzip", level=4)
    assert CARD.codec(CARD.codec("lzf")) == Codec(name="lzf")


def test_chunks_with_a_place_go_past_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads are then not in each other's way; what HDF5 reads through the same file is what was put."""
    past: list[int] = []
    put = FlushedFile.put_chunk

    def counted(self: FlushedFile, offset: int, data: Any) -> None:
        past.append(offset)
        put(self, offset, data)

    monkeypatch.setattr(FlushedFile, "put_chunk", counted)
    stack = np.random.default_rng(2).integers(0, 60000, (9, 10, 11)).astype("uint16")
    for compression, there in ((None, 3 * 3 * 3), ("gzip", 0)):
        past.clear()
        path = tmp_path / f"{compression}.h5"
        with npy2bdv.create(path, chunks=(3, 4, 4), compression=compression) as writer:
            writer.write(stack, setup=writer.add_setup(shape=stack.shape))
            writer.checkpoint()
            assert len(set(past)) == len(past) == there
            cells = writer.container.file["t00000/s00/0/cells"]  # type: ignore[attr-defined]
            assert np.array_equal(cells[...].view("uint16"), stack)
        with h5py.File(path) as file:
            assert np.array_equal(file["t00000/s00/0/cells"][...].view("uint16"), stack)
