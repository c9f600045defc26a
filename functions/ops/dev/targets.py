"""The entry points of main.py, each as functions-framework serves it when it is deployed, but by
their paths on one port."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from functions.ops.local.servers import ROOT

Wsgi = Callable[..., Iterable[bytes]]
SOURCE = str(ROOT / "main.py")
_NOT_FORWARDED = {"host", "content-length", "connection", "origin", "sec-fetch-site"}
"""Those of the connection, and those by which the front has judged the request."""


def names() -> list[str]:
    """Of the entry points of main.py."""
    from functions_framework import _function_registry as registry

    module, spec = registry.load_function_module(SOURCE)  # type: ignore[no-untyped-call]
    spec.loader.exec_module(module)
    return list(registry.REGISTRY_MAP)


def runs_tasks(target: str) -> bool:
    """Whether an entry point holds tasks. Those are in processes of their own, so that a worker
    that is killed takes its task along and not the page."""
    return target.startswith("work")


def app(target: str) -> Wsgi:
    from functions_framework import create_app

    wsgi: Wsgi = create_app(target, SOURCE)  # type: ignore[no-untyped-call]
    return _rooted(wsgi)


def _rooted(wsgi: Wsgi) -> Wsgi:
    """`/sweep` is the `/` of its function, without a redirect to `/sweep/`."""

    @functools.wraps(wsgi)
    def wrapper(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["PATH_INFO"] = environ["PATH_INFO"] or "/"
        return wsgi(environ, start_response)

    return wrapper


def forward(url: str) -> Wsgi:
    """Hands requests on to the processes that hold tasks."""
    import requests
    from werkzeug.wrappers import Request, Response

    def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        headers = {
            name: value for name, value in request.headers if name.lower() not in _NOT_FORWARDED
        }
        try:
            answer = requests.request(
                request.method,
                url,
                data=request.get_data(),
                headers=headers,
                timeout=None,  # noqa: S113
            )
        except requests.RequestException as error:
            return Response(f"The worker went away: {type(error).__name__}\n", 502)(
                environ, start_response
            )
        kept = {
            name: answer.headers[name]
            for name in ("Content-Type", "Retry-After")
            if name in answer.headers
        }
        return Response(answer.content, answer.status_code, kept)(environ, start_response)

    return wsgi
