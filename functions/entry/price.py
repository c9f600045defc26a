"""What a task costs, and the answer when a hook or an index of the owner refuses to take it on."""

import re
from http import HTTPStatus
from typing import Any

from functions.core.policy import Watch
from functions.errors import BadRequestError, StoreError


def cost_of(watch: Watch, kind: str, fields: dict[str, Any]) -> int:
    """Cents: by the rule of the kind, or `cost` of the request within the rule's bounds. A caller
    who sends `cost` agrees to that price.

    Raises BadRequestError: 400 when `cost` is no whole number, or is missing where the rule has a
    range; 409 when it is outside of the rule's bounds.
    """
    rule, cost = watch.rule(kind), fields.get("cost")
    least, most = rule.cost_at_least, rule.cost_at_most
    if cost is None and least == most:
        return least
    price = f"{least}" if least == most else f"from {least} to {most}"
    if isinstance(cost, bool) or not isinstance(cost, int):
        raise BadRequestError(
            f"`cost` must be whole cents: a task of the kind {kind} costs {price}."
        )
    if not least <= cost <= most:
        raise BadRequestError(
            f"A task of the kind {kind} costs {price} cents, not {cost}. "
            "Show that price and ask again.",
            status=409,
            code="price",
        )
    return cost


def refused(error: StoreError) -> BadRequestError | None:
    """A hook `on_created` refuses a task by an SQLSTATE that says the HTTP status, as PostgREST
    reads it: PT402. A unique index of yours refuses a second task by 23505; which one is not for
    the caller."""
    if error.code == "23505":
        return BadRequestError(
            "There is such a task already. See which ones are open.", status=409, code="unique"
        )
    match = re.fullmatch(r"PT(4\d\d)", error.code)
    if match is None or int(match[1]) not in set(HTTPStatus):
        return None
    status = HTTPStatus(int(match[1]))
    return BadRequestError(str(error).partition(": ")[2], status=status, code=status.name.lower())
