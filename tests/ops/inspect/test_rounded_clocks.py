"""A clock that keeps no more than seconds rounds what it takes: by it a task that is put back now
must not have to wait, and nothing that just happened lies ahead."""

from functions.install.column_sql import NUMBERS, earliest, moment, stamp
from functions.install.table import typed
from functions.ops import adopt
from functions.ops.inspect import check
from functions.ops.inspect.session import connect
from tests.ops.inspect.world import World

TYPES = (
    "timestamptz(0)",
    "timestamp(0) at Asia/Tokyo",
    "timestamp(3)",
    "timestamptz(1)",
    "timestamptz",
    "integer",
    "bigint",
    "numeric",
    "double precision",
    "date",
)
FRACTIONS = (".0", ".0004999", ".0005", ".49", ".5", ".500001", ".999999")


def cast(type_name: str) -> str:
    return type_name.partition(" at ")[0].replace("numeric", "numeric(12, 0)")


def moments(world: World) -> None:
    """Rows of moments, each with the same moment in a column of each type, as its application
    writes it: rounded."""
    columns = [f'"{type_name}" {of_table(type_name)}' for type_name in TYPES]
    world.run(f"create table t (time timestamptz, {', '.join(columns)})")
    for fraction in FRACTIONS:
        time = f"timestamptz '2026-03-01 10:00:07{fraction}Z'"
        values = ", ".join(rounded(type_name, time) for type_name in TYPES)
        world.run(f"insert into t values ({time}, {values})")


def of_table(type_name: str) -> str:
    return type_name.partition(" at ")[0].replace("numeric", "numeric(12, 0)")


def rounded(type_name: str, time: str) -> str:
    column = typed(type_name, type_name)
    if column.type in NUMBERS:
        return f"extract(epoch from {time})"
    return f"{time} at time zone '{column.zone}'" if column.type == "timestamp" else time


def test_what_its_application_writes_now_is_due(world: World) -> None:
    moments(world)
    for type_name in TYPES:
        late = f"{earliest(typed(type_name, type_name))} > time"
        assert world.rows(f"select * from t where {late}") == [], type_name


def test_what_is_written_now_does_not_lie_ahead(world: World) -> None:
    moments(world)
    for type_name in TYPES:
        column = typed(type_name, type_name)
        written = stamp(column)
        assert written is not None
        world.run(f'update t set "{type_name}" = {written.replace("now()", "time")}')
        read = earliest if column.type == "date" or type_name == "numeric" else moment
        late = f"{read(column)} > time"
        assert world.rows(f"select * from t where {late}") == [], type_name


def test_adopt_states_how_much_a_clock_keeps(world: World) -> None:
    world.run(
        "create table scans (no bigint generated always as identity primary key, state text not "
        "null check (state in ('enqueued', 'scanning', 'scanned', 'broken')), problem text, "
        "made_at timestamp(0) not null default now(), next_try_at timestamptz(0), "
        "updated_at timestamp(6))"
    )
    with connect(world.dsn) as connection:
        watch = adopt.policy(adopt.watch(check.infer_table(connection, "scans"))).watch()
    shown = {"made_at": "timestamp(0)", "next_try_at": "timestamptz(0)", "updated_at": "timestamp"}
    assert watch.types == shown
