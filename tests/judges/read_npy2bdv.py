"""Read a dataset with npy2bdv's editor and tell what was seen.

    python -I read_npy2bdv.py DATASET.xml FOLDER

Runs in the published package's environment, and in ours: the interface is the same. FOLDER gets `seen.json`
and the arrays that it names.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import npy2bdv

ATTRIBUTES = ("time", "illumination", "channel", "tile", "angle")


def main(xml: str, folder: Path) -> None:
    editor = npy2bdv.BdvEditor(xml, mode="r")
    counts = editor.get_attribute_count()
    views = []
    for indices in itertools.product(*map(range, counts)):
        where = dict(zip(ATTRIBUTES, indices, strict=True))
        levels = read_levels(editor, where, folder / "_".join(map(str, indices)))
        if levels:
            views.append(where | {"levels": levels} | read_facts(editor, where))
    editor.finalize()
    seen = {"counts": counts, "views": views}
    (folder / "seen.json").write_text(json.dumps(seen), encoding="utf-8")


def read_levels(editor: Any, where: dict[str, int], stem: Path) -> list[str]:
    """Save every level; a missing view has none."""
    names: list[str] = []
    for level in itertools.count():
        try:
            stack = editor.read_view(**where, ilevel=level)
        except KeyError:
            return names
        middle = len(stack) // 2
        plane = editor.read_view(**where, ilevel=level, z=middle)
        if not np.array_equal(plane, stack[middle], equal_nan=True):
            sys.exit(f"plane {middle} of {where} differs from the same plane of its stack")
        names.append(f"{stem.name}_{level}.npy")
        np.save(stem.with_name(names[-1]), stack)
    raise AssertionError  # count() does not end


def read_facts(editor: Any, where: dict[str, int]) -> dict[str, Any]:
    """Tell sizes and transforms (outermost first) of one view."""
    setup = {name: index for name, index in where.items() if name != "time"}
    transforms: list[Any] = []
    while True:
        try:
            transforms.append(editor.read_affine(**where, index=len(transforms)).tolist())
        except (AssertionError, LookupError):
            break
    return {
        "transforms": transforms,
        "voxel_size_xyz": editor.get_view_property("voxel_size", **setup),
        "shape_xyz": editor.get_view_property("view_shape", **setup),
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
