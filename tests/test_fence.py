"""Nothing outside of the dataset's folder is written or removed, wherever the XML, links and symlinks lead."""

import hashlib
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from faults import edited, hdf5, sound

import npy2bdv

STACK = np.full((6, 10, 14), 7, "uint16")
NAMES = {"hdf5": "scan.h5", "n5": "scan.n5", "omezarr": "scan.ome.zarr"}


def state(folder: Path) -> dict[str, str]:
    return {
        each.relative_to(folder).as_posix(): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in folder.rglob("*")
        if each.is_file()
    }


# ----------------------------------------------------------------------------- how pixels lie outside


def named(path: Path, pixels: Path, outer: Path) -> None:
    """The XML names them."""
    pixels.rename(outer / pixels.name)
    edited(path, (pixels.name, f"../outer/{pixels.name}"))


def linked(path: Path, pixels: Path, outer: Path) -> None:
    """What the XML names is a symlink."""
    pixels.rename(outer / pixels.name)
    pixels.symlink_to(outer / pixels.name)


def setup_outside(path: Path, pixels: Path, outer: Path) -> None:
    """A group or folder of the container leads out of it."""
    if pixels.is_file():
        with hdf5(path) as file, h5py.File(outer / "other.h5", "w") as other:
            for name in ("t00000/s01", "s01"):
                file.copy(name, other, name.replace("/", "-"))
                del file[name]
                file[name] = h5py.ExternalLink("../outer/other.h5", name.replace("/", "-"))
        return
    folder = pixels / ("setup1" if pixels.suffix == ".n5" else "s1-t0.zarr")
    shutil.move(folder, outer / folder.name)
    folder.symlink_to(outer / folder.name)


def level_outside(path: Path, pixels: Path, outer: Path) -> None:
    """An image leads out of it."""
    if pixels.is_file():
        with hdf5(path) as file, h5py.File(outer / "other.h5", "w") as other:
            for level in ("0", "1"):
                file.copy(f"t00000/s01/{level}/cells", other, level)
                del file[f"t00000/s01/{level}/cells"]
                file[f"t00000/s01/{level}/cells"] = h5py.ExternalLink("../outer/other.h5", level)
        return
    folder = pixels / ("setup1/timepoint0/s0" if pixels.suffix == ".n5" else "s1-t0.zarr/0")
    shutil.move(folder, outer / "level")
    folder.symlink_to(outer / "level")


# ------------------------------------------------------------------------------------- what is tried


def overwrite(path: Path, format_: Any) -> None:
    with npy2bdv.create(path, overwrite=True, format=format_) as writer:
        writer.write(STACK, setup=writer.add_setup(shape=STACK.shape))


def append(path: Path, format_: Any) -> None:
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(STACK, setup=1, time=1)


def append_setup(path: Path, format_: Any) -> None:
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(STACK, setup=writer.add_setup(shape=STACK.shape, tile=7, channel="488"))


def replace_view(path: Path, format_: Any) -> None:
    with npy2bdv.create(path, mode="a") as writer, writer.stream(setup=1, replace_view=True) as view:
        view.put(STACK, 0)


def crop(path: Path, format_: Any) -> None:
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=(slice(1, 4), slice(None), slice(None)))


def flip(path: Path, format_: Any) -> None:
    with npy2bdv.edit(path) as editor:
        editor.flip("x")


def remove(path: Path, format_: Any) -> None:
    with npy2bdv.edit(path) as editor:
        editor.remove_setups(setup=1)


def voxel_size(path: Path, format_: Any) -> None:
    with npy2bdv.edit(path) as editor:
        editor.set_voxel_size((1, 1, 2))


def classic_crop(path: Path, format_: Any) -> None:
    editor = npy2bdv.BdvEditor(str(path), mode="r+")
    try:
        editor.crop_view(((1, 3), (1, 3), (1, 3)), tile=1)
    finally:
        editor.finalize()


def repack(path: Path, format_: Any) -> None:
    npy2bdv.repack(path)


def fix(path: Path, format_: Any) -> None:
    edited(path, ("<tile>1</tile>", "<tile>9</tile>"))
    assert npy2bdv.check(path, fix=True).mended


ACTS: list[Callable[[Path, Any], None]] = [
    overwrite, append, append_setup, replace_view, crop, flip, remove, voxel_size, classic_crop, repack, fix,
]  # fmt: skip


@pytest.mark.parametrize("how", [named, linked, setup_outside, level_outside], ids=lambda how: how.__name__)
@pytest.mark.parametrize("format_", NAMES)
def test_what_lies_outside_stays_as_it_is(
    format_: str, how: Callable[[Path, Path, Path], None], tmp_path: Path
) -> None:
    done = 0
    for act in ACTS:
        inner, outer = tmp_path / act.__name__ / "inner", tmp_path / act.__name__ / "outer"
        inner.mkdir(parents=True)
        outer.mkdir()
        path = sound(inner, format_)
        how(path, inner / NAMES[format_], outer)
        before = state(outer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                act(path, format_)
                done += 1
            except npy2bdv.BdvError:
                pass
        assert state(outer) == before, act.__name__
    assert done  # what does not touch the pixels, at least


@pytest.fixture
def outside(tmp_path: Path) -> Callable[[Any], Path]:
    def make(format_: Any) -> Path:
        inner, outer = tmp_path / "inner", tmp_path / "outer"
        inner.mkdir()
        outer.mkdir()
        path = sound(inner, format_)
        named(path, inner / NAMES[format_], outer)
        return path

    return make


@pytest.mark.parametrize("format_", NAMES)
def test_appending_to_pixels_elsewhere_is_refused_by_name(
    format_: str, outside: Callable[[Any], Path], tmp_path: Path
) -> None:
    path = outside(format_)
    before = state(tmp_path)
    with pytest.raises(
        npy2bdv.BdvError, match=r"lie in another folder, .*outer.*; put XML and pixels into one"
    ):
        append(path, format_)
    assert state(tmp_path) == before
    with npy2bdv.open(path) as dataset:  # read it can be
        assert dataset.view(setup=1)[...].any()


def test_attributes_of_pixels_elsewhere_are_not_mended(
    outside: Callable[[Any], Path], tmp_path: Path
) -> None:
    path = outside("hdf5")
    with h5py.File(tmp_path / "outer/scan.h5", "r+") as file:
        file["s01/subdivisions"][0] = (3, 3, 3)
    before = state(tmp_path)
    report = npy2bdv.check(path, fix=True)
    assert set(report.codes()) == {"F02", "H11"}
    assert report.mended == ()
    assert state(tmp_path) == before


def test_a_loop_of_groups_is_no_obstacle(tmp_path: Path) -> None:
    path = sound(tmp_path)
    with hdf5(path) as file:
        file["t00001"] = file["/"]
    assert npy2bdv.check(path).findings == ()
