"""The local server as a person starts it: `python -m functions dev`."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from functions.ops.local.servers import ROOT
from tests.waiting import eventually

READY = re.compile(r"ready in [\d.]+ s: (http://127\.0\.0\.1:\d+)/")


class Dev:
    """`python -m functions dev` on a free port. `said` is what it printed."""

    def __init__(self, folder: Path, *options: str, **env: str) -> None:
        self._log = folder / "dev.log"
        command = [sys.executable, "-m", "functions", "dev", "--port", "0", "--no-reload", *options]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, **env},
                start_new_session=True,
            )
        self.url = eventually(self._url, 60, "dev is not ready")

    def shared_dsn(self) -> str:
        """For other processes, where its data lies in the folder."""
        return (self._log.parent / "dsn").read_text(encoding="utf-8")

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _url(self) -> str | None:
        assert self.process.poll() is None, self.said()
        found = READY.search(self.said())
        return found[1] if found else None

    def family(self) -> set[int]:
        """All its processes, whatever session they are in."""
        import psutil

        return {one.pid for one in psutil.Process(self.process.pid).children(recursive=True)}

    def end(self, how: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30)


@contextmanager
def running(folder: Path, *options: str, **env: str) -> Iterator[Dev]:
    made = Dev(folder, *options, **env)
    try:
        yield made
    finally:
        made.end()


@contextmanager
def open_folder() -> Iterator[Path]:
    """That another user may enter: as root, PostgreSQL runs as one."""
    with tempfile.TemporaryDirectory(prefix="unstuck-dev-") as made:
        Path(made).chmod(0o755)
        yield Path(made)
