"""What several operators of a graph compute together: exporters write GELU, or a normalization, as a handful of nodes.

The ways in which torch's exporter writes them stand in ``torch/onnx/symbolic_opset*.py`` of PyTorch: ``gelu``,
``layer_norm``, ``linalg_vector_norm``, ``log_sigmoid``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transferpipe.weights.network import Node, NodeOutput

# The largest pattern has a dozen nodes.
_MOST_NODES = 16
Taken = tuple[NodeOutput, ...]


@dataclass(frozen=True)
class OperatorPattern:
    """What some nodes compute together.

    Attributes:
        kind: the operator that computes the same.
        origin: the value that it is computed of.
        nodes: the names of the nodes that are not needed beside it.
        settings: what that operator would have as attributes.
    """

    kind: str
    origin: NodeOutput
    nodes: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PatternReader:
    """Reads patterns in what is known of a graph so far.

    Attributes:
        nodes: the nodes.
        arguments: what each call of a node takes.
    """

    nodes: Mapping[str, Node]
    arguments: Mapping[str, Sequence[Taken]]

    def find(self, op: str, taken: Taken) -> OperatorPattern | None:
        """Return what a node with the operator `op` computes together with those before it."""
        if op == "Log" and len(taken) == 1:
            return self._log_of_sigmoid(taken[0])
        if len(taken) != 2 or op not in ("Mul", "Div", "Sub"):
            return None
        orders = (taken, taken[::-1]) if op == "Mul" else (taken,)
        for one, other in orders:
            for base in self._bases(one):
                inside = self._between(base, other)
                found = self._of(op, base, one, inside) if inside else None
                if found is not None:
                    return found
        return None

    def _log_of_sigmoid(self, one: NodeOutput) -> OperatorPattern | None:
        node, taken = self.nodes[one.node], self._take_single(one)
        is_sigmoid = node.layer_class == "Sigmoid" and node.calls == 1 and len(taken) == 1
        return OperatorPattern("LogSigmoid", taken[0], (one.node,)) if is_sigmoid else None

    def _bases(self, one: NodeOutput) -> list[NodeOutput]:
        """Return a value, and what it is the half of, or what its mean was taken out of."""
        node, taken = self.nodes[one.node], self._take_single(one)
        is_half = node.layer_class == "Mul" and len(taken) == 1 and _number(node) == _HALF
        is_centred = node.layer_class == "Sub" and len(taken) == 2
        return [one, taken[0]] if is_half or is_centred else [one]

    def _take_single(self, origin: NodeOutput) -> Taken:
        calls = self.arguments.get(origin.node, ())
        return calls[origin.call] if origin.call < len(calls) else ()

    def _between(self, base: NodeOutput, last: NodeOutput) -> list[str]:
        """Return the nodes that compute `last` of `base` alone, the last first; none if it depends on anything else."""
        found: list[str] = []
        waiting = [last]
        while waiting:
            here = waiting.pop()
            if here == base or here.node in found:
                continue
            node, taken = self.nodes.get(here.node), self._take_single(here)
            if node is None or not taken or "kernel" in node.settings or node.calls > 1 or len(found) >= _MOST_NODES:
                return []
            found.append(here.node)
            waiting += taken
        return found

    def _of(self, op: str, base: NodeOutput, one: NodeOutput, inside: Sequence[str]) -> OperatorPattern | None:
        nodes = [self.nodes[name] for name in inside]
        kinds = [node.layer_class for node in nodes]
        used = tuple(dict.fromkeys([*inside, *([one.node] if one != base else [])]))
        if op == "Mul":
            if kinds in (["Sigmoid"], ["HardSigmoid"], ["Tanh", "Softplus"]):
                return OperatorPattern(
                    {"Sigmoid": "Swish", "HardSigmoid": "HardSwish"}.get(kinds[0], "Mish"), base, used
                )
            if "Erf" in kinds or ("Tanh" in kinds and {"Pow", "Mul"} & set(kinds)):
                return OperatorPattern("Gelu", base, used, {"approximate": "none" if "Erf" in kinds else "tanh"})
            if {"ReduceMean", "Sqrt"} <= set(kinds) and one == base:
                return OperatorPattern("RMSNormalization", base, used, _epsilon(nodes))
            return None
        if op == "Sub":
            return OperatorPattern("TanhShrink", base, used) if kinds == ["Tanh"] and one == base else None
        if kinds == ["Add", "Abs"] and one == base and _number(nodes[0]) == 1:
            return OperatorPattern("Softsign", base, used)
        if {"ReduceMean", "Sqrt"} <= set(kinds) and one != base:
            return OperatorPattern("LayerNormalization", base, used, _epsilon(nodes))
        return OperatorPattern("LpNormalization", base, used) if "ReduceL2" in kinds and one == base else None


_HALF = 0.5


def _number(node: Node) -> float | None:
    """Return the one number that an operator computes with."""
    given = [o for o in node.settings.get("operands", ()) if o is not None]
    return given[0][0] if len(given) == 1 and len(given[0]) == 1 else None


def _epsilon(nodes: Sequence[Node]) -> dict[str, Any]:
    """Return the number that is added before the root is taken."""
    added = [number for node in nodes if node.layer_class == "Add" and (number := _number(node)) is not None]
    return {"epsilon": added[0]} if len(added) == 1 else {}
