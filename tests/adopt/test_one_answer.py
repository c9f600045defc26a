"""Of random tables, with random rows: what is stuck is the same to the dry run, the counts, the
page, a poll and the sweep; and what is put back can be claimed. A failure names its seed."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from functions.core.states import State
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import EXPIRE
from tests.adopt.test_fence import Shape, Table, policy
from tests.conftest import copied

WORDS = {
    State.PENDING: ["new", "waiting", "nieuw", "0"],
    State.RUNNING: ["busy", "drawing", "cutting", "1"],
    State.COMPLETED: ["there", "2"],
    State.FAILED: ["broken", "3"],
    State.CANCELLED: ["dropped", "4"],
    State.RESTING: ["asks", "5"],
}
CLOCKS = {
    "timestamptz": "now() - make_interval(secs => {})",
    "timestamp": "(now() - make_interval(secs => {})) at time zone 'UTC'",
    "bigint": "(extract(epoch from now() - make_interval(secs => {})) * 1000)::bigint",
}
FLAGS = {"drop_it": "drop_it boolean not null default false", "dropped": "dropped timestamptz"}
"""By which the user of a task asks to stop it."""
AGES = (1, 60, 1000, 2000, 4000, 10_000, 100_000, 3_000_000)
"""In seconds: on both sides of each limit of the rule."""
ROWS = 40


def random_shape(dice: random.Random) -> Shape:
    """A table as somebody else may have made it."""
    zone = dice.choice(list(CLOCKS))
    columns = ["made", *dice.sample(["begun", "seen", "planned", "over"], dice.randint(0, 4))]
    words = {
        str(state): dice.sample(listed, dice.randint(1, len(listed)))
        for state, listed in WORDS.items()
        if state in {State.PENDING, State.RUNNING, State.COMPLETED, State.FAILED}
        or dice.random() < 0.5
    }
    clocks: dict[str, Any] = {
        "queued": ["made"],
        "alive": [name for name in ("seen", "begun", "made") if name in columns],
    }
    if "begun" in columns:
        clocks["started"] = "begun"
    if "seen" in columns:
        clocks["touched"] = "seen"
    if "planned" in columns:
        clocks["due"] = "planned"
        if dice.random() < 0.5:
            clocks["queued"] = ["planned", "made"]
    kind = {"kind": "sort"} if dice.random() < 0.5 else {}
    defined = [f"{name} {zone}{' not null' if name == 'made' else ''}" for name in columns]
    flags = dice.sample(sorted(FLAGS), dice.randint(0, 2))
    defined += [FLAGS[name] for name in flags]
    ddl = (
        'create table public."Odd Jobs" (nr bigint generated always as identity primary key, '
        f"word text not null, sort text, {', '.join(defined)})"
    )
    return Shape(
        ddl=ddl,
        watch={
            "table": "public.Odd Jobs",
            "key": "nr",
            "key_type": "bigint",
            "status": "word",
            "words": words,
            "columns": kind,
            "clocks": clocks,
            "types": {name: FLAGS[name].split()[1] for name in flags}
            | ({} if zone == "timestamptz" else dict.fromkeys(columns, zone)),
            "asked_to_stop": flags,
            "ended": ["over"] if "over" in columns else [],
            "also": {"pending": dict.fromkeys(flags, "nothing")},
        },
        ago=CLOCKS[zone].format("%s"),
    )


def fill(dice: random.Random, table: Table, columns: list[str]) -> None:
    words = [word for listed in table.shape.watch["words"].values() for word in listed]
    for _ in range(ROWS):
        ages = {name: dice.choice(AGES) for name in columns if dice.random() < 0.8}
        if "planned" in ages and dice.random() < 0.3:
            ages["planned"] = -86_400  # ahead
        ages["made"] = max([*ages.values(), dice.choice(AGES)])
        asked = [name for name in table.watch.asked_to_stop if dice.random() < 0.2]
        values = [*ages.values(), *("true" if name == "drop_it" else "now" for name in asked)]
        names = "".join(f", {name}" for name in [*ages, *asked])
        times = "".join(f", {table.shape.ago}" for _ in ages) + ", %s" * len(asked)
        table.execute(
            f'insert into public."Odd Jobs" (word, sort{names}) values (%s, %s{times})',
            dice.choice(words),
            dice.choice(["a", "b", None]),
            *values,
        )


@pytest.fixture
def odd(
    postgres: Postgres, request: pytest.FixtureRequest
) -> Iterator[tuple[Table, random.Random]]:
    dice = random.Random(request.param)
    shape = random_shape(dice)
    with copied(postgres, None) as dsn:
        fence = dice.choice(["off", "enforce"])
        table = Table(dsn, shape, PostgresStore(dsn), policy(shape, fence))
        table.execute(shape.ddl)
        table.fenced(fence)
        fill(
            dice,
            table,
            [name for name in ("begun", "seen", "planned", "over") if name in shape.ddl],
        )
        yield table, dice
        table.store.close()


@pytest.mark.parametrize("odd", range(8), indirect=True)
def test_what_is_stuck_is_one_answer(odd: tuple[Table, random.Random]) -> None:
    table, dice = odd
    store, watch = table.store, table.watch
    for _ in range(4):
        store.claim(watch, None, "w")
    words = [word for listed in table.shape.watch["words"].values() for word in listed]
    for key in dice.sample(range(1, ROWS + 1), 10):  # as its application does
        table.write(str(key), dice.choice(words))
    if dice.random() < 0.5:
        table.execute(EXPIRE)
    answer = store.stuck(watch, 500)
    stuck = {task.task_id: task.state for task in answer.tasks}
    assert answer.count == len(stuck) == sum(group.count for group in answer.groups)
    assert store.overview(watch).overdue.count == answer.count
    assert store.pulse(watch).stuck.count == answer.count
    shown = store.page(watch, {"state": "stuck"}, 500).tasks
    assert {task.task_id for task in shown} == stuck.keys()
    assert all(task.late is not None for task in shown)
    opened = {task.task_id for task in store.page(watch, {"state": "open"}, 500).tasks}
    assert opened == {task.task_id for task in store.find(watch, {}, 500)}, "nothing is hidden"
    polls = {key: store.status(watch, key, heal=False).overdue for key in opened}
    assert {key for key, overdue in polls.items() if overdue} == stuck.keys()
    swept = table.sweep()
    moved = {key: state for key, state in swept.items() if state != "overtaken"}
    assert moved == stuck, "a task that its application moved is theirs"

    failed = [task.task_id for task in store.find(watch, {"states": ["failed"]}, 500)]
    running = [task.task_id for task in store.find(watch, {"states": ["running"]}, 500)]
    put_back = store.operate(watch, "retry", failed) + store.operate(watch, "requeue", running)
    assert sorted(put_back) == sorted(failed + running)
    assert not {task.task_id for task in store.stuck(watch, 500).tasks} & set(put_back)
    for key in put_back:
        assert store.claim(watch, key, "w").verdict == "claimed"
