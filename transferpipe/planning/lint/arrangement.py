"""What stands between the layers of a network that have weights: activations, pooling, padding, merges.

The same function can be arranged in several ways: Dense(activation="relu") is Dense and then ReLU. So what stands
between two layers is read as a list of steps in one spelling, beginning with what the first layer does to its output.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from transferpipe.planning.lint.steps import GraphStep
from transferpipe.weights.keras.layer_settings import ACTIVATION, NEUTRAL, LayerFunction
from transferpipe.weights.keras.setting_values import LINEAR
from transferpipe.weights.keras.taken import is_of_parts, is_taking
from transferpipe.weights.name import WeightName
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spatial import spatial_sizes
from transferpipe.weights.spec import Catalog
from transferpipe.weights.translations import layer_function, output_function

# Layers between two others are few; only a graph that was made to cost time has more.
_MOST_STEPS = 200
# A third is not exact in float32.
_ONE = 1e-6
WRAPPERS = frozenset(["TimeDistributed", "SpectralNormalization", "Bidirectional"])
"""Layers whose weights are mostly those of a layer inside."""
ENDS_WITH_STATE = frozenset(["LSTM", "GRU", "SimpleRNN", "RNN"])
"""Recurrent layers whose first output is the state that they end with, unless they give all their outputs."""
_GLU = "glu"
OUTPUTS = "the outputs of a recurrent layer"
"""The kind of the step that says whether a recurrent layer gives all its outputs or the last one."""


@dataclass(frozen=True)
class Path:
    """The steps to a layer from the one before it.

    Attributes:
        end: where they begin: a layer with weights, a merge of several, or an input; None if that is not known.
        steps: the steps in the order in which they compute.
    """

    end: str | None
    steps: tuple[GraphStep, ...]


@dataclass(frozen=True)
class Arrangement:
    """The layers of one model or file as a graph whose nodes with weights are known.

    Attributes:
        catalog: the weights.
        network: the layers.
        tells_parts: whether paths say which part of a value it is that a node gives as one of its outputs.
    """

    catalog: Catalog
    network: Network
    tells_parts: bool = True
    _paths: dict[tuple[str, int], Path] = field(default_factory=dict, repr=False, compare=False)
    _functions: dict[str, LayerFunction] = field(default_factory=dict, repr=False, compare=False)

    def function(self, name: str) -> LayerFunction:
        """Return what the node called `name` computes."""
        if name not in self._functions:
            own = layer_function(self.network.by_name[name], self.network)
            found = self._of_mean(name, own) or self._of_gate(name, own) or self._of_each_step(name, own)
            found = found or own
            if not self.tells_parts and is_of_parts(found):
                found = dataclasses.replace(found, kind=self.network.by_name[name].layer_class, known=False)
            self._functions[name] = found
        return self._functions[name]

    def _of_each_step(self, name: str, own: LayerFunction) -> LayerFunction | None:
        """Return what a TimeDistributed without weights does to each step, by the layer that it holds."""
        if own.kind != "TimeDistributed" or self.has_weights(name):
            return None
        held = [node.name for node in self.network.nodes if node.name.startswith(f"{name}/")]
        # An activation may be a model of layers of its own, which are not what the wrapper holds.
        outer = [h for h in held if not any(h.startswith(f"{other}/") for other in held)]
        inner = self.function(outer[0]) if len(outer) == 1 else None
        if inner is None or inner.kind in (NEUTRAL, ACTIVATION):
            return inner
        return dataclasses.replace(inner, kind=f"{own.kind} {inner.kind}")

    def _of_gate(self, name: str, own: LayerFunction) -> LayerFunction | None:
        """Return the Multiply that a GLU of two joined values is, and nothing in the place of the GLU."""
        if own.kind.lower() == _GLU:  # a legacy file calls the operation by its class
            node = self.network.by_name[name]
            return LayerFunction(NEUTRAL) if len(node.inputs) == 1 and self._is_gated(node.inputs[0]) else None
        return LayerFunction("Multiply") if own.kind == "Concatenate" and self._is_gated(name) else None

    def _is_gated(self, name: str) -> bool:
        """Tell whether a node joins two values of one size that the GLU behind it multiplies with each other."""
        node, behind = self.network.by_name[name], self.network.consumers.get(name, ())
        if len(node.inputs) != 2 or len(behind) != 1 or len({shape[-1:] for shape in node.input_shapes}) != 1:
            return False
        joins = layer_function(node, self.network)
        gate = layer_function(self.network.by_name[behind[0]], self.network)
        axes = [f.settings.get("axis", -1) for f in (joins, gate)]
        return (joins.kind, gate.kind.lower()) == ("Concatenate", _GLU) and axes == [-1, -1]

    def paths_into(self, name: str) -> list[Path]:
        """Return the path to each of the inputs of a node."""
        paths = [self.path_from(other, output) for other, output in self._find_taken(name)]
        if len(paths) == 2 and self._is_gated(name):
            gate = GraphStep(name, LayerFunction(ACTIVATION, activation="sigmoid"))
            paths[1] = dataclasses.replace(paths[1], steps=(*paths[1].steps, gate))
        return paths

    def _of_mean(self, name: str, own: LayerFunction) -> LayerFunction | None:
        """Return the Average that a sum divided by how many it sums is, and nothing in the place of the division."""
        node = self.network.by_name[name]
        if own.kind == "Add" and len(node.inputs) > 1:
            behind = self.network.consumers.get(name, ())
            last = self.network.by_name[behind[0]] if len(behind) == 1 else None
            return LayerFunction("Average") if last is not None and self._divides(last, len(node.inputs)) else None
        if own.kind == "Rescaling" and len(node.inputs) == 1:
            before = self.network.by_name[node.inputs[0]]
            is_sum = len(before.inputs) > 1 and self.network.consumers.get(before.name) == (name,)
            if (
                is_sum
                and layer_function(before, self.network).kind == "Add"
                and self._divides(node, len(before.inputs))
            ):
                return LayerFunction(NEUTRAL)
        return None

    def _divides(self, node: Node, count: int) -> bool:
        function = layer_function(node, self.network)
        scale, offset = function.settings.get("scale"), function.settings.get("offset")
        return (
            function.kind == "Rescaling" and isinstance(scale, float) and not offset and abs(scale * count - 1) < _ONE
        )

    def holders(self, weight: str) -> list[str]:
        """Return the nodes that hold a weight, the nearest first."""
        if not self.network.nodes:
            return []
        found = [weight] if weight in self.network.by_name else []  # an operator without a name but its weight's
        name = WeightName(weight).layer
        while name:
            found += [name] if name in self.network.by_name else []
            name = name.rpartition("/")[0]
        return found

    @cached_property
    def in_graph(self) -> Mapping[str, str]:
        """The node that stands in the graph for each node with weights: itself, or the wrapper around it."""
        found = {}
        # Keras records connections for the layers of a model alone: the wrapper around an LSTM has inputs, the LSTM
        # none. The first layer of an old Sequential inside of a wrapper has none either, and others take its output.
        for weight in self.catalog:
            if holders := self.holders(weight.name):
                connected = (h for h in holders if self.network.by_name[h].inputs or self.network.consumers.get(h))
                found[holders[0]] = next(connected, holders[-1])
        return found

    @cached_property
    def sizes(self) -> Mapping[str, tuple[int | None, ...]]:
        """The sizes of the maps that go into the layers of Keras, as far as they are known."""
        return spatial_sizes(self.network) if self.network.has_layers else {}

    @cached_property
    def _weighted(self) -> Mapping[str, str]:
        """The layer that says what each node of the graph with weights does to its output."""
        # Reversed, so that of several inside one wrapper the first one counts.
        return {graph: own for own, graph in reversed(list(self.in_graph.items()))}

    def has_weights(self, name: str) -> bool:
        """Tell whether a node of the graph has weights, itself or in a layer inside."""
        return name in self._weighted

    def speaks_for(self, own: str) -> str | None:
        """Return the node of the graph whose output is that of the layer `own`; None for a layer inside another."""
        graph = self.in_graph.get(own)
        return graph if graph is not None and self._weighted[graph] == own else None

    def is_input(self, name: str) -> bool:
        """Tell whether nothing goes into the node: it is an input, or the first layer of a Sequential without one."""
        return not self.network.by_name[name].inputs and name not in self._weighted

    def _find_taken(self, name: str) -> list[tuple[str, int]]:
        """Return the nodes that a node takes values of, and which of their outputs."""
        inputs = self.network.by_name[name].inputs
        taken = next(iter(self.network.taken_by(name)), ())
        # What each call takes is not known of every network.
        known = [origin.node for origin in taken] == list(inputs)
        return [(o.node, o.output) for o in taken] if known else [(other, 0) for other in inputs]

    def gives_parts(self, name: str, output: int) -> bool:
        """Tell whether it is known which part of a value a node gives, so that paths tell it."""
        return is_taking(self._part(self.network.by_name[name], output) or self.function(name))

    def _part(self, node: Node, output: int) -> LayerFunction | None:
        return output_function(node, self.network, output) if self.tells_parts else None

    def facing(self, framework: str) -> Arrangement:
        """Return it for a comparison with a network of this framework.

        Only configurations of Keras tell the parts of values: against a graph, outputs go by their numbers.
        """
        tells = framework == self.network.framework
        if tells == self.tells_parts:
            return self
        return dataclasses.replace(self, tells_parts=tells, _paths={}, _functions={})

    def path_from(self, name: str, output: int = 0) -> Path:
        """Return the steps up to and with the node `name`, back to a layer with weights, a merge or an input."""
        if (name, output) not in self._paths:
            self._paths[name, output] = self._walk(name, output)
        return self._paths[name, output]

    def _walk(self, start: str, output: int) -> Path:
        steps: list[GraphStep] = []
        name: str | None = start
        for _ in range(_MOST_STEPS):
            node = self.network.by_name.get(name or "")
            # A connection to nothing: the file is damaged or cut short, and nothing is concluded from it.
            if node is None:
                return Path(None, ())
            # A Normalization has weights, and is compared with the Rescaling that may do its work.
            if node.name in self._weighted and node.layer_class != "Normalization":
                return Path(node.name, (*self.after(node.name, output), *reversed(steps)))
            # A merge ends a path: what goes into it is compared input by input, as a place of its own.
            if node.layer_class == "InputLayer" or len(node.inputs) > 1:
                return Path(node.name, tuple(reversed(steps)))
            steps.append(GraphStep(node.name, self._part(node, output) or self.function(node.name)))
            if not node.inputs:
                return Path("", tuple(reversed(steps)))
            name, output = self._find_taken(node.name)[0]
        return Path(None, ())

    def after(self, name: str, output: int = 0) -> tuple[GraphStep, ...]:
        """Return what a layer with weights does to one of its outputs itself."""
        own = self._weighted.get(name, name)
        function = self.function(own)
        steps = []
        # Of a Bidirectional both the layer inside and the wrapper tell it; the layer's own word counts.
        for settings in (function.settings, self.function(name).settings):
            if "return_sequences" in settings:
                # Behind all its outputs, or the last one, come the states that it ends with.
                is_state = output > 0 and self.network.by_name[name].layer_class in ENDS_WITH_STATE
                last = {"return_sequences": settings["return_sequences"] and not is_state}
                steps.append(GraphStep(own, LayerFunction(OUTPUTS, last)))
                break
        # Its node says which of its outputs are used, unless that is not clear; then nothing is compared.
        if not steps and self.network.has_operators and function.kind in ("LSTM", "GRU", "SimpleRNN"):
            steps.append(GraphStep(own, LayerFunction(OUTPUTS, known=False)))
        if function.activation != LINEAR:
            known = function.activation is not None
            steps.append(GraphStep(own, LayerFunction(ACTIVATION, activation=function.activation, known=known)))
        return tuple(steps)

    def activations_after(self, name: str) -> tuple[str | None, ...]:
        """Return the activations that follow a layer with weights directly, its own first."""
        found = [s.function.activation for s in self.after(name) if s.function.kind == ACTIVATION]
        for _ in range(_MOST_STEPS):
            behind = self.network.consumers.get(name, ())
            # Where an output goes two ways, an activation on one of them is not what the layer does.
            if len(behind) != 1 or behind[0] in self._weighted:
                break
            name = behind[0]
            function = self.function(name)
            if function.kind == ACTIVATION:
                found += [function.activation] if function.activation != LINEAR else []
            elif function.kind != NEUTRAL:
                break
        return tuple(found)

    def is_linear_behind(self, name: str) -> bool:
        """Tell whether what a layer with weights gives reaches the next one, or the end, without any activation.

        Pooling and the like may stand between, since an activation may as well stand behind them.
        """
        for _ in range(_MOST_STEPS):
            behind = self.network.consumers.get(name, ())
            if not behind:
                return True
            if len(behind) > 1:
                return False
            name = behind[0]
            function = self.function(name)
            if name in self._weighted:
                return function.known and not function.kind.endswith("Normalization")
            passes = re.match(r"(Global|Adaptive)?(Max|Average)Pooling|Flatten|ZeroPadding", function.kind)
            nothing = function.kind == NEUTRAL or (function.kind, function.activation) == (ACTIVATION, LINEAR)
            if not (passes or nothing):
                return False
        return False
