"""The examples of infra/ can be planned as they are. Those that switch something off, or to another
value than the other tests, are applied and come to rest."""

from pathlib import Path

import pytest

from tests.infra.conftest import policy_file
from tests.terraform import ROOT, Mocked

pytestmark = pytest.mark.timeout(1500)
EXAMPLES = sorted((ROOT / "infra" / "examples").glob("*.tfvars"))
SECRETS = ("unstuck-dev-database-url", "unstuck-supabase-key")
"""What people fill besides the secret of the defaults."""


APPLIED = {"supabase-users", "two-stages"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_each_example_is_planned_or_applied_and_comes_to_rest(
    cloud: Mocked, example: Path, tmp_path: Path
) -> None:
    for secret in SECRETS:
        cloud.fill(secret)
    own = [f"-var=policy_file={policy_file(tmp_path)}"] if "runs_on" in example.read_text() else []
    expected_code = 2
    if example.stem in APPLIED:
        applied = cloud.run("apply", "-auto-approve", f"-var-file={example}", *own)
        assert applied.returncode == 0, applied.stdout
        expected_code = 0
    planned = cloud.run("plan", "-detailed-exitcode", f"-var-file={example}", *own)
    assert planned.returncode == expected_code, planned.stdout
    assert "Nobody is told" not in planned.stdout
