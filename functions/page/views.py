"""What the page shows. It only reads. Each view is a whole page, or a part of one that the browser
fetches anew every 2 seconds."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, abort, render_template, request

from functions.core import redact
from functions.core.answers import OverdueCount, Pause, TaskStatus
from functions.core.explain import explain, headline
from functions.core.policy import Watch
from functions.core.record import plain, replace
from functions.core.states import ACTIONS, OPEN, Reason, State
from functions.entry.fields import task_id_of
from functions.errors import StoreError
from functions.page import charts, list_query, run_again, tables, timeline
from functions.page.current import link, page, watch
from functions.page.reasons import REASONS
from functions.store.page_answers import LastDay, ListedTask, Summary, TaskPage, TimedAttempt

blueprint = Blueprint("views", __name__)
PAGE_ROWS = 50
DAY = 86_400
LABEL_CHARACTERS = 120
LOG_MARGIN_SECONDS = 120.0
"""Before and after an attempt: its push, and what a sweep does with it."""
MOST_SWEEP_ID = 2**63 - 2
LATE_INTERVALS = 3.0
LATE_GRACE_SECONDS = 30.0
"""The sweep is late when its last good run is longer ago than that many of its intervals and these
seconds: the same as for the alert."""


@blueprint.get("/")
def index() -> str:
    summary, last_day = _summary(), _last_day()
    kinds = _kinds(summary["groups"], last_day["day"])
    # Who looks at what failed wants them at once, above the list; on other pages they come later.
    opened = _failures(opened=True) if request.args.get("state") == "failed" else {}
    return render_template(
        "index.html", **summary, **_list(), **last_day, **opened, kinds=kinds, title="Tasks"
    )


@blueprint.get("/metrics")
def metrics() -> Response:
    """For a Prometheus, of all watches."""
    from functions.sweep import prometheus

    policy = page().policy()
    body = prometheus.text(page().store(), policy, policy.watches.values())
    return Response(body, content_type=prometheus.CONTENT_TYPE)


@blueprint.get("/part/pulse")
def summary() -> str:
    return render_template("_summary.html", **_summary())


@blueprint.get("/part/list")
def tasks() -> str:
    return render_template("_list.html", **_list())


@blueprint.get("/part/count")
def count() -> str:
    """How many tasks the list has in all, as "of 1,234"; nothing where nobody counts. What ended in
    a table that is not our own counts where the ledger has it."""
    state = request.args.get("state", "")
    count = page().store().count(watch(), state) if state in set(State) else None
    return render_template("_count.html", count=count, own=watch().own, ended=state not in OPEN)


@blueprint.get("/part/failures")
def failures() -> str:
    return render_template("_failures.html", **_failures(opened=False))


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


@blueprint.get("/reasons")
def reasons() -> str:
    return render_template("reasons.html", reasons=REASONS, title="Reasons")


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
    store = page().store()
    moved = tables.of_shown(
        tables.answers(lambda watch: store.swept(watch, sweep_id, PAGE_ROWS, after), tables.shown())
    )
    more = {
        name: link(f"sweeps/{sweep_id}", watch=name, after=tasks[-1].task_id)
        for name, tasks in moved.items()
        if len(tasks) == PAGE_ROWS
    }
    return render_template(
        "sweep.html", sweep=runs[0], moved=moved, more=more, title=f"Sweep {sweep_id}"
    )


def _actions(state: str | None) -> list[str]:
    """The actions that fit a state; none for a list of several states."""
    return [action for action, states in ACTIONS.items() if state in states]


def _summary() -> dict[str, Any]:
    """Each table is asked, since each has its number in the picker."""
    store, policy = page().store(), page().policy()
    watches = policy.watches.values() if len(policy.watches) > 1 else [watch()]
    answers = tables.answers(store.pulse, watches)
    summaries = tables.of_shown(answers)
    first = next(iter(summaries.values()))
    every, ago = policy.sweep_every, first.last_good
    return {
        "summary": Summary(**vars(first) | {"stuck": tables.stuck(summaries.values())}),
        "unread": [name for name in answers if name not in summaries]
        if tables.all_at_once()
        else [],
        "badges": _badges(answers) if len(answers) > 1 else {},
        "pauses": _pauses([each.name for each in watches]),
        "late": ago is None or ago > LATE_INTERVALS * every + LATE_GRACE_SECONDS,
        "every": every,
        "groups": [group for name, answer in summaries.items() for group in _groups(name, answer)],
    }


def _pauses(names: list[str]) -> list[Pause]:
    """What is paused; nothing where that cannot be read: the rest of the page says why."""
    try:
        return page().store().pauses(names)
    except StoreError:
        return []


def _badges(answers: dict[str, Summary | StoreError]) -> dict[str, OverdueCount | None]:
    """What is stuck in each table; None for one that could not be read."""
    return {
        name: None if isinstance(answer, StoreError) else answer.stuck
        for name, answer in answers.items()
    }


def _groups(name: str, answer: Summary) -> list[dict[str, Any]]:
    """Open tasks of a table by kind: {table, kind, running, pending, missing}; running and pending
    are an OpenCount or None, `missing` says which handler tasks wait for that nobody runs."""
    groups: dict[str | None, dict[str, Any]] = {}
    for tasks in answer.open:
        group = groups.setdefault(
            tasks.kind, {"table": name, "kind": tasks.kind, "running": None, "pending": None}
        )
        group[tasks.state] = tasks
    for group in groups.values():
        waits = group["pending"] and not group["running"]
        group["missing"] = _missing_handler(name, group["kind"]) if waits else None
    return list(groups.values())


def _missing_handler(name: str, kind: str | None) -> str | None:
    from functions.worker.kinds import has_handler, where_to_write

    watch = page().policy().watches[name]
    return None if has_handler(watch, kind or "") else where_to_write(watch, kind or "")


def _kinds(groups: list[dict[str, Any]], day: LastDay) -> list[str]:
    """Those that occur: of open tasks, and of those that ended within a day. The one that is chosen
    stays, and so do those of the rules."""
    occurring = {group["kind"] for group in groups}
    occurring |= {kind for half_hour in day.ended for kind in half_hour.kinds or ()}
    occurring |= {kind for watch in tables.shown() for kind in watch.rules} - {"*"}
    return sorted({*occurring, request.args.get("kind", "").strip()} - {None, ""})


def _last_day() -> dict[str, Any]:
    answers = tables.answers(page().store().day, tables.shown())
    day = tables.day(list(tables.of_shown(answers).values()))
    return {
        "day": day,
        "figures": charts.figures(day),
        "failures": charts.failures(day),
        "rescues": charts.rescues(day),
    }


def _failures(*, opened: bool) -> dict[str, Any]:
    answers = tables.answers(lambda watch: page().store().failures(watch, DAY), tables.shown())
    return {"by_table": tables.of_shown(answers), "opened": opened}


def _list() -> dict[str, Any]:
    """The tasks of the table that the address names. Of all tables there is one page: the first of
    each, in one list."""
    query = list_query.read(request.args, watch())
    pages = tables.of_shown(tables.answers(_page_of, tables.shown()))
    rows = [(name, task) for name, shown in pages.items() for task in shown.tasks]
    next_page, further = None, {}
    if tables.all_at_once():
        further = {
            name: link("", **query.typed, watch=name)
            for name, shown in pages.items()
            if shown.next or len(rows) > PAGE_ROWS
        }
        rows = tables.in_one_list(rows)[:PAGE_ROWS]
    rows = list_query.sorted_rows(rows, query.typed.get("sort", ""))
    passed = request.args.get("passed", "")
    before = int(passed) if passed.isdecimal() and len(passed) < 9 and query.after else 0
    if not tables.all_at_once() and (last := pages[watch().name].next):
        next_page = link(
            "", **query.typed, after=list_query.address(last), passed=before + len(rows)
        )
    return {
        "rows": rows,
        "labels": {
            task.task_id: _label(task.label, _watch_named(name).rule(task.kind or "").label)
            for name, task in rows
        },
        "first": before + 1,
        "can": {state: " ".join(_actions(state)) for state in State},
        "sorts": query.typed.get("state") in _sorted_states(),
        "counts": query.typed.keys() - {"sort"} == {"state"} and not tables.all_at_once(),
        "acts": not (query.filter or {}).keys() & list_query.LIST_ONLY,
        "own": all(watch.own for watch in tables.shown()),
        "filters": query.typed,
        "after": request.args.get("after", ""),
        "searched": any(shown.next and shown.next.searched for shown in pages.values()),
        "actions": _actions((query.filter or {}).get("state")),
        "next_page": next_page,
        "further": further,
        "states": list_query.states_of(tables.shown()),
        "reasons": list(Reason),
        "refresh": link(
            "part/list", **query.typed, after=request.args.get("after"), passed=before or ""
        ),
    }


def _sorted_states() -> tuple[str, ...]:
    """Those whose whole list is in the order of its times. What ended in a table that is not our
    own, and without the guard, comes by its key."""
    if tables.all_at_once():
        return ()
    return list_query.SORTED_STATES if watch().own else (State.PENDING,)


def _watch_named(name: str) -> Watch:
    return page().policy().watches[name]


def _page_of(asked: Watch) -> TaskPage:
    query = list_query.read(request.args, asked)
    if query.filter is None:
        return TaskPage([], None)
    shown = page().store().page(asked, query.filter, PAGE_ROWS, query.after)
    if text := query.typed.get("text"):
        return TaskPage([task for task in shown.tasks if _mentions(task, text)], shown.next)
    return shown


def _mentions(task: ListedTask, text: str) -> bool:
    """Whether what people may see of the task has the text. A search must not tell, match by match,
    a secret that is hidden."""
    seen = redact.redacted_text(task.error or "", page().redact)
    with suppress(ValueError, RecursionError):
        shown = redact.redacted(json.loads(task.searched or '""'), page().redact)
        seen += json.dumps(shown, ensure_ascii=False)
    return text.lower() in seen.lower()


def _label(label: str | None, path: str) -> str:
    """What a task is about, in a line; hidden where a key on the way to it names a secret."""
    value: Any = label
    for key in reversed(path.split(".")):
        value = {key: value}
    value = redact.redacted(value, page().redact)
    for key in path.split("."):
        value = value[key] if isinstance(value, dict) else value
    return " ".join(str(value).split())[:LABEL_CHARACTERS] if label else ""


def _task(task_id: str) -> dict[str, Any]:
    store, key = page().store(), task_id_of(watch(), task_id)
    status = store.status(watch(), key, heal=False)
    if status is None:
        abort(404, f"There is no task {key} in {watch().table}.")
    times = store.timeline(watch(), key)
    next_step, seconds = _next_step(status)
    # hidden first: a line of a secret does not look like one
    seen = redact.redacted_text(status.error or "", page().redact)
    in_short = replace(status, error=headline(seen) or None)
    failure = times.attempts[-1].detail if times.attempts else None
    return {
        "status": status,
        "explanation": explain(page().policy(), watch(), in_short),
        "failure": failure or (status.error if "\n" in (status.error or "") else None),
        "label": _label(times.label, watch().rule(status.kind).label),
        "next_step": next_step,
        "next_moment": None if seconds is None else times.now + seconds,
        "actions": _actions(status.state),
        "repeatable": run_again.is_possible(watch(), status.kind),
        "parent": times.parent,
        "drawing": timeline.draw(times, is_open=status.state in OPEN),
        "unguarded": times.unguarded,
        "lengths": timeline.lengths(times),
        "attempts": times.attempts[::-1],
        "log_links": _log_links(key, times.attempts),
        "created": times.created,
        "now": times.now,
        "most_attempts": status.attempt.of if status.attempt else 0,
        "title": f"Task {key[:8]}",
    }


def _next_step(status: TaskStatus) -> tuple[str, float | None]:
    """What happens next to an open task if nobody does anything, and in how many seconds; None
    where nobody knows when."""
    if status.overdue:
        return "the sweep ends it or puts it back", None
    attempt = status.attempt
    if status.state == State.PENDING and status.paused:
        return "it is taken again", status.paused.left
    if status.state == State.PENDING:
        if status.due_in:
            return "a worker may take it", status.due_in
        return "it fails as never_claimed if no worker takes it", status.pending_left
    if status.state == State.RUNNING and attempt and attempt.lease_left is not None:
        if attempt.deadline_left is not None and attempt.deadline_left < attempt.lease_left:
            return "its deadline", attempt.deadline_left
        return "without another heartbeat it is taken back", attempt.lease_left
    return "", None


def _log_links(key: str, attempts: list[TimedAttempt]) -> dict[int, str]:
    """Where the log lines of each attempt are, by its number; empty outside Google Cloud. Those of
    its request by the trace, also what the platform wrote; every line of ours names the task, also
    those of a sweep."""
    from urllib.parse import quote

    project = page().app.settings.project
    links = {}
    for attempt in attempts if project else ():
        begin, end = attempt.started - LOG_MARGIN_SECONDS, attempt.ended or attempt.beat
        first = datetime.fromtimestamp(begin, UTC).isoformat()
        last = datetime.fromtimestamp(end + LOG_MARGIN_SECONDS, UTC).isoformat()
        about = f"jsonPayload.task_id={json.dumps(key)}"
        if attempt.trace:
            about = f'(trace="projects/{project}/traces/{attempt.trace}" OR {about})'
        query = f'{about}\ntimestamp>="{first}"\ntimestamp<="{last}"'
        links[attempt.number] = (
            f"https://console.cloud.google.com/logs/query;query={quote(query, safe='')}"
            f"?project={quote(project or '', safe='')}"
        )
    return links
