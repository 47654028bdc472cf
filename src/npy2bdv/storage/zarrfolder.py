"""Groups and arrays of Zarr in a folder: what their metadata files say, in version 2 or 3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from npy2bdv.errors import FormatError
from npy2bdv.storage.remote import store_of
from npy2bdv.storage.zarrays import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from npy2bdv.storage.ngff import Attributes
    from npy2bdv.storage.zarrays import ArrayLayout


class ZarrFolder:
    """The metadata of a folder of Zarr. Groups and arrays are named by their paths in it; "" is the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = store_of(path)

    def version(self, node: str) -> int | None:
        """Return the version of Zarr of a group or array; None where there is none.

        Raises
        ------
        FormatError
            If it is one that is not known.
        """
        said = self._json(join(node, "zarr.json"))
        if said is not None:
            version = said.get("zarr_format")
            if version != 3:
                raise FormatError(
                    f"{self.path / node} has the zarr_format {version!r}; this version of npy2bdv reads 2 and 3"
                )
            return 3
        names = (".zgroup", ".zattrs", ".zarray")
        return 2 if any(self.files.has(join(node, name)) for name in names) else None

    def is_group(self, node: str) -> bool:
        """Tell whether there is a group."""
        try:
            said = self._json(join(node, "zarr.json")) or {}
        except FormatError:
            return False
        return said.get("node_type") == "group" or self.files.has(join(node, ".zgroup"))

    def attributes(self, group: str) -> Attributes | None:
        """Return the attributes of a group; None where it is none, or has none."""
        said = self._json(join(group, "zarr.json"))
        if said is None:
            return self._json(join(group, ".zattrs"))
        attributes = said.get("attributes")
        return attributes if isinstance(attributes, dict) else {}

    def layout(self, array: str) -> ArrayLayout | None:
        """Return what the metadata of an array say; None where there is none."""
        for name in ("zarr.json", ".zarray"):
            said = self._json(join(array, name))
            if said is not None:
                try:
                    return from_json(said)
                except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
                    raise FormatError(
                        f"{self.path / array / name} does not describe an array of Zarr v2 or v3 ({error!r})"
                    ) from error
        return None

    def said_of_array(self, array: str) -> dict[str, Any] | None:
        """Return the metadata of an array as they stand; None where there is none."""
        return next(filter(None, (self._json(join(array, name)) for name in ("zarr.json", ".zarray"))), None)

    def zero_filled(self, array: str) -> dict[str, Any] | None:
        """Return the metadata of an array with which absent chunks are zeros; None where they are so already."""
        for name in ("zarr.json", ".zarray"):
            said = self._json(join(array, name))
            if said is not None:
                return None if said.get("fill_value") in (None, 0) else {**said, "fill_value": 0}
        return None

    def put_group(self, group: str, attributes: Attributes, version: int) -> None:
        """Write the metadata of a group, in place of those that were there."""
        if version == 3:
            said = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            self._put_json(join(group, "zarr.json"), said)
            return
        self._put_json(join(group, ".zgroup"), {"zarr_format": 2})
        if attributes:
            self._put_json(join(group, ".zattrs"), attributes)

    def put_array(self, array: str, layout: ArrayLayout, attributes: Attributes | None = None) -> None:
        """Write the metadata of an array; its attributes stay as they are where none are given."""
        if layout.zarr_version == 3:
            if attributes is None:
                attributes = self.attributes(array)
            self._put_json(join(array, "zarr.json"), to_json(layout, attributes or {}))
            return
        self._put_json(join(array, ".zarray"), to_json(layout))
        if attributes:
            self._put_json(join(array, ".zattrs"), attributes)

    def with_attributes(self, group: str, attributes: Attributes) -> dict[str, bytes | None]:
        """Return new texts, by key, with which a group has these attributes; None for what has to be removed.

        Copies of all metadata that other programs put into the root, and trust more, would be outdated: they go.
        """
        key = join(group, "zarr.json")
        said = self._json(key)
        if said is not None:
            texts = {key: _text({**said, "attributes": attributes})}
        else:
            texts = {join(group, ".zattrs"): _text(attributes)}
        root = self._json("zarr.json") or {}
        if "consolidated_metadata" in root:
            if group == "":
                root = {**root, "attributes": attributes}
            texts["zarr.json"] = _text(
                {name: each for name, each in root.items() if name != "consolidated_metadata"}
            )
        copies = (".zmetadata", join(group, ".zmetadata"))
        return texts | {copy: None for copy in copies if self.files.has(copy)}

    def _json(self, key: str) -> dict[str, Any] | None:
        text = self.files.get(key)
        if text is None:
            return None
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{self.path / key} is damaged: it should be JSON ({error})") from error
        if not isinstance(said, dict):
            raise FormatError(f"{self.path / key} is damaged: it should be a JSON object")
        return said

    def _put_json(self, key: str, said: Mapping[str, Any]) -> None:
        self.files.put(key, [_text(said)])


def _text(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, indent=1, ensure_ascii=False).encode()


def join(folder: str, name: str) -> str:
    """Return the path of what is called `name` in a folder."""
    return f"{folder}/{name}" if folder else name


def mark_as_group(path: Path, zarr_version: int) -> None:
    """Make a folder a Zarr group, in which images may lie; nothing else in it is changed.

    Raises
    ------
    FormatError
        If it is one of another version.
    """
    folder = ZarrFolder(path)
    found = folder.version("")
    if found not in (None, zarr_version):
        raise FormatError(
            f"{path} is a group of Zarr v{found} already; images of v{zarr_version} have no place in it"
        )
    if found is None:
        folder.put_group("", {}, zarr_version)
