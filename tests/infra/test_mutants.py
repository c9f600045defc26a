"""`make mutants` counts a fault as told only when a test said so: not when tests cannot be
collected, crash, or do not end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import mutants
from tests.mutants import ROOT, Verdict, verdict

FAILS = "def test_it():\n    assert 1 == 2"
NEEDS = """
import pytest

@pytest.fixture
def applied():
    code = 1
    assert code == 0, "refused"

def test_it(applied):
    pass
"""
SLIPS = "def test_it():\n    {}['missing']"
NOT_COLLECTED = "import nothing_of_that_name"
EXITS = "import os\n\ndef test_it():\n    os._exit(1)"
PASSES = "def test_it():\n    pass"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (FAILS, Verdict.TOLD),
        (NEEDS, Verdict.TOLD),
        (SLIPS, Verdict.CRASHED),
        (NOT_COLLECTED, Verdict.CRASHED),
        (EXITS, Verdict.CRASHED),
        (PASSES, Verdict.LIVED),
    ],
    ids=["fails", "what it needs fails", "slips", "not collected", "exits", "passes"],
)
def test_a_fault_is_told_by_an_assertion_and_by_nothing_else(
    code: str, expected: Verdict, tmp_path: Path
) -> None:
    (tmp_path / "test_one.py").write_text(code)
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_one.py"]
    done = subprocess.run(
        [*command, "-o", "junit_family=xunit1", f"--junitxml={report}"],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        check=False,
    )
    text = report.read_text() if report.exists() else ""
    assert verdict(done.returncode, text) is expected


def test_faults_of_a_file_are_made_in_several_files_and_one_that_changes_nothing_is_refused(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mutants.json"
    slo = {"file": "infra/slo.tf", "old": "28", "new": "7*ALL*"}
    file.write_text(json.dumps([{"name": "a", "edits": [slo]}]))
    [mutant] = mutants.handed(file)
    assert "28" not in mutant.texts[ROOT / "infra" / "slo.tf"]
    file.write_text(json.dumps([{"name": "b", "edits": [slo | {"old": "not there"}]}]))
    with pytest.raises(ValueError, match="not there"):
        list(mutants.handed(file))


def test_there_are_faults_in_each_file_that_alerts_and_calls_depend_on() -> None:
    infra = ROOT / "infra"
    files = {file for mutant in mutants.mutants() for file in mutant.texts}
    assert files == {
        *(infra / "alerts" / name for name in mutants.FILES_OF_ALERTS),
        *(infra / name for name in mutants.TERRAFORM_FILES),
    }
