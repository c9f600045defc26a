"""What the address of the list asks for: its filter and its place. The filter is the address, so
that it can be shared."""

import base64
import json
import re
import uuid
from typing import Any, NamedTuple

from functions.core.policy import Watch
from functions.core.states import State

NAMES = ("state", "kind", "reason", "owner", "q")
STATES = ("stuck", "open", *State, "elsewhere")
TITLES = {"stuck": "stuck", "open": "open", "elsewhere": "ended outside the ledger"}


class Wanted(NamedTuple):
    """`given` is what the address says; `filter` is what the store takes, None when nothing can
    match."""

    given: dict[str, str]
    filter: dict[str, Any] | None
    after: Any

    @property
    def any(self) -> bool:
        return bool(self.given)


def wanted(args: Any, watch: Watch) -> Wanted:
    """From the query string. What makes no sense there matches nothing, and is shown in the form as
    it was typed."""
    given = {
        name: text
        for name in NAMES
        if (text := str(args.get(name, "")).strip()[:200].replace("\0", ""))
    }
    found: dict[str, Any] | None = {name: text for name, text in given.items() if name != "q"}
    if given.get("state", "open") not in STATES:
        found = None
    if found is not None and "q" in given:
        bounds = keys(watch.key_type, given["q"])
        found = found | {"first": bounds[0], "last": bounds[1]} if bounds else None
    return Wanted(given, found, place(args.get("after")))


def keys(key_type: str, text: str) -> tuple[str, str] | None:
    """The first and the last key that begin with the text; for other keys than uuids, the key
    itself."""
    if key_type == "uuid":
        digits = re.sub(r"-", "", text.lower())
        if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
            return None
        return str(uuid.UUID(digits.ljust(32, "0"))), str(uuid.UUID(digits.ljust(32, "f")))
    if key_type == "text":
        return text, text
    bits = 31 if key_type == "integer" else 63
    return (text, text) if re.fullmatch(r"-?\d{1,19}", text) and abs(int(text)) < 2**bits else None


def place(text: str | None) -> Any:
    """The `next` of a page, from the address. What cannot be read is the first page."""
    try:
        found = json.loads(base64.urlsafe_b64decode((text or "") + "=" * (-len(text or "") % 4)))
        section, at, key = int(found["section"]), found.get("at"), str(found["id"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    good = 0 <= section <= 5 and (at is None or re.fullmatch(r"[\d:.+T -]{10,40}", at))
    return {"section": section, "at": at, "id": key} if good else None


def written(following: Any) -> str:
    """A `next` as it goes into the address."""
    kept = {name: following[name] for name in ("section", "at", "id")}
    return (
        base64.urlsafe_b64encode(json.dumps(kept, separators=(",", ":")).encode())
        .decode()
        .rstrip("=")
    )
