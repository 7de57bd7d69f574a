"""Reading a Keras model configuration (config.json) as plain data: which class a saved layer has, what is frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transferpipe.weights.layer_classes import part_class

Config = Mapping[str, Any]

# Where wrappers keep the layers they wrap, by the attribute under which Keras saves those.
_WRAPPED = {"layer": "layer", "forward_layer": "layer", "backward_layer": "backward_layer", "cell": "cell"}


def is_layer_config(data: Any) -> bool:
    """Tell whether `data` is a serialised Keras object that can be a layer."""
    return isinstance(data, Mapping) and "class_name" in data and isinstance(data.get("config"), Mapping)


def child_layers(layer: Config) -> list[Config]:
    """Return the serialised layers of a Functional or Sequential model; empty for anything else."""
    layers = layer["config"].get("layers") if is_layer_config(layer) else None
    return [c for c in layers if is_layer_config(c)] if isinstance(layers, list) else []


def layer_name(layer: Config) -> str | None:
    """Return the name of a serialised layer."""
    name = layer["config"].get("name", layer.get("name"))
    return name if isinstance(name, str) else None


def find_child(parent: Config | None, segment: str, name: str | None) -> Config | None:
    """Return the serialised layer that `parent` saves under `segment` and that is called `name`, or None.

    The parts that composite layers make themselves have no configuration of their own: they come back as
    ``{"class_name": ..., "config": {}}`` where their class is known.
    """
    if parent is None:
        return None
    for child in child_layers(parent):
        if layer_name(child) == name:
            return child
    part = part_class(parent.get("class_name"), segment)
    if part:
        return {"class_name": part, "config": {}}
    wrapped = parent["config"].get(_WRAPPED.get(segment, ""))
    if wrapped is None and segment == "backward_layer":
        wrapped = parent["config"].get("layer")
    if is_layer_config(wrapped):
        found: Config = wrapped
        return found
    return next((c for c in _below(parent["config"]) if name and layer_name(c) == name), None)


def _below(data: Any) -> Iterator[Config]:
    values = data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ()
    for value in values:
        if is_layer_config(value):
            yield value
        yield from _below(value)


def saved_layer_config(root: Config | None, path: str, names: Mapping[str, str | None]) -> Config | None:
    """Return the serialised layer that Keras saves at `path`, walking down from the serialised model `root`.

    Args:
        root: the model's configuration; None if the file has none.
        path: the saved path, such as ``layers/functional/layers/dense_1``.
        names: the own names of all saved layers by their paths.
    """
    here: Config | None = root
    prefix = ""
    for segment in path.split("/") if path else []:
        prefix = f"{prefix}/{segment}" if prefix else segment
        if prefix not in names:
            continue
        here = find_child(here, segment, names[prefix])
    return here
