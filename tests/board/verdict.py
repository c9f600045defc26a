"""What a cell of the board says: a word and a sentence, from what was seen."""

import statistics
from dataclasses import dataclass

from tests.board.faults import Sight

HELD, BROKEN, NOT_APPLICABLE, NOT_TRIED = "held", "BROKEN", "not applicable", "not tried"
WAITING_FAULTS = frozenset({"killed", "freeze", "leader", "nobody", "push_lost", "two_sweeps"})
"""Those in which the time to the next state is what is asked."""


@dataclass(frozen=True)
class Verdict:
    word: str
    sentence: str


def judge(fault: str, sight: Sight, timeout: float) -> Verdict:
    """Of one run."""
    if sight.not_applicable:
        return Verdict(NOT_APPLICABLE, sight.not_applicable)
    complaints = _complaints(fault, sight)
    if complaints:
        return Verdict(BROKEN, "; ".join(complaints))
    return Verdict(HELD, _praise(fault, sight, timeout))


def _complaints(fault: str, sight: Sight) -> list[str]:
    complaints = []
    if fault in WAITING_FAULTS and sight.seconds is None:
        complaints.append(f"no other state within {sight.window:.0f} s")
    if sight.late_accepted:
        complaints.append("accepted the late result of a worker that had lost the task")
    if sight.overwritten:
        complaints.append("overwrote the result of a task that had finished")
    if sight.doubled and fault == "computes":
        wrong = (
            "executed a healthy task again" if sight.executions > 1 else "gave a healthy task up"
        )
        complaints.append(f"{wrong} while its worker was at it")
    if sight.doubled and fault == "finished":
        complaints.append("executed the task again after it had finished it")
    if sight.doubled and fault == "two_sweeps":
        complaints.append("gave one task away twice")
    if sight.beyond:
        complaints.append("went on beyond the limit of tries")
    if sight.open_tasks:
        complaints.append("left the task open")
    if sight.without_reason:
        complaints.append("failed the task without a reason")
    return complaints


def often(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _praise(fault: str, sight: Sight, timeout: float) -> str:
    if fault in {"computes", "finished", "poison"}:
        return f"executed {often(sight.executions)}"
    if sight.seconds is None:
        return "ended"
    return f"{sight.seconds:.1f} s, {sight.seconds / timeout:.1f} times the time-out"


@dataclass(frozen=True)
class Cell:
    """All runs of one system under one fault."""

    system: str
    fault: str
    timeout: float
    sights: tuple[Sight, ...]
    missing: str = ""
    """Why there are no runs."""
    errors: tuple[str, ...] = ()
    """Of runs that could not be carried out."""

    @property
    def verdicts(self) -> list[Verdict]:
        return [judge(self.fault, sight, self.timeout) for sight in self.sights]

    @property
    def word(self) -> str:
        """The worst of its runs: a promise that is broken once is broken."""
        words = [verdict.word for verdict in self.verdicts]
        for word in (BROKEN, HELD, NOT_APPLICABLE):
            if word in words:
                return word
        return NOT_TRIED

    @property
    def is_unanimous(self) -> bool:
        return len({verdict.word for verdict in self.verdicts}) <= 1

    @property
    def sentence(self) -> str:
        if self.missing:
            return self.missing
        same = [verdict for verdict in self.verdicts if verdict.word == self.word]
        if not same:
            return "; ".join(self.errors) or "not tried"
        if self.word == HELD:
            return self._figures()
        if self.word == BROKEN:
            count = len(same)
            share = "" if count == len(self.sights) else f" ({count} of {len(self.sights)} runs)"
            return f"{same[0].sentence}{share}{self._executions()}"
        return same[0].sentence

    @property
    def seconds(self) -> list[float]:
        return sorted(sight.seconds for sight in self.sights if sight.seconds is not None)

    def _figures(self) -> str:
        if not self.seconds or self.fault in {"finished", "computes"}:
            return self._executions().lstrip("; ") or "held"
        middle = statistics.median(self.seconds)
        times = f"p50 {middle:.1f} s, max {self.seconds[-1]:.1f} s"
        if self.fault not in {"push_lost", "database"}:
            times += f" ({middle / self.timeout:.1f} times the time-out)"
        return f"{times}{self._executions()}"

    def _executions(self) -> str:
        counts = sorted({sight.executions for sight in self.sights})
        if not counts:
            return ""
        span = often(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]} times"
        return f"; executed {span}"

    def as_json(self) -> dict[str, object]:
        return {
            "system": self.system,
            "fault": self.fault,
            "verdict": self.word,
            "unanimous": self.is_unanimous,
            "sentence": self.sentence,
            "runs": [vars(sight) for sight in self.sights],
            "errors": list(self.errors),
        }
