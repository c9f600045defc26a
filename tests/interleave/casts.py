"""Who takes part in a schedule."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import factorial, prod
from uuid import UUID

from tests.interleave.world import TABLES

OPEN_WORDS = {"tasks": ("pending", "processing"), "jobs": ("queued", "working")}
FOREIGN = {"tasks": ("status", "cancelled", "pending"), "jobs": ("state", "stopped", "queued")}


@dataclass(frozen=True)
class Actor:
    """One session and the verbs that it calls, each in a transaction of its own."""

    name: str
    verbs: tuple[str, ...]
    task: int = 0
    cuts: int = 0
    """At so many of its writes each of its verbs can be stopped, before it writes."""

    crash: tuple[int, str] | None = None
    """The verb at which its process dies, and when: inside of it, before its commit, or after."""

    @property
    def is_zombie(self) -> bool:
        """Whether it has held the task since before the actors came."""
        return self.name == "zombie"

    def dies(self, verb: int, moment: str) -> bool:
        return self.crash == (verb, moment)

    def at(self, task: int) -> "Actor":
        return replace(self, task=task)

    @property
    def steps(self) -> int:
        """Of the part that it plays, where nothing stops it."""
        if self.name == "time":
            return 1
        count = len(self.verbs) if self.crash is None else self.crash[0] + 1
        return count * 2 + self.cuts

    def deaths(self) -> Iterator["Actor"]:
        """Itself, and itself with a crash at each point."""
        yield self
        if self.name == "time":
            return
        for verb in range(len(self.verbs)):
            yield replace(self, crash=(verb, "before"))
            if self.cuts:
                yield replace(self, crash=(verb, "inside"))
            if verb + 1 < len(self.verbs):
                yield replace(self, crash=(verb, "after"))


@dataclass(frozen=True)
class Cast:
    watch: str
    scene: str
    """How its tasks stand when the actors come: waiting, held, lapsed ..."""

    actors: tuple[Actor, ...]
    rule: str = "retry"
    tasks: int = 1

    @property
    def verbs(self) -> set[str]:
        return {verb for actor in self.actors for verb in actor.verbs}

    @property
    def orders(self) -> int:
        """At most so many orders are there: fewer where one actor waits for another."""
        steps = [actor.steps for actor in self.actors]
        return factorial(sum(steps)) // prod(factorial(count) for count in steps)

    def __str__(self) -> str:
        return f"{self.watch}, {self.scene}: " + " | ".join(
            f"{actor.name} {'+'.join(actor.verbs)}"
            + (f" cut {actor.cuts}" if actor.cuts else "")
            + (f" dies {actor.crash[1]} {actor.verbs[actor.crash[0]]}" if actor.crash else "")
            for actor in self.actors
        )


def statement(cast: Cast, verb: str, ids: list[str], actor: Actor, token: UUID) -> str:
    """The one statement of a verb."""
    watch, task = cast.watch, ids[actor.task]
    rules = f"current_setting('testing.{watch}_{cast.rule}')::jsonb"
    status, end, start = FOREIGN[watch]
    open_words = ", ".join(f"'{word}'" for word in OPEN_WORDS[watch])
    everything = ", ".join(f"'{key}'" for key in ids)

    def settle(outcome: str, reason: str = "null") -> str:
        return f"settle('{task}', '{token}', '{outcome}', {rules}, '\"{token}\"', {reason})"

    calls = {
        "claim": f"claim('{task}', '{actor.name}', {rules}, '{token}')",
        "again": f"claim('{task}', '{actor.name}', {rules}, '{token}', true)",
        "next": f"claim(null, '{actor.name}', {rules}, '{token}')",
        "complete": settle("complete"),
        "fail": settle("fail", "'handler_error'"),
        "retry": settle("retry", "'transient'"),
        "release": settle("release"),
        "sweep": f"sweep({rules}, 10)",
        "poll": f"status('{task}', {rules})",
        "cancel": f"cancel('{task}')",
        "reopen": f"operate('retry', array[{everything}])",
        "requeue": f"operate('requeue', array[{everything}])",
        "end by hand": f"operate('fail', array[{everything}])",
        "stop all": f"operate('cancel', array[{everything}])",
    }
    if verb in calls:
        return f"select unstuck.{watch}_{calls[verb]}"
    if verb == "beat":
        return f"select unstuck.beat('{watch}', '{task}', '{token}')"
    if verb == "checkpoint":
        return f"select unstuck.checkpoint('{watch}', '{task}', '{token}', 'a', '1')"
    table = f"update {TABLES[watch]} set {status}"
    if verb == "write an end":  # a cleanup script: it looks, and ends what is open
        return f"{table} = '{end}' where id = '{task}' and {status} in ({open_words})"
    if verb == "put back":  # a cleanup script that starts everything again
        return f"{table} = '{start}' where id = '{task}'"
    # somebody with the right to pass the fence
    passes = f"select set_config('unstuck.override', '{watch}', true); {table}"
    if verb == "end past the fence":
        return f"{passes} = '{end}' where id = '{task}' and {status} in ({open_words})"
    assert verb == "put back past the fence", verb
    return f"{passes} = '{start}' where id = '{task}' and {status} in ({open_words})"


WORKER = Actor("worker", ("claim", "complete"))
SECOND = Actor("second", ("next", "complete"))
OTHER_CLAIM = Actor("second", ("claim",))
FAILING = Actor("second", ("claim", "retry"))
ASKING_AGAIN = Actor("worker", ("claim", "again", "complete"))
ZOMBIE = Actor("zombie", ("complete",))
BEATING = Actor("zombie", ("beat", "complete"))
KEEPING = Actor("zombie", ("checkpoint", "release"))
SWEEP = Actor("sweep", ("sweep",))
OTHER_SWEEP = Actor("other sweep", ("sweep",))
POLL = Actor("poll", ("poll",))
CANCEL = Actor("cancel", ("cancel",))
REOPEN = Actor("reopen", ("reopen",))
REQUEUE = Actor("requeue", ("requeue",))
BY_HAND = Actor("by hand", ("end by hand",))
ENDER = Actor("foreign", ("write an end",))
PUTTER = Actor("foreign", ("put back",))
PASSER = Actor("foreign", ("end past the fence",))
RESTARTER = Actor("foreign", ("put back past the fence",))
TIME = Actor("time", ("lapse",))

SCENES: dict[str, tuple[Actor, ...]] = {
    "waiting": (WORKER, SECOND, SWEEP, POLL, CANCEL, BY_HAND, ENDER, TIME),
    "held": (BEATING, WORKER, SWEEP, CANCEL, REQUEUE, ENDER, TIME),
    "lapsed": (ZOMBIE, WORKER, SWEEP, POLL, CANCEL, REQUEUE, PUTTER),
    "lapsed last": (ZOMBIE, WORKER, SWEEP, POLL, CANCEL, REOPEN),
    "failed": (REOPEN, WORKER, SWEEP, CANCEL, PUTTER, ZOMBIE, TIME),
    "old": (WORKER, SWEEP, POLL, CANCEL, ENDER),
    "unheld": (WORKER, SWEEP, POLL, CANCEL, ENDER),
    "deadline": (BEATING, SWEEP, POLL, WORKER),
}
"""How a task may stand, and who may come then."""
MORE: tuple[tuple[str, tuple[Actor, ...]], ...] = (
    ("lapsed", (ZOMBIE, SWEEP, OTHER_SWEEP)),
    ("lapsed last", (SWEEP, OTHER_SWEEP, POLL)),
    ("old", (SWEEP, OTHER_SWEEP, WORKER)),
    ("unheld", (SWEEP, OTHER_SWEEP, POLL)),
    ("held", (KEEPING, CANCEL, FAILING)),
    ("held", (replace(ZOMBIE, verbs=("retry",)), CANCEL, WORKER)),
    ("lapsed", (replace(ZOMBIE, verbs=("release",)), SWEEP, WORKER)),
    ("waiting", (ASKING_AGAIN, SECOND)),
    ("waiting", (ASKING_AGAIN, CANCEL)),
    ("waiting", (WORKER, FAILING)),
    ("waiting", (replace(ASKING_AGAIN, verbs=("claim", "again")), REQUEUE, OTHER_CLAIM)),
    ("held", (replace(BEATING, verbs=("beat", "fail")), REQUEUE, BY_HAND)),
    ("held", (replace(BEATING, verbs=("beat",)), POLL)),
    ("lapsed", (SWEEP, replace(POLL, verbs=("poll", "poll")))),
    ("held", (ZOMBIE, PASSER, WORKER)),
    ("held", (ZOMBIE, RESTARTER, WORKER)),
    ("held", (replace(ZOMBIE, verbs=("fail",)), PASSER, CANCEL)),
    ("lapsed", (SWEEP, PASSER, POLL)),
    ("lapsed", (SWEEP, RESTARTER, SECOND)),
    ("held", (replace(ZOMBIE, verbs=("complete", "complete")), CANCEL)),
    ("last", (replace(ZOMBIE, verbs=("retry",)), WORKER, CANCEL)),
    ("last", (replace(ZOMBIE, verbs=("release",)), WORKER, REQUEUE)),
    ("last", (replace(ZOMBIE, verbs=("checkpoint", "checkpoint")), SWEEP, TIME)),
    ("lapsed", (replace(ZOMBIE, verbs=("checkpoint",)), WORKER, SWEEP)),
    ("lapsed", (replace(ZOMBIE, verbs=("beat",)), WORKER, SWEEP)),
    ("completed", (Actor("cancel", ("stop all",)), BY_HAND, REQUEUE)),
    ("completed", (REOPEN, CANCEL, PUTTER)),
    ("taken outside", (SWEEP, POLL)),
    ("taken outside", (SWEEP, WORKER)),
)
"""Two of the same kind, and other verbs."""
SMALL, LARGE = 100, 1000
"""Of casts with at most so many orders (SMALL) all combinations of crashes are played; of larger
ones those in which at most one process dies; beyond LARGE those without a crash."""


def casts() -> Iterator[Cast]:
    """All that are played."""
    yield from cut_casts()
    for scene, actors in groups():
        yield from with_crashes(Cast("tasks", scene, actors))
        # the SQL of an adopted table is the same but for its fence
        if len(actors) == 2 or any(actor.name == "foreign" for actor in actors):
            yield from with_crashes(Cast("jobs", scene, actors))
    for watch in TABLES:
        for scene in ("lapsed", "deadline", "held"):
            for rule in ("uncertain", "once"):
                for actors in combinations((ZOMBIE, WORKER, SWEEP, TIME), 3):
                    yield from with_crashes(Cast(watch, scene, actors, rule))
    yield from pair_casts()


def early_and_rest(chosen: list[Cast]) -> list[Cast]:
    """By size, so that where the time is short the largest are left out; but each verb meets each
    other verb of its scene in those that come first."""
    met: set[tuple[str, ...]] = set()
    early, rest = [], []
    for cast in sorted(chosen, key=lambda cast: cast.orders):
        meetings = {
            (cast.watch, cast.scene, *sorted(meeting))
            for two_actors in combinations([actor.verbs for actor in cast.actors], 2)
            for meeting in product(*two_actors)
        }
        (rest if meetings <= met else early).append(cast)
        met |= meetings
    return early + rest


def groups() -> Iterator[tuple[str, tuple[Actor, ...]]]:
    """Each scene with every two and every three of those who may come."""
    for scene, menu in SCENES.items():
        for size in (2, 3):
            for actors in combinations(menu, size):
                yield scene, actors
    yield from MORE


def cut_casts() -> Iterator[Cast]:
    """Every two of those who may come, each cut inside of its verbs too."""
    for watch in TABLES:
        for scene, menu in SCENES.items():
            for actors in combinations((actor for actor in menu if actor is not TIME), 2):
                cut = tuple(replace(actor, cuts=2) for actor in actors)
                yield from with_crashes(Cast(watch, scene, cut))


def pair_casts() -> Iterator[Cast]:
    """Two tasks, and actors that lock both, in whatever order they do."""
    for watch in TABLES:
        for scene in ("held", "lapsed"):
            for actors in (
                (SWEEP, Actor("requeue", ("requeue",)), replace(ZOMBIE, task=1)),
                (OTHER_SWEEP, SWEEP, replace(ZOMBIE, task=1)),
                (Actor("cancel", ("stop all",)), BY_HAND, ZOMBIE),
                (Actor("cancel", ("stop all",)), SWEEP, replace(WORKER, task=1)),
            ):
                yield from with_crashes(Cast(watch, scene, actors, tasks=2))


def with_crashes(cast: Cast) -> Iterator[Cast]:
    most = len(cast.actors) if cast.orders <= SMALL else int(cast.orders <= LARGE)
    for actors in product(*(actor.deaths() for actor in cast.actors)):
        if sum(actor.crash is not None for actor in actors) <= most:
            yield replace(cast, actors=actors)
