"""What OME-NGFF says of an image, as plain JSON values: axes, levels, units, channels (versions 0.4 and 0.5).

Pure functions: numbers in, dictionaries out, and back. Arrays are (t, c, z, y, x), as BigStitcher makes them.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from npy2bdv.errors import FormatError
from npy2bdv.model.units import length_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

    from npy2bdv.storage.base import ImageNote

Attributes = dict[str, Any]
Factors = tuple[float, float, float]

MAX_LEVELS = 64
"""More than these are taken for damage, or an attack."""

# Lasers of a light-sheet microscope, by wavelength in nm, and the colour in which their channel is shown.
_COLOURS = ((430, "0000FF"), (500, "00FF00"), (545, "FFFF00"), (600, "FF0000"), (900, "FF00FF"))
_WHITE = "FFFFFF"


def colour_of(channel: str) -> str:
    """Return the colour (RRGGBB) in which a channel is shown: that of the wavelength in its label, else white.

    Examples
    --------
    >>> colour_of("488 nm"), colour_of("brightfield")
    ('00FF00', 'FFFFFF')
    """
    found = re.search(r"(?<!\d)([3-8]\d\d)(?!\d)", channel)
    return next((name for limit, name in _COLOURS if found and int(found[1]) < limit), _WHITE)


def describe(note: ImageNote, factors: Iterable[Factors], dtype: np.dtype[Any]) -> Attributes:
    """Return the multiscales and the channel of an image whose levels have these factors (z, y, x)."""
    unit = length_name(note.unit)
    space = [{"name": axis, "type": "space", **({"unit": unit} if unit else {})} for axis in "zyx"]
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *space]
    return {
        "multiscales": [
            {"name": note.name, "axes": axes, "datasets": levels(note.voxel_size_xyz[::-1], factors)}
        ],
        "omero": {
            "channels": [
                {
                    "label": note.channel,
                    "color": colour_of(note.channel),
                    "active": True,
                    "window": _window(dtype),
                }
            ]
        },
    }


def levels(voxel_size_zyx: Sequence[float], factors: Iterable[Factors]) -> list[Attributes]:
    """Return the datasets of a multiscale image.

    A pixel of a level with factor f is as large as f pixels, and its centre lies in their middle, (f - 1) / 2
    pixels behind that of the first (formats.md 4.3).
    """
    return [
        {
            "path": str(level),
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [1.0, 1.0, *(f * v for f, v in zip(row, voxel_size_zyx, strict=True))],
                },
                {
                    "type": "translation",
                    "translation": [
                        *(0.0, 0.0),
                        *((f - 1) / 2 * v for f, v in zip(row, voxel_size_zyx, strict=True)),
                    ],
                },
            ],
        }
        for level, row in enumerate(factors)
    ]


def _window(dtype: np.dtype[Any]) -> Attributes:
    """Return the contrast of an image of which nothing is known but its pixel type."""
    first, last = 0.0, 1.0
    if dtype.kind in "iu":
        bits = 8 * dtype.itemsize - (dtype.kind == "i")
        first, last = float(-(2**bits) if dtype.kind == "i" else 0), float(2**bits - 1)
    return {"min": first, "max": last, "start": first, "end": last}


def with_contrast(said: Attributes, start: float, end: float) -> Attributes:
    """Return a description in which the channel is shown from `start` (black) to `end`."""
    (channel,) = said["omero"]["channels"]
    window = channel["window"]
    window = {
        "min": min(window["min"], start),
        "max": max(window["max"], end),
        "start": start,
        "end": end,
    }
    return {**said, "omero": {**said["omero"], "channels": [{**channel, "window": window}]}}


def with_voxel_size(said: Attributes, voxel_size_xyz: Sequence[float]) -> Attributes:
    """Return a description of an image, of whatever program, with another voxel size.

    Scales and translations of all levels are changed in proportion, since BigStitcher writes both in pixels of the
    full resolution (formats.md 4.3). One without scales in numbers stays as it is.
    """
    image = _described(said)
    if image is None:
        return said
    scales = [scale_of(each) for each in image["datasets"]]
    first = scales[0]
    if first is None or None in scales:
        return said
    # a scale for all levels together comes on top of that of a level
    whole = scale_of(image) or (1.0, 1.0, 1.0)
    wanted = [size / all_of_it for size, all_of_it in zip(voxel_size_xyz[::-1], whole, strict=True)]

    def changed(numbers: list[float]) -> list[float]:
        ratios = [float(number) / old for number, old in zip(numbers[-3:], first, strict=True)]
        whole_ratios = [round(ratio, 4) if abs(ratio - round(ratio, 4)) < 1e-9 else ratio for ratio in ratios]
        return [*numbers[:-3], *(ratio * new for ratio, new in zip(whole_ratios, wanted, strict=True))]

    datasets = [
        {
            **each,
            "coordinateTransformations": [
                {**step, kind: changed(step[kind])}
                if (kind := step.get("type")) in ("scale", "translation")
                and isinstance(step.get(kind), list)
                and len(step[kind]) >= 3
                else step
                for step in each["coordinateTransformations"]
            ],
        }
        for each in image["datasets"]
    ]
    return {**said, "multiscales": [{**image, "datasets": datasets}, *said["multiscales"][1:]]}


def _described(said: Attributes) -> Attributes | None:
    """Return the multiscale image that attributes describe; None where they do not."""
    try:
        return multiscale(said, "the image")
    except FormatError:
        return None


def with_unit(said: Attributes, unit: str) -> Attributes:
    """Return a description of an image whose axes in space, the last three, have another unit."""
    image = _described(said)
    if image is None:
        return said
    axes, name = image.get("axes"), length_name(unit)
    if not (isinstance(axes, list) and len(axes) >= 3 and all(isinstance(axis, dict) for axis in axes)):
        return said
    space = [{key: each for key, each in axis.items() if key != "unit"} for axis in axes[-3:]]
    space = [{**axis, "unit": name} if name else axis for axis in space]
    return {**said, "multiscales": [{**image, "axes": [*axes[:-3], *space]}, *said["multiscales"][1:]]}


def with_channel(said: Attributes, number: int, label: str) -> Attributes:
    """Return a description in which a channel is called otherwise; its colour follows where it came from the label.

    An image that says nothing of its channels stays as it is.
    """
    channels = (said.get("omero") or {}).get("channels")
    if not isinstance(channels, list) or not number < len(channels) or not isinstance(channels[number], dict):
        return said
    channel = {**channels[number], "label": label}
    if channel.get("color") == colour_of(str(channels[number].get("label", ""))):
        channel["color"] = colour_of(label)
    channels = [*channels[:number], channel, *channels[number + 1 :]]
    return {**said, "omero": {**said["omero"], "channels": channels}}


def with_name(said: Attributes, name: str) -> Attributes:
    """Return a description in which the image is called otherwise."""
    image = _described(said)
    if image is None:
        return said
    return {**said, "multiscales": [{**image, "name": name}, *said["multiscales"][1:]]}


def scale_of(dataset: Mapping[str, Any]) -> Factors | None:
    """Return the scale (z, y, x) of one dataset of a multiscale image; None where none is given in numbers."""
    for transform in dataset.get("coordinateTransformations") or ():
        scale = transform.get("scale")
        if transform.get("type") == "scale" and isinstance(scale, list) and len(scale) >= 3:
            z, y, x = map(float, scale[-3:])
            return (z, y, x) if min(z, y, x) > 0 and math.isfinite(z + y + x) else None
    return None


def factors_of(datasets: Sequence[Mapping[str, Any]]) -> tuple[Factors, ...] | None:
    """Return the factors (z, y, x) of the levels: ratios of scales, rounded to 4 decimals, as BigStitcher does.

    None where not all scales are given in numbers.
    """
    scales = [each for each in map(scale_of, datasets) if each is not None]
    if len(scales) < len(datasets):
        return None
    first_z, first_y, first_x = scales[0]
    return tuple((round(z / first_z, 4), round(y / first_y, 4), round(x / first_x, 4)) for z, y, x in scales)


def factors_by_size(shapes: Sequence[tuple[int, ...]]) -> tuple[Factors, ...]:
    """Return what the factors (z, y, x) of the levels must be, by their sizes: whole numbers, roughly."""
    ratios = ([a / b for a, b in zip(shapes[0][-3:], shape[-3:], strict=True)] for shape in shapes)
    return tuple((max(1.0, round(z)), max(1.0, round(y)), max(1.0, round(x))) for z, y, x in ratios)


def to_attributes(said: Attributes, zarr_version: int) -> Attributes:
    """Return the attributes of a group that say this: NGFF 0.4 in Zarr v2, 0.5 in v3."""
    if zarr_version == 3:
        return {"ome": {"version": "0.5", **said}}
    return {**said, "multiscales": [{"version": "0.4", **image} for image in said["multiscales"]]}


def from_attributes(attributes: Attributes) -> Attributes:
    """Return what the attributes of a group say in the words of NGFF."""
    said = attributes.get("ome", attributes)
    return said if isinstance(said, dict) else {}


def in_attributes(attributes: Attributes, said: Attributes) -> Attributes:
    """Return the attributes of a group, of either version, with another description; the rest stays."""
    return {**attributes, "ome": said} if "ome" in attributes else said


def multiscale(said: Mapping[str, Any], where: object) -> Attributes:
    """Return the (first) multiscale image that attributes describe, with its list of datasets.

    Raises
    ------
    FormatError
        If they describe none.
    """
    images = said.get("multiscales")
    if not (isinstance(images, list) and images and isinstance(images[0], dict)):
        raise FormatError(f"{where} is no OME-Zarr image: its attributes hold no multiscales")
    image: Attributes = images[0]
    datasets = image.get("datasets")
    if not (
        isinstance(datasets, list)
        and datasets
        and all(isinstance(each, dict) and isinstance(each.get("path"), str) for each in datasets)
    ):
        raise FormatError(f"{where} is no OME-Zarr image: its multiscales list no datasets with a path")
    if len(datasets) > MAX_LEVELS:
        raise FormatError(f"{where} lists {len(datasets)} levels; no image has more than {MAX_LEVELS}")
    for each in datasets:
        path = each["path"]
        if ".." in path.split("/") or path.startswith("/") or "\\" in path or "\0" in path or len(path) > 255:
            raise FormatError(
                f"{where}: the path of a level is {path!r:.100}, which does not lie in the image"
            )
    return image
