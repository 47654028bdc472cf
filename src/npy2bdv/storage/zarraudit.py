"""What in an OME-Zarr folder is not as BigStitcher reads it (formats.md 4), beside what all formats have in common."""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING, Any

from npy2bdv.errors import FormatError
from npy2bdv.model.findings import Finding, finding
from npy2bdv.storage import ngff
from npy2bdv.storage.zarrfolder import ZarrFolder, join

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from npy2bdv.model.spimdata import ViewId, ZarrGroup
    from npy2bdv.storage.ngff import Attributes

_OF_JAVA_V2 = {"zlib", "gzip", "bz2", "zstd", "blosc"}
_OF_JAVA_V3 = {"bytes", "gzip", "zstd", "blosc", "crc32c", "sharding_indexed"}
_AXES = ["t", "c", "z", "y", "x"]
_TOLERANCE = 0.05  # pixels, as the newest BigStitcher has it
_MAX_LEVELS = 64


def audit(
    path: Path, groups: Mapping[ViewId, ZarrGroup], version: str | None, zarr_version: int | None
) -> list[Finding]:
    """Look at all that BigStitcher reads, but for pixels.

    Parameters
    ----------
    path
        The folder.
    groups
        Where the XML says that the image of each view lies, of which pixels should be there.
    version, zarr_version
        What the XML says of the loader and of Zarr.
    """
    folder, found = ZarrFolder(path), []
    if not (folder.is_group("") or (path / ".zarray").is_file()):
        found.append(finding("Z01", path, "there is no .zgroup and no zarr.json at its top"))
    images: dict[str, list[ZarrGroup]] = {}
    for group in groups.values():
        images.setdefault(group.path, []).append(group)
    stored: set[int] = set()
    for name, all_of_it in images.items():
        try:
            found += _image(folder, name, {each.indices for each in all_of_it}, stored)
        except (FormatError, *_ODD) as error:
            found.append(finding("Z02", path / name, f"it cannot be looked at ({error})"))
    if 3 in stored and not (version == "3.1" and zarr_version == 3):
        said = f"version={version!r}, zarr.version={zarr_version!r}"
        found.append(finding("Z08", path, f"the pixels are Zarr v3; the XML says {said}"))
    elif stored == {2} and zarr_version == 3:
        found.append(
            finding("Z08", path, "the pixels are Zarr v2; the XML says v3", "write version 3.0 for Zarr v2")
        )
    return found


_ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError, OSError)
"""What metadata of another shape than expected may raise."""


def _image(
    folder: ZarrFolder, name: str, indices: set[tuple[int, ...] | None], stored: set[int]
) -> Iterator[Finding]:
    place = folder.path / name
    attributes = folder.attributes(name)
    if attributes is None:
        if (place / ".zattrs").parent.is_dir():
            yield finding("Z02", place, "it has no attributes that describe an image")
        return
    image = ngff.multiscale(ngff.from_attributes(attributes), place)
    datasets = image["datasets"][:_MAX_LEVELS]
    axes = [each.get("name") if isinstance(each, dict) else each for each in image.get("axes") or ()]
    if axes and axes != _AXES[-len(axes) :]:
        yield finding("Z13", place, f"its axes are {axes!r:.100}")
    for metadata in (image.get("metadata"),):
        if isinstance(metadata, dict) and not isinstance(metadata.get("args", ""), str):
            yield finding("Z14", place, f"metadata.args is {metadata['args']!r:.60}")
    for level, dataset in enumerate(datasets):
        if dataset["path"] != str(level):
            yield finding("Z04", place, f"level {level} is called {dataset['path']!r:.60}")
        if ngff.scale_of(dataset) is None:
            yield finding("Z03", place, f"level {level} has no scale above 0 in numbers")
        yield from _array(folder, join(name, dataset["path"]), indices, stored)
    wrong = _wrong_translation(datasets)
    if wrong:
        yield finding("Z05", place, wrong)


def _array(
    folder: ZarrFolder, array: str, indices: set[tuple[int, ...] | None], stored: set[int]
) -> Iterator[Finding]:
    place = folder.path / array
    said = folder.said_of_array(array)
    if said is None:
        return  # an absent level is told of for all formats alike
    try:
        layout = folder.layout(array)
    except FormatError as error:
        yield finding("Z12", place, str(error))
        return
    assert layout is not None
    stored.add(layout.zarr_version)
    sizes = (*layout.shape, *layout.chunk)
    if layout.dtype.kind not in "iuf" or min(sizes, default=0) < 1 or max(sizes) >= 2**63:
        yield finding("Z12", place, f"its shape is {layout.shape!r:.80}, its type {layout.dtype!r:.60}")
        return
    if layout.zarr_version == 2:
        yield from _codecs_v2(place, said)
    else:
        yield from _codecs_v3(place, said)
    if said.get("fill_value") not in (None, 0, False):
        yield finding("Z11", place, f"they stand for {said.get('fill_value')!r:.60}")
    lead = layout.shape[:-3][::-1]  # as the indices: c, t
    for given in indices:
        beyond = lead[len(given or ()) :]
        if (
            len(layout.shape) < 3
            or any(size != 1 for size in beyond)
            or any(index >= size for index, size in zip(given or (), lead, strict=False))
            or (len(layout.shape) == 4 and not given)
        ):
            yield finding("Z10", place, f"its shape is {layout.shape}, and the XML gives the indices {given}")


def _codecs_v2(place: Path, said: Mapping[str, Any]) -> Iterator[Finding]:
    packed = said.get("compressor")
    kind = packed.get("id") if isinstance(packed, dict) else packed
    if kind is not None and kind not in _OF_JAVA_V2:
        yield finding("Z06", place, f"its compressor is {kind!r:.60}")
    if said.get("filters"):
        yield finding("Z06", place, f"its filters are {said['filters']!r:.60}")
    if kind == "blosc":
        yield finding("Z07", place, "its chunks are compressed with blosc")
    if said.get("order", "C") != "C":
        yield finding("Z09", place, f"its order is {said['order']!r:.20}")


def _codecs_v3(place: Path, said: Mapping[str, Any]) -> Iterator[Finding]:
    codecs = list(said["codecs"])
    if codecs and codecs[0]["name"] == "sharding_indexed":
        codecs += codecs[0]["configuration"]["codecs"]
    names = [str(codec["name"]) for codec in codecs]
    if "transpose" in names:
        yield finding("Z09", place, "it is transposed")
    foreign = sorted(set(names) - _OF_JAVA_V3 - {"transpose"})
    if foreign:
        yield finding("Z06", place, f"its codecs are {', '.join(foreign):.100}")
    if "blosc" in names:
        yield finding("Z07", place, "its chunks are compressed with blosc")
    if said["chunk_key_encoding"]["name"] != "default":
        yield finding("Z15", place, f"its chunk_key_encoding is {said['chunk_key_encoding']['name']!r:.40}")


# --------------------------------------------------------------------------------------------- mending


def _translation_of(dataset: Attributes) -> list[float] | None:
    for transform in dataset.get("coordinateTransformations") or ():
        if transform.get("type") == "translation" and isinstance(transform.get("translation"), list):
            return [float(number) for number in transform["translation"]]
    return None


def _wrong_translation(datasets: Sequence[Attributes]) -> str:
    """Say which translation is neither none, nor 0, nor that of means: (factor - 1) / 2 pixels (formats.md 4.4)."""
    scales = [ngff.scale_of(each) for each in datasets]
    if not scales or scales[0] is None:
        return ""
    first = (_translation_of(datasets[0]) or [0.0, 0.0, 0.0])[-3:]
    for level, (dataset, scale) in enumerate(zip(datasets, scales, strict=True)):
        given = (_translation_of(dataset) or [])[-3:]
        if scale is None or not any(given):
            continue
        shifts = [(at - zero) / size for at, zero, size in zip(given, first, scales[0], strict=True)]
        wanted = [(size / unit - 1) / 2 for size, unit in zip(scale, scales[0], strict=True)]
        if any(abs(a - b) > _TOLERANCE or math.isnan(a) for a, b in zip(shifts, wanted, strict=True)):
            return (
                f"level {level} lies {[round(each, 3) for each in shifts]} pixels (z, y, x) behind level 0; "
                f"means lie {[round(each, 3) for each in wanted]} behind"
            )
    return ""


def mend(path: Path, codes: set[str], groups: Mapping[ViewId, ZarrGroup]) -> None:
    """Correct metadata of groups; arrays and chunks are not touched."""
    folder = ZarrFolder(path)
    names = {group.path for group in groups.values()}
    if "Z01" in codes and folder.version("") is None:
        versions = {folder.version(name) for name in names} - {None}
        if versions == {2}:
            folder.put_group("", {}, 2)
        elif versions == {3}:
            folder.put_group("", {}, 3)
    if codes & {"Z05", "Z14"}:
        for name in names:
            _mend_image(folder, name, codes)


def _mend_image(folder: ZarrFolder, name: str, codes: set[str]) -> None:
    attributes = copy.deepcopy(folder.attributes(name))
    if attributes is None:
        return
    said = ngff.from_attributes(attributes)
    try:
        image = ngff.multiscale(said, folder.path / name)
        metadata = image.get("metadata")
        if "Z14" in codes and isinstance(metadata, dict) and not isinstance(metadata.get("args", ""), str):
            metadata["args"] = json.dumps(metadata["args"])
        if "Z05" in codes and _wrong_translation(image["datasets"]):
            _mend_translations(image["datasets"])
    except (FormatError, *_ODD):
        return
    version = folder.version(name)
    if version is not None:
        folder.put_group(name, attributes, version)


def _mend_translations(datasets: Sequence[Attributes]) -> None:
    scales = [ngff.scale_of(each) for each in datasets]
    first = _translation_of(datasets[0])
    for dataset, scale in zip(datasets, scales, strict=True):
        if scale is None or scales[0] is None:
            return
        for transform in dataset["coordinateTransformations"]:
            if transform.get("type") == "translation" and isinstance(transform.get("translation"), list):
                zero = (first or [0.0] * 3)[-3:]
                transform["translation"][-3:] = [
                    at + (size - unit) / 2 for at, size, unit in zip(zero, scale, scales[0], strict=True)
                ]
