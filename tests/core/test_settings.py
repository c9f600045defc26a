"""The environment: settings.py names every variable that the deployed code reads, and says what
each is for."""

import ast
import os
import re
from pathlib import Path

import pytest

from functions.core import settings
from functions.core.settings import DEFAULT_OF_LOCAL_SUPABASE, MAY_BE_EMPTY, Settings
from functions.entry.app import App
from functions.errors import PolicyError
from functions.ops.reference.settings import described

ROOT = Path(__file__).parents[2]
TEXT = Path(settings.__file__).read_text(encoding="utf-8")
OTHERS = {"TMPDIR", "match[1]", "name"}
"""TMPDIR: set by Unstuck itself, for a handler. match[1]: what a policy names
in `table: ${...}`. name: a secret that a rule passes on to its handler."""
WHOLE = {"settings.py": 1, "spawn.py": 2, "child.py": 1}
"""How often a file uses the whole environment: spawn keeps the secrets from the handlers' process,
and child gives it those that the rule names."""


def deployed():
    """The code that is deployed, less the handlers: those are the user's."""
    for path in [ROOT / "main.py", *(ROOT / "functions").rglob("*.py")]:
        if not {"ops", "handlers"} & set(path.relative_to(ROOT).parts):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def read(tree):
    """The names of the variables that are read: from os.environ, os.getenv or a mapping that is
    called env."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "os.environ.get",
            "os.getenv",
            "env.get",
        }:
            yield node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in {"os.environ", "env"}:
            yield node.slice


def names():
    for path, tree in deployed():
        for name in read(tree):
            yield (
                path.name,
                ast.literal_eval(name) if isinstance(name, ast.Constant) else ast.unparse(name),
            )


def test_every_variable_that_is_read_is_named_in_the_settings():
    known = {name for file, name in names() if file == "settings.py"}
    assert len(known) > 5
    assert {name for _, name in names()} - known == OTHERS


def test_the_environment_is_read_in_no_other_way():
    """Such as `from os import environ` or a copy of all of it."""
    for path, tree in deployed():
        whole = [
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr == "environ"
            and (name := ast.unparse(node)) != "request.environ"
        ]
        parts = sum(
            ast.unparse(node).startswith(("os.environ.get", "os.environ["))
            for node in ast.walk(tree)
            if isinstance(node, ast.Call | ast.Subscript)
        )
        assert len(whole) - parts == WHOLE.get(path.name, 0), path
        assert "from os import" not in ast.unparse(tree), path


def test_each_variable_says_what_it_is_for():
    for name in set(re.findall(r'env\.get\("([A-Z_]+)"\)', TEXT)) - {
        "K_REVISION",
        "CLOUD_RUN_WORKER_POOL_REVISION",
        "K_SERVICE",
        "FUNCTION_TARGET",
    }:
        assert re.search(rf'^    """{name}: [^"]+\.\s*"""$', TEXT, re.MULTILINE), name


def test_the_settings_are_the_environments():
    found = Settings.read(
        {
            "DATABASE_URL": "postgresql://x",
            "UNSTUCK_POLICY": "p.yaml",
            "WORKER_URL": "https://w",
            "TASKS_QUEUE": "q",
            "TASKS_INVOKER": "i@x",
            "GOOGLE_CLOUD_PROJECT": "p",
            "K_REVISION": "worker-00007",
        }
    )
    assert (found.database_url, found.policy, found.worker_url) == (
        "postgresql://x",
        "p.yaml",
        "https://w",
    )
    assert (found.queue, found.invoker, found.project) == ("q", "i@x", "p")
    assert found.instance == f"worker-00007@{os.uname().nodename}"


def test_without_any_variable_there_is_nothing_but_a_name():
    found = Settings.read({})
    assert {
        found.database_url,
        found.policy,
        found.worker_url,
        found.queue,
        found.invoker,
        found.project,
    } == {None}
    assert found.instance == f"local@{os.uname().nodename}"
    assert Settings.read({"FUNCTION_TARGET": "worker"}).instance.startswith("worker@")


@pytest.mark.parametrize("value", ["", " ", "\n", " , "])
@pytest.mark.parametrize("name", sorted({name for name, _ in described()} - MAY_BE_EMPTY))
def test_a_variable_that_is_set_and_empty_is_a_refusal_to_start(name, value):
    """Such as an empty version of a secret: it must not switch a check off."""
    with pytest.raises(PolicyError, match=f"{name} is set, but empty"):
        Settings.read({name: value})
    with pytest.raises(PolicyError):
        App({name: value})


@pytest.mark.parametrize(
    "secret", ["x", "''", '""', "undefined", "[SENSITIVE]", "${SECRET}", "a" * 31]
)
def test_a_secret_that_can_be_guessed_is_a_refusal_to_start(secret):
    """With it anybody could sign the token of any user, and of the service role."""
    with pytest.raises(PolicyError, match="can be guessed"):
        App({"SUPABASE_JWT_SECRET": secret})
    assert App({"SUPABASE_JWT_SECRET": "a" * 32}).settings.asks_users


def test_the_secret_of_every_local_supabase_is_refused_where_it_is_deployed():
    secret = {"SUPABASE_JWT_SECRET": f'"{DEFAULT_OF_LOCAL_SUPABASE}"\n'}
    assert App(secret).settings.asks_users
    with pytest.raises(PolicyError, match="anybody knows"):
        App(secret | {"K_SERVICE": "create-task"})


@pytest.mark.parametrize("name", ["SUPABASE_URL", "SUPABASE_JWKS_URL"])
def test_keys_do_not_cross_the_internet_unencrypted_where_it_is_deployed(name):
    for url in ("http://ref.supabase.co", "HTTP://8.8.8.8:8000"):
        Settings.read({name: url})
        with pytest.raises(PolicyError, match=f"{name} begins with http://"):
            Settings.read({name: url, "K_SERVICE": "create-task"})
    for url in ("https://ref.supabase.co", "http://10.8.0.7:8000", "http://kong:8000"):
        Settings.read({name: url, "K_SERVICE": "create-task"})


def test_two_variables_that_contradict_are_a_refusal_to_start():
    with pytest.raises(PolicyError, match="Remove one"):
        Settings.read({"USERS": "none", "JWT_AUDIENCE": "authenticated"})
    with pytest.raises(PolicyError, match="Write one"):
        Settings.read({"USERS": "all"})


def test_a_secret_may_end_with_a_newline():
    assert (
        Settings.read({"DATABASE_URL": "postgresql://u:p@h/db\n"}).database_url
        == "postgresql://u:p@h/db"
    )


def test_the_environment_is_read_once_in_a_process(monkeypatch):
    app = App()
    monkeypatch.setenv("WORKER_URL", "https://first")
    first = app.settings
    monkeypatch.setenv("WORKER_URL", "https://second")
    assert app.settings is first
    assert first.worker_url == "https://first"
