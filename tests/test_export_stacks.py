"""One view or level as TIFF or .npy: what other programs read, bounded memory, refusals."""

import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import npy2bdv
from npy2bdv import export as export_function
from npy2bdv.cli import main
from npy2bdv.errors import ExistsError, InvalidInputError, InvalidTypeError, NotFoundError, WriteError
from npy2bdv.storage import disk, stacks
from npy2bdv.storage.tiff import CARD as TIFF_CARD

LEVELS = ((1, 1, 1), (1, 2, 2), (2, 4, 4))
SHAPE = (9, 35, 45)
ALL_TYPES = [f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)] + ["float32", "float64"]
MODULE: Any = sys.modules[export_function.__module__]


def record(folder: Path, dtype: str = "uint16", **how: Any) -> NDArray[Any]:
    """Write a dataset of two channels at two time points; return the pixels of the last view."""
    pixels = np.random.default_rng(0).integers(0, 120, SHAPE).astype(dtype)
    with npy2bdv.create(folder / "scan.xml", levels=LEVELS, chunks=(4, 16, 16)) as writer:
        known = {"voxel_size_xyz": (0.65, 0.25, 2.0), "unit": "um"} | how
        for channel in ("488", "561"):
            setup = writer.add_setup(shape=SHAPE, dtype=dtype, channel=channel, **known)
            for time in range(2):
                writer.write(pixels + np.array(setup + 2 * time, dtype), setup=setup, time=time)
    last: NDArray[Any] = pixels + np.array(3, dtype)
    return last


def export(folder: Path, name: str, level: int | None = None, **how: Any) -> Path:
    with npy2bdv.open(folder / "scan.xml") as dataset:
        view = dataset.view(time=1, channel="561")
        return npy2bdv.export(view if level is None else view.level(level), folder / name, **how)


@pytest.mark.parametrize("level", [None, 0, 2])
@pytest.mark.parametrize("dtype", ALL_TYPES)
def test_tifffile_and_numpy_read_what_is_exported(tmp_path: Path, dtype: str, level: int | None) -> None:
    pixels = record(tmp_path, dtype)
    expected = npy2bdv.downsample(pixels, LEVELS[level or 0])
    path = export(tmp_path, "one.tif", level)
    with tifffile.TiffFile(path) as file:
        assert not file.is_bigtiff
        assert file.is_imagej
        (series,) = file.series
        assert (series.axes, series.dtype) == ("ZYX", np.dtype(dtype))
        np.testing.assert_array_equal(series.asarray(), expected)
        np.testing.assert_array_equal(np.stack([page.asarray() for page in file.pages]), expected)
    made = np.load(export(tmp_path, "one.npy", level))
    assert made.dtype == dtype
    np.testing.assert_array_equal(made, expected)


def test_a_tiff_is_calibrated_as_imagej_does_it(tmp_path: Path) -> None:
    record(tmp_path)
    with tifffile.TiffFile(export(tmp_path, "one.tif")) as file:
        told: Any = file.imagej_metadata
        tags = file.pages.first.tags
        assert told["unit"] == "micron"
        assert told["spacing"] == 2.0
        assert told["images"] == told["slices"] == SHAPE[0]
        assert tags["XResolution"].value == (20, 13)  # 1 / 0.65, exactly
        assert tags["YResolution"].value == (4, 1)
        assert tags["ResolutionUnit"].value == 1
        assert 0 <= told["min"] < told["max"] <= 123
    with tifffile.TiffFile(export(tmp_path, "two.tif", 2)) as file:
        told = file.imagej_metadata
        assert told["spacing"] == 4.0
        assert file.pages.first.tags["XResolution"].value == (5, 13)


@pytest.mark.parametrize(
    ("size", "unit"),
    [((1.0, 1.0, 1.0), "px"), ((0.1, 0.3, 0.7), "nm"), ((1 / 3, 2e-7, 1e-9), "mm"), ((1e5, 4e9, 3.0), "Å")],
)
def test_what_is_exported_is_converted_back(tmp_path: Path, size: Any, unit: str) -> None:
    pixels = record(tmp_path, voxel_size_xyz=size, unit=unit)
    for name in ("one.tif", "one.npy"):
        again = npy2bdv.resave(export(tmp_path, name), tmp_path / "again.xml", overwrite=True)
        with npy2bdv.open(again) as dataset:
            view = dataset.view()
            np.testing.assert_array_equal(view[:], pixels)
            if name == "one.tif":
                assert view.voxel_size_xyz == pytest.approx(size, rel=1e-6)


def test_beyond_4_gb_it_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = record(tmp_path)
    monkeypatch.setattr(stacks, "_CLASSIC_BYTES", pixels.nbytes + 400 * len(pixels) - 1)
    with tifffile.TiffFile(export(tmp_path, "one.tif")) as file:
        assert file.is_bigtiff
        assert file.is_imagej
        np.testing.assert_array_equal(file.asarray(), pixels)
    monkeypatch.setattr(stacks, "_CLASSIC_BYTES", pixels.nbytes + 400 * len(pixels))
    with tifffile.TiffFile(export(tmp_path, "two.tif")) as file:
        assert not file.is_bigtiff


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 1, 7), (4, 6, 1), (1, 1, 1), (3, 4, 3), (3, 4, 4)])
def test_shapes_that_could_be_taken_for_something_else(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    pixels = np.arange(np.prod(shape), dtype="uint8").reshape(shape)
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        writer.write(pixels, setup=writer.add_setup(shape=shape, dtype="uint8"))
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        path = npy2bdv.export(dataset.view(), tmp_path / "one.tiff")
        np.testing.assert_array_equal(np.load(npy2bdv.export(dataset.view(), tmp_path / "a.npy")), pixels)
    np.testing.assert_array_equal(tifffile.imread(path).reshape(shape), pixels)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == shape[0]


@pytest.mark.parametrize("name", ["one.tif", "one.npy"])
def test_memory_does_not_grow_with_the_stack(tmp_path: Path, name: str) -> None:
    peaks = []
    for depth in (16, 64):
        folder = tmp_path / str(depth)
        folder.mkdir()
        with npy2bdv.create(folder / "scan.xml", chunks=(4, 64, 64)) as writer:
            setup = writer.add_setup(shape=(depth, 256, 256))
            writer.write(np.ones((depth, 256, 256), "uint16"), setup=setup)
        with npy2bdv.open(folder / "scan.xml") as dataset:
            view = dataset.view()
            npy2bdv.export(view, folder / f"first{name}")  # what is imported and made once
            tracemalloc.start()
            npy2bdv.export(view, folder / name)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**19  # 6 MB more of pixels
    assert peaks[1] < 3 * 2**20


@pytest.mark.parametrize("name", ["one.tif", "one.npy", "one.ome.zarr"])
def test_progress_is_told(tmp_path: Path, name: str) -> None:
    pixels = record(tmp_path)
    told: list[tuple[int, int]] = []
    export(tmp_path, name, progress=lambda done, total: told.append((done, total)))
    total = told[0][1]
    assert total == pixels.nbytes if name != "one.ome.zarr" else total > pixels.nbytes
    assert {each[1] for each in told} == {total}
    assert [each[0] for each in told] == sorted({each[0] for each in told})
    assert told[-1][0] == total
    assert len(told) > 1


# Refusals


@pytest.mark.parametrize("name", ["one.tif", "one.npy"])
def test_a_file_is_replaced_only_when_asked(tmp_path: Path, name: str) -> None:
    record(tmp_path)
    path = tmp_path / name
    path.write_text("mine")
    with pytest.raises(ExistsError, match="replace the file with overwrite=True"):
        export(tmp_path, name)
    assert path.read_text() == "mine"
    export(tmp_path, name, overwrite=True)
    assert path.stat().st_size > 1000
    path.unlink()
    path.mkdir()
    with pytest.raises(ExistsError, match="choose another name"):
        export(tmp_path, name, overwrite=True)


@pytest.mark.parametrize(
    ("name", "level", "how", "error", "message"),
    [
        ("one.jpg", None, {}, InvalidInputError, r"no name for an image: give NAME\.ome\.zarr, or NAME\.tif"),
        ("gone/one.tif", None, {}, NotFoundError, "does not exist; create it first"),
        ("one.tif", None, {"zarr_version": 2}, InvalidInputError, "are for OME-Zarr"),
        ("one.npy", None, {"compression": "gzip"}, InvalidInputError, "are for OME-Zarr"),
        ("one.ome.zarr", 1, {}, InvalidInputError, r"has all levels of a view; .*one\.ome\.tif"),
    ],
)
def test_arguments_that_cannot_be(
    tmp_path: Path, name: str, level: int | None, how: dict[str, Any], error: type[Exception], message: str
) -> None:
    record(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        export(tmp_path, name, level, **how)
    assert sorted(tmp_path.rglob("*")) == before


def test_only_views_and_levels_are_exported(tmp_path: Path) -> None:
    with pytest.raises(InvalidTypeError, match="takes a view or a level"):
        npy2bdv.export(np.zeros((3, 4, 5)), tmp_path / "one.tif")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_pixels_in_tiff_are_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        container: Any = dataset.container
        monkeypatch.setattr(type(container), "card", TIFF_CARD)
        monkeypatch.setattr(container, "path", tmp_path)
        (tmp_path / "one.tif").write_text("pixels of the dataset")
        with pytest.raises(InvalidInputError, match="lies in the dataset that is read"):
            npy2bdv.export(dataset.view(channel="488"), tmp_path / "one.tif", overwrite=True)
    assert (tmp_path / "one.tif").read_text() == "pixels of the dataset"


def test_sizes_that_a_tiff_cannot_tell(tmp_path: Path) -> None:
    record(tmp_path, voxel_size_xyz=(7e9, 1.0, 1.0))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InvalidInputError, match="cannot be told in a TIFF; change its unit"):
        export(tmp_path, "one.tif")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["one.tif", "one.npy"])
def test_a_disk_that_fails_leaves_what_was_there(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path)
    (tmp_path / name).write_text("before")
    before = sorted(tmp_path.iterdir())

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(MODULE, "move", full)
        with pytest.raises(WriteError, match="is full"):
            export(tmp_path, name, overwrite=True)
    with monkeypatch.context() as patched:
        patched.setattr(disk, "free_bytes", lambda _: 100)
        with pytest.raises(WriteError, match="choose another disk, or a coarser level"):
            export(tmp_path, name, overwrite=True)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / name).read_text() == "before"


# The command


def test_the_command_exports_one_view(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = record(tmp_path)
    xml = str(tmp_path / "scan.xml")
    out = str(tmp_path / "one.tif")
    assert main(["export", xml, out, "--time", "1", "--channel", "561", "--level", "1"]) == 0
    np.testing.assert_array_equal(tifffile.imread(out), npy2bdv.downsample(pixels, LEVELS[1]))
    assert "time point 1, setup 1, size z,y,x 9,18,23" in capsys.readouterr().out

    assert main(["export", xml, out, "--time", "1", "--setup", "1"]) == 1
    assert "replace the file with --overwrite" in capsys.readouterr().err
    assert main(["export", xml, out, "--time", "1", "--setup", "1", "--overwrite"]) == 0
    np.testing.assert_array_equal(tifffile.imread(out), pixels)
    assert main(["export", xml, str(tmp_path / "a.ome.zarr"), "--time", "1", "--setup", "1"]) == 0
    assert (tmp_path / "a.ome.zarr" / "2").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--channel", "561"],
            "2 views are meant, and one is exported: say which, for example --time 0 --setup 1",
        ),
        (["--channel", "640"], "640"),
        (["--time", "0", "--setup", "0", "--level", "7"], "level"),
        (["--time", "9", "--setup", "0"], "time"),
    ],
)
def test_the_command_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    record(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", str(tmp_path / "scan.xml"), str(tmp_path / "one.tif"), *options]) == 1
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
