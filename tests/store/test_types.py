"""A typo in an answer of the store, or in a message of a handler, does not pass mypy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TYPOS = {
    "Stoped": ("worker/child.py", "return Stopped()", "return Stoped()"),
    "Progres": ("worker/guard.py", "case Progress():", "case Progres():"),
    "tokken": ("worker/guard.py", "self.claimed.token", "self.claimed.tokken"),
    "NON": ("worker/claim.py", "ClaimRefusal.NONE", "ClaimRefusal.NON"),
    "RELEASED": ("worker/guard.py", "SettleAs.RELEASE", "SettleAs.RELEASED"),
    "Literal['eror']": ("entry/sweep.py", 'verdict == "error"', 'verdict == "eror"'),
    "Stop": ("worker/handler_context.py", "case Stop():", "case CheckpointAnswer():"),
}
"""What the report must quote, and the typo that is planted: a message of the child, a case of the
guard, a field, a verdict, an outcome, a literal verdict, a forgotten case."""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    """What mypy says of a copy of the tree with all the typos in it."""
    copy = tmp_path_factory.mktemp("typos")
    shutil.copytree(ROOT / "functions", copy / "functions", ignore=shutil.ignore_patterns("ops"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path, right, wrong in TYPOS.values():
        file = copy / "functions" / path
        text = file.read_text(encoding="utf-8")
        assert right in text, f"{path} has changed: plant the typo elsewhere"
        file.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    files = sorted({f"functions/{path}" for path, _, _ in TYPOS.values()})
    cache = ROOT / ".cache" / "mypy-typos"
    command = [sys.executable, "-m", "mypy", "--no-pretty", f"--cache-dir={cache}", *files]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("typo", TYPOS)
def test_mypy_finds(typo, report):
    assert f'"{typo}"' in report
