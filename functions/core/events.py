"""Every log line of Unstuck: its name, level, sentence and fields. JSON lines on stdout, in the
field names of Cloud Logging. No task id or user id ever becomes a metric label; secrets and
payloads are never logged."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from functions.core import file_lock, trace
from functions.core.record import Record

DEBUG, INFO, WARNING, ERROR, CRITICAL = "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"

_writing = threading.Lock()
_encode = json.JSONEncoder(default=str).encode
_TASK, _DELAY = os.urandom(16).hex(), os.urandom(16).hex()
"""Stand for a task's id and its delay in the line that is made once for many tasks."""


WORDS_OF_OTHERS = {"error", "detail", "evidence", "text"}
"""Fields with the words of handlers, libraries and users: secrets are hidden in them."""
LINE_BYTES = 200_000
"""Of a line. Cloud Logging refuses an entry of more than 256 KiB, and puts fields of its own into
it."""
LABELS = "logging.googleapis.com/labels"
REPORTED_ERROR = (
    "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"
)
_TRACEBACK = "Traceback (most recent call last)"


MOST_KINDS = 200
OTHER_KIND = "other"
_kinds: set[str] = set()
"""Of the whole process: those whose lines carry them."""


def counted_kind(kind: str) -> str:
    """The kind as the label of metrics: each value makes a time series, and a caller may make kinds
    up where the rule "*" takes all. The sentence of a line has it as it is."""
    if kind not in _kinds:
        if len(_kinds) >= MOST_KINDS or not (kind.isascii() and kind.isprintable()):
            return OTHER_KIND
        _kinds.add(kind)
    return kind


def keep_kinds(kinds: Iterable[str]) -> None:
    """Those of the policy, however many others there are."""
    _kinds.update(kinds)


class Event(Record):
    """`sentence` is filled from the fields. `fields` are the names that an event carries, always
    all of them. An event feeds a log-based metric of infra/alerts/metrics.yaml, or `uncounted` says
    why not. docs/events.md shows them all."""

    name: str
    level: str
    sentence: str
    fields: tuple[str, ...]
    uncounted: str = ""

    def line(
        self,
        values: Mapping[str, Any],
        level: str | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> str:
        """`about`: more of Cloud Logging's own fields, such as logging.googleapis.com/labels. At
        most LINE_BYTES long: a longer line's texts are cut."""
        words: dict[str, Any] = {name: values.get(name) for name in self.fields}
        if self is HANDLER_LOG:
            words["text"] = values.get("text")
        for name in WORDS_OF_OTHERS:
            if isinstance(words.get(name), str):
                from functions.core.redact import redacted_text

                words[name] = redacted_text(words[name])
        message = self.sentence.format_map(_Shown(words))
        if self is HANDLER_LOG:
            del words["text"]  # it is the message, once
        entry: dict[str, Any] = {
            "severity": level or self.level,
            "event": self.name,
            **words,
            "message": message,
        }
        if isinstance(kind := entry.get("kind"), str):
            entry["kind"] = counted_kind(kind)
        if _TRACEBACK in str(words.get("detail")):
            entry |= {"@type": REPORTED_ERROR, "stack_trace": words["detail"]}
        return _bounded(_about(entry, about or {}))


class LinesAlike:
    """The lines of tasks that differ by `task_id` and `retry_after` alone. All else of a line is
    made once: then a task's own takes an eighth of the time."""

    def __init__(self, event: Event, values: Mapping[str, Any], level: str | None) -> None:
        self._event, self._values, self._level = event, values, level
        self._has_delay = "retry_after" in event.fields
        line = event.line({**values, "task_id": _TASK, "retry_after": _DELAY}, level)
        self._pieces = line.split(_TASK)

    def line(self, task_id: str, retry_after: float | None) -> str:
        line = _encode(task_id)[1:-1].join(self._pieces)
        if len(line) > LINE_BYTES // 2:  # perhaps it was cut, and the id with it
            own = {"task_id": task_id, "retry_after": retry_after}
            return self._event.line({**self._values, **own}, self._level)
        if not self._has_delay:
            return line
        return line.replace(f'"{_DELAY}"', "null" if retry_after is None else repr(retry_after))


class _Shown(dict[str, Any]):
    """Values as a sentence shows them: a dash where there is none."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return "-" if value is None or value == "" else value


def _about(entry: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with the request's trace and labels, and with `more`, whose labels come on top."""
    current = trace.current.get()
    if not current and not more:
        return entry
    of_request = current.fields() if current else {}
    labels = of_request.get(LABELS, {}) | dict(more.get(LABELS, {}))
    return entry | of_request | dict(more) | ({LABELS: labels} if labels else {})


def _bounded(entry: dict[str, Any]) -> str:
    """As JSON. By its bytes, since a character may take twelve of them."""
    line, characters = _encode(entry), LINE_BYTES
    while len(line) > LINE_BYTES and characters > 1:
        characters = characters * 3 // 4
        line = _encode(_cut(json.loads(line), characters))
    return line


def _cut(value: Any, characters: int) -> Any:
    """The same with no text, and nothing that holds others, longer than `characters`."""
    if isinstance(value, str) and len(value) > characters:
        return f"{value[:characters]}... (cut; {len(value)} characters in all)"
    if isinstance(value, dict):
        kept = list(value.items())[: max(characters, 50)]
        return {name[: max(characters, 50)]: _cut(inner, characters) for name, inner in kept}
    if isinstance(value, list):
        return [_cut(inner, characters) for inner in value[: max(characters, 50)]]
    return value


TASK_CREATED = Event(
    "task_created", INFO, "task {task_id} ({kind}) created", ("watch", "task_id", "kind")
)
TASK_CLAIMED = Event(
    "task_claimed",
    INFO,
    "task {task_id} ({kind}) claimed as attempt {number}",
    ("watch", "task_id", "kind", "number", "tries", "worker"),
    uncounted=(
        "Each claim ends as task_finished, task_requeued or lease_lost, and those are counted."
    ),
)
CLAIM_REFUSED = Event(
    "claim_refused",
    INFO,
    "task {task_id} not claimed: {verdict}",
    ("watch", "task_id", "kind", "verdict", "retry_after"),
    uncounted=(
        "Normal after a redelivery: the task is held, early or ended. A task that nobody can "
        "claim shows as pending."
    ),
)
TASK_FINISHED = Event(
    "task_finished",
    INFO,
    "task {task_id} ({kind}) {state} by {by}: {reason}",
    (
        "watch",
        "task_id",
        "kind",
        "state",
        "reason",
        "cause",
        "by",
        "number",
        "tries",
        "seconds",
        "detail",
    ),
)
TASK_REQUEUED = Event(
    "task_requeued",
    WARNING,
    "task {task_id} ({kind}) is pending again by {by}: {reason}",
    ("watch", "task_id", "kind", "reason", "by", "number", "tries", "retry_after", "detail"),
)
TASK_OVERTAKEN = Event(
    "task_overtaken",
    WARNING,
    "task {task_id} ({kind}) was moved by somebody who does not use the guard; its attempt "
    "{number} ended",
    ("watch", "task_id", "kind", "by", "number"),
)
TASK_REDISPATCHED = Event(
    "task_redispatched",
    WARNING,
    "task {task_id} ({kind}) was pushed again after {age} s",
    ("watch", "task_id", "kind", "times", "age"),
)
DISPATCH_FAILED = Event(
    "dispatch_failed",
    ERROR,
    "task {task_id} could not be pushed: {error}",
    ("watch", "task_id", "error"),
)
LEASE_LOST = Event(
    "lease_lost",
    WARNING,
    "attempt {number} of task {task_id} ({kind}) had lost its lease at its {wanted}: {reason}",
    ("watch", "task_id", "kind", "number", "wanted", "reason"),
)
BEAT_FAILED = Event(
    "beat_failed",
    WARNING,
    "beat of task {task_id} not written: {error}",
    ("watch", "task_id", "kind", "number", "error"),
)
SETTLE_FAILED = Event(
    "settle_failed",
    ERROR,
    "end of task {task_id} not written; if it stays so, the sweep ends it: {error}",
    ("watch", "task_id", "kind", "number", "wanted", "error"),
)
SWEEP_FINISHED = Event(
    "sweep_finished",
    INFO,
    "sweep {outcome} in {seconds} s: {failed} failed, {requeued} requeued, {redispatched} "
    "pushed again",
    (
        "outcome",
        "sweep_id",
        "seconds",
        "failed",
        "requeued",
        "redispatched",
        "suspended",
        "unsweepable",
        "orphaned",
        "pruned",
        "oldest_overdue_seconds",
        "oldest_pending_seconds",
        "complete",
        "error",
    ),
)
QUEUE_SLOW = Event(
    "queue_slow",
    WARNING,
    "{watch}: {came} tasks of the kind {kind} came in 10 minutes and {taken} were taken; "
    "{waiting} wait, the oldest since {oldest} s",
    ("watch", "kind", "came", "taken", "waiting", "oldest"),
    uncounted=(
        "oldest_pending_seconds of the same run raises PendingTooOld; this line tells its cause in "
        "numbers."
    ),
)
SWEEP_SKIPPED = Event("sweep_skipped", INFO, "sweep not run: {verdict}", ("verdict",))
GAUGES_FAILED = Event(
    "gauges_failed",
    WARNING,
    "gauges not written: {error}",
    ("error",),
    uncounted=(
        "Gauges are for the dashboard. The alerts rest on log lines alone, so that Monitoring can"
        " be away."
    ),
)
EVIDENCE_FOUND = Event(
    "evidence_found",
    INFO,
    "why attempt {number} of task {task_id} died: {cause}. {evidence}",
    ("watch", "task_id", "number", "cause", "evidence"),
    uncounted=(
        "It says more of an attempt that was counted before, and of a platform event that has an "
        "alert of its own."
    ),
)
EVIDENCE_FAILED = Event(
    "evidence_failed",
    WARNING,
    "no look at why {count} workers died: {error}",
    ("count", "error"),
    uncounted=(
        "Only the reason of an attempt stays as vague as it was. That its task ended is counted."
    ),
)
LOG_FAILED = Event(
    "log_failed",
    WARNING,
    "{count} lines not taken by Cloud Logging, printed instead: {error}",
    ("count", "error"),
    uncounted="It says that lines do not reach Cloud Logging: no metric there can count it.",
)
MODULE_NOT_PRELOADED = Event(
    "module_not_preloaded",
    WARNING,
    "module {module} is imported in each child, in {seconds} s: {cause}",
    ("module", "seconds", "cause"),
    uncounted="It costs time, not tasks; `preload` of its rule says what you want instead.",
)
SWEEP_SUSPENDED = Event(
    "sweep_suspended",
    CRITICAL,
    "{count} leases of {watch} ran out at once: each got one more",
    ("watch", "count"),
)
CLOCK_JUMPED = Event(
    "clock_jumped",
    CRITICAL,
    "the clock of the database was set by {seconds} s: {count} attempts keep their time",
    ("seconds", "count"),
    uncounted="It is rare, and each line raises an alert by itself (ClockJumped).",
)
KIND_PAUSED = Event(
    "kind_paused",
    WARNING,
    "{watch}: tasks of the kind {kind} are paused by {who}: {why}",
    ("watch", "kind", "who", "why", "left"),
    uncounted="A person or a breaker did it, and `stats` and the page show it. One that is "
    "forgotten raises an alert (PauseForgotten).",
)
KIND_RESUMED = Event(
    "kind_resumed",
    INFO,
    "{watch}: tasks of the kind {kind} are taken again, by {ended_by}, after {age} s",
    ("watch", "kind", "who", "why", "age", "ended_by"),
    uncounted="The end of a pause; what waits is taken again.",
)
PAUSE_FORGOTTEN = Event(
    "pause_forgotten",
    ERROR,
    "{watch}: the kind {kind} is paused since {age} s without an end, by {who}: {why}",
    ("watch", "kind", "who", "why", "age"),
    uncounted="It is rare, and each line raises an alert by itself (PauseForgotten).",
)
TASK_UNSWEEPABLE = Event(
    "task_unsweepable",
    ERROR,
    "task {task_id} cannot be settled since {since}: {error}",
    ("watch", "task_id", "kind", "code", "error", "since"),
)
SWEEP_SILENT = Event(
    "sweep_silent",
    ERROR,
    "the sweep has not run for {age} s, as a poll, a claim or a create noticed",
    ("age",),
    uncounted="SweepSilent fires on what is missing, whether anybody notices it or not.",
)
NOTIFICATION_SENT = Event(
    "notification_sent",
    INFO,
    "told {address} of {count} ends at try {times}",
    ("address", "count", "times"),
    uncounted="The ends that it tells of are counted as task_finished.",
)
NOTIFICATION_FAILED = Event(
    "notification_failed",
    WARNING,
    "{address} could not be told of {count} ends at try {times}, {outcome}: {error}",
    ("outcome", "address", "count", "times", "error"),
    uncounted="It is tried again for a day; one that is given up raises an alert by itself "
    "(NotificationGivenUp).",
)
PING_FAILED = Event(
    "ping_failed",
    WARNING,
    "SWEEP_PING_URL was not reached: {error}",
    ("error",),
    uncounted="The service that was not reached tells it: it hears of no sweep.",
)
REQUEST_FAILED = Event(
    "request_failed", ERROR, "{entry} failed: {error}", ("entry", "error", "detail")
)
REQUEST_REFUSED = Event(
    "request_refused",
    WARNING,
    "{entry} refused a request: {reason} ({status})",
    ("entry", "status", "reason"),
    uncounted="401, 403 and 429 by a reason code: what callers do wrong. No task is touched by it.",
)
SETTING_IGNORED = Event(
    "setting_ignored",
    WARNING,
    "{variable}: these options of other tools are ignored: {ignored}",
    ("variable", "ignored"),
    uncounted="Once in a process, of a URL that was copied from another tool. Nothing fails by it.",
)
KEYS_NOT_FETCHED = Event(
    "keys_not_fetched",
    ERROR,
    "the keys of {issuer} could not be fetched: {error}",
    ("issuer", "error"),
    uncounted=(
        "Keys that are kept go on serving. Without any the callers get 503, which the platform "
        "counts."
    ),
)
OPERATOR_ACTED = Event(
    "operator_acted",
    WARNING,
    "{who}: {action}, {count} tasks of {watch} moved",
    ("who", "action", "watch", "count", "wanted"),
    uncounted=(
        "What a person does by hand is for the audit, and is rare; the tasks that end by it are "
        "in the ledger."
    ),
)
HANDLER_LOG = Event(
    "handler_log",
    INFO,
    "{text}",
    ("task_id", "kind", "number", "logger"),  # its text is the message, once
    uncounted="What your handler says in its own words; how the task ends is counted.",
)

ALL = {event.name: event for event in list(globals().values()) if isinstance(event, Event)}


def emit(
    event: Event, *, level: str | None = None, about: Mapping[str, Any] | None = None, **values: Any
) -> None:
    emit_lines([event.line(values, level, about)])


def emit_lines(lines: Iterable[str]) -> None:
    """To stdout, which Cloud Run reads, or to where `write_by` leads them."""
    _write(lines)


def print_lines(lines: Iterable[str]) -> None:
    """Writes whole lines, one thread and one process at a time: without the locks long lines of
    several were cut and lost. They go past the stream that the framework puts before stdout with
    LOG_EXECUTION_ID: it would overwrite our span by one in another notation, while the lines of a
    handler's process do not pass it. Our lines have the execution's id already."""
    stream = getattr(sys.stdout, "stream", sys.stdout)
    with _writing, file_lock.held(_descriptor(stream)):
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()


def _descriptor(stream: Any) -> int:
    """The stream's descriptor; -1, which no lock is taken on, when it has none."""
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return -1


Writer = Callable[[Iterable[str]], None]
_write: Writer = print_lines
"""Of the whole process, as stdout is: each part of the code may write a line, also before there is
an App."""


def write_by(writer: Writer) -> None:
    """From now on each line of this process goes to `writer`."""
    global _write  # noqa: PLW0603 - one for the whole process, as stdout is
    _write = writer


def printed() -> bool:
    """Whether lines go to stdout, where each process can write its own."""
    return _write is print_lines
