"""The command: its options, exit codes and errors, as a person or a script meets them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from functions.ops.cli import out
from functions.ops.inspect.session import connect
from tests.ops.inspect.world import WORDS, World, jobs

OLD = "now() - interval '3 hours'"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def stuck(world: World) -> World:
    """A running task of kind image and a pending one of kind text, both stuck; and one that is
    fresh."""
    world.run(
        jobs("kind text", "updated_at timestamptz default now()"),
        "insert into jobs (status, kind, created_at, updated_at) "
        f"values ('running', 'image', {OLD}, {OLD}), "
        f"('pending', 'text', {OLD}, {OLD}), ('running', 'image', now(), now())",
    )
    return world


def test_json_has_the_exact_form(stuck: World) -> None:
    answer = stuck.check()
    assert answer.code == 3
    answer_json = answer.json
    assert list(answer_json) == [
        "schema",
        "table",
        "inferred",
        "unsure",
        "refused",
        "stuck",
        "open",
        "unjudged",
        "guarded",
    ]
    assert (
        answer_json["schema"],
        answer_json["table"],
        answer_json["refused"],
        answer_json["open"],
    ) == (1, "public.jobs", None, 3)
    assert answer_json["inferred"] == {
        "key": "id",
        "status": "status",
        "words": {**{state: WORDS[state] for state in WORDS}, "cancelled": [], "resting": []},
        "clocks": {
            "queued": "created_at",
            "started": None,
            "alive": "updated_at",
            "finished": None,
        },
        "error": "error",
        "kind": "kind",
        "owner": None,
        "attempts": None,
    }
    first = answer_json["stuck"][0]
    assert list(first) == ["id", "state", "word", "age_seconds", "reason", "kind", "action"]
    assert (first["state"], first["word"], first["kind"], first["action"]) == (
        "running",
        "running",
        "image",
        "fail",
    )
    assert 10_800 <= first["age_seconds"] < 10_900
    assert "3h" in first["reason"]


def test_the_fix_adds_what_it_ended(stuck: World) -> None:
    answer = stuck.fix()
    assert answer.code == 0
    assert (sorted(answer.json["fixed"]), answer.json["unsweepable"]) == (["1", "2"], [])
    assert list(answer.json)[-2:] == ["fixed", "unsweepable"]
    assert stuck.rows("select status from jobs order by id") == [
        ("failed",),
        ("failed",),
        ("running",),
    ]
    assert stuck.check().code == 0


def test_the_fix_is_dry_without_yes(stuck: World) -> None:
    answer = stuck.check("--fix")
    assert (answer.code, "fixed" in answer.json) == (3, False)
    assert "--fix --yes" in answer.err
    assert stuck.value("select count(*) from jobs where status = 'failed'") == 0


def test_the_fix_asks_a_person_at_a_terminal(stuck: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answered(question: str, *, yes: bool) -> bool:
        asked.append(question)
        return not yes

    monkeypatch.setattr("functions.ops.commands.check.confirmed", answered)
    assert stuck.check("--fix", as_json=False).code == 0
    assert asked == ["Set 2 tasks of public.jobs to 'failed'?"]


def test_a_word_that_the_table_does_not_show_is_asked_for_and_never_written(world: World) -> None:
    world.run(
        "create table jobs (id serial primary key, status text default 'queued', "
        "error text, created_at timestamptz)",
        f"insert into jobs (created_at) values ({OLD})",
    )
    refused = world.fix()
    assert (refused.code, "--word failed=WORD" in refused.err) == (1, True)
    assert world.value("select status from jobs") == "queued"

    assert world.fix("--word", "failed=gone wrong").json["fixed"] == ["1"]
    assert world.value("select status from jobs") == "gone wrong"


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--job-id", "2"), ["2"]),
        (("--job-id", "3"), []),
        (("--kind", "text"), ["2"]),
        (("--kind", "sound"), []),
        (("--limit", "1"), ["1"]),
        (("--older-than", "2h"), ["1", "2"]),
        (("--older-than", "4h"), []),
    ],
    ids=" ".join,
)
def test_options_choose(options: tuple[str, ...], ids: list[str], stuck: World) -> None:
    stuck.run("update jobs set updated_at = now() - interval '200 minutes' where id = 1")
    answer = stuck.check(*options)
    assert (answer.ids(), answer.code) == (ids, 3 if ids else 0)
    assert sorted(stuck.fix(*options).json.get("fixed", [])) == ids


def test_a_limit_is_kept_by_the_fix_and_the_rest_is_told(stuck: World) -> None:
    answer = stuck.fix("--limit", "1")
    assert (len(answer.json["fixed"]), answer.code) == (1, 3)


def test_without_a_table_the_candidates_are_listed_with_the_reason(world: World) -> None:
    world.run(
        jobs(),
        "create table payments (id serial primary key, amount int, currency text, "
        "status text default 'pending')",
        "create table exports (id serial primary key, status text default 'queued', error text)",
        "create table notes (id serial primary key, body text)",
        "create schema auth",
        jobs(name="auth.jobs"),
    )
    answer = world.check(table=None)
    assert answer.code == 0
    assert answer.json["schema"] == 1
    listed = {row["table"]: row for row in answer.json["tables"]}
    assert {name: row["sure"] for name, row in listed.items()} == {
        "public.jobs": "yes",
        "public.exports": "likely",
        "public.payments": "no",
    }
    assert "goods and money" in listed["public.payments"]["refused"]
    assert "'running' for running" in listed["public.jobs"]["why"]
    words = world.check(table=None, as_json=False)
    assert words.out.splitlines()[0] == "table\ttask table\twhy"


def test_words_say_what_was_inferred_how_sure_and_what_is_stuck(stuck: World) -> None:
    answer = stuck.check(as_json=False)
    rows = answer.out.splitlines()
    assert rows[0] == "task\tstatus\tfor\tkind\twhy\t--fix would"
    assert re.match(r"1\trunning\t3h( \d+s)?\timage\t", rows[1])
    assert "public.jobs: key id, status status" in answer.err
    assert "running = running" in answer.err
    assert "not certain" in answer.err
    assert "--map FILE (clocks.alive)" in answer.err
    assert "2 stuck of 3 open" in answer.err
    assert "create index concurrently" in answer.err
    assert answer.err.endswith("Next: the same with --fix ends them\n")


@pytest.mark.parametrize("name", ["jobs", "public.jobs", '"public"."jobs"', "JOBS"])
def test_a_table_is_found_by_any_of_its_names(name: str, stuck: World) -> None:
    assert stuck.check(table=name).json["table"] == "public.jobs"


def test_exact_names_come_before_those_in_another_case(world: World) -> None:
    world.run(jobs(), jobs(name='"Jobs"'), jobs(name='"odd.name"'))
    assert world.check(table="Jobs").json["table"] == "public.Jobs"
    assert world.check(table='public."Jobs"').json["table"] == "public.Jobs"
    assert world.check(table='public."odd.name"').json["table"] == "public.odd.name"
    several = world.check(table="JOBS")
    assert several.code == 1
    assert "public.Jobs" in several.err


def test_a_table_that_is_not_there_is_answered_with_what_is_like_it(stuck: World) -> None:
    answer = stuck.check(table="job")
    assert answer.code == 1
    assert "Did you mean public.jobs?" in answer.err


@pytest.mark.parametrize(
    ("dsn", "code"),
    [
        ("postgresql://nobody@127.0.0.1:1/x", 4),
        ("postgresql://nobody@no-such-host.invalid/x", 4),
        ("no url at all", 2),
        ("mysql://localhost/x", 2),
    ],
)
def test_a_database_that_cannot_be_reached_is_an_error_with_the_next_step(
    dsn: str, code: int, world: World
) -> None:
    world.dsn = dsn
    answer = world.check()
    assert answer.code == code
    assert "--dsn" in answer.err or "Write postgresql://" in answer.err


def test_a_password_is_never_printed(world: World) -> None:
    world.dsn = "postgresql://user:s3cret@127.0.0.1:1/x"
    assert "s3cret" not in world.check().err


def test_without_a_dsn_it_asks_for_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.dsn = ""
    answer = world.check()
    assert (answer.code, "--dsn" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "options",
    [
        ("--older-than", "10y"),
        ("--older-than", "soon"),
        ("--limit", "0"),
        ("--action", "delete"),
        ("--watch", "2s", "--fix"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(options: tuple[str, ...], stuck: World) -> None:
    assert stuck.check(*options).code == 2


def test_a_job_id_that_can_be_no_key_is_wrong_usage(stuck: World) -> None:
    answer = stuck.check("--job-id", "abc")
    assert answer.code == 2
    assert "--job-id" in answer.err


def test_a_kind_where_no_column_tells_it_is_wrong_usage(world: World) -> None:
    world.run(jobs())
    answer = world.check("--kind", "image")
    assert (answer.code, "--map FILE (kind)" in answer.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("status: stat", "status"),
        ("clocks: {alive: beat}", "clocks.alive"),
        ("wrods: {}", "wrods"),
        ("words: {done: [x]}", "words.done"),
        ("words: {failed: [x], completed: [x]}", "words"),
        ("words: {failed: {x: 1}}", "words.failed"),
        ("error: [", "map.yaml"),
        ("", "map.yaml"),
        ("- a\n- b", "map.yaml"),
        ("clocks: {alive: kind}", "clocks.alive"),
        ("attempts: kind", "attempts"),
    ],
)
def test_a_bad_map_is_answered_with_the_key_that_is_wrong(
    text: str, names: str, stuck: World
) -> None:
    file = stuck.folder / "map.yaml"
    file.write_text(text, encoding="utf-8")
    answer = stuck.check("--map", str(file))
    assert answer.code == 2
    assert names in answer.err
    assert "Traceback" not in answer.err


def test_a_map_that_is_not_there_is_named(stuck: World) -> None:
    answer = stuck.check("--map", "/nowhere/map.yaml")
    assert (answer.code, "/nowhere/map.yaml" in answer.err) == (2, True)


def test_a_map_in_yaml_takes_lists_of_clocks_and_other_spellings_of_names(stuck: World) -> None:
    file = stuck.folder / "map.yaml"
    file.write_text(
        "clocks:\n  alive: [Updated_At, created_at]\nerror:\nkind: KIND\n", encoding="utf-8"
    )
    inferred = stuck.check("--map", str(file)).json["inferred"]
    assert inferred["clocks"]["alive"] == ["updated_at", "created_at"]
    assert (inferred["error"], inferred["kind"]) == (None, "kind")


def test_a_word_that_a_map_gives_to_one_state_is_taken_from_the_others(world: World) -> None:
    world.run(jobs(statuses="'pending','running','completed','failed','partial'"))
    file = world.map(words={"completed": ["completed", "partial"]})
    answer = world.check("--map", file).json
    assert answer["inferred"]["words"] | {"resting": []} == answer["inferred"]["words"]
    assert answer["inferred"]["words"]["completed"] == ["completed", "partial"]
    assert not any("'partial'" in sentence for sentence in answer["unsure"])


@pytest.fixture
def weak(stuck: World) -> World:
    """A role that may look and not write, and its view of the database."""
    name = f"weak_{stuck.dsn.rpartition('/')[2]}"
    stuck.run(f"create role {name} login", f"grant select on jobs to {name}")
    yield World(stuck.dsn.replace("postgres@", f"{name}@"), stuck.capsys, stuck.folder)
    stuck.run(f"drop owned by {name}", f"drop role {name}")


def test_a_role_that_may_not_write_is_told_what_to_grant(weak: World) -> None:
    assert weak.check().code == 3
    answer = weak.fix()
    assert answer.code == 1
    assert 'grant update on "public"."jobs"' in answer.err


def test_a_role_that_may_not_read_is_told_what_to_grant(weak: World, stuck: World) -> None:
    stuck.run(f"revoke select on jobs from {weak.dsn.partition('//')[2].partition('@')[0]}")
    answer = weak.check()
    assert answer.code == 1
    assert "grant select" in answer.json["refused"]


def test_rows_that_row_security_hides_are_said(weak: World, stuck: World) -> None:
    stuck.run("alter table jobs enable row level security")
    answer = weak.check()
    assert answer.ids() == []
    assert answer.names("row level security")


def test_a_look_writes_nothing_and_leaves_no_setting_behind(stuck: World) -> None:
    with connect(stuck.dsn) as connection:
        from functions.ops.inspect import check
        from functions.ops.inspect.overdue import Limits
        from functions.ops.inspect.stuck import find_stuck

        before = [
            row[0]
            for row in connection.execute("select setting from pg_settings where name = 'TimeZone'")
        ]
        inferred = check.infer_table(connection, "jobs")
        find_stuck(connection, inferred, Limits())
        after = [
            row[0]
            for row in connection.execute("select setting from pg_settings where name = 'TimeZone'")
        ]
        assert before == after
        assert connection.execute("show default_transaction_read_only").fetchone() == ("off",)
        assert connection.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)
        assert connection.prepare_threshold is None


def test_a_word_to_write_that_nobody_knows_is_asked_for(stuck: World) -> None:
    answer = stuck.fix("--map", stuck.map(words={"running": ["running"], "failed": []}))
    assert answer.code == 1
    assert "words.failed" in answer.err


def test_a_task_that_no_clock_dates_can_be_named(world: World) -> None:
    world.run(
        "create table jobs (id uuid primary key, status text "
        "check (status in ('pending','running','done','failed')))",
        "insert into jobs values ('00000000-0000-0000-0000-000000000001', 'running')",
    )
    answer = world.check()
    assert answer.ids() == []
    assert answer.names("--job-id")
    named = world.fix("--job-id", "00000000-0000-0000-0000-000000000001")
    assert named.json["stuck"][0]["age_seconds"] is None
    assert len(named.json["fixed"]) == 1


def test_a_task_that_a_lease_protects_is_not_ended_by_its_name(world: World) -> None:
    world.run(
        jobs("lease_until timestamptz").replace(
            "created_at timestamptz not null default now(), ", ""
        ),
        "insert into jobs (status, lease_until) values ('running', now() + interval '1 hour')",
    )
    assert world.check("--job-id", "1").ids() == []


def test_many_are_ended_in_batches_and_one_bad_row_among_them_is_reported(world: World) -> None:
    world.run(
        jobs("updated_at timestamptz not null", "note text"),
        "create index on jobs (status)",
        f"insert into jobs (status, updated_at, note) select 'running', {OLD}, "
        "case n when 700 then 'bad' end from generate_series(1, 1300) n",
        "alter table jobs add constraint no_bad check (note is distinct "
        "from 'bad' or status = 'running')",
    )
    answer = world.fix().json
    assert len(answer["fixed"]) == 1299
    assert [task["id"] for task in answer["unsweepable"]] == ["700"]
    assert "no_bad" in answer["unsweepable"][0]["error"]


def test_keys_of_every_kind_are_named_as_they_are(world: World) -> None:
    for kind, value in {
        "uuid": "00000000-0000-0000-0000-00000000000a",
        "text": "it's %s",
        "bigint": "9000000000",
        "smallint": "7",
    }.items():
        world.run(
            "drop table if exists jobs",
            f"create table jobs (id {kind} primary key, status text "
            "check (status in ('pending','running',"
            "'done','failed')), created_at timestamptz)",
        )
        world.run(f"insert into jobs values ($${value}$$, 'running', {OLD})")
        assert world.check().ids() == [value]
        assert world.fix("--job-id", value).json["fixed"] == [value]


def test_strange_names_and_words_are_quoted(world: World) -> None:
    world.run(
        'create schema "my \'schema"',
        'create table "my \'schema"."the ""jobs""" ("the id" serial primary key, '
        '"Status" text check ("Status" in '
        "('it''s queued', 'running', 'done', '100% failed')), \"createdAt\" timestamptz)",
        'insert into "my \'schema"."the ""jobs""" ("Status", "createdAt") '
        f"values ('running', {OLD})",
    )
    answer = world.fix(table='the "jobs"')
    assert answer.json["fixed"] == ["1"]
    assert answer.words("failed") == ["100% failed"]


def test_watch_looks_again_until_it_is_interrupted(stuck: World) -> None:
    command = [
        sys.executable,
        "-m",
        "functions",
        "check",
        "--dsn",
        stuck.dsn,
        "--table",
        "jobs",
        "--watch",
        "0.2s",
        "--json",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, text=True, env=os.environ
    ) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        stuck.run("update jobs set updated_at = now(), created_at = now()")
        seen: dict[str, Any] = first
        until = time.monotonic() + 60
        while seen["stuck"] and time.monotonic() < until:
            seen = json.loads(watching.stdout.readline())
        watching.send_signal(2)
        assert watching.wait(60) == out.INTERRUPTED
    assert len(first["stuck"]) == 2
    assert seen["stuck"] == []


def test_the_help_says_the_numbers_and_the_exit_codes(world: World) -> None:
    help_text = " ".join(world.check("--help").out.split())
    for text in ("30m", "1h", "--older-than", "3 stuck"):
        assert text in help_text
