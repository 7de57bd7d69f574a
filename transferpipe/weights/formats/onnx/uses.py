"""What the nodes of an ONNX graph take as weights, and on which way a tensor of the file gets there.

How an operator arranges the axes of its weights: https://onnx.ai/onnx/operators/. On its way to the node that
multiplies by it a tensor may be transposed, reshaped, cast, rounded and dequantized; what it is then is the weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from transferpipe.weights.formats.onnx.cuts import find_cuts, is_turned
from transferpipe.weights.formats.onnx.equation import einsum_labels
from transferpipe.weights.formats.onnx.gates import GateRows
from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.integer_products import find_integer_products
from transferpipe.weights.formats.onnx.operands import FLOATS, RECURRENT
from transferpipe.weights.formats.onnx.steps import LIMITS, Levels, Operand, Shape, TensorStep
from transferpipe.weights.formats.onnx.tensor import dtype_called
from transferpipe.weights.spec import GATES, IN_OUT, OUT_IN, SPATIAL, Axes

_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "Einsum")
# Products that may have their matrix on the left, W @ x, as an equation has it.
_FROM_LEFT, _MATRIX = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm"), 2
_CONVOLUTIONS = ("Conv", "ConvTranspose", "ConvInteger", "FusedConv")
SHIFTS = ("Add", "Sub")
"""What may bring a bias behind a product."""
_SCALE_AND_SHIFT = ("weight", "bias")
_ROLES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((*_PRODUCTS, *_CONVOLUTIONS), _SCALE_AND_SHIFT),
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
# What changes values one by one; a tensor that it changes is not what the operator behind it takes.
_ELEMENTWISE = frozenset(
    ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Neg", "Abs", "Sqrt", "Exp", "Log", "Tanh", "Sigmoid", "Softplus",
     "Reciprocal", "Relu", "Clip", "Sign", "Round", "Floor", "Ceil", "Softmax", "HardSigmoid"]
)  # fmt: skip
# What tells of a tensor's shape, not of its values.
_OF_SHAPES = frozenset(["Shape", "Size", "ConstantOfShape"])
COMPUTED = "computed"
_LONGEST = 120
# Between a tensor of the file and the operator that takes it stand a transpose and a pair of quantize and dequantize; a
# graph may be made to cost time.
_MOST_STEPS = 20


@dataclass(frozen=True)
class Use:
    """One way in which a node takes a tensor of the file.

    Attributes:
        node: the node.
        role: what it is there, such as ``weight``.
        axes: how its axes are arranged then; None where that says nothing.
        steps: what was done to it before.
        shape: its shape then.
    """

    node: GraphNode
    role: str
    axes: Axes | None
    steps: tuple[TensorStep, ...]
    shape: Shape

    @property
    def is_computed(self) -> bool:
        """Whether the node takes what the graph computes of the tensor."""
        return any(step.kind == COMPUTED for step in self.steps)


def is_product(node: GraphNode) -> bool:
    """Tell whether a node multiplies by a matrix, or with a window, so that an addition behind it is its bias."""
    return node.op in _PRODUCTS or node.op in _CONVOLUTIONS


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
    operands = _Operands({name: Operand(name, dtype) for name, dtype in dtypes.items()})
    # The tensor of the file that a value is, with what was done to it and its shape now.
    ways: dict[str, _Way] = {name: (name, (), shape) for name, shape in shapes.items()}
    beside: dict[str, list[_Way]] = {}
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
        if handed := _hand_on(node, ways, numbers, operands.found):
            ways |= handed
            continue
        if computed := _find_computed(node, ways, constant, dtypes):
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


_Way = tuple[str, tuple[TensorStep, ...], Shape]


def _dequantized(way: _Way, levels: Levels | None) -> _Way:
    """Return the floats that whole numbers stand for which a node takes; the tensor as it is where it has no scales."""
    origin, steps, shape = way
    return (origin, (*steps, TensorStep("dequantize", (levels,))), shape) if levels else way


def _use(node: GraphNode, place: int, role: str, way: _Way, products: Mapping[str, GraphNode]) -> Use:
    """Return the use that a node makes of a tensor, as the weight `role`."""
    _, steps, shape = way
    # The bias that an Add brings belongs to the product before it: both are weights of one layer.
    taker = products.get(_other(node, place), node) if node.op in SHIFTS else node
    return Use(taker, role, _axes(node, role, place), (*steps, *_factor(node, role)), shape)


def _with_flat_bias(use: Use, ways: Mapping[str, _Way]) -> Use:
    """Return the use of a bias that stands along the channels of a convolution, (1, n, 1, 1), as (n,)."""
    kernel = next((ways[name][2] for name in use.node.inputs[1:] if name in ways), ())
    behind = len(kernel) - 2  # the axes of places
    if use.role != "bias" or use.node.op not in _CONVOLUTIONS or not 0 < behind < len(use.shape):
        return use
    count = math.prod(use.shape)
    if use.shape[-1 - behind] != count:
        return use
    return replace(use, steps=(*use.steps, TensorStep("reshape", (count,))), shape=(count,))


def _hand_on(
    node: GraphNode,
    ways: Mapping[str, _Way],
    numbers: Mapping[str, tuple[int | float, ...]],
    operands: Mapping[str, Operand],
) -> dict[str, _Way]:
    """Return the tensor of the file that a node hands on, and in what form, by its outputs; none if it does not."""
    if node.input not in ways or len(ways[node.input][1]) >= _MOST_STEPS:
        return {}
    origin, steps, shape = ways[node.input]
    if node.op in ("Slice", "Split") and not any(step.kind == COMPUTED for step in steps):
        cuts = find_cuts(node, shape, numbers)
        return {
            output: (origin, (*steps, TensorStep("slice", cut)) if size != shape or is_turned(cut) else steps, size)
            for output, (cut, size) in cuts.items()
        }
    further = _further(node, shape, numbers, steps, operands)
    return {node.output: (origin, *further)} if further is not None else {}


def _find_computed(
    node: GraphNode, ways: Mapping[str, _Way], constant: Set[str], dtypes: Mapping[str, str]
) -> list[_Way]:
    """Return the tensors that a node changes with nothing but tensors of the file.

    Of those that it computes with one by one that is the largest. Whole numbers are shapes and places, but for those
    that arithmetic turns into a weight.
    """
    if node.op in _OF_SHAPES or not node.output or node.output not in constant:
        return []
    known = sorted((name for name in node.inputs if name in ways), key=lambda name: -math.prod(ways[name][2]))
    if not known or node.output in ways:
        return []
    if node.op not in _ELEMENTWISE:
        known = [name for name in known if dtypes.get(ways[name][0]) in FLOATS]
    text = f"{node.op}({', '.join(_word(name, ways) for name in filter(None, node.inputs))})"
    step = TensorStep(COMPUTED, (text if len(text) <= _LONGEST else f"{node.op}(...)",))
    found = []
    for name in known if is_product(node) or node.op == "Concat" else known[:1]:
        origin, steps, shape = ways[name]
        found.append((origin, (*(s for s in steps if s.kind != COMPUTED), step), shape))
    return found


def _word(name: str, ways: Mapping[str, _Way]) -> str:
    """Return how a tensor is computed, or what it is called in the file."""
    origin, steps, _ = ways.get(name, (name, (), ()))
    return next((str(step.data[0]) for step in steps if step.kind == COMPUTED), origin)


@dataclass
class _Operands:
    """The tensors of the file that nodes may compute with, also behind an Identity or a Cast."""

    found: dict[str, Operand]

    def follow(self, node: GraphNode) -> None:
        """Note what a node gives."""
        before = self.found.get(node.input)
        if before is not None and node.op == "Identity":
            self.found[node.output] = before
        elif before is not None and node.op == "Cast":
            dtype = dtype_called(node.attributes.get("to"))
            if dtype in (*LIMITS, *FLOATS):
                self.found[node.output] = Operand(before.name, dtype)


@dataclass
class GroupNorms:
    """GroupNormalization as torch's exporter writes it before version 21 of ONNX.

    An InstanceNormalization of the groups, which a Reshape puts together, has ones and zeros for its own weights; the
    scale and the shift of the channels are a Mul and an Add behind the Reshape back (``group_norm`` in
    ``torch/onnx/symbolic_opset9.py``).
    """

    reshaped: set[str] = field(default_factory=set)
    normed: dict[str, GraphNode] = field(default_factory=dict)
    scaled: dict[str, GraphNode] = field(default_factory=dict)

    def follow(self, node: GraphNode) -> None:
        """Note what a node gives."""
        if node.op == "InstanceNormalization" and node.input in self.reshaped:
            self.normed[node.output] = node
        elif node.op == "Reshape":
            self.reshaped.add(node.output)
            if node.input in self.normed:
                self.normed[node.output] = self.normed[node.input]
        elif node.op == "Mul" and len(node.inputs) == 2:
            before = next((self.normed[name] for name in node.inputs if name in self.normed), None)
            if before is not None:
                self.scaled[node.output] = before

    def is_part(self, node: GraphNode) -> bool:
        """Tell whether a node is the Reshape back of a normalization, or its Mul or its Add."""
        if node.op == "Reshape":
            return node.output in self.normed
        return any(self.role(node, place) for place in range(len(node.inputs)))

    def role(self, node: GraphNode, place: int) -> str:
        """Return what an input of a node is there: the scale or the shift; empty where it is neither."""
        other = _other(node, place)
        if node.op == "Mul" and other in self.normed:
            return "weight"
        return "bias" if node.op == "Add" and other in self.scaled else ""

    def use(self, node: GraphNode, place: int, role: str, way: _Way) -> Use | None:
        """Return the use of a normalization's scale or shift; None where an input of a node is neither."""
        norm, (_, steps, shape) = self.instance(node, place), way
        count = math.prod(shape)
        steps = (*steps, TensorStep("reshape", (count,)))
        return Use(norm, role, None, steps, (count,)) if norm is not None else None

    def own_weights(self, node: GraphNode, place: int) -> tuple[str, ...]:
        """Return the tensors that the normalization has for itself which an input of a node scales or shifts."""
        norm = self.instance(node, place)
        return norm.inputs[1:] if norm is not None else ()

    def instance(self, node: GraphNode, place: int) -> GraphNode | None:
        """Return the normalization that an input of a node scales or shifts; None where it does neither."""
        other = _other(node, place)
        return {"weight": self.normed, "bias": self.scaled}.get(self.role(node, place), {}).get(other)


def find_ones_of_groups(nodes: Iterable[GraphNode]) -> set[str]:
    """Return the ones and zeros that the normalizations of groups have in the place of their weights."""
    groups, found = GroupNorms(), set[str]()
    for node in nodes:
        groups.follow(node)
        for place in range(len(node.inputs)):
            found.update(groups.own_weights(node, place))
    return found


def _role(
    node: GraphNode,
    place: int,
    products: Mapping[str, GraphNode],
    ways: Mapping[str, tuple[str, tuple[TensorStep, ...], Shape]],
) -> str:
    if node.op == "Gather":
        return "weight" if place == 0 else ""
    how = next((step.data[0].partition("(")[0] for step in ways[node.inputs[place]][1] if step.kind == COMPUTED), "")
    is_computed, is_moved = bool(how), bool(how) and how not in _ELEMENTWISE
    if node.op in SHIFTS:
        product = products.get(_other(node, place))
        if is_computed and product and not ways.keys() & {*product.inputs}:
            return ""  # positions, or a mask, for the product of queries and keys
        is_bias = product and (node.op == "Add" or place == 1) and not _is_one_number(node, place, product, ways)
        return "bias" if is_bias else ""
    if node.op == "Einsum":
        return "weight" if einsum_labels(node, place) and not {_other(node, place)} & ways.keys() else ""
    if node.op in RECURRENT and is_moved:
        return ""  # torch's gates, which its exporter puts into ONNX's order
    if place == 0 and node.op in _FROM_LEFT and len(ways[node.input][2]) == _MATRIX:
        if is_computed and products.keys() & {node.input}:
            return ""  # queries of the file, already multiplied by their matrix
        # Where both are of the file, the first is multiplied by the second: a table of queries, for one.
        return "weight" if not {*node.inputs[1:2]} & ways.keys() else ""
    roles = _ROLES.get(node.op, ())
    return roles[place - 1] if 0 < place <= len(roles) else ""


def _is_one_number(node: GraphNode, place: int, product: GraphNode, ways: Mapping[str, _Way]) -> bool:
    """Tell whether what is added is one number, and the product has several channels: a bias has one for each."""
    kernels = [ways[name][2] for name in product.inputs[:2] if name in ways]
    return math.prod(ways[node.inputs[place]][2]) == 1 and bool(kernels) and 1 not in kernels[-1]


def _factor(node: GraphNode, role: str) -> tuple[TensorStep, ...]:
    """Return the number by which a Gemm multiplies its product (``alpha``) or its bias (``beta``); -1 for a Sub."""
    if node.op == "Sub":
        return (TensorStep("scale", (-1.0,)),)
    factor = node.attributes.get("alpha" if role == "weight" else "beta", 1) if node.op in _FROM_LEFT[1:] else 1
    return (TensorStep("scale", (factor,)),) if isinstance(factor, float) and factor != 1 else ()


def _other(node: GraphNode, place: int) -> str:
    return node.inputs[1 - place] if len(node.inputs) == 2 else ""


def _axes(node: GraphNode, role: str, place: int) -> Axes | None:
    if node.op in RECURRENT:
        return GATES
    if role != "weight":
        return None
    if node.op in (*_CONVOLUTIONS, "QLinearConv", "PRelu"):
        return SPATIAL
    if node.op == "Einsum":
        _, labels, _ = einsum_labels(node, place) or ("", "", "")
        summed = [label not in node.attributes["equation"].partition("->")[2] for label in labels]
        return IN_OUT if summed == [True, False] else OUT_IN if summed == [False, True] else None
    if node.op in _FROM_LEFT and place == 0:  # its columns go with the rows of what it is multiplied with
        return IN_OUT if node.attributes.get("transA") == 1 else OUT_IN
    if node.op in (*_PRODUCTS, "QLinearMatMul", "QGemm"):
        return OUT_IN if node.attributes.get("transB") == 1 else IN_OUT
    return None


def _further(
    node: GraphNode,
    shape: Shape,
    numbers: Mapping[str, tuple[int | float, ...]],
    steps: tuple[TensorStep, ...],
    operands: Mapping[str, Operand],
) -> tuple[tuple[TensorStep, ...], Shape] | None:
    """Return the steps and the shape of a tensor behind a node that hands it on; None if the node does not."""
    if node.op in ("Identity", "Cast", "Dropout"):
        return steps, shape
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        levels = _levels(node, operands)
        kind = "quantize" if node.op == "QuantizeLinear" else "dequantize"
        return ((*steps, TensorStep(kind, (levels,))), shape) if levels else None
    if node.op == "Clip" and steps and steps[-1].kind == "quantize":  # to fewer whole numbers, such as -127 to 127
        limits = tuple(operands.get(name) for name in (*node.inputs[1:], "", "")[:2])
        return (*steps, TensorStep("clip", limits)), shape
    if node.op == "Transpose":
        # Without `perm` the axes are reversed: https://onnx.ai/onnx/operators/onnx__Transpose.html.
        order = node.attributes.get("perm", tuple(range(len(shape)))[::-1])
        if not isinstance(order, tuple) or sorted(order) != list(range(len(shape))):
            return None
        return (*steps, TensorStep("transpose", order)), tuple(shape[i] for i in order)
    target = _find_reshaped(node, shape, numbers)
    return ((*steps, TensorStep("reshape", target)), target) if target is not None else None


def _levels(node: GraphNode, operands: Mapping[str, Operand]) -> Levels | None:
    """Return the whole numbers that a node rounds to, or brings back; None if it does not say what it should."""
    axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
    if not isinstance(axis, int) or not isinstance(block, int) or block < 0 or len(node.inputs) < 2:
        return None
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    zero, scale = operands.get(name), operands.get(node.inputs[1])
    by_default = dtype_called(node.attributes.get("output_dtype")) or "uint8"
    dtype = zero.dtype if zero else by_default if not name else ""
    is_known = zero is not None or not name
    return Levels(scale if is_known else None, zero, axis, block, dtype if dtype in LIMITS else "")


def _find_reshaped(node: GraphNode, shape: Shape, numbers: Mapping[str, tuple[int | float, ...]]) -> Shape | None:
    """Return the shape that a node gives which moves no value; None if it is not such a node, or does not say."""
    given = numbers.get(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get("axes")
    given = node.attributes.get("shape", given) if node.op == "Reshape" else given
    if node.op == "Flatten":
        axis = node.attributes.get("axis", 1)
        return (math.prod(shape[:axis]), math.prod(shape[axis:])) if isinstance(axis, int) else None
    if node.op not in ("Reshape", "Squeeze", "Unsqueeze") or not isinstance(given, tuple):
        return None
    if not all(isinstance(n, int) for n in given):  # floats or texts, which the operator does not take
        return None
    sizes = [int(n) for n in given]
    if node.op == "Reshape":
        # 0 is the axis as it is, -1 what remains: https://onnx.ai/onnx/operators/onnx__Reshape.html (allowzero=0).
        whole = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(sizes)]
        known = math.prod(n for n in whole if n != -1)
        whole = [math.prod(shape) // known if n == -1 and known else n for n in whole]
        return tuple(whole) if math.prod(whole) == math.prod(shape) and min(whole, default=1) >= 0 else None
    if node.op == "Unsqueeze":
        rank = len(shape) + len(sizes)
        ones = {n % rank for n in sizes} if rank else set()
        rest = iter(shape)
        return tuple(1 if i in ones else next(rest) for i in range(rank)) if len(ones) == len(sizes) else None
    dropped = {n % len(shape) for n in sizes} if shape else set()
    return tuple(n for i, n in enumerate(shape) if i not in dropped) if all(shape[i] == 1 for i in dropped) else None
