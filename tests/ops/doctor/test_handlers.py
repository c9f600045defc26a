"""A handler that cannot be used is told by the doctor, before its first task is."""

from pathlib import Path

import pytest

from functions.core.policy import DEFAULT, Watch, load, parse
from functions.ops.doctor import handlers
from functions.worker.kinds import has_handler

MODULE = """
import functools

print("a module may print")

def resize(ctx, task_input): ...
async def enlarge(ctx, task_input=None): ...
def alone(ctx): ...
def greedy(ctx, task_input, colour): ...
def lazily(ctx, task_input):
    yield 1
def timed(function):
    @functools.wraps(function)
    def wrapper(ctx, task_input):
        return function(ctx)
    return wrapper
@timed
def decorated(ctx): ...
NUMBER = 3
"""


def watch_of(**handler_by_kind: str) -> Watch:
    rules = "".join(
        f'      {kind}: {{handler: "{handler}"}}\n' for kind, handler in handler_by_kind.items()
    )
    text = DEFAULT.read_text(encoding="utf-8").replace("      image:\n", f"{rules}      image:\n")
    return parse(text).watch()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shop_jobs"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "jobs.py").write_text(MODULE, encoding="utf-8")
    (folder / "needs.py").write_text("import a_library_of_theirs", encoding="utf-8")
    (folder / "ends.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("package")
def test_each_mistake_is_named_and_what_is_fine_is_not():
    watch = watch_of(
        resize="shop_jobs.jobs:resize",
        enlarge="shop_jobs.jobs:enlarge",
        decorated="shop_jobs.jobs:decorated",
        renamed="shop_jobs.jobs:rezise",
        alone="shop_jobs.jobs:alone",
        greedy="shop_jobs.jobs:greedy",
        lazily="shop_jobs.jobs:lazily",
        number="shop_jobs.jobs:NUMBER",
        needs="shop_jobs.needs:work",
        ends="shop_jobs.ends:work",
    )
    kinds = [kind for kind in watch.rules if kind not in {"*", "image", "selection"}]
    mistakes = handlers.mistakes(watch, kinds)
    called = "handler shop_jobs.jobs:{}: it cannot be called as `handle(ctx, task_input)`: "
    assert mistakes["renamed"][0].endswith("has no attribute 'rezise'")
    assert mistakes["alone"][0] == called.format("alone") + "too many positional arguments"
    assert mistakes["greedy"][0].startswith(called.format("greedy") + "missing a required argument")
    assert mistakes["lazily"][0].endswith("it has a `yield`; a handler returns its result")
    assert mistakes["number"][0].startswith(called.format("NUMBER"))
    assert mistakes["needs"][0].endswith("No module named 'a_library_of_theirs'")
    assert mistakes["ends"][0].endswith("the process that imported it ended")
    assert [kind for kind in mistakes if mistakes[kind][1]] == ["needs"]
    assert set(kinds) - mistakes.keys() == {"resize", "enlarge", "decorated"}


def test_the_handlers_that_the_policy_names_can_be_used():
    """In a copy of this repository: its own."""
    for watch in load().watches.values():
        named = [kind for kind, rule in watch.rules.items() if rule.handler]
        assert [kind for kind in named if not has_handler(watch, kind)] == []
        kinds = [kind for kind in watch.rules if kind != "*" and has_handler(watch, kind)]
        assert handlers.mistakes(watch, kinds) == {}


def test_where_the_libraries_of_the_workers_are_not_nothing_is_judged(monkeypatch):
    monkeypatch.setattr(handlers, "find_spec", lambda _: None)
    assert handlers.mistakes(watch_of(lost="shop_jobs.jobs:lost"), ["lost"]) == {}
