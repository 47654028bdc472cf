"""A scene of points is 'imaged' by small simulators of microscopes, written, and found again in the world.

The simulators are plain numpy and know nothing of the code under test: each says at which pixel a point of the stage's
space appears.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

import npy2bdv
from npy2bdv.errors import InvalidInputError, MissingKeyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Points = NDArray[np.float64]
    Imaging = Callable[[Points], Points]

SHAPE = (7, 12, 15)  # z, y, x
VOXEL: Points = np.array([0.4, 0.5, 1.1])  # x, y, z
SMALLEST = 0.4
TILE = (24, 40, 48)
TILE_VOXEL: Points = np.array([0.25, 0.25, 0.5])
SIZE: Points = np.array(SHAPE[::-1], float)
STAGE: Points = np.array([1234.567, -89.1, 12.25])


def scene() -> Points:
    """Points (x, y, z) in micrometres, around where the stage is."""
    rng = np.random.default_rng(5)
    return STAGE + rng.uniform(-20, 30, (40, 3))


def about(axis: int, degrees: float) -> Points:
    """A right-handed rotation, from its definition."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    angle = math.radians(degrees)
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
    return matrix


def plain(points: Points) -> Points:
    """The camera looks along the axes of the stage; pixel 0 is where the stage is."""
    return (points - STAGE) / VOXEL


def centred(points: Points) -> Points:
    """The middle of the stack is where the stage is."""
    return (points - STAGE) / VOXEL + (SIZE - 1) / 2


def flipped(points: Points) -> Points:
    """The camera's x runs against the stage, and z, too: the image covers the same place."""
    pixels = (points - STAGE) / VOXEL
    pixels[:, 0] = SIZE[0] - 1 - pixels[:, 0]
    pixels[:, 2] = SIZE[2] - 1 - pixels[:, 2]
    return pixels


def transposed(points: Points) -> Points:
    """The camera's x sees the stage's y."""
    return (points - STAGE)[:, [1, 0, 2]] / VOXEL


def transposed_and_flipped(points: Points) -> Points:
    """After transposition the image's x (which is the camera's y) runs against the stage."""
    away = points - STAGE
    away[:, 0] = (SIZE[1] - 1) * VOXEL[1] - away[:, 0]
    return away[:, [1, 0, 2]] / VOXEL


def camera_turned(points: Points) -> Points:
    """The camera's x axis lies 30 degrees from the stage's, towards y; the middle of the image is not moved by it."""
    middle = (SIZE - 1) / 2 * VOXEL
    away = points - STAGE - middle
    x_axis = np.array([math.cos(math.pi / 6), math.sin(math.pi / 6), 0])
    y_axis = np.array([-math.sin(math.pi / 6), math.cos(math.pi / 6), 0])
    return (np.stack([away @ x_axis, away @ y_axis, away[:, 2]], axis=1) + middle) / VOXEL


def scanned(angle: float, axis: int, direction: int) -> Imaging:
    """A tilted sheet, while the stage steps along its x or y.

    Plane k is taken when the scan has gone k steps along the stage's axis (`direction` times). In the plane, the
    tilted axis of the camera leaves the axis of the scan by `angle`, into the depth.
    """
    other = 1 - axis
    step = VOXEL[2] / math.sin(math.radians(angle))

    def imaging(points: Points) -> Points:
        away = points - STAGE
        # along - depth: the camera's tilted axis points to -z as the scan has the sheet fall behind
        depth = -direction * away[:, 2]
        tilted = depth / math.sin(math.radians(angle))
        scan = away[:, axis] - tilted * math.cos(math.radians(angle))
        pixels = np.empty_like(points)
        pixels[:, axis] = tilted / VOXEL[axis]
        pixels[:, other] = away[:, other] / VOXEL[other]
        pixels[:, 2] = direction * scan / step
        return pixels

    return imaging


def sheared(points: Points) -> Points:
    """The same, in the frame of the camera: z is the axis of detection, planes shift along y."""
    away = points - STAGE
    k = away[:, 2] / VOXEL[2]
    step = VOXEL[2] / math.sin(math.radians(45))
    away[:, 1] -= k * step * math.cos(math.radians(45))
    return away / VOXEL


PROFILES: dict[str, tuple[Imaging, dict[str, Any]]] = {
    "plain": (plain, {}),
    "millimetres": (plain, {"stage_position_xyz": STAGE / 1000, "stage_unit": "mm"}),
    "centre": (centred, {"stage_position_of": "centre"}),
    "flip": (flipped, {"flip_xyz": (True, False, True)}),
    "transposition": (transposed, {"transpose_xy": True}),
    "transposition and flip": (
        transposed_and_flipped,
        {"transpose_xy": True, "flip_xyz": (True, False, False)},
    ),
    "camera": (camera_turned, {"camera_rotation": 30}),
    "opm": (scanned(30, 1, 1), {"deskew": npy2bdv.Deskew(angle=30)}),
    "opm, other way": (scanned(31.8, 1, -1), {"deskew": npy2bdv.Deskew(angle=31.8, direction=-1)}),
    "dispim": (
        scanned(45, 0, 1),
        {"deskew": npy2bdv.Deskew(angle=45, axis="x", step=1.1 * math.sqrt(2))},
    ),
    "dispim, other way": (scanned(45, 0, -1), {"deskew": npy2bdv.Deskew(angle=45, axis="x", direction=-1)}),
    "shear alone": (sheared, {"deskew": npy2bdv.Deskew(angle=45, turn=False)}),
}


def world_of_xml(path: Path, setup: int = 0, time: int = 0) -> tuple[Points, Points, list[str]]:
    """Multiply the numbers of an XML by numpy alone: linear part, offset, names from outermost to innermost."""
    node = ElementTree.parse(path).find(f".//ViewRegistration[@timepoint='{time}'][@setup='{setup}']")
    assert node is not None
    total, names = np.eye(4), []
    for each in node.findall("ViewTransform"):
        matrix = np.array(each.findtext("affine", "").split(), float).reshape(3, 4)
        total = total @ np.vstack([matrix, [0, 0, 0, 1]])
        names.append(each.findtext("Name", ""))
    return total[:3, :3], total[:3, 3], names


def write_modern(path: Path, terms: dict[str, Any]) -> None:
    with npy2bdv.create(path) as writer:
        setup = writer.add_setup(
            shape=SHAPE, voxel_size_xyz=VOXEL.tolist(), **{"stage_position_xyz": STAGE.tolist(), **terms}
        )
        writer.write(np.ones(SHAPE, "uint16"), setup=setup)


def write_classic(path: Path, terms: dict[str, Any]) -> None:
    with npy2bdv.BdvWriter(path.with_suffix(".h5")) as writer:
        writer.append_view(
            np.ones(SHAPE, "uint16"),
            voxel_size_xyz=VOXEL.tolist(),
            voxel_units="um",
            **{"stage_position_xyz": STAGE.tolist(), **terms},
        )
        writer.write_xml()


@pytest.mark.parametrize("write", [write_modern, write_classic])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_point_is_found_where_it_is(
    tmp_path: Path, profile: str, write: Callable[[Path, dict[str, Any]], None]
) -> None:
    imaging, terms = PROFILES[profile]
    path = tmp_path / "scan.xml"
    write(path, terms)
    points = scene()
    pixels = imaging(points.copy())
    linear, offset, names = world_of_xml(path)
    assert (names[0], names[-1]) == ("stage position", "calibration")
    np.testing.assert_allclose((pixels @ linear.T + offset) * SMALLEST, points, rtol=0, atol=1e-9)
    with npy2bdv.open(path) as dataset:
        view = dataset.view()
        np.testing.assert_allclose(view.pixel_to_world(pixels) * SMALLEST, points, rtol=0, atol=1e-9)
        np.testing.assert_allclose(view.pixel_to_stage(pixels), points, rtol=0, atol=1e-9)
        np.testing.assert_allclose(view.stage_to_pixel(points), pixels, rtol=0, atol=1e-9)
        assert view.stage_position_xyz == tuple(STAGE)
        tile: Any = dataset.spimdata.attributes["tile"].entities[0]
        assert tile.location_xyz == tuple(STAGE)


def test_a_sample_that_was_turned_is_turned_back(tmp_path: Path) -> None:
    """The sample turns with its points about a vertical axis of the stage; each angle finds them where they were."""
    axis_at = (1240.0, -80.0, 10.0)
    points = scene()
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        for angle in (0, 45, 90, 270):
            writer.write(
                np.ones(SHAPE, "uint16"),
                setup=writer.add_setup(
                    shape=SHAPE,
                    voxel_size_xyz=VOXEL.tolist(),
                    angle=str(angle),
                    stage_position_xyz=STAGE.tolist(),
                    sample_rotation=npy2bdv.SampleRotation(axis="y", degrees=angle, about_xyz=axis_at),
                ),
            )
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        for setup, angle in enumerate((0, 45, 90, 270)):
            now = (points - axis_at) @ about(
                1, angle
            ).T + axis_at  # where the sample's points are while imaged
            pixels = (now - STAGE) / VOXEL
            view = dataset.view(angle=str(angle))
            linear, offset, _ = world_of_xml(tmp_path / "scan.xml", setup)
            np.testing.assert_allclose((pixels @ linear.T + offset) * SMALLEST, points, atol=1e-9)
            np.testing.assert_allclose(view.pixel_to_world(pixels) * SMALLEST, points, atol=1e-9)
            np.testing.assert_allclose(view.pixel_to_stage(pixels), now, atol=1e-9)  # where to drive now
            entity: Any = dataset.spimdata.entity("angle", view.setup)
            assert (entity.axis_xyz, entity.degrees) == ((0.0, 1.0, 0.0), angle)
    text = (tmp_path / "scan.xml").read_text("utf-8")
    assert "<degrees>270.0</degrees>" in text


def test_by_itself_the_view_turns_about_its_centre(tmp_path: Path) -> None:
    write_modern(tmp_path / "scan.xml", {"sample_rotation": ("z", 30)})
    linear, offset, names = world_of_xml(tmp_path / "scan.xml")
    assert names == ["sample rotation", "stage position", "calibration"]
    middle = (SIZE - 1) / 2
    np.testing.assert_allclose(linear @ middle + offset, (STAGE + middle * VOXEL) / SMALLEST)
    np.testing.assert_allclose(linear, about(2, -30) @ np.diag(VOXEL) / SMALLEST, atol=1e-12)


def test_upright_images_lie_as_the_camera_took_them(tmp_path: Path) -> None:
    """As programs do that reverse the sign of the stage: images are not mirrored, tiles keep their places."""
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        for tile, x in enumerate((0.0, 5.0)):
            setup = writer.add_setup(
                shape=SHAPE,
                voxel_size_xyz=VOXEL.tolist(),
                tile=tile,
                stage_position_xyz=(x, 0, 0),
                flip_xyz=(True, False, False),
                upright=True,
            )
            writer.write(np.ones(SHAPE, "uint16"), setup=setup)
    first, second = (world_of_xml(tmp_path / "scan.xml", setup) for setup in (0, 1))
    np.testing.assert_allclose(first[0], np.diag(VOXEL) / SMALLEST)
    np.testing.assert_allclose((second[1] - first[1]) * SMALLEST, (-5, 0, 0), atol=1e-12)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        view = dataset.view(tile=1)
        assert view.stage_position_xyz == (5.0, 0.0, 0.0)
        # the last pixel of a line is nearest to the stage's zero, since x runs against it
        np.testing.assert_allclose(view.pixel_to_stage((SIZE[0] - 1, 0, 0)), (5, 0, 0), atol=1e-12)
        locations = [e.location_xyz for e in dataset.spimdata.attributes["tile"].entities.values()]  # type: ignore[attr-defined]
        assert locations == [(0.0, 0.0, 0.0), (-5.0, 0.0, 0.0)]


def test_both_arms_of_a_dispim_see_one_world(tmp_path: Path) -> None:
    """x of the cameras points down, to the right in arm A and to the left in arm B; the stage steps along x."""
    pixel, step, half = 0.2, 0.3, math.sqrt(0.5)
    arms = [((half, 0, -half), 1, (False, False, False)), ((-half, 0, -half), -1, (True, False, True))]
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        for arm, (_, direction, flips) in enumerate(arms):
            setup = writer.add_setup(
                shape=SHAPE,
                angle=arm,
                voxel_size_xyz=(pixel, pixel, step * half),
                deskew=npy2bdv.Deskew(angle=45, step=step, axis="x", direction=1 if direction == 1 else -1),
                flip_xyz=flips,
                stage_position_xyz=(0, 0, 0),
            )
            writer.write(np.ones(SHAPE, "uint16"), setup=setup)
    for arm, (down, _, _) in enumerate(arms):
        linear, _, _ = world_of_xml(tmp_path / "scan.xml", arm)
        seen = np.stack([pixel * np.array(down), (0, pixel, 0), (step, 0, 0)], axis=1)
        np.testing.assert_allclose(linear * pixel, seen, atol=1e-12)


def test_drift_of_each_time_point(tmp_path: Path) -> None:
    drift = [(10.1, 20.2, 0.3), (10.15, 20.21, 0.33), (9.87, 20.4, 0.1 + 0.2)]
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        setup = writer.add_setup(shape=SHAPE, voxel_size_xyz=VOXEL.tolist(), flip_xyz=(True, False, False))
        for time, place in enumerate(drift):
            writer.write(np.ones(SHAPE, "uint16"), setup=setup, time=time, stage_position_xyz=place)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        for time, place in enumerate(drift):
            view = dataset.view(time=time)
            assert [t.name for t in view.transforms] == ["stage position", "flip", "calibration"]
            assert view.stage_position_xyz == place
    with npy2bdv.create(
        tmp_path / "scan.xml", mode="a"
    ) as writer:  # a later session knows the flip by the XML
        setup = writer.add_setup(shape=SHAPE)
        writer.write(np.ones(SHAPE, "uint16"), setup=setup, time=3, stage_position_xyz=(1.1, 2.2, 3.3))
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        view = dataset.view(time=3)
        assert [t.name for t in view.transforms] == ["stage position", "flip", "calibration"]
        assert view.stage_position_xyz == (1.1, 2.2, 3.3)


def test_a_stack_of_unknown_length_is_flipped_by_the_length_it_gets(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        setup = writer.add_setup(
            shape=(None, 12, 15),
            voxel_size_xyz=VOXEL.tolist(),
            flip_xyz=(True, False, True),
            stage_position_xyz=STAGE.tolist(),
        )
        with writer.stream(setup=setup) as view:
            for _ in range(SHAPE[0]):
                view.append(np.ones((12, 15), "uint16"))
    points = scene()
    linear, offset, _ = world_of_xml(tmp_path / "scan.xml")
    np.testing.assert_allclose((flipped(points.copy()) @ linear.T + offset) * SMALLEST, points, atol=1e-9)


def test_positions_with_all_digits_come_back(tmp_path: Path) -> None:
    """The tile's location holds the very number, whatever the unit of the world is."""
    rng = np.random.default_rng(9)
    places = [tuple(place) for place in rng.uniform(-1e5, 1e5, (20, 3)).tolist()]
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        for tile, place in enumerate(places):
            setup = writer.add_setup(
                shape=(1, 2, 2), tile=tile, voxel_size_xyz=(0.1083, 0.1083, 0.3), stage_position_xyz=place
            )
            writer.write(np.ones((1, 2, 2), "uint16"), setup=setup)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        assert [view.stage_position_xyz for view in dataset] == places


@pytest.mark.parametrize("form", ["hdf5", "n5", "omezarr"])
def test_places_outlive_a_conversion_and_a_crop(tmp_path: Path, form: Any) -> None:
    source, path = tmp_path / "source.xml", tmp_path / "scan.xml"
    write_modern(source, {"flip_xyz": (True, False, False)})
    npy2bdv.resave(source, path, format=form)
    points = np.array([(3.0, 4.0, 5.0), (12.0, 1.0, 6.0)])
    with npy2bdv.open(path) as dataset:
        before = dataset.view().pixel_to_stage(points)
        assert dataset.view().stage_position_xyz == tuple(STAGE)
    with npy2bdv.edit(path) as editor:
        editor.crop(((2, None), (1, None), (3, 14)))
    with npy2bdv.open(path) as dataset:
        view = dataset.view()
        np.testing.assert_allclose(view.pixel_to_stage(points - [3, 1, 2]), before, atol=1e-9)
        level = view.level(0)
        np.testing.assert_allclose(level.pixel_to_stage(points - [3, 1, 2]), before, atol=1e-9)
    if form == "omezarr":
        said = "".join(each.read_text("utf-8") for each in tmp_path.rglob(".zattrs"))
        assert '"micrometer"' in said


# -- the same place, seen by two tiles ---------------------------------------------------------------------


def texture(points: Points) -> Points:
    """A smooth scene: brightness at points (x, y, z) in micrometres."""
    x, y, z = np.moveaxis(points, -1, 0)
    bright: Points = (
        1000 + 400 * np.sin(x / 1.7 + y / 3.1) + 300 * np.cos(y / 2.3 - z / 4.7) + 200 * np.sin(z / 3.9)
    )
    return bright


def interpolated(stack: Points, pixels: Points) -> Points:
    """Trilinear interpolation at pixels (x, y, z) that lie inside."""
    places = pixels[:, ::-1]
    low: Any = np.clip(np.floor(places).astype(int), 0, np.array(stack.shape) - 2)
    rest = places - low
    found = np.zeros(len(pixels))
    for corner in itertools.product((0, 1), repeat=3):
        weight = np.prod(np.where(corner, rest, 1 - rest), axis=1)
        found += weight * stack[tuple((low + corner).T)]
    return found


OVERLAPS: dict[str, tuple[dict[str, Any], Callable[[Points, Points], Points]]] = {
    "tiles": ({}, lambda pixels, at: pixels * TILE_VOXEL + at),
    "flipped": (
        {"flip_xyz": (True, False, False)},
        lambda pixels, at: (np.array([TILE[2] - 1, 0, 0]) + pixels * [-1, 1, 1]) * TILE_VOXEL + at,
    ),
    "deskew": (
        {"deskew": npy2bdv.Deskew(angle=45, turn=False)},
        lambda pixels, at: (pixels * TILE_VOXEL) @ np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1.0]]) + at,
    ),
}


@pytest.mark.parametrize("profile", OVERLAPS)
def test_overlapping_tiles_coincide_at_every_level(tmp_path: Path, profile: str) -> None:
    terms, to_stage = OVERLAPS[profile]
    z, y, x = np.indices(TILE)
    pixels = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(float)
    places = list(
        npy2bdv.grid(2, 1, shape=TILE, voxel_size_xyz=TILE_VOXEL.tolist(), overlap=0.4, start_xyz=(3, 4, 5))
    )
    with npy2bdv.create(tmp_path / "scan.xml", levels=((1, 1, 1), (1, 2, 2), (2, 4, 4))) as writer:
        for tile, place in enumerate(places):
            setup = writer.add_setup(
                shape=TILE, tile=tile, voxel_size_xyz=TILE_VOXEL.tolist(), stage_position_xyz=place, **terms
            )
            stack = texture(to_stage(pixels, np.array(place))).reshape(TILE)
            writer.write(np.round(stack).astype("uint16"), setup=setup)
    rng = np.random.default_rng(1)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        boxes = [dataset.view(tile=tile).bounding_box() for tile in (0, 1)]
        low = np.max([box.min_xyz for box in boxes], axis=0)
        high = np.min([box.max_xyz for box in boxes], axis=0)
        world = rng.uniform(low, high, (20000, 3))
        for level in range(3):
            seen = []
            for tile in (0, 1):
                image = dataset.view(tile=tile).level(level)
                there = image.world_to_pixel(world)
                seen.append((image, there))
            sizes = [np.array(image.shape[::-1]) for image, _ in seen]
            inside = np.all(
                [(p >= 0) & (p <= size - 1) for (_, p), size in zip(seen, sizes, strict=True)], axis=(0, 2)
            )
            assert inside.sum() > 500
            one, two = (interpolated(image[...].astype(float), there[inside]) for image, there in seen)
            truth = texture(world[inside] * 0.25)
            assert np.corrcoef(one, two)[0, 1] > 0.995
            assert np.corrcoef(one, truth)[0, 1] > 0.995
            # means over pixels are a little flatter than the scene, but nowhere shifted
            assert np.abs(one - two).mean() < 20
            assert np.abs(one - truth).mean() < 25


def test_a_shift_of_half_a_coarse_pixel_would_be_seen(tmp_path: Path) -> None:
    """The bound above is not met by levels that lie half a pixel off."""
    x = np.linspace(0, 8, 3000)
    points = np.stack([x, np.full_like(x, 4.0), np.full_like(x, 4.0)], axis=1)
    assert np.abs(texture(points) - texture(points + np.array([0.375, 0.375, 0.25]))).mean() > 25


# -- what is refused -----------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], str]] = [
    ({"stage_position_xyz": (1, 2)}, "three finite numbers"),
    ({"stage_position_xyz": (1, 2, math.nan)}, "three finite numbers"),
    ({"stage_position_xyz": (1, 2, 3), "stage_unit": "furlong"}, "'furlong' cannot be brought into"),
    ({"stage_position_xyz": (1, 2, 3), "stage_unit": "px"}, "'px' cannot be brought into"),
    ({"stage_position_xyz": (1, 2, 3), "stage_position_of": "middle"}, "'corner' or 'centre'"),
    ({"flip_xyz": True}, "does not say which axes"),
    ({"flip_xyz": (True, False)}, "three of True and False"),
    ({"flip_xyz": (1, -1, 1)}, "three of True and False"),
    ({"camera_rotation": "left"}, "camera_rotation takes a finite number"),
    ({"sample_rotation": 30}, "give an axis and degrees"),
    ({"sample_rotation": ("w", 30)}, "there is no axis 'w'"),
    ({"deskew": 45}, "npy2bdv.Deskew"),
    ({"deskew": npy2bdv.Deskew(angle=30, step=1.1)}, "planes lie 0.55"),
]  # fmt: skip


@pytest.mark.parametrize(("terms", "message"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, terms: dict[str, Any], message: str
) -> None:
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        before = {each: each.stat().st_size for each in tmp_path.iterdir()}
        with pytest.raises(InvalidInputError, match=message):
            writer.add_setup(shape=SHAPE, voxel_size_xyz=VOXEL.tolist(), **terms)
        assert not writer.setups
        assert {each: each.stat().st_size for each in tmp_path.iterdir()} == before
    with npy2bdv.BdvWriter(tmp_path / "classic.h5") as classic:
        with pytest.raises(InvalidInputError, match=message):
            classic.append_view(
                np.ones(SHAPE, "uint16"), voxel_size_xyz=VOXEL.tolist(), voxel_units="um", **terms
            )
        assert not classic._writer.views
        assert not list(classic._file_object_h5)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"angle": 0}, "0 degrees; it is that between sheet and scan"),
        ({"angle": 200}, "200 degrees"),
        ({"angle": 45, "axis": "z"}, "'x' or 'y'"),
        ({"angle": 45, "direction": 0}, "1 or -1"),
        ({"angle": 45, "step": -1}, "above 0"),
    ],
)
def test_a_deskew_that_cannot_be(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        npy2bdv.Deskew(**terms)


def test_two_ways_to_place_a_view_are_not_mixed(tmp_path: Path) -> None:
    move = np.eye(4)
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        with pytest.raises(InvalidInputError, match="not by both"):
            writer.add_setup(shape=SHAPE, transform=move, stage_position_xyz=(1, 2, 3))
        with pytest.raises(InvalidInputError, match="calibration follows from the voxel size"):
            writer.add_setup(shape=SHAPE, calibration=move, stage_position_xyz=(1, 2, 3))
        placed = writer.add_setup(shape=SHAPE, stage_position_xyz=(1, 2, 3))
        given = writer.add_setup(shape=SHAPE, tile=1, transform=move)
        bare = writer.add_setup(shape=SHAPE, tile=2, calibration=None)
        stack = np.ones(SHAPE, "uint16")
        with pytest.raises(InvalidInputError, match="would replace all of that"):
            writer.write(stack, setup=placed, transform=move)
        with pytest.raises(InvalidInputError, match="not by both"):
            writer.write(stack, setup=placed, transform=move, stage_position_xyz=(1, 2, 3))
        with pytest.raises(InvalidInputError, match="placed by the transforms that it was given"):
            writer.write(stack, setup=given, stage_position_xyz=(1, 2, 3))
        with pytest.raises(InvalidInputError, match="has no calibration"):
            writer.write(stack, setup=bare, stage_position_xyz=(1, 2, 3))
        assert not writer.views
    with npy2bdv.BdvWriter(tmp_path / "classic.h5") as classic:
        with pytest.raises(InvalidInputError, match="not by both"):
            classic.append_view(stack, m_affine=move, stage_position_xyz=(1, 2, 3))
        with pytest.raises(InvalidInputError, match="does not fit to voxels"):
            classic.append_view(
                stack, voxel_size_xyz=(1, 1, 2), calibration=(1, 1, 3), stage_position_xyz=(1, 2, 3)
            )
        assert not classic._writer.views


def test_one_angle_has_one_rotation(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        writer.add_setup(shape=SHAPE, sample_rotation=("y", 90))
        with pytest.raises(InvalidInputError, match="give each rotation an angle= of its own"):
            writer.add_setup(shape=SHAPE, channel=1, sample_rotation=("y", 180))
        writer.add_setup(shape=SHAPE, channel=1, sample_rotation=("y", 90))


def test_a_view_without_a_position_says_so(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        writer.write(np.ones(SHAPE, "uint16"), setup=writer.add_setup(shape=SHAPE))
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        assert dataset.view().stage_position_xyz is None
        with pytest.raises(MissingKeyError, match="not known where the stage was"):
            dataset.view().pixel_to_stage((0, 0, 0))


# -- one unit of the world -----------------------------------------------------------------------------------


def test_setups_in_other_units_are_brought_into_the_first(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        sizes = [
            ((0.5, 0.5, 2), "µm"),
            ((250, 250, 1000), "nm"),
            ((0.25, 0.25, 1), None),
            ((1e-3,) * 3, "mm"),
        ]
        for tile, (size, unit) in enumerate(sizes):
            setup = writer.add_setup(
                shape=SHAPE, tile=tile, voxel_size_xyz=size, unit=unit, stage_position_xyz=(1, 2, 3)
            )
            writer.write(np.ones(SHAPE, "uint16"), setup=setup)
        for unit in ("px", "furlong"):
            with pytest.raises(InvalidInputError, match=f"in '{unit}', other setups .* in 'µm'"):
                writer.add_setup(shape=SHAPE, tile=9, voxel_size_xyz=(1, 1, 1), unit=unit)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        found = [(view.voxel_size_xyz, view.unit, view.stage_position_xyz) for view in dataset]
    assert found == [
        ((0.5, 0.5, 2.0), "µm", (1.0, 2.0, 3.0)),
        ((0.25, 0.25, 1.0), "µm", (0.001, 0.002, 0.003)),
        ((0.25, 0.25, 1.0), "µm", (1.0, 2.0, 3.0)),
        ((1.0, 1.0, 1.0), "µm", (1000.0, 2000.0, 3000.0)),
    ]
    # a voxel of the first is two units of the world, one of the second one
    np.testing.assert_array_equal(world_of_xml(tmp_path / "scan.xml", 0)[0], np.diag([2, 2, 8]))
    np.testing.assert_array_equal(world_of_xml(tmp_path / "scan.xml", 1)[0], np.diag([1, 1, 4]))
