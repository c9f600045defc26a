"""A table that somebody has had for long, with words of its own: what ended before the guard came,
what runs beside it, and errors that are whole tracebacks."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.page.here import Here, read, row_ids, served
from tests.sweep.steps import sweep

BEFORE = """
create table public.scans (
  number bigint generated always as identity (start with 700) primary key,
  clinic text not null,
  organ text not null,
  stage text not null default 'lined_up'
    check (stage in ('lined_up', 'scanning', 'stored', 'broken', 'too_dark')),
  options jsonb not null,
  failure text,
  born timestamptz not null default now(),
  begun timestamptz,
  over timestamptz
);
"""
WATCH = """
  scans:
    table: public.scans
    key: number
    key_type: bigint
    status: stage
    words:
      pending: [lined_up]
      running: [scanning]
      completed: [stored]
      failed: [broken, too_dark]
    columns: {kind: organ, input: options, owner: clinic, error: failure}
    clocks: {queued: [born], started: [begun], alive: [begun, born], finished: [over]}
    ended: [over]
    types: {options: jsonb}
    rules:
      "*":
        label: input.patient
        pending_for: 1h
        redispatch_after: 2m
        run_for: 1m
        silent_for: 30m
        attempts: 3
        backoff: {first: 2s, factor: 4, max: 5m}
        on_lost: retry
        on_error: retry
        isolation: process
        memory: 400MB
"""
TRACEBACK = """Traceback (most recent call last):
  File "/srv/scan.py", line 12, in scan
    lamp.light(watts)
lamp.LampError: the bulb of lamp 4 is gone"""


@pytest.fixture(scope="module")
def here(postgres, tmp_path_factory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("adopted")
    with served(postgres, folder, lambda text: text + WATCH, BEFORE) as here:
        here.watch = here.policy.watch("scans")
        yield here


@pytest.fixture(autouse=True)
def nothing_left(here):
    yield
    here.db.execute("truncate public.scans")
    here.db.execute("truncate unstuck.attempts cascade")


def scan(here: Here, stage: str = "lined_up", failure: str | None = None) -> str:
    """Born two minutes ago; what is not lined up began a minute ago, and is over since 20 s."""
    row = here.db.execute(
        """
        insert into public.scans (clinic, organ, options, stage, failure, born, begun, over)
        select 'north', 'heart', '{"patient": "a tired horse"}', stage, failure,
          now() - interval '2 min',
          case when stage <> 'lined_up' then now() - interval '60 s' end,
          case when stage not in ('lined_up', 'scanning') then now() - interval '20 s' end
        from (select %s as stage, %s as failure) s
        returning number::text as id
        """,
        (stage, failure),
    ).fetchone()
    assert row
    return str(row["id"])


def broken(here: Here) -> str:
    """Failed by our guard."""
    task = scan(here)
    claimed = here.store.claim(here.watch, task, "worker-1")
    here.store.settle(here.watch, task, claimed.token, "fail", reason="x", error="No film.")
    return task


def test_a_state_shows_all_that_an_action_for_it_moves(here):
    before = [scan(here, "broken", "No lamp."), scan(here, "too_dark")]
    guarded = broken(here)
    scan(here, "stored")
    text = here.get(watch="scans", state="failed")
    assert row_ids(text) == [guarded, *before]
    assert "Retry 3 tasks?" in read(
        here.get("/confirm", watch="scans", action="retry", state="failed")
    )
    assert read(here.get("/part/count", watch="scans", state="failed")) == "(1 under the guard)"


def test_only_what_is_in_the_order_of_its_times_is_headed_as_sorted(here):
    for state, is_sorted in {"pending": True, "failed": False, "elsewhere": False}.items():
        text = here.get(watch="scans", state=state)
        assert ("aria-sort" in text) == is_sorted
        assert ("then the rest, by its key" in text) != is_sorted


def test_the_reason_of_a_try_is_not_that_of_an_end_by_others(here):
    guarded, task = broken(here), scan(here)
    claimed = here.store.claim(here.watch, task, "worker-1")
    here.store.settle(here.watch, task, claimed.token, "retry", reason="x", error="No film.")
    here.db.execute("update public.scans set stage = 'broken' where number = %s", (task,))
    for by in ({"reason": "x"}, {"message": "No film."}):
        query = {"watch": "scans", "state": "failed"} | by
        assert row_ids(here.get(**query)) == [guarded]
        assert "Retry 1 task?" in read(here.get("/confirm", action="retry", **query))


def test_a_word_is_accepted_for_its_state_and_one_of_several_means_that_alone(here):
    dark, lost = scan(here, "too_dark"), scan(here, "broken")
    assert row_ids(here.get(watch="scans", state="too_dark")) == [dark]
    assert row_ids(here.get(watch="scans", state="broken")) == [lost]
    assert 'id="all"' not in here.get(watch="scans", state="too_dark"), "an action would be wider"
    done = scan(here, "stored")
    assert row_ids(here.get(watch="scans", state="stored")) == [done]
    text = here.get(state="stored")  # of all tables
    assert row_ids(text) == [done]
    assert '<option value="stored" selected>' in text


def test_a_search_finds_what_ended_before_the_guard_came(here):
    lost, dark = scan(here, "broken", TRACEBACK), scan(here, "too_dark", "It was night.")
    waiting = scan(here)
    assert row_ids(here.get(watch="scans", text="lamp 4")) == [lost]
    assert row_ids(here.get(watch="scans", text="tired horse")) == [waiting, lost, dark]
    assert row_ids(here.get(watch="scans", kind="heart")) == [waiting, lost, dark]


def test_a_task_that_the_guard_tried_and_its_own_worker_ended_is_listed(here):
    task = scan(here)
    claimed = here.store.claim(here.watch, task, "worker-1")
    here.store.settle(here.watch, task, claimed.token, "retry", reason="transient")
    here.db.execute(
        "update public.scans set stage = 'stored', over = now() where number = %s", (task,)
    )
    assert row_ids(here.get(watch="scans", state="stored")) == [task]
    assert row_ids(here.get(watch="scans", state="elsewhere")) == [task]


def test_what_ended_before_the_guard_came_is_where_the_empty_list_says(here):
    task = scan(here, "stored")
    text = here.get(watch="scans")
    assert row_ids(text) == []
    assert "none has ended under the guard yet" in read(text)
    link = re.search(r'href="([^"]+)">Those that ended without it', text)[1]
    assert row_ids(here.client.get(html.unescape(link)).text) == [task]


def test_the_traceback_of_an_error_is_open_and_its_last_line_is_the_sentence(here):
    task = scan(here, "broken", TRACEBACK)
    text = html.unescape(here.get(f"/tasks/{task}", watch="scans"))
    explanation = read(re.search(r'<p class="explain">(.*?)</p>', text, re.DOTALL)[1])
    assert explanation == "It failed: lamp.LampError: the bulb of lamp 4 is gone"
    assert re.search(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)[1] == TRACEBACK
    row = re.search(
        r'class="what[^>]*>(.*?)</span>', here.get(watch="scans", state="broken"), re.DOTALL
    )
    assert read(row[1]) == "lamp.LampError: the bulb of lamp 4 is gone"


def test_a_run_without_the_guard_has_its_times_and_is_drawn_as_what_it_was(here):
    task = scan(here, "stored")
    text = here.get(f"/tasks/{task}", watch="scans")
    assert len(re.findall(r"<span>(?:created|started|ended) <time", " ".join(text.split()))) == 3
    assert "at work for 40s" in text
    assert "waits for a worker for 1m" in text
    assert "waited 1m took 40s" in read(text)
    assert "it ran without the guard" in read(text)
    running = here.get(f"/tasks/{scan(here, 'scanning')}", watch="scans")
    assert "it runs without the guard" in read(running)
    assert "next attempt" not in running


def test_what_a_sweep_ended_ran_since_its_row_says_so_and_did_not_wait_till_then(here):
    task = scan(here, "scanning")
    here.db.execute(
        "update public.scans set born = now() - interval '50 hours 1 min', "
        "begun = now() - interval '50 hours'"
    )
    sweep(here.store, here.policy)
    page = here.get(f"/tasks/{task}", watch="scans")
    assert "waited 1m took 2d 2h" in read(page)
    assert "waits for a worker for 1m" in page
    assert "silent for 2d 2h" in page
    assert "waited 1m, took 2d 2h" in read(here.get(watch="scans", state="failed"))
    assert here.store.day(here.watch).waits.count == 0


def test_a_row_says_how_long_it_waited_and_took_and_what_it_is_about(here):
    broken(here)
    scan(here, "stored")
    text = here.get(watch="scans", state="failed")
    lengths = read(re.search(r'class="lengths">(.*?)</span>', text)[1])
    assert re.fullmatch(r"waited 2m( \d+s)?, took [\d.]+( m)?s", lengths)
    assert 'class="lengths">took 40s<' in here.get(watch="scans", state="stored")
    task = row_ids(text)[0]
    assert "a tired horse" in here.get(f"/tasks/{task}", watch="scans")


def test_a_sweep_says_what_its_tasks_are_now_in_the_tables_own_word(here):
    task = scan(here, "scanning")
    query = "update public.scans set begun = now() - interval '2 d', born = begun where number = %s"
    here.db.execute(query, (task,))
    done = sweep(here.store, here.policy)
    text = here.get(f"/sweeps/{done.sweep_id}", watch="scans")
    swept = here.get(f"/tasks/{task}", watch="scans")
    assert ('aria-label=""' in swept, "took 0s" in read(swept)) == (False, False)
    assert re.search(rf"{task} heart .* (broken failed|lined_up pending)", read(text))


def test_a_run_of_which_no_time_is_known_is_not_drawn(here):
    task = scan(here, "stored")
    here.db.execute("update public.scans set begun = null, over = born where number = %s", (task,))
    text = here.get(f"/tasks/{task}", watch="scans")
    assert 'aria-label=""' not in text


def test_a_task_that_our_guard_ended_and_others_ended_anew_is_one_row(here):
    task = broken(here)
    here.db.execute("update public.scans set stage = 'stored' where number = %s", (task,))
    assert row_ids(here.get(watch="scans", kind="heart")) == [task]
    assert row_ids(here.get(watch="scans", state="stored")) == [task]


def test_what_ended_without_the_guard_is_found_by_the_time_that_is_shown(here):
    task = scan(here, "stored")
    before_its_end = (datetime.now(UTC) - timedelta(seconds=40)).isoformat()
    assert row_ids(here.get(watch="scans", state="stored", since=before_its_end)) == [task]
    assert row_ids(here.get(watch="scans", state="stored", until=before_its_end)) == []


def test_a_length_that_the_row_does_not_tell_is_not_said(here):
    task, stored = broken(here), scan(here, "stored")
    here.db.execute("alter table public.scans alter born drop not null")
    here.db.execute("update public.scans set born = null where number = %s", (task,))
    here.db.execute(
        "update public.scans set begun = over + interval '9 s' where number = %s", (stored,)
    )
    assert 'class="lengths">took' in here.get(watch="scans", state="failed")
    assert 'class="lengths"' not in here.get(watch="scans", state="stored")
    assert "took" not in read(here.get(f"/tasks/{stored}", watch="scans"))


def test_a_secret_of_several_lines_is_hidden_in_the_sentence_too(here):
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAq1\nZ7hTq0pLw2"
    task = scan(here, "broken", f"Traceback (most recent call last):\nKeyError: {key}")
    for path in (f"/tasks/{task}", f"/json/{task}"):
        assert "Z7hTq0pLw2" not in here.get(path, watch="scans")
    assert "Z7hTq0pLw2" not in here.get(watch="scans", state="failed")
