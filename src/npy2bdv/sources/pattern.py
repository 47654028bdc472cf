"""Names of files that say which stack they hold: ``t{time}_c{channel}_x{tile}.tif``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from npy2bdv.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

Labels: TypeAlias = dict[str, "int | str"]

NUMBERS = ("time", "z")
PLACEHOLDERS = (*NUMBERS, "channel", "tile", "angle", "illumination")
_BRACES = re.compile(r"\{([^{}]*)\}")
_BETWEEN = "/"  # no part of a name holds it


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path with placeholders in braces, each at most once; also in names of folders.

    ``{time}`` and ``{z}`` stand for digits; ``{channel}``, ``{tile}``, ``{angle}`` and ``{illumination}`` for one
    letter or more.

    Parameters
    ----------
    text
        The path. Both ``/`` and the separator of the system are understood.

    Raises
    ------
    InvalidInputError
        If a placeholder is not known, is there twice, or touches another one.

    Examples
    --------
    >>> Pattern("scan/t{time}_{channel}.tif").match("t007_GFP.tif")
    {'time': '007', 'channel': 'GFP'}
    """

    text: str

    def __post_init__(self) -> None:
        names = self.names
        unknown = [name for name in names if name not in PLACEHOLDERS]
        if unknown or not names or set("{}") & set(_BRACES.sub("", self.text)):
            raise InvalidInputError(
                f"the pattern {self.text!r} is not understood: in braces there may be {', '.join(PLACEHOLDERS)}; "
                "write for example t{time}_c{channel}_x{tile}.tif"
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInputError(f"the pattern {self.text!r} has {{{twice[0]}}} twice; write it once")
        if "}{" in self.text:
            raise InvalidInputError(
                f"the pattern {self.text!r} is ambiguous: two placeholders touch each other, and where one ends "
                "cannot be told; there must be something between them"
            )

    @property
    def names(self) -> list[str]:
        """The placeholders, in their order."""
        return _BRACES.findall(self.text)

    @property
    def _parts(self) -> tuple[Path, list[str]]:
        """The folder without placeholders, and the names behind it."""
        parts = Path(self.text).parts
        first = next(k for k, part in enumerate(parts) if _BRACES.search(part))
        return Path(*parts[:first]), list(parts[first:])

    @property
    def folder(self) -> Path:
        """The folder without placeholders, in which files are looked for."""
        return self._parts[0]

    def match(self, name: str) -> dict[str, str] | None:
        """Read the labels of a file, given by its path in `folder` (with ``/``); None if it is no such file.

        Raises
        ------
        InvalidInputError
            If it may be read in several ways.
        """
        whole = _BETWEEN.join(self._parts[1])
        found = [re.fullmatch(_expression(whole, lazy=lazy), name) for lazy in (False, True)]
        if found[0] is None or found[1] is None:
            return None
        # the longest and the shortest first label: where they agree, there is one way only
        longest, shortest = (match.groupdict() for match in found if match)
        if longest != shortest:
            raise InvalidInputError(
                f"{name} can be read in several ways with the pattern {self.text!r}: {_told(shortest)}, or "
                f"{_told(longest)}; rename the files, or write more of the names into the pattern"
            )
        return longest

    def files(self) -> tuple[dict[Path, dict[str, str]], list[Path]]:
        """Find the files, each with its labels, and those beside them that do not match.

        Raises
        ------
        NotFoundError
            If the folder is not there.
        InvalidInputError
            If a name may be read in several ways.
        """
        if not self.folder.is_dir():
            raise NotFoundError(f"there is no folder {self.folder}, in which {self.text!r} would be")
        found: dict[Path, dict[str, str]] = {}
        others = []
        for path in self._walk(self.folder, self._parts[1]):
            labels = self.match(path.relative_to(self.folder).as_posix())
            if labels is None:
                others.append(path)
            else:
                found[path] = labels
        return found, others

    def _walk(self, folder: Path, parts: list[str]) -> Iterator[Path]:
        """Give the files as deep as the pattern goes, in folders that match."""
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, entry.is_dir()) for entry in entries)
        for name, is_folder in listed:
            if name.startswith("."):  # of the system
                continue
            if len(parts) == 1 and not is_folder:
                yield folder / name
            elif len(parts) > 1 and is_folder and re.fullmatch(_expression(parts[0], lazy=False), name):
                yield from self._walk(folder / name, parts[1:])


def _expression(text: str, *, lazy: bool) -> str:
    """Turn a part of a pattern into a regular expression."""
    made, end = "", 0
    for each in _BRACES.finditer(text):
        what = "[0-9]+" if each[1] in NUMBERS else f"[^{_BETWEEN}]+"
        made += f"{re.escape(text[end : each.start()])}(?P<{each[1]}>{what}{'?' if lazy else ''})"
        end = each.end()
    return f"(?s:{made}{re.escape(text[end:])})"


def as_labels(texts: list[dict[str, str]]) -> list[Labels]:
    """Turn labels of all files into numbers where all of a kind are numbers: "007" and "7" are the same.

    Examples
    --------
    >>> as_labels([{"time": "01", "channel": "GFP"}, {"time": "02", "channel": "561"}])
    [{'time': 1, 'channel': 'GFP'}, {'time': 2, 'channel': '561'}]
    """
    names = texts[0] if texts else {}
    numbers = {name for name in names if all(re.fullmatch("[0-9]+", each[name]) for each in texts)}
    return [
        {name: int(label) if name in numbers else label for name, label in each.items()} for each in texts
    ]


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return what names are sorted by, so that 10 comes after 9.

    Examples
    --------
    >>> sorted(["z10.tif", "z9.tif"], key=natural)
    ['z9.tif', 'z10.tif']
    """
    parts = re.split(r"([0-9]+)", name)
    key = [(1, int(part), part) if k % 2 else (0, 0, part.lower()) for k, part in enumerate(parts)]
    return [*key, (2, 0, name)]


def _told(labels: dict[str, str]) -> str:
    return ", ".join(f"{name} {label!r}" for name, label in labels.items())
