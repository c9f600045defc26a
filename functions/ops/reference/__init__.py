"""The pages of docs/ and the schema of the policy, which are made from what they describe.
`make docs` writes them; a test fails when one is out of date."""

from collections.abc import Callable
from pathlib import Path

from functions.ops.reference import commands, events, http, infra, policy, reasons, settings, sql

DOCS = Path(__file__).parents[3] / "docs"
PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands.text,
    "events.md": events.text,
    "http-api.md": http.text,
    "../infra/REFERENCE.md": infra.text,
    "policy.md": policy.text,
    "../functions/policy.schema.json": policy.schema_text,
    "reasons.md": reasons.text,
    "settings.md": settings.text,
    "sql.md": sql.text,
}
