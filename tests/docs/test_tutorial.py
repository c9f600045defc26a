"""docs/tutorial.md as its reader follows it: against `make dev`'s server, one command after the
other."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.dev import open_folder, running
from tests.docs.pages import ROOT, blocks
from tests.waiting import eventually

PAGE = ROOT / "docs" / "tutorial.md"
LONGEST = 60.0


class Shell:
    """The second terminal: what a block sets, the next one finds. Port and folder are the test's
    own."""

    def __init__(self, port: int | None, folder: Path) -> None:
        self._port, self._folder, self._kept = port, folder, folder / "variables"
        self.dsn = (folder / "dsn").read_text(encoding="utf-8")
        self._kept.touch()

    def __call__(self, text: str) -> str:
        ours = text.replace("8080", str(self._port)).replace(".cache/dev", str(self._folder))
        ours = ours.replace(".venv/bin/unstuck", f"{sys.executable} -m functions")
        script = (
            f". {self._kept}\n{ours}\ndeclare -p TASK DATABASE_URL 2>/dev/null > {self._kept}; true"
        )
        env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=True,
        )
        return done.stdout + done.stderr

    @property
    def task(self) -> str:
        match = re.search(r'TASK="(.{36})"', self._kept.read_text(encoding="utf-8"))
        assert match, "the first block creates a task"
        return match[1]


@pytest.fixture
def shell() -> Iterator[Shell]:
    with (
        open_folder() as folder,
        running(folder, "--data", str(folder), "--no-samples", "--sweep-every", "1") as dev,
    ):
        yield Shell(urlsplit(dev.url).port, folder)


def test_the_tutorial_leads_to_a_rescued_task(shell: Shell):
    with psycopg.connect(shell.dsn, autocommit=True) as connection:

        def attempts() -> list[str | None]:
            query = "select outcome from unstuck.attempts where task_id = %s order by number"
            return [outcome for (outcome,) in connection.execute(query, (shell.task,)).fetchall()]

        reached = {
            1: [None],
            4: ["retried", None],
        }  # what the reader waits for, before the block of that number
        for number, block in enumerate(blocks(PAGE, "sh")):
            if number in reached:
                eventually(lambda count=reached[number]: attempts() == count, LONGEST)
            output = shell(block.text)
            assert block.shown in output, f"{block.text}\n{output}"
