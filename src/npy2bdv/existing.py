"""A dataset that lies there already and is appended to: it is kept whole, and extended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from npy2bdv.errors import FormatError, InvalidInputError, MissingKeyError, NotFoundError
from npy2bdv.location import dataset_paths, find_xml, pixel_path, read_xml, suffix_of
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.model.spimdata import (
    ATTRIBUTES,
    ContainerLoader,
    OmeZarrLoader,
    SpimData,
    Timepoints,
    ViewId,
)
from npy2bdv.setups import DraftSetup
from npy2bdv.storage import open_container
from npy2bdv.storage.base import RAW, Codec
from npy2bdv.storage.fence import check_writable
from npy2bdv.storage.journal import Lock, journal_path
from npy2bdv.storage.pending import record_path

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from npy2bdv.model.affine import Affine
    from npy2bdv.model.spimdata import ViewRegistration, ViewSetup, ViewTransform
    from npy2bdv.storage.base import Container, FormatCard, FormatName

_CALIBRATION = "calibration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """What is known of a dataset before something is appended to it.

    Attributes
    ----------
    path_xml, path_pixels
        Where it lies.
    text
        The XML as it was read.
    card, codec
        How its pixels are stored; `codec` is that of the last setup.
    data
        What the XML says.
    setups
        The setups of which an image is stored, as they would be added.
    refusals
        Why other setups with images take no further ones.
    taken
        The setup that has a combination of attributes.
    world_unit
        How many units of voxel sizes one unit of the world is.
    first_free
        The first setup id behind those of the XML that is not in use by pixels of another XML either.
    foreign
        Setup ids before it that are in use by pixels of another XML.
    """

    path_xml: Path
    path_pixels: Path
    text: bytes
    card: FormatCard
    codec: Codec
    data: SpimData
    setups: Mapping[int, DraftSetup]
    refusals: Mapping[int, str] = field(default_factory=dict)
    taken: Mapping[frozenset[tuple[str, int]], int] = field(default_factory=dict)
    world_unit: float = 1.0
    first_free: int = 0
    foreign: frozenset[int] = frozenset()

    @property
    def loader(self) -> ContainerLoader:
        """How the XML names the pixels."""
        assert isinstance(self.data.loader, ContainerLoader)
        return self.data.loader

    @property
    def last_setup(self) -> DraftSetup | None:
        """The setup after which new ones are made where nothing else is asked for."""
        return self.setups[max(self.setups)] if self.setups else None

    def check_unchanged(self) -> None:
        """Refuse to go on from an XML that another program has changed since it was read.

        Raises
        ------
        FormatError
            If it is so.
        """
        if self.path_xml.read_bytes() != self.text:
            raise FormatError(f"{self.path_xml} was changed while it was opened; try again")

    def with_more(self, more: SpimData, loader: ContainerLoader) -> SpimData:
        """Return what the XML is to say when the views of `more` have been added."""
        data = self.data
        if not more.registrations and all(
            name in data.attributes and group.entities.items() <= data.attributes[name].entities.items()
            for name, group in more.attributes.items()
            if group.entities
        ):
            return data
        groups = dict(data.attributes)
        for name, group in more.attributes.items():
            known = groups.get(name)
            if known is not None:
                groups[name] = replace(known, entities={**known.entities, **group.entities})
            elif group.entities:
                groups[name] = group
        timepoints = self._timepoints({view.time for view in more.registrations})
        setups = {**data.setups, **more.setups}
        present = {*data.views(), *more.registrations}
        missing = (data.missing or frozenset()) | {
            view
            for time in timepoints.ids
            for setup in setups
            if (view := ViewId(time, setup)) not in present
        }
        missing -= more.registrations.keys()
        return replace(
            data,
            loader=loader,
            setups=dict(sorted(setups.items())),
            attributes=groups,
            timepoints=timepoints,
            missing=None if data.missing is None and not missing else missing,
            registrations={**data.registrations, **more.registrations},
        )

    def _timepoints(self, used: set[int]) -> Timepoints:
        """Return the time points with further ones. A range stays one, unless its gap were absurd."""
        known = self.data.timepoints
        ids = {*known.ids, *used}
        if ids == set(known.ids):
            return known
        first, last = min(ids), max(ids)
        if known.type == "range" and last - first < 1000 + 10 * len(ids):
            ids = {*range(first, last + 1)}
        return Timepoints.of(ids)


def check_mode(mode: str | None, *, overwrite: bool) -> None:
    """Refuse a mode that is not known, or that contradicts `overwrite`.

    Raises
    ------
    InvalidInputError
        If it is so.
    """
    if mode not in (None, "w-", "w", "a") or (overwrite and mode in ("w-", "a")):
        raise InvalidInputError(
            f"mode={mode!r}, overwrite={overwrite} is not known; there are mode='w-' (refuse what is there), 'w' or "
            "overwrite=True (replace it) and 'a' (append to it)"
        )


def find_existing(
    path: str | os.PathLike[str],
    format: FormatName | None = None,  # noqa: A002
    zarr_version: int | None = None,
) -> Existing | None:
    """Return what lies at a path, to be appended to; None where there is nothing.

    Raises
    ------
    InvalidInputError
        If the name cannot be one, or the dataset has another format than asked for.
    NotFoundError
        If there is an XML without pixels, or there are pixels without an XML.
    FormatError
        If the dataset is of a kind that cannot be written, or its recording was interrupted.
    InUseError
        If it is being written.
    """
    path_xml, path_pixels, _ = dataset_paths(path, format, zarr_version)
    if suffix_of(Path(path))[1] == ".xml":
        if not path_xml.exists():
            _refuse_bare_pixels(path_xml, path_pixels)
            return None
    elif not path_pixels.exists():
        if path_xml.exists():
            pixel_path(path_xml, read_xml(path_xml))  # it says what is missing, or that they are others
            raise InvalidInputError(f"{path_xml} names other pixels than {path_pixels.name}; give the XML")
        return None
    else:
        path_xml = find_xml(path_pixels)
    path_xml = path_xml.absolute()
    text = path_xml.read_bytes()
    data = read_xml(path_xml)
    if not isinstance(data.loader, ContainerLoader):
        named = f"the image loader {data.loader.format!r}" if data.loader else "no image loader"
        raise FormatError(
            f"{path_xml} names {named}, to whose pixels nothing can be added; npy2bdv.resave makes a dataset of "
            "it that can be appended to"
        )
    pixels = pixel_path(path_xml, data).absolute()
    check_writable(pixels, path_xml)
    refuse_unfinished(pixels)
    with open_container(data.loader, pixels) as container:
        _check_format(path_xml, container.card, format, zarr_version)
        return _read(path_xml, pixels, text, data, container)


def refuse_unfinished(pixels: Path, *, locked: bool = False) -> None:
    """Refuse pixels that are being written, or whose writing was interrupted.

    Raises
    ------
    InUseError
        If a process writes them.
    FormatError
        If one did, and was ended.
    """
    _refuse_half_edited(pixels)
    if journal_path(pixels).exists():
        if not locked:
            Lock(pixels).release()
        raise FormatError(
            f"the recording of {pixels.name} was interrupted (there is {journal_path(pixels).name}); bring it into "
            f"order first: npy2bdv recover {pixels}"
        )


def _refuse_half_edited(pixels: Path) -> None:
    """Refuse pixels whose edit was interrupted; its record lies beside them."""
    record = record_path(pixels)
    if record.exists():
        raise FormatError(
            f"an edit of {pixels.name} was interrupted (there is {record.name}); bring it into order first: "
            f"npy2bdv recover {pixels}"
        )


def _refuse_bare_pixels(path_xml: Path, path_pixels: Path) -> None:
    if path_pixels.exists():
        raise NotFoundError(
            f"there are pixels {path_pixels.name}, and no {path_xml.name} that describes them; give the XML that "
            "does, or another name"
        )


def _check_format(path_xml: Path, card: FormatCard, format_: str | None, zarr_version: int | None) -> None:
    if format_ not in (None, card.name) or zarr_version not in (None, card.zarr_version):
        asked = f"format={format_!r}" if format_ not in (None, card.name) else f"zarr_version={zarr_version}"
        found = f"{card.name!r}" + (f" in version {card.zarr_version}" if card.zarr_version else "")
        raise InvalidInputError(
            f"{asked} was asked for, and {path_xml} has its pixels in {found}; leave it out"
        )


def _read(path_xml: Path, pixels: Path, text: bytes, data: SpimData, container: Container) -> Existing:
    if isinstance(data.loader, OmeZarrLoader) and any(
        not group.path for group in data.loader.groups.values()
    ):
        raise FormatError(
            f"{pixels} is one OME-Zarr image that holds all views; nothing can be added beside it: npy2bdv.resave "
            "makes a dataset of it that can be appended to"
        )
    setups: dict[int, DraftSetup] = {}
    refusals: dict[int, str] = {}
    taken: dict[frozenset[tuple[str, int]], int] = {}
    missing = data.missing or frozenset()
    codec = container.card.codec("default")
    for id_, setup in sorted(data.setups.items()):
        taken[combination(setup.attributes)] = id_
        views = (ViewId(time, id_) for time in reversed(data.timepoints.ids))
        view = next((view for view in views if view not in missing and container.has(view)), None)
        if view is None:
            continue
        try:
            setups[id_] = _setup(setup, view, data.registrations.get(view), container)
            codec = _codec_of(container.card, container.level(view, 0).compression)
        except InvalidInputError as error:
            refusals[id_] = f"setup {id_} takes no further time points: {error}"
    first_free = max(data.setups, default=-1) + 1
    while _is_described(container, first_free):
        first_free += 1
    return Existing(
        path_xml=path_xml,
        path_pixels=pixels,
        text=text,
        card=container.card,
        codec=codec,
        data=data,
        setups=setups,
        refusals=refusals,
        taken=taken,
        world_unit=world_unit(data),
        first_free=first_free,
        foreign=_foreign(container, data, first_free),
    )


def _foreign(container: Container, data: SpimData, first_free: int) -> frozenset[int]:
    """Return setup ids that the XML does not have, and of which images are stored."""
    others = (id_ for id_ in range(first_free) if id_ not in data.setups)
    return frozenset(
        id_
        for id_ in others
        if _is_described(container, id_)
        and any(container.has(ViewId(time, id_)) for time in data.timepoints.ids)
    )


def _is_described(container: Container, setup: int) -> bool:
    """Tell whether there are pixels of a setup, of which another XML may know."""
    try:
        return bool(container.factors(setup))
    except MissingKeyError:
        return False


def combination(attributes: Mapping[str, int]) -> frozenset[tuple[str, int]]:
    """Return attributes for comparison; of the four that are not named BigStitcher takes id 0 (formats.md 1.5)."""
    return frozenset({**dict.fromkeys(ATTRIBUTES, 0), **attributes}.items())


def _setup(
    setup: ViewSetup, view: ViewId, registration: ViewRegistration | None, container: Container
) -> DraftSetup:
    """Return a setup as it would be added, by its image of one time point.

    Raises
    ------
    InvalidInputError
        If that is not possible.
    """
    factors = container.factors(setup.id)
    if any(factor != int(factor) for row in factors for factor in row):
        raise InvalidInputError(f"its levels have factors that are no whole numbers (z, y, x): {factors}")
    there = [k for k in range(len(factors)) if container.has(view, k)]
    if there != [*range(len(factors))]:
        raise InvalidInputError(
            f"of the {len(factors)} levels that are described, time point {view.time} has only {there}"
        )
    levels = [container.level(view, k) for k in there]
    whole: tuple[tuple[int, int, int], ...] = tuple((int(z), int(y), int(x)) for z, y, x in factors)
    full = whole.index((1, 1, 1)) if (1, 1, 1) in whole else None
    shape = setup.size_xyz[::-1] if setup.size_xyz is not None else None
    if full is not None:
        if shape not in (None, levels[full].shape):
            raise InvalidInputError(
                f"the XML says that its size (z, y, x) is {shape}, its image has {levels[full].shape}"
            )
        shape = levels[full].shape
    if shape is None:
        raise InvalidInputError("neither the XML nor a stored level says its size")
    pyramid = Pyramid(shape=shape, factors=whole, chunks=tuple(level.chunk for level in levels))
    container.card.check(pyramid, levels[0].dtype)
    calibration, transforms = _split(() if registration is None else registration.transforms)
    return DraftSetup(
        value=setup,
        pyramid=pyramid,
        dtype=np.dtype(levels[0].dtype),
        transforms=transforms,
        calibration=calibration,
    )


def _split(
    transforms: tuple[ViewTransform, ...],
) -> tuple[Affine | Literal["bigstitcher"] | None, tuple[ViewTransform, ...]]:
    """Return the calibration, where the innermost transform says that it is one, and the others."""
    last = transforms[-1] if transforms else None
    if last is not None and last.affine is not None and (last.name or "").lower() == _CALIBRATION:
        return last.affine, transforms[:-1]
    return None, transforms


def world_unit(data: SpimData) -> float:
    """Return how large a unit of the world is, in the unit of voxel sizes.

    That is what calibrations say, the innermost transforms; where they do not fit to the voxel sizes, the smallest of
    these, as BigStitcher has it (formats.md 1.9).
    """
    last = {view.setup: registration.transforms[-1:] for view, registration in data.registrations.items()}
    for setup in data.setups.values():
        innermost = next((each.affine for each in last.get(setup.id, ())), None)
        if setup.voxel_size is None or innermost is None:
            continue
        matrix = np.asarray(innermost)[:, :3]
        scale = np.diag(matrix)
        if (scale > 0).all() and not (matrix - np.diag(scale)).any():
            units = np.array(setup.voxel_size.size_xyz) / scale
            if np.allclose(units, units[0], rtol=1e-6):
                return float(units[0])
    sizes = (setup.voxel_size for setup in data.setups.values())
    return min((min(size.size_xyz) for size in sizes if size is not None), default=1.0)


def _codec_of(card: FormatCard, words: str) -> Codec:
    """Return the codec that a level names; where we cannot write it, gzip."""
    for part in words.split(" + "):
        name, *rest = part.split()
        if name in card.codecs:
            levels = card.codecs[name]
            level = next((int(word) for word in rest if word.isdecimal()), None)
            return Codec(name=name, level=level if levels and level in levels else None)
    return RAW if words == RAW.name else Codec(name="gzip")


def check_alike(
    known: DraftSetup,
    *,
    shape: tuple[int | None, ...],
    dtype: np.dtype[np.generic],
    factors: tuple[tuple[int, int, int], ...] | None,
    voxel_size_xyz: tuple[float, ...] | None,
) -> None:
    """Refuse a setup that has the attributes of one that is there, and is another.

    Raises
    ------
    InvalidInputError
        If shape, pixel type, levels or voxel size differ. None is not compared.
    """
    there = known.pyramid
    differences = []
    if len(shape) != 3 or any(
        wanted not in (None, size) for wanted, size in zip(shape, there.shape, strict=True)
    ):
        differences.append(f"the shape (z, y, x) {there.shape}, not {shape}")
    if dtype != known.dtype:
        differences.append(f"pixels of {known.dtype}, not {dtype}")
    if factors is not None and factors != there.factors:
        differences.append(f"the levels (z, y, x) {there.factors}, not {factors}")
    size = known.value.voxel_size
    if voxel_size_xyz is not None and size is not None:
        pairs = zip(size.size_xyz, voxel_size_xyz, strict=True)
        if not all(math.isclose(a, b, rel_tol=1e-6) for a, b in pairs):
            differences.append(f"voxels (x, y, z) of {size.size_xyz}, not {voxel_size_xyz}")
    if differences:
        raise InvalidInputError(
            f"setup {known.value.id} of the dataset has the same attributes, and {'; '.join(differences)}. Give what "
            "it has to add time points to it, or another channel, tile, angle or illumination for a new setup"
        )
