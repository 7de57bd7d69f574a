"""What the nodes of an ONNX graph take as weights, and as which.

How an operator arranges the axes of its weights: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.operands import RECURRENT
from transferpipe.weights.formats.onnx.steps import Levels, Operand, Shape, TensorStep
from transferpipe.weights.formats.onnx.uses.equation import einsum_labels
from transferpipe.weights.formats.onnx.uses.gates import GateRows
from transferpipe.weights.formats.onnx.uses.group_norms import GroupNorms
from transferpipe.weights.formats.onnx.uses.integer_products import find_integer_products
from transferpipe.weights.formats.onnx.uses.products import CONVOLUTIONS, PRODUCTS, SHIFTS, is_product
from transferpipe.weights.formats.onnx.uses.use import COMPUTED, Use, Way
from transferpipe.weights.formats.onnx.uses.ways import ELEMENTWISE, Operands, find_computed, hand_on
from transferpipe.weights.spec import GATES, IN_OUT, OUT_IN, SPATIAL, Axes

# Products that may have their matrix on the left, W @ x, as an equation has it.
_FROM_LEFT, _MATRIX = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm"), 2
_SCALE_AND_SHIFT = ("weight", "bias")
_ROLES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((*PRODUCTS, *CONVOLUTIONS), _SCALE_AND_SHIFT),
    "MatMul": ("weight",),
    "QLinearMatMul": ("", "", "weight"),
    "QLinearConv": ("", "", "weight", "", "", "", "", "bias"),
    "QGemm": ("", "", "weight", "", "", "bias"),
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization"), _SCALE_AND_SHIFT),
    "PRelu": ("weight",),
    "LSTM": ("W", "R", "B", "", "", "", "P"),
    "GRU": ("W", "R", "B"),
    "RNN": ("W", "R", "B"),
}
"""What the inputs behind the first one are, as torch calls them in its modules."""


def find_uses(
    nodes: Sequence[GraphNode],
    shapes: Mapping[str, Shape],
    numbers: Mapping[str, tuple[int | float, ...]],
    dtypes: Mapping[str, str],
) -> dict[str, list[Use]]:
    """Return how nodes take the tensors of the file as weights, by the tensors' names.

    Args:
        nodes: the nodes in the order in which they compute.
        shapes: the shapes of the tensors that lie in the file, by their names.
        numbers: the values of those that are small.
        dtypes: the dtypes of those that can be read.
    """
    operands = Operands({name: Operand(name, dtype) for name, dtype in dtypes.items()})
    # The tensor of the file that a value is, with what was done to it and its shape now.
    ways: dict[str, Way] = {name: (name, (), shape) for name, shape in shapes.items()}
    beside: dict[str, list[Way]] = {}
    of_integers = find_integer_products(nodes, shapes, dtypes)
    products = dict(of_integers.scaled)
    groups = GroupNorms()
    found, rest = _take_parameters(nodes, shapes, numbers)
    constant = set(shapes)
    for node in rest:
        groups.follow(node)
        operands.follow(node)
        if node.inputs and not node.graphs and constant.issuperset(filter(None, node.inputs)):
            constant.update(node.outputs)
        if handed := hand_on(node, ways, numbers, operands.found):
            ways |= handed
            continue
        if computed := find_computed(node, ways, constant, dtypes):
            ways[node.output], *beside[node.output] = computed
            # What is looked up, or multiplied by, is a weight all the same.
            if node.op != "Gather" and not is_product(node):
                continue
        if is_product(node) and node.output:
            products[node.output] = node
        for place, name in enumerate(node.inputs):
            role = (_role(node, place, products, ways) or groups.role(node, place)) if name in ways else ""
            for way in (ways[name], *beside.get(name, ())) if role else ():
                given = _dequantized(way, of_integers.levels.get((id(node), place)))
                use = groups.use(node, place, role, way) or _use(node, place, role, given, products)
                use = _with_flat_bias(use, ways)
                found.setdefault(way[0], []).append(use)
            for own in groups.own_weights(node, place) if role else ():  # its ones and zeros do nothing
                found.pop(own, None)
    return found


def _take_parameters(
    nodes: Sequence[GraphNode], shapes: Mapping[str, Shape], numbers: Mapping[str, tuple[int | float, ...]]
) -> tuple[dict[str, list[Use]], list[GraphNode]]:
    """Return how recurrent operators take torch's own parameters, and the nodes but for these operators."""
    gates = GateRows(shapes, numbers)
    found: dict[str, list[Use]] = {}
    rest = []
    for node in nodes:
        gates.follow(node)
        parameters = gates.find_parameters(node)
        for name, own in parameters.items():
            axes = OUT_IN if len(shapes[name]) == _MATRIX else None
            found.setdefault(name, []).append(Use(node, own, axes, (), shapes[name]))
        rest += [] if parameters else [node]
    return found, rest


def _dequantized(way: Way, levels: Levels | None) -> Way:
    """Return the floats that whole numbers stand for which a node takes; the tensor as it is where it has no scales."""
    origin, steps, shape = way
    return (origin, (*steps, TensorStep("dequantize", (levels,))), shape) if levels else way


def _use(node: GraphNode, place: int, role: str, way: Way, products: Mapping[str, GraphNode]) -> Use:
    """Return the use that a node makes of a tensor, as the weight `role`."""
    _, steps, shape = way
    # The bias that an Add brings belongs to the product before it: both are weights of one layer.
    taker = products.get(node.beside(place), node) if node.op in SHIFTS else node
    return Use(taker, role, _axes(node, role, place), (*steps, *_factor(node, role)), shape)


def _with_flat_bias(use: Use, ways: Mapping[str, Way]) -> Use:
    """Return the use of a bias that stands along the channels of a convolution, (1, n, 1, 1), as (n,)."""
    kernel = next((ways[name][2] for name in use.node.inputs[1:] if name in ways), ())
    behind = len(kernel) - 2  # the axes of places
    if use.role != "bias" or use.node.op not in CONVOLUTIONS or not 0 < behind < len(use.shape):
        return use
    count = math.prod(use.shape)
    if use.shape[-1 - behind] != count:
        return use
    return replace(use, steps=(*use.steps, TensorStep("reshape", (count,))), shape=(count,))


def _role(
    node: GraphNode,
    place: int,
    products: Mapping[str, GraphNode],
    ways: Mapping[str, tuple[str, tuple[TensorStep, ...], Shape]],
) -> str:
    if node.op == "Gather":
        return "weight" if place == 0 else ""
    how = next((step.data[0].partition("(")[0] for step in ways[node.inputs[place]][1] if step.kind == COMPUTED), "")
    is_computed, is_moved = bool(how), bool(how) and how not in ELEMENTWISE
    if node.op in SHIFTS:
        product = products.get(node.beside(place))
        if is_computed and product and not ways.keys() & {*product.inputs}:
            return ""  # positions, or a mask, for the product of queries and keys
        is_bias = product and (node.op == "Add" or place == 1) and not _is_one_number(node, place, product, ways)
        return "bias" if is_bias else ""
    if node.op == "Einsum":
        return "weight" if einsum_labels(node, place) and not {node.beside(place)} & ways.keys() else ""
    if node.op in RECURRENT and is_moved:
        return ""  # torch's gates, which its exporter puts into ONNX's order
    if place == 0 and node.op in _FROM_LEFT and len(ways[node.input][2]) == _MATRIX:
        if is_computed and products.keys() & {node.input}:
            return ""  # queries of the file, already multiplied by their matrix
        # Where both are of the file, the first is multiplied by the second: a table of queries, for one.
        return "weight" if not {*node.inputs[1:2]} & ways.keys() else ""
    roles = _ROLES.get(node.op, ())
    return roles[place - 1] if 0 < place <= len(roles) else ""


def _is_one_number(node: GraphNode, place: int, product: GraphNode, ways: Mapping[str, Way]) -> bool:
    """Tell whether what is added is one number, and the product has several channels: a bias has one for each."""
    kernels = [ways[name][2] for name in product.inputs[:2] if name in ways]
    return math.prod(ways[node.inputs[place]][2]) == 1 and bool(kernels) and 1 not in kernels[-1]


def _factor(node: GraphNode, role: str) -> tuple[TensorStep, ...]:
    """Return the number by which a Gemm multiplies its product (``alpha``) or its bias (``beta``); -1 for a Sub."""
    if node.op == "Sub":
        return (TensorStep("scale", (-1.0,)),)
    factor = node.attributes.get("alpha" if role == "weight" else "beta", 1) if node.op in _FROM_LEFT[1:] else 1
    return (TensorStep("scale", (factor,)),) if isinstance(factor, float) and factor != 1 else ()


def _axes(node: GraphNode, role: str, place: int) -> Axes | None:
    if node.op in RECURRENT:
        return GATES
    if role != "weight":
        return None
    if node.op in (*CONVOLUTIONS, "QLinearConv", "PRelu"):
        return SPATIAL
    if node.op == "Einsum":
        _, labels, _ = einsum_labels(node, place) or ("", "", "")
        summed = [label not in node.attributes["equation"].partition("->")[2] for label in labels]
        return IN_OUT if summed == [True, False] else OUT_IN if summed == [False, True] else None
    if node.op in _FROM_LEFT and place == 0:  # its columns go with the rows of what it is multiplied with
        return IN_OUT if node.attributes.get("transA") == 1 else OUT_IN
    if node.op in (*PRODUCTS, "QLinearMatMul", "QGemm"):
        return OUT_IN if node.attributes.get("transB") == 1 else IN_OUT
    return None
