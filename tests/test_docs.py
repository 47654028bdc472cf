"""What the pages say is done: blocks of a page run one after the other in one folder, as a reader would run them.

`pages` says how a block is marked that cannot run, or that is a file, or an output.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import npy2bdv
from npy2bdv.cli import main
from pages import PAPERS, ROOT, Block, anchors, blocks, links, name, prose

all_papers = pytest.mark.parametrize("paper", PAPERS, ids=name)

RUN_ELSEWHERE = {"CONTRIBUTING.md"}
"""Pages whose commands are those of a developer: the test of the workflow and .ci/run look after these."""


def scan() -> None:
    """A dataset that some program has recorded: what pages about checking and mending begin with."""
    with npy2bdv.create("scan.xml", levels=((1, 1, 1), (1, 2, 2)), compression="gzip") as writer:
        setup = writer.add_setup(shape=(8, 40, 50), channel="488", voxel_size_xyz=(0.4, 0.4, 1.2))
        writer.write(np.ones((8, 40, 50), "uint16"), setup=setup)


def stack() -> None:
    """A stack that the reader has."""
    np.save("stack.npy", np.ones((8, 40, 50), "uint16"))
    npy2bdv.resave("stack.npy", "stack.xml")
    npy2bdv.export(npy2bdv.open("stack.xml").view(), "stack.tif")


PREPARED = {"docs/how-to/check.md": scan, "docs/how-to/recover.md": scan, "README.md": stack}
"""What a reader of a page has already."""

ANSWERS = {"speedtest": {0, 2}}
"""Commands whose exit status depends on the machine: 2 says no."""


def command_lines(block: Block) -> list[list[str]]:
    text = block.text.replace("\\\n", " ")
    parts = [part for line in text.splitlines() for part in line.split(" && ")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def run_commands(paper: Path, block: Block) -> None:
    for words in command_lines(block):
        assert words[0] == "npy2bdv", (
            f"{name(paper)}:{block.line}: {words[0]} cannot be run here; say why above it"
        )
        command = words[1]
        if command == "speedtest" and "--seconds" not in words:
            words = [*words, "--seconds", "1"]
        if command == "--version":
            continue  # test_cli runs it
        assert main(words[1:]) in ANSWERS.get(command, {0}), f"{name(paper)}:{block.line}: {shlex.join(words)}"


@all_papers
def test_all_blocks_run(paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page; each Python block stands alone but for the files that are there already."""
    monkeypatch.chdir(tmp_path)
    said = ""
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
                elif block.language == "sh":
                    run_commands(paper, block)
            said = output.getvalue()


def plain(text: str) -> str:
    """Without the spaces, which depend on the width of the terminal."""
    return " ".join(text.split())


@all_papers
def test_blocks_say_what_they_are(paper: Path) -> None:
    for block in blocks(paper):
        place = f"{name(paper)}:{block.line}"
        assert block.language in {"python", "sh", "text", "xml", "json"} or block.language.startswith("{"), place
        assert block.mark != "not run" or len(block.words) > 5, f"{place}: why is it not run?"


@cache
def help_of(command: tuple[str, ...]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main([*command, "--help"]) == 0, f"there is no command {' '.join(command)}"
    return output.getvalue()


COMMANDS = "check convert crop demo export info merge plan recover repack speedtest transform".split()


@all_papers
def test_commands_and_options_exist(paper: Path) -> None:
    """Also those in blocks that are not run, and in the middle of a sentence."""
    found = [line for block in blocks(paper) if block.language == "sh" for line in command_lines(block)]
    for code in re.findall(r"`(npy2bdv [^`]+)`", prose(paper)):
        found += [shlex.split(code)]
    for words in found:
        if words[0] != "npy2bdv" or len(words) == 1 or words[1].startswith("-"):
            continue
        command = tuple(words[1:3] if words[1] == "transform" and len(words) > 2 else words[1:2])
        for word in words[2:]:
            if word.startswith("--"):
                assert f"{word.split('=')[0]} " in f"{help_of(command)} ", f"{name(paper)}: {shlex.join(words)}"


@all_papers
def test_names_exist(paper: Path) -> None:
    """`npy2bdv.NAME` in the middle of a sentence is a name of the package, or of one of its modules."""
    if paper.name == "CHANGELOG.md":
        pytest.skip("it also tells of names that are gone") if False else None
    for dotted in re.findall(r"`(npy2bdv(?:\.\w+)+)", prose(paper)):
        _resolve(dotted)


def _resolve(dotted: str) -> object:
    import importlib

    if (ROOT / "src" / (dotted.replace(".", "/") + ".py")).exists() and not hasattr(npy2bdv, dotted.split(".")[1]):
        return importlib.import_module(dotted)
    value: object = npy2bdv
    for part in dotted.split(".")[1:]:
        if not hasattr(value, part):
            return getattr(importlib.import_module(dotted.rpartition(".")[0]), dotted.rpartition(".")[2])
        value = getattr(value, part)
    return value


@all_papers
def test_links_lead_somewhere(paper: Path) -> None:
    for target, anchor in links(paper):
        file = (paper.parent / target).resolve() if target else paper
        assert file.exists() or "generated" in file.parts, f"{name(paper)} links to {target}"
        if anchor and file.suffix == ".md" and file.exists():
            assert anchor in anchors(file), f"{name(paper)} links to {target}#{anchor}"
