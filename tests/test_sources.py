"""Sources: every pixel, voxel size and name that the file holds, and refusals that help."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from npy2bdv.errors import (
    BdvError,
    ClosedError,
    FormatError,
    InvalidInputError,
    InvalidTypeError,
    MissingKeyError,
    NotFoundError,
    OutOfRangeError,
)
from npy2bdv.model.units import unit_name
from npy2bdv.sources import Source, open_source

rng = np.random.default_rng(3)


def pixels(shape: tuple[int, ...], dtype: str = "uint16") -> NDArray[Any]:
    return rng.integers(0, 250, shape).astype(dtype)


def as_tczyx(array: NDArray[Any], axes: str) -> NDArray[Any]:
    """Bring an array into the order in which views are compared."""
    missing = [a for a in "tczyx" if a not in axes.lower()]
    names = "".join(missing) + axes.lower()
    return array[(None,) * len(missing)].transpose([names.index(a) for a in "tczyx"])


def assert_holds(source: Source, expected: NDArray[Any], tile: int = 0) -> None:
    """Compare all views of a tile with (t, c, z, y, x), read whole and in pieces."""
    views = [v for v in source.views if v.tile == tile]
    assert len(views) == expected.shape[0] * expected.shape[1]
    for view, (time, channel) in zip(views, np.ndindex(expected.shape[:2]), strict=True):
        stack = expected[time, channel]
        assert view.time == time
        assert view.shape == stack.shape
        assert view.dtype == stack.dtype.newbyteorder("=")
        whole = source.read(view)
        assert whole.dtype == view.dtype
        assert whole.flags.c_contiguous
        np.testing.assert_array_equal(whole, stack)
        middle = len(stack) // 2
        np.testing.assert_array_equal(source.read(view, middle, middle + 1), stack[middle : middle + 1])


# Real data


@pytest.fixture
def kidney(real_data: Path) -> Path:
    return next((real_data / "kidney").glob("*.tif"))


def test_kidney_equals_what_fiji_exported_from_it(kidney: Path) -> None:
    with open_source(kidney) as source, h5py.File(kidney.parent / "kidney.h5") as exported:
        assert [v.channel for v in source.views] == ["0", "1", "2"]
        for setup, view in enumerate(source.views):
            cells = exported[f"t00000/s{setup:02d}/0/cells"][:].view(np.uint16)
            assert view.shape == cells.shape
            np.testing.assert_array_equal(source.read(view), cells)
            np.testing.assert_array_equal(source.read(view, 7, 9), cells[7:9])


def test_kidney_is_calibrated_as_fiji_exported_it(kidney: Path) -> None:
    """To the last bit; only the unit is spelled "µm" there."""
    setup = ElementTree.parse(kidney.parent / "kidney.xml").find("SequenceDescription/ViewSetups/ViewSetup")
    assert setup is not None
    with open_source(kidney) as source:
        assert source.views[0].voxel_size_xyz == tuple(
            map(float, setup.findtext("voxelSize/size", "").split())
        )
        assert source.views[0].unit == unit_name(setup.findtext("voxelSize/unit", "")) == "micrometer"
        assert source.notes == ()


# TIFF: pixels


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize(
    "options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"compression": "zlib"}, {"rowsperstrip": 4}]
)
def test_a_plain_stack_of_pages_is_z(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    stack = pixels((5, 17, 13), dtype)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    with open_source(tmp_path / "a.tif") as source:
        assert_holds(source, as_tczyx(stack, "zyx"))
        assert source.views[0].voxel_size_xyz == (1.0, 1.0, 1.0)
        assert source.views[0].unit == "px"


def test_pages_written_by_another_program_are_z(tmp_path: Path) -> None:
    stack = pixels((5, 17, 13))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for plane in stack:
            file.write(plane, metadata=None, resolution=(72, 72), resolutionunit="INCH", contiguous=False)
    with open_source(tmp_path / "a.tif") as source:
        assert_holds(source, as_tczyx(stack, "zyx"))
        assert source.views[0].unit == "px"


def test_a_single_page(tmp_path: Path) -> None:
    plane = pixels((17, 13))
    tifffile.imwrite(tmp_path / "a.TIF", plane)
    with open_source(tmp_path / "a.TIF") as source:
        assert_holds(source, as_tczyx(plane, "yx"))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["TZCYX", "ZCYX", "TZYX", "TCYX", "ZYX", "CYX", "TYX", "YX"])
def test_imagej_hyperstacks(tmp_path: Path, axes: str, compression: str | None) -> None:
    lengths = {"T": 2, "Z": 4, "C": 3, "Y": 11, "X": 7}
    array = pixels(tuple(lengths[a] for a in axes))
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": axes}, compression=compression)
    with open_source(tmp_path / "a.tif") as source:
        assert_holds(source, as_tczyx(array, axes))


@pytest.mark.parametrize(
    "options", [{}, {"byteorder": ">"}, {"compression": "zlib", "tile": (16, 16)}, {"bigtiff": True}]
)
@pytest.mark.parametrize("axes", ["TZCYX", "TCZYX", "CTZYX", "ZCTYX", "CZYX", "ZCYX", "TZYX", "ZYX", "YX"])
def test_ome_tiff_in_all_orders(tmp_path: Path, axes: str, options: dict[str, Any]) -> None:
    lengths = {"T": 2, "Z": 4, "C": 3, "Y": 11, "X": 7}
    array = pixels(tuple(lengths[a] for a in axes))
    tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata={"axes": axes}, **options)
    with open_source(tmp_path / "a.ome.tif") as source:
        assert_holds(source, as_tczyx(array, axes))


def test_an_imagej_hyperstack_with_one_page_as_beyond_4_gb(tmp_path: Path) -> None:
    array = pixels((2, 4, 3, 11, 7))
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "TZCYX"}, truncate=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 1
    with open_source(tmp_path / "a.tif") as source:
        assert_holds(source, as_tczyx(array, "tzcyx"))


@pytest.mark.parametrize(("given", "layout"), [("zcyx", "zcyx"), ("TZYX", "tzyx")])
def test_axes_given_take_the_place_of_those_in_the_file(tmp_path: Path, given: str, layout: str) -> None:
    array = pixels((4, 3, 11, 7))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    with open_source(tmp_path / "a.tif", axes=given) as source:
        assert_holds(source, as_tczyx(array, layout))


def test_equal_images_of_an_ome_tiff_are_tiles(tmp_path: Path) -> None:
    first, second = pixels((3, 11, 7)), pixels((3, 11, 7))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        for k, stack in enumerate((first, second)):
            file.write(
                stack,
                metadata={
                    "axes": "ZYX",
                    "PhysicalSizeX": k + 1.0,
                    "PhysicalSizeY": 1.0,
                    "PhysicalSizeZ": 3.0,
                },
            )
    with open_source(tmp_path / "a.ome.tif") as source:
        assert_holds(source, as_tczyx(first, "zyx"), tile=0)
        assert_holds(source, as_tczyx(second, "zyx"), tile=1)
        assert [v.voxel_size_xyz for v in source.views] == [(1, 1, 3), (2, 1, 3)]
        assert source.notes == ()


def test_unequal_images_leave_the_first_and_say_so(tmp_path: Path) -> None:
    first = pixels((3, 11, 7))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        file.write(first, metadata={"axes": "ZYX"})
        file.write(pixels((2, 5, 5)), metadata={"axes": "ZYX"})
    with open_source(tmp_path / "a.ome.tif") as source:
        assert_holds(source, as_tczyx(first, "zyx"))
        assert len(source.notes) == 1
        assert "Only the first of 2 images is taken" in source.notes[0]
        assert "(2, 5, 5)" in source.notes[0]


def test_an_ome_tiff_spread_over_files(tmp_path: Path) -> None:
    """Each file holds one plane; what Bio-Formats and acquisition programs write."""
    array = pixels((2, 1, 11, 7))
    data = "".join(
        f'<TiffData FirstC="{c}" FirstZ="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="c{c}.ome.tif">urn:uuid:{c}</UUID></TiffData>'
        for c in range(2)
    )
    for c in range(2):
        text = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{c}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint16" SizeX="7" SizeY="11" SizeZ="1" SizeC="2" SizeT="1">'
            '<Channel ID="Channel:0:0" Name="GFP"/><Channel ID="Channel:0:1" Name="RFP"/>'
            f"{data}</Pixels></Image></OME>"
        )
        tifffile.imwrite(tmp_path / f"c{c}.ome.tif", array[c], description=text, metadata=None)
    with open_source(tmp_path / "c0.ome.tif") as source:
        assert_holds(source, as_tczyx(array, "czyx"))
        assert [v.channel for v in source.views] == ["GFP", "RFP"]
        assert source.notes == ()

    whole = (tmp_path / "c1.ome.tif").read_bytes()
    (tmp_path / "c1.ome.tif").write_bytes(whole[:-7])
    with pytest.raises(FormatError, match=r"c1\.ome\.tif is cut short"):
        open_source(tmp_path / "c0.ome.tif")
    (tmp_path / "c1.ome.tif").unlink()
    with open_source(tmp_path / "c0.ome.tif") as source:
        assert_holds(source, as_tczyx(array * np.array([1, 0], "uint16")[:, None, None, None], "czyx"))
        assert source.notes == ("1 of 2 planes are in no file and are read as zeros.",)


# TIFF: metadata


@pytest.mark.parametrize(
    "unit", ["µm", "\u03bcm", r"\u00B5m", "um", "micron", "microns", "Micrometer", "micrometre"]
)
def test_imagej_calibration(tmp_path: Path, unit: str) -> None:
    """Written by hand, since tifffile refuses what older ImageJ wrote: text beyond ASCII."""
    description = f"ImageJ=1.52\nimages=3\nslices=3\nunit={unit}\nspacing=1.2\n".encode()
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for plane in pixels((3, 5, 5)):
            file.write(plane, description=description, resolution=(2.5, 2), metadata=None, contiguous=True)
    with open_source(tmp_path / "a.tif") as source:
        assert source.views[0].voxel_size_xyz == (0.4, 0.5, 1.2)
        assert source.views[0].unit == "micrometer"


@pytest.mark.parametrize(
    ("metadata", "size", "unit"),
    [
        ({}, (1, 1, 1), "px"),
        ({"unit": "pixel", "spacing": 3.0}, (1, 1, 3), "px"),
        ({"unit": "nm", "spacing": 40.0}, (0.4, 0.5, 40), "nanometer"),
        ({"unit": "inch"}, (0.4, 0.5, 1), "inch"),
        ({"unit": "furlong", "spacing": -2.0}, (0.4, 0.5, 2), "furlong"),
        ({"unit": "um", "spacing": 0.002, "zunit": "mm"}, (0.4, 0.5, 2), "micrometer"),
        ({"unit": "um", "spacing": 3.0, "zunit": "sec"}, (1, 1, 1), "px"),
    ],
)
def test_imagej_units(tmp_path: Path, metadata: dict[str, Any], size: tuple[float, ...], unit: str) -> None:
    metadata = {"axes": "ZYX", **metadata}
    tifffile.imwrite(
        tmp_path / "a.tif", pixels((3, 5, 5)), imagej=True, resolution=(2.5, 2), metadata=metadata
    )
    with open_source(tmp_path / "a.tif") as source:
        assert source.views[0].voxel_size_xyz == pytest.approx(size, rel=1e-15)
        assert source.views[0].unit == unit
        assert len(source.notes) == (metadata.get("zunit") == "sec")


@pytest.mark.parametrize(
    ("metadata", "size", "unit", "note"),
    [
        ({}, (1, 1, 1), "px", None),
        (
            {"PhysicalSizeX": 0.1, "PhysicalSizeY": 1 / 3, "PhysicalSizeZ": 1.2},
            (0.1, 1 / 3, 1.2),
            "micrometer",
            None,
        ),
        (
            {
                "PhysicalSizeX": 100.0,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 100.0,
                "PhysicalSizeYUnit": "nm",
            }
            | {"PhysicalSizeZ": 0.5, "PhysicalSizeZUnit": "µm"},
            (100, 100, 500),
            "nanometer",
            None,
        ),
        ({"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.2}, (0.1, 0.2, 1), "micrometer", "no distance of planes"),
        ({"PhysicalSizeX": 0.0, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 1.2}, (1, 1, 1), "px", None),
    ],
)
def test_ome_calibration(
    tmp_path: Path, metadata: dict[str, Any], size: tuple[float, ...], unit: str, note: str | None
) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels((3, 5, 5)), metadata={"axes": "ZYX", **metadata})
    with open_source(tmp_path / "a.ome.tif") as source:
        assert source.views[0].voxel_size_xyz == pytest.approx(size, rel=1e-15)
        assert source.views[0].unit == unit
        assert [note in n for n in source.notes if note] == [True] * bool(note)
        assert bool(source.notes) == bool(note)


@pytest.mark.parametrize(
    ("names", "found"), [(["488", "561"], ["488", "561"]), (["GFP", "GFP"], ["0", "1"]), (None, ["0", "1"])]
)
def test_ome_channel_names(tmp_path: Path, names: list[str] | None, found: list[str]) -> None:
    metadata: dict[str, Any] = {"axes": "CZYX"} | ({"Channel": {"Name": names}} if names else {})
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels((2, 3, 5, 5)), metadata=metadata)
    with open_source(tmp_path / "a.ome.tif") as source:
        assert [v.channel for v in source.views] == found


# TIFF: refusals


def _write_rgb(path: Path) -> None:
    tifffile.imwrite(path, pixels((5, 7, 3), "uint8"), photometric="rgb")


def _write_cut(path: Path) -> None:
    tifffile.imwrite(path, pixels((5, 64, 64)))
    path.write_bytes(path.read_bytes()[: 3 * 64 * 64])


def _write_unknown_codec(path: Path) -> None:
    tifffile.imwrite(path, pixels((5, 64, 64)), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["Compression"].overwrite(34712)  # JPEG 2000


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (_write_rgb, InvalidTypeError, "holds colours: axes YXS, shape (5, 7, 3); split them into channels"),
        (_write_cut, FormatError, "cut short"),
        (_write_unknown_codec, FormatError, "pip install imagecodecs"),
        (lambda p: p.write_bytes(b"no TIFF at all"), FormatError, "cannot be read as TIFF"),
        (lambda p: p.write_bytes(b""), FormatError, "cannot be read as TIFF"),
        (lambda p: p.write_bytes(b"II*\0\0\0\0\0"), FormatError, "holds no image"),
        (
            lambda p: tifffile.imwrite(p, pixels((2, 3, 5, 5)), photometric="minisblack"),
            InvalidInputError,
            "pass axes=",
        ),
        (lambda p: tifffile.imwrite(p, np.zeros((5, 5), bool)), InvalidTypeError, "cast to uint8 first"),
        (
            lambda p: tifffile.imwrite(p, np.zeros((5, 5), "float16")),
            InvalidTypeError,
            "cast to float32 first",
        ),
        (lambda p: tifffile.imwrite(p, np.zeros((5, 5), "complex64")), InvalidTypeError, "complex64"),
    ],
)
def test_a_tiff_that_cannot_be_converted(
    tmp_path: Path, write: Any, error: type[BdvError], message: str
) -> None:
    path = tmp_path / "a.tif"
    write(path)
    with pytest.raises(error, match=re.escape(message)):
        open_source(path)
    path.unlink()  # on Windows this fails if the file is still open


@pytest.mark.parametrize("share", [0.2, 0.6, 0.97, 0.995])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.tif", {"photometric": "minisblack"}),
        ("compressed.tif", {"photometric": "minisblack", "compression": "zlib"}),
        ("big.tif", {"bigtiff": True, "byteorder": ">", "rowsperstrip": 8, "compression": "zlib"}),
        ("tiles.tif", {"photometric": "minisblack", "tile": (16, 16)}),
        ("hyperstack.tif", {"imagej": True, "metadata": {"axes": "TZCYX"}}),
        ("one-page.tif", {"imagej": True, "truncate": True, "metadata": {"axes": "TZCYX"}}),
        ("a.ome.tif", {"metadata": {"axes": "TZCYX"}}),
        ("pages.tif", {}),
    ],
)
def test_a_file_that_is_cut_short_is_refused(
    tmp_path: Path, name: str, options: dict[str, Any], share: float
) -> None:
    """Wherever it was cut; also where what is left could be read as a smaller image."""
    array = pixels((2, 6, 3, 33, 31))
    path = tmp_path / name
    if options:
        tifffile.imwrite(path, array if "metadata" in options else array[0, :, 0], **options)
    else:
        with tifffile.TiffWriter(path) as file:
            for plane in array[0, :, 0]:
                file.write(plane, metadata=None, contiguous=False)
    open_source(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FormatError, match=r"is cut short.*copy it again"):
        open_source(path)


# .npy and arrays


@pytest.mark.parametrize(
    ("axes", "given"),
    [
        ("yx", None),
        ("zyx", None),
        ("tczyx", None),
        ("czyx", "czyx"),
        ("tzyx", "TZYX"),
        ("xyz", "xyz"),
        ("yxc", "yxc"),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", ">i4", "float32"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_files_and_arrays(tmp_path: Path, axes: str, given: str | None, dtype: str, order: Any) -> None:
    lengths = {"t": 2, "c": 3, "z": 4, "y": 11, "x": 7}
    array = np.asarray(pixels(tuple(lengths[a] for a in axes)).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array)
    for what in (tmp_path / "a.npy", str(tmp_path / "a.npy"), array):
        with open_source(what, axes=given) as source:
            assert_holds(source, as_tczyx(array, axes))
            assert [v.channel for v in source.views if v.time == 0] == [
                str(c) for c in range(lengths["c"] if "c" in axes else 1)
            ]


@given(st.permutations("tczyx"), st.integers(2, 5))
def test_any_order_of_axes(names: list[str], count: int) -> None:
    axes = "".join([a for a in names if a not in "yx"][: count - 2] + [a for a in names if a in "yx"])
    array = np.arange(np.prod(np.arange(2, 2 + count))).reshape(np.arange(2, 2 + count)).astype("int32")
    with open_source(array, axes=axes) as source:
        assert_holds(source, as_tczyx(array, axes))


def test_only_the_planes_asked_for_are_taken_from_an_array() -> None:
    class Lazy:
        shape = (2, 3, 40, 11, 7)
        dtype = np.dtype("uint8")
        asked: list[Any] = []  # noqa: RUF012

        def __getitem__(self, key: Any) -> NDArray[Any]:
            self.asked.append(key)
            part: NDArray[Any] = np.zeros(self.shape, self.dtype)[key]
            return part

    lazy = Lazy()
    with open_source(lazy) as source:
        assert source.read(source.views[4], 5, 8).shape == (3, 11, 7)
    assert lazy.asked == [(1, 1, slice(5, 8), slice(None), slice(None))]


def test_an_hdf5_dataset_is_an_array(tmp_path: Path) -> None:
    stack = pixels((4, 11, 7))
    with (
        h5py.File(tmp_path / "a.h5", "w") as file,
        open_source(file.create_dataset("a", data=stack)) as source,
    ):
        assert_holds(source, as_tczyx(stack, "zyx"))


@pytest.mark.parametrize(
    ("array", "axes", "error", "message"),
    [
        (np.zeros(3), None, InvalidInputError, "array of 1 axes, (3,), is not understood"),
        (np.zeros((1,) * 6), None, InvalidInputError, "array of 6 axes"),
        (np.zeros((2, 3, 4, 5)), None, InvalidInputError, "pass axes='czyx' or axes='tzyx'"),
        (np.zeros((2, 3)), "zyx", InvalidInputError, "axes='zyx' names 3 axes, the array has 2: (2, 3)"),
        (np.zeros((2, 3, 4)), "zzx", InvalidInputError, "the axes 'zzx' of the shape (2, 3, 4)"),
        (np.zeros((2, 3, 4)), "tcz", InvalidInputError, "y and x always"),
        (np.zeros((2, 3, 4)), "qyx", InvalidInputError, "one letter for each axis"),
        (np.zeros((0, 3, 4)), None, InvalidInputError, "the array is empty, its shape is (0, 3, 4)"),
        (
            np.zeros((3, 4), bool),
            None,
            InvalidTypeError,
            "type bool cannot be written; cast to uint8 first: .astype('uint8')",
        ),
        (np.zeros((3, 4), "float16"), None, InvalidTypeError, "cast to float32 first"),
        (
            np.zeros((3, 4), complex),
            None,
            InvalidTypeError,
            "complex128 cannot be written; give one of uint8",
        ),
        (np.zeros((3, 4), object), None, InvalidTypeError, "object cannot be written"),
        ([[1, 2], [3, 4]], None, InvalidTypeError, "a list cannot be converted"),
        (None, None, InvalidTypeError, "a NoneType cannot be converted"),
    ],
)
def test_an_array_that_cannot_be_converted(
    array: Any, axes: str | None, error: type[BdvError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        open_source(array, axes=axes)


def test_an_array_of_another_library_with_types_of_its_own() -> None:
    class Tensor:
        shape = (3, 4)
        dtype = object()

        def __getitem__(self, key: Any) -> Any:
            raise AssertionError(key)

    with pytest.raises(InvalidTypeError, match=re.escape("np.asarray(...)")):
        open_source(Tensor())


def test_axes_of_length_one_may_have_any_name() -> None:
    array = pixels((1, 4, 5, 6))
    with open_source(array, axes="szyx") as source:
        assert_holds(source, as_tczyx(array[0], "zyx"))


def test_npy_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, pixels((4, 5, 6)))
    whole = path.read_bytes()
    np.save(path, np.array([{}], dtype=object))
    for content in (b"", b"something else", whole[:-7], path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"cannot be read as \.npy"):
            open_source(path)
        path.unlink()


# In general


@pytest.fixture(params=["array", "npy", "tif"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    stack = pixels((4, 5, 6))
    np.save(tmp_path / "a.npy", stack)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    with open_source(stack if request.param == "array" else tmp_path / f"a.{request.param}") as source:
        yield source
    for path in tmp_path.iterdir():
        path.unlink()


def test_closing_twice_is_fine_and_reading_after_it_is_not(opened: Source) -> None:
    opened.close()
    opened.close()
    with pytest.raises(ClosedError, match="open it again"):
        opened.read(opened.views[0])


@pytest.mark.parametrize(("z0", "z1"), [(-1, 2), (2, 2), (3, 2), (0, 5), (4, None)])
def test_planes_that_are_not_there(opened: Source, z0: int, z1: int | None) -> None:
    with pytest.raises(OutOfRangeError, match="of 4"):
        opened.read(opened.views[0], z0, z1)


def test_a_view_of_another_source(opened: Source) -> None:
    with open_source(np.zeros((9, 9))) as other, pytest.raises(MissingKeyError, match="its views are listed"):
        opened.read(other.views[0])


def test_a_given_calibration_takes_the_place_of_that_in_the_file(tmp_path: Path) -> None:
    metadata = {"axes": "ZCYX", "spacing": 1.2, "unit": "nm"}
    tifffile.imwrite(
        tmp_path / "a.tif", pixels((3, 2, 5, 5)), imagej=True, resolution=(2.5, 2), metadata=metadata
    )

    def calibration(**given: Any) -> tuple[tuple[float, float, float], str]:
        with open_source(tmp_path / "a.tif", **given) as source:
            source.read(source.views[1])
            assert len({(v.voxel_size_xyz, v.unit) for v in source.views}) == 1
            return source.views[0].voxel_size_xyz, source.views[0].unit

    assert calibration() == ((0.4, 0.5, 1.2), "nanometer")
    assert calibration(voxel_size_xyz=np.array([1, 2, 3])) == ((1, 2, 3), "nanometer")
    assert calibration(unit="µm") == ((0.4, 0.5, 1.2), "micrometer")
    assert calibration(voxel_size_xyz=(1, 2, 3), unit="mm") == ((1, 2, 3), "millimeter")
    with open_source(np.zeros((5, 5)), voxel_size_xyz=(1, 2, 3)) as source:
        assert source.views[0].unit == "micrometer"


@pytest.mark.parametrize("size", [(1, 2), (1, 0, 1), (1, -1, 1), (1, float("nan"), 1)])
def test_a_voxel_size_that_cannot_be(tmp_path: Path, size: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels((5, 5)))
    with pytest.raises(InvalidInputError, match="three finite sizes above 0"):
        open_source(tmp_path / "a.tif", voxel_size_xyz=size)
    (tmp_path / "a.tif").unlink()


def test_paths_that_cannot_be_converted(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no file"):
        open_source(tmp_path / "absent.tif")
    (tmp_path / "a.txt").touch()
    with pytest.raises(FormatError, match=re.escape("give a TIFF (.tif, ")):
        open_source(tmp_path / "a.txt")
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(NotFoundError, match=re.escape("holds no .tif, ")):
        open_source(tmp_path / "folder.tif")


def test_one_number_is_no_voxel_size() -> None:
    with pytest.raises(InvalidInputError, match=r"three finite sizes above 0 \(x, y, z\); found 0\.4"):
        open_source(pixels((3, 4, 5)), voxel_size_xyz=0.4)  # type: ignore[arg-type]
