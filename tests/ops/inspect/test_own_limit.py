"""`adopt` finds the columns by which a row limits its own attempts, whether they count attempts or
retries."""

import pytest

from functions.core.policy import Watch, parse
from functions.core.states import State
from functions.install.table import Table
from functions.ops import adopt
from functions.ops.inspect import check
from functions.ops.inspect.session import connect
from tests.adopt.adopted import HEAD
from tests.ops.inspect.world import World


@pytest.mark.parametrize(
    ("columns", "limit", "runs", "had"),
    [
        ("tries int, max_tries int", "max_tries::integer", "tries::integer", "tries::integer"),
        (
            "retry_count smallint, max_retries smallint",
            "max_retries::integer + 1",
            "retry_count::integer + 1",
            "retry_count::integer",
        ),
        ("max_attempts bigint", "max_attempts::integer", "null::integer", "null::integer"),
        ("attempts int", "null::integer", "null::integer", "null::integer"),
    ],
)
def test_a_row_limits_its_attempts(
    columns: str, limit: str, runs: str, had: str, world: World
) -> None:
    world.run(
        "create table renders (id serial primary key, phase text not null check (phase in "
        f"('queued', 'rendering', 'rendered', 'failed')), fault text, {columns}, "
        "created_at timestamptz not null default now())"
    )
    table = Table(watch(world))
    plain = [text.replace('t."', "").replace('"', "") for text in expressions(table)]
    assert plain == [limit, runs, had]


def watch(world: World) -> Watch:
    with connect(world.dsn) as connection:
        watches = adopt.watch(check.infer_table(connection, "renders"))
    return parse(HEAD + adopt.text(watches)).watch()


def expressions(table: Table) -> list[str]:
    assert table.watch.words[State.PENDING]
    return [table.own_attempts("t"), table.attempts("t"), table.counted("t")]
