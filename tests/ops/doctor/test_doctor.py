"""doctor: a healthy table breaks nowhere, each trap is found by its own check, and a run leaves no
trace."""

import json
import time
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from functions.core.policy import DEFAULT, Policy, load, parse
from functions.install.migrate import migrate
from functions.ops.command_line import main
from functions.ops.doctor import deployment, examine
from functions.ops.doctor.finding import Finding
from functions.ops.doctor.session import rolled_back
from functions.ops.inspect import check
from functions.ops.inspect.indexes import recommended
from functions.ops.inspect.session import connect
from functions.store.postgres import PostgresStore

HEAD = """
platform: {timeout: 600s, margin: 15s}
lease: {beat: 10s, for: 30s}
sweep: {every: 60s, budget: 45s, batch: 500, retention: 30d,
        mass_expiry: {at_least: 10, share: 0.5}}
watches:
  jobs:
    table: public.jobs
    key: id
    key_type: bigint
    status: status
    words: {pending: [queued], running: [working], completed: [done], failed: [broken]}
    columns: {error: error}
    clocks: {queued: created_at, started: started_at,
             alive: [beat_at, started_at, created_at], finished: ended_at}
    rules:
      "*": {pending_for: 15m, redispatch_after: 2m, run_for: 500s, silent_for: 15m, attempts: 3,
            backoff: {first: 2s, factor: 4, max: 5m}, on_lost: retry, on_error: retry,
            isolation: process, memory: 400MB}
"""
COLUMNS = {
    "id": "bigint generated always as identity primary key",
    "status": "text not null default 'queued'",
    "error": "text",
    "created_at": "timestamptz not null default now()",
    "started_at": "timestamptz",
    "beat_at": "timestamptz",
    "ended_at": "timestamptz",
}
LISTED = "check (status in ('queued', 'working', 'done', 'broken'))"


class World:
    """A database with a table `jobs`, and what a doctor says of it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.policy = parse(HEAD)

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def jobs(
        self, *constraints: str, head: str = HEAD, installed: bool = True, **columns: str
    ) -> "World":
        """The table, with one task of each word, and the guard installed."""
        definitions = [f"{name} {kind}" for name, kind in (COLUMNS | columns).items() if kind]
        self.run(f"create table jobs ({', '.join([*definitions, *constraints])})")
        words = "array['queued', 'working', 'done', 'broken']"
        if "job_status" in str(columns):
            words = "enum_range(null::job_status)"
        self.run(f"insert into jobs (status) select unnest({words})")
        self.policy = parse(head)
        if installed:
            migrate(self.dsn, self.policy)
        return self

    def examine(self) -> list[Finding]:
        return examine(self.dsn, self.policy, list(self.policy.watches.values()))

    def findings(self, check: str, level: str) -> list[Finding]:
        findings = [
            finding
            for finding in self.examine()
            if (finding.check, finding.level) == (check, level)
        ]
        for finding in findings:
            assert finding.fact
            assert level == "fine" or (finding.why and finding.do), "why, and what to do"
        return findings

    def only_finding(self, check: str, level: str) -> str:
        findings = self.findings(check, level)
        assert len(findings) == 1, findings
        return f"{findings[0].fact} | {findings[0].why} | {findings[0].do}"


@pytest.fixture
def world(empty_database: str) -> World:
    return World(empty_database)


def test_no_check_is_compiled(empty_database):
    """Up to PostgreSQL 17 that was half of the time on a table without an index."""
    with connect(empty_database) as connection, rolled_back(connection):
        assert connection.execute("show jit").fetchone() == ("off",)


def broken(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "breaks"]


def test_nothing_breaks_in_the_default_watch_without_a_single_task(database: str) -> None:
    policy = load()
    findings = examine(database, policy, list(policy.watches.values()))
    assert broken(findings) == []
    assert [finding.check for finding in findings if finding.level == "warns"] == ["sweep"], (
        "it has never been swept"
    )


def test_nothing_breaks_in_the_default_watch_with_tasks_in_each_state(database: str) -> None:
    policy, store = load(), PostgresStore(database)
    watch = policy.watch()
    for _ in range(4):
        store.create(watch, "image", {})
    store.create(watch, "image", {}, delay=3600.0)
    completed, failed = store.claim(watch, None, "w"), store.claim(watch, None, "w")
    store.settle(watch, completed.task_id, completed.token, "complete", result={})
    store.settle(watch, failed.task_id, failed.token, "fail")
    store.operate(watch, "cancel", [store.claim(watch, None, "w").task_id])
    store.claim(watch, None, "w")
    store.close()
    findings = examine(database, policy, [watch])
    assert broken(findings) == []
    assert not [
        finding for finding in findings if finding.check == "tries" and finding.level == "warns"
    ]


def test_a_plain_adopted_table_breaks_nowhere(world: World) -> None:
    world.jobs(LISTED)
    assert broken(world.examine()) == []
    assert world.only_finding("tries", "fine").startswith(
        "14 actions work, tried on tasks that are 'queued', 'working', 'broken'"
    )


def test_a_run_changes_nothing(world: World) -> None:
    world.jobs(LISTED, "check (error is null or length(error) < 20)")
    store = PostgresStore(world.dsn)
    store.claim(world.policy.watch(), "1", "w")
    store.close()
    tables = (
        "jobs",
        "unstuck.attempts",
        "unstuck.refusals",
        "unstuck.dispatches",
        "unstuck.observed",
        "unstuck.sweeps",
    )
    sums = " union all ".join(
        f"select '{table}', md5(string_agg(t::text || t.ctid::text || t.xmin::text, ',' "
        f"order by t::text)) from {table} t"
        for table in tables
    )
    before = world.rows(sums)
    assert broken(world.examine())
    assert world.rows(sums) == before


def test_the_command_exits_3_when_something_would_break_and_0_otherwise(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--dsn", database, "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {tuple(finding) for finding in findings} == {
        ("watch", "level", "check", "what", "why", "do")
    }
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop function unstuck.prune")
        connection.execute("delete from unstuck.migrations where name = 'shared'")
    assert main(["doctor", "--dsn", database, "--in", "tasks"]) == 3
    output = capsys.readouterr()
    assert "migrations" in output.out
    assert "1 breaks" in output.err


def test_a_database_that_does_not_answer_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--dsn", "postgresql://nobody@127.0.0.1:1/x", "--json"]) == 4
    assert [finding["check"] for finding in json.loads(capsys.readouterr().out)["findings"]] == [
        "reachable"
    ]


def test_an_unknown_watch_is_a_usage_error(database: str) -> None:
    assert main(["doctor", "--dsn", database, "--in", "nope"]) == 2


def test_an_old_server_breaks() -> None:
    assert [finding.level for finding in deployment.version(140009)] == ["breaks"]
    assert [finding.level for finding in deployment.version(150004)] == ["fine"]


def test_missing_migrations_break_and_the_actions_are_tried_all_the_same(world: World) -> None:
    world.jobs(LISTED, installed=False)
    assert "migrate --apply" in world.only_finding("migrations", "breaks")
    assert "14 actions work" in world.only_finding("tries", "fine")
    assert world.rows("select to_regnamespace('unstuck')") == [(None,)]


def test_a_trigger_is_not_installed_for_a_try(world: World) -> None:
    world.jobs(installed=False, head=HEAD.replace("    rules:", "    fence: enforce\n    rules:"))
    assert "not installed" in world.only_finding("tries", "warns")


def test_a_table_on_which_nobody_sees_that_a_task_is_put_back_warns(world: World) -> None:
    world.jobs(LISTED)
    assert [f for f in world.examine() if f.check == "put back"] == []
    world.run("drop trigger unstuck_put_back on public.jobs")
    assert "as the owner" in world.only_finding("put back", "warns")


def test_a_handler_that_is_missing_is_named_with_its_place(world: World) -> None:
    world.jobs()
    text = world.only_finding("handlers", "warns")
    assert "no handler for the tasks of public.jobs" in text
    assert "`def handle(ctx, task_input)` into functions/handlers/jobs.py" in text
    world.policy = parse(
        HEAD.replace("memory: 400MB", "memory: 400MB, handler: 'tests.handlers.test_testing:draw'")
    )
    assert "each kind" in world.only_finding("handlers", "fine")


def test_a_missing_table_breaks(world: World) -> None:
    assert "public.jobs" in world.only_finding("table", "breaks")


def test_a_missing_column_breaks_and_the_like_is_named(world: World) -> None:
    world.jobs(beat_at="", installed=False)
    world.run("alter table jobs add beaten_at timestamptz")
    assert "beaten_at" in world.only_finding("columns", "breaks")


def test_a_key_of_another_type_breaks(world: World) -> None:
    world.jobs(id="uuid primary key default gen_random_uuid()", installed=False)
    assert "key_type: uuid" in world.only_finding("key", "breaks")


def test_a_key_that_is_not_unique_breaks(world: World) -> None:
    world.jobs(id="bigint generated always as identity")
    assert "not unique" in world.only_finding("key", "breaks")


def test_a_key_that_a_partitioned_table_shares_with_its_time_warns(world: World) -> None:
    """The database makes it up, so that it is unique as long as nobody writes it by hand."""
    world.jobs("primary key (id, created_at)", id="bigint generated always as identity")
    assert "not unique" in world.only_finding("key", "warns")


def test_a_word_that_the_check_refuses_breaks(world: World) -> None:
    world.jobs(installed=False)
    world.run(
        "delete from jobs where status = 'broken'",
        "alter table jobs add check (status in ('queued', 'working', 'done', 'broke', 'parked'))",
    )
    migrate(world.dsn, world.policy)
    assert "Write 'broke'" in world.only_finding("words", "breaks")
    assert "'parked'" in world.only_finding("words", "warns")
    failed = world.findings("tries", "breaks")
    assert any(
        "sweep to failed" in finding.fact and "(23514)" in finding.fact for finding in failed
    )


def test_a_word_that_the_enum_does_not_know_breaks(world: World) -> None:
    world.run("create type job_status as enum ('queued', 'working', 'done')")
    world.jobs(status="job_status not null default 'queued'", installed=False)
    assert "the enum does not know 'broken'" in world.only_finding("words", "breaks")
    assert any("(22P02)" in finding.fact for finding in world.findings("migrations", "breaks")), (
        "a function of SQL asks for it by then"
    )


def test_a_check_between_times_breaks_on_the_status_that_it_concerns(world: World) -> None:
    """A queued row has no start, and the CHECK of a real table wants one before the end."""
    world.jobs("constraint valid_dates check (ended_at is null or started_at is not null)")
    facts = [finding.fact for finding in world.findings("tries", "breaks")]
    assert any(
        "'queued'" in finding and "sweep to failed" in finding and "valid_dates" in finding
        for finding in facts
    )


def test_a_trigger_that_refuses_is_told_in_its_own_words(world: World) -> None:
    world.jobs()
    world.run(
        "create function refuse() returns trigger language plpgsql as $$ begin "
        "if new.status = 'queued' then raise exception 'never back'; end if; return new; end $$",
        "create trigger refuse before update on jobs for each row execute function refuse()",
    )
    text = str(world.findings("tries", "breaks"))
    assert "sweep to pending" in text
    assert "requeue" in text
    assert "never back (P0001)" in text


def test_a_trigger_that_silently_keeps_the_row_breaks(world: World) -> None:
    world.jobs()
    world.run(
        "create function keep() returns trigger language plpgsql as $$ begin return old; end $$",
        "create trigger keep before update on jobs for each row execute function keep()",
    )
    assert any(
        "the task is running afterwards, not failed" in finding.fact
        for finding in world.findings("tries", "breaks")
    )


def test_a_state_without_a_task_is_tried_on_another_task(world: World) -> None:
    world.jobs(LISTED)
    world.run("delete from jobs where status <> 'done'")
    assert world.findings("tries", "warns") == []
    assert len(world.findings("tries", "fine")) == 1


def test_what_could_not_be_tried_is_said(world: World) -> None:
    world.jobs(LISTED, owner="text")
    world.run("delete from jobs", "alter table jobs alter owner set not null")
    findings = world.findings("tries", "warns")
    assert any("'queued'" in finding.fact and "not tried" in finding.fact for finding in findings)
    assert broken(world.examine()) == []


def test_a_missing_index_is_told_with_the_statement_that_creates_it(world: World) -> None:
    world.jobs()
    findings = world.findings("index", "warns")
    assert [finding.do for finding in findings] == [
        'create index concurrently on "public"."jobs" ("created_at") where "status" = \'queued\';',
        'create index concurrently on "public"."jobs" ("beat_at") where "status" = \'working\';',
    ]
    world.run("create index on jobs (created_at)")
    assert len(world.findings("index", "warns")) == 2, (
        "an index on the clock alone leads to nearly all rows"
    )
    world.run(*(finding.do for finding in findings))
    assert world.findings("index", "warns") == []


def test_an_index_on_the_status_will_do(world: World) -> None:
    world.jobs()
    world.run("create index on jobs (status, created_at)")
    assert world.findings("index", "warns") == []


def test_no_clock_that_proves_life_warns(world: World) -> None:
    world.jobs(
        head=HEAD.replace(
            "alive: [beat_at, started_at, created_at]", "alive: [started_at, created_at]"
        )
    )
    assert "started_at and created_at" in world.only_finding("life", "warns")


def test_an_updated_at_that_nothing_moves_warns(world: World) -> None:
    world.jobs(head=HEAD.replace("beat_at", "updated_at"), updated_at="timestamptz")
    assert "no trigger moves updated_at" in world.only_finding("updated", "warns")
    world.run(
        "create function moved() returns trigger language plpgsql as $$ begin new.updated_at = "
        "now(); return new; end $$",
        "create trigger moved before update on jobs for each row execute function moved()",
    )
    assert world.findings("updated", "warns") == []


def test_an_error_column_whose_width_nobody_stated_breaks(world: World) -> None:
    world.jobs(error="varchar(64)")
    assert "varchar(64)" in world.only_finding("width", "breaks")
    assert any("(22001)" in finding.fact for finding in world.findings("tries", "breaks"))


def test_a_narrow_error_column_warns(world: World) -> None:
    world.jobs(
        error="varchar(64)",
        head=HEAD.replace("    rules:", "    types: {error: varchar(64)}\n    rules:"),
    )
    assert "64 characters" in world.only_finding("width", "warns")
    assert broken(world.examine()) == []


def test_a_clock_that_rounds_and_of_which_nobody_said_so_warns(world: World) -> None:
    world.jobs(started_at="timestamptz(0)")
    assert "started_at: timestamptz(0)" in world.only_finding("rounding", "warns")


def test_a_unique_index_that_names_the_status_warns(world: World) -> None:
    world.jobs("unique (room, status)", room="text")
    assert "jobs_room_status_key" in world.only_finding("unique", "warns")
    world.run("update jobs set room = 'a'")
    assert any("(23505)" in finding.fact for finding in world.findings("tries", "breaks"))


def test_a_time_without_zone_is_told(world: World) -> None:
    world.jobs(created_at="timestamp not null default (now() at time zone 'UTC')")
    assert "types: {created_at: timestamp}" in world.only_finding("zone", "warns")
    world.policy = parse(
        HEAD.replace("    rules:", "    types: {created_at: timestamp}\n    rules:")
    )
    assert "is read as UTC" in world.only_finding("zone", "warns")
    world.policy = parse(HEAD)
    world.run(
        f"alter database {world.dsn.rpartition('/')[2].partition('?')[0]} set timezone = "
        "'Asia/Tokyo'"
    )
    assert "Asia/Tokyo" in world.only_finding("zone", "breaks")


def test_a_clock_that_is_off_warns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.jobs()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 5)
    assert "ahead of" in world.only_finding("clock", "warns")


def test_numbers_that_do_not_fit_warn(world: World) -> None:
    head = HEAD.replace("retention: 30d", "retention: 10m").replace(
        "queued: created_at", "queued: created_at, due: due_at"
    )
    world.jobs(head=head.replace("every: 60s", "every: 5m"), due_at="timestamptz")
    text = str(world.findings("numbers", "warns"))
    assert "retention" in text
    assert "never_claimed" in text
    assert "rarer" in text


@pytest.mark.parametrize(("runs_on", "warned"), [("function", True), ("pool", False)])
def test_a_timeout_that_cloud_tasks_does_not_wait_for_warns_where_it_pushes(
    runs_on: str, warned: bool, world: World
) -> None:
    longer = HEAD.replace("timeout: 600s", "timeout: 1h").replace(
        "silent_for: 15m", f"silent_for: 2h, runs_on: {runs_on}"
    )
    world.jobs(head=longer)
    assert ("Cloud Tasks waits 30m" in str(world.findings("numbers", "warns"))) is warned


def test_the_last_sweep_is_told(world: World) -> None:
    world.jobs()
    assert "no sweep has run" in world.only_finding("sweep", "warns")
    world.run(
        "insert into unstuck.sweeps (started_at, until, ok) select t, t, true from (select now() "
        "- interval '1 h') x (t)"
    )
    assert "was 1h ago" in world.only_finding("sweep", "warns")
    world.run(
        "insert into unstuck.sweeps (until, ok, error) values (now(), false, 'no such column')"
    )
    assert "no such column" in world.only_finding("sweep", "warns")
    world.run("insert into unstuck.sweeps (until, ok) values (now(), true)")
    assert len(world.findings("sweep", "fine")) == 1


def test_a_queue_that_is_slower_than_its_arrivals_is_told_with_its_numbers(world: World) -> None:
    world.jobs()
    world.run("insert into jobs (status) select 'queued' from generate_series(1, 4)")
    finding = world.only_finding("pace", "warns")
    assert "5 tasks came" in finding
    assert "0 were taken; 5 wait" in finding
    world.run("update jobs set status = 'done' where status = 'queued'")
    assert len(world.findings("pace", "fine")) == 1


def test_a_pause_that_is_older_than_a_day_is_named_with_who_and_why(world: World) -> None:
    world.jobs()
    world.run("select unstuck.pause('jobs', '*', null, 'ada', 'the printer is broken')")
    assert world.findings("pauses", "warns") == []
    world.run("update unstuck.pauses set since = now() - interval '2 days'")
    finding = world.only_finding("pauses", "warns")
    assert "all of it is paused since 2d by ada: the printer is broken" in finding
    world.run("select unstuck.resume('jobs', '*', 'ada')")
    assert world.findings("pauses", "warns") == []


def test_a_row_that_retention_could_not_delete_is_named_with_the_reason(world: World) -> None:
    world.jobs()
    assert world.findings("retention", "warns") == []
    world.run("select unstuck.keep('jobs', '7', '23503', 'pages refers to it')")
    finding = world.only_finding("retention", "warns")
    assert "1 ended task could not be deleted, last 7: pages refers to it" in finding


def test_failures_that_nobody_is_told_of_warn(world: World) -> None:
    world.jobs()
    world.policy = parse(HEAD.replace("    key: id\n", "    key: id\n    notify: false\n"))
    world.run(
        "insert into unstuck.outbox (watch, task_id, number, kind, reason, at) "
        "values ('jobs', '1', 1, 'job', 'stale', now() - interval '1 h')"
    )
    assert world.findings("notify", "fine") == world.findings("notify", "warns") == [], (
        "no watch wants to be told"
    )
    world.policy = parse(HEAD.replace("    key: id\n", "    key: id\n    notify: true\n"))
    migrate(world.dsn, world.policy)
    assert "1 end still to be told, the oldest since 1h" in (
        text := world.only_finding("notify", "warns")
    )
    assert "NOTIFY_URL" in text
    world.run("update unstuck.outbox set at = now()")
    assert len(world.findings("notify", "fine")) == 1
    world.run("update unstuck.outbox set ended_at = now(), outcome = 'given up'")
    assert "1 end could not be told in a day" in world.only_finding("notify", "warns")


@pytest.fixture
def outsider(world: World):
    world.run("create role doctor_outsider login")
    yield world
    world.run("drop owned by doctor_outsider", "drop role doctor_outsider")


def as_outsider(world: World) -> list[Finding]:
    with psycopg.connect(world.dsn) as connection:
        user = connection.info.user
    outside = World(
        world.dsn.replace(f"//{user}@", "//doctor_outsider@").replace(
            f"user={user}", "user=doctor_outsider"
        )
    )
    outside.policy = world.policy
    assert outside.rows("select current_user") == [("doctor_outsider",)]
    return outside.examine()


def test_a_role_without_grants_breaks(outsider: World) -> None:
    outsider.jobs()
    text = " ".join(finding.fact for finding in broken(as_outsider(outsider)))
    assert "may not read or update public.jobs" in text


def test_a_role_under_row_level_security_breaks(outsider: World) -> None:
    outsider.jobs()
    outsider.run(
        "grant usage on schema public, unstuck to doctor_outsider",
        "grant all on all tables in schema public, unstuck to doctor_outsider",
        "alter table jobs enable row level security",
    )
    assert any("row level security" in finding.fact for finding in broken(as_outsider(outsider)))


def test_other_writers_without_a_fence_warn(world: World) -> None:
    world.jobs()
    assert world.findings("fence", "warns") == []
    world.run(
        "create function finish(n bigint) returns void language sql as "
        "$$ update jobs set status = 'done' where id = n $$"
    )
    assert "finish" in world.only_finding("fence", "warns")


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("db.x.supabase.co", 5432, "direct"),
        ("aws-0-eu.pooler.supabase.com", 6543, "a transaction pooler"),
        ("aws-0-eu.pooler.supabase.com", 5432, "session mode"),
        ("pgbouncer", 5432, "a transaction pooler"),
    ],
)
def test_a_pooler_is_told(host: str, port: int, text: str) -> None:
    findings = deployment.pooler(SimpleNamespace(info=SimpleNamespace(host=host, port=port)))
    assert [finding.level for finding in findings] == ["fine"]
    assert text in findings[0].fact


def test_hooks_run_and_are_rolled_back(world: World) -> None:
    world.run(
        "create table refunds (id text)",
        "create function refund(task text, attempt integer, reason text) returns void language "
        "sql as "
        "$$ insert into refunds values (task) $$",
    )
    world.jobs(
        LISTED, head=HEAD.replace("    rules:", "    hooks: {on_failed: public.refund}\n    rules:")
    )
    assert broken(world.examine()) == []
    assert world.rows("select * from refunds") == []
    world.run("drop table refunds")
    assert any("refunds" in finding.fact for finding in world.findings("tries", "breaks"))


def test_every_watch_of_a_policy_is_checked(database: str) -> None:
    policy: Policy = parse(
        HEAD
        + HEAD.partition("watches:\n")[2].replace("  jobs:", "  more:").replace(".jobs", ".more")
    )
    findings = examine(database, policy, list(policy.watches.values()))
    assert {finding.watch for finding in findings if finding.check == "table"} == {"jobs", "more"}


@pytest.mark.parametrize("installed", [True, False])
def test_what_the_next_sweep_decides_is_told_before_it_does(installed: bool, world: World) -> None:
    world.jobs(installed=False)
    world.run(
        "insert into jobs (status, created_at) values "
        "('queued', now() - interval '9 days'), "
        "('working', now() - interval '9 days'), "
        "('working', now() - interval '9 hours')"
    )
    if installed:
        migrate(world.dsn, world.policy)
    finding = world.only_finding("next sweep", "warns")
    assert "settles 3 tasks" in finding
    assert "ends as failed 1 pending, 9d" in finding
    assert "ends as failed 1 running, 9d" in finding
    assert "starts again 1 running, 9h" in finding


def test_a_table_of_others_in_our_place_is_one_finding(world: World) -> None:
    world.policy = parse(DEFAULT.read_text(encoding="utf-8"))
    world.run("create table tasks (id serial primary key, title text)")
    finding = world.only_finding("table", "breaks")
    assert "was not made by Unstuck" in finding
    assert world.findings("columns", "breaks") == []


def test_check_and_doctor_name_the_same_index(world: World) -> None:
    world.jobs(LISTED)
    named = {finding.do for finding in world.findings("index", "warns")}
    with connect(world.dsn) as connection:
        assert set(recommended(check.infer_table(connection, "jobs"))) == named
