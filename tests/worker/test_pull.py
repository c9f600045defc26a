"""A worker that pulls lives through the weather of its database, and ends at once when it was set
up wrongly."""

import threading
from collections.abc import Callable

import pytest

from functions.core.answers import ClaimRefusal, NotClaimed
from functions.core.dispatch import NoDispatch
from functions.core.policy import load
from functions.errors import StoreError
from functions.worker import pull as module
from functions.worker import shutdown
from functions.worker.pull import pull

DEMOTED = StoreError("only reads now", retryable=True, code="25006")
NO_FUNCTION = StoreError("no such function", retryable=False, code="42883")
REFUSED = StoreError("a trigger refuses", retryable=False, code="P0001")
NOTHING = NotClaimed(ClaimRefusal.NONE)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `pull` whose guard answers so, one after another, and is asked to stop then. Returns how
    many answers were not asked for."""
    monkeypatch.setattr(shutdown, "requested", threading.Event())
    monkeypatch.setattr(module.random, "uniform", lambda *_: 0.0)

    def run(*answers: StoreError | NotClaimed, once: bool = False) -> int:
        left = list(answers)

        def guard(*_: object, **__: object) -> NotClaimed:
            answer = left.pop(0)
            if not left:
                shutdown.requested.set()
            if isinstance(answer, StoreError):
                raise answer
            return answer

        monkeypatch.setattr(module, "guard", guard)
        policy = load()
        pull(None, policy, NoDispatch(), [policy.watch()], worker="w", once=once)
        return len(left)

    return run


def test_it_waits_while_the_database_only_reads(rounds):
    assert rounds(DEMOTED, DEMOTED, NOTHING) == 0


@pytest.mark.parametrize("error", [NO_FUNCTION, REFUSED])
def test_after_an_answer_no_error_ends_it(rounds, error):
    assert rounds(NOTHING, error, error, NOTHING) == 0


def test_a_task_that_the_table_refuses_to_start_does_not_end_it(rounds):
    assert rounds(REFUSED, NOTHING) == 0


def test_what_a_person_has_to_change_ends_it_before_the_first_answer(rounds):
    with pytest.raises(StoreError, match="no such function"):
        rounds(NO_FUNCTION, NOTHING)


@pytest.mark.parametrize("error", [NO_FUNCTION, REFUSED, DEMOTED])
def test_with_once_an_error_is_its_end_and_not_a_quiet_success(rounds, error):
    with pytest.raises(StoreError):
        rounds(error, NOTHING, once=True)
