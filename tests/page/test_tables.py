"""Several tables: the number is the sum, each table has its own in the picker, and the list shows
them together."""

import html
import re
from collections.abc import Iterator

import pytest

from tests.page.here import Here, read, row_ids, served

AGO = "2020-01-01"


def with_films(text: str) -> str:
    """A second table of our own."""
    watch = text[text.index("  tasks:\n") :]
    return text + watch.replace("  tasks:\n", "  films:\n", 1).replace(
        "public.tasks", "public.films"
    )


@pytest.fixture(scope="module")
def here(postgres, tmp_path_factory) -> Iterator[Here]:
    with served(postgres, tmp_path_factory.mktemp("tables"), with_films) as here:
        for _ in range(2):
            here.insert("tasks", kind="poster", scheduled_at=AGO)
        for _ in range(3):
            here.insert("films", kind="trailer", scheduled_at=AGO)
        here.insert("films", kind="credits")
        yield here


def badges(text: str) -> dict[str, str]:
    links = re.findall(r'<a\s+id="table-(\w*)"[^>]*>(.*?)</a>', text, re.DOTALL)
    return {name: read(label) for name, label in links}


def test_the_number_is_the_sum_and_each_table_has_its_own(here):
    text = here.get()
    assert 'data-stuck="5"' in text
    assert badges(text) == {"": "All tables", "tasks": "tasks 2 stuck", "films": "films 3 stuck"}
    assert 'data-stuck="3"' in here.get(watch="films")
    assert "films 3 stuck" in read(here.get(watch="tasks")), "the others stay in sight"


def test_a_pause_from_all_tables_says_of_which(here):
    form = re.search(r'<details class="pause".*?</details>', here.get(), re.DOTALL)[0]
    assert re.findall(r'<option value="(\w+)"', form)[:2] == ["tasks", "films"]
    assert (
        'name="watch"'
        not in re.search(
            r'<details class="pause".*?</details>', here.get(watch="films"), re.DOTALL
        )[0]
    )
    here.post("/pause", watch="films", kind="credits")
    assert "Paused: credits (films)" in read(here.get())
    here.post("/resume", watch="films", kind="credits")


def test_the_handler_that_waiting_tasks_lack_is_named_with_its_place(here):
    text = read(here.get("/part/pulse"))
    assert "no handler for tasks of the kind 'poster'" in html.unescape(text)
    assert "functions/handlers/trailer.py" in text


def test_the_rows_of_all_tables_are_in_one_list_stuck_ones_first(here):
    text = here.get()
    assert len(row_ids(text)) == 6
    assert len(row_ids(here.get(watch="films"))) == 4
    assert read(text).index("trailer films") < read(text).rindex("credits films")
    film = row_ids(here.get(watch="films"))[0]
    assert f'href="/tasks/{film}?watch=films"' in text


def test_a_table_that_cannot_be_read_hides_no_other_and_is_told(here):
    here.db.execute("alter function unstuck.films_pulse(jsonb) rename to films_pulse_gone")
    try:
        text = here.get("/part/pulse")
        assert 'data-stuck="2"' in text
        assert "Not counted, since it could not be read: films." in read(text)
        assert "Something" not in text
    finally:
        here.db.execute("alter function unstuck.films_pulse_gone(jsonb) rename to films_pulse")


def test_kinds_that_occur_can_be_chosen_though_no_rule_names_them(here):
    task = here.insert("films", kind="subtitle")
    claimed = here.store.claim(here.policy.watch("films"), task, "worker-1")
    here.store.settle(here.policy.watch("films"), task, claimed.token, "complete", result={})
    kinds = re.search(r'<select name="kind">(.*?)</select>', here.get(), re.DOTALL)[1]
    values = re.findall(r'value="(\w+)"', kinds)
    assert values == sorted({"poster", "trailer", "credits", "subtitle", "image", "selection"})


def test_the_day_says_how_many_ended_how_well_and_how_long_tasks_waited(here):
    for number in range(4):
        here.failed("No ink.") if number == 0 else _completed(here)
    text = read(here.get("/part/day", watch="tasks"))
    assert "Ended 4 Completed 75.0 % Wait for a worker" in text
    assert "A sample of 4." in text
    assert re.search(r"Wait for a worker [\d.]+( m)?s 95 %: [\d.]+( m)?s Rescued 0", text)


def _completed(here: Here) -> None:
    task = here.insert(kind="poster")
    claimed = here.store.claim(here.watch, task, "worker-1")
    here.store.settle(here.watch, task, claimed.token, "complete", result={})
