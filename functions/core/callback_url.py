"""Which URLs a task may bring along, to be told of its end."""

import re

_URL = re.compile(r"https://([a-z0-9.-]+)(?::\d{1,5})?(?:[/?#][^\s\\]*)?", re.IGNORECASE | re.ASCII)
LONGEST_URL = 2000


def is_allowed(url: str, hosts: tuple[str, ...]) -> bool:
    """Whether CALLBACK_HOSTS has the host of the URL."""
    match = _URL.fullmatch(url)
    if not match or len(url) > LONGEST_URL:
        return False
    host = match[1].lower()
    return any(
        host == allowed or (allowed.startswith("*.") and host.endswith(allowed[1:]))
        for allowed in hosts
    )
