"""Write a dataset: setups, views, levels, and the XML that describes them."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import threading
import warnings
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakMethod, WeakSet, WeakValueDictionary

import numpy as np

from npy2bdv import xml
from npy2bdv.checkpoints import Clock, Safety, wait_for
from npy2bdv.draft import Draft
from npy2bdv.engine import DEFAULT_MEMORY, Engine, Stats
from npy2bdv.errors import (
    BdvError,
    ClosedError,
    ExistsError,
    InvalidInputError,
    InvalidTypeError,
    NotFoundError,
    WriteError,
)
from npy2bdv.existing import refuse_unfinished
from npy2bdv.handle import Handle
from npy2bdv.model.spimdata import ContainerLoader, GeneratedBy, OmeZarrLoader, PathRef, SpimData, ViewId
from npy2bdv.room import Room
from npy2bdv.setups import DraftSetup, pyramid_of
from npy2bdv.storage import (
    FORMATS,
    check_installed,
    create_container,
    open_container,
    remove_container,
)
from npy2bdv.storage.base import RAW
from npy2bdv.storage.disk import explained, why
from npy2bdv.storage.frames import FrameTable, Gap
from npy2bdv.storage.journal import remove_leftovers
from npy2bdv.storage.save import keep_backup, remove_temporaries, replace_file, sync_folder
from npy2bdv.stream import Hooks, ViewStream
from npy2bdv.taken import refuse_beside_another, refuse_to_replace
from npy2bdv.widening import fill, with_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from npy2bdv.existing import Existing
    from npy2bdv.setups import Chunks, Levels, Transforms
    from npy2bdv.storage.base import Codec, Container, FormatCard, LevelArray

logger = logging.getLogger(__name__)

Compression: TypeAlias = str | tuple[str, int] | None

CHECKPOINT_SECONDS = 10.0
CHECKPOINT_BYTES = 4 * 2**30


class DatasetWriter(Draft, Handle):
    """A dataset that is being written; made by `npy2bdv.create`. Use as a context manager.

    The XML is written when the first view is declared and when the writer is closed; `save` writes it at any
    time. Views that were never written are listed in it as missing.
    """

    def __init__(
        self,
        path_xml: Path,
        path_pixels: Path,
        *,
        card: FormatCard = FORMATS["hdf5"],
        levels: Levels,
        chunks: Chunks | None,
        compression: Compression | Codec,
        overwrite: bool,
        guarded: tuple[Path, ...],
        generated_by: GeneratedBy | None = None,
        pixel_types: tuple[np.dtype[Any], ...] = (),
        max_memory: int = DEFAULT_MEMORY,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        on_stats: Callable[[Stats], None] | None = None,
        existing: Existing | None = None,
    ) -> None:
        made = generated_by or GeneratedBy(library_version=version("npy2bdv"))
        super().__init__(card, levels=levels, chunks=chunks, generated_by=made, existing=existing)
        self.path_xml = path_xml
        self.path_pixels = path_pixels
        self._codec = self.card.codec(compression)
        if max_memory < 1 or checkpoint_bytes < 1 or not checkpoint_seconds > 0:
            raise InvalidInputError(
                f"max_memory, checkpoint_bytes and checkpoint_seconds must be above 0; found {max_memory}, "
                f"{checkpoint_bytes} and {checkpoint_seconds}"
            )
        # all that can be wrong is found before anything on disk changes
        for dtype in pixel_types:
            self.card.check(pyramid_of((1, 1, 1), None, self._levels, self._chunks), dtype)
        if not path_pixels.parent.is_dir():
            raise NotFoundError(f"the folder {path_pixels.parent} does not exist; create it first")
        if existing is None:
            for path in guarded:
                refuse_to_replace(path, card, overwrite=overwrite)
        check_installed(card, self._codec)
        if caution := card.cautions.get(self._codec.name):
            warnings.warn(f"compression {self._codec.name!r} {caution}", UserWarning, stacklevel=4)
        refuse_beside_another(path_xml, path_pixels)
        self._safety = Safety(path_pixels)
        self._container: Container | None = None
        try:
            with explained(f"beginning {path_pixels.name}", path_pixels.parent):
                self._begin(path_xml, overwrite=overwrite)
        except BaseException:
            with contextlib.suppress(OSError):
                self._close_container()
            if existing is None:
                with contextlib.suppress(OSError):
                    remove_container(card, path_pixels)
            with contextlib.suppress(OSError):
                self._safety.end(clean=True)
            raise
        self._streams: dict[ViewId, ViewStream] = {}
        self._held: WeakValueDictionary[ViewId, ViewStream] = WeakValueDictionary()
        """Streams that callers may still use, though they were full once and let go of."""
        self._incomplete: dict[ViewId, NDArray[np.bool_]] = {}
        self._noted: set[ViewId] = set()
        """Views of which it is noted in the container that planes are missing."""
        self._noted_like: dict[int, tuple[object, ViewId]] = {}
        """For each setup what was noted last in full, and of which view."""
        self._noted_earlier = False
        self._acknowledged: dict[ViewId, int] = {}
        """What the last checkpoint returned."""
        self._noted_depths: dict[ViewId, int] = {}
        """For each view of which planes the journal knows the places."""
        self._given_up: set[ViewId] = set()
        self._settled: dict[ViewId, ViewStream] = {}
        """Views that are complete, but perhaps not stored yet."""
        self._frames: FrameTable | None = None
        self._saved_views: frozenset[ViewId] | None = None
        self._saved: SpimData | None = None
        self._saved_final: SpimData | None = None
        """What the XML of the final name says, where this session has written it."""
        self._closed = False
        self._engine = Engine(max_memory, concurrent=self.card.concurrent)
        self._engine.explain = self._explain
        self._room = Room(path_pixels.parent, self._engine, is_raw=self._codec == RAW)
        self._checkpointing = threading.Lock()
        self._saving = threading.RLock()
        self._checkpoint_bytes = checkpoint_bytes
        self._next_checkpoint = checkpoint_bytes
        self._clock = Clock(self._engine, checkpoint_seconds, WeakMethod(self.checkpoint), on_stats)
        _OPEN.add(self)

    def _begin(self, path_xml: Path, *, overwrite: bool) -> None:
        """Make room for the new dataset, create its pixels, start the journal."""
        existing, path_pixels, card = self.existing, self.path_pixels, self.card
        if existing is not None:
            existing.check_unchanged()
            refuse_unfinished(path_pixels, locked=True)
        else:
            remove_container(card, path_pixels)
            remove_leftovers(path_pixels)
        for path in (path_xml, path_xml.with_suffix(".recording.xml")):
            remove_temporaries(path)
        if existing is None and overwrite:  # what belongs to the pixels that are gone
            path_xml.with_suffix(".recording.xml").unlink(missing_ok=True)
            path_xml.with_suffix(".frames.csv").unlink(missing_ok=True)
        if existing is None:
            self._container = create_container(card, path_pixels)
        taken = path_xml.exists()
        self._backed_up: set[Path] = set() if taken else {path_xml}
        self._recording_xml = path_xml.with_suffix(".recording.xml") if taken else None
        """Where the XML is kept while there is an older one of the final name."""
        recording = self._recording_xml or path_xml
        names = {"xml": path_xml, "recording": recording}
        self._safety.begin(
            {
                "format": card.name,
                **{key: _beside(path, path_pixels) for key, path in names.items()},
                **({} if existing is None else {"appending": True}),
            }
        )

    @property
    def container(self) -> Container:
        """The pixels, open for writing; those that are appended to are opened when the first view is declared."""
        if self._container is None:
            assert self.existing is not None
            self._container = open_container(self.existing.loader, self.path_pixels, "r+")
        return self._container

    # -- views -------------------------------------------------------------------------------------------

    def write(
        self,
        stack: ArrayLike,
        *,
        setup: int,
        time: int = 0,
        transform: Transforms | None = None,
        stage_position_xyz: Sequence[float] | None = None,
        stage_unit: str | None = None,
    ) -> None:
        """Write a whole stack.

        Parameters
        ----------
        stack
            Pixels (z, y, x) of the setup's shape, in its type or one that it holds without loss.
        setup
            As `add_setup` returned it.
        time
            Id of the time point.
        transform
            As in `add_setup`, for this view alone.
        stage_position_xyz, stage_unit
            Where the stage was for this view, where it drifts or is moved between time points; the rest of what places
            the setup stays. By default in the unit of the voxel size.

        Raises
        ------
        InvalidInputError
            If the shape is another than the setup's.
        InvalidTypeError
            If the setup's pixel type cannot hold that of the stack without loss.
        ExistsError
            If the view was written before.
        """
        known = self.known(setup)
        pixels = np.asarray(stack)
        if (
            pixels.ndim != 3
            or pixels.shape[1:] != known.shape[1:]
            or known.shape[0] not in (None, len(pixels))
        ):
            raise InvalidInputError(
                f"the stack has the shape {pixels.shape}; setup {setup} was added with {known.shape} "
                "(z, y, x)"
            )
        if not np.can_cast(pixels.dtype, known.dtype, "safe"):
            raise InvalidTypeError(
                f"the stack is of type {pixels.dtype}, setup {setup} of {known.dtype}, which cannot hold all of "
                f"its values; convert it first: stack.astype({known.dtype.name!r})"
            )
        stream = self.stream(
            setup=setup,
            time=time,
            transform=transform,
            stage_position_xyz=stage_position_xyz,
            stage_unit=stage_unit,
        )
        try:
            stream.put(pixels, 0)
        except BaseException:
            stream.close()
            raise
        if known.open_ended or known.length_was_open:  # what its length means is to be said now
            stream.close()
        else:
            stream.leave()  # completed while the next one is written

    def stream(
        self,
        *,
        setup: int,
        time: int = 0,
        transform: Transforms | None = None,
        stage_position_xyz: Sequence[float] | None = None,
        stage_unit: str | None = None,
        replace_view: bool = False,
    ) -> ViewStream:
        """Declare a view that is filled plane by plane or block by block, in any order.

        Parameters
        ----------
        setup, time, transform, stage_position_xyz, stage_unit
            As in `write`.
        replace_view
            Start anew where the view was written before.

        Returns
        -------
        stream
            To be used as a context manager. Planes that never come are zeros; a view without any is missing.

        Raises
        ------
        ExistsError
            If the view was written before and is not to be replaced.
        WriteError
            If the disk has no room for it.
        """
        self._check_open()
        known = self.known(setup)
        if not 0 <= time < xml.MAX_TIMEPOINTS or time != int(time):
            raise InvalidInputError(
                f"time point {time!r} cannot be: ids are whole numbers from 0 to {xml.MAX_TIMEPOINTS - 1}"
            )
        view = ViewId(int(time), setup)
        own = self.own_place(setup, transform, stage_position_xyz, stage_unit)
        if not replace_view and (view in self.views or self._lies_there(view)):
            raise ExistsError(
                f"time point {time} of setup {setup} was written already; a view is written once"
                + (" (replace_view=True replaces it)" if view not in self.views else "")
            )
        if known.open_ended:
            self._check_alone(view)
        if view not in self.views and view not in self._given_up:  # else it gets the space that it had
            self.check_room_for([setup], f"time point {time} of setup {setup}")
        # no checkpoint that began before may speak for the new view
        with self._told(), self._checkpointing, self._engine.door():
            self._settle_full()
            if view in self._streams:
                self._streams.pop(view).abort()
            elif view in self.views:
                self._engine.drain()
            shape, pyramid = known.shape, known.pyramid
            arrays = self._declare(view, known)
            stream = ViewStream(
                self._engine,
                shape,
                known.dtype,
                list(zip(pyramid.factors, arrays, strict=True)),
                hooks=self._hooks(view),
            )
            self.views[view] = own
            self._note_description(view)
            self._streams[view] = self._held[view] = stream
            if self._saved_views is None:
                self._save_to(self._recording_xml or self.path_xml)
        return stream

    def _lies_there(self, view: ViewId) -> bool:
        """Tell whether a dataset that is appended to has pixels of a view, be it that another XML names them."""
        if self.existing is None or view in self._given_up:
            return False
        if self._container is not None:
            return self._container.has(view)
        with open_container(self.existing.loader, self.path_pixels) as container:
            return container.has(view)

    def _note_description(self, view: ViewId) -> None:
        """Note in the journal what the XML would say of a view; of one like an earlier one only that it is so."""
        said = self.known(view.setup), self.views[view], self._smallest(self.setups)
        before, other = self._noted_like.get(view.setup, (None, view))
        if said == before and other in self.views:
            self._safety.described_as(view, other)
        else:
            self._safety.described(view, xml.serialise(self.describe_view(view)))
            self._noted_like[view.setup] = said, view

    def _check_alone(self, view: ViewId) -> None:
        """Refuse a second view of unknown length before the first has fixed it."""
        for other, stream in self._streams.items():
            if other.setup == view.setup and other != view and not stream.is_closed:
                raise InvalidInputError(
                    f"setup {view.setup} has no number of planes yet, time point {other.time} is still being "
                    "recorded and will fix it: complete that view first, or add the setup with its number of planes"
                )

    def _declare(self, view: ViewId, known: DraftSetup) -> tuple[LevelArray, ...]:
        """Create the images of a view; those of one that was given up serve again, where they are alike."""
        if view in self._given_up:
            self._given_up.discard(view)
            levels = range(known.pyramid.n_levels)
            old = tuple(self.container.level(view, level) for level in levels)
            if all(array.shape == known.pyramid.level_shape(level) for level, array in enumerate(old)):
                self._note_declared(view, known, old)
                return old  # wiped when it was given up
        if view in self.views or self._lies_there(view):
            self._safety.replacing(view)
        self._note_earlier()
        note = self.image_note(view.setup)
        if self.existing is not None and not self.container.has(view):
            self._safety.forgot(view)  # a kill before it is noted would leave images that nobody knows of
        arrays = self.container.declare(view, known.pyramid, known.dtype, self._codec, note)
        self.container.flush()
        self._note_declared(view, known, arrays)
        return arrays

    def _note_declared(self, view: ViewId, known: DraftSetup, arrays: tuple[LevelArray, ...]) -> None:
        levels = zip(known.pyramid.factors, arrays, strict=True)
        self._safety.declared(view, levels, open_ended=known.open_ended)
        self._noted_depths[view] = arrays[0].shape[0]

    def _note_earlier(self) -> None:
        """Note where the images lie that are appended to, before the file that they lie in is changed."""
        if self.existing is None or self._noted_earlier:
            return
        self._noted_earlier = True
        for setup, known in self.existing.setups.items():
            pyramid = known.pyramid
            for time in self.existing.data.timepoints.ids:
                view = ViewId(time, setup)
                if all(self.container.has(view, level) for level in range(pyramid.n_levels)):
                    arrays = [self.container.level(view, level) for level in range(pyramid.n_levels)]
                    if all(array.lies_in_common_file for array in arrays):
                        there = np.ones(pyramid.shape[0], bool)
                        self._safety.earlier(view, zip(pyramid.factors, arrays, strict=True), there)

    def _note_growth(self, views: Iterable[ViewId]) -> None:
        """Note where the chunks lie of views that have become longer, before a flush speaks of them."""
        for view in views:
            known = self.known(view.setup)
            first = self.container.level(view, 0)
            if first.shape[0] > self._noted_depths.get(view, first.shape[0]):
                arrays = [self.container.level(view, level) for level in range(known.pyramid.n_levels)]
                self._safety.grew(view, arrays)
                self._noted_depths[view] = first.shape[0]

    def check_room_for(self, setups: Iterable[int], what: str) -> None:
        """Refuse stacks of setups for which the disk has no room, beside what is to come of open views.

        Of a view of unknown length the first planes must fit.

        Parameters
        ----------
        setups
            The setups, once for each stack.
        what
            What the error calls the stacks.

        Raises
        ------
        WriteError
            If it is so.
        """
        needed = sum(self.known(setup).nbytes for setup in setups)
        to_come = sum(
            self.known(view.setup).nbytes * (1 - stream.planes_there / stream.shape[0])
            for view, stream in list(self._streams.items())
            if not self.known(view.setup).open_ended
        )
        levels = 1.0
        if self.views:
            known = self.known(next(iter(self.views)).setup)
            levels = known.nbytes / (math.prod(known.pyramid.level_shape(0)) * known.dtype.itemsize)
        self._room.check(what, needed, to_come, levels)

    def _hooks(self, view: ViewId) -> Hooks:
        return Hooks(
            chunks=partial(self._safety.stored, view),
            frame=partial(self._note_frame, view),
            taken=partial(self._plane_came, view),
            closed=partial(self._stream_closed, view),
        )

    def _note_frame(self, view: ViewId, z: int, meta: Mapping[str, Any]) -> None:
        if self._frames is None:
            self._frames = FrameTable(
                self.path_xml.with_suffix(".frames.csv"), go_on=self.existing is not None
            )
        self._frames.note(view, z, meta)

    @property
    def frame_gaps(self) -> tuple[Gap, ...]:
        """Frames that a camera counted (``append(..., meta={"frame": n})``) and that never came."""
        return () if self._frames is None else tuple(self._frames.gaps)

    def _stream_closed(self, view: ViewId, stream: ViewStream) -> None:
        """Keep what is known at the end of a view: its length, the planes that never came."""
        if self._streams.get(view) is not stream:  # replaced by another one
            return
        known = self.setups[view.setup]
        if not stream.planes_there:
            self.views.pop(view, None)
            self._given_up.add(view)
            self._safety.forgot(view)
            if self._frames is not None:
                self._frames.begin_anew(view)
        elif known.open_ended:
            self.setups[view.setup] = known.with_length(stream.shape[0])
        elif known.length_was_open and stream.missing_planes:
            warnings.warn(
                f"time point {view.time} of setup {view.setup} has {stream.planes_there} planes, the first one "
                f"recorded has {known.pyramid.shape[0]}: the rest is zero",
                UserWarning,
                stacklevel=4,
            )

    def stream_of(self, view: ViewId) -> ViewStream:
        """Return the stream of a view that has been declared, opened again where it was complete.

        Parameters
        ----------
        view
            A declared view.

        Raises
        ------
        ClosedError
            If the writer is closed.
        """
        self._check_open()
        left = self._streams.get(view)
        if left is not None and left.is_left:
            left.close()
            self._drop(view)
        held = self._held.get(view)
        if held is not None and not held.is_closed:
            self._streams.setdefault(view, held)
        if view not in self._streams:
            there = self._incomplete.pop(view, None)
            depth = self.known(view.setup).pyramid.shape[0]
            self._streams[view] = self._reopened(view, np.ones(depth, bool) if there is None else there)
        return self._streams[view]

    def _reopened(self, view: ViewId, there: NDArray[np.bool_] | None) -> ViewStream:
        self._engine.drain()  # an earlier stream of the view may not have been stored yet
        known = self.known(view.setup)
        arrays = [self.container.level(view, level) for level in range(known.pyramid.n_levels)]
        levels = list(zip(known.pyramid.factors, arrays, strict=True))
        shape, hooks = known.pyramid.shape, self._hooks(view)
        return ViewStream(self._engine, shape, known.dtype, levels, there=there, hooks=hooks)

    def add_levels(self, levels: Levels, chunks: Chunks, codec: Codec) -> Iterator[tuple[int, int]]:
        """Add levels to all views; yield (planes read, planes in all) as it goes.

        They are averaged from the full resolution, or where that is not stored from the first level, whose
        factors must then divide theirs.

        Parameters
        ----------
        levels
            Their factors (z, y, x), or "auto".
        chunks
            Their blocks (z, y, x), in pixels.
        codec
            How their chunks are stored.

        Yields
        ------
        planes, total
            Planes of full resolution that have been read, and all that will be.

        Raises
        ------
        InvalidInputError
            If a factor or block cannot be right, or a level is there already.
        WriteError
            If the disk has no room for them, or fails.
        """
        self._check_open()
        if self.existing is not None:
            raise InvalidInputError(
                "levels are added to a whole dataset; this one is being appended to, and takes those that it has"
            )
        narrow = dict(self.setups)
        wider = {setup: with_levels(known, levels, chunks, self.card) for setup, known in narrow.items()}
        needed = sum(wider[view.setup].nbytes - narrow[view.setup].nbytes for view in self.views)
        Room(self.path_pixels.parent, self._engine, is_raw=codec == RAW).check("adding levels", needed)
        empty = {view for view, stream in self._streams.items() if not stream.planes_there}
        for view, stream in list(self._streams.items()):
            if view not in empty:
                stream.close()
                self._drop(view)
        self._streams.clear()
        self._engine.drain()
        yield from fill(
            narrow, wider, self.views, empty,
            container=self.container, codec=codec, engine=self._engine, safety=self._safety,
        )  # fmt: skip
        self.setups.update(wider)
        self._streams.update({view: self._reopened(view, None) for view in empty})

    # -- saving ------------------------------------------------------------------------------------------

    def describe(self) -> SpimData:
        """Return what the XML says of the dataset as it is now."""
        described = super().describe()
        if self.existing is not None:
            return self.existing.with_more(described, self._extended_loader(described))
        place = PathRef(text=Path(os.path.relpath(self.path_pixels, self.path_xml.parent)).as_posix())
        return replace(described, loader=self.container.loader(place, described.registrations))

    def _extended_loader(self, more: SpimData) -> ContainerLoader:
        """Return how an XML names the pixels with further views: as before, and in OME-Zarr where these are."""
        assert self.existing is not None
        loader = self.existing.loader
        if not (isinstance(loader, OmeZarrLoader) and more.registrations):
            return loader
        added = self.container.loader(loader.path, more.registrations)
        assert isinstance(added, OmeZarrLoader)
        return replace(loader, groups={**loader.groups, **added.groups})

    def save(self) -> None:
        """Write the XML as the dataset is now."""
        self._save_to(self.path_xml)
        if self._recording_xml is not None:
            self._recording_xml.unlink(missing_ok=True)
            self._recording_xml = None

    def _save_to(self, path: Path) -> None:
        with self._saving:
            self._save_now(path)

    def _save_now(self, path: Path) -> None:
        described = self.describe()
        text = xml.serialise(described)
        if path == self.path_xml and path not in self._backed_up:  # once per session
            keep_backup(path)
            self._backed_up.add(path)
        if not self._closed and self._container is not None:
            known = () if self.existing is None else self.existing.data.timepoints.ids
            self._container.note_times(sorted({*described.timepoints.ids} - {*known}))
        replace_file(path, text)
        self._saved_views = frozenset(self.views)
        self._saved = described
        if path == self.path_xml:
            self._saved_final = described

    def stats(self) -> Stats:
        """Return how the recording goes: frames, bytes, rate, how full the buffers are."""
        return self._engine.stats()

    def checkpoint(self, *, sync: bool = False) -> dict[ViewId, int]:
        """Make all planes taken so far safe against a kill of the process; frames may go on coming meanwhile.

        Happens by itself by time and by bytes. Lower levels may lag behind until a view is complete.

        Parameters
        ----------
        sync
            Wait until the disk has it all: safe against a power cut, too.

        Returns
        -------
        acknowledged
            For each view how many of its planes are safe: in a dataset that opens as it lies, or that
            ``npy2bdv recover`` completes from the journal.

        Raises
        ------
        WriteError
            If something could not be written.
        """
        with self._told(), self._checkpointing:
            with self._engine.door():
                self._check_open()
                self._next_checkpoint = self._engine.stats().bytes_in + self._checkpoint_bytes
                views = tuple(self.views)
                incomplete = dict(self._incomplete)
                log_all = self._safety.log_is_long
                in_place = self.container.in_place(self._codec)
                self._safety.begun()
                parts = {
                    view: stream.begin_checkpoint(in_place=in_place, log_all=log_all)
                    for view, stream in self._streams.items()
                }
            try:
                wait_for(parts.values(), self._engine)
                if in_place:
                    self._note_growth(view for view in parts if self.known(view.setup).open_ended)
                self.container.flush(sync=sync)
                self._safety.keep(parts, log_all=log_all)
            except BaseException:
                for part in parts.values():
                    for row in part.rows:
                        row.logged[:] = False  # the next checkpoint keeps them
                raise
            finally:
                for part in parts.values():
                    for row in part.rows:
                        row.release()
            if self._frames is not None:
                self._frames.flush()
            if self._saved_views != frozenset(views):
                try:
                    self._save_to(self._recording_xml or self.path_xml)
                except OSError:  # the journal says it, too
                    logger.warning("the XML could not be brought up to date", exc_info=True)
            self._safety.acknowledge(parts, sync=sync)
            if sync:
                sync_folder(self.path_pixels.parent)
            there = {view: part.planes_there for view, part in parts.items()}
            there = {**incomplete, **there}
            self._acknowledged = {
                view: int(there[view].sum()) if view in there else self.known(view.setup).pyramid.shape[0]
                for view in views
            }
            self._room.warn_when_short()
            return dict(self._acknowledged)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors of the system into one that says what is safe. It may pass: frames are still taken."""
        try:
            yield
        except BdvError:
            raise
        except OSError as error:
            raise WriteError(self._explain(error, may_pass=True)) from error

    def _explain(self, error: BaseException, *, may_pass: bool = False) -> str:
        """Say what went wrong, where, what is safe, and what to do."""
        safe = sum(self._acknowledged.values())
        views = sum(planes > 0 for planes in self._acknowledged.values())
        said = f"{safe} planes of {views} views are safe" if safe else "no plane was safe yet"
        if may_pass:
            return f"writing failed: {why(error, self.path_pixels.parent)}, and try again. {said}"
        return (
            f"writing failed: {why(error, self.path_pixels.parent)}. {said}; nothing more is written: close the "
            f"writer, then 'npy2bdv recover {self.path_xml}' completes what is there"
        )

    def _plane_came(self, view: ViewId) -> None:
        """See to the clock; take a stream that was let go of back when more comes into it."""
        stream = self._held.get(view)
        if stream is not None and not stream.is_closed:
            self._streams.setdefault(view, stream)
        if self._engine.stats().bytes_in >= self._next_checkpoint:
            self._clock.hurry()  # a camera's thread does not wait for the disk

    def store(self) -> None:
        """Store what has come so far in the container, where h5py finds it; lower levels may lag behind.

        Raises
        ------
        ClosedError
            If the writer is closed.
        """
        self._check_open()
        for stream in list(self._streams.values()):
            stream.store()
        self._engine.drain()

    def _settle_full(self) -> None:
        """Let go of streams that need no more: they hold memory for sums."""
        self._complete_stored()
        for view, stream in list(self._streams.items()):
            if stream.is_left and not stream.jobs:
                stream.close()
            if stream.is_full and not stream.is_closed:
                stream.settle()
                self._drop(view)
            elif stream.is_settled:  # another thread may be closing it
                self._drop(view)

    def _complete_stored(self) -> None:
        """Let the container say what it can of views whose pixels are all there."""
        for view, stream in list(self._settled.items()):
            if not stream.jobs:
                del self._settled[view]
                if view in self.views:
                    self.container.complete(view)

    def _drop(self, view: ViewId) -> None:
        stream = self._settled[view] = self._streams.pop(view)
        if stream.planes_there:
            self._safety.completed(view, stream.there)
        if stream.planes_there and (stream.missing_planes or view in self._noted):
            self._incomplete[view] = stream.there
            self._noted.add(view)
            self.container.note_missing_planes(view, stream.missing_planes)

    def _settle_all(self) -> None:
        """Complete all views. Those of which no plane came are taken back: they are missing."""
        for view, stream in list(self._streams.items()):
            stream.close()
            self._drop(view)
        self._engine.drain()
        self._complete_stored()
        for view in self._given_up:
            self.container.remove(view)
        self._given_up.clear()

    def close(self) -> None:
        """Complete all views, write the XML, close the files. A second call does nothing.

        Raises
        ------
        WriteError
            If something could not be written. What could is there, and the files are closed; the journal stays.
        """
        if self._closed:
            return
        _OPEN.discard(self)
        self._clock.stop()
        errors: list[BaseException] = []

        def attempt(step: Callable[[], None]) -> None:
            try:
                step()
            except BaseException as error:  # the first is raised when all has been closed
                errors.append(error)

        attempt(self._settle_all)
        attempt(self._save_last)
        self._closed = True
        attempt(self._engine.close)
        attempt(self._close_container)
        if self._frames is not None:
            attempt(self._frames.close)
        attempt(partial(self._safety.end, clean=not errors))
        if errors:
            error = errors[0]
            if isinstance(error, OSError) and not isinstance(error, BdvError):
                raise WriteError(self._explain(error)) from error
            raise error

    def _close_container(self) -> None:
        if self._container is not None:
            self._container.close()

    def _save_last(self) -> None:
        if self._is_unsaved():
            self.save()
        elif self.existing is not None and self._recording_xml is not None:
            self._recording_xml.unlink(missing_ok=True)  # of views that were given up

    def _is_unsaved(self) -> bool:
        """Tell whether setups, views or transforms are others than in the XML on disk."""
        if self.existing is not None:
            return self.describe() != (self.existing.data if self._saved_final is None else self._saved_final)
        if self._recording_xml is not None:
            return True
        if self._saved is None:
            return bool(self.views)
        return self._saved != self.describe()

    @property
    def closed(self) -> bool:
        """Whether the writer has been closed."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the writer of {self.path_xml} is closed")


_OPEN: WeakSet[DatasetWriter] = WeakSet()


@atexit.register
def _close_forgotten() -> None:
    """Complete recordings that nobody closed, as far as they came: a script ended by an error, or by sys.exit."""
    for writer in list(_OPEN):
        logger.warning("%s was not closed; it is completed now, at the end of the program", writer.path_xml)
        writer.close()


def _beside(path: Path, pixels: Path) -> str:
    """Return how the journal, which lies beside the pixels, names a file."""
    if path.parent == pixels.parent:
        return path.name
    return Path(os.path.relpath(path, pixels.parent)).as_posix()
