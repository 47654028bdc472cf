"""The pages of the documentation, taken apart: blocks of code with the marks above them, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAPERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAPERS += sorted(p for p in (ROOT / "docs").rglob("*.md") if "generated" not in p.parts)

FENCE = re.compile(r"^(`{3,})(\{?[\w-]*\}?)(.*)$")
MARK = re.compile(r"^<!-- (not run|file|output|status)(?:: (.+))? -->$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block. A mark stands in a comment on the line directly above it.

    `<!-- not run: REASON -->`  is not executed by the tests;
    `<!-- status: 1 -->`        the last command of this block ends with that status;
    `<!-- file: NAME -->`       is what the reader saves under that name;
    `<!-- output -->`           is what the block before it prints, or a part of it.
    """

    line: int
    language: str
    text: str
    mark: str = ""
    words: str = ""


def name(paper: Path) -> str:
    """Return how a test calls a page."""
    return paper.relative_to(ROOT).as_posix()


def blocks(paper: Path) -> list[Block]:
    """Return all fenced blocks of a page, in their order."""
    found: list[Block] = []
    lines = paper.read_text("utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        number += 1
        if opening is None:
            continue
        start = number
        while number < len(lines) and lines[number].rstrip() != opening[1]:
            number += 1
        assert number < len(lines), f"{name(paper)}:{start}: this block does not end"
        mark = MARK.match(lines[start - 2]) if start >= 2 else None
        found.append(
            Block(
                line=start,
                language=opening[2],
                text="".join(f"{line}\n" for line in lines[start:number]),
                mark=mark[1] if mark else "",
                words=mark[2] or "" if mark else "",
            )
        )
        number += 1
    return found


def prose(paper: Path) -> str:
    """Return the text of a page without its blocks."""
    kept: list[str] = []
    fence = ""
    for line in paper.read_text("utf-8").splitlines():
        if fence:
            fence = "" if line.rstrip() == fence else fence
        elif found := FENCE.match(line):
            fence = found[1]
        else:
            kept.append(line)
    return "\n".join(kept)


def anchors(paper: Path) -> set[str]:
    """Return what `#...` may name on a page: its headings, spelt as GitHub and MyST do."""
    titles = re.findall(r"^#{1,6} +(.+?) *$", prose(paper), re.MULTILINE)
    return {slug(title) for title in titles}


def slug(title: str) -> str:
    """Return the anchor of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def links(paper: Path) -> list[tuple[str, str]]:
    """Return (target, anchor) of all links of a page that do not lead elsewhere."""
    text = re.sub(r"`[^`\n]*`", "", prose(paper))
    found = re.findall(r"\]\(<?([^)#\s>]*)(?:#([^)\s>]*))?>?\)", text)
    return [(target, anchor) for target, anchor in found if not re.match(r"[a-z]+:", target)]
