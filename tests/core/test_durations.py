"""One rule for a length of time, in the policy and in every option of the command line."""

import pytest

from functions.core import durations

REFUSED = ["", "soon", "10y", "-5s", "1:30", "1e3", "5 m s", "٣s", "3651d", "9" * 400]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("10", 10),
        ("45s", 45),
        ("0.25h", 900),
        (" 2 h ", 7200),
        (".5d", 43200),
        ("3650d", 315360000),
    ],
)
def test_a_bare_number_counts_seconds_and_a_unit_multiplies_it(text, length):
    assert durations.seconds(text) == length


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_refused_with_the_rule(text):
    with pytest.raises(ValueError, match=r"must be a time above 0, at most 3650d, such as 30s"):
        durations.seconds(text)


def test_no_time_at_all_is_a_time_only_where_it_makes_sense():
    assert durations.seconds("0", or_zero=True) == 0
    with pytest.raises(ValueError, match="above 0"):
        durations.seconds("0s")
