"""tick: how Cloud Scheduler calls the sweep."""

from typing import Any

from functions.core.policy import policy
from functions.entry import auth
from functions.entry.http import Response, reply
from functions.store import store
from functions.sweep.sweep import SweepReport, sweep


def respond(request: Any) -> Response:
    """POST: 200 with the counts; also for a duplicate call, which does nothing; 500 when the sweep
    failed.

    Scheduler delivers at least once. X-CloudScheduler-ScheduleTime stays the same over its
    repetitions: the key."""
    auth.machine(request)
    key = request.headers.get("X-CloudScheduler-ScheduleTime")
    by = request.headers.get("X-CloudScheduler-JobName") or "http"
    done = sweep(store(), policy(), key=key, by=by[:200])
    if isinstance(done, SweepReport) and done.verdict == "error":
        text = "The sweep did not come to its end. See the log of this function."
        return reply(vars(done) | {"error": {"code": "sweep", "message": text}}, 500)
    return reply(vars(done))
