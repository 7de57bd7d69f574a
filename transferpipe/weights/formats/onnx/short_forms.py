"""Operators of ONNX Runtime that are short for several of ONNX, written out.

``DynamicQuantizeLSTM`` is an LSTM whose two kernels lie as whole numbers, one direction behind the other, with the
inputs before the gates: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from transferpipe.weights.formats.onnx.graph import GraphNode

_LSTM, _MICROSOFT = "DynamicQuantizeLSTM", "com.microsoft"
# The places of W and R, and of the scale of each, behind which its zero point stands. There are eight inputs of LSTM.
_KERNELS = {1: 8, 2: 10}
_INPUTS = 8
# A kernel is (directions, inputs, gates), and has one scale a direction, or one for each of its gates' numbers, which
# is a block as long as the axis of inputs. LSTM has the inputs last.
_BY_DIRECTION: Mapping[str, Any] = {"axis": 0}
_BY_GATE: Mapping[str, Any] = {"axis": 1, "block_size": 1 << 31}
_AS_LSTM = (0, 2, 1)


def write_out(nodes: Iterable[GraphNode], shapes: Mapping[str, Sequence[int]]) -> Iterator[GraphNode]:
    """Yield nodes with several in the place of each that is short for them.

    Args:
        nodes: the nodes in the order in which they compute.
        shapes: the shapes of the tensors that lie in the file, by their names.
    """
    for node in nodes:
        if (node.domain, node.op) == (_MICROSOFT, _LSTM) and len(node.inputs) > max(_KERNELS.values()):
            yield from _write_lstm(node, shapes)
        else:
            yield node


def _write_lstm(node: GraphNode, shapes: Mapping[str, Sequence[int]]) -> Iterator[GraphNode]:
    """Yield what brings the two kernels to floats and to LSTM's order of axes, and the LSTM."""
    inputs = list(node.inputs[:_INPUTS])
    for place, scale in _KERNELS.items():
        # The name of the output makes these of one node differ from those of another that takes the same kernels.
        floats, turned = (f"{node.output}/{inputs[place]}/{what}" for what in ("floats", "turned"))
        given = (inputs[place], *node.inputs[scale : scale + 2])
        levels = _BY_GATE if len(shapes.get(node.inputs[scale], ())) > 1 else _BY_DIRECTION
        yield GraphNode(f"{node.name}/{floats}", "DequantizeLinear", given, (floats,), levels)
        yield GraphNode(f"{node.name}/{turned}", "Transpose", (floats,), (turned,), {"perm": _AS_LSTM})
        inputs[place] = turned
    yield replace(node, op="LSTM", domain="", inputs=tuple(inputs))
