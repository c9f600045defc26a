"""One module for each command, with HELP, `arguments(parser)` and `run(options) -> exit code`."""

NAMES = ("demo", "check", "list", "explain", "sql", "migrate")
