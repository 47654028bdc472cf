"""Write a dataset with pybdv, view by view.

    python -I write_pybdv.py CALLS.json

CALLS.json holds a list of keyword arguments for `pybdv.make_bdv`; a text that ends in `.npy` stands for the
array in that file.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pybdv  # type: ignore[import-not-found]


def main(calls: Path) -> None:
    for options in json.loads(calls.read_text(encoding="utf-8")):
        pybdv.make_bdv(np.load(options.pop("data")), **options)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
