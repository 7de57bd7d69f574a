"""One spelling for the value of a setting of a layer, whichever version of Keras wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from transferpipe.text.numbers import is_number
from transferpipe.weights.network import Node

LINEAR = "linear"
CEIL_MODE = "ceil_mode"
"""The padding of a pooling whose last window may reach over the end, as torch's with ``ceil_mode=True``."""

DIRECTION = "direction"
LENGTHS = "sequence lengths"
"""What a recurrent operator of ONNX is given, where Keras has a mask."""
NONE_IN_KERAS = "none in Keras"
"""What stands for the value of a setting that no layer of Keras has."""

SAME_LOWER = "same_lower"
"""The padding that is 'same' but for the odd one, which goes in front: ONNX's ``auto_pad``."""

OF_THEANO = " (as Theano does it)"
"""What stands behind the value of a setting that the Theano backend understands differently from all others."""

# Which settings have one number an axis of the map, and which of these a pair of numbers.
_PER_AXIS = ("strides", "dilation_rate", "pool_size", "size", "output_padding", "output_size")
_PAIRS = {"ZeroPadding": "padding", "Cropping": "cropping"}

_DATA_FORMATS = {"tf": "channels_last", "th": "channels_first"}


OLD_HARD_SIGMOID = "hard_sigmoid_of_keras_2"
"""The name of the two layers that stand for the hard_sigmoid of Keras 1 and 2 in a model of Keras 3."""


@lru_cache(64)
def version_of(text: str | None) -> tuple[int, ...] | None:
    """Return a version of Keras as numbers, None if there is none.

    >>> version_of("2.2.4-tf"), version_of("3.0.0"), version_of(None)
    ((2, 2, 4), (3, 0, 0), None)
    """
    numbers = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", text or "")
    return tuple(int(n) for n in numbers.groups() if n) if numbers else None


@lru_cache(256)
def _rank(kind: str) -> int:
    """Return the number of axes that a class has in its name; 0 if it has none."""
    digits = re.sub("[^0-9]", "", kind)
    return int(digits) if is_number(digits) else 0


def spell_value(kind: str, key: str, value: Any, node: Node, version: tuple[int, ...] | None) -> Any:
    """Return the value of a setting in one spelling; None if it is not stored, or cannot be compared."""
    rank = _rank(kind)
    if key in ("activation", "recurrent_activation"):
        return spell_activation(value, version)
    if key == "data_format":
        return _DATA_FORMATS.get(value, value) if isinstance(value, str) else None
    if key == _PAIRS.get(re.sub(r"\d.*", "", kind)):
        return _pairs(value, rank)
    # A pooling that does not say its strides goes on by its own window.
    if key == "strides" and value is None and "Pooling" in kind:
        return spell_per_axis(node.settings.get("pool_size", node.settings.get("pool_length")) or 2, rank)
    if key in _PER_AXIS and rank:
        return spell_per_axis(value, rank)
    if key in _READERS:
        return _READERS[key](value, node)
    if key == "value_dim" and value is None:
        value = node.settings.get("key_dim")
    if key in ("mean", "variance", "scale", "offset", "bin_boundaries") and value is not None:
        value = _numbers(value)
    if isinstance(value, str):
        return value.lower() if key in ("padding", "interpolation", "merge_mode", "output_mode") else value
    plain = _plain(value)
    return "None" if plain is None and key in _NONE_SAYS else plain


# Where None is a value of its own, which differs from any other.
_NONE_SAYS = (
    "merge_mode",
    "sliding_window",
    "mean",
    "variance",
    "bin_boundaries",
    "mask_token",
    "standardize",
    "split",
    "logit_soft_cap",
)


def _numbers(value: Any) -> Any:
    """Return numbers that may be an array as Keras serialises one; one number stands for itself."""
    if isinstance(value, Mapping):
        value = value.get("config")
        value = value.get("value") if isinstance(value, Mapping) else value
    flat = _flat(value, 0)
    return flat[0] if len(flat) == 1 else tuple(flat)


def _flat(value: Any, depth: int) -> list[Any]:
    if isinstance(value, list | tuple) and depth < 8:
        return [n for v in value for n in _flat(v, depth + 1)]
    return [value] if is_storable_number(value) else []


def is_storable_number(value: Any) -> bool:
    """Tell whether a value is a number that any file may hold: Python's own integers have no end."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63)


def _plain(value: Any, depth: int = 0) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_plain(v, depth + 1) for v in value) if depth < 8 else ()
    return value if value is None or isinstance(value, str) or is_storable_number(value) else None


def spell_per_axis(value: Any, rank: int) -> Any:
    """Return one number an axis: 3 and [3, 3] are the same."""
    if isinstance(value, list | tuple):
        return tuple(_plain(value)) * (rank if len(value) == 1 else 1)
    return (value,) * rank if isinstance(value, int) else None


def _pairs(value: Any, rank: int) -> Any:
    """Return two numbers an axis: 1, [1, 1] and [[1, 1], [1, 1]] are the same of two axes."""
    if isinstance(value, int):
        return ((value, value),) * rank
    if not isinstance(value, list | tuple):
        return None
    if rank == 1 and len(value) == 2 and all(isinstance(n, int) for n in value):
        return (tuple(value),)
    return tuple(tuple(_plain(v)) if isinstance(v, list | tuple) else (v, v) for v in value)


def spell_axis(value: Any, node: Node) -> Any:
    """Return axes counted from the end; None where that needs to know how many there are."""
    axes = value if isinstance(value, list | tuple) else [value]
    if not axes or not all(type(a) is int for a in axes):
        return "None" if value is None else None
    ranks = {len(shape) for shape in node.input_shapes}
    if len(ranks) == 1:
        # Keras 3 writes the axis of a built BatchNormalization as given, Keras 2 as counted from the front.
        axes = [a if a < 0 else a - rank for a in axes for rank in ranks]
    return None if any(a >= 0 for a in axes) else tuple(sorted(axes)) if len(axes) > 1 else axes[0]


UNKNOWN_AXIS = "softmax(axis=None)"
"""A softmax along an axis counted from the front, where the number of axes is not known."""
LAST_AXIS = "along the last axis"
"""The equation of an EinsumDense that does what a Dense does."""
# Whatever stands before, then what is summed over, which the kernel begins with.
_OF_DENSE = re.compile(r"(?:\.\.\.)?(\w*?)(\w+),\2(\w+)->(?:\.\.\.)?\1\3")


def spell_equation(value: Any) -> str | None:
    """Return an einsum equation with its letters in the order of the alphabet: which ones were taken means nothing."""
    if not isinstance(value, str):
        return None
    if value == LAST_AXIS or _OF_DENSE.fullmatch(value.replace(" ", "")):
        return LAST_AXIS
    letters = dict.fromkeys(c for c in value if c.isalpha())
    return "".join(chr(ord("a") + list(letters).index(c)) if c in letters else c for c in value.replace(" ", ""))


def _groups(value: Any, node: Node) -> Any:
    """Return the number of groups; -1 stands for as many as there are channels in GroupNormalization."""
    axis = node.settings.get("axis", -1)
    shape = node.input_shapes[0] if len(node.input_shapes) == 1 else ()
    whole = value == -1 and type(axis) is int and -len(shape) <= axis < len(shape)
    return shape[axis] if whole else _plain(value)


_READERS: dict[str, Callable[[Any, Node], Any]] = {
    "axis": spell_axis,
    "equation": lambda value, _: spell_equation(value),
    "groups": _groups,
}

_ALIASES = {
    "swish": "silu",
    "hard_swish": "hard_silu",
    "gelu_new": "gelu_approximate",
    "gelu_tanh": "gelu_approximate",
    "None": LINEAR,
    "identity": LINEAR,
    "relu6": "relu(max_value=6)",
    # The function's default; that of the layer is 0.3.
    "leaky_relu": "leaky_relu(0.2)",
    "hard_sigmoid_keras_2": "hard_sigmoid (0.2x + 0.5)",  # the name that the warning gives to it
    "hardsigmoid": "hard_sigmoid",
    "hardsilu": "hard_silu",
    "hardswish": "hard_silu",
    "leakyrelu": "leaky_relu(0.2)",
    "logsoftmax": "log_softmax",
    "exp": "exponential",
}


def spell_activation(value: Any, version: tuple[int, ...] | None = None) -> str | None:
    """Return an activation in one spelling: a name with what of its parameters is not the default.

    A name, a serialised function or a serialised layer may be given; None stands for none, as in Keras.

    >>> spell_activation({"class_name": "ReLU", "config": {"max_value": 6.0}}), spell_activation("relu6")
    ('relu(max_value=6)', 'relu(max_value=6)')
    >>> spell_activation("hard_sigmoid", (2, 1, 6)), spell_activation("hard_sigmoid", (3, 0))
    ('hard_sigmoid (0.2x + 0.5)', 'hard_sigmoid (relu6(x + 3) / 6)')

    Returns:
        The spelling; None where the function cannot be known, such as that of a lambda.
    """
    if value is None:
        return LINEAR
    if isinstance(value, Mapping):
        name, config = value.get("class_name"), value.get("config")
        if name in ("function", "Function"):
            return spell_activation(config if isinstance(config, str) else value.get("registered_name"), version)
        if not isinstance(name, str) or name.startswith("__"):
            return None
        return _activation_layer(name.rpartition(">")[2], config if isinstance(config, Mapping) else {}, version)
    if not isinstance(value, str):
        return None
    name = value.rpartition(">")[2].rpartition(".")[2]
    if name in ("hard_sigmoid", "hardsigmoid"):
        # Keras 3 changed it: https://github.com/keras-team/keras/blob/master/keras/src/activations/activations.py
        if version is None:
            return None
        return "hard_sigmoid (0.2x + 0.5)" if version < (3,) else "hard_sigmoid (relu6(x + 3) / 6)"
    return _ALIASES.get(name, name)


def _activation_layer(kind: str, config: Mapping[str, Any], version: tuple[int, ...] | None) -> str | None:
    if kind == "Activation":
        return spell_activation(config.get("activation"), version)
    if kind == "Sequential" and config.get("name") == OLD_HARD_SIGMOID:
        return spell_activation("hard_sigmoid", (2,))
    if kind == "LeakyReLU":
        slope = config.get("negative_slope", config.get("alpha", 0.3))
        return _relu(None, _numbers(slope), 0)
    if kind == "ReLU":
        slope = config.get("negative_slope", config.get("alpha", 0))
        return _relu(_numbers(config.get("max_value")), _numbers(slope), _numbers(config.get("threshold", 0)))
    if kind == "ThresholdedReLU":
        return _relu(None, 0, _numbers(config.get("theta", 1.0)))
    if kind == "ELU":
        alpha = _numbers(config.get("alpha", 1.0))
        return "elu" if alpha == 1 else f"elu({_number(alpha)})"
    if kind == "Softmax":
        axis = config.get("axis", -1)
        return "softmax" if axis == -1 else UNKNOWN_AXIS if axis is None else f"softmax(axis={axis})"
    return spell_activation(re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower(), version)


def _relu(most: Any, slope: Any, threshold: Any) -> str:
    slope, threshold = slope or 0, threshold or 0  # an empty tuple is what was no number
    if slope and not threshold and most in (None, ()):
        return f"leaky_relu({_number(slope)})"
    parts = {"max_value": most, "negative_slope": slope, "threshold": threshold}
    kept = [f"{key}={_number(n)}" for key, n in parts.items() if n not in (None, (), 0)]
    return f"relu({', '.join(kept)})" if kept else "relu"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)[:20]
