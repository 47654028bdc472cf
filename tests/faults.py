"""A catalogue of faulty datasets: for each code of `npy2bdv check` at least one small dataset that has this fault."""

import json
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest

import npy2bdv
from npy2bdv.storage.journal import Journal

SHAPE = (6, 10, 14)
LEVELS = ((1, 1, 1), (1, 2, 2))
Seed = Callable[[Path, pytest.MonkeyPatch], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How a fault is made, the code that tells of it, and what else may be told of the same dataset."""

    name: str
    code: str
    make: Seed
    also: frozenset[str] = frozenset()
    pixels: bool = False
    mends: bool = True
    """Whether `--fix` mends it, if the code is one of those that are mended."""


FAULTS: list[Fault] = []


def fault(code: str, *also: str, pixels: bool = False, mends: bool = True) -> Callable[[Seed], Seed]:
    def keep(make: Seed) -> Seed:
        name = f"{code}-{make.__name__}"
        FAULTS.append(
            Fault(name=name, code=code, make=make, also=frozenset(also), pixels=pixels, mends=mends)
        )
        return make

    return keep


# ------------------------------------------------------------------------------------ sound datasets

_MADE: dict[str, Path] = {}
_MODELS = TemporaryDirectory(prefix="npy2bdv-faults-")


def sound(folder: Path, format: Any = "hdf5", **options: Any) -> Path:  # noqa: A002
    """Return a copy of a sound dataset; each is written once."""
    key = repr((format, sorted(options.items())))
    if key not in _MADE:
        model = Path(_MODELS.name, str(len(_MADE)))
        model.mkdir()
        _write(model, format, **options)
        _MADE[key] = model
    shutil.copytree(_MADE[key], folder, dirs_exist_ok=True)
    return folder / "scan.xml"


def _write(folder: Path, format: Any = "hdf5", **options: Any) -> Path:  # noqa: A002
    """Write two tiles of six planes at one time point."""
    with warnings.catch_warnings(action="ignore"):  # of codecs that some program lacks
        return _written(folder, format, **options)


def _written(folder: Path, format: Any, **options: Any) -> Path:  # noqa: A002
    dtype = options.pop("dtype", "uint16")
    voxel = options.pop("voxel_size_xyz", (0.5, 0.5, 1.0))
    path = folder / "scan.xml"
    rng = np.random.default_rng(1)
    with npy2bdv.create(path, format=format, levels=LEVELS, **({"compression": "gzip"} | options)) as writer:
        for tile in range(2):
            setup = writer.add_setup(
                shape=SHAPE, dtype=dtype, tile=tile, channel="488", voxel_size_xyz=voxel, unit="micrometer"
            )
            writer.write(rng.integers(1, 100, SHAPE).astype(dtype), setup=setup, time=0)
    return path


def edited(path: Path, *changes: tuple[str, str], count: int = 1) -> Path:
    """Replace texts (regular expressions) of the XML."""
    text = path.read_text("utf-8")
    for old, new in changes:
        text, found = re.subn(old, new.replace("\\", r"\\"), text, count=count, flags=re.DOTALL)
        assert found, old
    path.write_text(text, "utf-8")
    return path


def inserted(path: Path, before: str, text: str) -> Path:
    """Put a text into the XML, before the first occurrence of another."""
    return edited(path, (re.escape(before), text + before))


def hdf5(path: Path) -> h5py.File:
    return h5py.File(path.with_suffix(".h5"), "r+")


def rewritten(path: Path, change: Callable[[Any], Any], **options: Any) -> Path:
    """Write the images of an HDF5 file again, changed, each as a plain dataset."""
    with hdf5(path) as file:
        for view in ("t00000/s00", "t00000/s01"):
            for level in range(2):
                name = f"{view}/{level}/cells"
                old, chunks = file[name][()], file[name].chunks
                del file[name]
                chunks = tuple(min(a, b) for a, b in zip(chunks, old.shape, strict=True))
                file.create_dataset(name, data=change(old), chunks=chunks, **options)
                _subdivide(file, view, level, chunks)
    return path


def _subdivide(file: h5py.File, view: str, level: int, chunks: tuple[int, ...]) -> None:
    file[f"{view.rpartition('/')[2]}/subdivisions"][level] = chunks[::-1]


def described(path: Path, key: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change a JSON file of a container."""
    (folder,) = (each for each in path.parent.iterdir() if each.suffix in (".n5", ".zarr"))
    file = folder / key
    said = json.loads(file.read_text("utf-8"))
    change(said)
    file.write_text(json.dumps(said), "utf-8")
    return path


# ------------------------------------------------------------------------------------------- files


@fault("F01")
def no_pixels(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    path.with_suffix(".h5").unlink()
    return path


@fault("F02")
def pixels_elsewhere(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    inner = folder / "inner"
    inner.mkdir()
    path = sound(inner)
    path.with_suffix(".h5").rename(folder / "scan.h5")
    return edited(path, ("scan.h5", "../scan.h5"))


@fault("F02")
def partition_elsewhere(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    inner = folder / "inner"
    inner.mkdir()
    path = sound(inner)
    with hdf5(path) as file, h5py.File(folder / "other.h5", "w") as other:
        file.copy("t00000/s01/0/cells", other, "cells")
        del file["t00000/s01/0/cells"]
        file["t00000/s01/0/cells"] = h5py.ExternalLink("../other.h5", "cells")
    return path


@fault("F03")
def interrupted(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    Journal.of(path.with_suffix(".h5")).close(remove=False)
    return path


@fault("F04")
def edit_pending(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    path.with_name("scan.h5.edit").write_text("{}")
    return path


@fault("F05")
def newer_xml_waits(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    path.with_name("scan.xml.new").write_bytes(path.read_bytes())
    return path


@fault("F06")
def device_name(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    path.with_suffix(".h5").rename(folder / "aux.h5")
    return edited(path, ("scan.h5", "aux.h5"))


@fault("F07")
def other_loader(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    new = '<ImageLoader format="catmaid"><baseUrl>http://127.0.0.1/</baseUrl></ImageLoader>'
    return edited(path, ("<ImageLoader.*</ImageLoader>", new))


@fault("F08")
def no_library(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    patch.setitem(sys.modules, "tensorstore", None)
    return path


# --------------------------------------------------------------------------------------------- XML


@fault("X01")
def cut_short(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    path.write_bytes(path.read_bytes()[:-200])
    return path


@fault("X30")
def with_entities(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    return inserted(path, "<SpimData", '<!DOCTYPE a [<!ENTITY b "c">]>')


@fault("X02", "V05")
def no_timepoints(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<Timepoints.*</Timepoints>", ""), ("<MissingViews */>", ""))


@fault("X02", "F07")
def no_loader(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<ImageLoader.*</ImageLoader>", ""))


@fault("X03")
def white_space_before_an_affine(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<affine>", "<affine>\n   "))


@fault("X31")
def white_space_around_an_id(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<id>1</id>", "<id> 1 </id>"))


@fault("X03")
def white_space_before_a_size(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<size>14 10 6</size>", "<size>\n 14 10 6\n</size>"))


@fault("X03")
def white_space_in_a_missing_view(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    return edited(
        path, ("<MissingViews */>", '<MissingViews><MissingView timepoint="7 " setup="0"/></MissingViews>')
    )


@fault("X03")
def line_break_in_a_bounding_box(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    box = '<BoundingBoxDefinition name="a"><min>0\n0 0</min><max>1 1 1</max></BoundingBoxDefinition>'
    box = f"<BoundingBoxes>{box}</BoundingBoxes>"
    return inserted(sound(folder), "</SpimData>", box)


@fault("X04")
def size_with_points(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<size>14 10 6</size>", "<size>14.0 10.0 6.0</size>"))


@fault("X04", "T03")
def affine_with_commas(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<affine>1.0 0.0", "<affine>1.0, 0.0,"))


@fault("X04", "V01")
def registration_of_no_view(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ('<ViewRegistration timepoint="0" setup="1"', '<ViewRegistration setup="1"'))


@fault("X05")
def no_type(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ('<hdf5 type="relative">', "<hdf5>"))


@fault("X05")
def no_type_of_the_base(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ('<BasePath type="relative">', "<BasePath>"))


@fault("X06", "V01", "V05")
def setup_twice(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<id>1</id>", "<id>0</id>"))


@fault("X06", "T03")
def registration_twice(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    text = '<ViewRegistration timepoint="0" setup="0"/>'
    return inserted(sound(folder), "</ViewRegistrations>", text)


@fault("X06", "X08")
def tile_twice(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), (r"<Tile>\s*<id>1</id>", "<Tile><id>0</id>"))


@fault("X07")
def no_block(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ('<Attributes name="tile">.*?</Attributes>', ""))


@fault("X08")
def dangling(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<tile>1</tile>", "<tile>9</tile>"))


@fault("X09", "T03")
def nine_numbers(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<affine>[^<]*</affine>", "<affine>1 0 0 0 1 0 0 0 1</affine>"))


@fault("X09")
def sixteen_numbers(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("</affine>", " 0 0 0 1</affine>"))


@fault("X10")
def lower_case(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<Name>calibration</Name>", "<name>calibration</name>"))


@fault("X11")
def blank_in_an_uri(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    path.with_suffix(".n5").rename(folder / "my scan.n5")
    return edited(path, ("scan.n5", "my scan.n5"))


@fault("X12")
def percent_in_a_path(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    path.with_suffix(".h5").rename(folder / "my scan.h5")
    return edited(path, ("scan.h5", "my%20scan.h5"))


@fault("X13")
def base_elsewhere(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    (folder / "raw").mkdir()
    path.with_suffix(".h5").rename(folder / "raw/scan.h5")
    return edited(path, (">.</BasePath>", ">raw</BasePath>"))


@fault("X14")
def locations(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("</Tile>", "<location>1 2 3</location><location>4 5 6</location></Tile>"))


PAIR = (
    '<PairwiseResult view_setup_a="0" view_setup_b="1" tp_a="0" tp_b="0"><shift>1 2 3</shift><correlation>{}'
    "</correlation><hash>0.0</hash><overlap_boundingbox>0 0 0 1 1 1</overlap_boundingbox></PairwiseResult>"
)


@fault("X15")
def pairs(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    text = f"<StitchingResults>{PAIR.format(0.1)}{PAIR.format(0.2)}</StitchingResults>"
    return inserted(sound(folder), "</SpimData>", text)


@fault("X16")
def old_interest_points(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    text = (
        '<ViewInterestPoints><ViewInterestPointsFile timepoint="0" setup="0" label="beads" params="">'
        "interestpoints/tpId_0_viewSetupId_0.beads</ViewInterestPointsFile></ViewInterestPoints>"
    )
    return inserted(sound(folder), "</SpimData>", text)


@fault("X17")
def no_indices(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder, "omezarr"), (' indicies="0 0"', ""))


@fault("X17")
def version_2_of_zgroups(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = edited(sound(folder, "omezarr"), ('version="3.0"', 'version="2.0"'))
    new = '<zgroup setup="{0}" timepoint="0"><path>s{0}-t0.zarr</path></zgroup>'
    return edited(path, *((f'<zgroup setup="{n}"[^>]*/>', new.format(n)) for n in (0, 1)))


@fault("X18")
def unknown_transform(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ('<ViewTransform type="affine">', '<ViewTransform type="rigid">'))


@fault("X19")
def long_comment(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return inserted(sound(folder), "<SpimData", f"<!-- {'about this recording ' * 6}-->\n")


@fault("X20")
def no_angle(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<angle>0</angle>", ""), count=2)


@fault("X21")
def no_size(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<size>14 10 6</size>", ""))


@fault("X22")
def no_voxel_size(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<voxelSize>.*?</voxelSize>", ""))


@fault("X22")
def voxels_of_no_size(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<size>0.5 0.5 1.0</size>", "<size>0.5 0.0 1.0</size>"))


@fault("X23")
def misnamed_entity(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    text = '<Attributes name="displaysettings"><Displaysettings><id>0</id></Displaysettings></Attributes>'
    path = inserted(sound(folder), '<Attributes name="tile">', text)
    return edited(path, ("</attributes>", "<displaysettings>0</displaysettings></attributes>"))


@fault("X24")
def step_of_zero(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    new = '<Timepoints type="pattern"><integerpattern>0-4:0</integerpattern></Timepoints>'
    return edited(sound(folder), ("<Timepoints.*</Timepoints>", new))


@fault("X24")
def billions_of_time_points(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<last>0</last>", "<last>2147483647</last>"))


@fault("X25")
def gap_in_ids(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        file.move("s01", "s05")
        file.move("t00000/s01", "t00000/s05")
    return edited(path, ("<id>1</id>", "<id>5</id>"), ('setup="1"', 'setup="5"'))


@fault("X26")
def nameless_tile(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), (r"<Tile>\s*<id>1</id>\s*<name>1</name>", "<Tile><id>1</id>"))


@fault("X27")
def interest_points_without_parameters(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    text = (
        '<ViewInterestPoints><ViewInterestPointsFile timepoint="0" setup="0" label="beads">tpId_0_viewSetupId_0/beads'
        "</ViewInterestPointsFile></ViewInterestPoints>"
    )
    return inserted(sound(folder), "</SpimData>", text)


@fault("X27")
def pair_without_overlap(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    pair = re.sub("<overlap.*?>.*?</overlap.*?>", "", PAIR.format(0.5))
    return inserted(sound(folder), "</SpimData>", f"<StitchingResults>{pair}</StitchingResults>")


@fault("X28")
def two_lists_of_time_points(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    text = '<Timepoints type="range"><first>0</first><last>3</last></Timepoints>'
    return inserted(sound(folder), "<MissingViews", text)


@fault("X29")
def blanks_around_a_path(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), (">scan.h5<", ">\n  scan.h5\n  <"))


# ------------------------------------------------------------------------------------------- views


@fault("V01")
def no_registration(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ('<ViewRegistration timepoint="0" setup="1">.*?</ViewRegistration>', ""))


@fault("V02")
def undeclared(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        del file["t00000/s01"]
    return path


@fault("V02", "V01", "H14")
def gap_in_time(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<last>0</last>", "<last>2</last>"))


@fault("V03")
def missing_all_the_same(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    new = '<MissingViews><MissingView timepoint="0" setup="1"/></MissingViews>'
    return edited(sound(folder), ("<MissingViews */>", new))


@fault("V04")
def wrong_size(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<size>14 10 6</size>", "<size>14 10 7</size>"))


@fault("V05")
def unknown_view(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        file.copy("t00000/s00", file, "t00007/s00")
    return path


@fault("V06")
def no_zgroup(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder, "omezarr"), ('<zgroup setup="1"[^>]*/>', ""))


@fault("V07", "T03")
def other_size_later(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        for setup in ("s00", "s01"):
            for level, shape in enumerate([(5, 10, 14), (5, 5, 7)]):
                chunks = file[f"t00000/{setup}/{level}/cells"].chunks
                name = f"t00001/{setup}/{level}/cells"
                file.create_dataset(name, data=np.ones(shape, "i2"), chunks=chunks, maxshape=(None,) * 3)
    text = "".join(f'<ViewRegistration timepoint="1" setup="{n}"/>' for n in (0, 1))
    return inserted(edited(path, ("<last>0</last>", "<last>1</last>")), "</ViewRegistrations>", text)


# -------------------------------------------------------------------------------------- transforms


@fault("T01")
def flattened(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    new = "<affine>1 0 0 0 0 1 0 0 0 0 0 0</affine>"
    return edited(sound(folder), ("<affine>[^<]*</affine>", new))


@fault("T01")
def not_a_number(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder), ("<affine>1.0 0.0 0.0 0.0", "<affine>1.0 0.0 0.0 NaN"))


@fault("T02")
def stretched(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    new = "<affine>1 0 0 0 0 1 0 0 0 0 50000 0</affine>"
    return edited(sound(folder), ("<affine>[^<]*</affine>", new))


@fault("T03")
def squeezed(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    new = "<affine>1 0 0 0 0 1 0 0 0 0 1 0</affine>"
    return edited(sound(folder), ("<affine>[^<]*</affine>", new))


# ------------------------------------------------------------------------------------------ levels


@fault("L01", "H11")
def level_of_another_size(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        del file["t00000/s01/1/cells"]
        file.create_dataset("t00000/s01/1/cells", data=np.ones((6, 4, 9), "i2"), chunks=(4, 4, 7))
    return path


@fault("L02")
def no_level(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        del file["t00000/s01/1"]
    return path


@fault("L03", "L01")
def factors_of_zero(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        file["s01/resolutions"][1] = (2, 0, 1)
    return path


@fault("L04", "V04", "L01", "P02", "H11")
def absurd_shape(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        del file["t00000/s01/0/cells"]
        file.create_dataset("t00000/s01/0/cells", (6, 10, 2**33), "i2", chunks=(4, 10, 14))
    return path


@fault("L05")
def no_full_resolution(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        file["s01/resolutions"][:] = [(2, 2, 1), (4, 4, 1)]
    return path


# -------------------------------------------------------------------------------------------- HDF5


@fault("H01")
def truncated(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    pixels = path.with_suffix(".h5")
    pixels.write_bytes(pixels.read_bytes()[:-500])
    return path


@fault("H02")
def no_subdivisions(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        del file["s01/subdivisions"]
    return path


@fault("H02", "L03")
def tables_in_one_row(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        del file["s01/resolutions"]
        file["s01/resolutions"] = np.ones(4)
    return path


@fault("H03")
def unsigned(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return rewritten(sound(folder), lambda pixels: pixels.astype("u2"))


@fault("H04")
def unsigned_and_bright(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return rewritten(sound(folder), lambda pixels: pixels.astype("u2") + 40_000)


@fault("H04", "H03", pixels=True)
def one_bright_pixel(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = rewritten(sound(folder), lambda pixels: pixels.astype("u2"))
    with hdf5(path) as file:
        file["t00000/s01/0/cells"][3, 4, 5] = 40_000
    return path


@fault("H05")
def bits_with_a_type(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        file["s01"].attrs["dataType"] = np.bytes_("uint16")
    return path


@fault("H06")
def floats_without_a_type(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, dtype="float32")
    with hdf5(path) as file:
        del file["s01"].attrs["dataType"]
    return path


@fault("H07", "H06")
def type_in_capitals(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, dtype="uint8")
    with hdf5(path) as file:
        file["s01"].attrs["dataType"] = "UINT8"
    return path


@fault("H08")
def another_type(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, dtype="uint8")
    with hdf5(path) as file:
        file["s01"].attrs["dataType"] = "float32"
    return path


@fault("H09")
def lzf(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return sound(folder, compression="lzf")


@fault("H10")
def latest(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    pixels = path.with_suffix(".h5")
    with h5py.File(pixels) as file, h5py.File(folder / "new.h5", "w", libver="latest") as new:
        for name in ("s00", "s01"):
            file.copy(name, new)
            for level in range(2):
                old = file[f"t00000/{name}/{level}/cells"]
                new.create_dataset(
                    old.name, data=old[()], chunks=old.chunks, maxshape=old.maxshape, compression="gzip"
                )
    (folder / "new.h5").replace(pixels)
    return path


@fault("H11")
def wrong_subdivisions(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        file["s01/subdivisions"][0] = (3, 3, 3)
    return path


@fault("H12", "P01")
def image_of_two_dimensions(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        del file["t00000/s01/0/cells"]
        file["t00000/s01/0/cells"] = np.ones((10, 14), "i2")
    return path


@fault("H13")
def no_partition(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        for level in range(2):
            del file[f"t00000/s01/{level}/cells"]
            file[f"t00000/s01/{level}/cells"] = h5py.ExternalLink("gone.h5", f"t00000/s01/{level}/cells")
    return path


@fault("H14")
def no_group_of_a_time_point(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = edited(sound(folder), ("<last>0</last>", "<last>1</last>"))
    both = "".join(f'<MissingView timepoint="1" setup="{n}"/>' for n in (0, 1))
    return edited(path, ("<MissingViews */>", f"<MissingViews>{both}</MissingViews>"))


# ---------------------------------------------------------------------------------------------- N5


@fault("N01")
def version_of_the_future(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return described(sound(folder, "n5"), "attributes.json", lambda said: said.update(n5="9.0.0"))


@fault("N02")
def no_factors(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return described(sound(folder, "n5"), "setup1/attributes.json", lambda said: said.clear())


@fault("N03")
def setup_of_another_type(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    return described(path, "setup1/attributes.json", lambda said: said.update(dataType="uint8"))


@fault("N04", "P01")
def image_of_no_block_size(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    return described(path, "setup1/timepoint0/s0/attributes.json", lambda said: said.update(blockSize=None))


@fault("N04", "P01", "V02")
def attributes_that_are_no_json(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    (folder / "scan.n5/setup1/timepoint0/s0/attributes.json").write_text("{")
    return path


@fault("N05")
def n5_zstd(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return sound(folder, "n5", compression="zstd")


@fault("N06")
def n5_blosc(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return sound(folder, "n5", compression="blosc")


@fault("N07")
def unknown_codec(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    key = "setup1/timepoint0/s0/attributes.json"
    return described(path, key, lambda said: said.update(compression={"type": "jpeg"}))


@fault("N08")
def stale_cache(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    cached = {"children": {"setup0": {"attributes.json": {"dataType": "uint8"}}}}
    (folder / "scan.n5/attributes_cache.json").write_text(json.dumps(cached))
    return path


@fault("N09")
def cache(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    said = json.loads((folder / "scan.n5/setup0/attributes.json").read_text())
    cached = {"children": {"setup0": {"attributes.json": said}}}
    (folder / "scan.n5/attributes_cache.json").write_text(json.dumps(cached))
    return path


@fault("N10")
def n5_lz4(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    for level in range(2):
        described(
            path,
            f"setup1/timepoint0/s{level}/attributes.json",
            lambda said: said.update(compression={"type": "lz4", "blockSize": 65536}),
        )
    return path


# ---------------------------------------------------------------------------------------- OME-Zarr

IMAGE = "s1-t0.zarr/.zattrs"
ARRAY = "s1-t0.zarr/0/.zarray"


@fault("Z01")
def no_zgroup_file(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "omezarr")
    (folder / "scan.ome.zarr/.zgroup").unlink()
    return path


@fault("Z02", "P01", "L03")
def no_multiscales(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return described(sound(folder, "omezarr"), IMAGE, lambda said: said.pop("multiscales"))


@fault("Z03")
def no_scale(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    def change(said: dict[str, Any]) -> None:
        del said["multiscales"][0]["datasets"][1]["coordinateTransformations"]

    return described(sound(folder, "omezarr"), IMAGE, change)


@fault("Z04")
def level_by_another_name(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "omezarr")
    (folder / "scan.ome.zarr/s1-t0.zarr/1").rename(folder / "scan.ome.zarr/s1-t0.zarr/half")

    def change(said: dict[str, Any]) -> None:
        said["multiscales"][0]["datasets"][1]["path"] = "half"

    return described(path, IMAGE, change)


@fault("Z05")
def wrong_translation(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    def change(said: dict[str, Any]) -> None:
        said["multiscales"][0]["datasets"][1]["coordinateTransformations"][1]["translation"][-1] = 1.5

    return described(sound(folder, "omezarr"), IMAGE, change)


@fault("Z06")
def zarr_lz4(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "omezarr")
    return described(path, ARRAY, lambda said: said.update(compressor={"id": "lz4", "acceleration": 1}))


@fault("Z06")
def zarr_filters(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "omezarr")
    return described(path, ARRAY, lambda said: said.update(filters=[{"id": "delta", "dtype": "<u2"}]))


@fault("Z07")
def zarr_blosc(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return sound(folder, "omezarr", compression="blosc")


@fault("Z08")
def version_3_unsaid(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder, "omezarr", zarr_version=3), (' zarr.version="ZarrV3"', ""))


@fault("Z08")
def version_2_called_3(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder, "omezarr"), ('version="3.0"', 'version="3.1" zarr.version="ZarrV3"'))


@fault("Z09")
def fortran(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return described(sound(folder, "omezarr"), ARRAY, lambda said: said.update(order="F"))


@fault("Z10", "P01")
def index_outside(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return edited(sound(folder, "omezarr"), ('indicies="0 0"', 'indicies="3 0"'))


@fault("Z11")
def filled_with_ones(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return described(sound(folder, "omezarr"), ARRAY, lambda said: said.update(fill_value=1))


@fault("Z12", "P01")
def records(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "omezarr")
    return described(path, ARRAY, lambda said: said.update(dtype=[["a", "<u2"], ["b", "<u2"]]))


@fault("Z13")
def other_axes(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    def change(said: dict[str, Any]) -> None:
        said["multiscales"][0]["axes"][0] = {"name": "a"}

    return described(sound(folder, "omezarr"), IMAGE, change)


@fault("Z14")
def arguments_in_a_list(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    def change(said: dict[str, Any]) -> None:
        said["multiscales"][0]["metadata"] = {"args": [1, 2]}

    return described(sound(folder, "omezarr"), IMAGE, change)


@fault("Z15", "P02")
def old_keys(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "omezarr", zarr_version=3)
    new = {"name": "v2", "configuration": {"separator": "."}}
    return described(path, "s1-t0.zarr/0/zarr.json", lambda said: said.update(chunk_key_encoding=new))


@fault("Z16")
def percent_in_a_group(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "omezarr")
    (folder / "scan.ome.zarr/s1-t0.zarr").rename(folder / "scan.ome.zarr/50%.zarr")
    return edited(path, ("s1-t0.zarr", "50%.zarr"))


# ------------------------------------------------------------------------------------------ pixels


@fault("P01", pixels=True)
def damaged_chunk(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        info = file["t00000/s01/0/cells"].id.get_chunk_info(0)
    with path.with_suffix(".h5").open("r+b") as raw:
        raw.seek(info.byte_offset + 4)
        raw.write(b"\xff" * 20)
    return path


@fault("P01", pixels=True)
def empty_block(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    (folder / "scan.n5/setup1/timepoint0/s0/0/0/0").write_bytes(b"")
    return path


@fault("P01", pixels=True)
def cut_shard(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "omezarr", zarr_version=3)
    shard = folder / "scan.ome.zarr/s1-t0.zarr/0/c/0/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-20])
    return path


@fault("P02")
def absent_chunks(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder)
    with hdf5(path) as file:
        old = file["t00000/s01/0/cells"]
        chunks = old.chunks
        del file["t00000/s01/0/cells"]
        file.create_dataset("t00000/s01/0/cells", SHAPE, "i2", chunks=chunks, maxshape=(None,) * 3)
    return path


@fault("P02")
def absent_blocks(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = sound(folder, "n5")
    for file in (folder / "scan.n5/setup1/timepoint0/s0").rglob("*"):
        if file.is_file() and file.name != "attributes.json":
            file.unlink()
    return path


def _jagged(folder: Path, format: Any) -> Path:  # noqa: A002
    path = folder / "scan.xml"
    with npy2bdv.create(path, format=format, levels=LEVELS, compression="gzip") as writer:
        setup = writer.add_setup(shape=(20, 10, 14), channel="488")
        with writer.stream(setup=setup) as view:
            view.put(np.ones((3, 10, 14), "uint16"), 9)
    return path


@fault("P03")
def planes_never_came(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return _jagged(folder, "hdf5")


@fault("P03")
def planes_never_came_in_n5(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return _jagged(folder, "n5")


@fault("P03")
def planes_never_came_in_zarr(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    return _jagged(folder, "omezarr")


@fault("P04")
def frames_never_came(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    path = folder / "scan.xml"
    with npy2bdv.create(path, levels=LEVELS) as writer:
        setup = writer.add_setup(shape=(4, 10, 14), channel="488")
        with writer.stream(setup=setup) as view:
            for frame in (1, 2, 5, 6):
                view.append(np.ones((10, 14), "uint16"), meta={"frame": frame})
    return path
