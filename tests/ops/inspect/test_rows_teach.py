"""What names alone do not tell is told by the rows, and what nothing tells is asked for: each table
here stands for a kind of mistake that a list of names cannot mend."""

from typing import Any

import pytest

from functions.ops import adopt
from functions.ops.inspect import check
from functions.ops.inspect.session import connect
from tests.ops.inspect.world import World

OLD = "now() - interval '3 hours'"
TIMES = f"made_on timestamptz not null default {OLD}, touched_on timestamptz not null default {OLD}"
CLOSED = "('enqueued', 'working', 'finished', 'broken')"


def table(world: World, name: str, columns: str, *rows: str) -> None:
    world.run(
        f"create table {name} (no bigint generated always as identity primary key, {columns})"
    )
    for row in rows:
        world.run(f"insert into {name} {row}")


class TestTimes:
    def test_a_time_ahead_of_rows_that_wait_is_when_they_are_due(self, world: World) -> None:
        table(
            world,
            "letters",
            f"phase text not null check (phase in {CLOSED}), problem text, departure timestamptz, "
            + TIMES,
            "(phase, departure) values ('enqueued', now() + interval '2 days')",
        )
        answer = world.check(table="letters")
        assert (answer.code, answer.ids()) == (0, [])
        assert answer.names("departure")

    @pytest.mark.parametrize("name", ["start_no_earlier_until", "next_go", "planned_ts"])
    def test_a_name_that_speaks_of_the_future_is_a_due_time(self, name: str, world: World) -> None:
        table(
            world,
            "letters",
            f"phase text not null check (phase in {CLOSED}), problem text, {name} timestamptz, "
            + TIMES,
            f"(phase, {name}) values ('enqueued', now() + interval '2 days')",
        )
        assert world.check(table="letters").ids() == []

    @pytest.mark.parametrize(
        ("name", "type_name", "value"),
        [
            ("creation_epoch", "double precision", f"extract(epoch from {OLD})"),
            ("ts_created", "bigint", f"extract(epoch from {OLD}) * 1000"),
            ("createddate", "timestamp", f"({OLD}) at time zone 'UTC'"),
            ("insertedAt", "text", f'to_char({OLD}, \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\')'),
            ("submit_ms", "numeric", f"extract(epoch from {OLD}) * 1000"),
            ("enqueued_ns", "bigint", f"extract(epoch from {OLD}) * 1000000000"),
        ],
    )
    def test_a_clock_is_known_in_any_form(
        self, name: str, type_name: str, value: str, world: World
    ) -> None:
        table(
            world,
            "parcels",
            f'phase text not null check (phase in {CLOSED}), problem text, "{name}" {type_name}',
            f"(phase, \"{name}\") values ('enqueued', {value})",
        )
        assert world.check(table="parcels").ids() == ["1"]

    def test_a_text_that_is_no_day_is_no_error(self, world: World) -> None:
        table(
            world,
            "parcels",
            f"phase text not null check (phase in {CLOSED}), problem text, created_at text",
            "(phase, created_at) values ('enqueued', '2026-02-30T10:00:00Z')",
            "(phase, created_at) values ('working', '2026-01-31 10:00:00+02')",
        )
        assert world.check(table="parcels").ids() == ["2", "1"]

    @pytest.mark.parametrize("beat", ["", "last_ping_at timestamptz, "])
    @pytest.mark.parametrize("name", ["utime", "modification_time", "cambiado"])
    def test_a_task_that_waited_long_and_was_just_taken_is_alive(
        self, name: str, beat: str, world: World
    ) -> None:
        table(
            world,
            "parcels",
            f"phase text not null check (phase in {CLOSED}), problem text, {beat}"
            f"ctime timestamptz not null default {OLD}, {name} timestamptz not null default now()",
            "(phase) values ('working')",
            f"(phase, {name}) values ('working', {OLD}), ('finished', {OLD})",
        )
        assert world.check(table="parcels").ids() == ["2"]

    def test_the_last_change_is_known_by_the_trigger_that_sets_it(self, world: World) -> None:
        table(
            world,
            "parcels",
            f"phase text not null check (phase in {CLOSED}), problem text, "
            f"ctime timestamptz not null default {OLD}, v timestamptz not null default now()",
            "(phase) values ('working')",
        )
        world.run(
            "create function set_v() returns trigger language plpgsql as "
            "'begin new.v := now(); return new; end'",
            "create trigger set_v before update on parcels for each row execute function set_v()",
        )
        assert world.check(table="parcels").ids() == []

    @pytest.mark.parametrize("name", ["picked_until", "good_till"])
    def test_a_time_that_only_running_tasks_have_ahead_is_until_when_they_are_held(
        self, name: str, world: World
    ) -> None:
        table(
            world,
            "letters",
            f"phase text not null check (phase in {CLOSED}), problem text, {name} timestamptz, "
            + TIMES,
            f"(phase, {name}) values ('working', now() + interval '2 days')",
            f"(phase, {name}) values ('working', now() - interval '1 hour')",
            "(phase, made_on) values ('enqueued', now())",
        )
        answer = world.check(table="letters")
        assert answer.ids() == ["2"]
        assert answer.names(name)

    def test_a_time_that_a_new_row_has_is_not_that_of_its_end(self, world: World) -> None:
        table(
            world,
            "letters",
            f"phase text not null check (phase in {CLOSED}), problem text, "
            f"published_at timestamptz default now(), {TIMES}",
            "(phase) values ('working')",
        )
        answer = world.check(table="letters")
        assert answer.json["inferred"]["clocks"]["finished"] is None

    def test_what_cannot_be_judged_is_not_zero(self, world: World) -> None:
        table(
            world,
            "parcels",
            f"phase text not null check (phase in {CLOSED}), problem text",
            "(phase) values ('working')",
            "(phase) values ('enqueued')",
        )
        answer = world.check(table="parcels")
        assert (answer.code, answer.json["stuck"], answer.json["unjudged"]) == (5, [], 2)
        assert "cannot say: 2 open rows" in world.check(table="parcels", as_json=False).err

    @pytest.mark.parametrize("zone", ["America/Bogota", "Asia/Kolkata"])
    def test_local_times_are_found_out_and_said(self, zone: str, world: World) -> None:
        name = world.value("select current_database()")
        world.run(f"alter database \"{name}\" set timezone = '{zone}'")
        world.run(
            "create table parcels (no serial primary key, phase text not null "
            f"check (phase in {CLOSED}), problem text, made_on timestamp not null default now(), "
            "touched_on timestamp not null default now())",
            "insert into parcels (phase) values ('working')",
            "insert into parcels (phase, made_on, touched_on) values ('working', "
            "now() - interval '50 minutes', now() - interval '50 minutes')",
        )
        answer = world.check(table="parcels")
        assert answer.ids() == ["2"]
        assert answer.names(zone)
        world.fix(table="parcels")
        assert world.value(
            "select abs(extract(epoch from touched_on - now()::timestamp)) < 60 "
            "from parcels where no = 2"
        )


class TestTimeOuts:
    def test_only_that_of_the_run_ends_a_run(self, world: World) -> None:
        table(
            world,
            "builds",
            f"phase text not null check (phase in {CLOSED}), problem text, "
            "ack_timeout_seconds int default 1, visibility_timeout_seconds int default 1, "
            "job_timeout_seconds int default 36000, started_at timestamptz, " + TIMES,
            f"(phase, started_at, touched_on) values ('working', {OLD}, now())",
        )
        answer = world.check(table="builds")
        assert answer.ids() == []
        assert answer.names("ack_timeout_seconds")

    def test_that_of_a_heartbeat_ends_a_silence(self, world: World) -> None:
        table(
            world,
            "builds",
            f"phase text not null check (phase in {CLOSED}), problem text, "
            "stall_timeout_minutes int default 5, last_ping_at timestamptz, " + TIMES,
            "(phase, last_ping_at) values ('working', now() - interval '6 minutes')",
            "(phase, last_ping_at) values ('working', now() - interval '4 minutes')",
        )
        assert world.check(table="builds").ids() == ["1"]


class TestWords:
    def test_that_of_a_stage_is_not_written_to_other_tasks(self, world: World) -> None:
        table(
            world,
            "films",
            f"stand text not null, problem text, {TIMES}",
            "(stand) values ('pending')",
            "(stand) values ('encoding')",
            "(stand) values ('encoding_failed')",
        )
        refused = world.fix("--map", world.map(status="stand"), table="films")
        assert (refused.code, "--word failed=WORD" in refused.err) == (1, True)
        assert world.value("select count(*) from films where stand = 'encoding_failed'") == 1

    def test_rows_that_have_ended_do_not_wait_whatever_they_are_called(self, world: World) -> None:
        table(
            world,
            "films",
            f"state text not null, problem text, completed_at timestamptz, {TIMES}",
            f"(state, completed_at) values ('error_temporary', {OLD}), ('error', {OLD}), "
            f"('done', {OLD})",
            "(state) values ('running')",
        )
        answer = world.check(table="films")
        assert answer.ids() == ["4"]
        assert "error_temporary" not in answer.words("pending")

    @pytest.mark.parametrize("word", ["stop_requested", "aborting", "cancel_pending"])
    @pytest.mark.parametrize("action", ["fail", "requeue"])
    def test_a_task_that_its_user_asked_to_stop_is_cancelled(
        self, word: str, action: str, world: World
    ) -> None:
        table(
            world,
            "films",
            f"state text not null default 'queued', problem text, {TIMES}",
            f"(state) values ('{word}'), ('canceled'), ('queued'), ('failed'), ('rendering')",
        )
        world.fix("--action", action, table="films")
        assert world.value("select state from films where no = 1") == "canceled"

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("abort_wanted boolean not null default false", "true"),
            ("kill_flag boolean", "true"),
            ("user_stop_requested_at timestamptz", "now()"),
            ('"cancelRequestedAt" text', "'2026-03-04T05:06:07.8Z'"),
            ("cancel_flag smallint not null default 0", "1"),
        ],
    )
    @pytest.mark.parametrize("end", ["canceled", None])
    def test_a_task_that_was_asked_to_stop_beside_its_status_never_starts_again(
        self, column: str, value: str, end: str | None, world: World
    ) -> None:
        words = ["queued", "rendering", "rendered", "failed", *([end] if end else [])]
        table(
            world,
            "films",
            f"state text not null check (state in ({', '.join(map(repr, words))})), "
            f"problem text, {column}, {TIMES}",
            f"(state, {column.split(maxsplit=1)[0]}) values ('rendering', {value})",
            "(state) values ('rendering')",
        )
        world.fix("--action", "requeue", table="films")
        states = world.rows("select state from films order by no")
        assert states == [(end or "failed",), ("queued",)]

    def test_a_waiting_task_that_was_asked_to_stop_is_stuck_at_once(self, world: World) -> None:
        table(
            world,
            "films",
            "state text not null check (state in ('queued', 'rendering', 'rendered', 'failed', "
            f"'canceled')), problem text, kill_flag boolean, run_at timestamptz, {TIMES}",
            "(state, kill_flag, run_at) values ('queued', true, now() + interval '1 day'), "
            "('queued', false, now() + interval '1 day')",
        )
        assert world.check(table="films").ids() == ["1"]
        world.fix("--action", "requeue", table="films")
        states = world.rows("select state from films order by no")
        assert states == [("canceled",), ("queued",)]

    def test_a_word_of_rows_that_go_on_at_a_later_time_is_of_a_wait(self, world: World) -> None:
        table(
            world,
            "films",
            f"state text not null, problem text, wakes timestamptz, {TIMES}",
            "(state, wakes) values ('pausing_between', now() + interval '900 years')",
            "(state) values ('rendering'), ('failed'), ('rendered')",
        )
        assert world.check(table="films").ids() == ["2"]

    def test_numbers_are_explained_in_the_signs_of_any_script(self, world: World) -> None:
        table(
            world,
            "jobs",
            f"state smallint not null default 0, problem text, {TIMES}",
            "(state) values (2)",
        )
        meanings = "(pending=0, running=2, done=5, failed=9)"
        full_width = meanings.translate(str.maketrans("(=,)", "\uff08\uff1d\uff0c\uff09"))
        world.run(f"comment on column jobs.state is '{full_width}'")
        assert world.check(table="jobs").words("failed") == [9]

    def test_a_step_of_a_wizard_is_no_work(self, world: World) -> None:
        table(
            world,
            "intakes",
            "state text not null check (state in ('sent in', 'test_run', 'approved', 'failed')), "
            + TIMES,
            "(state) values ('test_run')",
        )
        assert world.check(table="intakes").json["refused"]


class TestEnds:
    def rows(self, world: World) -> None:
        table(
            world,
            "grinds",
            "state text not null, over boolean not null default false, verdict text, "
            f"left_on timestamptz, problem text, {TIMES}",
            "(state) values ('running'), ('pending')",
            f"(state, over, verdict, left_on) values ('failed', true, 'bad', {OLD}), "
            f"('failed', true, 'bad', {OLD}), ('done', true, 'good', {OLD})",
        )

    def test_a_failure_sets_what_all_failed_rows_have_set(self, world: World) -> None:
        self.rows(world)
        answer = world.fix(table="grinds")
        assert answer.names("over, verdict")
        ended = world.rows(
            "select over, verdict, left_on > now() - interval '1 minute' "
            "from grinds where state = 'failed' and no <= 2"
        )
        assert ended == [(True, "bad", True)] * 2

    def test_a_column_that_no_row_has_empty_gets_no_null(self, world: World) -> None:
        table(
            world,
            "grinds",
            f"state text not null, heartbeat_at bigint default 0, problem text, {TIMES}",
            "(state) values ('running'), ('pending'), ('failed'), ('done')",
        )
        world.fix("--action", "requeue", table="grinds")
        assert world.rows("select state, heartbeat_at from grinds where no = 1") == [("pending", 0)]

    def test_a_task_that_was_put_back_is_not_stuck_at_once(self, world: World) -> None:
        self.rows(world)
        world.fix("--action", "requeue", table="grinds")
        assert "1" not in world.check(table="grinds").ids()


class TestTheStatusColumn:
    @pytest.mark.parametrize("rows", ["('working', 'enqueued')", "('broken', 'working')"])
    def test_a_column_called_status_wins_whatever_the_rows_are(
        self, rows: str, world: World
    ) -> None:
        table(
            world,
            "carts",
            f"phase text not null, status text not null, problem text, {TIMES}",
            f"(phase, status) values {rows}",
        )
        answer = world.check(table="carts")
        assert answer.json["inferred"]["status"] == "status"
        assert answer.names("phase")

    def test_a_text_beside_a_bare_number_is_taken(self, world: World) -> None:
        table(
            world,
            "carts",
            f"status_id int, status_label text, problem text, {TIMES}",
            "(status_label) values ('Running'), ('Failed')",
        )
        assert world.check(table="carts").json["inferred"]["status"] == "status_label"


class TestPeopleAndWorkers:
    @pytest.mark.parametrize(
        ("name", "columns"),
        [
            ("driving_tests", "candidate_id uuid, examiner text, mark int"),
            ("quiz_tries", "player_id uuid, attempt_no int, answers jsonb, points int"),
            ("study_sessions", "learner_id uuid, page int, minutes int"),
        ],
    )
    def test_what_people_do_is_refused_even_where_its_words_are_whole(
        self, name: str, columns: str, world: World
    ) -> None:
        words = "'not_started', 'in_progress', 'completed', 'failed', 'cancelled'"
        table(
            world,
            name,
            f"status text not null check (status in ({words})), {columns}, {TIMES}",
            "(status) values ('in_progress')",
        )
        assert world.check(table=name).json["refused"]

    def test_what_workers_do_is_not_refused_for_want_of_a_running_word(self, world: World) -> None:
        table(
            world,
            "gradings",
            "status text not null check (status in ('waiting', 'done', 'error')), "
            f"error_text text, tries int not null default 0, {TIMES}",
            "(status) values ('waiting')",
        )
        answer = world.check(table="gradings")
        assert (answer.json["refused"], answer.ids()) == (None, ["1"])


class TestDocuments:
    @pytest.mark.parametrize(
        ("at_birth", "at_end", "role"),
        [("null", "'{\"pages\": 3}'", "result"), ("'{\"month\": 5}'", "'{\"month\": 5}'", "input")],
    )
    def test_what_rows_hold_tells_what_a_task_gets_and_what_it_made(
        self, at_birth: str, at_end: str, role: str, world: World
    ) -> None:
        table(
            world,
            "letters",
            f"phase text not null check (phase in {CLOSED}), problem text, data jsonb, {TIMES}",
            f"(phase, data) values ('enqueued', {at_birth}), ('finished', {at_end})",
        )
        columns = adopted(world, "letters")["columns"]
        assert {name: column for name, column in columns.items() if column == "data"} == {
            role: "data"
        }


class TestOutcomes:
    def test_a_text_that_ended_tasks_share_by_chance_is_not_written(self, world: World) -> None:
        table(
            world,
            "letters",
            f"phase text not null check (phase in {CLOSED}), problem text, file text, town text, "
            f"outcome text, {TIMES}",
            "(phase, file, town, outcome) values ('enqueued', '', 'Oslo', null), "
            "('working', '', 'Rome', null), ('finished', 'a.pdf', 'Bern', 'all well'), "
            "('finished', 'a.pdf', 'Bern', 'all well')",
        )
        assert adopted(world, "letters")["also"]["completed"] == {"outcome": "=all well"}


def adopted(world: World, table: str) -> dict[str, Any]:
    with connect(world.dsn) as connection:
        [watch] = adopt.watch(check.infer_table(connection, table)).values()
    return watch


def test_with_no_row_that_runs_the_time_of_a_start_is_not_taken_for_one_of_the_end(
    world: World,
) -> None:
    table(
        world,
        "errands",
        f"phase text not null check (phase in {CLOSED}), problem text, anfang timestamptz, "
        f"finished_at timestamptz, {TIMES}",
        "(phase) values ('enqueued')",
        f"(phase, problem, anfang, finished_at) select 'broken', 'no', {OLD}, now() "
        "from generate_series(1, 3)",
    )
    with connect(world.dsn) as connection:
        [entry] = adopt.watch(check.infer_table(connection, "errands")).values()
    assert "anfang" not in str(entry.get("also"))
