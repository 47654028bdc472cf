"""Where pixels live; one file per format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.spimdata import Hdf5Loader, N5Loader
from npy2bdv.storage import codecs, files, hdf5, n5, save, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Literal

    from npy2bdv.model.spimdata import ImageLoader
    from npy2bdv.storage.base import Codec, Container, FormatCard, FormatName

FORMATS: Mapping[FormatName, FormatCard] = {"hdf5": hdf5.CARD, "n5": n5.CARD}
"""All formats there are, as they are by default. The set is closed."""


READABLE = (Hdf5Loader, N5Loader)
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
    if zarr_version not in (None, card.zarr_version):
        raise InvalidInputError(
            f"zarr_version={zarr_version!r} is for the format 'omezarr'; this is {format!r}"
        )
    return card


def open_container(loader: ImageLoader, path: Path, mode: Literal["r", "r+"] = "r") -> Container:
    """Open the pixels that an XML names, which lie at `path`.

    Raises
    ------
    InvalidInputError
        If they are of a kind that cannot be read.
    """
    if isinstance(loader, Hdf5Loader):
        return hdf5.Hdf5Container(path, mode)
    if isinstance(loader, N5Loader):
        return n5.N5Container(path, mode)
    raise InvalidInputError(f"pixels of the image loader {loader.format!r} cannot be read")


_CREATE: Mapping[FormatName, Callable[[FormatCard, Path], Container]] = {
    "hdf5": lambda card, path: hdf5.Hdf5Container(path, "x"),
    "n5": lambda card, path: n5.N5Container(path, "x"),
}

_REPLACEABLE: Mapping[FormatName, Callable[[Path], bool]] = {
    "hdf5": lambda path: not path.is_dir(),
    "n5": n5.is_container,
}


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


def remove_container(card: FormatCard, path: Path) -> None:
    """Remove the pixels of an older dataset, if there are any; see `is_replaceable`."""
    if card.name == "hdf5":
        path.unlink(missing_ok=True)
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
