"""What operations and layers of Keras without weights compute, in NumPy, so that two ways to write one can be compared.

Only what needs nothing but its inputs and its configuration is here; of anything else it is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.weights.keras.layer_settings import ACTIVATION, NEUTRAL, LayerFunction, plain_settings
from transferpipe.weights.keras.operation_settings import ARGUMENTS, OPERATION, called_name, of_today
from transferpipe.weights.network import Node

Array = NDArray[Any]


class UnknownComputationError(Exception):
    """It is not known what a node computes of these inputs."""


def compute_node(node: Node, function: LayerFunction, values: Sequence[Array]) -> Sequence[Array]:
    """Return the outputs of a node.

    Args:
        node: a layer without weights, or an operation.
        function: what it computes, as far as that is spelled.
        values: what goes into it.

    Raises:
        UnknownComputationError: what it computes is not known, or it cannot be computed of these values.
    """
    try:
        with np.errstate(all="ignore"):
            found = _compute(of_today(node), function, values)
    # Settings come from anybody's file: whatever NumPy says of them, nothing is known then.
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as e:
        raise UnknownComputationError from e
    outputs = [np.asarray(v) for v in ([found] if isinstance(found, np.ndarray | np.generic) else found)]
    if not all(output.size and output.dtype.kind in "fiub" for output in outputs):
        raise UnknownComputationError
    return outputs


def _compute(node: Node, function: LayerFunction, values: Sequence[Array]) -> Any:
    if function.kind == NEUTRAL and len(values) == 1:
        return values[0]
    if function.kind == ACTIVATION and len(values) == 1:
        return apply_activation(function.activation, values[0])
    name = called_name(node).replace("_", "").lower()
    settings = {k: v for k, v in node.settings.items() if k not in (ARGUMENTS, OPERATION, "function")}
    if "trainable" in settings or "data_format" in settings:  # every layer of Keras tells it, no operation does
        if node.layer_class not in _LAYERS:
            raise UnknownComputationError
        _check_size(values, int(settings.get("n", 1)))
        return _LAYERS[node.layer_class](values, settings)
    if name not in _OPERATIONS:
        raise UnknownComputationError
    told = {k: v for k, v in settings.items() if k in _KEYS and v is not None}
    if plain_settings(settings).keys() - {*told, "mode"} or settings.get("mode", "constant") != "constant":
        raise UnknownComputationError
    args, keywords = _arguments(node.settings.get(ARGUMENTS), name, values)
    if name == "einsum":
        _check_einsum(str(told.get("subscripts")), values)
    elif name in ("split", "arraysplit"):
        sections = told["indices_or_sections"]
        if isinstance(sections, int) and not 0 < sections <= values[0].shape[told.get("axis", 0)]:
            raise UnknownComputationError
    else:
        _check_size(values, _find_growth(told))
    return _OPERATIONS[name](*args, **{**told, **keywords})


# What operations are told beside the values that they take.
_KEYS = frozenset([
    "axis", "axes", "axis1", "axis2", "source", "destination", "newshape", "shift", "keepdims", "repeats", "pad_width",
    "subscripts", "indices_or_sections", "x_min", "x_max",
])  # fmt: skip


def _find_growth(settings: Mapping[str, Any]) -> int:
    """Return how many times as many numbers as there were an operation may make of them."""
    repeats = settings.get("repeats", 1)
    times = math.prod(int(n) for n in (repeats if isinstance(repeats, list | tuple) else [repeats]))
    # A pad is counted from one place, which no axis is shorter than.
    return times * math.prod(1 + sum(int(n) for n in pair) for pair in settings.get("pad_width", ()))


def _check_size(values: Sequence[Array], times: int) -> None:
    """Refuse what may be too large: a file says how often, and two values may make a table of their products."""
    each = [v.size // max(len(v), 1) for v in values if v.ndim]
    samples = max((len(v) for v in values if v.ndim), default=1)
    crossed = any({1} & {*v.shape[1:]} for v in values) or any(len({v.ndim, values[0].ndim}) > 1 for v in values)
    most = math.prod(each) if crossed or len(values) == 2 else max(each, default=1) * max(len(values), 1)
    if not 0 < times <= _MOST_NUMBERS or samples * most * times > _MOST_NUMBERS:
        raise UnknownComputationError


def _check_einsum(subscripts: str, values: Sequence[Array]) -> None:
    sizes: dict[str, int] = {}
    for letters, value in zip(subscripts.partition("->")[0].replace(" ", "").split(","), values, strict=True):
        sizes |= dict(zip(letters, value.shape, strict=True))  # with an ellipsis they are of other lengths
    if math.prod(sizes.values()) > _MOST_NUMBERS:
        raise UnknownComputationError


# Numbers that one operation may make, or multiply: 32 MB.
_MOST_NUMBERS = 1 << 22


def _arguments(call: Any, name: str, values: Sequence[Array]) -> tuple[list[Any], dict[str, Any]]:
    """Return what an operation is called with: its constants, and the values in the places of its tensors."""
    if call is None:
        return ([list(values)] if name in _OF_LISTS else list(values)), {}
    args, keywords = (call.get("args", ()), call.get("kwargs")) if isinstance(call, Mapping) else (call, None)
    left = iter(values)
    found = [_fill(item, left) for item in args], {k: _fill(v, left) for k, v in (keywords or {}).items()}
    if next(left, None) is not None:
        raise UnknownComputationError
    return found


def _fill(item: Any, left: Iterator[Array]) -> Any:
    if item is None:  # the place of a tensor, unless there is none left
        value = next(left, None)
        if value is None:
            raise UnknownComputationError
        return value
    if isinstance(item, list | tuple):
        return [_fill(i, left) for i in item]
    if not isinstance(item, Mapping):
        return item
    kind, config = item.get("class_name"), item.get("config")
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__slice__" and isinstance(config, Mapping):
        return slice(config.get("start"), config.get("stop"), config.get("step"))
    if kind == "__numpy__" and isinstance(config, Mapping):
        return np.asarray(config["value"])
    raise UnknownComputationError


def apply_activation(name: str | None, x: Array) -> Array:
    """Return what an activation makes of values, by the name that `spell_activation` gives to it.

    Raises:
        UnknownComputationError: it is not one of the functions here.
    """
    if name is None or name not in _ACTIVATIONS:
        raise UnknownComputationError
    return _ACTIVATIONS[name](x)


def _softmax(x: Array, axis: int = -1) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    found: Array = powers / powers.sum(axis, keepdims=True)
    return found


def _sigmoid(x: Array) -> Array:
    found: Array = (1 + np.tanh(x / 2)) / 2
    return found


_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu(max_value=6)": lambda x: np.clip(x, 0, 6),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "exponential": np.exp,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x * _sigmoid(x),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + abs(x)),
    "softmax": _softmax,
    "log_softmax": lambda x: np.log(_softmax(x)),
}


def _reshape(x: Array, newshape: Sequence[int | None]) -> Array:
    return x.reshape([-1 if n is None else n for n in newshape])


def _cut(x: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    return np.array_split(x, indices_or_sections, axis)


def _pad(x: Array, pad_width: Any) -> Array:
    return np.pad(x, [tuple(pair) for pair in pad_width])


def _take(x: Array, indices: Any, axis: int) -> Array:
    return np.take(x, np.asarray(indices), axis)


def _item(x: Array, key: Any) -> Array:
    # A list is what a tuple becomes in a file.
    found: Array = x[tuple(key) if isinstance(key, list) else key]
    return found


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axis: Any, keepdims: bool = False) -> Array:
        return function(x, axis=_axes(axis), keepdims=keepdims)

    return reduce


_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "truedivide": np.divide,
    "power": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "floordivide": np.floor_divide,
    "arctan2": np.arctan2,
    "greater": np.greater,
    "greaterequal": np.greater_equal,
    "less": np.less,
    "lessequal": np.less_equal,
    "logicaland": np.logical_and,
    "logicalor": np.logical_or,
    "logicalnot": np.logical_not,
    "where": np.where,
    "abs": np.abs,
    "absolute": np.abs,
    "negative": np.negative,
    "square": np.square,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": np.reciprocal,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sin": np.sin,
    "cos": np.cos,
    "sign": np.sign,
    "clip": lambda x, x_min, x_max: np.clip(x, x_min, x_max),
    "reshape": _reshape,
    "transpose": lambda x, axes: np.transpose(x, axes),
    "swapaxes": np.swapaxes,
    "moveaxis": np.moveaxis,
    "squeeze": lambda x, axis: np.squeeze(x, _axes(axis)),
    "expanddims": lambda x, axis: np.expand_dims(x, _axes(axis)),
    "flip": lambda x, axis: np.flip(x, _axes(axis)),
    "roll": lambda x, shift, axis: np.roll(x, shift, _axes(axis)),
    "take": _take,
    "getitem": _item,
    "repeat": lambda x, repeats, axis: np.repeat(x, repeats, axis),
    "tile": lambda x, repeats: np.tile(x, repeats),
    "pad": _pad,
    "cumsum": lambda x, axis: np.cumsum(x, axis),
    "split": _cut,
    "arraysplit": _cut,
    "unstack": lambda x, axis=0: list(np.moveaxis(x, axis, 0)),
    "stack": lambda x, axis=0: np.stack(x, axis),
    "concatenate": lambda x, axis=-1: np.concatenate(x, axis),
    "matmul": np.matmul,
    "einsum": lambda *x, subscripts: np.einsum(subscripts, *x),
    "mean": _reduce(np.mean),
    "sum": _reduce(np.sum),
    "prod": _reduce(np.prod),
    "max": _reduce(np.max),
    "amax": _reduce(np.max),
    "min": _reduce(np.min),
    "amin": _reduce(np.min),
    "std": _reduce(np.std),
    "var": _reduce(np.var),
}
_OF_LISTS = ("stack", "concatenate")


def _fold(function: Callable[[Array, Array], Array]) -> Callable[[Sequence[Array], Mapping[str, Any]], Array]:
    def fold(values: Sequence[Array], _: Mapping[str, Any]) -> Array:
        found = values[0]
        for value in values[1:]:
            found = function(found, value)
        return found

    return fold


def _dot(values: Sequence[Array], settings: Mapping[str, Any]) -> Array:
    one, two = values
    axes = settings["axes"]
    first, second = (a % v.ndim for a, v in zip([axes] * 2 if type(axes) is int else axes, values, strict=True))
    if settings.get("normalize"):
        one, two = (v / np.linalg.norm(v, axis=a, keepdims=True) for v, a in ((one, first), (two, second)))
    # The batch is 0 in both, what is summed over 1, and all other axes follow in their order.
    theirs = [0 if a == 0 else 1 if a == first else a + 2 for a in range(one.ndim)]
    ours = [0 if a == 0 else 1 if a == second else a + 10 for a in range(two.ndim)]
    left = [a for a in (*theirs, *ours[1:]) if a > 1]
    found: Array = np.einsum(one, theirs, two, ours, [0, *left])
    return found if left else found[:, None]


def _attend(values: Sequence[Array], settings: Mapping[str, Any]) -> Array:
    if settings.get("use_scale") or settings.get("score_mode", "dot") != "dot" or settings.get("use_causal_mask"):
        raise UnknownComputationError
    query, value, key = values if len(values) == 3 else (*values, values[1])
    return _softmax(query @ np.swapaxes(key, -1, -2)) @ value


def _pool(function: Callable[..., Array]) -> Callable[[Sequence[Array], Mapping[str, Any]], Array]:
    def pool(values: Sequence[Array], settings: Mapping[str, Any]) -> Array:
        first = settings.get("data_format") == "channels_first"
        axes = tuple(range(2, values[0].ndim)) if first else tuple(range(1, values[0].ndim - 1))
        return function(values[0], axis=axes, keepdims=bool(settings.get("keepdims")))

    return pool


def _flatten(values: Sequence[Array], settings: Mapping[str, Any]) -> Array:
    x = values[0]
    x = np.moveaxis(x, 1, -1) if settings.get("data_format") == "channels_first" and x.ndim > 2 else x
    return x.reshape(len(x), -1)


def _crop(values: Sequence[Array], settings: Mapping[str, Any]) -> Array:
    start, stop = settings["cropping"]
    return values[0][:, start : values[0].shape[1] - stop]


_LAYERS: Mapping[str, Callable[[Sequence[Array], Mapping[str, Any]], Array]] = {
    "Add": _fold(np.add),
    "Subtract": _fold(np.subtract),
    "Multiply": _fold(np.multiply),
    "Maximum": _fold(np.maximum),
    "Minimum": _fold(np.minimum),
    "Average": lambda values, s: _fold(np.add)(values, s) / len(values),
    "Concatenate": lambda values, s: np.concatenate(list(values), s.get("axis", -1)),
    "Dot": _dot,
    "Attention": _attend,
    "Flatten": _flatten,
    "Reshape": lambda values, s: values[0].reshape([len(values[0]), *s["target_shape"]]),
    "Permute": lambda values, s: np.transpose(values[0], [0, *s["dims"]]),
    "RepeatVector": lambda values, s: np.repeat(values[0][:, None], s["n"], 1),
    "Rescaling": lambda values, s: values[0] * float(s["scale"]) + float(s["offset"]),
    "Cropping1D": _crop,
    **{f"GlobalAveragePooling{n}D": _pool(np.mean) for n in (1, 2, 3)},
    **{f"GlobalMaxPooling{n}D": _pool(np.max) for n in (1, 2, 3)},
}
