"""The CRC-32 of a whole from those of its parts."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transferpipe.execute.writers.crc import combine


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combined_crc_is_that_of_the_concatenation(first, second):
    assert combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=10))
def test_parts_can_be_combined_one_after_the_other(parts):
    crc = 0
    for part in parts:
        crc = combine(crc, zlib.crc32(part), len(part))
    assert crc == zlib.crc32(b"".join(parts))


@settings(deadline=None)
@given(st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20))
def test_combining_is_associative(a, b, c):
    ab_c = combine(combine(zlib.crc32(a), zlib.crc32(b), len(b)), zlib.crc32(c), len(c))
    bc = combine(zlib.crc32(b), zlib.crc32(c), len(c))
    assert ab_c == combine(zlib.crc32(a), bc, len(b) + len(c))


@pytest.mark.parametrize("length", [1 << 20, (1 << 20) + 1, 3_333_333])
def test_long_parts(length):
    first, second = b"\x5a" * 1000, bytes(range(256)) * (length // 256) + b"\1" * (length % 256)
    assert combine(zlib.crc32(first), zlib.crc32(second), length) == zlib.crc32(first + second)


def test_lengths_beyond_32_bits():
    """Doubling a run of zeros 33 times tells the CRC of 8 GiB without touching them; a step of 1 GiB must agree."""
    crc = zlib.crc32(bytes(1 << 20))
    doubled = crc
    for k in range(13):
        doubled = combine(doubled, doubled, (1 << 20) << k)
    stepped = crc_of_zeros = 0
    for _ in range(8):
        crc_of_zeros = crc_of_zeros or _zeros(1 << 30)
        stepped = combine(stepped, crc_of_zeros, 1 << 30)
    assert stepped == doubled == combine(_zeros(3), _zeros((8 << 30) - 3), (8 << 30) - 3)


def _zeros(count):
    """Return the CRC-32 of `count` zeros, one binary digit of the count at a time."""
    crc, power = 0, zlib.crc32(b"\0")
    size = 1
    while count:
        if count & size:
            crc = combine(crc, power, size)
            count -= size
        power, size = combine(power, power, size), size * 2
    return crc
