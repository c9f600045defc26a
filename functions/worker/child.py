"""Runs a handler where the guard can end it: in a child process (default), or in a thread for tiny
work.

A child costs 4 to 16 ms (forkserver with the handlers preloaded). Only a process can be ended in a
CPU loop, in a blocking call and in a C call that holds the GIL. Its crash, or its use of memory,
does not stop the heartbeats."""

import asyncio
import contextlib
import ctypes
import importlib
import inspect
import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from functions.core.states import Reason, SettleAs
from functions.errors import Fail, LeaseLostError, Retry
from functions.worker import output, preload, processes
from functions.worker.handler_context import HandlerContext, Job
from functions.worker.inbox import Inbox
from functions.worker.messages import (
    Exited,
    Failed,
    GuardMessage,
    LastMessage,
    Message,
    Result,
    Stop,
    Stopped,
)
from functions.worker.output import Output

_starting = threading.Lock()


class Work:
    """A running handler: its messages, its end, and the means to end it."""

    def __init__(self, job: Job, isolation: str, handlers: Iterable[str] = ()) -> None:
        """`handlers` are those that a later child may need: the forkserver loads them when it
        starts."""
        self._pipe, end = multiprocessing.Pipe()
        self._inbox = Inbox(self._pipe)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._thread: threading.Thread | None = None
        self._finished = False
        self._output: Output | None = None
        if isolation == "thread":
            self._thread = threading.Thread(target=run, args=(job, end), daemon=True)
            self._thread.start()
        else:
            reader, printed = multiprocessing.Pipe(duplex=False)
            self._process = _start(job, end, printed, handlers)
            end.close()
            printed.close()
            self._output = Output(job, reader)

    def receive(self, timeout: float) -> Message | None:
        """The next message, or None after `timeout` seconds or while a part of it is missing."""
        if message := self._inbox.take():
            return self._noted(message)
        waiting: list[Any] = (
            [self._pipe] if self._process is None else [self._pipe, self._process.sentinel]
        )
        ready = wait(waiting, timeout)
        if self._pipe in ready:
            with contextlib.suppress(EOFError, OSError):
                self._inbox.read()
                return self._noted(self._inbox.take())
        if not ready:
            return None
        if self._process is None:
            return Exited(None)
        self._process.join(5)
        return Exited(self._process.exitcode)

    def _noted(self, message: Message | None) -> Message | None:
        self._finished = isinstance(message, LastMessage)
        return message

    def send(self, message: GuardMessage) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    def memory(self) -> int:
        """Bytes that the child and the programs that it started hold in memory; 0 for a thread."""
        if self._process is None or self._process.pid is None:
            return 0
        return processes.memory(self._process.pid)

    def end(self) -> None:
        """Ends the work now. A thread can only be asked: an exception is raised in it when it next
        runs Python code."""
        if self._process is not None:
            if self._finished:
                self._process.join(1.0)  # its last message is here: let it flush and exit
            assert self._process.pid, "it was started"
            processes.kill_tree(self._process.pid)
            self._process.kill()
            self._process.join()
            self._process.close()
            if self._output:
                self._output.end()
        elif self._thread is not None and self._thread.is_alive() and not self._finished:
            self.send(Stop())
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(LeaseLostError)
            )
        self._pipe.close()


def _start(
    job: Job, end: Connection, printed: Connection, handlers: Iterable[str]
) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")
    with _starting, _main_hidden():
        os.environ[preload.NAME] = " ".join(
            dict.fromkeys(map(_module_of, (job.handler, *handlers)))
        )
        context.set_forkserver_preload([__name__, preload.__name__])
        process = context.Process(target=run_child, args=(job, end, printed), daemon=True)
        try:
            process.start()
        finally:
            del os.environ[preload.NAME]  # for the forkserver alone, not for other processes
    return process


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Without this each child imports the server's `__main__` again (measured: 100 - 200 ms a
    task)."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)
    }
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def run_child(job: Job, pipe: Connection, printed: Connection) -> None:
    """The child: dies with its parent, may not take more memory than its rule says, then runs the
    handler."""
    output.redirect(printed)
    os.setpgid(0, 0)  # of its own: the programs that the handler starts end with it
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The guard measures every 100 ms; this limit stops one big jump in between, as a MemoryError.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (job.memory * 2, job.memory * 2))
    run(job, pipe, on_guard_ended=_end_with_all)


def _end_with_all() -> None:
    processes.kill_tree(os.getpid())
    os._exit(1)


def _die_with_parent() -> None:
    """The forkserver's parent is the worker: it ends with it when no child keeps its pipe open, and
    the child with it, by the kernel, even in a C call that holds the GIL."""
    from multiprocessing import forkserver

    alive = getattr(forkserver._forkserver, "_forkserver_alive_fd", None)  # noqa: SLF001
    if alive is not None:
        with contextlib.suppress(OSError):
            os.close(alive)
    processes.die_with_parent(signal.SIGKILL)


def run(job: Job, pipe: Connection, on_guard_ended: Callable[[], object] = lambda: None) -> None:
    """Runs the handler and sends how it ended as the last message."""
    context = HandlerContext(job, pipe)

    def listen() -> None:
        context.listen()
        on_guard_ended()

    # LeaseLostError: raised in a thread that is to stop, wherever it is
    with contextlib.suppress(OSError, ValueError, LeaseLostError):
        threading.Thread(target=listen, daemon=True).start()
        context.send(_last_message(job, context))


def _last_message(job: Job, context: HandlerContext) -> LastMessage:
    try:
        handle = load(job.handler)
        context.wait_to_begin()
        result = handle(context, job.task_input)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        return Result(json.dumps(result))
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


def load(handler: str) -> Callable[..., Any]:
    """The function of `package.module:function`. Raises Fail with the reason when there is none."""
    module, _, function = handler.partition(":")
    try:
        return getattr(importlib.import_module(module), function or "handle")
    except (ImportError, AttributeError) as error:
        raise Fail(
            "This kind of task cannot be done here.", detail=f"handler {handler}: {error}"
        ) from error


def _messages(error: Retry | Fail) -> tuple[str, str]:
    """For the user and for the operator. A subclass with an `__init__` of its own may lack both."""
    return str(getattr(error, "message", error)), getattr(error, "detail", "") or _trace(error)


def _module_of(handler: str) -> str:
    return handler.partition(":")[0]


def _trace(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))[-4000:]
