"""How an entry point answers: JSON in, JSON out, and errors that say the next step."""

import json
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from functions.core import events, trace
from functions.entry import request_body
from functions.entry.app import App
from functions.errors import BadRequestError, PolicyError, StoreError

Response = tuple[str, int, dict[str, str]]
LOGGED_STATUSES = {401, 403, 429}
"""Refusals that are logged: 401 and 403 hint at an attack or a wrong key, 429 at a client in a
loop."""
MAX_NESTING_LEVELS = 200
"""Of objects and lists in each other. Python 3.11 reads some 990 at most (measured)."""
HEEDFUL = frozenset({"create_task", "task_status", "claim_task"})
"""Those that notice when the sweep does not run."""
FOR_CLIENTS = {"create_task", "task_status", "cancel_task"}
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def reply(body: Any, status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return json.dumps(body, default=str), status, {"Content-Type": "application/json", **named}


def answer(
    app: App,
    request: Any,
    entry: str,
    methods: tuple[str, ...],
    respond: Callable[[App, Any], Response],
) -> Response:
    """Runs `respond(app, request)` and turns what it raises into an answer. Web pages of
    CORS_ORIGINS may call the entry points that are for clients."""
    cors = _cors(app, request, methods) if entry in FOR_CLIENTS else {}
    if cors and request.method == "OPTIONS":
        return "", 204, cors
    text, status, headers = _answer(app, request, entry, methods, respond)
    return text, status, headers | cors


def _cors(app: App, request: Any, methods: tuple[str, ...]) -> dict[str, str]:
    origin, allowed = request.headers.get("Origin"), app.settings.cors_origins
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


def _heedful(app: App, entry: str, response: Response) -> Response:
    if entry in HEEDFUL:
        app.heed()
    return response


def _answer(
    app: App,
    request: Any,
    entry: str,
    methods: tuple[str, ...],
    respond: Callable[[App, Any], Response],
) -> Response:
    token = trace.current.set(trace.of(request.headers, app.settings.project))
    try:
        if request.method not in methods:
            text = f"{entry} takes {' or '.join(methods)}, not {request.method}."
            return _error("method_not_allowed", text, 405, Allow=", ".join(methods))
        return _heedful(app, entry, respond(app, request))
    except BadRequestError as error:
        if error.status in LOGGED_STATUSES:
            events.emit(events.REQUEST_REFUSED, entry=entry, status=error.status, reason=error.code)
        problem = {"error": {"code": error.code, "message": error.message}}
        return reply(error.more | problem, error.status, **error.headers)
    except StoreError as error:
        events.emit(events.REQUEST_FAILED, entry=entry, error=str(error), detail=error.code)
        if error.retryable:
            text = "The database cannot be reached now. Try again."
            return _error("unavailable", text, 503, Retry_After="5")
        return _error("store", "The database refused. See the log of this function.", 500)
    except PolicyError as error:
        events.emit(events.REQUEST_FAILED, entry=entry, error=str(error), detail=None)
        return _error("policy", "The policy cannot be used. See the log of this function.", 500)
    except Exception as error:  # noqa: BLE001 - the caller gets an answer, the log gets the trace
        events.emit(
            events.REQUEST_FAILED, entry=entry, error=repr(error), detail=traceback.format_exc()
        )
        return _error("internal", "Something is wrong here. See the log.", 500)
    finally:
        trace.current.reset(token)


def _error(code: str, message: str, status: int, **headers: str) -> Response:
    return reply({"error": {"code": code, "message": message}}, status, **headers)


def body(request: Any) -> dict[str, Any]:
    """The JSON object of the request. Raises BadRequestError (400, 408, 413)."""
    request_body.receive(request.environ)
    if problem := request_body.problem(request.environ):
        raise problem
    try:
        fields = json.loads(request.get_data() or b"null")
    except (ValueError, RecursionError):
        raise BadRequestError("The body is not JSON.") from None
    if not isinstance(fields, dict):
        raise BadRequestError("The body must be a JSON object.")
    if _is_nested_deeper(fields, MAX_NESTING_LEVELS):
        raise BadRequestError(f"The body is nested deeper than {MAX_NESTING_LEVELS} levels.")
    if not _is_storable(fields):
        raise BadRequestError(
            "The body holds NaN, NUL or half a surrogate pair, which PostgreSQL cannot store."
        )
    return fields


def _is_nested_deeper(data: Any, levels: int) -> bool:
    """Not by recursion: how deep that may go differs between the Python that creates a task and the
    one that runs it."""
    level = [data]
    for _ in range(levels):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _is_storable(data: Any) -> bool:
    try:
        written = json.dumps(data, ensure_ascii=False, allow_nan=False)
        written.encode()
    except (ValueError, RecursionError):
        return False
    return not _NUL.search(written)


def text(fields: Mapping[str, Any], name: str, *, longest: int = 200) -> str | None:
    """An optional text field. Raises BadRequestError."""
    value = fields.get(name)
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= longest):
        raise BadRequestError(f"`{name}` must be a text of 1 to {longest} characters.")
    return value
