"""CRC-32C, the checksum of TensorFlow's files.

The mask is that of LevelDB: https://github.com/google/leveldb/blob/main/util/crc32c.h
"""

from __future__ import annotations

import google_crc32c

# Sums are stored rotated and shifted by this, since a CRC over data that holds its own CRC says little: kMaskDelta of
# leveldb, https://github.com/google/leveldb/blob/main/util/crc32c.h
_MASK = 0xA282EAD8


def crc32c(data: bytes, before: int = 0) -> int:
    """Return the CRC-32C of `data` behind data with the CRC `before`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    return int(google_crc32c.extend(before, data))


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
