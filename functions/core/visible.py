"""What users and handlers wrote, as a line for people: no character of it moves the cursor, sets
the title or the clipboard of a terminal, or turns the direction of the text around."""

import unicodedata

_JOINERS = "\u200c\u200d"
"""Parts of words and of emoji; they do nothing else."""
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""The Unicode categories of control characters, format characters (such as those for bidirectional
text), half surrogate pairs and separators of lines."""


def visible(text: str, keep: str = "") -> str:
    """With such characters as escapes (as in Python's source), except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or not _is_invisible(character) else _escaped(character)
        for character in text
    )


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE and character not in _JOINERS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
