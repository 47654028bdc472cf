"""Seconds to parse and to serialise the XML of a large dataset, and to open the dataset, beside bare lxml.

python benchmarks/xml_100k.py [--views 100000] [--times 10]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from npy2bdv import xml
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import (
    AttributeGroup,
    Channel,
    Hdf5Loader,
    PathRef,
    SpimData,
    Tile,
    Timepoints,
    ViewId,
    ViewRegistration,
    ViewSetup,
    ViewTransform,
    VoxelSize,
)

# In a process of its own, since memory counts. Seconds are those of the processor.
_OPEN = """
import sys, time
from lxml import etree
start = time.process_time()
tree = etree.parse(sys.argv[1])
lxml = time.process_time() - start
del tree
import npy2bdv
npy2bdv.open
start = time.process_time()
with npy2bdv.open(sys.argv[1]) as dataset:
    opened = time.process_time() - start
    start = time.process_time()
    dataset.view(time=dataset.times[-2], setup=dataset.setups[-1])[...]
    print(lxml, opened, time.process_time() - start)
sys.path.insert(0, sys.argv[2])
from memory import peak
print(peak() / 2**20)
"""


def dataset(views: int, n_times: int = 10) -> SpimData:
    """Describe time points of tiles in one channel, each view with two transforms; those of the last are missing."""
    times, tiles = range(n_times), range(views // n_times)
    calibration = ViewTransform(affine=Affine.scale((1, 1, 2.5)), name="calibration")
    return SpimData(
        loader=Hdf5Loader(path=PathRef(text="scan.h5")),
        setups={
            tile: ViewSetup(
                id=tile,
                name=f"setup {tile}",
                size_xyz=(2048, 2048, 500),
                voxel_size=VoxelSize(size_xyz=(0.4, 0.4, 1.0), unit="µm"),
                attributes={"channel": 0, "tile": tile},
            )
            for tile in tiles
        },
        attributes={
            "channel": AttributeGroup(name="channel", entities={0: Channel(id=0, name="488")}),
            "tile": AttributeGroup(
                name="tile",
                entities={
                    tile: Tile(id=tile, name=f"tile {tile}", location_xyz=(tile / 3, 0.1, 0))
                    for tile in tiles
                },
            ),
        },
        timepoints=Timepoints.of(tuple(times)),
        missing=frozenset(ViewId(times[-1], tile) for tile in tiles),
        registrations={
            ViewId(time, tile): ViewRegistration(
                transforms=(
                    ViewTransform(affine=Affine.translation((tile / 7, time / 3, 0.1)), name="Translation"),
                    calibration,
                )
            )
            for time in times
            for tile in tiles
        },
    )


def opened(views: int, n_times: int = 10) -> tuple[float, float, float, float]:
    """Return seconds of the processor for lxml to parse, to open, and to read a view; and the peak of memory, in MB.

    Only the view that is read has pixels.
    """
    data = dataset(views, n_times)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.xml"
        path.write_bytes(xml.serialise(data))
        with h5py.File(path.with_suffix(".h5"), "w") as file:
            setup = max(data.setups)
            file[f"s{setup:02d}/resolutions"] = np.ones((1, 3))
            file[f"s{setup:02d}/subdivisions"] = np.ones((1, 3), "i4")
            file[f"t{n_times - 2:05d}/s{setup:02d}/0/cells"] = np.ones((4, 5, 6), "i2")
        command = [sys.executable, "-c", _OPEN, str(path), str(Path(__file__).parent)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    lxml, ours, view, memory = map(float, told)
    return lxml, ours, view, memory


def seconds(views: int, n_times: int = 10) -> tuple[float, float, int]:
    """Return the seconds to parse and to serialise, and the size of the text in bytes."""
    data = dataset(views, n_times)
    start = time.perf_counter()
    text = xml.serialise(data)
    middle = time.perf_counter()
    read = xml.parse(text)
    end = time.perf_counter()
    assert len(read.registrations) == len(data.registrations)
    return end - middle, middle - start, len(text)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args(argv)
    parse, serialise, nbytes = seconds(options.views, options.times)
    print(f"{options.views} views, {nbytes / 1e6:.1f} MB: parse {parse:.2f} s, serialise {serialise:.2f} s")
    lxml, ours, view, memory = opened(options.views, options.times)
    print(
        f"processor time: lxml alone {lxml:.2f} s, open {ours:.2f} s ({ours / lxml:.1f} times as long), "
        f"one view {1000 * view:.1f} ms; peak of memory {memory:.0f} MB"
    )


if __name__ == "__main__":
    main()
