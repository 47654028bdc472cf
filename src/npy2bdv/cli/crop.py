"""``npy2bdv crop``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)
from typing import Annotated

from cyclopts import Parameter

from npy2bdv.cli.arguments import numbers
from npy2bdv.cli.selecting import Where
from npy2bdv.errors import InvalidInputError

_EVERYWHERE = Where()

Range = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


def crop(
    xml: Path,
    /,
    *,
    x: Range = None,
    y: Range = None,
    z: Range = None,
    box: Range = None,
    where: Where = _EVERYWHERE,
    move: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Crop images at all time points, all levels, in place. What is cut off is gone.

    Images stay where they are in the world, sizes and interest points follow. The XML as it was is kept as NAME.xml~1.
    If it is interrupted, all is as it was, or "npy2bdv recover" finishes it. HDF5 files get smaller by
    "npy2bdv repack".

    Parameters
    ----------
    xml
        The XML, or the pixels beside it.
    x
        Pixels START:STOP, the end left out; each may be absent, or negative, which counts from the end: "10:-10".
    y
        Likewise.
    z
        Likewise.
    box
        In place of these a box in the world, x,y,z:x,y,z, its smallest and largest coordinates: all pixels that it
        touches at any time point are kept.
    where
        Which setups; a time point cannot be named, since a setup has one size.
    move
        Let the first pixel come to lie where that of the whole image was.
    dry_run
        Show what would change, and change nothing.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from npy2bdv.editor import edit
    from npy2bdv.model.box import Box

    ranges = tuple(_range(text, axis) for text, axis in ((z, "--z"), (y, "--y"), (x, "--x")))
    given = any(each is not None for each in ranges)
    if given == (box is not None):
        raise InvalidInputError("give the pixels to keep by --x, --y, --z, or a box in the world by --box")
    corners = None
    if box is not None:
        low, colon, high = box.partition(":")
        if not colon:
            raise InvalidInputError(
                f"--box is x,y,z:x,y,z, the smallest and the largest coordinates; found {box!r}"
            )
        (x0, y0, z0), (x1, y1, z1) = (numbers(text, "--box") for text in (low, high))
        corners = Box((x0, y0, z0), (x1, y1, z1))
    terminal = Console(stderr=True)
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with (
        edit(xml) as editor,
        Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar,
    ):
        task = bar.add_task("")
        editor.progress = lambda done, total: bar.update(task, completed=done, total=total)
        views = where.of(editor.data)
        editor.crop(zyx=ranges if given else None, box=corners, keep_position=not move, **views)
        shown = str(editor.preview())
        if dry_run:
            editor.discard()
            console.print(shown)
        else:
            editor.commit()
            console.print(shown.replace(", to be changed:", ", changed:"))


def _range(text: str | None, option: str) -> slice | None:
    """Read START:STOP."""
    if text is None:
        return None
    try:
        start, stop = (int(part) if part.strip() else None for part in text.split(":"))
    except ValueError:
        raise InvalidInputError(
            f'{option} is START:STOP in pixels, such as "10:-10"; found {text!r}'
        ) from None
    return slice(start, stop)
