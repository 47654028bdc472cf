"""Datasets made to do harm: each a small folder, whose name says what it tries."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from faults import described, edited, hdf5, inserted, sound

Make = Callable[[Path], Path]
HOSTILE: dict[str, Make] = {}


def hostile(make: Make) -> Make:
    HOSTILE[make.__name__] = make
    return make


def _with(name: str, change: Callable[[Path], Path], format_: Any = "hdf5") -> None:
    HOSTILE[name] = lambda folder: change(sound(folder, format_))


def _edit(old: str, new: str) -> Callable[[Path], Path]:
    return lambda path: edited(path, (old, new))


# --------------------------------------------------------------------------------------------- XML

TIMES = "<Timepoints.*</Timepoints>"
SIZE = "<size>14 10 6</size>"


def _pattern(text: str) -> Callable[[Path], Path]:
    return _edit(TIMES, f'<Timepoints type="pattern"><integerpattern>{text}</integerpattern></Timepoints>')


@hostile
def billion_laughs(folder: Path) -> Path:
    lines = ["<!ENTITY a0 'ha'>", *(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 11))]
    path = inserted(sound(folder), "<SpimData", f"<!DOCTYPE SpimData [{''.join(lines)}]>")
    return edited(path, ("<name>", "<name>&a10;"))


@hostile
def external_entity(folder: Path) -> Path:
    doctype = '<!DOCTYPE SpimData [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    return edited(inserted(sound(folder), "<SpimData", doctype), ("<name>", "<name>&x;"))


_with("external_dtd", lambda path: inserted(path, "<SpimData", '<!DOCTYPE S SYSTEM "http://127.0.0.1:9/x">'))
_with("deep_nesting", lambda path: inserted(path, "</SpimData>", "<a>" * 100_000 + "</a>" * 100_000))
_with("deep_enough", lambda path: inserted(path, "</SpimData>", "<a>" * 240 + "</a>" * 240))
_with("many_children", lambda path: inserted(path, "</SpimData>", f"<a>{'<b/>' * 200_000}</a>"))
_with("long_name", _edit("<name>", f"<name>{'x' * 9_000_000}"))
_with("many_digits", _edit(SIZE, f"<size>{'9' * 100_000} 10 6</size>"))
_with("id_of_many_digits", _edit("<id>0</id>", f"<id>{'9' * 10_000}</id>"))
_with("infinite_numbers", _edit("<affine>1.0", "<affine>1e999"))
_with("size_of_infinity", _edit(SIZE, "<size>inf nan 6</size>"))
_with("negative_sizes", _edit(SIZE, "<size>-14 0 6</size>"))
_with("all_time_points", _edit("<last>0</last>", f"<last>{2**31 - 1}</last>"))
_with("a_million_time_points", _edit("<last>0</last>", "<last>999999</last>"))
_with("patterns_that_count", _pattern("0-999999," * 500))
_with("pattern_without_step", _pattern("0-9:0"))


@hostile
def views_without_end(folder: Path) -> Path:
    path = edited(sound(folder), ("<last>0</last>", "<last>900000</last>"))
    setup = "<ViewSetup><id>{}</id><size>1 1 1</size><attributes/></ViewSetup>"
    return inserted(path, "</ViewSetups>", "".join(setup.format(n) for n in range(100, 5000)))


@hostile
def nested_split(folder: Path) -> Path:
    loader = '<ImageLoader format="bdv.hdf5"><hdf5 type="relative">scan.h5</hdf5></ImageLoader>'
    for _ in range(50):
        loader = (
            '<ImageLoader format="split.viewerimgloader"><SequenceDescription><ViewSetups/><Timepoints type="range">'
            f"<first>0</first><last>0</last></Timepoints></SequenceDescription>{loader}<SetupIds/></ImageLoader>"
        )
    return edited(sound(folder), ("<ImageLoader.*?</ImageLoader>", loader))


@hostile
def another_encoding(folder: Path) -> Path:
    path = sound(folder)
    path.write_text(path.read_text("utf-8").replace("UTF-8", "UTF-16"), "utf-16")
    return path


@hostile
def no_encoding_at_all(folder: Path) -> Path:
    path = sound(folder)
    path.write_bytes(path.read_bytes().replace(b"UTF-8", b"x-evil") + bytes(range(256)))
    return path


@hostile
def large_xml(folder: Path) -> Path:
    """A sparse file of 8 GB."""
    path = sound(folder)
    with path.open("r+b") as file:
        file.truncate(2**33)
    return path


# ------------------------------------------------------------------------------------------- paths

PATHS = {
    "path_absolute": "/etc/passwd",
    "path_upwards": "../../../../../../etc/passwd",
    "path_of_a_server": r"\\server\share\scan.h5",
    "path_of_a_device": "/dev/zero",
    "path_of_a_device_name": "COM1",
    "path_with_a_null": "scan%00.h5",
    "path_too_long": "x" * 5000 + ".h5",
    "path_of_nothing": "",
    "path_of_the_folder": ".",
    "path_as_uri": "file:///etc/passwd",
    "path_of_a_host": "file://127.0.0.1/etc/passwd",
    "path_on_the_net": "http://127.0.0.1:9/scan.h5",
}
for _name, _text in PATHS.items():
    for _format, _old in (("hdf5", "scan.h5"), ("n5", "scan.n5"), ("omezarr", "scan.ome.zarr")):
        _with(f"{_name}_{_format}", _edit(_old, _text), _format)

_with("base_with_a_null", _edit(">.</BasePath>", ">a%00b</BasePath>"))
_with("base_too_long", _edit(">.</BasePath>", f">{'x' * 5000}</BasePath>"))
for _name, _text in (("upwards", "../../../.."), ("absolute", "/etc"), ("long", "x" * 5000), ("empty", "")):
    _with(f"zgroup_{_name}", _edit('path="s1-t0.zarr"', f'path="{_text}"'), "omezarr")


@hostile
def loop_of_links(folder: Path) -> Path:
    path = sound(folder)
    path.with_suffix(".h5").unlink()
    (folder / "scan.h5").symlink_to("scan.h5")
    return path


def _pipe(name: str, format_: Any) -> None:
    def make(folder: Path) -> Path:
        path = sound(folder, format_)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        return path

    HOSTILE[f"pipe_as_{name.rpartition('/')[2]}_{format_}"] = make


_pipe("scan.h5", "hdf5")
_pipe("scan.frames.csv", "hdf5")
_pipe("scan.h5.journal", "hdf5")
_pipe("scan.n5/setup1/timepoint0/s0/attributes.json", "n5")
_pipe("scan.ome.zarr/s1-t0.zarr/.zattrs", "omezarr")


@hostile
def endless_field_of_frames(folder: Path) -> Path:
    path = sound(folder)
    rows = "time,setup,z,frame\n0,0,0," + "9" * 10_000 + "\n" + "x" * 200_000
    (folder / "scan.frames.csv").write_text(rows)
    return path


# -------------------------------------------------------------------------------------------- HDF5


def _hdf5(name: str, change: Callable[[h5py.File], object]) -> None:
    def edit(path: Path) -> Path:
        with hdf5(path) as file:
            change(file)
        return path

    _with(f"h5_{name}", edit)


def _dataset(name: str, where: str, **how: Any) -> None:
    def change(file: h5py.File) -> None:
        del file[where]
        file.create_dataset(where, **how)

    _hdf5(name, change)


CELLS, ROWS = "t00000/s01/0/cells", "s01/resolutions"
_dataset("shape", CELLS, shape=(2**40,) * 3, dtype="i2", chunks=(1, 64, 64))
_dataset("chunk", CELLS, shape=(2**11,) * 3, dtype="u1", chunks=(2**9, 2**11, 2**11))
_dataset("contiguous", CELLS, shape=(2**20, 2**20, 2**18), dtype="i2")
_dataset("empty", CELLS, shape=(0, 0, 0), dtype="i2")
_dataset("null", CELLS, data=h5py.Empty("i2"))
_dataset("scalar", CELLS, data=3)
_dataset("text", CELLS, shape=(6, 10, 14), dtype=h5py.string_dtype())
_dataset("records", CELLS, shape=(6, 10, 14), dtype=[("a", "i2"), ("b", "S1000")])
_dataset("objects", CELLS, shape=(6, 10, 14), dtype=h5py.ref_dtype)
_dataset("raw_elsewhere", CELLS, shape=(1, 8, 8), dtype="u1", external=[("/etc/passwd", 0, 64)])
_dataset("levels", ROWS, shape=(2**40, 3), dtype="f8", chunks=(1024, 3))
_dataset("factors_text", ROWS, data=[["a", "b", "c"]])
_dataset("factors_null", ROWS, data=h5py.Empty("f8"))
_dataset("factors_nan", ROWS, data=np.full((2, 3), np.nan))
_dataset("factors_tiny", ROWS, data=np.full((2, 3), 1e-300))
_dataset("subdivisions", "s01/subdivisions", shape=(2**40, 3), dtype="i4", chunks=(1024, 3))


def _attribute(name: str, where: str, key: str, value: object) -> None:
    _hdf5(name, lambda file: file[where].attrs.__setitem__(key, value))


_attribute("type_long", "s01", "dataType", "x" * 60_000)
_attribute("type_number", "s01", "dataType", np.arange(5000))
_attribute("planes", "t00000/s01", "npy2bdv_missing_planes", np.full((2000, 2), -(2**62)))
_attribute("planes_nan", "t00000/s01", "npy2bdv_missing_planes", [[np.nan, np.inf]])
_attribute("planes_text", "t00000/s01", "npy2bdv_missing_planes", "no")
_hdf5("name_of_digits", lambda file: file.copy("t00000", "t" + "9" * 5000))


def _link(name: str, where: str, link: object) -> None:
    def change(file: h5py.File) -> None:
        del file[where]
        file[where] = link

    _hdf5(name, change)


def _root_in_itself(file: h5py.File) -> None:
    file["t00001"] = file["/"]
    file["t00000/s01/0/again"] = file["t00000"]


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((6, 10, 14), "i2")
    layout[...] = h5py.VirtualSource("../../elsewhere.h5", "a", (6, 10, 14))
    del file[CELLS]
    file.create_virtual_dataset(CELLS, layout)


_link("cycle", "t00000/s01", h5py.SoftLink("/t00000/s01"))
_link("link_to_itself", CELLS, h5py.ExternalLink("scan.h5", CELLS))
_link("link_upwards", CELLS, h5py.ExternalLink("../../../../etc/passwd", "a"))
_link("link_to_a_device", CELLS, h5py.ExternalLink("/dev/zero", "a"))
_link("link_to_a_group", CELLS, h5py.ExternalLink("scan.h5", "/"))
_hdf5("root_in_itself", _root_in_itself)
_hdf5("virtual_elsewhere", _virtual)


@hostile
def h5_link_to_a_pipe(folder: Path) -> Path:
    path = sound(folder)
    os.mkfifo(folder / "pipe.h5")
    with hdf5(path) as file:
        del file[CELLS]
        file[CELLS] = h5py.ExternalLink("pipe.h5", "a")
    return path


# ------------------------------------------------------------------------------------ N5, OME-Zarr

ODD: dict[str, Any] = {
    "huge": [2**62, 2**62, 2**62],
    "beyond": [10**30, 1, 1],
    "negative": [-1, 10, 6],
    "zero": [0, 0, 0],
    "fraction": [1.5, 10, 6],
    "infinite": [float("inf"), 10, 6],
    "true": [True, True, True],
    "text": "abc",
    "texts": ["14", "10", "6"],
    "none": None,
    "object": {"a": 1, "b": 2, "c": 3},
    "long": [1] * 100_000,
    "nested": [[1], [1], [1]],
}
N5_LEVEL = "setup1/timepoint0/s0/attributes.json"
ARRAY, IMAGE = "s1-t0.zarr/0/.zarray", "s1-t0.zarr/.zattrs"


def _said(name: str, format_: str, key: str, what: str, value: Any) -> None:
    _with(name, lambda path: described(path, key, lambda said: said.update({what: value})), format_)


def _v3(name: str, what: str, value: Any) -> None:
    def make(folder: Path) -> Path:
        path = sound(folder, "omezarr", zarr_version=3)
        return described(path, "s1-t0.zarr/0/zarr.json", lambda said: said.update({what: value}))

    HOSTILE[f"zarr3_{name}"] = make


def _image(name: str, change: Callable[[dict[str, Any]], None]) -> None:
    _with(
        f"zarr_{name}",
        lambda path: described(path, IMAGE, lambda said: change(said["multiscales"][0])),
        "omezarr",
    )


def _scaled(value: Any) -> Callable[[dict[str, Any]], None]:
    transforms = [{"type": "scale", "scale": value}]
    return lambda image: image["datasets"][1].update(coordinateTransformations=transforms)


def _lies_at(path: str) -> Callable[[dict[str, Any]], None]:
    return lambda image: image["datasets"][0].update(path=path)


for _name, _value in ODD.items():
    for _key in ("dimensions", "blockSize", "dataType", "compression"):
        _said(f"n5_{_key}_{_name}", "n5", N5_LEVEL, _key, _value)
    for _key in ("downsamplingFactors", "dataType"):
        _said(f"n5_setup_{_key}_{_name}", "n5", "setup1/attributes.json", _key, _value)
    _said(f"n5_version_{_name}", "n5", "attributes.json", "n5", _value)
    _said(f"n5_planes_{_name}", "n5", "setup1/timepoint0/attributes.json", "npy2bdv_missing_planes", _value)
    for _key in (
        "shape", "chunks", "dtype", "compressor", "filters", "order", "fill_value", "dimension_separator",
    ):  # fmt: skip
        _said(f"zarr_{_key}_{_name}", "omezarr", ARRAY, _key, _value)
    for _key in ("multiscales", "npy2bdv", "omero"):
        _said(f"zarr_{_key}_{_name}", "omezarr", IMAGE, _key, _value)
    _image(f"transform_{_name}", _scaled(_value))
    for _key in (
        "shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value", "zarr_format",
    ):  # fmt: skip
        _v3(f"{_key}_{_name}", _key, _value)
    _v3(f"chunks_{_name}", "chunk_grid", {"name": "regular", "configuration": {"chunk_shape": _value}})

UPWARDS = "/../../../../"
_said("n5_gzip_level", "n5", N5_LEVEL, "compression", {"type": "gzip", "level": 10**30, "useZlib": 7})
_said("n5_gzip_object", "n5", N5_LEVEL, "compression", {"type": "gzip", "useZlib": {"a": []}})
_said("zarr_separator_upwards", "omezarr", ARRAY, "dimension_separator", UPWARDS)
_said("zarr_type_of_void", "omezarr", ARRAY, "dtype", "|V2000000000")
_said("zarr_type_of_objects", "omezarr", ARRAY, "dtype", "|O")
_v3("separator", "chunk_key_encoding", {"name": "default", "configuration": {"separator": UPWARDS}})
for _name, _text in {
    "upwards": "../../..",
    "absolute": "/etc",
    "null": "a\0b",
    "long": "x" * 5000,
    "empty": "",
    "other": "../s0-t0.zarr/0",
}.items():
    _image(f"path_{_name}", _lies_at(_text))
_image("many_levels", lambda image: image.update(datasets=image["datasets"] * 20_000))


def _json(name: str, format_: str, key: str, text: str) -> None:
    def edit(path: Path) -> Path:
        (folder,) = (each for each in path.parent.iterdir() if each.suffix in (".n5", ".zarr"))
        (folder / key).write_text(text)
        return path

    _with(name, edit, format_)


for _number, _key in enumerate((N5_LEVEL, "setup1/attributes.json", "attributes.json")):
    _json(f"n5_nested_lists_{_number}", "n5", _key, "[" * 200_000)
    _json(f"n5_nested_objects_{_number}", "n5", _key, '{"a":' * 200_000 + "1" + "}" * 200_000)
    _json(f"n5_digits_{_number}", "n5", _key, '{"dimensions": [' + "9" * 10_000 + ",1,1]}")
_json("n5_cache_nested", "n5", "attributes_cache.json", '{"children":{"a":' * 50_000)
_json("n5_cache_upwards", "n5", "attributes_cache.json", '{"children":{"../..":{"attributes.json":{}}}}')
_json("zarr_nested_lists", "omezarr", IMAGE, "[" * 200_000)
_json("zarr_nested_array", "omezarr", ARRAY, '{"a":' * 200_000)


@hostile
def large_attributes(folder: Path) -> Path:
    """A sparse file of 8 GB."""
    path = sound(folder, "n5")
    with (folder / "scan.n5/setup1/attributes.json").open("r+b") as file:
        file.truncate(2**33)
    return path


ODD_NAMES = [name for name in HOSTILE if any(name.endswith(f"_{odd}") for odd in ODD)]
QUICK = [name for name in HOSTILE if name not in {*ODD_NAMES, "a_million_time_points"}] + ODD_NAMES[::6]
"""A part of all, for each day."""
