"""What is wrong with a dataset, and which programs will choke on it: everything in one pass."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv import xml
from npy2bdv.check.beside import audit_beside
from npy2bdv.check.mending import mend
from npy2bdv.check.pixels import is_trap, read_all, sampled_maximum
from npy2bdv.check.programs import verdicts
from npy2bdv.check.report import Report, Verdict
from npy2bdv.check.views import ViewAudit, audit_transforms
from npy2bdv.errors import BdvError, FormatError, InvalidInputError, NotFoundError
from npy2bdv.location import find_xml, open_pixels, pixel_path, read_bytes
from npy2bdv.model.findings import CODES, Finding, finding
from npy2bdv.model.spimdata import ContainerLoader, Hdf5Loader, N5Loader, OmeZarrLoader, SplitLoader
from npy2bdv.storage import audit_container

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from npy2bdv.model.spimdata import SpimData, ViewId
    from npy2bdv.storage.base import Pixels

__all__ = ["Finding", "Report", "Verdict", "check"]

MAX_OF_A_CODE = 1000
"""More findings of one code than these are counted, and not listed."""

_CANNOT_OPEN = {Hdf5Loader: "H01", N5Loader: "N01", OmeZarrLoader: "Z12"}
_ELSEWHERE = "elsewhere"
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def check(
    path: str | os.PathLike[str],
    *,
    pixels: bool = False,
    fix: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Look for everything that is wrong with a dataset, and say which programs will open it.

    Without `fix` no byte on disk changes.

    Parameters
    ----------
    path
        The XML, or the pixels beside it.
    pixels
        Read every chunk of every level. Without, pixels are looked at only where a few tell whether
        BigDataViewer reads them as they are.
    fix
        Mend what can be mended without guessing: the XML is written anew (the earlier one stays as
        ``NAME.xml~1``), and attributes beside the pixels are corrected. Pixels are never changed.
    progress
        Called as ``progress(done, total)`` with bytes, while pixels are read.

    Returns
    -------
    report
        All findings, what each program makes of the dataset, and what was mended.

    Raises
    ------
    NotFoundError
        If there is no such XML.
    InvalidInputError
        If the name is none of a dataset.
    InUseError, WriteError
        If something was to be mended, and the dataset is being written by another process, or cannot be written.

    Examples
    --------
    >>> import numpy as np, npy2bdv, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xml = npy2bdv.resave(np.zeros((3, 4, 5), "uint16"), f"{folder}/scan.xml")
    ...     report = npy2bdv.check(xml, pixels=True)
    >>> report.is_clean, report.verdicts[0].program, report.verdicts[0].verdict
    (True, 'BigDataViewer', 'opens')
    """
    path_xml = find_xml(Path(path))
    first = _Check(path_xml)
    first.run(pixels=pixels, progress=progress)
    if not fix or not mend(
        path_xml, first.readable, first.pixels, first.findings, absent=first.absent, sizes=first.sizes
    ):
        return first.report()
    second = _Check(path_xml)
    second.run(pixels=False, progress=None)
    second.findings += [each for each in first.findings if each.code == "P01"]
    second.looked_at |= {name: first.looked_at[name] for name in ("chunks", "bytes") if pixels}
    left = Counter(each.code for each in second.findings)
    before = Counter(each.code for each in first.findings)
    gone = {code for code in before if left[code] < before[code]}
    return second.report(mended=tuple(each for each in first.findings if each.code in gone))


class _Check:
    """One look at a dataset."""

    def __init__(self, path_xml: Path) -> None:
        self.path_xml = path_xml
        self.findings: list[Finding] = []
        self.readable: SpimData | None = None
        """What the XML says, where it can be read whole."""
        self.pixels: Path | None = None
        self.absent: list[ViewId] = []
        self.sizes: dict[int, tuple[int, int, int]] = {}
        self.looked_at: dict[str, int] = {}
        self._data: SpimData | None = None
        self._types: dict[int, str] = {}
        self._zarr_version: int | None = None

    def run(self, *, pixels: bool, progress: Callable[[int, int], None] | None) -> None:
        name = self.path_xml.name
        text = read_bytes(self.path_xml)
        found = list(xml.audit(text, name))
        try:
            self._data = self.readable = xml.parse(text, name)
        except FormatError as error:
            if not any(CODES[each.code].severity == "error" for each in found):
                found.append(finding("X01", name, str(error)))
            self._data = xml.salvage(text)
        if self._data is not None:
            try:
                self.pixels = self._pixel_path(found)
            except (BdvError, OSError) as error:
                self._cannot_open(error, found)
            found += _some(audit_transforms(self._data, name))
            if self.pixels is not None or not isinstance(self._data.loader, ContainerLoader):
                self._look_at_pixels(found, pixels=pixels, progress=progress)
        found += audit_beside(self.path_xml, self.pixels)
        self.findings = found

    def _pixel_path(self, found: list[Finding]) -> Path | None:
        """Return where the pixels lie; look whether that is a good place."""
        data = self._data
        assert data is not None
        loader = data.loader
        if not isinstance(loader, ContainerLoader):
            return None
        name = self.path_xml.name
        text = loader.path.text
        last = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
        if _DEVICES.fullmatch(last) or last != last.rstrip(" .") or re.search(r'[<>:"|?*\x00-\x1f]', last):
            found.append(
                finding("F06", name, f"the pixels are called {last!r:.80}, which Windows does not take")
            )
        path = pixel_path(self.path_xml, data)
        if (self.path_xml.parent / text).exists():  # it is called so
            found[:] = [each for each in found if each.code != "X12"]
        if not path.resolve().is_relative_to(self.path_xml.parent.resolve()):
            found.append(finding("F02", name, f"it names {path}"))
        return path

    def _cannot_open(self, error: Exception, found: list[Finding]) -> None:
        assert self._data is not None
        place = self.path_xml.name if self.pixels is None else self.pixels.name
        if isinstance(error, NotFoundError):
            found.append(finding("F01", place, str(error)))
        elif isinstance(error, InvalidInputError):  # a library is not installed
            found.append(finding("F08", place, str(error)))
        else:
            loader = self._data.loader
            code = "F07" if self.pixels is None else _CANNOT_OPEN.get(type(loader), "F07")
            found.append(finding(code, place, str(error)))

    def _look_at_pixels(
        self, found: list[Finding], *, pixels: bool, progress: Callable[[int, int], None] | None
    ) -> None:
        data = self._data
        assert data is not None
        try:
            container = open_pixels(self.path_xml, data)
        except (BdvError, OSError) as error:
            self._cannot_open(error, found)
            return
        if container is None:
            named = "no image loader" if data.loader is None else f"the image loader {data.loader.format!r}"
            found.append(finding("F07", self.path_xml.name, f"it names {named}"))
            return
        with container:
            self._look_into(container, found, pixels=pixels, progress=progress)

    def _look_into(
        self,
        container: Pixels,
        found: list[Finding],
        *,
        pixels: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        data = self._data
        assert data is not None
        inner, described = container, data
        while isinstance(described.loader, SplitLoader):
            described = described.loader.inner
            inner = getattr(inner, "inner", inner)
        audit = audit_container(inner, described, self.path_xml.parent)
        found += audit.findings
        views = ViewAudit(data, container, self.path_xml.name, audit.unreachable)
        found += _some(views.run())
        self.absent, self.sizes = views.absent, views.sizes
        self.looked_at = {"views": len({view for view, _ in views.present}), "levels": len(views.present)}
        self._zarr_version = container.card.zarr_version
        for view, level in views.present:
            if view.setup not in self._types:
                self._types[view.setup] = container.level(view, level).dtype.name
        brightest = {setup: sampled_maximum(container, views.present, setup) for setup in audit.unsigned}
        if pixels:
            read = read_all(container, views.present, unsigned=audit.unsigned, progress=progress)
            found += read.findings
            self.looked_at |= {"chunks": read.chunks, "bytes": read.nbytes}
            for setup, largest in read.brightest.items():
                brightest[setup] = max(largest, brightest[setup])
        for setup, place in audit.unsigned.items():
            largest = brightest[setup]
            if is_trap(largest):
                found.append(finding("H04", place, f"a pixel is {largest}"))
            else:
                found.append(finding("H03", place, f"the largest pixel that was looked at is {largest}"))

    def report(self, mended: tuple[Finding, ...] = ()) -> Report:
        return Report(
            path=self.path_xml,
            findings=_sorted(self.findings),
            verdicts=verdicts(self._data, self.findings, self._types, self._zarr_version),
            mended=mended,
            looked_at=self.looked_at,
        )


def _some(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings, of very many of one code some and how many there are more, without keeping all in memory."""
    counts: Counter[str] = Counter()
    kept = []
    for each in findings:
        if each.place == _ELSEWHERE:  # counted before
            kept.append(each)
            continue
        counts[each.code] += 1
        if counts[each.code] <= MAX_OF_A_CODE:
            kept.append(each)
    return kept + [
        finding(code, _ELSEWHERE, f"{count - MAX_OF_A_CODE} more like these")
        for code, count in counts.items()
        if count > MAX_OF_A_CODE
    ]


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings, each once, in the order of the codes; of very many of one code some and their number."""
    order = {code: place for place, code in enumerate(CODES)}
    return tuple(sorted(_some(dict.fromkeys(findings)), key=lambda each: order[each.code]))
