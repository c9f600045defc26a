"""Whose turn it is in an adopted table, whose columns have names of their own: the most urgent
first, then each owner in turn, of one the oldest; with the index that doctor names and without."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import Watch, parse
from functions.core.record import replace
from functions.install.migrate import migrate
from functions.install.table import Table
from functions.ops.postgres.embedded import Postgres, create_database, drop_database
from functions.store import Store
from functions.store.postgres import PostgresStore
from functions.store.supabase import SupabaseStore
from tests.sql import install_clock, pass_time
from tests.store.steps import Db, settled
from tests.supabase.stack import Supabase, bootstrap

WATCH = """
    key: nr
    key_type: bigint
    status: stage
    words: {pending: [waiting], running: [busy], completed: [done], failed: [bad]}
    clocks: {queued: came_at, started: begun_at, alive: [begun_at, came_at], finished: over_at}
    types: {customer: bigint, rank: smallint}
    rules:
      "*": &NAME {pending_for: 15m, redispatch_after: 2m, run_for: 500s, silent_for: 15m,
        attempts: 3, backoff: {first: 2s, factor: 4, max: 5m}, on_lost: retry, on_error: retry,
        isolation: process, memory: 400MB}
"""
POLICY = f"""
platform: {{timeout: 600s, margin: 15s}}
lease: {{beat: 10s, for: 30s}}
sweep: {{every: 60s, budget: 45s, batch: 500, retention: 30d,
        mass_expiry: {{at_least: 10, share: 0.5}}}}
watches:
  parcels:
    table: public.Post Parcels
    columns:
      {{error: fault, owner: customer, kind: sort, priority: {{column: rank, first: lowest}}}}
{WATCH.replace("NAME", "parcels")}
  letters:
    table: public.letters
    columns: {{error: fault, owner: customer}}
{WATCH.replace("NAME", "letters")}
  cards:
    table: public.cards
    columns: {{error: fault}}
{WATCH.replace("NAME", "cards")}
"""
TABLE = """
create table {} (
  nr bigint generated always as identity primary key,
  sort text not null default 'box',
  stage text not null default 'waiting',
  customer bigint,
  rank smallint,
  fault text,
  came_at timestamptz not null default clock_timestamp(),
  begun_at timestamptz,
  over_at timestamptz
)
"""
TABLES = {"parcels": 'public."Post Parcels"', "letters": "public.letters", "cards": "public.cards"}
WAITING = "create index parcels_wait on \"Post Parcels\" (came_at) where stage = 'waiting'"
NOT_AGED = UUID(int=1)
"""A token whose claim does not look for a task that waits for too long."""
ADD = """
insert into {} (customer, sort, rank) select %s, %s, %s from generate_series(1, %s) returning nr
"""

READ = """
select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))
from pg_stat_xact_user_tables
where schemaname = 'public'
"""
"""What a transaction has read so far."""


@pytest.fixture(scope="module")
def dsn(postgres: Postgres) -> Iterator[str]:
    name = f"rotation_{uuid4().hex}"
    create_database(postgres.dsn(), name)
    dsn = postgres.dsn(name)
    bootstrap(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table in TABLES.values():
            connection.execute(TABLE.format(table))
            connection.execute(f"grant select, update on {table} to service_role")
        migrate(dsn, parse(POLICY), "public")
        install_clock(connection)
    yield dsn
    drop_database(postgres.dsn(), name)


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[Db]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def statement(watch: Watch) -> str:
    """The index that doctor names."""
    table = Table(watch)
    _, name = table.rotation_name
    return f"create index {name} on {table.name} ({table.rotation_index}) where stage = 'waiting'"


@pytest.fixture(params=["indexed", "without an index"])
def db(request: pytest.FixtureRequest, connection: Db) -> Db:
    """All tables are empty. Of rows that were deleted an older transaction elsewhere may keep
    versions that a new index lacks: then no plan uses that index yet."""
    for table in (*TABLES.values(), "unstuck.attempts", "unstuck.observed", "unstuck.rotations"):
        connection.execute(f"truncate {table} cascade")
    connection.execute("delete from unstuck.pauses; delete from unstuck.slots")
    watches = parse(POLICY).watches
    names = ["".join(Table(watches[name]).rotation_name) for name in ("parcels", "letters")]
    for name in (*names, "parcels_wait"):
        connection.execute(f"drop index if exists {name}")
    if request.param == "indexed":
        for name in ("parcels", "letters"):
            connection.execute(statement(watches[name]))
        connection.execute(WAITING)
    return connection


@pytest.fixture(scope="module")
def quick(dsn: str) -> Iterator[Store]:
    store = PostgresStore(dsn)
    yield store
    store.close()


@pytest.fixture
def parcels() -> Watch:
    return parse(POLICY).watch("parcels")


@pytest.fixture
def letters() -> Watch:
    return parse(POLICY).watch("letters")


def added(
    db: Db,
    watch: Watch,
    owner: int | None,
    count: int = 1,
    *,
    kind: str = "box",
    rank: int | None = None,
) -> list[str]:
    query = ADD.format(TABLES[watch.name])
    return [str(row["nr"]) for row in db.execute(query, (owner, kind, rank, count))]


def taken(store: Store, watch: Watch, kinds: list[str] | None = None) -> str:
    answer = store.claim(watch, None, "w", kinds)
    assert answer.verdict == "claimed"
    return str(answer.task_id)


@pytest.mark.parametrize("kinds", [None, ["box", "tube"]], ids=["any", "by kind"])
@pytest.mark.parametrize("running", [0, 3])
@pytest.mark.parametrize("name", ["parcels", "letters"])
def test_a_new_task_of_another_owner_starts_after_one_of_each_who_waits(
    quick, db, name, kinds, running
):
    watch = parse(POLICY).watch(name)
    if kinds and "kind" not in watch.columns:
        kinds = [""]
    for owner in (1, 2):
        added(db, watch, owner, 500)
    for _ in range(running):
        taken(quick, watch, kinds)
    (new,) = added(db, watch, 9)
    assert new in [taken(quick, watch, kinds) for _ in range(3 + running)]


def test_no_kind_keeps_a_new_task_of_another_kind_and_owner_waiting(quick, db, parcels):
    added(db, parcels, 1, 300)
    (new,) = added(db, parcels, 2, kind="tube")
    assert new in [taken(quick, parcels) for _ in range(2)]


def test_those_who_ask_for_other_kinds_do_not_take_the_turns(quick, db, parcels):
    """An owner whose kind one worker takes would come after each task of another's."""
    added(db, parcels, 1, 10)
    added(db, parcels, 3, 10, kind="tube")
    (waiting,) = added(db, parcels, 2)
    order = []
    for _ in range(2):
        order.append(taken(quick, parcels, ["box"]))
        taken(quick, parcels, ["tube"])
    assert waiting in order


def test_owners_take_turns_and_each_owners_tasks_start_in_their_order(quick, db, parcels):
    one, two = added(db, parcels, 1, 4), added(db, parcels, 2, 2)
    nobody = added(db, parcels, None, 2)
    order = [taken(quick, parcels) for _ in range(8)]
    for tasks in (one, two, nobody):
        assert [task for task in order if task in tasks] == tasks
        assert order.index(tasks[1]) <= 5
    assert quick.claim(parcels, None, "w").verdict == "none"


def test_the_more_urgent_comes_first_whoever_owns_it_and_none_has_0(quick, db, parcels):
    order = [
        *added(db, parcels, 2, 2, rank=-1),
        *added(db, parcels, 1, rank=None),
        *added(db, parcels, 2, rank=0),
    ]
    last = added(db, parcels, 3, rank=1)
    assert [taken(quick, parcels) for _ in range(5)] == order + last


def test_each_priority_has_turns_of_its_own(quick, db, parcels):
    """Else the urgent tasks of one owner would give all the others to the owner after."""
    for owner in (1, 3):
        added(db, parcels, owner, 10)
    order = []
    for _ in range(2):
        added(db, parcels, 2, rank=-1)
        taken(quick, parcels)
        order.append(taken(quick, parcels))
    owners = db.execute(
        'select customer from "Post Parcels" where nr = any (%s::bigint[])', (order,)
    )
    assert {row["customer"] for row in owners} == {1, 3}


@pytest.mark.parametrize("kinds", [None, ["box"]], ids=["any", "by kind"])
def test_turns_hold_under_limits_of_all_and_of_each_owner(quick, db, parcels, kinds):
    rule = replace(parcels.rule("*"), limit_running=3, limit_per_owner=1)
    watch = replace(parcels, rules={"*": rule})
    first, *_ = added(db, watch, 1, 300)
    second, *_ = added(db, watch, 2, 2)
    unowned = added(db, watch, None, 2)
    attempts = [quick.claim(watch, None, "w", kinds) for _ in range(4)]
    assert {attempt.task_id for attempt in attempts[:3]} == {first, second, unowned[0]}
    assert attempts[3].verdict == "limited"
    for attempt in attempts[:3]:
        settled(quick, watch, attempt, "complete")
    assert quick.claim(watch, None, "w", kinds).verdict == "claimed"


def test_an_owner_at_the_limit_does_not_keep_another_waiting(quick, db, parcels):
    rule = replace(parcels.rule("*"), limit_per_owner=1)
    watch = replace(parcels, rules={"*": rule})
    added(db, watch, 1, 2, rank=-5)
    (other,) = added(db, watch, 2)
    taken(quick, watch)
    assert taken(quick, watch) == other
    assert quick.claim(watch, None, "w").verdict == "limited"


def test_a_paused_kind_gets_no_turn_and_the_others_do(quick, db, parcels):
    added(db, parcels, 1, 5)
    added(db, parcels, 2, 2, kind="tube")
    added(db, parcels, 3, 2, kind="tube")
    quick.pause(parcels, "box", "ada", None, None)
    order = [taken(quick, parcels) for _ in range(2)]
    rows = db.execute('select distinct customer from "Post Parcels" where stage = %s', ("busy",))
    assert {row["customer"] for row in rows} == {2, 3}
    assert len(order) == 2
    for _ in range(2):
        taken(quick, parcels)
    assert quick.claim(parcels, None, "w").verdict == "paused"


def test_a_long_pause_keeps_its_own_kind_young_and_no_other(quick, db, parcels):
    (waited,) = added(db, parcels, 1)
    added(db, parcels, 2, kind="tube")  # is too old then
    quick.pause(parcels, "box", "ada", None, None)
    pass_time(db, 2 * 3600)
    assert quick.claim(parcels, None, "w").verdict == "paused"
    quick.resume(parcels, "box", "ada")
    (new,) = added(db, parcels, 3)
    assert [taken(quick, parcels) for _ in range(2)] == [waited, new]


def test_an_owner_whose_tasks_are_for_later_has_no_turn(quick, db, letters):
    (later,) = added(db, letters, 1)
    db.execute("update letters set came_at = now() + interval '1 hour'")
    (now,) = added(db, letters, 2)
    assert taken(quick, letters) == now
    assert quick.claim(letters, None, "w").verdict == "none"
    pass_time(db, 3601)
    assert taken(quick, letters) == later


def test_a_turn_writes_nothing_into_the_table_but_its_task(quick, db, parcels):
    added(db, parcels, 1, 3)
    added(db, parcels, 2, 3)
    before = {row["nr"]: row for row in db.execute('select ctid, * from "Post Parcels"')}
    task = int(taken(quick, parcels))
    after = {row["nr"]: row for row in db.execute('select ctid, * from "Post Parcels"')}
    assert {nr for nr in before if before[nr] != after[nr]} == {task}
    assert before[task].keys() == after[task].keys()


def test_claims_at_once_wait_for_nobody_and_take_different_tasks(dsn, quick, db, letters):
    added(db, letters, 1, 3)
    added(db, letters, 2, 3)
    claim = "select unstuck.letters_claim(null, 'w', %s::jsonb) ->> 'task_id'"
    rules = (str(letters.rules_json),)
    taken(quick, letters)  # the row of the turns is there
    with psycopg.connect(dsn) as first, psycopg.connect(dsn) as second:
        tasks = []
        for session in (first, second):
            session.execute("set lock_timeout = '1ms'")
            tasks.append(session.execute(claim, rules).fetchone()[0])
        tasks.append(taken(quick, letters))
        assert len(set(tasks)) == 3
        assert None not in tasks


def test_a_claim_that_dies_in_the_middle_loses_neither_its_task_nor_a_turn(dsn, quick, db, letters):
    mine, other = added(db, letters, 1, 2), added(db, letters, 2, 2)
    with psycopg.connect(dsn) as session:
        session.execute(
            "select unstuck.letters_claim(null, 'w', %s::jsonb)", (str(letters.rules_json),)
        )
        db.execute("select pg_terminate_backend(%s)", (session.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            session.execute("select pg_sleep(10)")
    order = [taken(quick, letters) for _ in range(4)]
    assert order == [mine[0], other[0], mine[1], other[1]]


@pytest.mark.parametrize("db", ["indexed"], indirect=True)
def test_by_the_rest_api_owners_take_turns_too(dsn, db, parcels):
    added(db, parcels, 1, 10)
    added(db, parcels, 2)
    with Supabase(dsn) as stack:
        store = SupabaseStore(stack.url, stack.key)
        order = [taken(store, parcels) for _ in range(2)]
        store.close()
    owners = db.execute(
        'select customer from "Post Parcels" where nr = any (%s::bigint[])', (order,)
    )
    assert {row["customer"] for row in owners} == {1, 2}


@pytest.mark.parametrize("db", ["indexed"], indirect=True)
@pytest.mark.parametrize("kinds", [None, ["box"]], ids=["any", "by kind"])
@pytest.mark.parametrize("limit", [None, 1], ids=["free", "at the limit of each owner"])
def test_a_claim_reads_no_more_rows_where_more_wait(dsn, db, parcels, kinds, limit):
    rule = replace(parcels.rule("*"), limit_per_owner=limit)
    watch = replace(parcels, rules={"*": rule})
    claim = "select unstuck.parcels_claim(null, 'w', %s::jsonb, %s, p_kinds => %s) ->> 'verdict'"
    arguments = (str(watch.rules_json), NOT_AGED, kinds)
    read = []
    for more in (10, 500):
        for owner in (1, 2):
            added(db, watch, owner, more)
        with psycopg.connect(dsn) as session:
            verdicts = [session.execute(claim, arguments).fetchone()[0] for _ in range(3)]
            (rows,) = session.execute(READ).fetchone()
            session.rollback()
        assert (verdicts[2] == "limited") is (limit is not None)
        read.append(rows)
    assert read[1] <= read[0] + 5


@pytest.mark.parametrize("db", ["without an index"], indirect=True)
def test_without_the_index_it_reads_a_bounded_number_of_rows(dsn, db, letters):
    db.execute("create index letters_wait on letters (came_at) where stage = 'waiting'")
    added(db, letters, 1, 1000)
    with psycopg.connect(dsn) as session:
        session.execute(
            "select unstuck.letters_claim(null, 'w', %s::jsonb)", (str(letters.rules_json),)
        )
        (rows,) = session.execute(READ).fetchone()
        session.rollback()
    db.execute("drop index letters_wait")
    assert rows < 300


def test_a_table_without_owners_keeps_no_turns(quick, db):
    cards = parse(POLICY).watch("cards")
    tasks = added(db, cards, 1, 3)
    assert [taken(quick, cards) for _ in tasks] == tasks
    assert db.execute("select from unstuck.rotations").fetchall() == []
    assert db.execute("select to_regproc('unstuck.cards_rotate')").fetchone() == {
        "to_regproc": None
    }
