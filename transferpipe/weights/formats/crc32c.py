"""CRC-32C, the checksum of TensorFlow's files: fast where google-crc32c is installed, slow where not.

RFC 3720, appendix B.4; the mask is that of LevelDB: https://github.com/google/leveldb/blob/main/util/crc32c.h
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable

_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8


@functools.cache
def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


def _slow(crc: int, data: bytes) -> int:
    table, crc = _table(), ~crc & 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return ~crc & 0xFFFFFFFF


@functools.cache
def fast_crc32c() -> Callable[[int, bytes], int] | None:
    """Return a function (CRC so far, further bytes) -> CRC that keeps up with a disk, or None if there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns where only its slow form is there
        try:
            library = importlib.import_module("google_crc32c")
        except ImportError:
            return None
    extend: Callable[[int, bytes], int] = library.extend
    return extend if library.implementation == "c" else None


def crc32c(data: bytes, before: int = 0) -> int:
    """Return the CRC-32C of a small piece of data, behind data with the CRC `before`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    return (fast_crc32c() or _slow)(before, data)


def unmask(stored: int) -> int:
    """Return the CRC of what is stored of it: rotated and moved, so that a CRC of a CRC is not special.

    >>> unmask(mask(0xe3069283)) == 0xe3069283
    True
    """
    rotated = (stored - _MASK) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def mask(crc: int) -> int:
    """Return what is stored of a CRC; the inverse of `unmask`."""
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
