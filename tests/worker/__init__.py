"""What the tests of a running handler share."""

import math

from functions.worker.child import Work
from functions.worker.messages import Begin, Message, Ready
from tests.waiting import eventually


def lets_begin(work: Work) -> None:
    assert next_message(work) == Ready()
    work.send(Begin(until=math.inf))


def first_message(work: Work) -> Message:
    """What the handler says first, once it may begin."""
    lets_begin(work)
    return next_message(work)


def next_message(work: Work) -> Message:
    message: Message = eventually(lambda: work.receive(1), 20)
    return message
