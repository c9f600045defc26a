"""docs/tutorial.md as its reader follows it: against `make dev`'s server, one command after the
other."""

import os
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.dev import open_folder, running
from tests.docs.following import Shell
from tests.docs.pages import ROOT, blocks
from tests.waiting import eventually

PAGE = ROOT / "docs" / "tutorial.md"
LONGEST = 60.0


@pytest.fixture
def shell() -> Iterator[Shell]:
    with (
        open_folder() as folder,
        running(folder, "--data", str(folder), "--no-samples", "--sweep-every", "1") as dev,
    ):
        ours = {
            "8080": str(urlsplit(dev.url).port),
            ".cache/dev": str(folder),
            ".venv/bin/unstuck": f"{sys.executable} -m functions",
        }
        yield Shell(folder / "variables", ROOT, os.environ, ours)


def test_the_tutorial_leads_to_a_rescued_task(shell: Shell):
    dsn = (shell.variables.parent / "dsn").read_text(encoding="utf-8")
    with psycopg.connect(dsn, autocommit=True) as connection:

        def attempts() -> list[str | None]:
            query = "select outcome from unstuck.attempts where task_id = %s order by number"
            return [outcome for (outcome,) in connection.execute(query, (shell.task,)).fetchall()]

        reached = {
            1: [None],
            4: ["retried", None],
        }  # what the reader waits for, before the block of that number
        for number, block in enumerate(block for block in blocks(PAGE, "sh") if block.runs):
            if number in reached:
                eventually(lambda count=reached[number]: attempts() == count, LONGEST)
            output = shell(block.text)
            assert block.shown in output, f"{block.text}\n{output}"
            assert shell.code in block.exit_codes, f"{block.text}\n{output}"
