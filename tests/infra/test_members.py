"""Who may call is somebody in particular: no variable of infra/ takes a whole domain (gmail.com is
one) or a whole pool of identities."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "infra" / "variables.tf").read_text(encoding="utf-8")
VARIABLES = ("api_invokers", "page_viewers", "remote_workers")
POOL = "iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p"


def takes(variable, member):
    """By the pattern that Terraform checks each member with."""
    block = re.search(rf'^variable "{variable}" .*?^}}', TEXT, re.MULTILINE | re.DOTALL)[0]
    pattern = re.search(r'can\(regex\("(.*?)", one\)\)', block)[1]
    return re.search(pattern, member) is not None


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    "member",
    ["domain:gmail.com", "allAuthenticatedUsers", f"principalSet://{POOL}/*", "user:", "x"],
)
def test_nobody_in_particular_is_not_taken(variable, member):
    assert not takes(variable, member)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    "member",
    [
        "user:ann@example.com",
        "group:ops@example.com",
        "serviceAccount:web@my-project.iam.gserviceaccount.com",
        f"principalSet://{POOL}/group/ops",
        f"principal://{POOL}/subject/ann",
    ],
)
def test_somebody_is(variable, member):
    assert takes(variable, member)
