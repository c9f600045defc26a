"""page: what operators look at. Deployed behind IAM as the function `page`; `python -m functions
dev` serves it at `/`.

A Flask application of its own, since functions-framework hands every path to one function. It is
not in functions/ops, which is never deployed. Read-only unless PAGE_WRITE is on; each write is
checked on the server and logged with who did it."""

from functools import lru_cache
from typing import Any

from functions.core import trace
from functions.core.settings import settings


def respond(request: Any) -> Any:
    """Any path of the page. The answer is Werkzeug's Response."""
    from werkzeug.wrappers import Response

    token = trace.current.set(trace.of(request.headers, settings().project))
    try:
        return Response.from_app(_app(), request.environ)
    finally:
        trace.current.reset(token)


@lru_cache
def _app() -> Any:
    from functions.core.policy import policy
    from functions.page.app import create
    from functions.page.current import Page
    from functions.page.who import caller
    from functions.store import store

    return create(
        Page(store, policy, caller, write=settings().page_write, redact=settings().page_redact)
    )
