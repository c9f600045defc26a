"""What a user wrote reaches the operator's terminal as text: it sets no title and no clipboard,
clears nothing, and does not turn the line around."""

import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.policy import load
from functions.core.visible import visible
from functions.ops.command_line import main
from functions.ops.dev.run import _readable
from functions.store.postgres import PostgresStore

ESCAPES = "\x1b]0;title\x07\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b2J\u202e\u2066\u2028\r"
FORBIDDEN = set("\x1b\x07\x9b\u202e\u2066\u2028\r")


@given(st.text())
def test_a_line_for_people_has_no_control_and_no_bidi_character(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable() or not FORBIDDEN & set(shown)
    assert visible(shown) == shown


@pytest.mark.parametrize("text", ["naïve 漢字 👩\u200d🚀", "नमस्\u200cते", "tab less"])
def test_words_of_any_language_stay_as_they_are(text: str) -> None:
    assert visible(text) == text


def test_no_command_hands_on_the_escapes_of_a_user(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, watch = PostgresStore(database), load().watch()
    task = store.create(watch, f"image{ESCAPES}", {}, owner=f"ann{ESCAPES}").task_id
    claimed = store.claim(watch, task, f"worker{ESCAPES}")
    store.beat(watch, task, claimed.token, {"fraction": 0.5, "message": ESCAPES})
    commands = [["explain", task], ["show", task], ["list"], ["watch", "--times", "1"], ["stats"]]
    commands += [["fail", "--id", task], ["check", "--table", "public.tasks"]]
    for command in commands:
        main([*command, "--dsn", database])
    store.settle(watch, task, claimed.token, "fail", reason="handler_error", error=ESCAPES)
    for command in (*commands, ["list", "--state", "failed"], ["retry", "--id", task]):
        main([*command, "--dsn", database])
    printed = capsys.readouterr()
    assert not FORBIDDEN & set(printed.out + printed.err)
    assert "\\x1b" in printed.out
    store.close()


def test_nor_does_a_table_on_a_terminal() -> None:
    code = f"from functions.ops.cli.out import print_table; print_table(['a'], [[{ESCAPES!r}]])"
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stdout=theirs, check=True, timeout=60)
    os.close(theirs)
    drawn = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\x1b]" not in drawn
    assert not (FORBIDDEN - set("\x1b\r")) & set(drawn)


def test_the_log_of_dev_shows_what_a_handler_prints_as_text() -> None:
    assert not FORBIDDEN & set(visible(_readable(f"prompt: {ESCAPES}\n")))
