"""Prints the SQL as it is now, with the record of `migrate`: what `make released` keeps as that of
the release."""

from functions.core.policy import DEFAULT, load
from functions.install.migrate import file

if __name__ == "__main__":
    print(file(load(str(DEFAULT)), None), end="")
