"""What N5 and OME-Zarr say of views themselves, brought along when the XML says something else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from npy2bdv.errors import WriteError
from npy2bdv.storage import annotated
from npy2bdv.storage.files import FileStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from npy2bdv.editor.session import Commit
    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.storage.base import Annotation

ANNOTATIONS = "annotations"
"""The key of this work in a session, which has one at most."""


class AnnotationWork:
    """Voxel sizes and channels of some setups, to be said in small files beside the pixels of their views.

    Each file is replaced at once, all before the XML is. A kill in between leaves the XML as it was, so that it is seen
    that the edit was not completed; repeating it completes the files, too.

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
        self._before: dict[str, bytes | None] = {}

    @property
    def nbytes(self) -> int:
        """How many bytes the files will have."""
        return sum(len(text) for text in self._texts(self._data()).values() if text is not None)

    def prepare(self, commit: Commit) -> None:
        """Write the files."""
        self._before = {}
        for key, text in self._texts(commit.after).items():
            self._before[key] = self._files.get(key)
            self._put(key, text)

    def finish(self) -> None:
        """Write them again where another work has put other ones in their place."""
        for key, text in self._texts(self._data()).items():
            self._put(key, text)

    def undo(self) -> None:
        """Bring back what was there."""
        for key, text in self._before.items():
            self._put(key, text)

    def _texts(self, data: SpimData) -> dict[str, bytes | None]:
        said = {view: self.setups[view.setup] for view in data.views() if view.setup in self.setups}
        return annotated(data.loader, self._files.root, said)

    def _put(self, key: str, text: bytes | None) -> None:
        try:
            if text is None:
                self._files.remove(key)
            else:
                self._files.put(key, [text])
        except OSError as error:
            raise WriteError(f"{self._files.root / key} cannot be written ({error})") from error


def both(earlier: Annotation | None, later: Annotation) -> Annotation:
    """Return two annotations as one, where the later one counts."""
    given = {each.name: getattr(later, each.name) for each in fields(later)}
    known = {name: value for name, value in given.items() if value is not None}
    return later if earlier is None else replace(earlier, **known)
