"""Says which source files have changed since the last look. By their times: that needs no library
and works on every file system."""

from collections.abc import Iterator
from pathlib import Path

from functions.ops.local.servers import ROOT

SUFFIXES = {".py", ".yaml", ".sql", ".html", ".css", ".js", ".svg"}


class Sources:
    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._times = self._read_times()

    def changed(self) -> list[str]:
        """The files that are new, deleted or written since the last time."""
        now = self._read_times()
        before, self._times = self._times, now
        return sorted({name for name, _ in set(now.items()) ^ set(before.items())})

    def _read_times(self) -> dict[str, int]:
        times = {}
        for path in self._files():
            try:
                times[str(path.relative_to(self._root))] = path.stat().st_mtime_ns
            except OSError:  # deleted meanwhile
                continue
        return times

    def _files(self) -> Iterator[Path]:
        yield self._root / "main.py"
        paths = (self._root / "functions").rglob("*.*")
        yield from (path for path in paths if path.suffix in SUFFIXES)
