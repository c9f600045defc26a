"""Google Cloud for people's commands: as whom, in which project, and what went wrong, with the next
step."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from functions.ops.cli.out import ERROR, UNREACHABLE, USAGE

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LIMIT = 20.0
"""Seconds for one request."""
LOGIN = (
    "No Google credentials are here. Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to "
    "the key of a service account."
)


class CloudError(Exception):
    """What a command ends with: words and its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def arguments(parser: argparse.ArgumentParser) -> None:
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    parser.add_argument(
        "--project", default=project, help="Google Cloud project (default: GOOGLE_CLOUD_PROJECT)"
    )
    parser.add_argument(
        "--name", default="unstuck", help="the variable `name` of infra/ (default: unstuck)"
    )


def project(options: argparse.Namespace) -> str:
    """Raises CloudError when none is named."""
    if not options.project:
        raise CloudError("No project is named. Give --project, or set GOOGLE_CLOUD_PROJECT.", USAGE)
    return str(options.project)


@contextlib.contextmanager
def cloud_errors() -> Iterator[None]:
    """Turns what Google's clients raise into a CloudError."""
    from google.api_core import exceptions
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from requests import RequestException

    try:
        yield
    except DefaultCredentialsError as error:
        raise CloudError(LOGIN, UNREACHABLE) from error
    except GoogleAuthError as error:
        raise CloudError(
            f"Google refuses these credentials: {_short(error)}\n{LOGIN}", UNREACHABLE
        ) from error
    except exceptions.Unauthenticated as error:
        raise CloudError(LOGIN, UNREACHABLE) from error
    except exceptions.Forbidden as error:
        do = "Grant roles/viewer on the project to whom asks, and see that the API is switched on."
        raise CloudError(f"{_short(error)}\n{do}", ERROR) from error
    except (RequestException, exceptions.ServerError, exceptions.RetryError) as error:
        raise CloudError(f"Google Cloud does not answer: {_short(error)}", UNREACHABLE) from error
    except exceptions.GoogleAPICallError as error:
        raise CloudError(_short(error), ERROR) from error


def credentials() -> Any:
    """Those of the environment. Raises CloudError when there are none."""
    import google.auth

    with cloud_errors():
        found, _ = google.auth.default(scopes=[SCOPE])
        return found


def asked(session: Any, url: str, *, method: str = "GET", **params: Any) -> dict[str, Any]:
    """What an API answers that none of our libraries covers. Raises CloudError; a 404 is {}."""
    from google.api_core import exceptions

    with cloud_errors():
        answer = session.request(method, url, params=params, timeout=LIMIT)
        if answer.status_code == 404:
            return {}
        if not answer.ok:
            raise exceptions.from_http_response(answer)  # type: ignore[no-untyped-call]
        found: dict[str, Any] = answer.json()
        return found


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
