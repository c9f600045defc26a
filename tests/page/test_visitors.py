"""Which requests the local server takes: of programs and of its own page, of no other page."""

from collections.abc import Iterable
from typing import Any

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from functions.ops.dev.visitors import own_only

HOST = "127.0.0.1:8080"
OWN = f"http://{HOST}"


def served(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return Response("served")(environ, start_response)


def status(method: str, path: str = "/sweep", host: str = HOST, **headers: str) -> int:
    client = Client(own_only(served, ["https://app.example", "*"]))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.open(path, method=method, headers={"Host": host, **named}).status_code


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("host", [HOST, "localhost:8080", "LOCALHOST", "[::1]:8080", "localhost:9"])
def test_it_answers_to_the_names_of_this_machine(method: str, host: str) -> None:
    assert status(method, host=host) == 200


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "127.0.0.1:8080, evil.example",
        "0.0.0.0:8080",
        "",
    ],
)
def test_it_answers_to_no_name_that_a_stranger_can_point_here(method: str, host: str) -> None:
    """DNS rebinding: such a page is of the same origin for the browser."""
    assert status(method, host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin") == 403


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": OWN}, {"Origin": OWN, "Sec_Fetch_Site": "same-origin"}], ids=str
)
def test_a_program_and_its_own_page_may_write(headers: dict[str, str]) -> None:
    assert status("POST", **headers) == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://localhost:8080"},
        {"Origin": f"{OWN}.evil.example"},
        {"Origin": f"http://{HOST}@evil.example"},
        {"Origin": "http://["},
        {"Origin": "http://evil]"},
        {"Origin": f"//{HOST}"},
        {"Origin": f"x://{HOST}#"},
        {"Origin": OWN, "Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "https://app.example"},
    ],
    ids=str,
)
def test_no_other_page_may_write(method: str, headers: dict[str, str]) -> None:
    assert status(method, **headers) == 403


def test_a_page_of_cors_origins_may_ask_what_a_client_asks() -> None:
    headers = {"Origin": "https://app.example", "Sec_Fetch_Site": "cross-site"}
    assert status("POST", "/create_task", **headers) == 200
    assert status("POST", "/claim_task", **headers) == 403
    assert status("POST", "/create_task", Origin="https://other.example") == 403
