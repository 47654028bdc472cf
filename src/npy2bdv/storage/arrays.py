"""One plain array by its path, for reading: a dataset in HDF5 or N5, an array of Zarr, an image of OME-Zarr.

What the files say of axes, scales and positions is handed on as it is. Sources: NGFF 0.1 to 0.5 (axes and scales of
images), Zarr's ``dimension_names`` and xarray's ``_ARRAY_DIMENSIONS``, ``element_size_um`` (z, y, x) of ilastik and
Fiji in HDF5, ``resolution``, ``units``, ``axes`` and ``pixelResolution`` (x first) of the N5 viewer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np

from npy2bdv.errors import FormatError, MissingKeyError, NotFoundError
from npy2bdv.handle import Handle
from npy2bdv.storage.n5 import DECODERS
from npy2bdv.storage.tensors import open_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Json: TypeAlias = "dict[str, Any]"

_NAMED = 8  # in a message
_DEPTH = 4  # folders in which arrays are looked for, to name them in a message
_BY_TYPE = {"time": "t", "channel": "c"}
_LETTERS = {"time": "t", "channel": "c", "channels": "c", "t": "t", "c": "c", "z": "z", "y": "y", "x": "x"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayNote:
    """What files say of an array. Scales, units and translations are by the letter of the axis."""

    axes: str | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    translations: Mapping[str, float] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class PlainArray(Handle):
    """An array that is open for reading, its first axis outermost.

    Attributes
    ----------
    shape, dtype, chunks
        As those of numpy and h5py; `chunks` is None where pixels lie in one piece.
    note
        What the files say of it.
    """

    def __init__(self, array: Any, dtype: Any, chunks: Any, note: ArrayNote, file: Any = None) -> None:
        self._array = array
        self._file = file
        self.shape: tuple[int, ...] = tuple(map(int, array.shape))
        self.dtype = np.dtype(dtype)
        self.chunks: tuple[int, ...] | None = None if chunks is None else tuple(map(int, chunks))
        self.note = note

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        try:
            part = self._array[key]
            return np.asarray(part if self._file is not None else part.read().result())
        except (OSError, ValueError) as error:
            raise FormatError(
                f"the pixels cannot be read, a file is damaged or was cut short: {error}"
            ) from error

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._file is not None:
            self._file.close()


def open_plain_array(path: Path) -> PlainArray:
    """Open an array by its path, which goes on inside of a file: ``FOLDER/FILE.h5/GROUP/DATASET``.

    Raises
    ------
    NotFoundError
        If there is no such file or folder.
    MissingKeyError
        If there is no such array in it, or several, of which one has to be named.
    FormatError
        If it is of no kind that is read here, or damaged.
    InvalidInputError
        If the library that reads it is not installed.
    """
    if path.is_dir():
        return _open_folder(path)
    for file in (path, *path.parents):
        if file.is_file():
            return _open_hdf5(file, path.relative_to(file).as_posix().removeprefix("."))
        if file.is_dir():
            if _kind(file) is not None:
                raise _which(file, _below(file), f"no array {path.relative_to(file).as_posix()}")
            break
    raise NotFoundError(f"there is no file {path}")


def is_array(path: Path) -> bool:
    """Tell whether a folder is an array or a group of Zarr or N5."""
    return _kind(path) is not None


# HDF5


def _open_hdf5(path: Path, inner: str) -> PlainArray:
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise FormatError(f"{path} cannot be read as HDF5: {error}") from error
    try:
        found = file.get(inner) if inner else None
        if not isinstance(found, h5py.Dataset):
            names = list(_datasets(file[inner] if found is not None else file, inner if found else ""))
            if len(names) != 1 or (inner and found is None):
                raise _which(path, names, f"no dataset {inner}" if inner else "")
            inner = names[0]
            found = file[inner]
        return PlainArray(found, found.dtype, found.chunks, _hdf5_note(found, inner), file)
    except BaseException:
        file.close()
        raise


def _datasets(group: h5py.Group, prefix: str) -> Iterator[str]:
    """Give the paths of all images in a file."""
    found: list[str] = []

    def look(name: str, each: Any) -> None:
        if isinstance(each, h5py.Dataset) and each.ndim > 1 and each.dtype.kind in "iufb":
            found.append(f"{prefix}/{name}" if prefix else name)

    group.visititems(look)
    return iter(found)


def _hdf5_note(found: h5py.Dataset, inner: str) -> ArrayNote:
    labels = [dimension.label for dimension in found.dims] if found.ndim else []
    axes = _letters(labels)
    scales: dict[str, float] = {}
    sizes = found.attrs.get("element_size_um")
    if sizes is not None and np.shape(sizes) == (3,):
        scales = dict(zip("zyx", map(float, sizes), strict=True))
    notes: tuple[str, ...] = ()
    if inner.endswith("/cells") and found.dtype == np.int16:
        notes = (
            "BigDataViewer keeps uint16 as int16, and these may be such pixels: large values are negative. Give the "
            "XML of the dataset where there is one.",
        )
    return ArrayNote(axes=axes, scales=scales, units=dict.fromkeys(scales, "micrometer"), notes=notes)


# Folders


def _kind(folder: Path) -> str | None:
    """Return what a folder is, by its metadata: "zarr", "zarr3", "n5" for arrays, "group", or None."""
    if not folder.is_dir():
        return None
    if (folder / ".zarray").is_file():
        return "zarr"
    if (folder / "zarr.json").is_file():
        return "zarr3" if _json(folder / "zarr.json").get("node_type") == "array" else "group"
    if (folder / "attributes.json").is_file():
        return "n5" if "dimensions" in _json(folder / "attributes.json") else "group"
    if any((folder / name).is_file() for name in (".zgroup", ".zattrs")):
        return "group"
    # a group of N5 needs no metadata
    return "group" if any((each / "attributes.json").is_file() for each in folder.iterdir()) else None


def _open_folder(folder: Path) -> PlainArray:
    kind = _kind(folder)
    if kind is None:
        raise FormatError(f"{folder} is no array: it has no metadata of Zarr or N5")
    if kind != "group":
        return _open_array(kind, folder, _array_note(kind, folder))
    attributes = _attributes(folder)
    images = attributes.get("multiscales")
    if not isinstance(images, list) or not images:
        names = _below(folder)
        first = "s0" if "s0" in names and len(names) > 1 else names[0] if len(names) == 1 else None
        if first is None:
            raise _which(folder, names, "")
        notes = (f"Only the first level of {len(names)} is taken: {first}.",) if len(names) > 1 else ()
        found = _open_folder(folder / first)
        found.note = _with_notes(found.note, notes)
        return found
    image = images[0]
    try:
        level = image["datasets"][0]
        place = folder / level["path"]
        kind = _kind(place)
        if kind in (None, "group"):
            raise FormatError(f"{folder} names the level {level['path']!r}, which is no array")
        assert kind is not None
        note = _image_note(image, level, attributes)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"the metadata of the image {folder} are damaged: {error!r}") from error
    extra = () if len(images) == 1 else (f"Only the first of {len(images)} images in {folder} is taken.",)
    return _open_array(kind, place, _with_notes(note, extra))


def _open_array(kind: str, folder: Path, note: ArrayNote) -> PlainArray:
    metadata = _n5_metadata(_json(folder / "attributes.json")) if kind == "n5" else None
    try:
        array = open_array(kind, folder, metadata)
    except ValueError as error:
        raise FormatError(f"the array {folder} cannot be read: {error}") from error
    if kind == "n5":  # its first axis is the innermost
        array = array.T
    chunks = array.chunk_layout.read_chunk.shape
    return PlainArray(array, array.dtype.numpy_dtype, chunks or None, note)


def _n5_metadata(attributes: Json) -> Json:
    """Return the metadata of an N5 dataset without what Java and z5py add to them, which the engine refuses."""
    made = {name: attributes.get(name) for name in ("dimensions", "blockSize", "dataType", "compression")}
    told = made["compression"]
    if isinstance(told, dict) and told.get("type") in DECODERS:
        usual = DECODERS[told["type"]]
        made["compression"] = {"type": told["type"]} | {name: told.get(name, usual[name]) for name in usual}
    return made


def _image_note(image: Json, level: Json, attributes: Json) -> ArrayNote:
    """Read what OME-NGFF says of an image and its first level."""
    axes = image.get("axes") or list("tczyx")
    entries = [{"name": each} if isinstance(each, str) else each for each in axes]
    letters = [_BY_TYPE.get(each.get("type", ""), each["name"].lower()[:1]) for each in entries]
    scales = dict.fromkeys(letters, 1.0)
    translations = dict.fromkeys(letters, 0.0)
    steps = [
        *level.get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),  # of all levels, applied after those of one
    ]
    for step in steps:
        values = step.get(step.get("type"))
        if not isinstance(values, list) or len(values) != len(letters):
            continue
        for letter, value in zip(letters, values, strict=True):
            if step["type"] == "scale":
                scales[letter] *= float(value)
                translations[letter] *= float(value)
            elif step["type"] == "translation":
                translations[letter] += float(value)
    units = {letter: each["unit"] for letter, each in zip(letters, entries, strict=True) if "unit" in each}
    channels = [each.get("label", "") for each in attributes.get("omero", {}).get("channels", ())]
    if not steps:  # 0.1 to 0.3 tell no size
        scales, translations = {}, {}
    return ArrayNote(
        axes="".join(letters),
        scales=scales,
        units=units,
        translations=translations,
        channels=tuple(map(str, channels)) if all(channels) else (),
    )


def _array_note(kind: str, folder: Path) -> ArrayNote:
    """Read what Zarr and N5 say of an array by itself."""
    attributes = _attributes(folder)
    if kind != "n5":
        names = attributes.get("_ARRAY_DIMENSIONS")
        if kind == "zarr3":
            names = _json(folder / "zarr.json").get("dimension_names") or names
        return ArrayNote(axes=_letters(names))
    n_axes = len(attributes["dimensions"])
    axes = _letters(reversed(attributes["axes"])) if isinstance(attributes.get("axes"), list) else None
    letters = (axes or {2: "yx", 3: "zyx"}.get(n_axes, ""))[::-1]
    pixel = attributes.get("pixelResolution")
    sizes, units = attributes.get("resolution"), attributes.get("units")
    if isinstance(pixel, dict):
        sizes, units = pixel.get("dimensions"), [pixel.get("unit", "")] * n_axes
    if not letters or not isinstance(sizes, list) or len(sizes) != n_axes:
        return ArrayNote(axes=axes)
    given = units if isinstance(units, list) and len(units) == n_axes else [""] * n_axes
    return ArrayNote(
        axes=axes,
        scales={letter: float(size) for letter, size in zip(letters, sizes, strict=True)},
        units={letter: str(unit) for letter, unit in zip(letters, given, strict=True) if unit},
    )


def _letters(names: Iterable[Any] | None) -> str | None:
    """Return axes as letters, if all are known and different."""
    letters = [_LETTERS.get(str(name).lower(), "") for name in names or ()]
    return "".join(letters) if letters and all(letters) and len(set(letters)) == len(letters) else None


def _attributes(folder: Path) -> Json:
    """Return the attributes of an array or group; those of OME-NGFF 0.5 as those of earlier versions."""
    if (folder / "zarr.json").is_file():
        attributes = _json(folder / "zarr.json").get("attributes") or {}
        inner = attributes.get("ome")
        return inner if isinstance(inner, dict) else attributes
    for name in (".zattrs", "attributes.json"):
        if (folder / name).is_file():
            return _json(folder / name)
    return {}


def _json(path: Path) -> Json:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path} cannot be read: it is no JSON object")
    return found


def _below(folder: Path, depth: int = _DEPTH) -> list[str]:
    """Return the arrays in a group, by their paths in it; a few are enough."""
    found: list[str] = []
    for each in sorted(folder.iterdir()):
        if len(found) > 100 or not each.is_dir():
            continue
        kind = _kind(each)
        if kind not in (None, "group"):
            found.append(each.name)
        elif depth > 1:
            found += [f"{each.name}/{name}" for name in _below(each, depth - 1)]
    return found


def _which(path: Path, names: list[str], absent: str) -> MissingKeyError:
    shown = ", ".join(names[:_NAMED]) + (" ..." if names[_NAMED:] else "")
    return MissingKeyError(
        f"{path} has {absent or 'several arrays'}; there are {shown}: name one, as in {path.name}/{names[0]}"
        if names
        else f"{path} holds no image"
    )


def _with_notes(note: ArrayNote, notes: tuple[str, ...]) -> ArrayNote:
    return ArrayNote(
        axes=note.axes,
        scales=note.scales,
        units=note.units,
        translations=note.translations,
        channels=note.channels,
        notes=(*note.notes, *notes),
    )
