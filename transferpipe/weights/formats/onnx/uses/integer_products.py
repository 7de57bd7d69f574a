"""By which scales a product of whole numbers is one of floats, as onnxruntime's quantizer writes it.

The operators that take scales themselves say it: https://onnx.ai/onnx/operators/onnx__QLinearConv.html,
``onnx__QLinearMatMul.html``, and ``QGemm`` of
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. Those that take none, ``MatMulInteger`` and
``ConvInteger``, have behind them a Cast and a Mul by the scale of the input times that of the weight
(``onnxruntime/python/tools/quantization/operators/matmul.py``), and a table of whole numbers has a DequantizeLinear
behind what is looked up in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.steps import Levels, Operand, Shape

# Of each operator the places of its weight, of that weight's scale and zero point; then, where it has one, the place of
# its bias, whose scale is that of the input (place 1) times that of the weight.
_WITH_SCALES: Mapping[str, tuple[tuple[int, int, int], int | None]] = {
    "QLinearConv": ((3, 4, 5), 8),
    "QLinearMatMul": ((3, 4, 5), None),
    "QGemm": ((3, 4, 5), 6),
}
_WITHOUT_SCALES = ("MatMulInteger", "ConvInteger")
# The places of the scales and zero points of what an operator is given and of what it gives.
_OF_ACTIVATIONS: Mapping[str, tuple[int, ...]] = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (1, 2, 6, 7)),
    "QGemm": (1, 2, 7, 8),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), (1, 2, 4, 5, 6, 7)),
    **dict.fromkeys(("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearReduceMean"), (1, 2, 3, 4)),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), (1, 2, 3, 4)),
}
_SUFFIX, _OF_SCALES = "_quantized", "_scale"  # of onnxruntime's names for a weight and for its scale
_PER_OUTPUT = {"QLinearConv": 0, "ConvInteger": 0}  # the axis with a scale for each place; of matrices the last


@dataclass
class IntegerProducts:
    """The scales of weights that products take as whole numbers.

    Attributes:
        levels: by the node's identity and the place of the weight among its inputs.
        scaled: by the name of what a Cast and a Mul make of a product, that product.
    """

    levels: dict[tuple[int, int], Levels] = field(default_factory=dict)
    scaled: dict[str, GraphNode] = field(default_factory=dict)


def find_integer_products(
    nodes: Sequence[GraphNode], shapes: Mapping[str, Shape], dtypes: Mapping[str, str]
) -> IntegerProducts:
    """Return the scales of weights that products take as whole numbers.

    Args:
        nodes: those of the graph, in the order in which they compute.
        shapes: the shapes of the tensors that lie in the file.
        dtypes: the dtypes of the tensors that lie in the file.
    """
    found, before = IntegerProducts(), dict[str, GraphNode]()
    makers = {output: node for node in nodes for output in node.outputs}
    for node in nodes:
        if node.op in _WITH_SCALES:
            found.levels.update(_told(node, dtypes))
        elif node.op == "DequantizeLinear" and (table := makers.get(node.input)) and table.op == "Gather":
            found.levels.update(_of_table(table, node, shapes, dtypes))
        elif node.op in _WITHOUT_SCALES:
            before[node.output] = node
        elif node.op == "Cast" and node.input in before:
            before[node.output] = before[node.input]
        elif node.op == "Mul" and (product := next((before[n] for n in node.inputs if n in before), None)):
            scales = next((makers[n] for n in node.inputs if n not in before and n in makers), None)
            found.scaled[node.output] = product
            found.levels.update(_behind(product, scales, dtypes))
    return found


def scales_of_activations(nodes: Sequence[GraphNode], stored: Mapping[str, object]) -> set[str]:
    """Return the tensors of the file that are only scales and zero points of what nodes compute."""
    found, others = set[str](), set[str]()
    for node in nodes:
        is_of_weight = node.op in ("QuantizeLinear", "DequantizeLinear") and node.input in stored
        places = () if is_of_weight else _OF_ACTIVATIONS.get(node.op, ())
        for place, name in enumerate(node.inputs):
            (found if place in places else others).add(name)
    return found - others


def _operand(node: GraphNode, place: int, dtypes: Mapping[str, str]) -> Operand | None:
    name = node.inputs[place] if len(node.inputs) > place else ""
    return Operand(name, dtypes[name]) if name in dtypes else None


def _axis(node: GraphNode) -> int:
    return 0 if node.attributes.get("transB") == 1 else _PER_OUTPUT.get(node.op, -1)


def _told(node: GraphNode, dtypes: Mapping[str, str]) -> Iterator[tuple[tuple[int, int], Levels]]:
    """Yield the scales that an operator takes itself."""
    (weight, scale, zero), bias = _WITH_SCALES[node.op]
    own, given = _operand(node, scale, dtypes), _operand(node, 1, dtypes)
    if own is None:
        return
    yield (id(node), weight), Levels(own, _operand(node, zero, dtypes), _axis(node), 0)
    if bias is not None and given is not None:
        yield (id(node), bias), Levels(own, None, 0, 0, factor=given)


def _of_table(
    table: GraphNode, node: GraphNode, shapes: Mapping[str, Shape], dtypes: Mapping[str, str]
) -> Iterator[tuple[tuple[int, int], Levels]]:
    """Yield the one scale of a table of whole numbers, of which a node brings back what was looked up."""
    scale = _operand(node, 1, dtypes)
    if scale is not None and table.input in dtypes and math.prod(shapes[scale.name]) == 1:
        yield (id(table), 0), Levels(scale, _operand(node, 2, dtypes), 0, 0)


def _behind(
    product: GraphNode, scales: GraphNode | None, dtypes: Mapping[str, str]
) -> Iterator[tuple[tuple[int, int], Levels]]:
    """Yield the scale of the weight by which what a product gives is multiplied, with that of its input."""
    weight = product.inputs[1] if len(product.inputs) > 1 else ""
    if scales is None or scales.op != "Mul" or weight not in dtypes:
        return
    known = [name for name in scales.inputs if name in dtypes]
    if len(known) > 1:  # the input is one of the file too, and only its name tells a scale from the other
        known = [name for name in known if name == weight.removesuffix(_SUFFIX) + _OF_SCALES]
    if len(known) == 1:
        levels = Levels(Operand(known[0], dtypes[known[0]]), _operand(product, 3, dtypes), _axis(product), 0)
        yield (id(product), 1), levels
