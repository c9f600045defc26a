"""One module for each command, with HELP, `arguments(parser)` and `run(options) -> exit code`."""

NAMES = ("check", "adopt", "list", "explain", "sql", "migrate", "demo")
