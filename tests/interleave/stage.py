"""Plays one order of a cast's steps, and keeps what the actors were told."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Self
from uuid import UUID, uuid4

from tests.interleave.casts import Actor, Cast, statement
from tests.interleave.session import Answer, Session, Stop, Watcher
from tests.interleave.world import (
    EMPTY,
    LEASE_SECONDS,
    PENDING_SECONDS,
    SILENT_SECONDS,
    TABLES,
    WORDS,
    rules,
)

STEP = timedelta(milliseconds=1)
"""The clock goes on by so much at each step, so that no two things happen at the same time."""
BETWEEN_SCHEDULES = timedelta(days=1)
SCHEDULES_BEFORE_EMPTYING = 4000
"""Not often: after each time every session plans its statements again."""
LONGEST_WAIT = timedelta(seconds=4 * PENDING_SECONDS)
"""After so long a waiting task fails, whatever goes on around it (`pending_at_most`)."""
COLUMNS = {
    "tasks": {"status": "status", "alive": "updated_at"},
    "jobs": {"status": "state", "alive": "seen"},
}


class SceneError(RuntimeError):
    """A verb fails where nobody else is at work: before the orders begin, or after them."""


@dataclass
class Event:
    """One verb of one actor: what it was told, and whether that was committed."""

    actor: str
    verb: str
    token: UUID
    task: str
    at: datetime
    answer: Any = None
    sqlstate: str | None = None
    message: str | None = None
    committed: bool = False
    done_at: datetime | None = None
    """When it was committed."""


@dataclass
class Part:
    """How far an actor has come in its part."""

    actor: Actor
    token: UUID
    verb: int = 0
    stop: Stop | None = None
    """Of its statement; None: between two verbs."""

    unlocked: int = 0
    finished: bool = False
    event: Event | None = None


@dataclass
class Played:
    """One schedule, to its end."""

    cast: Cast
    ids: list[str]
    order: list[str] = field(default_factory=list)
    choices: list[tuple[int, int]] = field(default_factory=list)
    """At each step: which of the actors that could go on did, and how many could."""

    log: list[Event] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    stuck: bool = False
    """The last sweeps left something open."""


class Stage:
    """The sessions of one database; they are kept from schedule to schedule."""

    def __init__(self, dsn: str) -> None:
        self._stack = ExitStack()
        self.dsn = dsn
        self.watcher = self._stack.enter_context(Watcher(dsn, "scheduler"))
        self._prepare(self.watcher)
        self.sessions: dict[str, Session] = {}
        self.now = datetime(2030, 1, 1, tzinfo=UTC)
        self.schedules = 0
        self.watcher.run(EMPTY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _prepare(self, session: Session) -> None:
        for watch in TABLES:
            for name, changed in RULES.items():
                text = rules(watch, **changed).replace("'", "''")
                session.run(f"set testing.{watch}_{name} = '{text}'")

    def clean(self) -> None:
        """Nothing of a schedule that went wrong may meet the next one."""
        self.watcher.run(EMPTY)

    def session(self, actor: Actor) -> Session:
        if actor.name not in self.sessions:
            session = self._stack.enter_context(Session(self.dsn, actor.name, self.watcher))
            self._prepare(session)
            session.run(f"set testing.seat = {len(self.sessions) + 1}")
            session.seat = len(self.sessions) + 1
            self.sessions[actor.name] = session
        return self.sessions[actor.name]

    def clock(self) -> str:
        self.now += STEP
        return f"set_config('testing.now', '{self.now.isoformat()}', false)"

    def play(self, cast: Cast, prefix: list[int], draw: Random | None = None) -> Played:
        """One schedule: the choices of `prefix`, and from there always the first that is open, or
        one that is drawn."""
        self.schedules += 1
        if self.schedules % SCHEDULES_BEFORE_EMPTYING == 0:
            self.watcher.run(EMPTY)
        self.now += BETWEEN_SCHEDULES
        owner = str(uuid4())
        played = Played(cast, [str(uuid4()) for _ in range(cast.tasks)])
        zombie = uuid4()
        parts = [Part(actor, zombie if actor.is_zombie else uuid4()) for actor in cast.actors]
        locks = [
            f"select pg_advisory_lock({self.session(part.actor).seat}, {cut + 1})"
            for part in parts
            for cut in range(part.actor.cuts)
        ]
        self._run([*locks, *self._scene_of_all(played, owner, zombie)])
        while any(not part.finished for part in parts):
            able = [part for part in parts if self._is_able(part)]
            if not able:
                self._wait_for_a_deadlock(parts)
                continue
            index = len(played.choices)
            choice = draw.randrange(len(able)) if draw else 0
            if index < len(prefix):
                choice = min(prefix[index], len(able) - 1)
            played.choices.append((choice, len(able)))
            chosen = able[choice]
            others = [part for part in parts if part is not chosen and part.stop is not None]
            may_free_locks = chosen.stop is not None
            self._step(chosen, played, patient=not others)
            for part in others:
                if part.stop is Stop.WAITING:
                    session = self.session(part.actor)
                    part.stop = session.go_on() if may_free_locks else session.look()
        if locks:
            self.watcher.run("select pg_advisory_unlock_all()")
        self._end(played, owner, zombie)
        return played

    def _is_able(self, part: Part) -> bool:
        if part.finished:
            return False
        return part.stop is not Stop.WAITING or part.actor.dies(part.verb, "inside")

    def _wait_for_a_deadlock(self, parts: list[Part]) -> None:
        """All that are left wait for each other: PostgreSQL ends one of them."""
        waiting = next(part for part in parts if part.stop is Stop.WAITING)
        waiting.stop = self.session(waiting.actor).go_on(patient=True)

    def _step(self, part: Part, played: Played, *, patient: bool) -> None:
        actor = part.actor
        if actor.name == "time":
            self.now += timedelta(seconds=LEASE_SECONDS)
            played.order.append("time: a lease passes")
            part.finished = True
            return
        session = self.session(actor)
        if part.stop is None:
            self._begin(part, session, played, patient=patient)
        elif part.stop is Stop.DONE:
            self._commit(part, session, played)
        elif actor.dies(part.verb, "inside"):
            played.order.append(f"{actor.name}: killed in {actor.verbs[part.verb]}")
            session.kill()
            part.finished = True
        else:
            part.unlocked += 1
            played.order.append(f"{actor.name}: goes on in {actor.verbs[part.verb]}")
            self.watcher.run(f"select pg_advisory_unlock({session.seat}, {part.unlocked})")
            part.stop = session.go_on(patient=patient)

    def _begin(self, part: Part, session: Session, played: Played, *, patient: bool) -> None:
        actor, verb = part.actor, part.actor.verbs[part.verb]
        task = played.ids[actor.task]
        clock = self.clock()
        part.event = Event(actor.name, verb, part.token, task, self.now)
        played.log.append(part.event)
        played.order.append(f"{actor.name}: {verb}")
        query = statement(played.cast, verb, played.ids, actor, part.token)
        part.stop = session.start(
            f"begin; select {clock}, set_config('testing.cuts', '{actor.cuts}', false), "
            f"set_config('testing.cut', '{part.unlocked}', false); {query}",
            patient=patient,
        )

    def _commit(self, part: Part, session: Session, played: Played) -> None:
        actor, event = part.actor, part.event
        assert event is not None
        answer = session.answer
        event.sqlstate, event.message = answer.sqlstate, answer.message
        if answer.sqlstate or actor.dies(part.verb, "before") or actor.dies(part.verb, "inside"):
            played.order.append(f"{actor.name}: dies before its commit")
            session.kill()
            part.finished = True
            return
        event.answer = json.loads(answer.value) if answer.value else None
        played.order.append(f"{actor.name}: commits")
        committed = session.run("commit")
        event.committed = committed.sqlstate is None
        event.done_at = self.now
        event.sqlstate, event.message = committed.sqlstate, committed.message
        part.stop = None
        part.verb += 1
        refused = event.verb in ("claim", "next") and event.answer["verdict"] != "claimed"
        if event.verb == "next" and not refused:
            event.task = event.answer["task_id"]
            part.actor = actor.at(played.ids.index(event.answer["task_id"]))
        part.finished = (
            refused or part.verb == len(actor.verbs) or actor.dies(part.verb - 1, "after")
        )

    def _scene_of_all(self, played: Played, owner: str, zombie: UUID) -> Iterator[str]:
        cast = played.cast
        yield f"select {self.clock()}, set_config('testing.cuts', '0', false)"
        yield "delete from unstuck.sweeps"
        for task in played.ids:
            yield f"select testing.make_task('{cast.watch}', '{task}', '{owner}')"
        for task in played.ids:
            for line in self._scene(cast, task, zombie):
                yield f"select {self.clock()}"
                yield line

    def _scene(self, cast: Cast, task: str, zombie: UUID) -> Iterator[str]:
        """What happened to a task before the actors came."""
        rules_setting = f"current_setting('testing.{cast.watch}_{cast.rule}')::jsonb"

        def claim(token: UUID) -> str:
            return (
                f"select unstuck.{cast.watch}_claim('{task}', 'zombie', {rules_setting}, '{token}')"
            )

        def settle(token: UUID, outcome: str) -> str:
            reason = "null" if outcome == "complete" else f"'{REASONS[outcome]}'"
            return (
                f"select unstuck.{cast.watch}_settle('{task}', '{token}', '{outcome}', "
                f"{rules_setting}, '\"{token}\"', {reason})"
            )

        held = ("held", "lapsed", "deadline", "last", "lapsed last", "failed", "completed")
        if "last" in cast.scene.split():
            first = uuid4()
            yield claim(first)
            yield settle(first, "retry")
        if cast.scene in held:
            yield claim(zombie)
        if cast.scene in ENDS:
            yield settle(zombie, ENDS[cast.scene])
        yield from self._time_passes(cast, task, zombie)

    def _time_passes(self, cast: Cast, task: str, zombie: UUID) -> Iterator[str]:
        if cast.scene in ("unheld", "taken outside"):
            column = COLUMNS[cast.watch]
            word = WORDS[cast.watch]["running"]
            yield (
                f"update {TABLES[cast.watch]} set {column['status']} = '{word}', "
                f"{column['alive']} = testing.clock_timestamp() where id = '{task}'"
            )
        if cast.scene.startswith("lapsed"):
            self.now += timedelta(seconds=LEASE_SECONDS)
        elif cast.scene == "unheld":
            self.now += timedelta(seconds=SILENT_SECONDS)
        elif cast.scene == "old":
            self.now += timedelta(seconds=PENDING_SECONDS)
        elif cast.scene == "deadline":
            self.now += timedelta(seconds=LEASE_SECONDS + 570 - 10)
            yield f"select unstuck.beat('{cast.watch}', '{task}', '{zombie}')"
            self.now += timedelta(seconds=15)

    def _run(self, script: list[str]) -> Answer:
        answer = self.watcher.run("; ".join(script))
        if answer.sqlstate:
            raise SceneError(f"{answer.sqlstate} {answer.message}")
        return answer

    def _end(self, played: Played, owner: str, zombie: UUID) -> None:
        """Sweeps at the very moments at which what is open is to be ended, until nothing is."""
        cast = played.cast
        ids = f"array[{', '.join(map(repr, played.ids))}]"
        question = f"select testing.open_tasks({ids})"
        last = "poll" if any(actor.name == "poll" for actor in cast.actors) else "sweep"
        tasks = range(len(played.ids)) if last == "poll" else range(1)
        queries = [
            statement(cast, last, played.ids, Actor("scheduler", (last,), task=task), zombie)
            for task in tasks
        ]
        sweep = statement(cast, "sweep", played.ids, Actor("scheduler", ("sweep",)), zombie)
        moment, script = None, [question]
        while opened := json.loads(self._run(script).value or "[]"):
            moments = [_end_of(cast, *times) for _, *times in opened]
            if moment is not None and min(moments) <= moment:
                played.stuck = True  # what was due at that very moment is still open
                break
            self.now = moment = max(self.now + STEP, *moments)
            clock = f"select set_config('testing.now', '{moment.isoformat()}', false)"
            is_left = any(has_ended for has_ended, *_ in opened)  # a poll has nothing to do there
            script = [clock, *([sweep] if is_left else queries), question]
        facts = f"select testing.facts('{cast.watch}', {ids}, '{owner}')"
        played.facts = json.loads(self._run([facts]).value or "{}")


def _end_of(
    cast: Cast, is_running: bool, due: str, alive: str, lease_until: str | None, is_known: bool
) -> datetime:
    """The moment at which a sweep is to end what is open."""
    if lease_until:
        return datetime.fromisoformat(lease_until)
    if is_running:
        return datetime.fromisoformat(alive) + timedelta(seconds=SILENT_SECONDS)
    if is_known or cast.tasks > 1:  # others may have been taken before it
        return datetime.fromisoformat(due) + LONGEST_WAIT
    return datetime.fromisoformat(due) + timedelta(seconds=PENDING_SECONDS)


ENDS = {"failed": "fail", "completed": "complete"}
REASONS = {"fail": "handler_error", "retry": "transient"}
RULES: dict[str, dict[str, Any]] = {
    "retry": {},
    "uncertain": {"on_lost": "uncertain"},
    "once": {"attempts": 1},
}
