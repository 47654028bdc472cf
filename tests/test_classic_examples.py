"""The eight examples of the established package run unchanged, and give what was put in.

`tests/judges/test_classic_examples.py` runs the same scripts with the published package and compares.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

import npy2bdv
from npy2bdv import BdvWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXAMPLES = sorted((Path(__file__).parents[1] / "examples" / "classic").glob("ex*.py"))
ATTRIBUTES = ("time", "illumination", "channel", "tile", "angle")


def where(arguments: dict[str, int]) -> tuple[int, ...]:
    return tuple(arguments.get(name, 0) for name in ATTRIBUTES)


class Witness:
    """A writer and a copy of all it was given, by XML and view: the truth that files are compared with."""

    given: ClassVar[dict[str, dict[tuple[int, ...], NDArray[Any]]]] = {}

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.writer = BdvWriter(*arguments, **named)
        self.kept = self.given.setdefault(self.writer.filename_xml, {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.writer, name)

    def append_view(self, stack: Any, virtual_stack_dim: Any = None, **named: Any) -> None:
        self.writer.append_view(stack, virtual_stack_dim, **named)
        self.kept[where(named)] = np.zeros(virtual_stack_dim, "uint16") if stack is None else stack.copy()

    def append_plane(self, plane: Any, z: int, **named: Any) -> None:
        self.writer.append_plane(plane, z, **named)
        self.kept[where(named)][z] = plane

    def append_substack(self, substack: Any, z_start: int, y_start: int, x_start: int, **named: Any) -> None:
        self.writer.append_substack(substack, z_start, y_start, x_start, **named)
        box = zip((z_start, y_start, x_start), substack.shape, strict=True)
        self.kept[where(named)][tuple(slice(start, start + size) for start, size in box)] = substack


def test_there_are_eight_examples() -> None:
    assert [path.name[:3] for path in EXAMPLES] == [f"ex{number}" for number in range(1, 9)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Witness, "given", {})
    monkeypatch.setattr(npy2bdv, "BdvWriter", Witness)
    monkeypatch.setattr(sys, "argv", [str(example), str(tmp_path)])
    runpy.run_path(str(example), run_name="__main__")

    assert {Path(path) for path in Witness.given} == set(tmp_path.glob("*.xml"))
    assert Witness.given
    for path, given in Witness.given.items():
        with npy2bdv.BdvEditor(path, mode="r") as editor:
            for view in np.ndindex(editor.get_attribute_count()):
                if view not in given:
                    with pytest.raises(KeyError):
                        editor.read_view(**dict(zip(ATTRIBUTES, view, strict=True)))
                    continue
                seen = editor.read_view(**dict(zip(ATTRIBUTES, view, strict=True)))
                truth = given[view]
                if "coarse_only" in path:  # its level 0 is (1, 2, 2); all sizes are even
                    z, y, x = truth.shape
                    truth = truth.reshape(z, y // 2, 2, x // 2, 2).sum((2, 4), dtype="uint32")
                    truth = ((truth + 2) // 4).astype("uint16")
                np.testing.assert_array_equal(seen, truth, strict=True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_without_a_folder_the_usage_is_shown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    with pytest.raises(SystemExit, match=f"python {path.name} FOLDER"):
        runpy.run_path(str(path), run_name="__main__")
