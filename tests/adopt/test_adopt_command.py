"""What `adopt` says and writes: the handlers that are not here, and a table of the bundle's own
name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from functions.core.policy import DEFAULT, load, parse
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
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("UNSTUCK_POLICY", str(file))
    load.cache_clear()
    yield file
    load.cache_clear()


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
    empty_database: str, policy: Path, capsys: pytest.CaptureFixture[str]
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
    load.cache_clear()
    assert main(["stats", "--dsn", empty_database]) == 0
    assert "overdue: 0 (cannot say of 1: " in capsys.readouterr().out
    main(["doctor", "--dsn", empty_database])
    assert "nobody can say since when 1 open task waited or ran" in capsys.readouterr().out


ELSEWHERE = TASKS.replace(" tasks (", " work.tasks (")
RUNS = """
create table exports (
  id bigint generated always as identity primary key,
  state text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'failed')),
  fault text,
  begun_at timestamptz,
  finished_at timestamptz,
  created_at timestamptz not null default now() - interval '1 day');
insert into exports (state, begun_at, finished_at)
  select 'done', now() - interval '5 hours', now() - interval '5 hours' + took
  from (select n * interval '{step}' as took from generate_series(1, {count}) n) runs
"""


def run(dsn: str, ddl: str, *argv: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(ddl.encode())
    return main(["adopt", "--dsn", dsn, *argv])


@pytest.mark.parametrize(
    ("step", "count", "run_for", "silent_for", "runs_on"),
    [
        ("1 s", 100, "5m", "30m", None),
        ("1 s", 20, "1m", "30m", None),
        ("4 s", 100, "570s", "30m", None),
        ("1 m", 100, "8h", "8h", "pool"),
        ("1 m", 19, "570s", "30m", None),
    ],
)
def test_the_times_of_the_rule_are_those_that_finished_tasks_took(
    step: str,
    count: int,
    run_for: str,
    silent_for: str,
    runs_on: str | None,
    empty_database: str,
    policy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ddl = RUNS.format(step=step, count=count)
    assert run(empty_database, ddl, "--table", "exports", "--json", "--write") == 0
    output = capsys.readouterr()
    answer: dict[str, Any] = json.loads(output.out)
    rule = answer["watch"]["exports"]["rules"]["*"]
    assert (rule["run_for"], rule["silent_for"], rule.get("runs_on")) == (
        run_for,
        silent_for,
        runs_on,
    )
    assert answer["finished"]["count"] == count
    assert (f"of {count} finished rows" in output.err) is (count >= 20)
    parse(policy.read_text(encoding="utf-8"), "policy.yaml")


def test_a_run_that_somebody_ended_days_later_sets_no_deadline(
    empty_database: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "insert into exports (state, begun_at, finished_at) values ('done', now() - interval "
    ddl = f"{RUNS.format(step='100 ms', count=300)}; {odd}'9 days', now() - interval '5 hours')"
    run(empty_database, ddl, "--table", "exports")
    output = " ".join(capsys.readouterr().err.split())
    assert "p99 of 301 finished rows: 30s, longest 8d 19h (not counted) -> run_for: 2m" in output


def test_the_handler_for_which_most_tasks_wait_is_named_first(
    empty_database: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = "insert into tasks (job_type) select unnest(array['crop', 'crop', 'blur', 'zoom'])"
    run(empty_database, f"{TASKS}; {waiting}", "--table", "tasks", "--json")
    named = json.loads(capsys.readouterr().out)["not_here"]
    assert [sentence.split(":")[0] for sentence in named] == [
        "no handler for tasks of the kind 'crop' (2 wait)",
        "no handler for tasks of the kind 'blur' (1 wait)",
        "no handler for tasks of the kind 'shrink' (1 wait)",
        "no handler for tasks of the kind 'zoom' (1 wait)",
    ]


def test_a_table_of_people_in_the_bundles_place_is_left_alone(
    empty_database: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    todos = "create table tasks (id serial primary key, title text, state text)"
    ddl = f"{todos}; create schema work; {ELSEWHERE}"
    assert run(empty_database, ddl, "--table", "work.tasks", "--write") == 0
    assert "'tasks' was taken out: its table public.tasks is not ours" in capsys.readouterr().err
    adopted = parse(policy.read_text(encoding="utf-8"), "policy.yaml")
    assert [watch.table for watch in adopted.watches.values()] == ["work.tasks"]
    migrate(empty_database, adopted)


def test_a_watch_of_the_bundle_without_a_table_gives_its_name_away(
    empty_database: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ddl = f"create schema work; {ELSEWHERE}"
    assert run(empty_database, ddl, "--table", "work.tasks", "--write") == 0
    assert "work.tasks takes its name" in capsys.readouterr().err


def test_the_bundles_own_table_stays_where_it_is_used(
    empty_database: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate(empty_database, parse(policy.read_text(encoding="utf-8"), "policy.yaml"))
    assert (
        run(empty_database, RUNS.format(step="1 s", count=1), "--table", "exports", "--write") == 0
    )
    assert "taken out" not in capsys.readouterr().err
    adopted = parse(policy.read_text(encoding="utf-8"), "policy.yaml")
    assert [watch.name for watch in adopted.watches.values()] == ["tasks", "exports"]
    ddl = f"create schema work; {ELSEWHERE}"
    assert run(empty_database, ddl, "--table", "work.tasks", "--write") == 2


def test_all_words_that_are_missing_are_asked_for_at_once(
    empty_database: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ddl = "create table steps (id serial primary key, status text default 'todo', error text)"
    assert run(empty_database, ddl, "--table", "steps") == 2
    assert "--word running=WORD --word failed=WORD" in capsys.readouterr().err


def test_check_ends_nothing_in_a_table_that_is_guarded(
    empty_database: str,
    policy: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ddl = f"{RUNS.format(step='1 s', count=1)}; insert into exports (state) values ('waiting')"
    run(empty_database, ddl, "--table", "exports", "--write")
    migrate(empty_database, parse(policy.read_text(encoding="utf-8"), "policy.yaml"))
    command = ["check", "--dsn", empty_database, "--table", "exports", "--json"]
    capsys.readouterr()
    assert main([*command, "--fix", "--yes"]) == 1
    output = capsys.readouterr()
    assert "sweep --in exports" in output.err
    before = json.loads(output.out)
    assert (len(before["stuck"]), before["guarded"]) == (1, "exports")
    monkeypatch.setenv("UNSTUCK_POLICY", str(DEFAULT))
    load.cache_clear()
    assert main([*command, "--fix", "--yes"]) == 1
    assert "UNSTUCK_POLICY" in capsys.readouterr().err
    assert main(command) == 3
    assert len(json.loads(capsys.readouterr().out)["stuck"]) == 1
