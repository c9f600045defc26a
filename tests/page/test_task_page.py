"""The page of a task: what happens next and when, a timeline whose work can be seen, what a reason
means, the log of an attempt, and a new run with another input."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import unquote

import pytest

from functions.core.record import replace
from functions.core.redact import HIDDEN
from functions.page import timeline
from functions.page.reasons import REASONS
from functions.store.page_answers import Timeline, Unguarded
from tests.page.here import Here, read, served

HOUR = 3600.0
BEGIN = 1e6
INPUT = {"prompt": "a red fox", "size": "256x256"}


@pytest.fixture(scope="module")
def here(postgres, tmp_path_factory) -> Iterator[Here]:
    with served(postgres, tmp_path_factory.mktemp("task")) as here:
        yield here


def attempt(number: int, started: float, ended: float | None, **values):
    """Moments count from BEGIN, when the task was created."""
    started, ended = started + BEGIN, ended and ended + BEGIN
    from functions.store.page_answers import TimedAttempt

    fields = dict.fromkeys(TimedAttempt.field_types, None)
    fields |= {"number": number, "tries": number, "started": started, "ended": ended}
    fields |= {"beat": ended or started, "beats": 0, "lease": 30.0, "lease_until": started + 9e9}
    return TimedAttempt(**fields | values)


def drawing(*attempts, now: float, is_open: bool = False):
    return timeline.draw(Timeline(now + BEGIN, BEGIN, None, list(attempts), []), is_open=is_open)


def test_work_can_be_seen_however_long_the_wait_was():
    drawn = drawing(attempt(1, 10 * HOUR, 10 * HOUR + 20, outcome="completed"), now=11 * HOUR)
    (row,) = drawn.rows
    run = next(part for part in row.parts if part.kind == "run")
    assert run.width > 60
    assert len(drawn.cuts) == 1
    assert "10h" in [label for _, label in drawn.ticks]
    assert run.x + run.width == pytest.approx(100)


def test_a_wait_that_is_not_long_is_to_scale():
    drawn = drawing(attempt(1, 20.0, 40.0, outcome="completed"), now=99.0)
    (row,) = drawn.rows
    run = next(part for part in row.parts if part.kind == "run")
    assert (drawn.cuts, run.x, run.width) == ([], 50.0, 50.0)


def test_the_last_run_has_its_wait_and_its_length():
    first = attempt(1, 5.0, 9.0, outcome="retried", retry_at=BEGIN + 20)
    second = attempt(2, 21.5, 24.0, outcome="completed")
    times = Timeline(BEGIN + 99, BEGIN, None, [first], [])
    assert timeline.lengths(times) == (5.0, 4.0)
    assert timeline.lengths(Timeline(BEGIN + 99, BEGIN, None, [first, second], [])) == (1.5, 2.5)
    assert timeline.lengths(Timeline(BEGIN + 99, BEGIN, None, [], [])) == (None, None)


def test_a_run_that_began_by_a_clock_that_is_ahead_is_drawn_within_the_strip():
    ahead = Unguarded(BEGIN + 200, None, None)
    times = Timeline(BEGIN, None, None, [], [], unguarded=ahead)
    (row,) = timeline.draw(times, is_open=True).rows
    assert [(part.kind, part.width) for part in row.parts] == [("run", 0.0)]
    over = replace(times, unguarded=Unguarded(BEGIN + 200, None, BEGIN + 100))
    assert timeline.lengths(over) == (None, None)


def test_a_wait_of_a_moment_is_to_scale_however_short_the_work_was():
    drawn = drawing(attempt(1, 0.9, 0.91, outcome="completed"), now=1.0)
    assert drawn.cuts == []


def test_moments_stay_in_order_on_a_scale_with_short_waits():
    attempts = [
        attempt(1, 5.0, 9.0, outcome="retried"),
        attempt(2, 9 * HOUR, 9 * HOUR + 4, outcome="retried"),
        attempt(3, 30 * HOUR, None),
    ]
    drawn = drawing(*attempts, now=30 * HOUR + 7, is_open=True)
    ends = [(part.x, part.x + part.width) for row in drawn.rows for part in row.parts]
    assert ends == sorted(ends)
    assert len(drawn.cuts) == 2
    places = [place for place, _ in drawn.ticks]
    assert places == sorted(places)
    assert all(later - earlier > 7 for earlier, later in pairwise(places))


def test_it_says_what_happens_next_and_when(here):
    task = here.insert(kind="image", scheduled_at="2999-01-01 00:00+00")
    text = here.get(f"/tasks/{task}")
    next_line = re.search(r'<p class="next">(.*?)</p>', text, re.DOTALL)[1]
    assert "a worker may take it" in read(next_line)
    assert 'datetime="2999-01-01T00:00:00+00:00"' in next_line
    failed = here.failed("No paper.")
    assert 'class="next"' not in here.get(f"/tasks/{failed}")


def test_a_reason_leads_to_what_it_means(here):
    task = here.failed("No paper.")
    assert 'href="/reasons#handler_error"' in here.get(f"/tasks/{task}")
    text = here.get("/reasons")
    assert all(f'<dt id="{reason}">' in text for reason in REASONS)


def test_an_attempt_leads_to_its_log_where_there_is_a_project(here, monkeypatch):
    task = here.failed("No paper.")
    assert "console.cloud.google.com" not in here.get(f"/tasks/{task}")
    monkeypatch.setitem(vars(here.app.settings), "project", "shop-1")
    link = re.search(r'href="(https://console[^"]+)"', here.get(f"/tasks/{task}"))[1]
    assert link.endswith("?project=shop-1")
    query = unquote(link)
    assert f'jsonPayload.task_id="{task}"' in query
    assert len(re.findall(r'timestamp[<>]="\d{4}-\d\d-\d\dT', query)) == 2


def test_an_attempt_leads_to_the_lines_of_its_request_where_its_trace_is_known(here, monkeypatch):
    monkeypatch.setitem(vars(here.app.settings), "project", "shop-1")
    task = here.insert(kind="image")
    here.store.claim(here.watch, task, "worker-1", trace="ab" * 16)
    link = re.search(r'href="(https://console[^"]+)"', here.get(f"/tasks/{task}"))[1]
    assert (
        f'(trace="projects/shop-1/traces/{"ab" * 16}" OR jsonPayload.task_id="{task}")\n'
        'timestamp>="'
    ) in unquote(link)


@pytest.mark.parametrize("trace", ["", "AB" * 16, "ab" * 17, "ab" * 15, '" OR severity>=DEFAULT'])
def test_a_claim_with_a_trace_that_is_none_keeps_none(here, trace):
    task = here.insert(kind="image")
    assert here.store.claim(here.watch, task, "worker-1", trace=trace).verdict == "claimed"
    assert here.store.timeline(here.watch, task).attempts[0].trace is None


def test_a_task_runs_again_with_another_input_and_names_its_parent(here):
    task = here.insert(kind="image", input=json.dumps(INPUT), owner="ann")
    assert "a red fox" in here.get(f"/again/{task}")
    answer = here.post(f"/again/{task}", input=json.dumps(INPUT | {"prompt": "a blue fox"}))
    created = answer.headers["HX-Redirect"].rpartition("/")[2]
    query = "select input, owner, metadata from public.tasks where id = %s"
    row = here.db.execute(query, (created,)).fetchone()
    assert row["input"] == INPUT | {"prompt": "a blue fox"}
    assert (row["owner"], row["metadata"]["parent"]) == ("ann", task)
    assert f"repeats {task[:8]}" in read(here.get(f"/tasks/{created}"))


def test_secrets_that_the_editor_never_saw_go_along(here):
    original = {"month": 5, "api_key": "k-123456", "to": [{"password": "p", "host": "h"}]}
    task = here.insert(kind="image", input=json.dumps(original))
    form = here.get(f"/again/{task}")
    assert "k-123456" not in form
    shown = {"month": 6, "api_key": HIDDEN, "to": [{"password": HIDDEN, "host": "h"}]}
    moved = {"month": 6, "new_place": {"api_key": HIDDEN}}
    refused = here.post(f"/again/{task}", input=json.dumps(moved))
    assert "leave its key out" in read(refused.text)
    here.db.execute("update public.tasks set kind = 'report' where id = %s", (task,))
    answer = here.post(f"/again/{task}", input=json.dumps(shown))
    created = answer.headers["HX-Redirect"].rpartition("/")[2]
    query = "select input from public.tasks where id = %s"
    assert here.db.execute(query, (created,)).fetchone()["input"] == original | {"month": 6}


@pytest.mark.parametrize("text", ["{", "[1]", '{"prompt": 7}'])
def test_an_input_that_is_none_is_told_and_stays_in_the_form(here, text):
    task = here.insert(kind="image", input=json.dumps(INPUT))
    before = here.db.execute("select count(*) from public.tasks").fetchone()
    answer = here.post(f"/again/{task}", input=text)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text
    assert read(answer.text).count("Run it") == 1
    assert here.db.execute("select count(*) from public.tasks").fetchone() == before
