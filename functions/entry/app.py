"""The App: what one process of a deployed function keeps for its whole life. main.py makes it, and
each entry point is given it.

Each part is made when a request first uses it: after gunicorn has forked, and so that a cold start
loads only what is used."""

import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from functions.core.settings import Settings

if TYPE_CHECKING:
    from functions.core.dispatch import Dispatcher
    from functions.core.policy import Policy
    from functions.entry.public_keys import Keys
    from functions.store import Store


HEED_SECONDS = 60.0
"""From the begin of a process until it first looks whether the sweep runs: not in a cold start."""


class App:
    """`environment`: the variables; None for those of the process."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Raises PolicyError for an environment that cannot be meant: then nothing is served."""
        Settings.read(environment)
        self._environment = environment
        self._keys: dict[str, Keys] = {}
        self.heeds_at = time.monotonic() + HEED_SECONDS

    @cached_property
    def settings(self) -> Settings:
        """The environment. With LOG_TRANSPORT=api, log lines go to Cloud Logging from now on."""
        settings = Settings.read(self._environment)
        if settings.log_api:
            from functions.core import events, log_api

            events.write_by(log_api.CloudLogging(settings).write)
        return settings

    @cached_property
    def policy(self) -> "Policy":
        """Raises PolicyError."""
        from functions.core import events
        from functions.core.policy import load

        policy = load(self.settings.policy)
        events.keep_kinds(kind for watch in policy.watches.values() for kind in watch.rules)
        return policy

    @cached_property
    def store(self) -> "Store":
        """Raises StoreError where no database is named."""
        from functions.store import store_of

        return store_of(self.settings)

    @cached_property
    def dispatcher(self) -> "Dispatcher":
        from functions.core.dispatch import dispatcher_of

        return dispatcher_of(self.settings, self.policy.timeout)

    @cached_property
    def worker(self) -> str:
        """The name of this worker in the ledger."""
        from functions.worker.instance import worker_name

        return worker_name(self.settings)

    def heed(self) -> None:
        """Tells when the sweep does not run. A look costs a query, so it is a rare one."""
        if time.monotonic() < self.heeds_at:
            return
        from functions.entry.heed import heed

        self.heeds_at = time.monotonic() + HEED_SECONDS  # for the other threads, meanwhile
        self.heeds_at = time.monotonic() + heed(self.store, self.policy, self.settings)

    def keys(self, url: str) -> "Keys":
        """The public keys of the issuer that publishes them there."""
        from functions.entry.public_keys import Keys

        return self._keys.setdefault(url, Keys(url))
