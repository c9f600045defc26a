"""A run of the sweep, as the tests ask for it."""

from typing import Any

from functions.core.dispatch import Dispatcher, NoDispatch
from functions.core.policy import Policy
from functions.core.settings import Settings
from functions.store import Store
from functions.sweep import sweep as sweeps


def sweep(
    store: Store, policy: Policy, dispatcher: Dispatcher | None = None, **options: Any
) -> Any:
    """One run with the environment as it is now, for workers that pull unless there is a
    dispatcher."""
    settings = Settings.read()
    dispatcher = NoDispatch() if dispatcher is None else dispatcher
    return sweeps.sweep(store, policy, dispatcher, settings, **options)
