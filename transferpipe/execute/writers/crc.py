"""CRC-32 of a whole from the CRCs of its parts, so that parts can be written by several threads, in any order."""

from __future__ import annotations

_POLYNOMIAL = 0xEDB88320


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials over GF(2) modulo the CRC's, bits reflected."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


def _powers() -> list[int]:
    """Return x^(2^k) for k = 0..31: what appending one bit, two bits, four bits... does to a CRC."""
    powers = [1 << 30]
    for _ in range(31):
        powers.append(_multiply(powers[-1], powers[-1]))
    return powers


_X_TO_TWO_TO = _powers()


def combine(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two parts in a row.

    Args:
        first: CRC-32 of the first part.
        second: CRC-32 of the second part.
        length: bytes of the second part.

    >>> import zlib
    >>> combine(zlib.crc32(b"trans"), zlib.crc32(b"fer"), 3) == zlib.crc32(b"transfer")
    True
    """
    shift, k = 1 << 31, 3  # x^0, and three doublings from bits to bytes
    while length:
        if length & 1:
            shift = _multiply(_X_TO_TWO_TO[k % 32], shift)
        length >>= 1
        k += 1
    return _multiply(shift, first) ^ second
