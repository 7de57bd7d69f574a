"""Reading the protobuf wire format without generated code: numbered fields, nothing beyond what is asked for.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

Value = int | memoryview
"""A number (wire types 0, 1 and 5, as it lies in the file) or the bytes of a length-delimited field."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


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
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"a field has the number {number}")
        if kind == _VARINT:
            value, at = read_varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = read_varint(data, at)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError(f"a field has the wire type {kind}")
        if length > len(data) - at:
            raise ValueError(f"a field of {length:,} bytes is cut off")
        part = data[at : at + length]
        yield number, part if kind == _BYTES else int.from_bytes(part, "little")
        at += length


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
