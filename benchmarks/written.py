"""What the candidates wrote, read by plain libraries. Runs in every candidate's environment."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobs import Job

METADATA = {"attributes.json", ".zgroup", ".zattrs", ".zarray", "zarr.json"}
DRIVERS = {"n5": "n5", "zarr2": "zarr", "zarr3": "zarr3"}


def is_metadata(path: Path) -> bool:
    """Tell whether a file describes pixels and holds none."""
    return path.name in METADATA or path.suffix == ".xml"


def views(job: Job, folder: Path) -> Iterator[list[Any]]:
    """Iterate over the views: arrays (z, y, x) of all levels, the full resolution first."""
    if job.format != "hdf5":
        yield [open_array(job, path) for path in array_folders(folder)]
        return
    import h5py

    (path,) = folder.glob("*.h5")
    with h5py.File(path) as file:
        for index in range(job.count):
            view = file[f"t00000/s{index:02d}" if job.kind == "planes" else f"t{index:05d}/s00"]
            yield [level["cells"] for level in view.values()]


def array_folders(folder: Path) -> list[Path]:
    """Return the folders of the arrays of one view, by name."""
    found = [path for path in folder.rglob("*") if path.name in METADATA and description(path)]
    return sorted(path.parent for path in found)


def description(path: Path) -> dict[str, Any] | None:
    """Return what a file says of an array; None if it is about something else."""
    said: dict[str, Any] = json.loads(path.read_bytes())
    is_array = "dimensions" in said or path.name == ".zarray" or said.get("node_type") == "array"
    return said if is_array else None


def open_array(job: Job, folder: Path) -> Any:
    """Open an array; one that has axes for time and channel has one of each."""
    check_blocks(job, folder)
    if not find_spec("tensorstore"):
        import z5py

        (root,) = (path for path in folder.parents if path.suffix == ".n5")
        return z5py.File(str(root), "r")[folder.relative_to(root).as_posix()]
    import tensorstore

    kvstore = {"driver": "file", "path": f"{folder.as_posix()}/"}
    array = tensorstore.open({"driver": DRIVERS[job.format], "kvstore": kvstore}).result()
    if job.format == "n5":
        array = array.T
    return array[(0,) * (array.ndim - 3)]


def check_blocks(job: Job, folder: Path) -> None:
    """Check that a file holds as much as all candidates' do; small images have what the library likes."""
    (said,) = filter(None, map(description, (path for path in folder.iterdir() if path.name in METADATA)))
    match job.format:
        case "n5":
            shape, block = said["dimensions"][::-1], said["blockSize"][::-1]
        case "zarr2":
            shape, block = said["shape"], said["chunks"]
        case _:
            shape, block = said["shape"], said["chunk_grid"]["configuration"]["chunk_shape"]
    zyx = tuple(shape[-3:])
    if np.greater_equal(zyx, job.file_block(zyx)).all():
        assert tuple(block[-3:]) == job.file_block(zyx), f"a file holds {block}"
