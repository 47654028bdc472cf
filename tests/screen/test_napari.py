"""The plugin in napari, on a screen: run with xvfb-run in an environment that has napari."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npy2bdv
from npy2bdv import Affine, ViewTransform

if os.environ.get("NPY2BDV_REQUIRE_SCREEN") != "1" and (
    importlib.util.find_spec("napari") is None or not os.environ.get("DISPLAY")
):
    pytest.skip("napari or a display is missing", allow_module_level=True)

# What napari and Qt warn of is theirs.
pytestmark = pytest.mark.filterwarnings("default")

BLOBS = {0: (30, 40), 1: (70, 20)}  # (y, x) by time, in pixels of full resolution
PLACE = Affine.translation((100, -50, 0)) @ Affine.scale((1, 1, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path, levels=[(1, 1, 1), (1, 2, 2), (1, 4, 4)]) as writer:
        setup = writer.add_setup(
            shape=(5, 96, 128),
            voxel_size_xyz=(0.5, 0.5, 1.5),
            unit="micrometer",
            transform=[ViewTransform(affine=PLACE, name="place")],
            calibration=None,
        )
        for time, (y, x) in BLOBS.items():
            stack = np.zeros((5, 96, 128), "uint16")
            stack[:, y - 4 : y + 4, x - 4 : x + 4] = 1000
            writer.write(stack, setup=setup, time=time)
    return path


@pytest.fixture
def viewer() -> Any:
    import napari

    viewer = napari.Viewer(show=True)
    yield viewer
    viewer.close()


def settle() -> None:
    import time

    from qtpy.QtWidgets import QApplication

    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.02)


def centre_in_world(viewer: Any) -> Any:
    """Return where the bright pixels of the screenshot lie in the world (y, x)."""
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].max(axis=2)
    assert picture.max() > 64, "the picture is black"
    rows, columns = np.nonzero(picture > 64)
    height, width = picture.shape
    shift = np.array([rows.mean() + 0.5 - height / 2, columns.mean() + 0.5 - width / 2])
    return np.array(viewer.camera.center[-2:]) + shift / viewer.camera.zoom


@pytest.mark.parametrize("zoom", [8.0, 0.7, 0.3])
def test_blobs_are_where_the_affine_puts_them(path: Path, viewer: Any, zoom: float) -> None:
    viewer.open(str(path), plugin="npy2bdv")
    (layer,) = viewer.layers
    levels = set()
    for time, (y, x) in BLOBS.items():
        viewer.dims.set_point(0, time)
        # a block of 8 pixels from y - 4 to y + 3 has its centre half a pixel before y
        wanted = (np.array([y - 50, x + 100]) - 0.5) * 0.5
        viewer.camera.center = (0, *(wanted + 3))
        viewer.camera.zoom = zoom
        settle()
        levels.add(layer.data_level)
        assert np.abs(centre_in_world(viewer) - wanted).max() < max(0.06, 0.75 / zoom), layer.data_level
    assert levels == {{8.0: 0, 0.7: 1, 0.3: 2}[zoom]}  # as coarse as the screen


@pytest.mark.parametrize("level", [0, 1, 2])
def test_coarse_levels_lie_on_full_resolution(path: Path, viewer: Any, level: int) -> None:
    viewer.open(str(path), plugin="npy2bdv")
    (layer,) = viewer.layers
    layer.locked_data_level = level
    viewer.dims.set_point(0, 0)
    wanted = (np.array([30 - 50, 40 + 100]) - 0.5) * 0.5
    viewer.camera.center = (0, *(wanted + 3))
    viewer.camera.zoom = 16
    settle()
    assert layer.data_level == level
    # the slip of half a coarse pixel would be 0.25 at level 1, 0.75 at level 2
    assert np.abs(centre_in_world(viewer) - wanted).max() < 0.06


def test_the_manifest_and_the_sample(viewer: Any) -> None:
    import npe2

    manifest = npe2.PluginManifest.from_distribution("npy2bdv")
    manifest.validate_imports()
    viewer.open_sample("npy2bdv", "recording")
    viewer.reset_view()
    settle()
    assert [layer.name for layer in viewer.layers][:5:4] == ["channel 488, tile 0", "channel 561, tile 0"]
    assert len(viewer.layers) == 8
    picture = viewer.screenshot(canvas_only=True, flash=False)
    assert picture[..., 1].max() > 128
    assert picture[..., 0].max() > 128
    target = os.environ.get("NPY2BDV_SCREENSHOTS")
    if target:
        import imageio.v3

        imageio.v3.imwrite(Path(target) / "napari.png", viewer.screenshot(canvas_only=False, flash=False))
