"""Where the parts of a dataset lie: its XML, and the pixel file that the XML names."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from npy2bdv import xml
from npy2bdv.errors import FormatError, InvalidInputError, NotFoundError
from npy2bdv.model.spimdata import Hdf5Loader
from npy2bdv.storage import FORMATS, READABLE

if TYPE_CHECKING:
    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.storage.base import FormatName


_TAGS = {"bdv.hdf5": "hdf5", "bdv.n5": "n5", "bdv.multimg.zarr": "zarr"}


def suffix_of(path: Path) -> tuple[FormatName | None, str]:
    """Return the format that a name says (None: it says none), and what of the name is its suffix."""
    name = path.name
    for format_name, card in FORMATS.items():
        for suffix in sorted(card.suffixes, key=len, reverse=True):
            if name.lower().endswith(suffix) and len(name) > len(suffix):
                return format_name, name[-len(suffix) :]
    return None, path.suffix.lower()


def find_xml(path: Path) -> Path:
    """Return the XML of a dataset that is named by its XML or its pixels.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If the name has another suffix.
    """
    named, suffix = suffix_of(path)
    if suffix != ".xml" and named is None:
        raise InvalidInputError(
            f"{path.name!r} names no dataset: give its XML (NAME.xml) or its pixels (NAME.h5)"
        )
    path_xml = path if suffix == ".xml" else path.with_name(path.name[: -len(suffix)] + ".xml")
    if not path_xml.is_file():
        beside = "" if suffix == ".xml" else f" beside {path.name}"
        raise NotFoundError(
            f"there is no XML {path_xml}{beside}; a dataset is opened by its XML: check the name and the folder "
            f"({path_xml.parent.resolve()})"
        )
    return path_xml


def read_xml(path_xml: Path) -> SpimData:
    """Return what an XML file says."""
    return xml.parse(path_xml.read_bytes(), source=str(path_xml))


def pixel_path(path_xml: Path, data: SpimData) -> Path:
    """Return the file or folder that an XML names for its pixels.

    Raises
    ------
    FormatError
        If the XML names no loader that this version reads.
    NotFoundError
        If the file is not there.
    """
    loader = data.loader
    if not isinstance(loader, READABLE):
        named = "no image loader" if loader is None else f"the image loader {loader.format!r}"
        raise FormatError(
            f"{path_xml} names {named}; pixels are read from "
            + ", ".join(repr(card.loader) for card in FORMATS.values())
        )
    base, named = data.base_path.text, loader.path.text
    # URIs, so perhaps percent-encoded; the path of an HDF5 file is none (formats.md 1.3)
    names = [named] if isinstance(loader, Hdf5Loader) else [unquote(named), named]
    places = [
        _resolve(_resolve(path_xml.parent, folder), name)
        for folder, name in product((unquote(base), base), names)
    ]
    for path in places:
        if path.exists():
            return path
    raise NotFoundError(
        f"{path_xml} names the pixel file {places[0]}, which is not there; put it there, or correct "
        f"<{_TAGS[loader.format]}> in the XML"
    )


def _resolve(folder: Path, text: str) -> Path:
    """Return a path that an XML names. One without a type counts as relative, though not for Java."""
    is_uri = text.startswith("file:")
    return Path(url2pathname(urlsplit(text).path)) if is_uri else folder / text.replace("\\", "/")
