"""What the platform writes of instances that end, as Cloud Logging's API returns it; texts as seen
in 2026-08."""

from datetime import datetime
from typing import Any

PROJECT = "our-project"
OTHER_LOG = "run.googleapis.com%2F%2Fvar%2Flog%2Fsystem"
"""Another name of varlog/system, of which others tell."""
OOM = (
    "Memory limit of 512 MiB exceeded with 543 MiB used. Consider increasing the memory limit, see "
    "https://cloud.google.com/run/docs/configuring/memory-limits"
)
TIMEOUT = (
    "The request has been terminated because it has reached the maximum request timeout. To "
    "change this limit, see "
    "https://cloud.google.com/run/docs/configuring/request-timeout"
)
SIGNAL = "Container terminated on signal 9."
MANAGER = "Container terminated by the container manager on signal 9."
EXIT = "Container called exit(1)."
STOPPED = "Shutting down user disabled instance"
ROLLOUT = (
    "Starting new instance. Reason: DEPLOYMENT_ROLLOUT - Instance started due to traffic shifting "
    "between revisions due to "
    "deployment, traffic split adjustment, or deployment health check."
)
STARTED = (
    "Starting new instance. Reason: AUTOSCALING - Instance started due to configured scaling "
    "factors."
)


def line(
    text: str | None,
    at: datetime,
    *,
    revision: str = "unstuck-worker-00007-abc",
    instance: str | None = "00f1a2b3",
    log: str = "",
    status: int | None = None,
    severity: str = "ERROR",
    resource: str = "cloud_run_revision",
) -> dict[str, Any]:
    """`log` is varlog/system or requests, by whether there is a status."""
    name = log or (
        "run.googleapis.com%2Frequests" if status else "run.googleapis.com%2Fvarlog%2Fsystem"
    )
    service = revision.rsplit("-", 2)[0]
    entry: dict[str, Any] = {
        "insertId": f"{at.timestamp()}{text}{revision}",
        "logName": f"projects/{PROJECT}/logs/{name}",
        "severity": severity,
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "receiveTimestamp": at.isoformat().replace("+00:00", "Z"),
        "resource": {
            "type": resource,
            "labels": {
                "project_id": PROJECT,
                "service_name": service,
                "revision_name": revision,
                "location": "europe-west1",
            },
        },
    }
    if text:
        entry["textPayload"] = text
    if status:
        entry["httpRequest"] = {"requestMethod": "POST", "status": status, "latency": "600.0s"}
    if instance:
        entry["labels"] = {"instanceId": instance}
    return entry


def pool_line(
    text: str, at: datetime, *, pool: str = "unstuck-pool-film", log: str = ""
) -> dict[str, Any]:
    """The same of an instance of a worker pool. Its type and labels as `gcloud run worker-pools
    logs read` asks for them."""
    entry = line(text, at, revision=f"{pool}-00003-abc", log=log, resource="cloud_run_worker_pool")
    labels = entry["resource"]["labels"]
    labels["worker_pool_name"] = labels.pop("service_name")
    return entry


NO_INSTANCE = (
    "The request was aborted because there was no available instance. Additional troubleshooting "
    "documentation can be found at: https://cloud.google.com/run/docs/troubleshooting#abort-request"
)


def rollout_failed(at: datetime, *, revision: str = "unstuck-worker-00008-abc") -> dict[str, Any]:
    """The audit log of a revision that does not become ready, as reports of 2026 quote it."""
    entry = line(
        None, at, revision=revision, instance=None, log="cloudaudit.googleapis.com%2Fsystem_event"
    )
    message = (
        f"Ready condition status changed to False for Revision {revision} with message: The "
        "user-provided container failed to start and listen on the port defined provided by the "
        "PORT=8080 environment variable within the allocated timeout."
    )
    return entry | {
        "protoPayload": {
            "serviceName": "run.googleapis.com",
            "methodName": "ReplaceService",
            "resourceName": revision,
            "status": {"code": 9, "message": message},
            "response": {"kind": "Revision"},
        }
    }


def job_failed(
    job: str, at: datetime, *, severity: str = "ERROR", status: str = "PERMISSION_DENIED"
) -> dict[str, Any]:
    """What Cloud Scheduler writes of an attempt; INFO where it went well.
    https://cloud.google.com/scheduler/docs/logging"""
    return {
        "logName": f"projects/{PROJECT}/logs/cloudscheduler.googleapis.com%2Fexecutions",
        "severity": severity,
        "timestamp": at.isoformat(),
        "resource": {
            "type": "cloud_scheduler_job",
            "labels": {"project_id": PROJECT, "job_id": job, "location": "europe-west1"},
        },
        "jsonPayload": {
            "@type": "type.googleapis.com/google.cloud.scheduler.logging.AttemptFinished",
            "jobName": f"projects/{PROJECT}/locations/europe-west1/jobs/{job}",
            "status": status,
            "targetType": "HTTP",
        },
    }


def job_changed(job: str, at: datetime, method: str = "PauseJob") -> dict[str, Any]:
    """The audit log of a call of Cloud Scheduler's API
    (google.cloud.scheduler.v1.CloudScheduler)."""
    return {
        "logName": f"projects/{PROJECT}/logs/cloudaudit.googleapis.com%2Factivity",
        "severity": "NOTICE",
        "timestamp": at.isoformat(),
        "resource": {
            "type": "cloud_scheduler_job",
            "labels": {"project_id": PROJECT, "job_id": job, "location": "europe-west1"},
        },
        "protoPayload": {
            "serviceName": "cloudscheduler.googleapis.com",
            "methodName": f"google.cloud.scheduler.v1.CloudScheduler.{method}",
            "resourceName": f"projects/{PROJECT}/locations/europe-west1/jobs/{job}",
            "authenticationInfo": {"principalEmail": "me@example.com"},
        },
    }
