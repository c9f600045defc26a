"""What a JWT says, read without its signature: for what others have verified, or will."""

import base64
import json
from typing import Any


def claims_of(token: str) -> dict[str, Any] | None:
    """None for what is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        padding = "=" * (-len(parts[1]) % 4)
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + padding))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None
