"""BigStitcher's interest points (``interestpoints.n5``, formats.md 1.11), where views are cropped, flipped or binned.

Of each view and label there is a group with lists: ids and places (pixels of the view, x, y, z), and
correspondences (id here, id there, number of the other list). Points that are cut off go, those that stay keep
their ids, and pairs of which one is gone go from both sides.
"""

from __future__ import annotations

import json
import shutil
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.errors import FormatError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage.codecs import gzip
from npy2bdv.storage.files import FileStore, is_real_folder
from npy2bdv.storage.pending import Change
from npy2bdv.storage.tensors import open_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Key = tuple[ViewId, str]
    """A view and a label."""
    Move = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.bool_]]]
    """Takes places (n, 3), gives new ones and which of them stay."""

_ATTRIBUTES = "attributes.json"
_STAGED = "npy2bdv-edit"


def staged_points(folder: Path) -> Path:
    """Return where new lists lie until they take their place."""
    return folder / _STAGED


def has_points(folder: Path, lists: Mapping[Key, str], view: ViewId) -> bool:
    """Tell whether there are any lists of a view."""
    return any(key[0] == view and is_real_folder(folder / text) for key, text in lists.items())


def move_points(
    folder: Path,
    lists: Mapping[Key, str],
    moves: Mapping[ViewId, Move],
    removed: frozenset[ViewId] = frozenset(),
) -> Change:
    """Write new lists beside the old ones; return what gives them their place.

    Parameters
    ----------
    folder
        ``interestpoints.n5``.
    lists
        Where the group of each view and label lies in it.
    moves
        What happens to the places of points of a view.
    removed
        Views whose lists go, and all pairs with them.

    Raises
    ------
    FormatError
        If a list is not what it should be.
    """
    staged = staged_points(folder)
    shutil.rmtree(staged, ignore_errors=True)
    store = FileStore(staged)
    there = {key: text for key, text in lists.items() if is_real_folder(folder / text)}
    swaps: list[tuple[Path, Path]] = []
    gone: dict[Key, NDArray[np.uint64]] = {}
    for key, text in there.items():
        group = f"{text}/interestpoints"
        if key[0] in removed:
            if (folder / group / "id" / _ATTRIBUTES).is_file():
                gone[key] = _read(folder / group / "id").reshape(-1)
        elif key[0] in moves and (folder / group).is_dir():
            ids = _read(folder / group / "id").reshape(-1)
            places = _read(folder / group / "loc").reshape(-1, 3)
            if not len(ids):
                continue
            moved, stays = moves[key[0]](places)
            _copy_list(folder / group, store, group, moved, stays)
            gone[key] = ids[~stays]
            swaps.append((staged / group, folder / group))
    for key, text in there.items():
        if key[0] in removed:
            continue
        group = f"{text}/correspondences"
        if (folder / group / "data" / _ATTRIBUTES).is_file():
            rows = _read(folder / group / "data").reshape(-1, 3)
            stays = _paired(rows, key, gone, folder / group)
            if not stays.all():
                store.put(f"{group}/{_ATTRIBUTES}", [(folder / group / _ATTRIBUTES).read_bytes()])
                _write(store, f"{group}/data", rows[stays], _attributes(folder / group / "data"))
                swaps.append((staged / group, folder / group))
    store.sync()
    return Change(swaps=tuple(swaps), removed=tuple(_groups_of(folder, there, removed)))


def _groups_of(folder: Path, lists: Mapping[Key, str], removed: frozenset[ViewId]) -> set[Path]:
    """Return the folders that go with some views: those of the views, where they hold nothing of others."""
    groups = {folder / text for key, text in lists.items() if key[0] in removed}
    kept = {folder / text for key, text in lists.items() if key[0] not in removed}
    views = {group.parent for group in groups if group.parent != folder}
    whole = {view for view in views if not any(each.is_relative_to(view) for each in kept)}
    return whole | {group for group in groups if group.parent not in whole}


def _paired(
    rows: NDArray[Any], key: Key, gone: Mapping[Key, NDArray[np.uint64]], group: Path
) -> NDArray[np.bool_]:
    """Tell which pairs are still there on both sides."""
    stays = np.ones(len(rows), bool)
    if key in gone:
        stays &= ~np.isin(rows[:, 0], gone[key])
    for name, number in _attributes(group).get("idMap", {}).items():
        time, setup, label = name.split(",", 2)
        other = gone.get((ViewId(int(time), int(setup)), label))
        if other is not None:
            stays &= ~((rows[:, 2] == number) & np.isin(rows[:, 1], other))
    return stays


def _copy_list(
    source: Path, store: FileStore, group: str, moved: NDArray[np.float64], stays: NDArray[np.bool_]
) -> None:
    """Write a list anew; what else lies in it and has a row for each point (intensities, say) goes with it."""
    store.put(f"{group}/{_ATTRIBUTES}", [(source / _ATTRIBUTES).read_bytes()])
    for each in sorted(source.iterdir()):
        if not (each / _ATTRIBUTES).is_file():
            continue
        said = _attributes(each)
        rows = moved if each.name == "loc" else _read(each)
        if len(rows) != len(stays):
            raise FormatError(f"{each} has {len(rows)} entries, and there are {len(stays)} points beside it")
        _write(store, f"{group}/{each.name}", rows[stays], said)


def _attributes(folder: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads((folder / _ATTRIBUTES).read_bytes())
    except (OSError, ValueError) as error:
        raise FormatError(f"{folder / _ATTRIBUTES} cannot be read ({error})") from error
    return said


def _read(folder: Path) -> NDArray[Any]:
    """Return a list, one row for each entry. An empty one has one dimension of length 0."""
    said = _attributes(folder)
    if 0 in said["dimensions"]:
        return np.empty((0,), said["dataType"])
    try:
        # axes are (x, y ...) in N5: along the last one go the entries
        array: NDArray[Any] = open_array("n5", folder, cached=False).T.read().result()
    except ValueError as error:
        raise FormatError(f"{folder} cannot be read ({error})") from error
    return array


def _write(store: FileStore, key: str, rows: NDArray[Any], said: dict[str, Any]) -> None:
    """Write a list as BigStitcher does; its blocks are compressed by gzip."""
    compression = {"type": "gzip", "useZlib": False, "level": -1}
    if not len(rows):
        said = {**said, "compression": compression, "blockSize": [1], "dimensions": [0]}
        store.put(f"{key}/{_ATTRIBUTES}", [json.dumps(said, separators=(",", ":")).encode()])
        return
    rows = rows.reshape(len(rows), -1)
    said = {**said, "compression": compression, "dimensions": [rows.shape[1], len(rows)]}
    wide, tall = said["blockSize"]
    for j, i in product(range(-(-len(rows) // tall)), range(-(-rows.shape[1] // wide))):
        block = rows[j * tall : (j + 1) * tall, i * wide : (i + 1) * wide]
        # header (formats.md 3.2): mode, number of dimensions, sizes; then big-endian numbers
        header = np.array([0, 2], ">u2").tobytes() + np.array(block.shape[::-1], ">u4").tobytes()
        packed = gzip(
            np.ascontiguousarray(block, block.dtype.newbyteorder(">")).reshape(-1).view(np.uint8), 6
        )
        store.put(f"{key}/{i}/{j}", [header, packed])
    store.put(f"{key}/{_ATTRIBUTES}", [json.dumps(said, separators=(",", ":")).encode()])
