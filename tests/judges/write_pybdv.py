"""Write a dataset with pybdv, call by call.

    python -I write_pybdv.py CALLS.json

CALLS.json holds a list of [function, keyword arguments]. A text that ends in `.npy` stands for the array in
that file.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pybdv  # type: ignore[import-not-found]


def main(calls: Path) -> None:
    for function, arguments in json.loads(calls.read_text(encoding="utf-8")):
        getattr(pybdv, function)(**{name: load(value) for name, value in arguments.items()})


def load(value: Any) -> Any:
    return np.load(value) if isinstance(value, str) and value.endswith(".npy") else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
