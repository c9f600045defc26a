"""Prints the SQL as it is now, with the record of `migrate`: what `make released` keeps as that of the release."""

from functions.migrate import file
from functions.policy import DEFAULT, load

if __name__ == "__main__":
    print(file(load(str(DEFAULT)), None), end="")
