"""What doctor says on a terminal: one finding below the other, statements that can be copied."""

import sys

import pytest

from functions.ops.commands import doctor
from functions.ops.doctor.finding import breaks, warns

STATEMENT = (
    "create index concurrently on public.printouts (created_at) where state in ('waiting', 'due');"
)
FINDINGS = [
    breaks(
        "printouts",
        "width",
        "state takes 8 characters, and the watch does not say so",
        "a longer sentence is refused (22001), and the task stays as it is.",
        "Write `types: {state: varchar(8)}` in the watch, then run `migrate --apply`.",
    ),
    warns("printouts", "index", "no index leads to the waiting tasks", "it is slow.", STATEMENT),
]


@pytest.mark.parametrize("columns", [50, 80, 120, 200])
def test_no_sentence_is_squeezed_and_no_statement_is_broken(columns, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    assert doctor._report(FINDINGS, as_json=False) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "breaks: printouts, width"
    assert [line.strip() for line in lines if line.endswith(";")] == [STATEMENT]
    assert all(len(line) <= columns for line in lines if not line.endswith(";"))
    words = " ".join(" ".join(lines).split())
    for finding in FINDINGS:
        assert finding.why in words
        assert finding.do in words


def test_elsewhere_it_is_a_line_for_each_finding_with_tabs(capsys):
    doctor._report(FINDINGS, as_json=False)
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split("\t") == list(doctor.COLUMNS)
    assert [row.count("\t") for row in rows] == [5, 5]
