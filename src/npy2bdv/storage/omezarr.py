"""OME-Zarr for BigStitcher (``bdv.multimg.zarr``, formats.md 4): Zarr v2 with NGFF 0.4, Zarr v3 with NGFF 0.5.

Each view is an image group of its own, ``s{setup}-t{time}.zarr``, whose arrays ``0``, ``1`` ... are the levels,
with the axes t, c, z, y, x. Images of other programs are read whatever their axes.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np

from npy2bdv.errors import ClosedError, ExistsError, FormatError, MissingKeyError, NotFoundError
from npy2bdv.model.spimdata import OmeZarrLoader, PathRef, ViewId, ZarrGroup
from npy2bdv.storage import ngff
from npy2bdv.storage.base import Codec, FormatCard, ImageNote
from npy2bdv.storage.files import FileStore, is_temporary
from npy2bdv.storage.zarrays import CODECS, METADATA_FILES, from_json, layout_for, to_json
from npy2bdv.storage.zarrlevel import OmeZarrLevel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from npy2bdv.model.pyramid import Pyramid
    from npy2bdv.storage.ngff import Attributes
    from npy2bdv.storage.zarrays import ArrayLayout

PIXEL_TYPES = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64",
)  # fmt: skip

CARD_V2 = FormatCard(
    name="omezarr",
    zarr_version=2,
    loader="bdv.multimg.zarr",
    suffixes=(".ome.zarr", ".zarr"),
    pixel_types=PIXEL_TYPES,
    codecs=CODECS,
    default_codec="zstd",
    default_chunk=(8, 256, 256),
    max_chunk_bytes=2**31,
    concurrent=True,
    opens="Fiji with BigStitcher, napari, neuroglancer, everything that reads OME-Zarr 0.4",
    cautions={
        "blosc": "can be read by Fiji only where its native library (libblosc) is installed; 'zstd' and 'gzip' "
        "need none"
    },
)
CARD_V3 = replace(
    CARD_V2,
    zarr_version=3,
    opens="Fiji with BigStitcher 3.0 (June 2026) or later, not older ones; napari, neuroglancer, everything that "
    "reads OME-Zarr 0.5",
)
CARDS = {2: CARD_V2, 3: CARD_V3}

_LEVELS_KEPT = 16
_GROUP = re.compile(r"s(\d+)-t(\d+)\.zarr")
_NODE_FILES = (".zgroup", ".zarray", "zarr.json")
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what systems leave in folders that were looked at
_CONTRAST_BOX = (8, 512, 512)
_CONTRAST_PERCENT = (0.1, 99.9)


def is_container(path: Path) -> bool:
    """Tell whether a folder is an OME-Zarr container, with nothing at its root that does not belong there."""
    if not path.is_dir() or not any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        return False
    return all(
        each.name in METADATA_FILES | _LITTER
        or is_temporary(each)
        or any((each / name).is_file() for name in _NODE_FILES)
        for each in path.iterdir()
    )


class OmeZarrContainer:
    """A folder of OME-Zarr images, one for each view. Pickles, for reading.

    Parameters
    ----------
    path
        The folder.
    mode
        "r" reads, "r+" goes on with a recording, "x" makes a new folder.
    groups
        Where the XML says that the image of each view lies; by default where we put it.
    zarr_version
        Of a new folder; in an old one what lies there counts.
    """

    def __init__(
        self,
        path: Path,
        mode: Literal["r", "r+", "x"] = "r",
        *,
        groups: Mapping[ViewId, ZarrGroup] | None = None,
        zarr_version: int = 2,
    ) -> None:
        self.path = path
        self._mode = mode
        self._closed = False
        self._files = FileStore(path)
        self._groups = dict(groups or {})
        self._levels: OrderedDict[tuple[ViewId, int], OmeZarrLevel] = OrderedDict()
        """Levels read last."""
        self._factors: dict[int, tuple[tuple[float, float, float], ...]] = {}
        if mode == "x":
            self._create(zarr_version)
        else:
            zarr_version = self._found_version()
        self.card = CARDS[zarr_version]
        if mode == "r+":
            self._files.clean()
        if mode == "r+" or not self._groups:
            self._groups.update((view, _own_group(view)) for view in self._views_on_disk())

    def _create(self, zarr_version: int) -> None:
        if not self.path.parent.is_dir():
            raise NotFoundError(f"the folder {self.path.parent} does not exist; create it first")
        if self.path.exists():
            raise ExistsError(f"{self.path} already exists; choose another name")
        self._put_group("", {}, zarr_version)

    def _found_version(self) -> int:
        """Return the version of Zarr that lies on disk."""
        if not self.path.is_dir():
            if self.path.exists():
                raise FormatError(f"{self.path} is a file; an OME-Zarr container is a folder")
            raise NotFoundError(f"there is no folder {self.path}")
        for group in ("", *(each.path for each in self._groups.values())):
            version = self._version_of(group)
            if version is not None:
                return version
        raise FormatError(f"{self.path} is no OME-Zarr container: there is no .zgroup and no zarr.json in it")

    def _views_on_disk(self) -> Iterator[ViewId]:
        for each in self.path.iterdir():
            match = _GROUP.fullmatch(each.name)
            if match:
                yield ViewId(int(match[2]), int(match[1]))

    # -- metadata ----------------------------------------------------------------------------------------

    def _version_of(self, group: str) -> int | None:
        """Return the version of Zarr of a group or array; None where there is none."""
        said = self._json(_join(group, "zarr.json"))
        if said is not None:
            version = said.get("zarr_format")
            if version != 3:
                raise FormatError(
                    f"{self.path / group} has the zarr_format {version!r}; this version of npy2bdv reads 2 and 3"
                )
            return 3
        names = (".zgroup", ".zattrs", ".zarray")
        return 2 if any((self.path / group / name).is_file() for name in names) else None

    def _json(self, key: str) -> dict[str, Any] | None:
        """Return what a metadata file says; None where there is none."""
        text = self._files.get(key)
        if text is None:
            return None
        try:
            said = json.loads(text)
        except ValueError as error:
            raise FormatError(f"{self.path / key} is damaged: it should be JSON ({error})") from error
        if not isinstance(said, dict):
            raise FormatError(f"{self.path / key} is damaged: it should be a JSON object")
        return said

    def _put_json(self, key: str, said: Mapping[str, Any]) -> None:
        self._files.put(key, [json.dumps(said, indent=1, ensure_ascii=False).encode()])

    def _put_group(self, group: str, attributes: Attributes, version: int | None = None) -> None:
        """Write the metadata of a group."""
        if (version or self.card.zarr_version) == 2:
            self._put_json(_join(group, ".zgroup"), {"zarr_format": 2})
            if attributes:
                self._put_json(_join(group, ".zattrs"), attributes)
        else:
            said = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            self._put_json(_join(group, "zarr.json"), said)

    def _attributes(self, group: str) -> Attributes | None:
        """Return the attributes of a group; None where there is none."""
        said = self._json(_join(group, "zarr.json"))
        if said is None:
            return self._json(_join(group, ".zattrs"))
        attributes = said.get("attributes")
        return attributes if isinstance(attributes, dict) else {}

    def _image(self, view: ViewId) -> Attributes | None:
        """Return the attributes of the image of a view; None where there is none."""
        return self._attributes(self._group(view).path)

    def _put_image(self, view: ViewId, ours: Attributes, said: Attributes) -> None:
        """Write what NGFF says of the image of a view, beside attributes of our own."""
        if self.card.zarr_version == 2:
            image, *others = said["multiscales"]
            versioned = [{"version": "0.4", **image}, *others]
            self._put_group(self._group(view).path, {**ours, **said, "multiscales": versioned})
        else:
            self._put_group(self._group(view).path, {**ours, "ome": {"version": "0.5", **said}})

    def _group(self, view: ViewId) -> ZarrGroup:
        return self._groups.get(view) or _own_group(view)

    def _array_paths(self, view: ViewId) -> list[str]:
        """Return where the levels of a view lie; nothing where there is no image."""
        said = self._image(view)
        if said is None:
            return []
        group = self._group(view).path
        image = ngff.multiscale(said.get("ome", said), self.path / group)
        return [_join(group, each["path"]) for each in image["datasets"]]

    def _layout(self, array: str) -> ArrayLayout | None:
        """Return what the metadata of an array says; None where there is none."""
        for name in ("zarr.json", ".zarray"):
            said = self._json(_join(array, name))
            if said is not None:
                try:
                    return from_json(said)
                except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                    raise FormatError(
                        f"{self.path / array / name} does not describe an array of Zarr v2 or v3 ({error!r})"
                    ) from error
        return None

    # -- reading -----------------------------------------------------------------------------------------

    def factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        """Return the downsampling factors (z, y, x) of the levels of a setup: those of its first image."""
        self._check_open()
        if setup not in self._factors:
            self._factors[setup] = self._read_factors(setup)
        return self._factors[setup]

    def _read_factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        for view in self._groups:
            said = self._image(view) if view.setup == setup else None
            if said is None:
                continue
            where = self.path / self._group(view).path
            datasets = ngff.multiscale(said.get("ome", said), where)["datasets"]
            try:
                known = ngff.factors_of(datasets)
            except (AttributeError, TypeError, ValueError) as error:
                raise FormatError(f"{where}: its coordinateTransformations are damaged ({error})") from error
            return known or ngff.factors_by_size(
                [self._array(view, level)[1].shape for level in range(len(datasets))]
            )
        raise MissingKeyError(f"{self.path} holds no image of setup {setup}")

    def views(self) -> Iterator[ViewId]:
        """Iterate over the views of which something is stored, by time, then setup."""
        return (view for view in sorted(self._groups) if self._image(view) is not None)

    def has(self, view: ViewId, level: int = 0) -> bool:
        """Tell whether a level of a view is stored."""
        paths = self._array_paths(view)
        return level < len(paths) and self._version_of(paths[level]) is not None

    def level(self, view: ViewId, level: int) -> OmeZarrLevel:
        """Return one level of a view."""
        self._check_open()
        known = self._levels.get((view, level))
        if known is None:
            known = self._open_level(view, level)
            if self._mode == "r":
                self._levels[view, level] = known
                if len(self._levels) > _LEVELS_KEPT:
                    self._levels.popitem(last=False)
        return known

    def _open_level(self, view: ViewId, level: int) -> OmeZarrLevel:
        array, layout = self._array(view, level)
        lead = self._lead(layout, self._group(view), array)
        return OmeZarrLevel(self._files, array, layout, lead, cached=self._mode == "r")

    def _array(self, view: ViewId, level: int) -> tuple[str, ArrayLayout]:
        """Return where a level lies, and what its metadata says."""
        paths = self._array_paths(view)
        layout = self._layout(paths[level]) if level < len(paths) else None
        if layout is None:
            raise MissingKeyError(
                f"{self.path} has no pixels of time point {view.time}, setup {view.setup}, level {level} "
                f"(no array {self._group(view).path}/{level})"
            )
        return paths[level], layout

    def _lead(self, layout: ArrayLayout, group: ZarrGroup, array: str) -> tuple[int, ...]:
        """Return the indices along the axes before z: `group.indices` count from z to the front."""
        n_lead = len(layout.shape) - 3
        given = group.indices or ()
        sizes = layout.shape[:-3][::-1]  # as the indices: c, t
        lead = [*given[: max(0, n_lead)], *(0 for _ in sizes[len(given) :])]
        if n_lead < 0 or any(size != 1 for size in sizes[len(given) :]):
            raise FormatError(
                f"{self.path / array} has the shape {layout.shape}, and the XML gives the indices {given}: "
                "with them no stack (z, y, x) is left"
            )
        if any(not 0 <= index < size for index, size in zip(lead, sizes, strict=True)):
            raise FormatError(
                f"{self.path / array} has the shape {layout.shape}; the indices {given} of the XML lie outside"
            )
        return tuple(lead[::-1])

    # -- writing -----------------------------------------------------------------------------------------

    def declare(
        self,
        view: ViewId,
        pyramid: Pyramid,
        dtype: np.dtype[Any],
        codec: Codec,
        note: ImageNote | None = None,
    ) -> tuple[OmeZarrLevel, ...]:
        """Create the images of all levels of a view, in place of those that were there."""
        self.remove(view)
        arrays = self._create_arrays(view, pyramid, 0, dtype, codec)
        self._put_image(view, {}, ngff.describe(note or ImageNote(), pyramid.factors, dtype))
        self._groups[view] = _own_group(view)
        return arrays

    def add_levels(
        self, view: ViewId, pyramid: Pyramid, first: int, dtype: np.dtype[Any], codec: Codec
    ) -> tuple[OmeZarrLevel, ...]:
        """Create the images of the levels from `first` on beside those that are there."""
        ours, said = self._said(view)
        (image,) = said["multiscales"]
        voxel_size = ngff.scale_of(image["datasets"][0])
        assert voxel_size is not None
        image = {**image, "datasets": ngff.levels(voxel_size, pyramid.factors)}
        arrays = self._create_arrays(view, pyramid, first, dtype, codec)
        self._put_image(view, ours, {**said, "multiscales": [image]})
        return arrays

    def _said(self, view: ViewId) -> tuple[Attributes, Attributes]:
        """Return our own attributes of an image that we made, and those of NGFF."""
        attributes = self._image(view)
        assert attributes is not None
        ours = {key: value for key, value in attributes.items() if key == "npy2bdv"}
        said = attributes.get("ome", attributes)
        return ours, {key: said[key] for key in ("multiscales", "omero")}

    def _create_arrays(
        self, view: ViewId, pyramid: Pyramid, first: int, dtype: np.dtype[Any], codec: Codec
    ) -> tuple[OmeZarrLevel, ...]:
        self._factors.pop(view.setup, None)
        assert self.card.zarr_version is not None
        arrays = []
        for level in range(first, pyramid.n_levels):
            shape, (z, y, x) = pyramid.level_shape(level), pyramid.chunks[level]
            # a chunk wider than the image would only store zeros; its depth stays, so that stacks can grow
            chunk = (1, 1, z, min(y, shape[1]), min(x, shape[2]))
            layout = layout_for(self.card.zarr_version, (1, 1, *shape), chunk, dtype, codec)
            array = _join(self._group(view).path, str(level))
            attributes = {"downsamplingFactors": [*pyramid.factors[level][::-1], 1, 1]} if level else {}
            if self.card.zarr_version == 2 and attributes:
                self._put_json(_join(array, ".zattrs"), attributes)
            self._put_json(_join(array, layout.metadata_file), to_json(layout, attributes))
            arrays.append(OmeZarrLevel(self._files, array, layout, (0, 0), cached=False))
        return tuple(arrays)

    def remove(self, view: ViewId) -> None:
        """Forget the images of a view, if there are any."""
        self._factors.pop(view.setup, None)
        group = self._group(view)
        assert group == _own_group(view), "images of other programs are not removed"
        self._files.remove(group.path)
        self._groups.pop(view, None)

    def note_times(self, times: Iterable[int]) -> None:
        """Nothing: there is no place for a time point without images."""

    def in_place(self, codec: Codec) -> bool:
        """Tell whether chunks are written piece by piece: never, a file is written whole."""
        return False

    def note_missing_planes(self, view: ViewId, ranges: list[tuple[int, int]]) -> None:
        """Keep which planes (start, stop) never came: ``npy2bdv: {missing_planes: ...}`` of the image group."""
        _, said = self._said(view)
        self._put_image(view, {"npy2bdv": {"missing_planes": ranges}} if ranges else {}, said)

    def complete(self, view: ViewId) -> None:
        """Set the contrast with which viewers show the image, from the middle of its coarsest level."""
        ours, said = self._said(view)
        last = len(said["multiscales"][0]["datasets"]) - 1
        if not self.has(view, last):  # a kill came while levels were added
            return
        coarsest = self.level(view, last)
        box = [min(wanted, size) for wanted, size in zip(_CONTRAST_BOX, coarsest.shape, strict=True)]
        starts = [(size - side) // 2 for size, side in zip(coarsest.shape, box, strict=True)]
        z, y, x = (slice(start, start + side) for start, side in zip(starts, box, strict=True))
        pixels = coarsest.read((z, y, x))
        pixels = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
        if pixels.size:
            start, end = np.percentile(pixels[..., ::2], _CONTRAST_PERCENT).tolist()
            self._put_image(view, ours, ngff.with_contrast(said, start, max(end, start + 1)))

    def loader(self, path: PathRef, views: Iterable[ViewId]) -> OmeZarrLoader:
        """Return how an XML names the container, which lies at `path`, and the images of these views."""
        return OmeZarrLoader(
            path=replace(path, text=quote(path.text)),
            groups={view: _own_group(view) for view in sorted(views)},
            version="3.0" if self.card.zarr_version == 2 else "3.1",
            zarr_version=None if self.card.zarr_version == 2 else 3,
        )

    def flush(self, *, sync: bool = False) -> None:
        """Nothing, since files are written whole; with `sync` wait until they are on the disk."""
        if sync:
            self._files.sync()

    def close(self) -> None:
        """Let go of what was opened. A second call does nothing."""
        self._closed = True
        self._levels.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self.path} is closed")

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key != "_files"}
        return {**state, "_mode": "r", "_levels": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._files = FileStore(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _own_group(view: ViewId) -> ZarrGroup:
    """Return where we put the image of a view."""
    return ZarrGroup(path=f"s{view.setup}-t{view.time}.zarr", indices=(0, 0))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
