"""torch's names and axes for recurrent layers, by the class of the Keras cell.

Equations and shapes: torch.nn.LSTM, GRU and RNN at https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers.
torch keeps the gates one above the other, Keras side by side. LSTM: torch's i, f, g, o are Keras's i, f, c, o. GRU:
torch's r, z, n are Keras's z, r, h; torch's is the kind that Keras calls ``reset_after``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from transferpipe.planning.layouts.adapter import Adapted, Adapters, Back, NoCounterpartError, Shape

_TRANSPOSE = ({"transpose": [1, 0]},)
_GATES = {"take": {"axis": 0, "indices": [1, 0, 2]}}


def _gru_kernel(sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    rows, inputs = (*sources[0], 1, 1)[:2]
    return {"reshape": [3, rows // 3, inputs]}, _GATES, {"reshape": [rows, inputs]}, *_TRANSPOSE


def _gru_bias(sources: Sequence[Shape], _: Shape) -> tuple[Any, ...]:
    rows = sources[0][0] if sources[0] else 0
    take = {"take": {"axis": 1, "indices": [1, 0, 2]}}
    return {"stack": 0}, {"reshape": [2, 3, rows // 3]}, take, {"reshape": [2, rows]}


def _gru_kernel_back(target: Shape) -> tuple[Any, ...]:
    inputs, rows = target
    return *_TRANSPOSE, {"reshape": [3, rows // 3, inputs]}, _GATES, {"reshape": [rows, inputs]}


def _gru_bias_back(number: int, target: Shape) -> tuple[Any, ...]:
    if len(target) != 2:
        raise NoCounterpartError("torch's GRU is the one that Keras calls reset_after=True, with two rows of biases")
    rows = target[1]
    return {"slice": [number]}, {"reshape": [3, rows // 3]}, _GATES, {"reshape": [rows]}


def _both(names: Sequence[str], steps: Any, *back: Back) -> tuple[Adapted, ...]:
    """Return the weight as torch.nn.LSTM has it, and as torch.nn.LSTMCell does."""
    return Adapted(tuple(f"{n}_l0" for n in names), steps, back), Adapted(tuple(names), steps, back)


_BIASES = ("bias_ih", "bias_hh")
# Added to any number, -0.0 gives that number, bit for bit; 0.0 would make 0.0 of -0.0.
_NOTHING = ({"fill": -0.0},)
_SIMPLE = {
    "kernel": _both(["weight_ih"], _TRANSPOSE, _TRANSPOSE),
    "recurrent_kernel": _both(["weight_hh"], _TRANSPOSE, _TRANSPOSE),
    "bias": _both(_BIASES, ("sum",), (), _NOTHING),
}

CELLS: Adapters = {
    "LSTMCell": _SIMPLE,
    "SimpleRNNCell": _SIMPLE,
    "GRUCell": {
        "kernel": _both(["weight_ih"], _gru_kernel, _gru_kernel_back),
        "recurrent_kernel": _both(["weight_hh"], _gru_kernel, _gru_kernel_back),
        "bias": _both(_BIASES, _gru_bias, partial(_gru_bias_back, 0), partial(_gru_bias_back, 1)),
    },
}
