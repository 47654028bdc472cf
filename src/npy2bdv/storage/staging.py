"""New images beside those in use, and the instant at which they take their place.

While an edit is made its images are declared in the same container, as views of setups that nobody asks for (the
setup's number and a million). Then `Staging.commit` states in one record (`storage.pending`) what changes: which
images take which place, and the new XML. Until then nobody sees anything of it; from then on it has happened.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError, WriteError
from npy2bdv.model.spimdata import Hdf5Loader, ViewId
from npy2bdv.storage import open_container
from npy2bdv.storage.hdf5 import Hdf5Container
from npy2bdv.storage.pending import Change, PendingEdit, record_path
from npy2bdv.storage.redo import RedoFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from npy2bdv.model.spimdata import ContainerLoader
    from npy2bdv.storage.base import Container

logger = logging.getLogger(__name__)

_FIRST_ALIAS = 1_000_000


def alias(view: ViewId) -> ViewId:
    """Return as which view the new images of a view are declared."""
    return ViewId(view.time, view.setup + _FIRST_ALIAS)


class Staging:
    """An edit of pixels that is being made. The caller holds the lock of the dataset.

    Parameters
    ----------
    loader
        How the XML names the pixels.
    pixels
        Where they lie.
    root
        The folder of the XML, in which all lies that is changed.
    views
        Views that get new images.
    beside
        What else is written beside, and goes again if the edit comes to nothing.
    """

    def __init__(
        self,
        loader: ContainerLoader,
        pixels: Path,
        root: Path,
        views: Iterable[ViewId],
        *,
        beside: Iterable[Path] = (),
    ) -> None:
        views = tuple(views)
        if any(view.setup >= _FIRST_ALIAS for view in views):
            raise InvalidInputError(
                f"setups from {_FIRST_ALIAS} on cannot be edited; found {max(views)}: give them smaller ids"
            )
        self.pixels = pixels
        self._change = Change()
        self._redo: RedoFile | None = None
        spill = record_path(pixels).with_name(f"{pixels.name}.edit.pages")
        size = None
        if isinstance(loader, Hdf5Loader):
            size = pixels.stat().st_size
            beside = (*beside, spill)
        else:
            with open_container(loader, pixels) as container:
                beside = (*beside, *container.beside([alias(view) for view in views]))
        self._record = PendingEdit(pixels, root, size=size, beside=beside)
        try:
            self.container = self._opened(loader, spill)
        except BaseException:
            self._record.undo()
            raise

    def _opened(self, loader: ContainerLoader, spill: Path) -> Container:
        if not isinstance(loader, Hdf5Loader):
            return open_container(loader, self.pixels, "r+")
        self._redo = RedoFile(self.pixels, spill)
        try:
            return Hdf5Container(self.pixels, "r+", through=self._redo)
        except BaseException:
            self._redo.close()
            raise

    def flush(self) -> None:
        """Hand over what was written so far, so that it takes no memory."""
        self.container.flush()
        self.check()

    def check(self) -> None:
        """Raise what went wrong, where HDF5 did not say it.

        Raises
        ------
        WriteError
            With the error of the system as its cause.
        """
        if self._redo is not None and self._redo.error is not None:
            raise WriteError(f"writing failed: {self._redo.error}") from self._redo.error

    def exchange(self, view: ViewId) -> None:
        """Let a view have its new images."""
        self._change += self.container.exchange(view, alias(view))

    def exchange_setup(self, setup: int) -> None:
        """Let a setup be described as its new images are; after those were exchanged."""
        self._change += self.container.exchange_setup(setup, setup + _FIRST_ALIAS)

    def remove(self, view: ViewId) -> None:
        """Let a view have no images any more."""
        self._change += self.container.exchange(view, None)

    def remove_setup(self, setup: int) -> None:
        """Let a setup be gone from the pixels."""
        self._change += self.container.exchange_setup(setup, None)

    def commit(self, change: Change) -> None:
        """Let all this happen, together with a further change (the XML). It is carried out by `finish`.

        Raises
        ------
        WriteError
            If it cannot be written: then nothing has happened, and `undo` takes away what lies beside.
        """
        self._change += change
        if self._redo is None:
            self.container.flush(sync=True)
            self.container.close()
            self._record.commit(self._change)
            return
        self.flush()
        self.container.close()
        self.check()
        self._redo.sync()
        self._record.commit(self._change, pages=self._redo.pages(), size=self._redo.size)
        self._redo.close()

    def finish(self) -> None:
        """Carry out what has happened.

        Raises
        ------
        WriteError
            If something is in the way; the record stays, and recovery goes on with it.
        """
        self._record.finish()

    def undo(self) -> None:
        """Take away what lies beside; nothing has happened then. A second call does nothing."""
        with contextlib.suppress(Exception):  # HDF5 may fail to close what it could not write
            self.container.close()
        if self._redo is not None:
            self._redo.close()
        try:
            self._record.undo()
        except OSError:
            logger.exception("%s: what an edit wrote beside is not removed yet", self.pixels)
