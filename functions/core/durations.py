"""A length of time as people write it: 30s, 5m, 2h, 7d, or a bare number of seconds."""

import re

SECONDS_BY_UNIT = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_DAYS = 3650


def seconds(text: str, *, or_zero: bool = False) -> float:
    """The time in seconds. Raises ValueError, with the rule as its text."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([smhd]?)", text.strip())
    if match:
        length = float(match[1]) * SECONDS_BY_UNIT[match[2]]
        if length <= LONGEST_DAYS * SECONDS_BY_UNIT["d"] and (length > 0 or or_zero):
            return length
    least = "" if or_zero else " above 0"
    raise ValueError(f"must be a time{least}, at most {LONGEST_DAYS}d, such as 30s, 5m, 2h or 7d")
