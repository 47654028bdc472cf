"""Open, describe and check hostile datasets in a process whose memory is bounded; tell what came of it.

    python hostile_child.py FOLDER NAME ...

Writes JSON lines, before each act and after it: the dataset, the act, how long it took, and how it ended.
"""

import contextlib
import io
import json
import logging
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import HOSTILE

import npy2bdv
from npy2bdv.cli import main

SECONDS = 30
MEMORY = 6 * 2**30  # addresses, of which libraries take two


class TooLong(BaseException):
    pass


def stop(*_: object) -> None:
    raise TooLong


def read_a_little(path: Path, **options: Any) -> str:
    with npy2bdv.open(path, **options) as dataset:
        repr(dataset)
        for view in [each for each, _ in zip(dataset, range(3), strict=False)]:
            with contextlib.suppress(npy2bdv.BdvError):
                repr(view)
                for level in view.levels():
                    repr((level.shape, level.factors, level.transform))
                    small = tuple(slice(0, min(2, side)) for side in level.shape)
                    level[small].sum()
    return "opened"


def command(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        status = main(words)
    if "Traceback" in said.getvalue():
        raise AssertionError(said.getvalue())
    return f"status {status}"


ACTS: dict[str, Callable[[Path], str]] = {
    "open": read_a_little,
    "confined": lambda path: read_a_little(path, confine=True),
    "info": lambda path: command("info", str(path)),
    "check": lambda path: f"{len(npy2bdv.check(path).findings)} findings",
    "pixels": lambda path: f"{len(npy2bdv.check(path, pixels=True).findings)} findings",
}


def outcome(act: Callable[[Path], str], path: Path) -> str:
    signal.alarm(SECONDS)
    try:
        return act(path)
    except npy2bdv.BdvError as error:
        return f"refused: {str(error)[:300]}"
    except TooLong:
        return f"HANGS: {traceback.format_exc()[-500:]}"
    except BaseException as error:
        return f"BREAKS: {type(error).__name__}: {str(error)[:200]} {traceback.format_exc()[-500:]}"
    finally:
        signal.alarm(0)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of all that lies in a folder."""
    found = {}
    for each in folder.rglob("*"):
        stat = each.lstat()
        if each.is_symlink() or not each.is_dir():
            found[str(each)] = (stat.st_size, stat.st_mtime_ns)
    return found


def run(folder: Path, names: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, stop)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for name in names:
        inner = folder / name / "a" / "b"
        inner.mkdir(parents=True)
        path = HOSTILE[name](inner)
        before = state(folder / name)
        for act, function in ACTS.items():
            tell(name, act)  # should it crash
            start = time.monotonic()
            found = outcome(function, path)
            if state(folder / name) != before:
                found = f"CHANGES the disk: {found}"
            tell(name, act, round(time.monotonic() - start, 2), found)


def tell(*line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
