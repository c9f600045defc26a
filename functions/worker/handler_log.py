"""The event of what a handler says: by its logger, or by printing. A handler may say what a user
wrote, and a line of JSON on stdout is an event for Cloud Logging; so its words are one field of
one event, whatever they are."""

from functions.core import events
from functions.worker.messages import Job, LogLine

SEVERITIES = events.DEBUG, events.INFO, events.WARNING, events.ERROR, events.CRITICAL


def printed(job: Job, text: str) -> str:
    """The log line of a line that its process printed."""
    return events.HANDLER_LOG.line(_about(job, text, "output"))


def line(job: Job, log_line: LogLine) -> str:
    """The log line of what its logger was given."""
    level = log_line.severity if log_line.severity in SEVERITIES else events.INFO
    where = {"line": None, "file": None, "function": None}
    where |= {name: value for name, value in log_line.where.items() if name in where}
    about = {
        "logging.googleapis.com/sourceLocation": where,
        "logging.googleapis.com/labels": log_line.labels,
    }
    return events.HANDLER_LOG.line(_about(job, log_line.text, log_line.logger), level, about)


def _about(job: Job, text: str, logger: str) -> dict[str, object]:
    """The fields of the event."""
    task = {"task_id": job.task_id, "kind": job.kind, "number": job.attempt}
    return task | {"text": text, "logger": logger}
