"""A tool that a test needs and that is not here: said loudly, and under CI=true a failure, since
nobody reads what CI skips."""

import os
from typing import NoReturn

import pytest


def missing(how: str) -> NoReturn:
    """`how` names the tool and the way to get it."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(how)
