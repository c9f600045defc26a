"""Google Cloud for people's commands: as whom, in which project, and what went wrong, with the next
step."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from functions.ops.cli.out import ERROR, UNREACHABLE, USAGE

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
REQUEST_TIMEOUT_SECONDS = 20.0
LOGIN = (
    "No Google credentials are here. Run `gcloud auth application-default login`, "
    "or set GOOGLE_APPLICATION_CREDENTIALS to the key of a service account."
)


class CloudError(Exception):
    """Ends a command: what went wrong, with the next step, and the exit code."""

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
        advice = (
            "Grant roles/viewer on the project to whom asks, and see that the API is switched on."
        )
        raise CloudError(f"{_short(error)}\n{advice}", ERROR) from error
    except (RequestException, exceptions.ServerError, exceptions.RetryError) as error:
        raise CloudError(f"Google Cloud does not answer: {_short(error)}", UNREACHABLE) from error
    except exceptions.GoogleAPICallError as error:
        raise CloudError(_short(error), ERROR) from error


def credentials() -> Any:
    """The Google credentials of the environment. Raises CloudError when there are none."""
    import google.auth

    with cloud_errors():
        default, _ = google.auth.default(scopes=[SCOPE])
        return default


def call_api(session: Any, url: str, *, method: str = "GET", **params: Any) -> dict[str, Any]:
    """Calls an API of Google that none of our libraries covers. Returns the JSON of its answer, {}
    for a 404. Raises CloudError."""
    from google.api_core import exceptions

    with cloud_errors():
        response = session.request(method, url, params=params, timeout=REQUEST_TIMEOUT_SECONDS)
        if response.status_code == 404:
            return {}
        if not response.ok:
            raise exceptions.from_http_response(response)  # type: ignore[no-untyped-call]
        return dict(response.json())


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
