"""Each benchmark runs and hands back its figures. Without a word on time: how fast it is, `make
bench` says."""

import importlib
import math

import pytest

from tests.bench import rivals
from tests.bench.__main__ import BENCHMARKS
from tests.bench.figures import Figure, in_turns, table
from tests.missing import missing

TINY = 0.01
ROUNDS = 2
"""Enough to see that a round can follow another: more would only make the figures more exact."""


@pytest.mark.parametrize("name", BENCHMARKS.values())
def test_a_benchmark_hands_back_its_figures(name, postgres, monkeypatch):
    benchmark = importlib.import_module(f"tests.bench.{name}")
    monkeypatch.setattr(benchmark, "ROUNDS", ROUNDS, raising=False)
    figures = benchmark.run(postgres, TINY)
    assert figures
    assert len({figure.what for figure in figures if figure.aim}) == len(
        [figure for figure in figures if figure.aim]
    )
    for figure in figures:
        assert math.isfinite(figure.value), figure
        assert figure.value > 0 or "own cost" in figure.what or figure.unit in {"%", "times"}, (
            figure
        )
    assert table(figures).count("\n") == len(figures)


@pytest.mark.parametrize("rival", rivals.RIVALS, ids=lambda rival: rival.__name__)
def test_the_sql_of_a_rival_is_its_own(rival):
    found = rival()
    if found is None:
        missing(f"{rival.__name__} is not installed: {rivals.HOW}")
    assert found.name in found.schema
    assert found.job.count("\n") == 2, "one line to take a job, one to finish it"
    assert "$1" not in found.job
    assert "%(" not in found.job


@pytest.mark.parametrize(
    ("value", "aim", "met"),
    [(2.4, "< 2.5", True), (2.5, "< 2.5", False), (1.2, ">= 1.2", True), (9, "", None)],
)
def test_an_aim_is_met_or_not(value, aim, met):
    assert Figure("", value, aim=aim).met is met


def test_the_ways_take_turns():
    order = []
    ways = {name: lambda name=name: order.append(name) or 1.0 for name in "ab"}
    assert in_turns(ways, 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert order == ["a", "b", "b", "a"]
