"""Ogg files with a serial number of our choice, where the library that writes them takes a random one (RFC 3533)."""

import struct

_POLYNOMIAL = 0x104C11DB7


def _table() -> list[int]:
    table = []
    for value in range(256):
        remainder = value << 24
        for _ in range(8):
            remainder = (remainder << 1) ^ (_POLYNOMIAL if remainder >> 31 else 0)
        table.append(remainder)
    return table


_TABLE = _table()


def with_serial(data: bytes, serial: int) -> bytes:
    """The pages of an Ogg file under another serial number, with checksums that fit."""
    out, at = bytearray(data), 0
    while at < len(out):
        segments = out[at + 26]
        end = at + 27 + segments + sum(out[at + 27 : at + 27 + segments])
        struct.pack_into("<I", out, at + 14, serial)
        struct.pack_into("<I", out, at + 22, 0)
        struct.pack_into("<I", out, at + 22, _checksum(bytes(out[at:end])))
        at = end
    return bytes(out)


def _checksum(page: bytes) -> int:
    remainder = 0
    for byte in page:
        remainder = (remainder << 8 & 0xFFFFFFFF) ^ _TABLE[(remainder >> 24) ^ byte]
    return remainder
