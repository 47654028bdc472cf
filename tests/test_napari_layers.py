"""Layers for napari, made without napari."""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

import npy2bdv
from npy2bdv import Affine, ViewTransform
from npy2bdv.views.plugin import get_reader, read, sample

VOXEL = (0.4, 0.4, 1.2)
SHEAR = Affine(values=(1, 0.1, 0.3, 7, 0, 1, -0.2, -3, 0.05, 0, 1, 11))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two channels, three time points; (1, 1) is missing, and setup 0 moves at the last."""
    path = tmp_path / "scan.xml"
    moved = [ViewTransform(affine=Affine.translation((5, 0, 0)), name="moved")]
    with npy2bdv.create(path, levels=[(1, 1, 1), (1, 2, 2)]) as writer:
        for channel in ("488", "561"):
            writer.add_setup(
                shape=(4, 20, 24),
                channel=channel,
                voxel_size_xyz=VOXEL,
                unit="micrometer",
                transform=[ViewTransform(affine=SHEAR, name="shear")],
            )
        for time, setup in ((0, 0), (0, 1), (1, 0), (2, 0), (2, 1)):
            stack = np.full((4, 20, 24), 100, "uint16")
            stack[2, 8, 10] = 1000 + 10 * time + setup
            last = moved if (time, setup) == (2, 0) else None
            writer.write(stack, setup=setup, time=time, transform=last)
    return path


def test_pixels_lie_where_the_dataset_says(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        layers = npy2bdv.napari_layers(dataset)
        for levels, arguments, kind in layers:
            assert kind == "image"
            first = arguments["metadata"]["first_time"]
            view = dataset.view(time=first, setup=arguments["metadata"]["setup"])
            (z, y, x) = np.argwhere(levels[0][0] > 900)[0]
            t, *place = (arguments["affine"] @ [0, z, y, x, 1])[:4]
            wanted = view.pixel_to_world((x, y, z)) * 0.4  # a unit of the world is the smallest voxel size
            np.testing.assert_allclose(place[::-1], wanted, rtol=0, atol=1e-9)
            assert t == first
            assert arguments["units"] == ("pixel", "micrometer", "micrometer", "micrometer")
            assert arguments["axis_labels"] == ("t", "z", "y", "x")
        assert "napari" not in sys.modules


def test_a_layer_for_each_run_of_the_same_transform(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        layers = npy2bdv.napari_layers(dataset)
        found = [
            (arguments["metadata"]["setup"], levels[0].shape[0], arguments["affine"][0, 4])
            for levels, arguments, _ in layers
        ]
        assert found == [(0, 2, 0), (0, 1, 2), (1, 3, 0)]
        assert [arguments["colormap"] for _, arguments, _ in layers] == ["green", "green", "magenta"]
        assert {arguments["blending"] for _, arguments, _ in layers} == {"additive"}


def test_a_missing_view_is_zeros_and_indices_are_those_of_numpy(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        levels = npy2bdv.napari_layers(dataset)[2][0]
        assert [level.shape for level in levels] == [(3, 4, 20, 24), (3, 4, 10, 12)]
        whole = np.asarray(levels[0])
        assert not whole[1].any()
        assert whole[0].any()
        for index in (
            0,
            -1,
            (1, 2),
            (2, 2, slice(3, 9)),
            (..., 10),
            (slice(0, 2), 2),
            (0, ..., slice(None, None, 2)),
        ):
            np.testing.assert_array_equal(levels[0][index], whole[index])
        with pytest.raises(IndexError):
            levels[0][3]


def test_the_reader_takes_datasets_only(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.xml"
    other.write_text("<?xml version='1.0'?><OME/>", "utf-8")
    assert get_reader(str(other)) is None
    assert get_reader(str(tmp_path / "absent.xml")) is None
    assert get_reader(str(tmp_path)) is None
    assert get_reader([str(path), str(path)]) is None
    assert get_reader(str(path)) is read
    assert get_reader([str(path.with_suffix(".h5"))]) is read


def test_files_close_when_the_last_layer_goes(path: Path) -> None:
    layers = read(str(path))
    dataset = layers[0][0][0]._views[0].dataset  # type: ignore[union-attr]
    kept = layers.pop()
    del layers
    gc.collect()
    assert kept[0][0][0].any()
    del kept
    gc.collect()
    with pytest.raises(npy2bdv.BdvError, match="is closed"):
        dataset.view(setup=0)[0]


def test_the_sample_has_a_layer_for_each_channel_and_tile() -> None:
    layers = sample()
    assert len(layers) == 8
    low, high = layers[0][1]["contrast_limits"]
    assert 50 < low < high < 5000
    folder = layers[0][0][0]._views[0].dataset.path.parent  # type: ignore[union-attr]
    assert folder.is_dir()
    del layers
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("name", ["scan.n5", "scan.ome.zarr"])
def test_the_reader_takes_folders_of_pixels_with_an_xml_beside(tmp_path: Path, name: str) -> None:
    npy2bdv.resave(np.full((3, 8, 9), 7, "uint16"), tmp_path / name)
    reader = get_reader(str(tmp_path / name))
    assert reader is read
    ((levels, _, _),) = reader(str(tmp_path / name))
    assert (levels[0][0] == 7).all()
    (xml,) = tmp_path.glob("*.xml")
    xml.unlink()
    assert get_reader(str(tmp_path / name)) is None
