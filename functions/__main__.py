"""`python -m functions`: the command line for operators. In one line it says what is missing to run
it, since the Python of a system has none of our packages."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run() -> int:
    """The exit code of the command; 2 when Python is too old or lacks a package."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older one is what this is about
        return _refuse(f"Unstuck needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    try:
        from functions.ops.command_line import main

        return main()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"", "functions", "main"}:
            raise
        return _refuse(f"{sys.executable} has no package {package}.")


def _refuse(reason: str) -> int:
    """Prints the reason and the next command, by where the code lies: in a checkout, with its own
    Python or without, or among installed packages."""
    if not (ROOT / "Makefile").exists():
        step = "in the checkout, pipx install --force '.[cloud]'; dev and demo are `make dev` there"
    elif (ROOT / ".venv/bin/unstuck").exists() and Path(sys.prefix) != ROOT / ".venv":
        step = f"{ROOT}/.venv/bin/unstuck {' '.join(sys.argv[1:])}".strip()
    else:
        step = f"make -C {ROOT} install"
    print(f"{reason} Next: {step}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(run())
