"""Who may call `dev`: programs of this machine, and its own page. Any web page that the developer
has open can send requests to this port, and a page whose name is pointed at 127.0.0.1 could read
the answers too."""

import re
from collections.abc import Iterable
from typing import Any

from functions.entry import request_body
from functions.entry.http import FOR_CLIENTS
from functions.ops.dev.targets import Wsgi
from functions.page.who import is_origin_of

_OWN_HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
"""No name that a stranger can point at this machine. The port may be that of a tunnel."""
READS = {"GET", "HEAD", "OPTIONS"}


def own_only(wsgi: Wsgi, cors_origins: Iterable[str] = ()) -> Wsgi:
    """Refuses the requests of strange pages (403). Pages of `cors_origins` may ask what clients
    ask."""
    from werkzeug.wrappers import Request, Response

    origins = frozenset(cors_origins) - {"*"}

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request_body.receive(environ)
        request = Request(environ)
        problem = _problem(request, origins)
        if problem:
            return Response(f"{problem}\n", 403)(environ, start_response)
        return wsgi(environ, start_response)

    return guarded


def _problem(request: Any, cors_origins: frozenset[str]) -> str:
    """Why it is refused; empty when it is not."""
    host = request.headers.get("Host", "")
    if not _OWN_HOST.fullmatch(host):
        return "This server answers to 127.0.0.1 and localhost alone."
    if request.method in READS:
        return ""
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin in cors_origins and request.path.strip("/") in FOR_CLIENTS:
        return ""
    is_own = origin is None or is_origin_of(origin, host)
    if is_own and site in {None, "same-origin"}:
        return ""
    return "A page of another origin may not write here. Its origin can be put into CORS_ORIGINS."
