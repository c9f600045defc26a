"""Handlers that write down what they do, in one file that is only appended to: the observer judges
by it and not by what Unstuck says of itself."""

import json
import os
import signal
import time
import uuid
from contextlib import suppress
from typing import Any, NoReturn

import psutil

from functions.context import Context
from functions.errors import Fail, Retry

Input = dict[str, Any]
STEP_SECONDS = 0.1


class _Run:
    """One execution of a handler."""

    def __init__(self, context: Context) -> None:
        self._context, self._id = context, uuid.uuid4().hex
        self.note("began")

    def note(self, word: str) -> None:
        line = {
            "at": time.time(),
            "task_id": self._context.task_id,
            "number": self._context.attempt,
            "kind": self._context.kind,
            "worker": os.environ["K_REVISION"],
            "run": self._id,
            "word": word,
        }
        journal = os.open(os.environ["CHAOS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(journal, f"{json.dumps(line)}\n".encode())
        os.close(journal)

    def work(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(STEP_SECONDS)
            self.note("lives")

    def finish(self) -> dict[str, Any]:
        self.note("finished")
        return {"task_id": self._context.task_id, "run": self._id}


def works(context: Context, task_input: Input) -> Any:
    run = _Run(context)
    run.work(task_input["seconds"])
    return run.finish()


def steps(context: Context, task_input: Input) -> Any:
    run = _Run(context)
    for step in ("first", "second"):
        if not context.done(step):
            run.work(task_input["seconds"] / 2)
            context.checkpoint(step, {"number": context.attempt})
            run.note("saved")
        context.progress(0.5, step)
    return run.finish()


def hangs(context: Context, _: Input) -> NoReturn:
    run = _Run(context)
    while True:
        with suppress(BaseException):
            run.work(1.0)


def dies_once(context: Context, _: Input) -> Any:
    run = _Run(context)
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return run.finish()


def poison(context: Context, _: Input) -> Any:
    """Takes its whole worker down, at each try: forkserver's parent is the gunicorn worker."""
    _Run(context)
    os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)
    time.sleep(10)


def refuses(context: Context, _: Input) -> NoReturn:
    _Run(context)
    raise Fail("No.")


def comes_back(context: Context, _: Input) -> Any:
    run = _Run(context)
    if context.attempt == 1:
        raise Retry("Later.", after=0.2)
    return run.finish()
