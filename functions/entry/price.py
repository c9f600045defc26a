"""price: what a task costs, and how the answer says that a hook or an index refused to take it on."""

import re
from http import HTTPStatus
from typing import Any

from functions.core.policy import Watch
from functions.errors import BadRequestError, StoreError


def cost_of(watch: Watch, kind: str, found: dict[str, Any]) -> int:
    """Cents: by the rule of the kind, or `cost` of the request within the rule's bounds. Who sends
    it agrees to that price.

    Raises BadRequestError with 409 when the price is another one.
    """
    rule, given = watch.rule(kind), found.get("cost")
    least, most = rule.cost_at_least, rule.cost_at_most
    if given is None and least == most:
        return least
    price = f"{least}" if least == most else f"from {least} to {most}"
    if isinstance(given, bool) or not isinstance(given, int):
        raise BadRequestError(
            f"`cost` must be whole cents: a task of the kind {kind} costs {price}."
        )
    if not least <= given <= most:
        text = f"A task of the kind {kind} costs {price} cents, not {given}. Show that price and ask again."
        raise BadRequestError(text, status=409, code="price")
    return given


def refused(error: StoreError) -> BadRequestError | None:
    """A hook `on_created` refuses a task by an SQLSTATE that says the HTTP status, as PostgREST
    reads it: PT402. A unique index of yours refuses a second task by 23505; which one is not for
    the caller."""
    if error.code == "23505":
        return BadRequestError(
            "There is such a task already. See which ones are open.", status=409, code="unique"
        )
    match = re.fullmatch(r"PT(4\d\d)", error.code)
    status = next((one for one in HTTPStatus if match and str(one.value) == match[1]), None)
    if status is None:
        return None
    return BadRequestError(str(error).partition(": ")[2], status=status, code=status.name.lower())
