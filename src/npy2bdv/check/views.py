"""Views and their levels: what the XML says of them against what is stored, whatever the format."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from npy2bdv.errors import BdvError, MissingKeyError
from npy2bdv.model.findings import finding
from npy2bdv.model.spimdata import OmeZarrLoader
from npy2bdv.storage.base import CountsAbsent, KnowsMissingPlanes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from npy2bdv.model.affine import Affine
    from npy2bdv.model.findings import Finding
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.model.spimdata import SpimData, ViewId
    from npy2bdv.storage.base import LevelPixels, Pixels

_MAX_SIDE = 2**31 - 1
_MAX_BLOCK = 2**31
_STRETCH = 1000.0
_FAR = 1e9
_UNEQUAL = 1.5

Factors = tuple[float, float, float]
Runs = tuple[tuple[int, int], ...]


def name_of(view: ViewId) -> str:
    """Return how a view is called in messages."""
    return f"time {view.time} of setup {view.setup}"


# -------------------------------------------------------------------------------------------- transforms


def audit_transforms(data: SpimData, source: str) -> Iterator[Finding]:
    """Look at the transforms of all views that are not missing."""
    told: set[tuple[int, str]] = set()
    for view in data.views():
        registration = data.registrations.get(view)
        place = f"{source}, registration of {name_of(view)}"
        if registration is None:
            yield finding("V01", f"{source}, {name_of(view)}", "there is no <ViewRegistration> for it")
            continue
        if any(transform.affine is None for transform in registration.transforms):
            continue
        total = registration.total
        problem = _problem(total)
        if problem:
            yield finding(problem[0], place, problem[1])
        elif (view.setup, "T03") not in told and _is_squeezed(data, view, total):
            told.add((view.setup, "T03"))
            voxel = data.setups[view.setup].voxel_size
            assert voxel is not None
            yield finding(
                "T03", place, f"voxels are {voxel.size_xyz} (x, y, z); the transform scales all axes alike"
            )


def _problem(total: Affine) -> tuple[str, str] | None:
    if not total.is_finite:
        return "T01", "it holds NaN or infinity"
    if total.is_singular:
        return "T01", "it flattens the image: its determinant is 0"
    lengths = np.linalg.norm(total.linear, axis=0)
    if lengths.max() > _STRETCH * lengths.min():
        return "T02", f"it stretches the axes (x, y, z) by {[float(f'{each:.4g}') for each in lengths]}"
    far = max(map(abs, total.translation_xyz))
    if far > _FAR * max(1.0, float(lengths.max())):
        return "T02", f"it moves the image by {total.translation_xyz}"
    return None


def _is_squeezed(data: SpimData, view: ViewId, total: Affine) -> bool:
    """Tell whether a transform scales all axes alike although voxels are unequal."""
    voxel = data.setups[view.setup].voxel_size
    if voxel is None or not all(0 < size < math.inf for size in voxel.size_xyz):
        return False
    lengths = np.linalg.norm(total.linear, axis=0)
    unequal = max(voxel.size_xyz) > _UNEQUAL * min(voxel.size_xyz)
    return bool(unequal and lengths.max() < 1.01 * lengths.min())


# ------------------------------------------------------------------------------------------------ levels


class ViewAudit:
    """Looks at all views of a dataset.

    Attributes
    ----------
    present
        Levels that can be read.
    absent
        Views that are not declared missing, and of which nothing is stored.
    sizes
        Of the setups as they are stored (x, y, z).
    """

    def __init__(self, data: SpimData, pixels: Pixels, source: str, unreachable: frozenset[ViewId]) -> None:
        self._data = data
        self._pixels = pixels
        self._source = source
        self._unreachable = unreachable
        self.present: list[tuple[ViewId, int]] = []
        self.absent: list[ViewId] = []
        self.sizes: dict[int, tuple[int, int, int]] = {}

    def run(self) -> Iterator[Finding]:
        """Look at each view, at what is missing, and at what is not known."""
        factors: dict[int, tuple[Factors, ...]] = {}
        for setup in sorted(self._data.setups):
            rows, problems = self._factors(setup)
            factors[setup] = rows
            yield from problems
        stored = self._stored()
        for view in self._data.views():
            if (
                stored is not None
                and view not in stored
                and view not in self._unreachable
                and not self._is_unnamed(view)
            ):
                # of very many views that are not there only this is said
                self.absent.append(view)
                place = f"{self._pixels.path.name}, {name_of(view)}"
                yield finding("V02", place, "nothing is stored of it")
                continue
            try:
                yield from self._view(view, factors[view.setup])
            except (BdvError, OSError) as error:
                yield finding("P01", f"{self._pixels.path.name}, {name_of(view)}", str(error))
        yield from self._others()

    def _stored(self) -> set[ViewId] | None:
        """Return the views of which something is stored; None where the container cannot be read so far."""
        try:
            return set(self._pixels.views())
        except BdvError:  # of which the audit of the format tells
            return None

    def _is_unnamed(self, view: ViewId) -> bool:
        """Tell whether the XML should name the image of this view, and does not."""
        loader = self._data.loader
        return isinstance(loader, OmeZarrLoader) and view not in loader.groups

    def _factors(self, setup: int) -> tuple[tuple[Factors, ...], list[Finding]]:
        place = f"{self._pixels.path.name}, setup {setup}"
        try:
            rows = self._pixels.factors(setup)
        except MissingKeyError:  # of this the audits of the formats tell, or its views have no pixels
            return ((1.0, 1.0, 1.0),), []
        except BdvError as error:
            return ((1.0, 1.0, 1.0),), [finding("L03", place, str(error))]
        wrong = [row for row in rows if not all(0 < factor < _MAX_SIDE for factor in row)]
        if wrong or not rows:
            return rows or ((1.0, 1.0, 1.0),), [
                finding("L03", place, f"factors (z, y, x) are {wrong or 'none'}")
            ]
        if rows[0] != (1.0, 1.0, 1.0):
            return rows, [finding("L05", place, f"its factors are {rows[0]} (z, y, x)")]
        return rows, []

    def _view(self, view: ViewId, factors: tuple[Factors, ...]) -> Iterator[Finding]:
        pixels, place = self._pixels, f"{self._pixels.path.name}, {name_of(view)}"
        loader = self._data.loader
        if isinstance(loader, OmeZarrLoader) and view not in loader.groups:
            yield finding("V06", f"{self._source}, {name_of(view)}", "there is no <zgroup> for it")
        if not pixels.has(view):
            if view not in self._unreachable:
                self.absent.append(view)
                yield finding("V02", place, "nothing is stored of it")
            return
        runs = pixels.missing_planes(view) if isinstance(pixels, KnowsMissingPlanes) else ()
        shapes: dict[int, Zyx] = {}
        for level, factor in enumerate(factors):
            here = f"{place}, level {level}"
            if not pixels.has(view, level):
                yield finding("L02", here, f"it is not stored; its factors are {factor} (z, y, x)")
                continue
            array = pixels.level(view, level)
            shapes[level] = array.shape
            self.present.append((view, level))
            yield from _sizes(here, array)
            if 0 in shapes and not _fits(shapes[0], array.shape, factors[0], factor):
                yield finding(
                    "L01",
                    here,
                    f"it has {array.shape} pixels (z, y, x); {shapes[0]} by the factors {factor} is "
                    f"{_expected(shapes[0], factors[0], factor)}",
                )
            absent = _absent(
                array, runs, factor if all(0 < each < math.inf for each in factor) else (1.0,) * 3
            )
            if absent:
                yield finding("P02", here, f"{absent} chunks are not stored")
        if runs:
            yield finding("P03", place, f"these never came: {_runs_text(runs)}")
        if factors[0] == (1.0, 1.0, 1.0) and 0 in shapes:
            yield from self._size(view, shapes[0])

    def _size(self, view: ViewId, shape: Zyx) -> Iterator[Finding]:
        size = shape[2], shape[1], shape[0]
        stored = self.sizes.setdefault(view.setup, size)
        if stored != size:
            yield finding(
                "V07",
                f"{self._pixels.path.name}, {name_of(view)}",
                f"it has {size} pixels (x, y, z); at another time point there are {stored}",
            )
        said = self._data.setups[view.setup].size_xyz
        if said is not None and said != size and stored is size:
            yield finding(
                "V04",
                f"{self._source}, setup {view.setup}",
                f"<size> is {said}; the pixels are {size} (x, y, z)",
            )

    def _others(self) -> Iterator[Finding]:
        """Look at what is missing, and at what is stored without being known."""
        for view in sorted(self._data.missing or ()):
            if view.setup in self._data.setups and self._pixels.has(view):
                yield finding("V03", f"{self._source}, {name_of(view)}", "it is listed under <MissingViews>")
        known = set(self._data.timepoints.ids), set(self._data.setups)
        unknown = [
            view
            for view in sorted(self._stored() or ())
            if not (view.time in known[0] and view.setup in known[1]) and self._pixels.has(view)
        ]
        if unknown:
            named = ", ".join(map(name_of, unknown[:5])) + (" ..." if unknown[5:] else "")
            yield finding("V05", self._pixels.path.name, f"{len(unknown)} views: {named}")


def _sizes(place: str, array: LevelPixels) -> Iterator[Finding]:
    if not all(0 < side <= _MAX_SIDE for side in array.shape):
        yield finding("L04", place, f"its size is {array.shape} (z, y, x)")
    nbytes = math.prod(array.chunk) * np.dtype(array.dtype).itemsize
    if nbytes >= _MAX_BLOCK:
        yield finding("L04", place, f"a block of {array.chunk} pixels (z, y, x) takes {nbytes} bytes")


def _fits(full: Zyx, shape: Zyx, first: Factors, factors: Factors) -> bool:
    """Tell whether a size is that of the full image by the factors, rounded up or down (formats.md 6.1)."""
    return all(
        side in (max(1, math.floor(exact + 1e-9)), max(1, math.ceil(exact - 1e-9)))
        for side, exact in zip(shape, _exact(full, first, factors), strict=True)
    )


def _exact(full: Zyx, first: Factors, factors: Factors) -> list[float]:
    if not all(0 < factor < math.inf for factor in (*first, *factors)):
        return [float(side) for side in full]
    return [side * one / factor for side, one, factor in zip(full, first, factors, strict=True)]


def _expected(full: Zyx, first: Factors, factors: Factors) -> tuple[int, ...]:
    return tuple(max(1, math.ceil(exact - 1e-9)) for exact in _exact(full, first, factors))


def _absent(array: LevelPixels, missing: Runs, factors: Factors) -> int:
    """Count the chunks that are not stored, but for those of planes that never came."""
    if not isinstance(array, CountsAbsent):
        return 0
    depth, (_, tall, wide) = array.shape[0], array.shape
    total = 0
    for start, stop in _present(missing, depth, factors[0]):
        total += array.count_absent((slice(start, stop), slice(0, tall), slice(0, wide)))
    return total


def _present(missing: Runs, depth: int, factor: float) -> Iterator[tuple[int, int]]:
    """Iterate over the planes of a level (start, stop) into which any plane went that came."""
    at = 0
    for start, stop in (*missing, (depth * factor, depth * factor)):
        end = min(depth, math.ceil(start / factor))
        if end > at:
            yield at, end
        at = max(at, math.floor(stop / factor))


def _runs_text(runs: Sequence[tuple[int, int]]) -> str:
    texts = [str(start) if stop == start + 1 else f"{start} to {stop - 1}" for start, stop in runs[:8]]
    planes = sum(stop - start for start, stop in runs)
    return f"planes {', '.join(texts)}{' ...' if runs[8:] else ''} ({planes} in all)"
