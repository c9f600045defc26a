"""The documentation does what it says: its commands are run, its code is compiled, its links lead
somewhere."""

import ast
import importlib
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from functions.core.policy import DEFAULT, parse
from functions.core.states import Outcome, Reason, State
from functions.ops.command_line import commands
from functions.ops.reference import DOCS
from functions.ops.reference import PAGES as MADE
from functions.ops.reference.reasons import OUTCOMES, REASONS, STATES
from functions.ops.reference.settings import described
from tests.docs.following import follow
from tests.docs.pages import PAGES, READ_BY_NEW_USERS, ROOT, Block, blocks, commands_in, links, name
from tests.docs.site import broken

RUN = sorted({block.page for page in PAGES for block in blocks(page, "sh") if block.runs})
TARGETS = set(
    re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
)
COMMAND = r"\s*(\.venv/bin/)?(unstuck|make|pipx|uvx|curl|pip|python3?) "
SERVED = {ROOT / "docs" / "tutorial.md"}
"""Pages that need the local server: test_tutorial.py."""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_calls_the_command_by_its_one_name(page: Path):
    text = page.read_text(encoding="utf-8")
    for language in ("ini", "yml", "python"):  # files for machines that have no such command
        for block in blocks(page, language):
            text = text.replace(block.text, "")
    assert re.findall(r".*python -m functions.*", text) == []


ENTRANCES = {ROOT / "README.md", ROOT / "docs" / "README.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ENTRANCES], ids=name)
def test_a_page_says_for_whom_it_is_and_how_long_it_takes(page: Path):
    second = page.read_text(encoding="utf-8").splitlines()[2]
    assert re.fullmatch(r"\*For you if .+\. \d+ minutes?\.\*", second)


def test_the_buttons_that_the_tutorial_names_are_on_the_page():
    templates = (ROOT / "functions").rglob("templates/*.html")
    text = " ".join(template.read_text(encoding="utf-8") for template in templates).lower()
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    buttons = re.findall(r"\*\*([^*]+)\*\*", tutorial)
    assert len(buttons) >= 2
    assert [button for button in buttons if button.lower() not in text] == []


def test_the_site_has_every_page_in_its_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {name(page) for page in PAGES} - {"docs/README.md"}
    assert set(re.findall(r": (\S+\.md)", text)) == pages


def test_a_link_of_the_site_that_leads_nowhere_is_named(tmp_path: Path):
    folder = tmp_path / "docs"
    folder.mkdir()
    texts = ("https://a.example/x", "../index.html#top", "../index.html#gone", "gone.html", "../")
    (folder / "page.html").write_text("".join(f'<a href="{link}"></a>' for link in texts))
    (tmp_path / "index.html").write_text('<h1 id="top"></h1>')
    assert broken(tmp_path) == ["docs/page.html: ../index.html#gone", "docs/page.html: gone.html"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_that_are_there(page: Path):
    assert [link for link in links(page) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [page for page in RUN if page not in SERVED], ids=name)
def test_the_commands_of_a_page_work_one_after_the_other(page: Path, database: str, tmp_path: Path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(DEFAULT.read_text(encoding="utf-8"), encoding="utf-8")
    env = {**os.environ, "DATABASE_URL": database, "UNSTUCK_POLICY": str(policy), "NO_COLOR": "1"}
    env["PATH"] = os.pathsep.join([commands_in(tmp_path), env["PATH"]])
    for _ in follow(page, database, env, tmp_path):
        pass


@pytest.mark.parametrize("page", READ_BY_NEW_USERS, ids=name)
def test_each_block_is_run_or_says_why_not(page: Path):
    """Python and JavaScript: test_snippets.py; yaml: below; files of other programs:
    test_elsewhere.py; a drawing has no language."""
    for block in blocks(page):
        if block.language in {"sh", "sql"}:
            assert block.comment != "not run:", block.text
        elif block.language == "":
            lines = block.text.splitlines()
            assert [line for line in lines if re.match(COMMAND, line)] == [], block.text
        elif block.language == "json":
            json.loads(block.text)
        else:
            assert block.language in {"python", "js", "yaml", "yml", "ini"}, block.text


def calls() -> list[tuple[str, str]]:
    """(page, command line) of each call of ours in a fenced block or in backticks."""
    named = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"`((?:unstuck|make) [^`\n]+)`", text)
        for block in blocks(page, "sh", "", "console", "text"):
            ours = (line.strip().removeprefix(".venv/bin/") for line in block.text.splitlines())
            lines += [line for line in ours if line.startswith(("unstuck ", "make "))]
        named += [(name(page), line) for line in lines]
    return named


@pytest.mark.parametrize(("page", "line"), calls())
def test_each_command_and_option_that_is_named_exists(page: str, line: str):
    words = shlex.split(re.sub(r"[\[\]]|\.\.\.| [|>#].*", "", line))
    if words[0] == "make":
        assert words[1] in TARGETS
        return
    command = words[1] if len(words) > 1 else "COMMAND"
    if command in {"COMMAND", "--help"}:
        return
    assert command in commands(), f"{page}: {line}"
    options = set(commands()[command]._option_string_actions)
    used = {word.split("=")[0] for word in words[2:] if word.startswith("--")}
    assert used <= options, f"{page}: {line}"


@pytest.mark.parametrize(
    "block", [b for page in PAGES for b in blocks(page, "python")], ids=lambda b: name(b.page)
)
def test_python_in_the_docs_compiles_and_imports_what_exists(block: Block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("functions"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names), node.module


def put_into(whole: dict[str, Any], part: dict[str, Any]) -> None:
    """Adds what a part says to what is there, at each depth."""
    for key, value in part.items():
        if isinstance(value, dict) and isinstance(whole.get(key), dict):
            put_into(whole[key], value)
        else:
            whole[key] = value


@pytest.mark.parametrize(
    "block", [b for page in PAGES for b in blocks(page, "yaml")], ids=lambda b: name(b.page)
)
def test_yaml_in_the_docs_is_taken_by_the_policy(block: Block):
    """A fragment is put where it belongs: whole sections, what a watch says, or the rules of its
    kinds."""
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    fragment = yaml.safe_load(block.text)
    watch = policy["watches"]["tasks"]
    for key, value in fragment.items():
        if key == "rules":
            watch["rules"] |= value
        elif key == "watches" and value.keys() <= policy["watches"].keys():
            put_into(policy[key], value)
        elif key == "addresses":
            policy[key] = value
        elif key in policy:
            policy[key] = {**policy[key], **value}
        elif key in {
            "hooks",
            "marks",
            "optional",
            "notify",
            "limits",
            "fence",
            "words",
            "clocks",
            "columns",
            "also",
            "types",
        }:
            watch[key] = value
        else:
            put_into(watch["rules"], {key: value})
    parse(yaml.safe_dump(policy), name(block.page))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_every_page_is_reached_from_the_index():
    index = {(ROOT / "docs" / link).resolve() for link in links(ROOT / "docs" / "README.md")}
    assert {page for page in PAGES if "docs" in page.parts} - index == {ROOT / "docs" / "README.md"}


@pytest.mark.parametrize("page", MADE)
def test_a_page_that_is_made_from_the_code_is_fresh(page: str):
    assert (DOCS / page).read_text(encoding="utf-8") == MADE[page](), "run `make docs`"


def test_every_state_outcome_and_reason_is_described():
    assert (set(STATES), set(OUTCOMES), set(REASONS)) == (set(State), set(Outcome), set(Reason))


def test_every_variable_that_is_read_is_in_the_reference():
    read = set(
        re.findall(
            r"env\.get\(\"([A-Z_]+)\"",
            (ROOT / "functions" / "core" / "settings.py").read_text(encoding="utf-8"),
        )
    )
    assert read - {
        "K_REVISION",
        "CLOUD_RUN_WORKER_POOL_REVISION",
        "K_SERVICE",
        "FUNCTION_TARGET",
    } == {name for name, _ in described()}  # those two the platform sets


def test_every_function_and_table_is_in_the_reference(database: str):
    page = (DOCS / "sql.md").read_text(encoding="utf-8")
    with psycopg.connect(database) as connection:
        rows = connection.execute("""
            select proname from pg_proc where pronamespace = 'unstuck'::regnamespace
            union select relname from pg_class where relnamespace = 'unstuck'::regnamespace
              and relkind = 'r'
            except select 'migrations'""").fetchall()  # the runner's own
    assert [
        name for (name,) in rows if not re.search(rf"^### (unstuck[.])?{name}$", page, re.MULTILINE)
    ] == []
