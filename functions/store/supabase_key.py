"""SUPABASE_URL and SUPABASE_KEY are checked before the first call: the client takes anything, and
with the key of a browser the database would answer that there are no rows."""

import re
import time
from urllib.parse import urlsplit

from functions.core.jwt_payload import claims_of
from functions.errors import StoreError

WHERE = (
    "Take a secret key: in the Dashboard under Project Settings, API Keys (sb_secret_..., or the "
    "legacy service_role)."
)


def check_url(url: str) -> str:
    if url.startswith(("postgres://", "postgresql://")):
        raise _refused(
            "SUPABASE_URL is a PostgreSQL URL. Set it as DATABASE_URL, or give "
            "https://REF.supabase.co."
        )
    if not re.fullmatch(r"https?://[^\s@?#\[\]]+", url) or not _has_readable_port(url):
        raise _refused("SUPABASE_URL is no URL of a project. Set it to https://REF.supabase.co.")
    return url.rstrip("/").removesuffix("/rest/v1")


def _has_readable_port(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:
        return False


def check_key(key: str) -> str:
    """Raises StoreError for a key that may not call the verbs. Never shows the key."""
    if not key:
        raise _refused(f"SUPABASE_KEY is not set. {WHERE}")
    if not re.fullmatch(r"[!-~]+", key):
        raise _refused(
            f"SUPABASE_KEY has a blank, a line end or a sign in it that no key has. {WHERE}"
        )
    if key.startswith("sb_publishable_"):
        raise _refused(
            f"SUPABASE_KEY is the publishable key, which is for browsers and sees no task. {WHERE}"
        )
    if key.startswith("sb_secret_") and len(key) > len("sb_secret_"):
        return key
    claims = claims_of(key)
    if claims is None:
        raise _refused(
            "SUPABASE_KEY is no key of Supabase: it begins neither with sb_secret_ nor is it a "
            f"JWT. {WHERE}"
        )
    if claims.get("role") != "service_role":
        raise _refused(
            f"SUPABASE_KEY is the key of the role {claims.get('role')!r}, which sees no task. "
            f"{WHERE}"
        )
    expires = claims.get("exp")
    if isinstance(expires, int | float) and expires <= time.time():
        raise _refused(f"SUPABASE_KEY has expired. {WHERE}")
    return key


def _refused(text: str) -> StoreError:
    return StoreError(text, retryable=False)
