"""BigDataViewer's HDF5 layout (``bdv.hdf5``, formats.md 2). The only file that builds its paths."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
from h5py._objects import phil  # h5py's lock around the library

from npy2bdv.errors import BdvError, ClosedError, FormatError, MissingKeyError, NotFoundError
from npy2bdv.handle import Handle
from npy2bdv.model.spimdata import Hdf5Loader, ViewId
from npy2bdv.storage.base import RAW, Codec, FormatCard, ImageNote, plane_runs
from npy2bdv.storage.cells import files_beside
from npy2bdv.storage.fence import Fence
from npy2bdv.storage.files import is_file, is_there
from npy2bdv.storage.flushes import FlushedFile, OverlaidFile, complete_flush, open_file, pending_flush
from npy2bdv.storage.hdf5level import DAMAGED, Hdf5Level, Space, set_filters, told
from npy2bdv.storage.pending import Change
from npy2bdv.storage.truncated import what_is_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from npy2bdv.model.pyramid import Pyramid, Zyx
    from npy2bdv.model.spimdata import PathRef
    from npy2bdv.storage.redo import RedoFile

PIXEL_TYPES = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64",
)  # fmt: skip

CARD = FormatCard(
    name="hdf5",
    loader="bdv.hdf5",
    suffixes=(".h5", ".hdf5"),
    pixel_types=PIXEL_TYPES,
    codecs={"none": None, "gzip": range(10), "lzf": None},
    default_codec="none",
    default_chunk=(4, 256, 256),
    max_chunk_bytes=2**32,
    concurrent=False,
    opens="Fiji (BigDataViewer, BigStitcher), Bio-Formats, Imaris (uncompressed, one level)",
    cautions={
        "lzf": "can be read by h5py only: Fiji (BigDataViewer, BigStitcher) and Bio-Formats show nothing; "
        "use 'gzip' (faster here) or None for them"
    },
)

_VIEW_PATH = re.compile(r"t([0-9]{1,19})/s([0-9]{1,19})")

# Chunks of one plane's row stay in memory, so that reading plane by plane decodes each chunk once.
_READ_CACHE = {"rdcc_nbytes": 64 * 2**20, "rdcc_nslots": 100_003}

_METADATA_BYTES = 2 * 2**20  # of a file that is written
_LEVELS_KEPT = 4

MAX_LEVELS = 64
"""More than these are taken for damage, or an attack."""


def setup_path(setup: int) -> str:
    """Return the group of a setup."""
    return f"s{setup:02d}"


def _view_path(view: ViewId) -> str:
    return f"t{view.time:05d}/{setup_path(view.setup)}"


def cells_path(view: ViewId, level: int) -> str:
    """Return where a level of a view lies."""
    return f"{_view_path(view)}/{level}/cells"


class Hdf5Container(Handle):
    """One HDF5 file (and the partitions that it links to).

    Pickles without its open file, and opens it again on use (for reading only).
    """

    card = CARD

    def __init__(
        self,
        path: Path,
        mode: Literal["r", "r+", "x"] = "r",
        *,
        fence: Fence | None = None,
        through: RedoFile | None = None,
    ) -> None:
        self.path = path
        self._mode = mode
        self._fence = fence
        self._through = through
        """What stands between HDF5 and the file, where it is changed all at once."""
        self._closed = False
        self._medium: FlushedFile | RedoFile | None = None
        """The file under HDF5, where it is written."""
        self._early = False
        """Whether uncompressed images may get all their space at once, without taking it on disk."""
        self._times: set[int] = set()
        """Time points that have their group."""
        self._factors: dict[int, tuple[tuple[float, float, float], ...]] = {}
        self._levels: OrderedDict[tuple[ViewId, int], Hdf5Level] = OrderedDict()
        """Levels read last, which keep their decoded chunks."""
        self._described: dict[int, tuple[Any, ...]] = {}
        self._declared: set[ViewId] | None = set() if mode == "x" else None
        """Views that were created in a new file: there are no others."""
        self._space = Space(reused=mode != "x")
        self._handle: h5py.File | None = self._opened()

    def _opened(self) -> h5py.File:
        if self._mode == "x":
            if not self.path.parent.is_dir():
                raise NotFoundError(f"the folder {self.path.parent} does not exist; create it first")
        elif not self.path.is_file():
            raise NotFoundError(f"there is no HDF5 file {self.path}")
        # Writers hold the lock of storage/journal.py instead of HDF5's own, so that Fiji may look while we
        # write. 'latest' bounds would hide filtered images from Fiji, and refuse to open after a kill.
        try:
            if self._mode != "r":
                return self._opened_for_writing(self._mode)
            pending = pending_flush(self.path)
            if pending is not None:  # a flush was interrupted: read the file as it will be
                return h5py.File(OverlaidFile(self.path, *pending), "r", **_READ_CACHE)
            try:
                return h5py.File(self.path, "r", libver="earliest", locking="best-effort", **_READ_CACHE)
            except OSError as error:
                if "locking flag" not in str(error):
                    raise
                # this process writes the file, without HDF5's lock; a second handle must go without, too
                return h5py.File(self.path, "r", libver="earliest", locking=False, **_READ_CACHE)
        except FileExistsError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            if self._mode == "x" or isinstance(error, BdvError):  # a full disk, say
                raise
            raise FormatError(
                f"{self.path} cannot be opened as HDF5 ({error}); it is truncated, held by another program, "
                f"or not an HDF5 file{what_is_whole(self.path, str(error), _VIEW_PATH)}"
            ) from error

    def _opened_for_writing(self, mode: Literal["r+", "x"]) -> h5py.File:
        if mode == "r+" and not self.path.stat().st_size:
            raise OSError("it is empty")  # HDF5 would begin a new file in it
        pending = pending_flush(self.path) if mode == "r+" and self._through is None else None
        if pending is not None:
            complete_flush(self.path, pending)
        medium = FlushedFile(self.path, mode) if self._through is None else self._through
        try:
            file = open_file(medium, mode)
            try:
                medium.check()
            except OSError:
                file.close()
                raise
        except BaseException:
            medium.close()
            raise
        self._medium = self._space.medium = medium
        self._early = _is_sparse(self.path)
        _hold_metadata_back(file)
        return file

    @property
    def file(self) -> h5py.File:
        """The open h5py file.

        Raises
        ------
        ClosedError
            If it has been closed.
        """
        if self._closed:
            raise ClosedError(f"{self.path} is closed")
        if self._handle is None:
            self._handle = self._opened()
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        fresh: dict[str, Any] = {"_factors": {}, "_levels": OrderedDict(), "_described": {}, "_handle": None}
        fresh |= {"_times": set(), "_declared": None, "_space": Space(reused=True)}
        kept = {"path": self.path, "_closed": self._closed, "_fence": self._fence, "_medium": None}
        kept["_through"] = None
        return {**kept, "_mode": "r", "_early": False, **fresh}

    # ------------------------------------------------------------------------------------------ reading

    def factors(self, setup: int) -> tuple[tuple[float, float, float], ...]:
        """Return the downsampling factors (z, y, x) of the levels of a setup."""
        known = self._factors.get(setup) if self._mode == "r" and not self._closed else None
        if known is None:
            name = f"{setup_path(setup)}/resolutions"
            with told(f"{self.path}, {name}"):
                if name not in self.file:
                    raise MissingKeyError(f"{self.path} does not describe setup {setup} (there is no {name})")
            known = self._factors[setup] = self._read_factors(name)
        return known

    def _read_factors(self, name: str) -> tuple[tuple[float, float, float], ...]:
        try:
            table = self.file[name]
            if not (table.size and table.size <= 3 * MAX_LEVELS and table.shape[-1] == 3):
                raise ValueError(f"its shape is {table.shape}")
            rows = np.atleast_2d(table[()]).astype(float)
            return tuple((float(z), float(y), float(x)) for x, y, z in rows)
        except (*DAMAGED, IndexError) as error:
            raise FormatError(
                f"{self.path}: {name} holds no factors of levels, three numbers each ({error}); it is damaged"
            ) from error

    def views(self) -> Iterator[ViewId]:
        """Iterate over the views of which something is stored, by time, then setup."""
        found = []
        with told(self.path):
            for time_name in filter(re.compile(r"t[0-9]+").fullmatch, self.file):
                time_group = self.file.get(time_name)
                if not isinstance(time_group, h5py.Group):
                    continue
                for setup_name in time_group:
                    match = _VIEW_PATH.fullmatch(f"{time_name}/{setup_name}")
                    if match:
                        found.append(ViewId(int(match[1]), int(match[2])))
        yield from found

    def has(self, view: ViewId, level: int = 0) -> bool:
        """Tell whether a level of a view is stored (and its partition can be reached)."""
        file = self.file  # or an error that it is closed
        try:
            self.check_links(cells_path(view, level), fenced=False)
            return isinstance(file[cells_path(view, level)], h5py.Dataset)
        except (*DAMAGED, FormatError):
            return False

    def _check_own(self, name: str) -> None:
        """Refuse to write where a link leads into another file.

        Raises
        ------
        FormatError
            If it does.
        """
        parts, links = name.split("/"), self.file.id.links
        for number in range(len(parts)):
            prefix = "/".join(parts[: number + 1])
            if prefix not in self.file:
                return
            if links.get_info(prefix.encode()).type == h5py.h5l.TYPE_EXTERNAL:
                raise FormatError(
                    f"{prefix} in {self.path} is a link into another file, which would be written; only images "
                    "may lie in other files: copy the group into the file"
                )

    def check_links(self, name: str, *, fenced: bool = True) -> None:
        """Refuse links to what is no file, where HDF5 might wait for ever, and, where asked for, to other folders."""
        parts = name.split("/")
        links = self.file.id.links
        for number in range(len(parts)):
            prefix = "/".join(parts[: number + 1]).encode()
            try:
                if links.get_info(prefix).type != h5py.h5l.TYPE_EXTERNAL:
                    continue
            except DAMAGED:  # nothing is there
                return
            target = os.fsdecode(links.get_val(prefix)[0])
            path = self.path.parent / target
            if is_there(path) and not is_file(path):
                raise FormatError(f"{prefix.decode()} in {self.path} leads to {path}, which is no file")
            if fenced and self._fence is not None:
                self._fence.check(path, self.path)
            elif fenced and self._mode != "r":
                Fence(folder=self.path.parent, strict=True).check(path, self.path)
            return

    def level(self, view: ViewId, level: int) -> Hdf5Level:
        """Return one level of a view."""
        known = self._levels.get((view, level)) if self._mode == "r" and not self._closed else None
        if known is None:
            known = self._open_level(view, level)
            if self._mode == "r":
                self._levels[view, level] = known
                if len(self._levels) > _LEVELS_KEPT:
                    self._levels.popitem(last=False)[1].unmap()
        return known

    def _open_level(self, view: ViewId, level: int) -> Hdf5Level:
        file = self.file  # or an error that it is closed
        try:
            self.check_links(cells_path(view, level))
            cells = file[cells_path(view, level)]
        except (KeyError, OSError, RuntimeError) as error:
            self._check_partition(cells_path(view, level), str(error))
            raise MissingKeyError(
                f"{self.path} has no pixels of time point {view.time}, setup {view.setup}, level {level} "
                f"(no {cells_path(view, level)}, or the file it links to is gone)"
            ) from None
        with told(f"{self.path}, {cells_path(view, level)}"):
            if not isinstance(cells, h5py.Dataset) or cells.ndim != 3 or cells.dtype.kind not in "iuf":
                raise FormatError(
                    f"{self.path}: {cells_path(view, level)} is no image (a 3-D dataset of numbers)"
                )
            if self._fence is not None:
                for path in files_beside(cells, self.path):
                    self._fence.check(path, self.path)
            return Hdf5Level(cells, self._pixel_type(view.setup, cells.dtype), self.file.id, self._space)

    def _check_partition(self, name: str, error: str) -> None:
        """Refuse a file that was cut short, where HDF5's error on following a link says so."""
        link = self.file.get(name, getlink=True) if "truncated file" in error else None
        path = self.path.parent / link.filename if isinstance(link, h5py.ExternalLink) else None
        if path is not None and path.is_file():
            if self._fence is not None:
                self._fence.check(path, self.path)
            raise FormatError(
                f"{path}, to which {name} in {self.path} links, was cut short{what_is_whole(path, error, _VIEW_PATH)}"
            )

    def _pixel_type(self, setup: int, on_disk: np.dtype[Any]) -> np.dtype[Any]:
        """Return what the pixels are: the setup's attribute decides, without it int16 holds uint16 bits."""
        group = self.file.get(setup_path(setup))
        name = group.attrs.get("dataType") if isinstance(group, h5py.Group) else None
        name = name.decode("ascii", "replace") if isinstance(name, bytes) else name
        if isinstance(name, str) and name in PIXEL_TYPES:
            return np.dtype(name)
        native = on_disk.newbyteorder("=")
        return np.dtype(np.uint16) if native == np.int16 else native

    # ------------------------------------------------------------------------------------------ writing

    def declare(
        self,
        view: ViewId,
        pyramid: Pyramid,
        dtype: np.dtype[Any],
        codec: Codec,
        note: ImageNote | None = None,
    ) -> tuple[Hdf5Level, ...]:
        """Create the images of all levels of a view, in place of those that were there."""
        self.remove(view)
        return self.add_levels(view, pyramid, 0, dtype, codec)

    def remove(self, view: ViewId) -> None:
        """Forget the images of a view, if there are any."""
        if (self._declared is None or view in self._declared) and _view_path(view) in self.file:
            self._check_own(_view_path(view).partition("/")[0])
            del self.file[_view_path(view)]
            self._space.reused = True

    def add_levels(
        self, view: ViewId, pyramid: Pyramid, first: int, dtype: np.dtype[Any], codec: Codec
    ) -> tuple[Hdf5Level, ...]:
        """Create the images of the levels from `first` on beside those that are there."""
        levels = []
        chunks = []
        if self._mode != "x":
            self._check_own(_view_path(view))
        for level in range(pyramid.n_levels):
            if level < first:
                cells = self.file[cells_path(view, level)]
            else:
                end = self.file.id.get_filesize()
                cells = self._create_cells(view, level, pyramid, dtype, codec)
                levels.append(Hdf5Level(cells, dtype, self.file.id, self._space))
                if self._space.reused:
                    levels[-1].clear_used_space(end)
            chunks.append(cells.chunks or cells.shape)
        self._describe_setup(view.setup, pyramid, tuple(chunks), dtype)
        if self._declared is not None:
            self._declared.add(view)
        return tuple(levels)

    def _create_cells(
        self, view: ViewId, level: int, pyramid: Pyramid, dtype: np.dtype[Any], codec: Codec
    ) -> h5py.Dataset:
        shape = pyramid.level_shape(level)
        z, y, x = pyramid.chunks[level]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        # a block wider than the image would only store zeros; its depth stays, so that stacks can grow
        properties.set_chunk((z, min(y, shape[1]), min(x, shape[2])))
        if self.in_place(codec):
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        set_filters(properties, codec, dtype)
        as_bits = dtype == np.uint16 and not self._is_called(view.setup, "uint16")
        stored = np.dtype("<i2") if as_bits else dtype.newbyteorder("<")
        # by h5py's lower layer, which takes a third of the time: a time lapse makes thousands
        space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED,) * 3)
        image = h5py.h5d.create(self.file.id, None, h5py.h5t.py_create(stored), space, properties)
        parents = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        parents.set_create_intermediate_group(True)
        h5py.h5o.link(image, self.file.id, cells_path(view, level).encode(), lcpl=parents)
        return h5py.Dataset(image)

    def in_place(self, codec: Codec) -> bool:
        """Tell whether images keep every chunk where it is, so that a kill loses none that was written."""
        return codec == RAW and self._early

    def note_missing_planes(self, view: ViewId, ranges: list[tuple[int, int]]) -> None:
        """Keep which planes (start, stop) never came: attribute ``npy2bdv_missing_planes`` of the view's group."""
        self._check_own(_view_path(view))
        group = self.file[_view_path(view)]
        group.attrs.pop("npy2bdv_missing_planes", None)
        if ranges:
            group.attrs["npy2bdv_missing_planes"] = np.array(ranges, "<i8")

    def missing_planes(self, view: ViewId) -> tuple[tuple[int, int], ...]:
        """Return which planes (start, stop) never came."""
        with told(f"{self.path}, {_view_path(view)}"):
            group = self.file.get(_view_path(view))
            if not isinstance(group, h5py.Group) or "npy2bdv_missing_planes" not in group.attrs:
                return ()
            return plane_runs(group.attrs["npy2bdv_missing_planes"])

    def complete(self, view: ViewId) -> None:
        """Nothing: all is said already."""

    def why_fixed(self, view: ViewId) -> str:
        """Say why the images of a view cannot be replaced or removed; empty where they can."""
        link = self.file.get(cells_path(view, 0), getlink=True)
        if isinstance(link, h5py.ExternalLink) and not self.has(view):
            return f"they lie in the partition {link.filename}, which is not there"
        return ""

    def beside(self, views: Iterable[ViewId]) -> tuple[Path, ...]:
        """Nothing lies beside the file."""
        return ()

    def exchange(self, view: ViewId, by: ViewId | None) -> Change:
        """Give a view the images that were declared as another one, or none; what else lies with it stays."""
        self._check_own(_view_path(view) if by is not None else _view_path(view).partition("/")[0])
        if by is None:
            if self.file.get(_view_path(view), getlink=True) is not None:  # a link may lead nowhere
                del self.file[_view_path(view)]
            return Change()
        new = self.file[_view_path(by)]
        old = self.file.require_group(_view_path(view))
        for level in [*old]:
            if level.isdecimal() and level not in new:
                del old[level]
        for level in new:
            group = old.require_group(level)
            if "cells" in group:
                del group["cells"]
            self.file.move(f"{new.name}/{level}/cells", f"{group.name}/cells")
        self.note_missing_planes(view, list(self.missing_planes(by)))
        del self.file[_view_path(by)]
        return Change()

    def exchange_setup(self, setup: int, by: int | None) -> Change:
        """Describe the levels of a setup as those of another one are described, or not at all."""
        self._factors.pop(setup, None)
        self._described.clear()
        if by is None:
            if setup_path(setup) in self.file:
                del self.file[setup_path(setup)]
            return Change()
        self._check_own(setup_path(setup))
        new = self.file[setup_path(by)]
        old = self.file.require_group(setup_path(setup))
        for name in ("resolutions", "subdivisions"):
            if name in old:
                del old[name]
            self.file.move(f"{new.name}/{name}", f"{old.name}/{name}")
        old.attrs.pop("dataType", None)
        if "dataType" in new.attrs:
            old.attrs["dataType"] = new.attrs["dataType"]
        del self.file[setup_path(by)]
        return Change()

    def loader(self, path: PathRef, views: Iterable[ViewId]) -> Hdf5Loader:
        """Return how an XML names the file."""
        return Hdf5Loader(path=path)

    def _describe_setup(
        self, setup: int, pyramid: Pyramid, chunks: tuple[Zyx, ...], dtype: np.dtype[Any]
    ) -> None:
        described = (pyramid.factors, chunks, dtype)
        if self._described.get(setup) == described:
            return
        self._described[setup] = described
        self._check_own(setup_path(setup))
        group = self.file.require_group(setup_path(setup))
        for name, rows, kind in (("resolutions", pyramid.factors, "<f8"), ("subdivisions", chunks, "<i4")):
            table = np.array([row[::-1] for row in rows], kind)  # x, y, z
            if name in group:
                if np.array_equal(group[name][()], table):
                    continue
                del group[name]
            group.create_dataset(name, data=table, maxshape=(None, 3))
        if self._is_called(setup, dtype.name):
            return
        group.attrs.pop("dataType", None)
        if dtype != np.uint16:
            # uint16 goes without: every BDV reads it as int16 bits, older ones nothing else (formats.md 2.4)
            group.attrs["dataType"] = np.bytes_(dtype.name)

    def _is_called(self, setup: int, name: str) -> bool:
        """Tell whether a setup has this pixel type by name: its images, and further ones, are then stored as such."""
        group = self.file.get(setup_path(setup))
        found = None if group is None else group.attrs.get("dataType")
        return (found.decode() if isinstance(found, bytes) else found) == name

    # ------------------------------------------------------------------------------------- partitions

    def stored_as(self, view: ViewId) -> str:
        """Say how the pixels of a view are stored, where BigDataViewer takes one way only for all of a setup."""
        group = self.file.get(setup_path(view.setup))
        name = None if group is None else group.attrs.get("dataType")
        name = name.decode() if isinstance(name, bytes) else name
        kind = self.file[cells_path(view, 0)].dtype.name
        return f"{kind} with the name {name!r}" if name in PIXEL_TYPES else f"{kind} without a name"

    def describe_like(self, setup: int, source: Hdf5Container, there: int) -> None:
        """Describe a setup as another file describes it, unless that was done."""
        if setup_path(setup) not in self.file and setup_path(there) in source.file:
            source.file.copy(setup_path(there), self.file, name=setup_path(setup))

    def link(self, view: ViewId, source: Hdf5Container, there: ViewId) -> None:
        """Make the images of a view those of another file, which stay where they are (formats.md 2.6)."""
        for level in range(len(source.factors(there.setup))):
            path, name = source.path, cells_path(there, level)
            found = source.file.get(name, getlink=True)
            if found is None:
                continue
            if isinstance(found, h5py.ExternalLink):  # to the file itself, not to that of links
                path, name = source.path.parent / found.filename, found.path
            relative = os.path.relpath(path, self.path.parent).replace(os.sep, "/")
            self.file[cells_path(view, level)] = h5py.ExternalLink(relative, name)

    def note_times(self, times: Iterable[int]) -> None:
        """Make a group for each time point: Bio-Formats wants one, even where all views are missing."""
        for time in times:
            if time not in self._times:
                self.file.require_group(f"t{time:05d}")
                self._times.add(time)

    def flush(self, *, sync: bool = False) -> None:
        """Hand everything to the operating system; with `sync` wait until it is on the disk."""
        with phil:  # nothing may change between the flush and what follows
            file = self.file
            if self._medium is None:
                return
            with self._medium.flushing(sync=sync):
                file.flush()
            _forget_metadata(file)

    def close(self) -> None:
        """Close the file. A second call does nothing.

        Raises
        ------
        OSError
            If the disk took not all. The file is as the last flush left it, and closed.
        """
        self._closed = True
        for level in self._levels.values():
            level.unmap()
        self._levels.clear()
        handle, self._handle = self._handle, None
        medium, self._medium = self._medium, None
        if handle is None:
            return
        if medium is None:
            handle.close()
            return
        try:
            with medium.flushing():
                handle.close()
        finally:
            if medium is not self._through:  # who handed that over closes it
                medium.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            warnings.warn(f"{self.path} was not closed", ResourceWarning, source=self, stacklevel=2)
            with contextlib.suppress(Exception):  # at interpreter exit h5py may be gone already
                self.close()


def _is_sparse(path: Path) -> bool:
    """Tell whether space that is reserved and not written takes none on disk, making the file so on Windows.

    NTFS would else fill a file with zeros up to the first byte written far behind (not tested on Windows).
    """
    if sys.platform == "win32":
        import ctypes
        import msvcrt

        set_sparse = 0x900C4  # FSCTL_SET_SPARSE
        with path.open("r+b") as file:
            handle = ctypes.c_void_p(msvcrt.get_osfhandle(file.fileno()))
            done = ctypes.byref(ctypes.c_ulong())
            control = ctypes.windll.kernel32.DeviceIoControl
            return bool(control(handle, set_sparse, None, 0, None, 0, done, None))
    return True


def _hold_metadata_back(file: h5py.File) -> None:
    """Let metadata reach the file in `flush` only: what is evicted in between could point at nothing yet."""
    config = file.id.get_mdc_config()
    config.evictions_enabled = False
    config.incr_mode = config.flash_incr_mode = config.decr_mode = 0
    file.id.set_mdc_config(config)


def _forget_metadata(file: h5py.File) -> None:
    """Let go of metadata that has just been flushed: each view leaves 10 KB, and several times that around it."""
    if file.id.get_mdc_size()[2] <= _METADATA_BYTES:
        return
    config = file.id.get_mdc_config()
    usual = config.initial_size
    config.evictions_enabled = config.set_initial_size = True
    config.initial_size = config.min_size
    file.id.set_mdc_config(config)
    "/" in file  # noqa: B015 - any look at the file makes it shrink
    config.evictions_enabled = False
    config.initial_size = usual
    file.id.set_mdc_config(config)
