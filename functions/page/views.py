"""What the page shows. It only reads. Each view is a whole page, or a part of one that the browser
fetches anew every 2 seconds."""

import json
from contextlib import suppress
from typing import Any

from flask import Blueprint, Response, abort, render_template, request

from functions.core import redact
from functions.core.answers import OpenCount, OverdueCount
from functions.core.explain import explain
from functions.core.record import plain
from functions.core.states import ACTIONS, OPEN, Reason
from functions.entry.fields import task_id_of
from functions.errors import StoreError
from functions.page import charts, list_query, timeline
from functions.page.current import link, page, watch
from functions.store.page_answers import Summary, TaskPage

blueprint = Blueprint("views", __name__)
PAGE_ROWS = 50
MOST_SWEEP_ID = 2**63 - 2
LATE_INTERVALS = 3.0
LATE_GRACE_SECONDS = 30.0
"""The sweep is late when its last good run is longer ago than that many of its intervals and these
seconds: the same as for the alert."""


@blueprint.get("/")
def index() -> str:
    return render_template("index.html", **_summary(), **_list(), **_last_day(), title="Tasks")


@blueprint.get("/part/pulse")
def summary() -> str:
    return render_template("_summary.html", **_summary())


@blueprint.get("/part/list")
def tasks() -> str:
    return render_template("_list.html", **_list())


@blueprint.get("/part/day")
def last_day() -> str:
    return render_template("_last_day.html", **_last_day())


@blueprint.get("/tasks/<path:task_id>")
def task(task_id: str) -> str:
    """With ?part=live only the part that changes while a task is open."""
    template = "_task.html" if request.args.get("part") == "live" else "task.html"
    return render_template(template, **_task(task_id))


@blueprint.get("/payload/<path:task_id>")
def payload(task_id: str) -> str:
    """Input, result and checkpoints, with secrets hidden."""
    answer = page().store().payload(watch(), task_id_of(watch(), task_id))
    parts = {name: redact.shown(value, page().redact) for name, value in vars(answer).items()}
    return render_template("_payload.html", parts=parts)


@blueprint.get("/json/<path:task_id>")
def as_json(task_id: str) -> Response:
    """The task, what is said of it, and its attempts, with secrets hidden."""
    parts = _task(task_id)
    answer = {name: plain(parts[name]) for name in ("status", "explanation", "attempts")}
    text = redact.shown(json.loads(json.dumps(answer, default=str)), page().redact)
    return Response(f"{text}\n", mimetype="application/json")


@blueprint.get("/sweeps")
def sweeps() -> str:
    before, idle = request.args.get("before", ""), request.args.get("idle") == "1"
    first_id = int(before) if before.isdecimal() and len(before) < 19 else None
    runs = page().store().sweeps(PAGE_ROWS, first_id, idle=idle)
    older = None
    if len(runs) == PAGE_ROWS:
        older = link("sweeps", before=runs[-1].id, idle="1" if idle else "")
    return render_template("sweeps.html", sweeps=runs, idle=idle, older=older, title="Sweeps")


@blueprint.get("/sweeps/<int:sweep_id>")
def sweep(sweep_id: int) -> str:
    runs = page().store().sweeps(1, min(sweep_id, MOST_SWEEP_ID) + 1, idle=True)
    if not runs or runs[0].id != sweep_id:
        abort(404, f"There is no sweep {sweep_id}. Sweeps older than the retention are deleted.")
    after = request.args.get("after", "").replace("\0", "")
    moved = page().store().swept(watch(), sweep_id, PAGE_ROWS, after)
    more = None
    if len(moved) == PAGE_ROWS:
        more = link(f"sweeps/{sweep_id}", after=moved[-1].task_id)
    return render_template(
        "sweep.html", sweep=runs[0], tasks=moved, more=more, title=f"Sweep {sweep_id}"
    )


def _actions(state: str | None) -> list[str]:
    """The actions that fit a state; none for a list of several states."""
    return [action for action, states in ACTIONS.items() if state in states]


def _summary() -> dict[str, Any]:
    answer = page().store().pulse(watch())
    stuck = _stuck_by_watch(answer)
    every, ago = page().policy().sweep_every, answer.last_good
    return {
        "summary": Summary(**vars(answer) | {"stuck": _sum(stuck)}),
        "stuck_by_watch": stuck if len(stuck) > 1 else {},
        "late": ago is None or ago > LATE_INTERVALS * every + LATE_GRACE_SECONDS,
        "every": every,
        "groups": _groups(answer),
    }


def _stuck_by_watch(of_this: Summary) -> dict[str, OverdueCount | None]:
    """What is stuck in the table that the address names; where it names none, in each table. None
    for one that could not be read."""
    stuck: dict[str, OverdueCount | None] = {watch().name: of_this.stuck}
    if not request.values.get("watch"):
        for name, other in page().policy().watches.items():
            if name not in stuck:
                with suppress(StoreError):
                    stuck[name] = page().store().pulse(other).stuck
                stuck.setdefault(name, None)
    return stuck


def _sum(stuck: dict[str, OverdueCount | None]) -> OverdueCount:
    counts = [count for count in stuck.values() if count]
    ages = [count.oldest for count in counts if count.oldest is not None]
    return OverdueCount(
        sum(count.count for count in counts),
        max(ages, default=None),
        sum(count.unjudged for count in counts),
    )


def _groups(answer: Summary) -> list[dict[str, Any]]:
    """Open tasks by kind: {kind, running, pending}; the last two are an OpenCount or None."""
    groups: dict[str | None, dict[str, str | OpenCount | None]] = {}
    for tasks in answer.open:
        group = groups.setdefault(
            tasks.kind, {"kind": tasks.kind, "running": None, "pending": None}
        )
        group[tasks.state] = tasks
    return list(groups.values())


def _last_day() -> dict[str, Any]:
    answer = page().store().day(watch())
    return {"failures": charts.failures(answer), "rescues": charts.rescues(answer)}


def _list() -> dict[str, Any]:
    query = list_query.read(request.args, watch())
    shown = TaskPage([], None)
    if query.filter is not None:
        shown = page().store().page(watch(), query.filter, PAGE_ROWS, query.after)
    next_page = None
    if shown.next:
        next_page = link("", **query.typed, after=list_query.address(shown.next))
    kinds = sorted({*watch().rules} - {"*"} | {query.typed.get("kind", "")} - {""})
    return {
        "tasks": shown.tasks,
        "filters": query.typed,
        "after": request.args.get("after", ""),
        "kinds": kinds,
        "searched": bool(shown.next and shown.next.searched),
        "actions": _actions((query.filter or {}).get("state")),
        "next_page": next_page,
        "states": list_query.states_of(watch()),
        "reasons": list(Reason),
        "refresh": link("part/list", **query.typed, after=request.args.get("after")),
    }


def _task(task_id: str) -> dict[str, Any]:
    store, key = page().store(), task_id_of(watch(), task_id)
    status = store.status(watch(), key, heal=False)
    if status is None:
        abort(404, f"There is no task {key} in {watch().table}.")
    times = store.timeline(watch(), key)
    return {
        "status": status,
        "explanation": explain(page().policy(), watch(), status),
        "actions": _actions(status.state),
        "drawing": timeline.draw(times, is_open=status.state in OPEN),
        "attempts": times.attempts[::-1],
        "created": times.created,
        "now": times.now,
        "most_attempts": watch().rule(status.kind).attempts,
        "title": f"Task {key[:8]}",
    }
