"""The faults of the board. Each takes a stage, strikes, and tells what it saw."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from tests.board.stage import Stage
from tests.board.system import Connection, TaskState

POLL_SECONDS = 0.5
TASKS_AT_ONCE = 5
LATE_SECONDS = 3.0
"""A woken worker has so long to hand in its late result, and its row to show that."""
LONGEST_TIMEOUT_SECONDS = 60.0
"""The board does not wait for a longer one."""
TASKS_OF_A_LEADER = 30
NOBODY_SECONDS = 15.0
"""Nobody is there to end a task that waits; a time-out of a waiting task may."""
FREEZES, MOMENT_SECONDS = 5, 0.1
SLOWEST_SECONDS = 45.0
"""No fault is watched for longer at one step."""


@dataclass(frozen=True)
class Sight:
    """What was seen of one fault. `seconds`: from the fault to the next state, None when none came
    within `window`. `executions`: of the task that was executed most."""

    seconds: float | None = None
    window: float = 0.0
    executions: int = 1
    late_accepted: int = 0
    overwritten: int = 0
    """Results of a task that had finished which became a failure."""
    doubled: int = 0
    """Executions begun while a healthy worker was at the task, or after it had finished it; 1 too
    where the row gave a healthy task up."""
    beyond: int = 0
    """Executions beyond the limit of tries."""
    open_tasks: int = 0
    without_reason: int = 0
    not_applicable: str = ""


def window(stage: Stage) -> float:
    """How long a rescue may take before it counts as not come: four time-outs and 5 seconds for a
    system that was told a short one, and 20 for one whose time-out is hours."""
    timeout = stage.system.timeout_seconds
    return 20.0 if timeout > LONGEST_TIMEOUT_SECONDS else min(SLOWEST_SECONDS, 4 * timeout + 5)


def killed(stage: Stage) -> Sight:
    """The worker of a task is killed; another one is there."""
    stage.ensure("a", "b")
    task = stage.enqueue("waits")
    holder = stage.holder(task)
    struck = time.time()
    stage.kill(holder)
    seconds = _next_state(stage, task, struck)
    return _ended(stage, task, seconds)


def freeze(stage: Stage) -> Sight:
    """The worker of a task is frozen until another one has been given the task; then it wakes and
    finishes first. Where one worker leads the others, it is not that one."""
    stage.ensure("a", "b")
    task, holder = _task_apart_from_leader(stage)
    struck = time.time()
    stage.freeze(holder)
    seconds = _next_state(stage, task, struck)
    is_away = seconds is not None and stage.seen(
        lambda: len(stage.runs(task)) > 1 or stage.state(task).has_ended, window(stage)
    )
    stage.wake(holder)
    late = 0
    if is_away:
        stage.open_gate(task, 1)
        stage.seen(lambda: stage.runs(task, "finished"), LATE_SECONDS)
        accepted = stage.seen(lambda: stage.state(task).word == "completed", LATE_SECONDS / 2)
        late = int(bool(accepted))
    return _ended(stage, task, seconds, late_accepted=late)


def poison(stage: Stage) -> Sight:
    """A task kills each worker that takes it. A supervisor starts the worker again at once."""
    system = stage.system
    stage.kill("b", "c")
    stage.ensure("a")
    task = stage.enqueue("dies")
    stage.holder(task)
    struck = time.time()
    many = system.tries + 3

    def is_over() -> bool:
        return stage.state(task).has_ended or len(stage.runs(task)) >= many

    longest = (system.tries + 2) * window(stage)
    seconds = _next_state(stage, task, struck, lambda: _revive(stage))
    if seconds is not None:
        stage.seen(is_over, min(longest, 2 * SLOWEST_SECONDS), lambda: _revive(stage))
    state = stage.state(task)
    stage.kill("a")
    return _sight(stage, task, state, seconds)


def computes(stage: Stage) -> Sight:
    """A healthy task computes in C for two and a half time-outs, without its event loop."""
    timeout = stage.system.timeout_seconds
    if timeout > LONGEST_TIMEOUT_SECONDS:
        return Sight(not_applicable=f"its time-out is {timeout / 3600:g} hours")
    stage.ensure("a", "b")
    task = stage.enqueue("computes", 2.5 * timeout)
    began = stage.until(lambda: stage.runs(task), SLOWEST_SECONDS, "no worker began the task")
    words: set[str] = set()

    def is_done() -> bool:
        words.add(stage.state(task).word)
        return bool(stage.runs(task, "finished"))

    stage.seen(is_done, 3 * SLOWEST_SECONDS)
    stage.seen(lambda: stage.state(task).has_ended, window(stage))
    stage.seen(lambda: len(stage.runs(task)) > 1, 1.0)
    sight = _ended(stage, task, None)
    finished = stage.runs(task, "finished")
    seconds = finished[0]["at"] - began[0]["at"] if finished else None
    is_given_up = not words.isdisjoint({"failed", "waiting"})
    doubled = max(int(is_given_up), sight.executions - 1)
    return _changed(sight, seconds=seconds, doubled=doubled)


def database(stage: Stage) -> Sight:
    """The database is killed and started again while a task is at work. A supervisor starts workers
    that end."""
    stage.ensure("a", "b")
    stage.gather()
    task = stage.enqueue("waits")
    stage.holder(task)
    back = stage.strike_database()
    if back is None:
        return Sight(not_applicable="this database is not ours to kill")
    stage.open_gate(task)

    def revive() -> None:
        stage.ensure("a", "b", *stage.system.sweepers, wait=False)

    limit = max(window(stage), 20.0)
    ended = stage.seen(lambda: stage.state(task).has_ended, limit, revive)
    seconds = time.time() - back if ended else None
    after = stage.enqueue("quick")
    stage.seen(lambda: stage.state(after).has_ended, limit, revive)
    sight = _sight(stage, task, stage.state(task), seconds)
    still_open = int(not stage.state(after).has_ended)
    return _changed(sight, open_tasks=sight.open_tasks + still_open, window=limit)


def leader(stage: Stage) -> Sight:
    """What looks for dead workers is frozen, and the worker of a task is killed. Clients poll."""
    stage.ensure("a", "b", "c")
    task = stage.enqueue("waits")
    holder = stage.holder(task)
    frozen = stage.system.sweepers
    if not frozen:
        chief = stage.leader()
        others = [name for name in ("a", "b", "c") if name != holder]
        frozen = (chief or others[0],)
    stage.freeze(*frozen)
    struck = time.time()
    if holder not in frozen:
        stage.kill(holder)
    asked = [time.monotonic()]

    def poll() -> None:
        if time.monotonic() - asked[0] > POLL_SECONDS:
            asked[0] = time.monotonic()
            stage.system.poll(stage.place, task)

    seconds = _next_state(stage, task, struck, poll)
    if holder not in frozen:
        stage.wake(*frozen)
    else:
        stage.kill(*frozen)
    return _ended(stage, task, seconds)


def nobody(stage: Stage) -> Sight:
    """The only worker is killed and none comes back: nobody asks for work, nobody polls. The row
    must not say for ever that the task runs."""
    stage.kill("b", "c")
    stage.ensure("a")
    task = stage.enqueue("waits")
    stage.holder(task)
    struck = time.time()
    stage.kill("a")
    seconds = _next_state(stage, task, struck)
    if seconds is not None:
        stage.seen(lambda: stage.state(task).has_ended, NOBODY_SECONDS)
    state = stage.state(task)
    sight = _sight(stage, task, state, seconds)
    stage.open_gate(task)
    return _changed(sight, open_tasks=int(state.word == "running"))


def push_lost(stage: Stage) -> Sight:
    """Nobody hears of a new task."""
    if not stage.system.push:
        return Sight(not_applicable="it has no push: its workers poll")
    stage.ensure("a", "b")
    first = stage.enqueue("quick")
    stage.seen(lambda: stage.state(first).has_ended, window(stage))
    struck = time.time()
    task = stage.enqueue("waits", loses_push=True)
    began = stage.seen(lambda: stage.runs(task), window(stage))
    return _ended(stage, task, began[0]["at"] - struck if began else None)


def two_sweeps(stage: Stage) -> Sight:
    """A worker with five tasks is killed, and two look for dead workers at once."""
    stage.kill("b", "c")
    stage.ensure("a", *stage.system.sweepers)
    others = ("b", "c", *stage.system.second_sweepers)
    if not stage.system.renews:  # the tasks would be too old before the others have started
        stage.ensure(*others)
        stage.freeze(*others)
    tasks = [stage.enqueue("waits") for _ in range(TASKS_AT_ONCE)]
    for task in tasks:
        stage.holder(task)
    stage.ensure(*others)
    stage.wake(*others)
    struck = time.time()
    stage.kill("a")
    for task in tasks:
        for number in (2, 3, 4, 5):
            stage.open_gate(task, number)
    seconds: list[float | None] = []
    for task in tasks:
        if None not in seconds:
            seconds.append(_next_state(stage, task, struck))
    stage.seen(lambda: all(stage.state(task).has_ended for task in tasks), window(stage))
    stage.seen(lambda: any(len(stage.runs(task)) > 2 for task in tasks), 1.0)
    stage.kill(*stage.system.second_sweepers)
    sights = [_sight(stage, task, stage.state(task), None) for task in tasks]
    known = [value for value in seconds if value is not None]
    return Sight(
        seconds=max(known) if len(known) == len(tasks) else None,
        window=window(stage),
        executions=max(sight.executions for sight in sights),
        doubled=sum(max(0, sight.executions - 2) for sight in sights),
        beyond=sum(sight.beyond for sight in sights),
        open_tasks=sum(sight.open_tasks for sight in sights),
        without_reason=sum(sight.without_reason for sight in sights),
    )


def finished(stage: Stage) -> Sight:
    """A worker that looked dead finishes while the cleaner, which has seen it so, waits to write:
    locks on the row hold both, the worker first in the line."""
    system = stage.system
    stage.kill("b", "c")
    stage.ensure("a", *system.sweepers)
    task = stage.enqueue("waits")
    stage.holder(task)
    stage.freeze("a", *system.sweepers)
    time.sleep(min(system.timeout_seconds, SLOWEST_SECONDS / 2) + 0.7)
    if not stage.runs(task):
        raise TimeoutError(f"{system.name}: the task was not begun")
    with psycopg.connect(stage.place.dsn) as lock:
        _take_locks(stage, lock, task)
        stage.open_gate(task, 1)
        stage.wake("a")
        stage.seen(lambda: stage.runs(task, "finished"), LATE_SECONDS)
        stage.seen(lambda: _count_waiting(stage) > 0, 1.0)
        stage.wake(*system.sweepers)
        stage.ensure("b", wait=False)
        stage.seen(lambda: _count_waiting(stage) > 1, LATE_SECONDS)
    words = _words_for(stage, task, LATE_SECONDS / 2)
    ran_again = len(stage.runs(task)) > 1
    reopened = ran_again and "completed" in words and words[-1] != "completed"
    late = ran_again and words[-1] == "completed" and len(stage.runs(task, "finished")) < 2
    overwritten = words[-1] == "failed" and not ran_again
    sight = _ended(stage, task, 0.0, late_accepted=int(late), doubled=int(reopened))
    return _changed(sight, overwritten=int(overwritten))


def _take_locks(stage: Stage, lock: Connection, task: str) -> None:
    """A worker that was frozen inside of a transaction holds a lock: it may go on for a moment."""
    lock.execute("set lock_timeout = '2s'")
    lock.commit()
    for _ in range(FREEZES):
        try:
            for statement in stage.system.locks():
                lock.execute(statement.encode(), {"task": task})
        except psycopg.errors.LockNotAvailable:
            lock.rollback()
            stage.wake("a", *stage.system.sweepers)
            time.sleep(MOMENT_SECONDS)
            stage.freeze("a", *stage.system.sweepers)
        else:
            return
    raise TimeoutError(f"{stage.system.name}: frozen {FREEZES} times inside of a transaction")


FAULTS: dict[str, Callable[[Stage], Sight]] = {
    "killed": killed,
    "freeze": freeze,
    "poison": poison,
    "computes": computes,
    "database": database,
    "leader": leader,
    "nobody": nobody,
    "push_lost": push_lost,
    "two_sweeps": two_sweeps,
    "finished": finished,
}
ORDER = (
    "push_lost",
    "killed",
    "computes",
    "freeze",
    "leader",
    "two_sweeps",
    "nobody",
    "finished",
    "poison",
)
"""In which one system is tried: processes are started anew as seldom as can be, and the task that
kills comes last. `database` strikes all systems at once."""


def _task_apart_from_leader(stage: Stage) -> tuple[str, str]:
    """A task that has begun, and its worker. Where the leader takes every task, it is that one."""
    chief = stage.leader()
    for _ in range(TASKS_OF_A_LEADER):
        task = stage.enqueue("waits")
        holder = stage.holder(task)
        if holder != chief:
            return task, holder
        stage.open_gate(task)
    task = stage.enqueue("waits")
    return task, stage.holder(task)


def _next_state(
    stage: Stage, task: str, struck: float, meanwhile: Callable[[], object] | None = None
) -> float | None:
    """Seconds until a second execution begins or the row no longer says running."""

    def has_moved() -> float:
        runs = stage.runs(task)
        if len(runs) > 1:
            return float(runs[1]["at"])
        return 0.0 if stage.state(task).word in {"running", "away"} else time.time()

    moved = stage.seen(has_moved, window(stage), meanwhile)
    return moved - struck if moved else None


def _ended(
    stage: Stage, task: str, seconds: float | None, *, late_accepted: int = 0, doubled: int = 0
) -> Sight:
    """Lets the task go and waits for its end: one time-out and 5 seconds where the fault has had
    its whole time before."""
    longest = window(stage)
    if seconds is None:
        longest = min(longest, stage.system.timeout_seconds + 5)
    stage.open_gate(task)
    stage.seen(lambda: stage.state(task).has_ended, longest)
    sight = _sight(stage, task, stage.state(task), seconds)
    return _changed(sight, late_accepted=late_accepted, doubled=doubled)


def _sight(stage: Stage, task: str, state: TaskState, seconds: float | None) -> Sight:
    executions = len(stage.runs(task))
    return Sight(
        seconds=seconds,
        window=window(stage),
        executions=executions,
        beyond=max(0, executions - stage.system.tries),
        open_tasks=int(not state.has_ended),
        without_reason=int(state.word == "failed" and not state.reason),
    )


def _changed(sight: Sight, **changes: object) -> Sight:
    return Sight(**{**vars(sight), **changes})


def _revive(stage: Stage) -> None:
    stage.ensure("a", wait=False)


def _count_waiting(stage: Stage) -> int:
    row = (
        stage.connection()
        .execute(
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and wait_event_type = 'Lock'"
        )
        .fetchone()
    )
    return int(row[0]) if row else 0


def _words_for(stage: Stage, task: str, seconds: float) -> list[str]:
    """The words of its state in the order in which they were seen."""
    words: list[str] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        word = stage.state(task).word
        if not words or words[-1] != word:
            words.append(word)
        time.sleep(0.005)
    return words
