"""The nodes of an ONNX graph as a `Network`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transferpipe.weights.formats.onnx.graph import GraphNode
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spec import WeightSpec

_WEIGHTED = (
    *("MatMul", "Gemm", "Conv", "ConvTranspose", "BatchNormalization", "LayerNormalization", "InstanceNormalization"),
    *("GroupNormalization", "PRelu", "LSTM", "GRU", "RNN"),
)


def network_of(nodes: Sequence[GraphNode], initialisers: Mapping[str, WeightSpec]) -> Network:
    """Return the nodes that take weights, called as the weights' layers are, with their attributes.

    Beside these the settings tell the shape of the ``kernel``, the operator that it ``follows``, and the one that the
    output is ``followed_by`` if that is the only one. They are not connected: what lies between them is arranged
    otherwise than in Keras.
    """
    takers: dict[str, list[GraphNode]] = {}
    makers = {name: node.op for node in nodes for name in node.outputs}
    for node in nodes:
        for name in node.inputs:
            takers.setdefault(name, []).append(node)
    found: dict[str, list[Node]] = {}
    for node in nodes:
        spec = initialisers.get(node.inputs[1]) if node.op in _WEIGHTED and len(node.inputs) > 1 else None
        if spec is not None and spec.layer:
            after = _follower(node, takers, initialisers)
            settings = {**node.attributes, "kernel": spec.shape, **({"followed_by": after} if after else {})}
            before = makers.get(node.inputs[0])
            settings |= {"follows": before} if before else {}
            found.setdefault(spec.layer, []).append(Node(spec.layer, node.op, settings))
    return Network(tuple(ns[0] for ns in found.values() if len(ns) == 1), framework="onnx")


def _follower(node: GraphNode, takers: Mapping[str, list[GraphNode]], initialisers: Mapping[str, Any]) -> str | None:
    """Return the operator that alone takes what a node gives, behind the addition of its bias."""
    after = takers.get(node.outputs[0], []) if node.outputs else []
    if len(after) == 1 and after[0].op == "Add" and any(name in initialisers for name in after[0].inputs):
        after = takers.get(after[0].outputs[0], []) if after[0].outputs else []
    return after[0].op if len(after) == 1 else None
