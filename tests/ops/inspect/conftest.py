from pathlib import Path

import pytest

from tests.ops.inspect.world import World


@pytest.fixture
def world(empty_database: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> World:
    return World(empty_database, capsys, tmp_path)
