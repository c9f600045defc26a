"""What a handler may raise to say how its task goes on, and what Unstuck itself raises."""

from typing import Any


class Retry(Exception):  # noqa: N818 - a verdict, not a mistake
    """The task cannot be done now but may be later: try again if attempts are left.

    `message` is shown to the user, `detail` to the operator. `after` (seconds) overrides the
    backoff of the rule."""

    def __init__(self, message: str, *, detail: str = "", after: float | None = None) -> None:
        super().__init__(message)
        self.message, self.detail, self.after = (
            str(message),
            str(detail),
            None if after is None else float(after),
        )


class Fail(Exception):  # noqa: N818
    """The task can never be done: fail it at once, whatever attempts are left.

    `message` is shown to the user, `detail` to the operator.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message, self.detail = str(message), str(detail)


class LeaseLostError(BaseException):
    """Another attempt holds the task now: the work must stop. A BaseException, so that `except
    Exception` in a handler cannot swallow it."""


class BadRequestError(Exception):
    """A caller's mistake. `status` is the HTTP status of the answer, `code` a stable word for
    programs, `headers` and `more` what stands beside the error in the answer."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "bad_request",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code = message, status, code
        self.headers, self.more = headers or {}, more


class PolicyError(Exception):
    """policy.yaml cannot be used. The text names the file, the line and the next step."""


class StoreError(Exception):
    """The database refused or could not be reached. `retryable` tells whether the same call may
    succeed later."""

    def __init__(self, message: str, *, retryable: bool, code: str = "") -> None:
        super().__init__(message)
        self.retryable, self.code = retryable, code
