"""The examples of infra/ can be planned as they are."""

from pathlib import Path

import pytest

from tests.infra.conftest import policy_file
from tests.terraform import ROOT, Mocked

pytestmark = pytest.mark.timeout(1500)
EXAMPLES = sorted((ROOT / "infra" / "examples").glob("*.tfvars"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_each_example_plans(cloud: Mocked, example: Path, tmp_path: Path) -> None:
    own = [f"-var=policy_file={policy_file(tmp_path)}"] if "runs_on" in example.read_text() else []
    planned = cloud.run("plan", f"-var-file={example}", *own)
    assert planned.returncode == 0, planned.stdout
    assert "Nobody is told" not in planned.stdout
