"""promtool, the judge of alert rules: from PROMTOOL, PATH or .cache/promtool, where `make promtool`
puts Debian's."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.missing import missing

CACHED = Path(__file__).parents[1] / ".cache" / "promtool" / "usr" / "bin" / "promtool"


def binary() -> str:
    """The path of promtool."""
    found = (
        os.environ.get("PROMTOOL")
        or shutil.which("promtool")
        or (str(CACHED) if CACHED.exists() else None)
    )
    if not found:
        missing(
            "promtool is not here: run `make promtool` (Debian), or put one into PATH or PROMTOOL"
        )
    return found


def promtool(
    *arguments: str | Path, cwd: Path | None = None, read: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs it, with `read` as its input; the caller judges the exit code and the text."""
    command = [binary(), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, input=read, capture_output=True, text=True, check=False, timeout=240
    )
