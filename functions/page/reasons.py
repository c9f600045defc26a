"""What each reason means, for the page and for docs/reasons.md."""

from functions.core.states import Reason

REASONS: dict[Reason, tuple[str, str]] = {
    Reason.NEVER_CLAIMED: (
        (
            "No worker claimed the task within `pending_for`, although it was pushed again; or its "
            "turn did not come within `pending_at_most`, because more tasks came than were done."
        ),
        (
            "Whether workers run. `stats` shows how long tasks wait; the log has "
            "`claim_refused` and `dispatch_failed`."
        ),
    ),
    Reason.LEASE_LOST: (
        (
            "No heartbeat of the worker came in time: it was killed, frozen, or cut off from "
            "the database."
        ),
        "The log of its instance in that minute; the memory and timeout of the function.",
    ),
    Reason.DEADLINE: (
        "The attempt ran longer than `run_for` of its kind.",
        "A request of the handler that has no time limit; else raise `run_for`.",
    ),
    Reason.OUT_OF_MEMORY: (
        "The handler's process used more memory than `memory` of its kind.",
        (
            "Whether the handler can stream instead of load; else raise `memory`, and the "
            "memory of the function."
        ),
    ),
    Reason.CRASHED: (
        (
            "The handler's process ended with a signal or an exit code, without a result; "
            "`detail` names it."
        ),
        "A C library that crashes, or a handler that exits.",
    ),
    Reason.SHUTDOWN: (
        (
            "The platform shut the instance down. The first ten times the try does not count, "
            "unless `on_lost` says that the work must not be repeated."
        ),
        "Nothing, unless it happens often.",
    ),
    Reason.HANDLER_ERROR: (
        (
            "The handler raised `Fail`, or an error that is neither `Fail` nor `Retry` (rule "
            "`on_error`)."
        ),
        "`detail` has the traceback.",
    ),
    Reason.NO_HANDLER: (
        (
            "The worker has no such handler, though a module of its name. The task is tried again "
            "a minute later, by another worker if there is one; the first ten times do not count."
        ),
        "Whether a deploy is under way; `detail` names what is missing.",
    ),
    Reason.TRANSIENT: (
        (
            "The handler raised `Retry`, or a timeout or connection error. Or its module could not "
            "be imported (a library is missing); the first ten times that does not count. The task "
            "is tried again."
        ),
        "Nothing.",
    ),
    Reason.TRANSIENT_EXHAUSTED: (
        "As `transient`, but no try was left.",
        "The provider that the handler calls; then `retry --reason transient_exhausted`.",
    ),
    Reason.ATTEMPTS_EXHAUSTED: (
        "The last try did not succeed, and no try was left. The `cause` of each attempt says why.",
        "`explain ID` shows every attempt.",
    ),
    Reason.STALE: (
        (
            "The task was running without the guard, and none of its time columns changed "
            "for `silent_for`."
        ),
        "The worker that runs without the guard.",
    ),
    Reason.CANCELLED: ("A user or an operator cancelled the task.", ""),
    Reason.UNCERTAIN: (
        "An attempt was lost, and its work must not be done twice (`on_lost: uncertain`).",
        "Whether the work was done; then `retry` the task or leave it.",
    ),
    Reason.BY_HAND: ("An operator ended the task or put it back.", ""),
}
"""What it means, and where to look."""
