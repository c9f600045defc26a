"""All that is deployed is as somebody has read it: an argument that is lost, added or changed, in
whatever resource, changes a file here, and so shows in a review."""

import difflib
import re

import pytest

from tests.infra.applied import CONFIGURATIONS, FOLDER, text_of
from tests.infra.conftest import Infra

pytestmark = pytest.mark.timeout(1500)  # terraform, once for all of its tests


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_what_is_applied_is_what_was_read(infra: Infra, configuration: str) -> None:
    if not infra.complete:
        pytest.skip("much is only known after an apply: only tfmock applies without a cloud")
    read = (FOLDER / f"{configuration}.txt").read_text(encoding="utf-8").splitlines()
    applied = text_of(infra, configuration).splitlines()
    changes = "\n".join(difflib.unified_diff(read, applied, "read", "applied", "", "", 3, ""))
    assert changes == "", f"{changes}\nIf this is meant: make applied"


@pytest.mark.parametrize(("configuration", "warnings"), [("default", 1), ("switched_on", 0)])
def test_it_warns_of_nothing_but_that_nobody_is_told(
    infra: Infra, configuration: str, warnings: int
) -> None:
    output = getattr(infra, configuration).outputs["apply"]
    assert len(re.findall("Warning: ", output)) == output.count("Nobody is told") == warnings, (
        output
    )
