"""Names for the constants of a TensorFlow graph: the layer's path, and what the weight is there, as Keras calls it.

A frozen graph, and a TensorFlow.js graph model, call a weight by the operation that read its variable
(``model/d/BiasAdd/ReadVariableOp``), by a number (``unknown_26``), or by what an optimizer of graphs made of it. The
operations that take it tell more: `ConstantRoles` has what for. The file's own name stays a second one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from transferpipe.weights.formats.tensorflow.constant_roles import ConstantRoles, GraphOperation, Shape
from transferpipe.weights.formats.tensorflow.operation_names import (
    is_operation,
    layer_of,
    strip_loops,
    strip_operations,
)

_OWN = re.compile(
    r"((recurrent|depthwise|pointwise)_)?kernel|bias|gamma|beta|moving_mean|moving_variance|embeddings|alpha"
)
# What reads a variable, and what a graph's optimizer adds, at the end of a name.
_READ = re.compile(r"(/resource|/read|/ReadVariableOp(_\d+)?|ReadVariableOp(_\d+)?|:\d+)$")
_SAYS_NOTHING = re.compile(r"(.*/)?(unknown|Const|Constant|ConstantFolding|arith\.constant|tfl\.pseudo_\w+)?[_/]?\d*")
_BY_OPERATION = {
    "MatMul": "kernel", "Conv1D": "kernel", "Conv2D": "kernel", "Conv3D": "kernel", "convolution": "kernel",
    "conv1d": "kernel", "depthwise": "kernel", "conv_transpose": "kernel", "conv2d_transpose": "kernel",
    "DepthwiseConv2dNative": "kernel", "Tensordot": "kernel", "BiasAdd": "bias", "embedding_lookup": "embeddings",
    "Scaled": "gamma", "Offset": "beta",
}  # fmt: skip
_WRAPPERS = re.compile(r"((Stateful)?PartitionedCall(_\d+)?/)+")


def name_constants(shapes: Mapping[str, Shape], operations: Sequence[GraphOperation] = ()) -> dict[str, str]:
    """Return the catalog's name of every constant that is a weight, by its name in the file.

    Args:
        shapes: the shapes of the constants by their names.
        operations: the graph's nodes, as far as it is known.

    >>> name_constants({"a/BiasAdd/ReadVariableOp": (3,), "d/kernel:0": (2, 3)})
    {'a/BiasAdd/ReadVariableOp': 'a/bias', 'd/kernel:0': 'd/kernel'}
    """
    reads = ConstantRoles(operations, shapes)
    found = {}
    for name in shapes:
        role, layer = _by_name(name)
        uses = reads.uses.get(name, [])
        roles = {r for r, _ in uses}
        if len(roles) == 1 and uses:
            role = roles.pop() if not _OWN.fullmatch(name.rpartition("/")[2].partition(":")[0]) else role
            layers = {layer_of(taker) for _, taker in uses}
            layer = layer or (layers.pop() if len(layers) == 1 else "")
        found[name] = strip_loops(f"{layer}/{role}") if role and layer else _READ.sub("", name) if role else name
    return _apart(found)


def weights_among(shapes: Mapping[str, Shape], operations: Sequence[GraphOperation]) -> set[str]:
    """Return the names of the constants that some operation takes as a weight."""
    return set(ConstantRoles(operations, shapes).uses)


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
    if not own or not is_operation(own):
        return "", path if path != name else ""
    return role, strip_operations(layer)
