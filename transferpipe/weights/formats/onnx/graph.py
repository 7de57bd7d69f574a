"""The nodes of an ONNX graph: what takes which tensor, with which settings.

Fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (``NodeProto``, ``AttributeProto``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transferpipe.files.protobuf import BYTES, FIXED32, VARINT, Field, Read, read_fields, varints

# Numbers of fields in GraphProto, NodeProto and AttributeProto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_NODE, _INPUTS = 1, 11
_INPUT, _OUTPUT, _NAME, _OP, _ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _FLOAT, _INT, _TEXT, _TENSOR, _GRAPH, _INTS, _TEXTS, _GRAPHS = 1, 2, 3, 4, 5, 6, 8, 9, 11
# Settings are short: what is longer is data, which is read as tensors or not at all.
_MOST_TEXT, _MOST_NUMBERS = 4096, 64


@dataclass(frozen=True)
class GraphNode:
    """One node.

    Attributes:
        name: its name; often empty.
        op: its operator, such as ``Gemm``.
        inputs: the names of the tensors that it takes.
        outputs: the names of those that it gives.
        attributes: numbers, texts, lists of texts and of whole numbers; others are left out.
        tensor: where the tensor lies that a ``Constant`` holds.
        graphs: the graphs inside, such as the branches of an ``If``, by the names of their attributes.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensor: Field | None = None
    graphs: tuple[tuple[str, Field], ...] = ()

    @property
    def input(self) -> str:
        """The first tensor that it takes; empty if it takes none."""
        return self.inputs[0] if self.inputs else ""

    @property
    def output(self) -> str:
        """The first tensor that it gives; empty if it gives none."""
        return self.outputs[0] if self.outputs else ""


def read_nodes(read: Read, graph: Field) -> Iterator[GraphNode]:
    """Yield the nodes of the message `graph`, in the order in which they compute.

    Raises:
        ValueError: a node is no message.
    """
    for found in read_fields(read, graph.begin, graph.end):
        if found.number == _NODE:
            if found.kind != BYTES:
                raise ValueError(f"a node is stored as kind {found.kind}, not as a message")
            yield _read_node(read, found)


def _read_node(read: Read, message: Field) -> GraphNode:
    texts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _NAME: [], _OP: []}
    attributes: dict[str, Any] = {}
    tensor = None
    graphs: list[tuple[str, Field]] = []
    for part in read_fields(read, message.begin, message.end):
        if part.number in texts and part.kind == BYTES:
            texts[part.number].append(_text(read, part))
        elif part.number == _ATTRIBUTE and part.kind == BYTES:
            name, value = _read_attribute(read, part)
            if isinstance(value, Field) and value.number == _TENSOR:
                tensor = value
            elif isinstance(value, Field):
                graphs.append((name, value))
            elif value is not None:
                attributes[name] = value
    name, op = (texts[key][0] if texts[key] else "" for key in (_NAME, _OP))
    return GraphNode(name, op, tuple(texts[_INPUT]), tuple(texts[_OUTPUT]), attributes, tensor, tuple(graphs))


def _read_attribute(read: Read, message: Field) -> tuple[str, Any]:
    """Return the name of an attribute and its value; None if that is of a kind that settings do not have."""
    name, numbers, texts = "", list[int](), list[str]()
    value: Any = None
    for part in read_fields(read, message.begin, message.end):
        if part.number == _ATTRIBUTE_NAME and part.kind == BYTES:
            name = _text(read, part)
        elif part.number == _FLOAT and part.kind == FIXED32:
            # The bits of a float32; seven digits are what it holds, and 1e-05 is what was meant.
            value = float(f"{struct.unpack('<f', part.value.to_bytes(4, 'little'))[0]:.7g}")
        elif part.number == _INT and part.kind == VARINT:
            value = part.signed
        elif part.number == _TEXT and part.kind == BYTES and part.value <= _MOST_TEXT:
            value = read(part.begin, part.value).decode("utf-8", "replace")
        elif part.number in (_TENSOR, _GRAPH, _GRAPHS) and part.kind == BYTES:
            value = part
        elif part.number == _TEXTS and part.kind == BYTES and part.value <= _MOST_TEXT and len(texts) < _MOST_NUMBERS:
            texts.append(read(part.begin, part.value).decode("utf-8", "replace"))
        elif part.number == _INTS and len(numbers) < _MOST_NUMBERS:
            numbers += _whole_numbers(read, part)
    return name, tuple(numbers or texts) or value


def _whole_numbers(read: Read, part: Field) -> list[int]:
    if part.kind == VARINT:
        return [part.signed]
    if part.kind != BYTES or part.value > 10 * _MOST_NUMBERS:
        return []
    return [n - (1 << 64) if n >> 63 else n for n in varints(read(part.begin, part.value))]


def _text(read: Read, part: Field) -> str:
    if part.value > _MOST_TEXT:
        raise ValueError(f"a name has {part.value:,} bytes")
    return read(part.begin, part.value).decode("utf-8")


def read_inputs(read: Read, graph: Field) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of a graph's inputs, None for an open size; older files list the initialisers among them.

    The fields are those of ``ValueInfoProto``, ``TypeProto``, ``TensorShapeProto`` and its ``Dimension``.
    """
    found = {}
    for message in read_fields(read, graph.begin, graph.end):
        if message.number == _INPUTS and message.kind == BYTES:
            parts = list(read_fields(read, message.begin, message.end))
            names = [_text(read, part) for part in parts if part.number == 1 and part.kind == BYTES]
            shapes = _inside(read, _inside(read, [p for p in parts if p.number == 2], 1), 2)
            sizes: list[int | None] = []
            for dimension in _inside(read, shapes, 1)[:_MOST_NUMBERS]:
                fields = read_fields(read, dimension.begin, dimension.end)
                known = [f.signed for f in fields if f.number == 1 and f.kind == VARINT]
                sizes.append(known[0] if known and known[0] > 0 else None)
            found[names[0] if names else ""] = tuple(sizes)
    return found


def _inside(read: Read, messages: list[Field], number: int) -> list[Field]:
    """Return the messages that are the fields of this number of other messages."""
    return [
        part
        for message in messages
        if message.kind == BYTES
        for part in read_fields(read, message.begin, message.end)
        if part.number == number and part.kind == BYTES
    ]
