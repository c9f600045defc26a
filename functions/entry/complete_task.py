"""complete_task: a worker elsewhere has done its work, and says so by HTTP."""

from typing import Any

from functions.core.policy import policy
from functions.entry import auth
from functions.entry.fields import task_id_of, token_of, watch_of
from functions.entry.http import Response, body, reply
from functions.errors import BadRequestError
from functions.store import LIMIT, Answer, store
from functions.worker.settle import Ending, complete


def respond(request: Any) -> Response:
    """POST {task_id, token, result?, watch?}: 200 {task_id, state}; 409 when the attempt no longer
    holds the task."""
    auth.machine(request)
    found = body(request)
    return settle(found, Ending("complete", result=found.get("result")))


def settle(found: dict[str, Any], ending: Ending) -> Response:
    """Ends the attempt of a worker elsewhere. The answer is the same however often it asks."""
    watch = watch_of(policy(), found)
    claimed = {"task_id": task_id_of(watch, found.get("task_id")), "token": token_of(found)}
    answer = complete(store(), watch, claimed, ending, limit=LIMIT, by="remote")
    if answer["verdict"] == "lost":
        raise lost(claimed["task_id"], answer)
    return reply(
        {
            "task_id": claimed["task_id"],
            **{name: answer[name] for name in ("state", "reason", "retry_after")},
        }
    )


def lost(task_id: str, answer: Answer) -> BadRequestError:
    """409: the worker must stop at once, and nothing that it still writes counts."""
    why = answer.get("reason") or answer.get("outcome") or "the token is not known"
    text = f"This attempt does not hold the task any more: {why}. Stop the work."
    return BadRequestError(
        text, status=409, code="lost", task_id=task_id, reason=answer.get("reason")
    )
