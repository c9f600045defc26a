"""A worker takes only what it can do: tasks without a kind, or of a kind that has no handler here,
stay as they are for a worker that has one."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from functions.core.answers import ClaimRefusal, NotClaimed
from functions.core.dispatch import NoDispatch
from functions.core.policy import Policy, parse
from functions.entry.worker import status_of
from functions.install.migrate import migrate
from functions.store.postgres import PostgresStore
from functions.worker.guard import guard
from functions.worker.kinds import kinds_here, where_to_write
from functions.worker.pull import pull
from tests.adopt.adopted import HEAD
from tests.adopt.test_fence import RULE, Shape, Table

DDL = """
create table public.thumbs (
  id bigint generated always as identity primary key,
  phase text not null default 'waits',
  flavour text,
  made_at timestamptz not null default now());
"""
WATCH = {
    "table": "public.thumbs",
    "key": "id",
    "key_type": "bigint",
    "status": "phase",
    "words": {
        "pending": ["waits"],
        "running": ["runs"],
        "completed": ["there"],
        "failed": ["broke"],
    },
    "clocks": {"queued": "made_at", "alive": "made_at"},
}


def does_it(context: Any, task_input: Any) -> dict[str, Any]:
    return {}


def guarded(columns: dict[str, str], handlers: dict[str, str]) -> Policy:
    rules: dict[str, Any] = {"*": RULE | {"isolation": "thread"}}
    for kind, handler in handlers.items():
        rules.setdefault(kind, {})["handler"] = handler
    dumped = yaml.safe_dump({"thumbs": WATCH | {"columns": columns, "rules": rules}})
    return parse(HEAD + "".join(f"  {line}\n" for line in dumped.splitlines()))


@pytest.fixture
def thumbs(empty_database: str) -> Iterator[Table]:
    table = Table(empty_database, Shape(DDL, WATCH), PostgresStore(empty_database), guarded({}, {}))
    table.execute(DDL)
    for flavour in (None, "sweet", "image"):
        table.execute("insert into public.thumbs (flavour) values (%s)", flavour)
    yield table
    table.store.close()


def phases(thumbs: Table) -> list[tuple[str | None, str]]:
    return thumbs.execute("select flavour, phase from public.thumbs order by id")


@pytest.mark.parametrize("columns", [{}, {"kind": "flavour"}])
def test_a_worker_without_the_handler_takes_no_task(
    thumbs: Table, columns: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.worker.kinds._modules", lambda: frozenset({"selection"}))
    thumbs.policy = guarded(columns, {})
    migrate(thumbs.dsn, thumbs.policy)
    watch, store = thumbs.watch, thumbs.store
    before = phases(thumbs)
    assert pull(store, thumbs.policy, NoDispatch(), [watch], worker="w", once=True) == 0
    for key in ("1", "2"):
        answer = guard(
            store, thumbs.policy, NoDispatch(), watch, key, kinds_here(watch), worker="w"
        )
        assert isinstance(answer, NotClaimed)
        assert (answer.verdict, status_of(answer)) == (ClaimRefusal.ELSEWHERE, 503)
    assert phases(thumbs) == before
    assert thumbs.execute("select * from unstuck.attempts") == []


def test_tasks_without_a_kind_are_done_by_the_handler_of_the_rule(thumbs: Table) -> None:
    thumbs.policy = guarded({}, {"*": f"{__name__}:does_it"})
    migrate(thumbs.dsn, thumbs.policy)
    done = pull(thumbs.store, thumbs.policy, NoDispatch(), [thumbs.watch], worker="w", once=True)
    assert done == 3
    assert {phase for _, phase in phases(thumbs)} == {"there"}


def test_of_a_table_with_kinds_only_those_with_a_handler_are_done(
    thumbs: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.worker.kinds._modules", frozenset)
    thumbs.policy = guarded({"kind": "flavour"}, {"sweet": f"{__name__}:does_it"})
    migrate(thumbs.dsn, thumbs.policy)
    pull(thumbs.store, thumbs.policy, NoDispatch(), [thumbs.watch], worker="w", once=True)
    assert phases(thumbs) == [(None, "waits"), ("sweet", "there"), ("image", "waits")]


def test_the_place_of_a_missing_handler_is_named(thumbs: Table) -> None:
    text = where_to_write(thumbs.watch, "")
    assert "`def handle(ctx, task_input)` into functions/handlers/thumbs.py" in text
    assert "functions/handlers/sweet.py" in where_to_write(thumbs.watch, "sweet")
