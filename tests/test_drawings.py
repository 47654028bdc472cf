"""The drawings of the pages are those of the code, the rules and the measurements of today."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from test_architecture import FLOORS

DOCS = Path(__file__).parents[1] / "docs"
SCRIPT: dict[str, Any] = runpy.run_path(str(DOCS / "drawings.py"))


@pytest.mark.parametrize("name", SCRIPT["DRAWINGS"])
def test_drawings_are_up_to_date(name: str) -> None:
    """To draw them anew: python docs/drawings.py."""
    drawn = str(SCRIPT["DRAWINGS"][name]())
    assert (DOCS / "drawings" / f"{name}.svg").read_text("utf-8") == drawn
    root = etree.fromstring(drawn.encode())
    assert root.findtext("{*}title")
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for text in root.iter("{*}text"):
        assert 0 < float(text.get("x", 0)) < width, text.text
        assert 0 < float(text.get("y", 0)) < height, text.text


def test_no_drawing_is_left_over_or_unused() -> None:
    assert {path.stem for path in (DOCS / "drawings").iterdir()} == set(SCRIPT["DRAWINGS"])
    pages = "".join(page.read_text("utf-8") for page in DOCS.rglob("*.md"))
    assert [name for name in SCRIPT["DRAWINGS"] if f"drawings/{name}.svg" not in pages] == []


def test_every_room_is_drawn() -> None:
    drawn = str(SCRIPT["DRAWINGS"]["floors"]())
    assert [room for room in FLOORS if f">{room}</text>" not in drawn] == []


def test_speeds_come_from_the_results() -> None:
    speeds = SCRIPT["speeds"]()
    assert set(speeds) == set(SCRIPT["SHOWN"])
    assert speeds["planes-levels"]["ours"] == 2189
    assert speeds["planes-gzip"]["npy2bdv 1.1.0"] == 18
