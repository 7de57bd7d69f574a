"""The CRC-32 of a whole from those of its parts."""

import zlib

import pytest
from crc_of_zeros import crc_of_zeros
from hypothesis import given, settings
from hypothesis import strategies as st

from transferpipe.files.crc import combine


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
    stepped = gibibyte = 0
    for _ in range(8):
        gibibyte = gibibyte or crc_of_zeros(1 << 30)
        stepped = combine(stepped, gibibyte, 1 << 30)
    assert stepped == doubled == combine(crc_of_zeros(3), crc_of_zeros((8 << 30) - 3), (8 << 30) - 3)
