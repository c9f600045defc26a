"""`python -m functions`: the command line for operators. In one line it says what is missing to run
it, since the Python of a system has none of our packages."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run() -> int:
    """The exit code of the command; 2 when Python is too old or lacks a package."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older one is what this is about
        version = sys.version.split()[0]
        return _refuse(
            f"Unstuck needs Python 3.11 or newer; this is {version}.",
            f"make -C {ROOT} install PYTHON=python3.12",
        )
    try:
        from functions.ops.command_line import main

        return main()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"", "functions", "main"}:
            raise
        return _refuse(f"{sys.executable} has no package {package}.", _what_installs(sys.argv[1:]))


def _what_installs(words: "list[str]") -> str:  # an older Python evaluates it otherwise
    """The next command where a package is missing, by where the code lies: in a checkout, with its
    own Python or without, or among installed packages. `words`: of the command that was asked."""
    venv = ROOT / ".venv"
    if not (ROOT / "Makefile").exists():
        return "in the checkout, pipx install --force '.[cloud]'; dev and demo are `make dev` there"
    if (venv / "bin/unstuck").exists() and Path(sys.prefix) != venv:
        return " ".join([f"{venv}/bin/unstuck", *words])
    if words[:1] in (["dev"], ["demo"]):
        return f"make -C {ROOT} {words[0]}"
    if Path(sys.prefix) == venv:
        return f"{venv}/bin/pip install -e '{ROOT}[cloud]'"
    return f"python3 -m venv {venv} && {venv}/bin/pip install -e {ROOT}"


def _refuse(reason: str, step: str) -> int:
    print(f"{reason} Next: {step}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(run())
