"""The handler of the board's tasks in Unstuck. A module of its own and a light one: a worker
imports it before the first task, and in each child where that takes long."""

import os
from pathlib import Path
from typing import Any

from functions.context import Context
from tests.board.orders import Execution


def board(_: Context, task_input: dict[str, Any]) -> dict[str, str]:
    """It runs in a child process of the worker."""
    return Execution(task_input, _worker_pid).perform_blocking()


def _worker_pid() -> int:
    """Of the gunicorn worker: the handler's parent is the forkserver, which that one has
    started."""
    stat = Path(f"/proc/{os.getppid()}/stat").read_text(encoding="ascii")
    return int(stat.rpartition(")")[2].split()[1])
