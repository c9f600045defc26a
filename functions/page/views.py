"""What the page shows. Reads only; each view is whole, or the part of it that is refreshed every 2
seconds."""

from flask import Blueprint, abort, render_template, request

from functions.core.explain import explain
from functions.core.states import ACTIONS, OPEN, Reason
from functions.entry.fields import task_id_of
from functions.page import charts, redact, timeline, wanted
from functions.page.current import link, page, watch
from functions.store import Answer

blueprint = Blueprint("views", __name__)
ROWS = 50
LATE = 3.0
"""So many times its interval after its last good run a sweep is late: the same as the alert's."""


@blueprint.get("/")
def index() -> str:
    return render_template("index.html", **_pulse(), **_list(), **_day(), title="Tasks")


@blueprint.get("/part/pulse")
def pulse() -> str:
    return render_template("_pulse.html", **_pulse())


@blueprint.get("/part/list")
def tasks() -> str:
    return render_template("_list.html", **_list())


@blueprint.get("/part/day")
def day() -> str:
    return render_template("_day.html", **_day())


@blueprint.get("/tasks/<path:task_id>")
def task(task_id: str) -> str:
    """With ?part=live only what is refreshed."""
    found = _task(task_id)
    return render_template(
        "_task.html" if request.args.get("part") == "live" else "task.html", **found
    )


@blueprint.get("/payload/<path:task_id>")
def payload(task_id: str) -> str:
    """Input, result and checkpoints, with secrets hidden."""
    found = page().store().payload(watch(), task_id_of(watch(), task_id))
    more = page().redact
    parts = {
        name: redact.shown(found.get(name), more) for name in ("input", "result", "checkpoints")
    }
    return render_template("_payload.html", parts=parts)


@blueprint.get("/sweeps")
def sweeps() -> str:
    before, idle = request.args.get("before", ""), request.args.get("idle") == "1"
    found = (
        page()
        .store()
        .sweeps(ROWS, int(before) if before.isdecimal() and len(before) < 19 else None, idle=idle)
    )
    older = (
        link("sweeps", before=found[-1]["id"], idle="1" if idle else "")
        if len(found) == ROWS
        else None
    )
    return render_template("sweeps.html", sweeps=found, idle=idle, older=older, title="Sweeps")


@blueprint.get("/sweeps/<int:sweep_id>")
def sweep(sweep_id: int) -> str:
    found = page().store().sweeps(1, sweep_id + 1, idle=True)
    if not found or found[0]["id"] != sweep_id:
        abort(404, f"There is no sweep {sweep_id}. Sweeps older than the retention are gone.")
    after = request.args.get("after", "")
    did = page().store().swept(watch(), sweep_id, ROWS, after)
    more = link(f"sweeps/{sweep_id}", after=did[-1]["task_id"]) if len(did) == ROWS else None
    return render_template(
        "sweep.html", sweep=found[0], did=did, more=more, title=f"Sweep {sweep_id}"
    )


def allowed(state: str | None) -> list[str]:
    """The actions that fit a state; of a mixed list, none but what its rows allow one by one."""
    return [name for name, states in ACTIONS.items() if state in states]


def _pulse() -> Answer:
    found = page().store().pulse(watch())
    every, ago = page().policy().sweep_every, found["last_good"]
    return {
        "pulse": found,
        "late": ago is None or ago > LATE * every + 30,
        "every": every,
        "groups": _groups(found),
    }


def _groups(found: Answer) -> list[Answer]:
    """Open tasks by kind: how many run and wait, and how old the oldest is."""
    kinds: dict[str, Answer] = {}
    for one in found["open"]:
        group = kinds.setdefault(
            one["kind"], {"kind": one["kind"], "running": None, "pending": None}
        )
        group[one["state"]] = one
    return list(kinds.values())


def _day() -> Answer:
    found = page().store().day(watch())
    return {"failures": charts.failures(found), "rescues": charts.rescues(found)}


def _list() -> Answer:
    asked = wanted.wanted(request.args, watch())
    found: Answer = {"tasks": [], "next": None}
    if asked.filter is not None:
        found = page().store().page(watch(), asked.filter, ROWS, asked.after)
    following = wanted.written(found["next"]) if found["next"] else None
    kinds = sorted({*watch().rules} - {"*"} | {asked.given.get("kind", "")} - {""})
    return {
        "tasks": found["tasks"],
        "wanted": asked.given,
        "after": request.args.get("after", ""),
        "kinds": kinds,
        "searched": bool(found["next"] and found["next"].get("searched")),
        "bulk": allowed(asked.given.get("state")),
        "next_page": link("", **asked.given, after=following) if following else None,
        "states": [(name, wanted.TITLES.get(name, str(name))) for name in wanted.STATES],
        "reasons": [str(one) for one in Reason],
        "refresh": link("part/list", **asked.given, after=request.args.get("after")),
    }


def _task(task_id: str) -> Answer:
    store, key = page().store(), task_id_of(watch(), task_id)
    status = store.status(watch(), key, heal=False)
    if status["verdict"] == "missing":
        abort(404, f"There is no task {key} in {watch().table}.")
    found = store.timeline(watch(), key)
    return {
        "status": status,
        "explanation": explain(page().policy(), watch(), status),
        "actions": allowed(status["state"]),
        "drawing": timeline.draw(found, is_open=status["state"] in OPEN),
        "attempts": list(reversed(found["attempts"])),
        "beat": page().policy().beat,
        "title": f"Task {key[:8]}",
    }
