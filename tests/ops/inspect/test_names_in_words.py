"""A column is known by the words of its name and by what it holds, and check says what it takes it
for."""

from functions.ops import adopt
from functions.ops.inspect import check
from functions.ops.inspect.session import connect
from tests.ops.inspect.world import World

PHASES = "phase text not null check (phase in ('enqueued', 'cutting', 'finished', 'broken'))"


def columns_of(world: World, table: str) -> tuple[dict[str, str], list[str]]:
    """The columns that the watch of a table names, by what they are; and what is unsure."""
    with connect(world.dsn) as connection:
        inferred = check.infer_table(connection, table)
        return adopt.policy(adopt.watch(inferred)).watch().columns, inferred.unsure


def test_words_of_form_are_no_part_of_a_name(world: World) -> None:
    world.run(
        f'create table "Cuttings" ("cuttingId" uuid primary key, {PHASES}, "lastProblem" text, '
        '"paramsBlob" jsonb not null default \'{}\', "rawOutput" jsonb, "attemptsSoFar" smallint '
        'not null default 0, "maxAttemptsAllowed" smallint, "pagesTotal" integer, '
        '"bornAt" timestamptz not null default now())'
    )
    columns, unsure = columns_of(world, "Cuttings")
    assert columns == {
        "input": "paramsBlob",
        "result": "rawOutput",
        "error": "lastProblem",
        "attempts_at_most": "maxAttemptsAllowed",
        "attempts": "attemptsSoFar",
    }
    assert any("attemptsSoFar is taken for the count of the tries" in text for text in unsure)


def test_rows_tell_which_document_a_task_gets_and_which_it_makes(world: World) -> None:
    world.run(
        f"create table cuttings (no bigint generated always as identity primary key, {PHASES}, "
        "problem text, blueprint jsonb, offcuts jsonb, born_at timestamptz default now())",
        "insert into cuttings (phase, blueprint, offcuts) values ('enqueued', '{\"a\": 1}', null), "
        "('cutting', '{\"a\": 2}', null), ('finished', '{\"a\": 3}', '{\"b\": 4}')",
    )
    columns, unsure = columns_of(world, "cuttings")
    assert (columns["input"], columns["result"]) == ("blueprint", "offcuts")
    assert any("offcuts is taken for what a handler returns" in text for text in unsure)


def test_a_document_beside_a_text_that_waits_as_well_is_not_all_of_the_order(world: World) -> None:
    world.run(
        f"create table cuttings (no bigint generated always as identity primary key, {PHASES}, "
        "problem text, blueprint jsonb, drawing text, born_at timestamptz default now())",
        "insert into cuttings (phase, blueprint, drawing) values "
        "('enqueued', '{\"a\": 1}', 'a.svg')",
    )
    assert "input" not in columns_of(world, "cuttings")[0]


class TestDurations:
    def test_what_finished_rows_took_a_running_one_may_take(self, world: World) -> None:
        world.run(
            f"create table cuttings (no bigint generated always as identity primary key, {PHASES}, "
            "problem text, born_at timestamptz, started_at timestamptz, finished_at timestamptz)",
            "insert into cuttings (phase, born_at, started_at, finished_at) select 'finished', "
            "now() - interval '9 d', now() - interval '9 d', now() - interval '9 d' + n * "
            "interval '4 min' from generate_series(1, 30) n",
            "insert into cuttings (phase, born_at, started_at) values "
            "('cutting', now() - interval '9 h', now() - interval '100 min'), "
            "('cutting', now() - interval '9 h', now() - interval '9 h')",
        )
        answer = world.check(table="cuttings")
        assert answer.ids() == ["32"]
        assert "allowed 8h" in answer.json["stuck"][0]["reason"]
        assert answer.names("no sign of life for 8h, and not for 30m: p99 of 30 finished rows")
        assert world.check("--older-than", "1h", table="cuttings").ids() == ["32", "31"]
        with connect(world.dsn) as connection:
            [entry] = adopt.watch(check.infer_table(connection, "cuttings")).values()
        assert entry["rules"]["*"]["silent_for"] == "8h"


class TestRowSecurity:
    def test_rows_that_may_be_hidden_are_not_counted_as_none(self, world: World) -> None:
        world.run(
            f"create table cuttings (no bigint generated always as identity primary key, {PHASES}, "
            "problem text, born_at timestamptz default now())",
            "insert into cuttings (phase, born_at) values ('enqueued', now() - interval '9 h')",
            "do $$ begin create role cutter login; exception when duplicate_object then end $$",
            "grant select, update on cuttings to cutter",
            "grant usage on schema public to cutter",
            "alter table cuttings enable row level security",
            "create policy theirs on cuttings using (current_setting('cut.who', true) = 'me')",
        )
        user, _, place = world.dsn.partition("@")
        theirs = World(f"{user.rpartition('/')[0]}/cutter@{place}", world.capsys, world.folder)
        answer = theirs.check(table="cuttings")
        assert (answer.code, answer.ids()) == (5, [])
        assert answer.names("row level security may hide rows")
        assert "cannot say of all" in theirs.check(table="cuttings", as_json=False).err
        assert world.check(table="cuttings").code == 3, "a superuser sees them all"
        world.run("create policy all_of_them on cuttings for select to cutter using (true)")
        answer = theirs.check(table="cuttings")
        assert (answer.code, answer.ids()) == (3, ["1"])


def test_a_count_with_a_limit_in_its_name_is_the_most_tries(world: World) -> None:
    world.run(
        f'create table cuttings ("cuttingId" uuid primary key, {PHASES}, problem text, '
        '"triesSoFar" smallint not null default 0, "triesAllowed" smallint, born_at timestamptz)'
    )
    columns, _ = columns_of(world, "cuttings")
    assert (columns["attempts"], columns["attempts_at_most"]) == ("triesSoFar", "triesAllowed")


def test_the_text_that_failed_rows_alone_have_is_their_reason(world: World) -> None:
    world.run(
        f"create table cuttings (no bigint generated always as identity primary key, {PHASES}, "
        "grumble text, material text, born_at timestamptz default now())",
        "insert into cuttings (phase, grumble, material) values ('broken', 'The blade is blunt.', "
        "'oak'), ('broken', 'No power.', 'elm'), ('finished', null, 'ash')",
    )
    columns, unsure = columns_of(world, "cuttings")
    assert columns["error"] == "grumble"
    assert any("grumble is taken for the reason of a failure" in text for text in unsure)


def test_the_one_word_that_is_left_is_the_good_end(world: World) -> None:
    world.run(
        "create table cuttings (no bigint generated always as identity primary key, phase text not "
        "null default 'enqueued' check (phase in ('enqueued', 'cutting', 'cut', 'failed')), "
        "problem text, born_at timestamptz default now())"
    )
    answer = world.check(table="cuttings")
    assert answer.words("completed") == ["cut"]
    assert answer.names("'cut' is read as completed (the only word that is left")
    world.run(
        "alter table cuttings drop constraint cuttings_phase_check, add check "
        "(phase in ('enqueued', 'cutting', 'cut', 'kept', 'failed'))"
    )
    assert world.check(table="cuttings").words("completed") == []


def test_a_flag_beside_a_reason_of_failures_is_of_workers(world: World) -> None:
    world.run(
        "create table cuttings (no serial primary key, is_running boolean not null default false, "
        "done_at timestamptz, cutting_problem text, asked_at timestamptz not null default now())"
    )
    assert world.check(table="cuttings").code == 0
    world.run("alter table cuttings drop column cutting_problem")
    assert world.check(table="cuttings").code == 1


def test_a_beat_in_a_text_gets_a_time_and_no_name(world: World) -> None:
    world.run(
        f"create table cuttings (no serial primary key, {PHASES}, problem text, "
        '"lastPingAt" text, "createdAt" text not null)'
    )
    with connect(world.dsn) as connection:
        [entry] = adopt.watch(check.infer_table(connection, "cuttings")).values()
    assert entry["also"]["running"] == {"lastPingAt": "now"}
