"""Runs a handler where the guard can end it: in a child process (default), or in a thread for tiny
work.

A child costs 4 to 16 ms (forkserver with the handlers preloaded). Only a process can be ended in a
CPU loop, in a blocking call and in a C call that holds the GIL. Its crash, or its use of memory,
does not stop the heartbeats."""

import contextlib
import ctypes
import importlib
import inspect
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from functions.core.record import replace
from functions.core.states import Reason, SettleAs
from functions.errors import Fail, LeaseLostError, Retry
from functions.worker import json_text, preload, processes, spawn
from functions.worker.folder import Folder
from functions.worker.handler_context import HandlerContext
from functions.worker.inbox import Inbox
from functions.worker.messages import (
    ChildMessage,
    Exited,
    Failed,
    GuardMessage,
    HandlerReason,
    Imported,
    Job,
    LastMessage,
    Message,
    Result,
    Stop,
    Stopped,
    encode,
)
from functions.worker.output import Output, redirect

ERROR_CHARACTERS = 10_000
"""Of each text of an error that a child sends; the ledger keeps fewer."""
NOT_LOADED_PAUSE_SECONDS = 60.0
"""Before a task comes again whose handler is not here, or cannot be imported."""
EXIT_SECONDS = 5.0
"""After the end of its pipe a child ends so soon, or it is not waited for."""
FLUSH_SECONDS = 1.0
"""A child that has sent its last message may take so long to write what it has printed."""
EXACT_PAUSE_FACTOR = 20
"""Memory is measured exactly after so many times as long as it took the last time."""


class Work:
    """A running handler: its messages, its end, and the means to end it."""

    def __init__(self, job: Job, isolation: str, preloads: bool | None = None) -> None:
        """`preloads`: whether the forkserver is to load the handler's module for later children;
        None: if that is safe. Raises OSError when no process can be made."""
        self.job, self._preloads = replace(job, logs_via_guard=isolation != "thread"), preloads
        self._process: spawn.Child | None = None
        self._thread: threading.Thread | None = None
        self._finished = False
        self._ended_at: float | None = None
        """When the handler's end of the pipe was closed."""
        self._measured = _Measured()
        if isolation == "thread":
            self._pipe, end = Pipe()
            self._inbox = Inbox(self._pipe)
            self._thread = threading.Thread(target=run, args=(job, end), daemon=True)
            self._thread.start()
        else:
            self._folder = Folder()
            self._start()

    def _start(self) -> None:
        """Asks for the child, and does not wait for it."""
        self._output = Output(self.job)
        self._pipe, end = Pipe()
        self._inbox = Inbox(self._pipe)
        self._ended_at = None
        with end:
            self._process = spawn.forkservers.child(
                self.job, self._folder.path, end.fileno(), self._output.writer
            )
        os.close(self._output.writer)

    def _start_anew(self) -> None:
        assert self._process
        spawn.forkservers.replace(self._process)
        self._process.close()
        self._output.close()
        self._pipe.close()
        self._start()

    def receive(self, timeout: float) -> Message | None:
        """The next message, or None after `timeout` seconds or while a part of it is missing."""
        if message := self._inbox.take():
            return self._noted(message)
        ready: list[Any] = wait(self._sources(), timeout)
        process = self._process
        if process and process in ready and self._pipe not in ready:
            process.read()
        if process and self._output in ready:
            self._output.forward()
        if self._pipe in ready:
            try:
                self._inbox.read()
                return self._noted(self._inbox.take())
            except (EOFError, OSError):
                self._ended_at = time.monotonic()
        if process is None:
            return Exited(None) if self._ended_at else None
        if process.is_overdue or process.refused:  # in this order: the first reads the news
            self._start_anew()
            return None
        return self._exited(process)

    def _sources(self) -> list[Any]:
        sources: list[Any] = [] if self._ended_at else [self._pipe]
        if self._process:
            sources.append(self._process)
            if not self._output.ended:
                sources.append(self._output)
        return sources

    def _exited(self, process: spawn.Child) -> Exited | None:
        given_up = self._ended_at and time.monotonic() > self._ended_at + EXIT_SECONDS
        if process.exit_code is not None or given_up:
            return Exited(process.exit_code)
        return None

    def _noted(self, message: ChildMessage | None) -> Message | None:
        if isinstance(message, Imported):
            spawn.forkservers.learn(
                spawn.module_of(self.job.handler),
                message.seconds,
                message.left_open,
                by_rule=self._preloads,
            )
            return None
        self._finished = isinstance(message, LastMessage)
        return message

    def send(self, message: GuardMessage) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send_bytes(encode(message))

    def memory(self) -> int:
        """Bytes that the child, the programs that it started and its temporary files hold in
        memory; 0 for a thread."""
        if self._process is None or self._process.pid is None:
            return 0
        pids = list(processes.tree(self._process.pid))
        most = processes.memory(pids) + self._folder.memory()
        return self._measured.exact(most, pids, self._folder) if most > self.job.memory else most

    def end(self, seconds: float = EXIT_SECONDS) -> None:
        """Ends the work now, in so many seconds at most. A thread can only be asked: an exception
        is raised in it when it next runs Python code."""
        if self._process is not None:
            until = time.monotonic() + seconds
            if self._finished:  # its last message is here: let it flush and exit
                self._wait(min(FLUSH_SECONDS, seconds / 2))
            self._process.kill()
            self._wait(until - time.monotonic())
            self._process.close()
            self._output.close()
            self._folder.remove()
            self._process = None
        elif self._thread is not None and self._thread.is_alive() and not self._finished:
            self.send(Stop())
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(LeaseLostError)
            )
        self._pipe.close()

    def _wait(self, seconds: float) -> None:
        """For the end of the child, whose prints are taken meanwhile."""
        process, until = self._process, time.monotonic() + seconds
        if process is None or process.pid is None:
            return
        while process.exit_code is None and (left := until - time.monotonic()) > 0:
            sources: list[Any] = [process] if self._output.ended else [process, self._output]
            if process in list[Any](wait(sources, left)):
                process.read()
            else:
                self._output.forward()


class _Measured:
    """The memory of a child as it was measured exactly, and what it could have been then."""

    def __init__(self) -> None:
        self._exact = self._most = 0
        self._next = 0.0

    def exact(self, most: int, pids: list[int], folder: Folder) -> int:
        """What is counted, when it is at most `most`."""
        started = time.monotonic()
        if started >= self._next:
            mapped = processes.mapped_files(pids)
            self._exact = processes.exact_memory(pids) + folder.memory_without(mapped)
            self._most = most
            self._next = started + EXACT_PAUSE_FACTOR * (time.monotonic() - started)
        return min(most, self._exact + max(0, most - self._most))


def run_child(attempt: spawn.Attempt, pipe: Connection, output: int) -> int:
    """The child: dies with its parent, has a folder of its own for temporary files, and runs the
    handler. Returns its exit code."""
    os.setpgid(0, 0)  # of its own: the programs that the handler starts end with it
    processes.die_with_parent(signal.SIGKILL)
    processes.adopt_orphans()
    processes.offer_to_the_system()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _leave_sigterm_to_the_guard()
    sys.path[:] = attempt.search_path
    redirect(output)
    os.environ.update(attempt.secrets)
    if attempt.folder:
        os.environ["TMPDIR"] = tempfile.tempdir = attempt.folder
    _seed_anew()
    run(attempt.job, pipe, on_guard_ended=_end_with_all, tries_out=attempt.tries_out)
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    _flush()
    return 0


def _leave_sigterm_to_the_guard() -> None:
    """Who signals each process of the instance means the worker, whose guard lets the handler
    finish or ends it. What the handler starts does not inherit that: it may be ended by SIGTERM, as
    multiprocessing does. (A function as signal handler, since a program would inherit SIG_IGN.)"""
    masks = threading.local()

    def hold_back() -> None:  # or Python would forget what comes while it forks
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def end_by_it() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        go_on()

    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.siginterrupt(signal.SIGTERM, False)
    os.register_at_fork(before=hold_back, after_in_parent=go_on, after_in_child=end_by_it)


def _seed_anew() -> None:
    """Or all children would draw the same numbers. Python's own `random` does it by itself."""
    random.seed()
    if numpy := sys.modules.get("numpy.random"):
        numpy.seed()
    if torch := sys.modules.get("torch"):
        torch.seed()


def _end_with_all() -> None:
    processes.kill_tree(os.getpid())
    os._exit(1)


def run(
    job: Job,
    pipe: Connection,
    on_guard_ended: Callable[[], object] = lambda: None,
    *,
    tries_out: bool = False,
) -> None:
    """Runs the handler and sends how it ended as the last message. `tries_out`: tells before it
    what the import of the handler's module does."""
    context = HandlerContext(job, pipe)

    def listen() -> None:
        context.listen()
        on_guard_ended()

    # LeaseLostError: raised in a thread that is to stop, wherever it is
    with contextlib.suppress(OSError, ValueError, LeaseLostError):
        if tries_out:
            _try_out(job, context)  # before there is a thread of ours: it counts what is opened
        threading.Thread(target=listen, daemon=True).start()
        context.send(_last_message(job, context))


def _try_out(job: Job, context: HandlerContext) -> None:
    with contextlib.suppress(Exception):  # `load` meets it again, and tells it
        imported = preload.try_out(spawn.module_of(job.handler))
        context.send(Imported(imported.seconds, imported.left_open))


def _last_message(job: Job, context: HandlerContext) -> LastMessage:
    try:
        handle = load(job.handler)
        context.wait_to_begin()
        with _copies_end_here():
            result = handle(context, job.task_input)
            if inspect.iscoroutine(result):
                import asyncio

                result = asyncio.run(result)
        return Result(json_text.encode(result, "result", json_text.RESULT_BYTES))
    except NotLoadedError as error:
        return Failed(SettleAs.RETURN, error.reason, None, str(error), NOT_LOADED_PAUSE_SECONDS)
    except Retry as error:
        after = getattr(error, "after", None)
        return Failed(SettleAs.RETRY, Reason.TRANSIENT, *_messages(error), after)
    except Fail as error:
        return Failed(SettleAs.FAIL, Reason.HANDLER_ERROR, *_messages(error))
    except MemoryError as error:
        return Failed(SettleAs.RETRY, Reason.OUT_OF_MEMORY, None, _trace(error))
    except LeaseLostError:
        return Stopped()
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its task's end
        if is_transient(error):
            return Failed(None, Reason.TRANSIENT, None, _trace(error))
        return Failed(None, Reason.HANDLER_ERROR, None, _trace(error))
    except BaseException as error:  # noqa: BLE001 - such as sys.exit: the guard must know
        return Failed(SettleAs.RETRY, Reason.CRASHED, None, f"the handler ended with {error!r}")


@contextlib.contextmanager
def _copies_end_here() -> Iterator[None]:
    """A process that the handler has forked may come back out of it. It ends here as a program
    ends: what it returns or raises says nothing about the task, which goes on in this process."""
    process = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != process:
            _end_copy(error)
        raise
    if os.getpid() != process:
        _end_copy(None)


def _end_copy(error: BaseException | None) -> NoReturn:
    exit_code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        sys.stderr.write(_trace(error))
    _flush()
    os._exit(exit_code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def is_transient(error: BaseException) -> bool:
    """Timeouts and connection errors, of Python and of the usual HTTP clients (without importing
    any of them)."""
    if isinstance(error, TimeoutError | ConnectionError | socket.gaierror):
        return True
    if isinstance(reason := getattr(error, "reason", None), OSError):  # urllib.error.URLError
        return is_transient(reason)
    transient = {
        ("requests", "Timeout"),
        ("requests", "ConnectionError"),
        ("requests", "ChunkedEncodingError"),
        ("httpx", "TransportError"),
        ("urllib3", "HTTPError"),
        ("http", "IncompleteRead"),
        ("aiohttp", "ClientConnectionError"),
        ("aiohttp", "ClientPayloadError"),
    }
    return any(
        (kind.__module__.split(".")[0], kind.__name__) in transient for kind in type(error).__mro__
    )


class NotLoadedError(Exception):
    """The handler cannot begin here. Another worker, or this one after the next deploy, may have
    it: the function or its module is not here (`no_handler`), or the import of its module failed,
    since a library or a setting is missing (`transient`)."""

    def __init__(self, handler: str, reason: HandlerReason, why: str) -> None:
        super().__init__(f"handler {handler}: {why}")
        self.reason = reason


def load(handler: str) -> Callable[..., Any]:
    """The function of `package.module:function`. Raises NotLoadedError, also for one that cannot be
    called as a handler."""
    module, _, function = handler.partition(":")
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        absent = f"{module}.".startswith(f"{error.name}.")
        reason: HandlerReason = Reason.NO_HANDLER if absent else Reason.TRANSIENT
        raise NotLoadedError(handler, reason, str(error) if absent else _trace(error)) from error
    except Exception as error:
        raise NotLoadedError(handler, Reason.TRANSIENT, _trace(error)) from error
    try:
        handle: Callable[..., Any] = getattr(imported, function or "handle")
    except AttributeError as error:
        raise NotLoadedError(handler, Reason.NO_HANDLER, str(error)) from error
    if mistake := _mistake_of_shape(handle):
        raise NotLoadedError(handler, Reason.NO_HANDLER, mistake)
    return handle


def _mistake_of_shape(handle: Any) -> str | None:
    """Why it is no handler, or None."""
    if inspect.isgeneratorfunction(handle) or inspect.isasyncgenfunction(handle):
        return "it has a `yield`; a handler returns its result"
    try:
        inspect.signature(handle, follow_wrapped=False).bind(None, None)
    except TypeError as error:
        return f"it cannot be called as `handle(ctx, task_input)`: {error}"
    except ValueError:  # of something in C, which tells no signature
        pass
    return None


def _messages(error: Retry | Fail) -> tuple[str, str]:
    """For the user and for the operator. A subclass with an `__init__` of its own may lack both."""
    message, detail = str(getattr(error, "message", error)), getattr(error, "detail", "")
    return message[:ERROR_CHARACTERS], str(detail or _trace(error))[:ERROR_CHARACTERS]


def _trace(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))[-4000:]
