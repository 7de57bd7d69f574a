"""The nodes of an ONNX graph: what takes which tensor, with which settings.

Fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (``NodeProto``, ``AttributeProto``).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.files.protobuf import BYTES, FIXED32, VARINT, Field, Read, read_fields, varints

# Numbers of fields in GraphProto, NodeProto and AttributeProto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
NODES, _INPUTS, _OUTPUTS = 1, 11, 12
_INPUT, _OUTPUT, _NAME, _OP, _ATTRIBUTE, _DOMAIN, _OVERLOAD, _METADATA = 1, 2, 3, 4, 5, 7, 8, 9
# What torch.onnx.export(dynamo=True) notes of each node: the modules around it, outermost first, and its operation.
_SCOPES, _SCOPE = "pkg.torch.onnx.name_scopes", re.compile(r"'([^']*)'")
_ATTRIBUTE_NAME, _FLOAT, _INT, _TEXT, _TENSOR, _GRAPH, _FLOATS, _INTS, _TEXTS, _GRAPHS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 11
_REFERENCE, _SPARSE_TENSOR = 21, 22
_NAMES = (_ATTRIBUTE_NAME, _REFERENCE)
# What a Constant may hold: https://onnx.ai/onnx/operators/onnx__Constant.html (texts are never weights).
TENSOR, SPARSE_TENSOR, NUMBERS = "value", "sparse_value", ("value_float", "value_floats", "value_int", "value_ints")
_DATA = (_TENSOR, _SPARSE_TENSOR, _FLOAT, _INT, _FLOATS, _INTS)
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
        attributes: numbers, texts, and lists of these; others are left out.
        data: where the tensors lie, dense or sparse, and the numbers of a ``Constant``, by the attributes' names.
        graphs: the graphs inside, such as the branches of an ``If``, by the names of their attributes.
        domain: where the operator is defined; empty for ONNX's own.
        overload: which of several functions of one name it is.
        module: the path of the module in which torch's newer exporter found it, with dots; mostly empty.
        references: the attributes of the function around it that its own attributes stand for, by the latter's names.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, tuple[Field, ...]] = field(default_factory=dict)
    graphs: tuple[tuple[str, Field], ...] = ()
    domain: str = ""
    overload: str = ""
    references: Mapping[str, str] = field(default_factory=dict)
    module: str = ""

    def beside(self, place: int) -> str:
        """Return the other one of two inputs; empty where there are not two."""
        return self.inputs[1 - place] if len(self.inputs) == 2 else ""

    @property
    def input(self) -> str:
        """The first tensor that it takes; empty if it takes none."""
        return self.inputs[0] if self.inputs else ""

    @property
    def output(self) -> str:
        """The first tensor that it gives; empty if it gives none."""
        return self.outputs[0] if self.outputs else ""


def read_nodes(read: Read, graph: Field, number: int = NODES) -> Iterator[GraphNode]:
    """Yield the nodes of the message `graph`, in the order in which they compute.

    Args:
        read: reads the file.
        graph: a graph, or a function.
        number: the number of the field that holds its nodes.

    Raises:
        ValueError: a node is not a message.
    """
    for found in read_fields(read, graph.begin, graph.end):
        if found.number == number:
            if found.kind != BYTES:
                raise ValueError(f"a node is stored as kind {found.kind}, not as a message")
            yield _read_node(read, found)


def _read_node(read: Read, message: Field) -> GraphNode:
    texts: dict[int, list[str]] = {n: [] for n in (_INPUT, _OUTPUT, _NAME, _OP, _DOMAIN, _OVERLOAD)}
    attributes: list[Attribute] = []
    module = ""
    for part in read_fields(read, message.begin, message.end):
        if part.number in texts and part.kind == BYTES:
            texts[part.number].append(_text(read, part))
        elif part.number == _ATTRIBUTE and part.kind == BYTES:
            attributes.append(read_attribute(read, part))
        elif part.number == _METADATA and part.kind == BYTES:
            module = _read_module(read, part) or module
    name, op, domain, overload = ((*texts[key], "")[0] for key in (_NAME, _OP, _DOMAIN, _OVERLOAD))
    return GraphNode(
        name,
        op,
        tuple(texts[_INPUT]),
        tuple(texts[_OUTPUT]),
        {a.name: a.value for a in attributes if a.value is not None},
        {a.name: a.data for a in attributes if a.data},
        tuple((a.name, a.graph) for a in attributes if a.graph),
        domain,
        overload,
        {a.name: a.reference for a in attributes if a.reference},
        module,
    )


def _read_module(read: Read, message: Field) -> str:
    """Return the module that an entry of a node's metadata tells (``StringStringEntryProto``); empty if it does not."""
    parts = list(read_fields(read, message.begin, message.end))
    texts = {part.number: _text(read, part) for part in parts if part.kind == BYTES and part.value <= _MOST_TEXT}
    scopes = _SCOPE.findall(texts.get(2, "")) if texts.get(1) == _SCOPES else []
    return scopes[-2] if len(scopes) > 1 else ""


@dataclass(frozen=True)
class Attribute:
    """One attribute of a node: a setting, data, a graph, or an attribute of the function around the node."""

    name: str
    value: Any = None
    data: tuple[Field, ...] = ()
    graph: Field | None = None
    reference: str = ""


def read_attribute(read: Read, message: Field) -> Attribute:
    """Return an attribute; its value is None if that is of a kind that settings do not have."""
    parts = list(read_fields(read, message.begin, message.end))
    names = {part.number: _text(read, part) for part in parts if part.number in _NAMES and part.kind == BYTES}
    graphs = [part for part in parts if part.number in (_GRAPH, _GRAPHS) and part.kind == BYTES]
    name = names.get(_ATTRIBUTE_NAME, "")
    kept = _DATA if name in NUMBERS else (_TENSOR, _SPARSE_TENSOR)
    data = tuple(part for part in parts if part.number in kept)
    return Attribute(name, _read_setting(read, parts), data, graphs[-1] if graphs else None, names.get(_REFERENCE, ""))


def _read_setting(read: Read, parts: Sequence[Field]) -> Any:
    numbers, texts = list[int | float](), list[str]()
    value: Any = None
    for part in parts:
        if part.number == _FLOAT and part.kind == FIXED32:
            value = _number(part.value.to_bytes(4, "little"))
        elif part.number == _INT and part.kind == VARINT:
            value = part.signed
        elif part.number == _TEXT and part.kind == BYTES and part.value <= _MOST_TEXT:
            value = read(part.begin, part.value).decode("utf-8", "replace")
        elif part.number == _TEXTS and part.kind == BYTES and part.value <= _MOST_TEXT and len(texts) < _MOST_NUMBERS:
            texts.append(read(part.begin, part.value).decode("utf-8", "replace"))
        elif part.number == _INTS and len(numbers) < _MOST_NUMBERS:
            numbers += _whole_numbers(read, part)
        elif part.number == _FLOATS and len(numbers) < _MOST_NUMBERS:
            numbers += _numbers(read, part)
    return tuple(numbers or texts) or value


def _number(bits: bytes) -> float:
    """Return a float32; seven digits are what it holds, and 1e-05 is what was meant."""
    return float(f"{struct.unpack('<f', bits)[0]:.7g}")


def _numbers(read: Read, part: Field) -> list[float]:
    if part.kind == FIXED32:
        return [_number(part.value.to_bytes(4, "little"))]
    if part.kind != BYTES or part.value > 4 * _MOST_NUMBERS or part.value % 4:
        return []
    bits = read(part.begin, part.value)
    return [_number(bits[i : i + 4]) for i in range(0, len(bits), 4)]


def _whole_numbers(read: Read, part: Field) -> list[int]:
    if part.kind == VARINT:
        return [part.signed]
    if part.kind != BYTES or part.value > 10 * _MOST_NUMBERS:
        return []
    # Negative numbers stand in varints as two's complement of 64 bits, in ten bytes each.
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


def read_outputs(read: Read, graph: Field) -> tuple[str, ...]:
    """Return the names of a graph's outputs in their order."""
    told = [m for m in read_fields(read, graph.begin, graph.end) if m.number == _OUTPUTS and m.kind == BYTES]
    return tuple(_text(read, name) for name in _inside(read, told, 1))


def _inside(read: Read, messages: list[Field], number: int) -> list[Field]:
    """Return the messages that are the fields of this number of other messages."""
    return [
        part
        for message in messages
        if message.kind == BYTES
        for part in read_fields(read, message.begin, message.end)
        if part.number == number and part.kind == BYTES
    ]
