"""What the doctor says: a fact, why it matters, what to do."""

from dataclasses import dataclass
from functools import partial
from typing import Any

BREAKS, WARNS, FINE = "breaks", "warns", "fine"
LEVELS = (BREAKS, WARNS, FINE)
"""The worst first."""


@dataclass(frozen=True)
class Finding:
    """`watch` is None for what concerns the whole deployment."""

    watch: str | None
    check: str
    fact: str
    why: str = ""
    do: str = ""
    level: str = FINE

    def as_json(self) -> dict[str, Any]:
        """In the exact form of `doctor --json`."""
        return {
            "watch": self.watch,
            "level": self.level,
            "check": self.check,
            "what": self.fact,
            "why": self.why,
            "do": self.do,
        }


breaks = partial(Finding, level=BREAKS)
warns = partial(Finding, level=WARNS)
fine = partial(Finding, level=FINE)
NO_SWEEP = "nobody ends what is overdue; only polls heal the tasks that somebody asks for."
"""Why a sweep that does not run matters."""
MISSED_SWEEPS = 3
"""So many sweeps may fail to appear before it is a finding."""
