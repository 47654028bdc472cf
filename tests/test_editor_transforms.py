"""Edits of transforms against a plain model of lists, on selections of all kinds; what cannot be right is refused."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import npy2bdv
from npy2bdv import Affine, ViewId, ViewTransform, xml
from npy2bdv.errors import FormatError, InvalidInputError, MissingKeyError
from npy2bdv.model.spimdata import (
    AttributeGroup,
    Channel,
    Element,
    Entity,
    Hdf5Loader,
    PathRef,
    SpimData,
    Tile,
    Timepoints,
    ViewRegistration,
    ViewSetup,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMES, SETUPS = (0, 1, 3), (0, 2, 5, 6)
MISSING = {ViewId(1, 2), ViewId(3, 6)}
VIEWS = [ViewId(time, setup) for time in TIMES for setup in SETUPS if (time, setup) not in MISSING]
CHANNELS = {0: 0, 2: 0, 5: 1, 6: 1}
TILES = {0: 7, 2: 8, 5: 7, 6: 8}
CALIBRATION = ViewTransform(affine=Affine.scale((1, 1, 2.5)), name="calibration")

Model = dict[ViewId, list[tuple[str | None, tuple[float, ...]]]]


def dataset() -> SpimData:
    """Time points and setups with gaps, two views missing, one setup without transforms, values without a name."""
    return SpimData(
        loader=Hdf5Loader(path=PathRef(text="nowhere.h5")),
        setups={
            setup: ViewSetup(
                id=setup,
                size_xyz=(5, 4, 3),
                attributes={"channel": CHANNELS[setup], "tile": TILES[setup], "camera": setup % 2},
            )
            for setup in SETUPS
        },
        attributes={
            "channel": AttributeGroup(
                name="channel", entities={0: Channel(id=0, name="488"), 1: Channel(id=1, name="0")}
            ),
            "tile": AttributeGroup(name="tile", entities={7: Tile(id=7), 8: Tile(id=8, name="right")}),
            "camera": AttributeGroup(name="camera", entities={0: Entity(id=0), 1: Entity(id=1, name="B")}),
        },
        timepoints=Timepoints.of(TIMES),
        missing=frozenset(MISSING),
        registrations={view: ViewRegistration(transforms=(CALIBRATION,)) for view in VIEWS if view.setup},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scan.xml"
    path.write_bytes(xml.serialise(dataset()))
    return path


@pytest.fixture
def editor(path: Path) -> Iterator[npy2bdv.Editor]:
    with npy2bdv.edit(path) as editor:
        yield editor
        editor.discard()


def on_disk(path: Path) -> Model:
    """Return what an XML says of transforms, read without us."""
    found: Model = {}
    for registration in ElementTree.parse(path).iter("ViewRegistration"):
        view = ViewId(int(registration.attrib["timepoint"]), int(registration.attrib["setup"]))
        found[view] = [
            (node.findtext("Name"), tuple(map(float, (node.findtext("affine") or "").split())))
            for node in registration.findall("ViewTransform")
        ]
    return found


# -- a model ---------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "calibration"])
NUMBERS = st.floats(-8, 8, allow_nan=False).map(lambda number: number / 3)
AFFINES = st.builds(
    lambda shift, scale: Affine.translation(shift) @ Affine.scale(scale),
    st.tuples(NUMBERS, NUMBERS, NUMBERS),
    st.tuples(*[st.sampled_from([-1.5, 0.1, 1, 3e7])] * 3),
)
WHICH = NAMES | st.integers(-3, 3)
WHERE = st.fixed_dictionaries(
    {},
    optional={
        "time": st.sampled_from([0, [1, 3], range(1, 9), slice(1)]),
        "setup": st.sampled_from([5, [0, 5], range(2, 6)]),
        "channel": st.sampled_from([0, "488", "0"]),
        "tile": st.sampled_from(["7", "right", [7, 8]]),
    },
) | st.fixed_dictionaries({"view": st.sampled_from([(0, 0), ViewId(3, 5), [(0, 2), (1, 5)]])})
EDITS = st.one_of(
    st.tuples(st.just("insert"), AFFINES, NAMES, st.sampled_from(["outermost", "innermost", None]), WHERE),
    st.tuples(st.just("beside"), AFFINES, NAMES, st.booleans(), WHICH, WHERE),
    st.tuples(st.just("replace"), WHICH, AFFINES, NAMES | st.none(), WHERE),
    st.tuples(st.just("remove"), WHICH, WHERE),
    st.tuples(st.just("rename"), WHICH, NAMES, WHERE),
    st.tuples(st.just("compose"), NAMES, WHERE),
)


class Refused(Exception):
    """The model says that the edit is to be refused."""


def fits(view: ViewId, where: dict[str, Any]) -> bool:
    """Tell whether a view is selected, the slow way."""
    if "view" in where:
        asked = where["view"]
        return view in (asked if isinstance(asked, list) else [asked])

    def one_of(value: object, *names: object) -> bool:
        if isinstance(value, slice):
            return view.time in range(value.start or 0, value.stop)
        return any(name in (value if isinstance(value, list | range) else [value]) for name in names)

    channel, tile = CHANNELS[view.setup], TILES[view.setup]
    return (
        one_of(where.get("time", view.time), view.time)
        and one_of(where.get("setup", view.setup), view.setup)
        and one_of(where.get("channel", channel), channel, {0: "488", 1: "0"}[channel])
        and one_of(where.get("tile", tile), tile, {7: "7", 8: "right"}[tile])
    )


def place_of(which: str | int, transforms: list[tuple[str | None, tuple[float, ...]]]) -> int | None:
    if isinstance(which, int):
        return which % len(transforms) if -len(transforms) <= which < len(transforms) else None
    places = [place for place, (name, _) in enumerate(transforms) if name == which]
    if len(places) > 1:
        raise Refused
    return places[0] if places else None


def applied(model: Model, edit: tuple[Any, ...]) -> Model:
    """Return the model after an edit."""
    what, *arguments, where = edit
    views = [view for view in VIEWS if fits(view, where)]
    if not views:
        raise Refused
    new = {view: list(transforms) for view, transforms in model.items()}
    touched = 0
    for view in views:
        transforms = new.setdefault(view, [])
        if what == "insert":
            affine, name, at = arguments
            transforms.insert(len(transforms) if at == "innermost" else 0, (name, affine.values))
        elif what == "beside":
            affine, name, behind, which = arguments
            place = place_of(which, transforms)
            if place is None:
                raise Refused
            transforms.insert(place + behind, (name, affine.values))
        elif what == "compose":
            if not transforms:
                continue
            matrix = np.eye(4)
            for _, values in transforms:
                matrix = matrix @ np.vstack((np.reshape(values, (3, 4)), (0, 0, 0, 1)))
            transforms[:] = [(arguments[0], tuple(matrix[:3].ravel()))]
        else:
            place = place_of(arguments[0], transforms)
            if place is None:
                continue
            name, values = transforms[place]
            if what == "remove":
                del transforms[place]
            elif what == "rename":
                transforms[place] = (arguments[1], values)
            else:
                transforms[place] = (arguments[2] or name, arguments[1].values)
        touched += 1
    if not touched:
        raise Refused
    # a view that no edit touched gets no element
    return {view: transforms for view, transforms in new.items() if transforms or view in model}


def call(editor: npy2bdv.Editor, edit: tuple[Any, ...]) -> None:
    what, *arguments, where = edit
    match what:
        case "insert":
            affine, name, at = arguments
            editor.insert_transform(affine, name=name, at=at, **where)
        case "beside":
            affine, name, behind, which = arguments
            editor.insert_transform(affine, name=name, **{"after" if behind else "before": which}, **where)
        case "replace":
            which, affine, name = arguments
            editor.replace_transform(which, affine, name=name, **where)
        case "remove":
            editor.remove_transform(arguments[0], **where)
        case "rename":
            editor.rename_transform(*arguments, **where)
        case "compose":
            editor.compose_transforms(name=arguments[0], **where)


def assert_same(found: Model, model: Model) -> None:
    found = {view: transforms for view, transforms in found.items() if transforms}
    model = {view: transforms for view, transforms in model.items() if transforms}
    assert {view: [name for name, _ in transforms] for view, transforms in found.items()} == {
        view: [name for name, _ in transforms] for view, transforms in model.items()
    }
    for view, transforms in found.items():
        for (_, values), (_, expected) in zip(transforms, model[view], strict=True):
            np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-9)


@settings(max_examples=80, deadline=None)
@given(st.lists(EDITS, min_size=1, max_size=8), st.booleans())
def test_any_sequence_of_edits_does_what_lists_do(
    edits: list[tuple[Any, ...]], commits_between: bool
) -> None:
    model: Model = {view: [("calibration", Affine.scale((1, 1, 2.5)).values)] for view in VIEWS if view.setup}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.xml"
        path.write_bytes(xml.serialise(dataset()))
        with npy2bdv.edit(path) as editor:
            for edit in edits:
                before = editor.data
                try:
                    expected = applied(model, edit)
                except Refused:
                    n_changes = len(editor.preview().changes)
                    with pytest.raises((MissingKeyError, InvalidInputError)):
                        call(editor, edit)
                    assert editor.data == before
                    assert len(editor.preview().changes) == n_changes
                    continue
                snapshot = dict(before.registrations)
                call(editor, edit)
                assert before.registrations == snapshot, "a value that was handed out has changed"
                model = expected
                assert_same(
                    {
                        view: [(each.name, each.affine.values) for each in transforms if each.affine]
                        for view, transforms in editor.transforms().items()
                    },
                    model,
                )
                if commits_between:
                    editor.commit()
                    assert_same(on_disk(path), model)
        assert_same(on_disk(path), model)


@given(WHERE)
def test_every_selection_is_what_a_slow_search_finds(where: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.xml"
        path.write_bytes(xml.serialise(dataset()))
        with npy2bdv.edit(path) as editor:
            expected = [view for view in VIEWS if fits(view, where)]
            if expected:
                assert list(editor.transforms(**where)) == expected
            else:
                with pytest.raises(MissingKeyError, match="the dataset has"):
                    editor.transforms(**where)


# -- what is taken for a transform -----------------------------------------------------------------------

TURN = Rotation.from_euler("xyz", (10, 20, 30), degrees=True)
SHEAR = np.array([[1, 0.25, 0, 12.5], [0, 1, 0, 1.2e-7], [0, 0, 1, 1 / 3]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (SHEAR, SHEAR),
        (SHEAR.tolist(), SHEAR),
        (np.vstack((SHEAR, (0, 0, 0, 1))), SHEAR),
        (Affine.from_array(SHEAR), SHEAR),
        (SHEAR.astype("float32"), SHEAR.astype("float32").astype(float)),
        (TURN, np.column_stack((TURN.as_matrix(), np.zeros(3)))),
    ],
    ids=["3x4", "lists", "4x4", "Affine", "float32", "scipy"],
)
def test_every_digit_of_a_transform_is_kept(given: Any, expected: Any, path: Path) -> None:
    with npy2bdv.edit(path) as editor:
        editor.insert_transform(given, name="it", setup=5)
    for time in TIMES:
        name, values = on_disk(path)[ViewId(time, 5)][0]
        assert name == "it"
        assert np.reshape(values, (3, 4)).tolist() == expected.tolist()


BAD: dict[str, Any] = {
    "row 0, column 3": np.where(SHEAR == 12.5, np.nan, SHEAR),
    "holds inf": np.where(SHEAR == 12.5, np.inf, SHEAR),
    "is singular": np.diag([1, 0, 1, 1])[:3],
    r"shape \(3, 3\)": np.eye(3),
    r"shape \(4, 3\)": np.zeros((4, 3)),
    r"shape \(2, 3, 3\)": Rotation.from_rotvec([[0, 0, 1], [0, 1, 0]]),
    r"last row of the 4x4 affine is \[0.0, 0.0, 0.0, 2.0\]": 2 * np.eye(4),
    "rows differ in length": [[1, 2], [3]],
    "not real numbers": np.full((3, 4), "1"),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_no_transform_is_refused(message: str, editor: npy2bdv.Editor) -> None:
    with pytest.raises(InvalidInputError, match=message):
        editor.insert_transform(BAD[message])
    with pytest.raises(InvalidInputError, match=message):
        editor.replace_transform(0, BAD[message])
    assert not editor.changed


def test_a_singular_one_is_taken_by_force(path: Path) -> None:
    flat = np.diag([1.0, 0, 1, 1])[:3]
    with npy2bdv.edit(path) as editor:
        editor.insert_transform(flat, name="flat", force=True, view=(0, 5))
        editor.replace_transform("calibration", flat, force=True, view=(0, 5))
        with pytest.raises(InvalidInputError, match="holds nan"):
            editor.insert_transform(np.full((3, 4), np.nan), force=True)
    assert [values for _, values in on_disk(path)[ViewId(0, 5)]] == [tuple(flat.ravel())] * 2


REFUSALS: dict[str, tuple[type[Exception], Callable[[npy2bdv.Editor], object]]] = {
    "give one place": (InvalidInputError, lambda e: e.insert_transform(SHEAR, at="outermost", before=0)),
    "at='top' is not known": (InvalidInputError, lambda e: e.insert_transform(SHEAR, at="top")),  # type: ignore[arg-type]
    "cannot be written as XML": (InvalidInputError, lambda e: e.insert_transform(SHEAR, name="a\x00b")),
    "is a text; found 5": (InvalidInputError, lambda e: e.rename_transform(0, 5)),  # type: ignore[arg-type]
    "'drift'; they have 'calibration' \\(7 views\\)": (
        MissingKeyError,
        lambda e: e.remove_transform("drift"),
    ),
    "time 0, setup 0 has no transform 'calibration'; it has none": (
        MissingKeyError,
        lambda e: e.insert_transform(SHEAR, before="calibration"),
    ),
    "either view= or time=": (InvalidInputError, lambda e: e.transforms(view=(0, 0), time=0)),
    "give a pair": (InvalidInputError, lambda e: e.transforms(view="all")),
    "no view of time point 2, setup 0": (MissingKeyError, lambda e: e.transforms(view=(2, 0))),
    "time=2 selects nothing; the dataset has 0, 1, 3 as time points": (
        MissingKeyError,
        lambda e: e.transforms(time=2),
    ),
    r"setup=\[0, 1\] selects nothing; the dataset has 0, 2, 5, 6 as setups": (
        MissingKeyError,
        lambda e: e.transforms(setup=[0, 1]),
    ),
    "channel='561' selects nothing; the dataset has channel: 0 '488', 1 '0'": (
        MissingKeyError,
        lambda e: e.transforms(channel="561"),
    ),
    "there is no attribute 'colour'.* illumination, channel, tile, angle, camera": (
        MissingKeyError,
        lambda e: e.transforms(colour=1),
    ),
    "no setup has channel='488', setup=5": (MissingKeyError, lambda e: e.transforms(channel="488", setup=5)),
    "channel is a whole number, or a label": (InvalidInputError, lambda e: e.transforms(channel=1.5)),
    "selected by time=1, setup=2: what fits is missing": (
        MissingKeyError,
        lambda e: e.transforms(time=1, setup=2),
    ),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_bad_input_says_what_is_wrong_and_changes_nothing(message: str, editor: npy2bdv.Editor) -> None:
    kind, refused = REFUSALS[message]
    before = editor.data
    with pytest.raises(kind, match=message):
        refused(editor)
    assert not editor.changed
    assert editor.data is before


def test_attributes_of_any_name_select_by_id_or_label(editor: npy2bdv.Editor) -> None:
    assert {view.setup for view in editor.transforms(camera="B")} == {5}
    assert {view.setup for view in editor.transforms(camera=0)} == {0, 2, 6}
    assert {view.setup for view in editor.transforms(illumination=0)} == set(SETUPS)  # by convention 0
    assert {view.setup for view in editor.transforms(channel="0")} == {5, 6}  # a label, not an id


def test_views_of_an_open_dataset_select_themselves(path: Path, editor: npy2bdv.Editor) -> None:
    class View:
        def __init__(self, id_: ViewId) -> None:
            self.id = id_

    assert list(editor.transforms(view=View(ViewId(0, 5)))) == [ViewId(0, 5)]
    assert list(editor.transforms(view=[View(ViewId(3, 5)), (0, 5)])) == [ViewId(0, 5), ViewId(3, 5)]


def test_a_name_that_is_there_twice_needs_a_place(editor: npy2bdv.Editor) -> None:
    editor.insert_transform(SHEAR, name="calibration", view=(0, 5))
    with pytest.raises(InvalidInputError, match=r"time 0, setup 5 has 2 transforms.*places 0, 1"):
        editor.remove_transform("calibration")
    editor.remove_transform(-1, view=(0, 5))
    assert [each.affine for each in editor.transforms(view=(0, 5))[ViewId(0, 5)]] == [
        Affine.from_array(SHEAR)
    ]


def test_totals_are_products(editor: npy2bdv.Editor) -> None:
    editor.insert_transform(SHEAR)
    total = editor.totals(view=(0, 5))[ViewId(0, 5)]
    assert total == Affine.from_array(SHEAR) @ Affine.scale((1, 1, 2.5))
    editor.compose_transforms(name="all in one")
    assert editor.totals(view=(0, 5))[ViewId(0, 5)] == total
    assert [each.name for each in editor.transforms(view=(0, 5))[ViewId(0, 5)]] == ["all in one"]


def test_java_classes_are_kept_removed_and_not_computed_with(path: Path) -> None:
    java = Element(
        tag="ViewTransform",
        attributes=(("type", "generic"), ("class", "some.java.Class")),
        children=(Element(tag="Name", text="spline"), Element(tag="data", text="1 2 3")),
    )
    data = dataset()
    transforms = (CALIBRATION, ViewTransform(affine=None, name="spline", kept=java))
    path.write_bytes(
        xml.serialise(data.with_registration(ViewId(0, 5), ViewRegistration(transforms=transforms)))
    )
    with npy2bdv.edit(path) as editor:
        for refused in (editor.totals, editor.compose_transforms):
            with pytest.raises(FormatError, match="'spline' is not an affine but a Java class"):
                refused()
        with pytest.raises(InvalidInputError, match="Java class, which is kept"):
            editor.rename_transform("spline", "x")
        editor.insert_transform(SHEAR, name="mine", after="spline", view=(0, 5))
    nodes = ElementTree.parse(path).findall(".//ViewRegistration[@timepoint='0'][@setup='5']/ViewTransform")
    assert [node.findtext("Name") for node in nodes] == ["calibration", "spline", "mine"]
    assert nodes[1].attrib == dict(java.attributes)
    assert nodes[1].findtext("data") == "1 2 3"
    with npy2bdv.edit(path) as editor:
        editor.remove_transform("spline")
    nodes = ElementTree.parse(path).findall(".//ViewRegistration[@timepoint='0'][@setup='5']/ViewTransform")
    assert [node.findtext("Name") for node in nodes] == ["calibration", "mine"]


def test_the_preview_says_how_many_views_an_edit_is_for(editor: npy2bdv.Editor) -> None:
    editor.insert_transform(SHEAR, name="drift", time=0)
    editor.remove_transform("calibration")
    editor.rename_transform("drift", "stage", setup=5)
    assert editor.preview().changes == (
        "insert transform 'drift' outermost, [1 0.25 0 12.5 0 1 0 1.2e-07 0 0 1 0.333333]: "
        "4 views, time 0, setup 0 to time 0, setup 6",
        "remove transform 'calibration': 7 views, time 0, setup 2 to time 3, setup 5 (of 10 selected)",
        "rename transform 'drift' to 'stage': time 0, setup 5 (of 3 selected)",
    )
    assert str(editor.preview()).splitlines()[0] == "scan.xml, to be changed:"


# -- real datasets ---------------------------------------------------------------------------------------

REAL = (
    *(f"bigstitcher/bigstitcher_{number}.xml" for number in (0, 1, 4)),
    *(
        f"java/{name}/dataset.xml"
        for name in ("A_hdf5", "C_n5", "D_hdf5_float32", "G_hdf5_loopback", "H_n5_types")
    ),
    "java/C_n5/bigstitcher.xml",
    "kidney/kidney.xml",
    "kidney/kidney_v1.xml",
)


def flat(node: ElementTree.Element) -> tuple[Any, ...]:
    """Return an element with all that is in it, white space around texts apart."""
    return node.tag, node.attrib, (node.text or "").strip(), [flat(child) for child in node]


@pytest.mark.parametrize("name", REAL)
def test_all_else_in_real_xmls_stays_equal(name: str, real_data: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(real_data / name, tmp_path))
    with npy2bdv.edit(path) as editor:
        views = list(editor.transforms())
        editor.insert_transform(SHEAR, name="drift", at="outermost")
        editor.insert_transform(SHEAR, name="inner", at="innermost", view=views[-1])
        editor.replace_transform("drift", np.eye(4), view=views[0])
        editor.set_labels(
            "channel", {editor.data.setups[views[0].setup].attributes.get("channel", 0): "renamed"}
        )
    before, after = (ElementTree.parse(each).getroot() for each in (real_data / name, path))
    originals, edited = (
        {
            (each.attrib["timepoint"], each.attrib["setup"]): each.findall("ViewTransform")
            for each in root.iter("ViewRegistration")
        }
        for root in (before, after)
    )
    for view in views:
        key = (str(view.time), str(view.setup))
        new = [flat(each) for each in edited[key]]
        assert new[0][3][0][2] == "drift"
        assert [float(number) for number in new[0][3][1][2].split()] == (
            np.eye(4)[:3].ravel() if view == views[0] else SHEAR.ravel()
        ).tolist()
        kept = new[1:-1] if view == views[-1] else new[1:]
        for transform, original in zip(kept, originals.get(key, []), strict=True):
            assert transform[3][0][2] == (original.findtext("Name") or transform[3][0][2])
            numbers = [float(number) for number in (original.findtext("affine") or "").split()]
            assert [float(number) for number in transform[3][-1][2].split()] == numbers
    for path_tag in ("hdf5", "n5", "zarr", "BasePath"):
        # one was printed with white space around its path, which Java would take for a part of it
        assert [each.text for each in after.iter(path_tag)] == [
            (each.text or "").strip() for each in before.iter(path_tag)
        ]
    sections = {
        "ViewInterestPoints",
        "BoundingBoxes",
        "PointSpreadFunctions",
        "StitchingResults",
        "IntensityAdjustments",
    }
    assert [flat(node) for node in after if node.tag in sections] == [
        flat(node) for node in before if node.tag in sections
    ]
    assert {node.tag for node in after} >= {node.tag for node in before}
    labels = [node.text for node in after.iter("name") if node.text == "renamed"]
    assert labels == ["renamed"]


@pytest.mark.parametrize("folder", ["A_hdf5", "C_n5", "D_hdf5_float32", "G_hdf5_loopback", "H_n5_types"])
def test_pixels_of_java_datasets_are_where_they_were_and_nothing_gets_worse(
    folder: str, real_data: Path, tmp_path: Path
) -> None:
    """Every level of every view: the same pixels at the same places, moved by what was put on top."""
    copy = tmp_path / folder
    shutil.copytree(real_data / "java" / folder, copy)
    path = copy / "dataset.xml"

    def seen() -> dict[tuple[ViewId, int], tuple[Any, Any]]:
        with npy2bdv.open(path) as opened:
            return {
                (view.id, number): (level[...], np.asarray(level.transform))
                for view in opened
                for number, level in enumerate(view.levels())
            }

    findings = {each.code for each in npy2bdv.check(path).findings}
    before = seen()
    with npy2bdv.edit(path) as editor:
        editor.insert_transform(SHEAR, name="drift")
        editor.compose_transforms(time=0)
        editor.set_voxel_size((1, 2, 3), "nm")
    after = seen()
    assert after.keys() == before.keys()
    top = np.vstack((SHEAR, (0, 0, 0, 1)))
    for key, (pixels, matrix) in after.items():
        np.testing.assert_array_equal(pixels, before[key][0], strict=True)
        expected = top @ np.vstack((before[key][1], (0, 0, 0, 1)))
        np.testing.assert_allclose(matrix, expected[:3], rtol=1e-12, atol=1e-12)
    assert {each.code for each in npy2bdv.check(path).findings} <= findings
