"""Who asks, for the log, and whether a write comes from the page itself. Who may ask at all is
decided before the page: by Google's IAM, or by its Identity-Aware Proxy (IAP)."""

from typing import Any

from flask import request as current_request

from functions.core import events
from functions.core.jwt_payload import claims_of
from functions.page.current import page

UNKNOWN = "unknown"
IAP = "@gcp-sa-iap.iam.gserviceaccount.com"


def caller(request: Any) -> str:
    """The e-mail address in the token that IAM accepted; behind IAP that of the person whom IAP
    accepted; else "unknown".

    The token is not verified again: the platform did, and removed its signature. Where there is an
    X-Serverless-Authorization (of `gcloud run services proxy`, and of IAP) the platform verifies
    that one, and hands Authorization on as anybody wrote it. IAP's own header counts only where IAP
    is the verified caller."""
    headers = request.headers
    verified = headers.get("X-Serverless-Authorization") or headers.get("Authorization", "")
    claims = claims_of(verified) or {}
    email = str(claims.get("email") or "")
    if email.endswith(IAP):
        email = str(headers.get("X-Goog-Authenticated-User-Email", "")).rpartition(":")[2]
    return email[:200] or UNKNOWN


def writer(request: Any) -> str:
    """Who uses the page, as the database keeps it."""
    name = page().who(request)
    return "somebody on the page" if name == UNKNOWN else f"page: {name}"[:200]


def same_origin(request: Any) -> bool:
    """Whether the page itself sent the request, by headers that browsers set and no script can
    forge. A request without them is not from the page."""
    if site := request.headers.get("Sec-Fetch-Site"):
        return bool(site == "same-origin")
    return is_origin_of(request.headers.get("Origin", ""), request.host)


def is_origin_of(origin: str, host: str) -> bool:
    """Whether a page of this host sends this Origin. Compared as a text: a browser writes it in one
    way, and what is no URL is of nobody."""
    return bool(host) and origin in {f"http://{host}", f"https://{host}"}


def log(action: str, watch_name: str, count: int, meant: str | None) -> None:
    """Who did what to how many tasks; `meant` says which."""
    events.emit(
        events.OPERATOR_ACTED,
        who=page().who(current_request),
        action=action,
        watch=watch_name,
        count=count,
        wanted=meant,
    )
