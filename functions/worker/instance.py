"""The name of this worker in the ledger. On Cloud Run: its revision and the id of its instance. The
platform's own log carries both, so that its lines about a dead worker are found. Only workers ask
for the id, once, after the fork."""

import http.client
from functools import lru_cache

from functions.core.settings import settings

HOST = "metadata.google.internal"
TIMEOUT_SECONDS = 0.5
"""The metadata server is on the same machine."""


@lru_cache
def instance() -> str:
    configured = settings()
    if configured.revision and (number := _instance_id(configured.metadata or HOST)):
        return f"{configured.revision}@{number}"
    return configured.instance


def _instance_id(host: str) -> str | None:
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_SECONDS)
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
