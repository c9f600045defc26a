"""A run of the sweep, as the tests ask for it."""

from typing import Any
from unittest.mock import patch

from functions.core.dispatch import Dispatcher, NoDispatch
from functions.core.policy import Policy
from functions.core.settings import Settings
from functions.store import Store
from functions.sweep import sweep as sweeps


def sweep(
    store: Store,
    policy: Policy,
    dispatcher: Dispatcher | None = None,
    *,
    heard_within: float = 0.1,
    stays: bool = False,
    **options: Any,
) -> Any:
    """One run with the environment as it is now, for workers that pull unless there is a
    dispatcher. `heard_within`: seconds in which a worker that lives is heard. `stays`: for those
    that got one more lease, when the budget allows it; it takes as long."""
    settings = Settings.read()
    dispatcher = NoDispatch() if dispatcher is None else dispatcher
    stay_share = sweeps.STAY_SHARE if stays else 0.0
    with (
        patch.object(sweeps, "HEARD_SECONDS", heard_within),
        patch.object(sweeps, "STAY_SHARE", stay_share),
    ):
        return sweeps.sweep(store, policy, dispatcher, settings, **options)
