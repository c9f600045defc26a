"""Who did it, for the audit line: the caller whom the platform verified, and nobody else."""

import base64
import json
from types import SimpleNamespace

import pytest

from functions.page.who import caller, same_origin

IAP = "service-7@gcp-sa-iap.iam.gserviceaccount.com"


def token(email: str, ending: str = "SIGNATURE_REMOVED_BY_GOOGLE") -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"email": email}).encode()).decode().rstrip("=")
    return f"Bearer head.{claims}.{ending}"


ANN, BOSS, PROXY = token("ann@example.com"), token("boss@example.com", "forged"), token(IAP)
PERSON = "accounts.google.com:bo@example.com"


@pytest.mark.parametrize(
    ("serverless", "authorization", "iap", "who"),
    [
        (None, ANN, None, "ann@example.com"),
        (ANN, None, None, "ann@example.com"),
        (ANN, BOSS, None, "ann@example.com"),
        (ANN, BOSS, PERSON, "ann@example.com"),
        (ANN, PROXY, PERSON, "ann@example.com"),
        (None, ANN, PERSON, "ann@example.com"),
        (PROXY, None, PERSON, "bo@example.com"),
        (PROXY, BOSS, PERSON, "bo@example.com"),
        (None, PROXY, PERSON, "bo@example.com"),
        (PROXY, BOSS, None, "unknown"),
        ("Bearer nonsense", BOSS, PERSON, "unknown"),
        (f"{ANN},{BOSS}", None, None, "unknown"),
        (None, "Bearer nonsense", PERSON, "unknown"),
        (None, None, PERSON, "unknown"),
        (None, None, None, "unknown"),
    ],
)
def test_the_name_comes_from_the_header_that_the_platform_verified(
    serverless: str | None, authorization: str | None, iap: str | None, who: str
) -> None:
    headers = {
        "X-Serverless-Authorization": serverless,
        "Authorization": authorization,
        "X-Goog-Authenticated-User-Email": iap,
    }
    request = SimpleNamespace(
        headers={name: text for name, text in headers.items() if text is not None}
    )
    assert caller(request) == who


@pytest.mark.parametrize(
    ("origin", "host", "is_same"),
    [
        ("https://page.example", "page.example", True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("https://page.example.evil.example", "page.example", False),
        ("https://evil@page.example", "page.example", False),
        ("x://page.example#", "page.example", False),
        ("http://[::1", "page.example", False),
        ("http://page]", "page.example", False),
        ("null", "", False),
        ("", "", False),
        ("http://", "", False),
    ],
)
def test_only_the_page_itself_may_write_and_no_origin_is_an_error(
    origin: str, host: str, is_same: bool
) -> None:
    assert same_origin(SimpleNamespace(headers={"Origin": origin}, host=host)) is is_same
