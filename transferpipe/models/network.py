"""What a model in memory tells of its layers: what its configuration does, and what its layers tell one by one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from transferpipe.models.settings import keras_settings_kept
from transferpipe.models.walk import keras_version
from transferpipe.weights.keras.config import Config, as_layer, is_model
from transferpipe.weights.keras.layer_classes import class_label, makes_parts
from transferpipe.weights.keras.network import keras_network, node_of, with_layers
from transferpipe.weights.network import Network, Node


def live_network(config: Config | None, held: Mapping[str, Config | None], layers: Mapping[str, Any]) -> Network:
    """Return the network of a model.

    Args:
        config: its configuration; None if it cannot be written.
        held: the serialised layers by their readable names, as far as `config` records them.
        layers: the layer objects by their readable names, without the root.
    """
    import keras

    network = keras_network(config, held, keras_version(), keras.backend.backend())
    further: dict[str, Node] = {}
    inside: set[str] = set()  # of models that were walked
    with keras_settings_kept():
        for name, layer in layers.items():
            if name in network.by_name or name in inside or _is_made(name, layers) or _is_walked(held.get(name)):
                continue
            if isinstance(layer, keras.layers.InputLayer):  # of a model inside
                continue
            serialised = _serialise(layer)
            if serialised is not None and is_model(serialised):
                found = keras_network(serialised, {}).nodes
                further.update((f"{name}/{n.name}", _below(name, n)) for n in found)
                inside.update(f"{name}/{n.name}" for n in found)
            elif serialised is not None:
                further[name] = node_of(serialised, name)
            else:
                further[name] = Node(name, _label(layer))
    return with_layers(network, further.values())


def _is_made(name: str, layers: Mapping[str, Any]) -> bool:
    """Tell whether a layer is a part that one of Keras's own layers makes of its own settings."""
    holder = name.rpartition("/")[0]
    while holder and holder not in layers:
        holder = holder.rpartition("/")[0]
    return holder in layers and makes_parts(_label(layers[holder]))


def _label(layer: Any) -> str:
    return class_label(type(layer).__name__, type(layer).__module__)


def _is_walked(config: Config | None) -> bool:
    layer = as_layer(config)
    return layer is not None and is_model(layer)


def _serialise(layer: Any) -> Config | None:
    """Return the layer as a file would tell of it; None if its own code fails to say."""
    import keras

    try:
        # As a file would have it: tuples become lists, and what JSON cannot hold is as good as not recorded.
        found = json.loads(json.dumps(keras.saving.serialize_keras_object(layer), default=lambda _: None))
    except Exception:  # a user's own get_config may fail in any way
        return None
    return as_layer(found)


def _below(prefix: str, node: Node) -> Node:
    inputs = tuple(f"{prefix}/{name}" for name in node.inputs)
    return dataclasses.replace(node, name=f"{prefix}/{node.name}", inputs=inputs)
