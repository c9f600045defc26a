"""Tells a service outside that a sweep has ended well: one that expects it each minute, and tells
people when it does not come (SWEEP_PING_URL)."""

import time

import requests

from functions.core import events

LEAST_SECONDS, LONGEST_SECONDS = 1.0, 5.0


def ping(url: str, until: float) -> None:
    """Asks for the URL, in the time until `until` (time.monotonic). It fails no sweep."""
    limit = min(LONGEST_SECONDS, max(LEAST_SECONDS, until - time.monotonic()))
    try:
        answer = requests.get(url, timeout=limit, allow_redirects=False)
    except (requests.RequestException, ValueError) as error:
        events.emit(events.PING_FAILED, error=type(error).__name__)  # its text has the URL
        return
    if answer.status_code >= 400:
        events.emit(events.PING_FAILED, error=f"it answered {answer.status_code}")
