"""``npy2bdv check``."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 (the command line is read by this annotation)
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from npy2bdv.check.report import Report
    from npy2bdv.model.findings import Finding

_PLACES = 5
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_VERDICTS = {"opens": "green", "opens wrongly": "yellow", "does not open": "red"}


def check(
    xml: Path,
    /,
    *,
    pixels: Annotated[bool, Parameter(negative="")] = False,
    fix: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    all_places: Annotated[bool, Parameter(name="--all", negative="")] = False,
) -> int:
    """Look for all that is wrong with a dataset, and say which programs will open it.

    Nothing on disk changes without --fix. Exit status: 0 where there is nothing but notes, 2 for warnings, 1 for errors
    (or if it could not be checked, as one line on stderr says). What each code means: docs/reference/check-codes.md.

    Parameters
    ----------
    xml
        The XML, or the pixels beside it.
    pixels
        Read every chunk of every level, and find those that cannot be read. Takes as long as reading the file.
    fix
        Mend what can be mended without guessing. The XML is written anew, the earlier one stays as NAME.xml~1;
        attributes beside the pixels are corrected; pixels are never changed.
    as_json
        Write the report as JSON.
    all_places
        List every place, however many there are.
    """
    report = _run(xml, pixels=pixels, fix=fix, quiet=as_json)
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n")
    else:
        from rich.console import Console

        _show(Console(highlight=False, markup=False, emoji=False), report, None if all_places else _PLACES)
    counts = report.counts
    return 1 if counts["error"] else 2 if counts["warning"] else 0


def _run(xml: Path, *, pixels: bool, fix: bool, quiet: bool) -> Report:
    """Check, and show how far reading has come."""
    from npy2bdv.check import check as check_dataset

    if quiet or not pixels:
        return check_dataset(xml, pixels=pixels, fix=fix)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        return check_dataset(
            xml,
            pixels=pixels,
            fix=fix,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _show(console: Console, report: Report, places: int | None) -> None:
    console.print(str(report.path), soft_wrap=True)
    console.print(f"  {_summary(report)}", soft_wrap=True)
    for severity, title in (("error", "Errors"), ("warning", "Warnings"), ("note", "Notes")):
        found = [each for each in report.findings if each.severity == severity]
        if found:
            console.print(f"\n{title}", style="bold")
            _show_findings(console, found, places)
    if report.mended:
        console.print("\nMended", style="bold")
        _show_findings(console, report.mended, places, mended=True)
    if report.verdicts:
        console.print("\nPrograms", style="bold")
        _show_verdicts(console, report)


def _summary(report: Report) -> str:
    counts, looked_at = report.counts, report.looked_at
    parts = [
        f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}"
        for severity in ("error", "warning", "note")
        if counts[severity]
    ]
    seen = [
        f"{looked_at[name]} {name.removesuffix('s') if looked_at[name] == 1 else name}"
        for name in ("views", "levels")
        if name in looked_at
    ]
    if "bytes" in looked_at:
        chunks = f"{looked_at['chunks']} chunk{'' if looked_at['chunks'] == 1 else 's'}"
        seen.append(f"all pixels ({looked_at['bytes'] / 1e6:,.1f} MB in {chunks})")
    elif seen:
        seen.append("pixels not read (--pixels reads them)")
    return "; ".join(filter(None, (", ".join(parts) or "nothing is wrong", ", ".join(seen))))


def _show_findings(
    console: Console, findings: Iterable[Finding], places: int | None, *, mended: bool = False
) -> None:
    """List findings by their codes: title once, then places, then what to do."""
    from npy2bdv.model.findings import CODES

    groups: dict[str, list[Finding]] = {}
    for each in findings:
        groups.setdefault(each.code, []).append(each)
    for code, group in groups.items():
        known = CODES[code]
        console.print(f"  {code}", style="green" if mended else _STYLES[known.severity], end="  ")
        console.print(known.title, soft_wrap=True)
        for each in group[:places]:
            console.print(f"       {each.place}: {each.message}", soft_wrap=True)
        if places is not None and len(group) > places:
            console.print(f"       ... and {len(group) - places} more; --all lists them")
        if not mended:
            fixable = " (--fix does it)" if known.mended else ""
            for remedy in dict.fromkeys(each.remedy for each in group):
                console.print(f"       > {remedy}{fixable}", style="dim", soft_wrap=True)


def _show_verdicts(console: Console, report: Report) -> None:
    width = max(len(each.program) for each in report.verdicts)
    for each in report.verdicts:
        console.print(f"  {each.program:{width}}  ", end="")
        verdict = f"{each.verdict:13}  " if each.why else each.verdict
        console.print(verdict, style=_VERDICTS[each.verdict], end="")
        console.print(each.why, style="dim", soft_wrap=True)
