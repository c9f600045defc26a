"""The pages of docs/ and the README as tests read them: their fenced blocks, links, and what
comments say about a block.

Comments before a block: `<!-- expect 0,3 words -->` (exit codes, and words that must be shown),
`<!-- in a clone expect 0,3 words -->` (tests/walk.py alone runs it), `<!-- not run: why -->`. At
the top of a page `<!-- given SQL -->` is what its database holds."""

import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_A_CLONE = "in a clone"
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "infra").glob("*.md")),
]
_BLOCK = re.compile(
    r"(?:<!-- (?P<comment>[^\n]*) -->\n)?^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```",
    re.MULTILINE | re.DOTALL,
)
_GIVEN = re.compile(r"<!-- given\n(.*?)-->", re.DOTALL)
READ_BY_NEW_USERS = [
    ROOT / "README.md",
    ROOT / "docs" / "tutorial.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


@dataclass(frozen=True)
class Block:
    page: Path
    language: str
    text: str
    comment: str

    @property
    def exit_codes(self) -> set[int]:
        return {int(code) for code in self._expected[0].split(",")}

    @property
    def shown(self) -> str:
        return self._expected[1]

    @property
    def runs(self) -> bool:
        return not self.comment.startswith(("not run:", IN_A_CLONE))

    @property
    def runs_in_a_clone(self) -> bool:
        return not self.comment.startswith("not run:")

    @property
    def _expected(self) -> tuple[str, str]:
        expected = self.comment.removeprefix(f"{IN_A_CLONE} ")
        if not expected.startswith("expect "):
            return "0", ""
        codes, _, words = expected.removeprefix("expect ").partition(" ")
        return codes, words


def blocks(page: Path, *languages: str) -> list[Block]:
    matches = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    found_blocks = [
        Block(page, match["language"], textwrap.dedent(match["text"]), match["comment"] or "")
        for match in matches
    ]
    return [block for block in found_blocks if not languages or block.language in languages]


def database_of(page: Path) -> str:
    """The SQL of what the page expects in its database."""
    match = _GIVEN.search(page.read_text(encoding="utf-8"))
    return match[1] if match else ""


def links(page: Path) -> list[str]:
    """Files that the page points to."""
    return [match[1] for match in _LINK.finditer(page.read_text(encoding="utf-8")) if match[1]]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands_in(folder: Path) -> str:
    """A folder for the PATH, which has `unstuck` as `make install` does."""
    command = folder / "bin" / "unstuck"
    command.parent.mkdir()
    script = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m functions "$@"\n'
    command.write_text(script, encoding="utf-8")
    command.chmod(0o755)
    return str(command.parent)
