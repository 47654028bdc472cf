"""Projects that BigStitcher defines without resaving (TIFF) or splits, and where their files may lie."""

import json
import logging
import pickle
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.cli import main
from npy2bdv.errors import (
    ClosedError,
    FormatError,
    InvalidInputError,
    MissingKeyError,
    NotFoundError,
)
from npy2bdv.location import read_xml

SHAPE = (5, 6, 10)  # tifffile takes 3 or 4 for colours


def stack(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 60_000, shape).astype("uint16")


def computed(array: Any, **options: Any) -> Any:
    """Compute a dask array, whose methods have no types."""
    return array.compute(**options)


def project(
    folder: Path, loader: str, *, times: int = 1, channels: int = 1, tiles: int = 1, size: Any = SHAPE
) -> Path:
    """Write an XML, setups numbered tile by tile, their channels called 1, 2 ... as BigStitcher does."""
    setups, entities = "", {"channel": "", "tile": ""}
    for name, count in (("channel", channels), ("tile", tiles)):
        for id_ in range(count):
            entities[name] += f"<{name.title()}><id>{id_}</id><name>{id_ + 1}</name></{name.title()}>"
    shape = "" if size is None else f"<size>{' '.join(map(str, size[::-1]))}</size>"
    for setup in range(tiles * channels):
        setups += (
            f"<ViewSetup><id>{setup}</id><name>s{setup}</name>{shape}<voxelSize><unit>um</unit><size>1 1 2</size>"
            f"</voxelSize><attributes><illumination>0</illumination><channel>{setup % channels}</channel>"
            f"<tile>{setup // channels}</tile><angle>0</angle></attributes></ViewSetup>"
        )
    blocks = "".join(f'<Attributes name="{name}">{text}</Attributes>' for name, text in entities.items())
    path = folder / "dataset.xml"
    path.write_text(
        f'<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription>{loader}<ViewSetups>'
        f'{setups}{blocks}</ViewSetups><Timepoints type="range"><first>0</first><last>{times - 1}</last></Timepoints>'
        "</SequenceDescription><ViewRegistrations/></SpimData>",
        encoding="utf-8",
    )
    return path


def file_map(files: dict[tuple[int, int], tuple[str, int, int]], format_: str = "filemap2") -> str:
    """Name for each (time, setup) a file, a series and a channel in it."""
    listed = "".join(
        f'<FileMapping view_setup="{setup}" timepoint="{time}" series="{series}" channel="{channel}">'
        f'<file type="relative">{name}</file></FileMapping>'
        for (time, setup), (name, series, channel) in files.items()
    )
    return (
        f'<ImageLoader format="spimreconstruction.{format_}"><ZGrouped>false</ZGrouped><files>{listed}</files>'
        "</ImageLoader>"
    )


def stack_loader(pattern: str, kind: str = "ij", **layouts: int) -> str:
    numbers = "".join(
        f"<layout{name}>{layouts.get(name, 0)}</layout{name}>"
        for name in ("Timepoints", "Channels", "Illuminations", "Angles", "Tiles")
    )
    return (
        f'<ImageLoader format="spimreconstruction.stack.{kind}"><imagedirectory type="relative">raw</imagedirectory>'
        f"<filePattern>{pattern}</filePattern>{numbers}</ImageLoader>"
    )


# ------------------------------------------------------------------------------------------------- TIFF


@pytest.mark.parametrize("format_", ["filemap2", "filelist"])
@pytest.mark.parametrize("how", ["imagej", "ome", "plain", "tiled", "big-endian"])
def test_files_one_by_one(how: str, format_: str, tmp_path: Path) -> None:
    known: dict[str, dict[str, Any]] = {
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
        "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
        "plain": {"metadata": None},
        "tiled": {"metadata": None, "tile": (16, 16), "compression": "zlib"},
        "big-endian": {"metadata": None, "byteorder": ">"},
    }
    (tmp_path / "raw files").mkdir()
    suffix = ".ome.tif" if how == "ome" else ".tif"
    for setup in range(2):
        tifffile.imwrite(tmp_path / "raw files" / f"a{setup}{suffix}", stack(setup), **known[how])
    loader = file_map({(0, s): (f"raw files/a{s}{suffix}", 0, 0) for s in range(2)}, format_)
    path = project(tmp_path, loader, tiles=2)
    with npy2bdv.open(path) as dataset:
        for setup in range(2):
            view = dataset.view(tile=str(setup + 1))
            assert (view.shape, view.dtype.name, view.chunks, view.n_levels) == (
                SHAPE,
                "uint16",
                (1, 6, 10),
                1,
            )
            np.testing.assert_array_equal(view[...], stack(setup), strict=True)
            np.testing.assert_array_equal(view[::-2, 1:3, [5, 2]], stack(setup)[::-2, 1:3, [5, 2]])
            assert view[0:0].shape == (0, 6, 10)
            np.testing.assert_array_equal(computed(view.to_dask()), stack(setup))
            assert view.nbytes_on_disk
            assert view.level(0).compression == ("adobe_deflate" if how == "tiled" else "none")
        again = pickle.loads(pickle.dumps(view))
    np.testing.assert_array_equal(again[2], stack(1)[2])
    again.dataset.close()
    with pytest.raises(ClosedError):
        view[0]


def test_channels_series_and_time_points_inside_of_files(tmp_path: Path) -> None:
    whole = stack(3, (3, 5, 2, 6, 10))  # t z c y x
    tifffile.imwrite(tmp_path / "a.tif", whole, imagej=True, metadata={"axes": "TZCYX"})
    with tifffile.TiffWriter(tmp_path / "b.ome.tif", ome=True) as file:
        for series in range(2):
            file.write(stack(10 + series), metadata={"axes": "ZYX"})
    files = {(time, setup): ("a.tif", 0, setup) for time in range(3) for setup in range(2)}
    files |= {(0, 2): ("b.ome.tif", 0, 0), (0, 3): ("b.ome.tif", 1, 0)}
    path = project(tmp_path, file_map(files), times=3, channels=2, tiles=2)
    with npy2bdv.open(path) as dataset:
        for time, setup in np.ndindex(3, 2):
            np.testing.assert_array_equal(dataset.view(time=time, setup=setup)[...], whole[time, :, setup])
        np.testing.assert_array_equal(dataset.view(setup=2)[...], stack(10))
        np.testing.assert_array_equal(dataset.view(setup=3)[...], stack(11))
        with pytest.raises(MissingKeyError, match="names no file for time point 1, setup 2"):
            dataset.view(time=1, setup=2)[0]
        frame = dataset.to_frame()
        assert frame.set_index(["time", "setup"]).loc[(2, 1), "dtype"] == "uint16"
        assert frame["dtype"].notna().sum() == 8


@pytest.mark.parametrize("kind", ["ij", "loci"])
def test_stacks_by_pattern(kind: str, tmp_path: Path) -> None:
    """Files have names of channels and tiles and padded times, as BigStitcher makes them."""
    (tmp_path / "raw").mkdir()
    for time, channel, tile in np.ndindex(2, 2, 2):
        tifffile.imwrite(
            tmp_path / "raw" / f"t{time:03d}_c{channel + 1}_x{tile + 1:02d}.tif",
            stack(100 * time + 10 * channel + tile),
        )
    loader = stack_loader("t{ttt}_c{c}_x{xx}.tif", kind, Timepoints=1, Channels=1, Tiles=1)
    with npy2bdv.open(project(tmp_path, loader, times=2, channels=2, tiles=2)) as dataset:
        for time, channel, tile in np.ndindex(2, 2, 2):
            view = dataset.view(time=time, channel=channel, tile=tile)
            np.testing.assert_array_equal(view[...], stack(100 * time + 10 * channel + tile))


def test_stacks_of_all_channels_and_times_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    whole = stack(3, (2, 5, 3, 6, 10))
    tifffile.imwrite(tmp_path / "raw" / "all_1.tif", whole, imagej=True, metadata={"axes": "TZCYX"})
    loader = stack_loader("all_{x}.tif", Timepoints=2, Channels=2, Tiles=1)
    with npy2bdv.open(project(tmp_path, loader, times=2, channels=3)) as dataset:
        for time, channel in np.ndindex(2, 3):
            np.testing.assert_array_equal(
                dataset.view(time=time, channel=channel)[...], whole[time, :, channel]
            )


def test_many_files_are_not_open_at_once(tmp_path: Path) -> None:
    for setup in range(20):
        tifffile.imwrite(tmp_path / f"{setup}.tif", stack(setup))
    path = project(tmp_path, file_map({(0, s): (f"{s}.tif", 0, 0) for s in range(20)}), tiles=20)
    with npy2bdv.open(path) as dataset:
        for view in [*dataset, *dataset]:
            np.testing.assert_array_equal(view[1], stack(view.id.setup)[1])
        container: Any = dataset.container
        assert len(container._files) <= 8


def write(path: Path, kind: str) -> None:
    """Write a TIFF in which something is wrong, or nothing."""
    if kind == "no tiff":
        path.write_bytes(b"II no")
    elif kind == "colours":
        tifffile.imwrite(path, np.zeros((5, 6, 10, 3), "uint8"), photometric="rgb")
    elif kind == "one plane":
        tifffile.imwrite(path, stack(0)[0])
    elif kind != "no file":
        tifffile.imwrite(path, stack(0), metadata=None)
    if kind == "cut short":
        path.write_bytes(path.read_bytes()[:400])


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        ("no file", NotFoundError, r"names the file .*a\.tif, which is not there"),
        ("no tiff", FormatError, "cannot be read as TIFF .* Bio-Formats are read here only if they are TIFF"),
        ("colours", FormatError, "has the axes"),
        ("one plane", FormatError, r"\(1, 6, 10\) pixels \(z, y, x\), the XML describes \(5, 6, 10\)"),
        ("cut short", FormatError, "was cut short"),
        ("series", FormatError, "has 1 images; the XML asks for number 3"),
        ("channel", FormatError, "has 1 channels; the XML asks for number 3"),
    ],
)
def test_files_that_cannot_be_read(kind: str, error: type[Exception], says: str, tmp_path: Path) -> None:
    write(tmp_path / "a.tif", kind)
    entry = ("a.tif", 3 * (kind == "series"), 3 * (kind == "channel"))
    with npy2bdv.open(project(tmp_path, file_map({(0, 0): entry}))) as dataset:
        view = dataset.view(setup=0)
        assert view.attributes["tile"] == "1"
        with pytest.raises(error, match=says):
            view[...]


# ------------------------------------------------------------------------------- one plane in each file


def grouped(files: Mapping[int, list[str]]) -> str:
    """Name for each setup the files of its planes, or the first of them."""
    listed = "".join(
        f'<FileMapping view_setup="{setup}" timepoint="0" series="0" channel="0">'
        + "".join(f'<file type="relative">{name}</file>' for name in names)
        + "</FileMapping>"
        for setup, names in files.items()
    )
    return (
        '<ImageLoader format="spimreconstruction.filemap2"><ZGrouped>true</ZGrouped><files>'
        f"{listed}</files></ImageLoader>"
    )


def write_planes(
    folder: Path, pattern: str, pixels: NDArray[Any], first: int = 0, step: int = 1
) -> list[str]:
    folder.mkdir(exist_ok=True)
    names = [pattern.format(z=first + step * z) for z in range(len(pixels))]
    for name, plane in zip(names, pixels, strict=True):
        tifffile.imwrite(folder / name, plane)
    return names


def test_planes_that_are_listed(tmp_path: Path) -> None:
    names = write_planes(tmp_path, "p{z}.tif", stack(1))
    order = [names[z] for z in (3, 0, 4, 1, 2)]
    with npy2bdv.open(project(tmp_path, grouped({0: order}))) as dataset:
        view = dataset.view()
        expected = stack(1)[[3, 0, 4, 1, 2]]
        assert (view.shape, view.chunks, view.dtype.name) == (SHAPE, (1, 6, 10), "uint16")
        np.testing.assert_array_equal(view[...], expected, strict=True)
        np.testing.assert_array_equal(view[::-2, 1:4, [7, 2]], expected[::-2, 1:4, [7, 2]])
        assert view[0:0].shape == (0, 6, 10)
        assert view.nbytes_on_disk == sum((tmp_path / name).stat().st_size for name in names)
        assert list(dataset.container.views()) == [view.id]
        again = pickle.loads(pickle.dumps(view))
        np.testing.assert_array_equal(computed(view.to_dask()), expected)
    with again.dataset:
        np.testing.assert_array_equal(again[2], expected[2])


@pytest.mark.parametrize("size", [SHAPE, None])
@pytest.mark.parametrize(
    ("pattern", "first", "step"),
    [
        ("plane.tif{z}.tif", 8, 1),  # numbers without zeros: 8 comes before 10
        ("C{setup}_T001_Z{z:03d}.tif", 0, 1),  # the channel differs, too
        ("{setup:02d} focal-{z:02d} t2.tif", 0, 10),
        ("s{setup}_slice_{z}_1.tif", 1, 1),
    ],
)
def test_planes_that_are_found_by_their_names(
    pattern: str, first: int, step: int, size: Any, tmp_path: Path
) -> None:
    count = 1 + ("setup" in pattern)
    files = {}
    for setup in range(count):
        names = [pattern.format(setup=setup, z=first + step * z) for z in range(SHAPE[0])]
        for name, plane in zip(names, stack(setup), strict=True):
            tifffile.imwrite(tmp_path / name, plane)
        files[setup] = names[:1]
    (tmp_path / "notes 3.txt").write_text("no plane")
    with npy2bdv.open(project(tmp_path, grouped(files), tiles=count, size=size), confine=True) as dataset:
        for setup in range(count):
            np.testing.assert_array_equal(dataset.view(setup=setup)[...], stack(setup), strict=True)


def test_the_number_of_planes_tells_which_number_counts_them(tmp_path: Path) -> None:
    for tile in range(2):
        write_planes(tmp_path, f"{tile}_{{z}}.tif", stack(tile))
    loader = grouped({0: ["0_0.tif"], 1: ["1_0.tif"]})
    with npy2bdv.open(project(tmp_path, loader, tiles=2)) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=1)[...], stack(1))
    with (
        npy2bdv.open(project(tmp_path, loader, tiles=2, size=None)) as dataset,
        pytest.raises(FormatError, match=r"several numbers in its name differ .* cannot be told"),
    ):
        dataset.view(setup=1)[...]


@pytest.mark.parametrize("listed", [True, False])
def test_planes_that_are_absent_are_zeros(
    listed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = write_planes(tmp_path, "z{z:02d}.tif", stack(1))
    for z in (0, 2):
        (tmp_path / names[z]).unlink()
    expected = stack(1)
    expected[[0, 2]] = 0
    with npy2bdv.open(project(tmp_path, grouped({0: names if listed else names[:1]}))) as dataset:
        view = dataset.view()
        np.testing.assert_array_equal(view[3:], expected[3:])
        assert caplog.text == ""
        for _ in range(2):
            np.testing.assert_array_equal(view[...], expected, strict=True)
    (record,) = caplog.records
    assert "time point 0 of setup 0 is not complete: 2 of the chunks" in record.getMessage()


def test_stacks_of_planes_that_cannot_be_read(tmp_path: Path) -> None:
    names = write_planes(tmp_path, "z{z}.tif", stack(1))
    path = project(tmp_path, grouped({0: names[:3], 1: ["a/z0.tif"], 2: names[:1]}), tiles=3)
    tifffile.imwrite(tmp_path / names[4], stack(1)[4, 1:])
    with npy2bdv.open(path) as dataset:
        with pytest.raises(FormatError, match=r"3 files like .*z0\.tif make an image of \(3, 6, 10\) pixels"):
            dataset.view(setup=0)[0]
        with pytest.raises(NotFoundError, match=r"names the file .*z0\.tif, which is not there"):
            dataset.view(setup=1)[0]
        np.testing.assert_array_equal(dataset.view(setup=2)[:4], stack(1)[:4])
        with pytest.raises(
            FormatError, match=r"z4\.tif holds \(1, 5, 10\) .* the first file .* \(1, 6, 10\)"
        ):
            dataset.view(setup=2)[4]


def test_files_that_hold_all_planes_although_they_are_said_to_be_grouped(tmp_path: Path) -> None:
    for setup in range(2):
        tifffile.imwrite(tmp_path / f"stack{setup}.tif", stack(setup))
    loader = grouped({setup: [f"stack{setup}.tif"] for setup in range(2)})
    with npy2bdv.open(project(tmp_path, loader, tiles=2)) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=1)[...], stack(1))


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links ask for privileges")
def test_planes_that_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    names = write_planes(folder, "z{z}.tif", stack(1))
    (folder / names[3]).rename(tmp_path / "secret.tif")
    (folder / names[3]).symlink_to(tmp_path / "secret.tif")
    path = project(folder, grouped({0: names[:1]}))
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], stack(1))
    with npy2bdv.open(path, confine=True) as dataset, pytest.raises(FormatError, match="lies outside"):
        dataset.view()[...]


def test_all_tiles_in_one_file_are_refused_when_pixels_are_asked_for(tmp_path: Path) -> None:
    with npy2bdv.open(project(tmp_path, stack_loader("a.tif", Tiles=2))) as dataset:
        assert dataset.view().attributes["tile"] == "1"
        with pytest.raises(
            FormatError, match=r"stack\.ij', and all tiles lie in one file; pixels are read from"
        ):
            dataset.view()[0]


def test_info_of_tiff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack(0))
    assert main(["info", str(project(tmp_path, file_map({(0, 0): ("a.tif", 0, 0)})))]) == 0
    assert "spimreconstruction.filemap2" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ split


def split_of(path_xml: Path, parts: Mapping[int, tuple[int, tuple[int, ...], tuple[int, ...]]]) -> Path:
    """Split a dataset into boxes (setup, first x y z, last x y z), as BigStitcher does."""
    text = path_xml.read_text(encoding="utf-8")
    start, stop = text.index("<SequenceDescription>"), text.index("</SequenceDescription>")
    inner = text[start:stop]
    loader = inner[inner.index("<ImageLoader") : inner.index("</ImageLoader>") + len("</ImageLoader>")]
    inner = inner.replace(loader, "") + "</SequenceDescription>"
    ids = "".join(
        f"<SetupIdDefinition><NewId>{new}</NewId><OldId>{old}</OldId><min>{' '.join(map(str, low))}</min>"
        f"<max>{' '.join(map(str, high))}</max></SetupIdDefinition>"
        for new, (old, low, high) in parts.items()
    )
    split = (
        f'<ImageLoader format="split.viewerimgloader">{loader}{inner}<SetupIds>{ids}</SetupIds></ImageLoader>'
    )
    folder = path_xml.parent / "split"
    folder.mkdir(exist_ok=True)
    made = project(folder, split, tiles=len(parts), size=None)
    shutil.move(made, path_xml.with_name("split.xml"))
    return path_xml.with_name("split.xml")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.xml"
    with npy2bdv.create(path, levels=((1, 1, 1), (1, 2, 2), (2, 4, 4)), compression="gzip") as writer:
        for setup in range(2):
            writer.write(
                stack(setup, (8, 33, 47)), setup=writer.add_setup(shape=(8, 33, 47), tile=setup), time=0
            )
    return path


def test_split_datasets(whole: Path) -> None:
    boxes = {
        0: (0, (0, 0, 0), (23, 32, 7)),
        1: (0, (20, 0, 0), (46, 32, 7)),
        2: (1, (2, 6, 1), (40, 30, 6)),
        3: (1, (1, 0, 0), (9, 9, 3)),
    }
    with npy2bdv.open(whole) as full, npy2bdv.open(split_of(whole, boxes)) as dataset:
        assert dataset.container.path == full.container.path
        assert [view.id.setup for view in dataset] == [0, 1, 2, 3]
        # levels whose pixels do not lie on those of the box are left out
        assert [view.n_levels for view in dataset] == [3, 3, 2, 1]
        for view in dataset:
            old, low, high = boxes[view.id.setup]
            box = tuple(slice(a, b + 1) for a, b in zip(low[::-1], high[::-1], strict=True))
            expected = stack(old, (8, 33, 47))[box]
            assert view.shape == expected.shape
            np.testing.assert_array_equal(view[...], expected)
            np.testing.assert_array_equal(view[1:, ::3, -1], expected[1:, ::3, -1])
            for level in view.levels():
                inner = full.view(setup=old).level(level.index)
                start = [a // int(f) for a, f in zip(low[::-1], level.factors, strict=True)]
                part = tuple(slice(a, a + n) for a, n in zip(start, level.shape, strict=True))
                np.testing.assert_array_equal(level[...], inner[part])
                # a pixel of the level lies where it lay in the whole image, moved by the box
                moved = level.transform.apply((0, 0, 0)) + low
                factors = np.array(level.factors[::-1])
                np.testing.assert_allclose(moved, factors * start[::-1] + (factors - 1) / 2)
        again = pickle.loads(pickle.dumps(view))
        with again.dataset:
            np.testing.assert_array_equal(again[...], expected)
        np.testing.assert_array_equal(computed(view.to_dask()), expected)
        assert list(dataset.container.views()) == [view.id for view in dataset]


def test_split_of_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack(5))
    path = project(tmp_path, file_map({(0, 0): ("a.tif", 0, 0)}))
    with npy2bdv.open(split_of(path, {0: (0, (2, 1, 1), (7, 4, 2))})) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], stack(5)[1:3, 1:5, 2:8])


def test_split_that_does_not_fit(whole: Path) -> None:
    parts = {0: (0, (60, 0, 0), (70, 9, 3)), 1: (9, (0, 0, 0), (1, 1, 1))}
    with npy2bdv.open(split_of(whole, parts)) as dataset:
        with pytest.raises(FormatError, match=r"takes the pixels \(60, 0, 0\) to \(70, 9, 3\)"):
            dataset.view(setup=0)[0]
        with pytest.raises(MissingKeyError, match="setup 9"):
            dataset.view(setup=1)[0]


def test_split_of_something_that_is_not_read_still_has_its_setups(tmp_path: Path) -> None:
    path = project(tmp_path, '<ImageLoader format="spimreconstruction.micromanager"></ImageLoader>')
    with npy2bdv.open(split_of(path, {0: (0, (0, 0, 0), (1, 1, 1))})) as dataset:
        assert not dataset.has_pixels
        assert dataset.view().attributes["tile"] == "1"
        assert len(dataset.to_frame()) == 1
        with pytest.raises(
            FormatError, match=r"loader 'spimreconstruction\.micromanager'; pixels are read from"
        ):
            dataset.view()[0]


# -------------------------------------------------------------------------------- which XML, which folder


def test_xml_is_found_by_what_it_names(whole: Path) -> None:
    pixels = whole.with_suffix(".h5")
    named = whole.rename(whole.with_name("other name.xml"))
    (whole.parent / "notes.xml").write_text("<notes/>", encoding="utf-8")
    (whole.parent / "broken.xml").write_text("<SpimData", encoding="utf-8")
    with npy2bdv.open(pixels) as dataset:
        assert dataset.path == named
    shutil.copy(named, whole.parent / "third.xml")
    with pytest.raises(
        InvalidInputError, match=r"2 XMLs describe whole\.h5; open the one .* other name\.xml, third\.xml"
    ):
        npy2bdv.open(pixels)
    shutil.copy(named, whole)  # the one of that name is meant
    with npy2bdv.open(str(pixels)) as dataset:
        assert dataset.path == whole


def test_no_xml_at_all(whole: Path) -> None:
    whole.unlink()
    with pytest.raises(
        NotFoundError, match=r"there is no XML .*whole\.xml beside whole\.h5, and none that names it"
    ):
        npy2bdv.open(whole.with_suffix(".h5"))


def test_pixels_on_another_machine(tmp_path: Path) -> None:
    path = project(tmp_path, '<ImageLoader format="bdv.hdf5"><hdf5>s3://bucket/a.h5</hdf5></ImageLoader>')
    with npy2bdv.open(path) as dataset:
        assert dataset.view().attributes["tile"] == "1"
        with pytest.raises(FormatError, match="from a server only N5 and OME-Zarr are read: copy"):
            dataset.view()[0]


def outside(whole: Path, kind: str) -> Path:
    """Return an XML in a folder of its own whose pixels lie elsewhere."""
    folder = whole.parent / "inner"
    folder.mkdir()
    pixels, name = whole.with_suffix(".h5"), "../whole.h5"
    if kind == "symbolic link":
        (folder / "link.h5").symlink_to(pixels)
        name = "link.h5"
    elif kind == "absolute":
        name = pixels.as_posix()
    elif kind == "partition":
        name = "master.h5"
        with h5py.File(folder / name, "w") as master, h5py.File(pixels) as file:
            for setup in ("s00", "s01"):
                file.copy(setup, master)
                for level in range(3):
                    cells = f"t00000/{setup}/{level}/cells"
                    master[cells] = h5py.ExternalLink("../whole.h5", cells)
    text = whole.read_text(encoding="utf-8")
    assert ">whole.h5<" in text
    path = folder / "whole.xml"
    path.write_text(text.replace(">whole.h5<", f">{name}<"), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["relative", "absolute", "symbolic link", "partition"])
def test_pixels_outside_of_the_folder(whole: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    path = outside(whole, kind)
    with caplog.at_level(logging.INFO), npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=1)[...], stack(1, (8, 33, 47)))
    assert "which lies outside of the dataset's folder" in caplog.text

    def read() -> None:
        with npy2bdv.open(path, confine=True) as dataset:
            dataset.view(setup=1)[0]

    with pytest.raises(FormatError, match=r"lies outside of the dataset's folder .* without confine=True"):
        read()
    with npy2bdv.open(whole, confine=True) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=1)[...], stack(1, (8, 33, 47)))
        again = pickle.loads(pickle.dumps(dataset))
        again.close()


def test_raw_data_and_virtual_images_outside_of_the_folder(whole: Path) -> None:
    """An image of an HDF5 file may lie in any file: a list of passwords, say."""
    secret = whole.parent / "secret"
    secret.write_bytes(bytes(2 * 8 * 33 * 47))
    folder = whole.parent / "inner"
    folder.mkdir()
    shutil.copy(whole, folder)
    shutil.copy(whole.with_suffix(".h5"), folder)
    with h5py.File(folder / "whole.h5", "r+") as file:
        del file["t00000/s00/0/cells"], file["t00000/s01/0/cells"]
        size = secret.stat().st_size
        file.create_dataset("t00000/s00/0/cells", (8, 33, 47), "i2", external=[(str(secret), 0, size)])
        layout = h5py.VirtualLayout((8, 33, 47), "i2")
        layout[...] = h5py.VirtualSource(str(whole.with_suffix(".h5")), "t00000/s01/0/cells", (8, 33, 47))
        file.create_virtual_dataset("t00000/s01/0/cells", layout)
    with npy2bdv.open(folder / "whole.xml") as dataset:
        assert not dataset.view(setup=0)[...].any()
        np.testing.assert_array_equal(dataset.view(setup=1)[...], stack(1, (8, 33, 47)))
    with npy2bdv.open(folder / "whole.xml", confine=True) as dataset:
        for view, named in zip(dataset, ("secret", "whole.h5"), strict=True):
            with pytest.raises(FormatError, match=f"names .*{named}, which lies outside"):
                view[0]


@pytest.mark.parametrize("kind", ["files", "stack"])
def test_tiff_outside_of_the_folder(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack(0))
    folder = tmp_path / "inner"
    folder.mkdir()
    loader = file_map({(0, 0): ("../a.tif", 0, 0)}) if kind == "files" else stack_loader("../../a.tif")
    (folder / "raw").mkdir()
    path = project(folder, loader)
    with caplog.at_level(logging.INFO), npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], stack(0))
    assert "outside of the dataset's folder" in caplog.text
    with pytest.raises(FormatError, match="outside of the dataset's folder"):
        npy2bdv.open(path, confine=True)


# ------------------------------------------------------------------------- all kinds of pixels are alike

KINDS = ("hdf5", "n5", "omezarr2", "omezarr3", "tiff", "planes")
WHOLE = (8, 33, 47)
INSIDE = (slice(1, 7), slice(6, 31), slice(4, 41))


@pytest.fixture(scope="module", params=[*KINDS, *(f"split {kind}" for kind in KINDS)])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, NDArray[Any]]:
    """A dataset of each kind, and its pixels; one that is split shows `INSIDE` of them."""
    folder = tmp_path_factory.mktemp("kind")
    kind = str(request.param).removeprefix("split ")
    path = folder / "scan.xml"
    if kind == "tiff":
        tifffile.imwrite(folder / "a.tif", stack(1, WHOLE))
        path = project(folder, file_map({(0, 0): ("a.tif", 0, 0)}), size=WHOLE)
    elif kind == "planes":
        names = write_planes(folder, "z{z}.tif", stack(1, WHOLE))
        path = project(folder, grouped({0: names[:1]}), size=WHOLE)
    else:
        version = int(kind[-1]) if kind.startswith("omezarr") else None
        options: dict[str, Any] = {"format": kind.rstrip("23") if version else kind, "zarr_version": version}
        with npy2bdv.create(path, levels=((1, 1, 1), (1, 2, 4)), chunks=(2, 16, 16), **options) as writer:
            writer.write(stack(1, WHOLE), setup=writer.add_setup(shape=WHOLE))
    if kind == request.param:
        return path, stack(1, WHOLE)
    low = tuple(part.start for part in INSIDE)
    high = tuple(part.stop - 1 for part in INSIDE)
    return split_of(path, {0: (0, low[::-1], high[::-1])}), stack(1, WHOLE)[INSIDE]


def test_arrays_outlive_their_dataset(opened: tuple[Path, NDArray[Any]]) -> None:
    path, pixels = opened
    with npy2bdv.open(path) as dataset:
        view = dataset.view()
        assert (view.shape, view.dtype.name) == (pixels.shape, "uint16")
        lazy, labelled = view.to_dask(chunks=(3, 20, 20)), view.to_xarray()
        text = pickle.dumps((dataset, view, view.level(view.n_levels - 1), lazy))
        coarsest = view.level(view.n_levels - 1)[...]
    np.testing.assert_array_equal(computed(lazy), pixels, strict=True)
    np.testing.assert_array_equal(labelled, pixels)
    again, same_view, level, same_lazy = pickle.loads(text)
    with again:
        assert same_view.dataset is again
        np.testing.assert_array_equal(same_view[...], pixels, strict=True)
        np.testing.assert_array_equal(level[...], coarsest, strict=True)
    np.testing.assert_array_equal(computed(same_lazy[::-2, 3:5]), pixels[::-2, 3:5], strict=True)


_STEPS = st.none() | st.sampled_from([-5, -1, 1, 3])
_PLACES = st.none() | st.integers(-40, 40)
_INDEX = st.one_of(
    st.builds(slice, _PLACES, _PLACES, _STEPS),
    st.integers(-50, 50),
    st.just(Ellipsis),
    st.lists(st.integers(-40, 40), max_size=4),
)


@given(index=st.lists(_INDEX, max_size=3).map(tuple))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_index_is_that_of_numpy(opened: tuple[Path, NDArray[Any]], index: Any) -> None:
    path, pixels = opened
    with npy2bdv.open(path) as dataset:
        try:
            expected = pixels[index]
        except (IndexError, DeprecationWarning):
            with pytest.raises(IndexError):
                dataset.view()[index]
            return
        try:
            found = dataset.view()[index]
        except IndexError:  # numpy does not look at places of which nothing is taken
            assert not expected.size
            assert [] in index
            return
        np.testing.assert_array_equal(found, expected, strict=True)


def test_tensorstore_opens_what_it_knows(opened: tuple[Path, NDArray[Any]]) -> None:
    path, pixels = opened
    with npy2bdv.open(path) as dataset:
        view = dataset.view()
        if dataset.container.card.name in ("hdf5", "tiff"):
            with pytest.raises(
                InvalidInputError, match=r"does not read (hdf5|tiff); to_dask\(\) reads every format"
            ):
                view.to_tensorstore()
            return
        store = view.to_tensorstore()
        coarse = view.level(view.n_levels - 1).to_tensorstore()
        expected = view.level(view.n_levels - 1)[...]
    assert (store.shape, store.dtype.name, store.writable) == (pixels.shape, "uint16", False)
    assert store.domain.inclusive_min == (0, 0, 0)
    np.testing.assert_array_equal(store[2, 3:9].read().result(), pixels[2, 3:9], strict=True)
    np.testing.assert_array_equal(coarse.read().result(), expected, strict=True)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read().result(), pixels)


def test_opening_and_reading_changes_nothing(opened: tuple[Path, NDArray[Any]]) -> None:
    path, _ = opened

    def state() -> dict[Path, tuple[int, bytes]]:
        files = (each for each in path.parent.rglob("*") if each.is_file())
        return {each: (each.stat().st_mtime_ns, each.read_bytes()) for each in files}

    before = state()
    with npy2bdv.open(str(path)) as dataset:
        repr(dataset), dataset._repr_html_(), dataset.bounding_box()
        for level in dataset.view().levels():
            level[...]
        (size,) = dataset.to_frame()["nbytes_on_disk"]
        assert size > 0
    assert state() == before


@pytest.mark.parametrize("kind", ["n5", "omezarr2", "omezarr3"])
@pytest.mark.parametrize("level", [0, 1])
def test_an_image_without_any_block_is_zeros_and_said_to_be_nothing_of(
    kind: str, level: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Single blocks are absent in sound data, where they are zeros: nothing is said of them."""
    version = int(kind[-1]) if kind.startswith("omezarr") else None
    path = tmp_path / "scan.xml"
    with npy2bdv.create(
        path,
        levels=((1, 1, 1), (1, 2, 4)),
        chunks=(2, 16, 16),
        format="omezarr" if version else "n5",
        zarr_version=version,
    ) as writer:
        setup = writer.add_setup(shape=WHOLE)
        for time in range(2):
            writer.write(stack(1, WHOLE), setup=setup, time=time)
    image = tmp_path / (
        f"scan.ome.zarr/s0-t1.zarr/{level}" if version else f"scan.n5/setup0/timepoint1/s{level}"
    )
    blocks = [each for each in image.rglob("*") if each.is_file() and each.name.isdecimal()]
    blocks[0].unlink()
    with npy2bdv.open(path) as dataset:
        assert (dataset.view(time=1).level(level)[...] == 0).any()
    assert caplog.text == ""
    for block in blocks[1:]:
        block.unlink()
    with npy2bdv.open(path) as dataset:
        view = dataset.view(time=1)
        for _ in range(2):
            assert not view.level(level)[...].any()
        np.testing.assert_array_equal(view.level(1 - level)[...], dataset.view(time=0).level(1 - level)[...])
        np.testing.assert_array_equal(dataset.view(time=0)[...], stack(1, WHOLE))
    (record,) = caplog.records
    assert "time point 1 of setup 0 is not complete" in record.getMessage()


@pytest.mark.parametrize("kind", ["hdf5", "n5", "omezarr2", "omezarr3"])
def test_views_that_are_not_there_are_never_zeros(kind: str, tmp_path: Path) -> None:
    """One is listed as missing, of another the pixels are gone."""
    version = int(kind[-1]) if kind.startswith("omezarr") else None
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path, format=kind.rstrip("23") if version else kind, zarr_version=version) as writer:  # type: ignore[arg-type]
        setups = [writer.add_setup(shape=SHAPE, tile=tile) for tile in range(2)]
        for time, setup in ((0, 0), (0, 1), (1, 0)):
            writer.write(stack(setup), setup=setups[setup], time=time)
    if kind == "hdf5":
        with h5py.File(tmp_path / "scan.h5", "r+") as file:
            del file["t00001/s00"]
    else:
        shutil.rmtree(tmp_path / ("scan.ome.zarr/s0-t1.zarr" if version else "scan.n5/setup0/timepoint1"))
    with npy2bdv.open(path) as dataset:
        with pytest.raises(LookupError, match="time point 1 of setup 1 is a missing view"):
            dataset.view(time=1, setup=1)
        with pytest.raises(LookupError, match="no pixels of time point 1, setup 0"):
            dataset.view(time=1, setup=0)[0]
        np.testing.assert_array_equal(dataset.view(time=0, setup=0)[...], stack(0))


@pytest.mark.parametrize("suffix", [".n5", ".ome.zarr"])
def test_the_xml_of_a_folder_of_pixels_is_found_by_what_it_names(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / f"50% ä b{suffix}"
    with npy2bdv.create(folder) as writer:
        writer.write(stack(0), setup=writer.add_setup(shape=SHAPE))
    (made,) = tmp_path.glob("*.xml")
    named = made.rename(tmp_path / "project.xml")
    for spelling in (folder, f"{folder}/"):
        with npy2bdv.open(spelling) as dataset:
            assert dataset.path == named
            np.testing.assert_array_equal(dataset.view()[...], stack(0))
    shutil.copy(named, tmp_path / "copy.xml")
    with pytest.raises(InvalidInputError, match=r"2 XMLs describe .* copy\.xml, project\.xml"):
        npy2bdv.open(folder)


@pytest.mark.parametrize("number", [0, 4])
def test_pixels_put_where_an_xml_of_bigstitcher_names_them(
    number: int, real_data: Path, tmp_path: Path
) -> None:
    """Real projects of 15 and 147 tiles, whose pixels were not published: small ones stand for them."""
    path = Path(shutil.copy(real_data / f"bigstitcher/bigstitcher_{number}.xml", tmp_path))
    with pytest.raises(NotFoundError, match=r"dataset\.n5, which is not there"):
        npy2bdv.open(path)
    data = read_xml(path)
    for setup in data.setups:
        image = tmp_path / f"dataset.n5/setup{setup}"
        spec = {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": f"{image.as_posix()}/timepoint0/s0/"},
            "metadata": {"compression": {"type": "zstd"}, "blockSize": [4, 4, 4]},
            "create": True,
        }
        store = tensorstore.open(spec, dtype=tensorstore.uint16, shape=SHAPE[::-1]).result()
        store.T[...] = stack(setup)
        described = {"downsamplingFactors": [[1, 1, 1]], "dataType": "uint16"}
        (image / "attributes.json").write_text(json.dumps(described))
    with npy2bdv.open(path) as dataset:
        assert len(dataset) == len(data.setups)
        assert any(view.transforms for view in dataset)
        for view in dataset:
            np.testing.assert_array_equal(view[...], stack(view.id.setup), strict=True)
        frame = dataset.to_frame()
        assert frame["shape"].tolist() == [SHAPE] * len(frame)
