"""Says which source files have changed since the last look. By their times: that needs no library
and works on every file system."""

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from functions.core.policy import Policy
from functions.ops.local.servers import ROOT

SUFFIXES = {".py", ".yaml", ".sql", ".html", ".css", ".js", ".svg"}


INSTALLED = "site-packages"
"""What lies there is not edited."""


def folders_of_handlers(policy: Policy) -> list[Path]:
    """Where the user's own packages lie whose functions the rules name. Nothing is imported."""
    rules = [rule for watch in policy.watches.values() for rule in watch.rules.values()]
    packages = {rule.handler.partition(":")[0].partition(".")[0] for rule in rules}
    specs = [find_spec(package) for package in sorted(packages - {"", "functions"})]
    folders = [path for spec in specs if spec for path in spec.submodule_search_locations or ()]
    return [Path(folder) for folder in folders if INSTALLED not in Path(folder).parts]


class Sources:
    """`folders`: those besides our own."""

    def __init__(self, root: Path = ROOT, folders: Sequence[Path] = ()) -> None:
        self._root, self._folders = root, folders
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
                times[os.path.relpath(path, self._root)] = path.stat().st_mtime_ns
            except OSError:  # deleted meanwhile
                continue
        return times

    def _files(self) -> Iterator[Path]:
        yield self._root / "main.py"
        for folder in (self._root / "functions", *self._folders):
            yield from (path for path in folder.rglob("*.*") if path.suffix in SUFFIXES)
