"""One of the two servers of `dev`, started by it: `front` (the page, and the functions that hold no
task) or `workers`.

It is gunicorn, as functions-framework uses it, on a socket that `dev` has opened and keeps: while
the code is loaded again, requests wait and none is refused. Ends when `dev` ends, even by
SIGKILL."""

import argparse
import getpass
import os
import signal
import sys
from typing import Any

from functions.core.settings import Settings
from functions.ops.dev import targets
from functions.ops.dev.visitors import own_only
from functions.worker.processes import die_with_parent

READY = "unstuck dev: ready"
WORKER_PROCESSES = 4
"""Each runs one task at a time."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("front", "workers"))
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--workers", help="the address of the workers")
    parser.add_argument("--workers-pid", type=int)
    parser.add_argument("--watch-only", action="store_true", help="the page alone, read-only")
    parser.add_argument(
        "--look", action="store_true", help="nothing is installed: look at the tables"
    )
    parser.add_argument("--table")
    options = parser.parse_args(argv)
    die_with_parent(signal.SIGTERM)
    if os.getppid() == 1:  # the parent ended before this was asked for
        sys.exit("dev has ended")
    app = workers() if options.part == "workers" else front(options)
    _serve(own_only(app, Settings.read().cors_origins), options)


def workers() -> targets.Wsgi:
    from werkzeug.exceptions import NotFound
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    mounted = {
        f"/{name}": targets.app(name) for name in targets.names() if targets.runs_tasks(name)
    }
    return DispatcherMiddleware(NotFound(), mounted)


def front(options: argparse.Namespace) -> targets.Wsgi:
    """The page at `/`, and each entry point under its name."""
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    if options.look:
        from functions.ops.dev import look

        return look.create(os.environ["DATABASE_URL"], options.table)
    if options.watch_only:
        return _page(None)
    mounted = {}
    for name in targets.names():
        if targets.runs_tasks(name):
            mounted[f"/{name}"] = targets.forward(f"{options.workers}/{name}")
        else:
            mounted[f"/{name}"] = targets.app(name)
    return DispatcherMiddleware(_page(options.workers_pid), mounted)


def _page(workers_pid: int | None) -> Any:
    """Whoever reaches the port may write: it listens on this machine only."""
    from functions.entry.app import App
    from functions.ops.dev import play
    from functions.page.app import create
    from functions.page.current import Page

    buttons = (
        {
            "extras": (play.blueprint(workers_pid),),
            "dev": {"frozen": play.any_frozen, "at_work": play.is_at_work},
        }
        if workers_pid
        else {}
    )
    return create(
        Page(
            App(),
            lambda _: f"{getpass.getuser()} (local)",
            write=bool(workers_pid),
            **buttons,  # type: ignore[arg-type]
        )
    )


def _serve(app: targets.Wsgi, options: argparse.Namespace) -> None:
    import gunicorn.app.base

    settings: dict[str, Any] = {
        "bind": f"fd://{options.fd}",
        "loglevel": "error",
        "timeout": 0,
        "graceful_timeout": 8,
        "when_ready": lambda _: print(READY, flush=True),
        "control_socket_disable": True,
    }
    if options.part == "workers":
        # one task for each process: a sync worker takes no request while it is busy
        settings |= {"workers": WORKER_PROCESSES, "worker_class": "sync", "post_fork": _name_worker}
    else:
        settings |= {"workers": 1, "threads": 16, "worker_class": "gthread", "keepalive": 5}

    class Application(gunicorn.app.base.BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in settings.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self) -> targets.Wsgi:
            return app

    Application().run()


def _name_worker(_server: Any, worker: Any) -> None:
    """So that the ledger of attempts names the process that has a task."""
    os.environ["K_REVISION"] = f"worker-{worker.pid}"


if __name__ == "__main__":
    main()
