"""What the README and the explanations say is done: their blocks run, their commands and links exist."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from npy2bdv.cli import main

ROOT = Path(__file__).parents[1]
PAPERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAPERS += sorted(p for p in (ROOT / "docs").rglob("*.md") if "generated" not in p.parts)
BLOCK = re.compile(r"^(<!-- not run: .+ -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(paper: Path, language: str) -> list[str]:
    return [text for no, kind, text in BLOCK.findall(paper.read_text("utf-8")) if kind == language and not no]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_python_blocks_run(paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other in one folder; each stands alone but for the files that earlier ones wrote."""
    monkeypatch.chdir(tmp_path)
    for number, block in enumerate(blocks(paper, "python")):
        exec(compile(block, f"{paper.name}, python block {number}", "exec"), {"__name__": "__main__"})


def test_the_readme_shows_each_part_in_at_most_twenty_lines() -> None:
    found = blocks(ROOT / "README.md", "python")
    for name in ("create(", ".stream(", "open(", "edit(", "resave(", "BdvWriter(", "BdvEditor("):
        assert any(name in block for block in found), name
    assert max(len(block.splitlines()) for block in found) <= 20


def test_both_commands_are_on_the_first_screen() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text("utf-8").splitlines()[:25])
    assert "python -m pip install . && python -m npy2bdv demo" in first_screen
    assert 'python -m pip install -e ".[dev]" && python -m pytest' in first_screen


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_commands_exist(paper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in "".join(blocks(paper, "sh")).splitlines():
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            if words[:1] == ["npy2bdv"]:
                command = words[1:3] if words[1] == "transform" else words[1:2]
                assert main([*command, "--help"]) == 0, line
                options = capsys.readouterr().out
                for word in words[2:]:
                    assert not word.startswith("--") or word in options, line


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_links_lead_somewhere(paper: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", paper.read_text("utf-8")):
        assert (paper.parent / target).exists(), target


def test_version_and_licence_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"version: {project['version']}\n" in citation
    assert f"license: {project['license']}\n" in citation
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
