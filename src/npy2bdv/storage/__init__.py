"""Where pixels live; one file per format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npy2bdv.storage import hdf5

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Literal

    from npy2bdv.storage.base import Container, FormatCard, FormatName

FORMATS: Mapping[FormatName, FormatCard] = {"hdf5": hdf5.CARD}
"""All formats there are. The set is closed."""


def open_container(format: FormatName, path: Path, mode: Literal["r", "r+"] = "r") -> Container:  # noqa: A002
    """Open the pixels of a dataset."""
    assert format == "hdf5"
    return hdf5.Hdf5Container(path, mode)


def create_container(format: FormatName, path: Path) -> Container:  # noqa: A002
    """Create an empty place for pixels; an error if something is there already."""
    assert format == "hdf5"
    return hdf5.Hdf5Container(path, "x")
