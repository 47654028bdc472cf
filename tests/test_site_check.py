"""The check of the built site finds what it is there for."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[1] / ".ci" / "check_site.py"
GOOD = """<html><head><link rel="stylesheet" href="style.css"><link rel="canonical" href="https://example.org/">
<script>const page = "https://example.org/";</script></head>
<body id="top"><a href="https://example.org">elsewhere</a><a href="#top">up</a><img src="picture.png"></body></html>"""


def faults(site: Path) -> list[str]:
    found: list[str] = runpy.run_path(str(CHECK))["faults"](site)
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text(GOOD, "utf-8")
    (tmp_path / "style.css").write_text("body { background: url(picture.png) }", "utf-8")
    (tmp_path / "picture.png").touch()
    return tmp_path


def test_links_elsewhere_are_no_fault(site: Path) -> None:
    assert faults(site) == []


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', "loads https://cdn.example.org/x.js"),
        ('<link rel="stylesheet" href="//fonts.example.org/css">', "loads //fonts.example.org/css"),
        ('<link rel="preconnect" href="https://fonts.example.org">', "loads https://fonts.example.org"),
        ('<img src="https://example.org/badge.svg">', "loads https://example.org/badge.svg"),
        ('<img srcset="https://example.org/2.png 2x">', "loads https://example.org/2.png"),
        ('<p style="background: url(https://example.org/1.png)">', "loads https://example.org/1.png"),
        ("<style>@import 'https://example.org/a.css';</style>", "loads https://example.org/a.css"),
        (
            '<script type="module">import x from "https://example.org/x.js"</script>',
            "loads https://example.org/x.js",
        ),
        ('<iframe src="https://example.org"></iframe>', "loads https://example.org"),
        ('<img src="missing.png">', "loads missing.png, which is not there"),
        ('<a href="missing.html">', "links to missing.html, which is not there"),
        ('<a href="#bottom">', "links to #bottom: no such heading"),
    ],
)
def test_what_comes_from_elsewhere_or_is_missing_is_found(site: Path, added: str, said: str) -> None:
    (site / "page.html").write_text(GOOD.replace("</body>", f"{added}</body>"), "utf-8")
    assert faults(site) == [f"page.html {said}"]


def test_a_font_in_a_style_sheet_is_found(site: Path) -> None:
    (site / "style.css").write_text("@font-face { src: url('https://example.org/f.woff2') }", "utf-8")
    assert faults(site) == ["style.css loads https://example.org/f.woff2"]
