"""What other programs make of a dataset: opens, opens wrongly, does not open, and why.

Facts: formats.md 2.4, 2.5, 3.3, 4.1, 4.4, 8.2, 8.3. The verdicts on Bio-Formats and npy2bdv 1.x are tested against
these programs; those on BigDataViewer and BigStitcher follow from their sources and from runs of their Java code,
those on BigStitcher 3.0 from its source alone; that on napari from what its OME-Zarr reader takes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from npy2bdv.check.report import Verdict
from npy2bdv.location import is_absolute
from npy2bdv.model.findings import CODES, OUTCOMES, PROGRAMS
from npy2bdv.model.spimdata import ATTRIBUTES, Hdf5Loader, N5Loader, OmeZarrLoader, OtherLoader, ViewId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from npy2bdv.model.findings import Finding, Outcome, Program
    from npy2bdv.model.spimdata import SpimData

Reason = tuple["Outcome", str]


def verdicts(
    data: SpimData | None, findings: Iterable[Finding], types: Mapping[int, str], zarr_version: int | None
) -> tuple[Verdict, ...]:
    """Say for each program what it makes of a dataset.

    Parameters
    ----------
    data
        What the XML says; None where it cannot be read.
    findings
        What is wrong.
    types
        Pixel type of each setup, as far as it is known.
    zarr_version
        Of the pixels, where they are OME-Zarr.
    """
    reasons: dict[Program, list[Reason]] = {program: [] for program in PROGRAMS}
    counts = Counter(each.code for each in findings)
    if data is not None and counts["V03"]:  # the others go by what is stored
        data = replace(data, missing=None)
    for code, count in counts.items():
        for program, outcome in CODES[code].effects.items():
            times = f" ({count} times)" if count > 1 else ""
            reasons[program].append((outcome, f"{code}: {CODES[code].title}{times}"))
    if data is not None:
        for program, rule in _RULES.items():
            reasons[program] += rule(data, types, zarr_version)
    return tuple(_verdict(program, reasons[program]) for program in PROGRAMS)


def _verdict(program: Program, reasons: list[Reason]) -> Verdict:
    worst: Outcome = max((outcome for outcome, _ in reasons), key=OUTCOMES.index, default="opens")
    why = dict.fromkeys(text for outcome, text in reasons if outcome == worst and text)
    return Verdict(program=program, verdict=worst, why="; ".join(why))


# ------------------------------------------------------------------------------------------------- Java


def _bigdataviewer(data: SpimData, types: Mapping[int, str], zarr_version: int | None) -> Iterator[Reason]:
    loader = data.loader
    if not isinstance(loader, Hdf5Loader | N5Loader):
        name = "no image loader" if loader is None else f"the image loader {loader.format!r}"
        yield (
            "does not open",
            f"{name} is not its own; in a Fiji that has BigStitcher installed, BigDataViewer opens what that does",
        )
    elif isinstance(loader, Hdf5Loader) and set(types.values()) - {"uint16"}:
        yield "opens", "pixel types other than uint16 since version 10.4.6 (March 2023)"
    else:
        yield "opens", ""


_RESAVES = {"uint8", "uint16", "float32"}
_BIGSTITCHER_ONLY = ("spimreconstruction.", "split.", "bigstitcher.")


def _bigstitcher(data: SpimData, types: Mapping[int, str], *, newest: bool) -> Iterator[Reason]:
    loader = data.loader
    known = isinstance(loader, Hdf5Loader | N5Loader | OmeZarrLoader) or (
        loader is not None and loader.format.startswith(_BIGSTITCHER_ONLY)
    )
    if not known:
        name = "no image loader" if loader is None else f"the image loader {loader.format!r}"
        yield "does not open", f"{name} is not known to it"
        return
    others = sorted(set(types.values()) - _RESAVES)
    yield "opens", f"it does not resave or fuse {', '.join(others)}" if others else ""
    if newest:
        yield "opens", "by its source; it was never run"


def _bigstitcher_2(data: SpimData, types: Mapping[int, str], zarr_version: int | None) -> Iterator[Reason]:
    yield from _bigstitcher(data, types, newest=False)
    if isinstance(data.loader, OmeZarrLoader) and 3 in (zarr_version, data.loader.zarr_version):
        yield "does not open", "the pixels are Zarr v3, which it does not read"


def _bigstitcher_3(data: SpimData, types: Mapping[int, str], zarr_version: int | None) -> Iterator[Reason]:
    yield from _bigstitcher(data, types, newest=True)


def _bio_formats(data: SpimData, types: Mapping[int, str], zarr_version: int | None) -> Iterator[Reason]:
    """Formats.md 8.3."""
    loader, times = data.loader, data.timepoints
    if not isinstance(loader, Hdf5Loader):
        yield "does not open", "it reads HDF5 only"
        return
    if is_absolute(loader.path.text) or not loader.path.text.endswith(".h5"):
        yield "does not open", "it wants a path relative to the XML that ends in .h5"
    names = set(types.values())
    if names & {"int64", "uint64", "float64", "float32"}:
        wide = ", ".join(sorted(names & {"int64", "uint64", "float64", "float32"}))
        yield "does not open", f"it does not read pixels of type {wide}"
    for name in sorted(names & {"int8", "int16", "uint32"}):
        taken = {"int8": "uint8", "int16": "uint16", "uint32": "int32"}[name]
        fails = ", and fails at values above 2147483647" if name == "uint32" else ""
        yield "opens wrongly", f"it takes pixels of type {name} for {taken}{fails}"
    channels = Counter(setup.attributes.get("channel", 0) for setup in data.setups.values())
    if len(channels) > 1 and max(channels.values()) > 1:
        yield (
            "opens wrongly",
            "of several channels and several setups for each, it shows the pixels of one setup for all",
        )
    if len(set(channels.values())) > 1:
        yield "opens wrongly", "channels have different numbers of setups"
    if any(setup.voxel_size is None for setup in data.setups.values()):
        yield "does not open", "it wants <voxelSize> of each setup"
    yield from _bio_formats_times(data)
    if len(times.ids) == 1 or times.type == "range":
        yield "opens", "registrations are ignored"


def _bio_formats_times(data: SpimData) -> Iterator[Reason]:
    times = data.timepoints
    if len(times.ids) > 1 and (
        times.type == "list" or "," in (times.pattern or "") or ":" in (times.pattern or "")
    ):
        yield "opens wrongly", f"it does not understand all time points of this {times.type}"
    first = times.ids[0] if times.ids else 0
    missing = data.missing or frozenset()
    dropped = [setup for setup in data.setups if ViewId(first, setup) in missing]
    if dropped and len(dropped) == len(data.setups):
        yield "does not open", "it goes by the first time point, at which all views are missing"
    elif dropped:
        yield (
            "opens wrongly",
            f"setups that are missing at the first time point are not shown ({len(dropped)})",
        )
    elif missing:
        yield "opens", "missing views cannot be shown"


def _npy2bdv_1(data: SpimData, types: Mapping[int, str], zarr_version: int | None) -> Iterator[Reason]:
    """Formats.md 8.2: it counts setups and time points, and goes by HDF5 only."""
    loader, times = data.loader, data.timepoints
    if not isinstance(loader, Hdf5Loader):
        yield "does not open", "it reads HDF5 only"
        return
    if times.type != "range":
        yield "does not open", f"it wants time points as a range; these are a {times.type}"
    elif times.ids and times.ids[0] != 0:
        yield "opens wrongly", f"it counts time points from 0; these begin at {times.ids[0]}"
    sizes = [len(data.attributes[name].entities) if name in data.attributes else 0 for name in ATTRIBUTES]
    if 0 in sizes:
        lacking = [name for name, size in zip(ATTRIBUTES, sizes, strict=True) if not size]
        yield "does not open", f"it wants all four attributes; there is no {', '.join(lacking)}"
        return
    if any(setup.size_xyz is None or setup.voxel_size is None for setup in data.setups.values()):
        yield "does not open", "it wants <size> and <voxelSize> of each setup"
    for id_, setup in sorted(data.setups.items()):
        number = 0
        for name, size in zip(ATTRIBUTES, sizes, strict=True):
            number = number * size + setup.attributes.get(name, 0)
        if number != id_:
            yield (
                "opens wrongly",
                f"it counts setups by their attributes: setup {id_} would be number {number}",
            )
            break
    yield "opens", ""


def _napari(data: SpimData, types: Mapping[int, str], zarr_version: int | None) -> Iterator[Reason]:
    if isinstance(data.loader, OmeZarrLoader):
        yield (
            "opens",
            "one image group at a time, by napari-ome-zarr; transforms and labels of the XML are not read",
        )
    elif not isinstance(data.loader, OtherLoader):
        yield (
            "does not open",
            "it has no reader of its own for this; the plugin of npy2bdv (extra napari) shows it",
        )


_RULES: Mapping[Program, Callable[[SpimData, Mapping[int, str], int | None], Iterator[Reason]]] = {
    "BigDataViewer": _bigdataviewer,
    "BigStitcher <= 2.6": _bigstitcher_2,
    "BigStitcher >= 3.0": _bigstitcher_3,
    "Bio-Formats": _bio_formats,
    "npy2bdv 1.x": _npy2bdv_1,
    "napari": _napari,
}
