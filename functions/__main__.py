"""`python -m functions`: the command line for operators."""

from functions.ops.command_line import main

if __name__ == "__main__":
    raise SystemExit(main())
