"""Views as arrays in the world: geometry, other libraries, tables, what is said of pixels that are not there."""

import logging
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

import npy2bdv
from npy2bdv.errors import ClosedError, InvalidInputError, NotInDatasetError
from npy2bdv.model.affine import Affine
from npy2bdv.model.box import Box

SHAPE = (9, 21, 34)
STACK = np.random.default_rng(1).integers(0, 60_000, SHAPE).astype("uint16")
TILTED = Affine.from_array(np.array([[1, 0.25, 0, 100], [0, 2, 0, -7], [0.5, 0, 4, 1000]]))


def computed(array: Any, **options: Any) -> Any:
    """Compute a dask array, whose methods have no types."""
    return array.compute(**options)


@pytest.fixture(params=["none", "gzip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path, levels=((1, 1, 1), (2, 4, 2)), compression=request.param) as writer:
        for tile in range(2):
            setup = writer.add_setup(
                shape=SHAPE, channel="488", tile=f"<{tile}>", voxel_size_xyz=(0.5, 0.25, 2.0),
                camera="Flash", exposure_time=0.01,
            )  # fmt: skip
            for time in range(2):
                if (time, tile) != (1, 1):
                    writer.write(STACK + tile, setup=setup, time=time)
    return path


def test_an_array_of_its_own(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        view, level = dataset.view(setup=0), dataset.view(setup=0).level(1)
        assert (view.shape, view.ndim, view.size, len(view), view.nbytes) == (SHAPE, 3, 6426, 9, 12852)
        assert (view.factors, view.unit, view.voxel_size_xyz) == ((1, 1, 1), "micrometer", (0.5, 0.25, 2.0))
        assert (level.factors, level.unit, level.voxel_size_xyz) == ((2, 4, 2), "micrometer", (1.0, 1.0, 4.0))
        assert view.chunks == view.level(0).chunks
        assert np.asarray(view, dtype="float32").dtype == np.float32
        np.testing.assert_array_equal(np.asarray(level), npy2bdv.downsample(STACK, (2, 4, 2)))
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # numpy 1 copies without asking
            with pytest.raises(ValueError, match="copied into memory"):
                np.array(view, copy=False)


def test_read_into_an_array(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npy2bdv.view._READ_BYTES", 3000)  # a few rows of chunks at a time
    with npy2bdv.open(path) as dataset:
        view = dataset.view(setup=1, time=0)
        np.testing.assert_array_equal(view.read(), STACK + 1)
        series = np.zeros((2, *SHAPE), "float64")
        assert view.read(out=series[1]).base is series
        np.testing.assert_array_equal(series[1], STACK + 1)
        assert not series[0].any()
        for wrong in (np.zeros(SHAPE[:2]), np.zeros((9, 21, 33)), np.zeros(SHAPE, "int8")):
            with pytest.raises(InvalidInputError, match="out has the shape"):
                view.read(out=wrong)


# ------------------------------------------------------------------------------------------- other libraries


def test_dask(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        view = dataset.view(setup=0)
        array = view.to_dask()
        small = view.level(0).to_dask(chunks=(3, 21, 10))
        assert (array.shape, array.dtype, array.name) == (SHAPE, np.uint16, view.to_dask().name)
        assert array.name != dataset.view(setup=1).to_dask().name
        np.testing.assert_array_equal(computed(array), STACK)
        mean = small[::2, :, 3:30].mean(axis=0)
    # the dataset is closed; the graph opens the file by itself, and leaves none open
    np.testing.assert_allclose(computed(mean), STACK[::2, :, 3:30].mean(axis=0))
    np.testing.assert_array_equal(computed(small, scheduler="threads"), STACK)
    (pixels,) = [value for value in array.dask.values() if hasattr(value, "_opened")]
    assert pixels._opened is None
    np.testing.assert_array_equal(computed(pickle.loads(pickle.dumps(small))), STACK)
    path.with_suffix(".h5").unlink()  # Windows would not let it go if it were open


def test_dask_in_other_processes(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        array = dataset.view(setup=0).level(1).to_dask(chunks=(2, 6, 17))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = computed(array, scheduler="processes", pool=pool)
    np.testing.assert_array_equal(found, npy2bdv.downsample(STACK, (2, 4, 2)))


def test_xarray(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        views = [view.level(1).to_xarray() for view in dataset if view.id.time == 0]
        transform = dataset.view(setup=0).level(1).transform
    array = views[0]
    assert (array.dims, array.name, array.chunks is not None) == (("z", "y", "x"), "setup 0", True)
    np.testing.assert_array_equal(array["x"], 0.5 * (2 * np.arange(17) + 0.5))
    np.testing.assert_array_equal(array["y"], 0.25 * (4 * np.arange(6) + 1.5))
    np.testing.assert_array_equal(array["z"], 2.0 * (2 * np.arange(5) + 0.5))
    assert array["z"].attrs == {"units": "micrometer"}
    assert (int(array["time"]), int(array["setup"]), str(array["channel"].values)) == (0, 0, "488")
    np.testing.assert_array_equal(array.attrs["transform"], transform)
    assert (array.attrs["unit"], array.attrs["factors"]) == ("micrometer", [2, 4, 2])
    both = xarray.concat(views, dim="tile", coords="different", compat="equals", join="exact")
    assert both["tile"].values.tolist() == ["<0>", "<1>"]
    np.testing.assert_array_equal(both.sel(tile="<1>"), npy2bdv.downsample(STACK + 1, (2, 4, 2)))


def test_tensorstore_does_not_read_hdf5(path: Path) -> None:
    with (
        npy2bdv.open(path) as dataset,
        pytest.raises(InvalidInputError, match=r"does not read hdf5; to_dask\(\)"),
    ):
        dataset.view(setup=0).to_tensorstore()


@pytest.mark.parametrize(
    ("library", "call"), [("dask", "to_dask"), ("xarray", "to_xarray"), ("pandas", "to_frame")]
)
def test_libraries_that_are_not_installed(
    library: str, call: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with npy2bdv.open(path) as dataset:
        subject = dataset if call == "to_frame" else dataset.view(setup=0)
        with pytest.raises(InvalidInputError, match=rf'{call}\(\) needs {library}.*"npy2bdv\[lazy\]"'):
            getattr(subject, call)()


def test_reading_loads_none_of_them(path: Path) -> None:
    code = (
        "import sys, npy2bdv\n"
        "with npy2bdv.open(sys.argv[1]) as dataset: dataset.view(setup=0)[0]\n"
        "print(sorted({'dask', 'xarray', 'pandas', 'tensorstore', 'tifffile', 'numcodecs'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------ the world


def test_points_and_boxes(path: Path, tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "tilted.xml", levels=((1, 1, 1), (2, 4, 2))) as writer:
        setup = writer.add_setup(shape=SHAPE)
        writer.write(STACK, setup=setup)
    text = (tmp_path / "tilted.xml").read_text(encoding="utf-8")
    before, after = text.split("<affine>")[0], text.split("</affine>")[1]
    numbers = " ".join(map(str, TILTED.values))
    (tmp_path / "tilted.xml").write_text(f"{before}<affine>{numbers}</affine>{after}", encoding="utf-8")
    with npy2bdv.open(tmp_path / "tilted.xml") as dataset:
        view = dataset.view()
        level = view.level(1)
        np.testing.assert_allclose(view.pixel_to_world((2, 4, 6)), (103, 1, 1025))
        np.testing.assert_allclose(
            view.world_to_pixel([(103, 1, 1025), (100, -7, 1000)]), [(2, 4, 6), (0, 0, 0)]
        )
        # the first pixel of level 1 covers two, four and two pixels of x, y and z
        np.testing.assert_allclose(level.pixel_to_world((0, 0, 0)), view.pixel_to_world((0.5, 1.5, 0.5)))
        corners = np.array(np.meshgrid([-0.5, 33.5], [-0.5, 20.5], [-0.5, 8.5])).reshape(3, -1).T
        world = TILTED.apply(corners)
        box = view.bounding_box()
        np.testing.assert_allclose(box, [world.min(0), world.max(0)])
        np.testing.assert_allclose(dataset.bounding_box(), box)
        part = np.s_[2:5, 3:9, 10:11]
        inner = view.bounding_box(part)
        assert all(np.less_equal(box.min_xyz, inner.min_xyz))
        assert all(np.less_equal(inner.max_xyz, box.max_xyz))
        region = view.region(inner)
        for found, wanted in zip(region, part, strict=True):
            assert found.start <= wanted.start < wanted.stop <= found.stop
        assert view[view.region(((1e6, 0, 0), (2e6, 1, 1)))].size == 0


_BOUNDS = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted).filter(lambda b: b[0] < b[1])


@given(st.tuples(_BOUNDS, _BOUNDS, _BOUNDS), st.tuples(*[st.sampled_from([0.1, 0.325, 1, 7.7])] * 3))
def test_regions_survive_the_way_to_the_world_and_back(
    bounds: Any, scale: tuple[float, float, float]
) -> None:
    region = tuple(slice(*each) for each in bounds)
    affine = Affine.translation((17.3, -4.1, 1e4)) @ Affine.scale(scale)
    box = Box.of_pixels(region, (9, 9, 9)).moved_by(affine).moved_by(affine.inverse())  # type: ignore[arg-type]
    assert box.pixels((9, 9, 9)) == region
    assert Box.around([box, box]) == box
    np.testing.assert_allclose(box.size_xyz[::-1], [part.stop - part.start for part in region])


def test_bounding_box_of_all_views(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        expected = Box.around(view.bounding_box() for view in dataset)
        assert dataset.bounding_box() == expected
        one = dataset.view(setup=1)
        assert dataset.bounding_box([one]) == one.bounding_box()
        with pytest.raises(NotInDatasetError, match="no views"):
            dataset.bounding_box([])


# --------------------------------------------------------------------------------------------------- tables


def test_frame(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        frame, described = dataset.to_frame(), dataset.to_frame(pixels=False)
        sizes = [view.nbytes_on_disk for view in dataset]
    assert list(zip(frame["time"], frame["setup"], strict=True)) == [(0, 0), (0, 1), (1, 0)]
    row = frame.iloc[1]
    assert (row["tile"], row["channel"], row["camera"], row["exposure_time"]) == ("<1>", "488", "Flash", 0.01)
    assert (row["shape"], row["voxel_size_xyz"], row["unit"]) == (SHAPE, (0.5, 0.25, 2.0), "micrometer")
    assert (row["dtype"], row["n_levels"], row["exposure_unit"]) == ("uint16", 2, "s")
    assert isinstance(row["transform"], Affine)
    assert frame["nbytes_on_disk"].tolist() == sizes
    assert all(sizes)
    assert described["shape"].tolist() == [SHAPE] * 3
    assert described["dtype"].isna().all()
    assert list(described) == list(frame)


def test_html(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        html = dataset._repr_html_()
        assert dict(zip(dataset.channels, dataset.tiles.values(), strict=False)) == {0: "<0>"}
        assert (dataset.angles, dataset.illuminations) == ({0: "0"}, {0: "0"})
    for text in (
        "scan.xml",
        "&lt;1&gt;",
        "9 × 21 × 34",
        "0.5 × 0.25 × 2 micrometer",
        "1 of 2",
        "3 views, 1 missing",
    ):
        assert text in html
    assert "<1>" not in html
    assert html.count("<tr>") == 3


# --------------------------------------------------------------------------------- what is not there


def holes(path: Path) -> None:
    """Take all chunks of the last row out of level 0 of setup 0, and all of setup 1."""
    with h5py.File(path.with_suffix(".h5"), "r+") as file:
        for setup in ("s00", "s01"):
            cells = file[f"t00000/{setup}/0/cells"]
            kept = file.create_dataset(
                "new",
                cells.shape,
                cells.dtype,
                chunks=cells.chunks,
                maxshape=(None,) * 3,
                compression=cells.compression,
            )
            if setup == "s00":
                kept[:8] = cells[:8]
            del file[f"t00000/{setup}/0/cells"]
            file.move("new", f"t00000/{setup}/0/cells")


def test_absent_chunks_are_zeros_and_said_once_for_each_view(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holes(path)
    expected = STACK.copy()
    expected[8:] = 0
    with caplog.at_level(logging.WARNING), npy2bdv.open(path) as dataset:
        view = dataset.view(time=0, setup=0)
        np.testing.assert_array_equal(view[:8], STACK[:8])
        assert caplog.text == ""  # nothing that was asked for is absent
        for _ in range(3):
            np.testing.assert_array_equal(view[...], expected)
            np.testing.assert_array_equal(view[8], expected[8])
        np.testing.assert_array_equal(view.level(1)[...], npy2bdv.downsample(STACK, (2, 4, 2)))
        assert len(caplog.records) == 1
        assert "time point 0 of setup 0 is not complete: 1 of the chunks" in caplog.text
        assert not dataset.view(time=0, setup=1)[...].any()
        assert len(caplog.records) == 2
        assert "setup 1" in caplog.records[1].getMessage()
        array = view.to_dask(chunks=(9, 7, 34))
        np.testing.assert_array_equal(computed(array), expected)
        assert len(caplog.records) == 3


def test_whole_images_are_said_to_be_nothing_of(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), npy2bdv.open(path) as dataset:
        for view in dataset:
            view[...]
    assert caplog.text == ""


def test_file_that_was_cut_short_says_which_views_are_whole(path: Path) -> None:
    pixels = path.with_suffix(".h5")
    whole = pixels.read_bytes()
    with h5py.File(pixels) as file:
        ends = {}
        for time, setup in ((0, 0), (0, 1), (1, 0)):
            found: list[int] = []
            cells = file[f"t{time:05d}/s{setup:02d}/0/cells"]
            cells.id.chunk_iter(lambda info, found=found: found.append(info.byte_offset + info.size))
            ends[f"time {time} of setup {setup}"] = max(found)
    order = sorted(ends, key=lambda name: ends[name])
    pixels.write_bytes(whole[: ends[order[-1]] - 1])
    with pytest.raises(npy2bdv.BdvError, match=r"It has \d+ of \d+ bytes; views that are whole: ") as caught:
        npy2bdv.open(path)
    message = str(caught.value)
    listed = message.split("whole: ")[1]
    assert order[-1] not in listed
    assert [name for name in order[:-1] if name in listed] or "none" in listed
    pixels.write_bytes(whole[:700])
    with pytest.raises(npy2bdv.BdvError, match="cannot be opened as HDF5"):
        npy2bdv.open(path)


def test_closed_and_pickled(path: Path) -> None:
    with npy2bdv.open(path) as dataset:
        view = dataset.view(setup=0)
        again = pickle.loads(pickle.dumps(view))
    with pytest.raises(ClosedError):
        view.region(((0, 0, 0), (1, 1, 1)))
    with again.dataset:
        np.testing.assert_array_equal(again[3], STACK[3])


def test_labels_of_entities_without_a_name(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("<name>&lt;1&gt;</name>", "")
    path.write_text(text, encoding="utf-8")
    with npy2bdv.open(path) as dataset:
        assert dataset.view(tile="1").id.setup == 1
        with pytest.raises(InvalidInputError, match=r"setup 1: .*tile='1'"):
            dataset.view()


@pytest.mark.parametrize("kind", [{}, {"format": "n5"}, {"format": "omezarr"}], ids=["hdf5", "n5", "zarr"])
def test_planes_that_never_came_are_told(tmp_path: Path, kind: dict[str, str]) -> None:
    with npy2bdv.create(tmp_path / "short.xml", **kind) as writer:  # type: ignore[arg-type]
        setup = writer.add_setup(shape=(8, 4, 4))
        stream = writer.stream(setup=setup)
        for z in (0, 1, 4):
            stream.put(np.ones((1, 4, 4), "uint16"), z)
        stream.close()
        writer.write(np.ones((8, 4, 4), "uint16"), setup=setup, time=1)
    with npy2bdv.open(tmp_path / "short.xml") as dataset:
        assert dataset.view(time=0).missing_planes == ((2, 4), (5, 8))
        assert dataset.view(time=1).missing_planes == ()
