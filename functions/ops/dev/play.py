"""To play with, on the local server only: tasks to create, and workers to kill and to freeze. Real
signals."""

import os
import random
import signal
from typing import Any

from flask import Blueprint, abort, render_template, request

from functions.core.dispatch import push
from functions.core.policy import Watch
from functions.entry.fields import task_id_of
from functions.ops.local.processes import children, family, is_frozen
from functions.ops.local.samples import PROMPTS, selection_input
from functions.page.current import page, watch
from functions.store import Store

SAMPLES = {
    "slow": "an image that takes a minute",
    "image": "an image",
    "selection": "a random selection",
    "fails": "an image that is refused",
    "stumbles": "an image whose provider fails once",
}
_MARKS = {"slow": " [slow 60]", "image": "", "fails": " [refuse]", "stumbles": " [500 once]"}
FIRST = ("image", "selection", "slow", "fails", "image", "stumbles", "selection", "image")
"""What a new database begins with."""


def sample(name: str, seed: int) -> tuple[str, dict[str, Any]]:
    """A kind and its input."""
    if name == "selection":
        return "selection", selection_input(seed)
    return "image", {"prompt": PROMPTS[seed % len(PROMPTS)] + _MARKS[name], "size": "256x256"}


def create(store: Store, watched: Watch, name: str, seed: int, count: int = 1) -> list[str]:
    """Creates and pushes so many tasks."""
    made = []
    for number in range(count):
        kind, task_input = sample(name, seed + number)
        made.append(store.create(watched, kind, task_input)["task_id"])
        push(watched.name, made[-1], 1)
    return made


def blueprint(workers: int) -> Blueprint:
    """`workers` is the process whose children hold the tasks."""
    made = Blueprint("play", __name__, url_prefix="/play", template_folder="templates")

    @made.post("/create")
    def add() -> str:
        name, count = request.form.get("name", ""), request.form.get("count", "1")
        if name not in SAMPLES or not count.isdecimal() or not 0 < int(count[:6]) <= 1000:
            abort(400, f"Choose one of {', '.join(SAMPLES)}, and 1 to 1000 of it.")
        created = create(page().store(), watch(), name, random.randrange(1000), int(count))
        return render_template("dev_told.html", text=f"created {len(created)}", task_id=created[0])

    @made.post("/<any(kill, freeze, wake):how>/<path:task_id>")
    def strike(how: str, task_id: str) -> str:
        pid = worker_of(
            page().store(), watch(), task_id_of(watch(), task_id), workers, frozen=how == "wake"
        )
        for one in [pid] if how == "kill" else family(pid):
            os.kill(
                one, {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "wake": signal.SIGCONT}[how]
            )
        told = {
            "kill": "killed with SIGKILL",
            "freeze": "frozen with SIGSTOP",
            "wake": "woken with SIGCONT",
        }[how]
        return render_template("dev_told.html", text=f"worker {pid} was {told}", task_id=None)

    return made


def worker_of(store: Store, watched: Watch, task_id: str, workers: int, *, frozen: bool) -> int:
    """The process that has, or last had, the task; one of our workers and no other process. Aborts
    with 409."""
    attempts = store.timeline(watched, task_id)["attempts"]
    alive = set(children(workers))
    for pid in reversed([pid_of(one["worker"]) for one in attempts]):
        if pid in alive and is_frozen(pid) == frozen:
            return pid
    return abort(409, "No worker of this server has that task now.")


def pid_of(worker: str | None) -> int:
    """From the name that a worker has in the ledger; 0 for others."""
    text = str(worker or "").partition("@")[0].removeprefix("worker-")
    return int(text) if text.isdecimal() else 0


def any_frozen(attempts: list[dict[str, Any]]) -> bool:
    """Whether a worker that had the task is frozen."""
    return any(is_frozen(pid_of(one["worker"])) for one in attempts)
