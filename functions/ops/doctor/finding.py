"""What the doctor says: what is so, why it matters, what to do."""

from dataclasses import asdict, dataclass
from typing import Any

BREAKS, WARNS, FINE = "breaks", "warns", "fine"
LEVELS = (BREAKS, WARNS, FINE)
"""The worst first."""


@dataclass(frozen=True)
class Finding:
    """`watch` is None for what concerns the whole deployment."""

    watch: str | None
    level: str
    check: str
    fact: str
    why: str
    do: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def fine(watch: str | None, check: str, fact: str) -> Finding:
    return Finding(watch, FINE, check, fact, "", "")
