"""What `check` says that Bio-Formats and the published npy2bdv make of a dataset is what these programs do."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from faults import FAULTS, LEVELS, Fault, edited, hdf5, rewritten, sound

import npy2bdv
from npy2bdv.model.spimdata import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from judges.conftest import Judge

    from npy2bdv.check.report import Report
    from npy2bdv.model.findings import Outcome, Program
    from npy2bdv.model.spimdata import ViewSetup

ATTRIBUTES_OF_1 = ("time", *ATTRIBUTES)


class Known(NamedTuple):
    """What was recorded: pixels of each view that is not missing, time points, and the labels of each setup."""

    pixels: dict[tuple[int, int], Any]
    times: tuple[int, ...]
    setups: Mapping[int, ViewSetup]


def truth(path: Path) -> Known:
    with npy2bdv.open(path) as dataset:
        pixels: dict[tuple[int, int], Any] = {
            view.id: view[...] for view in dataset if dataset.container.has(view.id)
        }
        return Known(pixels, dataset.times, dataset.spimdata.setups)


def truth_of(fault: Fault, path: Path, folder: Path) -> Known:
    """Return what is in a faulty dataset; where we cannot read it, or pixels are lost, what it was made from."""
    if fault.code not in LOST:
        with suppress(npy2bdv.BdvError, MemoryError):
            return truth(path)
    folder.mkdir()
    return truth(sound(folder))


def same(seen: Any, pixels: Any) -> bool:
    return bool(seen.shape == pixels.shape and seen.dtype == pixels.dtype and np.array_equal(seen, pixels))


def what_bioformats_does(judge: Judge, path: Path, known: Known) -> Outcome:
    try:
        series = judge.read(path)["series"]
    except pytest.fail.Exception:
        return "does not open"
    pixels, times, setups = known
    by_channel: dict[int, list[int]] = {}
    for id_, setup in sorted(setups.items()):
        by_channel.setdefault(setup.attributes.get("channel", 0), []).append(id_)
    shown = [each["levels"][0] for each in series]
    unreadable = sum(len(each["unreadable"]) for each in series)
    if not shown or unreadable >= sum(each.shape[0] * each.shape[1] for each in shown):
        return "does not open"
    right = 0
    for (t, time), (c, channel) in itertools.product(enumerate(times), enumerate(by_channel)):
        for index, number in enumerate(by_channel[channel]):
            if (time, number) not in pixels:
                continue
            if index >= len(shown) or t >= shown[index].shape[0] or c >= shown[index].shape[1]:
                return "opens wrongly"
            right += same(shown[index][t, c], pixels[time, number])
    return "opens" if right == len(pixels) else "opens wrongly"


def what_npy2bdv_1_does(judge: Judge, path: Path, known: Known) -> Outcome:
    try:
        views = judge.read(path)["views"]
    except pytest.fail.Exception:
        return "does not open"
    if not views:
        return "does not open"
    pixels, _, setups = known
    seen = {tuple(view[name] for name in ATTRIBUTES_OF_1): view["levels"][0] for view in views}
    right = 0
    for (time, setup), wanted in pixels.items():
        key = (time, *(setups[setup].attributes.get(name, 0) for name in ATTRIBUTES))
        right += key in seen and same(seen[key], wanted)
    return "opens" if right == len(pixels) else "opens wrongly"


def verdict(report: Report, program: Program) -> tuple[Outcome, str]:
    (found,) = (each for each in report.verdicts if each.program == program)
    return found.verdict, found.why


# ------------------------------------------------------------------------------------------- datasets


def recorded(folder: Path, **options: Any) -> Path:
    """Write channels, tiles, time points. Values of uint32 stay below 2**31."""
    path = folder / "scan.xml"
    counts = {name: options.pop(name, 1) for name in ("channels", "tiles", "times", "first_time", "angles")}
    dtype, missing = options.pop("dtype", "uint16"), options.pop("missing", ())
    rng = np.random.default_rng(3)
    first = counts["first_time"] - 1
    with npy2bdv.create(path, levels=LEVELS, **options) as writer:
        for channel, tile, angle in itertools.product(
            range(counts["channels"]), range(counts["tiles"]), range(counts["angles"])
        ):
            setup = writer.add_setup(
                shape=(6, 10, 14), dtype=dtype, channel=f"c{channel}", tile=tile, angle=angle
            )
            for time in range(first, first + counts["times"]):
                if (time, setup) not in missing:
                    pixels = rng.random((6, 10, 14))
                    if np.dtype(dtype).kind in "iu":
                        pixels *= min(2**31 - 1, np.iinfo(dtype).max)
                    writer.write(pixels.astype(dtype), setup=setup, time=time)
    return path


def as_a_list(folder: Path) -> Path:
    path = recorded(folder, times=2)
    new = '<Timepoints type="list"><Timepoint><id>0</id></Timepoint><Timepoint><id>1</id></Timepoint></Timepoints>'
    return edited(path, ("<Timepoints.*</Timepoints>", new))


def as_a_pattern(folder: Path, pattern: str, times: int) -> Path:
    path = recorded(folder, times=times)
    new = f'<Timepoints type="pattern"><integerpattern>{pattern}</integerpattern></Timepoints>'
    return edited(path, ("<Timepoints.*</Timepoints>", new))


DATASETS: dict[str, Any] = {
    "one view": lambda folder: recorded(folder),
    "gzip": lambda folder: recorded(folder, compression="gzip"),
    "two channels": lambda folder: recorded(folder, channels=2),
    "two tiles": lambda folder: recorded(folder, tiles=2),
    "two channels of two tiles": lambda folder: recorded(folder, channels=2, tiles=2),
    "two tiles at two angles": lambda folder: recorded(folder, tiles=2, angles=2),
    "three times": lambda folder: recorded(folder, times=3),
    "from time 1 on": lambda folder: recorded(folder, times=2, first_time=2),
    "a missing view": lambda folder: recorded(folder, times=2, tiles=2, missing={(1, 1)}),
    "missing at first": lambda folder: recorded(folder, times=2, tiles=2, missing={(0, 1)}),
    "uint8": lambda folder: recorded(folder, dtype="uint8"),
    "int8": lambda folder: recorded(folder, dtype="int8"),
    "int16": lambda folder: recorded(folder, dtype="int16"),
    "int32": lambda folder: recorded(folder, dtype="int32"),
    "uint32": lambda folder: recorded(folder, dtype="uint32"),
    "int64": lambda folder: recorded(folder, dtype="int64"),
    "float32": lambda folder: recorded(folder, dtype="float32"),
    "float64": lambda folder: recorded(folder, dtype="float64"),
    "a list of times": as_a_list,
    "a pattern": lambda folder: as_a_pattern(folder, "0-1", 2),
    "a pattern of one": lambda folder: as_a_pattern(folder, "0", 1),
    "a pattern with a comma": lambda folder: as_a_pattern(folder, "0,1", 2),
    "n5": lambda folder: recorded(folder, format="n5"),
    "omezarr": lambda folder: recorded(folder, format="omezarr"),
    "named hdf5": lambda folder: renamed(folder),
    "uint16 as such": lambda folder: rewritten(sound(folder), lambda pixels: pixels.astype("u2") + 40_000),
    "uint16 with type": lambda folder: typed(folder),
}


def renamed(folder: Path) -> Path:
    path = recorded(folder)
    path.with_suffix(".h5").rename(folder / "scan.hdf5")
    return edited(path, ("scan.h5", "scan.hdf5"))


def typed(folder: Path) -> Path:
    path = rewritten(sound(folder), lambda pixels: pixels.astype("u2") + 40_000)
    with hdf5(path) as file:
        for name in ("s00", "s01"):
            file[name].attrs["dataType"] = np.bytes_("uint16")
    return path


LOST = {"P02"}
NOT_COMPARED = {
    "F03": "the recording of the catalogue is complete but for its journal",
    "F08": "of the missing library the others know nothing",
    "H08": "what the pixels are is not known",
    "L04": "the image is too large to be read",
    "P01": "the scripts stop at the first pixel that cannot be read",
}
HDF5_FAULTS = [fault for fault in FAULTS if fault.code[0] in "FXVTLHP" and fault.code not in NOT_COMPARED]


LONGER = {"gzip", "two tiles at two angles", "int8", "int16", "int32", "int64", "float64", "n5", "omezarr"}
LONGER |= {"three times", "a pattern", "a pattern of one", "uint16 with type", "two channels"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.soak] if name in LONGER else []) for name in DATASETS],
)
def test_bioformats(name: str, tmp_path: Path, bioformats: Judge) -> None:
    path = DATASETS[name](tmp_path)
    expected, why = verdict(npy2bdv.check(path, pixels=True), "Bio-Formats")
    assert (what_bioformats_does(bioformats, path, truth(path)), why) == (expected, why)


@pytest.mark.parametrize("name", DATASETS)
def test_npy2bdv_1(name: str, tmp_path: Path, published: Judge) -> None:
    path = DATASETS[name](tmp_path)
    expected, why = verdict(npy2bdv.check(path, pixels=True), "npy2bdv 1.x")
    assert (what_npy2bdv_1_does(published, path, truth(path)), why) == (expected, why)


@pytest.mark.soak
@pytest.mark.parametrize(
    "fault",
    # the script names the reader, so that it looks at no first bytes; without groups for time points it stops
    [each for each in HDF5_FAULTS if each.name not in ("X19-long_comment", "X24-billions_of_time_points")],
    ids=lambda fault: fault.name,
)
def test_bioformats_and_faults(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bioformats: Judge
) -> None:
    path = fault.make(tmp_path, monkeypatch)
    expected, why = verdict(npy2bdv.check(path, pixels=True), "Bio-Formats")
    assert (what_bioformats_does(bioformats, path, truth_of(fault, path, tmp_path / "sound")), why) == (
        expected,
        why,
    )


@pytest.mark.soak
@pytest.mark.parametrize(
    "fault",
    # where one transform has no time, npy2bdv 1.x still finds the others
    [each for each in HDF5_FAULTS if each.name != "X04-registration_of_no_view"],
    ids=lambda fault: fault.name,
)
def test_npy2bdv_1_and_faults(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Judge
) -> None:
    path = fault.make(tmp_path, monkeypatch)
    expected, why = verdict(npy2bdv.check(path, pixels=True), "npy2bdv 1.x")
    assert (what_npy2bdv_1_does(published, path, truth_of(fault, path, tmp_path / "sound")), why) == (
        expected,
        why,
    )
