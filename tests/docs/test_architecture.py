"""The tree tells the path: each import is an arrow that docs/architecture.md draws, and no import
leads back."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from functions.ops.commands import NAMES
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "architecture.md"
PUBLIC = {"functions.context", "functions.errors"}
PLAIN = {"functions.errors"}
"""What every part may import: it imports nothing."""


def modules() -> dict[str, Path]:
    paths = [ROOT / "main.py", *(ROOT / "functions").rglob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


MODULES = modules()


def imports(name: str) -> set[str]:
    """The modules of functions/ that a module imports, also inside its functions; not those for
    type checkers alone."""
    imported: set[str] = set()
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    typing = {
        id(node) for block in ast.walk(tree) if is_for_types(block) for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= (inner & MODULES.keys()) or {node.module}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            imported |= imported_by_name(node.args[0])
    return (imported & MODULES.keys()) - {name, "functions"}


def imported_by_name(argument: ast.expr) -> set[str]:
    """The modules that f"functions.ops.commands.{name}" may stand for; the modules of handlers are
    values of the policy, and no import in the code."""
    if not isinstance(argument, ast.JoinedStr):
        return set()
    prefix = ast.literal_eval(argument.values[0])
    return {name for name in MODULES if name.startswith(prefix)}


def is_for_types(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """By fixture: at import each process of the tests would read all of the code."""
    return {name: imports(name) for name in MODULES if name != "functions"}


def folder(module: str) -> str:
    """The first folder below functions/, or the name of a module that lies there by itself."""
    return module.removeprefix("functions.").split(".")[0]


def test_no_import_leads_back(graph):
    TopologicalSorter(graph).prepare()


def test_an_import_by_name_is_an_arrow_too(graph):
    commands = {f"functions.ops.commands.{name}" for name in NAMES}
    assert commands <= graph["functions.ops.command_line"]


def test_the_arrows_of_the_picture_are_the_imports_of_the_code(graph):
    drawn = set(re.findall(r"(\w+) --> (\w+)", blocks(PAGE, "mermaid")[0].text))
    arrows = {
        (folder(name), folder(used))
        for name, used_modules in graph.items()
        for used in used_modules - PLAIN
    }
    assert {(start, end) for start, end in arrows if start != end} == drawn


def test_what_is_deployed_never_imports_ops(graph):
    for name, used in graph.items():
        if folder(name) not in {"ops", "__main__"}:
            assert "ops" not in map(folder, used), name


def test_a_handler_imports_only_the_public_names(graph):
    used = set().union(*(modules for name, modules in graph.items() if folder(name) == "handlers"))
    assert used <= PUBLIC


def test_core_imports_nothing_but_itself_and_the_store_only_core(graph):
    allowed = {"core": {"core"}, "store": {"core", "store"}}
    for name, used in graph.items():
        if folder(name) in allowed:
            assert {folder(module) for module in used - PLAIN} <= allowed[folder(name)], name


def test_each_function_of_main_is_a_module_of_entry_with_the_same_name():
    tree = ast.parse((ROOT / "main.py").read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert names <= {path.stem for path in (ROOT / "functions" / "entry").glob("*.py")}
    assert len(names) == 12
