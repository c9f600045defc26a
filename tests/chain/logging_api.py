"""Cloud Logging's API at the wire: entries:list evaluates the filter that it is sent, entries:write
keeps what it gets."""

import json
from typing import Any

import requests
import responses

from tests.chain.query import matches

LIST = "https://logging.googleapis.com/v2/entries:list"
WRITE = "https://logging.googleapis.com/v2/entries:write"


class LoggingApi:
    """`entries` are there; `written` are the bodies of writes; `filters` what was asked. `status`
    other than 200 refuses."""

    def __init__(self, mock: responses.RequestsMock) -> None:
        self.entries: list[dict[str, Any]] = []
        self.written: list[dict[str, Any]] = []
        self.filters: list[str] = []
        self.status = 200
        mock.add_callback(responses.POST, LIST, self._list)
        mock.add_callback(responses.POST, WRITE, self._write)

    def _list(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        asked = json.loads(request.body or b"{}")
        self.filters.append(asked["filter"])
        if self.status != 200:
            return self._refused()
        found = [one for one in self.entries if matches(asked["filter"], one)]
        found.sort(
            key=lambda one: one["timestamp"], reverse=asked.get("orderBy", "").endswith("desc")
        )
        return 200, {}, json.dumps({"entries": found[: asked.get("pageSize", 1000)]})

    def _write(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if self.status != 200:
            return self._refused()
        self.written.append(json.loads(request.body or b"{}"))
        return 200, {}, "{}"

    def _refused(self) -> tuple[int, dict[str, str], str]:
        return (
            self.status,
            {},
            json.dumps(
                {"error": {"code": self.status, "message": "no", "status": "PERMISSION_DENIED"}}
            ),
        )
