"""From a Keras model configuration to a `Network`: which layers a saved model has, their settings, what feeds what.

The configuration comes from anybody's file. It may be of Keras 1, 2 or 3, and be wrong in any way: what makes no sense
is left out, and nothing here raises.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transferpipe.weights.keras.calls import ATTENTIONS, arguments_of_calls
from transferpipe.weights.keras.config import Config, as_layer, class_of, is_layer_config, is_model, layer_name
from transferpipe.weights.keras.layer_classes import makes_parts
from transferpipe.weights.keras.references import (
    CONSTANT,
    DEEPEST,
    TensorReference,
    first_call,
    is_reference,
    is_tensor,
    references,
)
from transferpipe.weights.keras.setting_values import is_storable_number
from transferpipe.weights.network import Network, Node, NodeOutput

# What a layer holds is a node of its own; what a model says of its graph is in `Node.inputs`.
_HELD = frozenset(
    ["layers", "input_layers", "output_layers", "layer", "cell", "cells", "forward_layer", "backward_layer"]
)
_MASKING = ATTENTIONS | {"Attention", "AdditiveAttention"}

Names = tuple[str | None, ...]


def keras_network(
    config: Any, held: Mapping[str, Any], keras_version: str | None = None, backend: str | None = None
) -> Network:
    """Return what a Keras configuration tells.

    Nested models are flattened: their layers are connected directly with those around them. A layer inside a wrapper
    follows the wrapper, without inputs, and so do the layers of a model inside one.

    Args:
        config: the serialised model; anything else gives a network without layers.
        held: the serialised layers by their readable names, as far as their readers know them; it gives the names of
            those that wrappers hold.
        keras_version: the version of Keras that wrote the configuration.
        backend: its backend.
    """
    root = as_layer(config)
    version = keras_version or _text(root, "keras_version")
    backend = backend or _text(root, "backend")
    if root is None:
        return Network((), keras_version=version, backend=backend)
    walk = _ConfigWalk(_by_holder(held))
    outputs: Names = ()
    if is_model(root):
        outputs = walk.model(root, "", (), 0)
        ends = root["config"].get("output_layers")
        walk.takes_parts |= isinstance(ends, Mapping) or any(reference.output for reference in references(ends))
    else:
        walk.connected = False
        walk.parts(walk.held.get("", ()), 0)
    nodes = _in_order(walk.nodes) if walk.connected else None
    found = nodes if nodes is not None else tuple(walk.nodes)
    told = tuple(name for name in outputs if name is not None)
    network = Network(found, keras_version=version, backend=backend, connected=nodes is not None, outputs=told)
    return _with_calls(network, root, walk.takes_parts) if network.connected else network


def _with_calls(network: Network, root: Config, takes_parts: bool) -> Network:
    """Return `network` with the order of its inputs and outputs, and what every call takes where there are several."""
    given = root["config"].get("input_layers")
    listed = [given[key] for key in sorted(given)] if isinstance(given, Mapping) else given
    inputs = tuple(reference.layer for reference in references(listed))
    several = takes_parts or any(node.calls > 1 or node.layer_class in ATTENTIONS for node in network.nodes)
    taken, results = arguments_of_calls(root) if several else ({}, tuple(NodeOutput(name) for name in network.outputs))
    return replace(network, inputs=inputs, results=results, arguments=taken)


def node_of(layer: Config, name: str, inputs: Names = ()) -> Node:
    """Return the node of a serialised layer."""
    settings = {key: value for key, value in layer["config"].items() if key not in _HELD}
    calls = first_call(layer)
    if set(settings) <= {"name"} or "function" in settings:  # an operation such as `x + 1`, which has no settings
        settings["arguments"] = _constants(calls, 0)
    elif re.match(r"keras\.(src\.)?ops\b", str(layer.get("module"))):
        settings["operation"] = layer["class_name"]
        if _holds_number(given := _constants(calls, 0), 0):  # beside its settings, such as what `ops.pad` fills with
            settings["arguments"] = given
    if calls and class_of(layer) in _MASKING:
        settings["use_causal_mask"] = _is_switched_on("use_causal_mask", calls, 0)
    known = tuple(i for i in inputs if i is not None)
    shapes = _input_shapes(layer, calls)
    told = shapes if len(shapes) == len(known) or not known else ()
    return Node(name, class_of(layer), settings, known, told, _calls(layer))


def _is_switched_on(key: str, call: Any, depth: int) -> bool:
    """Tell whether a layer is called with this argument and a true value."""
    if depth > DEEPEST:
        return False
    if isinstance(call, Mapping):
        return call.get(key) is True or any(_is_switched_on(key, v, depth + 1) for v in call.values())
    return isinstance(call, list) and any(_is_switched_on(key, v, depth + 1) for v in call)


def _calls(layer: Config) -> int:
    nodes = layer.get("inbound_nodes")
    return max(1, len(nodes)) if isinstance(nodes, list) else 1


def _text(layer: Config | None, key: str) -> str | None:
    value = layer.get(key) if layer else None
    return value if isinstance(value, str) else None


def _by_holder(held: Mapping[str, Any]) -> dict[str, list[tuple[str, Config]]]:
    """Return the serialised layers by the nearest layer above them."""
    found: dict[str, list[tuple[str, Config]]] = {}
    for name, config in held.items():
        layer = as_layer(config)
        if not name or layer is None:
            continue
        above = name.rpartition("/")[0]
        while above and above not in held:
            above = above.rpartition("/")[0]
        found.setdefault(above, []).append((name, layer))
    return found


@dataclass
class _ConfigWalk:
    """One walk through a configuration.

    Attributes:
        held: the layers by their nearest holder.
        nodes: what was found.
        connected: whether all models on the way say what feeds what.
        takes_parts: whether a layer takes another output of a layer than the first.
    """

    held: Mapping[str, Sequence[tuple[str, Config]]]
    nodes: list[Node] = field(default_factory=list)
    connected: bool = True
    takes_parts: bool = False

    def model(self, model: Config, prefix: str, inputs: Names, depth: int) -> Names:
        """Walk a model into which the outputs of the nodes `inputs` go, and return the nodes whose outputs it gives."""
        listed = [layer for c in model["config"]["layers"] if (layer := as_layer(c))]
        if depth > DEEPEST:
            self.connected = False
            return ()
        if "output_layers" in model["config"] and class_of(model) != "Sequential":
            return self._graph(model["config"], listed, prefix, inputs, depth)
        if class_of(model) != "Sequential":
            self.connected = False
        for layer in listed:
            inputs = self._layer(layer, prefix, inputs, depth)
        return inputs

    def _graph(self, config: Config, listed: Sequence[Config], prefix: str, inputs: Names, depth: int) -> Names:
        outer = dict(zip((r.layer for r in references(config.get("input_layers"))), inputs, strict=False))
        outputs: dict[str, Names] = {}
        for layer in _callable_order(listed):
            name = layer_name(layer) or ""
            if name in outer:
                outputs[name] = (outer[name],)
                continue
            given = list(references(first_call(layer)))
            self.takes_parts = self.takes_parts or any(reference.output for reference in given)
            taken = [_output(outputs, reference) for reference in given]
            # A call on something that is not there: then none of the connections is to be believed.
            self.connected = self.connected and None not in taken
            outputs[name] = self._layer(layer, prefix, tuple(taken), depth)
            # Keras 1 and 2 note a name beside the configuration as well, and calls go by that one.
            if isinstance(other := layer.get("name"), str):
                outputs.setdefault(other, outputs[name])
        return tuple(_output(outputs, r) for r in references(config.get("output_layers")))

    def _layer(self, layer: Config, prefix: str, inputs: Names, depth: int) -> Names:
        own = layer_name(layer) or _text(layer, "name") or ""
        name = f"{prefix}/{own}" if prefix else own
        if is_model(layer):
            start, calls = len(self.nodes), _calls(layer)
            outputs = self.model(layer, name, inputs, depth + 1)
            # A nested model's layers are called as often as it is.
            if calls > 1:
                self.nodes[start:] = [replace(n, calls=n.calls * calls) for n in self.nodes[start:]]
            return outputs
        if class_of(layer) == "InputLayer" and inputs:  # a nested Sequential lists its own
            return inputs
        self.nodes.append(node_of(layer, name, inputs))
        if not makes_parts(class_of(layer)):
            start = len(self.nodes)
            self.parts(self.held.get(name) or _find_wrapped(layer, name), depth + 1)
            if class_of(layer) == "Bidirectional":
                self.nodes[start:] = _list_directions(self.nodes[start:], layer, name)
        return (name,)

    def parts(self, held: Iterable[tuple[str, Config]], depth: int) -> None:
        """Add the layers that one layer holds: none of them is connected with the others."""
        for name, layer in held if depth <= DEEPEST else ():
            if is_model(layer):
                told = self.connected
                self.model(layer, name, (), depth + 1)
                self.connected = told
                continue
            if set(layer["config"]) - {"name"}:  # what a composite layer makes itself has no configuration
                self.nodes.append(node_of(layer, name))
            if not makes_parts(class_of(layer)):
                self.parts(self.held.get(name, ()), depth + 1)


def _list_directions(nodes: list[Node], wrapper: Config, name: str) -> list[Node]:
    """Return the layers of a Bidirectional with the directions in which they run.

    Keras builds the backward layer of the forward one's configuration unless it is given one of its own, and demands
    that they run in different directions. A file may tell of both with the configuration of one.
    """
    forward = wrapper["config"].get("layer")
    told = wrapper["config"].get("backward_layer")
    if not is_layer_config(forward):
        return nodes
    runs_back = bool(forward["config"].get("go_backwards", False))
    backward_runs_back = bool(told["config"].get("go_backwards", False)) if is_layer_config(told) else not runs_back
    # Layers that the user named have these names in files of Keras 2.
    directions = {
        layer_name(told) if is_layer_config(told) else None: backward_runs_back,
        layer_name(forward): runs_back,
    }
    directions |= {"forward_layer": runs_back, "backward_layer": backward_runs_back}
    found = []
    for node in nodes:
        own = node.name[len(name) + 1 :]
        prefix = re.match(r"(forward|backward)(?![^/]*/)", own)
        direction = directions.get(f"{prefix[1]}_layer" if prefix else own)
        if direction is not None:
            # `Bidirectional.__init__` sets both, whatever the configuration of the layer says.
            forced = {
                "go_backwards": direction,
                "zero_output_for_mask": node.settings.get("return_sequences", False),
            }
            node = replace(node, settings={**node.settings, **forced})
        found.append(node)
    return found


def _find_wrapped(layer: Config, name: str) -> list[tuple[str, Config]]:
    """Return what a wrapper of unknown content holds, by the attributes that Keras has for it."""
    both = class_of(layer) == "Bidirectional"
    names = {"layer": ("forward_layer", "backward_layer") if both else ("layer",), "cell": ("cell",)}
    inner = {key: as_layer(layer["config"].get(key)) for key in names}
    return [(f"{name}/{attribute}", found) for key, found in inner.items() if found for attribute in names[key]]


def _output(outputs: Mapping[str, Names], reference: TensorReference) -> str | None:
    found = outputs.get(reference.layer, ())
    if len(found) == 1:  # several outputs of one layer
        return found[0]
    return found[reference.output] if 0 <= reference.output < len(found) else None


def _callable_order(layers: Sequence[Config]) -> list[Config]:
    """Return layers so that each stands behind those that its first call takes from, where a file has them otherwise.

    What goes round in a circle comes last.
    """
    places = {layer_name(layer): i for i, layer in enumerate(layers)}
    before = [[p for r in references(first_call(layer)) if (p := places.get(r.layer)) is not None] for layer in layers]
    if all(p < i for i, needed in enumerate(before) for p in needed):
        return list(layers)
    after: dict[int, list[int]] = {}
    for i, needed in enumerate(before):
        for p in needed:
            after.setdefault(p, []).append(i)
    missing = [len(needed) for needed in before]
    ready = [i for i, n in enumerate(missing) if not n]
    order: dict[int, None] = {}
    while ready:
        # The first that is free, not the last: where calls leave it open the order of the file stays, by which weights
        # without names are matched.
        here = heapq.heappop(ready)
        order[here] = None
        for i in after.get(here, ()):
            missing[i] -= 1
            if not missing[i]:
                heapq.heappush(ready, i)
    return [layers[i] for i in (*order, *(i for i in range(len(layers)) if i not in order))]


def _in_order(nodes: Sequence[Node]) -> tuple[Node, ...] | None:
    """Return the nodes, each behind its inputs; None if that cannot be, because the configuration makes no sense."""
    seen: set[str] = set()
    for node in nodes:
        if not seen.issuperset(node.inputs):
            return None
        seen.add(node.name)
    return tuple(nodes)


def _constants(data: Any, depth: int) -> Any:
    """Return the arguments of an operation with None in the place of every tensor."""
    if depth > DEEPEST:
        return None
    if isinstance(data, Mapping):
        return None if is_tensor(data) else {k: _constants(v, depth + 1) for k, v in data.items()}
    if is_reference(data):
        first = data[2] if data[0] == CONSTANT else None
        return [first, *(_constants(v, depth + 1) for v in data[3:])]
    return [_constants(v, depth + 1) for v in data] if isinstance(data, list) else data


def _holds_number(data: Any, depth: int) -> bool:
    """Tell whether the arguments of an operation hold any but its tensors."""
    if isinstance(data, Mapping | list) and depth <= DEEPEST:
        return any(_holds_number(v, depth + 1) for v in (data.values() if isinstance(data, Mapping) else data))
    return is_storable_number(data)


def _input_shapes(layer: Config, call: Any) -> tuple[tuple[int | None, ...], ...]:
    found = [_shape(tensor.get("shape")) for tensor in _tensors(call, 0)]
    if not found:
        built = layer.get("build_config")
        config = layer["config"]
        first = built.get("input_shape") if isinstance(built, Mapping) else config.get("batch_input_shape")
        found = [_shape(first)] if isinstance(first, list) else []
    return tuple(s for s in found if s is not None) if None not in found else ()


def _tensors(data: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if isinstance(data, Mapping) and is_tensor(data):
        yield data["config"]
    elif isinstance(data, Mapping | list) and depth <= DEEPEST:
        for value in data.values() if isinstance(data, Mapping) else data:
            yield from _tensors(value, depth + 1)


def _shape(data: Any) -> tuple[int | None, ...] | None:
    if not isinstance(data, list) or not all(n is None or type(n) is int for n in data):
        return None
    return tuple(data)


def with_layers(network: Network, layers: Iterable[Node]) -> Network:
    """Return `network` with further layers behind its own, such as those that a model's own classes hold."""
    further = [node for node in layers if node.name not in network.by_name]
    return replace(network, nodes=(*network.nodes, *further)) if further else network
