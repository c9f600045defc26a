"""smoke: after a deploy, one sweep and one task from its creation to its end. Exit code 0 only when
all went well that this deployment lets anyone try; what was not tried is said.

    terraform -chdir=infra output -json > outputs.json
    python infra/smoke.py --outputs outputs.json

By default it calls as the account of the output `invoker`, whose token it gets by impersonation
(the caller needs roles/iam.serviceAccountOpenIdTokenCreator on it). The output `smoke` says how the
deployment is configured:

- Users are asked for a token: SMOKE_TOKEN is sent along, that of a test user or of the service
  role. Without it, a task that nobody signed must be refused with 401.
- The sweep is internal: Cloud Scheduler runs its job (the caller needs
  roles/cloudscheduler.jobRunner), and the result is read from the job.
- There is no table of our own, or no sample handler: only the sweep is tried, unless --kind and
  --input name a task."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

SAMPLE = {
    "csv": "id,town\n1,Rome\n2,Oslo\n",
    "size": 1,
    "quotas": {"town": {"Rome": [0, 1], "Oslo": [0, 1]}},
}
"""A task of the sample handler `selection`: real work of a moment, without a network."""
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
SAMPLE_KIND = "selection"
SWEPT = {"ok", "duplicate", "running"}


class SmokeError(Exception):
    """What went wrong, with the next step."""


def main(argv: list[str] | None = None) -> int:
    options = _options(argv)
    try:
        outputs = _outputs(options.outputs)
        urls, smoke = outputs["functions"], outputs["smoke"]
        headers = _headers(None if options.no_token else outputs["invoker"])
        if smoke["internal"]:
            print(scheduled_sweep(outputs["sweep_job"], _session(), options.limit))
        else:
            print(sweep(urls["sweep"], headers))
        if smoke["watch"] is None and options.kind is None:
            print("task: not tried. There is no table or no handler of ours: see --kind.")
        elif smoke["users"] and not os.environ.get("SMOKE_TOKEN"):
            print(refused_task(urls["create_task"], headers))
        else:
            task_input = json.loads(options.input)
            print(task(urls, headers, options.kind or SAMPLE_KIND, task_input, options.limit))
    except (SmokeError, requests.RequestException) as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 1
    return 0


def sweep(url: str, headers: Callable[[str], dict[str, str]]) -> str:
    answer = requests.post(url, headers=headers(url), timeout=180)
    verdict = _json(answer, 200).get("verdict")
    if verdict not in SWEPT:
        raise SmokeError(f"the sweep says {verdict!r}. See the log of the function sweep.")
    return f"sweep: {verdict}"


def scheduled_sweep(job: str, session: Any, limit: float) -> str:
    """Lets Cloud Scheduler run the job now and waits for the attempt's result, for `limit` seconds
    at most. `job` is projects/P/locations/L/jobs/NAME."""
    url = f"https://cloudscheduler.googleapis.com/v1/{job}"
    before = _json(session.get(url, timeout=60), 200).get("lastAttemptTime")
    _json(session.post(f"{url}:run", timeout=60), 200)
    deadline = time.monotonic() + limit
    while time.monotonic() <= deadline:
        answer = _json(session.get(url, timeout=60), 200)
        if answer.get("lastAttemptTime") != before:
            if code := answer.get("status", {}).get("code", 0):
                raise SmokeError(f"the job of the sweep failed with code {code}. See its log.")
            return "sweep: called by Cloud Scheduler"
        time.sleep(1)
    raise SmokeError(f"Cloud Scheduler did not run {job} in {limit:g} s.")


def refused_task(url: str, headers: Callable[[str], dict[str, str]]) -> str:
    """A task without a user's token must be refused: all that can be tried without one."""
    body = {"kind": SAMPLE_KIND, "input": SAMPLE}
    _json(requests.post(url, json=body, headers=headers(url), timeout=60), 401)
    return "task: refused without a user's token. Set SMOKE_TOKEN to try one to its end."


def task(
    urls: dict[str, str],
    headers: Callable[[str], dict[str, str]],
    kind: str,
    task_input: Any,
    limit: float,
) -> str:
    """Creates a task and polls it until it has ended, for `limit` seconds at most."""
    create, status = urls["create_task"], urls["task_status"]
    body = {"kind": kind, "input": task_input}
    created = requests.post(create, json=body, headers=headers(create), timeout=60)
    task_id = _json(created, 201)["task_id"]
    deadline = time.monotonic() + limit
    while True:
        answer = requests.get(
            status, params={"task_id": task_id}, headers=headers(status), timeout=60
        )
        task_status = _json(answer, 200)
        state = task_status["state"]
        if state == "completed":
            return f"task {task_id}: completed"
        if state in {"failed", "cancelled"}:
            raise SmokeError(
                f"task {task_id} {state}: {task_status.get('error')}. See `unstuck explain`."
            )
        if time.monotonic() > deadline:
            raise SmokeError(
                f"task {task_id} is still {state} after {limit:g} s. "
                "See the queue and the log of the worker."
            )
        time.sleep(1)


def _json(answer: requests.Response, status: int) -> dict[str, Any]:
    if answer.status_code != status:
        raise SmokeError(
            f"{answer.url.partition('?')[0]} answered {answer.status_code} instead of {status}: "
            f"{answer.text[:500]} "
            "(403: the account may not call; 401: send a user's token in SMOKE_TOKEN)"
        )
    return dict(answer.json())


def _headers(invoker: str | None) -> Callable[[str], dict[str, str]]:
    """Returns what gives the headers of a call to a URL. The token for IAM goes into
    X-Serverless-Authorization, so that Authorization is free for the user's."""
    user_token = os.environ.get("SMOKE_TOKEN")
    user_header = {"Authorization": f"Bearer {user_token}"} if user_token else {}
    tokens: dict[str, str] = {}

    def headers(url: str) -> dict[str, str]:
        if not invoker:
            return user_header
        if url not in tokens:
            tokens[url] = _token(invoker, url)
        return user_header | {"X-Serverless-Authorization": f"Bearer {tokens[url]}"}

    return headers


def _token(account: str, audience: str) -> str:
    import google.auth
    from google.auth import exceptions, impersonated_credentials
    from google.auth.transport.requests import Request

    try:
        own, _ = google.auth.default(scopes=[CLOUD_PLATFORM])
        target = impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
            own, account, [CLOUD_PLATFORM]
        )
        token = impersonated_credentials.IDTokenCredentials(  # type: ignore[no-untyped-call]
            target, audience, include_email=True
        )
        token.refresh(Request())
    except exceptions.GoogleAuthError as error:
        raise SmokeError(
            f"no token of {account}: {error}. "
            "Grant the caller roles/iam.serviceAccountOpenIdTokenCreator on it."
        ) from None
    return str(token.token)


def _session() -> Any:
    """Calls of Google's APIs as the caller's own account."""
    import google.auth
    from google.auth import exceptions
    from google.auth.transport.requests import AuthorizedSession

    try:
        own, _ = google.auth.default(scopes=[CLOUD_PLATFORM])
    except exceptions.GoogleAuthError as error:
        raise SmokeError(f"no credentials for Cloud Scheduler: {error}.") from None
    return AuthorizedSession(own)  # type: ignore[no-untyped-call]


def _outputs(file: str) -> dict[str, Any]:
    """The values of `terraform output -json` by name."""
    outputs = json.loads(Path(file).read_text(encoding="utf-8"))
    return {name: output["value"] for name, output in outputs.items()}


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One sweep and one task, after a deploy.")
    parser.add_argument("--outputs", required=True, help="what `terraform output -json` printed")
    parser.add_argument("--kind", help="the kind of the task (default: selection, a sample)")
    parser.add_argument("--input", default=json.dumps(SAMPLE), help="its input, as JSON")
    parser.add_argument(
        "--limit", type=float, default=180.0, help="seconds until it must have ended (default 180)"
    )
    parser.add_argument(
        "--no-token", action="store_true", help="call without a token of Google: local functions"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
