"""The environment variables that the deployed code reads, in one place."""

import os
import re
from collections.abc import Mapping
from typing import Any

from functions.core.record import Record
from functions.errors import PolicyError

MAY_BE_EMPTY = {"DATABASE_URL", "WORKER_URL"}
"""Empty is as good as unset: nothing is opened by it, and it hides a variable of the surrounding
environment. Any other variable of ours that is set and empty is a mistake, such as an empty version
of a secret, and would switch a check off."""
SECRET_VARIABLES = {
    "DATABASE_URL",
    "SUPABASE_KEY",
    "SUPABASE_JWT_SECRET",
    "NOTIFY_URL",
    "NOTIFY_SECRET",
    "CALLBACK_SECRET",
    "SWEEP_PING_URL",
    "PGPASSWORD",
}
"""The secrets of the configuration. The process of a handler has none that its rule does not
name."""
SECRET_PREFIXES = ("NOTIFY_URL_", "NOTIFY_SECRET_")
"""So do the variables begin that are secrets of an address of the policy."""
LEAST_SECRET_BYTES = 32
"""Of SUPABASE_JWT_SECRET, as RFC 7518 demands for HS256. What is shorter is most likely a quoted
nothing or a placeholder, with which anybody could sign."""
DEFAULT_OF_LOCAL_SUPABASE = "super-secret-jwt-token-with-at-least-32-characters-long"
"""The default of Supabase's command line, which the whole world knows."""
USER_TOKEN_VARIABLES = ("JWT_AUDIENCE", "JWT_ISSUER", "SUPABASE_JWT_SECRET", "SUPABASE_JWKS_URL")


class Settings(Record):
    """`None` where a variable is not set."""

    database_url: str | None
    """DATABASE_URL: the URL of PostgreSQL, directly or through a pooler."""
    supabase_url: str | None
    """SUPABASE_URL: https://REF.supabase.co, to use its REST API. For the database it is ignored
    when DATABASE_URL is set; users' tokens are checked by it in both cases."""
    supabase_key: str | None
    """SUPABASE_KEY: a secret key (sb_secret_...) or the legacy service_role key. Required with
    SUPABASE_URL, unless DATABASE_URL is set."""
    policy: str | None
    """UNSTUCK_POLICY: the path of the policy. Default: functions/policy.yaml."""
    worker_url: str | None
    """WORKER_URL: the URL of the function `worker`, to which tasks are pushed. Unset: nothing is
    pushed, workers pull."""
    queue: str | None
    """TASKS_QUEUE: the queue of Cloud Tasks, as projects/P/locations/L/queues/Q. Unset: tasks are
    pushed to WORKER_URL directly."""
    invoker: str | None
    """TASKS_INVOKER: the service account whose OIDC token Cloud Tasks sends to the worker."""
    users: str
    """USERS: `none` says that no user's token is checked, because IAM alone decides who may call
    create_task, task_status and cancel_task. Default: `tokens`, which requires SUPABASE_URL,
    SUPABASE_JWT_SECRET or SUPABASE_JWKS_URL."""
    jwt_secret: str | None
    """SUPABASE_JWT_SECRET: the project's legacy secret, to accept users' tokens that are signed
    with HS256. At least 32 bytes."""
    jwks_url: str | None
    """SUPABASE_JWKS_URL: where the project publishes its public keys (ES256, RS256). Default:
    SUPABASE_URL + `/auth/v1/.well-known/jwks.json`."""
    jwt_audience: str | None
    """JWT_AUDIENCE: the audience (`aud`) of users' tokens. Default: authenticated."""
    jwt_issuer: str | None
    """JWT_ISSUER: the issuer (`iss`) of users' tokens. Default: SUPABASE_URL + `/auth/v1`. Set it
    where SUPABASE_JWKS_URL has keys that other tenants use as well."""
    oidc_audience: tuple[str, ...]
    """OIDC_AUDIENCE: the audiences of the tokens of workers and schedulers, separated by commas.
    Leave it unset when IAM checks these tokens."""
    oidc_accounts: tuple[str, ...]
    """OIDC_ACCOUNTS: the service accounts that may call, separated by commas. Required with
    OIDC_AUDIENCE."""
    project: str | None
    """GOOGLE_CLOUD_PROJECT: the project, so that the log lines of one request share a trace."""
    cors_origins: tuple[str, ...]
    """CORS_ORIGINS: the origins, separated by commas, whose pages may create, query and cancel
    tasks from a browser; * for any."""
    notify_url: str | None
    """NOTIFY_URL: the webhook that is told how tasks ended, by default of failures: an incoming
    webhook of Slack (its URL is a secret), or a URL of yours. NOTIFY_URL_ONCALL is that of the
    address `oncall` of the policy."""
    notify_secret: str | None
    """NOTIFY_SECRET: signs these messages by Standard Webhooks: `whsec_` and base64, or any text.
    NOTIFY_SECRET_ONCALL signs those to the address `oncall`."""
    notify_others: dict[str, tuple[str, str | None]]
    callback_hosts: tuple[str, ...]
    """CALLBACK_HOSTS: the hosts, separated by commas, that a task's `callback_url` may name;
    `*.example.com` stands for all below it. Unset: none. They are called over HTTPS, and never at a
    private address."""
    callback_secret: str | None
    """CALLBACK_SECRET: signs what callbacks are told, as NOTIFY_SECRET. Required with
    CALLBACK_HOSTS."""
    sweep_ping_url: str | None
    """SWEEP_PING_URL: is asked (GET) after each sweep that ended well, such as a check of
    healthchecks.io: that service tells you when the sweep stops."""
    log_api: bool
    """LOG_TRANSPORT: `api` sends log lines to the API of Cloud Logging, for workers outside Google
    Cloud. Default: stdout."""
    service: str
    """LOG_SERVICE: the service that log lines with LOG_TRANSPORT=api are counted for. Default:
    K_SERVICE, which Cloud Run sets for a service, else unstuck-worker."""
    metrics: bool
    """METRICS: `on` lets the sweep write gauges to Cloud Monitoring, and look up in Cloud Logging
    why workers died."""
    metadata: str | None
    """GCE_METADATA_HOST: a metadata server other than Google's. Google's own clients read this
    variable too."""
    revision: str | None
    """The name of the revision of the function or the worker pool, which Cloud Run sets."""
    page_write: bool
    """PAGE_WRITE: `on` lets people change tasks on the operators' page. Default: the page only
    shows."""
    page_redact: tuple[str, ...]
    """PAGE_REDACT: more keys whose values the page hides in input and result, separated by commas.
    """
    instance: str
    """The name of this worker in the ledger where there is no Cloud Run: entry point and host."""

    @property
    def asks_users(self) -> bool:
        """Whether create_task, task_status and cancel_task demand the token of a user. If not, only
        IAM protects them."""
        return self.users != "none"

    @property
    def issuer(self) -> str | None:
        """The issuer (`iss`) of users' tokens."""
        return self.jwt_issuer or self._supabase_auth

    @property
    def users_keys(self) -> str | None:
        auth = self._supabase_auth
        return self.jwks_url or (f"{auth}/.well-known/jwks.json" if auth else None)

    @property
    def _supabase_auth(self) -> str | None:
        return f"{self.supabase_url.rstrip('/')}/auth/v1" if self.supabase_url else None

    @classmethod
    def read(cls, env: Mapping[str, str] | None = None) -> "Settings":
        """Raises PolicyError for a variable that is set and empty, for two that contradict, and for
        a secret that strangers know."""
        env = _Variables(os.environ if env is None else env)
        revision = env.get("K_REVISION") or env.get("CLOUD_RUN_WORKER_POOL_REVISION")
        entry_point = revision or env.get("FUNCTION_TARGET") or "local"
        settings = cls(
            database_url=env.get("DATABASE_URL"),
            supabase_url=env.get("SUPABASE_URL"),
            supabase_key=env.get("SUPABASE_KEY"),
            policy=env.get("UNSTUCK_POLICY"),
            worker_url=env.get("WORKER_URL"),
            queue=env.get("TASKS_QUEUE"),
            invoker=env.get("TASKS_INVOKER"),
            jwt_secret=env.get("SUPABASE_JWT_SECRET"),
            jwks_url=env.get("SUPABASE_JWKS_URL"),
            users=env.get("USERS", "tokens"),
            jwt_audience=env.get("JWT_AUDIENCE"),
            jwt_issuer=env.get("JWT_ISSUER"),
            oidc_audience=_listed(env.get("OIDC_AUDIENCE")),
            oidc_accounts=_listed(env.get("OIDC_ACCOUNTS")),
            project=env.get("GOOGLE_CLOUD_PROJECT"),
            cors_origins=tuple(filter(None, re.split(r"[,\s]+", env.get("CORS_ORIGINS", "")))),
            notify_url=env.get("NOTIFY_URL"),
            notify_secret=env.get("NOTIFY_SECRET"),
            notify_others=_notify_others(env),
            callback_hosts=_listed((env.get("CALLBACK_HOSTS") or "").lower()),
            callback_secret=env.get("CALLBACK_SECRET"),
            sweep_ping_url=env.get("SWEEP_PING_URL"),
            log_api=(env.get("LOG_TRANSPORT") or "").lower() == "api",
            service=env.get("LOG_SERVICE") or env.get("K_SERVICE") or "unstuck-worker",
            metrics=(env.get("METRICS") or "").lower() == "on",
            metadata=env.get("GCE_METADATA_HOST"),
            revision=revision,
            page_write=env.get("PAGE_WRITE", "").lower() == "on",
            page_redact=_listed(env.get("PAGE_REDACT")),
            instance=f"{entry_point}@{os.uname().nodename}",
        )
        if settings.users not in {"none", "tokens"}:
            raise PolicyError("USERS is neither none nor tokens. Write one of them.")
        checks = [name for name in USER_TOKEN_VARIABLES if name in env]
        if checks and not settings.asks_users:
            raise PolicyError(
                f"USERS is none, but {checks[0]} is set, by which tokens are checked. Remove one."
            )
        if settings.callback_hosts and not settings.callback_secret:
            raise PolicyError(
                "CALLBACK_HOSTS is set, but not CALLBACK_SECRET, by which a receiver knows who "
                "calls. Set it."
            )
        deployed = bool(env.get("K_SERVICE"))
        settings._refuse_known_secret(deployed=deployed)
        if deployed:
            settings._refuse_open_ways()
        return settings

    def _refuse_open_ways(self) -> None:
        """Raises PolicyError where the key, or the keys that tokens are checked by, would cross the
        internet unencrypted."""
        for name, url in {
            "SUPABASE_URL": self.supabase_url,
            "SUPABASE_JWKS_URL": self.jwks_url,
        }.items():
            if url and url.lower().startswith("http://") and not _is_private(url):
                raise PolicyError(
                    f"{name} begins with http://: its traffic can be read and changed on the way. "
                    "Write https://."
                )

    def _refuse_known_secret(self, *, deployed: bool) -> None:
        """Raises PolicyError where strangers could sign users' tokens."""
        secret = self.jwt_secret
        if secret is not None and len(os.fsencode(secret)) < LEAST_SECRET_BYTES:
            raise PolicyError(
                f"SUPABASE_JWT_SECRET is shorter than {LEAST_SECRET_BYTES} bytes: it can be "
                "guessed. Take the project's, or remove it."
            )
        if deployed and DEFAULT_OF_LOCAL_SUPABASE in (secret or ""):
            raise PolicyError(
                "SUPABASE_JWT_SECRET is the default of a local Supabase, which anybody knows. Take "
                "the project's."
            )


class _Variables(dict[str, str]):
    """The environment without blanks around the values: a secret often ends with a newline."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__({name: value.strip() for name, value in environment.items()})

    def get(self, name: str, default: Any = None) -> Any:
        """Raises PolicyError for one that is set and empty: a list of nothing is empty too."""
        if name in self and name not in MAY_BE_EMPTY and not self[name].strip(", \t\n"):
            raise PolicyError(f"{name} is set, but empty. Give it a value, or remove it.")
        return super().get(name, default)


def _is_private(url: str) -> bool:
    """An address of a private network, or a name without a dot."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(".internal")


def is_secret(name: str) -> bool:
    """Whether a variable of the environment is a secret of the configuration."""
    return name in SECRET_VARIABLES or name.startswith(SECRET_PREFIXES)


def _notify_others(env: _Variables) -> dict[str, tuple[str, str | None]]:
    """The URL and the secret of each address but the default one."""
    prefix, of_secrets = SECRET_PREFIXES
    names = [name.removeprefix(prefix) for name in env if name.startswith(prefix)]
    return {
        name.lower(): (env.get(prefix + name), env.get(of_secrets + name)) for name in sorted(names)
    }


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, (text or "").split(","))))
