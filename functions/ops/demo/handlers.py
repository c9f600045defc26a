"""Handlers that break what they can, for the demo."""

import os
import signal
from pathlib import Path
from typing import Any

from functions.context import Context


def overtime(_ctx: Context, _input: dict[str, Any]) -> dict[str, Any]:
    """Computes for ever."""
    number = 0
    while True:
        number += 1


def hungry(_ctx: Context, _input: dict[str, Any]) -> dict[str, Any]:
    """Takes more and more memory."""
    held = []
    while True:
        held.append(bytearray(os.urandom(1_000_000)) * 4)


def poison(_ctx: Context, _input: dict[str, Any]) -> dict[str, Any]:
    """Takes its whole worker down, at each try: forkserver's parent is the gunicorn worker."""
    fields = (
        Path(f"/proc/{os.getppid()}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    )
    os.kill(int(fields[1]), signal.SIGKILL)
    return {}
