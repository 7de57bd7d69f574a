"""What the operations of a TensorFlow graph take its constants for: kernel, bias, gamma, as Keras calls weights.

Operations: https://www.tensorflow.org/api_docs/python/tf/raw_ops. Where a layer of Keras is several of them, what they
are together is in the functions of its backend: https://github.com/keras-team/keras/blob/master/keras/src/backend/tensorflow/nn.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from transferpipe.weights.formats.tensorflow.operation_names import layer_of

Shape = tuple[int, ...]

_PRODUCTS = (
    "MatMul", "_FusedMatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2D", "Conv3D",
    "_FusedConv2D", "_FusedConv3D", "DepthwiseConv2dNative", "_FusedDepthwiseConv2dNative",
    "FusedDepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2",
)  # fmt: skip
_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "_FusedBatchNormEx")
_LOOKUPS = ("Gather", "GatherV2", "ResourceGather")
_ADDS = ("Add", "AddV2", "BiasAdd", "BiasAddV1")
_ROLES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_PRODUCTS, ("", "kernel")),
    **dict.fromkeys((op for op in _PRODUCTS if "Fused" in op), ("", "kernel", "bias")),
    **dict.fromkeys(_NORMS, ("", "gamma", "beta", "moving_mean", "moving_variance")),
    **dict.fromkeys(_LOOKUPS, ("embeddings",)),
    **dict.fromkeys(("BiasAdd", "BiasAddV1"), ("", "bias")),
    "Prelu": ("", "alpha"),
}
ARGUMENT = "_Arg"
"""The operation that an argument of a function counts as; what it takes is what the function is called with."""
# What gives a value on as it is, or a part of it, and which of its inputs that is. Of a loop that is what it begins
# with: what changes from step to step is a state, which no operation takes as a weight.
_AS_IT_IS = ("Identity", "Cast", "Reshape", "Squeeze")
_FIRST_INPUT = (
    *_AS_IT_IS, "ReadVariableOp", "Enter", "Merge", "Switch", "StopGradient", "ExpandDims", "Dequantize",
    "StridedSlice", "Unpack", ARGUMENT,
)  # fmt: skip
_HANDED_ON: Mapping[str, int] = {**dict.fromkeys(_FIRST_INPUT, 0), "Split": 1}
# The first operation of `tf.nn.separable_conv2d`, and what the second one may be.
_SEPARABLE, _POINTWISE = "separable_conv2d/depthwise", ("Conv2D", "_FusedConv2D")
# Where a loop gets what is new in each step of it.
_STEPS = ("TensorListGetItem", "TensorArrayReadV3")
# Between a product and the sum with its bias stand a Reshape and a Transpose; a graph may be made to cost time.
_MOST_BETWEEN = 5
# A product has two factors, and a sum that an optimizer made of a normalization's terms three.
_MOST_FACTORS = 4


@dataclass(frozen=True)
class GraphOperation:
    """One node of a graph: its name, its operation, the names of the nodes whose outputs it takes, and of functions."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()


def plain_input(text: str) -> str:
    """Return the node that an input names: without the number of an output; empty for one that only orders.

    >>> plain_input("split:1"), plain_input("^NoOp")
    ('split', '')
    """
    return "" if text.startswith("^") else text.partition(":")[0]


@dataclass
class ConstantRoles:
    """What the operations of a graph take each constant for.

    Attributes:
        operations: the graph's nodes, in any order.
        shapes: the shapes of the constants by their names.
        uses: by a constant's name pairs of a role and the name of the operation that takes it.
    """

    operations: Sequence[GraphOperation]
    shapes: Mapping[str, Shape]
    uses: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._kinds = {o.name: o for o in self.operations}
        self._origin = {name: name for name in self.shapes}
        computed = set[str]()
        for o in self.operations:
            self._trace(o.name, computed)
        self._behind: dict[str, list[GraphOperation]] = {}
        for o in self.operations:
            for name in map(plain_input, o.inputs):
                self._behind.setdefault(name, []).append(o)
        cells = {layer_of(o.name) for o in self.operations if self._is_of_step(o)}
        for o in self.operations:
            for role, name in self._take(o):
                if name in self._origin:
                    role = self._among_two(role, o, cells)
                    self.uses.setdefault(self._origin[name], []).append((role, o.name))

    def _trace(self, name: str, computed: set[str]) -> None:
        """Note which constant a node hands on, or that it is one of those that hand on none."""
        way: dict[str, None] = {}
        while name not in self._origin and name not in way and name not in computed:
            way[name] = None
            name = self._before(name, _HANDED_ON)
        if name in self._origin:
            self._origin |= dict.fromkeys(way, self._origin[name])
        else:
            computed.update(way)

    def _before(self, name: str, handed_on: Mapping[str, int]) -> str:
        """Return what a node hands on of those that do; empty where it computes."""
        o = self._kinds.get(name)
        inputs = [plain_input(text) for text in o.inputs] if o and o.op in handed_on else []
        return inputs[handed_on[o.op]] if o and len(inputs) > handed_on.get(o.op, 0) else ""

    def _take(self, o: GraphOperation) -> Iterator[tuple[str, str]]:
        inputs = [name for name in map(plain_input, o.inputs) if name]
        roles = _ROLES.get(o.op, ())
        known = [(role, name) for role, name in zip(roles, inputs, strict=False) if role]
        yield from ((role, name) for role, name in known if role != "embeddings" or self._is_table(name))
        # -alpha * relu(-x): the part of PReLU that the weight is in.
        if o.op == "Neg" and inputs and any(self._is_slope(b, o.name) for b in self._behind_of(o)):
            yield "alpha", inputs[0]
        if len(inputs) != 2 or roles:
            return
        # Products and sums may be written either way round.
        for name, other in (inputs, inputs[::-1]):
            if name in self._origin and other not in self._origin and (role := self._in_sum(o, name, other)):
                yield role, name
            # variance + epsilon, whose reciprocal root is taken next.
            elif name in self._origin and self._is_number(other) and self._leads_to(o, "Rsqrt"):
                yield "moving_variance", name

    def _among_two(self, role: str, o: GraphOperation, cells: set[str]) -> str:
        """Return which of the two kernels of a recurrent cell or of a separable convolution a kernel is."""
        if role != "kernel":
            return role
        if layer_of(o.name) in cells:
            return role if self._is_of_step(o) else "recurrent_kernel"
        before = self._kinds.get(plain_input(o.inputs[0]))
        if o.name.endswith(_SEPARABLE) and any(b.op in _POINTWISE for b in self._behind_of(o)):
            return "depthwise_kernel"
        is_second = o.op in _POINTWISE and before is not None and before.name.endswith(_SEPARABLE)
        return "pointwise_kernel" if is_second else role

    def _is_of_step(self, o: GraphOperation) -> bool:
        """Tell whether a product is of what a step of a loop brings, as that of a recurrent cell with its kernel is."""
        if o.op not in _PRODUCTS or len(o.inputs) < 2 or plain_input(o.inputs[1]) not in self._origin:
            return False
        before = self._kinds.get(self._climb(plain_input(o.inputs[0]), dict.fromkeys(_AS_IT_IS, 0)))
        return before is not None and before.op in _STEPS

    def _climb(self, name: str, through: Mapping[str, int]) -> str:
        """Return the node from which a value comes that others hand on."""
        for _ in range(_MOST_BETWEEN):
            name = self._before(name, through) or name
        return name

    def _in_sum(self, o: GraphOperation, name: str, other: str) -> str:
        """Return the role of one side of a product or a sum, whose other side is computed.

        Keras computes a normalization that no single operation does as x * m + (beta - mean * m), with m the
        reciprocal root of the variance times gamma.
        """
        before = self._kinds.get(other)
        kind = before.op if before else ""
        # m = rsqrt(variance + epsilon) * gamma, by which x is multiplied next.
        if o.op == "Mul" and kind == "Rsqrt" and self._leads_to(o, "Mul"):
            return "gamma"
        # mean * m, which is taken from beta next.
        if o.op == "Mul" and kind in ("Mul", "Rsqrt") and self._leads_to(o, "Sub"):
            return "moving_mean"
        if o.op == "Sub" and kind == "Mul" and plain_input(o.inputs[0]) == name:
            return "beta"
        if o.op in _ADDS and self._is_bias(self.shapes[self._origin[name]], other):
            return "bias"
        if o.op in _ADDS and kind in ("Mul", "AddN") and before is not None and self._has_root(before):
            return "beta"
        return ""

    def _is_bias(self, shape: Shape, name: str) -> bool:
        """Tell whether a constant of this shape is a bias where `name` is a product, or the sum of two.

        The axes of the product may have been moved and split, as those of attention; a table of positions, which is
        added likewise, does not end as the kernel does.
        """
        o = self._kinds.get(self._climb(name, dict.fromkeys((*_AS_IT_IS, "Transpose"), 0)))
        if o is not None and o.op in _ADDS:
            added = [self._kinds.get(plain_input(text)) for text in o.inputs]
            o = added[0] if len(added) == 2 and all(a is not None and a.op in _PRODUCTS for a in added) else None
        if o is None or o.op not in _PRODUCTS:
            return False
        own = tuple(n for n in shape if n > 1)
        kernel = self.shapes.get(self._origin.get(plain_input(o.inputs[1]), ""), ()) if len(o.inputs) > 1 else ()
        return len(own) < 2 or kernel[-len(own) :] == own

    def _is_slope(self, o: GraphOperation, name: str) -> bool:
        """Tell whether a node multiplies `name` by what a Relu gives."""
        others = [other for other in map(plain_input, o.inputs) if other != name]
        return o.op == "Mul" and any(other in self._kinds and self._kinds[other].op == "Relu" for other in others)

    def _has_root(self, o: GraphOperation, depth: int = 3) -> bool:
        """Tell whether a product, or a sum of such, has a reciprocal root among its factors, as normalizations have."""
        if o.op == "Rsqrt":
            return True
        before = (self._kinds.get(plain_input(text)) for text in o.inputs)
        return (
            depth > 0 and o.op in ("Mul", "AddN") and any(self._has_root(b, depth - 1) for b in before if b is not None)
        )

    def _behind_of(self, o: GraphOperation) -> Sequence[GraphOperation]:
        return self._behind.get(o.name, ())

    def _leads_to(self, o: GraphOperation, op: str) -> bool:
        return any(taker.op == op for taker in self._behind_of(o))

    def _is_number(self, name: str) -> bool:
        """Tell whether a constant is a single number, or none that is asked for, such as an epsilon."""
        if name in self._origin:
            return not self.shapes[self._origin[name]]
        return name in self._kinds and self._kinds[name].op == "Const"

    def _is_table(self, name: str) -> bool:
        return name in self._origin and len(self.shapes[self._origin[name]]) > 1
