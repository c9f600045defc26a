"""What will happen in a run, drawn from its seed: which fault, when, for how long, to whom."""

import random
from dataclasses import dataclass

WORKERS = ("w1", "w2", "w3")
EVERYBODY = (*WORKERS, "sweep")
WEIGHTS = {
    "kill_child": 6,
    "kill_worker": 6,
    "kill_forkserver": 3,
    "kill_instance": 2,
    "kill_sweeper": 2,
    "freeze_instance": 4,
    "freeze_worker": 2,
    "freeze_child": 2,
    "freeze_sweeper": 2,
    "terminate": 2,
    "terminate_all": 2,
    "kill_database": 1,
    "read_only": 1,
    "end_backends": 3,
    "lock_rows": 4,
    "cut": 3,
    "refuse": 2,
    "delay": 2,
    "blackhole": 3,
    "lose": 3,
    "halve": 2,
    "error_before": 3,
    "error_after": 3,
}
LONGEST_SECONDS = {"freeze_instance": 7, "freeze_worker": 7, "lock_rows": 3, "read_only": 5}
USUAL_LONGEST_SECONDS = 4
PAUSE_SECONDS = 0.4
"""Between two faults, on the average."""


@dataclass(frozen=True)
class Strike:
    """`seconds`: when it begins. `whom`: names of servers. `share`: of what passes by the proxy
    meanwhile."""

    seconds: float
    fault: str
    whom: tuple[str, ...]
    lasts: float
    share: float


def plan(seed: int, seconds: float) -> list[Strike]:
    draw = random.Random(seed)
    strikes: list[Strike] = []
    at = 2.0
    while (at := at + draw.expovariate(1 / PAUSE_SECONDS)) < seconds:
        (fault,) = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
        longest = LONGEST_SECONDS.get(fault, USUAL_LONGEST_SECONDS)
        whom = EVERYBODY if draw.random() < 0.5 else (draw.choice(EVERYBODY),)
        strikes.append(
            Strike(at, fault, whom, draw.uniform(0.3, longest), draw.choice([0.3, 0.6, 1.0]))
        )
    return strikes
