"""What calls what in one model of a Keras 3 configuration, and the order in which Keras lists its layers.

A `.keras` file numbers the layers of a class as the model lists them, and a Functional model lists them by depth. So
whoever adds layers to a configuration must know the order in which Keras will list them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from transferpipe.weights.keras.config import Config, is_layer_config, layer_class, layer_name

# As deep as the reader of networks goes (`weights.keras.network`).
_DEEPEST = 50
_TENSOR = "__keras_tensor__"
_INPUT = ""  # what goes into a Sequential that lists no InputLayer


class RepeatError(Exception):
    """The layers of a model cannot follow one another otherwise; the text says which, and why."""


class Tensor(NamedTuple):
    """An output of a layer: of which of its calls, and which of them. The only call of a layer is its first here."""

    layer: str
    call: int
    output: int


Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class ModelGraph:
    """The layers of a model and what they take.

    Attributes:
        layers: the serialised layers by their names, as they are listed.
        calls: for each call of each layer, the tensors that it takes.
        inputs: what goes into the model; of a Sequential that is not said.
        outputs: what comes out of it.
        shapes: the shapes of tensors, as far as they are recorded.
        numbers: by which numbers the calls of layers that are called once go where others take their outputs.
    """

    layers: Mapping[str, Config]
    calls: Mapping[str, Sequence[Sequence[Tensor]]]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    shapes: Mapping[Tensor, Shape] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)

    def taken(self, name: str) -> Iterator[Tensor]:
        """Yield what a layer takes, in all its calls."""
        for call in self.calls.get(name, ()):
            yield from call

    @cached_property
    def takers(self) -> Mapping[str, tuple[str, ...]]:
        """The layers that take outputs of each layer, once each."""
        found: dict[str, dict[str, None]] = {name: {} for name in self.layers}
        for name in self.layers:
            for tensor in self.taken(name):
                found.setdefault(tensor.layer, {})[name] = None
        return {name: tuple(names) for name, names in found.items()}

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each layer in the list, and of what goes into a Sequential."""
        return {_INPUT: -1, **{name: place for place, name in enumerate(self.layers)}}

    def before(self, names: Collection[str]) -> set[str]:
        """Return these layers and all that they depend on."""
        return _find_reached(names, lambda name: (tensor.layer for tensor in self.taken(name)))

    def behind(self, names: Collection[str]) -> set[str]:
        """Return these layers and all that depend on them."""
        return _find_reached(names, lambda name: self.takers.get(name, ()))


def _find_reached(names: Collection[str], following: Any) -> set[str]:
    reached, waiting = set(names), list(names)
    while waiting:
        for name in following(waiting.pop()):
            if name not in reached:
                reached.add(name)
                waiting.append(name)
    return reached


def read_graph(model: Config) -> ModelGraph:
    """Return the graph of a serialised Sequential or Functional model.

    Raises:
        RepeatError: the configuration makes no sense.
    """
    config = model["config"]
    layers: dict[str, Config] = {}
    for layer in config["layers"]:
        name = (layer.get("name") or layer_name(layer)) if is_layer_config(layer) else None
        if not isinstance(name, str) or name in layers:
            raise RepeatError("its configuration lists a layer without a name, or two of one name")
        layers[name] = layer
    if "output_layers" in config:
        return _read_functional(model, layers)
    # A Sequential is a chain, and says no calls.
    names = list(layers)
    calls, shapes = {}, {}
    for before, name in zip([_INPUT, *names], names, strict=False):
        is_input = before == _INPUT and layer_class(layers[name]) == "InputLayer"
        calls[name] = [] if is_input else [[Tensor(before, 0, 0)]]
        # Its tensors are not written down; the shape that each layer was built with is.
        built = layers[name].get("build_config")
        shape = built.get("input_shape") if isinstance(built, Mapping) else None
        if isinstance(shape, list) and all(n is None or type(n) is int for n in shape):
            shapes[Tensor(before, 0, 0)] = tuple(shape)
    last = (Tensor(names[-1], 0, 0),) if names else ()
    return ModelGraph(layers, calls, (), last, shapes)


def _read_functional(model: Config, layers: Mapping[str, Config]) -> ModelGraph:
    config = model["config"]
    calls: dict[str, list[list[Tensor]]] = {}
    shapes: dict[Tensor, Shape] = {}
    numbers: dict[str, int] = {}
    # By one name for the only call: its number in the file also counts calls outside of this model.
    once = {name for name, layer in layers.items() if len(layer.get("inbound_nodes") or ()) < 2}
    for name, layer in layers.items():
        calls[name] = []
        for node in layer.get("inbound_nodes") or ():
            if not isinstance(node, Mapping):
                raise RepeatError(f"{name} is called as Keras 2 wrote it")
            calls[name].append([])
            for tensor in tensors_in([node.get("args"), node.get("kwargs")]):
                taken = history_of(tensor)
                if taken.layer in once:
                    numbers[taken.layer] = taken.call
                    taken = taken._replace(call=0)
                calls[name][-1].append(taken)
                shape = tensor["config"].get("shape")
                if isinstance(shape, list) and len(shape) > 1:  # [None] stands for one that is not known
                    shapes[taken] = tuple(shape)
    ends = []
    for key in ("input_layers", "output_layers"):
        found = [end if end.layer not in once else end._replace(call=0) for end in _ends(config.get(key))]
        # Where it ends, a model counts the building of a Functional model inside as its first call.
        ends.append(
            tuple(e._replace(call=e.call - 1) if e.call and is_graph(layers.get(e.layer)) else e for e in found)
        )
    used = {t.layer for taken in calls.values() for call in taken for t in call}
    if missing := sorted((used | {t.layer for t in (*ends[0], *ends[1])}) - layers.keys()):
        raise RepeatError(f"its configuration takes the output of {missing[0]!r}, which is not one of its layers")
    return ModelGraph(layers, calls, ends[0], ends[1], shapes, numbers)


def is_graph(layer: Any) -> bool:
    """Tell whether a serialised layer is a Functional model."""
    return is_layer_config(layer) and "output_layers" in layer["config"]


def history_of(tensor: Config) -> Tensor:
    """Return which output a serialised tensor is.

    Raises:
        RepeatError: it does not say it.
    """
    history = tensor["config"].get("keras_history")
    if not isinstance(history, list) or len(history) != 3 or not isinstance(history[0], str):
        raise RepeatError("its configuration has a tensor that does not say which layer it comes from")
    return Tensor(*history)


def tensors_in(data: Any, depth: int = 0) -> Iterator[Config]:
    """Yield the serialised tensors in the arguments of a call, in the order in which Keras flattens them."""
    if depth > _DEEPEST:
        raise RepeatError("the arguments of a call are nested too deeply")
    if isinstance(data, Mapping):
        if data.get("class_name") == _TENSOR and isinstance(data.get("config"), Mapping):
            yield data
            return
        for key in sorted(data, key=str):
            yield from tensors_in(data[key], depth + 1)
    elif isinstance(data, list):
        for item in data:
            yield from tensors_in(item, depth + 1)


def _ends(data: Any, depth: int = 0) -> Iterator[Tensor]:
    """Yield the inputs or outputs of a model, in the order in which Keras flattens them."""
    if isinstance(data, list) and len(data) == 3 and isinstance(data[0], str):
        yield Tensor(*data)
    elif isinstance(data, list | Mapping) and depth <= _DEEPEST:
        # As Keras's tree of nested arguments: mappings by their keys, in order.
        for item in [data[key] for key in sorted(data, key=str)] if isinstance(data, Mapping) else data:
            yield from _ends(item, depth + 1)


def keras_order(graph: ModelGraph) -> list[str]:
    """Return the names of a Functional model's layers in the order in which Keras lists them.

    By depth, which is how many calls lie between a layer and the outputs at most; of one depth as a search from the
    outputs comes to them. Source: `map_graph` of keras/src/ops/function.py, Keras 3.15.

    Raises:
        RepeatError: the graph goes round in a circle.
    """
    finished, met = _search(graph)
    depths: dict[tuple[str, int], int] = {}
    layer_depths: dict[str, int] = {}
    # From the outputs on, so that the depth of whatever takes a call is known before its own.
    for name, call in reversed(finished):
        # A layer that is called several times is listed by its deepest call.
        depth = max(depths.get((name, call), 0), layer_depths.get(name, 0))
        layer_depths[name] = depths[name, call] = depth
        for before in _calls_before(graph, name, call):
            depths[before] = max(depth + 1, depths.get(before, 0))
    for tensor in graph.inputs:  # inputs that nothing takes
        if tensor.layer not in layer_depths:
            layer_depths[tensor.layer], met[tensor.layer] = 0, -1
    return sorted(layer_depths, key=lambda name: (-layer_depths[name], met[name]))


def _search(graph: ModelGraph) -> tuple[list[tuple[str, int]], dict[str, int]]:
    """Return the calls, each behind what it takes, and when each layer is met first, from the outputs backwards."""
    finished: dict[tuple[str, int], None] = {}
    met: dict[str, int] = {}
    open_calls: set[tuple[str, int]] = set()
    for output in graph.outputs:
        # Without recursion, of which a network of a thousand layers would exceed Python's depth.
        waiting: list[tuple[tuple[str, int], bool]] = [(_call_of(graph, output), False)]
        while waiting:
            here, is_done = waiting.pop()
            if is_done:
                open_calls.discard(here)
                finished[here] = None
                continue
            if here in finished:
                continue
            if here in open_calls:
                raise RepeatError(f"{here[0]} takes its own output")
            met.setdefault(here[0], len(met))
            open_calls.add(here)
            waiting.append((here, True))
            waiting.extend((before, False) for before in reversed(_calls_before(graph, *here)))
    return list(finished), met


def _calls_before(graph: ModelGraph, name: str, call: int) -> list[tuple[str, int]]:
    calls = graph.calls[name]
    return [_call_of(graph, tensor) for tensor in calls[call]] if call < len(calls) else []


def _call_of(graph: ModelGraph, tensor: Tensor) -> tuple[str, int]:
    # Calls outside of this model, which the number counts too, are not in the list.
    return tensor.layer, min(tensor.call, max(len(graph.calls[tensor.layer]) - 1, 0))
