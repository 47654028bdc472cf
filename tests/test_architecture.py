"""The house keeps its order: who may import whom, one home for each library, short files.

The table is that of docs/explanation/architecture.md. A room is a module or a package of ``npy2bdv``.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "npy2bdv"

# A room may import rooms of lower floors.
FLOORS = {
    "errors": 0,
    "handle": 0.5,
    "model": 1,
    "downsample": 1,
    "storage": 2,
    "xml": 2,
    "location": 2.5,
    "view": 3,
    "dataset": 3,
    "draft": 3,
    "existing": 3,
    "setups": 3,
    "taken": 3,
    "room": 3,
    "widening": 3,
    "engine": 3,
    "rows": 3,
    "carry": 3,
    "checkpoints": 3,
    "stream": 3,
    "derived": 3,
    "rewrite": 3,
    "writer": 3,
    "create": 3,
    "sources": 3,
    "sample": 3,
    "export": 3,
    "editor": 4,
    "recover": 4,
    "salvage": 3,
    "mend": 3.5,
    "joining": 4,
    "moving": 3,
    "beside": 3,
    "merge": 4,
    "repack": 4,
    "reading": 4,
    "tasks": 4.1,
    "executors": 4.2,
    "given": 4.3,
    "planning": 4.4,
    "finished": 4.45,
    "resave": 4.5,
    "check": 4.5,
    "plan": 4.5,
    "npy2bdv": 5,
    "views": 5,
    "cli": 6,
    "__main__": 7,
}
# Inside a floor only these.
SIDEWAYS = {
    ("dataset", "view"),
    ("create", "engine"),
    ("create", "existing"),
    ("draft", "existing"),
    ("existing", "setups"),
    ("writer", "existing"),
    ("draft", "setups"),
    ("writer", "setups"),
    ("create", "writer"),
    ("writer", "checkpoints"),
    ("writer", "draft"),
    ("writer", "engine"),
    ("writer", "stream"),
    ("writer", "taken"),
    ("writer", "room"),
    ("writer", "widening"),
    ("room", "engine"),
    ("widening", "checkpoints"),
    ("widening", "engine"),
    ("widening", "setups"),
    ("widening", "stream"),
    ("stream", "carry"),
    ("stream", "engine"),
    ("stream", "rows"),
    ("carry", "rows"),
    ("checkpoints", "rows"),
    ("merge", "joining"),
    ("rewrite", "derived"),
    ("rewrite", "engine"),
    ("rewrite", "stream"),
    ("export", "dataset"),
    ("export", "view"),
    ("export", "engine"),  # an image is written as views are, plane by plane, by the same threads
    ("export", "stream"),
}
# Inside storage: what all formats stand on. Formats do not know each other.
BELOW_FORMATS = {
    "storage.base",
    "storage.cells",
    "storage.codecs",
    "storage.direct",
    "storage.disk",
    "storage.fence",
    "storage.files",
    "storage.flushes",
    "storage.frames",
    "storage.hdf5level",
    "storage.journal",
    "storage.live",
    "storage.mapped",
    "storage.packing",
    "storage.ngff",
    "storage.recorded",
    "storage.pending",
    "storage.redo",
    "storage.remote",
    "storage.save",
    "storage.servers",
    "storage.soundness",
    "storage.tensors",
    "storage.truncated",
    "storage.zarrays",
    "storage.zarrfolder",
    "storage.zarrlevel",
}
# What looks for faults knows the format that it looks at.
AUDITS = {
    ("storage.hdf5audit", "storage.hdf5"),
    ("storage.n5audit", "storage.n5"),
    ("storage.arrays", "storage.n5"),
    ("storage.zarraudit", "storage.omezarr"),
}
ABOVE_FORMATS = {"storage.staging"}

LIBRARIES = {
    "h5py": {
        "storage.hdf5",
        "storage.hdf5audit",
        "storage.hdf5level",
        "storage.cells",
        "storage.direct",
        "storage.flushes",
        "storage.soundness",
        "storage.mapped",
        "storage.packing",
        "storage.truncated",
        "storage.arrays",
    },
    "tensorstore": {"storage.tensors", "storage.arrays"},
    "numcodecs": {"storage.codecs"},
    "isal": {"storage.codecs", "storage.journal"},
    "filelock": {"storage.journal"},
    "lxml": {"xml"},
    "tifffile": {"storage.tiff", "storage.stacks", "sources"},
    "dask": {"view"},
    "distributed": {"executors"},
    "pandas": {"dataset"},
    "xarray": {"view"},
    "matplotlib": {"views"},
    "mpl_toolkits": {"views"},
    "neuroglancer": {"views"},
    "napari": {"views"},
    "cyclopts": {"cli"},
    "rich": {"cli", "npy2bdv"},
}
EVERYWHERE = {"numpy"}

LONG_FILES = {
    "draft.py": "one class: what was said of setups, mostly by add_setup, and what the XML says by it",
    "view.py": "views, levels, and what they share: an array in the world",
    "downsample.py": "one algorithm whose parts (blocks, carried sums, exact rounding) belong together",
    "storage/hdf5.py": "the only file that knows the layout, reading and writing",
    "storage/omezarr.py": "the only file that knows the layout, reading and writing",
    "storage/n5.py": "the only file that knows the layout, reading and writing",
    "stream.py": "one class, whose locks and rows cannot be told apart from its calls",
    "writer.py": "the life of a recording: views, levels, checkpoints, saving",
    "npy2bdv/writer.py": "one class as scripts know it, mostly docstrings",
}


class Import(NamedTuple):
    target: str
    line: int
    for_types: bool


def imports(tree: ast.Module) -> Iterator[Import]:
    """All imports of a file, also those inside functions; `for_types` marks those under TYPE_CHECKING."""
    types_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(name.name, node.lineno, id(node) in types_only)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for name in node.names:
                yield Import(f"{module}:{name.name}", node.lineno, id(node) in types_only)


def room_of(module: str) -> str:
    return module.split(".")[0]


def module_of(target: str) -> str | None:
    """Which module of the package an import names, without "npy2bdv."; "" is the package, None another one."""
    module, _, name = target.partition(":")
    if module.split(".")[0] != "npy2bdv":
        return None
    inner = module.removeprefix("npy2bdv").removeprefix(".")
    longer = f"{inner}.{name}".removeprefix(".")
    place = PACKAGE.joinpath(*longer.split("."))
    return longer if name and (place.with_suffix(".py").exists() or place.is_dir()) else inner


def faults(module: str, source: str) -> list[str]:
    """What a module imports against the rules."""
    found = []
    for target, line, for_types in imports(ast.parse(source)):
        problem = fault(module, target, for_types)
        if problem:
            found.append(f"{module}, line {line}: {problem}")
    return found


def fault(module: str, target: str, for_types: bool) -> str | None:
    if target.startswith("."):
        return f"the import {target} is relative"
    inner = module_of(target)
    if inner is None:
        return library_fault(module, re.split(r"[.:]", target)[0])
    room, other = room_of(module), room_of(inner)
    if room == "":  # the package names everything, lazily
        return None if for_types else f"the package imports {inner} when it is imported"
    if other == "":
        return "a module imports the package that it is in"
    if room == other == "storage" and not for_types:
        return storage_fault(module, inner)
    if room == other:
        return None
    if other not in FLOORS:
        return f"the room {other!r} is not in the table"
    here, there = FLOORS[room], FLOORS[other]
    if here < there:
        return f"floor {here} imports {inner} of floor {there}"
    if for_types:
        return None
    if here == there and (room, other) not in SIDEWAYS:
        return f"{room} and {other} are neighbours and do not know each other"
    return None


def storage_fault(module: str, inner: str) -> str | None:
    if module in ("storage", *ABOVE_FORMATS) or inner in BELOW_FORMATS or (module, inner) in AUDITS:
        return None
    return f"{inner} is a format; formats stand on {sorted(BELOW_FORMATS)} only"


def library_fault(module: str, library: str) -> str | None:
    if library in sys.stdlib_module_names or library in EVERYWHERE:
        return None
    if library not in LIBRARIES:
        return f"{library} has no home in the table"
    at_home = any(module == home or module.startswith(f"{home}.") for home in LIBRARIES[library])
    return None if at_home else f"{library} lives in {sorted(LIBRARIES[library])}"


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found.append((".".join(part for part in parts if part != "__init__"), path))
    return found


@pytest.mark.parametrize(
    ("module", "path"), [pytest.param(*each, id=each[0] or "npy2bdv") for each in modules()]
)
def test_imports_follow_the_table(module: str, path: Path) -> None:
    assert module == "" or room_of(module) in FLOORS, "a new room needs a floor"
    assert faults(module, path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("model.affine", "from npy2bdv.xml import parse", "floor 1 imports xml of floor 2"),
        ("model.affine", "from npy2bdv import xml", "floor 1 imports xml of floor 2"),
        ("model.pyramid", "def f():\n    import npy2bdv.storage.hdf5", "of floor 2"),
        (
            "model.pyramid",
            "if TYPE_CHECKING:\n    from npy2bdv.dataset import View",
            "floor 1 imports dataset",
        ),
        ("downsample", "from npy2bdv.model.pyramid import Pyramid", "neighbours"),
        ("dataset", "from npy2bdv.create import create", "neighbours"),
        ("dataset", "from npy2bdv.engine import Engine", "neighbours"),
        ("resave", "from npy2bdv.npy2bdv import BdvWriter", "floor 4.5 imports npy2bdv of floor 5"),
        ("editor", "from npy2bdv.resave import resave", "floor 4 imports resave"),
        ("storage.n5", "from npy2bdv.storage.hdf5 import CARD", "is a format"),
        ("storage.save", "from .base import Codec", "relative"),
        ("xml", "import h5py", "h5py lives in"),
        ("dataset", "from h5py import File", "h5py lives in"),
        ("xml", "import requests", "no home"),
        ("writer", "import npy2bdv", "the package that it is in"),
        ("", "from npy2bdv.create import create", "when it is imported"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, wrong: str) -> None:
    (found,) = faults(module, source)
    assert wrong in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("writer", "from npy2bdv.stream import ViewStream"),
        ("storage", "from npy2bdv.storage import hdf5"),
        ("storage.hdf5", "import h5py\nfrom npy2bdv.storage.codecs import deflate"),
        ("draft", "if TYPE_CHECKING:\n    from npy2bdv.dataset import View"),
        ("cli.convert", "from npy2bdv.resave import resave\nimport rich.progress"),
        ("", "if TYPE_CHECKING:\n    from npy2bdv.create import create"),
    ],
)
def test_a_right_import_is_let_through(module: str, source: str) -> None:
    assert faults(module, source) == []


def test_long_files_have_a_reason() -> None:
    long = {
        path.relative_to(PACKAGE).as_posix()
        for _, path in modules()
        if len(path.read_text("utf-8").splitlines()) > 500
    }
    assert long <= LONG_FILES.keys()


def test_only_the_command_prints() -> None:
    printing = [
        f"{module}, line {node.lineno}"
        for module, path in modules()
        if room_of(module) != "cli"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "sys.stdout.write"}
    ]
    assert printing == []


def texts() -> Iterator[Path]:
    kinds = {".py", ".md", ".toml", ".cff", ".yml", ".yaml", ".ipynb", ".txt", ""}
    for folder in ("src", "tests", "docs", "examples", "benchmarks"):
        yield from (each for each in (ROOT / folder).rglob("*") if each.is_file() and each.suffix in kinds)
    yield from (
        each
        for each in [*ROOT.iterdir(), *(ROOT / ".ci").glob("*")]
        if each.is_file() and each.suffix in kinds and each.name != ".git"
    )


def test_no_name_of_a_machine_or_registry_is_written_anywhere() -> None:
    # put together here, so that this file does not hold them
    hosts = [
        f"{name}.org"
        for name in ("py" + "pi", "files.python" + "hosted", "ana" + "conda", "conda-" + "forge")
    ]
    folders = ["work", "root", "home/[a-z]+", "Users"]
    pattern = re.compile("|".join([*map(re.escape, hosts), rf"(?<![\w.$}}/-])/(?:{'|'.join(folders)})/"]))
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in texts()
        if path.name != "test_architecture.py"
        for match in pattern.finditer(path.read_text("utf-8"))
    ]
    assert found == []
