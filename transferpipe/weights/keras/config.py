"""Reading a Keras model configuration (config.json) as plain data: which class a saved layer has, what is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from transferpipe.weights.keras.layer_classes import (
    RENAMED,
    class_label,
    counter,
    part_class,
    part_name,
    snake_case,
    stem,
)
from transferpipe.weights.keras.naming import MODEL_LAYERS

Config = Mapping[str, Any]

_MODELS = frozenset(["Sequential", "Functional", "Model"])
# Where wrappers keep the layers they wrap, by the attribute under which Keras saves those.
_WRAPPED = {"layer": "layer", "forward_layer": "layer", "backward_layer": "backward_layer", "cell": "cell"}


def is_layer_config(data: Any) -> bool:
    """Tell whether `data` is a serialised Keras object that can be a layer."""
    return isinstance(data, Mapping) and "class_name" in data and isinstance(data.get("config"), Mapping)


def strip_marks(data: Any) -> Any:
    """Return the list that stands for a tuple or a shape as tf.keras marks these; anything else as it is.

    That is `Encoder` of tf_keras/src/saving/legacy/saved_model/json_utils.py.
    """
    is_marked = isinstance(data, Mapping) and data.get("class_name") in ("__tuple__", "TensorShape")
    return data["items"] if is_marked and isinstance(data.get("items"), list) else data


def child_layers(layer: Config, container: str = "layers") -> list[Config]:
    """Return the serialised layers that `layer` lists under `container`; empty if there is no such list.

    The operations between a model's layers (``x + 1``) are not layers, though the configuration lists them among those.
    """
    layers = layer["config"].get(container) if is_layer_config(layer) else None
    found = [c for c in layers if is_layer_config(c)] if isinstance(layers, list) else []
    return [c for c in found if not str(c.get("module")).startswith("keras.src.ops.")]


def layer_name(layer: Config) -> str | None:
    """Return the name of a serialised layer."""
    name = layer["config"].get("name", layer.get("name"))
    return name if isinstance(name, str) else None


def layer_class(layer: Config) -> str:
    """Return the class of a serialised layer; see `class_label`."""
    module, registered = str(layer.get("module") or ""), str(layer.get("registered_name") or "")
    package = registered.rpartition(">")[0]
    return class_label(str(layer["class_name"]), module or package or "keras")


def layer_configs(root: Config | None, names: Mapping[str, str | None]) -> dict[str, Config]:
    """Return the serialised layer of every saved path that has one, walking down from the serialised model `root`.

    The parts that composite layers make themselves have no configuration of their own: they come back as
    ``{"class_name": ..., "config": {}}`` where their class is known.

    Args:
        root: the model's configuration; None if the file has none.
        names: the own names of all saved layers by their paths, such as ``layers/functional/layers/dense_1``; None for
            a layer whose name the file does not tell. If it is in a list, such as a model's ``layers``, its class and
            its place among those of that class then tell which of the configuration's list it is.
    """
    if root is None:
        return {}
    held: dict[str, list[str]] = {}
    for path in names:
        if path:
            held.setdefault(_parent(path, names), []).append(path)
    found: dict[str, Config] = {"": root}
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        inner = {p.removeprefix(parent).lstrip("/"): p for p in held.get(parent, ())}
        children = _Children(found[parent], inner)
        for place, path in inner.items():
            config = children.find(place, names[path])
            if config is not None:
                found[path] = config
                waiting.append(path)
    return found


def _parent(path: str, names: Mapping[str, str | None]) -> str:
    parent = path.rpartition("/")[0]
    while parent and parent not in names:
        parent = parent.rpartition("/")[0]
    return parent


class _Children:
    """What one serialised layer tells of those it holds."""

    def __init__(self, parent: Config, saved: Iterable[str]) -> None:
        """`saved`: the paths of what it holds, seen from it."""
        self._parent = parent
        self._by_name: dict[str | None, Config] = {}
        for child in child_layers(parent):
            self._by_name.setdefault(layer_name(child), child)
        self._by_place: dict[str, Config] = {}
        lists: dict[str, list[str]] = {}
        for inner in saved:
            container, _, segment = inner.rpartition("/")
            lists.setdefault(container, []).append(segment)
        for container, segments in lists.items():
            layers = child_layers(parent, "layers" if container in MODEL_LAYERS else container)
            self._by_place.update((f"{container}/{s}", c) for s, c in _number_layers(layers, segments).items())

    def find(self, inner: str, name: str | None) -> Config | None:
        """Return the configuration of what is saved under `inner` and called `name`, if it is recorded."""
        # From the surest to the least sure: a noted name, the place in a list, what the class makes of itself, what a
        # wrapper wraps; last anything below of that name, which a class of the user's own may hold in any argument.
        if name is not None and name in self._by_name:
            return self._by_name[name]
        if name is None and inner in self._by_place:
            return self._by_place[inner]
        segment = inner.rpartition("/")[2]
        holder = layer_class(self._parent)
        if part := part_class(holder, segment):
            return {"class_name": part, "name": part_name(holder, segment), "config": {}}
        wrapped = self._parent["config"].get(_WRAPPED.get(segment, ""))
        # `Bidirectional.__init__` makes it of the forward layer's configuration where it is given none.
        if wrapped is None and segment == "backward_layer":
            wrapped = self._parent["config"].get("layer")
        if is_layer_config(wrapped):
            config: Config = wrapped
            return config
        return next((c for c in _below(self._parent["config"]) if name and layer_name(c) == name), None)


def _number_layers(layers: Iterable[Config], segments: Iterable[str]) -> dict[str, Config]:
    """Return listed layers by the segments under which Keras saves them: counted for each class."""
    by_class: dict[str, list[Config]] = {}
    for layer in layers:
        by_class.setdefault(snake_case(layer_class(layer).rpartition(".")[2]), []).append(layer)
    saved: dict[str, list[tuple[int, str]]] = {}
    for segment in segments:
        base, number = (segment, 0) if segment in by_class else (stem(segment), counter(segment))
        saved.setdefault(base, []).append((number, segment))
    found: dict[str, Config] = {}
    for base, members in saved.items():
        known = by_class.get(base, [])
        if len(known) == len(members):  # Keras 2.13 counts some layers twice, so the numbers can have gaps
            found.update((s, c) for (_, s), c in zip(sorted(members), known, strict=True))
        else:  # a layer that is held in two places is saved in the first
            found.update((s, known[number]) for number, s in members if number < len(known))
    return found


def _below(data: Any) -> Iterator[Config]:
    waiting = [data]
    while waiting:
        here = waiting.pop()
        if here is not data and is_layer_config(here):
            yield here
        values = list(here.values()) if isinstance(here, Mapping) else here if isinstance(here, list) else []
        # In the order of the configuration: of two layers of one name the caller takes the first.
        waiting.extend(reversed(values))


def as_layer(data: Any) -> Config | None:
    """Return `data` if it is a serialised layer; the list that is a Keras 1 Sequential's ``config`` gets its key."""
    if isinstance(data, Mapping) and isinstance(data.get("config"), list):
        data = {**data, "config": {"layers": data["config"]}}
    return data if is_layer_config(data) else None


def is_model(layer: Config) -> bool:
    """Tell whether a serialised layer is a model whose layers its configuration lists."""
    config = layer["config"]
    return isinstance(config.get("layers"), list) and (class_of(layer) in _MODELS or "output_layers" in config)


def class_of(layer: Config) -> str:
    """Return the class of a serialised layer as catalogs call it, in its name of today."""
    package, _, name = str(layer["class_name"]).rpartition(">")  # Keras 2 writes registered classes so
    label = class_label(name, package) if package else layer_class(layer)
    return RENAMED.get(label, label)
