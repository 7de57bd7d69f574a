"""What the nodes of an ONNX graph take as weights, and on which way a tensor of the file gets there.

How an operator arranges the axes of its weights: https://onnx.ai/onnx/operators/. On its way to the node that
multiplies by it a tensor may be transposed, reshaped, cast and dequantized; what it is then is the weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.spec import GATES, IN_OUT, OUT_IN, SPATIAL, Axes

Shape = tuple[int, ...]

RECURRENT = ("LSTM", "GRU", "RNN")
_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger")
_CONVOLUTIONS = ("Conv", "ConvTranspose", "ConvInteger", "FusedConv")
_SCALE_AND_SHIFT = ("weight", "bias")
_ROLES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((*_PRODUCTS, *_CONVOLUTIONS), _SCALE_AND_SHIFT),
    "MatMul": ("weight",),
    "QLinearConv": ("", "", "weight"),
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization"), _SCALE_AND_SHIFT),
    "PRelu": ("weight",),
    "LSTM": ("W", "R", "B", "", "", "", "P"),
    "GRU": ("W", "R", "B"),
    "RNN": ("W", "R", "B"),
}
"""What the inputs behind the first one are, as torch calls them in its modules."""
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Concat", "Gather", "Einsum", "Pow", "Where", "Max", "Min")
_OPERANDS_FROM: Mapping[str, int] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Slice", "Pad", "Expand", "Resize", "Upsample", "Tile"), 1),
    **dict.fromkeys(("Split", "Gather", "Clip", "TopK", "Dropout", "QuantizeLinear", "DequantizeLinear", "OneHot"), 1),
    **dict.fromkeys(("GatherElements", "GatherND", "CumSum", "Trilu"), 1),
    **dict.fromkeys(("ConstantOfShape", "Range", "If"), 0),
}
"""The input from which on an operator takes what says how it computes."""
# The place of LSTM's input P in the operator's specification.
_PEEPHOLES = 7
_FLOATS = ("float16", "bfloat16", "float32", "float64")
# Between a tensor of the file and the operator that takes it stand a transpose and a pair of quantize and dequantize; a
# graph may be made to cost time.
_MOST_STEPS = 20


@dataclass(frozen=True)
class TensorStep:
    """One change on the way of a tensor, with its data: transpose, reshape, scale, quantize or dequantize."""

    kind: str
    data: tuple[Any, ...] = ()


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


def is_product(node: GraphNode) -> bool:
    """Tell whether a node multiplies by a matrix, or with a window, so that an addition behind it is its bias."""
    return node.op in _PRODUCTS or node.op in _CONVOLUTIONS


def find_uses(
    nodes: Sequence[GraphNode], shapes: Mapping[str, Shape], numbers: Mapping[str, tuple[int | float, ...]]
) -> dict[str, list[Use]]:
    """Return how nodes take the tensors of the file as weights, by the tensors' names.

    Args:
        nodes: the nodes in the order in which they compute.
        shapes: the shapes of the tensors that lie in the file, by their names.
        numbers: the values of those that are small.
    """
    # The tensor of the file that a value is, with what was done to it and its shape now.
    ways: dict[str, tuple[str, tuple[TensorStep, ...], Shape]] = {
        name: (name, (), shape) for name, shape in shapes.items()
    }
    products: dict[str, GraphNode] = {}
    groups = _GroupNorms()
    found: dict[str, list[Use]] = {}
    for node in nodes:
        groups.follow(node)
        if node.input in ways:
            origin, steps, shape = ways[node.input]
            further = _further(node, shape, numbers, steps)
            if further is not None and len(steps) < _MOST_STEPS:
                ways[node.output] = (origin, *further)
                continue
        if is_product(node) and node.output:
            products[node.output] = node
        for place, name in enumerate(node.inputs):
            if name not in ways or not (role := _role(node, place, products) or groups.role(node, place)):
                continue
            origin, steps, shape = ways[name]
            if (norm := groups.instance(node, place)) is not None:
                count = math.prod(shape)
                found.setdefault(origin, []).append(
                    Use(norm, role, None, (*steps, TensorStep("reshape", (count,))), (count,))
                )
                for own in norm.inputs[1:]:  # its own ones and zeros do nothing
                    found.pop(own, None)
                continue
            steps = (*steps, *_factor(node, role))
            # The bias that an Add brings belongs to the product before it: both are weights of one layer.
            taker = products.get(_other(node, place)) or node if node.op == "Add" else node
            found.setdefault(origin, []).append(Use(taker, role, _axes(node, role), steps, shape))
    return found


@dataclass
class _GroupNorms:
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

    def role(self, node: GraphNode, place: int) -> str:
        """Return what an input of a node is there: the scale or the shift; empty where it is neither."""
        other = _other(node, place)
        if node.op == "Mul" and other in self.normed:
            return "weight"
        return "bias" if node.op == "Add" and other in self.scaled else ""

    def instance(self, node: GraphNode, place: int) -> GraphNode | None:
        """Return the normalization that an input of a node scales or shifts; None where it does neither."""
        other = _other(node, place)
        return {"weight": self.normed, "bias": self.scaled}.get(self.role(node, place), {}).get(other)


def _role(node: GraphNode, place: int, products: Mapping[str, GraphNode]) -> str:
    if node.op == "Gather":
        return "weight" if place == 0 else ""
    if node.op == "Add":
        return "bias" if _other(node, place) in products else ""
    roles = _ROLES.get(node.op, ())
    return roles[place - 1] if 0 < place <= len(roles) else ""


def _factor(node: GraphNode, role: str) -> tuple[TensorStep, ...]:
    """Return the number by which a Gemm multiplies its product (``alpha``) or its bias (``beta``)."""
    factor = node.attributes.get("alpha" if role == "weight" else "beta", 1) if node.op in ("Gemm", "FusedGemm") else 1
    return (TensorStep("scale", (factor,)),) if isinstance(factor, float) and factor != 1 else ()


def _other(node: GraphNode, place: int) -> str:
    return node.inputs[1 - place] if len(node.inputs) == 2 else ""


def _axes(node: GraphNode, role: str) -> Axes | None:
    if node.op in RECURRENT:
        return GATES
    if role != "weight":
        return None
    if node.op in (*_CONVOLUTIONS, "QLinearConv", "PRelu"):
        return SPATIAL
    if node.op in _PRODUCTS:
        return OUT_IN if node.attributes.get("transB") == 1 else IN_OUT
    return None


def _further(
    node: GraphNode, shape: Shape, numbers: Mapping[str, tuple[int | float, ...]], steps: tuple[TensorStep, ...]
) -> tuple[tuple[TensorStep, ...], Shape] | None:
    """Return the steps and the shape of a tensor behind a node that hands it on; None if the node does not."""
    if node.op in ("Identity", "Cast", "Dropout"):
        return steps, shape
    if node.op == "QuantizeLinear":
        return (*steps, TensorStep("quantize")), shape
    if node.op == "DequantizeLinear":
        return _dequantized(node, shape, steps)
    if node.op == "Transpose":
        # Without `perm` the axes are reversed: https://onnx.ai/onnx/operators/onnx__Transpose.html.
        order = node.attributes.get("perm", tuple(range(len(shape)))[::-1])
        if not isinstance(order, tuple) or sorted(order) != list(range(len(shape))):
            return None
        return (*steps, TensorStep("transpose", order)), tuple(shape[i] for i in order)
    target = _reshaped(node, shape, numbers)
    return ((*steps, TensorStep("reshape", target)), target) if target is not None else None


def _dequantized(
    node: GraphNode, shape: Shape, steps: tuple[TensorStep, ...]
) -> tuple[tuple[TensorStep, ...], Shape] | None:
    if steps and steps[-1].kind == "quantize":  # a float that the runtime rounds; the file has it unrounded
        return steps[:-1], shape
    axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
    if not isinstance(axis, int) or not isinstance(block, int) or block < 0 or len(node.inputs) < 2:
        return None
    zero = node.inputs[2] if len(node.inputs) > 2 else ""
    return (*steps, TensorStep("dequantize", (node.inputs[1], zero, axis, block))), shape


def _reshaped(node: GraphNode, shape: Shape, numbers: Mapping[str, tuple[int | float, ...]]) -> Shape | None:
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


@dataclass(frozen=True)
class Weight:
    """A tensor of the file as the weight that it is.

    Attributes:
        shape: its shape.
        dtype: its dtype.
        axes: how its axes are arranged, where the nodes that take it agree on that.
        steps: what is to be done to the tensor of the file; empty where that is the weight itself.
    """

    shape: Shape
    dtype: str
    axes: Axes | None = None
    steps: tuple[TensorStep, ...] = ()


def weight_of(name: str, shape: Shape, dtype: str, uses: Sequence[Use], dtypes: Mapping[str, str]) -> Weight:
    """Return the weight that the tensor called `name` is.

    A matrix that is only transposed stays as it lies in the file, and what is said of its axes is turned. Where nodes
    take a tensor in several ways it stays as it is, and where they disagree about axes nothing is said of these.
    """
    ways = {(use.steps, use.shape) for use in uses}
    if len(ways) != 1 or (all(s.kind == "transpose" for steps, _ in ways for s in steps) and len(shape) == 2):
        axes = {_turned(use) for use in uses if use.axes}
        return Weight(shape, dtype, axes.pop() if len(axes) == 1 else None)
    ((steps, there),) = ways
    axes = {use.axes for use in uses if use.axes}
    scales = [step.data[0] for step in steps if step.kind == "dequantize"]
    if any(step.kind == "quantize" for step in steps) or any(scale not in dtypes for scale in scales):
        return Weight(shape, dtype)
    return Weight(there, dtypes[scales[-1]] if scales else dtype, axes.pop() if len(axes) == 1 else None, steps)


def _turned(use: Use) -> Axes | None:
    turns = sum(step.data == (1, 0) for step in use.steps)
    turned: dict[Axes | None, Axes] = {IN_OUT: OUT_IN, OUT_IN: IN_OUT}
    if any(step.kind != "transpose" for step in use.steps):
        return None
    return turned.get(use.axes, use.axes) if turns % 2 else use.axes


def apply_steps(value: NDArray[Any], steps: Iterable[TensorStep], read: Callable[[str], NDArray[Any]]) -> NDArray[Any]:
    """Return what `steps` make of the value of a tensor.

    Dequantizing is (x - zero point) * scale, one scale for all, or one for each place or block along an axis:
    https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html.

    Args:
        value: the value in the file.
        steps: what is done to it.
        read: gives the value of another tensor of the file.

    Raises:
        ValueError: the scales are not as many as the places that they are for.
    """
    for step in steps:
        if step.kind == "transpose":
            value = value.transpose(step.data)
        elif step.kind == "reshape":
            value = value.reshape(step.data)
        elif step.kind == "scale":
            value = value * value.dtype.type(step.data[0])
        else:
            scale_name, zero_name, axis, block = step.data
            scale = read(scale_name)
            zero = read(zero_name) if zero_name else np.zeros((), value.dtype)
            # x - zero point leaves the range of 8 bits, so it is taken in wider numbers and is exact.
            wide = value.astype(np.int64) if value.dtype.kind in "iu" else value.astype(np.float32)
            zero = zero.astype(wide.dtype)
            zero, each = _along(zero, value, axis, block), _along(scale, value, axis, block)
            value = ((wide - zero).astype(scale.dtype) * each).astype(scale.dtype)
    return np.ascontiguousarray(value)


def _along(numbers: NDArray[Any], value: NDArray[Any], axis: int, block: int) -> NDArray[Any]:
    """Return one number, or one a place or a block along an axis, in the shape that goes with `value`."""
    if numbers.ndim < 2 and numbers.size == 1:
        return numbers.reshape(())
    if block:
        return _by_block(numbers, value, axis, block)
    if not -value.ndim <= axis < value.ndim or numbers.shape != (value.shape[axis],):
        raise ValueError(f"has scales of shape {numbers.shape} along axis {axis} of {value.shape}")
    return numbers.reshape([-1 if i == axis % value.ndim else 1 for i in range(value.ndim)])


def _by_block(numbers: NDArray[Any], value: NDArray[Any], axis: int, block: int) -> NDArray[Any]:
    """Return the number of each place, of which `block` neighbours along an axis share one; the last may be fewer."""
    rank = value.ndim
    if not -rank <= axis < rank:
        raise ValueError(f"has scales along axis {axis} of {value.shape}")
    length = value.shape[axis]
    each = min(block, max(1, length))  # a file may say any number
    blocks = [-(-n // each) if i == axis % rank else n for i, n in enumerate(value.shape)]
    if list(numbers.shape) != blocks:
        where = f"blocks of {block} along axis {axis} of {value.shape}"
        raise ValueError(f"has scales of shape {numbers.shape} for {where}")
    return np.take(np.repeat(numbers, each, axis), np.arange(length), axis)


def constants_used(nodes: Iterable[GraphNode], uses: Mapping[str, Any], tensors: Mapping[str, Any]) -> set[str]:
    """Return the names of the tensors in ``Constant`` nodes that are weights.

    These are what a node takes as a weight, and arrays of floats that some arithmetic takes. Shapes, axes, and single
    numbers are not weights.
    """
    found = {node.output for node in nodes if node.op == "Constant" and node.output in uses}
    for node in nodes:
        for name in node.inputs if node.op in _ARITHMETIC else ():
            tensor = tensors.get(name)
            if tensor is not None and tensor.dtype in _FLOATS and math.prod(tensor.shape) > 1:
                found.add(name)
    return found


def operands_of(nodes: Iterable[GraphNode]) -> set[str]:
    """Return the names of the tensors that nodes take only as shapes, axes, indices, limits, scales and the like."""
    found: set[str] = set()
    others: set[str] = set()
    for node in nodes:
        # Behind X, W, R and B of a recurrent operator stand lengths, initial states, and the peepholes.
        first = _OPERANDS_FROM.get(node.op, 4 if node.op in RECURRENT else None)
        if node.op.startswith("Reduce"):
            first = 1
        if node.op == "Loop":  # how often, and whether at all; behind these stands what it computes with
            found.update(node.inputs[:2])
            first = None
        for place, name in enumerate(node.inputs):
            if node.op == "Loop" and place < 2:
                continue
            is_operand = first is not None and place >= first and not (node.op in RECURRENT and place == _PEEPHOLES)
            (found if is_operand else others).add(name)
    return found - others
