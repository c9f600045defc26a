"""The page in Firefox: what a person does on a bad day, by mouse and by keyboard."""

from collections.abc import Iterator

import pytest

from tests.page.bidi import Firefox, firefox

ROWS = "document.querySelectorAll('.tasks tbody tr[id]').length"
TICKED = "document.querySelectorAll('input[name=id]:checked').length"
ASKS = (
    "document.querySelector('dialog[open] #confirm') !== null"
    " && document.querySelector('.htmx-added') === null"
)
"""The dialog is there, and htmx has taken its form over, which it does 20 ms later."""


GIVEN_UP = {"htmx:afterRequest, [object HTMLElement]", "htmx:sendAbort, [object HTMLElement]"}
"""What htmx says when it gives up a refresh that is on its way for what the person asked since."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Firefox]:
    with firefox() as fox:
        yield fox


@pytest.fixture
def fox(browser: Firefox) -> Iterator[Firefox]:
    """An error of a script fails the test."""
    browser.errors.clear()
    yield browser
    assert set(browser.errors) <= GIVEN_UP


def test_a_list_is_filtered_ticked_by_keys_and_started_again(fox, deployed):
    failed = deployed.failed(3, kind="fox")
    deployed.tasks(2, kind="fox")
    fox.open(f"{deployed.url}/?kind=fox")
    assert fox.run(ROWS) == 5
    fox.run(
        "(s => { s.value = 'failed'; s.dispatchEvent(new Event('change', {bubbles: true})) })"
        "(document.querySelector('select[name=state]'))"
    )
    fox.until(f"{ROWS} === 3 && location.search.includes('state=failed')")
    fox.press("jjx")
    assert fox.run(TICKED) == 1
    fox.run("new Promise(done => document.body.addEventListener('htmx:afterSettle', done))")
    assert fox.run(TICKED) == 1, "a refresh leaves it ticked"
    fox.click("#ticked-retry")
    fox.until(ASKS)
    fox.press("\ue00c")  # Escape
    fox.until("!document.querySelector('dialog').open")
    fox.click("#all-retry")
    fox.until(ASKS)
    fox.click("#confirm")
    fox.until("document.getElementById('toast').textContent === '3 of 3 started again.'")
    assert deployed.states(failed) == {"pending": 3}


def test_a_task_shows_its_error_its_times_and_its_input(fox, deployed):
    (task,) = deployed.failed(1)
    fox.open(f"{deployed.url}/tasks/{task}")
    assert fox.run("document.querySelector('.times time').title").endswith(" UTC")
    fox.click("#payload summary")
    fox.until("document.querySelectorAll('#payload pre').length > 0")
    fox.click("#attempt-1 summary")
    assert fox.run("document.querySelector('#attempt-1').open")
    assert fox.run("document.querySelectorAll('.copy button').length") == 3
