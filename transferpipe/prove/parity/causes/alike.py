"""Layers like a layer of the model, of other settings or weights, which are called in its place.

Each is made once, however often it is called. Recurrent layers run as graphs where Keras runs on TensorFlow: step by
step from Python, a hundred steps take a second, and a search calls them hundreds of times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.models.keras_private import is_masked
from transferpipe.prove.parity.keras_trace import Call, Override

Change = Callable[[str, NDArray[Any]], NDArray[Any]]
"""Takes a weight's name and value, and returns another value."""


def clone(layer: Any, changes: Mapping[str, Any]) -> Override:
    """Return a call of a layer that is like `layer` but for some settings."""
    # Made by the first call, which has the inputs that build it, and kept for the calls of a shared layer.
    made: list[Override] = []

    def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not made:
            made.append(compiled(make_alike(layer, changes, args, kwargs)))
        return made[0](args, kwargs)

    return call


def reweighted(call: Call, change: Change) -> Override:
    """Return a call of a layer that is like that of `call` but for its weights; all of these are one layer."""
    layer = call.layer

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not call.twin:
            new = _make(layer, {}, args, kwargs)
            call.twin.extend((new, compiled(new)))
        new, its_call = call.twin
        names = [w.name for w in layer.weights]
        new.set_weights([change(n, v) for n, v in zip(names, layer.get_weights(), strict=True)])
        return its_call(args, kwargs)

    return run


def make_alike(layer: Any, changes: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a layer like `layer` but for some settings, built for a call and of the same weights."""
    new = _make(layer, changes, args, kwargs)
    new.set_weights(layer.get_weights())
    return new


def _make(layer: Any, changes: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a layer with other settings, with variables of its own."""
    new = type(layer).from_config({**layer.get_config(), **changes})
    if is_recurrent(layer):  # others are built as quickly by a call
        new.build(tuple(np.shape(args[0])))
    if not new.built or len(new.weights) != len(layer.weights):
        new(*args, **kwargs)  # builds it
    return new


def is_recurrent(layer: Any) -> bool:
    """Tell whether a layer computes step by step."""
    import keras

    return isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional)


def compiled(layer: Any) -> Override:
    """Return a call of a layer: of a recurrent one, on TensorFlow, as a graph that is traced once."""
    import keras

    def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return layer(*args, **kwargs)

    if not is_recurrent(layer) or keras.backend.backend() != "tensorflow":
        return call
    import tensorflow as tf

    graph = tf.function(call, autograph=False)
    failed: list[bool] = []

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if failed or any(map(is_masked, args)):  # a graph loses the mask
            return call(args, kwargs)
        try:
            return graph(args, kwargs)
        except Exception:  # cells of a user's own need not be such that they can be traced
            failed.append(True)
            return call(args, kwargs)

    return run
