"""What in an HDF5 file is not as BigDataViewer reads it (formats.md 2), beside what all formats have in common."""

from __future__ import annotations

import struct
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from npy2bdv.errors import FormatError
from npy2bdv.model.findings import Finding, finding
from npy2bdv.storage.base import ContainerAudit
from npy2bdv.storage.hdf5 import MAX_LEVELS, PIXEL_TYPES, cells_path, setup_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from npy2bdv.model.spimdata import ViewId
    from npy2bdv.storage.hdf5 import Hdf5Container

UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
"""What h5py raises where a file is damaged."""

# Filters of the HDF5 that BigDataViewer, BigStitcher and Bio-Formats bring along (formats.md 2.5).
_OF_JAVA = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_SCALEOFFSET,
    h5py.h5z.FILTER_NBIT,
}
_NAMES = {
    h5py.h5z.FILTER_LZF: "lzf",
    h5py.h5z.FILTER_SZIP: "szip",
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32015: "zstd",
    32026: "blosc2",
}
_FIRST_UNKNOWN_LAYOUT = 5  # to HDF5 1.10
_MAX_NAME = 256
_LAYOUT_MESSAGE, _CONTINUATION = 8, 16
_MAX_HEADER = 2**20


def audit(
    container: Hdf5Container,
    views: Iterable[ViewId],
    setups: Iterable[int],
    times: Iterable[int],
    folder: Path,
) -> ContainerAudit:
    """Look at all that BigDataViewer reads, but for pixels.

    Parameters
    ----------
    container
        The open file.
    views
        Those of which pixels should be there.
    setups, times
        All that the XML has.
    folder
        That of the XML, outside of which no pixels should lie.
    """
    found: list[Finding] = []
    unsigned: dict[int, str] = {}
    unreachable: set[ViewId] = set()
    try:
        _look(container, (tuple(views), tuple(setups), tuple(times)), folder, found, unsigned, unreachable)
    except (*UNREADABLE, FormatError) as error:
        found.append(
            finding("H01", container.path.name, f"it is damaged: not all can be looked at ({error})")
        )
    return ContainerAudit(findings=tuple(found), unsigned=unsigned, unreachable=frozenset(unreachable))


def _look(
    container: Hdf5Container,
    listed: tuple[tuple[ViewId, ...], tuple[int, ...], tuple[int, ...]],
    folder: Path,
    found: list[Finding],
    unsigned: dict[int, str],
    unreachable: set[ViewId],
) -> None:
    """Look at all; what is found is added, so that it is not lost where the file cannot be read any further."""
    file, (views, setups, times) = container.file, listed
    outside: set[str] = set()
    n_levels: dict[int, int] = {}
    for setup in setups:
        findings, n_levels[setup] = _setup(container, setup)
        found += findings
    types: defaultdict[int, set[str]] = defaultdict(set)
    chunks: defaultdict[int, dict[int, tuple[int, ...]]] = defaultdict(dict)
    stored = set(container.views())
    for view in views:
        if view not in stored:
            continue
        for level in range(max(1, n_levels.get(view.setup, 1))):
            try:
                cells, is_gone = _cells(container, view, level, found)
                if is_gone:
                    unreachable.add(view)
                if cells is not None:
                    if cells.file.filename != file.filename:
                        outside.add(cells.file.filename)
                    types[view.setup].add(cells.dtype.newbyteorder("=").name)
                    chunks[view.setup].setdefault(level, cells.chunks or cells.shape)
            except (*UNREADABLE, FormatError) as error:
                found.append(
                    finding("H12", _place(container, view, level), f"it cannot be looked at ({error})")
                )
    for setup, names in types.items():
        said = data_type(file, setup)
        place = f"{container.path.name}, {setup_path(setup)}"
        found += _type(place, said, names)
        if names == {"uint16"} and said not in PIXEL_TYPES:
            unsigned[setup] = place
        found += _subdivisions(file, setup, place, chunks[setup])
    for name in sorted(outside):
        if not Path(name).resolve().is_relative_to(folder.resolve()):
            found.append(finding("F02", container.path.name, f"a link leads to {name}"))
    groups = set(file)
    lacking = [name for time in times if (name := f"t{time:05d}") not in groups]
    if lacking:
        more = f", and none of {len(lacking) - 1} more" if lacking[1:] else ""
        found.append(finding("H14", container.path.name, f"there is no group {lacking[0]}{more}"))


def _place(container: Hdf5Container, view: ViewId, level: int) -> str:
    return f"{container.path.name}, {cells_path(view, level)}"


def _setup(container: Hdf5Container, setup: int) -> tuple[list[Finding], int]:
    """Look at the tables of a setup; return how many levels it has."""
    found, rows = [], {}
    for name in ("resolutions", "subdivisions"):
        place = f"{container.path.name}, {setup_path(setup)}/{name}"
        try:
            table = container.file.get(f"{setup_path(setup)}/{name}")
            if not isinstance(table, h5py.Dataset):
                found.append(finding("H02", place, "it is not there"))
            elif table.ndim != 2 or table.shape[1] != 3 or not 0 < table.shape[0] <= MAX_LEVELS:
                found.append(finding("H02", place, f"its shape is {table.shape}; it should be (levels, 3)"))
            elif table.dtype.kind not in "iuf":
                found.append(finding("H02", place, f"it holds no numbers but {table.dtype}"))
            else:
                rows[name] = table.shape[0]
        except UNREADABLE as error:
            found.append(finding("H02", place, f"it cannot be read ({error})"))
    if len(set(rows.values())) > 1:
        found.append(
            finding(
                "H02", f"{container.path.name}, {setup_path(setup)}", f"different numbers of rows: {rows}"
            )
        )
    return found, rows.get("resolutions", 0)


def _cells(
    container: Hdf5Container, view: ViewId, level: int, found: list[Finding]
) -> tuple[h5py.Dataset | None, bool]:
    """Look at one image; return it if it is one, and whether it lies in a file that is gone."""
    file, name = container.file, cells_path(view, level)
    place = _place(container, view, level)
    container.check_links(name, fenced=False)
    link = file.get(name, getlink=True) if name in file or _has_link(file, name) else None
    if isinstance(link, h5py.ExternalLink) and not (container.path.parent / link.filename).is_file():
        found.append(finding("H13", place, f"it leads to {link.filename!r}"))
        return None, True
    cells = file.get(name)
    if cells is None:
        return None, False
    if not isinstance(cells, h5py.Dataset) or cells.ndim != 3 or cells.dtype.name not in PIXEL_TYPES:
        found.append(finding("H12", place, f"it is {_described(cells)}"))
        return None, False
    properties = cells.id.get_create_plist()
    filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
    foreign = sorted(filters - _OF_JAVA)
    if foreign:
        names = ", ".join(_NAMES.get(code, f"number {code}") for code in foreign)
        found.append(finding("H09", place, f"it is compressed with {names}"))
    if filters and layout_version(cells) >= _FIRST_UNKNOWN_LAYOUT:
        found.append(finding("H10", place, f"its layout is of version {layout_version(cells)}"))
    return cells, False


def _has_link(file: h5py.File, name: str) -> bool:
    """Tell whether there is a link of a name, wherever it leads."""
    folder, _, last = name.rpartition("/")
    group = file.get(folder)
    return isinstance(group, h5py.Group) and last in set(group)


def _described(found: Any) -> str:
    if isinstance(found, h5py.Dataset):
        return f"a dataset of the shape {found.shape} and the type {found.dtype}"
    return "a group" if isinstance(found, h5py.Group) else "something else"


def data_type(file: h5py.File, setup: int) -> str | None:
    """Return what the attribute ``dataType`` of a setup says; None where there is none, or one that is no text."""
    group = file.get(setup_path(setup))
    if not isinstance(group, h5py.Group) or "dataType" not in group.attrs:
        return None
    if group.attrs.get_id("dataType").get_storage_size() > _MAX_NAME:
        return "(a long text)"
    said = group.attrs["dataType"]
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _type(place: str, said: str | None, names: set[str]) -> Iterator[Finding]:
    """Look at the type that a setup says its pixels have (formats.md 2.4)."""
    stored = " and ".join(sorted(names))
    if said is not None and said not in PIXEL_TYPES:
        yield finding("H07", place, f"dataType is {said!r}; the pixels are {stored}")
    if said not in PIXEL_TYPES:
        if not names <= {"int16", "uint16"}:
            yield finding("H06", place, f"the pixels are {stored}")
    elif names == {"int16"} and said == "uint16":
        yield finding("H05", place, "the pixels are int16")
    elif names != {said}:
        yield finding("H08", place, f"dataType is {said!r}; the pixels are {stored}")


def _subdivisions(
    file: h5py.File, setup: int, place: str, chunks: Mapping[int, tuple[int, ...]]
) -> Iterator[Finding]:
    table = file.get(f"{setup_path(setup)}/subdivisions")
    if not isinstance(table, h5py.Dataset) or table.ndim != 2 or not 0 < table.shape[0] <= MAX_LEVELS:
        return
    rows = np.asarray(table[()])[:, ::-1].tolist()
    for level, chunk in sorted(chunks.items()):
        if level < len(rows) and tuple(rows[level]) != chunk:
            yield finding(
                "H11",
                place,
                f"subdivisions of level {level} are {tuple(rows[level])} (z, y, x), its chunks {chunk}",
            )
            return


def layout_version(cells: h5py.Dataset) -> int:
    """Return the version of the layout message of a dataset, by the bytes of its header; 0 where that is not found.

    HDF5 has no call that tells it.
    """
    try:
        with Path(cells.file.filename).open("rb") as file:
            file.seek(h5py.h5o.get_info(cells.id).addr)
            head = file.read(_MAX_HEADER)
    except (OSError, OverflowError):
        return 0
    messages = _messages_v2(head) if head[:4] == b"OHDR" else _messages_v1(head)
    return next((data[0] for kind, data in messages if kind == _LAYOUT_MESSAGE and data), 0)


def _messages_v1(head: bytes) -> Iterator[tuple[int, bytes]]:
    if len(head) < 16:
        return
    (size,) = struct.unpack_from("<I", head, 8)
    at, end = 16, min(16 + size, len(head))
    while at + 8 <= end:
        kind, length = struct.unpack_from("<HH", head, at)
        yield kind, head[at + 8 : at + 8 + length]
        at += 8 + length


def _messages_v2(head: bytes) -> Iterator[tuple[int, bytes]]:
    flags = head[5]
    at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    size = int.from_bytes(head[at : at + width], "little")
    at += width
    end = min(at + size, len(head))
    lead = 6 if flags & 4 else 4
    while at + lead <= end:
        kind, length = struct.unpack_from("<BH", head, at)
        yield kind, head[at + lead : at + lead + length]
        at += lead + length


# --------------------------------------------------------------------------------------------- mending


def mend(container: Hdf5Container, codes: set[str], setups: Iterable[int], times: Iterable[int]) -> None:
    """Correct attributes and tables by what is stored; pixels are not touched. The file is open for writing."""
    file = container.file
    stored = {view.setup: view for view in container.views()}
    for setup in setups:
        view = stored.get(setup)
        cells = None if view is None else file.get(cells_path(view, 0))
        group = file.get(setup_path(setup))
        if not isinstance(cells, h5py.Dataset) or not isinstance(group, h5py.Group):
            continue
        _mend_type(group, cells.dtype.newbyteorder("=").name, codes)
        table = group.get("subdivisions")
        if "H11" in codes and view is not None and isinstance(table, h5py.Dataset) and table.ndim == 2:
            for level in range(table.shape[0]):
                image = file.get(cells_path(view, level))
                if isinstance(image, h5py.Dataset) and image.ndim == 3:
                    table[level] = (image.chunks or image.shape)[::-1]
    if "H14" in codes:
        container.note_times(times)


def _mend_type(group: h5py.Group, stored: str, codes: set[str]) -> None:
    said = data_type(group.file, int(group.name.rpartition("/s")[2]))
    if "H05" in codes and said == "uint16" and stored == "int16":
        del group.attrs["dataType"]
    elif codes & {"H03", "H04", "H06", "H07"} and said not in PIXEL_TYPES and stored in PIXEL_TYPES:
        group.attrs.pop("dataType", None)
        if stored != "int16":  # which without the attribute holds the bits of uint16
            group.attrs["dataType"] = np.bytes_(stored)
