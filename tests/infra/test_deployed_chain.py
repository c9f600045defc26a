"""What tests/chain plays a day on is what Terraform deploys: the same metrics, and the same
expressions of the alerts."""

from typing import Any

import pytest

from tests.chain.definitions import Chain, from_files, from_resources
from tests.infra.conftest import Infra

pytestmark = pytest.mark.timeout(900)  # terraform, once for all of its tests


def plain(chain: Chain) -> dict[str, Any]:
    """Without the comments and the line breaks of the files."""
    found: dict[str, Any] = {
        one.name: (_words(one.filter), one.labels, one.value) for one in chain.metrics
    }
    return found | {one["alert"]: (_words(one["expr"]), one["for"]) for one in chain.rules}


def _words(text: str) -> str:
    return " ".join(
        word for line in text.splitlines() for word in line.partition("  # ")[0].split()
    )


def test_what_is_deployed_is_what_the_chain_is_tested_on(infra: Infra) -> None:
    deployed = from_resources(infra.resources.values())
    assert plain(deployed) == plain(from_files())
    assert (len(deployed.metrics), len(deployed.rules)) == (
        len(from_files().metrics),
        len(from_files().rules),
    )
