"""The browser view, in a browser: headless Chromium draws it, and its picture is measured."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npy2bdv
from npy2bdv import Affine, ViewTransform

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if os.environ.get("NPY2BDV_REQUIRE_SCREEN") != "1" and not (CHROMIUM and DRIVER):
    pytest.skip("chromium or its driver is missing", allow_module_level=True)
neuroglancer = pytest.importorskip("neuroglancer", exc_type=ImportError)

# What selenium warns of is its own.
pytestmark = pytest.mark.filterwarnings("default")

FLAGS = (
    "headless=new", "no-sandbox", "use-gl=angle", "use-angle=swiftshader", "enable-unsafe-swiftshader",
    "disable-background-networking", "disable-component-update", "disable-sync", "no-first-run", "disable-quic",
    "window-size=900,700",
)  # fmt: skip
SIZE = (800, 600)  # of a picture, x and y
BLOBS = {(0, 0): (3, 30, 40), (1, 0): (3, 70, 20), (0, 1): (1, 20, 100), (1, 1): (5, 50, 60)}
"""Centres (z, y, x) by time and channel, in pixels, of cubes of 5 pixels."""
TURN = np.deg2rad(25)
MICROMETER = 0.5  # the world of a dataset counts in its smallest voxel
PLACE = Affine(
    values=(np.cos(TURN), -np.sin(TURN), 0.1, 100, np.sin(TURN), np.cos(TURN), 0, -50, 0, 0.05, 3, 7)
)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "scan.xml"
    with npy2bdv.create(path, levels=[(1, 1, 1), (1, 2, 2), (2, 4, 4)], chunks=(4, 32, 32)) as writer:
        for channel in range(2):
            writer.add_setup(
                shape=(8, 96, 128),
                channel=channel,
                voxel_size_xyz=(0.5, 0.5, 1.5),
                unit="micrometer",
                transform=[ViewTransform(affine=PLACE, name="place")],
                calibration=None,
            )
        for (when, channel), (z, y, x) in BLOBS.items():
            stack = np.zeros((8, 96, 128), "uint16")
            stack[max(z - 2, 0) : z + 3, y - 2 : y + 3, x - 2 : x + 3] = 1000
            writer.write(stack, setup=channel, time=when)
    return path


def patiently(call: Callable[[], Any], seconds: float = 90) -> Any:
    """Return what a call returns that knows no time-out."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "no answer from the browser"
    return found[0]


class Page:
    """A page in Chromium, and what its console said."""

    def __init__(self, shown: npy2bdv.BrowserView, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        for flag in (*FLAGS, f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        self.shown = shown
        self.driver: Any = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        self.driver.get(shown.url)

    def look(self, time_: float, z: float, scale: float) -> None:
        """Look at one plane of the world, from above."""
        with self.shown.viewer.txn() as state:
            state.layout = "xy"
            state.show_axis_lines = state.show_scale_bar = state.show_default_annotations = False
            x, y = state.position[:2]
            state.position = [x, y, z, time_]
            state.cross_section_scale = scale

    def picture(self) -> Any:
        """Return red, green and blue (y, x) when all is loaded."""
        shot = patiently(lambda: self.shown.viewer.screenshot(size=list(SIZE)))
        if folder := os.environ.get("NPY2BDV_PICTURES"):
            (Path(folder) / f"{time.monotonic_ns()}.png").write_bytes(shot.screenshot.image)
        return shot.screenshot.image_pixels[..., :3].astype(int)


@pytest.fixture(scope="module")
def page(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with (
        npy2bdv.open(scan) as dataset,
        npy2bdv.view_in_browser(dataset, open_browser=False) as shown,
    ):
        page = Page(shown, tmp_path_factory.mktemp("profile"))
        yield page
        page.driver.quit()


@pytest.mark.parametrize("scale", [0.125, 1.0, 2.0])
@pytest.mark.parametrize("when", [0, 1])
def test_blobs_are_where_the_affine_puts_them(page: Page, when: int, scale: float) -> None:
    """To half a pixel of the screen, near, and far, where coarse levels are drawn."""
    for channel in range(2):
        z, y, x = BLOBS[when, channel]
        world = MICROMETER * PLACE.apply((x, y, z))
        page.look(when, float(world[2]), scale)
        picture = page.picture()
        its = picture[..., 1] - picture[..., 0] if channel == 0 else picture[..., 0] - picture[..., 1]
        rows, columns = np.nonzero(its > 60)
        assert len(rows), "the picture is black"
        centre = np.array(page.shown.viewer.state.position[:2])
        weights = its[rows, columns].astype(float)
        found = [
            np.average(columns, weights=weights) + 0.5 - SIZE[0] / 2,
            np.average(rows, weights=weights) + 0.5 - SIZE[1] / 2,
        ]
        np.testing.assert_allclose(centre + np.array(found) * scale, world[:2], atol=0.6 * scale + 0.03)
        if channel == 0:
            np.testing.assert_array_equal(picture[rows, columns][:, [0, 2]], 0)  # green
        else:
            assert (picture[rows, columns, 2] > 60).all()  # magenta


def test_nothing_but_this_machine_is_asked_and_no_error_is_said(page: Page) -> None:
    time.sleep(1)
    console = page.driver.get_log("browser")
    assert [
        entry["message"]
        for entry in console
        if entry["level"] == "SEVERE" and "favicon.ico" not in entry["message"]
    ] == []
    asked = [each["message"] for each in page.driver.get_log("performance")]
    asked = [text for text in asked if "requestWillBeSent" in text]
    addresses = {part.partition('"')[0] for text in asked for part in text.split('"url":"')[1:]}
    elsewhere = [
        url for url in addresses if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "chrome"))
    ]
    assert addresses
    assert elsewhere == []
