"""Which program, in which version, reads what we write: the table of docs/reference/compatibility.md is made here.

What was seen is stored in compatibility.json beside it. To see and write both anew, with the judges there:
python tests/judges/test_compatibility.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from judges.conftest import Judge, python_of

import npy2bdv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
STORED, PAPER = FOLDER / "compatibility.json", FOLDER / "compatibility.md"

SHAPE = (9, 21, 34)
LEVELS = ((1, 1, 1), (1, 2, 2), (2, 4, 4))
CHUNKS = ((4, 16, 16), (4, 8, 16), (2, 8, 8))

TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
KINDS: dict[str, dict[str, Any]] = {
    "HDF5": {"format": "hdf5"},
    "N5": {"format": "n5"},
    "OME-Zarr, Zarr v2": {"format": "omezarr", "zarr_version": 2},
    "OME-Zarr, Zarr v3": {"format": "omezarr", "zarr_version": 3},
}
CODECS: dict[str, tuple[str | None, ...]] = {
    "HDF5": (None, "gzip", "lzf"),
    "N5": (None, "gzip", "zstd", "blosc"),
    "OME-Zarr, Zarr v2": (None, "gzip", "zstd", "blosc"),
    "OME-Zarr, Zarr v3": (None, "gzip", "zstd", "blosc"),
}
JUDGES = {"Bio-Formats": "7.3.1", "npy2bdv": "1.1.0", "pybdv": "0.6.0"}
LIBRARIES = ("h5py", "tensorstore", "zarr", "z5py")

Pixels = dict[tuple[int, int], "NDArray[Any]"]  # by time point and setup, level 0


def written(folder: Path, kind: str, codec: str | None, dtype: str) -> tuple[Path, Pixels]:
    """Write two tiles at two time points, of which one is missing; return the XML and what was recorded."""
    numbers = np.random.default_rng(len(dtype))
    path = folder / "scan.xml"
    recorded: Pixels = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some program lacks a codec is what the table is about
        with npy2bdv.create(path, levels=LEVELS, chunks=CHUNKS, compression=codec, **KINDS[kind]) as writer:
            for tile in range(2):
                setup = writer.add_setup(shape=SHAPE, dtype=dtype, tile=tile, voxel_size_xyz=(0.4, 0.4, 1.0))
                for time in range(2):
                    if (time, tile) != (1, 1):
                        recorded[time, tile] = random_pixels(numbers, dtype)
                        writer.write(recorded[time, tile], setup=setup, time=time)
    return path, recorded


def random_pixels(numbers: np.random.Generator, dtype: str) -> NDArray[Any]:
    if dtype.startswith("float"):
        return numbers.normal(100, 1000, SHAPE).astype(dtype)
    limits = np.iinfo(dtype)
    return numbers.integers(limits.min, limits.max, SHAPE, dtype, endpoint=True)


# ------------------------------------------------------------------------------------- what each program sees


def by_bioformats(judge: Judge, path: Path) -> Pixels:
    series = judge.read(path)["series"]
    return {
        (time, tile): each["levels"][0][time, 0]
        for tile, each in enumerate(series)
        for time in range(len(each["levels"][0]))
        if [time, 0] not in each["unreadable"]
    }


def by_views(judge: Judge, path: Path) -> Pixels:
    return {
        (view["time"], view.get("tile", view.get("setup"))): view["levels"][0]
        for view in judge.read(path)["views"]
    }


def by_h5py(path: Path) -> Pixels:
    import h5py

    with h5py.File(path.with_suffix(".h5")) as file:
        return {
            (int(time[1:]), int(setup[1:])): file[f"{time}/{setup}/0/cells"][:]
            for time in file
            if time.startswith("t")
            for setup in file[time]
        }


def array_folders(path: Path) -> dict[tuple[int, int], Path]:
    """Return the folder of level 0 of each view."""
    if path.with_suffix(".n5").is_dir():
        found = path.with_suffix(".n5").glob("setup*/timepoint*/s0")
        return {(int(each.parent.name[9:]), int(each.parents[1].name[5:])): each for each in found}
    images = path.with_suffix(".ome.zarr").glob("s*-t*.zarr")
    names = {image: image.name.removesuffix(".zarr").split("-") for image in images}
    return {(int(time[1:]), int(setup[1:])): image / "0" for image, (setup, time) in names.items()}


def by_tensorstore(path: Path) -> Pixels:
    import tensorstore

    def read(folder: Path) -> NDArray[Any]:
        driver = (
            "n5"
            if "timepoint" in folder.parent.name
            else "zarr3"
            if (folder / "zarr.json").exists()
            else "zarr"
        )
        store = {"driver": "file", "path": str(folder)}
        found: NDArray[Any] = tensorstore.open({"driver": driver, "kvstore": store}).result().read().result()
        return found.T if driver == "n5" else found[0, 0]

    return {view: read(folder) for view, folder in array_folders(path).items()}


def by_zarr(path: Path) -> Pixels:
    import zarr

    return {
        view: np.asarray(zarr.open_array(folder, mode="r"))[0, 0]
        for view, folder in array_folders(path).items()
    }


def by_z5py(path: Path) -> Pixels:
    import z5py

    found: Pixels = {}
    for view, folder in array_folders(path).items():
        is_n5 = "timepoint" in folder.parent.name
        root = folder.parents[2] if is_n5 else folder.parent
        with (z5py.N5File if is_n5 else z5py.ZarrFile)(str(root), "r") as file:
            pixels = file[folder.relative_to(root).as_posix()][:]
            found[view] = pixels[0, 0] if pixels.ndim == 5 else pixels
    return found


MADE_FOR: dict[str, tuple[str, ...]] = {
    "h5py": ("HDF5",),
    "tensorstore": ("N5", "OME-Zarr, Zarr v2", "OME-Zarr, Zarr v3"),
    "z5py": ("N5", "OME-Zarr, Zarr v2", "OME-Zarr, Zarr v3"),
    "zarr": ("OME-Zarr, Zarr v2", "OME-Zarr, Zarr v3"),
}
"""Libraries that are for some formats only."""


def outcome(read: Callable[[Path], Pixels], path: Path, recorded: Pixels) -> str:
    """Return "yes", "bits" (each pixel's bits, under another type), "wrong", or "no" where nothing is read."""
    try:
        seen = read(path)
    except (Exception, pytest.fail.Exception):
        return "no"
    if not seen:
        return "no"
    if seen.keys() != recorded.keys():
        return "wrong"
    if all(
        seen[view].dtype == pixels.dtype and (seen[view] == pixels).all() for view, pixels in recorded.items()
    ):
        return "yes"
    same = all(
        seen[view].dtype.itemsize == pixels.itemsize and (seen[view].view(pixels.dtype) == pixels).all()
        for view, pixels in recorded.items()
    )
    return "bits" if same else "wrong"


def examined(program: str, read: Callable[[Path], Pixels]) -> dict[str, dict[str, str]]:
    """Return what a program makes of each format and compression (of uint16), and of each pixel type (with gzip)."""
    codecs: dict[str, str] = {}
    types: dict[str, str] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        for kind in MADE_FOR.get(program, KINDS):
            for codec in CODECS[kind]:
                folder = Path(name) / f"{len(codecs)}"
                folder.mkdir()
                codecs[f"{kind}: {codec or 'none'}"] = outcome(read, *written(folder, kind, codec, "uint16"))
                if codec is None and codecs[f"{kind}: none"] == "no":
                    break
            if codecs[f"{kind}: none"] == "no":
                continue
            for dtype in TYPES:
                folder = Path(name) / f"{kind}-{dtype}"
                folder.mkdir()
                types[f"{kind}: {dtype}"] = outcome(read, *written(folder, kind, "gzip", dtype))
    return {"compression": codecs, "pixel types": types}


def readers(judges: Path | None) -> dict[str, Callable[[Path], Pixels]]:
    """Return how each program is asked."""
    found: dict[str, Callable[[Path], Pixels]] = {
        "h5py": by_h5py,
        "tensorstore": by_tensorstore,
        "zarr": by_zarr,
        "z5py": by_z5py,
    }
    if judges is not None:
        home = judges / "bioformats"
        java = Judge(name="bioformats", python=python_of(home), arguments=(home / "bioformats_package.jar",))
        found |= {
            "Bio-Formats": partial(by_bioformats, java),
            "npy2bdv": partial(by_views, Judge(name="npy2bdv", python=python_of(judges / "npy2bdv"))),
            "pybdv": partial(by_views, Judge(name="pybdv", python=python_of(judges / "pybdv"))),
        }
    return found


# ----------------------------------------------------------------------------------------------- the page

HEAD = """# What opens what this package writes

Made from test results: a dataset of two tiles at two time points, one view missing, three levels, was written in each
way and read by each program; every pixel of the full resolution was compared. `tests/judges/test_compatibility.py` made
this page, and fails when a program does not do what stands here.

Programs that need a person to look (Fiji's BigDataViewer and BigStitcher, Imaris, neuroglancer, napari) are not in this
table; what is known of them, and how, is in
[which programs open it](../how-to/formats.md#which-programs-open-it).
"""
SIGNS = {"yes": "yes", "bits": "same bits, other type", "wrong": "**wrong**", "no": "–", "": ""}


def page(stored: Mapping[str, Any]) -> str:
    """Return the page for what is stored."""
    programs = list(stored)
    head = " | ".join(f"{program} {stored[program]['version']}" for program in programs)
    lines = [HEAD, "## Formats and compression\n", "Of uint16.\n"]
    lines += [f"| format | compression | {head} |", "|---|---|" + "---|" * len(programs)]
    for kind in KINDS:
        for codec in CODECS[kind]:
            key = f"{kind}: {codec or 'none'}"
            cells = [said_of(stored[program]["compression"], kind, key) for program in programs]
            lines.append(f"| {kind} | {codec or 'none'} | {' | '.join(cells)} |")
    lines += ["\n## Pixel types\n", "With gzip, over the whole range of each type.\n"]
    lines += [f"| format | {head} |", "|---|" + "---|" * len(programs)]
    for kind in KINDS:
        cells = [types_of(stored[program]["pixel types"], kind) for program in programs]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += [
        "",
        "*same bits, other type*: every pixel is there, but the program takes it for another type of as many bits;",
        "a view of the bits puts it right. In HDF5 BigDataViewer stores uint16 so, as int16. –: it does not open it;",
        "of a format whose uncompressed pixels it does not open, others were not tried. Empty: it is not for that",
        "format. Bio-Formats reads uint32 whose values are below 2³¹.",
        "",
    ]
    return "\n".join(lines)


def said_of(codecs: Mapping[str, str], kind: str, key: str) -> str:
    if codecs.get(f"{kind}: none") == "no":
        return SIGNS["no"]
    return SIGNS[codecs.get(key, "")]


def types_of(types: Mapping[str, str], kind: str) -> str:
    """Return which pixel types a program reads of a format."""
    seen = {dtype: types[f"{kind}: {dtype}"] for dtype in TYPES if f"{kind}: {dtype}" in types}
    parts = []
    for result, words in (("yes", ""), ("bits", "same bits: "), ("wrong", "**wrong**: "), ("no", "not: ")):
        found = [dtype for dtype in seen if seen[dtype] == result]
        if found:
            parts.append(f"{words}{'all' if len(found) == len(TYPES) else ', '.join(found)}")
    return "; ".join(parts)


# ---------------------------------------------------------------------------------------------- the tests


def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(STORED.read_text("utf-8"))
    return found


def test_the_page_is_made_from_what_was_seen() -> None:
    assert PAPER.read_text("utf-8") == page(stored())
    assert list(stored()) == [*JUDGES, *LIBRARIES]


@pytest.mark.parametrize("program", [*JUDGES, *LIBRARIES])
def test_programs_do_what_the_table_says(program: str, request: pytest.FixtureRequest) -> None:
    if program in JUDGES:
        seen = examined(program, readers(request.getfixturevalue("judges"))[program])
        assert stored()[program]["version"] == JUDGES[program]
    else:
        pytest.importorskip(program)
        seen = examined(program, readers(None)[program])
    assert {key: stored()[program][key] for key in seen} == seen


def main() -> None:
    """See, store, and write the page."""
    found = {}
    for program, read in readers(Path(os.environ["NPY2BDV_JUDGES"]).resolve()).items():
        print(program, file=sys.stderr)
        found[program] = {"version": JUDGES.get(program) or version(program), **examined(program, read)}
    result = {program: found[program] for program in (*JUDGES, *LIBRARIES)}
    STORED.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    PAPER.write_text(page(result), "utf-8")


if __name__ == "__main__":
    main()
