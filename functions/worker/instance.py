"""Who this worker is in the ledger. On Cloud Run: its revision and the id of its instance, which
the platform's own log carries too, so that a dead worker's last words are found. The id is asked
for once, after the fork, and only by workers."""

import http.client
from functools import lru_cache

from functions.core.settings import settings

HOST = "metadata.google.internal"
LIMIT = 0.5
"""Seconds. The metadata server is on the same machine."""


@lru_cache
def instance() -> str:
    found = settings()
    known = _instance_id(found.metadata or HOST) if found.revision else None
    return f"{found.revision}@{known}" if known else found.instance


def _instance_id(host: str) -> str | None:
    connection = http.client.HTTPConnection(host, timeout=LIMIT)
    try:
        connection.request(
            "GET", "/computeMetadata/v1/instance/id", headers={"Metadata-Flavor": "Google"}
        )
        answer = connection.getresponse()
        said = answer.read(500).decode("ascii").strip()
        return said if answer.status == 200 and said.isalnum() else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
