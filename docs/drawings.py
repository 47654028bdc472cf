"""Drawings of the pages, as SVG in docs/drawings: python docs/drawings.py.

The floors of the house are those of tests/test_architecture.py, the speeds those of a table in benchmarks/results; a
test looks whether the drawings are up to date.
"""

from __future__ import annotations

import ast
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "drawings"
RESULTS = ROOT / "benchmarks" / "results" / "2026-11-25-evening.md"

INK, PALE, LINE = "#1b2a38", "#eef3f8", "#8aa0b5"
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#b8c2cc"
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, Consolas, 'DejaVu Sans Mono', monospace"


class Drawing:
    """Shapes on a white sheet."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" font-family="{FONT}" font-size="13" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def box(
        self, x: float, y: float, width: float, height: float, fill: str = PALE, *, dashed: bool = False
    ) -> None:
        """Draw a rectangle."""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{fill}" '
            f'stroke="{LINE}"{dash}/>'
        )

    def text(self, x: float, y: float, words: str, **style: str) -> None:
        """Write a line that begins here; `style` are attributes of SVG."""
        given = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{given}>{escape(words)}</text>')

    def centred(self, x: float, y: float, words: str, **style: str) -> None:
        """Write a line around here."""
        self.text(x, y, words, text_anchor="middle", **style)

    def lines(self, x: float, y: float, words: Sequence[str], step: float = 18, **style: str) -> None:
        """Write several lines."""
        for number, line in enumerate(words):
            self.text(x, y + number * step, line, **style)

    def line(
        self, *points: tuple[float, float], tip: bool = False, colour: str = INK, dashed: bool = False
    ) -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        end = ' marker-end="url(#tip)"' if tip else ""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"{dash}{end}/>'
        )

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw a line with a tip."""
        self.line(*points, tip=True)

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        """Draw a disc."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}"/>')

    def __str__(self) -> str:
        return "\n".join([*self.parts, "</svg>", ""])


def dataset() -> Drawing:
    """An XML, and the pixels it names: one image for each setup and time point."""
    drawing = Drawing(820, 372, "The XML describes views; the container beside it holds one image for each")
    drawing.box(10, 10, 380, 352)
    drawing.text(24, 34, "scan.xml", font_weight="bold")
    for y, height, title, words in (
        (48, 34, "ImageLoader", ["which format, where the pixels are"]),
        (
            90,
            90,
            "ViewSetups",
            ["0: channel 488, tile 0, size, voxel size", "1: channel 561, tile 0 ...", "2: ..."],
        ),
        (188, 34, "Timepoints", ["0, 1, 2"]),
        (230, 34, "MissingViews", ["time point 1 of setup 2"]),
        (272, 50, "ViewRegistrations", ["for each view: named transforms,", "from its pixels to the world"]),
    ):
        drawing.box(24, y, 352, height, "#ffffff")
        drawing.text(34, y + 22, title, font_weight="bold", font_size="12")
        drawing.lines(164, y + 22, words, font_size="11.5")
    drawing.text(
        34, 346, "and what other programs add: points, stitching, boxes ...", font_size="12", fill="#5a6b7b"
    )
    drawing.box(430, 10, 380, 352)
    drawing.text(444, 34, "scan.h5   (or scan.n5, scan.ome.zarr)", font_weight="bold")
    for column in range(3):
        drawing.centred(560 + column * 88, 66, f"time {column}", font_size="12")
    for row in range(3):
        drawing.text(448, 108 + row * 80, f"setup {row}", font_size="12")
        for column in range(3):
            missing = (row, column) == (2, 1)
            x, y = 522 + column * 88, 78 + row * 80
            drawing.box(x, y, 76, 64, "#ffffff", dashed=missing)
            if missing:
                drawing.centred(x + 38, y + 36, "missing", font_size="11", fill="#5a6b7b")
            else:
                drawing.box(x + 8, y + 8, 36, 48, BLUE)
                drawing.box(x + 48, y + 8, 18, 24, "#6db3dc")
                drawing.box(x + 48, y + 36, 10, 12, "#b9dcf0")
    drawing.centred(654, 334, "each: the full resolution and its smaller levels", font_size="12")
    drawing.arrow((376, 65), (428, 65))
    return drawing


def image() -> Drawing:
    """One image: levels, each cut in blocks."""
    drawing = Drawing(760, 262, "An image is stored at several levels, each cut into blocks")
    x = 20.0
    for level, (size, blocks, words) in enumerate(
        ((176, 4, "level 0: (1, 1, 1)"), (88, 2, "level 1: (1, 2, 2)"), (44, 1, "level 2: (2, 4, 4)"))
    ):
        depth = (3, 3, 2)[level]
        for plane in range(depth, -1, -1):
            drawing.box(
                x + plane * 9, 46 - plane * 9 + (176 - size), size, size, "#ffffff" if plane else "#d8e8f4"
            )
        step = size / blocks
        for number in range(1, blocks):
            for start, end in (
                ((x + number * step, 46 + 176 - size), (x + number * step, 46 + 176)),
                ((x, 46 + 176 - size + number * step), (x + size, 46 + 176 - size + number * step)),
            ):
                drawing.line(start, end, colour=LINE)
        if level == 0:
            drawing.box(x + step, 46 + step, step, step, ORANGE)
        drawing.text(x, 246, words, font_size="12")
        x += size + 84
    drawing.lines(
        520,
        70,
        [
            "One block is what is compressed,",
            "read and written at a time, say",
            "4 planes of 256 x 256 pixels.",
            "",
            "Zoomed out, a viewer reads few",
            "blocks of a coarse level; zoomed",
            "in, few blocks of a fine one.",
        ],
        font_size="12.5",
    )
    drawing.line((518, 62), (20 + 88 - 4, 46 + 66), tip=True, colour=ORANGE)
    return drawing


def transforms() -> Drawing:
    """From a pixel to the world, and in which order the XML lists it."""
    drawing = Drawing(
        860,
        208,
        "Pixels pass through calibration first and registration last; the XML lists them the other way round",
    )
    steps = (
        ("pixel", "(x, y, z) = (10, 20, 5)", PALE),
        ("calibration", "diag(1, 1, 2.5)", "#ffffff"),
        ("stage position", "+ (1150, 0, 0)", "#ffffff"),
        ("registration", "what BigStitcher found", "#ffffff"),
        ("world", "where it is drawn", PALE),
    )
    for number, (title, words, fill) in enumerate(steps):
        x = 10 + number * 170
        drawing.box(x, 40, 150, 56, fill)
        drawing.centred(x + 75, 63, title, font_weight="bold")
        drawing.centred(x + 75, 83, words, font_size="11.5")
        if number:
            drawing.arrow((x - 20, 68), (x - 2, 68))
    drawing.text(180, 26, "innermost", font_size="12", fill="#5a6b7b")
    drawing.text(608, 26, "outermost", font_size="12", fill="#5a6b7b")
    drawing.text(10, 130, "in the XML, and in every list of this package:", font_size="12")
    for number, title in enumerate(("0  registration", "1  stage position", "2  calibration")):
        drawing.text(320, 130 + 22 * number, title, font_family=MONO)
    drawing.line((306, 176), (306, 118), tip=True)
    drawing.text(500, 130, "the last one touches pixels first;", font_size="12")
    drawing.text(500, 148, "new ones are put in front", font_size="12")
    return drawing


def half_pixel() -> Drawing:
    """Why a coarse pixel is not where the first of its fine pixels is."""
    drawing = Drawing(
        640, 176, "The centre of a pixel of level 1 lies between the centres of the pixels that it spans"
    )
    for number in range(8):
        drawing.box(120 + number * 56, 20, 56, 44, "#ffffff")
        drawing.dot(148 + number * 56, 42, 4, BLUE)
        drawing.centred(148 + number * 56, 80, str(number), font_size="12")
    for number in range(2):
        drawing.box(120 + number * 224, 96, 224, 44, "#d8e8f4")
        drawing.dot(232 + number * 224, 118, 5, ORANGE)
        drawing.line((232 + number * 224, 42), (232 + number * 224, 118), colour=ORANGE, dashed=True)
        drawing.centred(
            232 + number * 224, 158, f"{number}: at 4 x {number} + 1.5 = {4 * number + 1.5}", font_size="12"
        )
    drawing.text(10, 46, "level 0")
    drawing.text(10, 122, "level 1, factor 4", font_size="12")
    return drawing


def recording() -> Drawing:
    """How frames become a dataset, and who waits for whom."""
    drawing = Drawing(
        860,
        300,
        "Frames are copied into a row of blocks, which threads encode and write; a journal says what is safe",
    )
    for x, y, width, title, words in (
        (10, 96, 110, "camera", ["frames (y, x)"]),
        (160, 96, 150, "open row", ["as many planes as a", "block is deep"]),
        (350, 96, 160, "encoder threads", ["cut, shuffle, compress:", "without Python's lock"]),
        (560, 40, 140, "chunks", ["each at its place", "in the container"]),
        (560, 150, 140, "journal", ["what is safe, and", "its checksums"]),
        (740, 96, 110, "XML", ["last, and at once"]),
    ):
        drawing.box(x, y, width, 66)
        drawing.centred(x + width / 2, y + 24, title, font_weight="bold")
        for number, line in enumerate(words):
            drawing.centred(x + width / 2, y + 42 + 15 * number, line, font_size="11.5")
    drawing.arrow((120, 129), (158, 129))
    drawing.centred(138, 88, "copy", font_size="11")
    drawing.arrow((310, 129), (348, 129))
    drawing.arrow((510, 118), (535, 118), (535, 73), (558, 73))
    drawing.arrow((510, 140), (535, 140), (535, 183), (558, 183))
    drawing.arrow((700, 73), (795, 73), (795, 94))
    drawing.arrow((700, 183), (795, 183), (795, 164))
    drawing.box(160, 200, 350, 50, "#ffffff")
    drawing.centred(335, 221, "sums of the lower levels", font_weight="bold")
    drawing.centred(335, 239, "carried along: no pixel is read again", font_size="11.5")
    drawing.arrow((235, 162), (235, 198))
    drawing.arrow((430, 200), (430, 164))
    drawing.text(160, 76, "all of this together: at most max_memory;", font_size="12")
    drawing.text(160, 92, "when it is full, append waits, or says so", font_size="12")
    drawing.line((150, 62), (150, 262), (520, 262), (520, 62), (150, 62), colour=LINE, dashed=True)
    drawing.centred(335, 284, "every 10 s a checkpoint: what came before it survives a kill", font_size="12")
    return drawing


def constants(*names: str) -> list[Any]:
    """Return tables of tests/test_architecture.py, without importing it."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text("utf-8"))
    found = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in names
    }
    return [found[name] for name in names]


FLOOR_NAMES = {
    7: "python -m npy2bdv",
    6: "the command",
    5: "classic interface, views",
    4: "whole datasets",
    3: "recording, reading",
    2: "files and XML",
    1: "values",
    0: "what all stand on",
}


def floors() -> Drawing:
    """The house: rooms on their floors; imports go down only."""
    (table,) = constants("FLOORS")
    rows: list[tuple[int, list[list[str]]]] = []
    for floor in FLOOR_NAMES:
        rooms = sorted((height, room) for room, height in table.items() if int(height) == floor)
        lines: list[list[str]] = [[]]
        used = 0.0
        for _, room in reversed(rooms):
            width = _width(room)
            if used + width > 640:
                lines.append([])
                used = 0.0
            lines[-1].append(room)
            used += width + 8
        rows.append((floor, lines))
    height = sum(22 + 30 * len(lines) for _, lines in rows) + 20
    drawing = Drawing(
        860, height, "The rooms of the package on their floors; a room imports rooms of lower floors only"
    )
    y = 10.0
    for floor, lines in rows:
        tall = 14 + 30 * len(lines)
        drawing.box(10, y, 840, tall)
        drawing.text(24, y + 27, f"{floor}", font_weight="bold", font_size="16")
        drawing.text(46, y + 26, FLOOR_NAMES[floor], font_size="12", fill="#5a6b7b")
        for number, line in enumerate(lines):
            x = 196.0
            for room in line:
                drawing.box(x, y + 8 + 30 * number, _width(room), 24, "#ffffff")
                drawing.centred(
                    x + _width(room) / 2, y + 24 + 30 * number, room, font_family=MONO, font_size="12"
                )
                x += _width(room) + 8
        y += tall + 8
    return drawing


def _width(room: str) -> float:
    return 16 + 7.3 * len(room)


SHOWN = {
    "stack": "whole stack",
    "planes": "frame by frame",
    "planes-levels": "frame by frame, 3 levels",
    "planes-gzip": "the same, gzip",
    "zarr3-levels": "OME-Zarr v3, 3 levels",
}
CANDIDATES = {
    "raw file": ("a plain file, no format", GREY),
    "ours": ("this package", BLUE),
    "npy2bdv 1.1.0": ("npy2bdv 1.1.0", ORANGE),
    "acquire-zarr 0.10.0": ("acquire-zarr 0.10.0", GREEN),
}
CAMERA = 840


def speeds() -> dict[str, dict[str, float]]:
    """Return the medians, MB/s buffered, by job and candidate, of the table that the benchmark wrote."""
    found: dict[str, dict[str, float]] = {}
    job = ""
    for line in RESULTS.read_text("utf-8").splitlines():
        if heading := re.match(r"`([\w-]+)`: ", line):
            job = heading[1]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if (
            job in SHOWN
            and len(cells) > 4
            and cells[0] in CANDIDATES
            and (number := re.match(r"[\d.]+", cells[3]))
        ):
            found.setdefault(job, {})[cells[0]] = float(number[0])
    return found


def speed() -> Drawing:
    """Bars: how fast a recording goes in."""
    table = speeds()
    bars = sum(len(table[job]) for job in SHOWN)
    drawing = Drawing(820, 96 + 22 * bars + 14 * len(SHOWN), "MB/s of pixels written, by job and program")
    x0, scale = 200.0, 560 / 6000
    bottom = 60 + 22 * bars + 14 * len(SHOWN)
    x = 14.0
    for words, colour in CANDIDATES.values():
        drawing.box(x, 14, 14, 14, colour)
        drawing.text(x + 20, 26, words, font_size="12")
        x += 46 + 7 * len(words)
    y = 46.0
    for job, title in SHOWN.items():
        drawing.text(14, y + 15, title, font_weight="bold", font_size="12")
        for candidate, value in table[job].items():
            drawing.box(x0, y, max(value * scale, 1), 18, CANDIDATES[candidate][1])
            drawing.text(x0 + value * scale + 6, y + 14, f"{value:.0f}", font_size="12")
            y += 22
        y += 14
    camera = x0 + CAMERA * scale
    drawing.line((camera, 38), (camera, bottom), dashed=True)
    drawing.text(camera + 4, bottom + 4, f"a camera at full rate: {CAMERA} MB/s", font_size="12")
    drawing.text(
        x0,
        bottom + 24,
        "MB/s of pixels into the memory of the system, medians of three rounds",
        font_size="12",
    )
    return drawing


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "dataset": dataset,
    "image": image,
    "transforms": transforms,
    "half-pixel": half_pixel,
    "recording": recording,
    "floors": floors,
    "speed": speed,
}


def main() -> None:
    """Write all drawings."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(str(draw()), "utf-8")


if __name__ == "__main__":
    main()
