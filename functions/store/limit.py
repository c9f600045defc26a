"""Ends what has no limit of its own: the search of a host's addresses, which may take a minute."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns or raises; TimeoutError when the time is over. Nothing ends `work` then:
    it goes on in a thread, and nobody hears of it."""
    ended: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            ended.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            ended.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        answer, error = ended.get(timeout=max(0.0, seconds))
    except Empty:
        raise TimeoutError from None
    if error:
        raise error
    return answer
