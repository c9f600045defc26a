"""Samples for the demo and the tests: invented people, the quotas of a panel to draw from them, and
pictures.

Those who answer an invitation are older and better educated than the people of the land, and the
quotas ask for the land. So a draw without quotas practically never fits, and the selection has work
to do."""

import csv
import hashlib
import io
import random
import struct
import zlib
from collections.abc import Mapping
from typing import Any

PANEL_SIZE = 40
PROMPTS = (
    "a lighthouse in the fog",
    "two foxes reading a map",
    "a market under arcades",
    "a bridge made of paper",
    "the last tram at night",
    "an orchard in the first snow",
    "a whale above the city",
    "a kitchen full of clocks",
    "a violin maker's bench",
    "rain on a tin roof",
    "an atlas with no borders",
    "a garden on the moon",
)
COLUMNS = ("id", "name", "gender", "age_group", "region", "education")

# value: (weight among those who answer, [min, max] on the panel)
_CATEGORIES: dict[str, dict[str, tuple[int, list[int]]]] = {
    "gender": {"female": (46, [19, 21]), "male": (52, [18, 20]), "diverse": (2, [1, 2])},
    "age_group": {
        "16-29": (11, [8, 9]),
        "30-44": (19, [9, 10]),
        "45-59": (29, [9, 11]),
        "60-74": (30, [7, 9]),
        "75+": (11, [4, 5]),
    },
    "region": {
        "north": (31, [10, 12]),
        "east": (14, [7, 9]),
        "south": (24, [9, 11]),
        "west": (31, [11, 12]),
    },
    "education": {"basic": (13, [10, 12]), "secondary": (34, [16, 18]), "higher": (53, [11, 13])},
}
_FIRST = {
    "female": (
        "Ada",
        "Chiara",
        "Dilek",
        "Emma",
        "Fatima",
        "Greta",
        "Ines",
        "Jana",
        "Katja",
        "Olena",
    ),
    "male": ("Anton", "Bruno", "Cem", "David", "Emil", "Felix", "Georg", "Ivan", "Jonas", "Karim"),
    "diverse": (
        "Alex",
        "Charlie",
        "Deniz",
        "Kim",
        "Luca",
        "Mika",
        "Noa",
        "Robin",
        "Sascha",
        "Toni",
    ),
}
_LAST = (
    "Bauer",
    "Demir",
    "Fuchs",
    "Haas",
    "Klein",
    "Lang",
    "Nowak",
    "Okafor",
    "Rossi",
    "Tran",
    "Weber",
)


def people_csv(n: int = 400, seed: int = 1) -> str:
    """Returns a CSV of `n` invented people (COLUMNS, ids P0001 on), the same for the same
    arguments."""
    rng = random.Random(seed)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_person(number, rng) for number in range(1, n + 1))
    return text.getvalue()


def quotas() -> dict[str, dict[str, list[int]]]:
    """Returns {category: {value: [min, max]}} for a panel of PANEL_SIZE, which people_csv() can
    fill."""
    return {category: _bounds(values) for category, values in _CATEGORIES.items()}


def selection_input(seed: int | None = None) -> dict[str, Any]:
    """Returns an input for the handler `selection`: people_csv(), PANEL_SIZE and quotas()."""
    return {"csv": people_csv(), "size": PANEL_SIZE, "quotas": quotas(), "seed": seed}


def png(width: int, height: int, text: str) -> bytes:
    """Returns a PNG of `width` x `height` pixels: a gradient between two colours that depend on
    `text`."""
    seed, length = hashlib.sha256(text.encode()).digest(), width + height
    mixed = (
        (seed[channel] * (length - position) + seed[channel + 3] * position) // length
        for position in range(length)
        for channel in range(3)
    )
    gradient = bytes(mixed)
    rows = b"".join(b"\0" + gradient[3 * y : 3 * (y + width)] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR" + header, b"IDAT" + zlib.compress(rows, 1), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_framed(chunk) for chunk in chunks)


def _framed(chunk: bytes) -> bytes:
    """With its length, without the 4 bytes of its type, before it, and its checksum after it."""
    return struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _person(number: int, rng: random.Random) -> Mapping[str, str]:
    traits = {category: _drawn(values, rng) for category, values in _CATEGORIES.items()}
    name = f"{rng.choice(_FIRST[traits['gender']])} {rng.choice(_LAST)}"
    return {"id": f"P{number:04}", "name": name, **traits}


def _bounds(values: dict[str, tuple[int, list[int]]]) -> dict[str, list[int]]:
    return {value: list(bounds) for value, (_, bounds) in values.items()}


def _drawn(values: dict[str, tuple[int, list[int]]], rng: random.Random) -> str:
    return rng.choices(list(values), [weight for weight, _ in values.values()])[0]
