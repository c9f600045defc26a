"""What the tests of the commands share."""

import pytest

from functions.ops.cli import patience


@pytest.fixture(autouse=True)
def on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes late because the tests share the machine is not told."""
    monkeypatch.setattr(patience, "SLOW_SECONDS", 600)
