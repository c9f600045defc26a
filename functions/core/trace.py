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
_EXECUTION = re.compile(r"[\w-]{1,64}", re.ASCII)
_CLOUD = re.compile(r"([0-9a-f]{32})(?:/(\d{1,20}))?(?:;o=(\d))?(?![0-9a-zA-Z-])")


class Trace(NamedTuple):
    """`trace` is projects/P/traces/T, `span` 16 hex digits or None, `execution` the id that the
    framework gives to a request."""

    trace: str | None
    span: str | None = None
    sampled: bool = False
    execution: str | None = None

    @property
    def id(self) -> str | None:
        """The trace's own name, 32 hex digits."""
        return self.trace.rpartition("/")[2] if self.trace else None

    def fields(self) -> dict[str, Any]:
        """As they stand in a log line."""
        fields: dict[str, Any] = {}
        if self.trace:
            fields["logging.googleapis.com/trace"] = self.trace
            fields["logging.googleapis.com/trace_sampled"] = self.sampled
        if self.span:
            fields["logging.googleapis.com/spanId"] = self.span
        if self.execution:
            fields["logging.googleapis.com/labels"] = {"execution_id": self.execution}
        return fields


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""Of each request, in the thread that answers it. Not in the App: that is of the whole process."""


def of(headers: Mapping[str, str], project: str | None) -> Trace | None:
    """The trace that the headers of a request name, and its execution's id; None without either. A
    trace needs the project, which is part of its name."""
    execution = headers.get("Function-Execution-Id") or ""
    execution_id = execution if _EXECUTION.fullmatch(execution) else None
    trace = _trace(headers, project) if project else None
    if trace is None:
        return Trace(None, execution=execution_id) if execution_id else None
    return trace._replace(execution=execution_id)


def _trace(headers: Mapping[str, str], project: str) -> Trace | None:
    if match := _PARENT.fullmatch(headers.get("traceparent") or ""):
        name = f"projects/{project}/traces/{match[1]}"
        return Trace(name, match[2], sampled=bool(int(match[3], 16) & 1))
    if match := _CLOUD.match(headers.get("X-Cloud-Trace-Context") or ""):
        name = f"projects/{project}/traces/{match[1]}"
        span = int(match[2] or 0)  # decimal there, 16 hex digits everywhere else
        span_id = f"{span:016x}" if 0 < span < 2**64 else None
        return Trace(name, span_id, sampled=match[3] == "1")
    return None
