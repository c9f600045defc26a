"""The list: what a task is about, the order, days, a search, failures by what they say, and counts.
Each by the address alone."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.page.here import Here, read, row_ids, served

REFUSALS = [
    "The image service refused request 1042.",
    "The image service refused request 977.",
    "The image service refused request 3f2b8c1e-0d1a-4c55-9d57-0d3d53c2d9aa.",
]


def with_labels(text: str) -> str:
    return text.replace(
        "        pending_for: 15m ", "        label: input.title\n        pending_for: 15m "
    ).replace(
        "      image:\n",
        "      image:\n        label: input.prompt\n      login:\n        label: input.password\n",
    )


@pytest.fixture(scope="module")
def here(postgres, tmp_path_factory) -> Iterator[Here]:
    with served(postgres, tmp_path_factory.mktemp("list"), with_labels) as here:
        yield here


@pytest.fixture(autouse=True)
def nothing_left(here):
    yield
    here.db.execute("truncate public.tasks")
    here.db.execute("truncate unstuck.attempts cascade")


def prompt(text: str) -> str:
    return json.dumps({"prompt": text})


def test_a_task_is_named_by_the_label_of_its_kind_and_a_secret_is_none(here):
    here.insert(kind="image", input=prompt("a red fox"))
    here.insert(kind="report", input='{"title": "May in numbers", "x": 1}')
    here.insert(kind="login", input='{"password": "hunter2hunter2"}')
    here.insert(kind="image", input=prompt("Bearer abcdefgh12345"))
    text = here.get()
    assert {"a red fox", "May in numbers"} <= set(
        re.findall(r'class="about" title="([^"]*)"', text)
    )
    assert "hunter2" not in text
    assert "abcdefgh12345" not in text


def test_a_label_that_is_large_is_not_read(here):
    here.db.execute(
        "insert into public.tasks (kind, input) select 'image', jsonb_build_object('prompt', "
        "(select string_agg(md5(n::text), '') from generate_series(1, 2000) n))"
    )
    assert 'class="about"' not in here.get()


def test_a_state_is_sorted_both_ways_and_pages_follow_without_a_gap(here):
    failed = [here.failed(f"No {number}.", "image") for number in range(5)]
    waiting = [
        here.insert(kind="image", scheduled_at=f"2999-01-0{number}") for number in range(1, 5)
    ]
    assert row_ids(here.get(state="failed")) == failed[::-1]
    assert row_ids(here.get(state="failed", order="reverse")) == failed
    assert row_ids(here.get(state="pending")) == waiting
    assert row_ids(here.get(state="pending", order="reverse")) == waiting[::-1]
    pages, after = [], None
    while True:
        page = here.store.page(here.watch, {"state": "failed", "order": "reverse"}, 2, after)
        pages += [task.task_id for task in page.tasks]
        if (after := page.next) is None:
            break
    assert pages == failed


def test_the_rows_of_a_page_are_sorted_by_each_column_both_ways(here):
    late = here.insert(kind="banner", scheduled_at="2026-01-02")
    early = here.insert(kind="album", scheduled_at="2026-01-01")
    tried = here.failed("No paper.", kind="cover")
    orders = {"kind": [early, late, tried], "for": [tried, late, early], "attempt": [tried]}
    for column, expected in orders.items():
        assert row_ids(here.get(sort=column))[: len(expected)] == expected
    assert row_ids(here.get(sort="-kind")) == [tried, late, early]
    assert row_ids(here.get(sort="nonsense")) == row_ids(here.get())
    text = here.get(state="failed", sort="kind")
    assert text.count("aria-sort") == 1
    assert "This page sorted by kind" in read(text)
    assert "sort=-kind" in text
    confirm = read(here.get("/confirm", action="retry", state="failed", sort="kind"))
    assert ("Retry 1 task?" in confirm, "sort=" in confirm) == (True, False)


def test_a_column_without_an_index_says_that_it_is_no_order(here):
    assert "The whole list is sorted within one state" in here.get()
    assert 'aria-sort="descending"' in here.get(state="failed")
    assert "aria-sort" not in here.get(state="running")


def test_days_bound_what_is_shown(here):
    old, new = here.failed("Old."), here.failed("New.")
    here.db.execute(
        "update unstuck.attempts set ended_at = '2026-03-05 12:00+00' where task_id = %s", (old,)
    )
    for state in ("failed", ""):
        assert row_ids(here.get(state=state, since="2026-03-05", until="2026-03-05")) == [old]
        assert row_ids(here.get(state=state, since="2026-03-06")) == [new]
    assert row_ids(here.get(since="yesterday")) == []
    later = here.insert(kind="image", scheduled_at="2999-06-01")
    assert row_ids(here.get(state="pending", since="2999-06-01", until="2999-06-01")) == [later]
    assert row_ids(here.get(state="pending", until="2998-12-31")) == []


def test_a_search_finds_errors_and_inputs_and_tells_no_secret(here):
    refused = here.failed("The image service refused.", input=prompt("a blue whale"))
    secret = here.insert(kind="image", input='{"api_key": "k-9876543210", "prompt": "a fox"}')
    assert row_ids(here.get(text="SERVICE REFUSED")) == [refused]
    assert row_ids(here.get(text="blue whale", state="failed")) == [refused]
    assert row_ids(here.get(text="a fox")) == [secret]
    assert row_ids(here.get(text="k-98765")) == []
    assert row_ids(here.get(text="100%_")) == []


def test_failures_are_counted_by_what_they_say(here):
    for number in range(7):
        here.failed(REFUSALS[number % 3])
    other = here.failed("The printer has no paper.", "report")
    text = here.get("/part/failures")
    assert re.findall(r"(\d+) .</strong>\s*(\w+ \w+)", text) == [
        ("7", "The image"),
        ("1", "The printer"),
    ]
    assert "8 failed in the last 24 h, with 2 messages" in read(text)
    link = re.search(r'href="([^"]*printer[^"]*)"', text)[1].replace("&amp;", "&")
    assert row_ids(here.client.get(link).text) == [other]


def test_an_action_for_all_moves_those_of_the_message_and_is_never_wider_than_the_list(here):
    refused = [here.failed(error) for error in REFUSALS]
    other = here.failed("The printer has no paper.")
    form = {"action": "retry", "message": "The image service refused request #.", "of": "9"}
    assert "3 of 9 started again" in read(here.post("/act", **form).text)
    states = {
        row["id"]: row["status"]
        for row in here.db.execute("select id::text, status from public.tasks")
    }
    assert states == dict.fromkeys(refused, "pending") | {other: "failed"}
    for name, value in {"text": "printer", "since": "2020-01-01", "until": "2999-01-01"}.items():
        answer = here.post("/act", action="retry", state="failed", of="9", **{name: value})
        assert answer.status_code == 400


def test_a_page_says_which_rows_it_shows_and_of_how_many(here):
    here.db.execute("insert into public.tasks (kind) select 'image' from generate_series(1, 70)")
    text = here.get(state="pending")
    assert "1 to 50" in read(text)
    following = re.search(r'rel="next" href="([^"]+)"', text)[1].replace("&amp;", "&")
    assert "51 to 70" in read(here.client.get(following).text)
    assert read(here.get("/part/count", state="pending")) == "of 70"
    assert read(here.get("/part/count", state="completed")) == ""


def test_a_row_says_what_may_be_done_with_it(here):
    here.failed("No paper.")
    here.insert(kind="image")
    assert set(re.findall(r'data-can="([^"]*)"', here.get())) == {"retry", "cancel fail"}


def test_a_task_that_is_started_again_is_listed_once(here):
    task_id = here.failed("No toner.")
    here.store.operate(here.watch, "retry", [task_id])
    assert row_ids(here.get()).count(task_id) == 1
    assert task_id not in row_ids(here.get(state="failed"))
