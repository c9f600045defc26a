"""The judge of a run. It goes by what the handlers wrote down, by a trigger that noted each change
of a task, and by the times of the faults; from the ledger it takes only when attempts ended.

Each violation is a sentence under the name of what was broken. A fault excuses what nobody can know
better: a worker that was frozen, or cut off alone, looks dead. A time in which nobody reached the
database excuses nothing."""

import datetime
import itertools
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from functions.core.policy import Policy
from tests.chaos.plan import EVERYBODY
from tests.chaos.world import LEASE_SECONDS, SWEEP_SECONDS, Struck

VIOLATIONS = (
    "left_open",
    "open_past_its_time",
    "ended_twice",
    "overwritten",
    "executed_too_often",
    "two_at_once",
    "rescued_while_alive",
    "ended_without_reason",
    "finished_but_failed",
    "result_of_another",
)
ENDED = {"completed", "failed", "cancelled"}
LATEST_SECONDS = 4 * SWEEP_SECONDS + 4
"""So long after its time a task may be open, apart from faults: sweeps, and a machine with other
work."""
TOLERANCE_SECONDS = 0.1
POISON_SECONDS = 0.5
"""From the first word of a task that kills its worker to that death, at most."""
BY_RESULT = {"handler_error"}
"""Causes that speak of the work itself."""
FREEZES = {"freeze_instance", "freeze_worker"}
ENDS_OF_WORKERS = {
    "poison",
    "kill_child",
    "kill_worker",
    "kill_forkserver",
    "kill_instance",
    "terminate",
    "terminate_all",
}
RELEASES = 10
"""Tries that shutdowns may take from a task and that do not count (settle.sql)."""


@dataclass
class Execution:
    """One run of a handler, as it wrote it down."""

    id: str
    task_id: str
    number: int
    kind: str
    worker: str
    words: list[tuple[float, str]] = field(default_factory=list)

    @property
    def began(self) -> float:
        return self.words[0][0]

    @property
    def last(self) -> float:
        return self.words[-1][0]

    @property
    def finished(self) -> bool:
        return self.words[-1][1] == "finished"


@dataclass
class Evidence:
    """What is left of a run."""

    policy: Policy
    journal: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    struck: list[Struck]
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """When the machine itself stood still."""


class Observer:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._struck = [*evidence.struck, *_poisoned(evidence.journal)]
        self._watch = evidence.policy.watch()
        self.violations: dict[str, list[str]] = {name: [] for name in VIOLATIONS}
        self._executions = _executions(evidence.journal)
        self._attempts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for attempt in evidence.attempts:
            self._attempts[attempt["task_id"]].append(attempt)

    def judge(self) -> dict[str, list[str]]:
        for task in self._evidence.tasks:
            self._judge_end(task)
            self._judge_executions(task)
        for attempt in self._evidence.attempts:
            self._judge_rescue(attempt)
        self._judge_changes()
        return self.violations

    def _add(self, name: str, task_id: str, sentence: str) -> None:
        self.violations[name].append(f"{task_id}: {sentence}")

    def _judge_end(self, task: dict[str, Any]) -> None:
        task_id, status = str(task["id"]), task["status"]
        if status not in ENDED:
            self._add("left_open", task_id, f"{task['kind']} is {status} still")
            return
        if status == "failed" and not (task["reason"] and task["error_message"]):
            self._add("ended_without_reason", task_id, f"{task['kind']} failed")
        runs = self._executions.get(task_id, [])
        if status == "completed":
            done = task["result"] or {}
            own = [run for run in runs if run.finished and run.id == done.get("run")]
            if done.get("task_id") != task_id or not own:
                self._add("result_of_another", task_id, f"{task['kind']} has the result {done}")
        elif runs and runs[-1].finished:
            self._judge_finished(task, runs[-1])

    def _judge_finished(self, task: dict[str, Any], run: Execution) -> None:
        """A task failed whose last run had finished its work."""
        attempt = self._attempt(run)
        if attempt is None:
            return
        ended = _seconds(attempt["ended_at"])
        is_excused = attempt["cause"] not in BY_RESULT and any(
            run.worker in struck.whom and struck.end > run.last - 1 and struck.begin < ended
            for struck in self._struck
        )
        if not is_excused:
            told = f"{task['reason']} ({attempt['cause']}, {attempt['detail']})"
            self._add("finished_but_failed", run.task_id, f"{run.kind} failed as {told}")

    def _judge_executions(self, task: dict[str, Any]) -> None:
        task_id, rule = str(task["id"]), self._watch.rule(task["kind"])
        runs = self._executions.get(task_id, [])
        released = sum(a["outcome"] == "released" for a in self._attempts[task_id])
        most = rule.attempts + min(released, RELEASES) + self._count_forgotten(runs)
        if rule.on_lost != "retry":
            most = 1
        if len(runs) > most:
            numbers = [(run.number, run.worker) for run in runs]
            self._add("executed_too_often", task_id, f"{task['kind']} {numbers}, not {most}")
        for earlier, later in itertools.pairwise(runs):
            if earlier.last > later.began + TOLERANCE_SECONDS and not self._may_overlap(
                earlier, later
            ):
                overlap = earlier.last - later.began
                self._add(
                    "two_at_once",
                    task_id,
                    f"{task['kind']} attempts {earlier.number} ({earlier.worker}) and "
                    f"{later.number} ({later.worker}) for {overlap:.2f} s",
                )

    def _count_forgotten(self, runs: list[Execution]) -> int:
        """A crash of the database may forget the claims of its last moments."""
        return sum(
            struck.begin - 1 < run.began < struck.begin + 1
            for struck in self._struck
            for run in runs
            if struck.fault == "kill_database"
        )

    def _may_overlap(self, earlier: Execution, later: Execution) -> bool:
        if self._count_forgotten([earlier]):
            return True
        attempt = self._attempt(earlier)
        heard = _seconds(attempt["beat_at"]) if attempt else earlier.began
        return self._looks_dead(earlier.task_id, earlier.worker, heard, later.began)

    def _attempt(self, run: Execution) -> dict[str, Any] | None:
        same = [a for a in self._attempts[run.task_id] if a["number"] == run.number]
        return same[0] if same else None

    def _judge_rescue(self, attempt: dict[str, Any]) -> None:
        if attempt["sweep_id"] is None or attempt["ended_at"] is None:
            return
        if attempt["cause"] not in {"lease_lost", "deadline"}:
            return
        task_id, ended = attempt["task_id"], _seconds(attempt["ended_at"])
        due = min(_seconds(attempt["lease_until"]), _seconds(attempt["deadline_at"]))
        for struck in self._struck:
            if struck.begin < ended and struck.end > due and self._hinders(struck, task_id):
                due = max(due, struck.end + LEASE_SECONDS)
        late = ended - due - self._stalled(due, ended)
        if late > LATEST_SECONDS:
            self._add("open_past_its_time", task_id, f"rescued {late:.1f} s too late")
        runs = [
            run
            for run in self._executions.get(task_id, [])
            if run.number == attempt["number"] and run.last > ended + TOLERANCE_SECONDS
        ]
        heard = _seconds(attempt["beat_at"])
        if attempt["cause"] == "lease_lost" and any(
            not self._looks_dead(task_id, run.worker, heard, ended) for run in runs
        ):
            silent = ended - heard
            self._add(
                "rescued_while_alive",
                task_id,
                f"attempt {attempt['number']} on {runs[0].worker}, {silent:.1f} s after its last "
                f"heartbeat, by {attempt['sweep_id']} at {ended:.3f}",
            )

    @staticmethod
    def _hinders(struck: Struck, task_id: str) -> bool:
        return "sweep" in struck.whom or task_id in struck.tasks

    def _looks_dead(self, task_id: str, worker: str, heard: float, until: float) -> bool:
        """Whether faults of this worker alone, or a lock on this very row, kept its heartbeats away
        for most of a lease."""
        kept = self._stalled(heard, until)
        for struck in self._struck:
            own_fault = worker in struck.whom and (
                struck.whom != EVERYBODY or struck.fault not in {"blackhole", "refuse"}
            )
            in_the_way = struck.fault in FREEZES | ENDS_OF_WORKERS or struck.fault in {
                *("cut", "refuse", "delay", "blackhole", "lose"),
                *("halve", "error_before", "error_after", "end_backends"),
            }
            if task_id in struck.tasks or (own_fault and in_the_way):
                kept += max(0.0, min(struck.end, until) - max(struck.begin, heard))
                kept += 0.5 * (heard < struck.begin < until)
        return kept > LEASE_SECONDS / 2

    def _stalled(self, begin: float, end: float) -> float:
        return sum(
            max(0.0, min(end, until) - max(begin, since)) for since, until in self._evidence.stalls
        )

    def _judge_changes(self) -> None:
        ends: dict[str, list[str]] = defaultdict(list)
        for change in self._evidence.changes:
            task_id, old, new = change["task_id"], change["old"], change["new"]
            if old in ENDED and (new != old or change["result_changed"]):
                self._add("overwritten", task_id, f"{old} became {new}")
            if old not in ENDED and new in ENDED:
                ends[task_id].append(new)
        for task_id, states in ends.items():
            if len(states) > 1:
                self._add("ended_twice", task_id, f"{states}")

    def rescue_seconds(self) -> list[float]:
        """From the death of a worker to the new state of its task. Where no fault struck it, from
        its last heartbeat: that makes the figure too large, never too small."""
        figures = []
        for attempt in self._evidence.attempts:
            if attempt["sweep_id"] is None or attempt["cause"] != "lease_lost":
                continue
            worker = (attempt["worker"] or "").partition("@")[0]
            heard, ended = _seconds(attempt["beat_at"]), _seconds(attempt["ended_at"])
            died = [
                struck.begin
                for struck in self._struck
                if worker in struck.whom
                and struck.fault in FREEZES | ENDS_OF_WORKERS
                and heard <= struck.begin <= ended
            ]
            figures.append(ended - min(died, default=heard))
        return sorted(figures)


def _poisoned(journal: list[dict[str, Any]]) -> list[Struck]:
    """Workers that were killed by a task, with all others that they had."""
    return [
        Struck("poison", (line["worker"],), line["at"], line["at"] + POISON_SECONDS)
        for line in journal
        if line["kind"] == "poison"
    ]


def _executions(journal: list[dict[str, Any]]) -> dict[str, list[Execution]]:
    """Of each task, in the order in which they began."""
    runs: dict[str, Execution] = {}
    for line in journal:
        run = runs.setdefault(
            line["run"],
            Execution(*(line[name] for name in ("run", "task_id", "number", "kind", "worker"))),
        )
        run.words.append((line["at"], line["word"]))
    by_task: dict[str, list[Execution]] = defaultdict(list)
    for run in sorted(runs.values(), key=lambda run: run.began):
        by_task[run.task_id].append(run)
    return by_task


def _seconds(time: datetime.datetime) -> float:
    return time.timestamp()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
