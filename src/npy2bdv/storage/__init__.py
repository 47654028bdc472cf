"""Where pixels live; one file per format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.spimdata import Hdf5Loader
from npy2bdv.storage import hdf5

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Literal

    from npy2bdv.model.spimdata import ImageLoader
    from npy2bdv.storage.base import Container, FormatCard, FormatName
    from npy2bdv.storage.fence import Fence

FORMATS: Mapping[FormatName, FormatCard] = {"hdf5": hdf5.CARD}
"""All formats there are, as they are by default. The set is closed."""


READABLE = (Hdf5Loader,)
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
    raise InvalidInputError(f"pixels of the image loader {loader.format!r} cannot be read")


def create_container(card: FormatCard, path: Path) -> Container:
    """Create an empty place for pixels; an error if something is there already."""
    assert card.name == "hdf5"
    return hdf5.Hdf5Container(path, "x")


def remove_container(card: FormatCard, path: Path) -> None:
    """Remove the pixels of an older dataset, if there are any; see `check_replaceable`."""
    assert card.name == "hdf5"
    path.unlink(missing_ok=True)


def is_replaceable(card: FormatCard, path: Path) -> bool:
    """Tell whether what lies at `path` is a container of this format (or another's), which may be replaced."""
    assert card.name == "hdf5"
    return not path.is_dir()
