"""Seconds to parse and to serialise the XML of a large dataset.

python benchmarks/xml_100k.py [--views 100000]
"""

import argparse
import time
from collections.abc import Sequence

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


def dataset(views: int) -> SpimData:
    """Describe ten time points of tiles in one channel, each view with two transforms."""
    times, tiles = range(10), range(views // 10)
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
        missing=frozenset(ViewId(9, tile) for tile in tiles),
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


def seconds(views: int) -> tuple[float, float, int]:
    """Return the seconds to parse and to serialise, and the size of the text in bytes."""
    data = dataset(views)
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
    options = parser.parse_args(argv)
    parse, serialise, nbytes = seconds(options.views)
    print(f"{options.views} views, {nbytes / 1e6:.1f} MB: parse {parse:.2f} s, serialise {serialise:.2f} s")


if __name__ == "__main__":
    main()
