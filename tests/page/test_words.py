"""What the page says: moments, lengths of time, and the words of the table."""

import json
import re
from datetime import UTC, datetime

import pytest
import requests

from functions.core.policy import DEFAULT, parse
from functions.page import list_query


@pytest.fixture(scope="module")
def watch():
    """The default watch, with two words for failed tasks."""
    text = DEFAULT.read_text(encoding="utf-8")
    return parse(
        text.replace("failed: [failed]", "failed: [failed, errored]"), "policy.yaml"
    ).watch()


def text_of(answer: requests.Response) -> str:
    """As a person reads it: without markup, one space between words."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


def moments(answer: requests.Response) -> list[datetime]:
    found = re.findall(r'<time datetime="([^"]+)">', answer.text)
    return [datetime.fromisoformat(moment) for moment in found]


def failed_by_its_handler(deployed) -> str:
    """A task that failed with a traceback, at its first try."""
    (task,) = deployed.tasks(1, kind="poster")
    claimed = deployed.store.claim(deployed.watch, task, "printer-1")
    deployed.store.settle(
        deployed.watch,
        task,
        claimed.token,
        "fail",
        reason="handler_error",
        error="The printer has no paper.",
        detail="Traceback (most recent call last):\n  <tray>\nOSError: no paper",
    )
    return task


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=20)


def test_the_list_says_since_when_and_which_length_it_shows(deployed):
    now = datetime.now(UTC)
    (waiting,) = deployed.old(1, kind="leaflet")
    failed_by_its_handler(deployed)
    pending = get(f"{deployed.url}/?kind=leaflet")
    assert "waiting 2d" in text_of(pending)
    assert waiting[:8] in pending.text
    days = [(now - moment).total_seconds() / 86400 for moment in moments(pending)]
    assert 2 in map(round, days)
    assert re.search(r"ended \d+s ago", text_of(get(f"{deployed.url}/?kind=poster")))


def test_a_failed_task_begins_with_its_error_and_its_traceback(deployed):
    task = failed_by_its_handler(deployed)
    answer = get(f"{deployed.url}/tasks/{task}")
    before_the_timeline = answer.text.partition('class="timeline"')[0]
    assert "The printer has no paper." in before_the_timeline
    assert "OSError: no paper" in before_the_timeline
    assert "&lt;tray&gt;" in before_the_timeline
    assert "1 of 3" in text_of(answer)
    assert len(moments(answer)) >= 5  # created, started, ended; and of the attempt
    assert all(
        abs((moment - datetime.now(UTC)).total_seconds()) < 600 for moment in moments(answer)
    )


def test_a_task_can_be_taken_along_as_json_without_its_secrets(deployed):
    (task,) = deployed.tasks(1, kind="poster")
    claimed = deployed.store.claim(deployed.watch, task, "printer-1")
    deployed.store.settle(
        deployed.watch, task, claimed.token, "complete", result={"url": "u", "ssn": "078-05-1120"}
    )
    answer = get(f"{deployed.url}/json/{task}")
    record = json.loads(answer.text)
    assert answer.headers["Content-Type"] == "application/json"
    assert (record["status"]["task_id"], record["status"]["state"]) == (task, "completed")
    assert record["attempts"][0]["worker"] == "printer-1"
    assert "078-05-1120" not in answer.text


def test_the_list_takes_the_word_of_the_table_and_our_state(deployed):
    (task,) = deployed.tasks(1, kind="banner")
    deployed.store.claim(deployed.watch, task, "printer-1")
    for state in ("processing", "running"):
        answer = get(f"{deployed.url}/?kind=banner&state={state}")
        assert task[:8] in answer.text
        assert "processing running" in text_of(answer)
        assert '<option value="running" selected>processing (running)</option>' in answer.text
    assert task[:8] not in get(f"{deployed.url}/?kind=banner&state=failed").text


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("failed", {"state": "failed"}),
        ("errored", {"state": "failed", "word": "errored"}),
        ("processing", {"state": "running"}),
        ("running", {"state": "running"}),
        ("nonsense", None),
    ],
)
def test_a_word_of_a_state_that_has_several_means_that_word_alone(watch, state, expected):
    assert list_query.read({"state": state}, watch).filter == expected
    choices = dict(list_query.states_of([watch]))
    assert choices["failed"] == "failed: failed, errored"
    assert choices["errored"] == "only errored"


def test_an_action_is_never_wider_than_the_word_that_the_list_shows(deployed):
    for state in ("stuck", "nonsense"):
        answer = requests.get(
            f"{deployed.url}/confirm", params={"action": "retry", "state": state}, timeout=20
        )
        assert answer.status_code == 400


def test_an_address_that_leads_nowhere_is_answered_in_our_words(deployed):
    answer = get(f"{deployed.url}/no/such/page")
    assert answer.status_code == 404
    assert "Nothing is here There is no such page. (404) To the tasks" in text_of(answer)


def test_what_nobody_has_yet_says_what_makes_it(deployed):
    assert "No task matches what you chose. Show all" in text_of(
        get(f"{deployed.url}/?kind=nothing-of-this")
    )
