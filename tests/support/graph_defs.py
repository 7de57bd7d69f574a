"""Frozen graphs of TensorFlow by hand, from the published messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from protobuf_messages import field, varint

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "complex64": 8, "int64": 9,
          "bool": 10, "bfloat16": 14, "uint16": 17, "complex128": 18, "float16": 19, "uint32": 22, "uint64": 23}  # fmt: skip


def shape_of(sizes: Sequence[int]) -> bytes:
    """Return the field of a tensor that has its shape."""
    return field(2, b"".join(field(2, field(1, n)) for n in sizes))


def tensor(value: Any) -> bytes:
    """Return a tensor with its values as they are in memory."""
    value = np.asarray(value)
    return field(1, DTYPES[value.dtype.name]) + shape_of(value.shape) + field(4, value.tobytes())


def node(name: str, op: str, inputs: Sequence[str] = (), value: bytes | None = None) -> bytes:
    """Return a node; `value` is the tensor of a constant."""
    parts = [field(1, name), field(2, op), *(field(3, i) for i in inputs)]
    if value is not None:
        parts.append(field(5, field(1, "value") + field(2, field(8, value))))
    return b"".join(parts)


def graph(*nodes: bytes, more: bytes = b"") -> bytes:
    """Return a graph of these nodes."""
    return b"".join(field(1, n) for n in nodes) + field(4, field(1, 1645)) + more


def graph_def(values: Mapping[str, Any]) -> bytes:
    """Return a graph of a chain of operations, each of which reads one value, as TensorFlow freezes variables."""
    nodes, before = [node("x", "Placeholder")], "x"
    for name, value in values.items():
        stored, read = f"{name}/ReadVariableOp/resource", f"{name}/ReadVariableOp"
        nodes.append(node(stored, "Const", value=tensor(value)))
        nodes.append(node(read, "Identity", [stored]))
        nodes.append(node(name, name.rpartition("/")[2], [before, read]))
        before = name
    return graph(*nodes)


def floats(number: int, values: Any, style: str = "packed") -> bytes:
    """Return the field of a tensor that has its floats one by one."""
    data = np.asarray(values, "f4")
    return (
        field(number, data.tobytes())
        if style == "packed"
        else b"".join(varint(number << 3 | 5) + n.tobytes() for n in data)
    )
