"""Run again with another input: a new task, whose metadata names the one that it repeats. Only for
a table of our own, since tasks of another are created by its own application."""

import json
from typing import Any

from flask import Blueprint, Response, abort, make_response, render_template, request

from functions.core import redact
from functions.core.answers import TaskStatus
from functions.core.dispatch import push
from functions.core.policy import Watch
from functions.core.redact import HIDDEN
from functions.core.states import State
from functions.entry.fields import task_id_of
from functions.errors import BadRequestError
from functions.page.current import link, page, watch
from functions.page.who import log

blueprint = Blueprint("run_again", __name__)
PARENT = "parent"
"""The key in the metadata of the new task."""


def is_possible(watched: Watch, kind: str) -> bool:
    """Not where the owner would have to pay for it."""
    return watched.own and not watched.rule(kind).cost_at_most


@blueprint.get("/again/<path:task_id>")
def form(task_id: str) -> str:
    status = _task(task_id)
    shown = redact.shown(page().store().payload(watch(), status.task_id).input, page().redact)
    return render_template("_again.html", status=status, text=shown, problem="")


@blueprint.post("/again/<path:task_id>")
def create(task_id: str) -> Response:
    """Shows the new task, or what is wrong with its input."""
    status, text = _task(task_id), request.form.get("input", "")
    try:
        created = _create(status, text)
    except BadRequestError as error:
        return make_response(
            render_template("_again.html", status=status, text=text, problem=error.message)
        )
    return Response("", headers={"HX-Redirect": link(f"tasks/{created}")})


def _task(task_id: str) -> TaskStatus:
    key = task_id_of(watch(), task_id)
    status = page().store().status(watch(), key, heal=False)
    if status is None:
        abort(404, f"There is no task {key} in {watch().table}.")
    if not is_possible(watch(), status.kind):
        abort(409, f"Tasks of {watch().table} and this kind are created by their application.")
    return status


def _create(status: TaskStatus, text: str) -> str:
    """The key of the new task. Raises BadRequestError."""
    from functions.entry import input_schema
    from functions.entry.create_task import accepted

    app, kind = page().app, status.kind
    try:
        edited = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"This is no JSON: {error}") from None
    original = app.store.payload(watch(), status.task_id).input
    task_input = _restored(edited, original, redact.redacted(original, page().redact))
    if not isinstance(task_input, dict):
        raise BadRequestError("The input must be a JSON object.")
    if HIDDEN in json.dumps(task_input, ensure_ascii=False):
        raise BadRequestError(f"Write the value that stands as {HIDDEN}, or leave its key out.")
    input_schema.check(watch(), kind, task_input)
    answer = app.store.create(
        watch(), kind, task_input, owner=status.owner, metadata={PARENT: status.task_id}
    )
    task = accepted(kind, answer)
    if task.state is State.PENDING and watch().is_pushed(kind):
        push(app.dispatcher, watch().name, task.task_id, 1)
    log("run_again", watch().name, 1, status.task_id)
    return task.task_id


def _restored(edited: Any, original: Any, shown: Any) -> Any:
    """The edited input with the secrets that were hidden from the editor, where their places were
    left as they were shown."""
    if edited == shown:
        return original
    if isinstance(edited, dict) and isinstance(original, dict) and isinstance(shown, dict):
        return {
            key: _restored(value, original.get(key), shown.get(key))
            for key, value in edited.items()
        }
    if isinstance(edited, list) and isinstance(original, list) and len(edited) == len(original):
        triples = zip(edited, original, shown, strict=True)
        return [_restored(*triple) for triple in triples]
    return edited
