"""What a commit does to the pixels: new images beside the old ones, then one record that says what changes."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from npy2bdv.engine import Engine
from npy2bdv.errors import WriteError
from npy2bdv.location import points_folder
from npy2bdv.model.pixeledits import Crop
from npy2bdv.model.spimdata import ContainerLoader, ViewId
from npy2bdv.rewrite import write_view
from npy2bdv.storage import open_container
from npy2bdv.storage.base import ImageNote
from npy2bdv.storage.pending import Change
from npy2bdv.storage.points import has_points, move_points, staged_points
from npy2bdv.storage.staging import Staging, alias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from npy2bdv.editor.works import Commit
    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.rewrite import Images
    from npy2bdv.storage.points import Key, Move

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class PixelWork:
    """The images that are to be written anew, and those that go.

    Attributes
    ----------
    pixels
        Where the pixels lie.
    images
        What the images of each setup become.
    placed
        For each edit of each setup whether the image is to stay where it is in the world.
    removed
        Views whose images go.
    forgotten
        Views whose interest points go.
    removed_setups
        Setups of which nothing is kept.
    progress
        Called with how many bytes of pixels are written, and how many there are to write.
    """

    pixels: Path
    images: Mapping[int, Images] = field(default_factory=dict)
    placed: Mapping[int, tuple[bool, ...]] = field(default_factory=dict)
    removed: frozenset[ViewId] = frozenset()
    forgotten: frozenset[ViewId] = frozenset()
    removed_setups: frozenset[int] = frozenset()
    progress: Callable[[int, int], None] | None = None
    _staging: Staging | None = None
    _change: Change = field(default_factory=Change)

    @property
    def nbytes(self) -> int:
        """About how many bytes will be written."""
        return sum(each.nbytes for each in self._written())

    def _written(self) -> list[Images]:
        return [each for setup, each in sorted(self.images.items()) if setup not in self.removed_setups]

    @property
    def replaced(self) -> frozenset[ViewId]:
        """Views that get new images, or none."""
        return self.removed | {view for each in self._written() for view in each.views}

    def prepare(self, commit: Commit) -> None:
        """Write the new images beside the old ones.

        Raises
        ------
        WriteError
            If there is no room, or writing fails.
        """
        loader = commit.before.loader
        assert isinstance(loader, ContainerLoader)
        self._check_space()
        root = commit.path.parent
        folder = points_folder(commit.path, commit.before)
        lists = _lists(commit.before)
        views = [view for each in self._written() for view in each.views if view not in self.removed]
        moves = self._moves(folder, lists)
        gone = frozenset(view for view in self.forgotten if has_points(folder, lists, view))
        beside = [staged_points(folder)] if moves or gone else []
        try:
            self._staging = Staging(loader, self.pixels, root, views, beside=beside)
            self._write(commit, self._staging)
            for view in sorted(self.removed):
                self._staging.remove(view)
            for setup in sorted(self.removed_setups):
                self._staging.remove_setup(setup)
            self._change = move_points(folder, lists, moves, gone) if moves or gone else Change()
            self._staging.flush()
        except OSError as error:
            if isinstance(error, WriteError):
                raise
            raise WriteError(f"the edited pixels cannot be written ({error}); nothing has changed") from error

    def _check_space(self) -> None:
        disk = shutil.disk_usage(self.pixels.parent)
        if disk.free < self.nbytes and disk.total:  # some network drives tell nothing
            raise WriteError(
                f"the edited pixels take about {self.nbytes / 1e9:.3g} GB, and {disk.free / 1e9:.3g} GB are free in "
                f"{self.pixels.parent}; images are written anew before the old ones go: make room, or edit fewer "
                "setups at a time"
            )

    def _write(self, commit: Commit, staging: Staging) -> None:
        total, done = self.nbytes, 0
        assert isinstance(commit.before.loader, ContainerLoader)
        with open_container(commit.before.loader, self.pixels) as source:
            engine = Engine(concurrent=source.card.concurrent)
            try:
                for images in self._written():
                    note = _note(commit.after, images.setup)
                    views = [view for view in images.views if view not in self.removed]
                    share = images.nbytes / max(1, len(images.views))
                    for view in views:
                        steps = write_view(source, view, images, staging.container, alias(view), engine, note)
                        for planes in steps:
                            staging.check()
                            if self.progress is not None:
                                self.progress(done + int(share * planes / images.shape[0]), total)
                        done += int(share)
                        staging.flush()
            finally:
                engine.close()
        for images in self._written():
            views = [view for view in images.views if view not in self.removed]
            for view in views:
                staging.exchange(view)
            if views:
                staging.exchange_setup(images.setup)

    def _moves(self, folder: Path, lists: Mapping[Key, str]) -> dict[ViewId, Move]:
        """Return what happens to the interest points of each view that has some."""
        return {
            view: partial(_moved, images)
            for images in self._written()
            if images.edits
            for view in {key[0] for key in lists if key[0].setup == images.setup} - self.forgotten
            if has_points(folder, lists, view)
        }

    def change(self, commit: Commit, replaced: frozenset[ViewId]) -> Change:
        """Return what changes beside the images, whose exchange `seal` states."""
        return self._change

    def seal(self, change: Change) -> None:
        """Let all this have happened, together with the new XML."""
        assert self._staging is not None
        try:
            self._staging.commit(change)
        except OSError as error:
            if isinstance(error, WriteError):
                raise
            raise WriteError(f"the edit cannot be written ({error}); nothing has changed") from error

    def finish(self) -> None:
        """Carry it out."""
        assert self._staging is not None
        self._staging.finish()

    def undo(self) -> None:
        """Take away what lies beside."""
        if self._staging is not None:
            self._staging.undo()
            self._staging = None


def _lists(data: SpimData) -> dict[Key, str]:
    """Return where the XML says that the interest points of each view and label lie."""
    lists = {}
    for section in data.sections:
        for entry in section.children if section.tag == "ViewInterestPoints" else ():
            said = dict(entry.attributes)
            if {"timepoint", "setup", "label"} <= said.keys():
                lists[ViewId(int(said["timepoint"]), int(said["setup"])), said["label"]] = entry.text
    return lists


def _moved(images: Images, places: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return where points (x, y, z) lie in the edited image, and which of them it still holds."""
    stays = np.ones(len(places), bool)
    shape = images.stored_shape
    for edit in images.edits:
        places = edit.transform(shape).inverse().apply(places)
        shape = edit.shape_after(shape)
        if isinstance(edit, Crop):  # pixel 0 reaches from -0.5 to 0.5
            stays &= ((places >= -0.5) & (places <= np.array(shape[::-1]) - 0.5)).all(1)
    return places, stays


def _note(data: SpimData, setup: int) -> ImageNote:
    """Return what a format may say of the images of a setup."""
    known = data.setup(setup)
    channel = data.entity("channel", known)
    return ImageNote(
        name=known.name or "",
        channel="" if channel is None else channel.name or str(channel.id),
        voxel_size_xyz=(1.0, 1.0, 1.0) if known.voxel_size is None else known.voxel_size.size_xyz,
        unit="px" if known.voxel_size is None else known.voxel_size.unit or "px",
    )
