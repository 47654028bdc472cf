"""Draw the picture of the browser view: `python docs/browser_picture.py` writes `pictures/browser.png`. Needs Chromium.

Not part of the build, since the picture of the same page differs a little from machine to machine.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from pathlib import Path

import npy2bdv
from npy2bdv.cli.demo import demo

FLAGS = (
    "headless=new", "no-sandbox", "use-gl=angle", "use-angle=swiftshader", "enable-unsafe-swiftshader",
    "disable-background-networking", "disable-component-update", "disable-sync", "no-first-run", "disable-quic",
    "window-size=1100,760",
)  # fmt: skip


def main() -> None:
    """Draw it."""
    from PIL import Image
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as folder:
        demo(Path(folder))
        (xml,) = Path(folder).rglob("*.xml")
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*FLAGS, f"user-data-dir={folder}/profile"):
            options.add_argument(f"--{flag}")
        with npy2bdv.open(xml) as dataset, npy2bdv.view_in_browser(dataset, open_browser=False) as shown:
            driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
            driver.get(shown.url)
            time.sleep(5)  # until it asks for pixels
            shown.viewer.screenshot()  # until all are there
            picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
            picture.quantize(96).save(Path(__file__).parent / "pictures/browser.png", optimize=True)
            driver.quit()


if __name__ == "__main__":
    main()
