"""Which axes of which weights stand for the same units of a network: what changes one of them must change all.

The units of a layer are its filters, or the outputs of a Dense: the layers behind it take them as inputs, the
normalization between has a number for each, and the branches of an addition share theirs. What is concatenated has the
units of each of its inputs, one behind the other. The heads of an attention are units, too: queries, keys and values
make them, the output takes them. The units of one space may change places, be left out or be repeated only together.
Source: the permutation specification of Ainsworth, Hayase, Srinivasa, "Git Re-Basin: Merging Models modulo Permutation
Symmetries", arXiv:2209.04836, section 3; here it is derived from the configuration.

A layer that is not in the tables here may do anything with its inputs: the units that go into it stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from transferpipe.planning.pairing.unit_axes import DIRECTIONS, einsum_axes, gates_of
from transferpipe.planning.pairing.unit_joins import Grouping, Side, UnitJoins, UnitSpace, UnitStretch, UnitStretches
from transferpipe.planning.pairing.unit_settings import (
    OVER_ALL,
    compares_units,
    conv_groups,
    explain_bend,
    find_normalized_axes,
    is_by_unit,
    is_last_axis,
    norm_groups,
)
from transferpipe.weights.name import WeightName, ancestors
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spec import Catalog

CONVOLUTIONS = tuple(f"Conv{rank}D" for rank in (1, 2, 3))
"""The convolutions that may have groups."""
# keras/src/layers/convolutional/base_conv_transpose.py: a transposed kernel is (..., out, in).
_KERNELS: Mapping[str, tuple[int, int]] = {
    "Dense": (-2, -1),
    **dict.fromkeys(CONVOLUTIONS, (-2, -1)),
    **dict.fromkeys([f"{name}Transpose" for name in CONVOLUTIONS], (-1, -2)),
}
"""The axes of a kernel for its inputs and its outputs, by class."""
_PASSES_ON = frozenset(
    [
        *("Activation", "ReLU", "LeakyReLU", "ELU", "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
        *("ActivityRegularization", "Identity", "Flatten", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
        *(f"{kind}Pooling{rank}D" for kind in ("Max", "Average", "GlobalMax", "GlobalAverage") for rank in (1, 2, 3)),
        *(f"{kind}{rank}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for rank in (1, 2, 3)),
    ]
)
"""Layers without weights that treat all units alike; behind a Flatten every place has all of them once."""
_MERGES = frozenset(["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
_STATISTICS = frozenset(["gamma", "beta", "moving_mean", "moving_variance"])
_ATTENTION = ("MultiHeadAttention", "GroupedQueryAttention")
_QUERY, _GATE, _VALUE, _KEY, _OUTPUT = "query", "gate", "value", "key", "attention_output"


def find_unit_spaces(catalog: Catalog, network: Network, inner: Collection[str] = ()) -> tuple[UnitSpace, ...]:
    """Return the spaces of a network whose connections are known, each with what uses it, in its order.

    Args:
        catalog: its weights.
        network: its layers.
        inner: grouped convolutions whose groups stay, and change inside; of others groups are units, as a whole.
    """
    inside = {f"{n.name}/{part}" for n in network.nodes if n.layer_class == "Bidirectional" for part in DIRECTIONS}
    wrapped = _find_wrapped(network)
    inside |= {part.name for part in wrapped.values()}
    walk = _SpaceWalk(catalog, network, frozenset(inner), wrapped)
    for node in network.nodes:
        if node.name not in inside:
            walk.visit(node)
    for name in network.outputs:
        walk.joins.fix(walk.outputs.get(name, ()), f"{name} gives an output of the model")
    return tuple(walk.joins.spaces())


@dataclass
class _SpaceWalk:
    """One walk along a network.

    Attributes:
        catalog: its weights.
        network: its layers.
        inner: grouped convolutions whose groups change inside.
        wrapped: what each TimeDistributed applies to every step.
        outputs: the space of each node's output; of what is concatenated, several.
        joins: the spaces.
    """

    catalog: Catalog
    network: Network
    inner: frozenset[str] = frozenset()
    wrapped: Mapping[str, Node] = field(default_factory=dict)
    outputs: dict[str, UnitStretches] = field(default_factory=dict)
    joins: UnitJoins = field(default_factory=UnitJoins)

    def visit(self, node: Node) -> None:
        """Give the output of a node its space, and note what uses those of its inputs."""
        if node.name in self.wrapped and node.calls == 1:
            # Units lie along the last axis, of which a step is a part like any other place.
            part = replace(self.wrapped[node.name], inputs=node.inputs)
            self._settle(part)
            self.outputs[node.name] = self.outputs[part.name]
        else:
            self._settle(node)
        # What nothing takes leaves the model, whether the network lists it as an output or not.
        if not self.network.consumers.get(node.name):
            self.joins.fix(self.outputs[node.name], f"{node.name} gives an output of the model")

    def _settle(self, node: Node) -> None:
        inputs = [self.outputs[name] for name in node.inputs if name in self.outputs]
        reason = self._why_unknown(node) or self._use(node, inputs)
        if reason:
            for parts in inputs:
                self.joins.fix(parts, reason)
            self.outputs[node.name] = self.joins.new(reason)

    def _use(self, node: Node, inputs: Sequence[UnitStretches]) -> str:
        """Note what a node does with the units of its inputs; return why that is not known, where it is not."""
        # (None, 8) times (None, 1) is legal, and pairs no units of the two: broadcasting is not a merge of units.
        widths = {shape[-1] for shape in node.input_shapes if shape}
        if node.layer_class in _MERGES and len(widths) > 1:
            return f"{node.name} spreads one input over the units of another"
        if node.layer_class in _MERGES and len({tuple(p.width for p in parts) for parts in inputs}) > 1:
            return f"{node.name} puts together what is concatenated in different ways"
        weights = self._weights(node.name)
        known = self._pass_on(node, inputs, weights) or self._make_units(node, inputs, weights)
        known = known or self._group(node, inputs, weights) or self._attend(node, inputs) or self._recur(node, inputs)
        if not (known or self._concatenate(node, inputs)):
            kind = node.layer_class
            if kind in CONVOLUTIONS and conv_groups(node) > 1:
                return f"{node.name} has groups, which take parts of several layers, or other parts than its input has"
            return f"{node.name} is a {kind}, which may do anything with them" if inputs else f"{node.name} is an input"
        activation = node.settings.get("activation", "linear")
        if not is_by_unit(activation):
            self.joins.fix(self.outputs[node.name], f"the activation of {node.name} may look at all of them together")
        if reason := explain_bend(node, activation):
            self.joins.bend(self.outputs[node.name], reason)
        return ""

    def _pass_on(self, node: Node, inputs: Sequence[UnitStretches], weights: set[str]) -> bool:
        """Give the output of a node the space of its inputs, if it is one that treats all units alike."""
        kind = node.layer_class
        if not inputs or (len(inputs) > 1 and kind not in _MERGES):
            return False
        if kind.startswith("DepthwiseConv") and "kernel" in weights <= {"kernel", "bias"}:
            self._multiply(node, inputs[0])
            return True
        axes: Mapping[str, int] = {}
        if self._normalizes(node) and weights <= _STATISTICS | {"scale"}:
            # Along other axes than the last, its weights have no number for each unit: nothing of it has to change.
            axes = dict.fromkeys(sorted(weights), -1) if -1 in (find_normalized_axes(node) or (-1,)) else {}
        elif kind == "PReLU" and weights == {"alpha"}:
            # A slope for each unit, or with `shared_axes` along the units one for all of them.
            widths = {shape[-1] for shape in node.input_shapes if shape}
            axes = {"alpha": -1} if {self.catalog[f"{node.name}/alpha"].shape[-1]} == widths else {}
        elif weights or kind not in _PASSES_ON | _MERGES:
            return False
        joined = [self.joins.unite(*pair) for other in inputs[1:] for pair in zip(inputs[0], other, strict=True)]
        if not all(joined):
            for parts in inputs:
                self.joins.fix(parts, f"{node.name} puts together what is grouped in different ways")
        if kind in OVER_ALL and compares_units(node):
            self._normalize(node, inputs[0])
        if kind.endswith("Normalization") and kind != "UnitNormalization":
            self.joins.bend(inputs[0], f"{node.name} is a {kind}")
        self._note(node, inputs[0], "along", axes)
        self.outputs[node.name] = inputs[0]
        return True

    def _multiply(self, node: Node, taken: UnitStretches) -> None:
        """Give the output of a depthwise convolution the units of its input, each with as many numbers as it makes.

        Keras's output has those of a channel one behind the other.
        """
        times = self.catalog[f"{node.name}/kernel"].shape[-1]
        made = tuple(UnitStretch(part.space, part.each * times, part.width * times) for part in taken)
        self._note(node, taken, "along", {"kernel": -2})
        self._note(node, made, "along", {"bias": -1})
        if f"{node.name}/bias" in self.catalog:
            self.joins.bend(taken, f"{node.name} adds a bias")
        for part in taken:
            self.joins.keep_whole(part, f"{node.name}/kernel", -1)
        self.outputs[node.name] = made

    def _normalize(self, node: Node, taken: UnitStretches) -> None:
        """Note what a normalization over several units demands of them."""
        widths = {shape[-1] for shape in node.input_shapes if shape}
        width, kind = (widths.pop() if len(widths) == 1 else None), node.layer_class
        groups = norm_groups(node)
        if kind == "UnitNormalization":
            for part in taken:
                self.joins.norm(part, node.name)
        elif width is None:
            if groups > 1:
                self.joins.fix(taken, f"{node.name} is a {kind} of groups, and does not say how large these are")
            self.joins.forbid_copies(taken, f"{node.name} is a {kind}, which copies of some change")
        elif width % groups:
            self.joins.fix(taken, f"{node.name} has {groups} groups for {width} units")
        elif len(taken) == 1:
            self.joins.group(taken[0], Grouping(node.name, kind, groups, width // groups))
        elif groups > 1 and all(part.width % (width // groups) == 0 for part in taken):
            each = width // groups
            for part in taken:
                self.joins.group(part, Grouping(node.name, kind, part.width // each, each, part=True))
        else:
            self.joins.tie(taken, node.name, f"a group of {node.name} has units of two layers" if groups > 1 else "")

    def _normalizes(self, node: Node) -> bool:
        """Tell whether a node is a normalization along the last axis, or along others alone."""
        if node.layer_class == "GroupNormalization" and norm_groups(node) < 1:
            return False
        if node.layer_class == "LayerNormalization":
            axes = find_normalized_axes(node)
            return axes is not None and (-1 not in axes or axes[-1] == -1)
        return node.layer_class in OVER_ALL | {"BatchNormalization"} and is_last_axis(node)

    def _make_units(self, node: Node, inputs: Sequence[UnitStretches], weights: set[str]) -> bool:
        """Give the output of a node a space of its own, if it is one that makes units of those that it takes."""
        kind = node.layer_class
        along: Mapping[str, int] = {}
        within: Mapping[str, int] = {}
        if kind in _KERNELS and "kernel" in weights <= {"kernel", "bias"} and conv_groups(node) == 1:
            taken, made = _KERNELS[kind]
            axes, within = {"kernel": made, "bias": -1}, {"kernel": taken}
        elif kind.startswith("SeparableConv") and {"depthwise_kernel", "pointwise_kernel"} <= weights:
            axes, along = {"pointwise_kernel": -1, "bias": -1}, {"depthwise_kernel": -2}
        elif kind == "Embedding" and weights == {"embeddings"}:
            axes = {"embeddings": -1}
        elif (einsum := einsum_axes(node)) and weights <= {"kernel", "bias"}:
            axes, within = {"kernel": einsum.made}, {"kernel": einsum.taken}
            axes |= {"bias": einsum.bias} if einsum.bias is not None else {}
        else:
            return False
        space = self.outputs[node.name] = self.joins.new()
        self.joins.name(space[0], node.name)
        self._note(node, space, "out", axes)
        for before in inputs:
            self._note(node, before, "along", along)
            self._note(node, before, "in", within)
            if along:
                times = self.catalog[f"{node.name}/depthwise_kernel"].shape[-1]
                between = tuple(UnitStretch(p.space, p.each * times, p.width * times) for p in before)
                self._note(node, between, "in", {"pointwise_kernel": -2})
                for part in before:
                    self.joins.keep_whole(part, f"{node.name}/depthwise_kernel", -1)
        return True

    def _group(self, node: Node, inputs: Sequence[UnitStretches], weights: set[str]) -> bool:
        """Give the output of a convolution with groups a space whose units are these, and join it with its input's.

        A group takes its part of the input as a whole, and makes its part of the output of it: groups may change their
        places, be left out or be repeated, together with what they take (the cardinality of arXiv:1611.05431).
        """
        groups = conv_groups(node)
        if groups < 2 or node.layer_class not in CONVOLUTIONS or not "kernel" in weights <= {"kernel", "bias"}:
            return False
        if len(inputs) != 1 or len(inputs[0]) != 1:
            return False
        *_, width, made = self.catalog[f"{node.name}/kernel"].shape
        space = self.joins.new()[0]
        if node.name in self.inner and made % groups == 0:
            self.joins.name(space, node.name)
            self.joins.group(inputs[0][0], Grouping(node.name, node.layer_class, groups, width))
            self.joins.group(space, Grouping(node.name, node.layer_class, groups, made // groups))
            self._note(node, (space,), "out", {"kernel": -1, "bias": -1})
            self.joins.use(inputs[0], "in", [(f"{node.name}/kernel", -2)], groups=groups)
            self.outputs[node.name] = (space,)
            return True
        out = UnitStretch(space.space, made // groups)
        if made % groups or not self.joins.unite(inputs[0][0], UnitStretch(space.space, width)):
            return False
        self.joins.name(space, node.name)
        self.joins.bend((out,), f"{node.name} takes and makes the units of a group together")
        self._note(node, (out,), "out", {"kernel": -1, "bias": -1})
        self.outputs[node.name] = (out,)
        return True

    def _attend(self, node: Node, inputs: Sequence[UnitStretches]) -> bool:
        """Give the heads of an attention a space of their own, and another to its output.

        Of grouped queries, a head of keys and values is a unit, with all queries that share it.
        """
        names = {part: f"{node.name}/{part}/kernel" for part in (_QUERY, _KEY, _VALUE, _OUTPUT)}
        if node.layer_class not in _ATTENTION or not inputs or any(n not in self.catalog for n in names.values()):
            return False
        # Keras calls it with query, value and key, which is the value if it is left out; a mask may be a third input.
        same = len(set(inputs)) == 1
        queries, keys = (self.catalog[names[part]].shape[-2] for part in (_QUERY, _KEY))
        if (not same and len(inputs) != 2) or queries % keys:
            return False
        taken = {_QUERY: inputs[0], _GATE: inputs[0], _VALUE: inputs[-1], _KEY: inputs[-1]}
        (heads,) = self.joins.new()
        asking = UnitStretch(heads.space, queries // keys)
        self.joins.name(heads, node.name)
        for part, before in taken.items():
            made = asking if part in (_QUERY, _GATE) else heads
            self._note(node, (made,), "out", {f"{part}/kernel": -2, f"{part}/bias": -2})
            self._note(node, before, "in", {f"{part}/kernel": -3})
        self._note(node, (asking,), "in", {f"{_OUTPUT}/kernel": -3})
        output = self.outputs[node.name] = self.joins.new()
        self.joins.name(output[0], f"{node.name}/{_OUTPUT}")
        self._note(node, output, "out", {f"{_OUTPUT}/kernel": -1, f"{_OUTPUT}/bias": -1})
        return True

    def _recur(self, node: Node, inputs: Sequence[UnitStretches]) -> bool:
        """Give the output of a recurrent layer a space of its own, or of two directions two, one behind the other.

        All gates of a unit go with it, and what the layer gives goes into its own kernel, too.
        """
        two = node.layer_class == "Bidirectional"
        names = [f"{node.name}/{part}" for part in DIRECTIONS] if two else [node.name]
        layers = [self.network.by_name.get(name) for name in names] if two else [node]
        if len(inputs) != 1 or (two and node.settings.get("merge_mode", "concat") != "concat"):
            return False
        if not all(self._can_recur(layer) for layer in layers):
            return False
        parts: list[UnitStretch] = []
        for layer in layers:
            assert layer is not None
            kernel, recurrent = f"{layer.name}/cell/kernel", f"{layer.name}/cell/recurrent_kernel"
            width = self.catalog[recurrent].shape[0]
            (space,) = self.joins.new()
            self.joins.name(space, layer.name)
            biased = [(name, -1) for name in (f"{layer.name}/cell/bias",) if name in self.catalog]
            self.joins.use((space,), "out", [(kernel, -1), (recurrent, -1), *biased], gates=gates_of(layer))
            self.joins.use((space,), "in", [(recurrent, -2)])
            self.joins.use(inputs[0], "in", [(kernel, -2)])
            self.joins.bend((space,), f"{layer.name} is a {layer.layer_class}")
            parts.append(UnitStretch(space.space, 1, width) if two else space)
        self.outputs[node.name] = tuple(parts)
        return True

    def _can_recur(self, layer: Node | None) -> bool:
        """Tell whether a layer is a recurrent one that computes a unit from its own gates alone."""
        if layer is None or not gates_of(layer):
            return False
        states = (layer.settings.get(key, "tanh") for key in ("activation", "recurrent_activation"))
        names = [f"{layer.name}/cell/{own}" for own in ("kernel", "recurrent_kernel")]
        return all(map(is_by_unit, states)) and all(name in self.catalog for name in names)

    def _concatenate(self, node: Node, inputs: Sequence[UnitStretches]) -> bool:
        """Give the output of a node the spaces of all its inputs, one behind the other, if it puts them together so."""
        shapes = node.input_shapes
        if node.layer_class != "Concatenate" or not is_last_axis(node) or len(shapes) != len(inputs) or not inputs:
            return False
        parts: list[UnitStretch] = []
        for shape, taken in zip(shapes, inputs, strict=True):
            width = shape[-1] if shape else None
            if width is None or (len(taken) > 1 and sum(p.width for p in taken) != width):
                return False
            parts += taken if len(taken) > 1 else [UnitStretch(taken[0].space, taken[0].each, width)]
        self.outputs[node.name] = tuple(parts)
        return True

    def _why_unknown(self, node: Node) -> str:
        """Return why a node of a known class does not do what that class does by itself; empty where it does."""
        settings = node.settings
        if node.calls > 1:
            return f"{node.name} is called {node.calls} times"
        if settings.get("data_format") == "channels_first":
            return f"{node.name} has its channels first"
        if settings.get("arguments"):
            return f"{node.name} is an operation with arguments of its own"
        below = self.catalog.layers.get(node.name, ())
        if any(self.catalog.aliases.get(name) in below for name in self.catalog.aliases):
            return f"{node.name} shares a weight with another layer"
        if below and _own_name(node) in self._held_elsewhere:
            return f"{node.name} shares its weights with a layer of its name, elsewhere in the model"
        return ""

    @cached_property
    def _held_elsewhere(self) -> set[tuple[str, str]]:
        """Classes and names of layers that hold no weights, as those do whose weights are listed at another place.

        A layer that a model has in two places, one of them inside a wrapper or a model, is a node of each.
        """
        return {_own_name(node) for node in self.network.nodes if node.name not in self.catalog.layers} - {("", "")}

    def _weights(self, layer: str) -> set[str]:
        return {WeightName(name).own for name in self.catalog.layers.get(layer, ()) if WeightName(name).layer == layer}

    def _note(self, node: Node, parts: UnitStretches, side: Side, axes: Mapping[str, int]) -> None:
        names = [(f"{node.name}/{own}", axis) for own, axis in axes.items()]
        self.joins.use(parts, side, [(name, axis) for name, axis in names if name in self.catalog])


def _own_name(node: Node) -> tuple[str, str]:
    return (node.layer_class, str(node.settings["name"])) if "name" in node.settings else ("", "")


def _find_wrapped(network: Network) -> dict[str, Node]:
    """Return the layer inside each TimeDistributed that has one, by the wrapper's name."""
    wrappers = {n.name for n in network.nodes if n.layer_class == "TimeDistributed"}
    parts: dict[str, list[Node]] = {}
    for node in network.nodes if wrappers else ():
        outer = next((name for name in ancestors(node.name) if name in wrappers and name != node.name), None)
        if outer is not None:
            parts.setdefault(outer, []).append(node)
    return {name: found[0] for name, found in parts.items() if len(found) == 1}
