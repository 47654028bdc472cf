"""Nothing that only Linux or macOS has is needed: found by reading the source, and by running without it.

Nothing here runs on Windows; what is shown is that calls which Windows lacks are not reached.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[1] / "src" / "npy2bdv"
FILES = sorted(PACKAGE.rglob("*.py"))

POSIX_MODULES = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "crypt", "syslog", "posix"}
POSIX_OF_OS = {
    *("fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "getpgid", "getloadavg", "killpg", "nice"),
    *("pread", "preadv", "pwrite", "pwritev", "posix_fadvise", "posix_fallocate", "posix_spawn", "sendfile"),
    *("statvfs", "fstatvfs", "sync", "fdatasync", "fchmod", "fchown", "chown", "mkfifo", "mknod", "uname"),
    *("sched_getaffinity", "sched_setaffinity", "wait", "wait3", "wait4", "setsid", "lockf", "chroot"),
    *("O_DIRECT", "O_SYNC", "O_DSYNC", "O_NONBLOCK", "O_NOATIME", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC"),
}
OVER_WHAT_IS_THERE = {
    "rename",
    "renames",
}  # os and pathlib; fail on Windows where the target exists: os.replace
SIGNALS = {"SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGSTOP", "alarm"}
WRITING_MAPS = {"ACCESS_WRITE", "MAP_SHARED", "MAP_PRIVATE", "PROT_WRITE"}

ALLOWED = {
    ("storage/packing.py", "import fcntl"): "is_held() answers before, where os.name is nt",
    ("storage/flushes.py", "os.pwrite"): "looked up by getattr; without it one thread writes at a time",
    ("storage/save.py", "os.open of a folder"): "only where os.name is not nt",
    ("cli/speed.py", "'/proc/sys/vm'"): "where it is missing a fixed limit is assumed",
    ("cli/speed.py", "'/proc/meminfo'"): "likewise",
}
"""What stands in the source all the same, and why it does no harm."""


def found_in(tree: ast.AST) -> Iterator[str]:
    """Yield all that Windows does not have, or treats otherwise."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"import {each.name}" for each in names if each.name in POSIX_MODULES)
            case ast.ImportFrom(module=module) if module in POSIX_MODULES:
                yield f"import {module}"
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if (
                name in POSIX_OF_OS | OVER_WHAT_IS_THERE
            ):
                yield f"os.{name}"
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr"),
                args=[ast.Name(id="os"), ast.Constant(value=name), *_],
            ) if name in POSIX_OF_OS:
                yield f"os.{name}"
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="os"), attr="open"), args=[_, ast.Attribute(attr=mode)]
            ):
                yield "os.open of a folder" if mode == "O_RDONLY" else f"os.open {mode}"
            case ast.Call(func=ast.Attribute(attr="rename"), args=[_]):
                yield "rename()"
            case ast.Attribute(value=ast.Name(id="signal"), attr=name) if name in SIGNALS:
                yield f"signal.{name}"
            case ast.Attribute(value=ast.Name(id="mmap"), attr=name) if name in WRITING_MAPS:
                yield f"mmap.{name}"
            case ast.Constant(value=str() as text) if id(node) not in docstrings:
                if re.match(r"/(tmp|proc|dev|sys|var|usr|home|etc)(/|$)", text):
                    yield repr(text)
                if text in {"fork", "forkserver"}:
                    yield f"start method {text!r}"
                if text in {"r+", "w+"} and "memmap" in ast.dump(tree):
                    yield f"a memory map that is written to, {text!r}"


def by_file() -> set[tuple[str, str]]:
    return {
        (path.relative_to(PACKAGE).as_posix(), what)
        for path in FILES
        for what in found_in(ast.parse(path.read_text("utf-8")))
    }


def test_nothing_in_the_source_needs_posix() -> None:
    assert by_file() == set(ALLOWED)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import os\nos.fork()", "os.fork"),
        ("import os\nf = getattr(os, 'statvfs')", "os.statvfs"),
        ("from fcntl import flock", "import fcntl"),
        ("import resource", "import resource"),
        ("import os\nos.rename('a', 'b')", "os.rename"),
        ("path.rename(other)", "rename()"),
        ("import signal\nos.kill(1, signal.SIGKILL)", "signal.SIGKILL"),
        ("place = '/tmp/x'", "'/tmp/x'"),
        ("get_context('fork')", "start method 'fork'"),
        ("mmap.mmap(1, 0, access=mmap.ACCESS_WRITE)", "mmap.ACCESS_WRITE"),
        ("open_memmap('x', mode='r+')", "a memory map that is written to, 'r+'"),
    ],
)
def test_the_search_finds(source: str, what: str) -> None:
    assert what in set(found_in(ast.parse(source)))


def test_text_files_have_an_encoding() -> None:
    """Windows would take another one, by country."""
    missing = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            words = {keyword.arg for keyword in node.keywords}
            if name == "read_text" and not node.args and "encoding" not in words:
                missing.append((path.name, node.lineno))
            if name == "write_text" and len(node.args) < 2 and "encoding" not in words:
                missing.append((path.name, node.lineno))
            modes = [
                arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            ]
            is_text = any(re.fullmatch(r"[rwax]\+?t?", mode) for mode in modes[-1:])
            if name in {"open", "fdopen"} and is_text and "encoding" not in words:
                missing.append((path.name, node.lineno))
    assert not missing


CHILD = """
import os, sys
import filelock, h5py, tensorstore, numcodecs, tifffile, lxml.etree  # what others do is theirs
import subprocess, multiprocessing.util, tempfile, pathlib, shutil, platform

platform.node()
if hasattr(os, "pwrite"):
    del os.pwrite  # looked up at import
for name in {posix_modules!r}:
    sys.modules[name] = None

import numpy as np
import npy2bdv
from npy2bdv.cli import main


class Windows:
    name = "nt"

    def __getattr__(self, name):
        if name in {posix_of_os!r}:
            raise AttributeError("Windows has no os." + name)
        return getattr(os, name)


def pretend():
    for module in [m for n, m in sys.modules.items() if n.split(".")[0] == "npy2bdv"]:
        if getattr(module, "os", None) is os:
            module.os = Windows()


import npy2bdv.check, npy2bdv.create, npy2bdv.dataset, npy2bdv.editor, npy2bdv.export, npy2bdv.merge
import npy2bdv.recover, npy2bdv.repack, npy2bdv.resave, npy2bdv.storage.packing, npy2bdv.storage.save
import npy2bdv.storage.journal, npy2bdv.storage.hdf5, npy2bdv.storage.n5, npy2bdv.storage.omezarr
import npy2bdv.storage.flushes, npy2bdv.storage.redo, npy2bdv.storage.pending, npy2bdv.storage.staging
pretend()

stack = np.arange(12 * 40 * 50, dtype="uint16").reshape(12, 40, 50)
kinds = ({{"format": "hdf5", "compression": "gzip"}}, {{"format": "hdf5"}}, {{"format": "n5"}}, {{"format": "omezarr"}},
         {{"format": "omezarr", "zarr_version": 3}})
for number, kind in enumerate(kinds):
    path = f"scan{{number}}.xml"
    with npy2bdv.create(path, levels=((1, 1, 1), (1, 2, 2)), **kind) as writer:
        for tile in range(2):
            setup = writer.add_setup(shape=stack.shape, channel="488", tile=tile, voxel_size_xyz=(0.4, 0.4, 1))
            with writer.stream(setup=setup) as view:
                for frame in stack:
                    view.append(frame, meta={{"tile": tile}})
                writer.checkpoint(sync=True)
    pretend()
    with npy2bdv.create(path, mode="a") as writer:
        writer.write(stack, setup=0, time=1)
    with npy2bdv.edit(path) as editor:
        editor.insert_transform(npy2bdv.Affine.translation((1, 2, 3)), name="drift")
        editor.crop(zyx=(None, (4, -4), None))
    with npy2bdv.open(path) as dataset:
        assert (dataset.view(time=1, setup=0)[:] == stack[:, 4:-4]).all()
    assert npy2bdv.check(path, pixels=True).is_clean, npy2bdv.check(path, pixels=True).findings
npy2bdv.repack("scan0.xml")
npy2bdv.resave("scan0.xml", "other.xml", format="n5")
assert main(["info", "other.xml"]) == 0
assert main(["speedtest", ".", "--shape", "64,64", "--rate", "10", "--seconds", "0.2"]) in (0, 2)
assert "fcntl" not in {{n for n, m in sys.modules.items() if m is not None}}
print("all done")
"""


def test_a_recording_runs_without_all_that_windows_lacks(tmp_path: Path) -> None:
    """Calls that only POSIX has are taken away, and our own modules are told that this is Windows."""
    code = CHILD.format(posix_of_os=sorted(POSIX_OF_OS), posix_modules=sorted(POSIX_MODULES - {"posix"}))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all done\n")
