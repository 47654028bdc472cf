"""``npy2bdv info``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.filesize import decimal

from npy2bdv.errors import FormatError, NotFoundError
from npy2bdv.model.spimdata import OmeZarrLoader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console

    from npy2bdv.dataset import Dataset, View
    from npy2bdv.model.spimdata import SpimData, ViewId, ViewSetup

_ROWS = 40
_COLUMNS = 100
_POSITION = "position x,y,z"


def info(xml: Path, /, *, all_setups: Annotated[bool, Parameter(name="--all", negative="")] = False) -> None:
    """Show what a dataset holds.

    Parameters
    ----------
    xml
        The XML, or the pixels beside it.
    all_setups
        List all setups, however many there are.
    """
    from rich.console import Console

    from npy2bdv.dataset import Dataset
    from npy2bdv.location import find_xml, read_xml

    path = find_xml(xml, remote=True)
    data = read_xml(path)
    console = Console(highlight=False, markup=False, emoji=False)
    rows = None if all_setups else _ROWS
    try:
        dataset = Dataset(path, data)
    except (FormatError, NotFoundError):  # the XML can be shown, then what is wrong with the pixels
        _show(console, path, data, None, rows, problem="which cannot be opened, see below")
        raise
    with dataset:
        _show(console, path, data, dataset if dataset.has_pixels else None, rows)


def in_fiji(data: SpimData) -> str:
    """Say where in Fiji a dataset opens."""
    if isinstance(data.loader, OmeZarrLoader):
        return "Plugins > BigStitcher" + (", version 3.0 or later" if data.loader.zarr_version == 3 else "")
    return "Plugins > BigDataViewer > Open XML/HDF5"


def _show(
    console: Console,
    path: Path,
    data: SpimData,
    dataset: Dataset | None,
    rows: int | None,
    *,
    problem: str = "cannot be read by this version",
) -> None:
    counts: Counter[int] = Counter()
    first: dict[int, ViewId] = {}
    for view in data.views():
        counts[view.setup] += 1
        if dataset is None or view.setup in first or dataset.container.has(view):
            first.setdefault(view.setup, view)
    shown = (
        {}
        if dataset is None
        else {setup: dataset.view(time=id_.time, setup=setup) for setup, id_ in first.items()}
    )

    console.print(str(path), soft_wrap=True)
    _list(console, _head(data, dataset, counts.total(), problem))
    _show_setups(
        console,
        {
            id_: _facts(data, setup, shown.get(id_)) | {"views": str(counts[id_])}
            for id_, setup in sorted(data.setups.items())
        },
        rows,
    )
    _show_levels(console, shown.values())
    if first:
        _show_transforms(console, data, min(first.values()))


def _head(data: SpimData, dataset: Dataset | None, n_views: int, problem: str) -> dict[str, str]:
    """Say what there is in all."""
    loader = "no image loader" if data.loader is None else data.loader.format
    if dataset is not None:
        file = dataset.container.path
        # the many files of a folder take long to count; those of a view are, below
        pixels = f"{file.name}, {decimal(file.stat().st_size)}" if file.is_file() else file.name
    else:
        pixels = problem
    missing = sorted(data.missing or ())
    note = "" if dataset is None else dataset.unfinished
    facts = {"attention": note} if note else {}
    facts |= {
        "format": f"{loader} ({pixels})",
        "time points": f"{len(data.timepoints.ids)}: {_ids(data.timepoints.ids)}",
        "setups": f"{len(data.setups)}: {_ids(data.setups)}",
        "views": str(n_views),
    }
    if missing:
        named = [f"time {time} of setup {setup}" for time, setup in missing[:5]]
        facts["missing views"] = f"{len(missing)}: " + ", ".join([*named, "..."] if missing[5:] else named)
    if data.generated_by is not None:
        made = data.generated_by
        facts["written by"] = f"{made.library} {made.library_version}".strip()
        facts["microscope"] = f"{made.microscope}, version {made.microscope_version}"
        facts["user"] = made.user
    sections = [section.tag for section in data.sections if section.children]
    if sections:
        facts["BigStitcher"] = ", ".join(sections)
    return facts


def _facts(data: SpimData, setup: ViewSetup, view: View | None) -> dict[str, str]:
    """Describe a setup; `view` is one whose pixels are there."""
    entities = {name: data.entity(name, setup) for name in setup.attributes}
    facts = {"name": setup.name or ""}
    facts |= {name: entity.name or str(entity.id) for name, entity in entities.items() if entity is not None}
    if view is not None:
        facts["size z,y,x"] = _triple(view.shape)
        facts["pixels"] = view.dtype.name
    elif setup.size_xyz is not None:
        facts["size z,y,x"] = _triple(setup.size_xyz[::-1])
    if setup.voxel_size is not None:
        facts["voxel x,y,z"] = f"{_triple(setup.voxel_size.size_xyz)} {setup.voxel_size.unit or ''}".strip()
    if view is not None and (stage := view.stage_position_xyz) is not None:
        facts["stage x,y,z"] = f"{_triple(stage)} {view.unit or ''}".strip()
    if view is not None and all(transform.affine is not None for transform in view.transforms):
        facts[_POSITION] = _triple(view.transform.translation_xyz)
    if setup.camera is not None:
        facts["camera"] = f"{setup.camera.name}, {setup.camera.exposure_time:g} {setup.camera.exposure_unit}"
    return facts


def _show_setups(console: Console, setups: Mapping[int, Mapping[str, str]], rows: int | None) -> None:
    """Say once what all setups share; list the rest in a table."""
    from rich.table import Table

    names = list(dict.fromkeys(name for facts in setups.values() for name in facts))
    values = {name: [facts.get(name, "") for facts in setups.values()] for name in names}
    shared = {name: found[0] for name, found in values.items() if len(set(found)) == 1}
    if shared:
        console.print("\nEvery setup")
        _list(console, shared)
    differing = [name for name in names if name not in shared]
    if not differing:
        return
    listed = list(setups.items())[:rows]
    widths = {name: max(len(name), *(len(facts.get(name, "")) for _, facts in listed)) for name in differing}
    if len("setup") + sum(width + 2 for width in widths.values()) > _COLUMNS and _POSITION in differing:
        differing.remove(_POSITION)
    table = Table("setup", *differing, box=None, padding=(0, 2, 0, 0), header_style="bold")
    for id_, facts in listed:
        table.add_row(str(id_), *(facts.get(name, "") for name in differing))
    console.print("\nSetups")
    console.print(table)
    if rows is not None and len(setups) > rows:
        console.print(f"... and {len(setups) - rows} more; --all lists them")


def _show_levels(console: Console, views: Iterable[View]) -> None:
    """List the levels, once for all setups that have the same."""
    from rich.table import Table

    groups: dict[tuple[tuple[str, str, str], ...], list[View]] = {}
    for view in views:
        levels = tuple(
            (_triple(each.factors), _triple(each.shape), _triple(each.chunks)) for each in view.levels()
        )
        groups.setdefault(levels, []).append(view)
    for levels, alike in groups.items():
        table = Table(
            "level", "factors z,y,x", "size z,y,x", "blocks z,y,x", "on disk", box=None, padding=(0, 2, 0, 0),
            header_style="bold",
        )  # fmt: skip
        for number, level in enumerate(levels):
            stored = alike[0].level(number)
            how = "raw" if stored.compression == "none" else stored.compression
            there = stored.nbytes_on_disk
            share = f"{'?' if there is None else decimal(there)} for {decimal(stored.nbytes)}, {how}"
            table.add_row(str(number), *level, share)
        ids = _ids(view.id.setup for view in alike)
        example = alike[0].id
        setups = "setup" if len(alike) == 1 else "setups"
        console.print(f"\nLevels of {setups} {ids} (bytes: time {example.time} of setup {example.setup})")
        console.print(table)


def _show_transforms(console: Console, data: SpimData, view: ViewId) -> None:
    """List the transforms of a view."""
    import numpy as np

    registration = data.registrations.get(view)
    if registration is None:
        console.print(f"\nTime {view.time} of setup {view.setup} has no transform")
        return
    console.print(f"\nTransforms of time {view.time}, setup {view.setup} (the last touches pixels first)")
    for transform in registration.transforms:
        console.print(f"  {transform.name or '(without a name)'}", soft_wrap=True)
        if transform.affine is None:
            console.print("    not an affine: a Java class")
            continue
        for row in np.asarray(transform.affine):
            console.print("    " + "  ".join(f"{number:12.6g}" for number in row), soft_wrap=True)
    if (
        len(registration.transforms) > 1
        and all(each.affine is not None and each.affine.is_finite for each in registration.transforms)
        and not registration.total.is_singular
    ):
        console.print(f"  together: {registration.total.decompose()}", soft_wrap=True)


def _list(console: Console, facts: Mapping[str, str]) -> None:
    width = max(map(len, facts))
    for name, text in facts.items():
        console.print(f"  {name:{width}}  {text}", soft_wrap=True)


def _ids(ids: Iterable[int]) -> str:
    """Write ids as runs: 0 to 3, 7."""
    runs: list[list[int]] = []
    for id_ in sorted(ids):
        if runs and id_ == runs[-1][1] + 1:
            runs[-1][1] = id_
        else:
            runs.append([id_, id_])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    return ", ".join([*texts[:8], "..."] if texts[8:] else texts)


def _triple(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:.6g}" for number in numbers)
