"""The command line where Python lacks what it needs: one line with the next command."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package alone, in a folder that looks like a checkout."""
    shutil.copytree(
        ROOT / "functions", tmp_path / "functions", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "Makefile").touch()
    return tmp_path


def answer(folder: Path, *words: str) -> tuple[int, str]:
    """What a Python without any package says: its exit code and stderr."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CALL, str(folder), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return done.returncode, done.stderr


CALL = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from functions.__main__ import run
sys.exit(run())
"""


def test_a_python_without_the_packages_says_what_to_install(checkout: Path):
    code, text = answer(checkout, "list")
    assert code == 2
    python = f"{checkout}/.venv"
    step = f"python3 -m venv {python} && {python}/bin/pip install -e {checkout}"
    assert text.endswith(f" has no package yaml. Next: {step}\n")
    assert text.count("\n") == 1


def test_what_needs_more_than_the_command_line_is_installed_by_make(checkout: Path):
    assert answer(checkout, "dev", "--port", "0")[1].endswith(f"Next: make -C {checkout} dev\n")


def test_where_the_checkout_has_its_python_the_same_command_is_named_with_it(checkout: Path):
    command = checkout / ".venv" / "bin" / "unstuck"
    command.parent.mkdir(parents=True)
    command.touch()
    _, text = answer(checkout, "check", "--table", "public.jobs")
    assert text.endswith(f"Next: {command} check --table public.jobs\n")


def test_a_mistake_in_our_own_imports_stays_a_traceback(checkout: Path):
    (checkout / "functions" / "ops" / "command_line.py").write_text("import functions.nowhere\n")
    _, text = answer(checkout, "list")
    assert "Traceback" in text


def test_an_older_python_reads_the_module_that_refuses_it():
    """Python 3.6 to 3.8 do not know `list[str]`, and evaluate annotations."""
    text = (ROOT / "functions" / "__main__.py").read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text, feature_version=(3, 6))))
    annotations = [getattr(node, "annotation", None) for node in nodes]
    annotations += [getattr(node, "returns", None) for node in nodes]
    evaluated = [each for each in annotations if not isinstance(each, ast.Constant | ast.Name)]
    assert [ast.unparse(each) for each in evaluated if each is not None] == []
