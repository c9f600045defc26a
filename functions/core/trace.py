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
"""Of each request, in the thread that answers it. Not in the App: that is of the whole process."""


def of(headers: Mapping[str, str], project: str | None) -> Trace | None:
    """The trace that the headers of a request name; None without one, or without a project, which
    is part of its name."""
    if not project:
        return None
    if match := _PARENT.fullmatch(headers.get("traceparent") or ""):
        name = f"projects/{project}/traces/{match[1]}"
        return Trace(name, match[2], sampled=bool(int(match[3], 16) & 1))
    if match := _CLOUD.match(headers.get("X-Cloud-Trace-Context") or ""):
        name = f"projects/{project}/traces/{match[1]}"
        span = int(match[2] or 0)  # decimal there, 16 hex digits everywhere else
        span_id = f"{span:016x}" if 0 < span < 2**64 else None
        return Trace(name, span_id, sampled=match[3] == "1")
    return None
