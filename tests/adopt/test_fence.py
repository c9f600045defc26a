"""The trigger on an adopted table: what `fence: enforce` refuses and lets pass, what `observe`
sees, and that `off` is nothing. The tables are our own, made of what real ones have: quoted names,
enums, numbers as words, times of all kinds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
import yaml

from functions.core.policy import Policy, Watch, parse
from functions.core.states import State
from functions.errors import PolicyError
from functions.install.column_sql import identifier
from functions.install.migrate import check, migrate
from functions.ops.doctor import examine
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import EXPIRE, HEAD
from tests.conftest import copied

RULE = {
    "pending_for": "30m",
    "redispatch_after": "2m",
    "run_for": "5m",
    "silent_for": "15m",
    "attempts": 3,
    "backoff": {"first": "1s", "factor": 2, "max": "5m"},
    "on_lost": "retry",
    "on_error": "retry",
    "isolation": "process",
    "memory": "400MB",
}
ENDED = (State.COMPLETED, State.FAILED, State.CANCELLED)
STUCK, FRESH = 3600.0, 60.0


@dataclass(frozen=True)
class Shape:
    """A table, its watch, and how its application writes the time `%s` seconds ago."""

    ddl: str
    watch: dict[str, Any]
    ago: str = ""


MIXED = Shape(
    ddl="""
    create schema "Print Shop";
    create type "Print Shop"."JobState" as enum
      ('Waiting', 'Held Back', 'Printing', 'Cutting', 'Done', 'Archived', 'Broken',
       'Dropped', 'Asking');
    create table "Print Shop"."PrintJobs" (
      "Job No" integer generated always as identity primary key,
      "Status" "Print Shop"."JobState" not null default 'Waiting',
      "CreatedAt" timestamptz not null,
      "TouchedAt" timestamptz,
      "What ""went"" wrong" varchar(20),
      "Copies" integer default 1);
    """,
    watch={
        "table": "Print Shop.PrintJobs",
        "key": "Job No",
        "key_type": "integer",
        "status": "Status",
        "words": {
            "pending": ["Waiting", "Held Back"],
            "running": ["Printing", "Cutting"],
            "completed": ["Done", "Archived"],
            "failed": ["Broken"],
            "cancelled": ["Dropped"],
            "resting": ["Asking"],
        },
        "columns": {"error": 'What "went" wrong'},
        "types": {"Status": "Print Shop.JobState", 'What "went" wrong': "varchar(20)"},
        "clocks": {
            "queued": "CreatedAt",
            "alive": ["TouchedAt", "CreatedAt"],
            "touched": "TouchedAt",
        },
    },
    ago="now() - make_interval(secs => %s)",
)
NUMBERED = Shape(
    ddl="""
    create table public.numbered (
      id bigint generated always as identity primary key,
      state smallint not null default 0,
      created bigint not null,
      updated bigint,
      run_after bigint,
      finished_s integer,
      error_code varchar(12));
    """,
    watch={
        "table": "public.numbered",
        "key": "id",
        "key_type": "bigint",
        "status": "state",
        "words": {
            "pending": [0, 5],
            "running": [1, 6],
            "completed": [2, 7],
            "failed": [3],
            "cancelled": [4],
        },
        "columns": {"error": "error_code"},
        "types": {
            "state": "smallint",
            "created": "bigint",
            "updated": "bigint",
            "run_after": "bigint",
            "finished_s": "integer",
            "error_code": "varchar(12)",
        },
        "clocks": {
            "queued": ["run_after", "created"],
            "due": "run_after",
            "alive": ["updated", "created"],
            "touched": "updated",
            "finished": "finished_s",
        },
    },
    ago="(extract(epoch from now() - make_interval(secs => %s)) * 1000)::bigint",
)
ZONELESS = Shape(
    ddl="""
    create table public."order" (
      "user" text primary key default md5(random()::text),
      status varchar(30),
      created timestamp not null,
      updated timestamp,
      error text);
    """,
    watch={
        "table": "public.order",
        "key": "user",
        "key_type": "text",
        "status": "status",
        "words": {
            "pending": ["isn't begun", "50% begun"],
            "running": ["going on", "still going on"],
            "completed": ["it's done", "it's \\ done"],
            "failed": ["$1 short"],
            "cancelled": ["let go"],
            "resting": ["?"],
        },
        "columns": {"error": "error"},
        "types": {"created": "timestamp", "updated": "timestamp"},
        "clocks": {"queued": "created", "alive": ["updated", "created"], "touched": "updated"},
    },
    ago="(now() - make_interval(secs => %s)) at time zone 'UTC'",
)
TIMELESS = Shape(
    ddl="""
    create table public.timeless (
      "ID" uuid primary key default gen_random_uuid(),
      "State" text not null default 'new',
      progress integer);
    """,
    watch={
        "table": "public.timeless",
        "key": "ID",
        "key_type": "uuid",
        "status": "State",
        "words": {
            "pending": ["new", "again"],
            "running": ["busy", "busier"],
            "completed": ["good"],
            "failed": ["bad"],
            "cancelled": ["off"],
            "resting": ["asks"],
        },
        "columns": {},
    },
)
SHAPES = {"mixed": MIXED, "numbered": NUMBERED, "zoneless": ZONELESS}


@dataclass
class Table:
    """A database with one table, and the guard on it."""

    dsn: str
    shape: Shape
    store: PostgresStore
    policy: Policy

    @property
    def watch(self) -> Watch:
        return self.policy.watch()

    @property
    def name(self) -> str:
        return identifier(*self.watch.table.split("."))

    @property
    def key(self) -> str:
        return psycopg.sql.Identifier(self.watch.key).as_string(None)

    @property
    def status(self) -> str:
        return psycopg.sql.Identifier(self.watch.status).as_string(None)

    def fenced(self, fence: str) -> None:
        """The policy says so, and is migrated."""
        self.policy = policy(self.shape, fence)
        migrate(self.dsn, self.policy)

    def execute(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            self.dsn, autocommit=True, application_name="an edge function"
        ) as connection:
            cursor = connection.execute(query.encode(), arguments)
            return cursor.fetchall() if cursor.description else []

    def add(self, word: Any, age: float = FRESH) -> str:
        """A row that the application wrote `age` seconds ago."""
        clocks = self.watch.clocks
        names = dict.fromkeys((*clocks.get("queued", ())[-1:], *clocks.get("touched", ())))
        columns = ", ".join([self.status, *map(identifier, names)])
        times = "".join(f", {self.shape.ago}" for _ in names)
        ((key,),) = self.execute(
            f"insert into {self.name} ({columns}) values (%s{times}) returning {self.key}::text",
            word,
            *[age] * len(names),
        )
        self.age_seen(key, age)
        return key

    def age_seen(self, key: str, age: float) -> None:
        self.execute(
            "update unstuck.observed set status_at = now() - make_interval(secs => %s), "
            "touched_at = now() - make_interval(secs => %s) where task_id = %s",
            age,
            age,
            key,
        )

    def seen(self) -> dict[str, tuple[float, float]]:
        """How long ago, in seconds, the status of each open task was set and its row touched."""
        rows = self.execute(
            "select task_id, extract(epoch from now() - status_at)::float8, extract(epoch "
            "from now() - touched_at)::float8 "
            "from unstuck.observed"
        )
        return {key: (status, touched) for key, status, touched in rows}

    def write(self, key: str, word: Any) -> int:
        """A foreign write of the status. Returns how many rows it changed."""
        return self.update(key, f"{self.status} = %s", word)

    def update(self, key: str, assignments: str, *values: Any) -> int:
        with psycopg.connect(
            self.dsn, autocommit=True, application_name="an edge function"
        ) as connection:
            statement = f"update {self.name} set {assignments} where {self.key}::text = %s"
            return connection.execute(statement.encode(), (*values, key)).rowcount

    def word(self, key: str) -> Any:
        ((word,),) = self.execute(
            f"select {self.status} from {self.name} where {self.key}::text = %s", key
        )
        return word

    def claim(self, key: str) -> str:
        answer = self.store.claim(self.watch, key, "a worker")
        assert answer.verdict == "claimed"
        return answer.token

    def sweep(self) -> dict[str, str]:
        answer = self.store.sweep(self.watch, 500)
        assert (answer.unsweepable, answer.more) == ([], False)
        return {task.task_id: task.state for task in answer.rescued}

    def refusals(self) -> list[tuple[str, str, str, str]]:
        return self.execute(
            "select task_id, wanted, because, writer from unstuck.refusals order by id"
        )

    def triggers(self) -> set[str]:
        query = "select tgname from pg_trigger where tgrelid = %s::regclass and not tgisinternal"
        return {name for (name,) in self.execute(query, self.name)}


def policy(shape: Shape, fence: str) -> Policy:
    watch = shape.watch | {"fence": fence, "rules": {"*": RULE}}
    dumped = yaml.safe_dump({"jobs": watch}, sort_keys=False)
    return parse(HEAD + "".join(f"  {line}\n" for line in dumped.splitlines()))


def table(dsn: str, shape: Shape, fence: str) -> Iterator[Table]:
    """Its session's zone is none of the zones in which its times are written."""
    database = dsn.rpartition("/")[2].partition("?")[0]
    fenced_table = Table(dsn, shape, PostgresStore(dsn), policy(shape, fence))
    fenced_table.execute(f"alter database {identifier(database)} set timezone to 'Asia/Tokyo'")
    fenced_table.execute(shape.ddl)
    migrate(dsn, fenced_table.policy)
    yield fenced_table
    fenced_table.store.close()


@pytest.fixture(scope="module", params=SHAPES)
def kept(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[Table]:
    """One database for each shape: installing is most of the time."""
    with copied(postgres, None) as dsn:
        yield from table(dsn, SHAPES[request.param], "enforce")


@pytest.fixture
def fenced(kept: Table) -> Table:
    kept.execute(f"truncate {kept.name}, unstuck.attempts, unstuck.refusals, unstuck.dispatches")
    return kept


@pytest.fixture
def timeless(empty_database: str) -> Iterator[Table]:
    yield from table(empty_database, TIMELESS, "observe")


@pytest.fixture
def mixed(empty_database: str) -> Iterator[Table]:
    yield from table(empty_database, MIXED, "off")


class TestEnforce:
    def test_no_foreign_write_leaves_a_state_that_has_ended(self, fenced: Table) -> None:
        words = fenced.watch.words
        expected = []
        for ended in ENDED:
            for word in words[ended]:
                key = fenced.add(word)
                for state in State:
                    for target in words[state] if state != ended else ():
                        assert (fenced.write(key, target), fenced.word(key)) == (0, word)
                        expected.append((key, str(target), "ended", "an edge function"))
        assert fenced.refusals() == expected

    def test_a_refused_write_changes_no_row_and_names_the_way_to_start_again(
        self, fenced: Table
    ) -> None:
        key = fenced.add(fenced.watch.words[State.FAILED][0])
        hints: list[str | None] = []
        with psycopg.connect(fenced.dsn, autocommit=True) as connection:
            connection.add_notice_handler(lambda notice: hints.append(notice.message_hint))
            word = fenced.watch.words[State.PENDING][0]
            update = f"update {fenced.name} set {fenced.status} = %s where {fenced.key}::text = %s"
            assert connection.execute(update.encode(), (word, key)).rowcount == 0
            (hint,) = hints
            assert hint
            call = hint.partition("Call ")[2].partition(" to start")[0]
            assert connection.execute(f"select {call}".encode()).fetchone() == ([key],)
        fenced.claim(key)

    def test_no_foreign_write_ends_a_held_task_or_puts_it_back(self, fenced: Table) -> None:
        key = fenced.add(fenced.watch.words[State.PENDING][0])
        token = fenced.claim(key)
        running = fenced.word(key)
        states = (*ENDED, State.PENDING, State.RESTING)
        words = [word for state in states for word in fenced.watch.words[state]]
        for word in words:
            assert (fenced.write(key, word), fenced.word(key)) == (0, running)
        assert fenced.refusals() == [(key, str(word), "held", "an edge function") for word in words]

        assert fenced.store.settle(fenced.watch, key, token, "complete").state == "completed"
        assert fenced.word(key) == fenced.watch.words[State.COMPLETED][0]

    def test_what_is_neither_ended_nor_held_may_move(self, fenced: Table) -> None:
        words = fenced.watch.words
        starts = [*words[State.PENDING], *words[State.RUNNING], *words[State.RESTING]]
        everywhere = [word for state in State for word in words[state]]
        for start in starts:
            for target in everywhere:
                key = fenced.add(start)
                assert (fenced.write(key, target), fenced.word(key)) == (1, target)
        assert fenced.refusals() == []

    def test_another_word_for_the_same_state_passes(self, fenced: Table) -> None:
        first, second = fenced.watch.words[State.COMPLETED]
        assert fenced.write(fenced.add(first), second) == 1
        key = fenced.add(fenced.watch.words[State.PENDING][1])
        token = fenced.claim(key)
        assert fenced.write(key, fenced.watch.words[State.RUNNING][1]) == 1
        assert fenced.store.settle(fenced.watch, key, token, "complete").verdict == "settled"
        assert fenced.refusals() == []

    def test_how_a_task_ended_cannot_be_rewritten(self, fenced: Table) -> None:
        error = identifier(fenced.watch.columns["error"])
        expected = []
        for word in [word for state in ENDED for word in fenced.watch.words[state]]:
            key = fenced.add(word)
            assert fenced.update(key, f"{error} = %s", "hm") == 0
            assert fenced.execute(
                f"select {error} from {fenced.name} where {fenced.key}::text = %s", key
            ) == [(None,)]
            expected.append((key, str(word), "ended", "an edge function"))
        assert fenced.refusals() == expected

    def test_the_time_of_the_end_stays_and_a_note_passes(self, fenced: Table) -> None:
        """Some triggers of the field set the end anew at each update of an ended row."""
        fenced.execute(f"alter table {fenced.name} add column if not exists note text")
        finished = fenced.watch.clocks.get("finished", ())
        change = "".join(f", {identifier(name)} = {identifier(name)} + 1" for name in finished)
        for word in fenced.watch.words[State.FAILED]:
            key = fenced.add(word)
            fenced.execute(
                "".join(f"update {fenced.name} set {identifier(name)} = 5; " for name in finished)
            )
            columns = ", ".join(["note", *map(identifier, finished)])
            before = fenced.execute(
                f"select {columns} from {fenced.name} where {fenced.key}::text = %s", key
            )[0]
            assert fenced.update(key, f"note = %s{change}", "seen") == 1
            after = fenced.execute(
                f"select {columns} from {fenced.name} where {fenced.key}::text = %s", key
            )[0]
            assert after == ("seen", *before[1:])
        assert fenced.refusals() == []

    def test_the_columns_of_a_held_task_are_free(self, fenced: Table) -> None:
        held = fenced.add(fenced.watch.words[State.PENDING][0])
        fenced.claim(held)
        assert fenced.update(held, f"{identifier(fenced.watch.columns['error'])} = %s", "hm") == 1

    def test_one_statement_moves_the_rows_that_may_move(self, fenced: Table) -> None:
        pending, failed = fenced.watch.words[State.PENDING][0], fenced.watch.words[State.FAILED][0]
        held, ended, free = (
            fenced.add(pending),
            fenced.add(fenced.watch.words[State.COMPLETED][0]),
            fenced.add(pending),
        )
        fenced.claim(held)
        fenced.execute(f"update {fenced.name} set {fenced.status} = %s", failed)
        assert fenced.word(free) == failed
        assert {(key, because) for key, _, because, _ in fenced.refusals()} == {
            (held, "held"),
            (ended, "ended"),
        }

    def test_it_lets_the_verbs_pass(self, fenced: Table) -> None:
        store, watch = fenced.store, fenced.watch
        pending = watch.words[State.PENDING][0]
        given_back, cancelled, lost = (fenced.add(pending) for _ in range(3))

        store.settle(watch, given_back, fenced.claim(given_back), "release")
        assert fenced.word(given_back) == pending

        fenced.claim(cancelled)
        assert store.operate(watch, "cancel", [cancelled]) == [cancelled]
        assert fenced.word(cancelled) == watch.words[State.CANCELLED][0]
        assert store.operate(watch, "retry", [cancelled]) == [cancelled]
        assert fenced.word(cancelled) == pending

        zombie = fenced.claim(lost)
        fenced.execute(EXPIRE)
        assert fenced.sweep() == {lost: "pending"}
        assert store.settle(watch, lost, zombie, "complete").verdict == "lost"
        assert [because for _, _, because, _ in fenced.refusals()] == ["retried"]

    def test_the_sweep_judges_by_the_clocks_as_they_are(self, fenced: Table) -> None:
        words = fenced.watch.words
        waits = {fenced.add(word, STUCK) for word in words[State.PENDING]}
        silent = {fenced.add(word, STUCK) for word in words[State.RUNNING]}
        fine = {
            fenced.add(word): word
            for state in (State.PENDING, State.RUNNING)
            for word in words[state]
        }
        fine |= {
            fenced.add(word, STUCK): word
            for state in (*ENDED, State.RESTING)
            for word in words[state]
        }

        assert fenced.sweep() == dict.fromkeys(waits, "failed") | dict.fromkeys(silent, "pending")

        assert {fenced.word(key) for key in waits} == {words[State.FAILED][0]}
        assert {fenced.word(key) for key in silent} == {words[State.PENDING][0]}
        assert {key: fenced.word(key) for key in fine} == fine
        assert fenced.refusals() == []
        assert fenced.sweep() == {}, "what it wrote is young in the terms of the table"

    def test_a_write_of_the_guard_is_young_in_the_terms_of_the_table(self, fenced: Table) -> None:
        key = fenced.add(fenced.watch.words[State.PENDING][0], STUCK / 4)
        fenced.claim(key)
        fenced.execute("delete from unstuck.attempts")  # as if a foreign worker ran it
        assert fenced.sweep() == {}

    def test_a_second_migration_finds_nothing_to_do(self, fenced: Table) -> None:
        assert check(fenced.dsn, fenced.policy) == []


def test_epoch_columns_keep_their_units(empty_database: str) -> None:
    for numbered in table(empty_database, NUMBERED, "enforce"):
        key = numbered.add(0)
        numbered.store.settle(
            numbered.watch, key, numbered.claim(key), "retry", reason="transient", after=3000.0
        )
        assert numbered.store.claim(numbered.watch, key, "a worker").verdict == "early"
        query = (
            "select run_after - extract(epoch "
            "from now()) * 1000, updated - extract(epoch from now()) * 1000 from numbered"
        )
        ((due, touched),) = numbered.execute(query)
        assert 2_900_000 < due <= 3_000_000
        assert -60_000 < touched <= 0

        done = numbered.add(0)
        numbered.store.settle(numbered.watch, done, numbered.claim(done), "complete")
        ((finished,),) = numbered.execute(
            "select finished_s - extract(epoch from now()) from numbered where id::text = %s", done
        )
        assert -60 < finished < 2


def test_a_clock_of_another_table_is_read_in_its_own_terms(empty_database: str) -> None:
    """A time without a zone in the table of the workers, read by a session in Tokyo: 9 hours are
    nothing to it."""
    by_worker = replace(
        ZONELESS,
        ddl=ZONELESS.ddl + "create table workers (id text primary key, beat timestamp);"
        """alter table "order" add worker text default 'w';""",
        watch=ZONELESS.watch
        | {
            "clocks": {"queued": "created", "alive": ["workers.beat via worker=id", "created"]},
            "types": {"created": "timestamp", "workers.beat": "timestamp"},
        },
    )
    for zoneless in table(empty_database, by_worker, "off"):
        zoneless.execute(
            "insert into workers values ('w', (now() - interval '1 minute') at time zone 'UTC')"
        )
        key = zoneless.add("going on", STUCK)
        assert zoneless.sweep() == {}
        zoneless.execute("update workers set beat = beat - interval '1 hour'")
        assert zoneless.sweep() == {key: "pending"}


def test_more_can_be_written_when_a_task_is_cancelled(empty_database: str) -> None:
    more = replace(MIXED, watch=MIXED.watch | {"also": {"cancelled": {"Copies": "nothing"}}})
    for mixed in table(empty_database, more, "off"):
        key = mixed.add("Printing")
        assert mixed.store.operate(mixed.watch, "cancel", [key]) == [key]
        assert mixed.execute(f'select "Status"::text, "Copies" from {mixed.name}') == [
            ("Dropped", None)
        ]


@pytest.mark.parametrize(("state", "change"), [("running", "note"), ("failed", "worker")])
def test_more_that_a_move_cannot_know_is_refused(state: str, change: str) -> None:
    with pytest.raises(
        PolicyError, match=rf"jobs.also.{state}.Copies: must be one of: now, nothing, raise"
    ):
        policy(replace(MIXED, watch=MIXED.watch | {"also": {state: {"Copies": change}}}), "off")


def test_a_word_that_would_end_the_body_of_a_function_is_refused() -> None:
    words = TIMELESS.watch["words"] | {"failed": ["$$; drop table jobs"]}
    with pytest.raises(
        PolicyError, match=r"policy.yaml:7: watches.jobs: has \$\$ in a name or a word"
    ):
        policy(Shape("", TIMELESS.watch | {"words": words}), "observe")


class TestObserve:
    def test_it_gives_a_table_without_clocks_its_clocks(self, timeless: Table) -> None:
        key = timeless.add("new", STUCK)
        timeless.update(key, "progress = 1")
        status, touched = timeless.seen()[key]
        assert status > STUCK - 1
        assert touched < FRESH
        timeless.write(key, "busy")
        status, touched = timeless.seen()[key]
        assert max(status, touched) < FRESH

    def test_the_sweep_rescues_by_them(self, timeless: Table) -> None:
        waits, silent, works = (
            timeless.add("again", STUCK),
            timeless.add("busier", STUCK),
            timeless.add("busy", STUCK),
        )
        timeless.update(works, "progress = 50")
        fine = {timeless.add(word): word for word in ("new", "busy")}
        fine |= {timeless.add(word, STUCK): word for word in ("good", "bad", "off", "asks")} | {
            works: "busy"
        }

        assert timeless.sweep() == {waits: "failed", silent: "pending"}

        assert (timeless.word(waits), timeless.word(silent)) == ("bad", "new")
        assert {key: timeless.word(key) for key in fine} == fine
        assert timeless.sweep() == {}

    def test_a_task_is_claimed_and_settled(self, timeless: Table) -> None:
        first, second = timeless.add("new", 2 * FRESH), timeless.add("new")
        assert timeless.store.claim(timeless.watch, None, "a worker").task_id == first, "the oldest"
        token = timeless.claim(second)
        assert timeless.store.beat(timeless.watch, second, token).verdict == "held"
        assert timeless.store.settle(timeless.watch, second, token, "complete").state == "completed"
        assert timeless.word(second) == "good"

    def test_it_refuses_nothing_and_writes_down_what_enforce_would_refuse(
        self, timeless: Table
    ) -> None:
        ended, held = timeless.add("good"), timeless.add("new")
        token = timeless.claim(held)
        assert (timeless.write(ended, "busy"), timeless.write(held, "bad")) == (1, 1)
        assert (timeless.word(ended), timeless.word(held)) == ("busy", "bad")
        assert [(key, because) for key, _, because, _ in timeless.refusals()] == [
            (ended, "ended"),
            (held, "held"),
        ]
        assert timeless.execute("select distinct source from unstuck.refusals") == [("rehearsal",)]
        assert timeless.store.overview(timeless.watch).refused == 0
        assert timeless.store.settle(timeless.watch, held, token, "complete").verdict == "lost", (
            "theirs by now"
        )

    def test_it_keeps_open_tasks_only(self, timeless: Table) -> None:
        ends, goes, stays = timeless.add("busy"), timeless.add("new"), timeless.add("asks")
        timeless.write(ends, "good")
        timeless.execute('delete from timeless where "ID"::text = %s', goes)
        assert timeless.seen().keys() == {stays}
        timeless.write(ends, "new")
        assert timeless.seen()[ends][0] < FRESH, "begun anew"

    def test_tasks_that_are_open_already_count_from_its_installation(self, timeless: Table) -> None:
        timeless.execute("drop trigger unstuck_observe on timeless")
        keys = {timeless.add(word) for word in ("new", "busy")}
        timeless.add("good")
        assert timeless.seen() == {}
        timeless.execute("delete from unstuck.migrations where name like 'verbs.%%'")
        timeless.fenced("observe")
        assert timeless.seen().keys() == keys
        assert timeless.sweep() == {}
        for key in keys:
            timeless.age_seen(key, STUCK)
        timeless.execute("delete from unstuck.migrations where name like 'verbs.%%'")
        timeless.fenced("observe")
        assert timeless.sweep().keys() == keys, "another migration starts no clock again"


class TestOff:
    def test_it_refuses_nothing_and_sees_only_what_is_put_back(self, mixed: Table) -> None:
        assert mixed.triggers() == {"unstuck_put_back"}
        ended, held = mixed.add("Done"), mixed.add("Waiting")
        mixed.claim(held)
        assert (mixed.write(ended, "Waiting"), mixed.write(held, "Broken")) == (1, 1)
        assert (mixed.refusals(), mixed.seen().keys()) == ([], {ended})

    @pytest.mark.parametrize("before", ["observe", "enforce"])
    def test_a_trigger_that_is_no_longer_wanted_goes(self, mixed: Table, before: str) -> None:
        mixed.fenced(before)
        mixed.add("Waiting")
        mixed.fenced("off")
        assert (mixed.triggers(), mixed.seen()) == ({"unstuck_put_back"}, {})
        assert mixed.write(mixed.add("Done"), "Waiting") == 1

    def test_one_takes_the_place_of_the_other(self, mixed: Table) -> None:
        mixed.fenced("observe")
        assert mixed.triggers() == {"unstuck_observe", "unstuck_fence"}
        mixed.fenced("enforce")
        assert mixed.triggers() == {"unstuck_put_back", "unstuck_fence"}
        mixed.fenced("observe")
        assert mixed.triggers() == {"unstuck_observe", "unstuck_fence"}

    def test_triggers_of_others_stay(self, mixed: Table) -> None:
        mixed.execute(
            "create function public.f() returns trigger language plpgsql as 'begin return new; end'"
        )
        mixed.execute(
            f"create trigger unstuck_fence before update on {mixed.name} for each row execute "
            "function public.f()"
        )
        mixed.execute("delete from unstuck.migrations where name like 'verbs.%%'")
        mixed.fenced("off")
        assert mixed.triggers() == {"unstuck_put_back", "unstuck_fence"}


@pytest.mark.parametrize("name", ["odd.name", "a.b.c", 'q"u.o"te'])
def test_a_dot_in_the_name_of_a_table_is_part_of_it(empty_database: str, name: str) -> None:
    """The policy names it as schema.name; the first dot ends the schema."""
    quoted = f"public.{identifier(name)}"
    shape = replace(
        NUMBERED,
        ddl=NUMBERED.ddl.replace("public.numbered", quoted),
        watch=NUMBERED.watch | {"table": f"public.{name}"},
    )
    for adopted in table(empty_database, shape, "enforce"):
        assert check(empty_database, adopted.policy) == []
        findings = examine(empty_database, adopted.policy, [adopted.watch])
        assert [finding for finding in findings if "there is no table" in str(finding)] == []
