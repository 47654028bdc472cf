"""Open and check copies of a small HDF5 file with bytes flipped, each in a process of its own.

    python fuzz_child.py FILE.xml SEED COUNT

libhdf5 itself may crash on such files; the parent process counts how each child ends. Ends are told as JSON.
"""

import contextlib
import json
import logging
import os
import random
import resource
import signal
import sys
import warnings
from collections import Counter
from pathlib import Path

import npy2bdv

MEMORY = 4 * 2**30
SECONDS = 20


def look(path: Path) -> None:
    """Open, read a little, check; errors of ours are right."""
    with contextlib.suppress(npy2bdv.BdvError), npy2bdv.open(path) as dataset:
        for view in dataset:
            with contextlib.suppress(npy2bdv.BdvError):
                for level in view.levels():
                    small = tuple(slice(0, min(4, side)) for side in level.shape)
                    level[small].sum()
    npy2bdv.check(path, pixels=True)


def child(path: Path, pixels: bytes, seed: int) -> int:
    """Flip bytes, and look, in a forked process; return how it ended."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(SECONDS)
    random_ = random.Random(seed)
    changed = bytearray(pixels)
    for _ in range(random_.choice([1, 1, 2, 8, 64])):
        place = random_.randrange(random_.choice([len(changed), 2048]))
        changed[place] = random_.choice([0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)])
    path.with_suffix(".h5").write_bytes(changed)
    try:
        look(path)
    except BaseException as error:
        sys.stderr.write(f"seed {seed}: {type(error).__name__}: {error}\n")
        import traceback

        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def main(path: Path, seed: int, count: int) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    pixels = path.with_suffix(".h5").read_bytes()
    ends: Counter[str] = Counter()
    for number in range(seed, seed + count):
        status = child(path, pixels, number)
        kind = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        ends[kind] += 1
        if kind != "exit 0":
            sys.stderr.write(f"seed {number} ended with {kind}\n")
    sys.stdout.write(json.dumps(ends) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
