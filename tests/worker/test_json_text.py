"""What a handler hands over becomes JSON as people expect; what cannot says where it is."""

import datetime
import json
import math
import uuid
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path

import pytest

from functions.worker.json_text import MOST_LEVELS, DataError, UnstorableError, encode


def nested(levels):
    value = 1
    for _ in range(levels):
        value = {"in": [value]}
    return value


CYCLE = {"a": [1]}
CYCLE["a"].append(CYCLE)

EXPECTED = [
    (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), "2026-01-02T03:04:00+00:00"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(3, 4), "03:04:00"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Decimal("1.50"), "1.50"),
    ("\N{GRINNING FACE} \\ud", "\N{GRINNING FACE} \\ud"),
    ((1, 2), [1, 2]),
    (nested(MOST_LEVELS // 2 - 1), nested(MOST_LEVELS // 2 - 1)),
]
MISTAKES = [
    ({"tags": {1}}, "result.tags is a set"),
    ({"rows": [{"at": b"x"}]}, "result.rows[0].at is a bytes"),
    ([0.5, math.nan], "result[1] is nan"),
    ({"most": math.inf}, "result.most is inf"),
    ({(1, 2): 3}, "result has the key (1, 2)"),
    (CYCLE, "result.a[1] contains itself"),
    (nested(MOST_LEVELS), "is nested deeper than 500 levels"),
    (nested(100_000), "is nested deeper than 500 levels"),
    ((n for n in range(3)), "result is a generator"),
    ({"text": "a\0"}, "result.text has a NUL"),
    ({"text": "\ud800"}, "result.text has half of a surrogate pair"),
    ({"number": 10**5000}, "result.number has too many digits"),
]


@pytest.mark.parametrize(("value", "expected"), EXPECTED)
def test_values_become_what_people_expect(value, expected):
    assert json.loads(encode({"value": value}, "result", 10_000)) == {"value": expected}


@pytest.mark.parametrize(("value", "mistake"), MISTAKES, ids=[text for _, text in MISTAKES])
def test_what_is_no_json_is_named_with_its_key(value, mistake):
    with pytest.raises(DataError) as error:
        encode(value, "result", 10_000)
    assert mistake in error.value.detail


@dataclass
class Point:
    x: int


class Model:
    """As pydantic has them."""

    def model_dump(self, mode): ...


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        (Point(1), "dataclasses.asdict(it)"),
        (Model(), 'its .model_dump(mode="json")'),
        (Enum("Colour", "RED").RED, "its .value"),
        (datetime.timedelta(1), "its .total_seconds()"),
        (Path("a"), "str(it)"),
        (b"x", "its text, or the address of a file"),
        ({1}, "list(it)"),
        (memoryview(b"x"), "its .tolist()"),
    ],
)
def test_what_people_hand_over_instead_is_said(value, instead):
    with pytest.raises(DataError) as error:
        encode({"it": value}, "result", 10_000)
    assert error.value.detail.endswith(f"which JSON lacks. Hand over {instead}.")


def test_what_is_too_large_says_how_large_it_may_be():
    with pytest.raises(UnstorableError, match="too large") as error:
        encode("x" * 1000, "checkpoint rows", 100)
    assert "1002 bytes" in error.value.detail


def test_the_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    values = [numpy.int64(3), numpy.float32(0.5), numpy.bool_(True), numpy.datetime64("2026-01-02")]
    assert json.loads(encode(values, "result", 1000)) == [3, 0.5, True, "2026-01-02"]
    with pytest.raises(DataError):
        encode(numpy.float32("nan"), "result", 1000)
