"""SpimData XML: what is read, what is written, what is refused. Facts: formats.md 1 and 8, real files first."""

import importlib.util
import math
import re
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from npy2bdv import xml
from npy2bdv.errors import FormatError, InvalidInputError
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import (
    Angle,
    AttributeGroup,
    Camera,
    Channel,
    Element,
    Entity,
    FileListLoader,
    GeneratedBy,
    Hdf5Loader,
    Illumination,
    ImageFile,
    ImageLoader,
    Kept,
    N5Loader,
    OtherLoader,
    Partition,
    PathRef,
    SpimData,
    SplitLoader,
    SplitPart,
    StackLoader,
    Tile,
    Timepoints,
    ViewId,
    ViewRegistration,
    ViewSetup,
    ViewTransform,
    VoxelSize,
)

# ------------------------------------------------------------------------------------------- real files

REAL_XMLS = (
    "bigstitcher/bigstitcher_0.xml",
    "bigstitcher/bigstitcher_1.xml",
    "bigstitcher/bigstitcher_4.xml",
    "java/A_hdf5/dataset.xml",
    "java/C_n5/bigstitcher.xml",
    "java/C_n5/dataset.xml",
    "java/D_hdf5_float32/dataset.xml",
    "java/G_hdf5_loopback/dataset.xml",
    "java/H_n5_types/dataset.xml",
    "kidney/kidney.xml",
    "kidney/kidney_v1.xml",
)


def canonical(node: Any) -> tuple[Any, ...]:
    """Return a tree as nested tuples: numbers as doubles, white space around words made single."""
    words = (node.text or "").split()
    try:
        text: tuple[Any, ...] = tuple(float(word).hex() for word in words)
    except ValueError:
        text = tuple(words)
    children = [child for child in node if isinstance(child.tag, str)]
    return (str(node.tag), dict(node.attrib), text, [canonical(child) for child in children])


def repaired(tree: Any) -> Any:
    """Make the only repairs that real files need.

    Each <Tile> keeps its first <location> (formats.md 1.10); setups and registrations come in the order of
    their ids and the parts of the sequence in their order, as Java writes them (1.1, 1.5, 1.8).
    """
    for tile in tree.iter("Tile"):
        for location in tile.findall("location")[1:]:
            tile.remove(location)
    sequence = tree.find("SequenceDescription")
    parts = ["ImageLoader", "ViewSetups", "Timepoints", "MissingViews"]
    sequence[:] = sorted(sequence, key=lambda node: parts.index(node.tag))
    setups = sequence.find("ViewSetups")
    setups[:] = sorted(setups, key=lambda node: (node.tag != "ViewSetup", int(node.findtext("id") or 0)))
    views = tree.find("ViewRegistrations")
    views[:] = sorted(views, key=lambda node: (int(node.get("timepoint")), int(node.get("setup"))))
    return tree


def test_all_real_xmls_are_listed(real_data: Path) -> None:
    assert {path.relative_to(real_data).as_posix() for path in real_data.rglob("*.xml")} == set(REAL_XMLS)


@pytest.mark.parametrize("name", REAL_XMLS)
def test_real_xml_is_written_back_as_it_was(real_data: Path, name: str) -> None:
    text = (real_data / name).read_bytes()
    written = xml.serialise(xml.parse(text))
    assert canonical(etree.fromstring(written)) == canonical(repaired(etree.fromstring(text)))


def test_bigstitcher_file_has_the_values_it_shows(real_data: Path) -> None:
    data = xml.parse((real_data / "java/C_n5/bigstitcher.xml").read_bytes())
    assert data.loader == N5Loader(path=PathRef(text="dataset.n5/"), version="1.1")
    assert [section.tag for section in data.sections] == [
        "ViewInterestPoints",
        "BoundingBoxes",
        "PointSpreadFunctions",
        "StitchingResults",
        "IntensityAdjustments",
    ]


# ------------------------------------------------------------------------------- values -> XML -> values

# What XML holds; surrogates, controls and the two non-characters are refused when writing.
_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="￾￿")
_TEXTS = st.one_of(
    st.sampled_from(
        ["488", "grün <&> \"rot\" 'x'", "a b  c", "ÄÖÜ µm", "日本", "]]>", "<b>", "&amp;", "𝛼", ""]
    ),
    st.text(_CHARACTERS, max_size=12).map(str.strip),
)
_FLOATS = st.one_of(
    st.sampled_from(
        [0.0, -0.0, 1e-300, 5e-324, -5e-324, 1.7976931348623157e308, 0.1, 1 / 3, 1e22, 123456789.0]
    ),
    st.floats(allow_nan=False),
)
_TRIPLES = st.tuples(_FLOATS, _FLOATS, _FLOATS)
_IDS = st.integers(0, 10_000)
_TAGS = st.text(string.ascii_letters + "_", min_size=1, max_size=6).map("x_".__add__)


def _elements(depth: int = 2) -> st.SearchStrategy[Element]:
    children = st.lists(st.deferred(lambda: _elements(depth - 1)), max_size=2) if depth else st.just([])
    return st.builds(
        Element,
        tag=_TAGS,
        attributes=st.dictionaries(_TAGS, _TEXTS, max_size=2).map(lambda pairs: tuple(pairs.items())),
        text=_TEXTS,
        children=children.map(tuple),
    )


def _kept(*places: str | None) -> st.SearchStrategy[tuple[Kept, ...]]:
    """Give unknown elements behind some of the known siblings, in the order of these."""
    order = {place: index for index, place in enumerate(places)}
    items = st.builds(Kept, element=_elements(), after=st.sampled_from(places))
    return st.lists(items, max_size=2).map(
        lambda found: tuple(sorted(found, key=lambda item: order[item.after]))
    )


_ENTITY_KEPT = _kept(None, "id")
_NAMES = st.none() | _TEXTS


@st.composite
def _groups(draw: st.DrawFn) -> dict[str, AttributeGroup]:
    kinds: dict[str, st.SearchStrategy[Entity]] = {
        "illumination": st.builds(Illumination, id=_IDS, name=_NAMES, kept=_ENTITY_KEPT),
        "channel": st.builds(Channel, id=_IDS, name=_NAMES, kept=_ENTITY_KEPT),
        "tile": st.builds(Tile, id=_IDS, name=_NAMES, location_xyz=st.none() | _TRIPLES, kept=_ENTITY_KEPT),
        "angle": st.builds(
            Angle,
            id=_IDS,
            name=_NAMES,
            axis_xyz=st.none() | _TRIPLES,
            degrees=st.none() | _FLOATS,
            kept=_ENTITY_KEPT,
        ),
        "well": st.builds(Entity, id=_IDS, name=_NAMES, kept=_ENTITY_KEPT),
    }
    groups = {}
    for name in draw(st.lists(st.sampled_from(sorted(kinds)), unique=True)):
        entities = draw(st.lists(kinds[name], unique_by=lambda entity: entity.id, min_size=1, max_size=2))
        unknown = draw(st.lists(st.builds(Kept, element=_elements(0), after=st.none()), max_size=1))
        groups[name] = AttributeGroup(
            name=name, entities={entity.id: entity for entity in entities}, kept=tuple(unknown)
        )
    return groups


_SETUPS = st.builds(
    ViewSetup,
    id=_IDS,
    name=_NAMES,
    size_xyz=st.none() | st.tuples(_IDS, _IDS, _IDS),
    voxel_size=st.none() | st.builds(VoxelSize, size_xyz=_TRIPLES, unit=_NAMES),
    camera=st.none() | st.builds(Camera, name=_TEXTS, exposure_time=_FLOATS, exposure_unit=_TEXTS),
    attributes=st.dictionaries(st.sampled_from(["channel", "tile", "angle", "illumination", "well"]), _IDS),
    kept=_kept(None, "id", "attributes"),
)
_TRANSFORMS = st.one_of(
    st.builds(
        ViewTransform,
        affine=st.builds(Affine, values=st.tuples(*[_FLOATS] * 12)),
        name=_NAMES,
    ),
    st.builds(
        lambda name: ViewTransform(
            affine=None,
            name=name,
            kept=Element(
                tag="ViewTransform",
                attributes=(("type", "generic"), ("class", "a.B")),
                children=(Element(tag="Name", text=name), Element(tag="affine", text="4 5 6")),
            ),
        ),
        _TEXTS,
    ),
)
_PATHS = st.builds(
    PathRef, text=st.sampled_from(["a.h5", "../a b.h5", "/data/ü#.h5", "C:\\x.h5"]), relative=st.booleans()
)
_ID_TUPLES = st.lists(_IDS, min_size=1, max_size=3).map(tuple)
_LOADERS: st.SearchStrategy[ImageLoader | None] = st.one_of(
    st.none(),
    st.builds(
        Hdf5Loader,
        path=_PATHS,
        partitions=st.lists(
            st.builds(
                Partition,
                path=_PATHS,
                timepoints=_ID_TUPLES,
                setups=_ID_TUPLES,
                timepoints_mapped=st.none() | _ID_TUPLES,
                setups_mapped=st.none() | _ID_TUPLES,
            ),
            max_size=2,
        ).map(tuple),
        kept=_kept(None, "hdf5"),
    ),
    _elements().map(
        lambda child: OtherLoader(
            format="bdv.other",
            element=Element(tag="ImageLoader", attributes=(("format", "bdv.other"),), children=(child,)),
        )
    ),
)
_TIMEPOINTS = st.one_of(
    st.builds(lambda first, n: Timepoints.of(range(first, first + n)), _IDS, st.integers(1, 20)),
    st.builds(lambda ids: Timepoints(ids=tuple(sorted(ids)), type="list"), st.sets(_IDS, min_size=1)),
    st.sampled_from(
        [
            Timepoints(ids=(0, 1, 2, 7), type="pattern", pattern="0-2, 7"),
            Timepoints(ids=(0, 5, 10), type="pattern", pattern="10-0:5"),
            Timepoints(ids=(0,), type="pattern", pattern=""),
        ]
    ),
)
_VIEWS = st.builds(ViewId, _IDS, _IDS)


@st.composite
def _datasets(draw: st.DrawFn) -> SpimData:
    timepoints = draw(_TIMEPOINTS)
    missing = draw(st.none() | st.frozensets(_VIEWS, max_size=3))
    behind = {"range": "last", "list": "Timepoint", "pattern": "integerpattern"}[timepoints.type]
    parents: dict[str, tuple[str | None, ...]] = {
        "SpimData": (None, "BasePath", "SequenceDescription", "ViewRegistrations"),
        "SequenceDescription": (None, "ViewSetups", "Timepoints"),
        "ViewSetups": (None,),
        "Timepoints": (None, behind),
        "ViewRegistrations": (None,),
    }
    if missing is not None:
        parents["MissingViews"] = (None,)
    kept = {parent: draw(_kept(*places)) for parent, places in parents.items()}
    section = st.builds(
        lambda element: replace(element, tag="BoundingBoxes"), _elements().filter(lambda e: e.children)
    )
    return SpimData(
        base_path=draw(_PATHS),
        generated_by=draw(
            st.none()
            | st.builds(
                GeneratedBy,
                library=_TEXTS,
                library_version=_TEXTS,
                microscope=_TEXTS,
                microscope_version=_TEXTS,
                user=_TEXTS,
            )
        ),
        loader=draw(_LOADERS),
        setups={s.id: s for s in draw(st.lists(_SETUPS, unique_by=lambda s: s.id, max_size=3))},
        attributes=draw(_groups()),
        timepoints=timepoints,
        missing=missing,
        registrations=draw(
            st.dictionaries(
                _VIEWS,
                st.builds(
                    ViewRegistration,
                    transforms=st.lists(_TRANSFORMS, max_size=3).map(tuple),
                    kept=_kept(None),
                ),
                max_size=3,
            )
        ),
        sections=tuple(draw(st.lists(section, max_size=1))),
        kept={parent: items for parent, items in kept.items() if items},
    )


def _numbers_of(data: SpimData) -> Iterator[str]:
    """Give the exact form of every double in the registrations and setups."""
    for view, registration in data.registrations.items():
        for index, transform in enumerate(registration.transforms):
            values = () if transform.affine is None else transform.affine.values
            yield f"{view} {index} {[value.hex() for value in values]}"
    for setup in data.setups.values():
        sizes = () if setup.voxel_size is None else setup.voxel_size.size_xyz
        yield f"{setup.id} {[size.hex() for size in sizes]}"


_SLOW_DATA = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@given(_datasets())
@settings(max_examples=25, deadline=None, suppress_health_check=_SLOW_DATA)
def test_values_are_read_back_as_they_were(data: SpimData) -> None:
    found = xml.parse(xml.serialise(data))
    assert found == data
    assert sorted(_numbers_of(found)) == sorted(_numbers_of(data))  # -0.0 == 0.0, but not here


@given(_datasets())
@settings(max_examples=25, deadline=None, suppress_health_check=_SLOW_DATA)
def test_form_is_what_java_parses(data: SpimData) -> None:
    text = xml.serialise(data)
    root = etree.fromstring(text)
    assert b"<SpimData" in text[:100]
    for node in root.iter():
        if not len(node):
            assert (node.text or "").strip() == (node.text or ""), "white space around the text of a leaf"
    for tag in ("affine", "size", "location", "axis"):
        for node in root.iter(tag):
            assert "  " not in (node.text or "")
    views = [(int(n.attrib["timepoint"]), int(n.attrib["setup"])) for n in root.iter("ViewRegistration")]
    assert views == sorted(views)
    ids = [int(n.findtext("id") or "") for n in root.iter("ViewSetup")]
    assert ids == sorted(ids)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_spelled_as_java_does(value: float) -> None:
    affine = Affine(values=(value, *[0.0] * 11))
    registration = ViewRegistration(transforms=(ViewTransform(affine=affine),))
    text = xml.serialise(SpimData(registrations={ViewId(0, 0): registration}))
    spelled = {"nan": b"NaN", "inf": b"Infinity", "-inf": b"-Infinity"}[str(value)]
    assert b"<affine>" + spelled + b" 0.0" in text
    found = xml.parse(text).registrations[ViewId(0, 0)].transforms[0].affine
    assert repr(found) == repr(affine)


@pytest.mark.parametrize("name", ["a\x00b", "\x1b[1m", "￿", "\ud800"])
def test_characters_that_xml_lacks_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be written as XML"):
        xml.serialise(SpimData(setups={0: ViewSetup(id=0, name=name)}))


# ----------------------------------------------------------------------------------- tolerant variants


def dataset(
    *,
    top: str = "",
    loader: str = '<ImageLoader format="bdv.hdf5"><hdf5 type="relative">a.h5</hdf5></ImageLoader>',
    setups: str = "<ViewSetup><id>0</id><attributes><channel>0</channel></attributes></ViewSetup>",
    attributes: str = '<Attributes name="channel"><Channel><id>0</id><name>488</name></Channel></Attributes>',
    times: str = '<Timepoints type="range"><first>0</first><last>0</last></Timepoints>',
    missing: str = "",
    registrations: str = "",
    bottom: str = "",
) -> str:
    return (
        f'<SpimData version="0.2">{top}<SequenceDescription>{loader}<ViewSetups>{setups}{attributes}</ViewSetups>'
        f"{times}{missing}</SequenceDescription><ViewRegistrations>{registrations}</ViewRegistrations>{bottom}"
        "</SpimData>"
    )


def registered(transforms: str) -> SpimData:
    return xml.parse(
        dataset(registrations=f'<ViewRegistration timepoint="0" setup="0">{transforms}</ViewRegistration>')
    )


NUMBERS = "1.5 0 0 10 0 2 0 20 0 0 3 30"
AFFINE = Affine(values=tuple(float(number) for number in NUMBERS.split()))


@pytest.mark.parametrize(
    "transform",
    [
        f'<ViewTransform type="affine"><Name>a</Name><affine>{NUMBERS}</affine></ViewTransform>',
        # pybdv: lower case, after the matrix
        f'<ViewTransform type="affine"><affine>{NUMBERS}</affine><name>a</name></ViewTransform>',
        # npy2bdv 1.x: line breaks inside; 4x4
        f'<ViewTransform type="affine"><Name>a</Name><affine> {NUMBERS} </affine></ViewTransform>'.replace(
            " 0 ", "\n0 "
        ),
        f'<ViewTransform type="affine"><Name>a</Name><affine>{NUMBERS} 0 0 0 1</affine></ViewTransform>',
        f"<ViewTransform><Name>\n a </Name><affine>{NUMBERS}</affine></ViewTransform>",
    ],
)
def test_spellings_of_a_transform(transform: str) -> None:
    data = registered(transform)
    assert data.registrations[ViewId(0, 0)].transforms == (ViewTransform(affine=AFFINE, name="a"),)
    assert b"<Name>a</Name><affine>1.5 0.0 0.0 10.0 " in re.sub(rb">\s+<", b"><", xml.serialise(data))


def test_transform_without_name() -> None:
    transform = f'<ViewTransform type="affine"><affine>{NUMBERS}</affine></ViewTransform>'
    assert registered(transform).registrations[ViewId(0, 0)].transforms[0].name is None


@pytest.mark.parametrize("numbers", ["1 0 0 0", f"{NUMBERS} 0 0 0 2", "", "1 0 0"])
def test_matrix_of_another_size_is_refused(numbers: str) -> None:
    with pytest.raises(FormatError, match=r"<affine> has \d+ numbers; 12 make a 3x4 matrix"):
        registered(f'<ViewTransform type="affine"><affine>{numbers}</affine></ViewTransform>')


@pytest.mark.parametrize(
    "inner", ["<Name>t</Name><data>1 2</data>", f"<Name>t</Name><affine>{NUMBERS}</affine>"]
)
def test_java_class_as_transform_is_kept_and_not_applied(inner: str) -> None:
    transform = f'<ViewTransform type="generic" class="a.B">{inner}</ViewTransform>'
    data = registered(transform)
    registration = data.registrations[ViewId(0, 0)]
    assert registration.transforms[0].affine is None
    with pytest.raises(FormatError, match="'t' is not an affine"):
        _ = registration.total
    assert transform.encode() in re.sub(rb">\s+<", b"><", xml.serialise(data))


def test_empty_registration_is_the_identity() -> None:
    assert registered("").registrations[ViewId(0, 0)].total == Affine.identity()


def test_registrations_and_missing_views_of_unknown_views_are_kept() -> None:
    data = xml.parse(
        dataset(
            registrations='<ViewRegistration timepoint="77" setup="88"/>',
            missing='<MissingViews><MissingView timepoint="5" setup="6"/></MissingViews>',
        )
    )
    again = xml.parse(xml.serialise(data))
    assert set(again.registrations) == {ViewId(77, 88)}
    assert again.missing == frozenset([ViewId(5, 6)])
    assert list(again.views()) == [ViewId(0, 0)]


@pytest.mark.parametrize(
    ("attribute", "relative"),
    [(' type="relative"', True), ("", False), (' type="absolute"', False), (' type="Relative"', False)],
)
def test_type_of_a_path(attribute: str, relative: bool) -> None:
    loader = f'<ImageLoader format="bdv.hdf5"><hdf5{attribute}> a b#ü.h5\n</hdf5></ImageLoader>'
    data = xml.parse(dataset(top=f"<BasePath{attribute}>.</BasePath>", loader=loader))
    assert isinstance(data.loader, Hdf5Loader)
    assert data.loader.path == PathRef(text="a b#ü.h5", relative=relative)
    assert data.base_path == PathRef(text=".", relative=relative)


def test_base_path_may_be_absent() -> None:
    assert xml.parse(dataset()).base_path == PathRef(text=".", relative=True)


def test_first_of_many_locations_counts_and_one_is_written() -> None:
    tile = "<Tile><id>0</id><name>t</name><location>1.0 2.0 3.0</location><location>9 9 9</location></Tile>"
    data = xml.parse(dataset(attributes=f'<Attributes name="tile">{tile}</Attributes>'))
    assert data.attributes["tile"].entities == {0: Tile(id=0, name="t", location_xyz=(1.0, 2.0, 3.0))}
    assert xml.serialise(data).count(b"<location>") == 1


def test_last_of_many_results_for_a_pair_counts() -> None:
    def pair(b: int, shift: int) -> str:
        return (
            f'<PairwiseResult view_setup_a="0" view_setup_b="{b}" tp_a="0" tp_b="0"><shift>{shift} 0 0</shift>'
            "</PairwiseResult>"
        )

    results = pair(1, 10) + pair(2, 20) + pair(1, 11)
    data = xml.parse(dataset(bottom=f"<StitchingResults>{results}</StitchingResults>"))
    root = etree.fromstring(xml.serialise(data))
    found = [(node.get("view_setup_b"), node.findtext("shift")) for node in root.iter("PairwiseResult")]
    assert found == [("1", "11 0 0"), ("2", "20 0 0")]


def test_entities_of_other_attributes_may_have_another_tag() -> None:
    """The displaysettings of pybdv (formats.md 1.5, 8.1)."""
    settings_ = "<Displaysettings><id>0</id><name>s</name><color>255 0 0 255</color></Displaysettings>"
    data = xml.parse(
        dataset(
            setups="<ViewSetup><id>0</id><attributes><displaysettings>0</displaysettings></attributes></ViewSetup>",
            attributes=f'<Attributes name="displaysettings">{settings_}</Attributes>',
        )
    )
    entity = data.entity("displaysettings", data.setups[0])
    assert entity is not None
    assert entity.name == "s"
    assert entity.kept[0].element == Element(tag="color", text="255 0 0 255")
    assert b"<displaysettings>\n          <id>0</id>" in xml.serialise(data)  # as Java needs it


def test_unknown_children_of_a_known_attribute_are_no_entities() -> None:
    group = '<Attributes name="channel"><note><id>7</id></note><Channel><id>0</id></Channel></Attributes>'
    data = xml.parse(dataset(attributes=group))
    assert data.attributes["channel"].entities == {0: Channel(id=0)}
    assert data.attributes["channel"].kept[0].element.tag == "note"


def test_names_may_be_missing_and_ids_may_dangle() -> None:
    data = xml.parse(
        dataset(
            setups="<ViewSetup><id>3</id><attributes><channel> 5 </channel><well>2</well></attributes></ViewSetup>",
            attributes='<Attributes name="channel"><Channel><id>0</id></Channel></Attributes>',
        )
    )
    setup = data.setup(3)
    assert (setup.name, setup.size_xyz, setup.voxel_size, setup.camera) == (None, None, None, None)
    assert data.attributes["channel"].entities[0].name is None
    assert data.entity("channel", setup) == Entity(id=5, name="5")
    assert data.entity("well", setup) == Entity(id=2, name="2")
    assert data.entity("tile", setup) == Entity(id=0, name="0")  # BigStitcher supplies it
    assert data.entity("colour", setup) is None


def test_axis_or_degrees_alone() -> None:
    angles = (
        "<Angle><id>0</id><axis>0 1 0</axis></Angle><Angle><id>1</id><degrees> 45.5 </degrees></Angle>"
        "<Angle><id>2</id><degrees/></Angle>"
    )
    data = xml.parse(dataset(attributes=f'<Attributes name="angle">{angles}</Attributes>'))
    assert data.attributes["angle"].entities == {
        0: Angle(id=0, axis_xyz=(0.0, 1.0, 0.0)),
        1: Angle(id=1, degrees=45.5),
        2: Angle(id=2),
    }


def test_last_of_two_setups_with_one_id_counts() -> None:
    setups = "<ViewSetup><id>0</id><name>a</name></ViewSetup><ViewSetup><id>0</id><name>b</name></ViewSetup>"
    assert xml.parse(dataset(setups=setups)).setups[0].name == "b"


def test_blocks_may_come_in_any_order_and_comments_are_passed_over() -> None:
    text = dataset()
    sequence = text[text.index("<ViewSetups>") : text.index("</ViewSetups>")]
    turned = (
        "<ViewSetups><!-- x --><?pi?>"
        + sequence[sequence.index("<Attributes") :]
        + (sequence[len("<ViewSetups>") : sequence.index("<Attributes")])
    )
    assert xml.parse(text.replace(sequence, turned)) == xml.parse(text)


def test_voxel_size_without_unit() -> None:
    setup = "<ViewSetup><id>0</id><voxelSize><size> 0.5\n0.25 2 </size></voxelSize></ViewSetup>"
    data = xml.parse(dataset(setups=setup))
    assert data.setups[0].voxel_size == VoxelSize(size_xyz=(0.5, 0.25, 2.0), unit=None)
    assert b"<unit>" not in xml.serialise(data)


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("0", (0,)),
        ("", (0,)),
        ("3", (3,)),
        ("0-3", (0, 1, 2, 3)),
        ("0-30:10", (0, 10, 20, 30)),
        ("0-10:3", (0, 3, 6, 9)),
        ("10-8", (8, 9, 10)),
        ("10-0:4", (2, 6, 10)),
        (" 1 - 2 , 7,", (1, 2, 7)),
        ("5,1,5,1-1", (1, 5)),
    ],
)
def test_time_points_as_pattern(pattern: str, ids: tuple[int, ...]) -> None:
    times = f'<Timepoints type="pattern"><integerpattern>{pattern}</integerpattern></Timepoints>'
    data = xml.parse(dataset(times=times))
    assert data.timepoints == Timepoints(ids=ids, type="pattern", pattern=pattern.strip())
    assert xml.parse(xml.serialise(data)) == data


def test_time_points_as_pattern_without_text() -> None:
    assert xml.parse(dataset(times='<Timepoints type="pattern"/>')).timepoints.ids == (0,)


def test_time_points_as_list_come_in_order_and_once() -> None:
    items = "".join(f"<Timepoint><id>{id_}</id></Timepoint>" for id_ in (7, 3, 7, 100_000))
    data = xml.parse(dataset(times=f'<Timepoints type="list">{items}</Timepoints>'))
    assert data.timepoints.ids == (3, 7, 100_000)
    assert [view.time for view in data.views()] == [3, 7, 100_000]


@pytest.mark.parametrize(
    ("ids", "type_"),
    [((0, 1, 2), "range"), ((4, 3), "range"), ((0, 2), "list"), ((), "list"), ((5, 5), "range")],
)
def test_time_points_are_written_as_java_does(ids: tuple[int, ...], type_: str) -> None:
    assert Timepoints.of(ids) == Timepoints(ids=tuple(sorted(set(ids))), type=type_)  # type: ignore[arg-type]


def test_split_loader_is_kept_whole_and_its_inner_setups_are_not_mistaken() -> None:
    inner = dataset(setups="<ViewSetup><id>99</id><name>inner</name></ViewSetup>")
    inner = inner[inner.index("<SequenceDescription>") : inner.index("<ViewRegistrations>")]
    split = (
        '<ImageLoader format="split.viewerimgloader"><ImageLoader format="bdv.n5" version="1.0">'
        f'<n5 type="relative">a.n5</n5></ImageLoader>{inner}<SetupIds><SetupIdDefinition><NewId>0</NewId>'
        "<OldId>99</OldId><min>0 0 0</min><max>9 9 9</max></SetupIdDefinition></SetupIds></ImageLoader>"
    )
    text = dataset(loader=split)
    data = xml.parse(text)
    assert set(data.setups) == {0}
    assert isinstance(data.loader, SplitLoader)
    assert data.loader.format == "split.viewerimgloader"
    assert data.loader.inner.loader == N5Loader(path=PathRef(text="a.n5"))
    assert data.loader.inner.setups[99].name == "inner"
    assert data.loader.parts == {0: SplitPart(setup=99, first_xyz=(0, 0, 0), last_xyz=(9, 9, 9))}
    written = etree.fromstring(xml.serialise(data)).find("SequenceDescription/ImageLoader")
    assert canonical(written) == canonical(etree.fromstring(split))


FILE_MAP = (
    '<ImageLoader format="spimreconstruction.filemap2"><imglib2container>ArrayImgFactory</imglib2container>'
    "<ZGrouped>false</ZGrouped><files>"
    '<FileMapping view_setup="3" timepoint="7" series="2" channel="1"><file type="relative">raw/a b.tif</file>'
    '</FileMapping><FileMapping view_setup="4" timepoint="7" series="0" channel="0">'
    '<file type="absolute">/data/b.tif</file></FileMapping></files></ImageLoader>'
)
STACK = (
    '<ImageLoader format="spimreconstruction.stack.ij"><imagedirectory type="relative">raw</imagedirectory>'
    "<filePattern>t{tt}_c{c}_{x}.tif</filePattern><layoutTimepoints>1</layoutTimepoints>"
    "<layoutChannels>2</layoutChannels><layoutIlluminations>0</layoutIlluminations>"
    "<layoutAngles>0</layoutAngles><layoutTiles>1</layoutTiles><imglib2container>x</imglib2container></ImageLoader>"
)


def test_loaders_of_files_are_understood_and_kept_whole() -> None:
    data = xml.parse(dataset(loader=FILE_MAP))
    assert isinstance(data.loader, FileListLoader)
    assert data.loader.files == {
        ViewId(7, 3): ImageFile(path=PathRef(text="raw/a b.tif"), series=2, channel=1),
        ViewId(7, 4): ImageFile(path=PathRef(text="/data/b.tif", relative=False)),
    }
    assert not data.loader.z_grouped
    grouped = xml.parse(dataset(loader=FILE_MAP.replace("false", "true"))).loader
    assert isinstance(grouped, FileListLoader)
    assert grouped.z_grouped
    stack = xml.parse(dataset(loader=STACK)).loader
    assert isinstance(stack, StackLoader)
    assert (stack.folder, stack.pattern) == (PathRef(text="raw"), "t{tt}_c{c}_{x}.tif")
    assert stack.layouts == {"timepoint": 1, "channel": 2, "illumination": 0, "angle": 0, "tile": 1}
    for text in (FILE_MAP, STACK):
        written = etree.fromstring(xml.serialise(xml.parse(dataset(loader=text))))
        assert canonical(written.find("SequenceDescription/ImageLoader")) == canonical(etree.fromstring(text))


@pytest.mark.parametrize(
    ("loader", "problem"),
    [
        (FILE_MAP.replace('view_setup="3"', ""), "a view_setup, but it has None"),
        (FILE_MAP.replace("file type", "path type").replace("/file>", "/path>"), "names no <file>"),
        (STACK.replace("filePattern", "pattern"), "has no <imagedirectory> or <filePattern>"),
        (STACK.replace("<layoutTiles>1", "<layoutTiles>one"), "a <layoutTiles> that is a number"),
        (
            '<ImageLoader format="split.imgloader"><ImageLoader/></ImageLoader>',
            "does not describe what was split",
        ),
    ],
)
def test_loader_that_is_not_understood_hides_nothing_else(loader: str, problem: str) -> None:
    data = xml.parse(dataset(loader=loader))
    assert isinstance(data.loader, OtherLoader)
    assert problem in data.loader.problem
    assert set(data.setups) == {0}
    written = etree.fromstring(xml.serialise(data))
    assert canonical(written.find("SequenceDescription/ImageLoader")) == canonical(etree.fromstring(loader))


def test_unknown_elements_stay_where_they_were() -> None:
    """All rows of formats.md 1.10 that say "kept"; two more that Java loses."""
    text = f"""<SpimData version="0.2"><u0 a="1">t</u0><BasePath type="relative">.</BasePath><u1/>
    <SequenceDescription><u2><v/>x</u2><ImageLoader format="bdv.hdf5"><u3/><hdf5 type="relative">a.h5</hdf5><u4/>
    </ImageLoader><ViewSetups><u5/><ViewSetup><id>0</id><u6>z</u6><name>n</name><attributes><channel>0</channel>
    </attributes><u7/></ViewSetup><u8/><Attributes name="channel"><u9/><Channel><id>0</id><u10/><name>c</name>
    <color>1 2</color></Channel><u11/></Attributes><u12/></ViewSetups><u13/><Timepoints type="range"><u14/>
    <first>0</first><u15/><last>0</last><u16/></Timepoints><MissingViews><u17/></MissingViews><u18/>
    </SequenceDescription><u19/><ViewRegistrations><u20/><ViewRegistration timepoint="0" setup="0">
    <ViewTransform type="affine"><affine>{NUMBERS}</affine></ViewTransform><u21/></ViewRegistration><u22/>
    </ViewRegistrations><BoundingBoxes><u23/></BoundingBoxes><u24/></SpimData>"""
    written = xml.serialise(xml.parse(text))
    # mixed content is put before the children of an element
    assert canonical(etree.fromstring(written)) == canonical(etree.fromstring(text))


def test_foreign_provenance_and_camera_are_kept_whole() -> None:
    made = "<generatedBy><program>x</program></generatedBy>"
    camera = "<camera><name>c</name><gain>3</gain></camera>"
    data = xml.parse(dataset(top=made, setups=f"<ViewSetup><id>0</id>{camera}</ViewSetup>"))
    assert data.generated_by is None
    assert data.setups[0].camera is None
    text = re.sub(rb">\s+<", b"><", xml.serialise(data))
    assert made.encode() in text
    assert camera.encode() in text


def test_text_with_another_encoding_in_its_declaration() -> None:
    text = dataset(
        attributes='<Attributes name="channel"><Channel><id>0</id><name>grün</name></Channel></Attributes>'
    )
    declared = f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{text}'
    as_bytes, as_text = xml.parse(declared.encode("latin-1")), xml.parse(declared)
    assert as_bytes == as_text
    assert as_text.attributes["channel"].entities[0].name == "grün"
    assert xml.parse(dataset().encode("utf-16")) == xml.parse(dataset())


# --------------------------------------------------------------------------------------------- refused

_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not well-formed XML: Document is empty"),
        (" \n", "not well-formed XML"),
        ("no xml", "not well-formed XML"),
        ("\x89HDF\r\n\x1a\n", "not well-formed XML"),
        (dataset()[:200], "not well-formed XML: expected"),
        (dataset() + "<a/>", "not well-formed XML"),
        ("<html/>", "root element is <html>, not <SpimData>"),
        ('<SpimData xmlns="http://x"/>', "root element is <{http://x}SpimData>"),
        ("<SpimData/>", "no <SequenceDescription>"),
        ("<!DOCTYPE SpimData>" + dataset(), "document type declaration"),
        ('<!DOCTYPE SpimData SYSTEM "nowhere.dtd">' + dataset(), "document type declaration"),
        ('<!DOCTYPE SpimData [<!ENTITY e "0">]>' + dataset(top="<a>&e;</a>"), "document type declaration"),
        ('<!DOCTYPE SpimData [<!ENTITY e "0">]>' + dataset(top='<a b="&e;"/>'), "document type declaration"),
        (
            '<!DOCTYPE SpimData [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + dataset(top="<a>&e;</a>"),
            "document type declaration",
        ),
        (
            f'<!DOCTYPE SpimData [<!ENTITY l0 "lol">{_LAUGHS}]>' + dataset(top="<a>&l9;</a>"),
            "document type declaration|not well-formed",
        ),
        (dataset(top="<a>&undefined;</a>"), "not well-formed XML: Entity 'undefined' not defined"),
        (dataset(top="<a>" * 10_000 + "</a>" * 10_000), "not well-formed XML: Excessive depth"),
        (dataset(loader='<ImageLoader format="bdv.hdf5"/>'), "does not name its pixels .no <hdf5>"),
        (dataset(times='<Timepoints type="weird"/>'), "time points of type 'weird'; known are"),
        (dataset(times="<Timepoints/>"), "time points of type None"),
    ],
)
def test_hostile_or_broken_text_is_refused(text: str, says: str) -> None:
    with pytest.raises(FormatError, match=says) as caught:
        xml.parse(text, "scan.xml")
    assert str(caught.value).startswith("scan.xml")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("number", ["", "x", "1.0", "1_0", "1 0", "NaN", "0x1", "١", "9" * 5000])
def test_ids_that_are_no_integers_are_refused(number: str) -> None:
    for text in (
        dataset(setups=f"<ViewSetup><id>{number}</id></ViewSetup>"),
        dataset(setups=f"<ViewSetup><id>0</id><attributes><tile>{number}</tile></attributes></ViewSetup>"),
        dataset(attributes=f'<Attributes name="tile"><Tile><id>{number}</id></Tile></Attributes>'),
        dataset(registrations=f'<ViewRegistration timepoint="{number}" setup="0"/>'),
        dataset(missing=f'<MissingViews><MissingView timepoint="0" setup="{number}"/></MissingViews>'),
        dataset(times=f'<Timepoints type="range"><first>{number}</first><last>0</last></Timepoints>'),
        dataset(times=f'<Timepoints type="list"><Timepoint><id>{number}</id></Timepoint></Timepoints>'),
    ):
        with pytest.raises(FormatError, match=r"line 1: <.*> should have .*, but it has") as caught:
            xml.parse(text)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("size", ["NaN 1 1", "inf 1 1", "1.5 1 1", "1_0 1 1", "a b c"])
def test_sizes_that_are_no_integers_are_refused(size: str) -> None:
    with pytest.raises(FormatError, match="<size> should hold"):
        xml.parse(dataset(setups=f"<ViewSetup><id>0</id><size>{size}</size></ViewSetup>"))


@pytest.mark.parametrize("numbers", ["1,0,0,0", "1_0 0", "eins", "1 0 0 x"])
def test_matrices_that_hold_no_numbers_are_refused(numbers: str) -> None:
    with pytest.raises(FormatError, match="<affine> should hold numbers, but it holds"):
        registered(f'<ViewTransform type="affine"><affine>{numbers}</affine></ViewTransform>')


@pytest.mark.parametrize(
    "times",
    [
        '<Timepoints type="range"><first>0</first><last>1000000000000</last></Timepoints>',
        '<Timepoints type="pattern"><integerpattern>0-1000000000000</integerpattern></Timepoints>',
        '<Timepoints type="pattern"><integerpattern>1000000000000-0</integerpattern></Timepoints>',
        '<Timepoints type="pattern"><integerpattern>{}</integerpattern></Timepoints>'.format(
            ",".join(f"{n}00000-{n}99999" for n in range(100))
        ),
    ],
)
def test_absurd_counts_of_time_points_are_refused(times: str) -> None:
    with pytest.raises(FormatError, match="time points cannot be meant"):
        xml.parse(dataset(times=times))


@pytest.mark.parametrize("pattern", ["0-10:0", "-3", "a", "0-", "1.5", "0--3", "1 2", "9" * 5000])
def test_patterns_that_are_none_are_refused(pattern: str) -> None:
    times = f'<Timepoints type="pattern"><integerpattern>{pattern}</integerpattern></Timepoints>'
    with pytest.raises(FormatError, match="is not of the form N, A-B or A-B:STEP") as caught:
        xml.parse(dataset(times=times))
    assert len(str(caught.value)) < 400


# ------------------------------------------------------------------------------------------- benchmark


def _benchmark() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "xml_100k.py"
    spec = importlib.util.spec_from_file_location("xml_100k", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.benchmark
def test_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    _benchmark().main(["--views", "200"])
    assert re.search(r"200 views.*parse.*s.*serialise.*s", capsys.readouterr().out, re.DOTALL)


def test_cost_is_linear() -> None:
    """Ten times the views, setups and tiles take about ten times as long, not a hundred."""
    benchmark = _benchmark()
    small, large = (min(benchmark.seconds(views)[0] for _ in range(3)) for views in (500, 5000))
    assert large < 40 * small


def test_parsing_takes_at_most_twenty_times_what_lxml_takes() -> None:
    text = xml.serialise(_benchmark().dataset(5000))

    def seconds(parse: Callable[[bytes], object]) -> float:
        start = time.perf_counter()
        parse(text)
        return time.perf_counter() - start

    ratios = [seconds(xml.parse) / seconds(etree.fromstring) for _ in range(5)]
    assert min(ratios) < 20


def test_opening_a_large_dataset() -> None:
    """In the bounds of 100 000 views (20 times as long as lxml, 900 MB), here for a tenth; one of them has pixels."""
    lxml, ours, view, memory = _benchmark().opened(10_000, 1000)
    assert ours < 20 * lxml
    assert view < ours / 5
    assert memory < 180  # 100 without any view


def test_reading_opens_no_connection_and_no_file() -> None:
    """An audit hook sees each file and socket that Python opens; libxml2 has no network at all here."""
    code = (
        "import sys\n"
        "from npy2bdv import xml\n"
        "from npy2bdv.errors import FormatError\n"
        "xml.parse(sys.argv[1])\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event in ('open', 'socket.connect') else None)\n"
        "try:\n"
        "    xml.parse(sys.argv[2])\n"
        "except FormatError as error:\n"
        "    print(error)\n"
        "assert not seen, seen\n"
    )
    hostile = '<!DOCTYPE SpimData [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + dataset(top="<a>&e;</a>")
    done = subprocess.run(
        [sys.executable, "-c", code, dataset(), hostile], capture_output=True, text=True, check=True
    )
    assert "document type declaration" in done.stdout
