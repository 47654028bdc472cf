"""One stack as a file of its own, written plane by plane: TIFF as ImageJ and Bio-Formats know it, .npy.

What the first page of a TIFF says is the text that ImageJ itself writes there: number of slices, their distance, unit
and contrast; the sizes of pixels are in the resolution tags. Beyond 4 GB the file is a BigTIFF, which Fiji opens
through Bio-Formats. The format of .npy: numpy's "NEP 1".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.units import length_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    from numpy.typing import NDArray

    Slabs: TypeAlias = Iterable[NDArray[Any]]

_CLASSIC_BYTES = 2**32 - 2**25
"""What a TIFF of 4-byte offsets holds, less room for the pages of the largest stacks."""
_PAGE_BYTES = 400
_LARGEST = 2**32 - 1  # of numerator and denominator in a resolution tag


@dataclass(frozen=True, slots=True, kw_only=True)
class StackNote:
    """What a file says of its pixels beside their shape (z, y, x) and type.

    `contrast` are the values shown as black and as white; `unit` is "px" where the size of a voxel is not known.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_size_xyz: tuple[float, float, float]
    unit: str
    contrast: tuple[float, float] | None = None

    @property
    def nbytes(self) -> int:
        """How many bytes the pixels take."""
        return math.prod(self.shape) * self.dtype.itemsize


def _write_tiff(path: Path, slabs: Slabs, note: StackNote) -> None:
    is_big = note.nbytes + _PAGE_BYTES * note.shape[0] > _CLASSIC_BYTES
    known: dict[str, Any] = {}
    x, y, _ = note.voxel_size_xyz
    if note.unit != "px":
        known["resolution"] = (_per_unit(x), _per_unit(y))
    with tifffile.TiffWriter(path, bigtiff=is_big) as file:
        file.write(
            (plane for slab in slabs for plane in slab),
            shape=note.shape,
            dtype=note.dtype,
            photometric="minisblack",
            description=_description(note),
            metadata=None,
            resolutionunit="NONE",
            software=False,
            **known,
        )


def _write_npy(path: Path, slabs: Slabs, note: StackNote) -> None:
    described = {
        "descr": np.lib.format.dtype_to_descr(note.dtype),
        "fortran_order": False,
        "shape": note.shape,
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, described)
        for slab in slabs:
            file.write(np.ascontiguousarray(slab).data)


_WRITERS: dict[str, Callable[[Path, Slabs, StackNote], None]] = {
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".npy": _write_npy,
}

SUFFIXES = tuple(_WRITERS)
"""What the names of such files end in."""


def write_stack(path: Path, slabs: Slabs, note: StackNote) -> None:
    """Write a stack, given in parts (z, y, x) in their order; its kind is that of its name.

    Raises
    ------
    InvalidInputError
        If the name says none of `SUFFIXES`.
    """
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise InvalidInputError(f"{path.name!r} is no name for a stack: give {', '.join(SUFFIXES)}")
    _WRITERS[suffix](path, slabs, note)


def _description(note: StackNote) -> str:
    """Return what ImageJ writes into the first page."""
    depth = note.shape[0]
    return "".join(f"{line}\n" for line in _lines(note, depth))


def _lines(note: StackNote, depth: int) -> Iterator[str]:
    yield "ImageJ=1.54f"
    yield f"images={depth}"
    if depth > 1:
        yield f"slices={depth}"
    if note.unit != "px":
        name = length_name(note.unit) or note.unit
        # ASCII, with other letters as ImageJ spells them
        yield f"unit={'micron' if name == 'micrometer' else name.encode('ascii', 'backslashreplace').decode()}"
    yield f"spacing={note.voxel_size_xyz[2]!r}"
    yield "loop=false"
    if note.contrast is not None:
        low, high = note.contrast
        yield f"min={float(low)!r}"
        yield f"max={float(high)!r}"


def _per_unit(size: float) -> tuple[int, int]:
    """Return pixels per unit as a fraction, exact for sizes that a person would write."""
    found = Fraction(repr(float(size)))
    if max(found.numerator, found.denominator) > _LARGEST:
        found = Fraction(size).limit_denominator(10**6 if size < 1000 else 1)
    if not 0 < found.numerator <= _LARGEST:
        raise InvalidInputError(f"a pixel of the size {size} cannot be told in a TIFF; change its unit")
    return found.denominator, found.numerator
