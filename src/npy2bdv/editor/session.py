"""One session of edits: what was asked is collected, shown, and then done at once, or not at all."""

from __future__ import annotations

import hashlib
import logging
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv import xml
from npy2bdv.editor.selection import Selector
from npy2bdv.editor.works import Commit, RecordOnly, Sealing
from npy2bdv.errors import (
    ClosedError,
    ExistsError,
    FormatError,
    InUseError,
    InvalidInputError,
    NotFoundError,
    WriteError,
)
from npy2bdv.handle import Handle
from npy2bdv.location import find_xml, pixel_path, read_bytes
from npy2bdv.model.spimdata import SpimData
from npy2bdv.storage import READABLE
from npy2bdv.storage.journal import Lock, journal_path
from npy2bdv.storage.pending import Change, NewFile, finish_or_undo, pending
from npy2bdv.storage.save import keep_backup, remove_temporaries, replace_file

if TYPE_CHECKING:
    import os
    from collections.abc import Hashable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from npy2bdv.editor.works import Work
    from npy2bdv.model.spimdata import ViewId, ViewRegistration

logger = logging.getLogger(__name__)

_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a commit would do.

    Attributes
    ----------
    changes
        A line for each edit.
    path
        The XML that will be replaced.
    xml_nbytes
        Size of its new text; 0 where nothing changes.
    pixel_nbytes
        About how many bytes are written beside the XML: pixels, and what describes them.
    """

    changes: tuple[str, ...]
    path: Path
    xml_nbytes: int = 0
    pixel_nbytes: int = 0

    @property
    def nbytes(self) -> int:
        """About how many bytes will be written in all."""
        return self.xml_nbytes + self.pixel_nbytes

    def __str__(self) -> str:
        """Show it for reading."""
        if not self.changes:
            return f"{self.path.name}: nothing will change"
        shown = list(self.changes[:_LINES])
        if len(self.changes) > _LINES:
            shown.append(f"... and {len(self.changes) - _LINES} more")
        written = f"{self.xml_nbytes} bytes of XML"
        if self.pixel_nbytes:
            written += f", about {self.pixel_nbytes} bytes of pixels and of what describes them"
        return "\n".join((f"{self.path.name}, to be changed:", *(f"  {line}" for line in shown), written))


class Session(Handle):
    """Edits of one dataset, collected until `commit`. Parts of `Editor` are built on it.

    Every edit ends in `_stage` (or, where only transforms change, in `_stage_registrations`), which takes it whole:
    the dataset as it is to be, a line for the preview, and what there is to do beside the XML.

    Parameters
    ----------
    path
        The XML, or the pixels beside it.
    after
        An earlier session of the same program: this one goes on with it, keeps no second backup, and does not parse
        the XML again where it is still the same.
    """

    def __init__(self, path: Path, *, after: Session | None = None) -> None:
        self.path = find_xml(path)
        self._lock: Lock | None = None
        self._waiting: Path | None = None
        self._backed_up: bool = after is not None and after._backed_up
        self._digest: bytes = b"" if after is None else after._digest
        self._saved: SpimData = SpimData() if after is None else after._saved
        self._read()
        pixels = self._pixel_path()
        self._lock = Lock(self._own_pixels() or self.path, "edited")
        try:
            own = self._own_pixels()
            if own is not None and (done := finish_or_undo(own)):
                logger.warning("%s: an earlier edit was interrupted; it has been %s", self.path, done)
            self._read()  # somebody may have been faster
            self._check_newest()
            if pixels is not None and journal_path(pixels).is_file():
                raise FormatError(
                    f"{self.path}: its recording was interrupted, or goes on; bring it into order before it is edited: "
                    f"npy2bdv recover {self.path}"
                )
        except BaseException:
            self._release()
            raise

    def _read(self) -> None:
        """Take what the XML says now."""
        text = read_bytes(self.path)
        digest = _digest(text)
        if digest != self._digest:
            self._digest, self._saved = digest, xml.parse(text, source=str(self.path))
        self._data = self._saved
        self._exposed = True
        """Whether somebody else may hold `_data`, so that its mapping of registrations must not change."""
        self._changes: list[str] = []
        self._works: dict[Hashable, Work] = {}
        self._selector = Selector()

    def _pixel_path(self) -> Path | None:
        """Return where the pixels lie; None where they are not there, or not in one place."""
        if not isinstance(self._data.loader, READABLE):
            return None
        try:
            return pixel_path(self.path, self._data)
        except (NotFoundError, FormatError):
            return None

    def _check_newest(self) -> None:
        """Refuse to edit an XML beside which a newer one lies that could not take its place."""
        newer = self.path.with_name(f"{self.path.name}.new")
        if newer.is_file() and newer.stat().st_mtime_ns > self.path.stat().st_mtime_ns:
            raise FormatError(
                f"{newer.name} beside {self.path} is newer: another program held the XML when it was written. Compare "
                f"both, then rename it to {self.path.name}, or remove it"
            )

    def _own_pixels(self) -> Path | None:
        """Return where the pixels lie, if they are there and below the folder of the XML.

        Nothing is written in other folders, not even a lock.
        """
        pixels = self._pixel_path()
        inside = pixels is not None and pixels.resolve().is_relative_to(self.path.parent.resolve())
        return pixels if inside else None

    # -- what is collected -------------------------------------------------------------------------------

    @property
    def data(self) -> SpimData:
        """The dataset as it will be: all edits so far are in it."""
        self._check_open()
        self._exposed = True
        return self._data

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._changes)

    def _select(self, where: Mapping[str, object]) -> tuple[ViewId, ...]:
        """Return the views that are asked for, missing ones left out."""
        self._check_open()
        return self._selector.views(self._data, where)

    def _select_setups(self, where: Mapping[str, object]) -> tuple[int, ...]:
        """Return the setups that are asked for."""
        self._check_open()
        return self._selector.setups(self._data, where)

    def _stage(self, data: SpimData, line: str, *, works: Mapping[Hashable, Work] | None = None) -> None:
        """Take an edit.

        Parameters
        ----------
        data
            The dataset as it is to be.
        line
            What the preview says of the edit.
        works
            What is to do beside the XML, by a key; a work replaces an earlier one of the same key.
        """
        self._check_open()
        self._data = data
        self._exposed = True
        self._changes.append(line)
        self._works.update(works or {})

    def _stage_registrations(self, changes: Mapping[ViewId, ViewRegistration], line: str) -> None:
        """Take an edit of nothing but the registrations of some views, at a cost that does not depend on the others."""
        self._check_open()
        if self._exposed:
            self._data = replace(self._data, registrations=dict(self._data.registrations))
            self._exposed = False
        known = self._data.registrations
        assert isinstance(known, dict)
        known.update(changes)
        self._changes.append(line)

    # -- what becomes of it ------------------------------------------------------------------------------

    def preview(self) -> Preview:
        """Return what `commit` would do: a line for each edit, and how many bytes would be written.

        Raises
        ------
        ClosedError
            If the session is closed.
        """
        self._check_open()
        return Preview(
            changes=tuple(self._changes),
            path=self.path,
            xml_nbytes=len(xml.serialise(self._data)) if self._changes else 0,
            pixel_nbytes=sum(work.nbytes for work in self._works.values()),
        )

    def discard(self) -> None:
        """Forget all edits since the last commit. Nothing on disk changes.

        Raises
        ------
        ClosedError
            If the session is closed.
        """
        self._check_open()
        self._data = self._saved
        self._exposed = True
        self._changes, self._works = [], {}

    def commit(self) -> None:
        """Bring all edits to the disk, at once. Without edits nothing is written.

        The XML as it was before the first commit of the session is kept as ``NAME.xml~1``, earlier ones up to ``~5``.

        Raises
        ------
        InUseError
            If another program has changed the XML since it was read.
        WriteError
            If it cannot be written: the disk is full, the folder is read only. The dataset is as it was, and the
            edits are kept: `commit` may be called again.
        """
        self._check_open()
        if not self._changes:
            return
        commit = Commit(path=self.path, before=self._saved, after=self.data, text=xml.serialise(self._data))
        own = self._own_pixels()
        if own is not None:
            finish_or_undo(own)  # an earlier commit may have come to no end: a full disk, Ctrl-C
        self._check_unchanged()
        begun: list[Work] = []
        sealing: Sealing | None = None
        record: RecordOnly | None = None
        try:
            for work in self._works.values():
                begun.append(work)
                work.prepare(commit)
            replaced = frozenset(view for work in begun for view in work.replaced)
            change = sum((work.change(commit, replaced) for work in begun), Change())
            sealing = next((work for work in begun if isinstance(work, Sealing)), None)
            if sealing is None and change == Change():
                self._save(commit.text)
            else:
                if begun:
                    self._check_unchanged()  # pixels take their time
                if sealing is None:
                    assert own is not None  # or there would be nothing to change
                    sealing = record = RecordOnly(own, self.path.parent)
                xml_file = NewFile(path=self.path, content=commit.text, backup=not self._backed_up)
                sealing.seal(change + Change(files=(xml_file,)))
                self._backed_up = True
        except BaseException as error:
            self._take_back([*begun, *([] if record is None else [record])], error)
            if self._has_happened(commit):  # Ctrl-C came just after it
                self._take_as_saved(commit)
            raise
        self._take_as_saved(commit)
        if sealing is not None:
            sealing.finish()

    def _take_as_saved(self, commit: Commit) -> None:
        self._saved, self._digest = commit.after, _digest(commit.text)
        self._works, self._changes = {}, []

    def _take_back(self, begun: Sequence[Work | RecordOnly], error: BaseException) -> None:
        """Undo what was prepared; what goes wrong with it does not hide why."""
        for work in reversed(begun):
            try:
                work.undo()
            except Exception as another:
                error.add_note(f"what was begun is not removed yet ({another}): npy2bdv recover {self.path}")

    def _has_happened(self, commit: Commit) -> bool:
        """Tell whether a commit that was interrupted had happened before."""
        own = self._own_pixels()
        if own is not None and pending(own) == "committed":
            return True
        return self.path.is_file() and self.path.read_bytes() == commit.text

    def save_as(self, path: str | os.PathLike[str]) -> Path:
        """Write the dataset with all edits so far as another XML over the same pixels, beside the first.

        The first XML stays as it is, and the session goes on with it: the edits are discarded.

        Parameters
        ----------
        path
            The new XML, or its name alone; in the same folder, since paths in an XML are relative to it.

        Returns
        -------
        path
            The new XML.

        Raises
        ------
        ExistsError
            If it is there already.
        InvalidInputError
            If it lies in another folder or is no XML, or edits were made that change more than the XML.
        """
        self._check_open()
        other = Path(path)
        if other.parent == Path():
            other = self.path.with_name(other.name)
        if other.suffix.lower() != ".xml" or other.parent.resolve() != self.path.parent.resolve():
            raise InvalidInputError(
                f"{other} is no XML beside {self.path}; the paths in it are relative to its folder: choose another "
                f"name NAME.xml in {self.path.parent}"
            )
        if other.exists():
            raise ExistsError(f"{other} already exists; choose another name, or remove it first")
        if self._works:
            raise InvalidInputError(
                "some of these edits change the pixels or what is stored with them, which both XMLs would share; "
                "commit them first"
            )
        text = xml.serialise(self._data)
        try:
            replace_file(other, text)
        except OSError as error:
            raise WriteError(f"{other} cannot be written ({error})") from error
        self.discard()
        return other

    def _check_unchanged(self) -> None:
        """Refuse to overwrite what another program, which knows nothing of our lock, has written."""
        try:
            text = read_bytes(self.path)
        except FileNotFoundError:
            raise NotFoundError(
                f"{self.path} has been removed or renamed since it was opened; put it back, then commit again"
            ) from None
        if _digest(text) != self._digest:
            raise InUseError(
                f"{self.path} has been changed by another program since it was opened; nothing was written: open it "
                "again, and edit what it is now"
            )

    def _save(self, text: bytes) -> None:
        try:
            remove_temporaries(self.path)
            if not self._backed_up:
                keep_backup(self.path)
                self._backed_up = True
            written = replace_file(self.path, text)
        except OSError as error:
            raise WriteError(
                f"{self.path} cannot be written ({error}); it is as it was, and the edits are kept"
            ) from error
        if written != self.path:
            self._waiting = written
            raise WriteError(
                f"{self.path} is held by another program and is as it was; what it was to be lies in {written.name}: "
                "close the dataset there, then commit again"
            )
        if self._waiting is not None:  # it has been overtaken
            self._waiting.unlink(missing_ok=True)
            self._waiting = None

    # -- life --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the session. Edits that were not committed are forgotten, with a warning. A second call does nothing."""
        if self._lock is None:
            return
        n_changes = len(self._changes)
        self.discard()
        self._release()
        if n_changes:
            logger.warning("%s was closed, and %d edits were not committed", self.path, n_changes)

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _check_open(self) -> None:
        if self._lock is None:
            raise ClosedError(
                f"the session that edits {self.path} is closed; open a new one: npy2bdv.edit(...)"
            )

    def __enter__(self) -> Self:
        """Edit in a block: at its end everything is committed, or, after an exception, nothing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or discard after an exception; then close."""
        if self._lock is None:
            return
        try:
            if error is None:
                self.commit()
        finally:
            self.discard()
            self.close()

    def __del__(self) -> None:
        """Warn of a session that was neither committed nor closed."""
        if getattr(self, "_lock", None) is not None:
            warnings.warn(
                f"the session that edits {self.path} was not closed",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            self._release()

    def __repr__(self) -> str:
        """Show the path and how much there is to commit."""
        state = "closed" if self._lock is None else f"{len(self._changes)} edits to commit"
        return f"<{type(self).__name__} {self.path.name}: {state}>"


def views_in_words(views: Sequence[ViewId]) -> str:
    """Say which views these are, in a few words."""
    first, last = views[0], views[-1]
    if len(views) == 1:
        return f"time {first.time}, setup {first.setup}"
    return (
        f"{len(views)} views, time {first.time}, setup {first.setup} to time {last.time}, setup {last.setup}"
    )


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()
