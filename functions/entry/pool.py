"""pool: a container that pulls the tasks of the kinds whose rule says `runs_on: pool`, in the
guard, until SIGTERM: `python -m functions.entry.pool [KIND ...]`, all of them where no kind is
named. infra/pool.tf runs it as a worker pool of Cloud Run.

No request stands behind it, so no timeout of the platform ends its work; the deadline of the rule
does."""

import sys
from collections.abc import Sequence

from functions.core.policy import Watch
from functions.entry.app import App
from functions.errors import PolicyError, StoreError
from functions.worker.kinds import pool_kinds
from functions.worker.pull import pull, stop_on_signals


def main() -> int:
    """Exit code 0 after SIGTERM; 1 where nothing in the policy or in this image runs on a pool, or
    the configuration is wrong."""
    try:
        return run(App(), sys.argv[1:])
    except (PolicyError, StoreError) as error:
        sys.exit(str(error))


def run(app: App, named: Sequence[str]) -> int:
    """Raises PolicyError and StoreError."""

    def kinds_of(watch: Watch) -> list[str] | None:
        kinds = pool_kinds(watch)
        if not named:
            return kinds
        return [kind for kind in named if kinds is None or kind in kinds]

    watches = [watch for watch in app.policy.watches.values() if kinds_of(watch) != []]
    if not watches:
        raise PolicyError(
            "No rule of the policy says `runs_on: pool` for a kind whose handler is in this image. "
            "Add it, or remove the pool."
        )
    stop_on_signals()
    pull(app.store, app.policy, app.dispatcher, watches, kinds_of, worker=app.worker)
    return 0


if __name__ == "__main__":
    sys.exit(main())
