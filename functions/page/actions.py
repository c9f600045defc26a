"""What the page writes. An action is counted first, confirmed, and then done batch by batch, each
batch in one request, so that nothing goes on after an answer. A batch that is sent twice finds its
tasks already moved. Each batch is logged with who did it."""

from typing import Any

from flask import Blueprint, abort, g, jsonify, redirect, render_template, request

from functions.core import durations
from functions.core.dispatch import push, pushes
from functions.core.record import plain
from functions.core.states import ACTIONS, State
from functions.entry import request_body
from functions.entry.fields import task_id_of
from functions.page import views
from functions.page.current import link, page, watch
from functions.page.list_query import FIELDS, LIST_ONLY, read, typed_fields
from functions.page.who import log, same_origin, writer
from functions.store.operate import Refusal, operate

blueprint = Blueprint("actions", __name__)
BATCH_TASKS = 100
CONFIRMED_TASKS = 10_000
"""Tasks that one confirmation moves at most."""
FIND_TASKS = 500
"""Keys that the database answers at most to one call."""
EVERY_KIND = "*"
UNDO = "undo"
"""Retry, of the tasks that a sweep has failed and nobody has touched since."""


@blueprint.before_app_request
def check() -> None:
    """Every write, wherever its route is: allowed at all, and from this page. Aborts with 403."""
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    if not page().write:
        abort(
            403,
            "This page is read-only. "
            "Set PAGE_WRITE=on where it is deployed, or use the command line.",
        )
    if not same_origin(request):
        abort(
            403,
            "This request did not come from the page itself. Open the page and use its buttons.",
        )
    if problem := request_body.problem(request.environ):
        raise problem
    g.takes_forms = True


@blueprint.get("/confirm")
def confirm() -> str:
    """How many tasks an action would move, and the question."""
    action, ids = _action(), _ids()
    return render_template(
        "_confirm.html",
        action=action,
        count=len(ids or _matching(action, CONFIRMED_TASKS)),
        most=CONFIRMED_TASKS,
        ids=ids,
        filters=_filters(),
        shown=_shown_filters(),
        single=len(ids) == 1,
    )


@blueprint.post("/act")
def act() -> str:
    """One batch. Answers with the progress, which asks for the next one, or with the end."""
    action, ids, of, done = _action(), _ids(), _number("of"), _number("done")
    after = request.form.get("after") or None
    if ids:
        batch = [task_id for task_id in ids if after is None or task_id > after][:BATCH_TASKS]
    else:
        batch = _matching_page(action, after, min(BATCH_TASKS, of - done))
    moved, refusals = _move(action, batch)
    done += len(batch)
    log(action, watch().name, len(moved), _meant(ids))
    return render_template(
        "_progress.html",
        action=action,
        ids=ids,
        filters=_filters(),
        of=of,
        done=done,
        moved=_number("moved") + len(moved),
        refused=_number("refused") + len(refusals),
        after=batch[-1] if batch else "",
        more=len(batch) > 0 and done < of,
        refusals=refusals,
        because=request.form.get("because", ""),
    )


@blueprint.post("/pause")
def pause() -> Any:
    """Pauses a kind, or all of the table ("*"). `for`: 2h; without it until somebody resumes it."""
    try:
        text = request.form.get("for", "").strip()
        length = durations.seconds(text) if text else None
    except ValueError as error:
        abort(400, f"`for` {error}.")
    why = request.form.get("why", "").strip()[:500] or None
    by = writer(request)
    page().store().pause(watch(), _kind(), by, why, length)
    return _paused()


@blueprint.post("/resume")
def resume() -> Any:
    from functions.sweep.wake import wake

    by = writer(request)
    ended = page().store().resume(watch(), _kind(), by)
    woken = wake(page().store(), page().app.dispatcher, watch(), ended)
    return _paused(**vars(woken))


def _kind() -> str:
    kind = request.form.get("kind", "")
    if "\0" in kind or len(kind) > 200:
        abort(400, "`kind` is the kind that is meant, or * for all.")
    return kind or EVERY_KIND


def _paused(**more: Any) -> Any:
    """What is paused now: JSON for a script, with `more`, else that part of the page again."""
    if request.accept_mimetypes.best == "application/json":
        pauses = page().store().pauses(list(page().policy().watches))
        return jsonify(pauses=plain(pauses), **more)
    if request.headers.get("HX-Request"):
        return views.summary()
    return redirect(link(""), 303)


@blueprint.post("/sweep-now")
def sweep() -> str:
    """Runs the sweep now, as the scheduler does."""
    from functions.sweep.sweep import SweepReport
    from functions.sweep.sweep import sweep as run

    app, by = page().app, writer(request)
    done = run(app.store, app.policy, app.dispatcher, app.settings, by=by)
    moved = done.failed + done.requeued if isinstance(done, SweepReport) else 0
    log("sweep", "", moved, None)
    return render_template("_swept.html", done=done)


def _action() -> str:
    action = str(request.values.get("action", ""))
    if action not in {*ACTIONS, UNDO}:
        abort(400, f"There is no action {action!r}. There are: {', '.join(ACTIONS)}.")
    return action


def _number(name: str) -> int:
    digits = request.form.get(name, "0")
    return min(int(digits), CONFIRMED_TASKS) if digits.isdecimal() and len(digits) < 10 else 0


def _ids() -> list[str]:
    """The tasks that were ticked, in the order of their keys as text."""
    ticked = {task_id_of(watch(), key) for key in request.values.getlist("id")}
    return sorted(ticked)[:CONFIRMED_TASKS]


def _filters() -> dict[str, str]:
    return typed_fields(request.values, (*FIELDS, "sweep_id"))


def _shown_filters() -> dict[str, str]:
    """As people read them: a state by the table's own word, and no order."""
    orders = {"order", "sort"}
    filters = {name: value for name, value in _filters().items() if name not in orders}
    if (state := filters.get("state")) in set(State):
        filters["state"] = " or ".join(watch().texts(State(state))) or state
    return filters


def _filter(action: str) -> dict[str, Any]:
    """What the list shows, as `find` takes it. Only states in which the action applies."""
    filters, applicable = read(request.values, watch()).filter, ACTIONS[action]
    if (
        filters is None
        or filters.keys() & LIST_ONLY
        or filters.get("state") in {"stuck", "open", "elsewhere"}
    ):
        abort(400, "Choose a state, or tick the tasks that are meant.")
    states = [filters["state"]] if "state" in filters else [*applicable]
    if not set(states) <= set(applicable):
        abort(409, f"{action} applies to tasks that are {' or '.join(applicable)}.")
    return {"states": states} | {
        name: filters[name] for name in ("kind", "owner", "reason", "message") if name in filters
    }


def _matching(action: str, limit: int) -> list[str]:
    """The keys of the tasks that match, at most `limit`."""
    keys: list[str] = []
    while len(keys) < limit:
        more = _matching_page(
            action, keys[-1] if keys else None, min(FIND_TASKS, limit - len(keys))
        )
        keys += more
        if len(more) < FIND_TASKS:
            break
    return keys


def _matching_page(action: str, after: str | None, limit: int) -> list[str]:
    store = page().store()
    if limit <= 0:
        return []
    if action != UNDO:
        return [task.task_id for task in store.find(watch(), _filter(action), limit, after)]
    sweep_id = _filters().get("sweep_id", "")
    if not sweep_id.isdecimal() or len(sweep_id) > 18:
        abort(400, "Say which sweep is to be undone.")
    failed = store.swept(watch(), int(sweep_id), limit, after or "", undoable=True)
    return [task.task_id for task in failed]


def _move(action: str, task_ids: list[str]) -> tuple[list[str], list[Refusal]]:
    """Returns the tasks that moved and those that the database refused. Raises StoreError when the
    database cannot be reached."""
    if not task_ids:
        return [], []
    verb = "retry" if action == UNDO else action
    because = request.form.get("because", "").strip()[:500] or None
    moved, refusals = operate(page().store(), watch(), verb, task_ids, because)
    for refusal in refusals:
        if refusal.error.retryable:
            raise refusal.error
    if moved and verb in {"retry", "requeue"}:
        _push(moved)
    return moved, refusals


def _push(moved: list[str]) -> None:
    """To the workers, those that are pending again. What the queue does not accept is pushed by the
    next sweeps."""
    dispatcher = page().app.dispatcher
    if not pushes(dispatcher):
        return
    filters = {"ids": moved, "states": [State.PENDING]}
    for task in page().store().find(watch(), filters, len(moved)):
        if not watch().is_pushed(task.kind):
            continue
        if not push(dispatcher, watch().name, task.task_id, (task.number or 0) + 1):
            return


def _meant(ids: list[str]) -> str:
    """Which tasks were meant: their ids, or the filter."""
    if ids:
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        return ", ".join(ids[:5]) + more
    return ", ".join(f"{name}={value}" for name, value in _filters().items()) or "all"
