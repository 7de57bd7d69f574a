"""A way in which a node of an ONNX graph takes a tensor of the file."""

from __future__ import annotations

from dataclasses import dataclass

from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.formats.onnx.steps import Shape, TensorStep
from transferpipe.weights.spec import Axes

COMPUTED = "computed"
"""The kind of the step that a node does with arithmetic."""
Way = tuple[str, tuple[TensorStep, ...], Shape]
"""A tensor of the file, what was done to it, and its shape then."""


@dataclass(frozen=True)
class Use:
    """One way in which a node takes a tensor of the file.

    Attributes:
        node: the node.
        role: what it is there, such as ``weight``.
        axes: how its axes are arranged then; None where that says nothing.
        steps: what was done to it before.
        shape: its shape then.
    """

    node: GraphNode
    role: str
    axes: Axes | None
    steps: tuple[TensorStep, ...]
    shape: Shape

    @property
    def is_computed(self) -> bool:
        """Whether the node takes what the graph computes of the tensor."""
        return any(step.kind == COMPUTED for step in self.steps)
