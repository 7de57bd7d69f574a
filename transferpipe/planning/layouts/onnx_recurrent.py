"""ONNX's weights of recurrent operators, by the class of the Keras cell.

Equations and shapes: https://onnx.ai/onnx/operators/onnx__LSTM.html, ``onnx__GRU.html``, ``onnx__RNN.html``. W has
(directions, gates * units, inputs), R (directions, gates * units, units), B (directions, 2 * gates * units): the biases
of W and then those of R. ONNX keeps the gates one above the other, Keras side by side. LSTM: ONNX's i, o, f, c are
Keras's i, f, c, o. GRU: z, r, h in both; ``linear_before_reset`` is what Keras calls ``reset_after``, and only there
the biases are two rows: elsewhere Keras has their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from transferpipe.planning.layouts.adapter import Adapted, Shape

# Where each of Keras's gates stands among ONNX's.
_GATES: Mapping[str, tuple[int, ...]] = {"LSTMCell": (0, 2, 3, 1), "GRUCell": (0, 1, 2), "SimpleRNNCell": (0,)}
_NAMES = {"kernel": "W", "recurrent_kernel": "R", "bias": "B"}


# Axes of a matrix that is no operator's W or R, which have directions before them: a Scan multiplies by it.
_ALONE = 2


def onnx_cell(kind: str, own_name: str, inside: str = "", direction: int = 0) -> tuple[Adapted, ...]:
    """Return the ways in which ONNX may keep the weight `own_name` of a Keras cell; none if it has no such.

    Args:
        kind: the class of the cell.
        own_name: the weight's own name.
        inside: the layer of a Bidirectional that the cell is in, whose operator may be one of its own.
        direction: 0 for the forward layer of a Bidirectional, 1 for the backward one.
    """
    if kind not in _GATES or own_name not in _NAMES:
        return ()
    name = _NAMES[own_name]
    make = _bias if own_name == "bias" else _matrix
    names = (name, *((f"{inside}/{name}",) if inside else ()))
    return tuple(Adapted((n,), partial(make, _GATES[kind], direction)) for n in names)


def _matrix(gates: Sequence[int], direction: int, sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    if len(sources[0]) == _ALONE and len(gates) == 1:
        return ({"transpose": [1, 0]},)
    directions, rows, columns = (*sources[0], 1, 1, 1)[:3]
    # The backward layer is the second direction, or the only one of an operator of its own.
    one = {"slice": [min(direction, max(0, directions - 1))]}
    return (
        one,
        *_order_gates(gates, 0, [len(gates), rows // len(gates), columns], [rows, columns]),
        {"transpose": [1, 0]},
    )


def _bias(gates: Sequence[int], direction: int, sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    if len(sources[0]) == 1 and len(gates) == 1:
        return ()
    directions, numbers = (*sources[0], 1, 1)[:2]
    half = numbers // 2
    one = {"slice": [min(direction, max(0, directions - 1))]}
    order = _order_gates(gates, 1, [2, len(gates), half // len(gates)], [2, half]) or ({"reshape": [2, half]},)
    return (one, *order) if len(target) == 2 else (one, *order, {"sum": {"axis": 0}})


def _order_gates(gates: Sequence[int], axis: int, apart: list[int], together: list[int]) -> tuple[Any, ...]:
    if list(gates) == sorted(gates):
        return ()
    return {"reshape": apart}, {"take": {"axis": axis, "indices": list(gates)}}, {"reshape": together}
