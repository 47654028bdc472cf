"""The SpimData values: what the XML of a BigDataViewer / BigStitcher dataset says, without XML.

All values are frozen; an edit returns a new one (`dataclasses.replace`). Mappings and tuples in them are
never changed in place. Names are those of the format (``SpimData``, ``ViewSetup``, ``ViewRegistration`` ...).
Physical quantities are (x, y, z), as in the XML.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from npy2bdv.errors import FormatError, MissingKeyError
from npy2bdv.model.affine import Affine

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

Triple = tuple[float, float, float]

ATTRIBUTES = ("illumination", "channel", "tile", "angle")
"""The four attributes that BigStitcher requires, in the order of the classic setup numbering."""


class ViewId(NamedTuple):
    """One view: a time point id and a setup id. Sorts as Java writes views: by time, then setup."""

    time: int
    setup: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """A piece of XML that is kept as it is: a tree of names, attributes and texts."""

    tag: str
    attributes: tuple[tuple[str, str], ...] = ()
    text: str = ""
    children: tuple[Element, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An element that we do not know, and the known sibling that it followed (None: it came first)."""

    element: Element
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRef:
    """A path as the XML has it: the (decoded) text, and whether it is relative to the base path."""

    text: str
    relative: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A file that holds some views of a partitioned HDF5 dataset (bookkeeping; pixels follow the links)."""

    path: PathRef
    timepoints: tuple[int, ...]
    setups: tuple[int, ...]
    timepoints_mapped: tuple[int, ...] | None = None
    setups_mapped: tuple[int, ...] | None = None

    def without(self, setups: Collection[int]) -> Partition:
        """Return it without some setups; their numbers inside of the file go, too."""
        places = [place for place, setup in enumerate(self.setups) if setup not in setups]
        mapped = self.setups_mapped
        if mapped is not None:
            mapped = tuple(mapped[place] for place in places if place < len(mapped))
        return replace(self, setups=tuple(self.setups[place] for place in places), setups_mapped=mapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdf5Loader:
    """``ImageLoader format="bdv.hdf5"``: pixels in one HDF5 file, or in partitions that it links to."""

    path: PathRef
    partitions: tuple[Partition, ...] = ()
    kept: tuple[Kept, ...] = ()

    def without_partitions(self, setups: Collection[int]) -> Hdf5Loader:
        """Return what is said of partitions when none of them holds images of some setups any more."""
        kept = (partition.without(setups) for partition in self.partitions)
        return replace(self, partitions=tuple(each for each in kept if each.setups))

    @property
    def format(self) -> str:
        """Return the loader's name in the XML."""
        return "bdv.hdf5"


@dataclass(frozen=True, slots=True, kw_only=True)
class N5Loader:
    """``ImageLoader format="bdv.n5"``: pixels in one N5 container."""

    path: PathRef
    version: str | None = "1.0"
    kept: tuple[Kept, ...] = ()

    @property
    def format(self) -> str:
        """Return the loader's name in the XML."""
        return "bdv.n5"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrGroup:
    """Where the image of a view lies in an OME-Zarr container: a group, and the indices (c, t) inside its arrays."""

    path: str
    indices: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeZarrLoader:
    """``ImageLoader format="bdv.multimg.zarr"``: one OME-Zarr image for each view (formats.md 4.1, 4.4).

    `version` is that of the loader's XML ("3.0" for Zarr v2, "3.1" for v3), `zarr_version` its attribute
    ``zarr.version`` as a number (None where it is absent, which means 2).
    """

    path: PathRef
    groups: Mapping[ViewId, ZarrGroup] = field(default_factory=dict)
    version: str | None = "3.0"
    zarr_version: int | None = None
    kept: tuple[Kept, ...] = ()

    @property
    def format(self) -> str:
        """Return the loader's name in the XML."""
        return "bdv.multimg.zarr"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """Where the image of a view lies among files that Bio-Formats reads: a file, and numbers inside of it.

    `further` are the files of the planes behind the first, where they are listed.
    """

    path: PathRef
    further: tuple[PathRef, ...] = ()
    series: int = 0
    channel: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileListLoader:
    """``spimreconstruction.filemap2`` and ``.filelist``: each view in a file of its own choice (formats.md 5).

    `z_grouped` says that a file holds one plane; where only the first of a stack is listed, the others are found
    by their names.
    Only read; `element` is written back as it was.
    """

    format: str
    element: Element
    files: Mapping[ViewId, ImageFile]
    z_grouped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLoader:
    """``spimreconstruction.stack.ij`` and ``.stack.loci``: files of one folder, named by a pattern (formats.md 5).

    `layouts` says for "timepoint" and each attribute whether there is only one (0), one in each file (1),
    or all in one file (2). Only read; `element` is written back as it was.
    """

    format: str
    element: Element
    folder: PathRef
    pattern: str
    layouts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPart:
    """Which box of which setup a setup is: first and last pixel (x, y, z), both inside."""

    setup: int
    first_xyz: tuple[int, int, int]
    last_xyz: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitLoader:
    """``split.viewerimgloader`` and its kin: setups that are boxes of the setups of an inner dataset.

    Only read; `element` is written back as it was.
    """

    format: str
    element: Element
    inner: SpimData
    parts: Mapping[int, SplitPart]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherLoader:
    """An image loader that this version does not read pixels from; kept whole. `problem` says why, if it should."""

    format: str
    element: Element
    problem: str = ""


ContainerLoader = Hdf5Loader | N5Loader | OmeZarrLoader
"""Loaders of one container that lies at a path; those that are written, too."""

ImageLoader = ContainerLoader | FileListLoader | StackLoader | SplitLoader | OtherLoader


@dataclass(frozen=True, slots=True, kw_only=True)
class VoxelSize:
    """Size of a voxel (x, y, z) in `unit`. Metadata only: display follows the transforms."""

    size_xyz: Triple
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Camera of a setup, as the established package records it."""

    name: str = "default"
    exposure_time: float = 0.0
    exposure_unit: str = "s"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedBy:
    """Program, microscope and user that made a dataset, as the established package records them."""

    library: str = "npy2bdv"
    library_version: str = ""
    microscope: str = "default"
    microscope_version: str = "0.0"
    user: str = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One value of an attribute: a channel, a tile ... `name` is its label."""

    id: int
    name: str | None = None
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Illumination(Entity):
    """An illumination direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel(Entity):
    """A channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile(Entity):
    """A tile; `location_xyz` is in physical units and only used when transforms are built."""

    location_xyz: Triple | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Angle(Entity):
    """An angle of the sample: rotation axis and degrees (metadata)."""

    axis_xyz: Triple | None = None
    degrees: float | None = None


ENTITY_TYPES: Mapping[str, type[Entity]] = {
    "illumination": Illumination,
    "channel": Channel,
    "tile": Tile,
    "angle": Angle,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeGroup:
    """The entities of one attribute, by id, in the order of the XML."""

    name: str
    entities: Mapping[int, Entity]
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSetup:
    """One setup: what is recorded again at each time point (a channel of a tile at an angle ...)."""

    id: int
    name: str | None = None
    size_xyz: tuple[int, int, int] | None = None
    voxel_size: VoxelSize | None = None
    camera: Camera | None = None
    attributes: Mapping[str, int] = field(default_factory=dict)
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timepoints:
    """Ids of the time points. A pattern's text is kept as it was written."""

    ids: tuple[int, ...]
    type: Literal["range", "list", "pattern"] = "range"
    pattern: str | None = None

    @classmethod
    def of(cls, ids: Iterable[int]) -> Timepoints:
        """Return `ids` (any order) as a range where they have no gap, else as a list, as Java does."""
        ordered = tuple(sorted(set(ids)))
        contiguous = bool(ordered) and ordered[-1] - ordered[0] + 1 == len(ordered)
        return cls(ids=ordered, type="range" if contiguous else "list")


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewTransform:
    """One named transform of a view. `kept` holds a transform that is not an affine (Java class).

    Parameters
    ----------
    affine
        From what stands inside of it to what stands outside; None where `kept` has another transform.
    name
        As the XML names it, if it does.
    kept
        The XML of a transform that is not an affine (a Java class).
    """

    affine: Affine | None
    name: str | None = None
    kept: Element | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRegistration:
    """The transforms of one view, outermost first: world = A1 · A2 · ... · An · pixel."""

    transforms: tuple[ViewTransform, ...] = ()
    kept: tuple[Kept, ...] = ()

    @property
    def total(self) -> Affine:
        """Return the transform from pixels of level 0 to the world.

        Raises
        ------
        FormatError
            If one of the transforms is not an affine.
        """
        total = Affine.identity()
        for transform in self.transforms:
            if transform.affine is None:
                raise FormatError(
                    f"the transform {transform.name!r} is not an affine but a Java class; "
                    "only programs that have that class can apply it"
                )
            total = total @ transform.affine
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class SpimData:
    """A whole dataset description.

    `sections` holds BigStitcher's parts (ViewInterestPoints, BoundingBoxes, PointSpreadFunctions,
    StitchingResults, IntensityAdjustments) whole. `kept` holds unknown children of the elements that have
    no value of their own here, by the element's name ("SpimData", "ViewSetups" ...).
    `missing` is None where the XML has no MissingViews element.
    """

    base_path: PathRef = PathRef(text=".")
    generated_by: GeneratedBy | None = None
    loader: ImageLoader | None = None
    setups: Mapping[int, ViewSetup] = field(default_factory=dict)
    attributes: Mapping[str, AttributeGroup] = field(default_factory=dict)
    timepoints: Timepoints = Timepoints(ids=())
    missing: frozenset[ViewId] | None = None
    registrations: Mapping[ViewId, ViewRegistration] = field(default_factory=dict)
    sections: tuple[Element, ...] = ()
    kept: Mapping[str, tuple[Kept, ...]] = field(default_factory=dict)

    def setup(self, setup: int) -> ViewSetup:
        """Return the setup with this id.

        Raises
        ------
        MissingKeyError
            If there is none.
        """
        try:
            return self.setups[setup]
        except KeyError:
            raise MissingKeyError(
                f"no setup {setup} in this dataset; its setups are {_some(sorted(self.setups))}"
            ) from None

    def entity(self, attribute: str, setup: ViewSetup) -> Entity | None:
        """Return the entity (channel, tile ...) of a setup; None where the setup has no such attribute.

        A dangling id is given a nameless entity; a missing one of the four known attributes is id 0,
        as BigStitcher supplies it (formats.md 1.5).
        """
        id_ = setup.attributes.get(attribute)
        if id_ is None:
            return Entity(id=0, name="0") if attribute in ATTRIBUTES else None
        group = self.attributes.get(attribute)
        found = group.entities.get(id_) if group else None
        return found if found is not None else Entity(id=id_, name=str(id_))

    def labels_of(self, setup: ViewSetup) -> dict[str, str]:
        """Return the label of each attribute of a setup; an entity without a name is called by its id."""
        entities = {name: self.entity(name, setup) for name in setup.attributes}
        return {
            name: entity.name or str(entity.id) for name, entity in entities.items() if entity is not None
        }

    def views(self) -> Iterator[ViewId]:
        """Iterate over the views that are not listed as missing, by time, then setup."""
        missing = self.missing or frozenset()
        setups = sorted(self.setups)
        for time in self.timepoints.ids:
            for setup in setups:
                view = ViewId(time, setup)
                if view not in missing:
                    yield view

    def with_registration(self, view: ViewId, registration: ViewRegistration) -> SpimData:
        """Return this dataset with another registration of one view."""
        return replace(self, registrations={**self.registrations, view: registration})


def _some(items: list[int], limit: int = 12) -> str:
    """Return a readable list, cut where it is long."""
    if not items:
        return "none"
    text = ", ".join(map(str, items[:limit]))
    return text if len(items) <= limit else f"{text} ... ({len(items)} in all)"
