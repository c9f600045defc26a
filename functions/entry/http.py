"""How an entry point answers: JSON in, JSON out, and errors that say the next step."""

import json
import re
import traceback
from collections.abc import Callable
from typing import Any

from functions.core import events, trace
from functions.core.settings import settings
from functions.errors import BadRequestError, PolicyError, StoreError

Response = tuple[str, int, dict[str, str]]
LOGGED = {401, 403, 429}
"""Refusals that an operator wants to see: somebody tries doors, or runs hot."""
MAX_BODY = 1_000_000
"""Bytes. A task's input belongs in a bucket when it is larger than that."""
DEEPEST = 200
"""Levels of objects and lists in each other. Python 3.11 reads some 990 at most (seen)."""
FOR_CLIENTS = {"create_task", "task_status", "cancel_task"}
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def reply(body: Any, status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return json.dumps(body, default=str), status, {"Content-Type": "application/json", **named}


def answer(
    request: Any, entry: str, methods: tuple[str, ...], respond: Callable[[Any], Response]
) -> Response:
    """Runs `respond(request)` and turns what it raises into an answer. Pages of CORS_ORIGINS may
    ask what a client asks."""
    cors = _cors(request, methods) if entry in FOR_CLIENTS else {}
    if cors and request.method == "OPTIONS":
        return "", 204, cors
    text, status, headers = _answer(request, entry, methods, respond)
    return text, status, headers | cors


def _cors(request: Any, methods: tuple[str, ...]) -> dict[str, str]:
    origin, allowed = request.headers.get("Origin"), settings().cors_origins
    if origin is None or not {origin, "*"} & set(allowed):
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": "authorization, content-type",
        "Access-Control-Expose-Headers": "retry-after",
        "Access-Control-Max-Age": "3600",
        "Vary": "Origin",
    }


def _answer(
    request: Any, entry: str, methods: tuple[str, ...], respond: Callable[[Any], Response]
) -> Response:
    token = trace.current.set(trace.of(request.headers, settings().project))
    try:
        if request.method not in methods:
            text = f"{entry} takes {' or '.join(methods)}, not {request.method}."
            return reply(
                {"error": {"code": "method_not_allowed", "message": text}},
                405,
                Allow=", ".join(methods),
            )
        return respond(request)
    except BadRequestError as error:
        if error.status in LOGGED:
            events.emit(events.REQUEST_REFUSED, entry=entry, status=error.status, reason=error.code)
        said = {"error": {"code": error.code, "message": error.message}}
        return reply(error.more | said, error.status, **error.headers)
    except StoreError as error:
        events.emit(events.REQUEST_FAILED, entry=entry, error=str(error), detail=error.code)
        if error.retryable:
            text = "The database cannot be reached now. Try again."
            return reply({"error": {"code": "unavailable", "message": text}}, 503, Retry_After="5")
        return reply(
            {
                "error": {
                    "code": "store",
                    "message": "The database refused. See the log of this function.",
                }
            },
            500,
        )
    except PolicyError as error:
        events.emit(events.REQUEST_FAILED, entry=entry, error=str(error), detail=None)
        text = "The policy cannot be used. See the log of this function."
        return reply({"error": {"code": "policy", "message": text}}, 500)
    except Exception as error:  # noqa: BLE001 - the caller gets an answer, the log gets the trace
        events.emit(
            events.REQUEST_FAILED, entry=entry, error=repr(error), detail=traceback.format_exc()
        )
        return reply(
            {"error": {"code": "internal", "message": "Something is wrong here. See the log."}}, 500
        )
    finally:
        trace.current.reset(token)


def body(request: Any) -> dict[str, Any]:
    """The JSON object of the request. Raises BadRequestError (400, 413)."""
    if (request.content_length or 0) > MAX_BODY:
        raise BadRequestError(
            f"The body is larger than {MAX_BODY} bytes.", status=413, code="too_large"
        )
    data = request.get_data()
    if len(data) > MAX_BODY:  # sent in chunks, without a length
        raise BadRequestError(
            f"The body is larger than {MAX_BODY} bytes.", status=413, code="too_large"
        )
    try:
        found = json.loads(data or b"null")
    except (ValueError, RecursionError):
        raise BadRequestError("The body is not JSON.") from None
    if not isinstance(found, dict):
        raise BadRequestError("The body must be a JSON object.")
    if _deeper(found, DEEPEST):
        raise BadRequestError(f"The body is nested deeper than {DEEPEST} levels.")
    if not _storable(found):
        raise BadRequestError(
            "The body holds NaN, NUL or half a surrogate pair, which PostgreSQL cannot store."
        )
    return found


def _deeper(found: Any, levels: int) -> bool:
    """Not by recursion: how deep that may go differs between the Python that creates a task and the
    one that runs it."""
    level = [found]
    for _ in range(levels):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _storable(found: Any) -> bool:
    try:
        written = json.dumps(found, ensure_ascii=False, allow_nan=False)
        written.encode()
    except (ValueError, RecursionError):
        return False
    return not _NUL.search(written)


def text(found: dict[str, Any], name: str, *, longest: int = 200) -> str | None:
    """An optional text field. Raises BadRequestError."""
    value = found.get(name)
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= longest):
        raise BadRequestError(f"`{name}` must be a text of 1 to {longest} characters.")
    return value
