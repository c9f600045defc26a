"""docs/architecture.md is true: each module has one part, each arrow is an import, and there is no other import."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "architecture.md"
PUBLIC = {"functions.context", "functions.errors"}


def modules() -> dict[str, Path]:
    paths = [ROOT / "main.py", *(ROOT / "functions").rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


MODULES = modules()


def imports(name: str) -> set[str]:
    """Those of functions and of main, lazy ones too; not those that only type checkers see."""
    found: set[str] = set()
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    typing = {id(node) for block in ast.walk(tree) if _for_types(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{one.name}" for one in node.names}
            found |= (inner & MODULES.keys()) or {node.module}
    return (found & MODULES.keys()) - {name, "functions"}


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


GRAPH = {name: imports(name) for name in MODULES if name != "functions"}


def parts() -> dict[str, str]:
    """Module or package -> part, from the table of the page."""
    rows = re.findall(r"^\| (\w+) \| [^|]* \| (`.*`) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: part for part, names in rows for name in re.findall(r"`(\w+)`", names)}


PARTS = parts()


def part(module: str) -> str:
    return PARTS.get(top(module), "none")


def test_each_module_has_a_part_and_each_name_in_the_table_is_a_module():
    assert {name for name in GRAPH if part(name) == "none"} == set()
    assert set(PARTS) == set(map(top, GRAPH))


def test_the_arrows_of_the_picture_are_the_imports_of_the_code():
    drawn = set(re.findall(r"(\w+) --> (\w+)", blocks(PAGE, "mermaid")[0].text))
    real = {(part(name), part(used)) for name, found in GRAPH.items() for used in found}
    assert {(one, other) for one, other in real if one != other} == drawn


def test_what_is_deployed_never_imports_ops():
    deployed = {name: found for name, found in GRAPH.items() if part(name) != "ops"}
    assert {name for name, found in deployed.items() if any(part(used) == "ops" for used in found)} == set()


def test_a_handler_imports_only_the_public_names():
    used = set().union(*(found for name, found in GRAPH.items() if part(name) == "handlers"))
    assert used <= PUBLIC


def test_no_import_leads_back():
    """A package counts as one: that its front chooses among its modules is what it is for."""
    front = {name: {top(used) for used in found} - {top(name)} for name, found in GRAPH.items()}
    merged = {one: set().union(*(front[name] for name in front if top(name) == one)) for one in map(top, front)}
    TopologicalSorter(merged).prepare()


def top(module: str) -> str:
    return module.removeprefix("functions.").split(".")[0]
