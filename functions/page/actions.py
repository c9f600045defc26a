"""What the page writes: counted first, confirmed, then done batch by batch, each in one request, so
that nothing runs on behind an answer. A batch that is asked for twice finds its tasks moved. Each
is checked here and logged with who did it."""

from typing import Any

from flask import Blueprint, abort, render_template, request

from functions.core import events
from functions.core.dispatch import push, pushes
from functions.core.states import ACTIONS, State
from functions.entry.fields import task_id_of
from functions.page import wanted
from functions.page.current import page, watch
from functions.page.who import same_origin
from functions.store import Answer
from functions.store.operate import Refusal, operate

blueprint = Blueprint("actions", __name__)
BATCH = 100
MOST = 10_000
"""Tasks that one confirmation moves at most."""
UNDO = "undo"


@blueprint.before_app_request
def check() -> None:
    """Every write, wherever its route is: allowed at all, and from this page. Aborts with 403."""
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    if not page().write:
        abort(
            403,
            "This page is read-only. Set PAGE_WRITE=on where it is deployed, or use the command line.",
        )
    if not same_origin(request):
        abort(
            403,
            "This request did not come from the page itself. Open the page and use its buttons.",
        )


@blueprint.get("/confirm")
def confirm() -> str:
    """How many tasks an action would move, and the question."""
    action = _action()
    ids = _ids()
    chosen = ids or _find(action, MOST)
    return render_template(
        "_confirm.html",
        action=action,
        count=len(chosen),
        most=MOST,
        ids=ids,
        given=_given(),
        one=len(ids) == 1,
    )


@blueprint.post("/act")
def act() -> str:
    """One batch. Answers with the progress, which asks for the next one, or with the end."""
    action, of = _action(), _number("of")
    done, refused, after = _number("done"), _number("refused"), request.form.get("after") or None
    ids = _ids()
    batch = (
        [one for one in ids if after is None or one > after][:BATCH]
        if ids
        else _page(action, after, min(BATCH, of - done))
    )
    moved, bad = _move(action, batch)
    done, refused = done + len(batch), refused + len(bad)
    more = len(batch) > 0 and done < of
    events.emit(
        events.OPERATOR_ACTED,
        who=page().who(request),
        action=action,
        watch=watch().name,
        count=len(moved),
        wanted=_said(ids),
    )
    return render_template(
        "_progress.html",
        action=action,
        ids=ids,
        given=_given(),
        of=of,
        done=done,
        moved=_number("moved") + len(moved),
        refused=refused,
        after=batch[-1] if batch else "",
        more=more,
        bad=bad,
        because=request.form.get("because", ""),
    )


@blueprint.post("/sweep-now")
def sweep() -> str:
    """Runs the sweep now, as the scheduler does."""
    from functions.sweep.sweep import sweep as run

    done = run(page().store(), page().policy(), by=f"page: {page().who(request)}"[:200])
    moved = done.get("failed", 0) + done.get("requeued", 0)
    events.emit(
        events.OPERATOR_ACTED,
        who=page().who(request),
        action="sweep",
        watch="",
        count=moved,
        wanted=None,
    )
    return render_template("_swept.html", done=done)


def _action() -> str:
    action = str(request.values.get("action", ""))
    if action not in {*ACTIONS, UNDO}:
        abort(400, f"There is no action {action!r}. There are: {', '.join(ACTIONS)}.")
    return action


def _number(name: str) -> int:
    text = request.form.get(name, "0")
    return min(int(text), MOST) if text.isdecimal() and len(text) < 10 else 0


def _ids() -> list[str]:
    """The tasks that were ticked, in the order of their keys as text."""
    return sorted({task_id_of(watch(), one) for one in request.values.getlist("id")})[:MOST]


def _given() -> dict[str, str]:
    names = (*wanted.NAMES, "sweep_id")
    return {name: text for name in names if (text := request.values.get(name, "").strip())}


def _filter(action: str) -> dict[str, Any]:
    """What the list shows, as `find` takes it. Only states in which the action applies."""
    given = _given()
    asked = wanted.wanted(request.values, watch())
    if "q" in given or given.get("state") in {"stuck", "open", "elsewhere"} or asked.filter is None:
        abort(400, "Choose a state, or tick the tasks that are meant.")
    states = [given["state"]] if "state" in given else [*ACTIONS[action]]
    if not set(states) <= set(ACTIONS[action]):
        abort(409, f"{action} applies to tasks that are {' or '.join(ACTIONS[action])}.")
    return {"states": states} | {
        name: given[name] for name in ("kind", "owner", "reason") if name in given
    }


def _find(action: str, limit: int) -> list[str]:
    """The keys of the tasks that match, at most `limit`."""
    found: list[str] = []
    while len(found) < limit:
        part = _page(action, found[-1] if found else None, min(500, limit - len(found)))
        found += part
        if len(part) < 500:
            break
    return found


def _page(action: str, after: str | None, limit: int) -> list[str]:
    store = page().store()
    if limit <= 0:
        return []
    if action == UNDO:
        sweep_id = _given().get("sweep_id", "")
        if not sweep_id.isdecimal() or len(sweep_id) > 18:
            abort(400, "Say which sweep is to be undone.")
        return [
            one["task_id"]
            for one in store.swept(watch(), int(sweep_id), limit, after or "", undoable=True)
        ]
    return [one["task_id"] for one in store.find(watch(), _filter(action), limit, after)]


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
    _push(verb, moved)
    return moved, refusals


def _push(verb: str, moved: list[str]) -> None:
    """Those that are pending again; what is not accepted is pushed by the sweep."""
    if verb in {"retry", "requeue"} and moved and pushes():
        found: list[Answer] = (
            page().store().find(watch(), {"ids": moved, "states": [State.PENDING]}, len(moved))
        )
        for one in found:
            if not push(watch().name, one["task_id"], (one["number"] or 0) + 1):
                return


def _said(ids: list[str]) -> str:
    """What was meant, for the log: the ids, or the filter without what was searched for."""
    if ids:
        return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    return ", ".join(f"{name}={text}" for name, text in _given().items()) or "all"
