"""What in an N5 container is not as BigDataViewer reads it (formats.md 3), beside what all formats have in common."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from npy2bdv.errors import FormatError
from npy2bdv.model.findings import Finding, finding
from npy2bdv.storage.n5 import CARD, DECODERS, level_key, read_attributes, setup_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from npy2bdv.model.spimdata import ViewId
    from npy2bdv.storage.files import FileStore

_OF_JAVA = {"raw", "gzip", "bzip2", "xz", "lz4", "zstd", "blosc"}
_MAX_VERSION = 4
_CACHE = "attributes_cache.json"
_MAX_CACHED = 100_000


def audit(store: FileStore, views: Iterable[ViewId], setups: Iterable[int]) -> list[Finding]:
    """Look at all that BigDataViewer reads, but for pixels, of the views of which pixels should be there."""
    root = store.root
    found: list[Finding] = []
    found += _version(store)
    types: dict[int, set[str]] = {}
    named: dict[int, int] = {}
    for setup in setups:
        attributes = _attributes(store, setup_key(setup), found)
        lacking = [name for name in ("downsamplingFactors", "dataType") if name not in attributes]
        if lacking:
            found.append(finding("N02", root / setup_key(setup), f"it lacks {', '.join(lacking)}"))
        rows = attributes.get("downsamplingFactors")
        named[setup] = len(rows) if isinstance(rows, list) else 1
    for view in views:
        for level in range(max(1, min(named.get(view.setup, 1), 64))):
            key = level_key(view, level)
            attributes = _attributes(store, key, found)
            if attributes:
                found += _image(root / key, attributes)
                types.setdefault(view.setup, set()).add(str(attributes.get("dataType")))
    for setup, names in types.items():
        said = _attributes(store, setup_key(setup), []).get("dataType")
        if said is not None and names != {str(said)}:
            stored = " and ".join(sorted(names))
            found.append(
                finding("N03", root / setup_key(setup), f"dataType is {said!r:.60}, of its images {stored}")
            )
    found += _cache(store)
    return found


def _version(store: FileStore) -> Iterator[Finding]:
    found: list[Finding] = []
    version = _attributes(store, "", found).get("n5")
    yield from found
    major = str(version or "0").partition(".")[0]
    if not major.isdigit() or int(major) > _MAX_VERSION:
        yield finding("N01", store.root, f"its N5 version is {version!r}; Java reads up to {_MAX_VERSION}")


def _attributes(store: FileStore, key: str, found: list[Finding]) -> dict[str, Any]:
    try:
        return read_attributes(store, key)
    except FormatError as error:
        found.append(finding("N01" if not key else "N04", store.root / key, str(error)))
        return {}


def _image(place: Path, attributes: dict[str, Any]) -> Iterator[Finding]:
    """Look at the attributes of one level."""
    for name in ("dimensions", "blockSize"):
        sizes = attributes.get(name)
        if not (
            isinstance(sizes, list)
            and len(sizes) == 3
            and all(type(size) is int and size > 0 for size in sizes)
        ):
            yield finding("N04", place, f"{name} should be three whole numbers above 0, found {sizes!r:.80}")
    if attributes.get("dataType") not in CARD.pixel_types:
        yield finding("N04", place, f"dataType is {attributes.get('dataType')!r:.80}")
    compression = attributes.get("compression")
    kind = str(compression.get("type")) if isinstance(compression, dict) else ""
    if not isinstance(compression, dict) or kind not in _OF_JAVA:
        yield finding("N07", place, f"compression is {compression!r:.80}")
    elif kind == "zstd":
        yield finding("N05", place, "its blocks are compressed with zstd")
    elif kind == "blosc":
        yield finding("N06", place, "its blocks are compressed with blosc")
    if kind in _OF_JAVA and kind not in DECODERS:
        yield finding("N10", place, f"its blocks are compressed with {kind}")


def _cache(store: FileStore) -> Iterator[Finding]:
    """Look whether the cache of attributes says what the container says (core >= 10.6.7 trusts it)."""
    path = store.root / _CACHE
    if not path.exists():
        return
    try:
        cached = json.loads(store.get(_CACHE) or b"{}")
        differing = next((key for key, said in _cached(cached) if _differs(store, key, said)), None)
    except (ValueError, FormatError, RecursionError) as error:
        yield finding("N08", path, f"it cannot be read ({error})")
        return
    if differing is None:
        yield finding("N09", path, "it says the same as the container")
    else:
        yield finding("N08", path, f"it says something else of {differing or 'the container'}")


def _cached(cached: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over groups, and what the cache says of their attributes."""
    waiting = [("", cached)]
    for _ in range(_MAX_CACHED):
        if not waiting:
            return
        key, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        said = node.get("attributes.json")
        if said is not None:
            yield key, said
        children = node.get("children")
        if isinstance(children, dict):
            waiting += [(f"{key}/{name}".lstrip("/"), child) for name, child in children.items()]


def _differs(store: FileStore, key: str, said: Any) -> bool:
    if ".." in key.split("/"):
        return True
    return bool(read_attributes(store, key) != said)


def mend(store: FileStore, codes: set[str], setups: Iterable[int], views: Iterable[ViewId]) -> None:
    """Correct attributes by what is stored; blocks are not touched."""
    if codes & {"N08", "N02", "N03"}:
        store.remove(_CACHE)
    of_setup: dict[int, list[ViewId]] = {}
    for view in views:
        of_setup.setdefault(view.setup, []).append(view)
    for setup in setups if codes & {"N02", "N03"} else ():
        first = next(iter(of_setup.get(setup, ())), None)
        if first is None:
            continue
        changes = _described_by(store, first, of_setup[setup])
        attributes = read_attributes(store, setup_key(setup))
        wanted = {"downsamplingFactors"} - attributes.keys() | {"dataType"}
        changes = {name: value for name, value in changes.items() if name in wanted}
        if changes:
            text = json.dumps(attributes | changes, separators=(",", ":"))
            store.put(f"{setup_key(setup)}/attributes.json", [text.encode()])


def _described_by(store: FileStore, first: ViewId, views: list[ViewId]) -> dict[str, Any]:
    """Return what the images of a setup say of it, where they agree."""
    changes: dict[str, Any] = {}
    types = {str(read_attributes(store, level_key(view, 0)).get("dataType")) for view in views} - {"None"}
    if len(types) == 1:
        changes["dataType"] = types.pop()
    rows: list[Any] = []
    while len(rows) < 64 and (attributes := read_attributes(store, level_key(first, len(rows)))):
        rows.append(attributes.get("downsamplingFactors", [1, 1, 1] if not rows else None))
    if rows and None not in rows:
        changes["downsamplingFactors"] = rows
    return changes
