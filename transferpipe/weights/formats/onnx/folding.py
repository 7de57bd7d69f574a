"""Small tensors that a graph computes of others that are known, such as how much a Pad adds.

torch's exporter writes those amounts as a handful of nodes: it has them for the last axis first, and ONNX wants them
for the first one first (``_prepare_onnx_paddings`` in ``torch/onnx/symbolic_opset11.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.weights.formats.onnx.graph import GraphNode

Array = NDArray[Any]
# Shapes, axes and amounts are short.
_MOST = 64


def fold_numbers(
    nodes: Iterable[GraphNode], known: Mapping[str, Array], filling: Callable[[GraphNode], float]
) -> dict[str, Array]:
    """Return the tensors that nodes compute of `known` ones alone, as far as that can be said of them.

    Args:
        nodes: the nodes in the order in which they compute.
        known: the tensors whose values are known.
        filling: tells with what a ConstantOfShape fills.
    """
    found: dict[str, Array] = {}
    for node in nodes:
        compute = partial(_fill, filling=filling) if node.op == "ConstantOfShape" else _OPERATORS.get(node.op)
        inputs = [found.get(name, known.get(name)) for name in node.inputs if name]
        if compute is None or not inputs or any(value is None for value in inputs):
            continue
        try:
            value = compute(node, [value for value in inputs if value is not None])
        except (ValueError, TypeError, IndexError, KeyError, OverflowError):  # a node may ask for what is not there
            continue
        if value is not None and value.size <= _MOST:
            found[node.output] = value
    return found


def _fill(node: GraphNode, inputs: Sequence[Array], filling: Callable[[GraphNode], float]) -> Array | None:
    shape = [int(n) for n in inputs[0].reshape(-1)]
    return np.full(shape, filling(node)) if 0 <= math.prod(shape) <= _MOST else None


def _reshape(node: GraphNode, inputs: Sequence[Array]) -> Array:
    return inputs[0].reshape([int(n) for n in inputs[1].reshape(-1)])


def _slice(node: GraphNode, inputs: Sequence[Array]) -> Array:
    value, starts, ends, *rest = inputs
    axes = rest[0].reshape(-1) if rest else np.arange(starts.size)
    steps = rest[1].reshape(-1) if len(rest) > 1 else np.ones(starts.size, np.int64)
    for axis, start, end, step in zip(axes, starts.reshape(-1), ends.reshape(-1), steps, strict=True):
        size, step = value.shape[int(axis)], int(step)
        # Backwards to the beginning, its end is below any place: https://onnx.ai/onnx/operators/onnx__Slice.html
        last: int | None = int(end)
        last = None if step < 0 and int(end) < -size else last
        value = value[(slice(None),) * int(axis) + (slice(int(start), last, step),)]
    return value


def _concatenate(node: GraphNode, inputs: Sequence[Array]) -> Array:
    return np.concatenate(inputs, int(node.attributes["axis"]))


def _transpose(node: GraphNode, inputs: Sequence[Array]) -> Array:
    return inputs[0].transpose(node.attributes.get("perm"))


def _same(node: GraphNode, inputs: Sequence[Array]) -> Array:
    return inputs[0]


_OPERATORS: Mapping[str, Callable[[GraphNode, Sequence[Array]], Array | None]] = {
    "Reshape": _reshape,
    "Slice": _slice,
    "Concat": _concatenate,
    "Transpose": _transpose,
    "Cast": _same,
    "Identity": _same,
}
