"""What `adopt` says and writes: the handlers that are not here, and a table of the bundle's own
name."""

from pathlib import Path

import psycopg
import pytest

from functions.core.policy import DEFAULT, parse
from functions.install.migrate import migrate
from functions.ops.command_line import main
from functions.store.postgres import PostgresStore

TASKS = """
create table tasks (
  id bigint generated always as identity primary key,
  state text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'failed')),
  job_type text,
  fault text,
  created_at timestamptz not null default now());
insert into tasks (job_type, state) values
  ('selection', 'done'), ('shrink', 'waiting'), ('shrink', 'done');
"""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("UNSTUCK_POLICY", str(file))
    return file


def adopt(dsn: str, *options: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TASKS)
    return main(["adopt", "--dsn", dsn, "--table", "public.tasks", *options])


def test_a_table_called_tasks_takes_the_place_of_the_bundles_own(
    empty_database: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopt(empty_database, "--write") == 0
    assert "own watch 'tasks' was taken out" in capsys.readouterr().err
    adopted = parse(policy.read_text(encoding="utf-8"), "policy.yaml")
    assert [(watch.own, watch.status) for watch in adopted.watches.values()] == [(False, "state")]
    migrate(empty_database, adopted)
    store = PostgresStore(empty_database)
    assert store.claim(adopted.watch(), "2", "w").verdict == "claimed"
    store.close()


def test_to_adopt_it_twice_is_refused(empty_database: str, policy: Path) -> None:
    adopt(empty_database, "--write")
    before = policy.read_text(encoding="utf-8")
    assert main(["adopt", "--dsn", empty_database, "--table", "public.tasks", "--write"]) == 2
    assert policy.read_text(encoding="utf-8") == before


def test_the_handler_that_is_not_here_is_named_with_its_place(
    empty_database: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adopt(empty_database)
    said = " ".join(capsys.readouterr().err.split())
    assert "no handler for tasks of the kind 'shrink'" in said
    assert "functions/handlers/shrink.py" in said
    assert "the kind 'selection'" not in said


def test_open_tasks_without_a_time_are_counted_as_not_judged(
    empty_database: str, policy: Path
) -> None:
    adopt(empty_database, "--write")
    adopted = parse(policy.read_text(encoding="utf-8"), "policy.yaml")
    migrate(empty_database, adopted)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("alter table tasks alter created_at drop not null")
        connection.execute("update tasks set created_at = null")
    store = PostgresStore(empty_database)
    stuck = store.pulse(adopted.watch()).stuck
    store.close()
    assert (stuck.count, stuck.unjudged) == (0, 1)
