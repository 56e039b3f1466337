"""The rooms: imports point down, libraries stay where they belong, and files are small and well named."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("roundhouse", "flows", "tasks", "configs", "models", "federated")
"""From the top down: a room imports itself and those to its right."""

FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VAGUE = {"base", "common", "core", "factory", "helper", "helpers", "manager", "util", "utils"}


class Import(NamedTuple):
    """One import of one file; ``lazy`` where it stands in a function or under TYPE_CHECKING."""

    file: str
    line: int
    module: str
    lazy: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(source: str, file: str) -> list[Import]:
    return [Import(file, *found) for found in _imports(ast.parse(source), lazy=False)]


def _imports(node: ast.AST, *, lazy: bool) -> Iterator[tuple[int, str, bool]]:
    for child in ast.iter_child_nodes(node):
        for module in _modules(child):
            yield child.lineno, module, lazy
        yield from _imports(child, lazy=lazy or _postpones(child))


def _modules(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module]
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(module)), *_],
        ):
            return [module]
        case _:
            return []


def _postpones(node: ast.AST) -> bool:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return True
        case _:
            return False


IMPORTS = [found for path in FILES for found in imports(path.read_text(), str(path.relative_to(ROOT)))]


def room_of(found: Import) -> str:
    return found.file.partition("/")[0]


def test_this_test_sees_every_kind_of_import() -> None:
    source = (
        "import a.b\nfrom c import d\nfrom . import e\n"
        "def f():\n    import g\n    from h.i import j\n"
        "if TYPE_CHECKING:\n    import k\n"
        "class L:\n    async def m(self):\n        importlib.import_module('n.o')\n"
    )
    found = [(line, module, lazy) for _, line, module, lazy in imports(source, "x.py")]
    assert found == [
        (1, "a.b", False),
        (2, "c", False),
        (5, "g", True),
        (6, "h.i", True),
        (8, "k", True),
        (11, "n.o", True),
    ]


def test_the_rooms_are_the_packages_that_are_installed() -> None:
    assert sorted(f"{room}*" for room in ROOMS) == PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ROOMS)
    assert {room_of(found) for found in IMPORTS if found.top in ROOMS} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down_only(room) -> None:
    above = ROOMS[: ROOMS.index(room)]
    assert [found for found in IMPORTS if room_of(found) == room and found.top in above] == []


def test_only_models_imports_keras_or_tensorflow() -> None:
    users = [found for found in IMPORTS if found.top in ("keras", "tensorflow")]
    assert {room_of(found) for found in users} == {"models"}


def test_only_tasks_imports_mlflow() -> None:
    assert {room_of(found) for found in IMPORTS if found.top == "mlflow"} == {"tasks"}


def test_federated_is_the_standard_library_numpy_and_pydantic() -> None:
    allowed = {"federated", "numpy", "pydantic"} | sys.stdlib_module_names
    foreign = [f for f in IMPORTS if room_of(f) == "federated" and f.top not in allowed]
    assert {room_of(found) for found in foreign} == {"federated"}
    modules = {found.top if found.top == "dp_accounting" else found.module for found in foreign}
    ciphers = "cryptography.hazmat.primitives.ciphers"
    assert modules == {"dp_accounting", "pandas", "PIL", "sklearn.model_selection", ciphers}
    places = ("federated/sources/", "federated/privacy/", "federated/randomness.py")
    assert all(found.file.startswith(places) for found in foreign)
    assert all(found.lazy for found in foreign)


def dependencies() -> set[str]:
    """The modules that the project's dependencies install."""
    project = PYPROJECT["project"]
    written = chain(project["dependencies"], *project["optional-dependencies"].values())
    wanted = {normal(re.match(r"[\w.-]+", line)[0]) for line in written}
    installed = {
        module
        for module, distributions in packages_distributions().items()
        if wanted & {normal(name) for name in distributions}
    }
    return installed | {name.replace("-", "_") for name in wanted}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_modules_of_dependencies_are_known() -> None:
    assert {"sklearn", "yaml", "prefect", "mlflow", "pytest"} <= dependencies()


def test_no_module_of_flows_or_tasks_is_named_like_another() -> None:
    taken = dependencies() | sys.stdlib_module_names
    own = [p for p in FILES if p.relative_to(ROOT).parts[0] in ("flows", "tasks")]
    assert [str(path.relative_to(ROOT)) for path in own if path.stem in taken] == []


def test_no_file_is_longer_than_300_lines() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in FILES if (lines := len(path.read_text().splitlines())) > 300}
    assert long == {}


def test_no_file_has_a_name_that_says_nothing() -> None:
    folders = [ROOT / "tests", ROOT / "benchmarks"]
    files = FILES + [path for folder in folders for path in folder.rglob("*.py")]
    names = {part.removesuffix(".py") for path in files for part in path.relative_to(ROOT).parts}
    assert "test_rooms" in names
    assert names & VAGUE == set()
