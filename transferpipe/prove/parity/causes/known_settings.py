"""In which settings layers that belong together differ, where both are known: that takes no experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transferpipe.prove.parity.keras_trace import as_array

_SETTINGS = (
    *("strides", "padding", "dilation_rate", "groups", "data_format", "activation", "recurrent_activation", "axis"),
    *("epsilon", "scale", "center", "use_bias", "go_backwards", "reset_after", "merge_mode", "num_heads", "pool_size"),
    *(
        "kernel_size",
        "depth_multiplier",
        "use_scale",
        "output_padding",
        "alpha",
        "negative_slope",
        "max_value",
        "offset",
    ),
    *("mask_value", "attention_axes", "score_mode", "dims", "cropping"),
    *("threshold", "size", "interpolation", "units", "filters", "return_sequences", "unit_forget_bias", "mask_zero"),
)
# Of training, of names, and of layers within.
_IDLE = ("name", "dtype", "trainable", "rate", "seed", "momentum", "dropout", "recurrent_dropout", "layers", "cells")
_IDLE_ENDS = ("_initializer", "_regularizer", "_constraint", "_layers")


def config_of(layer: Any) -> dict[str, Any]:
    """Return a layer's configuration; empty where its class gives none."""
    try:
        return dict(layer.get_config())
    except Exception:  # a class of the user's own without one
        return {}


def differing(layer: Any, other: Any) -> dict[str, tuple[Any, Any]]:
    """Return the settings that change what a layer computes and differ, with both values."""
    mine, theirs = config_of(layer), config_of(other)
    return {
        key: (mine[key], theirs[key])
        for key in _SETTINGS
        if key in mine and key in theirs and _plain(mine[key]) != _plain(theirs[key])
    }


def describe_settings(layer: Any) -> str:
    """Return a layer's class and its settings but for those that change nothing it computes, to compare by."""
    held = {k: _plain(v) for k, v in sorted(config_of(layer).items()) if k not in _IDLE and not k.endswith(_IDLE_ENDS)}
    # Layers within have a place of their own.
    return f"{type(layer).__name__} { ({k: v for k, v in held.items() if not isinstance(v, Mapping)}) }"


def describe_difference(layer: Any, other: Any) -> list[str]:
    """Return how class and settings of a layer differ from the original's, in words."""
    found = [f"{key} is {show(a)}, the original's {show(b)}" for key, (a, b) in differing(layer, other).items()]
    if type(layer).__name__ != type(other).__name__:
        found.insert(0, f"its class is {type(layer).__name__}, the original's {type(other).__name__}")
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def show(value: Any) -> str:
    """Return a setting as it is written."""
    if isinstance(value, Mapping):
        inner = value.get("config") or value.get("class_name")
        return inner if isinstance(inner, str) else "a function of its own"
    return str(value)


def may_differ(layer: Any, original: Any) -> tuple[bool, bool]:
    """Tell whether the settings, and whether the weights, of two layers may differ in what they do.

    Of Keras's own classes configurations say all of it; what a class of somebody else computes, they need not.
    """
    if type(layer) is not type(original) or not type(layer).__module__.startswith("keras."):
        return True, True
    pairs = [(as_array(w), as_array(o)) for w, o in zip(layer.weights, original.weights, strict=False)]
    equal = all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs)
    has_same = equal and len(layer.weights) == len(original.weights)
    return describe_settings(layer) != describe_settings(original), not has_same
