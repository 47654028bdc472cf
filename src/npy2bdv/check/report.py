"""What a check found, as values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from npy2bdv.model.findings import Finding, Outcome, Program, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a program makes of a dataset.

    Attributes
    ----------
    program
        Its name, with versions where they differ.
    verdict
        "opens", "opens wrongly" (something is shown that is not what was recorded, or parts are not shown) or
        "does not open".
    why
        The reason, in a sentence; where all is well, what is to be known all the same.
    """

    program: Program
    verdict: Outcome
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a check found.

    Attributes
    ----------
    path
        The XML.
    findings
        What is wrong or worth knowing, in the order of the list of codes.
    verdicts
        What each program makes of the dataset.
    mended
        What was wrong and has been mended.
    looked_at
        How much was looked at: "views", "levels", and "chunks" and "bytes" where all pixels were read.
    """

    path: Path
    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]
    mended: tuple[Finding, ...] = ()
    looked_at: dict[str, int]

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing but notes."""
        return not (self.counts["error"] or self.counts["warning"])

    @property
    def counts(self) -> Counter[Severity]:
        """How many findings there are of each severity."""
        return Counter(each.severity for each in self.findings)

    def codes(self) -> tuple[str, ...]:
        """Return the codes that were found, each once."""
        return tuple(dict.fromkeys(each.code for each in self.findings))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, as ``npy2bdv check --json`` writes it."""
        return {
            "path": str(self.path),
            "clean": self.is_clean,
            "findings": [asdict(each) for each in self.findings],
            "mended": [asdict(each) for each in self.mended],
            "programs": [asdict(each) for each in self.verdicts],
            "looked_at": dict(self.looked_at),
        }
