"""worker: receives a push and runs the task in the guard. The answer tells the queue the truth:
2xx only when the task is settled or safely pending again."""

from typing import Any

from functions.core.policy import policy
from functions.entry import auth
from functions.entry.fields import task_id_of, watch_of
from functions.entry.http import Response, body, reply
from functions.errors import BadRequestError
from functions.store import Answer, store
from functions.worker import shutdown
from functions.worker.guard import guard

HELD = 409
AGAIN = 503


def respond(request: Any) -> Response:
    """POST {task_id, watch?}: 200 settled, 404 unknown, 409 held by a live attempt (come again),
    503 come again."""
    auth.machine(request)
    answer = run(body(request))
    status = status_of(answer)
    shown = {name: answer.get(name) for name in ("task_id", "verdict", "state", "reason")}
    if status == 404:
        raise BadRequestError(f"There is no task {shown['task_id']}.", status=404, code="not_found")
    if status == 200:
        return reply(shown)
    error = {"code": answer["verdict"], "message": "The task is not at its end. Deliver it again."}
    return reply(
        shown | {"error": error}, status, Retry_After=str(int(answer.get("retry_after") or 1) + 1)
    )


def status_of(answer: Answer) -> int:
    match answer["verdict"]:
        case "settled" if answer.get("reason") == "shutdown" or answer.get("pushed") is False:
            return AGAIN
        case "settled" | "lost" | "ended" | "resting":
            return 200
        case "missing":
            return 404
        case "held" | "early":
            return HELD
    return AGAIN


def run(found: Any) -> Answer:
    if not isinstance(found, dict):
        raise BadRequestError('Send {"task_id": "..."}.')
    watch = watch_of(policy(), found)
    task_id = task_id_of(watch, found.get("task_id"))
    if shutdown.requested.is_set():  # a claim would only be released again
        return {"task_id": task_id, "verdict": "shutdown"}
    return {"task_id": task_id} | guard(store(), policy(), watch, task_id)
