"""Protocol-buffer messages by hand."""

from __future__ import annotations

from typing import Any

import numpy as np


def varint(number: int) -> bytes:
    """Return a number as a varint; a negative one in 64 bits."""
    number &= (1 << 64) - 1
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a field: a number, or a text, a message or anything else that has a length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def packed(number: int, values: Any) -> bytes:
    """Return a field of packed whole numbers."""
    return field(number, b"".join(varint(int(v)) for v in values))


ONNX = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
        "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14, "complex128": 15, "bfloat16": 16,
        "float8_e4m3fn": 17, "float8_e5m2": 19}  # fmt: skip


def tensor(name: str, shape: Any, dtype: Any, *values: bytes) -> bytes:
    """Return an ONNX tensor with the fields `values`."""
    dims = b"".join(field(1, n) for n in shape)
    return dims + field(2, ONNX.get(dtype, dtype)) + b"".join(values) + field(8, name)


def raw(name: str, value: Any) -> bytes:
    """Return an ONNX tensor that holds an array as raw bytes."""
    value = np.asarray(value)
    return tensor(name, value.shape, value.dtype.name, field(9, value.tobytes()))


def sparse(name: str, value: Any, by_axis: bool = False) -> bytes:
    """Return an ONNX tensor that holds what is not zero of an array, and where it stands."""
    value = np.asarray(value)
    places = np.argwhere(value) if by_axis else np.flatnonzero(value)
    dims = packed(3, value.shape) if by_axis else b"".join(field(3, n) for n in value.shape)
    return (
        field(1, raw(name, value[value != 0])) + field(2, raw("", places).replace(field(8, ""), field(8, "i"))) + dims
    )


def onnx_model(*tensors: bytes, nodes: bytes = b"") -> bytes:
    """Return an ONNX model of these initialisers."""
    graph = field(1, nodes or field(4, "Conv")) + field(2, "net") + b"".join(field(5, t) for t in tensors)
    return field(1, 8) + field(2, "pytorch") + field(3, "2.1") + field(7, graph) + field(8, field(2, 17))
