"""The list of codes in the docs is that of the code."""

from collections.abc import Mapping
from pathlib import Path

from npy2bdv.model.findings import CODES, GROUPS, OUTCOMES, PROGRAMS, Outcome, Program

PAPER = Path(__file__).parents[1] / "docs" / "reference" / "check-codes.md"
HEAD = """# What the codes of `npy2bdv check` mean

Codes keep their meaning from version to version; new ones are added. [How to check a dataset](../how-to/check.md) says
what is looked at. In the last column stand the programs that trip over it; a program that is not named there opens the
dataset all the same.
"""


def programs(effects: Mapping[Program, Outcome]) -> str:
    """Say which programs do not open a dataset, and which open it wrongly."""
    parts = []
    for outcome in reversed(OUTCOMES):
        names = [program for program in PROGRAMS if effects.get(program) == outcome]
        if names:
            parts.append(f"{outcome}: {'all' if len(names) == len(PROGRAMS) else ', '.join(names)}")
    return "; ".join(parts)


def table() -> str:
    lines = [HEAD]
    for letter, title in GROUPS.items():
        lines.append(f"\n## {letter}: {title}\n")
        lines.append("| code | severity | what is wrong | what to do | `--fix` | programs |")
        lines.append("|---|---|---|---|---|---|")
        for code, known in CODES.items():
            if code[0] == letter:
                what = known.title.replace("|", "\\|").replace("<", "\\<")
                remedy = known.remedy.replace("|", "\\|").replace("<", "\\<")
                mends = "mends it" if known.mended else "bars mending of the XML" if known.bars else ""
                lines.append(
                    f"| {code} | {known.severity} | {what} | {remedy} | {mends} | {programs(known.effects)} |"
                )
    return "\n".join(lines) + "\n"


def test_every_code_is_documented_as_it_is() -> None:
    """To write the page anew: python tests/test_check_docs.py."""
    assert PAPER.read_text("utf-8") == table()


if __name__ == "__main__":
    PAPER.write_text(table(), "utf-8")
