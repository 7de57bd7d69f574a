"""What a file or a model tells of its layers beside their weights: classes, settings, connections. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

FUSED_BY_HEAD = "fused_by_head"
"""The setting of an attention whose one matrix has the query, key and value of each head together."""


@dataclass(frozen=True)
class NodeOutput:
    """Where a value comes from: which output of which call of a node."""

    node: str
    call: int = 0
    output: int = 0


@dataclass(frozen=True)
class Node:
    """One layer, or one operation between layers.

    Attributes:
        name: the layer's readable name, as weights are called by it; of a layer without weights the name that they
            would have, such as ``backbone/flatten``.
        layer_class: its class as in a catalog (``Conv2D``), or the operation of a graph (``Gemm``).
        settings: its own configuration as plain values, without the layers it holds; empty where nothing is stored.
        inputs: names of the nodes whose outputs its first call takes, in their order; a nested model does not appear
            between its layers and theirs.
        input_shapes: the shapes of these, with the batch, None for an open size; empty where they are not known.
        calls: how often it is called, as far as that is known; a layer of a nested model once for each call of that.
    """

    name: str
    layer_class: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    input_shapes: tuple[tuple[int | None, ...], ...] = ()
    calls: int = 1


@dataclass(frozen=True)
class Network:
    """The layers of a model in the order in which they compute, as far as their file or model tells.

    Attributes:
        nodes: the layers; where `connected`, each behind its inputs.
        framework: whose classes and settings these are: ``keras``, ``torch`` or ``onnx``.
        keras_version: the version of Keras that wrote them, whose defaults hold for what is not written.
        backend: the backend that Keras ran on then.
        connected: whether `Node.inputs` are known; a subclassed model's are not.
        outputs: names of the nodes whose outputs are the model's, as far as they are known.
        inputs: names of the nodes that are the model's inputs, in its order, as far as that is known.
        results: where the model's outputs come from, in its order, as far as that is known.
        arguments: what each call of a node takes; empty for a network whose nodes are called once each, with the first
            outputs of others, which `Node.inputs` tells.
    """

    nodes: tuple[Node, ...]
    framework: str = "keras"
    keras_version: str | None = None
    backend: str | None = None
    connected: bool = False
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    results: tuple[NodeOutput, ...] = ()
    arguments: Mapping[str, tuple[tuple[NodeOutput, ...], ...]] = field(default_factory=dict)

    @property
    def has_layers(self) -> bool:
        """Whether the nodes are layers of Keras, with its settings and its rules of what they hold and pass on."""
        return self.framework == "keras"

    @property
    def has_operators(self) -> bool:
        """Whether the nodes are operators of ONNX, where an activation or a turn of axes is a node of its own."""
        return self.framework == "onnx"

    def taken_by(self, name: str) -> tuple[tuple[NodeOutput, ...], ...]:
        """Return what goes into every call of a node."""
        if name in self.arguments:
            return self.arguments[name]
        return (tuple(NodeOutput(other) for other in self.by_name[name].inputs),)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by their names."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def consumers(self) -> dict[str, tuple[str, ...]]:
        """The names of the nodes that take each node's output, in their order."""
        found: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found.setdefault(name, []).append(node.name)
        return {name: tuple(names) for name, names in found.items()}
