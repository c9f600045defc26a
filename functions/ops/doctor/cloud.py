"""What concerns the deployment in Google Cloud: the schedule of the sweep, the metrics and their
last points, open incidents, and who may do what. It only reads."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from functions.core.policy import Policy
from functions.ops.cli import google
from functions.ops.cli.google import CloudError
from functions.ops.cli.out import UNREACHABLE, span
from functions.ops.doctor.finding import MISSED_SWEEPS, NO_SWEEP, Finding, breaks, fine, warns

SCHEDULER = "https://cloudscheduler.googleapis.com/v1"
MONITORING = "https://monitoring.googleapis.com/v3"
PROJECTS = "https://cloudresourcemanager.googleapis.com/v1/projects"
RUN = "https://run.googleapis.com/v2"
USER = "logging.googleapis.com/user/"
RECENT_SECONDS = 3600.0
"""Seconds in which the sweep's metric must have a point."""
ROLES = ("roles/monitoring.metricWriter", "roles/logging.viewer")
"""What the sweep needs for METRICS=on."""


class Cloud:
    """Where the deployment is. `metrics` is a MetricServiceClient, `logs` a client of Cloud
    Logging."""

    def __init__(self, project: str, region: str, name: str) -> None:
        from google.auth.transport.requests import AuthorizedSession
        from google.cloud import logging_v2

        self.project, self.region, self.name = project, region, name
        self.credentials = google.credentials()
        self.session: Any = AuthorizedSession(self.credentials)  # type: ignore[no-untyped-call]
        self.logs: Any = logging_v2.Client(
            project=project, credentials=self.credentials, _use_grpc=False
        )  # type: ignore[no-untyped-call]

    @property
    def metrics(self) -> Any:
        from google.cloud import monitoring_v3

        return monitoring_v3.MetricServiceClient(credentials=self.credentials)

    def account(self, part: str) -> str:
        return f"serviceAccount:{self.name}-{part}@{self.project}.iam.gserviceaccount.com"

    def get(self, url: str, **params: Any) -> dict[str, Any]:
        return google.call_api(self.session, url, **params)


def examine(where: Cloud, policy: Policy) -> list[Finding]:
    """A check that is refused is a finding, and does not stop the others. Raises CloudError when
    nothing can be reached."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "schedule": partial(schedule, where, policy),
        "metrics": partial(metrics, where),
        "last points": partial(points, where),
        "incidents": partial(incidents, where),
        "IAM": partial(rights, where),
    }
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            findings += check()
        except CloudError as error:
            if error.code == UNREACHABLE:
                raise
            fact, _, do = str(error).partition("\n")
            findings.append(
                warns(
                    None,
                    name,
                    f"cannot be read: {fact}",
                    "nobody can tell whether it is right.",
                    do,
                )
            )
    return findings


def schedule(where: Cloud, policy: Policy) -> Iterator[Finding]:
    job = where.get(
        f"{SCHEDULER}/projects/{where.project}/locations/{where.region}/jobs/{where.name}-sweep"
    )
    why = NO_SWEEP
    if not job:
        do = (
            "Run `terraform apply` in infra/, or give --region and --name as they are in "
            "terraform.tfvars."
        )
        yield breaks(
            None, "schedule", f"there is no job {where.name}-sweep in {where.region}", why, do
        )
        return
    if job.get("state") != "ENABLED":
        do = f"Run `gcloud scheduler jobs resume {where.name}-sweep --location={where.region}`."
        yield breaks(
            None,
            "schedule",
            f"the job {where.name}-sweep is {job.get('state', 'UNKNOWN')}",
            why,
            do,
        )
        return
    ago = _ago(job["lastAttemptTime"]) if job.get("lastAttemptTime") else None
    if ago is None or ago > MISSED_SWEEPS * policy.sweep_every:
        fact = (
            "has never run"
            if ago is None
            else f"ran {span(ago)} ago, and should each {span(policy.sweep_every)}"
        )
        yield warns(None, "schedule", f"the job {fact}", why, "Look at the log of Cloud Scheduler.")
    elif code := job.get("status", {}).get("code", 0):
        do = (
            "7: the invoker may not call the function (roles/run.invoker); 4: "
            "the sweep took too long. Else see its log."
        )
        yield warns(None, "schedule", f"the last run failed with code {code}", why, do)
    else:
        yield fine(None, "schedule", f"{job.get('schedule')}, the last run was {span(ago)} ago")


def metrics(where: Cloud) -> Iterator[Finding]:
    from functions.ops.cli.alert_files import metrics as expected_metrics

    with google.cloud_errors():
        there = {metric.name for metric in where.logs.list_metrics()}
    missing = [
        name for name in map(partial(_named, where), expected_metrics()) if name not in there
    ]
    if missing:
        why, do = "alerts that read them never fire.", "Run `terraform apply` in infra/."
        yield breaks(None, "metrics", f"missing: {', '.join(missing)}", why, do)
    else:
        yield fine(None, "metrics", f"all {len(expected_metrics())} log-based metrics are there")


def points(where: Cloud) -> Iterator[Finding]:
    """The sweep's own metric: each run writes a line, also one that fails."""
    name, now = _named(where, "unstuck_sweep_finished"), time.time()
    interval = {
        "start_time": {"seconds": int(now - RECENT_SECONDS)},
        "end_time": {"seconds": int(now)},
    }
    asked = {
        "name": f"projects/{where.project}",
        "filter": f'metric.type="{USER}{name}"',
        "interval": interval,
    }
    with google.cloud_errors():
        series_list = list(
            where.metrics.list_time_series(request=asked, timeout=google.REQUEST_TIMEOUT_SECONDS)
        )
    times = [
        point.interval.end_time.timestamp() for series in series_list for point in series.points
    ]
    if times:
        yield fine(None, "last points", f"{name} has a point of {span(now - max(times))} ago")
    else:
        why = "SweepSilent fires, or would if it were there: no log line of a sweep was counted."
        do = (
            "See that the sweep runs (`logs`), and that its service is named as the filter of "
            "the metric wants."
        )
        yield warns(
            None, "last points", f"{name} has no point in the last {span(RECENT_SECONDS)}", why, do
        )


def incidents(where: Cloud) -> Iterator[Finding]:
    """By REST: this version of Google's client library cannot list alerts."""
    answer = where.get(
        f"{MONITORING}/projects/{where.project}/alerts", filter='state="OPEN"', pageSize=100
    )
    ours = [
        incident
        for incident in answer.get("alerts", ())
        if str(incident.get("policy", {}).get("displayName")).startswith(f"{where.name}/")
    ]
    for incident in ours:
        alert = incident["policy"]["displayName"].removeprefix(f"{where.name}/")
        fact = f"{alert} is open since {span(_ago(incident['openTime']))}"
        yield warns(
            None,
            "incidents",
            fact,
            "what it tells is going on now.",
            f"Follow infra/runbooks/{alert}.md.",
        )
    if not ours:
        yield fine(None, "incidents", "none is open")


def rights(where: Cloud) -> Iterator[Finding]:
    policy = google.call_api(
        where.session, f"{PROJECTS}/{where.project}:getIamPolicy", method="POST"
    )
    held = {
        binding["role"]
        for binding in policy.get("bindings", ())
        if where.account("sweep") in binding.get("members", ())
    }
    if lacks := [role for role in ROLES if role not in held]:
        why, do = (
            "gauges, or the reasons of dead workers, are missing.",
            "Run `terraform apply` in infra/.",
        )
        yield warns(None, "IAM", f"{where.account('sweep')} lacks {', '.join(lacks)}", why, do)
    service = f"{RUN}/projects/{where.project}/locations/{where.region}/services/{where.name}-sweep"
    callers = where.get(f"{service}:getIamPolicy").get("bindings", ())
    invoker = where.account("invoker")
    if not any(
        binding["role"] == "roles/run.invoker" and invoker in binding.get("members", ())
        for binding in callers
    ):
        why, do = "Cloud Scheduler gets 403, and no sweep runs.", "Run `terraform apply` in infra/."
        yield breaks(None, "IAM", f"{invoker} may not call {where.name}-sweep", why, do)
    elif not lacks:
        yield fine(None, "IAM", "the sweep may be called, and may write gauges and read logs")


def _named(where: Cloud, metric: str) -> str:
    return metric.replace("unstuck", where.name.replace("-", "_"), 1)


def _ago(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
