"""axe-core in the browser: what stands in the way of people with a screen reader, a keyboard only,
or poor sight."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.missing import missing

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCRIPT = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"


def violations(page: "Page") -> list[str]:
    """Those that are serious or critical. Run where the page's policy for scripts does not hold: by
    the debugger."""
    if not SCRIPT.exists():
        missing("there is no axe-core: run `make axe` (npm)")
    page.evaluate(SCRIPT.read_text(encoding="utf-8"))
    report: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        violation
        for violation in report["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]
    return [sentence(violation) for violation in serious]


def sentence(violation: dict[str, Any]) -> str:
    nodes = [node["html"][:120] for node in violation["nodes"][:3]]
    return f"{violation['id']} ({violation['impact']}): {violation['help']}: {nodes}"
