"""What is in the way of a new dataset: files of its name, other pixels of its XML that are being written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npy2bdv.errors import ExistsError
from npy2bdv.storage import FORMATS, is_replaceable
from npy2bdv.storage.journal import Lock, journal_path

if TYPE_CHECKING:
    from pathlib import Path

    from npy2bdv.storage.base import FormatCard


def refuse_beside_another(path_xml: Path, path_pixels: Path) -> None:
    """Refuse to write an XML whose pixels of another format are being written: each format has a lock of its own."""
    for suffix in (suffix for card in FORMATS.values() for suffix in card.suffixes):
        other = path_xml.with_suffix(suffix)
        if other.name != path_pixels.name and journal_path(other).is_file():
            Lock(other).release()


def refuse_to_replace(path: Path, card: FormatCard, *, overwrite: bool) -> None:
    """Refuse a new dataset where something is that is no dataset, or is not to be replaced."""
    if path.exists() and not (path.is_file() if path.suffix == ".xml" else is_replaceable(card, path)):
        raise ExistsError(
            f"{path} is a folder, and no dataset that could be replaced; choose another name"
            if path.is_dir()
            else f"{path} is a file, where a folder of pixels is to be; choose another name"
        )
    if path.exists() and not overwrite:
        raise ExistsError(
            f"{path} already exists; choose another name, replace the dataset with overwrite=True, or add to it "
            'with mode="a"'
        )
