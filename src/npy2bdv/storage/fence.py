"""The folder of a dataset, and what is to be done where something names a file outside of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npy2bdv.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)


def check_writable(pixels: Path, path_xml: Path) -> None:
    """Refuse to write pixels that lie outside of the folder of their XML, themselves or by a link.

    Raises
    ------
    FormatError
        If they do.
    """
    if not pixels.resolve().is_relative_to(path_xml.parent.resolve()):
        raise FormatError(
            f"the pixels of {path_xml} lie in another folder, {pixels.resolve()}, where nothing is written or removed; "
            "put XML and pixels into one folder, or work with a copy (npy2bdv convert)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A folder; what lies outside of it is refused where the fence is `strict`, else it is logged."""

    folder: Path
    strict: bool = False

    def check(self, path: Path, named_by: Path) -> None:
        """Look whether a path, to which links may lead, lies inside.

        Raises
        ------
        FormatError
            If it does not, and the fence is strict.
        """
        if path.resolve().is_relative_to(self.folder.resolve()):
            return
        if self.strict:
            raise FormatError(
                f"{named_by} names {path}, which lies outside of the dataset's folder {self.folder.resolve()}; "
                "if you trust it, open the dataset without confine=True"
            )
        logger.info("%s names %s, which lies outside of the dataset's folder", named_by, path)
