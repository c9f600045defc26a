"""What callers name: a task id in the form of its table's key."""

import pytest

from functions.core.policy import DEFAULT, load
from functions.core.record import replace
from functions.entry.fields import task_id_of
from functions.errors import BadRequestError
from tests.entry.steps import NOBODY


@pytest.mark.parametrize(
    ("key_type", "given", "found"),
    [
        ("uuid", NOBODY.upper(), NOBODY),
        ("uuid", NOBODY.replace("-", ""), NOBODY),
        ("uuid", "7", None),
        ("uuid", 7, None),
        ("integer", 7, "7"),
        ("integer", "-07", "-7"),
        ("integer", 2**31 - 1, str(2**31 - 1)),
        ("integer", 2**31, None),
        ("integer", -(2**31), str(-(2**31))),
        ("integer", -(2**31) - 1, None),
        ("integer", "7.5", None),
        ("bigint", 2**31, str(2**31)),
        ("bigint", 2**63 - 1, str(2**63 - 1)),
        ("bigint", 2**63, None),
        ("bigint", "9" * 5000, None),
        ("text", "a/b c", "a/b c"),
        ("text", 7, "7"),
        ("text", "a\0b", None),
        ("text", "\ud800", None),
        ("text", "", None),
        ("text", True, None),
        ("text", None, None),
        ("text", ["a"], None),
        ("text", 7.5, None),
    ],
)
def test_an_id_is_what_the_key_of_its_table_can_be(key_type, given, found):
    watch = replace(load(str(DEFAULT)).watch(), key_type=key_type)
    if found is None:
        with pytest.raises(BadRequestError, match=rf"must be a {key_type}\.|is missing\. Send"):
            task_id_of(watch, given)
    else:
        assert task_id_of(watch, given) == found
