"""The tensors of an ONNX file that only say how nodes compute: shapes, axes, indices, limits, scales and the like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from transferpipe.weights.formats.onnx.graph import GraphNode

RECURRENT = ("LSTM", "GRU", "RNN")
FLOATS = ("float16", "bfloat16", "float32", "float64")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Concat", "Gather", "Einsum", "Pow", "Where", "Max", "Min")
_OPERANDS_FROM: Mapping[str, int] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Slice", "Pad", "Expand", "Resize", "Upsample", "Tile"), 1),
    **dict.fromkeys(("Split", "Gather", "Clip", "TopK", "Dropout", "QuantizeLinear", "DequantizeLinear", "OneHot"), 1),
    **dict.fromkeys(("GatherElements", "GatherND", "CumSum", "Trilu"), 1),
    **dict.fromkeys(("ConstantOfShape", "Range", "If"), 0),
}
"""The input from which on an operator takes what says how it computes."""
# The place of LSTM's input P in the operator's specification.
_PEEPHOLES = 7


def constants_used(nodes: Iterable[GraphNode], uses: Mapping[str, Any], tensors: Mapping[str, Any]) -> set[str]:
    """Return the names of the tensors in ``Constant`` nodes that are weights.

    These are what a node takes as a weight, and arrays of floats that some arithmetic takes. Shapes, axes, and single
    numbers are not weights.
    """
    found = {node.output for node in nodes if node.op == "Constant" and node.output in uses}
    for node in nodes:
        for name in node.inputs if node.op in _ARITHMETIC else ():
            tensor = tensors.get(name)
            if tensor is not None and tensor.dtype in FLOATS and math.prod(tensor.shape) > 1:
                found.add(name)
    return found


def initial_states_of(nodes: Iterable[GraphNode]) -> set[str]:
    """Return the names of the tensors that recurrent operators begin with."""
    return {name for node in nodes if node.op in RECURRENT for name in node.inputs[5:_PEEPHOLES] if name}


def operands_of(nodes: Iterable[GraphNode]) -> set[str]:
    """Return the names of the tensors that nodes take only as shapes, axes, indices, limits, scales and the like."""
    found: set[str] = set()
    others: set[str] = set()
    for node in nodes:
        # Behind X, W, R and B of a recurrent operator stand lengths, initial states, and the peepholes.
        first = _OPERANDS_FROM.get(node.op, 4 if node.op in RECURRENT else None)
        if node.op.startswith("Reduce"):
            first = 1
        if node.op == "Loop":  # how often, and whether at all; behind these stands what it computes with
            found.update(node.inputs[:2])
            first = None
        for place, name in enumerate(node.inputs):
            if node.op == "Loop" and place < 2:
                continue
            is_operand = first is not None and place >= first and not (node.op in RECURRENT and place == _PEEPHOLES)
            (found if is_operand else others).add(name)
    return found - others
