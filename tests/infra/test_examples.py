"""The examples of infra/ can be planned as they are. Those that switch something off, or to another
value than the other tests, are applied and come to rest."""

import re
from pathlib import Path

import pytest

from tests.infra.conftest import FILM, PROJECT, block, policy_file
from tests.terraform import ROOT, Mocked, Terraform, copied, resources

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


def test_two_regions_are_two_installations_of_one_state(
    terraform: Terraform, tmp_path: Path
) -> None:
    env = terraform.provider if isinstance(terraform, Mocked) else None
    regions = Terraform(copied(tmp_path, whole=False) / "examples" / "several-regions", env)
    if regions.init().returncode:
        pytest.skip("terraform has no provider")
    found = resources(regions.planned(project_id=PROJECT))
    sweeps = {
        address.split(".")[1]: (one["name"], one["location"])
        for address, one in found.items()
        if address.endswith('google_cloudfunctions2_function.this["sweep"]')
    }
    assert sweeps == {
        "europe": ("unstuck-eu-sweep", "europe-west1"),
        "america": ("unstuck-us-sweep", "us-central1"),
    }
    named = [
        (address.split(".")[2], one["name"])
        for address, one in found.items()
        if address.startswith("module.") and one.get("name")
        if not re.search(r"_iam_|_bucket_object\.", address)
    ]
    assert len(set(named)) == len(named), "one would take the place of the other"


SCAN = "      scan: {run_for: 3h, runs_on: pool, memory: 500MB}\n"


def test_a_connector_leads_all_functions_and_a_pool_of_one_kind_into_the_network(
    terraform: Terraform, tmp_path: Path
) -> None:
    pool = {
        "film": {
            "image": "europe-docker.pkg.dev/p/i/pool:1",
            "kinds": ["film"],
            "memory": "8Gi",
            "cpu": "2",
        },
        "scan": {"image": "europe-docker.pkg.dev/p/i/pool:1", "kinds": ["scan"]},
    }
    policy = Path(policy_file(tmp_path))
    text = policy.read_text(encoding="utf-8")
    assert text.count(f"{FILM}\n") == 1
    policy.write_text(text.replace(f"{FILM}\n", f"{FILM}\n{SCAN}"), encoding="utf-8")
    connector = f"projects/{PROJECT}/locations/us-central1/connectors/ours"
    found = resources(
        terraform.planned(
            project_id=PROJECT, vpc_connector=connector, pools=pool, policy_file=str(policy)
        )
    )
    for address, one in found.items():
        if address.startswith("google_cloudfunctions2_function"):
            assert block(one, "service_config")["vpc_connector"] == connector, address
    for kind in pool:
        made = found[f'google_cloud_run_v2_worker_pool.this["{kind}"]']
        access = block(made, "template", "vpc_access")
        assert (access["connector"], access["egress"]) == (connector, "PRIVATE_RANGES_ONLY")
        assert not access["network_interfaces"]
        assert made["description"] == f"Unstuck: {kind}"
        assert block(made, "template", "containers")["args"] == [kind]
