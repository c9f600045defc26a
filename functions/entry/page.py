"""page: what operators look at. Deployed behind IAM as the function `page`; `unstuck
dev` serves it at `/`.

A Flask application of its own, since functions-framework hands every path to one function. It is
read-only unless PAGE_WRITE is on; each write is checked on the server and logged with who did it.
"""

from functools import lru_cache
from typing import Any

from functions.core import trace
from functions.entry.app import App


def respond(app: App, request: Any) -> Any:
    """Any path of the page. The answer is Werkzeug's Response."""
    from werkzeug.wrappers import Response

    token = trace.current.set(trace.of(request.headers, app.settings.project))
    try:
        return Response.from_app(_flask(app), request.environ)
    finally:
        trace.current.reset(token)


@lru_cache(maxsize=1)
def _flask(app: App) -> Any:
    from functions.page.app import create
    from functions.page.current import Page
    from functions.page.who import caller

    return create(Page(app, caller, write=app.settings.page_write, redact=app.settings.page_redact))
