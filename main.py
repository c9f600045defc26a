"""The map: one entry point for each deployed function. What a process keeps is in `app`."""

import gc
from typing import Any

import functions_framework
from flask import current_app, has_app_context, request

from functions.entry import request_body
from functions.entry.app import App
from functions.entry.http import Response, answer
from functions.worker import shutdown

shutdown.install()
app = App()
gc.freeze()  # what is loaded stays; to look through it in a first request took 30 ms of CPU
if has_app_context():  # the framework loads this file in that of its server
    collector = gc.get_threshold()
    held_back = (50_000, *collector[1:])
    gc.set_threshold(*held_back)  # it ran 25 times in a first request, for 7 ms of CPU

    def collect_as_usual(_: object) -> None:
        """After the first request: what a handler leaves behind may be large."""
        if gc.get_threshold() == held_back:  # and not what a handler has set
            gc.freeze()
            gc.set_threshold(*collector)

    current_app.before_request(lambda: request_body.receive(request.environ))
    current_app.teardown_request(collect_as_usual)


@functions_framework.http
def create_task(request: Any) -> Response:
    """POST: a client's task. 201 {task_id, state}."""
    from functions.entry import create_task

    return answer(app, request, "create_task", ("POST",), create_task.respond)


@functions_framework.http
def task_status(request: Any) -> Response:
    """GET: how a task is; heals it if it is overdue."""
    from functions.entry import task_status

    return answer(app, request, "task_status", ("GET",), task_status.respond)


@functions_framework.http
def cancel_task(request: Any) -> Response:
    """POST: a user's own task ends. 200 {task_id, state}."""
    from functions.entry import cancel_task

    return answer(app, request, "cancel_task", ("POST",), cancel_task.respond)


@functions_framework.http
def worker(request: Any) -> Response:
    """POST: a push of Cloud Tasks. Runs the task in the guard."""
    from functions.entry import worker

    return answer(app, request, "worker", ("POST",), worker.respond)


@functions_framework.http
def worker_event(request: Any) -> Response:
    """POST: a push of Pub/Sub. Runs the task in the guard."""
    from functions.entry import worker_event

    return answer(app, request, "worker_event", ("POST",), worker_event.respond)


@functions_framework.http
def claim_task(request: Any) -> Response:
    """POST: a worker elsewhere takes the next task. 200 {task} with its token, lease and deadline,
    or {task: null}."""
    from functions.entry import claim_task

    return answer(app, request, "claim_task", ("POST",), claim_task.respond)


@functions_framework.http
def beat_task(request: Any) -> Response:
    """POST: it lives, and tells how far it is. 409 when it has lost the task."""
    from functions.entry import beat_task

    return answer(app, request, "beat_task", ("POST",), beat_task.respond)


@functions_framework.http
def complete_task(request: Any) -> Response:
    """POST: it has done its work. 409 when it has lost the task."""
    from functions.entry import complete_task

    return answer(app, request, "complete_task", ("POST",), complete_task.respond)


@functions_framework.http
def fail_task(request: Any) -> Response:
    """POST: it has not. Failed, or pending again where another try may help."""
    from functions.entry import fail_task

    return answer(app, request, "fail_task", ("POST",), fail_task.respond)


@functions_framework.http
def sweep(request: Any) -> Response:
    """POST: Cloud Scheduler's tick. Settles what is overdue."""
    from functions.entry import sweep

    return answer(app, request, "sweep", ("POST",), sweep.respond)


@functions_framework.http
def rescue(request: Any) -> Response:
    """POST: a line of the platform's log, from Pub/Sub. Ends what a worker held that is gone."""
    from functions.entry import rescue

    return answer(app, request, "rescue", ("POST",), rescue.respond)


@functions_framework.http
def page(request: Any) -> Any:
    """What operators look at: stuck tasks first. Read-only unless PAGE_WRITE is on; behind IAM."""
    from functions.entry import page

    return page.respond(app, request)
