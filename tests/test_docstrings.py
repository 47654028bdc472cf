"""Every public name says what it takes, in which shape and unit, and which errors it raises.

Public are the names of `npy2bdv.__all__`, and what their classes offer without a leading underscore.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from functools import cache
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import npy2bdv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECTION = re.compile(r"^(\w[\w ]*)\n-+$", re.MULTILINE)


def functions_of(owner: str, cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions behind the public methods and properties of a class that are written here."""
    for name in dir(cls):
        if name.startswith("_"):
            continue
        value = inspect.getattr_static(cls, name)
        if isinstance(value, property):
            value = value.fget
        value = getattr(value, "__func__", value)
        value = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, FunctionType) and value.__module__.startswith("npy2bdv"):
            yield f"{owner}.{name}", value


CLASSES: dict[str, Any] = {
    name: value for name in npy2bdv.__all__ if inspect.isclass(value := getattr(npy2bdv, name))
}
FUNCTIONS: dict[str, Any] = {
    name: value for name in npy2bdv.__all__ if inspect.isfunction(value := getattr(npy2bdv, name))
}
METHODS = {name: f for owner, cls in CLASSES.items() for name, f in functions_of(owner, cls)}
PROPERTIES = {
    name
    for name in METHODS
    if isinstance(inspect.getattr_static(CLASSES[name.split(".")[0]], name.split(".")[1]), property)
}
MADE_BY = {
    "BrowserView": "`npy2bdv.view_in_browser`",
    "Dataset": "`npy2bdv.open`",
    "DatasetWriter": "`npy2bdv.create`",
    "Editor": "`npy2bdv.edit`",
    "Level": "`View`",
    "View": "`Dataset`",
    "ViewStream": "`DatasetWriter.stream`",
}
"""Classes that nobody makes by calling them; their docstrings say what does."""
CALLED: dict[str, Any] = {**FUNCTIONS, **METHODS}
CALLED |= {
    name: cls.__init__
    for name, cls in CLASSES.items()
    if name not in MADE_BY
    and not dataclasses.is_dataclass(cls)
    and isinstance(inspect.getattr_static(cls, "__init__"), FunctionType)
}


def doc_of(name: str) -> str:
    """Return the docstring, for a constructor that of its class and its own."""
    own = inspect.getdoc(CALLED[name]) or "" if name in CALLED else ""
    return f"{inspect.getdoc(CLASSES[name])}\n{own}" if name in CLASSES else own


def section(doc: str, title: str) -> str:
    """Return the text of one section, up to the next."""
    found = list(SECTION.finditer(doc))
    for number, heading in enumerate(found):
        if heading[1] == title:
            end = found[number + 1].start() if number + 1 < len(found) else len(doc)
            return doc[heading.end() : end].strip("\n")
    return ""


def described(doc: str, title: str = "Parameters") -> dict[str, str]:
    """Return what a section says of each name."""
    entries: dict[str, str] = {}
    current: list[str] = []
    for line in section(doc, title).splitlines():
        if line and not line.startswith(" "):
            current = [word.strip().lstrip("*") for word in line.split(" : ")[0].split(",")]
            entries |= dict.fromkeys(current, "")
        for name in current:
            entries[name] += f"{line}\n"
    return entries


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in {"self", "cls"}]


@pytest.mark.parametrize("name", sorted({*CLASSES, *FUNCTIONS, *METHODS}))
def test_it_is_said_what_it_is(name: str) -> None:
    doc = inspect.getdoc(CLASSES[name]) if name in CLASSES else inspect.getdoc(CALLED[name])
    assert doc
    first = doc.split("\n\n")[0]
    assert first.endswith("."), f"{name}: the first paragraph is a sentence: {first!r}"


@pytest.mark.parametrize("name", sorted(MADE_BY))
def test_it_is_said_what_makes_them(name: str) -> None:
    assert MADE_BY[name] in (inspect.getdoc(CLASSES[name]) or "").split("\n\n")[0]


@pytest.mark.parametrize("name", sorted(set(CALLED) - PROPERTIES))
def test_all_parameters_are_described(name: str) -> None:
    wanted = parameters(CALLED[name])
    doc = doc_of(name)
    known = described(doc) | described(doc, "Other Parameters")
    assert set(wanted) <= set(known), f"{name}: not described: {sorted(set(wanted) - set(known))}"
    if wanted:
        extra = set(known) - set(wanted)
        takes_any = {"kwargs"} & {
            p.kind.name.lower() for p in inspect.signature(CALLED[name]).parameters.values()
        }
        assert not extra or takes_any or name in CLASSES, f"{name}: described, but not there: {sorted(extra)}"


@pytest.mark.parametrize("name", sorted(n for n, c in CLASSES.items() if dataclasses.is_dataclass(c)))
def test_all_fields_are_described(name: str) -> None:
    doc = inspect.getdoc(CLASSES[name]) or ""
    known = described(doc) | described(doc, "Attributes")
    fields = [field.name for field in dataclasses.fields(CLASSES[name]) if not field.name.startswith("_")]
    assert set(fields) <= set(known), f"{name}: not described: {sorted(set(fields) - set(known))}"


SHAPE = re.compile(
    r"\([^)]*,[^)]*\)|\d ?x ?\d|shape|pixel|scalar|array of|\(z, y, x\)|one-dimensional|[Pp]lane"
)


@pytest.mark.parametrize("name", sorted(CALLED))
def test_arrays_have_a_shape(name: str) -> None:
    """Wherever an array goes in or comes out, its docstring says of which shape, or which axes in which order."""
    signature = inspect.signature(CALLED[name])
    doc = doc_of(name)
    known = described(doc)
    for parameter in signature.parameters.values():
        if re.search(r"NDArray|ArrayLike|AffineLike", str(parameter.annotation)):
            words = known.get(parameter.name, doc)
            assert SHAPE.search(words), f"{name}: of which shape is {parameter.name}?"
    if re.search(r"NDArray|ArrayLike", str(signature.return_annotation)):
        words = section(doc, "Returns") + doc.split("\n\n")[0] + doc
        assert SHAPE.search(words), f"{name}: of which shape is the result?"


UNIT = re.compile(
    r"unit|µm|micromet|pixel|degree|voxel|factor|world|axis|direction|calibration", re.IGNORECASE
)


@pytest.mark.parametrize("name", sorted(CALLED))
def test_lengths_have_a_unit(name: str) -> None:
    """What ends in `_xyz` is a length, a factor or a direction; the docstring says which, and in which unit."""
    doc = doc_of(name)
    known = described(doc)
    for parameter in parameters(CALLED[name]):
        if parameter.endswith("_xyz") and parameter != "flip_xyz":
            assert UNIT.search(known.get(parameter, "")), f"{name}: in which unit is {parameter}?"
    if name.endswith("_xyz"):
        assert UNIT.search(doc), f"{name}: in which unit?"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_fields_that_are_lengths_have_a_unit(name: str) -> None:
    if dataclasses.is_dataclass(CLASSES[name]):
        doc = inspect.getdoc(CLASSES[name]) or ""
        known = described(doc) | described(doc, "Attributes")
        for field in dataclasses.fields(CLASSES[name]):
            if field.name.endswith("_xyz") and field.name != "flip_xyz":
                assert UNIT.search(known[field.name]), f"{name}: in which unit is {field.name}?"


@cache
def tree_of(function: Callable[..., Any]) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def inside(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a function, but not the functions inside it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef) and not isinstance(tree, ast.Module):
            continue
        yield node
        yield from inside(node)


def raised_by(function: Callable[..., Any]) -> set[str]:
    """Return the names of the errors that a function raises itself."""
    found = set()
    for node in inside(tree_of(function)):
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
        ):
            name = node.exc.func.id
            if inspect.isclass(getattr(inspect.getmodule(function), name, None)) or hasattr(
                __builtins__, name
            ):
                found.add(name)
    return found


def helpers(function: Callable[..., Any], cls: type | None) -> Iterator[Callable[..., Any]]:
    """Yield the private functions of the same module, and private methods of the same class, that it calls."""
    module: ModuleType | None = inspect.getmodule(function)
    for node in inside(tree_of(function)):
        if not isinstance(node, ast.Call):
            continue
        target: Any = None
        if isinstance(node.func, ast.Name) and node.func.id.startswith("_"):
            target = getattr(module, node.func.id, None)
        elif (
            isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in {"self", "cls"}
            and node.func.attr.startswith("_")
        ):
            target = inspect.getattr_static(cls, node.func.attr, None)
            target = getattr(target, "__func__", target)
        if isinstance(target, FunctionType) and target.__module__.startswith("npy2bdv"):
            yield target


@pytest.mark.parametrize("name", sorted(CALLED))
def test_errors_are_told(name: str) -> None:
    """A function that raises an error, or whose own helper does, has a section that names errors."""
    cls = CLASSES.get(name.split(".")[0])
    raised = raised_by(CALLED[name])
    if name not in PROPERTIES:
        raised |= {error for helper in helpers(CALLED[name], cls) for error in raised_by(helper)}
    told = section(doc_of(name), "Raises")
    assert not raised or told, f"{name}: raises {sorted(raised)}, and does not say when"
    for error in re.findall(r"^(\w+)$", told, re.MULTILINE):
        known = getattr(npy2bdv.errors, error, None) or getattr(__import__("builtins"), error, None)
        assert inspect.isclass(known), f"{name}: there is no error {error}"
        assert issubclass(known, Exception)
