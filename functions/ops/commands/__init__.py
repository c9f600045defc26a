"""One module for each command, with HELP, `arguments(parser)` and `run(options) -> exit code`."""

NAMES = (
    "check", "adopt", "list", "explain", "stats", "sweep", "retry", "requeue", "cancel", "fail", "undo", "sql", "migrate", "demo",
)  # fmt: skip
