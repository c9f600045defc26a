"""The migration runner on a real server: what it applies, what it leaves alone, and what it
refuses."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from functions.core.policy import DEFAULT, Policy, load, parse
from functions.core.record import replace
from functions.errors import StoreError
from functions.install import migrate as module
from functions.install import render
from functions.install.migrate import check, migrate, script, steps

SNAPSHOT = Path(__file__).parents[1] / "sql" / "snapshot.sql"
ALL = [
    "0001_ledger",
    "0002_tasks.tasks",
    "0003_one_active.tasks",
    "0003_outbox",
    "0004_repeats",
    "0006_page",
    "0007_evidence",
    "0008_checks",
    "0008_tasks_check.tasks",
    "0009_ended",
    "0010_unsweepable",
    "0012_checkpoints",
    "0013_kept",
    "0013_kinds.tasks",
    "0014_clock_jumps",
    "0015_locks",
    "0016_installations",
    "0017_rehearsals",
    "0018_callback.tasks",
    "0018_told",
    "0019_pauses",
    "0020_turn.tasks",
    "0020_watchdog",
    "0021_turn_index.tasks",
    "0023_withdrawn",
    "0024_clock_mark",
    "0025_worked",
    "0026_turns",
    "0027_rotations",
    "0028_kept",
    "0029_trace",
    "0030_cancelled",
    "shared",
    "verbs.tasks",
]
OBJECTS = """
select format('%s %s', c.relname, c.relkind) from pg_class c
where c.relnamespace in (select oid from pg_namespace where nspname in ('public', 'unstuck'))
union all select format('%s %s', p.proname, md5(p.prosrc)) from pg_proc p
where p.pronamespace in (select oid from pg_namespace where nspname = 'unstuck')
union all select n.nspname from pg_namespace n
"""


def run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def value(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
        return row and row[0]


def objects(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {name for (name,) in connection.execute(OBJECTS)}


@pytest.fixture
def copied_sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The SQL of the bundle in a folder of its own, to edit."""
    for source in render.SQL.rglob("*.sql"):
        target = tmp_path / source.relative_to(render.SQL)
        target.parent.mkdir(exist_ok=True)
        target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(render, "SQL", tmp_path)
    monkeypatch.setattr(module, "SQL", tmp_path)
    return tmp_path


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_it_applies_all_to_an_empty_database(empty_database):
    assert migrate(empty_database) == ALL
    assert value(empty_database, "select count(*) from public.tasks") == 0
    assert value(empty_database, "select unstuck.tasks_create('image') ->> 'verdict'") == "created"


def test_a_second_run_does_nothing(empty_database):
    migrate(empty_database)
    before = objects(empty_database)
    assert migrate(empty_database) == []
    assert objects(empty_database) == before


def test_check_lists_what_is_missing_and_changes_nothing(empty_database):
    before = objects(empty_database)
    assert check(empty_database) == ALL
    assert objects(empty_database) == before
    migrate(empty_database)
    assert check(empty_database) == []


def test_check_lists_a_function_whose_text_has_changed(database, copied_sql):
    append(copied_sql / "beat.sql", "-- changed\n")
    assert check(database) == ["shared"]


def test_a_function_is_replaced_when_its_text_has_changed(database, copied_sql):
    status = copied_sql / "status.sql"
    text = status.read_text(encoding="utf-8")
    status.write_text(text.replace("'verdict', 'missing'", "'verdict', 'gone'"), encoding="utf-8")
    assert migrate(database) == ["verbs.tasks"]
    query = "select unstuck.tasks_status(gen_random_uuid()::text, '{}') ->> 'verdict'"
    assert value(database, query) == "gone"
    assert migrate(database) == []


def test_a_new_migration_runs_alone(database, copied_sql):
    (copied_sql / "migrations" / "0099_more.sql").write_text(
        "create table unstuck.more (n integer);\n", encoding="utf-8"
    )
    assert migrate(database) == ["0099_more"]
    assert value(database, "select count(*) from unstuck.more") == 0


@pytest.mark.parametrize("name", ["0001_ledger", "0002_tasks"])
def test_a_released_migration_that_was_edited_is_refused(database, copied_sql, name):
    append(copied_sql / "migrations" / f"{name}.sql", "create table unstuck.more (n integer);\n")
    before = objects(database)
    for verb in (check, migrate):
        with pytest.raises(
            StoreError, match=f"migration {name}.* differs .* restore its text and write a new one"
        ) as refused:
            verb(database)
        assert not refused.value.retryable
    assert objects(database) == before


def test_a_migration_that_fails_leaves_nothing_behind(database, copied_sql):
    (copied_sql / "migrations" / "0098_more.sql").write_text(
        "create table unstuck.more (n integer);\n", encoding="utf-8"
    )
    (copied_sql / "migrations" / "0099_wrong.sql").write_text(
        "create tabel unstuck.most (n integer);\n", encoding="utf-8"
    )
    before = objects(database)
    with pytest.raises(psycopg.errors.SyntaxError):
        migrate(database)
    assert objects(database) == before
    assert check(database) == ["0098_more", "0099_wrong"]


@pytest.mark.parametrize(
    ("table", "step"), [("public.tasks", "0002_tasks.tasks"), ("unstuck.attempts", "0001_ledger")]
)
def test_a_table_of_that_name_that_is_not_ours_is_refused_and_left_alone(
    empty_database, table, step
):
    run(
        empty_database,
        "create schema unstuck",
        f"create table {table} (mine text)",
        f"insert into {table} values ('keep')",
    )
    before = objects(empty_database)
    with pytest.raises(
        StoreError, match=f"{step}: .*already exists, and it was not made by Unstuck.*policy.yaml"
    ) as refused:
        migrate(empty_database)
    assert not refused.value.retryable
    assert objects(empty_database) == before
    assert value(empty_database, f"select mine from {table}") == "keep"


def test_a_watched_table_that_is_not_there_is_refused_with_the_next_step(empty_database):
    text = (
        DEFAULT.read_text(encoding="utf-8")
        .replace("own: true", "own: false")
        .replace("public.tasks", "public.nowhere")
    )
    with pytest.raises(
        StoreError, match=r"public\.nowhere.* does not exist.*policy\.yaml"
    ) as refused:
        migrate(empty_database, parse(text))
    assert not refused.value.retryable
    assert check(empty_database) == ALL


def test_eight_runs_at_once_are_as_one(empty_database):
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(migrate, [empty_database] * 8))
    assert sorted(map(len, done)) == [0] * 7 + [len(ALL)]
    assert check(empty_database) == []


def test_a_second_watch_is_added_beside_the_first(database):
    policy = load()
    other = replace(policy.watch(), name="videos", table="public.videos")
    policy = replace(policy, watches={**policy.watches, "videos": other})
    assert migrate(database, policy) == [
        "0002_tasks.videos",
        "0003_one_active.videos",
        "0008_tasks_check.videos",
        "0013_kinds.videos",
        "0018_callback.videos",
        "0020_turn.videos",
        "0021_turn_index.videos",
        "verbs.videos",
    ]
    assert value(database, "select unstuck.videos_create('image') ->> 'verdict'") == "created"
    assert value(database, "select count(*) from public.tasks") == 0


def test_the_tables_of_the_ledger_are_closed_to_others(database):
    query = """select array_agg(c.relname::text)
               from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = 'unstuck' and c.relkind in ('r', 'p') and not c.relrowsecurity"""
    assert value(database, query) is None
    assert (
        value(database, "select relrowsecurity from pg_class where oid = 'public.tasks'::regclass")
        is True
    )
    assert value(database, "select has_schema_privilege('public', 'unstuck', 'usage')") is False
    assert (
        value(database, "select has_table_privilege('public', 'public.tasks', 'select')") is False
    )


def test_the_script_applies_to_an_empty_database_as_it_is(empty_database):
    run(empty_database, script(load()))
    assert value(empty_database, "select unstuck.tasks_create('image') ->> 'verdict'") == "created"


def test_the_script_holds_every_step(empty_database):
    text = script(load())
    assert [step.name for step in steps(load())] == ALL
    assert all(step.in_transaction in text for step in steps(load()))
    assert "@" not in text.replace("user@", "")


def test_the_snapshot_in_git_is_what_is_installed():
    """After a change of functions/sql: `make snapshot`, and look at its diff."""
    assert SNAPSHOT.read_text(encoding="utf-8") == script(load()) + "\n"


TWO = """
  tasks_more:
    table: public.more
    key: id
    key_type: bigint
    status: status
    words: {pending: [pending], running: [running], completed: [done], failed: [failed]}
    columns: {}
    fence: observe
    rules:
      "*": {pending_for: 1h, redispatch_after: 2m, run_for: 5m, silent_for: 30m,
            attempts: 3, on_lost: retry, on_error: retry,
            backoff: {first: 2s, factor: 4, max: 5m}, isolation: process, memory: 400MB}
"""
MORE = """create table public.more (
  id bigint generated always as identity primary key,
  status text default 'pending'
)"""


def test_a_watch_that_left_the_policy_goes_and_its_ledger_stays(database):
    run(database, MORE, "insert into public.more default values")
    before = objects(database)
    policy, two = load(str(DEFAULT)), parse(DEFAULT.read_text(encoding="utf-8") + TWO)
    migrate(database, two)
    assert value(database, "select count(*) from pg_trigger where tgname = 'unstuck_observe'") == 1
    run(
        database,
        f"select unstuck.tasks_more_claim('1', 'w', '{two.watch('tasks_more').rules_json}')",
    )

    with pytest.raises(
        psycopg.errors.ObjectInUse, match="has no watch tasks_more any more, but 1 of its tasks run"
    ):
        migrate(database, policy)
    assert value(database, "select count(*) from pg_trigger where tgname = 'unstuck_observe'") == 1

    run(database, "update unstuck.attempts set lease_until = clock_timestamp() - interval '1 s'")
    assert check(database, policy) == ["gone.tasks_more"]
    assert migrate(database, policy) == ["gone.tasks_more"]
    assert objects(database) == before
    assert value(database, "select count(*) from pg_trigger where tgname = 'unstuck_observe'") == 0
    assert value(database, "select count(*) from unstuck.attempts where watch = 'tasks_more'") == 1
    run(database, "update public.more set status = 'done'")
    assert check(database, policy) == []
    assert "verbs.tasks_more" in migrate(database, two)


def test_only_who_keeps_ended_tasks_for_a_time_pays_for_the_indexes_that_find_them():
    more = {step.name for step in steps(_keeping_a_day())} - {step.name for step in steps(load())}
    assert more == {"0022_retention.tasks"}


def _keeping_a_day() -> Policy:
    policy = load()
    watch = policy.watch()
    rules = {"*": replace(watch.rule("*"), retention_completed=86_400.0)}
    return replace(policy, watches={watch.name: replace(watch, rules=rules)})


def test_a_retention_that_is_added_later_gets_its_indexes(database):
    assert "0022_retention.tasks" in migrate(database, _keeping_a_day())
    assert value(database, "select to_regclass('public.tasks_ended') is not null")


def test_no_file_makes_a_function_that_another_makes_too():
    """The later one would take its place in the database, and nothing would say so."""
    statement = re.compile(r"^create or replace function ([\w.@]+)", re.MULTILINE)
    made = [
        (name, path.name)
        for path in sorted(render.SQL.glob("*.sql"))
        for name in set(statement.findall(path.read_text()))
    ]
    files = Counter(name for name, _ in made)
    assert [place for place in made if files[place[0]] > 1] == []
