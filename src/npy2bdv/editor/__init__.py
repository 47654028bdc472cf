"""Change a dataset in place: `edit` opens a session, which collects edits and commits them at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv.editor.metadata import MetadataEdits
from npy2bdv.editor.removal import RemovalEdits
from npy2bdv.editor.session import Preview
from npy2bdv.editor.transforms import TransformEdits

if TYPE_CHECKING:
    import os

__all__ = ["Editor", "Preview", "edit"]


def edit(path: str | os.PathLike[str]) -> Editor:
    """Open a dataset for edits, which change nothing on disk until they are committed.

    Leaving the block commits everything; after an exception nothing is changed.

    Parameters
    ----------
    path
        The XML, or the pixels beside it.

    Raises
    ------
    NotFoundError
        If there is no XML.
    FormatError
        If it is damaged, or the dataset is a recording that was interrupted.
    InUseError
        If the dataset is being recorded or edited by another session.
    WriteError
        If the folder cannot be written to.

    Examples
    --------
    >>> import numpy as np, npy2bdv, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xml = npy2bdv.resave(np.zeros((3, 4, 5), "uint16"), f"{folder}/scan.xml")
    ...     with npy2bdv.edit(xml) as editor:
    ...         editor.insert_transform(npy2bdv.Affine.translation((10, 0, 0)), name="drift", time=0)
    ...     with npy2bdv.open(xml) as dataset:
    ...         dataset.view(time=0).transforms[0].name
    'drift'
    """
    return Editor(Path(path))


class Editor(TransformEdits, MetadataEdits, RemovalEdits):
    """Edits of one dataset, collected until `commit`; made by `npy2bdv.edit`. Use as a context manager.

    Every edit takes the same selection of views: ``view=`` (a `ViewId`, or several), or ``time=`` (an id, a range, a
    list), ``setup=`` (likewise) and attributes, ``channel=``, ``tile=``, ``angle=``, ``illumination=`` or another that
    the dataset has (an id, a label, a list of these). What is not given may be anything; nothing given selects all.
    Missing views are passed over.

    Attributes
    ----------
    path
        The XML.
    """
