"""The buttons of the local server: they create tasks, and kill, freeze and wake the workers of
tasks with real signals."""

import os
import random
import signal
from typing import Any

from flask import Blueprint, abort, render_template, request

from functions.core.answers import Created
from functions.core.dispatch import Dispatcher, push
from functions.core.policy import Watch
from functions.entry.fields import task_id_of
from functions.ops.local.processes import children, family, is_frozen, lives
from functions.ops.local.samples import PROMPTS, selection_input
from functions.page.current import page, watch
from functions.store import Store
from functions.store.page_answers import TimedAttempt
from functions.sweep.wake import EVERY_KIND, wake_kinds

SAMPLES = {
    "slow": "an image that takes a minute",
    "image": "an image",
    "selection": "a random selection",
    "fails": "an image that is refused",
    "stumbles": "an image whose provider fails once",
}
_PROMPT_ENDINGS = {
    "slow": " [slow 60]",
    "image": "",
    "fails": " [refuse]",
    "stumbles": " [500 once]",
}
FIRST_SAMPLES = ("image", "selection", "slow", "fails", "image", "stumbles", "selection", "image")
"""The tasks with which a new database begins."""


SIGNALS = {
    "kill": (signal.SIGKILL, "killed with SIGKILL"),
    "freeze": (signal.SIGSTOP, "frozen with SIGSTOP"),
    "wake": (signal.SIGCONT, "woken with SIGCONT"),
}


def sample(name: str, seed: int) -> tuple[str, dict[str, Any]]:
    """The kind and the input of the sample `name`; `seed` varies the input."""
    if name == "selection":
        return "selection", selection_input(seed)
    return "image", {
        "prompt": PROMPTS[seed % len(PROMPTS)] + _PROMPT_ENDINGS[name],
        "size": "256x256",
    }


def create(
    store: Store, dispatcher: Dispatcher, watched: Watch, name: str, seed: int, count: int = 1
) -> list[str]:
    """Creates and pushes `count` tasks. Returns their ids."""
    task_ids = []
    for number in range(count):
        kind, task_input = sample(name, seed + number)
        task = store.create(watched, kind, task_input)
        assert isinstance(task, Created), "it has neither a key nor an owner"
        push(dispatcher, watched.name, task.task_id, 1)
        task_ids.append(task.task_id)
    return task_ids


def blueprint(workers: int) -> Blueprint:
    """`workers` is the process whose children hold the tasks."""
    buttons = Blueprint("play", __name__, url_prefix="/play", template_folder="templates")

    @buttons.post("/create")
    def add() -> str:
        name, count = request.form.get("name", ""), request.form.get("count", "1")
        if name not in SAMPLES or not count.isdecimal() or not 0 < int(count[:6]) <= 1000:
            abort(400, f"Choose one of {', '.join(SAMPLES)}, and 1 to 1000 of it.")
        app, seed = page().app, random.randrange(1000)
        task_ids = create(app.store, app.dispatcher, watch(), name, seed, int(count))
        text = f"created {len(task_ids)}"
        return render_template("dev_done.html", text=text, task_id=task_ids[0])

    @buttons.post("/push")
    def push_again() -> dict[str, int]:
        """For `dev` after a start: the pushes of the servers before went with them."""
        app = page().app
        watches = app.policy.watches.values()
        woken = [wake_kinds(app.store, app.dispatcher, each, {EVERY_KIND}) for each in watches]
        return {"pushed": sum(each.pushed for each in woken)}

    @buttons.post("/<any(kill, freeze, wake):action>/<path:task_id>")
    def strike(action: str, task_id: str) -> str:
        key = task_id_of(watch(), task_id)
        worker = worker_of(page().store(), watch(), key, workers, frozen=action == "wake")
        number, past = SIGNALS[action]
        for pid in [worker] if action == "kill" else family(worker):
            os.kill(pid, number)
        return render_template("dev_done.html", text=f"worker {worker} was {past}", task_id=None)

    return buttons


def worker_of(store: Store, watched: Watch, task_id: str, workers: int, *, frozen: bool) -> int:
    """The process that has, or last had, the task; one of our workers and no other process. Aborts
    with 409."""
    attempts = store.timeline(watched, task_id).attempts
    alive = set(children(workers))
    for pid in [pid_of(attempt.worker) for attempt in reversed(attempts)]:
        if pid in alive and is_frozen(pid) == frozen:
            return pid
    return abort(409, "No worker of this server has that task now.")


def pid_of(worker: str | None) -> int:
    """From the name that a worker has in the ledger; 0 for others."""
    digits = str(worker or "").partition("@")[0].removeprefix("worker-")
    return int(digits) if digits.isdecimal() else 0


def is_at_work(attempts: list[TimedAttempt]) -> bool:
    """Whether the worker of an attempt that has not ended lives, and is not frozen."""
    pids = [pid_of(attempt.worker) for attempt in attempts if attempt.ended is None]
    return any(pid and lives(pid) and not is_frozen(pid) for pid in pids)


def any_frozen(attempts: list[TimedAttempt]) -> bool:
    """Whether a worker that had the task is frozen."""
    return any(is_frozen(pid_of(attempt.worker)) for attempt in attempts)
