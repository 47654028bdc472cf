"""What a storage format offers: the protocols that every format satisfies, and its card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from npy2bdv.errors import InvalidInputError, InvalidTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from npy2bdv.model.findings import Finding
    from npy2bdv.model.pyramid import Pyramid, Region, Zyx
    from npy2bdv.model.spimdata import ImageLoader, PathRef, Triple, ViewId
    from npy2bdv.storage.pending import Change

Payload = bytes | memoryview
"""One chunk as it lies on disk."""

FormatName = Literal["hdf5", "n5", "omezarr", "tiff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How chunks are compressed. `level` is None where the codec has none, or for its fast default."""

    name: str
    level: int | None = None


RAW = Codec(name="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatCard:
    """What a format is called, what it can do, and which programs open it.

    `codecs` gives for each codec its range of levels (None: it has none). `max_chunk_bytes` is the first
    size of an uncompressed chunk that the format cannot hold. `zarr_version` is 2 or 3 where there is one.
    `cautions` says of codecs which programs lack them, and goes on after "compression NAME". `ordered` tells
    whether levels must go from the full resolution to the coarsest.
    """

    name: FormatName
    zarr_version: int | None = None
    loader: str
    suffixes: tuple[str, ...]
    pixel_types: tuple[str, ...]
    codecs: dict[str, range | None]
    default_codec: str
    default_chunk: Zyx
    max_chunk_bytes: int
    concurrent: bool
    opens: str
    cautions: dict[str, str] = field(default_factory=dict)
    ordered: bool = False

    def codec(self, compression: str | tuple[str, int] | Codec | None) -> Codec:
        """Return the codec that a user asked for by name, or by name and level.

        None means none; "default" that of the format.

        Raises
        ------
        InvalidInputError
            If the format has no such codec or level.
        """
        if isinstance(compression, Codec):
            return compression
        parts: Any = tuple(compression) if isinstance(compression, (tuple, list)) else (compression, None)
        name, level = parts if len(parts) == 2 else (str(parts), None)
        name = {None: "none", "default": self.default_codec}.get(name, name)
        if name not in self.codecs:
            raise InvalidInputError(
                f"compression {compression!r} is not known to {self.name}; it has "
                + ", ".join(map(repr, self.codecs))
            )
        levels = self.codecs[name]
        if level is not None and (levels is None or level not in levels):
            known = "no levels" if levels is None else f"the levels {levels.start} to {levels.stop - 1}"
            raise InvalidInputError(f"compression level {level!r} is not known: {name} has {known}")
        return Codec(name=name, level=level)

    def check_order(self, pyramid: Pyramid) -> None:
        """Refuse levels in an order that the format does not take.

        Raises
        ------
        InvalidInputError
            If it is so.
        """
        pairs = zip(((1, 1, 1), *pyramid.factors), pyramid.factors, strict=False)
        if self.ordered and (
            pyramid.factors[0] != (1, 1, 1)
            or any(finer > coarser for pair in pairs for finer, coarser in zip(*pair, strict=True))
        ):
            raise InvalidInputError(
                f"{self.name} keeps the full resolution first, then coarser and coarser levels; found the factors "
                f"{pyramid.factors} (z, y, x): give them in this order, (1, 1, 1) first"
            )

    def check(self, pyramid: Pyramid, dtype: np.dtype[np.generic]) -> None:
        """Refuse what the format cannot hold, before anything is created.

        Raises
        ------
        InvalidTypeError
            If the pixel type is not known to the format.
        InvalidInputError
            If a chunk is too large for it, or the levels have another order than it takes.
        """
        if dtype.name not in self.pixel_types:
            raise InvalidTypeError(
                f"pixels of type {dtype.name} cannot be stored in {self.name}; it takes "
                + ", ".join(self.pixel_types)
            )
        self.check_order(pyramid)
        for chunk in pyramid.chunks:
            nbytes = chunk[0] * chunk[1] * chunk[2] * dtype.itemsize
            if nbytes >= self.max_chunk_bytes:
                raise InvalidInputError(
                    f"a block of {chunk} pixels of {dtype.name} has {nbytes} bytes; {self.name} holds "
                    f"blocks below {self.max_chunk_bytes} bytes: choose a smaller one"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerAudit:
    """What is wrong with a container.

    `unsigned` are the setups whose uint16 pixels lack an attribute that says so, and what they are called: whether
    that goes well depends on the pixels. `unreachable` are views whose pixels lie in a file that is not there.
    """

    findings: tuple[Finding, ...]
    unsigned: dict[int, str] = field(default_factory=dict)
    unreachable: frozenset[ViewId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNote:
    """What a format may say of a view beside its pixels, for programs that do not read the XML."""

    name: str = ""
    channel: str = ""
    voxel_size_xyz: Triple = (1.0, 1.0, 1.0)
    unit: str = "px"


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What a format is to say of a view that is stored already; None stays as it is. See `ImageNote`."""

    voxel_size_xyz: Triple | None = None
    unit: str | None = None
    channel: str | None = None
    name: str | None = None


def plane_runs(rows: Any) -> tuple[tuple[int, int], ...]:
    """Return runs of planes (start, stop) as they were kept with a view; none where they make no sense."""
    try:
        runs = tuple((int(start), int(stop)) for start, stop in rows)
    except (TypeError, ValueError, OverflowError):
        return ()
    return tuple(sorted(run for run in runs if 0 <= run[0] < run[1]))


def missing_library(name: str, purpose: str) -> InvalidInputError:
    """Return the error that a library is not installed, which comes with the extra "zarr"."""
    return InvalidInputError(f'{purpose} by {name}, which is not installed: pip install "npy2bdv[zarr]"')


class LevelPixels(Protocol):
    """The pixels of one level of one view, as they are read. `shape` and `chunk` are (z, y, x)."""

    @property
    def shape(self) -> Zyx:
        """Size in pixels (z, y, x)."""
        ...

    @property
    def chunk(self) -> Zyx:
        """Size of a chunk (z, y, x)."""
        ...

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Pixel type, in the machine's byte order."""
        ...

    @property
    def nbytes_on_disk(self) -> int | None:
        """How many bytes the level takes on disk; None where a server does not tell."""
        ...

    @property
    def compression(self) -> str:
        """How chunks are compressed, in words: "none", "gzip 1 + shuffle" ..."""
        ...

    def read(self, region: Region) -> NDArray[np.generic]:
        """Return the pixels of a region inside the level."""
        ...


@runtime_checkable
class CountsAbsent(Protocol):
    """A level that can tell, without much work, that pixels are lost: their chunks are absent, and read as zeros."""

    def count_absent(self, region: Region) -> int:
        """Return how many chunks of a region are not stored, but should be.

        Where a format stores no chunks of zeros these are all chunks if it stores none at all, else nothing.
        """
        ...


@runtime_checkable
class KnowsMissingPlanes(Protocol):
    """Pixels that keep which planes of a view never came."""

    def missing_planes(self, view: ViewId) -> tuple[tuple[int, int], ...]:
        """Return which planes (start, stop) of a view never came, as `note_missing_planes` kept it."""
        ...


@runtime_checkable
class OpensInTensorstore(Protocol):
    """A level that tensorstore can open, too."""

    def to_tensorstore(self) -> Any:
        """Return the level (z, y, x) as a ``tensorstore.TensorStore`` for reading."""
        ...


class LevelArray(LevelPixels, Protocol):
    """The pixels of one level of one view, which are written.

    `encode` may run in any thread; `store` in one thread at a time for each container unless its card
    says `concurrent`.
    """

    @property
    def piece(self) -> tuple[int, int]:
        """How many chunks (y, x) are cut and stored together: a shard, or what makes a job of a good size."""
        ...

    def is_placed(self, row: int) -> bool:
        """Whether the chunks of a row (in z) have places of their own, so that `store` may run in several threads."""
        ...

    @property
    def takes_parts(self) -> bool:
        """Whether `encode` takes what lies inside the image of a chunk, of any strides: it copies anyway."""
        ...

    def encode(self, block: NDArray[np.generic], place: Zyx) -> Payload:
        """Return one chunk, whole and contiguous (but see `takes_parts`), as it lies on disk.

        It may share the block's memory.
        `place` (z, y, x) is where it belongs in the chunk grid: some formats cut off what lies beyond the image.
        """
        ...

    def store(self, chunks: Sequence[tuple[Zyx, Payload]]) -> list[int] | None:
        """Store the chunks of a piece, with their places; return where each lies in the file."""
        ...

    @property
    def in_place(self) -> bool:
        """Whether each chunk has its place from the beginning, so that a kill loses none that was stored."""
        ...

    @property
    def is_scattered(self) -> bool:
        """Whether chunks lie anywhere in a file whose own table of them a kill may lose: a journal notes them."""
        ...

    def layout(self) -> tuple[dict[str, Any], bytes]:
        """Return how the image lies on disk, as recovery needs it: a description, and offsets of chunks."""
        ...

    def drop(self, place: Zyx) -> None:
        """Remove a chunk that cannot be read, where it is a file of its own."""
        ...

    @property
    def lies_in_common_file(self) -> bool:
        """Whether its chunks lie in the one file of the container, so that damage of that reaches them."""
        ...

    def whole_layout(self) -> tuple[dict[str, Any], bytes]:
        """As `layout`, with place and size of every chunk that lies in a common file by now."""
        ...

    def resize(self, planes: int) -> None:
        """Give the level another number of planes."""
        ...


class Pixels(Protocol):
    """The pixels of a dataset, as they are read. Pickles without its open files and opens them again on use."""

    @property
    def path(self) -> Path:
        """Where they lie."""
        ...

    @property
    def card(self) -> FormatCard:
        """What their format can do."""
        ...

    def factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        """Return the downsampling factors (z, y, x) of the levels of a setup."""
        ...

    def views(self) -> Iterator[ViewId]:
        """Iterate over the views of which something is stored."""
        ...

    def has(self, view: ViewId, level: int = 0) -> bool:
        """Tell whether a level of a view is stored."""
        ...

    def level(self, view: ViewId, level: int) -> LevelPixels:
        """Return one level of a view.

        Raises
        ------
        MissingKeyError
            If it is not stored.
        """
        ...

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Container(Pixels, Protocol):
    """The pixels of a dataset on disk, which are written."""

    def level(self, view: ViewId, level: int) -> LevelArray:
        """Return one level of a view.

        Raises
        ------
        MissingKeyError
            If it is not stored.
        """
        ...

    def declare(
        self,
        view: ViewId,
        pyramid: Pyramid,
        dtype: np.dtype[np.generic],
        codec: Codec,
        note: ImageNote | None = None,
    ) -> tuple[LevelArray, ...]:
        """Create the images of all levels of a view, in place of those that were there."""
        ...

    def add_levels(
        self, view: ViewId, pyramid: Pyramid, first: int, dtype: np.dtype[np.generic], codec: Codec
    ) -> tuple[LevelArray, ...]:
        """Create the images of the levels from `first` on beside those that are there."""
        ...

    def remove(self, view: ViewId) -> None:
        """Forget the images of a view, if there are any."""
        ...

    def note_times(self, times: Iterable[int]) -> None:
        """Make time points known that may have no image (some readers need a place for each)."""
        ...

    def in_place(self, codec: Codec) -> bool:
        """Tell whether images of this codec keep every chunk in its place, so that a kill loses none."""
        ...

    def note_missing_planes(self, view: ViewId, ranges: list[tuple[int, int]]) -> None:
        """Keep with a view which planes (start, stop) never came."""
        ...

    def missing_planes(self, view: ViewId) -> tuple[tuple[int, int], ...]:
        """Return which planes (start, stop) of a view never came, as `note_missing_planes` kept it."""
        ...

    def why_fixed(self, view: ViewId) -> str:
        """Say why the images of a view cannot be replaced or removed; empty where they can."""
        ...

    def beside(self, views: Iterable[ViewId]) -> tuple[Path, ...]:
        """Return the files and folders of their own that images get which are declared as these views."""
        ...

    def exchange(self, view: ViewId, by: ViewId | None) -> Change:
        """Give a view the images that were declared as another one (None: none), in place of its own.

        Where they lie in folders nothing happens yet: what is to happen is returned. Files that are changed all
        at once (`storage.redo`) are changed.
        """
        ...

    def exchange_setup(self, setup: int, by: int | None) -> Change:
        """Describe a setup as another one is described (None: not at all); as `exchange`, and after it."""
        ...

    def complete(self, view: ViewId) -> None:
        """Add to a view what can be said when all its pixels are there (contrast, say)."""
        ...

    def loader(self, path: PathRef, views: Iterable[ViewId]) -> ImageLoader:
        """Return how an XML names the container, which lies at `path`, and the images of these views."""
        ...

    def flush(self, *, sync: bool = False) -> None:
        """Hand everything to the operating system; with `sync` wait until it is on the disk."""
        ...
