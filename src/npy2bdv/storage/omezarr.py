"""OME-Zarr for BigStitcher (``bdv.multimg.zarr``, formats.md 4): Zarr v2 with NGFF 0.4, Zarr v3 with NGFF 0.5.

Each view is an image group of its own, ``s{setup}-t{time}.zarr``, whose arrays ``0``, ``1`` ... are the levels,
with the axes t, c, z, y, x. Images of other programs are read whatever their axes.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from npy2bdv.errors import (
    ClosedError,
    FormatError,
    InvalidInputError,
    MissingKeyError,
    NotFoundError,
)
from npy2bdv.handle import Handle
from npy2bdv.model.spimdata import OmeZarrLoader, PathRef, ViewId, ZarrGroup
from npy2bdv.storage import ngff
from npy2bdv.storage.base import Annotation, Codec, FormatCard, ImageNote, plane_runs
from npy2bdv.storage.files import is_folder, is_real_folder, names_in
from npy2bdv.storage.pending import Change
from npy2bdv.storage.servers import spelled
from npy2bdv.storage.zarrays import CODECS, METADATA_FILES, layout_for
from npy2bdv.storage.zarrfolder import ZarrFolder, join
from npy2bdv.storage.zarrlevel import OmeZarrLevel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from npy2bdv.model.pyramid import Pyramid, Zyx
    from npy2bdv.storage.ngff import Attributes, Factors
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
    ordered=True,
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
_ALONE = ViewId(0, 0)
_GROUP = re.compile(r"s(\d+)-t(\d+)\.zarr")
_CONTRAST_BOX = (8, 512, 512)
_CONTRAST_PERCENT = (0.1, 99.9)


def is_container(path: Path) -> bool:
    """Tell whether a folder holds OME-Zarr images, or is one, and nothing else: no labels, no other arrays."""
    folder = ZarrFolder(path)
    return (
        is_real_folder(path)
        and folder.is_group("")
        and (
            _is_image(folder, "") or all(_is_image(folder, name) for name in names_in(path) - METADATA_FILES)
        )
    )


def _is_image(folder: ZarrFolder, group: str) -> bool:
    """Tell whether a group is an image of nothing but levels; one of our own may be incomplete after a kill."""
    path = folder.path / group
    if not is_real_folder(path):
        return False
    names = names_in(path) - METADATA_FILES
    if _GROUP.fullmatch(group):
        return all(name.isdecimal() for name in names)
    try:
        said = ngff.from_attributes(folder.attributes(group) or {})
        datasets = ngff.multiscale(said, path)["datasets"]
    except FormatError:
        return False
    return names <= {each["path"].partition("/")[0] for each in datasets}


class OmeZarrContainer(Handle):
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
    shared
        Others write into it at the same time: what they have half written is left alone, and only `groups` and
        views where we put them are known.
    """

    def __init__(
        self,
        path: Path,
        mode: Literal["r", "r+", "x"] = "r",
        *,
        groups: Mapping[ViewId, ZarrGroup] | None = None,
        zarr_version: int = 2,
        shared: bool = False,
    ) -> None:
        self.path = path
        self._mode = mode
        self._closed = False
        self._folder = ZarrFolder(path)
        self._groups = dict(groups or {})
        self._levels: OrderedDict[tuple[ViewId, int], OmeZarrLevel] = OrderedDict()
        """Levels read last."""
        self._factors: dict[int, tuple[tuple[float, float, float], ...]] = {}
        if mode == "x":
            self._create(zarr_version)
        else:
            zarr_version = self._found_version()
        self.card = CARDS[zarr_version]
        if shared:
            return
        if mode == "r+":
            self._folder.files.clean()
        if mode == "r+" or not self._groups:
            for view in self._views_on_disk():
                self._groups.setdefault(view, _own_group(view))

    def _create(self, zarr_version: int) -> None:
        self._folder.files.begin()
        self._folder.put_group("", {}, zarr_version)

    def _found_version(self) -> int:
        """Return the version of Zarr that lies on disk."""
        self._folder.files.check("an OME-Zarr container")
        for group in ("", *(each.path for each in self._groups.values())):
            version = self._folder.version(group)
            if version is not None:
                return version
        raise FormatError(f"{self.path} is no OME-Zarr container: there is no .zgroup and no zarr.json in it")

    def _views_on_disk(self) -> Iterator[ViewId]:
        if self._mode == "x" or not self._folder.files.lists:
            return
        for each in self._folder.files.folders():
            match = _GROUP.fullmatch(each)
            if match:
                yield ViewId(int(match[2]), int(match[1]))

    # -- metadata ----------------------------------------------------------------------------------------

    def _said(self, view: ViewId) -> Attributes | None:
        """Return what NGFF says of the image of a view; None where there is none."""
        attributes = self._folder.attributes(self._group(view).path)
        return None if attributes is None else ngff.from_attributes(attributes)

    def _datasets(self, view: ViewId) -> list[Attributes]:
        """Return what NGFF says of the levels of a view; nothing where there is no image."""
        said = self._said(view)
        if said is None:
            return []
        datasets: list[Attributes] = ngff.multiscale(said, self.path / self._group(view).path)["datasets"]
        return datasets

    def _change(self, view: ViewId, said: Attributes, ours: Attributes | None = None) -> None:
        """Write what NGFF says of an image of ours, and our own attributes (by default those that are there)."""
        group, version = self._group(view).path, self.card.zarr_version or 2
        if ours is None:
            there = self._folder.attributes(group) or {}
            ours = {key: value for key, value in there.items() if key == "npy2bdv"}
        said = {key: said[key] for key in ("multiscales", "omero")}
        self._folder.put_group(group, {**ngff.to_attributes(said, version), **ours}, version)

    def _group(self, view: ViewId) -> ZarrGroup:
        return self._groups.get(view) or _own_group(view)

    # -- reading -----------------------------------------------------------------------------------------

    def factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        """Return the downsampling factors (z, y, x) of the levels of a setup: those of its first image."""
        self._check_open()
        if setup not in self._factors:
            self._factors[setup] = self._read_factors(setup)
        return self._factors[setup]

    def _read_factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        for view in (each for each in self._groups if each.setup == setup):
            datasets = self._datasets(view)
            if not datasets:
                continue
            try:
                known = ngff.factors_of(datasets)
            except (AttributeError, TypeError, ValueError) as error:
                raise FormatError(
                    f"{self.path / self._group(view).path}: its coordinateTransformations are damaged ({error})"
                ) from error
            return known or ngff.factors_by_size(
                [self._array(view, level)[1].shape for level in range(len(datasets))]
            )
        raise MissingKeyError(f"{self.path} holds no image of setup {setup}")

    def views(self) -> Iterator[ViewId]:
        """Iterate over the views of which something is stored, by time, then setup."""
        return (view for view in sorted(self._groups) if is_folder(self.path / self._group(view).path))

    def has(self, view: ViewId, level: int = 0) -> bool:
        """Tell whether a level of a view is stored."""
        datasets = self._datasets(view)
        return level < len(datasets) and self._folder.version(self._path(view, datasets[level])) is not None

    def _path(self, view: ViewId, dataset: Attributes) -> str:
        return join(self._group(view).path, dataset["path"])

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
        return OmeZarrLevel(self._folder, array, layout, lead, cached=self._mode == "r")

    def _array(self, view: ViewId, level: int) -> tuple[str, ArrayLayout]:
        """Return where a level lies, and what its metadata says."""
        datasets = self._datasets(view)
        path = self._path(view, datasets[level]) if level < len(datasets) else ""
        layout = self._folder.layout(path) if path else None
        if layout is None:
            raise MissingKeyError(
                f"{self.path} has no pixels of time point {view.time}, setup {view.setup}, level {level} "
                f"(no array {self._group(view).path}/{level})"
            )
        return path, layout

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
        shapes = [pyramid.level_shape(level) for level in range(pyramid.n_levels)]
        return self.create_image(view, pyramid.factors, shapes, pyramid.chunks, dtype, codec, note)

    def create_image(
        self,
        view: ViewId,
        factors: Sequence[Factors],
        shapes: Sequence[Zyx],
        chunks: Sequence[Zyx],
        dtype: np.dtype[Any],
        codec: Codec,
        note: ImageNote | None = None,
    ) -> tuple[OmeZarrLevel, ...]:
        """Create the image of a view where there is none, from what each level is."""
        arrays = [
            self._create_array(view, level, *each, dtype, codec)
            for level, each in enumerate(zip(factors, shapes, chunks, strict=True))
        ]
        self._change(view, ngff.describe(note or ImageNote(), factors, dtype), {})
        self._groups.setdefault(view, _own_group(view))
        return tuple(arrays)

    def add_levels(
        self, view: ViewId, pyramid: Pyramid, first: int, dtype: np.dtype[Any], codec: Codec
    ) -> tuple[OmeZarrLevel, ...]:
        """Create the images of the levels from `first` on beside those that are there."""
        said = self._said(view)
        assert said is not None
        (image,) = said["multiscales"]
        voxel_size = ngff.scale_of(image["datasets"][0])
        assert voxel_size is not None
        image = {**image, "datasets": ngff.levels(voxel_size, pyramid.factors)}
        arrays = [
            self._create_array(
                view,
                level,
                pyramid.factors[level],
                pyramid.level_shape(level),
                pyramid.chunks[level],
                dtype,
                codec,
            )
            for level in range(first, pyramid.n_levels)
        ]
        self._change(view, {**said, "multiscales": [image]})
        return tuple(arrays)

    def _create_array(
        self,
        view: ViewId,
        level: int,
        factors: Factors,
        shape: Zyx,
        chunk: Zyx,
        dtype: np.dtype[Any],
        codec: Codec,
    ) -> OmeZarrLevel:
        self._factors.pop(view.setup, None)
        assert self.card.zarr_version is not None
        (z, y, x), (_, tall, wide) = chunk, shape
        # a chunk wider than the image would only store zeros; its depth stays, so that stacks can grow
        block = (1, 1, z, min(y, tall), min(x, wide))
        layout = layout_for(self.card.zarr_version, (1, 1, *shape), block, dtype, codec)
        array = join(self._group(view).path, str(level))
        self._folder.put_array(
            array, layout, {"downsamplingFactors": [*factors[::-1], 1, 1]} if level else {}
        )
        return OmeZarrLevel(self._folder, array, layout, (0, 0), cached=False)

    def remove(self, view: ViewId) -> None:
        """Forget the images of a view, if there are any."""
        self._factors.pop(view.setup, None)
        group = self._group(view)
        if group.path != _own_group(view).path:
            raise InvalidInputError(
                f"the image of time point {view.time} of setup {view.setup} is {self.path / group.path}, which other "
                "programs may use, too; it is neither replaced nor removed"
            )
        self._folder.files.remove(group.path)
        self._groups.pop(view, None)

    def note_times(self, times: Iterable[int]) -> None:
        """Nothing: there is no place for a time point without images."""

    def in_place(self, codec: Codec) -> bool:
        """Tell whether chunks are written piece by piece: never, a file is written whole."""
        return False

    def note_missing_planes(self, view: ViewId, ranges: list[tuple[int, int]]) -> None:
        """Keep which planes (start, stop) never came: ``npy2bdv: {missing_planes: ...}`` of the image group."""
        said = self._said(view)
        assert said is not None
        self._change(view, said, {"npy2bdv": {"missing_planes": ranges}} if ranges else {})

    def missing_planes(self, view: ViewId) -> tuple[tuple[int, int], ...]:
        """Return which planes (start, stop) never came."""
        ours = (self._folder.attributes(self._group(view).path) or {}).get("npy2bdv")
        return plane_runs(ours.get("missing_planes", ())) if isinstance(ours, dict) else ()

    def why_fixed(self, view: ViewId) -> str:
        """Say why the image of a view cannot be replaced or removed; empty where it can."""
        group = self._group(view)
        if group.path in ("", "."):
            return "the container is itself the image, so that nothing can be written beside it"
        others = [other for other, each in self._groups.items() if each.path == group.path and other != view]
        if others:
            return f"{group.path} holds more than this view (time point {others[0].time}, setup {others[0].setup}, too)"
        return "" if ".." not in group.path else f"its image lies elsewhere, at {group.path}"

    def beside(self, views: Iterable[ViewId]) -> tuple[Path, ...]:
        """Return where images will lie that are declared as these views."""
        return tuple(self.path / _own_group(view).path for view in sorted(views))

    def exchange(self, view: ViewId, by: ViewId | None) -> Change:
        """Return what gives a view the image that was declared as another one, or none.

        What other programs noted in its attributes stays.
        """
        target = self.path / self._group(view).path
        if by is None:
            return Change(removed=(target,))
        new, old = self._group(by).path, self._folder.attributes(self._group(view).path) or {}
        ours = self._folder.attributes(new) or {}
        kept = {
            key: value for key, value in old.items() if key not in ("multiscales", "omero", "ome", "npy2bdv")
        }
        if kept:
            self._folder.put_group(new, {**kept, **ours}, self.card.zarr_version or 2)
        return Change(swaps=((self.path / new, target),))

    def exchange_setup(self, setup: int, by: int | None) -> Change:
        """Nothing: each image describes itself."""
        return Change()

    def complete(self, view: ViewId) -> None:
        """Set the contrast with which viewers show the image, from the middle of its coarsest level."""
        said, last = self._said(view), len(self._datasets(view)) - 1
        if said is None or not self.has(view, last):  # a kill came while levels were added
            return
        coarsest = self.level(view, last)
        box = [min(wanted, size) for wanted, size in zip(_CONTRAST_BOX, coarsest.shape, strict=True)]
        starts = [(size - side) // 2 for size, side in zip(coarsest.shape, box, strict=True)]
        z, y, x = (slice(start, start + side) for start, side in zip(starts, box, strict=True))
        pixels = coarsest.read((z, y, x))
        pixels = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
        if pixels.size:
            start, end = np.percentile(pixels[..., ::2], _CONTRAST_PERCENT).tolist()
            self._change(view, ngff.with_contrast(said, start, max(end, start + 1)))

    def loader(self, path: PathRef, views: Iterable[ViewId]) -> OmeZarrLoader:
        """Return how an XML names the container, which lies at `path`, and the images of these views."""
        return loader_of(path, views, self.card.zarr_version or 2)

    def folders_of(self, view: ViewId, new: ViewId) -> tuple[str, str, dict[str, str]]:
        """Return the group of a view, that under new ids, and the files of a container with such groups."""
        group = self._group(view)
        if (
            not group.path
            or any(group.indices or ())
            or ".." in group.path
            or group.path.startswith(("/", "\\"))
        ):
            raise InvalidInputError(
                f"the image of time point {view.time} of setup {view.setup} in {self.path} is a part of another one "
                f"({group.path or 'the container itself'}), and cannot be moved alone; convert it first "
                "(npy2bdv.resave)"
            )
        files = {".zgroup": '{"zarr_format":2}'}
        if self.card.zarr_version == 3:
            files = {"zarr.json": '{"zarr_format":3,"node_type":"group","attributes":{}}'}
        return group.path, _own_group(new).path, files

    def flush(self, *, sync: bool = False) -> None:
        """Nothing, since files are written whole; with `sync` wait until they are on the disk."""
        if sync:
            self._folder.files.sync()

    def close(self) -> None:
        """Let go of what was opened. A second call does nothing."""
        self._closed = True
        self._levels.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self.path} is closed")

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key != "_folder"}
        return {**state, "_mode": "r", "_levels": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._folder = ZarrFolder(self.path)


def loader_of(path: PathRef, views: Iterable[ViewId], zarr_version: int) -> OmeZarrLoader:
    """Return how an XML names a container of ours, which lies at `path`, and the images of these views."""
    return OmeZarrLoader(
        path=replace(path, text=spelled(path.text)),
        groups={view: _own_group(view) for view in sorted(views)},
        version="3.0" if zarr_version == 2 else "3.1",
        zarr_version=None if zarr_version == 2 else 3,
    )


def _own_group(view: ViewId) -> ZarrGroup:
    """Return where we put the image of a view."""
    return ZarrGroup(path=f"s{view.setup}-t{view.time}.zarr", indices=(0, 0))


def annotated(
    path: Path, groups: Mapping[ViewId, ZarrGroup], said: Mapping[ViewId, Annotation]
) -> dict[str, bytes | None]:
    """Return new texts of the files that describe the images of some views, by key; None for what has to be removed.

    Views may share an image; the first of their indices is then that of the channel (formats.md 4.1).
    """
    folder = ZarrFolder(path)
    images: dict[str, list[tuple[int, Annotation]]] = {}
    for view, annotation in said.items():
        if view in groups:
            channel = (groups[view].indices or (0,))[0]
            images.setdefault(groups[view].path, []).append((channel, annotation))
    shared = Counter(group.path for group in groups.values())  # by several views: it has the name of none
    texts: dict[str, bytes | None] = {}
    for group, wanted in images.items():
        attributes = folder.attributes(group)
        if attributes is None:
            continue
        described = before = ngff.from_attributes(attributes)
        try:
            for channel, annotation in wanted:
                described = _annotated(described, channel, annotation, alone=shared[group] == 1)
        except (AttributeError, TypeError, ValueError, LookupError) as error:
            raise FormatError(
                f"{path / group}: what it says of voxels and channels is damaged ({error!r})"
            ) from error
        if described != before:
            texts |= folder.with_attributes(group, ngff.in_attributes(attributes, described))
    return texts


def _annotated(said: Attributes, channel: int, annotation: Annotation, *, alone: bool) -> Attributes:
    if annotation.voxel_size_xyz is not None:
        said = ngff.with_voxel_size(said, annotation.voxel_size_xyz)
    if annotation.unit is not None:
        said = ngff.with_unit(said, annotation.unit)
    if annotation.channel is not None:
        said = ngff.with_channel(said, channel, annotation.channel)
    if annotation.name is not None and alone:
        said = ngff.with_name(said, annotation.name)
    return said


def is_image(path: Path) -> bool:
    """Tell whether a folder is an OME-Zarr image of its own, and nothing else."""
    try:
        container = OmeZarrContainer(path, groups={_ALONE: ZarrGroup(path="")})
        return is_container(path) and container.has(_ALONE)
    except (FormatError, NotFoundError):
        return False


def create_image(card: FormatCard, path: Path) -> OmeZarrContainer:
    """Create a folder that is itself the image of time point 0, setup 0."""
    groups = {_ALONE: ZarrGroup(path="", indices=(0, 0))}
    return OmeZarrContainer(path, "x", groups=groups, zarr_version=card.zarr_version or 2)
