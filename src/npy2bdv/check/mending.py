"""Mending what can be mended without guessing: values of the XML, and attributes and tables beside the pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from npy2bdv import xml
from npy2bdv.model.findings import CODES
from npy2bdv.model.spimdata import (
    ENTITY_TYPES,
    AttributeGroup,
    Entity,
    Hdf5Loader,
    N5Loader,
    OmeZarrLoader,
)
from npy2bdv.storage import mend_container
from npy2bdv.storage.journal import Lock
from npy2bdv.storage.save import keep_backup, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from npy2bdv.model.findings import Finding
    from npy2bdv.model.spimdata import Element, ImageLoader, PathRef, SpimData, ViewId

_NUMBERS = {"min", "max", "shift", "overlap_boundingbox", "model"}
_OF_CONTAINERS = ("H", "N", "Z")


def mend(
    path_xml: Path,
    data: SpimData | None,
    pixels: Path | None,
    findings: Iterable[Finding],
    *,
    absent: Iterable[ViewId],
    sizes: Mapping[int, tuple[int, int, int]],
) -> bool:
    """Mend what can be mended; return whether anything was written.

    The XML that was there is kept as ``NAME.xml~1``. It is not rewritten where that would lose what it says twice, or
    what cannot be read. Attributes in the container are corrected in place; pixels are never touched.
    """
    codes = {each.code for each in findings}
    wanted = {code for code in codes if CODES[code].mended}
    if data is None or not wanted or "F03" in codes or "F04" in codes:
        return False
    in_container = {code for code in wanted if code[0] in _OF_CONTAINERS} - {"Z08"}
    written = False
    inside = pixels is not None and pixels.resolve().is_relative_to(path_xml.parent.resolve())
    if in_container and inside and pixels is not None and data.loader is not None:
        lock = Lock(pixels)
        try:
            mend_container(data.loader, pixels, in_container, data)
        finally:
            lock.release()
        written = True
    if wanted - in_container and not any(CODES[code].bars for code in codes):
        better = _mended(data, wanted, absent, sizes)
        keep_backup(path_xml)
        replace_file(path_xml, xml.serialise(better))
        written = True
    return written


def _mended(
    data: SpimData,
    codes: set[str],
    absent: Iterable[ViewId],
    sizes: Mapping[int, tuple[int, int, int]],
) -> SpimData:
    """Return what the XML should say. That it is written anew mends all that `xml.parse` makes regular."""
    if "V02" in codes:
        gone = frozenset(absent)
        kept = {view: said for view, said in data.registrations.items() if view not in gone}
        data = replace(data, missing=(data.missing or frozenset()) | gone, registrations=kept)
    if codes & {"V04", "X21"}:
        setups = dict(data.setups)
        for id_, size in sizes.items():
            if "V04" in codes or setups[id_].size_xyz is None:
                setups[id_] = replace(setups[id_], size_xyz=size)
        data = replace(data, setups=setups)
    if codes & {"X07", "X08", "X26"}:
        data = replace(data, attributes=_groups(data))
    if isinstance(data.loader, Hdf5Loader | N5Loader | OmeZarrLoader):
        data = replace(data, loader=_loader(data.loader, codes))
    if "X03" in codes:
        data = replace(data, sections=tuple(map(_tidy, data.sections)))
    if "X05" in codes:
        data = replace(data, base_path=_relative(data.base_path))
    return data


def _tidy(element: Element) -> Element:
    """Return an element of BigStitcher's with single blanks between its numbers."""
    text = " ".join(element.text.split()) if element.tag in _NUMBERS else element.text
    return replace(element, text=text, children=tuple(map(_tidy, element.children)))


def _groups(data: SpimData) -> dict[str, AttributeGroup]:
    """Return the blocks of attributes with all ids that setups have, each with a name."""
    groups = dict(data.attributes)
    for setup in data.setups.values():
        for name, id_ in setup.attributes.items():
            group = groups.get(name, AttributeGroup(name=name, entities={}))
            if id_ not in group.entities:
                entity = ENTITY_TYPES.get(name, Entity)(id=id_, name=str(id_))
                group = replace(group, entities={**group.entities, id_: entity})
            groups[name] = group
    return {
        name: replace(
            group,
            entities={
                id_: replace(entity, name=str(id_))
                if entity.name is None and name in ENTITY_TYPES
                else entity
                for id_, entity in group.entities.items()
            },
        )
        for name, group in groups.items()
    }


def _relative(path: PathRef) -> PathRef:
    from npy2bdv.location import is_absolute

    return path if is_absolute(path.text) else replace(path, relative=True)


def _loader(loader: Hdf5Loader | N5Loader | OmeZarrLoader, codes: set[str]) -> ImageLoader:
    path = _relative(loader.path)
    if "X11" in codes and not isinstance(loader, Hdf5Loader) and path.relative:
        path = replace(path, text=quote(unquote(path.text), safe="/"))
    if "X12" in codes and isinstance(loader, Hdf5Loader):
        path = replace(path, text=unquote(path.text))
    if isinstance(loader, Hdf5Loader):
        partitions = tuple(replace(each, path=_relative(each.path)) for each in loader.partitions)
        return replace(loader, path=path, partitions=partitions)
    if isinstance(loader, OmeZarrLoader) and codes & {"X17", "Z08"}:
        version, zarr_version = ("3.1", 3) if "Z08" in codes and loader.zarr_version != 3 else ("3.0", None)
        if "Z08" not in codes and loader.zarr_version == 3:
            version, zarr_version = "3.1", 3
        return replace(loader, path=path, version=version, zarr_version=zarr_version)
    return replace(loader, path=path)
