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
    from functions.core.redact import redacted

    level = log_line.severity if log_line.severity in SEVERITIES else events.INFO
    about = {
        "logging.googleapis.com/sourceLocation": {
            name: log_line.where[name]
            for name in ("line", "file", "function")
            if isinstance(log_line.where.get(name), int | str)
        },
        "logging.googleapis.com/labels": {
            name: str(label) for name, label in redacted(log_line.labels).items()
        },
    }
    return events.HANDLER_LOG.line(_about(job, log_line.text, log_line.logger), level, about)


def _about(job: Job, text: str, logger: str) -> dict[str, object]:
    """The fields of the event."""
    task = {"task_id": job.task_id, "kind": job.kind, "number": job.attempt}
    return task | {"text": text, "logger": logger}
