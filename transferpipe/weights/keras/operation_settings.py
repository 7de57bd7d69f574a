"""What the operations of ``keras.ops`` compute that stand between layers, in the spelling of `layer_settings`.

An operation that does what a layer does is read as that layer: ``ops.mean`` over the places of a map is
GlobalAveragePooling, ``ops.transpose`` is Permute. Of any other its arguments are compared where both sides have it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

from transferpipe.weights.keras.layer_settings import (
    ACTIVATION,
    NEUTRAL,
    LayerFunction,
    keras_function,
    plain_settings,
)
from transferpipe.weights.keras.selected_places import describe_output, selection
from transferpipe.weights.keras.setting_values import is_storable_number, spell_activation, spell_axis, version_of
from transferpipe.weights.keras.upgrade.operations import NoSuchOperationError, upgrade_operation
from transferpipe.weights.network import Network, Node

OPERATION = "operation"
"""The setting of a node that is an operation, not a layer: the name of what was called."""
ARGUMENTS = "arguments"
"""The setting that holds the constants an operation was called with."""

# Functions of one value, which are the same whether an operation, a layer or the setting of a layer says them.
_ACTIVATIONS = frozenset([
    "relu", "relu6", "sigmoid", "tanh", "selu", "silu", "swish", "softplus", "softsign", "hardsigmoid", "hardsilu",
    "hardswish", "logsoftmax", "exp", "mish", "hardtanh", "tanhshrink", "squareplus", "logsigmoid", "sparsesigmoid",
])  # fmt: skip
# Functions of one value with a parameter, and the layer of Keras that has the same one.
_WITH_PARAMETERS = {"leakyrelu": "LeakyReLU", "elu": "ELU", "softmax": "Softmax"}
_DEFAULTS = {"celu": ("alpha", 1.0), "hardshrink": ("threshold", 0.5), "softshrink": ("threshold", 0.5)}
# Functions that change values and not their number: a model without one computes something else.
_OF_VALUES = frozenset([
    "abs", "absolute", "square", "sqrt", "rsqrt", "log", "log1p", "log2", "log10", "expm1", "exp2", "sin", "cos",
    "sign", "negative", "reciprocal", "round", "floor", "ceil", "cumsum", "cumprod", "flip", "roll", "sort", "clip",
    "threshold", "celu", "glu", "power", "pow", "logsumexp", "erf", "arctan", "sinh", "cosh",
])  # fmt: skip
_POOLED = {"mean": "Average", "max": "Max"}
_REDUCTIONS = (
    "mean", "max", "min", "sum", "prod", "std", "var", "median", "norm", "logsumexp", "argmax", "argmin", "any", "all",
)  # fmt: skip
_MAKING_AXES = ("stack", "expanddims")
_SAME = {"amax": "max", "amin": "min", "absolute": "abs"}
_ARITHMETIC = {
    **dict.fromkeys(("add", "subtract", "multiply", "maximum", "minimum"), None),
    "truedivide": "divide",
    "truediv": "divide",
    "divide": "divide",
    "sub": "subtract",
    "mul": "multiply",
}
# Slices in tuples in lists are as deep as arguments go; a file may nest as deeply as it likes.
_DEEPEST = 8
_MOST = 100  # numbers that a comparison needs one by one
# The ranks of sequences, images and volumes with samples and channels.
_MAPS = (3, 4, 5)


def keras_node_function(node: Node, network: Network) -> LayerFunction:
    """Return what a layer of Keras, or an operation between layers, computes beside its weights."""
    node = of_today(node)
    if OPERATION in node.settings or ARGUMENTS in node.settings:
        return _operation(node, version_of(network.keras_version))
    return keras_function(node, network)


def keras_output_function(node: Node, output: int) -> LayerFunction | None:
    """Return what one output of an operation that cuts a value into several is; None for any other node."""
    if OPERATION not in node.settings and ARGUMENTS not in node.settings:
        return None
    node = of_today(node)
    name = called_name(node).replace("_", "").lower()
    return describe_output(name, node.settings, output, node)


def called_name(node: Node) -> str:
    """Return the name of what an operation calls, without the modules before it."""
    return str(node.settings.get("function", node.layer_class)).rpartition(".")[2]


def of_today(node: Node) -> Node:
    """Return an operation that tf.keras noted by its function in TensorFlow as Keras 3's that is the same."""
    if "function" not in node.settings:
        return node
    first, given = _read_noted_call(node.settings.get(ARGUMENTS), 0)
    try:
        operation = upgrade_operation(str(node.settings["function"]), first, given)
    except NoSuchOperationError:
        return node
    if operation.class_name == "GetItem" or operation.behind:  # is read as it was noted, or is two of today's
        return node
    if operation.module == "keras.layers":
        return replace(node, layer_class=operation.class_name, settings=operation.settings)
    called = {OPERATION: operation.class_name, ARGUMENTS: operation.inputs}
    return replace(node, layer_class=operation.class_name, settings={**operation.settings, **called})


def _read_noted_call(data: Any, depth: int) -> tuple[Any, Mapping[str, Any]]:
    """Return the first argument of a call of Keras 2, None for a tensor, and its arguments by name."""
    if not isinstance(data, list) or depth > _DEEPEST:
        return None, {}
    if data and isinstance(data[-1], Mapping):
        return (data[0] if len(data) == 2 else None), data[-1]
    return next((found for item in data if (found := _read_noted_call(item, depth + 1))[1]), (None, {}))


def _operation(node: Node, version: tuple[int, ...] | None) -> LayerFunction:
    called = called_name(node)
    name = called.replace("_", "").lower()
    name = _SAME.get(name, name)
    settings = {k: v for k, v in node.settings.items() if k not in (OPERATION, ARGUMENTS, "function")}
    constants = [n for n in _flat_constants(node.settings.get(ARGUMENTS), 0) if not isinstance(n, bool)]
    if name in ("identity", "stopgradient", "cast"):
        return LayerFunction(NEUTRAL)
    if len(node.inputs) == 1 and (activation := _as_activation(called, name, settings, node, version)):
        return activation
    if name in _ARITHMETIC:
        verb = _ARITHMETIC[name] or name
        if len(node.inputs) == 2:
            return LayerFunction(verb.capitalize())
        if len(constants) == 1 and len(node.inputs) == 1:
            return _with_number(verb, constants[0], is_first=not _tensor_first(node))
        if len(constants) > 1 and len(node.inputs) == 1:  # an array, such as positions
            return LayerFunction(f"{verb} by numbers", {ARGUMENTS: _shorten(constants)})
    if name == "normalize" and type(settings.get("order", 2)) is int:
        axis = spell_axis(settings.get("axis", -1), node)
        return LayerFunction("UnitNormalization", {"axis": axis, "order": settings.get("order", 2)})
    if name in ("concatenate", "concat"):
        return LayerFunction("Concatenate", {"axis": spell_axis(settings["axis"], node)} if "axis" in settings else {})
    as_layer = (
        _reduction(name, settings, node)
        or _find_moving_layer(name, settings, node)
        or _find_padding(name, settings, node)
    )
    as_layer = as_layer or selection(name, settings, node.settings.get(ARGUMENTS), node)
    if as_layer is not None:
        return as_layer
    return _by_its_settings(name, settings, constants, node)


def _by_its_settings(name: str, settings: dict[str, Any], constants: list[Any], node: Node) -> LayerFunction:
    """Return an operation that does what no layer does, with its settings and constants."""
    if name in ("power", "pow") and constants == [2] and len(node.inputs) == 1 and _tensor_first(node):
        return LayerFunction("square")
    if type(axis := settings.get("axis")) is int:
        # What makes an axis counts it among those that there are then.
        settings["axis"] = spell_axis(axis, node) if name not in _MAKING_AXES or axis < 0 else _new_axis(axis, node)
        if settings["axis"] is None:  # how many axes there are is not told: it may be one counted from the end
            del settings["axis"]
    more = {ARGUMENTS: tuple(constants)} if constants else {}
    known = name in _OF_VALUES and len(node.inputs) == 1
    return LayerFunction(name if known else node.layer_class, plain_settings(settings) | more, None, known)


def _new_axis(axis: int, node: Node) -> int | None:
    """Return an axis that an operation makes, counted from the end; None where it is not known how many there are."""
    ranks = {len(shape) for shape in node.input_shapes}
    return axis - ranks.pop() - 1 if len(ranks) == 1 else None


def _as_activation(
    called: str, name: str, settings: Mapping[str, Any], node: Node, version: tuple[int, ...] | None
) -> LayerFunction | None:
    if name == "softmax" and spell_axis(settings.get("axis", -1), node) is None:
        return LayerFunction(ACTIVATION, activation=None)  # along which axis is not told
    spelled = _activation(called, name, settings, node, version)
    return LayerFunction(ACTIVATION, activation=spelled) if spelled is not None else None


def _activation(
    called: str, name: str, settings: Mapping[str, Any], node: Node, version: tuple[int, ...] | None
) -> str | None:
    """Return the activation that an operation is; None if it is none, or its parameters are not stored."""
    told = {k: v for k, v in settings.items() if k != "name"}
    if name == "gelu":  # the default of ops.gelu is the approximation, that of the activation "gelu" is not
        approximate = told.get("approximate")
        return None if approximate is None else "gelu_approximate" if approximate else "gelu"
    if name == "clip" and (told.get("x_min"), told.get("x_max")) == (0, 6):
        return "relu(max_value=6)"
    if name in _WITH_PARAMETERS:
        if "axis" in told:
            told["axis"] = spell_axis(told["axis"], node)
        if name == "leakyrelu":
            told.setdefault("negative_slope", 0.2)  # that of the operation, where the layer has 0.3
        return spell_activation({"class_name": _WITH_PARAMETERS[name], "config": told}, version)
    if name in _DEFAULTS:
        key, default = _DEFAULTS[name]
        value = told.get(key, default)
        return name if value == default or not is_storable_number(value) else f"{name}({key}={value:g})"
    if name not in _ACTIVATIONS or (name == "logsoftmax" and spell_axis(told.get("axis", -1), node) != -1):
        return None
    return spell_activation(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", called).lower(), version)


def _reduction(name: str, settings: Mapping[str, Any], node: Node) -> LayerFunction | None:
    if name not in _REDUCTIONS or len(node.inputs) != 1 or "axis" not in settings:
        return None
    rank = len(node.input_shapes[0]) if node.input_shapes else None
    axes = settings["axis"] if isinstance(settings["axis"], list | tuple) else [settings["axis"]]
    further = {k: v for k, v in plain_settings(settings).items() if k not in ("axis", "keepdims")}
    keeps = {**further, "keepdims": bool(settings.get("keepdims"))}
    if rank is None or not all(type(a) is int for a in axes):
        return LayerFunction(name.capitalize(), keeps)
    places = sorted(a % rank for a in axes)
    # Over all places and neither samples nor channels: what a pooling over the whole map does.
    if name in _POOLED and rank in _MAPS and places == list(range(1, rank - 1)):
        return LayerFunction(f"Global{_POOLED[name]}Pooling{rank - 2}D", keeps)
    return LayerFunction(name.capitalize(), {"axis": tuple(places), **keeps})


def _find_moving_layer(name: str, settings: Mapping[str, Any], node: Node) -> LayerFunction | None:
    """Return the layer that moves axes, or values, as an operation does."""
    rank = len(node.input_shapes[0]) if len(node.input_shapes) == 1 else None
    order: list[Any] | None = None
    if name == "transpose" and isinstance(settings.get("axes"), list | tuple):
        order = list(settings["axes"])
    elif name in ("swapaxes", "moveaxis") and rank:
        keys = ("axis1", "axis2") if name == "swapaxes" else ("source", "destination")
        one, two = (settings.get(key) for key in keys)
        if type(one) is int and type(two) is int and max(abs(one), abs(two)) <= rank:
            order, one, two = list(range(rank)), one % rank, two % rank
            if name == "swapaxes":
                order[one], order[two] = two, one
            else:
                order.insert(two, order.pop(one))
    if order is not None:
        first = order[:1] == [0] and sorted(map(str, order)) == sorted(map(str, range(len(order))))
        return LayerFunction("Permute", {"dims": tuple(order[1:])}) if first else None
    shape = settings.get("newshape")
    if name == "reshape" and isinstance(shape, list | tuple) and len(shape) > 1 and shape[0] in (-1, None):
        return LayerFunction("Reshape", {"target_shape": tuple(-1 if n is None else n for n in shape[1:])})
    return None


def _find_padding(name: str, settings: Mapping[str, Any], node: Node) -> LayerFunction | None:
    """Return the padding of places that an operation is; None if it pads samples, channels, or with another number."""
    pads, mode = settings.get("pad_width"), settings.get("mode", "constant")
    if name != "pad" or not isinstance(pads, list | tuple):
        return None
    value = _flat_constants(node.settings.get(ARGUMENTS), 0)
    pairs = [tuple(p) for p in pads if isinstance(p, list | tuple) and len(p) == 2]
    if any(value) or len(pairs) != len(pads) or len(pairs) not in _MAPS or any(pairs[0]) or any(pairs[-1]):
        return None
    kind = f"ZeroPadding{len(pairs) - 2}D" if mode == "constant" else f"{mode} padding"
    return LayerFunction(kind, {"padding": tuple(pairs[1:-1])})


def _with_number(verb: str, number: float, *, is_first: bool) -> LayerFunction:
    """Return what arithmetic with one number does; `is_first` where the number stands before the value."""
    if verb in ("maximum", "minimum") or (verb == "divide" and (is_first or not number)):
        return LayerFunction(f"{verb} {'of' if is_first else 'by'} a number", {ARGUMENTS: (number,)})
    scale = number if verb == "multiply" else 1 / number if verb == "divide" else 1.0
    offset = number if verb == "add" else -number if verb == "subtract" else 0.0
    if verb == "subtract" and is_first:
        scale, offset = -1.0, number
    return LayerFunction("Rescaling", {"scale": scale, "offset": offset})


def _shorten(numbers: list[float]) -> tuple[Any, ...]:
    """Return numbers, or of very many how many they are and what tells them from others."""
    return tuple(numbers) if len(numbers) <= _MOST else (len(numbers), crc32(repr(numbers).encode()))


def _tensor_first(node: Node) -> bool:
    """Tell whether the tensor stands before the number, as in ``x - 1`` and not in ``1 - x``."""
    arguments = node.settings.get(ARGUMENTS)
    args = arguments.get("args") if isinstance(arguments, Mapping) else arguments
    return not isinstance(args, list) or not args or not isinstance(args[0], int | float)


def _flat_constants(data: Any, depth: int) -> list[Any]:
    if depth > _DEEPEST:
        return []
    if isinstance(data, Mapping):
        return [n for v in data.values() for n in _flat_constants(v, depth + 1)]
    if isinstance(data, list):
        return [n for v in data for n in _flat_constants(v, depth + 1)]
    return [data] if is_storable_number(data) else []
