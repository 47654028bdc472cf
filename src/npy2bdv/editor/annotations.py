"""What N5 and OME-Zarr say of views themselves, brought along when the XML says something else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from npy2bdv.storage import annotated
from npy2bdv.storage.files import FileStore
from npy2bdv.storage.pending import Change, NewFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from npy2bdv.editor.works import Commit
    from npy2bdv.model.spimdata import SpimData, ViewId
    from npy2bdv.storage.base import Annotation

ANNOTATIONS = "annotations"
"""The key of this work in a session, which has one at most."""


class AnnotationWork:
    """Voxel sizes and channels of some setups, to be said in small files beside the pixels of their views.

    They change together with the XML. Images that are written anew in the same commit say it of themselves.

    Parameters
    ----------
    path
        Where the pixels lie.
    setups
        What is to be said, by setup.
    data
        Gives the dataset as it will be.
    """

    def __init__(self, path: Path, setups: Mapping[int, Annotation], data: Callable[[], SpimData]) -> None:
        self.setups = setups
        self._files = FileStore(path)
        self._data = data

    @property
    def nbytes(self) -> int:
        """How many bytes the files will have."""
        return sum(len(text) for text in self._texts(self._data()).values() if text is not None)

    @property
    def replaced(self) -> frozenset[ViewId]:
        """None: images stay."""
        return frozenset()

    def prepare(self, commit: Commit) -> None:
        """Nothing is written beforehand."""

    def change(self, commit: Commit, replaced: frozenset[ViewId]) -> Change:
        """Return the files with their new texts."""
        texts = {self._files.root / key: text for key, text in self._texts(commit.after, replaced).items()}
        return Change(
            files=tuple(NewFile(path=path, content=text) for path, text in texts.items() if text is not None),
            removed=tuple(path for path, text in texts.items() if text is None),
        )

    def undo(self) -> None:
        """Nothing was written."""

    def _texts(self, data: SpimData, replaced: frozenset[ViewId] = frozenset()) -> dict[str, bytes | None]:
        said = {
            view: self.setups[view.setup]
            for view in data.views()
            if view.setup in self.setups and view not in replaced
        }
        return annotated(data.loader, self._files.root, said)


def both(earlier: Annotation | None, later: Annotation) -> Annotation:
    """Return two annotations as one, where the later one counts."""
    given = {each.name: getattr(later, each.name) for each in fields(later)}
    known = {name: value for name, value in given.items() if value is not None}
    return later if earlier is None else replace(earlier, **known)
