"""Where pixels live; one file per format."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import quote

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.spimdata import Hdf5Loader, N5Loader, OmeZarrLoader, PathRef
from npy2bdv.storage import (
    codecs,
    files,
    hdf5,
    hdf5audit,
    n5,
    n5audit,
    omezarr,
    remote,
    save,
    tensors,
    zarraudit,
    zarrays,
    zarrfolder,
    zarrlevel,
)
from npy2bdv.storage.base import ContainerAudit
from npy2bdv.storage.servers import RemotePath

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    import numpy as np

    from npy2bdv.model.pyramid import Pyramid
    from npy2bdv.model.spimdata import ImageLoader, SpimData, ViewId
    from npy2bdv.storage.base import Annotation, Codec, Container, FormatCard, FormatName, LevelPixels, Pixels
    from npy2bdv.storage.fence import Fence

FORMATS: Mapping[FormatName, FormatCard] = {"hdf5": hdf5.CARD, "n5": n5.CARD, "omezarr": omezarr.CARD_V2}
"""All formats there are, as they are by default. The set is closed."""


READABLE = (Hdf5Loader, N5Loader, OmeZarrLoader)
"""Image loaders whose pixels `open_container` opens."""


def card_of(format: str, zarr_version: int | None = None) -> FormatCard:  # noqa: A002
    """Return the card of a format.

    Raises
    ------
    InvalidInputError
        If there is no such format, or not in this version of Zarr.
    """
    if format not in FORMATS:
        raise InvalidInputError(f"format {format!r} is not known; there is {', '.join(map(repr, FORMATS))}")
    card = FORMATS[format]  # type: ignore[index]  # it was found
    if zarr_version is None:
        return card
    if card.zarr_version is None:
        raise InvalidInputError(
            f"zarr_version={zarr_version!r} is for the format 'omezarr'; this is {format!r}"
        )
    if zarr_version not in omezarr.CARDS:
        raise InvalidInputError(f"zarr_version={zarr_version!r} is not known; there are 2 and 3")
    return omezarr.CARDS[zarr_version]


def open_container(
    loader: ImageLoader, path: Path, mode: Literal["r", "r+"] = "r", *, fence: Fence | None = None
) -> Container:
    """Open the pixels that an XML names, which lie at `path`; `fence` is asked where they name other files.

    Raises
    ------
    InvalidInputError
        If they are of a kind that cannot be read.
    """
    if isinstance(loader, Hdf5Loader):
        return hdf5.Hdf5Container(path, mode, fence=fence)
    if isinstance(loader, N5Loader):
        return n5.N5Container(path, mode)
    if isinstance(loader, OmeZarrLoader):
        return omezarr.OmeZarrContainer(path, mode, groups=loader.groups)
    raise InvalidInputError(f"pixels of the image loader {loader.format!r} cannot be read")


_CREATE: Mapping[FormatName, Callable[[FormatCard, Path], Container]] = {
    "hdf5": lambda card, path: hdf5.Hdf5Container(path, "x"),
    "n5": lambda card, path: n5.N5Container(path, "x"),
    "omezarr": lambda card, path: omezarr.OmeZarrContainer(path, "x", zarr_version=card.zarr_version or 2),
}

_REPLACEABLE: Mapping[FormatName, Callable[[Path], bool]] = {
    "hdf5": lambda path: not path.is_dir(),
    "n5": n5.is_container,
    "omezarr": omezarr.is_container,
}


def annotated(
    loader: ImageLoader | None, path: Path, said: Mapping[ViewId, Annotation]
) -> dict[str, bytes | None]:
    """Return new texts of the small files that say something of views beside their pixels.

    Returns
    -------
    texts
        By key, for a `FileStore` at `path`; None where a file has to be removed. Nothing where there is no such
        file, as beside HDF5.
    """
    if isinstance(loader, N5Loader):
        return n5.annotated(path, said)
    if isinstance(loader, OmeZarrLoader):
        return omezarr.annotated(path, loader.groups, said)
    return {}


def check_installed(card: FormatCard, codec: Codec) -> None:
    """Refuse a format or codec whose library is not installed, before anything is created.

    Raises
    ------
    InvalidInputError
        If it is not.
    """
    if card.name != "hdf5":
        tensors.tensorstore()
    if codec.name in ("zstd", "blosc"):
        codecs.numcodecs()


def create_container(card: FormatCard, path: Path) -> Container:
    """Create an empty place for pixels; an error if something is there already."""
    return _CREATE[card.name](card, path)


def share_container(card: FormatCard, path: Path) -> Container:
    """Open a folder of pixels for writing into it while others do so, too. HDF5 cannot be shared."""
    if card.name == "n5":
        return n5.N5Container(path, "r+", shared=True)
    assert card.name == "omezarr"
    return omezarr.OmeZarrContainer(path, "r+", shared=True)


def files_of(container: Container, level: LevelPixels, rows: range) -> Iterator[Path]:
    """Iterate over the files in which rows of chunks of a level may lie; those of zeros may not be there."""
    assert isinstance(level, (n5.N5Level, zarrlevel.OmeZarrLevel))
    grid = [-(-size // chunk) for size, chunk in zip(level.shape[1:], level.chunk[1:], strict=True)]
    down, right = level.piece if isinstance(level, zarrlevel.OmeZarrLevel) and level.sharded else (1, 1)
    for z, y, x in product(rows, range(0, grid[0], down), range(0, grid[1], right)):
        yield container.path / level.file_of((z, y, x))


def count_files(card: FormatCard, pyramid: Pyramid, dtype: np.dtype[np.generic], codec: Codec) -> int:
    """Return how many files the pixels of a view take in a folder; of those of zeros some may not be needed."""
    count = 0
    for level in range(pyramid.n_levels):
        shape, (z, y, x) = pyramid.level_shape(level), pyramid.chunks[level]
        file = (z, min(y, shape[1]), min(x, shape[2]))
        if card.zarr_version is not None:
            layout = zarrays.layout_for(card.zarr_version, (1, 1, *shape), (1, 1, *file), dtype, codec)
            z, y, x = layout.shard[-3:]
            file = (z, y, x)
        count += math.prod(-(-size // side) for size, side in zip(shape, file, strict=True))
    return count


def link_partitions(
    path: Path, partitions: Sequence[tuple[Path, Collection[ViewId]]], times: Collection[int]
) -> None:
    """Create the HDF5 file that makes one dataset of several files: it links to the images of views in them."""
    with hdf5.Hdf5Container(path, "x") as master:
        for file, views in partitions:
            with hdf5.Hdf5Container(file) as source:
                for view in sorted(views):
                    master.describe_like(view.setup, source, view.setup)
                    master.link(view, source, view)
        master.note_times(times)
        master.flush()


def create_image(card: FormatCard, path: Path) -> omezarr.OmeZarrContainer:
    """Create an OME-Zarr folder that is to be the image of one view, that of time point 0 and setup 0."""
    return omezarr.create_image(card, path)


def is_image(path: Path) -> bool:
    """Tell whether a folder is an OME-Zarr image of its own, and nothing else."""
    return omezarr.is_image(path)


def audit_container(pixels: Pixels, data: SpimData, folder: Path) -> ContainerAudit:
    """Look at what a format alone knows of the pixels of a dataset, whose XML lies in `folder`; not at pixels."""
    loader, views, setups = data.loader, tuple(data.views()), sorted(data.setups)
    if isinstance(pixels, hdf5.Hdf5Container):
        return hdf5audit.audit(pixels, views, setups, data.timepoints.ids, folder)
    if isinstance(pixels, n5.N5Container):
        return ContainerAudit(findings=tuple(n5audit.audit(files.FileStore(pixels.path), views, setups)))
    if isinstance(pixels, omezarr.OmeZarrContainer) and isinstance(loader, OmeZarrLoader):
        groups = {view: loader.groups[view] for view in views if view in loader.groups}
        found = zarraudit.audit(pixels.path, groups, loader.version, loader.zarr_version)
        return ContainerAudit(findings=tuple(found))
    return ContainerAudit(findings=())


def mend_container(loader: ImageLoader, path: Path, codes: set[str], data: SpimData) -> None:
    """Correct what a format says of its pixels, for these codes of findings; pixels are not touched."""
    setups, views = sorted(data.setups), list(data.views())
    if isinstance(loader, Hdf5Loader):
        with hdf5.Hdf5Container(path, "r+") as container:
            hdf5audit.mend(container, codes, setups, data.timepoints.ids)
            container.flush(sync=True)
    elif isinstance(loader, N5Loader):
        n5audit.mend(files.FileStore(path), codes, setups, views)
    elif isinstance(loader, OmeZarrLoader):
        zarraudit.mend(path, codes, loader.groups)


def folders_of(container: Container, view: ViewId, new: ViewId) -> tuple[str, str, dict[str, str]]:
    """Return in which folder of a container the image of a view lies, where it lies under new ids, and files for these.

    Raises
    ------
    InvalidInputError
        If it has no folder of its own, or none that can be moved.
    """
    if isinstance(container, n5.N5Container):
        return n5.folders_of(container, view, new)
    assert isinstance(container, omezarr.OmeZarrContainer)
    return container.folders_of(view, new)


def folder_loader(card: FormatCard, path: Path, views: Iterable[ViewId]) -> ImageLoader:
    """Return how an XML beside it names a container of folders with the images of these views."""
    place = PathRef(text=path.name)
    if card.name == "n5":
        return N5Loader(path=PathRef(text=quote(place.text)))
    return omezarr.loader_of(place, views, card.zarr_version or 2)


def mark_as_group(path: Path, zarr_version: int) -> None:
    """Make a folder a Zarr group, in which images may lie; nothing else in it is changed."""
    zarrfolder.mark_as_group(path, zarr_version)


def remove_container(card: FormatCard, path: Path) -> None:
    """Remove the pixels of an older dataset, if there are any; see `is_replaceable`."""
    if card.name == "hdf5":
        path.unlink(missing_ok=True)
    elif isinstance(path, RemotePath):
        remote.RemoteStore(path).remove_all()
    else:
        files.remove_folder(path)


def replace_container(card: FormatCard, source: Path, target: Path) -> None:
    """Give pixels their final name, in place of those that were there; if that fails both stay as they are."""
    if card.name == "hdf5":
        save.move(source, target)
    else:
        files.replace_folder(source, target)


def is_replaceable(card: FormatCard, path: Path) -> bool:
    """Tell whether what lies at `path` is a container of this format, which may be replaced."""
    return _REPLACEABLE[card.name](path)
