"""Prints a line of JSON for each handler of its arguments: why it cannot be used here, and whether
it may be usable elsewhere. In a process of its own: what a module does when it is imported is its
own affair."""

import json
import sys

from functions.core.states import Reason
from functions.worker.child import NotLoadedError, load

MARK = b"unstuck-handler"
"""The begin of our lines: a module may print too."""
REASON_CHARACTERS = 500


def main(handlers: list[str]) -> None:
    for handler in handlers:
        print(f"\n{MARK.decode()} {json.dumps(_mistake(handler))}", flush=True)


def _mistake(handler: str) -> tuple[str | None, bool]:
    try:
        load(handler)
    except NotLoadedError as error:
        first, *more = str(error).splitlines()
        text = f"handler {handler}: {more[-1]}" if more else first
        return text[:REASON_CHARACTERS], error.reason != Reason.NO_HANDLER
    return None, False


if __name__ == "__main__":
    main(sys.argv[1:])
