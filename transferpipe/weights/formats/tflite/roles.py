"""What the operators of a TensorFlow Lite model take its tensors for, and in which layer.

The converter calls a tensor after all the operations that it made one of it, the layer's own first of all:
``net/d/MatMul;net/d/BiasAdd``. Operators: ``BuiltinOperator`` of
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transferpipe.weights.formats.tensorflow.operation_names import strip_loops

Shape = tuple[int, ...]

_ADD, _DEQUANTIZE, _RESHAPE, _TRANSPOSE = 0, 6, 22, 39
_HANDED_ON = (_DEQUANTIZE, _RESHAPE)
# Where each operator takes weights, and what these are there as Keras calls them.
_PLACES: Mapping[int, Mapping[int, str]] = {
    3: {1: "kernel", 2: "bias"},  # CONV_2D
    4: {1: "kernel", 2: "bias"},  # DEPTHWISE_CONV_2D
    9: {1: "kernel", 2: "bias"},  # FULLY_CONNECTED
    132: {1: "kernel", 2: "bias"},  # CONV_3D
    67: {1: "kernel", 3: "bias"},  # TRANSPOSE_CONV takes the size of what it gives first
    7: {1: "embeddings"},  # EMBEDDING_LOOKUP
    36: {0: "embeddings"},  # GATHER
    54: {1: "alpha"},  # PRELU
}
_FULLY_CONNECTED = 9
_PRODUCT = re.compile(
    r"(.+?)/(MatMul|Conv[123]D|conv[123]d(_transpose)?|convolution|conv_transpose|depthwise|separable_conv2d"
    r"|DepthwiseConv2dNative|Tensordot(/MatMul)?|embedding_lookup|GatherV2)(_\d+)?\d*"
)
# The first of the two convolutions of a separable one is a layer of its own, by its name.
_SEPARABLE = "/separable_conv2d"
# Between a product and the sum with its bias stand a reshape and a transpose; a model may be made to cost time.
_MOST_BETWEEN = 5


@dataclass(frozen=True)
class TfliteOperation:
    """One operator.

    Attributes:
        name: the first tensor that it gives; empty for none.
        op: its number.
        inputs: the tensors that it takes; empty for one that is left out.
        is_inner: whether it is in a graph inside of another, such as the body of a loop.
    """

    name: str
    op: int
    inputs: tuple[str, ...]
    is_inner: bool = False


def find_roles(shapes: Mapping[str, Shape], operations: Sequence[TfliteOperation]) -> dict[str, str]:
    """Return layer and role of the tensors that operators take as weights, if all that take one agree on both.

    Args:
        shapes: the shapes of the tensors that have values, by their keys.
        operations: the operators of all graphs.
    """
    origin = {key: key for key in shapes}
    taken: dict[str, set[tuple[str, str]]] = defaultdict(set)
    given: dict[str, TfliteOperation] = {}
    layers: dict[str, str] = {}
    recurrent = _find_recurrent(shapes, operations)
    for o in operations:
        given.setdefault(o.name, o)
        if o.op in _HANDED_ON and o.inputs and o.inputs[0] in origin:
            origin[o.name] = origin[o.inputs[0]]
            continue
        places = _PLACES.get(o.op, {}).items()
        weights = {role: origin[o.inputs[k]] for k, role in places if k < len(o.inputs) and o.inputs[k] in origin}
        layer = layers[o.name] = _layer([*weights.values(), o.name])
        for role, key in weights.items():
            taken[key].add((layer, "recurrent_kernel" if role == "kernel" and key in recurrent else role))
        if o.op == _ADD:
            for key, product in _find_biases(o, origin, shapes, given):
                taken[key].add((layers[product.name], "bias"))
    found = {key: next(iter(uses)) for key, uses in taken.items() if len(uses) == 1}
    return _name_separable({key: strip_loops(f"{layer}/{role}") for key, (layer, role) in found.items() if layer})


def _find_recurrent(shapes: Mapping[str, Shape], operations: Sequence[TfliteOperation]) -> set[str]:
    """Return the kernels that loops multiply by their state, beside one for what each step brings.

    The state comes into the body of a loop as one of its arguments; what a step brings is cut out there.
    """
    given = {o.name for o in operations}
    kernels: dict[str, dict[bool, list[str]]] = defaultdict(lambda: {True: [], False: []})
    for o in operations:
        if o.is_inner and o.op == _FULLY_CONNECTED and len(o.inputs) > 1 and o.inputs[1] in shapes:
            kernels[_layer([o.inputs[1], o.name])][o.inputs[0] in given].append(o.inputs[1])
    return {each[False][0] for each in kernels.values() if len(each[True]) == len(each[False]) == 1}


def _find_biases(
    o: TfliteOperation, origin: Mapping[str, str], shapes: Mapping[str, Shape], given: Mapping[str, TfliteOperation]
) -> list[tuple[str, TfliteOperation]]:
    """Return what a sum adds to a product as its bias, with the product; one that was added before is a sum itself."""
    found = []
    for name, other in (o.inputs, o.inputs[::-1]) if len(o.inputs) == 2 else ():
        product = given.get(other)
        for _ in range(_MOST_BETWEEN):
            if product is None or product.op not in (_ADD, _RESHAPE, _TRANSPOSE) or not product.inputs:
                break
            if product.op == _ADD and any(text in origin for text in product.inputs):
                break
            product = given.get(product.inputs[0])
        if name not in origin or product is None or product.op != _FULLY_CONNECTED or len(product.inputs) < 2:
            continue
        kernel = shapes.get(origin.get(product.inputs[1], ""), ())
        if kernel and math.prod(shapes[origin[name]]) == kernel[0]:
            found.append((origin[name], product))
    return found


def _name_separable(roles: Mapping[str, str]) -> dict[str, str]:
    """Return the roles with those of separable convolutions as Keras calls their two kernels."""
    held = set(roles.values())
    found = dict(roles)
    for key, role in roles.items():
        layer = role.removesuffix("/kernel")
        whole = layer.removesuffix(_SEPARABLE)
        if layer != role and f"{whole}/kernel" in held and f"{whole}{_SEPARABLE}/kernel" in held:
            found[key] = f"{whole}/depthwise_kernel" if layer != whole else f"{whole}/pointwise_kernel"
    return found


def _layer(keys: Sequence[str]) -> str:
    """Return the layer that an operator belongs to, by the names of its weights and of what it gives."""
    names = [name.partition("#")[0] for key in keys for name in key.split(";")]
    products = (match[1] for name in names if (match := _PRODUCT.fullmatch(name)))
    return next(products, "") or next((name.rpartition("/")[0] for name in names if "/" in name), "")
