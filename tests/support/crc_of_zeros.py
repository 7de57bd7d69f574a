"""The CRC-32 of as many zeros as one likes, without making them."""

import zlib

from transferpipe.files.crc import combine


def crc_of_zeros(count):
    """Return the CRC-32 of `count` zeros, one binary digit of the count at a time."""
    crc, power = 0, zlib.crc32(b"\0")
    size = 1
    while count:
        if count & size:
            crc = combine(crc, power, size)
            count -= size
        power, size = combine(power, power, size), size * 2
    return crc
