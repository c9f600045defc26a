"""What a row states for itself: a deadline, how long it may run or its worker may be silent, a
lease. Pure functions from SQL to SQL, the same for `check` and for the sweep of an adopted table:
the two must never disagree on what is stuck."""

from collections.abc import Iterable
from dataclasses import dataclass

GRACE_SECONDS = 5 * 60
"""So long after the end of a lease, or the deadline of a row, its own workers may be about to take
it again."""
NOTHING = "null::timestamptz"


@dataclass(frozen=True)
class OwnLimits:
    """SQL of the limits of one row, NOTHING where the table has none: `lease` and `deadline` are
    times, `run` and `silence` lengths of time."""

    deadline: str
    run: str
    silence: str
    lease: str

    @property
    def stated(self) -> list[str]:
        return [
            limit
            for limit in (self.deadline, self.run, self.silence, self.lease)
            if limit != NOTHING
        ]

    def ends(self, since: str, start: str, alive: list[str], grace: str) -> list[tuple[str, str]]:
        """When each limit makes the row stuck, by the name of its rule. `since` is the last sign of
        life, `alive` are the beats, by which a lease may be extended."""
        ends = []
        if self.deadline != NOTHING:
            ends.append(("deadline", f"{self.deadline} + {grace}"))
        if self.run != NOTHING:
            ends.append(("timeout", f"{start} + {self.run}"))
        if self.silence != NOTHING:
            ends.append(("beat", f"{since} + {self.silence}"))
        if self.lease != NOTHING:
            extended = latest([self.lease, *alive])
            end = f"case when {self.lease} is not null then {extended} + {grace} end"
            ends.append(("lease", end))
        return ends

    @property
    def unstated(self) -> str:
        """Whether the row states no limit, so that the general one holds."""
        return " and ".join(f"({limit}) is null" for limit in self.stated)


def first(moments: Iterable[str]) -> str:
    """The first that is not NULL."""
    return _call("coalesce", list(moments))


def latest(moments: Iterable[str]) -> str:
    return _call("greatest", list(moments))


def earliest(moments: Iterable[str]) -> str:
    return _call("least", list(moments))


def _call(function: str, moments: list[str]) -> str:
    if len(moments) > 1:
        return f"{function}({', '.join(moments)})"
    return moments[0] if moments else NOTHING
