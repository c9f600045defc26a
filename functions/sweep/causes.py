"""What the platform writes (2026-08) when a worker's instance ends, and what it means."""

import re

ROLLOUT = "Reason: DEPLOYMENT_ROLLOUT"
TIMED_OUT = 504
TIMEOUT_TEXT = "The request has been terminated because it has reached the maximum request timeout."
"""What a request's line means that has the status TIMED_OUT and no text."""
CAUSES = (
    ("out_of_memory", r"memory limit|out-of-memory event|using too much memory"),
    ("deadline", r"maximum request timeout"),
    (
        "shutdown",
        (
            r"shutting down user disabled instance|reason: deployment_rollout"
            r"|container terminated [a-z ]*on signal 15\b|container called exit\(0\)"
        ),
    ),
    ("crashed", r"container terminated [a-z ]*on signal|container called exit\("),
)
"""The most specific first: a kill for memory also logs "terminated on signal" and may coincide with
a rollout, so those two count only when nothing else matched."""
TEXTS = (
    "memory limit",
    "Out-of-memory event",
    "using too much memory",
    "maximum request timeout",
    "Shutting down user disabled instance",
    "Container terminated",
    "Container called exit(",
)
"""For a search in the log: each cause has one."""
_ENDS_NOTHING = re.compile(
    r"container terminated [a-z ]*on signal [01]\b|reason: deployment_rollout", re.IGNORECASE
)


def cause_of(text: str) -> str | None:
    """Why the instance ended that the line is about. A rollout line is about a new one."""
    if _ENDS_NOTHING.search(text):
        return None
    return next((cause for cause, words in CAUSES if re.search(words, text, re.IGNORECASE)), None)
