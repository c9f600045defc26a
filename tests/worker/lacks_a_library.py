"""A handler whose library is not installed here."""

import no_such_library_for_unstuck  # type: ignore[import-not-found]  # noqa: F401 - that is the case


def handle(ctx: object, task_input: object) -> None:
    raise AssertionError("it cannot begin")
