"""Links from a page to what lies outside of docs/ work in the repository; on the site they are made to work.

The changelog and the guide for contributors become pages of the site. Other files become downloads, and folders
become their names.
"""

from __future__ import annotations

import re
from os.path import relpath
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:)([^)#\s]+)(#[^)]*)?\)")
SHOWN = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}


def rewrite(text: str, source: Path, page: Path, docs: Path) -> str:
    """Return a text that lies at `source` with the links that it has as `page` of the site."""

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        file = (source.parent / target).resolve()
        if not file.is_relative_to(docs.parent):
            return found[0]
        name = file.relative_to(docs.parent).as_posix()
        if name in PAGES:
            file = docs / PAGES[name]
        elif not file.is_relative_to(docs) and (file.is_dir() or file.suffix == ".md"):
            return f"{words} (`{name}` in the repository)"
        return f"[{words}]({Path(relpath(file, page.parent)).as_posix()}{anchor})"

    return LINK.sub(link, text)


def _on_read(app: Any, name: str, source: list[str]) -> None:
    page, docs = Path(app.env.doc2path(name)), Path(app.srcdir)
    if name in SHOWN:
        file = docs.parent / SHOWN[name]
        source[0] = rewrite(file.read_text("utf-8"), file, page, docs)
        app.env.note_dependency(str(file), docname=name)
    elif page.suffix == ".md":
        source[0] = rewrite(source[0], page, page, docs)
    if page.name == "index.md" and len(list(page.parent.glob("*.md"))) == 1:  # a kind that has no page yet
        source[0] = source[0].split("```{toctree}")[0]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _on_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
