"""In which settings layers that belong together differ, where both are known: that takes no experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transferpipe.prove.parity.keras_trace import as_array

# What is told first, for most differences are of these.
_SETTINGS = (
    *("strides", "padding", "dilation_rate", "groups", "data_format", "activation", "recurrent_activation", "axis"),
    *("epsilon", "scale", "center", "use_bias", "go_backwards", "reset_after", "merge_mode", "num_heads", "pool_size"),
    "kernel_size",
)
# Of training, of names, of how a value is computed, of shapes that the values show themselves, and of layers within.
_IDLE = (
    *(
        "name",
        "dtype",
        "trainable",
        "autocast",
        "rate",
        "seed",
        "momentum",
        "dropout",
        "recurrent_dropout",
        "noise_shape",
    ),
    *("stddev", "l1", "l2", "renorm", "renorm_clipping", "renorm_momentum", "power_iterations", "synchronized"),
    *("implementation", "unroll", "stateful", "use_cudnn", "flash_attention", "lora_rank", "lora_alpha"),
    *("quantization_config", "gptq_unpacked_column_size", "batch_shape", "batch_input_shape", "batch_size", "sparse"),
    *("ragged", "optional", "max_tokens", "vocabulary_size", "layers", "cells"),
)
_WIDEST = 60  # of a setting that is a list of many numbers, such as the boundaries of bins
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
    both = {key: (mine[key], theirs[key]) for key in mine if key in theirs and not _is_idle(key)}
    order = sorted(both, key=lambda key: (_SETTINGS.index(key) if key in _SETTINGS else len(_SETTINGS), key))
    # Of further settings, those that are an object hold another layer, or say how values begin.
    return {
        key: both[key]
        for key in order
        if _plain(both[key][0]) != _plain(both[key][1])
        and (key in _SETTINGS or not any(isinstance(value, Mapping) for value in both[key]))
    }


def describe_settings(layer: Any) -> str:
    """Return a layer's class and its settings but for those that change nothing it computes, to compare by."""
    held = {k: _plain(v) for k, v in sorted(config_of(layer).items()) if not _is_idle(k)}
    # Layers within have a place of their own.
    return f"{type(layer).__name__} { ({k: v for k, v in held.items() if not isinstance(v, Mapping)}) }"


def describe_difference(layer: Any, other: Any) -> list[str]:
    """Return how class and settings of a layer differ from the original's, in words."""
    found = [f"{key} is {show(a)}, the original's {show(b)}" for key, (a, b) in differing(layer, other).items()]
    if type(layer).__name__ != type(other).__name__:
        found.insert(0, f"its class is {type(layer).__name__}, the original's {type(other).__name__}")
    return found


def _is_idle(key: str) -> bool:
    return key in _IDLE or key.endswith(_IDLE_ENDS)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def show(value: Any) -> str:
    """Return a setting as it is written."""
    if isinstance(value, Mapping):
        inner = value.get("config") or value.get("class_name")
        return inner if isinstance(inner, str) else "a function of its own"
    text = str(value)
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}..."


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
