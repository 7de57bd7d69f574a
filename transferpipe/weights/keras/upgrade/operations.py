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

_NUMPY, _NN, _MATH, _CORE, _LINALG = (f"keras.src.ops.{m}" for m in ("numpy", "nn", "math", "core", "linalg"))

_BINARY = {
    **dict.fromkeys(("__operators__.add", "math.add"), "Add"),
    **dict.fromkeys(("__operators__.sub", "math.subtract"), "Subtract"),
    **dict.fromkeys(("__operators__.mul", "math.multiply"), "Multiply"),
    **dict.fromkeys(("__operators__.truediv", "math.truediv", "math.divide"), "TrueDivide"),
    **dict.fromkeys(("__operators__.pow", "math.pow"), "Power"),
    "math.maximum": "Maximum",
    "math.minimum": "Minimum",
    "math.divide_no_nan": "DivideNoNan",
    **dict.fromkeys(("__operators__.mod", "math.floormod"), "Mod"),
    **dict.fromkeys(("__operators__.floordiv", "math.floordiv", "floor_div"), "FloorDivide"),
    "math.squared_difference": "Subtract",  # and then its square
    **{f"math.{n}": "".join(map(str.capitalize, n.split("_"))) for n in ("greater", "less", "equal", "not_equal")},
    "math.greater_equal": "GreaterEqual",
    "math.less_equal": "LessEqual",
    "math.logical_and": "LogicalAnd",
    "math.logical_or": "LogicalOr",
    "__operators__.eq": "Equal",
    "__operators__.ne": "NotEqual",
}
_UNARY = {
    **{f"math.{n}": (_NUMPY, n.capitalize()) for n in ("abs", "exp", "log", "sqrt", "square", "negative", "tanh")},
    **{f"math.{n}": (_NUMPY, n.capitalize()) for n in ("sin", "cos", "floor", "ceil", "sign")},
    **dict.fromkeys(("nn.tanh", "tanh"), (_NUMPY, "Tanh")),
    **{f"math.{n}": (_NUMPY, n.capitalize()) for n in ("log1p", "expm1", "reciprocal", "tan", "sinh", "cosh")},
    "math.logical_not": (_NUMPY, "LogicalNot"),
    "ones_like": (_NUMPY, "OnesLike"),
    "zeros_like": (_NUMPY, "ZerosLike"),
    "math.rsqrt": (_MATH, "Rsqrt"),
    "math.erf": (_MATH, "Erf"),
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
_REDUCED = {
    **{f"math.reduce_{n}": n.capitalize() for n in ("mean", "sum", "max", "min", "prod")},
    **{f"math.reduce_{n}": n.capitalize() for n in ("any", "all")},
    "math.reduce_std": "Std",
    "math.reduce_variance": "Var",
}
# Operations with settings: where Keras 3 has them, and for each setting TensorFlow's name of it and its default there.
_WITH_SETTINGS: dict[str, tuple[str, str, dict[str, tuple[str, Any]]]] = {
    "nn.softmax": (_NN, "Softmax", {"axis": ("axis", -1)}),
    "nn.log_softmax": (_NN, "LogSoftmax", {"axis": ("axis", -1)}),
    "math.reduce_logsumexp": (_MATH, "Logsumexp", {"axis": ("axis", None), "keepdims": ("keepdims", False)}),
    # Without an axis TensorFlow takes the first one, and Keras all values in a row.
    "math.argmax": (_NUMPY, "Argmax", {"axis": ("axis", 0)}),
    "math.argmin": (_NUMPY, "Argmin", {"axis": ("axis", 0)}),
    "math.cumsum": (_NUMPY, "Cumsum", {"axis": ("axis", 0)}),
    "one_hot": (_NN, "OneHot", {"num_classes": ("depth", None)}),
    "nn.leaky_relu": (_NN, "LeakyRelu", {"negative_slope": ("alpha", 0.2)}),
    "nn.gelu": (_NN, "Gelu", {"approximate": ("approximate", False)}),
    "reshape": (_NUMPY, "Reshape", {"newshape": ("shape", None)}),
    "concat": (_NUMPY, "Concatenate", {"axis": ("axis", None)}),
    "stack": (_NUMPY, "Stack", {"axis": ("axis", 0)}),
    "unstack": (_CORE, "Unstack", {"num": ("num", None), "axis": ("axis", 0)}),
    "math.top_k": (_MATH, "TopK", {"k": ("k", 1), "sorted": ("sorted", True)}),
    "tile": (_NUMPY, "Tile", {"repeats": ("multiples", None)}),
    "expand_dims": (_NUMPY, "ExpandDims", {"axis": ("axis", None)}),
    "squeeze": (_NUMPY, "Squeeze", {"axis": ("axis", None)}),
    "transpose": (_NUMPY, "Transpose", {"axes": ("perm", None)}),
    "cast": (_CORE, "Cast", {"dtype": ("dtype", None)}),
    "clip_by_value": (_NUMPY, "Clip", {"x_min": ("clip_value_min", None), "x_max": ("clip_value_max", None)}),
}
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


_MOST_AXES = 8  # that a constant has


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
        behind: where Keras 3 has what is done to its output, and the class; None for most.
    """

    module: str
    class_name: str
    inputs: list[Any]
    settings: Config = field(default_factory=dict)
    behind: tuple[str, str] | None = None


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
    """Return what an operation of a graph is called on: its tensors, and between them its constants by their places.

    Raises:
        NoSuchOperationError: a constant has no place among them.
    """
    config = layer.get("config")
    constants = (config.get("constants") if isinstance(config, Mapping) else None) or {}
    places = {str(k): k for k in range(len(tensors) + len(constants))} if isinstance(constants, Mapping) else {}
    if not places or not constants.keys() <= places.keys():
        raise NoSuchOperationError(f"{function_of(layer)} with constants that have no place among its inputs")
    found = list(tensors)
    # From the first place on, so that each constant counts those that stand before it.
    for place in sorted(places[key] for key in constants):
        found.insert(place, constants[str(place)])
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
    # TensorFlow notes these switches in all calls; switched off they change nothing, and Keras 3 has no such argument.
    given = {k: v for k, v in given.items() if not (k.startswith(_FLAGS) and v is False)}
    if function in _BINARY:
        second = given.pop("y", given.pop("b", None))
        behind = (_NUMPY, "Square") if function == "math.squared_difference" else None
        operation = Operation(_NUMPY, _BINARY[function], [_array(first), _array(second)], behind=behind)
    elif function in _UNARY:
        operation = Operation(*_UNARY[function], [first])
    elif function in _REDUCED:
        settings = {"axis": given.pop("axis", None), "keepdims": given.pop("keepdims", False)}
        operation = Operation(_NUMPY, _REDUCED[function], [first], settings)
    elif function in _WITH_SETTINGS:
        module, class_name, wanted = _WITH_SETTINGS[function]
        settings = {key: given.pop(argument, default) for key, (argument, default) in wanted.items()}
        operation = Operation(module, class_name, [first], settings)
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


def _resize(x: Any, given: Config) -> Operation:
    size = given.pop("size", None)
    method = given.pop("method", "bilinear")
    if not isinstance(size, list) or len(size) != 2 or method not in ("bilinear", "nearest", "bicubic"):
        raise NoSuchOperationError(f"tf.image.resize to {size} by {method}")
    # tf.image knows no other arrangement of the axes.
    settings = {"height": size[0], "width": size[1], "interpolation": method, "data_format": "channels_last"}
    return Operation("keras.layers", "Resizing", [x], settings)


def _normalize(x: Any, given: Config) -> Operation:
    # UnitNormalization always has an axis; TensorFlow without one divides by the norm of all samples together. (They
    # differ on vectors shorter than 1e-6 alone: 1e-12 bounds the sum of squares there, and the norm in Keras.)
    if "axis" not in given:
        raise NoSuchOperationError("tf.math.l2_normalize over the whole tensor")
    return Operation("keras.layers", "UnitNormalization", [x], {"axis": given.pop("axis")})


def _norm(x: Any, given: Config) -> Operation:
    order, axis = given.pop("ord", "euclidean"), given.pop("axis", None)
    of_vectors = type(axis) is int and order in (1, 2)
    if axis is None:  # which Keras computes of vectors and matrices alone
        raise NoSuchOperationError("tf.norm over the whole tensor")
    if order != "euclidean" and not of_vectors:
        raise NoSuchOperationError(f"tf.norm of the order {order} along {axis}")
    settings = {"ord": order if of_vectors else None, "axis": axis, "keepdims": given.pop("keepdims", False)}
    return Operation(_LINALG, "Norm", [x], settings)


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


def _array(value: Any) -> Any:
    """Return a constant of several numbers, which TensorFlow notes as a list, as Keras 3 writes an array."""
    if not isinstance(value, list) or not _are_numbers(value, 0):
        return value
    whole = _are_numbers(value, 0, int)
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": "int32" if whole else "float32"}}


def _are_numbers(value: list[Any], depth: int, kind: Any = (int, float)) -> bool:
    return depth < _MOST_AXES and all(
        _are_numbers(v, depth + 1, kind) if isinstance(v, list) else isinstance(v, kind) for v in value
    )


def _add_bias(x: Any, given: Config) -> Operation:
    # Of preprocess_input, which takes the mean of ImageNet off each channel; the last axis is added to as by NumPy.
    if given.pop("data_format", "NHWC") not in ("NHWC", "N...C"):
        raise NoSuchOperationError("tf.nn.bias_add along another axis than the last")
    return Operation(_NUMPY, "Add", [x, _array(given.pop("bias", None))])


def _where(condition: Any, given: Config) -> Operation:
    if not {"x", "y"} <= given.keys():
        raise NoSuchOperationError("tf.where that gives places")
    return Operation(_NUMPY, "Where", [condition, _array(given.pop("x")), _array(given.pop("y"))])


def _pad(x: Any, given: Config) -> Operation:
    mode, value = str(given.pop("mode", "CONSTANT")).lower(), given.pop("constant_values", 0)
    if mode not in ("constant", "reflect", "symmetric"):
        raise NoSuchOperationError(f"tf.pad in the mode {mode!r}")
    settings = {"pad_width": given.pop("paddings", None), "mode": mode}
    return Operation(_NUMPY, "Pad", [x, value] if value else [x], settings)


def _split(x: Any, given: Config) -> Operation:
    parts = given.pop("num_or_size_splits", None)
    given.pop("num", None)
    if isinstance(parts, list):  # how long each part is; Keras takes where each begins
        if not all(type(n) is int and n >= 0 for n in parts):
            raise NoSuchOperationError(f"tf.split into parts of {parts}")
        parts = [sum(parts[:i]) for i in range(1, len(parts))]
    return Operation(_NUMPY, "Split", [x], {"indices_or_sections": parts, "axis": given.pop("axis", 0)})


def _matmul(x: Any, given: Config) -> Operation:
    second = _array(given.pop("b", given.pop("y", None)))
    turned = [given.pop(f"transpose_{n}", False) is True for n in "ab"]
    if not any(turned):
        return Operation(_NUMPY, "Matmul", [_array(x), second])
    # Keras's product has no such switch.
    one, two = "ji" if turned[0] else "ij", "kj" if turned[1] else "jk"
    return Operation(_NUMPY, "Einsum", [_array(x), second], {"subscripts": f"...{one},...{two}->...ik"})


def _gather(x: Any, given: Config) -> Operation:
    if isinstance(x, list):  # numbers, which Keras writes as an array that its own operation does not take
        raise NoSuchOperationError("tf.gather from numbers")
    if given.get("batch_dims") == 0:  # noted where nobody gave it
        del given["batch_dims"]
    return Operation(_NUMPY, "Take", [x, _array(given.pop("indices", None))], {"axis": given.pop("axis", 0)})


_OTHERS = {
    **dict.fromkeys(("linalg.matmul", "__operators__.matmul"), _matmul),
    "gather": _gather,
    **dict.fromkeys(("norm", "linalg.norm"), _norm),
    "nn.bias_add": _add_bias,
    "where": _where,
    "where_v2": _where,
    "pad": _pad,
    "split": _split,
    "image.resize": _resize,
    "math.l2_normalize": _normalize,
    "__operators__.getitem": _item,
}


def serialised_operation(operation: Operation, name: str) -> Config:
    """Return an operation as Keras 3 writes it."""
    return serialised(operation.class_name, {"name": name, **operation.settings}, operation.module)


def in_two_layers(made: Config, behind: tuple[str, str], **settings: Any) -> tuple[Config, Config]:
    """Return an operation, under another name, and the one behind it, which has its name and takes all its calls."""
    name = made["config"]["name"]
    before = {**made, "name": f"{name}_before", "config": {**made["config"], "name": f"{name}_before"}}
    last = serialised(behind[1], {"name": name, **settings}, behind[0])
    return before, last


def with_new_axis(made: Config) -> tuple[Config, Config]:
    """Return a layer, under another name, and what gives its output an axis of 1 behind the samples."""
    return in_two_layers(made, (_NUMPY, "ExpandDims"), axis=1)
