"""One view out of a dataset: a plain OME-Zarr image, which needs no XML."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv.engine import Engine
from npy2bdv.errors import ExistsError, InvalidInputError, NotFoundError
from npy2bdv.location import suffix_of
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage import (
    card_of,
    check_installed,
    create_image,
    is_image,
    remove_container,
)
from npy2bdv.storage.base import ImageNote
from npy2bdv.storage.save import move
from npy2bdv.stream import ViewStream

if TYPE_CHECKING:
    import os

    from npy2bdv.dataset import Level, View
    from npy2bdv.storage.base import Codec, FormatCard, LevelArray

_ALONE = ViewId(0, 0)
_SLAB_BYTES = 128 * 2**20


def export(
    view: View,
    path: str | os.PathLike[str],
    *,
    zarr_version: int = 2,
    compression: str | tuple[str, int] | None = "default",
    overwrite: bool = False,
) -> Path:
    """Write one view as an OME-Zarr image of its own, with all its levels as they are.

    For napari, web viewers and whoever needs no XML. The image (axes t, c, z, y, x) says voxel size, unit, channel
    and contrast; transforms of the view are not in it. It is copied a few planes at a time, and gets its name
    when it is complete. Needs ``npy2bdv[zarr]``.

    Parameters
    ----------
    view
        As `Dataset.view` returns it.
    path
        The folder to write: ``NAME.ome.zarr`` or ``NAME.zarr``.
    zarr_version
        2 (NGFF 0.4; the default) or 3 (NGFF 0.5, with shards, which are far fewer files).
    compression
        None, "gzip", "zstd" (the default), "blosc", or one of these with its level: ("zstd", 3).
    overwrite
        Replace an OME-Zarr image of the same name. Anything else of that name is never replaced.

    Returns
    -------
    path
        The folder.

    Raises
    ------
    InvalidInputError
        If the name, the version or the compression cannot be right, or `path` lies in the dataset that is read.
    InvalidTypeError
        If the pixels are of a type that is not written.
    ExistsError
        If there is something of this name that is not to be replaced.
    NotFoundError
        If the folder in which it is to lie does not exist.

    Examples
    --------
    >>> import numpy as np, npy2bdv, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xml = npy2bdv.resave(np.zeros((3, 4, 5), "uint16"), f"{folder}/scan.xml")
    ...     with npy2bdv.open(xml) as dataset:
    ...         npy2bdv.export(dataset.view(), f"{folder}/one.ome.zarr").name
    'one.ome.zarr'
    """
    path = Path(path).absolute()
    card = card_of("omezarr", zarr_version)
    codec = card.codec(compression)
    levels = list(view.levels())
    _check(view, path, card, codec, overwrite=overwrite)
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    remove_container(card, part)
    try:
        _write(view, levels, part, card, codec)
    except BaseException:
        remove_container(card, part)
        raise
    remove_container(card, path)
    move(part, path)
    return path


def _check(view: View, path: Path, card: FormatCard, codec: Codec, *, overwrite: bool) -> None:
    """Refuse what cannot be, before anything is written."""
    if suffix_of(path)[0] != card.name:
        raise InvalidInputError(
            f"{path.name!r} is no name for an OME-Zarr image: give NAME{card.suffixes[0]}"
        )
    card.check(Pyramid(shape=view.shape, factors=((1, 1, 1),), chunks=(card.default_chunk,)), view.dtype)
    if not path.parent.is_dir():
        raise NotFoundError(f"the folder {path.parent} does not exist; create it first")
    pixels = view.dataset.container.path.resolve()
    if pixels == path.resolve() or pixels in path.resolve().parents:
        raise InvalidInputError(f"{path} lies in the dataset that is read; give the image another name")
    if path.exists() and not (overwrite and is_image(path)):
        raise ExistsError(
            f"{path} already exists; choose another name, or replace the image with overwrite=True"
            if is_image(path)
            else f"{path} already exists and is no OME-Zarr image that could be replaced; choose another name"
        )
    check_installed(card, codec)


def _write(view: View, levels: list[Level], path: Path, card: FormatCard, codec: Codec) -> None:
    note = ImageNote(
        name=view.name or "",
        channel=view.attributes.get("channel", ""),
        voxel_size_xyz=view.voxel_size_xyz,
        unit=view.unit or "px",
    )
    with create_image(card, path) as image:
        factors = [(z, y, x) for z, y, x in (level.factors for level in levels)]
        shapes = [level.shape for level in levels]
        chunks = [card.default_chunk] * len(levels)
        arrays = image.create_image(_ALONE, factors, shapes, chunks, view.dtype, codec, note)
        engine = Engine(concurrent=card.concurrent)
        try:
            for level, array in zip(levels, arrays, strict=True):
                _copy(level, array, engine)
            engine.drain()
        finally:
            engine.close()
        image.complete(_ALONE)


def _copy(level: Level, array: LevelArray, engine: Engine) -> None:
    """Copy a level, some rows of chunks at a time."""
    depth = array.chunk[0]
    plane = math.prod(level.shape[1:]) * level.dtype.itemsize
    # as deep as chunks of the source, so that each is read once, where memory allows it
    rows = max(1, min(-(-level.chunks[0] // depth), _SLAB_BYTES // (depth * plane)))
    with ViewStream(engine, level.shape, level.dtype, [((1, 1, 1), array)]) as stream:
        for z in range(0, level.shape[0], rows * depth):
            stream.put(level[z : z + rows * depth], z)
