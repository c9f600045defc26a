"""The guard and the SQL together, on one clock: work that must not be repeated is done at most
once, whatever happens and whenever, and its task reaches an end.

The guard and the SQL are the real ones. The handler is a model of its process: it may stand still
and die at each of its steps. Whatever else can happen is drawn each time that the guard waits."""

import json
import math
import random
import types
import uuid

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.dispatch import NoDispatch
from functions.core.policy import load
from functions.core.record import replace
from functions.core.states import ENDED, Reason, SettleAs, State
from functions.errors import StoreError
from functions.store import Store, verbs
from functions.worker import claim, lease_clock, settle, shutdown
from functions.worker import guard as guards
from functions.worker.guard import FINISH_SECONDS
from functions.worker.messages import (
    Begin,
    Checkpoint,
    CheckpointAnswer,
    Exited,
    Failed,
    Progress,
    Ready,
    Result,
    Stopped,
)
from tests.sql import SET_CLOCK, install_still_clock

LEASE, RUN_FOR, PUSH_SECONDS = 30, 100, 20
POLICY = load()
DEFAULT = replace(
    POLICY.watch().rules["*"],
    lease=LEASE,
    run_for=RUN_FOR,
    attempts=3,
    backoff_max=5,
    on_error="fail",
)
RULES = {
    "*": DEFAULT,
    "mail": replace(DEFAULT, on_lost="uncertain"),
    "fragile": replace(DEFAULT, on_lost="fail"),
    "again": DEFAULT,
}
WATCH = replace(POLICY.watch(), rules=RULES)
MOST_EVENTS = 40
"""After so many draws nothing bad happens any more, so that each example ends."""
EXAMPLES = 150
"""Of each kind. The faults that are planted below are found in so many."""
PAUSES = [0.1, 5.5, 5.5, LEASE / 3, LEASE - 1, LEASE, RUN_FOR]
SHUTDOWN_PAUSES = [0.1, FINISH_SECONDS + 0.1, FINISH_SECONDS + 0.1, 9.0]
RARE_EVENTS = ["freeze", "outage", "sigterm", "shutdown", "sweep", "push", "poll", "kill", "cancel"]
EVENTS = [None] * 8 + ["pause"] * 4 + RARE_EVENTS
"""Methods of the World."""
FATES = ["answered"] * 8 + ["answer lost", "not reached"]


class Killed(BaseException):
    """The instance has ended by SIGKILL: nothing of it runs any more."""


class World:
    """A database, its clock, and one task; `choose` says what happens next."""

    def __init__(self, db, choose, kind):
        self.db, self._choose, self.kind = db, choose, kind
        self.now, self.away_until, self.events, self.depth = 0.0, 0.0, 0, 0
        self.executions, self.begun_late = [], False
        self.cancelled, self.is_dead = False, False
        self.store = FaultyStore(self)
        for table in ("public.tasks", "unstuck.attempts", "unstuck.refusals", "unstuck.dispatches"):
            db.execute(f"delete from {table}")
        db.execute("select setseed(0)")
        self.task_id = str(uuid.UUID(int=1))
        self.query("select unstuck.tasks_create(%s, '{}', p_id => %s)", kind, self.task_id)

    def draw(self, ways, calm):
        """`calm` once enough has happened."""
        self.events += 1
        return calm if self.events > MOST_EVENTS else self._choose(ways)

    def is_wild(self):
        return self.events < MOST_EVENTS

    def query(self, query, *values):
        self.now += 0.001
        self.db.execute(f"select {SET_CLOCK}", (int(self.now * 1e6),))
        row = self.db.execute(query, values).fetchone()
        return next(iter(row.values()))

    def state(self):
        status = self.query("select status from public.tasks where id = %s", self.task_id)
        return State("running" if status == "processing" else status)

    def live_token(self):
        return self.query(
            "select max(token::text) from unstuck.attempts where task_id = %s and ended_at is null",
            self.task_id,
        )

    def sweep(self):
        self.query("select unstuck.tasks_sweep(%s)::jsonb", WATCH.rules_json)

    def poll(self):
        self.query("select unstuck.tasks_status(%s, %s)", self.task_id, WATCH.rules_json)

    def cancel(self):
        self.cancelled = True
        self.query("select unstuck.tasks_cancel(%s)", self.task_id)

    def push(self):
        """A delivery, to an instance of its own: while another one still runs, it is a second."""
        if self.depth == 2:
            return
        self.depth += 1
        outer, shutdown.requested = shutdown.requested, shutdown.Request()
        outer_is_dead, self.is_dead = self.is_dead, False
        try:
            guards.guard(
                self.store, POLICY, NoDispatch(), WATCH, self.task_id, worker=f"w{self.depth}"
            )
        except (StoreError, Killed):
            pass
        finally:
            self.depth -= 1
            shutdown.requested, self.is_dead = outer, outer_is_dead

    def happen(self):
        """What may happen beside a worker that waits."""
        event = self.draw(EVENTS, None)
        if event:
            getattr(self, event)()
        if shutdown.requested.is_set():
            self.is_dead |= shutdown.requested.seconds_ago() > shutdown.GRANTED_SECONDS
        if self.is_dead:
            raise Killed

    def sleep(self, seconds):
        self.now += seconds

    def pause(self):
        self.now += self.draw(PAUSES, 0)

    def outage(self):
        self.away_until = self.now + self.draw(PAUSES, 0)

    def sigterm(self):
        shutdown.requested.set()

    def shutdown(self):
        """SIGTERM, and what is at work then goes on for a while."""
        self.sigterm()
        self.now += self.draw(SHUTDOWN_PAUSES, 0)

    def kill(self):
        self.is_dead = True

    def freeze(self):
        """The whole instance stands still, and the others do not."""
        self.now += self.draw(PAUSES, 0)
        self.sweep()
        if self.draw([True, False], calm=False):
            self.now += 6  # longer than the backoff
            self.push()
        self.now += self.draw(PAUSES, 0)


class FaultyStore(Store):
    def __init__(self, world):
        self.world = world

    def call(self, function, arguments, timeout):
        world = self.world
        if world.is_dead:
            raise Killed
        if world.now < world.away_until:
            world.now += min(timeout, 1)
            raise StoreError("the database is away", retryable=True)
        fate = world.draw(FATES, "answered")
        if fate == "not reached":
            world.now += timeout
            raise StoreError("no answer in time", retryable=True)
        named = ", ".join(f"{name} => %s" for name in arguments)
        answer = world.query(f"select unstuck.{function}({named})", *arguments.values())
        if fate == "answer lost":
            world.now += timeout
            raise StoreError("the connection broke", retryable=True)
        return answer


class ModelledWork:
    """Where the handler runs."""

    def __init__(self, world):
        self.world, self.token = world, world.live_token()
        self.step = "loading"

    def receive(self, timeout):
        world = self.world
        world.happen()
        message = self.speak()
        if message is None:
            world.now += max(timeout, 0.1)
        return message

    def speak(self):
        match self.step:
            case "loading":
                return self.go_on({"ready": ("asked", Ready())}, "ready")
            case "running":
                ways = {
                    "result": ("over", Result(json.dumps({}))),
                    "checkpoint": ("saving", Checkpoint("step", 1)),
                    "progress": ("running", Progress({})),
                }
                if self.world.kind == "mail":
                    failure = Failed(None, Reason.TRANSIENT, None, "a timeout")
                    ways["request failed"] = ("over", failure)
                return self.go_on(ways, "nothing" if self.world.is_wild() else "result")
            case "stopping":
                self.step = "over"
                return Stopped()
        return None

    def go_on(self, ways, calm):
        ways |= {"nothing": (self.step, None), "dies": ("over", Exited(-9))}
        drawn = self.world.draw([*[calm] * 3, *sorted(ways)], calm)
        self.step, message = ways[drawn]
        return message

    def send(self, message):
        match message:
            case Begin():
                if self.world.draw([False, False, True], calm=False):
                    self.world.freeze()
                self.step = "loading"
                if lease_clock.now() < message.until:
                    self.begin()
            case CheckpointAnswer():
                self.step = "running" if message.held else "stopping"

    def begin(self):
        if not self.world.cancelled:  # its lease is not over: only a person ends an attempt early
            self.world.begun_late |= self.world.live_token() != self.token
        self.world.executions.append(self.token)
        self.step = "running"

    def memory(self):
        return 0

    def end(self, seconds):
        self.step = "over"


@pytest.fixture
def db(database):
    with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
        install_still_clock(connection)
        yield connection


@pytest.fixture(autouse=True)
def no_lines(monkeypatch):
    monkeypatch.setattr("functions.core.events.emit_lines", lambda _: None)


def play_all(db, kind, monkeypatch, first_seed):
    for seed in range(first_seed, first_seed + EXAMPLES):
        try:
            with monkeypatch.context() as patch:
                run(installed(World(db, random.Random(seed).choice, kind), patch))
        except AssertionError as error:
            raise AssertionError(f"seed {seed} of {kind}: {error}") from error


@pytest.mark.parametrize("kind", ["mail", "fragile", "again"])
def test_work_that_must_not_be_repeated_is_done_at_most_once_whatever_happens(
    db, kind, monkeypatch
):
    play_all(db, kind, monkeypatch, 0)


def release_is_always_free(db, patch):
    change_settle(
        db, "when 'release' then v_rule ->> 'on_lost' = 'retry'", "when 'release' then true"
    )


def return_is_taken_for_every_end(db, patch):
    """The guard says of each loss that the handler had not begun."""
    patch.setattr(
        guards._Attempt,
        "cut",
        lambda self, reason, detail: settle.AttemptEnd(SettleAs.RETURN, reason, detail=detail),
    )


def nobody_asks_before_the_handler_begins(db, patch):
    """The guard gives its word however long it has waited, for ever."""
    patch.setattr(guards._Attempt, "_is_fresh", lambda self: True)
    patch.setattr(guards, "Begin", lambda _: Begin(math.inf))


def the_handler_does_not_look_at_the_clock(db, patch):
    patch.setattr(guards, "Begin", lambda _: Begin(math.inf))


def change_settle(db, old, new):
    query = "select pg_get_functiondef('unstuck.tasks_settle'::regproc)"
    text = next(iter(db.execute(query).fetchone().values()))
    assert old in text
    db.execute(text.replace(old, new).encode())


@pytest.mark.parametrize(
    "planted",
    [
        release_is_always_free,
        return_is_taken_for_every_end,
        nobody_asks_before_the_handler_begins,
        the_handler_does_not_look_at_the_clock,
    ],
)
def test_the_model_finds_a_fault_that_was_planted(db, planted, monkeypatch):
    """With as many examples as above: else it would prove nothing."""
    planted(db, monkeypatch)
    with pytest.raises(AssertionError, match="seed"):
        play_all(db, "mail", monkeypatch, 0)


def installed(world, patch):
    """All that the guard asks for time, and all that it starts, is of this world."""
    clock = types.SimpleNamespace(monotonic=lambda: world.now, sleep=world.sleep)
    for module in (guards, claim, settle, shutdown, verbs):
        patch.setattr(module, "time", clock)
    patch.setattr(lease_clock, "now", clock.monotonic)
    patch.setattr(guards, "Work", lambda *_: ModelledWork(world))
    patch.setattr(shutdown, "requested", shutdown.Request())
    return world


def run(world):
    for _ in range(MOST_EVENTS):
        if world.state() in ENDED:
            break
        world.push()
        world.sweep()
        world.now += PUSH_SECONDS
    assert world.state() in ENDED
    assert not world.begun_late, "a handler began although its attempt had ended"
    assert len(set(world.executions)) == len(world.executions), "an attempt begins once"
    if world.kind != "again":
        assert len(world.executions) <= 1
    if world.state() is State.COMPLETED:
        assert world.executions


def test_in_calm_weather_the_work_is_done(db, monkeypatch):
    """Else the model would prove nothing."""
    world = installed(World(db, pytest.fail, "mail"), monkeypatch)
    world.events = MOST_EVENTS
    world.push()
    assert world.state() is State.COMPLETED
    assert len(world.executions) == 1
