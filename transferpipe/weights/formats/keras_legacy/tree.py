"""The layers that a legacy Keras file's `model_config` tells of, each with the path on which Keras 3 would save it.

With those paths the names come from the same function as those of `.keras` files: see
`transferpipe.weights.keras.naming`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transferpipe.weights.keras.config import as_layer, layer_name
from transferpipe.weights.keras.layer_classes import BUILT_IN, RENAMED, part_class, snake_case, stem

Config = Mapping[str, Any]
Scope = tuple[str, ...]

# Models nest a few levels; only a configuration made to exhaust the stack nests more.
_MOST_DEPTH = 40
# The parts that composite layers make themselves: the attribute that holds them, and the name where it is not made up.
_PARTS = {
    "cell": "",
    "key_dense": "key",
    "output_dense": "attention_output",
    "query_dense": "query",
    "value_dense": "value",
}
# Keras 1 made a layer's name of its class in small letters: batchnormalization_1.
_KERAS_1_STEMS = {name.lower(): RENAMED.get(name, name) for name in (*BUILT_IN.values(), *RENAMED)}


@dataclass(frozen=True)
class LegacyLayer:
    """One layer.

    Attributes:
        saved: the path on which Keras 3 saves it, such as ``layers/dense_1``.
        scope: the names that Keras may have put before its weights' names, from the root's own name down to its own.
        name: its own name.
        layer_class: its class, None if unknown.
        has_layers: whether it is a model, which has weights of its own only if it is a subclass.
        serialised: its configuration.
    """

    saved: str
    scope: Scope
    name: str | None
    layer_class: str | None
    has_layers: bool = False
    serialised: Config = field(default_factory=dict, repr=False, compare=False)


def layer_trees(config: Config | None, groups: Iterable[str]) -> dict[str, list[LegacyLayer]]:
    """Return for every group the layer it is named after and all layers inside, in the order in which Keras saves them.

    Raises:
        ValueError: the configuration is nested too deeply.
    """
    root = as_layer(config)
    name = (layer_name(root) or "") if root else ""
    known: dict[str | None, tuple[str, Config]] = {}
    for segment, child in _children(root) if root else ():
        known.setdefault(layer_name(child), (segment, child))
    trees = {}
    for k, group in enumerate(groups):
        if group in known:
            saved, layer = known[group]
            trees[group] = list(_walk(layer, saved, (name,)))
        else:  # no segment that Keras makes holds a colon
            trees[group] = list(_walk(_alone(group), f"layers/:{k}", ()))
    return trees


def outer_names(config: Config | None) -> tuple[str, list[str]]:
    """Return the name of the model and those of the layers that it lists."""
    root = as_layer(config)
    if root is None:
        return "", []
    return layer_name(root) or "", [name for _, child in _children(root) if (name := layer_name(child))]


def _alone(group: str) -> Config:
    """Return what can be said of a layer without a configuration: its class, if Keras made the name up from it."""
    known = BUILT_IN.get(group) or BUILT_IN.get(stem(group)) or _KERAS_1_STEMS.get(stem(group))
    return {"class_name": known, "config": {"name": group}}


def _class_of(layer: Config) -> str | None:
    """Return the class without the package that a registered one is noted with (``package>Class``)."""
    layer_class = layer["class_name"]
    return RENAMED.get(name := layer_class.rpartition(">")[2], name) if isinstance(layer_class, str) else None


def _walk(layer: Config, saved: str, scope: Scope, depth: int = 0) -> Iterator[LegacyLayer]:
    if depth > _MOST_DEPTH:
        raise ValueError(f"layers are nested more than {_MOST_DEPTH} levels deep")
    name, children = layer_name(layer), list(_children(layer))
    # A name may hold slashes, which scopes count as levels.
    scope = (*scope, *(name or "").split("/"))
    has_layers = any(segment.startswith("layers/") for segment, _ in children)
    yield LegacyLayer(saved, scope, name, _class_of(layer), has_layers, layer)
    for segment, child in children:
        yield from _walk(child, f"{saved}/{segment}", scope, depth + 1)


def _children(layer: Config) -> Iterator[tuple[str, Config]]:
    """Yield the layers directly inside `layer`, each with the segments that Keras adds to the path for it."""
    config, layer_class = layer["config"], _class_of(layer)
    for attribute, name in _PARTS.items():
        if part := part_class(layer_class, attribute):
            yield attribute, {"class_name": part, "config": {"name": name or snake_case(part)}}
    if layer_class == "Bidirectional":
        yield from _directions(config)
    else:
        for attribute in ("cell", "layer"):
            if inner := as_layer(config.get(attribute)):
                yield attribute, inner
    for attribute in ("cells", "layers"):
        yield from _name_layers(attribute, config.get(attribute))


def _directions(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield both layers of a Bidirectional. Keras 2 notes only the layer that it copied, under its own name."""
    forward, backward = as_layer(config.get("layer")), as_layer(config.get("backward_layer"))
    if forward:
        name = (layer_name(forward) or "").removeprefix("forward_")
        # The backward one first: Keras 3 saves attributes by name.
        yield "backward_layer", backward or _rename(forward, f"backward_{name}")
        yield "forward_layer", _rename(forward, f"forward_{name}")


def _rename(layer: Config, name: str) -> Config:
    return {**layer, "config": {**layer["config"], "name": name}}


def _name_layers(attribute: str, layers: Any) -> Iterator[tuple[str, Config]]:
    counts: Counter[str] = Counter()
    for layer in map(as_layer, layers if isinstance(layers, list) else ()):
        if layer:
            base = snake_case(_class_of(layer) or "layer")
            yield f"{attribute}/{base}_{counts[base]}" if counts[base] else f"{attribute}/{base}", layer
            counts[base] += 1
