"""The house style, where a formatter does not look: names that say what they hold, short lines."""

import ast

from tests.docs.pages import ROOT, name

GENERIC = {"found", "one", "said", "told", "made", "given", "known", "wanted", "what"}
"""Words that fit any value, so that they say nothing about this one."""
PUBLIC = {"functions/page/timeline.py", "functions/page/who.py", "functions/store/page_answers.py"}
"""They read or write the public field `wanted` of an event or of a refused write."""


def files(*endings: str) -> dict[str, str]:
    """The text of each file by its path; the migrations are released and do not change any more."""
    paths = [ROOT / "main.py", *(ROOT / "functions").rglob("*"), *(ROOT / "infra").rglob("*.py")]
    return {
        name(path): path.read_text(encoding="utf-8")
        for path in paths
        if path.suffix in endings and not name(path).startswith("functions/sql/migrations/")
    }


def generic_names(text: str) -> set[str]:
    fields = ("id", "arg", "attr", "name", "asname")
    nodes = ast.walk(ast.parse(text))
    return GENERIC & {getattr(node, field, None) for node in nodes for field in fields}


def test_a_name_says_what_it_holds():
    names = {
        path: generic_names(text) - ({"wanted"} if path in PUBLIC else set())
        for path, text in files(".py").items()
    }
    assert {path: generic for path, generic in names.items() if generic} == {}


def test_a_line_has_at_most_100_characters():
    lengths = {
        path: max(map(len, text.splitlines()), default=0)
        for path, text in files(".py", ".sql", ".html").items()
    }
    assert {path: length for path, length in lengths.items() if length > 100} == {}
