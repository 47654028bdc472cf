"""What the benchmarks write and read: camera-like pixels, and datasets of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

import npy2bdv
from npy2bdv.downsample import downsample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

OFFSET = 100
DISTINCT = (
    16  # planes with noise of their own; the others repeat it, rolled, further away than deflate looks back
)


def camera(shape: tuple[int, int, int]) -> NDArray[np.uint16]:
    """Return planes (z, y, x) as an sCMOS camera gives them: offset, shot and read noise, nuclei that drift."""
    rng = np.random.default_rng(0)
    depth, height, width = shape
    pixels = np.empty(shape, np.uint16)
    nuclei = rng.uniform((0, 0, 60), (height, width, 900), (max(4, height * width // 20_000), 3))
    for z in range(min(DISTINCT, depth)):
        light = np.full((height, width), 20.0)
        for y, x, brightness in nuclei:
            add_blob(light, y + z, x, brightness)
        pixels[z] = rng.poisson(light) + rng.normal(OFFSET, 2, light.shape).round().astype(np.int64)
    for z in range(DISTINCT, depth):
        pixels[z] = np.roll(pixels[z % DISTINCT], (z // DISTINCT * 7, z), axis=(0, 1))
    return pixels


def add_blob(light: NDArray[np.float64], y: float, x: float, brightness: float, radius: int = 12) -> None:
    """Add a Gaussian spot where it lies inside."""
    y0, x0 = max(0, int(y) - 2 * radius), max(0, int(x) - 2 * radius)
    part = light[y0 : int(y) + 2 * radius, x0 : int(x) + 2 * radius]
    ys, xs = np.ogrid[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]]
    part += brightness * np.exp(-((ys - y) ** 2 + (xs - x) ** 2) / (radius**2))


def finished_levels(
    pixels: NDArray[np.uint16], levels: Sequence[tuple[int, int, int]]
) -> list[NDArray[np.uint16]]:
    """Return the arrays of all levels."""
    return [pixels if set(factors) == {1} else downsample(pixels, factors) for factors in levels]


def save_sources(pixels: NDArray[np.uint16], folder: Path) -> None:
    """Save the same view in every form that is read: raw, plain, gzip by us, gzip as h5py writes it."""
    folder.mkdir()
    pixels.tofile(folder / "raw.bin")
    for name, compression in (("plain", None), ("gzip", "gzip")):
        with npy2bdv.create(folder / f"{name}.xml", compression=compression) as writer:
            writer.write(pixels, setup=writer.add_setup(shape=pixels.shape, dtype=pixels.dtype))
    with h5py.File(folder / "plain.h5") as plain, h5py.File(folder / "h5py.h5", "w") as packed:
        for name in ("s00/resolutions", "s00/subdivisions"):
            packed[name] = plain[name][:]
        cells = plain["t00000/s00/0/cells"]
        packed.create_dataset("t00000/s00/0/cells", data=cells[:], chunks=cells.chunks, compression="gzip")
    text = (folder / "plain.xml").read_text(encoding="utf-8")
    (folder / "h5py.xml").write_text(text.replace("plain.h5", "h5py.h5"), encoding="utf-8")


def save_many_views(times: int, setups: int, folder: Path) -> None:
    """Save an XML of many views in the usual shape; the x of view (time, setup) is shifted by time + setup."""
    folder.mkdir()
    with npy2bdv.create(folder / "plain.xml") as writer:
        for tile in range(setups):
            setup = writer.add_setup(shape=(1, 2, 2), dtype=np.uint16, tile=tile)
            writer.write(np.zeros((1, 2, 2), np.uint16), setup=setup)
    text = (folder / "plain.xml").read_text(encoding="utf-8")
    start = text.index("<ViewRegistrations>") + len("<ViewRegistrations>")
    registrations = "".join(
        f"""
    <ViewRegistration timepoint="{time}" setup="{setup}">
      <ViewTransform type="affine">
        <Name>calibration</Name>
        <affine>1.0 0.0 0.0 {time + setup:.1f} 0.0 1.0 0.0 0.0 0.0 0.0 1.0 0.0</affine>
      </ViewTransform>
    </ViewRegistration>"""
        for time in range(times)
        for setup in range(setups)
    )
    text = text[:start] + registrations + text[text.index("</ViewRegistrations>") :]
    assert text.count("<last>0</last>") == 1
    text = text.replace("<last>0</last>", f"<last>{times - 1}</last>")
    (folder / "plain.xml").write_text(text, encoding="utf-8")
