"""The Context of a running handler. It lives where the handler runs, mostly a child process, and
talks to the guard over a pipe; only the guard talks to the database."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, assert_never

from functions.core import events, file_lock, trace
from functions.errors import LeaseLostError
from functions.worker import handler_log, json_text, lease_clock
from functions.worker.messages import (
    Begin,
    Cancel,
    Checkpoint,
    CheckpointAnswer,
    ChildMessage,
    GuardMessage,
    Job,
    LogLine,
    Progress,
    Ready,
    Stop,
    decode,
    encode,
)

LINE_CHARACTERS = 50_000
"""Of a text that a handler logs: Cloud Logging takes 256 kB in an entry, which has it twice."""


class HandlerContext:
    """The Context of a running handler, and its end of the pipe."""

    def __init__(self, job: Job, pipe: Connection) -> None:
        self.task_id, self.kind, self.attempt = job.task_id, job.kind, job.attempt
        self._job, self.logger = job, _logger(job, self.log)
        self._pipe, self._sending, self._saving = pipe, threading.Lock(), threading.Lock()
        self._checkpoints = dict(job.checkpoints)
        self._deadline = time.monotonic() + job.seconds
        self._answered = threading.Event()
        self._refusal: BaseException | None = None
        """Of the last question to the guard; None when it was granted."""
        self._lease_until = 0.0
        self._stop = threading.Event()
        self._process = os.getpid()

    def wait_to_begin(self) -> None:
        """Returns when the handler may begin: the guard holds the lease, and it cannot have passed
        since, however long this process was frozen. Raises LeaseLostError when it is to stop."""
        while lease_clock.now() >= self._lease_until:
            self._ask(Ready())

    def checkpoint(self, name: str, data: Any = None) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                "call ctx.checkpoint in the handler's own process: only that hears the answer"
            )
        data = True if data is None else data
        data = json_text.plain(data, f"checkpoint {name}", json_text.RESULT_BYTES)
        with self._saving:  # the next answer is for this one, whichever thread of the handler asks
            self._ask(Checkpoint(name, data))
        self._checkpoints[name] = data

    def done(self, name: str) -> Any:
        return self._checkpoints.get(name)

    def progress(self, fraction: float | None = None, message: str = "", **more: Any) -> None:
        progress = {"fraction": fraction, "message": message, **more}
        try:
            progress = json_text.plain(progress, "progress", json_text.PROGRESS_BYTES)
        except json_text.UnstorableError as error:  # it is not worth the task
            self.logger.warning("Progress was not sent: %s", error.detail)
        else:
            self.send(Progress(progress))

    def remaining(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def cancelled(self) -> bool:
        return self._stop.is_set()

    def send(self, message: ChildMessage) -> None:
        with self._sending, file_lock.held(self._pipe.fileno()):
            self._pipe.send_bytes(encode(message))

    def log(self, log_line: LogLine) -> None:
        if self._job.logs_via_guard:
            with contextlib.suppress(OSError, ValueError):
                self.send(log_line)
                return
        trace.current.set(self._job.trace)  # in whichever thread of the handler this is
        events.print_lines([handler_log.line(self._job, log_line)])

    def listen(self) -> None:
        """Takes the guard's messages until the pipe ends, which means that the guard has ended."""
        while True:
            try:
                message: GuardMessage = decode(self._pipe.recv_bytes())
            except (EOFError, OSError):
                self._answer(LeaseLostError("the guard has ended"))
                return
            match message:
                case Begin():
                    self._lease_until = message.until
                    self._answer(None)
                case CheckpointAnswer():
                    self._answer(_refusal(message))
                case Cancel():
                    self._stop.set()
                case Stop():
                    self._stop.set()
                    self._answer(LeaseLostError("the work is to stop"))
                case _:
                    assert_never(message)

    def _ask(self, question: Ready | Checkpoint) -> None:
        """Waits for the guard's answer, and raises it when it is a refusal."""
        self._answered.clear()
        self.send(question)
        self._answered.wait()
        if self._refusal is not None:
            raise self._refusal

    def _answer(self, refusal: BaseException | None) -> None:
        self._refusal = refusal
        self._answered.set()


def _refusal(answer: CheckpointAnswer) -> BaseException | None:
    if answer.error is not None:
        return ValueError(answer.error)
    return None if answer.held else LeaseLostError("another attempt holds it")


class _LogHandler(logging.Handler):
    def __init__(self, log: Callable[[LogLine], None]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = handler_log.SEVERITIES[
            min(max(record.levelno // 10, 1), len(handler_log.SEVERITIES)) - 1
        ]
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - a slip in a log call must not cost the task its attempt
            text = f"{record.msg} (its arguments do not fit)"
        if len(text) > LINE_CHARACTERS:
            text = f"{text[:LINE_CHARACTERS]}... (cut; {len(text)} characters in all)"
        where = {"line": record.lineno, "file": record.pathname, "function": record.funcName}
        labels = {"python_logger": record.name, **getattr(record, "labels", {})}
        texts = {str(name): str(label) for name, label in labels.items()}
        self._log(LogLine(level, text, record.name, where, texts))


def _logger(job: Job, log: Callable[[LogLine], None]) -> logging.Logger:
    """A logger of its own for each attempt: no tree of loggers may keep it."""
    logger = logging.Logger(f"unstuck.handler.{job.kind}", logging.INFO)  # noqa: LOG001
    logger.addHandler(_LogHandler(log))
    return logger
