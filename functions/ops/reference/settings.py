"""docs/settings.md, from the fields of functions/core/settings.py and the text below each."""

import ast
import inspect
import re
from collections.abc import Iterator

from functions.core import settings

_HEAD = """# Environment variables

*For you if you look up a variable of a function. 1 minute.*

<!-- Made by `make docs` from functions/core/settings.py. Edit that instead. -->

All environment variables that the deployed functions read. Times, tables and rules are in
[policy.yaml](policy.md).

| variable | meaning |
|---|---|
"""


def text() -> str:
    return _HEAD + "".join(f"| `{name}` | {sentence} |\n" for name, sentence in described())


def described() -> Iterator[tuple[str, str]]:
    """Each variable with its sentence: `NAME: sentence` is written below its field."""
    tree = ast.parse(inspect.getsource(settings.Settings))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            match = re.match(r"([A-Z][A-Z_]+): (.*)", node.value.value, re.DOTALL)
            if match:
                yield match[1], " ".join(match[2].split()).replace("|", "\\|")
