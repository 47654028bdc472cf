"""Bad input: each error says what was asked, what was found and what to do, and nothing on disk has changed."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npy2bdv
from npy2bdv.errors import (
    BdvError,
    ClosedError,
    ExistsError,
    FormatError,
    InvalidInputError,
    InvalidTypeError,
    MissingKeyError,
    NotFoundError,
    OutOfRangeError,
)
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import ViewTransform

SHAPE = (3, 4, 5)
STACK = np.arange(60, dtype="uint16").reshape(SHAPE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset that must not change."""
    with npy2bdv.create(tmp_path / "scan.xml", levels=((1, 1, 1), (1, 2, 2))) as writer:
        writer.write(STACK, setup=writer.add_setup(shape=SHAPE, channel="488"))
    return tmp_path


def state(folder: Path) -> dict[str, str]:
    return {
        entry.name: hashlib.sha256(entry.read_bytes()).hexdigest()
        for entry in sorted(folder.iterdir())
        if entry.is_file()
    }


@pytest.fixture(autouse=True)
def unchanged(folder: Path) -> Iterator[None]:
    before = state(folder)
    yield
    assert state(folder) == before


# ----------------------------------------------------------------------------------------- create()

CREATE: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("scan.xml", {}, ExistsError, r"scan\.(h5|xml) already exists; .*overwrite=True"),
    ("scan.h5", {}, FileExistsError, r"scan\.(h5|xml) already exists"),
    ("nowhere/new.xml", {}, NotFoundError, r"folder .*nowhere does not exist; create it first"),
    ("new.tif", {}, InvalidInputError, r"'new\.tif' names no dataset: give the XML \(NAME\.xml\) or"),
    ("new", {}, InvalidInputError, "'new' names no dataset"),
    ("new.xml", {"format": "tiff"}, InvalidInputError, "format 'tiff' is not known; there is 'hdf5'"),
    ("new.xml", {"levels": ((1, 0, 1),)}, InvalidInputError, r"factors.*0"),
    ("new.xml", {"levels": ((1, 1),)}, InvalidInputError, "factors"),
    ("new.xml", {"levels": ((1, 1, 1), (1, 1, 1))}, InvalidInputError, "two levels have the same factors"),
    ("new.xml", {"levels": ()}, InvalidInputError, "factors"),
    ("new.xml", {"levels": "many"}, InvalidInputError, "levels='many' is not known; give factors"),
    ("new.xml", {"chunks": (4, 0, 4)}, InvalidInputError, "chunk"),
    ("new.xml", {"chunks": (4, 4)}, InvalidInputError, "chunk"),
    (
        "new.xml",
        {"compression": "zstd"},
        InvalidInputError,
        "compression 'zstd' is not known to hdf5; it has 'none'",
    ),
    (
        "new.xml",
        {"compression": ("gzip", 10)},
        InvalidInputError,
        "level 10 is not known: gzip has the levels 0 to 9",
    ),
    ("new.xml", {"compression": ("lzf", 1)}, InvalidInputError, "level 1 is not known: lzf has no levels"),
    ("new.xml", {"microscope": "a\x00"}, InvalidInputError, "cannot be written as XML"),
]


@pytest.mark.parametrize(("name", "options", "error", "says"), CREATE)
def test_create(folder: Path, name: str, options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        npy2bdv.create(folder / name, **options)
    assert isinstance(caught.value, BdvError)


# ---------------------------------------------------------------------------------------- add_setup()


@pytest.fixture
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[npy2bdv.DatasetWriter]:
    with npy2bdv.create(tmp_path_factory.mktemp("new") / "new.xml") as opened:
        opened.add_setup(shape=SHAPE, channel="488")
        yield opened


NAN = np.full((3, 4), np.nan)
SINGULAR = np.zeros((3, 4))
ROTTEN = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]]

SETUP: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"shape": (3, 4)}, InvalidInputError, r"a stack has three sizes \(z, y, x\); found the shape \(3, 4\)"),
    ({"shape": (0, 4, 5)}, InvalidInputError, r"shape.*0"),
    ({"shape": (3, -4, 5)}, InvalidInputError, r"shape.*-4"),
    ({"shape": (3, 4.5, 5)}, InvalidInputError, r"shape.*4\.5"),
    ({"shape": (3, None, 5)}, InvalidInputError, "shape.*None"),
    ({"shape": (None, 4, 5), "levels": ((2, 2, 2),)}, InvalidInputError, "unknown length needs the full"),
    ({"dtype": "banana"}, InvalidTypeError, "dtype='banana' is no pixel type"),
    ({"dtype": "complex64"}, BdvError, "pixels of type complex64 cannot be stored in hdf5; it takes uint8"),
    ({"dtype": "float16"}, BdvError, "pixels of type float16 cannot be stored"),
    ({"dtype": "bool"}, BdvError, "pixels of type bool cannot be stored"),
    (
        {"channel": "488"},
        InvalidInputError,
        "setup 0 has the same attributes .*; give the new one another channel",
    ),
    ({"channel": -1}, InvalidInputError, "channel -1 is negative; ids count from 0"),
    ({"channel": 1.5}, InvalidTypeError, r"channel= must be a whole number, or a label as text; found 1\.5"),
    ({"channel": "a\x01"}, InvalidInputError, "cannot be written as XML"),
    ({"attributes": {"no tag": 1}}, InvalidInputError, "cannot be written as XML"),
    ({"unit": "\x02"}, InvalidInputError, "give all in one unit"),
    ({"unit": "\x02", "calibration": None}, InvalidInputError, "cannot be written as XML"),
    ({"id": 0}, InvalidInputError, "setup id 0 is taken"),
    ({"id": -2}, InvalidInputError, "setup id -2 is taken or negative"),
    ({"id": "7"}, InvalidTypeError, "a setup id must be a whole number"),
    (
        {"voxel_size_xyz": (1, 0, 1)},
        InvalidInputError,
        r"three finite sizes above 0 \(x, y, z\); found \(1, 0, 1\)",
    ),
    ({"voxel_size_xyz": (1, 1)}, InvalidInputError, "three finite sizes"),
    ({"voxel_size_xyz": (1, np.nan, 1)}, InvalidInputError, "three finite sizes"),
    ({"transform": NAN}, InvalidInputError, "the affine holds nan in row 0, column 0; give finite numbers"),
    ({"transform": SINGULAR}, InvalidInputError, "the matrix is singular, it would press the image flat"),
    ({"transform": np.eye(3)}, InvalidInputError, r"the affine has the shape \(3, 3\); give 3x4"),
    ({"transform": ROTTEN}, InvalidInputError, "last row of the 4x4 affine is .* it must be 0 0 0 1"),
    ({"transform": [ViewTransform(affine=Affine(values=(0.0,) * 12))]}, InvalidInputError, "singular"),
    ({"transform": [ViewTransform(affine=Affine(values=(np.nan,) * 12))]}, InvalidInputError, "nan"),
    ({"calibration": "physical"}, InvalidInputError, "calibration='physical' is not known; give a matrix"),
    ({"calibration": SINGULAR}, InvalidInputError, "singular"),
    ({"levels": ((1, 0.5, 1),)}, InvalidInputError, "factors"),
    (
        {"chunks": (2048, 2048, 1024)},
        InvalidInputError,
        r"has 8589934592 bytes; hdf5 holds blocks below 4294967296",
    ),
    ({"chunks": (2048, 1024, 1024)}, InvalidInputError, r"has 4294967296 bytes"),
]


@pytest.mark.parametrize(("options", "error", "says"), SETUP)
def test_add_setup(
    writer: npy2bdv.DatasetWriter, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    options = {"shape": SHAPE, "channel": "new", **options}
    with pytest.raises(error, match=says) as caught:
        writer.add_setup(**options)
    assert isinstance(caught.value, BdvError)
    assert list(writer.setups) == [0]


# ----------------------------------------------------------------------------------- write and stream

WRITE: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"stack": STACK[:2]},
        InvalidInputError,
        r"the stack has the shape \(2, 4, 5\); setup 0 was added with \(3, 4, 5\)",
    ),
    ({"stack": STACK[0]}, InvalidInputError, r"the stack has the shape \(4, 5\)"),
    ({"stack": np.zeros((0, 4, 5), "uint16")}, InvalidInputError, r"the stack has the shape \(0, 4, 5\)"),
    (
        {"stack": STACK.astype("float32")},
        InvalidTypeError,
        r"float32, setup 0 of uint16.*stack\.astype\('uint16'\)",
    ),
    ({"stack": STACK.astype("int16")}, InvalidTypeError, "type int16"),
    ({"stack": STACK.astype("O")}, InvalidTypeError, "type object"),
    ({"setup": 5}, MissingKeyError, r"there is no setup 5; add_setup\(\) returned \[0\]"),
    ({"time": -1}, InvalidInputError, "time point -1 cannot be: ids are whole numbers from 0 to"),
    ({"time": 0.5}, InvalidInputError, r"time point 0\.5 cannot be"),
    ({"time": 10**9}, InvalidInputError, "time point 1000000000 cannot be"),
    ({"time": float("nan")}, InvalidInputError, "time point nan cannot be"),
    ({"transform": SINGULAR}, InvalidInputError, "singular"),
    ({"transform": NAN}, InvalidInputError, "holds nan"),
]


@pytest.mark.parametrize(("options", "error", "says"), WRITE)
def test_write(
    writer: npy2bdv.DatasetWriter, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    options = {"stack": STACK, "setup": 0, "time": 0, **options}
    with pytest.raises(error, match=says) as caught:
        writer.write(**options)
    assert isinstance(caught.value, BdvError)
    assert not writer.views
    assert not list(writer.container.views())
    writer.write(STACK, setup=0)  # the way is still free


def test_writing_twice(writer: npy2bdv.DatasetWriter) -> None:
    writer.write(STACK, setup=0)
    with pytest.raises(
        ExistsError, match="time point 0 of setup 0 was written already; a view is written once"
    ):
        writer.write(STACK + 1, setup=0)
    path = writer.path_xml
    writer.close()
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=0)[...], STACK)


def test_after_close(writer: npy2bdv.DatasetWriter) -> None:
    writer.write(STACK, setup=0)
    writer.close()
    before = state(writer.path_xml.parent)
    calls: list[Callable[[], object]] = [
        lambda: writer.write(STACK, setup=0, time=1),
        lambda: writer.stream(setup=0, time=1),
        lambda: writer.checkpoint(),
    ]
    for call in calls:
        with pytest.raises(ClosedError, match=r"the writer of .*new\.xml is closed"):
            call()
    assert state(writer.path_xml.parent) == before


# --------------------------------------------------------------------------------------------- open()


def test_open_what_is_not_there(folder: Path) -> None:
    for name, says in (
        ("none.xml", r"there is no XML .*none\.xml; a dataset is opened by its XML"),
        ("none.h5", r"there is no XML .*none\.xml beside none\.h5"),
    ):
        with pytest.raises(NotFoundError, match=says):
            npy2bdv.open(folder / name)
    with pytest.raises(InvalidInputError, match=r"'scan\.tif' names no dataset: give its XML"):
        npy2bdv.open(folder / "scan.tif")


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        ("xml empty", FormatError, r"scan\.xml is not well-formed XML"),
        ("xml truncated", FormatError, r"scan\.xml is not well-formed XML"),
        ("xml foreign", FormatError, r"scan\.xml: its root element is <html>"),
        (
            "h5 gone",
            NotFoundError,
            r"scan\.xml names the pixel file .*scan\.h5, which is not there; put it there",
        ),
        ("h5 empty", FormatError, r"scan\.h5 cannot be opened as HDF5"),
        ("h5 truncated", FormatError, r"scan\.h5 cannot be opened as HDF5.*truncated"),
        ("h5 foreign", MissingKeyError, r"scan\.h5 does not describe setup 0"),
        ("cells flat", FormatError, r"t00000/s00/0/cells"),
        ("cells group", BdvError, r"t00000/s00/0/cells"),
    ],
)
def test_open_what_is_damaged(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, damage: str, error: type[Exception], says: str
) -> None:
    copy = tmp_path_factory.mktemp("damaged")
    texts = {name: (folder / name).read_bytes() for name in ("scan.xml", "scan.h5")}
    kind, how = damage.split()
    name = {"xml": "scan.xml"}.get(kind, "scan.h5")
    for each, text in texts.items():
        (copy / each).write_bytes(text)
    if how in ("empty", "truncated"):
        (copy / name).write_bytes(texts[name][: 0 if how == "empty" else len(texts[name]) // 2])
    elif damage == "xml foreign":
        (copy / name).write_bytes(b"<html/>")
    elif how == "gone":
        (copy / name).unlink()
    else:
        with h5py.File(copy / name, "w" if how == "foreign" else "r+") as file:
            if how == "foreign":
                file["data"] = STACK
            else:
                del file["t00000/s00/0/cells"]
                file["t00000/s00/0"].create_group("cells")
            if how == "flat":
                del file["t00000/s00/0/cells"]
                file["t00000/s00/0/cells"] = STACK[0]
    before = state(copy)
    with pytest.raises(error, match=says), npy2bdv.open(copy / "scan.xml") as dataset:
        dataset.view(setup=0)[0]
    assert state(copy) == before


def test_open_views_and_levels_that_are_not_there(folder: Path) -> None:
    with npy2bdv.open(folder / "scan.xml") as dataset:
        with pytest.raises(MissingKeyError, match="no setup 7 in this dataset; its setups are 0"):
            dataset.view(setup=7)
        with pytest.raises(OutOfRangeError, match="no level 2 in setup 0; it has the levels 0 to 1"):
            dataset.view(setup=0).level(2)
        with pytest.raises(OutOfRangeError, match="z = 3 is outside of the level, which has 3"):
            dataset.view(setup=0)[3]
