"""`preview` and `layout`: what is drawn, from what, and where it lies."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy.spatial import ConvexHull

import npy2bdv
from npy2bdv import Affine, Box, ViewTransform
from npy2bdv.cli import main
from npy2bdv.draft import Draft
from npy2bdv.model.outline import Outline, hull
from npy2bdv.model.spimdata import GeneratedBy, ViewId
from npy2bdv.storage import FORMATS
from npy2bdv.views.stitched import PLANES, Canvas, choose, limits, project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

VOXEL = (0.5, 0.5, 2.0)


# -- outlines --------------------------------------------------------------------------------------------------


def test_an_outline_is_that_of_the_pixels_edges() -> None:
    outline = Outline(
        label="a",
        attributes={"channel": "488", "tile": "3"},
        shape_xyz=(4, 3, 2),
        transform=Affine.translation((10, 20, 30)) @ Affine.scale((1, 2, 5)),
    )
    assert (outline.channel, outline.tile) == ("488", "3")
    assert outline.box == Box((9.5, 19, 27.5), (13.5, 25, 37.5))
    assert set(outline.polygon("xy")) == {(9.5, 19.0), (13.5, 19.0), (13.5, 25.0), (9.5, 25.0)}
    assert set(outline.polygon("zy")) == {(27.5, 19.0), (37.5, 19.0), (37.5, 25.0), (27.5, 25.0)}
    turned = Outline(label="b", attributes={}, shape_xyz=(2, 2, 2), transform=Affine.rotation("z", 45))
    assert len(turned.polygon("xy")) == len(turned.polygon("xz")) == 4
    tumbled = Outline(
        label="c",
        attributes={},
        shape_xyz=(2, 3, 4),
        transform=Affine.rotation("x", 30) @ Affine.rotation("z", 40),
    )
    assert len(tumbled.polygon("xy")) == 6


POINTS = st.lists(st.tuples(*[st.integers(-20, 20).map(float)] * 2), min_size=3, max_size=12, unique=True)


@given(points=POINTS)
def test_a_hull_is_that_of_scipy(points: list[tuple[float, float]]) -> None:
    found = hull(points)
    flat = np.linalg.matrix_rank(np.array(points) - points[0]) < 2
    if flat:
        assert len(found) == 2
        return
    judge = ConvexHull(np.array(points))
    assert set(found) == {points[k] for k in judge.vertices}
    x, y = np.array(found).T
    area = float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert area == pytest.approx(judge.volume)  # in order, counter-clockwise


@pytest.mark.parametrize(("shape", "x"), [((0, 1, 1), 0.0), ((1, 1, 1), math.nan)])
def test_what_has_no_outline(shape: tuple[int, int, int], x: float) -> None:
    affine = Affine(values=(1, 0, 0, x, 0, 1, 0, 0, 0, 0, 1, 0))
    with pytest.raises(npy2bdv.BdvError, match="'a' has no outline: its size"):
        Outline(label="a", attributes={}, shape_xyz=shape, transform=affine)


# -- projections -----------------------------------------------------------------------------------------------


def write(path: Path, stacks: list[NDArray[Any]], affines: list[Affine], **more: Any) -> Path:
    with npy2bdv.create(path, **more) as writer:
        for tile, (stack, affine) in enumerate(zip(stacks, affines, strict=True)):
            setup = writer.add_setup(
                shape=stack.shape,
                dtype=stack.dtype,
                tile=tile,
                voxel_size_xyz=(1, 1, 1),
                transform=[ViewTransform(affine=affine, name="place")],
            )
            writer.write(stack, setup=setup)
    return path


def test_projections_of_tiles_in_a_grid_are_those_of_numpy(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    stacks = [rng.integers(1, 1000, (5, 6, 8), "uint16") for _ in range(2)]
    path = write(tmp_path / "a.xml", stacks, [Affine.identity(), Affine.translation((5, 2, 1))])
    world = np.zeros((6, 8, 13))
    world[:5, :6, :8] = stacks[0]
    world[1:, 2:, 5:] = np.maximum(world[1:, 2:, 5:], stacks[1])
    covered = world > 0
    with npy2bdv.open(path) as dataset:
        canvas = Canvas(box=dataset.bounding_box(), pixel=1.0)
        found, readings = project(dataset, canvas, 1.0, 2**20)
    assert [(reading.level.index, reading.step) for reading in readings] == [(0, 1), (0, 1)]
    for plane, axis, turn in (("xy", 0, False), ("xz", 1, False), ("zy", 2, True)):
        wanted = np.where(covered.any(axis), world.max(axis), np.nan)
        np.testing.assert_array_equal(found[plane], wanted.T if turn else wanted)  # type: ignore[index]


@pytest.mark.parametrize(
    "affine",
    [
        Affine.rotation("z", 30),
        Affine.rotation("y", 45),
        Affine.rotation("y", 90),
        Affine.rotation("x", 40) @ Affine.shear("x", by="z", factor=0.7) @ Affine.scale((1, 1, 3)),
        Affine.scale((-1, 1, 2)),
        Affine.shear("y", by="z", factor=1.5),
    ],
    ids=["about z", "about y", "a quarter about y", "tumbled", "flipped", "sheared"],
)
def test_a_bead_is_where_the_transform_says(tmp_path: Path, affine: Affine) -> None:
    stack = np.full((10, 30, 40), 10, "uint16")
    z, y, x = 7, 21, 4
    stack[z, y, x] = 1000
    path = write(tmp_path / "a.xml", [stack], [affine])
    with npy2bdv.open(path) as dataset:
        canvas = Canvas.over(dataset.bounding_box(), 300)
        found, _ = project(dataset, canvas, 1.0, 2**20)
        place = dataset.view().pixel_to_world((x, y, z))
    low, high = canvas.box
    for plane in PLANES:
        rows, columns = np.nonzero(found[plane] == 1000)
        assert len(rows), plane
        size = found[plane].shape
        for axis, pixels, n in ((plane[0], columns, size[1]), (plane[1], rows, size[0])):
            k = "xyz".index(axis)
            where = low[k] + (pixels.mean() + 0.5) * (high[k] - low[k]) / n
            assert where == pytest.approx(place[k], abs=1.0)
        # what is seen of the stack has no holes
        seen = np.isfinite(found[plane])
        outline = Outline(label="", attributes={}, shape_xyz=(40, 30, 10), transform=affine).polygon(plane)
        u, v = np.array(outline).T
        area = abs(np.dot(u, np.roll(v, -1)) - np.dot(v, np.roll(u, -1))) / 2
        assert seen.sum() * canvas.pixel**2 == pytest.approx(area, rel=0.12)


def test_the_largest_value_stays_when_pixels_are_put_together(tmp_path: Path) -> None:
    stack = np.zeros((4, 64, 64), "uint16")
    stack[1, 37, 50] = 999
    path = write(tmp_path / "a.xml", [stack], [Affine.identity()])
    with npy2bdv.open(path) as dataset:
        found, _ = project(dataset, Canvas.over(dataset.bounding_box(), 9), 1.0, 2**20)
    assert all(np.nanmax(found[plane]) == 999 for plane in PLANES)


def test_floats_that_are_no_numbers_are_passed_over(tmp_path: Path) -> None:
    stack = np.full((2, 8, 8), 3, "float32")
    stack[0, 0, 0], stack[0, 1, 1] = np.nan, np.inf
    path = write(tmp_path / "a.xml", [stack], [Affine.identity()])
    with npy2bdv.open(path) as dataset:
        found, _ = project(dataset, Canvas(box=dataset.bounding_box(), pixel=1.0), 1.0, 2**20)
        assert (found["xy"] == 3).all()
        assert npy2bdv.preview(dataset).as_png()


def test_limits() -> None:
    assert limits([np.full((2, 2), np.nan, np.float32)], (1, 99)) is None
    low, high = limits([np.full((2, 2), 7, np.float32)], (1, 99)) or (0, 0)
    assert low == 7 < high


# -- a large dataset that is made as it is read ------------------------------------------------------------------


class Made:
    """A level that is made when it is read, and counts."""

    compression = "none"
    nbytes_on_disk = 0

    def __init__(self, shape: tuple[int, int, int], read: list[int]) -> None:
        self.shape, self.chunk, self.dtype = shape, (16, 64, 64), np.dtype("uint16")
        self._read = read

    def read(self, region: tuple[slice, ...]) -> NDArray[np.uint16]:
        sizes = [len(range(*part.indices(size))) for part, size in zip(region, self.shape, strict=True)]
        self._read.append(2 * math.prod(sizes))
        return np.full(sizes, 300, np.uint16)


class MadePixels:
    card = FORMATS["hdf5"]

    def __init__(self, path: Path, shape: tuple[int, int, int], factors: list[tuple[int, int, int]]) -> None:
        self.path, self._shape, self._factors = path, shape, factors
        self.read: list[int] = []

    def factors(self, setup: int) -> list[tuple[int, int, int]]:
        return self._factors

    def has(self, view: ViewId, level: int = 0) -> bool:
        return True

    def level(self, view: ViewId, level: int) -> Made:
        z, y, x = (-(-n // f) for n, f in zip(self._shape, self._factors[level], strict=True))
        return Made((z, y, x), self.read)

    def close(self) -> None:
        pass


PYRAMID = [(1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 8, 8), (8, 16, 16), (16, 32, 32)]


@pytest.fixture
def terabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[tuple[int, int, int]]], tuple[npy2bdv.Dataset, MadePixels]]:
    """Make a dataset of 100 tiles in two channels of 2000 x 2048 x 2048: 3.4 TB."""
    shape = (2000, 2048, 2048)

    def make(factors: list[tuple[int, int, int]]) -> tuple[npy2bdv.Dataset, MadePixels]:
        draft = Draft(FORMATS["hdf5"], levels=factors, chunks=None, generated_by=GeneratedBy())
        voxel = (0.4, 0.4, 1.0)
        for channel in ("488", "561"):
            for tile, place in enumerate(npy2bdv.grid(10, 10, shape=shape, voxel_size_xyz=voxel)):
                number = draft.add_setup(
                    shape=shape, channel=channel, tile=tile, voxel_size_xyz=voxel, stage_position_xyz=place
                )
                draft.views[ViewId(0, number)] = None
        pixels = MadePixels(tmp_path / "large.h5", shape, factors)
        monkeypatch.setattr("npy2bdv.dataset.open_pixels", lambda *_, **__: pixels)
        return npy2bdv.Dataset(tmp_path / "large.xml", draft.describe()), pixels

    return make


def test_of_terabytes_coarse_levels_are_read_only(terabytes: Any) -> None:
    dataset, pixels = terabytes(PYRAMID)
    with dataset:
        facts = npy2bdv.preview(dataset).facts
    assert facts["views"] == len(facts["read"]) == 200
    assert {(each["level"], each["step"]) for each in facts["read"]} == {(5, 1)}
    assert sum(pixels.read) == 200 * 2 * 125 * 64 * 64  # each view once, the coarsest level
    with dataset:
        pixels.read.clear()


def test_without_levels_some_planes_are_read(terabytes: Any) -> None:
    dataset, pixels = terabytes([(1, 1, 1)])
    with dataset:
        facts = npy2bdv.preview(dataset, tile=0).facts
    assert {each["step"] for each in facts["read"]} == {500}
    assert sum(pixels.read) == 2 * 4 * 2 * 2048**2


def test_the_coarsest_level_that_serves(terabytes: Any) -> None:
    dataset, _ = terabytes(PYRAMID)
    with dataset:
        view = dataset.view(setup=0)
        # the world is in pixels of 0.4 um, planes are 2.5 of them apart
        for pixel, level in ((1.0, 1), (2.5, 2), (4.0, 2), (10.0, 4), (100.0, 5)):
            assert choose(view, pixel, 2**40).level.index == level, pixel
        assert choose(view, 1.0, 2**20).level.index == 5


# -- pictures --------------------------------------------------------------------------------------------------


@pytest.fixture
def tiles(tmp_path: Path) -> Iterator[npy2bdv.Dataset]:
    """Two channels, 2 x 2 tiles with 20 percent overlap, five time points; two views are missing."""
    shape = (6, 40, 50)
    with npy2bdv.create(tmp_path / "tiles.xml", levels=[(1, 1, 1), (1, 2, 2)]) as writer:
        setups = {}
        for channel in ("488", "561"):
            for tile, place in enumerate(npy2bdv.grid(2, 2, shape=shape, voxel_size_xyz=VOXEL, overlap=0.2)):
                setups[channel, tile] = writer.add_setup(
                    shape=shape,
                    channel=channel,
                    tile=tile,
                    voxel_size_xyz=VOXEL,
                    unit="micrometer",
                    stage_position_xyz=place,
                )
        z, y, x = np.mgrid[:6, :40, :50]
        for time in range(5):
            for (channel, tile), setup in setups.items():
                if (time, channel, tile) in ((1, "488", 2), (4, "561", 3)):
                    continue
                stack = 100 + 10 * x + (5 * y if channel == "488" else 40 * z) + 20 * tile
                writer.write(stack.astype("uint16"), setup=setup, time=time)
    with npy2bdv.open(tmp_path / "tiles.xml") as dataset:
        yield dataset


def test_what_is_shown_is_said(tiles: npy2bdv.Dataset) -> None:
    facts = npy2bdv.preview(tiles).facts
    assert facts["times"] == [0, 2, 4]
    assert facts["views"] == 23
    assert len(facts["missing"]) == 2
    assert facts["unit"] == "micrometer"
    np.testing.assert_allclose(facts["max_xyz"], (24.75 + 20, 19.75 + 16, 11), atol=1e-9)
    assert facts["contrasts"].keys() == {"488", "561"}
    some = npy2bdv.preview(tiles, channel="561", time=[1, 2], tile=[0, 1]).facts
    assert (some["views"], some["times"], list(some["contrasts"])) == (4, [1, 2], ["561"])
    gone = npy2bdv.preview(tiles, time=1, channel="488", tile=2).facts
    assert (gone["views"], len(gone["missing"]), gone["contrasts"]) == (0, 1, {"488": None})


def test_a_notebook_shows_it(tiles: npy2bdv.Dataset) -> None:
    for picture in (npy2bdv.preview(tiles), npy2bdv.layout(tiles), npy2bdv.layout(tiles, pixels=False)):
        shown = picture._repr_png_()
        assert shown.startswith(b"\x89PNG")


def test_axes_have_equal_scale(tiles: npy2bdv.Dataset) -> None:
    for picture in (npy2bdv.preview(tiles), npy2bdv.layout(tiles)):
        inches = picture.get_size_inches()
        assert len(picture.axes) >= 3
        scales = set()
        for axes in picture.axes:
            place = axes.get_position()
            for length, (low, high), paper in (
                (place.width, axes.get_xlim(), inches[0]),
                (place.height, axes.get_ylim(), inches[1]),
            ):
                scales.add(round(length * paper / abs(high - low), 6))
            assert axes.get_ylim()[0] > axes.get_ylim()[1]  # rows go down
        assert len(scales) <= 2, scales  # one of the layout, one of the projections


def test_views_have_outlines_and_missing_ones_are_dashed(tiles: npy2bdv.Dataset) -> None:
    xy = npy2bdv.layout(tiles).axes[0]
    drawn = [collection for collection in xy.collections if collection.get_paths()]
    dashed = [each for each in drawn if cast("Any", each.get_linestyle())[0][1] is not None]
    assert (
        sum(len(each.get_paths()) for each in drawn if each not in dashed) == 4
    )  # channels lie on each other
    assert sum(len(each.get_paths()) for each in dashed) == 2
    assert sorted(text.get_text() for text in xy.texts) == ["0", "1", "2", "3"]
    by_channel = npy2bdv.layout(tiles, color_by="channel")
    assert [text.get_text() for text in by_channel.legends[0].get_texts()] == [
        "channel 488", "channel 561", "missing (2 views)",
    ]  # fmt: skip


def test_labels_do_not_overlap_at_a_hundred_tiles() -> None:
    tile = {"shape": (100, 2048, 2048), "voxel_size_xyz": (0.4, 0.4, 2), "unit": "um"}
    places = list(npy2bdv.grid(10, 10, shape=(100, 2048, 2048), voxel_size_xyz=(0.4, 0.4, 2)))
    for name in ("{}", "Tile_{:04d}", "a very long name of tile number {:04d}"):
        plan = npy2bdv.plan(
            [{**tile, "tile": name.format(n), "stage_position_xyz": p} for n, p in enumerate(places)]
        )
        picture = npy2bdv.layout(plan)
        picture.as_png()
        texts = picture.axes[0].texts
        assert len(texts) == 100 or len(name) > 20
        boxes = [text.get_window_extent() for text in texts]
        assert all(float(text.get_fontsize()) >= 4.5 for text in texts)
        for k, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:k])


def test_no_state_of_pyplot_and_no_screen_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, npy2bdv\n"
        f"xml = npy2bdv.resave(np.arange(60).reshape(3, 4, 5).astype('uint16'), {str(tmp_path / 'a.xml')!r})\n"
        "assert 'matplotlib' not in sys.modules\n"
        "with npy2bdv.open(xml) as dataset:\n"
        f"    npy2bdv.preview(dataset).savefig({str(tmp_path / 'a.png')!r})\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    environment = {"MPLBACKEND": "tkagg", "DISPLAY": ":999"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**__import__("os").environ, **environment},
    )
    assert done.stdout.split() == ["False"]
    assert imread(tmp_path / "a.png").shape[2] == 4


# -- what cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: npy2bdv.preview(d, percentiles=(99, 1)), r"percentiles=\(99, 1\) cannot be; give two numbers"),
        (lambda d: npy2bdv.preview(d, percentiles=cast("Any", 3)), "percentiles=3 cannot be"),
        (lambda d: npy2bdv.preview(d, projections=False, layout=False), "leave one of them True"),
        (lambda d: npy2bdv.preview(d, time=9), "time=9 selects nothing; the dataset has 0 to 4 as time points"),
        (lambda d: npy2bdv.preview(d, channel="GFP"), "channel='GFP' selects nothing"),
        (lambda d: npy2bdv.preview(d, colour=3), "there is no attribute 'colour' in this dataset"),
        (lambda d: npy2bdv.layout(d, color_by="weather"), "no attribute 'weather' to colour by; there are "),
        (lambda d: npy2bdv.preview(cast("Any", str(d.path))), "a preview is that of a dataset, npy2bdv.open"),
        (lambda d: npy2bdv.layout(cast("Any", str(d.path))), "a layout is that of a dataset, .*, or of a plan"),
        (lambda d: npy2bdv.layout(npy2bdv.plan([{"shape": (2, 3, 4)}]), time=0), "views of a plan cannot be selected"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(tiles: npy2bdv.Dataset, call: Any, message: str) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in tiles.path.parent.iterdir()}
    with pytest.raises(npy2bdv.BdvError, match=message):
        call(tiles)
    assert {path.name: path.stat().st_mtime_ns for path in tiles.path.parent.iterdir()} == before


def test_without_matplotlib(tiles: npy2bdv.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "npy2bdv.views.figure", raising=False)
    monkeypatch.delattr("npy2bdv.views.figure", raising=False)
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.colors"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (npy2bdv.preview, npy2bdv.layout):
        with pytest.raises(npy2bdv.BdvError, match=r'not installed: pip install "npy2bdv\[preview\]"'):
            call(tiles)


def test_pixels_that_cannot_be_read(tiles: npy2bdv.Dataset) -> None:
    text = tiles.path.read_text("utf-8").replace('format="bdv.hdf5"', 'format="other.loader"')
    path = tiles.path.with_name("other.xml")
    path.write_text(text, "utf-8")
    with npy2bdv.open(path) as dataset:
        with pytest.raises(npy2bdv.BdvError, match=r"other\.loader"):
            npy2bdv.preview(dataset)
        assert npy2bdv.preview(dataset, projections=False).facts["views"] == 23
        assert npy2bdv.layout(dataset).facts["read"] == []


# -- the command -----------------------------------------------------------------------------------------------


def test_the_command(
    tiles: npy2bdv.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["preview", str(tiles.path)]) == 0
    assert capsys.readouterr().out == "tiles-preview.png: 23 views, 2 missing\n"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["tiles-preview.png"]
    assert imread("tiles-preview.png").std() > 0.1
    arguments = [
        "preview", str(tiles.path), "-o", "a.svg", "--json", "--no-projections", "--time", "0,1", "--channel", "488",
        "--color-by", "channel", "--percentiles", "5,95",
    ]  # fmt: skip
    assert main(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["picture"], facts["views"], facts["times"]) == ("a.svg", 7, [0, 1])
    assert "<svg" in (tmp_path / "here" / "a.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.doc"], "a.doc is not known as a picture; give NAME.png, NAME.svg, NAME.pdf"),
        (["--percentiles", "1"], "--percentiles '1' is not understood"),
        (["--percentiles", "9,1"], "the smaller first"),
        (["--time", "7"], "selects nothing"),
        (["--no-projections", "--no-layout"], "leave one of them"),
    ],
)
def test_commands_that_cannot_be(
    tiles: npy2bdv.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["preview", str(tiles.path), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
