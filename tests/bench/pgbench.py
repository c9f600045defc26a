"""Runs pgbench: clients in C, so that what is measured is the database. Prepared statements for all
alike."""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from functions.ops.postgres.embedded import find_binaries


def find_pgbench() -> Path:
    return find_binaries() / "pgbench"


def per_second(
    dsn: str,
    script: str,
    *,
    clients: int,
    each: int,
    variables: Mapping[str, str] | None = None,
    protocol: str = "prepared",
) -> float:
    """Scripts done in a second by `clients` at once, each of which runs it `each` times."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command = [
            find_pgbench(),
            "-n",
            "-M",
            protocol,
            "-c",
            clients,
            "-j",
            min(clients, 2),
            "-t",
            each,
            "-f",
            file.name,
        ]
        for name, value in (variables or {}).items():
            command += ["-D", f"{name}={value}"]
        done = subprocess.run(
            [*map(str, command), dsn],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PGOPTIONS": ""},
        )
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if done.returncode or found is None or f"{clients * each}/{clients * each}" not in done.stdout:
        raise RuntimeError(f"pgbench failed: {done.stderr.strip()[-1000:]}\n{done.stdout}")
    return float(found[1])
