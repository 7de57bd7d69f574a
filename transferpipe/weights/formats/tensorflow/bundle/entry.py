"""What the index of a tensor bundle says of one tensor.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto and, for the numbers
of dtypes, https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/types.proto
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from transferpipe.files.protobuf import Value, fields, message, number
from transferpipe.weights.spec import numpy_dtype

# DT_STRING of tensorflow/core/framework/types.proto, as the others here.
STRING = 7
NUMBERS = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64", 9: "int64", 10: "bool",
    11: "int8", 12: "uint8", 13: "int32", 14: "bfloat16", 15: "int16", 16: "uint16", 17: "uint16", 18: "complex128",
    19: "float16", 22: "uint32", 23: "uint64", 24: "float8_e5m2", 25: "float8_e4m3fn",
}  # fmt: skip
"""NumPy names of the dtypes that lie in a shard as they are in memory; 11 to 13, 15 and 16 are quantised integers."""

Extents = tuple[tuple[int, int | None], ...]
"""A piece of a tensor: start and length along every axis, length None where it is all of the axis."""

# NumPy before 2.0 knows 32 axes; sizes stay far from the end of 64 bits, so that products with the item's size do too.
_MOST_AXES = 32
_MOST_SIZE = 1 << 62


@dataclass(frozen=True)
class BundleEntry:
    """One tensor, or one piece of a partitioned one.

    Attributes:
        key: its key.
        dtype: TensorFlow's number of its dtype.
        shape: its shape.
        shard, offset, size: where its bytes lie.
        checksum: the masked CRC-32C of its bytes; 0 where none is noted, which TensorFlow compares as well.
        slices: the pieces that a partitioned tensor is cut into; empty if it is whole.
    """

    key: str
    dtype: int
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0
    slices: tuple[Extents, ...] = ()

    @property
    def numpy(self) -> str | None:
        """NumPy name of the dtype; None where the values are not plain numbers."""
        return NUMBERS.get(self.dtype)

    @property
    def nbytes(self) -> int | None:
        """Bytes that shape and dtype need; None where the values are not plain numbers."""
        return math.prod(self.shape) * numpy_dtype(self.numpy).itemsize if self.numpy else None

    def box(self, extents: Extents) -> tuple[tuple[int, int], ...] | None:
        """Return start and end of a piece along every axis, or None if it does not lie inside the tensor."""
        if len(extents) != len(self.shape):
            return None
        box = []
        for (start, length), size in zip(extents, self.shape, strict=True):
            stop = size if length is None else start + length
            if not start <= stop <= size:
                return None
            box.append((start, stop))
        return tuple(box)


def parse_header(key: bytes, data: bytes) -> int:
    """Return the number of shards that the first entry of the index tells.

    Raises:
        ValueError: it is not the header of a bundle, or the values are big-endian.
    """
    if key:
        raise ValueError("the header is missing")
    count, big = 0, 0
    for field, value in fields(memoryview(data)):
        if field == 1 and not isinstance(value, int):
            raise ValueError("it is a checkpoint of the old kind (V1)")
        if field == 1:
            count = number(value)
        elif field == 2:
            big = number(value)
    if big:
        raise ValueError("its values are big-endian; only little-endian ones are read")
    return count


def parse_entry(key: str, data: bytes) -> BundleEntry:
    """Return what the index says of the tensor with this key.

    Raises:
        ValueError: the message is damaged, or the shape is impossible.
    """
    found: dict[int, int] = {}
    shape: tuple[int, ...] = ()
    slices = []
    try:
        for field, value in fields(memoryview(data)):
            if field == 2:
                shape = _shape(value)
            elif field == 7:
                slices.append(_extents(value))
            elif field in (1, 3, 4, 5, 6):
                found[field] = number(value)
    except ValueError as error:
        raise ValueError(f"the entry {key!r}: {error}") from error
    if len(shape) > _MOST_AXES or math.prod(shape) >= _MOST_SIZE:
        raise ValueError(f"the entry {key!r} has the impossible shape {tuple(shape)[:_MOST_AXES]}")
    dtype, shard, offset, size = (found.get(field, 0) for field in (1, 3, 4, 5))
    return BundleEntry(key, dtype, shape, shard, offset, size, found.get(6, 0), tuple(slices))


def _shape(value: Value) -> tuple[int, ...]:
    """Parse a TensorShapeProto."""
    sizes = []
    for field, inner in fields(message(value)):
        if field == 3 and inner:
            raise ValueError("its shape is unknown")
        if field == 2:
            sizes.append(next((number(v) for f, v in fields(message(inner)) if f == 1), 0))
        if len(sizes) > _MOST_AXES:
            raise ValueError(f"it has more than {_MOST_AXES} axes")
    return tuple(sizes)


def _extents(value: Value) -> Extents:
    """Parse a TensorSliceProto."""
    extents: list[tuple[int, int | None]] = []
    for field, inner in fields(message(value)):
        if field == 1:
            found = {f: number(v) for f, v in fields(message(inner))}
            extents.append((found.get(1, 0), found.get(2)))
        if len(extents) > _MOST_AXES:
            raise ValueError(f"a piece of it has more than {_MOST_AXES} axes")
    return tuple(extents)


def slice_key(name: str, extents: Extents) -> bytes:
    """Return the key under which a piece of the tensor `name` lies.

    It is made of numbers and texts encoded so that their bytes sort as they do:
    https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/saved_tensor_slice_util.cc
    """
    escaped = name.encode().replace(b"\x00", b"\x00\xff")  # UTF-8 has no byte 255, which would be escaped too
    parts = [_encode_unsigned(0), escaped, b"\x00\x01", _encode_unsigned(len(extents))]
    for start, length in extents:
        parts += [_encode_signed(start), _encode_signed(-1 if length is None else length)]
    return b"".join(parts)


def _encode_unsigned(value: int) -> bytes:
    digits = value.to_bytes((value.bit_length() + 7) // 8, "big")
    # Its length first, so that longer numbers sort behind shorter ones (`OrderedCode::WriteNumIncreasing`).
    return bytes([len(digits)]) + digits


def _encode_signed(value: int) -> bytes:
    """Encode: as many leading ones as there are bytes, a zero, then the number; all bits inverted below zero."""
    if value < 0:
        return bytes(byte ^ 0xFF for byte in _encode_signed(~value))
    length = value.bit_length() // 7 + 1
    # `OrderedCode::WriteSignedNumIncreasing` of tensorflow/core/lib/strings/ordered_code.cc: 7 bits of number a byte.
    marks = ((1 << length) - 1) << (8 * length - length)
    return (marks ^ value).to_bytes(length, "big") if length < 9 else _long(value, length)


def _long(value: int, length: int) -> bytes:
    # From nine bytes on, the marks fill the first byte and go on in the second.
    marks = (0xFF, 0x80) if length == 9 else (0xFF, 0xC0)
    digits = bytearray(value.to_bytes(length, "big"))
    digits[0] ^= marks[0]
    digits[1] ^= marks[1]
    return bytes(digits)
