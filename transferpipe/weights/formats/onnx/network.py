"""The nodes of an ONNX graph as a connected `Network`: layers with weights, and what lies between them.

Not a node is what only computes shapes, what only prepares weights, and the addition of a bias, which is part of the
product before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transferpipe.weights.formats.onnx.content import OnnxContent
from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.operands import RECURRENT
from transferpipe.weights.formats.onnx.patterns import OperatorPattern, PatternReader
from transferpipe.weights.formats.onnx.uses.equation import find_equation
from transferpipe.weights.formats.onnx.uses.group_norms import GroupNorms
from transferpipe.weights.formats.onnx.uses.products import SHIFTS, is_product
from transferpipe.weights.formats.onnx.uses.use import Use
from transferpipe.weights.network import Network, Node, NodeOutput
from transferpipe.weights.spec import WeightSpec

Numbers = Mapping[str, tuple[int | float, ...]]

_HANDS_ON = frozenset(["Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear"])
# What gives numbers that no value of the network goes into.
_NO_DATA = frozenset(["Constant", "Shape", "Size", "ConstantOfShape", "Range", "RandomNormal", "RandomUniform"])
# The place of an operator's input `sequence_lens`: https://onnx.ai/onnx/operators/onnx__LSTM.html.
_LENGTHS = 4
# Roles of which one alone names the node: a bias may be called otherwise than the matrix that it belongs to.
_LEADING, _OF_INPUTS = ("weight", "W"), "weight_ih_l"
_MOST_BEHIND = 8
# What is noted here beside an operator's attributes; a file may give its nodes attributes of these names too.
_NOTED = frozenset(
    [
        "rank",
        "kernel",
        "follows",
        "followed_by",
        "is_product",
        "operands",
        "behind",
        "peepholes",
        "number_first",
        "way",
        "bounds",
        "tensor",
        "lengths",
    ]
)
# What may be written as several operators, to which a scale and a shift are added by two more.
_SCALED = ("LayerNormalization", "RMSNormalization")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")


def network_of(content: OnnxContent, uses: Mapping[str, Sequence[Use]], specs: Mapping[str, WeightSpec]) -> Network:
    """Return the network of a graph.

    A node with weights is called as the layer of these is, or as its weight if another node has the same layer. Beside
    its attributes the settings tell the shape of the ``kernel``, the operator that it ``follows``, and the one that the
    output is ``followed_by`` if that is the only one.

    Args:
        content: what is found in the file.
        uses: how nodes take the tensors of the file.
        specs: the weights by their names in the file.
    """
    operands = frozenset(name for name in specs if name not in uses)
    walk = _NodeWalk(content.numbers, _names(uses, specs), specs, operands)
    walk.add_inputs(content.inputs)
    for node in content.nodes:
        walk.add(node)
    found = tuple(walk.with_followers(node) for node in walk.nodes.values())
    connected = not any(node.graphs for node in content.nodes)
    several = any(node.calls > 1 for node in found) or any(origin.output for origin in walk.origins.values())
    arguments = {name: tuple(calls) for name, calls in walk.arguments.items()} if several else {}
    results = tuple(walk.origins[name] for name in content.outputs if name in walk.origins)
    told = results if len(results) == len(content.outputs) else ()
    inputs = tuple(content.inputs)
    return Network(found, "onnx", connected=connected, inputs=inputs, results=told, arguments=arguments)


Named = tuple[str, WeightSpec | None]


def _names(
    uses: Mapping[str, Sequence[Use]], specs: Mapping[str, WeightSpec]
) -> dict[int, tuple[str, WeightSpec | None]]:
    """Return what each node with weights is called, and its first weight."""
    firsts: dict[int, WeightSpec] = {}
    both: set[int] = set()
    for name, takers in uses.items():
        in_parts = len({use.steps for use in takers}) > 1
        for use in takers:
            # A product with a part of a tensor is no call of the layer that has the whole.
            is_part = in_parts and any(step.kind == "slice" for step in use.steps)
            is_first = use.role in _LEADING or use.role.startswith(_OF_INPUTS)
            if name in specs and is_first and not is_part:
                firsts.setdefault(id(use.node), specs[name])
            if use.role.startswith(_OF_INPUTS) and use.node.attributes.get("direction") == "bidirectional":
                both.add(id(use.node))
    weights: dict[str, set[str]] = {}
    for spec in firsts.values():
        weights.setdefault(spec.layer, set()).add(spec.name)
    return {
        key: (spec.layer if spec.layer and len(weights[spec.layer]) == 1 else spec.name, spec)
        for key, spec in firsts.items()
        # Of several in one module of torch, one that runs both ways goes by no weight: those are of one direction each.
        if key not in both or len(weights[spec.layer]) == 1
    }


@dataclass
class _NodeWalk:
    """One walk along the nodes.

    Attributes:
        numbers: the values of small tensors.
        named: the names of the nodes with weights.
        constants: the weights by the names of their tensors, into which no value of the network goes.
        operands: those of them that no node takes as its own weight: a factor, a mask, a table of positions.
        nodes: what was found.
        made: the node that gives each tensor.
        origins: the same with the call and the number of the output.
        arguments: what each call of a node takes.
        followers: the nodes that take each node's output.
        places: which output of a recurrent operator a tensor is.
        used: which outputs of each are taken.
        shifted: the products and normalizations that have their bias.
        groups: the normalizations of groups that are written as several nodes.
    """

    numbers: Numbers
    named: Mapping[int, Named]
    constants: Mapping[str, WeightSpec]
    operands: frozenset[str]
    nodes: dict[str, Node] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    origins: dict[str, NodeOutput] = field(default_factory=dict)
    arguments: dict[str, list[tuple[NodeOutput, ...]]] = field(default_factory=dict)
    followers: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    used: dict[str, set[int]] = field(default_factory=dict)
    shifted: set[str] = field(default_factory=set)
    groups: GroupNorms = field(default_factory=GroupNorms)

    def add_inputs(self, inputs: Mapping[str, tuple[int | None, ...]]) -> None:
        """Add the graph's inputs."""
        for name, shape in inputs.items():
            self.nodes[name] = Node(name, "InputLayer", {"batch_shape": shape, "rank": len(shape)})
            self.made[name] = name
            self.origins[name] = NodeOutput(name)

    def add(self, node: GraphNode) -> None:
        """Add a node, or note what its output is if it is none of the network's."""
        self.groups.follow(node)
        values = [name for name in node.inputs if name in self.made]
        taken = [self.made[name] for name in values]
        if not taken or node.op in _NO_DATA:
            return
        for taken_name in node.inputs:
            if taken_name in self.places:
                self.used.setdefault(self.made[taken_name], set()).add(self.places[taken_name])
        if self._is_of_groups(node, taken) or self._is_handed_on(node, taken):
            self.shifted |= {taken[0]} if node.op in SHIFTS else set()
            self.made[node.output] = taken[0]
            self.origins[node.output] = self.origins[values[0]]
            return
        pattern = self._pattern(node, tuple(self.origins[value] for value in values))
        if pattern is not None:
            self._replace(node, pattern)
            return
        name, spec = self.named.get(id(node), (node.name or node.output, None))
        # The other inputs of a layer with weights are initial states, lengths, or what its weights were computed
        # from: it is not applied to them.
        if node.op in RECURRENT or (spec is not None and node.op != "Gather"):
            taken, values = taken[:1], values[:1]
        name = self._count_call(name) if spec is not None and name in self.nodes else self._new(node, name, taken)
        self.shifted |= {name} if node.inputs[2:] and is_product(node) else set()
        self.made |= {output: name for output in node.outputs if output}
        calls = self.arguments.setdefault(name, [])
        self.origins |= {output: NodeOutput(name, len(calls), i) for i, output in enumerate(node.outputs) if output}
        calls.append(tuple(self.origins[value] for value in values))
        if node.op in RECURRENT:
            self.places |= {output: place for place, output in enumerate(node.outputs) if output}

    def _pattern(self, node: GraphNode, taken: tuple[NodeOutput, ...]) -> OperatorPattern | None:
        """Return what the node computes together with others before it, if they are not needed for anything else."""
        if id(node) in self.named:
            return None
        before = self.nodes[taken[0].node] if len(taken) == 1 else None
        weights = [self.constants[name] for name in node.inputs if name in self.constants]
        if node.op == "Mul" and before is not None and before.layer_class in _SCALED and len(weights) == 1:
            if "kernel" in before.settings:
                return None
            told = {"kernel": weights[0].shape, "epsilon": before.settings.get("epsilon"), "layer": weights[0].layer}
            origin = self.arguments[before.name][taken[0].call][0]
            return self._alone(OperatorPattern(before.layer_class, origin, (before.name,), told))
        found = PatternReader(self.nodes, self.arguments).find(node.op, taken)
        return self._alone(found) if found is not None else None

    def _alone(self, pattern: OperatorPattern) -> OperatorPattern | None:
        """Return a pattern if what it consists of feeds nothing else."""
        inside = set(pattern.nodes)
        outside = [f for name in inside for f in self.followers.get(name, ()) if f not in inside]
        return None if outside or pattern.origin.node in inside else pattern

    def _replace(self, node: GraphNode, pattern: OperatorPattern) -> None:
        """Put one node in the place of those of a pattern."""
        before = pattern.origin.node
        for name in pattern.nodes:
            del self.nodes[name], self.arguments[name]
            self.followers.pop(name, None)
        self.followers[before] = [n for n in self.followers.get(before, ()) if n in self.nodes]
        settings = {**pattern.settings}
        name = settings.pop("layer", "") or node.name or node.output
        while name in self.nodes:
            name = f"{name}'"
        ranks = dict.fromkeys(("rank", "rank_before"), self.nodes[before].settings.get("rank"))
        self.nodes[name] = Node(name, pattern.kind, settings | ranks, (before,))
        self.followers[before].append(name)
        self.arguments[name] = [(pattern.origin,)]
        self.made[node.output] = name
        self.origins[node.output] = NodeOutput(name)

    def _count_call(self, name: str) -> str:
        known = self.nodes[name]
        self.nodes[name] = replace(known, calls=known.calls + 1)
        return name

    def _new(self, node: GraphNode, name: str, taken: Sequence[str]) -> str:
        while name in self.nodes:
            name = f"{name}'"
        self.nodes[name] = self._node(node, name, taken, self.named.get(id(node), ("", None))[1])
        for other in dict.fromkeys(taken):
            self.followers.setdefault(other, []).append(name)
        return name

    def _is_handed_on(self, node: GraphNode, taken: Sequence[str]) -> bool:
        """Tell whether a node gives what goes into it, or what with its bias is the product before it."""
        if node.op in _HANDS_ON:
            return True
        before = self.nodes[taken[0]]
        if node.op == "Mul" and before.layer_class == "Gelu" and len(taken) == 1:  # the half in x * 0.5 * (1 + erf(x))
            return any(self.numbers.get(name) == (0.5,) for name in node.inputs)
        has_bias = before.settings.get("is_product") or (before.layer_class in _SCALED and "kernel" in before.settings)
        is_bias = node.op in SHIFTS and len(taken) == 1 and has_bias
        is_bias = is_bias and (node.op == "Add" or node.input in self.made)  # a bias less the product is no bias
        addend = next((n for n in node.inputs if n in self.constants), None)
        # Only if nothing takes the product without its bias; what is added to both is another operation.
        if not is_bias or addend is None or self.followers.get(taken[0]) or taken[0] in self.shifted:
            return False
        kernel = before.settings.get("kernel", ())  # a bias has a number for each channel
        return len(self.numbers.get(addend, ())) != 1 or not kernel or 1 in kernel

    def _is_of_groups(self, node: GraphNode, taken: Sequence[str]) -> bool:
        """Tell whether a node is part of a normalization of groups, and nothing else takes what is before that part."""
        norm = self.nodes[taken[0]]
        if norm.layer_class != "InstanceNormalization" or len(taken) > 1 or self.followers.get(norm.name):
            return False
        if not self.groups.is_part(node):
            return False
        if node.op == "Reshape" and norm.inputs:  # what it gives has the axes of what was put into groups
            before = self.nodes[norm.inputs[0]].settings.get("rank_before")
            self.nodes[norm.name] = replace(norm, settings={**norm.settings, "rank": before})
        return True

    def _node(self, node: GraphNode, name: str, taken: Sequence[str], spec: WeightSpec | None) -> Node:
        settings: dict[str, Any] = {k: v for k, v in node.attributes.items() if k not in _NOTED}
        before = self.nodes[taken[0]]
        settings["rank"] = before.settings.get("rank")
        settings |= {"kernel": spec.shape, "follows": before.layer_class} if spec else {}
        settings |= {"is_product": True} if is_product(node) else {}
        # Of two operands of arithmetic the number may be the first.
        others = node.inputs[1:]
        if node.op in _ARITHMETIC and len(node.inputs) == 2 and len(taken) == 1 and node.inputs[0] not in self.made:
            others = node.inputs[:1]
            settings["number_first"] = True
        given = [self.numbers.get(n) if n in self.numbers else None for n in others]
        settings |= {"operands": tuple(given)} if given else {}
        if node.op in _ARITHMETIC and len(others) == 1 and others[0] in self.constants:
            settings["tensor"] = self.constants[others[0]].name if others[0] in self.operands else None
        if node.op == "Einsum" and spec is not None:
            settings["equation"] = find_equation(node, int(node.inputs[0] in self.made))
        if node.op in RECURRENT:
            settings["peepholes"] = len(node.inputs) > 7 and bool(node.inputs[7])
            settings |= {"lengths": True} if self._tells_lengths(node, before) else {}
        kind, inputs = node.op, tuple(taken)
        settings["rank_before"] = settings["rank"]
        settings["rank"] = _rank(node, settings, spec)
        if node.op in ("Gather", "Slice", "Squeeze", "Transpose", "Reshape"):
            is_first = before.layer_class in RECURRENT
            settings["behind"] = before.layer_class if is_first else before.settings.get("behind") or before.layer_class
            way = before.settings.get("direction", "forward") if is_first else before.settings.get("way")
            settings |= {"way": way} if way is not None else {}
        if "Pool" in node.op:
            settings["behind"] = None
        # Of what the graph computes, such as the half of a size, only the name tells that two are one number.
        settings |= {"bounds": tuple(node.inputs[1:3])} if node.op == "Slice" and len(node.inputs) > 2 else {}
        return Node(name, kind, settings, inputs)

    def _tells_lengths(self, node: GraphNode, before: Node) -> bool:
        """Tell whether a recurrent operator ends some sequences earlier than others, or before their last step.

        Converters may write the number of all steps there, for each sample.
        """
        name = node.inputs[_LENGTHS] if len(node.inputs) > _LENGTHS else ""
        if name in self.made:
            return True
        lengths = {*self.numbers.get(name, ())}
        shape = before.settings.get("batch_shape") or ()
        return len(lengths) > 1 or (bool(lengths) and None not in shape and bool(shape) and not lengths & {*shape})

    def with_followers(self, node: Node) -> Node:
        """Return a node with the operator behind it, and with which of its outputs are used."""
        kinds = [self.nodes[n].layer_class for n in self.followers.get(node.name, ()) if n in self.nodes]
        more: dict[str, Any] = {"followed_by": kinds[0]} if len(kinds) == 1 else {}
        if node.layer_class in RECURRENT and (all_of_them := self._gives_all(node)) is not None:
            more["return_sequences"] = all_of_them
        return replace(node, settings={**node.settings, **more}) if more else node

    def _gives_all(self, node: Node) -> bool | None:
        """Return whether all outputs of a recurrent operator are used, or the last alone; None if that is not clear."""
        used = self.used.get(node.name, set())
        # The outputs of the operator: 0 is every step's, 1 the last state, 2 that of an LSTM's cell.
        if used in ({1}, {2}):
            return False
        name = node.name
        for _ in range(_MOST_BEHIND):
            behind = [self.nodes[n] for n in self.followers.get(name, ()) if n in self.nodes]
            if used != {0} or len(behind) != 1:
                return None
            if behind[0].layer_class in ("Gather", "Slice"):
                place = _place(behind[0])
                # Run backwards, the last place is that of the first step, which was computed last.
                one_way = node.settings.get("direction", "forward") == "forward"
                return None if place is None else not (place == -1 and one_way)
            if behind[0].layer_class not in ("Squeeze", "Transpose", "Reshape"):
                return True
            name = behind[0].name
        return None


def _place(node: Node) -> int | None:
    """Return the one place that a Gather takes; None where it takes several, or does not say which."""
    operands = node.settings.get("operands", ())
    known = operands[0] if node.layer_class == "Gather" and operands else None
    return int(known[0]) if known is not None and len(known) == 1 else None


def _rank(node: GraphNode, settings: Mapping[str, Any], spec: WeightSpec | None) -> int | None:
    """Return how many axes the output of a node has, None if that is not known."""
    before, operands = settings.get("rank"), settings.get("operands", ())
    if node.op in ("Conv", "ConvTranspose") and spec is not None:
        return len(spec.shape)
    if node.op in ("Gemm", "Flatten"):
        return 2
    if node.op == "Reshape":
        target = operands[0] if operands and operands[0] is not None else settings.get("shape")
        return len(target) if isinstance(target, tuple) else None
    if node.op in RECURRENT:
        return 4  # steps, directions, samples, units: Y of https://onnx.ai/onnx/operators/onnx__LSTM.html
    if node.op in ("Squeeze", "Unsqueeze") and before is not None:
        axes = operands[0] if operands and operands[0] is not None else settings.get("axes")
        sign = 1 if node.op == "Unsqueeze" else -1
        return before + sign * len(axes) if isinstance(axes, tuple) else None
    if node.op.startswith("Reduce") and before is not None and not settings.get("keepdims", 1):
        axes = operands[0] if operands and operands[0] is not None else settings.get("axes")
        return before - len(axes) if isinstance(axes, tuple) else None
    if node.op == "Gather":
        return None
    return before
