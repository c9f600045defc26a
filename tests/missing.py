"""What a test needs and this machine may lack. The summary of a run says each missing thing once.

A tool can be installed. Where all of them were, as .ci/run does, UNSTUCK_TOOLS=required makes a
missing one a failure, since nobody reads what CI skips. Data that lie outside of the repository are
not to be had everywhere: without them a test is always skipped."""

import os
from collections import Counter
from typing import Any, NoReturn

import pytest


def missing(advice: str) -> NoReturn:
    """Skips the test. `advice` names the tool and the way to get it, in one sentence."""
    if os.environ.get("UNSTUCK_TOOLS") == "required":
        pytest.fail(advice)
    pytest.skip(advice)


def skipped_by_reason(reports: list[Any]) -> list[str]:
    """A line for each reason, however many tests were skipped for it."""
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    return [f"skipped {count}: {reason}" for reason, count in reasons.most_common()]
