"""What a commit does beside the XML, and the record in which all of it is stated at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from npy2bdv.errors import WriteError
from npy2bdv.storage.pending import PendingEdit, finish_or_undo

if TYPE_CHECKING:
    from pathlib import Path

    from npy2bdv.model.spimdata import SpimData, ViewId
    from npy2bdv.storage.pending import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What is about to be written: the XML, what it says now and what it will say, and its new text."""

    path: Path
    before: SpimData
    after: SpimData
    text: bytes


class Work(Protocol):
    """What a commit has to do beside the XML, staged together with the change of the XML that belongs to it.

    `prepare` of all works comes first and leaves the dataset as it is in the eyes of everybody who reads it. Then all
    that they change is stated in one record together with the XML (`storage.pending`): with it, it has happened.
    Where something fails before, `undo` takes back what was prepared.
    """

    @property
    def nbytes(self) -> int:
        """About how many bytes will be written."""
        ...

    @property
    def replaced(self) -> frozenset[ViewId]:
        """Views whose images go, or are exchanged for others: no other work changes what is said beside them."""
        ...

    def prepare(self, commit: Commit) -> None:
        """Write what has to be there before anything changes, beside what is there."""
        ...

    def change(self, commit: Commit, replaced: frozenset[ViewId]) -> Change:
        """Return what changes, views that other works replace left out."""
        ...

    def undo(self) -> None:
        """Take back what `prepare` did, also if it failed half-way; what has happened is carried out instead."""
        ...


@runtime_checkable
class Sealing(Protocol):
    """A work that has a record of its own, into which the changes of all go."""

    def seal(self, change: Change) -> None:
        """Let everything have happened; from then on `finish` cannot be in vain, only late."""
        ...

    def finish(self) -> None:
        """Carry it out."""
        ...


class RecordOnly:
    """The record of an edit that writes nothing beside: small files, and the XML.

    Parameters
    ----------
    pixels
        Where the pixels lie.
    root
        The folder of the XML.
    """

    def __init__(self, pixels: Path, root: Path) -> None:
        self._pixels, self._root = pixels, root
        self._record: PendingEdit | None = None

    def seal(self, change: Change) -> None:
        """Let it have happened."""
        try:
            self._record = PendingEdit(self._pixels, self._root)
            self._record.commit(change)
        except WriteError:
            raise
        except OSError as error:
            raise WriteError(
                f"the edit cannot be written ({error}); the dataset is as it was, and the edits are kept"
            ) from error

    def undo(self) -> None:
        """Take back a record that is not complete."""
        if self._record is not None:
            self._record.undo()

    def finish(self) -> None:
        """Carry it out."""
        finish_or_undo(self._pixels)
