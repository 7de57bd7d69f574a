"""Operations of TensorFlow between layers, which tf.keras noted as layers (`x + 1`, `tf.nn.relu(x)`), as Keras 3's.

Keras 3 saves its own operations between layers under the modules that are named here. Only those are here that compute
the same; the functions are those that tf.keras 2.4 to 2.15 notes as ``TFOpLambda`` and ``SlicingOpLambda`` by their
public names, and TensorFlow 2.0 to 2.3 as ``TensorFlowOpLayer`` by the node of the graph.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transferpipe.weights.keras.upgrade.values import Config, serialised

_NUMPY, _NN, _MATH, _CORE = (f"keras.src.ops.{m}" for m in ("numpy", "nn", "math", "core"))

_BINARY = {
    **dict.fromkeys(("__operators__.add", "math.add"), "Add"),
    **dict.fromkeys(("__operators__.sub", "math.subtract"), "Subtract"),
    **dict.fromkeys(("__operators__.mul", "math.multiply"), "Multiply"),
    **dict.fromkeys(("__operators__.truediv", "math.truediv", "math.divide"), "TrueDivide"),
    **dict.fromkeys(("__operators__.pow", "math.pow"), "Power"),
    "math.maximum": "Maximum",
    "math.minimum": "Minimum",
    **dict.fromkeys(("linalg.matmul", "__operators__.matmul"), "Matmul"),
}
_UNARY = {
    **{f"math.{n}": (_NUMPY, n.capitalize()) for n in ("abs", "exp", "log", "sqrt", "square", "negative", "tanh")},
    **{f"math.{n}": (_NUMPY, n.capitalize()) for n in ("sin", "cos", "floor", "ceil", "sign")},
    **dict.fromkeys(("nn.tanh", "tanh"), (_NUMPY, "Tanh")),
    "math.rsqrt": (_MATH, "Rsqrt"),
    **dict.fromkeys(("nn.sigmoid", "math.sigmoid"), (_NN, "Sigmoid")),
    **dict.fromkeys(("nn.softplus", "math.softplus"), (_NN, "Softplus")),
    **dict.fromkeys(("nn.softsign", "math.softsign"), (_NN, "Softsign")),
    **dict.fromkeys(("nn.silu", "nn.swish"), (_NN, "Silu")),
    "nn.relu": (_NN, "Relu"),
    "nn.relu6": (_NN, "Relu6"),
    "nn.elu": (_NN, "Elu"),
    "nn.selu": (_NN, "Selu"),
}
_FLAGS = ("transpose", "adjoint", "keepdims", "conjugate", "a_is_sparse", "b_is_sparse", "antialias", "preserve")
_REDUCED = {f"math.reduce_{n}": n.capitalize() for n in ("mean", "sum", "max", "min", "prod")}
_OF_GRAPHS = {  # what TensorFlow 2.0 to 2.3 noted: the operation's name in a graph
    **{op: f"math.{op.lower()}" for op in ("Abs", "Exp", "Log", "Sqrt", "Square", "Sigmoid", "Tanh", "Rsqrt")},
    **{op: f"math.{op.lower()}" for op in ("Sin", "Cos", "Floor", "Softplus", "Softsign", "Maximum", "Minimum", "Pow")},
    **{op: f"nn.{op.lower()}" for op in ("Relu", "Relu6", "Elu", "Selu", "Softmax")},
    **dict.fromkeys(("Add", "AddV2"), "math.add"),
    "Sub": "math.subtract",
    "Mul": "math.multiply",
    "RealDiv": "math.truediv",
    "Neg": "math.negative",
    "MatMul": "linalg.matmul",
}


class NoSuchOperationError(Exception):
    """An operation that is not known to be the same in Keras 3, and which."""


@dataclass
class Operation:
    """One operation with what it is called on.

    Attributes:
        module: where Keras 3 has it.
        class_name: its class.
        settings: what it is made with.
        inputs: what it is called on, in order.
    """

    module: str
    class_name: str
    inputs: list[Any]
    settings: Config = field(default_factory=dict)


def is_operation(layer: Mapping[str, Any]) -> bool:
    """Tell whether a serialised layer is an operation of TensorFlow."""
    return layer.get("class_name") in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")


def function_of(layer: Mapping[str, Any]) -> str:
    """Return the public name of an operation's function.

    Raises:
        NoSuchOperationError: the layer does not say it, or another one than is known here.
    """
    config = layer.get("config")
    held = config if isinstance(config, Mapping) else {}
    if layer.get("class_name") == "TensorFlowOpLayer":
        op = _node_of_graph(held).get("op")
        if str(op) not in _OF_GRAPHS:
            raise NoSuchOperationError(str(op))
        return _OF_GRAPHS[str(op)]
    return str(held.get("function"))


def _node_of_graph(config: Mapping[str, Any]) -> Mapping[str, Any]:
    node = config.get("node_def")
    try:
        data = json.loads(node) if isinstance(node, str) else node
    except (ValueError, RecursionError):
        data = None
    return data if isinstance(data, Mapping) else {}


def inputs_of_graph(layer: Mapping[str, Any], tensors: list[Any]) -> list[Any]:
    """Return what an operation of a graph is called on: its tensors, and between them its constants by their places."""
    config = layer.get("config")
    constants = config.get("constants") if isinstance(config, Mapping) else None
    found = list(tensors)
    for place, value in sorted((constants or {}).items(), key=lambda item: int(item[0])):
        found.insert(int(place), value)
    return found


def upgrade_operation(function: str, first: Any, rest: Mapping[str, Any]) -> Operation:
    """Return the operation of Keras 3 for a function of TensorFlow.

    Args:
        function: its public name, such as ``math.add``.
        first: its first argument; tensors are serialised already.
        rest: its others by their names in TensorFlow. None is an argument that was not given.

    Raises:
        NoSuchOperationError: it is not known here, or not with these arguments.
    """
    function = function.removeprefix("compat.v1.")
    given = {k: v for k, v in rest.items() if v is not None and k != "name"}
    given = {k: v for k, v in given.items() if not (k.startswith(_FLAGS) and v is False)}
    if function in _BINARY:
        second = given.pop("y", given.pop("b", None))
        operation = Operation(_NUMPY, _BINARY[function], [first, second])
    elif function in _UNARY:
        operation = Operation(*_UNARY[function], [first])
    elif function in _REDUCED:
        settings = {"axis": given.pop("axis", None), "keepdims": given.pop("keepdims", False)}
        operation = Operation(_NUMPY, _REDUCED[function], [first], settings)
    elif function in _OTHERS:
        operation = _OTHERS[function](first, given)
    else:
        raise NoSuchOperationError(f"tf.{function}")
    if given:
        raise NoSuchOperationError(f"tf.{function} with {', '.join(sorted(given))}")
    if any(_holds_tensor(v) for v in operation.settings.values()):
        raise NoSuchOperationError(f"tf.{function} with a tensor where Keras 3 wants numbers")
    return operation


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.get("class_name") == "__keras_tensor__"
    return isinstance(value, list) and any(map(_holds_tensor, value))


def _softmax(x: Any, given: Config) -> Operation:
    return Operation(_NN, "Softmax", [x], {"axis": given.pop("axis", -1)})


def _leaky_relu(x: Any, given: Config) -> Operation:
    return Operation(_NN, "LeakyRelu", [x], {"negative_slope": given.pop("alpha", 0.2)})


def _gelu(x: Any, given: Config) -> Operation:
    return Operation(_NN, "Gelu", [x], {"approximate": given.pop("approximate", False)})


def _reshape(x: Any, given: Config) -> Operation:
    return Operation(_NUMPY, "Reshape", [x], {"newshape": given.pop("shape", None)})


def _concat(values: Any, given: Config) -> Operation:
    return Operation(_NUMPY, "Concatenate", [values], {"axis": given.pop("axis", None)})


def _stack(values: Any, given: Config) -> Operation:
    return Operation(_NUMPY, "Stack", [values], {"axis": given.pop("axis", 0)})


def _expand(x: Any, given: Config) -> Operation:
    return Operation(_NUMPY, "ExpandDims", [x], {"axis": given.pop("axis", None)})


def _squeeze(x: Any, given: Config) -> Operation:
    return Operation(_NUMPY, "Squeeze", [x], {"axis": given.pop("axis", None)})


def _transpose(x: Any, given: Config) -> Operation:
    return Operation(_NUMPY, "Transpose", [x], {"axes": given.pop("perm", None)})


def _cast(x: Any, given: Config) -> Operation:
    return Operation(_CORE, "Cast", [x], {"dtype": given.pop("dtype", None)})


def _clip(x: Any, given: Config) -> Operation:
    limits = {"x_min": given.pop("clip_value_min", None), "x_max": given.pop("clip_value_max", None)}
    return Operation(_NUMPY, "Clip", [x], limits)


def _resize(x: Any, given: Config) -> Operation:
    size = given.pop("size", None)
    method = given.pop("method", "bilinear")
    if not isinstance(size, list) or len(size) != 2 or method not in ("bilinear", "nearest", "bicubic"):
        raise NoSuchOperationError(f"tf.image.resize to {size} by {method}")
    settings = {"height": size[0], "width": size[1], "interpolation": method, "data_format": "channels_last"}
    return Operation("keras.layers", "Resizing", [x], settings)


def _normalize(x: Any, given: Config) -> Operation:
    return Operation("keras.layers", "UnitNormalization", [x], {"axis": given.pop("axis", -1)})


def _item(x: Any, given: Config) -> Operation:
    key = given.pop("slice_spec", None)
    parts = [_slice(part) for part in key] if isinstance(key, list) else _slice(key)
    return Operation(_NUMPY, "GetItem", [x, parts])


def _slice(part: Any) -> Any:
    if isinstance(part, Mapping) and "start" in part:
        return {"class_name": "__slice__", "config": {k: part.get(k) for k in ("start", "stop", "step")}}
    if isinstance(part, Mapping) and part.get("class_name") == "__ellipsis__":
        return {"class_name": "__ellipsis__", "config": {}}
    return part


_OTHERS = {
    "nn.softmax": _softmax,
    "image.resize": _resize,
    "math.l2_normalize": _normalize,
    "nn.leaky_relu": _leaky_relu,
    "nn.gelu": _gelu,
    "reshape": _reshape,
    "concat": _concat,
    "stack": _stack,
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "cast": _cast,
    "clip_by_value": _clip,
    "__operators__.getitem": _item,
}


def serialised_operation(operation: Operation, name: str) -> Config:
    """Return an operation as Keras 3 writes it."""
    return serialised(operation.class_name, {"name": name, **operation.settings}, operation.module)
