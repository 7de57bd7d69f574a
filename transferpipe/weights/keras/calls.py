"""What goes into each call of every layer of a configuration, where layers are called more than once.

A nested model is called as a whole: its layers are called once more for each call of it, with what that call takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.weights.keras.config import Config, as_layer, class_of, is_model, layer_name
from transferpipe.weights.keras.references import DEEPEST, TensorReference, arguments, calls_of, is_tensor, references
from transferpipe.weights.network import NodeOutput

ATTENTIONS = frozenset(["MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention"])
"""Classes that take a query, a value, and a key that is the value unless it is given."""
# A model of a model of models may double with each step, and a file may say anything.
_MOST_CALLS = 100_000

Origins = tuple[NodeOutput | None, ...]


def arguments_of_calls(root: Config) -> tuple[dict[str, tuple[tuple[NodeOutput, ...], ...]], tuple[NodeOutput, ...]]:
    """Return what every call of every layer takes, by the layers' readable names, and where the outputs come from.

    Both are empty where the configuration makes no sense.
    """
    flow = _Flow()
    try:
        results = flow.model(root, "", (), 0)
    except _TooManyError:
        return {}, ()
    known: dict[str, tuple[tuple[NodeOutput, ...], ...]] = {}
    for name, calls in flow.arguments.items():
        whole = [tuple(o for o in call if o is not None) for call in calls]
        if any(len(a) != len(b) for a, b in zip(whole, calls, strict=True)):
            return {}, ()
        known[name] = tuple(whole)
    told = tuple(o for o in results if o is not None)
    return known, told if len(told) == len(results) else ()


class _TooManyError(Exception):
    """There are more calls, or models inside models, than any real network has."""


@dataclass
class _Flow:
    """One walk; `arguments` has what each call of a layer takes, None for what is not there."""

    arguments: dict[str, list[Origins]] = field(default_factory=dict)
    count: int = 0

    def model(self, model: Config, prefix: str, given: Origins, depth: int) -> Origins:
        """Follow one call of a model with the inputs `given`, and return where its outputs come from."""
        if depth > DEEPEST:
            raise _TooManyError
        listed = [layer for c in model["config"]["layers"] if (layer := as_layer(c))]
        if "output_layers" in model["config"] and class_of(model) != "Sequential":
            return _ModelCall(self, model["config"], listed, prefix, given, depth).results()
        for layer in listed:
            name = _join(prefix, layer)
            if is_model(layer):
                given = self.model(layer, name, given, depth + 1)
            elif not (class_of(layer) == "InputLayer" and given):  # the Sequential is called by what stands before it
                given = (NodeOutput(name, self.call(name, given)),)
        return given

    def call(self, name: str, taken: Origins) -> int:
        """Note one call of a layer, and return its number."""
        self.count += 1
        if self.count > _MOST_CALLS:
            raise _TooManyError
        calls = self.arguments.setdefault(name, [])
        calls.append(taken)
        return len(calls) - 1


@dataclass
class _ModelCall:
    """One call of a model that is a graph; its layers are found by the names that they have in it."""

    flow: _Flow
    config: Config
    listed: Sequence[Config]
    prefix: str
    given: Origins
    depth: int
    layers: dict[str, Config] = field(init=False)
    inputs: dict[str, NodeOutput | None] = field(init=False)
    # The number of the first call of each layer that this call of the model makes.
    first: dict[str, int] = field(default_factory=dict)
    nested: dict[tuple[str, int], Origins] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = {}
        for layer in self.listed:
            for name in (layer_name(layer), layer.get("name")):
                if isinstance(name, str):
                    self.layers.setdefault(name, layer)
        told = [reference.layer for reference in references(self.config.get("input_layers"))]
        self.inputs = dict(zip(told, self.given, strict=False))

    def results(self) -> Origins:
        """Note the calls of all layers, and return where the outputs come from."""
        own = [layer for layer in self.listed if not is_model(layer) and layer_name(layer) not in self.inputs]
        for layer in own:  # first all, so that each is known by its number before anything refers to it
            name = _join(self.prefix, layer)
            for _ in calls_of(layer) or [None]:
                self.first.setdefault(name, self.flow.call(name, ()))
        for layer in own:
            name, attends = _join(self.prefix, layer), class_of(layer) in ATTENTIONS
            for i, call in enumerate(calls_of(layer)):
                taken = tuple(self._origin(reference) for reference in arguments(call, attends=attends))
                self.flow.arguments[name][self.first[name] + i] = taken
        return tuple(self._origin(r, is_output=True) for r in _in_order_of_keys(self.config.get("output_layers")))

    def _origin(self, reference: TensorReference, is_output: bool = False) -> NodeOutput | None:
        if reference.layer in self.inputs:
            return self.inputs[reference.layer]
        layer = self.layers.get(reference.layer)
        if layer is None:
            return None
        name, calls = _join(self.prefix, layer), calls_of(layer)
        if not is_model(layer):
            return NodeOutput(name, self.first[name] + reference.call, reference.output)
        # The graph that a model is counts as its first call where Keras 2 refers to one, and in the outputs of Keras 3.
        counts = (class_of(layer) != "Sequential" and is_output) or not _by_tensors(calls)
        number = reference.call - 1 if counts and reference.call else reference.call
        if not 0 <= number < len(calls):
            return None
        outputs = self._nest(layer, name, number, calls[number])
        return outputs[reference.output] if 0 <= reference.output < len(outputs) else None

    def _nest(self, layer: Config, name: str, number: int, call: Any) -> Origins:
        key = (name, number)
        if key not in self.nested:
            self.nested[key] = ()  # for a model that takes what it gives
            taken = tuple(self._origin(reference) for reference in arguments(call, attends=False))
            self.nested[key] = self.flow.model(layer, name, taken, self.depth + 1)
        return self.nested[key]


def _by_tensors(data: Any, depth: int = 0) -> bool:
    """Tell whether calls are written as Keras 3 does it."""
    if isinstance(data, Mapping):
        return is_tensor(data) or any(_by_tensors(v, depth + 1) for v in data.values() if depth < DEEPEST)
    return isinstance(data, list) and depth < DEEPEST and any(_by_tensors(v, depth + 1) for v in data)


def _in_order_of_keys(outputs: Any) -> list[TensorReference]:
    """Return the references to a model's outputs; those of a dict in the order of its keys, as Keras flattens it."""
    if isinstance(outputs, Mapping):
        return [reference for key in sorted(outputs) for reference in references(outputs[key])]
    return list(references(outputs))


def _join(prefix: str, layer: Config) -> str:
    own = layer_name(layer) or ""
    return f"{prefix}/{own}" if prefix else own
