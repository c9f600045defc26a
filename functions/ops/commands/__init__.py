"""One module for each command, with HELP, `arguments(parser)` and `run(options) -> exit code`."""

NAMES = (
    "check", "adopt", "list", "show", "watch", "explain", "stats", "sweep", "retry", "requeue",
    "cancel", "fail", "undo", "work", "sql", "migrate", "doctor", "logs", "completion", "dev", "demo",
)  # fmt: skip
