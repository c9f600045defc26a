"""Who asks, for the log; and whether a write comes from the page itself. Access is decided before:
by IAM, or by IAP."""

import base64
import json
from typing import Any
from urllib.parse import urlsplit

IAP = "@gcp-sa-iap.iam.gserviceaccount.com"


def caller(request: Any) -> str:
    """The e-mail address of the token that IAM let pass; behind IAP that of the person whom IAP let
    pass.

    The token is not verified again: the platform did, and took its signature away. The header of
    IAP counts only where IAP itself is the caller, since anybody can send a header."""
    email = _email(request.headers.get("Authorization", ""))
    named = str(request.headers.get("X-Goog-Authenticated-User-Email", "")).rpartition(":")[2]
    return (named if not email or email.endswith(IAP) else email)[:200] or "unknown"


def _email(authorization: str) -> str:
    try:
        part = authorization.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return str(claims.get("email") or "")
    except (IndexError, ValueError, AttributeError):
        return ""


def same_origin(request: Any) -> bool:
    """By what browsers say of a request and no script can forge; without it, a write is not from
    the page."""
    if site := request.headers.get("Sec-Fetch-Site"):
        return bool(site == "same-origin")
    origin = request.headers.get("Origin")
    return bool(origin) and urlsplit(origin).netloc == request.host
