"""What Keras 1, and early versions of Keras in TensorFlow, called layers and weights that have other names now.

Keras 1 put the layer's name before the weight's, with an underscore, and its TensorFlow backend counted repeated names:
``block1_conv1_W_1:0``. What it called ``running_std`` is the variance: that is what its ``normalize_batch_in_training``
returned and what its ``batch_normalization`` took (keras 1.2.2, keras/backend/tensorflow_backend.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transferpipe.weights.formats.keras_legacy.tree import LegacyLayer
from transferpipe.weights.keras.layer_classes import LOWEST_RANK_OF_KERNELS, Shape
from transferpipe.weights.network import Network
from transferpipe.weights.spec import WeightSpec

_WEIGHTS = {
    "W": "kernel",
    "U": "recurrent_kernel",
    "b": "bias",
    "alphas": "alpha",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}


def modern_name(stored: str, tree: Sequence[LegacyLayer]) -> str:
    """Return the stored name of a Keras 1 weight as Keras 2 would have stored it, and any other as it is.

    Args:
        stored: the name.
        tree: the layer that the file groups the weight under, and all layers inside it.
    """
    # TensorFlow's number of the output.
    own = re.sub(r":\d+$", "", stored)
    # Of every later version, and the quick way out: below, each weight is compared with all layers of its group.
    if "/" in own.removeprefix(tree[0].name or ""):
        return stored
    owners = [layer for layer in tree if layer.name and own.startswith(f"{layer.name}_")]
    if not owners:
        return stored
    # `conv_1` begins as `conv_1_2` does: the longest name is meant.
    layer = max(owners, key=lambda la: len(la.name or ""))
    own = re.sub(r"_\d+$", "", own.removeprefix(f"{layer.name}_"))
    modern = "embeddings" if (layer.layer_class, own) == ("Embedding", "W") else _WEIGHTS.get(own, own)
    return f"{layer.name}/{modern}"


def modern_shape(shape: Shape, layer: LegacyLayer) -> Shape:
    """Return the shape that a weight has today: kernels of the image ordering "th" had the filters first."""
    config = layer.serialised.get("config")
    is_first = isinstance(config, Mapping) and "nb_filter" in config and config.get("dim_ordering") == "th"
    return (*shape[2:], shape[1], shape[0]) if is_first and len(shape) >= LOWEST_RANK_OF_KERNELS else shape


def is_of_theano(network: Network, weights: Iterable[WeightSpec]) -> bool:
    """Tell whether Theano computed a model of Keras 1, whose files do not name the backend.

    TensorFlow counted the outputs of its variables (``conv_W:0``).
    """
    is_of_keras_1 = any("nb_filter" in node.settings for node in network.nodes)
    return is_of_keras_1 and not any(re.search(r":\d+$", weight.where) for weight in weights)


def name_sequentials(config: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a Sequential of Keras 1 to 2.2 with the names of the Sequentials in it, which it does not say itself.

    Its configuration was the list of its layers. The file lists the layers by name in the same order.

    Args:
        config: the serialised model.
        names: the names of its layers as the file lists them.
    """
    layers = config.get("config")
    if not isinstance(layers, list) or len(layers) != len(names):
        return config
    pairs = zip(layers, names, strict=True)
    named = [
        {**layer, "name": name} if isinstance(layer, Mapping) and isinstance(layer.get("config"), list) else layer
        for layer, name in pairs
    ]
    return {**config, "config": named}
