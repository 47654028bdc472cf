"""One view out of a dataset, as a file that needs no XML: an OME-Zarr image, a TIFF, a .npy file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npy2bdv.engine import Engine
from npy2bdv.errors import ExistsError, InvalidInputError, InvalidTypeError, NotFoundError
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
from npy2bdv.storage.disk import check_room, explained
from npy2bdv.storage.save import move
from npy2bdv.storage.servers import refuse_remote
from npy2bdv.storage.stacks import SUFFIXES, StackNote, write_stack
from npy2bdv.stream import ViewStream
from npy2bdv.view import Level, View

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from numpy.typing import NDArray

    from npy2bdv.storage.base import Codec, FormatCard, LevelArray

    Progress: TypeAlias = Callable[[int, int], None]

_ALONE = ViewId(0, 0)
_SLAB_BYTES = 128 * 2**20


def export(
    view: View | Level,
    path: str | os.PathLike[str],
    *,
    zarr_version: int | None = None,
    compression: str | tuple[str, int] | None = "default",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write one view, or one of its levels, as an image of its own: OME-Zarr, TIFF or .npy, as its name says.

    It is copied a few planes at a time, and gets its name when it is complete. Transforms of the view are not in it.

    OME-Zarr, for napari, web viewers and others: a view with all its levels as they are. The image (axes t, c, z, y,
    x) says voxel size, unit, channel and contrast. Needs ``npy2bdv[zarr]``.

    TIFF, for ImageJ, Bio-Formats and others: the full resolution, or the level that is given; uncompressed, with voxel
    size and unit as ImageJ keeps them, and a contrast by the coarsest level. Beyond 4 GB it is a BigTIFF.

    .npy, for numpy: likewise; the pixels (z, y, x) and nothing else.

    Parameters
    ----------
    view
        As `Dataset.view` returns it; or ``view.level(k)``, for TIFF and .npy.
    path
        What to write: ``NAME.tif``, ``NAME.tiff``, ``NAME.npy``; or a folder, ``NAME.ome.zarr`` or ``NAME.zarr``.
    zarr_version
        For OME-Zarr: 2 (NGFF 0.4; the default) or 3 (NGFF 0.5, with shards, which are far fewer files).
    compression
        For OME-Zarr: None, "gzip", "zstd" (the default), "blosc", or one of these with its level: ("zstd", 3).
    overwrite
        Replace a file, or an OME-Zarr image, of the same name. A folder with anything else in it is never replaced.
    progress
        Called as ``progress(done, total)`` with bytes of pixels.

    Returns
    -------
    path
        What was written.

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
    WriteError
        If the disk has too little room, or fails.

    Examples
    --------
    >>> import numpy as np, npy2bdv, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xml = npy2bdv.resave(np.zeros((3, 4, 5), "uint16"), f"{folder}/scan.xml")
    ...     with npy2bdv.open(xml) as dataset:
    ...         npy2bdv.export(dataset.view(), f"{folder}/one.ome.zarr").name
    ...         npy2bdv.export(dataset.view().level(0), f"{folder}/one.tif").name
    'one.ome.zarr'
    'one.tif'
    """
    refuse_remote(
        path,
        "an image of one view is written on a disk",
        "export it to this machine and copy it, or npy2bdv.resave a view (views=...)",
    )
    path = Path(path).absolute()
    if not isinstance(view, View | Level):
        raise InvalidTypeError(
            f"export takes a view or a level: dataset.view(...); found {type(view).__name__}"
        )
    if path.suffix.lower() in SUFFIXES:
        if zarr_version is not None or compression != "default":
            raise InvalidInputError(
                f"{path.name} is written uncompressed; zarr_version and compression are for OME-Zarr"
            )
        _export_stack(view.level(0) if isinstance(view, View) else view, path, progress, overwrite=overwrite)
        return path
    if isinstance(view, Level):
        raise InvalidInputError(
            f"an OME-Zarr image has all levels of a view; give the view, or a name for one level: {path.stem}.tif"
        )
    card = card_of("omezarr", 2 if zarr_version is None else zarr_version)
    codec = card.codec(compression)
    levels = list(view.levels())
    _check(view, path, card, codec, overwrite=overwrite)
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    remove_container(card, part)
    try:
        _write(view, levels, part, card, codec, progress)
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
            f"{path.name!r} is no name for an image: give NAME{card.suffixes[0]}, or NAME{', NAME'.join(SUFFIXES)}"
        )
    card.check(Pyramid(shape=view.shape, factors=((1, 1, 1),), chunks=(card.default_chunk,)), view.dtype)
    _check_place(view, path)
    if path.exists() and not (overwrite and is_image(path)):
        raise ExistsError(
            f"{path} already exists; choose another name, or replace the image with overwrite=True"
            if is_image(path)
            else f"{path} already exists and is no OME-Zarr image that could be replaced; choose another name"
        )
    check_installed(card, codec)


def _check_place(view: View, path: Path) -> None:
    """Refuse a folder that is not there, or that of the pixels that are read."""
    if not path.parent.is_dir():
        raise NotFoundError(f"the folder {path.parent} does not exist; create it first")
    container = view.dataset.container
    pixels = container.path.resolve()
    if container.card.name == "tiff":  # its path is the folder in which the files lie
        inside = path.exists() and pixels in path.resolve().parents
    else:
        inside = pixels == path.resolve() or pixels in path.resolve().parents
    if inside:
        raise InvalidInputError(f"{path} lies in the dataset that is read; give the image another name")


def _export_stack(level: Level, path: Path, progress: Progress | None, *, overwrite: bool) -> None:
    """Write a level as a TIFF or .npy file."""
    _check_place(level.view, path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise ExistsError(
            f"{path} already exists; choose another name"
            + ("" if path.is_dir() else ", or replace the file with overwrite=True")
        )
    note = StackNote(
        shape=level.shape,
        dtype=level.dtype,
        voxel_size_xyz=level.voxel_size_xyz,
        unit="px" if level.unit in (None, "", "pixel", "pixels") else str(level.unit),
        contrast=_contrast(level) if path.suffix.lower() != ".npy" else None,
    )
    check_room(path.parent, note.nbytes, f"the stack {path.name}", "choose another disk, or a coarser level")
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        with explained(f"writing {path}", path.parent):
            write_stack(part, _slabs(level, progress), note)
            move(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _slabs(level: Level, progress: Progress | None) -> Iterator[NDArray[Any]]:
    """Read a level in parts: rows of chunks, or less where they are too large."""
    plane = math.prod(level.shape[1:]) * level.dtype.itemsize
    depth = max(1, min(level.chunks[0], _SLAB_BYTES // plane))
    for z in range(0, level.shape[0], depth):
        slab = level[z : z + depth]
        yield slab
        if progress is not None:
            progress((z + len(slab)) * plane, level.shape[0] * plane)


def _contrast(level: Level) -> tuple[float, float] | None:
    """Return least and largest value of the coarsest level, if that is small: what to show as black and white."""
    coarsest = [*level.view.levels()][-1]
    if math.prod(coarsest.shape) * coarsest.dtype.itemsize > _SLAB_BYTES:
        return None
    ends = [(float(slab.min()), float(slab.max())) for slab in _slabs(coarsest, None)]
    low, high = min(each[0] for each in ends), max(each[1] for each in ends)
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _write(
    view: View, levels: list[Level], path: Path, card: FormatCard, codec: Codec, progress: Progress | None
) -> None:
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
        sizes = [math.prod(level.shape) * level.dtype.itemsize for level in levels]
        done = 0

        def count(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress is not None:
                progress(done, sum(sizes))

        try:
            for level, array in zip(levels, arrays, strict=True):
                _copy(level, array, engine, count)
            engine.drain()
        finally:
            engine.close()
        image.complete(_ALONE)


def _copy(level: Level, array: LevelArray, engine: Engine, count: Callable[[int], None]) -> None:
    """Copy a level, some rows of chunks at a time."""
    depth = array.chunk[0]
    plane = math.prod(level.shape[1:]) * level.dtype.itemsize
    # as deep as chunks of the source, so that each is read once, where memory allows it
    rows = max(1, min(-(-level.chunks[0] // depth), _SLAB_BYTES // (depth * plane)))
    with ViewStream(engine, level.shape, level.dtype, [((1, 1, 1), array)]) as stream:
        for z in range(0, level.shape[0], rows * depth):
            planes = level[z : z + rows * depth]
            stream.put(planes, z)
            count(planes.nbytes)
