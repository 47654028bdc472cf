"""A table of positions (CSV) as arguments of `add_setup`."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

from npy2bdv.errors import InvalidInputError, NotFoundError
from npy2bdv.model.units import length_name

if TYPE_CHECKING:
    from pathlib import Path

_LABELS = ("tile", "channel", "angle", "illumination")
_POSITION = re.compile(r"(?:stage_)?([xyz])(?:\s*[\[(](.+)[\])]|_(\w+))?", re.IGNORECASE)
_VOXELS = ("voxel_x", "voxel_y", "voxel_z")
_SIZES = ("size_z", "size_y", "size_x")
COLUMNS = ("x, y, z (with their unit: x [um], x_mm)", *_LABELS, *_VOXELS, *_SIZES, "dtype")


def read_positions(path: Path) -> list[dict[str, Any]]:
    """Read a table with a header line.

    Columns: x, y and z of the stage (z may be left out: 0), with their unit as ``x [um]`` or ``x_mm`` where it is not
    that of the voxel size; tile, channel, angle, illumination (labels; tiles are numbered where it is missing);
    voxel_x, voxel_y, voxel_z; size_z, size_y, size_x in pixels; dtype.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If a column is not known, or a value cannot be read; with its line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is no text in UTF-8 ({error}); save it as CSV, UTF-8") from None
    lines = text.splitlines()
    delimiter = max(",;\t", key=(lines[0] if lines else "").count)
    reader = csv.reader(lines, delimiter=delimiter)
    header = [name.strip() for name in next(reader, [])]
    positions: dict[int, int] = {}  # axis: column
    units = set()
    others: dict[int, str] = {}
    for column, name in enumerate(header):
        found = _POSITION.fullmatch(name)
        if found:
            axis = "xyz".index(found[1].lower())
            if axis in positions:
                raise InvalidInputError(f"{path}, line 1: the column {found[1]!r} is there twice")
            positions[axis] = column
            units.add(found[2] or found[3])
        elif name.lower() in (*_LABELS, *_VOXELS, *_SIZES, "dtype"):
            others[column] = name.lower()
        else:
            raise InvalidInputError(
                f"{path}, line 1: the column {name!r} is not known; there are {', '.join(COLUMNS)}"
            )
    if not {0, 1} <= positions.keys():
        raise InvalidInputError(
            f"{path}, line 1: there are no columns x and y; found {', '.join(header) or 'nothing'}"
        )
    unit = _one_unit(units, path)
    rows: list[dict[str, Any]] = []
    for cells in reader:
        line = reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise InvalidInputError(f"{path}, line {line}: {len(cells)} values, but {len(header)} columns")
        place = [
            _number(cells[positions[axis]], path, line) if axis in positions else 0.0 for axis in range(3)
        ]
        row: dict[str, Any] = {"tile": str(len(rows)), "stage_position_xyz": tuple(place)}
        if unit is not None:
            row["stage_unit"] = unit
        values = {name: cells[column].strip() for column, name in others.items()}
        row |= {name: values[name] for name in (*_LABELS, "dtype") if values.get(name)}
        for names, key in ((_VOXELS, "voxel_size_xyz"), (_SIZES, "shape")):
            given = [name for name in names if values.get(name)]
            if given and len(given) != 3:
                raise InvalidInputError(
                    f"{path}, line {line}: {', '.join(given)} without the rest of {', '.join(names)}"
                )
            if given:
                numbers = [_number(values[name], path, line) for name in names]
                row[key] = tuple(map(_whole, numbers)) if key == "shape" else tuple(numbers)
        rows.append(row)
    if not rows:
        raise InvalidInputError(f"{path} has no line below its header")
    return rows


def _one_unit(units: set[str | None], path: Path) -> str | None:
    if len(units) > 1:
        named = ", ".join(sorted(str(unit or "none") for unit in units))
        raise InvalidInputError(f"{path}, line 1: x, y and z have several units ({named}); give all in one")
    unit = next(iter(units))
    if unit is not None and length_name(unit) is None and unit.lower() not in ("px", "pixel", "pixels"):
        raise InvalidInputError(
            f"{path}, line 1: the unit {unit!r} is not known; there are um, nm, mm, inch, px ..."
        )
    return unit


def _number(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInputError(f"{path}, line {line}: {text!r} is no number") from None


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number
