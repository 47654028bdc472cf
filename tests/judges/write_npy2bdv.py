"""Write a dataset with npy2bdv's writer, call by call.

    python -I write_npy2bdv.py CALLS.json

CALLS.json holds a list of [method, keyword arguments]; the first one is BdvWriter itself. A text that ends in
`.npy` stands for the array in that file. Runs in the published package's environment, and in ours.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import npy2bdv


def main(calls: Path) -> None:
    (constructor, options), *rest = json.loads(calls.read_text(encoding="utf-8"))
    writer = getattr(npy2bdv, constructor)(**load(options))
    for method, arguments in rest:
        getattr(writer, method)(**load(arguments))


def load(value: Any) -> Any:
    """Return arguments as a person would write them: tuples, arrays."""
    if isinstance(value, dict):
        return {name: load(item) for name, item in value.items()}
    if isinstance(value, list):
        return tuple(map(load, value))
    return np.load(value) if isinstance(value, str) and value.endswith(".npy") else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
