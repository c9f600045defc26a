"""Tables on terminals of 50 to 200 columns: nothing is squeezed, nothing is lost."""

import re

import pytest

from functions.ops.cli.table import drawn

COLUMNS = ("task", "kind", "status", "for", "attempt", "worker", "reason", "error")
KEY = "6f1c7a52-0d3c-4c54-9f2f-0a1d9d5f7a1"
SENTENCE = "The printer has no paper left, and the tray for large sheets does not open any more."
TRACEBACK = 'Traceback (most recent call last):\n  File "print.py", line 4\nOSError: no paper'
STATEMENT = "create index concurrently on public.printouts (created_at) where state in ('waiting');"
ROWS = [
    (f"{KEY}0", "poster", "waiting", "2h 3m", "-", "-", "-", "-"),
    (f"{KEY}1", "poster", "errored", "46d 4h", "3", "printer-7f9c", "handler_error", SENTENCE),
    (f"{KEY}2", "貼り紙", "errored", "12s", "1", "printer-7f9c", "handler_error", TRACEBACK),
]
WIDTHS = [50, 80, 120, 200]


def places(line: str) -> int:
    """So many places a line takes: a Japanese character takes two."""
    return len(line) + len(re.findall(r"[\u3040-\u9fff]", line))


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_longer_than_the_terminal(width: int):
    assert all(places(line) <= width for line in drawn(COLUMNS, ROWS, width))


@pytest.mark.parametrize("width", WIDTHS)
def test_each_key_and_each_short_cell_stands_whole_on_one_line(width: int):
    lines = drawn(COLUMNS, ROWS, width)
    for row in ROWS:
        for cell in row[:-1]:
            assert any(cell in line for line in lines)
    words = " ".join(" ".join(lines).split())
    assert set(SENTENCE.split()) <= set(words.split())


@pytest.mark.parametrize("width", WIDTHS)
def test_a_traceback_stands_below_the_table_line_by_line(width: int):
    assert drawn(COLUMNS, ROWS, width)[-4:] == [f"error of {KEY}2:", *TRACEBACK.split("\n")]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_statement_is_on_one_line_to_be_copied(width: int):
    rows = [("index", SENTENCE, STATEMENT)]
    assert any(line.endswith(STATEMENT) for line in drawn(("check", "what", "do"), rows, width))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_key_of_wide_and_narrow_characters_is_broken_where_the_line_ends(width: int):
    key = "tenant-7c9a/europe/" + "貼り紙-" * 12 + "0f3b2c1e-9a77-4d2a-" * 3 + "06"
    rows = [(key, "poster", "waiting"), (KEY, "貼り紙 " * 40, "waiting")]
    lines = drawn(("task", "kind", "status"), rows, width)
    assert all(places(line) <= width for line in lines)
    assert key in "".join(line.split("  ")[0] for line in lines)


def test_columns_that_have_no_room_stand_below_their_row_with_their_names():
    lines = drawn(COLUMNS, ROWS[:2], 80)
    assert lines[0].split() == ["task", "kind", "status", "for", "attempt"]
    assert lines[1].startswith(f"{KEY}0  poster  waiting  2h 3m")
    assert lines[3] == "    worker: printer-7f9c  reason: handler_error"
    assert lines[4].startswith("    error: The printer has no paper left,")


def test_where_there_is_little_room_a_column_without_a_value_goes_first():
    waiting = [(f"{KEY}{n}", "poster", "waiting", "2h", "-", "-", "-", "-") for n in range(2)]
    assert drawn(COLUMNS, waiting, 80)[0].split() == ["task", "kind", "status", "for"]
    assert len(drawn(COLUMNS, waiting, 80)) == 3
    assert drawn(COLUMNS, waiting, 200)[0].split() == list(COLUMNS)


def test_the_last_of_several_short_columns_stands_below():
    held = [(f"{KEY}0", "poster", "processing", "5m 10s", "1", "printer-7f9c", "-", "-")]
    lines = drawn(COLUMNS, held, 80)
    assert lines[0].split() == ["task", "kind", "status", "for", "attempt"]
    assert lines[2] == "    worker: printer-7f9c"


def test_a_table_that_fits_has_a_line_for_each_row():
    short = [row[:4] for row in ROWS]
    lines = drawn(COLUMNS[:4], short, 80)
    assert len(lines) == 4
    assert lines[3].startswith(f"{KEY}2  貼り紙  errored  12s")


def test_a_table_without_rows_is_its_head():
    assert drawn(("task", "kind"), [], 80) == ["task  kind"]
