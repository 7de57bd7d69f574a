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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from transferpipe.weights.name import WeightName
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spec import Catalog

Side = Literal["out", "in", "along"]
"""Whether a weight makes the units (a kernel's outputs), takes them, or has a number for each of them."""

_CONVOLUTIONS = tuple(f"Conv{rank}D" for rank in (1, 2, 3))
_KERNELS: Mapping[str, tuple[int, int]] = {
    "Dense": (-2, -1),
    **dict.fromkeys(_CONVOLUTIONS, (-2, -1)),
    **dict.fromkeys([f"{name}Transpose" for name in _CONVOLUTIONS], (-1, -2)),
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
_BY_UNIT = frozenset(
    [
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish", "sigmoid"),
        *("hard_sigmoid", "hard_silu", "hard_swish", "tanh", "hard_tanh", "softplus", "softsign", "exponential"),
        *("log_sigmoid", "tanh_shrink", "soft_shrink", "hard_shrink", "squareplus", "sparse_plus", "threshold"),
    ]
)
"""Activations that compute a unit from itself alone."""
_STATISTICS = frozenset(["gamma", "beta", "moving_mean", "moving_variance"])
_OVER_ALL = frozenset(["LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization"])
"""Normalizations by the mean or the norm over all units: in whatever order, but copies of some of them change it."""
_ATTENTION = "MultiHeadAttention"
_QUERY, _VALUE, _KEY, _OUTPUT = "query", "value", "key", "attention_output"


@dataclass(frozen=True)
class UnitUse:
    """One axis of one weight that goes along the units of a space, once or, behind a Flatten, several times.

    Attributes:
        weight: the target weight.
        axis: the axis, from the end.
        side: what the weight has to do with the units.
        parts: behind a Concatenate, what lies along the axis, this space among others: the place of each space, or -1
            where it has none, and how many numbers the target has of it; empty where the axis has these units alone.
        at: which of the parts it is.
    """

    weight: str
    axis: int
    side: Side
    parts: tuple[tuple[int, int], ...] = ()
    at: int = 0


@dataclass(frozen=True)
class UnitSpace:
    """Units that belong together.

    Attributes:
        layers: the layers whose outputs they are, in their order.
        uses: the axes of weights that go along them.
        fixed: why they have to stay as they are; empty where they need not.
        single: why there must be no copies of some of them; empty where there may.
    """

    layers: tuple[str, ...]
    uses: tuple[UnitUse, ...]
    fixed: str = ""
    single: str = ""


@dataclass(frozen=True)
class _Stretch:
    """The units of one space in an output, and how many numbers the target has there, where that must be known."""

    space: int
    width: int = 0


_Stretches = tuple[_Stretch, ...]


def find_unit_spaces(catalog: Catalog, network: Network) -> tuple[UnitSpace, ...]:
    """Return the spaces of a network whose connections are known, each with what uses it, in its order."""
    walk = _SpaceWalk(catalog, network)
    for node in network.nodes:
        walk.visit(node)
    for name in network.outputs:
        walk.fix(walk.outputs.get(name, ()), f"{name} gives an output of the model")
    return walk.spaces()


@dataclass
class _SpaceWalk:
    """One walk along a network.

    Attributes:
        catalog: its weights.
        network: its layers.
        outputs: the space of each node's output; of what is concatenated, several.
    """

    catalog: Catalog
    network: Network
    outputs: dict[str, _Stretches] = field(default_factory=dict)
    _parents: list[int] = field(default_factory=list)
    _reasons: dict[int, str] = field(default_factory=dict)
    _singles: dict[int, str] = field(default_factory=dict)
    _uses: dict[int, list[UnitUse]] = field(default_factory=dict)
    _layers: dict[int, list[str]] = field(default_factory=dict)

    def visit(self, node: Node) -> None:
        """Give the output of a node its space, and note what uses those of its inputs."""
        inputs = [self.outputs[name] for name in node.inputs if name in self.outputs]
        reason = self._why_unknown(node) or self._use(node, inputs)
        if reason:
            for parts in inputs:
                self.fix(parts, reason)
            self.outputs[node.name] = self._new(reason)
        if not self.network.consumers.get(node.name):
            self.fix(self.outputs[node.name], f"{node.name} gives an output of the model")

    def _use(self, node: Node, inputs: Sequence[_Stretches]) -> str:
        """Note what a node does with the units of its inputs; return why that is not known, where it is not."""
        widths = {shape[-1] for shape in node.input_shapes if shape}
        if node.layer_class in _MERGES and len(widths) > 1:
            return f"{node.name} spreads one input over the units of another"
        if node.layer_class in _MERGES and len({tuple(p.width for p in parts) for parts in inputs}) > 1:
            return f"{node.name} puts together what is concatenated in different ways"
        weights = self._weights(node.name)
        known = self._pass_on(node, inputs, weights) or self._make_units(node, inputs, weights)
        if not (known or self._attend(node, inputs) or self._concatenate(node, inputs)):
            kind = node.layer_class
            return f"{node.name} is a {kind}, which may do anything with them" if inputs else f"{node.name} is an input"
        activation = node.settings.get("activation", "linear")
        if activation is not None and (not isinstance(activation, str) or activation not in _BY_UNIT):
            self.fix(self.outputs[node.name], f"the activation of {node.name} may look at all of them together")
        return ""

    def _pass_on(self, node: Node, inputs: Sequence[_Stretches], weights: set[str]) -> bool:
        """Give the output of a node the space of its inputs, if it is one that treats all units alike."""
        kind = node.layer_class
        axes: Mapping[str, int] = {}
        if self._normalizes(node) and weights <= _STATISTICS | {"scale"}:
            axes = dict.fromkeys(sorted(weights), -1)
        elif kind.startswith("DepthwiseConv") and self._multiplies_by_one(node, "kernel"):
            axes = {"kernel": -2, "bias": -1}
        elif weights or kind not in _PASSES_ON | _MERGES:
            return False
        if not inputs or (len(inputs) > 1 and kind not in _MERGES):
            return False
        for other in inputs[1:]:
            for one, two in zip(inputs[0], other, strict=True):
                self._join(one.space, two.space)
        if kind in _OVER_ALL and not _is_by_unit(node):
            for part in inputs[0]:
                self._singles.setdefault(
                    self._root(part.space), f"{node.name} is a {kind}, which copies of some change"
                )
        self._note(node, inputs[0], "along", axes)
        self.outputs[node.name] = inputs[0]
        return True

    def _normalizes(self, node: Node) -> bool:
        """Tell whether a node is a normalization along the last axis that does not care for the order of the units."""
        if node.layer_class == "GroupNormalization" and not (_groups(node) == 1 or _is_by_unit(node)):
            return False  # neighbours are one group
        return node.layer_class in _OVER_ALL | {"BatchNormalization"} and _is_last_axis(node)

    def _make_units(self, node: Node, inputs: Sequence[_Stretches], weights: set[str]) -> bool:
        """Give the output of a node a space of its own, if it is one that makes units of those that it takes."""
        kind = node.layer_class
        if kind in _KERNELS and "kernel" in weights <= {"kernel", "bias"}:
            taken, made = _KERNELS[kind]
            axes, along, within = {"kernel": made, "bias": -1}, {}, {"kernel": taken}
        elif kind.startswith("SeparableConv") and self._multiplies_by_one(node, "depthwise_kernel"):
            axes, along, within = (
                {"pointwise_kernel": -1, "bias": -1},
                {"depthwise_kernel": -2},
                {"pointwise_kernel": -2},
            )
        elif kind == "Embedding" and weights == {"embeddings"}:
            axes, along, within = {"embeddings": -1}, {}, {}
        else:
            return False
        space = self.outputs[node.name] = self._new()
        self._layers[space[0].space].append(node.name)
        self._note(node, space, "out", axes)
        for before in inputs:
            self._note(node, before, "along", along)
            self._note(node, before, "in", within)
        return True

    def _attend(self, node: Node, inputs: Sequence[_Stretches]) -> bool:
        """Give the heads of an attention a space of their own, and another to its output."""
        projections = (_QUERY, _VALUE, _KEY)
        if node.layer_class != _ATTENTION or f"{node.name}/{_OUTPUT}/kernel" not in self.catalog or not inputs:
            return False
        # Keras calls it with query, value and key, which is the value if it is left out; a mask may be a third input.
        same = len(set(inputs)) == 1
        if not same and len(inputs) != 2:
            return False
        taken = dict(zip(projections, (inputs[0], inputs[-1], inputs[-1]), strict=True))
        heads = self._new()
        self._layers[heads[0].space].append(node.name)
        for projection in projections:
            self._note(node, heads, "out", {f"{projection}/kernel": -2, f"{projection}/bias": -2})
            self._note(node, taken[projection], "in", {f"{projection}/kernel": -3})
        self._note(node, heads, "in", {f"{_OUTPUT}/kernel": -3})
        made = self.outputs[node.name] = self._new()
        self._layers[made[0].space].append(f"{node.name}/{_OUTPUT}")
        self._note(node, made, "out", {f"{_OUTPUT}/kernel": -1, f"{_OUTPUT}/bias": -1})
        return True

    def _concatenate(self, node: Node, inputs: Sequence[_Stretches]) -> bool:
        """Give the output of a node the spaces of all its inputs, one behind the other, if it puts them together so."""
        shapes = node.input_shapes
        if node.layer_class != "Concatenate" or not _is_last_axis(node) or len(shapes) != len(inputs) or not inputs:
            return False
        parts: list[_Stretch] = []
        for shape, taken in zip(shapes, inputs, strict=True):
            width = shape[-1] if shape else None
            if width is None or (len(taken) > 1 and sum(p.width for p in taken) != width):
                return False
            parts += taken if len(taken) > 1 else [_Stretch(taken[0].space, width)]
        self.outputs[node.name] = tuple(parts)
        return True

    def _why_unknown(self, node: Node) -> str:
        """Return why a node of a known class does not do what that class does by itself; empty where it does."""
        settings = node.settings
        if node.calls > 1:
            return f"{node.name} is called {node.calls} times"
        if settings.get("data_format") == "channels_first":
            return f"{node.name} has its channels first"
        if settings.get("groups", 1) not in (1, None) and node.layer_class not in _OVER_ALL:
            return f"{node.name} has groups"
        if settings.get("arguments"):
            return f"{node.name} is an operation with arguments of its own"
        below = self.catalog.layers.get(node.name, ())
        if any(self.catalog.aliases.get(name) in below for name in self.catalog.aliases):
            return f"{node.name} shares a weight with another layer"
        return ""

    def _weights(self, layer: str) -> set[str]:
        return {WeightName(name).own for name in self.catalog.layers.get(layer, ()) if WeightName(name).layer == layer}

    def _multiplies_by_one(self, node: Node, kernel: str) -> bool:
        name = f"{node.name}/{kernel}"
        return name in self.catalog and self.catalog[name].shape[-1] == 1

    def _note(self, node: Node, parts: _Stretches, side: Side, axes: Mapping[str, int]) -> None:
        names = {own: f"{node.name}/{own}" for own in axes}
        whole = tuple((part.space, part.width) for part in parts) if len(parts) > 1 else ()
        for at, part in enumerate(parts):
            found = [
                UnitUse(names[own], axis, side, whole, at) for own, axis in axes.items() if names[own] in self.catalog
            ]
            self._uses[self._root(part.space)] += found

    def _new(self, reason: str = "") -> _Stretches:
        space = len(self._parents)
        self._parents.append(space)
        self._uses[space], self._layers[space] = [], []
        self.fix((_Stretch(space),), reason)
        return (_Stretch(space),)

    def fix(self, parts: _Stretches, reason: str) -> None:
        """Note why the units of an output have to stay as they are, unless a reason is known already."""
        for part in parts if reason else ():
            self._reasons.setdefault(self._root(part.space), reason)

    def _root(self, space: int) -> int:
        while self._parents[space] != space:
            self._parents[space] = space = self._parents[self._parents[space]]
        return space

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        if first != second:
            self._parents[second] = first
            self._uses[first] += self._uses.pop(second)
            self._layers[first] += self._layers.pop(second)
            for reasons in (self._reasons, self._singles):
                if second in reasons:
                    reasons.setdefault(first, reasons.pop(second))

    def spaces(self) -> tuple[UnitSpace, ...]:
        """Return what was found."""
        found = [(space, uses) for space, uses in sorted(self._uses.items()) if uses]
        places = {space: place for place, (space, _) in enumerate(found)}

        def placed(use: UnitUse) -> UnitUse:
            parts = tuple((places.get(self._root(space), -1), width) for space, width in use.parts)
            return replace(use, parts=parts) if parts else use

        return tuple(
            UnitSpace(
                tuple(self._layers[s]), tuple(map(placed, uses)), self._reasons.get(s, ""), self._singles.get(s, "")
            )
            for s, uses in found
        )


def _is_last_axis(node: Node) -> bool:
    axis = node.settings.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    ranks = {len(shape) for shape in node.input_shapes}
    return axis == -1 or (isinstance(axis, int) and ranks == {axis + 1})


def _groups(node: Node) -> Any:
    return node.settings.get("groups", 32)


def _is_by_unit(node: Node) -> bool:
    """Tell whether a normalization has a group for each unit, so that it computes each from itself alone."""
    if node.layer_class != "GroupNormalization":
        return False
    return _groups(node) == -1 or _groups(node) in {shape[-1] for shape in node.input_shapes if shape}
