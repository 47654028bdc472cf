"""Edits of metadata that are killed: the dataset is as it was or as it was to be, and is edited as if nothing happened.

Each test starts this file as a program that edits, and kills it: at a random instant, or before its n-th call that
changes a folder.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import npy2bdv
from npy2bdv import Affine, ViewId, xml
from npy2bdv.model.spimdata import (
    Hdf5Loader,
    PathRef,
    SpimData,
    Timepoints,
    ViewRegistration,
    ViewSetup,
    ViewTransform,
)
from npy2bdv.storage.journal import Journal

N_VIEWS = 1000
MOST_CALLS = 40
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}


# ------------------------------------------------------------------------------------- the killed program


def edit_on_and_on(path: Path) -> None:
    number = 0
    while True:
        number += 1
        with npy2bdv.edit(path) as editor:
            editor.replace_transform(0, Affine.translation((number, 0, 0)), name=f"drift {number}")
            editor.set_microscope(user=f"user {number}")
        print(number, flush=True)


def edit_and_stop(path: Path, folder: Path, n_calls: int) -> None:
    """Edit once, and end at the given call that changes something in the folder, before it is done."""
    left = n_calls
    within = os.fspath(folder)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if not (event in _CHANGES or writes) or not isinstance(arguments[0], str | os.PathLike):
            return
        if within in os.fspath(arguments[0]) and not os.fspath(arguments[0]).endswith(".lock"):
            step()

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os._exit(9)

    def counted(method: Callable[..., None]) -> Callable[..., None]:
        def call(*given: Any) -> None:
            step()
            method(*given)

        return call

    for name in ("add", "sync"):
        setattr(Journal, name, counted(getattr(Journal, name)))
    sys.addaudithook(watch)
    with npy2bdv.edit(path) as editor:
        change(editor)


def edit_and_stop_each(root: Path) -> None:
    """Edit each of some copies of a dataset, where the n-th is killed at its n-th call; tell how each ended."""
    for n_calls in range(MOST_CALLS):
        folder = root / str(n_calls)
        if hasattr(os, "fork"):  # saves the time of starting anew
            child = os.fork()
            if not child:
                edit_and_stop(folder / "scan.xml", folder, n_calls)
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            print(subprocess.run(program("stop", folder, n_calls), check=False).returncode, flush=True)


def change(editor: npy2bdv.Editor) -> None:
    editor.set_voxel_size((0.5, 0.25, 3), "nm")
    editor.set_labels("channel", {"488": "GFP"})
    editor.rename_setup(1, "right")
    editor.insert_transform(Affine.translation((1, 2, 3)), name="drift")


# ------------------------------------------------------------------------------------------------ the tests


def program(*arguments: object) -> list[str]:
    return [sys.executable, __file__, *map(str, arguments)]


def versions(path: Path) -> set[str]:
    """Return the numbers of all edits that an XML shows: one, where it is whole."""
    root = ElementTree.parse(path).getroot()
    names = [node.findtext("ViewTransform/Name") or "" for node in root.iter("ViewRegistration")]
    assert len(names) == N_VIEWS
    return {name.rpartition(" ")[2] for name in (*names, root.findtext("generatedBy/microscope/user") or "")}


@pytest.mark.parametrize("kills", [4, pytest.param(150, marks=pytest.mark.soak)])
def test_a_kill_at_any_instant_leaves_the_old_or_the_new_xml(kills: int, tmp_path: Path) -> None:
    path = tmp_path / "scan.xml"
    first = ViewTransform(affine=Affine.identity(), name="drift 0")
    path.write_bytes(
        xml.serialise(
            SpimData(
                loader=Hdf5Loader(path=PathRef(text="nowhere.h5")),
                setups={setup: ViewSetup(id=setup) for setup in range(N_VIEWS)},
                timepoints=Timepoints.of((0,)),
                registrations={
                    ViewId(0, setup): ViewRegistration(transforms=(first,)) for setup in range(N_VIEWS)
                },
            )
        )
    )
    with npy2bdv.edit(path) as editor:
        editor.set_microscope(user="user 0")
    rng = random.Random(6)
    for _ in range(kills):
        with subprocess.Popen(program("on", path), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "1\n", "the program has not edited"
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
            told = process.stdout.read().split()
        (found,) = versions(path)
        acknowledged = int(told[-1]) if told else 1
        assert int(found) in (acknowledged, acknowledged + 1)
        for backup in tmp_path.glob("scan.xml~*"):
            versions(backup)
    with npy2bdv.edit(path) as editor:
        editor.replace_transform(0, Affine.identity(), name="drift 7")
        editor.set_microscope(user="user 7")
    assert versions(path) == {"7"}
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "scan.xml",
        *(f"scan.xml~{i}" for i in range(1, 6)),
    ]


FORMATS: dict[str, dict[str, Any]] = {
    "hdf5": {},
    "n5": {"format": "n5"},
    "zarr2": {"format": "omezarr", "zarr_version": 2},
    "zarr3": {"format": "omezarr", "zarr_version": 3},
}


def record(path: Path, **format: Any) -> None:  # noqa: A002
    with npy2bdv.create(path, compression=None, **format) as writer:
        for tile in range(2):
            setup = writer.add_setup(shape=(2, 3, 4), channel="488", tile=tile, unit="µm")
            writer.write(np.ones((2, 3, 4), "uint16"), setup=setup)


def said(folder: Path) -> dict[str, Any]:
    """Return what files say, but for the pixels, in words that do not depend on the order of their keys."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.name in ("attributes.json", ".zattrs", "zarr.json"):
            found[str(path.relative_to(folder))] = json.loads(path.read_bytes())
    found["xml"] = (folder / "scan.xml").read_bytes()
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_a_kill_before_any_change_of_a_file_leaves_old_or_new(format: str, tmp_path: Path) -> None:  # noqa: A002
    """What lies on the disk after a kill is all old, all new, or a record says which of both `recover` makes of it."""
    done = tmp_path / "done"
    done.mkdir()
    record(done / "scan.xml", **FORMATS[format])
    old = said(done)
    with npy2bdv.edit(done / "scan.xml") as editor:
        change(editor)
    new = said(done)
    assert old["xml"] != new["xml"]
    for n_calls in range(MOST_CALLS):
        (tmp_path / str(n_calls)).mkdir()
        record(tmp_path / str(n_calls) / "scan.xml", **FORMATS[format])
    ran = subprocess.run(program("each", tmp_path), check=True, capture_output=True, text=True)
    statuses = [int(status) for status in ran.stdout.split()]
    outcomes, mended = [], set()
    for n_calls, status in enumerate(statuses):
        assert status == (9 if n_calls < statuses.index(0) else 0), ran.stderr
        folder = tmp_path / str(n_calls)
        if list(folder.glob("*.edit")):
            mended.add(npy2bdv.recover(folder / "scan.xml").edit)
        found = said(folder)
        assert found in (old, new)
        assert not list(folder.glob("*.edit*"))
        outcomes.append(found == new)
        if not outcomes[-1]:
            with npy2bdv.edit(folder / "scan.xml") as editor:
                change(editor)
            assert said(folder) == new
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) >= 2
    assert outcomes[-1]
    assert mended == (set() if format == "hdf5" else {"undone", "finished"})


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "on":
        edit_on_and_on(Path(where))
    elif what == "each":
        edit_and_stop_each(Path(where))
    else:
        edit_and_stop(Path(where) / "scan.xml", Path(where), int(rest[0]))
