"""What goes into paired layers, computed with numbers drawn for the purpose, where both sides write it in other ways.

``ops.reshape(ops.stack([a, b], axis=-1), (-1, 8))`` has the layers that ``Concatenate()([a, b])`` has, and mixes their
values; ``0.5 * a + 0.5 * b`` has other layers than ``Average()([a, b])``, and is the same. No list of such ways is ever
complete, and what stands between two layers with weights is small: it is computed, in NumPy, of random values in the
place of what these layers give. No weight is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from transferpipe.planning.lint.arrangement import Arrangement
from transferpipe.weights.keras.layer_settings import NEUTRAL, plain_settings
from transferpipe.weights.keras.numpy_operations import Array, UnknownComputationError, apply_activation, compute_node
from transferpipe.weights.keras.operation_settings import ARGUMENTS
from transferpipe.weights.keras.setting_values import LINEAR
from transferpipe.weights.network import Network, Node, NodeOutput
from transferpipe.weights.translations import layer_function

# How many numbers are drawn for one value, and how many one value may have.
_DRAWN, _MOST_NUMBERS = 1 << 12, 1 << 18
_MOST_NODES, _DEEPEST = 100, 60
_FEW_SAMPLES = 3
_OPEN_SIZE = 5  # in the place of an open size; any number that is not common is as good
# Small numbers show what large ones drown, and large ones where something is cut off.
_SCALES = (1.0, 8.0, 300.0)
# As the settings of layers are compared: numbers may have gone through float32.
_TOLERANCE = 1e-5
_LONGEST = 160


@dataclass
class _ComputedSide:
    """One side: its graph, the target's names of its layers that are paired, and what its inputs are called."""

    graph: Arrangement
    names: Mapping[str, str]
    inputs: Mapping[str, str]

    def into(self, name: str) -> list[NodeOutput]:
        """Return what goes into a layer that is called once.

        Raises:
            UnknownComputationError: it is called more often, or not all that goes in is known.
        """
        node = self.graph.network.by_name[name]
        calls = self.graph.network.taken_by(name)
        if node.calls != 1 or len(calls) != 1 or not calls[0] or len(node.input_shapes) != len(calls[0]):
            raise UnknownComputationError
        return list(calls[0])

    def leaf(self, origin: NodeOutput) -> str:
        """Return what both sides call a value that is not computed here; empty for one that is."""
        node = self.graph.network.by_name.get(origin.node)
        if node is None:
            raise UnknownComputationError
        if node.layer_class == "InputLayer":
            found = self.inputs.get(node.name, "" if self.inputs else "the input")
        elif self.graph.has_weights(node.name):
            if node.calls != 1:
                raise UnknownComputationError
            found = self.names.get(node.name, "")
        elif node.inputs:
            return ""
        else:  # the first layer of a model without an input of its own
            found = ""
        if not found:
            raise UnknownComputationError
        return f"{found} {origin.output}"

    def takes(self, name: str) -> Callable[[Node], list[NodeOutput]]:
        """Return what says what goes into a paired layer, and into the nodes between layers."""
        return lambda node: self.into(name) if node.name == name else self.taken(node)

    def taken(self, node: Node) -> list[NodeOutput]:
        """Return what goes into a node between layers."""
        calls = self.graph.network.taken_by(node.name)
        if len(calls) != 1 or len(calls[0]) != len(node.inputs):
            raise UnknownComputationError
        return list(calls[0])


@dataclass
class ComputedInputs:
    """What goes into paired layers on both sides.

    Attributes:
        source: the source's graph.
        target: the target's.
        partners: the target's layer of each of the source's, where both belong to each other alone.
        inputs: what each input of the source, and each of the target, is called; empty where a model has one.
    """

    source: Arrangement
    target: Arrangement
    partners: Mapping[str, str]
    inputs: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
    _sides: tuple[_ComputedSide, _ComputedSide] = field(init=False)
    _verdicts: dict[tuple[str, str], bool | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ours = {name: name for name in self.partners.values()}
        self._sides = (
            _ComputedSide(self.source, self.partners, self.inputs[0]),
            _ComputedSide(self.target, ours, self.inputs[1]),
        )

    def are_alike(self, one: str, two: str) -> bool | None:
        """Tell whether the same is computed of the same values before two layers; None where that is not known.

        It is not known either, and of no interest, where both sides write it in the same way.
        """
        key = one, two
        if key not in self._verdicts:
            try:
                self._verdicts[key] = self._compare(one, two)
            except UnknownComputationError:
                self._verdicts[key] = None
        return self._verdicts[key]

    def is_same_output(self, place: int) -> bool | None:
        """Tell the same of an output of both models that layers without weights, or operations, compute."""
        try:
            ends = [side.graph.network.results[place] for side in self._sides]
            if any(side.leaf(end) for side, end in zip(self._sides, ends, strict=True)):
                return None
            shapes = [dict(_leaves(s, end.node, s.taken)) for s, end in zip(self._sides, ends, strict=True)]
            return self._judge([[end] for end in ends], shapes)
        except UnknownComputationError:
            return None

    def output_words(self, place: int) -> tuple[tuple[str, str], set[str]]:
        """Return how both sides compute an output, and the target's names of the layers that it is computed of."""
        ends = [side.graph.network.results[place] for side in self._sides]
        theirs, ours = (_word(side, end, 0)[:_LONGEST] for side, end in zip(self._sides, ends, strict=True))
        leaves = [leaf for s, end in zip(self._sides, ends, strict=True) for leaf, _ in _leaves(s, end.node, s.taken)]
        return (theirs, ours), {leaf.rpartition(" ")[0] for leaf in leaves}

    def layers_before(self, one: str, two: str) -> set[str]:
        """Return the target's names of the layers that what goes into two layers is computed of."""
        leaves = [leaf for s, n in zip(self._sides, (one, two), strict=True) for leaf, _ in _leaves(s, n, s.takes(n))]
        return {leaf.rpartition(" ")[0] for leaf in leaves}

    def words(self, one: str, two: str) -> tuple[str, str]:
        """Return how what goes into two layers is computed."""
        theirs, ours = (
            ", ".join(_word(side, origin, 0) for origin in side.into(name))[:_LONGEST]
            for side, name in zip(self._sides, (one, two), strict=True)
        )
        return theirs, ours

    def _compare(self, one: str, two: str) -> bool | None:
        sides = list(zip(self._sides, (one, two), strict=True))
        into = [side.into(name) for side, name in sides]
        return self._judge(into, [dict(_leaves(side, name, side.takes(name))) for side, name in sides])

    def _judge(self, into: list[list[NodeOutput]], shapes: list[dict[str, tuple[int | None, ...]]]) -> bool | None:
        if not all(side.graph.network.has_layers for side in self._sides) or len(into[0]) != len(into[1]):
            return None
        written = [_write_values(side, origins) for side, origins in zip(self._sides, into, strict=True)]
        return self._agree(into, shapes[0]) if shapes[0] == shapes[1] and written[0] != written[1] else None

    def _agree(self, into: list[list[NodeOutput]], shapes: Mapping[str, tuple[int | None, ...]]) -> bool | None:
        sizes = {leaf: tuple(n or _OPEN_SIZE for n in shape[1:]) for leaf, shape in shapes.items()}
        if not sizes or min(n for size in sizes.values() for n in (1, *size)) < 1:
            return None
        most = max(math.prod(size) for size in sizes.values())
        samples = max(_FEW_SAMPLES, _DRAWN // max(most, 1))
        if samples * most > _MOST_NUMBERS:
            return None
        compared = 0
        known: tuple[dict[NodeOutput, Array], dict[NodeOutput, Array]]
        for scale in _SCALES:
            known = {}, {}
            drawn = {leaf: _draw(leaf, (samples, *size), scale) for leaf, size in sizes.items()}
            theirs, ours = (
                [_value(side, origin, drawn, values, 0) for origin in found]
                for side, found, values in zip(self._sides, into, known, strict=True)
            )
            for a, b in zip(theirs, ours, strict=True):
                if a.shape != b.shape or len(a) != samples:
                    return None
                a, b = a.astype("float64"), b.astype("float64")
                if not (np.isfinite(a).all() and np.isfinite(b).all()):
                    continue
                compared += 1
                if not np.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * float(abs(a).mean())):
                    return False
        # The smallest numbers at least have to be good for something.
        return True if compared >= len(into[0]) else None


def _draw(leaf: str, shape: tuple[int, ...], scale: float) -> Array:
    return np.random.default_rng(crc32(leaf.encode())).normal(scale=scale, size=shape)


def _leaves(
    side: _ComputedSide, name: str, takes: Callable[[Node], list[NodeOutput]]
) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    """Yield the values that are not computed which what goes into a layer is computed of, and their shapes."""
    waiting, seen = [side.graph.network.by_name[name]], {name}
    found: dict[str, tuple[int | None, ...]] = {}
    while waiting:
        node = waiting.pop()
        origins = takes(node)
        if len(node.input_shapes) != len(origins) or len(seen) > _MOST_NODES:
            raise UnknownComputationError
        for origin, shape in zip(origins, node.input_shapes, strict=True):
            if leaf := side.leaf(origin):
                if found.setdefault(leaf, shape) != shape:
                    raise UnknownComputationError
            elif origin.node not in seen:
                seen.add(origin.node)
                waiting.append(side.graph.network.by_name[origin.node])
    yield from found.items()


def _value(
    side: _ComputedSide, origin: NodeOutput, drawn: Mapping[str, Array], known: dict[NodeOutput, Array], depth: int
) -> Array:
    """Return a value as it is computed of the drawn ones; `known` are those that were."""
    if depth > _DEEPEST:
        raise UnknownComputationError
    if origin in known:
        return known[origin]
    node = side.graph.network.by_name[origin.node]
    if leaf := side.leaf(origin):
        found = drawn[leaf]
        for step in side.graph.after(node.name, origin.output) if side.graph.has_weights(node.name) else ():
            # Whether a recurrent layer gives all its outputs shows in the shape.
            if step.function.activation != LINEAR or not step.function.known:
                found = apply_activation(step.function.activation, found)
    else:
        values = [_value(side, taken, drawn, known, depth + 1) for taken in side.taken(node)]
        outputs = compute_node(node, layer_function(node, side.graph.network), values)
        if not 0 <= origin.output < len(outputs) or outputs[origin.output].size > 4 * _MOST_NUMBERS:
            raise UnknownComputationError
        found = outputs[origin.output]
    known[origin] = found
    return found


def _write_values(side: _ComputedSide, origins: list[NodeOutput]) -> Any:
    """Return how values are computed, as text: equal where both sides write it alike."""
    numbers: dict[NodeOutput, int] = {}
    lines: list[str] = []

    def number(origin: NodeOutput, depth: int) -> int:
        if depth > _DEEPEST:
            raise UnknownComputationError
        if origin not in numbers:
            lines.append(line(origin, depth))
            numbers[origin] = len(numbers)
        return numbers[origin]

    def line(origin: NodeOutput, depth: int) -> str:
        node = side.graph.network.by_name[origin.node]
        if leaf := side.leaf(origin):
            steps = side.graph.after(node.name, origin.output) if side.graph.has_weights(node.name) else ()
            return f"{leaf} {[step.function for step in steps]}"
        inputs = [number(taken, depth + 1) for taken in side.taken(node)]
        function = layer_function(node, side.graph.network)
        settings = function if function.known else plain_settings(node.settings)
        return f"{node.layer_class} {settings} {node.settings.get(ARGUMENTS)} {inputs} {origin.output}"

    found = [number(origin, 0) for origin in origins]
    return lines, found


def _word(side: _ComputedSide, origin: NodeOutput, depth: int) -> str:
    """Return how a value is computed in words."""
    if leaf := side.leaf(origin):
        name, _, output = leaf.rpartition(" ")
        return name if output == "0" else f"output {output} of {name}"
    node = side.graph.network.by_name[origin.node]
    inner = ", ".join(_word(side, taken, depth + 1) for taken in side.taken(node)) if depth < 8 else "..."
    if layer_function(node, side.graph.network).kind == NEUTRAL:
        return inner
    settings = {k: v for k, v in plain_settings(node.settings).items() if k != "operation" and v not in (False, ())}
    told = ", ".join(f"{key} {value}" for key, value in settings.items())
    part = f"output {origin.output} of " if origin.output else ""
    return f"{part}{node.layer_class}{f' ({told})' if told else ''} of ({inner})"


def inputs_called(source: Network, target: Network) -> tuple[dict[str, str], dict[str, str]]:
    """Return what the inputs of both models are called, where both have several.

    By name where all names agree, else by place, where every input has the shape of the one at its place.
    """
    theirs, ours = source.inputs, target.inputs
    if len(theirs) != len(ours) or len(ours) < 2:
        return {}, {}
    if set(theirs) == set(ours):
        partners = theirs
    elif all(shape_of_input(source, a) == shape_of_input(target, b) for a, b in zip(theirs, ours, strict=True)):
        partners = ours
    else:
        return {}, {}
    return dict(zip(theirs, partners, strict=True)), {name: name for name in ours}


def shape_of_input(network: Network, name: str) -> str:
    """Return the shape of an input as text, without its samples."""
    node = network.by_name.get(name)
    settings = node.settings if node is not None else {}
    shape = settings.get("batch_shape") or settings.get("batch_input_shape")
    return str(tuple(shape[1:])) if isinstance(shape, list | tuple) else ""
