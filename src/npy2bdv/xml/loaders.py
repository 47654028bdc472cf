"""``<ImageLoader>``: where the pixels of a dataset are said to lie (formats.md 2.6, 4.1, 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lxml import etree

from npy2bdv.errors import FormatError
from npy2bdv.model.spimdata import (
    ContainerLoader,
    FileListLoader,
    Hdf5Loader,
    ImageFile,
    ImageLoader,
    N5Loader,
    OmeZarrLoader,
    OtherLoader,
    Partition,
    PathRef,
    SplitLoader,
    SplitPart,
    StackLoader,
    ViewId,
    ZarrGroup,
)
from npy2bdv.xml.elements import (
    first_of,
    path_of,
    read_element,
    split_children,
    text_of,
    whole_number,
    whole_numbers_of,
    write_element,
    write_kept,
    write_leaf,
    write_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lxml.etree import _Element

    from npy2bdv.model.spimdata import SpimData

    ReadSequence = Callable[[_Element], SpimData]

PIXEL_TAGS = {"bdv.hdf5": "hdf5", "bdv.n5": "n5", "bdv.multimg.zarr": "zarr"}
_CHILDREN = {"bdv.hdf5": ("hdf5", "partition"), "bdv.n5": ("n5",), "bdv.multimg.zarr": ("zarr", "zgroups")}
SPLIT = ("split.viewerimgloader", "split.imgloader", "split.multiresolutionimgloader")
_FILE_LISTS = ("spimreconstruction.filemap2", "spimreconstruction.filelist")
_STACKS = ("spimreconstruction.stack.ij", "spimreconstruction.stack.loci")
_LAYOUTS = {
    "timepoint": "layoutTimepoints",
    "channel": "layoutChannels",
    "illumination": "layoutIlluminations",
    "angle": "layoutAngles",
    "tile": "layoutTiles",
}


# ---------------------------------------------------------------------------------------------- reading


def read_loader(node: _Element, read_sequence: ReadSequence) -> ImageLoader:
    """Return what an <ImageLoader> says; `read_sequence` reads the <SequenceDescription> that one may hold."""
    format_ = node.get("format") or ""
    if format_ in PIXEL_TAGS:
        return _pixel_loader(node, format_)
    try:
        if format_ in SPLIT:
            return _split_loader(node, format_, read_sequence)
        if format_ in _FILE_LISTS:
            return _file_list_loader(node, format_)
        if format_ in _STACKS:
            return _stack_loader(node, format_)
    except FormatError as error:  # what else the XML says can be of use
        return OtherLoader(format=format_, element=read_element(node), problem=str(error))
    return OtherLoader(format=format_, element=read_element(node))


def _pixel_loader(node: _Element, format_: str) -> ImageLoader:
    found, kept = split_children(node, _CHILDREN[format_])
    path = first_of(found, PIXEL_TAGS[format_])
    if path is None:
        raise FormatError(
            f"line {node.sourceline}: <ImageLoader> does not name its pixels (no <{PIXEL_TAGS[format_]}>)"
        )
    version = node.get("version")
    if format_ == "bdv.n5":
        return N5Loader(path=path_of(path), version=version, kept=kept)
    if format_ == "bdv.multimg.zarr":
        named = node.get("zarr.version") or ""
        return OmeZarrLoader(
            path=path_of(path),
            groups=dict(
                _zarr_group(each) for parent in found["zgroups"] for each in parent.findall("zgroup")
            ),
            version=version,
            zarr_version=int(named[-1]) if named[-1:].isdigit() else None,
            kept=kept,
        )
    partitions = tuple(_partition(partition) for partition in found["partition"])
    return Hdf5Loader(path=path_of(path), partitions=partitions, kept=kept)


def _zarr_group(node: _Element) -> tuple[ViewId, ZarrGroup]:
    """Return a <zgroup> in any of its spellings (formats.md 4.1)."""
    time = node.get("tp", node.get("timepoint"))
    setup = node.get("setup")
    if time is None or setup is None:
        raise FormatError(f"line {node.sourceline}: <zgroup> does not name its view (setup, tp)")
    path = node.get("path")
    child = node.find("path")
    indices = node.get("indicies", node.get("indices"))
    text = (indices or "").strip(" []").replace(",", " ")
    try:
        return ViewId(int(time), int(setup)), ZarrGroup(
            path=path if path is not None else (text_of(child) or "").strip(),
            indices=None if indices is None else tuple(map(int, text.split())),
        )
    except ValueError as error:
        raise FormatError(f"line {node.sourceline}: <zgroup> holds no numbers ({error})") from error


def _partition(node: _Element) -> Partition:
    def ints(tag: str) -> tuple[int, ...] | None:
        child = node.find(tag)
        return None if child is None else tuple(whole_numbers_of(child))

    path = node.find("path")
    return Partition(
        path=PathRef(text="") if path is None else path_of(path),
        timepoints=ints("timepoints") or (),
        setups=ints("setups") or (),
        timepoints_mapped=ints("timepointsMapped"),
        setups_mapped=ints("setupsMapped"),
    )


def _split_loader(node: _Element, format_: str, read_sequence: ReadSequence) -> SplitLoader:
    sequence, inner = node.find("SequenceDescription"), node.find("ImageLoader")
    if sequence is None:
        raise FormatError(f"line {node.sourceline}: <ImageLoader> does not describe what was split")
    data = read_sequence(sequence)
    if inner is not None:
        data = replace(data, loader=read_loader(inner, read_sequence))
    parts = {}
    for part in node.iterfind("SetupIds/SetupIdDefinition"):
        setup, old = (whole_number(part.findtext(tag), part, f"a <{tag}>") for tag in ("NewId", "OldId"))
        parts[setup] = SplitPart(setup=old, first_xyz=_corner(part, "min"), last_xyz=_corner(part, "max"))
    return SplitLoader(format=format_, element=read_element(node), inner=data, parts=parts)


def _corner(part: _Element, tag: str) -> tuple[int, int, int]:
    corner = part.find(tag)
    numbers = [] if corner is None else whole_numbers_of(corner)
    if len(numbers) != 3:
        raise FormatError(f"line {part.sourceline}: <{part.tag}> has no <{tag}> of three numbers")
    return numbers[0], numbers[1], numbers[2]


def _file_list_loader(node: _Element, format_: str) -> FileListLoader:
    files = {}
    for mapping in node.iter("FileMapping"):
        time, setup = (
            whole_number(mapping.get(name), mapping, f"a {name}") for name in ("timepoint", "view_setup")
        )
        series, channel = (
            whole_number(mapping.get(name, "0"), mapping, f"a {name} that is a number")
            for name in ("series", "channel")
        )
        paths = [path_of(path) for path in mapping.findall("file")]
        if not paths:
            raise FormatError(f"line {mapping.sourceline}: <FileMapping> names no <file>")
        files[ViewId(time, setup)] = ImageFile(
            path=paths[0], further=tuple(paths[1:]), series=series, channel=channel
        )
    grouped = (node.findtext("ZGrouped") or "").strip().lower() == "true"
    return FileListLoader(format=format_, element=read_element(node), files=files, z_grouped=grouped)


def _stack_loader(node: _Element, format_: str) -> StackLoader:
    folder, pattern = node.find("imagedirectory"), text_of(node.find("filePattern"))
    if folder is None or not pattern:
        raise FormatError(f"line {node.sourceline}: <ImageLoader> has no <imagedirectory> or <filePattern>")
    return StackLoader(
        format=format_,
        element=read_element(node),
        folder=path_of(folder),
        pattern=pattern,
        layouts={
            name: whole_number(node.findtext(tag, "0"), node, f"a <{tag}> that is a number")
            for name, tag in _LAYOUTS.items()
        },
    )


# ---------------------------------------------------------------------------------------------- writing


def write_loader(sequence: _Element, loader: ImageLoader) -> None:
    """Write an image loader; those that are only read are put back as they were."""
    if not isinstance(loader, ContainerLoader):
        write_element(sequence, loader.element)
        return
    node = etree.SubElement(sequence, "ImageLoader", format=loader.format)
    write_path(node, PIXEL_TAGS[loader.format], loader.path)
    if not isinstance(loader, Hdf5Loader):
        _write_zarr_or_n5(node, loader)
        return
    for partition in loader.partitions:
        part = etree.SubElement(node, "partition")
        write_path(part, "path", partition.path)
        for tag, ints in (
            ("timepoints", partition.timepoints),
            ("timepointsMapped", partition.timepoints_mapped),
            ("setups", partition.setups),
            ("setupsMapped", partition.setups_mapped),
        ):
            if ints is not None:
                write_leaf(part, tag, " ".join(map(str, ints)))
    write_kept(node, loader.kept)


def _write_zarr_or_n5(node: _Element, loader: N5Loader | OmeZarrLoader) -> None:
    if loader.version is not None:
        node.set("version", loader.version)
    if isinstance(loader, OmeZarrLoader):
        if loader.zarr_version is not None:
            node.set("zarr.version", f"ZarrV{loader.zarr_version}")
        parent = etree.SubElement(node, "zgroups")
        for view, group in loader.groups.items():
            _write_zarr_group(parent, view, group, loader.version)
    write_kept(node, loader.kept)


def _write_zarr_group(parent: _Element, view: ViewId, group: ZarrGroup, version: str | None) -> None:
    """Write a <zgroup> as readers of the loader's version expect it (formats.md 4.1)."""
    if version == "1.0":
        node = etree.SubElement(parent, "zgroup", setup=str(view.setup), timepoint=str(view.time))
        write_leaf(node, "path", group.path)
        return
    node = etree.SubElement(parent, "zgroup", setup=str(view.setup), tp=str(view.time), path=group.path)
    if group.indices is not None or version == "3.0":
        node.set("indicies", " ".join(map(str, group.indices or ())) or "[]")
