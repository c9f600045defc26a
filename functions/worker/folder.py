"""An attempt's own folder for temporary files: work that is killed cannot remove them, and
where /tmp is memory, as on Cloud Run, they would take it from the instance for good."""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Container, Iterator
from contextlib import suppress
from functools import lru_cache

MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs"}
PAUSE_FACTOR = 20
"""Measured again after so many times as long as it took: many files are counted less often."""


class Folder:
    """Its `path` is None where no folder can be made: then the handler uses what all use."""

    def __init__(self) -> None:
        self.path: str | None = None
        with suppress(OSError):
            around = tempfile.gettempdir()
            path = f"{around}/unstuck-{secrets.token_hex(8)}"
            os.mkdir(path, 0o700)
            self.path = path
        self._counts = self.path is not None and is_memory(around)
        self._bytes, self._next = 0, 0.0

    def memory(self) -> int:
        """Bytes of its files; 0 where they are not in memory. May be a little old."""
        if self._counts and time.monotonic() >= self._next:
            started = time.monotonic()
            self._bytes = self.memory_without(())
            self._next = started + PAUSE_FACTOR * (time.monotonic() - started)
        return self._bytes

    def memory_without(self, files: Container[str]) -> int:
        """The same, now, without these files."""
        if not self._counts or self.path is None:
            return 0
        return sum(size for path, size in _files(self.path) if path not in files)

    def remove(self) -> None:
        if self.path is None:
            return
        try:
            os.rmdir(self.path)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)


def _files(folder: str) -> Iterator[tuple[str, int]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # it was removed meanwhile
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)
                else:
                    yield entry.path, entry.stat(follow_symlinks=False).st_blocks * 512


@lru_cache
def is_memory(path: str) -> bool:
    """Whether a file there takes memory: on Cloud Run each one does."""
    if os.environ.get("K_REVISION") or os.environ.get("CLOUD_RUN_WORKER_POOL_REVISION"):
        return True
    path = os.path.realpath(path)
    best, kind = "", ""
    with suppress(OSError), open("/proc/mounts", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            _, point, file_system, *_ = line.split(" ")
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, file_system
    return kind in MEMORY_FILE_SYSTEMS
