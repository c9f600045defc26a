"""Follows a page as its reader does: its blocks of shell and SQL, one after the other, in one
database and one folder."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg

from tests.docs.pages import Block, blocks, database_of

LONGEST_SECONDS = 60.0


class Shell:
    """A terminal: what a block sets, the next one finds. `ours`: what stands on the page, and what
    it is here."""

    def __init__(
        self, variables: Path, folder: Path, env: Mapping[str, str], ours: Mapping[str, str]
    ) -> None:
        self.variables, self._folder, self._ours = variables, folder, ours
        self.code = 0
        self._env = {name: value for name, value in env.items() if name != "DATABASE_URL"}
        self.variables.touch()

    def __call__(self, text: str, limit: float = LONGEST_SECONDS) -> str:
        """What it printed, on stdout and stderr. `code` is how its last command ended."""
        names = f"code=$?; declare -p TASK DATABASE_URL 2>/dev/null > {self.variables}"
        done = subprocess.run(
            ["bash", "-c", f". {self.variables}\n{self.here(text)}\n{names}; exit $code"],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        self.code = done.returncode
        return done.stdout + done.stderr

    def here(self, text: str) -> str:
        for theirs, ours in self._ours.items():
            text = text.replace(theirs, ours)
        return text

    @property
    def task(self) -> str:
        match = re.search(r'TASK="(.{36})"', self.variables.read_text(encoding="utf-8"))
        assert match, "the first block creates a task"
        return match[1]


def follow(page: Path, dsn: str, env: Mapping[str, str], folder: Path) -> Iterator[Block]:
    """Runs each block that runs, and yields it afterwards. Raises AssertionError for a command that
    does not do what the page says, psycopg.Error for SQL that is refused."""
    (folder / "dsn.txt").write_text(dsn, encoding="utf-8")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(database_of(page).encode() or b"select 1")
        for block in blocks(page, "sh", "sql"):
            if not block.runs:
                continue
            if block.language == "sql":
                connection.execute(block.text.encode())
            else:
                run(block, env, folder)
            yield block


def run(block: Block, env: Mapping[str, str], folder: Path, limit: float = LONGEST_SECONDS) -> str:
    """Its output, of stdout and stderr."""
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{block.text}"],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode in block.exit_codes, f"{block.text}\n{done.returncode}: {output}"
    assert block.shown in output, f"{block.text}\n{output}"
    return output
