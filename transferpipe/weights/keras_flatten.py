"""Which Dense layers of a Keras model configuration stand behind a Flatten of a spatial map, and of what map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from transferpipe.weights.keras_config import Config, child_layers, layer_name

# What leaves the order of a row of numbers as it is.
_KEEP_ORDER = (
    *("Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout", "BatchNormalization", "LayerNormalization"),
    *("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax"),
)


def flattened_maps(model: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape (spatial sizes, then channels) of what is flattened before each Dense of `model`, by layer name.

    Only layers that `model` itself lists are looked at, and only maps whose order matters: with more than one place and
    more than one channel. A map that a Permute has rearranged is somebody's deliberate order and left out.

    Args:
        model: a serialised Sequential or Functional model.
    """
    layers = {name: c for c in child_layers(model) if (name := layer_name(c))}
    before = _inputs(model, layers)
    found = {}
    for name, layer in layers.items():
        flatten = _flatten_before(name, layers, before) if layer["class_name"] == "Dense" else None
        shape = _input_shape(layers[flatten]) if flatten else None
        permuted = flatten and layers.get(before.get(flatten, ""), {}).get("class_name") == "Permute"
        if shape and not permuted and math.prod(shape[:-1]) > 1 and shape[-1] > 1:
            found[name] = shape
    return found


def _flatten_before(name: str, layers: Mapping[str, Config], before: Mapping[str, str]) -> str | None:
    """Return the Flatten whose result the layer `name` sees, its order unchanged."""
    for _ in layers:
        name = before.get(name, "")
        if name not in layers:
            return None
        if layers[name]["class_name"] == "Flatten":
            return name if layers[name]["config"].get("data_format") != "channels_first" else None
        if layers[name]["class_name"] not in _KEEP_ORDER:
            return None
    return None


def _inputs(model: Config, layers: Mapping[str, Config]) -> dict[str, str]:
    """Return for every layer with one input the layer that it comes from."""
    if model["class_name"] == "Sequential":
        names = list(layers)
        return dict(zip(names[1:], names, strict=False))
    found = {}
    for name, layer in layers.items():
        origins = set(_origins(layer.get("inbound_nodes")))
        if len(origins) == 1:
            found[name] = origins.pop()
    return found


def _origins(data: Any) -> Iterator[str]:
    waiting = [data]
    while waiting:
        here = waiting.pop()
        history = here.get("keras_history") if isinstance(here, Mapping) else None
        if isinstance(history, list) and history and isinstance(history[0], str):
            yield history[0]
        waiting.extend(here.values() if isinstance(here, Mapping) else here if isinstance(here, list) else ())


def _input_shape(layer: Config) -> tuple[int, ...] | None:
    """Return the sizes of a layer's input without the first, that of the batch, where all of them are known."""
    built = layer.get("build_config")
    shape = built.get("input_shape") if isinstance(built, Mapping) else None
    sizes = shape[1:] if isinstance(shape, list) else []
    return tuple(sizes) if len(sizes) > 1 and all(type(n) is int and n > 0 for n in sizes) else None
