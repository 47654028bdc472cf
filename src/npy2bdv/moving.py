"""Images of several containers are moved into one, by renaming folders; what was begun is finished after a kill.

All that is to happen is written into ``OUT.xml.moving`` first, at once. From then on it has happened, and has only to
be carried out, which may be begun again as often as it takes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv.errors import FormatError, InvalidInputError
from npy2bdv.storage.files import remove_folder
from npy2bdv.storage.save import move, replace_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

_METADATA = {
    "attributes.json", "attributes_cache.json", ".zgroup", ".zattrs", ".zmetadata", "zarr.json",
}  # fmt: skip
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What is moved, and what is written then.

    Attributes
    ----------
    folders
        From where to where.
    files
        Small files of the new container, and what is in them.
    xml
        The XML, and its text.
    retired
        Files that are given another name: XMLs whose pixels are gone.
    emptied
        Containers that go, if nothing is left in them.
    notes
        What else is to be known of it afterwards.
    """

    folders: tuple[tuple[Path, Path], ...]
    files: tuple[tuple[Path, str], ...]
    xml: tuple[Path, str]
    retired: tuple[tuple[Path, Path], ...] = ()
    emptied: tuple[Path, ...] = ()
    notes: object = None


def plan_path(out_xml: Path) -> Path:
    """Return where it is noted what is being moved."""
    return out_xml.with_name(f"{out_xml.name}.moving")


def check_can_move(folders: Iterable[Path], target: Path) -> None:
    """Refuse what cannot be moved by giving it another name.

    Raises
    ------
    InvalidInputError
        If something lies on another volume.
    """
    volume = target.stat().st_dev
    for folder in folders:
        if folder.stat().st_dev != volume:
            raise InvalidInputError(
                f"{folder} is on another volume than {target}: it cannot be moved without copying. Choose a folder on "
                "its volume"
            )


def begin(planned: Move) -> None:
    """Note what is to happen, all at once, and carry it out."""
    path = plan_path(planned.xml[0])
    folder = path.parent

    def named(place: Path) -> str:
        return Path(os.path.relpath(place, folder)).as_posix()

    text = {
        "version": _VERSION,
        "folders": [[named(each) for each in pair] for pair in planned.folders],
        "files": [[named(place), content] for place, content in planned.files],
        "xml": planned.xml[1],
        "retired": [[named(each) for each in pair] for pair in planned.retired],
        "emptied": [named(each) for each in planned.emptied],
        "notes": planned.notes,
    }
    written = replace_file(path, json.dumps(text).encode())
    sync_folder(folder)
    assert written == path, "there was nothing under this name that could be held"
    finish(planned.xml[0])


def finish(out_xml: Path) -> object:
    """Carry out what is noted; return what was noted beside.

    Raises
    ------
    FormatError
        If the note is of another version, or a folder is neither where it was nor where it goes.
    """
    path = plan_path(out_xml)
    folder = path.parent
    said = json.loads(path.read_bytes())
    if said["version"] != _VERSION:
        raise FormatError(f"{path} was written by another version of npy2bdv; finish it with that one")
    pairs = [(_place(folder, source), _place(folder, target)) for source, target in said["folders"]]
    lost = [source for source, target in pairs if not source.exists() and not target.exists()]
    if lost:
        raise FormatError(
            f"{lost[0]} is not there, and was not moved yet; put it back, then merge again to finish "
            f"what {path.name} says"
        )
    for name, content in said["files"]:
        place = _place(folder, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, content.encode())
    for source, target in pairs:
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            move(source, target)
    for parent in {each.parent for pair in pairs for each in pair if each.parent.is_dir()}:
        sync_folder(parent)
    replace_file(out_xml, said["xml"].encode())
    for source, target in ((_place(folder, a), _place(folder, b)) for a, b in said["retired"]):
        if source.exists():
            move(source, target)
    for container in (_place(folder, name) for name in said["emptied"]):
        if container.is_dir() and not _holds_data(container):
            remove_folder(container)
    sync_folder(folder)
    path.unlink()
    notes: object = said["notes"]
    return notes


def _place(folder: Path, name: str) -> Path:
    return Path(os.path.normpath(folder / name))


def _holds_data(container: Path) -> bool:
    return any(name not in _METADATA for _, _, names in os.walk(container) for name in names)
