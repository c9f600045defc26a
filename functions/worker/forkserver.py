"""The forkserver: a process of each worker that has the modules of handlers loaded, and forks the
child of each attempt. It has one thread and no connections, so that a fork of it is safe; that of
the worker would not be.

It is the parent of all that handlers leave behind: what has lost its own parent, since its task has
ended, is ended here. It outlives the worker by that moment. Not multiprocessing's own forkserver:
that one imports without a limit, starts a second process for itself, and leaves orphans alone."""

import gc
import importlib
import os
import pickle
import select
import shutil
import signal
import socket
import struct
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from functions.core.record import Record
from functions.worker import child, preload, processes
from functions.worker.spawn import DESCRIPTORS, NUMBER, Attempt, Module


class _Child(Record):
    status: int
    """Descriptor: takes its process id, and its exit code when it has ended."""
    folder: str | None


class Forkserver:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: dict[int, _Child] = {}
        self._helpers: set[int] = set()
        """Programs that a module has started which is to be preloaded all the same."""
        self._spoiled = False
        """A module has left something open that children must not inherit."""
        self._wakeups, wakeup = os.pipe()
        for descriptor in (self._wakeups, wakeup):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self._wakeup = wakeup

    def serve(self) -> NoReturn:
        """Until the worker's end of the socket is closed, which its death does too."""
        while True:
            sources: list[Any] = [self._requests, self._wakeups]
            ready, _, _ = select.select(sources, [], [])
            if self._wakeups in ready:
                with suppress(BlockingIOError):
                    os.read(self._wakeups, 4096)
                self._reap()
            if self._requests in ready and not self._take():
                self._end_all()

    def _take(self) -> bool:
        """One request; False when there will be none."""
        try:
            kind, descriptors, _, _ = socket.recv_fds(self._requests, 1, DESCRIPTORS)
        except OSError:
            return False
        if not kind:
            return False
        try:
            with os.fdopen(descriptors[0], "rb") as file:
                file.seek(0)
                request: Attempt | Module = pickle.load(file)  # noqa: S301 - our own worker's
            if isinstance(request, Module):
                self._preload(request, descriptors[1])
            elif not self._spoiled:
                self._fork(request, descriptors)
        finally:  # to close the status without a word refuses
            for descriptor in descriptors[1:]:
                with suppress(OSError):
                    os.close(descriptor)
        return True

    def _fork(self, attempt: Attempt, descriptors: list[int]) -> None:
        _, status, pipe, output = descriptors
        if (pid := os.fork()) == 0:
            code = 1
            try:
                os.close(status)
                self._forget()
                code = child.run_child(attempt, Connection(pipe), output)
            finally:
                os._exit(code)
        status = os.dup(status)
        self._children[pid] = _Child(status, attempt.folder)
        _tell(status, pid)

    def _forget(self) -> None:
        """In a child: what is the forkserver's alone."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._requests.close()
        for descriptor in (self._wakeups, self._wakeup):
            os.close(descriptor)
        for other in self._children.values():
            os.close(other.status)

    def _preload(self, module: Module, status: int) -> None:
        left_open = ""
        with suppress(BaseException):
            if module.checked:
                left_open = preload.try_out(module.name).left_open
            else:
                before = set(processes.children(os.getpid()))
                importlib.import_module(module.name)
                self._helpers |= set(processes.children(os.getpid())) - before
        if left_open:
            self._spoiled = True
            return
        _tell(status, 1)
        gc.freeze()  # a child's collector would touch, and so copy, all that is loaded

    def _reap(self) -> None:
        ended: list[tuple[_Child, int]] = []
        with suppress(ChildProcessError):
            while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = reaped
                if ended_child := self._children.pop(pid, None):
                    ended.append((ended_child, os.waitstatus_to_exitcode(status)))
        self._end_orphans()
        for ended_child, code in ended:
            _tell(ended_child.status, code)
            os.close(ended_child.status)

    def _end_orphans(self) -> None:
        """A living child adopts the orphans below it. So those here are of a child that has ended.
        What an orphan has started becomes an orphan, and this is called again at its end."""
        for pid in processes.children(os.getpid()):
            if pid not in self._children and pid not in self._helpers:
                processes.kill_tree(pid)

    def _end_all(self) -> NoReturn:
        self._helpers.clear()
        for pid in self._children:
            processes.kill_tree(pid)
        folders = [running.folder for running in self._children.values()]
        self._children.clear()
        with suppress(ChildProcessError):
            while True:
                self._end_orphans()
                os.waitpid(-1, 0)
        for folder in folders:
            if folder:
                shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


def _tell(status: int, number: int) -> None:
    with suppress(OSError):  # the worker has ended, or gave the attempt up
        os.write(status, struct.pack(NUMBER, number))


def main(requests: int) -> NoReturn:
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the worker's to handle: its end is ours
        signal.signal(ignored, signal.SIG_IGN)
    processes.adopt_orphans()
    Forkserver(socket.socket(fileno=requests)).serve()
