"""Many files as a source: a file for each stack, or for each plane."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from npy2bdv.errors import FormatError, InvalidInputError, NotFoundError
from npy2bdv.sources.base import Source, SourceView
from npy2bdv.sources.pattern import Labels, Pattern, as_labels, natural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from functools import partial
    from pathlib import Path

    from numpy.typing import NDArray

    OpenFile: TypeAlias = partial[Source]

_FILES_KEPT = 8
_LAYOUTS_KEPT = 2
_NAMED = 5  # in a message
_WHICH = ("time", "channel", "tile", "angle", "illumination")


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a file has of a stack."""

    path: Path
    view: SourceView


_Stacks: TypeAlias = dict[tuple[Any, ...], dict[int | None, _Piece]]
"""What there is of each stack (time, channel, tile, angle, illumination), by z where a file is a plane."""


class FilesSource(Source):
    """Reads stacks from files, of which a few are open at a time.

    Parameters
    ----------
    files
        The files, each with what it holds. ``z`` among it says that a file is one plane of a stack.
    open_file
        Opens one of them. What the labels do not say (channels, time points) is taken from the files.
    notes
        What a person should know of how the files were found.

    Raises
    ------
    InvalidInputError
        If two files hold the same, or files of one setup differ in size or pixel type.
    FormatError
        If a file is damaged.
    """

    def __init__(self, files: Mapping[Path, Labels], open_file: OpenFile, notes: Iterable[str] = ()) -> None:
        self._open_file = open_file
        self._opened: OrderedDict[Path, Source] = OrderedDict()
        self._closed = False
        key = _stamps(files, open_file)
        found = _looked_into.get(key)
        if found is None:
            told = list(notes)
            try:
                stacks = self._collected(files, told)
                _check_alike(stacks)
                told += _gaps(stacks)
                found = _places(stacks, told), tuple(dict.fromkeys(told))
            except BaseException:
                self._close()
                raise
            with _guard:
                while len(_looked_into) >= _LAYOUTS_KEPT:
                    del _looked_into[next(iter(_looked_into))]
                _looked_into[key] = found
        super().__init__(*found)

    def _collected(self, files: Mapping[Path, Labels], told: list[str]) -> _Stacks:
        """Look into all files; return what there is of each stack (time, channel, ...), by z."""
        stacks: _Stacks = {}
        for path, labels in files.items():
            source = self._file(path)
            told += source.notes
            for name in _WHICH:
                held = {getattr(view, name) for view in source.views}
                if name in labels and len(held) > 1:
                    raise InvalidInputError(
                        f"{path} holds {len(held)} {name}s itself, and its name says {name} {labels[name]!r}; "
                        f"leave {{{name}}} out of the pattern, or pass axes="
                    )
            z: Any = labels.get("z")
            for view in source.views:
                if z is not None and view.shape[0] > 1:
                    raise InvalidInputError(
                        f"{path} is a stack of {view.shape[0]} planes, and was to be one plane of a stack; give a "
                        "pattern that says what the files are, such as t{time}_c{channel}.tif"
                    )
                which = tuple(labels.get(name, getattr(view, name)) for name in _WHICH)
                pieces = stacks.setdefault(which, {})
                if z in pieces:
                    raise InvalidInputError(
                        f"{pieces[z].path} and {path.name} hold the same: {_named(which, z)}; a pattern has to name "
                        "all that differs, and numbers do not differ by zeros before them"
                    )
                pieces[z] = _Piece(path, view)
        return stacks

    def _file(self, path: Path) -> Source:
        """Return a file that is open."""
        if path not in self._opened:
            if len(self._opened) >= _FILES_KEPT:
                self._opened.popitem(last=False)[1].close()
            self._opened[path] = self._open_file(path)
        self._opened.move_to_end(path)
        return self._opened[path]

    def _planes(self, place: Any, z0: int, z1: int) -> NDArray[Any]:
        pieces: list[_Piece | None] = place
        there = next(piece for piece in pieces if piece is not None)
        if len(pieces) == 1 and there.view.shape[0] > 1:
            return self._read(there, z0, z1)
        planes = np.zeros((z1 - z0, *there.view.shape[1:]), there.view.dtype)
        for z in range(z0, z1):
            piece = pieces[z]
            if piece is not None:
                planes[z - z0] = self._read(piece, 0, 1)[0]
        return planes

    def _read(self, piece: _Piece, z0: int, z1: int) -> NDArray[Any]:
        source = self._file(piece.path)
        if piece.view not in source.views:
            raise FormatError(
                f"{piece.path} has been changed since it was opened; leave the files as they are"
            )
        return source.read(piece.view, z0, z1)

    def _close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()


_guard = threading.Lock()
_looked_into: dict[Any, tuple[dict[SourceView, list[_Piece | None]], tuple[str, ...]]] = {}
"""What was found in files: a conversion opens the same ones for each of its tasks, and they may be thousands."""


def _stamps(files: Mapping[Path, Labels], open_file: OpenFile) -> Any:
    """Return what tells whether files are the same, read in the same way."""
    how = open_file.func, *open_file.args, *open_file.keywords.items()
    about = ((path, path.stat(), tuple(labels.items())) for path, labels in files.items())
    return how, tuple((path, stat.st_mtime_ns, stat.st_size, labels) for path, stat, labels in about)


def from_pattern(text: str, suffixes: Sequence[str], open_file: OpenFile) -> FilesSource:
    """Open the files whose names follow a pattern, such as ``t{time}_c{channel}.tif``."""
    pattern = Pattern(text)
    if not text.lower().endswith(tuple(suffixes)):
        raise InvalidInputError(f"the files of the pattern {text!r} have to be {', '.join(suffixes)}")
    found, others = pattern.files()
    if not found:
        there = f"; there are {_few(others)}" if others else ""
        raise NotFoundError(f"no file in {pattern.folder} matches the pattern {text!r}{there}")
    notes = []
    if others:
        notes.append(f"{len(others)} files do not match the pattern and are left out: {_few(others)}.")
    return FilesSource(dict(zip(found, as_labels(list(found.values())), strict=True)), open_file, notes)


def from_folder(folder: Path, suffixes: Sequence[str], open_file: OpenFile) -> FilesSource:
    """Open the files of a folder as the planes of one stack, in the order of the numbers in their names."""
    names = sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    planes = [each for each in names if each.suffix.lower() in suffixes]
    others = [each for each in names if each not in set(planes)]
    if not planes:
        raise NotFoundError(
            f"the folder {folder} holds no {', '.join(suffixes)} file, and is no array that could be converted"
        )
    kinds = {each.suffix.lower() for each in planes}
    if ".npy" in kinds and len(kinds) > 1:
        raise InvalidInputError(
            f"the folder {folder} holds files of several kinds ({', '.join(sorted(kinds))}); give a pattern, such "
            "as FOLDER/z{z}.tif"
        )
    planes.sort(key=lambda path: natural(path.name))
    notes = [f"{len(others)} other files in {folder} are left out: {_few(others)}."] if others else []
    if len(planes) > 1:
        notes.append(
            f"The {len(planes)} files in {folder} are taken for the planes of one stack, from {planes[0].name} to "
            f"{planes[-1].name}."
        )
    return FilesSource({path: {"z": z} for z, path in enumerate(planes)}, open_file, notes)


def _places(stacks: _Stacks, told: list[str]) -> dict[SourceView, list[_Piece | None]]:
    """Return the stacks there are, each with the files of its planes, or its only file."""
    numbers: list[int | None] = [*_planes({z for pieces in stacks.values() for z in pieces if z is not None})]
    places: dict[SourceView, list[_Piece | None]] = {}
    for which, pieces in sorted(stacks.items(), key=lambda each: _order(each[0])):
        first = pieces[min(pieces, key=lambda z: z or 0)].view
        planes = [pieces.get(z) for z in numbers or [None]]
        depth = len(planes) if numbers else first.shape[0]
        labels: dict[str, Any] = dict(zip(_WHICH, which, strict=True))
        places[replace(first, **labels, shape=(depth, *first.shape[1:]))] = planes
    n_absent = sum(planes.count(None) for planes in places.values())
    if n_absent:
        told.append(f"{n_absent} planes are in no file and are read as zeros.")
    return places


def _check_alike(stacks: _Stacks) -> None:
    """Refuse files of one setup that differ in size or pixel type."""
    first: dict[tuple[Any, ...], _Piece] = {}
    for which, pieces in stacks.items():
        for piece in pieces.values():
            other = first.setdefault(which[1:], piece)
            here, there = ((each.view.shape, each.view.dtype) for each in (piece, other))
            if here != there:
                raise InvalidInputError(
                    f"{piece.path} holds {here[0]} pixels (z, y, x) of {here[1]}, {other.path.name} {there[0]} of "
                    f"{there[1]}; all time points and planes of one channel and tile have to be alike"
                )


def _gaps(stacks: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Say which views have no file."""
    present = set(stacks)
    times = sorted({which[0] for which in present})
    setups = sorted({which[1:] for which in present}, key=_order)
    absent = [(time, *setup) for time in times for setup in setups if (time, *setup) not in present]
    if absent:
        named = "; ".join(_named(which) for which in absent[:_NAMED]) + (" ..." if absent[_NAMED:] else "")
        yield f"{len(absent)} views have no file and become missing views: {named}."
    n_lost = times[-1] - times[0] + 1 - len(times)
    if n_lost:
        yield f"{n_lost} time points between {times[0]} and {times[-1]} have no file at all."


def _planes(numbers: set[int]) -> list[int]:
    """Return the numbers of the planes of a stack, also of those that no file has."""
    if len(numbers) < 2:
        return sorted(numbers)
    first, last = min(numbers), max(numbers)
    step = math.gcd(*(number - first for number in numbers))
    made = range(first, last + 1, step)
    if len(made) > 2 * len(numbers):
        raise InvalidInputError(
            f"the numbers of planes are not regular: there are {len(numbers)} between {first} and {last}, and none "
            f"of {len(made) - len(numbers)} others that a step of {step} would have; put those files there, or give "
            "a folder with the planes only"
        )
    return list(made)


def _named(which: tuple[Any, ...], z: int | None = None) -> str:
    told = [f"{name} {label}" for name, label in zip(_WHICH, which, strict=True)]
    return ", ".join(told if z is None else [*told, f"z {z}"])


def _order(which: tuple[Any, ...]) -> list[tuple[bool, int, str]]:
    """Sort numbers by their value, and labels as text; by tile, then time, then channel."""
    labels = [which[2], which[0], which[1], *which[3:]] if len(which) == len(_WHICH) else which
    return [
        (isinstance(each, str), 0, each) if isinstance(each, str) else (False, each, "") for each in labels
    ]


def _few(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:_NAMED]) + (" ..." if paths[_NAMED:] else "")
