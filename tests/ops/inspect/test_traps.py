"""Each trap that broke a real sweeper ("Reproduced" in the facts about task tables), on a table of
our own."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.ops.inspect.world import WORDS, World, jobs

OLD = "now() - interval '3 hours'"
ENUM = "create type job_status as enum ('queued', 'running', 'done', 'failed')"


def test_a_word_that_the_enum_does_not_know_is_left_out_and_said(world: World) -> None:
    """seomagic: status = 'processing' on an enum without it failed with 22P02 on every run."""
    world.run(
        ENUM,
        "create table jobs (id serial primary key, status job_status, updated_at timestamptz)",
        f"insert into jobs (status, updated_at) values ('running', {OLD})",
    )
    answer = world.check(
        "--map", world.map(words={"running": ["processing", "running"], "failed": ["failed"]})
    )
    assert (answer.code, answer.ids()) == (3, ["1"])
    assert answer.names("'processing'")
    assert answer.words("running") == ["running"]


def test_a_failing_half_does_not_undo_the_other(world: World) -> None:
    """In a real project an error in the second UPDATE undid the first: no sweep for 46 days."""
    world.run(
        jobs(),
        "create function refuse() returns trigger language plpgsql as $$ begin "
        "if old.status = 'pending' then raise exception 'operator does not exist: uuid = uuid[]' "
        "using errcode = '42883'; end if; "
        "return new; end $$",
        "create trigger refuse before update on jobs for each row execute function refuse()",
        f"insert into jobs (status, created_at) values ('running', {OLD}), ('pending', {OLD}), "
        f"('running', {OLD})",
    )
    fixed = world.fix()
    assert sorted(fixed.json["fixed"]) == ["1", "3"]
    assert [task["id"] for task in fixed.json["unsweepable"]] == ["2"]
    assert "42883" in fixed.json["unsweepable"][0]["error"]
    assert fixed.code == 3, "one is stuck still"
    assert world.rows("select status from jobs order by id") == [
        ("failed",),
        ("pending",),
        ("failed",),
    ]


def test_a_queued_row_that_never_started_gets_a_start_where_a_check_wants_one(world: World) -> None:
    """A CHECK of a real table, valid_dates, wants started_at before failed_at (23514)."""
    world.run(
        jobs(
            "started_at timestamptz",
            "failed_at timestamptz",
            "completed_at timestamptz",
            "constraint valid_dates check ((failed_at is null or started_at is not null and "
            "started_at <= failed_at) and "
            "(completed_at is null or started_at <= completed_at))",
        ),
        f"insert into jobs (created_at) values ({OLD}), ({OLD})",
        f"insert into jobs (status, created_at, started_at) values ('running', {OLD}, {OLD})",
    )
    assert sorted(world.fix().json["fixed"]) == ["1", "2", "3"]
    assert world.rows(
        "select distinct status, failed_at is not null, started_at is not null, "
        "completed_at is null from jobs"
    ) == [("failed", True, True, True)]
    assert world.value(f"select started_at < {OLD} + interval '1 minute' from jobs where id = 3"), (
        "a start that was there stays"
    )


def test_a_row_whose_generated_column_overflows_is_reported_and_the_rest_is_ended(
    world: World,
) -> None:
    """An int of milliseconds in a real table overflows (22003) 25 days after the start."""
    world.run(
        jobs(
            "started_at timestamptz",
            "failed_at timestamptz",
            "duration_ms int generated always as (extract(epoch "
            "from (failed_at - started_at)) * 1000) stored",
        ),
        "insert into jobs (status, started_at) "
        "select 'running', now() - interval '1 day' * n from unnest(array[1, 30, 2]) n",
    )
    fixed = world.fix().json
    assert sorted(fixed["fixed"]) == ["1", "3"]
    assert [task["id"] for task in fixed["unsweepable"]] == ["2"]
    assert "22003" in fixed["unsweepable"][0]["error"]


def test_a_row_that_a_unique_index_with_the_status_refuses_does_not_stop_the_others(
    world: World,
) -> None:
    """With unique (workspace_id, time_range, status) one conflict made an UPDATE of three fail."""
    world.run(
        jobs(
            "workspace_id int",
            "time_range text default 'day'",
            "unique (workspace_id, time_range, status)",
        ),
        f"insert into jobs (workspace_id, status, created_at) values (1, 'running', {OLD}), "
        f"(2, 'running', {OLD}), "
        f"(3, 'running', {OLD}), (2, 'failed', {OLD})",
    )
    fixed = world.fix()
    assert sorted(fixed.json["fixed"]) == ["1", "3"]
    assert [task["id"] for task in fixed.json["unsweepable"]] == ["2"]
    assert "23505" in fixed.json["unsweepable"][0]["error"]
    assert world.value("select status from jobs where id = 2") == "running"


def test_a_reason_is_cut_to_the_width_of_its_column(world: World) -> None:
    """An error code of varchar(64) and a reason of 70 characters: 22001."""
    world.run(
        jobs("error_code varchar(24)").replace("error text, ", ""),
        f"insert into jobs (status, created_at) values ('running', {OLD})",
    )
    assert world.fix().json["fixed"] == ["1"]
    assert world.value("select error_code from jobs") == "stale: Nothing was heard"


@pytest.mark.parametrize("asks", ["request.jwt.claim.role", "request.jwt.claims"])
def test_a_trigger_that_lets_only_the_service_role_touch_the_clocks_lets_us(
    asks: str, world: World
) -> None:
    """By a trigger of a real table a direct connection may not clear generation_started_at (P0001);
    with the claim it may."""
    claim = f"current_setting('{asks}', true)" + (
        "::json ->> 'role'" if asks.endswith("claims") else ""
    )
    world.run(
        jobs("started_at timestamptz"),
        "create function guard() returns trigger language plpgsql as $$ begin "
        f"if old.started_at is distinct from new.started_at and ({claim}) is distinct "
        "from 'service_role' "
        "then raise exception 'Timing fields can only be modified by system functions'; end if; "
        "return new; end $$",
        "create trigger guard before update on jobs for each row execute function guard()",
        f"insert into jobs (status, started_at) values ('running', {OLD})",
    )
    assert world.fix("--action", "requeue").json["fixed"] == ["1"]
    assert world.rows("select status, started_at from jobs") == [("pending", None)]
    with pytest.raises(Exception, match="Timing fields"):
        world.run("update jobs set started_at = now()")


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_json_is_merged_and_never_replaced(kind: str, world: World) -> None:
    """Mobius: state {"prompt", "attempt"} became {"error"}."""
    world.run(
        "create table jobs (id serial primary key, status text "
        "check (status in ('pending', 'running', 'done', 'failed')), "
        f"state {kind} not null, created_at timestamptz)",
        "insert into jobs (status, state, created_at) "
        f'values (\'running\', \'{{"prompt": "a cat", "attempt": 2}}\', {OLD}), '
        f"('running', '[{{\"n\": 1}}]', {OLD}), ('running', '[\"line\"]', {OLD}), "
        f"('running', '7', {OLD})",
    )
    fixed = world.fix("--map", world.map(error="state"))
    assert len(fixed.json["fixed"]) == 4
    merged, listed, lines, wrapped = (
        row[0] for row in world.rows("select state from jobs order by id")
    )
    assert (merged["prompt"], merged["attempt"], merged["reason"]) == ("a cat", 2, "stale")
    assert listed[0] == {"n": 1}
    assert listed[1]["reason"] == "stale"
    assert lines[0] == "line"
    assert lines[1].startswith("stale: ")
    assert (wrapped["before"], wrapped["reason"]) == (7, "stale")


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_times_without_a_zone_are_utc_whatever_the_session_says(zone: str, world: World) -> None:
    """A session in New York saw a 2-hour-old row as fresh, one in Tokyo a fresh row as stale."""
    name = world.dsn.rpartition("/")[2]
    world.run(
        f"alter database {name} set timezone = '{zone}'",
        jobs("updated_at timestamp"),
        "insert into jobs (status, updated_at) "
        "values ('running', (now() at time zone 'UTC') - interval '2 hours'), "
        "('running', now() at time zone 'UTC')",
    )
    answer = world.check()
    assert answer.ids() == ["1"]
    assert abs(answer.json["stuck"][0]["age_seconds"] - 7200) < 60
    assert answer.names(zone), "it says that the sessions of this database write another time"
    world.fix()
    written = world.value("select updated_at from jobs where id = 1")
    assert abs(written.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_default_in_utc_for_a_column_with_a_zone_is_right_in_our_sessions(world: World) -> None:
    """timezone('utc', now()) into timestamptz is 9 h wrong in a session in Tokyo. We write in UTC,
    and read what is there."""
    name = world.dsn.rpartition("/")[2]
    world.run(
        f"alter database {name} set timezone = 'Asia/Tokyo'",
        jobs("updated_at timestamptz default timezone('utc', now())"),
        f"insert into jobs (status, updated_at) values ('running', {OLD})",
    )
    answer = world.fix()
    assert answer.json["fixed"] == ["1"]
    assert world.value("select abs(extract(epoch from now() - updated_at)) < 60 from jobs")
    assert answer.names("Asia/Tokyo")


@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        ("bigint", 1000),
        ("integer", 1),
        ("bigint", 1),
        ("double precision", 1),
        ("bigint", 1_000_000),
    ],
)
def test_epoch_numbers_are_read_and_written_in_their_own_unit(
    kind: str, unit: int, world: World
) -> None:
    world.run(
        jobs(f"startedat {kind}", f"finishedat {kind}", f"updatedat {kind}"),
        f"insert into jobs (status, startedat, updatedat) select 'running', at, at "
        f"from (select (extract(epoch from {OLD}) * {unit})::{kind}) x (at)",
        "insert into jobs (status, updatedat) select 'running', (extract(epoch "
        f"from now()) * {unit})::{kind}",
    )
    answer = world.fix()
    assert answer.json["fixed"] == ["1"]
    assert abs(answer.json["stuck"][0]["age_seconds"] - 10800) < 60
    assert world.value(
        f"select abs(finishedat::numeric / {unit} - extract(epoch from now())) < 60 "
        "from jobs where id = 1"
    )


def test_what_may_not_be_null_is_left_or_emptied_on_a_requeue(world: World) -> None:
    world.run(
        jobs(
            "started_at timestamptz not null default now()",
            "worker_id text not null",
            "locked_by uuid",
            "locked boolean not null",
        ),
        f"insert into jobs (status, started_at, created_at, worker_id, locked_by, locked) values "
        f"('running', {OLD}, {OLD}, 'w-1', gen_random_uuid(), true)",
    )
    assert world.fix("--action", "requeue").json["fixed"] == ["1"]
    assert world.rows(
        "select status, started_at is not null, worker_id, locked_by, locked from jobs"
    ) == [("pending", True, "", None, False)]


def test_a_check_that_ties_the_lock_to_the_status_gets_its_lock_cleared(world: World) -> None:
    world.run(
        jobs(
            "locked_by text",
            "constraint held check ((status = 'running') = (locked_by is not null))",
        ),
        f"insert into jobs (status, locked_by, created_at) values ('running', 'w-1', {OLD})",
    )
    assert world.fix().json["fixed"] == ["1"]
    assert world.rows("select status, locked_by from jobs") == [("failed", None)]


def test_a_check_that_keeps_the_end_for_good_ends_is_kept(world: World) -> None:
    world.run(
        jobs(
            "completed_at timestamptz",
            "check ((status = 'completed') = (completed_at is not null))",
        ),
        f"insert into jobs (status, created_at) values ('running', {OLD})",
    )
    assert world.fix().json["fixed"] == ["1"]
    assert world.rows("select status, completed_at from jobs") == [("failed", None)]


def test_a_deferred_rule_is_met_at_once_and_not_at_the_commit(world: World) -> None:
    world.run(
        "create table owners (name text primary key)",
        jobs("owner text", "unique (owner, status) deferrable initially deferred"),
        f"insert into jobs (owner, status, created_at) values ('a', 'running', {OLD}), "
        f"('b', 'running', {OLD}), "
        f"('a', 'failed', {OLD})",
    )
    fixed = world.fix().json
    assert (fixed["fixed"], [task["id"] for task in fixed["unsweepable"]]) == (["2"], ["1"])


def test_soft_deleted_rows_are_never_swept(world: World) -> None:
    world.run(
        jobs("deleted boolean not null default false", "deleted_at timestamptz"),
        "insert into jobs (status, created_at, deleted, deleted_at) "
        f"values ('running', {OLD}, true, now()), "
        f"('running', {OLD}, false, now()), ('running', {OLD}, false, null)",
    )
    assert world.fix().json["fixed"] == ["3"]


def test_a_null_clock_means_the_next_one(world: World) -> None:
    """24 of 59 cleaners compare NULL with a time, which is never "old"."""
    world.run(
        jobs("started_at timestamptz", "last_heartbeat_at timestamptz", "updated_at timestamptz"),
        "insert into jobs (status, created_at, started_at, last_heartbeat_at) "
        f"values ('running', {OLD}, null, null), "
        f"('running', {OLD}, {OLD}, null), ('running', {OLD}, {OLD}, {OLD}), "
        f"('running', {OLD}, {OLD}, now()), "
        f"('running', {OLD}, now(), null)",
    )
    assert sorted(world.check().ids()) == ["1", "2", "3"]


def test_a_date_is_not_old_before_it_is_over(world: World) -> None:
    world.run(
        "create table jobs (id serial primary key, created_on date, "
        "status text check (status in ('pending','running','done','failed')))",
        "insert into jobs (status, created_on) "
        "values ('running', (now() at time zone 'UTC')::date), "
        "('running', (now() at time zone 'UTC')::date - 2)",
    )
    assert world.check().ids() == ["2"]


def test_a_number_that_is_a_length_is_no_clock(world: World) -> None:
    world.run(jobs("processing_time real", "completion_time int", "timeout int"))
    answer = world.check()
    assert answer.json["inferred"]["clocks"] == {
        "queued": "created_at",
        "started": None,
        "alive": None,
        "finished": None,
    }
    assert answer.names("timeout has no unit")


def test_a_long_queued_task_that_just_started_is_not_stuck(world: World) -> None:
    """10 of 59 cleaners judge by created_at, and fail at once what waited long. updated_at that
    nobody moves is no better."""
    world.run(
        jobs("started_at timestamptz", "updated_at timestamptz default now()"),
        "insert into jobs (status, created_at, updated_at, started_at) "
        f"values ('running', {OLD}, {OLD}, now())",
    )
    assert world.check().ids() == []


def test_a_task_that_waits_for_a_later_time_is_not_stuck_nor_is_one_that_was_put_back(
    world: World,
) -> None:
    world.run(
        jobs("run_at timestamptz", "attempts int default 0", "updated_at timestamptz"),
        f"insert into jobs (status, created_at, run_at, attempts, updated_at) values "
        f"('pending', {OLD}, now() + interval '1 hour', 0, {OLD}), "
        f"('pending', {OLD}, now() - interval '1 minute', 1, {OLD}), "
        f"('pending', {OLD}, null, 1, now()), "
        f"('running', {OLD}, now() + interval '1 hour', 1, {OLD}), "
        f"('pending', {OLD}, {OLD}, 0, {OLD})",
    )
    assert world.check().ids() == ["5"]


def test_the_row_s_own_lease_deadline_and_timeout_win(world: World) -> None:
    world.run(
        jobs(
            "locked_until timestamptz",
            "deadline_at timestamptz",
            "timeout_minutes int",
            "started_at timestamptz",
            "updated_at timestamptz",
        ),
        "insert into jobs (status, started_at, updated_at, locked_until, deadline_at, "
        "timeout_minutes) values "
        f"('running', {OLD}, {OLD}, now() + interval '1 hour', null, null), "
        f"('running', {OLD}, {OLD}, now() - interval '20 minutes', null, null), "
        f"('running', now(), now(), null, now() - interval '20 minutes', null), "
        f"('running', {OLD}, {OLD}, null, now() + interval '1 hour', null), "
        f"('running', {OLD}, {OLD}, null, null, 600), ('running', {OLD}, {OLD}, null, null, 120)",
    )
    answer = world.check()
    assert sorted(answer.ids()) == ["2", "3", "6"]
    reasons = {task["id"]: task["reason"] for task in answer.json["stuck"]}
    assert "lease ended 20m ago (by locked_until)" in reasons["2"]
    assert "deadline passed 20m ago (by deadline_at)" in reasons["3"]
    assert "1h longer than it allows itself (by timeout_minutes)" in reasons["6"]


def test_expires_at_may_be_the_life_of_the_file_and_is_no_deadline_unless_said(
    world: World,
) -> None:
    world.run(
        jobs("expires_at timestamptz"),
        "insert into jobs (status, expires_at) values ('running', now() - interval '1 hour')",
    )
    assert world.check().names("expires_at")
    assert world.check().ids() == []
    assert world.check("--map", world.map(clocks={"deadline": "expires_at"})).ids() == ["1"]


def test_attempts_are_looked_at_before_a_task_is_put_back(world: World) -> None:
    """15 of 34 cleaners requeue without a look at the attempts; 6 leave the exhausted ones running
    for ever."""
    world.run(
        jobs("attempts int", "max_attempts int", "retry_count int"),
        "insert into jobs (status, created_at, attempts, max_attempts) "
        f"values ('running', {OLD}, 1, 3), "
        f"('running', {OLD}, 3, 3), "
        f"('running', {OLD}, 0, 3), ('pending', {OLD}, 0, 3)",
    )
    looked = world.check("--action", "requeue").json["stuck"]
    assert {task["id"]: task["action"] for task in looked if task["state"] == "running"} == {
        "1": "requeue",
        "2": "fail",
        "3": "requeue",
    }
    fixed = world.fix("--action", "requeue")
    assert sorted(fixed.json["fixed"]) == ["1", "2", "3"]
    assert world.rows("select status, attempts from jobs order by id") == [
        ("pending", 1),
        ("failed", 3),
        ("pending", 1),
        ("pending", 0),
    ]
    assert fixed.code == 3, "the pending one waits still: a requeue has nothing to do with it"


def test_the_reason_says_code_and_sentence(world: World) -> None:
    world.run(
        jobs(),
        f"insert into jobs (status, created_at) values ('running', {OLD}), ('pending', {OLD})",
    )
    world.fix()
    running, pending = (row[0] for row in world.rows("select error from jobs order by id"))
    assert running.startswith("stale: Nothing was heard of this task since 20")
    assert pending.startswith("never_claimed: No worker picked this task up since 20")
    assert running.endswith(" UTC.")


def test_a_map_may_be_what_check_itself_said(world: World) -> None:
    world.run(
        jobs(statuses="'pending','running','completed','failed','odd'"),
        f"insert into jobs (status, created_at) values ('odd', {OLD})",
    )
    answer = world.check().json
    assert answer["inferred"]["words"]["resting"] == ["odd"]
    answer["inferred"]["words"] |= {"running": ["running", "odd"], "resting": []}
    file = world.folder / "said.json"
    file.write_text(json.dumps(answer, indent="\t"), encoding="utf-8")
    assert world.check("--map", str(file)).ids() == ["1"]


def test_resting_words_and_ends_are_never_stuck(world: World) -> None:
    world.run(
        jobs(statuses="'pending','running','completed','failed','cancelled','needs_review'"),
        f"insert into jobs (status, created_at) select word, {OLD} "
        "from unnest(array['completed','failed','cancelled','needs_review']) word",
    )
    answer = world.fix()
    assert (answer.code, answer.json["stuck"], answer.json["open"]) == (0, [], 0)


assert WORDS["running"] == ["running"]
