"""Conversion: what comes out equals what went in, a few planes at a time; failures leave things as they were."""

import hashlib
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import (
    ExistsError,
    FormatError,
    InUseError,
    InvalidInputError,
    InvalidTypeError,
    NotFoundError,
    WriteError,
)
from npy2bdv.model.affine import Affine


def noise(*shape: int, dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """All files with their content and time of change."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def scan(folder: Path, name: str = "scan.xml") -> Path:
    """A dataset with labels, transforms, a camera, two levels and a missing view."""
    path = folder / name
    with npy2bdv.create(
        path, levels=((1, 1, 1), (1, 2, 2)), chunks=(2, 8, 8), microscope="M", user="U"
    ) as writer:
        for tile, channel in itertools.product(range(2), ("488", "561")):
            setup = writer.add_setup(
                shape=(5, 13 + tile, 17),
                channel=channel,
                tile=tile,
                voxel_size_xyz=(0.25, 0.5, 2),
                camera="C",
                exposure_time=5,
                exposure_unit="ms",
                transform=Affine.translation((100.125 * tile, 0, 1e-7)),
            )
            for time in range(2):
                if (time, tile, channel) != (1, 1, "561"):
                    writer.write(noise(5, 13 + tile, 17, seed=10 * setup + time), setup=setup, time=time)
    return path


# -- arrays and files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shape"), [("tczyx", (2, 3, 5, 6, 7)), ("zctyx", (5, 3, 2, 6, 7)), ("tczyx", (1, 1, 9, 4, 3))]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", ">u2"])
def test_array(tmp_path: Path, axes: str, shape: tuple[int, ...], dtype: str) -> None:
    array = noise(*shape, dtype=dtype)
    ordered = array.transpose([axes.index(name) for name in "tczyx"])
    path = npy2bdv.resave(array, tmp_path / "a.xml", axes=axes, voxel_size_xyz=(0.5, 0.25, 2), unit="um")
    with npy2bdv.open(path) as dataset:
        assert len(dataset) == ordered.shape[0] * ordered.shape[1]
        for time, channel in itertools.product(*map(range, ordered.shape[:2])):
            view = dataset.view(time=time, channel=channel)
            assert view.dtype == np.dtype(dtype).newbyteorder("=")
            assert view.voxel_size_xyz == (0.5, 0.25, 2.0)
            assert view.unit == "micrometer"
            assert [each.name for each in view.transforms] == ["calibration"]
            np.testing.assert_array_equal(np.asarray(view.transform)[:, :3], np.diag([2.0, 1.0, 8.0]))
            np.testing.assert_array_equal(view[...], ordered[time, channel])


def test_npy_and_imagej_tiff_give_the_same_dataset(tmp_path: Path) -> None:
    stack = noise(2, 4, 3, 12, 15)  # t z c y x, as ImageJ has it
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack,
        imagej=True,
        resolution=(1 / 0.4, 1 / 0.4),
        metadata={"axes": "TZCYX", "spacing": 1.5, "unit": "um"},
    )
    np.save(tmp_path / "a.npy", stack)
    npy2bdv.resave(tmp_path / "a.tif", tmp_path / "tif.xml")
    npy2bdv.resave(
        str(tmp_path / "a.npy"), str(tmp_path / "npy.xml"), axes="tzcyx", voxel_size_xyz=(0.4, 0.4, 1.5)
    )
    with npy2bdv.open(tmp_path / "tif.xml") as one, npy2bdv.open(tmp_path / "npy.xml") as other:
        assert [view.id for view in one.views()] == [view.id for view in other.views()]
        for view, same in zip(one.views(), other.views(), strict=True):
            np.testing.assert_array_equal(view[...], same[...])
            np.testing.assert_array_equal(view[...], stack[view.id.time, :, view.id.setup])
            assert view.voxel_size_xyz == pytest.approx((0.4, 0.4, 1.5))
            assert view.unit == same.unit == "micrometer"


def test_tiles_of_an_ome_tiff_are_setups(tmp_path: Path) -> None:
    tiles = noise(3, 4, 10, 11)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        for tile in tiles:
            tiff.write(tile, metadata={"axes": "ZYX"})
    path = npy2bdv.resave(tmp_path / "a.ome.tif", tmp_path / "a.xml")
    with npy2bdv.open(path) as dataset:
        assert len(dataset) == 3
        for number, tile in enumerate(tiles):
            np.testing.assert_array_equal(dataset.view(tile=number)[...], tile)


def test_levels_auto_are_those_of_bdv(tmp_path: Path) -> None:
    with npy2bdv.open(npy2bdv.resave(noise(5, 20, 30), tmp_path / "tiny.xml")) as dataset:
        assert [level.factors for level in dataset.view().levels()] == [(1, 1, 1)]
    wide = noise(3, 40, 600)
    path = npy2bdv.resave(wide, tmp_path / "wide.xml", voxel_size_xyz=(1, 1, 4))
    with npy2bdv.open(path) as dataset:
        found = list(dataset.view().levels())
        assert [level.factors for level in found] == [(1, 1, 1), (1, 2, 2), (2, 4, 4)]
        for level in found:
            np.testing.assert_array_equal(
                level[...], npy2bdv.downsample(wide, tuple(map(int, level.factors)))
            )


def test_options_arrive(tmp_path: Path) -> None:
    import h5py

    array = noise(9, 40, 33)
    npy2bdv.resave(
        array, tmp_path / "a.xml", levels=((1, 1, 1), (3, 2, 1)), chunks=(4, 16, 8), compression=("gzip", 2)
    )
    with h5py.File(tmp_path / "a.h5") as file:
        full, lower = file["t00000/s00/0/cells"], file["t00000/s00/1/cells"]
        assert (full.chunks, full.compression, full.compression_opts) == ((4, 16, 8), "gzip", 2)
        np.testing.assert_array_equal(full[()].view("uint16"), array)
        np.testing.assert_array_equal(lower[()].view("uint16"), npy2bdv.downsample(array, (3, 2, 1)))


class Watched:
    """An array that notes how much of it is read at a time."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.shape, self.dtype, self.largest, self._array = array.shape, array.dtype, 0, array

    def __getitem__(self, key: Any) -> NDArray[Any]:
        part: NDArray[Any] = self._array[key]
        self.largest = max(self.largest, part.nbytes)
        return part


def test_reads_a_row_of_blocks_at_a_time_and_tells_how_far_it_is(tmp_path: Path) -> None:
    array = Watched(noise(2, 11, 30, 40))
    seen: list[tuple[int, int]] = []
    npy2bdv.resave(
        array, tmp_path / "a.xml", axes="czyx", chunks=(3, 16, 16), progress=lambda *step: seen.append(step)
    )
    plane = 30 * 40 * 2
    assert array.largest == 3 * plane
    assert seen == [(done * plane, 22 * plane) for done in (3, 6, 9, 11, 14, 17, 20, 22)]


def test_notes_of_the_source_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(noise(3, 8, 9), photometric="minisblack")
        tiff.write(noise(20, 21), photometric="minisblack")
    npy2bdv.resave(tmp_path / "a.tif", tmp_path / "a.xml")
    assert "Only the first of 2 images is taken" in caplog.text


# -- datasets --------------------------------------------------------------------------------------------


def test_dataset_keeps_all_that_its_xml_says(tmp_path: Path) -> None:
    path = scan(tmp_path)
    out = npy2bdv.resave(
        path, tmp_path / "copy.xml", levels=((1, 1, 1),), chunks=(4, 16, 16), compression="gzip"
    )
    with npy2bdv.open(path) as old, npy2bdv.open(out) as new:
        assert new.spimdata.loader != old.spimdata.loader
        for part in (
            "setups",
            "attributes",
            "timepoints",
            "missing",
            "registrations",
            "generated_by",
            "sections",
        ):
            assert getattr(new.spimdata, part) == getattr(old.spimdata, part), part
        assert new.missing_views == ((1, 3),)
        for view, same in zip(old.views(), new.views(), strict=True):
            np.testing.assert_array_equal(view[...], same[...])
            assert (same.n_levels, same.level(0).chunks) == (1, (4, *np.minimum(16, same.shape[1:])))


def test_dataset_by_its_pixel_file(tmp_path: Path) -> None:
    path = scan(tmp_path)
    with npy2bdv.open(npy2bdv.resave(path.with_suffix(".h5"), tmp_path / "b.xml")) as new:
        assert len(new) == 7


def test_views_without_pixels_become_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import h5py

    path = scan(tmp_path)
    with h5py.File(path.with_suffix(".h5"), "r+") as file:
        del file["t00000/s02"]
    with npy2bdv.open(npy2bdv.resave(path, tmp_path / "b.xml")) as new:
        assert new.missing_views == ((0, 2), (1, 3))
    assert "time point 0 of setup 2 has no pixels" in caplog.text


@pytest.mark.parametrize("out", ["scan.xml", "scan.h5", "../{folder}/scan.xml"])
def test_a_dataset_is_never_written_over_itself(tmp_path: Path, out: str) -> None:
    path = scan(tmp_path)
    before = state(tmp_path)
    with pytest.raises(InvalidInputError, match="belongs to the dataset that is read"):
        npy2bdv.resave(path, tmp_path / out.format(folder=tmp_path.name), overwrite=True)
    assert state(tmp_path) == before


def test_dataset_without_full_resolution_is_refused(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "low.xml", levels=((1, 2, 2),)) as writer:
        writer.write(noise(4, 8, 8), setup=writer.add_setup(shape=(4, 8, 8)))
    before = state(tmp_path)
    with pytest.raises(InvalidInputError, match=r"without its full resolution.*\(1, 2, 2\)"):
        npy2bdv.resave(tmp_path / "low.xml", tmp_path / "b.xml")
    assert state(tmp_path) == before


def test_options_of_arrays_are_refused_for_datasets(tmp_path: Path) -> None:
    path = scan(tmp_path)
    with pytest.raises(InvalidInputError, match="leave out axes, voxel_size_xyz and unit"):
        npy2bdv.resave(path, tmp_path / "b.xml", voxel_size_xyz=(1, 1, 1))


# -- what goes wrong -------------------------------------------------------------------------------------

STACK = noise(4, 8, 9)


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("nix.tif", {}, NotFoundError, "there is no file"),
        ("nix.xml", {}, NotFoundError, "there is no XML"),
        ("text.tif", {}, FormatError, "cannot be read as TIFF"),
        ("text.png", {}, FormatError, "cannot be converted"),
        (STACK, {"axes": "yx"}, InvalidInputError, "names 2 axes, the array has 3"),
        (noise(2, 3, 4, 5), {}, InvalidInputError, "axes='czyx' or axes='tzyx'"),
        (STACK, {"voxel_size_xyz": (1, 1, 0)}, InvalidInputError, "three finite sizes above 0"),
        (STACK, {"levels": ((1, 1, 0),)}, InvalidInputError, "at least 1"),
        (STACK, {"levels": "some"}, InvalidInputError, "'some' is not known"),
        (STACK, {"chunks": (2**11, 2**11, 2**9)}, InvalidInputError, "holds blocks below 4294967296 bytes"),
        (STACK, {"compression": "zip"}, InvalidInputError, "'zip' is not known"),
        (STACK, {"format": "n6"}, InvalidInputError, "format 'n6' is not known; there is 'hdf5'"),
        (STACK > 0, {}, InvalidTypeError, "cast to uint8 first"),
        ([1, 2], {}, InvalidTypeError, "a list cannot be converted"),
    ],
)
def test_bad_input_changes_nothing(
    tmp_path: Path, source: Any, options: Any, error: type[Exception], message: str
) -> None:
    for name in ("text.tif", "text.png"):
        (tmp_path / name).write_text("no picture")
    out = npy2bdv.resave(noise(2, 3, 4), tmp_path / "out.xml")
    before = state(tmp_path)
    with pytest.raises(error, match=message):
        npy2bdv.resave(
            tmp_path / source if isinstance(source, str) else source, out, overwrite=True, **options
        )
    assert state(tmp_path) == before


def test_existing_dataset_is_replaced_only_on_request(tmp_path: Path) -> None:
    out = npy2bdv.resave(noise(2, 3, 4), tmp_path / "out.xml")
    before = state(tmp_path)
    with pytest.raises(ExistsError, match="overwrite=True"):
        npy2bdv.resave(STACK, out)
    assert state(tmp_path) == before
    npy2bdv.resave(STACK, out, overwrite=True)
    with npy2bdv.open(out) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], STACK)
    after = state(tmp_path)
    assert set(after) == {"out.xml", "out.h5", "out.xml~1"}
    assert after["out.xml~1"][0] == before["out.xml"][0]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist; create it first"):
        npy2bdv.resave(STACK, tmp_path / "nix" / "out.xml")
    assert state(tmp_path) == {}


def test_a_dataset_that_is_being_recorded_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.xml"
    with npy2bdv.create(out) as writer:
        writer.write(STACK, setup=writer.add_setup(shape=STACK.shape))
        names = {path.name for path in tmp_path.iterdir()}
        with pytest.raises(InUseError, match=r"out\.h5 is being written by"):
            npy2bdv.resave(STACK + 1, out, overwrite=True)
        assert {path.name for path in tmp_path.iterdir()} == names
    with npy2bdv.open(out) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], STACK)


def test_what_a_kill_left_is_no_obstacle(tmp_path: Path) -> None:
    for name in ("out.part.h5", "out.part.xml", "out.part.h5.journal", "out.h5.journal"):
        (tmp_path / name).write_text("left over")
    out = npy2bdv.resave(STACK, tmp_path / "out.xml")
    assert set(state(tmp_path)) == {"out.xml", "out.h5"}
    with npy2bdv.open(out) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], STACK)


@pytest.mark.parametrize("error", [OSError("the share is gone"), KeyboardInterrupt()])
def test_a_source_that_fails_half_way_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    class Failing(Watched):
        def __getitem__(self, key: Any) -> NDArray[Any]:
            if key[0].start >= 8:
                raise error
            return super().__getitem__(key)

    out = npy2bdv.resave(noise(2, 3, 4), tmp_path / "out.xml")
    before = state(tmp_path)
    with pytest.raises(type(error)):
        npy2bdv.resave(Failing(noise(12, 8, 9)), out, overwrite=True)
    assert state(tmp_path) == before


def test_pixels_held_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = npy2bdv.resave(noise(2, 3, 4), tmp_path / "out.xml")
    before = state(tmp_path)

    replace = os.replace

    def held(source: Path, target: Path) -> None:
        if target == out.with_suffix(".h5"):
            raise PermissionError(13, "as Windows says while Fiji has it open")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", held)
        with pytest.raises(
            WriteError, match=r"rename out\.part\.h5 to out\.h5 and out\.part\.xml to out\.xml"
        ):
            npy2bdv.resave(STACK, out, overwrite=True)
    after = state(tmp_path)
    assert {name: after[name] for name in before} == before
    (tmp_path / "out.part.h5").replace(tmp_path / "out.h5")  # what the message advises
    (tmp_path / "out.part.xml").replace(out)
    with npy2bdv.open(out) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], STACK)
