"""What napari calls, as napari.yaml says: the reader of datasets, and the sample."""

from __future__ import annotations

import re
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv.create import create
from npy2bdv.dataset import open as open_dataset
from npy2bdv.errors import BdvError
from npy2bdv.location import find_xml
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import ViewTransform
from npy2bdv.sample import Recording
from npy2bdv.views.layers import napari_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from npy2bdv.views.layers import LayerData

# The root element comes behind the declaration and comments.
_HEAD_BYTES = 4096
_ROOT = re.compile(rb"<SpimData[\s>]")


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return the reader if this is a dataset, None for anything else: other XML, pixels without an XML."""
    if isinstance(path, list):
        if len(path) != 1:
            return None
        path = path[0]
    try:
        xml = find_xml(Path(path))
        with xml.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except (BdvError, OSError):
        return None
    return read if _ROOT.search(head) else None


def read(path: str | list[str]) -> list[LayerData]:
    """Return the layers of a dataset. They hold it open; its files close when the last of them goes."""
    return _layers_of(Path(path[0] if isinstance(path, list) else path))


class _Owner:
    """Lives as long as one of the levels."""


def _layers_of(path: Path, *afterwards: Callable[[], object]) -> list[LayerData]:
    """Return layers whose dataset is closed when the last of them is gone, or Python ends."""
    dataset = open_dataset(path)
    try:
        layers = napari_layers(dataset)
    except BaseException:
        dataset.close()
        raise
    owner = _Owner()
    for levels, _, _ in layers:
        for level in levels:
            level.owner = owner
    weakref.finalize(owner, _each, dataset.close, *afterwards)
    return layers


def _each(*calls: Callable[[], object]) -> None:
    for call in calls:
        call()


def sample() -> list[LayerData]:
    """Write the synthetic recording into a temporary folder, and return its layers."""
    folder = tempfile.TemporaryDirectory(prefix="npy2bdv-", ignore_cleanup_errors=True)
    recording = Recording(shape=(24, 120, 128))
    xml = Path(folder.name) / "sample.xml"
    # world units of BigStitcher: pixels of the smallest voxel size
    pixel_xyz = [size / min(recording.voxel_size_xyz) for size in recording.voxel_size_xyz]
    with create(xml) as writer:
        setups = {}
        for channel in recording.channels:
            for tile in range(recording.n_tiles):
                origin = zip(recording.tile_origin_xyz(tile), pixel_xyz, strict=True)
                place = Affine.translation([start * size for start, size in origin])
                setups[channel, tile] = writer.add_setup(
                    shape=recording.shape,
                    channel=channel,
                    tile=tile,
                    voxel_size_xyz=recording.voxel_size_xyz,
                    unit=recording.unit,
                    transform=[ViewTransform(affine=place, name="Translation to Regular Grid")],
                )
        for view in recording.views():
            writer.write(view.stack, setup=setups[view.channel, view.tile], time=view.time)
    return _layers_of(xml, folder.cleanup)
