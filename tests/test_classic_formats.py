"""The established interface over every format: what scripts do with HDF5 they do with N5 and OME-Zarr."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore
from numpy.typing import NDArray

import npy2bdv
from npy2bdv import BdvEditor, BdvWriter
from npy2bdv.errors import ExistsError, InvalidInputError, MissingKeyError

SHAPE = (11, 37, 29)
LEVELS = ((1, 1, 1), (1, 2, 2), (2, 4, 4))
BLOCK = (4, 16, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A format: how scripts ask for it, and how it looks without us."""

    name: str
    suffix: str
    read: Callable[[Path, int, int, int], NDArray[Any]]
    """Pixels of a level, by time point, setup and level."""
    codec: Callable[[Path], object]
    """How the full resolution of the first view is compressed."""
    default: str | None
    blocks: tuple[int, int, int] = (8, 256, 256)
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def by_h5py(path: Path, time: int, setup: int, level: int) -> NDArray[Any]:
    with h5py.File(path) as file:
        stored: NDArray[Any] = file[f"t{time:05d}/s{setup:02d}/{level}/cells"][()]
    return stored.view("uint16") if stored.dtype == np.int16 else stored


def by_tensorstore(driver: str, folder: Path) -> Any:
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{folder}/"}}
    return tensorstore.open(spec, read=True).result()


def from_n5(path: Path, time: int, setup: int, level: int) -> NDArray[Any]:
    found = by_tensorstore("n5", path / f"setup{setup}/timepoint{time}/s{level}").T
    return np.asarray(found.read(order="C").result())


def from_zarr(path: Path, time: int, setup: int, level: int) -> NDArray[Any]:
    folder = path / f"s{setup}-t{time}.zarr/{level}"
    driver = "zarr3" if (folder / "zarr.json").is_file() else "zarr"
    return np.asarray(by_tensorstore(driver, folder)[0, 0].read().result())


def codec_of_hdf5(path: Path) -> object:
    with h5py.File(path) as file:
        return file["t00000/s00/0/cells"].compression


def codec_of_n5(path: Path) -> object:
    told = json.loads((path / "setup0/timepoint0/s0/attributes.json").read_bytes())
    return None if told["compression"]["type"] == "raw" else told["compression"]["type"]


def codec_of_zarr2(path: Path) -> object:
    compressor = json.loads((path / "s0-t0.zarr/0/.zarray").read_bytes())["compressor"]
    return compressor and compressor["id"]


def codec_of_zarr3(path: Path) -> object:
    (shards,) = json.loads((path / "s0-t0.zarr/0/zarr.json").read_bytes())["codecs"]
    names = [each["name"] for each in shards["configuration"]["codecs"]]
    return names[1] if len(names) > 1 else None


HDF5 = Kind(name="hdf5", suffix=".h5", read=by_h5py, codec=codec_of_hdf5, default=None, blocks=(4, 256, 256))
N5 = Kind(name="n5", suffix=".n5", read=from_n5, codec=codec_of_n5, default="gzip")
ZARR2 = Kind(name="zarr2", suffix=".ome.zarr", read=from_zarr, codec=codec_of_zarr2, default="zstd")
ZARR3 = Kind(
    name="zarr3",
    suffix=".ome.zarr",
    read=from_zarr,
    codec=codec_of_zarr3,
    default="zstd",
    options={"zarr_version": 3},
)
KINDS = (HDF5, N5, ZARR2, ZARR3)
FOLDERS = (N5, ZARR2, ZARR3)
every_format = pytest.mark.parametrize("kind", KINDS, ids=str)
every_folder = pytest.mark.parametrize("kind", FOLDERS, ids=str)


def stack_of(seed: int = 0, dtype: str = "uint16", shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(1, 100, shape).astype(dtype)


def writer_of(folder: Path, kind: Kind, **options: Any) -> BdvWriter:
    return BdvWriter(str(folder / f"a{kind.suffix}"), **{"blockdim": (BLOCK,), **kind.options, **options})


def everything(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def check(path: Path, kind: Kind, pixels: NDArray[Any], time: int = 0, setup: int = 0) -> None:
    for level, factors in enumerate(LEVELS):
        np.testing.assert_array_equal(
            kind.read(path, time, setup, level), npy2bdv.downsample(pixels, factors)
        )


# ------------------------------------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("name", "options", "pixels", "kind"),
    [
        ("a.h5", {}, "a.h5", HDF5),
        ("a.xml", {}, "a.h5", HDF5),
        ("a.n5", {}, "a.n5", N5),
        ("a.zarr", {}, "a.zarr", ZARR2),
        ("a.ome.zarr", {}, "a.ome.zarr", ZARR2),
        ("a.OME.Zarr", {"zarr_version": 2}, "a.OME.Zarr", ZARR2),
        ("a.zarr", {"zarr_version": 3}, "a.zarr", ZARR3),
        ("a.ome.zarr", {"format": "omezarr", "zarr_version": 3}, "a.ome.zarr", ZARR3),
        ("a.xml", {"format": "n5"}, "a.n5", N5),
        ("a.xml", {"format": "omezarr"}, "a.ome.zarr", ZARR2),
        ("a.xml", {"zarr_version": 3}, "a.ome.zarr", ZARR3),
    ],
)
def test_name_and_format_choose(
    tmp_path: Path, name: str, options: dict[str, Any], pixels: str, kind: Kind
) -> None:
    """The XML has the same stem; block and codec that are not given are those of the format."""
    with BdvWriter(str(tmp_path / name), **options) as writer:
        writer.append_view(stack_of())
        assert Path(writer.filename_h5) == tmp_path / pixels
        assert Path(writer.filename_xml) == tmp_path / "a.xml"
        assert writer.compression == kind.default
        assert tuple(writer.chunks[0]) == kind.blocks
        assert set(writer.compressions_supported) >= {None, "gzip"}
    assert {each.name for each in tmp_path.iterdir()} == {pixels, "a.xml"}
    np.testing.assert_array_equal(kind.read(tmp_path / pixels, 0, 0, 0), stack_of())
    assert kind.codec(tmp_path / pixels) == kind.default
    for opened in (pixels, "a.xml"):
        with BdvEditor(str(tmp_path / opened), mode="r") as editor:
            assert Path(editor.filename_h5) == tmp_path / pixels
            np.testing.assert_array_equal(editor.read_view(), stack_of())


@every_format
@pytest.mark.parametrize("compression", [None, "gzip", ("gzip", 3)])
def test_a_compression_that_is_given_is_taken(tmp_path: Path, kind: Kind, compression: Any) -> None:
    """None means raw, whatever the default of the format is."""
    with writer_of(tmp_path, kind, compression=compression) as writer:
        writer.append_view(stack_of())
        assert writer.compression == compression
    path = Path(writer.filename_h5)
    assert kind.codec(path) == ("gzip" if compression else None)
    np.testing.assert_array_equal(kind.read(path, 0, 0, 0), stack_of())


@every_format
def test_the_published_blocks_may_be_given(tmp_path: Path, kind: Kind) -> None:
    with writer_of(tmp_path, kind, blockdim=((4, 256, 256),)) as writer:
        writer.append_view(stack_of())
        assert tuple(writer.chunks[0]) == (4, 256, 256)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view().level(0).chunks == (4, *SHAPE[1:])


@every_format
def test_an_existing_xml_chooses(tmp_path: Path, kind: Kind) -> None:
    with writer_of(tmp_path, kind) as writer:
        writer.append_view(stack_of())
    with BdvWriter(str(tmp_path / "a.xml"), overwrite=True) as writer:
        writer.append_view(stack_of(1))
        assert Path(writer.filename_h5).suffix == Path(f"a{kind.suffix}").suffix
    assert {each.name for each in tmp_path.iterdir()} == {f"a{kind.suffix}", "a.xml", "a.xml~1"}
    with BdvEditor(str(tmp_path / "a.xml")) as editor:
        np.testing.assert_array_equal(editor.read_view(), stack_of(1))


# ------------------------------------------------------------------------------------------ a recording


@every_format
def test_a_recording_with_all_calls(tmp_path: Path, kind: Kind) -> None:
    """Whole stacks, planes in any order, blocks, several views at once, views that never come."""
    matrix = np.array([[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0]], float)
    with writer_of(tmp_path, kind, subsamp=LEVELS, nchannels=3, ntiles=2) as writer:
        writer.set_attribute_labels("channel", ("488", "561", "640"))
        writer.append_view(
            stack_of(0), voxel_size_xyz=(0.3, 0.3, 1), voxel_units="um", calibration=(1, 1, 10 / 3)
        )
        for tile in (0, 1):
            writer.append_view(
                None, virtual_stack_dim=SHAPE, channel=1, tile=tile, m_affine=matrix, name_affine="stage"
            )
        for z in np.random.default_rng(0).permutation(SHAPE[0]).tolist():
            for tile in (0, 1):
                writer.append_plane(stack_of(1 + tile)[z], z, channel=1, tile=tile)
        assert writer.checkpoint() == {(0, 0): 11, (0, 2): 11, (0, 3): 11}
        writer.append_view(None, virtual_stack_dim=SHAPE, time=1, channel=2)
        for y in range(0, SHAPE[1], 10):
            writer.append_substack(stack_of(3)[:, y : y + 10], 0, y_start=y, time=1, channel=2)
        writer._file_object_h5.flush()  # as scripts do now and then
        writer.write_xml(camera_name="Flash", microscope_name="mesoSPIM")
        writer.append_affine(matrix, "drift", channel=1)
        np.testing.assert_array_equal(writer.read_affine(channel=1, index=1), matrix)
        assert writer.setup_id_present == [
            [True, False, True, True, False, False],
            [False] * 4 + [True, False],
        ]
    path = Path(writer.filename_h5)
    views = {(0, 0): 0, (0, 2): 1, (0, 3): 2, (1, 4): 3}
    for (time, setup), seed in views.items():
        check(path, kind, stack_of(seed), time, setup)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "a.xml"}
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert {tuple(view.id) for view in dataset.views()} == set(views)
        assert len(dataset.missing_views) == 2 * 6 - 4
        view = dataset.view(time=0, channel="561", tile=1)
        assert [each.name for each in view.transforms] == ["stage", "calibration"]


@every_format
def test_the_editor_reads_and_edits(tmp_path: Path, kind: Kind) -> None:
    with writer_of(tmp_path, kind, subsamp=LEVELS, nchannels=2) as writer:
        for channel in (0, 1):
            writer.append_view(stack_of(channel), channel=channel, voxel_size_xyz=(0.3, 0.3, 1))
        writer.append_view(stack_of(2), time=1, voxel_size_xyz=(0.3, 0.3, 1))
    path, matrix = Path(writer.filename_h5), np.eye(3, 4) * 2
    before = everything(path) if path.is_dir() else path.read_bytes()
    with BdvEditor(str(path)) as editor:
        assert (editor.nlevels, editor.dtype.name) == (3, "uint16")
        assert editor.get_attribute_count() == (2, 1, 2, 1, 1)
        np.testing.assert_array_equal(editor.read_view(channel=1, z=5), stack_of(1)[5])
        np.testing.assert_array_equal(
            editor.read_view(time=1, ilevel=2), npy2bdv.downsample(stack_of(2), LEVELS[2])
        )
        assert editor.get_view_property("voxel_size") == (0.3, 0.3, 1)
        assert editor.get_view_property("view_shape") == SHAPE[::-1]
        with pytest.raises(MissingKeyError, match="missing view"):
            editor.read_view(time=1, channel=1)
        editor.append_affine(matrix, channel=1)
        np.testing.assert_array_equal(editor.read_affine(channel=1), matrix)
    assert (everything(path) if path.is_dir() else path.read_bytes()) == before
    with BdvEditor(str(tmp_path / "a.xml"), mode="r") as editor:
        np.testing.assert_array_equal(editor.read_affine(channel=1), matrix)
        np.testing.assert_array_equal(editor.read_view(time=1), stack_of(2))


@every_format
def test_create_pyramids(tmp_path: Path, kind: Kind) -> None:
    """Over full views, views in part, and before views that come later."""
    with writer_of(tmp_path, kind) as writer:
        writer.append_view(stack_of(0))
        writer.append_view(None, virtual_stack_dim=SHAPE, time=1)
        writer.append_plane(stack_of(1)[0], 0, time=1)
        writer.create_pyramids(LEVELS[1:], (BLOCK,), compression="gzip")
        for z in range(1, SHAPE[0]):
            writer.append_plane(stack_of(1)[z], z, time=1)
        writer.append_view(stack_of(2), time=2)
        assert writer.nlevels == 3
    for time in range(3):
        check(Path(writer.filename_h5), kind, stack_of(time), time)


@every_format
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "float32", "float64"])
def test_pixel_types(tmp_path: Path, kind: Kind, dtype: str) -> None:
    with writer_of(tmp_path, kind, subsamp=LEVELS, dtype=dtype) as writer:
        assert dtype in writer.dtypes_supported
        writer.append_view(stack_of(0, dtype))
    with BdvEditor(str(tmp_path / "a.xml")) as editor:
        assert editor.dtype == dtype
        for level, factors in enumerate(LEVELS):
            expected = npy2bdv.downsample(stack_of(0, dtype), factors)
            np.testing.assert_array_equal(editor.read_view(ilevel=level), expected)


@every_format
def test_setups_of_other_shapes_and_a_view_again(tmp_path: Path, kind: Kind) -> None:
    shapes = (SHAPE, (3, 50, 70))
    with writer_of(tmp_path, kind, subsamp=LEVELS, nangles=2) as writer:
        for angle, shape in enumerate(shapes):
            writer.append_view(stack_of(9, shape=shape), angle=angle)
        for angle, shape in enumerate(shapes):
            writer.append_view(stack_of(angle, shape=shape), angle=angle)
    for setup, shape in enumerate(shapes):
        check(Path(writer.filename_h5), kind, stack_of(setup, shape=shape), setup=setup)


@every_format
@pytest.mark.parametrize("name", ["embryo day 2", "größe #3", "50% off", "a%20b", "l" * 120])
def test_names(tmp_path: Path, kind: Kind, name: str) -> None:
    folder = tmp_path / f"in {name[:20]}"
    folder.mkdir()
    with BdvWriter(str(folder / f"{name}{kind.suffix}"), **kind.options) as writer:
        writer.append_view(stack_of())
    for opened in (writer.filename_h5, writer.filename_xml):
        with BdvEditor(opened) as editor:
            assert editor.filename_h5 == str(folder / f"{name}{kind.suffix}")
            np.testing.assert_array_equal(editor.read_view(), stack_of())
            editor.append_affine(np.eye(3, 4))


# ---------------------------------------------------------------------------------------- what cannot be


@every_format
def test_overwrite_is_asked_for(tmp_path: Path, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    with writer_of(tmp_path, kind) as writer:
        writer.append_view(stack_of(), time=1)
    before = everything(tmp_path)
    with pytest.raises(ExistsError, match="overwrite=True"):
        writer_of(tmp_path, kind)
    assert everything(tmp_path) == before
    with caplog.at_level(logging.WARNING), writer_of(tmp_path, kind, overwrite=True) as writer:
        writer.append_view(stack_of(1))
    assert "already exists, overwriting" in caplog.text
    np.testing.assert_array_equal(kind.read(Path(writer.filename_h5), 0, 0, 0), stack_of(1))
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert len(dataset) == 1


@every_folder
def test_no_folder_of_another_kind_is_replaced(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / f"a{kind.suffix}"
    path.mkdir()
    (path / "thesis.txt").write_text("precious")
    with pytest.raises(ExistsError, match="no dataset that could be replaced"):
        writer_of(tmp_path, kind, overwrite=True)
    assert everything(tmp_path) == {str(Path(path.name, "thesis.txt")): b"precious"}


@every_folder
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": "lzf"}, "'lzf' is not known"),
        ({"compression": ("gzip", 10)}, "level 10 is not known"),
        ({"dtype": "complex64"}, "complex64"),
        ({"blockdim": ((2**10, 2**10, 2**10),)}, "2147483648 bytes.*smaller one"),
        ({"format": "hdf5", "zarr_version": None}, "format='hdf5' was asked for"),
        ({"format": "tiff"}, "format 'tiff' is not known"),
        ({"zarr_version": 4}, "zarr_version=4 is not known"),
    ],
)
def test_nothing_changes_where_it_cannot_be(
    tmp_path: Path, kind: Kind, options: dict[str, Any], message: str
) -> None:
    with writer_of(tmp_path, kind) as writer:
        writer.append_view(stack_of())
    before = everything(tmp_path)
    with pytest.raises(InvalidInputError if "dtype" not in options else TypeError, match=message):
        writer_of(tmp_path, kind, overwrite=True, **options)
    assert everything(tmp_path) == before


@every_folder
def test_without_tensorstore_nothing_is_begun(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer_of(tmp_path, kind) as writer:
        writer.append_view(stack_of())
    before = everything(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(InvalidInputError, match=r'tensorstore, .*pip install "npy2bdv\[zarr\]"'):
        writer_of(tmp_path, kind, overwrite=True)
    with (
        pytest.raises(InvalidInputError, match=r'tensorstore, .*pip install "npy2bdv\[zarr\]"'),
        BdvEditor(writer.filename_h5) as editor,
    ):
        editor.read_view()
    assert everything(tmp_path) == before


@every_folder
def test_there_is_no_h5py_object(tmp_path: Path, kind: Kind) -> None:
    with writer_of(tmp_path, kind) as writer:
        writer.append_view(stack_of())
        assert writer._file_object_h5
        with pytest.raises(InvalidInputError, match="is no HDF5 file; there is no h5py object for"):
            writer._file_object_h5["t00000"]
    with BdvEditor(writer.filename_h5) as editor:
        assert editor._file_object_h5 is None
