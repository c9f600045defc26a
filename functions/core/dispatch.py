"""Dispatch: tells a worker that a task is there (a push). A push may be lost or arrive twice: the
sweep sends a lost one again, and the second claim of a task is refused."""

import heapq
import threading
import time
from collections.abc import Sequence
from contextvars import copy_context
from functools import cached_property
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from functions.core import events
from functions.core.settings import Settings

SHORTEST_DEADLINE_SECONDS, LONGEST_DEADLINE_SECONDS = 15.0, 1800.0
"""Cloud Tasks refuses a task with another `dispatch_deadline`."""
LONGEST_DELAY_SECONDS = 30 * 86400 - 60.0
"""Cloud Tasks refuses a task for later than 30 days from now."""
MAX_POSTS = 64
"""Threads that post to the worker at the same time; the other pushes wait for one of them."""
MOST_REMEMBERED = 10_000
"""Pushes that are known to be repetitions, beside those that wait."""
COME_BACK = 409
"""The worker's answer to a push of which nothing can start yet; `Retry-After` says when."""
LEAST_RETURN_SECONDS = 1.0
MOST_RETURNS = 100
"""Of one push; then it is left to the sweep."""
FLUSH_STEP_SECONDS = 0.05
MAX_PUSHES = 16
"""Pushes to the queue at the same time: one takes 20 to 50 ms, so that is about 400 in a second."""
MOST_ASKED = 3
"""Pushes of a task, beside its first, of which the queue is asked: the latest."""


class Push(NamedTuple):
    watch: str
    task_id: str
    number: int
    delay: float = 0.0


class Dispatcher(Protocol):
    def push(self, watch: str, task_id: str, number: int, delay: float = 0.0) -> None:
        """Asks for the task to be run after `delay` seconds. `number` is the try that the push is
        for: the same push twice is one. Raises DispatchError when it was not accepted."""


class DispatchError(Exception):
    """The push was not accepted; the sweep sends it again."""


class NoDispatch:
    """For workers that pull."""

    def push(self, watch: str, task_id: str, number: int, delay: float = 0.0) -> None:
        pass


class HttpDispatch:
    """Posts to the worker directly, and again where it says when: for one machine. A post lasts as
    long as the work, so it is made by one of a few threads of its own, the push that is due
    first."""

    def __init__(self, url: str, timeout: float = 600.0) -> None:
        self._url, self._timeout = url, timeout
        self._waiting: list[tuple[float, int, str, str, int]] = []
        self._pushed: dict[tuple[str, str, int], None] = {}
        """What was pushed, the oldest first, except what the worker did not take."""
        self._returns: dict[Any, int] = {}
        """How often a push that came too early has come back."""
        self._changed = threading.Condition()
        self._count = 0
        self._threads = 0
        self._idle = 0

    def push(self, watch: str, task_id: str, number: int, delay: float = 0.0) -> None:
        with self._changed:
            if (watch, task_id, number) in self._pushed:
                return
            self._remember(watch, task_id, number)
            self._count += 1
            due = time.monotonic() + delay
            heapq.heappush(self._waiting, (due, self._count, watch, task_id, number))
            self._keep_one_idle()
            self._changed.notify()

    def flush(self, seconds: float) -> None:
        """Waits until what is due was posted and answered, but no longer: its threads end with the
        process."""
        until = time.monotonic() + seconds
        with self._changed:
            while (now := time.monotonic()) < until and self._is_busy(now):
                self._changed.wait(FLUSH_STEP_SECONDS)

    def _is_busy(self, now: float) -> bool:
        return self._idle < self._threads or bool(self._waiting and self._waiting[0][0] <= now)

    def _remember(self, *pushed: Any) -> None:
        """So many at least as wait, so that none of these waits twice."""
        self._pushed[pushed] = None
        if len(self._pushed) > max(MOST_REMEMBERED, 2 * len(self._waiting)):
            waiting = {entry[2:] for entry in self._waiting}
            self._pushed = dict.fromkeys(name for name in self._pushed if name in waiting)
            self._pushed[pushed] = None

    def _come_back(self, wait: float, *pushed: Any) -> None:
        """Its task is held, early, paused or at a limit: once more then, as Cloud Tasks does."""
        with self._changed:
            self._returns[pushed] = self._returns.get(pushed, 0) + 1
            if self._returns[pushed] > MOST_RETURNS:
                self._returns.pop(pushed)
                self._pushed.pop(pushed, None)
                return
            self._count += 1
            due = time.monotonic() + max(wait, LEAST_RETURN_SECONDS)
            heapq.heappush(self._waiting, (due, self._count, *pushed))
            self._keep_one_idle()
            self._changed.notify()

    def _forget(self, *pushed: Any) -> None:
        """The worker did not take it: who asked for it may ask again."""
        with self._changed:
            self._pushed.pop(pushed, None)

    def _keep_one_idle(self) -> None:
        """One thread waits for the next push, however many there are and however far away."""
        if not self._idle and self._threads < MAX_POSTS:
            threading.Thread(target=self._work, daemon=True).start()
            self._threads += 1
            self._idle += 1

    def _work(self) -> None:
        while True:
            self._post(*self._next())
            with self._changed:
                self._idle += 1

    def _next(self) -> tuple[str, str, int]:
        with self._changed:
            while not self._waiting or self._waiting[0][0] > time.monotonic():
                left = self._waiting[0][0] - time.monotonic() if self._waiting else None
                self._changed.wait(left)
            self._idle -= 1
            due = heapq.heappop(self._waiting)
            if self._waiting:
                self._keep_one_idle()
            return due[2:]

    def _post(self, watch: str, task_id: str, number: int) -> None:
        import requests

        try:
            answer = requests.post(
                self._url,
                json={"watch": watch, "task_id": task_id, "number": number},
                timeout=self._timeout,
            )
            if answer.status_code == COME_BACK:
                wait = float(answer.headers.get("Retry-After") or LEAST_RETURN_SECONDS)
                self._come_back(wait, watch, task_id, number)
            elif not answer.ok:
                self._forget(watch, task_id, number)
        except requests.RequestException as error:
            self._forget(watch, task_id, number)
            events.emit(
                events.DISPATCH_FAILED, watch=watch, task_id=task_id, error=type(error).__name__
            )


class CloudTasksDispatch:
    """Google Cloud Tasks over REST (no gRPC channel that a fork could break)."""

    def __init__(self, queue: str, url: str, invoker: str | None, deadline: float) -> None:
        self._queue, self._url, self._invoker = queue, url, invoker
        self._deadline = min(max(deadline, SHORTEST_DEADLINE_SECONDS), LONGEST_DEADLINE_SECONDS)

    @cached_property
    def client(self) -> Any:
        """Made at the first push, after the fork."""
        from google.cloud import tasks_v2

        return tasks_v2.CloudTasksClient(transport="rest")

    def push(self, watch: str, task_id: str, number: int, delay: float = 0.0) -> None:
        from google.api_core.exceptions import Conflict, GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        if not self._url:
            raise DispatchError("TASKS_QUEUE is set, but not where its tasks go. Set WORKER_URL.")
        try:
            self.client.create_task(
                parent=self._queue, task=self._task(watch, task_id, number, delay), timeout=10.0
            )
        except Conflict:
            return  # ALREADY_EXISTS, over REST a plain 409: this push was accepted before
        except (GoogleAPIError, GoogleAuthError, RequestException) as error:
            raise DispatchError(f"{type(error).__name__}: {error}") from error

    def holds(self, watch: str, task_id: str, number: int, within: float) -> bool:
        """Whether that push is in the queue, and is due within so many seconds: it waits for its
        turn, or is being delivered. Cloud Tasks deletes what was delivered or given up. Raises
        DispatchError where it does not say."""
        from google.api_core.exceptions import GoogleAPIError, NotFound
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        name = f"{self._queue}/tasks/{name_of(watch, task_id, number)}"
        try:
            task = self.client.get_task(name=name, retry=None, timeout=10.0)
        except NotFound:
            return False
        except (GoogleAPIError, GoogleAuthError, RequestException) as error:
            raise DispatchError(f"{type(error).__name__}: {error}") from error
        return bool(task.schedule_time.timestamp() <= time.time() + within)

    def _task(self, watch: str, task_id: str, number: int, delay: float) -> dict[str, Any]:
        import datetime
        import json

        request: dict[str, Any] = {
            "http_method": "POST",
            "url": self._url,
            "headers": {"Content-Type": "application/json"},
            "body": json.dumps({"watch": watch, "task_id": task_id, "number": number}).encode(),
        }
        if self._invoker:
            request["oidc_token"] = {
                "service_account_email": self._invoker,
                "audience": audience_of(self._url),
            }
        wait = datetime.timedelta(seconds=min(delay, LONGEST_DELAY_SECONDS))
        return {
            "name": f"{self._queue}/tasks/{name_of(watch, task_id, number)}",
            "schedule_time": datetime.datetime.now(datetime.UTC) + wait,
            "dispatch_deadline": datetime.timedelta(seconds=self._deadline),
            "http_request": request,
        }


def audience_of(url: str) -> str:
    """Whom the token is for: the URL as it is, since a function's own URL has a path, less the
    query: that gives 401 (googleapis/python-tasks#137)."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def name_of(watch: str, task_id: str, number: int) -> str:
    """The name of a push in the queue, the same for the same try. Hashed: a prefix in sequence
    would slow the queue."""
    import hashlib

    return f"{hashlib.sha256(f'{watch}/{task_id}/{number}'.encode()).hexdigest()[:32]}-{number}"


def dispatcher_of(settings: Settings, timeout: float) -> Dispatcher:
    """Cloud Tasks, HTTP or none, as the environment names it; `timeout` seconds for a worker."""
    if settings.queue:
        return CloudTasksDispatch(
            settings.queue, settings.worker_url or "", settings.invoker, timeout
        )
    return HttpDispatch(settings.worker_url, timeout) if settings.worker_url else NoDispatch()


def pushes(dispatcher: Dispatcher) -> bool:
    """False where workers pull: then there is nothing to send again."""
    return not isinstance(dispatcher, NoDispatch)


def push(dispatcher: Dispatcher, watch: str, task_id: str, number: int, delay: float = 0.0) -> bool:
    """Pushes, and says whether it was accepted. What was not is sent again by the sweep."""
    try:
        dispatcher.push(watch, task_id, number, delay)
    except Exception as error:  # noqa: BLE001 - the task is written, and the sweep pushes it again
        text = str(error) if isinstance(error, DispatchError) else repr(error)
        events.emit(events.DISPATCH_FAILED, watch=watch, task_id=task_id, error=text)
        return False
    return True


def push_all(
    dispatcher: Dispatcher, to_push: Sequence[Push], until: float = float("inf")
) -> list[bool]:
    """Pushes several at a time until `until` (time.monotonic), and says of each whether it was
    accepted. The first goes alone, and after a refusal no other follows: a queue that does not
    answer holds up a few pushes, and not one for each task."""
    if not to_push:
        return []
    going_on = push(dispatcher, *to_push[0])
    if len(to_push) == 1 or not going_on:
        return [going_on, *[False] * (len(to_push) - 1)]
    from concurrent.futures import ThreadPoolExecutor

    def attempt(each: Push) -> bool:
        nonlocal going_on
        if not going_on or time.monotonic() >= until:
            return False
        accepted = push(dispatcher, *each)
        going_on = going_on and accepted
        return accepted

    with ThreadPoolExecutor(min(MAX_PUSHES, len(to_push) - 1)) as pool:
        # each thread's events carry the trace of the request
        sent = [pool.submit(copy_context().run, attempt, each) for each in to_push[1:]]
        return [True, *(each.result() for each in sent)]


def still_queued(
    dispatcher: Dispatcher, lost: Sequence[tuple[Push, int]], within: float, until: float
) -> list[bool]:
    """Of each push that seems lost, whether an earlier one of the same task is in the queue and due
    within so many seconds. Each comes with the try that the first push was for. False where the
    queue cannot be asked, does not say, or the time (time.monotonic) is over."""
    if not lost or not isinstance(dispatcher, CloudTasksDispatch):
        return [False] * len(lost)
    from concurrent.futures import ThreadPoolExecutor

    going_on = True

    def ask(each: Push, first: int) -> bool:
        nonlocal going_on
        latest = range(each.number + 1, min(0, each.number + 1 + MOST_ASKED))
        for number in (first, *latest):
            if not going_on or time.monotonic() >= until:
                return False
            try:
                if dispatcher.holds(each.watch, each.task_id, number, within):
                    return True
            except Exception:  # noqa: BLE001 - then the push is sent again, as where nobody can ask
                going_on = False
        return False

    with ThreadPoolExecutor(min(MAX_PUSHES, len(lost))) as pool:
        asked = [pool.submit(ask, each, first) for each, first in lost]
        return [each.result() for each in asked]
