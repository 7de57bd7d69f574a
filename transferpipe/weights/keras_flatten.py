"""Finding in a Keras configuration which layers see the values of a spatial map in one row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transferpipe.weights.keras_config import Config, child_layers, is_layer_config, layer_class, layer_name

Shape = tuple[int, ...]

# What leaves every value in its place.
_IN_PLACE = frozenset([
    "Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dropout", "ELU",
    "GaussianDropout", "GaussianNoise", "Identity", "LayerNormalization", "LeakyReLU", "Masking", "PReLU",
    "RMSNormalization", "ReLU", "Rescaling", "Softmax", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
    "UnitNormalization",
])  # fmt: skip
_MODELS = frozenset(["Sequential", "Functional", "Model"])
# Stands for a map whose channels do not come last, so that nobody can say in which order it is flattened.
_OTHER_ORDER: Shape = ()
# No real model is nested as deeply; a file that is must not exhaust the stack.
_DEEPEST = 50


def flattened_maps(root: Config) -> dict[int, Shape]:
    """Return the maps that were flattened into the input of layers, by the `id` of the layers' configurations.

    A map's shape is that without the batch, channels last, and only maps of more than one place and more than one
    channel are given: any other has the same order channels first and last. Models are walked as Keras builds them,
    nested ones too; what a subclassed model does is not recorded, and so not found.
    """
    found: dict[int, Shape] = {}
    if is_layer_config(root):
        _through_model(root, None, found, 0)
    return found


def _through_model(model: Config, state: Shape | None, found: dict[int, Shape], depth: int) -> Shape | None:
    """Return what comes out of a model that `state` goes into: a flattened map, `_OTHER_ORDER`, or None."""
    layers = child_layers(model)
    if layer_class(model) == "Sequential":
        for layer in layers:
            state = _through_layer(layer, state, found, depth)
        return state
    states: dict[str | None, Shape | None] = {}
    for layer in layers:
        sources = _sources(layer)
        before = states.get(sources[0]) if len(sources) == 1 else None
        is_input = layer_class(layer) == "InputLayer"
        states[layer_name(layer)] = state if is_input else _through_layer(layer, before, found, depth)
    outputs = model["config"].get("output_layers")
    return states.get(outputs[0]) if isinstance(outputs, list) and outputs and isinstance(outputs[0], str) else None


def _through_layer(layer: Config, state: Shape | None, found: dict[int, Shape], depth: int) -> Shape | None:
    kind, config = layer_class(layer), layer["config"]
    if kind in _MODELS and "layers" in config:
        return _through_model(layer, state, found, depth + 1) if depth < _DEEPEST else None
    shape = config.get("target_shape")
    if kind == "Flatten" or (kind == "Reshape" and isinstance(shape, list) and len(shape) == 1):
        return _flattened(layer, state)
    if state:
        found[id(layer)] = state
    if kind == "Permute" or config.get("data_format") == "channels_first":
        return _OTHER_ORDER
    return state if kind in _IN_PLACE or kind == "InputLayer" else None


def _flattened(layer: Config, state: Shape | None) -> Shape | None:
    shape = _input_shape(layer)
    if state and (shape is None or len(shape) == 2):
        return state  # it was in a row already
    if shape is None or len(shape) < 2 or not all(isinstance(size, int) for size in shape[1:]):
        return None
    places, channels = shape[1:-1], shape[-1]
    if layer["config"].get("data_format") == "channels_first":
        places, channels = shape[2:], shape[1]  # such a Flatten puts the channels last by itself
    elif state == _OTHER_ORDER:
        return None
    return (*places, channels) if math.prod(places) > 1 and channels > 1 else None


def _input_shape(layer: Config) -> list[Any] | None:
    built, inputs = layer.get("build_config"), _inputs(layer)
    shape = built.get("input_shape") if isinstance(built, Mapping) else inputs[0].get("shape") if inputs else None
    return shape if isinstance(shape, list) else None


def _sources(layer: Config) -> list[Any]:
    """Return the names of the layers whose outputs the first call of `layer` took."""
    histories = [tensor.get("keras_history") for tensor in _inputs(layer)]
    return [h[0] if isinstance(h, list) and h and isinstance(h[0], str) else None for h in histories]


def _inputs(layer: Config) -> list[Mapping[str, Any]]:
    """Return what the configuration says of the tensors that the first call of `layer` took."""
    nodes: Any = layer.get("inbound_nodes")
    waiting, found = nodes[:1] if isinstance(nodes, list) else [], []
    while waiting:
        here = waiting.pop()
        if isinstance(here, Mapping) and here.get("class_name") == "__keras_tensor__":
            found += [here["config"]] if isinstance(here.get("config"), Mapping) else []
        elif isinstance(here, Mapping | list):
            waiting.extend(here.values() if isinstance(here, Mapping) else here)
    return found
