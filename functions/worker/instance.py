"""The name of this worker in the ledger. On Cloud Run: its revision and the id of its instance. The
platform's own log carries both, so that its lines about a dead worker are found. Only workers ask
for the id, once, after the fork."""

import http.client

from functions.core.settings import Settings

METADATA_HOST = "metadata.google.internal"
METADATA_TIMEOUT_SECONDS = 0.5
"""The metadata server is on the same machine."""


def worker_name(settings: Settings) -> str:
    """Revision and instance on Cloud Run, else the entry point and the host."""
    if settings.revision and (instance := _instance_id(settings.metadata or METADATA_HOST)):
        return f"{settings.revision}@{instance}"
    return settings.instance


def _instance_id(host: str) -> str | None:
    connection = http.client.HTTPConnection(host, timeout=METADATA_TIMEOUT_SECONDS)
    try:
        connection.request(
            "GET", "/computeMetadata/v1/instance/id", headers={"Metadata-Flavor": "Google"}
        )
        answer = connection.getresponse()
        text = answer.read(500).decode("ascii").strip()
        return text if answer.status == 200 and text.isalnum() else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
