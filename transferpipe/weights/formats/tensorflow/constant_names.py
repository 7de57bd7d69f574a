"""Names for the constants of a TensorFlow graph: the layer's path, and what the weight is there, as Keras calls it.

A frozen graph, and a TensorFlow.js graph model, call a weight by the operation that read its variable
(``model/d/BiasAdd/ReadVariableOp``), by a number (``unknown_26``), or by what an optimizer of graphs made of it. The
operations that take it tell more: `role_of` has what the inputs of each are, and `_ReadRoles` how Keras computes
normalizations out of products and sums. The file's own name stays a second one.

Operations: https://www.tensorflow.org/api_docs/python/tf/raw_ops.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Shape = tuple[int, ...]

_PRODUCTS = (
    "MatMul", "_FusedMatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Conv2D", "Conv3D", "_FusedConv2D",
    "_FusedConv3D", "DepthwiseConv2dNative", "_FusedDepthwiseConv2dNative", "FusedDepthwiseConv2dNative",
    "Conv2DBackpropInput", "Conv3DBackpropInputV2",
)  # fmt: skip
_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "_FusedBatchNormEx")
_LOOKUPS = ("Gather", "GatherV2", "ResourceGather")
_HANDED_ON = (
    "Identity", "ReadVariableOp", "Cast", "Enter", "StopGradient", "Reshape", "Squeeze", "ExpandDims", "Dequantize",
)  # fmt: skip
_ADDS = ("Add", "AddV2", "BiasAdd", "BiasAddV1")
_ROLES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_PRODUCTS, ("", "kernel")),
    **dict.fromkeys((op for op in _PRODUCTS if "Fused" in op), ("", "kernel", "bias")),
    **dict.fromkeys(_NORMS, ("", "gamma", "beta", "moving_mean", "moving_variance")),
    **dict.fromkeys(_LOOKUPS, ("embeddings",)),
    **dict.fromkeys(("BiasAdd", "BiasAddV1"), ("", "bias")),
    "Prelu": ("", "alpha"),
}
_OWN = re.compile(r"kernel|bias|gamma|beta|moving_mean|moving_variance|embeddings|alpha|depthwise_kernel")
# What reads a variable, and what a graph's optimizer adds, at the end of a name.
_READ = re.compile(r"(/resource|/read|/ReadVariableOp(_\d+)?|ReadVariableOp(_\d+)?|:\d+)$")
_SAYS_NOTHING = re.compile(r"(.*/)?(unknown|Const|Constant|ConstantFolding|arith\.constant|tfl\.pseudo_\w+)?[_/]?\d*")
# What operations of TensorFlow and layers of Keras are both called.
_LIKE_LAYERS = re.compile(r"((depthwise_|separable_)?conv[123]d(_transpose)?)(_\d+)?")
# The operations of a layer, by the names that Keras gives them inside of it; tf.raw_ops, and Keras's own backends.
_OPERATION = re.compile(
    r"(MatMul|Conv[123]D|Conv[23]DTranspose|conv[123]d(_transpose)?|convolution|conv_transpose|depthwise|separable_conv2d"
    r"|DepthwiseConv2dNative|Tensordot|BiasAdd|Reshape|Cast|Squeeze|ExpandDims|FusedBatchNorm(V\d)?|Scaled|Offset"
    r"|batchnorm|embedding_lookup|GatherV2|mul|add|sub|Mul|Add|AddV2|Sub|Relu6?|Sigmoid|Tanh|einsum|Einsum|transpose)(_\d+)?"
)
_BY_OPERATION = {
    "MatMul": "kernel", "Conv1D": "kernel", "Conv2D": "kernel", "Conv3D": "kernel", "convolution": "kernel",
    "conv1d": "kernel", "depthwise": "kernel", "conv_transpose": "kernel", "conv2d_transpose": "kernel",
    "DepthwiseConv2dNative": "kernel", "Tensordot": "kernel", "BiasAdd": "bias", "embedding_lookup": "embeddings",
    "Scaled": "gamma", "Offset": "beta",
}  # fmt: skip
_WRAPPERS = re.compile(r"((Stateful)?PartitionedCall(_\d+)?/)+")


@dataclass(frozen=True)
class GraphOperation:
    """One node of a graph: its name, its operation, and the names of the nodes whose outputs it takes."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()


def plain_input(text: str) -> str:
    """Return the node that an input names: without the number of an output; empty for one that only orders.

    >>> plain_input("split:1"), plain_input("^NoOp")
    ('split', '')
    """
    return "" if text.startswith("^") else text.partition(":")[0]


def name_constants(shapes: Mapping[str, Shape], operations: Sequence[GraphOperation] = ()) -> dict[str, str]:
    """Return the catalog's name of every constant that is a weight, by its name in the file.

    Args:
        shapes: the shapes of the constants by their names.
        operations: the graph's nodes, as far as it is known.

    >>> name_constants({"a/BiasAdd/ReadVariableOp": (3,), "d/kernel:0": (2, 3)})
    {'a/BiasAdd/ReadVariableOp': 'a/bias', 'd/kernel:0': 'd/kernel'}
    """
    reads = _ReadRoles(operations, shapes)
    found = {}
    for name in shapes:
        role, layer = _by_name(name)
        uses = reads.uses.get(name, [])
        roles = {r for r, _ in uses}
        if len(roles) == 1 and uses:
            role = roles.pop() if not _OWN.fullmatch(name.rpartition("/")[2].partition(":")[0]) else role
            layers = {_parent(taker) for _, taker in uses}
            layer = layer or (layers.pop() if len(layers) == 1 else "")
        found[name] = f"{layer}/{role}" if role and layer else _READ.sub("", name) if role else name
    return _apart(found)


def weights_among(shapes: Mapping[str, Shape], operations: Sequence[GraphOperation]) -> set[str]:
    """Return the names of the constants that some operation takes as a weight."""
    return set(_ReadRoles(operations, shapes).uses)


def _apart(found: Mapping[str, str]) -> dict[str, str]:
    """Leave out the wrappers that all names begin with, and go back to the file's name where two would be one."""
    short = {name: _WRAPPERS.sub("", new, count=1) if _WRAPPERS.match(new) else new for name, new in found.items()}
    for candidate in (short, dict(found)):
        count = Counter(candidate.values())
        if max(count.values(), default=1) == 1:
            return candidate
    count = Counter(short.values())
    mixed = {name: new if count[new] == 1 else name for name, new in short.items()}
    return mixed if len(set(mixed.values())) == len(mixed) else {name: name for name in found}


def _by_name(name: str) -> tuple[str, str]:
    """Return what a name alone tells of the role of a constant, and of its layer; each empty if it does not."""
    path = name
    while (shorter := _READ.sub("", path)) != path:
        path = shorter
    layer, _, own = path.rpartition("/")
    if _OWN.fullmatch(own):
        return own, layer
    if _SAYS_NOTHING.fullmatch(path):
        return "", ""
    role = next((r for part, r in _BY_OPERATION.items() if re.fullmatch(rf"{part}(_\d+)?", own)), "")
    if not own or not _OPERATION.fullmatch(own):
        return "", path if path != name else ""
    return role, _strip_operations(layer)


def _strip_operations(path: str) -> str:
    """Return what is before the operations that a path ends with, behind one operation.

    Keras calls its layers like some of them: ``conv2d/Conv2D`` is of ``conv2d``, ``separable_conv2d_1/separable_conv2d/
    depthwise`` of ``separable_conv2d_1``.
    """
    before, _, own = path.rpartition("/")
    while own and _OPERATION.fullmatch(own):
        if _LIKE_LAYERS.fullmatch(own) and not _LIKE_LAYERS.fullmatch(before.rpartition("/")[2]):
            break
        path = before
        before, _, own = path.rpartition("/")
    return path


def _parent(taker: str) -> str:
    """Return the layer that an operation belongs to, by its name."""
    layer, _, own = taker.rpartition("/")
    return _strip_operations(layer) or own


@dataclass
class _ReadRoles:
    """What the operations of a graph take each constant for: pairs of a role and the name of the operation.

    Keras computes a normalization that no single operation does as x * m + (beta - mean * m), with m the reciprocal
    root of the variance times gamma: ``batch_normalization`` of https://github.com/keras-team/keras/blob/master/keras/src/backend/tensorflow/nn.py.
    """

    operations: Sequence[GraphOperation]
    shapes: Mapping[str, Shape]
    uses: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        origin = {name: name for name in self.shapes}
        kinds = {o.name: o for o in self.operations}
        for o in self.operations:
            inputs = [plain_input(text) for text in o.inputs]
            if o.op in _HANDED_ON and inputs and inputs[0] in origin and o.name not in origin:
                origin[o.name] = origin[inputs[0]]
        self._kinds, self._origin = kinds, origin
        behind: dict[str, list[GraphOperation]] = {}
        for o in self.operations:
            for name in map(plain_input, o.inputs):
                behind.setdefault(name, []).append(o)
        self._behind = behind
        for o in self.operations:
            for role, name in self._take(o):
                if name in origin:
                    self.uses.setdefault(origin[name], []).append((role, o.name))

    def _take(self, o: GraphOperation) -> Iterator[tuple[str, str]]:
        inputs = [name for name in map(plain_input, o.inputs) if name]
        roles = _ROLES.get(o.op, ())
        known = [(role, name) for role, name in zip(roles, inputs, strict=False) if role]
        yield from ((role, name) for role, name in known if role != "embeddings" or self._is_table(name))
        if len(inputs) != 2 or roles:
            return
        # Products and sums may be written either way round.
        for name, other in (inputs, inputs[::-1]):
            if name in self._origin and other not in self._origin and (role := self._in_sum(o, name, other)):
                yield role, name
            # variance + epsilon, whose reciprocal root is taken next.
            elif name in self._origin and self._is_number(other) and self._leads_to(o, "Rsqrt"):
                yield "moving_variance", name

    def _in_sum(self, o: GraphOperation, name: str, other: str) -> str:
        """Return the role of one side of a product or a sum, whose other side is computed."""
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
        if o.op in _ADDS and kind in _PRODUCTS:
            return "bias"
        if o.op in _ADDS and kind == "Mul" and before is not None and self._has_root(before):
            return "beta"
        return ""

    def _has_root(self, o: GraphOperation, depth: int = 3) -> bool:
        """Tell whether a product has a reciprocal root among its factors, as those of normalizations have."""
        if o.op == "Rsqrt":
            return True
        before = (self._kinds.get(plain_input(text)) for text in o.inputs)
        return depth > 0 and o.op == "Mul" and any(self._has_root(b, depth - 1) for b in before if b is not None)

    def _leads_to(self, o: GraphOperation, op: str) -> bool:
        return any(taker.op == op for taker in self._behind.get(o.name, ()))

    def _is_number(self, name: str) -> bool:
        """Tell whether a constant is a single number, or none that is asked for, such as an epsilon."""
        if name in self._origin:
            return not self.shapes[self._origin[name]]
        return name in self._kinds and self._kinds[name].op == "Const"

    def _is_table(self, name: str) -> bool:
        return name in self._origin and len(self.shapes[self._origin[name]]) > 1
