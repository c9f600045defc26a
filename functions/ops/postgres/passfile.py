"""The password of the embedded PostgreSQL: random, in a file that only this login can read.

PostgreSQL's own library reads it there (PGPASSFILE) for a DSN without a password, so that the
password is in no DSN, no log and no list of processes. Programs that we start inherit the file."""

import atexit
import os
import secrets
import tempfile
from pathlib import Path

_PREFIX = "pgpass-unstuck-"


def passfile() -> Path:
    """The file, of mode 600; made at the first call, and removed when the process that made it
    ends."""
    inherited = Path(os.environ.get("PGPASSFILE", ""))
    if inherited.name.startswith(_PREFIX) and os.access(inherited, os.R_OK):
        return inherited
    handle, name = tempfile.mkstemp(prefix=_PREFIX)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"127.0.0.1:*:*:postgres:{secrets.token_urlsafe(24)}\n")
    os.environ["PGPASSFILE"] = name
    atexit.register(_remove, Path(name), os.getpid())
    return Path(name)


def password() -> str:
    return passfile().read_text(encoding="utf-8").strip().rpartition(":")[2]


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child inherits the hook
        path.unlink(missing_ok=True)
