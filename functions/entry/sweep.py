"""sweep: Cloud Scheduler calls it, and all that is overdue is settled."""

from typing import Any

from functions.entry import auth
from functions.entry.app import App
from functions.entry.http import Response, reply
from functions.sweep.sweep import SweepReport, sweep


def respond(app: App, request: Any) -> Response:
    """POST: 200 with the counts; also for a duplicate call, which does nothing; 500 when the sweep
    failed.

    Scheduler delivers at least once. X-CloudScheduler-ScheduleTime stays the same over its
    repetitions: the key."""
    auth.machine(app, request)
    key = request.headers.get("X-CloudScheduler-ScheduleTime")
    by = request.headers.get("X-CloudScheduler-JobName") or "http"
    done = sweep(app.store, app.policy, app.dispatcher, app.settings, key=key, by=by[:200])
    if isinstance(done, SweepReport) and done.verdict == "error":
        text = "The sweep did not come to its end. See the log of this function."
        return reply(vars(done) | {"error": {"code": "sweep", "message": text}}, 500)
    return reply(vars(done))
