"""Make calls to npy2bdv's writer (or editor), one by one, and tell what came of it.

    python -I write_npy2bdv.py CALLS.json

CALLS.json holds a list of [method, keyword arguments]; the first one is the class itself. A text that ends in
`.npy` stands for the array in that file. Beside it lands `outcome.json`: the attributes that people read, and the
error if there was one. Runs in the published package's environment, and in ours.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import npy2bdv

ATTRIBUTES = (
    "filename_h5", "filename_xml", "ntimes", "nilluminations", "nchannels", "ntiles", "nangles", "nsetups",
    "nlevels", "subsamp", "chunks", "compression", "stack_shapes", "attribute_counts", "virtual_stacks", "dtype",
)  # fmt: skip


def main(calls: Path) -> None:
    (constructor, options), *rest = json.loads(calls.read_text(encoding="utf-8"))
    outcome: dict[str, Any] = {}
    try:
        writer = getattr(npy2bdv, constructor)(**load(options))
        for method, arguments in rest:
            getattr(writer, method)(**load(arguments))
        outcome["attributes"] = {name: plain(getattr(writer, name, None)) for name in ATTRIBUTES}
    except Exception as error:
        outcome["error"] = [kind.__name__ for kind in type(error).__mro__]
        outcome["message"] = str(error)
    calls.with_name("outcome.json").write_text(json.dumps(outcome), encoding="utf-8")


def load(value: Any) -> Any:
    """Return arguments as a person would write them: tuples, arrays."""
    if isinstance(value, dict):
        return {name: load(item) for name, item in value.items()}
    if isinstance(value, list):
        return tuple(map(load, value))
    return np.load(value) if isinstance(value, str) and value.endswith(".npy") else value


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, int | float | str) else str(value)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
