"""Pages of the reference that are made from the package: the interface, the command, the formats.

They lie in docs/reference/generated, which git ignores.
"""

from __future__ import annotations

import inspect
import re
import shutil
from typing import TYPE_CHECKING

from drawings import constants

import npy2bdv
from npy2bdv.storage import FORMATS, card_of

if TYPE_CHECKING:
    from pathlib import Path

    from npy2bdv.storage.base import FormatCard


def write(folder: Path) -> None:
    """Write all pages, in place of those of the last time."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "cli.md").write_text(command(), "utf-8")
    (folder / "formats.md").write_text(formats(), "utf-8")
    names = [name for name in npy2bdv.__all__ if inspect.isclass(_of(name)) or inspect.isfunction(_of(name))]
    (folder / "import-rules.md").write_text(import_rules(), "utf-8")
    (folder / "api").mkdir()
    for name in names:
        (folder / "api" / f"{name}.rst").write_text(page(name), "utf-8")
    (folder / "api.md").write_text(listing(names), "utf-8")


def _of(name: str) -> object:
    return getattr(npy2bdv, name)


def page(name: str) -> str:
    """Return the page of one public name, in reStructuredText."""
    title = f"npy2bdv.{name}"
    kind = (
        "autofunction"
        if inspect.isfunction(_of(name))
        else "autoexception"
        if _is_error(name)
        else "autoclass"
    )
    return f"{title}\n{'=' * len(title)}\n\n.. currentmodule:: npy2bdv\n\n.. {kind}:: {name}\n"


def _is_error(name: str) -> bool:
    value = _of(name)
    return inspect.isclass(value) and issubclass(value, Exception)


GROUPS = {
    "Write": ("create", "DatasetWriter", "ViewStream", "Stats", "resave", "merge", "Merged"),
    "Read": ("open", "Dataset", "View", "Level", "export"),
    "Edit": ("edit", "Editor", "repack", "Repacked"),
    "Look after": ("check", "Report", "Verdict", "Finding", "recover", "Recovery", "RecoveredView"),
    "Values": ("Affine", "Box", "ViewId", "ViewTransform", "downsample"),
    "The interface of npy2bdv 1.x": ("BdvWriter", "BdvEditor"),
    "Errors": (),
}


def listing(names: list[str]) -> str:
    """Return the page that lists all public names with the first line of what is said of each."""
    groups = {title: [name for name in known if name in names] for title, known in GROUPS.items()}
    grouped = {name for known in groups.values() for name in known}
    groups["Errors"] = [name for name in names if _is_error(name)]
    rest = [name for name in names if name not in grouped and not _is_error(name)]
    lines = [
        "# Python interface\n",
        "All public names of `npy2bdv`. Arrays are (z, y, x); names that end in `_xyz` are (x, y, z), in the unit that",
        "the dataset states. Every error is a `npy2bdv.BdvError`: what was asked, what was found, what to do.\n",
    ]
    groups = {**{k: v for k, v in groups.items() if k != "Errors"}, "More": rest, "Errors": groups["Errors"]}
    for title, known in groups.items():
        if known:
            lines += [f"\n## {title}\n", "| name | what it is |", "|---|---|"]
            lines += [f"| [`{name}`](api/{name}.rst) | {_first_line(name)} |" for name in known]
    lines += ["\n```{toctree}\n:hidden:\n:glob:\n\napi/*\n```\n"]
    return "\n".join(lines)


def _first_line(name: str) -> str:
    return (inspect.getdoc(_of(name)) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


EXIT_CODES = """
## Exit codes

| code | what it says |
|---|---|
| 0 | All is well: what was asked for is done. |
| 1 | Something was wrong, which one line on stderr explains; `check` found an error. |
| 2 | Arguments cannot be read; or the answer is no (`speedtest`), or there are warnings only (`check`). |
| 130 | Interrupted by Ctrl-C. |
"""


def command() -> str:
    """Return the reference of the command, as the program itself tells it."""
    from npy2bdv.cli import _app

    text = _app().generate_docs(output_format="markdown", recursive=True, heading_level=1)
    text = re.sub(r" -m [a-z0-9_.]+(?= )", "", text)  # how the program that makes the page was called
    text = re.sub(r"## Table of Contents\n.*?(?=\n\*\*Commands\*\*)", "", text, count=1, flags=re.DOTALL)
    text = text.replace("# npy2bdv\n", "# The command npy2bdv\n", 1)
    first = text.index("\n## ")
    return text[:first] + EXIT_CODES + text[first:]


def formats() -> str:
    """Return the tables of the formats that can be written, made from their cards."""
    cards = [card_of(name, zarr) for name in FORMATS for zarr in ((2, 3) if name == "omezarr" else (None,))]
    head = ["", *(_title(card) for card in cards)]
    rows = [
        ["`format=`", *(f'`"{card.name}"`' for card in cards)],
        ["`zarr_version=`", *(str(card.zarr_version or "–") for card in cards)],
        ["loader in the XML", *(f"`{card.loader}`" for card in cards)],
        [
            "names of the pixels",
            *(", ".join(f"`NAME{suffix}`" for suffix in card.suffixes) for card in cards),
        ],
        ["pixel types", *(", ".join(card.pixel_types) for card in cards)],
        ["compression (levels)", *(_codecs(card) for card in cards)],
        ["compression by default", *(f'`"{card.default_codec}"`' for card in cards)],
        ["blocks (z, y, x) by default", *(", ".join(map(str, card.default_chunk)) for card in cards)],
        ["a block has fewer bytes than", *(f"{card.max_chunk_bytes:,}".replace(",", " ") for card in cards)],
        ["several threads write at once", *("yes" if card.concurrent else "no" for card in cards)],
        ["levels go from fine to coarse", *("always" if card.ordered else "need not" for card in cards)],
        ["opens in", *(card.opens for card in cards)],
    ]
    lines = ["# Formats\n", "What can be written, from the cards that the program itself goes by.\n"]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    cautions = [
        f"- **{_title(card)}**, compression {codec} {text}."
        for card in cards
        for codec, text in card.cautions.items()
    ]
    if cautions:
        lines += ["\n## Cautions\n", *cautions]
    lines += ["\n[Which format to choose](../../how-to/formats.md) compares them for a decision.\n"]
    return "\n".join(lines)


def import_rules() -> str:
    """Return the rules of the house as the test has them: floors, neighbours, homes of libraries."""
    floors, sideways, libraries = constants("FLOORS", "SIDEWAYS", "LIBRARIES")
    lines = [
        "# Import rules\n",
        "The table of `tests/test_architecture.py`. A room is a module or a package of `npy2bdv`; it imports rooms of",
        "lower floors, and on its own floor those that are listed.",
        "[How the house is built](../../explanation/architecture.md) says why.\n",
        "| floor | rooms |",
        "|---|---|",
    ]
    for floor in sorted(set(floors.values()), reverse=True):
        rooms = ", ".join(f"`{room}`" for room, height in sorted(floors.items()) if height == floor)
        lines.append(f"| {floor:g} | {rooms} |")
    lines += ["\n## Neighbours that know each other\n", "| room | imports |", "|---|---|"]
    for room in sorted({one for one, _ in sideways}):
        others = ", ".join(f"`{other}`" for one, other in sorted(sideways) if one == room)
        lines.append(f"| `{room}` | {others} |")
    lines += [
        "\n## Where each library lives\n",
        "numpy is everywhere; the standard library, too.\n",
        "| library | rooms |",
        "|---|---|",
    ]
    lines += [
        f"| {library} | {', '.join(f'`{home}`' for home in sorted(homes))} |"
        for library, homes in sorted(libraries.items())
    ]
    return "\n".join(lines) + "\n"


def _title(card: FormatCard) -> str:
    named = {"hdf5": "HDF5", "n5": "N5", "omezarr": "OME-Zarr"}.get(card.name, card.name)
    return f"{named}, Zarr v{card.zarr_version}" if card.zarr_version else named


def _codecs(card: FormatCard) -> str:
    return ", ".join(
        f"`{name}`" if levels is None else f"`{name}` ({levels.start} to {levels.stop - 1})"
        for name, levels in card.codecs.items()
    )
