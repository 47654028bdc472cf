"""BigDataViewer's N5 layout (``bdv.n5``, formats.md 3). The only file that builds its paths."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import deque
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from npy2bdv.errors import (
    ClosedError,
    FormatError,
    MissingKeyError,
    ReadOnlyError,
)
from npy2bdv.handle import Handle
from npy2bdv.model.slicing import chunks_of
from npy2bdv.model.spimdata import N5Loader, PathRef, ViewId
from npy2bdv.model.units import symbol
from npy2bdv.storage.base import RAW, Annotation, Codec, FormatCard, ImageNote, Payload, plane_runs
from npy2bdv.storage.codecs import BLOSC_LEVEL, FAST_LEVEL, ZSTD_LEVEL, blosc, deflate, gzip, zstd
from npy2bdv.storage.files import FileStore, is_real_folder, names_in
from npy2bdv.storage.pending import Change, NewFile
from npy2bdv.storage.remote import store_of
from npy2bdv.storage.servers import spelled
from npy2bdv.storage.tensors import open_array, read_array, tensorstore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Pyramid, Region, Zyx

CARD = FormatCard(
    name="n5",
    loader="bdv.n5",
    suffixes=(".n5",),
    pixel_types=(
        "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64",
    ),
    codecs={"none": None, "gzip": range(10), "zstd": range(1, 23), "blosc": range(10)},
    default_codec="gzip",
    default_chunk=(8, 256, 256),
    max_chunk_bytes=2**31,  # a block is one array of bytes in Java
    concurrent=True,
    opens="Fiji (BigDataViewer, BigStitcher), neuroglancer; in Python tensorstore, z5py",
    cautions={
        "zstd": "in N5 is read by BigStitcher and tensorstore; a bare BigDataViewer without n5-zstandard shows "
        "nothing: use 'gzip' for it",
        "blosc": "in N5 is read where the native library libblosc is installed; Fiji comes without it and shows "
        "nothing: use 'gzip' for it",
    },
)  # fmt: skip

_VERSION = "4.0.0"
_ATTRIBUTES = "attributes.json"
_CACHE = "attributes_cache.json"  # BDV trusts it more than the files that it sums up
_SETUP = re.compile(r"setup(\d+)")
_MAX_LEVELS = 64
_TIME = re.compile(r"timepoint(\d+)")
_LEVEL = re.compile(r"s\d+")
_HEADER = struct.Struct(">HH3I")  # mode, dimensions, size of the block (x, y, z)
_SPARE = 64  # buffers

# Neuroglancer takes other units for an error, and pixels without any for nanometres.
_NEUROGLANCER_UNITS = {"um", "nm", "mm", "m", ""}


def setup_key(setup: int) -> str:
    """Return the folder of a setup."""
    return f"setup{setup}"


def _view_key(view: ViewId) -> str:
    return f"{setup_key(view.setup)}/timepoint{view.time}"


def level_key(view: ViewId, level: int) -> str:
    """Return the folder of a level of a view."""
    return f"{_view_key(view)}/s{level}"


def is_container(path: Path) -> bool:
    """Tell whether a folder is an N5 container of ours or BDV's, with nothing foreign in it."""
    if not is_real_folder(path) or not _holds_only(path, _SETUP, _TIME, _LEVEL):
        return False
    store, setups = FileStore(path), names_in(path) - {_ATTRIBUTES, _CACHE}
    try:
        known = [
            "n5" in read_attributes(store, ""),
            *("downsamplingFactors" in read_attributes(store, name) for name in setups),
        ]
    except FormatError:
        return False
    return any(known)


def _holds_only(folder: Path, name: re.Pattern[str], *below: re.Pattern[str]) -> bool:
    """Tell whether all that lies in a folder is attributes, and folders of a name that hold those of the next."""
    return all(
        name.fullmatch(each)
        and is_real_folder(folder / each)
        and (not below or _holds_only(folder / each, *below))
        for each in names_in(folder) - {_ATTRIBUTES, _CACHE}
    )


def read_attributes(store: FileStore, key: str) -> dict[str, Any]:
    """Return the attributes of a folder; none where they are absent."""
    name = f"{key}/{_ATTRIBUTES}".removeprefix("/")
    text = store.get(name)
    try:
        found = json.loads(b"{}" if text is None else text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{store.root / name} is no JSON ({error}); the container is damaged") from error
    if not isinstance(found, dict):
        raise FormatError(
            f"{store.root / name} holds no attributes but {text!r:.60}; the container is damaged"
        )
    return found


def annotated(path: Path, said: Mapping[ViewId, Annotation]) -> dict[str, bytes | None]:
    """Return new texts of the files that describe some views, by key; None for what has to be removed.

    Only a view that gives its voxel size at all, for other programs than BDV, has something to change.
    """
    store = FileStore(path)
    texts: dict[str, bytes | None] = {}
    for view, annotation in said.items():
        before = read_attributes(store, _view_key(view))
        if "resolution" not in before:
            continue
        after = dict(before)
        if annotation.voxel_size_xyz is not None:
            after["resolution"] = list(annotation.voxel_size_xyz)
        if annotation.unit is not None:
            after.pop("units", None)
            if (name := symbol(annotation.unit)) in _NEUROGLANCER_UNITS:
                after["units"] = [name] * 3
        if after != before:
            text = json.dumps(after, separators=(",", ":"))
            texts[f"{_view_key(view)}/{_ATTRIBUTES}"] = text.encode()
    return {_CACHE: None, **texts} if texts else {}


class N5Container(Handle):
    """One N5 container: a folder with a file for each block. Pickles for reading only.

    `shared` means that others write into it at the same time: what they have half written is left alone.
    """

    card = CARD

    def __init__(self, path: Path, mode: Literal["r", "r+", "x"] = "r", *, shared: bool = False) -> None:
        tensorstore()  # it reads; a recording must not find out in its middle
        self.path = path
        self._mode = mode
        self._closed = False
        self._store = store_of(path)
        self._described: dict[int, dict[str, Any]] = {}
        self._with_blocks: set[str] = set()
        """Levels that are known to have blocks."""
        if mode == "x":
            self._store.begin()
            self.describe("", {"n5": _VERSION})
            return
        self._store.check("an N5 container")
        if mode == "r+" and not shared:
            self._store.clean()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mode": "r", "_store": None, "_described": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _store=store_of(state["path"]))

    def describe(self, key: str, changes: dict[str, Any]) -> None:
        """Change attributes of a folder; those of other programs stay."""
        self._check(writing=True)
        text = json.dumps(read_attributes(self._store, key) | changes, separators=(",", ":"))
        self._store.remove(_CACHE)
        self._store.put(f"{key}/{_ATTRIBUTES}".removeprefix("/"), [text.encode()])

    def _check(self, *, writing: bool = False) -> None:
        if self._closed:
            raise ClosedError(f"{self.path} is closed")
        if writing and self._mode == "r":
            raise ReadOnlyError(f"{self.path} is open for reading only")

    # ------------------------------------------------------------------------------------------ reading

    def factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        """Return the downsampling factors (z, y, x) of the levels of a setup."""
        self._check()
        rows = read_attributes(self._store, setup_key(setup)).get("downsamplingFactors")
        if rows is None:
            raise MissingKeyError(
                f"{self.path} does not describe setup {setup} (no downsamplingFactors in "
                f"{setup_key(setup)}/{_ATTRIBUTES})"
            )
        try:
            if len(rows) > _MAX_LEVELS:
                raise ValueError("too many levels")
            return tuple((float(z), float(y), float(x)) for x, y, z in rows)
        except (TypeError, ValueError, OverflowError):
            raise FormatError(
                f"{self.path}: downsamplingFactors of setup {setup} are {str(rows)[:80]!r}; they should be three "
                "numbers for each level"
            ) from None

    def views(self) -> Iterator[ViewId]:
        """Iterate over the views of which something is stored, by time, then setup."""
        self._check()
        found = (
            ViewId(int(time[1]), int(setup[1]))
            for folder in self._store.folders()
            if (setup := _SETUP.fullmatch(folder))
            for view in self._store.folders(folder)
            if (time := _TIME.fullmatch(view))
        )
        yield from sorted(found)

    def has(self, view: ViewId, level: int = 0) -> bool:
        """Tell whether a level of a view is stored."""
        self._check()
        return "dimensions" in read_attributes(self._store, level_key(view, level))

    def level(self, view: ViewId, level: int) -> N5Level:
        """Return one level of a view."""
        self._check()
        key = level_key(view, level)
        attributes = read_attributes(self._store, key)
        if "dimensions" not in attributes:
            raise MissingKeyError(
                f"{self.path} has no pixels of time point {view.time}, setup {view.setup}, level {level} "
                f"(no dimensions in {key}/{_ATTRIBUTES})"
            )
        return N5Level(self, key, attributes)

    # ------------------------------------------------------------------------------------------ writing

    def declare(
        self,
        view: ViewId,
        pyramid: Pyramid,
        dtype: np.dtype[Any],
        codec: Codec,
        note: ImageNote | None = None,
    ) -> tuple[N5Level, ...]:
        """Create the images of all levels of a view, in place of those that were there."""
        note = note or ImageNote()
        self.remove(view)
        name = symbol(note.unit)
        units = {"units": [name] * 3} if name in _NEUROGLANCER_UNITS else {}
        self.describe(_view_key(view), {"multiScale": True, "resolution": list(note.voxel_size_xyz), **units})
        return self.add_levels(view, pyramid, 0, dtype, codec)

    def remove(self, view: ViewId) -> None:
        """Forget the images of a view, if there are any."""
        self._check(writing=True)
        self._store.remove(_CACHE)
        self._store.remove(_view_key(view))

    def add_levels(
        self, view: ViewId, pyramid: Pyramid, first: int, dtype: np.dtype[Any], codec: Codec
    ) -> tuple[N5Level, ...]:
        """Create the images of the levels from `first` on beside those that are there."""
        factors = [list(row[::-1]) for row in pyramid.factors]
        described = {"downsamplingFactors": factors, "dataType": dtype.name}
        if self._described.get(view.setup) != described:
            self.describe(setup_key(view.setup), described)
            self._described[view.setup] = described
        levels = []
        for level in range(first, pyramid.n_levels):
            shape = pyramid.level_shape(level)
            z, y, x = pyramid.chunks[level]
            attributes = {
                "dimensions": list(shape[::-1]),
                # no wider than the image; the depth stays, so that stacks can grow
                "blockSize": [min(x, shape[2]), min(y, shape[1]), z],
                "dataType": dtype.name,
                "compression": _compression(codec),
                "downsamplingFactors": factors[level],
            }
            self.describe(level_key(view, level), attributes)
            levels.append(N5Level(self, level_key(view, level), attributes))
        return tuple(levels)

    def note_times(self, times: Iterable[int]) -> None:
        """Nothing: time points without an image need no place."""

    def in_place(self, codec: Codec) -> bool:
        """Tell whether half a row of chunks can be stored at little cost: no, a block is written whole."""
        return False

    def note_missing_planes(self, view: ViewId, ranges: list[tuple[int, int]]) -> None:
        """Keep which planes (start, stop) never came: ``npy2bdv_missing_planes`` of the time point."""
        self.describe(_view_key(view), {"npy2bdv_missing_planes": [list(each) for each in ranges]})

    def missing_planes(self, view: ViewId) -> tuple[tuple[int, int], ...]:
        """Return which planes (start, stop) never came."""
        self._check()
        return plane_runs(read_attributes(self._store, _view_key(view)).get("npy2bdv_missing_planes", ()))

    def complete(self, view: ViewId) -> None:
        """Nothing: all is said already."""

    def why_fixed(self, view: ViewId) -> str:
        """Say why the images of a view cannot be replaced or removed; empty where they can."""
        return ""

    def beside(self, views: Iterable[ViewId]) -> tuple[Path, ...]:
        """Return where images will lie that are declared as these views."""
        return tuple(self.path / setup_key(setup) for setup in sorted({view.setup for view in views}))

    def exchange(self, view: ViewId, by: ViewId | None) -> Change:
        """Return what gives a view the images that were declared as another one, or none.

        What other programs noted at its time point stays.
        """
        target, cache = self.path / _view_key(view), self.path / _CACHE
        if by is None:
            return Change(removed=(target, cache))
        old = read_attributes(self._store, _view_key(view))
        for ours in ("npy2bdv_missing_planes", "units"):  # said again, or no longer true
            old.pop(ours, None)
        self.describe(_view_key(by), old | read_attributes(self._store, _view_key(by)))
        return Change(swaps=((self.path / _view_key(by), target),), removed=(cache,))

    def exchange_setup(self, setup: int, by: int | None) -> Change:
        """Return what describes the levels of a setup as those of another one are described, or not at all."""
        if by is None:
            return Change(removed=(self.path / setup_key(setup),))
        said = read_attributes(self._store, setup_key(setup)) | read_attributes(self._store, setup_key(by))
        # BigStitcher repeats here what the first level says (formats.md 3.1)
        views = (view for view in self.views() if view.setup == by)
        first = read_attributes(self._store, level_key(next(views), 0))
        said |= {name: first[name] for name in ("dimensions", "blockSize", "compression") if name in said}
        path = self.path / setup_key(setup) / _ATTRIBUTES
        return Change(files=(NewFile(path=path, content=json.dumps(said, separators=(",", ":")).encode()),))

    def loader(self, path: PathRef, views: Iterable[ViewId]) -> N5Loader:
        """Return how an XML names the container: by a percent-encoded URI (formats.md 1.3)."""
        return N5Loader(path=PathRef(text=spelled(path.text), relative=path.relative))

    def flush(self, *, sync: bool = False) -> None:
        """Wait until everything is on the disk if `sync` asks for it; the operating system has it already."""
        self._check()
        if sync:
            self._store.sync()

    def close(self) -> None:
        """Close the container. A second call does nothing."""
        self._closed = True

    # --------------------------------------------------------------------------------- for the levels

    def open_array(self, key: str, metadata: dict[str, Any]) -> Any:
        """Open a level for reading: a ``tensorstore.TensorStore`` (x, y, z)."""
        self._check()
        return open_array("n5", self.path / key, metadata, cached=self._mode == "r")

    def put_block(self, key: str, payload: Payload) -> None:
        """Write the file of a block; one of zeros needs none."""
        if payload:
            self._store.put(key, [payload])
        else:
            self._store.remove(key)

    def has_blocks(self, key: str) -> bool:
        """Tell whether a level has any block; yes where a server does not tell."""
        if not self._store.counts:
            return True
        if key not in self._with_blocks and any(file.name != _ATTRIBUTES for file in self._store.files(key)):
            self._with_blocks.add(key)
        return key in self._with_blocks

    def nbytes(self, key: str) -> int | None:
        """Return how many bytes the files of a level take; None where a server does not tell."""
        return self._store.nbytes(file for file in self._store.files(key) if file.name != _ATTRIBUTES)


def folders_of(container: N5Container, view: ViewId, new: ViewId) -> tuple[str, str, dict[str, str]]:
    """Return the folder of a view, that under new ids, and the attributes of a container with such folders."""
    said = read_attributes(store_of(container.path), setup_key(view.setup))
    return (
        _view_key(view),
        _view_key(new),
        {
            _ATTRIBUTES: json.dumps({"n5": _VERSION}, separators=(",", ":")),
            f"{setup_key(new.setup)}/{_ATTRIBUTES}": json.dumps(said, separators=(",", ":")),
        },
    )


def _compression(codec: Codec) -> dict[str, Any]:
    """Return how attributes name a codec (formats.md 3.3)."""
    if codec == RAW:
        return {"type": "raw"}
    usual = {"gzip": FAST_LEVEL, "zstd": ZSTD_LEVEL, "blosc": BLOSC_LEVEL}[codec.name]
    level = usual if codec.level is None else codec.level
    if codec.name == "blosc":
        # without Java's further parameters: frames say the same, and tensorstore takes them for an error
        return {"type": "blosc", "cname": "lz4", "clevel": level, "shuffle": 1, "blocksize": 0}
    return {"type": codec.name, "level": level, **({"useZlib": False} if codec.name == "gzip" else {})}


# What tensorstore must know to read, with defaults; it takes other parameters for an error.
DECODERS: dict[str, dict[str, Any]] = {
    "raw": {},
    "gzip": {"useZlib": False},
    "bzip2": {},
    "xz": {},
    "zstd": {},
    "blosc": {"cname": "lz4", "clevel": 5, "shuffle": 1},  # frames say themselves what is true of them
}

_ENCODERS: dict[str, Callable[[NDArray[Any], dict[str, Any]], bytes]] = {
    "gzip": lambda block, named: (deflate if named.get("useZlib") else gzip)(
        block.reshape(-1).view(np.uint8), named.get("level", -1)
    ),
    "zstd": lambda block, named: zstd(block, named.get("level", 3)),
    "blosc": lambda block, named: blosc(block, named.get("clevel", 6)),
}


class N5Level:
    """One level of one view: a folder of blocks."""

    def __init__(self, container: N5Container, key: str, attributes: dict[str, Any]) -> None:
        self._container = container
        self._key = key
        self._array: Any = None
        self._spare: deque[NDArray[np.uint8]] = deque(maxlen=_SPARE)
        try:
            self.shape: Zyx = _sizes(attributes["dimensions"], least=0)
            self.chunk: Zyx = _sizes(attributes["blockSize"])
            self.dtype = np.dtype(_known_type(attributes["dataType"]))
            self._compression: dict[str, Any] = attributes["compression"]
            self._codec: str = self._compression["type"]
            if not isinstance(self._codec, str):
                raise TypeError(f"the type of compression is {self._codec!r:.60}")
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{container.path / key / _ATTRIBUTES} does not describe an image of three dimensions "
                f"({type(error).__name__}: {error}); the container is damaged"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None, "_spare": deque(maxlen=_SPARE)}

    @property
    def nbytes_on_disk(self) -> int | None:
        """How many bytes the blocks take; None where a server does not tell."""
        return self._container.nbytes(self._key)

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels of a region; blocks that are absent are zeros."""
        if self._array is None:
            self._array = self._opened()
        try:
            pixels = read_array(self._array.T[region], self._container.path)
        except ValueError as error:
            raise FormatError(
                f"{self._container.path / self._key} cannot be read, a block is damaged ({error})"
            ) from error
        return pixels

    def count_absent(self, region: Region) -> int:
        """Return how many blocks of a region are absent: all if the level has none, else that is not looked at.

        A single block says nothing by its absence: we leave out those of zeros, as BigStitcher and pybdv do.
        """
        return 0 if self._container.has_blocks(self._key) else chunks_of(region, self.shape, self.chunk)

    def to_tensorstore(self) -> Any:
        """Return the level (z, y, x) as a ``tensorstore.TensorStore`` for reading."""
        return self._opened().T

    def _opened(self) -> Any:
        if self._codec not in DECODERS:
            raise FormatError(
                f"{self._container.path / self._key} is compressed with {self._codec!r}, which cannot be read; "
                f"{', '.join(map(repr, DECODERS))} can: let Fiji resave the dataset with one of them"
            )
        known = {name: self._compression.get(name, usual) for name, usual in DECODERS[self._codec].items()}
        metadata = {
            "dimensions": self.shape[::-1],
            "blockSize": self.chunk[::-1],
            "dataType": self.dtype.name,
            "compression": {"type": self._codec, **known},
        }
        try:
            return self._container.open_array(self._key, metadata)
        except ValueError as error:
            raise FormatError(
                f"{self._container.path / self._key} cannot be opened ({error}); its attributes are damaged"
            ) from error

    @property
    def piece(self) -> tuple[int, int]:
        """How many chunks (y, x) are cut together: those along x."""
        return 1, -(-self.shape[2] // self.chunk[2])

    def is_placed(self, row: int) -> bool:
        """Whether a row is stored aside of the container: no, each block is a file."""
        return False

    @property
    def takes_parts(self) -> bool:
        """Whether `encode` takes parts of chunks: swapping bytes copies them."""
        return True

    def file_of(self, place: Zyx) -> str:
        """Return the key of the file in which the block at a place (z, y, x) lies."""
        z, y, x = place
        return f"{self._key}/{x}/{y}/{z}"

    def encode(self, block: NDArray[Any], place: Zyx) -> Payload:
        """Return one block as its file holds it, cut to the image; nothing for a block of zeros."""
        ends = (
            min(size, n - index * size) for index, size, n in zip(place, self.chunk, self.shape, strict=True)
        )
        return self._encoded(block[tuple(map(slice, ends))])

    def _encoded(self, block: NDArray[Any]) -> Payload:
        """Header, then big-endian elements, x fastest (formats.md 3.2)."""
        if not block.flat[0] and not block.view(f"u{block.itemsize}").any():  # -0.0 is none
            return b""
        header = _HEADER.pack(0, 3, *block.shape[::-1])
        memory = self._buffer()
        file = memory[: len(header) + block.nbytes]
        file[: len(header)] = np.frombuffer(header, np.uint8)
        swapped = file[len(header) :].view(block.dtype.newbyteorder(">")).reshape(block.shape)
        np.copyto(swapped, block)
        if self._codec == "raw":
            return file.data
        packed = header + _ENCODERS[self._codec](swapped, self._compression)
        self._spare.append(memory)
        return packed

    def _buffer(self) -> NDArray[np.uint8]:
        """Return memory for one raw block and its header; it is used again: fresh memory is slow."""
        try:
            return self._spare.pop()
        except IndexError:
            return np.empty(_HEADER.size + math.prod(self.chunk) * self.dtype.itemsize, np.uint8)

    def store(self, chunks: Sequence[tuple[Zyx, Payload]]) -> None:
        """Store chunks, each in a file of its own."""
        for place, payload in chunks:
            self._container.put_block(self.file_of(place), payload)
            if isinstance(payload, memoryview):
                file: Any = payload.obj
                self._spare.append(file.base)

    @property
    def in_place(self) -> bool:
        """Whether half a row of chunks can be stored at little cost."""
        return False

    @property
    def is_scattered(self) -> bool:
        """Whether a kill may lose stored chunks."""
        return False

    @property
    def compression(self) -> str:
        """How chunks are compressed, in words: "none", "gzip 1", "blosc lz4 5" ..."""
        if self._codec == "raw":
            return RAW.name
        words = (self._compression.get(name) for name in ("cname", "level", "clevel", "preset"))
        return " ".join([self._codec, *(str(word) for word in words if word is not None)])

    def layout(self) -> tuple[dict[str, Any], bytes]:
        """Return how the image lies in the container."""
        described = {"path": self._key, "shape": self.shape, "chunk": self.chunk, "dtype": self.dtype.name}
        return described, b""

    def drop(self, place: Zyx) -> None:
        """Remove a block that cannot be read."""
        z, y, x = place
        self._container.put_block(f"{self._key}/{x}/{y}/{z}", b"")

    @property
    def lies_in_common_file(self) -> bool:
        """No: each block is a file of its own."""
        return False

    def whole_layout(self) -> tuple[dict[str, Any], bytes]:
        """As `layout`: each block is a file of its own."""
        return self.layout()

    def resize(self, planes: int) -> None:
        """Give the level another number of planes. Pixels beyond a smaller one are gone."""
        if planes < self.shape[0]:
            self._cut(planes)
        self._container.describe(self._key, {"dimensions": [*self.shape[:0:-1], planes]})
        self.shape = (planes, *self.shape[1:])
        self._array = None

    def _cut(self, planes: int) -> None:
        """Remove blocks beyond a number of planes, and cut those at the border."""
        depth, height, width = self.chunk
        whole, rest = divmod(planes, depth)
        for y, x in product(range(0, self.shape[1], height), range(0, self.shape[2], width)):
            for z in range(whole, -(-self.shape[0] // depth)):
                place = z, y // height, x // width
                payload: Payload = b""
                if rest and z == whole:
                    ends = min(y + height, self.shape[1]), min(x + width, self.shape[2])
                    region = slice(z * depth, planes), slice(y, ends[0]), slice(x, ends[1])
                    payload = self._encoded(self.read(region))
                self.store([(place, payload)])


def _sizes(sizes: Any, *, least: int = 1) -> Zyx:
    """Return three sizes (x, y, z) of an array as (z, y, x)."""
    x, y, z = sizes
    if not all(type(size) is int and least <= size < 2**63 for size in (x, y, z)):
        raise ValueError(f"three whole numbers are needed, of at least {least}, found {sizes!r:.80}")
    return z, y, x


def _known_type(name: str) -> str:
    if name not in CARD.pixel_types:
        raise ValueError(f"the pixel type {name!r} is not known")
    return name
