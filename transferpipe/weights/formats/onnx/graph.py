"""The nodes of an ONNX graph: what takes which tensor, with which settings.

Fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (``NodeProto``, ``AttributeProto``). How an operator
arranges the axes of its weights: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.files.protobuf import BYTES, FIXED32, VARINT, Field, Read, read_fields, varints
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spec import IN_OUT, OUT_IN, SPATIAL, Axes, WeightSpec

_NODE = 1
_INPUT, _OUTPUT, _NAME, _OP, _ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _FLOAT, _INT, _TEXT, _TENSOR, _INTS = 1, 2, 3, 4, 5, 8
_MOST_TEXT, _MOST_NUMBERS = 4096, 64

# What hands its first input on with every number in its place.
_SAME = ("Identity", "Cast", "DequantizeLinear", "QuantizeLinear", "Dropout")
_WEIGHTED = (
    *("MatMul", "Gemm", "Conv", "ConvTranspose", "BatchNormalization", "LayerNormalization", "InstanceNormalization"),
    *("GroupNormalization", "PRelu", "LSTM", "GRU", "RNN"),
)
_CONVOLUTIONS = ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv")


@dataclass(frozen=True)
class GraphNode:
    """One node.

    Attributes:
        name: its name; often empty.
        op: its operator, such as ``Gemm``.
        inputs: the names of the tensors that it takes.
        outputs: the names of those that it gives.
        attributes: numbers, texts and lists of whole numbers; others are left out.
        tensor: where the tensor lies that a ``Constant`` holds.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensor: Field | None = None


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
    for part in read_fields(read, message.begin, message.end):
        if part.number in texts and part.kind == BYTES:
            texts[part.number].append(_text(read, part))
        elif part.number == _ATTRIBUTE and part.kind == BYTES:
            name, value = _read_attribute(read, part)
            if isinstance(value, Field):
                tensor = value
            elif value is not None:
                attributes[name] = value
    name, op = (texts[key][0] if texts[key] else "" for key in (_NAME, _OP))
    return GraphNode(name, op, tuple(texts[_INPUT]), tuple(texts[_OUTPUT]), attributes, tensor)


def _read_attribute(read: Read, message: Field) -> tuple[str, Any]:
    """Return the name of an attribute and its value; None if that is of a kind that settings do not have."""
    name, numbers = "", list[int]()
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
        elif part.number == _TENSOR and part.kind == BYTES:
            value = part
        elif part.number == _INTS and len(numbers) < _MOST_NUMBERS:
            numbers += _whole_numbers(read, part)
    return name, tuple(numbers) if numbers else value


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


def stated_axes(nodes: Iterable[GraphNode], names: Iterable[str]) -> dict[str, Axes]:
    """Return how the axes of the initialisers called `names` are arranged, where the nodes that take them say so.

    A ``MatMul`` multiplies by (in, out); a ``Gemm`` by (out, in) if its ``transB`` is 1; convolutions have (out, in)
    and then the spatial axes, transposed ones (in, out) and then these. A tensor on whose way a ``Transpose`` lies is
    followed through it. One whose takers disagree is left out.
    """
    # The initialiser that a tensor is, and whether its two axes are turned.
    origins: dict[str, tuple[str, bool]] = {name: (name, False) for name in names}
    found: dict[str, set[Axes]] = {}
    for node in nodes:
        for place, name in enumerate(node.inputs):
            if name not in origins:
                continue
            origin, turned = origins[name]
            handed = _handed_on(node) if place == 0 else None
            if handed is not None:
                origins.update(dict.fromkeys(node.outputs[:1], (origin, turned != handed)))
            elif axes := _axes_in(node, place):
                found.setdefault(origin, set()).add(_turn(axes) if turned else axes)
    return {name: axes.pop() for name, axes in found.items() if len(axes) == 1}


def _handed_on(node: GraphNode) -> bool | None:
    """Return whether the node hands its first input on with its two axes turned; None if it does something else."""
    if node.op in _SAME:
        return False
    if node.op == "Transpose" and node.attributes.get("perm", (1, 0)) == (1, 0):
        return True
    return None


def _axes_in(node: GraphNode, place: int) -> Axes | None:
    if node.op in _CONVOLUTIONS:
        return SPATIAL if place in (1, 3) else None
    if place != 1:
        return None
    if node.op in ("MatMul", "MatMulInteger", "FusedMatMul"):
        return OUT_IN if node.attributes.get("transB") == 1 else IN_OUT
    if node.op in ("Gemm", "FusedGemm"):
        return OUT_IN if node.attributes.get("transB") == 1 else IN_OUT
    return None


def _turn(axes: Axes) -> Axes:
    turned: dict[Axes, Axes] = {IN_OUT: OUT_IN, OUT_IN: IN_OUT}
    return turned.get(axes, axes)


def constants_of(nodes: Sequence[GraphNode]) -> list[GraphNode]:
    """Return the nodes that hold a tensor themselves."""
    return [node for node in nodes if node.op == "Constant" and node.tensor is not None]


def weights_taken(nodes: Iterable[GraphNode]) -> set[str]:
    """Return the names of the tensors that a node takes as its weights, and those added to what a matrix gave."""
    found: set[str] = set()
    products: set[str] = set()
    for node in nodes:
        if node.op in _WEIGHTED:
            found.update(node.inputs[1:])
            products.update(node.outputs)
        elif node.op == "Add" and not products.isdisjoint(node.inputs):
            found.update(node.inputs)
    return found - products


def network_of(nodes: Sequence[GraphNode], initialisers: Mapping[str, WeightSpec]) -> Network:
    """Return the nodes that take weights, called as the weights' layers are, with their attributes.

    Beside these the settings tell the shape of the ``kernel``, the operator that it ``follows``, and the one that the
    output is ``followed_by`` if that is the only one. They are not connected: what lies between them is arranged
    otherwise than in Keras.
    """
    takers: dict[str, list[GraphNode]] = {}
    makers = {name: node.op for node in nodes for name in node.outputs}
    for node in nodes:
        for name in node.inputs:
            takers.setdefault(name, []).append(node)
    found: dict[str, list[Node]] = {}
    for node in nodes:
        spec = initialisers.get(node.inputs[1]) if node.op in _WEIGHTED and len(node.inputs) > 1 else None
        if spec is not None and spec.layer:
            after = _follower(node, takers, initialisers)
            settings = {**node.attributes, "kernel": spec.shape, **({"followed_by": after} if after else {})}
            before = makers.get(node.inputs[0])
            settings |= {"follows": before} if before else {}
            found.setdefault(spec.layer, []).append(Node(spec.layer, node.op, settings))
    return Network(tuple(ns[0] for ns in found.values() if len(ns) == 1), framework="onnx")


def _follower(node: GraphNode, takers: Mapping[str, list[GraphNode]], initialisers: Mapping[str, Any]) -> str | None:
    """Return the operator that alone takes what a node gives, behind the addition of its bias."""
    after = takers.get(node.outputs[0], []) if node.outputs else []
    if len(after) == 1 and after[0].op == "Add" and any(name in initialisers for name in after[0].inputs):
        after = takers.get(after[0].outputs[0], []) if after[0].outputs else []
    return after[0].op if len(after) == 1 else None
