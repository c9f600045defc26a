"""The real PgBouncer in transaction mode, before a server: what Supavisor on port 6543 does to a
session. A client gets another server connection for each transaction, and there are few for all
clients."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from functions.ops.postgres.embedded import free_port
from functions.ops.postgres.passfile import password
from tests.missing import missing
from tests.waiting import eventually

SERVER_CONNECTIONS = 3
CONFIG = """
[databases]
* = host=127.0.0.1 port={server} user=postgres password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
logfile = {folder}/log
pidfile = {folder}/pid
"""
DIES_WITH_US = '"$0" "$1" & pid=$!; read -r _; kill -INT $pid; wait $pid'


class Pooler:
    def __init__(self, dsn: str, connections: int = SERVER_CONNECTIONS) -> None:
        """`connections`: of the pooler to the server."""
        at = urlsplit(dsn)
        self.port = free_port()
        self.dsn = f"postgresql://postgres@127.0.0.1:{self.port}{at.path}"
        self._folder = Path(tempfile.mkdtemp(prefix="unstuck-pooler-"))
        config = CONFIG.format(
            server=at.port,
            port=self.port,
            folder=self._folder,
            connections=connections,
            password=password(),
        )
        (self._folder / "ini").write_text(config, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        who: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses root
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        command = [
            "/bin/sh",
            "-c",
            '"$0" "$1" & pid=$!; read -r _; kill -INT $pid; wait $pid',
            program(),
            str(self._folder / "ini"),
        ]
        quiet = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        self._process = subprocess.Popen(command, start_new_session=True, cwd="/", **quiet, **who)
        eventually(self._listens, 20, "PgBouncer does not listen")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)
        shutil.rmtree(self._folder)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def program() -> str:
    """Skips the test where there is none."""
    path = find_program()
    if path is None:
        missing("there is no PgBouncer: apt install pgbouncer")
    return path


def find_program() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
