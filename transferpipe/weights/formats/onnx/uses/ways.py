"""On which way a tensor of an ONNX file gets to the node that takes it as a weight.

On its way it may be transposed, reshaped, cut, cast, rounded and dequantized; what it is then is the weight. What more
is done to it is not followed, but said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass

from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.operands import FLOATS
from transferpipe.weights.formats.onnx.steps import LIMITS, Levels, Operand, Shape, TensorStep
from transferpipe.weights.formats.onnx.tensor import dtype_called
from transferpipe.weights.formats.onnx.uses.cuts import find_cuts, is_turned
from transferpipe.weights.formats.onnx.uses.products import is_product
from transferpipe.weights.formats.onnx.uses.use import COMPUTED, Way

# What changes values one by one; a tensor that it changes is not what the operator behind it takes.
ELEMENTWISE = frozenset(
    ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Neg", "Abs", "Sqrt", "Exp", "Log", "Tanh", "Sigmoid", "Softplus",
     "Reciprocal", "Relu", "Clip", "Sign", "Round", "Floor", "Ceil", "Softmax", "HardSigmoid"]
)  # fmt: skip
# What tells of a tensor's shape, not of its values.
_OF_SHAPES = frozenset(["Shape", "Size", "ConstantOfShape"])
_LONGEST = 120  # letters of what is computed, in a message
# Between a tensor of the file and the operator that takes it stand a transpose and a pair of quantize and dequantize; a
# graph may be made to cost time.
_MOST_STEPS = 20


def hand_on(
    node: GraphNode,
    ways: Mapping[str, Way],
    numbers: Mapping[str, tuple[int | float, ...]],
    operands: Mapping[str, Operand],
) -> dict[str, Way]:
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


def find_computed(node: GraphNode, ways: Mapping[str, Way], constant: Set[str], dtypes: Mapping[str, str]) -> list[Way]:
    """Return the tensors that a node changes with nothing but tensors of the file.

    Of those that it computes with one by one that is the largest. Whole numbers are shapes and places, but for those
    that arithmetic turns into a weight.
    """
    if node.op in _OF_SHAPES or not node.output or node.output not in constant:
        return []
    known = sorted((name for name in node.inputs if name in ways), key=lambda name: -math.prod(ways[name][2]))
    if not known or node.output in ways:
        return []
    if node.op not in ELEMENTWISE:
        known = [name for name in known if dtypes.get(ways[name][0]) in FLOATS]
    text = f"{node.op}({', '.join(_word(name, ways) for name in filter(None, node.inputs))})"
    step = TensorStep(COMPUTED, (text if len(text) <= _LONGEST else f"{node.op}(...)",))
    found = []
    for name in known if is_product(node) or node.op == "Concat" else known[:1]:
        origin, steps, shape = ways[name]
        found.append((origin, (*(s for s in steps if s.kind != COMPUTED), step), shape))
    return found


def _word(name: str, ways: Mapping[str, Way]) -> str:
    """Return how a tensor is computed, or what it is called in the file."""
    origin, steps, _ = ways.get(name, (name, (), ()))
    return next((str(step.data[0]) for step in steps if step.kind == COMPUTED), origin)


@dataclass
class Operands:
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
