"""The trace of the request that is being answered: all log lines of one request, its handler's too,
are found by it.

Read from the request as google-cloud-logging does: `traceparent` first, then X-Cloud-Trace-Context.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

_PARENT = re.compile(
    r"\s?(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?\s?"
)
_CLOUD = re.compile(r"([0-9a-f]{32})(?:/(\d{1,20}))?(?:;o=(\d))?(?![0-9a-zA-Z-])")


class Trace(NamedTuple):
    """`trace` is projects/P/traces/T, `span` 16 hex digits or None."""

    trace: str
    span: str | None = None
    sampled: bool = False

    def fields(self) -> dict[str, Any]:
        """As they stand in a log line."""
        span = {"logging.googleapis.com/spanId": self.span} if self.span else {}
        return {
            "logging.googleapis.com/trace": self.trace,
            **span,
            "logging.googleapis.com/trace_sampled": self.sampled,
        }


current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def of(headers: Mapping[str, str], project: str | None) -> Trace | None:
    """The trace that the headers of a request name; None without one, or without a project, which
    is part of its name."""
    if not project:
        return None
    if found := _PARENT.fullmatch(headers.get("traceparent") or ""):
        return Trace(
            f"projects/{project}/traces/{found[1]}", found[2], sampled=bool(int(found[3], 16) & 1)
        )
    if found := _CLOUD.match(headers.get("X-Cloud-Trace-Context") or ""):
        span = int(found[2] or 0)  # decimal there, 16 hex digits everywhere else
        return Trace(
            f"projects/{project}/traces/{found[1]}",
            f"{span:016x}" if 0 < span < 2**64 else None,
            sampled=found[3] == "1",
        )
    return None
