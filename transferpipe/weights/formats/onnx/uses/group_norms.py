"""GroupNormalization in ONNX graphs, which is several nodes before version 21."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.steps import TensorStep
from transferpipe.weights.formats.onnx.uses.use import Use, Way


@dataclass
class GroupNorms:
    """GroupNormalization as torch's exporter writes it before version 21 of ONNX.

    An InstanceNormalization of the groups, which a Reshape puts together, has ones and zeros for its own weights; the
    scale and the shift of the channels are a Mul and an Add behind the Reshape back (``group_norm`` in
    ``torch/onnx/symbolic_opset9.py``).
    """

    reshaped: set[str] = field(default_factory=set)
    normed: dict[str, GraphNode] = field(default_factory=dict)
    scaled: dict[str, GraphNode] = field(default_factory=dict)

    def follow(self, node: GraphNode) -> None:
        """Note what a node gives."""
        if node.op == "InstanceNormalization" and node.input in self.reshaped:
            self.normed[node.output] = node
        elif node.op == "Reshape":
            self.reshaped.add(node.output)
            if node.input in self.normed:
                self.normed[node.output] = self.normed[node.input]
        elif node.op == "Mul" and len(node.inputs) == 2:
            before = next((self.normed[name] for name in node.inputs if name in self.normed), None)
            if before is not None:
                self.scaled[node.output] = before

    def is_part(self, node: GraphNode) -> bool:
        """Tell whether a node is the Reshape back of a normalization, or its Mul or its Add."""
        if node.op == "Reshape":
            return node.output in self.normed
        return any(self.role(node, place) for place in range(len(node.inputs)))

    def role(self, node: GraphNode, place: int) -> str:
        """Return what an input of a node is there: the scale or the shift; empty where it is neither."""
        other = node.beside(place)
        if node.op == "Mul" and other in self.normed:
            return "weight"
        return "bias" if node.op == "Add" and other in self.scaled else ""

    def use(self, node: GraphNode, place: int, role: str, way: Way) -> Use | None:
        """Return the use of a normalization's scale or shift; None where an input of a node is neither."""
        norm, (_, steps, shape) = self.instance(node, place), way
        count = math.prod(shape)
        steps = (*steps, TensorStep("reshape", (count,)))
        return Use(norm, role, None, steps, (count,)) if norm is not None else None

    def own_weights(self, node: GraphNode, place: int) -> tuple[str, ...]:
        """Return the tensors that the normalization has for itself which an input of a node scales or shifts."""
        norm = self.instance(node, place)
        return norm.inputs[1:] if norm is not None else ()

    def instance(self, node: GraphNode, place: int) -> GraphNode | None:
        """Return the normalization that an input of a node scales or shifts; None where it does neither."""
        other = node.beside(place)
        return {"weight": self.normed, "bias": self.scaled}.get(self.role(node, place), {}).get(other)


def find_ones_of_groups(nodes: Iterable[GraphNode]) -> set[str]:
    """Return the ones and zeros that the normalizations of groups have in the place of their weights."""
    groups, found = GroupNorms(), set[str]()
    for node in nodes:
        groups.follow(node)
        for place in range(len(node.inputs)):
            found.update(groups.own_weights(node, place))
    return found
