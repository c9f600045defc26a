"""An animated PNG of screenshots, by the standard library alone: the chunks of the pictures, in the
order that the format asks for (https://www.w3.org/TR/png-3/)."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def animated(frames: list[tuple[bytes, int]]) -> bytes:
    """Plays for ever. `frames`: pictures of one size, each with the milliseconds for which it
    stands. A program that knows no animations shows the first one."""
    header = next(data for name, data in _chunks(frames[0][0]) if name == b"IHDR")
    width, height = struct.unpack(">II", header[:8])
    parts = [
        SIGNATURE,
        _chunk(b"IHDR", header),
        _chunk(b"acTL", struct.pack(">II", len(frames), 0)),
    ]
    number = 0
    for place, (picture, milliseconds) in enumerate(frames):
        size = (width, height, 0, 0, milliseconds, 1000, 0, 0)
        parts.append(_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, *size)))
        number += 1
        for name, data in _chunks(picture):
            if name == b"IHDR" and data != header:
                raise ValueError(f"frame {place} has another size or depth than the first one")
            if name == b"IDAT" and place == 0:
                parts.append(_chunk(b"IDAT", data))
            elif name == b"IDAT":
                parts.append(_chunk(b"fdAT", struct.pack(">I", number) + data))
                number += 1
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(SIGNATURE)
    while place < len(picture):
        (length,) = struct.unpack(">I", picture[place : place + 4])
        yield picture[place + 4 : place + 8], picture[place + 8 : place + 8 + length]
        place += length + 12


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
