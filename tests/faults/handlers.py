"""Handlers that do what breaks workers. Policies of the tests name them as `handler`.

Each leaves a line `attempt pid word` in the file that its input names as `trail`: the proof of what
really ran."""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

MB = 2**20


def leave(ctx, task_input, word="began"):
    """One write of a short line: appends of several processes do not mix."""
    with Path(task_input["trail"]).open("a", encoding="utf-8") as trail:
        trail.write(f"{ctx.attempt} {os.getpid()} {word}\n")


def ok(ctx, task_input):
    leave(ctx, task_input)
    return {"attempt": ctx.attempt}


async def ok_async(ctx, task_input):
    leave(ctx, task_input)
    await asyncio.sleep(0)
    return {"attempt": ctx.attempt}


def sleeps(ctx, task_input):
    leave(ctx, task_input)
    time.sleep(task_input.get("seconds", 60))
    leave(ctx, task_input, "ended")
    return {"attempt": ctx.attempt}


async def sleeps_async(ctx, task_input):
    leave(ctx, task_input)
    await asyncio.sleep(60)


def waits(ctx, task_input):
    """Until the test opens the gate: the file `gate`. Later attempts wait for `gate2`, when the
    input names it."""
    leave(ctx, task_input)
    gate = task_input["gate"] if ctx.attempt == 1 else task_input.get("gate2")
    while gate and not Path(gate).exists():
        time.sleep(0.01)
    leave(ctx, task_input, "ended")
    return {"attempt": ctx.attempt}


def hogs_once(ctx, task_input):
    """The first attempt holds the GIL in a C call; the others return."""
    return hogs_gil(ctx, task_input) if ctx.attempt == 1 else ok(ctx, task_input)


def starts_a_program(ctx, task_input):
    """As ffmpeg is started."""
    program = subprocess.Popen(["sleep", "600"])
    with Path(task_input["trail"]).open("a", encoding="utf-8") as trail:
        trail.write(f"{ctx.attempt} {program.pid} began\n")
    program.wait()


def spins(ctx, task_input):
    leave(ctx, task_input)
    while True:
        pass


def reads(ctx, task_input):
    leave(ctx, task_input)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def hogs_gil(ctx, task_input):
    leave(ctx, task_input)
    re.match(r"(a+)+$", "a" * 64 + "b")  # 2**64 ways to fail, all in one C call that keeps the GIL


def swallows_exceptions(ctx, task_input):
    leave(ctx, task_input)
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


def swallows_all(ctx, task_input):
    leave(ctx, task_input)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(0.01)


def floods(ctx, task_input):
    """Tells its progress without a pause, so that the guard always finds a message."""
    leave(ctx, task_input)
    until = time.monotonic() + task_input.get("seconds", 60)
    while time.monotonic() < until:
        ctx.progress(0.5, "still at it")
    return {"attempt": ctx.attempt}


def exits(ctx, task_input):
    leave(ctx, task_input)
    os._exit(3)


def sys_exits(ctx, task_input):
    leave(ctx, task_input)
    sys.exit(3)


def segfaults(ctx, task_input):
    leave(ctx, task_input)
    ctypes.string_at(0)


def kills_itself(ctx, task_input):
    leave(ctx, task_input)
    os.kill(os.getpid(), signal.SIGKILL)


def kills_worker(ctx, task_input):
    """The handler's parent is the forkserver, and that one's is the gunicorn worker."""
    leave(ctx, task_input)
    stat = Path(f"/proc/{os.getppid()}/stat").read_text(encoding="ascii")
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    time.sleep(60)


def grows(ctx, task_input):
    """By steps, as a leak does."""
    leave(ctx, task_input)
    kept = []
    while True:
        kept.append(bytearray(MB))
        time.sleep(task_input.get("pause", 0))


def jumps(ctx, task_input):
    """In one step, which the system refuses."""
    leave(ctx, task_input)
    return {"length": len(bytearray(1000 * MB))}


def steps(ctx, task_input):
    """Two steps with a checkpoint between; the first attempt dies after it, as the input says."""
    leave(ctx, task_input)
    if not ctx.done("one"):
        leave(ctx, task_input, "one")
        ctx.checkpoint("one", {"by": ctx.attempt})
    if ctx.attempt == 1:
        {"handler": kills_itself, "worker": kills_worker}[task_input["dies"]](ctx, task_input)
    leave(ctx, task_input, "two")
    return {"one": ctx.done("one"), "attempt": ctx.attempt}


def saves_nul(ctx, task_input):
    """Data that the database cannot store: the handler may do without it."""
    leave(ctx, task_input)
    try:
        ctx.checkpoint("one", "\0")
    except ValueError:
        leave(ctx, task_input, "refused")
    ctx.checkpoint("two", 2)
    return {"attempt": ctx.attempt}


def saves_late(ctx, task_input):
    """A checkpoint when the test opens the gate."""
    waits(ctx, task_input)
    ctx.checkpoint("one", 1)
    leave(ctx, task_input, "saved")
    return {"attempt": ctx.attempt}


def says_nul(ctx, task_input):
    """PostgreSQL stores no NUL and no half of a surrogate pair."""
    leave(ctx, task_input)
    raise ValueError("the answer was \0 and \ud800")


def returns_nul(ctx, task_input):
    leave(ctx, task_input)
    return {"text": "\0"}


def shows_nul(ctx, task_input):
    leave(ctx, task_input)
    ctx.progress(0.5, "\0")
    time.sleep(task_input["seconds"])
    return {"attempt": ctx.attempt}


def breaks_thread(ctx, task_input):
    leave(ctx, task_input)
    raise GeneratorExit("neither an Exception nor a SystemExit")


def says_much(ctx, task_input):
    """Logs what its input says, so many times, and then makes a mistake."""
    ctx.logger.error(task_input["text"] * task_input["times"], extra={"labels": {"step": "one"}})
    raise KeyError("a mistake of the handler")
