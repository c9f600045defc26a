"""The environment: every variable that the deployed code reads, in one place."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Settings:
    """`None` or "" where a variable is not set."""

    database_url: str | None
    """DATABASE_URL: PostgreSQL, direct or by a pooler."""
    supabase_url: str | None
    """SUPABASE_URL: https://REF.supabase.co, for its REST API. DATABASE_URL goes before it."""
    supabase_key: str | None
    """SUPABASE_KEY: a secret key (sb_secret_...) or the legacy service_role key."""
    policy: str | None
    """UNSTUCK_POLICY: another policy.yaml than the bundle's."""
    worker_url: str | None
    """WORKER_URL: where a task is pushed to."""
    queue: str | None
    """TASKS_QUEUE: projects/P/locations/L/queues/Q of Cloud Tasks. Without it the push goes to
    WORKER_URL directly."""
    invoker: str | None
    """TASKS_INVOKER: the service account whose OIDC token Cloud Tasks sends along."""
    jwt_secret: str | None
    """SUPABASE_JWT_SECRET: the project's legacy secret: users' tokens that are signed by HS256 are
    taken."""
    jwks_url: str | None
    """SUPABASE_JWKS_URL: where the project publishes its keys for ES256 and RS256. By itself under
    SUPABASE_URL."""
    jwt_audience: str | None
    """JWT_AUDIENCE: whom users' tokens are for; by itself "authenticated". See `asks_users`."""
    oidc_audience: tuple[str, ...]
    """OIDC_AUDIENCE: whom tokens of workers and schedulers are for, with commas between. Unset
    where IAM is in front."""
    oidc_accounts: tuple[str, ...]
    """OIDC_ACCOUNTS: the service accounts that may call, with commas between. Goes with
    OIDC_AUDIENCE."""
    project: str | None
    """GOOGLE_CLOUD_PROJECT: makes log lines of one request findable by its trace."""
    cors_origins: tuple[str, ...]
    """CORS_ORIGINS: the origins, by commas, whose pages may create, ask for and cancel tasks from a
    browser; * for any."""
    notify_url: str | None
    """NOTIFY_URL: where failures by a sweep are told (Slack's incoming webhook, or one of yours). A
    secret where Slack's."""
    notify_secret: str | None
    """NOTIFY_SECRET: signs what is told, by Standard Webhooks: `whsec_` and base64, or any text."""
    log_api: bool
    """LOG_TRANSPORT: `api` sends log lines to Cloud Logging itself, for workers outside Google
    Cloud; else stdout."""
    service: str
    """K_SERVICE: whose service the lines of LOG_TRANSPORT=api count as; unstuck-worker by itself.
    Cloud Run sets it."""
    metrics: bool
    """METRICS: `on` lets the sweep write gauges to Cloud Monitoring and look in Cloud Logging why
    workers died."""
    metadata: str | None
    """GCE_METADATA_HOST: another metadata server than Google's (Google's own clients read it too).
    """
    revision: str | None
    """The name of the revision, which Cloud Run sets."""
    page_write: bool
    """PAGE_WRITE: `on` lets the operators' page write; without it the page only shows."""
    page_redact: tuple[str, ...]
    """PAGE_REDACT: more keys whose values the page hides in input and result, with commas between.
    """
    instance: str
    """The name of this worker in the ledger where there is no Cloud Run: entry point and host."""

    @property
    def asks_users(self) -> bool:
        """Whether create_task, task_status and cancel_task want the token of a user; else IAM has
        to stand in front."""
        return bool(self.jwt_secret or self.jwks_url or self.jwt_audience)

    @property
    def issuer(self) -> str | None:
        """Of users' tokens."""
        return f"{self.supabase_url.rstrip('/')}/auth/v1" if self.supabase_url else None

    @property
    def users_keys(self) -> str | None:
        return self.jwks_url or (f"{self.issuer}/.well-known/jwks.json" if self.issuer else None)

    @classmethod
    def read(cls, env: Mapping[str, str]) -> "Settings":
        env = {
            name: value.strip() for name, value in env.items()
        }  # secrets like to end with a newline
        return cls(
            database_url=env.get("DATABASE_URL"),
            supabase_url=env.get("SUPABASE_URL"),
            supabase_key=env.get("SUPABASE_KEY"),
            policy=env.get("UNSTUCK_POLICY"),
            worker_url=env.get("WORKER_URL"),
            queue=env.get("TASKS_QUEUE"),
            invoker=env.get("TASKS_INVOKER"),
            jwt_secret=env.get("SUPABASE_JWT_SECRET"),
            jwks_url=env.get("SUPABASE_JWKS_URL"),
            jwt_audience=env.get("JWT_AUDIENCE"),
            oidc_audience=_listed(env.get("OIDC_AUDIENCE")),
            oidc_accounts=_listed(env.get("OIDC_ACCOUNTS")),
            project=env.get("GOOGLE_CLOUD_PROJECT"),
            cors_origins=tuple(filter(None, re.split(r"[,\s]+", env.get("CORS_ORIGINS", "")))),
            notify_url=env.get("NOTIFY_URL"),
            notify_secret=env.get("NOTIFY_SECRET"),
            log_api=(env.get("LOG_TRANSPORT") or "").lower() == "api",
            service=env.get("K_SERVICE") or "unstuck-worker",
            metrics=(env.get("METRICS") or "").lower() == "on",
            metadata=env.get("GCE_METADATA_HOST"),
            revision=env.get("K_REVISION"),
            page_write=env.get("PAGE_WRITE", "").lower() == "on",
            page_redact=_listed(env.get("PAGE_REDACT")),
            instance=f"{env.get('K_REVISION') or env.get('FUNCTION_TARGET') or 'local'}@{os.uname().nodename}",
        )


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(one.strip() for one in (text or "").split(",") if one.strip())


@lru_cache
def settings() -> Settings:
    return Settings.read(os.environ)
