"""A small slice of `make scale`: each part hands back figures."""

import math

from tests.missing import missing
from tests.scale import live, month


def test_live_attempts_hand_back_figures(postgres):
    figures = live.run(postgres, 0.001, counts=(1, 20))
    assert len(figures) == 4 * 2 + 1
    assert all(math.isfinite(figure.value) and figure.value > 0 for figure in figures)


def test_a_month_of_two_days_keeps_what_is_younger_than_a_week():
    if not month.LIBRARIES:
        missing("libfaketime, which moves a database's clock, is not here: apt install faketime")
    figures = {figure.what: figure.value for figure in month.run(tasks=200, days=2)}
    assert figures["public.tasks: rows kept"] == figures["unstuck.attempts: rows kept"] == 200
