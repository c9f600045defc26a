"""The map: one entry point for each deployed function. Holds no state: it is executed again for each target."""

from typing import Any

import functions_framework

from functions import shutdown
from functions.web import Response, answer

shutdown.install()


@functions_framework.http
def create_task(request: Any) -> Response:
    """POST: a client's task. 201 {task_id, state}."""
    from functions import create

    return answer(request, "create_task", ("POST",), create.respond)


@functions_framework.http
def task_status(request: Any) -> Response:
    """GET: how a task is; heals it if it is overdue."""
    from functions import status

    return answer(request, "task_status", ("GET",), status.respond)


@functions_framework.http
def worker(request: Any) -> Response:
    """POST: a push of Cloud Tasks. Runs the task in the guard."""
    from functions import worker as entry

    return answer(request, "worker", ("POST",), entry.respond)


@functions_framework.cloud_event
def worker_event(event: Any) -> None:
    """A push of Pub/Sub. Runs the task in the guard."""
    from functions import worker as entry

    entry.receive(event)


@functions_framework.http
def sweep(request: Any) -> Response:
    """POST: Cloud Scheduler's tick. Settles what is overdue."""
    from functions import tick

    return answer(request, "sweep", ("POST",), tick.respond)
