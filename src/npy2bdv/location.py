"""Where the parts of a dataset lie: its XML, and the pixel file that the XML names."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from npy2bdv import xml
from npy2bdv.errors import FormatError, InvalidInputError, NotFoundError
from npy2bdv.model.spimdata import (
    ContainerLoader,
    FileListLoader,
    Hdf5Loader,
    N5Loader,
    OmeZarrLoader,
    OtherLoader,
    SplitLoader,
    StackLoader,
)
from npy2bdv.storage import FORMATS, READABLE, card_of, open_container
from npy2bdv.storage.fence import Fence
from npy2bdv.storage.files import is_there
from npy2bdv.storage.live import LivePixels, read_running
from npy2bdv.storage.servers import RemotePath, is_url, place_of, refuse_remote, refuse_unwritable
from npy2bdv.storage.split import SplitContainer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from npy2bdv.model.spimdata import ImageLoader, SpimData, ViewId
    from npy2bdv.storage.base import FormatCard, FormatName, Pixels
    from npy2bdv.storage.recorded import Recorded
    from npy2bdv.storage.tiff import TiffImage

logger = logging.getLogger(__name__)

MAX_XML_BYTES = 2**29
"""More is no XML of a dataset: one of a hundred thousand views has a tenth of that."""

_TAGS = {"bdv.hdf5": "hdf5", "bdv.n5": "n5", "bdv.multimg.zarr": "zarr"}
_ELSEWHERE = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LETTERS = {"c": "channel", "i": "illumination", "a": "angle", "x": "tile"}
_PLACE = re.compile(r"\{([tciax])\1*\}")
_ALL_IN_ONE = 2
_NOT_ON_WINDOWS = frozenset('<>:"|?*')
_DEVICES_OF_WINDOWS = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{name}{n}" for name in ("COM", "LPT") for n in range(1, 10)),
}


def suffix_of(path: Path) -> tuple[FormatName | None, str]:
    """Return the format that a name says (None: it says none), and what of the name is its suffix."""
    name = path.name
    for format_name, card in FORMATS.items():
        for suffix in sorted(card.suffixes, key=len, reverse=True):
            if name.lower().endswith(suffix) and len(name) > len(suffix):
                return format_name, name[-len(suffix) :]
    return None, path.suffix.lower()


def dataset_paths(
    path: str | os.PathLike[str],
    format: FormatName | None = None,  # noqa: A002
    zarr_version: int | None = None,
    *,
    remote: bool = False,
) -> tuple[Path, Path, FormatCard]:
    """Return the paths of XML and pixels of a dataset that is named by either, and the card of its format.

    Raises
    ------
    InvalidInputError
        If the name has another suffix, or the format is not known; or if it lies on a server, where only some
        things can be done (`remote`).
    """
    if not remote:
        refuse_remote(
            path,
            "recording needs a disk: a lock, a journal that survives a kill, and a pace that no network keeps",
            "record to this machine, then npy2bdv.resave(recording, 's3://...')",
        )
    path = place_of(path)
    refuse_unwritable(path)
    if "\\" in path.name:
        raise InvalidInputError(
            f"{path.name!r} has a backslash, which programs take for the end of a folder's name: write '/' between "
            "folders, and leave it out of names"
        )
    _refuse_name_on_windows(path.name)
    named, suffix = suffix_of(path)
    asked = f"format={format!r}" if format is not None else f"zarr_version={zarr_version!r}"
    if format is None and zarr_version is not None:
        format = "omezarr"  # noqa: A001
    card = card_of(format or named or "hdf5", zarr_version)
    if isinstance(path, RemotePath) and card.name == "hdf5":
        raise InvalidInputError(
            f"{path} is on a server, and HDF5 is written into one file, which a server does not take in parts; give "
            "format='n5' or format='omezarr'"
        )
    if suffix == ".xml":
        return path, path.with_suffix(card.suffixes[0]), card
    if named is None:
        raise InvalidInputError(
            f"{path.name!r} names no dataset: give the XML (NAME.xml) or the pixels (NAME{card.suffixes[0]})"
        )
    if named != card.name:
        raise InvalidInputError(
            f"{path.name!r} is a name for the format {named!r}, and {asked} was asked for: leave one out"
        )
    return path.with_name(path.name[: -len(suffix)] + ".xml"), path, card


def _refuse_name_on_windows(name: str) -> None:
    """Refuse what Windows takes for something else: behind a colon, which ends a name, pixels would be out of sight."""
    if os.name == "nt" and (
        _NOT_ON_WINDOWS & set(name) or name.split(".")[0].rstrip().upper() in _DEVICES_OF_WINDOWS
    ):
        raise InvalidInputError(
            f'{name!r} is no name for a file on Windows: leave out < > : " | ? *, and do not call it CON, PRN, AUX, '
            "NUL, COM1 to COM9 or LPT1 to LPT9"
        )


def find_xml(path: Path, *, remote: bool = False) -> Path:
    """Return the XML of a dataset that is named by its XML or its pixels; on a server where `remote` allows it.

    The XML of pixels has their name, or it is the one in their folder that names them.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If the name has another suffix, or several XMLs name the pixels, or it lies on a server, and must not.
    """
    if not remote:
        refuse_remote(
            path,
            "is only read and resaved there: nothing is edited, checked, merged or recovered",
            "work with a copy on this machine: npy2bdv.resave(it, 'copy.xml')",
        )
    path = place_of(path)
    named, suffix = suffix_of(path)
    if suffix == ".xml":
        if not isinstance(path, RemotePath) and not path.is_file():  # on a server, reading it tells
            raise _no_xml(path)
        return path
    if named is None:
        raise InvalidInputError(
            f"{path.name!r} names no dataset: give its XML (NAME.xml) or its pixels (NAME.h5)"
        )
    path_xml = path.with_name(path.name[: -len(suffix)] + ".xml")
    if path_xml.is_file():
        return path_xml
    if isinstance(path, RemotePath):
        raise NotFoundError(
            f"there is no {path_xml} beside {path.name}; a dataset is opened by its XML: give that"
        )
    found = [each for each in sorted(path.parent.glob("*.xml")) if _names(each, path)]
    if len(found) > 1:
        raise InvalidInputError(
            f"{len(found)} XMLs describe {path.name}; open the one that you mean: "
            + ", ".join(each.name for each in found)
        )
    if not found:
        raise _no_xml(path_xml, f" beside {path.name}, and none that names it")
    return found[0]


def _no_xml(path_xml: Path, beside: str = "") -> NotFoundError:
    return NotFoundError(
        f"there is no XML {path_xml}{beside}; a dataset is opened by its XML: check the name and the folder "
        f"({path_xml.parent.resolve()})"
    )


def _names(path_xml: Path, pixels: Path) -> bool:
    """Tell whether a file is an XML that names these pixels."""
    try:
        data = read_xml(path_xml)
        return isinstance(data.loader, READABLE) and pixel_path(path_xml, data).samefile(pixels)
    except (FormatError, OSError):
        return False


def read_xml(path_xml: Path) -> SpimData:
    """Return what an XML file says."""
    return xml.parse(read_bytes(path_xml), source=str(path_xml))


def read_bytes(path_xml: Path) -> bytes:
    """Return the text of an XML file.

    Raises
    ------
    FormatError
        If it is larger than any dataset can need.
    """
    remote = isinstance(path_xml, RemotePath)
    text = path_xml.read_bytes() if remote else b""
    size = len(text) if remote else path_xml.stat().st_size
    if size > MAX_XML_BYTES:
        raise FormatError(f"{path_xml} has {size} bytes; an XML of a dataset has at most {MAX_XML_BYTES}")
    return text or path_xml.read_bytes()


def open_pixels(
    path_xml: Path, data: SpimData, *, confine: bool = False, live: bool = False
) -> Pixels | None:
    """Open the pixels of a dataset for reading; None where it has no loader that is read.

    Parameters
    ----------
    path_xml
        The XML.
    data
        What it says.
    confine
        Refuse what lies outside of the XML's folder, in place of logging it.
    live
        Of a recording that goes on, or was interrupted, show what is safe, by its journal.

    Raises
    ------
    NotFoundError
        If they are not there.
    FormatError
        If they are not what they should be, or lie outside.
    """
    fence = Fence(folder=path_xml.parent, strict=confine)
    if _problem(data.loader, path_xml):
        return None
    match data.loader:
        case SplitLoader(inner=inner, parts=parts):
            whole = open_pixels(path_xml, replace(inner, base_path=data.base_path), confine=confine)
            return None if whole is None else SplitContainer(whole, parts)
        case FileListLoader() | StackLoader():
            from npy2bdv.storage.tiff import TiffContainer

            return TiffContainer(path_xml.parent, tiff_images(path_xml, data, fence), fence=fence)
        case loader if isinstance(loader, READABLE):
            path = pixel_path(path_xml, data)
            fence.check(path, path_xml)
            _check_groups(loader, path, path_xml, fence)
            if live and not isinstance(path, RemotePath) and (recorded := read_running(path)) is not None:
                return _open_live(loader, path, recorded)
            return open_container(loader, path, fence=fence)
    return None


def _open_live(loader: ContainerLoader, path: Path, recorded: Recorded) -> LivePixels:
    """Open a recording by its journal; blocks that are files of their own are read as ever."""
    logger.info("%s is being recorded, or was interrupted: what is safe by now is shown", path)
    blocks = earlier = None
    try:
        if not isinstance(loader, Hdf5Loader) or recorded.appending:
            earlier = open_container(loader, path)
    except FormatError:
        logger.warning("what was in %s before this session cannot be read just now; open it again", path)
    if not isinstance(loader, Hdf5Loader):
        blocks = earlier
    card = FORMATS["hdf5"] if earlier is None else earlier.card
    return LivePixels(path, card, recorded, blocks, earlier)


def why_not_read(path_xml: Path, data: SpimData) -> FormatError:
    """Return the error that says why there are no pixels to be read."""
    loader = data.loader
    while isinstance(loader, SplitLoader):
        loader = loader.inner.loader
    named = "no image loader" if loader is None else f"the image loader {loader.format!r}"
    problem = _problem(loader, path_xml)
    return FormatError(
        f"{path_xml} names {named}{f', and {problem}' if problem else ''}; pixels are read from "
        + ", ".join(repr(card.loader) for card in FORMATS.values())
        + ", from TIFF files, and from these where BigStitcher has split them"
    )


def _problem(loader: ImageLoader | None, path_xml: Path) -> str:
    """Say why the pixels of a loader are not read although others of its kind are; empty where nothing is known."""
    if isinstance(loader, OtherLoader):
        return loader.problem
    if isinstance(loader, StackLoader):
        names = [name for name in ("illumination", "angle", "tile") if loader.layouts[name] == _ALL_IN_ONE]
        return f"all {names[0]}s lie in one file" if names else ""
    while isinstance(loader, SplitLoader):
        loader = loader.inner.loader
    named = loader.path.text if isinstance(loader, READABLE) else ""
    if isinstance(path_xml, RemotePath) or is_url(named) or _bucket(loader):
        if not isinstance(loader, N5Loader | OmeZarrLoader):
            return "from a server only N5 and OME-Zarr are read: copy the dataset to this machine"
    elif _ELSEWHERE.match(named):
        return (
            f"{named} is not on this machine, and not read from there: copy the pixels, and correct the XML"
        )
    return ""


def _bucket(loader: ImageLoader | None) -> str:
    """Return the bucket that older versions of BigStitcher name beside the path in it (formats.md 4.1)."""
    if not isinstance(loader, OmeZarrLoader):
        return ""
    found = (each.element.text.strip() for each in loader.kept if each.element.tag == "s3bucket")
    return next(found, "")


def pixel_path(path_xml: Path, data: SpimData) -> Path:
    """Return the file or folder that an XML names for its pixels.

    Raises
    ------
    FormatError
        If the XML names no loader of one file or folder that this version reads, or one on another machine.
    NotFoundError
        If it is not there.
    """
    loader = data.loader
    if not isinstance(loader, READABLE) or _problem(loader, path_xml):
        raise why_not_read(path_xml, data)
    tag, text = _TAGS[loader.format], loader.path.text
    # HDF5 is named by a path, the others by a URI, which is percent-encoded; not by all programs (formats.md 1.3)
    texts = (text, unquote(text)) if loader.format == "bdv.hdf5" else (unquote(text), text)
    if bucket := _bucket(loader):
        first, second = (each if is_url(each) else f"s3://{bucket}/{each}" for each in texts)
        texts = (first, second)
    path = _place(path_xml, data, texts)
    if is_there(path):
        return path
    if isinstance(path, RemotePath):
        raise NotFoundError(
            f"{path_xml} names the pixels {path}, and there are none; put them there, or correct <{tag}> in the XML"
        )
    raise NotFoundError(
        f"{path_xml} names the pixel file {_short(path)}, which is not there; put it there, or correct <{tag}> in "
        "the XML"
    )


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 400 else f"{text[:400]}..."


def _place(path_xml: Path, data: SpimData, texts: Iterable[str]) -> Path:
    """Return where a path that an XML names lies: the first of its spellings of which something is there."""
    base = data.base_path.text
    folders = dict.fromkeys((unquote(base), base))  # a URI, so perhaps percent-encoded (formats.md 1.3)
    places = [
        _resolve(_resolve(path_xml.parent, folder), text)
        for folder, text in product(folders, dict.fromkeys(texts))
    ]
    if len(places) > 1:
        places.sort(key=is_there, reverse=True)
    return places[0]


def points_folder(path_xml: Path, data: SpimData) -> Path:
    """Return where BigStitcher keeps interest points (formats.md 1.11); whether there are any is not looked at."""
    return _place(path_xml, data, ["interestpoints.n5"])


def is_absolute(text: str) -> bool:
    """Tell whether a path of an XML is absolute on any system, or a URI."""
    return text.startswith(("/", "\\")) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text) is not None


def _resolve(folder: Path, text: str) -> Path:
    """Return a path that an XML names. One without a type counts as relative, though not for Java."""
    if is_url(text):
        return place_of(text)
    if isinstance(folder, RemotePath) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        raise FormatError(f"an XML in {folder} names {text!r:.80}, which is not on a server; correct it")
    is_uri = text.startswith("file:")
    return Path(url2pathname(urlsplit(text).path)) if is_uri else folder / text.replace("\\", "/")


def _check_groups(loader: ImageLoader, path: Path, path_xml: Path, fence: Fence) -> None:
    """Check the paths inside a container, of which there may be many, where they could lead out of it."""
    if isinstance(loader, OmeZarrLoader):
        for text in {group.path for group in loader.groups.values()}:
            if ".." in text or text.startswith(("/", "\\")) or ":" in text:
                fence.check(path / text, path_xml)


# ---------------------------------------------------------------------------- files that BigStitcher names


def tiff_images(path_xml: Path, data: SpimData, fence: Fence) -> dict[ViewId, TiffImage]:
    """Return where the image of each view lies, as the XML has it; whether it is there is not looked up."""
    loader = data.loader
    assert isinstance(loader, FileListLoader | StackLoader)
    if isinstance(loader, FileListLoader):
        named = dict(_listed(path_xml, data, loader))
    else:
        named = dict(_stacks(path_xml, data, loader))
    paths = {path for image in named.values() for path in (image.path, *image.further)}
    for path in paths if fence.strict else {path.parent for path in paths}:
        fence.check(path, path_xml)
    for view, image in named.items():
        setup = data.setups.get(view.setup)
        if setup is not None and setup.size_xyz is not None:
            named[view] = replace(image, shape=setup.size_xyz[::-1])
    return named


def _listed(path_xml: Path, data: SpimData, loader: FileListLoader) -> Iterator[tuple[ViewId, TiffImage]]:
    """Iterate over the files that are listed one by one. In a file of several time points these go by id."""
    from npy2bdv.storage.tiff import TiffImage

    times: dict[str, set[int]] = {}
    for view, file in loader.files.items():
        times.setdefault(file.path.text, set()).add(view.time)
    for view, file in loader.files.items():
        path, *further = (_place(path_xml, data, [each.text]) for each in (file.path, *file.further))
        time = view.time if len(times[file.path.text]) > 1 else 0
        yield (
            view,
            TiffImage(
                path=path,
                further=tuple(further),
                grouped=loader.z_grouped,
                series=file.series,
                channel=file.channel,
                time=time,
            ),
        )


def _stacks(path_xml: Path, data: SpimData, loader: StackLoader) -> Iterator[tuple[ViewId, TiffImage]]:
    """Iterate over the files of a pattern. ``{tt}`` stands for the time point in two digits (formats.md 5)."""
    from npy2bdv.storage.tiff import TiffImage

    folder = _place(path_xml, data, [loader.folder.text])
    channels = sorted({setup.attributes.get("channel", 0) for setup in data.setups.values()})
    times = {time: place for place, time in enumerate(data.timepoints.ids)}
    for view in data.views():
        setup = data.setups[view.setup]
        labels = {"t": [str(view.time)]}
        for letter, attribute in _LETTERS.items():
            entity = data.entity(attribute, setup)
            assert entity is not None
            labels[letter] = [str(entity.id) if entity.name is None else entity.name, str(entity.id)]
        paths = [folder / _filled(loader.pattern, labels, which) for which in (0, -1)]
        channel = channels.index(setup.attributes.get("channel", 0))
        yield (
            view,
            TiffImage(
                path=paths[0] if paths[0] == paths[1] or paths[0].is_file() else paths[1],
                channel=channel if loader.layouts["channel"] == _ALL_IN_ONE else 0,
                time=times[view.time] if loader.layouts["timepoint"] == _ALL_IN_ONE else 0,
            ),
        )


def _filled(pattern: str, labels: Mapping[str, list[str]], which: int) -> str:
    """Return a file name by the labels of a view, numbers with as many digits as the letter has repetitions."""
    return _PLACE.sub(lambda found: labels[found[1]][which].zfill(len(found[0]) - 2), pattern)
