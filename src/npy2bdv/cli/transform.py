"""``npy2bdv transform``: list, insert, replace, remove, rename and compose the transforms of views."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from npy2bdv.cli.arguments import numbers
from npy2bdv.cli.selecting import Where
from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from npy2bdv.editor import Editor
    from npy2bdv.model.affine import Affine
    from npy2bdv.model.decomposition import Decomposition
    from npy2bdv.model.spimdata import ViewId, ViewTransform

_ROWS = 40
_EVERYWHERE = Where()
_PLACE = re.compile(r"place:(-?\d+)")

Matrix = Annotated[
    str | None,
    Parameter(
        help="12 numbers, row by row: m00 m01 m02 tx m10 m11 m12 ty m20 m21 m22 tz; in quotes, with blanks or commas.",
        allow_leading_hyphen=True,
    ),
]
Xyz = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
Flag = Annotated[bool, Parameter(negative="")]

transform = App(
    name="transform",
    help="List and edit the transforms of views: where pixels lie in the world.\n\n"
    "The outermost transform of a view is applied last, the innermost touches pixels first. One is named by its name, "
    "or by its place: place:0 is the outermost, place:-1 the innermost. The XML as it was is kept as NAME.xml~1.",
    help_format="markdown",
)


@transform.command(name="list")
def list_(
    xml: Path,
    /,
    *,
    where: Where = _EVERYWHERE,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    all_views: Annotated[bool, Parameter(name="--all", negative="")] = False,
) -> None:
    """List the transforms of views, outermost first. Nothing on disk changes.

    Parameters
    ----------
    xml
        The XML, or the pixels beside it.
    where
        Which views.
    as_json
        Print every view for other programs: its transforms, and the total from pixels to the world.
    all_views
        List all, however many differ.
    """
    from rich.console import Console

    from npy2bdv.editor.selection import Selector
    from npy2bdv.location import find_xml, read_xml
    from npy2bdv.model.spimdata import ViewRegistration

    data = read_xml(find_xml(xml))
    found = {
        view: data.registrations.get(view, ViewRegistration()).transforms
        for view in Selector().views(data, where.of(data))
    }
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if as_json:
        console.print(json.dumps([_as_json(view, transforms) for view, transforms in found.items()]))
    else:
        _show(console, found, None if all_views else _ROWS)


@transform.command
def insert(
    xml: Path,
    /,
    *,
    matrix: Matrix = None,
    translation: Xyz = None,
    scale: Xyz = None,
    rotation: Xyz = None,
    name: str = "manually defined",
    at: Literal["outermost", "innermost"] | None = None,
    before: str | None = None,
    after: str | None = None,
    where: Where = _EVERYWHERE,
    force: Flag = False,
    dry_run: Flag = False,
) -> None:
    """Add a transform to each view: one of --matrix, --translation, --scale, --rotation.

    Parameters
    ----------
    xml
        The XML, or the pixels beside it.
    translation
        Shift x,y,z.
    scale
        Factors x,y,z.
    rotation
        AXIS,DEGREES about an axis of the world: "z,90".
    name
        How it is called.
    at
        Where: "outermost", if nothing is said, or "innermost".
    before
        In place of --at: directly outside of this one, a name or place:N.
    after
        In place of --at: directly inside of this one.
    where
        Which views.
    force
        Take a singular matrix, too.
    dry_run
        Show what would change, and change nothing.
    """
    affine = _affine(matrix, translation, scale, rotation)
    _edit(
        xml,
        where,
        lambda editor, views: editor.insert_transform(
            affine,
            name=name,
            at=at,
            before=_which(before),
            after=_which(after),
            force=force,
            **views,
        ),
        dry_run=dry_run,
    )


@transform.command
def replace(
    xml: Path,
    which: str,
    /,
    *,
    matrix: Matrix = None,
    translation: Xyz = None,
    scale: Xyz = None,
    rotation: Xyz = None,
    name: str | None = None,
    where: Where = _EVERYWHERE,
    force: Flag = False,
    dry_run: Flag = False,
) -> None:
    """Put another transform in the place of one. Views that do not have it are passed over.

    Parameters
    ----------
    xml
        The XML, or the pixels beside it.
    which
        Its name, or place:N.
    translation
        Shift x,y,z.
    scale
        Factors x,y,z.
    rotation
        AXIS,DEGREES about an axis of the world: "z,90".
    name
        A new name, too.
    where
        Which views.
    force
        Take a singular matrix, too.
    dry_run
        Show what would change, and change nothing.
    """
    affine = _affine(matrix, translation, scale, rotation)
    _edit(
        xml,
        where,
        lambda editor, views: editor.replace_transform(
            _named(which), affine, name=name, force=force, **views
        ),
        dry_run=dry_run,
    )


@transform.command
def remove(xml: Path, which: str, /, *, where: Where = _EVERYWHERE, dry_run: Flag = False) -> None:
    """Remove a transform. Views that do not have it are passed over.

    Parameters
    ----------
    xml
        The XML, or the pixels beside it.
    which
        Its name, or place:N.
    where
        Which views.
    dry_run
        Show what would change, and change nothing.
    """
    _edit(
        xml,
        where,
        lambda editor, views: editor.remove_transform(_named(which), **views),
        dry_run=dry_run,
    )


@transform.command
def rename(xml: Path, which: str, name: str, /, *, where: Where = _EVERYWHERE, dry_run: Flag = False) -> None:
    """Give a transform another name. Views that do not have it are passed over.

    Parameters
    ----------
    xml
        The XML, or the pixels beside it.
    which
        Its name, or place:N.
    name
        The new name.
    where
        Which views.
    dry_run
        Show what would change, and change nothing.
    """
    _edit(
        xml,
        where,
        lambda editor, views: editor.rename_transform(_named(which), name, **views),
        dry_run=dry_run,
    )


@transform.command
def compose(
    xml: Path, /, *, name: str = "composed", where: Where = _EVERYWHERE, dry_run: Flag = False
) -> None:
    """Make one transform of all that a view has. Images do not move.

    Parameters
    ----------
    xml
        The XML, or the pixels beside it.
    name
        How the one is called.
    where
        Which views.
    dry_run
        Show what would change, and change nothing.
    """
    _edit(
        xml,
        where,
        lambda editor, views: editor.compose_transforms(name=name, **views),
        dry_run=dry_run,
    )


# -- how -------------------------------------------------------------------------------------------------


def _edit(
    xml: Path, where: Where, change: Callable[[Editor, dict[str, Any]], None], *, dry_run: bool
) -> None:
    from rich.console import Console

    from npy2bdv.editor import edit

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    with edit(xml) as editor:
        change(editor, where.of(editor.data))
        if dry_run:
            console.print(str(editor.preview()))
            editor.discard()
            return
        changes = editor.preview().changes
    for line in changes:
        console.print(f"{editor.path}: {line}")


def _affine(matrix: str | None, translation: str | None, scale: str | None, rotation: str | None) -> Affine:
    """Read the one transform that is given."""
    from npy2bdv.model.affine import Affine

    given = {"--matrix": matrix, "--translation": translation, "--scale": scale, "--rotation": rotation}
    known = [option for option, text in given.items() if text is not None]
    if len(known) != 1:
        raise InvalidInputError(
            f"give one of {', '.join(given)}; found {' and '.join(known) if known else 'none'}"
        )
    if translation is not None:
        return Affine.translation(numbers(translation, "--translation"))
    if scale is not None:
        return Affine.scale(numbers(scale, "--scale"))
    if rotation is not None:
        axis, _, degrees = rotation.partition(",")
        try:
            return Affine.rotation(axis, float(degrees))  # type: ignore[arg-type]  # it judges the axis
        except ValueError as error:
            raise InvalidInputError(
                f'--rotation {rotation!r} is not understood ({error}); write an axis and degrees: "z,90"'
            ) from None
    assert matrix is not None
    try:
        values = [float(number) for number in matrix.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) not in (12, 16):
        raise InvalidInputError(
            f"--matrix {matrix!r} is not understood; write 12 numbers, row by row, or 16 that end in 0 0 0 1"
        )
    return Affine.from_array([values[row : row + 4] for row in range(0, len(values), 4)])


def _named(text: str) -> str | int:
    """Read the name or place of a transform."""
    place = _PLACE.fullmatch(text)
    return int(place[1]) if place else text


def _which(text: str | None) -> str | int | None:
    return None if text is None else _named(text)


def _as_json(view: ViewId, transforms: Sequence[ViewTransform]) -> dict[str, Any]:
    from npy2bdv.model.spimdata import ViewRegistration

    whole = all(each.affine is not None for each in transforms)
    return {
        "time": view.time,
        "setup": view.setup,
        "transforms": [{"name": each.name, "matrix": _rows(each.affine)} for each in transforms],
        "total": _rows(ViewRegistration(transforms=tuple(transforms)).total) if whole else None,
        "parts": None if (parts := _parts(transforms)) is None else asdict(parts),
    }


def _parts(transforms: Sequence[ViewTransform]) -> Decomposition | None:
    """Return scale, shear, rotation and translation of all; None where there are none."""
    from npy2bdv.model.spimdata import ViewRegistration

    if any(each.affine is None for each in transforms):
        return None
    total = ViewRegistration(transforms=tuple(transforms)).total
    return total.decompose() if total.is_finite and not total.is_singular else None


def _rows(affine: Affine | None) -> list[list[float | None]] | None:
    """Return a matrix for JSON, which has no NaN; None for a Java class."""
    if affine is None:
        return None
    values = [value if math.isfinite(value) else None for value in affine.values]
    return [values[row : row + 4] for row in (0, 4, 8)]


def _show(console: Console, found: Mapping[ViewId, tuple[ViewTransform, ...]], rows: int | None) -> None:
    """List transforms, once for all views that have the same."""
    import numpy as np

    groups: dict[tuple[ViewTransform, ...], list[ViewId]] = {}
    for view, transforms in found.items():
        groups.setdefault(transforms, []).append(view)
    for transforms, views in list(groups.items())[:rows]:
        first, last = views[0], views[-1]
        more = (
            ""
            if len(views) == 1
            else f" and {len(views) - 1} more with the same, up to time {last.time}, setup {last.setup}"
        )
        console.print(f"time {first.time}, setup {first.setup}{more}")
        if not transforms:
            console.print("  no transform")
        for each in transforms:
            console.print(f"  {each.name or '(without a name)'}")
            if each.affine is None:
                console.print("    not an affine: a Java class")
                continue
            for row in np.asarray(each.affine):
                console.print("    " + "  ".join(f"{number:12.6g}" for number in row))
        if len(transforms) > 1 and (parts := _parts(transforms)) is not None:
            console.print(f"  together: {parts}")
    if rows is not None and len(groups) > rows:
        console.print(f"... and {len(groups) - rows} more; --all lists them")
