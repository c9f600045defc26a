"""A sample to replace: gets an image from a generation service over HTTP, in two steps with a
checkpoint between them.

From: input {"prompt": str, "size": one of SIZES}; env IMAGE_PROVIDER_URL and, if the service wants
a bearer, IMAGE_PROVIDER_KEY (sent to that service only, not to another host of its images; masked
where it is quoted). To: {"url", "bytes", "width", "height", "sha256"} of a PNG that was fetched and
looked at.

It is paid for once: the order carries the task's id as Idempotency-Key (for a kill before the
checkpoint) and the checkpoint "submitted" keeps the service's id (for a kill after it): no later
attempt orders again.

| what happened                                   | verdict                                     |
|-------------------------------------------------|---------------------------------------------|
| no connection, time limit, 408 409 425 429, 5xx | Retry, after Retry-After: an hour at most   |
| an unexpected body, or an incomplete PNG        | Retry: proxies do that, it costs no money   |
| the link to the image has any status but 200    | Retry: links expire; a poll gives a new one |
| 404 for the id, in the attempt that ordered     | Retry: a replica of the service may lag     |
| 404 for the id, in a later attempt              | Fail: a person decides about paying again   |
| "failed" (content policy), any other status     | Fail                                        |
"""

import hashlib
import itertools
import os
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import requests

from functions.context import Context
from functions.errors import Fail, Retry

SIZES = ("256x256", "512x512", "1024x1024", "1024x1792", "1792x1024")
WORKING = ("queued", "pending", "running", "processing")  # what the service may say while it works
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0  # caps; less when less time remains
MARGIN_SECONDS = 1.0  # kept back, to say Retry before the deadline kills this process
WAITS = (0.2, 0.5, 1.0, 2.0)  # seconds between polls; the last one repeats
SLICE_SECONDS = 0.1  # how soon a wait sees that the work is cancelled
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0\0\0\0IEND\xaeB`\x82"


def handle(ctx: Context, task_input: dict[str, Any]) -> dict[str, Any]:
    """Returns what the module's head says under "To". Raises Fail and Retry as its table says."""
    order = _order(task_input)
    earlier = ctx.done("submitted")
    image_id = (earlier or _submit(ctx, order))["id"]
    image = _finished(ctx, image_id, ordered_now=not earlier)
    data = _fetch(ctx, image["url"])
    return {"url": image["url"], "bytes": len(data), **_measured(data, image)}


def _order(task_input: dict[str, Any]) -> dict[str, str]:
    prompt, size = task_input.get("prompt"), task_input.get("size")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Fail("The prompt is empty. Say in words what the image shows.")
    if size not in SIZES:
        raise Fail(f"The size {size!r} is not available. Choose one of {', '.join(SIZES)}.")
    return {"prompt": prompt, "size": size}


def _submit(ctx: Context, order: dict[str, str]) -> dict[str, str]:
    response = _send(
        ctx,
        "POST",
        f"{_base()}/v1/generations",
        json=order,
        headers={"Idempotency-Key": ctx.task_id},
    )
    submitted = {"id": _agreed(response, "id")["id"]}
    ctx.checkpoint("submitted", submitted)
    ctx.progress(0.2, "ordered")
    return submitted


def _finished(ctx: Context, image_id: str, *, ordered_now: bool) -> dict[str, Any]:
    for wait in itertools.chain(WAITS, itertools.repeat(WAITS[-1])):
        response = _send(ctx, "GET", f"{_base()}/v1/generations/{quote(image_id, safe='')}")
        if response.status_code == 404:
            raise _unknown(ordered_now=ordered_now)
        status = _agreed(response, "status")["status"]
        if status == "succeeded":
            return _agreed(response, "url")
        if status == "failed":
            raise Fail(
                f"The image service refused to make this image. {_error_text(response)}".strip()
            )
        if status not in WORKING:
            raise _nonsense(response, "status")
        ctx.progress(0.5, "the service is working")
        _pause(ctx, wait)
    raise AssertionError  # the waits never end


def _unknown(*, ordered_now: bool) -> Retry | Fail:
    if ordered_now:
        return Retry(
            "The image service does not know the image yet.",
            detail="404 for an id it has just given",
        )
    detail = "404 for an earlier attempt's id; not ordered again, since it might be charged twice"
    return Fail("The image service lost the image. Please order it again.", detail=detail)


def _fetch(ctx: Context, url: str) -> bytes:
    ctx.progress(0.8, "fetching the image")
    response = _send(ctx, "GET", url)
    if response.status_code != 200:
        detail = f"the link answered {response.status_code}"
        raise Retry(
            "The image could not be downloaded.", detail=detail, after=_retry_after(response)
        )
    return bytes(response.content)


def _measured(data: bytes, image: dict[str, Any]) -> dict[str, Any]:
    """Returns width and height (pixels) and sha256. Raises Retry if it is not the PNG announced."""
    if not data.startswith(PNG_START) or PNG_END not in data:
        raise Retry("The image arrived damaged.", detail=f"{len(data)} bytes are not a whole PNG")
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    measured = {"width": width, "height": height, "sha256": hashlib.sha256(data).hexdigest()}
    differing = [name for name in measured if image.get(name) not in (None, measured[name])]
    if differing:
        detail = f"not as announced: {', '.join(differing)}"
        raise Retry("The image arrived damaged.", detail=detail)
    return measured


def _send(
    ctx: Context, method: str, url: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Any:
    """Sends one request within the time that remains. `from None`: causes quote the key and signed
    links."""
    _go_on(ctx)
    try:
        return requests.request(
            method, url, headers=(headers or {}) | _bearer(url), timeout=_limits(ctx), **more
        )
    except ValueError as exc:  # no request can be made of this address or key
        # A link comes from the service, and the next one may be sound.
        verdict = Fail if _ours(url) else Retry
        message = "The image service is not set up correctly."
        raise verdict(message, detail=type(exc).__name__) from None
    except requests.Timeout as exc:
        raise Retry(
            "The image service did not answer in time.", detail=type(exc).__name__
        ) from None
    except requests.RequestException as exc:
        raise Retry("The image service cannot be reached.", detail=type(exc).__name__) from None


def _limits(ctx: Context) -> tuple[float, float]:
    """Seconds to connect, and to wait for bytes: together no more than remain."""
    left = max(ctx.remaining() - MARGIN_SECONDS, SLICE_SECONDS)  # requests refuses 0
    connect = min(CONNECT_SECONDS, left / 3)
    return connect, min(READ_SECONDS, left - connect)


def _go_on(ctx: Context) -> None:
    if ctx.cancelled():
        raise Retry("The work was interrupted.", detail="cancelled", after=0)
    if ctx.remaining() <= MARGIN_SECONDS:
        raise Retry(
            "The image was not ready in time.", detail="the time of this attempt is used up"
        )


def _pause(ctx: Context, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        _go_on(ctx)
        time.sleep(min(left, SLICE_SECONDS))


def _agreed(response: requests.Response, field: str) -> dict[str, Any]:
    """Returns the answer if it has a text in `field`, as agreed. Raises the verdict on any other
    answer."""
    if not response.ok:
        raise _verdict(response)
    answer = _decoded(response)
    if not isinstance(answer.get(field), str) or not answer[field]:
        raise _nonsense(response, field)
    return answer


def _nonsense(response: requests.Response, field: str) -> Retry:
    detail = f"answered {response.status_code} without a usable {field!r}"
    return Retry("The image service gave an answer that makes no sense.", detail=detail)


def _verdict(response: requests.Response) -> Retry | Fail:
    status, error = response.status_code, _error_text(response)
    detail = f"{response.request.method} answered {status} {error}".strip()
    if status in {408, 409, 425, 429} or status >= 500:
        return Retry("The image service is busy.", detail=detail, after=_retry_after(response))
    if status in {401, 403, 404}:
        return Fail("The image service is not set up correctly.", detail=detail)
    return Fail(f"The image service refused the order. {error}".strip(), detail=detail)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds, from a number or an HTTP date; None if neither. An hour at most: a task must end
    soon."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        date = None if text.isdecimal() else parsedate_to_datetime(text)
        seconds = (date - datetime.now(UTC)).total_seconds() if date else float(text)
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), 3600.0)


def _error_text(response: requests.Response) -> str:
    """The service's own words on an error, 200 characters at most."""
    error = _decoded(response).get("error") or ""
    text = str(error.get("message", "") if isinstance(error, dict) else error)
    return (text.replace(_key(), "***") if _key() else text)[:200]


def _decoded(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _base() -> str:
    base = os.environ.get("IMAGE_PROVIDER_URL", "").strip().rstrip("/")
    if not base.startswith(("http://", "https://")):
        detail = "set IMAGE_PROVIDER_URL to the http(s) address of the service, without /v1"
        raise Fail("Image generation is not set up: IMAGE_PROVIDER_URL is missing.", detail=detail)
    return base


def _key() -> str:
    return os.environ.get("IMAGE_PROVIDER_KEY", "").strip()  # secrets like to end with a newline


def _bearer(url: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {_key()}"} if _key() and _ours(url) else {}


def _ours(url: str) -> bool:
    return url.startswith(f"{_base()}/")
