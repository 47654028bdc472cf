"""Look through the built site: it loads no script, style, font or picture from elsewhere, and its links lead somewhere.

python .ci/check_site.py site
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
LOADS = {
    "script": "src", "img": "src", "iframe": "src", "embed": "src", "source": "src", "video": "src",
    "audio": "src", "track": "src", "input": "src", "object": "data", "image": "href", "use": "href",
}  # fmt: skip
SAYS_ONLY = {"canonical", "license", "author", "help", "index", "search", "next", "prev", "alternate"}
IN_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])\s*((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)
IN_SCRIPT = re.compile(
    r"(?:\bimport\s*\(?|\bfrom|\bfetch\(|importScripts\(|\.src\s*=|\.open\(\s*['\"]GET['\"],)\s*['\"`]((?:https?:)?//[^'\"`]+)"
)


class Page(HTMLParser):
    """What one page loads, what it links to, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        self._inside = tag
        if tag in LOADS:
            self.loaded += [given[key] for key in (LOADS[tag], "xlink:href") if key in given]
        if "srcset" in given:
            self.loaded += [part.split()[0] for part in given["srcset"].split(",") if part.strip()]
        if tag == "link" and not set(given.get("rel", "").split()) & SAYS_ONLY:
            self.loaded.append(given.get("href", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loaded += IN_STYLE.findall(given.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.loaded += IN_STYLE.findall(data)
        elif self._inside == "script":
            self.loaded += IN_SCRIPT.findall(data)


def faults(site: Path) -> list[str]:
    """Return a line for each thing that is loaded from elsewhere, is missing, or is linked to and not there."""
    pages: dict[Path, Page] = {}
    found: list[str] = []
    for file in sorted(site.rglob("*")):
        name = file.relative_to(site).as_posix()
        if file.suffix == ".html" and not name.startswith("_static/"):  # a template of the theme lies there
            pages[file] = page = Page()
            page.feed(file.read_text("utf-8"))
            for target in page.loaded:
                if ELSEWHERE.match(target):
                    found.append(f"{name} loads {target}")
                elif not target.startswith(("data:", "#")) and not _file(file, target).exists():
                    found.append(f"{name} loads {target}, which is not there")
        elif file.suffix in {".css", ".svg"}:
            found += [f"{name} loads {target}" for target in IN_STYLE.findall(file.read_text("utf-8"))]
        elif file.suffix in {".js", ".mjs"}:
            found += [f"{name} loads {target}" for target in IN_SCRIPT.findall(file.read_text("utf-8"))]
    for file, page in pages.items():
        for target in page.links:
            if urlsplit(target).scheme or ELSEWHERE.match(target):
                continue
            linked, anchor = _file(file, target), unquote(urlsplit(target).fragment)
            if not linked.exists():
                found.append(f"{file.relative_to(site).as_posix()} links to {target}, which is not there")
            elif anchor and linked in pages and anchor not in pages[linked].anchors:
                found.append(f"{file.relative_to(site).as_posix()} links to {target}: no such heading")
    return found


def _file(page: Path, target: str) -> Path:
    path = unquote(urlsplit(target).path)
    return (page.parent / path).resolve() if path else page


def main() -> int:
    """Print the faults; the status is 1 where there are any."""
    site = Path(sys.argv[1]).resolve()
    found = faults(site)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(list(site.rglob('*.html')))} pages load from the site alone" if not found else "FAILED")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
