"""Small protobuf messages in memory: fields as numbers and bytes, nothing beyond what is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from transferpipe.weights.formats.protobuf import BYTES, read_fields

Value = int | memoryview
"""A number, unsigned, or the bytes of a length-delimited field."""


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number of up to 64 bits at `at` and the position behind it.

    Raises:
        ValueError: the data end inside it, or it has more than 64 bits.

    >>> read_varint(memoryview(bytes([0xac, 0x02, 0x07])), 0)
    (300, 2)
    """
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("a number is cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
    if value >> 64:
        raise ValueError("a number has more than 64 bits")
    return value, at


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield number and value of every field of a message, in the order of the file.

    Raises:
        ValueError: these are not the bytes of a message.
    """
    for field in read_fields(lambda at, size: bytes(data[at : at + size]), 0, len(data)):
        yield field.number, data[field.begin : field.end] if field.kind == BYTES else field.value


def number(value: Value) -> int:
    """Return `value`, which must be a number of at most 63 bits, without sign.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, int):
        raise ValueError("bytes lie where a number belongs")
    if value >> 63:
        raise ValueError(f"the number {value - (1 << 64)} lies where a size belongs")
    return value


def message(value: Value) -> memoryview:
    """Return `value`, which must be bytes.

    Raises:
        ValueError: it is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number lies where a message belongs")
    return value


def text(value: Value) -> str:
    """Return `value`, which must be UTF-8.

    Raises:
        ValueError: it is not.
    """
    return bytes(message(value)).decode("utf-8")
