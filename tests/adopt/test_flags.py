"""Tables whose status has too few words: a flag that is true while a worker has the row, rows that
are born running, rows that are deleted when they are done. What each makes possible is done, and
the rest is refused with the reason."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from functions.core.explain import explain
from functions.core.policy import Policy, Watch, parse
from functions.core.visible import visible
from functions.errors import PolicyError, StoreError
from functions.install.migrate import migrate
from functions.ops import adopt
from functions.ops.doctor import examine
from functions.ops.doctor.finding import BREAKS
from functions.ops.inspect import check
from functions.ops.inspect.session import connect
from functions.store import Store
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import EXPIRE, HEAD

STUCK, FRESH = "3 hours", "1 second"
PAST_ITS_TURN = "1 day"  # more than `pending_at_most`: not claimed any more
MARKED = """
create table jobs (
  id bigint generated always as identity primary key, payload jsonb default '{}',
  is_processing boolean not null default false,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  completed_at timestamptz,
  error text)
"""
BARE = """
create table jobs (
  id uuid primary key default gen_random_uuid(), email text,
  processing boolean default false, last_error text,
  updated_at timestamptz not null default now())
"""
BORN = """
create table jobs (
  id serial primary key, status varchar(20) default 'running'
    check (status in ('running', 'completed', 'failed')),
  result text,
  started_at timestamptz default now(), completed_at timestamptz, error text)
"""
DELETED = """
create table jobs (
  id serial primary key, status text not null default 'queued'
    check (status in ('queued', 'running', 'failed')),
  created_at timestamptz default now(), updated_at timestamptz default now(), error text)
"""


class Table:
    """A table that is adopted by inference alone, and its verbs."""

    def __init__(self, dsn: str, ddl: str, overrides: dict[str, Any] | None, folder: Path) -> None:
        self.dsn = dsn
        self.run(ddl)
        file = folder / "map.json"
        file.write_text(json.dumps(overrides or {}), encoding="utf-8")
        with connect(dsn) as connection:
            self.inferred = check.infer_table(connection, "jobs", str(file) if overrides else None)
        self.watches = adopt.watch(self.inferred)
        self.policy: Policy = parse(HEAD + adopt.text(self.watches))
        self.watch: Watch = self.policy.watch()
        migrate(dsn, self.policy)
        self.store: Store = PostgresStore(dsn)

    def run(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def row(self, age: str, **columns: Any) -> str:
        clocks = {
            name: age
            for name in ("created_at", "updated_at", "started_at")
            if name in self.inferred.table.columns
        }
        names = ", ".join([*clocks, *columns])
        values = ", ".join(["now() - %s::interval"] * len(clocks) + ["%s"] * len(columns))
        query = f"insert into jobs ({names}) values ({values}) returning id::text"
        return self.run(query, *clocks.values(), *columns.values())[0][0]

    def look(self, key: str, *columns: str) -> tuple[Any, ...]:
        return self.run(f"select {', '.join(columns)} from jobs where id::text = %s", key)[0]

    def state(self, key: str) -> str:
        return self.store.status(self.watch, key, heal=False).state

    def sweep(self) -> dict[str, str]:
        answer = self.store.sweep(self.watch, 500)
        assert answer.unsweepable == []
        return {task.task_id: task.state for task in answer.rescued}

    def broken(self) -> list[str]:
        return [
            f"{finding.fact} {finding.do}"
            for finding in examine(self.dsn, self.policy, [self.watch])
            if finding.level == BREAKS
        ]


@pytest.fixture
def table(empty_database: str, tmp_path: Path):
    tables: list[Table] = []

    def make(ddl: str, overrides: dict[str, Any] | None = None) -> Table:
        tables.append(Table(empty_database, ddl, overrides, tmp_path))
        return tables[-1]

    yield make
    for jobs in tables:
        jobs.store.close()


def test_a_flag_with_columns_for_its_ends_has_all_states(table) -> None:
    jobs = table(MARKED)
    assert jobs.watches["jobs"]["words"] == {
        "running": [True],
        "completed": [False],
        "failed": [False],
        "pending": [False],
    }
    assert jobs.watches["jobs"]["marks"] == {"completed": "completed_at", "failed": "error"}
    done, lost = jobs.row(FRESH), jobs.row(FRESH)
    waits, silent = jobs.row(PAST_ITS_TURN), jobs.row(STUCK, is_processing=True)
    was_done, had_failed = jobs.row(STUCK, completed_at="2020-01-01"), jobs.row(STUCK, error="no")
    foreign = jobs.row(FRESH, is_processing=True)
    keys = (done, silent, was_done, had_failed)
    assert [jobs.state(key) for key in keys] == ["pending", "running", "completed", "failed"]

    token = jobs.store.claim(jobs.watch, done, "w").token
    assert jobs.look(done, "is_processing", "completed_at") == (True, None)
    assert jobs.store.beat(jobs.watch, done, token).verdict == "held"
    assert jobs.store.settle(jobs.watch, done, token, "complete", result={}).state == "completed"
    assert jobs.state(done) == "completed"
    assert jobs.look(done, "is_processing", "completed_at is not null", "error") == (
        False,
        True,
        None,
    )

    token = jobs.store.claim(jobs.watch, None, "w").token
    assert (
        jobs.store.settle(jobs.watch, lost, token, "retry", reason="transient", after=0.0).state
        == "pending"
    )
    assert (jobs.state(lost), jobs.look(lost, "is_processing", "error")) == (
        "pending",
        (False, None),
    )

    assert jobs.sweep() == {waits: "failed", silent: "pending"}
    assert [jobs.state(key) for key in (waits, silent, foreign)] == ["failed", "pending", "running"]
    assert jobs.look(waits, "is_processing", "completed_at", "error is not null") == (
        False,
        None,
        True,
    )
    assert jobs.store.operate(jobs.watch, "retry", [waits, was_done, had_failed]) == [
        waits,
        had_failed,
    ]
    assert (jobs.state(waits), jobs.look(waits, "error")) == ("pending", (None,))
    assert jobs.broken() == []


def test_the_fence_keeps_the_end_of_a_flagged_task(table) -> None:
    jobs = table(MARKED)
    jobs.policy = parse(HEAD + adopt.text(jobs.watches) + "    fence: enforce\n")
    migrate(jobs.dsn, jobs.policy)
    key = jobs.row(FRESH, completed_at="2020-01-01")
    for write in ("is_processing = true", "completed_at = null", "error = 'no'"):
        jobs.run(f"update jobs set {write}")
        assert jobs.look(key, "is_processing", "completed_at is null", "error") == (
            False,
            False,
            None,
        )
    assert jobs.run("select count(*) from unstuck.refusals") == [(3,)]


def test_a_bare_flag_is_swept_and_run_but_nothing_of_it_waits(table) -> None:
    jobs = table(BARE)
    assert any("processing is a flag" in sentence for sentence in jobs.inferred.unsure)
    assert jobs.watches["jobs"]["words"] == {
        "running": [True],
        "completed": [False],
        "failed": [False],
    }
    assert jobs.watch.rule("").attempts == 1
    idle, silent, fresh = (
        jobs.row(STUCK),
        jobs.row(STUCK, processing=True),
        jobs.row(FRESH, processing=True),
    )
    assert jobs.sweep() == {silent: "failed"}
    assert jobs.look(silent, "processing", "last_error is not null") == (False, True)
    assert [jobs.state(key) for key in (idle, silent, fresh)] == ["completed", "failed", "running"]
    status = jobs.store.status(jobs.watch, silent)
    assert explain(jobs.policy, jobs.watch, status).startswith("It failed")

    assert jobs.store.claim(jobs.watch, None, "w").verdict == "none"
    assert jobs.store.claim(jobs.watch, idle, "w").verdict == "ended"
    claimed = jobs.store.claim(jobs.watch, fresh, "w")
    assert claimed.verdict == "claimed"
    assert jobs.store.claim(jobs.watch, fresh, "w").verdict == "held"
    assert jobs.store.settle(jobs.watch, fresh, claimed.token, "complete").state == "completed"
    assert jobs.look(fresh, "processing") == (False,)
    assert jobs.broken() == []


def test_rows_that_are_born_running_are_taken_by_the_worker_that_is_pushed(table) -> None:
    jobs = table(BORN)
    assert "pending" not in jobs.watches["jobs"]["words"]
    done, gone, silent = jobs.row(FRESH), jobs.row(FRESH), jobs.row(STUCK)
    claimed = jobs.store.claim(jobs.watch, done, "w")
    assert (
        jobs.store.settle(jobs.watch, done, claimed.token, "complete", result=None).state
        == "completed"
    )
    assert jobs.store.claim(jobs.watch, done, "w").verdict == "ended"

    assert jobs.sweep() == {silent: "failed"}
    zombie = jobs.store.claim(jobs.watch, gone, "w").token
    jobs.run(EXPIRE)
    assert jobs.store.claim(jobs.watch, gone, "w").verdict == "ended", (
        "a redelivery ends what cannot be tried again"
    )
    assert jobs.state(gone) == "failed"
    assert jobs.store.settle(jobs.watch, gone, zombie, "complete").verdict == "lost"
    assert jobs.broken() == []


@pytest.mark.parametrize(("outcome", "reason"), [("retry", "transient"), ("release", "shutdown")])
def test_what_is_born_running_cannot_be_put_back_and_fails(
    table, outcome: str, reason: str
) -> None:
    jobs = table(BORN)
    key = jobs.row(FRESH)
    token = jobs.store.claim(jobs.watch, key, "w").token
    answer = jobs.store.settle(jobs.watch, key, token, outcome, reason=reason)
    assert (answer.state, jobs.state(key)) == ("failed", "failed")
    for action in ("requeue", "retry"):
        with pytest.raises(StoreError, match="the watch jobs has no word for pending") as refused:
            jobs.store.operate(jobs.watch, action, [key])
        assert not refused.value.retryable, "it was asked again for seven seconds"
    assert jobs.store.operate(jobs.watch, "fail", [jobs.row(FRESH)])


def test_tasks_that_are_deleted_when_they_are_done_are_swept_only(table) -> None:
    jobs = table(DELETED, {"words": {"completed": []}})
    assert "completed" not in jobs.watches["jobs"]["words"]
    stuck, fresh = jobs.row(STUCK, status="running"), jobs.row(FRESH)
    assert jobs.sweep() == {stuck: "pending"}
    with pytest.raises(
        StoreError,
        match="the watch jobs has no word for completed: its tasks can be swept, but not run",
    ) as refused:
        jobs.store.claim(jobs.watch, fresh, "w")
    assert not refused.value.retryable
    assert jobs.broken() == []


def test_numbers_that_a_table_without_a_waiting_word_cannot_keep_are_refused() -> None:
    watch = {
        "table": "jobs",
        "key": "id",
        "key_type": "text",
        "status": "s",
        "columns": {},
        "clocks": {"alive": "at"},
    }
    watch |= {
        "words": {"running": ["r"], "completed": ["c"], "failed": ["f"]},
        "rules": {"*": adopt.usual_rule()},
    }
    with pytest.raises(
        PolicyError,
        match=r"no word for pending, so that no task can be tried again. Write `attempts: 1`",
    ):
        parse(HEAD + adopt.text({"jobs": watch}))


def test_two_states_of_one_word_need_a_mark() -> None:
    watch = {
        "table": "jobs",
        "key": "id",
        "key_type": "text",
        "status": "s",
        "columns": {},
        "rules": {"*": adopt.usual_rule()},
    }
    watch |= {"clocks": {"alive": "at", "queued": "at"}, "marks": {"failed": "error"}}
    words = {"pending": ["w"], "running": ["r"], "completed": ["done"], "failed": ["done", "dead"]}
    assert parse(HEAD + adopt.text({"jobs": watch | {"words": words}})).watch().marks == {
        "failed": "error"
    }
    words["completed"] = ["done", "w"]
    with pytest.raises(PolicyError, match=r"'w' stands for pending already. .* under `marks`"):
        parse(HEAD + adopt.text({"jobs": watch | {"words": words}}))


def test_names_with_invisible_characters_are_printed_as_escapes_that_yaml_reads() -> None:
    watches = {"jobs": {"table": "public.\u202ejobs\x1b[2J", "words": {"pending": ["läuft"]}}}
    printed = adopt.text(watches)
    assert printed == visible(printed, keep="\n")
    assert yaml.safe_load(printed) == watches
    readable = {"jobs": {"words": {"pending": ["läuft"]}}}
    assert "läuft" in adopt.text(readable)


NANOSECONDS = """
create table jobs (
  id text primary key default md5(random()::text),
  status text not null default 'queued'
    check (status in ('queued', 'running', 'done', 'failed')),
  error text not null default '',
  created_ns bigint not null default extract(epoch from now()) * 1e9,
  started_ns bigint not null default 0,
  finished_ns bigint not null default 0)
"""


def test_an_end_that_cannot_be_null_is_0_again_when_the_task_is_put_back(table) -> None:
    jobs = table(NANOSECONDS)
    assert jobs.broken() == []
    key = jobs.run("insert into jobs default values returning id")[0][0]
    token = jobs.store.claim(jobs.watch, key, "w").token
    jobs.store.settle(jobs.watch, key, token, "fail", reason="handler_error", error="No.")
    assert jobs.look(key, "to_timestamp(finished_ns / 1e9) > now() - interval '1 hour'") == (True,)
    assert jobs.store.operate(jobs.watch, "retry", [key]) == [key]
    assert jobs.look(key, "status", "finished_ns") == ("queued", 0)


SPOKEN = """
create type stage as enum
  ('Awaiting Worker', 'In Progress', 'All Done', 'Gone Wrong', 'Called Off');
create table jobs (
  id bigint generated always as identity primary key,
  status stage not null default 'Awaiting Worker', error text, attempts integer default 0,
  created_at timestamptz not null default now(), started_at timestamptz, finished_at timestamptz);
insert into jobs (status, error, started_at, finished_at)
  select 'Gone Wrong', 'exit 1', now(), now() from generate_series(1, 2);
insert into jobs (status, started_at, finished_at)
  select 'All Done', now(), now() from generate_series(1, 2)
"""


def test_rows_that_alone_have_an_error_show_the_word_for_failed(table) -> None:
    jobs = table(SPOKEN)
    words = {str(state): list(listed) for state, listed in jobs.watch.words.items()}
    assert (words["failed"], words["completed"]) == (["Gone Wrong"], ["All Done"])
    assert words["resting"] == ["Called Off"]
    assert jobs.broken() == []
