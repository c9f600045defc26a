"""The commands and flags of gcloud that our pages use, from its reference
(cloud.google.com/sdk/gcloud/reference, 2026-08).

A page may use what stands here and nothing else: whoever adds a command looks it up first."""

from collections.abc import Iterator

GLOBAL = {"--project", "--format", "--quiet"}
FLAGS = {
    "artifacts repositories create": {"--location", "--repository-format"},
    "auth application-default login": set(),
    "auth login": set(),
    "auth print-identity-token": {
        "--audiences",
        "--impersonate-service-account",
        "--include-email",
    },
    "builds submit": {
        "--config",
        "--ignore-file",
        "--region",
        "--service-account",
        "--substitutions",
    },
    "builds triggers create github": {
        "--branch-pattern",
        "--build-config",
        "--comment-control",
        "--name",
        "--pull-request-pattern",
        "--repo-name",
        "--repo-owner",
        "--require-approval",
        "--service-account",
        "--substitutions",
    },
    "config set": set(),
    "functions deploy": {
        "--allow-unauthenticated",
        "--build-service-account",
        "--concurrency",
        "--cpu",
        "--entry-point",
        "--gen2",
        "--max-instances",
        "--memory",
        "--min-instances",
        "--no-allow-unauthenticated",
        "--region",
        "--retry",
        "--run-service-account",
        "--runtime",
        "--set-env-vars",
        "--set-secrets",
        "--source",
        "--timeout",
        "--trigger-http",
        "--trigger-service-account",
        "--trigger-topic",
    },
    "functions delete": {"--gen2", "--region"},
    "functions describe": {"--gen2", "--region"},
    "iam service-accounts add-iam-policy-binding": {"--member", "--role"},
    "iam service-accounts create": {"--description", "--display-name"},
    "logging read": {"--freshness", "--limit", "--order"},
    "projects add-iam-policy-binding": {"--condition", "--member", "--role"},
    "run revisions list": {"--region", "--service"},
    "run services add-iam-policy-binding": {"--member", "--region", "--role"},
    "run services describe": {"--region"},
    "run services proxy": {"--port", "--region"},
    "run services get-iam-policy": {"--region"},
    "run services update-traffic": {"--region", "--to-latest", "--to-revisions"},
    "scheduler jobs create http": {
        "--attempt-deadline",
        "--http-method",
        "--location",
        "--max-retry-attempts",
        "--oidc-service-account-email",
        "--oidc-token-audience",
        "--schedule",
        "--time-zone",
        "--uri",
    },
    "scheduler jobs delete": {"--location"},
    "scheduler jobs describe": {"--location"},
    "scheduler jobs pause": {"--location"},
    "scheduler jobs resume": {"--location"},
    "scheduler jobs run": {"--location"},
    "secrets add-iam-policy-binding": {"--member", "--role"},
    "secrets create": {"--replication-policy"},
    "secrets versions add": {"--data-file"},
    "secrets versions disable": {"--secret"},
    "secrets versions list": set(),
    "services enable": set(),
    "storage buckets add-iam-policy-binding": {"--member", "--role"},
    "storage buckets create": {"--location", "--uniform-bucket-level-access"},
    "storage buckets update": {"--versioning"},
    "tasks queues add-iam-policy-binding": {"--location", "--member", "--role"},
    "tasks queues create": {
        "--location",
        "--max-attempts",
        "--max-backoff",
        "--max-concurrent-dispatches",
        "--min-backoff",
    },
    "tasks queues describe": {"--location"},
    "tasks queues resume": {"--location"},
}


def unknown(words: list[str]) -> list[str]:
    """What of a command line (its first word is gcloud) is not in the reference: the command, or
    some of its flags."""
    plain = " ".join(_until_flags(words[1:]))
    command = max(
        (one for one in FLAGS if f"{plain} ".startswith(f"{one} ")), key=len, default=None
    )
    if command is None:
        return [plain]
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    return sorted(given - FLAGS[command] - GLOBAL)


def _until_flags(words: list[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("-"):
            return
        yield word
