"""The page as a Flask application: its parts, its errors, and the headers of each answer."""

import traceback
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, render_template, request

from functions.core import events
from functions.core.explain import headline, span
from functions.core.progress import progress_of
from functions.core.redact import redacted_text
from functions.errors import BadRequestError, PolicyError, StoreError
from functions.page import actions, run_again, views
from functions.page.current import ASSETS, Page, link, named_watch, page, short
from functions.page.reasons import REASONS
from functions.page.timeline import brief

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create(page: Page) -> Flask:
    app = Flask(
        "functions.page",
        static_folder="static",
        static_url_path=f"/{ASSETS}",
        template_folder="templates",
    )
    app.config["PAGE"] = page
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters |= {
        "span": _span,
        "brief": brief,
        "headline": headline,
        "moment": _moment,
        "short": short,
        "progress": progress_of,
    }
    app.jinja_env.filters["redact"] = lambda text: redacted_text(text or "", page.redact)
    for blueprint in (views.blueprint, actions.blueprint, run_again.blueprint, *page.extras):
        app.register_blueprint(blueprint)
    app.context_processor(_context)
    app.after_request(_guarded)
    app.register_error_handler(Exception, _failed)
    return app


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else span(seconds)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)


def _context() -> dict[str, Any]:
    current = page()
    try:
        watches = list(current.policy().watches)
    except PolicyError:  # the page of the error itself
        watches = []
    return {
        "link": link,
        "write": current.write,
        "dev": current.dev,
        "part": bool(request.headers.get("HX-Request")),
        "watches": watches,
        "known_reasons": REASONS,
        "watch_name": named_watch(),
        "all_at_once": len(watches) > 1 and not named_watch(),
    }


def _guarded(response: Response) -> Response:
    response.headers.update(HEADERS)
    is_asset = request.path.startswith(f"/{ASSETS}/")
    response.headers["Cache-Control"] = "no-cache" if is_asset else "no-store"
    return response


def _failed(error: Exception) -> tuple[str, int] | Any:
    """What a person reads when a request failed, with the next step; the log has the rest."""
    from werkzeug.exceptions import HTTPException, NotFound

    match error:
        case NotFound() if error.description == NotFound.description:
            status, text = 404, "There is no such page."
        case HTTPException():
            status, text = error.code or 500, str(error.description)
        case BadRequestError():
            status, text = error.status, error.message
        case StoreError() if error.retryable:
            status = 503
            text = "The database cannot be reached now. This page tries again by itself."
        case StoreError() | PolicyError():
            status, text = 500, str(error)
        case _:
            status, text = 500, "Something is wrong here. See the log of this function."
    if status >= 500:
        detail = None if isinstance(error, StoreError | PolicyError) else traceback.format_exc()
        events.emit(events.REQUEST_FAILED, entry="page", error=str(error), detail=detail)
    if request.headers.get("HX-Request"):
        return Response(text, status, mimetype="text/plain")
    return render_template("error.html", text=text, status=status), status
