"""What the pages say is done: blocks of a page run one after the other in one folder, as a reader would run them.

`pages` says how a block is marked that cannot run, or that is a file, or an output.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
import sys
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pages import PAPERS, ROOT, Block, anchors, blocks, links, name, prose

import npy2bdv
from npy2bdv.cli import main

all_papers = pytest.mark.parametrize("paper", PAPERS, ids=name)

RUN_ELSEWHERE = {"CONTRIBUTING.md"}
"""Pages whose commands are those of a developer: .ci/run and test_workflow look after these."""

GONE = {"CHANGELOG.md"}
"""Pages that also tell of names that are no more."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def a_scan() -> None:
    """A dataset that some program has recorded: what pages about checking begin with."""
    with npy2bdv.create("scan.xml", levels=((1, 1, 1), (1, 2, 2)), compression="gzip") as writer:
        setup = writer.add_setup(shape=(8, 40, 50), channel="488", voxel_size_xyz=(0.4, 0.4, 1.2))
        writer.write(np.ones((8, 40, 50), "uint16"), setup=setup)


def a_stack() -> None:
    """A stack that the reader has."""
    tifffile.imwrite("stack.tif", np.ones((8, 40, 50), "uint16"), imagej=True, metadata={"axes": "ZYX"})


PREPARED = {"docs/how-to/check.md": a_scan, "README.md": a_stack}
"""What a reader of a page has already."""

QUICK = {"speedtest": ["--shape", "256,256", "--rate", "20", "--seconds", "0.2"]}
"""The tests are in a hurry: these options replace those of the page, or are added."""

ANSWERS = {"speedtest": {0, 2}, "plan": {0, 2}}
"""Commands that answer a question: 2 is a no, or a warning."""


def command_lines(block: Block) -> list[list[str]]:
    """Return the words of each command of a block of the shell."""
    text = block.text.replace("\\\n", " ")
    parts = [part for line in text.splitlines() for part in line.split(" && ")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def run_commands(paper: Path, block: Block) -> None:
    """Run what is npy2bdv's; installing is for .ci/run, but what is installed must be there to install."""
    commands = command_lines(block)
    for number, words in enumerate(commands):
        place = f"{name(paper)}:{block.line}: {shlex.join(words)}"
        if words[:4] == ["python", "-m", "pip", "install"]:
            check_what_is_installed(words[4:], place)
            continue
        if words[:3] == ["python", "-m", "pytest"]:
            continue
        if words[:3] == ["python", "-m", "npy2bdv"]:
            words = ["npy2bdv", *words[3:]]
        assert words[0] == "npy2bdv", f"{place}: cannot be run here; say why above it"
        command = words[1]
        if command == "--version":
            continue  # test_cli runs it
        for option, value in zip(*[iter(QUICK.get(command, []))] * 2, strict=True):
            if option in words:
                del words[words.index(option) : words.index(option) + 2]
            words = [*words, option, value]
        expected = ANSWERS.get(command, {0})
        if block.mark == "status" and number == len(commands) - 1:
            expected = {int(block.words)}
        assert main(words[1:]) in expected, place


def check_what_is_installed(words: list[str], place: str) -> None:
    for word in words:
        if found := re.fullmatch(r"(\.|npy2bdv)\[(.*)\]", word):
            assert set(found[2].split(",")) <= set(PROJECT["optional-dependencies"]), place


@all_papers
def test_all_blocks_run(paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page; each Python block stands alone but for the files that are there already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["python"])
    monkeypatch.setenv("MPLBACKEND", "agg")
    said = ""
    notebook: dict[str, object] = {"__name__": "__main__"}  # its cells know what those before have made
    if name(paper) in PREPARED:
        PREPARED[name(paper)]()
    for block in blocks(paper):
        if block.mark == "file":
            Path(block.words).write_text(block.text, "utf-8")
        elif block.mark == "output":
            assert plain(block.text) in plain(said), f"{name(paper)}:{block.line}: printed was {said}"
        elif block.mark != "not run" and name(paper) not in RUN_ELSEWHERE:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                if block.language == "python":
                    code = compile("\n" * block.line + block.text, name(paper), "exec")
                    exec(code, {"__name__": "__main__"})
                elif block.language == "{code-cell}":
                    exec(compile("\n" * block.line + block.text, name(paper), "exec"), notebook)
                elif block.language == "sh":
                    run_commands(paper, block)
            said = output.getvalue()
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


def plain(text: str) -> str:
    """Without the spaces, which depend on the width of the terminal."""
    return " ".join(text.split())


@all_papers
def test_blocks_say_what_they_are(paper: Path) -> None:
    for block in blocks(paper):
        place = f"{name(paper)}:{block.line}"
        known = block.language in {"python", "sh", "text", "xml", "json"}
        assert known or block.language.startswith("{"), f"{place}: of which language is this block?"
        assert block.mark != "not run" or len(block.words) > 10, f"{place}: why is it not run?"
        if paper.parent.name == "tutorials" and block.language == "text":
            assert block.mark in {"output", "file"}, f"{place}: what a tutorial shows is what is printed"


@cache
def help_of(command: tuple[str, ...]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main([*command, "--help"]) == 0, f"there is no command {' '.join(command)}"
    return output.getvalue()


@all_papers
def test_commands_and_options_exist(paper: Path) -> None:
    """Also those in blocks that are not run, and in the middle of a sentence."""
    found = [line for block in blocks(paper) if block.language == "sh" for line in command_lines(block)]
    found += [shlex.split(code) for code in re.findall(r"`(npy2bdv [^`]+)`", prose(paper))]
    for words in found:
        if words[0] != "npy2bdv" or len(words) == 1 or words[1].startswith("-"):
            continue
        deeper = words[1] == "transform" and len(words) > 2 and not words[2].startswith("-")
        command = tuple(words[1:3] if deeper else words[1:2])
        options = set(re.findall(r"--[\w-]+", help_of(command))) | {"--help", "--debug"}
        for word in words[2:]:
            if word.startswith("--"):
                assert word.split("=")[0] in options, f"{name(paper)}: {shlex.join(words)}"


@pytest.mark.parametrize("paper", [p for p in PAPERS if name(p) not in GONE], ids=name)
def test_names_exist(paper: Path) -> None:
    """`npy2bdv.NAME` in the middle of a sentence is a name of the package, or of one of its modules."""
    for dotted in re.findall(r"`(npy2bdv(?:\.\w+)+)", prose(paper)):
        assert exists(dotted), f"{name(paper)}: {dotted}"


def exists(dotted: str) -> bool:
    """Tell whether a dotted name is an attribute of the package, or of one of its modules, or a module."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            if not hasattr(value, part):
                break
            value = getattr(value, part)
        else:
            return True
    return exists_as_attribute(parts[1:])


def exists_as_attribute(parts: list[str]) -> bool:
    value: object = npy2bdv
    for part in parts:
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


@pytest.mark.parametrize(
    "known", ["npy2bdv.create", "npy2bdv.Affine.translation", "npy2bdv.sample.Recording"]
)
def test_the_search_for_names_finds(known: str) -> None:
    assert exists(known)
    assert not exists(f"{known}s")


@all_papers
def test_links_lead_somewhere(paper: Path) -> None:
    """Files, pages that the site makes, and headings; what lies elsewhere is not looked at."""
    for target, anchor in links(paper):
        file = (paper.parent / target).resolve() if target else paper
        assert file.exists() or made_by_the_site(file), f"{name(paper)} links to {target}"
        if anchor and file.suffix == ".md" and file.exists():
            assert anchor in anchors(file), f"{name(paper)} links to {target}#{anchor}"


def made_by_the_site(file: Path) -> bool:
    """Pages of the reference; the build, which is strict, knows whether they are there."""
    return file.is_relative_to(ROOT / "docs" / "reference" / "generated")


NOTEBOOKS = [paper for paper in PAPERS if paper.parent.name == "notebooks" and paper.stem != "index"]


@pytest.mark.parametrize("paper", NOTEBOOKS, ids=name)
def test_notebooks_have_pictures(paper: Path) -> None:
    cells = [block.text for block in blocks(paper) if block.language == "{code-cell}"]
    assert len(cells) >= 2
    assert any("plt.subplots(" in cell for cell in cells)


def test_each_published_example_is_a_notebook() -> None:
    examples = {path.stem for path in (ROOT / "examples" / "classic").glob("ex*.py")}
    linked = {Path(target).stem for paper in NOTEBOOKS for target, _ in links(paper)}
    assert len(examples) == 8
    assert examples <= linked


@all_papers
def test_pictures_say_what_they_show(paper: Path) -> None:
    for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", prose(paper)):
        assert len(words) > 10, f"{name(paper)}: {target} needs a description"


README = ROOT / "README.md"


def test_the_readme_shows_each_part_in_at_most_twenty_lines() -> None:
    found = [block.text for block in blocks(README) if block.language == "python"]
    for part in ("create(", ".stream(", "open(", "edit("):
        assert any(part in text for text in found), part
    assert max(len(text.splitlines()) for text in found) <= 20


def test_both_commands_are_on_the_first_screen() -> None:
    first_screen = "\n".join(README.read_text("utf-8").splitlines()[:25])
    assert "python -m pip install . && python -m npy2bdv demo" in first_screen
    assert 'python -m pip install -e ".[dev]" && python -m pytest' in first_screen


def test_version_and_licence_are_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"version: {PROJECT['version']}\n" in citation
    assert f"license: {PROJECT['license']}\n" in citation
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
