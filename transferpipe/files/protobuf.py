"""The wire format of protocol buffers: a message as numbered fields, with bounds and without any code of theirs.

The protobuf package needs generated code for every schema and builds messages whole, a gigabyte of values among them.

A message is a sequence of keys and values; a key tells a field's number and how its value is stored
(https://protobuf.dev/programming-guides/encoding/). What a field means is the reader's affair. Long values are not
read here: a field tells where they lie.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Read = Callable[[int, int], bytes]
"""Returns so many bytes from a place; fewer at the end."""

# Wire types, https://protobuf.dev/programming-guides/encoding/#structure; groups (3 and 4) are obsolete and refused.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
# 64 bits in groups of 7: a longer one is damaged.
_MOST_VARINT = 10
# One page: most messages that are read whole are shorter, and the fields of larger ones lie close together.
_WINDOW = 1 << 12
# Of one message. The largest graphs have some hundred thousand nodes; a field takes two bytes, so that a file of a
# gigabyte could keep a reader busy for minutes.
_MOST_FIELDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        number: which field it is.
        kind: how it is stored: `VARINT`, `FIXED64`, `BYTES` (texts, messages and packed numbers too) or `FIXED32`.
        begin: where the value begins, behind its length.
        end: where it ends.
        value: the number itself, unsigned; of `BYTES` their count.
    """

    number: int
    kind: int
    begin: int
    end: int
    value: int

    @property
    def signed(self) -> int:
        """The number as an int32 or int64, which are stored in 64 bits."""
        # Negative numbers are written as ten bytes, in two's complement of 64 bits, even those declared as int32.
        return self.value - (1 << 64) if self.value >> 63 else self.value


def read_fields(read: Read, begin: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message that lies from `begin` to `end`.

    Raises:
        ValueError: the bytes are not a message, or one of more fields than any model has.
    """
    at, count = begin, 0
    while at < end:
        # Counted, not collected: a message of a gigabyte takes no memory until its reader keeps something.
        count += 1
        if count > _MOST_FIELDS:
            raise ValueError(f"a message has more than {_MOST_FIELDS:,} fields")
        field = _read_field(read, at, end)
        yield field
        at = field.end


def varints(data: bytes | bytearray) -> Iterator[int]:
    """Yield the numbers, unsigned, of which `data` is made without anything between them.

    >>> list(varints(bytes([1, 0xAC, 2])))
    [1, 300]

    Raises:
        ValueError: the last one does not end, or one is too long.
    """
    value = shift = 0
    for byte in data:
        # Seven bits a byte, the lowest first; the eighth tells whether another byte follows.
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            # Ten bytes have room for 70 bits, a number has 64.
            yield value & (1 << 64) - 1
            value = shift = 0
        elif shift == 7 * _MOST_VARINT:
            raise ValueError("a number has more than ten bytes")
    if shift:
        raise ValueError("a number does not end")


def window_reader(descriptor: int) -> Read:
    """Return what reads an open file a few thousand bytes at a time, so that many small fields are few calls."""
    start, window = 0, b""

    def read(at: int, size: int) -> bytes:
        nonlocal start, window
        # What is longer would push out what the next small fields lie in.
        if size > _WINDOW:
            return os.pread(descriptor, size, at)
        if not start <= at <= at + size <= start + len(window):
            start, window = at, os.pread(descriptor, _WINDOW, at)
        return window[at - start : at - start + size]

    return read


def _read_field(read: Read, at: int, end: int) -> Field:
    key, behind = _read_varint(read, at, end)
    number, kind = key >> 3, key & 7
    # The numbers that a schema may give: 1 to 2^29 - 1.
    if not 0 < number < 1 << 29:
        raise ValueError(f"byte {at:,} begins a field of the number {number}, which there cannot be")
    if kind == VARINT:
        value, stop = _read_varint(read, behind, end)
        return Field(number, kind, behind, stop, value)
    if kind in _FIXED:
        # Cut at the end of the message, so that nothing behind it is read; `_check` then says what is missing.
        value = int.from_bytes(read(behind, min(_FIXED[kind], end - behind)), "little")
        return _check(Field(number, kind, behind, behind + _FIXED[kind], value), end)
    if kind == BYTES:
        count, begin = _read_varint(read, behind, end)
        return _check(Field(number, kind, begin, begin + count, count), end)
    raise ValueError(f"byte {at:,} begins a field of the kind {kind}, which is never written")


def _check(field: Field, end: int) -> Field:
    if field.end > end:
        what = f"field {field.number} at byte {field.begin:,} declares {field.end - field.begin:,} bytes"
        raise ValueError(f"{what}, of which there are {end - field.begin:,}")
    return field


def _read_varint(read: Read, at: int, end: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and where it ends."""
    # Within the message: a number that would go on behind it does not end.
    data = read(at, min(_MOST_VARINT, end - at))
    for count, byte in enumerate(data, 1):
        if byte < 0x80:
            return next(varints(data[:count])), at + count
    raise ValueError(f"the number at byte {at:,} does not end")


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
        # Ten bytes: the tenth begins at bit 63.
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
    # The bytes are in memory already; only values are handed out without a copy.
    for field in read_fields(lambda at, size: bytes(data[at : at + size]), 0, len(data)):
        yield field.number, data[field.begin : field.end] if field.kind == BYTES else field.value


def number(value: Value) -> int:
    """Return `value`, which must be a number of at most 63 bits, without sign.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, int):
        raise ValueError("bytes lie where a number belongs")
    # Of an int64 that would be negative, and no size is.
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
