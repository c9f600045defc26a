"""What `check` calls stuck, the first sweep of the adopted table takes, and nothing else: both go
by one description of the table."""

import random
from pathlib import Path
from typing import Any

import pytest

from functions.core.policy import parse
from functions.core.states import State
from functions.install.migrate import migrate
from functions.ops import adopt
from functions.ops.doctor import first_sweep
from functions.ops.doctor.session import rolled_back
from functions.ops.inspect import check
from functions.ops.inspect.overdue import Limits
from functions.ops.inspect.session import connect
from functions.ops.inspect.stuck import find_stuck
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import HEAD
from tests.ops.inspect.world import World

WORDS = ("enqueued", "rendering", "abort_requested", "rendered", "broken", "withdrawn")
LIMITS = {
    "lease_until timestamptz": "now() + make_interval(mins => {})",
    "deadline timestamp": "(now() + make_interval(mins => {})) at time zone 'UTC'",
    "run_timeout_ms bigint": "(120 + {}) * 60000",
    "heartbeat_timeout_minutes int": "greatest(1, {})",
    "archived boolean": "{} > 100",
    "kill_flag boolean": "{} > 60",
    "stop_requested_at timestamptz": "case when {} > 70 then now() end",
    "modified timestamptz": "now() + make_interval(mins => least({}, 0))",
    "ended_at timestamptz": "case when {0} > 60 then now() + make_interval(mins => "
    "greatest({0} - 120, {1})) end",
    "visible_at timestamptz": "now() + make_interval(mins => {})",
    "claimed_at timestamptz": "now() + make_interval(mins => least({}, 0))",
    "trashed_at timestamptz": "case when {} > 90 then now() end",
}


def shape(seed: int) -> tuple[str, list[str]]:
    """A table with some limits of its own, and rows of each word at random."""
    chance = random.Random(seed)
    limits = chance.sample(sorted(LIMITS), chance.randint(1, 4))
    quoted = ", ".join(f"'{word}'" for word in WORDS)
    columns = [
        "id bigint generated always as identity primary key",
        f"phase text not null check (phase in ({quoted}))",
        "fault text",
        "born_at timestamptz not null default now()",
        "began_at timestamptz",
        "last_ping_at timestamptz",
        *limits,
    ]
    rows = []
    for _ in range(60):
        names, values = ["phase", "born_at"], [f"'{chance.choice(WORDS)}'"]
        age = chance.choice([1, 20, 45, 80, 200])
        values.append(f"now() - interval '{age} minutes'")
        for name in ("began_at", "last_ping_at"):
            if chance.random() < 0.6:
                names.append(name)
                values.append(f"now() - interval '{chance.randint(0, age)} minutes'")
        for limit in limits:
            if chance.random() < 0.5:
                names.append(limit.split()[0])
                minutes = max(-age, chance.randint(-100, 100))
                values.append(LIMITS[limit].format(minutes, -age))
        rows.append(f"insert into renders ({', '.join(names)}) values ({', '.join(values)})")
    return f"create table renders ({', '.join(columns)})", rows


@pytest.mark.parametrize("seed", range(6))
def test_what_check_calls_stuck_the_first_sweep_takes(
    seed: int, empty_database: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world = World(empty_database, capsys, tmp_path)
    ddl, rows = shape(seed)
    world.run(ddl, *rows)
    with connect(world.dsn) as connection:
        inferred = check.infer_table(connection, "renders")
        stuck, *_ = find_stuck(connection, inferred, Limits(action="requeue"))
    policy = parse(HEAD + adopt.text(adopt.watch(inferred)))
    migrate(world.dsn, policy)
    store = PostgresStore(world.dsn)
    watch = policy.watch()
    assert watch.words[State.RUNNING] == ("rendering", "abort_requested")

    foreseen = {task.task_id for task in store.preview(watch, 500)}
    differing = sorted({task.id for task in stuck} ^ foreseen)
    assert differing == [], details(world, differing)
    swept = {task.task_id: str(task.state) for task in store.sweep(watch, 500).rescued}
    store.close()

    assert swept.keys() == foreseen
    asked = {task.id for task in stuck if task.word == "abort_requested"}
    assert {swept[key] for key in asked} <= {"cancelled"}


def details(world: World, keys: list[str]) -> list[Any]:
    return world.rows(
        f"select to_jsonb(t) from renders t where id::text = any ('{{{','.join(keys)}}}')"
    )


def test_doctor_names_what_check_and_the_first_sweep_see_differently(
    empty_database: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world = World(empty_database, capsys, tmp_path)
    world.run(
        "create table renders (id serial primary key, phase text not null check (phase in "
        "('enqueued', 'rendering', 'rendered', 'broken')), fault text, lease_until timestamptz, "
        "born_at timestamptz not null default now())",
        "insert into renders (phase, born_at, lease_until) values ('rendering', "
        "now() - interval '3 hours', now() + interval '1 hour'), "
        "('rendering', now() - interval '3 hours', null)",
    )
    with connect(world.dsn) as connection:
        watches = adopt.watch(check.infer_table(connection, "renders"))

    def differing() -> list[str]:
        policy = parse(HEAD + adopt.text(watches))
        migrate(world.dsn, policy)
        with connect(world.dsn) as connection:
            by_check = first_sweep.look(connection, policy.watch())
            with rolled_back(connection):
                findings = first_sweep.decided(connection, policy, policy.watch(), by_check)
        return [f"{finding.check}: {finding.fact}. {finding.why}" for finding in findings]

    [decision] = differing()
    assert "starts again 1 running, 3h" in decision
    del watches["renders"]["clocks"]["lease"]
    decision, difference = differing()
    assert "starts again 2 running, 3h" in decision
    assert "takes 1, which check does not call stuck: 1: running, pending as stale" in difference
    assert "the clock lease is none in the watch, and lease_until by `check`" in difference
    watches["renders"]["rules"]["*"]["silent_for"] = "4h"
    _, difference = differing()
    assert "check calls 1 stuck, and the sweep leaves them: 2: " in difference
    assert "silent_for is 4h in the rules, and check judges by 30m" in difference
