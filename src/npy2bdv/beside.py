"""What lies beside an XML: paths as it names them, and small data of BigStitcher (formats.md 1.11).

Those are N5 containers of interest points and of point spread functions.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv.errors import ExistsError, InvalidInputError
from npy2bdv.storage.files import PART
from npy2bdv.storage.save import move

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from npy2bdv.model.renumbering import Renumbering

POINTS, PSFS = "interestpoints.n5", "psf.n5"


def seen_from(path: Path, folder: Path) -> str:
    """Return a path as seen from a folder.

    Raises
    ------
    InvalidInputError
        If they are on different drives (Windows).
    """
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        raise InvalidInputError(
            f"{path} is on another drive than {folder}, and cannot be referred to from there; choose a folder on the "
            "drive of the recordings"
        ) from None


def groups_to_copy(
    recordings: Iterable[tuple[Path, Renumbering]], folder: Path
) -> Iterator[tuple[Path, Path, dict[str, str]]]:
    """Iterate over the groups of small data that sections name: where they are, where to, keys of views in them.

    Parameters
    ----------
    recordings
        The folder of each XML, and its new ids.
    folder
        That of the new XML.

    Raises
    ------
    ExistsError
        If there is another one of the name.
    """
    for home, ids in recordings:
        keys = {
            f"{time},{setup}": f"{ids.times[time]},{ids.setups[setup]}"
            for time in ids.times
            for setup in ids.setups
        }
        for name in (POINTS, PSFS):
            store = home / name
            for group in sorted(store.iterdir()) if store.is_dir() else ():
                renamed = ids.group(group.name)
                target = folder / name / renamed
                if not group.is_dir() or (target == group and renamed == group.name):
                    continue
                if target.exists():
                    raise ExistsError(
                        f"{target} exists already, where {group} is to be copied; write the merged dataset into "
                        "another folder"
                    )
                yield group, target, keys


def copy_group(source: Path, target: Path, keys: dict[str, str]) -> None:
    """Copy a group of an N5 container; correspondences name views, which have other ids now."""
    store = target.parent
    store.mkdir(exist_ok=True)
    if not (store / "attributes.json").exists():
        (store / "attributes.json").write_text('{"n5":"4.0.0"}', "utf-8")
    part = target.with_name(target.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    for path in part.glob("*/correspondences/attributes.json"):
        said = json.loads(path.read_text("utf-8"))
        ids = said.get("idMap")
        if isinstance(ids, dict):
            said["idMap"] = {_renamed(key, keys): value for key, value in ids.items()}
            path.write_text(json.dumps(said, separators=(",", ":")), "utf-8")
    move(part, target)


def _renamed(key: str, keys: dict[str, str]) -> str:
    """Return a key "time,setup,label" with the new ids."""
    time, _, rest = key.partition(",")
    setup, _, label = rest.partition(",")
    return f"{keys.get(f'{time},{setup}', f'{time},{setup}')},{label}"
