"""Plain arrays by their path, written by other libraries: HDF5, N5, Zarr, OME-Zarr, dask."""

import re
import sys
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import pytest
import tensorstore
import zarr
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import BdvError, FormatError, InvalidInputError, MissingKeyError, NotFoundError
from npy2bdv.sources import arrays, open_source

z5py: Any = pytest.importorskip("z5py") if sys.platform == "linux" else None

rng = np.random.default_rng(2)
SHAPE = (9, 11, 13)


def stack(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return rng.integers(0, 250, shape or SHAPE).astype(dtype)


def assert_converted(source: Path | str, out: Path, expected: NDArray[Any], **how: Any) -> npy2bdv.View:
    """Convert into a dataset and compare its views, (c, z, y, x)."""
    path = npy2bdv.resave(source, out, **how)
    with npy2bdv.open(path) as dataset:
        views = list(dataset.views())
        assert len(views) == len(expected)
        for view, pixels in zip(views, expected, strict=True):
            assert view.dtype == pixels.dtype
            np.testing.assert_array_equal(view[:], pixels)
        return views[0]


# HDF5


@pytest.mark.parametrize("chunks", [None, (4, 5, 6)])
@pytest.mark.parametrize("inner", ["", "/a/volume"])
def test_hdf5_datasets(tmp_path: Path, inner: str, chunks: Any) -> None:
    pixels = stack()
    with h5py.File(tmp_path / "in.h5", "w") as file:
        image = file.create_dataset("a/volume", data=pixels, chunks=chunks)
        image.attrs["element_size_um"] = (2.0, 0.5, 0.25)
        file["a/table"] = np.arange(5)
    before = (tmp_path / "in.h5").read_bytes()
    view = assert_converted(f"{tmp_path}/in.h5{inner}", tmp_path / "out.xml", pixels[None])
    assert (view.voxel_size_xyz, view.unit) == ((0.25, 0.5, 2.0), "micrometer")
    assert (tmp_path / "in.h5").read_bytes() == before


def test_axes_that_hdf5_labels(tmp_path: Path) -> None:
    pixels = stack(*SHAPE, 2)
    with h5py.File(tmp_path / "in.hdf5", "w") as file:
        file["data"] = pixels
        for dimension, label in zip(file["data"].dims, ("z", "y", "x", "channel"), strict=True):
            dimension.label = label
    assert_converted(tmp_path / "in.hdf5" / "data", tmp_path / "out.xml", np.moveaxis(pixels, -1, 0))


def test_cells_of_bigdataviewer_without_their_xml_are_told(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        writer.write(stack(), setup=writer.add_setup(shape=SHAPE))
    with open_source(tmp_path / "scan.h5" / "t00000" / "s00" / "0" / "cells") as source:
        assert ["Give the XML" in note for note in source.notes] == [source.views[0].dtype == np.int16]


# N5


@pytest.mark.parametrize("codec", ["gzip", "blosc", "raw"])
@pytest.mark.parametrize("place", ["a.n5/volume/s0", "a.n5/volume", "a.n5"])
def test_n5_datasets_of_z5py(tmp_path: Path, place: str, codec: str) -> None:
    pixels = stack()
    with z5py.File(str(tmp_path / "a.n5"), "w", use_zarr_format=False) as file:
        image = file.create_dataset("volume/s0", data=pixels, chunks=(4, 5, 6), compression=codec)
        image.attrs["resolution"] = [0.25, 0.5, 2.0]
        image.attrs["units"] = ["um", "um", "um"]
    view = assert_converted(tmp_path / place, tmp_path / "out.xml", pixels[None])
    assert (view.voxel_size_xyz, view.unit) == ((0.25, 0.5, 2.0), "micrometer")


def test_n5_of_tensorstore_with_axes_and_resolution(tmp_path: Path) -> None:
    pixels = stack(2, *SHAPE)
    spec = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": f"{tmp_path}/a.n5/"},
        "metadata": {
            "dimensions": [*reversed(pixels.shape)],
            "blockSize": [6, 5, 4, 1],
            "dataType": "uint16",
            "compression": {"type": "raw"},
            "axes": ["x", "y", "z", "c"],
            "pixelResolution": {"dimensions": [0.25, 0.5, 2.0, 1.0], "unit": "µm"},
        },
    }
    tensorstore.open(spec, create=True).result().write(pixels.T).result()
    view = assert_converted(tmp_path / "a.n5", tmp_path / "out.xml", pixels)
    assert (view.voxel_size_xyz, view.unit) == ((0.25, 0.5, 2.0), "micrometer")


# Zarr


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("place", ["a.zarr", "a.zarr/deep/array"])
def test_zarr_arrays(tmp_path: Path, version: Any, place: str) -> None:
    pixels = stack(dtype="float32")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    group.create_array("deep/array", shape=SHAPE, chunks=(4, 5, 6), dtype="float32")[:] = pixels
    assert_converted(tmp_path / place, tmp_path / "out.xml", pixels[None])


def test_sharded_zarr_with_named_dimensions(tmp_path: Path) -> None:
    pixels = stack(*SHAPE, 2)
    made = zarr.create_array(
        tmp_path / "a.zarr",
        shape=pixels.shape,
        chunks=(3, 4, 5, 1),
        shards=(9, 12, 15, 2),
        dtype="uint16",
        dimension_names=["z", "y", "x", "c"],
    )
    made[:] = pixels
    assert_converted(tmp_path / "a.zarr", tmp_path / "out.xml", np.moveaxis(pixels, -1, 0))


def test_dimensions_as_xarray_names_them(tmp_path: Path) -> None:
    pixels = stack(2, *SHAPE)
    made = zarr.create_array(
        tmp_path / "a", shape=pixels.shape, chunks=(1, 4, 5, 6), dtype="uint16", zarr_format=2
    )
    made[:] = pixels
    made.attrs["_ARRAY_DIMENSIONS"] = ["channel", "z", "y", "x"]
    assert_converted(tmp_path / "a", tmp_path / "out.xml", pixels)


# OME-Zarr


def write_image(path: Path, pixels: NDArray[Any], version: int, **more: Any) -> None:
    """Write an OME-Zarr image (c, z, y, x) of two levels with zarr-python."""
    space = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    place = {"type": "translation", "translation": [0.0, 30.0, -20.0, 10.0]}
    image = {
        "axes": [{"name": "c", "type": "channel"}, *space],
        "datasets": [
            {
                "path": f"level{k}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, 2.0, 0.5 * 2**k, 0.25 * 2**k]},
                    place,
                ],
            }
            for k in range(2)
        ],
    } | more
    attributes: dict[str, Any] = {
        "multiscales": [image if version == 3 else image | {"version": "0.4"}],
        "omero": {"channels": [{"label": "GFP"}, {"label": "561"}]},
    }
    if version == 3:
        attributes = {"ome": attributes | {"version": "0.5"}}
    group = zarr.open_group(path, mode="w", zarr_format=version, attributes=attributes)  # type: ignore[arg-type]
    for k, level in enumerate((pixels, pixels[..., ::2, ::2])):
        made = group.create_array(f"level{k}", shape=level.shape, chunks=(1, 4, 5, 6), dtype=level.dtype)
        made[:] = level


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("suffix", ["", ".zarr", ".ome.zarr"])
def test_images_of_ome_zarr(tmp_path: Path, version: int, suffix: str) -> None:
    pixels = stack(2, *SHAPE)
    write_image(tmp_path / f"image{suffix}", pixels, version)
    view = assert_converted(tmp_path / f"image{suffix}", tmp_path / "out.xml", pixels)
    assert (view.voxel_size_xyz, view.unit) == ((0.25, 0.5, 2.0), "micrometer")
    with npy2bdv.open(tmp_path / "out.xml") as dataset:
        assert dataset.labels("channel") == {0: "GFP", 1: "561"}
        # the world is in pixels of 0.25 um
        expected = [[1, 0, 0, 40], [0, 2, 0, -80], [0, 0, 8, 120]]
        np.testing.assert_allclose(np.asarray(dataset.view(channel=1).transform)[:3], expected)


def test_scales_of_a_whole_image_come_after_those_of_a_level(tmp_path: Path) -> None:
    whole = {"coordinateTransformations": [{"type": "scale", "scale": [1.0, 10.0, 10.0, 10.0]}]}
    write_image(tmp_path / "image", stack(2, *SHAPE), 2, **whole)
    with open_source(tmp_path / "image") as source:
        assert source.views[0].voxel_size_xyz == (2.5, 5.0, 20.0)
        assert source.views[0].position_xyz == (100.0, -200.0, 300.0)


@pytest.mark.parametrize("version", [2, 3])
def test_what_we_export_is_read_as_an_image(tmp_path: Path, version: int) -> None:
    pixels = stack()
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        setup = writer.add_setup(shape=SHAPE, channel="488", voxel_size_xyz=(0.25, 0.5, 2.0))
        writer.write(pixels, setup=setup)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        npy2bdv.export(dataset.view(), tmp_path / "one.ome.zarr", zarr_version=version)
    (tmp_path / "out").mkdir()
    view = assert_converted(tmp_path / "one.ome.zarr", tmp_path / "out" / "again.xml", pixels[None])
    assert view.voxel_size_xyz == (0.25, 0.5, 2.0)


# Bad paths


def _two_arrays(folder: Path) -> None:
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    for name in ("one", "two"):
        group.create_array(name, shape=SHAPE, dtype="uint8")
    with h5py.File(folder / "a.h5", "w") as file:
        file["one"], file["g/two"], file["list"] = stack(), stack(), [1, 2]
        file["words"], file["four"] = np.array([[b"a"]]), stack(2, 3, 4, 5)
    (folder / "cut.h5").write_bytes((folder / "a.h5").read_bytes()[:900])
    (folder / "bad.zarr").mkdir()
    (folder / "bad.zarr" / ".zarray").write_text('{"zarr_format": 2}')
    (folder / "worse.zarr").mkdir()
    (folder / "worse.zarr" / "zarr.json").write_text('{"zarr_format": 3')
    (folder / "lost.zarr").mkdir()
    (folder / "lost.zarr" / ".zattrs").write_text('{"multiscales": [{"datasets": [{"path": "0"}]}]}')
    (folder / "none.zarr").mkdir()
    (folder / "none.zarr" / ".zattrs").write_text('{"multiscales": [{}]}')
    (folder / "odd.zarr").mkdir()
    (folder / "odd.zarr" / ".zgroup").write_text("{}")


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("a.zarr", MissingKeyError, "several arrays; there are one, two: name one, as in a.zarr/one"),
        ("a.zarr/three", MissingKeyError, "no array three; there are one, two"),
        ("a.h5", MissingKeyError, "several arrays; there are four, g/two, one: name one, as in a.h5/four"),
        ("a.h5/g/three", MissingKeyError, "no dataset g/three"),
        ("a.h5/list", InvalidInputError, "an array of 1 axes"),
        ("a.h5/four", InvalidInputError, "pass axes='czyx'"),
        ("cut.h5", FormatError, "cannot be read as HDF5"),
        ("bad.zarr", FormatError, "bad.zarr cannot be read"),
        ("worse.zarr", FormatError, "zarr.json cannot be read"),
        ("lost.zarr", FormatError, "names the level '0', which is no array"),
        ("none.zarr", FormatError, "the metadata of the image"),
        ("odd.zarr", MissingKeyError, "holds no image"),
        ("absent/a.tif", NotFoundError, "there is no file"),
        ("a.h5:/one", NotFoundError, "there is no file"),
    ],
)
def test_paths_of_no_array(tmp_path: Path, place: str, error: type[BdvError], message: str) -> None:
    (tmp_path / "in").mkdir()
    _two_arrays(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=re.escape(message)):
        npy2bdv.resave(tmp_path / "in" / place, tmp_path / "out.xml")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_block_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    made = zarr.create_array(tmp_path / "a", shape=SHAPE, chunks=SHAPE, dtype="uint16", zarr_format=2)
    made[:] = stack()
    (block,) = (each for each in (tmp_path / "a").iterdir() if not each.name.startswith(".z"))
    block.write_bytes(block.read_bytes()[:20])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FormatError, match="a file is damaged or was cut short"):
        npy2bdv.resave(tmp_path / "a", tmp_path / "out.xml")
    assert sorted(tmp_path.rglob("*")) == before


# dask


def counted(shape: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[Any, list[Any], NDArray[Any]]:
    """Make a dask array that notes which of its blocks are computed."""
    pixels = stack(*shape)
    seen: list[Any] = []

    def block(block_info: Any = None) -> NDArray[Any]:
        where = block_info[None]["array-location"]
        seen.append(tuple(where))
        return pixels[tuple(slice(*each) for each in where)]

    made: Any = dask.array
    blocks = made.core.normalize_chunks(chunks, shape)
    return made.map_blocks(block, chunks=blocks, dtype="uint16", meta=pixels[:0]), seen, pixels


@pytest.mark.parametrize("depth", [1, 3, 7, 20])
def test_dask_is_computed_block_by_block_and_once(tmp_path: Path, depth: int) -> None:
    array, seen, pixels = counted((20, 8, 9), (depth, 4, 9))
    with open_source(array) as source:
        assert not seen  # lazy until pixels are asked for
        (view,) = source.views
        np.testing.assert_array_equal(source.read(view, 0, 1), pixels[:1])
        assert {where[0] for where in seen} == {(0, depth)}
        for z in range(0, 20, 2):
            np.testing.assert_array_equal(source.read(view, z, z + 2), pixels[z : z + 2])
    if depth > 2:
        crossing = {k for k in range(depth, 20, depth) if k % 2}  # rows of blocks that a reading straddles
        again = sum(seen.count(each) - 1 for each in set(seen))
        assert again <= 4 * (len(crossing) + 1)


def test_rows_of_blocks_that_are_too_large_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_ROW_BYTES", 1000)
    asked: list[int] = []

    class Wide:
        shape, dtype, chunks = (20, 8, 9), np.dtype("uint16"), (10, 8, 9)

        def __getitem__(self, key: Any) -> NDArray[Any]:
            asked.append(key[0].stop - key[0].start)
            return np.zeros((asked[-1], 8, 9), "uint16")

    with open_source(Wide()) as source:
        for z in range(0, 20, 2):
            source.read(source.views[0], z, z + 2)
    assert asked == [2] * 10
