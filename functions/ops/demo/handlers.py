"""Handlers that break what they can, for the demo."""

import os
import signal
from typing import Any

import psutil  # type: ignore[import-untyped]

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
    os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)
    return {}
